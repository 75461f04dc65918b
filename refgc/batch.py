"""Many refinements in one go: each pair stands for itself, and a batch that stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from refgc.engine import Engine, Progress, Report
from refgc.errors import InputError, sentence_about
from refgc.outputs.result import Destination, check_destination, check_folder, write_result
from refgc.pairs import Entry, Pair
from refgc.request import RefineRequest, make_request


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the results of a batch go.

    Attributes:
        images: the folder of the refined pictures.
        reports: the folder of the reports, one NAME.json a picture, or None.
        stages: the folder of the stage folders, one NAME a picture, or None.
    """

    images: Path
    reports: Path | None = None
    stages: Path | None = None

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
        )


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a pair that does not say otherwise is refined with; `make_request` tells what each may be."""

    scale: int = 4
    object_name: str = "object"
    seed: int = 0
    strength: float = 1.0


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
    return make_request(
        pair.reference,
        pair.generated,
        scale=defaults.scale if pair.scale is None else pair.scale,
        reference_mask=pair.reference_mask,
        generated_mask=pair.generated_mask,
        object_name=defaults.object_name if pair.object is None else pair.object,
        seed=defaults.seed if pair.seed is None else pair.seed,
        strength=defaults.strength if pair.strength is None else pair.strength,
    )


def check_outputs(entries: Iterable[Entry], folders: Folders) -> None:
    """Refuses a batch that could not write its results, or would overwrite one by another or a picture in use.

    Raises:
        InputError: a folder that may not be written, two pairs with the same output, report or stages, or an output
            that is an input of any pair.
    """
    for folder, called in ((folders.images, "output"), (folders.reports, "report"), (folders.stages, "stages")):
        if folder is not None:
            check_folder(folder, f"{called} folder", make_folders=True)
    pairs = [(entry.label, entry.pair) for entry in entries if isinstance(entry.pair, Pair)]
    owners: dict[Path, str] = {}
    for label, pair in pairs:
        destination = folders.destination(pair)
        for place in filter(None, (destination.image, destination.report, destination.stages)):
            owner = owners.setdefault(place.resolve(), label)
            if owner != label:
                raise InputError(
                    f"Two pairs, {owner} and {label}, both go to {str(place)!r}; give them different output names."
                )
    for label, pair in pairs:
        for path in pair.inputs:
            if path.resolve() in owners:
                owner = owners[path.resolve()]
                raise InputError(
                    f"The result of {owner} would overwrite {str(path)!r}, which {label} is made from; "
                    "choose another output folder."
                )


def run_batch(
    entries: list[Entry],
    folders: Folders,
    defaults: Defaults,
    engine: Engine,
    *,
    overwrite: bool,
    begin: Callable[[int, str], Progress],
    finished: Callable[[Path, Report], None],
) -> Outcome:
    """Refines every pair that has no result yet, and goes on past those that cannot be refined.

    Args:
        entries: the pairs; `check_outputs` has let them pass.
        folders: where the results go; missing folders are made.
        defaults: for what a pair leaves open.
        engine: refines all of them.
        overwrite: whether finished results are made anew.
        begin: called with the number, from 1, and label of each pair that begins; returns its progress.
        finished: called with the picture's path and the report after each result is written.

    Raises:
        OSError: a result cannot be written; what was finished before stays.
        EngineError, InputError: the engine cannot run here.
    """
    outcome = Outcome()
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry.pair, InputError):
            outcome.bad.append((entry.label, str(entry.pair)))
            continue
        destination = folders.destination(entry.pair)
        if destination.is_finished() and not overwrite:
            outcome.skipped += 1
            continue
        progress = begin(number, entry.label)
        # What fails here would fail for every pair.
        engine.prepare(progress)
        try:
            check_destination(destination, entry.pair.inputs, make_folders=True)
            result = engine.refine(request_for(entry.pair, defaults), progress)
            write_result(result, destination)
        except OSError:
            raise
        except Exception as error:  # whatever is wrong with one pair, the others are still to be refined
            outcome.bad.append((entry.label, sentence_about(error)))
            continue
        outcome.done += 1
        finished(destination.image, result.report)
    return outcome
