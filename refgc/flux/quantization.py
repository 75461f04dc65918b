"""Quantisation of the transformer's blocks by torchao, in the words of diffusers' `TorchAoConfig`.

FreqMoLE has to be fused first: then the sums of base and experts are rounded once, and torchao finds plain layers.
There are two ways. Where nothing has to be fused (stock FLUX.1-Kontext, or experts that stay beside the weights),
`from_pretrained(..., quantization_config=config_for(...))` quantises each tensor as it is read. Where experts are
fused, `quantize` does the same to the fused transformer, with the same torchao types.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from refgc.errors import EngineError
from refgc.flux.placement import INSTALL_QUANTIZATION

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel, TorchAoConfig

Quantized = Literal["int8", "fp8", "nf4"]

# Layers outside of the blocks (0.6 % of the weights) are not quantised: they embed pixels, time and prompt directly.
BLOCKS = r"(single_)?transformer_blocks\..+"
# These layers multiply one row per step, too few for 8-bit matrix units, so only their weights are quantised.
MODULATION = r"(single_)?transformer_blocks\.\d+\.norm\w*\.linear"


def config_for(kind: Quantized, device: torch.device) -> TorchAoConfig:
    """For `quantization_config=` of a transformer's `from_pretrained`.

    Args:
        kind: "int8": weights alone, one scale a row. "fp8": weights and activations (one scale a row, so that the
            GPU's 8-bit units multiply them), on a CPU weights alone. "nf4": weights alone, 4 bits, in groups of 64
            (Dettmers et al., 2023, "QLoRA").
        device: that the transformer will run on.

    Raises:
        EngineError: torchao is not installed.
    """
    from diffusers import TorchAoConfig

    FqnToConfig = _torchao("quantization").FqnToConfig  # noqa: N806
    types = ((MODULATION, _type(kind, device, modulation=True)), (BLOCKS, _type(kind, device, modulation=False)))
    return TorchAoConfig(FqnToConfig(fqn_to_config=OrderedDict((f"re:{name}", one) for name, one in types)))


@torch.no_grad()
def quantize(transformer: FluxTransformer2DModel, kind: Quantized, device: torch.device) -> None:
    """Quantises the blocks of a transformer, layer by layer on `device`, and moves the whole transformer there.

    Raises:
        EngineError: torchao is not installed.
    """
    quantize_ = _torchao("quantization").quantize_
    for name, module in transformer.named_modules():
        if type(module) is nn.Linear and re.fullmatch(BLOCKS, name):
            module.to(device)
            quantize_(module, _type(kind, device, modulation=re.fullmatch(MODULATION, name) is not None))
    transformer.to(device)


def _type(kind: Quantized, device: torch.device, *, modulation: bool) -> Any:
    types = _torchao("quantization")
    if kind == "nf4":
        return _torchao("prototype._nf4tensor_api").NF4WeightOnlyConfig()
    if kind == "int8":
        return types.Int8WeightOnlyConfig()
    if modulation or device.type == "cpu":
        return types.Float8WeightOnlyConfig()
    return types.Float8DynamicActivationFloat8WeightConfig(granularity=types.PerRow())


def _torchao(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"torchao.{module}")
    except ModuleNotFoundError as error:
        raise EngineError(f"Quantised weights need the library torchao: {INSTALL_QUANTIZATION}.") from error
