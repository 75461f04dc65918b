"""Measures the enlargement and the correspondence engine with all its options, on pairs that nothing was fitted on.

usage: python -m benchmarks.bench [--dreambooth DIR] [--into DIR] [--workers N] [--limit N] [--json FILE]
       python -m benchmarks.bench --tables [--json FILE]

The pictures are those of `benchmarks.bench_cases`: products and subjects of the held-out part of `split.toml`, each
artifact of `refgc.simulator` alone at three strengths. They are compared by `refgc.evaluation`, with every metric that
needs no weights. The figures go to `benchmarks/bench.json`, a summary of them to the page's assets, and tables to
`docs/evaluation.md`. What is there already in the folder of the runs is not made again, so that a run may be stopped at
any time. `--tables` only writes summary and tables anew.

DreamBooth (Ruiz et al., 2023) is a folder with a folder of photos for each subject; `NN_mask.png` beside a photo is its
object mask. The photos are no part of the project.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bars

from benchmarks.bench_cases import LEVELS, SOURCES, STRENGTHS, make_cases
from refgc.evaluation.evaluate import evaluate
from refgc.evaluation.items import read_items
from refgc.evaluation.method_list import parse_method
from refgc.evaluation.results import Comparison, Result
from refgc.evaluation.runs import JOURNAL, MetricChoice, read_journal, run_key
from refgc.evaluation.statistics import LEAST_OBJECTS, interval
from refgc.evaluation.table_files import json_of, markdown_of
from refgc.evaluation.tables import Table, TableSettings, make_table
from refgc.imaging.files import write_whole
from refgc.machine import cores, processor

ROOT = Path(__file__).resolve().parent.parent
FILE = Path(__file__).with_suffix(".json")
DOCUMENT = ROOT / "docs" / "evaluation.md"
SUMMARY = ROOT / "refgc" / "page" / "assets" / "bench.json"
BEGIN, END = "<!-- benchmarks/bench.py begins -->", "<!-- benchmarks/bench.py ends -->"
BASELINE = "Lanczos"
METHODS = (
    "Lanczos=lanczos",
    "Enlargement=enlargement",
    "Correspondence=correspondence",
    "Correspondence, fast surroundings=correspondence:surroundings=fast",
    "Correspondence, best surroundings=correspondence:surroundings=best",
    "Oracle (the truth itself)=oracle",
)
# The method of the tables by artifact, and of the page.
SHOWN = "Correspondence"
METRICS = ("psnr", "ssim", "flip", "inliers", "legibility")
# Figures of the tables by artifact, as gains over the baseline.
GAINS = {"psnr_inside": 2, "ssim_inside": 3, "psnr": 2}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    # A trial has fewer cases, and a frozen set does not change.
    cases, runs = (options.into / f"{name}{options.limit or ''}" for name in ("cases", "runs"))
    plan = make_cases(cases, options.dreambooth, options.limit)
    methods = [parse_method(text) for text in METHODS]
    with Bars(console=Console(stderr=True)) as bars:
        task = bars.add_task("runs", total=1.0)
        comparison = evaluate(
            cases,
            runs,
            methods,
            MetricChoice(METRICS),
            workers=options.workers,
            progress=lambda stage, fraction: bars.update(task, description=stage, completed=fraction),
        )
    return {
        "machine": {"processor": processor(), "cores": cores(), "workers": options.workers or cores()},
        "strengths": STRENGTHS,
        "sources": {
            source: {"what": words, "cases": sum(one["source"] == source for one in plan.values())}
            for source, words in SOURCES.items()
        },
        "table": json.loads(json_of(make_table(comparison, TableSettings(against=BASELINE)))),
        "by source": {source: gains_of(part(comparison, plan, "source", source)) for source in SOURCES},
        "by artifact": {
            artifact: {
                level: gains_of(part(comparison, plan, "artifact", artifact, "level", level)) for level in LEVELS
            }
            for artifact in STRENGTHS
        },
        "seconds": seconds_of(cases, runs, plan),
    }


def part(comparison: Comparison, plan: Mapping[str, Mapping[str, Any]], *wanted: str) -> list[Result]:
    """The results of the cases whose plan has the wanted values; names and values take turns."""
    pairs = list(zip(wanted[::2], wanted[1::2], strict=True))
    return [one for one in comparison.results if all(plan[one.id][name] == value for name, value in pairs)]


def gains_of(results: Sequence[Result]) -> dict[str, Any]:
    """The gain of each method over the baseline on the same cases, with intervals over objects."""
    by_method = defaultdict[str, dict[str, Result]](dict)
    for one in results:
        by_method[one.method][one.id] = one
    told = dict[str, Any]()
    for method, found in by_method.items():
        figures = dict[str, Any]()
        for figure, digits in GAINS.items():
            pairs = [
                (one, by_method[BASELINE][name])
                for name, one in found.items()
                if figure in one.scores and figure in by_method[BASELINE][name].scores
            ]
            if pairs:
                gains = [one.scores[figure] - other.scores[figure] for one, other in pairs]
                bounds = interval(gains, [one.object_id for one, _ in pairs])
                figures[figure] = {
                    "mean": round(statistics.mean(gains), digits),
                    "interval": None if bounds is None else [round(bound, digits) for bound in bounds],
                    "worst": round(min(gains), digits),
                }
        placed = [one.placed for one in found.values() if one.placed is not None]
        told[method] = {
            "cases": len(found),
            "objects": len({one.object_id for one in found.values()}),
            "placed": sum(placed) if placed else None,
            "gains": figures,
        }
    return told


def seconds_of(cases: Path, runs: Path, plan: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The median wall-clock seconds of making a result, by source and method."""
    journal, methods = read_journal(runs / JOURNAL), [parse_method(text) for text in METHODS]
    found = defaultdict[tuple[str, str], list[float]](list)
    for item in read_items(cases).items:
        for method in methods:
            run = journal.get(run_key(item, method))
            if run is not None and not method.is_oracle:
                found[plan[item.id]["source"], method.label].append(run.seconds)
    told = defaultdict[str, dict[str, float]](dict)
    for (source, label), seconds in found.items():
        told[source][label] = round(statistics.median(seconds), 2)
    return told


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the page tells: means of a few figures by method, and the gain inside the object by artifact."""
    table = Table.model_validate(figures["table"])
    columns = {column.figure: column for column in table.columns}
    shown = [name for name in ("psnr_inside", "ssim_inside", "flip_inside", "psnr", "ssim") if name in columns]
    whole = next(column for column in table.columns if column.figure == "psnr")
    return {
        "entries": whole.items,
        "objects": whole.objects,
        "columns": [
            {
                "figure": name,
                "metric": columns[name].metric,
                "region": columns[name].region,
                "digits": columns[name].digits,
                "higher_is_better": columns[name].higher_is_better,
            }
            for name in shown
        ],
        "rows": [
            {"method": row.label, "figures": {name: row.cells[name].mean for name in shown if name in row.cells}}
            for row in table.rows
            if not row.oracle
        ],
        "gains": {
            artifact: {level: found[SHOWN]["gains"]["psnr_inside"]["mean"] for level, found in levels.items()}
            for artifact, levels in figures["by artifact"].items()
            if all(SHOWN in found for found in levels.values())
        },
    }


def document(figures: Mapping[str, Any]) -> str:
    """The part of the document that is generated."""
    table = Table.model_validate(figures["table"])
    machine = figures["machine"]
    sources = "; ".join(f"{one['what']}: {one['cases']}" for one in figures["sources"].values() if one["cases"])
    by_artifact = {
        f"{artifact.replace('_', ' ')}, {level}": found
        for artifact, levels in figures["by artifact"].items()
        for level, found in levels.items()
    }
    said = (
        f"Gains of `{SHOWN}` over {BASELINE} inside the object by artifact: the mean with its 95% interval over objects "
        f"where there are at least {LEAST_OBJECTS} of them, the worst case, and how often the reference was placed.\n"
    )
    how = f"{machine['processor']}, {machine['cores']} cores, {machine['workers']} at once"
    parts = [
        f"Cases by source: {sources}. All are simulated, each artifact alone; nothing of them was used for fitting.\n",
        markdown_of(table),
        said,
        gain_table(by_artifact, "Artifact"),
        "The same by source:\n",
        gain_table({SOURCES[name]: found for name, found in figures["by source"].items()}, "Source"),
        f"Median seconds of making a result ({how}):\n",
        seconds_table(figures["seconds"]),
    ]
    return "\n".join(parts)


def gain_table(groups: Mapping[str, Mapping[str, Any]], title: str) -> str:
    lines = [f"| {title} | PSNR | SSIM | worst PSNR | placed |", "| --- | --- | --- | --- | --- |"]
    for name, by_method in groups.items():
        if (found := by_method.get(SHOWN)) is None:
            continue
        gains = found["gains"]
        cells = [gain_cell(gains.get(figure), GAINS[figure]) for figure in ("psnr_inside", "ssim_inside")]
        worst = f"{gains['psnr_inside']['worst']:+.2f}" if "psnr_inside" in gains else "–"
        lines.append(f"| {name} | {' | '.join(cells)} | {worst} | {found['placed']} of {found['cases']} |")
    return "\n".join(lines) + "\n"


def gain_cell(gain: Mapping[str, Any] | None, digits: int) -> str:
    if gain is None:
        return "–"
    bounds = gain["interval"]
    told = "" if bounds is None else f" [{bounds[0]:+.{digits}f}, {bounds[1]:+.{digits}f}]"
    return f"{gain['mean']:+.{digits}f}{told}"


def seconds_table(seconds: Mapping[str, Mapping[str, float]]) -> str:
    labels = list(dict.fromkeys(label for row in seconds.values() for label in row))
    lines = [f"| Source | {' | '.join(labels)} |", f"| --- |{' --- |' * len(labels)}"]
    lines += [
        f"| {SOURCES[source]} | {' | '.join(str(row.get(label, '–')) for label in labels)} |"  # type: ignore[index]
        for source, row in seconds.items()
    ]
    return "\n".join(lines) + "\n"


def between_marks(text: str, content: str) -> str:
    """A document with new content between the marks."""
    marked = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    found = marked.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", text)
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{DOCUMENT.name} has no marks to write the tables between.")
    return found


def main() -> None:
    """Measures what is not there yet, and writes figures and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dreambooth", type=Path, help="folder of the photos of DreamBooth")
    parser.add_argument("--into", type=Path, default=Path("build/bench"), help="folder of cases and runs")
    parser.add_argument("--workers", type=int, help="processes; without it one for each core")
    parser.add_argument("--limit", type=int, help="at most so many cases of each object, for a trial")
    parser.add_argument("--json", type=Path, default=FILE, help="where the figures go")
    parser.add_argument(
        "--tables", action="store_true", help="measure nothing; write summary and tables from the figures"
    )
    options = parser.parse_args()
    # One core for each worker.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not options.tables:
        write_whole(options.json, (json.dumps(measured(options), indent=1, ensure_ascii=False) + "\n").encode())
    figures = json.loads(options.json.read_bytes())
    if options.json.resolve() != FILE:
        print(document(figures))
        return
    write_whole(SUMMARY, (json.dumps(summary(figures), indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(DOCUMENT, between_marks(DOCUMENT.read_text(encoding="utf-8"), document(figures)).encode())


if __name__ == "__main__":
    main()
