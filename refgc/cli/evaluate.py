"""`refgc evaluate`: methods compared on triplets or pairs, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refgc.cli.options import Debug, RunnerChoice, remember_debug
from refgc.cli.streams import check_stopped, native_messages_off, stoppable, tell
from refgc.errors import InputError, quoted

if TYPE_CHECKING:
    from refgc.evaluation.method_list import NamedMethod
    from refgc.evaluation.table_files import PaperNumber

SplitName = Literal["test", "validation", "train", "all"]
TaskName = Literal["compositing", "customisation", "diptych", "simulated"]
DEFAULT_METHODS = "lanczos,correspondence"


def evaluate(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="A frozen set of `refgc dataset benchmark`, a dataset with triplets, or a list or folder of pairs as "
            "`refgc refine --pairs` takes it, of which no truth is known.",
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of results and tables.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="Methods with commas between: bicubic, lanczos, enlargement, correspondence, "
            "correspondence:surroundings=best, diffusion, diffusion:lora=PATH, oracle, folder:PATH, command:COMMAND; "
            "each with LABEL= before it where wanted, LABEL*= where it was tuned on the dataset. Or once for each; a "
            f"command stands alone. {DEFAULT_METHODS} when not given.",
        ),
    ] = None,
    methods_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Methods from a TOML file, such as those of an ablation, after --methods."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Metrics with commas between; all whose weights and packages are here when not given."
        ),
    ] = None,
    clip: Annotated[str | None, typer.Option(help="The CLIP of CLIP-I, a folder or Hub repository.")] = None,
    dino: Annotated[str | None, typer.Option(help="The DINO, a folder or Hub repository.")] = None,
    lpips_net: Annotated[str | None, typer.Option(help="The network of LPIPS: alex or vgg.")] = None,
    split: Annotated[SplitName, typer.Option(help="Of a dataset, which split.")] = "test",
    task: Annotated[TaskName | None, typer.Option(help="Only LRGIs whose generator was used so.")] = None,
    unreviewed: Annotated[
        bool,
        typer.Option(
            "--unreviewed/--accepted-only", help="Of a dataset, take rows as well that too few people have looked at."
        ),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Test all methods against this one, not against the best of each column."),
    ] = None,
    paper: Annotated[
        str | None, typer.Option(metavar="LIST", help="Print tables of the paper beside: 2, 3, or 2,3.")
    ] = None,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Run nothing; write the tables anew from the results in --output.")
    ] = False,
    runner: Annotated[RunnerChoice, typer.Option(help="Processes of this machine, or a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="How many at once; one for each core or GPU when not given.")
    ] = None,
    gpus_per_worker: Annotated[
        int | None, typer.Option(help="GPUs of each worker; 1 for diffusion on a machine that has one, else 0.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Debug = False,
) -> None:
    """Compare methods: run them, score them, and write tables; run it again to go on where it was."""
    from refgc.machine import silence_libraries

    remember_debug(debug)
    silence_libraries()
    from refgc.evaluation.evaluate import evaluate as run_evaluation
    from refgc.evaluation.paper import paper_table
    from refgc.evaluation.results import read_results
    from refgc.evaluation.runs import MetricChoice
    from refgc.evaluation.table_files import markdown_of, write_tables
    from refgc.evaluation.tables import TableSettings, check_against
    from refgc.metrics.registry import Backbones
    from refgc.terminal import stage_bar

    papers = _papers(paper)
    if tables_only:
        if source is not None or methods or methods_file is not None or metrics is not None:
            raise InputError(
                "With --tables-only the results are read from --output; leave DIR, methods and metrics out."
            )
        comparison = read_results(output)
    else:
        if source is None:
            raise InputError("Give the folder or list that the methods are compared on, or --tables-only.")
        listed = _listed(methods, methods_file)
        check_against(against, [one.label for one in listed if not one.is_oracle])
        named = {"clip": clip, "dino": dino, "lpips_net": lpips_net}
        backbones = Backbones(**{name: value for name, value in named.items() if value is not None})
        names = None if metrics is None else tuple(name.strip() for name in metrics.split(",") if name.strip())
        with native_messages_off(), stage_bar(quiet=quiet) as bar:
            comparison = run_evaluation(
                source,
                output,
                listed,
                MetricChoice(names, backbones),
                split=split,
                task=task,
                unreviewed=unreviewed,
                runner=runner,
                workers=workers,
                gpus_per_worker=gpus_per_worker,
                progress=stoppable(bar),
            )
            check_stopped()
    table = write_tables(output, comparison, TableSettings(against=against), papers)
    if not quiet:
        print(markdown_of(table, [paper_table(number) for number in papers]), end="")
        tell(f"{output}: table.md, table.tex, table.csv and table.json, of {len(comparison.results)} results.")


def _listed(methods: list[str] | None, file: Path | None) -> list[NamedMethod]:
    from refgc.evaluation.method_list import parse_methods, read_methods

    given = methods or ([] if file is not None else [DEFAULT_METHODS])
    return [*(one for text in given for one in parse_methods(text)), *(read_methods(file) if file is not None else ())]


def _papers(text: str | None) -> list[PaperNumber]:
    found: list[PaperNumber] = []
    for name in filter(None, (part.strip() for part in (text or "").split(","))):
        match name:
            case "2" | "3":
                found.append(name)
            case _:
                raise InputError(f"The paper's table {quoted(name)} is not known here; choose 2, 3, or 2,3.")
    return found
