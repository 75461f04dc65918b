"""The files of a run's cache, whatever is trained: how they are named, written, read, made and found.

A file of the cache is named by the hash of all that it was made from: the pictures, how they are cut, and the networks.
What has changed therefore has another name, and is missing rather than wrong. Each file also holds a hash of its
tensors, which is compared when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.nn import functional

from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.flux.checks import check_pipeline
from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.reading import reading
from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.files import make_own_folder, write_files
from refgc.machine import find_gpus
from refgc.model.backbones.base import Backbone
from refgc.runner import run
from refgc.settings import settings as environment
from refgc.training.settings import WorkerSettings
from refgc.weight_files import Header, WeightFileError, read_header

# Of what the files hold; another one makes all of them anew.
VERSION = 1
AGAIN = "run `refgc train cache` again"
# Of each of a network's files so many bytes are hashed at its start, its middle and its end, since a whole text encoder
# would take a minute. Chosen by hand.
HASHED_BYTES = 1 << 20
VAE_PARTS = ("vae",)

Of = TypeVar("Of")


@dataclass(frozen=True, slots=True)
class Planned(Generic[Of]):
    """A sample, and the names that its files have or will have.

    Attributes:
        id: of the row in the manifest.
        of: the row.
        file: with its latents and masks.
        text: of its prompt.
        prompt: file with the embeddings of its prompt.
    """

    id: str
    of: Of
    file: Path
    text: str
    prompt: Path


@dataclass(frozen=True, slots=True)
class Plan(Generic[Of]):
    """All files that a run needs.

    Attributes:
        folder: of the cache.
        training: samples of the training split, in the order of the manifest.
        validation: those of the validation split that are drawn in between.
        empty_prompt: file with the embeddings of an empty prompt.
    """

    folder: Path
    training: tuple[Planned[Of], ...]
    validation: tuple[Planned[Of], ...]
    empty_prompt: Path


@dataclass(frozen=True, slots=True)
class CachedSample:
    """A sample whose file is in the cache.

    Attributes:
        id: of the row in the manifest.
        file: with its latents and masks.
        prompt: file with the embeddings of its prompt.
        shapes: (height, width) of its latents; samples of the same shapes can share a forward pass.
    """

    id: str
    file: Path
    prompt: Path
    shapes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cache(Generic[Of]):
    """Everything that a run reads from the cache; see `Plan`."""

    training: tuple[CachedSample, ...]
    validation: tuple[tuple[Of, CachedSample], ...]
    empty_prompt: Path

    @property
    def digest(self) -> str:
        """Of the samples and their order; a run that goes on has to find the same."""
        return hashlib.sha256("\n".join(f"{one.id} {one.file.name}" for one in self.training).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CacheCount:
    """What a pass over the samples did.

    Attributes:
        made: files written.
        earlier: files that were there.
        validation: samples that are drawn in between the steps.
    """

    made: int
    earlier: int
    validation: int


@dataclass(frozen=True, slots=True)
class Job:
    """A file to be made: of a prompt, or of a sample."""

    file: Path
    of: Any


def fill(
    plan: Plan[Any],
    write_prompts: Callable[[], Callable[[Job], None]],
    write_samples: Callable[[], Callable[[Job], None]],
    settings: WorkerSettings,
    progress: Progress = no_progress,
) -> CacheCount:
    """Make all files of a plan that are not there or are damaged; first prompts, then pictures.

    Args:
        plan: of the run.
        write_prompts: makes what writes the file of a prompt; called in each worker.
        write_samples: the same for samples.
        settings: of the workers.
        progress: told of each file.

    Raises:
        InputError: a picture is missing or damaged, and all other files are made; or the folder is write-protected.
        EngineError: the base cannot be had.
        OSError: the disk is full; what was written stays, and the next call goes on there.
    """
    make_own_folder(plan.folder)
    prompts, samples = jobs_of(plan)
    jobs = [*prompts, *samples]
    waiting = {job.file for job in jobs if not is_whole(job.file)}
    done = 0
    failures: list[Exception] = []
    for mine, build in ((prompts, write_prompts), (samples, write_samples)):
        missing = [job for job in mine if job.file in waiting]
        for error in _work(build, missing, settings):
            done += 1
            progress(f"{done} of {len(waiting)} files", done / len(waiting))
            if isinstance(error, InputError):
                failures.append(error)
            elif error is not None:
                raise error
    if failures:
        more = f" and {len(failures) - 1} more samples have faults" if len(failures) > 1 else ""
        raise InputError(f"{str(failures[0]).rstrip('.')}{more}; mend the dataset, then {AGAIN}.")
    return CacheCount(len(waiting), len(jobs) - len(waiting), len(plan.validation))


def find(plan: Plan[Of], latents: Sequence[str]) -> Cache[Of]:
    """Find every file of a plan; no picture is read, and of the files only their headers.

    Args:
        plan: of the run.
        latents: names of the tensors whose sizes decide which samples can share a forward pass.

    Raises:
        InputError: files are missing, stale or damaged; the sentence says how many.
    """
    samples = [*plan.training, *plan.validation]
    files = [one.file for one in samples] + [one.prompt for one in samples] + [plan.empty_prompt]
    missing = [file for file in dict.fromkeys(files) if not is_whole(file)]
    if len(missing) == len(set(files)):
        raise InputError(
            f"The cache in {quoted(str(plan.folder))} has none of the {len(missing)} files that this run needs; "
            "`refgc train cache` makes them."
        )
    if missing:
        raise InputError(
            f"{len(missing)} of {len(set(files))} files of the cache in {quoted(str(plan.folder))} are missing, "
            f"stale or damaged, {missing[0].name} among them; {AGAIN}."
        )
    cached = [CachedSample(one.id, one.file, one.prompt, _shapes(one.file, latents)) for one in samples]
    first = len(plan.training)
    return Cache(
        tuple(cached[:first]),
        tuple(zip((one.of for one in plan.validation), cached[first:], strict=True)),
        plan.empty_prompt,
    )


def file_name(folder: Path, kind: str, made_from: Mapping[str, Any]) -> Path:
    """The place of a file.

    Args:
        folder: of the cache.
        kind: name of the folder in it.
        made_from: all that the file depends on, as JSON can hold it.
    """
    content = json.dumps({"version": VERSION, **made_from}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return folder / kind / digest[:2] / f"{digest}.safetensors"


def prompt_file(folder: Path, text: str, encoders: str) -> Path:
    """The place of a prompt's embeddings, by the digest of the text encoders."""
    return file_name(folder, "prompts", {"text": text, "encoders": encoders})


def networks_digest(base: Path, parts: Iterable[str]) -> str:
    """The SHA-256 over the files of some parts of a base, of large ones over samples of their bytes.

    Args:
        base: the folder of the whole pipeline.
        parts: names of its folders.
    """
    digest = hashlib.sha256()
    for part in sorted(parts):
        for file in sorted(file for file in (base / part).rglob("*") if file.is_file()):
            size = file.stat().st_size
            digest.update(f"{file.relative_to(base)} {size} ".encode())
            with file.open("rb") as opened:
                for start in sorted({0, max(0, size // 2), max(0, size - HASHED_BYTES)}):
                    opened.seek(start)
                    digest.update(opened.read(HASHED_BYTES))
    return digest.hexdigest()


def read_latents(sample: CachedSample) -> dict[str, Tensor]:
    """The tensors of a sample by name, each (channels, height, width).

    Raises:
        InputError: the file is missing or damaged.
    """
    return _read(sample.file)


def read_prompt(file: Path) -> PromptEmbeddings:
    """The embeddings of a prompt; `negative` is not kept, since training has one pass.

    Raises:
        InputError: the file is missing or damaged.
    """
    tensors = _read(file)
    return PromptEmbeddings(tensors["tokens"], tensors.get("pooled"))


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a file whole, with the hash of its tensors.

    Raises:
        OSError: the disk is full.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # One note alone: safetensors writes several in any order, and a file should have the same bytes each time.
    content = to_bytes(whole, metadata={"sha256": _digest(whole)})
    write_files({file: lambda: content})


class PromptWork:
    """Writes the embeddings of prompts; holds the text encoders, and nothing else of the base."""

    def __init__(self, base: Path, backbone: Backbone) -> None:
        """Loads the text encoders onto the device of this worker."""
        self._backbone = backbone
        without = {"transformer": None, "vae": None}
        self._device, dtype = _device()
        with reading(base):
            check_pipeline(base, given=without)
            self._pipeline: Any = backbone.pipeline.from_pretrained(base, use_safetensors=True, dtype=dtype, **without)
        self._pipeline.to(self._device)

    @torch.no_grad()
    def __call__(self, job: Job) -> None:
        """Reads the prompt and writes its file.

        Raises:
            InputError: it is too long.
            OSError: the disk is full.
        """
        assert isinstance(job.of, str), "a prompt"
        embeddings = self._backbone.embed(self._pipeline, job.of, self._device)
        tensors = {"tokens": embeddings.tokens.to("cpu", torch.bfloat16)}
        if embeddings.pooled is not None:
            tensors["pooled"] = embeddings.pooled.to("cpu", torch.bfloat16)
        write_tensors(job.file, tensors)


class Encoder:
    """Makes latents of pictures; holds the VAE, and nothing else of the base."""

    def __init__(self, base: Path, backbone: Backbone) -> None:
        """Loads the VAE onto the device of this worker."""
        self._backbone = backbone
        parts = ("transformer", *backbone.text_parts)
        self._device, dtype = _device()
        with reading(base):
            check_pipeline(base, given=parts)
            self._vae: Any = backbone.pipeline.from_pretrained(
                base, use_safetensors=True, dtype=dtype, **dict.fromkeys(parts)
            ).vae
        self._vae.to(self._device)

    @torch.no_grad()
    def __call__(self, pixels: Bytes) -> Tensor:
        """The latents (channels, height / 8, width / 8) of uint8 RGB (height, width, 3), in bf16 on the CPU."""
        picture = torch.from_numpy(pixels.copy()).to(self._device).movedim(2, 0)[None]
        encoded = self._backbone.encode(self._vae, (picture.float() / 127.5 - 1).to(self._vae.dtype))
        return encoded[0].to("cpu", torch.bfloat16)


def at_latents(mask: Floats, latents: Tensor) -> Tensor:
    """The mask (1, height, width) at the size of latents (channels, height, width), averaged over the area of each."""
    area = functional.interpolate(torch.from_numpy(mask)[None, None], size=latents.shape[1:], mode="area")
    # Sixty-fourths are exact in half precision.
    return area[0].to(torch.float16)


def jobs_of(plan: Plan[Any]) -> tuple[list[Job], list[Job]]:
    """All prompts and all samples of a run, each file once."""
    texts = {plan.empty_prompt: ""}
    files: dict[Path, Any] = {}
    for one in (*plan.training, *plan.validation):
        texts[one.prompt] = one.text
        files.setdefault(one.file, one.of)
    return [Job(file, text) for file, text in texts.items()], [Job(file, of) for file, of in files.items()]


def _work(
    build: Callable[[], Callable[[Job], None]], jobs: Sequence[Job], settings: WorkerSettings
) -> Iterator[Exception | None]:
    """Does the jobs; for each the error that it ended with, or None."""
    if not jobs:
        return
    gpus = settings.gpus_per_worker
    if gpus is None:
        gpus = int(bool(find_gpus()) and environment().device != "cpu")
    # Without a GPU one network takes all cores.
    workers = settings.workers if settings.workers is not None or gpus else 1
    with closing(run(build, jobs, runner=settings.runner, workers=workers, gpus_per_worker=gpus)) as finished:
        for one in finished:
            yield one.error


def _device() -> tuple[torch.device, torch.dtype]:
    """Where a worker computes, and how precisely: as the pipeline does at inference."""
    if torch.cuda.is_available() and environment().device != "cpu":
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.float32


def _read(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            found = (opened.metadata() or {}).get("sha256")
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{quoted(str(file))} of the cache cannot be read ({error}); {AGAIN}.") from error
    if found != _digest(tensors):
        file.unlink(missing_ok=True)
        raise InputError(f"{quoted(str(file))} of the cache was damaged and is deleted; {AGAIN}.")
    return tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _header(file: Path) -> Header | None:
    try:
        return read_header(file)
    except (WeightFileError, OSError):
        return None


def is_whole(file: Path) -> bool:
    """Whether a file is there and complete; its tensors are compared with their hash when they are read."""
    header = _header(file)
    return header is not None and "sha256" in header.metadata


def _shapes(file: Path, latents: Sequence[str]) -> tuple[tuple[int, int], ...]:
    header = _header(file)
    if header is None:
        raise EngineError(f"{quoted(str(file))} of the cache vanished while it was read; {AGAIN}.")
    sizes = (header.tensors[name].shape[1:] for name in latents)
    return tuple((height, width) for height, width in sizes)
