"""What the correspondence engine reports of a refinement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from refgc.correspondence.find import Finding
from refgc.correspondence.fuse import Layer
from refgc.engine import NOT_WANTED, RefinedObject, Report, box_of, make_report
from refgc.imaging.arrays import Bools, Bytes, Floats, enlarge, shrink, size_of
from refgc.imaging.warp import rescaling
from refgc.request import MAX_REFERENCES, RefineRequest

# A pixel whose trust is above this counts as taken from the reference. Chosen by hand, not fitted: well under the half
# strength of an object that is not sure, so that what counts does not hang on its confidence.
TAKEN = 0.1
# A reference that gives no more than this share of an object's detail does not count as used. Chosen by hand, not
# fitted.
USED_SHARE = 0.01
# Below these a reference is told to be too blurred, of another colour, or too small. Chosen by hand, not fitted.
BLURRED_DETAIL = 0.6
RECOLOURED = 0.5
SMALL_MAGNIFICATION = 1.1
# A reference that shows the object so much smaller, and not sharper, is the generated picture.
SWAPPED_MAGNIFICATION = 0.8
NOT_PLACED = "The reference could not be found in the picture with confidence, so the result is a plain enlargement."
NONE_PLACED = (
    "None of the references could be found in the picture with confidence, so the result is a plain enlargement."
)
NOT_TRUSTED = (
    "The reference was found, but nowhere does it fit the picture well enough, so the result is a plain enlargement."
)
LIBRARIES = ("opencv", "numpy")
# Codes of what is wrong with one of several references; its number follows.
MIRRORED, UNPLACED = "mirrored", "unplaced"

WARNINGS: Mapping[str, str] = {
    "mirrored": "The object looks mirrored in the picture, so nothing was taken from the reference; "
    "mirror one of the two.",
    "swapped": "The picture shows the object larger and sharper than the reference; were the two swapped?",
    "blurred": "The reference is less sharp than the picture, so it has no detail to give; use a sharper photo.",
    "small": "The reference shows the object hardly larger than the picture; use a larger photo.",
    "colours": "The object has other colours than in the reference, so nothing was taken from it there.",
    "copies": "The picture shows the object more than once; each copy that was found was refined.",
    **{
        f"{MIRRORED}_{number}": f"The object looks mirrored in reference {number}, so nothing was taken from it; "
        "mirror that photo."
        for number in range(1, MAX_REFERENCES + 1)
    },
    **{
        f"{UNPLACED}_{number}": f"Nothing was taken from reference {number}, which was not found in the picture "
        "or fits it nowhere well enough."
        for number in range(1, MAX_REFERENCES + 1)
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class PlacedObject:
    """One object with its layers, and how much of each output pixel of the whole picture came from them.

    Attributes:
        found: where the object is.
        layers: its faces, the surest first.
        trust: (height, width) of the output in [0, 1].
        others: where less trusted references show the same object, with their layers.
    """

    found: Finding
    layers: list[Layer]
    trust: Floats
    others: tuple[tuple[Finding, list[Layer]], ...] = ()

    def joined(self, other: "PlacedObject") -> "PlacedObject":
        """The object with what another reference shows of it."""
        return replace(
            self, trust=np.maximum(self.trust, other.trust), others=(*self.others, (other.found, other.layers))
        )


def codes_of_unplaced(request: RefineRequest, unplaced: Mapping[int, bool]) -> tuple[str, ...]:
    """The codes of references that were not placed.

    Args:
        request: what was asked for. A single reference has a code only where it is mirrored; the message is about it.
        unplaced: by the numbers of those references, from 1, whether the object looks mirrored.
    """
    if not request.further_references:
        return (MIRRORED,) if any(unplaced.values()) else ()
    return tuple(f"{MIRRORED if mirrored else UNPLACED}_{number}" for number, mirrored in sorted(unplaced.items()))


def none_placed(request: RefineRequest, seconds: dict[str, float], unplaced: Mapping[int, bool]) -> Report:
    """The report of a plain enlargement because no reference was found; `unplaced` as for `codes_of_unplaced`."""
    codes = codes_of_unplaced(request, unplaced)
    if not request.further_references:
        return not_placed(request, seconds, warnings=codes)
    mirrored = (WARNINGS[code] for code in codes if code.startswith(MIRRORED))
    return not_placed(request, seconds, " ".join((NONE_PLACED, *mirrored)), unused=codes)


def not_placed(
    request: RefineRequest,
    seconds: dict[str, float],
    why: str = NOT_PLACED,
    warnings: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
) -> Report:
    """The report of a plain enlargement.

    Args:
        request: what was asked for.
        seconds: by stage.
        why: the sentence that says why it is one.
        warnings: codes of what is wrong with the pictures; the first one's sentence replaces `why`.
        unused: codes of single references, which the message does not repeat.
    """
    message = WARNINGS[warnings[0]] if warnings else why
    codes = (*warnings, *unused)
    return make_report("correspondence", request, message, seconds=seconds, libraries=LIBRARIES, warnings=codes)


def placed(
    request: RefineRequest,
    seconds: dict[str, float],
    objects: list[PlacedObject],
    sources: Bytes,
    unplaced: Mapping[int, bool],
) -> Report:
    """The report of a refinement.

    Args:
        request: what was asked for.
        seconds: by stage.
        objects: what was placed, the surest first.
        sources: (height, width) of the output, the number of the reference that each pixel comes from, 0 for none.
        unplaced: as for `codes_of_unplaced`.
    """
    unused = codes_of_unplaced(request, unplaced)
    warnings = tuple(dict.fromkeys(code for one in objects for code in _warnings_of(one.layers[0])))
    if request.strength == 0.0:
        return not_placed(request, seconds, NOT_WANTED)
    refined = [(one, told) for one in objects if (told := _refined(one, one.trust > TAKEN, sources)) is not None]
    if not refined:
        return not_placed(request, seconds, NOT_TRUSTED, warnings, unused)
    references = [number for _, told in refined for number in told.references]
    # Two references may show two sides of one object; copies are there where one reference is seen twice.
    if len(references) > len(set(references)):
        warnings = (*warnings, "copies")
    warnings = (*warnings, *unused)
    taken = sum((one.trust > TAKEN for one, _ in refined[1:]), refined[0][0].trust > TAKEN)
    what = "scene" if refined[0][0].found.object_mask is None else "object"
    share = f"{refined[0][1].coverage:.0%} of it" if what == "object" else f"{taken.mean():.0%} of the result"
    how = " by its outline" if refined[0][0].found.silhouette is not None else ""
    message = f"The reference's {what} was found in the picture{how}; {share} has its detail."
    return make_report(
        "correspondence",
        request,
        " ".join((message, *(WARNINGS[code] for code in warnings))),
        taken=taken,
        confidence=refined[0][1].confidence,
        matches=sum(_matches(one) for one, _ in refined),
        seconds=seconds,
        libraries=LIBRARIES,
        objects=tuple(told for _, told in refined),
        placement=None if request.further_references else _placement(request, refined[0][0].found),
        references_used=tuple(sorted(set(references))),
        warnings=warnings,
    )


def _placement(request: RefineRequest, found: Finding) -> tuple[float, ...]:
    """The homography of the surest face, from output pixels to the reference's."""
    width, height = request.generated.size
    output = width * request.scale, height * request.scale
    homography = found.maps[0].homography @ rescaling(output, request.generated.size)
    return tuple(float(f"{value:.8g}") for value in (homography / homography[2, 2]).ravel())


def _matches(one: PlacedObject) -> int:
    """How many features matched; points on an outline are none."""
    everything = (one.found, *(found for found, _ in one.others))
    return sum(len(found.matches) for found in everything if found.silhouette is None)


def _refined(one: PlacedObject, taken: Bools, sources: Bytes) -> RefinedObject | None:
    """What is told of an object; None where nothing of it was taken."""
    box = box_of(taken)
    if box is None:
        return None
    weights = one.layers[0].weights
    outline = enlarge(weights.outline, size_of(weights.trust)) > 0.5
    area = int(outline.sum())
    coverage = float(((_trust_of(one) > TAKEN) & outline).sum()) / area if area else 0.0
    shares = np.bincount(sources[taken], minlength=MAX_REFERENCES + 1) / taken.sum()
    references = tuple(number for number in range(1, MAX_REFERENCES + 1) if shares[number] > USED_SHARE)
    return RefinedObject(box=box, confidence=weights.probability, coverage=coverage, references=references)


def _trust_of(one: PlacedObject) -> Floats:
    """The trust of an object on the grid of its first layer, of all references."""
    trust, region = one.layers[0].weights.trust, one.found.region
    for found, layers in one.others:
        canvas = np.zeros((max(region.bottom, found.region.bottom), max(region.right, found.region.right)), np.float32)
        found.region.of(canvas)[:] = enlarge(layers[0].weights.trust, found.region.size)
        trust = np.maximum(trust, shrink(region.of(canvas), size_of(trust)))
    return trust


def _warnings_of(layer: Layer) -> list[str]:
    weights = layer.weights
    blurred, small = weights.detail < BLURRED_DETAIL, weights.magnification < SMALL_MAGNIFICATION
    if weights.magnification < SWAPPED_MAGNIFICATION:
        return ["swapped"]
    codes = ["blurred"] if blurred else ["small"] if small else []
    return [*codes, *(["colours"] if weights.recoloured > RECOLOURED else [])]
