"""Measures the diffusion model: seconds a step and a picture, and memory, for each speed option and for all together.

usage: python -m benchmarks.diffusion [--base kontext|klein] [--output FILE] [--resume] [--minutes M] ...

The yardstick is measured in the same run, in turn with each option: a plain FLUX.1-Kontext (or FLUX.2 [klein]) over the
same tokens, text, noise and both pictures together, without FreqMoLE. What somebody with diffusers alone runs has rows
of its own, through `__call__` of FluxKontextPipeline or Flux2KleinPipeline: "stock pipeline, two pictures", which are
the yardstick's tokens, and "stock pipeline, one picture", which are fewer and tell less. The tables compare each option
with both.

All weights are random and nothing is downloaded. On a GPU with room for two copies the model has its full size;
elsewhere it is scaled down, and the output says how.
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

from benchmarks.diffusion_options import SKIPPED, Option, planned
from benchmarks.diffusion_report import Findings, count_full_size, reason_of, report, show
from benchmarks.random_model import (
    FULLS,
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
from benchmarks.step_caches import config_of, note_on
from benchmarks.stock import StockPainter, stock_painter
from benchmarks.working_memory import count_working_bytes, measured_peak
from refgc.flux.acceleration import apply, compile_blocks
from refgc.imaging.files import write_whole
from refgc.model.loading import AnyRefGCPipeline

# Steps that all rounds of an option have together, about, where one round is a whole schedule.
LEAST_STEPS = 30
# The yardstick paints its picture anew beside that of each option where it takes less than these seconds.
CHEAP_PICTURE = 10.0
# Bytes that two full-size models with a reference cache take on a GPU, and what is needed besides.
TWO_MODELS: dict[Architecture, float] = {"kontext": 54e9, "klein": 20e9}
BESIDES = 8e9
AnyPainter = Painter | StockPainter


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

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.plain.transformer.dtype
        return dtype


def begin(sizes: Sizes, device: torch.device, rounds: int, dtype: torch.dtype = torch.bfloat16) -> Run:
    """The yardstick's model, and what all are given."""
    return Run(sizes, device, rounds, build(sizes, device, dtype), draw_inputs(sizes, device, dtype))


def run_all(run: Run, minutes: float, only: list[str] | None, save: Callable[[Findings], None]) -> Findings:
    """Measure the yardstick and then option after option, until the time is spent; `save` is given all after each."""
    started = time.perf_counter()
    counted = count_full_size(run.device, run.sizes.architecture)
    if "plain" not in run.rows:
        run.rows["plain"] = measure_plain(run)
    options = planned(run.sizes.architecture, run.rows)
    asked = options if only is None else only
    waiting = {name: choose for name, choose in options.items() if name in asked and name not in run.rows}

    def found() -> Findings:
        return report(run.sizes, run.device, run.rounds, run.rows, list(waiting), counted, run.dtype)

    while waiting and time.perf_counter() - started < 60 * minutes:
        save(found())
        name = next(iter(waiting))
        run.rows[name] = attempt(run, waiting.pop(name)())
    save(found())
    return found()


def resume(run: Run, found: Findings) -> bool:
    """Takes over the rows of an earlier run; false where that had another machine, size or number of rounds.

    Each option is compared with the yardstick in its own minutes, so that rows of two runs can stand side by side.
    """
    own = report(run.sizes, run.device, run.rounds, {}, [], {"resident": []}, run.dtype)
    if any(own[name] != found.get(name) for name in ("machine", "sizes", "rounds", "clock")):
        return False
    run.rows.update((row["option"], row) for row in found["options"])
    return True


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
    painter.warm_up(1)
    seconds = [timed(run.device, painter, 1) for _ in range(run.rounds)]
    row = {"option": "plain", "lossless": True, "seconds_step": statistics.median(seconds), "speedup_step": 1.0}
    return row | measure_picture(run, painter) | measure_memory(run, painter) | counted_memory(run, painter)


def measure(run: Run, option: Option) -> dict[str, Any]:
    """One option, in turn with the yardstick.

    Raises:
        Exception: whatever says that the option cannot be had here.
    """
    started = time.perf_counter()
    plain, painter = plain_painter(run), any_painter_for(run, option)
    steps, rounds, note = len(option.skips) or 1, run.rounds, SKIPPED if option.skips else None
    plain.encode()
    if option.step_cache is None or isinstance(painter, StockPainter):
        painter.warm_up(steps)
    else:
        # Its first and last steps are computed, so that only a whole schedule has the right share of skipped ones.
        steps = FULLS[run.sizes.architecture].steps
        rounds = min(rounds, max(1, LEAST_STEPS // steps))
        painter.warm_up(1)
        note = note_on(option.step_cache, run.sizes.architecture, skipped_steps(painter, steps))
    prepared = time.perf_counter() - started
    taken: dict[str, list[float]] = {"plain": [], "option": []}
    for number in range(rounds):
        turn: list[tuple[str, AnyPainter]] = [("plain", plain), ("option", painter)]
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
    if note is not None:
        row["note"] = note
    whole_schedule = option.step_cache is None or run.sizes.steps == steps
    if option.whole_picture and whole_schedule:
        row |= measure_picture(run, painter)
        yardstick = run.rows["plain"]["seconds_picture"]
        if yardstick < CHEAP_PICTURE:
            yardstick = measure_picture(run, plain)["seconds_picture"]
        row["speedup_picture"] = yardstick / row["seconds_picture"]
    plain.forget()
    row |= measure_memory(run, painter)
    if isinstance(painter, StockPainter):
        return row
    if option.countable:
        row |= counted_memory(run, painter)
    if option.speed.quantization and not option.speed.compile:
        painter.cached = True
        with_cache = measure_memory(run, painter)
        row["peak_gigabytes_with_cache"] = with_cache["peak_gigabytes"]
    return row


def any_painter_for(run: Run, option: Option) -> AnyPainter:
    """What an option is measured with: diffusers' pipeline, or the option's own painter."""
    if option.stock is None:
        return painter_for(run, option)
    return stock_painter(run.plain, run.inputs, run.sizes, option.stock)


def skipped_steps(painter: Painter, steps: int) -> int:
    """In how many of so many steps the first block's attention is not computed."""
    computed: list[int] = []
    attention = painter.transformer.transformer_blocks[0].attn
    handle = attention.to_q.register_forward_pre_hook(lambda *_: computed.append(1))
    painter.encode()
    computed.clear()
    painter.steps(steps)
    handle.remove()
    return steps - len(computed)


def plain_painter(run: Run) -> Painter:
    return Painter(run.plain.transformer, run.plain.vae, run.inputs, run.sizes)


def painter_for(run: Run, option: Option) -> Painter:
    """A copy of the plain model with an option switched on, as the engine switches it on."""
    pipeline = copy_of(run.plain)
    if option.experts:
        pipeline.freqmole = inject_random(pipeline, run.sizes.rank)
    speed = option.speed
    apply(pipeline, speed.model_copy(update={"compile": False}) if option.one_size else speed, run.device)
    if option.one_size:
        compile_blocks(pipeline.transformer, dynamic=False)
    if option.step_cache is not None:
        pipeline.transformer.enable_cache(config_of(option.step_cache, run.sizes.architecture))
    return Painter(
        pipeline.transformer,
        pipeline.vae,
        run.inputs,
        run.sizes,
        cached=bool(speed.reference_cache),
        compact=bool(speed.compact_generated),
        skips=option.skips,
    )


def timed(device: torch.device, painter: AnyPainter, steps: int) -> float:
    """Seconds a step takes."""
    return painter.seconds(steps, clock_of(device)) / steps


def clock_of(device: torch.device) -> Callable[[], float]:
    """Tells the time when a GPU is done; on a CPU the time it worked, which others at work on it do not lengthen."""
    if device.type != "cuda":
        return time.process_time

    def finished() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return finished


def measure_picture(run: Run, painter: AnyPainter) -> dict[str, Any]:
    """One whole picture: both pictures encoded, the cache filled, all steps, decoded."""
    clock = clock_of(run.device)
    started = clock()
    picture = painter.paint()
    seconds = clock() - started
    return {"seconds_picture": seconds, "finite": bool(picture.isfinite().all())}


def measure_memory(run: Run, painter: AnyPainter) -> dict[str, Any]:
    """Gigabytes of the weights and of the reference cache, and the peak of all that a picture takes.

    The yardstick's weights, which lie beside them, are left out.
    """
    weights = weight_bytes(painter.transformer, painter.vae)
    if isinstance(painter, Painter) and painter.cached:
        painter.encode()
    memory = {"weight_gigabytes": weights / 1e9, "cache_gigabytes": cache_bytes(painter.transformer) / 1e9}
    painter.forget()
    memory["peak_gigabytes"] = (weights + measured_peak(run.device, lambda: painter.warm_up(1))) / 1e9
    painter.forget()
    return memory


def counted_memory(run: Run, painter: Painter) -> dict[str, Any]:
    """The same peak, counted instead of measured."""
    weights = weight_bytes(painter.transformer, painter.vae)
    working = count_working_bytes(run.sizes, cached=painter.cached, compact=painter.compact)
    return {"peak_gigabytes_counted": (weights + working) / 1e9}


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
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of the weights; float32 for a processor without instructions for bfloat16",
    )
    parser.add_argument("--only", nargs="+", metavar="OPTION", help="measure these options alone, by their names")
    parser.add_argument(
        "--blocks",
        type=int,
        help="double-stream blocks; single-stream ones go with them",
    )
    parser.add_argument("--resume", action="store_true", help="measure what the file of --output does not have yet")
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
    run = begin(sizes, device, asked.rounds, getattr(torch, asked.dtype))
    if asked.only and (unknown := set(asked.only) - set(options := planned(asked.base, run.rows))):
        parser.error(f"there is no option {unknown.pop()!r}; there are: {', '.join(options)}")

    earlier = asked.output if asked.resume and asked.output and asked.output.is_file() else None
    if earlier is not None and not resume(run, json.loads(earlier.read_bytes())):
        parser.error(f"{earlier} is of another machine, size or number of rounds; give another --output")

    def save(found: Findings) -> None:
        if asked.output:
            write_whole(asked.output, (json.dumps(found, indent=2) + "\n").encode())

    show(Console(width=160), run_all(run, asked.minutes, asked.only, save))


if __name__ == "__main__":
    main()
