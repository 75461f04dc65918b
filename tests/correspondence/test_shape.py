"""Alignment of silhouettes: rotation, aspect, bend, and what simple shapes are."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from refgc.correspondence.shape import (
    EXTENT,
    SIDE,
    Shape,
    align_shapes,
    bend,
    in_frame,
    outline_distance,
    shape_of,
    simple_shapes,
)
from tests.support.figurines import DUCK, HARE, draw_figurine


def hare(**pose: Any) -> Shape:
    return shape_of(draw_figurine(HARE, size=200, **pose).mask)


def placed(other: Shape, mapping: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.remap(other.coverage, mapping, None, cv2.INTER_LINEAR) > 0.5)


def test_the_canonical_frame_takes_out_place_and_size():
    one, other = hare(), hare(scale=0.6, shift=(0.1, -0.08))
    assert np.abs(one.coverage - other.coverage).mean() < 0.01
    assert one.coverage.sum() == pytest.approx(EXTENT**2, rel=0.03)
    rows, columns = np.nonzero(one.solid)
    assert abs(rows.mean() - (SIDE - 1) / 2) < 1
    assert abs(columns.mean() - (SIDE - 1) / 2) < 1


@pytest.mark.parametrize("turn", [0.0, 25.0, 90.0, 173.0, -60.0])
def test_any_rotation_is_found(turn):
    aligned = align_shapes(hare(), hare(turn=turn))
    assert aligned.overlap > 0.93
    assert abs((aligned.turn - turn + 180) % 360 - 180) < 3
    assert aligned.anisotropy < 1.05


def test_another_aspect_is_found_and_told():
    mask = draw_figurine(HARE, size=200).mask
    wide = cv2.resize(mask.astype(np.uint8), (260, 200), interpolation=cv2.INTER_NEAREST) > 0
    aligned = align_shapes(shape_of(mask), shape_of(wide))
    assert aligned.overlap > 0.93
    assert aligned.anisotropy == pytest.approx(1.3, abs=0.06)


def test_a_mirrored_shape_is_not_aligned_by_mirroring():
    one = hare()
    aligned = align_shapes(one, one.mirrored())
    assert np.linalg.det(aligned.affine[:2, :2]) > 0
    assert aligned.overlap < 0.8


def test_the_frame_of_a_mirrored_shape_leads_to_the_picture_itself():
    drawing = draw_figurine(HARE, size=200)
    mirrored = shape_of(drawing.mask).mirrored()
    assert np.abs(in_frame(drawing.mask.astype(np.float32), mirrored.frame) - mirrored.coverage).max() < 0.01


def test_the_bend_brings_outlines_together_and_is_smooth():
    parts = (HARE[0], ((0.33, 0.44), (0.15, 0.08), 20.0), *HARE[2:])
    one, other = hare(), shape_of(draw_figurine(parts, size=200).mask)
    aligned = align_shapes(one, other)
    mapping = bend(one, other, aligned)
    before = outline_distance(one.solid, placed(other, aligned.mapping))
    after = outline_distance(one.solid, placed(other, mapping))
    assert before > 0.028
    assert after < 0.8 * before
    deviation = mapping - aligned.mapping
    # Steps below one pixel a pixel do not fold.
    assert np.abs(np.diff(deviation, axis=0)).max() < 0.9


def test_different_shapes_stay_apart():
    duck = shape_of(draw_figurine(DUCK, size=200).mask)
    assert align_shapes(hare(), duck).overlap < 0.8


def test_simple_shapes_fit_themselves():
    y, x = np.mgrid[:SIDE, :SIDE] - 63.5
    disc, box = x**2 + (1.5 * y) ** 2 < 900, (np.abs(x + 0.3 * y) < 30) & (np.abs(y - 0.3 * x) < 18)
    assert outline_distance(disc, simple_shapes(disc)[0]) < 0.03
    assert outline_distance(box, simple_shapes(box)[1]) < 0.03
    solid = hare().solid
    assert min(outline_distance(solid, shape) for shape in simple_shapes(solid)) > 0.05
