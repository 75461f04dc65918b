"""Coherence: matches of a bent object are kept, mistakes are not, and one spot is no evidence."""

from __future__ import annotations

import numpy as np

from refgc.correspondence.coherence import coherent, count_cells, log_chance
from refgc.correspondence.match import Matches
from refgc.imaging.arrays import Floats

FRAME = (1024, 1024)


def learned(generated: np.ndarray, reference: np.ndarray) -> Matches:
    unknown = np.full(len(generated), np.nan, np.float32)
    return Matches(generated.astype(np.float32), reference.astype(np.float32), unknown, unknown, 0 * unknown)


def on_a_cylinder(count: int, seed: int) -> Matches:
    """What a turned cylinder shows: no plane fits all of it."""
    points = np.random.default_rng(seed).uniform(300, 700, (count, 2))
    angle = np.arcsin((points[:, 0] - 500) / 260)
    there = np.column_stack([500 + 260 * np.sin(angle + 0.3), 0.9 * points[:, 1] + 40])
    return learned(points, there)


def scattered(count: int, seed: int) -> Matches:
    random = np.random.default_rng(seed)
    return learned(random.uniform(0, 1024, (count, 2)), random.uniform(0, 1024, (count, 2)))


def test_a_bent_surface_is_coherent_and_mistakes_among_it_are_not():
    good, bad = on_a_cylinder(200, 0), scattered(60, 1)
    keep = coherent(Matches.joined([good, bad]))
    assert keep[:200].mean() > 0.95
    assert keep[200:].mean() < 0.1


def test_random_matches_are_not_coherent():
    kept = [coherent(scattered(count, seed)).sum() for count in (6, 30, 200) for seed in range(5)]
    assert max(kept) <= 4


def test_a_mirrored_surface_is_not_coherent():
    good = on_a_cylinder(200, 0)
    assert coherent(good.at(good.generated * np.array([-1, 1], np.float32) + 1000, good.reference)).sum() == 0


def test_too_few_matches_are_not_coherent():
    assert not coherent(on_a_cylinder(5, 0)).any()
    assert len(coherent(on_a_cylinder(0, 0))) == 0


def shrunk(points: Floats) -> Floats:
    """Points moved to one spot."""
    return np.asarray(480 + points / 20, np.float32)


def test_many_matches_of_one_spot_tell_little():
    spot = on_a_cylinder(300, 0)
    narrow = spot.at(shrunk(spot.generated), shrunk(spot.reference))
    assert log_chance(narrow, FRAME, FRAME) > -4 > log_chance(spot, FRAME, FRAME)
    assert log_chance(on_a_cylinder(0, 0), FRAME, FRAME) == 0.0


def test_cells_of_both_pictures_count():
    """A wide patch that lands on one spot is no view of the object."""
    wide = on_a_cylinder(300, 0)
    landed = wide.at(wide.generated, shrunk(wide.reference))
    assert log_chance(landed, FRAME, FRAME) > -4
    assert count_cells(np.array([[0, 0], [3, 3], [11, 3]], np.float32), 10.0) == 2
