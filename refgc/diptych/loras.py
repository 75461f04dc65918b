"""LoRA on the two ControlNets: from files of diffusers or peft, and new ones for training, through peft."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FluxControlNetModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from refgc.diptych.controlnets import ControlNets
from refgc.diptych.sources import LORA_FILE, NAMES, PEFT_CONFIG_FILE, PEFT_FILE, ControlNetName
from refgc.errors import InputError
from refgc.imaging.files import write_files
from refgc.model.freqmole import DOUBLE_STREAM_PROJECTIONS, SINGLE_STREAM_PROJECTIONS
from refgc.model.sharding import is_first_process, whole
from refgc.weight_files import ADAPTER_DTYPES, Header, TensorEntry, read_config, read_header

ADAPTER = "diprefgc"
# Prefixes that tools write before the names of a ControlNet's modules.
PREFIXES = ("base_model.model.", "controlnet.", "transformer.")
# Projections of a double block that change only what becomes of the text's tokens.
TEXT_OUTPUTS = ("attn.add_q_proj", "attn.to_add_out", "ff_context.")
Projections = Literal["all", "attention"]
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


def add(controlnets: ControlNets, *, rank: int, alpha: float, which: Projections, seed: int) -> None:
    """Puts a new LoRA onto each ControlNet, in single precision, and freezes all else of both.

    Blocks whose outputs reach no block of the transformer get none: they would never have a gradient, which DDP does
    not put up with.

    Args:
        controlnets: without LoRA so far, on the CPU, so that every device begins with the same values.
        rank: of each LoRA.
        alpha: the LoRA is scaled by alpha / rank.
        which: the projections that get one.
        seed: of the initial values.
    """
    controlnets.requires_grad_(False)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for controlnet in controlnets.nets:
            names = list(_projections(*controlnets.acting_blocks(controlnet), which))
            controlnet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=names), adapter_name=ADAPTER)
    for _, parameter in trained(controlnets):
        parameter.data = parameter.data.float()


def trained(controlnets: ControlNets) -> Iterator[tuple[str, nn.Parameter]]:
    """The factors of all LoRAs by name, those for inpainting first."""
    return ((name, parameter) for name, parameter in controlnets.named_parameters() if ".lora_" in name)


def save(controlnets: ControlNets, folder: Path) -> None:
    """Writes the LoRAs into the folders "inpainting" and "canny", as diffusers does and `load` reads them.

    Args:
        controlnets: with LoRAs from `add`. Where FSDP2 has sharded them, all processes have to call this, and the first
            one writes.
        folder: made where it does not exist; LoRAs in it are replaced.

    Raises:
        OSError: the disk is full; nothing was written.
    """
    files: dict[Path, Callable[[], bytes]] = {}
    for name, controlnet in zip(NAMES, controlnets.nets, strict=True):
        factors = get_peft_model_state_dict(controlnet, adapter_name=ADAPTER, save_embedding_layers=False)
        tensors = {key: whole(factor).cpu().contiguous() for key, factor in sorted(factors.items())}
        config = controlnet.peft_config[ADAPTER].to_dict()
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        note = {LORA_ADAPTER_METADATA_KEY: json.dumps(plain, sort_keys=True)}
        files[folder / name / LORA_FILE] = partial(to_bytes, tensors, metadata=note)
    if is_first_process():
        write_files(files)


def has_lora(controlnet: FluxControlNetModel) -> bool:
    """Whether a ControlNet has a LoRA that is not fused."""
    return bool(getattr(controlnet, "peft_config", None))


def fuse(controlnet: FluxControlNetModel) -> None:
    """Folds a LoRA, if there is one, into the ControlNet's weights, where it costs no extra time."""
    if has_lora(controlnet):
        controlnet.fuse_lora(safe_fusing=True)
        controlnet.unload_lora()


def _projections(doubles: int, singles: int, which: Projections) -> Iterator[str]:
    """Names of those projections of the first `doubles` and `singles` blocks that change the outputs."""
    for block in range(doubles):
        # Behind the last block nobody reads the text's tokens.
        is_last = block == doubles - 1 and not singles
        for name in DOUBLE_STREAM_PROJECTIONS:
            if _is_wanted(name, which) and not (is_last and name.startswith(TEXT_OUTPUTS)):
                yield f"transformer_blocks.{block}.{name}"
    for block in range(singles):
        yield from (
            f"single_transformer_blocks.{block}.{name}" for name in SINGLE_STREAM_PROJECTIONS if _is_wanted(name, which)
        )


def _is_wanted(name: str, which: Projections) -> bool:
    return which == "all" or name.startswith("attn.")


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
