"""How close a picture comes to the truth: PSNR and SSIM, over the whole picture and inside the object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Size, luma
from refgc.imaging.image import MARKED, Image, Mask

PEAK = 255.0
# Equal pictures have no finite PSNR; JSON has no infinity.
MOST_PSNR = 100.0
# SSIM's window in pixels, and its constants (Wang et al., 2004).
WINDOW = 7
K1, K2 = 0.01, 0.03


class Closeness(BaseModel):
    """One picture against the truth."""

    model_config = ConfigDict(frozen=True)

    psnr: float = Field(description="over the whole picture, in dB of RGB, at most 100")
    ssim: float = Field(description="over the whole picture, of its luma")
    psnr_inside: float = Field(description="PSNR over the object's pixels")
    ssim_inside: float = Field(description="SSIM over the object's pixels")


class Comparison(BaseModel):
    """A clean upscale and a refined picture against the truth; gains are above 0 where refining came closer."""

    model_config = ConfigDict(frozen=True)

    upscaled: Closeness
    refined: Closeness

    @property
    def psnr_gain(self) -> float:
        """In dB, over the whole picture."""
        return self.refined.psnr - self.upscaled.psnr

    @property
    def ssim_gain(self) -> float:
        """Over the whole picture."""
        return self.refined.ssim - self.upscaled.ssim

    @property
    def psnr_gain_inside(self) -> float:
        """In dB, over the object's pixels."""
        return self.refined.psnr_inside - self.upscaled.psnr_inside

    @property
    def ssim_gain_inside(self) -> float:
        """Over the object's pixels."""
        return self.refined.ssim_inside - self.upscaled.ssim_inside


def compare(truth: Image, upscaled: Image, refined: Image, mask: Mask) -> Comparison:
    """How much closer to the truth refining came than enlarging.

    Args:
        truth: the HRGT.
        upscaled: the LRGI's clean upscale, the stage "upscaled" of a refinement.
        refined: the refinement's result.
        mask: the object in the truth.

    Raises:
        InputError: they are not all of one size.
    """
    return Comparison(upscaled=closeness(truth, upscaled, mask), refined=closeness(truth, refined, mask))


def closeness(truth: Image, picture: Image, mask: Mask) -> Closeness:
    """PSNR and SSIM of a picture against the truth.

    Args:
        truth: the HRGT.
        picture: of the same size.
        mask: the object in the truth; its pixels are those marked by half or more.

    Raises:
        InputError: they are not all of one size.
    """
    for what, size in (("picture", picture.size), ("mask", mask.size)):
        _check_size(what, size, truth.size)
    inside = mask.values >= MARKED
    errors = _squared_errors(truth.pixels, picture.pixels)
    similarity = ssim_map(truth.pixels, picture.pixels)
    rim = WINDOW // 2
    return Closeness(
        psnr=_psnr(errors),
        # At the rim, windows reach beyond the picture.
        ssim=float(similarity[rim:-rim, rim:-rim].mean()),
        psnr_inside=_psnr(errors[inside]),
        ssim_inside=float(similarity[inside].mean()),
    )


def ssim_map(one: Bytes, other: Bytes) -> NDArray[np.float64]:
    """The structural similarity of two pictures' luma around each pixel (Wang et al., 2004).

    Windows are 7x7 pixels, all weighing the same, with unbiased variances, as scikit-image's default has it.

    Args:
        one: uint8 RGB (height, width, 3).
        other: of the same size.

    Returns:
        (height, width), at most 1; the picture is mirrored at its border.
    """
    a, b = luma(one).astype(np.float64), luma(other).astype(np.float64)
    mean_a, mean_b = _mean(a), _mean(b)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variances = unbiased * (_mean(a * a) - mean_a**2 + _mean(b * b) - mean_b**2)
    covariance = unbiased * (_mean(a * b) - mean_a * mean_b)
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))


def _check_size(what: str, size: Size, truth: Size) -> None:
    if size != truth:
        raise InputError(
            f"The {what} is {size[0]}x{size[1]} pixels and the truth {truth[0]}x{truth[1]}; compare what has one size."
        )


def _squared_errors(one: Bytes, other: Bytes) -> NDArray[np.float64]:
    """(height, width), the mean over the channels."""
    difference = one.astype(np.float64) - other
    return np.asarray((difference * difference).mean(axis=2), np.float64)


def _psnr(errors: NDArray[np.float64]) -> float:
    error = float(errors.mean())
    return min(MOST_PSNR, float(10 * np.log10(PEAK**2 / error))) if error > 0 else MOST_PSNR


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.blur(values, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT), np.float64)
