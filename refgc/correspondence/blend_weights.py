"""Blend weights: the light that the placed reference takes on, and the trust with which each pixel of it is used."""

from dataclasses import dataclass, replace

import numpy as np

from refgc.correspondence import segment
from refgc.correspondence.align import GAIN_SIGMA, Alignment
from refgc.correspondence.harmonize import LUMA, Light, estimate_light
from refgc.correspondence.trust import (
    AROUND,
    FEATURE_NAMES,
    FLAT_VARIANCE,
    NEAR,
    Evidence,
    LocalFit,
    ObjectFit,
    bending,
    estimate_trust,
    local_correlation,
    object_confidence,
    object_features,
    object_trust,
    parallax,
    usage_of,
)
from refgc.imaging.arrays import Bytes, Floats, blur, enlarge, local_variance, resized, shrink, size_of, smoothstep
from refgc.imaging.warp import fitted, inside, prefilter, sample, warp_mask

# The constants of this file were chosen by hand, not fitted.
# Standard deviation of the gain's window for an object, as a fraction of its region's longer side: folds and highlights
# are smaller than the object.
OBJECT_GAIN_SIGMA = 0.03
# Window of the offset of an object whose print is known to be the reference's, in units of the gain's window.
WIDE_OFFSETS = (4.0,)
# The same of an object that was found by its outline: what the generated picture shows of its shading stays, and only
# finer relief comes from the reference, since that was lit from another side.
SILHOUETTE_OFFSETS = (4.0, 2.0, 1.0, 0.5, 0.3)
# Of 114 drawn figurines with known truth that were placed by their outline, among them 17 turned too far or only alike,
# so large a share came nearer to the truth by it.
SILHOUETTE_CONFIDENCE = 0.65
# Error in pixels of the flow frame of an outline that was found in a soft picture.
OUTLINE_ERROR = 4
# An object is used with the strength (trust / FULL_TRUST) ** EXPONENT, at most 1: where the reference is as likely
# nearer to the truth as not, half of it is nearer than all or nothing. Of the values that benchmarks/fit_trust.py
# compares, ones with nearly the largest gain and little loss in any case that it is fitted on.
FULL_TRUST = 0.85
EXPONENT = 1.5
# Ranges over which the object as a whole is taken for the same one, seen from the same side with nothing in front; see
# `ObjectFit`. Then what disagrees is the picture's artifact, and the whole object is used except where the map bends,
# has no reliable flow around or leaves the outline. Chosen by hand; `benchmarks/fit_trust.py` says what it gains.
WHOLE_RELIABLE, WHOLE_ALIKE = (0.1, 0.5), (0.9, 0.99)
WHOLE_COVERED, WHOLE_INSIDE = (0.88, 1.0), (0.65, 0.95)
WHOLE_UNCOVERED, WHOLE_OUTLINE = (0.5, 1.0), (0.3, 0.7)
WHOLE_BENDING, WHOLE_RELIABLE_AROUND = (-0.5, -1.5), (0.1, 0.4)
# What stands in front of an object, or is on a side that the reference does not show, differs from it by much more than
# the object elsewhere, and has no reliable flow. Ranges over which a part is taken for such a thing: of its difference,
# in units of the median difference where the flow is reliable; and of the flow's reliability. Then the least such unit
# in grey levels, the reliability from which it is measured, and the window in cells, first of the difference and then
# of its size: of wrong print the difference changes from place to place. Chosen by hand, on 18 pairs of photos, the ten
# examples and 15 drawn scenes, six of them with something in front. Windows up to 4 and ranges from 3 to 6 gain nearly
# the same there, and no pair loses more than 0.02 dB by them.
CONTRARY_DIFFERENCE, CONTRARY_RELIABLE = (4.0, 5.5), (0.3, 0.8)
LEAST_DIFFERENCE, AGREED = 20.0, 0.8
CONTRARY_WINDOW = 2.0
# Window of the light under which it is compared, in units of the object's: what stands in front is no light.
CONTRARY_LIGHT = 4.0
# Range of the outline in the generated picture over which an object is used: nothing is laid well beside it.
USED_OUTLINE = (0.0, 0.3)
# Ranges over which an object goes from unused to used: of the confidence of one that was found by its matches, and of
# the probability of one that was found by its outline. Half of an object that is not sure comes nearer to the truth
# than all of it: of a toy car at a confidence of 0.69, all of it loses 0.6 dB and half of it nothing.
SURE_RANGE, PROBABLE_RANGE = (0.45, 0.95), (0.5, 0.9)
# Local correlation from which on a placed object looks alike.
ALIKE = 0.2
# An object is placed as a whole if so large a fraction of it is used with so much strength.
WHOLE = 0.9
WHOLE_STRENGTH = 0.5
# Ranges of `BlendWeights.detail` and `magnification` over which a reference goes from useless to useful. Of the pairs
# in examples/ and of photographs in focus none has less detail than 0.9; blurred references have less than 0.4.
DETAIL_RANGE = (0.45, 0.75)
MAGNIFICATION_RANGE = (0.9, 1.2)
# Ranges over which an object goes from the reference's colours to other ones: of the difference of the colours as a
# fraction of the colourfulness, and of the turn of the hues in degrees. Chosen by hand: of 20 real pairs whose colours
# correlate none is turned by more than 17 degrees, and the turn of pictures that were turned is found to a degree.
DIFFERENCE_RANGE, TURN_RANGE = (0.45, 0.6), (30.0, 60.0)
# Window over which an object keeps the generated picture's colours: a standard deviation in pixels of that picture, and
# as a fraction of its region's longer side, whichever is larger. Chosen by hand: with 2.5 to 4 pixels seven true pairs
# lose no more than 0.02 dB, and twelve whose colours differ in a part of the object gain, 0.4 dB in the mean.
COLOUR_PIXELS, COLOUR_SHARE = 3.0, 0.012
# The colourfulness in grey levels of what counts as grey, and the ranges of the colours' spread in grey levels and of
# their correlation over which a turn can be told. Chosen by hand: turned pictures correlate by 0.9. Of the real pairs a
# boot of one colour (0.07) and a backpack with little flow (0.52) do not.
COLOURLESS = 8.0
SPREAD_RANGE, CORRELATED_RANGE = (4.0, 8.0), (0.5, 0.75)
# Ranges of the masks' coverage, smoothed with a standard deviation in pixels of the flow frame, over which an object
# that was found by its outline goes from unused to used. Both outlines count, so that nothing beside them is taken.
SILHOUETTE_EDGE = 1.0
PLACED_RANGE, OUTLINE_RANGE = (0.5, 1.0), (0.4, 0.9)
# Range of the disagreement in grey levels, smoothed over `AROUND`, over which such an object is no longer used: there
# something else is seen.
DISAGREEMENT_RANGE = (30.0, 15.0)
# Range of the local correlation over which it is used. Where one has light and the other shade, a part of the object
# has moved, and would be seen twice.
CONTRARY_RANGE = (-0.3, 0.1)


@dataclass(frozen=True, slots=True)
class BlendWeights:
    """Light and trust of an aligned reference; each field has a grid of its own over the same region.

    Attributes:
        light: the change of light.
        trust: (rows, columns) in [0, 1].
        outline: (rows, columns) in [0, 1], the object in the generated picture.
        is_whole: whether the placed object is the whole of it.
        detail: the placed reference's contrast over that of the generated picture, both at the finest scale that the
            generated picture has; below 1 where the reference is the more blurred one.
        magnification: reference pixels per pixel of the generated picture.
        probability: that what is used is nearer to the truth than the enlargement; of a scene, its mean trust.
        recoloured: in [0, 1], how surely the object has other colours than in the reference.
    """

    light: Light
    trust: Floats
    outline: Floats
    is_whole: bool
    detail: float
    magnification: float
    probability: float
    recoloured: float = 0.0

    @property
    def limit(self) -> float:
        """In [0, 1]: the factor by which the reference's detail and colours limit its use."""
        return limit_of(self.detail, self.magnification, self.recoloured)

    def limited(self) -> "BlendWeights":
        """The same with the trust that a reference of this detail and colour deserves."""
        return replace(self, trust=self.trust * np.float32(self.limit))


def object_strength(features: Floats, trust: Floats) -> Floats:
    """How much of an object's detail is used, in [0, 1], from `object_features` (..., features) and the trust (...)."""

    def of(name: str, limits: tuple[float, float]) -> Floats:
        return smoothstep(features[..., FEATURE_NAMES.index(name)], *limits)

    names = ("fit reliable", "fit alike", "fit covered", "fit inside")
    whole = _wholeness(*(features[..., FEATURE_NAMES.index(name)] for name in names))
    untroubled = of("uncovered", WHOLE_UNCOVERED) * of("outline", WHOLE_OUTLINE)
    untroubled *= of("largest bending", WHOLE_BENDING) * of("reliable around", WHOLE_RELIABLE_AROUND)
    return np.maximum(strength_of(trust), whole * untroubled) * of("outline", USED_OUTLINE)


def _wholeness(reliable: Floats, alike: Floats, covered: Floats, inside: Floats) -> Floats:
    """In [0, 1], how far the object as a whole is the same one, from the fields of `ObjectFit`."""
    seen = smoothstep(reliable, *WHOLE_RELIABLE) * smoothstep(alike, *WHOLE_ALIKE)
    return np.asarray(seen * smoothstep(covered, *WHOLE_COVERED) * smoothstep(inside, *WHOLE_INSIDE), np.float32)


def strength_of(trust: Floats, full: float = FULL_TRUST, exponent: float = EXPONENT) -> Floats:
    """The same from the trust alone."""
    return np.asarray(np.minimum(trust / full, 1.0) ** exponent, np.float32)


def limit_of(detail: float, magnification: float, recoloured: float) -> float:
    """In [0, 1]: 0 where a reference has nothing finer to give, or the object has another colour everywhere."""
    sharper = _step(detail, *DETAIL_RANGE) * _step(magnification, *MAGNIFICATION_RANGE)
    return sharper * (1.0 - recoloured)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The placed reference beside the generated picture, on a grid of half the flow frame.

    Attributes:
        light: the change of light.
        evidence: for the trust.
        correlation: local correlation.
        around: the same in a window of twice the width.
        placed: colours of the placed reference.
        seen: colours of the generated picture.
        weight: of each cell, where the light was learned.
        colour: local difference of the colours under that light, in grey levels.
        detail: see `BlendWeights`.
        recoloured: see `BlendWeights`.
    """

    light: Light
    evidence: Evidence
    correlation: Floats
    around: Floats
    placed: Floats
    seen: Floats
    weight: Floats
    colour: Floats
    detail: float
    recoloured: float


def scene_weights(generated: Bytes, reference: Bytes, aligned: Alignment) -> BlendWeights:
    """Light and trust of an aligned scene, on a grid of half the flow frame.

    Args:
        generated: uint8 RGB of the generated picture.
        reference: uint8 RGB of the original reference.
        aligned: the alignment of the two.
    """
    everywhere = np.ones(aligned.mapping.shape[:2], np.float32)
    compared = compare(generated, reference, aligned, None, GAIN_SIGMA)
    trust = _inside_reference(estimate_trust(compared.evidence), reference, aligned)
    weights = BlendWeights(
        compared.light,
        trust,
        everywhere,
        is_whole=True,
        detail=compared.detail,
        magnification=_magnification(generated, aligned),
        probability=_mean_where_used(trust, trust),
        recoloured=compared.recoloured,
    )
    return weights.limited()


def object_weights(
    generated: Bytes,
    reference: Bytes,
    aligned: Alignment,
    mask: Floats,
    generated_mask: Floats | None,
    log_false_alarms: float,
) -> BlendWeights:
    """Light and trust of an aligned object; the trust is on the flow frame's grid.

    What is trusted is decided for each cell, by what is seen there and by how well the object fits as a whole: where it
    is seen from the same side and fills its outline, a cell that disagrees is an artifact.

    Args:
        generated: uint8 RGB of the generated picture's region around the object.
        reference: uint8 RGB of the original reference.
        aligned: the alignment of the two.
        mask: the object in the reference, (height, width) in [0, 1].
        generated_mask: the object in `generated`, of the same size, or None to estimate it.
        log_false_alarms: of the placement, log10.
    """
    size = size_of(aligned.mapping)
    compared = compare_object(generated, reference, aligned, mask, generated_mask)
    trust = _inside_reference(object_trust(compared.features), reference, aligned)
    grid = size_of(trust)
    # The confidence is that of the object as a whole, before a mask or the reference's quality limits its use.
    placed = shrink(compared.placed, grid)
    strength = object_strength(compared.features, trust) * (1.0 - compared.contrary)
    used = strength * placed
    confidence = object_confidence(usage_of(compared.features, trust, used, placed, log_false_alarms), compared.fit)
    strength = enlarge(strength, size)
    used = strength * compared.placed * np.float32(_step(confidence, *SURE_RANGE))
    outline = compared.outline
    if generated_mask is not None:
        used *= shrink(generated_mask, size)
    else:
        outline = segment.dilate_softly(outline, OUTLINE_ERROR)
    core = segment.remove_thin_parts(compared.placed)
    return BlendWeights(
        compared.light,
        used,
        outline,
        is_whole=segment.fraction_inside(core, (strength > WHOLE_STRENGTH).astype(np.float32)) > WHOLE,
        detail=compared.detail,
        magnification=compared.magnification,
        probability=confidence,
        recoloured=compared.recoloured,
    ).limited()


def silhouette_weights(
    generated: Bytes, reference: Bytes, aligned: Alignment, mask: Floats, outline: Floats, probability: float
) -> BlendWeights:
    """Light and trust of an object that was found by its outline; the trust is on the flow frame's grid.

    Such an object has no texture that its flow or a local correlation could be judged by: the trust of `object_weights`
    would be low everywhere. Shape, shading and colour were compared as a whole when it was placed. So all of it is used
    that lies inside both outlines and is not of another colour or brightness, as far as the placement is probable.

    Args:
        generated: uint8 RGB of the generated picture's region around the object.
        reference: uint8 RGB of the original reference.
        aligned: the alignment of the two.
        mask: the object in the reference, (height, width) in [0, 1].
        outline: the object in `generated`, of the same size.
        probability: that both are the same object, seen from about the same side.
    """
    size = size_of(aligned.mapping)
    placed, seen = warp_mask(mask, aligned.mapping), shrink(outline, size)
    compared = compare(generated, reference, aligned, placed, OBJECT_GAIN_SIGMA)
    sigma = OBJECT_GAIN_SIGMA * max(size_of(compared.weight))
    light = estimate_light(compared.placed, compared.seen, compared.weight, sigma, SILHOUETTE_OFFSETS)
    edges = ((placed, PLACED_RANGE), (seen, OUTLINE_RANGE))
    used = np.prod([smoothstep(blur(field, SILHOUETTE_EDGE), *limits) for field, limits in edges], axis=0)
    # Only what lies inside both outlines is compared: the two grounds differ.
    inside = shrink(np.asarray(used, np.float32), size_of(compared.weight))
    disagreement = _mean_inside(compared.evidence.disagreement, inside)
    correlation = _correlation_inside(_luma(compared.placed), _luma(compared.seen), inside)
    agreeing = smoothstep(disagreement, *DISAGREEMENT_RANGE) * smoothstep(correlation, *CONTRARY_RANGE)
    used = used * enlarge(agreeing, size)
    return BlendWeights(
        light,
        np.asarray(used * _step(probability, *PROBABLE_RANGE), np.float32),
        segment.dilate_softly(seen, OUTLINE_ERROR),
        is_whole=True,
        detail=compared.detail,
        magnification=_magnification(generated, aligned),
        probability=SILHOUETTE_CONFIDENCE * probability,
        recoloured=compared.recoloured,
    ).limited()


@dataclass(frozen=True, slots=True)
class ObjectComparison:
    """A placed object beside the generated picture.

    Attributes:
        light: the change of light.
        features: (rows, columns, features) for the trust, on a grid of half the flow frame.
        placed: (height, width) on the flow frame in [0, 1], the object's mask as placed.
        outline: the same of the object in the generated picture.
        fit: of the object as a whole.
        detail: see `BlendWeights`, as the next two.
        magnification: reference pixels per pixel of the generated picture.
        recoloured: in [0, 1], how surely the object has other colours than in the reference.
        contrary: (rows, columns) in [0, 1] on the grid of the features, where something else than the object is seen.
    """

    light: Light
    features: Floats
    placed: Floats
    outline: Floats
    fit: ObjectFit
    detail: float
    magnification: float
    recoloured: float
    contrary: Floats


def compare_object(
    generated: Bytes, reference: Bytes, aligned: Alignment, mask: Floats, generated_mask: Floats | None
) -> ObjectComparison:
    """A placed object beside the generated picture; see `object_weights` for the arguments."""
    size = size_of(aligned.mapping)
    placed = aligned.placed(mask)
    if generated_mask is None:
        outline = segment.object_at_placement(resized(generated, size), placed, aligned.reliable)
    else:
        # A mask of half strength everywhere marks the object as well as a full one does.
        outline = shrink(generated_mask, size) / np.float32(max(float(generated_mask.max()), 1e-6))
    compared = compare(generated, reference, aligned, placed, OBJECT_GAIN_SIGMA)
    core = segment.remove_thin_parts(placed)
    grid = size_of(compared.correlation)
    alike = enlarge((compared.correlation > ALIKE).astype(np.float32), size)
    fit = ObjectFit(
        reliable=segment.fraction_inside(core, aligned.reliable),
        alike=segment.fraction_inside(core, alike),
        covered=segment.fraction_inside(outline if aligned.shown is None else outline * aligned.shown, placed),
        inside=segment.fraction_inside(core, outline),
    )
    local = LocalFit(
        compared.correlation,
        compared.around,
        np.sqrt(local_variance(_luma(compared.placed), AROUND)),
        np.sqrt(local_variance(_luma(compared.seen), AROUND)),
        colour=compared.colour,
        outline=shrink(outline, grid),
        uncovered=shrink(segment.suppress_near_uncovered(placed, outline), grid),
        placed=shrink(placed, grid),
    )
    # Where the whole object is the same one its print is the reference's, so only wide changes of colour are light.
    whole = float(_wholeness(*(np.array(value) for value in (fit.reliable, fit.alike, fit.covered, fit.inside))))
    light = compared.light
    if whole > 0.0:
        sigma = OBJECT_GAIN_SIGMA * max(grid)
        light = light.mixed(estimate_light(compared.placed, compared.seen, compared.weight, sigma, WIDE_OFFSETS), whole)
    sigma = max(COLOUR_PIXELS * grid[0] / generated.shape[1], COLOUR_SHARE * max(grid))
    light = light.with_colours_of(compared.seen, compared.placed, compared.weight, sigma)
    return ObjectComparison(
        light,
        object_features(compared.evidence, local, fit),
        placed,
        outline,
        fit,
        compared.detail,
        _magnification(generated, aligned),
        compared.recoloured,
        _contrary(compared, local.placed),
    )


def _contrary(compared: Comparison, placed: Floats) -> Floats:
    """In [0, 1], where something else than the placed object is seen; see `CONTRARY_DIFFERENCE`."""
    reliable = blur(compared.evidence.reliable, NEAR)
    sigma = CONTRARY_LIGHT * OBJECT_GAIN_SIGMA * max(size_of(placed))
    light = estimate_light(compared.placed, compared.seen, compared.weight * (reliable + np.float32(0.02)), sigma, ())
    difference = blur(compared.seen - light.applied(compared.placed), CONTRARY_WINDOW)
    distance = blur(np.asarray(np.linalg.norm(difference, axis=2), np.float32), CONTRARY_WINDOW)
    agreed = distance[(placed > 0.5) & (reliable > AGREED)]
    unit = max(LEAST_DIFFERENCE, float(np.median(agreed))) if agreed.size else np.inf
    return smoothstep(distance / unit, *CONTRARY_DIFFERENCE) * (1.0 - smoothstep(reliable, *CONTRARY_RELIABLE))


def compare(
    generated: Bytes, reference: Bytes, aligned: Alignment, alpha: Floats | None, gain_sigma: float
) -> Comparison:
    """The placed reference beside the generated picture.

    The light is learned where `alpha` is above 0, or where that is None from the pixels with reliable flow.

    Args:
        generated: uint8 RGB of the generated picture's region.
        reference: uint8 RGB of the original reference.
        aligned: the alignment of the two.
        alpha: (height, width) on the flow frame, the placed object, or None for a scene.
        gain_sigma: standard deviation of the light's window, as a fraction of the region's longer side.
    """
    grid = fitted(size_of(aligned.mapping), 1e9, 0.5)
    placed = sample(prefilter(reference, aligned.scale), aligned.mapping, size_of(reference))
    placed = shrink(np.asarray(placed, np.float32), grid)
    seen = shrink(generated.astype(np.float32), grid)
    reliable = shrink(aligned.reliable, grid)
    weight = reliable if alpha is None else shrink(alpha, grid)
    everywhere = weight + np.float32(1e-3)
    light = estimate_light(placed, seen, everywhere, gain_sigma * max(grid))
    cell = 2.0 * aligned.scale
    deviation = np.linalg.norm(aligned.flow - aligned.mapping, axis=2).clip(0, 10 * cell).astype(np.float32)
    lit = light.applied(placed)
    mapping = shrink(aligned.mapping, grid) / np.float32(cell)
    # The bend of a known shape hides nothing.
    unbent = 0.0 if aligned.surface is None else shrink(aligned.surface, grid) / np.float32(cell)
    evidence = Evidence(
        disagreement=np.abs(lit - seen).mean(axis=2),
        reliable=reliable,
        deviation=shrink(deviation, grid) / np.float32(cell),
        bending=bending(mapping - unbent),
        parallax=parallax(mapping) if alpha is None else None,
    )
    one, other, known = _luma(placed), _luma(seen), reliable * weight
    own_colours, placed_colours, seen_colours = (
        blur(picture - (picture @ LUMA)[..., None], NEAR) for picture in (placed, lit, seen)
    )
    return Comparison(
        light,
        evidence,
        local_correlation(one, other),
        local_correlation(one, other, 2 * AROUND),
        placed,
        seen,
        everywhere,
        np.asarray(np.linalg.norm(placed_colours - seen_colours, axis=2), np.float32),
        _detail_ratio(lit, seen, known),
        _recoloured(
            _colour_difference(placed_colours, seen_colours, known), _hue_turn(own_colours, seen_colours, known)
        ),
    )


def _detail_ratio(placed: Floats, seen: Floats, weight: Floats) -> float:
    """Contrast of one picture over that of another at the finest scale; 1 where nothing has weight."""
    energies = [
        float((weight * (picture - blur(picture, 1.0)).mean(axis=2) ** 2).sum()) + 1e-3 for picture in (placed, seen)
    ]
    return float(np.sqrt(energies[0] / energies[1]))


def _colour_difference(one: Floats, other: Floats, weight: Floats) -> float:
    """Mean difference of two pictures' colours without their luma, as a fraction of the mean colourfulness."""
    strength = np.maximum(np.linalg.norm(one, axis=2), np.linalg.norm(other, axis=2)) + COLOURLESS
    return float((weight * np.linalg.norm(one - other, axis=2)).sum() / ((weight * strength).sum() + 1e-3))


def _recoloured(difference: float, turned: tuple[float, float]) -> float:
    """In [0, 1], how surely the object has other colours, by their difference under the light and by their hues.

    Colours that surely have the same hues are not other ones, however much one of the pictures is faded.
    """
    turn, known = turned
    turned_away = _step(turn, *TURN_RANGE)
    return max(_step(difference, *DIFFERENCE_RANGE) * (1.0 - known * (1.0 - turned_away)), known * turned_away)


def _hue_turn(one: Floats, other: Floats, weight: Floats) -> tuple[float, float]:
    """By how many degrees the hues of one picture are turned in another, in [0, 180], and how surely in [0, 1].

    Both are given as their colours without their luma, which are points of a plane. The turn is the angle of the
    complex regression of the one picture's points on the other's, about their means: neither a tinted light, which
    moves all of them, nor faded print, which draws them together, changes it. The light as it is estimated would hide
    a part of a turn, so the pictures are compared as they are.
    """
    total = weight.sum() + 1e-6
    planes = []
    for colours in (one, other):
        red, green, blue = np.moveaxis(colours, 2, 0)
        plane = (red - (green + blue) / 2) + 1j * (np.sqrt(0.75) * (green - blue))
        planes.append(plane - (weight * plane).sum() / total)
    spreads = [float(np.sqrt((weight * np.abs(plane) ** 2).sum() / total)) for plane in planes]
    shared = complex((weight * np.conj(planes[0]) * planes[1]).sum() / total)
    correlation = abs(shared) / (spreads[0] * spreads[1] + 1e-6)
    known = _step(min(spreads), *SPREAD_RANGE) * _step(correlation, *CORRELATED_RANGE)
    return abs(float(np.degrees(np.angle(shared)))), known


def _mean_inside(field: Floats, weight: Floats) -> Floats:
    """Local mean of a field (rows, columns) over where it has weight, in a window of `AROUND`."""
    return np.asarray(blur(field * weight, AROUND) / (blur(weight, AROUND) + np.float32(1e-3)), np.float32)


def _correlation_inside(one: Floats, other: Floats, weight: Floats) -> Floats:
    """`local_correlation` over where there is weight."""
    mean, mean_other = _mean_inside(one, weight), _mean_inside(other, weight)
    one, other = one - mean, other - mean_other
    covariance = _mean_inside(one * other, weight)
    deviations = np.sqrt(_mean_inside(one * one, weight) * _mean_inside(other * other, weight))
    return np.asarray((covariance + FLAT_VARIANCE) / (deviations + FLAT_VARIANCE), np.float32)


def _luma(colours: Floats) -> Floats:
    return np.asarray(colours @ LUMA, np.float32)


def _step(value: float, low: float, high: float) -> float:
    return float(smoothstep(np.array([value]), low, high)[0])


def _mean_where_used(trust: Floats, used: Floats) -> float:
    return float((trust * used).sum() / (used.sum() + 1e-6))


def _magnification(generated: Bytes, aligned: Alignment) -> float:
    return float(aligned.scale * aligned.mapping.shape[1] / generated.shape[1])


def _inside_reference(trust: Floats, reference: Bytes, aligned: Alignment) -> Floats:
    """Trust smoothed, and 0 where the map points outside of the reference."""
    return blur(trust, 1.0) * shrink(inside(aligned.mapping, size_of(reference)), size_of(trust))
