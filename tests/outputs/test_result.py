"""What a person is told of a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from refgc.outputs.result import result_line
from tests.support.reports import make_report, make_result


@pytest.mark.parametrize(
    ("name", "shown"), [("two  spaces.png", "two  spaces.png"), ("a\nb\x1b[31m.png", r"a\nb\x1b[31m.png")]
)
def test_a_name_stays_on_the_line_and_commands_no_terminal(name: str, shown: str) -> None:
    """In a watched folder names are whatever comes in."""
    line = result_line(make_result(make_report()), Path("out") / name)
    assert line.startswith(str(Path("out") / shown) + " (")
    assert line.isprintable()
