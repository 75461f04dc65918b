"""A bottle of hot sauce with a front label, a neck label and a gold cap."""

from __future__ import annotations

import numpy as np

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import bowl, fruit, pebbles
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import lathe, rounded
from examples.make.surfaces import Texture, blurred_room, checked

PAPER, BLACK, RED, YELLOW, GREEN = (246, 226, 180), (28, 20, 18), (196, 38, 28), (248, 180, 40), (66, 110, 52)
RADIUS = 0.36


def label() -> Texture:
    """The front label, 200 degrees around."""
    art = Artwork(2000, 1200, PAPER)
    for ray in range(64):
        angle = np.radians(ray * 360 / 64)
        spread = np.radians(1.5)
        art.shape(
            [
                (1000, 640),
                *[(1000 + 1500 * np.sin(a), 640 - 1500 * np.cos(a)) for a in (angle - spread, angle + spread)],
            ],
            YELLOW,
        )
    art.box(0, 0, 2000, 70, fill=RED)
    art.box(0, 1130, 2000, 1200, fill=RED)
    for x in range(0, 2000, 80):
        art.shape([(x, 70), (x + 80, 70), (x + 40, 118)], BLACK)
        art.shape([(x, 1130), (x + 80, 1130), (x + 40, 1082)], BLACK)
    art.disc(1000, 640, 300, fill=RED, line=BLACK, width=14)
    art.disc(1000, 640, 262, line=YELLOW, width=6)
    for angle, shift in ((-30, -70), (0, 0), (30, 70)):
        art.leaf(1000 + shift * 0.4, 780, 300, angle, (232, 74, 40), BLACK)
        art.leaf(1000 + shift * 0.4, 790, 70, 180 + angle, GREEN, BLACK)
    art.text(1000, 205, "DIABLITO", "roboto-black", 170, BLACK, gap=16)
    art.text(994, 199, "DIABLITO", "roboto-black", 170, RED, gap=16)
    art.text(1000, 315, "SMOKED CHILI SAUCE", "roboto-bold", 62, BLACK, gap=8)
    art.box(690, 880, 1310, 1010, fill=BLACK, radius=20)
    art.text(1000, 943, "MUY PICANTE", "fredoka", 92, YELLOW)
    art.text(1000, 1050, "148 ml  /  5 FL OZ  *  SHAKE WELL", "roboto-bold", 42, BLACK, gap=4)
    for index in range(5):
        art.leaf(560, 560 + index * 110, 96, 62, RED if index < 4 else PAPER, BLACK)
    art.text(600, 430, "HEAT", "roboto-black", 60, BLACK, gap=6)
    notes = ["aged 18 months", "in oak barrels", "jalapeño, garlic,", "sea salt, honey", "no. 0293 / batch C"]
    art.paragraph(1370, 430, notes, "serif-bold", 54, BLACK)
    art.paragraph(
        60, 420, ["Ingredients:", "red chili 61 %,", "cane vinegar,", "garlic, salt,", "honey 4 %."], "serif", 50, BLACK
    )
    art.barcode(1640, 800, 320, 210, 33)
    return art.texture()


def neck_label() -> Texture:
    """A small band below the cap."""
    art = Artwork(1600, 260, RED)
    art.box(0, 14, 1600, 24, fill=YELLOW)
    art.box(0, 236, 1600, 246, fill=YELLOW)
    for x in range(0, 1600, 400):
        art.text(x + 150, 130, "DIABLITO", "roboto-black", 62, YELLOW)
        art.star(x + 350, 130, 40, YELLOW)
    return art.texture()


def bottle() -> list[Part]:
    """Standing, the label to the viewer."""
    sauce = Material("coated", (104, 16, 10), 0.06)
    outline = [(0, 0), (RADIUS, 0), (RADIUS, 1.12), (0.15, 1.45), (0.13, 1.95), (0, 1.95)]
    band = [(0.152, 1.5), (0.142, 1.74)]
    cap = [(0.155, 1.86), (0.165, 1.88), (0.165, 2.14), (0, 2.14)]
    relief = np.tile(np.array([90, 90, 220, 220], np.uint8), (4, 60))[..., None]
    return [
        Part(lathe(rounded(outline, 0.12)), sauce),
        Part(
            lathe(np.array([[RADIUS + 0.002, 0.16], [RADIUS + 0.002, 0.98]]), -100, 100),
            Material("coated", label(), 0.3),
        ),
        Part(lathe(np.array(band)), Material("coated", neck_label(), 0.3)),
        Part(lathe(rounded(cap, 0.03)), Material("metal", (226, 184, 92), 0.25, relief, 0.03)),
    ]


def example() -> Example:
    """Studio photo, and a picnic table."""
    cloth = Material("matte", checked(71, (186, 42, 40), squares=20))
    room = blurred_room(72, (52, 84, 44), (176, 204, 132), (250, 255, 220), lights=60)
    food = [
        *fruit((1.05, 0.5, 0), 0.4, (196, 36, 24), 11, 0.08),
        *fruit((1.75, 0.0, 0), 0.37, (204, 48, 28), 12, 0.08),
        *bowl((-1.35, 0.5, 0), 0.8, (236, 228, 210)),
        *fruit((-1.5, 0.5, 0.2), 0.3, (224, 190, 58), 13),
        *fruit((-1.1, 0.65, 0.22), 0.3, (226, 196, 66), 14),
        *pebbles((0.75, -0.75, 0), 0.16, 14, 15, [(34, 24, 20), (60, 34, 24)]),
    ]
    return Example(
        title="Hot sauce",
        description="A glossy bottle: the label bends with the glass, highlights move with the light.",
        object_name="sauce bottle",
        reference=View(
            moved(bottle(), yaw=3),
            studio(7, (232, 202, 142)),
            studio_lights(side=-1),
            Camera((0, 0, 1.06), 5.5, 0, 6, 25, 0.012, 5.6),
            key=0.34,
        ),
        truth=View(
            moved(bottle(), yaw=-15),
            [*table(cloth, room, glow=1.6), *food],
            side_window(20, (1.0, 0.94, 0.8), side=1.0, height=7.0),
            Camera((0.05, 0, 1.02), 6.5, 2, 13, 28, 0.035, 6.0),
            sky=(0.6, 0.7, 0.85),
            ground_glow=(0.2, 0.2, 0.12),
            key=0.26,
        ),
        seed=106,
    )
