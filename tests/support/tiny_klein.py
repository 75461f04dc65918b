"""FLUX.2 [klein] in miniature: every part real, of a few thousand random weights, the chat's tokenizer included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from torch import Tensor, nn
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tests.support.tiny_models import LATENT_CHANNELS, awake

QWEN_WIDTH, QWEN_LAYERS = 16, 28
# Three of Qwen's layers side by side.
TEXT_WIDTH = 3 * QWEN_WIDTH
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_klein_transformer(seed: int = 0, double_blocks: int = 2, single_blocks: int = 3) -> Flux2Transformer2DModel:
    """Two heads of 16, in evaluation mode, with weights that keep every branch of a block awake."""
    torch.manual_seed(seed)
    transformer = Flux2Transformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=double_blocks,
        num_single_layers=single_blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return awake(transformer)


def tiny_klein_vae(seed: int = 0) -> AutoencoderKLFlux2:
    """Eight pixels to a latent; its batch norm has seen something, in each channel something else."""
    torch.manual_seed(seed)
    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=64,
    )
    vae.bn.running_mean.copy_(0.3 * torch.randn(4 * LATENT_CHANNELS))
    vae.bn.running_var.copy_(0.5 + torch.rand(4 * LATENT_CHANNELS))
    return vae.eval().requires_grad_(False)


def qwen_tokenizer() -> Qwen2TokenizerFast:
    """Every byte a word piece, with a template of chats."""
    from tokenizers.pre_tokenizers import ByteLevel

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {piece: number for number, piece in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    return Qwen2TokenizerFast(
        vocab=vocabulary, merges=[], chat_template=CHAT, additional_special_tokens=special[1:], model_max_length=4096
    )


def tiny_klein_pipeline(seed: int = 0, *, distilled: bool = True) -> Flux2KleinPipeline:
    """All parts together, as `Flux2KleinPipeline.from_pretrained` gives them."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=QWEN_WIDTH,
            intermediate_size=32,
            num_hidden_layers=QWEN_LAYERS,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            tie_word_embeddings=True,
            max_position_embeddings=1024,
        )
    )
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=tiny_klein_vae(seed),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        transformer=tiny_klein_transformer(seed),
        is_distilled=distilled,
    )


def save_tiny_klein(folder: Path, seed: int = 0, *, distilled: bool = True, **options: Any) -> Path:
    """Writes the pipeline as the Hub lays one out; returns `folder`."""
    tiny_klein_pipeline(seed, distilled=distilled).save_pretrained(folder, **options)
    return folder


def run_klein(transformer: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the transformer makes of 5 text tokens and 12 image tokens, always the same ones; (1, 12, 16)."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    output: Tensor = transformer(
        hidden_states=random(1, 12, 4 * LATENT_CHANNELS),
        encoder_hidden_states=random(1, 5, TEXT_WIDTH),
        timestep=torch.tensor([0.5], dtype=dtype),
        img_ids=torch.cat([torch.zeros(12, 1), random(12, 2).float() * 4, torch.zeros(12, 1)], dim=1),
        txt_ids=torch.nn.functional.pad(torch.arange(5.0)[:, None], (3, 0)),
        return_dict=False,
    )[0]
    return output
