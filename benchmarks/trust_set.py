"""Pairs with known truth, right and wrong ones, on which the engine's trust is fitted and checked.

usage: python -m benchmarks.trust_set [--renders DIR] [--dreambooth DIR] [--seed N] [--sheet FILE]

The command counts the cases of each kind and can draw a sheet of some. The references and truths are the project's
examples, the renders of `benchmarks.product_views`, and photos of the DreamBooth dataset where a folder of them is
given. `split.toml` says which of them belong to which part. The generated pictures are simulated from the truths by
`refgc.simulator`; no generative model takes part.

The constants of this file were chosen by hand, not fitted.
"""

from __future__ import annotations

import argparse
import io
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image as PILImage

from benchmarks.split import Part, read_split
from refgc.engine import RefineResult
from refgc.imaging.arrays import Bools, Bytes, Floats
from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.simulator.artifacts import Strengths, simulate

Kind = Literal["view", "photo", "soft", "unrelated", "mirrored", "recoloured", "letters", "print"]
# The kinds in which the reference shows another object than the generated picture.
WRONG: tuple[Kind, ...] = ("unrelated", "mirrored", "recoloured", "letters", "print")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# The truth has this many times the sides of the generated picture, as in the paper.
SCALE = 4
# Shortest and longest side of a generated picture, in pixels.
SIDES = (96, 256)
# How many wrong pairings each truth gets besides its right ones.
WRONG_PAIRINGS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One pair with its truth.

    Attributes:
        name: unique within the set.
        group: the product or subject of the generated picture. Cases of one group are not independent.
        kind: "view" is a right pair of rendered pictures and "photo" one of photos; in "soft" the right reference has
            too few pixels to add much; in the others (`WRONG`) the reference shows something else: another object, the
            mirrored one, the same in other colours, with other letters, or with another print.
        reference: the HRRI, uint8 RGB (height, width, 3).
        generated: the simulated LRGI, uint8 RGB (height, width, 3), 96 to 256 pixels a side.
        truth: what the generated picture should show, uint8 RGB, `SCALE` times its sides. It has the generated
            picture's light.
        truth_mask: float32 in [0, 1] of the truth's height and width, how much of each pixel belongs to the visible
            part of the object; None where that is not known.
    """

    name: str
    group: str
    kind: Kind
    reference: Bytes
    generated: Bytes
    truth: Bytes
    truth_mask: Floats | None


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a case: those of the reference, the truth and the truth's object mask."""

    name: str
    group: str
    kind: Kind
    reference: Path
    truth: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Group:
    """All pictures of a product or subject; a truth has its mask beside it, or None."""

    name: str
    right: Literal["view", "photo"]
    references: tuple[Path, ...]
    truths: tuple[tuple[Path, Path | None], ...]
    lettered: tuple[Path, ...] = ()
    printed: tuple[Path, ...] = ()
    lettered_truths: tuple[tuple[Path, Path | None], ...] = ()


def cases(which: Part, renders: Path | None, dreambooth: Path | None, seed: int = 0) -> Iterator[Case]:
    """The cases of one part of the split, the same ones for the same files and seed.

    They come in a random order, so that the first ones are a fair sample of all. Each is made when it is asked for.

    Args:
        which: "fit" or "held out".
        renders: folder that `benchmarks.product_views` wrote to. Where it is None or lacks pictures there are fewer
            cases.
        dreambooth: folder with a folder of photos for each subject; `NN_mask.png` beside a photo is its object mask.
            Without it there are no photos.
        seed: of the order and of everything drawn onto the generated pictures.

    Warns:
        UserWarning: a part of the set is skipped because its pictures are not there.
    """
    found = pairs(which, renders, dreambooth)
    for index in np.random.default_rng(seed).permutation(len(found)):
        yield make_case(found[int(index)], seed)


def pairs(which: Part, renders: Path | None, dreambooth: Path | None) -> list[Pair]:
    """The files of all cases, in the order of their groups; see `cases`."""
    split = read_split(which)
    groups = [_product(name, renders) for name in split.products]
    if renders is None or not any((renders / name).is_dir() for name in split.products):
        warnings.warn("There are no renders: run benchmarks.product_views and name its folder.", stacklevel=2)
    subjects = [] if dreambooth is None else [name for name in split.subjects if (dreambooth / name).is_dir()]
    if skipped := [name for name in split.subjects if name not in subjects]:
        warnings.warn(f"There are no photos of {', '.join(skipped)}: name the DreamBooth folder.", stacklevel=2)
    if dreambooth is not None:
        groups += [_subject(dreambooth / name) for name in subjects]
    return [pair for group in groups for pair in _pairs_of(group, groups)]


def gain_of(result: RefineResult, truth: Bytes, where: Bools | None = None) -> float:
    """By how much a result is nearer to the truth than the enlargement, in dB.

    Args:
        result: of the correspondence engine.
        truth: (height, width, 3) of the output.
        where: (height, width), what counts; None takes the whole picture.
    """
    counted = np.ones(truth.shape[:2], bool) if where is None else where
    errors = [
        float(((one.pixels[counted].astype(np.float32) - truth[counted]) ** 2).mean()) + 1e-6
        for one in (result.image, result.stages["upscaled"])
    ]
    return 10 * float(np.log10(errors[1] / errors[0]))


def make_case(pair: Pair, seed: int) -> Case:
    """Opens the pictures of a pair and simulates its generated picture."""
    random = np.random.default_rng([seed, zlib.crc32(pair.name.encode())])
    reference = open_image(pair.reference, name="reference").pixels
    picture = open_image(pair.truth, name="truth")
    mask = None if pair.mask is None else open_mask(pair.mask, size=picture.size, name="mask").values
    truth, mask = _framed(picture.pixels, mask, random)
    truth = _relit(truth, random)
    generated = _generated(truth, mask, random)
    match pair.kind:
        case "mirrored":
            reference = np.ascontiguousarray(reference[:, ::-1])
        case "recoloured":
            reference = _recoloured(reference, random)
        case "soft":
            reference = _softened(reference, random)
    return Case(pair.name, pair.group, pair.kind, reference, generated, truth, mask)


def _product(name: str, renders: Path | None) -> Group:
    """The committed example and its renders."""
    folder = EXAMPLES / name
    files = [] if renders is None else sorted((renders / name).glob("*.json"))
    pictures = [(file.with_suffix(".png"), json.loads(file.read_text(encoding="utf-8"))) for file in files]

    def of(role: str, print_: str) -> tuple[Path, ...]:
        return tuple(path for path, facts in pictures if facts["role"] == role and facts["print"] == print_)

    def masked(paths: Sequence[Path]) -> tuple[tuple[Path, Path | None], ...]:
        return tuple((path, path.with_name(f"{path.stem}_mask.png")) for path in paths)

    return Group(
        name,
        "view",
        references=(folder / "hrri.jpg", *of("reference", "own")),
        truths=masked((folder / "hrgt.jpg", *of("view", "own"))),
        lettered=of("reference", "letters"),
        printed=of("reference", "other"),
        lettered_truths=masked(of("view", "letters")),
    )


def _subject(folder: Path) -> Group:
    photos = tuple(sorted(folder.glob("*.jpg")))
    masks = [photo.with_name(f"{photo.stem}_mask.png") for photo in photos]
    truths = tuple((photo, mask if mask.is_file() else None) for photo, mask in zip(photos, masks, strict=True))
    return Group(folder.name, "photo", photos, truths)


def _pairs_of(group: Group, groups: Sequence[Group]) -> Iterator[Pair]:
    """The right pairs of a group, and wrong ones for each of its truths."""

    def pair(kind: Kind, reference: Path, truth: Path, mask: Path | None) -> Pair:
        name = f"{group.name}/{truth.stem} {kind} {reference.parent.name}/{reference.stem}"
        return Pair(name, group.name, kind, reference, truth, mask)

    others = [reference for other in groups if other.name != group.name for reference in other.references]
    for index, (truth, mask) in enumerate(group.truths):
        own = [reference for reference in group.references if reference != truth]
        yield from (pair(group.right, reference, truth, mask) for reference in own)
        random = np.random.default_rng(zlib.crc32(f"{group.name}/{truth.stem}".encode()))
        if index % 3 == 0:
            yield pair("soft", own[int(random.integers(len(own)))], truth, mask)
        wrong: list[tuple[Kind, Sequence[Path]]] = [("unrelated", others), ("letters", group.lettered)]
        wrong += [("mirrored", own), ("print", group.printed), ("recoloured", own), ("unrelated", others)]
        available = [(kind, references) for kind, references in wrong if references]
        made: dict[str, Pair] = {}
        for step in range(min(WRONG_PAIRINGS, len(available))):
            kind, references = available[(WRONG_PAIRINGS * index + step) % len(available)]
            drawn = pair(kind, references[int(random.integers(len(references)))], truth, mask)
            # An unrelated reference can be drawn twice.
            made[drawn.name] = drawn
        yield from made.values()
    for truth, mask in group.lettered_truths:
        yield from (pair("letters", reference, truth, mask) for reference in group.references)


def _framed(pixels: Bytes, mask: Floats | None, random: np.random.Generator) -> tuple[Bytes, Floats | None]:
    """A random crop that holds the object, of `SCALE` times the sides that the generated picture will have."""
    height, width = pixels.shape[:2]
    rows, columns = _span(mask, 0, height, random), _span(mask, 1, width, random)
    crop = pixels[rows[0] : rows[1], columns[0] : columns[1]]
    sides = rows[1] - rows[0], columns[1] - columns[0]
    # The generated picture's scale such that both of its sides are within `SIDES` and the truth is not enlarged.
    least, most = SIDES[0] / min(sides), min(1 / SCALE, SIDES[1] / max(sides))
    scale = float(np.exp(random.uniform(np.log(least), np.log(max(most, least)))))
    size = (max(SIDES[0], round(sides[1] * scale)) * SCALE, max(SIDES[0], round(sides[0] * scale)) * SCALE)
    truth = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    if mask is None:
        return truth, None
    part = mask[rows[0] : rows[1], columns[0] : columns[1]]
    return truth, np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.float32)


def _span(mask: Floats | None, axis: int, length: int, random: np.random.Generator) -> tuple[int, int]:
    """First and last pixel of the crop along an axis: half of the times all, else a part that holds the object."""
    shortest = min(length, SIDES[0] * SCALE)
    low, high = 0, 0
    if mask is None:
        shortest = max(shortest, round(0.75 * length))
    elif (mask > 0).any():
        occupied = np.flatnonzero((mask > 0).any(axis=1 - axis))
        low, high = int(occupied[0]), int(occupied[-1]) + 1
    side = int(random.integers(max(shortest, high - low), length + 1))
    start = int(random.integers(max(0, high - side), (min(low, length - side) if high else length - side) + 1))
    return (start, start + side) if random.uniform() < 0.5 else (0, length)


def _relit(pixels: Bytes, random: np.random.Generator) -> Bytes:
    """Another light on the whole picture: exposure, colour, a fall-off to one side, seldom night."""
    if random.uniform() < 0.4:
        return pixels
    height, width = pixels.shape[:2]
    night = random.uniform() < 0.2
    exposure = random.uniform(0.08, 0.3) if night else float(np.exp(random.uniform(-0.6, 0.35)))
    warmth = random.uniform(-0.25, 0.25) * (1.6 if night else 1.0)
    gain = exposure * np.array([1 + warmth, 1.0, 1 - warmth])
    angle, depth = random.uniform(0, 2 * np.pi), random.uniform(0, 0.5)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    fall = 1 - depth * (1 + np.cos(angle) * x + np.sin(angle) * y) / 2.5
    # Light adds up in linear values; 2.2 comes near enough to sRGB's curve for a made-up light.
    linear = (pixels / 255.0) ** 2.2 * gain * fall[..., None]
    levels = 255 * np.clip(linear, 0, 1) ** (1 / 2.2)
    # A dithering that keeps a dark picture from showing steps.
    return np.asarray(np.clip(np.floor(levels + random.uniform(0, 1, levels.shape)), 0, 255), np.uint8)


def _generated(truth: Bytes, mask: Floats | None, random: np.random.Generator) -> Bytes:
    """The simulated LRGI, with more blur and JPEG than the simulator's own in some."""
    size = (truth.shape[1] // SCALE, truth.shape[0] // SCALE)
    marked = None if mask is None or not mask.any() else Mask(mask.copy())
    painted = truth if mask is None or random.uniform() < 0.5 else _repainted(truth, mask, random)
    made = simulate(
        Image(painted.copy()),
        marked,
        size=size,
        strengths=_strengths(random),
        seed=int(random.integers(2**31)),
        quality_everywhere=bool(random.uniform() < 0.5),
    ).image.pixels
    if random.uniform() < 0.2:
        made = np.asarray(cv2.GaussianBlur(made, (0, 0), random.uniform(0.4, 1.3)), np.uint8)
    return _through_jpeg(made, int(random.integers(60, 96))) if random.uniform() < 0.8 else made


def _repainted(pixels: Bytes, mask: Floats, random: np.random.Generator) -> Bytes:
    """Patches of the object painted otherwise, as generators do: faded, in another colour, smeared or moved."""
    rows, columns = np.nonzero(mask > 0.5)
    if not len(rows):
        return pixels
    painted = pixels.astype(np.float32)
    extent = np.sqrt(len(rows))
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    for _ in range(int(random.integers(1, 4))):
        middle = int(random.integers(len(rows)))
        radii = extent * random.uniform(0.1, 0.7, 2)
        distance = np.hypot((y - rows[middle]) / radii[0], (x - columns[middle]) / radii[1])
        weight = (np.clip((1.0 - distance) * float(radii.min()) / 4.0, 0, 1) * mask)[..., None]
        match str(random.choice(["faded", "recoloured", "smeared", "moved"])):
            case "faded":
                other = random.uniform(150, 220) + random.uniform(0.15, 0.7) * (painted - 128.0)
            case "recoloured":
                other = _recoloured(np.asarray(np.clip(painted, 0, 255), np.uint8), random).astype(np.float32)
            case "smeared":
                other = cv2.GaussianBlur(painted, (0, 0), random.uniform(0.01, 0.04) * extent + 1.0)
            case _:
                down, right = (int(step) for step in random.normal(0, 0.06 * extent, 2))
                other = np.roll(painted, (down, right), axis=(0, 1))
        painted += weight * (other - painted)
    return np.asarray(np.clip(np.rint(painted), 0, 255), np.uint8)


def _strengths(random: np.random.Generator) -> Strengths:
    """From none to far beyond the simulator's defaults, weak ones more often than strong ones."""
    if random.uniform() < 0.08:
        return Strengths(identity_distortion=0, detail_inconsistency=0, texture_loss=0, quality_degradation=0)
    shape, detail, texture, quality = random.uniform(0, 1, 4) * (random.uniform(0, 1, 4) > 0.12)
    return Strengths(
        identity_distortion=0.6 * shape**2,
        detail_inconsistency=detail**1.5,
        texture_loss=texture,
        quality_degradation=0.9 * quality**1.5,
    )


def _recoloured(pixels: Bytes, random: np.random.Generator) -> Bytes:
    """All hues turned by 80 to 280 degrees in CIELAB, the lightness kept."""
    angle = np.radians(random.uniform(80, 280))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    lab = cv2.cvtColor(np.asarray(pixels, np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 1:] = lab[..., 1:] @ turn.T
    return np.asarray(np.clip(np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255), 0, 255), np.uint8)


def _softened(pixels: Bytes, random: np.random.Generator) -> Bytes:
    """A reference of few pixels: a thumbnail, or one that was enlarged again."""
    factor = random.uniform(140, 320) / max(pixels.shape[:2])
    small = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    small = _through_jpeg(small, int(random.integers(70, 96)))
    if random.uniform() < 0.5:
        return small
    return np.asarray(cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def _through_jpeg(pixels: Bytes, quality: int) -> Bytes:
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(PILImage.open(file))


def _sheet(shown: Sequence[Case], side: int = 320) -> PILImage.Image:
    """Reference, generated picture, truth and mask of some cases, a row each."""
    rows = []
    for case in shown:
        mask = np.zeros(case.truth.shape[:2], np.float32) if case.truth_mask is None else case.truth_mask
        grey = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2)
        pictures = (case.reference, case.generated, case.truth, grey)
        rows.append(np.hstack([cv2.resize(picture, (side, side)) for picture in pictures]))
    return PILImage.fromarray(np.vstack(rows))


def main() -> None:
    """Counts the cases of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=Path, help="folder that benchmarks.product_views wrote to")
    parser.add_argument("--dreambooth", type=Path, help="folder with a folder of photos for each subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="picture to write, with some cases for fitting")
    arguments = parser.parse_args()
    parts: tuple[Part, ...] = ("fit", "held out")
    for which in parts:
        counted = Counter(pair.kind for pair in pairs(which, arguments.renders, arguments.dreambooth))
        print(f"{which}: {counted.total()} cases;", ", ".join(f"{kind} {count}" for kind, count in counted.items()))
    if arguments.sheet:
        shown = list(islice(cases("fit", arguments.renders, arguments.dreambooth, arguments.seed), 12))
        _sheet(shown).save(arguments.sheet)
        for case in shown:
            print(case.name, case.generated.shape[1::-1])


if __name__ == "__main__":
    main()
