"""diffusers' caches from step to step that `SpeedOptions` does not offer, with the settings that diffusers gives them.

Which steps they leave out does not depend on what the model computes, so that random weights tell it as trained ones
do. Both were compared with the uncached model, with FreqMoLE and with the reference cache: the steps that they do
compute are the same.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from diffusers.hooks import MagCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS

from benchmarks.random_model import FULLS, Architecture

StepCache = Literal["MagCache", "TaylorSeer", "TaylorSeer lite"]
STEP_CACHES: tuple[StepCache, ...] = get_args(StepCache)


def config_of(kind: StepCache, architecture: Architecture) -> Any:
    """For the transformer's `enable_cache`, over the steps of the full size."""
    if kind != "MagCache":
        return TaylorSeerCacheConfig(use_lite_mode=kind == "TaylorSeer lite")
    steps = FULLS[architecture].steps
    if architecture == "kontext":
        return MagCacheConfig(num_inference_steps=steps, mag_ratios=FLUX_MAG_RATIOS)
    # With ratios of 1 nothing but this limit would end a row of skipped steps.
    return MagCacheConfig(num_inference_steps=steps, mag_ratios=[1.0] * steps, max_skip_steps=1)


def note_on(kind: StepCache, architecture: Architecture, skipped: int) -> str:
    """What a row says of it.

    Args:
        kind: of the cache.
        architecture: of the model.
        skipped: counted steps in which the blocks' attention was not computed.
    """
    counted = f"{skipped} of {FULLS[architecture].steps} steps skipped"
    if kind == "TaylorSeer":
        return f"in {skipped} of {FULLS[architecture].steps} steps the attention is extrapolated, the rest computed"
    if kind == "TaylorSeer lite":
        return f"{counted}, the velocity extrapolated"
    if architecture == "kontext":
        return f"{counted} by the ratios that diffusers has of FLUX.1-dev; it has none of Kontext"
    return f"{counted} by ratios of 1, an assumption: diffusers has none of FLUX.2"
