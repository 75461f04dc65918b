"""The paper's pipeline on diffusers: FLUX.1-Kontext with two condition pictures, working on the object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image as PILImage
from torch import Tensor

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import Progress, Viewer, no_progress
from refgc.errors import EngineError, InputError
from refgc.flux.checks import checked_folder, safetensors_only
from refgc.flux.prompts import check_length, prompt_for
from refgc.imaging.arrays import Bytes, Floats, Size, resized
from refgc.imaging.image import Image, ImageSource
from refgc.imaging.upscale import clean_upscale
from refgc.model import reference_cache as caching
from refgc.model import weights
from refgc.model.freqmole import FreqMoLE, FreqMoLELinear
from refgc.model.locate import SIZE_MULTIPLE, Windows, crop, locate
from refgc.model.outlook import EVERY, STAGE, Outlook, decode_reduced, predictions
from refgc.model.paste import put_back
from refgc.model.tokens import NOISE, PATCH, Conditions, conditions, pack, position_ids, unpack
from refgc.request import RefineRequest, make_request

Start = Literal["generated", "correspondence"]
OutputType = Literal["pil", "np", "pt", "latent"]
# How much of the noise schedule is run, by what the noise is laid over. At 1024 x 1024 the last 0.3 of it begin at a
# sigma of 0.56: nearly half of what the latents hold is still the picture. Chosen without having seen a trained model.
NOISE_OVER: dict[Start, float] = {"generated": 1.0, "correspondence": 0.3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a request is refined.

    Attributes:
        prompt: the instruction; None takes the paper's, with the request's object name in it.
        prompt_embeds: (1, text tokens, width), instead of a prompt.
        pooled_prompt_embeds: (1, width), goes with `prompt_embeds`.
        height: of the window as the model sees it, a multiple of 16; None takes the Kontext size nearest in aspect.
        width: the same.
        num_inference_steps: of the whole schedule.
        guidance_scale: of the distilled guidance.
        init: what the noise is laid over: the enlarged LRGI, or the correspondence engine's result.
        noise: the share of the schedule that is run, in (0, 1]; None is 1 over the LRGI, which leaves nothing of it,
            and 0.3 over the correspondence engine's result.
        whole: true for the whole frame instead of a window around the object.
        reference_cache: whether the condition tokens attend only among themselves, so that they are computed once;
            None does as the experts were trained.
        compact_generated: whether the LRGI is given at half the size, a quarter of its tokens; None does as the experts
            were trained.
        generator: source of the noise; None takes the request's seed.
        callback_on_step_end: as in every diffusers pipeline.
        callback_on_step_end_tensor_inputs: the tensors it is given.
    """

    prompt: str | None = None
    prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    height: int | None = None
    width: int | None = None
    num_inference_steps: int = 28
    guidance_scale: float = 2.5
    init: Start = "generated"
    noise: float | None = None
    whole: bool = False
    reference_cache: bool | None = None
    compact_generated: bool | None = None
    generator: torch.Generator | None = None
    callback_on_step_end: Callable[..., dict[str, Any]] | None = None
    callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",)


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
class _Redrawn:
    """The window as the model drew it, not yet put back; tokens or (1, 3, height, width) in [0, 1]."""

    drawn: Tensor
    windows: Windows
    stages: dict[str, Bytes]


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What the loop begins with: noise tokens and their ids, and the condition tokens beside them, if any."""

    tokens: Tensor
    ids: Tensor
    beside: Conditions | None


class RefGCSR2Pipeline(FluxKontextPipeline):
    """Refines the object in a generated picture (LRGI) after a sharp photo of it (HRRI).

    The transformer sees the text, the noise, the HRRI as IMG1 and the enlarged LRGI as IMG2. It works on a window
    around the object, at the sizes Kontext was trained on; the window goes back into the LRGI's clean upscale.

    Attributes:
        freqmole: the experts in the transformer; None for the stock FLUX.1-Kontext.
    """

    freqmole: FreqMoLE | None = None
    _beginning: _Beginning

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
            adapter: folder or Hub repository with the experts' weights.
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
        if adapter is not None:
            hub = {name: options[name] for name in ("token", "cache_dir", "local_files_only") if name in options}
            pipeline.freqmole = weights.load(pipeline.transformer, adapter, revision=adapter_revision, **hub)
        return pipeline

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
        guidance_scale: float = 2.5,
        strength: float = 1.0,
        init: Start = "generated",
        noise: float | None = None,
        whole: bool = False,
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
        """Refine one picture; what is not told here is told in `Settings`.

        Args:
            reference: the HRRI; a path, PIL image or array.
            generated: the LRGI.
            prompt: see `Settings`.
            object_name: the object in words, for the paper's prompt.
            reference_mask: the object in the reference; None lets the correspondence engine find it.
            generated_mask: the object in the generated picture.
            scale: output size over generated size; 1, 2 or 4.
            height: see `Settings`.
            width: see `Settings`.
            num_inference_steps: see `Settings`.
            guidance_scale: see `Settings`.
            strength: how much of the redrawn object to bring in, from 0 (plain upscale) to 1. Unlike in other diffusers
                pipelines it says nothing about the schedule; that is `noise`.
            init: see `Settings`.
            noise: see `Settings`.
            whole: see `Settings`.
            reference_cache: see `Settings`.
            compact_generated: see `Settings`.
            generator: source of the noise; None draws a seed from torch's own, which torch.manual_seed sets.
            callback_on_step_end: see `Settings`.
            callback_on_step_end_tensor_inputs: see `Settings`.
            prompt_embeds: see `Settings`.
            pooled_prompt_embeds: see `Settings`.
            output_type: "pil", "np", "pt", or "latent" for the window's tokens before they are decoded.
            return_dict: false for a plain tuple.

        Raises:
            InputError: a picture or an option cannot be used.
            EngineError: the model's output is no picture.
        """
        if output_type not in get_args(OutputType):
            raise InputError(f"There is no output type {output_type!r}; choose {', '.join(get_args(OutputType))}.")
        request = make_request(
            reference,
            generated,
            scale=scale,
            reference_mask=reference_mask,
            generated_mask=generated_mask,
            object_name=object_name,
            strength=strength,
        )
        settings = Settings(
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
            generator=generator or torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ()))),
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        if output_type == "latent":
            output = RefGCSR2Output(self._redraw(request, settings, no_progress, "latent").drawn, None)
        else:
            refined = self.refine(request, settings)
            output = RefGCSR2Output(_as_type(refined.picture, output_type), refined)
        return output if return_dict else (output.images,)

    @torch.no_grad()
    def refine(
        self,
        request: RefineRequest,
        settings: Settings = Settings(),
        progress: Progress = no_progress,
        viewer: Viewer | None = None,
    ) -> Refined:
        """Refine one request that is checked already.

        Args:
            request: what to refine.
            settings: how.
            progress: told of each stage and step.
            viewer: shown, every other step, what the model is heading for.

        Raises:
            InputError: a setting cannot be used.
            EngineError: the model's output is no picture.
        """
        redrawn = self._redraw(request, settings, progress, "pt", viewer)
        if not torch.isfinite(redrawn.drawn).all():
            raise EngineError(
                "The model drew no finite colours: run it in bfloat16 or float32, or look to its weights."
            )
        progress("putting it back", 0.97)
        drawn = (redrawn.drawn[0].movedim(0, 2).float() * 255).round().to(torch.uint8).cpu().numpy()
        upscaled = redrawn.stages["upscaled"]
        picture, share = put_back(upscaled, drawn, redrawn.windows, request.scale, request.strength)
        return Refined(picture, share, redrawn.windows, {**redrawn.stages, "redrawn": drawn})

    def prepare_latents(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """What the base class asks for before its loop: noise, condition tokens, and the ids of both.

        The base class lays out one condition picture; here are two, or none where their keys and values are cached.
        """
        beginning = self._beginning
        if beginning.beside is None:
            return beginning.tokens, None, beginning.ids, None
        return beginning.tokens, beginning.beside.tokens, beginning.ids, beginning.beside.ids

    def _redraw(
        self,
        request: RefineRequest,
        settings: Settings,
        progress: Progress,
        output_type: Literal["pt", "latent"],
        viewer: Viewer | None = None,
    ) -> _Redrawn:
        steps = _steps_to_run(settings)
        prompt_embeds, pooled_prompt_embeds = self._read(request, settings, progress)
        windows, stages = _look(request, settings, progress)
        progress("encoding the pictures", 0.08)
        width, height = windows.working_size
        start = self._latents_of(stages["start"])
        # Made smaller only once it is cut: a crop at that size could be padded otherwise, and lie beside the noise.
        generated = resized(
            crop(request.generated.pixels, windows.generated_window, windows.working_size),
            self._generated_size(windows, settings),
        )
        given = conditions(
            self._latents_of(stages["reference"]),
            self._latents_of(generated),
            over=(start.shape[2], start.shape[3]),
        )
        given = Conditions(given.tokens.to(prompt_embeds.dtype), given.ids)
        sigmas = np.linspace(1.0, 1 / settings.num_inference_steps, settings.num_inference_steps)[-steps:].tolist()
        generator = settings.generator or torch.Generator().manual_seed(request.seed)

        def on_step_end(pipeline: Self, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            drawn = step + 1 == steps
            progress("decoding" if drawn else "denoising", 0.1 + 0.84 * (step + 1) / steps)
            if viewer is not None and outlook is not None and not drawn and step % EVERY == 0:
                latents = unpack(predicted[0], start.shape[2], start.shape[3])
                viewer(STAGE, Image(outlook.of(decode_reduced(self.vae, latents))))
            callback = settings.callback_on_step_end
            return callback(pipeline, step, timestep, tensors) if callback else tensors

        cached = self._wants_cache(settings)
        outlook = None if viewer is None else Outlook(request, windows)
        progress("denoising", 0.1)
        self._beginning = _Beginning(
            pack(self._noised(start, sigmas, generator)).to(prompt_embeds.dtype),
            position_ids((start.shape[2], start.shape[3]), NOISE, device=start.device),
            None if cached else given,
        )
        attention = self._cache_of(given, pooled_prompt_embeds, settings) if cached else nullcontext()
        listening: AbstractContextManager[list[Tensor]] = nullcontext([])
        if viewer is not None:
            listening = predictions(self.transformer, self._beginning.tokens.shape[1])
        try:
            with (
                attention as attention_options,
                listening as predicted,
                self.transformer.cache_context("denoise"),
            ):
                (drawn,) = super().__call__(
                    prompt_embeds=prompt_embeds,
                    pooled_prompt_embeds=pooled_prompt_embeds,
                    height=height,
                    width=width,
                    max_area=height * width,
                    num_inference_steps=steps,
                    sigmas=sigmas,
                    guidance_scale=settings.guidance_scale,
                    joint_attention_kwargs=attention_options,
                    callback_on_step_end=on_step_end,
                    callback_on_step_end_tensor_inputs=list(settings.callback_on_step_end_tensor_inputs),
                    output_type=output_type,
                    return_dict=False,
                )
        finally:
            # After a failure these would take memory, and a step cache would compare the next picture with this one.
            del self._beginning
            if self.transformer.is_cache_enabled:
                self.transformer._reset_stateful_cache()
        return _Redrawn(drawn, windows, stages)

    def _read(self, request: RefineRequest, settings: Settings, progress: Progress) -> tuple[Tensor, Tensor]:
        """The prompt's embeddings, (1, text tokens, width) and (1, width)."""
        embeds, pooled = settings.prompt_embeds, settings.pooled_prompt_embeds
        if (embeds is None) != (pooled is None) or (embeds is not None and settings.prompt is not None):
            raise InputError("Give either a prompt, or both prompt_embeds and pooled_prompt_embeds.")
        if embeds is not None and pooled is not None:
            return embeds, pooled
        if self.text_encoder is None or self.text_encoder_2 is None:
            raise InputError("The pipeline has no text encoders; give prompt_embeds and pooled_prompt_embeds.")
        progress("reading the prompt", 0.0)
        prompt = settings.prompt or prompt_for(request.object_name)
        check_length(self.tokenizer_2, prompt)
        embeds, pooled, _ = self.encode_prompt(prompt, None, device=self._execution_device)
        return embeds, pooled

    def _latents_of(self, pixels: Bytes) -> Tensor:
        """(1, channels, height / 8, width / 8) latents of a picture, as the transformer knows them."""
        picture = torch.from_numpy(pixels).to(self._execution_device).movedim(2, 0)[None]
        encoded: Tensor = self._encode_vae_image((picture.float() / 127.5 - 1).to(self.vae.dtype), None)
        return encoded

    def _noised(self, start: Tensor, sigmas: list[float], generator: torch.Generator) -> Tensor:
        """Latents at the first of the sigmas that are run, after the scheduler's shift."""
        config = self.scheduler.config
        shift = calculate_shift(
            start.shape[2] * start.shape[3] // PATCH**2,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        self.scheduler.set_timesteps(sigmas=sigmas, mu=shift, device=start.device)
        noise = randn_tensor(start.shape, generator=generator, device=start.device, dtype=start.dtype)
        noised: Tensor = self.scheduler.scale_noise(start, self.scheduler.timesteps[:1], noise)
        return noised

    def _wants_cache(self, settings: Settings) -> bool:
        if settings.reference_cache is None:
            return self.freqmole is not None and self.freqmole.config.reference_cache
        return settings.reference_cache

    def _generated_size(self, windows: Windows, settings: Settings) -> Size:
        """(width, height) at which the LRGI becomes tokens."""
        compact = settings.compact_generated
        if compact is None:
            compact = self.freqmole is not None and self.freqmole.config.compact_generated
        if not compact:
            return windows.working_size
        width, height = (max(1, round(side / 2 / SIZE_MULTIPLE)) * SIZE_MULTIPLE for side in windows.working_size)
        return width, height

    @contextmanager
    def _cache_of(self, given: Conditions, pooled: Tensor, settings: Settings) -> Iterator[dict[str, Any]]:
        """Keys and values of the condition tokens inside, and the attention options that read them."""
        guided = self.transformer.config.guidance_embeds
        guidance = torch.tensor([settings.guidance_scale], device=given.tokens.device) if guided else None
        try:
            caching.fill(self.transformer, given.tokens, given.ids, pooled, guidance)
            yield dict(caching.READ)
        finally:
            caching.clear(self.transformer)


def _steps_to_run(settings: Settings) -> int:
    if settings.num_inference_steps < 1:
        raise InputError(f"The number of steps is {settings.num_inference_steps}; choose 1 or more.")
    if settings.init not in get_args(Start):
        raise InputError(f"There is no init {settings.init!r}; choose {' or '.join(get_args(Start))}.")
    noise = NOISE_OVER[settings.init] if settings.noise is None else settings.noise
    if not 0 < noise <= 1:
        raise InputError(f"The noise is {noise:g}; choose a number above 0 and at most 1.")
    return max(1, round(noise * settings.num_inference_steps))


def _look(request: RefineRequest, settings: Settings, progress: Progress) -> tuple[Windows, dict[str, Bytes]]:
    """Where to work, and the pictures that the model is given, by stage."""
    if (settings.height is None) != (settings.width is None):
        raise InputError("Only one of height and width is given; give both or neither.")
    progress("finding the object", 0.02)
    size = (settings.width, settings.height) if settings.width is not None and settings.height is not None else None
    windows = locate(request, whole=settings.whole, working_size=size)
    width, height = request.generated.size
    upscaled = clean_upscale(request.generated.pixels, (width * request.scale, height * request.scale))
    stages = {"upscaled": upscaled}
    if settings.init == "correspondence":
        progress("placing the reference", 0.04)
        stages["correspondence"] = CorrespondenceEngine().refine(request).image.pixels
    left, top, right, bottom = (side * request.scale for side in windows.generated_window)
    stages["reference"] = crop(request.reference.pixels, windows.reference_window, windows.reference_size)
    stages["start"] = crop(stages.get("correspondence", upscaled), (left, top, right, bottom), windows.working_size)
    return windows, stages


def _as_type(picture: Bytes, output_type: OutputType) -> list[PILImage.Image] | Floats | Tensor:
    if output_type == "pil":
        return [PILImage.fromarray(picture)]
    floats = np.asarray(picture[None] / np.float32(255), np.float32)
    return floats if output_type == "np" else torch.from_numpy(floats).movedim(3, 1)
