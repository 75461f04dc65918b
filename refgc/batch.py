"""Batches: many refinements by one command. A bad pair stops no other, and finished pairs are not made again."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from refgc.engine import Engine, Progress, no_progress
from refgc.errors import InputError, quoted, sentence_about
from refgc.imaging.encode import FileOptions, check_file_options, format_of
from refgc.imaging.files import real_path
from refgc.imaging.image import DEFAULT_OPTIONS
from refgc.outputs.layer_files import LayersFormat, check_layers
from refgc.outputs.result import Destination, check_destination, check_folder, result_line, write_result
from refgc.pairs import Entry, Pair
from refgc.request import RefineRequest, Surroundings, check_options, checked_surroundings, make_request
from refgc.runner import Finished, RunnerName, run
from refgc.surroundings.weights import check_weights

# Where one of these stops one result, it stops the next ones too.
DISK_FAULTS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG))


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the results of a batch go.

    Attributes:
        images: the folder of the refined pictures.
        reports: the folder of the reports, one NAME.json a picture, or None.
        stages: the folder of the stage folders, one NAME a picture, or None.
        layers: the folder of the files of layers, one NAME.ora or NAME.psd a picture, or None.
        layers_format: which of the two.
    """

    images: Path
    reports: Path | None = None
    stages: Path | None = None
    layers: Path | None = None
    layers_format: LayersFormat = "ora"

    def destination(self, pair: Pair) -> Destination:
        """The places of one pair's result."""
        image = self.images / pair.output_name
        # Subfolders of the pictures are kept for the reports and stages; a picture outside lends only its name.
        inside = image.is_relative_to(self.images) and ".." not in pair.output_name.parts
        name = (image.relative_to(self.images) if inside else Path(image.name)).with_suffix("")
        return Destination(
            image=image,
            report=None if self.reports is None else self.reports / name.with_name(f"{name.name}.json"),
            stages=None if self.stages is None else self.stages / name,
            layers=None if self.layers is None else self.layers / name.with_name(f"{name.name}.{self.layers_format}"),
        )


@dataclass(frozen=True, slots=True)
class Defaults:
    """The options of a pair that gives none of its own; `make_request` and `FileOptions` tell what each may be."""

    scale: int = 4
    object_name: str = "object"
    seed: int = 0
    strength: float = 1.0
    surroundings: Surroundings = "plain"
    file: FileOptions = DEFAULT_OPTIONS


@dataclass(slots=True)
class Outcome:
    """How a batch ended.

    Attributes:
        done: how many pairs were refined now.
        skipped: how many were finished already.
        bad: label and reason of every pair without a result.
    """

    done: int = 0
    skipped: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)


def request_for(pair: Pair, defaults: Defaults) -> RefineRequest:
    """The pair, opened and checked, with `defaults` for what it leaves open.

    Raises:
        InputError: a picture, mask or option cannot be used.
    """
    references, masks = zip(*pair.references, strict=True)
    return make_request(
        references,
        pair.generated,
        scale=defaults.scale if pair.scale is None else pair.scale,
        reference_mask=masks,
        generated_mask=pair.generated_mask,
        object_name=defaults.object_name if pair.object is None else pair.object,
        seed=defaults.seed if pair.seed is None else pair.seed,
        strength=defaults.strength if pair.strength is None else pair.strength,
        surroundings=defaults.surroundings if pair.surroundings is None else checked_surroundings(pair.surroundings),
        bits=file_options_for(pair, defaults).bits or 8,
    )


def file_options_for(pair: Pair, defaults: Defaults) -> FileOptions:
    """How the pair's result is written, with `defaults` for what it leaves open; not checked."""
    default = defaults.file
    return FileOptions(
        profile=default.profile if pair.profile is None else pair.profile,
        quality=default.quality if pair.quality is None else pair.quality,
        bits=default.bits if pair.bits is None else pair.bits,
    )


def check_defaults(entries: Iterable[Entry], folders: Folders, defaults: Defaults) -> None:
    """Refuses options of the command that cannot be used, once for the whole batch.

    Args:
        entries: the pairs, as `check_outputs` returns them.
        folders: where the results are to go.
        defaults: the options of the command.

    Raises:
        InputError: one of them is wrong for every pair, or no pair's file can have the quality or the bits.
        EngineError: the surroundings need weights that are not here, and a pair takes them from the command.
    """
    check_options(
        scale=defaults.scale,
        seed=defaults.seed,
        object_name=defaults.object_name,
        strength=defaults.strength,
        surroundings=defaults.surroundings,
    )
    check_file_options(defaults.file)
    pairs = [entry.pair for entry in entries if isinstance(entry.pair, Pair)]
    if any(pair.surroundings is None for pair in pairs):
        check_weights(defaults.surroundings)
    refused = [_refusal_of_file(pair, folders, defaults) for pair in pairs]
    first = next(iter(refused), None)
    # Where one pair can be written, the others are bad pairs of their own.
    if first is not None and all(refused):
        raise first


def _refusal_of_file(pair: Pair, folders: Folders, defaults: Defaults) -> InputError | None:
    """Why the pair's file cannot be written as the command's own options say; None where it can, or has its own."""
    if pair.quality is not None or pair.bits is not None:
        return None
    image = folders.destination(pair).image
    try:
        format_of(image)
    except InputError:  # its name is at fault, not the options
        return None
    try:
        check_file_options(file_options_for(pair, defaults), image)
    except InputError as error:
        return error
    return None


def check_outputs(entries: Iterable[Entry], folders: Folders, *, allow_outside: bool = False) -> list[Entry]:
    """Refuses a batch that could not write its results, or would overwrite one by another or a picture in use.

    Args:
        entries: the pairs.
        folders: where the results are to go.
        allow_outside: whether a pair's `output` may lead out of the folder of the pictures.

    Returns:
        The same entries, in which a pair whose result may not go where it says has become an error.

    Raises:
        InputError: a folder that may not be written, two pairs with the same output, report, stages or layers, an
            output that is an input of any pair, or layers in a format that needs a missing package.
    """
    check_folders(folders)
    checked: list[Entry] = []
    owners: dict[Path, str] = {}
    used: list[tuple[Path, Path, str]] = []
    for entry in entries:
        if isinstance(entry.pair, InputError):
            checked.append(entry)
            continue
        try:
            places = _places(entry.pair, folders, allow_outside=allow_outside)
            used.extend((real_path(path), path, entry.label) for path in entry.pair.inputs)
        except InputError as error:
            checked.append(Entry(entry.label, error))
            continue
        checked.append(entry)
        for place in places:
            owner = owners.setdefault(place, entry.label)
            if owner != entry.label:
                raise InputError(
                    f"Two pairs, {owner} and {entry.label}, both go to {str(place)!r}; give them other output names."
                )
    for place, path, label in used:
        if place in owners:
            raise InputError(
                f"The result of {owners[place]} would overwrite {str(path)!r}, which {label} is made from; "
                "choose another output folder."
            )
    return checked


def check_folders(folders: Folders) -> None:
    """Refuses folders that could not be written to; leaves nothing behind.

    Raises:
        InputError: one of them may not be written, or the layers are in a format that needs a missing package.
    """
    named = (("output", folders.images), ("report", folders.reports), ("stages", folders.stages))
    for called, folder in (*named, ("layers", folders.layers)):
        if folder is not None:
            check_folder(folder, f"{called} folder", make_folders=True)
    if folders.layers is not None:
        check_layers(folders.layers / f"name.{folders.layers_format}")


def _places(pair: Pair, folders: Folders, *, allow_outside: bool) -> list[Path]:
    """Where the files of a pair's result really go."""
    destination = folders.destination(pair)
    image = real_path(destination.image)
    if not allow_outside and not image.is_relative_to(real_path(folders.images)):
        raise InputError(
            f"The output {quoted(str(pair.output_name))} leads out of the output folder; give a name inside of it, or "
            "add --allow-outside."
        )
    others = destination.report, destination.stages, destination.layers
    return [image, *(real_path(place) for place in others if place is not None)]


@dataclass(frozen=True, slots=True)
class PairTask:
    """One pair of a batch that is to be refined.

    Attributes:
        number: of its entry, from 1.
        label: of its entry.
        pair: its pictures and options.
    """

    number: int
    label: str
    pair: Pair


class PairWork:
    """What a worker does: refines a pair and writes its result."""

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        folders: Folders,
        defaults: Defaults,
        progress: Progress = no_progress,
    ) -> None:
        """Opens and prepares the engine; what fails here would fail for every pair.

        Args:
            open_engine: the engine that refines all of them.
            folders: where the results go.
            defaults: for what a pair leaves open.
            progress: of loading the weights.

        Raises:
            EngineError, InputError: the engine cannot run here.
        """
        self._engine = open_engine()
        self._engine.prepare(progress)
        self._folders, self._defaults = folders, defaults

    def __call__(self, task: PairTask, progress: Progress = no_progress) -> str:
        """Writes the result; returns what a person is told of it.

        Raises:
            InputError: a picture, mask or option cannot be used.
            EngineError: the engine fails at this pair.
            OSError: the result cannot be written.
        """
        destination = self._folders.destination(task.pair)
        result = self._engine.refine(request_for(task.pair, self._defaults), progress)
        write_result(result, destination, file_options_for(task.pair, self._defaults))
        return result_line(result, destination.image)


def run_batch(
    entries: list[Entry],
    folders: Folders,
    defaults: Defaults,
    open_engine: Callable[[], Engine],
    *,
    overwrite: bool,
    begin: Callable[[int, str], Progress],
    finished: Callable[[str], None],
    runner: RunnerName = "local",
    workers: int | None = 1,
    gpus_per_worker: int = 0,
) -> Outcome:
    """Refines every pair that has no result yet, and goes on past those that cannot be refined.

    Args:
        entries: the pairs, as `check_outputs` returns them.
        folders: where the results go; missing folders are made.
        defaults: for what a pair leaves open.
        open_engine: the engine that refines all of them, once in each worker; picklable.
        overwrite: whether finished results are made anew.
        begin: called with the number, from 1, and label of each pair that begins; returns its progress. Where several
            workers are busy it is called when a pair is finished, with the number of those that are.
        finished: told a line on each result that is written.
        runner: see `refgc.runner.run`.
        workers: see there. One local worker is this process itself.
        gpus_per_worker: see there.

    Raises:
        OSError: the disk takes no more; what was finished before stays.
        EngineError, InputError: the engine cannot run here, or the workers cannot be had.
    """
    outcome, bad = Outcome(), dict[int, tuple[str, str]]()
    waiting = []
    for number, entry in enumerate(entries, start=1):
        try:
            if isinstance(entry.pair, InputError):
                raise entry.pair
            destination = folders.destination(entry.pair)
            if destination.is_finished() and not overwrite:
                outcome.skipped += 1
                continue
            check_destination(destination, entry.pair.inputs, make_folders=True)
            check_file_options(file_options_for(entry.pair, defaults), destination.image)
        except (InputError, OSError) as error:
            if _stops_all(error) or _stops_all(error.__cause__):
                raise
            bad[number] = (entry.label, sentence_about(error))
            continue
        waiting.append(PairTask(number, entry.label, entry.pair))
    build = partial(PairWork, open_engine, folders, defaults)
    here = runner == "local" and workers == 1
    with closing(
        _one_by_one(build, waiting, begin)
        if here
        else run(build, waiting, runner=runner, workers=workers, gpus_per_worker=gpus_per_worker)
    ) as under_way:
        for count, one in enumerate(under_way, start=1):
            if not here:
                begin(count, one.item.label)
            if one.error is not None:
                if _stops_all(one.error):
                    raise one.error
                bad[one.item.number] = (one.item.label, sentence_about(one.error))
            else:
                assert one.outcome is not None, "either is set"
                outcome.done += 1
                finished(one.outcome)
    outcome.bad = [bad[number] for number in sorted(bad)]
    return outcome


def _one_by_one(
    build: Callable[[Progress], PairWork], tasks: Iterable[PairTask], begin: Callable[[int, str], Progress]
) -> Generator[Finished[PairTask, str], None, None]:
    """As `refgc.runner.run`, in this process, with the progress of each pair."""
    work: PairWork | None = None
    for task in tasks:
        progress = begin(task.number, task.label)
        work = work or build(progress)
        try:
            finished: Finished[PairTask, str] = Finished(task, work(task, progress))
        except Exception as error:  # whatever is wrong with one pair, the others are still to be refined
            finished = Finished(task, error=error)
        yield finished


def _stops_all(error: BaseException | None) -> bool:
    """Whether an error would meet the next pairs as well."""
    return isinstance(error, OSError) and error.errno in DISK_FAULTS
