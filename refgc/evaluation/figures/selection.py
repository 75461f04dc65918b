"""Which scenes a figure shows: by their ids, or by the rank of a score, so that nobody picks by hand only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from refgc.errors import InputError, quoted
from refgc.evaluation.figures.results import Method
from refgc.evaluation.figures.scenes import Scene, choose_scenes, read_scenes
from refgc.imaging.journal import read_lines

Rank: TypeAlias = Literal["best", "median", "worst"]
RANKS: tuple[Rank, ...] = get_args(Rank)
# Names of metrics whose lower values are better, without the region that may follow; and digits after the point.
LOWER_IS_BETTER = frozenset({"flip", "lpips"})
DIGITS = {"psnr": 2, "inliers": 0}
USUAL_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scene of a figure, and why it is in it.

    Attributes:
        scene: which.
        reason: such as "best, PSNR 31.2"; empty where somebody asked for it by its id.
    """

    scene: Scene
    reason: str = ""


# Scores by the id of a scene, then by the method, then by the name of the score.
Scores: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The scenes of a figure and what is known of them.

    Attributes:
        scenes: in the order in which they are shown.
        scores: of all methods; empty where no results were given.
        metric: the name of the score that is shown; None where no results were given.
        digits: after the point of it.
    """

    scenes: tuple[Chosen, ...]
    scores: Scores
    metric: str | None
    digits: int


def select(
    folder: Path,
    methods: Sequence[Method],
    *,
    ids: str | None = None,
    results: Path | None = None,
    pick: str | None = None,
    metric: str = "psnr",
    of: str | None = None,
    over: str | None = None,
    unreviewed: bool = False,
) -> Selection:
    """The scenes that a figure shows: those of `ids`, those that `pick` finds, both, or all.

    Args:
        folder: as for `read_scenes`.
        methods: the columns.
        ids: of scenes, separated by commas.
        results: the file that `refgc evaluate` writes; needed to pick.
        pick: ranks, separated by commas.
        metric: that decides; "lpips" and "flip" are better where they are lower, all others where they are higher.
        of: whose metric decides, as the results call it; None for the last of `methods`.
        over: another method, whose metric is taken away; None for none.
        unreviewed: take rows of a dataset as well that not enough people have looked at.

    Raises:
        InputError: as for `read_scenes`, `choose_scenes`, `read_scores` and `pick_scenes`; or `pick` is no list of
            ranks, or has no results to pick by.
    """
    scenes = read_scenes(folder, unreviewed=unreviewed)
    scores = {} if results is None else read_scores(results)
    for label in [method.label for method in methods] if scores else []:
        _check_method(scores, label)
    chosen = [Chosen(scene) for scene in choose_scenes(scenes, _parts(ids))] if ids is not None else []
    if pick is not None:
        if results is None:
            raise InputError("Scenes are picked by a metric of the results; give --results as well.")
        there = {one.scene.id for one in chosen}
        chosen += pick_scenes(
            [scene for scene in scenes if scene.id not in there],
            scores,
            _ranks(pick),
            metric=metric,
            method=of or methods[-1].label,
            over=over,
            higher_is_better=_base_name(metric) not in LOWER_IS_BETTER,
        )
    if ids is None and pick is None:
        chosen = [Chosen(scene) for scene in scenes]
    shown = None if results is None else metric
    return Selection(tuple(chosen), scores, shown, DIGITS.get(_base_name(metric), USUAL_DIGITS))


def read_scores(file: Path) -> Scores:
    """The scores in a file of JSON lines, as `refgc evaluate` writes them: {"id", "method", "scores": {name: value}}.

    A later line replaces an earlier one of the same id and method. What was not measured is left out.

    Raises:
        InputError: there is no such file, or a line of it is something else.
    """
    if not file.is_file():
        raise InputError(f"There are no results in {quoted(str(file))}; `refgc evaluate` writes them.")
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for number, line in enumerate(read_lines(file), 1):
        row, method, values = line.get("id"), line.get("method"), line.get("scores")
        if not isinstance(row, str) or not isinstance(method, str) or not isinstance(values, dict | None):
            raise InputError(
                f"Row {number} of {quoted(str(file))} has no id, method and scores; give what `refgc evaluate` wrote."
            )
        scores.setdefault(row, {})[method] = {
            name: float(value)
            for name, value in (values or {}).items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
    return scores


def pick_scenes(
    scenes: Sequence[Scene],
    scores: Scores,
    ranks: Sequence[Rank],
    *,
    metric: str,
    method: str,
    over: str | None = None,
    higher_is_better: bool,
) -> list[Chosen]:
    """Scenes at fixed ranks of a score, so that nobody picks them by hand.

    Scenes that were not measured are left out. Equal scores are ordered by id. The median is the lower one of two. A rank that is
    asked for twice gives the next scene as well.

    Args:
        scenes: to choose from.
        scores: of all methods.
        ranks: which are wanted, in this order; none is chosen twice.
        metric: name of the score.
        method: whose score it is.
        over: another method; then the difference of both decides.
        higher_is_better: of the metric.

    Raises:
        InputError: no scene has such a score, or there are fewer scenes than ranks.
    """
    values: list[tuple[float, Scene]] = []
    for scene in scenes:
        own = scores.get(scene.id, {})
        value, base = own.get(method, {}).get(metric), own.get(over, {}).get(metric) if over else 0.0
        if value is not None and base is not None:
            values.append((value - base, scene))
    if not values:
        raise InputError(_nothing_measured(scores, metric, method, over))
    if len(values) < len(ranks):
        raise InputError(
            f"Only {len(values)} scenes have a {metric} of {quoted(method)}, fewer than the {len(ranks)} rows that are "
            "to be chosen; ask for fewer with --pick."
        )
    # From worst to best.
    values.sort(key=lambda one: (one[0] if higher_is_better else -one[0], one[1].id))
    chosen: list[Chosen] = []
    free = set(range(len(values)))
    for rank in ranks:
        wanted = {"best": len(values) - 1, "median": (len(values) - 1) // 2, "worst": 0}[rank]
        at = min(free, key=lambda place: (abs(place - wanted), place))
        free.remove(at)
        value, scene = values[at]
        said = f"{value:+.3g} over {over}" if over else f"{value:.4g}"
        chosen.append(Chosen(scene, f"{rank} {metric}: {said}"))
    return chosen


def _nothing_measured(scores: Scores, metric: str, method: str, over: str | None) -> str:
    for one in (method, over):
        if one is not None:
            _check_method(scores, one)
    metrics = sorted({name for row in scores.values() for values in row.values() for name in values})
    if metric not in metrics:
        return f"The results have no metric {quoted(metric)}; they have {', '.join(metrics)}."
    return f"No scene of the folder has a {metric} of {quoted(method)}; give the results of these scenes."


def _check_method(scores: Scores, label: str) -> None:
    """Refuses a label that the results do not know, since its scores would be left out without a word."""
    methods = sorted({name for row in scores.values() for name in row})
    if label not in methods:
        raise InputError(
            f"The results have no method {quoted(label)}; call it as they do: {', '.join(map(quoted, methods))}."
        )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _ranks(text: str) -> list[Rank]:
    ranks = _parts(text)
    for rank in ranks:
        if rank not in RANKS:
            raise InputError(f"{quoted(rank)} is no rank; pick among {', '.join(RANKS[:-1])} and {RANKS[-1]}.")
    if not ranks:
        raise InputError(f"--pick names no rank; pick among {', '.join(RANKS[:-1])} and {RANKS[-1]}.")
    return cast("list[Rank]", ranks)


def _base_name(metric: str) -> str:
    """A metric's name without its region."""
    return metric.removesuffix("_inside").removesuffix("_outside")
