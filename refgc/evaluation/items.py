"""What methods are compared on: triplets of a dataset, of a frozen set or of a folder, or pairs without a truth.

Pictures are named by the hash of their bytes, so that a run on them can be found again, and a damaged one is seen.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from refgc.dataset.check import check_is_dataset
from refgc.dataset.manifest import PAIRS, StoredFile, Task
from refgc.dataset.rows import Entry, check_some_entries, read_entries
from refgc.dataset.testset import HEAD, Case, read_benchmark
from refgc.errors import InputError, quoted, sentence_about
from refgc.imaging.arrays import Size, bicubic
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.image import ASPECT_TOLERANCE, Image, Mask, open_image, open_mask
from refgc.pairs import Pair, read_pairs
from refgc.request import SCALES

SplitChoice: TypeAlias = Literal["test", "validation", "train", "all"]
# How much larger a result is where no truth says it, as in the paper.
SCALE = 4
# How an HRRI's file in a folder of pairs is called, at the end of its name; the HRGT's is called hrgt.
REFERENCES = ("hrri", "reference")
TRUTH, TRUTH_MASK = "hrgt", "hrgt_mask"
# Bytes of an id that becomes the name of a file. File systems take 255, and an ending and other names come with it.
LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture or mask.

    Attributes:
        path: of the file.
        sha256: of its bytes, in hexadecimal.
    """

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to refine.

    Attributes:
        id: unique in its collection; safe as a file name.
        object_id: items of one object are not independent.
        object_name: in a word or two.
        hrri: the reference.
        lrgi: what is to be refined.
        hrgt: the truth; None in the wild.
        hrri_mask: the object in the reference, where somebody drew it.
        lrgi_mask: the object in the LRGI.
        hrgt_mask: the object in the truth.
    """

    id: str
    object_id: str
    object_name: str
    hrri: PictureFile
    lrgi: PictureFile
    hrgt: PictureFile | None = None
    hrri_mask: PictureFile | None = None
    lrgi_mask: PictureFile | None = None
    hrgt_mask: PictureFile | None = None

    @property
    def hashes(self) -> dict[str, str | None]:
        """The SHA-256 of each picture and mask by its name; None where there is none."""
        names = ("hrri", "lrgi", "hrgt", "hrri_mask", "lrgi_mask", "hrgt_mask")
        files: dict[str, PictureFile | None] = {name: getattr(self, name) for name in names}
        return {name: None if file is None else file.sha256 for name, file in files.items()}


@dataclass(frozen=True, slots=True)
class BadItem:
    """An entry that no method can be run on.

    Attributes:
        id: of the entry, or where in its list it stands.
        reason: one sentence.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """All items of a comparison.

    Attributes:
        kind: where they come from, in words.
        name: of the folder or list.
        sha256: of the list of all ids and hashes; figures of the same list can be compared.
        items: sorted by id.
        bad: entries that are none.
    """

    kind: str
    name: str
    sha256: str
    items: tuple[Item, ...]
    bad: tuple[BadItem, ...] = ()

    @property
    def with_truth(self) -> int:
        """How many items have an HRGT."""
        return sum(item.hrgt is not None for item in self.items)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The opened pictures of an item.

    Attributes:
        hrri: the reference.
        lrgi: what is to be refined.
        hrgt: the truth, or None.
        hrri_mask: of the reference's size, or None.
        lrgi_mask: of the LRGI's size, or None.
        hrgt_mask: of the truth's size, or None.
        size: (width, height) of the results: the truth's, or without one `SCALE` times the LRGI's.
    """

    hrri: Image
    lrgi: Image
    hrgt: Image | None
    hrri_mask: Mask | None
    lrgi_mask: Mask | None
    hrgt_mask: Mask | None
    size: Size

    @property
    def scale(self) -> int:
        """The least factor of an engine, 1, 2 or 4, whose result has at least `size`; else 4."""
        wanted = max(self.size[0] / self.lrgi.size[0], self.size[1] / self.lrgi.size[1])
        # A truth whose side is no multiple of the scale has an LRGI that is rounded up or down.
        return next((scale for scale in SCALES if scale >= wanted - ASPECT_TOLERANCE * wanted), SCALES[-1])


def read_items(
    source: Path, *, split: SplitChoice = "test", task: Task | None = None, unreviewed: bool = False
) -> Collection:
    """The items of a frozen set, of a dataset, or of a list or folder of pairs, which is recognised by its files.

    In a folder of pairs `hrgt` and `hrgt_mask` beside an HRRI are its truth; a list of pairs has none.

    Args:
        source: a folder with benchmark.json (`refgc dataset benchmark`), a folder with pairs.jsonl and triplets.jsonl
            (`refgc dataset`), or what `refgc.pairs.read_pairs` takes.
        split: of a dataset, which part; "all" takes every part and what has no split.
        task: take only LRGIs whose generator was used in this way; None takes all. Of pairs nothing is known.
        unreviewed: of a dataset, take rows as well that not enough people have looked at.

    Raises:
        InputError: there are no items, or the list as a whole cannot be read.
    """
    if (source / HEAD).is_file():
        head, cases = read_benchmark(source)
        kind = "frozen test split" if head.kind == "test" else "frozen set of pictures in the wild"
        chosen = [case for case in cases if task in (None, case.task)]
        return _collection(_kind(kind, task), source, [_of_case(source, case) for case in chosen])
    if (source / PAIRS).is_file():
        return _of_dataset(source, split, task, unreviewed=unreviewed)
    if task is not None:
        raise InputError("A list of pairs does not say how its pictures were generated; leave the task out.")
    return _of_pairs(source)


def open_pictures(item: Item) -> Pictures:
    """The pictures of an item, checked against their hashes.

    Raises:
        InputError: one is missing, damaged or cannot be used, or the LRGI is not of the truth's aspect ratio.
    """

    def picture(file: PictureFile | None, name: str) -> Image | None:
        return None if file is None else open_image(_checked(file, name), name=name)

    def mask(file: PictureFile | None, image: Image | None, name: str) -> Mask | None:
        return None if file is None or image is None else open_mask(_checked(file, name), size=image.size, name=name)

    hrri, lrgi = picture(item.hrri, "HRRI"), picture(item.lrgi, "LRGI")
    hrgt = picture(item.hrgt, "HRGT")
    assert hrri is not None, "an item has it"
    assert lrgi is not None, "an item has it"
    width, height = lrgi.size
    size = (width * SCALE, height * SCALE) if hrgt is None else hrgt.size
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"The LRGI is {width}x{height} pixels and the HRGT {size[0]}x{size[1]}, which is another aspect ratio; "
            "they should show the same frame."
        )
    if width > size[0] or height > size[1]:
        raise InputError(f"The LRGI is {width}x{height} pixels, more than the HRGT's {size[0]}x{size[1]}.")
    return Pictures(
        hrri,
        lrgi,
        hrgt,
        mask(item.hrri_mask, hrri, "HRRI's mask"),
        mask(item.lrgi_mask, lrgi, "LRGI's mask"),
        mask(item.hrgt_mask, hrgt, "HRGT's mask"),
        size,
    )


def fitted(result: Image, size: Size) -> Image:
    """A result at the size that it is compared at, by bicubic interpolation, which averages where it shrinks.

    Args:
        result: of a method.
        size: (width, height) of the truth.

    Raises:
        InputError: it is of another aspect ratio, so that it does not show the truth's frame.
    """
    if result.size == size:
        return result
    width, height = result.size
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"The result is {width}x{height} pixels and should be {size[0]}x{size[1]}, which is another aspect ratio."
        )
    return Image(bicubic(result.pixels, size))


def results_called(folder: Path, name: str) -> list[Path]:
    """The pictures of a folder that an item's id names, such as NAME.png, or NAME.JPG as cameras write it."""
    suffixes = sorted({one for suffix in PICTURE_SUFFIXES for one in (suffix, suffix.upper())})
    # Not by glob: an id may have marks that mean something there.
    named = [path for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()]
    # Where a file system takes both cases for one, the same file is found twice.
    return list({(known.st_dev, known.st_ino): path for path in named for known in [path.stat()]}.values())


def _checked(file: PictureFile, name: str) -> Path:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise InputError(f"The {name} {quoted(file.path.name)} cannot be read ({error.strerror}).") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InputError(f"The {name} {quoted(file.path.name)} is damaged or was changed: its hash is another one.")
    return file.path


def _collection(kind: str, source: Path, items: list[Item], bad: list[BadItem] | None = None) -> Collection:
    if not items:
        reason = f"; the first: {bad[0].id}: {bad[0].reason}" if bad else ""
        raise InputError(f"{quoted(str(source))} has nothing that a method can be run on{reason}")
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise InputError(f"Two entries of {quoted(str(source))} are called {quoted(twice[0])}; rename one.")
    ordered = sorted(items, key=lambda item: item.id)
    digest = hashlib.sha256()
    for item in ordered:
        digest.update(f"{item.id} {item.object_id} {item.hashes}\n".encode())
    return Collection(kind, source.resolve().name, digest.hexdigest(), tuple(ordered), tuple(bad or ()))


def _stored(root: Path, file: StoredFile | None) -> PictureFile | None:
    return None if file is None else PictureFile(root / file.path, file.sha256)


def _of_case(root: Path, case: Case) -> Item:
    hrri, lrgi = _stored(root, case.hrri), _stored(root, case.lrgi)
    assert hrri is not None, "a case has it"
    assert lrgi is not None, "a case has it"
    return Item(
        case.id,
        case.object_id,
        case.object_name,
        hrri,
        lrgi,
        # A customised picture has a scene of its own, so that no photo is its truth pixel by pixel.
        None if case.task == "customisation" else _stored(root, case.hrgt),
        _stored(root, case.hrri_mask),
        _stored(root, case.lrgi_mask),
        None if case.task == "customisation" else _stored(root, case.hrgt_mask),
    )


def _kind(kind: str, task: Task | None) -> str:
    return kind if task is None else f"{kind}, {task} only"


def _of_dataset(root: Path, split: SplitChoice, task: Task | None, *, unreviewed: bool) -> Collection:
    check_is_dataset(root)
    check_some_entries(root, unreviewed=unreviewed)
    entries = list(read_entries(root, unreviewed=unreviewed))
    chosen = [entry for entry in entries if split in ("all", entry.split)]
    if not chosen:
        there = ", ".join(sorted({entry.split for entry in entries}))
        raise InputError(
            f"The dataset in {quoted(str(root))} has no rows of the split {split} that may be used, but of {there}; "
            "run `refgc dataset split`, or choose with --split."
        )
    kind = "dataset, all splits" if split == "all" else f"dataset, split {split}"
    items = [
        _of_entry(root, entry)
        for entry in chosen
        if task is None or (entry.triplet is not None and entry.triplet.made.task == task)
    ]
    return _collection(_kind(kind, task), root, items)


def _of_entry(root: Path, entry: Entry) -> Item:
    if entry.triplet is None:
        raise InputError(
            f"The dataset in {quoted(str(root))} has pairs only, and methods refine LRGIs; make them with "
            "`refgc dataset triplets`."
        )
    pair, files = entry.pair, {name: _stored(root, file) for name, file in entry.files().items()}
    hrri, lrgi = files["hrri"], files["lrgi"]
    assert hrri is not None, "a pair has it"
    assert lrgi is not None, "a triplet has it"
    known = entry.triplet.made.task != "customisation"
    return Item(
        entry.id,
        pair.object_id,
        pair.object_name,
        hrri,
        lrgi,
        files["hrgt"] if known else None,
        hrri_mask=files["hrri_mask"],
        hrgt_mask=files["hrgt_mask"] if known else None,
    )


def _of_pairs(source: Path) -> Collection:
    items, bad = list[Item](), list[BadItem]()
    in_folder = source.is_dir()
    for entry in read_pairs(source):
        try:
            if isinstance(entry.pair, InputError):
                raise entry.pair
            item = _of_pair(entry.pair)
            items.append(_with_truth(item) if in_folder else item)
        except InputError as error:
            bad.append(BadItem(entry.label, sentence_about(error)))
    known = any(item.hrgt is not None for item in items)
    return _collection("pairs with their truth" if known else "pairs in the wild", source, items, bad)


def _of_pair(pair: Pair) -> Item:
    if len(pair.references) > 1:
        raise InputError("It has further references, and methods are compared with one; leave one.")
    files = dict(_hashed(pair))
    return Item(
        _file_name(str(pair.output_name.with_suffix(""))),
        f"reference-{files['hrri'].sha256[:16]}",
        pair.object or "object",
        files["hrri"],
        files["lrgi"],
        hrri_mask=files.get("hrri_mask"),
        lrgi_mask=files.get("lrgi_mask"),
    )


def _with_truth(item: Item) -> Item:
    """An item of a folder of pairs, with the HRGT and its mask that lie beside its HRRI."""
    stem, folder = item.hrri.path.stem, item.hrri.path.parent
    called = next((name for name in REFERENCES if stem.lower().endswith(name)), None)
    if called is None:
        return item
    prefix = stem[: len(stem) - len(called)]
    truth, mask = _beside(folder, prefix + TRUTH), _beside(folder, prefix + TRUTH_MASK)
    return item if truth is None else replace(item, hrgt=truth, hrgt_mask=mask)


def _beside(folder: Path, stem: str) -> PictureFile | None:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.stem.lower() == stem.lower() and path.suffix.lower() in PICTURE_SUFFIXES
    )
    if len(found) > 1:
        raise InputError(f"{quoted(str(folder))} has {len(found)} files called {stem}; leave one.")
    return PictureFile(found[0], _hash_of(found[0])) if found else None


def _file_name(text: str) -> str:
    """A text as the name of a file: without marks that mean something in a path, and not too long."""
    plain = re.sub(r"[^\w.() -]", "-", text).lstrip(".")
    return plain.encode()[:LONGEST_ID].decode(errors="ignore").strip() or "pair"


def _hashed(pair: Pair) -> Iterator[tuple[str, PictureFile]]:
    places = {
        "hrri": pair.reference,
        "lrgi": pair.generated,
        "hrri_mask": pair.reference_mask,
        "lrgi_mask": pair.generated_mask,
    }
    for name, path in places.items():
        if path is not None:
            yield name, PictureFile(path, _hash_of(path))


def _hash_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{quoted(str(path))} cannot be read ({error.strerror}); correct the list.") from error
