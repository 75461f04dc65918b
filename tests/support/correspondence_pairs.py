"""Pictures and refinements that several tests of the correspondence engine share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import RefineResult
from refgc.refinement import refine
from refgc.request import make_request
from tests.support.synthetic import draw_card, make_synthetic_pair

Pixels = NDArray[np.uint8]

PAIR = make_synthetic_pair(reference_side=320, generated_side=80, has_table=False)
WHITE = (255, 255, 255)


def on_plain_ground(card: Pixels, margin: int) -> Pixels:
    """The card as a product photo shows it."""
    return np.asarray(cv2.copyMakeBorder(card, *[margin] * 4, cv2.BORDER_CONSTANT, value=WHITE), np.uint8)


PRODUCT_PHOTO = on_plain_ground(PAIR.reference, 40)


@cache
def refined(scale: int = 4, strength: float = 1.0) -> RefineResult:
    """`PAIR`, its reference as a product photo, refined once for all tests."""
    return refine(PRODUCT_PHOTO, PAIR.generated, scale=scale, strength=strength)


@dataclass(frozen=True)
class Watched:
    """A refinement of `PAIR`, and what was told and shown while it ran."""

    result: RefineResult
    progress: list[tuple[str, float]]
    shown: list[tuple[str, tuple[int, int]]]


@cache
def watched() -> Watched:
    """A second run of `refined()`, watched; in a thread, after other random numbers were drawn."""
    seen = Watched(refined(), [], [])
    results: list[RefineResult] = []

    def run() -> None:
        cv2.setRNGSeed(987)
        results.append(
            CorrespondenceEngine().refine(
                make_request(PRODUCT_PHOTO, PAIR.generated),
                progress=lambda stage, fraction: seen.progress.append((stage, fraction)),
                viewer=lambda name, picture: seen.shown.append((name, picture.size)),
            )
        )

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return Watched(results[0], seen.progress, seen.shown)


@cache
def unrelated() -> tuple[RefineResult, list[tuple[str, float]]]:
    """A reference that is not in the picture, and the progress that was told."""
    progress: list[tuple[str, float]] = []
    result = refine(
        draw_card(300, 77), PAIR.generated, progress=lambda stage, fraction: progress.append((stage, fraction))
    )
    return result, progress


def upscaled(result: RefineResult) -> Pixels:
    """What the result would be without the reference."""
    return result.stages["upscaled"].pixels


def changed(result: RefineResult) -> NDArray[np.bool_]:
    """Where (height, width) of the output the reference changed anything."""
    return np.asarray((result.image.pixels != upscaled(result)).any(axis=2))


def enlarged(mask: NDArray[np.bool_], scale: int) -> NDArray[np.bool_]:
    """The same mask in output pixels."""
    return mask.repeat(scale, axis=0).repeat(scale, axis=1)


def beside(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Whether a pixel is more than so many pixels away from the mask."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) == 0)


def psnr(pixels: Pixels, truth: Pixels, weight: NDArray[np.float64] | None = None) -> float:
    """Peak signal-to-noise ratio in dB, where a weight (height, width) is given of the pixels it marks."""
    squared = ((pixels.astype(np.float64) - truth) ** 2).mean(axis=2)
    return float(10 * np.log10(255.0**2 / np.average(squared, weights=weight)))


def two_cards() -> tuple[Pixels, Pixels, NDArray[np.bool_], NDArray[np.bool_]]:
    """Two cards side by side on white, the same two in a scene, and where each of them is in the two pictures.

    Returns:
        reference (240, 460, 3), generated (60, 115, 3), the left card in the reference and in the generated picture.
    """
    reference = np.full((240, 460, 3), 255, np.uint8)
    reference[30:210, 20:200], reference[30:210, 260:440] = draw_card(180, 1), draw_card(180, 2)
    scene = np.random.default_rng(0).integers(90, 200, (5, 7, 3), dtype=np.uint8)
    scene = np.asarray(cv2.resize(scene, (460, 240), interpolation=cv2.INTER_CUBIC), np.uint8)
    for left in (20, 260):
        scene[30:210, left : left + 180] = reference[30:210, left : left + 180]
    generated = cv2.resize(cv2.GaussianBlur(scene, (0, 0), 1.5), (115, 60), interpolation=cv2.INTER_AREA)
    left_card = np.zeros((240, 460), bool)
    left_card[26:214, 16:204] = True
    return reference, np.asarray(generated, np.uint8), left_card, left_card[2::4, 2::4]
