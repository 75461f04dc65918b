"""SAM 2 and SAM 3 in miniature: every part real, of random weights, in folders as they lie on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Sam2Config, Sam2Model, Sam3Config, Sam3VideoConfig, Sam3VideoModel
from transformers.models.sam3.modeling_sam3 import Sam3Model

from tests.support.tiny_models import clip_tokenizer

SAM2_SIDE, SAM3_SIDE = 128, 112
LONGEST_TEXT = 32

DECODER: dict[str, Any] = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
BLOCK = {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 1, "intermediate_size": 32}
VISION = {
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SAM3_SIDE,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    },
    "fpn_hidden_size": 32,
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
}
TRACKER = {
    "vision_config": {"model_type": "sam3_vision_model", **VISION},
    "prompt_encoder_config": {"hidden_size": 32, "image_size": SAM3_SIDE, "patch_size": 14},
    "mask_decoder_config": DECODER,
    "image_size": SAM3_SIDE,
    "memory_attention_hidden_size": 32,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [8, 8],
    "memory_encoder_hidden_size": 32,
    "memory_encoder_output_channels": 16,
    "mask_downsampler_embed_dim": 32,
    "memory_fuser_embed_dim": 32,
    "memory_fuser_intermediate_dim": 32,
    "memory_fuser_num_layers": 1,
}


def save_sam2(folder: Path) -> Path:
    """As facebook/sam2.1-hiera-large: takes clicks and boxes."""
    torch.random.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SAM2_SIDE, SAM2_SIDE],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "blocks_per_stage": [1, 2, 3, 1],
        "window_size_per_stage": [8, 4, 4, 4],
        "global_attention_blocks": [4],
    }
    config = Sam2Config(
        vision_config={
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SAM2_SIDE, "patch_size": 16},
        mask_decoder_config=DECODER,
    )
    _awake(Sam2Model(config)).save_pretrained(folder)
    return folder


def save_sam3(folder: Path, *, tracks: bool = False, **changes: Any) -> Path:
    """As facebook/sam3: the detector, which takes words, and the tracker, which takes clicks and boxes.

    Args:
        folder: to write to; it is returned.
        tracks: whether it can follow objects in a video, for which transformers asks for a memory of 64
            channels, narrower than the rest.
        changes: of the config of the whole.
    """
    torch.random.manual_seed(0)
    detector, tracker = _detector_config(), TRACKER
    if tracks:
        detector, tracker = _wider(detector), {**_wider(tracker), "memory_encoder_output_channels": 64}
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker, **changes)
    config.save_pretrained(folder)
    # The published file has each weight once under the model's own names; save_pretrained would rename the tracker's.
    weights = {name: value.contiguous().clone() for name, value in _awake(Sam3VideoModel(config)).state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save_pretrained(folder)
    return folder


def save_detector(folder: Path) -> Path:
    """SAM 3's detector alone: takes words only."""
    torch.random.manual_seed(0)
    _awake(Sam3Model(Sam3Config(**_detector_config()))).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _detector_config() -> dict[str, Any]:
    return {
        "vision_config": VISION,
        "text_config": {
            "vocab_size": len(_tokenizer()),
            "hidden_size": 32,
            "intermediate_size": 32,
            "projection_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": LONGEST_TEXT,
        },
        "geometry_encoder_config": BLOCK,
        "detr_encoder_config": BLOCK,
        "detr_decoder_config": {**BLOCK, "num_queries": 6},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
    }


def _wider(config: dict[str, Any]) -> dict[str, Any]:
    """The same config with four times the width in every part."""
    widths = ("hidden_size", "embed_dim", "projection_dim")
    return {
        key: _wider(value) if isinstance(value, dict) else 4 * value if key.endswith(widths) else value
        for key, value in config.items()
    }


def _tokenizer():
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = LONGEST_TEXT
    return tokenizer


def _awake(model: Any) -> Any:
    """Weights large enough that what a network sees changes what it says."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=2.0 / parameter.shape[1] ** 0.5)
    return model.eval()
