"""A base's fingerprint: tells transformers of the same shapes apart, whatever precision they are loaded in."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch.distributed.tensor import DTensor

# Precisions that hold what bfloat16 holds, in which bases are published. From fp16 or fp8 it cannot be had back.
COMPARABLE = (torch.bfloat16, torch.float32, torch.float64)
# What stands in names because a layer is wrapped: by FreqMoLE, by peft, by torch.compile.
WRAPPERS = re.compile(r"\b(base|base_layer|_orig_mod)\.")
# Layers outside of the blocks, which are never quantised and have no experts. Some rows of each tell bases apart.
OUTSIDE = re.compile(r"(x_embedder|context_embedder|proj_out)\.weight")
ROWS = 4


@torch.no_grad()
def fingerprint(transformer: Any) -> str | None:
    """The SHA-256 of all biases and norms, rounded to bfloat16, with their names.

    These are trained with everything else, so that they differ between bases. They are few, and neither quantisation
    nor a LoRA, nor folding one in, changes them. FLUX.2 has no biases, and its norms alone are too few to tell its
    bases apart: the first rows of the layers before and after the blocks are taken as well.

    Args:
        transformer: of any kind, with FreqMoLE or LoRAs or without.

    Returns:
        The digest in hexadecimal; None where the values cannot be read here (offloaded, sharded over processes, or in a
        lower precision), or there are none.
    """
    values = {
        WRAPPERS.sub("", name): parameter
        for name, parameter in transformer.named_parameters()
        if parameter.ndim == 1 and not name.endswith("frequency_gate.logit") and "lora_" not in name
    }
    if not any(name.endswith(".bias") for name in values):
        named = ((WRAPPERS.sub("", name), parameter) for name, parameter in transformer.named_parameters())
        values |= {name: parameter for name, parameter in named if OUTSIDE.fullmatch(name)}
    digest = hashlib.sha256()
    for name, parameter in sorted(values.items()):
        if parameter.dtype not in COMPARABLE or parameter.device.type == "meta" or isinstance(parameter, DTensor):
            return None
        rows = parameter.detach()[:ROWS] if parameter.ndim > 1 else parameter.detach()
        rounded = rows.to("cpu", torch.bfloat16).contiguous()
        digest.update(f"{name} {rounded.numel()} ".encode())
        digest.update(rounded.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if values else None
