"""A round tea tin with a printed paper label and a brushed metal lid."""

from __future__ import annotations

import numpy as np

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import bowl, cup, fruit
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import lathe, rounded
from examples.make.surfaces import Texture, blurred_room, wood

GREEN, DARK, GOLD, CREAM, RED = (38, 84, 74), (18, 48, 44), (206, 164, 84), (246, 238, 218), (176, 58, 44)
RADIUS, HEIGHT = 0.46, 1.25


def label() -> Texture:
    """The print around the tin, its middle to the viewer."""
    art = Artwork(3000, 1290, GREEN)
    for row in range(14):
        for column in range(60):
            x, y = column * 50 + 25 * (row % 2), 60 + row * 90
            art.leaf(x, y + 20, 34, 25 if row % 2 else -25, (46, 98, 86), GREEN)
    for y in (40, 1190):
        art.box(0, y, 3000, y + 60, fill=DARK)
        art.box(0, y + 8, 3000, y + 14, fill=GOLD)
        art.box(0, y + 46, 3000, y + 52, fill=GOLD)
        for x in range(0, 3000, 60):
            art.star(x + 30, y + 30, 13, GOLD, 4, 0.35)
    art.box(1050, 130, 1950, 1160, fill=CREAM, line=GOLD, width=14, radius=60)
    art.box(1080, 160, 1920, 1130, line=GREEN, width=4, radius=44)
    art.text(1500, 235, "ESTABLISHED 1887", "serif", 40, RED, gap=12)
    art.text(1500, 345, "MOSSWELL", "serif-bold", 134, DARK, gap=4)
    art.text(1500, 455, "& daughters, tea merchants", "serif-italic", 52, GREEN)
    art.disc(1500, 680, 168, fill=GREEN, line=GOLD, width=8)
    art.ring_text((1500, 680), 138, "HIGHLAND GARDENS * PICKED BY HAND AT DAWN * ", "roboto-bold", 30, CREAM, -172)
    art.disc(1500, 680, 112, line=GOLD, width=4)
    for angle in (-48, 0, 48):
        art.leaf(1500, 745, 150, angle, (120, 176, 96), CREAM)
    art.text(1500, 905, "EARL GREY No. 7", "roboto-black", 74, RED, gap=4)
    art.text(1500, 975, "black tea with oil of bergamot", "serif-italic", 46, DARK)
    art.line([(1160, 1015), (1840, 1015)], GOLD, 4)
    art.text(1500, 1052, "50 WHOLE LEAF PYRAMIDS", "roboto-bold", 34, GREEN, gap=5)
    art.text(1500, 1098, "NET WEIGHT 125 g  /  4.4 oz", "roboto", 30, DARK, gap=2)
    for x, words in ((520, "BREW"), (2480, "STORY")):
        art.text(x, 230, words, "serif-bold", 90, GOLD, gap=10)
        art.line([(x - 220, 290), (x + 220, 290)], GOLD, 4)
    steps = [
        "Warm the pot.",
        "One pyramid for each cup.",
        "Water at 96 degrees.",
        "Wait four minutes.",
        "Milk, if you must.",
    ]
    for index, step in enumerate(steps):
        art.disc(270, 395 + index * 130, 40, fill=GOLD)
        art.text(270, 395 + index * 130, str(index + 1), "serif-bold", 52, DARK)
        art.text(330, 395 + index * 130, step, "serif", 50, CREAM, anchor="lm")
    story = [
        "Since 1887 our gardens",
        "above the lake are picked",
        "by hand at first light,",
        "withered on bamboo and",
        "rolled before noon.",
    ]
    art.paragraph(2180, 340, story, "serif", 56, CREAM)
    art.barcode(2260, 780, 440, 260, 7)
    return art.texture()


def tin() -> list[Part]:
    """Standing."""
    brushed = Material("metal", (214, 196, 150), 0.22)
    body = lathe(np.array([[RADIUS, 0.04], [RADIUS, HEIGHT]]))
    foot = lathe(rounded([(0, 0), (RADIUS + 0.012, 0), (RADIUS + 0.012, 0.045), (RADIUS - 0.01, 0.045)], 0.012))
    top = [(RADIUS - 0.06, HEIGHT + 0.23), (RADIUS - 0.08, HEIGHT + 0.2), (0.1, HEIGHT + 0.22)]
    knob = [(0.08, HEIGHT + 0.3), (0, HEIGHT + 0.3)]
    rim = [(RADIUS - 0.01, HEIGHT - 0.01), (RADIUS + 0.018, HEIGHT - 0.01), (RADIUS + 0.018, HEIGHT + 0.2)]
    lid = rounded([*rim, *top, *knob], 0.025)
    return [Part(body, Material("coated", label(), 0.16)), Part(foot, brushed), Part(lathe(lid), brushed)]


def example() -> Example:
    """Studio photo, and a kitchen table."""
    oak = Material("coated", wood(11, (82, 48, 26), (176, 120, 72)), 0.28)
    room = blurred_room(12, (58, 44, 36), (170, 140, 108), (255, 214, 150))
    fruits = [
        *fruit((1.15, 0.35, 0), 0.38, (226, 124, 30), 3),
        *fruit((1.75, -0.35, 0), 0.36, (230, 132, 34), 4),
        *fruit((-1.5, 1.4, 0), 0.33, (222, 186, 58), 5),
    ]
    return Example(
        title="Tea tin",
        description="A round tin, turned: the label bends around the metal and a new part of it comes into view.",
        object_name="tea tin",
        reference=View(
            tin(),
            studio(1, (206, 204, 198)),
            studio_lights(),
            Camera((0, 0, 0.74), 4.4, 4, 8, 26, 0.012, 3.95),
            key=0.33,
        ),
        truth=View(
            moved(tin(), yaw=-14),
            [
                *table(oak, room),
                *fruits,
                *cup((-1.25, -0.1, 0), 0.75, (232, 226, 214)),
                *bowl((1.6, 2.2, 0), 0.9, (70, 92, 116)),
            ],
            side_window(16, (1.0, 0.9, 0.76)),
            Camera((0.12, 0, 0.72), 6.4, 4, 13, 28, 0.03, 5.9),
            sky=(0.35, 0.33, 0.3),
            key=0.2,
        ),
        seed=101,
    )
