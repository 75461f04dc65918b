"""The two ways a call can end without a result, each carrying one sentence for the person who asked."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class RefGCError(Exception):
    """Base of every error RefGC raises on purpose; `str(error)` is one sentence that says what to do."""


class InputError(RefGCError):
    """A picture, mask, option or path that cannot be used as given (exit status 2 of the command)."""


class EngineError(RefGCError):
    """An engine that cannot run here, or that failed while it ran (exit status 1 of the command)."""


# Of a sentence and of a value quoted in it, in characters; what is longer is cut in its middle.
LONGEST_SENTENCE, LONGEST_VALUE = 2000, 120


def quoted(value: object) -> str:
    """A value that somebody gave, as it stands in a sentence."""
    return shortened(repr(value), LONGEST_VALUE)


def shortened(text: str, most: int) -> str:
    """A text with its middle left out where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first value that pydantic refuses: its field, with dots between the levels, and what is wrong with it.

    The field is empty where the value as a whole is refused.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")


def one_line(text: str) -> str:
    """A sentence on one line, without characters that a terminal would obey, and no longer than a person reads."""
    return printable(shortened(" ".join(text.split()), LONGEST_SENTENCE))


def printable(text: str) -> str:
    """A text in which characters that end a line, or that a terminal would obey, are written out, such as in names."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def sentence_about(error: Exception) -> str:
    """What to tell the person who asked, on one line, about an error of any kind."""
    match error:
        case RefGCError():
            sentence = str(error)
        case MemoryError():
            sentence = "The memory of this machine is not enough; choose a smaller scale or smaller pictures."
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS, filename=name, strerror=reason) if name:
            sentence = f"{str(name)!r} cannot be used ({reason}); change its permissions or choose another place."
        case OSError(filename=name, strerror=reason) if name is not None:
            sentence = f"{str(name)!r} cannot be used ({reason}); free space or choose another place."
        case OSError(filename=None, strerror=str() as reason):
            sentence = f"The system could not read or write ({reason}); free space or try again."
        case _:
            sentence = f"RefGC failed with {type(error).__name__} ({error}); run this again with --debug to see where."
    return one_line(sentence)
