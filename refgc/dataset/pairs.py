"""Stage 1: from a source to pairs (HRRI, HRGT); paper, Section 4 and the upper half of Figure 2.

A run writes these into the dataset's folder:

    pairs.run.json        the source and the settings, so that a run goes on only with the same
    pairs.progress.jsonl  an object a line, with all that it gave; whole lines only
    pairs.jsonl           the pairs, sorted, written at the end
    rejections.jsonl      what was left out, sorted, likewise
    answers/              what the multimodal model said, by the content of the question
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
from typing import Any

from refgc import machine
from refgc.correspondence.learned import find_networks
from refgc.dataset.frames import Frame, read_frames
from refgc.dataset.language_model import (
    AnyAnswer,
    FoundModel,
    FrameScores,
    LanguageModel,
    PairScores,
    UnusableAnswerError,
    find_language_model,
)
from refgc.dataset.lock import only_run
from refgc.dataset.manifest import (
    PAIRS,
    REJECTIONS,
    ObjectView,
    Pair,
    Rejection,
    Row,
    Score,
    append_row,
    read_rows,
    write_rows,
)
from refgc.dataset.object_masks import FoundSam, ObjectMasker, find_masker, mask_frames
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import SourceObject, Video, find_objects, needed_bytes
from refgc.dataset.store import store_image, store_mask
from refgc.dataset.views import View, ViewPair, crop, find_pairs, find_views
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted, sentence_about
from refgc.imaging.files import MEGABYTE, write_whole
from refgc.imaging.journal import has_cut_line
from refgc.machine import BLAS_THREADS
from refgc.runner import Finished, WorkerEndedError, run
from refgc.settings import settings as environment

RUN, PROGRESS, ANSWERS = "pairs.run.json", "pairs.progress.jsonl", "answers"
MAKER = "refgc"


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
    """The work on one object.

    Attributes:
        output: the dataset's folder.
        settings: of the run.
        model: filters, names and captions; None goes without.
        masker: the model that makes masks, where the settings ask for one.
    """

    output: Path
    settings: PairSettings
    model: LanguageModel | None = None
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
            judge = None if self.model is None else partial(self._judged, self.model, item.name)
            pairs, more = find_pairs(views, self.settings, networks, judge)
            rejected += more
        if not pairs:
            rejected.append(Rejection(step="object", what=item.label, reason=_why_none(kept, views)))
        rows = sorted((self._row(pair, item, scores) for pair in pairs), key=lambda row: row.id)
        return ObjectOutcome(object=item.id, pairs=tuple(rows), rejections=tuple(sorted(rejected, key=_order)))

    def _filtered(
        self, frames: list[Frame], item: SourceObject, rejected: list[Rejection]
    ) -> tuple[list[Frame], SourceObject, dict[str, tuple[Score, ...]]]:
        """The frames that the multimodal model keeps, the object as it names it, and its scores by frame."""
        # One frame alone makes no pair.
        if self.model is None or len(frames) < 2:
            return frames, item, {}
        said = _asked(partial(self.model.describe, [frame.image for frame in frames]))
        if isinstance(said, str) or not said.keep:
            reason = said if isinstance(said, str) else said.reason
            rejected.append(Rejection(step="model", what=item.label, reason=reason))
            return [], item, {}
        scores: dict[str, tuple[Score, ...]] = {}
        for frame in frames:
            answer = _asked(partial(self.model.score_frame, frame.image, said.object_name))
            points = self._points(self.model, answer)
            if isinstance(points, str):
                rejected.append(Rejection(step="model", what=frame.name, reason=points))
            else:
                scores[frame.name] = points
        # What the source says of its own objects stays.
        category = said.category if item.category == "other" else item.category
        named = replace(item, name=said.object_name, category=category, caption=item.caption or said.caption)
        return [frame for frame in frames if frame.name in scores], named, scores

    def _judged(self, model: LanguageModel, object_name: str, pair: ViewPair) -> tuple[Score, ...] | str:
        """The model's scores of a pair's pictures, or why it is left out."""
        hrri = crop(pair.hrri.masked, self.settings.hrri_object, self.settings).image
        hrgt = crop(pair.hrgt.masked, self.settings.hrgt_object, self.settings).image
        return self._points(model, _asked(partial(model.score_pair, hrri, hrgt, object_name)))

    def _points(self, model: LanguageModel, answer: FrameScores | PairScores | str) -> tuple[Score, ...] | str:
        """The points of an answer, or why it has none or too few."""
        if isinstance(answer, str):
            return answer
        scores = model.scores_of(answer)
        least = min(scores, key=lambda score: score.value)
        if least.value < self.settings.least_points:
            return f"The model gives {least.name} {least.value:g} of 5 points: {answer.reason}"
        return scores

    def _row(self, pair: ViewPair, item: SourceObject, scores: Mapping[str, tuple[Score, ...]]) -> Pair:
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
            filtered_by=None if self.model is None else self.model.name,
            scores=(
                Score(name="log10 chance of the matches (less is better)", value=pair.log_chance, maker=MAKER),
                Score(name="outline overlap", value=pair.outline_overlap, maker=MAKER),
                *pair.scores,
            ),
        )

    def _view(self, view: View, object_size: float, scores: Mapping[str, tuple[Score, ...]]) -> ObjectView:
        masked = view.masked
        shown = crop(masked, object_size, self.settings)
        own = [Score(name="sharpness", value=view.sharpness, maker=MAKER)]
        if masked.quality is not None:
            own.append(Score(name="mask quality", value=masked.quality, maker=MAKER))
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
ONE_CHOICE = (
    "give --server or --model to filter and caption by a multimodal model, or --no-vlm to go without (server, model "
    "and no_vlm of the settings)."
)


def run_pairs(
    source: Path,
    output: Path,
    settings: PairSettings,
    *,
    captions: Path | None = None,
    tell: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> PairsSummary:
    """Make the pairs of a source, or go on with a run that was ended.

    Args:
        source: see `refgc.dataset.sources`.
        output: the dataset's folder; it is made.
        settings: of the run.
        captions: CSV or JSONL; None takes that of the source.
        tell: prints a line on what will be done.
        progress: called after each object.

    Raises:
        InputError: the source or its captions cannot be used, the settings choose no model or two ways, or the folder
            holds the pairs of another run, or another run is at work in it.
        EngineError: the weights of learned matching are not here, or a model is not reached or cannot run.
        OSError: the disk takes no more; what is done stays.
    """
    if find_networks() is None:
        raise EngineError(NO_NETWORKS)
    objects = find_objects(source, settings, captions)
    if output.resolve().is_relative_to(source.resolve()):
        raise InputError("The output lies inside the source, and would be read as a part of it; choose another folder.")
    model = _chosen_model(settings, output / ANSWERS)
    masker = _chosen_masker(settings, objects)
    described = _description(source, objects, settings, model, masker)
    output.mkdir(parents=True, exist_ok=True)
    with only_run(output):
        _check_run(output, described)
        journal = output / PROGRESS
        done = {outcome.object for outcome in read_rows(journal, ObjectOutcome)}
        waiting = [item for item in objects if item.id not in done]
        tell(_disk_line(needed_bytes(waiting, settings), output, len(waiting)))
        write_whole(output / RUN, described)
        finished = run(
            partial(_worker, output, settings, model, masker),
            waiting,
            runner=settings.runner,
            workers=settings.workers,
            gpus_per_worker=_gpus_per_worker(settings),
        )
        with closing(finished):
            for number, one in enumerate(finished, 1):
                append_row(journal, _outcome(one))
                progress(f"{number} of {len(waiting)} objects", number / len(waiting))
        return _written(output, PairsSummary(objects=len(objects), skipped=len(objects) - len(waiting)))


def _written(output: Path, summary: PairsSummary) -> PairsSummary:
    """Writes the manifest where it is not there yet or is cut off, and fills the numbers of pairs and rejections in."""
    everything = list(read_rows(output / PROGRESS, ObjectOutcome))
    rejections = sorted((row for outcome in everything for row in outcome.rejections), key=_order)
    summary.reasons = Counter(rejection.step for rejection in rejections)
    summary.pairs = sum(len(outcome.pairs) for outcome in everything)
    there = (output / PAIRS).exists()
    if not there:
        write_rows(output / REJECTIONS, rejections)
    # Later steps write into pairs, such as their split, so what is there stays.
    if not there or has_cut_line(output / PAIRS):
        pairs = {pair.id: pair for outcome in everything for pair in outcome.pairs}
        pairs |= {pair.id: pair for pair in read_rows(output / PAIRS, Pair)}
        write_rows(output / PAIRS, (pairs[key] for key in sorted(pairs)))
    return summary


def _chosen_model(settings: PairSettings, cache: Path) -> FoundModel | None:
    """The multimodal model, which is here or reached; None for `no_vlm`."""
    asks = settings.server is not None or settings.model is not None
    if asks and settings.no_vlm:
        raise InputError(f"Both a multimodal model and none are chosen: {ONE_CHOICE}")
    if not asks and not settings.no_vlm:
        raise InputError(f"It is not chosen who filters and captions: {ONE_CHOICE}")
    if not asks:
        return None
    return find_language_model(cache, server=settings.server, model=settings.model, max_pixels=settings.max_pixels)


def _chosen_masker(settings: PairSettings, objects: Sequence[SourceObject]) -> FoundSam | None:
    """The model that makes masks, which is here; None where the settings ask for none."""
    if settings.masks == "sam3-video" and not all(isinstance(item.material, Video) for item in objects):
        raise InputError("The masks sam3-video follow the object along a video, and the source has photos; take sam3.")
    return find_masker(settings.masks) if settings.masks in ("sam3", "sam3-video") else None


def _gpus_per_worker(settings: PairSettings) -> int:
    """GPUs of each worker: where nothing is said, one where workers hold a model and there is a GPU for it."""
    if settings.gpus_per_worker is not None:
        return settings.gpus_per_worker
    asks_model_here = settings.model is not None and settings.server is None
    holds_model = asks_model_here or settings.masks in ("sam3", "sam3-video")
    return int(holds_model and environment().device != "cpu" and bool(machine.find_gpus()))


def _worker(
    output: Path, settings: PairSettings, model: FoundModel | None, masker: FoundSam | None
) -> Callable[[SourceObject], ObjectOutcome]:
    """What a worker does, its models opened once; see `refgc.runner.run`."""
    language_model = None if model is None else model.open()
    object_masker = None if masker is None else masker.open()
    return partial(_safe, PairsWork(output, settings, language_model, object_masker))


def _asked(question: Callable[[], AnyAnswer]) -> AnyAnswer | str:
    """The model's answer, or why there is none to this question.

    Whatever else goes wrong would go wrong at the next question too, so it ends the run.

    Raises:
        EngineError: the model cannot be reached or run.
        OSError: the disk takes no more.
    """
    try:
        return question()
    except UnusableAnswerError as error:
        return str(error)
    except (EngineError, OSError):
        raise
    except Exception as error:
        raise EngineError(sentence_about(error)) from error


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
        return f"Frames of it that can be used: {len(frames)}; two are needed."
    if len(views) < 2:
        return f"Frames in which its object is clear: {len(views)}; two are needed."
    return "None of its frames make a pair."


def _description(
    source: Path,
    objects: Sequence[SourceObject],
    settings: PairSettings,
    model: FoundModel | None,
    masker: FoundSam | None,
) -> bytes:
    """What a run depends on beside the pictures themselves; the same for the same run."""
    words = [
        f"{item.id} {item.name} {item.category} {item.caption} {item.source.model_dump_json()}" for item in objects
    ]
    described = {
        "source": str(source.resolve()),
        "settings": settings.model_dump(mode="json", exclude=set(PairSettings.PLACES)),
        "model": None if model is None else model.name,
        "weights of the masks": None if masker is None else masker.name,
        "objects": hashlib.sha256("\n".join(words).encode(errors="surrogateescape")).hexdigest(),
    }
    return json.dumps(described, indent=1, sort_keys=True).encode() + b"\n"


def _check_run(output: Path, described: bytes) -> None:
    """Refuses a folder with the pairs of another run, whose rows would not be told apart."""
    try:
        before: Any = json.loads((output / RUN).read_bytes())
        if not isinstance(before, dict):
            raise ValueError("it is no JSON object")
    except FileNotFoundError:
        if (output / PAIRS).exists():
            raise InputError(
                f"{quoted(str(output))} holds pairs that were not made here; choose another folder."
            ) from None
        return
    except (OSError, ValueError) as error:
        # Pairs without this file are refused above.
        advice = "choose another folder" if (output / PAIRS).exists() else "delete it or choose another folder"
        raise InputError(f"{quoted(str(output / RUN))} cannot be read; {advice}.") from error
    now = json.loads(described)
    different = sorted(key for key in now if before.get(key) != now[key])
    there = before.get("settings")
    if "settings" in different and isinstance(there, dict):
        names = sorted(key for key, value in now["settings"].items() if there.get(key) != value)
        different[different.index("settings")] = f"settings ({', '.join(names)})"
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
