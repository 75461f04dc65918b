"""What a run tells of itself: a line of metrics.jsonl each step, trackers, and pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from refgc.errors import InputError, quoted
from refgc.flux.sizes import GIB
from refgc.imaging.arrays import Bytes
from refgc.imaging.files import make_folder, write_whole
from refgc.imaging.image import Image, encoded
from refgc.imaging.journal import append_line, line_of, read_lines
from refgc.training.processes import Processes
from refgc.training.settings import TrackingSettings

METRICS, PICTURES, ALPHA = "metrics.jsonl", "pictures", "alpha.png"
# Of the picture of the gates: pixels of one block's row, and of one entry. Chosen by hand.
ROW, COLUMN = 8, 4


class Records:
    """The records of one run. Only its first process writes, and the others may call everything."""

    def __init__(self, folder: Path, processes: Processes, tracking: TrackingSettings, step: int) -> None:
        """Cuts metrics.jsonl off after the step from which the run goes on, so that no step stands there twice.

        Args:
            folder: of the run.
            processes: of the run.
            tracking: names the project.
            step: number of steps that were taken.

        Raises:
            InputError: metrics.jsonl cannot be read or written.
        """
        self._folder = folder
        self._processes = processes
        if processes.is_first:
            make_folder(folder)
            kept = [line_of(line) for line in _checked(read_lines(folder / METRICS), folder) if line["step"] <= step]
            write_whole(folder / METRICS, kept)
        # A run that goes on is the same run for its trackers, which know it by the place of its folder.
        same = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        processes.accelerator.init_trackers(
            tracking.project,
            init_kwargs={
                "tensorboard": {"purge_step": step + 1},
                "trackio": {"name": f"{folder.name}-{same}", "resume": "allow"},
                "wandb": {"name": folder.name, "id": same, "resume": "allow"},
            },
        )

    def write(self, step: int, content: Mapping[str, Any]) -> None:
        """Adds the line of a step, and tells the trackers of its numbers.

        Raises:
            OSError: the disk is full.
        """
        if self._processes.is_first:
            append_line(self._folder / METRICS, {"step": step, **content})
        self._processes.accelerator.log(dict(_numbers(content)), step=step)

    def read(self) -> Iterator[dict[str, Any]]:
        """All lines so far."""
        return read_lines(self._folder / METRICS)

    def picture(self, name: str, pixels: Bytes, step: int) -> None:
        """Keeps a picture as PNG, and shows it to the trackers.

        Args:
            name: of its file in the folder of pictures, without the ending; may have a folder in it.
            pixels: uint8 RGB.
            step: number of the step.
        """
        if not self._processes.is_first:
            return
        file = self._folder / PICTURES / f"{name}.png"
        make_folder(file.parent)
        write_whole(file, encoded(Image(pixels.copy()), file.name))
        for tracker in self._processes.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({name.rpartition("/")[2]: pixels[None]}, step=step, **_layout(tracker.name))

    def gates(self, step: int) -> None:
        """Draws alpha by block over time: a row a block, the first on top, a column an entry of metrics.jsonl."""
        if not self._processes.is_first:
            return
        columns = [list(line["alpha"].values()) for line in self.read() if "alpha" in line]
        if columns:
            self.picture(ALPHA.removesuffix(".png"), picture_of_gates(columns), step)


def picture_of_gates(columns: list[list[float]]) -> Bytes:
    """Alpha in colours, from 0 (blue) to 1 (yellow); uint8 RGB.

    Args:
        columns: for each entry alpha of all blocks.
    """
    levels = np.round(np.array(columns, np.float32).T * 255).astype(np.uint8)
    larger = np.repeat(np.repeat(levels, ROW, axis=0), COLUMN, axis=1)
    coloured = cv2.applyColorMap(larger, cv2.COLORMAP_VIRIDIS)
    return np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)


def memory_gib(device: torch.device) -> float:
    """The most memory that was taken so far: of the GPU, or of this process where it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    import psutil

    return float(psutil.Process().memory_info().rss) / GIB


def _checked(lines: Iterator[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    """The lines, each of which has the step and the losses that a run writes."""
    for number, line in enumerate(lines, 1):
        if not isinstance(line.get("step"), int) or not isinstance(line.get("loss"), dict):
            raise InputError(
                f"Line {number} of {quoted(str(folder / METRICS))} is not one of a run; mend or delete it."
            )
        yield line


def _numbers(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a line, by their names with slashes between the levels."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def _layout(tracker: str) -> dict[str, Any]:
    """TensorBoard has to be told that channels come last."""
    return {"dataformats": "NHWC"} if tracker == "tensorboard" else {}
