"""The request of a preview: all inputs are opened and checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from refgc.diptych.conditions import checked_object_mask, open_object_mask
from refgc.errors import InputError
from refgc.imaging.arrays import Size, resized, shrink
from refgc.imaging.image import MARKED, MIN_SIDE, Image, ImageSource, Mask, open_image
from refgc.imaging.warp import fitted
from refgc.request import checked_object_name, checked_scale, checked_seed
from refgc.simulator.artifacts import Strengths, checked_strengths

# A larger scene is reduced to this longer side, in pixels, since generated pictures are small. Chosen by hand.
LONGEST_TRUTH = 2048
MAX_CAPTION = 1000
STRENGTHS = Strengths()


@dataclass(frozen=True, slots=True, eq=False)
class PreviewRequest:
    """One preview, fully checked.

    Attributes:
        reference: the HRRI, the sharp photo of the object.
        scene: the HRGT, or another scene with something in the object's place; of `factor` times the LRGI's size.
        scene_size: (width, height) of the scene as it was given, in pixels.
        reference_mask: the object in `reference`; None lets the segmenter find it.
        scene_mask: the object in `scene`, or its place; None lets the segmenter find it.
        object_name: the object in a few words, for the prompt.
        caption: the object in a longer phrase, for the prompt; None takes a plain one.
        seed: seed of everything random; the same request and seed give the same pixels.
        strengths: of the simulated artifacts.
        factor: the scene's size over the LRGI's; 1, 2 or 4.
    """

    reference: Image
    scene: Image
    scene_size: Size
    reference_mask: Mask | None = None
    scene_mask: Mask | None = None
    object_name: str = "object"
    caption: str | None = None
    seed: int = 0
    strengths: Strengths = STRENGTHS
    factor: int = 4


def make_preview_request(
    reference: ImageSource | Image,
    scene: ImageSource | Image,
    *,
    reference_mask: ImageSource | Mask | None = None,
    scene_mask: ImageSource | Mask | None = None,
    object_name: str = "object",
    caption: str | None = None,
    seed: int = 0,
    artifacts: Mapping[str, float] | None = None,
    factor: int = 4,
) -> PreviewRequest:
    """Open and check everything one preview needs.

    Args:
        reference: the HRRI, the sharp photo of the object. Where it is partly transparent, its transparency serves as
            the reference mask unless one is given.
        scene: the HRGT, another photo of the object; or any scene with something in the object's place. Of one longer
            than `LONGEST_TRUTH` pixels a smaller copy is taken; rows and columns beyond a multiple of `factor` are cut.
        reference_mask: the object in the reference, bright on dark, of the same size or aspect ratio; None lets the
            segmenter find it.
        scene_mask: the same for the scene: the object, or the place for it.
        object_name: the object in words, one line of at most 200 characters.
        caption: a longer phrase for what the reference shows, one line of at most 1000 characters; None or blank for
            none.
        seed: a whole number from 0 to 2**63 - 1.
        artifacts: strengths of the simulated artifacts, from 0 to 1, by name: "identity_distortion",
            "detail_inconsistency", "texture_loss", "quality_degradation". Those not named keep their default.
        factor: the scene's size over the generated picture's; 1, 2 or 4.

    Raises:
        InputError: any of these cannot be used; the sentence says what to do.
    """
    strengths = checked_strengths({**STRENGTHS.model_dump(), **(artifacts or {})})
    whole_factor = checked_scale(factor, "factor")
    whole_seed = checked_seed(seed)
    name = checked_object_name(object_name)
    phrase = _caption(caption)
    reference_image = open_image(reference, name="reference")
    scene_image = open_image(scene, name="scene")
    checked_reference_mask = _own_mask(reference_image)
    if reference_mask is not None:
        checked_reference_mask = open_object_mask(reference_mask, size=reference_image.size, name="reference mask")
    size = _truth_size(scene_image.size, whole_factor)
    checked_scene_mask = None
    if scene_mask is not None:
        opened = open_object_mask(scene_mask, size=scene_image.size, name="scene mask")
        checked_scene_mask = checked_object_mask(_framed_mask(opened, size), "scene mask")
    return PreviewRequest(
        reference=reference_image,
        scene=_framed(scene_image, size),
        scene_size=scene_image.size,
        reference_mask=checked_reference_mask,
        scene_mask=checked_scene_mask,
        object_name=name,
        caption=phrase,
        seed=whole_seed,
        strengths=strengths,
        factor=whole_factor,
    )


def parse_artifacts(settings: Iterable[str]) -> dict[str, float]:
    """Strengths by name, as the command takes them.

    Args:
        settings: such as "texture-loss=0.3"; of several on one artifact the last counts.

    Raises:
        InputError: one of them has another form, or an unknown name.
    """
    strengths = {}
    for setting in settings:
        name, _, number = setting.partition("=")
        key = name.strip().replace("-", "_")
        if key not in Strengths.model_fields:
            names = ", ".join(Strengths.model_fields).replace("_", "-")
            raise InputError(f"There is no artifact {name.strip()!r}; choose among {names}.")
        try:
            strengths[key] = float(number)
        except ValueError as error:
            raise InputError(
                f"The strength of {name.strip()!r} is {number!r}; write NAME=STRENGTH, such as texture-loss=0.3."
            ) from error
    return strengths


def _caption(value: str | None) -> str | None:
    caption = (value or "").strip()
    if not caption:
        return None
    if not caption.isprintable():
        raise InputError("The caption has a line break or another control character; write it on one line.")
    if len(caption) > MAX_CAPTION:
        raise InputError(f"The caption has {len(caption)} characters; shorten it to at most {MAX_CAPTION} characters.")
    return caption


def _own_mask(reference: Image) -> Mask | None:
    """The transparency the reference came with, where it tells an object from its background."""
    return reference.alpha if reference.alpha is not None and reference.alpha.values.min() < MARKED else None


def _truth_size(scene: Size, factor: int) -> Size:
    width, height = (side // factor * factor for side in fitted(scene, LONGEST_TRUTH))
    if min(width, height) < MIN_SIDE * factor:
        raise InputError(
            f"The scene is {scene[0]}x{scene[1]} pixels, too small or too narrow for a picture that is {factor} times "
            f"smaller; give one of at least {MIN_SIDE * factor} pixels a side."
        )
    return width, height


def _framed(scene: Image, size: Size) -> Image:
    pixels = resized(scene.pixels, fitted(scene.size, LONGEST_TRUTH))
    return Image(np.ascontiguousarray(pixels[: size[1], : size[0]]))


def _framed_mask(mask: Mask, size: Size) -> Mask:
    values = np.clip(shrink(mask.values, fitted(mask.size, LONGEST_TRUTH)), 0.0, 1.0)
    return Mask(np.ascontiguousarray(values[: size[1], : size[0]]))
