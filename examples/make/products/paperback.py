"""A paperback novel: an illustrated cover, lying or standing."""

from __future__ import annotations

import numpy as np
from PIL import Image

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import cup, fruit
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import rounded_box
from examples.make.surfaces import Texture, blurred_room, marble, noise, to_texture

NIGHT, TEAL, ROSE, SAND, WHITE = (24, 28, 58), (38, 104, 122), (222, 92, 92), (244, 206, 140), (250, 244, 232)
WIDTH, HEIGHT, THICKNESS = 1.3, 2.0, 0.24


def cover() -> Texture:
    """The front cover."""
    art = Artwork(1300, 2000, NIGHT)
    rows = np.linspace(0, 1, 2000)[:, None, None]
    sky = np.array(NIGHT) * (1 - rows) + np.array((120, 62, 104)) * rows + np.zeros((1, 1300, 1))
    art.picture.paste(Image.fromarray(to_texture(sky)))
    random = np.random.default_rng(5)
    for x, y in random.uniform((0, 0), (1300, 1100), (170, 2)):
        art.star(x, y, random.uniform(3, 11), WHITE, 4, 0.3)
    art.disc(940, 900, 220, fill=SAND)
    for x, y, radius in ((880, 830, 36), (1000, 960, 54), (900, 1010, 26), (1040, 820, 22)):
        art.disc(x, y, radius, fill=(230, 186, 118))
    for layer, colour in enumerate([(74, 58, 116), (50, 72, 118), TEAL, (20, 66, 82)]):
        x = np.linspace(0, 1300, 90)
        ridge = 1180 + layer * 130 + (90 - 15 * layer) * np.sin(x / (170 + 40 * layer) + layer * 2)
        ridge += 30 * np.sin(x / 47 + layer)
        art.shape([*zip(x.tolist(), ridge.tolist(), strict=True), (1300, 2000), (0, 2000)], colour)
    for x, height in ((160, 330), (260, 250), (70, 220), (1180, 300), (1090, 210)):
        for tier in range(5):
            y, half = 1560 - height + tier * height / 5.5, 22 + tier * 17
            art.shape([(x, y - 60), (x - half, y + height / 4), (x + half, y + height / 4)], (12, 40, 54))
    art.box(570, 1250, 650, 1560, fill=WHITE)
    for stripe in range(3):
        art.box(570, 1290 + stripe * 90, 650, 1335 + stripe * 90, fill=ROSE)
    art.shape([(560, 1250), (660, 1250), (610, 1180)], ROSE)
    art.shape([(640, 1225), (1300, 1080), (1300, 1230)], (214, 180, 140))
    art.text(650, 120, "WINNER OF THE NORTH LIGHT PRIZE", "roboto-bold", 44, SAND, gap=7)
    art.text(650, 290, "The Keeper", "serif-bold", 215, WHITE)
    art.text(650, 430, "of the", "serif-italic", 110, SAND)
    art.text(650, 580, "Quiet Lamp", "serif-bold", 215, WHITE)
    art.text(650, 1670, "A NOVEL", "roboto-bold", 60, SAND, gap=30)
    art.text(650, 1800, "ODA VINTERBERG", "roboto-black", 118, WHITE, gap=6)
    art.text(650, 1915, '"I read it in one night, and left the light on."  The Morning Post', "serif-italic", 46, WHITE)
    art.disc(200, 860, 118, fill=ROSE, line=SAND, width=6)
    art.ring_text((200, 860), 92, "NATIONAL BESTSELLER * ", "roboto-bold", 27, WHITE, -120)
    art.text(200, 850, "1M", "roboto-black", 72, WHITE)
    art.text(200, 905, "copies", "serif-italic", 36, WHITE)
    return art.texture()


def spine() -> Texture:
    """The book's back, to be read from its top down."""
    art = Artwork(2000, 240, NIGHT)
    art.text(720, 118, "The Keeper of the Quiet Lamp", "serif-bold", 96, WHITE)
    art.text(1640, 118, "VINTERBERG", "roboto-black", 70, SAND, gap=4)
    art.star(1920, 120, 44, ROSE)
    return np.ascontiguousarray(np.rot90(art.texture(), -1))


def paperback() -> list[Part]:
    """Standing upright, its cover to the viewer."""
    paper = to_texture(np.array([236, 226, 204.0]) * (1 + 0.07 * noise(1024, (200, 2), 3, 2))[..., None])
    pages = rounded_box(WIDTH - 0.05, THICKNESS - 0.03, HEIGHT - 0.03, 0.006)
    parts = [Part(mesh.moved((0, 0, 0.015)), Material("matte", paper)) for mesh in pages.values()]
    printed = Material("coated", cover(), 0.18)
    dark = Material("coated", NIGHT, 0.2)
    for y, name in ((-THICKNESS / 2, "front"), (THICKNESS / 2, "back")):
        board = rounded_box(WIDTH, 0.018, HEIGHT, 0.008)
        parts += [Part(m.moved((0, y, 0)), printed if side == name == "front" else dark) for side, m in board.items()]
    back = rounded_box(0.02, THICKNESS + 0.018, HEIGHT, 0.009)
    parts += [Part(m.moved((-WIDTH / 2, 0, 0)), Material("coated", spine(), 0.18)) for m in back.values()]
    return parts


def lying() -> list[Part]:
    """On its back, the cover upwards, its top edge away from the viewer."""
    return moved(paperback(), (0, -HEIGHT / 2, THICKNESS / 2 + 0.01), tilt=-90)


def example() -> Example:
    """Studio photo, and a marble table."""
    stone = Material("coated", marble(41, (236, 232, 226), (120, 116, 118)), 0.12)
    room = blurred_room(42, (80, 70, 66), (224, 206, 182), (255, 232, 190), lights=26)
    return Example(
        title="Paperback",
        description="The cover photographed from the front; in the scene the book lies on a marble table.",
        object_name="book",
        reference=View(
            moved(paperback(), yaw=10),
            studio(4, (190, 198, 206)),
            studio_lights(),
            Camera((0, 0, 1.0), 6.4, 0, 6, 24, 0.012, 6.2),
            key=0.3,
        ),
        truth=View(
            moved(lying(), yaw=-14),
            [
                *table(stone, room, glow=0.9),
                *cup((1.35, 0.9, 0), 0.72, (58, 96, 110)),
                *fruit((-1.5, 0.75, 0), 0.34, (112, 46, 66), 9),
                *fruit((-1.1, 1.25, 0), 0.32, (124, 52, 72), 10),
            ],
            side_window(15, (1.0, 0.93, 0.82), side=1.0),
            Camera((0.05, 0.05, 0.2), 6.6, 4, 52, 28, 0.03, 6.35),
            sky=(0.5, 0.48, 0.45),
            key=0.3,
        ),
        seed=103,
    )
