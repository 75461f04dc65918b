"""LoRA on the two ControlNets, from files of diffusers or peft."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import FluxControlNetModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from refgc.diptych.controlnets import ControlNets
from refgc.diptych.sources import PEFT_CONFIG_FILE, PEFT_FILE, ControlNetName
from refgc.errors import InputError

ADAPTER = "diprefgc"
# What tools put before the names of a ControlNet's own modules.
PREFIXES = ("base_model.model.", "controlnet.", "transformer.")
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def load(controlnets: ControlNets, files: Mapping[ControlNetName, Path]) -> None:
    """Puts a LoRA on each ControlNet, or on one; what it does is left to diffusers and peft.

    Args:
        controlnets: without LoRA so far.
        files: from `refgc.diptych.sources.find_loras`.

    Raises:
        InputError: a file is damaged or belongs to another model; that ControlNet is unchanged then.
    """
    for name, file in files.items():
        controlnet = controlnets.inpainting if name == "inpainting" else controlnets.canny
        tensors, config = _read(file)
        _check(tensors, controlnet, name, file)
        controlnet.load_lora_adapter(tensors, prefix=None, adapter_name=ADAPTER, metadata=config)


def has_lora(controlnet: FluxControlNetModel) -> bool:
    """Whether a LoRA stands beside a ControlNet's weights."""
    return bool(getattr(controlnet, "peft_config", None))


def fuse(controlnet: FluxControlNetModel) -> None:
    """Folds a LoRA, if there is one, into the ControlNet's weights, where it costs nothing."""
    if has_lora(controlnet):
        controlnet.fuse_lora(safe_fusing=True)
        controlnet.unload_lora()


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors by the names of the ControlNet's own modules, and the config they were trained with, if told."""
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            notes = opened.metadata() or {}
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), "")
        config: dict[str, Any] | None = None
        if LORA_ADAPTER_METADATA_KEY in notes:
            told = json.loads(notes[LORA_ADAPTER_METADATA_KEY])
            config = LoraConfig(**{key.removeprefix(prefix): value for key, value in told.items()}).to_dict()
        elif file.name == PEFT_FILE and file.with_name(PEFT_CONFIG_FILE).is_file():
            config = LoraConfig.from_pretrained(file.parent).to_dict()
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"The LoRA {str(file)!r} is damaged or cut off, or its config is; download or copy it again."
        ) from error
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, config


def _check(tensors: Mapping[str, Tensor], controlnet: FluxControlNetModel, name: ControlNetName, file: Path) -> None:
    modules = {path: module for path, module in controlnet.named_modules() if isinstance(module, nn.Linear)}
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = FACTOR.fullmatch(key)
        if match is None or match["module"] not in modules:
            raise InputError(
                f"The LoRA {str(file)!r} holds {key}, which is none of the {name} ControlNet's; give one that was "
                "trained on it and saved by diffusers or peft."
            )
        if not tensor.float().isfinite().all():
            raise InputError(f"The LoRA {str(file)!r} is spoilt: {key} holds values that are no finite numbers.")
        factors.setdefault(match["module"], {})[match["factor"]] = tensor
    if not factors:
        raise InputError(f"The LoRA {str(file)!r} is empty; give one that was trained.")
    for path, pair in factors.items():
        if len(pair) != 2:
            raise InputError(f"The LoRA {str(file)!r} is incomplete: {path} has only one of its two factors.")
        module, rank = modules[path], len(pair["A"])
        expected = {"A": (rank, module.in_features), "B": (module.out_features, rank)}
        for factor, shape in expected.items():
            if tuple(pair[factor].shape) != shape:
                raise InputError(
                    f"The LoRA {str(file)!r} belongs to another ControlNet: factor {factor} of {path} is "
                    f"{tuple(pair[factor].shape)} where this {name} ControlNet needs {shape}."
                )
