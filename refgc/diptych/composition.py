"""The ideal picture: what a generator without artifacts would draw, and the simulator then draws its artifacts onto.

A preview has two ways to it and takes the first where it can:
- The scene already shows the reference's object, as an HRGT does. Then the scene itself is the ideal picture, with the
  object in its true pose and light, as DipRefGC's output is aligned with the HRGT.
- The scene shows something else in the object's place. Then the reference's object is composited into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from refgc.correspondence.find import find
from refgc.correspondence.placement import sureness
from refgc.diptych.conditions import CANNY_THRESHOLDS
from refgc.diptych.outlines import SimilarityTransform, fit_outlines, on_same_ground
from refgc.imaging.arrays import Bytes, Floats, Size, resized, shrink, size_of
from refgc.imaging.exact import Doubles, pixel_coordinates, sample_at, to_levels
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.matting import alpha_bytes, bounding_region, composite, estimate_foreground
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, prefilter
from refgc.request import RefineRequest

# The constants of this file were chosen by hand, not fitted.
# Both pictures show one object if the placement has at least this confidence and so many matches, at this longer side
# in pixels.
MINIMUM_CONFIDENCE = 0.9
MINIMUM_MATCHES = 30
MATCHING_SIDE = 640
# An object with a smaller fraction of edge pixels is plain and has nothing to match. Two plain objects are the same if
# the intersection over union of their outlines is at least this, and their mean colours differ by at most so many
# levels once the brighter one, at most so many times as bright, is darkened to the other.
PLAIN_EDGE_FRACTION = 0.04
SAME_OUTLINE = 0.93
SAME_COLOUR = 25.0
MAXIMUM_BRIGHTNESS_RATIO = 2.0
# Exponent with which the object takes on the ratio of light between the two pictures, and limits of the gain.
LIGHT_EXPONENT = 0.35
GAIN_LIMITS = (0.6, 1.35)
# Level of the background that a cut-out object is assumed to have had.
STUDIO_LEVEL = 190.0
# Width of the surroundings that the scene's light is measured in, in square roots of the object's area.
SURROUNDINGS = 0.6
# Inpainting: longer side in pixels at which it runs, its radius there, and the rim around a mask that is filled too, as
# a fraction of the picture's longer side, since masks tend to end too early.
FILLING_SIDE = 256
FILLING_RADIUS = 5.0
FILLING_RIM = 0.004


@dataclass(frozen=True, slots=True, eq=False)
class IdealPicture:
    """The picture without artifacts.

    Attributes:
        picture: of the scene's size.
        mask: the object in it.
        origin: "scene" if it is the scene itself, "composed" if the reference's object was put into it.
    """

    picture: Image
    mask: Mask
    origin: Literal["scene", "composed"]


def ideal_picture(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> IdealPicture:
    """The scene itself where it shows the reference's object under its mask, else the object composited into it.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: the HRGT, or a scene with something else in the object's place.
        scene_mask: the object in the scene, or its place.
    """
    if shows_object(reference, reference_mask, scene, scene_mask):
        return IdealPicture(scene, scene_mask, "scene")
    return compose(reference, reference_mask, scene, scene_mask)


def shows_object(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> bool:
    """Whether both masks mark the same object, by matches, or by outline and colour for plain objects.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: any picture.
        scene_mask: what may be the same object in it.
    """
    one, one_mask = _at_matching_size(reference, reference_mask)
    other, other_mask = _at_matching_size(scene, scene_mask)
    if _is_plain(one.pixels, one_mask.values) and _is_plain(other.pixels, other_mask.values):
        colours = _mean_colour(one.pixels, one_mask.values), _mean_colour(other.pixels, other_mask.values)
        darker, brighter = sorted(colours, key=lambda colour: float(colour.sum()))
        ratio = float(brighter.sum()) / max(float(darker.sum()), 1.0)
        if ratio > MAXIMUM_BRIGHTNESS_RATIO or np.abs(brighter / ratio - darker).max() > SAME_COLOUR:
            return False
        return fit_outlines(one_mask.values, other_mask.values).overlap >= SAME_OUTLINE
    finding = find(RefineRequest(one, other, reference_mask=one_mask, generated_mask=other_mask))
    if finding is None:
        return False
    return sureness(finding.log_false_alarms) >= MINIMUM_CONFIDENCE and len(finding.matches) >= MINIMUM_MATCHES


def compose(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> IdealPicture:
    """The reference's object composited into the place that the scene's mask marks.

    A similarity transform fits its outline to the marked one; both have the same lowest point. The object takes on a
    part of the scene's light and colour. What is marked but not covered is inpainted, with a rim of a few pixels.
    Nothing else of the scene changes, so that the shadows beside the mask stay.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: any picture.
        scene_mask: the object's place.
    """
    fit = on_same_ground(
        fit_outlines(reference_mask.values, scene_mask.values), reference_mask.values, scene_mask.values
    )
    foreground, alpha = _placed(reference, reference_mask, fit, scene.size)
    lit = np.clip(foreground * _gain(reference, reference_mask, scene, scene_mask), 0.0, 255.0)
    cleared = _inpainted(scene.pixels, scene_mask.values, alpha)
    return IdealPicture(Image(composite(np.asarray(lit, np.float32), alpha, cleared)), Mask(alpha), "composed")


def _at_matching_size(picture: Image, mask: Mask) -> tuple[Image, Mask]:
    size = fitted(picture.size, MATCHING_SIDE)
    if size == picture.size:
        return picture, mask
    return Image(resized(picture.pixels, size)), Mask(np.clip(shrink(mask.values, size), 0.0, 1.0))


def _is_plain(pixels: Bytes, alpha: Floats) -> bool:
    """Whether an object has hardly any edges inside of its outline."""
    within = cv2.erode((alpha >= MARKED).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return not within.any() or float((cv2.Canny(pixels, *CANNY_THRESHOLDS)[within] > 0).mean()) < PLAIN_EDGE_FRACTION


def _mean_colour(pixels: Bytes, alpha: Floats) -> Doubles:
    weight = alpha.astype(np.float64)[..., None]
    return np.asarray((pixels * weight).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6), np.float64)


def _placed(reference: Image, mask: Mask, fit: SimilarityTransform, size: Size) -> tuple[Floats, Floats]:
    """The object's colours (height, width, 3) and alpha (height, width), warped into a scene of `size`."""
    small = prefilter(reference.pixels, 1.0 / min(1.0, fit.scale))
    alpha = np.clip(shrink(mask.values, size_of(small)), 0.0, 1.0)
    foreground = to_levels(estimate_foreground(small, alpha).astype(np.float64))
    region = _target_region(bounding_region(mask.values), fit, size)
    x, y = pixel_coordinates(region.size)
    source_x, source_y = fit.inverse(x + region.left, y + region.top)
    across, down = small.shape[1] / reference.size[0], small.shape[0] / reference.size[1]
    source_x, source_y = (source_x + 0.5) * across - 0.5, (source_y + 0.5) * down - 0.5
    colours, warped_alpha = np.zeros((size[1], size[0], 3), np.float32), np.zeros((size[1], size[0]), np.float32)
    region.of(colours)[:] = sample_at(foreground, source_x, source_y)
    # A frame of zeros: a mask that touches the border must not be replicated beyond it.
    region.of(warped_alpha)[:] = sample_at(np.pad(alpha_bytes(alpha), 1), source_x + 1.0, source_y + 1.0) / np.float32(
        255.0
    )
    return colours, warped_alpha


def _target_region(box: Region, fit: SimilarityTransform, size: Size) -> Region:
    """The bounding region, with a margin, of a transformed box in a scene of `size`."""
    x, y = fit.apply(
        np.array([box.left, box.right, box.right, box.left]), np.array([box.top, box.top, box.bottom, box.bottom])
    )
    space = 3.0 + 3.0 * max(1.0, fit.scale)
    left, top = max(0, int(x.min() - space)), max(0, int(y.min() - space))
    return Region(left, top, min(size[0], int(x.max() + space)), min(size[1], int(y.max() + space)))


def _gain(reference: Image, reference_mask: Mask, scene: Image, scene_mask: Mask) -> Doubles:
    """The gain (3,) that moves the object's colours part of the way from the reference's light to the scene's."""
    if reference.alpha is not None:
        before = np.full(3, STUDIO_LEVEL)
    else:
        before = _mean_colour(reference.pixels, 1.0 - reference_mask.values)
    after = _mean_colour(scene.pixels, _surroundings(scene_mask.values))
    return np.clip(((after + 8.0) / (before + 8.0)) ** LIGHT_EXPONENT, *GAIN_LIMITS)


def _surroundings(alpha: Floats) -> Floats:
    """A mask of another mask's surroundings."""
    solid = (alpha >= MARKED).astype(np.uint8)
    distance = cv2.distanceTransform(1 - solid, cv2.DIST_L2, cv2.DIST_MASK_5)
    near = (distance > 0) & (distance < SURROUNDINGS * math.sqrt(int(solid.sum())) + 2.0)
    return np.asarray(near, np.float32)


def _inpainted(scene: Bytes, marked: Floats, covered: Floats) -> Bytes:
    """The scene with what its mask marks inpainted where it is not covered (Telea, 2004)."""
    reach = 1 + round(FILLING_RIM * max(size_of(scene)))
    wider = np.asarray(cv2.dilate(marked, np.ones((2 * reach + 1,) * 2, np.uint8)), np.float32)
    if not ((wider > 0) & (covered < 1)).any():
        return scene
    box = _box_with_margin(wider)
    window, alpha = np.asarray(box.of(scene), np.uint8), np.asarray(box.of(wider), np.float32)
    small_size = fitted(size_of(window), FILLING_SIDE)
    hole = (shrink(alpha, small_size) > 0).astype(np.uint8)
    small = cv2.inpaint(resized(window, small_size), hole, FILLING_RADIUS, cv2.INPAINT_TELEA)
    filling = resized(np.asarray(small, np.uint8), size_of(window))
    out = scene.copy()
    box.of(out)[:] = composite(filling.astype(np.float32), alpha, window)
    return out


def _box_with_margin(alpha: Floats) -> Region:
    """The bounding box of what is marked, with a margin to inpaint from."""
    rows, columns = (np.flatnonzero((alpha > 0).any(axis=axis)) for axis in (1, 0))
    space = max(8, round(0.25 * max(np.ptp(rows), np.ptp(columns))))
    height, width = alpha.shape
    return Region(
        max(0, int(columns[0]) - space),
        max(0, int(rows[0]) - space),
        min(width, int(columns[-1]) + 1 + space),
        min(height, int(rows[-1]) + 1 + space),
    )
