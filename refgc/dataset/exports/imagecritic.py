"""The folder that ImageCritic trains on, written and read.

As its repository (github.com/HVision-NKU/ImageCritic, December 2025) has it: a folder `open_dataset` with a folder a
sample, and beside it `train_metadata.jsonl` with the paths of the sample's files:

    product.png                      A_image: the reference, our HRRI
    generated_with_degradation.png   B_image: what is to be mended, our LRGI
    generated.png                    target: our HRGT
    mask.png                         mask: of the target, white where the object is
    image_shape.txt                  image_shape: width and height of the target, by which a bucket is chosen
    prompt.txt                       caption: the instruction, with IMG1 and IMG2 in it

Its published dataset, Critic-10K, has the sample folders in a folder of that name. Training brings pictures to the
target's size, so that the LRGI stays as small as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refgc.dataset.exports.shards import ExportResult
from refgc.dataset.manifest import (
    PAIRS,
    REJECTIONS,
    TRIPLETS,
    Generation,
    ObjectView,
    Pair,
    Rejection,
    Source,
    StoredFile,
    Triplet,
    ViewChange,
    append_row,
    read_rows,
)
from refgc.dataset.rows import UNSPLIT, Entry, check_some_entries, read_entries
from refgc.dataset.store import file_content, store_image, store_mask
from refgc.engine import Progress, no_progress
from refgc.errors import InputError, quoted, sentence_about
from refgc.imaging.files import make_folder, write_files, write_whole
from refgc.imaging.image import Mask, open_image, open_mask
from refgc.imaging.journal import line_of

SAMPLES = "open_dataset"
PUBLISHED = "Critic-10K"
REFERENCE, DEGRADED, TARGET, MASK = "product.png", "generated_with_degradation.png", "generated.png", "mask.png"
SHAPE, PROMPT = "image_shape.txt", "prompt.txt"
# A prompt is a sentence or two; what is longer is no prompt.
LONGEST_PROMPT = 10_000
NAME_IN_PROMPT = re.compile(r"the (.{1,100}?) in IMG1\b", re.IGNORECASE | re.DOTALL)
NOT_KNOWN = (
    "the mask of the HRRI (the whole picture stands for it), the category (other), how the views differ, the licence, "
    "and what made the LRGI"
)


def export_imagecritic(
    root: Path, output: Path, *, unreviewed: bool = False, progress: Progress = no_progress
) -> ExportResult:
    """Write the triplets of a dataset as samples, and a file of metadata for each split.

    Training rows, and those without a split, stand in `train_metadata.jsonl`; the others in
    `validation_metadata.jsonl` and `test_metadata.jsonl`, so that nobody trains on them by accident. A sample that is
    complete is not written again, unless its mask was mended.

    Raises:
        InputError: there are no triplets to export, a file is missing or damaged, or the folder cannot be written.
    """
    check_some_entries(root, unreviewed=unreviewed)
    make_folder(output)
    rows, written, kept = dict[str, int](), 0, 0
    for entry in read_entries(root, unreviewed=unreviewed):
        progress(f"sample {entry.id}", 0.0)
        if _is_written(output / SAMPLES / entry.id, entry):
            kept += 1
        else:
            _write_sample(root, output / SAMPLES / entry.id, entry)
            written += 1
        rows[entry.split] = rows.get(entry.split, 0) + 1
    for name, splits in {"train": ("train", UNSPLIT), "validation": ("validation",), "test": ("test",)}.items():
        lines = (
            line_of(_metadata(entry)) for entry in read_entries(root, unreviewed=unreviewed) if entry.split in splits
        )
        if name == "train" or any(split in rows for split in splits):
            write_whole(output / f"{name}_metadata.jsonl", lines)
    return ExportResult(rows, written, kept)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import read.

    Attributes:
        added: samples that became rows now.
        known: samples that were rows already.
        refused: samples that cannot be used; rejections.jsonl says why.
    """

    added: int
    known: int
    refused: int


def import_imagecritic(folder: Path, root: Path, *, progress: Progress = no_progress) -> ImportResult:
    """Make rows of ImageCritic's samples, with what is known; `NOT_KNOWN` says what is not.

    Samples whose references have the same pixels are of one object. A sample that is in the dataset already is passed
    over, so that an import that was cut off goes on.

    Args:
        folder: the sample folders, or the folder that `open_dataset` or `Critic-10K` lies in.
        root: folder of the dataset; rows are added to those that it has.
        progress: told of each sample.

    Raises:
        InputError: there are no samples, or the dataset cannot be read.
        OSError: the disk is full or the dataset may not be written.
    """
    samples = list(_samples_in(folder))
    if not samples:
        raise InputError(
            f"{quoted(str(folder))} has no samples of ImageCritic's layout, which are folders with {REFERENCE}, "
            f"{DEGRADED}, {TARGET} and {MASK}; give the folder that holds them."
        )
    pairs = {pair.id for pair in read_rows(root / PAIRS, Pair)}
    triplets = {triplet.id for triplet in read_rows(root / TRIPLETS, Triplet)}
    refusals = {rejection.what for rejection in read_rows(root / REJECTIONS, Rejection)}
    added = known = refused = 0
    for number, sample in enumerate(samples):
        progress(f"sample {sample.name}", number / len(samples))
        name = hashlib.sha256(sample.name.encode(errors="surrogateescape")).hexdigest()[:16]
        pair_id, triplet_id = f"imagecritic-{name}", f"imagecritic-{name}-lrgi"
        if pair_id in pairs and triplet_id in triplets:
            known += 1
            continue
        try:
            pair, triplet = _rows_of(sample, root, pair_id, triplet_id)
        except InputError as error:
            refused += 1
            if sample.name not in refusals:
                append_row(root / REJECTIONS, Rejection(step="import", what=sample.name, reason=sentence_about(error)))
            continue
        if pair_id not in pairs:
            append_row(root / PAIRS, pair)
        append_row(root / TRIPLETS, triplet)
        added += 1
    return ImportResult(added, known, refused)


def _is_written(folder: Path, entry: Entry) -> bool:
    """Whether a sample is complete, with the mask as it is now; nothing else of a row changes."""
    # Files appear in the order in which they are named, so that the last one stands for all.
    if not (folder / PROMPT).is_file() or not (folder / MASK).is_file():
        return False
    return hashlib.sha256((folder / MASK).read_bytes()).hexdigest() == entry.pair.hrgt.mask.sha256


def _write_sample(root: Path, folder: Path, entry: Entry) -> None:
    files, target = entry.files(), entry.pair.hrgt.picture
    if "lrgi" not in files:
        raise InputError(
            f"{quoted(str(root))} has pairs and no LRGIs, and ImageCritic trains on both; run `refgc dataset triplets`."
        )
    sources = {REFERENCE: files["hrri"], DEGRADED: files["lrgi"], TARGET: target, MASK: files["hrgt_mask"]}
    contents = {name: file_content(root, file) for name, file in sources.items()}
    contents[SHAPE] = f"{target.width} {target.height}\n".encode()
    contents[PROMPT] = _prompt_of(entry).encode()
    try:
        write_files({folder / name: partial(contents.__getitem__, name) for name in contents})
    except OSError as error:
        raise InputError(
            f"{quoted(str(folder))} cannot be written ({error.strerror}); choose another place."
        ) from error


def _prompt_of(entry: Entry) -> str:
    """The instruction that ImageCritic and the paper have in common; `refgc.flux.prompts` has it, but needs torch."""
    name = entry.pair.object_name
    return f"use the {name} in IMG1 as a reference to refine, replace, enhance the {name} in IMG2"


def _metadata(entry: Entry) -> dict[str, str]:
    folder = f"{SAMPLES}/{entry.id}"
    return {
        "A_image": f"{folder}/{REFERENCE}",
        "B_image": f"{folder}/{DEGRADED}",
        "target": f"{folder}/{TARGET}",
        "mask": f"{folder}/{MASK}",
        "image_shape": f"{folder}/{SHAPE}",
        "caption": _prompt_of(entry),
    }


def _samples_in(folder: Path) -> Iterator[Path]:
    """The sample folders, sorted."""
    for place in (folder / SAMPLES, folder / PUBLISHED, folder):
        if place.is_dir():
            found = sorted(path for path in place.iterdir() if (path / TARGET).is_file())
            if found:
                return iter(found)
    return iter(())


def _rows_of(sample: Path, root: Path, pair_id: str, triplet_id: str) -> tuple[Pair, Triplet]:
    reference = open_image(sample / REFERENCE, name="reference")
    target = open_image(sample / TARGET, name="target")
    degraded = open_image(sample / DEGRADED, name="generated picture")
    mask = open_mask(sample / MASK, size=target.size, name="mask")
    prompt = _read_prompt(sample / PROMPT)
    found = NAME_IN_PROMPT.search(prompt)
    hrri = store_image(root, reference)
    whole = Mask(np.ones((hrri.height, hrri.width), np.float32))
    pair = Pair(
        id=pair_id,
        object_id=f"imagecritic-{hrri.sha256[:16]}",
        object_name="object" if found is None else " ".join(found[1].split()),
        category="other",
        source=Source(
            kind="photos", name="ImageCritic", address="https://huggingface.co/datasets/ziheng1234/Critic-10K"
        ),
        hrri=_view(root, hrri, whole, "none", f"{sample.name}/{REFERENCE}"),
        hrgt=_view(root, store_image(root, target), mask, "source", f"{sample.name}/{TARGET}"),
        # Nobody has matched them.
        change=ViewChange(matches=0, overlap=0.0, shift=0.0),
    )
    made = Generation(generator="ImageCritic", simulated=False, task="customisation", seed=0, prompt=prompt or None)
    return pair, Triplet(id=triplet_id, pair=pair_id, lrgi=store_image(root, degraded), made=made)


def _view(root: Path, picture: StoredFile, mask: Mask, maker: str, frame: str) -> ObjectView:
    values: dict[str, Any] = {"picture": picture, "mask": store_mask(root, mask), "mask_maker": maker, "frame": frame}
    share = float(np.mean(mask.values >= 0.5))
    return ObjectView(**values, crop=(0, 0, picture.width, picture.height), object_share=share)


def _read_prompt(path: Path) -> str:
    """The prompt; empty where there is none, as ImageCritic's own script takes it."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_PROMPT + 1)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise InputError(f"The prompt in {quoted(str(path))} cannot be read; mend or delete it.") from error
    if len(text) > LONGEST_PROMPT:
        raise InputError(f"The prompt in {quoted(str(path))} is too long; mend or delete it.")
    return text.strip()
