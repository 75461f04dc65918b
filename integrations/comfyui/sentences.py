"""Errors of one picture of a batch, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refgc import EngineError, InputError


@contextmanager
def about_picture(number: int, pictures: int) -> Iterator[None]:
    """Says of which picture of a batch an error is.

    Args:
        number: of the picture, from 0.
        pictures: how many there are; an error of the only one stays as it is.

    Raises:
        InputError, EngineError: as raised inside, named after the picture.
        MemoryError: the memory is not enough, with a sentence that says what to do.
    """
    try:
        yield
    except (InputError, EngineError) as error:
        if pictures == 1:
            raise
        raise type(error)(f"Picture {number + 1} of the batch of {pictures}: {error}") from error
    except MemoryError as error:
        raise MemoryError("The memory is not enough; choose a smaller scale or smaller pictures.") from error
