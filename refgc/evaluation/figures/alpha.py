"""Alpha by block: how far each block of an adapter leans to the low-frequency expert. Needs no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from refgc import hub
from refgc.errors import InputError, quoted
from refgc.evaluation.figures.drawing import (
    COLOURS,
    DPI,
    GREY,
    SMALL,
    check_outputs,
    figure_style,
    plain_text,
    save_data,
    save_figure,
)
from refgc.model.initial_alpha import AlphaByDepth
from refgc.weight_files import LENGTH_BYTES, WeightFileError, own_file, read_config, read_header

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A gate in the file of an adapter, and the two kinds of blocks in the order in which they run.
LOGIT = ".frequency_gate.logit"
KINDS = ("transformer_blocks", "single_transformer_blocks")
KIND_NAMES = ("double-stream", "single-stream")
CONFIG_FILE, WEIGHTS_FILE = hub.ADAPTER_FILES
# How the numbers of a logit are stored, by the name of their dtype.
FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e"}
SIZE = (7.0, 2.6)


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates of an adapter.

    Attributes:
        label: as a figure calls the adapter.
        base: what it was trained on, as its config says.
        blocks: names, such as "transformer_blocks.0", in the order in which they run.
        alphas: of each block, in (0, 1).
        initial: where each started; None where the config does not say, or names projections of one kind of block
            only, so that the number of all blocks is not known.
    """

    label: str
    base: str | None
    blocks: tuple[str, ...]
    alphas: tuple[float, ...]
    initial: tuple[float, ...] | None


def make_alpha(adapters: Sequence[str], outputs: Sequence[Path], *, dpi: int = DPI) -> Path:
    """Draw alpha by block of one or several adapters.

    Args:
        adapters: each a folder or Hub repository, or LABEL=FOLDER.
        outputs: files that end in .pdf, .svg or .png.
        dpi: pixels an inch.

    Returns:
        The file with the figure's data.

    Raises:
        InputError: an adapter has no gates or is damaged, adapters have other blocks, or a file cannot be written.
        EngineError: an adapter cannot be had.
    """
    check_outputs(outputs)
    gates = [read_gates(adapter) for adapter in adapters]
    if not gates:
        raise InputError("There is no adapter to show; give its folder.")
    for one in gates[1:]:
        if one.blocks != gates[0].blocks:
            raise InputError(
                f"The adapters {quoted(gates[0].label)} and {quoted(one.label)} have gates on other blocks; draw them "
                "in figures of their own."
            )
    with figure_style():
        save_figure(draw_alpha(gates), outputs, dpi=dpi)
    return save_data({"figure": "alpha", "adapters": [_data(one) for one in gates]}, outputs)


def read_gates(adapter: str) -> Gates:
    """The gates of an adapter that `refgc.model.weights.save` wrote; only their few bytes of the file are read.

    Args:
        adapter: a folder or Hub repository, or LABEL=FOLDER.

    Raises:
        InputError: it is a LoRA, which has no gates, or it is damaged.
        EngineError: it cannot be had.
    """
    label, equals, source = adapter.partition("=")
    if not equals or Path(adapter).exists():
        label, source = Path(adapter).name, adapter
    folder = hub.fetch_adapter(source)
    if folder.is_file():
        raise InputError(f"The adapter {quoted(source)} is a LoRA, which has no gates; give one of FreqMoLE.")
    called = f"The adapter {quoted(source)}"
    logits = _logits(own_file(folder, WEIGHTS_FILE, called), called)
    config = _config(own_file(folder, CONFIG_FILE, called), called)
    blocks = tuple(sorted(logits, key=_place))
    base = config.get("base")
    return Gates(
        label,
        base if isinstance(base, str) else None,
        blocks,
        tuple(1 / (1 + math.exp(-logits[block])) for block in blocks),
        _initial(config, blocks, called),
    )


def draw_alpha(adapters: Sequence[Gates]) -> Figure:
    """The figure of some adapters, whose gates are on the same blocks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    numbers = np.arange(len(adapters[0].blocks))
    _mark_kinds(axes, adapters[0].blocks)
    starts = {one.initial for one in adapters}
    for colour, one in zip(_colours(len(adapters)), adapters, strict=True):
        if one.initial is not None:
            named = "start of training" if len(starts) == 1 else f"{one.label}: start of training"
            seen = axes.get_legend_handles_labels()[1]
            axes.plot(
                numbers,
                one.initial,
                color=GREY if len(starts) == 1 else colour,
                linestyle=":",
                label="_" if plain_text(named) in seen else plain_text(named),
            )
    for colour, one in zip(_colours(len(adapters)), adapters, strict=True):
        axes.plot(numbers, one.alphas, color=colour, marker="o", markersize=2.5, label=plain_text(one.label))
    axes.axhline(0.5, color=GREY, linewidth=0.6)
    axes.set(
        xlim=(-0.5, len(numbers) - 0.5),
        ylim=(0, 1),
        xlabel="block, in the order in which they run",
        ylabel="alpha\n(1: low frequencies, 0: high)",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _mark_kinds(axes: Axes, blocks: Sequence[str]) -> None:
    """A line between double-stream and single-stream blocks, and the name of each part above it."""
    double = sum(block.startswith(f"{KINDS[0]}.") for block in blocks)
    if 0 < double < len(blocks):
        axes.axvline(double - 0.5, color=GREY, linewidth=0.8, linestyle="--")
    for name, first, end in ((KIND_NAMES[0], 0, double), (KIND_NAMES[1], double, len(blocks))):
        if first < end:
            middle = (first + end - 1) / 2
            axes.text(
                middle,
                1.02,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                size=SMALL,
                color=GREY,
            )


def _colours(number: int) -> list[str]:
    return [COLOURS[one % len(COLOURS)] for one in range(number)]


def _data(gates: Gates) -> dict[str, Any]:
    return {
        "label": gates.label,
        "base": gates.base,
        "blocks": list(gates.blocks),
        "alpha": list(gates.alphas),
        "initial_alpha": None if gates.initial is None else list(gates.initial),
    }


def _logits(file: Path, called: str) -> dict[str, float]:
    """The logit of each gate by its block."""
    broken = f"{WEIGHTS_FILE} of {called[0].lower()}{called[1:]} is damaged or cut off"
    try:
        names = {name: entry for name, entry in read_header(file).tensors.items() if name.endswith(LOGIT)}
        raw = _raw_values(file, names)
    except FileNotFoundError as error:
        raise InputError(f"{called} has no {WEIGHTS_FILE}; give what training wrote, all of it.") from error
    except (WeightFileError, OSError) as error:
        raise InputError(f"{broken} ({error}); download or copy it again.") from error
    if not names:
        raise InputError(f"{called} has no gates; give one of FreqMoLE.")
    logits = {}
    for name, entry in names.items():
        block = name.removesuffix(LOGIT)
        if entry.size != 1 or entry.dtype not in (*FORMATS, "BF16") or not _is_block(block):
            raise InputError(f"{called} has a gate {quoted(name)} that is none of FreqMoLE's; save it again.")
        logits[block] = _number(raw[name], entry.dtype)
        if not math.isfinite(logits[block]):
            raise InputError(f"{called} is spoilt: {name} is no finite number.")
    return logits


def _raw_values(file: Path, names: Any) -> dict[str, bytes]:
    """The bytes of some tensors. `read_header` has checked that they lie in the file."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        header = json.loads(opened.read(length))
        found = {}
        for name in names:
            start, end = header[name]["data_offsets"]
            opened.seek(LENGTH_BYTES + length + start)
            found[name] = opened.read(end - start)
    return found


def _number(value: bytes, dtype: str) -> float:
    if dtype == "BF16":  # the upper half of a number in single precision
        value, dtype = b"\0\0" + value, "F32"
    return float(struct.unpack(FORMATS[dtype], value)[0])


def _config(file: Path, called: str) -> dict[str, Any]:
    try:
        config = json.loads(read_config(file))
    except (OSError, ValueError) as error:
        raise InputError(f"{CONFIG_FILE} of {called[0].lower()}{called[1:]} cannot be read ({error}).") from error
    return config if isinstance(config, dict) else {}


def _initial(config: dict[str, Any], blocks: Sequence[str], called: str) -> tuple[float, ...] | None:
    kinds = {block.partition(".")[0] for block in blocks}
    if len(kinds) < len(KINDS) or "initial_alpha" not in config:
        return None
    try:
        schedule = AlphaByDepth.model_validate(config["initial_alpha"])
    except ValidationError as error:
        raise InputError(f"{CONFIG_FILE} of {called[0].lower()}{called[1:]} has no sound initial_alpha.") from error
    return tuple(1 / (1 + math.exp(-schedule.logit(number, len(blocks)))) for number in range(len(blocks)))


def _is_block(name: str) -> bool:
    kind, _, number = name.partition(".")
    return kind in KINDS and number.isdecimal() and number.isascii()


def _place(block: str) -> tuple[int, int]:
    kind, _, number = block.partition(".")
    return KINDS.index(kind), int(number)
