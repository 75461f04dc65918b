"""The paper's Figure 9: one scene as four tasks see it, each with its inputs and what it should give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgc.errors import InputError, quoted
from refgc.evaluation.figures.drawing import (
    DPI,
    GREY,
    INK,
    NORMAL,
    SMALL,
    add_arrow,
    add_text,
    check_outputs,
    figure_style,
    save_data,
    save_figure,
)
from refgc.evaluation.figures.scenes import load_scene
from refgc.evaluation.items import Item, Pictures
from refgc.imaging.arrays import Bytes, Size, bicubic, size_of
from refgc.imaging.warp import fitted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches; chosen by hand and by eye. The largest picture of a figure is `LARGEST` wide or high, and one of a quarter of
# its side half of that: at true proportions the small ones could not be seen.
LARGEST = 1.3
TEXT_WIDTH, EDGE, SIGN_WIDTH = 1.95, 0.1, 0.3
CAPTION_HEIGHT, ROW_GAP = 0.3, 0.14
TITLE_SIZE, SIGN_SIZE = 10.0, 14.0
# Places of a row: the picture to be improved, the reference, the output.
PLACES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A picture and what it is."""

    pixels: Bytes
    label: str

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return size_of(self.pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a task is given and should give.

    Attributes:
        name: as papers call it.
        aim: what it does, in lines.
        given: the picture to be improved, and where there is one the reference.
        wanted: the output.
    """

    name: str
    aim: str
    given: tuple[Shown, ...]
    wanted: Shown


def make_tasks(item: Item, outputs: Sequence[Path], *, dpi: int = DPI) -> Path:
    """Draw the four tasks of one scene.

    Args:
        item: with an HRGT.
        outputs: files that end in .pdf, .svg or .png.
        dpi: pixels an inch.

    Returns:
        The file with the figure's data.

    Raises:
        InputError: the scene has no HRGT, a picture cannot be read, or a file cannot be written.
    """
    check_outputs(outputs)
    tasks = tasks_of(item.id, load_scene(item))
    with figure_style():
        save_figure(draw_tasks(tasks), outputs, dpi=dpi)
    return save_data({"figure": "tasks", "id": item.id, "tasks": [_data(task) for task in tasks]}, outputs)


def tasks_of(identity: str, pictures: Pictures) -> list[Task]:
    """What each task would be given of a scene.

    The photos of SR and RefSR are the HRGT, shrunk to the LRGI's size. For RefGCR, which does not enlarge, the
    reference and the output are shrunk to that size as well.

    Args:
        identity: of the scene, for an error sentence.
        pictures: of the scene.

    Raises:
        InputError: the scene has no HRGT.
    """
    if pictures.hrgt is None:
        raise InputError(f"The scene {quoted(identity)} has no HRGT; choose one that has.")
    small = pictures.lrgi.size
    truth, reference, generated = pictures.hrgt.pixels, pictures.hrri.pixels, pictures.lrgi.pixels
    photo = Shown(bicubic(truth, small), "small photo")
    large, another = Shown(truth, "large photo"), Shown(reference, "another photo of it")
    result = Shown(truth, "large picture, true detail")
    made = Shown(generated, "generated picture (LRGI)")
    modest = Shown(bicubic(reference, fitted(size_of(reference), max(small))), "reference, as small")
    return [
        Task("SR", "A photo is enlarged.\nIts detail has to be guessed.", (photo,), large),
        Task("RefSR", "A photo is enlarged\nwith the detail of another.", (photo, another), large),
        Task(
            "RefGCR",
            "A generated picture is mended\nby a reference of its own size.",
            (made, modest),
            Shown(bicubic(truth, small), "mended, as small"),
        ),
        Task(
            "RefGC-SR²",
            "A generated picture is mended\nand enlarged with all the detail\nof a sharp reference.",
            (made, Shown(reference, "sharp reference (HRRI)")),
            result,
        ),
    ]


def draw_tasks(tasks: Sequence[Task]) -> Figure:
    """The figure of some tasks, a row each."""
    from matplotlib.figure import Figure

    shown = [one for task in tasks for one in (*task.given, task.wanted)]
    largest = max(max(one.size) for one in shown)
    heights = [max(_inches(one, largest)[1] for one in (*task.given, task.wanted)) + CAPTION_HEIGHT for task in tasks]
    width = TEXT_WIDTH + PLACES * LARGEST + (PLACES - 1) * SIGN_WIDTH + 2 * EDGE
    figure = Figure(figsize=(width, sum(heights) + ROW_GAP * (len(tasks) - 1) + 2 * EDGE))
    top = float(figure.get_size_inches()[1]) - EDGE
    for number, (task, height) in enumerate(zip(tasks, heights, strict=True)):
        if number:
            _rule(figure, top + ROW_GAP / 2)
        _draw_task(figure, task, top, height, largest)
        top -= height + ROW_GAP
    return figure


def _draw_task(figure: Figure, task: Task, top: float, height: float, largest: int) -> None:
    middle = top - (height - CAPTION_HEIGHT) / 2
    lines = task.aim.count("\n") + 1
    _text(figure, EDGE, middle + 0.09 * lines, task.name, size=TITLE_SIZE, weight="bold", align="left")
    _text(figure, EDGE, middle - 0.1, task.aim, size=NORMAL, colour=GREY, align="left", vertical="center")
    lefts = [EDGE + TEXT_WIDTH + place * (LARGEST + SIGN_WIDTH) for place in range(PLACES)]
    for left, one in zip((*lefts[: len(task.given)], lefts[-1]), (*task.given, task.wanted), strict=True):
        across, high = _inches(one, largest)
        x, y = left + (LARGEST - across) / 2, middle - high / 2
        _picture(figure, one.pixels, x, y, across, high)
        said = f"{one.label}\n{one.size[0]} × {one.size[1]}"
        _text(figure, left + LARGEST / 2, y - 0.05, said, size=SMALL, vertical="top")
    if len(task.given) > 1:
        _text(figure, lefts[1] - SIGN_WIDTH / 2, middle, "+", size=SIGN_SIZE, vertical="center")
    _arrow(figure, lefts[len(task.given)] - SIGN_WIDTH + 0.03, lefts[-1] - 0.03, middle)


def _inches(one: Shown, largest: int) -> tuple[float, float]:
    side = LARGEST * (max(one.size) / largest) ** 0.5
    width, height = one.size
    return side * width / max(one.size), side * height / max(one.size)


def _data(task: Task) -> dict[str, Any]:
    given = [{"label": one.label, "size": list(one.size)} for one in task.given]
    return {
        "name": task.name,
        "given": given,
        "wanted": {"label": task.wanted.label, "size": list(task.wanted.size)},
    }


def _picture(figure: Figure, pixels: Bytes, left: float, bottom: float, width: float, height: float) -> None:
    across, tall = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / tall, width / across, height / tall))
    axes.imshow(pixels, aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def _arrow(figure: Figure, start: float, end: float, y: float) -> None:
    add_arrow(figure, (start, y), (end, y), colour=INK, linewidth=1.2, head=10)


def _rule(figure: Figure, y: float) -> None:
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    ends = EDGE / width, 1 - EDGE / width
    figure.add_artist(Line2D(ends, (y / height, y / height), color="#d5dadb", linewidth=0.6))


def _text(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    colour: str = INK,
    align: str = "center",
    vertical: str = "bottom",
    **look: Any,
) -> None:
    add_text(figure, x, y, text, color=colour, ha=align, va=vertical, **look)
