"""Meshes of the products and props, all built as grids of points.

Unit: one decimetre. The z axis points up and products face the viewer along -y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles with texture coordinates.

    `vertices` (n, 3), `faces` (m, 3) indices into it, `texture` (n, 2) in [0, 1], v growing upwards.
    """

    vertices: Points
    faces: NDArray[np.int64]
    texture: Points

    def normals(self) -> Points:
        """Area-weighted vertex normals, (n, 3), unit length."""
        corners = self.vertices[self.faces]
        face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(normals, self.faces[:, corner], face_normals)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))

    def moved(self, offset: Sequence[float] = (0, 0, 0), yaw: float = 0, tilt: float = 0, roll: float = 0) -> Mesh:
        """Rolled about y, tilted about x, turned about z (degrees, in this order), then shifted."""
        turn = rotation(2, yaw) @ rotation(0, tilt) @ rotation(1, roll)
        return Mesh(self.vertices @ turn.T + np.asarray(offset, dtype=np.float64), self.faces, self.texture)


def rotation(axis: int, degrees: float) -> Points:
    """The (3, 3) right-handed rotation about one coordinate axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[[first, second], [first, second]] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def grid(points: Points, texture: Points | None = None) -> Mesh:
    """A surface through `points` (rows, columns, 3); columns run along u, rows along v."""
    rows, columns = points.shape[:2]
    if texture is None:
        u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
        texture = np.stack([u, v], axis=-1)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, axis=-1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return Mesh(points.reshape(-1, 3), faces, texture.reshape(-1, 2))


def rounded(corners: Sequence[tuple[float, float]], radius: float, steps: int = 8) -> Points:
    """The polyline through `corners` (n, 2) with every inner corner rounded over `radius`."""
    line = np.asarray(corners, dtype=np.float64)
    pieces = [line[:1]]
    t = np.linspace(0, 1, steps)[:, None]
    for before, corner, after in zip(line[:-2], line[1:-1], line[2:], strict=True):
        reach = min(radius, np.linalg.norm(corner - before) / 2.01, np.linalg.norm(after - corner) / 2.01)
        start = corner + (before - corner) / np.linalg.norm(before - corner) * reach
        stop = corner + (after - corner) / np.linalg.norm(after - corner) * reach
        pieces.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * stop)
    return np.concatenate([*pieces, line[-1:]])


def lathe(profile: Points, start: float = -180, stop: float = 180, steps: int = 192) -> Mesh:
    """`profile` (n, 2) of (radius, height) turned about z; angle 0 faces the viewer, u grows to their right."""
    angle = np.radians(np.linspace(start, stop, steps + 1))
    radius, height = profile[:, :1], profile[:, 1:]
    points = np.stack([radius * np.sin(angle), -radius * np.cos(angle), height + 0 * angle], axis=-1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    u, v = np.meshgrid(np.linspace(0, 1, steps + 1), along / along[-1])
    return grid(points, np.stack([u, v], axis=-1))


def tube(path: Points, width: float, depth: float, steps: int = 32) -> Mesh:
    """A tube of elliptic section around `path` (n, 3) that lies in the xz plane; `depth` is its half size along y."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 1.0, 0.0])
    angle = np.linspace(0, 2 * np.pi, steps + 1)
    ring = side[:, None] * (width * np.cos(angle))[None, :, None]
    return grid(path[:, None] + ring + np.array([0.0, 1.0, 0.0]) * (depth * np.sin(angle))[None, :, None])


def rounded_box(width: float, depth: float, height: float, radius: float) -> dict[str, Mesh]:
    """The six faces (front, back, left, right, top, bottom) of a box with rounded edges, standing on z = 0.

    Each face has its own texture, upright as seen from outside.
    """
    half = np.array([width, depth, height]) / 2
    sides = {"front": (0, 2, 1, -1, 1), "back": (0, 2, 1, 1, -1), "right": (1, 2, 0, 1, 1), "left": (1, 2, 0, -1, -1)}
    sides |= {"top": (0, 1, 2, 1, 1), "bottom": (0, 1, 2, -1, 1)}
    faces = {}
    for name, (across, up, out, sign, direction) in sides.items():
        columns, rows = _edge_dense(half[across], radius), _edge_dense(half[up], radius)
        u, v = np.meshgrid(columns, rows)
        cube = np.zeros((*u.shape, 3))
        cube[..., across], cube[..., up], cube[..., out] = direction * u, v, sign * half[out]
        inner = np.clip(cube, -(half - radius), half - radius)
        outward = cube - inner
        points = inner + radius * outward / np.linalg.norm(outward, axis=-1, keepdims=True)
        texture = np.stack([u / half[across], v / half[up]], axis=-1) / 2 + 0.5
        faces[name] = grid(points + np.array([0, 0, half[2]]), texture)
    return faces


def _edge_dense(half: float, radius: float) -> Points:
    edge = np.linspace(0, radius, 7)
    return np.concatenate([-half + edge, np.linspace(-half + radius, half - radius, 9)[1:-1], half - edge[::-1]])


def pillow(width: float, height: float, thickness: float, wrinkles: Points, steps: int = 240) -> dict[str, Mesh]:
    """Front and back of a stuffed square cushion standing in the xz plane, its centre at the origin.

    `wrinkles` (steps, steps) is added to the thickness, scaled by how full the cushion is there.
    """
    line = np.sin(np.linspace(-np.pi / 2, np.pi / 2, steps))
    u, v = np.meshgrid(line, line)
    waist = 1 - 0.07 * (1 - np.stack([v, u]) ** 2) ** 1.0
    full = ((1 - u**2) * (1 - v**2)) ** 0.42
    texture = np.stack([u, v], axis=-1) / 2 + 0.5
    x, z = u * waist[0] * width / 2, v * waist[1] * height / 2
    bulge = full * thickness / 2 + wrinkles * np.minimum(full * 2, 1)
    return {
        "front": grid(np.stack([x, -bulge, z], axis=-1), texture),
        "back": grid(np.stack([x, bulge, z], axis=-1), texture),
    }


def sweep(width: float, depth: float, height: float, bend: float, front: float) -> Mesh:
    """A studio paper sweep: floor from y = -front to y = depth, bent up into a wall of `height`."""
    profile = rounded([(-front, 0), (depth, 0), (depth, height)], bend, 40)
    points = np.empty((len(profile), 2, 3))
    points[:, 0, 0], points[:, 1, 0] = -width / 2, width / 2
    points[:, :, 1:] = profile[:, None]
    return grid(points)


def sheet(width: float, length: float) -> Mesh:
    """A flat rectangle in the xy plane, centred."""
    x, y = np.meshgrid([-width / 2, width / 2], [-length / 2, length / 2])
    return grid(np.stack([x, y, 0 * x], axis=-1))


def leaf(length: float, width: float, droop: float) -> Mesh:
    """One leaf growing from the origin along +x, pointed at its end, folded at its rib and drooping."""
    s, t = np.meshgrid(np.linspace(0, 1, 24), np.linspace(-1, 1, 9))
    half = width / 2 * np.sin(np.pi * s**0.8) ** 0.8
    height = length * (0.7 * s - droop * s**2) + 0.25 * half * np.abs(t)
    return grid(np.stack([length * s * (1 - 0.25 * droop * s), half * t, height], axis=-1))


def disc(radius: float) -> Mesh:
    """A round plate in the xy plane that faces +z; its texture is seen upright from above."""
    distance, angle = np.meshgrid(np.linspace(0, radius, 6), np.linspace(0, 2 * np.pi, 129))
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    return grid(np.stack([x, y, 0 * x], axis=-1), np.stack([x, y], axis=-1) / radius / 2 + 0.5)
