"""Settings of the objective that RefGC-SR2 is trained with. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat

# Standard deviation in latents of the Gaussian that splits the frequencies; the paper's is not known to us.
GAUSSIAN_SIGMA = 2.0

Distance = Literal["l1", "square"]
Weight = Annotated[StrictFloat, Field(ge=0, le=10_000)]


class ObjectiveSettings(BaseModel):
    """The objective's choices; the defaults are the paper's where it tells them, else as the descriptions say.

    Raises:
        pydantic.ValidationError: a value is out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low_frequency: Weight = Field(default=1.0, description="lambda_LF; the paper's is not known to us, 1 is our choice")
    high_frequency: Weight = Field(default=1.0, description="lambda_HF; likewise")
    attention_alignment: Weight = Field(
        default=1.0, description="weight of L_aal; 1 as in the paper, which adds the term as it is"
    )
    distance: Distance = Field(
        default="l1",
        description='of the two frequency terms: "l1" as in the paper, or "square", which counts large errors more',
    )
    sigma_power: StrictFloat = Field(
        default=2.0,
        ge=0,
        le=100,
        description="L_HF of a sample counts by (1 - sigma) to this power; 0 turns that off. Our choice: near 1 a "
        "perfect prediction has no high frequencies, so that L_HF would pull against L_FM there",
    )
    object_weighted: StrictBool = Field(
        default=False,
        description="in L_FM the object's latents count by total area / object area, as in ImageCritic",
    )
    gaussian_sigma: StrictFloat = Field(
        default=GAUSSIAN_SIGMA,
        ge=0.1,
        le=64,
        description="standard deviation in latents of the Gaussian that splits the frequencies; our choice",
    )
