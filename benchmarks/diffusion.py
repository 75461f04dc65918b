"""Measures the diffusion model: seconds a step and a picture, and memory, for each speed option and for all together.

usage: python -m benchmarks.diffusion [--base kontext|klein] [--output FILE] [--minutes M] [--only OPTION ...] ...

The yardstick is measured in the same run, in turn with each option: a plain FLUX.1-Kontext (or FLUX.2 [klein]) over the
same tokens, text, noise and both pictures together, without FreqMoLE. All weights are random and nothing is
downloaded. On a GPU with room for two copies the model has its full size; elsewhere it is scaled down, and the output
says how.
"""

import argparse
import dataclasses
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants as hub
from rich.console import Console

from benchmarks.diffusion_report import Findings, count_full_size, reason_of, report, show
from benchmarks.random_model import (
    FULLS,
    QUANTIZATIONS,
    SMALLS,
    Architecture,
    Inputs,
    Painter,
    Sizes,
    build,
    cache_bytes,
    copy_of,
    draw_inputs,
    inject_random,
    weight_bytes,
)
from refgc.flux.acceleration import apply
from refgc.flux.speed import SpeedOptions
from refgc.imaging.files import write_whole
from refgc.model.loading import AnyRefGCPipeline

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
# The yardstick paints its picture anew beside that of each option where it takes less than these seconds.
CHEAP_PICTURE = 10.0
# Bytes that two full-size models with a reference cache take on a GPU, and what is needed besides.
TWO_MODELS: dict[Architecture, float] = {"kontext": 54e9, "klein": 20e9}
BESIDES = 8e9


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    Attributes:
        name: for people.
        speed: what is switched on.
        experts: whether the model has FreqMoLE.
        whole_picture: whether a whole picture is painted too.
    """

    name: str
    speed: SpeedOptions
    experts: bool = False
    whole_picture: bool = True

    @property
    def skips(self) -> tuple[bool, ...]:
        """Which steps the first-block cache skips."""
        return SKIPS if self.speed.step_cache else ()

    @property
    def lossless(self) -> bool:
        """Whether nothing is approximated, given an adapter that was trained with the reference cache."""
        quantized = self.speed.quantization is not None or "sage" in (self.speed.attention_backend or "")
        return not (quantized or self.speed.step_cache or self.speed.compact_generated)


@dataclass(slots=True)
class Run:
    """One run of the benchmark.

    Attributes:
        sizes: of the model and its work.
        device: where it is measured.
        rounds: counted rounds of each option.
        plain: the yardstick.
        inputs: what all of them paint.
        rows: what was found, by name of option.
    """

    sizes: Sizes
    device: torch.device
    rounds: int
    plain: AnyRefGCPipeline
    inputs: Inputs
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def speedup(self, name: str) -> float | None:
        """How many times faster a step of this option is than the yardstick's; None where it was not measured."""
        return self.rows.get(name, {}).get("speedup_step")


def begin(sizes: Sizes, device: torch.device, rounds: int, dtype: torch.dtype = torch.bfloat16) -> Run:
    """The yardstick's model, and what all are given."""
    return Run(sizes, device, rounds, build(sizes, device, dtype), draw_inputs(sizes, device, dtype))


def planned(run: Run) -> dict[str, Callable[[], Option]]:
    """All options by name, those with a goal first.

    What goes into the two that combine others is chosen among those others when their turn comes.
    """
    attention = {f"attention {one}": one for one in ATTENTION_BACKENDS}
    quantization = {f"quantisation {one}": one for one in QUANTIZATIONS}

    # The step cache of diffusers does not work with FLUX.2.
    skips = run.sizes.architecture == "kontext"

    def lossless() -> SpeedOptions:
        faster = {one: run.speedup(name) or 0.0 for name, one in attention.items() if "sage" not in one}
        best = max(faster, key=lambda one: faster[one])
        chosen = best if faster[best] > NOISE_MARGIN else None
        return SpeedOptions(reference_cache=True, compile=True, attention_backend=chosen)

    def everything() -> SpeedOptions:
        kind = next((one for name, one in quantization.items() if run.speedup(name)), None)
        lossy = {"compact_generated": True, "step_cache": THRESHOLD if skips else None, "quantization": kind}
        return lossless().model_copy(update=lossy)

    options: dict[str, Callable[[], Option]] = {}

    def add(name: str, speed: Callable[[], SpeedOptions] | SpeedOptions, **more: bool) -> None:
        options[name] = lambda: Option(name, speed() if callable(speed) else speed, **more)

    add("FreqMoLE fused", SpeedOptions(), experts=True)
    add("reference cache", SpeedOptions(reference_cache=True))
    for name, backend in attention.items():
        add(name, SpeedOptions(attention_backend=backend), whole_picture=False)
    add("all lossless", lossless, experts=True)
    for name, kind in quantization.items():
        add(name, SpeedOptions(quantization=kind))
    add("everything", everything, experts=True)
    add("FreqMoLE unfused", SpeedOptions(fuse=False), experts=True)
    if skips:
        add("first-block cache", SpeedOptions(step_cache=THRESHOLD))
    add("compact IMG2", SpeedOptions(compact_generated=True))
    add("compile", SpeedOptions(compile=True))
    # Kernels for quantised weights are written for torch.compile; without it they cost time instead of saving it.
    for name, kind in quantization.items():
        add(f"{name} compiled", SpeedOptions(quantization=kind, compile=True))
    return options


def run_all(run: Run, minutes: float, only: list[str] | None, save: Callable[[Findings], None]) -> Findings:
    """Measure the yardstick and then option after option, until the time is spent; `save` is given all after each."""
    started = time.perf_counter()
    counted = count_full_size(run.device, run.sizes.architecture)
    run.rows["plain"] = measure_plain(run)
    waiting = {name: choose for name, choose in planned(run).items() if only is None or name in only}

    def found() -> Findings:
        return report(run.sizes, run.device, run.rounds, run.rows, list(waiting), counted)

    while waiting and time.perf_counter() - started < 60 * minutes:
        save(found())
        name = next(iter(waiting))
        run.rows[name] = attempt(run, waiting.pop(name)())
    save(found())
    return found()


def attempt(run: Run, option: Option) -> dict[str, Any]:
    """The option's row, or one with the reason why there is none; memory is free again afterwards."""
    try:
        return measure(run, option)
    except Exception as error:  # whatever one option fails of, the others are still measured
        return {"option": option.name, "reason": reason_of(error)}
    finally:
        torch._dynamo.reset()
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()


def measure_plain(run: Run) -> dict[str, Any]:
    """The yardstick alone."""
    painter = plain_painter(run)
    warm_up(painter, 1)
    seconds = [timed(run.device, painter, 1) for _ in range(run.rounds)]
    row = {"option": "plain", "lossless": True, "seconds_step": statistics.median(seconds), "speedup_step": 1.0}
    return row | measure_picture(run, painter) | measure_memory(run, painter)


def measure(run: Run, option: Option) -> dict[str, Any]:
    """One option, in turn with the yardstick.

    Raises:
        Exception: whatever says that the option cannot be had here.
    """
    started = time.perf_counter()
    plain, painter = plain_painter(run), painter_for(run, option)
    steps = len(option.skips) or 1
    plain.encode()
    warm_up(painter, steps)
    prepared = time.perf_counter() - started
    taken: dict[str, list[float]] = {"plain": [], "option": []}
    for number in range(run.rounds):
        turn = [("plain", plain), ("option", painter)]
        # Now the one first and now the other, so that neither always follows the other's heat.
        for name, one in turn if number % 2 else reversed(turn):
            taken[name].append(timed(run.device, one, steps))
    speedups = sorted(yardstick / own for yardstick, own in zip(taken["plain"], taken["option"], strict=True))
    row: dict[str, Any] = {
        "option": option.name,
        "lossless": option.lossless,
        "switches": str(option.speed),
        "seconds_step": statistics.median(taken["option"]),
        "seconds_step_plain": statistics.median(taken["plain"]),
        "speedup_step": statistics.median(speedups),
        "speedup_step_least": speedups[0],
        "speedup_step_most": speedups[-1],
        "seconds_to_prepare": prepared,
    }
    if option.skips:
        row["note"] = SKIPPED
    if option.whole_picture:
        row |= measure_picture(run, painter)
        yardstick = run.rows["plain"]["seconds_picture"]
        if yardstick < CHEAP_PICTURE:
            yardstick = measure_picture(run, plain)["seconds_picture"]
        row["speedup_picture"] = yardstick / row["seconds_picture"]
    plain.forget()
    return row | measure_memory(run, painter)


def plain_painter(run: Run) -> Painter:
    return Painter(run.plain.transformer, run.plain.vae, run.inputs, run.sizes)


def painter_for(run: Run, option: Option) -> Painter:
    """A copy of the plain model with an option switched on, as the engine switches it on."""
    pipeline = copy_of(run.plain)
    if option.experts:
        pipeline.freqmole = inject_random(pipeline, run.sizes.rank)
    apply(pipeline, option.speed, run.device)
    return Painter(
        pipeline.transformer,
        pipeline.vae,
        run.inputs,
        run.sizes,
        cached=bool(option.speed.reference_cache),
        compact=bool(option.speed.compact_generated),
        skips=option.skips,
    )


def warm_up(painter: Painter, steps: int) -> None:
    """Everything once, and steps twice: what compiles, compiles anew when it meets a second shape."""
    painter.encode()
    painter.steps(2 * steps)
    painter.decode(painter.inputs.noise)


def timed(device: torch.device, painter: Painter, steps: int) -> float:
    """Seconds a step takes."""
    return clocked(device, lambda: painter.steps(steps)) / steps


def clocked(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds until a GPU is done; on a CPU those that it worked, which others at work on it do not lengthen."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    _finish(device)
    started = clock()
    work()
    _finish(device)
    return clock() - started


def measure_picture(run: Run, painter: Painter) -> dict[str, Any]:
    """One whole picture: both pictures encoded, the cache filled, all steps, decoded."""
    pictures: list[torch.Tensor] = []
    seconds = clocked(run.device, lambda: pictures.append(painter.paint()))
    return {"seconds_picture": seconds, "finite": bool(pictures[0].isfinite().all())}


def measure_memory(run: Run, painter: Painter) -> dict[str, Any]:
    """Gigabytes of the weights and of the reference cache; on a GPU also the peak, without the yardstick's weights.

    A CPU's allocator keeps no such account.
    """
    weights, cache = weight_bytes(painter.transformer, painter.vae), cache_bytes(painter.transformer)
    memory = {"weight_gigabytes": weights / 1e9, "cache_gigabytes": cache / 1e9}
    painter.forget()
    if run.device.type == "cuda":
        _finish(run.device)
        before = torch.cuda.memory_allocated(run.device)
        torch.cuda.reset_peak_memory_stats(run.device)
        warm_up(painter, 1)
        _finish(run.device)
        memory["peak_gigabytes"] = (weights + torch.cuda.max_memory_allocated(run.device) - before) / 1e9
        painter.forget()
    return memory


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose_sizes(device: torch.device, asked: argparse.Namespace) -> Sizes:
    """The full size where it fits twice, as many blocks of it as fit on a smaller GPU, a small model on a CPU.

    What was asked for comes first.
    """
    sizes, full = SMALLS[asked.base], FULLS[asked.base]
    singles = full.single_blocks // full.double_blocks
    if device.type == "cuda":
        share = min(1.0, (torch.cuda.mem_get_info(device)[0] - BESIDES) / TWO_MODELS[asked.base])
        doubles = max(1, int(share * full.double_blocks))
        sizes = dataclasses.replace(full, double_blocks=doubles, single_blocks=singles * doubles)
    given = {one.name: getattr(asked, one.name, None) for one in dataclasses.fields(Sizes)}
    if asked.blocks:
        given |= {"double_blocks": asked.blocks, "single_blocks": singles * asked.blocks}
    return dataclasses.replace(sizes, **{name: value for name, value in given.items() if value})


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=tuple(FULLS), default="kontext", help="the architecture")
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file, anew after each option")
    parser.add_argument("--minutes", type=float, default=8.0, help="after these no further option is started")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each option and the yardstick")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="else a GPU where there is one")
    parser.add_argument("--only", nargs="+", metavar="OPTION", help="measure these options alone, by their names")
    parser.add_argument(
        "--blocks",
        type=int,
        help="double-stream blocks; single-stream ones go with them",
    )
    for name in ("heads", "text_tokens", "height", "width", "steps", "rank", "vae_channels"):
        full = getattr(FULLS["kontext"], name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"instead of {full} at full size")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here")
    device = torch.device(asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sizes = choose_sizes(device, asked)
    if sizes.height % 32 or sizes.width % 32:
        parser.error("height and width have to be multiples of 32")
    # Attention kernels of the Hub are measured where they are there already.
    hub.HF_HUB_OFFLINE = True
    torch.manual_seed(0)
    if device.type != "cuda":
        # Threads that wait for each other would be counted as work.
        torch.set_num_threads(1)
    run = begin(sizes, device, asked.rounds)
    if asked.only and (unknown := set(asked.only) - set(planned(run))):
        parser.error(f"there is no option {unknown.pop()!r}; there are: {', '.join(planned(run))}")

    def save(found: Findings) -> None:
        if asked.output:
            write_whole(asked.output, (json.dumps(found, indent=2) + "\n").encode())

    show(Console(width=160), run_all(run, asked.minutes, asked.only, save))


if __name__ == "__main__":
    main()
