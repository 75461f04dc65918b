"""Masks of the object in its frames: those of the source, of a model, or of the weight-free segmenter.

Nobody clicks on ten thousand frames, and the object is not always in the middle. Photos of one object in different
places have nothing in common but the object: so what matches between them marks it for the segmenter. In a video the
background stays as well, and there the object has to be on a plain background or in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from refgc.correspondence.learned import Networks
from refgc.dataset.frames import Frame
from refgc.dataset.manifest import Rejection
from refgc.dataset.matching import find_agreeing, find_keypoints
from refgc.dataset.settings import PairSettings
from refgc.errors import EngineError, InputError
from refgc.imaging.arrays import Floats
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.region import Region
from refgc.masks import morphology, weights
from refgc.masks.grabcut import GrabCutSegmenter
from refgc.masks.plain_background import object_on_plain_background
from refgc.masks.prompt import Prompt

# The maker of masks that the source gives.
SOURCE = "source"
# The constants of this file were chosen by hand, not fitted.
# Two photos show one object where log10 of the probability by chance is below this.
ALIKE = -4.0
# A keypoint is of the object where this share of the photos that match at all match it, and at least one does.
SUPPORT = 0.4
# Least number of such keypoints; and the largest share of the picture's area that their box may have. Beyond that the
# background has matched too.
LEAST_POINTS, LARGEST_BOX = 8, 0.75
# Percentiles of the keypoints between which the box lies, and its two margins in parts of its longer side.
PERCENTILES, MARGINS = (3, 97), (0.12, 0.22)
# Parts of a mask under this share of its largest are specks; a larger second one is a second object or a cut one.
SPECK, SECOND_PART = 0.02, 0.1


class ObjectMasker(Protocol):
    """A model that finds an object by its name."""

    @property
    def maker(self) -> str:
        """What rows name as the maker of its masks, such as "sam3"."""
        ...

    def masks_of(self, frames: Sequence[Image], object_name: str) -> Sequence[Mask | None]:
        """The object's mask in each of its frames, which are in the order of time; None where there is not one.

        Raises:
            InputError: the name cannot be read.
            EngineError: the model cannot run.
        """
        ...


@dataclass(frozen=True, slots=True)
class FoundSam:
    """A SAM 3 that was there when it was looked for: small and picklable, so that it can be sent to a worker.

    Attributes:
        name: of its weights.
        maker: in each picture, or along a video.
        place: a folder or Hub repository.
    """

    name: str
    maker: Literal["sam3", "sam3-video"]
    place: str

    def open(self) -> ObjectMasker:
        """The masker.

        Raises:
            EngineError: its weights are no longer here, or there is no such device.
        """
        from refgc.dataset.sam import SamPictures, SamVideo

        return SamPictures(self.place) if self.maker == "sam3" else SamVideo(self.place)


def find_masker(maker: Literal["sam3", "sam3-video"]) -> FoundSam:
    """The SAM 3 that `REFGC_SAM` names; torch is not imported.

    Raises:
        EngineError: none is named, it is not on this machine, or it finds nothing by words.
    """
    obstacle, named = weights.obstacle(), weights.source()
    if obstacle or named is None:
        raise EngineError(obstacle)
    able = weights.TAKES_WORDS if maker == "sam3" else weights.FOLLOWS_WORDS
    if weights.architecture(weights.find(named)) not in able:
        raise weights.reads_no_words(named)
    folder = Path(named).expanduser()
    if not folder.is_dir():
        return FoundSam(named, maker, named)
    # A worker may run in another folder. Where it lies is of no meaning to others.
    place = folder.resolve()
    return FoundSam(place.name, maker, str(place))


@dataclass(frozen=True, slots=True, eq=False)
class MaskedFrame:
    """A frame with the object in it.

    Attributes:
        frame: the frame.
        mask: the object, one part without specks; soft at its edge.
        maker: what made the mask.
        quality: in [0, 1]; 1 for a mask of the source, None where the maker gave one mask and no measure of it.
        box: around the object.
    """

    frame: Frame
    mask: Mask
    maker: str
    quality: float | None
    box: Region


def mask_frames(
    frames: Sequence[Frame],
    object_name: str,
    settings: PairSettings,
    networks: Networks,
    masker: ObjectMasker | None = None,
) -> tuple[list[MaskedFrame], list[Rejection]]:
    """The frames in which exactly one whole object is found, and the others with their reasons.

    Args:
        frames: of one object.
        object_name: in a word or two, for the model.
        settings: of the run.
        networks: of learned matching.
        masker: makes the masks where the settings ask for a model.
    """
    if settings.masks not in ("auto", "source"):
        frames = [replace(frame, mask=None) for frame in frames]
    if masker is not None:
        found = _by_model(frames, object_name, masker)
    elif settings.masks == "source":
        found = {frame.name: (None, SOURCE, None, "The source has no mask of it.") for frame in frames}
    else:
        found = _by_common_points(frames, networks)
    kept: list[MaskedFrame] = []
    rejected: list[Rejection] = []
    for frame in frames:
        own: _Found = (frame.mask, SOURCE, 1.0, "")
        mask, maker, quality, reason = found[frame.name] if frame.mask is None else own
        whole = None if reason or mask is None else _one_part(mask)
        if not reason:
            reason = _fault(whole, quality, settings)
        if reason or whole is None:
            rejected.append(Rejection(step="masks", what=frame.name, reason=reason))
        else:
            rounded = None if quality is None else round(quality, 4)
            kept.append(MaskedFrame(frame, whole, maker, rounded, _box(whole)))
    return kept, rejected


_Found = tuple[Mask | None, str, float | None, str]
"""Mask, maker, quality, and why there is none."""


def _by_model(frames: Sequence[Frame], object_name: str, masker: ObjectMasker) -> dict[str, _Found]:
    if not frames:
        return {}
    masks = masker.masks_of([frame.image for frame in frames], object_name)
    none = f"Not exactly one {object_name} was found in it."
    return {
        frame.name: (mask, masker.maker, None, "" if mask is not None else none)
        for frame, mask in zip(frames, masks, strict=True)
    }


def _by_common_points(frames: Sequence[Frame], networks: Networks) -> dict[str, _Found]:
    """Masks without weights for the frames that have none."""
    found: dict[str, _Found] = {}
    bare = [frame for frame in frames if frame.mask is None]
    plain = {frame.name: object_on_plain_background(frame.image.pixels) for frame in bare}
    # In a video the background matches too.
    hard = [frame for frame in bare if plain[frame.name] is None and frame.seconds is None]
    points = _common_points(frames, {frame.name for frame in hard}, networks) if hard else {}
    for frame in bare:
        flat = plain[frame.name]
        prompts = _prompts(frame.image, points.get(frame.name))
        if flat is not None:
            prompts = [Prompt(frame.image.size)]
        masks = [mask for mask in (_segmented(frame.image, prompt) for prompt in prompts) if mask is not None]
        if flat is not None:
            masks.insert(0, Mask(flat))
        if len(masks) < 2:
            found[frame.name] = (None, "grabcut", 0.0, "No object was found in it.")
        else:
            agreement = float(morphology.overlap(*(mask.values >= MARKED for mask in masks[:2])))
            found[frame.name] = (masks[0], "grabcut", agreement, "")
    return found


def _common_points(frames: Sequence[Frame], wanted: set[str], networks: Networks) -> dict[str, Floats]:
    """For frames by name: the points (n, 2) in pixels that most of the frames showing the same object share."""
    keypoints = [
        find_keypoints(frame.image.pixels, None if frame.mask is None else frame.mask.values, None, networks)
        for frame in frames
    ]
    support = [np.zeros(len(points), np.int64) for points in keypoints]
    partners = [0] * len(frames)
    for i, j in combinations(range(len(frames)), 2):
        if frames[i].name not in wanted and frames[j].name not in wanted:
            continue
        shared = find_agreeing(keypoints[i], keypoints[j], networks)
        if shared.log_chance <= ALIKE:
            for which, index in ((i, shared.first_index), (j, shared.second_index)):
                partners[which] += 1
                support[which][index] += 1
    common: dict[str, Floats] = {}
    for frame, points, count, others in zip(frames, keypoints, support, partners, strict=True):
        chosen = points.points[count >= max(1.0, SUPPORT * others)]
        if frame.name in wanted and others and len(chosen) >= LEAST_POINTS:
            common[frame.name] = chosen
    return common


def _prompts(image: Image, points: Floats | None) -> list[Prompt]:
    """Two prompts for one object: boxes of two sizes around common points, or the middle and no mark at all."""
    width, height = image.size
    middle = [Prompt(image.size, positive=((width // 2, height // 2),)), Prompt(image.size)]
    if points is None:
        return middle
    low, high = np.percentile(points, PERCENTILES, axis=0)
    if float(np.prod(high - low)) > LARGEST_BOX * width * height:
        return middle
    inside = points[((points >= low) & (points <= high)).all(axis=1)]
    scribble = np.zeros((height, width), np.float32)
    radius = max(1, round(max(image.size) / 400))
    for x, y in np.rint(inside).astype(int):
        cv2.circle(scribble, (int(x), int(y)), radius, 1.0, -1)
    prompts = []
    for margin in MARGINS:
        space = margin * float((high - low).max()) + 4.0
        left, top = (max(0, int(value)) for value in low - space)
        right, bottom = (min(limit, int(value) + 1) for value, limit in zip(high + space, image.size, strict=True))
        prompts.append(Prompt(image.size, box=(left, top, right, bottom), scribble=Mask(scribble.copy())))
    return prompts


def _segmented(image: Image, prompt: Prompt) -> Mask | None:
    try:
        return GrabCutSegmenter().segment(image, prompt)
    except InputError:  # nothing was found there
        return None


def _one_part(mask: Mask) -> Mask | None:
    """The mask without specks, or None where it is empty or has two parts of some size."""
    marked = mask.values >= MARKED
    areas = sorted((np.count_nonzero(part) for part in morphology.components_from(marked, 1)), reverse=True)
    if not areas or (len(areas) > 1 and areas[1] > SECOND_PART * areas[0]):
        return None
    whole = np.any(morphology.components_from(marked, SPECK * areas[0]), axis=0)
    # The soft edge of what stays belongs to it.
    return Mask(np.where(morphology.dilate(whole, 3.0), mask.values, 0.0).astype(np.float32))


def _fault(mask: Mask | None, quality: float | None, settings: PairSettings) -> str:
    """Why a mask cannot be used; empty where it can."""
    if mask is None:
        return "The object is not in it, or its mask has several parts."
    if quality is not None and quality < settings.least_mask_quality:
        return f"Its mask is uncertain: two prompts give masks that overlap by {quality:.2f}."
    box = _box(mask)
    if max(box.size) < settings.least_object_side:
        return f"The object is too small: {max(box.size)} pixels."
    marked = mask.values >= MARKED
    # Padded, since what lies beyond the frame is not the object.
    outline = marked & ~morphology.erode(np.pad(marked, 1), 1.5)[1:-1, 1:-1]
    border = np.zeros_like(outline)
    border[[0, -1]] = border[:, [0, -1]] = True
    cut = np.count_nonzero(outline & border) / np.count_nonzero(outline)
    if cut > settings.cut_share:
        return "The object is cut off by the border of the frame."
    return ""


def _box(mask: Mask) -> Region:
    left, top, right, bottom = morphology.bounding_box(mask.values >= MARKED)
    return Region(int(left), int(top), int(right), int(bottom))
