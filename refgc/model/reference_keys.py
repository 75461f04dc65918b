"""Keys and values of the condition tokens, as one attention module keeps them; see `refgc.model.reference_cache`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from refgc.errors import EngineError

ReferencePass = Literal["write", "read"]
WRITE: Mapping[str, ReferencePass] = {"reference_pass": "write"}
READ: Mapping[str, ReferencePass] = {"reference_pass": "read"}
# FLUX's blocks need text tokens. Their keys are dropped before any token attends to them, so their values do not
# matter. With no text tokens at all, layers that quantise their input to 8 bits would have no values to compute a scale
# from.
DROPPED_TEXT_TOKENS = 16


class AttentionObserver(Protocol):
    """Receives the queries and keys of each attention module; see `refgc.model.attention.AttentionRecorder`."""

    def record(self, attention: nn.Module, query: Tensor, key: Tensor) -> None:
        """`query` and `key`, (batch, tokens, heads, head width), are those that `attention` compares."""
        ...


class ReferenceKeys:
    """The part of an attention processor that keeps the condition tokens' keys and values.

    Attributes:
        key: (batch, condition tokens, heads, head width), or None where nothing is kept.
        value: likewise.
    """

    key: Tensor | None = None
    value: Tensor | None = None

    def with_reference(self, key: Tensor, value: Tensor, reference_pass: ReferencePass | None) -> tuple[Tensor, Tensor]:
        """The keys and values that are attended to in a pass.

        Args:
            key: (batch, tokens, heads, head width) of this forward, text first, after norm and rotary position.
            value: likewise.
            reference_pass: "write" keeps those of the image tokens, and no others are attended to; "read" appends the
                kept ones; None leaves both as they are.

        Raises:
            EngineError: the pass reads and nothing is kept.
        """
        if reference_pass == "write":
            key, value = key[:, DROPPED_TEXT_TOKENS:].contiguous(), value[:, DROPPED_TEXT_TOKENS:].contiguous()
            self.key, self.value = key, value
        elif reference_pass == "read":
            if self.key is None or self.value is None:
                raise EngineError("The reference cache is empty; fill it with the condition tokens before reading it.")
            key, value = torch.cat([key, self.key], dim=1), torch.cat([value, self.value], dim=1)
        return key, value
