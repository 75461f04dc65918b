"""A mask drawn over its picture."""

from __future__ import annotations

import numpy as np

from refgc.imaging.draw import overlay_mask
from refgc.imaging.image import Image, Mask

RED = (200, 40, 30)


def drawn() -> tuple[Image, Image]:
    image = Image(np.full((200, 300, 3), RED, np.uint8))
    values = np.zeros((200, 300), np.float32)
    values[50:150, 100:200] = 1
    return image, overlay_mask(image, Mask(values))


def test_the_object_stays_as_it_is():
    image, shown = drawn()
    assert np.array_equal(shown.pixels[56:144, 106:194], image.pixels[56:144, 106:194])


def test_all_else_is_dark_and_grey():
    _, shown = drawn()
    for surroundings in (shown.pixels[:44], shown.pixels[:, :94]):
        assert np.ptp(surroundings, axis=2).max() == 0
        assert surroundings.max() < 60


def test_a_line_runs_between_them():
    image, shown = drawn()
    edge = shown.pixels[100, 97:104].astype(int)
    assert (edge[:, 1] - edge[:, 0] > 50).any()
    assert not np.array_equal(edge, image.pixels[100, 97:104])


def test_the_picture_itself_is_not_drawn_on():
    image, shown = drawn()
    assert (image.pixels == RED).all()
    assert shown.size == image.size


def test_a_soft_edge_fades():
    image = Image(np.full((60, 400, 3), 200, np.uint8))
    ramp = np.repeat(np.linspace(0, 1, 400, dtype=np.float32)[None], 60, axis=0)
    row = overlay_mask(image, Mask(ramp)).pixels[30, :, 0].astype(int)
    assert row[5] < row[100] < row[180] < row[300] < row[395]
