"""Tables: means over common entries, marks, counts, and files of the same bytes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from refgc.errors import InputError
from refgc.evaluation.results import Comparison, Head, MethodNote, MetricNote, Result, read_results, write_results
from refgc.evaluation.table_files import csv_of, json_of, latex_of, markdown_of, write_tables
from refgc.evaluation.tables import TableSettings, make_table

OBJECTS = ("a", "b", "c", "d", "e", "f")


def metric(name: str = "psnr", **changes: Any) -> MetricNote:
    values = {
        "name": name, "label": name.upper(), "unit": "dB", "digits": 2, "higher_is_better": True,
        "regions": ("whole", "inside"), "protocol": f"how {name} is computed",
    }  # fmt: skip
    return MetricNote(**(values | changes))


def method(label: str, **changes: Any) -> MethodNote:
    values: dict[str, Any] = {
        "label": label, "method": "lanczos", "folder": label, "finetuned": False, "components": (), "oracle": False,
    }  # fmt: skip
    return MethodNote(**(values | changes))


def comparison(
    scores: dict[str, list[dict[str, float] | None]],
    methods: tuple[MethodNote, ...] | None = None,
    metrics: tuple[MetricNote, ...] | None = None,
    **head: Any,
) -> Comparison:
    """By method, the scores of an entry of each object; None where it failed."""
    notes = methods or tuple(method(label) for label in scores)
    count = len(next(iter(scores.values())))
    results = tuple(
        Result(id=f"t{place}", object_id=OBJECTS[place], method=note.label, status="failed", fault="It broke.")
        if (found := scores[note.label][place]) is None
        else Result(id=f"t{place}", object_id=OBJECTS[place], method=note.label, status="done", scores=found)
        for place in range(count)
        for note in notes
    )
    values: dict[str, Any] = {
        "kind": "dataset", "name": "set", "sha256": "0" * 64, "items": count, "objects": count, "with_truth": count,
        "bad": (), "methods": notes, "metrics": metrics or (metric(),), "missing": (),
    }  # fmt: skip
    return Comparison(Head(**(values | head)), results)


def psnr(*values: float | None) -> list[dict[str, float] | None]:
    return [None if value is None else {"psnr": value, "psnr_inside": value - 1} for value in values]


SIX = comparison({"low": psnr(1, 2, 3, 4, 5, 6), "high": psnr(2, 3, 4, 5, 6, 8), "mid": psnr(1, 2, 3, 4, 6, 6)})


def test_means_ranks_and_tests():
    table = make_table(SIX)
    assert [column.figure for column in table.columns] == ["psnr", "psnr_inside"]
    low, high, mid = table.rows
    assert low.cells["psnr"].mean == pytest.approx(3.5)
    assert (high.cells["psnr"].rank, mid.cells["psnr"].rank, low.cells["psnr"].rank) == (1, 2, None)
    assert table.columns[0].against == "high"
    # 2 of 64 combinations of signs, times two tests; the best is not tested against itself.
    assert low.cells["psnr"].p == pytest.approx(2 * 2 / 64)
    assert high.cells["psnr"].p is None
    bounds = high.cells["psnr"]
    assert bounds.low is not None
    assert bounds.high is not None
    assert bounds.low < bounds.mean < bounds.high


def test_the_method_that_others_are_tested_against_may_be_named():
    table = make_table(SIX, TableSettings(against="low"))
    assert {column.against for column in table.columns} == {"low"}
    assert table.rows[0].cells["psnr"].p is None
    assert "differs from low" in " ".join(table.head)
    with pytest.raises(InputError, match="'ours'; there are low, high, mid"):
        make_table(SIX, TableSettings(against="ours"))


def test_where_lower_is_better_the_lowest_is_what_others_are_tested_against():
    lower = metric(higher_is_better=False, regions=("whole",))
    table = make_table(comparison({"low": psnr(1, 2, 3, 4, 5), "high": psnr(2, 3, 4, 5, 7)}, metrics=(lower,)))
    assert table.columns[0].against == "low"
    assert table.rows[0].cells["psnr"].p is None
    assert table.rows[1].cells["psnr"].p == pytest.approx(2 / 32)


def test_a_line_of_csv_has_all_of_its_cell():
    table = make_table(SIX)
    (line,) = [
        row
        for row in csv.DictReader(line for line in csv_of(table).splitlines() if not line.startswith("#"))
        if (row["method"], row["figure"]) == ("low", "psnr")
    ]
    cell = table.rows[0].cells["psnr"]
    for name in ("mean", "low", "high", "p"):
        assert float(line[name]) == pytest.approx(getattr(cell, name), abs=1e-6)
    assert (line["against"], line["rank"], line["entries"], line["objects"]) == ("high", "", "6", "6")


def test_lower_may_be_better_and_equal_figures_are_marked_alike():
    lower = metric(higher_is_better=False, regions=("whole",), digits=1)
    table = make_table(
        comparison({"a": psnr(1.01, 1), "b": psnr(1, 1.02), "c": psnr(2, 2), "d": psnr(3, 3)}, metrics=(lower,))
    )
    assert [row.cells["psnr"].rank for row in table.rows] == [1, 1, 2, None]


def test_means_are_over_entries_that_all_methods_have_and_failures_are_counted():
    table = make_table(comparison({"a": psnr(1, 2, 3), "b": psnr(10, None, 30), "c": psnr(None, None, None)}))
    a, b, c = table.rows
    assert (a.failed, b.failed, c.failed) == (0, 1, 3)
    assert (a.cells["psnr"].mean, b.cells["psnr"].mean) == (2.0, 20.0)
    assert c.cells == {}
    assert (table.columns[0].items, table.columns[0].left_out) == (2, 1)
    told = " ".join(table.warnings)
    assert "b has no result for 1 of 3 entries. t1: It broke." in told
    assert "c has no result for 3 of 3 entries" in told
    assert "PSNR, whole picture: 1 entry is left out" in told


def test_an_oracle_is_neither_ranked_nor_tested():
    notes = (method("a"), method("truth", oracle=True), method("b"))
    table = make_table(
        comparison({"a": psnr(1, 2, 3, 4, 5), "truth": psnr(9, 9, 9, 9, 9), "b": psnr(1, 2, 3, 4, 6)}, notes)
    )
    oracle = table.rows[1].cells["psnr"]
    assert (oracle.rank, oracle.p) == (None, None)
    assert table.columns[0].against == "b"


def test_what_has_to_be_said_is_said():
    results = [one.model_copy(update={"placed": place > 0, "resized": place == 2}) for place, one in
               enumerate(comparison({"a": psnr(1, 2, 3)}).results)]  # fmt: skip
    head = comparison(
        {"a": psnr(1, 2, 3)},
        missing=("LPIPS needs weights: run it.",),
        bad=[{"id": "line 4", "reason": "It is damaged."}],
        with_truth=0,
    ).head
    table = make_table(Comparison(head, tuple(results)))
    told = " ".join((*table.head, *table.warnings))
    for sentence in (
        "how psnr is computed", "Left out: LPIPS needs weights", "1 entry could not be read", "line 4: It is damaged.",
        "did not place the reference in 1 of 3 entries", "1 result of another size", "none with a truth",
    ):  # fmt: skip
        assert sentence in told
    assert table.rows[0].unplaced == 1


def test_metrics_that_failed_are_told():
    base = comparison({"a": psnr(1, 2)})
    results = [base.results[0].model_copy(update={"scores": {}, "faults": {"psnr": "Too small."}}), base.results[1]]
    table = make_table(Comparison(base.head, tuple(results)))
    assert "The metric psnr failed for 1 result; the first, t0 by a: Too small." in table.warnings


def test_an_ablation_has_columns_of_its_components():
    notes = (method("base"), method("+ L_f", components=("L_f",)), method("both", components=("L_f", "FreqMoLE")))
    table = make_table(comparison({note.label: psnr(1, 2) for note in notes}, notes))
    assert table.components == ("L_f", "FreqMoLE")
    lines = markdown_of(table).splitlines()
    assert next(line for line in lines if line.startswith("| Method")).startswith("| Method | L\\_f | FreqMoLE | PSNR")
    assert any(line.startswith("| both | ✓ | ✓ |") for line in lines)
    assert r"both & \checkmark & \checkmark &" in latex_of(table)


def test_labels_cannot_break_a_table():
    notes = (method("a|b_*<x>"), method(r"50% & \more", finetuned=True))
    table = make_table(comparison({note.label: psnr(1, 2) for note in notes}, notes))
    assert r"| a\|b\_\*\<x\> |" in markdown_of(table)
    assert r"50\% \& \textbackslash{}more* &" in latex_of(table)
    rows = list(csv.DictReader(line for line in csv_of(table).splitlines() if not line.startswith("#")))
    assert rows[0]["method"] == "a|b_*<x>"
    assert (rows[-1]["method"], rows[-1]["finetuned"], rows[0]["mean"]) == (r"50% & \more", "True", "1.5")


@pytest.mark.parametrize("label", ["[ours]", "*ours"])
def test_latex_takes_no_label_for_an_option_of_the_row_before(label):
    notes = (method("first"), method(label))
    lines = latex_of(make_table(comparison({note.label: psnr(1, 2) for note in notes}, notes))).splitlines()
    assert any(line.startswith(f"{{}}{label} &") for line in lines)
    assert not any(line.startswith(label[0]) for line in lines)


def test_best_is_bold_and_second_underlined():
    table = make_table(SIX)
    text = markdown_of(table)
    assert "| high | **4.67** [" in text
    assert "<u>3.67</u>" in text
    tex = latex_of(table)
    assert r"\textbf{4.67}" in tex
    assert r"\underline{3.67}" in tex


def test_the_papers_figures_are_told_apart(tmp_path):
    write_tables(tmp_path, SIX, paper=("2", "3"))
    text = (tmp_path / "table.md").read_text()
    assert "| RefGC-SR² | **0.8696** | **0.7474** | **17.5148** | **0.6335** | **0.2746** |" in text
    assert "on other data" in text
    assert r"TSD-SR* & 0.8238" in (tmp_path / "table.tex").read_text()
    lines = (tmp_path / "table.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {row["source"].partition(".")[0] for row in rows} == {"", "Table 2", "Table 3"}
    assert json.loads((tmp_path / "table.json").read_text())["paper"]["tables"][1]["columns"][5]["group"] == (
        "Customisation"
    )


def test_the_same_results_give_the_same_bytes(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write_results(tmp_path / place, SIX)
        write_tables(tmp_path / place, read_results(tmp_path / place))
    write_tables(tmp_path / "two", read_results(tmp_path / "two"))
    for name in ("results.jsonl", "evaluation.json", "table.json", "table.csv", "table.md", "table.tex"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json_of(make_table(SIX)) == (tmp_path / "one" / "table.json").read_text()


def spoil(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("evaluation.json", "{}", "kind: Field required"),
        ("results.jsonl", '{"id": "t0"}\n', "Line 1"),
        ("results.jsonl", "", "has 0 lines"),
    ],
)
def test_results_that_cannot_be_used_are_told(tmp_path, name, content, part):
    write_results(tmp_path, SIX)
    spoil(tmp_path, name, content)
    with pytest.raises(InputError, match=part):
        read_results(tmp_path)


def test_no_results_are_told(tmp_path):
    with pytest.raises(InputError, match="refgc evaluate"):
        read_results(tmp_path)
