"""Sources of the dataset: folders of videos, a folder of photos for each object, and uCO3D.

What lies beside a video or photo is used and not computed again:

    mug.mp4               a video of one object
    mug_mask.mkv          its mask video, of as many frames: bright where the object is
    mug_poses.jsonl       a line a frame: {"seconds": 0.04, "pose": [[...], [...], [...], [...]]}, camera to object
    shoe/00.jpg           a photo of the object "shoe"
    shoe/00_mask.png      its mask; no photo
    captions.csv          a line an object: name, object, category, caption, licence, kind; or captions.jsonl
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from refgc.dataset.manifest import Category, Source, SourceKind
from refgc.dataset.settings import PairSettings
from refgc.errors import InputError, first_fault, one_line, quoted
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.journal import read_lines

# Nobody photographs in these.
PHOTOS = PICTURE_SUFFIXES - {".gif", ".ppm", ".pgm"}
VIDEOS = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"))
MASK, POSES = "_mask", "_poses.jsonl"
CAPTIONS = ("captions.csv", "captions.jsonl")
METADATA = "metadata.sqlite"
# Bytes of an RGB PNG for each of its pixels. Chosen by hand, on the safe side: an 8-bit picture without compression
# has three.
PNG_BYTES, MASK_BYTES = 2.2, 0.05

Pose = tuple[tuple[float, float, float, float], ...]

# The super-categories of uCO3D as one of the paper's categories; what is not named here is "other". By hand.
UCO3D_CATEGORIES: Mapping[str, Category] = {
    "animal_related_objects": "other",
    "audio_and_video_equipment": "electronics_appliance",
    "baby_and_toddler_items": "other",
    "bags_and_luggage": "clothing_accessory",
    "bakery_and_confectionery": "food",
    "bathroom_items": "furniture_interior",
    "bedding_and_linens": "furniture_interior",
    "beverages": "food",
    "cleaning_tools_and_products": "tool_machinery",
    "clothing": "clothing_accessory",
    "clothing_accessories": "clothing_accessory",
    "communication_devices": "electronics_appliance",
    "computers_and_peripherals": "electronics_appliance",
    "condiments_and_snacks": "food",
    "decorative_items": "furniture_interior",
    "dishware_and_serving_pieces": "kitchen_cookware",
    "electronic_devices_and_tech": "electronics_appliance",
    "footwear": "clothing_accessory",
    "fruit": "food",
    "furniture": "furniture_interior",
    "gardening_tools": "tool_machinery",
    "general_animals": "animal",
    "hardware_tools": "tool_machinery",
    "home_décor": "furniture_interior",
    "home_maintenance_and_repair_tools": "tool_machinery",
    "household_appliances": "electronics_appliance",
    "kitchen_appliances": "electronics_appliance",
    "kitchen_utensils_and_cookware": "kitchen_cookware",
    "lighting_equipment": "furniture_interior",
    "meal": "food",
    "personal_vehicles": "vehicle",
    "pets_most_friendly_to_humans": "animal",
    "photography_equipment": "electronics_appliance",
    "plants_and_other": "nature_landscape",
    "public_vehicles": "vehicle",
    "tools": "tool_machinery",
    "vegetables_and_legumes": "food",
    "vehicle_parts_and_miscellaneous": "vehicle",
    "water_vehicles_and_aircraft": "vehicle",
}


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo of an object.

    Attributes:
        label: as rows name it: its path inside the source.
        path: the file.
        mask: the file of its mask, or None.
    """

    label: str
    path: Path
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """A video of one object.

    Attributes:
        label: as rows name it: its path inside the source.
        path: the file.
        mask: its mask video, or None.
        poses: seconds and camera-to-object pose of frames, by rising time; empty where the source has none.
    """

    label: str
    path: Path
    mask: Path | None = None
    poses: tuple[tuple[float, Pose], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One object and what shows it.

    Attributes:
        id: safe as a file name; the same source gives the same.
        label: path inside the source.
        name: in a word or two.
        category: of the paper's twelve.
        caption: a sentence, or None.
        source: for its rows.
        material: photos, or one video.
    """

    id: str
    label: str
    name: str
    category: Category
    caption: str | None
    source: Source
    material: tuple[Photo, ...] | Video


class Caption(BaseModel):
    """A line of a captions file.

    Attributes:
        name: the object's folder of photos or its video, as a path inside the source; the suffix may be left out.
        object: the object in a word or two.
        category: one of the paper's twelve.
        caption: a sentence on the object.
        licence: of its pictures.
        kind: "render" where the pictures were computed; None takes what was found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    object: str | None = None
    category: Category | None = None
    caption: str | None = None
    licence: str | None = None
    kind: Literal["video", "photos", "render"] | None = None


def find_objects(folder: Path, settings: PairSettings, captions: Path | None = None) -> list[SourceObject]:
    """The objects of a source, by rising id.

    Args:
        folder: a uCO3D folder, or any folder with videos, or with a folder of photos for each object.
        settings: of the run.
        captions: CSV or JSONL; None takes `captions.csv` or `captions.jsonl` of the folder where there is one.

    Raises:
        InputError: there is no such folder, it holds nothing of use, or its captions or metadata cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"The source {quoted(str(folder))} is no folder; give a folder of videos or photo folders.")
    if (folder / METADATA).is_file():
        found = list(_uco3d(folder, settings))
    else:
        own = next((folder / name for name in CAPTIONS if (folder / name).is_file()), None)
        found = list(_in_folder(folder, settings, _read_captions(captions or own)))
    if not found:
        raise InputError(
            f"{quoted(str(folder))} holds no videos and no folders of photos; give a folder with a folder of photos "
            "for each object, or one of videos."
        )
    return sorted(found, key=lambda item: item.id)


def needed_bytes(objects: Iterable[SourceObject], settings: PairSettings) -> int:
    """An estimate of the disk that the pairs will take, in bytes; it is rather too large.

    Each object is taken to give as many pairs as are allowed.
    """
    picture = settings.side**2 * (PNG_BYTES + MASK_BYTES)
    return int(sum(_most_views(item, settings) for item in objects) * picture)


def _most_views(item: SourceObject, settings: PairSettings) -> int:
    frames = len(item.material) if isinstance(item.material, tuple) else settings.frames_per_object
    # A view is kept once as HRRI and once as HRGT at most.
    return min(2 * settings.pairs_per_object, 2 * min(frames, settings.frames_per_object))


def object_id(label: str) -> str:
    """An id for a path inside a source: readable, and different for different paths."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower()[-60:].strip("-")
    return f"{plain or 'object'}-{hashlib.sha256(label.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _label(path: Path, folder: Path) -> str:
    """A path inside the source, as rows name it."""
    return _words(path.relative_to(folder).as_posix())


def _words(name: str) -> str:
    """A file's name as text. Bytes that are not of UTF-8, as old archives have them, are spelled out for the rows."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _in_folder(folder: Path, settings: PairSettings, captions: Mapping[str, Caption]) -> Iterator[SourceObject]:
    used: set[str] = set()
    read: set[Path] = set()
    # Folders before links to folders: what a link leads back to is no second object.
    places = (folder, *(path for path in folder.rglob("*") if path.is_dir()))
    for place in sorted(places, key=lambda path: (path.is_symlink() and path != folder, path)):
        real = place.resolve()
        if real in read:
            continue
        read.add(real)
        files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        by_stem = {path.stem: path for path in files if path.suffix.lower() in PHOTOS | VIDEOS}
        shown = [path for path in files if not (path.stem.endswith(MASK) and path.stem[: -len(MASK)] in by_stem)]
        photos = [path for path in shown if path.suffix.lower() in PHOTOS]
        if photos and place == folder:
            raise InputError(
                f"Photos lie directly in {quoted(str(folder))}; put those of each object into a folder of its own."
            )
        materials: list[tuple[Path, tuple[Photo, ...] | Video]] = [
            (path, _video(path, by_stem.get(path.stem + MASK), folder))
            for path in shown
            if path.suffix.lower() in VIDEOS
        ]
        if photos:
            label = [_label(path, folder) for path in photos]
            masks = [by_stem.get(path.stem + MASK) for path in photos]
            materials.append((place, tuple(map(Photo, label, photos, masks))))
        for path, material in materials:
            label_of = _label(path, folder)
            name = next((key for key in (label_of, _label(path.with_suffix(""), folder)) if key in captions), "")
            used.add(name)
            yield _described(label_of, path.stem, material, captions.get(name), folder, settings)
    unknown = sorted(set(captions) - used)
    if unknown:
        raise InputError(f"The captions file names {quoted(unknown[0])}, and the source has no such object.")


def _video(path: Path, mask: Path | None, folder: Path) -> Video:
    poses = []
    for line in read_lines(path.with_name(path.stem + POSES)):
        try:
            poses.append((float(line["seconds"]), _pose(np.array(line["pose"], np.float64))))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{quoted(str(path.with_name(path.stem + POSES)))} has a line without seconds and a pose of four rows "
                "of four numbers."
            ) from error
    return Video(_label(path, folder), path, mask, tuple(sorted(poses)))


def _described(
    label: str,
    stem: str,
    material: tuple[Photo, ...] | Video,
    caption: Caption | None,
    folder: Path,
    settings: PairSettings,
) -> SourceObject:
    found: SourceKind = "photos" if isinstance(material, tuple) else "video"
    said = caption or Caption(name=label)
    return SourceObject(
        id=object_id(label),
        label=label,
        name=said.object or " ".join(re.split(r"[\W_]+", stem)).strip() or "object",
        category=said.category or "other",
        caption=said.caption,
        source=Source(
            kind=said.kind or found,
            name=settings.collection or _words(folder.resolve().name) or "unnamed",
            licence=said.licence or settings.licence,
            address=settings.address,
        ),
        material=material,
    )


def _read_captions(path: Path | None) -> dict[str, Caption]:
    if path is None:
        return {}
    captions: dict[str, Caption] = {}
    for number, row in enumerate(_caption_rows(path), 1):
        try:
            caption = Caption.model_validate({key: value for key, value in row.items() if value not in ("", None)})
        except ValidationError as error:
            field, fault = first_fault(error)
            raise InputError(
                f"Row {number} of the captions {quoted(str(path))} cannot be used: {field}: {fault}."
            ) from error
        if caption.name in captions:
            raise InputError(f"The captions {quoted(str(path))} name {quoted(caption.name)} twice; keep one of them.")
        captions[caption.name] = caption
    return captions


def _caption_rows(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        raise InputError(f"There is no captions file {quoted(str(path))}.")
    if path.suffix.lower() == ".jsonl":
        return list(read_lines(path))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [{str(key): value for key, value in row.items()} for row in csv.DictReader(file, strict=True)]
    except UnicodeDecodeError as error:
        raise InputError(f"The captions {quoted(str(path))} are not in UTF-8; save them in it.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"The captions {quoted(str(path))} cannot be read ({one_line(str(error))}).") from error


# What is read of uCO3D's database; its layout is that of facebookresearch/uco3d, uco3d/dataset_utils/orm_types.py.
_SEQUENCES = """
    SELECT sequence_name, super_category, category, _video_path, _mask_video_path, sequence_caption,
           sequence_short_caption
    FROM sequence_annots ORDER BY sequence_name
"""
_FRAMES = """
    SELECT frame_timestamp, _viewpoint_R, _viewpoint_T FROM frame_annots
    WHERE sequence_name = ? AND _viewpoint_R IS NOT NULL AND _viewpoint_T IS NOT NULL
    ORDER BY frame_timestamp
"""


def _uco3d(folder: Path, settings: PairSettings) -> Iterator[SourceObject]:
    """The sequences whose video is there; of a part of the collection the database names all."""
    database = folder / METADATA
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            for name, group, category, video, mask, caption, short in connection.execute(_SEQUENCES):
                path = _inside(folder, video)
                if path is None or not path.is_file():
                    continue
                mask_path = _inside(folder, mask)
                frames = connection.execute(_FRAMES, (name,))
                poses = tuple((float(seconds or 0.0), _uco3d_pose(turn, shift)) for seconds, turn, shift in frames)
                label = _label(path, folder)
                yield SourceObject(
                    id=object_id(str(name)),
                    label=label,
                    name=" ".join(re.split(r"[\W_]+", str(category or "object"))).strip().lower(),
                    category=UCO3D_CATEGORIES.get(re.sub(r"[-\s]", "_", str(group or "")).lower(), "other"),
                    caption=caption or short,
                    source=Source(
                        kind="uco3d",
                        name=settings.collection or "uCO3D",
                        licence=settings.licence or "CC BY 4.0",
                        address=settings.address or "https://github.com/facebookresearch/uco3d",
                    ),
                    material=Video(label, path, mask_path if mask_path and mask_path.is_file() else None, poses),
                )
    except (sqlite3.Error, struct.error, ValueError, TypeError) as error:
        raise InputError(
            f"{quoted(str(database))} is no metadata of uCO3D ({one_line(str(error))}); fetch it again."
        ) from error


def _inside(folder: Path, path: object) -> Path | None:
    """A path that a database names, where it stays in the folder."""
    if not isinstance(path, str) or not path or "\0" in path:
        return None
    place = folder / path
    return place if place.resolve().is_relative_to(folder.resolve()) else None


def _uco3d_pose(rotation: bytes, translation: bytes) -> Pose:
    """Camera to object of PyTorch3D's convention, in which camera = object @ R + T and x points left and y up.

    The axes are those of the camera as the source has them: z points away from the camera.
    """
    turn = np.array(struct.unpack("<9f", rotation), np.float64).reshape(3, 3)
    shift = np.array(struct.unpack("<3f", translation), np.float64)
    pose = np.eye(4)
    # object = (camera - T) @ R^T; as a matrix on column vectors that is R @ camera - R @ T.
    pose[:3, :3], pose[:3, 3] = turn, -turn @ shift
    return _pose(pose)


def _pose(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Pose:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError("a pose has four rows of four numbers")
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)
