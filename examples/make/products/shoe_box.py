"""A printed shoe box with its lid on."""

from __future__ import annotations

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import book, fruit, pot_plant
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import rounded_box
from examples.make.surfaces import Texture, blurred_room, terrazzo

ORANGE, BLACK, WHITE, GREY, MINT = (238, 110, 40), (24, 24, 26), (248, 246, 240), (120, 120, 124), (150, 214, 190)
WIDTH, DEPTH, HEIGHT, LID = 2.0, 1.25, 0.72, 0.26


def top() -> Texture:
    """The lid from above."""
    art = Artwork(2000, 1250, ORANGE)
    for index in range(-10, 34):
        art.shape(
            [(index * 90, 1250), (index * 90 + 38, 1250), (index * 90 + 538, 0), (index * 90 + 500, 0)], (244, 124, 52)
        )
    art.shape([(0, 850), (2000, 330), (2000, 620), (0, 1140)], BLACK)
    art.shape([(0, 880), (2000, 360), (2000, 385), (0, 905)], MINT)
    art.text(1000, 330, "VELOCE", "roboto-black", 330, WHITE, gap=24)
    art.text(1000, 540, "RUNNING COMPANY  /  TORINO 1958", "roboto-bold", 66, WHITE, gap=12)
    art.star(1690, 980, 150, WHITE, 5)
    art.text(90, 1180, "MADE TO BE WORN OUT", "roboto-black", 84, WHITE, anchor="lm")
    art.text(1910, 1190, "veloce-running.example", "roboto", 56, BLACK, anchor="rm")
    return art.texture()


def front() -> Texture:
    """The long side below the lid."""
    art = Artwork(2000, 700, ORANGE)
    art.shape([(0, 700), (0, 420), (760, 700)], BLACK)
    art.text(700, 400, "VELOCE", "roboto-black", 220, WHITE, gap=14)
    art.text(700, 560, "the long distance shoe", "serif-italic", 100, WHITE)
    art.box(1310, 250, 1930, 660, fill=WHITE, radius=14)
    art.text(1340, 300, "STRADA 400", "roboto-black", 66, BLACK, anchor="lm")
    art.text(1340, 362, "MEN'S / MINT - BLACK - ORANGE", "roboto-bold", 30, GREY, anchor="lm")
    for index, (system, size) in enumerate([("EU", "42.5"), ("UK", "8.5"), ("US", "9.5"), ("CM", "27")]):
        x = 1340 + index * 145
        art.box(x, 395, x + 132, 485, line=BLACK, width=4)
        art.text(x + 66, 418, system, "roboto-bold", 28, GREY)
        art.text(x + 66, 456, size, "roboto-black", 46, BLACK)
    art.barcode(1340, 505, 330, 140, 44)
    art.disc(1800, 575, 66, fill=MINT, line=BLACK, width=5)
    art.text(1800, 560, "BOX OF", "roboto-bold", 26, BLACK)
    art.text(1800, 595, "90% PULP", "roboto-black", 25, BLACK)
    return art.texture()


def end() -> Texture:
    """The short side below the lid."""
    art = Artwork(1250, 700, BLACK)
    art.star(330, 430, 180, ORANGE, 5)
    art.text(830, 380, "VELOCE", "roboto-black", 150, WHITE)
    art.text(830, 500, "STRADA 400", "roboto-bold", 84, MINT)
    art.text(830, 590, "42.5 / 9.5 / 27 cm", "roboto", 58, WHITE)
    return art.texture()


def rim() -> Texture:
    """The side of the lid."""
    art = Artwork(2000, 260, BLACK)
    art.box(0, 0, 2000, 20, fill=MINT)
    art.text(1000, 140, "STRADA 400  *  STRADA 400  *  STRADA 400  *  STRADA 400  *", "roboto-black", 62, WHITE, gap=3)
    return art.texture()


def box() -> list[Part]:
    """Standing, its long side to the viewer."""
    long_side, short_side = Material("coated", front(), 0.35), Material("coated", end(), 0.35)
    sides = {"front": long_side, "back": long_side, "left": short_side, "right": short_side}
    band = Material("coated", rim(), 0.35)
    plain = Material("coated", ORANGE, 0.4)
    parts = [Part(mesh, sides.get(name, plain)) for name, mesh in rounded_box(WIDTH, DEPTH, HEIGHT, 0.02).items()]
    lid = rounded_box(WIDTH + 0.04, DEPTH + 0.04, LID, 0.015)
    for name, mesh in lid.items():
        material = Material("coated", top(), 0.3) if name == "top" else band
        parts.append(Part(mesh.moved((0, 0, HEIGHT - LID + 0.03)), material))
    return parts


def example() -> Example:
    """Studio photo, and a terrazzo counter."""
    stone = Material(
        "coated", terrazzo(91, (218, 212, 202), [(120, 96, 84), (176, 178, 172), (86, 92, 98), (214, 170, 140)]), 0.15
    )
    room = blurred_room(92, (66, 60, 62), (214, 196, 186), (255, 236, 214), lights=20)
    things = [
        *fruit((1.75, -0.75, 0), 0.33, (206, 224, 70), 16, 0.5),
        *fruit((2.25, -0.2, 0), 0.33, (200, 220, 66), 17, 0.5),
        *pot_plant((-1.9, 1.7, 0), 1.1, 8, (90, 96, 104)),
        *book((2.2, 1.6, 0), (1.5, 1.1, 0.3), (70, 90, 110), 10, yaw=24),
    ]
    return Example(
        title="Shoe box",
        description="Three printed faces with different slants, size stickers and small print.",
        object_name="shoe box",
        reference=View(
            moved(box(), yaw=-18),
            studio(9, (188, 204, 202)),
            studio_lights(),
            Camera((0, 0, 0.36), 7.0, 0, 30, 24, 0.012, 6.5),
            key=0.3,
        ),
        truth=View(
            moved(box(), yaw=-32),
            [*table(stone, room), *things],
            side_window(18, (1.0, 0.96, 0.9), side=1.0),
            Camera((0.1, 0, 0.42), 8.6, 0, 25, 28, 0.03, 8.0),
            sky=(0.44, 0.46, 0.48),
            key=0.24,
        ),
        seed=108,
    )
