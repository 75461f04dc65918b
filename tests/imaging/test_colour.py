"""Every colour mode, profile and transparency ends as the sRGB picture that a viewer shows."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.imaging.image import Image, open_image
from tests.support.pictures import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    assert_close,
    cmyk_profile,
    encoded,
    gamma_profile,
    grey_profile,
    noise,
    png,
    quadrants,
    refusal,
    srgb_of,
)

# 2.2 as a profile's fixed-point number has it.
GAMMA = 563 / 256


def opened(content: bytes, tmp_path) -> Image:
    path = tmp_path / "picture"
    path.write_bytes(content)
    return open_image(path, name="reference")


def grey_ramp() -> np.ndarray:
    return np.tile(np.arange(256, dtype=np.uint8), (16, 1))


def stacked(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


# --- modes ----------------------------------------------------------------------------------------------------------


def test_greyscale(tmp_path):
    image = opened(encoded(PILImage.fromarray(grey_ramp()), "PNG"), tmp_path)
    np.testing.assert_array_equal(image.pixels, stacked(grey_ramp()))
    assert image.alpha is None


def test_one_bit(tmp_path):
    checks = (np.indices((20, 30)).sum(axis=0) % 2).astype(np.uint8) * 255
    image = opened(encoded(PILImage.fromarray(checks).convert("1"), "PNG"), tmp_path)
    np.testing.assert_array_equal(image.pixels, stacked(checks))


def test_palette(tmp_path):
    picture = PILImage.fromarray(quadrants()).quantize(8)
    assert picture.mode == "P"
    assert_close(opened(encoded(picture, "PNG"), tmp_path).pixels, quadrants(), 0)


def test_palette_with_one_transparent_colour(tmp_path):
    picture = PILImage.fromarray(quadrants()).quantize(8)
    hidden = picture.getpixel((0, 0))
    image = opened(encoded(picture, "PNG", transparency=hidden), tmp_path)
    expected = quadrants()
    expected[:24, :32] = 255
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha.values == 0, (expected == 255).all(axis=2))


def test_palette_with_soft_transparency(tmp_path):
    picture = PILImage.fromarray(quadrants()).quantize(8)
    levels = bytearray(b"\xff" * 8)
    levels[np.asarray(picture)[0, 0]] = 51
    image = opened(encoded(picture, "PNG", transparency=bytes(levels)), tmp_path)
    assert image.alpha is not None
    np.testing.assert_allclose(image.alpha.values[0, 0], 0.2)
    np.testing.assert_allclose(image.alpha.values[-1, -1], 1)
    np.testing.assert_allclose(image.pixels[0, 0], 255 + (quadrants()[0, 0].astype(float) - 255) * 0.2, atol=1)


def test_transparent_gif(tmp_path):
    picture = PILImage.fromarray(quadrants()).quantize(8)
    image = opened(encoded(picture, "GIF", transparency=picture.getpixel((0, 0))), tmp_path)
    assert image.alpha is not None
    assert tuple(image.pixels[0, 0]) == (255, 255, 255)
    assert image.alpha.values[0, 0] == 0
    assert image.alpha.values[-1, -1] == 1


@pytest.mark.parametrize("depth", [8, 16])
def test_one_transparent_colour_in_rgb_and_grey(depth, tmp_path):
    colours = quadrants().astype(np.uint16)
    if depth == 16:
        # What Pillow would hide if it compared the lower bits of the key, or the key clipped.
        colours[24:, :32] = 17
        colours[24:, 32:] = 255
        colours = colours * 256 + 17
    key = struct.pack(">3H", *(int(value) for value in colours[0, 0]))
    image = opened(png(colours, depth, 2, (b"tRNS", key)), tmp_path)
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha.values[:24, :32], 0)
    np.testing.assert_array_equal(image.alpha.values[:24, 32:], 1)
    np.testing.assert_array_equal(image.alpha.values[24:], 1)

    grey = colours[..., :1]
    image = opened(png(grey, depth, 0, (b"tRNS", struct.pack(">H", int(grey[0, 0, 0])))), tmp_path)
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha.values == 0, grey[..., 0] == grey[0, 0, 0])
    assert (image.pixels[image.alpha.values == 0] == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65_535, 64 * 32).round().astype(np.uint16).reshape(32, 64)
    for kind in ("PNG", "TIFF", "PPM"):
        image = opened(encoded(PILImage.fromarray(levels), kind), tmp_path)
        np.testing.assert_array_equal(image.pixels, stacked(np.rint(levels / 257).astype(np.uint8)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bit_grey_in_memory(mode):
    picture = PILImage.new(mode, (20, 20))
    picture.paste(32_896, (0, 0, 20, 20))
    assert open_image(picture, name="reference").pixels[0, 0, 0] == 128


def test_sixteen_bit_colours(tmp_path):
    levels = noise(40, 50, 3, np.uint16)
    assert_close(opened(png(levels, 16, 2), tmp_path).pixels, np.rint(levels / 257).astype(np.uint8), 1)


def test_sixteen_bit_colours_with_transparency(tmp_path):
    levels = noise(40, 50, 4, np.uint16)
    levels[..., 3] = 65_535
    assert opened(png(levels, 16, 6), tmp_path).alpha is None
    levels[:5, :5, 3] = 0
    levels[5:10, :5, 3] = 32_896
    image = opened(png(levels, 16, 6), tmp_path)
    assert image.alpha is not None
    np.testing.assert_allclose(image.alpha.values, levels[..., 3] / 65_535, atol=1 / 255)
    assert (image.pixels[:5, :5] == 255).all()


def test_float_tiff(tmp_path):
    levels = np.linspace(0, 1, 64 * 32, dtype=np.float32).reshape(32, 64)
    image = opened(encoded(PILImage.fromarray(levels), "TIFF"), tmp_path)
    np.testing.assert_array_equal(image.pixels, stacked(np.rint(levels * 255).astype(np.uint8)))
    path = tmp_path / "heights.tif"
    path.write_bytes(encoded(PILImage.fromarray(levels * 3000), "TIFF"))
    assert "scale them to 0 to 1" in refusal(lambda: open_image(path, name="reference"))


def test_thirty_two_bit_grey_is_refused(tmp_path):
    path = tmp_path / "deep.tif"
    path.write_bytes(encoded(PILImage.fromarray(np.full((20, 20), 70_000, np.int32)), "TIFF"))
    assert "save it with 8 or 16 bits per channel" in refusal(lambda: open_image(path, name="reference"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile(kind, tmp_path):
    """Adobe's inverted JPEG as well as TIFF, which is not inverted."""
    inks = np.zeros((48, 64, 4), np.uint8)
    inks[:24, :32] = (0, 255, 255, 0)
    inks[:24, 32:] = (255, 0, 255, 0)
    inks[24:, 32:] = (0, 0, 0, 255)
    content = encoded(PILImage.fromarray(inks, "CMYK"), kind, **({"quality": 98} if kind == "JPEG" else {}))
    assert (b"Adobe" in content) == (kind == "JPEG")
    expected = np.full((48, 64, 3), 255, np.uint8)
    expected[:24, :32] = (255, 0, 0)
    expected[:24, 32:] = (0, 255, 0)
    expected[24:, 32:] = 0
    assert_close(opened(content, tmp_path).pixels, expected, 8)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_with_a_profile(kind, tmp_path):
    """On the profile's press cyan ink is a mid grey, of lightness 50, which is 119 in sRGB."""
    inks = np.zeros((48, 64, 4), np.uint8)
    inks[:, :32, 0] = 255
    options = {"quality": 98} if kind == "JPEG" else {}
    content = encoded(PILImage.fromarray(inks, "CMYK"), kind, icc_profile=cmyk_profile(50), **options)
    pixels = opened(content, tmp_path).pixels
    assert_close(pixels[:, :24], np.full((48, 24, 3), 119, np.uint8), 3)
    assert_close(pixels[:, 40:], np.full((48, 24, 3), 255, np.uint8), 3)


def test_lab(tmp_path):
    """Within what 8 bits of Lab can hold."""
    lab = PILImage.fromarray(quadrants()).convert("LAB")
    assert_close(opened(encoded(lab, "TIFF"), tmp_path).pixels, quadrants(), 8)
    lab.info["transparency"] = 0
    image = open_image(lab, name="reference")
    assert_close(image.pixels, quadrants(), 8)
    assert image.alpha is None


@pytest.mark.parametrize(("mode", "tolerance"), [("YCbCr", 3), ("HSV", 6), ("RGBX", 0), ("RGB", 0), ("RGBA", 0)])
def test_other_modes_in_memory(mode, tolerance):
    image = open_image(PILImage.fromarray(quadrants()).convert(mode), name="reference")
    assert_close(image.pixels, quadrants(), tolerance)
    assert image.alpha is None


# --- transparency ---------------------------------------------------------------------------------------------------


def cut_out() -> np.ndarray:
    """Quadrants with an empty corner and a half visible one; beneath, the colour differs from white."""
    picture = np.dstack([quadrants(), np.full((48, 64), 255, np.uint8)])
    picture[:24, :32, 3] = 0
    picture[24:, 32:, 3] = 102
    return picture


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 1),
        ("TIFF", {}, 1),
        ("WEBP", {"lossless": True}, 1),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8),
    ],
)
def test_transparency_is_flattened_over_white_and_kept(kind, options, tolerance, tmp_path):
    picture = cut_out()
    image = opened(encoded(PILImage.fromarray(picture), kind, **options), tmp_path)
    alpha = picture[..., 3:] / 255
    expected = np.rint(picture[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    assert_close(image.pixels, expected, tolerance)
    assert image.alpha is not None
    assert image.alpha.size == image.size
    assert image.alpha.values.dtype == np.float32
    np.testing.assert_allclose(image.alpha.values, alpha[..., 0], atol=tolerance / 255)
    assert not image.alpha.values.flags.writeable


def test_transparency_in_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image = opened(encoded(PILImage.fromarray(cut_out()), "HEIF", quality=98, chroma=444), tmp_path)
    assert image.alpha is not None
    np.testing.assert_allclose(image.alpha.values[4:20, 4:28], 0, atol=0.03)
    np.testing.assert_allclose(image.alpha.values[28:44, 36:60], 0.4, atol=0.03)
    assert (image.pixels[4:20, 4:28] > 250).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "RGBa", "La"])
def test_modes_with_transparency(mode):
    grey = np.full((20, 30), 100, np.uint8)
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:, :10] = 0
    picture = PILImage.merge("LA", [PILImage.fromarray(grey), PILImage.fromarray(alpha)])
    picture = picture.convert("RGBA").convert(mode) if mode in ("RGBA", "RGBa", "PA") else picture.convert(mode)
    assert picture.mode == mode
    image = open_image(picture, name="reference")
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha.values, alpha / np.float32(255))
    assert (image.pixels[:, :10] == 255).all()
    assert_close(image.pixels[:, 10:], np.full((20, 20, 3), 100, np.uint8), 3)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_fully_opaque_transparency_is_none(mode, tmp_path):
    picture = PILImage.fromarray(quadrants()).convert(mode)
    assert opened(encoded(picture, "PNG"), tmp_path).alpha is None


def test_fully_transparent_is_refused():
    sentence = refusal(lambda: open_image(PILImage.new("RGBA", (20, 20), (9, 9, 9, 0)), name="reference"))
    assert sentence == "The reference is transparent everywhere; give a picture in which the object is visible."


@pytest.mark.parametrize(
    ("mode", "note"), [("P", (1, 2, 3)), ("P", 70_000), ("RGB", b"\0"), ("L", (1, 2)), ("I;16", (1, 2)), ("LA", "x")]
)
def test_a_pil_image_with_a_nonsensical_note_of_transparency(mode, note):
    picture = PILImage.new(mode, (20, 20))
    picture.info["transparency"] = note
    assert "damaged" in refusal(lambda: open_image(picture, name="reference"))


# --- profiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colorants", [DISPLAY_P3, ADOBE_RGB], ids=["Display P3", "Adobe RGB"])
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [("PNG", {}, 2), ("TIFF", {}, 2), ("WEBP", {"lossless": True}, 2), ("JPEG", {"quality": 98, "subsampling": 0}, 12)],
)
def test_wide_gamut_becomes_srgb(colorants, kind, options, tolerance, tmp_path):
    stored = quadrants()
    content = encoded(PILImage.fromarray(stored), kind, icc_profile=gamma_profile(colorants, GAMMA), **options)
    expected = srgb_of(stored, colorants, GAMMA)
    assert np.abs(expected.astype(int) - stored).max() > 20
    assert_close(opened(content, tmp_path).pixels, expected, tolerance)


def test_wide_gamut_in_avif_and_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    profile = gamma_profile(DISPLAY_P3, GAMMA)
    picture = PILImage.fromarray(quadrants())
    expected = srgb_of(quadrants(), DISPLAY_P3, GAMMA)
    for content in (
        encoded(picture, "AVIF", icc_profile=profile, quality=98, subsampling="4:4:4"),
        encoded(picture, "HEIF", icc_profile=profile, quality=98, chroma=444),
    ):
        assert_close(opened(content, tmp_path).pixels, expected, 14)


def test_wide_gamut_of_every_colour():
    picture = PILImage.fromarray(noise(64, 64))
    picture.info["icc_profile"] = gamma_profile(DISPLAY_P3, GAMMA)
    assert_close(open_image(picture, name="reference").pixels, srgb_of(noise(64, 64), DISPLAY_P3, GAMMA), 2)


def test_wide_gamut_with_transparency(tmp_path):
    picture = np.dstack([quadrants(), np.full((48, 64), 255, np.uint8)])
    picture[:24, :32, 3] = 0
    content = encoded(PILImage.fromarray(picture), "PNG", icc_profile=gamma_profile(DISPLAY_P3, GAMMA))
    image = opened(content, tmp_path)
    expected = srgb_of(quadrants(), DISPLAY_P3, GAMMA)
    expected[:24, :32] = 255
    assert_close(image.pixels, expected, 2)
    assert image.alpha is not None


def test_wide_gamut_palette(tmp_path):
    picture = PILImage.fromarray(quadrants()).quantize(8)
    content = encoded(picture, "PNG", icc_profile=gamma_profile(ADOBE_RGB, GAMMA))
    assert_close(opened(content, tmp_path).pixels, srgb_of(quadrants(), ADOBE_RGB, GAMMA), 2)


def test_grey_profile(tmp_path):
    """An old Macintosh's 1.8: the same level is brighter than in sRGB."""
    content = encoded(PILImage.fromarray(grey_ramp()), "PNG", icc_profile=grey_profile(461 / 256))
    expected = srgb_of(stacked(grey_ramp()), SRGB, 461 / 256)
    assert expected[0, 100, 0] > 115
    assert_close(opened(content, tmp_path).pixels, expected, 2)


def test_rgb_profile_on_a_grey_picture(tmp_path):
    content = encoded(PILImage.fromarray(grey_ramp()), "PNG", icc_profile=gamma_profile(ADOBE_RGB, 1))
    assert_close(opened(content, tmp_path).pixels, srgb_of(stacked(grey_ramp()), ADOBE_RGB, 1), 2)


def broken_profiles() -> dict[str, bytes]:
    sound = gamma_profile(DISPLAY_P3, GAMMA)
    return {
        "garbage": b"not a profile at all",
        "empty tables": sound[:128] + bytes(4),
        "cut off": sound[:200],
        "unprintable colour space": sound[:16] + b"\xff\x80GB" + sound[20:],
        "unknown colour space": sound[:16] + b"XXXX" + sound[20:],
        "made for grey": grey_profile(1.8),
        "made for print": cmyk_profile(50),
    }


@pytest.mark.parametrize("name", broken_profiles())
def test_a_profile_that_does_not_fit_is_ignored(name, tmp_path):
    content = encoded(PILImage.fromarray(quadrants()), "PNG", icc_profile=broken_profiles()[name])
    assert_close(opened(content, tmp_path).pixels, quadrants(), 0)


def test_an_rgb_profile_on_cmyk_is_ignored(tmp_path):
    inks = np.zeros((20, 20, 4), np.uint8)
    inks[..., 0] = 255
    content = encoded(PILImage.fromarray(inks, "CMYK"), "TIFF", icc_profile=gamma_profile(ADOBE_RGB, GAMMA))
    assert tuple(opened(content, tmp_path).pixels[0, 0]) == (0, 255, 255)


def test_the_usual_srgb_profile_changes_nothing():
    from PIL import ImageCms

    picture = PILImage.fromarray(noise(64, 64))
    picture.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(open_image(picture, name="reference").pixels, noise(64, 64))
