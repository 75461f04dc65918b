"""DipRefGC on diffusers: FLUX.1-dev with an inpainting and a Canny ControlNet fills the hole in the diptych."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from diffusers import FluxControlNetModel, FluxControlNetPipeline
from diffusers.utils import BaseOutput
from PIL import Image as PILImage
from torch import Tensor

from refgc.diptych import loras as lora_files
from refgc.diptych.conditions import STEP, Diptych, right_panel
from refgc.diptych.controlnets import ControlNets, Given, known_latents, load, mask_tokens
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.settings import DrawingSettings, Pair
from refgc.diptych.sources import ControlNetName, LoraSources, find_loras
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError
from refgc.flux.checks import checked_folder, safetensors_only
from refgc.flux.pictures import OutputType, check_output_type, to_output_type, to_pixels
from refgc.flux.prompts import PromptEmbeddings, check_length
from refgc.imaging.arrays import Bytes, Floats


@dataclass(frozen=True, slots=True)
class Drawn:
    """One diptych as the model drew it.

    Attributes:
        diptych: uint8 RGB (height, 2 * width, 3), both panels.
        generated: uint8 RGB, the LRGI: the right panel, without what lies beside the scene.
    """

    diptych: Bytes
    generated: Bytes


@dataclass
class DipRefGCOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: the LRGI: a PIL image; for "np" (1, height, width, 3) and for "pt" (1, 3, height, width) in [0, 1]; for
            "latent" the tokens of the whole diptych, (1, tokens, 4 * latent channels).
        drawn: both panels; None for "latent".
    """

    images: list[PILImage.Image] | Floats | Tensor
    drawn: Drawn | None


class DipRefGCPipeline(FluxControlNetPipeline):
    """Draws the reference's object into a scene, in the pose of the object in that scene.

    The inpainting ControlNet is given the object on white beside the scene with a hole, and the hole's mask. The Canny
    ControlNet is given the edges of the scene's own object. FLUX.1-dev draws both panels; the right one is the LRGI.

    Attributes:
        trained: the ControlNets that have a LoRA, beside their weights or folded into them.
    """

    trained: frozenset[ControlNetName] = frozenset()

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        inpainting_controlnet: str | Path | FluxControlNetModel,
        canny_controlnet: str | Path | FluxControlNetModel,
        *,
        loras: LoraSources | None = None,
        **options: Any,
    ) -> Self:
        """Load FLUX.1-dev, the two ControlNets, and LoRA onto them.

        Args:
            base: folder or Hub repository of a FluxPipeline.
            inpainting_controlnet: folder or Hub repository, or the model, such as
                alimama-creative/FLUX.1-dev-Controlnet-Inpainting-Beta.
            canny_controlnet: the same, such as InstantX/FLUX.1-dev-Controlnet-Canny.
            loras: a folder or Hub repository with the folders "inpainting" and "canny" in it, each with a LoRA that
                diffusers or peft saved; or such a file or folder for each ControlNet by its name. None for none.
            options: for the base, as for any diffusers pipeline: dtype, transformer, token, ... ControlNets take dtype
                of them; for gated ones set HF_TOKEN.

        Raises:
            InputError: a ControlNet or LoRA is damaged, or they do not go together.
            EngineError: a ControlNet or LoRA cannot be had, or the base's files are damaged, are pickles, or do not fit
                its config.
            OSError: the base cannot be had.
        """
        options = safetensors_only(options)
        dtype = options.get("dtype", options.get("torch_dtype"))
        inpainting, canny = (
            source if isinstance(source, FluxControlNetModel) else load(source, label, dtype=dtype)
            for source, label in (
                (inpainting_controlnet, "inpainting_controlnet"),
                (canny_controlnet, "canny_controlnet"),
            )
        )
        files = {} if loras is None else find_loras(loras, "loras")
        folder = checked_folder(cls, base, options)
        pipeline: Self = super().from_pretrained(folder, controlnet=[inpainting, canny], **options)
        controlnets = ControlNets(inpainting, canny, pipeline.transformer)
        lora_files.load(controlnets, files)
        pipeline.trained = frozenset(files)
        pipeline.register_modules(controlnet=controlnets.eval())
        return pipeline

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Always refused: diffusers cannot save a pipeline with two ControlNets.

        Raises:
            EngineError: always.
        """
        raise EngineError(
            "A pipeline with two ControlNets cannot be saved whole: save pipeline.controlnet.inpainting and "
            "pipeline.controlnet.canny each by its own save_pretrained; the base is as it was."
        )

    @torch.no_grad()
    def __call__(
        self,
        diptych: Diptych,
        prompt: str | None = None,
        *,
        object_name: str = "object",
        caption: str | None = None,
        num_inference_steps: int = 28,
        guidance_scale: float = 3.5,
        controlnet_conditioning_scale: Pair | None = None,
        control_guidance_start: Pair = 0.0,
        control_guidance_end: Pair = 1.0,
        generator: torch.Generator | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
        output_type: OutputType = "pil",
        return_dict: bool = True,
    ) -> DipRefGCOutput | tuple[Any, ...]:
        """Draw one diptych.

        Args:
            diptych: the three conditions, from `refgc.diptych.conditions.build`.
            prompt: the whole text; None takes the paper's, with object name and caption in it.
            object_name: the object in a few words.
            caption: the object in a longer phrase, as the left panel shows it.
            num_inference_steps: of the noise schedule.
            guidance_scale: of the distilled guidance.
            controlnet_conditioning_scale: what the ControlNets' outputs are multiplied by, from 0 to 2, one number or
                one for each; None is 1 for one with LoRA, and for a published one what its model card advises.
            control_guidance_start: the share of the steps after which they begin to act; one number or one for each.
            control_guidance_end: the share of the steps after which they end; likewise.
            generator: source of the noise; None takes a new seed.
            callback_on_step_end: as in every diffusers pipeline.
            callback_on_step_end_tensor_inputs: the tensors it is given.
            output_type: "pil", "np", "pt", or "latent" for the diptych's tokens before they are decoded.
            return_dict: false for a plain tuple.

        Raises:
            InputError: the diptych or an option cannot be used.
            EngineError: the model's output is no picture.
        """
        check_output_type(output_type)
        settings = DrawingSettings(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            controlnet_conditioning_scale=controlnet_conditioning_scale,
            control_guidance_start=control_guidance_start,
            control_guidance_end=control_guidance_end,
            generator=generator,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        output = self._output(diptych, prompt or diptych_prompt(object_name, caption), settings, output_type)
        return output if return_dict else (output.images,)

    @torch.no_grad()
    def draw(
        self,
        diptych: Diptych,
        prompt: str | PromptEmbeddings,
        settings: DrawingSettings | None = None,
        progress: Progress = no_progress,
    ) -> Drawn:
        """Draw one diptych.

        Args:
            diptych: the three conditions.
            prompt: the whole text, or its embeddings.
            settings: how; None takes the defaults.
            progress: told of each stage.

        Raises:
            InputError: the diptych, the prompt or a setting cannot be used.
            EngineError: the model's output is no picture.
        """
        whole = to_pixels(self._draw(diptych, prompt, settings or DrawingSettings(), "pt", progress))
        return Drawn(whole, right_panel(whole, diptych.panels))

    def _output(
        self, diptych: Diptych, prompt: str, settings: DrawingSettings, output_type: OutputType
    ) -> DipRefGCOutput:
        if output_type == "latent":
            return DipRefGCOutput(self._draw(diptych, prompt, settings, "latent"), None)
        drawn = self.draw(diptych, prompt, settings)
        return DipRefGCOutput(to_output_type(drawn.generated, output_type), drawn)

    def _draw(
        self,
        diptych: Diptych,
        prompt: str | PromptEmbeddings,
        settings: DrawingSettings,
        output_type: Literal["pt", "latent"],
        progress: Progress = no_progress,
    ) -> Tensor:
        """The whole diptych: tokens, or (1, 3, height, 2 * width) in [0, 1]."""
        _check_panels(diptych)
        settings.check()
        embeddings = self._embed_prompt(prompt, progress).to(self._execution_device)
        height, width = diptych.mask.shape
        progress("encoding the conditions", 0.02)
        self.controlnet.given = self._given(diptych, settings, embeddings.tokens.dtype)
        result: Tensor
        try:
            (result,) = super().__call__(
                prompt_embeds=embeddings.tokens,
                pooled_prompt_embeds=embeddings.pooled,
                control_image=[_to_unit(diptych.picture), _to_unit(diptych.edges[..., None].repeat(3, axis=2))],
                control_mode=self.controlnet.modes,
                controlnet_conditioning_scale=settings.scales(self.trained),
                control_guidance_start=settings.starts,
                control_guidance_end=settings.ends,
                height=height,
                width=width,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                generator=settings.generator,
                callback_on_step_end=_step_end(settings, progress),
                callback_on_step_end_tensor_inputs=list(settings.callback_on_step_end_tensor_inputs),
                output_type=output_type,
                return_dict=False,
            )
        finally:
            self.controlnet.given = None
        return result

    def _given(self, diptych: Diptych, settings: DrawingSettings, dtype: torch.dtype) -> Given:
        """What the ControlNets are given beside the arguments of diffusers' pipeline."""
        height, width = diptych.mask.shape
        latents = (height // self.vae_scale_factor, width // self.vae_scale_factor)
        device = self._execution_device
        known = known_latents(diptych.mask, latents)[None]
        mask = mask_tokens(known, self.controlnet.inpainting).to(device, dtype)
        return Given(mask, torch.tensor([settings.guidance_scale], device=device))

    def _embed_prompt(self, prompt: str | PromptEmbeddings, progress: Progress) -> PromptEmbeddings:
        if isinstance(prompt, PromptEmbeddings):
            return prompt
        progress("reading the prompt", 0.0)
        check_length(self.tokenizer_2, prompt)
        tokens, pooled, _ = self.encode_prompt(prompt, None, device=self._execution_device)
        return PromptEmbeddings(tokens, pooled)


def _check_panels(diptych: Diptych) -> None:
    height, width = diptych.picture.shape[:2]
    if height % STEP or width % (2 * STEP):
        raise InputError(
            f"The diptych's panels are {width / 2:g}x{height} pixels; choose a width and a height that are multiples "
            f"of {STEP}."
        )


def _step_end(settings: DrawingSettings, progress: Progress) -> Callable[..., dict[str, Any]]:
    """The callback of the denoising loop: progress, then the caller's own."""
    steps = settings.num_inference_steps

    def on_step_end(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        progress("decoding" if step + 1 == steps else "denoising", 0.04 + 0.92 * (step + 1) / steps)
        callback = settings.callback_on_step_end
        return callback(pipeline, step, timestep, tensors) if callback else tensors

    return on_step_end


def _to_unit(picture: Bytes) -> Tensor:
    """(1, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(picture.copy()).movedim(2, 0)[None] / 127.5 - 1
