"""Arrays of every type become the same picture, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PILImage

from refgc.imaging.image import MARKED, open_image, open_mask
from tests.support.pictures import noise, quadrants, refusal


@pytest.mark.parametrize("shape", ["plain", "with channel"])
def test_grey_arrays(shape):
    grey = noise(20, 30, 1)
    image = open_image(grey[..., 0] if shape == "plain" else grey, name="reference")
    np.testing.assert_array_equal(image.pixels, np.repeat(grey, 3, axis=2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.float16, np.float32, np.float64])
def test_every_type_gives_the_same_picture(dtype):
    levels = quadrants()
    if np.dtype(dtype).kind == "f":
        array = (levels / 255).astype(dtype)
    else:
        array = levels.astype(dtype) * (257 if np.dtype(dtype).itemsize == 2 else 1)
    image = open_image(array, name="reference")
    np.testing.assert_array_equal(image.pixels, levels)
    assert image.pixels.dtype == np.uint8


def test_transparency_of_an_array():
    array = np.dstack([quadrants(), np.full((48, 64), 255, np.uint8)])
    assert open_image(array, name="reference").alpha is None
    array[:10, :10, 3] = 0
    image = open_image(array, name="reference")
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha.values, array[..., 3] / np.float32(255))
    assert (image.pixels[:10, :10] == 255).all()


def test_the_callers_array_stays_their_own():
    array = quadrants()
    image = open_image(array, name="reference")
    mask_array = np.ones((48, 64), np.float32)
    mask = open_mask(mask_array, size=(64, 48), name="reference mask")
    array[0, 0] = 0
    mask_array[0, 0] = 0
    np.testing.assert_array_equal(image.pixels, quadrants())
    assert mask.values[0, 0] == 1


def test_any_memory_layout():
    array = np.asfortranarray(quadrants()[::-1, ::-1][:, ::-1])
    np.testing.assert_array_equal(open_image(array, name="reference").pixels, quadrants()[::-1])


@pytest.mark.parametrize("shape", [(30,), (2, 20, 30, 3), (20, 30, 2), (3, 20, 30), (20, 30, 5), (), (0, 0, 3)])
def test_shapes_that_are_no_picture(shape):
    sentence = refusal(lambda: open_image(np.zeros(shape, np.uint8), name="reference"))
    assert "give" in sentence


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.int64, np.uint32, np.complex64, object, "U1"])
def test_types_that_are_no_picture(dtype):
    sentence = refusal(lambda: open_image(np.zeros((20, 20, 3), dtype), name="reference"))
    assert "give uint8, uint16, or floating point from 0 to 1" in sentence


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, 255.0, -0.1])
def test_floats_outside_the_range(value, recwarn):
    array = np.full((20, 20, 3), 0.5)
    array[3, 4, 1] = value
    for call in (
        lambda: open_image(array, name="reference"),
        lambda: open_mask(array, size=(20, 20), name="reference"),
    ):
        assert "scale them to 0 to 1" in refusal(call)
    assert not recwarn.list


def test_rounding_errors_of_floats_are_clipped():
    array = np.full((20, 20), 1 + 1e-6)
    array[0] = -1e-6
    pixels = open_image(array, name="reference").pixels
    assert pixels[0].max() == 0
    assert pixels[1:].min() == 255
    assert open_mask(array, size=(20, 20), name="mask").values.max() == 1


sizes = st.tuples(st.integers(16, 40), st.integers(16, 40))
channels = st.sampled_from([(), (1,), (3,), (4,)])
shapes = st.builds(lambda size, channel: size + channel, sizes, channels)
arrays = st.one_of(
    hnp.arrays(np.uint8, shapes),
    hnp.arrays(np.uint16, shapes),
    hnp.arrays(np.float32, shapes, elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.float64, shapes, elements=st.floats(0, 1)),
)


def unit(array: np.ndarray) -> np.ndarray:
    top = 1 if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    levels = array.astype(np.float64) / top
    return levels if levels.ndim == 3 else levels[..., np.newaxis]


@settings(max_examples=150, deadline=None)
@given(arrays)
def test_any_array_is_read_as_what_it_means(array):
    levels = unit(array)
    alpha = levels[..., 3:] if levels.shape[2] == 4 else np.ones((*levels.shape[:2], 1))
    if np.rint(alpha * 255).max() / 255 < MARKED:
        refusal(lambda: open_image(array, name="reference"))
        return
    image = open_image(array, name="reference")
    assert image.size == (array.shape[1], array.shape[0])
    assert image.pixels.dtype == np.uint8
    assert not image.pixels.flags.writeable
    over_white = levels[..., :3] * alpha + (1 - alpha)
    expected = np.broadcast_to(over_white * 255, image.pixels.shape)
    # Half a level for each of colour and transparency, and half for the result.
    assert np.abs(image.pixels - expected).max() <= (0.5 + 1e-3 if (alpha == 1).all() else 1.6)
    if image.alpha is None:
        assert np.rint(alpha * 255).min() == 255
    else:
        assert np.abs(image.alpha.values - alpha[..., 0]).max() <= 0.5 / 255 + 1e-6


@settings(max_examples=150, deadline=None)
@given(arrays, st.integers(1, 4))
def test_any_array_is_a_mask_in_range_or_refused(array, times):
    size = (array.shape[1] * times, array.shape[0] * times)
    marked = np.array(PILImage.fromarray(_marks(array)).resize(size, PILImage.Resampling.BILINEAR))
    if marked.max() < MARKED - 1e-6:
        assert "marks nothing" in refusal(lambda: open_mask(array, size=size, name="reference mask"))
    elif marked.max() > MARKED + 1e-6:
        mask = open_mask(array, size=size, name="reference mask")
        assert mask.size == size
        assert mask.values.dtype == np.float32
        assert mask.values.min() >= 0
        assert mask.values.max() <= 1
        np.testing.assert_allclose(mask.values, marked, atol=1e-5)


def _marks(array: np.ndarray) -> np.ndarray:
    """The documented meaning of a mask, written down a second time."""
    # In float32, as masks are kept: the smallest values of float64 are 0 there.
    levels = unit(array).astype(np.float32)
    brightness = levels[..., :3].max(axis=2)
    if array.dtype.kind == "u" and array.reshape(*array.shape[:2], -1)[..., :3].max() == 1:
        brightness = brightness * np.iinfo(array.dtype).max
    if levels.shape[2] == 4 and np.ptp(levels[..., 3]) > 0:
        alpha = levels[..., 3]
        seen = brightness[alpha > 0]
        brightness = alpha if np.ptp(seen) == 0 else brightness * alpha
    return np.asarray(brightness, np.float32)
