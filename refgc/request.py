"""What one refinement is made from: files, PIL images or arrays, opened and checked once, here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from refgc.errors import InputError, quoted
from refgc.imaging.encode import checked_bits, checked_whole_number
from refgc.imaging.image import MAX_PIXELS, MAX_SIDE, Image, ImageSource, Mask, open_image, open_mask

Surroundings = Literal["plain", "fast", "best"]
"""How what lies around the object is enlarged: by interpolation, or drawn by one of two networks."""

MAX_OBJECT_NAME = 200
SCALES = (1, 2, 4)
# Random generators of every library in use take seeds of 63 bits.
SEED_LIMIT = 2**63


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


def make_request(
    reference: ImageSource | Image,
    generated: ImageSource | Image,
    *,
    scale: int = 4,
    reference_mask: ImageSource | Mask | None = None,
    generated_mask: ImageSource | Mask | None = None,
    object_name: str = "object",
    seed: int = 0,
    strength: float = 1.0,
    surroundings: Surroundings = "plain",
    bits: int = 8,
) -> RefineRequest:
    """Open and check everything one refinement needs; pictures and masks that are opened already are taken as they are.

    Args:
        reference: the HRRI, the sharp photo of the object. Where it is partly transparent, its transparency serves as
            the reference mask unless one is given.
        generated: the LRGI, the generated picture to refine.
        scale: output size over generated size; 1, 2 or 4. The output may have at most
            `refgc.imaging.image.MAX_PIXELS` pixels and sides of at most `refgc.imaging.image.MAX_SIDE`.
        reference_mask: the object in the reference, bright on dark, of the same size or aspect ratio; None lets the
            engine find it.
        generated_mask: the same for the generated picture.
        object_name: the object in words, one line of at most 200 characters.
        seed: a whole number from 0 to 2**63 - 1.
        strength: how much of the reference to bring in, from 0 (plain enlargement) to 1.
        surroundings: how what lies around the object is enlarged: "plain", or "fast" or "best"
            by a network whose weights `refgc setup --surroundings` gets.
        bits: of each channel of the result: 8, or 16 for a picture that is rounded later. The given pictures are read
            with 8 bits either way.

    Raises:
        InputError: any of these cannot be used; the sentence says what to do.
    """
    whole_scale = checked_scale(scale, "scale")
    whole_seed = checked_seed(seed)
    checked_strength = _strength(strength)
    checked_method = checked_surroundings(surroundings)
    name = checked_object_name(object_name)
    whole_bits = checked_bits(bits)
    reference_image = open_image(reference, name="reference")
    generated_image = open_image(generated, name="generated picture")
    _check_output_size(generated_image.size, whole_scale)
    checked_reference_mask = reference_image.alpha
    if reference_mask is not None:
        checked_reference_mask = open_mask(reference_mask, size=reference_image.size, name="reference mask")
    checked_generated_mask = None
    if generated_mask is not None:
        checked_generated_mask = open_mask(generated_mask, size=generated_image.size, name="generated mask")
    return RefineRequest(
        reference=reference_image,
        generated=generated_image,
        scale=whole_scale,
        reference_mask=checked_reference_mask,
        generated_mask=checked_generated_mask,
        object_name=name,
        seed=whole_seed,
        strength=checked_strength,
        surroundings=checked_method,
        bits=whole_bits,
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
