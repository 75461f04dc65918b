"""The scene description: materials, parts, lights, a camera, and the two views of every example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from examples.make.shapes import Mesh
from examples.make.surfaces import Texture

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """How a surface looks.

    `colour` is sRGB in 0-255, one or a texture; `roughness` in (0, 1]; `relief` a grey bump map of
    `relief_height` decimetres; `glow` is the radiance it emits, as a factor of its colour.
    """

    kind: Literal["coated", "matte", "metal", "glass"]
    colour: Vector | Texture
    roughness: float = 0.3
    relief: Texture | None = None
    relief_height: float = 0.0
    glow: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One mesh with its material."""

    mesh: Mesh
    material: Material


Parts = Sequence[Part]


@dataclass(frozen=True, slots=True)
class Light:
    """A square soft box at `position` that looks at `target`; `size` in decimetres, `power` is its radiance."""

    position: Vector
    size: float
    power: float
    colour: Vector = (1.0, 1.0, 1.0)
    target: Vector = (0.0, 0.0, 0.6)


@dataclass(frozen=True, slots=True)
class Camera:
    """A thin-lens camera that looks at `target` from `distance` decimetres.

    `yaw` and `elevation` in degrees (yaw 0 faces the product, positive goes to its right side), `angle` the horizontal
    field of view in degrees, `aperture` the lens radius in decimetres.
    """

    target: Vector
    distance: float
    yaw: float = 0.0
    elevation: float = 10.0
    angle: float = 30.0
    aperture: float = 0.02
    focus: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture: the product's parts, everything around them, the light and the camera.

    `sky` is the colour of the surrounding light above, `ground_glow` below; the exposure aims at `key` as the mean
    luminance.
    """

    product: Parts
    surroundings: Parts
    lights: Sequence[Light]
    camera: Camera
    sky: Vector = (0.5, 0.5, 0.5)
    ground_glow: Vector = (0.15, 0.15, 0.15)
    key: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A pair of views of one product; `seed` is that of every random number behind its pictures."""

    title: str
    description: str
    object_name: str
    reference: View
    truth: View
    seed: int


def moved(parts: Parts, offset: Vector = (0, 0, 0), yaw: float = 0, tilt: float = 0, roll: float = 0) -> list[Part]:
    """The parts rotated (see `Mesh.moved`) and shifted as one rigid body."""
    return [Part(part.mesh.moved(offset, yaw, tilt, roll), part.material) for part in parts]
