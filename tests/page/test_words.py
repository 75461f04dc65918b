"""Sentences on the page."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from refgc.engine import EngineName
from refgc.errors import InputError
from refgc.page.words import OUR_FAULT, missing_pictures, report_summary, sentence_for, status_line, what_runs
from tests.support.reports import make_report


def test_summary_says_the_message_first_and_the_figures_after() -> None:
    summary = report_summary(make_report())
    parts = ["Refined", "The reference was placed.", "91%", "200 × 160 pixels", "1.2 s"]
    assert [summary.index(part) for part in parts] == sorted(summary.index(part) for part in parts)


def test_summary_of_a_plain_upscale_claims_no_placement() -> None:
    summary = report_summary(make_report(placed=False, object_box=None, confidence=0.2, matches=3))
    assert "Confidence" not in summary
    assert 'class="report enlarged"' in summary
    assert "Only enlarged" in summary
    assert "200 × 160 pixels" in summary


def test_words_of_others_cannot_become_markup() -> None:
    assert "<script>" not in report_summary(make_report(message="<script>alert(1)</script>"))
    assert "<b>" not in status_line("<b>bold</b>")


def test_missing_pictures_are_named() -> None:
    assert "two pictures" in missing_pictures(None, None)
    assert "reference" in missing_pictures(None, "generated.png")
    assert "generated" in missing_pictures("reference.png", None)


def test_foreseen_errors_are_told_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    assert sentence_for(InputError("Give a picture.")) == "Give a picture."
    assert sentence_for(ZeroDivisionError("secret")) == OUR_FAULT
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("coverage", "outcome", "says", "confidence"),
    [
        (0.9, "refined", "The reference was placed.", True),
        (0.1, "partly", "About 10% of the object could be refined: mark the object", False),
        (0.001, "partly", "Less than 1% of the object could be refined", False),
    ],
)
def test_a_result_that_is_hardly_changed_does_not_look_like_success(
    coverage: float, outcome: str, says: str, confidence: bool
) -> None:
    summary = report_summary(make_report(object_coverage=coverage))
    assert f'class="report {outcome}"' in summary
    assert says in summary
    assert ("Confidence" in summary) == confidence


def test_the_swap_is_offered_where_the_pictures_look_swapped() -> None:
    assert 'data-press="#swap"' in report_summary(make_report(warnings=("swapped",)))
    assert "data-press" not in report_summary(make_report(warnings=("blurred",)))


def test_visitors_are_told_which_engine_runs_here(tmp_path: Path) -> None:
    assert "correspondence engine, which needs no weights" in what_runs("correspondence", "someone/adapter")
    assert "FLUX.1-Kontext with the weights someone/adapter." in what_runs("diffusion", "someone/adapter")
    assert "engine, FLUX.2 [klein] 4B with" in what_runs("diffusion", "someone/adapter", "FLUX.2 [klein] 4B")
    folder = tmp_path / "trained"
    folder.mkdir()
    told = what_runs("diffusion", str(folder))
    assert "with the weights trained." in told
    assert str(tmp_path) not in told, "where the folder lies is nobody's business"
    for engine in get_args(EngineName):
        assert "trained weights are not public" in what_runs(engine, None)
