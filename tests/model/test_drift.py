"""The check against drift, on the examples: a redrawing of the true picture, moved, turned, grown, or another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.imaging.arrays import Bytes, Floats
from refgc.model.drift import find_drift, undo_shift

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# All examples pass; every third is enough to see a change.
NAMES = sorted(file.parent.name for file in EXAMPLES.glob("*/hrgt_mask.png"))[::3]
# The redrawn window has this many pixels to one of the generated picture.
FINER = 4


class Window:
    """The window around an example's object: as it was generated, and as a perfect model would redraw it."""

    def __init__(self, name: str) -> None:
        folder = EXAMPLES / name
        generated = np.asarray(PILImage.open(folder / "lrgi.png").convert("RGB"))
        height, width = generated.shape[:2]
        truth = np.asarray(PILImage.open(folder / "hrgt.jpg").convert("RGB"))
        truth = cv2.resize(truth, (FINER * width, FINER * height), interpolation=cv2.INTER_AREA)
        mask = np.asarray(PILImage.open(folder / "hrgt_mask.png").convert("L")).astype(np.float32) / 255
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
        rows, columns = np.nonzero(mask > 0.5)
        space = int(0.15 * max(np.ptp(rows), np.ptp(columns))) + 8
        top, bottom = max(0, rows.min() - space), min(height, rows.max() + space)
        left, right = max(0, columns.min() - space), min(width, columns.max() + space)
        self.generated: Bytes = generated[top:bottom, left:right]
        self.mask: Floats = mask[top:bottom, left:right]
        self.truth: Bytes = truth[FINER * top : FINER * bottom, FINER * left : FINER * right]
        self.size = (self.truth.shape[1], self.truth.shape[0])
        self.middle = (FINER * (columns.mean() - left), FINER * (rows.mean() - top))

    def redrawn(self, *, turn: float = 0, grow: float = 1, shift: tuple[float, float] = (0, 0)) -> Bytes:
        """The truth with its object turned by degrees, grown, and shifted by pixels; what it uncovers is filled in."""
        motion = cv2.getRotationMatrix2D(self.middle, turn, grow)
        motion[:, 2] += shift
        opacity = cv2.resize(self.mask, self.size)
        hole = (cv2.dilate(opacity, np.ones((15, 15))) > 0.3).astype(np.uint8)
        ground = cv2.inpaint(self.truth, hole, 5, cv2.INPAINT_TELEA)
        moved = cv2.warpAffine(self.truth, motion, self.size, borderMode=cv2.BORDER_REFLECT)
        share = cv2.warpAffine(opacity, motion, self.size)[..., None]
        return np.asarray(moved * share + ground * (1 - share), np.uint8)


@pytest.fixture(scope="module", params=NAMES)
def window(request: pytest.FixtureRequest) -> Window:
    return Window(request.param)


def test_true_detail_in_place_is_kept(window: Window) -> None:
    drift = find_drift(window.truth, window.generated, window.mask)
    assert drift.verdict == "kept"
    assert drift.correlation > 0.8
    assert undo_shift(window.truth, drift, window.size) is window.truth
    plain = cv2.resize(window.generated, window.size, interpolation=cv2.INTER_CUBIC)
    assert find_drift(plain, window.generated, window.mask).verdict == "kept"


def test_other_colours_and_light_are_no_drift(window: Window) -> None:
    brighter = np.clip(window.truth * np.array([1.15, 1.0, 0.85]) + 12, 0, 255).astype(np.uint8)
    assert find_drift(brighter, window.generated, window.mask).verdict == "kept"


def test_a_shift_is_found_and_undone(window: Window) -> None:
    asked = (0.04 * window.size[0], -0.03 * window.size[1])
    drawn = window.redrawn(shift=asked)
    drift = find_drift(drawn, window.generated, window.mask)
    assert drift.verdict == "shifted"
    found = np.array(drift.shift) * window.size
    assert np.abs(found - asked).max() < 0.01 * max(window.size)
    back = undo_shift(drawn, drift, window.size)
    inside = cv2.erode(cv2.resize(window.mask, window.size), np.ones((9, 9))) > 0.9

    def error(picture: Bytes) -> float:
        return float(np.abs(picture.astype(float) - window.truth)[inside].mean())

    assert error(back) < 0.5 * error(drawn)


@pytest.mark.parametrize(
    "change", [{"turn": 8}, {"turn": -12}, {"turn": 20}, {"grow": 1.15}, {"grow": 0.85}], ids=lambda change: str(change)
)
def test_another_pose_or_size_is_refused(window: Window, change: dict[str, Any]) -> None:
    assert find_drift(window.redrawn(**change), window.generated, window.mask).is_refused


def test_something_else_is_refused(window: Window) -> None:
    noise = np.random.default_rng(0).integers(0, 256, window.truth.shape, dtype=np.uint8)
    assert find_drift(noise, window.generated, window.mask).is_refused
    assert find_drift(np.full_like(window.truth, 90), window.generated, window.mask).is_refused


def test_without_a_mask_the_whole_window_counts() -> None:
    window = Window(NAMES[0])
    assert find_drift(window.truth, window.generated, None).verdict == "kept"
    moved = cv2.warpAffine(
        window.truth, np.array([[1, 0, 20.0], [0, 1, 0]]), window.size, borderMode=cv2.BORDER_REFLECT_101
    )
    drift = find_drift(np.asarray(moved, np.uint8), window.generated, None)
    assert drift.verdict == "shifted"
    assert abs(drift.shift[0] * window.size[0] - 20) < 2


def test_a_tiny_window_without_contrast_ends_in_no_error() -> None:
    flat = np.full((3, 5, 3), 100, np.uint8)
    assert find_drift(np.full((48, 80, 3), 100, np.uint8), flat, np.ones((3, 5), np.float32)).verdict
