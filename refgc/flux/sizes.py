"""How large a model is, and what it takes of a device's memory; imports no torch, since `refgc doctor` uses it."""

from __future__ import annotations

from dataclasses import dataclass

from refgc.flux.speed import Quantization

GIB = 2**30
# Bytes per parameter, scales included. Int8 and float8 have one scale per row, NF4 one scale of 8 bits per 64 weights.
QUANTIZED_BYTES: dict[Quantization, float] = {"int8": 1.01, "fp8": 1.01, "nf4": 0.53}
# Tokens for one window of 1024x1024 pixels: 64x64 each for noise, HRRI and LRGI, and 512 for the text.
CONDITION_TOKENS = 2 * 4096
TOKENS = 3 * 4096 + 512
# Values per token and channel that exist at once at the peak of a block: hidden states, widened fivefold by the MLP,
# before and after the activation, queries, keys, values and residuals. Estimated by counting, not measured. At full
# size this is 4 GiB, about what the VAE needs as well.
BLOCK_ACTIVATIONS = 54
# Blocks that are on the device at once while the others wait in main memory, counted as blocks of the largest kind,
# with the layers outside of the blocks. Chosen by hand, not fitted.
STREAMED_BLOCKS = 5
# Left to the system, or on a GPU to fragmentation of the allocator. Chosen by hand, not fitted.
SPARE_BYTES = GIB


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model.

    Attributes:
        transformer: number of its parameters.
        text_encoders: number of the parameters of all of them.
        vae: number of its parameters.
        width: channels of the transformer's tokens.
        blocks: of the transformer, of both kinds.
        reference_cache: whether the condition tokens' keys and values are kept.
    """

    transformer: int
    text_encoders: int
    vae: int
    width: int
    blocks: int
    reference_cache: bool = False

    def working_bytes(self, itemsize: int) -> int:
        """Bytes that a window of 1024x1024 pixels takes beside the weights, with activations of `itemsize` bytes."""
        kept = 2 * CONDITION_TOKENS * self.blocks if self.reference_cache else 0
        return (BLOCK_ACTIVATIONS * TOKENS + kept) * self.width * itemsize


def resident_bytes(model: ModelSize, quantization: Quantization) -> int:
    """Bytes that the model takes on the device while it draws a window of 1024x1024 pixels."""
    transformer = QUANTIZED_BYTES.get(quantization, 2.0) * model.transformer
    return int(transformer) + 2 * model.vae + model.working_bytes(2)


def streamed_bytes(model: ModelSize) -> tuple[int, int]:
    """Bytes taken on the device, and in main memory, where the blocks are streamed."""
    blocks = STREAMED_BLOCKS * 2 * model.transformer // model.blocks
    return model.working_bytes(2) + 2 * model.vae + blocks, 2 * model.transformer + SPARE_BYTES
