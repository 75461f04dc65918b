"""The check against drift: whether a stock model kept the object of a window where, and in the pose, it found it.

A model without an adapter was never trained to keep a scene. It may move the object, turn it, or draw another one. So
the window that it drew is registered to the generated picture: the whole window by phase correlation, then the object
by maximising the enhanced correlation coefficient (Evangelidis and Psarakis, 2008). Both pictures are compared at the
resolution of the generated picture, by their local contrast, so that new detail and other colours do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.imaging.arrays import Bytes, Floats, Size, blur, local_variance, luma, resized, shrink, size_of
from refgc.imaging.image import MARKED
from refgc.imaging.upscale import clean_upscale
from refgc.imaging.warp import fitted

Verdict = Literal["kept", "shifted", "turned", "other"]

# The longer side of the grid on which the pictures are compared, at most and at least.
GRID_SIDES = (128, 256)
# Standard deviation of the window of the local contrast, as a share of the grid's longer side. Chosen by hand.
CONTRAST_REACH = 0.06
# Contrast below this many grey levels counts less, as it is noise. Chosen by hand.
NOISE_LEVEL = 4.0
# A shift below this share of the grid's longer side is left alone; one above the second is too far to be undone.
# Chosen by hand.
SMALL_SHIFT, LARGEST_SHIFT = 0.002, 0.12
# Refused where a point of the object moves further than this against the object's middle, as a share of the square root
# of its area: by a turn of about 6 degrees or a change of size by about a tenth. Chosen by hand on the examples.
LARGEST_BENDING = 0.06
# Refused where, with the shift undone, the local contrast correlates less than this: inside the object, and in a band
# around its outline. Chosen by hand on the examples.
LEAST_CORRELATION = 0.4
LEAST_OUTLINE = 0.35
# Half the width of the band around the outline, as a share of the square root of the object's area, at least in pixels
# of the grid. Chosen by hand.
BAND, LEAST_BAND = 0.06, 2.0
ITERATIONS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a redrawn window is from the picture that it was drawn after.

    Attributes:
        verdict: "kept"; "shifted", which is undone; "turned" by a change of pose, or "other" where the model drew
            something else: both refuse the redrawing.
        shift: (x, y) as shares of the window's width and height, by which the object was moved.
        bending: how far a point of the object moves against its middle, as a share of the square root of its area.
        correlation: of the local contrast inside the object, in [-1, 1], with the shift undone.
        outline: the same in a band around the object's outline.
    """

    verdict: Verdict
    shift: tuple[float, float] = (0.0, 0.0)
    bending: float = 0.0
    correlation: float = 1.0
    outline: float = 1.0

    @property
    def is_refused(self) -> bool:
        """Whether the redrawing cannot be used."""
        return self.verdict in ("turned", "other")


def find_drift(drawn: Bytes, generated: Bytes, mask: Floats | None) -> Drift:
    """Registers a redrawn window to the generated picture.

    Args:
        drawn: uint8 RGB, the window as the model drew it, at any size.
        generated: uint8 RGB, the same window of the generated picture, at its own size.
        mask: the object in the generated window, of its size, in [0, 1]; None where it is not known, which compares the
            whole window.
    """
    grid = _grid(size_of(generated))
    target, source = (_local_contrast(_at(picture, generated, grid)) for picture in (generated, drawn))
    inside = np.ones(target.shape, np.float32) if mask is None else shrink(mask, grid)
    if float((inside >= MARKED).sum()) < LEAST_BAND**2:
        inside = np.ones(target.shape, np.float32)
    motion = _registered(target, source, inside)
    if motion is None:
        return Drift("other", correlation=_correlation(target, source, inside), outline=0.0)
    rows, columns = np.nonzero(inside >= MARKED)
    middle = np.array([columns.mean(), rows.mean()])
    moved = motion[:, :2] @ middle + motion[:, 2] - middle
    shift = (float(moved[0]) / grid[0], float(moved[1]) / grid[1])
    bending = _bending(motion, np.stack([columns, rows], axis=1) - middle)
    undone = _moved(source, np.array([[1.0, 0.0, moved[0]], [0.0, 1.0, moved[1]]]))
    correlation = _correlation(target, undone, inside)
    outline = correlation if mask is None else _correlation(target, undone, _band(inside))
    distance = float(np.abs(moved).max()) / max(grid)
    verdict: Verdict = "kept"
    if _correlation(target, _moved(source, motion), inside) < LEAST_CORRELATION:
        verdict = "other"
    elif bending > LARGEST_BENDING:
        verdict = "turned"
    elif correlation < LEAST_CORRELATION or outline < LEAST_OUTLINE or distance > LARGEST_SHIFT:
        verdict = "other"
    elif distance > SMALL_SHIFT:
        verdict = "shifted"
    return Drift(verdict, shift, bending, correlation, outline)


def undo_shift(drawn: Bytes, drift: Drift, window: Size) -> Bytes:
    """The redrawn window with the object where it was; the same array where it was not moved.

    Args:
        drawn: uint8 RGB, the window at any size; what comes in at its border is reflected.
        drift: from `find_drift`.
        window: (width, height) of what `find_drift` was given of it.
    """
    if drift.verdict != "shifted":
        return drawn
    motion = np.array([[1.0, 0.0, drift.shift[0] * window[0]], [0.0, 1.0, drift.shift[1] * window[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(drawn, motion, size_of(drawn), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def _grid(size: Size) -> Size:
    longer = max(size)
    least, most = GRID_SIDES
    return (
        fitted(size, most)
        if longer >= least
        else (
            max(1, round(size[0] * least / longer)),
            max(1, round(size[1] * least / longer)),
        )
    )


def _at(picture: Bytes, generated: Bytes, grid: Size) -> Bytes:
    """A picture on the grid, with no more detail than the generated picture has."""
    small = picture if picture is generated else resized(picture, size_of(generated))
    return clean_upscale(small, grid) if grid[0] > small.shape[1] else resized(small, grid)


def _local_contrast(picture: Bytes) -> Floats:
    """Luma without its local mean, in units of its local standard deviation."""
    grey = luma(picture).astype(np.float32)
    sigma = CONTRAST_REACH * max(size_of(picture))
    return np.asarray((grey - blur(grey, sigma)) / np.sqrt(local_variance(grey, sigma) + NOISE_LEVEL**2), np.float32)


def _registered(target: Floats, source: Floats, inside: Floats) -> NDArray[np.float64] | None:
    """The affine motion (2, 3) from the target's to the source's pixels that fits the object best.

    It is looked for from no motion and from the shift of the whole window. None where neither comes to an end.
    """
    window = cv2.createHanningWindow(size_of(target), cv2.CV_32F)
    (across, down), _ = cv2.phaseCorrelate(target, source, window)
    # What moved may lie outside of the object as it was.
    reach = 2 * round(LARGEST_SHIFT * max(target.shape) / 2) + 1
    around = cv2.dilate((inside >= MARKED).astype(np.uint8), np.ones((reach, reach), np.uint8))
    best: tuple[float, NDArray[np.float64]] | None = None
    for start in ((0.0, 0.0), (across, down)):
        if max(map(abs, start)) > LARGEST_SHIFT * max(target.shape):
            continue
        try:
            motion = np.array([[1.0, 0.0, start[0]], [0.0, 1.0, start[1]]], np.float32)
            _, motion = cv2.findTransformECC(target, source, motion, cv2.MOTION_TRANSLATION, ITERATIONS, around, 5)
            score, motion = cv2.findTransformECC(target, source, motion, cv2.MOTION_AFFINE, ITERATIONS, around, 5)
        except cv2.error:
            continue  # it did not converge
        if best is None or score > best[0]:
            best = (score, np.asarray(motion, np.float64))
    return None if best is None else best[1]


def _bending(motion: NDArray[np.float64], offsets: NDArray[np.float64]) -> float:
    """The largest displacement of the object's points, given from its middle, against that of the middle."""
    displaced = offsets @ (motion[:, :2] - np.eye(2)).T
    return float(np.linalg.norm(displaced, axis=1).max() / np.sqrt(len(offsets)))


def _moved(source: Floats, motion: NDArray[np.float64]) -> Floats:
    """A field with a motion (2, 3) undone."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(source, motion, size_of(source), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def _band(inside: Floats) -> Floats:
    """1 around the object's outline on both sides of it."""
    solid = (inside >= MARKED).astype(np.uint8)
    half = round(max(LEAST_BAND, BAND * float(np.sqrt(solid.sum()))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * half + 1, 2 * half + 1))
    return np.asarray(cv2.dilate(solid, kernel) - cv2.erode(solid, kernel, borderValue=0), np.float32)


def _correlation(one: Floats, other: Floats, where: Floats) -> float:
    weight = float(where.sum()) + 1e-6
    first, second = (field - float((where * field).sum()) / weight for field in (one, other))
    product = float((where * first * second).sum())
    return product / (float(np.sqrt((where * first**2).sum() * (where * second**2).sum())) + 1e-6)
