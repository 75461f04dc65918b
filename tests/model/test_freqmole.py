"""FreqMoLE in a real, tiny FLUX transformer: nothing changes at first, it learns, folds in and comes out again."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from accelerate import cpu_offload
from diffusers import FluxTransformer2DModel
from diffusers.hooks import apply_group_offloading
from pydantic import ValidationError
from torch import Tensor, nn
from torch._dynamo.utils import counters

from refgc.errors import EngineError, InputError
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, FreqMoLELinear, FrequencyGate, inject
from refgc.model.initial_alpha import AlphaByDepth
from tests.support.tiny_freqmole import run, teach
from tests.support.tiny_models import tiny_transformer

FLUX_BLOCKS = 19 + 38
QUERY_WEIGHT = "transformer_blocks.0.attn.to_q.weight"


def module_types(transformer: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in transformer.named_modules()}


class EightBitLinear(nn.Module):
    """A quantised layer that is no nn.Linear: int8 rows, each with its scale."""

    scale: Tensor
    rows: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("scale", linear.weight.abs().amax(dim=1, keepdim=True) / 127)
        self.register_buffer("rows", (linear.weight / self.scale).round().to(torch.int8))
        self.bias = linear.bias

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight = self.rows.to(hidden_states.dtype) * self.scale.to(hidden_states.dtype)
        return nn.functional.linear(hidden_states, weight, self.bias)


def test_injection_changes_nothing() -> None:
    transformer = tiny_transformer()
    before = run(transformer)
    freqmole = inject(transformer)
    assert sum(isinstance(module, FreqMoLELinear) for module in transformer.modules()) == 12 * 2 + 5 * 3
    assert len(freqmole.alphas()) == 2 + 3
    assert torch.equal(run(transformer), before)
    assert not torch.equal(run(teach(freqmole).transformer), before)


def test_every_attention_and_feed_forward_projection_has_experts_and_no_other_layer() -> None:
    transformer = tiny_transformer(double_blocks=1, single_blocks=1)
    linear = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    inject(transformer)
    adapted = {name for name, module in transformer.named_modules() if isinstance(module, FreqMoLELinear)}
    left = {name for name in linear - adapted if "transformer_blocks." in name}
    assert left == {
        "transformer_blocks.0.norm1.linear",
        "transformer_blocks.0.norm1_context.linear",
        "single_transformer_blocks.0.norm.linear",
    }


def test_a_layer_computes_the_formula() -> None:
    torch.manual_seed(0)
    config = FreqMoLEConfig(rank=3, lora_alpha=6.0)
    gate = FrequencyGate(0.7, dtype=torch.float64, device=torch.device("cpu"))
    layer = FreqMoLELinear(nn.Linear(5, 4, dtype=torch.float64), gate, config, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    inputs = torch.randn(2, 7, 5, dtype=torch.float64)
    alpha = 1 / (1 + math.exp(-0.7))
    low = inputs @ layer.low_frequency_A.T @ layer.low_frequency_B.T
    high = inputs @ layer.high_frequency_A.T @ layer.high_frequency_B.T
    expected = layer.base(inputs) + 2 * (alpha * low + (1 - alpha) * high)
    torch.testing.assert_close(layer(inputs), expected)


def test_experts_start_as_loras_do() -> None:
    freqmole = inject(tiny_transformer(), generator=torch.Generator().manual_seed(5))
    again = inject(tiny_transformer(), generator=torch.Generator().manual_seed(5))
    assert all(map(torch.equal, freqmole.parameters(), again.parameters()))
    parameters = dict(freqmole.named_parameters())
    assert all(not parameter.any() for name, parameter in parameters.items() if name.endswith("_B"))
    # Kaiming's uniform distribution with LoRA's a = sqrt(5): up to 1 / sqrt(inputs), of which there are 32.
    low, high = (parameters[f"transformer_blocks.0.attn.to_q.{expert}_frequency_A"] for expert in ("low", "high"))
    assert 0.9 / math.sqrt(32) < low.abs().max() <= 1 / math.sqrt(32)
    assert not torch.equal(low, high)


def test_the_gates_of_flux_start_as_figure_5_says() -> None:
    alphas = [torch.tensor(AlphaByDepth().logit(block, FLUX_BLOCKS)).sigmoid().item() for block in range(FLUX_BLOCKS)]
    assert alphas[:3] == pytest.approx([0.9] * 3)
    assert alphas[-6:] == pytest.approx([0.1] * 6)
    assert all(earlier > later for earlier, later in pairwise(alphas[2:-5]))
    logits = [math.log(alpha / (1 - alpha)) for alpha in alphas[3:-6]]
    steps = [later - earlier for earlier, later in pairwise(logits)]
    assert steps == pytest.approx([steps[0]] * len(steps), abs=1e-5)


def test_the_gates_run_through_both_kinds_of_blocks() -> None:
    config = FreqMoLEConfig(initial_alpha=AlphaByDepth(early=0.8, late=0.3, early_until=0.1, late_from=0.7))
    alphas = inject(tiny_transformer(), config).alphas()
    assert list(alphas) == [f"transformer_blocks.{i}" for i in range(2)] + [
        f"single_transformer_blocks.{i}" for i in range(3)
    ]
    assert alphas["transformer_blocks.0"] == pytest.approx(0.8)
    assert list(alphas.values()) == sorted(alphas.values(), reverse=True)
    assert alphas["single_transformer_blocks.1"] == alphas["single_transformer_blocks.2"] == pytest.approx(0.3)


def test_only_experts_and_gates_learn_and_each_gate_is_registered_once() -> None:
    transformer = tiny_transformer().requires_grad_(True)
    freqmole = inject(transformer)
    learnt = {
        name for name, parameter in transformer.named_parameters(remove_duplicate=False) if parameter.requires_grad
    }
    assert learnt == {name for name, _ in freqmole.named_parameters()}
    gates = [name for name in transformer.state_dict() if "gate" in name]
    assert gates == [f"{block}.frequency_gate.logit" for block in freqmole.alphas()]


def test_training_moves_experts_and_gates_towards_the_target() -> None:
    transformer = tiny_transformer()
    base = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    freqmole = inject(transformer, FreqMoLEConfig(rank=4, lora_alpha=4))
    start = {name: parameter.detach().clone() for name, parameter in freqmole.named_parameters()}
    target = run(transformer).detach() + 0.1 * torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(freqmole.parameters(), lr=0.003)
    losses = []
    for _ in range(10):
        loss = (run(transformer) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert not [name for name, parameter in freqmole.named_parameters() if torch.equal(parameter, start[name])]
    freqmole.remove()
    assert all(torch.equal(tensor, base[name]) for name, tensor in transformer.state_dict().items())


def test_the_gate_weighs_the_experts() -> None:
    freqmole = teach(inject(tiny_transformer()))
    parameters = dict(freqmole.named_parameters())
    outputs = []
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("logit"):
                parameter.fill_(30.0)
        outputs.append(run(freqmole.transformer))
        for name, parameter in parameters.items():
            if name.endswith("high_frequency_B"):
                parameter.zero_()
        outputs.append(run(freqmole.transformer))
        for name, parameter in parameters.items():
            if name.endswith("low_frequency_B"):
                parameter.zero_()
        outputs.append(run(freqmole.transformer))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert (outputs[1] - outputs[2]).abs().max() > 0.1


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_fusing_keeps_the_output_and_unfusing_restores_every_bit(dtype: torch.dtype, tolerance: float) -> None:
    transformer = tiny_transformer().to(dtype)
    stock_types, stock_weights = module_types(transformer), copy.deepcopy(transformer.state_dict())
    freqmole = teach(inject(transformer))
    injected = run(transformer, dtype)
    taught = {name: parameter.detach().clone() for name, parameter in freqmole.named_parameters()}

    freqmole.fuse()
    assert freqmole.is_fused
    assert module_types(transformer) == stock_types
    assert list(transformer.state_dict()) == list(stock_weights)
    torch.testing.assert_close(run(transformer, dtype), injected, atol=tolerance, rtol=0)
    fused_weights = transformer.state_dict()
    assert not torch.equal(fused_weights[QUERY_WEIGHT], stock_weights[QUERY_WEIGHT])

    freqmole.unfuse()
    assert not freqmole.is_fused
    assert torch.equal(run(transformer, dtype), injected)
    assert all(torch.equal(parameter, taught[name]) for name, parameter in freqmole.named_parameters())

    freqmole.remove()
    assert module_types(transformer) == stock_types
    assert all(torch.equal(tensor, stock_weights[name]) for name, tensor in transformer.state_dict().items())


@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_fused_weights_are_the_exact_sums_rounded_once_to_the_nearest(dtype: torch.dtype, digits: int) -> None:
    """Rounding factors or products as well, cutting digits off, or keeping fp32 would each break this."""
    transformer = tiny_transformer().to(dtype)
    freqmole = teach(inject(transformer))
    exact = {
        name: transformer.get_submodule(name).base.weight.double() + (up.double() @ down.double())
        for name, down, up in freqmole.factors()
    }
    freqmole.fuse()
    for name, sums in exact.items():
        weight = transformer.get_submodule(name).weight
        assert weight.dtype == dtype
        # Half of the distance between neighbouring numbers of so many binary digits, and what fp32 itself loses.
        half_a_step = torch.exp2(sums.abs().log2().floor() - digits)
        assert ((weight.double() - sums).abs() <= half_a_step + 1e-6).all(), name


def test_fusing_untaught_experts_changes_no_weight() -> None:
    transformer = tiny_transformer().to(torch.bfloat16)
    before = copy.deepcopy(transformer.state_dict())
    inject(transformer).fuse()
    assert all(torch.equal(tensor, before[name]) for name, tensor in transformer.state_dict().items())


def test_fusing_and_unfusing_twice_is_as_good_as_once() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    freqmole.unfuse()
    freqmole.fuse()
    fused = run(transformer)
    freqmole.fuse()
    assert torch.equal(run(transformer), fused)


def test_running_out_of_memory_while_fusing_changes_no_output_and_can_be_gone_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    injected = run(transformer)
    add, sums = torch.addmm, iter(range(20))

    def tight(*factors: Tensor) -> Tensor:
        if next(sums, None) is None:
            raise torch.OutOfMemoryError
        return add(*factors)

    monkeypatch.setattr(torch, "addmm", tight)
    with pytest.raises(torch.OutOfMemoryError):
        freqmole.fuse()
    monkeypatch.undo()
    assert not freqmole.is_fused
    assert 0 < sum(isinstance(module, FreqMoLELinear) for module in transformer.modules()) < 39
    torch.testing.assert_close(run(transformer), injected, atol=1e-5, rtol=0)
    freqmole.fuse()
    assert freqmole.is_fused
    torch.testing.assert_close(run(transformer), injected, atol=1e-5, rtol=0)
    freqmole.unfuse()
    assert torch.equal(run(transformer), injected)


def test_without_the_base_kept_there_is_no_way_back() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    injected, alphas = run(transformer), freqmole.alphas()
    freqmole.fuse(keep_base=False)
    torch.testing.assert_close(run(transformer), injected, atol=1e-5, rtol=0)
    assert freqmole.alphas() == alphas
    for change in (freqmole.unfuse, freqmole.remove):
        with pytest.raises(EngineError, match="were not kept; load the base model again"):
            change()


def test_experts_work_around_quantised_layers_that_cannot_be_fused() -> None:
    transformer = tiny_transformer()
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.attn.to_q = EightBitLinear(block.attn.to_q)
    before = run(transformer)
    freqmole = inject(transformer)
    assert torch.equal(run(transformer), before)
    injected = run(teach(freqmole).transformer)
    with pytest.raises(EngineError, match=r"to_q is quantised or wrapped \(EightBitLinear\): fuse FreqMoLE before"):
        freqmole.fuse()
    assert not freqmole.is_fused
    assert torch.equal(run(transformer), injected)


def test_layers_stored_in_fp8_cannot_be_fused() -> None:
    transformer = tiny_transformer()
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    before = run(transformer)
    freqmole = inject(transformer)
    assert torch.equal(run(transformer), before)
    with pytest.raises(EngineError, match="fuse FreqMoLE before quantising"):
        freqmole.fuse()


def test_a_transformer_quantised_after_fusing_is_not_unfused() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    freqmole.fuse()
    attention = transformer.single_transformer_blocks[2].attn
    attention.to_v = EightBitLinear(attention.to_v)
    fused = run(transformer)
    with pytest.raises(EngineError, match="unfuse it after they are gone"):
        freqmole.unfuse()
    assert torch.equal(run(transformer), fused)


def gradients(transformer: FluxTransformer2DModel, freqmole: FreqMoLE, dtype: torch.dtype) -> list[Tensor]:
    for parameter in freqmole.parameters():
        parameter.grad = None
    run(transformer, dtype).float().square().mean().backward()
    return [parameter.grad for parameter in freqmole.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_checkpointing_gives_the_same_gradients_in_fp32(dtype: torch.dtype) -> None:
    transformer = tiny_transformer().to(dtype).train()
    freqmole = teach(inject(transformer))
    assert transformer.dtype == dtype
    plain = gradients(transformer, freqmole, dtype)
    transformer.enable_gradient_checkpointing()
    checkpointed = gradients(transformer, freqmole, dtype)
    assert len(plain) == len(list(freqmole.parameters()))
    assert all(gradient.dtype == torch.float32 and gradient.any() for gradient in plain)
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other)


def test_autocast_changes_nothing_but_the_rounding() -> None:
    transformer = tiny_transformer().to(torch.bfloat16)
    freqmole = teach(inject(transformer))
    plain = gradients(transformer, freqmole, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        cast = gradients(transformer, freqmole, torch.bfloat16)
    for one, other in zip(plain, cast, strict=True):
        assert other.dtype == torch.float32
        assert (one - other).norm() < 0.1 * one.norm()


def test_the_dtype_of_experts_is_a_choice_and_follows_the_transformer() -> None:
    freqmole = inject(tiny_transformer(), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in freqmole.parameters()} == {torch.bfloat16}
    assert run(freqmole.transformer).dtype == torch.float32
    freqmole.transformer.to(torch.float64)
    assert {parameter.dtype for parameter in freqmole.parameters()} == {torch.float64}
    assert run(freqmole.transformer, torch.float64).dtype == torch.float64


def test_copies_stand_alone() -> None:
    original = teach(inject(tiny_transformer()))
    before = run(original.transformer)
    twin = copy.deepcopy(original)
    lone_transformer = copy.deepcopy(original.transformer)
    assert torch.equal(run(lone_transformer), before)
    teach(twin, seed=4)
    assert not torch.equal(run(twin.transformer), before)
    assert twin.alphas() != original.alphas()
    assert torch.equal(run(original.transformer), before)
    gates = lone_transformer.transformer_blocks[0].frequency_gate
    with torch.no_grad():
        gates.logit.fill_(-5.0)
    assert not torch.equal(run(lone_transformer), before)
    twin.fuse()
    assert not original.is_fused
    assert torch.equal(run(original.transformer), before)


def graphs_of(prepare: Callable[[FluxTransformer2DModel], object]) -> tuple[int, Tensor, Tensor]:
    """How many graphs the blocks compile to, and the outputs before and after."""
    torch._dynamo.reset()
    counters.clear()
    transformer = tiny_transformer(single_blocks=0)
    prepare(transformer)
    with torch.no_grad():
        plain = run(transformer)
        transformer.compile_repeated_blocks(fullgraph=True, backend="eager")
        compiled = run(transformer)
    return counters["stats"]["unique_graphs"], plain, compiled


def test_blocks_compile_whole_and_share_their_graphs_as_stock_blocks_do() -> None:
    stock, *_ = graphs_of(lambda transformer: transformer)
    injected, plain, compiled = graphs_of(lambda transformer: teach(inject(transformer)))
    assert injected == stock > 0
    assert torch.equal(plain, compiled)


def test_weights_may_be_offloaded_layer_by_layer() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    before = run(transformer)
    cpu = torch.device("cpu")
    apply_group_offloading(transformer, onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    assert torch.equal(run(freqmole.transformer), before)


def test_targets_are_patterns_within_a_block() -> None:
    config = FreqMoLEConfig(double_stream_targets=("attn.to_[qk]", "ff*"), single_stream_targets=())
    transformer = tiny_transformer(double_blocks=1)
    freqmole = inject(transformer, config)
    assert list(freqmole.alphas()) == ["transformer_blocks.0"]
    assert {name for name, module in transformer.named_modules() if isinstance(module, FreqMoLELinear)} == {
        f"transformer_blocks.0.{name}"
        for name in ("attn.to_q", "attn.to_k", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
    }


def test_a_target_that_matches_nothing_is_refused() -> None:
    transformer = tiny_transformer()
    stock = module_types(transformer)
    with pytest.raises(InputError, match=r"'attn\.to_r' matches no projection of single_transformer_blocks"):
        inject(transformer, FreqMoLEConfig(single_stream_targets=("attn.to_q", "attn.to_r")))
    assert module_types(transformer) == stock


def test_targets_of_blocks_that_a_transformer_has_not_are_no_mistake() -> None:
    assert len(inject(tiny_transformer(single_blocks=0)).alphas()) == 2


def test_a_second_freqmole_goes_only_onto_a_fused_one() -> None:
    transformer = tiny_transformer()
    first = teach(inject(transformer))
    with pytest.raises(EngineError, match="has a FreqMoLE already"):
        inject(transformer)
    first.fuse(keep_base=False)
    fused = run(transformer)
    inject(transformer)
    assert torch.equal(run(transformer), fused)


def test_fused_attention_projections_are_refused() -> None:
    transformer = tiny_transformer()
    transformer.fuse_qkv_projections()
    with pytest.raises(EngineError, match="call unfuse_qkv_projections"):
        inject(transformer)


def test_experts_do_not_come_out_of_projections_that_were_fused_with_them() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    injected = run(transformer)
    freqmole.fuse()
    fused = run(transformer)
    transformer.fuse_qkv_projections()
    for change in (freqmole.unfuse, freqmole.remove):
        with pytest.raises(EngineError, match="call unfuse_qkv_projections"):
            change()
    torch.testing.assert_close(run(transformer), fused, atol=1e-5, rtol=0)
    transformer.unfuse_qkv_projections()
    freqmole.unfuse()
    assert torch.equal(run(transformer), injected)


def test_lifted_experts_are_put_back_around_what_came_meanwhile() -> None:
    transformer = tiny_transformer()
    stock = module_types(transformer)
    freqmole = teach(inject(transformer))
    injected, names = run(transformer), list(transformer.state_dict())
    with freqmole.lifted():
        assert module_types(transformer) == stock
        query = transformer.transformer_blocks[0].attn.to_q
        transformer.transformer_blocks[0].attn.to_q = EightBitLinear(query)
    assert isinstance(transformer.transformer_blocks[0].attn.to_q.base, EightBitLinear)
    assert not torch.equal(run(transformer), injected)
    with freqmole.lifted():
        transformer.transformer_blocks[0].attn.to_q = query
    assert torch.equal(run(transformer), injected)
    assert list(transformer.state_dict()) == names


def test_offloaded_weights_are_refused() -> None:
    with pytest.raises(EngineError, match="put FreqMoLE on it before"):
        inject(tiny_transformer().to("meta"))


def test_what_accelerate_offloaded_is_told_in_a_sentence_and_nothing_is_changed() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    before = run(transformer)
    cpu_offload(transformer, torch.device("cpu"))
    reads: list[Callable[[], object]] = [
        freqmole.fuse,
        lambda: list(freqmole.named_parameters()),
        lambda: list(freqmole.factors()),
    ]
    for read in reads:
        with pytest.raises(EngineError, match="is offloaded, where it cannot be read"):
            read()
    assert torch.equal(run(transformer), before)


def test_what_was_offloaded_after_fusing_is_not_unfused() -> None:
    transformer = tiny_transformer()
    freqmole = teach(inject(transformer))
    freqmole.fuse()
    fused = run(transformer)
    cpu_offload(transformer, torch.device("cpu"))
    with pytest.raises(EngineError, match="is offloaded, where it cannot be read"):
        freqmole.unfuse()
    assert torch.equal(run(transformer), fused)


def test_a_config_survives_its_file() -> None:
    config = FreqMoLEConfig(
        rank=4,
        lora_alpha=2,
        single_stream_targets=("proj_*",),
        base="a/b",
        base_fingerprint="0f",
        reference_cache=True,
        guidance=1.0,
        whole=True,
        prompt="sharpen the {object}",
        enlargement="clean",
    )
    assert config.scaling == 0.5
    assert FreqMoLEConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"lora_alpha": 0},
        {"initial_alpha": {"early": 1.0}},
        {"initial_alpha": {"early_until": 0.9, "late_from": 0.9}},
        {"double_stream_targets": (), "single_stream_targets": ()},
        {"ranks": 4},
        {"guidance": -1},
        {"guidance": math.inf},
        {"lora_alpha": math.inf},
        {"prompt": "sharpen it"},
        {"enlargement": "lanczos"},
    ],
)
def test_a_senseless_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FreqMoLEConfig.model_validate(wrong)
