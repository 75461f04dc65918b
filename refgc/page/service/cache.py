"""Results made before, on disk, given again to whoever brings the same pictures and asks for the same.

Entries are named by a keyed digest of everything that makes a result, with a secret of this installation for the key:
without the pictures nobody can tell a name, and with them nobody needs one. Nothing here is served: who gets a result
again gets files of their own, linked to these.
"""

from __future__ import annotations

import os
import secrets
import shutil
from functools import cache
from hashlib import blake2b, file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import time
from typing import Any

from gradio.utils import get_upload_folder
from pydantic import BaseModel, TypeAdapter

import refgc
from refgc.engine import EngineName
from refgc.errors import InputError
from refgc.imaging.files import MEGABYTE, write_whole
from refgc.imaging.image import Image, Mask
from refgc.page.pictures import ShownResult
from refgc.page.service.logs import logger
from refgc.page.service.storage import remove
from refgc.request import RefineRequest
from refgc.settings import Settings, setting

HERE = "result:"
MANIFEST = "manifest.json"
UNFINISHED_SECONDS = 3600.0

Results = TypeAdapter(ShownResult)


class Manifest(BaseModel):
    """What an entry holds: the result, its files named from the entry's folder, and each file's digest."""

    result: Any
    files: dict[str, str]


class ResultCache:
    """A folder of made results, bounded in bytes and age; safe to share among threads and processes."""

    def __init__(self, folder: Path, *, most_bytes: float, longest_seconds: float) -> None:
        """Makes the folder if it is missing, readable by this server alone.

        Raises:
            OSError: it cannot be made, or is somebody else's.
        """
        self._most_bytes = most_bytes
        self._longest_seconds = longest_seconds
        own_folder(folder)
        self._entries, self._unfinished = folder / "entries", folder / "unfinished"
        self._make_folders()
        self._secret = _secret(folder / "secret", self._unfinished)

    def key(self, request: RefineRequest, made_by: str) -> str:
        """The name of what comes of this request.

        Args:
            request: its pixels count, not its files.
            made_by: the engine, with everything that its results depend on.
        """
        digest = blake2b(key=self._secret, digest_size=32)
        for picture in (request.reference, request.generated):
            _add_image(digest, picture)
        for mask in (request.reference_mask, request.generated_mask):
            _add_mask(digest, mask)
        options = (request.scale, request.object_name, request.seed, request.strength, made_by)
        digest.update(repr(options).encode())
        return digest.hexdigest()

    def give(self, key: str, folder: Path) -> ShownResult | None:
        """The result of that name as files in `folder`, which is made; None where none is whole and young enough."""
        entry = self._entries / key
        if not entry.is_dir():
            return None
        if _age(entry / MANIFEST, time()) > self._longest_seconds:
            self._forget(entry)
            return None
        try:
            manifest = Manifest.model_validate_json((entry / MANIFEST).read_bytes())
            folder.mkdir(parents=True)
            for name, digest in manifest.files.items():
                _link(entry / name, folder / name)
                if _digest(folder / name) != digest:
                    raise ValueError("damaged")
            os.utime(entry)
            return Results.validate_python(_moved(manifest.result, HERE, f"{folder}{os.sep}"))
        except (OSError, ValueError) as error:
            logger.warning("damaged result forgotten", exc_info=error)
            self._forget(entry, folder)
        return None

    def keep(self, key: str, result: ShownResult, folder: Path) -> None:
        """Remembers a result whose files are in `folder`; what cannot be kept is only noted."""
        if (self._entries / key / MANIFEST).exists():
            return
        unfinished = self._unfinished / secrets.token_hex(16)
        try:
            self._make_folders()
            unfinished.mkdir()
            names = sorted(path.name for path in folder.iterdir())
            for name in names:
                _link(folder / name, unfinished / name)
            tree = _moved(Results.dump_python(result, mode="json"), f"{folder}{os.sep}", HERE)
            manifest = Manifest(result=tree, files={name: _digest(unfinished / name) for name in names})
            write_whole(unfinished / MANIFEST, manifest.model_dump_json().encode())
            unfinished.rename(self._entries / key)
        except (OSError, InputError) as error:
            logger.warning("result not kept", exc_info=error)
            remove(unfinished)
        else:
            self.trim()

    def trim(self, most_bytes: float | None = None) -> None:
        """Forgets what is too old, then what was asked for longest ago, until the rest has room.

        Args:
            most_bytes: how much may stay; None for as much as the cache may hold.
        """
        now = time()
        self._make_folders()
        for unfinished in self._unfinished.iterdir():
            if _age(unfinished, now) > UNFINISHED_SECONDS:
                remove(unfinished)
        room = self._most_bytes if most_bytes is None else most_bytes
        for entry in sorted(self._entries.iterdir(), key=lambda entry: _age(entry, now)):
            room -= _bytes(entry)
            if room < 0 or _age(entry / MANIFEST, now) > self._longest_seconds:
                self._forget(entry)

    def _make_folders(self) -> None:
        for folder in (self._entries, self._unfinished):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _forget(self, entry: Path, *others: Path) -> None:
        # Away in one step, so that nobody finds a part of it.
        doomed = self._unfinished / secrets.token_hex(16)
        try:
            entry.rename(doomed)
        except OSError:
            doomed = entry
        for folder in (doomed, *others):
            remove(folder)


def own_folder(folder: Path) -> None:
    """Makes a folder that nobody else can read, or makes sure that there is one.

    Raises:
        OSError: it cannot be made, or is somebody else's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise PermissionError(f"{folder} belongs to somebody else")
    folder.chmod(0o700)


def _secret(path: Path, unfinished: Path) -> bytes:
    if not path.exists():
        new = unfinished / secrets.token_hex(16)
        write_whole(new, secrets.token_bytes(32))
        new.chmod(0o600)
        try:
            os.link(new, path)
        except FileExistsError:  # another server was first
            pass
        finally:
            new.unlink()
    return path.read_bytes()


def _add_image(digest: Any, image: Image) -> None:
    digest.update(repr(image.pixels.shape).encode())
    digest.update(image.pixels.data if image.pixels.flags.c_contiguous else image.pixels.tobytes())
    _add_mask(digest, image.alpha)


def _add_mask(digest: Any, mask: Mask | None) -> None:
    digest.update(b"none" if mask is None else repr(mask.values.shape).encode())
    if mask is not None:
        digest.update(mask.values.tobytes())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


def _moved(tree: Any, start: str, instead: str) -> Any:
    """The same JSON with another beginning of every text that begins so."""
    match tree:
        case str() if tree.startswith(start):
            return instead + tree.removeprefix(start)
        case list():
            return [_moved(item, start, instead) for item in tree]
        case dict():
            return {name: _moved(value, start, instead) for name, value in tree.items()}
    return tree


def _age(path: Path, now: float) -> float:
    try:
        return now - path.lstat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _bytes(folder: Path) -> int:
    try:
        return sum(file.lstat().st_size for file in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return 0


# ==== made_before
HOUR = 3600.0
LIGHT_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "opencv-python", "pillow")
HEAVY_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "torchao")
# By name, since what they say decides the pixels.
VARIABLES = ("REFGC_SPEED", "REFGC_DEVICE")


def open_cache(limits: Settings) -> ResultCache | None:
    """The cache of this installation, beside the folder of uploads; None where nothing is kept."""
    if not limits.cache_megabytes:
        return None
    uploads = Path(get_upload_folder()).absolute()
    folder = uploads.with_name(f"{uploads.name}-results")
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
    settings_of_engine = {name: setting(name) for name in VARIABLES}
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
    from refgc import hub

    found = []
    for variable, published, files in (
        (hub.BASE, hub.FLUX_KONTEXT, hub.PIPELINE_FILES),
        (hub.ADAPTER, "", hub.ADAPTER_FILES),
    ):
        source = setting(variable) or published
        folder = hub.on_disk(source, files) if source else None
        found.append(f"{source} {_listing(folder)}")
    return " ".join(found)


def _listing(folder: Path | None) -> list[tuple[str, int, int]]:
    if folder is None:
        return []
    stated = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return [(str(path.relative_to(folder)), status.st_size, status.st_mtime_ns) for path, status in stated]
