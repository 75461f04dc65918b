"""The reference cache against one joint forward, written out here, in which a mask says who sees whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig, FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor, FluxIPAdapterAttnProcessor
from torch import Tensor
from torch.nn import functional

from refgc.errors import EngineError
from refgc.model.reference_cache import READ, ReferenceCacheProcessor, clear, fill, install
from refgc.model.tokens import HRRI, LRGI, NOISE, position_ids
from tests.support.tiny_models import LATENT_CHANNELS, POOLED_WIDTH, TEXT_WIDTH, tiny_transformer

BATCH, TEXT = 2, 5
DOUBLE_BLOCKS, SINGLE_BLOCKS = 2, 3
NOISE_SIZE, COMPACT_SIZE = (8, 12), (4, 6)
CPU = torch.device("cpu")
TOLERANCE = 1e-4


@dataclass
class Inputs:
    text: Tensor
    noise: Tensor
    noise_ids: Tensor
    condition: Tensor
    condition_ids: Tensor
    pooled: Tensor
    guidance: Tensor


def make_inputs(seed: int = 0) -> Inputs:
    """Two samples; the LRGI at half size, at fractional positions."""
    draw = torch.Generator().manual_seed(seed)
    noise_ids = position_ids(NOISE_SIZE, NOISE, device=CPU)
    condition_ids = torch.cat(
        [position_ids(NOISE_SIZE, HRRI, device=CPU), position_ids(COMPACT_SIZE, LRGI, over=NOISE_SIZE, device=CPU)]
    )
    assert condition_ids.frac().any()
    return Inputs(
        text=torch.randn(BATCH, TEXT, TEXT_WIDTH, generator=draw),
        noise=torch.randn(BATCH, len(noise_ids), 4 * LATENT_CHANNELS, generator=draw),
        noise_ids=noise_ids,
        condition=torch.randn(BATCH, len(condition_ids), 4 * LATENT_CHANNELS, generator=draw),
        condition_ids=condition_ids,
        pooled=torch.randn(BATCH, POOLED_WIDTH, generator=draw),
        guidance=torch.tensor([2.5, 3.5]),
    )


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return tiny_transformer(double_blocks=DOUBLE_BLOCKS, single_blocks=SINGLE_BLOCKS)


def forward(transformer: FluxTransformer2DModel, inputs: Inputs, sigma: float, **kwargs):
    return transformer(
        hidden_states=inputs.noise,
        encoder_hidden_states=inputs.text,
        pooled_projections=inputs.pooled,
        timestep=torch.full((BATCH,), sigma),
        img_ids=inputs.noise_ids,
        txt_ids=torch.zeros(TEXT, 3),
        guidance=inputs.guidance,
        return_dict=False,
        **kwargs,
    )[0]


def fill_with(transformer: FluxTransformer2DModel, inputs: Inputs) -> None:
    fill(transformer, inputs.condition, inputs.condition_ids, inputs.pooled, inputs.guidance)


def read(transformer: FluxTransformer2DModel, inputs: Inputs, sigma: float):
    return forward(transformer, inputs, sigma, joint_attention_kwargs=dict(READ))


def rotated(heads: Tensor, ids: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Pairs of neighbouring channels as complex numbers, each turned by its token's position."""
    angles = [
        ids[:, axis, None].double() * 10_000 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        for axis, width in enumerate(axes)
    ]
    turn = torch.polar(torch.ones(()).double(), torch.cat(angles, dim=1))
    pairs = torch.view_as_complex(heads.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn[None, :, None]).flatten(-2).to(heads.dtype)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, may_see: Tensor) -> Tensor:
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~may_see, float("-inf")).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2)


def modulation(norm: Any, embedding: Tensor, parts: int):
    return norm.linear(functional.silu(embedding)).chunk(parts, dim=-1)


def standardised(states: Tensor) -> Tensor:
    return functional.layer_norm(states, states.shape[-1:], eps=1e-6)


def joint_forward(transformer: FluxTransformer2DModel, inputs: Inputs, sigma: float):
    """All tokens at once: conditions see conditions only and are modulated as at timestep 0."""
    noise, condition = inputs.noise.shape[1], inputs.condition.shape[1]
    ids = torch.cat([torch.zeros(TEXT, 3), inputs.noise_ids, inputs.condition_ids])
    is_condition = torch.arange(TEXT + noise + condition) >= TEXT + noise
    may_see = ~is_condition[:, None] | is_condition[None, :]
    axes = transformer.config.axes_dims_rope

    def embedded(timestep: float):
        return transformer.time_text_embed(torch.full((BATCH,), timestep), inputs.guidance * 1000, inputs.pooled)

    now, at_zero = embedded(sigma * 1000)[:, None], embedded(0.0)[:, None]
    embedding = torch.where(is_condition[None, :, None], at_zero, now)
    image_embedding = embedding[:, TEXT:]

    def heads(linear: Any, states: Tensor):
        return linear(states).unflatten(-1, (transformer.config.num_attention_heads, -1))

    text = transformer.context_embedder(inputs.text)
    image = transformer.x_embedder(torch.cat([inputs.noise, inputs.condition], dim=1))
    for block in transformer.transformer_blocks:
        attention = block.attn
        shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation(block.norm1, image_embedding, 6)
        text_shift, text_scale, text_gate, text_ff_shift, text_ff_scale, text_ff_gate = modulation(
            block.norm1_context, now, 6
        )
        image_in = standardised(image) * (1 + scale) + shift
        text_in = standardised(text) * (1 + text_scale) + text_shift
        query = torch.cat(
            [
                attention.norm_added_q(heads(attention.add_q_proj, text_in)),
                attention.norm_q(heads(attention.to_q, image_in)),
            ],
            dim=1,
        )
        key = torch.cat(
            [
                attention.norm_added_k(heads(attention.add_k_proj, text_in)),
                attention.norm_k(heads(attention.to_k, image_in)),
            ],
            dim=1,
        )
        value = torch.cat([heads(attention.add_v_proj, text_in), heads(attention.to_v, image_in)], dim=1)
        attended = masked_attention(rotated(query, ids, axes), rotated(key, ids, axes), value, may_see)
        image = image + gate * attention.to_out[0](attended[:, TEXT:])
        text = text + text_gate * attention.to_add_out(attended[:, :TEXT])
        image = image + ff_gate * block.ff(standardised(image) * (1 + ff_scale) + ff_shift)
        text = text + text_ff_gate * block.ff_context(standardised(text) * (1 + text_ff_scale) + text_ff_shift)
    states = torch.cat([text, image], dim=1)
    for block in transformer.single_transformer_blocks:
        attention = block.attn
        shift, scale, gate = modulation(block.norm, embedding, 3)
        states_in = standardised(states) * (1 + scale) + shift
        attended = masked_attention(
            rotated(attention.norm_q(heads(attention.to_q, states_in)), ids, axes),
            rotated(attention.norm_k(heads(attention.to_k, states_in)), ids, axes),
            heads(attention.to_v, states_in),
            may_see,
        )
        feed_forward = functional.gelu(block.proj_mlp(states_in), approximate="tanh")
        states = states + gate * block.proj_out(torch.cat([attended, feed_forward], dim=2))
    scale, shift = modulation(transformer.norm_out, now, 2)
    return transformer.proj_out(standardised(states[:, TEXT : TEXT + noise]) * (1 + scale) + shift)


def test_one_fill_serves_every_timestep_as_the_joint_forward_does(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    fill_with(transformer, inputs)
    outputs = {sigma: read(transformer, inputs, sigma) for sigma in (0.9, 0.2)}
    assert outputs[0.9].shape == inputs.noise.shape
    assert not torch.allclose(outputs[0.9], outputs[0.2], atol=0.1)
    for sigma, output in outputs.items():
        assert_near(output, joint_forward(transformer, inputs, sigma))


def test_the_conditions_change_the_output(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    fill_with(transformer, inputs)
    output = read(transformer, inputs, 0.5)
    fill_with(transformer, replace(inputs, condition=inputs.condition.flip(1)))
    assert not torch.allclose(output, read(transformer, inputs, 0.5), atol=0.01)


def test_every_sample_of_a_batch_is_its_own(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    fill_with(transformer, inputs)
    together = read(transformer, inputs, 0.5)
    fill(transformer, inputs.condition[1:], inputs.condition_ids, inputs.pooled[1:], inputs.guidance[1:])
    alone = transformer(
        hidden_states=inputs.noise[1:],
        encoder_hidden_states=inputs.text[1:],
        pooled_projections=inputs.pooled[1:],
        timestep=torch.tensor([0.5]),
        img_ids=inputs.noise_ids,
        txt_ids=torch.zeros(TEXT, 3),
        guidance=inputs.guidance[1:],
        joint_attention_kwargs=dict(READ),
        return_dict=False,
    )[0]
    assert_near(together[1:], alone)


def gradients(transformer: FluxTransformer2DModel, inputs: Inputs, output: Tensor) -> list[Tensor | None]:
    target = torch.randn(output.shape, generator=torch.Generator().manual_seed(9))
    weights = list(transformer.parameters())
    return list(torch.autograd.grad((output * target).sum(), [inputs.condition, *weights], allow_unused=True))


def cached_gradients(transformer: FluxTransformer2DModel, inputs: Inputs) -> list[Tensor | None]:
    fill_with(transformer, inputs)
    return gradients(transformer, inputs, read(transformer, inputs, 0.7))


def test_gradients_flow_into_conditions_and_weights_as_in_the_joint_forward(
    transformer: FluxTransformer2DModel,
) -> None:
    transformer.requires_grad_(True)
    inputs = make_inputs()
    inputs.condition.requires_grad_(True)
    expected = gradients(transformer, inputs, joint_forward(transformer, inputs, 0.7))
    found = cached_gradients(transformer, inputs)
    names = ["conditions", *(name for name, _ in transformer.named_parameters())]
    assert expected[0] is not None
    assert expected[0].abs().max() > 1e-2
    for name, left, right in zip(names, found, expected, strict=True):
        if right is None:
            assert left is None, name
        else:
            # Sums over many terms in single precision err by a part of the largest.
            largest = right.abs().max().item()
            torch.testing.assert_close(
                left, right, rtol=1e-3, atol=1e-4 * (1 + largest), msg=f"gradient of {name}, at most {largest}"
            )


def test_gradient_checkpointing_changes_no_gradient(transformer: FluxTransformer2DModel) -> None:
    transformer.requires_grad_(True).train()
    inputs = make_inputs()
    inputs.condition.requires_grad_(True)
    plain = cached_gradients(transformer, inputs)
    clear(transformer)
    transformer.enable_gradient_checkpointing()
    checkpointed = cached_gradients(transformer, inputs)
    clear(transformer)
    for left, right in zip(checkpointed, plain, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused_projections", [False, True])
def test_without_a_pass_it_is_the_stock_processor(transformer: FluxTransformer2DModel, fused_projections: bool) -> None:
    inputs = make_inputs()
    if fused_projections:
        transformer.fuse_qkv_projections()
    assert {type(one) for one in transformer.attn_processors.values()} == {FluxAttnProcessor}
    stock = forward(transformer, inputs, 0.4)
    install(transformer)
    assert all(isinstance(one, ReferenceCacheProcessor) for one in transformer.attn_processors.values())
    assert torch.equal(forward(transformer, inputs, 0.4), stock)
    fill_with(transformer, inputs)
    assert torch.equal(forward(transformer, inputs, 0.4), stock)


def test_fused_projections_fill_and_read_alike(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    fill_with(transformer, inputs)
    apart = read(transformer, inputs, 0.4)
    transformer.fuse_qkv_projections()
    fill_with(transformer, inputs)
    assert_near(read(transformer, inputs, 0.4), apart)
    kept = transformer.single_transformer_blocks[0].attn.processor.value
    assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_no_layer_is_asked_to_project_nothing(transformer: FluxTransformer2DModel) -> None:
    """Layers that quantise their input to 8 bits fail on an empty one."""
    rows = []
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, given: rows.append(given[0].numel()))
    fill_with(transformer, make_inputs())
    assert rows
    assert min(rows) > 0


def test_clear_frees_what_was_kept(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    fill_with(transformer, inputs)
    processors = list(transformer.attn_processors.values())
    assert len(processors) == DOUBLE_BLOCKS + SINGLE_BLOCKS
    for processor in processors:
        assert processor.key.shape == processor.value.shape == (BATCH, len(inputs.condition_ids), 2, 16)
    clear(transformer)
    assert all(processor.key is None and processor.value is None for processor in processors)
    with pytest.raises(EngineError, match="empty"):
        read(transformer, inputs, 0.5)


def test_reading_before_a_fill_is_an_error(transformer: FluxTransformer2DModel) -> None:
    install(transformer)
    with pytest.raises(EngineError, match="fill it"):
        read(transformer, make_inputs(), 0.5)


def test_a_failed_fill_leaves_nothing_old_to_read(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    fill_with(transformer, inputs)
    with pytest.raises(RuntimeError):
        fill_with(transformer, replace(inputs, condition_ids=inputs.condition_ids[:-1]))
    with pytest.raises(EngineError):
        read(transformer, inputs, 0.5)


def test_installing_again_keeps_the_cache_and_the_backend(transformer: FluxTransformer2DModel) -> None:
    inputs = make_inputs()
    transformer.set_attention_backend("_native_math")
    fill_with(transformer, inputs)
    output = read(transformer, inputs, 0.5)
    install(transformer)
    assert torch.equal(read(transformer, inputs, 0.5), output)
    assert {one._attention_backend for one in transformer.attn_processors.values()} == {"_native_math"}


def test_a_foreign_processor_is_not_thrown_out(transformer: FluxTransformer2DModel) -> None:
    attention = transformer.transformer_blocks[1].attn
    attention.set_processor(FluxIPAdapterAttnProcessor(32, 32))
    with pytest.raises(EngineError, match=r"transformer_blocks\.1\.attn.*FluxIPAdapterAttnProcessor"):
        install(transformer)


def test_blocks_compile_without_a_graph_break() -> None:
    transformer = tiny_transformer(double_blocks=2, single_blocks=1)
    pictures = [make_inputs(0), make_inputs(1)]
    steps = [(inputs, sigma) for inputs in pictures for sigma in (0.8, 0.3)]

    def outputs() -> list[Tensor]:
        found = []
        for inputs, sigma in steps:
            if sigma == 0.8:
                fill_with(transformer, inputs)
            found.append(read(transformer, inputs, sigma))
        return found

    plain = outputs()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    transformer.compile_repeated_blocks(fullgraph=True, dynamic=False, backend="eager")
    try:
        for left, right in zip(outputs(), plain, strict=True):
            assert_near(left, right)
        # Two kinds of block, two passes: neither the second block of a kind nor the next step or picture has its own.
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 4
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("threshold", [0.0, 1e9])
def test_first_block_cache_steps_over_the_fill(transformer: FluxTransformer2DModel, threshold: float) -> None:
    """Whether steps are never skipped or always: each fill keeps its own picture's keys in every block."""
    pictures = [make_inputs(0), make_inputs(1)]
    expected = []
    for inputs in pictures:
        fill_with(transformer, inputs)
        expected.append([read(transformer, inputs, sigma) for sigma in (0.8, 0.6)])
    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    for inputs, (first, second) in zip(pictures, expected, strict=True):
        fill_with(transformer, inputs)
        with transformer.cache_context("cond"):
            assert_near(read(transformer, inputs, 0.8), first)
            skipped = read(transformer, inputs, 0.6)
        if threshold == 0:
            assert_near(skipped, second)
        else:
            assert not torch.allclose(skipped, second, atol=0.01)
