"""The cache of a run: latents, masks and prompt embeddings, so that VAE and text encoders never lie beside the DiT.

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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.nn import functional

from refgc import hub
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.flux.checks import check_pipeline
from refgc.flux.prompts import PromptEmbeddings, prompt_for
from refgc.flux.reading import reading
from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.files import write_files
from refgc.machine import find_gpus
from refgc.model.backbones.base import Backbone
from refgc.model.loading import pipeline_class
from refgc.runner import run
from refgc.settings import settings as environment
from refgc.training.samples import Sample, cut, load_pictures, read_samples
from refgc.training.settings import DataSettings, RefinerRun, WorkerSettings
from refgc.weight_files import Header, WeightFileError, read_header

# Of what the files hold; another one makes all of them anew.
VERSION = 1
AGAIN = "run `refgc train cache` again"
# Of each of a network's files so many bytes are hashed at its start, its middle and its end, since a whole text encoder
# would take a minute. Chosen by hand.
HASHED_BYTES = 1 << 20
VAE_PARTS = ("vae",)
LATENTS = ("ground_truth", "reference", "generated")
MASKS = ("ground_truth_mask", "reference_mask")


class Shapes(NamedTuple):
    """Sizes of a sample's latents, (height, width) each; samples of the same sizes can share a forward pass."""

    ground_truth: tuple[int, int]
    reference: tuple[int, int]
    generated: tuple[int, int]


@dataclass(frozen=True, slots=True)
class CachedSample:
    """A sample whose file is in the cache.

    Attributes:
        id: of the triplet.
        file: with its latents and masks.
        prompt: file with the embeddings of its prompt.
        shapes: of its latents.
    """

    id: str
    file: Path
    prompt: Path
    shapes: Shapes


@dataclass(frozen=True, slots=True)
class Cache:
    """Everything that a run reads from the cache.

    Attributes:
        training: samples of the training split, in the order of the manifest.
        validation: those of the validation split that are drawn in between.
        empty_prompt: file with the embeddings of an empty prompt.
    """

    training: tuple[CachedSample, ...]
    validation: tuple[tuple[Sample, CachedSample], ...]
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
    """

    made: int
    earlier: int


@dataclass(frozen=True, slots=True)
class _Job:
    """A file to be made: of a prompt, or of a sample."""

    file: Path
    of: str | Sample


def fill_cache(run_settings: RefinerRun, progress: Progress = no_progress) -> CacheCount:
    """Make all files of the cache that are not there or are damaged; first prompts, then pictures.

    Args:
        run_settings: of the run.
        progress: told of each file.

    Raises:
        InputError: the dataset cannot be read, or a picture of it is missing or damaged; all other files are made.
        EngineError: the base cannot be had.
        OSError: the disk is full; what was written stays, and the next call goes on there.
    """
    data = run_settings.data
    base = hub.fetch(run_settings.model.base, hub.BASE, hub.PIPELINE_FILES)
    prompts, samples = _jobs(run_settings, base)
    jobs = [*prompts, *samples]
    waiting = {job.file for job in jobs if not _is_whole(job.file)}
    done = 0
    failures: list[Exception] = []
    for mine, build in (
        (prompts, partial(PromptWork, base)),
        (samples, partial(SampleWork, base, data)),
    ):
        missing = [job for job in mine if job.file in waiting]
        for error in _work(build, missing, run_settings.workers):
            done += 1
            progress(f"{done} of {len(waiting)} files", done / len(waiting))
            if isinstance(error, InputError):
                failures.append(error)
            elif error is not None:
                raise error
    if failures:
        more = f" and {len(failures) - 1} more samples have faults" if len(failures) > 1 else ""
        raise InputError(f"{str(failures[0]).rstrip('.')}{more}; mend the dataset, then {AGAIN}.")
    return CacheCount(len(waiting), len(jobs) - len(waiting))


def open_cache(run_settings: RefinerRun) -> Cache:
    """Find every file that a run needs; no picture is read, and of the files only their headers.

    Raises:
        InputError: the dataset cannot be read, or files are missing, stale or damaged; the sentence says how many.
        EngineError: the base cannot be had.
    """
    base = hub.fetch(run_settings.model.base, hub.BASE, hub.PIPELINE_FILES)
    names = _Names(run_settings, base)
    training, validation = _read_splits(run_settings)
    samples = [*training, *validation]
    files = [names.sample(one) for one in samples] + [names.prompt(one) for one in samples] + [names.empty_prompt]
    missing = [file for file in dict.fromkeys(files) if not _is_whole(file)]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(set(files))} files of the cache in {quoted(run_settings.data.cache)} are missing, "
            f"stale or damaged, {missing[0].name} among them; {AGAIN}."
        )
    cached = [CachedSample(one.id, names.sample(one), names.prompt(one), _shapes(names.sample(one))) for one in samples]
    return Cache(
        tuple(cached[: len(training)]),
        tuple(zip(validation, cached[len(training) :], strict=True)),
        names.empty_prompt,
    )


def read_latents(sample: CachedSample) -> dict[str, Tensor]:
    """The tensors of a sample by name: `LATENTS`, (channels, height, width), and `MASKS`, (1, height, width).

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


class PromptWork:
    """Writes the embeddings of prompts; holds the text encoders, and nothing else of the base."""

    def __init__(self, base: Path) -> None:
        """Loads the text encoders onto the device of this worker."""
        made_of = pipeline_class(base)
        self._backbone: Backbone = made_of.backbone
        without = {"transformer": None, "vae": None}
        self._device, dtype = _device()
        with reading(base):
            check_pipeline(base, given=without)
            self._pipeline: Any = self._backbone.pipeline.from_pretrained(
                base, use_safetensors=True, dtype=dtype, **without
            )
        self._pipeline.to(self._device)

    @torch.no_grad()
    def __call__(self, job: _Job) -> None:
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
        _write(job.file, tensors)


class SampleWork:
    """Writes the latents and masks of samples; holds the VAE, and nothing else of the base."""

    def __init__(self, base: Path, settings: DataSettings) -> None:
        """Loads the VAE onto the device of this worker."""
        made_of = pipeline_class(base)
        self._backbone: Backbone = made_of.backbone
        self._settings = settings
        parts = ("transformer", *self._backbone.text_parts)
        without = dict.fromkeys(parts)
        self._device, dtype = _device()
        with reading(base):
            check_pipeline(base, given=parts)
            self._vae: Any = self._backbone.pipeline.from_pretrained(
                base, use_safetensors=True, dtype=dtype, **without
            ).vae
        self._vae.to(self._device)

    @torch.no_grad()
    def __call__(self, job: _Job) -> None:
        """Cuts the pictures, encodes them and writes the file.

        Raises:
            InputError: a picture is missing or damaged, or cannot be cut.
            OSError: the disk is full.
        """
        assert isinstance(job.of, Sample), "a sample"
        try:
            crops = cut(load_pictures(Path(self._settings.dataset), job.of), self._settings)
        except InputError as error:
            raise InputError(f"The triplet {quoted(job.of.id)} cannot be used: {error}") from error
        latents = {
            "ground_truth": self._encode(crops.truth),
            "reference": self._encode(crops.reference),
            "generated": self._encode(crops.generated),
        }
        masks = {
            "ground_truth_mask": _at_latents(crops.truth_mask, latents["ground_truth"]),
            "reference_mask": _at_latents(crops.reference_mask, latents["reference"]),
        }
        _write(job.file, latents | masks)

    def _encode(self, pixels: Bytes) -> Tensor:
        picture = torch.from_numpy(pixels).to(self._device).movedim(2, 0)[None]
        encoded = self._backbone.encode(self._vae, (picture.float() / 127.5 - 1).to(self._vae.dtype))
        return encoded[0].to("cpu", torch.bfloat16)


class _Names:
    """The names of a run's files."""

    def __init__(self, run_settings: RefinerRun, base: Path) -> None:
        data = run_settings.data
        self._folder = Path(data.cache)
        self._template = data.prompt
        self._text = networks_digest(base, pipeline_class(base).backbone.text_parts)
        self._vae = networks_digest(base, VAE_PARTS)
        self._crop = data.model_dump(mode="json", include={"whole", "working_size", "enlargement", "compact_generated"})
        self.empty_prompt = self._of_prompt("")

    def prompt(self, sample: Sample) -> Path:
        return self._of_prompt(prompt_text(sample, self._template))

    def sample(self, sample: Sample) -> Path:
        hashes = {name: file.sha256 for name, file in sample.files().items()}
        return self._file("samples", {"files": hashes, "crop": self._crop, "vae": self._vae})

    def _of_prompt(self, text: str) -> Path:
        return self._file("prompts", {"text": text, "encoders": self._text})

    def _file(self, kind: str, made_from: Mapping[str, Any]) -> Path:
        content = json.dumps({"version": VERSION, **made_from}, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return self._folder / kind / digest[:2] / f"{digest}.safetensors"


def prompt_text(sample: Sample, template: str) -> str:
    """The instruction about a sample's object."""
    return prompt_for(sample.object_name, template)


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


def _read_splits(run_settings: RefinerRun) -> tuple[list[Sample], list[Sample]]:
    validation = read_samples(run_settings.data, "validation")[: run_settings.validation.pictures]
    return read_samples(run_settings.data, "train"), validation


def _jobs(run_settings: RefinerRun, base: Path) -> tuple[list[_Job], list[_Job]]:
    """All prompts and all samples of a run, each file once."""
    names = _Names(run_settings, base)
    training, validation = _read_splits(run_settings)
    texts = {names.empty_prompt: ""}
    files: dict[Path, Sample] = {}
    for sample in (*training, *validation):
        texts[names.prompt(sample)] = prompt_text(sample, run_settings.data.prompt)
        files.setdefault(names.sample(sample), sample)
    return [_Job(file, text) for file, text in texts.items()], [_Job(file, sample) for file, sample in files.items()]


def _work(
    build: Callable[[], Callable[[_Job], None]], jobs: Sequence[_Job], settings: WorkerSettings
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


def _at_latents(mask: Floats, latents: Tensor) -> Tensor:
    """The mask at the size of latents (channels, height, width), each value the mean over its area."""
    area = functional.interpolate(torch.from_numpy(mask)[None, None], size=latents.shape[1:], mode="area")
    # Sixty-fourths are exact in half precision.
    return area[0].to(torch.float16)


def _write(file: Path, tensors: Mapping[str, Tensor]) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # One note alone: safetensors writes several in any order, and a file should have the same bytes each time.
    content = to_bytes(whole, metadata={"sha256": _digest(whole)})
    write_files({file: lambda: content})


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


def _is_whole(file: Path) -> bool:
    """Whether a file is there and complete; its tensors are compared with their hash when they are read."""
    header = _header(file)
    return header is not None and "sha256" in header.metadata


def _shapes(file: Path) -> Shapes:
    header = _header(file)
    if header is None:
        raise EngineError(f"{quoted(str(file))} of the cache vanished while it was read; {AGAIN}.")
    sizes = (header.tensors[name].shape[1:] for name in LATENTS)
    return Shapes(*((height, width) for height, width in sizes))
