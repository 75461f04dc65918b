"""Reference inliers: matches whose geometry is known, and pictures of one object and of others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from refgc.correspondence.learned import are_there
from refgc.errors import EngineError
from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.metrics.inliers import Inliers, epipolar_inliers
from refgc.metrics.registry import select
from refgc.metrics.sample import Sample
from tests.support.dataset_pairs import EXAMPLES

needs_weights = pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not there")


def seen(points: np.ndarray, turn: float, shift: tuple[float, float, float]) -> np.ndarray:
    """Points (n, 3) in the picture (1024 pixels) of a camera that has turned and moved."""
    rotation, _ = cv2.Rodrigues(np.array([0.0, turn, 0.05]))
    there = points @ rotation.T + np.array(shift) + np.array([0, 0, 4.0])
    return np.asarray(512 + 900 * there[:, :2] / there[:, 2:], np.float32)


def test_a_rigid_object_is_told_from_matches_by_chance() -> None:
    random = np.random.default_rng(3)
    points = random.uniform(-1, 1, (80, 3))
    one, other = seen(points, 0, (0, 0, 0)), seen(points, 0.3, (0.2, 0.05, 0.1))
    wrong = random.uniform(0, 1024, (40, 2)).astype(np.float32), random.uniform(0, 1024, (40, 2)).astype(np.float32)
    inliers = epipolar_inliers(np.concatenate([one, wrong[0]]), np.concatenate([other, wrong[1]]))
    assert inliers[:80].all()
    # Of points by chance, those near to their line by chance are among them.
    assert inliers[80:].sum() <= 4


@pytest.mark.parametrize("seed", [1054, 1066, 2338, 2560, 2722])
def test_the_points_of_a_plane_are_explained(seed: int) -> None:
    # OpenCV finds no fundamental matrix for these, and raises.
    random = np.random.default_rng(seed)
    count = int(random.integers(8, 14))
    points = random.uniform(0, 500, (count, 2)).astype(np.float32)
    there = (points * 0.5 + random.normal(0, 2, (count, 2))).astype(np.float32)
    assert epipolar_inliers(points, there).sum() >= 6


def test_too_few_matches_have_no_inliers() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (8, 2)).astype(np.float32)
    assert not epipolar_inliers(points, points).any()
    assert epipolar_inliers(points[:0], points[:0]).shape == (0,)


def example(name: str) -> Sample:
    """The HRGT of an example as the result."""
    folder = EXAMPLES / name
    truth, reference = (open_image(folder / f"{which}.jpg", name=which) for which in ("hrgt", "hrri"))
    masks = (
        open_mask(folder / f"{which}_mask.png", size=picture.size, name=which)
        for which, picture in (("hrgt", truth), ("hrri", reference))
    )
    truth_mask, reference_mask = masks
    return Sample(truth, truth, truth_mask, reference, reference_mask)


@needs_weights
def test_the_object_is_found_again_and_another_is_not() -> None:
    inliers = Inliers()
    camera, mug = example("camera"), example("mug")
    (right,) = inliers(camera).values()
    (wrong,) = inliers(Sample(mug.result, None, mug.truth_mask, camera.reference, camera.reference_mask)).values()
    assert right > 300
    assert wrong < 20
    blurred = Image(cv2.GaussianBlur(camera.result.pixels, (0, 0), 6))
    assert inliers(Sample(blurred, None, camera.truth_mask, camera.reference, camera.reference_mask))["inliers"] < right


@needs_weights
def test_nothing_beside_the_object_is_matched() -> None:
    camera = example("camera")
    assert camera.truth_mask is not None
    corner = np.zeros_like(camera.truth_mask.values)
    corner[:40, :40] = 1
    figures = Inliers()(Sample(camera.result, None, Mask(corner), camera.reference, camera.reference_mask))
    assert figures["inliers"] < 10


@needs_weights
def test_a_thin_picture_has_inliers_too() -> None:
    camera = example("camera")
    thin = Image(np.ascontiguousarray(camera.result.pixels[500:516]))
    assert Inliers()(Sample(thin, reference=camera.reference))["inliers"] >= 0


def test_without_a_reference_there_is_no_figure() -> None:
    assert Inliers()(Sample(Image(np.zeros((32, 32, 3), np.uint8)))) == {}


def test_missing_weights_are_said_with_the_command(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path_factory.mktemp("empty")))
    sentence = "Inliers needs the weights of learned matching: `refgc setup` downloads them."
    assert select(["inliers"]).missing == (sentence,)
    small = Image(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(EngineError, match="`refgc setup` downloads them"):
        Inliers()(Sample(small, reference=small))
