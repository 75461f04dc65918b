"""The About tab: the paper's tables as they are in its file, and the project's own from the benchmark's summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refgc.evaluation.paper import read_paper
from refgc.page import about

OWN = {
    "entries": 96,
    "objects": 7,
    "columns": [
        {"figure": "psnr_inside", "metric": "PSNR", "region": "inside", "digits": 2, "higher_is_better": True},
        {"figure": "flip", "metric": "FLIP", "region": "whole", "digits": 3, "higher_is_better": False},
    ],
    "rows": [
        {"method": "Lanczos", "figures": {"psnr_inside": 20.118, "flip": 0.1}},
        {"method": "Ours <b>", "figures": {"psnr_inside": 22.5}},
    ],
    "gains": {"texture_loss": {"weak": 1.5, "strong": -0.254}},
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "bench.json"
    monkeypatch.setattr(about, "OWN_FIGURES", file)
    return file


def test_own_figures_are_those_of_the_summary(own):
    own.write_text(json.dumps(OWN))
    page = about.about_html()
    assert "Means over 96 simulated pictures of 7 objects" in page
    assert '<th scope="row">Lanczos</th><td>20.12</td><td class="best">0.100</td>' in page
    assert '<th scope="row">Ours &lt;b&gt;</th><td class="best">22.50</td><td></td>' in page
    assert "PSNR, object ↑" in page
    assert "FLIP ↓" in page
    assert '<th scope="row">Texture loss</th><td>+1.50 dB</td><td>-0.25 dB</td>' in page


def test_without_a_summary_there_is_no_section_of_own_figures(own):
    page = about.about_html()
    assert "What the engine of this page gains" not in page
    assert "{own_results}" not in page
    assert "{paper_tables}" not in page


def test_every_figure_of_the_paper_is_on_the_page(own):
    page, paper = about.about_html(), read_paper()
    for table in paper.tables.values():
        for row in table.rows:
            assert "".join(f"<td>{value}</td>" for value in row.values) in page
    assert page.count('<tr class="best"><th scope="row">RefGC-SR²</th>') == 2
    assert "16 people chose the best model" in page
