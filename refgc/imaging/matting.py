"""Alpha matting: foreground colour estimation at soft edges, and compositing."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.region import Region

# Window widths in pixels of the two passes of blur fusion, as Forte (2021) gives them for a large and a small radius.
WIDTHS = (91, 13)
EPSILON = 1e-5
# Chosen by hand, not fitted: fainter alpha is noise of a soft mask and does not make the object larger.
MINIMUM_ALPHA = 0.02


def alpha_bytes(alpha: Floats) -> Bytes:
    """Alpha in [0, 1] as uint8 levels in [0, 255]."""
    return np.asarray(np.rint(alpha * 255.0), np.uint8)


def bounding_region(alpha: Floats) -> Region:
    """The bounding box of all alpha (height, width) of at least `MINIMUM_ALPHA`; there must be some."""
    rows, columns = (np.flatnonzero((alpha >= MINIMUM_ALPHA).any(axis=axis)) for axis in (1, 0))
    return Region(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def estimate_foreground(picture: Bytes, alpha: Floats) -> Floats:
    """The object's own colours where it covers a pixel only in part, by blur fusion (Forte, 2021).

    Args:
        picture: uint8 RGB (height, width, 3).
        alpha: (height, width) in [0, 1], the object's coverage of each pixel.

    Returns:
        float32 (height, width, 3) in [0, 255]. Where `alpha` is 1 it is the picture itself. Outside of the object it is
        the object's nearest colours, as far as the first pass reaches.
    """
    levels, coverage = picture.astype(np.float32), np.asarray(alpha, np.float32)[..., None]
    foreground, background = levels, levels
    for width in WIDTHS:
        foreground_mean = _mean(foreground * coverage, width) / (_mean(coverage, width) + EPSILON)
        background_mean = _mean(background * (1.0 - coverage), width) / (_mean(1.0 - coverage, width) + EPSILON)
        residual = levels - coverage * foreground_mean - (1.0 - coverage) * background_mean
        foreground = np.clip(foreground_mean + coverage * residual, 0.0, 255.0)
        background = background_mean
    return np.asarray(np.where(coverage == 1.0, levels, foreground), np.float32)


def composite(foreground: Floats, alpha: Floats, background: Bytes | int) -> Bytes:
    """The "over" operator (Porter and Duff, 1984); where alpha is 0 the background stays bit for bit.

    Args:
        foreground: (height, width, 3) in [0, 255].
        alpha: (height, width) in [0, 1].
        background: uint8 (height, width, 3), or one grey level.

    Returns:
        uint8 (height, width, 3).
    """
    coverage = alpha[..., None]
    return np.asarray(np.rint(foreground * coverage + np.float32(background) * (1.0 - coverage)), np.uint8)


def _mean(values: Floats, width: int) -> Floats:
    mean = cv2.blur(values, (width, width), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean.reshape(values.shape), np.float32)
