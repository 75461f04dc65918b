"""Speed options: read as people write them, applied to the real tiny model, and each as lossless as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import FirstBlockCacheConfig, FluxTransformer2DModel
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.utils import counters

from refgc.errors import EngineError, InputError
from refgc.flux.acceleration import apply
from refgc.flux.speed import SpeedOptions
from refgc.model import reference_cache
from refgc.model.engine import DiffusionEngine
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.pipeline import RefGCSR2Pipeline
from tests.support.tiny_freqmole import run, teach
from tests.support.tiny_models import tiny_transformer


@pytest.fixture
def pipeline(tiny_base: Path) -> RefGCSR2Pipeline:
    """With experts that have learnt something, in fp32."""
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, text_encoder=None, text_encoder_2=None)
    pipeline.freqmole = teach(inject(pipeline.transformer, FreqMoLEConfig(rank=2)))
    return pipeline


@contextmanager
def counted(transformer: FluxTransformer2DModel) -> Iterator[Counter[str]]:
    """How often each attention runs."""
    calls: Counter[str] = Counter()

    def count(name: str) -> object:
        return lambda *_: calls.update([name])

    handles = [
        module.register_forward_hook(count(name))
        for name, module in transformer.named_modules()
        if name.endswith(".attn")
    ]
    yield calls
    for handle in handles:
        handle.remove()


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


def test_options_are_read_as_written() -> None:
    read = SpeedOptions.parse(" compile, no-fuse,step-cache=0.1 ,attention-backend=_native_math,quantization=fp8")
    assert read == SpeedOptions(
        compile=True, fuse=False, step_cache=0.1, attention_backend="_native_math", quantization="fp8"
    )
    assert SpeedOptions.parse("") == SpeedOptions.parse(" , ") == SpeedOptions()
    assert SpeedOptions.parse("reference-cache,no-compact-generated") == SpeedOptions(
        reference_cache=True, compact_generated=False
    )


@given(
    st.builds(
        SpeedOptions,
        step_cache=st.none() | st.floats(0.001, 0.999),
        attention_backend=st.none() | st.sampled_from(["flash", "_native_cudnn"]),
    )
)
def test_what_is_written_is_read_back(options: SpeedOptions) -> None:
    assert SpeedOptions.parse(str(options)) == options


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("comple", "'comple' is no speed option; give some of fuse, reference-cache"),
        ("compile=yes", "'compile=yes' is no speed option"),
        ("step-cache", "'step-cache' is no speed option"),
        ("no-step-cache", "'no-step-cache' is no speed option"),
        ("step-cache=2", "step-cache is '2'; input should be less than 1"),
        ("step-cache=much", "step-cache is 'much'; input should be a valid number"),
        ("quantization=int4", "quantization is 'int4'; input should be 'none', 'int8', 'fp8' or 'nf4'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError) as failure:
        SpeedOptions.parse(text)
    assert said in str(failure.value)
    assert str(failure.value).endswith(".")
    assert "\n" not in str(failure.value)


def test_every_option_says_what_it_changes() -> None:
    for name, field in SpeedOptions.model_fields.items():
        assert field.description, name
        assert "result" in field.description, name


def test_fused_experts_leave_a_stock_transformer_with_the_same_output(pipeline: RefGCSR2Pipeline) -> None:
    before = run(pipeline.transformer)
    assert pipeline.freqmole is not None
    apply(pipeline, SpeedOptions(fuse=False))
    assert not pipeline.freqmole.is_fused
    apply(pipeline, SpeedOptions())
    assert pipeline.freqmole.is_fused
    assert [type(module) for module in pipeline.transformer.modules()] == [
        type(module) for module in tiny_transformer().modules()
    ]
    assert relative(run(pipeline.transformer), before) < 1e-5


def test_the_attention_backend_is_that_of_this_model_alone(pipeline: RefGCSR2Pipeline) -> None:
    active = _AttentionBackendRegistry.get_active_backend()
    before = run(pipeline.transformer)
    apply(pipeline, SpeedOptions(attention_backend="_native_math"))
    reference_cache.install(pipeline.transformer)
    assert {processor._attention_backend.value for processor in pipeline.transformer.attn_processors.values()} == {
        "_native_math"
    }
    assert _AttentionBackendRegistry.get_active_backend() == active
    assert relative(run(pipeline.transformer), before) < 1e-5


@pytest.mark.parametrize("backend", ["fastest", "flash", "sage", "_flash_3_hub"])
def test_a_backend_that_is_not_there_is_a_sentence(pipeline: RefGCSR2Pipeline, backend: str) -> None:
    before = run(pipeline.transformer)
    with pytest.raises(EngineError) as failure:
        apply(pipeline, SpeedOptions(fuse=False, attention_backend=backend))
    assert str(failure.value).startswith(f"The attention backend {backend!r} cannot be had here (")
    assert "\n" not in str(failure.value)
    assert torch.equal(run(pipeline.transformer), before)


def test_the_step_cache_leaves_out_all_blocks_but_the_first(pipeline: RefGCSR2Pipeline) -> None:
    transformer = pipeline.transformer
    first, last = "transformer_blocks.0.attn", "single_transformer_blocks.2.attn"
    with torch.no_grad():
        for options, times in (
            (SpeedOptions(step_cache=0.5), 1),
            (SpeedOptions(), 3),
            (SpeedOptions(step_cache=0.1), 1),
        ):
            apply(pipeline, options)
            with counted(transformer) as calls, transformer.cache_context("denoise"):
                for _ in range(3):
                    run(transformer)
            assert calls == {**dict.fromkeys(calls, times), first: 3}
            assert last in calls
    assert transformer._cache_config == FirstBlockCacheConfig(threshold=0.1)


def graphs_of(transformer: FluxTransformer2DModel) -> tuple[int, torch.Tensor]:
    """How many graphs one forward compiles to, and its output."""
    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad(), transformer.cache_context("denoise"):
        output = run(transformer)
    return counters["stats"]["unique_graphs"], output


def test_blocks_are_compiled_beyond_the_number_of_graphs_that_torch_allows_by_itself(
    pipeline: RefGCSR2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    transformer = pipeline.transformer
    with torch._dynamo.config.patch(recompile_limit=1):
        apply(pipeline, SpeedOptions(compile=True))
        graphs, _ = graphs_of(transformer)
        with torch.no_grad():
            run(transformer.double(), torch.float64)
    assert counters["stats"]["unique_graphs"] > graphs > 0


def test_compiling_uses_no_argument_that_torch_2_11_lacks(
    pipeline: RefGCSR2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, object]] = []

    def listen(function: object, **options: object) -> object:
        given.append(options)
        return function

    monkeypatch.setattr(torch, "compile", listen)
    with torch._dynamo.config.patch(recompile_limit=100):
        apply(pipeline, SpeedOptions(compile=True))
        assert torch._dynamo.config.recompile_limit == 100
    assert given == [{"dynamic": None}] * (2 + 3)


def test_nothing_is_compiled_for_a_gpu_that_is_lent_for_one_call(
    pipeline: RefGCSR2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    options = SpeedOptions.parse("compile")
    for refused in (lambda: apply(pipeline, options), lambda: DiffusionEngine(options=options, device="cpu")):
        with pytest.raises(EngineError, match="leave compile out of REFGC_SPEED"):
            refused()
    assert pipeline.freqmole is not None
    assert not pipeline.freqmole.is_fused
    DiffusionEngine(options=SpeedOptions(), device="cpu")


@pytest.mark.parametrize("options", [SpeedOptions(compile=True), SpeedOptions(compile=True, step_cache=0.5)])
def test_blocks_share_their_graphs_as_stock_blocks_do_also_beneath_a_step_cache(
    pipeline: RefGCSR2Pipeline, monkeypatch: pytest.MonkeyPatch, options: SpeedOptions
) -> None:
    stock = tiny_transformer()
    stock.compile_repeated_blocks(backend="eager")
    graphs, _ = graphs_of(stock)
    before = run(pipeline.transformer)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    apply(pipeline, options)
    compiled_graphs, compiled = graphs_of(pipeline.transformer)
    assert compiled_graphs == graphs > 0
    assert relative(compiled, before) < 1e-5
