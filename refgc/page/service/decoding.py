"""Visitors' pictures, each decoded in a process of its own that is used once, and kept for a short while."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from refgc.errors import InputError
from refgc.imaging.decode import check_file
from refgc.imaging.decode_child import DecodeRequest, EndedError, read_answer
from refgc.imaging.image import Image, Mask

# Of address space: what 64 megapixels take in the hungriest format, with the interpreter and its libraries.
MEMORY_BYTES = 1_500_000_000
# A picture of 64 megapixels takes up to 10 seconds in the slowest format.
SECONDS = 15
# Each may take `MEMORY_BYTES`.
AT_ONCE = 4
CACHE_BYTES = 32_000_000
# Some hundred bytes each.
MOST_SIZES = 10_000
# The clock of files ticks every 10 ms on some systems: a file that is younger may change without looking changed.
SETTLED_NANOSECONDS = 50_000_000
POLL_SECONDS = 0.05

# Everything else in the environment stays here, secrets among it. These are needed to start Python and find libraries.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONHOME", "TEMP", "TMP")
FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds")

Decoded: TypeAlias = Image | Mask
Key: TypeAlias = tuple[object, ...]


class StoppedError(Exception):
    """The run that asked for a picture has ended, so that nobody waits for it."""


class Decoder:
    """Decodes files in processes of their own; may be called from several threads at a time.

    A process decodes one file and ends. Small pictures are kept where the caller expects to ask again, so that the same
    file is decoded once.
    """

    def __init__(
        self,
        *,
        memory: int = MEMORY_BYTES,
        seconds: int = SECONDS,
        at_once: int = AT_ONCE,
        cache_bytes: int = CACHE_BYTES,
        fork: bool = FORKS,
    ) -> None:
        """Start what starts the processes.

        Args:
            memory: bytes of address space that a process may take, where the system knows such a limit.
            seconds: of processor time that a process may take for its file, and twice as many by the clock.
            at_once: how many processes may decode at a time; further calls wait.
            cache_bytes: how much is kept of decoded pictures; a larger picture is not kept.
            fork: whether processes are forked; else each is started anew, which takes longer.
        """
        self._seconds = seconds
        self._turns = threading.BoundedSemaphore(at_once)
        self._closed = threading.Event()
        self._kept = _Kept(cache_bytes)
        self._sizes: OrderedDict[Path, tuple[int, int]] = OrderedDict()
        self._sizes_lock = threading.Lock()
        self._starter: _Forks | _Programs = _Forks(memory, seconds) if fork else _Programs(memory, seconds)

    def image(self, path: Path, *, name: str, stop: threading.Event | None = None, keep: bool = True) -> Image:
        """Open a picture file as `refgc.imaging.image.open_image` does.

        Args:
            path: the file.
            name: what the picture is called in an error sentence, such as "reference".
            stop: set by whoever asked when the picture is no longer wanted.
            keep: whether the picture is kept for the next who asks. One that was kept before is given in either case.

        Raises:
            InputError: it cannot be used; the sentence says what to do.
            StoppedError: `stop` was set, or the decoder was closed.
        """
        decoded = self._decoded(DecodeRequest("image", os.fspath(path), name), stop, keep)
        assert isinstance(decoded, Image)
        with self._sizes_lock:
            self._sizes[path] = decoded.size
            if len(self._sizes) > MOST_SIZES:
                self._sizes.popitem(last=False)
        return decoded

    def known_size(self, path: Path) -> tuple[int, int] | None:
        """Width and height of a picture that was decoded before; None where it was not, or too long ago.

        Good enough to estimate work with: the file may have been replaced since.
        """
        with self._sizes_lock:
            return self._sizes.get(path)

    def mask(
        self, path: Path, *, size: tuple[int, int], name: str, stop: threading.Event | None = None, keep: bool = True
    ) -> Mask:
        """Open a mask file as `refgc.imaging.image.open_mask` does.

        Args:
            path: the file.
            size: (width, height) in pixels of the picture that the mask belongs to.
            name: what the mask is called in an error sentence, such as "reference mask".
            stop: set by whoever asked when the mask is no longer wanted.
            keep: as for `image`.

        Raises:
            InputError: it cannot be used; the sentence says what to do.
            StoppedError: `stop` was set, or the decoder was closed.
        """
        decoded = self._decoded(DecodeRequest("mask", os.fspath(path), name, size), stop, keep)
        assert isinstance(decoded, Mask)
        return decoded

    def close(self) -> None:
        """End all processes; calls that wait for one raise `StoppedError`."""
        self._closed.set()
        self._starter.close()

    def _decoded(self, request: DecodeRequest, stop: threading.Event | None, keep: bool) -> Decoded:
        check_file(Path(request.path), request.name)
        key = _key(request)
        found = self._kept.get(key)
        if found is not None:
            return found
        while not self._turns.acquire(timeout=POLL_SECONDS):
            if self._stopped(stop):
                raise StoppedError
        try:
            decoded = self._decode(request, stop)
        finally:
            self._turns.release()
        # The file may have been replaced while it was read.
        if keep and key is not None and key == _key(request):
            self._kept.keep(key, decoded)
        return decoded

    def _stopped(self, stop: threading.Event | None) -> bool:
        return self._closed.is_set() or (stop is not None and stop.is_set())

    def _decode(self, request: DecodeRequest, stop: threading.Event | None) -> Decoded:
        if self._stopped(stop):
            raise StoppedError
        try:
            process = self._starter.start()
        except OSError as error:
            raise _failure(request) from error
        answered, late = threading.Event(), threading.Event()

        def watch() -> None:
            deadline = time.monotonic() + 2 * self._seconds
            while not answered.wait(POLL_SECONDS):
                if time.monotonic() >= deadline:
                    late.set()
                if late.is_set() or self._stopped(stop):
                    process.end()
                    return

        # Reading from a process cannot be broken off, but ends at once when the process does.
        watcher = threading.Thread(target=watch, name="decoding", daemon=True)
        watcher.start()
        try:
            with suppress(OSError):  # it has ended already, and the answer is missing too
                process.requests.write(request.line())
                process.requests.flush()
            return read_answer(process.answers, request)
        except EndedError as error:
            if self._stopped(stop):
                raise StoppedError from error
            code = process.end() if error.code is None else error.code
            out_of_time = hasattr(signal, "SIGXCPU") and code == -signal.SIGXCPU
            raise _failure(request, late=late.is_set() or out_of_time) from error
        finally:
            answered.set()
            watcher.join()
            process.end()
            process.close()


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that decodes one file.

    Attributes:
        requests: where its request is written.
        answers: where its answer is read.
        end: ends the process, so that reading ends too; gives its exit status where that is known.
    """

    requests: IO[bytes]
    answers: IO[bytes]
    end: Callable[[], int | None]

    def close(self) -> None:
        """Let go of the streams."""
        for stream in (self.requests, self.answers):
            with suppress(OSError):  # a request that nobody read
                stream.close()


class _Forks:
    """Processes forked by one that has imported what decoding needs, in a few milliseconds each."""

    def __init__(self, memory: int, seconds: int) -> None:
        self._limits = (memory, seconds)
        self._lock = threading.Lock()
        self._server: tuple[subprocess.Popen[bytes], socket.socket] | None = self._serve()

    def start(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._send(theirs)
            except OSError:
                ours.close()
                raise

        def end() -> None:
            # How it ended is said in its answer.
            with suppress(OSError):  # it has ended already
                ours.shutdown(socket.SHUT_RDWR)

        return _Process(ours.makefile("wb"), ours.makefile("rb"), end)

    def close(self) -> None:
        with self._lock:
            self._stop_server()

    def _send(self, connection: socket.socket) -> None:
        if self._server is None or self._server[0].poll() is not None:
            self._stop_server()
            self._server = self._serve()
        socket.send_fds(self._server[1], [b"."], [connection.fileno()])

    def _serve(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            command = _command(*self._limits, theirs.fileno())
            process = subprocess.Popen(
                command,
                env=_environment(),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return process, ours

    def _stop_server(self) -> None:
        if self._server is not None:
            process, control = self._server
            control.close()
            process.kill()
            process.wait()
            self._server = None


class _Programs:
    """Processes started anew, where there is no `fork`."""

    def __init__(self, memory: int, seconds: int) -> None:
        self._command = _command(memory, seconds)

    def start(self) -> _Process:
        process = subprocess.Popen(
            self._command,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> int:
            process.kill()
            return process.wait()

        return _Process(process.stdin, process.stdout, end)

    def close(self) -> None:
        """Nothing waits for a file."""


def _command(*numbers: int) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "refgc.imaging.decode_child", *map(str, numbers))


def _environment() -> dict[str, str]:
    passed_on = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    return passed_on | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # Threads of libraries that do not decode would take address space, and could not be forked.
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


class _Kept:
    """Decoded pictures up to a number of bytes; the one unused for longest goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._pictures: OrderedDict[Key, Decoded] = OrderedDict()

    def get(self, key: Key | None) -> Decoded | None:
        with self._lock:
            if key is None or key not in self._pictures:
                return None
            self._pictures.move_to_end(key)
            return self._pictures[key]

    def keep(self, key: Key, decoded: Decoded) -> None:
        size = _bytes_of(decoded)
        if size > self._most:
            return
        with self._lock:
            if key in self._pictures:
                return
            self._pictures[key] = decoded
            self._bytes += size
            while self._bytes > self._most:
                _, oldest = self._pictures.popitem(last=False)
                self._bytes -= _bytes_of(oldest)


def _bytes_of(decoded: Decoded) -> int:
    if isinstance(decoded, Mask):
        return decoded.values.nbytes
    return decoded.pixels.nbytes + (decoded.alpha.values.nbytes if decoded.alpha else 0)


def _key(request: DecodeRequest) -> Key | None:
    """What a file in its present state is known by; None where it may still change unseen, or cannot be found."""
    try:
        path = Path(request.path).absolute()
        status = path.stat()
    except (OSError, ValueError):
        return None
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED_NANOSECONDS:
        return None
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return request.kind, request.size, path, state


def _failure(request: DecodeRequest, *, late: bool = False) -> InputError:
    """The sentence for a process that ended without an answer."""
    file = f"The {request.name} {Path(request.path).name!r}"
    if late:
        return InputError(f"{file} takes too long to decode; make it smaller or save it as PNG or JPEG.")
    return InputError(f"{file} cannot be decoded, its decoder failed on it; save it again as PNG or JPEG.")
