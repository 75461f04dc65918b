"""Simulated generated pictures: the four artifacts of reference-guided generation, drawn onto a true picture.

No generative model takes part. The paper names the artifacts (identity distortion, detail inconsistency, texture loss
and overall quality degradation); how they are simulated is our own. Everything made here carries an `ArtifactRecord`
that says so.

The result is deterministic: the same picture, mask, strengths and seed give the same bytes on any processor. All levels
are computed in integers or in double precision; see `refgc.imaging.exact`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.errors import InputError
from refgc.imaging.arrays import Bools, Bytes, Floats, Size
from refgc.imaging.exact import extend_outwards
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.matting import alpha_bytes
from refgc.imaging.region import Region
from refgc.simulator.degradation import degrade, flatten
from refgc.simulator.distortion import distort
from refgc.simulator.garbling import garble

# The paper's LRGIs have a quarter of the HRGT's side.
FACTOR = 4.0
# Strokes narrower than this fraction of a generated pixel cannot be seen in it. Chosen by hand, not fitted.
LEAST_STROKE = 0.75


class Strengths(BaseModel):
    """How strong each artifact is, from 0 (no byte changes) to 1.

    The defaults stand for a good generator that is held to the true pose, as DipRefGC is by its Canny edges. They were
    chosen by hand, not fitted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity_distortion: float = Field(default=0.03, ge=0, le=1, description="wrong shape, moved parts")
    detail_inconsistency: float = Field(default=0.15, ge=0, le=1, description="wrong lettering and pattern")
    texture_loss: float = Field(default=0.6, ge=0, le=1, description="flat instead of fine texture")
    quality_degradation: float = Field(default=0.3, ge=0, le=1, description="blur, faded colours, noise and JPEG")


class ArtifactRecord(BaseModel):
    """How a picture was simulated, so that nobody takes it for the output of a generative model."""

    model_config = ConfigDict(frozen=True)

    simulated: Literal[True] = True
    seed: int = Field(description="seed of everything random")
    strengths: Strengths = Field(description="of each artifact, from 0 to 1")
    localised: bool = Field(description="whether the artifacts lie on the object mask only")
    quality_everywhere: bool = Field(description="whether the quality degradation covers the whole picture regardless")
    true_size: Size = Field(description="width and height in pixels of the picture before")
    size: Size = Field(description="width and height in pixels of the simulated picture")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The artifacts that were drawn, in words."""
        return tuple(name.replace("_", " ") for name, strength in self.strengths if strength > 0)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedPicture:
    """A simulated LRGI.

    Attributes:
        image: the LRGI.
        full: the same before down-sampling, of the true picture's size.
        record: how it was made.
    """

    image: Image
    full: Image
    record: ArtifactRecord


def checked_strengths(values: Mapping[str, float]) -> Strengths:
    """Strengths from a mapping such as {"texture_loss": 0.3}; artifacts that are not named keep their default.

    Raises:
        InputError: a name is unknown, or a strength is not a number from 0 to 1.
    """
    try:
        return Strengths(**values)
    except ValidationError as error:
        name = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(
            f"The strength {name!r} is {values[name]!r}; give {', '.join(Strengths.model_fields)}, each from 0 to 1."
        ) from error


def smaller(size: Size, factor: float = FACTOR) -> Size:
    """`size` (width, height) divided by `factor` and rounded, at least 1 pixel a side."""
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def simulate(
    picture: Image,
    mask: Mask | None,
    *,
    size: Size,
    strengths: Strengths | None = None,
    seed: int = 0,
    quality_everywhere: bool = False,
) -> SimulatedPicture:
    """A simulated LRGI: the artifacts drawn onto a true picture, which is then down-sampled.

    Args:
        picture: what a generator without artifacts would have drawn: the HRGT itself, or a composed picture.
        mask: the object that the artifacts are drawn on; None draws them on the whole picture.
        size: (width, height) of the result in pixels, at most that of the picture; see `smaller`.
        strengths: of each artifact; None takes the defaults.
        seed: a whole number from 0 to 2**63 - 1.
        quality_everywhere: whether the quality degradation covers the whole picture and not the object alone.

    Raises:
        InputError: the size is below 1 or larger than the picture.
    """
    if min(size) < 1 or size[0] > picture.size[0] or size[1] > picture.size[1]:
        raise InputError(
            f"The simulated picture would be {size[0]}x{size[1]} pixels and its truth is {picture.size[0]}x"
            f"{picture.size[1]}; choose a size that is not larger."
        )
    chosen = strengths or Strengths()
    pixel_size = max(picture.size[0] / size[0], picture.size[1] / size[1])
    alpha = None if mask is None else mask.values
    full = draw_artifacts(
        picture.pixels, alpha, chosen, seed, pixel_size=pixel_size, quality_everywhere=quality_everywhere
    )
    small = np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.uint8)
    record = ArtifactRecord(
        seed=seed,
        strengths=chosen,
        localised=mask is not None,
        quality_everywhere=quality_everywhere,
        true_size=picture.size,
        size=size,
    )
    return SimulatedPicture(Image(small), Image(full), record)


def draw_artifacts(
    pixels: Bytes,
    alpha: Floats | None,
    strengths: Strengths,
    seed: int,
    *,
    pixel_size: float = FACTOR,
    quality_everywhere: bool = False,
) -> Bytes:
    """The four artifacts drawn at full size.

    Args:
        pixels: uint8 RGB (height, width, 3).
        alpha: (height, width) in [0, 1], the object's coverage of each pixel; where it is 0 no byte changes. None draws
            on the whole picture.
        strengths: of each artifact; where all are 0 no byte changes.
        seed: of all random numbers. Each artifact has a generator of its own, so that the strength of one does not
            change what another does.
        pixel_size: side of a pixel of the LRGI in pixels of this picture; finer artifacts would not be seen.
        quality_everywhere: whether the quality degradation covers the whole picture.

    Returns:
        uint8 RGB (height, width, 3), a copy.
    """
    coverage = np.full(pixels.shape[:2], 255, np.uint8) if alpha is None else alpha_bytes(alpha)
    out = pixels.copy()
    # Object colours extend beyond a soft edge, so blending changes that edge even where no artifact is: without any
    # artifact nothing may be blended.
    if coverage.any() and any(strength > 0 for _, strength in strengths):
        box = _aligned_box(coverage, int(np.ceil(pixel_size)))
        window = np.asarray(box.of(out), np.uint8)
        mask = box.of(coverage) >= MARKED * 255
        mask = mask if mask.any() else box.of(coverage) > 0
        drawn = _draw_object_artifacts(window, mask, strengths, seed, pixel_size)
        if strengths.quality_degradation > 0 and not quality_everywhere:
            drawn = degrade(drawn, _generator(seed, 3), strengths.quality_degradation, pixel_size)
        box.of(out)[:] = _blend(window, drawn, np.asarray(box.of(coverage), np.uint8))
    if strengths.quality_degradation > 0 and quality_everywhere:
        out = degrade(out, _generator(seed, 3), strengths.quality_degradation, pixel_size)
    return out


def record_text(record: ArtifactRecord) -> dict[str, str]:
    """PNG text chunks for `refgc.imaging.image.save_image` that say that and how the picture was simulated."""
    return {
        "Comment": "Simulated: no generative model drew this picture.",
        "refgc-simulated": record.model_dump_json(),
    }


def _draw_object_artifacts(pixels: Bytes, mask: Bools, strengths: Strengths, seed: int, pixel_size: float) -> Bytes:
    """The three artifacts that concern the object itself."""
    drawn = extend_outwards(pixels, mask)
    if strengths.identity_distortion > 0:
        drawn = distort(drawn, mask, _generator(seed, 0), strengths.identity_distortion)
    if strengths.detail_inconsistency > 0:
        drawn = garble(drawn, mask, _generator(seed, 1), strengths.detail_inconsistency, LEAST_STROKE * pixel_size)
    if strengths.texture_loss > 0:
        drawn = flatten(drawn, strengths.texture_loss, pixel_size)
    return drawn


def _generator(seed: int, artifact: int) -> np.random.Generator:
    return np.random.default_rng([seed, artifact])


def _blend(below: Bytes, above: Bytes, coverage: Bytes) -> Bytes:
    """Alpha blending of two pictures in integers; `coverage` (height, width) in [0, 255]."""
    part = coverage.astype(np.uint32)[..., None]
    return np.asarray((below * (255 - part) + above * part + 127) // 255, np.uint8)


def _aligned_box(coverage: Bytes, step: int) -> Region:
    """The bounding box of what is not 0, its corner at multiples of `step` so that LRGI pixels begin there."""
    rows, columns = (np.flatnonzero(coverage.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]) // step * step, int(columns[0]) // step * step
    return Region(left, top, int(columns[-1]) + 1, int(rows[-1]) + 1)
