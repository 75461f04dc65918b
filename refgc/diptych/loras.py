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
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from refgc.diptych.controlnets import ControlNets
from refgc.diptych.sources import PEFT_CONFIG_FILE, PEFT_FILE, ControlNetName
from refgc.errors import InputError
from refgc.weight_files import ADAPTER_DTYPES, Header, TensorEntry, read_config, read_header

ADAPTER = "diprefgc"
# Prefixes that tools write before the names of a ControlNet's modules.
PREFIXES = ("base_model.model.", "controlnet.", "transformer.")
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def load(controlnets: ControlNets, files: Mapping[ControlNetName, Path]) -> None:
    """Loads LoRAs onto the ControlNets through diffusers and peft, after their headers were checked.

    Args:
        controlnets: without LoRA so far.
        files: from `refgc.diptych.sources.find_loras`.

    Raises:
        InputError: a file is damaged or belongs to another model; that ControlNet is unchanged then.
    """
    for name, file in files.items():
        controlnet = controlnets.inpainting if name == "inpainting" else controlnets.canny
        prefix, config = _read_header(file, controlnet, name)
        tensors = _read_tensors(file)
        own_names = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
        controlnet.load_lora_adapter(own_names, prefix=None, adapter_name=ADAPTER, metadata=config)


def has_lora(controlnet: FluxControlNetModel) -> bool:
    """Whether a ControlNet has a LoRA that is not fused."""
    return bool(getattr(controlnet, "peft_config", None))


def fuse(controlnet: FluxControlNetModel) -> None:
    """Folds a LoRA, if there is one, into the ControlNet's weights, where it costs no extra time."""
    if has_lora(controlnet):
        controlnet.fuse_lora(safe_fusing=True)
        controlnet.unload_lora()


def _read_header(
    file: Path, controlnet: FluxControlNetModel, name: ControlNetName
) -> tuple[str, dict[str, Any] | None]:
    """What stands before the ControlNet's own names in a LoRA, and the config it was trained with, if it is there.

    The tensors' names and shapes are compared with the ControlNet's before any tensor is read.
    """
    try:
        header = read_header(file)
        prefix = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in header.tensors)), "")
        config = _config(file, header, prefix)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(_damaged(file)) from error
    _check({key.removeprefix(prefix): entry for key, entry in header.tensors.items()}, controlnet, name, file)
    return prefix, config


def _config(file: Path, header: Header, prefix: str) -> dict[str, Any] | None:
    """The LoRA's config: diffusers keeps it in the header, peft in a file of its own."""
    beside = file.with_name(PEFT_CONFIG_FILE)
    if LORA_ADAPTER_METADATA_KEY in header.metadata:
        kept = json.loads(header.metadata[LORA_ADAPTER_METADATA_KEY])
        config = LoraConfig(**{key.removeprefix(prefix): value for key, value in kept.items()})
    elif file.name == PEFT_FILE and beside.is_file():
        read_config(beside)
        config = LoraConfig.from_pretrained(file.parent)
    else:
        return None
    settings: dict[str, Any] = config.to_dict()
    return settings


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(_damaged(file)) from error
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"The LoRA {str(file)!r} is spoilt: {key} holds values that are no finite numbers.")
    return tensors


def _damaged(file: Path) -> str:
    return f"The LoRA {str(file)!r} is damaged or cut off, or its config is; download or copy it again."


def _check(
    entries: Mapping[str, TensorEntry], controlnet: FluxControlNetModel, name: ControlNetName, file: Path
) -> None:
    modules = {path: module for path, module in controlnet.named_modules() if isinstance(module, nn.Linear)}
    factors: dict[str, dict[str, TensorEntry]] = {}
    for key, entry in entries.items():
        match = FACTOR.fullmatch(key)
        if match is None or match["module"] not in modules:
            raise InputError(
                f"The LoRA {str(file)!r} holds {key}, which is none of the {name} ControlNet's; give one that was "
                "trained on it and saved by diffusers or peft."
            )
        if entry.dtype not in ADAPTER_DTYPES:
            raise InputError(
                f"The LoRA {str(file)!r} stores {key} as {entry.dtype}, which LoRAs are not read from; save it as one "
                f"of {', '.join(ADAPTER_DTYPES)}."
            )
        factors.setdefault(match["module"], {})[match["factor"]] = entry
    if not factors:
        raise InputError(f"The LoRA {str(file)!r} is empty; give one that was trained.")
    for path, pair in factors.items():
        if len(pair) != 2:
            raise InputError(f"The LoRA {str(file)!r} is incomplete: {path} has only one of its two factors.")
        module, rank = modules[path], pair["A"].shape[0] if pair["A"].shape else 0
        expected = {"A": (rank, module.in_features), "B": (module.out_features, rank)}
        for factor, shape in expected.items():
            if pair[factor].shape != shape:
                raise InputError(
                    f"The LoRA {str(file)!r} belongs to another ControlNet: factor {factor} of {path} is "
                    f"{pair[factor].shape} where this {name} ControlNet needs {shape}."
                )
