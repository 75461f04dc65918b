"""A stuffed cushion of printed linen."""

from __future__ import annotations

import numpy as np

from examples.make.drawing import Artwork
from examples.make.places import floor_and_wall, side_window, studio, studio_lights
from examples.make.props import book
from examples.make.scene import Camera, Example, Material, Part, Vector, View, moved
from examples.make.shapes import pillow, rounded_box
from examples.make.surfaces import Texture, concrete, linen, noise, wood

LINEN, NAVY, RUST, OLIVE, OCHRE = (236, 226, 204), (38, 52, 84), (184, 82, 52), (96, 110, 62), (222, 166, 74)
SIDE, STEPS = 2.1, 240


def printed_linen() -> Texture:
    """Folk pattern around a motto, on woven cloth."""
    art = Artwork(2048, 2048, LINEN)
    for inset, colour, width in ((110, NAVY, 16), (150, RUST, 8), (420, RUST, 8), (450, NAVY, 16)):
        art.box(inset, inset, 2048 - inset, 2048 - inset, line=colour, width=width)
    for index in range(11):
        along = 285 + index * 147.8
        for x, y in ((along, 285), (along, 1763), (285, along), (1763, along)):
            if index % 2:
                art.star(x, y, 62, OCHRE, 8, 0.45)
                art.disc(x, y, 20, fill=RUST)
            else:
                for angle in range(0, 360, 90):
                    art.leaf(x, y, 66, angle + 45, OLIVE, LINEN)
                art.disc(x, y, 18, fill=NAVY)
    for side in (-1, 1):
        art.leaf(1024, 1480, 250, side * 82, OLIVE, LINEN)
        art.leaf(1024 + side * 70, 1470, 180, side * 42, RUST, LINEN)
        art.leaf(1024 + side * 180, 620, 130, side * 120, OCHRE, NAVY)
        art.shape([(1024, 745), (1024 + side * 131, 626), (1024 + side * 66, 560), (1024, 560)], RUST)
        art.disc(1024 + side * 66, 590, 74, fill=RUST)
    art.text(1024, 862, "HYGGE", "roboto-black", 250, NAVY, gap=22)
    art.text(1024, 1078, "HOUSE", "roboto-black", 250, RUST, gap=22)
    art.text(1024, 1258, "sit down, stay a while", "serif-italic", 118, NAVY)
    art.text(1024, 1545, "WOVEN IN 1975 BY HAND", "roboto-bold", 46, OLIVE, gap=9)
    weave = linen(101, (255, 255, 255), threads=300).astype(float) / 255
    return np.clip(art.texture() * weave * 1.04, 0, 255).astype(np.uint8)


def cushion() -> list[Part]:
    """Standing upright on its lower edge."""
    wrinkles = 0.045 * noise(STEPS, (5, 5), 102, 3)
    thread = linen(103, (200, 200, 200), threads=300)[..., :1]
    halves = pillow(SIDE, SIDE, 0.85, wrinkles, STEPS)
    cloth = Material("matte", printed_linen(), relief=thread, relief_height=0.02)
    back = Material("matte", linen(104, RUST), relief=thread, relief_height=0.02)
    both = [Part(halves["front"], cloth), Part(halves["back"], back)]
    return moved(both, (0, 0, SIDE / 2 - 0.06))


def sofa(colour: Vector) -> list[Part]:
    """A seat, a back rest and an arm; the seat's top at height 0."""
    cloth = Material("matte", linen(105, colour, threads=420))
    pieces = [
        ((7.0, 4.2, 1.2, 0.35), (0.3, -0.6, -1.2)),
        ((7.0, 1.1, 3.6, 0.4), (0.3, 1.45, -1.2)),
        ((1.2, 4.6, 2.1, 0.4), (3.4, -0.6, -1.2)),
    ]
    return [Part(mesh.moved(offset), cloth) for size, offset in pieces for mesh in rounded_box(*size).values()]


def example() -> Example:
    """Studio photo, and a sofa."""
    boards = Material("coated", wood(106, (96, 62, 40), (180, 130, 86)), 0.3)
    room = floor_and_wall(boards, Material("matte", concrete(107, (206, 198, 180))), 3.2)
    around = [
        *moved(room, (0, 0, -2.6)),
        *sofa((84, 106, 112)),
        *book((-2.0, -0.9, 0.0), (1.5, 1.1, 0.22), (190, 160, 110), 12, yaw=30),
    ]
    return Example(
        title="Linen cushion",
        description="Soft, wrinkled cloth: the pattern bends with the cushion and no flat model fits it.",
        object_name="cushion",
        reference=View(
            moved(cushion(), yaw=-8, tilt=-4),
            studio(10, (208, 200, 190)),
            studio_lights(),
            Camera((0, 0, 0.98), 7.4, 0, 6, 24, 0.012, 7.0),
            key=0.36,
        ),
        truth=View(
            moved(cushion(), (0.15, 0.12, 0), yaw=6, tilt=-16),
            around,
            side_window(22, (1.0, 0.9, 0.76), side=-1.0, height=5.0),
            Camera((0.2, 0.2, 0.85), 9.2, 4, 14, 28, 0.03, 8.9),
            sky=(0.36, 0.36, 0.36),
            key=0.22,
        ),
        seed=109,
    )
