"""Placement by the outline, for objects without texture that matches could find.

Both pictures are segmented, the two silhouettes are aligned, and what is seen inside of them is compared. The object is
placed where shape, shading and colour agree beyond what different objects show by chance.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.coarse_map import CoarseMap
from refgc.correspondence.harmonize import LUMA
from refgc.correspondence.shape import (
    EXTENT,
    ROUGH_ITERATIONS,
    Shape,
    ShapeAlignment,
    align_shapes,
    bend,
    in_frame,
    outline_distance,
    shape_of,
    simple_shapes,
)
from refgc.errors import InputError
from refgc.imaging.arrays import Bools, Bytes, Floats, Size, blur, size_of
from refgc.imaging.image import MARKED, Image
from refgc.imaging.warp import fitted, pixel_grid, prefilter, rescale_points, rescaling
from refgc.masks import Prompt, appearance, morphology
from refgc.masks.initial_region import initial_region
from refgc.masks.outline import find_outline
from refgc.masks.soft_edge import soften
from refgc.masks.view import View, around, whole

# The constants of this section were chosen by hand, not fitted.
# Longer sides in pixels at which candidates are looked for and at which an outline is found.
SURVEY_SIDE, OUTLINE_SIDE = 224, 128
# Margin around a candidate, and how far the object may extend beyond it, in sides of its box; rounds of GrabCut and
# components of each mixture.
OUTLINE_MARGIN, EXTENSION, ROUNDS, COMPONENTS = 0.3, 0.2, 3, 5
# Largest distances in a* and b* at which a pixel has the other object's colour, and in lightness, which light changes.
SIMILAR_CHROMA, SIMILAR_LIGHTNESS = (8.0, 14.0, 24.0), 40.0
# Radius of the opening that cuts bridges, as a fraction of the longer side; limits of a candidate's area as a fraction
# of the picture; the overlap from which on two candidates are the same.
BRIDGE, CANDIDATE_AREA, SAME = 0.012, (0.008, 0.6), 0.9
# An outline is read from at least so many pixels.
LEAST_PIXELS = 150
# Bands of the luminance whose correlation is taken: standard deviations of the narrow and the wide window, in pixels of
# the canonical frame. The wide window takes out what light does to the object as a whole.
FINE_BAND, COARSE_BAND = (2.0, 10.0), (3.0, 20.0)
# Variance in grey levels squared below which a band says nothing.
FLAT = 4.0
# Depth inside of the outlines, in pixels of the canonical frame, from which on the insides are compared.
RIM = 2.0
# Grey level at which colours are compared, and the level below which nothing is known of a colour.
MIDDLE, DARK = 110.0, 10.0
# Nodes along the longer side of the picture in which the map's deviation is kept, and pairs of points on the outline.
NODES, OUTLINE_POINTS = 160, 60
# Of the agreement (see `Likeness`): what a distance of the outlines above the close one takes off.
DISTANCE_PENALTY, CLOSE_DISTANCE = 0.8, 0.3
# The probability is a product of logistic functions; here are the middle and the scale of each: of the agreement, of
# how much larger it is than with the mirrored reference, and of four fields of `Likeness`. Chosen by hand, not fitted,
# on one real generated picture, on drawn figurines with simulated artifacts, and on wrong pairs: 1,002 pairings of
# photos and renders of different things, and 336 figurines that are another one, mirrored or recoloured. None of those
# comes above 0.4, and none of 144 wrong pairs of figurines that were drawn afterwards above 0.5.
AGREEMENT, MIRROR = (0.42, 0.03), (0.15, 0.04)
DISTANCE, COLOUR, VARIETY, ANISOTROPY = (0.62, 0.04), (10.5, 1.0), (8.4, 0.7), (1.19, 0.025)
# Below this probability nothing is placed.
LEAST_PROBABILITY = 0.05
# log10 of how often a wrong pair is placed, about: none of those 1,482 was used.
LOG_FALSE_ALARMS = -3.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """How well two silhouettes and their insides agree under an affine map.

    Attributes:
        overlap: intersection over union, in [0, 1].
        distance: mean distance between the outlines, over that of the first one to an ellipse or a rectangle. A round
            outline fits any other round one and a box any other box, so they would have to fit so much better.
        fine: correlation of the luminance inside in a fine band, in [-1, 1].
        coarse: the same in a coarse band.
        colour: mean difference of a* and b* of CIE L*a*b*, at equal mean luminance.
        variety: mean difference of a* and b* to their median inside the reference, without shading.
        anisotropy: of the map, 1 for a similarity.
        turn: rotation of the map in degrees, 0 to 180.
    """

    overlap: float
    distance: float
    fine: float
    coarse: float
    colour: float
    variety: float
    anisotropy: float
    turn: float

    @property
    def agreement(self) -> float:
        """The correlation of both bands less what the outlines' distance takes off."""
        correlation = float(np.tanh(np.arctanh(np.clip([self.fine, self.coarse], -0.99, 0.99)).mean()))
        return correlation - DISTANCE_PENALTY * (self.distance - CLOSE_DISTANCE)


@dataclass(frozen=True, slots=True, eq=False)
class SilhouettePlacement:
    """An object that was found by its outline; coordinates are pixels of the original pictures.

    Attributes:
        map: from generated to reference coordinates.
        mask: the object in the reference, (height, width) in [0, 1].
        outline: the object in the generated picture, (height, width) in [0, 1].
        points: pairs of points on both outlines: (n, 2) of the generated picture, and of the reference.
        likeness: how well the two agree.
        probability: that both show the same object from about the same side.
    """

    map: CoarseMap
    mask: Floats
    outline: Floats
    points: tuple[Floats, Floats]
    likeness: Likeness
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class _Silhouette:
    """A mask in a view of a picture; a rough one's outline is still to be found."""

    view: View
    mask: Bools
    is_rough: bool = False

    def shape(self) -> Shape:
        """Its shape, with a frame that leads to pixels of the picture."""
        shape = shape_of(self.mask)
        left, top, right, bottom = self.view.window
        to_window = rescaling(self.view.size, (right - left, bottom - top))
        to_picture = np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
        return Shape(shape.coverage, to_picture @ to_window @ shape.frame)


def place_by_silhouette(
    generated: Bytes, reference: Bytes, generated_mask: Floats | None, reference_mask: Floats | None
) -> SilhouettePlacement | None:
    """The reference's object in the generated picture, by its outline and what is seen inside of it.

    Args:
        generated: uint8 RGB (height, width, 3).
        reference: uint8 RGB (height, width, 3).
        generated_mask: (height, width) in [0, 1], where the object is; None looks for it.
        reference_mask: the same of the reference.

    Returns:
        The placement, or None where no outline was found or the object is not probable.
    """
    pair = _silhouettes(generated, reference, generated_mask, reference_mask)
    if pair is None:
        return None
    seen, shown = pair[0].shape(), pair[1].shape()
    # Of wires and specks the canonical frame shows too little.
    if min(np.count_nonzero(shape.solid) for shape in (seen, shown)) < EXTENT**2 / 2:
        return None
    aligned = align_shapes(seen, shown)
    likeness = compare_insides(generated, reference, seen, shown, aligned)
    if probability_of(likeness) < LEAST_PROBABILITY:
        return None
    flipped = shown.mirrored()
    mirrored = compare_insides(generated, reference, seen, flipped, align_shapes(seen, flipped))
    probability = probability_of(likeness, mirrored)
    if probability < LEAST_PROBABILITY:
        return None
    mapping = bend(seen, shown, aligned)
    return SilhouettePlacement(
        _coarse_map(seen, shown, aligned, mapping, size_of(generated)),
        _full(reference, pair[1], reference_mask),
        _full(generated, pair[0], generated_mask),
        _outline_points(seen, shown, mapping),
        likeness,
        probability,
    )


def probability_of(likeness: Likeness, mirrored: Likeness | None = None) -> float:
    """The probability in [0, 1] that both silhouettes are the same object from about the same side.

    Shape, shading and colour have to agree, each of them; only the better fit of the outlines makes up for less
    correlation of the shading, since another light changes that. An object of many colours has a print that matches
    would have found if it were the same, and one that fits as well mirrored may be the mirrored one.

    Args:
        likeness: of the generated picture and the reference.
        mirrored: of the generated picture and the mirrored reference; None leaves that out.
    """
    agreement = likeness.agreement
    ahead = 1.0 if mirrored is None else _logistic((agreement - mirrored.agreement - MIRROR[0]) / MIRROR[1])
    return (
        ahead
        * _logistic((agreement - AGREEMENT[0]) / AGREEMENT[1])
        * _logistic((DISTANCE[0] - likeness.distance) / DISTANCE[1])
        * _logistic((COLOUR[0] - likeness.colour) / COLOUR[1])
        * _logistic((VARIETY[0] - likeness.variety) / VARIETY[1])
        * _logistic((ANISOTROPY[0] - likeness.anisotropy) / ANISOTROPY[1])
    )


def compare_insides(generated: Bytes, reference: Bytes, seen: Shape, shown: Shape, aligned: ShapeAlignment) -> Likeness:
    """How well two aligned silhouettes and what is seen inside of them agree.

    Args:
        generated: uint8 RGB (height, width, 3).
        reference: uint8 RGB (height, width, 3).
        seen: the silhouette in the generated picture.
        shown: the one in the reference.
        aligned: the map between them.
    """
    placed = in_frame(shown.coverage, aligned.affine) > 0.5
    simplest = min(outline_distance(seen.solid, shape) for shape in simple_shapes(seen.solid))
    both = seen.solid & placed
    inner = morphology.erode(both, RIM).astype(np.float32)
    pictures = [
        _inside(picture, frame)
        for picture, frame in ((generated, seen.frame), (reference, shown.frame @ aligned.affine))
    ]
    greys = [np.asarray(picture @ LUMA, np.float32) for picture in pictures]
    weight = inner / (float(inner.sum()) + np.float32(1e-6))
    # A darker picture of the same colour has a smaller chroma, and so has the shade.
    levels = [float((grey * weight).sum()) + 1.0 for grey in greys]
    colours = [_chroma(picture * np.float32(MIDDLE / level)) for picture, level in zip(pictures, levels, strict=True)]
    unshaded = _chroma(pictures[1] * (MIDDLE / (blur(greys[1], 1.0)[..., None] + np.float32(DARK))))
    middle = np.median(unshaded[inner > 0], axis=0) if inner.any() else 0.0
    difference, variety = (np.linalg.norm(field, axis=2) for field in (colours[0] - colours[1], unshaded - middle))
    where = both.astype(np.float32)
    fine, coarse = (
        _correlation(_band(greys[0], where, band), _band(greys[1], where, band), inner)
        for band in (FINE_BAND, COARSE_BAND)
    )
    return Likeness(
        overlap=aligned.overlap,
        distance=outline_distance(seen.solid, placed) / max(simplest, 1e-3),
        fine=fine,
        coarse=coarse,
        colour=float((difference * weight).sum()),
        variety=float((variety * weight).sum()),
        anisotropy=aligned.anisotropy,
        turn=abs(aligned.turn),
    )


def _silhouettes(
    generated: Bytes, reference: Bytes, generated_mask: Floats | None, reference_mask: Floats | None
) -> tuple[_Silhouette, _Silhouette] | None:
    """The silhouettes of the generated picture and of the reference that are most alike; None where one has none."""
    pictures, masks = (generated, reference), (generated_mask, reference_mask)
    with ThreadPoolExecutor(2) as threads:
        first = list(threads.map(_first_candidates, pictures, masks))
    if masks[1] is not None and masks[0] is None and first[1]:
        first[0] = [*first[0], *_of_similar_colour(generated, reference, first[1][0])]
    if masks[1] is None and first[0]:
        first[1] = [*first[1], *_of_similar_colour(reference, generated, first[0][0])]
    if not all(first):
        return None
    shapes = [[candidate.shape() for candidate in candidates] for candidates in first]
    overlaps = np.array(
        [[align_shapes(one, other, ROUGH_ITERATIONS).overlap for other in shapes[1]] for one in shapes[0]]
    )
    best = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
    chosen = [candidates[int(index)] for candidates, index in zip(first, best, strict=True)]
    sharp = [_outlined(picture, one) if one.is_rough else one for picture, one in zip(pictures, chosen, strict=True)]
    if min(np.count_nonzero(one.mask) for one in sharp) < LEAST_PIXELS:
        return None
    return sharp[0], sharp[1]


def _first_candidates(picture: Bytes, mask: Floats | None) -> list[_Silhouette]:
    """The object's mask, or the most prominent object with its outline; empty where there is none."""
    if mask is not None:
        marked = (mask > 0.0) & (mask >= MARKED * float(mask.max()))
        if not marked.any():
            return []
        view = _view_around(whole(size_of(picture), max(size_of(picture))), marked, size_of(picture))
        found = view.of_values(marked.astype(np.float32)) > 0.5
        return [_Silhouette(view, found)] if np.count_nonzero(found) >= LEAST_PIXELS else []
    survey = whole(size_of(picture), SURVEY_SIDE)
    small = Image(survey.of_picture(picture))
    try:
        view, region = initial_region(small, Prompt(small.size))
    except InputError:
        return []
    found = view.back(region, small.size)
    if np.count_nonzero(found) < LEAST_PIXELS:
        return []
    outlined = _outlined(picture, _Silhouette(survey, found))
    return [outlined] if np.count_nonzero(outlined.mask) >= LEAST_PIXELS else []


def _of_similar_colour(picture: Bytes, other: Bytes, silhouette: _Silhouette) -> list[_Silhouette]:
    """Regions of a picture that have the median colour of a silhouette in the other picture."""
    colour = np.median(appearance.lab(silhouette.view.of_picture(other))[silhouette.mask], axis=0)
    survey = whole(size_of(picture), SURVEY_SIDE)
    difference = blur(appearance.lab(survey.of_picture(picture)), 1.0) - colour
    chroma, lightness = np.linalg.norm(difference[..., 1:], axis=2), np.abs(difference[..., 0])
    kept: list[Bools] = []
    for limit in SIMILAR_CHROMA:
        similar = (chroma < limit) & (lightness < SIMILAR_LIGHTNESS)
        for radius in (0.0, BRIDGE * max(similar.shape)):
            cut = morphology.opening(similar, radius) if radius else similar
            for part in morphology.components_from(cut, max(CANDIDATE_AREA[0] * cut.size, LEAST_PIXELS)):
                filled = morphology.fill_holes(part)
                if filled.mean() < CANDIDATE_AREA[1] and all(morphology.overlap(filled, one) < SAME for one in kept):
                    kept.append(filled)
    return [_Silhouette(survey, region, is_rough=True) for region in kept]


def _outlined(picture: Bytes, rough: _Silhouette) -> _Silhouette:
    """A rough silhouette with the outline that GrabCut finds near it."""
    view = _view_around(rough.view, rough.mask, size_of(picture))
    region = view.of_view(rough.mask, rough.view)
    outside = ~morphology.dilate(region, max(1.0, EXTENSION * morphology.box_side(region)))
    nothing = np.zeros_like(region)
    return _Silhouette(
        view, find_outline(appearance.lab(view.of_picture(picture)), region, nothing, outside, ROUNDS, COMPONENTS)
    )


def _view_around(view: View, mask: Bools, size: Size) -> View:
    """The view of a mask's surroundings, in which its outline is found."""
    return around(view.box_back(morphology.bounding_box(mask)), OUTLINE_MARGIN, size, OUTLINE_SIDE)


def _inside(picture: Bytes, frame: NDArray[np.float64]) -> Floats:
    """A picture (SIDE, SIDE, 3) in the canonical frame, without aliasing."""
    scale = float(np.sqrt(abs(np.linalg.det(frame[:2, :2]))))
    small = prefilter(picture, scale)
    return in_frame(small.astype(np.float32), rescaling(size_of(picture), size_of(small)) @ frame)


def _chroma(picture: Floats) -> Floats:
    """a* and b* (height, width, 2) of a picture in [0, 255], smoothed."""
    return blur(appearance.lab(np.asarray(np.clip(picture, 0, 255), np.uint8))[..., 1:], 2.0)


def _band(grey: Floats, where: Floats, band: tuple[float, float]) -> Floats:
    """A band of a grey picture's frequencies inside of a mask, by normalised convolution."""
    narrow, wide = (blur(grey * where, sigma) / (blur(where, sigma) + np.float32(1e-3)) for sigma in band)
    return np.asarray(narrow - wide, np.float32)


def _correlation(one: Floats, other: Floats, weight: Floats) -> float:
    """Normalised cross-correlation of two fields under a weight; 0 where nothing has weight."""
    share = weight / (float(weight.sum()) + 1e-6)
    one, other = one - float((share * one).sum()), other - float((share * other).sum())
    energies = [float((share * field**2).sum()) + FLAT for field in (one, other)]
    return float((share * one * other).sum()) / float(np.sqrt(energies[0] * energies[1]))


def _logistic(score: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(score, -50.0, 50.0))))


def _coarse_map(seen: Shape, shown: Shape, aligned: ShapeAlignment, mapping: Floats, size: Size) -> CoarseMap:
    """The bent map between the canonical frames as one between the pictures."""
    to_frame = np.linalg.inv(seen.frame)
    nodes = fitted(size, NODES)
    grid = rescale_points(pixel_grid(nodes), nodes, size).reshape(-1, 1, 2).astype(np.float64)
    places = cv2.perspectiveTransform(grid, to_frame).reshape(nodes[1], nodes[0], 2).astype(np.float32)
    deviation = cv2.remap(mapping - aligned.mapping, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    deviation = deviation @ shown.frame[:2, :2].T
    return CoarseMap(shown.frame @ aligned.affine @ to_frame, np.asarray(deviation, np.float32), size)


def _full(picture: Bytes, silhouette: _Silhouette, mask: Floats | None) -> Floats:
    """The silhouette at the picture's size with a soft edge; the mask itself where one was given."""
    return soften(picture, silhouette.mask, silhouette.view) if mask is None else mask


def _outline_points(seen: Shape, shown: Shape, mapping: Floats) -> tuple[Floats, Floats]:
    """Pairs of points along the outline, in pixels of the two pictures."""
    contour = max(
        cv2.findContours(seen.solid.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len
    ).reshape(-1, 2)
    contour = contour[:: max(1, len(contour) // OUTLINE_POINTS)]
    pairs = zip((contour, mapping[contour[:, 1], contour[:, 0]]), (seen.frame, shown.frame), strict=True)
    here, there = (
        np.asarray(
            cv2.perspectiveTransform(points.reshape(-1, 1, 2).astype(np.float64), frame).reshape(-1, 2), np.float32
        )
        for points, frame in pairs
    )
    return here, there
