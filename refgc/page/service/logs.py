"""The log of the server: one JSON object a line, without pictures, names or addresses of anybody."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict

Outcome = Literal["done", "unplaced", "cancelled", "refused", "failed", "timeout", "busy"]

# The loggers of the package; `logs_to` writes what they are given.
PACKAGE = "refgc"
# The innermost calls, which say where an error came from.
FRAMES = 8

logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("refgc.service"),
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


@contextmanager
def logs_to(stream: TextIO | None = None) -> Iterator[None]:
    """Writes what the package logs, and the errors of libraries, for as long as the context lasts.

    Libraries warn of each odd request, and what was sent stands in their text. Without a handler of the root logger
    Python prints these warnings, and MCP's own adds one that prints every line of ours once more.

    Args:
        stream: None writes to stderr.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                _foreign_without_text,
                _error_without_text,
                ProcessorFormatter.remove_processors_meta,
                _in_order,
                structlog.processors.JSONRenderer(serializer=_json),
            ],
            foreign_pre_chain=[structlog.stdlib.add_log_level],
        )
    )
    handler.addFilter(lambda record: record.levelno >= logging.ERROR or _is_ours(record.name))
    package, root = logging.getLogger(PACKAGE), logging.getLogger()
    level = package.level
    root.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        package.setLevel(level)


def log_run(
    event: str,
    outcome: Outcome,
    *,
    visit: str,
    engine: str,
    scale: int,
    sizes: Mapping[str, tuple[int, int]],
    waited: float | None = None,
    ran: float | None = None,
    seconds: Mapping[str, float] | None = None,
    cached: bool = False,
    failure: Exception | None = None,
) -> None:
    """Logs the end of one run.

    Args:
        event: "refine", "preview" or "refine preview".
        outcome: how it ended; "busy" for one that was turned away.
        visit: the label of the visit.
        engine: the engine that ran it.
        scale: output size over generated size.
        sizes: width and height of the pictures in pixels, by their names.
        waited: seconds in the queue.
        ran: seconds of the run, from its turn on.
        seconds: the same by stage.
        cached: whether the result came from the cache, and nothing was run.
        failure: the error that ended it.
    """
    logger.info(
        event,
        outcome=outcome,
        visit=visit,
        engine=engine,
        scale=scale,
        **sizes,
        waited=_rounded(waited),
        ran=_rounded(ran),
        seconds=seconds and {stage: _rounded(value) for stage, value in seconds.items()},
        cached=cached or None,
        **(describe(failure) if failure is not None and outcome == "failed" else {}),
    )


def describe(error: BaseException) -> dict[str, Any]:
    """The kind of an exception and the places that it passed, the innermost last; its text may name files."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "passed": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-FRAMES:]],
    }


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


def _foreign_without_text(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Of a library's error its kind and place are kept; its text may hold what a visitor sent."""
    name = event["_record"].name
    return event if _is_ours(name) else {**event, "event": f"error in {name}"}


def _error_without_text(_logger: object, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    return {**event, **(describe(error) if isinstance(error, BaseException) else {})}


def _in_order(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Without what is not known, and with what every line has at its beginning."""
    first = {name: event.pop(name) for name in ("time", "level", "event")}
    return {**first, **{name: value for name, value in event.items() if value is not None}}


def _json(event: EventDict, **_options: object) -> str:
    return json.dumps(event, ensure_ascii=False, default=str)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
