"""FLIP: pictures of one colour, whose difference can be computed by hand, and how the figures behave."""

from __future__ import annotations

import flip_evaluator
import numpy as np
import pytest

from refgc.imaging.image import Image, Mask
from refgc.metrics.flip import Flip, flip_map
from refgc.metrics.sample import Sample

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def uniform(red: int, green: int, blue: int) -> Image:
    return Image(np.full((40, 48, 3), (red, green, blue), np.uint8))


def hunt(linear: np.ndarray) -> np.ndarray:
    """Linear sRGB in CIELAB, its chroma less where it is dark."""
    ratio = (TO_XYZ @ linear) / (TO_XYZ @ np.ones(3))
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = 116 * f[1] - 16
    return np.array([lightness, 0.01 * lightness * 500 * (f[0] - f[1]), 0.01 * lightness * 200 * (f[1] - f[2])])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    difference = hunt(one) - hunt(other)
    return float((abs(difference[0]) + np.hypot(*difference[1:])) ** 0.7)


def linear_of(colour: tuple[int, int, int]) -> np.ndarray:
    values = np.array(colour) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def by_hand(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """FLIP of two colours (Andersson et al., 2020, section 5.1): pictures without edges differ by colour alone."""
    largest = distance(np.array([0.0, 1, 0]), np.array([0.0, 0, 1]))
    found, knee = distance(linear_of(one), linear_of(other)), 0.4 * largest
    return 0.95 * found / knee if found < knee else 0.95 + 0.05 * (found - knee) / (largest - knee)


@pytest.mark.parametrize(
    ("one", "other"),
    [((128, 128, 128), (140, 128, 120)), ((10, 20, 30), (200, 180, 60)), ((255, 255, 255), (0, 0, 0))],
)
def test_two_colours_differ_as_the_paper_says(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    figures = Flip()(Sample(uniform(*one), uniform(*other)))
    assert figures == {"flip": pytest.approx(by_hand(one, other), abs=2e-3)}


def test_the_parts_are_those_of_the_mask() -> None:
    truth = uniform(90, 100, 110)
    pixels = np.array(truth.pixels)
    pixels[:, 24:] = (200, 60, 60)
    values = np.zeros((40, 48), np.float32)
    values[:, 36:] = 1
    figures = Flip()(Sample(Image(pixels), truth, Mask(values)))
    assert figures["flip_inside"] > 0.5
    assert figures["flip_outside"] < figures["flip"] < figures["flip_inside"]
    assert figures["flip"] == pytest.approx(0.25 * figures["flip_inside"] + 0.75 * figures["flip_outside"])


def test_detail_is_seen_from_the_distance_that_its_authors_take() -> None:
    random = np.random.default_rng(0)
    one, other = (Image(random.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(2))
    # Without parameters the authors' package takes their viewer: 0.7 m from a display of 0.7 m and 3840 pixels.
    expected, _, _ = flip_evaluator.evaluate(
        np.float32(other.pixels / 255), np.float32(one.pixels / 255), "LDR", applyMagma=False
    )
    np.testing.assert_allclose(flip_map(one.pixels, other.pixels), expected[..., 0], atol=1e-4)


def test_equal_pictures_differ_by_nothing() -> None:
    assert Flip()(Sample(uniform(1, 2, 3), uniform(1, 2, 3))) == {"flip": 0}


def test_without_a_truth_there_is_no_figure() -> None:
    assert Flip()(Sample(uniform(1, 2, 3))) == {}
