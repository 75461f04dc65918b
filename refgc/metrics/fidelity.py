"""PSNR and SSIM by scikit-image: how near a result is to the truth, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes
from refgc.metrics.metric import Need, Region, figure_name, region_masks
from refgc.metrics.sample import Sample

PEAK = 255.0
# The PSNR of equal pictures is infinite, which neither JSON nor a mean can hold.
MAXIMUM_PSNR = 100.0
# The Gaussian window of SSIM (Wang et al., 2004): its standard deviation and its side, in pixels.
SIGMA, WINDOW = 1.5, 11
BORDER = WINDOW // 2
REGIONS: tuple[Region, ...] = ("whole", "inside", "outside")
NEEDS: frozenset[Need] = frozenset({"truth"})


@dataclass(frozen=True, slots=True)
class Psnr:
    """Peak signal-to-noise ratio against the truth, in dB."""

    name: str = "psnr"
    label: str = "PSNR"
    unit: str = "dB"
    digits: int = 2
    higher_is_better: bool = True
    regions: tuple[Region, ...] = REGIONS
    needs: frozenset[Need] = NEEDS

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRGT at the result's size, 8-bit sRGB, one mean of squared errors over pixels and channels, "
            f"at most {MAXIMUM_PSNR:g} dB, nothing cropped; scikit-image {version('scikit-image')}"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`psnr`, `psnr_inside` and `psnr_outside`: of the whole picture, and of the object's and the other pixels."""
        if sample.truth is None:
            return {}
        from skimage.metrics import peak_signal_noise_ratio

        result, truth = sample.result.pixels, sample.truth.pixels
        figures = {}
        for region, pixels in region_masks(sample).items():
            one, other = (truth, result) if pixels is None else (truth[pixels], result[pixels])
            ratio = MAXIMUM_PSNR if np.array_equal(one, other) else peak_signal_noise_ratio(one, other, data_range=PEAK)
            figures[figure_name(self.name, region)] = min(MAXIMUM_PSNR, float(ratio))
        return figures


@dataclass(frozen=True, slots=True)
class Ssim:
    """Structural similarity to the truth (Wang et al., 2004), at most 1."""

    name: str = "ssim"
    label: str = "SSIM"
    unit: str = ""
    digits: int = 4
    higher_is_better: bool = True
    regions: tuple[Region, ...] = REGIONS
    needs: frozenset[Need] = NEEDS

    @property
    def protocol(self) -> str:
        """How the figures come about."""
        return (
            f"result against HRGT at the result's size, 8-bit sRGB, mean of the maps of the three channels, Gaussian "
            f"window of {WINDOW} pixels (sigma {SIGMA}), population covariances, the {BORDER} pixels at the border left "
            f"out of every region; scikit-image {version('scikit-image')}"
        )

    def __call__(self, sample: Sample) -> dict[str, float]:
        """`ssim`, `ssim_inside` and `ssim_outside`: means of the map over the whole picture and over its parts.

        Raises:
            InputError: a side is shorter than the window.
        """
        if sample.truth is None:
            return {}
        inner = slice(BORDER, -BORDER)
        similarity = ssim_map(sample.result.pixels, sample.truth.pixels)[inner, inner]
        figures = {}
        for region, pixels in region_masks(sample).items():
            values = similarity if pixels is None else similarity[pixels[inner, inner]]
            # An object may lie in the border alone.
            if values.size:
                figures[figure_name(self.name, region)] = float(values.mean())
        return figures


def ssim_map(result: Bytes, truth: Bytes) -> NDArray[np.float64]:
    """The structural similarity around each pixel, averaged over the channels.

    Args:
        result: uint8 RGB (height, width, 3).
        truth: of the same size.

    Returns:
        (height, width), at most 1. Within `BORDER` pixels of the border, windows reach into the mirrored picture.

    Raises:
        InputError: a side is shorter than the window.
    """
    from skimage.metrics import structural_similarity

    height, width = truth.shape[:2]
    if min(height, width) < WINDOW:
        raise InputError(
            f"The result is {width}x{height} pixels, and SSIM needs {WINDOW} on each side; give a larger one."
        )
    total = np.zeros((height, width))
    # One channel at a time takes a third of the memory.
    for channel in range(3):
        total += structural_similarity(
            np.ascontiguousarray(truth[..., channel]),
            np.ascontiguousarray(result[..., channel]),
            data_range=PEAK,
            gaussian_weights=True,
            sigma=SIGMA,
            use_sample_covariance=False,
            full=True,
        )[1]
    return total / 3
