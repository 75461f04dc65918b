"""Results of methods, by the id of their scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refgc.errors import InputError, quoted
from refgc.evaluation.figures.scenes import Scene, ScenePictures
from refgc.imaging.arrays import Size, bicubic
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.image import Image, open_image

# What a column of input is called.
HRRI, LRGI, HRGT = "HRRI", "LRGI", "HRGT"
INPUTS = (HRRI, LRGI, HRGT)


@dataclass(frozen=True, slots=True)
class Method:
    """A method whose results lie in a folder.

    Attributes:
        label: as a figure calls it.
        folder: holds `ID.png` for each scene, or another readable format.
    """

    label: str
    folder: Path


def parse_methods(given: Sequence[str]) -> list[Method]:
    """Methods from texts LABEL=FOLDER, or FOLDER, whose label is its name.

    Raises:
        InputError: there are none, a folder is not there, or two methods or a method and an input are called alike.
    """
    methods: list[Method] = []
    for text in given:
        label, equals, folder = text.partition("=")
        place = Path(folder if equals else text)
        label = label.strip() if equals else place.resolve().name
        if not label:
            raise InputError(f"{quoted(text)} names no method; write LABEL=FOLDER.")
        if not place.is_dir():
            raise InputError(f"The method {quoted(label)} has no folder {quoted(str(place))}; write LABEL=FOLDER.")
        if label in INPUTS or label in (one.label for one in methods):
            raise InputError(f"Two columns are called {quoted(label)}; give each method a label of its own.")
        methods.append(Method(label, place))
    if not methods:
        raise InputError("There is no method to show; give --method LABEL=FOLDER.")
    return methods


def load_results(scene: Scene, pictures: ScenePictures, methods: Sequence[Method]) -> dict[str, Image]:
    """What each method made of a scene, by its label; all of the HRGT's size, or of one size where there is none.

    Raises:
        InputError: a result is missing, damaged, or of another size.
    """
    results = {method.label: open_image(_file_of(scene, method), name=_called(scene, method)) for method in methods}
    wanted = None if pictures.hrgt is None else pictures.hrgt.size
    whose = HRGT
    for label, image in results.items():
        wanted = wanted or image.size
        if image.size != wanted:
            raise InputError(
                f"The result of {quoted(label)} for {quoted(scene.id)} is {_text(image.size)} pixels and the {whose} "
                f"{_text(wanted)}; a figure compares pictures of one size."
            )
        if pictures.hrgt is None:
            whose = f"one of {quoted(methods[0].label)}"
    return results


def enlarged_lrgi(pictures: ScenePictures, size: Size) -> Image:
    """The LRGI at another size by bicubic interpolation, as the paper's model is given it."""
    return Image(bicubic(pictures.lrgi.pixels, size))


def _file_of(scene: Scene, method: Method) -> Path:
    names = [f"{scene.id}{suffix}" for suffix in sorted(PICTURE_SUFFIXES)]
    found = [path for name in names if (path := method.folder / name).is_file()]
    if not found:
        raise InputError(
            f"The method {quoted(method.label)} has no result for {quoted(scene.id)}; put {quoted(scene.id + '.png')} "
            f"into {quoted(str(method.folder))}."
        )
    if len(found) > 1:
        raise InputError(
            f"The method {quoted(method.label)} has {len(found)} results for {quoted(scene.id)}; leave one."
        )
    return found[0]


def _called(scene: Scene, method: Method) -> str:
    return f"result of {quoted(method.label)} for {quoted(scene.id)}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
