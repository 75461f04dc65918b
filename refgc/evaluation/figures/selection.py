"""Which scenes a figure shows: by their ids, or by the rank of a score, so that nobody picks by hand only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from refgc.errors import InputError, quoted
from refgc.evaluation.figures.columns import Column, has_results, method_columns
from refgc.evaluation.figures.scenes import choose_scenes, read_scenes
from refgc.evaluation.items import Item
from refgc.evaluation.results import Comparison, MetricNote, read_results
from refgc.metrics.metric import figure_name

Rank: TypeAlias = Literal["best", "median", "worst"]
RANKS: tuple[Rank, ...] = get_args(Rank)
# Scores by the id of a scene, then by the method, then by the name of the score.
Scores: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Score:
    """A score that chooses scenes and stands below pictures.

    Attributes:
        name: such as "psnr_inside".
        label: such as "PSNR inside".
        unit: such as "dB"; empty where it has none.
        digits: after the point.
        higher_is_better: whether a larger one is better.
    """

    name: str
    label: str
    unit: str
    digits: int
    higher_is_better: bool

    def text(self, value: float, *, signed: bool = False) -> str:
        """A value with its unit."""
        number = f"{value:+.{self.digits}f}" if signed else f"{value:.{self.digits}f}"
        return f"{number} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scene of a figure, and why it is in it.

    Attributes:
        item: the scene.
        reason: such as "best PSNR: 31.2 dB"; empty where somebody asked for it by its id.
    """

    item: Item
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """The scenes of a figure and what is known of them.

    Attributes:
        scenes: in the order in which they are shown.
        columns: the methods, likewise.
        scores: of all methods; empty without a comparison.
        score: the one that is shown; None without a comparison.
    """

    scenes: tuple[Chosen, ...]
    columns: tuple[Column, ...]
    scores: Scores
    score: Score | None


@dataclass(frozen=True, slots=True)
class Choice:
    """How scenes and methods are chosen.

    Attributes:
        methods: texts as for `refgc.evaluation.figures.columns.method_columns`.
        ids: of scenes, separated by commas; None for none in particular.
        evaluation: the folder that `refgc evaluate` wrote; needed to pick.
        pick: ranks, separated by commas; one that is named twice gives the next scene as well. None for none.
        metric: name of the score that decides, and that is shown.
        of: the label of the method whose score decides; None for the last of the methods.
        over: another method, whose score is taken away; None for none.
        unreviewed: take rows of a dataset as well that not enough people have looked at.
    """

    methods: tuple[str, ...] = ()
    ids: str | None = None
    evaluation: Path | None = None
    pick: str | None = None
    metric: str = "psnr"
    of: str | None = None
    over: str | None = None
    unreviewed: bool = False


def select(source: Path, choice: Choice) -> Selection:
    """The scenes that a figure shows: those of `ids`, then those that are picked; all where neither is given.

    Raises:
        InputError: scenes, methods or results cannot be read, an id, metric or method is not there, or nothing can be
            picked.
    """
    comparison = None if choice.evaluation is None else read_results(choice.evaluation)
    columns = method_columns(choice.methods, choice.evaluation, comparison)
    scenes = read_scenes(source, unreviewed=choice.unreviewed)
    chosen = [] if choice.ids is None else [Chosen(item) for item in choose_scenes(scenes, _parts(choice.ids))]
    score = None if comparison is None else _score(comparison, choice.metric)
    scores = {} if comparison is None else _scores(comparison)
    if choice.pick is not None:
        if comparison is None or score is None:
            raise InputError("Scenes are picked by a metric; give the folder of `refgc evaluate` as --evaluation.")
        there = {one.item.id for one in chosen}
        known = [one.label for one in comparison.head.methods]
        of = choice.of or next((one.label for one in reversed(columns) if one.label in known), known[-1])
        for label in filter(None, (of, choice.over)):
            if label not in known:
                raise InputError(
                    f"The comparison has no method {quoted(label)}; it has {', '.join(map(quoted, known))}."
                )
        open_ones = [item for item in scenes.items if item.id not in there and has_results(item, columns)]
        chosen += pick_scenes(open_ones, scores, _ranks(choice.pick), score, of, choice.over)
    if choice.ids is None and choice.pick is None:
        chosen = [Chosen(item) for item in scenes.items]
    return Selection(tuple(chosen), tuple(columns), scores, score)


def pick_scenes(
    items: Sequence[Item], scores: Scores, ranks: Sequence[Rank], score: Score, method: str, over: str | None = None
) -> list[Chosen]:
    """Scenes at fixed ranks of a score.

    Scenes that were not measured are left out. Equal scores are ordered by id. The median is the lower one of two. A
    rank that is asked for twice gives the scene next to it as well, and no scene is chosen twice.

    Args:
        items: to choose from.
        scores: of all methods.
        ranks: which are wanted, in this order.
        score: that decides.
        method: whose score it is.
        over: another method; then the difference of both decides.

    Raises:
        InputError: there are fewer scenes with such a score than ranks.
    """
    values: list[tuple[float, Item]] = []
    for item in items:
        own = scores.get(item.id, {})
        value = own.get(method, {}).get(score.name)
        base = own.get(over, {}).get(score.name) if over else 0.0
        if value is not None and base is not None:
            values.append((value - base, item))
    if len(values) < len(ranks):
        raise InputError(
            f"{len(values)} scenes have results of all methods and a {score.label} of {quoted(method)}, and "
            f"{len(ranks)} are to be picked; ask for fewer with --pick, or give the folder that was measured."
        )
    # From worst to best.
    values.sort(key=lambda one: (one[0] if score.higher_is_better else -one[0], one[1].id))
    chosen: list[Chosen] = []
    free = set(range(len(values)))
    for rank in ranks:
        wanted = {"best": len(values) - 1, "median": (len(values) - 1) // 2, "worst": 0}[rank]
        at = min(free, key=lambda place: (abs(place - wanted), place))
        free.remove(at)
        value, item = values[at]
        said = score.text(value, signed=over is not None) + (f" over {over}" if over else "")
        chosen.append(Chosen(item, f"{rank} {score.label}: {said}"))
    return chosen


def _score(comparison: Comparison, name: str) -> Score:
    by_name = {
        figure_name(metric.name, region): _named(metric, region)
        for metric in comparison.head.metrics
        for region in metric.regions
    }
    if name not in by_name:
        raise InputError(f"The comparison has no metric {quoted(name)}; it has {', '.join(by_name)}.")
    return by_name[name]


def _named(metric: MetricNote, region: Literal["whole", "inside", "outside"]) -> Score:
    label = metric.label if region == "whole" else f"{metric.label} {region}"
    return Score(figure_name(metric.name, region), label, metric.unit, metric.digits, metric.higher_is_better)


def _scores(comparison: Comparison) -> Scores:
    scores: dict[str, dict[str, Mapping[str, float]]] = {}
    for result in comparison.results:
        scores.setdefault(result.id, {})[result.method] = result.scores
    return scores


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _ranks(text: str) -> list[Rank]:
    ranks = _parts(text)
    for rank in ranks or [text]:
        if rank not in RANKS:
            raise InputError(f"{quoted(rank)} is no rank; pick among {', '.join(RANKS[:-1])} and {RANKS[-1]}.")
    return cast("list[Rank]", ranks)
