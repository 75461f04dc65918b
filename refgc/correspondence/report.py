"""What the correspondence engine reports of a refinement."""

from collections.abc import Mapping
from dataclasses import dataclass

from refgc.correspondence.find import Finding
from refgc.correspondence.fuse import Layer
from refgc.engine import NOT_WANTED, RefinedObject, Report, box_of, make_report
from refgc.imaging.arrays import Bools, Floats, enlarge, size_of
from refgc.request import RefineRequest

# A pixel whose trust is above this counts as taken from the reference. Chosen by hand, not fitted.
TAKEN = 0.25
# Below these a reference is told to be too blurred, of another colour, or too small. Chosen by hand, not fitted.
BLURRED_DETAIL = 0.6
RECOLOURED = 0.5
SMALL_MAGNIFICATION = 1.1
# A reference that shows the object so much smaller, and not sharper, is the generated picture.
SWAPPED_MAGNIFICATION = 0.8
NOT_PLACED = "The reference could not be found in the picture with confidence, so the result is a plain enlargement."
NOT_TRUSTED = (
    "The reference was found, but nowhere does it fit the picture well enough, so the result is a plain enlargement."
)
LIBRARIES = ("opencv", "numpy")

WARNINGS: Mapping[str, str] = {
    "mirrored": "The object looks mirrored in the picture, so nothing was taken from the reference; "
    "mirror one of the two.",
    "swapped": "The picture shows the object larger and sharper than the reference; were the two swapped?",
    "blurred": "The reference is less sharp than the picture, so it has no detail to give; use a sharper photo.",
    "small": "The reference shows the object hardly larger than the picture; use a larger photo.",
    "colours": "The object has other colours than in the reference, so nothing was taken from it there.",
    "copies": "The picture shows the object more than once; each copy that was found was refined.",
}


@dataclass(frozen=True, slots=True, eq=False)
class PlacedObject:
    """One object with its layers, and how much of each output pixel of the whole picture came from them."""

    found: Finding
    layers: list[Layer]
    trust: Floats


def not_placed(
    request: RefineRequest, seconds: dict[str, float], why: str = NOT_PLACED, warnings: tuple[str, ...] = ()
) -> Report:
    """The report of a plain enlargement.

    Args:
        request: what was asked for.
        seconds: by stage.
        why: the sentence that says why it is one.
        warnings: codes of what is wrong with the pictures; the first one's sentence replaces `why`.
    """
    message = WARNINGS[warnings[0]] if warnings else why
    return make_report("correspondence", request, message, seconds=seconds, libraries=LIBRARIES, warnings=warnings)


def placed(request: RefineRequest, seconds: dict[str, float], objects: list[PlacedObject]) -> Report:
    """The report of a refinement.

    Args:
        request: what was asked for.
        seconds: by stage.
        objects: what was placed, the surest first.
    """
    warnings = tuple(dict.fromkeys(code for one in objects for code in _warnings_of(one.layers[0])))
    if request.strength == 0.0:
        return not_placed(request, seconds, NOT_WANTED)
    refined = [(one, told) for one in objects if (told := _refined(one, one.trust > TAKEN)) is not None]
    if not refined:
        return not_placed(request, seconds, NOT_TRUSTED, warnings)
    if len(refined) > 1:
        warnings = (*warnings, "copies")
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
        matches=sum(len(one.found.matches) for one, _ in refined if one.found.silhouette is None),
        seconds=seconds,
        libraries=LIBRARIES,
        objects=tuple(told for _, told in refined),
        warnings=warnings,
    )


def _refined(one: PlacedObject, taken: Bools) -> RefinedObject | None:
    """What is told of an object; None where nothing of it was taken."""
    box = box_of(taken)
    if box is None:
        return None
    weights = one.layers[0].weights
    outline = enlarge(weights.outline, size_of(weights.trust)) > 0.5
    area = int(outline.sum())
    coverage = float(((weights.trust > TAKEN) & outline).sum()) / area if area else 0.0
    return RefinedObject(box=box, confidence=weights.probability, coverage=coverage)


def _warnings_of(layer: Layer) -> list[str]:
    weights = layer.weights
    blurred, small = weights.detail < BLURRED_DETAIL, weights.magnification < SMALL_MAGNIFICATION
    if weights.magnification < SWAPPED_MAGNIFICATION:
        return ["swapped"]
    codes = ["blurred"] if blurred else ["small"] if small else []
    return [*codes, *(["colours"] if weights.recoloured > RECOLOURED else [])]
