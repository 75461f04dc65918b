"""Legibility: agreement of words by hand, and text that the real OCR reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.imaging.image import Image, Mask
from refgc.metrics.legibility import Legibility, Line, agreement, words_of
from refgc.metrics.sample import Sample

CORNERS = np.array([[0.1, 0.1], [0.3, 0.1], [0.3, 0.2], [0.1, 0.2]])


def label(*lines: str, shade: int = 20) -> Image:
    """A light label with dark print."""
    pixels = np.full((256, 384, 3), 235, np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(pixels, line, (30, 80 + 70 * number), cv2.FONT_HERSHEY_DUPLEX, 1.5, (shade,) * 3, 2, cv2.LINE_AA)
    return Image(pixels)


@pytest.fixture(scope="module")
def legibility() -> Legibility:
    return Legibility()


def test_agreement_is_the_mean_similarity_weighted_by_length() -> None:
    # "harbour" against "harbor": one deletion in seven. "oats" against "cats": one substitution in four.
    assert agreement(["harbour", "oats"], ["harbor", "cats", "milled"]) == pytest.approx(
        (7 * (1 - 1 / 7) + 4 * (1 - 1 / 4)) / 11
    )
    assert agreement(["oats"], ["oats"]) == 1
    assert agreement(["oats"], []) == 0


def test_words_are_sure_long_enough_and_on_the_object() -> None:
    lines = [Line("No.041 Präzision-OPTIK a", 0.95, CORNERS), Line("shadow", 0.6, CORNERS)]
    assert words_of(lines, 0.9) == ["041", "präzision", "optik"]
    assert words_of(lines, 0.5) == ["041", "präzision", "optik", "shadow"]
    on_object = np.zeros((100, 200), np.bool_)
    on_object[10:20, 20:60] = True
    assert words_of(lines, 0.9, on_object) == ["041", "präzision", "optik"]
    assert words_of(lines, 0.9, ~on_object) == []


def test_a_sharp_result_is_read_and_a_blurred_one_is_not(legibility: Legibility) -> None:
    reference = label("MOSSWELL", "Harbour Oats")
    assert legibility(Sample(reference, reference=reference)) == {"legibility": pytest.approx(1)}
    blurred = Image(cv2.GaussianBlur(reference.pixels, (0, 0), 12))
    assert legibility(Sample(blurred, reference=reference))["legibility"] < 0.5
    other = legibility(Sample(label("MOSSWEEL", "Harbour Oats"), reference=reference))["legibility"]
    assert other == pytest.approx((8 * 7 / 8 + 7 + 4) / 19)


def test_words_beside_the_object_do_not_count_inside(legibility: Legibility) -> None:
    reference = label("MOSSWELL")
    result = label("MOSSWELL", "Harbour Oats")
    values = np.zeros((256, 384), np.float32)
    values[110:] = 1
    figures = legibility(Sample(result, truth_mask=Mask(values), reference=reference))
    assert figures["legibility"] == 1
    assert figures["legibility_inside"] < 0.5
    nothing = Mask(np.zeros_like(values))
    assert legibility(Sample(result, truth_mask=nothing, reference=reference)) == {"legibility": 1}
    values = 1 - values
    both = label("MOSSWELL", "Harbour Oats")
    sample = Sample(label("MOSSWELL"), reference=both, reference_mask=Mask(values))
    assert legibility(sample) == {"legibility": 1}


def test_a_reference_without_text_gives_no_value(legibility: Legibility) -> None:
    assert legibility(Sample(label("MOSSWELL"), reference=label())) == {}
    assert legibility(Sample(label("MOSSWELL"))) == {}


def test_a_result_without_text_is_not_legible(legibility: Legibility) -> None:
    assert legibility(Sample(label(), reference=label("MOSSWELL"))) == {"legibility": 0}
