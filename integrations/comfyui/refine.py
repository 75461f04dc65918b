"""The node "RefGC Refine"."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import refgc
from refgc import InputError

from .comparison import before_and_after
from .host import Progress, check_stopped, free_models, show
from .sentences import about_picture
from .tensors import Floats, image_of, mask_of, masks_of, one_for_each, pictures_of

SCALES = {"4x": 4, "2x": 2, "1x": 1}
# The largest whole number that a page in a browser can hold exactly.
LARGEST_SEED = 2**53 - 1


class Refine:
    """Brings the true object of a photo back into generated pictures, at up to four times their size."""

    DESCRIPTION = __doc__
    CATEGORY = "RefGC"
    FUNCTION = "run"
    # A node that shows something runs although nothing is connected to its outputs.
    OUTPUT_NODE = True
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("image", "refined", "report")
    OUTPUT_TOOLTIPS = (
        "The refined pictures, scale times as large as the generated ones.",
        "Where detail came from the reference: 1 is all of it.",
        "What happened, in JSON; one text for each picture.",
    )
    OUTPUT_IS_LIST = (False, False, True)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The sockets and widgets of the node."""
        picture = "another photo of the same object, such as its back; may have another size"
        return {
            "required": {
                "reference": ("IMAGE", {"tooltip": "A sharp photo of the object; a batch is several photos of it."}),
                "generated": ("IMAGE", {"tooltip": "The generated picture; each of a batch is refined by itself."}),
                "scale": (list(SCALES), {"default": "4x", "tooltip": "Size of the result over the generated picture."}),
                "strength": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.05,
                        "tooltip": "How much of the reference to bring in; 0 is a plain enlargement.",
                    },
                ),
                "surroundings": (
                    ["plain", "fast", "best"],
                    {
                        "tooltip": "How what lies around the object is enlarged: by interpolation, or drawn by a "
                        "network that `refgc setup --surroundings` fetches."
                    },
                ),
                "engine": (
                    ["correspondence", "diffusion", "auto"],
                    {
                        "tooltip": "correspondence needs no weights and no GPU; diffusion loads the model that "
                        "REFGC_BASE names; auto takes diffusion where a GPU, its memory and the weights are free."
                    },
                ),
                "object_name": (
                    "STRING",
                    {"default": "object", "tooltip": "The object in a few words, for diffusion."},
                ),
                "seed": (
                    "INT",
                    {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": False},
                ),
            },
            "optional": {
                "reference_mask": (
                    "MASK",
                    {"tooltip": "The object in the reference, 1 where it is; a batch has one for each reference."},
                ),
                "generated_mask": (
                    "MASK",
                    {"tooltip": "The object in the generated picture; one for all of a batch, or one for each."},
                ),
                **{f"reference_{number}": ("IMAGE", {"tooltip": f"Optional: {picture}."}) for number in (2, 3, 4)},
            },
            "hidden": {"node": "UNIQUE_ID"},
        }

    def run(
        self,
        reference: Tensor,
        generated: Tensor,
        scale: str,
        strength: float,
        surroundings: Any,
        engine: Any,
        object_name: str,
        seed: int,
        reference_mask: Tensor | None = None,
        generated_mask: Tensor | None = None,
        reference_2: Tensor | None = None,
        reference_3: Tensor | None = None,
        reference_4: Tensor | None = None,
        node: str | None = None,
    ) -> dict[str, Any]:
        """Refines each generated picture of the batch with all references.

        Raises:
            InputError: an input cannot be used; the sentence says what to do.
            EngineError: the engine cannot run here, or failed.
        """
        check_stopped()
        references = pictures_of(reference, "reference")
        masks = masks_of(reference_mask, "reference mask")
        if len(masks) > 1 and len(masks) != len(references):
            raise InputError(
                f"There are {len(masks)} reference masks for {len(references)} pictures of the input reference; "
                "connect one, for the first picture, or one for each."
            )
        for number, more in ((2, reference_2), (3, reference_3), (4, reference_4)):
            references += [] if more is None else pictures_of(more, f"reference {number}")
        pictures = pictures_of(generated, "generated picture")
        generated_masks = one_for_each(masks_of(generated_mask, "generated mask"), len(pictures), "generated mask")
        if engine == "diffusion":
            free_models()
        progress = Progress(len(pictures), node)
        results = []
        for number, (picture, mask) in enumerate(zip(pictures, generated_masks, strict=True)):
            with about_picture(number, len(pictures)):
                results.append(
                    refgc.refine(
                        references,
                        picture,
                        scale=SCALES[scale],
                        engine=engine,
                        reference_mask=[*masks, *[None] * (len(references) - len(masks))],
                        generated_mask=mask,
                        object_name=object_name,
                        seed=seed,
                        strength=strength,
                        surroundings=surroundings,
                        progress=progress.of(number),
                    )
                )
            progress.end(number)
        progress.say(_message(results))
        return {
            "ui": show([_comparison(result) for result in results]),
            "result": (
                image_of([result.image.with_transparency() for result in results]),
                mask_of([refined_mask(result) for result in results]),
                [result.report.model_dump_json(indent=2) for result in results],
            ),
        }


def refined_mask(result: refgc.RefineResult) -> Floats:
    """Where detail came from the reference: (height, width) in [0, 1].

    The correspondence engine tells it of each pixel. The diffusion engine tells the box of the object: its mask is 1
    on those pixels of the box that differ from the plain enlargement.
    """
    width, height = result.image.size
    if result.trust is not None:
        return result.trust
    mask = np.zeros((height, width), np.float32)
    if result.report.object_box is not None:
        left, top, right, bottom = result.report.object_box
        part = slice(top, bottom), slice(left, right)
        mask[part] = _differs(result.stages["upscaled"].pixels[part], result.image.pixels[part])
    return mask


def _differs(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((one != other).any(axis=2))


def _comparison(result: refgc.RefineResult) -> Any:
    return before_and_after(result.stages["upscaled"].pixels, result.image.pixels, result.report.object_box)


def _message(results: list[refgc.RefineResult]) -> str:
    """One sentence on all results."""
    if len(results) == 1:
        return results[0].report.message
    placed = sum(result.report.placed for result in results)
    return f"The reference was placed in {placed} of {len(results)} pictures."
