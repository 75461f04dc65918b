"""Processes that decode one picture each, and what they write.

Decoders of picture formats are C code that reads what strangers send. A process that decodes one file and nothing else
has no other picture in its memory, and its limits hold whatever the decoder does.

`serve` runs in a process that has imported what decoding needs and has never decoded anything. For each file it forks
a process that decodes the file and ends, which takes milliseconds, and one that watches over it. Where there is no
`fork`, `main` decodes one file in a new process.

The request is one line of JSON; the answer is one line of JSON, then the values of the arrays. They are read back by
length, never unpickled.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refgc.errors import InputError
from refgc.imaging.decode import check_size, learn_heif
from refgc.imaging.image import Image, Mask, open_image, open_mask

Kind: TypeAlias = Literal["image", "mask"]
# A header is a sentence or two numbers.
MAX_HEADER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """What a process is to decode.

    Attributes:
        kind: a picture or a mask.
        path: of the file.
        name: what the picture is called in an error sentence, such as "reference".
        size: (width, height) in pixels of the picture that a mask belongs to; None for a picture.
    """

    kind: Kind
    path: str
    name: str
    size: tuple[int, int] | None = None

    def line(self) -> bytes:
        """The request as one line of JSON."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def parsed(cls, line: bytes) -> DecodeRequest:
        """The request of a line."""
        fields = json.loads(line)
        size = fields.pop("size")
        return cls(**fields, size=None if size is None else (size[0], size[1]))


class EndedError(Exception):
    """A process ended without an answer.

    Attributes:
        code: its exit status, negative for the signal that ended it; None where it is unknown.
    """

    def __init__(self, code: int | None = None) -> None:
        super().__init__(f"the decoding process ended without an answer ({code})")
        self.code = code


def read_answer(stream: IO[bytes], request: DecodeRequest) -> Image | Mask:
    """What the process made of a request.

    Nothing that it wrote is trusted: a decoder may have been taken over by the file that it read.

    Args:
        stream: the standard output of the process.
        request: what it was asked for.

    Raises:
        InputError: the process refused the file; the sentence is its own.
        EndedError: the answer is incomplete, or none to this request.
    """
    try:
        return _read_answer(stream, request)
    except (OSError, ValueError) as error:
        raise EndedError from error


def _read_answer(stream: IO[bytes], request: DecodeRequest) -> Image | Mask:
    match json.loads(stream.readline(MAX_HEADER_BYTES) or b"null"):
        case {"ended": int(code)}:
            raise EndedError(code)
        case {"refused": str(sentence)} if sentence.isprintable():
            raise InputError(sentence)
        case {"size": [int(width), int(height)], "alpha": bool(alpha)}:
            pass
        case _:
            raise ValueError("the process ended without an answer")
    try:
        check_size((width, height), request.name)
    except InputError as error:
        raise ValueError("the answer has an impossible size") from error
    answer: Image | Mask
    if request.kind == "mask":
        if (width, height) != request.size:
            raise ValueError("the answer has another size")
        answer = _read_mask(stream, width, height)
    else:
        pixels = np.empty((height, width, 3), np.uint8)
        _fill(stream, pixels)
        answer = Image(pixels, _read_mask(stream, width, height) if alpha else None)
    if stream.read(1):
        raise ValueError("the answer does not end where it should")
    return answer


def _read_mask(stream: IO[bytes], width: int, height: int) -> Mask:
    values = np.empty((height, width), np.float32)
    _fill(stream, values)
    # Not-a-number fails both comparisons.
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("the answer has impossible values")
    return Mask(values)


def _fill(stream: IO[bytes], array: NDArray[np.uint8] | NDArray[np.float32]) -> None:
    rest = array.reshape(-1).view(np.uint8).data
    while rest:
        count = stream.readinto(rest)  # type: ignore[attr-defined]  # every binary stream of a pipe has it
        if not count:
            raise ValueError("the answer is incomplete")
        rest = rest[count:]


def decode_once(requests: IO[bytes], answers: IO[bytes], memory: int, seconds: int) -> None:
    """Read one request, decode its file within limits and write the answer.

    Args:
        requests: where the request is read.
        answers: where the answer is written.
        memory: bytes of address space that this process may take from now on, where the system knows such a limit.
        seconds: of processor time.
    """
    line = requests.readline()
    if not line:
        return
    request = DecodeRequest.parsed(line)
    _limit(memory, seconds)
    header: dict[str, object]
    arrays: list[NDArray[np.uint8] | NDArray[np.float32]] = []
    try:
        if request.size is not None:
            mask = open_mask(request.path, size=request.size, name=request.name)
            header, arrays = {"size": mask.size, "alpha": False}, [mask.values]
        else:
            image = open_image(request.path, name=request.name)
            header = {"size": image.size, "alpha": image.alpha is not None}
            arrays = [image.pixels, *([image.alpha.values] if image.alpha else [])]
    except InputError as error:
        header = {"refused": str(error)}
    except MemoryError:
        header = {"refused": f"The {request.name} takes too much memory to decode; make it smaller."}
    answers.write(json.dumps(header).encode("ascii") + b"\n")
    for array in arrays:
        answers.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    answers.flush()


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limits = {
        resource.RLIMIT_AS: (memory, memory),
        # A signal at the first number tells this end from others; at the second the system just kills.
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_CORE: (0, 0),
        # It has nothing to write but its answer.
        resource.RLIMIT_FSIZE: (0, 0),
    }
    for limit, values in limits.items():
        # macOS knows no limit of address space.
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, values)


def serve(control: socket.socket, memory: int, seconds: int) -> None:
    """Fork a process for each socket that arrives, until the other end closes.

    Args:
        control: where sockets arrive, each with one byte. The request is read from such a socket and the answer is
            written to it; a process is killed when the other end of its socket closes.
        memory: bytes of address space that a process may take.
        seconds: of processor time that a process may take.
    """
    # The system buries the processes that watch, so that they need not be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        with socket.socket(fileno=descriptors[0]) as connection:
            if os.fork() == 0:
                control.close()
                _watch_over(connection, memory, seconds)


def _watch_over(connection: socket.socket, memory: int, seconds: int) -> NoReturn:
    """Let a process decode, and kill it when the other end of the connection closes; report how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Only the decoding process holds this end, so that the other closes when the process ends.
    alive, held = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(alive)
        with connection.makefile("rb") as requests, connection.makefile("wb") as answers:
            decode_once(requests, answers, memory, seconds)
        os._exit(0)
    os.close(held)
    poll = select.poll()
    # A connection that closes is reported without being asked for.
    poll.register(connection, 0)
    poll.register(alive, select.POLLIN)
    poll.poll()
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        with suppress(OSError):
            connection.sendall(json.dumps({"ended": code}).encode("ascii") + b"\n")
    os._exit(0)


def main() -> None:
    """Serve at the socket whose descriptor is given, or decode one file without one."""
    memory, seconds, *descriptors = map(int, sys.argv[1:])
    # Formats that Pillow learns on first need are learned before the processes are forked.
    learn_heif()
    if descriptors:
        serve(socket.socket(fileno=descriptors[0]), memory, seconds)
    else:
        decode_once(sys.stdin.buffer, sys.stdout.buffer, memory, seconds)


if __name__ == "__main__":
    main()
