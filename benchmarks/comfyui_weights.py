"""Writes models of random weights that ComfyUI loads as it loads any other; a part of `benchmarks.comfyui`.

usage: python comfyui_weights.py FOLDER, run by ComfyUI's Python in ComfyUI's folder

No trained weights can be had without an account or many gigabytes, and a trial of nodes needs none: the pictures are
noise, but they come from ComfyUI's own loaders, samplers and decoders. The networks are built by ComfyUI's own classes,
as small as the loaders allow. Those read the depth of Stable Diffusion 3 and of FLUX.1 off the weights, and the width
of Stable Diffusion 3, which is 64 times its depth. The width of FLUX.1 is fixed, so that two blocks of it take 1.1 GB.

- checkpoints/trial_sd3.safetensors: Stable Diffusion 3 of two blocks, with CLIP-L and a tiny autoencoder (TAESD).
- diffusion_models/trial_flux.safetensors: FLUX.1 of one double-stream and one single-stream block. Its pooled text has
  the width of Stable Diffusion 3's: so the small text encoder of the checkpoint serves it, and T5-XXL is not needed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SEED = 20
# Widths of the text that Stable Diffusion 3's text encoders give, and of the pooled one.
TEXT, POOLED = 4096, 2048
LATENT_CHANNELS = 16
CHECKPOINT, FLUX = "trial_sd3.safetensors", "trial_flux.safetensors"


def main(folder: Path) -> None:
    """Writes both into ComfyUI's folder of models."""
    # ComfyUI reads the command line when it is imported.
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, str(Path.cwd()))
    import comfy.options

    comfy.options.enable_args_parsing()
    torch.manual_seed(SEED)
    write(checkpoint(), folder / "checkpoints" / CHECKPOINT)
    write(flux(), folder / "diffusion_models" / FLUX)


def checkpoint() -> dict[str, torch.Tensor]:
    """Stable Diffusion 3 with all that its checkpoint holds, by the names in the file."""
    import comfy.clip_model
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
    from comfy.ops import disable_weight_init
    from comfy.taesd.taesd import TAESD

    model = MMDiT(
        input_size=None,
        depth=2,
        in_channels=LATENT_CHANNELS,
        adm_in_channels=POOLED,
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 128}},
        num_patches=64**2,
        pos_embed_max_size=64,
        dtype=torch.float16,
        device="cpu",
        operations=disable_weight_init,
    )
    config = json.loads(Path("comfy/sd1_clip_config.json").read_text())
    text = comfy.clip_model.CLIPTextModel(config, torch.float16, "cpu", disable_weight_init)
    return {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in drawn(model).items()},
        **{f"text_encoders.clip_l.transformer.{name}": tensor for name, tensor in drawn(text).items()},
        **{f"first_stage_model.{name}": tensor for name, tensor in drawn(TAESD(latent_channels=16)).items()},
    }


def flux() -> dict[str, torch.Tensor]:
    """FLUX.1 as its files of the transformer alone name the weights."""
    from comfy.ldm.flux.model import Flux
    from comfy.ops import disable_weight_init

    model = Flux(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        vec_in_dim=POOLED,
        context_in_dim=TEXT,
        hidden_size=3072,
        mlp_ratio=4.0,
        num_heads=24,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=10000,
        patch_size=2,
        qkv_bias=True,
        guidance_embed=True,
        dtype=torch.bfloat16,
        device="cpu",
        operations=disable_weight_init,
    )
    return drawn(model)


def drawn(network: Any) -> dict[str, torch.Tensor]:
    """Random weights of a network: matrices that keep the size of what goes through them, norms of 1, biases of 0."""
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            weights[name] = tensor
        elif tensor.ndim > 1:
            inputs = tensor[0].numel()
            weights[name] = torch.empty_like(tensor).normal_(std=inputs**-0.5)
        else:
            is_scale = "norm" in name and name.endswith(("weight", "scale"))
            weights[name] = torch.full_like(tensor, 1.0 if is_scale or name == "vae_scale" else 0.0)
    return weights


def write(weights: dict[str, torch.Tensor], file: Path) -> None:
    """Writes a safetensors file, and the folder where it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
