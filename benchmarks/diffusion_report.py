"""What the diffusion benchmark found, as JSON and as tables."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.diffusion_options import STOCK
from benchmarks.random_model import (
    BACKBONES,
    FULLS,
    QUANTIZATIONS,
    Architecture,
    Sizes,
    count_operations,
    count_resident_bytes,
)
from benchmarks.working_memory import count_working_bytes
from refgc.errors import EngineError, InputError
from refgc.flux.quantization import Quantized

Findings = dict[str, Any]
Rows = Mapping[str, Mapping[str, Any]]

COUNTED_PEAK = (
    "The counted peak is the highest sum of the tensors that are alive at once while a bfloat16 picture is made, on "
    "torch's device meta; for quantised weights the largest layer in 16 bits is added. What kernels allocate for "
    "themselves is not in it. All memory is without the text encoders, which are freed, and without what CUDA takes "
    "for itself."
)
NO_QUALITY = "The weights are random: time and memory are measured, the quality of the pictures is not."
PACKAGES = ("torch", "diffusers", "torchao", "triton", "flash-attn", "xformers", "sageattention")


def report(
    sizes: Sizes,
    device: torch.device,
    rounds: int,
    rows: Rows,
    not_started: list[str],
    counted: Findings,
    dtype: torch.dtype = torch.bfloat16,
) -> Findings:
    """All there is, of four digits, ready for JSON.

    Args:
        sizes: of the model that was measured.
        device: where.
        rounds: counted rounds of each option.
        rows: what was found, by name of option.
        not_started: names of options for which no time was left.
        counted: from `count_full_size`.
        dtype: of the weights that were measured.
    """
    scale = scaled_down(sizes)
    found: Findings = _rounded(
        {
            "quality": NO_QUALITY,
            "scaled_down": scale,
            "machine": describe(device),
            "sizes": dataclasses.asdict(sizes)
            | {"picture_tokens": sizes.picture_tokens, "dtype": str(dtype).removeprefix("torch.")},
            "rounds": rounds,
            "clock": "wall clock" if device.type == "cuda" else "processor time of one thread",
            "goals": goals(
                rows, counted, judged=scale is None and device.type == "cuda", architecture=sizes.architecture
            ),
            "options": [{**row, **_over_one_picture(row, rows)} for row in rows.values()],
            "not_started": not_started,
            "counted_at_full_size": counted,
        }
    )
    return found


def count_full_size(device: torch.device, architecture: Architecture = "kontext") -> Findings:
    """What is known of the full size without running it: operations and resident bytes."""
    full = FULLS[architecture]
    operations: list[dict[str, Any]] = [
        {"reference_cache": cached, "compact_generated": compact}
        | count_operations(full, cached=cached, compact=compact)
        for cached, compact in ((False, False), (True, False), (False, True), (True, True))
    ]
    for row in operations:
        row["fewer_step"] = operations[0]["step"] / row["step"]
        row["fewer_picture"] = operations[0]["picture"] / row["picture"]
    working = count_working_bytes(full, cached=True)
    return {
        "tera_operations": operations,
        "memory": COUNTED_PEAK,
        "resident": [_resident(device, kind, full, working) for kind in (None, *QUANTIZATIONS)],
    }


def goals(
    rows: Rows, counted: Findings, *, judged: bool, architecture: Architecture = "kontext"
) -> list[dict[str, Any]]:
    """What was hoped for, what was found, and whether the one meets the other; None where that cannot be told.

    Speed is judged at the full size on a GPU alone, and memory is measured there. Elsewhere memory is counted.
    """

    def speedup(option: str) -> float | None:
        return rows.get(option, {}).get("speedup_step")

    def faster(option: str, least: float) -> dict[str, Any]:
        found = speedup(option)
        met = found >= least if judged and found is not None else None
        return {"goal": f"{option}: a step at least {least} times faster", "found": found, "met": met}

    def within(what: str, counted_peak: float | None, most: float) -> dict[str, Any]:
        option, name = f"quantisation {what}", "peak_gigabytes_with_cache"
        if what == "bfloat16":
            option, name = "reference cache", "peak_gigabytes"
        measured = rows.get(option, {}).get(name) if judged else None
        found = counted_peak if measured is None else measured
        goal = f"{what} with the reference cache and working memory: within {most} GB"
        how = "counted" if measured is None else "measured"
        return {"goal": goal, "found": found, "met": None if found is None else found <= most, "how": how}

    def quick(option: str, most: float) -> dict[str, Any]:
        found = rows.get(option, {}).get("seconds_picture")
        met = found <= most if judged and found is not None else None
        return {"goal": f"{option}: a window of 1024 x 1024 in at most {most} s", "found": found, "met": met}

    fused = speedup("FreqMoLE fused")
    ratio = None if fused is None else 1 / fused
    resident = {row["weights"]: row.get("gigabytes_peak") for row in counted["resident"]}
    speed = [faster("reference cache", 2.3), faster("all lossless", 3.0), faster("everything", 5.0)]
    most = {"bfloat16": 40}
    if architecture == "klein":
        speed, most = [quick(option, 2.0) for option in (STOCK[2], "plain", "all lossless")], {"bfloat16": 16}
    return [
        {
            "goal": "FreqMoLE fused: 1.00 +- 0.02 of the yardstick's time",
            "found": ratio,
            "met": abs(ratio - 1) <= 0.02 if judged and ratio is not None else None,
        },
        *speed,
        *(within(kind, found, most.get(kind, min(24, most["bfloat16"]))) for kind, found in resident.items()),
    ]


def _over_one_picture(row: Mapping[str, Any], rows: Rows) -> dict[str, float]:
    """How many times faster a step is than that of diffusers' pipeline with one picture; both against the yardstick."""
    own, one = (each.get("speedup_step") for each in (row, rows.get(STOCK[1], {})))
    return {"speedup_step_over_one_picture": own / one} if own is not None and one is not None else {}


def scaled_down(sizes: Sizes) -> str | None:
    """How the model and its work differ from the real ones; None where they do not."""
    whole = FULLS[sizes.architecture]
    values = ((one.name, getattr(sizes, one.name), getattr(whole, one.name)) for one in dataclasses.fields(Sizes))
    differences = [f"{name.replace('_', ' ')} {own} (of {full})" for name, own, full in values if own != full]
    return ", ".join(differences) or None


def describe(device: torch.device) -> dict[str, Any]:
    """The machine and what is installed on it."""
    name, gigabytes = f"CPU ({_processor()})", None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, gigabytes = properties.name, properties.total_memory / 1e9
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "device": name,
        "device_gigabytes": gigabytes,
        "cuda": torch.version.cuda,
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def reason_of(error: Exception) -> str:
    """One line; the project's own errors are sentences already."""
    words = " ".join(str(error).split())[:300] or "no reason given"
    return words if isinstance(error, EngineError | InputError) else f"{type(error).__name__}: {words}"


def show(console: Console, found: Findings) -> None:
    """The tables for people."""
    machine, sizes, counted = found["machine"], found["sizes"], found["counted_at_full_size"]
    console.print(
        f"{machine['device']}, torch {machine['versions']['torch']}, {found['clock']}; {sizes['steps']} steps of "
        f"{sizes['text_tokens']} text tokens and 3 x {sizes['picture_tokens']} of {sizes['height']} x {sizes['width']}"
    )
    if found["scaled_down"]:
        console.print(f"[bold]Scaled down:[/bold] {found['scaled_down']}.")
    console.print(found["quality"])
    title = escape(BACKBONES[sizes["architecture"]].title)
    console.print(_options([row for row in found["options"] if "reason" not in row], title))
    console.print(_missing([row for row in found["options"] if "reason" in row]))
    if found["not_started"]:
        console.print(f"Not started, for the time was spent: {', '.join(found['not_started'])}.")
    console.print(_operations(counted["tera_operations"], FULLS[sizes["architecture"]]))
    console.print(_residents(counted["resident"]))
    console.print(counted["memory"])
    console.print(_goals(found["goals"]))


def _options(rows: list[dict[str, Any]], title: str) -> Table:
    table = _table(
        f"in turn with a plain {title} over both pictures; and compared with diffusers' pipeline over one picture",
        [
            "option",
            "s a step",
            "times faster",
            "than one picture",
            "s a picture",
            "times faster",
            "weights GB",
            "cache GB",
            "peak GB",
            "counted",
            "",
        ],
    )
    columns = (
        ("seconds_step", 3),
        ("speedup_step", 2),
        ("speedup_step_over_one_picture", 2),
        ("seconds_picture", 2),
        ("speedup_picture", 2),
        ("weight_gigabytes", 3),
        ("cache_gigabytes", 3),
        ("peak_gigabytes", 3),
        ("peak_gigabytes_counted", 3),
    )
    for row in rows:
        figures = [_figure(row.get(name), digits) for name, digits in columns]
        table.add_row(row["option"], *figures, "; ".join(row[one] for one in ("switches", "note") if row.get(one)))
    return table


def _missing(rows: list[dict[str, Any]]) -> Table:
    table = Table("option", "why not", title="could not be measured here")
    for row in rows:
        table.add_row(row["option"], row["reason"])
    return table


def _operations(rows: list[dict[str, Any]], full: Sizes) -> Table:
    table = _table(
        f"counted at full size: {full.width} x {full.height}, {full.steps} steps",
        ["reference cache", "compact IMG2", "10^12 operations a step", "times fewer", "a picture", "times fewer"],
    )
    for row in rows:
        switches = ["yes" if row[one] else "no" for one in ("reference_cache", "compact_generated")]
        step, picture = _figure(row["step"], 0), _figure(row["picture"], 0)
        table.add_row(*switches, step, _figure(row["fewer_step"], 2), picture, _figure(row["fewer_picture"], 2))
    return table


def _residents(rows: list[dict[str, Any]]) -> Table:
    table = _table(
        "counted at full size: transformer and VAE",
        ["weights", "GB", "GB with the reference cache", "GB at the peak of a picture"],
    )
    for row in rows:
        names = ("gigabytes", "gigabytes_with_cache", "gigabytes_peak")
        alone, *more = (_figure(row.get(name), 1) for name in names)
        table.add_row(row["weights"], row.get("reason", alone), *more)
    return table


def _goals(rows: list[dict[str, Any]]) -> Table:
    table = _table("goals", ["goal", "found", "met"])
    for row in rows:
        met = {True: "yes", False: "no", None: "not judged"}[row["met"]]
        table.add_row(row["goal"], _figure(row["found"], 2), f"{met}, counted" if row.get("how") == "counted" else met)
    return table


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number > 0 and heading else "left")
    return table


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _resident(device: torch.device, kind: Quantized | None, full: Sizes, working: int) -> dict[str, Any]:
    row: dict[str, Any] = {"weights": kind or "bfloat16"}
    try:
        counted = count_resident_bytes(full, kind, device)
    except Exception as error:  # without torchao, or with one that lacks this kind, the others are still counted
        return row | {"reason": reason_of(error)}
    weights, cache = counted["weights"] / 1e9, counted["cache"] / 1e9
    peak = weights + (working + counted["layer"]) / 1e9
    return row | {"gigabytes": weights, "gigabytes_with_cache": weights + cache, "gigabytes_peak": peak}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
