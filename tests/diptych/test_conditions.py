"""The conditions as the paper's figure defines them, on pictures whose answer is known, and the way back."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from refgc.diptych.conditions import (
    LEAST_AREA,
    MOST_AREA,
    Diptych,
    build,
    checked_object_mask,
    in_scene,
    open_object_mask,
    panel_size,
    right_panel,
)
from refgc.imaging.arrays import resized
from refgc.imaging.image import Image, Mask
from refgc.imaging.matting import MINIMUM_ALPHA
from tests.support.pictures import noise, refusal

RED, BLUE = np.array((200, 40, 40)), np.array((40, 60, 200))


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int], soft: float = 0.0) -> Mask:
    """1 in (left, top, right, bottom), its edges blurred by `soft` pixels."""
    values = np.zeros((size[1], size[0]), np.float32)
    values[box[1] : box[3], box[0] : box[2]] = 1
    return Mask(cv2.GaussianBlur(values, (0, 0), soft) if soft else values)


def disc_mask(size: tuple[int, int], radius: float, soft: float = 0.5) -> Mask:
    """A disc in the middle, its edge falling over two `soft` pixels."""
    y, x = np.indices((size[1], size[0]), dtype=np.float32) + 0.5
    distance = np.hypot(x - size[0] / 2, y - size[1] / 2)
    return Mask(np.clip((radius - distance) / (2 * soft) + 0.5, 0, 1).astype(np.float32))


def painted(mask: Mask, inside: np.ndarray = RED, outside: np.ndarray = BLUE) -> Image:
    """Two colours, mixed as the mask says."""
    share = mask.values[..., None].astype(np.float64)
    return Image(np.rint(share * inside + (1 - share) * outside).astype(np.uint8))


def conditions(scene: Image, scene_mask: Mask, panel: tuple[int, int], **options: Any) -> Diptych:
    """With a reference that does not matter."""
    mask = box_mask((60, 40), (20, 10, 50, 30))
    return build(painted(mask), mask, scene, scene_mask, panel=panel, **options)


def halves(condition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right panel."""
    width = condition.shape[1] // 2
    return condition[:, :width], condition[:, width:]


boxes = st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.1, 1), st.floats(0.1, 1))


@st.composite
def marked_pictures(draw: st.DrawFn) -> tuple[Image, Mask]:
    """Noise of any size with a hard or soft box on it, which may touch the border."""
    width, height = draw(st.integers(16, 150)), draw(st.integers(16, 150))
    left, top, wide, high = draw(boxes)
    x0, y0 = int(left * width), int(top * height)
    x1, y1 = min(width, x0 + max(2, int(wide * width))), min(height, y0 + max(2, int(high * height)))
    mask = box_mask((width, height), (x0, y0, x1, y1), draw(st.sampled_from([0.0, 0.7, 3.0])))
    if mask.values.max() < 0.5 or mask.values.min() >= 0.5:
        mask = box_mask((width, height), (0, 0, width // 2, height))
    return Image(noise(height, width)), mask


@settings(max_examples=40, deadline=None)
@given(marked_pictures(), marked_pictures(), st.integers(2, 9), st.integers(2, 9))
def test_what_the_figure_defines_holds_at_any_size(reference, scene, across, down):
    panel = (16 * across, 16 * down)
    diptych = build(*reference, *scene, panel=panel)
    assert diptych.picture.shape == (panel[1], 2 * panel[0], 3)
    assert diptych.mask.shape == diptych.edges.shape == (panel[1], 2 * panel[0])
    left_mask, right_mask = halves(diptych.mask)
    left_edges, right_edges = halves(diptych.edges)
    assert not left_mask.any()
    assert not left_edges.any()
    assert set(np.unique(right_edges)) <= {0, 255}
    assert (right_mask[right_edges > 0] >= 127).all()

    frame = diptych.panels.scene_target
    assert frame.size == (panel[0], frame.size[1]) or frame.size == (frame.size[0], panel[1])
    wanted = np.full((panel[1], panel[0], 3), 255, np.uint8)
    frame.of(wanted)[:] = resized(scene[0].pixels, frame.size) if frame.size != scene[0].size else scene[0].pixels
    background = halves(diptych.picture)[1]
    untouched = right_mask == 0
    np.testing.assert_array_equal(background[untouched], wanted[untouched])
    assert (background[right_mask == 255] <= 1).all()
    assert (background.astype(int) <= wanted.astype(int)).all()

    box = diptych.panels.object_target
    around = np.ones((panel[1], panel[0]), bool)
    box.of(around)[:] = False
    assert (halves(diptych.picture)[0][around] == 255).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 6000), st.integers(16, 6000))
def test_a_chosen_panel_suits_flux_and_the_scene(width, height):
    across, down = panel_size((width, height))
    assert across % 16 == down % 16 == 0
    assert LEAST_AREA <= across * down <= MOST_AREA
    scale = min(across / width, down / height)
    if 1 / 4 < width / height < 4:
        assert width * height * scale**2 > 0.97 * across * down


@pytest.mark.parametrize(
    ("scene", "panel"),
    [((1024, 1024), (512, 512)), ((300, 300), (512, 512)), ((1920, 1080), (656, 368)), ((800, 1200), (416, 624))],
)
def test_the_panel_of_usual_scenes(scene, panel):
    assert panel_size(scene) == panel


@pytest.mark.parametrize("asked", [(500, 512), (512, 500), (0, 512), (-16, 16)])
def test_a_panel_that_the_generator_cannot_draw_is_refused(asked):
    assert panel_size((700, 500), (512, 384)) == (512, 384)
    assert "multiples of 16" in refusal(lambda: panel_size((700, 500), asked))


def test_where_nothing_is_resized_the_background_stays_bit_for_bit():
    scene, mask = Image(noise(96, 128)), box_mask((128, 96), (40, 30, 90, 70))
    diptych = conditions(scene, mask, (128, 96))
    expected = scene.pixels.copy()
    expected[30:70, 40:90] = 0
    np.testing.assert_array_equal(halves(diptych.picture)[1], expected)
    np.testing.assert_array_equal(halves(diptych.mask)[1], np.rint(mask.values * 255))


def test_a_soft_edge_holds_no_other_colour():
    """Left nothing of the blue ground, right nothing of the red object."""
    mask = disc_mask((400, 400), 120, soft=4)
    diptych = build(painted(mask), mask, painted(mask), mask, panel=(160, 160))
    left, right = (half.astype(int).reshape(-1, 3) for half in halves(diptych.picture))
    share = (255 - left[:, 1]) / (255 - RED[1])
    assert ((share > 0.2) & (share < 0.8)).sum() > 50
    assert np.abs(left - (share[:, None] * RED + (1 - share[:, None]) * 255)).max() <= 4
    share = right[:, 2] / BLUE[2]
    assert ((share > 0.2) & (share < 0.8)).sum() > 50
    assert np.abs(right - share[:, None] * BLUE).max() <= 4


@pytest.mark.parametrize("panel", [(160, 96), (96, 160), (128, 128)])
def test_the_object_is_centred_padded_and_keeps_its_aspect(panel):
    mask = disc_mask((300, 200), 60)
    values = np.roll(mask.values, (30, -70), (0, 1))
    diptych = build(painted(Mask(values)), Mask(values), *marked_scene(), panel=panel, padding=0.1)
    drawn = np.asarray((halves(diptych.picture)[0] < 200).any(axis=2))
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert abs(width - height) <= 1
    assert abs(max(width, height) - 0.8 * min(panel)) <= 3
    assert abs(columns.mean() - (panel[0] - 1) / 2) <= 1
    assert abs(rows.mean() - (panel[1] - 1) / 2) <= 1
    middle = halves(diptych.picture)[0][panel[1] // 2, panel[0] // 2]
    np.testing.assert_allclose(middle, RED, atol=1)


def marked_scene() -> tuple[Image, Mask]:
    mask = box_mask((100, 80), (30, 20, 70, 60))
    return painted(mask), mask


def test_an_object_at_the_border_is_taken_whole():
    mask = box_mask((100, 100), (0, 40, 30, 100))
    diptych = build(painted(mask), mask, *marked_scene(), panel=(128, 128), padding=0)
    source, target = diptych.panels.object_source, diptych.panels.object_target
    assert (source.left, source.top, source.right, source.bottom) == (0, 40, 30, 100)
    assert target.size == (64, 128)
    left = halves(diptych.picture)[0]
    assert (left[:, 32:96] == RED).all()
    assert (left[:, :32] == 255).all()
    assert (left[:, 96:] == 255).all()


def test_faint_noise_of_a_mask_does_not_make_the_object_larger():
    values = box_mask((100, 100), (40, 40, 60, 60)).values.copy()
    values[5, 5] = MINIMUM_ALPHA / 2
    diptych = build(painted(Mask(values)), Mask(values), *marked_scene(), panel=(64, 64))
    assert diptych.panels.object_source.size == (20, 20)


def test_a_wide_scene_lies_in_the_middle_of_its_panel_on_white():
    mask = box_mask((200, 100), (80, 30, 120, 80))
    diptych = conditions(painted(mask), mask, (96, 96))
    frame = diptych.panels.scene_target
    assert (frame.left, frame.top, frame.right, frame.bottom) == (0, 24, 96, 72)
    right = halves(diptych.picture)[1]
    assert (right[:24] == 255).all()
    assert (right[72:] == 255).all()
    assert (right[24:72, :30] == BLUE).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 200), st.integers(16, 200), st.integers(1, 12), st.integers(1, 12))
def test_the_way_back_undoes_the_way_there(width, height, across, down):
    mask = box_mask((width, height), (width // 4, height // 4, width // 2 + 1, height // 2 + 1))
    scene = Image(cv2.GaussianBlur(noise(height, width), (0, 0), 2))
    diptych = conditions(scene, mask, (16 * across, 16 * down))
    panels = diptych.panels
    result = np.zeros_like(diptych.picture)
    panels.scene_target.of(result[:, panels.size[0] :])[:] = resized(scene.pixels, panels.scene_target.size)
    back = in_scene(result, panels)
    assert back.shape == scene.pixels.shape
    if panels.scene_target.size == scene.size:
        np.testing.assert_array_equal(back, scene.pixels)
    np.testing.assert_array_equal(right_panel(result, panels), resized(scene.pixels, panels.scene_target.size))


def test_the_way_back_is_not_shifted():
    """A gradient survives being made smaller and larger again, which half a pixel of shift would not let it."""
    ramp = np.repeat(np.linspace(20, 220, 400, dtype=np.float32)[None], 300, 0).astype(np.uint8)
    mask = box_mask((400, 300), (0, 0, 10, 10))
    diptych = conditions(Image(np.dstack([ramp] * 3)), mask, (160, 160))
    result = diptych.picture.copy()
    diptych.panels.scene_target.of(result[:, 160:])[:] = resized(
        np.dstack([ramp] * 3), diptych.panels.scene_target.size
    )
    back = in_scene(result, diptych.panels)
    assert np.abs(back.astype(int)[:, 10:-10] - ramp[:, 10:-10, None]).max() <= 1
    assert in_scene(result, diptych.panels, (100, 75)).shape == (75, 100, 3)


def test_the_lrgi_is_reduced_by_bicubic_interpolation():
    """As Pillow and torchvision have it: a kernel that grows with the reduction, so that nothing aliases."""
    scene = Image(noise(128, 128))
    diptych = conditions(scene, box_mask((128, 128), (8, 8, 32, 32)), (128, 128))
    result = np.concatenate([scene.pixels, scene.pixels], axis=1)
    small = in_scene(result, diptych.panels, (64, 64))
    tensor = torch.from_numpy(scene.pixels.copy()).movedim(2, 0)[None]
    expected = functional.interpolate(tensor, (64, 64), mode="bicubic", antialias=True)[0].movedim(0, 2)
    assert np.abs(small.astype(int) - expected.numpy()).max() <= 1


def edges_of(picture: np.ndarray, mask: Mask) -> np.ndarray:
    height, width = picture.shape[:2]
    return halves(conditions(Image(picture), mask, (width, height)).edges)[1] > 0


def test_no_edge_comes_from_the_cut():
    flat = np.full((96, 96, 3), 128, np.uint8)
    assert not edges_of(flat, box_mask((96, 96), (30, 30, 70, 70))).any()


def test_no_edge_comes_from_the_background():
    """A chessboard behind a flat object leaves the object's outline alone."""
    board = (np.indices((160, 160)).sum(axis=0) // 8 % 2 * 200 + 20).astype(np.uint8)
    picture = np.dstack([board] * 3)
    picture[48:112, 48:112] = 10
    edges = edges_of(picture, box_mask((160, 160), (48, 48, 112, 112)))
    assert cv2.Canny(picture, 100, 200)[:40].any()
    outline = np.zeros_like(edges)
    outline[48:112, 48:112] = True
    outline[49:111, 49:111] = False
    np.testing.assert_array_equal(edges, outline)


def test_the_edges_on_the_object_are_those_of_canny():
    picture = np.full((128, 128, 3), 60, np.uint8)
    picture[32:96, 32:96] = 120
    cv2.putText(picture, "AB", (40, 76), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (250, 250, 250), 3)
    edges = edges_of(picture, box_mask((128, 128), (32, 32, 96, 96)))
    plain = cv2.Canny(picture, 100, 200) > 0
    assert plain[38:90, 38:90].sum() > 50
    np.testing.assert_array_equal(edges[38:90, 38:90], plain[38:90, 38:90])


def test_an_object_at_the_border_has_no_edge_along_it():
    mask = box_mask((96, 96), (0, 30, 50, 96))
    edges = edges_of(painted(mask).pixels, mask)
    assert edges[30:96, 49].all()
    assert not edges[40:, 2:40].any()
    assert not edges[40:, :2].any()


def test_thresholds_decide_what_is_an_edge():
    mask = box_mask((96, 96), (30, 30, 70, 70))
    scene = painted(mask, np.array((120, 120, 120)), np.array((90, 90, 90)))
    assert not conditions(scene, mask, (96, 96)).edges.any()
    assert conditions(scene, mask, (96, 96), canny_thresholds=(20, 40)).edges.any()


def test_a_diptych_cannot_be_changed():
    scene, mask = marked_scene()
    diptych = conditions(scene, mask, (64, 64))
    for condition in (diptych.picture, diptych.mask, diptych.edges):
        with pytest.raises(ValueError, match="read-only"):
            condition[0, 0] = 1


def test_the_inputs_stay_as_they_are():
    scene, mask = marked_scene()
    before = scene.pixels.copy()
    conditions(scene, mask, (96, 80))
    np.testing.assert_array_equal(scene.pixels, before)


@pytest.mark.parametrize("name", ["reference mask", "scene mask"])
def test_masks_that_tell_nothing_apart_are_refused_by_name(name):
    for full in (np.ones((20, 30), np.float32), np.full((20, 30), 0.6, np.float32), np.full((20, 30), 255, np.uint8)):
        sentence = refusal(partial(open_object_mask, full, size=(30, 20), name=name))
        assert sentence.startswith(f"The {name} marks the whole picture;")
    for empty in (np.zeros((20, 30), np.uint8), np.full((20, 30), 0.4, np.float32)):
        sentence = refusal(partial(open_object_mask, empty, size=(30, 20), name=name))
        assert sentence.startswith(f"The {name} marks nothing;")
        sentence = refusal(lambda: checked_object_mask(Mask(np.zeros((20, 30), np.float32)), name))
        assert sentence.startswith(f"The {name} marks nothing;")
    assert "same size" in refusal(lambda: open_object_mask(noise(20, 50), size=(30, 20), name=name))


def test_a_mask_with_one_pixel_left_out_is_a_mask():
    values = np.ones((20, 30), np.float32)
    values[3, 4] = 0
    mask = open_object_mask(values, size=(30, 20), name="scene mask")
    np.testing.assert_array_equal(mask.values, values)
    assert conditions(Image(noise(20, 30)), mask, (32, 32)).mask.any()
