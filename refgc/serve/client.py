"""The client of the engines and of the common state that `refgc serve` starts; it needs no Ray.

It speaks HTTP, so that a page may run where no part of the Ray cluster is: only one port of the cluster has to be
reached, a load balancer may stand between, and neither Python nor Ray has to be of the same version. A handle of Ray
Serve would need all that, and a page that strangers visit would be a member of the cluster, where everybody may run
code. What goes over the wire is JSON and raw arrays, see `refgc.serve.wire`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from refgc import __version__
from refgc.engine import EngineName, Progress, RefineResult, Viewer, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.request import RefineRequest
from refgc.serve.wire import Reader, WireError, error_of, read_result, request_bytes, unpack

# A connection is made within the first, and something is heard within the second: a replica says every other second
# that it goes on. The third is for a body that is sent while the replica is busy with another run.
CONNECT_SECONDS, SILENCE_SECONDS, SEND_SECONDS = 5.0, 30.0, 120.0
# Questions to the common state are small.
STATE_SECONDS = 15.0
# How long the common state may be away, such as while Ray Serve starts it again on another machine. Chosen by hand.
AWAY_SECONDS = 30.0
# A request whose replica ends is repeated so often, after so many seconds: until then the others know that it is gone.
REPEATS, REPEAT_SECONDS = 1, 1.0
MOST_CONNECTIONS = 1000

NO_ADDRESS = (
    "REFGC_SERVE, {address}, is no address ({reason}); give one such as http://10.0.0.5:8000 or http://[fd00::5]:8000."
)
NOBODY = "Nobody answers at REFGC_SERVE, {address} ({reason}); start `refgc serve` there, or correct the address."
OTHER_VERSION = (
    "The engines at REFGC_SERVE, {address}, are of RefGC {theirs} and this is {ours}; install the same version."
)
NOT_SERVED = "The engine {engine} is not served at REFGC_SERVE, {address}; choose {served}."
ENDED = "The engine ended twice in the middle of this run ({reason}); try again later, or with smaller pictures."
OVERLOADED = "The engines have more work than they can take; please try again in a minute."
# Also where a load balancer between has a limit of its own.
TOO_LARGE = "The pictures of this run take more than may be sent to REFGC_SERVE; make them smaller."
AWAY = "The queue at REFGC_SERVE, {address}, does not answer; please try again in a minute."


class OverloadedError(EngineError):
    """The engines refuse a request, since too many wait already."""


class _EndedError(Exception):
    """The replica, or what stood between, has ended in the middle of a request."""


class EngineDescription(BaseModel):
    """An engine that is served.

    Attributes:
        fingerprint: of its code, packages and weights.
        slots: how many runs may be under way.
        waiting: how many wait.
        running: for how many seconds each of those under way has been so.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    slots: int
    waiting: int
    running: tuple[float, ...]


class _Description(BaseModel):
    version: str
    engines: dict[EngineName, EngineDescription]


@dataclass(frozen=True, slots=True)
class Place:
    """How a run stands in the common queue; see `refgc.serve.turns.Standing`."""

    begun: bool
    before: int
    seconds: float


class ServeClient:
    """Asks the engines and the common state at one address; safe to share among threads."""

    def __init__(self, address: str) -> None:
        """Asks nothing yet.

        Args:
            address: such as "http://10.0.0.5:8000", where `refgc serve` listens.

        Raises:
            InputError: no address can be read in it.
        """
        self.address = address.rstrip("/")
        try:
            url = httpx.URL(self.address)
        except httpx.InvalidURL as error:
            raise InputError(NO_ADDRESS.format(address=quoted(self.address), reason=_reason(error))) from error
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, write=SEND_SECONDS),
            limits=httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=32),
            # The address is one of a private network, which no proxy of the environment knows.
            trust_env=False,
        )

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def engines(self) -> dict[EngineName, EngineDescription]:
        """The engines that are served, by name.

        Raises:
            EngineError: nobody answers, or it is no `refgc serve` of this version.
        """
        try:
            answer = self._http.get("/state", timeout=STATE_SECONDS, follow_redirects=True)
            answer.raise_for_status()
            description = _Description.model_validate_json(answer.content)
        except httpx.HTTPStatusError as error:
            raise self._nobody(f"status {error.response.status_code}") from error
        except ValidationError as error:
            raise self._nobody("something else than RefGC is there") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._nobody(_reason(error)) from error
        if description.version != __version__:
            raise EngineError(
                OTHER_VERSION.format(address=quoted(self.address), theirs=description.version, ours=__version__)
            )
        return description.engines

    def refine(
        self, engine: EngineName, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        """Refines with an engine that is served; see `refgc.engine.Engine.refine`.

        Where the replica ends in the middle, the request is repeated once: a result depends on its request alone. The
        progress then begins anew. What `progress` or `viewer` raises ends the run, there as well at its next step.

        Raises:
            InputError: as the engine raises it.
            OverloadedError: too many requests wait already.
            EngineError: the engine failed or is not served, nobody answers, or its replicas end.
        """
        for attempt in range(REPEATS + 1):
            try:
                return self._refine(engine, request, progress, viewer)
            except _EndedError as error:
                if attempt == REPEATS:
                    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
                        raise self._nobody(str(error)) from error
                    raise EngineError(ENDED.format(reason=error)) from error
                time.sleep(REPEAT_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def _refine(
        self, engine: EngineName, request: RefineRequest, progress: Progress, viewer: Viewer | None
    ) -> RefineResult:
        content = request_bytes(request, has_viewer=viewer is not None)
        try:
            with self._http.stream("POST", f"/{engine}/", content=content) as answer:
                self._check(answer, engine)
                reader = Reader()
                for frame in unpack(answer.iter_raw()):
                    match frame.kind:
                        case "working":
                            progress(str(frame.values["stage"]), float(frame.values["fraction"]))
                        case "picture" if viewer is not None:
                            viewer(str(frame.values["stage"]), reader.picture(frame.values["picture"], frame.arrays))
                        case "result" if viewer is not None:
                            viewer(str(frame.values["stage"]), read_result(reader, frame))
                        case "failed":
                            raise error_of(frame)
                        case "finished":
                            return read_result(reader, frame)
        except httpx.HTTPError as error:
            raise _EndedError(_reason(error)) from error
        except WireError as error:
            # A stream that is cut off ends as if it were complete where a proxy stands between.
            raise _EndedError(str(error)) from error
        raise _EndedError("it ended without a result")

    def _check(self, answer: httpx.Response, engine: EngineName) -> None:
        """Raises what a status other than 200 stands for."""
        status = answer.status_code
        if status == httpx.codes.OK:
            return
        with suppress(httpx.HTTPError):
            answer.read()
        if status in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
            raise OverloadedError(OVERLOADED)
        if status == httpx.codes.NOT_FOUND:
            served = " or ".join(self.engines()) or "another address"
            raise EngineError(NOT_SERVED.format(engine=engine, address=quoted(self.address), served=served))
        if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise EngineError(TOO_LARGE)
        raise _EndedError(f"status {status}")

    def enter(self, engine: EngineName, seconds: float, max_waiting: int | None) -> str | None:
        """A ticket for a place at the end of the common queue; None where the queue is full.

        Args:
            engine: whose queue.
            seconds: about how long the run takes.
            max_waiting: how many may wait; None for any number.

        Raises:
            EngineError: the common state does not answer.
        """
        answer = self._ask(do="enter", engine=engine, seconds=seconds, max_waiting=max_waiting)
        return None if answer is None else str(answer["ticket"])

    def place(self, engine: EngineName, ticket: str, seconds: float, wait: float = 0.0) -> Place | None:
        """How a run stands; None where the state has forgotten the ticket. It holds the place for a while.

        Args:
            engine: whose queue.
            ticket: of the place.
            seconds: about how long the run takes, as far as is known now.
            wait: seconds that the answer may take where the turn has not come.

        Raises:
            EngineError: the common state does not answer.
        """
        answer = self._ask(do="place", engine=engine, ticket=ticket, seconds=seconds, wait=wait)
        return None if answer is None else Place(**answer)

    def leave(self, engine: EngineName, ticket: str) -> None:
        """Gives a place up; where the state does not answer, it is given up when nobody has asked for long."""
        with suppress(EngineError):
            self._ask(patient=False, do="leave", engine=engine, ticket=ticket)

    def count(self, name: str, window: int) -> int:
        """Counts one more under a name, which is forgotten so many seconds after its first count; how many there are.

        Raises:
            EngineError: the common state does not answer.
        """
        return int(self._ask(do="count", name=name, window=window)["number"])

    def counted(self, name: str) -> tuple[int, float]:
        """How many were counted, and when they are forgotten, in seconds since the epoch.

        Raises:
            EngineError: the common state does not answer.
        """
        answer = self._ask(do="counted", name=name)
        return int(answer["number"]), float(answer["ends"])

    def _ask(self, *, patient: bool = True, **asked: Any) -> Any:
        until = time.monotonic() + (AWAY_SECONDS if patient else 0.0)
        while True:
            try:
                answer = self._http.post("/state/", json=asked, timeout=STATE_SECONDS)
                answer.raise_for_status()
                return answer.json()
            except (httpx.HTTPError, ValueError) as error:
                if time.monotonic() > until:
                    raise EngineError(AWAY.format(address=quoted(self.address))) from error
                time.sleep(REPEAT_SECONDS)

    def _nobody(self, reason: str) -> EngineError:
        return EngineError(NOBODY.format(address=quoted(self.address), reason=reason))


def _reason(error: Exception) -> str:
    """In a few words what went wrong with a connection."""
    return str(error).rstrip(".").lower() or type(error).__name__
