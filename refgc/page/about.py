"""The About tab: its text, with the paper's tables and this project's own from the committed figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from refgc.evaluation.paper import PaperColumn, PaperStudy, PaperTable, read_paper

ASSETS = Path(__file__).with_name("assets")
# Written by benchmarks/bench.py.
OWN_FIGURES = ASSETS / "bench.json"
WHERE = {"whole": "", "inside": ", object", "outside": ", around"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnColumn(_Frozen):
    """A figure of the project's own benchmark; see `refgc.evaluation.tables.Column`."""

    figure: str
    metric: str
    region: Literal["whole", "inside", "outside"]
    digits: int
    higher_is_better: bool

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.metric}{WHERE[self.region]} {_arrow(self.higher_is_better)}"


class OwnRow(_Frozen):
    """A method with its means by figure."""

    method: str
    figures: dict[str, float]


class OwnFigures(_Frozen):
    """The project's own benchmark.

    Attributes:
        entries: how many generated pictures.
        objects: that these show.
        columns: of the first table.
        rows: of the first table.
        gains: by artifact and strength, the mean gain of the PSNR inside the object over a Lanczos enlargement, in dB.
    """

    entries: int
    objects: int
    columns: tuple[OwnColumn, ...]
    rows: tuple[OwnRow, ...]
    gains: dict[str, dict[str, float]]


def about_html() -> str:
    """The tab's content. The drawing of the method is inlined, so that it takes the page's colours."""
    text, drawing = ((ASSETS / name).read_text(encoding="utf-8") for name in ("about.html", "method.svg"))
    paper = read_paper()
    tables = (_study(paper.study), _benchmark(paper.tables["2"]), _wild(paper.tables["3"]))
    own = own_results(OwnFigures.model_validate_json(OWN_FIGURES.read_bytes())) if OWN_FIGURES.is_file() else ""
    parts = {"{method}": drawing, "{paper_tables}": "\n".join(tables), "{own_results}": own}
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def own_results(own: OwnFigures) -> str:
    """The section on what the correspondence engine gains."""
    best = {column.figure: _best_of(column, own.rows) for column in own.columns}
    rows = [
        _row(
            row.method,
            [
                _cell("" if value is None else f"{value:.{column.digits}f}", best=value == best[column.figure])
                for column in own.columns
                for value in [row.figures.get(column.figure)]
            ],
        )
        for row in own.rows
    ]
    levels = list(dict.fromkeys(level for found in own.gains.values() for level in found))
    gains = [
        _row(
            artifact.replace("_", " ").capitalize(),
            [_cell(f"{found[level]:+.2f} dB" if level in found else "") for level in levels],
        )
        for artifact, found in own.gains.items()
    ]
    means = _table(
        "Own benchmark",
        f"Means over {own.entries} simulated pictures of {own.objects} objects",
        [_heads(["Method", *(column.title for column in own.columns)])],
        rows,
    )
    by_artifact = _table(
        "Own benchmark by artifact",
        "Gain inside the object over a Lanczos enlargement, by artifact and its strength",
        [_heads(["Artifact", *(level.capitalize() for level in levels)])],
        gains,
    )
    return (
        "  <section>\n    <h2>What the engine of this page gains</h2>\n"
        "    <p>Our own figures, of pictures that nothing was fitted on: rendered products, and photos of DreamBooth. "
        "The generated pictures are simulated, each with one artifact, so that the truth is known. They cannot be "
        "compared with the paper’s, which are of other pictures.</p>\n"
        f'    <div class="tables">\n{means}\n{by_artifact}    </div>\n  </section>\n\n'
    )


def _study(study: PaperStudy) -> str:
    caption = (
        f"User study: {study.people} people chose the best model; how often {study.winner} was it. No other was above "
        f"{study.most_of_any_other_percent}%"
    )
    rows = [_row(question, [_cell(f"{share}%")]) for question, share in study.first_choices_percent]
    return _table("User study", caption, [_heads(["Asked about", "First choice"])], rows)


def _benchmark(table: PaperTable) -> str:
    heads = ["Model", "Task", "Reference", *(_title(column) for column in table.columns)]
    told = [(row.task or "", "yes" if row.reference else "no") for row in table.rows]
    return _table("Table 2", table.title, [_heads(heads)], _paper_rows(table, told))


def _wild(table: PaperTable) -> str:
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(list(columns))}">{escape(name)}</th>'
        for name, columns in groupby(table.columns, key=lambda column: column.group)
    )
    above = f"\n            <tr><td></td>{groups}</tr>\n            "
    heads = f"{above}{_heads(['Model', *(_title(column) for column in table.columns)])}\n          "
    return _table("Table 3", table.title, [heads], _paper_rows(table, [()] * len(table.rows)))


def _paper_rows(table: PaperTable, told: Iterable[Sequence[str]]) -> list[str]:
    """The rows with what is told of each model; the one that is best in every column is marked."""
    best = [
        (max if column.higher_is_better else min)((row.values[place] for row in table.rows), key=float)
        for place, column in enumerate(table.columns)
    ]
    return [
        _row(row.name, [_cell(value) for value in (*words, *row.values)], best=list(row.values) == best)
        for row, words in zip(table.rows, told, strict=True)
    ]


def _title(column: PaperColumn) -> str:
    return f"{column.label} {_arrow(column.higher_is_better)}"


def _arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def _best_of(column: OwnColumn, rows: Sequence[OwnRow]) -> float | None:
    values = [row.figures[column.figure] for row in rows if column.figure in row.figures]
    return (max if column.higher_is_better else min)(values, default=None)


def _heads(titles: Sequence[str]) -> str:
    cells = [f'<th scope="col">{escape(title)}</th>' for title in titles]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, *, best: bool = False) -> str:
    return f"<td{_marked(best)}>{escape(text)}</td>"


def _row(name: str, cells: Sequence[str], *, best: bool = False) -> str:
    return f'<tr{_marked(best)}><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def _marked(best: bool) -> str:
    return ' class="best"' if best else ""


def _table(name: str, caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """A table in a frame that scrolls by itself on a narrow screen."""
    body = "".join(f"            {row}\n" for row in rows)
    return (
        f'      <div class="table-frame" tabindex="0" role="region" aria-label="{escape(name)}">\n'
        '        <table class="numbers">\n'
        f"          <caption><span>{escape(caption.replace(chr(39), '’'))}</span></caption>\n"
        f"          <thead>{''.join(heads)}</thead>\n"
        f"          <tbody>\n{body}          </tbody>\n"
        "        </table>\n      </div>\n"
    )
