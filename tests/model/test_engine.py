"""The engine diffusion, end to end on the tiny model: results, reports, progress, and whatever can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refgc import doctor
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import RefineResult, Report
from refgc.errors import EngineError, InputError
from refgc.flux.instruction import prompt_for
from refgc.flux.placement import Machine, Placement, examine
from refgc.flux.sizes import GIB
from refgc.flux.speed import SpeedOptions
from refgc.imaging.image import Image, Mask
from refgc.machine import Gpu
from refgc.model import loading, weights
from refgc.model.engine import DiffusionEngine
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.loading import Sources
from refgc.model.pipeline import RefGCSR2Pipeline
from refgc.model.settings import DenoisingSettings
from refgc.refinement import choose
from refgc.request import Reference, RefineRequest
from tests.support.ncnn_files import write_weights
from tests.support.synthetic import SyntheticPair
from tests.support.tiny_freqmole import teach
from tests.support.tiny_models import tiny_transformer

SMALL = DenoisingSettings(height=64, width=64, num_inference_steps=3)
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    weights.save(teach(inject(tiny_transformer(), FreqMoLEConfig(rank=2, reference_cache=True))), folder)
    return folder


@pytest.fixture
def engine(tiny_base: Path, adapter: Path) -> DiffusionEngine:
    return DiffusionEngine(Sources(str(tiny_base), str(adapter)), SpeedOptions(), device="cpu", settings=SMALL)


@pytest.fixture(scope="module")
def request_(synthetic_pair: SyntheticPair) -> RefineRequest:
    """With the object marked, so that it need not be looked for."""
    reference, generated = Image(synthetic_pair.reference), Image(synthetic_pair.generated)
    return RefineRequest(
        reference,
        generated,
        scale=2,
        reference_mask=middle_of(reference),
        generated_mask=middle_of(generated),
        object_name="box",
        seed=3,
    )


def test_surroundings_are_drawn_around_what_the_model_drew(
    engine: DiffusionEngine, request_: RefineRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(write_weights(tmp_path)))
    texture = np.random.default_rng(2).integers(0, 256, request_.generated.pixels.shape, dtype=np.uint8)
    textured = replace(request_, generated=Image(texture))
    seen: list[RefineResult] = []

    def look(_: str, picture: Image | RefineResult) -> None:
        if isinstance(picture, RefineResult):
            seen.append(picture)

    plain, drawn = engine.refine(textured), engine.refine(replace(textured, surroundings="fast"), viewer=look)
    (early,) = seen
    assert (early.image.pixels == plain.image.pixels).all()
    assert early.report.surroundings == "plain"
    assert request_.generated_mask is not None
    marked = request_.generated_mask.values.repeat(2, axis=0).repeat(2, axis=1) > 0
    difference = np.abs(drawn.image.pixels.astype(int) - plain.image.pixels).max(axis=2)
    assert (difference[marked] == 0).mean() > 0.9
    assert (difference[:4] > 0).mean() > 0.5
    assert (plain.report.surroundings, drawn.report.surroundings) == ("plain", "fast")
    assert "surroundings" not in early.stages
    assert (drawn.stages["surroundings"].pixels[:4] == drawn.image.pixels[:4]).mean() > 0.9
    unwanted = engine.refine(replace(textured, surroundings="fast", strength=0.0))
    assert (unwanted.image.pixels != unwanted.stages["upscaled"].pixels).any()


def middle_of(image: Image) -> Mask:
    width, height = image.size
    values = np.zeros((height, width), np.float32)
    values[height // 4 : -height // 4, width // 4 : -width // 4] = 1.0
    return Mask(values)


class Noted:
    """Notes the progress, and raises when it comes to a stage."""

    def __init__(self, stop_at: str = "") -> None:
        self.calls: list[tuple[str, float]] = []
        self.stop_at = stop_at

    def __call__(self, stage: str, fraction: float) -> None:
        self.calls.append((stage, fraction))
        if stage == self.stop_at:
            raise KeyError("stopped by the watcher")


@contextmanager
def failing(engine: DiffusionEngine, error: Exception, times: int, after: int = 0) -> Iterator[None]:
    """The transformer of a loaded engine raises `error` `times` times, from its forward number `after` on."""
    forwards = 0

    def fail(*_: object) -> None:
        nonlocal forwards
        forwards += 1
        if after < forwards <= after + times:
            raise error

    handle = loaded(engine).transformer.register_forward_pre_hook(fail)
    yield
    handle.remove()


def loaded(engine: DiffusionEngine) -> RefGCSR2Pipeline:
    assert engine.loaded is not None
    return engine.loaded.pipeline


def pixels(engine: DiffusionEngine, request: RefineRequest) -> np.ndarray:
    return engine.refine(request).image.pixels


def test_it_gives_what_the_pipeline_gives(
    engine: DiffusionEngine, request_: RefineRequest, tiny_base: Path, adapter: Path
) -> None:
    result = engine.refine(request_)
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=adapter)
    assert pipeline.freqmole is not None
    pipeline.freqmole.fuse()
    pipeline.set_progress_bar_config(disable=True)
    refined = pipeline.refine(request_, replace(SMALL, init="generated"))
    assert np.array_equal(result.image.pixels, refined.picture)
    assert list(result.stages) == list(refined.stages)
    assert next(iter(result.stages)) == "upscaled"
    assert not np.array_equal(result.image.pixels, result.stages["upscaled"].pixels)


def test_of_several_references_the_first_is_taken_and_that_is_said(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    several = replace(request_, further_references=(Reference(request_.generated),))
    result, alone = engine.refine(several), engine.refine(request_)
    assert np.array_equal(result.image.pixels, alone.image.pixels)
    assert result.report.warnings == ("first_reference",)
    assert "only the first was used" in result.report.message
    assert (result.report.references_used, alone.report.references_used) == ((1,), (1,))
    assert alone.report.warnings == ()


def test_the_report_tells_how_it_ran(engine: DiffusionEngine, request_: RefineRequest) -> None:
    result = engine.refine(request_)
    report = result.report
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert (report.engine, report.placed, report.confidence) == ("diffusion", True, 1.0)
    assert report.output_size == result.image.size == (2 * request_.generated.size[0], 2 * request_.generated.size[1])
    assert (report.scale, report.seed, report.strength) == (2, 3, 1.0)
    assert report.object_box is not None
    left, top, right, bottom = report.object_box
    assert 0 < report.coverage <= (right - left) * (bottom - top) / (report.output_size[0] * report.output_size[1])
    changed = (result.image.pixels != result.stages["upscaled"].pixels).any(axis=2)
    assert changed[top:bottom, left:right].mean() > 0.5
    assert (
        report.message
        == f"The model redrew the object after the reference; {report.coverage:.0%} of the result is its work."
    )
    details = report.diffusion
    assert details is not None
    assert (details.base, details.adapter) == (engine.sources.base, engine.sources.adapter)
    assert (details.device, details.steps, details.peak_memory_gib) == ("the CPU", 3, None)
    assert "float32" in details.placement
    assert report.versions["torch"] == torch.__version__
    assert {"loading the model", "reading the prompt", "denoising", "decoding"} <= set(report.seconds)


def test_the_schema_documents_every_field() -> None:
    schema = Report.model_json_schema()
    fields = [*schema["properties"].items(), *schema["$defs"]["DiffusionDetails"]["properties"].items()]
    # Fields without one are named for what they are.
    assert {name for name, field in fields if "description" not in field} == {"engine"}
    assert json.loads(json.dumps(schema)) == schema


def test_progress_is_told_by_step_and_never_goes_back(engine: DiffusionEngine, request_: RefineRequest) -> None:
    noted = Noted()
    engine.refine(request_, noted)
    stages = list(dict.fromkeys(stage for stage, _ in noted.calls))
    assert stages == [
        "loading the model",
        "reading the prompt",
        "finding the object",
        "encoding the pictures",
        "denoising",
        "decoding",
        "putting it back",
        "done",
    ]
    assert [stage for stage, _ in noted.calls].count("denoising") == SMALL.num_inference_steps
    fractions = [fraction for _, fraction in noted.calls]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_the_seed_decides_every_pixel(engine: DiffusionEngine, request_: RefineRequest) -> None:
    first = pixels(engine, request_)
    torch.manual_seed(99)
    assert np.array_equal(pixels(engine, request_), first)
    assert not np.array_equal(pixels(engine, replace(request_, seed=4)), first)


def test_the_object_name_reaches_the_model(engine: DiffusionEngine, request_: RefineRequest) -> None:
    assert not np.array_equal(pixels(engine, request_), pixels(engine, replace(request_, object_name="teapot")))
    prompted = DiffusionEngine(
        engine.sources, engine.options, device="cpu", settings=replace(SMALL, prompt=prompt_for("teapot"))
    )
    assert np.array_equal(pixels(prompted, request_), pixels(engine, replace(request_, object_name="teapot")))


def test_strength_zero_is_a_clean_upscale_for_which_nothing_is_loaded(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    result = engine.refine(replace(request_, strength=0.0))
    assert engine.loaded is None
    assert (result.report.placed, result.report.coverage, result.report.diffusion) == (False, 0.0, None)
    assert np.array_equal(result.image.pixels, result.stages["upscaled"].pixels)


def test_a_transparent_picture_keeps_its_transparency(engine: DiffusionEngine, request_: RefineRequest) -> None:
    generated = request_.generated
    values = np.ones(generated.size[::-1], np.float32)
    middle = generated.size[0] // 2  # through the marked object
    values[:, : middle - 4], values[:, middle - 4 : middle] = 0.0, 0.5
    flat = np.rint(255 + values[..., None] * (generated.pixels - 255.0)).astype(np.uint8)
    for strength in (0.0, 1.0):
        asked = replace(request_, generated=Image(flat, Mask(values)), strength=strength)
        result = engine.refine(asked)
        assert result.image.alpha is not None
        assert result.image.alpha.size == result.image.size
        opaque = engine.refine(replace(asked, generated=Image(flat)))
        seen = result.image.alpha.values == 1.0
        assert np.array_equal(result.image.pixels[seen], opaque.image.pixels[seen])
        hidden = result.image.alpha.values == 0.0
        assert np.array_equal(result.image.pixels[hidden], result.stages["upscaled"].pixels[hidden])
        assert hidden.mean() > 0.4


def test_without_an_adapter_the_stock_model_goes_over_the_correspondence_result(
    tiny_base: Path, request_: RefineRequest
) -> None:
    settings = replace(SMALL, checks_drift=False)
    engine = DiffusionEngine(Sources(str(tiny_base)), SpeedOptions(), device="cpu", settings=settings)
    result = engine.refine(request_)
    placed = CorrespondenceEngine().refine(request_).image.pixels
    assert np.array_equal(result.stages["correspondence"].pixels, placed)
    assert result.report.message.startswith("Stock FLUX.1-Kontext (no FreqMoLE weights) went over")
    assert result.report.diffusion is not None
    assert (result.report.diffusion.adapter, result.report.diffusion.steps) == (None, 1)


def test_a_stock_model_that_draws_something_else_is_refused_and_that_is_said(
    tiny_base: Path, synthetic_pair: SyntheticPair
) -> None:
    """Weights that were never trained draw noise."""
    request = RefineRequest(Image(synthetic_pair.reference), Image(synthetic_pair.generated), scale=2)
    engine = DiffusionEngine(Sources(str(tiny_base)), SpeedOptions(), device="cpu", settings=SMALL)
    result, placed = engine.refine(request), CorrespondenceEngine().refine(request)
    assert np.array_equal(result.image.pixels, placed.image.pixels)
    assert result.report.warnings == ("drifted",)
    assert result.report.message == (
        "FLUX.1-Kontext drew something else, so its redrawing was refused and the correspondence engine's result stays."
    )
    assert result.report.placed
    assert result.report.coverage > 0.1


def test_the_environment_decides_at_each_picture_whether_the_engines_work_together(
    engine: DiffusionEngine, request_: RefineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, together in (("", False), ("1", True), ("0", False)):
        monkeypatch.setenv("REFGC_TOGETHER", value)
        assert ("correspondence" in engine.refine(request_).stages) == together


def test_with_a_lora_the_model_goes_over_the_correspondence_result_and_says_what_it_is(
    tiny_base: Path, request_: RefineRequest, tmp_path: Path
) -> None:
    weights.export_lora(teach(inject(tiny_transformer(), FreqMoLEConfig(rank=2))), tmp_path)
    settings = replace(SMALL, checks_drift=False)
    sources = Sources(str(tiny_base), str(tmp_path))
    result = DiffusionEngine(sources, SpeedOptions(), device="cpu", settings=settings).refine(request_)
    assert "correspondence" in result.stages
    assert result.report.message.startswith("FLUX.1-Kontext with a LoRA (no FreqMoLE weights) went over")
    stock = DiffusionEngine(Sources(str(tiny_base)), SpeedOptions(), device="cpu", settings=settings).refine(request_)
    assert (result.image.pixels != stock.image.pixels).any()


def test_it_is_loaded_once_and_the_text_encoders_are_not_kept_in_it(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    loads: list[RefGCSR2Pipeline] = []

    def noted_load(*arguments: Any) -> RefGCSR2Pipeline:
        loads.append(loading.load(*arguments))
        return loads[-1]

    engine = DiffusionEngine(engine.sources, engine.options, device="cpu", settings=SMALL, load=noted_load)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: pixels(engine, request_), range(4)))
    engine.prepare()
    assert len(loads) == 1
    assert loads[0].text_encoder is None
    assert all(np.array_equal(result, results[0]) for result in results)


def test_preparing_loads_and_refining_does_not_again(engine: DiffusionEngine, request_: RefineRequest) -> None:
    noted = Noted()
    engine.prepare(noted)
    assert noted.calls == [("loading the model", 0.0)]
    later = Noted()
    engine.refine(request_, later)
    assert "loading the model" not in dict(later.calls)


def test_speed_options_of_a_run_reach_the_pipeline(engine: DiffusionEngine, request_: RefineRequest) -> None:
    compact = DiffusionEngine(
        engine.sources, SpeedOptions(compact_generated=True), device="cpu", settings=SMALL
    ).refine(request_)
    uncached = DiffusionEngine(
        engine.sources, SpeedOptions(reference_cache=False), device="cpu", settings=SMALL
    ).refine(request_)
    results = [result.image.pixels for result in (engine.refine(request_), compact, uncached)]
    assert len({result.tobytes() for result in results}) == 3
    assert compact.report.diffusion is not None
    assert compact.report.diffusion.speed == "compact-generated"


@pytest.mark.parametrize(
    ("speed", "most"),
    [
        ("attention-backend=_native_math", 0.5),
        ("no-fuse", 0.5),
        ("step-cache=0.2", 40.0),
        ("quantization=int8", 20.0),
        ("quantization=int8,no-fuse,step-cache=0.2,attention-backend=_native_math", 40.0),
    ],
)
def test_every_speed_option_serves_requests(
    engine: DiffusionEngine, request_: RefineRequest, speed: str, most: float
) -> None:
    pytest.importorskip("torchao")
    options = SpeedOptions.parse(speed)
    quicker = DiffusionEngine(engine.sources, options, device="cpu", settings=SMALL)
    first, second = quicker.refine(request_), quicker.refine(request_)
    assert np.array_equal(first.image.pixels, second.image.pixels)
    assert np.abs(first.image.pixels - pixels(engine, request_).astype(float)).mean() < most
    assert first.report.diffusion is not None
    assert SpeedOptions.parse(first.report.diffusion.speed) == options


@pytest.mark.parametrize("stage", ["loading the model", "finding the object", "denoising", "decoding", "done"])
def test_a_watcher_may_stop_it_at_any_time(engine: DiffusionEngine, request_: RefineRequest, stage: str) -> None:
    with pytest.raises(KeyError, match="stopped by the watcher"):
        engine.refine(request_, Noted(stop_at=stage))
    assert_nothing_is_left_over(engine)
    fresh = DiffusionEngine(engine.sources, engine.options, device="cpu", settings=SMALL)
    assert np.array_equal(pixels(engine, request_), pixels(fresh, request_))


def test_a_failure_of_the_model_is_told_in_a_sentence_and_the_engine_stays_usable(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    before = pixels(engine, request_)
    with failing(engine, RuntimeError("device-side assert"), times=1, after=2), pytest.raises(EngineError) as failure:
        engine.refine(request_)
    assert str(failure.value) == (
        "The model failed with RuntimeError (device-side assert); run this again with --debug to see where."
    )
    assert_nothing_is_left_over(engine)
    assert np.array_equal(pixels(engine, request_), before)


@pytest.mark.parametrize("after", [0, 2])
def test_memory_that_runs_out_once_costs_a_second_attempt(
    engine: DiffusionEngine, request_: RefineRequest, after: int
) -> None:
    before = engine.refine(request_)
    with failing(engine, OUT_OF_MEMORY, times=1, after=after):
        result = engine.refine(request_)
    assert np.abs(result.image.pixels.astype(int) - before.image.pixels).mean() < 8
    details = result.report.diffusion
    assert details is not None
    assert details.placement.endswith("after memory ran out: VAE in tiles, blocks streamed from main memory.")
    assert loaded(engine).vae.use_tiling
    assert np.array_equal(pixels(engine, request_), result.image.pixels)


def test_the_second_attempt_cuts_the_picture_into_tiles(engine: DiffusionEngine, request_: RefineRequest) -> None:
    engine.prepare()
    decoded: list[torch.Size] = []
    loaded(engine).vae.decoder.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0].shape))
    engine.refine(request_)
    assert [shape[2:] for shape in decoded] == [(8, 8)]
    decoded.clear()
    with failing(engine, OUT_OF_MEMORY, times=1):
        engine.refine(request_)
    assert len(decoded) > 1
    assert max(side for shape in decoded for side in shape[2:]) <= 4


def test_memory_that_runs_out_again_is_told_in_a_sentence_and_the_engine_stays_usable(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    engine.prepare()
    with failing(engine, OUT_OF_MEMORY, times=2), pytest.raises(EngineError) as failure:
        engine.refine(request_)
    assert str(failure.value).startswith("The memory of the CPU is not enough, not even with the VAE in tiles")
    assert failure.value.__context__ is None
    assert_nothing_is_left_over(engine)
    # It has no more to give up, so one failure is enough now.
    with failing(engine, OUT_OF_MEMORY, times=1), pytest.raises(EngineError, match="is not enough"):
        engine.refine(request_)
    assert engine.refine(request_).report.placed


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["CUDA", "cuDNN", "cuBLAS"],
)
def test_memory_runs_out_in_errors_of_several_types(
    engine: DiffusionEngine, request_: RefineRequest, error: Exception
) -> None:
    engine.prepare()
    with failing(engine, error, times=1):
        details = engine.refine(request_).report.diffusion
    assert details is not None
    assert "after memory ran out" in details.placement


class FailingLoad:
    """Loads a pipeline after memory has run out for the first placements; notes the placements that are tried."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried: list[Placement] = []

    def __call__(self, folders: loading.Folders, placement: Placement, options: SpeedOptions) -> RefGCSR2Pipeline:
        self.tried.append(placement)
        if len(self.tried) <= self.failures:
            raise OUT_OF_MEMORY
        return loading.load(folders, placement, options)


def test_when_memory_runs_out_while_loading_the_next_smaller_placement_is_taken(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    load = FailingLoad(1)
    failing_once = DiffusionEngine(engine.sources, engine.options, device="cpu", settings=SMALL, load=load)
    details = failing_once.refine(request_).report.diffusion
    assert [placement.dtype for placement in load.tried] == [torch.float32, torch.bfloat16]
    assert details is not None
    assert details.placement.startswith("Weights in bfloat16 on the CPU")
    assert details.placement.endswith("; memory ran out while loading with weights in float32.")


def test_when_the_smallest_placement_is_too_large_the_sentence_names_all_that_were_tried(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    load = FailingLoad(3)
    machines: list[Machine] = []
    failing_thrice = DiffusionEngine(
        engine.sources,
        engine.options,
        device="cpu",
        settings=SMALL,
        load=load,
        examine=lambda choice: (machines or [examine(choice)])[0],
    )
    machines.append(Machine("cuda:0", "a GPU", 80 * GIB, 80 * GIB, 64 * GIB, True, True, True))
    with pytest.raises(EngineError) as failure:
        failing_thrice.prepare()
    assert [(placement.quantization, placement.offload) for placement in load.tried] == [
        ("none", "none"),
        ("fp8", "none"),
        ("nf4", "none"),
    ]
    assert str(failure.value) == (
        "The memory of a GPU ran out while the model was loaded with weights in bfloat16 and weights of 8 bits (fp8) "
        "and weights of 4 bits (nf4), and nothing smaller can be had here; end what else uses it, or "
        "use the engine correspondence."
    )
    # Memory may be there again later, so that the next call begins with the best.
    machines.clear()
    assert failing_thrice.plan().device.type == "cpu"
    assert failing_thrice.refine(request_).report.placed
    assert load.tried[-1].dtype == torch.float32


def test_memory_that_runs_out_before_anything_is_placed_is_told_in_a_sentence(engine: DiffusionEngine) -> None:
    calls: list[str | None] = []

    def full(choice: str | None) -> Machine:
        calls.append(choice)
        if len(calls) > 1:
            raise OUT_OF_MEMORY
        return examine(choice)

    crowded = DiffusionEngine(engine.sources, engine.options, device="cpu", examine=full)
    with pytest.raises(EngineError, match="is not enough to load the model"):
        crowded.prepare()


def test_a_callback_of_the_settings_is_called_at_each_step(engine: DiffusionEngine, request_: RefineRequest) -> None:
    plain, steps = engine.refine(request_), []

    def end_of_step(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        return {"latents": tensors["latents"] * 0.5}

    settings = replace(SMALL, callback_on_step_end=end_of_step)
    watched = DiffusionEngine(engine.sources, engine.options, device="cpu", settings=settings).refine(request_)
    assert steps == [0, 1, 2]
    assert watched.report.diffusion is not None
    assert watched.report.diffusion.steps == 3
    assert not np.array_equal(watched.image.pixels, plain.image.pixels)


def test_a_prompt_that_is_too_long_is_refused_and_the_engine_stays_usable(
    engine: DiffusionEngine, request_: RefineRequest
) -> None:
    with pytest.raises(InputError, match="tokens and the model reads 512"):
        engine.refine(replace(request_, object_name="a" * 300))
    assert engine.refine(request_).report.placed


def test_an_adapter_of_another_base_is_refused_every_time(
    tiny_base: Path, tmp_path: Path, request_: RefineRequest
) -> None:
    weights.save(inject(tiny_transformer(double_blocks=1)), tmp_path)
    engine = DiffusionEngine(Sources(str(tiny_base), str(tmp_path)), SpeedOptions(), device="cpu", settings=SMALL)
    for work in (engine.prepare, lambda: engine.refine(request_)):
        with pytest.raises(InputError, match="lacks"):
            work()


def test_weights_that_cannot_be_had_are_told_in_a_sentence(tmp_path: Path, request_: RefineRequest) -> None:
    engine = DiffusionEngine(Sources(str(tmp_path)), SpeedOptions(), device="cpu")
    for work in (engine.plan, engine.prepare, lambda: engine.refine(request_)):
        with pytest.raises(EngineError, match=r"there is no model_index\.json in it"):
            work()


def assert_nothing_is_left_over(engine: DiffusionEngine) -> None:
    if engine.loaded is None:
        return
    assert not hasattr(loaded(engine), "_loop_start")
    for processor in loaded(engine).transformer.attn_processors.values():
        assert getattr(processor, "key", None) is None


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> Callable[..., Any]:
    """Chooses where the environment names the tiny model on the CPU."""
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    monkeypatch.setenv("REFGC_BASE", str(tiny_base))
    monkeypatch.delenv("REFGC_ADAPTER", raising=False)
    monkeypatch.delenv("REFGC_SPEED", raising=False)
    return choose


def test_one_engine_serves_the_whole_process(chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = chosen("diffusion")
    assert isinstance(engine, DiffusionEngine)
    assert chosen("diffusion") is chosen("diffusion", speed="") is engine
    faster = chosen("diffusion", speed="step-cache=0.1")
    assert faster is not engine
    assert faster.options == SpeedOptions(step_cache=0.1)
    monkeypatch.setenv("REFGC_SPEED", "step-cache=0.1")
    assert chosen("diffusion") is faster
    monkeypatch.setenv("REFGC_ADAPTER", "someone/adapter")
    assert chosen("diffusion").sources.adapter == "someone/adapter"


def test_auto_never_takes_a_cpu_for_it(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, adapter: Path
) -> None:
    monkeypatch.setenv("REFGC_ADAPTER", str(adapter))
    assert isinstance(chosen("auto"), CorrespondenceEngine)


def test_auto_goes_back_to_correspondence_where_torch_finds_no_gpu(
    chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, adapter: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch finds a GPU here")
    monkeypatch.delenv("REFGC_DEVICE")
    monkeypatch.setenv("REFGC_ADAPTER", str(adapter))
    monkeypatch.setattr(doctor, "find_gpus", lambda: [Gpu(name="NVIDIA H100", memory_gib=80, driver="1")])
    monkeypatch.setattr(doctor, "missing_cuda", lambda: "")
    assert doctor.may_choose_diffusion()
    assert isinstance(chosen("auto"), CorrespondenceEngine)


def test_a_mistake_in_the_speed_options_is_told_whatever_engine_is_chosen(chosen: Callable[..., Any]) -> None:
    for name in ("auto", "correspondence", "diffusion"):
        with pytest.raises(InputError, match="no speed option"):
            chosen(name, speed="faster")
