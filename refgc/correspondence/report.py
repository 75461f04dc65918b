"""What the correspondence engine reports of a refinement."""

from refgc.correspondence.find import Finding
from refgc.engine import NOT_WANTED, Report, make_report
from refgc.imaging.arrays import Floats
from refgc.request import RefineRequest

# A pixel whose trust is above this counts as taken from the reference. Chosen by hand, not fitted.
TAKEN = 0.25
NOT_PLACED = "The reference could not be found in the picture with confidence, so the result is a clean upscale."
NOT_TRUSTED = (
    "The reference was found, but nowhere does it fit the picture well enough, so the result is a clean upscale."
)
LIBRARIES = ("opencv", "numpy")


def not_placed(request: RefineRequest, seconds: dict[str, float], why: str = NOT_PLACED) -> Report:
    """The report of a plain upscale.

    Args:
        request: what was asked for.
        seconds: by stage.
        why: the sentence that says why it is one.
    """
    return make_report("correspondence", request, why, seconds=seconds, libraries=LIBRARIES)


def placed(request: RefineRequest, seconds: dict[str, float], found: Finding, trust: Floats) -> Report:
    """The report of a refinement.

    Args:
        request: what was asked for.
        seconds: by stage.
        found: where the object is.
        trust: (height, width) of the output, in [0, 1]: how much of each pixel may come from the reference.
    """
    taken = trust > TAKEN
    if request.strength == 0.0 or not taken.any():
        return not_placed(request, seconds, NOT_WANTED if request.strength == 0.0 else NOT_TRUSTED)
    what = "scene" if found.object_mask is None else "object"
    return make_report(
        "correspondence",
        request,
        f"The reference's {what} was found in the picture; {taken.mean():.0%} of the result has its detail.",
        taken=taken,
        confidence=found.confidence,
        matches=len(found.matches),
        seconds=seconds,
        libraries=LIBRARIES,
    )
