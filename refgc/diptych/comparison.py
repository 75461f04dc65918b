"""Fidelity to the truth: PSNR and SSIM, over the whole picture and inside the object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Size, luma
from refgc.imaging.image import MARKED, Image, Mask

PEAK = 255.0
# The PSNR of equal pictures is infinite, which JSON cannot hold.
MAXIMUM_PSNR = 100.0
# SSIM's window in pixels, and its constants (Wang et al., 2004).
WINDOW = 7
K1, K2 = 0.01, 0.03


class Fidelity(BaseModel):
    """How near one picture is to the truth."""

    model_config = ConfigDict(frozen=True)

    psnr: float = Field(description="over the whole picture, in dB of RGB, at most 100")
    ssim: float = Field(description="over the whole picture, of its luma")
    psnr_inside: float = Field(description="PSNR over the object's pixels")
    ssim_inside: float = Field(description="SSIM over the object's pixels")


class Comparison(BaseModel):
    """An upscaled and a refined picture against the truth; gains are positive where the refined one is nearer."""

    model_config = ConfigDict(frozen=True)

    upscaled: Fidelity
    refined: Fidelity

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
    """Fidelity of a refined picture and of the upscaled one.

    Args:
        truth: the HRGT.
        upscaled: the LRGI upscaled, the stage "upscaled" of a refinement.
        refined: the refinement's result.
        mask: the object in the truth.

    Raises:
        InputError: the sizes differ.
    """
    return Comparison(upscaled=fidelity(truth, upscaled, mask), refined=fidelity(truth, refined, mask))


def fidelity(truth: Image, picture: Image, mask: Mask) -> Fidelity:
    """PSNR in dB over RGB, and SSIM of luma, of a picture against the truth.

    Args:
        truth: the HRGT.
        picture: of the same size.
        mask: the object in the truth; its pixels are those marked by at least a half.

    Raises:
        InputError: the sizes differ.
    """
    for what, size in (("picture", picture.size), ("mask", mask.size)):
        _check_size(what, size, truth.size)
    inside = mask.values >= MARKED
    errors = _squared_errors(truth.pixels, picture.pixels)
    similarity = ssim_map(truth.pixels, picture.pixels)
    border = WINDOW // 2
    return Fidelity(
        psnr=_psnr(errors),
        # Windows at the border reach beyond the picture.
        ssim=float(similarity[border:-border, border:-border].mean()),
        psnr_inside=_psnr(errors[inside]),
        ssim_inside=float(similarity[inside].mean()),
    )


def ssim_map(one: Bytes, other: Bytes) -> NDArray[np.float64]:
    """The structural similarity map of two pictures' luma (Wang et al., 2004).

    Uniform windows of 7x7 pixels and unbiased variances, as in scikit-image's default.

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
    """Squared error (height, width), averaged over the channels."""
    difference = one.astype(np.float64) - other
    return np.asarray((difference * difference).mean(axis=2), np.float64)


def _psnr(errors: NDArray[np.float64]) -> float:
    error = float(errors.mean())
    return min(MAXIMUM_PSNR, float(10 * np.log10(PEAK**2 / error))) if error > 0 else MAXIMUM_PSNR


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.blur(values, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT), np.float64)
