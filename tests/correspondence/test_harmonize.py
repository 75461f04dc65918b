"""Light: gains are found, faded print is no light."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.correspondence.harmonize import GAIN_LIMITS, LUMA, estimate_light
from refgc.imaging.arrays import blur
from tests.support.synthetic import draw_card

PLACED = draw_card(160, 0).astype(np.float32)
EVERYWHERE = np.ones((160, 160), np.float32)


def test_a_known_gain_is_recovered():
    gain = np.array([0.7, 0.9, 1.05], np.float32)
    assert estimate_light(PLACED, np.clip(PLACED * gain, 0, 255), EVERYWHERE, 16.0).gain.mean(
        axis=(0, 1)
    ) == pytest.approx(gain, rel=0.02)


def test_slowly_varying_light_is_followed():
    falling = np.broadcast_to(np.linspace(0.6, 1.0, 160, dtype=np.float32)[None, :, None], PLACED.shape)
    assert np.abs(estimate_light(PLACED, PLACED * falling, EVERYWHERE, 8.0).gain - falling).max() < 0.06


def test_a_red_print_shown_pink_is_not_bleached():
    placed, generated = PLACED.copy(), PLACED.copy()
    placed[70:90, 70:90] = (200, 30, 30)
    generated[70:90, 70:90] = (220, 140, 140)
    seen = estimate_light(placed, generated, EVERYWHERE, 16.0).applied(placed)[72:88, 72:88].mean(axis=(0, 1))
    assert seen[1] / seen[0] < 0.22
    assert seen[0] == pytest.approx(200, rel=0.1)


def test_a_black_print_shown_grey_is_not_bleached():
    placed, generated = np.full((80, 80, 3), 200, np.float32), np.full((80, 80, 3), 200, np.float32)
    placed[30:50, 30:50], generated[30:50, 30:50] = 15, 90
    lit = estimate_light(placed, generated, np.ones((80, 80), np.float32), 12.0).applied(placed)
    assert lit[32:48, 32:48].max() < 30


def test_a_spot_that_shows_something_else_does_not_pass_for_light():
    placed = np.full((160, 160, 3), 200, np.float32)
    placed[72:88, 72:88] = 120
    generated = placed.copy()
    generated[72:88, 72:88] = 230
    assert np.abs(estimate_light(placed, generated, EVERYWHERE, 16.0).gain - 1).max() < 0.03


def test_what_has_no_weight_does_not_speak():
    generated = PLACED * np.float32(0.8)
    generated[:, 80:] = 255
    weight = EVERYWHERE.copy()
    weight[:, 80:] = 0
    assert estimate_light(PLACED, generated, weight, 16.0).gain == pytest.approx(0.8, abs=0.02)


def test_where_nothing_speaks_the_gain_is_finite_and_within_its_limits():
    for placed in (PLACED, 0 * PLACED, 0 * PLACED + 255):
        for weight in (0 * EVERYWHERE, EVERYWHERE):
            gain = estimate_light(placed, 255 - placed, weight, 16.0).gain
            assert gain.min() >= np.float32(GAIN_LIMITS[0])
            assert gain.max() <= np.float32(GAIN_LIMITS[1])


def test_what_shows_something_else_on_two_fifths_of_the_picture_is_no_light():
    """One round of reweighting is not enough to get rid of so much."""
    generated = PLACED * np.float32(0.8)
    generated[:, :64] = 250
    assert np.abs(estimate_light(PLACED, generated, EVERYWHERE, 8.0).gain[:, 100:] - 0.8).max() < 0.004


def test_a_disagreement_of_fifty_levels_counts_little_and_not_nothing():
    placed = np.full((60, 60, 3), 100, np.float32)
    generated = placed.copy()
    generated[::5] = generated[1::5] = 150
    gain = float(estimate_light(placed, generated, np.ones((60, 60), np.float32), 30.0).gain.mean())
    assert 1.04 < gain < 1.12


def test_where_nothing_near_has_weight_the_whole_objects_gain_stands_in():
    weight = EVERYWHERE.copy()
    weight[:, :80] = 0
    generated = np.where(weight[..., None] > 0, PLACED * np.float32(0.8), PLACED)
    assert estimate_light(PLACED, generated, weight, 4.0).gain[:, :40] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("darkness", [0.06, 0.22, 3.0])
def test_night_and_glaring_light_are_followed(darkness):
    placed = PLACED * np.float32(0.3 if darkness > 1 else 1.0)
    lit = estimate_light(placed, placed * np.float32(darkness), EVERYWHERE, 16.0).applied(placed)
    assert np.abs(lit - placed * np.float32(darkness)).max() < 2


def test_haze_over_a_part_of_the_reference_is_taken_off():
    """A lamp reflected in the reference: black print there is grey."""
    haze = np.clip(np.linspace(60, -60, 160, dtype=np.float32), 0, None)[None, :, None]
    hazy = np.minimum(PLACED * np.float32(0.75) + haze, 255)
    lit = estimate_light(hazy, PLACED * np.float32(0.75), EVERYWHERE, 8.0).applied(hazy)
    before, after = (np.abs(picture - PLACED * 0.75)[:, :40].mean() for picture in (hazy, lit))
    assert after < 0.5 * before


def test_a_shine_in_the_generated_picture_stays():
    shine = 40 * np.exp(-((np.arange(160, dtype=np.float32) - 80) ** 2) / 800)[None, :, None]
    generated = PLACED * np.float32(0.7) + shine
    low = estimate_light(PLACED, generated, EVERYWHERE, 8.0).applied(PLACED) - generated
    assert np.abs(low.mean(axis=(0, 2))).max() < 12


def test_light_for_a_darker_picture_darkens():
    light = estimate_light(PLACED, PLACED * np.float32(0.8) + 10, EVERYWHERE, 16.0)
    assert light.darkened(4.0).applied(PLACED) == pytest.approx(light.applied(PLACED) / 4, abs=0.01)
    assert light.darkened(1.0) is light


def test_a_patch_of_another_colour_keeps_it_and_its_luma_stays_the_references():
    card = draw_card(96, 2).astype(np.float32)
    shown = card.copy()
    shown[20:70, 20:70] = card[20:70, 20:70][..., [2, 1, 0]]
    weight = np.ones(card.shape[:2], np.float32)
    light = estimate_light(card, shown, weight, 4.0)
    own, kept = light.applied(card), light.with_colours_of(shown, card, weight, 2.0).applied(card)

    def colours(picture: np.ndarray) -> np.ndarray:
        return blur(picture - (picture @ LUMA)[..., None], 3.0)[30:60, 30:60]

    wrong, right = (np.abs(colours(picture) - colours(shown)).mean() for picture in (own, kept))
    assert wrong > 3
    assert right < 0.4 * wrong
    # Where a channel reaches its end the luma moves a little.
    assert np.abs((own - kept) @ LUMA).mean() < 1.5
