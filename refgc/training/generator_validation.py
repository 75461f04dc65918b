"""Validation of DipRefGC: LRGIs of pairs that are not learnt from, drawn by the pipeline of inference and scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from refgc.dataset.manifest import Pair
from refgc.dataset.pose import outline_overlap
from refgc.dataset.triplets import load_pictures
from refgc.diptych.comparison import fidelity
from refgc.diptych.conditions import finished, right_panel
from refgc.diptych.pipeline import DipRefGCPipeline
from refgc.diptych.settings import DrawingSettings
from refgc.diptych.sources import NAMES
from refgc.diptych.training_step import DiptychStep
from refgc.errors import InputError
from refgc.flux.reading import reading
from refgc.imaging.arrays import Bytes, blur, shrink
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import Segmenter, choose_segmenter
from refgc.training.cache_files import Cache, read_prompt
from refgc.training.generator_cache import FLUX, conditions_of
from refgc.training.order import generator_for
from refgc.training.processes import gathered
from refgc.training.records import Records
from refgc.training.settings import GeneratorRun
from refgc.training.validation import in_a_row

# Standard deviation in pixels of the Gaussian below which frequencies count as low. Chosen by hand.
HIGH_FREQUENCY_SIGMA = 2.0


@torch.no_grad()
def validate(
    step: DiptychStep,
    module: nn.Module,
    settings: GeneratorRun,
    base: Path,
    cache: Cache[Pair],
    number: int,
    records: Records,
) -> dict[str, Any]:
    """Draw LRGIs of the cache's validation part, and keep HRRI, LRGI and HRGT side by side.

    The VAE is read from the disk for it, and let go of afterwards. Of several processes all do the same, since sharded
    blocks are gathered by all.

    Args:
        step: the networks.
        module: the same, wrapped.
        settings: of the run.
        base: folder of the whole pipeline.
        cache: of the run.
        number: of steps that were taken.
        records: of the run.

    Returns:
        Means of the scores of `quality`.

    Raises:
        InputError: a picture or a file of the cache is missing or damaged.
        EngineError: the VAE cannot be loaded.
    """
    scores: defaultdict[str, list[float]] = defaultdict(list)
    segmenter = choose_segmenter()
    with _pipeline(step, module, base) as pipeline:
        for pair, cached in cache.validation:
            pictures = load_pictures(Path(settings.data.dataset), pair)
            diptych = conditions_of(pictures, settings.data.panel_size)
            how = DrawingSettings(
                num_inference_steps=settings.validation.steps,
                guidance_scale=settings.model.guidance,
                generator=generator_for(settings.run.seed, 0, f"{pair.id}/validation"),
            )
            prompt = read_prompt(cached.prompt).to(step.transformer.device, step.transformer.dtype)
            drawn = np.ascontiguousarray(pipeline.draw(diptych, prompt, how).generated)
            truth = np.ascontiguousarray(right_panel(finished(diptych, pictures.hrgt), diptych.panels))
            for name, score in quality(drawn, truth, pictures.hrgt_mask, pair.object_name, segmenter).items():
                scores[name].append(score)
            row = in_a_row((pictures.hrri.pixels, drawn, truth), height=drawn.shape[0])
            records.picture(f"step_{number:08d}/{pair.id}", row, number)
    return {"validation": {name: float(np.mean(values)) for name, values in scores.items()}}


def quality(drawn: Bytes, truth: Bytes, mask: Mask, object_name: str, segmenter: Segmenter) -> dict[str, float]:
    """Whether an LRGI shows the object in the HRGT's pose, and how strong its artifacts are.

    An LRGI is to have artifacts: the figures inside the object tell how strong they are, not how good it is.

    Args:
        drawn: the LRGI, uint8 RGB.
        truth: the HRGT at its size.
        mask: the object in the HRGT, of any size.
        object_name: in a few words.
        segmenter: finds the object in the LRGI.

    Returns:
        "outline_overlap" in [0, 1], as `refgc dataset triplets` measures it, 0 where the object is not found; and
        inside the object "psnr" in dB, "ssim", and "high_frequencies", the LRGI's energy of high frequencies over the
        HRGT's. Where the object is smaller than a pixel of the LRGI there are no figures inside of it.
    """
    image = Image(drawn)
    try:
        overlap = outline_overlap(image, mask, object_name, segmenter)
    except InputError:
        overlap = 0.0
    small = Mask(np.clip(shrink(mask.values, image.size), 0.0, 1.0))
    inside = small.values >= MARKED
    if not inside.any():
        return {"outline_overlap": overlap}
    near = fidelity(Image(truth), image, small)
    own, true = (_high_frequency_energy(one, inside) for one in (drawn, truth))
    return {
        "outline_overlap": overlap,
        "psnr": near.psnr_inside,
        "ssim": near.ssim_inside,
        # A truth without any detail has no ratio; half a level of noise stands in for it.
        "high_frequencies": own / max(true, 0.25),
    }


def _high_frequency_energy(picture: Bytes, inside: Any) -> float:
    """Mean square, in levels, of what a Gaussian takes away."""
    levels = picture.astype(np.float32)
    return float(np.square(levels - blur(levels, HIGH_FREQUENCY_SIGMA))[inside].mean())


@contextmanager
def _pipeline(step: DiptychStep, module: nn.Module, base: Path) -> Iterator[DipRefGCPipeline]:
    """The pipeline of inference around the networks in training, with its VAE and without text encoders."""
    nets = step.controlnets
    with reading(base):
        pipeline = DipRefGCPipeline.from_pretrained(
            base,
            nets.inpainting,
            nets.canny,
            transformer=step.transformer,
            dtype=step.transformer.dtype,
            **dict.fromkeys(FLUX.text_parts),
        )
    pipeline.trained = frozenset(NAMES)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(step.transformer.device)
    step.eval()
    try:
        with gathered(module):
            yield pipeline
    finally:
        step.train()
        del pipeline
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
