"""Stage 1: from a source to pairs (HRRI, HRGT); paper, Section 4 and the upper half of Figure 2.

A run writes these into the dataset's folder:

    pairs.run.json        the source and the settings, so that a run goes on only with the same
    pairs.progress.jsonl  an object a line, with all that it gave; whole lines only
    pairs.jsonl           the pairs, sorted, written at the end
    rejections.jsonl      what was left out, sorted, likewise
    files/                pictures and masks, by their content

An object is done when its line is there. A run that was ended at any moment repeats at most the objects that were under
way, and leaves the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from refgc.correspondence.learned import find_networks
from refgc.dataset.frames import Frame, read_frames
from refgc.dataset.manifest import (
    PAIRS,
    REJECTIONS,
    Category,
    ObjectView,
    Pair,
    Rejection,
    Row,
    Score,
    append_row,
    read_rows,
    write_rows,
)
from refgc.dataset.object_masks import ObjectMasker, mask_frames
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import SourceObject, find_objects, needed_bytes
from refgc.dataset.store import store_image, store_mask
from refgc.dataset.views import View, ViewPair, crop, find_pairs, find_views
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted, sentence_about
from refgc.imaging.files import MEGABYTE, write_whole
from refgc.imaging.image import Image
from refgc.machine import BLAS_THREADS
from refgc.runner import Finished, RunnerName, WorkerEndedError, run

RUN, PROGRESS = "pairs.run.json", "pairs.progress.jsonl"
MAKER = "refgc"


class Description(Protocol):
    """What a multimodal model says of an object's frames."""

    object_name: str
    category: Category
    caption: str
    keep: bool
    reason: str


class FrameFilter(Protocol):
    """A multimodal model that filters, names and captions; picklable, since each process has one."""

    @property
    def name(self) -> str:
        """Of the model, as rows name it."""
        ...

    def describe(self, frames: Sequence[Image]) -> Description:
        """The object that the frames show; `keep` is false, with a reason, where they are of no use."""
        ...

    def score_frame(self, frame: Image, object_name: str) -> Sequence[Score]:
        """Scores of one frame; none where it is of no use."""
        ...


class ObjectOutcome(Row):
    """All that one object gave: a line of the progress file.

    Attributes:
        object: id of the object.
        pairs: its pairs, sorted.
        rejections: what was left out of it.
    """

    object: str
    pairs: tuple[Pair, ...] = ()
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class PairsWork:
    """The work on one object, for a process of its own.

    Attributes:
        output: the dataset's folder.
        settings: of the run.
        frame_filter: the multimodal model, or None.
        masker: the model that makes masks, or None for the weight-free segmenter.
    """

    output: Path
    settings: PairSettings
    frame_filter: FrameFilter | None = None
    masker: ObjectMasker | None = None

    def __call__(self, item: SourceObject) -> ObjectOutcome:
        """The pairs of an object; their pictures are on the disk when this returns.

        Raises:
            OSError: the disk takes no more.
            EngineError: learned matching or a model cannot run.
        """
        networks = find_networks()
        if networks is None:
            raise EngineError(NO_NETWORKS)
        with BLAS_THREADS.one():
            frames = read_frames(item, self.settings)
            rejected = frames.rejected
            kept, item, scores = self._filtered(frames.kept, item, rejected)
            masked, more = mask_frames(kept, item.name, self.settings, networks, self.masker)
            rejected += more
            views, more = find_views(masked, self.settings, networks)
            rejected += more
            pairs, more = find_pairs(views, self.settings, networks)
            rejected += more
        if not pairs:
            rejected.append(Rejection(step="object", what=item.label, reason=_why_none(kept, views)))
        rows = sorted((self._row(pair, item, scores) for pair in pairs), key=lambda row: row.id)
        return ObjectOutcome(object=item.id, pairs=tuple(rows), rejections=tuple(sorted(rejected, key=_order)))

    def _filtered(
        self, frames: list[Frame], item: SourceObject, rejected: list[Rejection]
    ) -> tuple[list[Frame], SourceObject, dict[str, Sequence[Score]]]:
        """The frames that the multimodal model keeps, the object as it names it, and its scores by frame."""
        if self.frame_filter is None or not frames:
            return frames, item, {}
        said = self.frame_filter.describe([frame.image for frame in frames])
        if not said.keep:
            rejected.append(Rejection(step="model", what=item.label, reason=said.reason))
            return [], item, {}
        scores = {frame.name: self.frame_filter.score_frame(frame.image, said.object_name) for frame in frames}
        kept = [frame for frame in frames if scores[frame.name]]
        rejected.extend(
            Rejection(step="model", what=frame.name, reason="The model finds the frame of no use.")
            for frame in frames
            if not scores[frame.name]
        )
        # What the source says of its own objects stays.
        category = said.category if item.category == "other" else item.category
        named = replace(item, name=said.object_name, category=category, caption=item.caption or said.caption)
        return kept, named, scores

    def _row(self, pair: ViewPair, item: SourceObject, scores: Mapping[str, Sequence[Score]]) -> Pair:
        names = f"{pair.hrri.name}\n{pair.hrgt.name}"
        return Pair(
            id=f"{item.id}.{hashlib.sha256(names.encode(errors='surrogateescape')).hexdigest()[:8]}",
            object_id=item.id,
            object_name=item.name,
            category=item.category,
            caption=item.caption,
            source=item.source,
            hrri=self._view(pair.hrri, self.settings.hrri_object, scores),
            hrgt=self._view(pair.hrgt, self.settings.hrgt_object, scores),
            change=pair.change,
            filtered_by=None if self.frame_filter is None else self.frame_filter.name,
            scores=(
                Score(name="log10 chance of the matches (less is better)", value=pair.log_chance, maker=MAKER),
                Score(name="outline overlap", value=pair.outline_overlap, maker=MAKER),
            ),
        )

    def _view(self, view: View, object_size: float, scores: Mapping[str, Sequence[Score]]) -> ObjectView:
        masked = view.masked
        shown = crop(masked, object_size, self.settings)
        own = (
            Score(name="sharpness", value=view.sharpness, maker=MAKER),
            Score(name="mask quality", value=masked.quality, maker=MAKER),
        )
        region = shown.region
        return ObjectView(
            picture=store_image(self.output, shown.image),
            mask=store_mask(self.output, shown.mask),
            mask_maker=masked.maker,
            frame=masked.frame.label,
            seconds=masked.frame.seconds,
            crop=(region.left, region.top, region.right, region.bottom),
            enlargement=shown.enlargement,
            object_share=shown.object_share,
            pose=masked.frame.pose,
            scores=(*own, *scores.get(view.name, ())),
        )


@dataclass(slots=True)
class PairsSummary:
    """How a run ended.

    Attributes:
        objects: how many the source has.
        skipped: how many were done by an earlier run.
        pairs: how many pairs there are now.
        reasons: how often each step rejected something.
    """

    objects: int = 0
    skipped: int = 0
    pairs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


NO_NETWORKS = "Pairs are found by learned matching, and its weights are not here; run `refgc setup` once."


def run_pairs(
    source: Path,
    output: Path,
    settings: PairSettings,
    *,
    captions: Path | None = None,
    frame_filter: FrameFilter | None = None,
    masker: ObjectMasker | None = None,
    runner: RunnerName = "local",
    workers: int | None = None,
    tell: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> PairsSummary:
    """Make the pairs of a source, or go on with a run that was ended.

    Args:
        source: see `refgc.dataset.sources`.
        output: the dataset's folder; it is made.
        settings: of the run.
        captions: CSV or JSONL; None takes that of the source.
        frame_filter: the multimodal model; None is `--no-vlm`.
        masker: makes masks; None takes the weight-free segmenter.
        runner: see `refgc.runner.run`.
        workers: see there.
        tell: prints a line on what will be done.
        progress: called after each object.

    Raises:
        InputError: the source, its captions or the number of workers cannot be used, or the folder holds the pairs of
            another run.
        EngineError: the weights of learned matching are not here, or a model cannot run.
        OSError: the disk takes no more; what is done stays.
    """
    if find_networks() is None:
        raise EngineError(NO_NETWORKS)
    objects = find_objects(source, settings, captions)
    if output.resolve().is_relative_to(source.resolve()):
        raise InputError("The output lies inside the source, and would be read as a part of it; choose another folder.")
    described = _description(source, objects, settings, frame_filter, masker)
    _check_run(output, described)
    journal = output / PROGRESS
    done = {outcome.object for outcome in read_rows(journal, ObjectOutcome)}
    waiting = [item for item in objects if item.id not in done]
    tell(_disk_line(needed_bytes(waiting, settings), output, len(waiting)))
    summary = PairsSummary(objects=len(objects), skipped=len(objects) - len(waiting))
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / RUN, described)
    work = PairsWork(output, settings, frame_filter, masker)
    with closing(run(partial(_worker, work), waiting, runner=runner, workers=workers)) as finished:
        for number, one in enumerate(finished, 1):
            append_row(journal, _outcome(one))
            progress(f"{number} of {len(waiting)} objects", number / len(waiting))
    everything = list(read_rows(journal, ObjectOutcome))
    rejections = sorted((row for outcome in everything for row in outcome.rejections), key=_order)
    summary.reasons = Counter(rejection.step for rejection in rejections)
    summary.pairs = sum(len(outcome.pairs) for outcome in everything)
    # Later steps write into pairs, such as their split, so what is there stays.
    if not (output / PAIRS).exists():
        write_rows(output / REJECTIONS, rejections)
        pairs = {pair.id: pair for outcome in everything for pair in outcome.pairs}
        write_rows(output / PAIRS, (pairs[key] for key in sorted(pairs)))
    return summary


def _worker(work: PairsWork) -> Callable[[SourceObject], ObjectOutcome]:
    """What a worker does; see `refgc.runner.run`."""
    return partial(_safe, work)


def _outcome(one: Finished[SourceObject, ObjectOutcome]) -> ObjectOutcome:
    """What an object gave. One that ends worker after worker is left out; any other error ends the run."""
    if isinstance(one.error, WorkerEndedError):
        rejection = Rejection(step="object", what=one.item.label, reason=str(one.error))
        return ObjectOutcome(object=one.item.id, rejections=(rejection,))
    if one.error is not None:
        raise one.error
    assert one.outcome is not None, "either is set"
    return one.outcome


def _safe(work: PairsWork, item: SourceObject) -> ObjectOutcome:
    """The outcome of an object; what is wrong with one object stops no other."""
    try:
        return work(item)
    except (OSError, EngineError):  # the disk or a model: the next object would meet the same
        raise
    except Exception as error:
        rejection = Rejection(step="object", what=item.label, reason=sentence_about(error))
        return ObjectOutcome(object=item.id, rejections=(rejection,))


def _order(rejection: Rejection) -> tuple[str, str, str]:
    return rejection.what, rejection.step, rejection.reason


def _why_none(frames: Sequence[Frame], views: Sequence[View]) -> str:
    if len(frames) < 2:
        return f"It has {len(frames)} frames that can be used; two are needed."
    if len(views) < 2:
        return f"Its object is clear in {len(views)} frames; two are needed."
    return "None of its frames make a pair."


def _description(
    source: Path,
    objects: Sequence[SourceObject],
    settings: PairSettings,
    frame_filter: FrameFilter | None,
    masker: ObjectMasker | None,
) -> bytes:
    """What a run depends on beside the pictures themselves; the same for the same run."""
    words = [
        f"{item.id} {item.name} {item.category} {item.caption} {item.source.model_dump_json()}" for item in objects
    ]
    described = {
        "source": str(source.resolve()),
        "settings": settings.model_dump(mode="json"),
        "filter": None if frame_filter is None else frame_filter.name,
        "masks": None if masker is None else masker.maker,
        "objects": hashlib.sha256("\n".join(words).encode(errors="surrogateescape")).hexdigest(),
    }
    return json.dumps(described, indent=1, sort_keys=True).encode() + b"\n"


def _check_run(output: Path, described: bytes) -> None:
    """Refuses a folder with the pairs of another run, whose rows would not be told apart."""
    try:
        before: dict[str, Any] = json.loads((output / RUN).read_bytes())
    except FileNotFoundError:
        if (output / PAIRS).exists():
            raise InputError(
                f"{quoted(str(output))} holds pairs that were not made here; choose another folder."
            ) from None
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{quoted(str(output / RUN))} cannot be read; delete it or choose another folder.") from error
    now = json.loads(described)
    different = sorted(key for key in now if before.get(key) != now[key])
    if different:
        raise InputError(
            f"{quoted(str(output))} was begun with other {' and '.join(different)}; give the same again, or choose "
            "another folder."
        )


def _disk_line(needed: int, output: Path, objects: int) -> str:
    """The disk that a run needs, and what there is."""
    place = next(folder for folder in (output, *output.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    return (
        f"{objects} objects to do; their pictures take up to {needed / MEGABYTE:,.0f} MB, and "
        f"{free / MEGABYTE:,.0f} MB are free."
    )
