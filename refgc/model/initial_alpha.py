"""Where FreqMoLE's gates start, by the depth of their block. Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, lt=1)]
Depth = Annotated[float, Field(ge=0, le=1)]


class AlphaByDepth(BaseModel):
    """Initial values of the gates: alpha is `early` up to one depth, `late` from another; its logit is linear between.

    The defaults follow the paper's Figure 5: low-frequency energy saturates within the first 5 % of the blocks, high-
    frequency energy emerges in the last 10 %. Depth runs from 0, before the first block, to 1, after the last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    early: Share = Field(default=0.9, description="alpha of the first blocks")
    late: Share = Field(default=0.1, description="alpha of the last blocks")
    early_until: Depth = Field(default=0.05, description="depth at which alpha leaves `early`")
    late_from: Depth = Field(default=0.9, description="depth at which alpha reaches `late`")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.early_until >= self.late_from:
            raise ValueError("early_until must be less than late_from")
        return self

    def logit(self, block: int, blocks: int) -> float:
        """The logit of alpha in the middle of block number `block` of `blocks`."""
        depth = (block + 0.5) / blocks
        way = min(max((depth - self.early_until) / (self.late_from - self.early_until), 0.0), 1.0)
        early, late = (math.log(alpha / (1 - alpha)) for alpha in (self.early, self.late))
        return early + way * (late - early)
