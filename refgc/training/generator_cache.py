"""The cache of DipRefGC's training: latents of diptychs and of their conditions, masks and prompt embeddings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxControlNetPipeline

from refgc import hub
from refgc.dataset.lrgi import PairPictures
from refgc.dataset.manifest import Pair, Split
from refgc.dataset.triplets import load_pictures, pairs_taken
from refgc.diptych.conditions import CANNY_THRESHOLDS, PADDING, Diptych, build, finished, panel_size
from refgc.diptych.controlnets import known_latents
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.sources import FLUX_DEV, PIPELINES
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.imaging.arrays import Size
from refgc.model.backbones.base import Backbone
from refgc.model.backbones.kontext import Kontext
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
from refgc.training.settings import TAKES_UNREVIEWED, GeneratorDataSettings, GeneratorRun

# FLUX.1-dev has the text encoders, the VAE and the noise schedule of FLUX.1-Kontext.
FLUX: Backbone = Kontext()
LATENTS = ("ground_truth",)


def fetch_base(base: str) -> Path:
    """The folder with FLUX.1-dev's files; they are downloaded where they are not on this machine.

    Raises:
        EngineError: they cannot be had, or are of another model.
    """
    index = hub.fetch(base, "The base", (hub.INDEX,))
    name = FluxControlNetPipeline.load_config(index)["_class_name"]
    if name not in PIPELINES:
        raise EngineError(f"The base is {base!r}, which holds a {name}; name {FLUX_DEV} or a finetuned one.")
    return hub.fetch(base, "The base", hub.PIPELINE_FILES)


def fill_cache(run_settings: GeneratorRun, progress: Progress = no_progress) -> CacheCount:
    """Make all files of the cache that are not there or are damaged; first prompts, then pictures.

    Args:
        run_settings: of the run.
        progress: told of each file.

    Raises:
        InputError: the dataset cannot be read, or a picture of it is missing or damaged; all other files are made.
        EngineError: the base cannot be had.
        OSError: the disk is full; what was written stays, and the next call goes on there.
    """
    base = fetch_base(run_settings.model.base)
    return fill(
        plan_of(run_settings, base),
        partial(PromptWork, base, FLUX),
        partial(DiptychWork, base, run_settings.data),
        run_settings.workers,
        progress,
    )


def open_cache(run_settings: GeneratorRun) -> Cache[Pair]:
    """Find every file that a run needs; no picture is read, and of the files only their headers.

    Raises:
        InputError: the dataset cannot be read, or files are missing, stale or damaged; the sentence says how many.
        EngineError: the base cannot be had.
    """
    return find(plan_of(run_settings, fetch_base(run_settings.model.base)), LATENTS)


def plan_of(run_settings: GeneratorRun, base: Path) -> Plan[Pair]:
    """All files that a run needs, for a base in a folder.

    Raises:
        InputError: the dataset cannot be read, or none of its pairs may be used for training.
    """
    data = run_settings.data
    folder = Path(data.cache)
    encoders = networks_digest(base, FLUX.text_parts)
    vae = networks_digest(base, VAE_PARTS)

    def planned(pair: Pair) -> Planned[Pair]:
        hrgt = pair.hrgt.picture
        content = {
            "files": [file.sha256 for view in (pair.hrri, pair.hrgt) for file in (view.picture, view.mask)],
            "panel": panel_size((hrgt.width, hrgt.height), data.panel_size),
            "conditions": [PADDING, *CANNY_THRESHOLDS],
            "vae": vae,
        }
        text = diptych_prompt(pair.object_name, pair.caption)
        return Planned(pair.id, pair, file_name(folder, "diptychs", content), text, prompt_file(folder, text, encoders))

    validation = read_split(data, "validation")[: run_settings.validation.pictures]
    return Plan(
        folder,
        tuple(planned(pair) for pair in read_split(data, "train")),
        tuple(planned(pair) for pair in validation),
        prompt_file(folder, "", encoders),
    )


def read_split(data: GeneratorDataSettings, split: Split) -> list[Pair]:
    """The pairs of one split that LRGIs would be drawn for, in the order of the manifest.

    Raises:
        InputError: there is no dataset, a row cannot be read, or no pair may be used, or none for training.
    """
    root = Path(data.dataset)
    pairs, _ = pairs_taken(root, unreviewed=data.unreviewed, choice=TAKES_UNREVIEWED)
    found = [pair for pair in pairs if pair.split == split]
    if not found and split == "train":
        raise InputError(
            f"No pair of the dataset in {quoted(str(root))} that may be used is for training; divide it with "
            "`refgc dataset split`."
        )
    return found


def conditions_of(pictures: PairPictures, panel: Size | None) -> Diptych:
    """The conditions of a pair, as they are at inference.

    Args:
        pictures: of the pair.
        panel: (width, height) of each panel; None fits the HRGT.
    """
    size = panel_size(pictures.hrgt.size, panel)
    return build(pictures.hrri, pictures.hrri_mask, pictures.hrgt, pictures.hrgt_mask, panel=size)


class DiptychWork:
    """Writes latents and masks of diptychs."""

    def __init__(self, base: Path, settings: GeneratorDataSettings) -> None:
        """Loads the VAE onto the device of this worker."""
        self._encode = Encoder(base, FLUX)
        self._settings = settings

    def __call__(self, job: Job) -> None:
        """Builds the conditions, encodes them and the finished diptych, and writes the file.

        The mode of the VAE's distribution stands for the sample of it that the pipeline draws at inference: the two
        differ far less than neighbouring levels of the picture.

        Raises:
            InputError: a picture is missing or damaged.
            OSError: the disk is full.
        """
        assert isinstance(job.of, Pair), "a pair"
        try:
            pictures = load_pictures(Path(self._settings.dataset), job.of)
            diptych = conditions_of(pictures, self._settings.panel_size)
        except InputError as error:
            raise InputError(f"The pair {quoted(job.of.id)} cannot be used: {error}") from error
        truth = self._encode(finished(diptych, pictures.hrgt))
        size = (truth.shape[1], truth.shape[2])
        width = diptych.panels.size[0]
        alpha = np.asarray(diptych.mask[:, width:], np.float32) / np.float32(255)
        write_tensors(
            job.file,
            {
                "ground_truth": truth,
                "condition": self._encode(diptych.picture),
                "edges": self._encode(diptych.edges[..., None].repeat(3, axis=2)),
                "known": known_latents(diptych.mask, size).to(torch.float16),
                "object_mask": at_latents(alpha, truth[..., : size[1] // 2]),
            },
        )
