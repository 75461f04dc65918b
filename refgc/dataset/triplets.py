"""Stage 2: from pairs to triplets. LRGIs are drawn for each pair, and those in another pose than the HRGT are left out.

Each row is written as soon as it is there, so that a run can be killed at any moment and goes on where it was. When all
are there the file is sorted, so that its bytes do not depend on how often the run was killed, nor on the workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refgc.dataset.corrections import read_pairs
from refgc.dataset.lock import only_run
from refgc.dataset.lrgi import DipRefGC, DrawnLrgi, LrgiSource, PairPictures
from refgc.dataset.manifest import (
    REJECTIONS,
    TRIPLETS,
    Pair,
    Rejection,
    Score,
    Triplet,
    append_row,
    read_rows,
    write_rows,
)
from refgc.dataset.pose import outline_overlap
from refgc.dataset.settings import TripletSettings
from refgc.dataset.store import load_image, load_mask, store_image
from refgc.dataset.verdicts import read_decisions
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.masks import Segmenter, choose_segmenter
from refgc.runner import WorkerEndedError, run

# Where so many LRGIs fail one after the other, the generator is at fault and not the pairs. Chosen by hand.
MOST_FAILURES = 10
# Steps at which a triplet may be left out: its pose is final, a failure is tried again by the next run.
POSE, GENERATOR = "pose", "generator"
OVERLAP = "outline overlap"
SIMULATED_OUTLINE = "by construction"


@dataclass(slots=True)
class TripletCount:
    """How a run ended.

    Attributes:
        made: triplets of this run.
        earlier: triplets and misfits that were there before.
        misfits: left out for their pose.
        failures: that the generator could not draw; the next run tries them again.
        not_accepted: pairs that were left out by their verdict.
    """

    made: int = 0
    earlier: int = 0
    misfits: int = 0
    failures: int = 0
    not_accepted: int = 0


@dataclass(frozen=True, slots=True)
class LrgiOrder:
    """One LRGI to be drawn.

    Attributes:
        id: of the triplet.
        pair: that it is for.
        seed: of everything random.
    """

    id: str
    pair: Pair
    seed: int


def run_triplets(
    root: Path, source: LrgiSource, settings: TripletSettings, progress: Progress = no_progress
) -> TripletCount:
    """Make the triplets of a dataset that are not there yet.

    Args:
        root: the dataset's folder, with `pairs.jsonl`.
        source: of the LRGIs; see `refgc.dataset.lrgi.chosen_source`.
        settings: how.
        progress: told of each LRGI.

    Raises:
        InputError: there are no pairs to take, an option of the source cannot be used, a file of the manifest is
            damaged, or another run is at work in the folder.
        EngineError: the generator cannot run here, or failed `MOST_FAILURES` times one after the other.
        OSError: the disk is full. What was written before stays, and the next run goes on there.
    """
    source.check()
    with only_run(root):
        taken, not_accepted = pairs_taken(root, unreviewed=settings.unreviewed)
        orders = [order for pair in taken for order in orders_of(pair, source, settings.seeds)]
        count = TripletCount(not_accepted=not_accepted)
        waiting = _waiting(root, orders)
        count.earlier = len(orders) - len(waiting)
        _draw_all(root, source, settings, waiting, count, progress)
        _sort(root)
    progress("done", 1.0)
    return count


def pairs_taken(root: Path, *, unreviewed: bool, choice: str = "--unreviewed") -> tuple[list[Pair], int]:
    """The pairs of a dataset that triplets are made of, with their mended masks, and how many others there are.

    Args:
        root: the dataset's folder.
        unreviewed: see `TripletSettings`.
        choice: how whoever asked chooses that.

    Raises:
        InputError: there is none.
    """
    pairs = {pair.id: pair for pair in read_pairs(root)}
    if not pairs:
        raise InputError(f"{quoted(str(root))} holds no pairs; make some by `refgc dataset pairs`.")
    decisions = read_decisions(root)
    taken = []
    for pair in pairs.values():
        decision = decisions.get(pair.id, "unreviewed")
        if decision == "accepted" or (decision == "unreviewed" and (unreviewed or pair.filtered_by is None)):
            taken.append(pair)
    if not taken:
        raise InputError(
            f"None of the {len(pairs)} pairs is accepted; review them by `refgc dataset review`, or add {choice}."
        )
    return taken, len(pairs) - len(taken)


def orders_of(pair: Pair, source: LrgiSource, seeds: int) -> Iterator[LrgiOrder]:
    """The LRGIs of a pair. Ids tell pair, generator and number; seeds are drawn from the pair and the number."""
    for number in range(seeds):
        seed = int.from_bytes(hashlib.sha256(f"{pair.id}/{number}".encode()).digest()[:4], "big") >> 1
        # An id has room for 120 characters.
        end = f"-{source.name}-{source.task}-{number}"
        start = pair.id if len(pair.id) + len(end) <= 120 else hashlib.sha256(pair.id.encode()).hexdigest()[:32]
        yield LrgiOrder(start + end, pair, seed)


class TripletWork:
    """What a worker does: draws an LRGI, checks its pose, and keeps it in the dataset's files."""

    def __init__(self, root: Path, source: LrgiSource, least_overlap: float) -> None:
        """Loads the generator.

        Args:
            root: the dataset's folder.
            source: of the LRGIs.
            least_overlap: see `TripletSettings`.
        """
        self._root = root
        self._maker = source.open()
        self._least_overlap = least_overlap
        self._segmenter: Segmenter | None = None

    def __call__(self, order: LrgiOrder) -> Triplet | Rejection:
        """The triplet, its files written, or why it was left out for its pose.

        Raises:
            InputError: a file of the pair is damaged, or this LRGI cannot be drawn.
            EngineError: none can be drawn.
            OSError: the disk is full.
        """
        pictures = load_pictures(self._root, order.pair)
        drawn = self._maker.draw(order.pair, pictures, order.seed)
        scores: tuple[Score, ...] = ()
        if drawn.made.task != "customisation":
            score = self._pose(order.pair, pictures, drawn)
            if isinstance(score, str):
                return Rejection(step=POSE, what=order.id, reason=score)
            scores = (score,)
        return Triplet(
            id=order.id,
            pair=order.pair.id,
            lrgi=store_image(self._root, drawn.picture),
            lrgi_panel=None if drawn.panel is None else store_image(self._root, drawn.panel),
            made=drawn.made,
            scores=scores,
        )

    def _pose(self, pair: Pair, pictures: PairPictures, drawn: DrawnLrgi) -> Score | str:
        """The overlap of the outlines, or a sentence that says why the LRGI is left out."""
        if drawn.outline_is_known:
            return Score(name=OVERLAP, value=1.0, maker=SIMULATED_OUTLINE)
        picture = drawn.panel or drawn.picture
        self._segmenter = self._segmenter or choose_segmenter()
        try:
            overlap = outline_overlap(picture, pictures.hrgt_mask, pair.object_name, self._segmenter)
        except InputError as error:
            return f"The object is not found in the LRGI: {error}"
        if overlap < self._least_overlap:
            return f"The outline overlaps the HRGT's by {overlap:.3f}, less than {self._least_overlap:g}."
        return Score(name=OVERLAP, value=round(overlap, 3), maker=self._segmenter.name)


def load_pictures(root: Path, pair: Pair) -> PairPictures:
    """The pictures of a pair.

    Raises:
        InputError: one is missing or damaged, or a mask is of another size than its picture.
    """
    for view in (pair.hrri, pair.hrgt):
        if (view.mask.width, view.mask.height) != (view.picture.width, view.picture.height):
            raise InputError(f"A mask of the pair {quoted(pair.id)} is of another size than its picture.")
    return PairPictures(
        hrri=load_image(root, pair.hrri.picture),
        hrri_mask=load_mask(root, pair.hrri.mask),
        hrgt=load_image(root, pair.hrgt.picture),
        hrgt_mask=load_mask(root, pair.hrgt.mask),
    )


def _draw_all(
    root: Path,
    source: LrgiSource,
    settings: TripletSettings,
    waiting: list[LrgiOrder],
    count: TripletCount,
    progress: Progress,
) -> None:
    if not waiting:
        return
    failures_in_a_row = 0
    work = partial(TripletWork, root, source, settings.least_overlap)
    progress(f"0 of {len(waiting)} triplets", 0.0)
    gpus = int(isinstance(source, DipRefGC)) if settings.gpus_per_worker is None else settings.gpus_per_worker
    finished = run(work, waiting, runner=settings.runner, workers=settings.workers, gpus_per_worker=gpus)
    with closing(finished):
        for number, one in enumerate(finished, 1):
            failure = isinstance(one.error, InputError | WorkerEndedError)
            if one.error is not None and not failure:
                raise one.error
            failures_in_a_row = failures_in_a_row + 1 if failure else 0
            match one.outcome:
                case Triplet() as triplet:
                    append_row(root / TRIPLETS, triplet)
                    count.made += 1
                case Rejection() as rejection:
                    append_row(root / REJECTIONS, rejection)
                    count.misfits += 1
                case None:
                    reason = str(one.error)
                    append_row(root / REJECTIONS, Rejection(step=GENERATOR, what=one.item.id, reason=reason))
                    count.failures += 1
                    if failures_in_a_row >= MOST_FAILURES:
                        raise EngineError(
                            f"{MOST_FAILURES} LRGIs failed one after the other, so look at the generator; the last: "
                            f"{reason}"
                        ) from one.error
            progress(f"{number} of {len(waiting)} triplets", number / len(waiting))


def _waiting(root: Path, orders: Iterable[LrgiOrder]) -> list[LrgiOrder]:
    """Orders that are to be drawn now. Those that failed before are, and their rejections go."""
    done = {triplet.id for triplet in read_rows(root / TRIPLETS, Triplet)}
    rejections = list(read_rows(root / REJECTIONS, Rejection))
    done |= {rejection.what for rejection in rejections if rejection.step == POSE}
    waiting = [order for order in orders if order.id not in done]
    again = {order.id for order in waiting}
    kept = [one for one in rejections if not (one.step == GENERATOR and one.what in again)]
    if len(kept) < len(rejections):
        write_rows(root / REJECTIONS, kept)
    return waiting


def _sort(root: Path) -> None:
    """Puts triplets, and rejections of this stage after all others, into the order of their ids."""
    triplets = list(read_rows(root / TRIPLETS, Triplet))
    rejections = list(read_rows(root / REJECTIONS, Rejection))
    earlier = [one for one in rejections if one.step not in (POSE, GENERATOR)]
    ours = sorted((one for one in rejections if one.step in (POSE, GENERATOR)), key=lambda one: one.what)
    in_order = sorted(triplets, key=lambda triplet: triplet.id)
    if in_order != triplets:
        write_rows(root / TRIPLETS, in_order)
    if [*earlier, *ours] != rejections:
        write_rows(root / REJECTIONS, [*earlier, *ours])
