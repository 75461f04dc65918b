"""The picture that a generator without detail errors would draw: what the simulated artifacts are then drawn onto.

There are two ways to it, and a preview takes the first where it can:
- The scene already shows the reference's object, as an HRGT does. Then the scene itself is that picture, its own pixels
  under its mask: the object in its true pose and light, as DipRefGC's output is aligned with the HRGT.
- The scene shows something else in the object's place. Then the reference's object is cut out and put there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from refgc.correspondence.find import find
from refgc.diptych.conditions import CANNY_THRESHOLDS
from refgc.diptych.outlines import Fit, fit_outlines, standing
from refgc.imaging.arrays import Bytes, Floats, Size, resized, shrink, size_of
from refgc.imaging.exact import Doubles, levels, positions, sampled
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.matting import bounds, foreground, over, share_bytes
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, prefilter
from refgc.request import RefineRequest

# Both pictures show one object where so many matches agree so surely.
SURE = 0.9
AGREEING = 30
MATCHING_SIDE = 640
# An object is plain where fewer of its pixels are edges than this. There is nothing to match on two plain objects: they
# are one if the outlines share so much and the mean colours lie so near, in grey levels, when the brighter is made as
# dark as the other, of which it may be so many times as bright.
PLAIN = 0.04
SAME_OUTLINE = 0.93
SAME_COLOUR = 25.0
MOST_BRIGHTER = 2.0
# How much of the difference in light between the two pictures the object takes on, and the least and most gain.
LIGHT_SHARE = 0.35
GAIN_LIMITS = (0.6, 1.35)
# The light of a cut-out's studio, in grey levels.
STUDIO = 190.0
# The surroundings that tell the scene's light reach so far, as a share of the object's side.
SURROUNDINGS = 0.6
# What an object leaves uncovered is filled at this many pixels along the longer side; masks end a little too early, so
# that as much as this share of the picture's longer side is filled around them.
FILLING_SIDE = 256
FILLING_RADIUS = 5.0
FILLING_RIM = 0.004


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The picture without generative errors.

    Attributes:
        picture: of the scene's size.
        mask: the object in it.
        origin: "scene", the HRGT as it is, or "composed" with the reference's object.
    """

    picture: Image
    mask: Mask
    origin: Literal["scene", "composed"]


def draw(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> Drawn:
    """The scene itself where it shows the reference's object under its mask; else the object put into the scene.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: the HRGT, or a scene with something else in the object's place.
        scene_mask: the object in the scene, or its place.
    """
    if shows_object(reference, reference_mask, scene, scene_mask):
        return Drawn(scene, scene_mask, "scene")
    return compose(reference, reference_mask, scene, scene_mask)


def shows_object(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> bool:
    """Whether what both masks mark is one object: by matches, or by outline and colour where there is nothing to match.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: any picture.
        scene_mask: what may be the same object.
    """
    one, one_mask = _smaller(reference, reference_mask)
    other, other_mask = _smaller(scene, scene_mask)
    if _is_plain(one.pixels, one_mask.values) and _is_plain(other.pixels, other_mask.values):
        colours = _mean_colour(one.pixels, one_mask.values), _mean_colour(other.pixels, other_mask.values)
        darker, brighter = sorted(colours, key=lambda colour: float(colour.sum()))
        times = float(brighter.sum()) / max(float(darker.sum()), 1.0)
        if times > MOST_BRIGHTER or np.abs(brighter / times - darker).max() > SAME_COLOUR:
            return False
        return fit_outlines(one_mask.values, other_mask.values).overlap >= SAME_OUTLINE
    finding = find(RefineRequest(one, other, reference_mask=one_mask, generated_mask=other_mask))
    return finding is not None and finding.confidence >= SURE and len(finding.matches) >= AGREEING


def compose(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> Drawn:
    """The reference's object in the place that the scene's mask marks.

    It is scaled, turned and shifted so that its outline covers the marked one as well as it can, keeps its aspect
    ratio, and stands where the marked outline stands. It takes on a part of the scene's light and colour. What is
    marked but not covered is filled from around, with a rim of a few pixels; else nothing of the scene changes, so
    that the shadows beside the mask stay.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: any picture.
        scene_mask: the object's place.
    """
    fit = standing(fit_outlines(reference_mask.values, scene_mask.values), reference_mask.values, scene_mask.values)
    own, share = _placed(reference, reference_mask, fit, scene.size)
    lit = np.clip(own * _light(reference, reference_mask, scene, scene_mask), 0.0, 255.0)
    cleared = _cleared(scene.pixels, scene_mask.values, share)
    return Drawn(Image(over(np.asarray(lit, np.float32), share, cleared)), Mask(share), "composed")


def _smaller(picture: Image, mask: Mask) -> tuple[Image, Mask]:
    size = fitted(picture.size, MATCHING_SIDE)
    if size == picture.size:
        return picture, mask
    return Image(resized(picture.pixels, size)), Mask(np.clip(shrink(mask.values, size), 0.0, 1.0))


def _is_plain(pixels: Bytes, share: Floats) -> bool:
    """Whether an object has next to no edges, its outline left aside."""
    within = cv2.erode((share >= MARKED).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return not within.any() or float((cv2.Canny(pixels, *CANNY_THRESHOLDS)[within] > 0).mean()) < PLAIN


def _mean_colour(pixels: Bytes, share: Floats) -> Doubles:
    weight = share.astype(np.float64)[..., None]
    return np.asarray((pixels * weight).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6), np.float64)


def _placed(reference: Image, mask: Mask, fit: Fit, size: Size) -> tuple[Floats, Floats]:
    """The object's own colours (height, width, 3) and its share (height, width) in a scene of `size`."""
    small = prefilter(reference.pixels, 1.0 / min(1.0, fit.scale))
    share = np.clip(shrink(mask.values, size_of(small)), 0.0, 1.0)
    own = levels(foreground(small, share).astype(np.float64))
    region = _reached(bounds(mask.values), fit, size)
    x, y = positions(region.size)
    source_x, source_y = fit.source_of(x + region.left, y + region.top)
    across, down = small.shape[1] / reference.size[0], small.shape[0] / reference.size[1]
    source_x, source_y = (source_x + 0.5) * across - 0.5, (source_y + 0.5) * down - 0.5
    colours, shares = np.zeros((size[1], size[0], 3), np.float32), np.zeros((size[1], size[0]), np.float32)
    region.of(colours)[:] = sampled(own, source_x, source_y)
    # Beyond the reference's border there is no object; its mask would go on there if it touches the border.
    region.of(shares)[:] = sampled(np.pad(share_bytes(share), 1), source_x + 1.0, source_y + 1.0) / np.float32(255.0)
    return colours, shares


def _reached(box: Region, fit: Fit, size: Size) -> Region:
    """Where in a scene of `size` a box of the reference may come to lie, with a little around it."""
    x, y = fit.placed(
        np.array([box.left, box.right, box.right, box.left]), np.array([box.top, box.top, box.bottom, box.bottom])
    )
    space = 3.0 + 3.0 * max(1.0, fit.scale)
    left, top = max(0, int(x.min() - space)), max(0, int(y.min() - space))
    return Region(left, top, min(size[0], int(x.max() + space)), min(size[1], int(y.max() + space)))


def _light(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> Doubles:
    """The gain on each channel that brings the object from the reference's light some way to the scene's."""
    if reference.alpha is not None:
        before = np.full(3, STUDIO)
    else:
        before = _mean_colour(reference.pixels, 1.0 - reference_mask.values)
    after = _mean_colour(scene.pixels, _around(scene_mask.values))
    return np.clip(((after + 8.0) / (before + 8.0)) ** LIGHT_SHARE, *GAIN_LIMITS)


def _around(share: Floats) -> Floats:
    """1 on a mask's surroundings, which tell its light."""
    solid = (share >= MARKED).astype(np.uint8)
    distance = cv2.distanceTransform(1 - solid, cv2.DIST_L2, cv2.DIST_MASK_5)
    near = (distance > 0) & (distance < SURROUNDINGS * math.sqrt(int(solid.sum())) + 2.0)
    return np.asarray(near, np.float32)


def _cleared(scene: Bytes, marked: Floats, covered: Floats) -> Bytes:
    """The scene without what its mask marks, filled from around where nothing covers it (Telea, 2004)."""
    reach = 1 + round(FILLING_RIM * max(size_of(scene)))
    wider = np.asarray(cv2.dilate(marked, np.ones((2 * reach + 1,) * 2, np.uint8)), np.float32)
    if not ((wider > 0) & (covered < 1)).any():
        return scene
    box = _box_around(wider)
    window, share = np.asarray(box.of(scene), np.uint8), np.asarray(box.of(wider), np.float32)
    small_size = fitted(size_of(window), FILLING_SIDE)
    hole = (shrink(share, small_size) > 0).astype(np.uint8)
    small = cv2.inpaint(resized(window, small_size), hole, FILLING_RADIUS, cv2.INPAINT_TELEA)
    filling = resized(np.asarray(small, np.uint8), size_of(window))
    out = scene.copy()
    box.of(out)[:] = over(filling.astype(np.float32), share, window)
    return out


def _box_around(share: Floats) -> Region:
    """The box of what is marked, with enough around it to fill it from."""
    rows, columns = (np.flatnonzero((share > 0).any(axis=axis)) for axis in (1, 0))
    space = max(8, round(0.25 * max(np.ptp(rows), np.ptp(columns))))
    height, width = share.shape
    return Region(
        max(0, int(columns[0]) - space),
        max(0, int(rows[0]) - space),
        min(width, int(columns[-1]) + 1 + space),
        min(height, int(rows[-1]) + 1 + space),
    )
