"""Trust: what speaks against a spot never raises it, what is flat cannot be misplaced."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from refgc.correspondence.trust import Evidence, agreement_trust, bending, estimate_trust, local_correlation, parallax
from refgc.imaging.warp import pixel_grid
from tests.support.synthetic import draw_card

CARD = cv2.cvtColor(draw_card(90, 0), cv2.COLOR_RGB2GRAY).astype(np.float32)


def evidence(seed: int) -> Evidence:
    random = np.random.default_rng(seed)

    def field(top: float) -> np.ndarray:
        return random.uniform(0, top, (40, 50)).astype(np.float32)

    return Evidence(field(60), (field(1) > 0.3).astype(np.float32), field(3), field(0.3), field(3))


@pytest.mark.parametrize("against", ["disagreement", "deviation", "bending"])
def test_more_against_a_spot_never_raises_agreement(against):
    for seed in range(5):
        before = evidence(seed)
        more = getattr(before, against).copy()
        more[10:20, 10:20] *= 3
        after = agreement_trust(replace(before, **{against: more}))
        assert (after <= agreement_trust(before) + 1e-6).all()
        assert after[15, 15] < agreement_trust(before)[15, 15]


def test_belief_never_lowers_agreement():
    before = evidence(0)
    doubted = replace(before, reliable=0 * before.reliable)
    assert (agreement_trust(doubted) <= agreement_trust(before)).all()
    assert agreement_trust(doubted).mean() < agreement_trust(before).mean()


def test_trust_is_a_share():
    for seed in range(5):
        judged = estimate_trust(evidence(seed))
        assert judged.shape == (40, 50)
        assert judged.min() >= 0
        assert judged.max() <= 1
        assert (judged >= agreement_trust(evidence(seed))).all()


def test_good_evidence_is_trusted_and_bad_is_not():
    nothing = np.zeros((40, 50), np.float32)
    assert estimate_trust(Evidence(nothing, nothing + 1, nothing, nothing, nothing)).min() > 0.9
    assert estimate_trust(Evidence(nothing + 80, nothing, nothing + 5, nothing + 1, nothing + 9)).max() < 0.05


def test_straight_believed_geometry_is_trusted_against_the_colours():
    nothing = np.zeros((40, 50), np.float32)
    differing = Evidence(nothing + 80, nothing + 1, nothing, nothing, nothing)
    assert agreement_trust(differing).max() < 0.5
    assert estimate_trust(differing).min() > 0.9


def test_likeness_of_flat_surfaces_is_one():
    assert local_correlation(np.full((40, 40), 200, np.float32), np.full((40, 40), 90, np.float32)) == pytest.approx(
        1, abs=0.02
    )


def test_likeness_is_high_for_the_same_print_and_low_for_another():
    assert local_correlation(CARD, 0.6 * CARD + 20).min() > 0.7
    assert local_correlation(CARD, 255 - CARD).max() < 0.2
    assert local_correlation(CARD, np.roll(CARD, 14, axis=1)).mean() < 0.3


def test_likeness_is_a_correlation():
    noise = np.random.default_rng(0).uniform(0, 255, (60, 60)).astype(np.float32)
    both = local_correlation(noise, 255 - noise)
    assert both.min() >= -1.001
    assert local_correlation(noise, noise).max() <= 1.001


def test_only_what_is_not_affine_bends():
    grid = pixel_grid((50, 40))
    affine = grid @ np.array([[1.3, 0.2], [-0.4, 0.8]], np.float32) + np.array([5, 6], np.float32)
    assert bending(affine.astype(np.float32))[5:-5, 5:-5].max() < 1e-4
    bowl = affine.astype(np.float32)
    bowl[..., 0] += 0.05 * grid[..., 0] ** 2
    assert bending(bowl)[8:-8, 8:-8] == pytest.approx(0.1, rel=0.05)


def uniform(
    disagreement: float, reliable: float, deviation: float, bending: float, parallax: float = 100.0
) -> Evidence:
    """The same evidence everywhere."""
    values = disagreement, reliable, deviation, bending, parallax
    return Evidence(*(np.full((40, 50), value, np.float32) for value in values))


@pytest.mark.parametrize(("bending", "trust"), [(0.06, 0.9), (0.12, 0.5), (0.24, 0.09)])
def test_geometry_is_trusted_less_the_more_it_bends(bending, trust):
    assert estimate_trust(uniform(80, 1, 0, bending)).mean() == pytest.approx(trust, abs=0.05)


@pytest.mark.parametrize(("parallax", "trust"), [(0.25, 0.96), (0.5, 0.5), (1.0, 0.03)])
def test_geometry_is_trusted_less_the_more_it_could_hide(parallax, trust):
    """However much it bends: a depth edge hides a band as wide as the displacement changes."""
    assert estimate_trust(uniform(80, 1, 0, 5.0, parallax)).mean() == pytest.approx(trust, abs=0.05)


def test_parallax_is_what_no_affine_map_explains():
    grid = pixel_grid((90, 80))
    affine = (grid @ np.array([[1.3, 0.2], [-0.4, 0.8]], np.float32) + np.array([500, 600], np.float32)).astype(
        np.float32
    )
    assert parallax(affine).max() < 0.02
    step = affine.copy()
    step[:, 45:, 0] += 4.0
    found = parallax(step)
    assert found[40, 45] == pytest.approx(2.0, abs=0.4)
    assert found[40, :10].max() < 0.1


@pytest.mark.parametrize(("reliable", "trust"), [(0.43, 0.29), (0.5, 0.5), (0.57, 0.8)])
def test_straight_geometry_is_trusted_where_most_of_the_flow_is_reliable(reliable, trust):
    assert estimate_trust(uniform(80, reliable, 0, 0)).mean() == pytest.approx(trust, abs=0.05)


@pytest.mark.parametrize(("disagreement", "trust"), [(5, 0.95), (20, 0.65), (80, 0.12)])
def test_agreement_by_the_fitted_model(disagreement, trust):
    """The model is fitted: its coefficients change by a new fit only, not by accident."""
    assert agreement_trust(uniform(disagreement, 1, 0.2, 0.05)).mean() == pytest.approx(trust, abs=0.02)


def test_evidence_counts_for_its_neighbourhood_and_not_far_beyond():
    spot = uniform(5, 1, 0.2, 0.05)
    spot.disagreement[18:22, 23:27] = 200
    change = agreement_trust(uniform(5, 1, 0.2, 0.05)) - agreement_trust(spot)
    assert change[20, 25] > 0.03
    assert change[:, :8].max() < 0.005
    spot = uniform(20, 1, 0.2, 0.05)
    spot.reliable[18:22, 23:27] = 0
    change = agreement_trust(uniform(20, 1, 0.2, 0.05)) - agreement_trust(spot)
    assert change[20, 25] > 0.1
    assert change[20, 30] < 0.013


def test_contrast_below_a_few_levels_is_flat_and_cannot_be_unlike():
    noise = np.random.default_rng(0).normal(0, 1, (60, 60)).astype(np.float32)
    opposite = [float(local_correlation(128 + a * noise, 128 - a * noise).mean()) for a in (1, 6, 24)]
    assert opposite == pytest.approx([0.95, 0.0, -0.88], abs=0.1)
