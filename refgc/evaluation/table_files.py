"""Tables as files: JSON, CSV, Markdown and LaTeX. The same table gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from refgc.evaluation.paper import PaperTable, paper_table, read_paper
from refgc.evaluation.results import Comparison
from refgc.evaluation.tables import REGIONS, SIGNIFICANT, Cell, Column, Row, Table, TableSettings, make_table
from refgc.imaging.files import write_whole

PaperNumber: TypeAlias = Literal["2", "3"]
# Of means, bounds and p-values in JSON and CSV.
DIGITS = 6
FIELDS = (
    *("method", "finetuned", "oracle", "components", "figure", "metric", "region", "unit", "higher_is_better"),
    *("mean", "low", "high", "p", "against", "rank", "entries", "objects", "left_out", "failed", "unplaced", "source"),
)
NOTHING = "–"
ON = "✓"
LATEX_MARKS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    "–": "--",
}


def write_tables(
    output: Path,
    comparison: Comparison,
    settings: TableSettings | None = None,
    paper: Sequence[PaperNumber] = (),
) -> Table:
    """Write table.json, table.csv, table.md and table.tex.

    Args:
        output: the folder of the comparison.
        comparison: its results.
        settings: how the table is computed.
        paper: tables of the paper whose figures are printed beside.

    Returns:
        The table.

    Raises:
        InputError: as for `refgc.evaluation.tables.make_table`, or a file cannot be written.
    """
    table, others = make_table(comparison, settings), [paper_table(number) for number in paper]
    writers: dict[str, Callable[[Table, Sequence[PaperTable]], str]] = {
        "json": json_of,
        "csv": csv_of,
        "md": markdown_of,
        "tex": latex_of,
    }
    for suffix, write in writers.items():
        write_whole(output / f"table.{suffix}", write(table, others).encode())
    return table


def json_of(table: Table, paper: Sequence[PaperTable] = ()) -> str:
    """The table as JSON, its numbers rounded."""
    content = _rounded(table.model_dump(mode="json"))
    if paper:
        content["paper"] = {"source": read_paper().source, "tables": [one.model_dump(mode="json") for one in paper]}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def csv_of(table: Table, paper: Sequence[PaperTable] = ()) -> str:
    """The table as CSV: a line a method and figure. The head stands above it in lines that begin with #."""
    out = io.StringIO()
    for line in (*table.head, *table.warnings):
        out.write(f"# {' '.join(line.split())}\n")
    writer = csv.DictWriter(out, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for column in table.columns:
            writer.writerow(_csv_row(row, column))
    for one in paper:
        for paper_row in one.rows:
            for paper_column, value in zip(one.columns, paper_row.values, strict=True):
                figures = {
                    "method": paper_row.label,
                    "finetuned": paper_row.finetuned,
                    "metric": " ".join(filter(None, (paper_column.group, paper_column.label))),
                    "higher_is_better": paper_column.higher_is_better,
                    "mean": value,
                    "source": f"{one.title} (the paper's own, other data)",
                }
                writer.writerow(figures)
    return out.getvalue()


def markdown_of(table: Table, paper: Sequence[PaperTable] = ()) -> str:
    """The table as Markdown, one for each region of the picture: best bold, second underlined."""
    parts = ["".join(f"- {_markdown(line)}\n" for line in table.head)]
    for region in table.regions():
        columns = [column for column in table.columns if column.region == region]
        titles = [f"{column.metric} {_arrow(column.higher_is_better)}" for column in columns]
        head = ["Method", *table.components, *titles, "Failed", "Not placed"]
        lines = [[_markdown(cell) for cell in head], ["---"] * len(head)]
        for row in table.rows:
            figures = [_markdown_cell(row.cells.get(column.figure), column) for column in columns]
            lines.append([_markdown(row.name), *_switches(row, table), *figures, str(row.failed), _unplaced(row)])
        lines.append(["Entries", *[""] * len(table.components), *_numbers(columns), "", ""])
        parts.append(f"**{REGIONS[region]}**\n\n" + _markdown_lines(lines))
    if table.warnings:
        parts.append("**Beware**\n\n" + "".join(f"- {_markdown(line)}\n" for line in table.warnings))
    parts += [_markdown_of_paper(one) for one in paper]
    return "\n".join(parts)


def latex_of(table: Table, paper: Sequence[PaperTable] = ()) -> str:
    """The table as LaTeX, one for each region of the picture; it needs the packages booktabs and graphicx."""
    comments = "".join(f"% {' '.join(line.split())}\n" for line in (*table.head, *table.warnings))
    parts = [comments]
    for region in table.regions():
        columns = [column for column in table.columns if column.region == region]
        titles = [f"{latex(column.metric)} {_latex_arrow(column.higher_is_better)}" for column in columns]
        head = ["Method", *map(latex, table.components), *titles, "Failed", "Not placed"]
        lines = []
        for row in table.rows:
            figures = [_latex_cell(row.cells.get(column.figure), column) for column in columns]
            switches = [r"\checkmark" if mark == ON else "" for mark in _switches(row, table)]
            lines.append([latex(row.name), *switches, *figures, str(row.failed), latex(_unplaced(row))])
        foot = ["Entries", *[""] * len(table.components), *_numbers(columns), "", ""]
        caption = f"{REGIONS[region]}. {' '.join(map(latex, table.head))}"
        align = "l" + "c" * len(table.components) + "r" * (len(columns) + 2)
        parts.append(_latex_table(caption, align, [head], lines, foot))
    parts += [_latex_of_paper(one) for one in paper]
    return "\n".join(parts)


def _csv_row(row: Row, column: Column) -> dict[str, object]:
    found: dict[str, object] = {
        "method": row.label,
        "finetuned": row.finetuned,
        "oracle": row.oracle,
        "components": " ".join(row.components),
        "figure": column.figure,
        "metric": column.metric,
        "region": column.region,
        "unit": column.unit,
        "higher_is_better": column.higher_is_better,
        "against": column.against or "",
        "entries": column.items,
        "objects": column.objects,
        "left_out": column.left_out,
        "failed": row.failed,
        "unplaced": "" if row.unplaced is None else row.unplaced,
    }
    if (cell := row.cells.get(column.figure)) is not None:
        found |= {"mean": _number(cell.mean), "low": _number(cell.low), "high": _number(cell.high)}
        found |= {"p": _number(cell.p), "rank": cell.rank or ""}
    return found


def _number(value: float | None) -> str:
    return "" if value is None else str(round(value, DIGITS))


def _rounded(value: object) -> dict[str, object]:
    def walk(one: object) -> object:
        match one:
            case float():
                return round(one, DIGITS)
            case dict():
                return {key: walk(inner) for key, inner in one.items()}
            case list():
                return [walk(inner) for inner in one]
        return one

    found = walk(value)
    assert isinstance(found, dict), "a table is an object"
    return found


def _arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def _latex_arrow(higher_is_better: bool) -> str:
    return r"$\uparrow$" if higher_is_better else r"$\downarrow$"


def _switches(row: Row, table: Table) -> list[str]:
    return [ON if name in row.components else "" for name in table.components]


def _unplaced(row: Row) -> str:
    return NOTHING if row.unplaced is None else str(row.unplaced)


def _numbers(columns: Sequence[Column]) -> list[str]:
    return [f"{column.items} of {column.objects} objects" for column in columns]


def _bounds(cell: Cell, column: Column) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f"[{cell.low:.{column.digits}f}, {cell.high:.{column.digits}f}]"


def _dagger(cell: Cell) -> bool:
    return cell.p is not None and cell.p < SIGNIFICANT


def _markdown_cell(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return NOTHING
    mean = f"{cell.mean:.{column.digits}f}"
    mean = {1: f"**{mean}**", 2: f"<u>{mean}</u>", None: mean}[cell.rank]
    return " ".join(filter(None, (mean + ("†" if _dagger(cell) else ""), _bounds(cell, column))))


def _latex_cell(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return "--"
    mean = f"{cell.mean:.{column.digits}f}"
    mean = {1: rf"\textbf{{{mean}}}", 2: rf"\underline{{{mean}}}", None: mean}[cell.rank]
    bounds = _bounds(cell, column)
    small = rf" {{\scriptsize {bounds}}}" if bounds else ""
    return mean + (r"$^\dagger$" if _dagger(cell) else "") + small


def _markdown(text: str) -> str:
    """A text as it is, whatever marks of Markdown are in it."""
    plain = " ".join(text.split())
    for mark in "\\`*_<>[]|":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def _markdown_lines(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(text: str) -> str:
    """A text as it is, whatever marks of LaTeX are in it."""
    return "".join(LATEX_MARKS.get(mark, mark) for mark in " ".join(text.split()))


def _latex_table(
    caption: str, align: str, heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], foot: Sequence[str] = ()
) -> str:
    lines = [
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        *(_latex_row(head) for head in heads),
        r"\midrule",
        *(_latex_row(row) for row in rows),
        *([r"\midrule", _latex_row(foot)] if foot else []),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    line = " & ".join(cells)
    # At the beginning of a row LaTeX would take these for an option of the row before.
    return ("{}" if line.startswith(("[", "*")) else "") + line + r" \\"


def _paper_ranks(table: PaperTable, place: int) -> dict[str, int]:
    """Best and second of a column, by the printed value."""
    order = sorted({row.values[place] for row in table.rows}, key=float, reverse=table.columns[place].higher_is_better)
    return dict(zip(order, (1, 2), strict=False))


def _paper_title(table: PaperTable) -> str:
    return f"{table.title}. The paper's own figures, on other data: they cannot be compared with those above"


def _markdown_of_paper(table: PaperTable) -> str:
    titles = [
        " ".join(filter(None, (column.group, column.label, _arrow(column.higher_is_better))))
        for column in table.columns
    ]
    ranks = [_paper_ranks(table, place) for place in range(len(table.columns))]
    marks = {1: "**{}**", 2: "<u>{}</u>", None: "{}"}
    rows = [
        [_markdown(row.name)] + [marks[ranks[place].get(value)].format(value) for place, value in enumerate(row.values)]
        for row in table.rows
    ]
    return f"**{_paper_title(table)}.**\n\n" + _markdown_lines(
        [["Method", *titles], ["---"] * (len(titles) + 1), *rows]
    )


def _latex_of_paper(table: PaperTable) -> str:
    titles = [
        " ".join(filter(None, (column.group, latex(column.label), _latex_arrow(column.higher_is_better))))
        for column in table.columns
    ]
    ranks = [_paper_ranks(table, place) for place in range(len(table.columns))]
    marks = {1: r"\textbf{%s}", 2: r"\underline{%s}", None: "%s"}
    rows = [
        [latex(row.name)] + [marks[ranks[place].get(value)] % value for place, value in enumerate(row.values)]
        for row in table.rows
    ]
    return _latex_table(f"{latex(_paper_title(table))}.", "l" + "r" * len(titles), [["Method", *titles]], rows)
