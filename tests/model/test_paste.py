"""The refined window in the picture again: known answers for colours, seam, borders and shares."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refgc.model.locate import Window, Windows, crop
from refgc.model.paste import FADE, GROWTH, put_back

SCALE = 4
SIZE = (160, 128)
WINDOW: Window = (30, 10, 130, 110)
# A model's shift of all colours, and what it should have done to the object's colours.
CAST = np.array([14.0, -9.0, 6.0])
TRUER = np.array([25.0, -20.0, 10.0])


def scene(size: tuple[int, int] = (SCALE * SIZE[0], SCALE * SIZE[1])) -> NDArray[np.uint8]:
    """A soft picture of `size` (width, height)."""
    coarse = np.random.default_rng(0).integers(50, 200, (9, 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def disc(centre: tuple[int, int] = (80, 60), radius: int = 25) -> NDArray[np.float32]:
    """A mask of the generated picture."""
    return np.asarray(cv2.circle(np.zeros(SIZE[::-1], np.float32), centre, radius, 1.0, -1), np.float32)


def windows_of(
    window: Window = WINDOW, mask: NDArray[np.float32] | None = None, working_size: tuple[int, int] | None = None
) -> Windows:
    """The window of the generated picture, refined at the output's own size unless told otherwise."""
    size = working_size or (SCALE * (window[2] - window[0]), SCALE * (window[3] - window[1]))
    return Windows((0, 0, 64, 64), window, None, mask, size, (64, 64), matches=0, confidence=1.0, found=True)


def enlarged(window: Window, scale: int = SCALE) -> tuple[slice, slice]:
    """The window in the output."""
    left, top, right, bottom = (scale * side for side in window)
    return slice(top, bottom), slice(left, right)


def on_object(mask: NDArray[np.float32], window: Window = WINDOW) -> NDArray[np.bool_]:
    """The mask in output pixels of the window."""
    smooth = cv2.resize(mask, (SCALE * SIZE[0], SCALE * SIZE[1]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth[enlarged(window)] >= 0.5)


def to_bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def detail(size: tuple[int, int]) -> NDArray[np.float64]:
    """Fine texture (height, width, 1) without a mean of its own."""
    noise = np.random.default_rng(1).normal(0, 22, (*size[::-1], 1))
    return np.asarray(noise - cv2.GaussianBlur(noise, (0, 0), 4)[..., None])


@pytest.mark.parametrize("mask", [None, disc()], ids=["no mask", "mask"])
def test_what_was_not_changed_stays(mask: NDArray[np.float32] | None) -> None:
    upscaled = scene()
    picture, share = put_back(upscaled, upscaled[enlarged(WINDOW)], windows_of(mask=mask), SCALE, 1.0)
    assert np.abs(picture.astype(int) - upscaled).max() <= 1
    assert share.max() == 1


@pytest.mark.parametrize("mask", [None, disc()], ids=["no mask", "mask"])
@pytest.mark.parametrize("working_size", [(1024, 1024), (256, 256)])
def test_what_was_not_changed_stays_at_another_size(
    mask: NDArray[np.float32] | None, working_size: tuple[int, int]
) -> None:
    upscaled = scene()
    refined = cv2.resize(upscaled[enlarged(WINDOW)], working_size, interpolation=cv2.INTER_CUBIC)
    picture, _ = put_back(upscaled, np.asarray(refined), windows_of(WINDOW, mask, working_size), SCALE, 1.0)
    assert np.abs(picture.astype(int) - upscaled).max() <= 1


def test_a_padded_crop_is_put_back_where_it_was() -> None:
    """A strip given to the model as a square: the mirrored rest is left out again."""
    upscaled = scene((640, 128))
    window: Window = (0, 0, 160, 32)
    refined = crop(upscaled, (0, 0, 640, 128), (640, 640))
    marks = refined.copy()
    marks[:256] = marks[384:] = 255
    windows = windows_of(window, None, (640, 640))
    picture, _ = put_back(upscaled, marks, windows, SCALE, 1.0)
    assert np.abs(picture.astype(int) - upscaled).max() <= 1


def test_a_colour_cast_is_taken_off_and_the_objects_detail_kept() -> None:
    upscaled, mask = scene(), disc()
    inside = on_object(mask)
    before = upscaled[enlarged(WINDOW)].astype(float)
    # What the model should have drawn: texture, and truer colours, on the object alone.
    right = before + inside[..., None] * (detail((400, 400)) + TRUER)
    picture, _ = put_back(upscaled, to_bytes(right + CAST), windows_of(mask=mask), SCALE, 1.0)
    error = picture[enlarged(WINDOW)] - np.clip(right, 0, 255)
    assert np.abs(error[~inside]).mean() < 0.1
    assert np.abs(error[inside].mean(axis=0)).max() < 0.5
    assert np.abs(error[inside]).mean() < 1
    ring = (cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~inside
    assert np.abs(error[ring]).mean() < 0.5


def test_a_cast_that_changes_over_the_window_is_taken_off() -> None:
    upscaled, mask = scene(), disc()
    inside = on_object(mask)
    down, across = np.mgrid[:400, :400] / 400
    cast = np.dstack([10 + 8 * across - 6 * down**2, -7 + 5 * down, 5 * np.sin(2 * across + down)])
    right = upscaled[enlarged(WINDOW)] + inside[..., None] * TRUER
    picture, _ = put_back(upscaled, to_bytes(right + cast), windows_of(mask=mask), SCALE, 1.0)
    error = picture[enlarged(WINDOW)] - np.clip(right, 0, 255)
    assert np.abs(cast[inside].mean(axis=0)).max() > 10
    assert np.abs(error[inside].mean(axis=0)).max() < 1
    assert np.abs(error[~inside]).mean() < 0.1


def test_a_cast_of_one_spot_leaves_no_step_at_the_seam() -> None:
    upscaled, mask = np.full((SCALE * SIZE[1], SCALE * SIZE[0], 3), 120, np.uint8), disc()
    spot = np.zeros((400, 400, 1))
    spot[200, 300] = 1
    spot = cv2.GaussianBlur(spot, (0, 0), 40)[..., None]
    refined = to_bytes(120 + 15 * spot / spot.max() * np.ones(3))
    picture, share = put_back(upscaled, refined, windows_of(mask=mask), SCALE, 1.0)
    seam = (share > 0) & (share < 1)
    assert (refined[seam[enlarged(WINDOW)]].astype(float) - 120).max() > 14
    assert np.abs(picture[seam].astype(float) - 120).max() <= 1


def test_a_slanting_cast_goes_on_under_an_object_at_the_border() -> None:
    window: Window = (0, 28, 100, 128)
    upscaled, mask = scene(), disc((0, 128), 50)
    slant = np.linspace(20, -20, 400)
    cast = (slant[None, :] - slant[:, None])[..., None]
    right = np.clip(upscaled[enlarged(window)], 45, 210)
    upscaled[enlarged(window)] = right
    picture, _ = put_back(upscaled, to_bytes(right + cast), windows_of(window, mask), SCALE, 1.0)
    error = picture[enlarged(window)] - right.astype(float)
    assert np.abs(cast[on_object(mask, window)].mean()) > 15
    assert np.abs(error[on_object(mask, window)]).mean() < 2


def test_the_most_of_the_surroundings_tell_the_cast() -> None:
    """White stays white under a cast that lightens; the rest tells how much that was."""
    upscaled, mask = np.full((SCALE * SIZE[1], SCALE * SIZE[0], 3), 120, np.uint8), disc()
    inside = on_object(mask)
    upscaled[enlarged(WINDOW)][:100] = 255
    refined = to_bytes(upscaled[enlarged(WINDOW)] + 50.0)
    picture, _ = put_back(upscaled, refined, windows_of(mask=mask), SCALE, 1.0)
    lower = picture[enlarged(WINDOW)][200:][inside[200:]]
    assert np.abs(lower.mean() - 120) < 4


def test_a_cast_is_taken_off_without_a_mask() -> None:
    upscaled = scene()
    middle = np.zeros((400, 400, 1))
    middle[120:280, 120:280] = 1
    right = upscaled[enlarged(WINDOW)] + middle * TRUER
    picture, share = put_back(upscaled, to_bytes(right + CAST), windows_of(), SCALE, 1.0)
    error = picture[enlarged(WINDOW)] - np.clip(right, 0, 255)
    assert np.abs(error).max() <= 2
    assert share[enlarged(WINDOW)][60:-60, 60:-60].min() == 1


def test_what_else_the_model_changed_is_no_cast() -> None:
    """A bowl beside the object that the model dropped says nothing about the object's colours."""
    upscaled, mask = scene(), disc()
    inside = on_object(mask)
    right = upscaled[enlarged(WINDOW)].astype(float)
    bowl = cv2.circle(np.zeros((400, 400)), (50, 200), 45, 1.0, -1)[..., None]
    picture, _ = put_back(upscaled, to_bytes(right + CAST + 70 * bowl), windows_of(mask=mask), SCALE, 1.0)
    error = picture[enlarged(WINDOW)] - right
    assert np.abs(error[inside].mean(axis=0)).max() < 1.5


def test_an_object_without_surroundings_keeps_its_colours() -> None:
    upscaled = scene()
    refined = to_bytes(upscaled + CAST)
    whole: Window = (0, 0, *SIZE)
    picture, share = put_back(upscaled, refined, windows_of(whole, np.ones(SIZE[::-1], np.float32)), SCALE, 1.0)
    assert share.min() == 1
    assert np.abs(picture.astype(int) - refined).max() <= 1


def steepest(picture: NDArray[np.uint8], upscaled: NDArray[np.uint8]) -> float:
    """The largest step from pixel to pixel that the picture has more than the upscale."""
    added = picture.astype(float) - upscaled
    return float(max(np.abs(np.diff(added, axis=0)).max(), np.abs(np.diff(added, axis=1)).max()))


def test_the_objects_seam_shows_no_step() -> None:
    upscaled, mask = np.full((SCALE * SIZE[1], SCALE * SIZE[0], 3), 120, np.uint8), disc(radius=32)
    inside = on_object(mask)
    # The model lightened what lies around the object too, as far as the seam reaches.
    wide = cv2.dilate(inside.astype(np.uint8), np.ones((81, 81), np.uint8))[..., None]
    refined = to_bytes(upscaled[enlarged(WINDOW)] + 40.0 * wide)
    picture, _ = put_back(upscaled, refined, windows_of(mask=mask), SCALE, 1.0)
    hard = upscaled.copy()
    hard[enlarged(WINDOW)][inside] = refined[inside]
    side = SCALE * np.sqrt(mask.sum())
    assert steepest(hard, upscaled) == 40
    # A smoothstep is one and a half times as steep as a straight fade; 1 for rounding to whole levels.
    assert steepest(picture, upscaled) <= 1.5 * 40 / (FADE * side) + 1
    assert steepest(picture, upscaled) < 8
    assert picture[enlarged(WINDOW)][inside].mean() > 140


def test_the_windows_seam_shows_no_step() -> None:
    upscaled = np.full((SCALE * SIZE[1], SCALE * SIZE[0], 3), 120, np.uint8)
    random = np.random.default_rng(2)
    stripes = 40.0 * np.repeat(random.integers(0, 2, 10) * 2 - 1, 40)[None, :, None]
    refined = to_bytes(120.0 + np.broadcast_to(stripes, (400, 400, 3)))
    picture, share = put_back(upscaled, refined, windows_of(), SCALE, 1.0)
    hard = upscaled.copy()
    hard[enlarged(WINDOW)] = refined
    rows, columns = enlarged(WINDOW)
    for seam in (rows.start, rows.stop):
        assert np.abs(np.diff(hard[seam - 1 : seam + 1, columns].astype(int), axis=0)).min() == 40
        assert np.abs(np.diff(picture[seam - 1 : seam + 1, columns].astype(int), axis=0)).max() <= 1
    assert np.abs(np.diff(share[rows, columns], axis=0)).max() < 0.1


def test_the_share_reaches_a_little_beyond_the_object_and_no_further() -> None:
    upscaled, mask = scene(), disc(radius=30)
    _, share = put_back(upscaled, upscaled[enlarged(WINDOW)], windows_of(mask=mask), SCALE, 1.0)
    inside = on_object(mask, (0, 0, *SIZE))
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    side = SCALE * np.sqrt(mask.sum())
    # 8 output pixels, two of the generated picture, at least.
    growth, fade = max(8.0, GROWTH * side), max(8.0, FADE * side)
    assert share[distance <= growth].min() == 1
    assert share[distance > growth + fade + 1].max() == 0
    assert 0.4 < share[np.abs(distance - growth - fade / 2) < 1].mean() < 0.6


def test_an_object_at_the_border_is_taken_up_to_the_border() -> None:
    window: Window = (0, 28, 100, 128)
    upscaled, mask = scene(), disc((10, 110), 30)
    inside = on_object(mask, window)
    texture = inside[..., None] * detail((400, 400))
    refined = to_bytes(upscaled[enlarged(window)] + texture + CAST)
    picture, share = put_back(upscaled, refined, windows_of(window, mask), SCALE, 1.0)
    part = share[enlarged(window)]
    assert inside[:, 0].any()
    assert inside[-1].any()
    assert part[inside].min() == 1
    error = picture[enlarged(window)] - np.clip(upscaled[enlarged(window)] + texture, 0, 255)
    assert np.abs(error[inside].mean(axis=0)).max() < 1


def test_a_window_fades_in_where_it_ends_inside_the_picture_alone() -> None:
    window: Window = (0, 28, 100, 128)
    upscaled = scene()
    _, share = put_back(upscaled, upscaled[enlarged(window)], windows_of(window), SCALE, 1.0)
    part = share[enlarged(window)]
    assert part[-1, 0] == part[200, 0] == part[-1, 200] == 1
    assert part[0].max() < 0.01
    assert part[:, -1].max() < 0.01


def test_a_whole_frame_is_taken_whole_without_its_cast() -> None:
    upscaled = scene()
    whole: Window = (0, 0, *SIZE)
    right = np.clip(upscaled + detail((640, 512)), 20, 235)
    picture, share = put_back(upscaled, to_bytes(right + CAST), windows_of(whole), SCALE, 1.0)
    assert share.min() == 1
    assert np.abs(picture - right).mean() < 1


def test_an_object_cut_by_the_window_leaves_no_edge() -> None:
    mask = np.ones(SIZE[::-1], np.float32)
    upscaled = scene()
    _, share = put_back(upscaled, upscaled[enlarged(WINDOW)], windows_of(mask=mask), SCALE, 1.0)
    assert share[enlarged(WINDOW)][[0, -1]].max() < 0.01
    assert share[enlarged(WINDOW)][:, [0, -1]].max() < 0.01
    assert share[enlarged(WINDOW)][200, 200] == 1


def test_strength_is_how_much_is_taken() -> None:
    upscaled, mask = scene(), disc()
    refined = to_bytes(255.0 - upscaled[enlarged(WINDOW)])
    windows = windows_of(mask=mask)
    none, no_share = put_back(upscaled, refined, windows, SCALE, 0.0)
    half, half_share = put_back(upscaled, refined, windows, SCALE, 0.5)
    full, full_share = put_back(upscaled, refined, windows, SCALE, 1.0)
    np.testing.assert_array_equal(none, upscaled)
    assert not no_share.any()
    np.testing.assert_allclose(half_share, full_share / 2, atol=1e-6)
    assert np.abs(half - (upscaled + full.astype(float)) / 2).max() <= 1
    assert np.abs(full.astype(int) - upscaled).max() > 30


def test_nothing_outside_the_window_is_touched_and_nothing_given_is_changed() -> None:
    upscaled = scene()
    refined = to_bytes(255.0 - upscaled[enlarged(WINDOW)])
    given_upscaled, given_refined = upscaled.copy(), refined.copy()
    picture, share = put_back(upscaled, refined, windows_of(), SCALE, 1.0)
    np.testing.assert_array_equal(upscaled, given_upscaled)
    np.testing.assert_array_equal(refined, given_refined)
    outside = np.ones(upscaled.shape[:2], bool)
    outside[enlarged(WINDOW)] = False
    np.testing.assert_array_equal(picture[outside], upscaled[outside])
    assert not share[outside].any()
    assert (picture[~outside] != upscaled[~outside]).mean() > 0.5


def test_a_large_picture_costs_no_more_than_its_result_and_the_window() -> None:
    upscaled = np.full((4096, 4096, 3), 120, np.uint8)
    refined = np.full((320, 320, 3), 140, np.uint8)
    tracemalloc.start()
    try:
        put_back(upscaled, refined, windows_of((500, 500, 600, 600), None, (320, 320)), SCALE, 1.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = upscaled.nbytes + 4 * 4096 * 4096
    assert peak < result + 20 * 2**20


@st.composite
def pastes(draw: st.DrawFn) -> tuple[tuple[int, int], int, Windows]:
    size = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    left, top = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    window = (left, top, draw(st.integers(left + 1, size[0])), draw(st.integers(top + 1, size[1])))
    working_size = 16 * draw(st.integers(1, 6)), 16 * draw(st.integers(1, 6))
    mask = None
    if draw(st.booleans()):
        mask = np.zeros(size[::-1], np.float32)
        mask[draw(st.integers(0, size[1])) : draw(st.integers(0, size[1])), : draw(st.integers(0, size[0]))] = 1
    return size, draw(st.sampled_from((1, 2, 4))), windows_of(window, mask, working_size)


@settings(max_examples=150, deadline=None)
@given(pastes(), st.floats(0, 1), st.integers(0, 3))
def test_any_window_gives_a_picture_of_the_right_size(
    paste: tuple[tuple[int, int], int, Windows], strength: float, seed: int
) -> None:
    size, scale, windows = paste
    random = np.random.default_rng(seed)
    upscaled = random.integers(0, 256, (scale * size[1], scale * size[0], 3), dtype=np.uint8)
    refined = random.integers(0, 256, (*windows.working_size[::-1], 3), dtype=np.uint8)
    with np.errstate(all="raise", under="ignore"):
        picture, share = put_back(upscaled, refined, windows, scale, strength)
    assert picture.shape == upscaled.shape
    assert picture.dtype == np.uint8
    assert share.shape == upscaled.shape[:2]
    assert share.dtype == np.float32
    assert np.isfinite(share).all()
    assert share.min() >= 0
    assert share.max() <= np.float32(strength) + 1e-6
    inside = np.zeros(upscaled.shape[:2], bool)
    inside[enlarged(windows.generated_window, scale)] = True
    np.testing.assert_array_equal(picture[~inside], upscaled[~inside])
