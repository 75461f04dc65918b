"""Legibility: how much of the reference's text can be read in the result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bools, Bytes, resized
from refgc.imaging.image import Image, Mask
from refgc.imaging.warp import fitted
from refgc.metrics.memo import Memo
from refgc.metrics.metric import Need, Region, pixels_of
from refgc.metrics.sample import Sample

# The constants of this file were chosen by hand, not fitted.
# Longer side in pixels at which both pictures are read; smaller ones are enlarged to it.
SIDE = 1024
# How sure OCR has to be of a line of the reference, and of one of the result, in [0, 1].
SURE, SEEN = 0.9, 0.5
# Letters and digits of the shortest word that counts; single ones are read into every edge.
SHORTEST = 3
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line of text that was read in a picture.

    Attributes:
        text: as OCR gives it.
        sureness: in [0, 1].
        corners: (4, 2), (x, y) of its outline as fractions of the picture's width and height.
    """

    text: str
    sureness: float
    corners: NDArray[np.float64]

    def lies_on(self, pixels: Bools) -> bool:
        """Whether the middle of the line lies on the object's pixels (height, width)."""
        height, width = pixels.shape
        x, y = self.corners.mean(axis=0) * (width, height)
        return bool(pixels[min(height - 1, max(0, int(y))), min(width - 1, max(0, int(x)))])


class Legibility:
    """Agreement of the words read in the result with those read in the reference, in [0, 1]."""

    name = "legibility"
    label = "Legibility"
    unit = ""
    digits = 3
    higher_is_better = True
    regions: tuple[Region, ...] = ("whole", "inside")
    needs: frozenset[Need] = frozenset({"reference"})

    def __init__(self) -> None:
        self._lines = Memo(_read)

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRRI, 8-bit sRGB, both resized to a longer side of {SIDE} pixels and read by OCR; for "
            f"each word of {SHORTEST} characters or more that is read in the reference's object with a confidence of "
            f"{SURE} or more, the largest normalised Levenshtein similarity to a word of the result, averaged with the "
            "words' lengths as weights, letters of both cases alike; no value where the reference has no such word; "
            f"inside reads the result on the object alone; rapidocr {version('rapidocr')} (PP-OCRv6 small) with "
            f"onnxruntime {version('onnxruntime')}"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`legibility`, and `legibility_inside` by the words on the object alone; nothing where there is no word.

        The words of the reference are those on its object where its mask is known, else all.
        """
        if sample.reference is None:
            return {}
        shown = self._lines(sample.reference)
        wanted = words_of(shown, SURE, None if sample.reference_mask is None else pixels_of(sample.reference_mask))
        if not wanted:
            return {}
        read = self._lines(sample.result)
        figures = {"legibility": agreement(wanted, words_of(read, SEEN))}
        if sample.truth_mask is not None and (pixels := pixels_of(sample.truth_mask)).any():
            figures["legibility_inside"] = agreement(wanted, words_of(read, SEEN, pixels))
        return figures


def words_of(lines: Sequence[Line], sureness: float, pixels: Bools | None = None) -> list[str]:
    """The words of lines that are sure enough and lie on the object.

    Args:
        lines: what was read.
        sureness: the least, in [0, 1].
        pixels: (height, width), those of the object; None for the whole picture.

    Returns:
        Words of `SHORTEST` letters and digits or more, without marks between them, in lower case.
    """
    taken = (line for line in lines if line.sureness >= sureness and (pixels is None or line.lies_on(pixels)))
    words = (word.casefold() for line in taken for word in WORD.findall(line.text))
    return [word for word in words if len(word) >= SHORTEST]


def agreement(wanted: Sequence[str], read: Sequence[str]) -> float:
    """How well words can be read: of each the largest similarity to a word that was read, weighted by its length.

    Args:
        wanted: one word or more.
        read: the words that were read; of none, nothing can be read.

    Returns:
        In [0, 1]. The similarity of two words is 1 less their Levenshtein distance over the length of the longer one.
    """
    from rapidfuzz.distance import Levenshtein

    best = [max((Levenshtein.normalized_similarity(word, other) for other in read), default=0.0) for word in wanted]
    return float(np.average(best, weights=[len(word) for word in wanted]))


def read_lines(pixels: Bytes) -> list[Line]:
    """The lines of text in a picture.

    Args:
        pixels: uint8 RGB (height, width, 3).
    """
    found = _reader()(np.ascontiguousarray(pixels[..., ::-1]))
    if found.txts is None:
        return []
    size = np.array([pixels.shape[1], pixels.shape[0]], np.float64)
    return [
        Line(text, float(sureness), np.asarray(corners, np.float64) / size)
        for text, sureness, corners in zip(found.txts, found.scores, found.boxes, strict=True)
    ]


def _read(image: Image, _: Mask | None) -> list[Line]:
    return read_lines(resized(image.pixels, fitted(image.size, SIDE, float("inf"))))


@cache
def _reader() -> Any:
    from rapidocr import RapidOCR

    # Pairs are spread over processes, each of which takes one core. All weights lie in the package.
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": SEEN,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
