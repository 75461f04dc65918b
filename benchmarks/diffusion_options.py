"""What the diffusion benchmark measures: one row of its table for each option, in the order of their turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.random_model import QUANTIZATIONS, Architecture
from benchmarks.step_caches import STEP_CACHES, StepCache
from refgc.flux.quantization import Quantized
from refgc.flux.speed import SpeedOptions

# Of the first-block cache. Which steps are skipped is decided here, because random weights do not tell: a third of
# them, which is an assumption.
THRESHOLD, SKIPS = 0.1, (False, False, True)
SKIPPED = (
    f"{sum(SKIPS)} of {len(SKIPS)} steps skipped by a fixed pattern; how many are with trained weights is not measured"
)
# What can serve FLUX's attention; left out are those for batches of unequal lengths or other makers' devices, and
# those that write the whole attention matrix down.
ATTENTION_BACKENDS = (
    "_native_cudnn",
    "_native_flash",
    "_native_efficient",
    "flash",
    "flash_hub",
    "flash_4_hub",
    "_flash_3",
    "_flash_3_hub",
    "xformers",
    "sage",
    "sage_hub",
    "_sage_qk_int8_pv_fp8_cuda_sm90",
)
# By so much must attention kernels beat the usual ones to be taken for the options together.
NOISE_MARGIN = 1.01
# Rows of diffusers' own pipeline, by the number of pictures that it is given.
STOCK = {1: "stock pipeline, one picture", 2: "stock pipeline, two pictures"}


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    Attributes:
        name: for people.
        speed: what is switched on.
        experts: whether the model has FreqMoLE.
        whole_picture: whether a whole picture is painted too.
        one_size: whether compiled graphs are for one size each.
        step_cache: one that `SpeedOptions` does not have.
        stock: how many pictures diffusers' own pipeline is given; None is our pipeline's model.
    """

    name: str
    speed: SpeedOptions
    experts: bool = False
    whole_picture: bool = True
    one_size: bool = False
    step_cache: StepCache | None = None
    stock: int | None = None

    @property
    def skips(self) -> tuple[bool, ...]:
        """Which steps the first-block cache skips."""
        return SKIPS if self.speed.step_cache else ()

    @property
    def lossless(self) -> bool:
        """Whether nothing is approximated, given an adapter that was trained with the reference cache."""
        quantized = self.speed.quantization is not None or "sage" in (self.speed.attention_backend or "")
        return not (quantized or self.speed.step_cache or self.step_cache or self.speed.compact_generated)

    @property
    def countable(self) -> bool:
        """Whether working memory is counted beside what is measured: nothing else than the tokens is changed."""
        only_tokens = self.speed == SpeedOptions(
            reference_cache=self.speed.reference_cache, compact_generated=self.speed.compact_generated
        )
        return only_tokens and not self.experts and self.step_cache is None and self.stock is None


def planned(architecture: Architecture, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Callable[[], Option]]:
    """All options by name, those with a goal first.

    Args:
        architecture: of the model.
        rows: what was found so far. What goes into the two options that combine others is chosen among those others
            when their turn comes.
    """
    attention = {f"attention {one}": one for one in ATTENTION_BACKENDS}
    quantization = {f"quantisation {one}": one for one in QUANTIZATIONS}

    # The step cache of diffusers does not work with FLUX.2; its own row says so.
    skips = architecture == "kontext"

    def speedup(name: str) -> float:
        """How many times faster a step of this option is than the yardstick's; 0 where it was not measured."""
        return rows.get(name, {}).get("speedup_step") or 0.0

    def lossless() -> SpeedOptions:
        faster = {one: speedup(name) for name, one in attention.items() if "sage" not in one}
        best = max(faster, key=lambda one: faster[one])
        chosen = best if faster[best] > NOISE_MARGIN else None
        return SpeedOptions(reference_cache=True, compile=True, attention_backend=chosen)

    def fastest_quantization() -> Quantized | None:
        """The fastest as it is compiled, since everything together is; uncompiled where none was measured so."""
        for compiled in (" compiled", ""):
            faster = {kind: speedup(name + compiled) for name, kind in quantization.items()}
            best = max(faster, key=lambda kind: faster[kind])
            if faster[best]:
                return best
        return None

    def everything() -> SpeedOptions:
        step_cache = THRESHOLD if skips else None
        lossy = {"compact_generated": True, "step_cache": step_cache, "quantization": fastest_quantization()}
        return lossless().model_copy(update=lossy)

    options: dict[str, Callable[[], Option]] = {}

    def add(name: str, speed: Callable[[], SpeedOptions] | SpeedOptions, **more: Any) -> None:
        options[name] = lambda: Option(name, speed() if callable(speed) else speed, **more)

    add("FreqMoLE fused", SpeedOptions(), experts=True)
    for pictures, name in STOCK.items():
        add(name, SpeedOptions(), stock=pictures)
    add("reference cache", SpeedOptions(reference_cache=True))
    for name, backend in attention.items():
        add(name, SpeedOptions(attention_backend=backend), whole_picture=False)
    add("all lossless", lossless, experts=True)
    for name, kind in quantization.items():
        add(name, SpeedOptions(quantization=kind))
        # Kernels for quantised weights are written for torch.compile; without it they cost time instead of saving it.
        add(f"{name} compiled", SpeedOptions(quantization=kind, compile=True))
    add("everything", everything, experts=True)
    add("compile", SpeedOptions(compile=True))
    add("compile dynamic=False", SpeedOptions(compile=True), one_size=True)
    # The pass that fills the cache and the steps are of two sizes.
    add("all lossless dynamic=False", lossless, experts=True, one_size=True)
    add("FreqMoLE unfused", SpeedOptions(fuse=False), experts=True)
    add("first-block cache", SpeedOptions(step_cache=THRESHOLD))
    for kind_of_cache in STEP_CACHES:
        add(kind_of_cache, SpeedOptions(), step_cache=kind_of_cache)
    add("compact IMG2", SpeedOptions(compact_generated=True))
    return options
