"""One preview for a visitor, and its refinement, whether asked for on the page or by a script."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from refgc.demo.engine_call import refine_with
from refgc.demo.jobs import Finished, Seen, Working
from refgc.demo.preview_display import ShownPreview, ShownRefinement, write_refinement, write_shown
from refgc.demo.refining import engine_of
from refgc.demo.service import Job, served
from refgc.demo.storage import new_folder, remove
from refgc.diprefgc import sources
from refgc.diprefgc.preview import GeneratorChoice, PreviewRequest, preview
from refgc.doctor import DEVICE
from refgc.engines import EngineName, Progress, Viewer
from refgc.refinement import make_request

# A preview's generated picture is so many times smaller than the truth; noted as the scale of making it.
SAME_SIZE = 1


def previewing(
    request: PreviewRequest, reference: Path, visit: str, *, generator: GeneratorChoice = "auto"
) -> Generator[Working | Seen | Finished[ShownPreview], None, None]:
    """Makes a generated picture and writes everything that is shown of it; closing the generator cancels.

    It waits in the line of the engine that it shares the machine's processor or GPU with, and yields as
    `refgc.demo.refining.refining` does.

    Args:
        request: what to make.
        reference: the reference's file, which is shown as it is.
        visit: the visitor's session, by which limits are kept.
        generator: which one; "auto" takes the best that this machine can run.

    Raises:
        InputError: the visitor has to change something.
        BusyError: too many wait already, or too many of this visit's runs do.
        EngineError: it cannot be done here, or took too long.
    """

    def work(progress: Progress, viewer: Viewer) -> ShownPreview:  # noqa: ARG001 (it has no pictures on the way)
        folder = new_folder("preview")
        try:
            result = preview(request, generator=generator, progress=progress)
            progress("saving the pictures", 1.0)
            return write_shown(result, request, reference, folder)
        except BaseException:
            remove(folder)
            raise

    sizes = {"reference": request.reference.size, "scene": request.scene.size}
    return served(Job("preview", _line_of(generator), SAME_SIZE, sizes), visit, work)


def refining_preview(
    shown: ShownPreview, visit: str
) -> Generator[Working | Seen | Finished[ShownRefinement], None, None]:
    """Refines a preview with its own masks and compares the result to the truth; as `previewing`.

    Raises:
        InputError: the preview's files have been deleted for their age.
        BusyError: too many wait already, or too many of this visit's runs do.
        EngineError: it cannot be done here, or took too long.
    """
    reference_mask, generated_mask = shown.masks
    request = make_request(
        shown.reference,
        shown.generated,
        scale=shown.report.factor,
        reference_mask=reference_mask,
        generated_mask=generated_mask,
        seed=shown.report.seed,
    )

    def work(progress: Progress, viewer: Viewer) -> ShownRefinement:
        refined = refine_with("auto", request, progress, viewer)
        progress("comparing it with the truth", 1.0)
        return write_refinement(shown, refined)

    sizes = {"reference": request.reference.size, "generated": request.generated.size}
    yield from served(Job("refine preview", engine_of("auto"), request.scale, sizes), visit, work)


def _line_of(generator: GeneratorChoice) -> EngineName:
    """Whose line a preview waits in: the simulator needs the processor, DipRefGC the GPU."""
    if generator == "auto":
        return "correspondence" if sources.obstacle() or os.environ.get(DEVICE) == "cpu" else "diffusion"
    return "correspondence" if generator == "simulated" else "diffusion"
