"""LoRAs that are given as an adapter: recognised by their headers, told apart from FreqMoLE and from each other."""

from __future__ import annotations

from pathlib import Path

from refgc.errors import InputError
from refgc.hub import find_lora
from refgc.weight_files import WeightFileError, read_header

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
        InputError: the file is damaged, no LoRA, or one that diffusers cannot load.
    """
    try:
        kind = kind_of_lora(file)
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
    return kind
