"""Which architecture a transformer is of."""

from __future__ import annotations

from typing import Any

from refgc.errors import EngineError
from refgc.model.backbones.base import Backbone
from refgc.model.backbones.klein import Klein
from refgc.model.backbones.kontext import Kontext
from refgc.model.sharding import unwrapped

BACKBONES: tuple[Backbone, ...] = (Kontext(), Klein())


def backbone_of(transformer: Any) -> Backbone:
    """The architecture of a transformer.

    Args:
        transformer: with or without FreqMoLE, or a wrapper of it (DDP, FSDP2, torch.compile).

    Raises:
        EngineError: it is of none of the architectures.
    """
    inner = unwrapped(transformer)
    for backbone in BACKBONES:
        if isinstance(inner, backbone.network):
            return backbone
    titles = " or ".join(backbone.title for backbone in BACKBONES)
    raise EngineError(f"A {type(inner).__name__} is not the transformer of {titles}; give one of these.")
