"""Random scenes around a product: pose, place, light, neighbours, and things that hide a part of it.

Unit: one decimetre, as in `examples.make.shapes`. The constants of this file were chosen by hand, not fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import book, bowl, candle, cup, fruit, pot_plant
from examples.make.scene import Camera, Light, Material, Part, Parts, Vector, View, moved
from examples.make.shapes import Mesh, Points, grid, rounded_box
from examples.make.surfaces import Texture, blurred_room, checked, concrete, linen, marble, terrazzo, wood

LightKind = Literal["window", "lamp", "overcast", "sun", "night", "cold window", "dim", "coloured"]
OccluderKind = Literal["cup", "fruit", "box", "cloth"]
LIGHT_KINDS: tuple[LightKind, ...] = ("window", "lamp", "overcast", "sun", "night", "cold window", "dim", "coloured")
OCCLUDER_KINDS: tuple[OccluderKind, ...] = ("cup", "fruit", "box", "cloth")

# Every product is scaled to this largest extent, so that one set of places and props fits all.
EXTENT = 1.5
# From this elevation in degrees on, a product that can lie does.
LYING_ELEVATION = 32.0
# The product stays within this part of the half frame.
FRAME_MARGIN = 0.95
# Where no detail of more texels is seen, fewer render faster and alias less.
MOST_TEXELS = 1536


@dataclass(frozen=True, slots=True)
class Pose:
    """How a product is seen.

    `yaw` in degrees is how far it is turned from its studio photo, `elevation` in degrees that of the camera. `share`
    is the wanted area of the product's convex hull over that of the frame; it is smaller where the product would leave
    the frame.
    """

    yaw: float
    elevation: float
    share: float


def normalised(parts: Parts, upright: bool = True) -> list[Part]:
    """The product scaled to `EXTENT`, centred above the origin, standing on z = 0 or lying on its back."""
    if not upright:
        parts = moved(parts, tilt=-84)
    low, high = _bounds(parts)
    scale = EXTENT / (high - low).max()
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return [
        Part(Mesh((part.mesh.vertices - middle) * scale, part.mesh.faces, part.mesh.texture), _lighter(part.material))
        for part in parts
    ]


def studio_view(parts: Parts, pose: Pose, random: np.random.Generator) -> View:
    """A photo of the whole product on seamless paper in even light, as a reference is."""
    colour: Vector = _colour(random, 170, 235)
    product = moved(parts, yaw=pose.yaw)
    seed = int(random.integers(1_000_000))
    lights = studio_lights(random.uniform(8, 11), side=float(random.choice([-1.0, 1.0])))
    return View(product, studio(seed, colour), lights, _camera(product, pose, 25.0, 0.008, random), key=0.33)


def scene_view(
    parts: Parts, pose: Pose, light: LightKind, occluder: OccluderKind | None, random: np.random.Generator
) -> View:
    """The product among other things on a table, `occluder` partly before it."""
    product = moved(parts, yaw=pose.yaw)
    camera = _camera(product, pose, random.uniform(24, 40), random.uniform(0.004, 0.015), random)
    seed = int(random.integers(1_000_000))
    dark, pale = _colour(random, 20, 110), _colour(random, 120, 225)
    room = blurred_room(seed, dark, pale, _colour(random, 180, 255), int(random.integers(8, 60)), 512)
    glow = {"night": 0.35, "dim": 0.5}.get(light, random.uniform(0.7, 1.4))
    surroundings = [*table(_table_top(random), room, glow=glow), *_neighbours(random)]
    if occluder is not None:
        surroundings += _occluder(occluder, product, camera, random)
    lights, sky, key = _illumination(light, random)
    return View(product, surroundings, lights, camera, sky, (sky[0] * 0.4, sky[1] * 0.36, sky[2] * 0.3), key)


def with_prints_of(parts: Parts, donor: Parts) -> list[Part]:
    """The product with the prints of another; one without a print gets the donor's largest all over."""
    own, others = _prints(parts), _prints(donor)
    if not own:
        return [Part(part.mesh, replace(part.material, colour=others[0])) for part in parts]
    exchanged = {id(print_): others[index % len(others)] for index, print_ in enumerate(own)}
    return [
        Part(part.mesh, replace(part.material, colour=exchanged.get(id(part.material.colour), part.material.colour)))
        for part in parts
    ]


def prints_differ(first: Parts, second: Parts) -> bool:
    """Whether two versions of a product look different."""
    pairs = zip(first, second, strict=True)
    return any(not np.array_equal(one.material.colour, other.material.colour) for one, other in pairs)


def hull_share(parts: Parts, camera: Camera) -> float:
    """Area of the convex hull of the projected parts over that of the frame."""
    places = projected(np.concatenate([part.mesh.vertices for part in parts]), camera)
    return float(cv2.contourArea(cv2.convexHull(places.astype(np.float32)))) / 4


def projected(vertices: Points, camera: Camera) -> Points:
    """Pinhole projection of (n, 3) to (n, 2); the frame is [-1, 1] each way, y upwards."""
    right, up, towards = _axes(camera)
    offset = vertices - np.asarray(camera.target)
    depth = np.maximum(camera.distance - offset @ towards, 1e-3) * np.tan(np.radians(camera.angle) / 2)
    return np.asarray(np.stack([offset @ right, offset @ up], axis=1) / depth[:, None])


def _prints(parts: Parts) -> list[Texture]:
    """The different textures, the largest first."""
    textures = {id(part.material.colour): part.material.colour for part in parts}
    prints = [texture for texture in textures.values() if isinstance(texture, np.ndarray)]
    return sorted(prints, key=lambda texture: -texture.size)


def _lighter(material: Material) -> Material:
    """The material with its texture reduced to `MOST_TEXELS`."""
    colour = material.colour
    if not isinstance(colour, np.ndarray) or max(colour.shape[:2]) <= MOST_TEXELS:
        return material
    factor = MOST_TEXELS / max(colour.shape[:2])
    return replace(material, colour=cv2.resize(colour, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def _bounds(parts: Parts) -> tuple[Points, Points]:
    vertices = np.concatenate([part.mesh.vertices for part in parts])
    return vertices.min(axis=0), vertices.max(axis=0)


def _axes(camera: Camera) -> tuple[Points, Points, Points]:
    """Unit vectors to the right, upwards and towards the viewer."""
    yaw, elevation = np.radians(camera.yaw), np.radians(camera.elevation)
    towards = np.array([np.sin(yaw) * np.cos(elevation), -np.cos(yaw) * np.cos(elevation), np.sin(elevation)])
    right = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    return right, np.cross(towards, right), towards


def _camera(product: Parts, pose: Pose, angle: float, aperture: float, random: np.random.Generator) -> Camera:
    """A camera at the nearest distance from which the product is no larger than the pose asks and within the frame."""
    low, high = _bounds(product)
    middle = (low + high) / 2
    vertices = np.concatenate([part.mesh.vertices for part in product])
    camera = Camera((0.0, 0.0, float(middle[2])), 40.0, float(random.uniform(-8, 8)), pose.elevation, angle, aperture)
    near, far = float(np.linalg.norm(high - low)) / 2 + 0.3, 40.0
    for _ in range(24):
        camera = replace(camera, distance=(near + far) / 2)
        inside = np.abs(projected(vertices, camera)).max() < FRAME_MARGIN
        if inside and hull_share(product, camera) < pose.share:
            far = camera.distance
        else:
            near = camera.distance
    places = projected(vertices, camera)
    right, up, _ = _axes(camera)
    shift = np.zeros(3)
    for axis, values in ((right, places[:, 0]), (up, places[:, 1])):
        # How far the product may move off the middle of the frame.
        lowest, highest = -FRAME_MARGIN - float(values.min()), FRAME_MARGIN - float(values.max())
        place = random.uniform(0.7 * min(lowest, highest), 0.7 * max(lowest, highest))
        shift -= axis * place * camera.distance * np.tan(np.radians(angle) / 2)
    target = np.asarray(camera.target) + shift
    focus = camera.distance - float(np.linalg.norm(high - low)) * 0.3
    return replace(camera, target=(float(target[0]), float(target[1]), float(target[2])), focus=focus)


def _colour(random: np.random.Generator, low: float, high: float) -> Vector:
    """A random colour of moderate saturation."""
    base = random.uniform(low, high)
    red, green, blue = np.clip(base + random.uniform(-0.25, 0.25, 3) * base, 0, 255)
    return float(red), float(green), float(blue)


def _table_top(random: np.random.Generator) -> Material:
    seed, size = int(random.integers(1_000_000)), 1024
    dark, pale = _colour(random, 40, 110), _colour(random, 120, 235)
    match int(random.integers(6)):
        case 0:
            return Material("matte", linen(seed, pale, threads=300, size=size))
        case 1:
            return Material("matte", checked(seed, dark, squares=int(random.integers(14, 26)), size=size))
        case 2:
            return Material("coated", concrete(seed, pale, size), 0.35)
        case 3:
            return Material("coated", marble(seed, pale, dark, size), 0.12)
        case 4:
            return Material("coated", terrazzo(seed, pale, [dark, _colour(random, 60, 220)], size), 0.2)
        case _:
            return Material("coated", wood(seed, dark, pale, planks=int(random.integers(3, 7)), size=size), 0.25)


def _neighbours(random: np.random.Generator) -> list[Part]:
    """Two or three things beside and behind the product."""
    parts: list[Part] = []
    for index in range(int(random.integers(2, 4))):
        side = 1.0 if index % 2 else -1.0
        place = (side * random.uniform(1.35, 2.1), random.uniform(0.0, 1.4) + 0.8 * (index // 2), 0.0)
        seed = int(random.integers(1000))
        match int(random.integers(6)):
            case 0:
                parts += fruit(place, random.uniform(0.28, 0.42), _colour(random, 90, 220), seed)
            case 1:
                parts += book(place, (1.3, 1.0, 0.28), _colour(random, 50, 200), seed, random.uniform(-40, 40))
            case 2:
                parts += bowl(place, random.uniform(0.5, 0.75), _colour(random, 70, 235))
            case 3:
                parts += candle(place, 0.24, random.uniform(0.4, 0.9), _colour(random, 150, 240))
            case 4:
                parts += cup(place, random.uniform(0.6, 0.8), _colour(random, 60, 235))
            case _:
                parts += pot_plant(place, random.uniform(0.5, 0.75), seed)
    return parts


def _occluder(kind: OccluderKind, product: Parts, camera: Camera, random: np.random.Generator) -> list[Part]:
    """Something between the camera and a side of the product."""
    right, _, towards = _axes(camera)
    low, high = _bounds(product)
    ahead = np.array([towards[0], towards[1], 0.0]) / np.hypot(towards[0], towards[1])
    side = float(random.choice([-1.0, 1.0]))
    width, height = float(np.abs((high - low) @ right)), float(high[2])
    if kind == "cloth" or camera.elevation > LYING_ELEVATION:
        return [_ribbon(product, camera, random)]
    # A high camera looks over what stands in front; therefore it stands taller.
    vertices = np.concatenate([part.mesh.vertices for part in product])
    nearest = float((vertices @ ahead).max()) + 0.05
    tall = min(1.1, random.uniform(0.3, 0.6) * height + nearest * float(np.tan(np.radians(camera.elevation))))
    radius = {"cup": 0.46 * tall, "fruit": tall / 1.9}.get(kind, 0.4)
    spot = ahead * (nearest + radius) + right * side * width * random.uniform(0.3, 0.5)
    place = (float(spot[0]), float(spot[1]), 0.0)
    match kind:
        case "cup":
            return cup(place, tall, _colour(random, 60, 235))
        case "fruit":
            return fruit(place, radius, _colour(random, 90, 220), int(random.integers(1000)))
        case _:
            cloth = Material("coated", concrete(int(random.integers(1000)), _colour(random, 60, 220), 512), 0.4)
            box = rounded_box(random.uniform(0.4, 0.7), 0.35, tall, 0.02).values()
            return moved([Part(mesh, cloth) for mesh in box], place, yaw=random.uniform(-30, 30))


def _ribbon(product: Parts, camera: Camera, random: np.random.Generator) -> Part:
    """A wavy strip of cloth that crosses the frame in front of the product."""
    right, up, towards = _axes(camera)
    low, high = _bounds(product)
    middle = (low + high) / 2
    distance = float(np.linalg.norm(high - low)) / 2 + 0.15
    along, across = np.meshgrid(np.linspace(-1, 1, 120), np.linspace(-1, 1, 12))
    angle = np.radians(random.uniform(-70, 70))
    direction, normal = np.cos(angle) * right + np.sin(angle) * up, np.cos(angle) * up - np.sin(angle) * right
    # The strip is nearer than the product, and therefore looks larger.
    breadth = float(np.ptp(np.concatenate([part.mesh.vertices for part in product]) @ normal))
    breadth *= max(0.2, 1 - distance / camera.distance)
    half_width = random.uniform(0.1, 0.2) * breadth
    offset = random.uniform(-0.35, 0.35) * breadth
    wave = 0.03 * breadth * np.sin(along * random.uniform(6, 12) + random.uniform(0, 6))
    x, y = 3.5 * along, half_width * across + offset + wave
    points = middle + towards * distance + x[..., None] * direction + y[..., None] * normal
    points = points + wave[..., None] * towards
    weave = linen(int(random.integers(1000)), _colour(random, 60, 230), threads=120, size=512)
    return Part(grid(points), Material("matte", weave))


def _illumination(kind: LightKind, random: np.random.Generator) -> tuple[Sequence[Light], Vector, float]:
    """Lights, colour of the sky, and the mean luminance that is exposed for."""
    side = float(random.choice([-1.0, 1.0]))
    height, power = random.uniform(3, 6), random.uniform(13, 22)
    match kind:
        case "window":
            return side_window(power, (1.0, 0.93, 0.82), side, height), (0.42, 0.42, 0.4), random.uniform(0.2, 0.3)
        case "cold window":
            return side_window(power, (0.78, 0.9, 1.0), side, height), (0.36, 0.42, 0.5), random.uniform(0.18, 0.28)
        case "lamp":
            return side_window(power, (1.0, 0.66, 0.36), side, height), (0.16, 0.14, 0.12), random.uniform(0.14, 0.2)
        case "overcast":
            return side_window(2.0, (1.0, 1.0, 1.0), side, height), (0.9, 0.95, 1.0), random.uniform(0.22, 0.32)
        case "sun":
            sun = Light((side * 7.0, -4.0, 9.0), 1.0, power * 14, (1.0, 0.94, 0.82))
            return [sun], (0.5, 0.58, 0.7), random.uniform(0.24, 0.34)
        case "night":
            lamp = Light((side * 4.5, 1.0, 4.0), 1.5, power, (1.0, 0.7, 0.42))
            moon = Light((-side * 7.0, -5.0, 5.0), 4.0, 1.0, (0.5, 0.65, 1.0))
            return [lamp, moon], (0.03, 0.035, 0.06), random.uniform(0.06, 0.09)
        case "dim":
            return side_window(4.0, (1.0, 0.9, 0.8), side, height), (0.2, 0.2, 0.2), random.uniform(0.06, 0.1)
        case "coloured":
            tint: Vector = [(1.0, 0.35, 0.6), (0.4, 0.6, 1.0), (0.5, 1.0, 0.6)][int(random.integers(3))]
            other = Light((-side * 7.0, -4.0, 4.0), 4.0, power * 0.4, (tint[2], tint[0], tint[1]))
            return [*side_window(power, tint, side, height), other], (0.2, 0.2, 0.22), random.uniform(0.14, 0.22)


def stratum(index: int, count: int, shift: int, low: float, high: float, random: np.random.Generator) -> float:
    """A random number from one of `count` equal parts of the range from `low` to `high`."""
    return low + (high - low) * ((index + shift) % count + float(random.uniform())) / count


def visible(mask: NDArray[np.uint8]) -> float:
    """Share of the frame that a mask (0 to 255) covers."""
    return float(mask.mean()) / 255
