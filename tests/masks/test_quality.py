"""The weight-free segmenter against the true masks of our own examples."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.masks import Prompt
from refgc.masks.grabcut import GrabCutSegmenter

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEGMENTER = GrabCutSegmenter()
REFERENCES = [f"{name}/hrri" for name in ("cushion", "oats_box", "sauce_bottle", "vase")]
SCENES = [f"{name}/hrgt" for name in ("cushion", "shoe_box", "tea_tin")]


@cache
def example(name: str) -> tuple[Image, np.ndarray]:
    folder, kind = name.split("/")
    image = open_image(EXAMPLES / folder / f"{kind}.jpg", name="picture")
    return image, open_mask(EXAMPLES / folder / f"{kind}_mask.png", size=image.size, name="mask").values


def overlap(mask: Mask, truth: np.ndarray) -> float:
    found, true = mask.values >= 0.5, truth >= 0.5
    return np.count_nonzero(found & true) / np.count_nonzero(found | true)


def centroid(truth: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(truth >= 0.5)
    return round(columns.mean()), round(rows.mean())


def box_around(truth: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(truth >= 0.5)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    across, down = round(margin * (right - left)), round(margin * (bottom - top))
    return int(left) - across, int(top) - down, int(right) + across, int(bottom) + down


@pytest.mark.parametrize(("margin", "least"), [(0.0, 0.96), (0.05, 0.9)])
def test_box(margin, least):
    scores = []
    for name in REFERENCES[:2] + SCENES:
        image, truth = example(name)
        scores.append(overlap(SEGMENTER.segment(image, Prompt(image.size, box=box_around(truth, margin))), truth))
    assert np.mean(scores) > least
    assert min(scores) > least - 0.08


def test_click():
    scores = []
    for name in REFERENCES[:2] + SCENES:
        image, truth = example(name)
        scores.append(overlap(SEGMENTER.segment(image, Prompt(image.size, positive=(centroid(truth),))), truth))
    assert np.mean(scores) > 0.88
    assert min(scores) > 0.75


def test_nothing_marked_in_a_studio():
    scores = []
    for name in REFERENCES:
        image, truth = example(name)
        scores.append(overlap(SEGMENTER.segment(image, Prompt(image.size)), truth))
    assert np.mean(scores) > 0.9
    assert min(scores) > 0.8


def test_the_edge_is_nearer_to_the_truth_than_a_hard_one():
    """Only where object and background meet, not where the outline is wrong."""
    image, truth = example("tea_tin/hrri")
    found = SEGMENTER.segment(image, Prompt(image.size, box=box_around(truth, 0.0))).values
    edge = (truth > 0.02) & (truth < 0.98)
    soft, hard = (np.abs(mask - truth)[edge].mean() for mask in (found, (found >= 0.5).astype(np.float32)))
    assert soft < hard
