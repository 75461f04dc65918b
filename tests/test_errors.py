"""What a person is told about an error."""

from __future__ import annotations

import errno
import os

import pytest

from refgc.errors import sentence_about


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "change its permissions or choose another place"),
        (errno.EROFS, "change its permissions or choose another place"),
        (errno.ENOSPC, "free space or choose another place"),
    ],
)
def test_what_to_do_about_a_place_is_said_by_what_is_wrong_with_it(number: int, advice: str) -> None:
    sentence = sentence_about(OSError(number, os.strerror(number), "there"))
    assert sentence == f"'there' cannot be used ({os.strerror(number)}); {advice}."
