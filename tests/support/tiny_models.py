"""FLUX.1-Kontext in miniature: every part real, of a few thousand random weights, tokenizers included."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

CHARACTERS = string.ascii_letters + string.digits + string.punctuation
LATENT_CHANNELS = 4
TEXT_WIDTH, POOLED_WIDTH = 32, 24
CLIP_LENGTH = 77
Transformer = TypeVar("Transformer", bound=nn.Module)


def awake(transformer: Transformer) -> Transformer:
    """The transformer in evaluation mode, with random weights that keep every branch of a block awake."""
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.8 / parameter.shape[1] ** 0.5)
    return transformer.eval().requires_grad_(False)


def tiny_transformer(seed: int = 0, double_blocks: int = 2, single_blocks: int = 3) -> FluxTransformer2DModel:
    """Two heads of 16, with guidance embedding as Kontext has it; fp32, in evaluation mode.

    Weights have a standard deviation that keeps every branch of a block awake: with the default one, untrained
    modulation would close the gates nearly to zero and hide what attention and feed-forward do.
    """
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=double_blocks,
        num_single_layers=single_blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    return awake(transformer)


def tiny_vae(seed: int = 0) -> AutoencoderKL:
    """Eight pixels to a latent, as in FLUX."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    )
    return vae.eval().requires_grad_(False)


def clip_tokenizer() -> CLIPTokenizer:
    """Every character a word piece."""
    pieces = [*CHARACTERS, *(f"{character}</w>" for character in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CLIP_LENGTH)


def t5_tokenizer() -> T5TokenizerFast:
    """Every character a word piece."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((one, -3.0) for one in CHARACTERS)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)


def tiny_pipeline(seed: int = 0) -> FluxKontextPipeline:
    """All parts together, as `FluxKontextPipeline.from_pretrained` gives them."""
    torch.manual_seed(seed)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip),
            hidden_size=POOLED_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=CLIP_LENGTH,
            bos_token_id=clip.bos_token_id,
            eos_token_id=clip.eos_token_id,
            pad_token_id=clip.pad_token_id,
        )
    )
    text_encoder_2 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5),
            d_model=TEXT_WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=tiny_vae(seed),
        text_encoder=text_encoder.eval(),
        tokenizer=clip,
        text_encoder_2=text_encoder_2.eval(),
        tokenizer_2=t5,
        transformer=tiny_transformer(seed),
    )


def save_tiny_base(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Writes the pipeline as the Hub lays one out, with options of `save_pretrained`; returns `folder`."""
    tiny_pipeline(seed).save_pretrained(folder, **options)
    return folder
