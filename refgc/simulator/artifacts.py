"""Simulated generated pictures: the four artifacts of reference-guided generation, drawn onto a true picture.

No generative model takes part. The paper names the artifacts (identity distortion, detail inconsistency, texture loss
and overall quality degradation); how they are simulated is our own. Everything made here carries an `ArtifactRecord`
that says so.

Same picture, mask, strengths and seed, same bytes: whatever decides about a level is computed in whole numbers or in
double precision, by operations whose result does not depend on the processor or the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.errors import InputError
from refgc.imaging.arrays import Bytes, Floats, Size
from refgc.imaging.exact import Inside, spread
from refgc.imaging.image import MARKED, Image, Mask
from refgc.imaging.matting import share_bytes
from refgc.imaging.region import Region
from refgc.simulator.degradation import degrade, flatten
from refgc.simulator.distortion import distort
from refgc.simulator.garbling import garble

# The paper's generated pictures have a quarter of the size of their truth.
FACTOR = 4.0
# Strokes narrower than this part of a generated pixel cannot be seen in it.
LEAST_STROKE = 0.75


class Strengths(BaseModel):
    """How strong each artifact is, from 0, which leaves every byte, to 1.

    The defaults are the slips of a good generator that is held to the true pose, as DipRefGC is by its edges.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity_distortion: float = Field(default=0.03, ge=0, le=1, description="wrong shape, moved parts")
    detail_inconsistency: float = Field(default=0.15, ge=0, le=1, description="wrong lettering and pattern")
    texture_loss: float = Field(default=0.6, ge=0, le=1, description="flat instead of fine texture")
    quality_degradation: float = Field(default=0.3, ge=0, le=1, description="blur, faded colours, noise and JPEG")


class ArtifactRecord(BaseModel):
    """What was done to a picture, so that nobody takes it for a generative model's."""

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
class Simulated:
    """A simulated LRGI.

    Attributes:
        image: the LRGI.
        full: the same before the down-sampling, of the true picture's size.
        record: what was done to make it.
    """

    image: Image
    full: Image
    record: ArtifactRecord


def checked_strengths(values: Mapping[str, float]) -> Strengths:
    """Strengths by name, such as {"texture_loss": 0.3}; those not named keep their default.

    Raises:
        InputError: a name is unknown, or a strength is no number from 0 to 1.
    """
    try:
        return Strengths(**values)
    except ValidationError as error:
        name = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(
            f"The strength {name!r} is {values[name]!r}; give {', '.join(Strengths.model_fields)}, each from 0 to 1."
        ) from error


def smaller(size: Size, factor: float = FACTOR) -> Size:
    """The size of a generated picture whose truth has `size`, at least 1 pixel a side."""
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def simulate(
    picture: Image,
    mask: Mask | None,
    *,
    size: Size,
    strengths: Strengths | None = None,
    seed: int = 0,
    quality_everywhere: bool = False,
) -> Simulated:
    """A simulated LRGI: the artifacts drawn onto a true picture, which is then down-sampled.

    Args:
        picture: what a generator without faults would have drawn: the HRGT itself, or a composed picture.
        mask: the object that the artifacts are drawn on; None takes the whole picture for it.
        size: (width, height) of the result in pixels, at most that of the picture; see `smaller`.
        strengths: of each artifact; None takes the defaults.
        seed: a whole number from 0 to 2**63 - 1.
        quality_everywhere: whether the quality degradation covers the whole picture and not the object alone.

    Raises:
        InputError: the size is none or larger than the picture.
    """
    if min(size) < 1 or size[0] > picture.size[0] or size[1] > picture.size[1]:
        raise InputError(
            f"The simulated picture would be {size[0]}x{size[1]} pixels and its truth is {picture.size[0]}x"
            f"{picture.size[1]}; choose a size that is not larger."
        )
    chosen = strengths or Strengths()
    pixel = max(picture.size[0] / size[0], picture.size[1] / size[1])
    share = None if mask is None else mask.values
    full = draw_artifacts(picture.pixels, share, chosen, seed, pixel=pixel, quality_everywhere=quality_everywhere)
    small = np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.uint8)
    record = ArtifactRecord(
        seed=seed,
        strengths=chosen,
        localised=mask is not None,
        quality_everywhere=quality_everywhere,
        true_size=picture.size,
        size=size,
    )
    return Simulated(Image(small), Image(full), record)


def draw_artifacts(
    pixels: Bytes,
    share: Floats | None,
    strengths: Strengths,
    seed: int,
    *,
    pixel: float = FACTOR,
    quality_everywhere: bool = False,
) -> Bytes:
    """The four artifacts, at full size.

    Args:
        pixels: uint8 RGB (height, width, 3).
        share: (height, width) in [0, 1], how much of each pixel is object; where it is 0 no byte changes. None takes
            the whole picture for the object.
        strengths: of each artifact; where all are 0 no byte changes.
        seed: of everything random. Each artifact draws its own numbers, so that the strength of one does not change
            what another does.
        pixel: how many of these pixels one of the generated picture will cover: finer artifacts would not be seen.
        quality_everywhere: whether the quality degradation covers the whole picture.
    """
    shares = np.full(pixels.shape[:2], 255, np.uint8) if share is None else share_bytes(share)
    out = pixels.copy()
    # What is drawn goes on beyond a soft edge: laying it over would change the edge even where nothing is wrong.
    if shares.any() and any(strength > 0 for _, strength in strengths):
        box = _aligned_box(shares, int(np.ceil(pixel)))
        window = np.asarray(box.of(out), np.uint8)
        inside = box.of(shares) >= MARKED * 255
        inside = inside if inside.any() else box.of(shares) > 0
        drawn = _drawn_wrong(window, inside, strengths, seed, pixel)
        if strengths.quality_degradation > 0 and not quality_everywhere:
            drawn = degrade(drawn, _random(seed, 3), strengths.quality_degradation, pixel)
        box.of(out)[:] = _laid_over(window, drawn, np.asarray(box.of(shares), np.uint8))
    if strengths.quality_degradation > 0 and quality_everywhere:
        out = degrade(out, _random(seed, 3), strengths.quality_degradation, pixel)
    return out


def record_text(record: ArtifactRecord) -> dict[str, str]:
    """PNG metadata by keyword, for `refgc.imaging.image.save_image`: that the picture is simulated, and how."""
    return {
        "Comment": "Simulated: no generative model drew this picture.",
        "refgc-simulated": record.model_dump_json(),
    }


def _drawn_wrong(pixels: Bytes, inside: Inside, strengths: Strengths, seed: int, pixel: float) -> Bytes:
    drawn = spread(pixels, inside)
    if strengths.identity_distortion > 0:
        drawn = distort(drawn, inside, _random(seed, 0), strengths.identity_distortion)
    if strengths.detail_inconsistency > 0:
        drawn = garble(drawn, inside, _random(seed, 1), strengths.detail_inconsistency, LEAST_STROKE * pixel)
    if strengths.texture_loss > 0:
        drawn = flatten(drawn, strengths.texture_loss, pixel)
    return drawn


def _random(seed: int, artifact: int) -> np.random.Generator:
    return np.random.default_rng([seed, artifact])


def _laid_over(below: Bytes, above: Bytes, shares: Bytes) -> Bytes:
    """Two pictures mixed in whole numbers."""
    part = shares.astype(np.uint32)[..., None]
    return np.asarray((below * (255 - part) + above * part + 127) // 255, np.uint8)


def _aligned_box(shares: Bytes, step: int) -> Region:
    """The box of what is not 0, beginning at multiples of `step`, where pixels of the generated picture begin."""
    rows, columns = (np.flatnonzero(shares.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]) // step * step, int(columns[0]) // step * step
    return Region(left, top, int(columns[-1]) + 1, int(rows[-1]) + 1)
