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

from benchmarks.random_model import (
    BACKBONES,
    FULLS,
    QUANTIZATIONS,
    Architecture,
    Sizes,
    count_operations,
    count_resident_bytes,
)
from refgc.errors import EngineError, InputError
from refgc.flux.quantization import Quantized

Findings = dict[str, Any]
Rows = Mapping[str, Mapping[str, Any]]

NO_QUALITY = "The weights are random: time and memory are measured, the quality of the pictures is not."
PACKAGES = ("torch", "diffusers", "torchao", "triton", "flash-attn", "xformers", "sageattention")


def report(
    sizes: Sizes, device: torch.device, rounds: int, rows: Rows, not_started: list[str], counted: Findings
) -> Findings:
    """All there is, of four digits, ready for JSON.

    Args:
        sizes: of the model that was measured.
        device: where.
        rounds: counted rounds of each option.
        rows: what was found, by name of option.
        not_started: names of options for which no time was left.
        counted: from `count_full_size`.
    """
    scale = scaled_down(sizes)
    found: Findings = _rounded(
        {
            "quality": NO_QUALITY,
            "scaled_down": scale,
            "machine": describe(device),
            "sizes": dataclasses.asdict(sizes) | {"picture_tokens": sizes.picture_tokens, "dtype": "bfloat16"},
            "rounds": rounds,
            "clock": "wall clock" if device.type == "cuda" else "processor time of one thread",
            "goals": goals(
                rows, counted, judged=scale is None and device.type == "cuda", architecture=sizes.architecture
            ),
            "options": list(rows.values()),
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
    return {
        "tera_operations": operations,
        "resident": [_resident(device, kind, full) for kind in (None, *QUANTIZATIONS)],
    }


def goals(
    rows: Rows, counted: Findings, *, judged: bool, architecture: Architecture = "kontext"
) -> list[dict[str, Any]]:
    """What was hoped for, what was found, and whether the one meets the other; None where that cannot be told.

    Speed is judged at the full size on a GPU alone; resident memory is counted, wherever that is done.
    """

    def speedup(option: str) -> float | None:
        return rows.get(option, {}).get("speedup_step")

    def faster(option: str, least: float) -> dict[str, Any]:
        found = speedup(option)
        met = found >= least if judged and found is not None else None
        return {"goal": f"{option}: a step at least {least} times faster", "found": found, "met": met}

    def within(what: str, gigabytes: float | None, most: float) -> dict[str, Any]:
        met = None if gigabytes is None else gigabytes <= most
        return {"goal": f"{what} with the reference cache: within {most} GB", "found": gigabytes, "met": met}

    def quick(option: str, most: float) -> dict[str, Any]:
        found = rows.get(option, {}).get("seconds_picture")
        met = found <= most if judged and found is not None else None
        return {"goal": f"{option}: a picture in at most {most} s", "found": found, "met": met}

    fused = speedup("FreqMoLE fused")
    ratio = None if fused is None else 1 / fused
    resident = {row["weights"]: row.get("gigabytes_with_cache") for row in counted["resident"]}
    speed = [faster("reference cache", 2.3), faster("all lossless", 3.0), faster("everything", 5.0)]
    most = {"bfloat16": 40}
    if architecture == "klein":
        speed, most = [quick("plain", 2.0), quick("all lossless", 2.0)], {"bfloat16": 16}
    return [
        {
            "goal": "FreqMoLE fused: 1.00 +- 0.02 of the yardstick's time",
            "found": ratio,
            "met": abs(ratio - 1) <= 0.02 if judged and ratio is not None else None,
        },
        *speed,
        *(within(kind, found, most.get(kind, min(24, most["bfloat16"]))) for kind, found in resident.items()),
    ]


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
    console.print(_goals(found["goals"]))


def _options(rows: list[dict[str, Any]], title: str) -> Table:
    table = _table(
        f"in turn with a plain {title} over the same tokens",
        ["option", "s a step", "times faster", "s a picture", "times faster", "weights GB", "cache GB", "peak GB", ""],
    )
    columns = (
        ("seconds_step", 3),
        ("speedup_step", 2),
        ("seconds_picture", 2),
        ("speedup_picture", 2),
        ("weight_gigabytes", 2),
        ("cache_gigabytes", 2),
        ("peak_gigabytes", 2),
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
        "counted resident at full size: transformer and VAE", ["weights", "GB", "GB with the reference cache"]
    )
    for row in rows:
        alone, cached = _figure(row.get("gigabytes"), 1), _figure(row.get("gigabytes_with_cache"), 1)
        table.add_row(row["weights"], row.get("reason", alone), cached)
    return table


def _goals(rows: list[dict[str, Any]]) -> Table:
    table = _table("goals", ["goal", "found", "met"])
    for row in rows:
        table.add_row(row["goal"], _figure(row["found"], 2), {True: "yes", False: "no", None: "not judged"}[row["met"]])
    return table


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number > 0 and heading else "left")
    return table


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _resident(device: torch.device, kind: Quantized | None, full: Sizes) -> dict[str, Any]:
    row: dict[str, Any] = {"weights": kind or "bfloat16"}
    try:
        counted = count_resident_bytes(full, kind, device)
    except Exception as error:  # without torchao, or with one that lacks this kind, the others are still counted
        return row | {"reason": reason_of(error)}
    weights, cache = counted["weights"] / 1e9, counted["cache"] / 1e9
    return row | {"gigabytes": weights, "gigabytes_with_cache": weights + cache}


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
