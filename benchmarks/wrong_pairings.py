"""Counts how often the engine places a reference in a generated picture that shows another object.

usage: python -m benchmarks.wrong_pairings [--data DIR] [--runs FILE] [--json FILE] [--worker I --workers N]

Every reference is paired with every generated picture of another object, and with its own one mirrored. Look-alikes
come first: an example's reference that wears the print of another one, in its own colours and light, with the generated
picture of the first. The objects are the project's examples and those of a folder of real pictures that is no part of
the project: folders with `hrri` and `lrgi` or `hrgt`, and `dreambooth/SUBJECT` with several photos of one object each.
A run appends a line for each pairing to a file and goes on where it was.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.trust_set import EXAMPLES, SCALE
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.imaging.arrays import Bools, Bytes, resized
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image, open_image, open_mask
from refgc.imaging.journal import append_line, read_lines
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted
from refgc.masks.morphology import bounding_box
from refgc.request import RefineRequest

# The longest side of a generated picture, in pixels, as in the paper.
SIDE = 256
# How many other prints each reference wears; what stands between the names of an object and of the donor of its print;
# and the example that has no print. The coarse colours stay that a Gaussian of this share of the object's side leaves.
DONORS, LOOK_ALIKE, PLAIN, COARSE_SHARE = 3, " with the print of ", ("vase",), 0.1


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


@dataclass(frozen=True, slots=True)
class Pairing:
    """A reference and a generated picture that do not belong together.

    Attributes:
        reference: the object of the reference.
        generated: the object of the generated picture; the same one stands for that picture mirrored.
        donor: the object whose print the reference wears; None where it wears its own.
    """

    reference: Subject
    generated: Subject
    donor: Subject | None = None

    @property
    def names(self) -> tuple[str, str]:
        """What the row of a run calls the two pictures."""
        worn = f"{LOOK_ALIKE}{self.donor.name}" if self.donor else ""
        return self.reference.name + worn, self.generated.name

    def pictures(self) -> tuple[Image, Image]:
        """The reference and the generated picture."""
        generated = _generated(self.generated.generated)
        if self.donor:
            return _with_print_of(self.reference, self.donor), Image(generated)
        reference = open_image(self.reference.reference, name="reference")
        mirrored = self.reference == self.generated
        return reference, Image(np.ascontiguousarray(generated[:, ::-1]) if mirrored else generated)


def pairings(data: Path | None, worker: int, workers: int) -> Iterator[Pairing]:
    """One worker's part of the pairings, the look-alikes first, then all others in a fixed random order."""
    found = list(subjects(data))
    printed = [one for one in found if _mask_file(one).is_file() and one.name not in PLAIN]
    look_alikes = [
        Pairing(one, one, printed[(index + step) % len(printed)])
        for step in range(1, DONORS + 1)
        for index, one in enumerate(printed)
    ]
    others = [Pairing(one, other) for one in found for other in found]
    order = np.random.default_rng(0).permutation(len(others))
    yield from look_alikes[worker::workers]
    yield from (others[index] for index in order[worker::workers])


def _with_print_of(subject: Subject, donor: Subject) -> Image:
    """The reference of a subject with the print of another, in its own outline, coarse colours and light."""
    (own, mask), (worn, worn_mask) = (_cut(one) for one in (subject, donor))
    box, worn_box = (Region(*bounding_box(where)) for where in (mask, worn_mask))
    print_ = cv2.resize(worn_box.of(worn), box.size, interpolation=cv2.INTER_AREA)
    sigma = COARSE_SHARE * max(box.size)
    coarse = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma) for picture in (box.of(own), print_)]
    dressed = np.clip(print_ + coarse[0] - coarse[1], 0, 255).astype(np.uint8)
    result = own.copy()
    box.of(result)[:] = np.where(box.of(mask)[..., None], dressed, box.of(own))
    return Image(result)


def _cut(subject: Subject) -> tuple[Bytes, Bools]:
    picture = open_image(subject.reference, name="reference")
    mask = open_mask(_mask_file(subject), size=picture.size, name="reference mask")
    return picture.pixels, mask.values > 0.5


def _mask_file(subject: Subject) -> Path:
    return subject.reference.with_name("hrri_mask.png")


def run(options: argparse.Namespace) -> None:
    """Appends a line for each pairing that has none yet."""
    file = options.runs.with_suffix(f".{options.worker}.jsonl")
    done = {(row["reference"], row["generated"]) for row in read_lines(file)}
    engine = CorrespondenceEngine()
    for pairing in pairings(options.data, options.worker, options.workers):
        if pairing.names in done:
            continue
        reference, generated = pairing.pictures()
        report = engine.refine(RefineRequest(reference, generated, SCALE)).report
        row = {
            "reference": pairing.names[0],
            "generated": pairing.names[1],
            "placed": report.placed,
            "confidence": round(report.confidence, 4),
            "coverage": round(report.coverage, 4),
            "warnings": list(report.warnings),
        }
        append_line(file, row)


def _kind(row: Mapping[str, Any]) -> str:
    if LOOK_ALIKE in row["reference"]:
        return "look-alike"
    return "mirrored" if row["reference"] == row["generated"] else "another object"


def report(options: argparse.Namespace) -> None:
    """Prints and writes how many pairings there were, and those that were placed."""
    rows = [
        row for file in sorted(options.runs.parent.glob(f"{options.runs.stem}.*.jsonl")) for row in read_lines(file)
    ]
    told: dict[str, Any] = {}
    for kind in ("another object", "look-alike", "mirrored"):
        chosen = [row for row in rows if _kind(row) == kind]
        told[kind] = {"pairings": len(chosen), "placed": [row for row in chosen if row["placed"]]}
        if kind == "mirrored":
            told[kind]["said so"] = sum("mirrored" in row["warnings"] for row in chosen)
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
