"""The caller's progress and viewer functions: stages are timed, and errors that these functions raise are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

from refgc.engine import Progress, RefineResult, Viewer
from refgc.imaging.image import Image


class StageTimer:
    """Calls the caller's progress and viewer functions, times the stages, and keeps what these functions raise.

    Attributes:
        seconds: wall-clock seconds by stage.
        callers_error: what the progress or viewer function raised; None where they did not.
        viewer: calls the caller's viewer; None where there is none.
    """

    def __init__(self, progress: Progress, device: torch.device, viewer: Viewer | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.callers_error: BaseException | None = None
        self.viewer = None if viewer is None else self._guarded(viewer)
        self._progress = progress
        self._gpu = device if device.type == "cuda" else None
        self._stage: str | None = None
        self._since = perf_counter()

    def __call__(self, stage: str, fraction: float) -> None:
        """See `refgc.engine.Progress`."""
        if stage != self._stage:
            self.end()
            self._stage = stage
        with self._keeping_errors():
            self._progress(stage, fraction)

    def end(self) -> None:
        """Ends the current stage."""
        if self._gpu is not None:
            # The GPU works asynchronously: without this its work would be timed in a later stage.
            torch.cuda.synchronize(self._gpu)
        now = perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + now - self._since, 4)
        self._stage, self._since = None, now

    def _guarded(self, viewer: Viewer) -> Viewer:
        def show(stage: str, picture: Image | RefineResult) -> None:
            with self._keeping_errors():
                viewer(stage, picture)

        return show

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.callers_error = error
            raise
