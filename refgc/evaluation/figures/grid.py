"""Qualitative grids: a row a scene, a column a method, and below each picture what the object's detail became."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgc.engine import Progress, no_progress
from refgc.errors import InputError, one_line
from refgc.evaluation.figures.columns import HRGT, HRRI, LRGI, enlarged_lrgi, load_results
from refgc.evaluation.figures.drawing import (
    COLOURS,
    DPI,
    GREY,
    INK,
    NORMAL,
    SMALL,
    add_arrow,
    add_text,
    check_outputs,
    figure_style,
    fits,
    fitting_text,
    save_data,
    save_figure,
)
from refgc.evaluation.figures.scenes import load_scene, object_of
from refgc.evaluation.figures.selection import Chosen, Score, Selection
from refgc.evaluation.figures.windows import detail_windows, in_reference
from refgc.imaging.arrays import Bytes, Size, bicubic, size_of
from refgc.imaging.region import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches; chosen by hand and by eye. The width is that of a page with two columns of text.
WIDTH = 7.0
LEAST_WIDTH, MOST_WIDTH = 2.0, 40.0
LABEL_WIDTH, HEAD_HEIGHT, CAPTION_HEIGHT = 0.34, 0.2, 0.16
GAP, ROW_GAP, EDGE = 0.05, 0.1, 0.04
# What an object is called that nobody named.
NAMELESS = "object"
# Frames of the first and the second window: light, so that they are seen on dark and, with their outline, on white.
FRAMES = (COLOURS[5], COLOURS[4])
MOST_WINDOWS = len(FRAMES)
FRAME_WIDTH, OUTLINE_WIDTH = 1.1, 1.9


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One picture of a grid.

    Attributes:
        picture: uint8 RGB, the whole, at the size at which it is printed.
        size: (width, height) of the picture in its own pixels.
        windows: of the picture in its own pixels.
        details: uint8 RGB of each window, at its own pixels.
        caption: below it; may be empty.
    """

    picture: Bytes
    size: Size
    windows: tuple[Region, ...]
    details: tuple[Bytes, ...]
    caption: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One scene of a grid.

    Attributes:
        label: beside it.
        reason: why it was chosen; may be empty.
        cells: one for each column.
    """

    label: str
    reason: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class GridSettings:
    """How a grid is drawn.

    Attributes:
        windows: how many places of the object are enlarged, 0 to `MOST_WINDOWS`.
        width: of the figure, in inches.
        dpi: pixels an inch.
    """

    windows: int = MOST_WINDOWS
    width: float = WIDTH
    dpi: int = DPI


def make_grid(
    selection: Selection,
    outputs: Sequence[Path],
    *,
    settings: GridSettings | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Draw a grid of HRRI, LRGI, each method's results, and the HRGT where all scenes have one.

    Args:
        selection: the scenes, from top to bottom, and the methods, from left to right.
        outputs: files that end in .pdf, .svg or .png.
        settings: how it is drawn; None takes the defaults.
        progress: told of each scene.

    Returns:
        The file with the figure's data.

    Raises:
        InputError: nothing was chosen, a picture is missing, damaged or of another size, or a file cannot be written.
    """
    settings = settings or GridSettings()
    check_outputs(outputs)
    _check(selection, settings)
    with_truth = all(one.item.hrgt is not None for one in selection.scenes)
    columns = [HRRI, LRGI, *(column.label for column in selection.columns), *([HRGT] if with_truth else [])]
    pixels = max(1, round(_cell_width(settings.width, len(columns)) * settings.dpi))
    rows, said = [], []
    for number, one in enumerate(selection.scenes):
        progress(f"scene {one.item.id}", number / len(selection.scenes))
        row, data = _row(one, selection, columns, settings, pixels)
        rows.append(row)
        said.append(data)
    with figure_style():
        save_figure(draw_grid(columns, rows, settings), outputs, dpi=settings.dpi)
    return save_data({"figure": "grid", "columns": columns, "rows": said}, outputs)


def draw_grid(columns: Sequence[str], rows: Sequence[Row], settings: GridSettings) -> Figure:
    """The figure of some rows; each has a cell for each column."""
    from matplotlib.figure import Figure

    across = _cell_width(settings.width, len(columns))
    heights = [_row_height(row, across) for row in rows]
    height = HEAD_HEIGHT + sum(heights) + ROW_GAP * (len(rows) - 1) + EDGE
    figure = Figure(figsize=(settings.width, height))
    lefts = [LABEL_WIDTH + number * (across + GAP) for number in range(len(columns))]
    # All heads are of one size.
    size = NORMAL if all(fits(column, across, NORMAL, weight="bold") for column in columns) else SMALL
    for left, column in zip(lefts, columns, strict=True):
        named = fitting_text(column, across, size, weight="bold")
        _text(figure, left + across / 2, height - HEAD_HEIGHT / 2, named, size=size, weight="bold")
    top = height - HEAD_HEIGHT
    for row, row_height in zip(rows, heights, strict=True):
        _label(figure, row, top, row_height)
        picture_height = max(_picture_height(cell, across) for cell in row.cells)
        for left, cell in zip(lefts, row.cells, strict=True):
            _draw_cell(figure, cell, left, top, across, picture_height)
        top -= row_height + ROW_GAP
    return figure


def _check(selection: Selection, settings: GridSettings) -> None:
    if not selection.scenes:
        raise InputError("No scene was chosen; name some with --ids, or let --pick choose them.")
    if not 0 <= settings.windows <= MOST_WINDOWS:
        raise InputError(f"{settings.windows} windows cannot be drawn; give 0 to {MOST_WINDOWS}.")
    if not LEAST_WIDTH <= settings.width <= MOST_WIDTH:
        raise InputError(
            f"A figure of {settings.width:g} inches cannot be drawn; give {LEAST_WIDTH:g} to {MOST_WIDTH:g}."
        )


def _row(
    one: Chosen, selection: Selection, columns: Sequence[str], settings: GridSettings, pixels: int
) -> tuple[Row, dict[str, Any]]:
    """A row, its pictures `pixels` wide, and what is noted of it."""
    item = one.item
    pictures = load_scene(item)
    results = load_results(item, pictures, selection.columns)
    truth = None if pictures.hrgt is None else pictures.hrgt.pixels
    shown = {label: image.pixels for label, image in results.items()}
    mask = object_of(pictures)
    seen = [*shown.values()] if truth is None else [truth]
    windows = detail_windows(seen, mask, settings.windows)
    # From left to right, so that their arrows do not cross.
    windows.sort(key=lambda window: (window.left, window.top))
    reference = pictures.hrri.pixels
    reference_mask = None if pictures.hrri_mask is None else pictures.hrri_mask.values
    in_hrri = [in_reference(window, seen[0], reference, mask, reference_mask) for window in windows]
    shown |= {HRRI: reference, LRGI: enlarged_lrgi(pictures).pixels} | ({} if truth is None else {HRGT: truth})
    values = {label: by_name for label, by_name in selection.scores.get(item.id, {}).items() if label in results}
    cells = tuple(
        _cell(
            shown[column],
            in_hrri if column == HRRI else windows,
            pixels,
            _caption(values.get(column), selection.score),
        )
        for column in columns
    )
    noted = {
        "id": item.id,
        "object": item.object_name,
        "reason": one.reason,
        "windows": [_corners(window) for window in windows],
        "reference_windows": [_corners(window) for window in in_hrri],
        "scores": values,
    }
    return Row(_named(item.id, item.object_name), one.reason, cells), noted


def _named(identity: str, object_name: str) -> str:
    """The id, and the object where both say something."""
    return (
        identity if object_name.lower() in (NAMELESS, *identity.lower().split("-")) else f"{object_name} ({identity})"
    )


def _corners(window: Region) -> list[int]:
    return [window.left, window.top, window.right, window.bottom]


def _caption(values: Mapping[str, float] | None, score: Score | None) -> str:
    return "" if values is None or score is None or score.name not in values else score.text(values[score.name])


def _cell(picture: Bytes, windows: Sequence[Region], pixels: int, caption: str) -> Cell:
    size = size_of(picture)
    printed = (pixels, max(1, round(pixels * size[1] / size[0])))
    small = bicubic(picture, printed) if printed[0] < size[0] else picture
    return Cell(small, size, tuple(windows), tuple(window.of(picture).copy() for window in windows), caption)


def _cell_width(width: float, columns: int) -> float:
    return (width - LABEL_WIDTH - EDGE - GAP * (columns - 1)) / columns


def _picture_height(cell: Cell, across: float) -> float:
    """Of a reference that is higher than wide no more than its width, so that it does not set the row's height."""
    return across * min(cell.size[1] / cell.size[0], 1.5)


def _detail_side(cell: Cell, across: float) -> float:
    number = len(cell.windows)
    return (across - GAP * (number - 1)) / number if number else 0.0


def _row_height(row: Row, across: float) -> float:
    details = max(_detail_side(cell, across) for cell in row.cells)
    captions = CAPTION_HEIGHT if any(cell.caption for cell in row.cells) else 0.0
    return max(_picture_height(cell, across) for cell in row.cells) + (details + GAP if details else 0.0) + captions


def _label(figure: Figure, row: Row, top: float, height: float) -> None:
    middle = top - height / 2
    x = LABEL_WIDTH * (0.28 if row.reason else 0.5)
    _text(figure, x, middle, fitting_text(row.label, height, NORMAL), size=NORMAL, rotation=90)
    if row.reason:
        # Rather than a figure cut in its middle, the figure without what it is compared with.
        whole = row.reason if fits(row.reason, height, SMALL) else row.reason.partition(" over ")[0]
        reason = fitting_text(whole, height, SMALL)
        _text(figure, LABEL_WIDTH * 0.7, middle, reason, size=SMALL, colour=GREY, rotation=90)


def _draw_cell(figure: Figure, cell: Cell, left: float, top: float, across: float, height: float) -> None:
    """The whole picture with its frames, its windows below it, and an arrow from each frame to its window."""
    from matplotlib.patches import Rectangle

    scale = min(across / cell.size[0], height / cell.size[1])
    width, tall = cell.size[0] * scale, cell.size[1] * scale
    x, y = left + (across - width) / 2, top - (height + tall) / 2
    axes = _picture(figure, cell.picture, x, y, width, tall)
    axes.set_xlim(0, cell.size[0])
    axes.set_ylim(cell.size[1], 0)
    axes.images[0].set_extent((0, cell.size[0], cell.size[1], 0))
    side = _detail_side(cell, across)
    for number, (window, detail) in enumerate(zip(cell.windows, cell.details, strict=True)):
        colour = FRAMES[number]
        corner, (wide, high) = (window.left, window.top), window.size
        for ink, thick in ((INK, OUTLINE_WIDTH), (colour, FRAME_WIDTH)):
            axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=ink, linewidth=thick))
        below = left + number * (side + GAP), top - height - GAP - side
        inset = _picture(figure, detail, *below, side, side)
        for spine in inset.spines.values():
            spine.set(visible=True, edgecolor=colour, linewidth=1.6)
        start = x + (window.left + wide / 2) * scale, y + tall - window.bottom * scale
        _arrow(figure, start, (below[0] + side / 2, below[1] + side), colour)
    if cell.caption:
        beneath = top - height - (side + GAP if side else 0.0) - CAPTION_HEIGHT / 2
        _text(figure, left + across / 2, beneath - 0.01, cell.caption, size=SMALL)


def _picture(figure: Figure, picture: Bytes, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes of a place in inches that show a picture and nothing else."""
    across, tall = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / tall, width / across, height / tall))
    axes.imshow(picture, aspect="auto", interpolation="bicubic")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    for ink, thick in ((INK, OUTLINE_WIDTH), (colour, FRAME_WIDTH)):
        add_arrow(figure, start, end, colour=ink, linewidth=thick, head=6)


def _text(figure: Figure, x: float, y: float, text: str, *, colour: str = INK, **look: Any) -> None:
    """A line with its middle at a place in inches."""
    add_text(figure, x, y, one_line(text), color=colour, ha="center", va="center", **look)
