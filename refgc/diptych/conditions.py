"""The diptych: DipRefGC's three conditions, and the way from its output back to the scene.

As in the paper's figure of the dataset pipeline ("Stage 2: LRGI synthesis with DipRefGC"). Both pictures are resized
first. The left panel is the HRRI's object on white. The right panel is the HRGT with its object cut out to black. The
other two conditions are the object mask and the Canny edges, whose left panels are all 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Floats, Size, bicubic, blur, resized, shrink, size_of
from refgc.imaging.image import MARKED, Image, ImageSource, Mask, open_mask
from refgc.imaging.matting import alpha_bytes, bounding_region, composite, estimate_foreground
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted

WHITE = 255
# FLUX's VAE has a stride of 8, and its latents are packed two by two.
STEP = 16
# The constants below were chosen by hand, not fitted, unless noted otherwise.
# Areas of a panel in pixels: the paper's 512x512, and less where another aspect ratio asks for it. The diptych is twice
# as wide.
LEAST_AREA, MOST_AREA = 0.85 * 512**2, 512**2
SIDES = range(256, 1025, STEP)
PANEL_SIZES = [(width, height) for width in SIDES for height in SIDES if LEAST_AREA <= width * height <= MOST_AREA]
# Panels are equally good if the unused fractions of their areas differ by at most this; the largest is taken.
UNUSED_TOLERANCE = 0.005
# White margin on each side of the object, as a fraction of the panel's side.
PADDING = 0.08
# The lower and the upper hysteresis threshold of Canny (1986) on the L1 norm of the gradient, as OpenCV takes them.
CANNY_THRESHOLDS = (100.0, 200.0)
# Standard deviation of the background's blur, as a fraction of the shorter side, on a grid of so many cells along the
# longer side. It leaves no edge of the background.
BACKGROUND_SIGMA = 0.06
BACKGROUND_SIDE = 128


@dataclass(frozen=True, slots=True)
class Panels:
    """The layout: which part of each picture lies where in its panel, in pixels.

    Attributes:
        size: (width, height) of each panel.
        object_source: the part of the reference that the left panel shows.
        object_target: its place in the left panel.
        scene_size: (width, height) of the scene, which the right panel shows as a whole.
        scene_target: its place in the right panel.
    """

    size: Size
    object_source: Region
    object_target: Region
    scene_size: Size
    scene_target: Region


@dataclass(frozen=True, slots=True, eq=False)
class Diptych:
    """The three conditions, each with two panels side by side; the arrays are read-only.

    Attributes:
        picture: uint8 RGB (height, 2 * width, 3): the object on white, and the scene with its object cut out.
        mask: uint8 (height, 2 * width): 0 on the left, and the alpha of the cut-out object, 0 to 255, on the right.
        edges: uint8 (height, 2 * width): 0 on the left, and 255 on the Canny edges of the scene's object.
        panels: the layout.
    """

    picture: Bytes
    mask: Bytes
    edges: Bytes
    panels: Panels

    def __post_init__(self) -> None:
        for condition in (self.picture, self.mask, self.edges):
            condition.setflags(write=False)


def open_object_mask(source: ImageSource | Mask, *, size: Size, name: str) -> Mask:
    """Open a mask that marks an object and leaves out its background.

    Args:
        source: as for `refgc.imaging.image.open_mask`.
        size: (width, height) in pixels of the picture that the mask belongs to.
        name: what the mask is called in an error sentence, such as "scene mask".

    Raises:
        InputError: as for `refgc.imaging.image.open_mask`, or the mask marks everything.
    """
    return checked_object_mask(open_mask(source, size=size, name=name), name)


def checked_object_mask(mask: Mask, name: str) -> Mask:
    """Check that a mask marks a part of the picture, not nothing and not everything; returns the mask itself.

    Raises:
        InputError: the mask marks nothing or everything.
    """
    if mask.values.max() < MARKED:
        raise InputError(f"The {name} marks nothing; mark the object.")
    if mask.values.min() >= MARKED:
        raise InputError(f"The {name} marks the whole picture; mark the object alone and leave its background out.")
    return mask


def panel_size(scene: Size, asked: Size | None = None) -> Size:
    """The panel size for a scene.

    Args:
        scene: (width, height) of the scene in pixels.
        asked: (width, height) that was asked for. None takes, of the sizes of about as many pixels as the paper's
            512x512, those that the scene fills best, and among them the largest.

    Returns:
        (width, height), multiples of 16.

    Raises:
        InputError: the asked size is not of positive multiples of 16.
    """
    if asked is not None:
        if min(asked) < STEP or asked[0] % STEP or asked[1] % STEP:
            raise InputError(
                f"The panel size is {asked[0]}x{asked[1]} pixels; choose multiples of {STEP} for its width and height."
            )
        return asked
    unused = {size: _unused(scene, size) for size in PANEL_SIZES}
    least = min(unused.values())
    filled = [size for size in PANEL_SIZES if unused[size] <= least + UNUSED_TOLERANCE]
    return max(filled, key=lambda size: (size[0] * size[1], -unused[size]))


def build(
    reference: Image,
    reference_mask: Mask,
    scene: Image,
    scene_mask: Mask,
    *,
    panel: Size,
    padding: float = PADDING,
    canny_thresholds: tuple[float, float] = CANNY_THRESHOLDS,
) -> Diptych:
    """The conditions for generating the reference's object in the place and pose of the scene's.

    Aspect ratios are kept: a scene of another aspect ratio than the panel is centred on white. Outside of the mask the
    right panel has the pixels of the (resized) scene bit for bit. Soft edges contain neither the reference's
    background, on the left, nor the cut-out object, on the right.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: the HRGT, or another scene with something in the object's place.
        scene_mask: the object, or what stands in its place.
        panel: (width, height) of each panel, from `panel_size`.
        padding: least white margin on each side of the object, as a fraction of the panel's side, in [0, 0.5).
        canny_thresholds: the lower and the upper threshold; see `CANNY_THRESHOLDS`.
    """
    left, object_source, object_target = _object_panel(reference.pixels, reference_mask.values, panel, padding)
    target = _centred(fitted(scene.size, np.inf, _enlargement(scene.size, panel)), panel)
    small = _at(scene.pixels, target.size)
    alpha = np.clip(shrink(scene_mask.values, target.size), 0.0, 1.0)
    foreground = estimate_foreground(small, alpha)
    picture = np.full((panel[1], 2 * panel[0], 3), WHITE, np.uint8)
    mask, edges = (np.zeros((panel[1], 2 * panel[0]), np.uint8) for _ in range(2))
    picture[:, : panel[0]] = left
    target.of(picture[:, panel[0] :])[:] = _cut_out(small, foreground, alpha)
    target.of(mask[:, panel[0] :])[:] = alpha_bytes(alpha)
    target.of(edges[:, panel[0] :])[:] = object_edges(small, foreground, alpha, canny_thresholds)
    return Diptych(picture, mask, edges, Panels(panel, object_source, object_target, scene.size, target))


def finished(diptych: Diptych, scene: Image) -> Bytes:
    """The diptych that a perfect generator draws, of which training learns: the whole scene on the right.

    Args:
        diptych: the conditions.
        scene: the HRGT that they were built from.

    Returns:
        uint8 RGB (height, 2 * width, 3); outside of the mask it is `diptych.picture` bit for bit.
    """
    target = diptych.panels.scene_target
    picture = diptych.picture.copy()
    target.of(picture[:, diptych.panels.size[0] :])[:] = _at(scene.pixels, target.size)
    return picture


def object_edges(picture: Bytes, foreground: Floats, alpha: Floats, thresholds: tuple[float, float]) -> Bytes:
    """The Canny edges of an object and of its outline, without those of the background.

    The background is blurred first, so that it has no edges. The outline has an edge where the object's colours differ
    from those around it, not because the object is cut out there.

    Args:
        picture: uint8 RGB (height, width, 3).
        foreground: (height, width, 3), the object's own colours, as `estimate_foreground` gives them.
        alpha: (height, width) in [0, 1], the object's coverage of each pixel.
        thresholds: the lower and the upper threshold; see `CANNY_THRESHOLDS`.

    Returns:
        uint8 (height, width), 255 on edges, which lie only where alpha is at least a half.
    """
    solid = (alpha >= MARKED).astype(np.uint8)
    ground = _blurred_background(picture, alpha)
    # The step lies half on the object's rim and half beyond, so that its steepest pixel is on the object.
    inward = (solid + cv2.erode(solid, np.ones((3, 3), np.uint8))) * np.float32(0.5)
    alone = composite(foreground, np.asarray(inward, np.float32), ground)
    return np.asarray(cv2.Canny(alone, *thresholds) * solid, np.uint8)


def right_panel(result: Bytes, panels: Panels) -> Bytes:
    """The scene's part of a generated diptych: its right panel without the white margins.

    Args:
        result: uint8 RGB (height, 2 * width, 3) of the diptych's size.
        panels: the diptych's layout.

    Returns:
        uint8 RGB of `panels.scene_target.size`, a view.
    """
    return np.asarray(panels.scene_target.of(result[:, panels.size[0] :]), np.uint8)


def in_scene(result: Bytes, panels: Panels, size: Size | None = None) -> Bytes:
    """The scene's part of a generated diptych, resized to the scene by bicubic interpolation, as the paper's LRGIs are.

    Args:
        result: uint8 RGB (height, 2 * width, 3) of the diptych's size.
        panels: the diptych's layout.
        size: (width, height) of the result; None takes the scene's own.

    Returns:
        uint8 RGB of that size; if the right panel shows the scene at this size, its pixels bit for bit.
    """
    shown, wanted = right_panel(result, panels), size or panels.scene_size
    return shown if size_of(shown) == wanted else bicubic(shown, wanted)


def _object_panel(reference: Bytes, alpha: Floats, panel: Size, padding: float) -> tuple[Bytes, Region, Region]:
    source = bounding_region(alpha)
    room = (max(1, round(panel[0] * (1 - 2 * padding))), max(1, round(panel[1] * (1 - 2 * padding))))
    target = _centred(fitted(source.size, np.inf, _enlargement(source.size, room)), panel)
    small = _at(np.asarray(source.of(reference), np.uint8), target.size)
    small_alpha = np.clip(shrink(np.asarray(source.of(alpha), np.float32), target.size), 0.0, 1.0)
    left = np.full((panel[1], panel[0], 3), WHITE, np.uint8)
    target.of(left)[:] = composite(estimate_foreground(small, small_alpha), small_alpha, WHITE)
    return left, source, target


def _cut_out(picture: Bytes, foreground: Floats, alpha: Floats) -> Bytes:
    """The picture without the object's contribution: black inside of the object, unchanged outside."""
    return np.asarray(np.clip(np.rint(picture - foreground * alpha[..., None]), 0, 255), np.uint8)


def _blurred_background(picture: Bytes, alpha: Floats) -> Bytes:
    """The background's blurred colours, extended under the object by normalised convolution."""
    grid = fitted(size_of(picture), BACKGROUND_SIDE)
    behind = np.asarray(1.0 - alpha, np.float32)
    sigma = max(1.0, BACKGROUND_SIGMA * min(grid))
    colours = blur(shrink(np.asarray(picture * behind[..., None], np.float32), grid), sigma)
    mean = colours / (blur(shrink(behind, grid), sigma)[..., None] + 1e-5)
    enlarged = cv2.resize(mean, size_of(picture), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(np.rint(enlarged), 0, 255), np.uint8)


def _enlargement(size: Size, room: Size) -> float:
    return min(room[0] / size[0], room[1] / size[1])


def _unused(scene: Size, panel: Size) -> float:
    """Fraction of a panel's area that a scene of this size leaves unused."""
    width, height = fitted(scene, np.inf, _enlargement(scene, panel))
    return 1.0 - width * height / (panel[0] * panel[1])


def _centred(size: Size, panel: Size) -> Region:
    left, top = (panel[0] - size[0]) // 2, (panel[1] - size[1]) // 2
    return Region(left, top, left + size[0], top + size[1])


def _at(pixels: Bytes, size: Size) -> Bytes:
    return pixels if size_of(pixels) == size else resized(pixels, size)
