"""What every metric is: a name, how a table shows it, a protocol, and figures of a sample."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from refgc.imaging.arrays import Bools
from refgc.imaging.image import MARKED, Mask
from refgc.metrics.sample import Sample

Region = Literal["whole", "inside", "outside"]
Need = Literal["truth", "truth_mask", "reference", "reference_mask"]


class Metric(Protocol):
    """One metric.

    Attributes:
        name: such as "psnr", in lower case.
        label: what a table's head calls it, such as "PSNR".
        unit: such as "dB"; empty where it has none.
        digits: after the decimal point, in a table.
        higher_is_better: whether a larger figure is a better result.
        regions: parts of the picture that it has figures for.
        needs: what a sample must have for the figure of the whole picture; those of the other regions need the mask of
            the truth as well.
        protocol: how the figures come about, in one sentence: colour space, size, crop, window, backbone and its
            revision, library and its version.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def digits(self) -> int: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def regions(self) -> tuple[Region, ...]: ...
    @property
    def needs(self) -> frozenset[Need]: ...
    @property
    def protocol(self) -> str: ...

    def __call__(self, sample: Sample) -> dict[str, float]:
        """The figures of a sample by `figure_name`, of every region that the sample allows; none of them is NaN.

        Raises:
            InputError: the pictures cannot be measured.
            EngineError: weights that the metric needs cannot be used.
        """
        ...


def figure_name(metric: str, region: Region) -> str:
    """Under which name a metric has its figure of a region: "psnr", "psnr_inside"."""
    return metric if region == "whole" else f"{metric}_{region}"


def has_all(sample: Sample, needs: frozenset[Need]) -> bool:
    """Whether a sample has all that a metric needs."""
    return all(getattr(sample, need) is not None for need in needs)


def pixels_of(mask: Mask) -> Bools:
    """The object's pixels (height, width): those that a mask marks by at least a half."""
    return np.asarray(mask.values >= MARKED, np.bool_)


def region_masks(sample: Sample) -> dict[Region, Bools | None]:
    """The pixels of each region that a sample allows: None for the whole picture, booleans (height, width) otherwise.

    A region without a pixel is left out.
    """
    regions: dict[Region, Bools | None] = {"whole": None}
    if sample.truth_mask is not None:
        inside = pixels_of(sample.truth_mask)
        if inside.any():
            regions["inside"] = inside
        if not inside.all():
            regions["outside"] = ~inside
    return regions
