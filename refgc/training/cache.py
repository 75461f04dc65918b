"""The refiner's cache: latents, masks and prompt embeddings, so that VAE and text encoders never lie beside the DiT."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from refgc import hub
from refgc.engine import Progress, no_progress
from refgc.errors import InputError, quoted
from refgc.flux.instruction import prompt_for
from refgc.model.backbones.base import Backbone
from refgc.model.loading import pipeline_class
from refgc.training.cache_files import (
    VAE_PARTS,
    Cache,
    CacheCount,
    Encoder,
    Job,
    Plan,
    Planned,
    PromptWork,
    at_latents,
    file_name,
    fill,
    find,
    networks_digest,
    prompt_file,
    write_tensors,
)
from refgc.training.samples import Sample, cut, load_pictures, read_samples
from refgc.training.settings import DataSettings, RefinerRun

LATENTS = ("ground_truth", "reference", "generated")


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
    base = hub.fetch(run_settings.model.base, "model.base", hub.PIPELINE_FILES)
    backbone = pipeline_class(base).backbone
    return fill(
        plan_of(run_settings, base),
        partial(PromptWork, base, backbone),
        partial(SampleWork, base, backbone, run_settings.data),
        run_settings.workers,
        progress,
    )


def open_cache(run_settings: RefinerRun) -> Cache[Sample]:
    """Find every file that a run needs; no picture is read, and of the files only their headers.

    Raises:
        InputError: the dataset cannot be read, or files are missing, stale or damaged; the sentence says how many.
        EngineError: the base cannot be had.
    """
    base = hub.fetch(run_settings.model.base, "model.base", hub.PIPELINE_FILES)
    return find(plan_of(run_settings, base), LATENTS)


class SampleWork:
    """Writes the latents and masks of samples."""

    def __init__(self, base: Path, backbone: Backbone, settings: DataSettings) -> None:
        """Loads the VAE onto the device of this worker."""
        self._encode = Encoder(base, backbone)
        self._settings = settings

    def __call__(self, job: Job) -> None:
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
            "ground_truth_mask": at_latents(crops.truth_mask, latents["ground_truth"]),
            "reference_mask": at_latents(crops.reference_mask, latents["reference"]),
        }
        write_tensors(job.file, latents | masks)


def prompt_text(sample: Sample, template: str) -> str:
    """The instruction about a sample's object."""
    return prompt_for(sample.object_name, template)


def plan_of(run_settings: RefinerRun, base: Path) -> Plan[Sample]:
    """All files that a run needs, for a base in a folder."""
    data = run_settings.data
    folder = Path(data.cache)
    encoders = networks_digest(base, pipeline_class(base).backbone.text_parts)
    vae = networks_digest(base, VAE_PARTS)
    crop = data.model_dump(mode="json", include={"whole", "working_size", "enlargement", "compact_generated"})

    def planned(sample: Sample) -> Planned[Sample]:
        hashes = {name: file.sha256 for name, file in sample.files().items()}
        text = prompt_text(sample, data.prompt)
        file = file_name(folder, "samples", {"files": hashes, "crop": crop, "vae": vae})
        return Planned(sample.id, sample, file, text, prompt_file(folder, text, encoders))

    validation = read_samples(data, "validation")[: run_settings.validation.pictures]
    return Plan(
        folder,
        tuple(planned(sample) for sample in read_samples(data, "train")),
        tuple(planned(sample) for sample in validation),
        prompt_file(folder, "", encoders),
    )
