"""Soft edges: the object's own colours where a pixel shows both it and what is behind it."""

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.region import Region

# Widths of the two passes in pixels: the first bridges a wide soft edge, the second is for detail (Forte, 2021).
WIDTHS = (91, 13)
NOTHING = 1e-5
# Fainter shares are the noise of a soft mask and do not say how large the object is.
FAINT = 0.02


def share_bytes(share: Floats) -> Bytes:
    """A share in [0, 1] in 255ths."""
    return np.asarray(np.rint(share * 255.0), np.uint8)


def bounds(share: Floats) -> Region:
    """The box of what is more than `FAINT`."""
    rows, columns = (np.flatnonzero((share >= FAINT).any(axis=axis)) for axis in (1, 0))
    return Region(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def foreground(picture: Bytes, share: Floats) -> Floats:
    """The colours that the object alone has, where it covers a pixel in part (Forte, 2021: blur fusion).

    Args:
        picture: uint8 RGB (height, width, 3).
        share: (height, width) in [0, 1], how much of each pixel is object.

    Returns:
        float32 (height, width, 3) in [0, 255]; where `share` is 1 the picture itself, outside of the object its nearest
        colours, as far as the first pass reaches.
    """
    levels, alpha = picture.astype(np.float32), np.asarray(share, np.float32)[..., None]
    own, behind = levels, levels
    for width in WIDTHS:
        own_mean = _mean(own * alpha, width) / (_mean(alpha, width) + NOTHING)
        behind_mean = _mean(behind * (1.0 - alpha), width) / (_mean(1.0 - alpha, width) + NOTHING)
        own = np.clip(own_mean + alpha * (levels - alpha * own_mean - (1.0 - alpha) * behind_mean), 0.0, 255.0)
        behind = behind_mean
    return np.asarray(np.where(alpha == 1.0, levels, own), np.float32)


def over(own: Floats, share: Floats, ground: Bytes | int) -> Bytes:
    """Colours laid over a ground in proportion to their share; where the share is 0 the ground, bit for bit."""
    alpha = share[..., None]
    return np.asarray(np.rint(own * alpha + np.float32(ground) * (1.0 - alpha)), np.uint8)


def _mean(values: Floats, width: int) -> Floats:
    mean = cv2.blur(values, (width, width), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean.reshape(values.shape), np.float32)
