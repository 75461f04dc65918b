"""A long-playing record in its printed sleeve."""

from __future__ import annotations

import numpy as np

from examples.make.drawing import Artwork
from examples.make.places import floor_and_wall, side_window, studio, studio_lights
from examples.make.props import book, pot_plant
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import lathe, rounded_box
from examples.make.surfaces import Texture, concrete, parquet

INK, CORAL, MUSTARD, TEAL, CREAM = (30, 30, 44), (232, 98, 78), (240, 184, 70), (40, 128, 132), (248, 238, 216)
SIDE = 3.1


def cover() -> Texture:
    """Concentric arcs, band name, track list."""
    art = Artwork(2200, 2200, CREAM)
    for index, colour in enumerate([CORAL, MUSTARD, TEAL, INK] * 5):
        radius = 1180 - index * 58
        art.disc(1100, 1330, radius, fill=colour)
    art.disc(1100, 1330, 40, fill=CREAM)
    art.box(0, 1560, 2200, 2200, fill=CREAM)
    art.box(0, 0, 2200, 400, fill=CREAM)
    art.text(60, 150, "THE PAPER TIGERS", "roboto-black", 178, INK, anchor="lm")
    art.text(64, 320, "midnight at the planetarium", "serif-italic", 132, CORAL, anchor="lm")
    art.box(1830, 60, 2140, 340, fill=INK, radius=24)
    art.text(1985, 150, "STEREO", "roboto-black", 72, CREAM, gap=3)
    art.text(1985, 225, "33 1/3 RPM", "roboto-bold", 46, MUSTARD)
    art.text(1985, 292, "LONG PLAY", "roboto", 42, CREAM, gap=4)
    sides = {
        "SIDE ONE": [
            "1  Orbit Song   3:41",
            "2  Tin Can Parade   2:58",
            "3  Low Gravity   4:12",
            "4  Blue Shift   5:07",
        ],
        "SIDE TWO": [
            "5  Night Bus to Mars   3:33",
            "6  Comet Season   4:46",
            "7  Static   2:19",
            "8  Return to Earth   6:20",
        ],
    }
    for column, (side, tracks) in enumerate(sides.items()):
        art.text(80 + column * 720, 1660, side, "roboto-black", 66, CORAL, anchor="lm")
        art.paragraph(80 + column * 720, 1720, tracks, "serif", 58, INK)
    art.text(1540, 1660, "RECORDED LIVE", "roboto-black", 66, TEAL, anchor="lm")
    notes = ["Kopernik Hall, 14 May 1971", "Engineer: L. Adeyemi", "Sleeve: Studio Ottanta", "All songs by the band."]
    art.paragraph(1540, 1720, notes, "serif", 47, INK)
    art.line([(80, 2065), (2120, 2065)], INK, 6)
    art.text(80, 2125, "FOXGLOVE RECORDS   FGR 2071", "roboto-bold", 58, INK, anchor="lm")
    art.text(2120, 2125, "Printed in Lisbon. Handle with clean hands.", "roboto", 46, INK, anchor="rm")
    for x, y, radius in ((360, 620, 26), (1840, 560, 34), (1960, 900, 18), (220, 980, 18), (1980, 1330, 30)):
        art.star(x, y, radius * 2.2, CREAM, 4, 0.28)
    return art.texture()


def disc_label() -> Texture:
    """Grooves and the round paper label, radius along v, angle along u."""
    art = Artwork(1600, 1000, (14, 14, 15))
    for y in range(360, 1000, 5):
        art.box(0, y, 1600, y + 1, fill=(34, 34, 36))
    art.box(0, 0, 1600, 310, fill=CORAL)
    return art.texture()


def record() -> list[Part]:
    """Upright, the cover to the viewer, the disc drawn out to the right by a third."""
    card = rounded_box(SIDE, 0.035, SIDE, 0.012)
    edge = Material("coated", CREAM, 0.4)
    parts = [Part(mesh, Material("coated", cover(), 0.2) if name == "front" else edge) for name, mesh in card.items()]
    vinyl = lathe(np.array([[1.48, -0.008], [1.48, 0.004], [0.0, 0.006]]))
    material = Material("coated", disc_label(), 0.12)
    return [*parts, Part(vinyl.moved((0.62, 0.0, SIDE / 2), tilt=90), material)]


def example() -> Example:
    """Studio photo, and a living room floor."""
    floor = Material("coated", parquet(81, (120, 72, 40), (196, 138, 86)), 0.25)
    wall = Material("matte", concrete(82, (214, 206, 190)))
    things = [
        *pot_plant((-3.3, 0.7, 0), 1.9, 7),
        *book((3.3, 0.1, 0), (1.9, 1.4, 0.3), (60, 74, 108), 7, yaw=-14),
        *book((3.25, 0.1, 0.3), (1.7, 1.3, 0.26), (214, 190, 150), 8, yaw=6),
        *book((3.3, 0.15, 0.56), (1.6, 1.2, 0.34), (146, 60, 48), 9, yaw=-4),
    ]
    return Example(
        title="Record sleeve",
        description="A flat print leaning against a wall, seen at an angle and in evening light.",
        object_name="record sleeve",
        reference=View(
            moved(record(), (-0.25, 0, 0), yaw=-6, tilt=-6),
            studio(8, (176, 180, 178)),
            studio_lights(12),
            Camera((0.05, 0, 1.52), 9.6, 0, 5, 25, 0.012, 9.5),
            key=0.32,
        ),
        truth=View(
            moved(record(), (-0.1, 0.65, 0), yaw=0, tilt=-13),
            [*floor_and_wall(floor, wall, 1.4, (240, 236, 228)), *things],
            side_window(34, (1.0, 0.8, 0.56), side=1.0, height=6.0),
            Camera((0.1, 0.5, 1.5), 13.0, -14, 10, 29, 0.03, 12.8),
            sky=(0.3, 0.32, 0.36),
            key=0.24,
        ),
        seed=107,
    )
