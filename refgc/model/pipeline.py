"""The paper's pipeline on diffusers: FLUX.1-Kontext with two condition pictures, working on the object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from diffusers import FluxKontextPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image as PILImage
from torch import Tensor

from refgc.engine import Progress, Viewer, no_progress
from refgc.errors import EngineError, InputError
from refgc.flux.checks import checked_folder, safetensors_only
from refgc.flux.pictures import OutputType, check_output_type, to_output_type, to_pixels
from refgc.flux.prompts import INSTRUCTION, check_length, prompt_for
from refgc.flux.reading import reading
from refgc.hub import find_lora
from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.image import ImageSource
from refgc.model import reference_cache as caching
from refgc.model import weights
from refgc.model.freqmole import FreqMoLE, FreqMoLELinear
from refgc.model.inputs import Inputs, prepare_inputs
from refgc.model.locate import Windows
from refgc.model.lora_files import check_lora
from refgc.model.paste import put_back
from refgc.model.prediction_preview import PredictionPreview, recorded_predictions
from refgc.model.settings import DenoisingSettings, Start
from refgc.model.tokens import NOISE, PATCH, Conditions, conditions, pack, position_ids
from refgc.request import SEED_LIMIT, RefineRequest, make_request

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refined:
    """One refinement.

    Attributes:
        picture: uint8 RGB of exactly `scale` times the generated picture.
        share: (height, width) of the same size in [0, 1], what of each pixel the model drew.
        windows: where it worked.
        stages: pictures that explain the result, uint8 RGB by name, "upscaled" first.
    """

    picture: Bytes
    share: Floats
    windows: Windows
    stages: dict[str, Bytes]


@dataclass
class RefGCSR2Output(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: one picture: a PIL image; for "np" (1, height, width, 3) and for "pt" (1, 3, height, width) in [0, 1];
            for "latent" the tokens of the refined window, (1, tokens, 4 * latent channels).
        refined: the details; None for "latent".
    """

    images: list[PILImage.Image] | Floats | Tensor
    refined: Refined | None


@dataclass(frozen=True, slots=True)
class _LoopStart:
    """What the denoising loop starts from.

    Attributes:
        tokens: (1, tokens, 4 * latent channels), the noisy latents.
        ids: (tokens, 3), their position ids.
        conditions: the tokens beside them; None where they are in the reference cache.
    """

    tokens: Tensor
    ids: Tensor
    conditions: Conditions | None


class RefGCSR2Pipeline(FluxKontextPipeline):
    """Refines the object in a generated picture (LRGI) after a sharp photo of it (HRRI).

    The transformer sees the text, the noise, the HRRI as IMG1 and the enlarged LRGI as IMG2. It works on a window
    around the object, at the sizes Kontext was trained on; the window goes back into the LRGI's plain enlargement.

    Attributes:
        freqmole: the experts in the transformer; None for the stock FLUX.1-Kontext.
        lora: what the LoRA is named that was given as the adapter; None where there is none.
    """

    freqmole: FreqMoLE | None = None
    lora: str | None = None
    _loop_start: _LoopStart

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        *,
        adapter: str | Path | None = None,
        adapter_revision: str | None = None,
        **options: Any,
    ) -> Self:
        """Load FLUX.1-Kontext, and FreqMoLE into it.

        Args:
            base: folder or Hub repository of a FluxKontextPipeline.
            adapter: folder or Hub repository with the experts' weights. A LoRA (a file, or a folder that holds one) is
                loaded as such into the stock model.
            adapter_revision: branch, tag or commit of the adapter's repository; None takes main.
            options: as for any diffusers pipeline: dtype, transformer, quantization_config, ...; token, cache_dir and
                local_files_only hold for the adapter, too.

        Raises:
            InputError: the adapter is damaged or belongs to another base, or pickles are asked for.
            EngineError: the base's files are damaged, are pickles, or do not fit its config.
            OSError: the base cannot be had; `refgc.model.loading` says what to do about it.
        """
        options = safetensors_only(options)
        folder = checked_folder(cls, base, options)
        pipeline: Self = super().from_pretrained(folder, **options)
        if adapter is not None and (lora := find_lora(str(adapter))) is not None:
            pipeline.load_lora(lora, str(adapter))
        elif adapter is not None:
            hub = {name: options[name] for name in ("token", "cache_dir", "local_files_only") if name in options}
            pipeline.freqmole = weights.load(pipeline.transformer, adapter, revision=adapter_revision, **hub)
        return pipeline

    def load_lora_weights(self, source: str | Path | dict[str, Tensor], **options: Any) -> None:
        """Load a LoRA as any diffusers pipeline does, also beside experts that are not fused."""
        with nullcontext() if self.freqmole is None else self.freqmole.lifted():
            super().load_lora_weights(source, **options)

    def load_lora(self, file: Path, source: str) -> None:
        """Load a LoRA that was given as the adapter, and say what it is.

        Args:
            file: a safetensors file, of diffusers or of kohya's scripts.
            source: what it was named by, for sentences.

        Raises:
            InputError: it is damaged, no LoRA for this base, or one that cannot be loaded.
            EngineError: likewise, for reasons that diffusers tells.
        """
        kind = check_lora(file, source)
        with reading(source, "adapter"):
            try:
                self.load_lora_weights(file.parent, weight_name=file.name, use_safetensors=True)
            except RuntimeError as error:
                raise ValueError("its shapes are not those of the base") from error
        if not getattr(self.transformer, "peft_config", None):
            raise InputError(f"The adapter {source!r} is {kind} for none of the base's layers; name another.")
        self.transformer.requires_grad_(False)
        self.lora = source
        logger.warning("The adapter %r is %s and no FreqMoLE; the stock model takes it as a LoRA.", source, kind)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Write the pipeline as a FLUX.1-Kontext that any tool loads, with the experts in its weights.

        How they were trained (`reference_cache`, `compact_generated`) is not in there; save the adapter as well.

        Raises:
            EngineError: there are experts that are not fused.
        """
        if any(isinstance(module, FreqMoLELinear) for module in self.transformer.modules()):
            raise EngineError(
                "The experts stand beside the transformer's own weights: call freqmole.fuse() first, or save them "
                "alone with refgc.model.weights.save."
            )
        FluxKontextPipeline(**self.components).save_pretrained(save_directory, **options)

    @torch.no_grad()
    def __call__(
        self,
        reference: ImageSource,
        generated: ImageSource,
        prompt: str | None = None,
        *,
        object_name: str = "object",
        reference_mask: ImageSource | None = None,
        generated_mask: ImageSource | None = None,
        scale: int = 4,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 28,
        guidance_scale: float | None = None,
        strength: float = 1.0,
        init: Start = "generated",
        noise: float | None = None,
        whole: bool | None = None,
        reference_cache: bool | None = None,
        compact_generated: bool | None = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
        prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
    ) -> RefGCSR2Output | tuple[Any, ...]:
        """Refine one picture.

        Args:
            reference: the HRRI; a path, PIL image or array.
            generated: the LRGI, likewise.
            prompt: the instruction; None takes the paper's, with `object_name` in it.
            object_name: the object in words, for the paper's prompt.
            reference_mask: the object in the reference; None lets the correspondence engine find it.
            generated_mask: the object in the generated picture; likewise.
            scale: output size over generated size; 1, 2 or 4.
            height: of the window as the model sees it, a multiple of 16; None takes the Kontext size nearest in aspect.
            width: the same.
            num_inference_steps: of the whole noise schedule.
            guidance_scale: of the distilled guidance; None does as the experts were trained, or 2.5.
            strength: how much of the redrawn object to bring in, from 0 (plain enlargement) to 1. Unlike in other
                diffusers pipelines it says nothing about the schedule; that is `noise`.
            init: what the noise is laid over: "generated", the enlarged LRGI, or "correspondence", the correspondence
                engine's result.
            noise: the share of the schedule that is run, in (0, 1]; None is 1 for the first `init`, 0.3 for the second.
            whole: true for the whole frame instead of a window around the object; None does as the experts were
                trained.
            reference_cache: whether the condition tokens attend only among themselves, so that they are computed once;
                None does as the experts were trained.
            compact_generated: whether the LRGI is given at half the size; None does as the experts were trained.
            generator: source of the noise; None draws a seed from torch's own, which torch.manual_seed sets.
            callback_on_step_end: as in every diffusers pipeline.
            callback_on_step_end_tensor_inputs: the tensors it is given.
            prompt_embeds: (1, text tokens, width), instead of a prompt.
            pooled_prompt_embeds: (1, width), goes with `prompt_embeds`.
            output_type: "pil", "np", "pt", or "latent" for the window's tokens before they are decoded.
            return_dict: false for a plain tuple.

        Raises:
            InputError: a picture or an option cannot be used.
            EngineError: the model's output is no picture.
        """
        check_output_type(output_type)
        request = make_request(
            reference,
            generated,
            scale=scale,
            reference_mask=reference_mask,
            generated_mask=generated_mask,
            object_name=object_name,
            strength=strength,
        )
        settings = DenoisingSettings(
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            pooled_prompt_embeds=pooled_prompt_embeds,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            init=init,
            noise=noise,
            whole=whole,
            reference_cache=reference_cache,
            compact_generated=compact_generated,
            generator=generator or torch.Generator().manual_seed(int(torch.randint(SEED_LIMIT - 1, ()))),
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        output = self._output(request, settings, output_type)
        return output if return_dict else (output.images,)

    @torch.no_grad()
    def refine(
        self,
        request: RefineRequest,
        settings: DenoisingSettings | None = None,
        progress: Progress = no_progress,
        viewer: Viewer | None = None,
    ) -> Refined:
        """Refine one request that is checked already.

        Args:
            request: what to refine.
            settings: how; None takes the defaults.
            progress: told of each stage and step.
            viewer: shown, after every other step, the picture that the model predicts.

        Raises:
            InputError: a setting cannot be used.
            EngineError: the model's output is no picture.
        """
        inputs, decoded = self._redraw(request, settings or DenoisingSettings(), "pt", progress, viewer)
        drawn = to_pixels(decoded)
        progress("putting it back", 0.97)
        picture, share = put_back(inputs.upscaled, drawn, inputs.windows, request.scale, request.strength)
        return Refined(picture, share, inputs.windows, {**inputs.stages, "redrawn": drawn})

    def prepare_latents(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """What the base class asks for before its loop: noise, condition tokens, and the ids of both.

        The base class lays out one condition picture; here are two, or none where their keys and values are cached.
        """
        start = self._loop_start
        if start.conditions is None:
            return start.tokens, None, start.ids, None
        return start.tokens, start.conditions.tokens, start.ids, start.conditions.ids

    def _output(self, request: RefineRequest, settings: DenoisingSettings, output_type: OutputType) -> RefGCSR2Output:
        if output_type == "latent":
            return RefGCSR2Output(self._redraw(request, settings, "latent")[1], None)
        refined = self.refine(request, settings)
        return RefGCSR2Output(to_output_type(refined.picture, output_type), refined)

    def _redraw(
        self,
        request: RefineRequest,
        settings: DenoisingSettings,
        output_type: Literal["pt", "latent"],
        progress: Progress = no_progress,
        viewer: Viewer | None = None,
    ) -> tuple[Inputs, Tensor]:
        """What the model was given, and the window that it drew: tokens, or (1, 3, height, width) in [0, 1]."""
        settings.check()
        settings = replace(
            settings.as_trained(None if self.freqmole is None else self.freqmole.config),
            generator=settings.generator or torch.Generator().manual_seed(request.seed),
        )
        embeds, pooled = self._embed_prompt(request, settings, progress)
        inputs = prepare_inputs(request, settings, progress)
        progress("encoding the pictures", 0.08)
        start = self._encode(inputs.start)
        given = self._encode_conditions(inputs, start, embeds.dtype)
        progress("denoising", 0.1)
        self._loop_start = _LoopStart(
            pack(self._add_noise(start, settings)).to(embeds.dtype),
            position_ids((start.shape[2], start.shape[3]), NOISE, device=start.device),
            None if settings.reference_cache else given,
        )
        preview = None if viewer is None else PredictionPreview(viewer, request, inputs.windows)
        try:
            with (
                self._filled_cache(given, pooled, settings) as attention_options,
                self._step_end(settings, progress, preview) as on_step_end,
                self.transformer.cache_context("denoise"),
            ):
                (drawn,) = super().__call__(
                    prompt_embeds=embeds,
                    pooled_prompt_embeds=pooled,
                    height=8 * start.shape[2],
                    width=8 * start.shape[3],
                    max_area=64 * start.shape[2] * start.shape[3],
                    num_inference_steps=len(settings.sigmas),
                    sigmas=settings.sigmas,
                    guidance_scale=settings.guidance_scale,
                    joint_attention_kwargs=attention_options,
                    callback_on_step_end=on_step_end,
                    callback_on_step_end_tensor_inputs=list(settings.callback_on_step_end_tensor_inputs),
                    output_type=output_type,
                    return_dict=False,
                )
        finally:
            self._forget_run()
        return inputs, drawn

    def prompt_for(self, object_name: str) -> str:
        """The instruction about an object that the experts were trained with, or the paper's."""
        return prompt_for(object_name, INSTRUCTION if self.freqmole is None else self.freqmole.config.prompt)

    def _embed_prompt(
        self, request: RefineRequest, settings: DenoisingSettings, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """The prompt's embeddings, (1, text tokens, width) and (1, width)."""
        embeds, pooled = settings.prompt_embeds, settings.pooled_prompt_embeds
        if embeds is not None and pooled is not None:
            # Latents take their precision, which has to be that of the weights.
            return embeds.to(self.transformer.dtype), pooled.to(self.transformer.dtype)
        if self.text_encoder is None or self.text_encoder_2 is None:
            raise InputError("The pipeline has no text encoders; give prompt_embeds and pooled_prompt_embeds.")
        progress("reading the prompt", 0.0)
        prompt = settings.prompt or self.prompt_for(request.object_name)
        check_length(self.tokenizer_2, prompt)
        embeds, pooled, _ = self.encode_prompt(prompt, None, device=self._execution_device)
        return embeds, pooled

    def _encode(self, pixels: Bytes) -> Tensor:
        """Latents (1, channels, height / 8, width / 8) of a picture, shifted and scaled for the transformer."""
        picture = torch.from_numpy(pixels).to(self._execution_device).movedim(2, 0)[None]
        encoded: Tensor = self._encode_vae_image((picture.float() / 127.5 - 1).to(self.vae.dtype), None)
        return encoded

    def _encode_conditions(self, inputs: Inputs, start: Tensor, dtype: torch.dtype) -> Conditions:
        """The tokens of the reference and of the generated picture, which lies over the noise of `start`."""
        hrri, lrgi = self._encode(inputs.reference), self._encode(inputs.generated)
        given = conditions(hrri, lrgi, over=(start.shape[2], start.shape[3]))
        return Conditions(given.tokens.to(dtype), given.ids)

    def _add_noise(self, start: Tensor, settings: DenoisingSettings) -> Tensor:
        """Latents at the first of the sigmas that are run, after the scheduler's shift."""
        config = self.scheduler.config
        shift = calculate_shift(
            start.shape[2] * start.shape[3] // PATCH**2,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        self.scheduler.set_timesteps(sigmas=settings.sigmas, mu=shift, device=start.device)
        noise = randn_tensor(start.shape, generator=settings.generator, device=start.device, dtype=start.dtype)
        noised: Tensor = self.scheduler.scale_noise(start, self.scheduler.timesteps[:1], noise)
        return noised

    @contextmanager
    def _filled_cache(
        self, given: Conditions, pooled: Tensor, settings: DenoisingSettings
    ) -> Iterator[dict[str, Any] | None]:
        """Attention options for the loop; with the reference cache it is filled meanwhile, and they read it."""
        if not settings.reference_cache:
            yield None
            return
        guided = self.transformer.config.guidance_embeds
        guidance = torch.tensor([settings.guidance_scale], device=given.tokens.device) if guided else None
        try:
            caching.fill(self.transformer, given.tokens, given.ids, pooled, guidance)
            yield dict(caching.READ)
        finally:
            caching.clear(self.transformer)

    @contextmanager
    def _step_end(
        self, settings: DenoisingSettings, progress: Progress, preview: PredictionPreview | None
    ) -> Iterator[Callable[..., dict[str, Any]]]:
        """The callback of the loop: progress, the preview after all steps but the last, and the caller's callback."""
        steps = len(settings.sigmas)
        recording: AbstractContextManager[list[Tensor]] = nullcontext([])
        if preview is not None:
            recording = recorded_predictions(self.transformer, self._loop_start.tokens.shape[1])

        with recording as predicted:

            def on_step_end(pipeline: Self, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
                is_last = step + 1 == steps
                progress("decoding" if is_last else "denoising", 0.1 + 0.84 * (step + 1) / steps)
                if preview is not None and not is_last:
                    preview.show(step, predicted[0], self.vae)
                callback = settings.callback_on_step_end
                return callback(pipeline, step, timestep, tensors) if callback else tensors

            yield on_step_end

    def _forget_run(self) -> None:
        """Frees what the loop started from, and what a step cache keeps: the next picture is not to be compared."""
        del self._loop_start
        if self.transformer.is_cache_enabled:
            self.transformer._reset_stateful_cache()
