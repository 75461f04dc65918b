"""The benchmark of the diffusion model, in miniature: that it measures what it says, never how fast that is."""

from __future__ import annotations

import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from rich.console import Console
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import diffusion, diffusion_report, random_model
from benchmarks.diffusion import Run, attempt, begin, measure_plain, painter_for, plain_painter, run_all
from benchmarks.diffusion_options import SKIPPED, STOCK, Option, planned
from benchmarks.random_model import Painter, Sizes, count_operations, count_resident_bytes, weight_bytes
from benchmarks.step_caches import STEP_CACHES, StepCache, config_of
from benchmarks.stock import stock_painter
from benchmarks.working_memory import count_working_bytes, measured_peak
from refgc.flux.quantization import Quantized
from refgc.flux.speed import SpeedOptions
from refgc.model.backbones import catalogue

TINY = Sizes(
    double_blocks=1, single_blocks=2, heads=1, text_tokens=6, height=64, width=32, steps=2, rank=2, vae_channels=4
)
LARGER = dataclasses.replace(TINY, double_blocks=2, single_blocks=3)
PICTURE = 4 * 2
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def begun() -> Run:
    torch.manual_seed(0)
    return begin(TINY, CPU, rounds=2)


@pytest.fixture
def run(begun: Run) -> Run:
    """Nothing is measured yet."""
    return dataclasses.replace(begun, rows={})


@pytest.fixture(scope="module")
def counted() -> diffusion_report.Findings:
    """What is counted for the full size, counted for one that takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion_report, "FULLS", {"kontext": LARGER})
        return diffusion_report.count_full_size(CPU)


@pytest.fixture
def small_full_size(monkeypatch: pytest.MonkeyPatch, counted: diffusion_report.Findings) -> None:
    monkeypatch.setattr(diffusion_report, "FULLS", {"kontext": LARGER})
    monkeypatch.setattr(diffusion, "count_full_size", lambda device, architecture: counted)


@contextmanager
def tokens_seen(painter: Painter) -> Iterator[list[int]]:
    """Picture tokens that went into the transformer, by forward."""
    seen: list[int] = []
    handle = painter.transformer.x_embedder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    yield seen
    handle.remove()


def step(painter: Painter) -> Tensor:
    painter.encode()
    velocity = painter.step(0, painter.inputs.noise, 0.5)
    assert velocity.shape == painter.inputs.noise.shape
    assert velocity.isfinite().all()
    return velocity


def test_the_yardstick_is_a_stock_transformer_that_sees_noise_and_both_pictures_each_step(run: Run) -> None:
    painter = plain_painter(run)
    assert {type(one) for one in painter.transformer.attn_processors.values()} == {FluxAttnProcessor}
    with tokens_seen(painter) as seen:
        picture = painter.paint()
    assert seen == [3 * PICTURE] * TINY.steps
    assert picture.shape == (1, 3, TINY.height, TINY.width)
    assert picture.isfinite().all()


@pytest.mark.parametrize(
    ("switches", "seen"),
    [
        ({"reference_cache": True}, [2 * PICTURE, PICTURE, PICTURE]),
        ({"compact_generated": True}, [PICTURE * 9 // 4] * 2),
        ({"reference_cache": True, "compact_generated": True}, [PICTURE * 5 // 4, PICTURE, PICTURE]),
    ],
)
def test_the_options_that_save_tokens_save_them(run: Run, switches: dict[str, Any], seen: list[int]) -> None:
    painter = painter_for(run, Option("saving", SpeedOptions(**switches)))
    with tokens_seen(painter) as found:
        assert painter.paint().isfinite().all()
    assert found == seen


def test_fused_experts_do_what_unfused_ones_do_and_that_is_something() -> None:
    run = begin(TINY, CPU, rounds=1, dtype=torch.float32)
    torch.manual_seed(1)
    unfused = painter_for(run, Option("unfused", SpeedOptions(fuse=False), experts=True))
    torch.manual_seed(1)
    fused = painter_for(run, Option("fused", SpeedOptions(), experts=True))
    plain, one, other = (step(painter) for painter in (plain_painter(run), unfused, fused))
    assert (one - other).norm() < 1e-3 * (one - plain).norm()
    assert weight_bytes(unfused.transformer) > weight_bytes(fused.transformer) == weight_bytes(run.plain.transformer)


def test_a_third_of_the_steps_runs_the_first_block_alone(run: Run) -> None:
    painter = painter_for(run, Option("skipping", SpeedOptions(step_cache=0.1)))
    ran: Counter[str] = Counter()
    for name in ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn"):
        module = painter.transformer.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: ran.update([name]))
    painter.encode()
    painter.steps(6)
    assert list(ran.values()) == [6, 4, 4]


def test_option_and_yardstick_take_turns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    measured = diffusion.timed

    def noted(device: torch.device, painter: Painter, steps: int) -> float:
        turns.append("plain" if painter.transformer is run.plain.transformer else "option")
        return measured(device, painter, steps)

    monkeypatch.setattr(diffusion, "timed", noted)
    row = diffusion.measure(run, Option("reference cache", SpeedOptions(reference_cache=True), whole_picture=False))
    assert turns == ["option", "plain", "plain", "option"]
    assert row["speedup_step_least"] <= row["speedup_step"] <= row["speedup_step_most"]
    blocks, keys_and_values, width = 3, 2, 128
    bytes_per_token = blocks * keys_and_values * width * torch.bfloat16.itemsize
    assert round(row["cache_gigabytes"] * 1e9) == 2 * PICTURE * bytes_per_token


def test_an_option_that_cannot_be_had_is_listed_with_its_reason(run: Run) -> None:
    row = attempt(run, Option("attention flash", SpeedOptions(attention_backend="_flash_3")))
    assert row["reason"].startswith("The attention backend '_flash_3' cannot be had here")
    assert "seconds_step" not in row


def test_combined_options_take_the_fastest_attention_and_the_fastest_quantisation() -> None:
    rows: dict[str, dict[str, Any]] = {
        "attention _native_cudnn": {"speedup_step": 1.2},
        "attention _native_flash": {"speedup_step": 1.1},
        "attention sage": {"speedup_step": 2.0},
        "quantisation fp8": {"reason": "no"},
        "quantisation int8": {"speedup_step": 0.9},
        "quantisation nf4": {"speedup_step": 0.8},
    }
    options = planned("kontext", rows)
    lossless, everything = options["all lossless"](), options["everything"]()
    assert lossless.lossless
    assert lossless.speed == SpeedOptions(reference_cache=True, compile=True, attention_backend="_native_cudnn")
    assert not everything.lossless
    assert everything.speed.quantization == "int8"
    assert everything.skips
    compiled = {"quantisation int8 compiled": {"speedup_step": 0.7}, "quantisation nf4 compiled": {"speedup_step": 1.1}}
    assert planned("kontext", rows | compiled)["everything"]().speed.quantization == "nf4", "all is compiled there"
    slower = planned("kontext", {"attention _native_cudnn": {"speedup_step": 1.005}})
    assert slower["all lossless"]().speed.attention_backend is None
    assert slower["everything"]().speed.quantization is None


def test_all_quantisations_are_measured_before_the_fastest_is_taken() -> None:
    names = list(planned("kontext", {}))
    quantised = [names.index(name) for name in names if name.startswith("quantisation")]
    assert len(quantised) == 6
    assert max(quantised) < names.index("everything")


def test_what_was_found_is_saved_after_each_option(run: Run, small_full_size: None) -> None:
    saved: list[str] = []
    only = ["attention _flash_3", "quantisation int8"]
    found = run_all(run, 1, only, lambda findings: saved.append(json.dumps(findings)))
    assert [len(json.loads(one)["options"]) for one in saved] == [1, 2, 3]
    assert json.loads(saved[-1]) == found
    assert found["not_started"] == []
    assert found["quality"] == diffusion_report.NO_QUALITY
    assert found["scaled_down"] == "double blocks 1 (of 2), single blocks 2 (of 3)"
    int8 = found["options"][-1]
    assert int8["finite"]
    assert int8["weight_gigabytes"] < found["options"][0]["weight_gigabytes"]
    speed = [goal for goal in found["goals"] if "GB" not in goal["goal"]]
    assert [goal["met"] for goal in speed] == [None] * 4
    memory = [goal for goal in found["goals"] if "GB" in goal["goal"]]
    assert [goal["met"] for goal in memory] == [True] * 4


def test_a_later_run_goes_on_where_an_earlier_one_ended(run: Run, small_full_size: None) -> None:
    first = run_all(run, 1, ["attention _flash_3"], lambda findings: None)
    later = dataclasses.replace(run, rows={})
    assert diffusion.resume(later, json.loads(json.dumps(first)))
    found = run_all(later, 1, ["attention _flash_3", "reference cache"], lambda findings: None)
    assert [row["option"] for row in found["options"]] == ["plain", "attention _flash_3", "reference cache"]
    assert found["options"][:2] == first["options"]
    other = dataclasses.replace(run, rows={}, rounds=3)
    assert not diffusion.resume(other, first)
    precise = begin(TINY, CPU, rounds=later.rounds, dtype=torch.float32)
    assert not diffusion.resume(precise, first)
    assert diffusion.resume(precise, first | {"sizes": first["sizes"] | {"dtype": "float32"}})
    assert other.rows == {}


def test_no_option_is_started_when_the_time_is_spent(run: Run, small_full_size: None) -> None:
    saved: list[diffusion_report.Findings] = []
    found = run_all(run, 0, None, saved.append)
    assert found["not_started"] == list(planned("kontext", {}))
    assert [row["option"] for row in found["options"]] == ["plain"]
    assert saved == [found]


def test_the_tables_show_what_was_found(run: Run, small_full_size: None) -> None:
    found = run_all(run, 1, ["attention _flash_3", "first-block cache"], lambda findings: None)
    console = Console(width=200, record=True, file=io.StringIO())
    diffusion_report.show(console, found)
    text = console.export_text()
    for words in (diffusion_report.NO_QUALITY, "Scaled down", SKIPPED, "cannot be had here", "not judged"):
        assert words[:40] in text


def test_goals_are_judged_on_the_full_size_alone(run: Run) -> None:
    counted = {"resident": [{"weights": "bfloat16", "gigabytes_peak": 41.0}, {"weights": "nf4", "reason": "no"}]}
    rows = {"FreqMoLE fused": {"speedup_step": 0.99}, "reference cache": {"speedup_step": 2.2}}
    judged = [goal["met"] for goal in diffusion_report.goals(rows, counted, judged=True)]
    assert judged == [True, False, None, None, False, None]
    assert [goal["met"] for goal in diffusion_report.goals(rows, counted, judged=False)][:4] == [None] * 4
    measured = {"reference cache": {"peak_gigabytes": 39.0}, "quantisation nf4": {"peak_gigabytes_with_cache": 25.0}}
    goals = {judged: diffusion_report.goals(measured, counted, judged=judged)[4:] for judged in (True, False)}
    assert [(goal["found"], goal["met"], goal["how"]) for goal in goals[True]] == [
        (39.0, True, "measured"),
        (25.0, False, "measured"),
    ]
    assert [goal["how"] for goal in goals[False]] == ["counted", "counted"]


def operations_of(pictures: int) -> int:
    """Of a step of the tiny Kontext, whose noise is one picture and which is given the others."""
    width, text, picture = 128, TINY.text_tokens, pictures * PICTURE
    tokens = text + picture
    attention = 4 * width * tokens**2
    # Per token: query, key, value, out and a feed-forward of four times the width, which single blocks merge.
    per_token = 2 * 12 * width**2 * tokens
    modulation = 2 * width**2 * (TINY.double_blocks * 12 + TINY.single_blocks * 3 + 2)
    embeddings = 2 * width * (picture * 64 * 1 + text * 4096 + 2 * (256 + width) + 768 + width)
    noise_out = 2 * width * 64 * picture
    blocks = TINY.double_blocks + TINY.single_blocks
    return blocks * (attention + per_token) + modulation + embeddings + noise_out


def test_operations_are_those_of_the_matrix_products() -> None:
    counted = count_operations(TINY, cached=False, compact=False)
    assert counted["step"] * 1e12 == operations_of(3)
    assert counted["picture"] > TINY.steps * counted["step"]


def operations_of_call(run: Run, pictures: int, steps: int) -> int:
    painter = stock_painter(run.plain, run.inputs, run.sizes, pictures)
    # The CPU's own attention is not one of the operations that the counter knows.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        painter.warm_up(steps)
    total: int = counter.get_total_flops()
    return total


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_step_of_the_stock_pipeline_computes_what_a_step_of_the_yardstick_does(run: Run, pictures: int) -> None:
    """Its `__call__` with two pictures is the yardstick; with one it has a third of the picture tokens less."""
    once, twice = (operations_of_call(run, pictures, steps) for steps in (1, 2))
    assert (twice - once) / 2 == operations_of(1 + pictures)


def test_a_step_of_the_stock_klein_computes_what_a_step_of_the_yardstick_does() -> None:
    run = begin(dataclasses.replace(TINY, architecture="klein", width=64), CPU, rounds=1)
    once, twice = (operations_of_call(run, 2, steps) for steps in (1, 2))
    assert (twice - once) / 2 == count_operations(run.sizes, cached=False, compact=False)["step"] * 1e12
    assert operations_of_call(run, 1, 2) < twice


def test_the_stock_pipeline_is_one_of_the_rows_and_all_are_compared_with_it(run: Run, small_full_size: None) -> None:
    found = run_all(run, 1, [STOCK[1], "reference cache"], lambda findings: None)
    plain, one, cached = found["options"]
    assert one["finite"]
    assert one["speedup_step_over_one_picture"] == 1.0
    # The report keeps four digits of the quotient and of both of its parts.
    expected = cached["speedup_step"] / one["speedup_step"]
    assert cached["speedup_step_over_one_picture"] == pytest.approx(expected, rel=2e-3)
    assert plain["speedup_step_over_one_picture"] == pytest.approx(1 / one["speedup_step"], rel=2e-3)


@pytest.mark.parametrize("architecture", ["kontext", "klein"])
@pytest.mark.parametrize("cached", [False, True])
def test_counted_working_memory_is_what_a_cpu_allocates(architecture: random_model.Architecture, cached: bool) -> None:
    """What kernels take for themselves comes on top.

    Float32, because a processor without instructions for bfloat16 computes that by way of float32 copies.
    """
    sizes = dataclasses.replace(TINY, architecture=architecture, height=128, width=128, heads=2)
    run = begin(sizes, CPU, rounds=1, dtype=torch.float32)
    painter = painter_for(run, Option("memory", SpeedOptions(reference_cache=cached)))
    counted = count_working_bytes(sizes, cached=cached, dtype=torch.float32)
    measured = measured_peak(CPU, lambda: painter.warm_up(1))
    assert counted <= measured <= 1.1 * counted
    if cached:
        assert counted > random_model.cache_bytes(painter.transformer) > 0


@pytest.mark.parametrize("architecture", ["kontext", "klein"])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", STEP_CACHES)
def test_newer_step_caches_work_with_experts_and_reference_cache(
    architecture: random_model.Architecture, cached: bool, kind: StepCache
) -> None:
    """The steps that they compute are those of the model without; the others are near, and not the same."""
    sizes = dataclasses.replace(TINY, architecture=architecture)
    run = begin(sizes, CPU, rounds=1, dtype=torch.float32)
    option = Option("unfused", SpeedOptions(fuse=False, reference_cache=cached), experts=True)
    painter = painter_for(run, option)
    painter.encode()
    steps = 6 if architecture == "kontext" else 4
    sigmas = [1 - number / steps for number in range(steps)]
    alone = [painter.step(number, run.inputs.noise, sigma) for number, sigma in enumerate(sigmas)]
    config = config_of(kind, architecture)
    if architecture == "kontext" and kind == "MagCache":
        config = dataclasses.replace(config, num_inference_steps=steps)
    painter.transformer.enable_cache(config)
    computed: list[int] = []
    number = 0
    projection = painter.transformer.transformer_blocks[0].attn.to_q
    painter.encode()
    projection.register_forward_pre_hook(lambda *_: computed.append(number))
    same = set()
    for number, sigma in enumerate(sigmas):
        velocity = painter.step(number, run.inputs.noise, sigma)
        assert velocity.isfinite().all()
        if torch.equal(velocity, alone[number]):
            same.add(number)
    assert same == set(computed)
    assert 0 < len(same) < steps


@pytest.mark.parametrize("quantization", [None, "int8", "fp8"])
def test_resident_bytes_are_counted_as_a_whole_model_has_them(run: Run, quantization: Quantized | None) -> None:
    painter = painter_for(run, Option("resident", SpeedOptions(reference_cache=True, quantization=quantization)))
    painter.encode()
    counted = count_resident_bytes(TINY, quantization, CPU)
    # The modulation of a double block has six values a channel.
    assert counted["layer"] == (0 if quantization is None else 6 * 128 * 128 * torch.bfloat16.itemsize)
    assert counted["weights"] == weight_bytes(painter.transformer, painter.vae)
    assert counted["cache"] == random_model.cache_bytes(painter.transformer)
    painter.forget()
    assert random_model.cache_bytes(painter.transformer) == 0


def test_the_yardstick_is_one_of_the_rows(run: Run) -> None:
    row = measure_plain(run)
    assert row["speedup_step"] == 1.0
    assert row["finite"]
    assert row["cache_gigabytes"] == 0
    assert row["weight_gigabytes"] < row["peak_gigabytes_counted"] <= row["peak_gigabytes"]
    assert round(row["weight_gigabytes"] * 1e9) == weight_bytes(run.plain.transformer, run.plain.vae)


def test_small_work_has_the_proportions_of_the_full_one() -> None:
    """Tokens, text and experts shrink as the width does, so that each kind of work keeps its share."""
    small, full = random_model.SMALL, random_model.FULL
    assert full.heads / small.heads == full.text_tokens / small.text_tokens == full.rank / small.rank
    assert full.heads / small.heads == full.picture_tokens / small.picture_tokens


@pytest.fixture(scope="module")
def klein() -> Run:
    torch.manual_seed(0)
    return begin(dataclasses.replace(TINY, architecture="klein"), CPU, rounds=2)


def test_klein_is_measured_as_kontext_is(klein: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        diffusion_report, "FULLS", {"klein": dataclasses.replace(LARGER, architecture="klein", single_blocks=4)}
    )
    run = dataclasses.replace(klein, rows={})
    only = ["FreqMoLE fused", "reference cache", "compact IMG2", "quantisation int8"]
    found = run_all(run, 5, only, lambda findings: None)
    assert [row["option"] for row in found["options"]] == [
        "plain",
        "FreqMoLE fused",
        "reference cache",
        *only[3:],
        only[2],
    ]
    assert [row["reason"] for row in found["options"] if "reason" in row] == []
    assert all(row["finite"] for row in found["options"])
    assert max(row["cache_gigabytes"] for row in found["options"]) > 0
    assert planned("klein", {})["everything"]().speed.step_cache is None
    assert "does not work with FLUX.2" in attempt(run, planned("klein", {})["first-block cache"]())["reason"]
    goals = {goal["goal"] for goal in found["goals"]}
    window = "plain: a window of 1024 x 1024 in at most 2.0 s"
    assert {window, "bfloat16 with the reference cache and working memory: within 16 GB"} <= goals
    console = Console(width=200, record=True, file=io.StringIO())
    diffusion_report.show(console, found)
    assert "in turn with a plain FLUX.2 [klein]" in console.export_text()


def test_klein_at_full_size_is_what_the_catalogue_says() -> None:
    resident = count_resident_bytes(random_model.KLEIN_FULL, None, CPU)
    size = catalogue.KLEIN.size
    assert abs(resident["weights"] / 2 - size.transformer - size.vae) < 1e-3 * size.transformer
    blocks, keys_and_values, width, tokens = 25, 2, 3072, 2 * 4096
    assert resident["cache"] == blocks * keys_and_values * width * tokens * torch.bfloat16.itemsize


def test_fused_experts_of_klein_do_what_unfused_ones_do() -> None:
    run = begin(dataclasses.replace(TINY, architecture="klein"), CPU, rounds=1, dtype=torch.float32)
    torch.manual_seed(1)
    unfused = painter_for(run, Option("unfused", SpeedOptions(fuse=False), experts=True))
    torch.manual_seed(1)
    fused = painter_for(run, Option("fused", SpeedOptions(), experts=True))
    plain, one, other = (step(painter) for painter in (plain_painter(run), unfused, fused))
    assert (one - other).norm() < 1e-3 * (one - plain).norm()
