"""What was made in one visit; it lives in that visit's session and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from refgc.demo.code_text import Code
from refgc.demo.display import ShownPictures

MOST_ENTRIES = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """One result, its title, and how it is made without the page."""

    title: str
    shown: ShownPictures
    code: Code

    @property
    def caption(self) -> str:
        """What stands under its thumbnail."""
        report = self.shown.report
        caption = f"{self.title}: {report.scale}×, {sum(report.seconds.values()):.1f} s"
        return caption if report.placed else f"{caption}, only enlarged"

    @property
    def is_there(self) -> bool:
        """Whether its files have not been deleted for their age."""
        return all(path.is_file() for path in (*self.shown.whole, self.shown.thumbnail, *self.code.masks))


@dataclass(frozen=True, slots=True)
class History:
    """What was made, and what is looked at.

    Attributes:
        entries: what was asked for in this visit, the newest first.
        current: what is on the page; None while that is nothing.
    """

    entries: tuple[Entry, ...] = ()
    current: Entry | None = None

    def showing(self, entry: Entry) -> History:
        """The same with another result on the page."""
        return History(self.entries, entry)

    def with_entry(self, entry: Entry) -> History:
        """One more result, which is shown; the same files once more take the place of the earlier ones."""
        others = tuple(earlier for earlier in self.entries if earlier.shown.whole != entry.shown.whole)
        return History((entry, *others)[:MOST_ENTRIES], entry)

    def without_deleted(self) -> History:
        """The same without results whose files have been deleted for their age."""
        return History(tuple(entry for entry in self.entries if entry.is_there), self.current)
