"""From items and folders of results to the folder of a study, whose pictures say nothing of their origin."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from refgc.engine import Progress, no_progress
from refgc.errors import InputError, quoted, sentence_about
from refgc.evaluation.items import Item, SplitChoice, open_pictures, read_items
from refgc.evaluation.items import Pictures as ItemPictures
from refgc.evaluation.methods import ResultFolder
from refgc.imaging.files import make_folder, write_whole
from refgc.imaging.image import Image, encoded
from refgc.study.definition import (
    FEWEST_METHODS,
    LONGEST_NAME,
    LONGEST_TITLE,
    MOST_ITEMS,
    MOST_METHODS,
    NO_DIFFERENCE,
    PICTURES,
    RIGHT,
    STUDY,
    Name,
    Picture,
    Study,
    StudyItem,
    write_study,
)

CHECKS = 2
# More than that tires people, and what tired people say is of little worth. Chosen by hand.
ITEMS_PER_RATER = 20
# Pixels of the longer side of a reference; a larger one takes long to load and shows no more on a screen.
LONGEST_REFERENCE = 2048
# Of a degraded choice: the pixels of its longer side, fewer for each further one, before it is enlarged again; and the
# standard deviation of its noise in levels of 255. Chosen by hand so that it is seen at once, on a phone as well.
LEFT_PIXELS, FEWER_PIXELS, NOISE = 44, 3, 14.0


def prepare_study(
    folder: Path,
    source: Path,
    methods: Mapping[str, Path],
    *,
    seed: int = 0,
    checks: int = CHECKS,
    items_per_rater: int | None = None,
    title: str | None = None,
    split: SplitChoice = "test",
    unreviewed: bool = False,
    progress: Progress = no_progress,
) -> Study:
    """Make the folder of a study.

    Every picture is decoded and encoded again, without metadata and under a neutral name. `study.json` comes last, so
    that a folder without it is not finished; the same call then goes on.

    Args:
        folder: of the study.
        source: the items, as `refgc.evaluation.items.read_items` takes them.
        methods: by its name, a folder with a picture of each item's id, as `refgc evaluate` takes it.
        seed: of every order, and of which items become checks.
        checks: how many items become attention checks: one choice is the truth, or where none is known the result of
            the first method, and the others are heavily degraded copies of it. Such an item is not asked otherwise.
        items_per_rater: how many real items a person sees; None for all, but at most `ITEMS_PER_RATER`.
        title: of the page.
        split: of a dataset.
        unreviewed: of a dataset, take rows as well that not enough people have looked at.
        progress: told how far it is.

    Raises:
        InputError: there is a study already, there are too few items or methods, a result is missing or damaged or
            does not show its item's frame, or the folder cannot be written.
    """
    if (folder / STUDY).exists():
        raise InputError(f"{quoted(str(folder))} has a study already; give another folder.")
    if not FEWEST_METHODS <= len(methods) <= MOST_METHODS:
        raise InputError(f"A study compares {FEWEST_METHODS} to {MOST_METHODS} methods; {len(methods)} are given.")
    _check_texts(methods, title)
    collection = read_items(source, split=split, unreviewed=unreviewed)
    if collection.bad:
        bad = collection.bad[0]
        raise InputError(f"{bad.id} of {quoted(str(source))} cannot be shown: {bad.reason}")
    if not checks < len(collection.items) <= MOST_ITEMS:
        raise InputError(
            f"{len(collection.items)} items, of which {checks} become checks, are too few or more than {MOST_ITEMS}; "
            "give others, or another number of --checks."
        )
    asked = len(collection.items) - checks
    most = min(asked, ITEMS_PER_RATER) if items_per_rater is None else items_per_rater
    if most > asked:
        raise InputError(f"There are {asked} items besides the checks; give at most so many for each person.")
    folders = {name: ResultFolder(path) for name, path in methods.items()}
    for results in folders.values():
        results.check()
    make_folder(folder / PICTURES)
    checked = _checked(collection.items, checks, seed)
    shown: dict[str, StudyItem] = {}
    for number, item in enumerate(collection.items):
        progress("pictures", number / len(collection.items))
        shown[item.id] = _study_item(folder, item, folders, check=item.id in checked)
    items = tuple(one for name, one in shown.items() if name not in checked)
    # In the random order of their choice, so that their names say nothing. No item has a colon in its id.
    right = tuple(shown[name].model_copy(update={"id": f"check:{n}"}) for n, name in enumerate(checked, 1))
    study = Study(
        seed=seed, methods=tuple(methods), items=items, checks=right, items_per_rater=most,
        **({} if title is None else {"title": title}),
    )  # fmt: skip
    write_study(folder, study)
    return study


def degraded(pixels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """A copy that nobody can take for the better one: hardly any pixels left, and noise.

    Args:
        pixels: (height, width, 3), RGB.
        number: from 0 on; each gives another copy.

    Returns:
        Of the same shape.
    """
    height, width = pixels.shape[:2]
    scale = max(8, LEFT_PIXELS - FEWER_PIXELS * number) / max(height, width)
    small = cv2.resize(
        pixels, (max(2, round(width * scale)), max(2, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    noise = np.random.default_rng(number).normal(0, NOISE, large.shape)
    return np.asarray(np.clip(np.rint(large + noise), 0, 255), np.uint8)


def _check_texts(methods: Mapping[str, Path], title: str | None) -> None:
    """Refuses names and a title that a study cannot have, before its pictures are made."""
    for name in methods:
        try:
            TypeAdapter(Name).validate_python(name)
        except ValidationError as error:
            raise InputError(
                f"A method cannot be called {quoted(name)}; write one line of at most {LONGEST_NAME} characters, other "
                f"than {quoted(NO_DIFFERENCE)}."
            ) from error
    if title is not None and not 1 <= len(title) <= LONGEST_TITLE:
        raise InputError(f"The title has {len(title)} characters; write 1 to {LONGEST_TITLE}.")


def _checked(items: tuple[Item, ...], number: int, seed: int) -> list[str]:
    """Ids of the items that become checks; those whose truth is known come first."""
    order = list(items)
    random.Random(f"{seed} checks").shuffle(order)
    order.sort(key=lambda item: item.hrgt is None)
    return [item.id for item in order[:number]]


def _study_item(folder: Path, item: Item, folders: Mapping[str, ResultFolder], *, check: bool) -> StudyItem:
    try:
        pictures = open_pictures(item)
        results = (
            _check_choices(item, pictures, next(iter(folders.values())), len(folders))
            if check
            else {name: _result(item, pictures, results) for name, results in folders.items()}
        )
        return StudyItem(
            id=item.id,
            reference=_stored(folder, _limited(pictures.hrri)),
            generated=_stored(folder, pictures.lrgi.pixels),
            choices={name: _stored(folder, pixels) for name, pixels in results.items()},
        )
    except InputError as error:
        raise InputError(f"{item.id}: {sentence_about(error)}") from error


def _result(item: Item, pictures: ItemPictures, folder: ResultFolder) -> NDArray[np.uint8]:
    return folder.open()(item, pictures).image.pixels


def _check_choices(
    item: Item, pictures: ItemPictures, first: ResultFolder, number: int
) -> dict[str, NDArray[np.uint8]]:
    right = _result(item, pictures, first) if pictures.hrgt is None else pictures.hrgt.pixels
    return {RIGHT: right, **{f"degraded {n}": degraded(right, n) for n in range(1, number)}}


def _limited(image: Image) -> NDArray[np.uint8]:
    scale = LONGEST_REFERENCE / max(image.size)
    if scale >= 1:
        return image.pixels
    size = (max(1, round(image.size[0] * scale)), max(1, round(image.size[1] * scale)))
    return np.asarray(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _stored(folder: Path, pixels: NDArray[np.uint8]) -> Picture:
    """Writes a picture where it is not there yet."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height} ".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
    file = f"{digest[:32]}.png"
    place = folder / PICTURES / file
    if not place.exists():
        write_whole(place, encoded(Image(pixels), file))
    return Picture(file=file, width=width, height=height)
