"""`refgc dataset`: the group, and the commands that work on a manifest that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refgc.cli.dataset_pairs import pairs
from refgc.cli.dataset_review import review
from refgc.cli.dataset_triplets import triplets
from refgc.cli.options import FAILED, Command, Debug, Group, remember_debug
from refgc.cli.streams import check_stopped, stoppable, tell

if TYPE_CHECKING:
    from refgc.dataset.check import Summary
    from refgc.dataset.exports.shards import ExportResult

ExportForm = Literal["webdataset", "folder", "imagecritic"]
ImportForm = Literal["imagecritic"]

Dataset = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the dataset.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Unreviewed = Annotated[
    bool,
    typer.Option(
        "--unreviewed/--accepted-only",
        help="Take rows as well that too few people have looked at, or only those that are accepted.",
    ),
]

dataset = typer.Typer(
    cls=Group,
    name="dataset",
    help="Make, check and publish triplets to train on: from videos or photos to HRRI, HRGT and LRGI.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def check(
    directory: Dataset,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only look whether the files are there, and open none of them.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Find missing, damaged, duplicate and leaking rows, and sum the dataset up; status 1 where it is not sound."""
    remember_debug(debug)
    from refgc.dataset.check import check_dataset
    from refgc.terminal import stage_bar

    with stage_bar(quiet=as_json) as bar:
        summary = check_dataset(directory, quick=quick, progress=stoppable(bar))
    check_stopped()
    if as_json:
        print(summary.model_dump_json(indent=2))
    else:
        _show(summary)
    if not summary.sound:
        raise typer.Exit(FAILED)


def split(
    directory: Dataset,
    *,
    test: Annotated[float, typer.Option(help="Share of the objects that are for the test.")] = 0.1,
    validation: Annotated[float, typer.Option(help="Share of those for validation.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Another one gives another split.")] = 0,
    fixed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A TOML file with lists of object ids called train, validation or test."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Divide the objects among training, validation and test; objects that come later move no other."""
    remember_debug(debug)
    from refgc.dataset.split import read_fixed, split_dataset

    named = None if fixed is None else read_fixed(fixed)
    result = split_dataset(directory, test=test, validation=validation, seed=seed, fixed=named)
    if quiet:
        return
    for name, number in sorted(result.objects.items()):
        tell(f"{name}: {number} objects, {result.pairs[name]} pairs")
    if named is not None:
        tell(f"fixed: {result.fixed} of the {len(named)} objects that {str(fixed)!r} names are in the dataset")
    if result.moved:
        tell(f"moved: {result.moved} objects stood in another split before")


def export(
    directory: Dataset,
    *,
    to: Annotated[ExportForm, typer.Option(help="For webdataset, for datasets.load_dataset, or for ImageCritic.")],
    output: Annotated[Path, typer.Option(help="The folder of the export; an export that was cut off goes on there.")],
    unreviewed: Unreviewed = False,
    rows_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Rows of one tar or parquet file; 200 or 100 when not given.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the dataset in a form that other programs read."""
    remember_debug(debug)
    from refgc.errors import InputError
    from refgc.terminal import stage_bar

    _check_output(output, directory)
    if to == "imagecritic" and rows_per_shard is not None:
        raise InputError("ImageCritic's layout has no shards; leave --rows-per-shard out.")
    with stage_bar(quiet=quiet) as bar:
        progress = stoppable(bar)
        if to == "webdataset":
            from refgc.dataset.exports import webdataset as tar

            size = rows_per_shard or tar.ROWS_PER_SHARD
            result = tar.export_webdataset(
                directory, output, unreviewed=unreviewed, rows_per_shard=size, progress=progress
            )
        elif to == "folder":
            from refgc.dataset.exports import folder

            size = rows_per_shard or folder.ROWS_PER_SHARD
            result = folder.export_folder(
                directory, output, unreviewed=unreviewed, rows_per_shard=size, progress=progress
            )
        else:
            from refgc.dataset.exports.imagecritic import export_imagecritic

            result = export_imagecritic(directory, output, unreviewed=unreviewed, progress=progress)
    if not quiet:
        _tell_export(result, output)


def import_(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the samples.")],
    *,
    source_form: Annotated[ImportForm, typer.Option("--from", help="Whose layout it is.")],
    output: Annotated[Path, typer.Option(help="The folder of the dataset; rows are added to those that it has.")],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make rows of another project's samples, with what is known of them."""
    remember_debug(debug)
    from refgc.dataset.exports.imagecritic import NOT_KNOWN, import_imagecritic
    from refgc.terminal import stage_bar

    read = {"imagecritic": import_imagecritic}
    with stage_bar(quiet=quiet) as bar:
        result = read[source_form](directory, output, progress=stoppable(bar))
    if not quiet:
        tell(f"{output}: {result.added} samples added, {result.known} known, {result.refused} refused")
        tell(f"Not known of them: {NOT_KNOWN}.")


def push(
    directory: Dataset,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="Such as user/dataset; made where it is missing.")],
    *,
    private: Annotated[bool | None, typer.Option("--private/--public", help="Of a new repository.")] = None,
    staging: Annotated[
        Path | None, typer.Option(help="Where the export is made that is uploaded; DIR/hub when not given.")
    ] = None,
    unreviewed: Unreviewed = False,
    allow_unknown_licence: Annotated[
        bool, typer.Option("--allow-unknown-licence", help="Publish rows whose licence nobody named.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the card, and upload nothing.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Publish the dataset on the Hugging Face Hub, with a dataset card."""
    remember_debug(debug)
    from refgc.dataset.exports.hub import push as push_dataset
    from refgc.terminal import stage_bar

    with stage_bar(quiet=quiet) as bar:
        place = push_dataset(
            directory,
            repository,
            staging=staging or directory / "hub",
            private=private,
            unreviewed=unreviewed,
            allow_unknown_licence=allow_unknown_licence,
            dry_run=dry_run,
            progress=stoppable(bar),
        )
    if not quiet:
        tell(place)


def benchmark(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of the dataset; with --wild that of the pictures.")
    ],
    *,
    output: Annotated[Path, typer.Option(help="The folder of the frozen set.")],
    wild: Annotated[
        bool,
        typer.Option("--wild", help="DIR has pictures of named generators, in folders GENERATOR/TASK/CASE."),
    ] = False,
    unreviewed: Unreviewed = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Freeze the test split, or pictures of named generators, as a set to measure on."""
    remember_debug(debug)
    from refgc.dataset.testset import freeze_test_split, freeze_wild
    from refgc.terminal import stage_bar

    _check_output(output, directory)
    with stage_bar(quiet=quiet) as bar:
        progress = stoppable(bar)
        if wild:
            head = freeze_wild(directory, output, progress=progress)
        else:
            head = freeze_test_split(directory, output, unreviewed=unreviewed, progress=progress)
    if not quiet:
        tell(f"{output}: {head.cases} cases on {head.objects} objects, {head.with_truth} with their truth")
        tell(f"list: {head.sha256}")


# In the order in which a dataset is made.
for command in (pairs, review, triplets, check, split, benchmark, export):
    dataset.command(cls=Command)(command)
dataset.command(name="import", cls=Command)(import_)
dataset.command(cls=Command)(push)


def _check_output(output: Path, directory: Path) -> None:
    """Refuses the dataset's own folder, where what is written could no longer be told from the dataset."""
    from refgc.errors import InputError

    if output.resolve() == directory.resolve():
        raise InputError("The output is the folder of the dataset itself; choose another one.")


def _show(summary: Summary) -> None:
    """Prints one line a fault, then what is in the dataset."""
    from refgc.errors import one_line

    for faults in summary.faults:
        for sentence in faults.first:
            tell(one_line(f"{faults.kind}: {sentence}"))
        if faults.count > len(faults.first):
            tell(f"{faults.kind}: {faults.count - len(faults.first)} more")
    tell(f"pairs {summary.pairs}, triplets {summary.triplets}, objects {summary.objects}, files {summary.files}")
    tell(f"rejections {summary.rejections}, mended masks {summary.mended}, files that no row names {summary.orphans}")
    if summary.simulated_share is not None:
        tell(f"simulated: {summary.simulated_share:.1%} of the triplets")
    for title, numbers in (
        ("categories", summary.categories),
        ("sources", summary.sources),
        ("licences", summary.licences),
        ("splits", summary.splits),
        ("verdicts on pairs", summary.pair_verdicts),
        ("verdicts on triplets", summary.triplet_verdicts),
        ("generators", summary.generators),
    ):
        if numbers:
            tell(one_line(f"{title}: {', '.join(f'{name} {number}' for name, number in numbers.items())}"))
    tell("sound" if summary.sound else f"not sound: {sum(faults.count for faults in summary.faults)} faults")


def _tell_export(result: ExportResult, output: Path) -> None:
    told = ", ".join(f"{split} {number}" for split, number in sorted(result.rows.items()))
    tell(f"{output}: {told} rows; {result.written} files written, {result.kept} kept")
