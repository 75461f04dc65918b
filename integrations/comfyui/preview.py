"""The node "RefGC DipRefGC Preview"."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor

import refgc
from refgc import InputError

from .host import Progress, check_stopped, free_models, show
from .refine import LARGEST_SEED
from .sentences import about_picture
from .tensors import image_of, mask_of, masks_of, one_for_each, pictures_of

FACTORS = {"4x": 4, "2x": 2, "1x": 1}
ARTIFACTS = ("identity_distortion", "detail_inconsistency", "texture_loss", "quality_degradation")


class Preview:
    """Makes a generated picture whose truth is known, from a photo of an object and a scene, to try RefGC Refine on."""

    DESCRIPTION = __doc__
    CATEGORY = "RefGC"
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("IMAGE", "IMAGE", "MASK", "MASK", "IMAGE", "IMAGE", "MASK", "IMAGE", "STRING")
    RETURN_NAMES = (
        "generated",
        "truth",
        "truth_mask",
        "reference_mask",
        "diptych",
        "condition_picture",
        "condition_mask",
        "condition_edges",
        "report",
    )
    OUTPUT_TOOLTIPS = (
        "The generated picture (LRGI), factor times smaller than the scene.",
        "What it should show: the scene.",
        "The object in the truth.",
        "The object in the reference.",
        "Both panels as they were drawn.",
        "What an inpainting ControlNet sees: the object on white, and the scene with its object cut out.",
        "Where it draws.",
        "What a Canny ControlNet sees: the object's edges on the right.",
        "What happened, in JSON; one text for each scene.",
    )
    OUTPUT_IS_LIST = (*(False,) * 8, True)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The sockets and widgets of the node."""
        return {
            "required": {
                "reference": ("IMAGE", {"tooltip": "One sharp photo of the object (HRRI)."}),
                "scene": ("IMAGE", {"tooltip": "Another photo of it, or a scene with something in its place (HRGT)."}),
                "object_name": ("STRING", {"default": "object", "tooltip": "The object in a few words."}),
                "generator": (
                    ["simulated", "diffusion", "auto"],
                    {
                        "tooltip": "simulated draws the artifacts onto the scene and needs no weights; diffusion loads "
                        "DipRefGC; auto takes diffusion where a GPU and its weights are here."
                    },
                ),
                "factor": (
                    list(FACTORS),
                    {"default": "4x", "tooltip": "Size of the scene over the generated picture."},
                ),
                **{
                    name: (
                        "FLOAT",
                        {
                            "default": -1.0,
                            "min": -1.0,
                            "max": 1.0,
                            "step": 0.05,
                            "tooltip": "How strong this simulated artifact is, from 0 to 1; below 0 takes the default.",
                        },
                    )
                    for name in ARTIFACTS
                },
                "seed": (
                    "INT",
                    {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": False},
                ),
            },
            "optional": {
                "caption": ("STRING", {"default": "", "tooltip": "What the reference shows, in a longer phrase."}),
                "reference_mask": ("MASK", {"tooltip": "The object in the reference, 1 where it is."}),
                "scene_mask": ("MASK", {"tooltip": "The object in the scene, or the place for it."}),
            },
            "hidden": {"node": "UNIQUE_ID"},
        }

    def run(
        self,
        reference: Tensor,
        scene: Tensor,
        object_name: str,
        generator: Any,
        factor: str,
        identity_distortion: float,
        detail_inconsistency: float,
        texture_loss: float,
        quality_degradation: float,
        seed: int,
        caption: str = "",
        reference_mask: Tensor | None = None,
        scene_mask: Tensor | None = None,
        node: str | None = None,
    ) -> dict[str, Any]:
        """Makes one preview for each scene of the batch.

        Raises:
            InputError: an input cannot be used, or an object was not found; the sentence says what to do.
            EngineError: the generator cannot run here, or failed.
        """
        check_stopped()
        references = pictures_of(reference, "reference")
        if len(references) > 1:
            raise InputError(f"There are {len(references)} references; a preview takes one photo of the object.")
        (own_mask,) = one_for_each(masks_of(reference_mask, "reference mask"), 1, "reference mask")
        scenes = pictures_of(scene, "scene")
        scene_masks = one_for_each(masks_of(scene_mask, "scene mask"), len(scenes), "scene mask")
        strengths = (identity_distortion, detail_inconsistency, texture_loss, quality_degradation)
        artifacts = {name: value for name, value in zip(ARTIFACTS, strengths, strict=True) if value >= 0}
        if generator == "diffusion":
            free_models()
        progress = Progress(len(scenes), node)
        results = []
        for number, (picture, mask) in enumerate(zip(scenes, scene_masks, strict=True)):
            with about_picture(number, len(scenes)):
                request = refgc.make_preview_request(
                    references[0],
                    picture,
                    reference_mask=own_mask,
                    scene_mask=mask,
                    object_name=object_name,
                    caption=caption,
                    seed=seed,
                    artifacts=artifacts,
                    factor=FACTORS[factor],
                )
                results.append(refgc.preview(request, generator=generator, progress=progress.of(number)))
            progress.end(number)
        progress.say(results[-1].report.message)
        return {
            "ui": show([Image.fromarray(result.diptych.pixels) for result in results]),
            "result": _outputs(results),
        }


def _outputs(results: list[refgc.PreviewResult]) -> tuple[Any, ...]:
    """The outputs in the order of `Preview.RETURN_NAMES`."""
    return (
        image_of([result.generated.pixels for result in results]),
        image_of([result.truth.pixels for result in results]),
        mask_of([result.mask.values for result in results]),
        mask_of([result.reference_mask.values for result in results]),
        image_of([result.diptych.pixels for result in results]),
        image_of([result.conditions.picture for result in results]),
        mask_of([result.conditions.mask for result in results]),
        image_of([_grey(result.conditions.edges) for result in results]),
        [result.report.model_dump_json(indent=2) for result in results],
    )


def _grey(levels: Any) -> Any:
    """A grey picture (height, width) as RGB."""
    return levels[..., None].repeat(3, axis=2)
