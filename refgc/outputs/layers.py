"""A result as layers: the enlarged picture, and what was made of it above, so that a person can paint parts back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from refgc.engine import RefineResult, box_of
from refgc.imaging.arrays import Bools, Bytes, Floats
from refgc.imaging.image import levels_of
from refgc.imaging.levels import Words
from refgc.imaging.transparency import without_white

# Side in pixels of the square with which holes of single pixels in a mask are closed. Chosen by hand, not fitted: in a
# refined object some pixels come out as they were, and a mask with holes is tedious to paint on.
CLOSING = 5


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer.

    Attributes:
        name: for people.
        levels: uint8 or uint16 RGB (height, width, 3), its own colours in sRGB, opaque everywhere.
        left: of its upper left corner in the picture, in pixels.
        top: likewise.
        mask: (height, width), true where the layer is shown; None for everywhere.
    """

    name: str
    levels: Bytes | Words
    left: int = 0
    top: int = 0
    mask: Bools | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayeredPicture:
    """A picture that can be taken apart.

    Where a layer is shown it covers those below; the lowest one fills the picture. What comes out is `merged` exactly.

    Attributes:
        layers: the lowest first.
        merged: uint8 or uint16 RGB (height, width, 3), all layers together, in sRGB. Those of a transparent picture are
            its own colours, without the white that is seen through it.
        flat: the same seen on white.
        alpha: (height, width) in [0, 1], the transparency of the lowest layer, to which the others keep; None for an
            opaque picture.
    """

    layers: tuple[Layer, ...]
    merged: Bytes | Words
    flat: Bytes | Words
    alpha: Floats | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.merged.shape[1], self.merged.shape[0]


def layers_of(result: RefineResult, bits: int = 8) -> LayeredPicture:
    """Takes a result apart.

    From below: the picture plainly enlarged; the surroundings, where a network drew them; and the refined object. The
    upper ones have the result's own colours, soft transitions included, and a mask that is on or off. Masks with soft
    edges would not give back the result exactly, since the colours that they ask for have no level of their own.

    Args:
        result: what an engine made.
        bits: of each channel, 8 or 16.
    """
    alpha = None if result.image.alpha is None else result.image.alpha.values
    merged = flat = levels_of(result.image, bits)
    below = [Layer("Enlarged", levels_of(result.stages["upscaled"], bits))]
    if "surroundings" in result.stages:
        below.append(Layer("Surroundings", levels_of(result.stages["surroundings"], bits)))
    if alpha is not None:
        merged = without_white(flat, alpha)
        below = [replace(layer, levels=without_white(layer.levels, alpha)) for layer in below]
    changed = (merged != below[-1].levels).any(axis=2)
    if alpha is not None:
        changed &= alpha > 0
    # Where nothing was placed, only what a network drew can differ.
    name = "Refined object" if result.report.placed else "Surroundings"
    top = _cropped(Layer(name, merged, mask=_closed(changed)))
    return LayeredPicture((*below, *top), merged, flat, alpha)


def _closed(mask: Bools) -> Bools:
    kernel = np.ones((CLOSING, CLOSING), np.uint8)
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel), np.bool_)


def _cropped(layer: Layer) -> tuple[Layer, ...]:
    """The layer no larger than what is shown of it; none where nothing is."""
    assert layer.mask is not None
    box = box_of(layer.mask)
    if box is None:
        return ()
    left, top, right, bottom = box
    part = slice(top, bottom), slice(left, right)
    return (replace(layer, levels=layer.levels[part], left=left, top=top, mask=layer.mask[part]),)
