"""Compares the pairs that are found in the turntables, and the weight-free masks, with the true poses and masks.

usage: python -m benchmarks.turntable_pairs [--videos DIR] [--into DIR] [--json FILE] [--workers N]

It needs the weights of learned matching (`refgc setup`). `refgc.dataset.pairs.run_pairs` makes pairs of all videos
twice: with the masks that it finds itself, and with the renderer's. It is never told the poses. Both runs go on where
they were ended, and so do the comparisons of masks and of outlines.

A pair agrees with the truth where the angle between the true views is one that the settings want of a source with poses
(`least_degrees` to `most_degrees`), and where the reference shows at least half of the surface that the ground truth
shows, so that it is the same side. Wanted are as many pairs of a video as agree, at most
`pairs_per_object`. Of the wanted pairs so many are found as pairs were made that agree, at most all.

The check of an LRGI's pose (`refgc.dataset.triplets`) is tried on LRGIs that are simulated from each frame, and from
the next one: turned by 30 degrees they are in a wrong pose, which an outline can tell only where it differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.split import Part, read_split
from benchmarks.turntables import FRAMES, FRAMES_A_SECOND, SIZE, VIDEOS
from refgc.correspondence.learned import find_networks
from refgc.dataset.frames import Frame, read_frames
from refgc.dataset.manifest import PAIRS, Pair, read_rows
from refgc.dataset.object_masks import mask_frames
from refgc.dataset.pairs import NO_NETWORKS, run_pairs
from refgc.dataset.settings import LEAST_OVERLAP, PairSettings
from refgc.dataset.sources import find_objects
from refgc.errors import InputError
from refgc.imaging.files import write_whole
from refgc.imaging.image import MARKED, Mask
from refgc.imaging.journal import append_line, read_lines
from refgc.machine import BLAS_THREADS
from refgc.masks import Prompt, morphology
from refgc.masks.grabcut import GrabCutSegmenter
from refgc.simulator.artifacts import simulate

Masks = Literal["found", "given"]
# No picture of a pair is larger than the frames. All else is as by default.
SETTINGS = PairSettings(side=SIZE, no_vlm=True)
PARTS: tuple[Part, ...] = ("fit", "held out")
# The share of the ground truth's surface that the reference must show.
SAME_SIDE = 0.5
# Without a print, so that it should give no pair.
PLAIN = "vase"


@dataclass(frozen=True, slots=True)
class Turntable:
    """What is known of a video.

    Attributes:
        name: of its file.
        elevation: of the camera, in degrees.
        turns: of the product in each frame, in degrees.
        seen: how much of the surface that the first frame shows is also shown by the second.
    """

    name: str
    elevation: float
    turns: tuple[float, ...]
    seen: tuple[tuple[float, ...], ...]

    @property
    def product(self) -> str:
        """What turns."""
        return self.name.rpartition("_")[0]

    def degrees(self, one: int, other: int) -> float:
        """The angle between two frames' directions of view, as seen from the product."""
        elevation, turn = np.radians(self.elevation), np.radians(self.turns[one] - self.turns[other])
        cosine = np.sin(elevation) ** 2 + np.cos(elevation) ** 2 * np.cos(turn)
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

    def agrees(self, hrri: int, hrgt: int) -> bool:
        """Whether two frames are a pair by the truth."""
        angle = SETTINGS.least_degrees <= self.degrees(hrri, hrgt) <= SETTINGS.most_degrees
        return angle and self.seen[hrgt][hrri] >= SAME_SIDE

    def wanted(self) -> int:
        """How many pairs the video should give."""
        every = combinations(range(len(self.turns)), 2)
        there = sum(self.agrees(one, other) or self.agrees(other, one) for one, other in every)
        return min(there, SETTINGS.pairs_per_object)


def read_turntables(videos: Path) -> dict[str, Turntable]:
    """The turntables whose videos are there, by name."""
    poses: dict[str, dict[str, Any]] = json.loads((videos / "truth" / "poses.json").read_bytes())
    return {
        name: Turntable(name, pose["elevation"], tuple(pose["turns"]), tuple(map(tuple, pose["seen"])))
        for name, pose in poses.items()
    }


def lay_out(videos: Path, names: Iterable[str], masks: Masks, source: Path) -> None:
    """Makes the folder of a product: its videos, and the renderer's masks where they are given."""
    source.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(videos / f"{name}.mp4", source / f"{name}.mp4")
        if masks == "given":
            shutil.copyfile(videos / "truth" / f"{name}_mask.mkv", source / f"{name}_mask.mkv")


def compare_masks(into: Path, product: str) -> list[dict[str, Any]]:
    """A row for each video: the overlap of the masks that are found with the renderer's, and why frames have none."""
    journal = into / "found" / product / "masks.jsonl"
    done = {row["video"] for row in read_lines(journal)}
    networks = find_networks()
    if networks is None:
        raise SystemExit(NO_NETWORKS)
    bare, given = (find_objects(into / kind / product / "source", SETTINGS) for kind in ("found", "given"))
    for own, true in zip(bare, given, strict=True):
        if Path(own.label).stem in done:
            continue
        with BLAS_THREADS.one():
            frames = read_frames(own, SETTINGS).kept
            found, rejected = mask_frames(frames, own.name, SETTINGS, networks)
        truth = {frame.name: frame.mask for frame in read_frames(true, SETTINGS).kept}
        overlaps = {}
        for masked in found:
            mask = truth[masked.frame.name]
            assert mask is not None, "all frames of this source have one"
            overlap = morphology.overlap(masked.mask.values >= MARKED, mask.values >= MARKED)
            overlaps[f"{masked.frame.seconds:g}"] = round(float(overlap), 4)
        reasons = {one.what.rpartition(" at ")[2]: one.reason for one in rejected}
        row = {"video": Path(own.label).stem, "frames": len(frames), "overlaps": overlaps, "none": reasons}
        append_line(journal, row)
    return list(read_lines(journal))


def compare_outlines(into: Path, product: str) -> list[dict[str, Any]]:
    """A row for each frame: how well the outline of LRGIs from it, and from the next frame, overlaps its own."""
    journal = into / "given" / product / "outlines.jsonl"
    done = {(row["video"], row["frame"]) for row in read_lines(journal)}
    for item in find_objects(into / "given" / product / "source", SETTINGS):
        with BLAS_THREADS.one():
            frames = read_frames(item, SETTINGS).kept
            for here, after in zip(frames, [*frames[1:], frames[0]], strict=True):
                video, number = Path(item.label).stem, frame_number(here.seconds)
                if (video, number) in done:
                    continue
                assert here.mask is not None, "all frames of this source have one"
                assert after.mask is not None, "all frames of this source have one"
                own, other = (mask.values >= MARKED for mask in (here.mask, after.mask))
                row = {
                    "video": video,
                    "frame": number,
                    "next": frame_number(after.seconds),
                    "true overlap of both": round(float(morphology.overlap(own, other)), 4),
                    "in its pose": outline_in_lrgi(here, here.mask),
                    "turned": outline_in_lrgi(after, here.mask),
                }
                append_line(journal, row)
    return list(read_lines(journal))


def outline_in_lrgi(shown: Frame, expected: Mask) -> float:
    """The overlap that `refgc.dataset.triplets` would measure in an LRGI from a frame; 0 where nothing is found."""
    assert shown.mask is not None, "all frames of this source have one"
    picture = simulate(shown.image, shown.mask, size=shown.image.size).image
    try:
        found = GrabCutSegmenter().segment(picture, Prompt(picture.size, alpha=expected))
    except InputError:
        return 0.0
    return round(float(morphology.overlap(found.values >= MARKED, expected.values >= MARKED)), 4)


def frame_number(seconds: float | None) -> int:
    """Which frame of its video is at a time."""
    assert seconds is not None, "frames of videos have a time"
    return round(seconds * FRAMES_A_SECOND)


def judged(rows: Sequence[Pair], turntables: Mapping[str, Turntable]) -> list[dict[str, Any]]:
    """Each pair with the truth."""
    told = []
    for row in rows:
        name = Path(row.hrri.frame).stem
        turntable, hrri, hrgt = turntables[name], frame_number(row.hrri.seconds), frame_number(row.hrgt.seconds)
        told.append(
            {
                "video": name,
                "hrri": hrri,
                "hrgt": hrgt,
                "degrees": round(turntable.degrees(hrri, hrgt), 1),
                "seen": turntable.seen[hrgt][hrri],
                "agrees": turntable.agrees(hrri, hrgt),
                "scores": {score.name: score.value for score in row.scores},
            }
        )
    return told


def summed(pairs: Sequence[Mapping[str, Any]], turntables: Sequence[Turntable]) -> dict[str, Any]:
    """How many pairs some videos gave, how many agree, and how many of the wanted ones were found."""
    names = {turntable.name for turntable in turntables}
    chosen = [pair for pair in pairs if pair["video"] in names]
    right = [pair["video"] for pair in chosen if pair["agrees"]]
    too_far = sum(not pair["agrees"] and pair["seen"] >= SAME_SIDE for pair in chosen)
    wanted = sum(turntable.wanted() for turntable in turntables)
    found = sum(min(right.count(turntable.name), turntable.wanted()) for turntable in turntables)
    return {
        "pairs": len(chosen),
        "agree": len(right),
        "same side, but turned too far": too_far,
        "wanted": wanted,
        "found": found,
        "share that agrees": round(len(right) / len(chosen), 3) if chosen else None,
        "share that is found": round(found / wanted, 3) if wanted else None,
    }


def masks_summed(rows: Sequence[Mapping[str, Any]], turntables: Sequence[Turntable]) -> dict[str, Any]:
    """Overlap of the masks of some videos with the renderer's."""
    names = {turntable.name for turntable in turntables}
    chosen = [row for row in rows if row["video"] in names]
    overlaps = [value for row in chosen for value in row["overlaps"].values()]
    return {
        "frames": sum(row["frames"] for row in chosen),
        "with a mask": len(overlaps),
        "mean overlap": round(statistics.mean(overlaps), 3) if overlaps else None,
        "least overlap": round(min(overlaps), 3) if overlaps else None,
    }


def outlines_summed(rows: Sequence[Mapping[str, Any]], turntables: Sequence[Turntable]) -> dict[str, Any]:
    """How the check of an LRGI's pose would have decided on some videos."""
    names = {turntable.name for turntable in turntables}
    chosen = [row for row in rows if row["video"] in names and row["next"] == (row["frame"] + 1) % FRAMES]
    other = [row for row in chosen if row["true overlap of both"] < LEAST_OVERLAP]
    return {
        "LRGIs in their pose": len(chosen),
        "kept": sum(row["in its pose"] >= LEAST_OVERLAP for row in chosen),
        "least overlap": min((row["in its pose"] for row in chosen), default=None),
        "turned, with another outline": len(other),
        "kept though turned": sum(row["turned"] >= LEAST_OVERLAP for row in other),
    }


def report(
    turntables: Mapping[str, Turntable],
    pairs: Mapping[Masks, Sequence[Mapping[str, Any]]],
    masks: Sequence[Mapping[str, Any]],
    outlines: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All figures, by part and product."""

    def told(chosen: Sequence[Turntable]) -> dict[str, Any]:
        return {
            "masks found": summed(pairs["found"], chosen),
            "masks given": summed(pairs["given"], chosen),
            "masks": masks_summed(masks, chosen),
            "outlines": outlines_summed(outlines, chosen),
        }

    parts: dict[str, Any] = {}
    every = list(turntables.values())
    for part in PARTS:
        names = read_split(part).products
        textured = [one for one in every if one.product in names and one.product != PLAIN]
        products = {
            name: told([one for one in every if one.product == name])
            for name in names
            if any(one.product == name for one in every)
        }
        parts[part] = {"textured products": told(textured), "products": products}
    textured = [one for one in every if one.product != PLAIN]
    return {"both": told(textured), **parts, "pairs": pairs, "masks": masks, "outlines": outlines}


def main() -> None:
    """Makes what is missing, and reports on all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder of the packed turntables")
    parser.add_argument("--into", type=Path, default=Path("build/turntable_pairs"), help="folder of the runs")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"), help="where the figures go")
    parser.add_argument("--workers", type=int, help="processes; without it one for each core")
    options = parser.parse_args()
    turntables = read_turntables(options.videos)
    pairs: dict[Masks, list[dict[str, Any]]] = {"found": [], "given": []}
    masks: list[dict[str, Any]] = []
    outlines: list[dict[str, Any]] = []
    for product in sorted({turntable.product for turntable in turntables.values()}):
        names = [name for name, turntable in turntables.items() if turntable.product == product]
        for kind, rows in pairs.items():
            folder = options.into / kind / product
            lay_out(options.videos, names, kind, folder / "source")
            how = SETTINGS.model_copy(update={"workers": options.workers})
            run_pairs(folder / "source", folder / "pairs", how)
            rows.extend(judged(list(read_rows(folder / "pairs" / PAIRS, Pair)), turntables))
        masks.extend(compare_masks(options.into, product))
        outlines.extend(compare_outlines(options.into, product))
    figures = report(turntables, pairs, masks, outlines)
    print(json.dumps({key: figures[key] for key in ("both", *PARTS)}, indent=1))
    write_whole(options.json, (json.dumps(figures, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
