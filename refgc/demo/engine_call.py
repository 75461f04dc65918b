"""The page's call of an engine, which is made where the engine's GPU is."""

from __future__ import annotations

from typing import Literal

from refgc.demo.gpu import on_gpu
from refgc.demo.gpu_time import gpu_seconds
from refgc.doctor import may_choose_diffusion
from refgc.engines import Progress, RefineRequest, RefineResult, Viewer, choose

EngineChoice = Literal["auto", "correspondence", "diffusion"]


def refine_with(
    choice: EngineChoice, request: RefineRequest, progress: Progress, viewer: Viewer | None = None
) -> RefineResult:
    """Refines with the chosen engine; the diffusion engine on a GPU that is lent for it, where GPUs are lent.

    Raises:
        EngineError: it cannot be done here.
        InputError: what was asked for cannot be used.
    """
    if choice == "diffusion" or (choice == "auto" and may_choose_diffusion()):
        return _refine_on_gpu(progress, viewer, request, choice)
    return _refine(progress, viewer, request, choice)


def _refine(progress: Progress, viewer: Viewer | None, request: RefineRequest, choice: EngineChoice) -> RefineResult:
    return choose(choice).refine(request, progress, viewer)


def _seconds(request: RefineRequest, choice: EngineChoice) -> int:  # noqa: ARG001 (it is called as the work is)
    return gpu_seconds(request)


# Made here, since GPUs are lent only to what is known before the page is launched.
_refine_on_gpu = on_gpu(_refine, duration=_seconds)
