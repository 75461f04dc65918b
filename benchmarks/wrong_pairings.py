"""Counts how often the engine places a reference in a generated picture that shows another object.

usage: python -m benchmarks.wrong_pairings [--data DIR] [--runs FILE] [--json FILE] [--worker I --workers N]

Every reference is paired with every generated picture of another object, and with its own one mirrored. The objects are
the project's examples and those of a folder of real pictures that is no part of the project: folders with `hrri` and
`lrgi` or `hrgt`, and `dreambooth/SUBJECT` with several photos of one object each. A run appends a line for each pairing
to a file and goes on where it was.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trust_set import EXAMPLES, SCALE
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.imaging.arrays import Bytes, resized
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image, open_image
from refgc.imaging.warp import fitted
from refgc.request import RefineRequest

# The longest side of a generated picture, in pixels, as in the paper.
SIDE = 256


@dataclass(frozen=True, slots=True)
class Subject:
    """One object: the file of its reference, and that of a generated picture or of a photo to be made one."""

    name: str
    reference: Path
    generated: Path


def subjects(data: Path | None) -> Iterator[Subject]:
    """The project's examples, and the objects of a folder of real pictures."""
    for folder in sorted(path.parent for path in EXAMPLES.glob("*/lrgi.png")):
        yield Subject(folder.name, folder / "hrri.jpg", folder / "lrgi.png")
    if data is None:
        return
    for reference in sorted(data.glob("*/hrri.*")):
        generated = next(path for name in ("lrgi.*", "hrgt.*") for path in reference.parent.glob(name))
        yield Subject(f"real {reference.parent.name}", reference, generated)
    for folder in sorted(path for path in (data / "dreambooth").glob("*") if path.is_dir()):
        photos = sorted(path for path in folder.iterdir() if path.suffix == ".jpg" and "mask" not in path.stem)
        yield Subject(f"photo {folder.name}", photos[0], photos[1])


def _generated(file: Path) -> Bytes:
    picture = open_image(file, name="generated picture")
    return resized(picture.pixels, fitted(picture.size, SIDE))


def run(options: argparse.Namespace) -> None:
    """Appends a line for each pairing that has none yet."""
    found = list(subjects(options.data))
    pairings = [(one, other) for one in found for other in found]
    order = np.random.default_rng(0).permutation(len(pairings))
    file = options.runs.with_suffix(f".{options.worker}.jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["reference"], row["generated"]) for row in _rows(file)}
    engine = CorrespondenceEngine()
    with file.open("a", encoding="utf-8") as out:
        for index in order[options.worker :: options.workers]:
            reference, generated = pairings[index]
            if (reference.name, generated.name) in done:
                continue
            picture = _generated(generated.generated)
            if reference == generated:
                picture = np.ascontiguousarray(picture[:, ::-1])
            shown = open_image(reference.reference, name="reference")
            report = engine.refine(RefineRequest(shown, Image(picture), SCALE)).report
            row = {
                "reference": reference.name,
                "generated": generated.name,
                "placed": report.placed,
                "confidence": round(report.confidence, 4),
                "coverage": round(report.coverage, 4),
                "warnings": list(report.warnings),
            }
            out.write(json.dumps(row) + "\n")
            out.flush()


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def report(options: argparse.Namespace) -> None:
    """Prints and writes how many pairings there were, and those that were placed."""
    rows = [row for file in sorted(options.runs.parent.glob(f"{options.runs.stem}.*.jsonl")) for row in _rows(file)]
    told: dict[str, Any] = {}
    for kind in ("another object", "mirrored"):
        chosen = [row for row in rows if (row["reference"] == row["generated"]) == (kind == "mirrored")]
        told[kind] = {"pairings": len(chosen), "placed": [row for row in chosen if row["placed"]]}
    told["mirrored"]["said so"] = sum(
        "mirrored" in row["warnings"] for row in rows if row["reference"] == row["generated"]
    )
    print(json.dumps(told, indent=2))
    write_whole(options.json, (json.dumps(told, indent=2) + "\n").encode())


def main() -> None:
    """Runs what is missing, and reports on all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real pictures; without it only the examples are paired")
    parser.add_argument("--runs", type=Path, default=Path("build/wrong_pairings.jsonl"), help="file of the runs")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"), help="where the figures go")
    parser.add_argument("--worker", type=int, default=0, help="which part of the pairings to run")
    parser.add_argument("--workers", type=int, default=1, help="how many parts there are")
    options = parser.parse_args()
    run(options)
    report(options)


if __name__ == "__main__":
    main()
