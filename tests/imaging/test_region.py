"""The part of the picture that is worked on."""

from __future__ import annotations

import cv2
import numpy as np

from refgc.imaging.region import Region


def test_the_view_of_a_picture_is_a_view_at_every_scale():
    region = Region(10, 20, 40, 30)
    picture = np.zeros((200, 200, 3), np.uint8)
    region.of(picture, 2)[:] = 1
    assert region.size == (30, 10)
    assert region.of(picture).shape == (10, 30, 3)
    assert picture[40:60, 20:80].all()
    assert picture.sum() == 20 * 60 * 3


def test_coordinates_go_from_the_region_to_the_frame():
    corner = cv2.perspectiveTransform(np.array([[[0, 0]], [[3, 4]]], np.float32), Region(10, 20, 40, 30).to_picture())
    assert corner[:, 0].tolist() == [[10, 20], [13, 24]]
