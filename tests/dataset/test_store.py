"""The pictures of a dataset: named by their content, and refused when that changed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from refgc.dataset.store import check_file, load_image, load_mask, store_image, store_mask
from refgc.errors import InputError
from refgc.imaging.image import Image, Mask
from tests.support.tiny_dataset import disc, drawn


def test_pictures_come_back_without_loss(tmp_path):
    image = drawn(1)
    file = store_image(tmp_path, image)
    assert (file.width, file.height) == image.size
    assert file.path == f"files/{file.sha256[:2]}/{file.sha256}.png"
    np.testing.assert_array_equal(load_image(tmp_path, file).pixels, image.pixels)


def test_masks_come_back_within_a_level(tmp_path):
    soft = Mask(np.linspace(0, 1, 48 * 32, dtype=np.float32).reshape(32, 48))
    file = store_mask(tmp_path, soft)
    assert (file.width, file.height) == (48, 32)
    np.testing.assert_allclose(load_mask(tmp_path, file).values, soft.values, atol=0.5 / 255 + 1e-6)


def test_the_same_picture_is_kept_once(tmp_path):
    one = store_image(tmp_path, drawn(1))
    (tmp_path / one.path).touch()
    written = (tmp_path / one.path).stat().st_ino
    assert store_image(tmp_path, drawn(1)) == one
    assert (tmp_path / one.path).stat().st_ino == written
    assert store_image(tmp_path, drawn(2)) != one
    assert len(list((tmp_path / "files").rglob("*.png"))) == 2


def test_a_missing_picture_is_told(tmp_path):
    file = store_image(tmp_path, drawn(1))
    (tmp_path / file.path).unlink()
    for look in (check_file, load_image, load_mask):
        with pytest.raises(InputError, match="cannot be read"):
            look(tmp_path, file)


@pytest.mark.parametrize("cut", [0, 40, -1])
def test_a_changed_picture_is_told(tmp_path, cut):
    file = store_image(tmp_path, drawn(1))
    path = tmp_path / file.path
    path.write_bytes(path.read_bytes()[:cut])
    for look in (check_file, load_image, load_mask):
        with pytest.raises(InputError, match="is damaged"):
            look(tmp_path, file)


def test_a_picture_of_another_size_than_its_row_says_is_told(tmp_path):
    file = store_image(tmp_path, drawn(1))
    with pytest.raises(InputError, match=r"64x64 pixels, and its row says 65x64"):
        load_image(tmp_path, file.model_copy(update={"width": 65}))


def test_an_empty_mask_is_told(tmp_path):
    file = store_mask(tmp_path, Mask(np.zeros((32, 32), np.float32)))
    with pytest.raises(InputError, match="marks nothing"):
        load_mask(tmp_path, file)


def test_a_file_that_is_no_picture_is_told(tmp_path):
    text = b"no picture"
    digest = hashlib.sha256(text).hexdigest()
    file = store_mask(tmp_path, disc()).model_copy(update={"path": "files/text.png", "sha256": digest})
    (tmp_path / "files" / "text.png").write_bytes(text)
    with pytest.raises(InputError, match=r"text\.png"):
        load_image(tmp_path, file)


def test_a_picture_with_transparency_keeps_its_name_by_content(tmp_path):
    alpha = Mask(np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1)))
    clear = store_image(tmp_path, Image(drawn(3, 32).pixels, alpha))
    assert clear.sha256 != store_image(tmp_path, drawn(3, 32)).sha256
