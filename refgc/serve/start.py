"""Starts the deployments on a Ray cluster, or on a Ray of this machine alone."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgc.engine import EngineName
from refgc.errors import EngineError, InputError, one_line
from refgc.refinement import EngineChoice, best_engine
from refgc.runner import connect_to_ray, variables_for_workers
from refgc.serve.client import ServeClient

if TYPE_CHECKING:
    from refgc.serve.deployments import EngineOptions

STATE = "refgc-state"
# Each replica has a run, and another one is ready for it.
SLOTS_A_REPLICA = 2
# How long the proxy and the replicas may take to start: on a busy machine each process takes long to load its
# libraries. Weights of a diffusion model are loaded within it too. Chosen by hand.

PROXY_SECONDS = 300.0
# Ray Serve's own limit for its proxy, 5 seconds, is passed on two busy cores.
PROXY_LIMITS = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
# Ray Serve takes a machine's name for a whole address.
EVERYWHERE = ("0.0.0.0", "::")

NEEDS = "refgc serve needs Ray Serve: pip install '.[ray]' in the project's folder."
NOT_STARTED = "Ray Serve was not started ({reason}); look at the files in {logs}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `refgc serve` is asked for; its help explains each."""

    engines: Sequence[EngineChoice] = ("auto",)
    replicas: int = 1
    max_replicas: int | None = None
    cpus_per_replica: int | None = None
    gpus_per_replica: float | None = None
    host: str = "127.0.0.1"
    port: int = 8000


@dataclass(frozen=True, slots=True)
class ServedEngines:
    """What was started.

    Attributes:
        address: for `REFGC_SERVE` on this machine; on others its name or number takes the place of 127.0.0.1.
        engines: by name.
        replicas: how many, in words.
        close: ends it; a cluster that was there before stays, with its other applications. The second time it does
            nothing.
    """

    address: str
    engines: tuple[EngineName, ...]
    replicas: str
    close: Callable[[], None]


def start(options: ServeOptions, starting: Callable[[], None] = lambda: None) -> ServedEngines:
    """Starts the engines and the common state, and waits until they answer.

    Args:
        options: how many of what, and where.
        starting: called when everything is checked that can be checked at once.

    Raises:
        InputError: an option cannot be used, or the port is taken.
        EngineError: Ray Serve is not installed, Ray is not reached, the cluster is too small, or an engine cannot run.
    """
    most = max(options.replicas, options.max_replicas or options.replicas)
    if options.max_replicas is not None and options.max_replicas < options.replicas:
        raise InputError(
            f"There may be {options.max_replicas} replicas at most and {options.replicas} at least; turn these around."
        )
    try:
        import ray.serve
    except ImportError as error:
        raise EngineError(NEEDS) from error
    from ray import serve

    engines = tuple(dict.fromkeys(best_engine() if name == "auto" else name for name in options.engines))
    _check_port(options.host, options.port)
    for name, value in PROXY_LIMITS.items():
        os.environ.setdefault(name, value)
    is_ours = not ray.is_initialized()
    if is_ours:
        connect_to_ray()
    close = _closing(is_ours=is_ours, applications=(*map(application_of, engines), STATE))
    try:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        deployed = [_engine_options(name, options, most, len(engines)) for name in engines]
        starting()
        _start_proxy(options.host, options.port)
        from refgc.serve.deployments import StateOptions, engine, state

        slots = dict.fromkeys(engines, SLOTS_A_REPLICA * most)
        asked = StateOptions(slots=slots, environment=variables_for_workers())
        serve.run(state(asked), name=STATE, route_prefix="/state")
        for one in deployed:
            serve.run(engine(one), name=application_of(one.engine), route_prefix=f"/{one.engine}")
        address = address_of(options.host, options.port)
        _wait_until_up(address)
    except (RuntimeError, ray.exceptions.RayError) as error:
        # What Ray Serve says of a replica that does not start is longer than a screen.
        close()
        raise EngineError(
            NOT_STARTED.format(reason=_last_line(error), logs="/tmp/ray/session_latest/logs/serve")
        ) from error
    except BaseException:
        close()
        raise
    told = f"{options.replicas}" if most == options.replicas else f"{options.replicas} to {most}"
    return ServedEngines(address, engines, f"{told} {'replica' if most == 1 else 'replicas'}", close)


def address_of(host: str, port: int) -> str:
    """The address at which this machine reaches what listens there."""
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def application_of(engine: EngineName) -> str:
    """The name of an engine's application in Ray Serve."""
    return f"refgc-{engine}"


def _engine_options(name: EngineName, options: ServeOptions, most: int, engines: int) -> EngineOptions:
    """How an engine is deployed on this cluster.

    Raises:
        EngineError: the cluster is too small.
    """
    import ray

    from refgc.serve.deployments import EngineOptions

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = int(there.get("CPU", 0)), there.get("GPU", 0.0)
    cpus = options.cpus_per_replica or max(1, cores // (most * engines))
    wanted_gpus = options.gpus_per_replica
    if wanted_gpus is None:
        wanted_gpus = 1.0 if name == "diffusion" else 0.0
    if cpus * most * engines > cores:
        raise EngineError(
            f"{most * engines} replicas with {cpus} cores each need {cpus * most * engines}, and the cluster has "
            f"{cores}; start fewer, or give each of them fewer cores."
        )
    if wanted_gpus * most > gpus:
        raise EngineError(
            f"{most} replicas with {wanted_gpus:g} GPUs each need {wanted_gpus * most:g}, and the cluster has "
            f"{gpus:g}; start fewer, or give each of them fewer GPUs."
        )
    return EngineOptions(
        engine=name,
        replicas=options.replicas,
        max_replicas=most,
        cpus_per_replica=cpus,
        gpus_per_replica=wanted_gpus,
        folder=str(Path.cwd()),
        environment=variables_for_workers(),
    )


def _start_proxy(host: str, port: int) -> None:
    """Starts Ray Serve with its HTTP proxies, each on a machine with a replica."""
    from ray import serve

    # Ray Serve waits a minute, and its proxy goes on to start after that.
    with suppress(TimeoutError):
        serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})


def _wait_until_up(address: str) -> None:
    client = ServeClient(address)
    until = time.monotonic() + PROXY_SECONDS
    try:
        while True:
            try:
                client.engines()
                return
            except EngineError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)
    finally:
        client.close()


def _check_port(host: str, port: int) -> None:
    """Refuses a port that is taken; Ray Serve would try for a minute.

    Raises:
        InputError: it is taken, or the address is not of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise InputError(f"Port {port} of {host} is taken or not ours; give another --port or --host.") from error


def _closing(*, is_ours: bool, applications: Sequence[str]) -> Callable[[], None]:
    closed: list[bool] = []

    def close() -> None:
        import ray
        from ray import serve

        if closed:
            return
        closed.append(True)
        # What has ended by itself needs no ending.
        with suppress(Exception):
            for name in applications:
                serve.delete(name)
            # Other applications of the cluster go on.
            if not serve.status().applications:
                serve.shutdown()  # type: ignore[no-untyped-call]
        # Ends a Ray that was started here, and leaves a cluster.
        if is_ours:
            ray.shutdown()

    return close


def _last_line(error: Exception) -> str:
    lines: list[Any] = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1] if lines else type(error).__name__).rstrip(".")
