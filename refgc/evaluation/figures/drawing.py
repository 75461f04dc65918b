"""What all figures share: their look, and files that are the same bytes for the same input."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgc.errors import InputError, one_line, quoted, shortened
from refgc.imaging.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".svg", ".png")
INSTALL = "pip install '.[evaluation]' in the project's folder"
# Of pixels in a PNG, and of pictures inside a PDF or SVG, in dots per inch. Chosen by hand.
DPI = 200
# Points of the smallest and of the usual text; a figure is drawn at the size at which it is printed.
SMALL, NORMAL = 7.0, 8.0
POINTS = 72
# A text is not made shorter than this.
LEAST_CHARACTERS = 6
# Dark enough for text on white, and told apart by people who see no red or green (Okabe and Ito, 2008).
INK, GREY = "#1d2526", "#6b7476"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
# No date and no program's version gets into a file.
METADATA: Mapping[str, Mapping[str, Any]] = {
    ".pdf": {"CreationDate": None, "Creator": "RefGC-SR2", "Producer": None},
    ".svg": {"Date": None, "Creator": "RefGC-SR2"},
    ".png": {"Software": None},
}
STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "legend.fontsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e4e8e8",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    # A dollar sign in a name begins no formula.
    "text.parse_math": False,
    # Ids of clip paths and markers in an SVG are random without it.
    "svg.hashsalt": "refgc",
}


def check_outputs(outputs: Sequence[Path]) -> None:
    """Refuses what cannot be drawn, before anything long begins.

    Raises:
        InputError: matplotlib is missing, there is no output, or one of another format.
    """
    if find_spec("matplotlib") is None:
        raise InputError(f"Figures need matplotlib: {INSTALL}.")
    if not outputs:
        raise InputError("A figure needs a file to be written to; give --output with a name that ends in .pdf.")
    for output in outputs:
        if output.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{quoted(str(output))} is no figure's name; end it in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
            )


@contextmanager
def figure_style() -> Iterator[None]:
    """Inside, matplotlib draws in this project's look; settings of the person who runs it play no part."""
    import matplotlib as mpl

    # Its names of settings are a type of their own.
    style: Any = STYLE
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        yield


def save_figure(figure: Figure, outputs: Sequence[Path], *, dpi: int = DPI) -> None:
    """Write a figure in each format that is asked for; the same figure gives the same bytes.

    Call it inside of `figure_style`.

    Args:
        figure: what is drawn.
        outputs: files that end in one of `SUFFIXES`.
        dpi: pixels an inch of a PNG, and of pictures inside the other formats.

    Raises:
        InputError: a file cannot be written.
    """
    for output in outputs:
        suffix = output.suffix.lower()
        content = io.BytesIO()
        figure.savefig(content, format=suffix[1:], dpi=dpi, metadata=dict(METADATA[suffix]))
        write_whole(output, content.getvalue())


def save_data(values: Mapping[str, Any], outputs: Sequence[Path]) -> Path:
    """Write what a figure shows as JSON, beside its first file and with its name; returns the place.

    Raises:
        InputError: the file cannot be written.
    """
    place = outputs[0].with_suffix(".json")
    write_whole(place, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return place


def fitting_text(text: str, inches: float, size: float, *, weight: str = "normal") -> str:
    """A text with its middle left out where it is wider than a place.

    Args:
        text: any.
        inches: width of the place.
        size: of the letters, in points.
        weight: of the letters.
    """
    line, most = one_line(text), len(one_line(text))
    while most > LEAST_CHARACTERS:
        short = shortened(line, most)
        if fits(short, inches, size, weight=weight):
            return short
        most -= 1
    return shortened(line, most)


def fits(text: str, inches: float, size: float, *, weight: str = "normal") -> bool:
    """Whether a text is no wider than a place; as for `fitting_text`."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    letters = FontProperties(family=STYLE["font.family"], weight=weight)
    return bool(TextPath((0, 0), one_line(text), size=size, prop=letters).get_extents().width <= inches * POINTS)


def add_text(figure: Figure, x: float, y: float, text: str, **look: Any) -> None:
    """A text at a place in inches from the figure's lower left corner; `look` is that of matplotlib's text."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, **look)


def add_arrow(
    figure: Figure,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    colour: str,
    linewidth: float,
    head: float,
) -> None:
    """An arrow between two places in inches; `head` is the size of its head, in points."""
    from matplotlib.patches import FancyArrowPatch

    width, height = figure.get_size_inches()
    figure.add_artist(
        FancyArrowPatch(
            (start[0] / width, start[1] / height),
            (end[0] / width, end[1] / height),
            transform=figure.transFigure,
            arrowstyle="-|>",
            mutation_scale=head,
            color=colour,
            linewidth=linewidth,
            shrinkA=0,
            shrinkB=0,
        )
    )
