"""Requests, progress and results as bytes for HTTP: JSON headers with raw arrays behind them, and never a pickle.

A stream is a row of frames. A frame is four bytes with the length of its header, the header as JSON, and the bytes of
its arrays, C-ordered and little-endian, one after the other. The header says of each array what type and shape it has,
so that nothing is read that was not announced, and nothing that is read can run.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.engine import RefineResult, Report
from refgc.errors import EngineError, InputError, RefGCError, sentence_about
from refgc.imaging.decode import check_size
from refgc.imaging.image import MAX_PIXELS, Image, Mask
from refgc.request import MAX_REFERENCES, Reference, RefineRequest, Surroundings, make_request

LENGTH_BYTES = 4
# A header of a report with a hundred objects has about 20 kB.
HEADER_BYTES = 1_000_000
# A result has up to a dozen pictures, each of up to three arrays.
MOST_ARRAYS = 128
# An array is sent in pieces, since each is held in memory by every process that passes it on. Chosen by hand.
PIECE_BYTES = 4_000_000
# What a whole request may take; four photos of 64 megapixels with their masks take 1.8 billion bytes.
REQUEST_BYTES = 2**31

ITEM_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
NOT_READABLE = (
    "The stream between the page and the engines cannot be read ({}); use one version of RefGC on all machines."
)


class WireError(EngineError):
    """Bytes that are no stream of frames, or hold something else than was announced."""

    def __init__(self, reason: str) -> None:
        super().__init__(NOT_READABLE.format(reason))


class Frame(NamedTuple):
    """One message: what it is, its values, and its arrays."""

    kind: str
    values: dict[str, Any]
    arrays: list[NDArray[Any]]


def pack(kind: str, values: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> Iterator[bytes]:
    """The bytes of a frame, in pieces of at most `PIECE_BYTES`."""
    assert sys.byteorder == "little", "the arrays are sent as they lie in memory"
    described = [{"dtype": array.dtype.name, "shape": array.shape} for array in arrays]
    header = json.dumps({"kind": kind, "values": values, "arrays": described}).encode()
    yield len(header).to_bytes(LENGTH_BYTES, "big") + header
    for array in arrays:
        view = np.ascontiguousarray(array).data.cast("B")
        for begin in range(0, len(view), PIECE_BYTES):
            yield bytes(view[begin : begin + PIECE_BYTES])


def unpack(pieces: Iterable[bytes]) -> Iterator[Frame]:
    """The frames of a stream, as its bytes come in, in pieces of any length.

    Raises:
        WireError: it is no such stream, or ends in the middle of a frame.
    """
    stream = _Bytes(iter(pieces))
    while (head := stream.read(LENGTH_BYTES, may_end=True)) is not None:
        length = int.from_bytes(head, "big")
        if length > HEADER_BYTES:
            raise WireError("a header is too long")
        header = stream.read(length)
        assert header is not None, "only the first bytes of a frame may be missing"
        try:
            parsed = _Header.model_validate_json(bytes(header))
        except ValidationError as error:
            raise WireError("a header is wrong") from error
        yield Frame(parsed.kind, parsed.values, [stream.array(one) for one in parsed.arrays])


class _Array(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dtype: Literal["uint8", "uint16", "float32"]
    shape: tuple[int, ...] = Field(min_length=2, max_length=3)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: str
    values: dict[str, Any]
    arrays: list[_Array] = Field(max_length=MOST_ARRAYS)


class _Bytes:
    """Bytes that come in pieces of any length."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, length: int, *, may_end: bool = False) -> bytearray | None:
        """The next bytes; None where the stream ends before the first of them, and may.

        Raises:
            WireError: it ends too early.
        """
        taken = bytearray(length)
        view, filled = memoryview(taken), 0
        while filled < length:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    if may_end and not filled:
                        return None
                    raise WireError("it ends too early")
                self._rest = memoryview(piece)
                continue
            part = self._rest[: length - filled]
            view[filled : filled + len(part)] = part
            self._rest = self._rest[len(part) :]
            filled += len(part)
        return taken

    def array(self, described: _Array) -> NDArray[Any]:
        count = math.prod(described.shape)
        if min(described.shape) < 1 or count > 3 * MAX_PIXELS:
            raise WireError(f"an array has the shape {described.shape}")
        content = self.read(count * ITEM_BYTES[described.dtype])
        assert content is not None, "an array may not be missing"
        return np.frombuffer(content, described.dtype).reshape(described.shape)


# --- pictures -------------------------------------------------------------------------------------------------------


class Writer:
    """Numbers the arrays and pictures of a stream; a picture that an earlier frame has is named, and not sent again."""

    def __init__(self) -> None:
        """The writer of an empty stream."""
        # The pictures themselves, so that no later one gets the identity of one that is gone.
        self._sent: dict[int, tuple[int, Image]] = {}
        self._arrays: list[NDArray[Any]] = []

    def pack(self, kind: str, values: Mapping[str, Any]) -> Iterator[bytes]:
        """The frame with everything that was added since the last one."""
        arrays, self._arrays = self._arrays, []
        return pack(kind, values, arrays)

    def picture(self, image: Image) -> dict[str, int]:
        """Adds a picture; what the header says of it."""
        if id(image) in self._sent:
            return {"sent": self._sent[id(image)][0]}
        self._sent[id(image)] = len(self._sent), image
        alpha = None if image.alpha is None else image.alpha.values
        parts: dict[str, NDArray[Any] | None] = {"pixels": image.pixels, "alpha": alpha, "deep": image.deep}
        return {name: self.array(part) for name, part in parts.items() if part is not None}

    def array(self, array: NDArray[Any]) -> int:
        """Adds an array; its number in the frame."""
        self._arrays.append(array)
        return len(self._arrays) - 1

    def mask(self, mask: Mask | None) -> int | None:
        """Adds a mask, where there is one."""
        return None if mask is None else self.array(mask.values)


class Reader:
    """The other end of a `Writer`."""

    def __init__(self) -> None:
        """The reader of a stream from which nothing was read."""
        self._known: list[Image] = []

    def picture(self, described: Mapping[str, int], arrays: list[NDArray[Any]]) -> Image:
        """A picture by what the header says of it.

        Raises:
            WireError: the header does not fit the arrays.
        """
        try:
            if "sent" in described:
                return self._known[described["sent"]]
            image = Image(
                _fitting(arrays[described["pixels"]], np.uint8),
                self.mask(described.get("alpha"), arrays),
                _fitting(arrays[described["deep"]], np.uint16) if "deep" in described else None,
            )
        except (TypeError, KeyError, IndexError) as error:
            raise WireError("a picture is missing") from error
        if image.alpha is not None and image.alpha.size != image.size:
            raise WireError("a transparency is of another size than its picture")
        if image.deep is not None and image.deep.shape != image.pixels.shape:
            raise WireError("the 16 bits are of another size than their picture")
        self._known.append(image)
        return image

    def mask(self, number: int | None, arrays: list[NDArray[Any]]) -> Mask | None:
        """A mask by its number; None for None.

        Raises:
            WireError: the array is no mask.
        """
        if number is None:
            return None
        values = floats_of(number, arrays)
        if not (values.min() >= 0 and values.max() <= 1):  # as it is written, not-a-number is refused
            raise WireError("a mask is outside of 0 to 1")
        return Mask(values)


def floats_of(number: int, arrays: list[NDArray[Any]]) -> NDArray[np.float32]:
    """The array of that number, (height, width).

    Raises:
        WireError: there is no such array.
    """
    if not 0 <= number < len(arrays) or arrays[number].dtype != np.float32 or arrays[number].ndim != 2:
        raise WireError("an array is missing or of another type")
    return arrays[number]


def _fitting(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    if array.dtype != dtype or array.ndim != 3 or array.shape[2] != 3:
        raise WireError(f"a picture is of {array.dtype} and the shape {array.shape}")
    return array


# --- requests -------------------------------------------------------------------------------------------------------


class _Request(BaseModel):
    """The values of a request's frame; pictures and masks by their numbers."""

    model_config = ConfigDict(extra="forbid")

    references: list[dict[str, int]] = Field(min_length=1, max_length=MAX_REFERENCES)
    reference_masks: list[int | None]
    generated: dict[str, int]
    generated_mask: int | None
    scale: int
    object_name: str
    seed: int
    strength: float
    surroundings: Surroundings
    bits: int
    has_viewer: bool


def request_bytes(request: RefineRequest, *, has_viewer: bool) -> Iterator[bytes]:
    """A request as a stream of one frame.

    Args:
        request: what is to be refined.
        has_viewer: whether intermediate pictures are wanted.
    """
    writer = Writer()
    references = [Reference(request.reference, request.reference_mask), *request.further_references]
    values = _Request(
        references=[writer.picture(one.picture) for one in references],
        reference_masks=[writer.mask(one.mask) for one in references],
        generated=writer.picture(request.generated),
        generated_mask=writer.mask(request.generated_mask),
        scale=request.scale,
        object_name=request.object_name,
        seed=request.seed,
        strength=request.strength,
        surroundings=request.surroundings,
        bits=request.bits,
        has_viewer=has_viewer,
    )
    return writer.pack("request", values.model_dump())


def read_request(content: bytes) -> tuple[RefineRequest, bool]:
    """The request in a stream, checked as one that is made from files, and whether a viewer looks on.

    Raises:
        WireError: it is no such stream.
        InputError: something in it cannot be refined.
    """
    frames = list(unpack([content]))
    if len(frames) != 1 or frames[0].kind != "request":
        raise WireError("it is not one request")
    arrays, reader = frames[0].arrays, Reader()
    try:
        values = _Request.model_validate(frames[0].values)
    except ValidationError as error:
        raise WireError("a request is incomplete") from error
    references = [reader.picture(one, arrays) for one in values.references]
    generated = reader.picture(values.generated, arrays)
    for name, picture in (*(("reference", one) for one in references), ("generated picture", generated)):
        check_size(picture.size, name)
    request = make_request(
        references,
        generated,
        scale=values.scale,
        reference_mask=[reader.mask(one, arrays) for one in values.reference_masks],
        generated_mask=reader.mask(values.generated_mask, arrays),
        object_name=values.object_name,
        seed=values.seed,
        strength=values.strength,
        surroundings=values.surroundings,
        bits=values.bits,
    )
    return request, values.has_viewer


# --- progress and results -------------------------------------------------------------------------------------------


def working_bytes(writer: Writer, stage: str, fraction: float) -> Iterator[bytes]:
    """The progress of a run."""
    return writer.pack("working", {"stage": stage, "fraction": fraction})


def seen_bytes(writer: Writer, stage: str, picture: Image | RefineResult) -> Iterator[bytes]:
    """A picture that was made on the way, or a whole result that a better one replaces."""
    if isinstance(picture, Image):
        return writer.pack("picture", {"stage": stage, "picture": writer.picture(picture)})
    return writer.pack("result", {"stage": stage, **_result_values(writer, picture)})


def finished_bytes(writer: Writer, result: RefineResult) -> Iterator[bytes]:
    """The end of a run."""
    return writer.pack("finished", _result_values(writer, result))


def failed_bytes(writer: Writer, error: Exception) -> Iterator[bytes]:
    """The end of a run that failed: its sentence, and whether the person who asked has to change something."""
    return writer.pack("failed", {"sentence": sentence_about(error), "is_input": isinstance(error, InputError)})


def read_result(reader: Reader, frame: Frame) -> RefineResult:
    """The result in a frame of the kind "finished" or "result".

    Raises:
        WireError: it holds none.
    """
    values, arrays = frame.values, frame.arrays
    try:
        image = reader.picture(values["image"], arrays)
        stages = {name: reader.picture(one, arrays) for name, one in values["stages"].items()}
        trust = None if values["trust"] is None else floats_of(values["trust"], arrays)
        return RefineResult(image, Report.model_validate(values["report"]), stages, trust)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise WireError("a result is incomplete") from error


def error_of(frame: Frame) -> RefGCError:
    """The error in a frame of the kind "failed"."""
    sentence = str(frame.values.get("sentence"))
    return InputError(sentence) if frame.values.get("is_input") else EngineError(sentence)


def _result_values(writer: Writer, result: RefineResult) -> dict[str, Any]:
    return {
        "image": writer.picture(result.image),
        "stages": {name: writer.picture(image) for name, image in result.stages.items()},
        "trust": None if result.trust is None else writer.array(result.trust),
        "report": result.report.model_dump(mode="json"),
    }
