"""The benchmark on held-out pairs: its design, and its tables, from figures of a comparison drawn by hand."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from benchmarks import bench
from benchmarks.bench_cases import CONDITIONS, LEVELS, STRENGTHS, make_cases, wanted
from benchmarks.split import read_split
from refgc.evaluation.table_files import json_of
from refgc.evaluation.tables import TableSettings, make_table
from refgc.page.about import OwnFigures, own_results
from tests.evaluation.test_tables import comparison, method


def test_every_artifact_has_every_strength_and_half_of_them_for_each_object():
    assert len(CONDITIONS) == len(set(CONDITIONS)) == len(STRENGTHS) * len(LEVELS)
    for product in range(3):
        both = wanted(CONDITIONS, "examples", product) + wanted(CONDITIONS, "turntables", product)
        assert len(both) == len(CONDITIONS)
        assert set(both) == set(CONDITIONS)
    shared = Counter(one for number in range(4) for one in wanted(CONDITIONS, "dreambooth", number))
    assert set(shared.values()) == {2}
    assert set(shared) == set(CONDITIONS)
    one = CONDITIONS[0]
    assert [value for _, value in one.strengths if value > 0] == [one.strength]


@pytest.mark.slow
def test_cases_are_of_the_held_out_part_and_the_same_each_time(tmp_path):
    plan = make_cases(tmp_path / "one", None, 1)
    held_out = read_split("held out")
    assert {one["object"] for one in plan.values()} == set(held_out.products)
    assert Counter(one["source"] for one in plan.values()) == {"examples": 3, "turntables": 3}
    assert make_cases(tmp_path / "one", None, 1) == plan
    make_cases(tmp_path / "two", None, 1)
    assert (tmp_path / "one" / "cases.jsonl").read_bytes() == (tmp_path / "two" / "cases.jsonl").read_bytes()


@pytest.fixture
def figures() -> dict[str, Any]:
    scores: dict[str, list[dict[str, float] | None]] = {
        label: [{"psnr": 20.0 + better * place, "psnr_inside": 18.0 + better * place} for place in range(6)]
        for label, better in ((bench.BASELINE, 1.0), (bench.SHOWN, 1.5), ("Oracle", 2.0))
    }
    notes = tuple(method(label, oracle=label == "Oracle") for label in scores)
    base = comparison(scores, notes)
    results = [
        one if one.method != bench.SHOWN else one.model_copy(update={"placed": one.id != "t0"}) for one in base.results
    ]
    gains = bench.gains_of(results)
    return {
        "machine": {"processor": "a processor", "cores": 2, "workers": 2},
        "sources": {"examples": {"what": "rendered examples", "cases": 6}},
        "table": json.loads(json_of(make_table(base, TableSettings(against=bench.BASELINE)))),
        "by source": {"examples": gains},
        "by artifact": {"texture_loss": {"weak": gains}},
        "seconds": {"examples": {bench.BASELINE: 0.01, bench.SHOWN: 3.2}},
    }


def test_gains_are_over_the_baseline_on_the_same_cases(figures):
    gains = figures["by source"]["examples"][bench.SHOWN]
    # 0, 0.5, 1.0, 1.5, 2.0 and 2.5 dB.
    assert gains["gains"]["psnr_inside"]["mean"] == 1.25
    assert gains["gains"]["psnr_inside"]["worst"] == 0.0
    low, high = gains["gains"]["psnr_inside"]["interval"]
    assert 0 < low < 1.25 < high
    assert (gains["placed"], gains["cases"], gains["objects"]) == (5, 6, 6)


def test_the_document_and_the_page_follow_from_the_figures(figures):
    text = bench.document(figures)
    assert "| texture loss, weak | +1.25 [" in text
    assert "5 of 6" in text
    assert "a processor, 2 cores" in text
    page = own_results(OwnFigures.model_validate(bench.summary(figures)))
    assert "Means over 6 simulated pictures of 6 objects" in page
    assert "<td>+1.25 dB</td>" in page
    assert "Oracle" not in page


def test_tables_go_between_the_marks_alone():
    before = f"above\n{bench.BEGIN}\nold\n{bench.END}\nbelow \\1\n"
    once = bench.between_marks(before, "new \\g<1>")
    assert once == f"above\n{bench.BEGIN}\n\nnew \\g<1>\n{bench.END}\nbelow \\1\n"
    assert bench.between_marks(once, "new \\g<1>") == once
    with pytest.raises(SystemExit, match="no marks"):
        bench.between_marks("nothing", "new")


def test_what_is_committed_follows_from_the_committed_figures():
    if not bench.FILE.is_file():
        pytest.skip("the benchmark was not run yet")
    figures = json.loads(bench.FILE.read_bytes())
    assert json.loads(bench.SUMMARY.read_bytes()) == bench.summary(figures)
    text = bench.DOCUMENT.read_text(encoding="utf-8")
    assert bench.between_marks(text, bench.document(figures)) == text
