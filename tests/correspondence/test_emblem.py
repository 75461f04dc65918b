"""A logo alone: the emblem on a bag of cloth is refined where nothing else of the bag can be placed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from refgc.correspondence.learned import find_networks
from refgc.imaging.arrays import Bytes
from refgc.imaging.image import Image, Mask
from refgc.refinement import refine
from refgc.simulator.artifacts import Strengths, simulate
from refgc.wheels import weights_folder

SIDE = 1024
EMBLEM = 320
# Side of the emblem in the generated picture, in pixels.
SMALL = 48


def emblem() -> NDArray[np.float32]:
    """Opacity (EMBLEM, EMBLEM) in [0, 1] of a sign with lettering."""
    drawn = np.zeros((EMBLEM, EMBLEM), np.uint8)
    cv2.circle(drawn, (EMBLEM // 2, EMBLEM // 3), EMBLEM // 4, 255, EMBLEM // 16, cv2.LINE_AA)
    cv2.line(drawn, (EMBLEM // 2, EMBLEM // 8), (EMBLEM // 2, EMBLEM // 2), 255, EMBLEM // 20, cv2.LINE_AA)
    foot = (EMBLEM // 10, EMBLEM * 9 // 10)
    cv2.putText(drawn, "NORD", foot, cv2.FONT_HERSHEY_DUPLEX, EMBLEM / 110, 255, EMBLEM // 40, cv2.LINE_AA)
    return drawn.astype(np.float32) / np.float32(255)


def cloth(seed: int, colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """Folds and a weave, which differ by the seed."""
    random = np.random.default_rng(seed)
    folds = [
        cv2.GaussianBlur(random.normal(size=(SIDE, SIDE)).astype(np.float32), (0, 0), sigma) * sigma * height
        for sigma, height in ((4, 12), (20, 24), (60, 40))
    ]
    weave = random.normal(size=(SIDE, SIDE)).astype(np.float32) * 4
    return np.asarray(np.clip(np.array(colour, np.float32) + (sum(folds) + weave)[..., None], 0, 255), np.float32)


def bag(corners: list[list[int]], folds: int, ground: NDArray[np.float32], placing: NDArray[np.float32]) -> Bytes:
    """A bag (SIDE, SIDE, 3) with the emblem on it."""
    outline = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(outline, [np.array(corners, np.int32)], 255)
    body = cv2.GaussianBlur(outline.astype(np.float32) / 255, (0, 0), 2)[..., None]
    print_ = cv2.warpAffine(emblem(), placing, (SIDE, SIDE), flags=cv2.INTER_AREA)[..., None]
    front = cloth(folds, (60, 70, 110)) * (1 - print_) + np.array((240, 235, 220), np.float32) * print_
    return np.asarray(np.clip(ground * (1 - body) + front * body, 0, 255), np.uint8)


def test_an_emblem_is_refined_on_another_bag_with_other_folds() -> None:
    if find_networks() is None:
        pytest.skip(f"the weights are not in {weights_folder()}; `refgc setup` fetches them")
    upright = np.array([[1, 0, 350], [0, 1, 350]], np.float32)
    white = np.full((SIDE, SIDE, 3), 235, np.float32)
    reference = bag([[250, 150], [780, 150], [860, 900], [180, 900]], 1, white, upright)
    turned = cv2.getRotationMatrix2D((EMBLEM / 2, EMBLEM / 2), 9, 4 * SMALL / EMBLEM).astype(np.float32)
    turned[:, 2] += (380, 420)
    corners = [[360, 290], [690, 270], [800, 830], [270, 850]]
    truth = bag(corners, 2, cloth(3, (150, 140, 120)), turned)
    outline = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(outline, [np.array(corners, np.int32)], 1)
    strengths = Strengths(identity_distortion=0.05, detail_inconsistency=0.3, quality_degradation=0.4)
    generated = simulate(
        Image(truth.copy()), Mask(outline.astype(np.float32)), size=(256, 256), strengths=strengths, seed=5
    )
    result = refine(reference, generated.image.pixels, engine="correspondence")
    inside = cv2.warpAffine(np.ones((EMBLEM, EMBLEM), np.float32), turned, (SIDE, SIDE)) > 0.5
    errors = [
        float(((picture.pixels.astype(np.float32) - truth)[inside] ** 2).mean())
        for picture in (result.image, result.stages["upscaled"])
    ]
    assert result.report.placed
    assert 10 * np.log10(errors[1] / errors[0]) > 0.8
