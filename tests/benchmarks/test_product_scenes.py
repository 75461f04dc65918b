"""The scenes of the renders: the product is as large as asked, in the frame, and wears the print that is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.product_scenes import (
    EXTENT,
    Pose,
    hull_share,
    normalised,
    prints_differ,
    projected,
    scene_view,
    studio_view,
    with_prints_of,
)
from examples.make.products.vase import vase
from examples.make.scene import Material, Part, Parts
from examples.make.shapes import rounded_box

PRINT = np.full((40, 60, 3), 90, np.uint8)


def box(front: np.ndarray) -> list[Part]:
    plain = Material("matte", (200, 180, 160))
    faces = rounded_box(3.0, 1.0, 2.0, 0.05)
    return [Part(mesh, Material("matte", front) if name == "front" else plain) for name, mesh in faces.items()]


def corners(parts: Parts) -> np.ndarray:
    return np.concatenate([part.mesh.vertices for part in parts])


def test_products_stand_or_lie_on_the_ground_in_one_size() -> None:
    for upright in (True, False):
        vertices = corners(normalised(box(PRINT), upright))
        extent = np.ptp(vertices, axis=0)
        assert extent.max() == pytest.approx(EXTENT)
        assert vertices[:, 2].min() == pytest.approx(0)
        assert (extent[2] < extent[1]) == (not upright)


@pytest.mark.parametrize("share", [0.08, 0.2, 0.6])
def test_the_product_is_as_large_as_asked_where_the_frame_holds_it(share: float) -> None:
    for seed in range(4):
        pose = Pose(yaw=30, elevation=5 + 12 * seed, share=share)
        view = studio_view(normalised(vase()), pose, np.random.default_rng(seed))
        assert np.abs(projected(corners(view.product), view.camera)).max() < 1
        made = hull_share(view.product, view.camera)
        assert made == pytest.approx(share, rel=0.1) if share < 0.3 else 0.2 < made < share


def test_an_occluder_stands_between_camera_and_product() -> None:
    pose = Pose(yaw=0, elevation=10, share=0.2)
    without, occluded = (
        scene_view(normalised(vase()), pose, "window", kind, np.random.default_rng(5)) for kind in (None, "cup")
    )
    added = occluded.surroundings[len(without.surroundings) :]
    assert added
    assert corners(added)[:, 1].max() < corners(occluded.product)[:, 1].min()
    # On the frame they overlap.
    cup, product = (projected(corners(parts), occluded.camera) for parts in (added, occluded.product))
    assert (cup.min(axis=0) < product.max(axis=0)).all()
    assert (product.min(axis=0) < cup.max(axis=0)).all()


def test_another_products_print() -> None:
    other = np.zeros((10, 10, 3), np.uint8)
    own = box(PRINT)
    worn = with_prints_of(own, box(other))
    assert prints_differ(own, worn)
    assert not prints_differ(own, box(PRINT))
    assert [part.material.colour is other for part in worn] == [part.material.colour is PRINT for part in own]
    assert all(part.material.colour is other for part in with_prints_of(vase(), box(other)))
