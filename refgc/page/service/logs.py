"""What the server notes of its work, one JSON object a line: no picture, no name, no address of anyone."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["done", "unplaced", "cancelled", "refused", "failed", "timeout", "busy"]

logger = logging.getLogger("refgc.service")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; of an exception its kind and where it came from, since its text may name files."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            entry |= describe(record.exc_info[1])
        return json.dumps(entry, ensure_ascii=False, default=str)


@contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Sends what this project notes to stderr for as long as the server runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    ours = logging.getLogger("refgc")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)


def note(event: str, **fields: Any) -> None:
    """Notes something that happened."""
    logger.info(event, extra={"fields": {name: value for name, value in fields.items() if value is not None}})


def note_job(
    event: str,
    outcome: Outcome,
    *,
    visit: int,
    engine: str,
    scale: int,
    sizes: Mapping[str, tuple[int, int]],
    waited: float | None = None,
    ran: float | None = None,
    seconds: Mapping[str, float] | None = None,
    again: bool = False,
    failure: Exception | None = None,
) -> None:
    """Notes the end of one run.

    Args:
        event: "refine" or "preview".
        outcome: how it ended; "busy" for one that was turned away.
        visit: the visit's number.
        engine: which one.
        scale: output size over generated size.
        sizes: width and height of the pictures, by what they are.
        waited: seconds in the line.
        ran: seconds of the run, from its turn on.
        seconds: the same by stage.
        again: whether it had been made before, and nothing was run.
        failure: what it failed with.
    """
    note(
        event,
        outcome=outcome,
        visit=visit,
        engine=engine,
        scale=scale,
        **sizes,
        waited=_rounded(waited),
        ran=_rounded(ran),
        seconds=seconds and {stage: _rounded(value) for stage, value in seconds.items()},
        again=again or None,
        **(describe(failure) if failure is not None and outcome == "failed" else {}),
    )


def describe(error: BaseException) -> dict[str, Any]:
    """An exception's kind and the places it passed, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "passed": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-8:]],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
