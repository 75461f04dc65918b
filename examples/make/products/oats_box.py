"""A printed cardboard box of oats; two of its faces are seen."""

from __future__ import annotations

import numpy as np

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import bowl, candle, pebbles, pot_plant
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import rounded_box
from examples.make.surfaces import Texture, blurred_room, concrete

BLUE, NAVY, WHITE, YELLOW, ORANGE = (44, 110, 168), (16, 42, 84), (250, 248, 242), (246, 196, 66), (228, 104, 48)
WIDTH, DEPTH, HEIGHT = 1.15, 0.42, 1.62


def front() -> Texture:
    """The big face."""
    art = Artwork(1420, 2000, BLUE)
    for band in range(9):
        tone = (44 + band * 7, 110 + band * 5, 168 - band * 2)
        x = np.linspace(0, 1420, 60)
        wave = 1180 + band * 62 + 34 * np.sin(x / 1420 * 2 * np.pi * 2.5 + band * 0.9)
        art.shape([*zip(x.tolist(), wave.tolist(), strict=True), (1420, 2000), (0, 2000)], tone)
        art.line([*zip(x.tolist(), wave.tolist(), strict=True)], (150, 200, 226), 5)
    art.disc(710, 900, 360, fill=YELLOW)
    for ray in range(36):
        angle = np.radians(ray * 10)
        inner, outer = 385, 430 if ray % 2 else 465
        art.line([(710 + r * np.sin(angle), 900 - r * np.cos(angle)) for r in (inner, outer)], YELLOW, 12)
    art.shape([(430, 1170), (990, 1170), (930, 1290), (490, 1290)], NAVY)
    art.line([(710, 1170), (710, 640)], NAVY, 16)
    art.shape([(730, 660), (730, 1130), (1000, 1130)], WHITE)
    art.shape([(690, 720), (690, 1130), (480, 1130)], ORANGE)
    for seam in range(5):
        art.line([(730, 760 + seam * 80), (785 + seam * 46, 760 + seam * 80)], (190, 200, 210), 4)
    art.box(0, 0, 1420, 150, fill=NAVY)
    art.text(710, 78, "ROLLED ON THE QUAY SINCE 1921", "roboto-bold", 54, YELLOW, gap=9)
    art.text(710, 262, "Harbour", "fredoka", 215, WHITE)
    art.text(710, 462, "OATS", "fredoka", 215, WHITE, gap=22)
    art.box(120, 1380, 1300, 1560, fill=WHITE, radius=90)
    art.text(710, 1470, "wholegrain & slow milled", "serif-italic", 92, NAVY)
    facts = [("9 g", "FIBRE"), ("13 g", "PROTEIN"), ("0 g", "ADDED SUGAR"), ("368", "KCAL")]
    for index, (amount, what) in enumerate(facts):
        middle = 215 + index * 330
        art.disc(middle, 1730, 124, fill=NAVY, line=YELLOW, width=9)
        art.text(middle, 1705, amount, "roboto-black", 76, WHITE)
        art.text(middle, 1770, what, "roboto-bold", 28, YELLOW, gap=1)
    art.text(710, 1935, "NET WT 750 g (26.5 oz)  *  READY IN 5 MINUTES  *  PRODUCT OF THE COAST", "roboto", 37, WHITE)
    art.star(1255, 640, 125, ORANGE, 16, 0.82)
    art.text(1255, 622, "NEW", "roboto-black", 66, WHITE)
    art.text(1255, 675, "bigger flakes", "roboto-bold", 28, WHITE)
    return art.texture()


def side() -> Texture:
    """The narrow face."""
    art = Artwork(520, 2000, NAVY)
    art.text(260, 120, "Harbour", "fredoka", 100, YELLOW)
    art.text(260, 210, "OATS", "fredoka", 80, WHITE, gap=8)
    art.box(40, 290, 480, 1180, fill=WHITE)
    art.text(260, 340, "Nutrition Facts", "roboto-black", 54, (10, 10, 10))
    rows = ["Energy 1540 kJ", "Fat 7.0 g", " saturates 1.2 g", "Carbohydrate 59 g", " sugars 1.0 g", "Fibre 9.1 g"]
    rows += ["Protein 13 g", "Salt 0.01 g", "Iron 4.3 mg", "Magnesium 130 mg", "Zinc 3.1 mg"]
    for index, row in enumerate(rows):
        y = 410 + index * 68
        art.line([(56, y - 8), (464, y - 8)], (10, 10, 10), 8 if index in (0, 6) else 3)
        art.text(60, y, row, "roboto-bold" if row[0] != " " else "roboto", 38, (10, 10, 10), anchor="la")
    cook = ["Stir 40 g oats into", "300 ml cold milk.", "Simmer 5 minutes,", "rest 1 minute.", "Honey at the end."]
    art.paragraph(56, 1230, cook, "serif", 44, WHITE)
    art.barcode(50, 1620, 420, 250, 21)
    art.text(260, 1930, "BEST BEFORE: SEE TOP", "roboto", 34, YELLOW)
    return art.texture()


def box() -> list[Part]:
    """Standing, the big face to the viewer."""
    plain = Material("coated", NAVY, 0.35)
    prints = {"front": Material("coated", front(), 0.3), "left": Material("coated", side(), 0.3)}
    prints["right"] = prints["left"]
    faces = rounded_box(WIDTH, DEPTH, HEIGHT, 0.018)
    return [Part(mesh, prints.get(name, plain)) for name, mesh in faces.items()]


def example() -> Example:
    """Studio photo, and a concrete counter."""
    counter = Material("coated", concrete(31, (150, 148, 144)), 0.4)
    room = blurred_room(32, (64, 84, 92), (206, 214, 206), (255, 250, 236), lights=14)
    oats = pebbles((-0.85, -0.55, 0), 0.22, 40, 8, [(214, 188, 140), (196, 166, 116)])
    return Example(
        title="Box of oats",
        description="A cardboard box seen from the other side: two flat faces, each with its own perspective.",
        object_name="box of oats",
        reference=View(
            moved(box(), yaw=22),
            studio(3, (222, 214, 198)),
            studio_lights(side=-1),
            Camera((0, 0, 0.8), 5.6, 0, 9, 24, 0.012, 5.15),
            key=0.36,
        ),
        truth=View(
            moved(box(), yaw=34),
            [
                *table(counter, room, glow=1.1),
                *pot_plant((-1.7, 1.5, 0), 0.95, 5, (206, 200, 190)),
                *bowl((1.35, -0.35, 0), 0.55, (226, 222, 212)),
                *candle((1.5, 1.1, 0), 0.3, 0.8, (236, 228, 206)),
                *oats,
            ],
            side_window(15, (0.9, 0.96, 1.0), side=1.0),
            Camera((0.08, 0, 0.86), 7.6, 3, 15, 27, 0.03, 7.1),
            sky=(0.42, 0.46, 0.5),
            key=0.24,
        ),
        seed=102,
    )
