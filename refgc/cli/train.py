"""`refgc train`: from a dataset to an adapter."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from refgc.cli.options import Command, Debug, Group, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell

Settings = Annotated[
    Path, typer.Argument(metavar="FILE", help="The settings of the run, as `refgc train init` prints.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
MaxSteps = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many steps of the run; 2 is a trial of everything.")
]
Push = Annotated[
    str | None, typer.Option(metavar="REPO", help="Publish the adapter on the Hugging Face Hub afterwards.")
]

train = typer.Typer(
    cls=Group,
    name="train",
    help="Train FreqMoLE on triplets, or DipRefGC on pairs: cache, train, and end with an adapter.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _begin(debug: bool) -> None:
    """Before anything is imported that prints remarks for programmers."""
    from refgc.machine import silence_libraries

    remember_debug(debug)
    silence_libraries()


def init(
    kind: Annotated[str, typer.Argument(help="What is to be trained: refiner or generator.")], *, debug: Debug = False
) -> None:
    """Print a file with every setting at its default, and above each what it means."""
    _begin(debug)
    from refgc.training.settings import initial_file

    print(initial_file(kind), end="")


def cache(file: Settings, *, quiet: Quiet = False, debug: Debug = False) -> None:
    """Make latents and prompt embeddings of all samples; run it again to go on where it was."""
    _begin(debug)
    from refgc.training.settings import GeneratorRun, read_any_run

    # Before torch is imported, so that a mistake in the file is told at once; so in all commands.
    settings = read_any_run(file)
    from refgc.terminal import stage_bar
    from refgc.training import cache as refiner_cache
    from refgc.training import generator_cache

    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        if isinstance(settings, GeneratorRun):
            count = generator_cache.fill_cache(settings, stoppable(bar))
        else:
            count = refiner_cache.fill_cache(settings, stoppable(bar))
        check_stopped()
    if not quiet:
        tell(f"{settings.data.cache}: {count.made} files made, {count.earlier} there before.")
        if not count.validation and settings.validation.every and settings.validation.pictures:
            tell(
                "The dataset has nothing in the split `validation`, so that nothing is drawn between the steps; "
                "`refgc dataset split` with a larger --validation changes that."
            )


def refiner(
    file: Settings,
    *,
    max_steps: MaxSteps = None,
    push: Push = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train FreqMoLE; run it again to go on after the newest checkpoint. `accelerate launch -m` starts several GPUs."""
    _begin(debug)
    from refgc.training.settings import RefinerRun, read_run

    settings = read_run(file, RefinerRun)
    from refgc.terminal import stage_bar
    from refgc.training.processes import is_alone, is_leader
    from refgc.training.refiner import run_refiner

    # Of several processes the first one shows the bar.
    quiet = quiet or not is_leader()
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        made = run_refiner(settings, max_steps=max_steps, progress=stoppable(bar, between_steps=is_alone()))
        check_stopped()
    if made is None:
        return  # another process tells
    if not quiet:
        tell(f"{made}: the adapter; `REFGC_ADAPTER={quote(str(made))} refgc refine --engine diffusion` uses it.")
    if push is not None:
        from refgc.training.finish import publish

        address = publish(made, push)
        if not quiet:
            tell(address)


def generator(
    file: Settings, *, max_steps: MaxSteps = None, push: Push = None, quiet: Quiet = False, debug: Debug = False
) -> None:
    """Train DipRefGC, which draws LRGIs; run it again to go on after the newest checkpoint."""
    _begin(debug)
    from refgc.training.settings import GeneratorRun, read_run

    settings = read_run(file, GeneratorRun)
    from refgc.diptych.sources import LORAS
    from refgc.terminal import stage_bar
    from refgc.training.finish import publish
    from refgc.training.generator import run_generator
    from refgc.training.generator_finish import COMMIT
    from refgc.training.processes import is_alone, is_leader

    # Of several processes the first one shows the bar.
    quiet = quiet or not is_leader()
    with native_messages_off(), stage_bar(quiet=quiet) as bar:
        made = run_generator(settings, max_steps=max_steps, progress=stoppable(bar, between_steps=is_alone()))
        check_stopped()
    if made is None:
        return  # another process tells
    if not quiet:
        tell(f"{made}: the LoRAs; `{LORAS}={quote(str(made))} refgc dataset triplets` uses them.")
    if push is not None:
        address = publish(made, push, COMMIT)
        if not quiet:
            tell(address)


def estimate(
    file: Settings,
    *,
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs would train.")] = 1,
    debug: Debug = False,
) -> None:
    """Say what memory and how many hours a run would take; no weights are loaded."""
    _begin(debug)
    from refgc.training.settings import GeneratorRun, read_any_run

    settings = read_any_run(file)
    from refgc.training.estimate import estimate_run
    from refgc.training.generator_estimate import estimate_generator

    if isinstance(settings, GeneratorRun):
        found = estimate_generator(settings, gpus=gpus)
    else:
        found = estimate_run(settings, gpus=gpus)
    for line in found.lines():
        tell(line)


# In the order in which they are used.
for command in (init, estimate, cache, refiner, generator):
    train.command(cls=Command)(command)
