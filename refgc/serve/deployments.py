"""The deployments of Ray Serve: replicas of an engine, and the state that several pages have in common.

Importing this module imports Ray Serve. `refgc serve` starts them, and a deployment file of Ray Serve names `engine`
and `state` as its import paths.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event, Lock
from time import monotonic
from typing import Any, Literal

from limits.storage import MemoryStorage
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from refgc import __version__
from refgc.engine import EngineName, RefineResult
from refgc.errors import RefGCError
from refgc.imaging.image import Image
from refgc.refinement import choose
from refgc.request import RefineRequest
from refgc.serve.fingerprint import engine_fingerprint
from refgc.serve.turns import Turns
from refgc.serve.wire import (
    REQUEST_BYTES,
    Writer,
    failed_bytes,
    finished_bytes,
    pack,
    read_request,
    seen_bytes,
    working_bytes,
)
from refgc.settings import settings

logger = logging.getLogger("ray.serve")

# A client that hears nothing for longer takes the replica for dead; see `refgc.serve.client`.
HEARTBEAT_SECONDS = 2.0
# A run is cancelled at its time limit and then ends its last step; a replica in which one takes so many times the limit
# is replaced.
STUCK_FACTOR = 2.0
# A replica that does not answer its health check for so long is replaced. The longest step of an engine that holds
# Python's lock takes less than a second. Chosen by hand.
HEALTH_SECONDS, HEALTH_TIMEOUT_SECONDS = 10.0, 60.0
# Serve's own queue, behind that of the pages: so many requests for each replica wait there before one is refused.
QUEUED_A_REPLICA = 4
# How long a page may wait for its turn in one request.
LONGEST_WAIT_SECONDS = 2.0
# Of all pages: each run that waits holds one question open.
STATE_REQUESTS = 1000
RETRY_SECONDS = 5.0
# Between two pieces of a request. A page that vanishes while it sends one would hold its replica for ever. Chosen by
# hand.
BODY_SILENCE_SECONDS = 20.0
# Of a question to the common state.
QUESTION_BYTES = 10_000
# Numbers of such questions: no run takes so long, and larger ones have no place in JSON or in a clock.
MOST_SECONDS = 1e6
STREAM = "application/octet-stream"
TOO_LARGE = f"The pictures of one request take more than {REQUEST_BYTES // 2**30} GiB; make them smaller."


class EngineOptions(BaseModel):
    """How an engine is deployed; the arguments of a deployment file.

    Attributes:
        engine: which one.
        replicas: how many at least.
        max_replicas: how many at most, as work comes in; None for as many as `replicas`.
        cpus_per_replica: cores of each.
        gpus_per_replica: GPUs of each; None for one with the diffusion engine, else none.
        folder: where relative paths of the settings begin; None for where Ray starts the replicas.
        environment: variables of the replicas, such as REFGC_ADAPTER.
    """

    model_config = ConfigDict(extra="forbid")

    engine: EngineName = "correspondence"
    replicas: int = Field(1, ge=1)
    max_replicas: int | None = Field(None, ge=1)
    cpus_per_replica: float = Field(1, gt=0)
    gpus_per_replica: float | None = Field(None, ge=0)
    folder: str | None = None
    environment: dict[str, str] = Field(default_factory=dict)

    @property
    def most(self) -> int:
        """How many replicas there are at most."""
        return max(self.replicas, self.max_replicas or 1)


class StateOptions(BaseModel):
    """What the common state has to know of the engines; the arguments of a deployment file.

    Attributes:
        slots: by engine, how many runs of all pages may be under way: one for each replica, and as many again that are
            ready for them.
        environment: variables of its process, which find the engines' weights.
    """

    model_config = ConfigDict(extra="forbid")

    slots: dict[EngineName, int] = Field(min_length=1)
    environment: dict[str, str] = Field(default_factory=dict)


class RunStoppedError(Exception):
    """Raised by the progress and the viewer of a run that nobody waits for any more."""


class _RefusedError(Exception):
    """Raised where the body of a request is not read to its end.

    Attributes:
        response: what to answer.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.response = JSONResponse({"detail": detail}, status)
        super().__init__(detail)


async def _body(request: Request, most: int, too_large: str) -> bytes:
    """The body of a request.

    Args:
        request: of the web server.
        most: bytes that it may have.
        too_large: what to answer where it has more.

    Raises:
        _RefusedError: it has more, or nothing comes for `BODY_SILENCE_SECONDS`.
    """
    content, pieces = bytearray(), aiter(request.stream())
    try:
        while (piece := await asyncio.wait_for(anext(pieces, None), BODY_SILENCE_SECONDS)) is not None:
            content += piece
            if len(content) > most:
                raise _RefusedError(413, too_large)
    except TimeoutError as error:
        raise _RefusedError(408, "The request was not sent to its end.") from error
    return bytes(content)


class EngineReplica:
    """One process with an engine, which refines one picture at a time."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Loads the engine.

        Args:
            options: as in `EngineOptions`.

        Raises:
            EngineError: the engine cannot run on this machine.
            InputError: a setting cannot be used.
        """
        chosen = EngineOptions.model_validate(options)
        if chosen.folder is not None and Path(chosen.folder).is_dir():
            os.chdir(chosen.folder)
        self._name = chosen.engine
        self._engine = choose(chosen.engine)
        self._engine.prepare()
        self._one = Lock()
        self._began: float | None = None

    async def __call__(self, request: Request) -> Response:
        """POST refines a request of `refgc.serve.wire`; the answer is a stream with its progress and its result."""
        if request.method != "POST":
            return JSONResponse({"engine": self._name, "version": __version__})
        try:
            content = await _body(request, REQUEST_BYTES, TOO_LARGE)
        except _RefusedError as refused:
            return refused.response
        return StreamingResponse(self._answer(content), media_type=STREAM)

    async def check_health(self) -> None:
        """For Ray Serve.

        Raises:
            RuntimeError: a run does not end, so that this replica has to be replaced.
        """
        began = self._began
        if began is not None and monotonic() - began > STUCK_FACTOR * settings().run_seconds:
            raise RuntimeError(f"a run does not end: {monotonic() - began:.0f} seconds")

    async def _answer(self, content: bytes) -> AsyncIterator[bytes]:
        """The frames of one run, and one now and then that says that it goes on."""
        loop, stopped = asyncio.get_running_loop(), Event()
        events: asyncio.Queue[Iterator[bytes] | None] = asyncio.Queue()

        def tell(frame: Iterator[bytes] | None) -> None:
            if stopped.is_set() and frame is not None:
                raise RunStoppedError
            loop.call_soon_threadsafe(events.put_nowait, frame)

        running = loop.run_in_executor(None, self._run, content, tell)
        try:
            while True:
                try:
                    frame = await asyncio.wait_for(events.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    frame = pack("alive", {})
                if frame is None:
                    break
                for piece in frame:
                    yield piece
            await running
        finally:
            # Where the client has gone, the run ends at its next step, and the next run waits for that.
            stopped.set()

    def _run(self, content: bytes, tell: Callable[[Iterator[bytes] | None], None]) -> None:
        """Refines in a thread of its own; tells each frame, and None at the end."""
        writer = Writer()
        with self._one:
            self._began = monotonic()
            try:
                request, has_viewer = read_request(content)
                tell(finished_bytes(writer, self._refine(request, writer, tell, has_viewer=has_viewer)))
            except RunStoppedError:
                pass
            except Exception as error:
                if not isinstance(error, RefGCError):
                    logger.exception("a refinement failed")
                with suppress(RunStoppedError):
                    tell(failed_bytes(writer, error))
            finally:
                self._began = None
                tell(None)

    def _refine(
        self, request: RefineRequest, writer: Writer, tell: Callable[[Iterator[bytes]], None], *, has_viewer: bool
    ) -> RefineResult:
        def progress(stage: str, fraction: float) -> None:
            tell(working_bytes(writer, stage, fraction))

        def look(stage: str, picture: Image | RefineResult, /) -> None:
            tell(seen_bytes(writer, stage, picture))

        return self._engine.refine(request, progress, look if has_viewer else None)


class StateServer:
    """The one process with what all pages have in common: the queue of each engine, and counts within an hour."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Empty queues, and nothing counted.

        Args:
            options: as in `StateOptions`.
        """
        slots = StateOptions.model_validate(options).slots
        self._turns = {engine: Turns(number) for engine, number in slots.items()}
        # The first time takes seconds, since everything that is installed is listed.
        for engine in slots:
            engine_fingerprint(engine)
        self._counts = MemoryStorage()
        self._changed = asyncio.Condition()

    async def __call__(self, request: Request) -> Response:
        """GET describes the engines; POST asks or changes one thing, see `refgc.serve.client`."""
        if request.method != "POST":
            # Reading the weights' files takes a moment, and the places of others must not wait.
            engines = {name: await asyncio.to_thread(self._described, name) for name in self._turns}
            return JSONResponse({"version": __version__, "engines": engines})
        try:
            asked = Asked.model_validate_json(await _body(request, QUESTION_BYTES, "This question is too long."))
        except _RefusedError as refused:
            return refused.response
        except ValidationError:
            return JSONResponse({"detail": "This question cannot be read."}, 400)
        return JSONResponse(await self._answer(asked))

    def _described(self, engine: EngineName) -> dict[str, Any]:
        turns = self._turns[engine]
        return {
            "fingerprint": engine_fingerprint(engine),
            "slots": turns.at_once,
            "waiting": turns.waiting,
            "running": turns.running,
        }

    async def _answer(self, asked: Asked) -> Any:
        if asked.do in ("count", "counted"):
            if asked.do == "count":
                self._counts.incr(asked.name, asked.window)
            return {"number": self._counts.get(asked.name), "ends": self._counts.get_expiry(asked.name)}
        turns = self._turns.get(asked.engine)
        if turns is None:
            return None
        async with self._changed:
            match asked.do:
                case "enter":
                    ticket = turns.enter(asked.seconds or 0.0, asked.max_waiting)
                    return ticket and {"ticket": ticket}
                case "leave":
                    turns.leave(asked.ticket)
                    self._changed.notify_all()
                    return None
                case _:
                    return await self._standing(turns, asked)

    async def _standing(self, turns: Turns, asked: Asked) -> Any:
        """How a run stands; where it waits, after a while or when its turn has come."""
        until = monotonic() + min(asked.wait, LONGEST_WAIT_SECONDS)
        while True:
            standing = turns.standing(asked.ticket, asked.seconds)
            left = until - monotonic()
            if standing is None or standing.begun or left <= 0:
                return standing and asdict(standing)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)


class Asked(BaseModel):
    """A question to the common state.

    Attributes:
        do: "enter" a queue, ask for one's "place", "leave" it, "count" one more under a name, or ask what is "counted".
        engine: whose queue.
        ticket: of a place.
        seconds: about how long the run takes.
        max_waiting: how many may wait; None for any number.
        wait: how many seconds the answer may take where the turn has not come.
        name: what is counted.
        window: seconds after its first count in which a name is forgotten.
    """

    model_config = ConfigDict(extra="forbid")

    do: Literal["enter", "place", "leave", "count", "counted"]
    engine: EngineName = "correspondence"
    ticket: str = Field("", max_length=64)
    seconds: float | None = Field(None, ge=0, le=MOST_SECONDS)
    max_waiting: int | None = Field(None, ge=0)
    wait: float = Field(0.0, ge=0, le=MOST_SECONDS)
    name: str = Field("", max_length=200)
    window: int = Field(3600, ge=1, le=int(MOST_SECONDS))


def engine(options: EngineOptions | dict[str, Any]) -> Application:
    """The application of one engine, for `serve.run` and for a deployment file; its route is "/" and its name."""
    options = EngineOptions.model_validate(options)
    gpus = options.gpus_per_replica
    if gpus is None:
        gpus = 1.0 if options.engine == "diffusion" else 0.0
    threads = str(max(1, int(options.cpus_per_replica)))
    actor = {
        "num_cpus": options.cpus_per_replica,
        "num_gpus": gpus,
        # As many threads as cores, also where the replica's machine has more.
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads, **options.environment}},
    }
    deployment = serve.deployment(
        name=options.engine,
        ray_actor_options=actor,
        # The engine takes all cores or the whole GPU of its replica, so that a second run would make both slower.
        max_ongoing_requests=1,
        max_queued_requests=QUEUED_A_REPLICA * options.most,
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_SECONDS),
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT_SECONDS,
        # A replica that is taken away first ends its run.
        graceful_shutdown_timeout_s=settings().run_seconds,
        **_size(options),
    )
    return deployment(EngineReplica).bind(options.model_dump())


def state(options: StateOptions | dict[str, Any]) -> Application:
    """The application of the common state, for `serve.run` and for a deployment file; its route is "/state"."""
    options = StateOptions.model_validate(options)
    deployment = serve.deployment(
        name="state",
        num_replicas=1,
        # It waits for others most of the time.
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": options.environment}},
        max_ongoing_requests=STATE_REQUESTS,
    )
    return deployment(StateServer).bind(options.model_dump())


def _size(options: EngineOptions) -> dict[str, Any]:
    """How many replicas there are."""
    if options.most == options.replicas:
        return {"num_replicas": options.replicas}
    scaling = AutoscalingConfig(
        min_replicas=options.replicas,
        initial_replicas=options.replicas,
        max_replicas=options.most,
        target_ongoing_requests=1,
    )
    return {"autoscaling_config": scaling}
