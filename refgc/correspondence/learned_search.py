"""Learned matching from coarse to fine: first the whole pictures, then a closer look at where both show the object.

The object is often small in the generated picture and large in the reference. The networks match pictures best in which
it has about the same size, so the parts that match coarsely are cut out, brought to one size and matched again. The
closer look is also a check: parts that match by mistake hardly ever match again.
"""

from dataclasses import dataclass

import numpy as np

from refgc.correspondence.coherence import coherent, log_chance
from refgc.correspondence.learned import KEYPOINT_LIMIT, Networks
from refgc.correspondence.match import Matches, match_learned, search_mask
from refgc.imaging.arrays import Bytes, Floats, Size, resized, size_of
from refgc.imaging.region import Region
from refgc.imaging.warp import fitted, rescale_points


@dataclass(frozen=True, slots=True)
class Resolution:
    """How large two pictures are when they are matched.

    Attributes:
        generated_side: longer side of the generated picture in pixels.
        enlargement: the most by which it is enlarged.
        reference_side: longer side of the reference in pixels.
        keypoints: the most in one picture.
    """

    generated_side: int
    enlargement: float
    reference_side: int
    keypoints: int


# The constants of this file were chosen by hand, not fitted.
COARSE = Resolution(512, 2.0, 512, 1536)
CLOSE = Resolution(640, 6.0, 640, KEYPOINT_LIMIT)
FINE = Resolution(1024, 4.0, 1280, KEYPOINT_LIMIT)
# Coherence is measured in frames with these longer sides, whatever the resolution.
GENERATED_FRAME, REFERENCE_FRAME = 1024, 1280
# Coarse matches whose log10 of their probability by chance is above this are not looked at more closely; a closer look
# that falls below the other is enough.
PROMISING, SURE = -1.9, -4.0
# Where the matches of the closer look lie in less than this share of the part, that is looked at once more.
SETTLED = 0.7
# The part that is cut out lies between these percentiles of the coarse matches, with a margin as a fraction of its
# longer side.
PERCENTILES = (3, 97)
MARGIN = 0.15
# A reference is a photo of its object. Where nothing else says where that is, matches count only if at least this share
# of them lies in the middle half of the reference's width and height. Two photos taken in one room match in its walls
# at the edge; of right pairs that were looked at, the fewest were 0.24.
CENTRAL_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class LearnedEvidence:
    """Learned matches that move like their neighbours, and how unlikely they are by chance.

    Attributes:
        matches: in pixels of the two pictures.
        log_chance: log10 of the probability of as many in pictures that share nothing; 0 where there are none.
    """

    matches: Matches
    log_chance: float


def find_learned_evidence(
    generated: Bytes,
    reference: Bytes,
    networks: Networks,
    generated_mask: Floats | None = None,
    reference_mask: Floats | None = None,
) -> LearnedEvidence:
    """Learned matches of two pictures, from coarse to fine.

    Args:
        generated: uint8 RGB (height, width, 3).
        reference: uint8 RGB (height, width, 3).
        networks: the weights.
        generated_mask: (height, width) in [0, 1], the object in the generated picture; None looks everywhere.
        reference_mask: the same of the reference.
    """
    pictures = _Pictures(generated, reference, generated_mask, reference_mask)
    whole = Region(0, 0, *size_of(generated)), Region(0, 0, *size_of(reference))
    coarse = pictures.evidence(networks, *whole, COARSE)
    if coarse.log_chance <= PROMISING:
        parts = _parts(coarse.matches, whole)
        close = pictures.evidence(networks, *parts, CLOSE)
        if close.log_chance <= SURE:
            smaller = _parts(close.matches, whole)
            if min(_area(new) / _area(old) for new, old in zip(smaller, parts, strict=True)) <= SETTLED:
                closer = pictures.evidence(networks, *smaller, CLOSE)
                close = min(close, closer, key=lambda evidence: evidence.log_chance)
            return pictures.of_object(close)
    return pictures.of_object(pictures.evidence(networks, *whole, FINE))


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Two pictures and the masks of what is looked for."""

    generated: Bytes
    reference: Bytes
    generated_mask: Floats | None
    reference_mask: Floats | None

    def evidence(self, networks: Networks, seen: Region, shown: Region, resolution: Resolution) -> LearnedEvidence:
        """The evidence of a part of the generated picture and one of the reference, at some resolution."""
        frame = fitted(seen.size, resolution.generated_side, resolution.enlargement)
        reference_frame = fitted(shown.size, resolution.reference_side)
        found = match_learned(
            resized(seen.of(self.generated), frame),
            resized(shown.of(self.reference), reference_frame),
            networks,
            enlargement=max(1.0, frame[0] / seen.size[0]),
            limit=resolution.keypoints,
            generated_mask=_part_mask(self.generated_mask, seen, frame),
            reference_mask=_part_mask(self.reference_mask, shown, reference_frame),
        )
        units = coherence_frame(seen.size, GENERATED_FRAME)
        reference_units = coherence_frame(shown.size, REFERENCE_FRAME)
        scaled = found.at(
            rescale_points(found.generated, frame, units),
            rescale_points(found.reference, reference_frame, reference_units),
        )
        moving = scaled.subset(coherent(scaled))
        return LearnedEvidence(
            moving.at(
                _in_picture(moving.generated, units, seen), _in_picture(moving.reference, reference_units, shown)
            ),
            log_chance(moving, units, reference_units),
        )

    def of_object(self, found: LearnedEvidence) -> LearnedEvidence:
        """The evidence, or none where it lies at the reference's edge alone."""
        if self.reference_mask is not None or not len(found.matches):
            return found
        offset = np.abs(found.matches.reference / np.array(size_of(self.reference)) - 0.5).max(axis=1)
        if float((offset < 0.25).mean()) >= CENTRAL_SHARE:
            return found
        return LearnedEvidence(found.matches.subset(np.zeros(len(offset), bool)), 0.0)


def coherence_frame(size: Size, side: int) -> Size:
    """`size` scaled so that its longer side is `side`: in such frames coherence is measured."""
    return fitted(size, side, float("inf"))


def _parts(matches: Matches, whole: tuple[Region, Region]) -> tuple[Region, Region]:
    """The parts of both pictures in which matches lie."""
    return _part(matches.generated, whole[0].size), _part(matches.reference, whole[1].size)


def _area(part: Region) -> int:
    return part.size[0] * part.size[1]


def _part(points: Floats, size: Size) -> Region:
    """The part of a picture in which points (n, 2) lie, but for a few."""
    low, high = np.percentile(points, PERCENTILES, axis=0)
    space = MARGIN * float((high - low).max()) + 4.0
    left, top = (max(0, int(v)) for v in np.floor(low - space))
    right, bottom = (min(limit, int(v) + 1) for v, limit in zip(np.ceil(high + space), size, strict=True))
    return Region(left, top, right, bottom)


def _part_mask(mask: Floats | None, part: Region, size: Size) -> Bytes | None:
    return None if mask is None else search_mask(part.of(mask), size)


def _in_picture(points: Floats, frame: Size, part: Region) -> Floats:
    """Points in the frame of a part as pixels of its picture."""
    return rescale_points(points, frame, part.size) + np.array([part.left, part.top], np.float32)
