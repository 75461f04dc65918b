"""What goes over the wire comes out as it was; anything else is refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from refgc.engine import RefineResult
from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image, Mask
from refgc.request import RefineRequest, make_request
from refgc.serve import wire
from refgc.serve.wire import (
    Reader,
    WireError,
    Writer,
    error_of,
    failed_bytes,
    finished_bytes,
    pack,
    read_request,
    read_result,
    request_bytes,
    seen_bytes,
    unpack,
    working_bytes,
)
from tests.support.reports import make_report

RANDOM = np.random.default_rng(0)


def image(height: int, width: int, *, alpha: bool = False, deep: bool = False) -> Image:
    pixels = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
    return Image(pixels, mask(height, width) if alpha else None, pixels.astype(np.uint16) * 257 if deep else None)


def mask(height: int, width: int) -> Mask:
    return Mask(np.clip(RANDOM.random((height, width), np.float32) + 0.1, 0, 1))


def same(first: Any, second: Any) -> bool:
    """Whether two pictures, masks, requests or results are the same to the last bit."""
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, Image | Mask | RefineRequest | RefineResult):
        names = type(first).__slots__
        return type(first) is type(second) and all(same(getattr(first, n), getattr(second, n)) for n in names)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[name], second[name]) for name in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.fixture
def request_made() -> RefineRequest:
    return make_request(
        [image(60, 80, alpha=True), image(50, 40)],
        image(32, 48),
        scale=2,
        reference_mask=[None, mask(50, 40)],
        generated_mask=mask(32, 48),
        object_name="red teapot",
        seed=2**62,
        strength=0.1,
        bits=16,
    )


@pytest.fixture
def result() -> RefineResult:
    shared = image(64, 96)
    return RefineResult(
        image(64, 96, alpha=True, deep=True),
        make_report(confidence=1 / 3, placement=tuple(RANDOM.random(9))),
        {"upscaled": shared, "matches": image(20, 30), "aligned reference": shared},
        RANDOM.random((64, 96), np.float32),
    )


@pytest.mark.parametrize("has_viewer", [False, True])
def test_a_request_comes_out_as_it_was(request_made: RefineRequest, has_viewer: bool) -> None:
    content = b"".join(request_bytes(request_made, has_viewer=has_viewer))
    found, looks_on = read_request(content)
    assert looks_on is has_viewer
    assert same(replace(found, further_references=()), replace(request_made, further_references=()))
    ((one,), (other,)) = found.further_references, request_made.further_references
    assert same(one.picture, other.picture)
    assert same(one.mask, other.mask)


@pytest.mark.parametrize("piece", [1, 7, 10**9])
def test_a_stream_comes_out_as_it_was_however_it_is_cut(
    result: RefineResult, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PIECE_BYTES", 1000)
    writer = Writer()
    upscaled = result.stages["upscaled"]
    frames = [working_bytes(writer, "finding", 0.25), seen_bytes(writer, "upscaled", upscaled)]
    content = b"".join(part for frame in [*frames, finished_bytes(writer, result)] for part in frame)
    # What was seen before is named only.
    assert content.count(upscaled.pixels.tobytes()) == 1
    reader = Reader()
    working, seen, finished = unpack(content[at : at + piece] for at in range(0, len(content), piece))
    assert working == ("working", {"stage": "finding", "fraction": 0.25}, [])
    assert seen.values["stage"] == "upscaled"
    assert same(reader.picture(seen.values["picture"], seen.arrays), upscaled)
    assert same(read_result(reader, finished), result)


def test_no_picture_of_a_stream_takes_the_number_of_another() -> None:
    writer, reader = Writer(), Reader()
    for _ in range(20):
        # Python gives a new picture the identity of one that is gone.
        picture = image(8, 8)
        (frame,) = unpack(seen_bytes(writer, "stage", picture))
        assert same(reader.picture(frame.values["picture"], frame.arrays), picture)
        del picture


@pytest.mark.parametrize("error", [InputError("Give a mask."), EngineError("No GPU."), ValueError("oops")])
def test_an_error_keeps_its_sentence_and_its_kind(error: Exception) -> None:
    (frame,) = unpack(failed_bytes(Writer(), error))
    found = error_of(frame)
    assert type(found) is (InputError if isinstance(error, InputError) else EngineError)
    assert str(error).rstrip(".") in str(found)


class Planted:
    """Leaves a trace where it is unpickled."""

    unpickled = False

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return plant, ()


def plant() -> None:
    Planted.unpickled = True


def of_arrays(*arrays: np.ndarray, **values: object) -> bytes:
    known = {
        "references": [{"pixels": 0}],
        "reference_masks": [None],
        "generated": {"pixels": 1},
        "generated_mask": None,
        "scale": 4,
        "object_name": "object",
        "seed": 0,
        "strength": 1.0,
        "surroundings": "plain",
        "bits": 8,
        "has_viewer": False,
    }
    return b"".join(pack("request", known | values, arrays))


PIXELS = RANDOM.integers(0, 256, (32, 32, 3), np.uint8)
OTHERS = RANDOM.integers(0, 256, (32, 32, 3), np.uint8)
VALUES = RANDOM.random((32, 32), np.float32)


def bad_requests() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "a pickle", pickle.dumps(Planted())
    yield "a pickle in an array's place", of_arrays(PIXELS)[:-100] + pickle.dumps(Planted())
    yield "cut off", of_arrays(PIXELS, OTHERS)[:-1]
    yield "more than announced", of_arrays(PIXELS, OTHERS) + b"0"
    yield "two requests", of_arrays(PIXELS, OTHERS) * 2
    yield "a header that is no JSON", (5).to_bytes(4, "big") + b"}{][\x00"
    yield "an endless header", (2**31).to_bytes(4, "big") + b"{}"
    yield "objects", b"".join(pack("request", {}, [PIXELS])).replace(b'"uint8"', b'"objec"')
    yield "a huge array", b"".join(pack("request", {}, [PIXELS])).replace(b"[32, 32, 3]", b"[9, 99e9, 9]")
    yield "a negative side", b"".join(pack("request", {}, [PIXELS])).replace(b"[32, 32, 3]", b"[-9, -9, 3]")
    yield "no values", b"".join(pack("request", {}, [PIXELS]))
    yield "an unknown value", of_arrays(PIXELS, OTHERS, path="/etc/passwd")
    yield "a missing array", of_arrays(PIXELS)
    yield "a picture that was never sent", of_arrays(PIXELS, OTHERS, generated={"sent": 7})
    yield "floats for pixels", of_arrays(VALUES, OTHERS)
    yield "pixels for a mask", of_arrays(PIXELS, OTHERS, generated_mask=0)
    yield "a mask of nothing", of_arrays(PIXELS, OTHERS, VALUES * np.nan, generated_mask=2)
    yield "a mask out of range", of_arrays(PIXELS, OTHERS, VALUES + 1, generated_mask=2)


@pytest.mark.parametrize(
    ("what", "content"), list(bad_requests()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_anything_else_is_refused(what: str, content: bytes) -> None:
    with pytest.raises(WireError):
        read_request(content)
    assert not Planted.unpickled


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (of_arrays(PIXELS, OTHERS, scale=3), "The scale is 3"),
        (of_arrays(PIXELS, PIXELS), "the very pixels|same"),
        (of_arrays(PIXELS, OTHERS[:4, :4]), "generated picture"),
        (of_arrays(PIXELS, OTHERS, np.ones((16, 32), np.float32), generated_mask=2), "generated mask"),
    ],
)
def test_a_request_is_checked_as_one_made_from_files(content: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_request(content)
