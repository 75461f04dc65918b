"""Tiny networks of random weights that look at one picture, saved as transformers saves its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
    "image_size": 32,
}


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP with both of its towers, whose preprocessor takes the middle square."""
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4},
        vision_config=SIZES,
        projection_dim=24,
    )
    return _saved(
        transformers.CLIPModel(config),
        folder,
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "resample": 3}
        | {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
    )


def save_tiny_dino(folder: Path, kind: str) -> Path:
    """A DINO: of the kind "vit" as the first one, else "dinov2" or "dinov3_vit"."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **SIZES)
    squeezing = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    cropping = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    names = {"vit": "ViTImageProcessor", "dinov2": "BitImageProcessor", "dinov3_vit": "DINOv3ViTImageProcessor"}
    return _saved(
        transformers.AutoModel.from_config(config),
        folder,
        {"image_processor_type": names[kind], "resample": 3, **(cropping if kind == "dinov2" else squeezing)},
    )


def _saved(network: Any, folder: Path, preprocessor: dict[str, object]) -> Path:
    network.save_pretrained(folder)
    told = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    content = {**told, "image_mean": MEAN, "image_std": STD, **preprocessor}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder
