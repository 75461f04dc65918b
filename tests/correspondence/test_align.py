"""Alignment: the true map is reached from a homography that is a little off, for scenes and for objects."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.align import align_object, align_scene
from refgc.correspondence.coarse_map import CoarseMap
from refgc.imaging.region import Region
from refgc.imaging.warp import pixel_grid, rescale_points, warp_mask
from tests.support.synthetic import draw_card

REFERENCE = draw_card(320, 0)
WHOLE = Region(0, 0, 80, 80)


def seen_through(mapping: np.ndarray, reference: np.ndarray = REFERENCE) -> np.ndarray:
    """The generated picture (80, 80) whose true map, at four times its size, is given."""
    seen = cv2.remap(reference, mapping, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(cv2.GaussianBlur(seen, (0, 0), 1.5), (80, 80), interpolation=cv2.INTER_AREA), np.uint8)


def errors(mapping: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance in reference pixels of a map on the flow frame (160, 160) to the true one (320, 320)."""
    positions = rescale_points(pixel_grid((160, 160)), (160, 160), (320, 320))
    expected = cv2.remap(truth, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.linalg.norm(mapping - expected, axis=2))


def start(x: float = 0.0, y: float = 0.0) -> CoarseMap:
    """From the generated picture to the reference, off by so many reference pixels."""
    return CoarseMap(np.array([[4.0, 0, 1.5 + x], [0, 4.0, 1.5 + y], [0, 0, 1]]), None, (80, 80))


@pytest.mark.parametrize("off", [(3.0, -2.0), (14.0, 9.0)])
def test_a_scene_is_aligned_though_its_homography_is_off(off):
    truth = pixel_grid((320, 320))
    aligned = align_scene(seen_through(truth), REFERENCE, start(*off), WHOLE)
    inner = errors(aligned.mapping, truth)[16:-16, 16:-16]
    assert aligned.scale == pytest.approx(2.0, abs=0.05)
    assert np.median(inner) < 0.5
    assert np.percentile(inner, 95) < 1.5
    assert aligned.reliable[16:-16, 16:-16].mean() > 0.9


def test_what_lies_outside_of_the_reference_is_not_reliable():
    aligned = align_scene(seen_through(pixel_grid((320, 320)) + np.float32(60)), REFERENCE, start(60.0, 60.0), WHOLE)
    assert aligned.mapping.shape == (160, 160, 2)
    assert aligned.reliable[-25:, -25:].max() == 0


def on_other_ground(mapping: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An object of the reference in front of another background."""
    seen = cv2.remap(REFERENCE, mapping, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.remap(mask, mapping, None, cv2.INTER_LINEAR)[..., None]
    ground = cv2.resize(np.random.default_rng(3).integers(60, 200, (6, 6, 3), dtype=np.uint8), (320, 320))
    scene = np.rint(seen * alpha + ground * (1 - alpha)).astype(np.uint8)
    return np.asarray(
        cv2.resize(cv2.GaussianBlur(scene, (0, 0), 1.5), (80, 80), interpolation=cv2.INTER_AREA), np.uint8
    )


def middle_mask() -> np.ndarray:
    mask = np.zeros((320, 320), np.float32)
    mask[60:260, 60:260] = 1
    return mask


def bent(amount: float) -> np.ndarray:
    """The map to a cylinder's side that is turned a little: bent by a quadratic of so many reference pixels."""
    truth = pixel_grid((320, 320))
    x = (truth[..., 0] - 160) / 100
    truth[..., 0] += np.float32(amount) * (1 - x * x).astype(np.float32)
    return truth


@pytest.mark.parametrize("amount", [0.0, 10.0, 22.0])
def test_an_object_is_aligned_though_it_is_bent(amount):
    mask, truth = middle_mask(), bent(amount)
    aligned = align_object(on_other_ground(truth, mask), REFERENCE, start(3.0, 2.0), WHOLE, mask)
    inner = errors(aligned.mapping, truth)[40:120, 40:120]
    assert np.median(inner) < 0.7
    assert np.percentile(inner, 90) < 2.0


def test_a_strongly_bent_surface_is_followed_step_by_step():
    mask, truth = middle_mask(), bent(30.0)
    aligned = align_object(on_other_ground(truth, mask), REFERENCE, start(3.0, 2.0), WHOLE, mask)
    assert np.median(errors(aligned.mapping, truth)[40:120, 40:120]) < 0.2


def test_what_only_the_generated_picture_shows_is_not_reliable():
    generated = seen_through(pixel_grid((320, 320)))
    generated[30:50, 30:50] = draw_card(60, 9)[20:40, 20:40]
    reliable = align_scene(generated, REFERENCE, start(), WHOLE).reliable
    assert reliable[64:96, 64:96].mean() < 0.4
    assert reliable[16:50, 16:-16].mean() > 0.95


def test_an_objects_background_is_not_reliable():
    mask, truth = middle_mask(), bent(0.0)
    aligned = align_object(on_other_ground(truth, mask), REFERENCE, start(), WHOLE, mask)
    assert aligned.reliable[40:120, 40:120].mean() > 0.8
    assert aligned.reliable[:24].max() == 0


def test_flat_colour_is_not_reliable():
    reference, mask = REFERENCE.copy(), middle_mask()
    reference[130:190, 130:190] = 120
    generated = seen_through(pixel_grid((320, 320)), reference)
    reliable = align_object(generated, reference, start(), WHOLE, mask).reliable
    assert reliable[74:86, 74:86].max() == 0
    assert reliable[40:60, 40:120].mean() > 0.8


def test_another_light_does_not_disturb_the_alignment():
    mask, truth = middle_mask(), bent(6.0)
    dark = np.rint(on_other_ground(truth, mask) * np.array([0.3, 0.35, 0.45])).astype(np.uint8)
    inner = errors(align_object(dark, REFERENCE, start(3.0, 2.0), WHOLE, mask).mapping, truth)[40:120, 40:120]
    assert np.percentile(inner, 90) < 1.0


def test_a_warped_mask_ends_with_the_reference():
    mask = np.ones((40, 50), np.float32)
    mask[:, :10] = 0
    warped = warp_mask(mask, pixel_grid((50, 40)) - np.float32(15))
    assert warped[:15].max() == warped[:, :15].max() == 0
    assert warped[20, 20] == 0
    assert warped[20, 30] == 1
