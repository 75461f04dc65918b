"""Textures of tables, walls and cloth, drawn from seeded noise; all return uint8 RGB of shape (size, size, 3)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.uint8]
Field = NDArray[np.float64]
Rgb = Sequence[float]


def noise(size: int, cells: tuple[float, float], seed: int, octaves: int = 4) -> Field:
    """Smooth noise in about [-1, 1], (size, size); `cells` is how many blobs (across, down) the first octave has."""
    random = np.random.default_rng(seed)
    total = np.zeros((size, size))
    for octave in range(octaves):
        columns, rows = (max(2, min(size, round(cell * 2**octave))) for cell in cells)
        layer = random.standard_normal((rows + 2, columns + 2))
        total += cv2.resize(layer, (size, size), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    return np.asarray(total / 2.0)


def blend(weight: Field, low: Rgb, high: Rgb) -> Field:
    """From colour `low` to `high` (0-255) where `weight` goes from 0 to 1; (rows, columns, 3)."""
    weight = np.clip(weight, 0, 1)[..., None]
    return np.asarray((1 - weight) * np.asarray(low, float) + weight * np.asarray(high, float))


def to_texture(values: Field) -> Texture:
    """`values` (0-255) rounded and clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def wood(seed: int, dark: Rgb, light: Rgb, planks: int = 5, size: int = 2048) -> Texture:
    """Boards running along u, each with its own grain, pores and tone."""
    random = np.random.default_rng(seed)
    rows = np.linspace(0, planks, size, endpoint=False)
    board = rows.astype(int)
    tone = random.uniform(-0.18, 0.18, planks)[board][:, None]
    shift = random.integers(0, size, planks)
    drift = noise(size, (3, 14), seed, 3)
    pores = noise(size, (18, 900), seed + 1, 2)
    for index in range(planks):
        drift[board == index] = np.roll(drift[board == index], shift[index], axis=1)
    rings = 0.5 + 0.5 * np.sin(60 * (drift + 0.35 * (rows - board)[:, None]))
    weight = 0.55 + tone + 0.22 * (rings - 0.5) + 0.16 * pores + 0.15 * noise(size, (4, 30), seed + 2, 3)
    gap = np.minimum(rows - board, 1 - (rows - board)) * size / planks
    colour = blend(weight, dark, light)
    return to_texture(colour * np.clip(0.35 + gap / 4, 0, 1)[:, None, None])


def parquet(seed: int, dark: Rgb, light: Rgb, tiles: int = 4, size: int = 2048) -> Texture:
    """Square basket parquet cut from `wood`."""
    source = wood(seed, dark, light, planks=16, size=size)
    step = size // tiles
    out = source.copy()
    for row in range(tiles):
        for column in range(tiles):
            block = np.s_[row * step : (row + 1) * step, column * step : (column + 1) * step]
            out[block] = source[block] if (row + column) % 2 else np.rot90(source[block])
    return out


def linen(seed: int, colour: Rgb, threads: int = 260, size: int = 2048) -> Texture:
    """Plain weave with uneven threads."""
    position = np.linspace(0, threads * np.pi, size)
    across, down = np.abs(np.sin(position))[None, :], np.abs(np.sin(position))[:, None]
    uneven = noise(size, (threads, 6), seed, 2) + noise(size, (6, threads), seed + 1, 2)
    weight = 0.82 + 0.13 * np.maximum(across, down) + 0.07 * uneven
    return to_texture(np.asarray(colour, float) * np.clip(weight, 0, 1.2)[..., None])


def checked(seed: int, colour: Rgb, squares: int = 10, size: int = 2048) -> Texture:
    """Gingham table cloth."""
    stripe = (np.arange(size) * squares * 2 // size) % 2
    amount = (stripe[None, :] + stripe[:, None]) / 2
    weave = linen(seed, (255, 255, 255), threads=320, size=size).astype(float) / 255
    return to_texture(blend(amount * 0.9, (242, 238, 228), colour) * weave)


def concrete(seed: int, colour: Rgb, size: int = 2048) -> Texture:
    """Trowelled concrete or plaster: clouds, fine sand, a few pits."""
    clouds = noise(size, (4, 4), seed, 7)
    sand = np.random.default_rng(seed).standard_normal((size, size)) * 0.03
    pits = noise(size, (160, 160), seed + 2, 2) > 1.25
    weight = 1 + 0.11 * clouds + sand - 0.1 * cv2.GaussianBlur(pits.astype(float), (0, 0), 1.2)
    return to_texture(np.asarray(colour, float) * weight[..., None])


def marble(seed: int, base: Rgb, vein: Rgb, size: int = 2048) -> Texture:
    """Pale stone with warped veins."""
    warp = noise(size, (3, 4), seed, 6)
    veins = np.exp(-np.abs(np.sin(4 * warp + 3 * noise(size, (2, 3), seed + 1, 5))) * 14)
    fine = np.exp(-np.abs(noise(size, (6, 5), seed + 2, 6)) * 22) * 0.4
    return to_texture(blend(0.8 * veins + fine + 0.08 * noise(size, (8, 8), seed + 3, 5), base, vein))


def terrazzo(seed: int, base: Rgb, chips: Sequence[Rgb], size: int = 2048) -> Texture:
    """Cement with coloured stone chips."""
    random = np.random.default_rng(seed)
    picture = concrete(seed, base, size)
    for _ in range(2600):
        centre, reach = random.uniform(0, size, 2), random.gamma(3.0, 3.2)
        angles = np.sort(random.uniform(0, 2 * np.pi, 7))
        radii = reach * random.uniform(0.6, 1.2, 7)
        corners = centre + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        colour = np.asarray(chips[int(random.integers(len(chips)))], float) * random.uniform(0.85, 1.1)
        cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], np.clip(colour, 0, 255).tolist(), cv2.LINE_AA)
    return picture


def blurred_room(seed: int, low: Rgb, high: Rgb, glow: Rgb, lights: int = 40, size: int = 1024) -> Texture:
    """A far room out of focus: dim furniture shapes, a bright window, discs of light."""
    random = np.random.default_rng(seed)
    picture = blend(np.linspace(1, 0, size)[:, None] + 0.25 * noise(size, (2, 2), seed, 2), low, high)
    for _ in range(14):
        left, top = random.integers(0, size, 2)
        width, height = random.integers(size // 14, size // 4, 2)
        tone = blend(random.uniform(0, 1, (1, 1)), low, high)[0, 0] * random.uniform(0.4, 1.1)
        cv2.rectangle(picture, (int(left), int(top)), (int(left + width), int(top + height)), tone.tolist(), -1)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), size / 45))
    for _ in range(lights):
        disc = np.zeros((size, size, 3))
        x, y = int(random.integers(0, size)), int(random.triangular(0, size * 0.35, size * 0.9))
        cv2.circle(disc, (x, y), int(random.uniform(0.012, 0.03) * size), glow, -1, cv2.LINE_AA)
        picture += cv2.GaussianBlur(disc, (0, 0), size / 500) * random.uniform(0.15, 0.7)
    return to_texture(picture)
