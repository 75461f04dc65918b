"""A glazed mug with a printed crest."""

from __future__ import annotations

import numpy as np

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import book, candle
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import lathe, rounded, tube
from examples.make.surfaces import Texture, blurred_room, wood

CREAM, INK, RED, BLUE = (244, 238, 224), (34, 38, 52), (196, 62, 46), (52, 96, 150)
RADIUS, HEIGHT = 0.42, 0.98


def glaze() -> Texture:
    """The print around the mug."""
    art = Artwork(3000, 1110, CREAM)
    for y in (30, 1050):
        art.box(0, y, 3000, y + 22, fill=RED)
    for x in range(0, 3000, 50):
        art.shape([(x, 70), (x + 50, 70), (x + 25, 112)], BLUE)
        art.shape([(x, 1036), (x + 50, 1036), (x + 25, 994)], BLUE)
    art.text(1500, 205, "OLD MILL LANE", "amatic", 170, INK, gap=10)
    art.disc(1500, 530, 232, fill=BLUE)
    art.disc(1500, 530, 206, line=CREAM, width=6)
    art.ring_text((1500, 530), 176, "COFFEE ROASTERS * SMALL BATCHES * ", "roboto-bold", 38, CREAM, -130)
    art.disc(1500, 530, 140, fill=CREAM)
    art.shape([(1400, 490), (1600, 490), (1575, 610), (1425, 610)], RED)
    art.box(1385, 470, 1615, 496, fill=INK, radius=10)
    for x in (1450, 1500, 1550):
        steam = [(x + 10 * np.sin(t / 9), 455 - t) for t in range(0, 52, 4)]
        art.line(steam, INK, 7)
    art.text(1500, 650, "1964", "roboto-black", 34, INK, gap=4)
    for side in (-1, 1):
        for index in range(6):
            art.leaf(1500 + side * (290 + index * 12), 700 - index * 68, 84, side * (62 - index * 12), RED, CREAM)
            art.leaf(1500 + side * (300 + index * 12), 690 - index * 68, 70, side * (8 - index * 8), INK, CREAM)
    art.text(1500, 845, "But first, coffee.", "serif-italic", 108, RED)
    art.text(1500, 945, "ROASTED FRESH ON TUESDAYS & FRIDAYS", "roboto-bold", 34, INK, gap=5)
    for x, words in ((520, ["beans are", "a promise"]), (2480, ["refill me", "if you can"])):
        for row, line in enumerate(words):
            art.text(x, 430 + row * 190, line, "amatic", 190, BLUE)
    return art.texture()


def mug() -> list[Part]:
    """Standing, the crest to the viewer, the handle on the right."""
    glazed = Material("coated", CREAM, 0.07)
    wall = lathe(np.array([[RADIUS, 0.05], [RADIUS, HEIGHT]]))
    foot = lathe(rounded([(0, 0), (RADIUS - 0.05, 0), (RADIUS, 0.05), (RADIUS, 0.06)], 0.03))
    inside = [(RADIUS, HEIGHT - 0.01), (RADIUS, HEIGHT + 0.03), (RADIUS - 0.05, HEIGHT + 0.03), (RADIUS - 0.05, 0.1)]
    lip = lathe(rounded([*inside, (0, 0.1)], 0.03))
    coffee = lathe(np.array([[0.0, 0.86], [RADIUS - 0.045, 0.86]]))
    angle = np.radians(np.linspace(-88, 88, 60))
    path = np.stack([RADIUS - 0.03 + 0.34 * np.cos(angle) ** 0.7, 0 * angle, 0.52 + 0.3 * np.sin(angle)], axis=1)
    return [
        Part(wall, Material("coated", glaze(), 0.07)),
        *(Part(mesh, glazed) for mesh in (foot, lip, tube(path, 0.05, 0.085))),
        Part(coffee, Material("coated", (44, 24, 13), 0.05)),
    ]


def example() -> Example:
    """Studio photo, and a desk in the evening."""
    desk = Material("coated", wood(51, (40, 26, 20), (92, 62, 42), planks=4), 0.22)
    room = blurred_room(52, (18, 20, 34), (60, 52, 62), (255, 178, 92), lights=46)
    books = [
        *book((-1.35, 0.9, 0), (1.5, 1.1, 0.24), (122, 40, 44), 1, yaw=12),
        *book((-1.3, 0.9, 0.24), (1.4, 1.0, 0.2), (44, 78, 96), 2, yaw=-4),
        *book((-1.36, 0.95, 0.44), (1.2, 0.9, 0.3), (204, 172, 110), 3, yaw=22),
    ]
    return Example(
        title="Coffee mug",
        description="A glossy mug by daylight as the reference, and on a desk in the evening in the scene.",
        object_name="mug",
        reference=View(
            moved(mug(), yaw=-4),
            studio(5, (168, 186, 190)),
            studio_lights(),
            Camera((0.1, 0, 0.5), 3.9, 0, 9, 24, 0.01, 3.5),
            key=0.32,
        ),
        truth=View(
            moved(mug(), yaw=12),
            [*table(desk, room, glow=1.6), *books, *candle((1.4, 0.75, 0), 0.26, 0.62, (240, 226, 190))],
            [*side_window(17, (1.0, 0.72, 0.44), side=1.0, height=5.0), *side_window(3.0, (0.5, 0.66, 1.0))],
            Camera((0.05, 0, 0.56), 5.4, 0, 14, 28, 0.03, 5.0),
            sky=(0.2, 0.2, 0.26),
            ground_glow=(0.1, 0.08, 0.06),
            key=0.16,
        ),
        seed=104,
    )
