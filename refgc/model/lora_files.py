"""LoRAs that are given as an adapter: recognised by their headers, told apart from FreqMoLE and from each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from refgc.errors import InputError
from refgc.hub import find_lora
from refgc.model.freqmole import features
from refgc.weight_files import WeightFileError, read_header

# The two factors of a layer's update, in the names of diffusers and of kohya's scripts.
FACTORS = ((".lora_A.", ".lora_B."), (".lora_down.", ".lora_up."))
TRANSFORMER = "transformer."
DIFFUSERS, KOHYA, DORA, KOHYA_DORA = "a LoRA", "a LoRA of kohya's scripts", "a DoRA", "a DoRA of kohya's scripts"


def kind_of_lora(file: Path) -> str | None:
    """What a safetensors file holds, as words for a sentence; None where that is no LoRA.

    Raises:
        WeightFileError: the file is damaged.
        OSError: it cannot be read.
    """
    names = read_header(file).tensors
    if any("lora_down" in name for name in names):
        return KOHYA_DORA if any("dora_scale" in name for name in names) else KOHYA
    if any(".lora_A." in name for name in names):
        return DORA if any("lora_magnitude_vector" in name for name in names) else DIFFUSERS
    return None


def refuse_lora(source: str) -> None:
    """Says what a source is that was taken for FreqMoLE's weights and is a LoRA; does nothing where it is none.

    Raises:
        InputError: it is a LoRA.
    """
    file = find_lora(source)
    try:
        kind = None if file is None else kind_of_lora(file)
    except (WeightFileError, OSError):
        return
    if kind is not None:
        raise InputError(
            f"The adapter {source!r} is {kind} and no FreqMoLE; name it in REFGC_ADAPTER or as `adapter` of the "
            "pipeline's from_pretrained, which load it as a LoRA into the stock model."
        )


def check_lora(file: Path, source: str) -> str:
    """What a LoRA is, in words, after its header was read.

    Raises:
        InputError: the file is damaged, no LoRA, lacks factors, or is one that diffusers cannot load.
    """
    try:
        kind, alone = kind_of_lora(file), _alone(read_header(file).tensors)
    except (WeightFileError, OSError) as error:
        raise InputError(f"The adapter {source!r} is damaged or cut off ({error}); fetch it again.") from error
    if kind is None:
        raise InputError(
            f"The adapter {source!r} holds neither FreqMoLE's weights nor a LoRA; give what `save` wrote, or a LoRA."
        )
    if kind == KOHYA_DORA:
        raise InputError(
            f"The adapter {source!r} is {kind}, of which diffusers would leave out a part; convert it to the format of "
            "diffusers, or give a plain LoRA."
        )
    if alone is not None:
        raise InputError(
            f"The adapter {source!r} is {kind} that is incomplete: {alone} stands without the other factor of its "
            "layer; fetch it again."
        )
    return kind


def check_layers(tensors: Mapping[str, Tensor], transformer: Any, source: str, kind: str) -> None:
    """Compares a LoRA with the base's layers; diffusers would leave out those that the base does not have.

    Args:
        tensors: of the LoRA, in the names of diffusers.
        transformer: without LoRAs and experts.
        source: what the LoRA was named by, for sentences.
        kind: from `check_lora`.

    Raises:
        InputError: it belongs to another base, or has values that are no finite numbers.
    """
    layers = {name: module for name, module in transformer.named_modules() if hasattr(module, "in_features")}
    for name, tensor in tensors.items():
        if not tensor.float().isfinite().all():
            raise InputError(f"The adapter {source!r} is spoilt: {name} holds values that are no finite numbers.")
        down, up = ((f"{factor}weight" in name) for factor in FACTORS[0])
        if not name.startswith(TRANSFORMER) or not (down or up):
            continue
        layer = name.removeprefix(TRANSFORMER).partition(".lora_")[0]
        if layer not in layers:
            raise InputError(
                f"The adapter {source!r} is {kind} of another base: this one has no layer {layer}; name its own in "
                "REFGC_BASE."
            )
        inputs, outputs = features(layers[layer])
        if (tensor.shape[1] != inputs) if down else (tensor.shape[0] != outputs):
            raise InputError(
                f"The adapter {source!r} is {kind} of another base: {name} is {tuple(tensor.shape)}, and the layer "
                f"takes {inputs} values and gives {outputs}; name its own in REFGC_BASE."
            )


def _alone(names: Iterable[str]) -> str | None:
    """The first factor that lacks its counterpart; None where all are there."""
    known = set(names)
    others = (
        (name, name.replace(own, other))
        for pair in FACTORS
        for own, other in (pair, pair[::-1])
        for name in sorted(known)
        if own in name
    )
    return next((name for name, other in others if other not in known), None)
