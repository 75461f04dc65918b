"""Simulates generated pictures: `python -m examples.make.artifacts [NAME ...]`, run in the root of the repository.

From the truth and its object mask it makes `lrgi.png` at a quarter of the size, with the four artifacts of
reference-guided generation: identity distortion, detail inconsistency, texture loss and quality degradation. No
generative model takes part. It is independent of `refgc.simulator`, so that the committed examples stay the same when
that changes.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.floating]
FOLDER = Path(__file__).resolve().parent.parent
# The constants of this file were chosen by hand, not fitted.
SCALE = 4
# Standard deviation in pixels of the blur of the object mask that blends the artifacts in.
FEATHER = 6.0
# Half the side in pixels of an exchanged patch, and the largest difference of its mean colour, for colours in [0, 1].
PATCH = 9
MAXIMUM_TONE_DIFFERENCE = 0.05


def random_warp(picture: Picture, random: np.random.Generator, most: float, sigma: float) -> Picture:
    """Warp by a random displacement field of at most `most` pixels, smoothed by a Gaussian of `sigma` pixels."""
    rows, columns = picture.shape[:2]
    shift = cv2.GaussianBlur(random.standard_normal((rows, columns, 2)), (0, 0), sigma)
    shift = shift * (most / np.abs(shift).max())
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    maps = (x + shift[..., 0]).astype(np.float32), (y + shift[..., 1]).astype(np.float32)
    return np.asarray(cv2.remap(picture, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.float32)


def identity_distortion(picture: Picture, random: np.random.Generator) -> Picture:
    """A smooth warp by up to 3 pixels, and faded colours."""
    bent = random_warp(picture, random, 3.0, 42.0)
    grey = bent.mean(axis=-1, keepdims=True)
    return np.asarray(grey + 0.82 * (bent - grey), np.float32)


def detail_inconsistency(picture: Picture, mask: Picture, random: np.random.Generator) -> Picture:
    """Lettering and ornament warped until they are illegible, and patches of them mirrored or exchanged.

    Patches are exchanged only with others of about the same mean colour, so that large shapes stay where they are.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    energy = cv2.GaussianBlur(cv2.Laplacian(grey, cv2.CV_32F) ** 2, (0, 0), 5) * (mask > 0.9)
    busy = energy > np.quantile(energy[mask > 0.5], 0.45)
    amount = cv2.GaussianBlur(busy.astype(np.float32), (0, 0), 4)[..., None]
    out = picture + amount * (random_warp(picture, random, 4.0, 6.0) - picture)
    tone = cv2.blur(picture, (2 * PATCH, 2 * PATCH))
    rows, columns = grey.shape
    window = np.outer(np.hanning(2 * PATCH), np.hanning(2 * PATCH))[..., None] ** 0.5
    for place in random.choice(np.flatnonzero(busy), round(0.25 * (mask > 0.5).sum() / PATCH**2)):
        here = np.clip(divmod(int(place), columns), PATCH, (rows - PATCH, columns - PATCH))
        there = np.clip(here + random.integers(-24, 25, 2), PATCH, (rows - PATCH, columns - PATCH))
        if np.abs(tone[tuple(here - 1)] - tone[tuple(there - 1)]).max() < MAXIMUM_TONE_DIFFERENCE:
            patch = out[_window(there)][:, :: int(random.choice([-1, 1]))]
            out[_window(here)] += (patch - out[_window(here)]) * window
    return np.asarray(out, np.float32)


def _window(middle: NDArray[np.int64]) -> tuple[slice, slice]:
    row, column = (int(value) for value in middle)
    return slice(row - PATCH, row + PATCH), slice(column - PATCH, column + PATCH)


def texture_loss(picture: Picture) -> Picture:
    """Fine texture flattened by a median and a bilateral filter, which keep edges."""
    levels = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.bilateralFilter(cv2.medianBlur(levels, 5), 9, 38, 5), np.float32) / 255


def quality_degradation(picture: Picture, quality: int = 72) -> NDArray[np.uint8]:
    """Down-sampling of the whole picture by `SCALE`, then JPEG; uint8 RGB."""
    rows, columns = picture.shape[0] // SCALE, picture.shape[1] // SCALE
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    levels = np.clip(np.rint(small * 255), 0, 255).astype(np.uint8)
    coded = BytesIO()
    Image.fromarray(levels).save(coded, "jpeg", quality=quality)
    return np.asarray(Image.open(coded))


def simulate(truth: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The generated picture for `truth` (rows, columns, 3) and its object `mask` (rows, columns), both uint8.

    The artifacts are drawn on the object. The surroundings are slightly blurred, then down-sampled and compressed.
    """
    random = np.random.default_rng(seed)
    picture = np.asarray(truth, np.float32) / 255
    inside = np.asarray(mask, np.float32) / 255
    distorted = identity_distortion(picture, random)
    wrong = texture_loss(detail_inconsistency(distorted, inside, random))
    drawn = cv2.GaussianBlur(wrong, (0, 0), 1.2)
    soft = cv2.GaussianBlur(inside, (0, 0), FEATHER)[..., None]
    return quality_degradation(soft * drawn + (1 - soft) * cv2.GaussianBlur(picture, (0, 0), 1.0))


def main() -> None:
    """Writes `lrgi.png` for the examples named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="examples to simulate; all without a name")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the example folders")
    arguments = parser.parse_args()
    for name in arguments.names or sorted(path.parent.name for path in arguments.into.glob("*/hrgt.jpg")):
        folder = arguments.into / name
        truth = np.asarray(Image.open(folder / "hrgt.jpg").convert("RGB"))
        mask = np.asarray(Image.open(folder / "hrgt_mask.png").convert("L"))
        Image.fromarray(simulate(truth, mask, seed=sum(name.encode()))).save(folder / "lrgi.png", optimize=True)


if __name__ == "__main__":
    main()
