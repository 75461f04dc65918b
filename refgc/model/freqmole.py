"""FreqMoLE: in every projection a LoRA expert for low and one for high frequencies, mixed by one gate per block.

Source: the RefGC-SR2 paper, `dW = alpha * dW_LF + (1 - alpha) * dW_HF`, its gates initialised after its Figure 5. The
experts are initialised and scaled as in LoRA (Hu et al., 2021). peft's layers are not used, because they offer neither
a gate that the projections of a block share, nor a fused transformer of stock modules that can be unfused exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from refgc.errors import EngineError, InputError
from refgc.flux.instruction import INSTRUCTION, OBJECT
from refgc.imaging.upscale import Enlargement
from refgc.model.fingerprint import fingerprint
from refgc.model.initial_alpha import AlphaByDepth
from refgc.model.sharding import is_sharded, whole

GATE = "frequency_gate"
# Distilled guidance of FLUX.1-Kontext where nothing else is said, as in its pipeline's examples.
GUIDANCE = 2.5
EXPERTS = ("low_frequency", "high_frequency")
FUSIBLE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

DOUBLE_STREAM_PROJECTIONS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
)
SINGLE_STREAM_PROJECTIONS = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")


class FreqMoLEConfig(BaseModel):
    """The configuration of an adapter; saved beside its weights as config.json.

    Raises:
        pydantic.ValidationError: a value is out of range, or no projection is targeted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1, description="rank of each of the two experts")
    lora_alpha: float = Field(
        default=16.0, gt=0, allow_inf_nan=False, description="the experts are scaled by lora_alpha / rank"
    )
    double_stream_targets: tuple[str, ...] = Field(
        default=DOUBLE_STREAM_PROJECTIONS, description="projections of each double-stream block; * and ? match"
    )
    single_stream_targets: tuple[str, ...] = Field(
        default=SINGLE_STREAM_PROJECTIONS, description="projections of each single-stream block; * and ? match"
    )
    initial_alpha: AlphaByDepth = Field(default=AlphaByDepth(), description="where the gates started")
    base: str = Field(default="black-forest-labs/FLUX.1-Kontext-dev", description="what the experts were trained on")
    base_fingerprint: str | None = Field(
        default=None, description="of that base, from refgc.model.fingerprint; None where it is not known"
    )
    reference_cache: bool = Field(default=False, description="trained with condition tokens attending to themselves")
    compact_generated: bool = Field(default=False, description="trained with IMG2 at half size")
    guidance: float | None = Field(
        default=GUIDANCE,
        ge=0,
        allow_inf_nan=False,
        description="trained with this distilled guidance; None where the base is given none, such as FLUX.2 [klein]",
    )
    whole: bool = Field(default=False, description="trained on the whole frame instead of a window around the object")
    prompt: str = Field(default=INSTRUCTION, description="trained with this instruction; {object} is the object's name")
    enlargement: Enlargement = Field(
        default="bicubic",
        description='how IMG2 was enlarged: "bicubic" as in the paper, or "clean", by refgc.imaging.upscale',
    )

    @model_validator(mode="after")
    def _some_target(self) -> Self:
        if not self.double_stream_targets and not self.single_stream_targets:
            raise ValueError("double_stream_targets and single_stream_targets cannot both be empty")
        if OBJECT not in self.prompt:
            raise ValueError(f"prompt has no {OBJECT} in it")
        return self

    @property
    def scaling(self) -> float:
        """The factor that the experts' product is multiplied by."""
        return self.lora_alpha / self.rank


class FrequencyGate(nn.Module):
    """The gate of one block; calling it returns alpha, of shape (1,), in (0, 1)."""

    def __init__(self, logit: float, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        # Of shape (1,) and not (), because FSDP cannot shard scalars.
        self.logit = nn.Parameter(torch.tensor([logit], dtype=dtype, device=device))

    def forward(self) -> Tensor:
        """Alpha, the share of the low-frequency expert."""
        return torch.sigmoid(self.logit)


def joined(
    alpha: Tensor, low_down: Tensor, low_up: Tensor, high_down: Tensor, high_up: Tensor, *, scaling: float
) -> tuple[Tensor, Tensor]:
    """Two experts and their gate as one low-rank update.

    Args:
        alpha: of shape (1,), the share of the low-frequency expert.
        low_down: A of the low-frequency expert, (rank, in).
        low_up: its B, (out, rank).
        high_down: A of the high-frequency expert.
        high_up: its B.
        scaling: that of the config.

    Returns:
        A (2 rank, in) and B (out, 2 rank); `B @ A` is what the weight gains.
    """
    up = torch.cat([alpha * low_up, (1 - alpha) * high_up], dim=1)
    return torch.cat([low_down, high_down]), up * scaling


class FreqMoLELinear(nn.Module):
    """`W x + scaling * (alpha * B_LF A_LF x + (1 - alpha) * B_HF A_HF x)` around any linear layer.

    Only `in_features`, `out_features` and the call of the base layer are used, so that it may be quantised. A is
    Kaiming-initialised and B is zero, so that the new layer computes the same as its base layer. The parameters belong
    to this module itself, because hooks that offload weights load them when the module that owns them is called.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        gate: FrequencyGate,
        config: FreqMoLEConfig,
        *,
        dtype: torch.dtype,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        # Not called base_layer: diffusers takes what has a layer of that name for one of peft's, and removes it with
        # the LoRAs.
        self.base = base_layer
        self.in_features, self.out_features = features(base_layer)
        self.scaling = config.scaling
        # In a tuple, so that the shared gate is not registered as a submodule here: the block registers it.
        self._gate = (gate,)
        factors = partial(_initial_factors, base_layer, config.rank, dtype=dtype, generator=generator)
        self.low_frequency_A, self.low_frequency_B = factors()
        self.high_frequency_A, self.high_frequency_B = factors()

    def factors(self) -> tuple[Tensor, Tensor]:
        """The two experts as one low-rank update: A (2 rank, in), and B (out, 2 rank) with gate and scaling in it."""
        experts = (self.low_frequency_A, self.low_frequency_B, self.high_frequency_A, self.high_frequency_B)
        return joined(self._gate[0](), *experts, scaling=self.scaling)

    def whole_factors(self) -> tuple[Tensor, Tensor]:
        """The same without gradient, and whole where the experts are sharded; all processes have to call it then."""
        experts = (self.low_frequency_A, self.low_frequency_B, self.high_frequency_A, self.high_frequency_B)
        alpha = torch.sigmoid(whole(self._gate[0].logit))
        low_down, low_up, high_down, high_up = map(whole, experts)
        return joined(alpha, low_down, low_up, high_down, high_up, scaling=self.scaling)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., in) to (..., out), in the base layer's dtype.

        The small factors are cast to the dtype of the activations, and not the large activations to that of the
        factors. So fp32 experts beside a bf16 base need no fp32 activations and still get fp32 gradients.
        """
        result: Tensor = self.base(hidden_states)
        down, up = (factor.to(hidden_states.dtype) for factor in self.factors())
        update = functional.linear(functional.linear(hidden_states, down), up)
        return result + update.to(result.dtype)


class FreqMoLE:
    """The experts and gates in one transformer; `inject` and `refgc.model.weights.load` make it.

    Attributes:
        transformer: the FLUX transformer that holds them; its other parameters are frozen.
        config: of the experts and gates.
    """

    def __init__(
        self,
        transformer: Any,
        config: FreqMoLEConfig,
        gates: Mapping[str, FrequencyGate],
        projections: Mapping[str, FreqMoLELinear],
    ) -> None:
        self.transformer = transformer
        self.config = config
        self._gates = dict(gates)
        self._projections = dict(projections)
        # The original weight of each fused projection; None where it was not kept.
        self._fused: dict[str, Tensor | None] = {}
        self._attach_gates()
        for name, projection in self._projections.items():
            transformer.set_submodule(name, projection)

    @property
    def is_fused(self) -> bool:
        """Whether the experts are folded into the transformer's own weights."""
        return bool(self._projections) and len(self._fused) == len(self._projections)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All trainable parameters, by name.

        Gates as `transformer_blocks.0.frequency_gate.logit`, of shape (1,); then, for each projection,
        `transformer_blocks.0.attn.to_q.low_frequency_A`, of shape (rank, in), `low_frequency_B`, (out, rank),
        `high_frequency_A` and `high_frequency_B`.

        Raises:
            EngineError: they are offloaded to where they cannot be reached.
        """
        for block, gate in self._gates.items():
            _check_reachable(block, gate.logit)
            yield f"{block}.{GATE}.logit", gate.logit
        for projection, module in self._projections.items():
            for name, parameter in module.named_parameters(recurse=False):
                _check_reachable(projection, parameter)
                yield f"{projection}.{name}", parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """All trainable parameters, for an optimiser."""
        return (parameter for _, parameter in self.named_parameters())

    def alphas(self) -> dict[str, float]:
        """Alpha, the share of the low-frequency expert, by block."""
        return {block: torch.sigmoid(whole(gate.logit)).item() for block, gate in self._gates.items()}

    def factors(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, A (2 rank, in) and B (out, 2 rank) of each projection; `B @ A` is what its weight gains.

        They have no gradient. Where FSDP2 has sharded the experts, all processes have to go through them.

        Raises:
            EngineError: as for `named_parameters`.
        """
        for name, projection in self._projections.items():
            _check_reachable(name, projection.low_frequency_A)
            yield name, *projection.whole_factors()

    @torch.no_grad()
    def fuse(self, *, keep_base: bool = True) -> None:
        """Fold the experts into the transformer's weights; stock modules are left, which cost no extra time.

        The sums are computed in fp32 and rounded once, to the nearest number of the weights' dtype. Experts and gates
        are moved to the CPU until they are unfused. Quantise, compile or load LoRAs after this, not before. Does
        nothing where they are fused already.

        Args:
            keep_base: keep a copy of the weights as they were, on the CPU, so that `unfuse` restores them exactly; for
                FLUX.1 in bf16 and all projections that is 17 GB. Without it there is no way back.

        Raises:
            EngineError: a base layer is quantised, offloaded or wrapped; no weight was changed.
        """
        parameters = list(self.parameters())
        left = {name: projection for name, projection in self._projections.items() if name not in self._fused}
        for name, projection in left.items():
            _check_plain(name, projection.base)
        # Each projection is completed before the next, so that the transformer still computes the same if memory runs
        # out.
        for name, projection in left.items():
            weight = projection.base.get_parameter("weight")
            kept = weight.to("cpu", copy=True) if keep_base else None
            exact = torch.promote_types(weight.dtype, torch.float32)
            down, up = (factor.to(exact) for factor in projection.factors())
            weight.copy_(torch.addmm(weight.to(exact), up, down))
            self.transformer.set_submodule(name, projection.base)
            self._fused[name] = kept
        if left:
            self._detach_gates()
        for parameter in parameters:
            parameter.data = parameter.data.cpu()

    @torch.no_grad()
    def unfuse(self) -> None:
        """Restore the transformer's own weights, bit for bit, and put the experts back beside them.

        Does nothing where they are not fused.

        Raises:
            EngineError: the weights were not kept, or the transformer was quantised, given LoRAs or had its projections
                fused meanwhile; nothing was changed.
        """
        kept = {name: weight for name, weight in self._fused.items() if weight is not None}
        if len(kept) < len(self._fused):
            raise EngineError("The weights from before fusing were not kept; load the base model again.")
        if any(getattr(module, "fused_projections", False) for module in self.transformer.modules()):
            raise EngineError(
                "The query, key and value projections were fused into one together with the experts; call "
                "unfuse_qkv_projections() before the experts are taken out."
            )
        for name in self._fused:
            _check_plain(name, self.transformer.get_submodule(name))
        for name, own in kept.items():
            projection = self._projections[name]
            weight = projection.base.get_parameter("weight")
            weight.copy_(own)
            for module in (projection, *projection._gate):
                module.to(weight.device)
            self.transformer.set_submodule(name, projection)
        self._fused.clear()
        self._attach_gates()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Inside the block the transformer has no experts; then they are put back around whatever layers are there.

        For changes that find layers by their class, such as loading a LoRA by peft. What they add is frozen. Does
        nothing where the experts are fused.
        """
        beside = {name: projection for name, projection in self._projections.items() if name not in self._fused}
        if not beside:
            yield
            return
        for name, projection in beside.items():
            self.transformer.set_submodule(name, projection.base)
        self._detach_gates()
        try:
            yield
        finally:
            for name, projection in beside.items():
                projection.base = self.transformer.get_submodule(name).requires_grad_(False)
                self.transformer.set_submodule(name, projection)
            self._attach_gates()

    def remove(self) -> None:
        """Leave the transformer as it was before `inject`, except that its parameters stay frozen.

        Raises:
            EngineError: as for `unfuse`, where the experts are fused.
        """
        self.unfuse()
        for name, projection in self._projections.items():
            self.transformer.set_submodule(name, projection.base)
        self._detach_gates()
        self._projections.clear()
        self._gates.clear()

    def _attach_gates(self) -> None:
        for block, gate in self._gates.items():
            setattr(self.transformer.get_submodule(block), GATE, gate)

    def _detach_gates(self) -> None:
        for block in self._gates:
            delattr(self.transformer.get_submodule(block), GATE)


def inject(
    transformer: Any,
    config: FreqMoLEConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> FreqMoLE:
    """Put two experts on every targeted projection and a gate on every block that has one; freeze everything else.

    The transformer's output stays the same, bit for bit, until the experts are trained.

    Args:
        transformer: a FluxTransformer2DModel; it is changed in place.
        config: what to inject; None takes the defaults. The base's fingerprint is added where the config has none, and
            a guidance that nobody gave is left out where the base takes none.
        dtype: of experts and gates. fp32 is right for training, whatever the base has.
        generator: of the experts' initial A, on the CPU; None takes torch's global one.

    Raises:
        InputError: a target matches no projection.
        EngineError: the transformer has a FreqMoLE already, its weights are offloaded, or its projections are fused
            into one.
    """
    config = config or FreqMoLEConfig()
    blocks = find_projections(transformer, config)
    if "guidance" not in config.model_fields_set and not transformer.config.guidance_embeds:
        config = config.model_copy(update={"guidance": None})
    if config.base_fingerprint is None:
        config = config.model_copy(update={"base_fingerprint": fingerprint(transformer)})
    gates: dict[str, FrequencyGate] = {}
    projections: dict[str, FreqMoLELinear] = {}
    for number, (block, found) in enumerate(blocks.items()):
        if not found:
            continue
        device = _device(next(iter(found.values())))
        gates[block] = FrequencyGate(config.initial_alpha.logit(number, len(blocks)), dtype=dtype, device=device)
        for name, layer in found.items():
            projections[name] = FreqMoLELinear(layer, gates[block], config, dtype=dtype, generator=generator)
    transformer.requires_grad_(False)
    return FreqMoLE(transformer, config, gates, projections)


def find_projections(transformer: Any, config: FreqMoLEConfig) -> dict[str, dict[str, nn.Module]]:
    """The linear layers that a config targets, by block and by full name; all blocks, in the order they run.

    Raises:
        InputError: a target matches no projection.
        EngineError: as for `inject`.
    """
    found: dict[str, dict[str, nn.Module]] = {}
    for kind, targets in (
        ("transformer_blocks", config.double_stream_targets),
        ("single_transformer_blocks", config.single_stream_targets),
    ):
        matched: set[str] = set()
        blocks: Sequence[nn.Module] = getattr(transformer, kind)
        for number, block in enumerate(blocks):
            layers = _linear_layers(block)
            matching = {name: [one for one in targets if fnmatchcase(name, one)] for name in layers}
            matched.update(*matching.values())
            found[f"{kind}.{number}"] = {
                f"{kind}.{number}.{name}": layers[name] for name, patterns in matching.items() if patterns
            }
        missed = [target for target in targets if target not in matched]
        if missed and blocks:
            raise InputError(f"The target {missed[0]!r} matches no projection of {kind}; correct the FreqMoLE config.")
    return found


def weight_shapes(transformer: Any, config: FreqMoLEConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters that a FreqMoLE of this config has in this transformer, by name.

    Raises:
        InputError, EngineError: as for `inject`.
    """
    blocks = find_projections(transformer, config)
    shapes: dict[str, tuple[int, ...]] = {f"{block}.{GATE}.logit": (1,) for block, found in blocks.items() if found}
    for found in blocks.values():
        for name, layer in found.items():
            inputs, outputs = features(layer)
            for expert in EXPERTS:
                shapes[f"{name}.{expert}_A"] = (config.rank, inputs)
                shapes[f"{name}.{expert}_B"] = (outputs, config.rank)
    return shapes


def features(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer of any class."""
    return layer.in_features, layer.out_features


def _linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """The outermost linear layers of a block by their names in it: of a wrapped one the wrapper alone."""
    layers: dict[str, nn.Module] = {}
    for name, module in block.named_modules():
        if isinstance(module, FreqMoLELinear):
            raise EngineError("The transformer has a FreqMoLE already; remove or fuse that one first.")
        if getattr(module, "fused_projections", False):
            raise EngineError(
                "The query, key and value projections are fused into one; call unfuse_qkv_projections() before "
                "FreqMoLE is put on them."
            )
        if hasattr(module, "in_features") and not any(name.startswith(f"{outer}.") for outer in layers):
            layers[name] = module
    return layers


def _initial_factors(
    layer: nn.Module, rank: int, *, dtype: torch.dtype, generator: torch.Generator | None
) -> tuple[nn.Parameter, nn.Parameter]:
    inputs, outputs = features(layer)
    # Drawn on the CPU, so that a seed gives the same experts on every device.
    down = nn.init.kaiming_uniform_(torch.empty(rank, inputs), a=math.sqrt(5), generator=generator)
    up = torch.zeros(outputs, rank)
    device = _device(layer)
    return nn.Parameter(down.to(device, dtype)), nn.Parameter(up.to(device, dtype))


def _device(layer: nn.Module) -> torch.device:
    device = next((tensor.device for tensor in (*layer.parameters(), *layer.buffers())), torch.device("cpu"))
    if device.type == "meta":
        raise EngineError("The transformer's weights are offloaded; put FreqMoLE on it before it is.")
    return device


def _check_reachable(name: str, tensor: Tensor) -> None:
    # accelerate keeps offloaded tensors on the meta device until the module that owns them is called.
    if tensor.device.type == "meta":
        raise EngineError(
            f"{name} is offloaded, where it cannot be read or changed: fuse, unfuse, save or export FreqMoLE before "
            "the transformer is offloaded, or take its hooks off first."
        )


def _check_plain(name: str, layer: nn.Module) -> None:
    if is_sharded(layer.parameters()):
        raise EngineError(
            f"{name} is shared out among processes: save the experts, and fuse them in one process that loads them."
        )
    # bitsandbytes, torchao, quanto and GGUF implement quantised layers as subclasses of nn.Linear or of its weight.
    for tensor in layer.parameters():
        _check_reachable(name, tensor)
    if type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and layer.weight.dtype in FUSIBLE_DTYPES:
        return
    raise EngineError(
        f"{name} is quantised or wrapped ({type(layer).__name__}): fuse FreqMoLE before quantising the transformer or "
        "loading LoRAs into it, and unfuse it after they are gone."
    )
