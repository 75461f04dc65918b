"""The pictures that the model is given for one request: the windows of both pictures, at the sizes it works at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import Progress
from refgc.imaging.arrays import Bytes, Floats, Size, bicubic, resized
from refgc.imaging.upscale import Enlargement, clean_upscale
from refgc.model.locate import SIZE_MULTIPLE, Windows, crop, locate
from refgc.model.settings import DenoisingSettings
from refgc.request import RefineRequest


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Pictures of one request, all uint8 RGB.

    Attributes:
        windows: where the model works.
        upscaled: the plain enlargement of the whole generated picture, of the output's size.
        correspondence: the correspondence engine's result, of the same size; None where it was not asked for.
        trust: (height, width) of it in [0, 1], how far each pixel's detail is the reference's own; None where nothing
            was placed, or it was not asked for.
        reference: the reference window at `windows.reference_size`.
        start: what the noise is laid over, at `windows.working_size`.
        generated: the window of the generated picture as a condition, at `windows.working_size` or at half of it.
    """

    windows: Windows
    upscaled: Bytes
    correspondence: Bytes | None
    trust: Floats | None
    reference: Bytes
    start: Bytes
    generated: Bytes

    @property
    def stages(self) -> dict[str, Bytes]:
        """The pictures that explain the result, by name, in the order they were made."""
        stages = {"upscaled": self.upscaled}
        if self.correspondence is not None:
            stages["correspondence"] = self.correspondence
        return {**stages, "reference": self.reference, "start": self.start}


def prepare_inputs(request: RefineRequest, settings: DenoisingSettings, progress: Progress) -> Inputs:
    """Chooses the windows and cuts them out.

    Args:
        request: what is refined.
        settings: how.
        progress: told of each stage.

    Raises:
        InputError: the working size is not made of multiples of 16.
    """
    progress("finding the object", 0.02)
    windows = locate(request, whole=bool(settings.whole), working_size=settings.working_size)
    width, height = request.generated.size
    upscaled = clean_upscale(request.generated.pixels, (width * request.scale, height * request.scale))
    correspondence = trust = None
    if settings.init == "correspondence" or settings.together:
        progress("placing the reference", 0.04)
        plain = replace(request, surroundings="plain", further_references=())
        placed = CorrespondenceEngine().refine(plain)
        correspondence, trust = placed.image.pixels, placed.trust
    left, top, right, bottom = (side * request.scale for side in windows.generated_window)
    reference, generated = condition_pictures(
        request, windows, enlargement=settings.enlargement, compact=bool(settings.compact_generated)
    )
    return Inputs(
        windows,
        upscaled,
        correspondence,
        trust,
        reference=reference,
        start=crop(
            correspondence if correspondence is not None and settings.init == "correspondence" else upscaled,
            (left, top, right, bottom),
            windows.working_size,
        ),
        generated=generated,
    )


def condition_pictures(
    request: RefineRequest, windows: Windows, *, enlargement: Enlargement | None, compact: bool
) -> tuple[Bytes, Bytes]:
    """The two pictures that the model is shown, uint8 RGB: the reference window and the generated one.

    Training cuts its samples by this as well.

    Args:
        request: the two pictures.
        windows: where they are cut, and their sizes.
        enlargement: how the generated picture is enlarged; None is "clean".
        compact: whether it is given at half of `windows.working_size`.
    """
    reference = crop(request.reference.pixels, windows.reference_window, windows.reference_size)
    generated = crop(
        request.generated.pixels,
        windows.generated_window,
        windows.working_size,
        enlarge=bicubic if enlargement == "bicubic" else clean_upscale,
    )
    # Reduced only after it is cut out: a crop at half the size could be padded in another way, and its tokens would
    # then not lie over those of the noise.
    return reference, resized(generated, _halved(windows.working_size)) if compact else generated


def _halved(size: Size) -> Size:
    """About half of a size, in multiples of `SIZE_MULTIPLE`."""
    width, height = (max(1, round(side / 2 / SIZE_MULTIPLE)) * SIZE_MULTIPLE for side in size)
    return width, height
