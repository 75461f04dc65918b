"""A plain glazed vase without lettering or texture: the case that matching cannot solve."""

from __future__ import annotations

from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import book, fruit, pot_plant
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import lathe, rounded
from examples.make.surfaces import blurred_room, wood


def vase() -> list[Part]:
    """Standing, with a narrow neck."""
    outline = [(0, 0), (0.3, 0), (0.62, 0.42), (0.6, 0.85), (0.24, 1.18), (0.17, 1.45), (0.27, 1.66)]
    inside = [(0.24, 1.66), (0.145, 1.45), (0.2, 1.18), (0, 1.0)]
    return [Part(lathe(rounded([*outline, *inside], 0.3, 24)), Material("coated", (92, 138, 134), 0.12))]


def example() -> Example:
    """Studio photo, and a sideboard."""
    sideboard = Material("coated", wood(111, (58, 36, 24), (126, 84, 54), planks=3), 0.2)
    room = blurred_room(112, (96, 84, 74), (214, 198, 174), (255, 230, 190), lights=12)
    things = [
        *pot_plant((-1.9, 1.3, 0), 1.15, 9),
        *book((1.75, 0.6, 0), (1.5, 1.1, 0.22), (176, 70, 52), 13, yaw=-18),
        *fruit((1.7, 0.55, 0.22), 0.3, (224, 186, 60), 18),
    ]
    return Example(
        title="Plain vase",
        description="Smooth glaze with next to no texture: there is hardly anything to match, so little is refined.",
        object_name="vase",
        reference=View(
            vase(),
            studio(11, (214, 208, 200)),
            studio_lights(),
            Camera((0, 0, 0.83), 5.4, 0, 7, 25, 0.012, 4.9),
            key=0.36,
        ),
        truth=View(
            moved(vase(), yaw=40),
            [*table(sideboard, room, glow=1.0), *things],
            side_window(16, (1.0, 0.88, 0.7)),
            Camera((0.05, 0, 0.84), 7.4, 3, 12, 28, 0.035, 6.8),
            sky=(0.38, 0.38, 0.38),
            key=0.22,
        ),
        seed=110,
    )
