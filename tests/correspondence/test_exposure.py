"""Exposure: dark pictures are brightened, grey ones recognised, and cut-outs lose their old background."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.correspondence.exposure import expose, grey, is_grey, with_chroma_of
from refgc.imaging.image import Image, Mask
from tests.support.synthetic import draw_card

CARD = draw_card(160, 0)


@pytest.mark.parametrize("darkness", [0.05, 0.2, 0.5])
def test_a_dark_picture_is_brightened_to_about_what_it_was(darkness):
    dark = np.rint(CARD * darkness).astype(np.uint8)
    pair = expose(Image(CARD.copy()), Image(dark))
    assert pair.exposure * darkness == pytest.approx(200 / np.percentile(grey(CARD), 98), rel=0.1)
    assert np.abs(pair.generated / (pair.exposure * darkness) - CARD).mean() < 12
    assert not pair.luminance_only


def test_a_bright_picture_stays_as_it_is():
    pair = expose(Image(CARD.copy()), Image(np.maximum(CARD, 120)))
    assert pair.exposure == pytest.approx(1.0, abs=0.05)


def test_grey_is_recognised_through_a_codec():
    plain = grey(CARD)
    noisy = np.clip(plain.astype(int) + np.random.default_rng(0).integers(-2, 3, plain.shape), 0, 255).astype(np.uint8)
    assert is_grey(plain)
    assert is_grey(noisy)
    assert not is_grey(CARD)
    for one, other in ((plain, CARD), (CARD, plain)):
        pair = expose(Image(one.copy()), Image(other.copy()))
        assert pair.luminance_only
        assert np.ptp(pair.reference, axis=2).max() == np.ptp(pair.generated, axis=2).max() == 0


def test_a_soft_cut_out_has_its_own_colour_at_the_edge():
    alpha = np.clip((np.arange(64) - 20) / 12, 0, 1)[None].repeat(64, axis=0).astype(np.float32)
    red = np.array([180, 20, 20], np.float32)
    over_white = np.rint(red * alpha[..., None] + 255 * (1 - alpha[..., None])).astype(np.uint8)
    pair = expose(Image(over_white, Mask(alpha.copy())), Image(CARD.copy()))
    edge = pair.reference[:, 24:30].astype(float).mean(axis=(0, 1))
    assert np.abs(edge - red).max() < 25
    assert over_white[:, 24:30, 1].mean() > 100


def test_only_the_luminance_changes():
    base = np.full((4, 4, 3), (120, 80, 60), np.float32)
    placed = np.full((4, 4, 3), 100, np.float32)
    changed = with_chroma_of(base, placed)
    assert changed[..., 0] - changed[..., 1] == pytest.approx(40)
    assert changed @ np.array([0.299, 0.587, 0.114]) == pytest.approx(100, abs=0.01)
