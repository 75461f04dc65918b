"""The results this installation has made, and what a result depends on beside the request."""

from __future__ import annotations

import os
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gradio.utils import get_upload_folder

import refgc
from refgc.demo.logs import logger
from refgc.demo.result_cache import ResultCache
from refgc.demo.service_settings import settings
from refgc.engines import EngineName

HOUR = 3600.0
MEGABYTE = 1_000_000
LIGHT_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "opencv-python", "pillow")
HEAVY_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "torchao")
# By name, since what they say decides the pixels.
VARIABLES = ("REFGC_SPEED", "REFGC_DEVICE")


def results() -> ResultCache | None:
    """What was made, beside the folder of uploads; None where nothing is kept."""
    uploads = Path(get_upload_folder()).absolute()
    return _results(uploads.with_name(f"{uploads.name}-results"))


@cache
def _results(folder: Path) -> ResultCache | None:
    limits = settings()
    if not limits.cache_megabytes:
        return None
    try:
        return ResultCache(
            folder, most_bytes=limits.cache_megabytes * MEGABYTE, longest_seconds=limits.keep_hours * HOUR
        )
    except OSError as error:
        logger.warning("no results are kept", exc_info=error)
        return None


def made_by(engine: EngineName) -> str:
    """An engine with its code, its libraries and its weights: as long as this stays, so do its results."""
    if engine == "correspondence":
        return f"{engine} {_code()} {_versions(LIGHT_LIBRARIES)}"
    settings_of_engine = {name: os.environ.get(name) for name in VARIABLES}
    return f"{engine} {_code()} {_versions(LIGHT_LIBRARIES + HEAVY_LIBRARIES)} {settings_of_engine} {_weights()}"


@cache
def _code() -> str:
    """A digest of this project as it is installed."""
    digest = blake2b(digest_size=16)
    folder = Path(refgc.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _versions(libraries: tuple[str, ...]) -> str:
    return " ".join(f"{library} {_version(library)}" for library in libraries)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "-"


def _weights() -> str:
    """Where the weights are, and how large and how old each file of them is."""
    from refgc.model import hub

    found = []
    for variable, published, files in (
        (hub.BASE, hub.FLUX_KONTEXT, hub.PIPELINE_FILES),
        (hub.ADAPTER, "", hub.ADAPTER_FILES),
    ):
        source = os.environ.get(variable) or published
        folder = hub.on_disk(source, files) if source else None
        found.append(f"{source} {_listing(folder)}")
    return " ".join(found)


def _listing(folder: Path | None) -> list[tuple[str, int, int]]:
    if folder is None:
        return []
    stated = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return [(str(path.relative_to(folder)), status.st_size, status.st_mtime_ns) for path, status in stated]
