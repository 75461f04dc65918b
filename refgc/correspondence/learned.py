"""Learned matching: the weights of XFeat and LighterGlue, where they were fetched, and the matches that they find."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from refgc.correspondence.lighterglue import match_learned_features
from refgc.correspondence.xfeat import LearnedFeatures, find_learned_features
from refgc.errors import EngineError
from refgc.imaging.arrays import Bytes, Floats
from refgc.wheels import DEFAULT_FOLDER, LEARNED_MATCHING, LIGHTERGLUE, XFEAT, are_kept, weights_folder

# The most keypoints of one picture, since matching costs four times as much for twice as many; and the fewest pixels of
# the original picture for one keypoint. Chosen by hand, not fitted.
KEYPOINT_LIMIT = 2048
PIXELS_PER_FEATURE = 8
# What is lost where the weights are not there.
LOST_WITHOUT = "objects that have turned or have little print are found less often"


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The arrays of both networks, by the names of the published files."""

    xfeat: dict[str, Floats]
    lighterglue: dict[str, Floats]

    def features(
        self, pixels: Bytes, mask: Bytes | None, enlargement: float = 1.0, most: int = KEYPOINT_LIMIT
    ) -> LearnedFeatures:
        """The surest keypoints of a picture; see `find_learned_features`.

        Args:
            pixels: uint8 RGB (height, width, 3).
            mask: uint8 (height, width), 0 where no features are wanted.
            enlargement: the factor by which the picture was enlarged before; that gives it no more detail.
            most: the largest number of keypoints.
        """
        limit = int(pixels.size / 3 / enlargement**2 / PIXELS_PER_FEATURE)
        return find_learned_features(pixels, self.xfeat, min(most, limit), mask)

    def matches(
        self, first: LearnedFeatures, second: LearnedFeatures
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Indices into both and probabilities; see `match_learned_features`."""
        return match_learned_features(first, second, self.lighterglue)


def are_there() -> bool:
    """Whether learned matching can be used here."""
    return are_kept(LEARNED_MATCHING, weights_folder())


def find_networks() -> Networks | None:
    """The networks, read once per process, or None where the weights were not fetched.

    Raises:
        EngineError: the files are there and cannot be read.
    """
    return _read(weights_folder()) if are_there() else None


@lru_cache(maxsize=1)
def _read(folder: Path) -> Networks:
    try:
        arrays = []
        for name in (XFEAT, LIGHTERGLUE):
            with np.load(folder / name, allow_pickle=False) as file:
                arrays.append({key: np.asarray(file[key], np.float32) for key in file.files})
        return Networks(*arrays)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        # The folder is not named, since visitors of the page read this too.
        raise EngineError(
            f"The weights of learned matching cannot be read; delete {XFEAT} and {LIGHTERGLUE} in the folder of "
            f"REFGC_WEIGHTS, or else in {DEFAULT_FOLDER}, and run `refgc setup`."
        ) from error
