"""The diptych: the conditions a generator draws the reference's object into a scene from, and the way back.

As in the paper's figure of the dataset pipeline ("Stage 2: LRGI synthesis with DipRefGC"). Both pictures are resized
first. The left panel is the HRRI's object alone on white; the right one the HRGT with its object cut out, black. Beside
this picture stand the object mask and the Canny edges, whose left panels are all 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Floats, Size, blur, resized, shrink, size_of
from refgc.imaging.image import MARKED, Image, ImageSource, Mask, open_mask
from refgc.imaging.matting import bounds, foreground, over, share_bytes
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted

WHITE = 255
# FLUX's latents are an eighth of the picture and taken two by two.
STEP = 16
# A panel has about 512x512 to 768x768 pixels, and the diptych is twice as wide.
LEAST_AREA, MOST_AREA = 512**2, 768**2
SIDES = range(256, 1537, STEP)
# Of panels that leave so little more of themselves unused the largest is taken.
UNUSED_TOLERANCE = 0.005
# White on each side of the object, as a share of the panel's side.
PADDING = 0.08
# The gradients, summed over both directions, at which an edge goes on and at which it begins.
CANNY_THRESHOLDS = (100.0, 200.0)
# The background's colours are averaged this far, as a share of the shorter side, on a grid of so many cells along the
# longer one: no edge of its own is left.
BACKGROUND_REACH = 0.06
BACKGROUND_SIDE = 128


@dataclass(frozen=True, slots=True)
class Panels:
    """What of the two pictures lies where in the two panels; all in pixels.

    Attributes:
        size: (width, height) of each panel.
        object_source: the part of the reference that the left panel shows.
        object_target: where it lies in the left panel.
        scene_size: (width, height) of the whole scene, which the right panel shows.
        scene_target: where it lies in the right panel.
    """

    size: Size
    object_source: Region
    object_target: Region
    scene_size: Size
    scene_target: Region


@dataclass(frozen=True, slots=True, eq=False)
class Diptych:
    """The three conditions, each two panels side by side; read-only.

    Attributes:
        picture: uint8 RGB (height, 2 * width, 3): the object on white, and the scene with its object cut out.
        mask: uint8 (height, 2 * width): 0 on the left, and the share of each pixel that was cut out in 255ths.
        edges: uint8 (height, 2 * width): 0 on the left, and 255 on the Canny edges of the scene's object.
        panels: what lies where.
    """

    picture: Bytes
    mask: Bytes
    edges: Bytes
    panels: Panels

    def __post_init__(self) -> None:
        for condition in (self.picture, self.mask, self.edges):
            condition.setflags(write=False)


def open_object_mask(source: ImageSource, *, size: Size, name: str) -> Mask:
    """Open a mask that tells an object from its background.

    Args:
        source: as for `refgc.imaging.image.open_mask`.
        size: (width, height) in pixels of the picture that the mask belongs to.
        name: what the mask is called in an error sentence, such as "scene mask".

    Raises:
        InputError: as for `refgc.imaging.image.open_mask`, or the mask marks everything.
    """
    return checked_object_mask(open_mask(source, size=size, name=name), name)


def checked_object_mask(mask: Mask, name: str) -> Mask:
    """The mask itself, of which a part is marked and a part is not; for masks that no file was opened for.

    Raises:
        InputError: the mask marks nothing or everything.
    """
    if mask.values.max() < MARKED:
        raise InputError(f"The {name} marks nothing; mark the object.")
    if mask.values.min() >= MARKED:
        raise InputError(f"The {name} marks the whole picture; mark the object alone and leave its background out.")
    return mask


def panel_size(scene: Size, asked: Size | None = None) -> Size:
    """The size of a panel for a scene.

    Args:
        scene: (width, height) of the scene in pixels.
        asked: (width, height) that somebody wants; None chooses, among the sizes of about 512x512 to 768x768 pixels
            that the scene fills best, the largest that needs no enlarging, or else the smallest.

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
    sizes = [(width, height) for width in SIDES for height in SIDES if LEAST_AREA <= width * height <= MOST_AREA]
    unused = {size: _unused(scene, size) for size in sizes}
    least = min(unused.values())
    areas = {size: size[0] * size[1] for size in sizes if unused[size] <= least + UNUSED_TOLERANCE}
    smaller = [size for size in areas if areas[size] <= scene[0] * scene[1]]
    if smaller:
        return max(smaller, key=lambda size: (areas[size], -unused[size]))
    return min(areas, key=lambda size: (areas[size], unused[size]))


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
    """The conditions for drawing the reference's object in the place and pose of the scene's.

    Aspect ratios are kept: a scene of another aspect than the panel lies in its middle on white. Where the scene has
    the panel's size, its pixels outside of the mask are taken over bit for bit; else those of the resized scene.
    Soft edges hold neither the old background, on the left, nor the cut object, on the right.

    Args:
        reference: the HRRI.
        reference_mask: the object in it.
        scene: the HRGT, or another scene with something in the object's place.
        scene_mask: the object, or what stands in its place.
        panel: (width, height) of each panel, from `panel_size`.
        padding: least white on each side of the object on the left, as a share of the panel's side, below 0.5.
        canny_thresholds: the lower and the higher threshold of Canny (1986), as OpenCV takes them.
    """
    left, object_source, object_target = _object_panel(reference.pixels, reference_mask.values, panel, padding)
    target = _centred(fitted(scene.size, np.inf, _enlargement(scene.size, panel)), panel)
    small = _at(scene.pixels, target.size)
    share = np.clip(shrink(scene_mask.values, target.size), 0.0, 1.0)
    own = foreground(small, share)
    picture = np.full((panel[1], 2 * panel[0], 3), WHITE, np.uint8)
    mask, edges = (np.zeros((panel[1], 2 * panel[0]), np.uint8) for _ in range(2))
    picture[:, : panel[0]] = left
    target.of(picture[:, panel[0] :])[:] = _cut_out(small, own, share)
    target.of(mask[:, panel[0] :])[:] = share_bytes(share)
    target.of(edges[:, panel[0] :])[:] = object_edges(small, own, share, canny_thresholds)
    return Diptych(picture, mask, edges, Panels(panel, object_source, object_target, scene.size, target))


def object_edges(picture: Bytes, own: Floats, share: Floats, thresholds: tuple[float, float]) -> Bytes:
    """The Canny edges on an object and of its outline, and no other.

    The background is averaged away before, so that nothing in it has an edge; the outline has one where the object's
    colours differ from those around it, not because it is cut there.

    Args:
        picture: uint8 RGB (height, width, 3).
        own: (height, width, 3), the object's own colours, as `foreground` gives them.
        share: (height, width) in [0, 1], how much of each pixel is object.
        thresholds: of Canny, the lower and the higher.

    Returns:
        uint8 (height, width), 255 on edges, all of them where at least half of the pixel is object.
    """
    solid = (share >= MARKED).astype(np.uint8)
    ground = _averaged_background(picture, share)
    # Half of the step lies on the object's rim, half beyond, so that its steepest pixel is one of the object's.
    inward = (solid + cv2.erode(solid, np.ones((3, 3), np.uint8))) * np.float32(0.5)
    alone = over(own, np.asarray(inward, np.float32), ground)
    return np.asarray(cv2.Canny(alone, *thresholds) * solid, np.uint8)


def right_panel(result: Bytes, panels: Panels) -> Bytes:
    """What a generator drew for the scene: the right half of its diptych, without what lies beside the scene.

    Args:
        result: uint8 RGB (height, 2 * width, 3) of the diptych's size.
        panels: of the diptych.

    Returns:
        uint8 RGB of `panels.scene_target.size`, a view.
    """
    return np.asarray(panels.scene_target.of(result[:, panels.size[0] :]), np.uint8)


def in_scene(result: Bytes, panels: Panels, size: Size | None = None) -> Bytes:
    """What a generator drew for the scene, in the scene's own frame.

    Args:
        result: uint8 RGB (height, 2 * width, 3) of the diptych's size.
        panels: of the diptych.
        size: (width, height) to give it; None takes the scene's own.

    Returns:
        uint8 RGB; where the right panel shows the scene at this size, its pixels bit for bit.
    """
    return _at(right_panel(result, panels), size or panels.scene_size)


def _object_panel(reference: Bytes, share: Floats, panel: Size, padding: float) -> tuple[Bytes, Region, Region]:
    source = bounds(share)
    room = (max(1, round(panel[0] * (1 - 2 * padding))), max(1, round(panel[1] * (1 - 2 * padding))))
    target = _centred(fitted(source.size, np.inf, _enlargement(source.size, room)), panel)
    small = _at(np.asarray(source.of(reference), np.uint8), target.size)
    small_share = np.clip(shrink(np.asarray(source.of(share), np.float32), target.size), 0.0, 1.0)
    left = np.full((panel[1], panel[0], 3), WHITE, np.uint8)
    target.of(left)[:] = over(foreground(small, small_share), small_share, WHITE)
    return left, source, target


def _cut_out(picture: Bytes, own: Floats, share: Floats) -> Bytes:
    """The picture less what the object gives to it: black inside of the object, unchanged outside."""
    return np.asarray(np.clip(np.rint(picture - own * share[..., None]), 0, 255), np.uint8)


def _averaged_background(picture: Bytes, share: Floats) -> Bytes:
    """The background's colours without any detail, and under the object those nearest to it."""
    grid = fitted(size_of(picture), BACKGROUND_SIDE)
    behind = np.asarray(1.0 - share, np.float32)
    reach = max(1.0, BACKGROUND_REACH * min(grid))
    colours = blur(shrink(np.asarray(picture * behind[..., None], np.float32), grid), reach)
    mean = colours / (blur(shrink(behind, grid), reach)[..., None] + 1e-5)
    enlarged = cv2.resize(mean, size_of(picture), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(np.rint(enlarged), 0, 255), np.uint8)


def _enlargement(size: Size, room: Size) -> float:
    return min(room[0] / size[0], room[1] / size[1])


def _unused(scene: Size, panel: Size) -> float:
    """Share of a panel that a scene of this size leaves free."""
    width, height = fitted(scene, np.inf, _enlargement(scene, panel))
    return 1.0 - width * height / (panel[0] * panel[1])


def _centred(size: Size, panel: Size) -> Region:
    left, top = (panel[0] - size[0]) // 2, (panel[1] - size[1]) // 2
    return Region(left, top, left + size[0], top + size[1])


def _at(pixels: Bytes, size: Size) -> Bytes:
    return pixels if size_of(pixels) == size else resized(pixels, size)
