"""What the server remembers of visits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from refgc.page.refine import visits
from refgc.page.refine.result import Entry, History
from refgc.page.refine.visits import Cancellations, KeptResults


@dataclass(frozen=True)
class Kept:
    """As much of an entry as the history asks for."""

    path: Path

    @property
    def is_there(self) -> bool:
        return self.path.exists()


def history(*paths: Path) -> History:
    entries = tuple(cast(Entry, Kept(path)) for path in paths)
    return History(entries, entries[0])


def test_a_page_that_is_loaded_again_finds_its_results(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    kept = KeptResults()
    token, empty = kept.open("first", "")
    assert empty == History()
    kept.keep("first", history(tmp_path / "a"))
    again, found = kept.open("second", token)
    assert (again, found) == (token, history(tmp_path / "a"))
    kept.keep("second", history(tmp_path / "a", tmp_path / "b"))
    # Of what was deleted nothing is found.
    assert kept.open("third", token)[1] == history(tmp_path / "a")
    (tmp_path / "a").unlink()
    assert kept.open("third", token)[1] == History()


@pytest.mark.parametrize("sent", ["", "guessed", None, 7, ["x"], {"a": 1}])
def test_another_browser_finds_nothing(tmp_path: Path, sent: object) -> None:
    kept = KeptResults()
    token, _ = kept.open("first", "")
    kept.keep("first", history(tmp_path))
    other, found = kept.open("second", sent)
    assert found == History()
    assert other != token
    kept.keep("never opened", history(tmp_path))
    assert kept.open("third", "never opened")[1] == History()


def test_so_many_visits_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "MOST_VISITS", 2)
    kept, cancellations = KeptResults(), Cancellations()
    tokens = []
    for number in range(3):
        tokens.append(kept.open(str(number), "")[0])
        kept.keep(str(number), history(tmp_path))
        cancellations.cancel(str(number))
    assert [bool(kept.open("again", token)[1].entries) for token in reversed(tokens)] == [True, True, False]
    assert [cancellations.covers(str(number), 0.0) for number in range(3)] == [False, True, True]
