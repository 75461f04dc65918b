"""Training of the refiner: FreqMoLE on a frozen FLUX.1-Kontext or FLUX.2 [klein], from cached latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from refgc import hub
from refgc.engine import Progress, no_progress
from refgc.flux.reading import load_transformer, reading
from refgc.model import weights
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.loading import pipeline_class
from refgc.model.objective import ObjectiveTerms
from refgc.model.sharding import is_first_process, is_sharded
from refgc.model.tokens import PATCH
from refgc.model.training_step import TrainingBatch, TrainingStep
from refgc.training.cache import open_cache
from refgc.training.cache_files import Cache, CachedSample, networks_digest, read_latents, read_prompt
from refgc.training.finish import finish
from refgc.training.loop import run_to_end
from refgc.training.order import Draws, Pass, draw, generator_for, shifted
from refgc.training.processes import Processes, placement_for
from refgc.training.records import Records
from refgc.training.samples import Sample
from refgc.training.settings import RefinerRun, resuming_settings
from refgc.training.validation import validate


class Refiner:
    """See `refgc.training.loop.Task`.

    Attributes:
        freqmole: the experts and gates.
        module: computes a step.
        blocks: of the transformer.
        samples: sizes of the latents of each sample.
        validates_every: steps between two validations; 0 for none.
        fixed: what a run that goes on has to find as it was.
    """

    def __init__(
        self, settings: RefinerRun, base: Path, cache: Cache[Sample], device: torch.device, *, shards: bool = False
    ) -> None:
        """Loads the transformer and puts the experts into it; VAE and text encoders stay on the disk.

        Args:
            settings: of the run.
            base: folder of the whole pipeline.
            cache: with all that is read in training.
            device: that this process computes on.
            shards: whether the model is sharded; it is then loaded into main memory.

        Raises:
            EngineError: the base cannot be loaded, or its quantisation needs a library.
        """
        self._settings = settings
        self._base = base
        self._cache = cache
        made_of = pipeline_class(base)
        self._backbone = made_of.backbone
        placement = placement_for(settings.model.quantization, device, in_main_memory=shards)
        transformer = load_transformer(
            base, placement, quantizes=placement.quantization != "none", network=self._backbone.network
        )
        self._dtype = placement.dtype
        if settings.model.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        transformer.train()
        self.freqmole: FreqMoLE = inject(
            transformer, adapter_config(settings, base), generator=generator_for(settings.run.seed, 0, "experts")
        )
        self.module: nn.Module = TrainingStep(self.freqmole, settings.objective)
        self.blocks: Sequence[nn.Module] = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        self.samples: Sequence[Any] = [one.shapes for one in cache.training]
        validation = settings.validation
        self.validates_every = validation.every if cache.validation else 0
        self.fixed: Mapping[str, Any] = {
            **resuming_settings(settings),
            "samples": cache.digest,
            "weights of the base": networks_digest(base, ("transformer",)),
        }
        with reading(base):
            self._scheduler: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler")

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Experts and gates."""
        return self.freqmole.named_parameters()

    def groups(self) -> list[dict[str, Any]]:
        """Experts, and gates where they learn at all."""
        return self._settings.learning.parameter_groups(self.freqmole)

    def batch(self, one: Pass, device: torch.device) -> TrainingBatch:
        """Latents, noise and prompts of a pass; the noise is the same on every device."""
        samples = [self._sample(self._cache.training[number], one.epoch) for number in one.samples]

        def stacked(name: str, dtype: torch.dtype) -> Tensor:
            return torch.stack([sample[name] for sample in samples]).to(device, dtype)

        pooled = stacked("pooled_prompt_embeds", self._dtype) if "pooled_prompt_embeds" in samples[0] else None
        single = partial(stacked, dtype=torch.float32)
        return TrainingBatch(
            ground_truth=single("ground_truth"),
            reference=single("reference"),
            generated=single("generated"),
            noise=single("noise"),
            sigma=single("sigma"),
            prompt_embeds=stacked("prompt_embeds", self._dtype),
            pooled_prompt_embeds=pooled,
            ground_truth_mask=single("ground_truth_mask"),
            reference_mask=single("reference_mask"),
        )

    def clear(self) -> None:
        """Frees the reference cache, which gradient checkpointing has read."""
        step = self.module
        assert isinstance(step, TrainingStep)
        step.clear()

    def before_update(self, step: int) -> None:
        """Gates may be frozen."""
        self._settings.learning.freeze_gates(self.freqmole, step)

    def numbers(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """The objective and its terms, each also by bins of sigma."""
        return ObjectiveTerms(**terms).numbers()

    def state(self) -> dict[str, Any]:
        """Alpha by block."""
        return {"alpha": self.freqmole.alphas()}

    def save_adapter(self, folder: Path) -> None:
        """Experts and gates with their config and card."""
        if is_sharded(self.freqmole.parameters()) or is_first_process():
            weights.save(self.freqmole, folder)

    def validate(self, step: int, module: nn.Module, records: Records) -> dict[str, Any]:
        """Refines pairs of the validation split by the pipeline of inference; draws and scores them."""
        return validate(self.freqmole, module, self._settings, self._base, self._cache, step, records)

    def _sample(self, sample: CachedSample, epoch: int) -> dict[str, Tensor]:
        data = self._settings.data
        draws = draw(
            self._settings.run.seed,
            epoch,
            sample.id,
            self._settings.noise,
            drop_reference=data.drop_reference,
            drop_prompt=data.drop_prompt,
        )
        tensors = read_latents(sample)
        tensors["noise"] = draws.noise(tensors["ground_truth"])
        tensors["sigma"] = self._sigma(draws, tensors["ground_truth"])
        if draws.drops_reference:
            # Without an object in the HRRI its high frequencies are not compared.
            tensors |= {name: torch.zeros_like(tensors[name]) for name in ("reference", "reference_mask")}
        prompt = read_prompt(self._cache.empty_prompt if draws.drops_prompt else sample.prompt)
        tensors["prompt_embeds"] = prompt.tokens[0]
        if prompt.pooled is not None:
            tensors["pooled_prompt_embeds"] = prompt.pooled[0]
        return tensors

    def _sigma(self, draws: Draws, latents: Tensor) -> Tensor:
        if not self._settings.noise.shift:
            return torch.tensor(draws.level)
        steps = self._backbone.schedule(_described(self._base)).steps
        tokens = latents.shape[1] * latents.shape[2] // PATCH**2
        return shifted(draws.level, self._backbone, self._scheduler, steps=steps, tokens=tokens)


def run_refiner(settings: RefinerRun, *, max_steps: int | None = None, progress: Progress = no_progress) -> Path | None:
    """Train the refiner, from the newest checkpoint of the run where there is one.

    Args:
        settings: of the run.
        max_steps: stop after so many steps; None takes those of the settings.
        progress: told of each step.

    Returns:
        The folder of the finished adapter; None in all processes but the first.

    Raises:
        InputError: the cache is not complete, a setting cannot be used, a checkpoint is damaged, or another run is at
            work in the folder.
        EngineError: the base cannot be loaded, a library is missing, or the loss is no number.
        OSError: the disk is full; the newest checkpoint stays as it was.
    """

    def make_task(processes: Processes) -> Refiner:
        progress("checking the cache", 0.0)
        cache = open_cache(settings)
        base = hub.fetch(settings.model.base, "model.base", hub.PIPELINE_FILES)
        progress("loading the model", 0.0)
        return Refiner(settings, base, cache, processes.device, shards=processes.shards)

    return run_to_end(
        settings,
        make_task,
        lambda task, training, records: finish(training, task.freqmole, settings, records),
        quantized=settings.model.quantization != "none",
        advice="set a smaller working_size or samples_at_once, gradient_checkpointing, or quantization = "
        '"int8" (`refgc train estimate` tells what a run takes)',
        max_steps=max_steps,
        progress=progress,
    )


def adapter_config(settings: RefinerRun, base: Path) -> FreqMoLEConfig:
    """The config of the experts, with all that inference has to know of the training."""
    data, model = settings.data, settings.model
    folder = Path(model.base).expanduser()
    options: dict[str, Any] = {
        "rank": model.rank,
        "lora_alpha": model.lora_alpha,
        "initial_alpha": settings.initial_alpha,
        # The adapter is used from other working folders than the run was started in.
        "base": str(folder.resolve()) if folder.is_dir() else model.base,
        "reference_cache": model.reference_cache,
        "compact_generated": data.compact_generated,
        "whole": data.whole,
        "prompt": data.prompt,
        "enlargement": data.enlargement,
    }
    if model.guidance is not None:
        options["guidance"] = model.guidance
    return pipeline_class(base).backbone.adapter_config(**options)


def _described(base: Path) -> Any:
    """What a backbone asks a pipeline about itself, from its index alone."""
    return SimpleNamespace(config=SimpleNamespace(is_distilled=bool(hub.index_of(base).get("is_distilled", True))))
