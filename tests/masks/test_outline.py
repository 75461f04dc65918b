"""The graph cut against cuts whose answer is known."""

from __future__ import annotations

import numpy as np

from refgc.masks.outline import minimum_cut

NOWHERE = np.zeros((30, 40), np.bool_)


def two_colours() -> np.ndarray:
    """Different left and right of column 20."""
    colours = np.zeros((30, 40, 3), np.float32)
    colours[:, 20:] = (40, 30, -30)
    return colours


def test_clear_leanings_decide():
    leaning = np.full((30, 40), -20.0, np.float32)
    leaning[5:15, 10:25] = 20
    found = minimum_cut(np.zeros((30, 40, 3), np.float32), leaning, 36, NOWHERE, NOWHERE)
    assert np.array_equal(found, leaning > 0)


def test_without_leanings_the_outline_runs_along_the_edge():
    leaning = np.zeros((30, 40), np.float32)
    inside, outside = NOWHERE.copy(), NOWHERE.copy()
    inside[15, 2] = outside[15, 38] = True
    found = minimum_cut(two_colours(), leaning, 36, inside, outside)
    assert found[:, :20].all()
    assert not found[:, 20:].any()


def test_a_speck_that_leans_the_other_way_is_smoothed_out():
    leaning = np.full((30, 40), 2.0, np.float32)
    leaning[:, 20:] = -2
    leaning[10, 10] = -2
    found = minimum_cut(two_colours(), leaning, 36, NOWHERE, NOWHERE)
    assert found[10, 10]
    assert np.array_equal(found, np.arange(40) < np.full((30, 1), 20))


def test_what_is_sure_holds_against_any_leaning():
    leaning = np.full((30, 40), 36.0, np.float32)
    outside = NOWHERE.copy()
    outside[3:6, 3:6] = True
    found = minimum_cut(np.zeros((30, 40, 3), np.float32), leaning, 36, outside, outside)
    assert np.array_equal(found, ~outside)
