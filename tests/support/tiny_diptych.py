"""What DipRefGC needs, in miniature: FLUX.1-dev, its two ControlNets and LoRA for them, laid out as on the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxControlNetModel, FluxPipeline
from peft import LoraConfig

from refgc.diptych.conditions import Diptych, build
from refgc.diptych.controlnets import ControlNet
from refgc.imaging.image import Image, Mask
from tests.support.tiny_models import LATENT_CHANNELS, POOLED_WIDTH, TEXT_WIDTH, tiny_pipeline

PANEL = (64, 48)
TARGETS = ["to_q", "to_k", "to_v", "ff.net.2"]


def tiny_controlnet(seed: int, double_blocks: int, single_blocks: int, **config: Any) -> ControlNet:
    """One that goes with `tests.support.tiny_models.tiny_transformer`, and does something at every block."""
    torch.manual_seed(seed)
    controlnet: ControlNet = ControlNet(
        **{
            "in_channels": 4 * LATENT_CHANNELS,
            "num_layers": double_blocks,
            "num_single_layers": single_blocks,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": TEXT_WIDTH,
            "pooled_projection_dim": POOLED_WIDTH,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 6, 6),
            **config,
        }
    )
    with torch.no_grad():
        for parameter in controlnet.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.8 / parameter.shape[1] ** 0.5)
    controlnet.eval()
    return controlnet


def tiny_inpainting(**config: Any) -> ControlNet:
    """With a mask's channels, and blocks of one kind alone, as that of alimama-creative."""
    return tiny_controlnet(1, 2, 0, **{"extra_condition_channels": 4, **config})


def tiny_canny(**config: Any) -> ControlNet:
    """With other numbers of blocks than `tiny_inpainting`."""
    return tiny_controlnet(2, 1, 2, **config)


def save_controlnet(controlnet: ControlNet, folder: Path) -> Path:
    """Writes it with the class name that published ones have in their config; returns `folder`."""
    controlnet.save_pretrained(folder)
    change_config(folder, _class_name="FluxControlNetModel")
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def save_flux_dev(folder: Path, seed: int = 0) -> Path:
    """Writes a FluxPipeline; returns `folder`."""
    FluxPipeline(**tiny_pipeline(seed).components).save_pretrained(folder)
    return folder


def tiny_diptych(seed: int = 0, scene: tuple[int, int] = PANEL, panel: tuple[int, int] = PANEL) -> Diptych:
    """An object of two colours on the left, a hole a little right of the middle of a noisy scene on the right."""
    random = np.random.default_rng(seed)
    width, height = scene
    reference = Image(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.float32)
    mask[height // 4 : height - 8, width // 2 : width - 8] = 1
    whole = np.zeros((40, 40), np.float32)
    whole[4:36, 4:36] = 1
    return build(reference, Mask(whole), Image(picture), Mask(mask), panel=panel)


def add_lora(controlnet: FluxControlNetModel, seed: int = 3, rank: int = 2, alpha: int = 2) -> None:
    """A LoRA as training would leave it: one that does something."""
    controlnet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in controlnet.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))


def save_lora(controlnet: FluxControlNetModel, folder: Path, **options: Any) -> Path:
    """Writes a LoRA for a ControlNet like this one, as diffusers does; returns `folder`."""
    add_lora(controlnet, **options)
    controlnet.save_lora_adapter(folder)
    return folder


@contextmanager
def watched(module: torch.nn.Module) -> Iterator[list[dict[str, Any]]]:
    """Notes what a module is given at each call."""
    calls: list[dict[str, Any]] = []
    handle = module.register_forward_pre_hook(
        lambda _module, _arguments, options: calls.append(options), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()
