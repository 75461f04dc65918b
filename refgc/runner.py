"""The runner: the same work on many items, by processes of this machine or by Ray on many machines.

Both kinds of workers stand behind one loop, so that both give the same outcomes. A worker has one item at a time. When
it ends in the middle of its item, that item alone is affected, and it is known which one it was: it goes to another
worker. An item that ends its worker again and again, for instance because it takes all the memory, becomes an error and
the run goes on. The outcome of an item is given once, though its work may have been begun more than once: what the work
writes must therefore be the same each time, such as a file that is named by its content.

Three well-known ways were left aside. The pool of `concurrent.futures` does not tell which item ended a worker, breaks
every other item that was under way, and its idle processes outlive a killed parent. Ray Data hands out blocks of items:
it repeats a block without limit when its worker ends, so that one bad item stops a run, or leaves the whole block out.
Ray's own retries have the same fault. So Ray's actors are driven one item at a time here.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from refgc import machine
from refgc.errors import EngineError, InputError, RefGCError, quoted, sentence_about
from refgc.settings import PREFIX

RunnerName = Literal["local", "ray"]
# How often an item is tried once more after its worker ended. Chosen by hand: a worker that another process pushed out
# of memory gets two further chances.
RETRIES = 2
# How long a local worker has to end its own children, such as an external generator, before it is killed. Chosen by
# hand.
GRACE_SECONDS = 2.0
# How long the head of a Ray cluster may take to accept a connection. Chosen by hand.
CONNECT_SECONDS = 10.0

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Work: TypeAlias = Callable[[Item], Outcome]


class WorkerEndedError(EngineError):
    """An item whose workers ended one after the other, by a signal or for want of memory."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[Item, Outcome]):
    """An item whose work is over: either `outcome` or `error` is set.

    Attributes:
        item: as it was given.
        outcome: what the work returned.
        error: what the work raised: an `InputError`, `EngineError` or `OSError` as it was, any other as an
            `EngineError` with its sentence, and its traceback as a note. `WorkerEndedError` where its workers ended.
    """

    item: Item
    outcome: Outcome | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a worker sends: first that its work is built, then one for each item."""

    outcome: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class _Task:
    """An item, and how many workers ended while they had it."""

    item: Any
    ended: int = 0


class _Worker(Protocol):
    """One process that holds the work."""

    is_built: bool

    def send(self, item: Any) -> None:
        """Gives it an item; it takes no second one before its reply."""
        ...

    def receive(self) -> _Reply | str:
        """Its next reply, or a phrase on how it ended."""
        ...


class _Pool(Protocol):
    """Starts workers and waits for them."""

    size: int

    def start(self) -> _Worker:
        """A new worker, which begins to build the work."""
        ...

    def wait(self, workers: Sequence[Any]) -> Sequence[_Worker]:
        """Those of the workers that have something to say, at least one."""
        ...

    def close(self) -> None:
        """Ends every worker at once."""
        ...


def run(
    build: Callable[[], Work[Item, Outcome]],
    items: Iterable[Item],
    *,
    runner: RunnerName = "local",
    workers: int | None = None,
    gpus_per_worker: int = 0,
) -> Generator[Finished[Item, Outcome], None, None]:
    """Do the work on every item, and give each outcome as soon as it is there.

    No more items are read ahead than there are workers. Closing the iterator, or an exception such as KeyboardInterrupt
    while it waits, ends all workers at once.

    Args:
        build: called once in each worker, for what costs time to set up, such as a loaded model; it returns what is
            called with each item. It, the items and the outcomes must be picklable, and `build` importable from a
            module.
        items: the work; each is a small value, such as a row. Large things belong into files.
        runner: "local" for processes of this machine; "ray" for actors of the Ray cluster that RAY_ADDRESS names or
            that runs here, and without one for a cluster of this machine alone. The working folder and all files must
            then lie where all machines see them, at the same place, and all need the same version of this package.
        workers: how many at once; None takes one for each core, or for each share of the GPUs.
        gpus_per_worker: how many GPUs each worker has to itself; 0 for work without a GPU.

    Yields:
        Each item once, in the order in which they are finished.

    Raises:
        InputError: the number of workers or GPUs cannot be used, or there is no such runner.
        EngineError: Ray is not installed or not reached, there are too few GPUs, or workers end before their work is
            built.
        Exception: what `build` raised.
    """
    if workers is not None and workers < 1:
        raise InputError(f"The number of workers is {workers}; choose 1 or more.")
    if gpus_per_worker < 0:
        raise InputError(f"The number of GPUs for each worker is {gpus_per_worker}; choose 0 or more.")
    pool: _Pool
    match runner:
        case "local":
            pool = _LocalPool(build, workers, gpus_per_worker)
        case "ray":
            pool = _RayPool(build, workers, gpus_per_worker)
        case _:
            raise InputError(f"There is no runner called {runner!r}; use local or ray.")
    with closing(pool):
        yield from _run(pool, iter(items))


def _run(pool: _Pool, waiting: Iterator[Any]) -> Iterator[Finished[Any, Any]]:
    busy: dict[_Worker, _Task] = {}
    idle: list[_Worker] = []
    again: deque[_Task] = deque()
    ended_unbuilt = 0
    while True:
        while len(busy) < pool.size and (task := _next(again, waiting)) is not None:
            worker = idle.pop() if idle else pool.start()
            busy[worker] = task
            worker.send(task.item)
        if not busy:
            return
        for worker in pool.wait(list(busy)):
            reply = worker.receive()
            if isinstance(reply, _Reply) and not worker.is_built:
                if reply.error is not None:
                    raise reply.error
                worker.is_built, ended_unbuilt = True, 0
                continue
            task = busy.pop(worker)
            if isinstance(reply, _Reply):
                idle.append(worker)
                yield Finished(task.item, reply.outcome, reply.error)
            elif not worker.is_built:
                ended_unbuilt += 1
                if ended_unbuilt > RETRIES:
                    raise EngineError(f"The workers end before they can begin ({reply}); start fewer of them.")
                again.append(task)
            elif task.ended < RETRIES:
                again.append(_Task(task.item, task.ended + 1))
            else:
                yield Finished(task.item, error=_ended_error(reply))


def _next(again: deque[_Task], waiting: Iterator[Any]) -> _Task | None:
    """The next item; those that are tried once more come first."""
    if again:
        return again.popleft()
    for item in waiting:
        return _Task(item)
    return None


def _ended_error(how: str) -> WorkerEndedError:
    return WorkerEndedError(
        f"The worker ended {RETRIES + 1} times at this item ({how}); start fewer workers if the memory is short."
    )


class _Served:
    """The work inside a worker, which answers and never raises."""

    def __init__(self, build: Callable[[], Work[Any, Any]]) -> None:
        self._build = build
        self._work: Work[Any, Any] | None = None

    def build(self) -> _Reply:
        try:
            self._work = self._build()
        except Exception as error:
            return _Reply(error=_picklable(error))
        return _Reply()

    def work(self, item: Any) -> _Reply:
        assert self._work is not None, "build comes first"
        try:
            return _Reply(self._work(item))
        except Exception as error:  # whatever is wrong with one item, the others are still to be done
            return _Reply(error=_picklable(error))


def _picklable(error: Exception) -> Exception:
    """The error without what it holds; see `Finished.error`."""
    if isinstance(error, RefGCError):
        kept: Exception = InputError(str(error)) if isinstance(error, InputError) else EngineError(str(error))
    elif isinstance(error, OSError):
        kept = OSError(error.errno, error.strerror or str(error), error.filename)
    else:
        kept = EngineError(sentence_about(error))
    kept.add_note("".join(traceback.format_exception(error)))
    return kept


class _LocalWorker:
    """A process of this machine, and the pipe to it."""

    def __init__(self, build: Callable[[], Work[Any, Any]], gpus: str | None) -> None:
        self.is_built = False
        # Forking a process that has threads, as OpenCV and torch do, can hang.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build, gpus), daemon=True)
        self.process.start()
        # Held by the worker alone, so that its end is seen here.
        theirs.close()
        self.gpus = gpus

    def send(self, item: Any) -> None:
        # Where it has ended, `receive` tells.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(item)

    def receive(self) -> _Reply | str:
        try:
            reply = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return _how_ended(self.process.exitcode or 0)
        assert isinstance(reply, _Reply)
        return reply


class _LocalPool:
    def __init__(self, build: Callable[[], Work[Any, Any]], workers: int | None, gpus_per_worker: int) -> None:
        self._build = build
        self._started: list[_LocalWorker] = []
        # The GPUs of each worker, as CUDA wants them named; None leaves the environment as it is.
        self._gpus: list[str | None] = [None] * (workers or machine.cores())
        if gpus_per_worker:
            visible = _visible_gpus()
            most = len(visible) // gpus_per_worker
            if most < (workers or 1):
                raise _too_few_gpus(workers or 1, gpus_per_worker, len(visible))
            self._gpus = [
                ",".join(visible[number * gpus_per_worker : (number + 1) * gpus_per_worker])
                for number in range(workers or most)
            ]
        self.size = len(self._gpus)

    def start(self) -> _LocalWorker:
        self._started = [worker for worker in self._started if worker.process.is_alive()]
        taken = [worker.gpus for worker in self._started]
        worker = _LocalWorker(self._build, next(gpus for gpus in self._gpus if gpus is None or gpus not in taken))
        self._started.append(worker)
        return worker

    def wait(self, workers: Sequence[_LocalWorker]) -> list[_LocalWorker]:
        ready = connection.wait([worker.pipe for worker in workers])
        return [worker for worker in workers if worker.pipe in ready]

    def close(self) -> None:
        for worker in self._started:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._started:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _serve(pipe: connection.Connection, build: Callable[[], Work[Any, Any]], gpus: str | None) -> None:
    """The life of a local worker."""
    # Ctrl-C reaches all processes of a terminal; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Raises SystemExit, on which `subprocess.run` ends its process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    served = _Served(build)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(served.build())
        while True:
            reply = served.work(pipe.recv())
            try:
                pipe.send(reply)
            except (EOFError, OSError):
                raise
            except Exception as error:  # an outcome that cannot be pickled; nothing of it was sent
                pipe.send(_Reply(error=_picklable(error)))


def _end_with_parent() -> None:
    """Ends this process when its parent is killed, even in the middle of an item, so that its GPU becomes free."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _how_ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    return [str(number) for number in range(len(machine.find_gpus()))]


def _too_few_gpus(workers: int, gpus_per_worker: int, there: int) -> EngineError:
    return EngineError(
        f"{workers} workers with {gpus_per_worker} GPUs each need {workers * gpus_per_worker}, and {there} are here; "
        "start fewer workers, or give each of them fewer GPUs."
    )


class _RayWorker:
    """An actor of Ray, and the reply that it owes."""

    def __init__(self, actor: Any) -> None:
        self.is_built = False
        self._actor = actor
        # Actors work in the order in which they are asked.
        self._owed = deque([actor.build.remote()])

    @property
    def next_reply(self) -> Any:
        return self._owed[0]

    def send(self, item: Any) -> None:
        self._owed.append(self._actor.work.remote(item))

    def receive(self) -> _Reply | str:
        import ray

        try:
            reply = ray.get(self._owed.popleft())
        except ray.exceptions.RayError as error:  # the actor, its machine, or the reply on it is lost
            return type(error).__name__
        assert isinstance(reply, _Reply)
        return reply


class _RayPool:
    def __init__(self, build: Callable[[], Work[Any, Any]], workers: int | None, gpus_per_worker: int) -> None:
        if not machine.is_importable("ray"):
            raise EngineError("The runner ray needs Ray: pip install '.[ray]' in the project's folder.")
        import ray

        self._build = partial(_build_in, Path.cwd(), build)
        self._started: list[Any] = []
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            connect_to_ray()
        there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cores, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        most = min(cores, gpus // gpus_per_worker) if gpus_per_worker else cores
        if most < (workers or 1):
            self.close()
            if gpus_per_worker and gpus // gpus_per_worker < (workers or 1):
                raise _too_few_gpus(workers or 1, gpus_per_worker, gpus)
            raise EngineError(f"{workers or 1} workers need a core each, and Ray has {cores}; start fewer workers.")
        self.size = workers or most
        variables = variables_for_workers()
        # Ray repeats nothing by itself: see the head of this file.
        self._actor = ray.remote(_Served).options(
            num_cpus=1,
            num_gpus=gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": variables} if variables else None,
        )

    def start(self) -> _RayWorker:
        actor = self._actor.remote(self._build)
        self._started.append(actor)
        return _RayWorker(actor)

    def wait(self, workers: Sequence[_RayWorker]) -> list[_RayWorker]:
        import ray

        ready, _ = ray.wait([worker.next_reply for worker in workers], num_returns=1)
        return [worker for worker in workers if worker.next_reply in ready]

    def close(self) -> None:
        import ray

        if self._is_ours:
            ray.shutdown()
            return
        for actor in self._started:
            ray.kill(actor)


def _build_in(folder: Path, build: Callable[[], Work[Any, Any]]) -> Work[Any, Any]:
    """Builds the work in the folder of the run, where relative paths begin; an actor is started elsewhere."""
    os.chdir(folder)
    return build()


def variables_for_workers() -> dict[str, str]:
    """The settings of RefGC in the environment, which workers on other machines need as well."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def connect_to_ray() -> None:
    """Connects to the cluster that RAY_ADDRESS names or that runs here, or else starts one of this machine.

    Raises:
        EngineError: the cluster is not reached.
    """
    import logging

    import ray

    # A cluster that is started here reports nothing to anybody, unless somebody has decided otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    # Ray puts a handler of its own in the place of the command's.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise EngineError(
            f"Ray cannot be reached or started ({reason}); look at RAY_ADDRESS and `ray status`."
        ) from error
    except SystemExit:
        # Ray's handler has had its turn; now the command says how it ended.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _check_address(address: str) -> None:
    """Refuses a cluster where nobody listens; Ray itself would try for minutes."""
    named = re.fullmatch(r"(?:ray://)?([^:/]+):(\d{1,5})", address)
    if named is None:
        return
    try:
        socket.create_connection((named[1], int(named[2])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"Nobody listens at RAY_ADDRESS, {quoted(address)}; start the cluster or correct it."
        ) from error
