"""Profiles: they say what their spaces are, and colours converted by our own arithmetic are what LittleCMS makes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from refgc.imaging.profiles import ProfileName, from_srgb, icc_profile
from tests.support.pictures import DISPLAY_P3, SRGB, assert_close, noise


def opened(name: ProfileName) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc_profile(name)))


def converted(pixels: np.ndarray, source: Any, target: Any) -> np.ndarray:
    """By LittleCMS."""
    picture = ImageCms.profileToProfile(
        PILImage.fromarray(pixels), source, target, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    assert picture is not None
    return np.asarray(picture)


@pytest.mark.parametrize(("name", "colorants"), [("srgb", SRGB), ("display-p3", DISPLAY_P3)])
def test_a_profile_has_the_published_colorants(name, colorants):
    profile: Any = opened(name).profile
    found = [profile.red_colorant[0], profile.green_colorant[0], profile.blue_colorant[0]]
    np.testing.assert_allclose(found, colorants, atol=3e-4)
    assert (profile.xcolor_space.strip(), profile.connection_space.strip()) == ("RGB", "XYZ")
    assert profile.profile_description in ("sRGB IEC61966-2.1", "Display P3")


def test_our_srgb_is_that_of_littlecms():
    pixels = noise(100, 100)
    np.testing.assert_array_equal(converted(pixels, opened("srgb"), ImageCms.createProfile("sRGB")), pixels)


def test_display_p3_is_what_littlecms_makes_and_comes_back():
    pixels = noise(200, 200)
    ours = from_srgb(pixels, "display-p3")
    assert_close(ours, converted(pixels, ImageCms.createProfile("sRGB"), opened("display-p3")), 1)
    assert np.abs(ours.astype(int) - pixels).mean() > 5
    # In saturated colours one level of Display P3 is several of sRGB's darkest, whoever rounds it.
    muted = 60 + noise(200, 200) // 2
    back = converted(from_srgb(muted, "display-p3"), opened("display-p3"), ImageCms.createProfile("sRGB"))
    assert_close(back, muted, 2)


def test_sixteen_bits_are_converted_as_eight_are():
    pixels = noise(300, 40)
    deep = from_srgb(pixels.astype(np.uint16) * np.uint16(257), "display-p3")
    assert deep.dtype == np.uint16
    assert_close((deep / 257).round(), from_srgb(pixels, "display-p3"), 1)


def test_grey_and_srgb_stay_as_they_are():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    np.testing.assert_array_equal(from_srgb(grey, "display-p3"), grey)
    assert from_srgb(grey, "srgb") is grey
