"""Props beside a product: fruit, books, bowls, plants, candles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from examples.make.scene import Material, Part, Vector, moved
from examples.make.shapes import lathe, leaf, rounded, rounded_box
from examples.make.surfaces import concrete, linen, noise, to_texture


def fruit(place: Vector, radius: float, colour: Vector, seed: int, gloss: float = 0.25) -> list[Part]:
    """An orange, lemon, tomato or plum, by its colour."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 64)
    profile = np.stack([np.cos(angle), np.sin(angle) * (0.93 - 0.07 * np.cos(angle) ** 6)], axis=1) * radius
    profile[-6:, 1] -= radius * 0.05 * np.linspace(0, 1, 6) ** 2
    mottle = 1 + 0.07 * noise(512, (5, 5), seed, 5) + 0.04 * noise(512, (60, 60), seed + 1, 2)
    skin = to_texture(np.asarray(colour) * mottle[..., None])
    pores = to_texture((128 + 40 * noise(512, (70, 70), seed + 2, 2))[..., None])
    material = Material("coated", skin, gloss, pores, 0.02)
    lifted = (place[0], place[1], place[2] + radius * 0.93)
    return moved([Part(lathe(profile), material)], lifted, yaw=seed * 77 % 360, tilt=14)


def book(place: Vector, size: Vector, colour: Vector, seed: int, yaw: float = 0, upright: bool = False) -> list[Part]:
    """A cloth-bound book of (width, depth, thickness), lying, or standing with its spine to the viewer."""
    width, depth, thickness = size
    cloth = Material("matte", linen(seed, colour, threads=120, size=512))
    pages = to_texture(np.asarray([232, 222, 200.0]) * (1 + 0.06 * noise(512, (2, 200), seed, 2))[..., None])
    block = rounded_box(width - 0.12, depth - 0.1, thickness - 0.09, 0.01)
    parts = [Part(mesh.moved((0, -0.02, 0.045)), Material("matte", pages)) for mesh in block.values()]
    for height in (0.0, thickness - 0.05):
        parts += [Part(mesh.moved((0, 0, height)), cloth) for mesh in rounded_box(width, depth, 0.05, 0.02).values()]
    spine = rounded_box(width, 0.05, thickness, 0.024)
    parts += [Part(mesh.moved((0, -depth / 2 if upright else depth / 2, 0)), cloth) for mesh in spine.values()]
    if upright:
        parts = moved(parts, (0, 0, width / 2), roll=90)
    return moved(parts, place, yaw=yaw)


def bowl(place: Vector, radius: float, colour: Vector, roughness: float = 0.15) -> list[Part]:
    """An empty glazed bowl."""
    profile = rounded(
        [(0, 0), (0.45, 0), (0.5, 0.06), (0.82, 0.3), (1, 0.62), (0.95, 0.63), (0.78, 0.34), (0.45, 0.12), (0, 0.1)],
        0.12,
    )
    return moved([Part(lathe(profile * radius), Material("coated", colour, roughness))], place)


def cup(place: Vector, height: float, colour: Vector, roughness: float = 0.12) -> list[Part]:
    """A cup of coffee without a handle."""
    profile = rounded([(0, 0), (0.34, 0), (0.42, 0.06), (0.46, 1), (0.425, 1), (0.4, 0.12), (0, 0.09)], 0.05)
    coffee = lathe(np.array([[0.0, 0.86], [0.42, 0.86]]) * height)
    parts = [Part(lathe(profile * height), Material("coated", colour, roughness))]
    return moved([*parts, Part(coffee, Material("coated", (48, 26, 14), 0.05))], place)


def pot_plant(place: Vector, size: float, seed: int, pot: Vector = (188, 104, 72)) -> list[Part]:
    """Leaves on arching stems in an earthen pot."""
    random = np.random.default_rng(seed)
    profile = rounded(
        [(0, 0), (0.32, 0), (0.44, 0.62), (0.5, 0.62), (0.5, 0.78), (0.44, 0.78), (0.42, 0.7), (0, 0.7)], 0.04
    )
    clay = Material("matte", concrete(seed, pot, 512))
    parts = [Part(lathe(profile * size), clay)]
    for index in range(46):
        tone = random.uniform(0.7, 1.25)
        green = Material("coated", (52 * tone, 98 * tone, 46 * tone), 0.35)
        length = size * random.uniform(0.7, 1.25)
        blade = leaf(length, length * 0.28, random.uniform(0.1, 0.75))
        steep = random.uniform(-55, 10)
        parts.append(Part(blade.moved(roll=steep).moved((0, 0, size * 0.7), yaw=index * 137.5), green))
    return moved(parts, place)


def candle(place: Vector, radius: float, height: float, colour: Vector) -> list[Part]:
    """A pillar candle, unlit."""
    profile = rounded(
        [(0, 0), (1, 0), (1, height / radius), (0.86, height / radius - 0.12), (0, height / radius - 0.2)], 0.12
    )
    wick = lathe(
        np.array([[0.035, height / radius - 0.2], [0.03, height / radius + 0.12], [0, height / radius + 0.13]]) * radius
    )
    wax = Part(lathe(profile * radius), Material("coated", colour, 0.45))
    return moved([wax, Part(wick, Material("matte", (28, 24, 20)))], place)


def pebbles(centre: Vector, spread: float, count: int, seed: int, colours: Sequence[Vector]) -> list[Part]:
    """Small round stones or beans strewn over a table."""
    random = np.random.default_rng(seed)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 24)
    parts: list[Part] = []
    for _ in range(count):
        radius = random.uniform(0.05, 0.09)
        profile = np.stack([np.cos(angle), 0.6 * np.sin(angle)], axis=1) * radius
        x, y = centre[0] + random.normal(0, spread), centre[1] + random.normal(0, spread)
        colour = colours[int(random.integers(len(colours)))]
        stone = Part(lathe(profile, steps=32), Material("coated", colour, 0.3))
        parts += moved([stone], (x, y, centre[2] + radius * 0.6), yaw=random.uniform(0, 360))
    return parts
