"""Printed artwork: a canvas with the drawing operations that labels need, in freely licensed fonts."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from examples.make.surfaces import Texture

Colour = tuple[int, int, int]
FontName = Literal["amatic", "fredoka", "roboto", "roboto-bold", "roboto-black", "serif", "serif-bold", "serif-italic"]
Place = tuple[float, float]

FONT_FILES: dict[FontName, tuple[str, str]] = {
    "amatic": ("font_amatic_sc", "AmaticSC-Bold.ttf"),
    "fredoka": ("font_fredoka_one", "FredokaOne-Regular.ttf"),
    "roboto": ("font_roboto", "Roboto-Regular.ttf"),
    "roboto-bold": ("font_roboto", "Roboto-Bold.ttf"),
    "roboto-black": ("font_roboto", "Roboto-Black.ttf"),
    "serif": ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    "serif-bold": ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    "serif-italic": ("font_source_serif_pro", "SourceSerifPro-It.ttf"),
}


# Which letter is drawn instead of which; nothing is exchanged unless `other_letters` says so.
_letters: ContextVar[Mapping[int, int] | None] = ContextVar("letters", default=None)


@contextmanager
def other_letters(seed: int) -> Iterator[None]:
    """While it lasts, every letter and digit is drawn as another of its kind: the same layout with other words."""
    shuffled = random.Random(seed)
    table: dict[int, int] = {}
    for alphabet in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        order = shuffled.sample(alphabet, len(alphabet))
        # Each is exchanged for the next in a random circle, so that none stays itself.
        table |= {ord(letter): ord(order[index - 1]) for index, letter in enumerate(order)}
    token = _letters.set(table)
    try:
        yield
    finally:
        _letters.reset(token)


def font(name: FontName, size: float) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels."""
    package, file = FONT_FILES[name]
    folder = Path(str(import_module(package).__file__)).parent / "files"
    return ImageFont.truetype(str(folder / file), round(size))


class Artwork:
    """A canvas; positions and sizes are in pixels from the top left corner."""

    def __init__(self, width: int, height: int, paper: Colour) -> None:
        self.picture = Image.new("RGB", (width, height), paper)
        self.draw = ImageDraw.Draw(self.picture)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        name: FontName,
        size: float,
        ink: Colour,
        *,
        anchor: str = "mm",
        gap: float = 0,
    ) -> None:
        """Words at a place; `gap` pixels are added between letters (then the words are centred)."""
        words = words.translate(_letters.get() or {})
        face = font(name, size)
        if not gap:
            self.draw.text((x, y), words, ink, face, anchor, align="center")
            return
        left = x - (sum(face.getlength(letter) for letter in words) + gap * (len(words) - 1)) / 2
        for letter in words:
            self.draw.text((left, y), letter, ink, face, "lm")
            left += face.getlength(letter) + gap

    def paragraph(self, x: float, y: float, lines: Sequence[str], name: FontName, size: float, ink: Colour) -> None:
        """Lines set flush left below each other."""
        for index, line in enumerate(lines):
            self.text(x, y + index * size * 1.28, line, name, size, ink, anchor="la")

    def ring_text(
        self, centre: Place, radius: float, words: str, name: FontName, size: float, ink: Colour, start: float
    ) -> None:
        """Letters around a circle, clockwise from `start` degrees (0 is the top)."""
        words = words.translate(_letters.get() or {})
        face, angle = font(name, size), start
        for letter in words:
            advance = np.degrees(face.getlength(letter) / radius)
            tile = Image.new("L", (round(size * 2), round(size * 2)), 0)
            ImageDraw.Draw(tile).text((size, size), letter, 255, face, "mm")
            middle = np.radians(angle + advance / 2)
            tile = tile.rotate(-float(np.degrees(middle)), Image.Resampling.BICUBIC)
            place = (
                round(centre[0] + radius * np.sin(middle) - size),
                round(centre[1] - radius * np.cos(middle) - size),
            )
            self.picture.paste(ink, place, tile)
            angle += advance

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        *,
        fill: Colour | None = None,
        line: Colour | None = None,
        width: int = 4,
        radius: float = 0,
    ) -> None:
        """A rectangle, its corners rounded over `radius`."""
        self.draw.rounded_rectangle((left, top, right, bottom), radius, fill, line, width)

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        *,
        fill: Colour | None = None,
        line: Colour | None = None,
        width: int = 4,
    ) -> None:
        """A circle."""
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill, line, width)

    def line(self, places: Sequence[Place], ink: Colour, width: int) -> None:
        """A line through `places`."""
        self.draw.line(list(places), ink, width, "curve")

    def shape(self, places: Sequence[Place], fill: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon(list(places), fill)

    def star(self, x: float, y: float, radius: float, fill: Colour, points: int = 5, inner: float = 0.42) -> None:
        """A star with one point up; `inner` is the radius of its notches over that of its points."""
        angles = np.arange(2 * points) * np.pi / points
        radii = np.where(np.arange(2 * points) % 2, radius * inner, radius)
        self.shape([(x + r * np.sin(a), y - r * np.cos(a)) for r, a in zip(radii, angles, strict=True)], fill)

    def leaf(self, x: float, y: float, length: float, angle: float, fill: Colour, vein: Colour) -> None:
        """A pointed leaf from (x, y) in the direction `angle` (degrees, 0 up, clockwise)."""
        t = np.linspace(0, 1, 24)
        along, half = length * t, 0.2 * length * np.sin(np.pi * t) ** 0.9
        direction = np.array([np.sin(np.radians(angle)), -np.cos(np.radians(angle))])
        side = np.array([-direction[1], direction[0]])
        base = np.array([x, y])
        rim = [base + direction * a + side * h for a, h in zip(along, half, strict=True)]
        rim += [base + direction * a - side * h for a, h in zip(along[::-1], half[::-1], strict=True)]
        self.shape([(float(px), float(py)) for px, py in rim], fill)
        tip = base + direction * length * 0.92
        self.line([(x, y), (float(tip[0]), float(tip[1]))], vein, max(2, round(length / 40)))

    def barcode(self, left: float, top: float, width: float, height: float, seed: int) -> None:
        """Bars and 13 digits on white."""
        self.box(left, top, left + width, top + height, fill=(252, 252, 250))
        random = np.random.default_rng(seed)
        x, unit = left + width * 0.07, width / 110
        while x < left + width * 0.92:
            bar, space = random.integers(1, 4, 2)
            self.draw.rectangle((x, top + height * 0.08, x + bar * unit, top + height * 0.78), (15, 15, 15))
            x += (bar + space) * unit
        digits = "".join(str(digit) for digit in random.integers(0, 10, 13))
        self.text(
            left + width / 2, top + height * 0.88, digits, "roboto", height * 0.15, (15, 15, 15), gap=width * 0.008
        )

    def texture(self) -> Texture:
        """The print as (height, width, 3)."""
        return np.asarray(self.picture).copy()
