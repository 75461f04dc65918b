"""Which windows of the two pictures the model is given: known pictures, marked, found or not, and any sizes."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgc.imaging.image import Image, Mask
from refgc.model.locate import KONTEXT_SIZES, MAX_ENLARGEMENT, Windows, content_area, crop, locate
from refgc.request import RefineRequest
from tests.support.correspondence_pairs import PAIR, PRODUCT_PHOTO
from tests.support.pictures import refusal


def rectangle(size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A mask of a picture of `size` (width, height)."""
    mask = np.zeros(size[::-1], np.float32)
    mask[top:bottom, left:right] = 1.0
    return mask


def flat(size: tuple[int, int]) -> np.ndarray:
    """A picture of `size` (width, height) in which nothing can be found."""
    return np.full((*size[::-1], 3), 120, np.uint8)


def marked(size: tuple[int, int], mask: np.ndarray | None, reference_size: tuple[int, int] = (64, 64)) -> RefineRequest:
    """A flat picture of `size` with its object marked, and a flat reference all of which is the object."""
    reference_mask = None if mask is None else Mask(np.ones(reference_size[::-1], np.float32))
    return RefineRequest(
        Image(flat(reference_size)),
        Image(flat(size)),
        reference_mask=reference_mask,
        generated_mask=None if mask is None else Mask(mask),
    )


def known(mask: np.ndarray | None) -> np.ndarray:
    assert mask is not None
    return mask


def overlap(mask: np.ndarray | None, truth: np.ndarray) -> float:
    """Intersection over union."""
    found = known(mask) > 0.5
    return float((truth & found).sum() / (truth | found).sum())


def sides(window: tuple[int, int, int, int]) -> tuple[int, int]:
    return window[2] - window[0], window[3] - window[1]


def stretch(windows: Windows) -> float:
    """How much more the generated window is enlarged along one axis than along the other, padding left out."""
    width, height = sides(windows.generated_window)
    area = content_area(windows.generated_window, windows.working_size).size
    across, down = area[0] / width, area[1] / height
    return max(across, down) / min(across, down) - 1


def test_the_sizes_are_those_of_diffusers() -> None:
    kontext = pytest.importorskip("diffusers.pipelines.flux.pipeline_flux_kontext")
    assert set(KONTEXT_SIZES) == set(kontext.PREFERRED_KONTEXT_RESOLUTIONS)


def test_locating_and_pasting_need_no_torch() -> None:
    code = "import sys, refgc.model.locate, refgc.model.paste; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_marked_objects_are_framed_with_a_margin_and_without_a_search() -> None:
    reference_mask = rectangle((1000, 1000), 100, 200, 500, 600)
    generated_mask = rectangle((600, 400), 200, 100, 360, 260)
    reference, generated = Image(flat((1000, 1000))), Image(flat((600, 400)))
    windows = locate(
        RefineRequest(reference, generated, reference_mask=Mask(reference_mask), generated_mask=Mask(generated_mask))
    )
    assert windows.generated_mask is generated_mask
    assert windows.reference_mask is reference_mask
    assert (windows.found, windows.matches, windows.confidence) == (True, 0, 1.0)
    # 160 pixels and on each side 15% of them and 8 more.
    assert windows.generated_window == (168, 68, 392, 292)
    assert windows.reference_window == (32, 132, 568, 668)
    assert windows.working_size == windows.reference_size == (1024, 1024)


def test_a_long_object_is_given_a_long_window() -> None:
    windows = locate(marked((900, 900), rectangle((900, 900), 100, 400, 700, 500)))
    assert windows.working_size == (1568, 672)
    width, height = sides(windows.generated_window)
    assert width / height == pytest.approx(1568 / 672, rel=0.005)
    left, top, right, bottom = windows.generated_window
    assert (left, right) == (2, 798)
    assert top + bottom == pytest.approx(900, abs=1)


def test_a_window_moves_inside_where_its_object_touches_the_border() -> None:
    windows = locate(marked((600, 600), rectangle((600, 600), 0, 540, 200, 600)))
    left, top, _, bottom = windows.generated_window
    assert (left, bottom) == (0, 600)
    assert top <= 540 - 0.15 * 200
    assert stretch(windows) < 0.01


def test_a_tiny_object_is_shown_with_its_surroundings() -> None:
    windows = locate(marked((2000, 1500), rectangle((2000, 1500), 1000, 700, 1006, 706)))
    width, height = sides(windows.generated_window)
    assert windows.working_size == (1024, 1024)
    assert (width, height) == (1024 / MAX_ENLARGEMENT, 1024 / MAX_ENLARGEMENT)
    left, top, right, bottom = windows.generated_window
    assert abs((left + right) / 2 - 1003) <= 1
    assert abs((top + bottom) / 2 - 703) <= 1


def test_an_object_that_fills_the_frame_takes_the_frame() -> None:
    windows = locate(marked((1248, 832), np.ones((832, 1248), np.float32)))
    assert windows.generated_window == (0, 0, 1248, 832)
    assert windows.working_size == (1248, 832)


def test_a_small_object_in_a_strip_needs_no_padding() -> None:
    windows = locate(marked((1000, 100), rectangle((1000, 100), 400, 15, 470, 85)))
    assert sides(windows.generated_window) == (117, 100)
    assert content_area(windows.generated_window, windows.working_size).size == windows.working_size


@pytest.mark.parametrize("size", [(1000, 100), (100, 1000), (1920, 1080), (160, 16)])
def test_no_whole_frame_is_distorted(size: tuple[int, int]) -> None:
    windows = locate(marked(size, None), whole=True)
    assert windows.generated_window == (0, 0, *size)
    across, down = size[0] / size[1], windows.working_size[0] / windows.working_size[1]
    assert (across > 1) == (down > 1)
    assert stretch(windows) < 0.01


def test_a_circle_in_a_strip_stays_round() -> None:
    picture = np.full((100, 1000, 3), 40, np.uint8)
    cv2.circle(picture, (500, 50), 40, (250, 250, 250), -1)
    windows = locate(marked((1000, 100), None), whole=True)
    given = crop(picture, windows.generated_window, windows.working_size)
    area = content_area(windows.generated_window, windows.working_size)
    bright = area.of(given)[..., 0] > 145
    wide, high = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
    assert len(wide) == pytest.approx(81 * 1.568, abs=3)
    assert len(high) == pytest.approx(len(wide), abs=2)


def test_an_object_marked_in_one_picture_alone() -> None:
    mask = rectangle((300, 300), 100, 100, 160, 160)
    generated_marked = RefineRequest(Image(flat((500, 400))), Image(flat((300, 300))), generated_mask=Mask(mask))
    windows = locate(generated_marked)
    assert windows.generated_window == (66, 66, 194, 194)
    assert (windows.reference_window, windows.reference_mask) == ((0, 0, 500, 400), None)
    assert windows.found

    reference_marked = RefineRequest(Image(flat((300, 300))), Image(flat((500, 400))), reference_mask=Mask(mask))
    windows = locate(reference_marked)
    assert windows.reference_window == (66, 66, 194, 194)
    assert (windows.generated_window, windows.generated_mask) == ((0, 0, 500, 400), None)
    assert (windows.found, windows.confidence, windows.matches) == (False, 0.0, 0)


def test_a_product_photo_shows_its_object_even_where_it_cannot_be_matched() -> None:
    photo = np.full((600, 600, 3), 250, np.uint8)
    photo[200:400, 100:300] = (180, 60, 40)
    mask = rectangle((300, 300), 100, 100, 160, 160)
    windows = locate(RefineRequest(Image(photo), Image(flat((300, 300))), generated_mask=Mask(mask)))
    assert windows.reference_window == (62, 162, 338, 438)


def test_nothing_found_takes_both_frames() -> None:
    windows = locate(marked((320, 200), None, (300, 300)))
    assert windows.generated_window == (0, 0, 320, 200)
    assert windows.reference_window == (0, 0, 300, 300)
    assert windows.reference_mask is None
    assert windows.generated_mask is None
    assert not windows.found


def test_an_object_is_found_by_its_matches() -> None:
    windows = locate(RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated)))
    assert windows.found
    assert windows.matches >= 8
    assert windows.confidence > 0.5
    truth = PAIR.mask > 127
    assert overlap(windows.generated_mask, truth) > 0.9
    assert known(windows.reference_mask)[40:-40, 40:-40].mean() > 0.98
    left, top, right, bottom = windows.generated_window
    rows, columns = np.nonzero(truth)
    assert left < columns.min() < columns.max() < right - 1
    assert top < rows.min() < rows.max() < bottom - 1


def test_one_marked_reference_places_the_object_in_the_other_picture() -> None:
    mask = rectangle(PRODUCT_PHOTO.shape[1::-1], 40, 40, 360, 360)
    windows = locate(RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated), reference_mask=Mask(mask)))
    assert overlap(windows.generated_mask, PAIR.mask > 127) > 0.9
    assert windows.reference_mask is mask


def test_what_the_reference_mask_left_out_of_the_object_is_redrawn_too() -> None:
    mask = rectangle(PRODUCT_PHOTO.shape[1::-1], 40, 40, 360, 360)
    mask[100:300, 200:] = 0
    windows = locate(RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated), reference_mask=Mask(mask)))
    assert mask.sum() < 0.7 * 320**2
    assert overlap(windows.generated_mask, PAIR.mask > 127) > 0.9


def test_one_marked_generated_object_is_obeyed_and_the_reference_found() -> None:
    mask = rectangle((80, 80), 20, 20, 40, 50)
    windows = locate(RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated), generated_mask=Mask(mask)))
    assert windows.generated_mask is mask
    assert windows.matches > 0
    assert known(windows.reference_mask)[40:-40, 40:-40].mean() > 0.98


def test_one_scene_is_taken_whole() -> None:
    windows = locate(RefineRequest(Image(PAIR.truth), Image(PAIR.generated)))
    assert windows.found
    assert windows.matches > 0
    assert windows.generated_window == (0, 0, 80, 80)
    assert windows.reference_window == (0, 0, 320, 320)
    assert windows.generated_mask is None


def test_the_whole_frame_keeps_what_was_marked_and_searches_for_nothing() -> None:
    mask = rectangle((80, 80), 20, 20, 40, 50)
    windows = locate(RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated), generated_mask=Mask(mask)), whole=True)
    assert windows.generated_window == (0, 0, 80, 80)
    assert windows.reference_window == (0, 0, 400, 400)
    assert windows.generated_mask is mask
    assert (windows.reference_mask, windows.matches) == (None, 0)
    assert not locate(RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated)), whole=True).found


def test_a_size_that_is_asked_for_is_taken() -> None:
    windows = locate(marked((600, 600), rectangle((600, 600), 100, 100, 300, 300), (640, 320)), working_size=(96, 64))
    assert windows.working_size == (96, 64)
    width, height = sides(windows.generated_window)
    assert width / height == pytest.approx(1.5, rel=0.01)
    assert windows.reference_size == (112, 64)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((1000, 700), "use 992x688 or 1008x704."),
        ((1024, 700), "use 1024x688 or 1024x704."),
        ((8, 64), "use 16x64."),
        ((0, -5), "use 16x16."),
    ],
)
def test_a_size_the_model_cannot_take_is_refused(size: tuple[int, int], nearest: str) -> None:
    sentence = refusal(lambda: locate(marked((64, 64), None), working_size=size))
    assert f"{size[0]}x{size[1]}" in sentence
    assert sentence.endswith(nearest)


def test_a_crop_of_its_own_size_is_the_window_itself() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    given = crop(picture, (16, 8, 80, 56), (64, 48))
    np.testing.assert_array_equal(given, picture[8:56, 16:80])
    given[:] = 0
    assert picture[8:56, 16:80].any()


def test_a_crop_is_averaged_down_and_enlarged_smoothly() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    halves = picture.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop(picture, (0, 0, 128, 128), (64, 64)) - halves).max() <= 1
    ramp = np.broadcast_to(np.linspace(20, 230, 64)[None, :, None], (64, 64, 3)).astype(np.uint8)
    enlarged = crop(ramp, (0, 0, 64, 64), (256, 256)).astype(float)
    assert np.abs(enlarged[:, 8:-8, 0] - np.linspace(20 - 1.25, 230 + 1.25, 256)[8:-8]).max() < 2


def test_padding_is_the_mirror_image() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    given = crop(picture, (0, 0, 64, 32), (64, 64))
    np.testing.assert_array_equal(given[16:48], picture)
    np.testing.assert_array_equal(given[:16], picture[1:17][::-1])
    np.testing.assert_array_equal(given[48:], picture[15:31][::-1])


@st.composite
def marked_pictures(draw: st.DrawFn) -> tuple[tuple[int, int], np.ndarray]:
    width, height = draw(st.integers(16, 900)), draw(st.integers(16, 900))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return (width, height), rectangle((width, height), left, top, right, bottom)


@settings(max_examples=150, deadline=None)
@given(
    marked_pictures(),
    st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda size: (16 * size[0], 16 * size[1])),
)
def test_any_window_holds_its_object_inside_the_picture(
    picture: tuple[tuple[int, int], np.ndarray], working_size: tuple[int, int] | None
) -> None:
    size, mask = picture
    windows = locate(marked(size, mask), working_size=working_size)
    left, top, right, bottom = windows.generated_window
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert mask[top:bottom, left:right].sum() == mask.sum()
    assert windows.working_size == working_size or windows.working_size in KONTEXT_SIZES
    assert windows.reference_size[0] % 16 == windows.reference_size[1] % 16 == 0
    area = content_area(windows.generated_window, windows.working_size)
    # Whole pixels cannot follow an aspect ratio closer than half of one.
    assert min(area.size) == 1 or stretch(windows) <= 0.01 + 0.5 / (min(area.size) - 0.5)
    if working_size is not None:
        assert crop(flat(size), windows.generated_window, working_size).shape == (*working_size[::-1], 3)
