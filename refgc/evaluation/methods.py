"""The kinds of methods that are compared: enlargements, engines, folders of results, programs, and the oracle."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import cv2
import numpy as np

import refgc
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.dataset.external import SECONDS, ExternalProgram
from refgc.engine import Engine, versions_of
from refgc.errors import EngineError, InputError, quoted
from refgc.evaluation.items import Item, Pictures, fitted, results_called
from refgc.hub import ADAPTER_FILES, PIPELINE_FILES, find_lora, on_disk
from refgc.imaging.arrays import bicubic
from refgc.imaging.decode import PICTURE_SUFFIXES
from refgc.imaging.files import MEGABYTE
from refgc.imaging.image import Image, Mask, encoded, mask_image, open_image
from refgc.imaging.upscale import clean_upscale
from refgc.machine import missing_cuda, missing_libraries, silence_libraries
from refgc.request import Surroundings, make_request
from refgc.settings import settings
from refgc.surroundings.weights import check_weights, weight_files
from refgc.wheels import weights_folder

Resampling: TypeAlias = Literal["bicubic", "lanczos", "enlargement"]
MaskChoice: TypeAlias = Literal["found", "reference", "both"]
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)
MASKS: tuple[MaskChoice, ...] = get_args(MaskChoice)
PLACEHOLDERS = ("reference", "generated", "reference_mask", "generated_mask", "object", "scale", "seed", "output")
# Rooms of the package whose code makes the pixels of the engines.
ROOMS = ("imaging", "masks", "correspondence", "surroundings", "flux", "model")
# A program's script or small file is told apart by its bytes, a larger one, such as weights, by its size and time.
LARGEST_HASHED = 10 * MEGABYTE
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a method made of an item.

    Attributes:
        image: its result, of the item's size.
        placed: whether the reference was placed; None where the method does not tell.
        message: what the method says of it.
        resized: whether it had another size.
    """

    image: Image
    placed: bool | None = None
    message: str = ""
    resized: bool = False


# Makes a result; raises InputError, EngineError or OSError where it cannot.
Maker: TypeAlias = Callable[[Item, Pictures], Made]


class Method(Protocol):
    """How to get a maker: small and picklable, so that it can be sent to a worker."""

    @property
    def default_label(self) -> str:
        """What it is called where nobody gives a label."""
        ...

    @property
    def wants_gpu(self) -> bool:
        """Whether each worker should have a GPU to itself."""
        ...

    def check(self) -> None:
        """Refuses what can make no result at all, before anything is begun.

        Raises:
            InputError: an option cannot be used.
            EngineError: what it needs is not on this machine.
        """
        ...

    def identity(self, item: Item) -> Mapping[str, Any]:
        """All that the result depends on beside the item's pictures, as JSON: options, versions, hashes of files.

        Raises:
            InputError: a file that it depends on is not there.
        """
        ...

    def open(self) -> Maker:
        """The maker, with its model loaded."""
        ...


@dataclass(frozen=True, slots=True)
class Enlargement:
    """The LRGI enlarged: by bicubic or Lanczos interpolation, or as the correspondence engine does it."""

    name: Resampling
    wants_gpu: bool = False

    @property
    def default_label(self) -> str:
        """See `Method`."""
        return {"bicubic": "Bicubic", "lanczos": "Lanczos", "enlargement": "Enlargement"}[self.name]

    def check(self) -> None:
        """It runs everywhere."""

    def identity(self, item: Item) -> dict[str, Any]:
        """See `Method`."""
        del item
        code = _code_digest(("imaging",)) if self.name == "enlargement" else ""
        return {"method": self.name, "code": code, **versions_of("opencv", "pillow")}

    def open(self) -> Maker:
        """See `Method`."""
        return self._make

    def _make(self, item: Item, pictures: Pictures) -> Made:
        del item
        small, size = pictures.lrgi.pixels, pictures.size
        if size == pictures.lrgi.size:
            return Made(Image(small))
        match self.name:
            case "bicubic":
                return Made(Image(bicubic(small, size)))
            case "lanczos":
                return Made(Image(np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)))
            case "enlargement":
                return Made(Image(clean_upscale(small, size)))


@dataclass(frozen=True, slots=True)
class Correspondence:
    """The correspondence engine.

    Attributes:
        surroundings: how what lies around the object is enlarged.
        masks: which masks of the item it is given: "found" none; "reference" that of the HRRI; "both" that of the LRGI
            as well, or else that of the HRGT, which shows the same frame.
    """

    surroundings: Surroundings = "plain"
    masks: MaskChoice = "found"
    wants_gpu: bool = False

    @property
    def default_label(self) -> str:
        """See `Method`."""
        options = [f"{self.surroundings} surroundings"] if self.surroundings != "plain" else []
        options += {"found": [], "reference": ["reference mask"], "both": ["both masks"]}[self.masks]
        return ", ".join(["Correspondence", *options])

    def check(self) -> None:
        """Refuses surroundings whose weights are not here.

        Raises:
            EngineError: they are not.
        """
        check_weights(self.surroundings)

    def identity(self, item: Item) -> dict[str, Any]:
        """See `Method`."""
        del item
        weights = (weights_folder() / "xfeat.npz", weights_folder() / "lighterglue.npz")
        return {
            "method": "correspondence",
            "surroundings": self.surroundings,
            "masks": self.masks,
            "code": _code_digest(ROOMS[:4]),
            "weights": [_file_digest(path) for path in (*weights, *weight_files(self.surroundings))],
            **versions_of("opencv", "numpy", "scipy"),
        }

    def open(self) -> Maker:
        """See `Method`."""
        return _EngineMaker(CorrespondenceEngine(), self.surroundings, self.masks)


@dataclass(frozen=True, slots=True)
class Diffusion:
    """The diffusion engine.

    Attributes:
        base: a folder or Hub repository; None takes that of the environment.
        adapter: FreqMoLE's weights or a LoRA, a folder, a file or a Hub repository; None runs the stock model.
    """

    base: str | None = None
    adapter: str | None = None
    wants_gpu: bool = True

    @property
    def default_label(self) -> str:
        """See `Method`."""
        return "Diffusion, stock" if self.adapter is None else f"Diffusion, {Path(self.adapter).name}"

    def check(self) -> None:
        """Refuses a machine that cannot run it, and weights that are not on it.

        Raises:
            EngineError: it cannot run here.
        """
        if missing := missing_libraries() or missing_cuda():
            raise EngineError(missing)
        for what, source in (("base", self._sources().base), ("adapter", self.adapter)):
            # A repository of the Hub has one slash in its name; whether there is one is seen when it is fetched.
            can_be_repository = source is None or (not Path(source).is_absolute() and source.count("/") == 1)
            if source is not None and not can_be_repository and not Path(source).expanduser().exists():
                raise EngineError(f"There is no {what} {quoted(source)}; check the path.")
        if self.adapter is not None and find_lora(self.adapter) is None:
            folder = Path(self.adapter).expanduser()
            if folder.exists() and on_disk(self.adapter, ADAPTER_FILES) is None:
                raise EngineError(
                    f"{quoted(self.adapter)} is no adapter; give a folder with {' and '.join(ADAPTER_FILES)}, or a "
                    "LoRA."
                )

    def identity(self, item: Item) -> dict[str, Any]:
        """See `Method`; a base or adapter from the Hub is told apart by the revision that is on this machine."""
        del item
        given = settings()
        return {
            "method": "diffusion",
            "base": _weights_identity(self._sources().base, PIPELINE_FILES),
            "adapter": None if self.adapter is None else _weights_identity(self.adapter, ADAPTER_FILES),
            "speed": given.speed,
            "together": given.together,
            "code": _code_digest(ROOMS),
            **versions_of("torch", "diffusers", "transformers", "peft", "numpy"),
        }

    def open(self) -> Maker:
        """See `Method`."""
        silence_libraries()
        from refgc.model.engine import DiffusionEngine

        engine = DiffusionEngine(self._sources())
        engine.prepare()
        return _EngineMaker(engine, "plain", "found")

    def _sources(self) -> Any:
        silence_libraries()
        from refgc.model.backbones.catalogue import chosen_source
        from refgc.model.loading import Sources

        return Sources(chosen_source(self.base or settings().base, self.adapter), self.adapter)


@dataclass(frozen=True, slots=True)
class ResultFolder:
    """Results of any method, as pictures that are called by the id of their item.

    Attributes:
        path: of the folder.
    """

    path: Path
    wants_gpu: bool = False

    @property
    def default_label(self) -> str:
        """See `Method`."""
        return self.path.resolve().name or "folder"

    def check(self) -> None:
        """Refuses what is no folder.

        Raises:
            InputError: it is none.
        """
        if not self.path.is_dir():
            raise InputError(f"The folder of results {quoted(str(self.path))} does not exist; check the path.")

    def identity(self, item: Item) -> dict[str, Any]:
        """See `Method`."""
        return {"method": "folder", "file": _file_digest(self._find(item))}

    def open(self) -> Maker:
        """See `Method`."""
        return self._make

    def _make(self, item: Item, pictures: Pictures) -> Made:
        picture = open_image(self._find(item), name="result")
        return _made(picture, pictures)

    def _find(self, item: Item) -> Path:
        found = results_called(self.path, item.id)
        if not found:
            raise InputError(f"The folder {quoted(str(self.path))} has no result called {item.id}.")
        if len(found) > 1:
            raise InputError(
                f"The folder {quoted(str(self.path))} has {len(found)} results called {item.id}; leave one."
            )
        return found[0]


@dataclass(frozen=True, slots=True)
class Command:
    """Any program, which is run once for each item; see `refgc.dataset.external`.

    Attributes:
        template: `{reference}`, `{generated}`, `{reference_mask}` and `{generated_mask}` become PNG files, `{object}`,
            `{scale}` and `{seed}` words. It writes its picture to `{output}`, which ends in .png. A mask that nobody
            drew is white all over. The truth is never given.
        seconds: how long it may take for one picture.
    """

    template: str
    seconds: float = SECONDS
    wants_gpu: bool = False

    @property
    def default_label(self) -> str:
        """See `Method`."""
        words = self.template.split()
        return Path(words[0]).name if words else "command"

    @property
    def program(self) -> ExternalProgram:
        """What is run."""
        return ExternalProgram(self.template, "method", PLACEHOLDERS, self.seconds)

    def check(self) -> None:
        """See `ExternalProgram.check`.

        Raises:
            InputError: the template cannot be used.
            EngineError: there is no such program.
        """
        self.program.check()

    def identity(self, item: Item) -> dict[str, Any]:
        """See `Method`; files that the command names, such as a script or weights, are told apart by their bytes.

        A command that names a file and writes into it is therefore run anew each time.
        """
        del item
        words = self.program.words({name: f"{{{name}}}" for name in PLACEHOLDERS})
        files = [_file_digest(Path(word)) for word in words if _is_file(word)]
        return {"method": "command", "words": words, "files": files}

    def open(self) -> Maker:
        """See `Method`."""
        return self._make

    def _make(self, item: Item, pictures: Pictures) -> Made:
        with tempfile.TemporaryDirectory(prefix="refgc-") as name:
            folder = Path(name)
            shown = {
                "reference": pictures.hrri,
                "generated": pictures.lrgi,
                "reference_mask": _drawn(pictures.hrri_mask, pictures.hrri),
                "generated_mask": _drawn(pictures.lrgi_mask, pictures.lrgi),
            }
            for kind, image in shown.items():
                (folder / f"{kind}.png").write_bytes(encoded(image, f"{kind}.png"))
            output = folder / "output.png"
            words = {"object": item.object_name, "scale": str(pictures.scale), "seed": str(SEED)}
            files = {kind: str(folder / f"{kind}.png") for kind in shown}
            self.program.run({**files, **words, "output": str(output)})
            if not output.is_file():
                raise InputError("The method ended without a picture.")
            return _made(open_image(output, name="result"), pictures)


@dataclass(frozen=True, slots=True)
class Oracle:
    """The truth itself against the reference, another true picture of the object.

    It bounds what a method can reach in metrics that compare with the reference. Against the truth it would say
    nothing.
    """

    wants_gpu: bool = False

    @property
    def default_label(self) -> str:
        """See `Method`."""
        return "Oracle (the truth itself)"

    def check(self) -> None:
        """It runs everywhere."""

    def identity(self, item: Item) -> dict[str, Any]:
        """See `Method`."""
        del item
        return {"method": "oracle"}

    def open(self) -> Maker:
        """See `Method`."""
        return self._make

    def _make(self, item: Item, pictures: Pictures) -> Made:
        del item
        if pictures.hrgt is None:
            raise InputError("The item has no truth, so that there is no oracle.")
        return Made(Image(pictures.hrgt.pixels))


@dataclass(frozen=True, slots=True, eq=False)
class _EngineMaker:
    """An engine of the package as a maker."""

    engine: Engine
    surroundings: Surroundings
    masks: MaskChoice

    def __call__(self, item: Item, pictures: Pictures) -> Made:
        generated_mask = pictures.lrgi_mask if pictures.lrgi_mask is not None else pictures.hrgt_mask
        request = make_request(
            pictures.hrri,
            pictures.lrgi,
            scale=pictures.scale,
            reference_mask=None if self.masks == "found" else pictures.hrri_mask,
            generated_mask=_shrunk(generated_mask, pictures.lrgi) if self.masks == "both" else None,
            object_name=item.object_name,
            seed=SEED,
            surroundings=self.surroundings,
        )
        result = self.engine.refine(request)
        made = _made(result.image, pictures)
        return Made(made.image, result.report.placed, result.report.message)


def _made(image: Image, pictures: Pictures) -> Made:
    """A foreign result, brought to the item's size."""
    return Made(fitted(image, pictures.size), resized=image.size != pictures.size)


def _drawn(mask: Mask | None, image: Image) -> Image:
    return mask_image(mask) if mask is not None else Image(np.full_like(image.pixels, 255))


def _shrunk(mask: Mask | None, image: Image) -> Mask | None:
    if mask is None or mask.size == image.size:
        return mask
    return Mask(np.asarray(cv2.resize(mask.values, image.size, interpolation=cv2.INTER_AREA), np.float32))


@lru_cache
def _code_digest(rooms: tuple[str, ...]) -> str:
    """The hash of the package's code in some rooms.

    An engine that was changed is run again though its version is the same.
    """
    package = Path(refgc.__file__).parent
    files = [path for room in rooms for path in (package / room).rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted([*files, package / "engine.py", package / "request.py"]):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _is_file(word: str) -> bool:
    """Whether a word of a command names a file; one that no file can be called, such as a program's text, does not."""
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False


def _file_digest(path: Path) -> str:
    """The hash of a file; of a large one that of its size and time. Empty where there is none."""
    try:
        known = path.stat()
        if known.st_size > LARGEST_HASHED and path.suffix.lower() not in PICTURE_SUFFIXES:
            return f"{known.st_size} bytes of {known.st_mtime_ns}"
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _weights_identity(source: str, files: tuple[str, ...]) -> dict[str, Any]:
    """A base or adapter: its name, and of a folder on this machine its files; of the Hub's cache its revision."""
    folder = find_lora(source) or on_disk(source, files)
    if folder is None:
        return {"source": source}
    if revision := re.search(r"/snapshots/([0-9a-f]{7,})", folder.as_posix()):
        return {"source": source, "revision": revision[1]}
    places = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return {"source": source, "files": [_file_digest(path) for path in places]}
