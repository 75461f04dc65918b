"""What one refinement is made from: files, PIL images or arrays, opened and checked once, here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np

from refgc.errors import InputError, quoted
from refgc.imaging.arrays import blur, luma, shrink
from refgc.imaging.encode import checked_bits, checked_whole_number
from refgc.imaging.image import MAX_PIXELS, MAX_SIDE, Image, ImageSource, Mask, open_image, open_mask
from refgc.imaging.warp import fitted

Surroundings = Literal["plain", "fast", "best"]
"""How what lies around the object is enlarged: by interpolation, or drawn by one of two networks."""

MAX_OBJECT_NAME = 200
MAX_REFERENCES = 4
SCALES = (1, 2, 4)
# Two pictures of one size show the same where, shrunk to this side, they differ on average by less grey levels, and
# where the reference's contrast at the finest scale is at most so many times that of the other. Chosen by hand: GIF,
# CMYK and JPEG change a picture by less, and a picture that is blurred or drawn anew has less contrast.
COMPARED_SIDE, COMPARED_DIFFERENCE, COMPARED_SHARPNESS = 64, 6.0, 1.1
# Random generators of every library in use take seeds of 63 bits.
SEED_LIMIT = 2**63


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One photo of the object.

    Attributes:
        picture: the photo.
        mask: the object in it, same size; None lets the engine find it.
    """

    picture: Image
    mask: Mask | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RefineRequest:
    """One refinement, fully checked; engines trust every field.

    Attributes:
        reference: the HRRI, the sharp photo of the object.
        generated: the LRGI, the generated picture to refine.
        scale: output size over generated size; 1, 2 or 4.
        reference_mask: the object in `reference`, same size; None lets the engine find it.
        generated_mask: the object in `generated`, same size; None lets the engine find it.
        object_name: the object in words, used in the diffusion engine's prompt.
        seed: seed of everything random; the same request and seed give the same pixels.
        strength: how much of the reference to bring in, from 0 (plain enlargement) to 1.
        surroundings: how what lies around the object is enlarged.
        bits: of each channel of the result, 8 or 16.
        further_references: more photos of the same object, such as its back; up to three.
    """

    reference: Image
    generated: Image
    scale: int = 4
    reference_mask: Mask | None = None
    generated_mask: Mask | None = None
    object_name: str = "object"
    seed: int = 0
    strength: float = 1.0
    surroundings: Surroundings = "plain"
    bits: int = 8
    further_references: tuple[Reference, ...] = ()

    def by_reference(self) -> tuple[RefineRequest, ...]:
        """The same request once for each reference, with that one alone; the first reference comes first."""
        alone = replace(self, further_references=())
        further = (replace(alone, reference=one.picture, reference_mask=one.mask) for one in self.further_references)
        return (alone, *further)


def make_request(
    reference: ImageSource | Image | Sequence[ImageSource | Image],
    generated: ImageSource | Image,
    *,
    scale: int = 4,
    reference_mask: ImageSource | Mask | Sequence[ImageSource | Mask | None] | None = None,
    generated_mask: ImageSource | Mask | None = None,
    object_name: str = "object",
    seed: int = 0,
    strength: float = 1.0,
    surroundings: Surroundings = "plain",
    bits: int = 8,
) -> RefineRequest:
    """Open and check everything one refinement needs; pictures and masks that are opened already are taken as they are.

    Args:
        reference: the HRRI, the sharp photo of the object; or a list or tuple of one to `MAX_REFERENCES` photos of it,
            such as front and back. Where one is partly transparent, its transparency serves as its mask unless one is
            given.
        generated: the LRGI, the generated picture to refine.
        scale: output size over generated size; 1, 2 or 4. The output may have at most
            `refgc.imaging.image.MAX_PIXELS` pixels and sides of at most `refgc.imaging.image.MAX_SIDE`.
        reference_mask: the object in the reference, bright on dark, of the same size or aspect ratio; None lets the
            engine find it. One mask belongs to the first reference; a list or tuple has as many as there are
            references, where None stands for a mask that is not given.
        generated_mask: the same for the generated picture.
        object_name: the object in words, one line of at most 200 characters.
        seed: a whole number from 0 to 2**63 - 1.
        strength: how much of the reference to bring in, from 0 (plain enlargement) to 1.
        surroundings: how what lies around the object is enlarged: "plain", or "fast" or "best"
            by a network whose weights `refgc setup --surroundings` gets.
        bits: of each channel of the result: 8, or 16 for a picture that is rounded later. The given pictures are read
            with 8 bits either way.

    Raises:
        InputError: any of these cannot be used, or a reference has the very pixels of the generated picture; the
            sentence says what to do.
    """
    whole_scale = checked_scale(scale, "scale")
    whole_seed = checked_seed(seed)
    checked_strength = _strength(strength)
    checked_method = checked_surroundings(surroundings)
    name = checked_object_name(object_name)
    whole_bits = checked_bits(bits)
    sources, masks = _listed(reference), _listed(reference_mask)
    check_reference_count(len(sources), len(masks))
    reference_images = [open_image(source, name=_numbered("reference", at)) for at, source in enumerate(sources, 1)]
    generated_image = open_image(generated, name="generated picture")
    for at, image in enumerate(reference_images, 1):
        _check_differs(image, generated_image, _numbered("reference", at))
    _check_output_size(generated_image.size, whole_scale)
    masks += [None] * (len(sources) - len(masks))
    first, *further = (
        Reference(image, _reference_mask(mask, image, _numbered("reference mask", at)))
        for at, (image, mask) in enumerate(zip(reference_images, masks, strict=True), 1)
    )
    checked_generated_mask = None
    if generated_mask is not None:
        checked_generated_mask = open_mask(generated_mask, size=generated_image.size, name="generated mask")
    return RefineRequest(
        reference=first.picture,
        generated=generated_image,
        scale=whole_scale,
        reference_mask=first.mask,
        generated_mask=checked_generated_mask,
        object_name=name,
        seed=whole_seed,
        strength=checked_strength,
        surroundings=checked_method,
        bits=whole_bits,
        further_references=tuple(further),
    )


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def _numbered(name: str, number: int) -> str:
    """What a reference or its mask is called in an error sentence."""
    return name if number == 1 else f"{name} {number}"


def _reference_mask(given: ImageSource | Mask | None, image: Image, name: str) -> Mask | None:
    return image.alpha if given is None else open_mask(given, size=image.size, name=name)


def check_reference_count(references: int, masks: int = 1) -> None:
    """Checks how many references and masks of references are given, before any is opened.

    Args:
        references: how many photos of the object.
        masks: how many masks of them; one belongs to the first reference.

    Raises:
        InputError: there is no reference, there are too many, or the masks are neither one nor one for each.
    """
    if not 1 <= references <= MAX_REFERENCES:
        there = f"There are {references} references" if references else "There is no reference"
        raise InputError(f"{there}; give one to {MAX_REFERENCES} photos of the object.")
    if masks > 1 and masks != references:
        raise InputError(
            f"There are {masks} reference masks for {references} reference{'s' if references > 1 else ''}; give one, "
            "for the first reference, or one for each."
        )


def check_options(
    *,
    scale: int,
    seed: int,
    object_name: str,
    strength: float = 1.0,
    surroundings: Surroundings = "plain",
    scale_name: str = "scale",
) -> None:
    """Checks the options of a request before any picture is opened; `make_request` tells what each may be.

    Raises:
        InputError: one of them cannot be used.
    """
    checked_scale(scale, scale_name)
    checked_seed(seed)
    _strength(strength)
    checked_surroundings(surroundings)
    checked_object_name(object_name)


def checked_scale(value: int, called: str) -> int:
    """How many times larger the result is.

    Args:
        value: 1, 2 or 4.
        called: what it is called in an error sentence, such as "scale".

    Raises:
        InputError: it is another number or none.
    """
    number = checked_whole_number(value, called)
    if number not in SCALES:
        raise InputError(f"The {called} is {number}; choose 1, 2 or 4.")
    return number


def checked_seed(value: int) -> int:
    """The seed of everything random.

    Raises:
        InputError: it is no whole number from 0 to 2**63 - 1.
    """
    seed = checked_whole_number(value, "seed")
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"The seed is {seed}; choose a whole number from 0 to {SEED_LIMIT - 1}.")
    return seed


def checked_surroundings(value: str) -> Surroundings:
    """How the surroundings of the object are enlarged.

    Raises:
        InputError: there is no such way.
    """
    if value not in get_args(Surroundings):
        raise InputError(f"The surroundings are {quoted(value)}; choose plain, fast or best.")
    return cast(Surroundings, value)


def checked_object_name(value: str) -> str:
    """The object in words, without spaces around them.

    Raises:
        InputError: it is empty, too long, or not one line.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError('The object name is empty; say in a few words what the object is, such as "red teapot".')
    name = value.strip()
    if not name.isprintable():
        raise InputError("The object name has a line break or another control character; write it on one line.")
    if len(name) > MAX_OBJECT_NAME:
        raise InputError(
            f"The object name has {len(name)} characters; shorten it to at most {MAX_OBJECT_NAME} characters."
        )
    return name


def _strength(value: float) -> float:
    try:
        if isinstance(value, bool | str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"The strength is {value!r}; give a number from 0 to 1.") from error
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise InputError(f"The strength is {number:g}; choose a number from 0 to 1.")
    return number


def _check_differs(reference: Image, generated: Image, name: str) -> None:
    """Whatever the files are called, and in whatever format: of its own pixels a picture gets no new detail."""
    if _shows_the_same(reference, generated):
        called = name.capitalize() if name[-1].isdigit() else f"The {name}"
        raise InputError(
            f"{called} and the generated picture are the same picture; as the reference, give a sharp photo of the "
            "real object."
        )


def _shows_the_same(one: Image, other: Image) -> bool:
    """Whether a picture is another one in another format: as large, of the same content, and not sharper."""
    if one.size != other.size:
        return False
    small = fitted(one.size, COMPARED_SIDE)
    coarse = [shrink(picture.pixels.astype(np.float32), small) for picture in (one, other)]
    if np.abs(coarse[0] - coarse[1]).mean() > COMPARED_DIFFERENCE:
        return False
    contrasts = []
    for picture in (one, other):
        grey = luma(picture.pixels).astype(np.float32)
        contrasts.append(float(np.var(grey - blur(grey, 1.0))))
    return contrasts[0] <= COMPARED_SHARPNESS * contrasts[1]


def _check_output_size(size: tuple[int, int], scale: int) -> None:
    width, height = size

    def fits(candidate: int) -> bool:
        return candidate**2 * width * height <= MAX_PIXELS and candidate * max(size) <= MAX_SIDE

    if not fits(scale):
        largest = max(candidate for candidate in SCALES if fits(candidate))
        raise InputError(
            f"At scale {scale} the result would be {scale * width}x{scale * height} pixels, over the limit of "
            f"{MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} pixels a side; choose scale {largest}."
        )
