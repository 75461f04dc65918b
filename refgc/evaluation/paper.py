"""The paper's own figures, from `paper.json` beside this file: its authors' measurements on their own data."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("paper.json")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PaperColumn(_Frozen):
    """A figure of a table: the group of columns that it stands in, or an empty one; its label; and what is better."""

    group: str
    label: str
    higher_is_better: bool


class PaperRow(_Frozen):
    """A model: its label, whether it was tuned on the paper's dataset, its task, and its figures as they are printed.

    `task` and `reference`, whether the model looks at the reference, are None where the table does not say.
    """

    label: str
    finetuned: bool
    task: str | None = None
    reference: bool | None = None
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """The label with its asterisk."""
        return f"{self.label}*" if self.finetuned else self.label


class PaperTable(_Frozen):
    """A table of the paper."""

    title: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]


class PaperStudy(_Frozen):
    """The paper's user study: how many percent of the people chose the winner first, by question."""

    people: int
    winner: str
    most_of_any_other_percent: int
    first_choices_percent: tuple[tuple[str, int], ...]


class Paper(_Frozen):
    """All figures of the paper that are used here."""

    source: str
    page: str
    tables: dict[Literal["2", "3"], PaperTable]
    study: PaperStudy


@lru_cache
def read_paper() -> Paper:
    """The paper's figures."""
    return Paper.model_validate_json(FILE.read_bytes())


def paper_table(number: Literal["2", "3"]) -> PaperTable:
    """One table of the paper."""
    return read_paper().tables[number]
