"""What a metric may look at: a result, the truth and the reference."""

from __future__ import annotations

from dataclasses import dataclass

from refgc.errors import InputError
from refgc.imaging.image import Image, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One result with what it is compared with.

    Attributes:
        result: what a method made.
        truth: the HRGT, of the result's size; None where there is none, as in the wild.
        truth_mask: the object in the HRGT, of the result's size. The result shows the same scene, so that it is the
            object in the result too.
        reference: the HRRI, of any size.
        reference_mask: the object in the HRRI, of its size.

    Raises:
        InputError: sizes that must be equal differ.
    """

    result: Image
    truth: Image | None = None
    truth_mask: Mask | None = None
    reference: Image | None = None
    reference_mask: Mask | None = None

    def __post_init__(self) -> None:
        for what, given in (("truth", self.truth), ("mask of the truth", self.truth_mask)):
            _check_size(what, given, "result", self.result)
        if self.reference is not None:
            _check_size("mask of the reference", self.reference_mask, "reference", self.reference)


def _check_size(what: str, given: Image | Mask | None, other: str, picture: Image) -> None:
    if given is not None and given.size != picture.size:
        (width, height), (wanted_width, wanted_height) = given.size, picture.size
        raise InputError(
            f"The {what} is {width}x{height} pixels and the {other} {wanted_width}x{wanted_height}; "
            "compare what has one size."
        )
