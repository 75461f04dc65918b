"""The scenes that figures show: of a dataset, of a frozen set of cases, or of a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refgc.dataset.manifest import PAIRS, StoredFile
from refgc.dataset.rows import check_some_entries, read_entries
from refgc.dataset.store import load_image, load_mask
from refgc.dataset.testset import HEAD, read_benchmark
from refgc.errors import InputError, quoted
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.image import Image, Mask, open_image, open_mask

PICTURES, MASKS = ("hrri", "lrgi", "hrgt"), ("hrri_mask", "lrgi_mask", "hrgt_mask")
# Ids that an error sentence lists.
LISTED = 5


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing to refine, by its files.

    Attributes:
        id: of the triplet, case or folder.
        object_name: in a word or two.
        root: folder of the dataset, which `StoredFile`s lie in.
        files: by their short names, of `PICTURES` and `MASKS`; HRRI and LRGI are always there.
    """

    id: str
    object_name: str
    root: Path
    files: Mapping[str, StoredFile | Path]


@dataclass(frozen=True, slots=True, eq=False)
class ScenePictures:
    """The pictures of a scene.

    Attributes:
        hrri: the reference.
        lrgi: the generated picture, small.
        hrgt: the truth; None where there is none.
        hrri_mask: the object in the HRRI; None where nobody drew it.
        object_mask: the object in the HRGT, else in the LRGI, which shows the same scene; None where nobody drew it.
    """

    hrri: Image
    lrgi: Image
    hrgt: Image | None
    hrri_mask: Mask | None
    object_mask: Mask | None


def read_scenes(folder: Path, *, unreviewed: bool = False) -> list[Scene]:
    """All scenes of a folder, in the order of its list, or of the names of its folders.

    Args:
        folder: a dataset with triplets; a frozen set, as `refgc dataset benchmark` makes it; or a folder of folders,
            each with pictures called `hrri`, `lrgi` and, where they exist, `hrgt` and `hrri_mask`, `lrgi_mask`,
            `hrgt_mask`, whose id is the folder's name.
        unreviewed: take rows of a dataset as well that not enough people have looked at.

    Raises:
        InputError: it is none of these, or nothing in it can be used.
    """
    if (folder / HEAD).is_file():
        return [Scene(case.id, case.object_name, folder, _of_case(case)) for case in read_benchmark(folder)[1]]
    if (folder / PAIRS).is_file():
        return _of_dataset(folder, unreviewed)
    if not folder.is_dir():
        raise InputError(f"There is no folder {quoted(str(folder))}; give a dataset or a folder of pictures.")
    places = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    scenes = [scene for place in places if (scene := _of_folder(place)) is not None]
    if not scenes:
        raise InputError(
            f"{quoted(str(folder))} is no dataset, and none of its folders has pictures called hrri and lrgi; give a "
            "dataset with triplets, a frozen set, or such folders."
        )
    return scenes


def choose_scenes(scenes: Sequence[Scene], ids: Iterable[str]) -> list[Scene]:
    """Those with the given ids, in the order of the ids.

    Raises:
        InputError: an id is not there.
    """
    known = {scene.id: scene for scene in scenes}
    chosen = list(ids)
    for one in chosen:
        if one not in known:
            some = ", ".join(map(quoted, list(known)[:LISTED]))
            more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
            raise InputError(f"There is no scene {quoted(one)}; there are {some}{more}.")
    return [known[one] for one in chosen]


def load_scene(scene: Scene) -> ScenePictures:
    """The pictures of a scene; those of a dataset are checked against their hashes.

    Raises:
        InputError: one is missing or damaged, or a mask does not fit its picture.
    """
    hrri, lrgi = _picture(scene, "hrri"), _picture(scene, "lrgi")
    hrgt = _picture(scene, "hrgt") if "hrgt" in scene.files else None
    object_mask = None
    if hrgt is not None and "hrgt_mask" in scene.files:
        object_mask = _mask(scene, "hrgt_mask", hrgt)
    elif "lrgi_mask" in scene.files:
        object_mask = _mask(scene, "lrgi_mask", lrgi)
    hrri_mask = _mask(scene, "hrri_mask", hrri) if "hrri_mask" in scene.files else None
    return ScenePictures(hrri, lrgi, hrgt, hrri_mask, object_mask)


def _of_case(case: object) -> dict[str, StoredFile | Path]:
    files = {name: getattr(case, name) for name in (*PICTURES, *MASKS)}
    return {name: file for name, file in files.items() if file is not None}


def _of_dataset(folder: Path, unreviewed: bool) -> list[Scene]:
    check_some_entries(folder, unreviewed=unreviewed)
    scenes = []
    for entry in read_entries(folder, unreviewed=unreviewed):
        if entry.triplet is None:
            raise InputError(
                f"The dataset in {quoted(str(folder))} has pairs and no triplets; make them with `refgc dataset "
                "triplets`."
            )
        files: dict[str, StoredFile | Path] = {
            name: file for name, file in entry.files().items() if name in (*PICTURES, *MASKS)
        }
        scenes.append(Scene(entry.id, entry.pair.object_name, folder, files))
    return scenes


def _of_folder(place: Path) -> Scene | None:
    """None where HRRI or LRGI is missing."""
    files: dict[str, StoredFile | Path] = {}
    for path in sorted(place.iterdir()):
        name = path.stem.lower()
        if name not in (*PICTURES, *MASKS) or path.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        if name in files:
            raise InputError(f"{quoted(str(place))} has two files called {name}; leave one.")
        files[name] = path
    return Scene(place.name, place.name, place, files) if {"hrri", "lrgi"} <= files.keys() else None


def _picture(scene: Scene, name: str) -> Image:
    file = scene.files[name]
    if isinstance(file, StoredFile):
        return load_image(scene.root, file)
    return open_image(file, name=f"{name.upper()} of the scene {quoted(scene.id)}")


def _mask(scene: Scene, name: str, picture: Image) -> Mask:
    file = scene.files[name]
    if isinstance(file, StoredFile):
        return load_mask(scene.root, file)
    called = name.removesuffix("_mask").upper()
    return open_mask(file, size=picture.size, name=f"{called} mask of the scene {quoted(scene.id)}")
