"""Pairs of views by geometry: the same side of an object, seen from another view, and the crops that show it.

Learned matches inside both masks tell how much of one view's object the other shows, and how differently. Two photos
that match no better than chance give no pair, so that an object without texture gives none rather than wrong ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, pairwise
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.learned import Networks
from refgc.dataset.corrections import object_share
from refgc.dataset.frames import object_sharpness
from refgc.dataset.manifest import Rejection, Score, ViewChange
from refgc.dataset.matching import Agreeing, Keypoints, find_agreeing, find_keypoints
from refgc.dataset.object_masks import SOURCE, MaskedFrame
from refgc.dataset.settings import PairSettings
from refgc.imaging.arrays import Bytes, Floats, resized
from refgc.imaging.image import Image, Mask
from refgc.imaging.region import Region
from refgc.masks import morphology

# The constants of this file were chosen by hand, not fitted.
# Margin around the object's box in which keypoints are found, in parts of its longer side.
MARGIN = 0.05
# Overlap is counted in cells with sides of this share of the object's longer side. A cell is seen where a match lies in
# it or in a neighbour.
CELL = 1 / 16
# Longer side in pixels of the object, and the margin around it in such sides, where two outlines are compared.
OUTLINE_SIDE, OUTLINE_MARGIN = 192, 0.5
# The fewest matches that a similarity is fitted to.
LEAST_FOR_SIMILARITY = 3
# Where the matches move by less than the first, in parts of the object's side, the view is nearly the same, and at
# least the second share of the object must match. A lid or a border that looks the same from all sides matches in views
# of other sides, and does not move. Fitted on a rendered turntable (benchmarks/turntables.py): there such matches moved
# by up to 0.011, and up to 0.86 of the object matched.
LITTLE_SHIFT, NEARLY_ALL = 0.0125, 0.9
# Without poses, the least overlap of two outlines after the similarity of the matches. The two ends of a box wear one
# print, and nothing but the outline tells them apart. Fitted on rendered turntables of four products: from 0.5 to 0.6,
# at least 97 % of the pairs showed one side in views of less than 60 degrees, and 92 % without this bound; at 0.5 most
# pairs were found.
SIDE_OUTLINES = 0.5
# In a video without poses, the most by which the motion of direct matches may differ from the motion that is followed
# from view to view, in parts of the object's side. A print that repeats around a mug, or on two faces of a box, matches
# directly though the object has turned away. Chosen on rendered turntables (benchmarks/turntables.py): true pairs of
# nine products differ by at most 0.06, and false ones of a mug by at least 0.19.
LOOP = 0.1
# Pose and shift are compared with their limits after rounding to so many digits, as they are written.
DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A frame with its object, ready to be matched.

    Attributes:
        masked: the frame, its mask and box.
        keypoints: on the object.
        sharpness: of the object, in [0, 1].
    """

    masked: MaskedFrame
    keypoints: Keypoints
    sharpness: float

    @property
    def name(self) -> str:
        """Of its frame."""
        return self.masked.frame.name

    @property
    def detail(self) -> float:
        """How much of the object it shows: the side of the object in pixels, less where they are blurred."""
        return float(np.sqrt(max(1.0, float(self.masked.mask.values.sum())))) * self.sharpness


@dataclass(frozen=True, slots=True, eq=False)
class ViewPair:
    """Two views that make a pair.

    Attributes:
        hrri: the one that shows more detail.
        hrgt: the other.
        change: how they differ.
        log_chance: log10 of the probability of their matches by chance.
        outline_overlap: of both masks, in [0, 1]; see `outline_overlap`.
        scores: what a judge gave the pair.
    """

    hrri: View
    hrgt: View
    change: ViewChange
    log_chance: float
    outline_overlap: float
    scores: tuple[Score, ...] = ()

    @property
    def name(self) -> str:
        """Of both its frames, in rejections."""
        return f"{self.hrri.name} with {self.hrgt.name}"


@dataclass(frozen=True, slots=True, eq=False)
class _Followed:
    """A view of a video, by what was matched from each view to the next.

    Attributes:
        stretch: number of the stretch of views that match one after the other.
        motion: (2,), of the surface over the object since the stretch began, in parts of the object's side.
    """

    stretch: int
    motion: Floats


Judge: TypeAlias = Callable[[ViewPair], tuple[Score, ...] | str]
"""Gives a pair its scores, or says in one sentence why it is to be left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A square part of a frame in the size of the dataset's pictures.

    Attributes:
        image: RGB, `side` x `side`.
        mask: of the same size.
        region: in pixels of the frame.
        enlargement: pixels of the picture for each pixel of the frame.
        object_share: pixels of the object over those of the picture.
    """

    image: Image
    mask: Mask
    region: Region
    enlargement: float
    object_share: float


def find_views(
    frames: Sequence[MaskedFrame], settings: PairSettings, networks: Networks
) -> tuple[list[View], list[Rejection]]:
    """The frames whose object is sharp and large enough for a picture of a pair, and the others with their reasons."""
    views: list[View] = []
    rejected: list[Rejection] = []
    for masked in frames:
        part = _grown(masked.box, MARGIN, masked.frame.image.size)
        pixels, values = masked.frame.image.pixels, masked.mask.values
        clear = round(object_sharpness(part.of(pixels), part.of(values)), DIGITS)
        reason = ""
        if clear < settings.least_sharpness:
            reason = f"The object is blurred: its sharpness is {clear:.2f}."
        elif crop_region(masked, settings.hrgt_object, settings) is None:
            reason = "No square of the frame shows the whole object at a useful size."
        if reason:
            rejected.append(Rejection(step="views", what=masked.frame.name, reason=reason))
        else:
            views.append(View(masked, find_keypoints(pixels, values, part, networks), clear))
    return views, rejected


def find_pairs(
    views: Sequence[View], settings: PairSettings, networks: Networks, judge: Judge | None = None
) -> tuple[list[ViewPair], list[Rejection]]:
    """The pairs of an object, at most `pairs_per_object`, and why the other pairs of views are none.

    Args:
        views: of one object.
        settings: of the run.
        networks: of learned matching.
        judge: asked about each pair that would be kept, and about no other, in an order that is always the same. What
            it leaves out is a rejection of the step "model". None keeps them all.
    """
    fitting: list[ViewPair] = []
    rejected: list[Rejection] = []

    # What is matched along a video is matched once.
    @cache
    def matched(hrri: View, hrgt: View) -> Agreeing:
        return find_agreeing(hrgt.keypoints, hrri.keypoints, networks)

    followed = _followed(views, settings, matched)
    for one, other in combinations(views, 2):
        hrri, hrgt = _ordered(one, other)
        degrees = degrees_between(hrri, hrgt)
        what = f"{hrri.name} with {hrgt.name}"
        if degrees is not None and not settings.least_degrees <= degrees <= settings.most_degrees:
            reason = f"The views differ by {degrees:.0f} degrees."
            rejected.append(Rejection(step="pairs", what=what, reason=reason))
            continue
        found = matched(hrri, hrgt)
        change = view_change(hrgt, found, degrees)
        reason = _fault(change, found.log_chance, settings)
        outlines = 0.0 if reason else round(outline_overlap(hrri, hrgt, found), DIGITS)
        given = hrri.masked.maker == hrgt.masked.maker == SOURCE
        if not reason and not given and outlines < settings.least_outline_overlap:
            reason = f"The masks do not show the same: their outlines overlap by {outlines:.2f}."
        if not reason and degrees is None and outlines < SIDE_OUTLINES:
            reason = f"The views show different sides: their outlines overlap by {outlines:.2f}."
        if not reason and degrees is None:
            reason = _loop_fault(followed.get(hrri.name), followed.get(hrgt.name), _motion(hrri, hrgt, found))
        if reason:
            rejected.append(Rejection(step="pairs", what=what, reason=reason))
        else:
            fitting.append(ViewPair(hrri, hrgt, change, round(found.log_chance, DIGITS), outlines))
    chosen, left_out = _spread(fitting, settings.pairs_per_object, judge or _keep)
    rejected.extend(left_out)
    decided = {pair.name for pair in chosen} | {rejection.what for rejection in left_out}
    rejected.extend(
        Rejection(
            step="pairs",
            what=pair.name,
            reason=f"The object has {len(chosen)} pairs with other views already.",
        )
        for pair in fitting
        if pair.name not in decided
    )
    return chosen, rejected


def view_change(hrgt: View, found: Agreeing, degrees: float | None) -> ViewChange:
    """How two views differ.

    Args:
        hrgt: the ground truth.
        found: matches, first in the HRGT and second in the HRRI.
        degrees: between the views, or None.
    """
    return ViewChange(
        matches=len(found),
        overlap=round(_overlap(hrgt, found.first), DIGITS),
        degrees=None if degrees is None else round(degrees, 2),
        shift=round(_shift(found, max(hrgt.masked.box.size)), DIGITS),
    )


def degrees_between(one: View, other: View) -> float | None:
    """The angle between the viewing directions of two views in degrees, or None where the source has no poses."""
    poses = [view.masked.frame.pose for view in (one, other)]
    if poses[0] is None or poses[1] is None:
        return None
    # A camera looks along the third axis of its rotation, whatever sign the source gives it.
    here, there = (np.array(pose, np.float64)[:3, 2] for pose in poses)
    cosine = float(here @ there) / max(1e-12, float(np.linalg.norm(here) * np.linalg.norm(there)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def crop_region(masked: MaskedFrame, object_size: float, settings: PairSettings) -> Region | None:
    """The square of a frame in which the object has about a wanted size.

    Args:
        masked: the frame.
        object_size: the object's longer side as a share of the square's.
        settings: of the run.

    Returns:
        The square with the object as near to its middle as the frame allows; None where no square holds the whole
        object, or the object would be too small in it.
    """
    width, height = masked.frame.image.size
    longer = max(masked.box.size)
    side = max(longer / object_size, settings.side / settings.enlargement)
    side = round(min(side, width, height))
    if side < longer or side * settings.enlargement < settings.side - 1 or longer < settings.least_object * side:
        return None
    box = masked.box
    left = min(max(0, round((box.left + box.right - side) / 2)), width - side)
    top = min(max(0, round((box.top + box.bottom - side) / 2)), height - side)
    return Region(left, top, left + side, top + side)


def crop(masked: MaskedFrame, object_size: float, settings: PairSettings) -> Crop:
    """The picture of a pair, see `crop_region`, which must have found a square."""
    region = crop_region(masked, object_size, settings)
    assert region is not None, "a frame without a square is no view"
    size = (settings.side, settings.side)
    pixels: Bytes = resized(region.of(masked.frame.image.pixels), size)
    shrinks = region.size[0] > settings.side
    values = cv2.resize(
        region.of(masked.mask.values), size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    mask = Mask(np.asarray(values, np.float32).clip(0.0, 1.0))
    share = round(object_share(mask), DIGITS)
    return Crop(Image(pixels), mask, region, round(settings.side / region.size[0], 6), share)


def _grown(box: Region, margin: float, size: tuple[int, int]) -> Region:
    space = round(margin * max(box.size)) + 2
    return Region(
        max(0, box.left - space),
        max(0, box.top - space),
        min(size[0], box.right + space),
        min(size[1], box.bottom + space),
    )


def _fault(change: ViewChange, log_chance: float, settings: PairSettings) -> str:
    """Why two views are no pair; empty where they are."""
    if log_chance > settings.log_chance or change.matches < settings.least_matches:
        return f"The views do not match: {change.matches} matches agree."
    if change.overlap < settings.least_overlap:
        return f"The reference shows only {change.overlap:.0%} of the object's side."
    if change.shift > settings.most_shift:
        return f"The views differ too much: the matches move by {change.shift:.3f} of the object's side."
    # Poses say it better where there are any: a flat face hardly moves when it turns.
    if change.degrees is None and change.shift < settings.least_shift:
        return f"The views are too much alike: the matches move by {change.shift:.3f} of the object's side."
    if change.degrees is None and change.shift < LITTLE_SHIFT and change.overlap < NEARLY_ALL:
        return f"What matches may look the same from all sides: it stays, and only {change.overlap:.0%} match."
    return ""


def _ordered(one: View, other: View) -> tuple[View, View]:
    """The view that makes the better reference, and the other."""
    return (one, other) if one.detail >= other.detail else (other, one)


def _followed(
    views: Sequence[View], settings: PairSettings, matched: Callable[[View, View], Agreeing]
) -> dict[str, _Followed]:
    """How the object's surface moves along a video, by the view's name; photos and views with poses have no entry.

    A match of two views closes a loop with the matches of the views between them, as in the reconstruction of scenes
    from photos (Zach, Klopschitz and Pollefeys, 2010).
    """
    filmed = [view for view in views if view.masked.frame.seconds is not None and view.masked.frame.pose is None]
    filmed.sort(key=lambda view: view.masked.frame.seconds or 0.0)
    followed = {view.name: _Followed(0, np.zeros(2, np.float32)) for view in filmed[:1]}
    for before, after in pairwise(filmed):
        hrri, hrgt = _ordered(before, after)
        found = matched(hrri, hrgt)
        last = followed[before.name]
        if found.log_chance > settings.log_chance or len(found) < settings.least_matches:
            followed[after.name] = _Followed(last.stretch + 1, np.zeros(2, np.float32))
        else:
            motion = _motion(hrri, hrgt, found) * (1 if hrri is before else -1)
            followed[after.name] = _Followed(last.stretch, last.motion + motion)
    return followed


def _motion(hrri: View, hrgt: View, found: Agreeing) -> Floats:
    """The median motion of the matches over the object from HRRI to HRGT, (2,), in parts of the object's side.

    The object's own position and size in both frames are taken out. So a camera that moves past it, or nearer to it,
    gives none, and a turn gives the distance by which its surface moves.
    """
    if not len(found):
        return np.zeros(2, np.float32)

    def on_object(view: View, points: Floats) -> Floats:
        box = view.masked.box
        middle = np.array([box.left + box.right, box.top + box.bottom]) / 2
        return np.asarray((points - middle) / max(box.size), np.float32)

    return np.asarray(np.median(on_object(hrgt, found.first) - on_object(hrri, found.second), axis=0), np.float32)


def _loop_fault(hrri: _Followed | None, hrgt: _Followed | None, motion: Floats) -> str:
    """Why the matches of two views of a video contradict the views between them; empty where they do not."""
    if hrri is None or hrgt is None:
        return ""
    if hrri.stretch != hrgt.stretch:
        return "The object cannot be followed from one view to the other, so it may show another side that looks alike."
    difference = float(np.linalg.norm(hrgt.motion - hrri.motion - motion))
    if difference > LOOP:
        return (
            f"The views between them show another motion, by {difference:.2f} of the object's side: what matches looks "
            "the same from several sides."
        )
    return ""


def _overlap(hrgt: View, matched: Floats) -> float:
    """The share of the object's cells with keypoints in which, or beside which, matches lie.

    Cells without keypoints tell nothing: a plain surface matches nowhere.
    """
    side = CELL * max(hrgt.masked.box.size)
    width, height = (int(np.ceil(length / side)) + 1 for length in hrgt.keypoints.part.size)
    corner = np.array([hrgt.keypoints.part.left, hrgt.keypoints.part.top], np.float32)

    def cells(points: Floats) -> NDArray[np.uint8]:
        grid = np.zeros((height, width), np.uint8)
        column, row = np.floor((points - corner) / side).astype(int).T
        grid[row.clip(0, height - 1), column.clip(0, width - 1)] = 1
        return grid

    if not len(hrgt.keypoints):
        return 0.0
    there = cells(hrgt.keypoints.points) > 0
    seen = cv2.dilate(cells(matched), np.ones((3, 3), np.uint8)) > 0 if len(matched) else np.zeros_like(there)
    return float((there & seen).sum() / there.sum())


def _shift(found: Agreeing, side: float) -> float:
    """The median distance of the HRRI's points from the HRGT's after the best similarity, in parts of `side`."""
    if len(found) < LEAST_FOR_SIMILARITY:
        return 0.0
    similarity = _similarity(found)
    placed = found.second.astype(np.float64) @ similarity[:, :2].T + similarity[:, 2]
    return float(np.median(np.linalg.norm(found.first - placed, axis=1)) / side)


def _similarity(found: Agreeing) -> NDArray[np.float64]:
    """The 2x3 matrix of least squares that turns, scales and moves the HRRI's points to the HRGT's (Umeyama, 1991)."""
    target, points = found.first.astype(np.float64), found.second.astype(np.float64)
    here, there = target - target.mean(axis=0), points - points.mean(axis=0)
    left, values, right = np.linalg.svd(here.T @ there)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    scale = float((values * signs).sum() / max(1e-9, float((there**2).sum())))
    turn = scale * left @ np.diag(signs) @ right
    return np.column_stack([turn, target.mean(axis=0) - turn @ points.mean(axis=0)])


def outline_overlap(hrri: View, hrgt: View, found: Agreeing) -> float:
    """How well the HRRI's mask covers the HRGT's after the similarity of the matches: intersection over union.

    A turned object changes its outline a little. A mask that has lost a part, or taken in a hand, changes it much.

    Args:
        hrri: the reference.
        hrgt: the ground truth.
        found: matches, first in the HRGT and second in the HRRI; at least three.
    """
    # Small masks are enough. What leaves the frame of the HRGT would not count, so there is a margin around it.
    box = hrgt.masked.box
    factor = OUTLINE_SIDE / max(box.size)
    corner = np.array([box.left, box.top]) - OUTLINE_MARGIN * max(box.size)
    side = round(OUTLINE_SIDE * (1 + 2 * OUTLINE_MARGIN))

    def drawn(mask: Mask, mapping: NDArray[np.float64]) -> NDArray[np.bool_]:
        placed = factor * np.column_stack([mapping[:, :2], mapping[:, 2] - corner])
        return np.asarray(cv2.warpAffine(mask.values, placed, (side, side), flags=cv2.INTER_LINEAR) >= 0.5)

    here = drawn(hrgt.masked.mask, np.eye(2, 3))
    return float(morphology.overlap(here, drawn(hrri.masked.mask, _similarity(found))))


def _spread(pairs: list[ViewPair], most: int, judge: Judge) -> tuple[list[ViewPair], list[Rejection]]:
    """At most so many pairs, spread evenly over the changes of view, and those that the judge left out.

    The pairs are sorted by their change and divided into as many parts. Each part gives the pair whose views were
    used least, and of several such the one with the largest overlap. Where the judge leaves it out, the next one of
    its part is taken.
    """
    ordered = sorted(pairs, key=lambda pair: (_amount(pair), pair.hrri.name, pair.hrgt.name))
    used = Counter[str]()
    chosen, left_out = list[ViewPair](), list[Rejection]()
    for part in np.array_split(np.arange(len(ordered)), most):
        best_first = sorted(
            (ordered[index] for index in part),
            key=lambda pair: (used[pair.hrri.name] + used[pair.hrgt.name], -pair.change.overlap),
        )
        for pair in best_first:
            judged = judge(pair)
            if isinstance(judged, str):
                left_out.append(Rejection(step="model", what=pair.name, reason=judged))
                continue
            chosen.append(replace(pair, scores=judged))
            used.update((pair.hrri.name, pair.hrgt.name))
            break
    return chosen, left_out


def _keep(pair: ViewPair) -> tuple[Score, ...]:
    """The judge that leaves out nothing and gives no scores."""
    del pair
    return ()


def _amount(pair: ViewPair) -> float:
    return pair.change.shift if pair.change.degrees is None else pair.change.degrees
