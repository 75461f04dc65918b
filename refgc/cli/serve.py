"""`refgc serve`: the engines and the common state of several pages, by Ray Serve."""

from __future__ import annotations

from threading import Event
from typing import Annotated, Literal

import typer

from refgc.cli.options import Debug, remember_debug
from refgc.cli.streams import end_by_signals, tell

LAST_PORT = 65_535
ServedEngine = Literal["auto", "correspondence", "diffusion", "both"]


def serve(
    *,
    engine: Annotated[
        ServedEngine, typer.Option(help="The engine to serve, or both; auto takes the best for this machine.")
    ] = "auto",
    replicas: Annotated[int, typer.Option(min=1, help="Processes with an engine, at least; of each engine.")] = 1,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="How many at most, started as work comes in; --replicas when not given.")
    ] = None,
    cpus_per_replica: Annotated[
        int | None, typer.Option(min=1, help="Cores of each; an equal share of the cluster's when not given.")
    ] = None,
    gpus_per_replica: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each; 1 for diffusion and else 0 when not given.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at. Whoever reaches it may use the engines: keep it private.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=LAST_PORT, help="The port to listen at.")] = 8000,
    debug: Debug = False,
) -> None:
    """Serve the engines to pages on other machines (REFGC_SERVE), by Ray Serve, until it is interrupted."""
    remember_debug(debug)
    from refgc.serve.start import ServeOptions, start

    options = ServeOptions(
        engines=("correspondence", "diffusion") if engine == "both" else (engine,),
        replicas=replicas,
        max_replicas=max_replicas,
        cpus_per_replica=cpus_per_replica,
        gpus_per_replica=gpus_per_replica,
        host=host,
        port=port,
    )
    served = start(options, starting=lambda: tell("Ray Serve is being started; this takes up to a minute."))
    end_by_signals(served.close)
    try:
        tell(f"{' and '.join(served.engines)}: {served.replicas}, at {served.address}; it ends on Ctrl-C.")
        tell(f"Start a page there with REFGC_SERVE={served.address} refgc page")
        Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        served.close()
