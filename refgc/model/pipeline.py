"""The paper's pipeline on diffusers: a model that takes two condition pictures, working on the object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline, Flux2KleinPipeline, FluxKontextPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image as PILImage
from torch import Tensor

from refgc.engine import Progress, Viewer, no_progress
from refgc.errors import EngineError, InputError
from refgc.flux.checks import checked_folder, safetensors_only
from refgc.flux.instruction import INSTRUCTION, prompt_for
from refgc.flux.pictures import OutputType, check_output_type, to_output_type, to_pixels
from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.reading import reading
from refgc.hub import find_lora, index_of
from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.image import ImageSource
from refgc.imaging.region import Region
from refgc.model import reference_cache as caching
from refgc.model import weights
from refgc.model.backbones.base import Backbone
from refgc.model.backbones.klein import Klein
from refgc.model.backbones.kontext import Kontext
from refgc.model.drift import Drift, find_drift, undo_shift
from refgc.model.freqmole import FreqMoLE, FreqMoLELinear
from refgc.model.inputs import Inputs, prepare_inputs
from refgc.model.locate import Windows, content_area
from refgc.model.lora_files import check_layers, check_lora
from refgc.model.paste import put_back
from refgc.model.prediction_preview import PredictionPreview
from refgc.model.settings import DenoisingSettings, Start
from refgc.model.tokens import NOISE, PATCH, Conditions, pack, unpack
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
        trust: (height, width) in [0, 1], what of each pixel the correspondence engine placed that the result has; None
            where it took no part in it, or placed nothing.
        drift: how far the redrawn window was from the generated picture; None where that was not looked at.
    """

    picture: Bytes
    share: Floats
    windows: Windows
    stages: dict[str, Bytes]
    trust: Floats | None = None
    drift: Drift | None = None


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
        ids: (tokens, axes), their position ids.
        conditions: the tokens beside them; None where they are in the reference cache.
    """

    tokens: Tensor
    ids: Tensor
    conditions: Conditions | None


OnStepEnd = Callable[[int, Tensor, Tensor, Tensor, PromptEmbeddings], tuple[Tensor, PromptEmbeddings]]


class RefiningPipeline(DiffusionPipeline):
    """Refines the object in a generated picture (LRGI) after a sharp photo of it (HRRI), whatever the model.

    The transformer sees the text, the noise, the HRRI as IMG1 and the enlarged LRGI as IMG2. It works on a window
    around the object, of about a megapixel; the window goes back into the LRGI's plain enlargement.

    Attributes:
        backbone: the architecture.
        freqmole: the experts in the transformer; None for a stock model.
        lora: what the LoRA is named that was given as the adapter; None where there is none.
    """

    backbone: ClassVar[Backbone]
    freqmole: FreqMoLE | None = None
    lora: str | None = None
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        *,
        adapter: str | Path | None = None,
        adapter_revision: str | None = None,
        **options: Any,
    ) -> Self:
        """Load the model, and FreqMoLE into it.

        Args:
            base: folder or Hub repository of a pipeline of this architecture.
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
        fitting = PIPELINES.get(str(index_of(Path(folder)).get("_class_name")))
        if fitting is not None and not issubclass(cls, fitting):
            raise EngineError(
                f"The base {str(base)!r} is {fitting.backbone.title} and not {cls.backbone.title}; load it with "
                f"{fitting.__name__}."
            )
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
        named: dict[str, Any] = {"weight_name": file.name, "use_safetensors": True}
        with reading(source, "adapter"):
            tensors = self.lora_state_dict(file.parent, **named)
        check_layers(tensors, self.transformer, source, kind)
        with reading(source, "adapter"):
            try:
                self.load_lora_weights(file.parent, **named)
            except RuntimeError as error:
                raise ValueError("its shapes are not those of the base") from error
        if not getattr(self.transformer, "peft_config", None):
            raise InputError(f"The adapter {source!r} is {kind} for none of the base's layers; name another.")
        self.transformer.requires_grad_(False)
        self.lora = source
        logger.warning("The adapter %r is %s and no FreqMoLE; the stock model takes it as a LoRA.", source, kind)
        if self.text_encoder is None and any(name.startswith("text_encoder.") for name in tensors):
            logger.warning("The part of %r for the text encoder is left out.", source)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Write the pipeline as one of diffusers' own that any tool loads, with the experts in its weights.

        How they were trained (`reference_cache`, `compact_generated`) is not in there; save the adapter as well.

        Raises:
            EngineError: there are experts that are not fused.
        """
        if any(isinstance(module, FreqMoLELinear) for module in self.transformer.modules()):
            raise EngineError(
                "The experts stand beside the transformer's own weights: call freqmole.fuse() first, or save them "
                "alone with refgc.model.weights.save."
            )
        self.backbone.plain(self).save_pretrained(save_directory, **options)

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
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        strength: float = 1.0,
        init: Start = "generated",
        noise: float | None = None,
        together: bool | None = None,
        checks_drift: bool | None = None,
        whole: bool | None = None,
        reference_cache: bool | None = None,
        compact_generated: bool | None = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
        prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
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
            num_inference_steps: of the whole noise schedule; None takes what the model was made for.
            guidance_scale: of the guidance; None does as the experts were trained, and else as the model was made for.
                A distilled model that is not guided leaves it aside.
            strength: how much of the redrawn object to bring in, from 0 (plain enlargement) to 1. Unlike in other
                diffusers pipelines it says nothing about the schedule; that is `noise`.
            init: what the noise is laid over: "generated", the enlarged LRGI, or "correspondence", the correspondence
                engine's result.
            noise: the share of the schedule that is run, in (0, 1]; None is 1 for the first `init`, 0.3 for the second.
            together: whether the redrawn object is laid over the correspondence engine's result, whose pixels stay
                where that engine is sure of them; None does so without an adapter.
            checks_drift: whether a redrawing that moved the object is put right, and one in another pose refused; None
                does so without an adapter.
            whole: true for the whole frame instead of a window around the object; None does as the experts were
                trained.
            reference_cache: whether the condition tokens attend only among themselves, so that they are computed once;
                None does as the experts were trained.
            compact_generated: whether the LRGI is given at half the size; None does as the experts were trained.
            generator: source of the noise; None draws a seed from torch's own, which torch.manual_seed sets.
            callback_on_step_end: as in every diffusers pipeline.
            callback_on_step_end_tensor_inputs: the tensors it is given.
            prompt_embeds: (1, text tokens, width), instead of a prompt.
            pooled_prompt_embeds: (1, width), goes with `prompt_embeds` of FLUX.1.
            negative_prompt_embeds: as `prompt_embeds`, of an empty prompt, for the base model of FLUX.2.
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
            negative_prompt_embeds=negative_prompt_embeds,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            init=init,
            noise=noise,
            together=together,
            checks_drift=checks_drift,
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
        settings = self._decided(settings or DenoisingSettings())
        inputs, decoded = self._redraw(request, settings, "pt", progress, viewer)
        drawn = to_pixels(decoded)
        progress("putting it back", 0.97)
        stages = {**inputs.stages, "redrawn": drawn}
        base, trust = inputs.upscaled, None
        if settings.together and inputs.correspondence is not None:
            base, trust = inputs.correspondence, inputs.trust
        drift = None
        if settings.checks_drift:
            drift = _drift_of(drawn, inputs.windows, request)
            if drift.is_refused:
                base, trust = inputs.upscaled, None
                if inputs.correspondence is not None:
                    base, trust = inputs.correspondence, inputs.trust
                return Refined(base, np.zeros(base.shape[:2], np.float32), inputs.windows, stages, trust, drift)
            content = content_area(inputs.windows.generated_window, inputs.windows.working_size)
            drawn = undo_shift(drawn, drift, content.size)
        picture, share = put_back(base, drawn, inputs.windows, request.scale, request.strength, trust=trust)
        return Refined(picture, share, inputs.windows, stages, trust, drift)

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
        settings = replace(
            self._decided(settings),
            generator=settings.generator or torch.Generator().manual_seed(request.seed),
        )
        settings.check(self._callback_tensor_inputs)
        embeddings = self._embed_prompt(request, settings, progress)
        inputs = prepare_inputs(request, settings, progress)
        progress("encoding the pictures", 0.08)
        start = self._encode(inputs.start)
        given = self._encode_conditions(inputs, start, embeddings.tokens.dtype)
        progress("denoising", 0.1)
        beginning = _LoopStart(
            pack(self._add_noise(start, settings)).to(embeddings.tokens.dtype),
            self.backbone.positions((start.shape[2], start.shape[3]), NOISE, device=start.device),
            None if settings.reference_cache else given,
        )
        preview = None if viewer is None else PredictionPreview(viewer, request, inputs.windows, self.backbone)
        on_step_end = self._step_end(settings, progress, preview)
        try:
            with self._filled_cache(given, embeddings, settings):
                tokens = self._denoise(beginning, embeddings, settings, on_step_end)
            drawn = tokens if output_type == "latent" else self._decode(tokens, start.shape[2], start.shape[3])
        finally:
            self._forget_run()
        return inputs, drawn

    def _decided(self, settings: DenoisingSettings) -> DenoisingSettings:
        """What the caller left open, decided by the base and by how the experts were trained."""
        return settings.decided(self.backbone.schedule(self), None if self.freqmole is None else self.freqmole.config)

    def prompt_for(self, object_name: str) -> str:
        """The instruction about an object that the experts were trained with, or the paper's."""
        return prompt_for(object_name, INSTRUCTION if self.freqmole is None else self.freqmole.config.prompt)

    def _embed_prompt(
        self, request: RefineRequest, settings: DenoisingSettings, progress: Progress
    ) -> PromptEmbeddings:
        """The prompt's embeddings, on the device."""
        embeddings = settings.embeddings
        if embeddings is None:
            if any(getattr(self, part) is None for part in self.backbone.text_parts):
                raise InputError("The pipeline has no text encoders; give prompt_embeds and what goes with them.")
            progress("reading the prompt", 0.0)
            prompt = settings.prompt or self.prompt_for(request.object_name)
            embeddings = self.backbone.embed(self, prompt, self._execution_device)
        self.backbone.check_embeddings(embeddings, settings.guidance)
        _check_shapes(embeddings, self.transformer.config)
        # Latents take their precision, which has to be that of the weights.
        return embeddings.to(self._execution_device, self.transformer.dtype)

    def _encode(self, pixels: Bytes) -> Tensor:
        """Latents (1, channels, height / 8, width / 8) of a picture, shifted and scaled for the transformer."""
        picture = torch.from_numpy(pixels).to(self._execution_device).movedim(2, 0)[None]
        return self.backbone.encode(self.vae, (picture.float() / 127.5 - 1).to(self.vae.dtype))

    def _decode(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """The picture of a window's tokens, (1, 3, 8 * height, 8 * width) in [0, 1]."""
        latents = self.backbone.to_vae(self.vae, unpack(tokens, height, width))
        decoded: Tensor = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return (decoded / 2 + 0.5).clamp(0, 1)

    def _encode_conditions(self, inputs: Inputs, start: Tensor, dtype: torch.dtype) -> Conditions:
        """The tokens of the reference and of the generated picture, which lies over the noise of `start`."""
        hrri, lrgi = self._encode(inputs.reference), self._encode(inputs.generated)
        given = self.backbone.conditions(hrri, lrgi, over=(start.shape[2], start.shape[3]))
        return Conditions(given.tokens.to(dtype), given.ids)

    def _add_noise(self, start: Tensor, settings: DenoisingSettings) -> Tensor:
        """Latents at the first of the sigmas that are run, after the scheduler's shift."""
        tokens = start.shape[2] * start.shape[3] // PATCH**2
        self.backbone.set_timesteps(
            self.scheduler, settings.sigmas, steps=settings.steps, tokens=tokens, device=start.device
        )
        noise = randn_tensor(start.shape, generator=settings.generator, device=start.device, dtype=start.dtype)
        noised: Tensor = self.scheduler.scale_noise(start, self.scheduler.timesteps[:1], noise)
        return noised

    @contextmanager
    def _filled_cache(
        self, given: Conditions, embeddings: PromptEmbeddings, settings: DenoisingSettings
    ) -> Iterator[None]:
        """With the reference cache it is filled meanwhile."""
        if not settings.reference_cache:
            yield
            return
        try:
            self.backbone.fill(self.transformer, given, embeddings, settings.guidance)
            yield
        finally:
            caching.clear(self.transformer)

    def _denoise(
        self,
        start: _LoopStart,
        embeddings: PromptEmbeddings,
        settings: DenoisingSettings,
        on_step_end: OnStepEnd,
    ) -> Tensor:
        """Runs the scheduler's steps; the clean tokens."""
        tokens, timesteps = start.tokens, self.scheduler.timesteps
        self.scheduler.set_begin_index(0)
        with self.progress_bar(total=len(timesteps)) as bar:
            for number, timestep in enumerate(timesteps):
                sigma = timestep.expand(len(tokens)).to(tokens.dtype) / 1000
                velocity = self.backbone.velocity(
                    self.transformer, tokens, start.ids, start.conditions, embeddings, sigma, settings.guidance
                )
                predicted = tokens.float() - sigma[:, None, None].float() * velocity.float()
                tokens = self.scheduler.step(velocity, timestep, tokens, return_dict=False)[0]
                tokens, embeddings = on_step_end(number, timestep, tokens, predicted, embeddings)
                bar.update()
        return tokens

    def _step_end(
        self, settings: DenoisingSettings, progress: Progress, preview: PredictionPreview | None
    ) -> OnStepEnd:
        """The callback of the loop: progress, the preview after all steps but the last, and the caller's callback."""
        steps = len(settings.sigmas)

        def on_step_end(
            step: int, timestep: Tensor, tokens: Tensor, predicted: Tensor, embeddings: PromptEmbeddings
        ) -> tuple[Tensor, PromptEmbeddings]:
            is_last = step + 1 == steps
            progress("decoding" if is_last else "denoising", 0.1 + 0.84 * (step + 1) / steps)
            if preview is not None and not is_last:
                preview.show(step, predicted, self.vae)
            if settings.callback_on_step_end is None:
                return tokens, embeddings
            offered = {"latents": tokens, "prompt_embeds": embeddings.tokens}
            given = {name: offered[name] for name in settings.callback_on_step_end_tensor_inputs}
            back = settings.callback_on_step_end(self, step, timestep, given)
            words = back.get("prompt_embeds", embeddings.tokens)
            return back.get("latents", tokens), replace(embeddings, tokens=words)

        return on_step_end

    def _forget_run(self) -> None:
        """Frees what a step cache keeps: the next picture is not to be compared."""
        if self.transformer.is_cache_enabled:
            self.transformer._reset_stateful_cache()
        self.maybe_free_model_hooks()


def _check_shapes(embeddings: PromptEmbeddings, config: Any) -> None:
    """Refuses embeddings of more than one prompt, or of another model's text encoder."""
    width = config.joint_attention_dim
    for name, given, wanted in (
        ("prompt_embeds", embeddings.tokens, (1, None, width)),
        ("negative_prompt_embeds", embeddings.negative, (1, None, width)),
        ("pooled_prompt_embeds", embeddings.pooled, (1, getattr(config, "pooled_projection_dim", None))),
    ):
        if given is None or _is_of_shape(given, wanted):
            continue
        shape = ", ".join("tokens" if side is None else str(side) for side in wanted)
        raise InputError(f"The shape of {name} is {tuple(given.shape)}; the model reads one prompt as ({shape}).")


def _is_of_shape(tensor: Tensor, sides: tuple[int | None, ...]) -> bool:
    """Whether a tensor has these sides; None stands for any."""
    return len(tensor.shape) == len(sides) and all(
        wanted in (None, found) for wanted, found in zip(sides, tensor.shape, strict=True)
    )


def _drift_of(drawn: Bytes, windows: Windows, request: RefineRequest) -> Drift:
    """How far a redrawn window is from that of the generated picture."""
    window = Region(*windows.generated_window)
    content = np.asarray(content_area(windows.generated_window, windows.working_size).of(drawn), np.uint8)
    mask = windows.generated_mask
    outline = None if mask is None else np.asarray(window.of(mask), np.float32)
    return find_drift(content, np.asarray(window.of(request.generated.pixels), np.uint8), outline)


class RefGCSR2Pipeline(RefiningPipeline, FluxKontextPipeline):
    """On FLUX.1-Kontext, as in the paper."""

    backbone = Kontext()

    @classmethod
    def load_lora_into_text_encoder(
        cls, state_dict: dict[str, Tensor], network_alphas: Any, text_encoder: Any, **options: Any
    ) -> None:
        """As in diffusers; where the pipeline has no text encoder, that part of a LoRA is left out."""
        if text_encoder is not None:
            super().load_lora_into_text_encoder(state_dict, network_alphas, text_encoder, **options)


class RefGCSR2KleinPipeline(RefiningPipeline, Flux2KleinPipeline):
    """On FLUX.2 [klein], the distilled or the base model."""

    backbone = Klein()


PIPELINES: dict[str, type[RefGCSR2Pipeline] | type[RefGCSR2KleinPipeline]] = {
    name: pipeline
    for pipeline in (RefGCSR2Pipeline, RefGCSR2KleinPipeline)
    for name in (pipeline.__name__, pipeline.backbone.pipeline.__name__)
}
"""The pipeline for each class that a model_index.json names."""
