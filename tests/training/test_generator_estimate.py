"""The estimate for DipRefGC counts what its training holds, and moves as the settings say."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from refgc.training.cache_files import read_latents
from refgc.training.generator import Generator
from refgc.training.generator_cache import open_cache
from refgc.training.generator_estimate import estimate_generator
from refgc.training.settings import GeneratorRun
from tests.support.command import run_inside
from tests.support.generator_run import changed, generator_cached, generator_parts  # noqa: F401
from tests.support.training_run import write_run

CPU = torch.device("cpu")


def test_it_counts_what_is_trained_what_is_frozen_and_what_is_cached(generator_cached: GeneratorRun) -> None:  # noqa: F811
    found = estimate_generator(generator_cached)
    cache = open_cache(generator_cached)
    task = Generator(generator_cached, Path(generator_cached.model.base), cache, CPU)
    trained = sum(parameter.numel() for _, parameter in task.trained())
    assert found.trained == trained
    assert found.base == sum(parameter.numel() for parameter in task.module.parameters()) - trained
    latents = read_latents(cache.training[0])
    pictures = sum(latents[name].numel() for name in ("ground_truth", "condition", "edges"))
    config = task.controlnets.inpainting.config
    assert found.cached_bytes == 2 * (pictures + 512 * config.joint_attention_dim + config.pooled_projection_dim)


def test_it_needs_no_weights(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    without = shutil.ignore_patterns("*.safetensors")
    bare = {
        name: str(shutil.copytree(getattr(generator_cached.model, name), tmp_path / name, ignore=without))
        for name in ("base", "inpainting_controlnet", "canny_controlnet")
    }
    assert estimate_generator(changed(generator_cached, tmp_path, model=bare)) == estimate_generator(generator_cached)


def test_it_moves_as_the_settings_say(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    usual = estimate_generator(changed(generator_cached, tmp_path, data={"panel_size": (512, 512)}))
    assert usual == estimate_generator(changed(generator_cached, tmp_path, data={"panel_size": None}))
    assert usual.tokens == 2 * 32 * 32 + 512
    small = estimate_generator(changed(generator_cached, tmp_path, data={"panel_size": (256, 512)}))
    assert small.tokens == 32 * 32 + 512
    assert small.half < usual.half
    whole = estimate_generator(changed(generator_cached, tmp_path, model={"gradient_checkpointing": False}))
    kept = estimate_generator(changed(generator_cached, tmp_path, model={"gradient_checkpointing": True}))
    assert whole.working_bytes > 2 * kept.working_bytes
    assert whole.half < kept.half
    light = estimate_generator(changed(generator_cached, tmp_path, model={"projections": "attention"}))
    assert light.trained < kept.trained
    eighth = estimate_generator(changed(generator_cached, tmp_path, model={"quantization": "int8"}))
    # The ControlNets stay as they are.
    assert kept.base_bytes / 2 < eighth.base_bytes < kept.base_bytes


def test_the_command_prints_it(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    file = write_run(tmp_path / "run.toml", generator_cached.model_dump(mode="json", exclude_none=True))
    said = run_inside("train", "estimate", file, "--gpus", "8").stdout
    for part in ("base: FLUX.1-dev with two ControlNets", "with FSDP2", "hours on 8 x H100"):
        assert part in said
