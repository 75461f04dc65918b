"""Pictures of 64x64 pixels for the training at toy scale: what the base is trained on, and the triplets.

The base sees products and subjects for fitting only (benchmarks/split.toml). It never sees an LRGI with artifacts, nor
two views of one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.split import Part, read_split
from benchmarks.turntables import VIDEOS
from refgc.dataset.frames import read_frames
from refgc.dataset.lrgi import chosen_source
from refgc.dataset.pairs import run_pairs
from refgc.dataset.rows import Entry, read_entries
from refgc.dataset.settings import PairSettings, TripletSettings
from refgc.dataset.sources import find_objects
from refgc.dataset.store import load_image, load_mask
from refgc.dataset.triplets import run_triplets
from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.image import MARKED, open_image

SIDE, SMALL = 64, 16
# The dataset's pictures; an LRGI has a quarter of their side and is made smaller once more.
STORED_SIDE = 256
PAIRS_PER_OBJECT, SEEDS = 12, 3
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# The side of a window over that of the object in it. Chosen by hand.
ROOM = 1.15
# Changes between the reference and the target of the base's third task. Chosen by hand.
LARGEST_TURN, LARGEST_SHIFT, ZOOM = 15.0, 0.08, (0.85, 1.2)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A triplet at toy size.

    Attributes:
        id: of its row.
        object_id: of its object.
        hrri: uint8 RGB (`SIDE`, `SIDE`, 3).
        hrri_mask: (`SIDE`, `SIDE`) in [0, 1].
        hrgt: like the HRRI.
        hrgt_mask: like the HRRI's.
        lrgi: uint8 RGB (`SMALL`, `SMALL`, 3).
    """

    id: str
    object_id: str
    hrri: Bytes
    hrri_mask: Floats
    hrgt: Bytes
    hrgt_mask: Floats
    lrgi: Bytes


def make_triplets(into: Path, dreambooth: Path, *, workers: int | None = None) -> list[Path]:
    """Makes the triplets that are not there yet, of the turntables and of DreamBooth's photos.

    Returns:
        The folders of both datasets.
    """
    turntables = into / "turntables"
    turntables.mkdir(parents=True, exist_ok=True)
    for video in sorted(VIDEOS.glob("*.mp4")):
        for file in (video, VIDEOS / "truth" / f"{video.stem}_mask.mkv"):
            link = turntables / file.name
            if not link.exists():
                link.symlink_to(file)
    subjects = into / "dreambooth"
    subjects.mkdir(exist_ok=True)
    for name in read_split("fit").subjects + read_split("held out").subjects:
        if not (subjects / name).exists():
            (subjects / name).symlink_to((dreambooth / name).resolve(), target_is_directory=True)
    folders = []
    for source in (turntables, subjects):
        folder = into / f"{source.name}_triplets"
        settings = PairSettings(
            side=STORED_SIDE, no_vlm=True, pairs_per_object=PAIRS_PER_OBJECT, workers=workers, least_object_side=64
        )
        run_pairs(source, folder, settings)
        drawn = TripletSettings(simulated=True, seeds=SEEDS, workers=workers)
        run_triplets(folder, chosen_source(drawn), drawn)
        folders.append(folder)
    return folders


def read_examples(folders: Iterable[Path], part: Part) -> list[Example]:
    """The triplets of the objects of one part of the split."""
    split = read_split(part)
    names = split.products + split.subjects
    return [
        _example(folder, entry)
        for folder in folders
        for entry in read_entries(folder, unreviewed=True)
        if owner(entry.pair.hrri.frame) in names
    ]


def owner(frame: str) -> str:
    """The product of a video such as "mug_room.mp4", or the subject of a photo such as "clock/00.jpg"."""
    folder, _, video = frame.rpartition("/")
    return folder or video.rpartition("_")[0]


def _example(folder: Path, entry: Entry) -> Example:
    """A window close around the object in each picture: 64 pixels have no room for its surroundings."""
    pair, triplet = entry.pair, entry.triplet
    assert triplet is not None, "triplets were made"
    hrri_mask, hrgt_mask = (load_mask(folder, one.mask).values for one in (pair.hrri, pair.hrgt))
    hrri, hrgt, lrgi = (
        load_image(folder, file).pixels for file in (pair.hrri.picture, pair.hrgt.picture, triplet.lrgi)
    )
    of_hrri, of_hrgt = _window(hrri_mask), _window(hrgt_mask)
    # Both show the same scene.
    of_lrgi = of_hrgt * (lrgi.shape[1] / hrgt.shape[1])
    return Example(
        triplet.id,
        pair.object_id,
        _cut(hrri, of_hrri),
        _cut_mask(hrri_mask, of_hrri),
        _cut(hrgt, of_hrgt),
        _cut_mask(hrgt_mask, of_hrgt),
        shrunk(_cut(lrgi, of_lrgi), SMALL),
    )


def _window(mask: Floats) -> Floats:
    """Three corners (3, 2) of the square around an object, a little larger than it."""
    rows, columns = (np.flatnonzero((mask >= MARKED).any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    half = ROOM * max(bottom - top, right - left) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return np.array([[x - half, y - half], [x + half, y - half], [x - half, y + half]], np.float32)


def _cut_mask(mask: Floats, corners: Floats) -> Floats:
    """The mask of a picture that `_cut` cuts; nothing is marked outside of it."""
    levels = np.repeat(np.round(mask * 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(_cut(levels, corners, border=cv2.BORDER_CONSTANT)[..., 0] / np.float32(255))


def shrunk(pixels: Bytes, side: int) -> Bytes:
    """A picture averaged down to a square."""
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def read_photos() -> list[Bytes]:
    """Frames and photos of the products for fitting; the base is trained on their parts."""
    products = read_split("fit").products
    photos: list[Bytes] = []
    for item in find_objects(VIDEOS, PairSettings(side=STORED_SIDE, no_vlm=True)):
        if owner(item.label) in products:
            frames = read_frames(item, PairSettings(side=STORED_SIDE, no_vlm=True)).kept
            photos.extend(frame.image.pixels for frame in frames)
    for name in products:
        for file in ("hrri.jpg", "hrgt.jpg"):
            pixels = open_image(EXAMPLES / name / file, name=file).pixels
            factor = 512 / max(pixels.shape[:2])
            photos.append(np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)))
    return photos


TASKS = ("sharpen", "copy", "detail")


def base_batch(
    photos: Sequence[Bytes], random: np.random.Generator, size: int
) -> tuple[Bytes, Bytes, Bytes, NDArray[np.int64]]:
    """Pictures that the base is trained on, of three kinds of edit.

    "sharpen": the target is the small picture before it was made small, and the first picture another one. "copy": the
    target is the first picture. "detail": the target is the small picture with the detail of the first, which shows the
    same turned, moved and zoomed.

    Returns:
        Targets and first pictures (batch, `SIDE`, `SIDE`, 3), small pictures (batch, `SMALL`, `SMALL`, 3), and the
        numbers of the tasks (batch,), in `TASKS`.
    """
    tasks = random.choice(len(TASKS), size, p=(0.25, 0.15, 0.6))
    targets, firsts, smalls = [], [], []
    for task in tasks:
        photo = photos[int(random.integers(len(photos)))]
        corners = _square(photo, random)
        target = _cut(photo, corners)
        other = photos[int(random.integers(len(photos)))]
        match TASKS[task]:
            case "sharpen":
                first, small = _cut(other, _square(other, random)), target
            case "copy":
                first, small = target, _cut(other, _square(other, random))
            case _:
                first, small = _cut(photo, _moved(corners, random)), target
        if random.random() < 0.5:
            target, first, small = target[:, ::-1], first[:, ::-1], small[:, ::-1]
        gain = random.uniform(0.8, 1.2, 3)
        target, first, small = (np.clip(one * gain, 0, 255).astype(np.uint8) for one in (target, first, small))
        targets.append(target)
        firsts.append(first)
        smalls.append(shrunk(small, SMALL))
    return np.stack(targets), np.stack(firsts), np.stack(smalls), tasks


def _square(photo: Bytes, random: np.random.Generator) -> Floats:
    """Three corners of a random square in a photo, (3, 2)."""
    height, width = photo.shape[:2]
    side = random.uniform(0.35, 0.95) * min(height, width)
    left, top = random.uniform(0, width - side), random.uniform(0, height - side)
    return np.array([[left, top], [left + side, top], [left, top + side]], np.float32)


def _moved(corners: Floats, random: np.random.Generator) -> Floats:
    """The square turned, moved and zoomed a little."""
    middle, side = (corners[1] + corners[2]) / 2, corners[1, 0] - corners[0, 0]
    turn, zoom = np.radians(random.uniform(-LARGEST_TURN, LARGEST_TURN)), random.uniform(*ZOOM)
    rotation = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2) * side
    return np.asarray((corners - middle) @ rotation.T + middle + shift, np.float32)


def _cut(photo: Bytes, corners: Floats, border: int = cv2.BORDER_REFLECT) -> Bytes:
    """The square with these corners as a picture, averaged from one of twice its side."""
    double = 2 * SIDE
    target = np.array([[0, 0], [double, 0], [0, double]], np.float32)
    matrix = cv2.getAffineTransform(corners, target)
    size = (double, double)
    return shrunk(np.asarray(cv2.warpAffine(photo, matrix, size, borderMode=border), np.uint8), SIDE)
