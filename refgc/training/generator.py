"""Training of DipRefGC: a LoRA on each of its two ControlNets beside a frozen FLUX.1-dev, from cached latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from refgc.dataset.manifest import Pair
from refgc.diptych import controlnets, loras
from refgc.diptych.controlnets import ControlNets
from refgc.diptych.sources import NAMES
from refgc.diptych.training_step import DiptychBatch, DiptychStep, DiptychTerms
from refgc.engine import Progress, no_progress
from refgc.flux.reading import load_transformer, reading
from refgc.model.tokens import PATCH
from refgc.training.cache_files import Cache, CachedSample, networks_digest, read_latents, read_prompt
from refgc.training.generator_cache import FLUX, fetch_base, open_cache
from refgc.training.generator_finish import finish
from refgc.training.generator_validation import validate
from refgc.training.loop import run_to_end
from refgc.training.order import Pass, draw, generator_for, shifted
from refgc.training.processes import Processes, placement_for
from refgc.training.records import Records
from refgc.training.settings import GeneratorRun, resuming_settings


class Generator:
    """See `refgc.training.loop.Task`.

    Attributes:
        controlnets: both, with their LoRAs.
        module: computes a step.
        blocks: of the transformer and of both ControlNets.
        samples: sizes of the latents of each sample.
        validates_every: steps between two validations; 0 for none.
        fixed: what a run that goes on has to find as it was.
    """

    def __init__(
        self, settings: GeneratorRun, base: Path, cache: Cache[Pair], device: torch.device, *, shards: bool = False
    ) -> None:
        """Loads transformer and ControlNets and puts the LoRAs onto these; VAE and text encoders stay on the disk.

        Args:
            settings: of the run.
            base: folder of the whole pipeline.
            cache: with all that is read in training.
            device: that this process computes on.
            shards: whether the model is sharded; it is then loaded into main memory.

        Raises:
            EngineError: the base or a ControlNet cannot be loaded, or a quantisation needs a library.
            InputError: the three do not go together.
        """
        self._settings = settings
        self._base = base
        self._cache = cache
        model = settings.model
        placement = placement_for(model.quantization, device, in_main_memory=shards)
        self._dtype = placement.dtype
        # On the CPU first, where the LoRAs get the same initial values for every device.
        inpainting = controlnets.load(model.inpainting_controlnet, "inpainting_controlnet", dtype=placement.dtype)
        canny = controlnets.load(model.canny_controlnet, "canny_controlnet", dtype=placement.dtype)
        transformer = load_transformer(base, placement, quantizes=placement.quantization != "none")
        self.controlnets = ControlNets(inpainting, canny, transformer)
        loras.add(
            self.controlnets,
            rank=model.rank,
            alpha=model.lora_alpha,
            which=model.projections,
            seed=generator_for(settings.run.seed, 0, "LoRA").initial_seed(),
        )
        self.controlnets.to(placement.device)
        networks: list[Any] = [transformer, *self.controlnets.nets]
        if model.gradient_checkpointing:
            for network in networks:
                network.enable_gradient_checkpointing()
        self._step = DiptychStep(
            transformer,
            self.controlnets,
            guidance=model.guidance,
            object_weighted=settings.objective.object_weighted,
        )
        self.module: nn.Module = self._step.train()
        self.blocks: Sequence[nn.Module] = [
            block for one in networks for block in (*one.transformer_blocks, *one.single_transformer_blocks)
        ]
        self.samples: Sequence[Any] = [one.shapes for one in cache.training]
        self.validates_every = settings.validation.every if cache.validation else 0
        self.fixed: Mapping[str, Any] = {
            **resuming_settings(settings),
            "samples": cache.digest,
            "weights of the base": networks_digest(base, ("transformer",)),
        }
        with reading(base):
            self._scheduler: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler")

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The factors of both LoRAs."""
        return loras.trained(self.controlnets)

    def groups(self) -> list[dict[str, Any]]:
        """One for each ControlNet, so that their gradients are logged apart; they learn alike."""
        learning = self._settings.learning
        learnt = {"lr": learning.learning_rate, "weight_decay": learning.weight_decay}
        return [
            {"name": name, "params": [one for key, one in self.trained() if key.startswith(f"nets.{net}.")], **learnt}
            for net, name in enumerate(NAMES)
        ]

    def batch(self, one: Pass, device: torch.device) -> DiptychBatch:
        """Latents, noise and prompts of a pass; the noise is the same on every device."""
        samples = [self._sample(self._cache.training[number], one.epoch) for number in one.samples]
        stacked = {name: torch.stack([sample[name] for sample in samples]).to(device) for name in DiptychBatch._fields}
        return DiptychBatch(
            **{name: tensor.to(self._dtype if "prompt" in name else torch.float32) for name, tensor in stacked.items()}
        )

    def clear(self) -> None:
        """Nothing is kept between passes."""

    def before_update(self, step: int) -> None:
        """All learn from the first step on."""

    def numbers(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """The objective, also by bins of sigma."""
        return DiptychTerms(**terms).numbers()

    def state(self) -> dict[str, Any]:
        """Nothing beside the losses."""
        return {}

    def save_adapter(self, folder: Path) -> None:
        """Both LoRAs, as diffusers writes them."""
        loras.save(self.controlnets, folder)

    def validate(self, step: int, module: nn.Module, records: Records) -> dict[str, Any]:
        """Draws LRGIs of the validation split by the pipeline of inference, and scores them."""
        return validate(self._step, module, self._settings, self._base, self._cache, step, records)

    def _sample(self, sample: CachedSample, epoch: int) -> dict[str, Tensor]:
        data, seed = self._settings.data, self._settings.run.seed
        draws = draw(seed, epoch, sample.id, self._settings.noise, drop_prompt=data.drop_prompt)
        tensors = read_latents(sample)
        truth = tensors["ground_truth"]
        tensors["noise"] = draws.noise(truth)
        tensors["sigma"] = torch.tensor(draws.level)
        if self._settings.noise.shift:
            tokens = truth.shape[1] * truth.shape[2] // PATCH**2
            steps = FLUX.schedule(None).steps
            tensors["sigma"] = shifted(draws.level, FLUX, self._scheduler, steps=steps, tokens=tokens)
        # A generator of its own, so that it moves no other random number.
        chance = torch.rand((), generator=generator_for(seed, epoch, f"{sample.id}/edges"))
        if chance < data.drop_edges:
            tensors["edges"] = torch.zeros_like(tensors["edges"])
        prompt = read_prompt(self._cache.empty_prompt if draws.drops_prompt else sample.prompt)
        assert prompt.pooled is not None, "FLUX.1 has CLIP's embedding"
        return tensors | {"prompt_embeds": prompt.tokens[0], "pooled_prompt_embeds": prompt.pooled[0]}


def run_generator(
    settings: GeneratorRun, *, max_steps: int | None = None, progress: Progress = no_progress
) -> Path | None:
    """Train DipRefGC to the end of the run; goes on after the newest checkpoint where there is one.

    Args:
        settings: of the run.
        max_steps: stop after so many steps; None takes those of the settings.
        progress: told of each step.

    Returns:
        The folder of the finished LoRAs; None in all processes but the first.

    Raises:
        InputError: the cache is not complete, a setting cannot be used, a checkpoint is damaged, or another run is at
            work in the folder.
        EngineError: a network cannot be loaded, a library is missing, or the loss is no number.
        OSError: the disk is full; the newest checkpoint stays as it was.
    """

    def make_task(processes: Processes) -> Generator:
        progress("checking the cache", 0.0)
        cache = open_cache(settings)
        base = fetch_base(settings.model.base)
        progress("loading the model", 0.0)
        return Generator(settings, base, cache, processes.device, shards=processes.shards)

    return run_to_end(
        settings,
        make_task,
        lambda task, training, records: finish(training, task.controlnets, settings, records),
        quantized=settings.model.quantization != "none",
        advice='set a smaller panel_size or samples_at_once, gradient_checkpointing, or quantization = "int8"',
        max_steps=max_steps,
        progress=progress,
    )
