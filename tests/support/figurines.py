"""Drawn figurines without texture: shaded relief of one colour, lit and placed at will."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Parts of two figurines as ellipses: centre, half axes and rotation in degrees, in sides of the picture.
HARE = (
    ((0.54, 0.62), (0.22, 0.17), 10.0),
    ((0.36, 0.42), (0.10, 0.095), 0.0),
    ((0.33, 0.22), (0.035, 0.13), -8.0),
    ((0.45, 0.25), (0.035, 0.12), 25.0),
    ((0.78, 0.66), (0.06, 0.05), 30.0),
    ((0.42, 0.78), (0.12, 0.05), 0.0),
)
DUCK = (
    ((0.52, 0.66), (0.27, 0.14), -8.0),
    ((0.68, 0.40), (0.12, 0.11), 0.0),
    ((0.83, 0.43), (0.07, 0.03), 10.0),
    ((0.62, 0.54), (0.08, 0.12), 15.0),
    ((0.25, 0.58), (0.10, 0.05), 35.0),
)
BLUE, ORANGE = (110.0, 110.0, 225.0), (225.0, 130.0, 60.0)


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A picture and the figurine's mask in it, uint8 (size, size, 3) and bool (size, size)."""

    picture: np.ndarray
    mask: np.ndarray


def draw_figurine(
    parts: tuple[tuple[tuple[float, float], tuple[float, float], float], ...] = HARE,
    *,
    size: int = 512,
    colour: tuple[float, float, float] = BLUE,
    light: tuple[float, float, float] = (-0.4, -0.6, 0.7),
    relief: float = 1.0,
    turn: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    ground: int | None = None,
    seed: int = 0,
) -> Drawing:
    """A figurine under Lambert's law.

    Args:
        parts: of the figurine.
        size: of the picture in pixels.
        colour: RGB in full light.
        light: towards the lamp, x to the right, y down and z to the viewer.
        relief: strength of the fine relief, 1 for carved and 0 for smooth.
        turn: degrees by which it is turned in the picture.
        scale: factor of its size.
        shift: of its place, in sides of the picture.
        ground: seed of the textured ground on which it stands; None draws a plain one.
        seed: of the relief.
    """
    y, x = (np.mgrid[:size, :size].astype(np.float64) + 0.5) / size - 0.5
    cosine, sine = np.cos(np.radians(turn)) / scale, np.sin(np.radians(turn)) / scale
    x, y = x - shift[0], y - shift[1]
    x, y = cosine * x + sine * y + 0.5, cosine * y - sine * x + 0.5
    height = np.zeros_like(x)
    for (left, top), (wide, high), angle in parts:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        u, v = (c * (x - left) + s * (y - top)) / wide, (c * (y - top) - s * (x - left)) / high
        height = np.maximum(height, min(wide, high) * np.sqrt(np.maximum(1.0 - u**2 - v**2, 0.0)))
    mask = height > 0.0
    smooth = cv2.GaussianBlur(height, (0, 0), 0.012 * size)
    random = np.random.default_rng(seed)
    for frequency, angle, phase in zip(
        random.uniform(60, 160, 12), random.uniform(0, np.pi, 12), random.uniform(0, 6.28, 12), strict=True
    ):
        along = frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase
        smooth += relief * 0.09 / frequency * np.sin(along + 2.0 * np.sin(along / 3.0))
    normal = np.dstack([-np.gradient(smooth, axis=1) * size, -np.gradient(smooth, axis=0) * size, np.ones_like(x)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    lamp = np.array(light) / np.linalg.norm(light)
    shade = 0.3 + 0.7 * np.maximum(normal @ lamp, 0.0)
    drawn = np.where(mask[..., None], np.array(colour) * shade[..., None], _ground(size, ground))
    return Drawing(cv2.GaussianBlur(drawn, (0, 0), 0.7).clip(0, 255).astype(np.uint8), mask)


def generated_from(drawing: Drawing, size: int = 128) -> np.ndarray:
    """The drawing as a soft generated picture of `size` pixels a side, without its fine relief."""
    size_before = drawing.picture.shape[0]
    soft = cv2.GaussianBlur(drawing.picture, (0, 0), 1.0 * size_before / size)
    weight = cv2.GaussianBlur(drawing.mask.astype(np.float32), (0, 0), 1.0)[..., None]
    mixed = drawing.picture + weight * (soft.astype(np.float32) - drawing.picture)
    return np.asarray(cv2.resize(mixed, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _ground(size: int, seed: int | None) -> np.ndarray:
    if seed is None:
        return np.full((size, size, 3), (236.0, 234.0, 230.0))
    random = np.random.default_rng(seed)
    ground = np.zeros((size, size))
    for cells in (4, 9, 20, 45):
        ground += (
            cv2.resize(random.normal(size=(cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC) / cells**0.5
        )
    return np.asarray(np.array((128.0, 120.0, 105.0)) * (1.0 + 0.35 * ground / ground.std())[..., None])
