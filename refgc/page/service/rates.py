"""How long runs take: measured times by the size of the result, corrected by what the runs before took here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from statistics import median
from threading import Lock
from typing import Literal, TypeAlias

from refgc.engine import EngineName
from refgc.request import Surroundings

Part: TypeAlias = Literal["refine", "preview", "fast", "best"]
"""What a run is made of: a refinement, a preview, or the drawing of surroundings by one of two networks."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a part: a fixed time, and more for each million pixels of the result."""

    fixed: float
    a_megapixel: float

    def seconds(self, megapixels: float) -> float:
        """What a result of that size takes."""
        return self.fixed + self.a_megapixel * megapixels


# On two cores. Refinements: benchmarks/correspondence.json (3.2 s for 1 megapixel, 6.3 s for 16.8), and an eighth more
# for the writing of the files. Surroundings: half of the processor seconds in benchmarks/surroundings.json, since two
# cores share them. Previews with given masks: benchmarks/preview.json. The diffusion engine's times are no
# measurements; they are those that `refgc.page.service.gpu` assumes.
DRAWN: Mapping[Part, Measured] = {"fast": Measured(0.0, 0.9), "best": Measured(0.0, 23.0)}
MEASURED: Mapping[EngineName, Mapping[Part, Measured]] = {
    "correspondence": {"refine": Measured(3.4, 0.22), "preview": Measured(1.4, 1.1), **DRAWN},
    "diffusion": {"refine": Measured(55.0, 0.7), "preview": Measured(55.0, 0.7), **DRAWN},
}
# How many runs are remembered, and how many of them, those of the most similar size, say how long the next one takes.
# Chosen by hand: few enough to follow a machine that gets busy, and enough that one odd run does not count.
REMEMBERED, ASKED = 32, 5
# A result of 1024 x 1024 pixels, for runs whose size is not known yet while none has ended.
USUAL_MEGAPIXELS = 1.05


@dataclass(frozen=True, slots=True)
class RunSize:
    """The work of one run, as far as it is known.

    Attributes:
        part: a refinement or a preview.
        megapixels: of the result; None while its size is not known.
        surroundings: how what lies around the object is enlarged.
    """

    part: Part = "refine"
    megapixels: float | None = None
    surroundings: Surroundings = "plain"


@dataclass(frozen=True, slots=True)
class _Run:
    """A part that has ended.

    Attributes:
        megapixels: of its result.
        slowness: its seconds over those that were measured for its size.
    """

    megapixels: float
    slowness: float


class Rates:
    """What the runs of one engine took; safe to share among threads."""

    def __init__(self, engine: EngineName = "correspondence") -> None:
        """No run has ended: the measured times hold.

        Args:
            engine: whose runs these are.
        """
        self._measured = MEASURED[engine]
        self._lock = Lock()
        self._runs: dict[Part, deque[_Run]] = {part: deque(maxlen=REMEMBERED) for part in self._measured}

    def note(self, part: Part, megapixels: float, seconds: float) -> None:
        """Remember a part that has ended.

        Args:
            part: which one.
            megapixels: of its result, above 0.
            seconds: that it took.
        """
        with self._lock:
            # The newest first, so that of many runs of one size the newest count.
            self._runs[part].appendleft(_Run(megapixels, seconds / self._measured[part].seconds(megapixels)))

    def expected(self, size: RunSize) -> float:
        """About how many seconds a run takes."""
        with self._lock:
            pixels = size.megapixels or self._usual_megapixels(size.part)
            parts = [size.part, *([] if size.surroundings == "plain" else [size.surroundings])]
            return sum(self._measured[part].seconds(pixels) * self._slowness(part, pixels) for part in parts)

    def expected_part(self, part: Part, megapixels: float) -> float:
        """About how many seconds one part of a run takes, for a result of that many million pixels."""
        with self._lock:
            return self._measured[part].seconds(megapixels) * self._slowness(part, megapixels)

    def _usual_megapixels(self, part: Part) -> float:
        return median([run.megapixels for run in self._runs[part]] or [USUAL_MEGAPIXELS])

    def _slowness(self, part: Part, megapixels: float) -> float:
        """How much slower than measured this machine is with results of that size."""
        # A part that never ran here is as much slower as the others were.
        runs = self._runs[part] or [run for others in self._runs.values() for run in others]
        nearest = sorted(runs, key=lambda run: abs(log(run.megapixels / megapixels)))
        slowness: float = median([run.slowness for run in nearest[:ASKED]] or [1.0])
        return slowness
