"""Watching a refinement: stages told and timed, pictures shown, and whose error it was that ended it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

from refgc.engine import Progress, Viewer
from refgc.imaging.image import Image


class Watch:
    """Passes stages on to the watcher and pictures to the viewer, times the stages, and remembers what these raised.

    Attributes:
        seconds: wall-clock seconds by stage.
        stopped: what watcher or viewer raised, None where they did not.
        viewer: passes pictures on; None where nobody looks on.
    """

    def __init__(self, progress: Progress, device: torch.device, viewer: Viewer | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.stopped: BaseException | None = None
        self.viewer = None if viewer is None else self._watched(viewer)
        self._progress = progress
        self._gpu = device if device.type == "cuda" else None
        self._stage: str | None = None
        self._since = perf_counter()

    def __call__(self, stage: str, fraction: float) -> None:
        """See `refgc.engine.Progress`."""
        if stage != self._stage:
            self.end()
            self._stage = stage
        with self._remembering():
            self._progress(stage, fraction)

    def end(self) -> None:
        """Ends the present stage."""
        if self._gpu is not None:
            # It works on after its orders are given, and would be timed in a later stage.
            torch.cuda.synchronize(self._gpu)
        now = perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + now - self._since, 4)
        self._stage, self._since = None, now

    def _watched(self, viewer: Viewer) -> Viewer:
        def show(stage: str, picture: Image) -> None:
            with self._remembering():
                viewer(stage, picture)

        return show

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.stopped = error
            raise
