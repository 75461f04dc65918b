"""`refgc study`: a blind user study, from folders of results to shares of votes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from refgc.cli.options import Command, Debug, Group, remember_debug
from refgc.cli.streams import check_stopped, stoppable, tell
from refgc.errors import InputError, quoted

PAGE_LIBRARIES = ("starlette", "uvicorn")
REPORT_LIBRARIES = ("krippendorff", "matplotlib")
LAST_PORT = 65_535

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="The folder of the study.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]

study = typer.Typer(
    cls=Group,
    name="study",
    help="Ask people blindly which results they find best, and say what their votes are worth.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def init(
    folder: Folder,
    *,
    items: Annotated[
        Path,
        typer.Option(
            help="What was refined: a dataset, a frozen set (`refgc dataset benchmark`), or a list or folder of pairs."
        ),
    ],
    method: Annotated[
        list[str],
        typer.Option(metavar="NAME=FOLDER", help="A method and its results, called by the items' ids. Give 2 to 9."),
    ],
    checks: Annotated[
        int, typer.Option(min=0, max=20, help="Items that become attention checks; they are not asked otherwise.")
    ] = 2,
    items_per_rater: Annotated[
        int | None, typer.Option(min=1, help="Items that each person sees; all, but at most 20, when not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every order.")] = 0,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    split: Annotated[
        Literal["test", "validation", "train", "all"], typer.Option(help="Of a dataset, which part.")
    ] = "test",
    unreviewed: Annotated[bool, typer.Option("--unreviewed/--accepted-only", help="Of a dataset, which rows.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prepare the folder of a study: pictures without names and metadata, attention checks, and study.json."""
    remember_debug(debug)
    from refgc.study.prepare import prepare_study
    from refgc.terminal import stage_bar

    methods = _methods(method)
    with stage_bar(quiet=quiet) as bar:
        made = prepare_study(
            folder, items, methods, seed=seed, checks=checks, items_per_rater=items_per_rater, title=title,
            split=split, unreviewed=unreviewed, progress=stoppable(bar),
        )  # fmt: skip
    check_stopped()
    if not quiet:
        tell(
            f"{folder}: {len(made.items)} items, {made.items_per_rater} a person, {len(made.methods)} methods, "
            f"{len(made.checks)} attention check{'' if len(made.checks) == 1 else 's'}"
        )
        tell(f"Texts can be changed in {folder / 'study.json'}; `refgc study serve {folder}` starts the page.")


def serve(
    folder: Folder,
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=LAST_PORT, help="The port to listen at; the first free one from 7860 on.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets everybody take part who reaches this machine.")
    ] = "127.0.0.1",
    debug: Debug = False,
) -> None:
    """Serve the page on which people take part, until it is interrupted."""
    remember_debug(debug)
    _check_libraries("The page of a study", PAGE_LIBRARIES)
    from refgc.study.definition import read_study
    from refgc.study.page import build_app, listen
    from refgc.study.page import serve as serve_page
    from refgc.study.store import AnswerStore

    asked = read_study(folder)
    with AnswerStore(folder, asked) as store, listen(host, port) as listening:
        began, done = store.count()
        tell(f"{began} people have begun, and {done} of them are done.")
        place = f"[{host}]" if ":" in host else host
        tell(f"The page is at http://{place}:{listening.getsockname()[1]} and ends on Ctrl-C.")
        serve_page(build_app(folder, asked, store, host), listening)


def report(
    folder: Folder,
    *,
    output: Annotated[Path, typer.Option(help="The folder of the report; files of an earlier one are replaced.")],
    least_right: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of right answers to the attention checks; 0 for none.")
    ] = 0.8,
    least_same: Annotated[
        int, typer.Option(min=0, max=9, help="Least answers to the repeated item that are the same as before.")
    ] = 0,
    unfinished: Annotated[
        bool, typer.Option("--unfinished/--finished-only", help="Whether people count who did not come to the end.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write shares with intervals, agreement, bias by position and who is left out, as tables and a figure."""
    remember_debug(debug)
    _check_libraries("The report of a study", REPORT_LIBRARIES)
    from refgc.study.definition import read_study
    from refgc.study.report import make_report, write_report
    from refgc.study.store import read_records
    from refgc.study.votes import Rules

    asked = read_study(folder)
    rules = Rules(right=least_right, same=least_same, unfinished=unfinished)
    made, votes = make_report(asked, read_records(folder, asked), rules, seed=seed)
    written = write_report(output, made, votes)
    if quiet:
        return
    people = made["people"]
    tell(f"{people['counted']} people count, {people['left out']} are left out, {people['withdrew']} withdrew")
    for question in made["questions"]:
        told = ", ".join(f"{share['choice']} {share['share']:.1%}" for share in question["shares"])
        tell(f"{question['question']}: {told}")
    tell(f"{output}: {', '.join(path.name for path in written)}")


def simulate(
    *,
    methods: Annotated[int, typer.Option(min=2, max=9, help="How many are compared.")] = 4,
    items: Annotated[int, typer.Option(min=2, max=1000, help="That each person sees.")] = 20,
    difference: Annotated[
        list[float] | None,
        typer.Option(
            min=1, max=80, help="Between two methods, in points of their shares; 5, 10 and 20 when not given."
        ),
    ] = None,
    careless: Annotated[float, typer.Option(min=0, max=0.9, help="Share of people who click at random.")] = 0.1,
    studies: Annotated[int, typer.Option(min=10, max=10_000, help="How many are simulated of each size.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    debug: Debug = False,
) -> None:
    """Simulate studies by people of known taste: how many people a difference needs, and whether reports find it."""
    remember_debug(debug)
    from refgc.study.simulation import RATERS, Design, raters_needed, recover, taste_with_lead

    for points in difference or (5.0, 10.0, 20.0):
        need = raters_needed(methods, points / 100, items, studies=studies, seed=seed, careless=careless)
        reached = ", ".join(f"{number}: {share:.0%}" for number, share in need.power.items())
        if need.raters is None:
            tell(
                f"{points:g} points: more than {RATERS[-1]} people with {items} items. Where more people hardly help, "
                f"take more items. Found in studies by people: {reached}"
            )
        else:
            tell(f"{points:g} points: {need.raters} people with {items} items. Found in studies by people: {reached}")
        size = Design(need.raters or RATERS[-1], items, careless)
        found = recover(taste_with_lead(methods, points / 100), size, studies, seed=seed)
        told = ", ".join(f"{mean:.1%} ({truth:.1%})" for mean, truth in zip(found.mean, found.truth, strict=True))
        tell(f"  With {size.raters} people, shares as found (and as put in), no difference first: {told}")
        coverage = sum(found.coverage) / len(found.coverage)
        tell(
            f"  Intervals hold the truth in {coverage:.1%}; {found.honest_excluded:.1%} of the honest people are left "
            f"out, and {found.careless_kept:.1%} of the careless ones are not."
        )


for command in (init, serve, report, simulate):
    study.command(cls=Command)(command)


def _methods(described: list[str]) -> dict[str, Path]:
    methods: dict[str, Path] = {}
    for text in described:
        name, equals, folder = text.partition("=")
        if not name.strip() or not equals or not folder:
            raise InputError(f"{quoted(text)} is no method; write NAME=FOLDER, such as ours=results/ours.")
        if name.strip() in methods:
            raise InputError(f"Two methods are called {quoted(name.strip())}; rename one.")
        methods[name.strip()] = Path(folder)
    return methods


def _check_libraries(what: str, names: tuple[str, ...]) -> None:
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install '.[evaluation]' in the project's folder.")
