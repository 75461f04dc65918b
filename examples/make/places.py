"""Sets: a studio sweep, a table in front of a room, a floor with a wall; and their lights."""

from __future__ import annotations

from examples.make.scene import Light, Material, Part, Vector
from examples.make.shapes import Mesh, rounded_box, sheet, sweep
from examples.make.surfaces import Texture, concrete

UPRIGHT_TILT = 90.0


def studio(seed: int, colour: Vector) -> list[Part]:
    """A seamless paper sweep."""
    paper = concrete(seed, colour, 1024) // 3 + (concrete(seed, colour, 64).mean(axis=(0, 1)) * 2 / 3).astype("uint8")
    return [Part(sweep(24, 7, 14, 4, 12), Material("matte", paper))]


def studio_lights(power: float = 9.0, warm: float = 1.0, side: float = 1.0) -> list[Light]:
    """Key box from one side (`side` 1: left of the viewer), weaker fill from the other, hair light from above."""
    key = (1.0, 0.97 - 0.05 * (warm - 1), 0.93 - 0.2 * (warm - 1))
    return [
        Light((-5.5 * side, -4.5, 6.0), 4.0, power, key),
        Light((6.5 * side, -4.0, 3.0), 3.0, power * 0.28, (0.93, 0.97, 1.0)),
        Light((0.5, 3.0, 8.0), 3.0, power * 0.5),
    ]


def table(
    top: Material, room: Texture, *, back: float = 6.0, wall: float = 16.0, turn: float = 0.0, glow: float = 0.8
) -> list[Part]:
    """A table whose far edge lies `back` behind the product, before a far room that emits a little light."""
    board = rounded_box(26, 9 + back, 0.4, 0.06)
    parts = [Part(mesh.moved((0, (back - 9) / 2, -0.4), yaw=turn), top) for mesh in board.values()]
    return [*parts, Part(wall_mesh(20, 20, wall, 1.0), Material("matte", room, glow=glow))]


def floor_and_wall(floor: Material, wall: Material, distance: float, skirting: Vector | None = None) -> list[Part]:
    """A floor that meets a wall `distance` behind the product."""
    parts = [Part(sheet(26, 26).moved((0, distance - 13, 0)), floor), Part(wall_mesh(26, 20, distance, 10), wall)]
    if skirting is not None:
        board = rounded_box(26, 0.15, 0.9, 0.03)
        parts += [
            Part(mesh.moved((0, distance - 0.075, 0)), Material("coated", skirting, 0.3)) for mesh in board.values()
        ]
    return parts


def wall_mesh(width: float, height: float, distance: float, middle: float = 4.0) -> Mesh:
    """An upright rectangle that faces the viewer, `distance` behind the product, centred at height `middle`."""
    upright = sheet(width, height).moved(tilt=UPRIGHT_TILT)
    return upright.moved((0, distance, middle))


def side_window(power: float, colour: Vector, side: float = -1.0, height: float = 4.5) -> list[Light]:
    """Daylight from one side (-1 left, 1 right), and a faint bounce from the other."""
    return [
        Light((side * 7.5, -2.0, height), 4.5, power, colour),
        Light((-side * 8, -5.0, 4), 4.0, power * 0.08, (1.0, 0.95, 0.9)),
    ]
