"""Validation: pairs that are not learnt from, refined by the pipeline of inference, drawn and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from refgc.flux.prompts import PromptEmbeddings
from refgc.flux.reading import reading
from refgc.imaging.arrays import Bytes, bicubic
from refgc.imaging.image import Image
from refgc.metrics.fidelity import Psnr, Ssim
from refgc.metrics.registry import score
from refgc.metrics.sample import Sample as Compared
from refgc.model.freqmole import FreqMoLE
from refgc.model.loading import pipeline_class
from refgc.model.settings import DenoisingSettings
from refgc.training.cache_files import Cache, read_prompt
from refgc.training.processes import gathered
from refgc.training.records import Records
from refgc.training.samples import Pictures, Sample, load_pictures
from refgc.training.settings import RefinerRun


@torch.no_grad()
def validate(
    freqmole: FreqMoLE,
    module: nn.Module,
    settings: RefinerRun,
    base: Path,
    cache: Cache[Sample],
    step: int,
    records: Records,
) -> dict[str, Any]:
    """Refine the pairs of the cache's validation part, and keep LRGI, HRRI, result and HRGT side by side.

    The VAE is read from the disk for it, and let go of afterwards. Of several processes all do the same, since sharded
    blocks are gathered by all.

    Returns:
        Means of PSNR in dB and of SSIM (Wang et al., 2004) against the HRGT, over the whole picture.

    Raises:
        InputError: a picture or a file of the cache is missing or damaged.
        EngineError: the VAE cannot be loaded.
    """
    scores: dict[str, list[float]] = {"psnr": [], "ssim": []}
    with _pipeline(freqmole, module, base) as pipeline:
        for sample, cached in cache.validation:
            pictures = load_pictures(Path(settings.data.dataset), sample)
            prompt = read_prompt(cached.prompt)
            how = _how(settings, prompt, read_prompt(cache.empty_prompt), pipeline)
            result = pipeline.refine(pictures.request, how).picture
            truth = bicubic(pictures.truth.pixels, (result.shape[1], result.shape[0]))
            for name, score in scores_of(result, truth).items():
                scores[name].append(score)
            records.picture(f"step_{step:08d}/{sample.id}", side_by_side(pictures, result, truth), step)
    return {"validation": {name: float(np.mean(values)) for name, values in scores.items()}}


def scores_of(result: Bytes, truth: Bytes) -> dict[str, float]:
    """PSNR in dB, at most 100, and SSIM with the Gaussian window of its paper; both of 8-bit RGB of one size."""
    return score((Psnr(), Ssim()), Compared(Image(result), Image(truth)))


def side_by_side(pictures: Pictures, result: Bytes, truth: Bytes) -> Bytes:
    """LRGI, HRRI, result and HRGT in a row, each as high as the result."""
    request = pictures.request
    return in_a_row((request.generated.pixels, request.reference.pixels, result, truth), height=result.shape[0])


def in_a_row(pictures: Sequence[Bytes], *, height: int) -> Bytes:
    """Pictures beside each other, each enlarged or shrunk to a height in pixels by bicubic interpolation."""
    sizes = [(max(1, round(one.shape[1] * height / one.shape[0])), height) for one in pictures]
    return np.concatenate([bicubic(np.asarray(one), size) for one, size in zip(pictures, sizes, strict=True)], axis=1)


@contextmanager
def _pipeline(freqmole: FreqMoLE, module: nn.Module, base: Path) -> Iterator[Any]:
    """The pipeline of inference around the transformer in training, with its VAE and without text encoders."""
    transformer: Any = freqmole.transformer
    made_of = pipeline_class(base)
    with reading(base):
        pipeline = made_of.from_pretrained(
            base, transformer=transformer, dtype=transformer.dtype, **dict.fromkeys(made_of.backbone.text_parts)
        )
    pipeline.freqmole = freqmole
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(transformer.device)
    transformer.eval()
    try:
        with gathered(module):
            yield pipeline
    finally:
        transformer.train()
        del pipeline
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _how(settings: RefinerRun, prompt: PromptEmbeddings, empty: PromptEmbeddings, pipeline: Any) -> DenoisingSettings:
    data = settings.data
    width, height = data.working_size or (None, None)
    is_guided = pipeline.backbone.schedule(pipeline).passes > 1
    return DenoisingSettings(
        prompt_embeds=prompt.tokens,
        pooled_prompt_embeds=prompt.pooled,
        negative_prompt_embeds=empty.tokens if is_guided else None,
        width=width,
        height=height,
        num_inference_steps=settings.validation.steps,
    )
