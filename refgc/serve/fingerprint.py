"""The fingerprint of an engine: as long as it stays, so do the engine's results."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from importlib.metadata import distributions
from pathlib import Path

import refgc
from refgc import hub
from refgc.doctor import base_source
from refgc.engine import EngineName
from refgc.settings import setting
from refgc.wheels import weights_folder

# Settings whose text decides the pixels of the diffusion engine.
ENGINE_SETTINGS = ("REFGC_SPEED", "REFGC_DEVICE", "REFGC_TOGETHER")


def engine_fingerprint(engine: EngineName) -> str:
    """An engine with its code, the installed packages and its weights, as they are on this machine."""
    common = f"{engine} {_installed()} {_states(weights_folder().glob('*'))}"
    if engine == "correspondence":
        return common
    return f"{common} {[setting(name) for name in ENGINE_SETTINGS]} {_weights()}"


@cache
def _installed() -> str:
    """A digest of this package's code, and of the names and versions of everything that is installed."""
    digest = blake2b(digest_size=16)
    for path in sorted(Path(refgc.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr(sorted((package.name, package.version) for package in distributions())).encode())
    return digest.hexdigest()


def _weights() -> str:
    """Where the weights of the diffusion engine are, and the state of each file of them."""
    found = []
    for source, files in ((base_source(), hub.PIPELINE_FILES), (setting(hub.ADAPTER), hub.ADAPTER_FILES)):
        folder = hub.on_disk(source, files) if source else None
        found.append((source, _states(folder.rglob("*") if folder else ())))
    adapter = setting(hub.ADAPTER)
    lora = hub.find_lora(adapter) if adapter else None
    return str((found, _states([lora] if lora else ())))


def _states(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of each file among the paths."""
    files = sorted(path for path in paths if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
