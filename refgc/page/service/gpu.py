"""A GPU that is lent for one call at a time (ZeroGPU on Hugging Face Spaces); on any other machine nothing changes."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from queue import SimpleQueue
from threading import Event, Thread
from typing import Concatenate, ParamSpec, TypeVar

from refgc.doctor import may_choose_diffusion
from refgc.engine import EngineName, Progress, RefineResult, Viewer
from refgc.errors import EngineError, RefGCError, sentence_about
from refgc.imaging.image import Image
from refgc.machine import on_zero_gpu
from refgc.page.service.queue import Finished, RunCancelledError, Seen, Working
from refgc.refinement import choose
from refgc.request import RefineRequest

logger = logging.getLogger(__name__)

Given = ParamSpec("Given")
Made = TypeVar("Made")
Work = Callable[Concatenate[Progress, Viewer | None, Given], Made]

NOT_LENT = "Hugging Face did not lend a GPU ({reason}); try again later, or choose the engine correspondence."


@dataclass(frozen=True, slots=True)
class _Failed:
    """The work ended with an error; a raised one would come out of the GPU's process without its sentence."""

    error: Exception


Events = Generator[Working | Seen[RefineResult] | Finished[Made] | _Failed, None, None]


def on_gpu(work: Work[Given, Made], *, duration: Callable[Given, int]) -> Work[Given, Made]:
    """The work as it has to be called to have a GPU.

    On ZeroGPU a call runs in a process of its own, forked from this one when it is lent a GPU, so that arguments,
    pictures and result are pickled. What the work reports to its progress and viewer reaches those of the caller, and
    when they raise, the work is cancelled. Models have to be on "cuda" before the page is launched, see
    `prepare_for_lending`. This function has to be called before that as well.

    Args:
        work: takes progress and viewer, and what else it is called with.
        duration: whole seconds that the GPU is needed for, of those other arguments; longer work may be ended.

    Returns:
        `work` itself where no GPUs are lent. Else a function like it, which raises what it raises, and besides:

    Raises:
        EngineError: no GPU was to be had, or it was taken away.
    """
    if not on_zero_gpu():
        return work
    import gradio as gr
    import spaces  # type: ignore[import-untyped]

    def events_of(has_viewer: bool, *given: Given.args, **named: Given.kwargs) -> Events[Made]:
        yield from _events_of(lambda progress, viewer: work(progress, viewer, *given, **named), has_viewer)

    def seconds(_: bool, *given: Given.args, **named: Given.kwargs) -> int:
        return duration(*given, **named)

    lent: Callable[..., Events[Made]] = spaces.GPU(events_of, duration=seconds)

    def run(progress: Progress, viewer: Viewer | None, /, *given: Given.args, **named: Given.kwargs) -> Made:
        try:
            with closing(lent(viewer is not None, *given, **named)) as events:
                for event in events:
                    match event:
                        case Working(stage, fraction):
                            progress(stage, fraction)
                        case Seen(stage, picture) if viewer is not None:
                            viewer(stage, picture)
                        case _Failed(error):
                            raise error
                        case Finished(made):
                            return made
        except gr.Error as error:
            raise EngineError(NOT_LENT.format(reason=str(error.message).rstrip(". "))) from error
        raise EngineError(NOT_LENT.format(reason="it was taken away"))

    return run


def prepare_for_lending() -> None:
    """Puts the model on the GPU that will be lent, where one will be; to be called before the page is launched.

    Where that fails the page is there all the same: whoever asks for the model is told why.
    """
    if not on_zero_gpu():
        return
    from refgc.refinement import choose

    if not may_choose_diffusion():
        return
    try:
        choose("diffusion").prepare()
    except RefGCError as error:
        logger.error("The model is not ready to be lent a GPU: %s", error)


def _events_of(work: Callable[[Progress, Viewer | None], Made], has_viewer: bool) -> Events[Made]:
    """Runs in the process that has the GPU: yields the events of the work, at last `Finished` or `_Failed`."""
    events: SimpleQueue[Working | Seen[RefineResult] | Finished[Made] | _Failed] = SimpleQueue()
    cancelled = Event()

    def report(event: Working | Seen[RefineResult]) -> None:
        if cancelled.is_set():
            raise RunCancelledError
        events.put(event)

    def show(stage: str, picture: Image | RefineResult) -> None:
        report(Seen(stage, picture))

    def run() -> None:
        try:
            made = work(lambda stage, fraction: report(Working(stage, fraction)), show if has_viewer else None)
        except Exception as error:
            events.put(_Failed(_portable(error)))
        else:
            events.put(Finished(made))

    thread = Thread(target=run, name="run", daemon=True)
    thread.start()
    try:
        while True:
            event = events.get()
            yield event
            if isinstance(event, Finished | _Failed):
                return
    finally:
        cancelled.set()
        # The process may be lent a GPU again, for the next visitor.
        thread.join()


def _portable(error: Exception) -> Exception:
    """An error that survives being pickled, whatever it holds."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EngineError(sentence_about(error))
    return error


# Counted at full size without running the model (benchmarks/diffusion.json): operations of one denoising step, and of
# everything else that the model does for one picture (the VAE, and where it is kept the reference cache).
TERA_OPERATIONS_A_STEP = 280.0
TERA_OPERATIONS_BESIDE = 21.0
# Window of 1024 x 1024 or thereabouts, whatever the sizes of the pictures.
WINDOWS = 1
STEPS = 28
# Assumed: 0.4 of what half an NVIDIA H200 is said to do in bfloat16 without sparsity (989 tera-operations a second).
TERA_OPERATIONS_A_SECOND = 0.4 * 989 / 2
# Assumed: moving the weights (24 GB) to a GPU that was just lent, and the text encoders there and back.
SECONDS_TO_BEGIN = 15.0
# Assumed: finding the object and putting it back on a CPU, for each million pixels of output.
SECONDS_A_MEGAPIXEL = 0.7
# Chosen by hand: to be ended too early costs the whole run, to ask for more costs a place in the queue of the Space.
MARGIN = 1.3


def gpu_seconds(request: RefineRequest, steps: int = STEPS) -> int:
    """Seconds to ask for, an estimate.

    Args:
        request: of which the pixels of the output count.
        steps: denoising steps of the model.

    Returns:
        Whole seconds, margin included.
    """
    width, height = request.generated.size
    megapixels = width * height * request.scale**2 / 1e6
    operations = WINDOWS * (steps * TERA_OPERATIONS_A_STEP + TERA_OPERATIONS_BESIDE)
    seconds = SECONDS_TO_BEGIN + operations / TERA_OPERATIONS_A_SECOND + megapixels * SECONDS_A_MEGAPIXEL
    return ceil(MARGIN * seconds)


def refine_with(
    engine: EngineName, request: RefineRequest, progress: Progress, viewer: Viewer | None = None
) -> RefineResult:
    """Refines with an engine; the diffusion engine on a GPU that is lent for it, where GPUs are lent.

    Raises:
        EngineError: it cannot be done here.
        InputError: what was asked for cannot be used.
    """
    if engine == "diffusion":
        return _refine_on_lent_gpu(progress, viewer, request, engine)
    return _refine(progress, viewer, request, engine)


def _refine(progress: Progress, viewer: Viewer | None, request: RefineRequest, engine: EngineName) -> RefineResult:
    return choose(engine).refine(request, progress, viewer)


def _seconds(request: RefineRequest, engine: EngineName) -> int:  # noqa: ARG001 (it is called as the work is)
    return gpu_seconds(request)


# Made here, since GPUs are lent only to what is known before the page is launched.
_refine_on_lent_gpu = on_gpu(_refine, duration=_seconds)
