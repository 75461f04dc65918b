"""Checks that the confidence of a refinement is the probability that it is better than the enlargement.

usage: python -m benchmarks.confidence run|report [--runs FILE] [--renders DIR] [--dreambooth DIR] [--seeds N]
                                       [--worker I --workers N]

`run` refines the cases of `benchmarks.trust_set` that nothing is fitted on, each with several seeds of its simulated
artifacts, and appends a line for each to a file. It goes on where it was. `report` writes the calibration to
benchmarks/confidence.json and the reliability diagram to docs/confidence.svg.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.trust_set import SCALE, WRONG, Case, make_case, pairs
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.imaging.arrays import Bytes
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image
from refgc.imaging.journal import append_line, read_lines
from refgc.request import RefineRequest

BINS = 10
FIGURES = Path(__file__).with_name("confidence.json")
DIAGRAM = Path(__file__).resolve().parents[1] / "docs" / "confidence.svg"


def check(case: Case) -> dict[str, Any]:
    """One run: what was reported, and the gain over the enlargement inside the object, in dB."""
    result = CorrespondenceEngine().refine(RefineRequest(Image(case.reference), Image(case.generated), SCALE))
    errors = [_error(picture.pixels, case) for picture in (result.image, result.stages["upscaled"])]
    return {
        "name": case.name,
        "kind": case.kind,
        "placed": result.report.placed,
        "confidence": round(result.report.confidence, 4),
        "better": errors[0] < errors[1],
        "gain": round(10 * float(np.log10(errors[1] / errors[0])), 4),
    }


def _error(picture: Bytes, case: Case) -> float:
    """Mean squared error inside the object, or of the whole picture where the object is not known."""
    squared = ((picture.astype(np.float32) - case.truth) ** 2).mean(axis=2)
    if case.truth_mask is None:
        return float(squared.mean()) + 1e-6
    return float((squared * case.truth_mask).sum() / (case.truth_mask.sum() + 1e-6)) + 1e-6


def run(options: argparse.Namespace) -> None:
    """Appends a line for each case that has none yet."""
    file = options.runs.with_suffix(f".{options.worker}.jsonl")
    done = {(row["name"], row["seed"]) for row in read_lines(file)}
    found = pairs("held out", options.renders, options.dreambooth)
    wanted = [(int(index), seed) for seed in range(options.seeds) for index in _shuffled(len(found), seed)]
    for index, seed in wanted[options.worker :: options.workers]:
        if (found[index].name, seed) not in done:
            append_line(file, {"seed": seed, **check(make_case(found[index], seed + 1))})


def _shuffled(count: int, seed: int) -> list[int]:
    return [int(index) for index in np.random.default_rng(seed).permutation(count)]


def report(runs: Path) -> None:
    """Prints and writes the calibration."""
    files = sorted(runs.parent.glob(f"{runs.stem}.*.jsonl"))
    rows = [row for file in files for row in read_lines(file)]
    said = np.array([row["confidence"] for row in rows])
    better = np.array([row["better"] for row in rows])
    placed = np.array([row["placed"] for row in rows])
    gains = np.array([row["gain"] for row in rows])
    wrong = np.array([row["kind"] in WRONG for row in rows])
    told: dict[str, Any] = {
        "runs": len(rows),
        "placed": int(placed.sum()),
        "all runs": calibration(said, better),
        "placed runs": calibration(said[placed], better[placed]),
        "gain inside the object in dB": {
            "mean where placed": round(float(gains[placed].mean()), 3),
            "worst": round(float(gains.min()), 2),
            "share under -0.05": round(float((gains < -0.05).mean()), 4),
        },
        "wrong references": {"runs": int(wrong.sum()), "placed": int((wrong & placed).sum())},
        "by kind": {
            kind: {
                "runs": int(chosen.sum()),
                "placed": int((chosen & placed).sum()),
                "mean gain": round(float(gains[chosen].mean()), 3),
                "worst gain": round(float(gains[chosen].min()), 2),
            }
            for kind in sorted({row["kind"] for row in rows})
            if (chosen := np.array([row["kind"] == kind for row in rows])).any()
        },
    }
    print(json.dumps(told, indent=1))
    write_whole(FIGURES, (json.dumps(told, indent=2) + "\n").encode())
    write_whole(DIAGRAM, _diagram(told["all runs"], told["placed runs"]).encode())


def calibration(said: np.ndarray[Any, Any], better: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Expected calibration error in equally filled bins, Brier score and area under the curve."""
    order = np.argsort(said, kind="stable")
    bins = [(float(said[part].mean()), float(better[part].mean())) for part in np.array_split(order, BINS)]
    base = float(better.mean())
    brier, of_base = float(((said - better) ** 2).mean()), base * (1 - base)
    # Equal confidences share their mean rank.
    _, where, counts = np.unique(said, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    positive = int(better.sum())
    area = (ranks[better].sum() - positive * (positive + 1) / 2) / max(1, positive * (len(said) - positive))
    return {
        "runs": len(said),
        "better": round(base, 3),
        "expected calibration error": round(float(np.mean([abs(one - other) for one, other in bins])), 4),
        "Brier score": round(brier, 4),
        "Brier score under the base rate's": round(1 - brier / of_base, 3) if of_base else None,
        "area under the curve": round(float(area), 3),
        "bins": [[round(one, 3), round(other, 3)] for one, other in bins],
    }


def _diagram(every: dict[str, Any], placed: dict[str, Any]) -> str:
    """The reliability diagram: the share that was better over the mean confidence, by bin."""
    side, margin = 320, 44

    def spot(pair: list[float]) -> tuple[float, float]:
        return margin + pair[0] * side, margin + (1 - pair[1]) * side

    marks = []
    for told, colour, name, line in ((every, "#1f6feb", "all runs", 0), (placed, "#d1242f", "placed runs", 1)):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(spot, told["bins"]))
        marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in map(spot, told["bins"])]
        words = f"{name}: {told['runs']}, error {told['expected calibration error']:.3f}"
        marks.append(f'<text x="{margin + 10}" y="{margin + 20 + 18 * line}" fill="{colour}">{words}</text>')
    low, high = margin, margin + side
    ticks = [
        f'<text x="{margin + value * side:.0f}" y="{high + 16}" text-anchor="middle">{value:g}</text>'
        f'<text x="{low - 6}" y="{margin + (1 - value) * side + 4:.0f}" text-anchor="end">{value:g}</text>'
        for value in (0, 0.5, 1)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 2 * margin} {side + 2 * margin}">',
            "<style>text { font: 12px sans-serif }</style>",
            "<title>Reliability of the confidence on products and objects that nothing was fitted on</title>",
            '<rect width="100%" height="100%" fill="white"/>',
            f'<rect x="{low}" y="{low}" width="{side}" height="{side}" fill="none" stroke="#888"/>',
            f'<line x1="{low}" y1="{high}" x2="{high}" y2="{low}" stroke="#888" stroke-dasharray="4"/>',
            *ticks,
            *marks,
            f'<text x="{low + side / 2}" y="{high + 34}" text-anchor="middle">confidence</text>',
            f'<text x="{low}" y="{low - 10}">share that was better</text>',
            "</svg>\n",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--runs", type=Path, default=Path("build/confidence.jsonl"), help="file of the runs")
    parser.add_argument("--renders", type=Path, help="folder that benchmarks.product_views wrote to")
    parser.add_argument("--dreambooth", type=Path, help="folder of the DreamBooth photographs")
    parser.add_argument("--seeds", type=int, default=3, help="generated pictures of each pair")
    parser.add_argument("--worker", type=int, default=0, help="works on this part of the runs, counted from 0")
    parser.add_argument("--workers", type=int, default=1, help="into so many parts the runs are divided")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.action == "run":
        run(options)
    else:
        report(options.runs)


if __name__ == "__main__":
    main()
