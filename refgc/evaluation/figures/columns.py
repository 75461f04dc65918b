"""The columns of a figure: the inputs of a scene, and what methods made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refgc.errors import InputError, quoted
from refgc.evaluation.items import Item, Pictures, fitted, results_called
from refgc.evaluation.results import Comparison
from refgc.evaluation.runs import PICTURES
from refgc.imaging.arrays import bicubic
from refgc.imaging.image import Image, open_image

# What a column of input is called.
HRRI, LRGI, HRGT = "HRRI", "LRGI", "HRGT"
INPUTS = (HRRI, LRGI, HRGT)


@dataclass(frozen=True, slots=True)
class Column:
    """A method whose results lie in a folder.

    Attributes:
        label: as a figure calls it, and as the comparison does where it was measured there.
        folder: holds `ID.png` for each scene, or another readable format.
    """

    label: str
    folder: Path


def method_columns(
    given: Sequence[str], evaluation: Path | None = None, comparison: Comparison | None = None
) -> list[Column]:
    """The methods of a figure.

    Args:
        given: texts LABEL=FOLDER; LABEL alone for a method of the comparison. Where there are none, all methods of the
            comparison but the oracle.
        evaluation: the folder that `refgc evaluate` wrote.
        comparison: what it holds.

    Raises:
        InputError: there are none, a folder is not there, or two methods or a method and an input are called alike.
    """
    measured = {}
    if evaluation is not None and comparison is not None:
        measured = {one.label: evaluation / PICTURES / one.folder for one in comparison.head.methods}
        if not given:
            given = [one.label for one in comparison.head.methods if not one.oracle]
    columns: list[Column] = []
    for text in given:
        column = _column(text, measured)
        if column.label in INPUTS or column.label in (one.label for one in columns):
            raise InputError(f"Two columns are called {quoted(column.label)}; give each method a label of its own.")
        columns.append(column)
    if not columns:
        raise InputError("There is no method to show; give --method LABEL=FOLDER, or --evaluation.")
    return columns


def has_results(item: Item, columns: Sequence[Column]) -> bool:
    """Whether every method has a result of a scene."""
    return all(_files_of(item, column) for column in columns)


def load_results(item: Item, pictures: Pictures, columns: Sequence[Column]) -> dict[str, Image]:
    """What each method made of a scene, by its label, at one size: the HRGT's, or without one 4 times the LRGI's.

    As in a comparison, a result of another size but the same aspect ratio is brought to that size.

    Raises:
        InputError: a result is missing, damaged, or of another aspect ratio.
    """
    results = {}
    for column in columns:
        called = f"result of {quoted(column.label)} for {quoted(item.id)}"
        image = open_image(_file_of(item, column), name=called)
        try:
            results[column.label] = fitted(image, pictures.size)
        except InputError as error:
            raise InputError(f"The {called} cannot be shown: {error}") from error
    return results


def enlarged_lrgi(pictures: Pictures) -> Image:
    """The LRGI at the size of the results by bicubic interpolation, as the paper's model is given it."""
    return Image(bicubic(pictures.lrgi.pixels, pictures.size))


def _column(text: str, measured: dict[str, Path]) -> Column:
    label, equals, folder = text.partition("=")
    label = label.strip()
    if not equals and label in measured:
        return Column(label, measured[label])
    if not equals or not label:
        known = f"; the comparison has {', '.join(map(quoted, measured))}" if measured else ""
        raise InputError(f"{quoted(text)} names no method{known}; write LABEL=FOLDER.")
    if not Path(folder).is_dir():
        raise InputError(f"The method {quoted(label)} has no folder {quoted(folder)}; write LABEL=FOLDER.")
    return Column(label, Path(folder))


def _files_of(item: Item, column: Column) -> list[Path]:
    return results_called(column.folder, item.id)


def _file_of(item: Item, column: Column) -> Path:
    found = _files_of(item, column)
    if not found:
        raise InputError(
            f"The method {quoted(column.label)} has no result for {quoted(item.id)}; put {quoted(item.id + '.png')} "
            f"into {quoted(str(column.folder))}."
        )
    if len(found) > 1:
        raise InputError(
            f"The method {quoted(column.label)} has {len(found)} results for {quoted(item.id)}; leave one."
        )
    return found[0]
