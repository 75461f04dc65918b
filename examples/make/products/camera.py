"""A film camera with engraved lettering on its lens, top plate and dials."""

from __future__ import annotations

import numpy as np
from PIL import Image

from examples.make.drawing import Artwork
from examples.make.places import side_window, studio, studio_lights, table
from examples.make.props import book
from examples.make.scene import Camera, Example, Material, Part, View, moved
from examples.make.shapes import disc, lathe, rounded, rounded_box
from examples.make.surfaces import Texture, blurred_room, noise, to_texture, wood

SILVER, BLACK, WHITE, RED, AMBER = (206, 206, 202), (22, 22, 24), (240, 240, 236), (206, 40, 36), (232, 164, 40)
CHROME = Material("metal", SILVER, 0.2)


def front() -> Texture:
    """Leatherette with metal bands, name plate and badges."""
    pebbled = 34 + 26 * noise(2048, (220, 220), 61, 2)[:1240]
    leather = to_texture(pebbled[..., None] + np.array([2.0, 0, -2]))
    art = Artwork(2048, 1240, BLACK)
    art.picture.paste(Image.fromarray(leather))
    art.box(0, 0, 2048, 230, fill=SILVER)
    art.box(0, 1130, 2048, 1240, fill=SILVER)
    art.line([(0, 246), (2048, 246)], RED, 10)
    art.text(360, 120, "NORDLYS", "roboto-black", 104, BLACK, gap=8)
    art.text(1710, 120, "35 MODEL IV", "roboto-bold", 84, BLACK, gap=8)
    art.text(1024, 1188, "PRECISION OPTICS WORKS  *  BERGEN  *  No. 0417 682", "roboto-bold", 50, BLACK, gap=5)
    art.box(70, 330, 420, 520, fill=RED, radius=20)
    art.text(245, 400, "AUTO", "roboto-black", 92, WHITE, gap=6)
    art.text(245, 475, "EXPOSURE", "roboto-bold", 46, WHITE, gap=6)
    art.disc(1800, 450, 96, fill=SILVER, line=WHITE, width=6)
    art.star(1800, 450, 74, RED, 8, 0.5)
    art.text(1800, 620, "SELF TIMER", "roboto-bold", 46, WHITE, gap=4)
    art.text(1790, 980, "f/2", "serif-italic", 150, AMBER)
    for index, colour in enumerate([RED, AMBER, (60, 140, 90), (40, 90, 170)]):
        art.box(70, 880 + index * 44, 400, 912 + index * 44, fill=colour)
    return art.texture()


def lens_ring() -> Texture:
    """The engraved ring around the glass."""
    art = Artwork(1200, 1200, BLACK)
    art.disc(600, 600, 590, line=(120, 120, 120), width=6)
    art.ring_text(
        (600, 600), 470, "NORDLYS OPTIK  *  AURORA 45mm  1:2.0  *  No. 2 718 281  *  ", "roboto-bold", 92, WHITE, -92
    )
    art.disc(600, 600, 395, line=RED, width=12)
    art.disc(600, 600, 340, fill=(12, 12, 14))
    return art.texture()


def scale_ring() -> Texture:
    """Distances and apertures engraved around the barrel."""
    art = Artwork(3000, 260, BLACK)
    for index, mark in enumerate(["16", "11", "8", "5.6", "4", "2.8", "2"] * 3):
        x = 70 + index * 143
        art.text(x, 80, mark, "roboto-bold", 84, AMBER if index % 2 else WHITE)
        art.line([(x, 130), (x, 165)], WHITE, 8)
    for x in range(0, 3000, 24):
        art.box(x, 185, x + 11, 260, fill=(64, 64, 66))
    return art.texture()


def dial() -> Texture:
    """Shutter speeds."""
    art = Artwork(600, 600, SILVER)
    art.ring_text((300, 300), 215, "B 1 2 4 8 15 30 60 125 250 500 ", "roboto-bold", 62, BLACK, 0)
    art.disc(300, 300, 130, fill=BLACK)
    return art.texture()


def camera() -> list[Part]:
    """Standing on its base plate, the lens to the viewer."""
    faces = rounded_box(1.4, 0.42, 0.85, 0.05)
    parts = [
        Part(mesh, Material("coated", front(), 0.3) if name == "front" else CHROME) for name, mesh in faces.items()
    ]
    hump = rounded_box(0.5, 0.36, 0.2, 0.04)
    plate = Artwork(800, 320, SILVER)
    plate.box(40, 40, 760, 280, fill=BLACK, radius=40)
    plate.text(400, 160, "NORDLYS", "serif-bold", 140, WHITE, gap=8)
    name_plate = Material("coated", plate.texture(), 0.2)
    parts += [Part(mesh.moved((0, 0, 0.83)), name_plate if name == "front" else CHROME) for name, mesh in hump.items()]
    parts += moved(lens(), (0.0, -0.2, 0.44), tilt=90)
    knob = rounded([(0, 0.12), (0.13, 0.12), (0.14, 0.1), (0.14, 0)], 0.015)
    for x in (-0.5, 0.5):
        parts += [Part(lathe(knob).moved((x, 0, 0.85)), CHROME)]
        parts += [Part(disc(0.125).moved((x, 0, 0.972)), Material("coated", dial(), 0.25))]
    button = lathe(rounded([(0, 0.09), (0.05, 0.09), (0.06, 0)], 0.01))
    return [*parts, Part(button.moved((-0.32, -0.05, 0.85)), Material("coated", RED, 0.15))]


def lens() -> list[Part]:
    """The lens along +z."""
    black = Material("coated", (26, 26, 28), 0.25)
    mount = lathe(rounded([(0.375, 0), (0.375, 0.09), (0.35, 0.09)], 0.02))
    barrel = lathe(np.array([[0.355, 0.09], [0.355, 0.26]]))
    front_edge = lathe(rounded([(0.355, 0.26), (0.355, 0.34), (0.335, 0.34), (0.335, 0.315)], 0.015))
    angle = np.linspace(0, np.pi / 2, 40)
    glass = lathe(np.stack([0.19 * np.sin(angle), 0.31 + 0.05 * np.cos(angle)], axis=1))
    return [
        Part(mount, CHROME),
        Part(barrel, Material("coated", scale_ring(), 0.3)),
        Part(front_edge, black),
        Part(disc(0.336).moved((0, 0, 0.315)), Material("coated", lens_ring(), 0.35)),
        Part(glass, Material("coated", (26, 14, 48), 0.03)),
    ]


def example() -> Example:
    """Studio photo, and a desk by a window."""
    desk = Material("coated", wood(62, (116, 78, 46), (206, 164, 116)), 0.3)
    room = blurred_room(63, (70, 74, 66), (196, 190, 168), (255, 240, 206), lights=18)
    behind = [
        *book((-1.7, 1.35, 0), (1.7, 1.2, 0.26), (48, 82, 92), 4, yaw=8),
        *book((-1.7, 1.3, 0.26), (1.5, 1.1, 0.22), (196, 120, 70), 5, yaw=-9),
        *book((1.9, 1.7, 0), (1.4, 1.1, 0.3), (130, 44, 52), 6, yaw=-30),
    ]
    return Example(
        title="Film camera",
        description="Metal, leather, glass and engraving; the lens stands out, so that its sides are seen differently.",
        object_name="camera",
        reference=View(
            moved(camera(), yaw=-12),
            studio(6, (216, 210, 200)),
            studio_lights(10),
            Camera((0, 0, 0.5), 4.6, 0, 10, 24, 0.008, 4.3),
            key=0.36,
        ),
        truth=View(
            moved(camera(), yaw=6),
            [*table(desk, room, glow=0.9), *behind],
            side_window(16, (1.0, 0.95, 0.86)),
            Camera((0.05, 0, 0.5), 5.6, 2, 17, 28, 0.025, 5.3),
            sky=(0.42, 0.42, 0.4),
            key=0.24,
        ),
        seed=105,
    )
