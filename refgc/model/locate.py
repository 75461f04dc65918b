"""Chooses the window of each picture that the model works on, and its size, and cuts the window out."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence import segment
from refgc.correspondence.find import Finding, find
from refgc.correspondence.placement import sureness
from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Floats, Size, resized
from refgc.imaging.image import MARKED
from refgc.imaging.region import Region
from refgc.imaging.upscale import clean_upscale
from refgc.masks.plain_background import object_on_plain_background
from refgc.request import RefineRequest

Window = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of a picture, `right` and `bottom` outside."""

# Latents are 8 times smaller than pixels and packed two by two into tokens.
SIZE_MULTIPLE = 16
# The sizes FLUX.1-Kontext was trained at; diffusers calls them PREFERRED_KONTEXT_RESOLUTIONS.
KONTEXT_SIZES: tuple[Size, ...] = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
    (1104, 944),
    (1184, 880),
    (1248, 832),
    (1328, 800),
    (1392, 752),
    (1456, 720),
    (1504, 688),
    (1568, 672),
)
KONTEXT_PIXELS = 1024 * 1024
# Margin around the object on each side: a share of its longer side, and some pixels for very small objects. Both chosen
# by hand, not fitted.
MARGIN = 0.15
MARGIN_PIXELS = 8
# A window is enlarged at most this many times. Around a tiny object it takes more surroundings instead. Chosen by hand,
# not fitted.
MAX_ENLARGEMENT = 8.0
# A window is stretched by at most this share to the model's aspect ratio; otherwise it is padded. Chosen by hand, not
# fitted.
MAX_STRETCH = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows of the two pictures that the model is given, and their sizes.

    Attributes:
        reference_window: the part of the reference, in its own pixels.
        generated_window: the part of the generated picture, in its own pixels.
        reference_mask: the object, (height, width) of the whole reference in [0, 1], or None where it is not known.
        generated_mask: the same for the generated picture.
        working_size: (width, height) at which the model is given the generated window, and gives it back.
        reference_size: (width, height) at which the model is given the reference window.
        matches: feature matches behind the placement, 0 where none were looked for.
        confidence: of the placement, in [0, 1]: that of the matches, else 1 where the generated object was marked.
        found: whether the object's place in the generated picture is known, be it marked or found.
    """

    reference_window: Window
    generated_window: Window
    reference_mask: Floats | None
    generated_mask: Floats | None
    working_size: Size
    reference_size: Size
    matches: int
    confidence: float
    found: bool


def locate(request: RefineRequest, *, whole: bool = False, working_size: Size | None = None) -> Windows:
    """Choose the windows around the object: where it is marked, else where feature matches place it, else the whole.

    A window has a margin around the object and then grows, inside the picture, to the aspect ratio of the nearest
    Kontext size that fits. Where none fits, the window takes what the picture has and `crop` pads it.

    Args:
        request: the two pictures, and masks where the object is marked.
        whole: take all of both pictures; masks that were given still say what the object is.
        working_size: (width, height) for the generated window instead of a Kontext size; the reference is then
            given with about as many pixels.

    Raises:
        InputError: `working_size` is not made of multiples of 16.
    """
    if working_size is not None:
        _check(working_size)
    reference_mask = request.reference_mask.values if request.reference_mask else None
    generated_mask = request.generated_mask.values if request.generated_mask else None
    sought = not whole and (reference_mask is None or generated_mask is None)
    finding = find(request) if sought else None
    if finding is not None and finding.object_mask is not None:
        reference_mask = finding.object_mask
        if generated_mask is None:
            generated_mask = _placed(request.generated.pixels, finding, finding.object_mask)
    elif sought and reference_mask is None and generated_mask is not None:
        reference_mask = object_on_plain_background(request.reference.pixels)
    found = finding is not None or request.generated_mask is not None
    generated_window, generated_size = _window(
        None if whole else generated_mask, request.generated.size, (working_size,) if working_size else KONTEXT_SIZES
    )
    reference_window, reference_size = _window(
        None if whole else reference_mask, request.reference.size, _sizes_like(working_size)
    )
    return Windows(
        reference_window,
        generated_window,
        reference_mask,
        generated_mask,
        generated_size,
        reference_size,
        matches=len(finding.matches) if finding else 0,
        confidence=sureness(finding.log_false_alarms) if finding else float(found),
        found=found,
    )


def crop(
    pixels: Bytes, window: Window, size: Size, *, enlarge: Callable[[Bytes, Size], Bytes] = clean_upscale
) -> Bytes:
    """The window of a picture at `size`, undistorted.

    A window of another aspect ratio is centred (see `content_area`), and the rest is filled by reflection: a plain
    border would be an edge that the model would draw.

    Args:
        pixels: uint8 RGB (height, width, 3).
        window: inside the picture.
        size: (width, height) of the result.
        enlarge: used where the window is smaller than its place in the result.

    Returns:
        uint8 RGB (size[1], size[0], 3), of its own memory.
    """
    region, area = Region(*window), content_area(window, size)
    part = np.asarray(region.of(pixels), np.uint8)
    larger = area.size[0] >= region.size[0] and area.size[1] >= region.size[1]
    content = enlarge(part, area.size) if larger else resized(part, area.size)
    padding = (area.top, size[1] - area.bottom, area.left, size[0] - area.right)
    return np.asarray(cv2.copyMakeBorder(content, *padding, cv2.BORDER_REFLECT_101), np.uint8)


def content_area(window: Window, size: Size) -> Region:
    """The part of a crop of `size` that shows the window: all of it, unless that would stretch it visibly."""
    width, height = Region(*window).size
    across, down = size[0] / width, size[1] / height
    if max(across, down) <= (1.0 + MAX_STRETCH) * min(across, down):
        return Region(0, 0, *size)
    content = (
        min(size[0], max(1, round(width * min(across, down)))),
        min(size[1], max(1, round(height * min(across, down)))),
    )
    left, top = (size[0] - content[0]) // 2, (size[1] - content[1]) // 2
    return Region(left, top, left + content[0], top + content[1])


def _check(size: Size) -> None:
    if all(side > 0 and side % SIZE_MULTIPLE == 0 for side in size):
        return
    lower, upper = (
        tuple(max(SIZE_MULTIPLE, (side + more) // SIZE_MULTIPLE * SIZE_MULTIPLE) for side in size)
        for more in (0, SIZE_MULTIPLE - 1)
    )
    nearest = " or ".join(dict.fromkeys(f"{width}x{height}" for width, height in (lower, upper)))
    raise InputError(
        f"The working size is {size[0]}x{size[1]} pixels, and both sides must be multiples of {SIZE_MULTIPLE}; "
        f"use {nearest}."
    )


def _sizes_like(size: Size | None) -> tuple[Size, ...]:
    """The Kontext sizes, or sizes of the same aspect ratios with about as many pixels as `size`."""
    if size is None:
        return KONTEXT_SIZES
    factor = float(np.sqrt(size[0] * size[1] / KONTEXT_PIXELS)) / SIZE_MULTIPLE
    return tuple(
        (max(1, round(width * factor)) * SIZE_MULTIPLE, max(1, round(height * factor)) * SIZE_MULTIPLE)
        for width, height in KONTEXT_SIZES
    )


def _placed(generated: Bytes, finding: Finding, object_mask: Floats) -> Floats | None:
    """The object in the generated picture, (height, width), around where its matches put the reference's mask.

    A homography places a flat face; parts that turn away from it are added by a segmentation by colour. The mask is the
    convex hull: an object that is only partly redrawn shows its old part beside the new one, while background inside
    the hull is only drawn again as it was.
    """
    region = finding.region
    warped = finding.maps[0].placed(object_mask, region, region.size)
    points = finding.matches.generated - np.array([region.left, region.top], np.float32)
    matched = np.zeros(warped.shape, np.uint8)
    cv2.fillConvexPoly(matched, cv2.convexHull(points.astype(np.int32)), 1)
    seed = np.asarray(np.maximum(warped, matched), np.float32)
    outline = segment.object_at_placement(
        np.ascontiguousarray(region.of(generated), np.uint8), seed, matched.astype(np.float32)
    )
    solid = (np.maximum(seed, outline) >= MARKED).astype(np.uint8)
    parts, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not parts:
        return None
    mask = np.zeros(generated.shape[:2], np.float32)
    region.of(mask)[:] = cv2.fillConvexPoly(solid, cv2.convexHull(np.concatenate(parts)), 1)
    return mask


def _window(mask: Floats | None, frame: Size, sizes: tuple[Size, ...]) -> tuple[Window, Size]:
    """The window around the object of a mask, or all of a picture of size `frame`, with the size that suits it."""
    box = None if mask is None else _surroundings(mask)
    if box is None:
        return (0, 0, *frame), min(sizes, key=lambda size: _stretch(frame, size))
    # The margin is cut at the picture's border; the object itself lies inside.
    low, high = np.maximum(box[0], 0.0), np.minimum(box[1], frame)
    wanted = high - low
    fitting = [size for size in sizes if _step(wanted, size) <= (1.0 + MAX_STRETCH) * _largest_step(frame, size)]
    size = min(fitting or sizes, key=lambda size: _stretch((float(wanted[0]), float(wanted[1])), size))
    step = max(_step(wanted, size), min(1.0 / MAX_ENLARGEMENT, _largest_step(frame, size)))
    sides = np.minimum(np.maximum(np.round(step * np.array(size)), np.ceil(wanted)), frame)
    start = np.clip(np.round((low + high - sides) / 2), 0, np.array(frame) - sides)
    left, top, right, bottom = (int(value) for value in (*start, *(start + sides)))
    return (left, top, right, bottom), size


def _surroundings(mask: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Upper left and lower right of the marked object with its margin, maybe beyond the picture; None if unmarked."""
    columns, rows = np.flatnonzero((mask >= MARKED).any(axis=0)), np.flatnonzero((mask >= MARKED).any(axis=1))
    if len(rows) == 0:
        return None
    low = np.array([columns[0], rows[0]], np.float64)
    high = np.array([columns[-1] + 1, rows[-1] + 1], np.float64)
    space = MARGIN * float((high - low).max()) + MARGIN_PIXELS
    return low - space, high + space


def _step(extent: NDArray[np.float64], size: Size) -> float:
    """Pixels of the picture per pixel of a crop of `size` that holds `extent` (width, height)."""
    return float((extent / np.array(size)).max())


def _largest_step(frame: Size, size: Size) -> float:
    """Pixels of the picture per pixel of the largest crop of `size` that lies inside `frame`."""
    return min(frame[0] / size[0], frame[1] / size[1])


def _stretch(extent: tuple[float, float], size: Size) -> float:
    """How far an extent's aspect ratio is from that of `size`, as a logarithm."""
    return abs(float(np.log(extent[0] * size[1] / (extent[1] * size[0]))))
