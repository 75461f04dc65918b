"""Masks that fit and mean what people draw; pictures saved whole, the same bytes every time."""

from __future__ import annotations

import dataclasses
import stat

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PILImage

from refgc.imaging.image import Image, Mask, open_image, open_mask, save_image, to_pil
from refgc.imaging.profiles import icc_profile
from refgc.request import make_request
from tests.support.pictures import (
    DISPLAY_P3,
    assert_close,
    encoded,
    gamma_profile,
    names_in,
    noise,
    png,
    quadrants,
    refusal,
)

SIZE = (64, 48)


def drawn() -> np.ndarray:
    """A soft-edged mask, (48, 64) uint8."""
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 16:48] = 128
    mask[12:36, 20:44] = 255
    return mask


def read(picture: PILImage.Image, tmp_path, kind: str = "PNG", **options: object) -> np.ndarray:
    path = tmp_path / "mask"
    path.write_bytes(encoded(picture, kind, **options))
    return open_mask(path, size=SIZE, name="reference mask").values


# --- the types ------------------------------------------------------------------------------------------------------


def test_a_picture_cannot_be_changed_once_it_is_one():
    mask = Mask(np.ones((48, 64), np.float32))
    image = Image(noise(48, 64), mask)
    assert image.size == mask.size == SIZE
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 0
    with pytest.raises(ValueError, match="read-only"):
        mask.values[0, 0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.alpha = None  # type: ignore[misc]


def test_to_pil_gives_a_picture_of_its_own():
    image = Image(noise(48, 64))
    picture = to_pil(image)
    assert (picture.mode, picture.size) == ("RGB", SIZE)
    np.testing.assert_array_equal(np.asarray(picture), image.pixels)
    picture.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(image.pixels, noise(48, 64))


# --- masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK"])
def test_a_grey_mask_in_any_mode_stays_soft(mode, tmp_path):
    values = read(PILImage.fromarray(drawn()).convert(mode), tmp_path, "TIFF")
    np.testing.assert_array_equal(values, drawn() / np.float32(255))
    assert values.dtype == np.float32


def test_a_one_bit_mask(tmp_path):
    values = read(PILImage.fromarray(drawn() // 128 * 255).convert("1"), tmp_path)
    np.testing.assert_array_equal(values, drawn() >= 128)


def test_a_palette_mask(tmp_path):
    """Labels in colours, as segmentation data sets store them."""
    labels = PILImage.fromarray((drawn() == 255).astype(np.uint8)).convert("P")
    labels.putpalette([0, 0, 0, 128, 0, 0])
    values = read(labels, tmp_path)
    np.testing.assert_array_equal(values >= 0.5, drawn() == 255)


def test_a_sixteen_bit_mask(tmp_path):
    levels = drawn().astype(np.uint16) * 257
    np.testing.assert_allclose(read(PILImage.fromarray(levels), tmp_path), drawn() / 255, atol=1e-6)


def test_any_bright_colour_marks(tmp_path):
    painted = np.zeros((48, 64, 3), np.uint8)
    painted[10:20, 10:20] = (0, 0, 255)
    painted[20:30, 10:20] = (255, 0, 0)
    values = read(PILImage.fromarray(painted), tmp_path)
    np.testing.assert_array_equal(values, painted.max(axis=2) / 255)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_only_transparency_tells_the_object(colour, tmp_path):
    picture = np.empty((48, 64, 4), np.uint8)
    picture[..., :3] = colour
    picture[..., 3] = drawn()
    np.testing.assert_array_equal(read(PILImage.fromarray(picture), tmp_path), drawn() / np.float32(255))
    # A brush layer: what is fully transparent has lost its colour.
    picture[picture[..., 3] == 0] = 0
    np.testing.assert_array_equal(read(PILImage.fromarray(picture), tmp_path), drawn() / np.float32(255))
    np.testing.assert_array_equal(
        open_mask(picture, size=SIZE, name="reference mask").values, drawn() / np.float32(255)
    )


def test_brightness_counts_where_transparency_says_nothing(tmp_path):
    for opacity in (255, 100):
        picture = np.dstack([drawn(), drawn(), drawn(), np.full((48, 64), opacity, np.uint8)])
        np.testing.assert_array_equal(read(PILImage.fromarray(picture), tmp_path), drawn() / np.float32(255))


def test_where_both_vary_the_mask_is_seen_over_black(tmp_path):
    opacity = np.full((48, 64), 255, np.uint8)
    opacity[:, 32:] = 0
    picture = np.dstack([drawn(), drawn(), drawn(), opacity])
    values = read(PILImage.fromarray(picture), tmp_path)
    np.testing.assert_array_equal(values[:, :32], drawn()[:, :32] / np.float32(255))
    assert values[:, 32:].max() == 0


def test_a_mask_is_no_colour(tmp_path):
    values = read(PILImage.fromarray(drawn()).convert("RGB"), tmp_path, icc_profile=gamma_profile(DISPLAY_P3, 1))
    np.testing.assert_array_equal(values, drawn() / np.float32(255))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32, np.float64])
def test_labels_of_nought_and_one(dtype):
    labels = (drawn() == 255).astype(dtype)
    for array in (labels, labels[..., np.newaxis], np.repeat(labels[..., np.newaxis], 3, axis=2)):
        values = open_mask(array, size=SIZE, name="reference mask").values
        np.testing.assert_array_equal(values, drawn() == 255)


def test_labels_of_nought_and_one_in_a_file(tmp_path):
    np.testing.assert_array_equal(read(PILImage.fromarray((drawn() == 255).astype(np.uint8)), tmp_path), drawn() == 255)


def test_float_masks_keep_every_value():
    soft = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    np.testing.assert_array_equal(open_mask(soft, size=SIZE, name="reference mask").values, soft)


def test_a_full_mask_is_allowed(tmp_path):
    assert read(PILImage.new("L", SIZE, 255), tmp_path).min() == 1


@pytest.mark.parametrize(
    ("mode", "level"), [("L", 0), ("L", 20), ("L", 127), ("RGB", 0), ("RGB", 20), ("1", 0), ("P", 0), ("P", 20)]
)
def test_a_mask_that_marks_nothing(mode, level, tmp_path):
    picture = PILImage.new("L", SIZE, level).convert(mode)
    sentence = refusal(lambda: read(picture, tmp_path))
    assert sentence == "The reference mask marks nothing; paint the object white and everything else black."


def test_an_empty_brush_layer_marks_nothing(tmp_path):
    assert "marks nothing" in refusal(lambda: read(PILImage.new("RGBA", SIZE), tmp_path))


@pytest.mark.parametrize("size", [(128, 96), (256, 192), (65, 48), (130, 96), (126, 96)])
def test_a_mask_of_the_same_aspect_ratio_is_resized(size):
    picture = PILImage.fromarray(drawn()).resize(size, PILImage.Resampling.BILINEAR)
    values = open_mask(picture, size=SIZE, name="reference mask").values
    assert values.shape == (48, 64)
    assert np.abs(values - drawn() / 255).mean() < 0.02
    assert np.abs(values - drawn() / 255)[16:32, 24:40].max() < 0.02


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (67, 48), (128, 90)])
def test_a_mask_of_another_size_is_refused(size, tmp_path):
    sentence = refusal(lambda: read(PILImage.new("L", size, 255), tmp_path))
    assert sentence == (
        f"The reference mask is {size[0]}x{size[1]} pixels and its picture 64x48; give a mask of the same size."
    )


def test_a_mark_that_vanishes_when_resized(tmp_path):
    speck = np.zeros((480, 640), np.uint8)
    speck[100, 100] = 255
    assert "marks nothing" in refusal(lambda: read(PILImage.fromarray(speck), tmp_path))


def test_a_nonsensical_note_of_transparency():
    picture = PILImage.fromarray(drawn())
    picture.info["transparency"] = "x"
    assert "damaged" in refusal(lambda: open_mask(picture, size=SIZE, name="reference mask"))


# --- saving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".jpeg", ".webp", ".Webp"])
def test_saved_pictures_open_again(suffix, tmp_path):
    smooth = np.array(PILImage.fromarray(noise(6, 8)).resize(SIZE, PILImage.Resampling.BICUBIC))
    path = tmp_path / f"result{suffix}"
    save_image(Image(smooth), path)
    assert names_in(tmp_path) == [path.name]
    assert_close(
        open_image(path, name="reference").pixels,
        smooth,
        {".png": 0, ".jpg": 20, ".jpeg": 20, ".webp": 30}[suffix.lower()],
    )


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(16, 60), st.integers(16, 60), st.just(3))))
def test_png_loses_nothing(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("png") / "result.png"
    save_image(Image(pixels), path)
    np.testing.assert_array_equal(open_image(path, name="reference").pixels, pixels)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_the_same_picture_gives_the_same_bytes(suffix, tmp_path):
    contents = []
    for number in range(2):
        path = tmp_path / f"{number}.{suffix}"
        save_image(Image(noise(48, 64)), path, text={"Software": "RefGC-SR2"})
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_texts_are_kept_in_png(tmp_path):
    texts = {"Software": "RefGC-SR2 0.1.0", "RefGC-SR2": '{"object": "théière 茶壺"}', "Comment": "x" * 5000}
    path = tmp_path / "result.png"
    save_image(Image(noise(48, 64)), path, text=texts)
    with PILImage.open(path) as picture:
        assert {keyword: picture.info[keyword] for keyword in texts} == texts
    save_image(Image(noise(48, 64)), tmp_path / "result.jpg", text=texts)
    np.testing.assert_array_equal(open_image(path, name="reference").pixels, noise(48, 64))


def test_transparency_is_saved_and_looks_the_same_on_any_ground(tmp_path):
    given_levels = np.dstack([noise(48, 64), drawn()])
    (tmp_path / "cut out.png").write_bytes(png(given_levels, 8, 6))
    image = open_image(tmp_path / "cut out.png", name="reference")
    save_image(image, tmp_path / "result.png")
    save_image(image, tmp_path / "result.webp", quality=100)
    with PILImage.open(tmp_path / "result.png") as picture:
        saved = np.asarray(picture)
    np.testing.assert_array_equal(saved[..., 3], drawn())
    for ground in (0, 90, 255):
        on_ground = [
            levels[..., :3] * (levels[..., 3:] / 255) + ground * (1 - levels[..., 3:] / 255)
            for levels in (saved.astype(float), given_levels.astype(float))
        ]
        assert np.abs(on_ground[0] - on_ground[1]).max() <= 1.01
    again = open_image(tmp_path / "result.png", name="reference")
    assert_close(again.pixels, image.pixels, 1)
    with PILImage.open(tmp_path / "result.webp") as picture:
        assert picture.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(picture)[..., 3], drawn())


def test_a_jpeg_shows_a_transparent_picture_on_white(tmp_path):
    image = open_image(np.dstack([np.full((48, 64, 3), 60, np.uint8), drawn()]), name="reference")
    save_image(image, tmp_path / "result.jpg")
    shown = open_image(tmp_path / "result.jpg", name="reference")
    assert shown.alpha is None
    assert_close(shown.pixels[:4], image.pixels[:4], 3)
    assert shown.pixels[0, 0].min() >= 252


def test_hidden_pixels_beside_an_edge_have_its_colour(tmp_path):
    """Programs that interpolate without regard to the transparency show no rim."""
    cut_out = np.zeros((48, 64, 4), np.uint8)
    cut_out[10:38, 10:54] = (20, 90, 160, 255)
    save_image(open_image(cut_out, name="reference"), tmp_path / "result.png")
    with PILImage.open(tmp_path / "result.png") as picture:
        saved = np.asarray(picture)
    np.testing.assert_array_equal(saved[..., 3], cut_out[..., 3])
    assert_close(saved[9:39, 9:55, :3], np.broadcast_to(cut_out[20, 20, :3], (30, 46, 3)), 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("profile", ["srgb", "display-p3"])
def test_every_file_carries_its_profile(suffix, profile, tmp_path):
    save_image(Image(quadrants()), tmp_path / f"result.{suffix}", profile=profile)
    with PILImage.open(tmp_path / f"result.{suffix}") as picture:
        assert picture.info["icc_profile"] == icc_profile(profile)
    shown = open_image(tmp_path / f"result.{suffix}", name="reference").pixels
    for row, column in ((10, 10), (10, 50), (40, 10), (40, 50)):
        assert_close(shown[row, column], quadrants()[row, column], 5 if suffix == "webp" else 3)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_quality(suffix, tmp_path):
    sizes = []
    for quality in (1, 40, 95, 100):
        save_image(Image(noise(48, 64)), tmp_path / f"{quality}.{suffix}", quality=quality)
        sizes.append((tmp_path / f"{quality}.{suffix}").stat().st_size)
    assert sizes == sorted(set(sizes))
    save_image(Image(noise(48, 64)), tmp_path / f"result.{suffix}")
    assert (tmp_path / f"result.{suffix}").read_bytes() == (tmp_path / f"95.{suffix}").read_bytes()


@pytest.mark.parametrize("profile", ["srgb", "display-p3"])
def test_sixteen_bits_keep_every_level(profile, tmp_path):
    deep = noise(48, 64, dtype=np.uint16)
    image = Image((deep // 257).astype(np.uint8), Mask((drawn() / 255).astype(np.float32)), deep)
    opaque = Image(image.pixels, None, deep)
    texts = {"Software": "RefGC-SR2", "Comment": "théière 茶壺"}
    save_image(opaque, tmp_path / "result.png", text=texts, profile=profile)
    with PILImage.open(tmp_path / "result.png") as picture:
        assert {keyword: picture.info[keyword] for keyword in texts} == texts
        assert picture.info["icc_profile"] == icc_profile(profile)
    levels = cv2.imread(str(tmp_path / "result.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert levels.dtype == np.uint16
    if profile == "srgb":
        np.testing.assert_array_equal(levels, deep)
    else:
        assert len(np.unique(levels % 257)) == 257
    save_image(image, tmp_path / "clear.png")
    clear = cv2.imread(str(tmp_path / "clear.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(clear[..., 3], drawn().astype(np.uint16) * 257)
    inside = drawn() == 255
    np.testing.assert_array_equal(clear[..., 2::-1][inside], deep[inside])


def test_bits_that_were_not_asked_for(tmp_path):
    image = Image(noise(48, 64), None, noise(48, 64, dtype=np.uint16))
    save_image(image, tmp_path / "eight.png", bits=8)
    np.testing.assert_array_equal(open_image(tmp_path / "eight.png", name="reference").pixels, image.pixels)
    save_image(image, tmp_path / "eight.jpg")
    save_image(Image(noise(48, 64)), tmp_path / "wide.png", bits=16)
    levels = cv2.imread(str(tmp_path / "wide.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(levels, noise(48, 64).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("file", "options", "part"),
    [
        ("a.jpg", {"quality": 0}, "from 1 to 100"),
        ("a.webp", {"quality": 101}, "from 1 to 100"),
        ("a.jpg", {"quality": 9.5}, "whole number"),
        ("a.jpg", {"quality": True}, "whole number"),
        ("a.png", {"quality": 90}, "has no quality"),
        ("a.png", {"bits": 12}, "choose 8 or 16"),
        ("a.jpg", {"bits": 16}, "end it in .png"),
        ("a.webp", {"bits": 16}, "end it in .png"),
        ("a.png", {"profile": "adobe"}, "srgb or display-p3"),
    ],
)
def test_options_that_cannot_be_used(file, options, part, tmp_path):
    assert part in refusal(lambda: save_image(Image(noise(48, 64)), tmp_path / file, **options))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("file", ["result", "result.bmp", "result.gif", ".png", "result.png.txt"])
def test_suffixes_that_cannot_be_written(file, tmp_path):
    sentence = refusal(lambda: save_image(Image(noise(48, 64)), tmp_path / file))
    assert "end it in .png, .jpg, .jpeg or .webp" in sentence
    assert names_in(tmp_path) == []


def test_a_side_too_long_for_webp(tmp_path):
    image = Image(np.zeros((16, 16_384, 3), np.uint8))
    assert "WebP's limit; end it in .png" in refusal(lambda: save_image(image, tmp_path / "result.webp"))
    save_image(image, tmp_path / "result.jpg")
    assert names_in(tmp_path) == ["result.jpg"]


def test_a_saved_picture_has_the_permissions_of_a_new_file(tmp_path):
    save_image(Image(noise(48, 64)), tmp_path / "result.png")
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("result.png", "plain")]
    assert modes[0] == modes[1]


def test_what_is_opened_already_is_taken_as_it_is(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(PILImage.fromarray(noise(48, 64)), "PNG"))
    image = open_image(path, name="reference")
    mask = open_mask(path, size=(64, 48), name="mask")
    assert open_image(image, name="reference") is image
    assert open_mask(mask, size=(64, 48), name="mask") is mask
    assert open_mask(mask, size=(32, 24), name="mask").size == (32, 24)
    assert "give a mask of the same size" in refusal(lambda: open_mask(mask, size=(64, 64), name="mask"))
    other = Image(255 - image.pixels)
    request = make_request(image, other, scale=1, reference_mask=mask, generated_mask=mask)
    assert (request.reference, request.generated) == (image, other)
    assert request.reference_mask is request.generated_mask is mask
