"""Does FreqMoLE help at toy scale? A small FLUX-shaped model is trained to edit, frozen, and then taught in five ways.

usage: python -m benchmarks.toy_training --dreambooth DIR [--into DIR] [--minutes N] [--json FILE] [--figure FILE]

The base has the architecture of FLUX.1-Kontext with two double-stream and four single-stream blocks, and works on 64x64
pixels, close around the object. In place of the VAE stand blocks of 2x2 pixels, with chroma at half the size. It is
trained on pictures of the products for fitting to sharpen the small picture, to copy the first one, and to bring the
first one's detail into the small one (benchmarks/toy_pictures.py). Then it is frozen. On its top are trained, with
equal parameters, steps and batches:

    LoRA                    FreqMoLE with every gate fixed at one half, which is a LoRA of twice the rank
    LoRA + L_f              the same, with the paper's frequency terms
    FreqMoLE                with its gates
    FreqMoLE + L_f          the same, with the frequency terms
    FreqMoLE + L_f + L_aal  and with the attention-alignment term

They are trained on triplets with simulated LRGIs of the products and subjects for fitting, and scored on the others:
PSNR and SSIM of the refined picture inside and outside the object. Each way is trained with three seeds. A cell
of the table is written when it is done; the run can be ended at any moment, and goes on with the missing cells.
It needs the extras diffusion and dataset, and the weights of learned matching (`refgc setup`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from benchmarks.toy_pictures import (
    SIDE,
    TASKS,
    Example,
    base_batch,
    make_triplets,
    read_examples,
    read_photos,
)
from refgc.diptych.comparison import fidelity
from refgc.imaging.arrays import Bytes, resized
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image, Mask
from refgc.imaging.journal import append_line, read_lines
from refgc.model.backbones.kontext import Kontext
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.initial_alpha import AlphaByDepth
from refgc.model.losses import flow_matching_loss, noised_latents
from refgc.model.objective import ObjectiveSettings
from refgc.model.parameter_groups import OptimiserSettings
from refgc.model.tokens import NOISE, pack, unpack
from refgc.model.training_step import TrainingBatch, TrainingStep
from refgc.model.velocity import predict_velocity

# Pixels a side of what stands for a latent, and the factor that gives such latents a variance of about one.
BLOCK, SCALE = 2, 2.0
CHANNELS = BLOCK**2 + 2 * (BLOCK // 2) ** 2
# Luma, Cb and Cr of RGB (ITU-R BT.601).
YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float64
)
LATENTS = SIDE // BLOCK
TEXT_TOKENS, TEXT_WIDTH = 2, 64
# The paper's prompt asks for what the base knows as its third task.
REFINE = TASKS.index("detail")
# All chosen by hand.
BASE_STEPS, BASE_BATCH, BASE_RATE = 2000, 8, 1.5e-3
STEPS, BATCH, RATE, GATE_RATE = 400, 6, 4e-3, 2e-2
RANK = 8
SEEDS = (0, 1, 2)
SAMPLING_STEPS = 4
# Mean and standard deviation of the logit of sigma. A result is drawn in few steps, and the first, at sigma 1, decides
# the most: more of what is trained on the base is at high sigma.
BASE_SIGMAS, SIGMAS = (0.4, 1.0), (1.0, 1.4)
SAVE_EVERY = 100
BACKBONE = Kontext()
HALF = AlphaByDepth(early=0.5, late=0.5)
NO_FREQUENCIES = {"low_frequency": 0.0, "high_frequency": 0.0}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to teach the frozen base.

    Attributes:
        gates: whether gates are learned, from the paper's prior; else each is one half for good.
        objective: weights that differ from the paper's objective.
    """

    gates: bool
    objective: Mapping[str, float] = field(default_factory=dict)


WAYS = {
    "LoRA": Way(False, {**NO_FREQUENCIES, "attention_alignment": 0.0}),
    "LoRA + L_f": Way(False, {"attention_alignment": 0.0}),
    "FreqMoLE": Way(True, {**NO_FREQUENCIES, "attention_alignment": 0.0}),
    "FreqMoLE + L_f": Way(True, {"attention_alignment": 0.0}),
    "FreqMoLE + L_f + L_aal": Way(True),
}


def make_base(seed: int = 0) -> FluxTransformer2DModel:
    """The toy transformer, 1.3 million parameters, not trained."""
    torch.manual_seed(seed)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * CHANNELS,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=3,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )


def latents_of(pictures: Bytes) -> Tensor:
    """Pictures (batch, height, width, 3), uint8, as luma and chroma at half its size: (batch, 6, height/2, width/2).

    A token, of 2x2 latents, then has 24 values, and the transformer is 96 wide. With blocks of 4x4 pixels, and so 96 or
    192 values in a width of 128, much of the noise stayed in the results.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).double() / 127.5 - 1
    planes = torch.einsum("ij,bjhw->bihw", YCBCR, pixels).float() * SCALE
    chroma = functional.pixel_unshuffle(functional.avg_pool2d(planes[:, 1:], 2), BLOCK // 2)
    return torch.cat([functional.pixel_unshuffle(planes[:, :1], BLOCK), chroma], dim=1)


def pictures_of(latents: Tensor) -> Bytes:
    """The inverse of `latents_of`, but for the chroma's detail."""
    luma = functional.pixel_shuffle(latents[:, : BLOCK**2], BLOCK)
    chroma = functional.pixel_shuffle(latents[:, BLOCK**2 :], BLOCK // 2)
    chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear")
    planes = (torch.cat([luma, chroma], dim=1) / SCALE).double()
    pixels = (torch.einsum("ij,bjhw->bihw", torch.linalg.inv(YCBCR), planes) + 1) * 127.5
    return np.asarray(pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def prompt(tasks: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Embeddings that stand for the prompts: fixed random vectors, other ones for each task."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(len(TASKS), TEXT_TOKENS, TEXT_WIDTH, generator=generator)
    pooled = torch.randn(len(TASKS), TEXT_WIDTH, generator=generator)
    return tokens[tasks], pooled[tasks]


def compact(small: Bytes) -> Tensor:
    """Latents of the small pictures, enlarged to half of `SIDE`: fewer tokens that hold all there is."""
    half = (SIDE // 2, SIDE // 2)
    return latents_of(np.stack([cv2.resize(one, half, interpolation=cv2.INTER_CUBIC) for one in small]))


def sigmas(random: np.random.Generator, size: int, logit: tuple[float, float]) -> Tensor:
    """Logit-normal, as FLUX's were drawn (Esser et al., 2024)."""
    return torch.sigmoid(torch.from_numpy(random.normal(*logit, size)).float())


def train_base(photos: Sequence[Bytes], place: Path, log: Path) -> FluxTransformer2DModel:
    """The trained base; it goes on from the last state that was saved."""
    model = make_base()
    optimiser = torch.optim.AdamW(model.parameters(), lr=BASE_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    state = place.with_suffix(".state.pt")
    first = 0
    if place.exists():
        model.load_state_dict(load_file(place))
        return model.eval().requires_grad_(False)
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        first = kept["step"]
    began = time.monotonic()
    for step in range(first, BASE_STEPS):
        random = np.random.default_rng((7, step))
        targets, firsts, smalls, tasks = base_batch(photos, random, BASE_BATCH)
        clean, sigma = latents_of(targets), sigmas(random, BASE_BATCH, BASE_SIGMAS)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(step))
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 100)
            group["lr"] = BASE_RATE * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / BASE_STEPS)))
        tokens, pooled = prompt(tasks)
        velocity = predicted(
            model, noised_latents(clean, noise, sigma), latents_of(firsts), compact(smalls), sigma, tokens, pooled
        )
        loss = flow_matching_loss(velocity, clean, noise)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % SAVE_EVERY == 0:
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, state)
            append_line(
                log, {"step": step + 1, "loss": round(loss.item(), 4), "seconds": round(time.monotonic() - began)}
            )
    save_file(model.state_dict(), place)
    state.unlink(missing_ok=True)
    return model.eval().requires_grad_(False)


def predicted(
    model: Any, noisy: Tensor, reference: Tensor, generated: Tensor, sigma: Tensor, tokens: Tensor, pooled: Tensor
) -> Tensor:
    """The velocity as latents."""
    size = (LATENTS, LATENTS)
    given = BACKBONE.conditions(reference, generated, over=size)
    ids = BACKBONE.positions(size, NOISE, device=noisy.device)
    velocity = predict_velocity(
        model, pack(noisy), ids, given.tokens, given.ids, tokens, pooled, sigma, None, reference_cache=False
    )
    return unpack(velocity, *size)


def batch_of(examples: Sequence[Example], random: np.random.Generator) -> TrainingBatch:
    """A batch of triplets, mirrored at random; the same for the same state of the generator."""
    chosen = [examples[index] for index in random.integers(len(examples), size=BATCH)]
    mirrored = random.random(BATCH) < 0.5

    def stack(name: str) -> NDArray[Any]:
        return np.stack(
            [
                getattr(one, name)[:, ::-1] if turned else getattr(one, name)
                for one, turned in zip(chosen, mirrored, strict=True)
            ]
        )

    clean = latents_of(stack("hrgt"))
    noise = torch.from_numpy(random.standard_normal(clean.shape)).float()
    tokens, pooled = prompt(np.full(BATCH, REFINE))
    masks = [torch.from_numpy(np.ascontiguousarray(stack(name)))[:, None] for name in ("hrgt_mask", "hrri_mask")]
    return TrainingBatch(
        clean,
        latents_of(stack("hrri")),
        compact(stack("lrgi")),
        noise,
        sigmas(random, BATCH, SIGMAS),
        tokens,
        pooled,
        *masks,
    )


def config_of(way: Way) -> FreqMoLEConfig:
    """The adapter's, of as many parameters for every way."""
    return FreqMoLEConfig(
        rank=RANK,
        lora_alpha=RANK,
        compact_generated=True,
        guidance=None,
        initial_alpha=AlphaByDepth() if way.gates else HALF,
    )


def taught(base: FluxTransformer2DModel, way: Way, seed: int, examples: Sequence[Example]) -> FreqMoLE:
    """The base with experts that were trained one way; the base's own weights stay as they are."""
    torch.manual_seed(seed)
    freqmole = inject(base, config_of(way), generator=torch.Generator().manual_seed(seed))
    step = TrainingStep(freqmole, ObjectiveSettings(**way.objective)).train()
    settings = OptimiserSettings(
        learning_rate=RATE, gate_learning_rate=GATE_RATE, freeze_gates_until=STEPS // 5 if way.gates else STEPS
    )
    groups = settings.parameter_groups(freqmole)
    rates = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for number in range(STEPS):
        batch = batch_of(examples, np.random.default_rng((11, seed, number)))
        pace = min(1.0, (number + 1) / 20) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * number / STEPS)))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * pace
        optimiser.zero_grad()
        step(batch).total.backward()
        step.clear()
        settings.freeze_gates(freqmole, number)
        torch.nn.utils.clip_grad_norm_(list(freqmole.parameters()), 1.0)
        optimiser.step()
    return freqmole


@torch.no_grad()
def refined(model: Any, examples: Sequence[Example], task: int = REFINE, seed: int = 0) -> Bytes:
    """The results of all examples, by Euler's method from the same noise each time."""
    reference = latents_of(np.stack([one.hrri for one in examples]))
    generated = compact(np.stack([one.lrgi for one in examples]))
    tokens, pooled = prompt(np.full(len(examples), task))
    latents = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    steps = torch.linspace(1, 0, SAMPLING_STEPS + 1)
    for here, after in pairwise(steps):
        sigma = here.expand(len(examples))
        latents = latents + (after - here) * predicted(model, latents, reference, generated, sigma, tokens, pooled)
    return pictures_of(latents)


def scores_of(pictures: Sequence[Bytes], examples: Sequence[Example]) -> list[dict[str, float]]:
    """PSNR in dB and SSIM against the HRGT, inside and outside the object."""
    scores = []
    for picture, one in zip(pictures, examples, strict=True):
        truth, result = Image(one.hrgt), Image(np.ascontiguousarray(picture))
        inside = fidelity(truth, result, Mask(one.hrgt_mask))
        outside = fidelity(truth, result, Mask(1 - one.hrgt_mask))
        scores.append(
            {
                "psnr_inside": round(inside.psnr_inside, 3),
                "ssim_inside": round(inside.ssim_inside, 4),
                "psnr_outside": round(outside.psnr_inside, 3),
                "ssim_outside": round(outside.ssim_inside, 4),
            }
        )
    return scores


def enlarged(examples: Sequence[Example]) -> list[Bytes]:
    """The LRGIs enlarged by Lanczos, as the correspondence engine's yardstick is."""
    return [resized(one.lrgi, (SIDE, SIDE)) for one in examples]


def summary(rows: Sequence[Mapping[str, Any]], examples: Sequence[Example]) -> dict[str, Any]:
    """Means over examples and seeds, and gains with 95 % intervals by bootstrap over objects."""
    cells = {(row["way"], row["seed"]): row["scores"] for row in rows}
    objects = sorted({one.object_id for one in examples})
    of_object = np.array([objects.index(one.object_id) for one in examples])
    table: dict[str, Any] = {}
    for way in dict.fromkeys(way for way, _ in cells):
        seeds = [seed for name, seed in cells if name == way]
        told: dict[str, Any] = {"seeds": len(seeds)}
        for name in ("psnr_inside", "ssim_inside", "psnr_outside", "ssim_outside"):
            values = np.mean([[one[name] for one in cells[way, seed]] for seed in seeds], axis=0)
            told[name] = round(float(values.mean()), 4)
            for other, called in (("frozen base", "base"), ("enlargement", "enlargement")):
                gains = values - np.array([one[name] for one in cells[other, 0]])
                told[f"{name}: gain on the {called}, with its interval"] = _interval(gains, of_object, len(objects))
        by_seed = [float(np.mean([one["psnr_inside"] for one in cells[way, seed]])) for seed in seeds]
        told["psnr_inside by seed"] = [round(value, 3) for value in by_seed]
        table[way] = told
    return table


def _interval(values: NDArray[np.float64], of_object: NDArray[np.intp], objects: int) -> list[float]:
    """Mean, and the bounds between which lie 95 % of the means of resampled objects."""
    random = np.random.default_rng(0)
    sums = np.bincount(of_object, values, objects)
    counts = np.bincount(of_object, minlength=objects)
    drawn = random.integers(objects, size=(2000, objects))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return [round(float(value), 3) for value in (values.mean(), *np.percentile(means, (2.5, 97.5)))]


def main() -> None:
    """Makes what is missing, and reports on all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dreambooth", type=Path, required=True, help="folder of DreamBooth's subjects")
    parser.add_argument("--into", type=Path, default=Path("build/toy_training"), help="folder of data, base and cells")
    parser.add_argument("--minutes", type=float, default=75.0, help="begin no cell after so many minutes of this run")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"), help="where the figures go")
    parser.add_argument("--figure", type=Path, help="where a picture of results goes")
    options = parser.parse_args()
    began = time.monotonic()
    options.into.mkdir(parents=True, exist_ok=True)
    folders = make_triplets(options.into, options.dreambooth)
    learned, held_out = (read_examples(folders, part) for part in ("fit", "held out"))
    print(f"{len(learned)} triplets for training, {len(held_out)} held out", flush=True)
    base = train_base(read_photos(), options.into / "base.safetensors", options.into / "base.jsonl")
    cells = options.into / "cells.jsonl"
    done = {(row["way"], row["seed"]) for row in read_lines(cells)}

    def write(way: str, seed: int, pictures: Sequence[Bytes], seconds: float, **more: Any) -> None:
        row = {"way": way, "seed": seed, "seconds": round(seconds), **more, "scores": scores_of(pictures, held_out)}
        append_line(cells, row)
        np.save(options.into / f"{way.replace(' ', '')}_{seed}.npy", np.stack(pictures))
        print(way, seed, {key: np.mean([one[key] for one in row["scores"]]).round(3) for key in row["scores"][0]})

    if ("enlargement", 0) not in done:
        write("enlargement", 0, enlarged(held_out), 0)
        for task, name in enumerate(TASKS):
            asked = "frozen base" if task == REFINE else f"frozen base, asked to {name}"
            write(asked, 0, list(refined(base, held_out, task)), 0)
    # Seed after seed, so that a run that ends early has each way as often.
    for seed in SEEDS:
        for name, way in WAYS.items():
            if (name, seed) in done or time.monotonic() - began > 60 * options.minutes:
                continue
            start = time.monotonic()
            freqmole = taught(base, way, seed, learned)
            pictures = list(refined(freqmole.transformer.eval(), held_out))
            alphas = [round(alpha, 3) for alpha in freqmole.alphas().values()]
            freqmole.remove()
            write(name, seed, pictures, time.monotonic() - start, alpha=alphas)
    rows = list(read_lines(cells))
    there = {(row["way"], row["seed"]) for row in rows}
    missing = [f"{name}, seed {seed}" for name in WAYS for seed in SEEDS if (name, seed) not in there]
    figures = {
        "parameters of the base": sum(one.numel() for one in base.parameters()),
        "triplets": {"for training": len(learned), "held out": len(held_out)},
        "steps": {"base": BASE_STEPS, "each way": STEPS, "sampling": SAMPLING_STEPS},
        "samples of a step": {"base": BASE_BATCH, "each way": BATCH},
        "missing cells": missing,
        "table": summary(rows, held_out),
        "cells": [{key: value for key, value in row.items() if key != "scores"} for row in rows],
    }
    write_whole(options.json, (json.dumps(figures, indent=1) + "\n").encode())
    print(json.dumps(figures["table"], indent=1))
    if options.figure:
        draw(options.into, held_out, options.figure)


def draw(into: Path, examples: Sequence[Example], figure: Path) -> None:
    """Twelve held-out examples, a row each: HRRI, LRGI, the results of the first seed, and the truth."""
    names = ["frozen base", *WAYS]
    results = [np.load(file) for name in names if (file := into / f"{name.replace(' ', '')}_0.npy").exists()]
    rows = []
    for index in np.linspace(0, len(examples) - 1, 12).astype(int):
        one = examples[index]
        small = cv2.resize(one.lrgi, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        rows.append(np.hstack([one.hrri, small, *(result[index] for result in results), one.hrgt]))
    sheet = np.kron(np.vstack(rows), np.ones((2, 2, 1), np.uint8))
    write_whole(figure, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main()
