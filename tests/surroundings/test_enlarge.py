"""Drawn surroundings: the colours they keep, where they give way, how scales agree, what is said without weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from refgc.errors import EngineError
from refgc.imaging.arrays import Bytes
from refgc.imaging.upscale import clean_upscale, deep_upscale
from refgc.surroundings import enlarge
from refgc.surroundings.enlarge import (
    draw_surroundings,
    enlarge_surroundings,
    mix_with_object,
    object_alpha,
    texture_weight,
)
from refgc.surroundings.ncnn import Layer, read_network
from refgc.surroundings.weights import check_weights, load_network
from tests.support.ncnn_files import compact_network, residual_network, write_weights
from tests.support.pictures import refusal


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Layer, ...]:
    return read_network(*compact_network(size=0.05).write(tmp_path))


def textured(height: int, width: int) -> Bytes:
    """Waves of strong contrast."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 70 * np.sin(x / (2.0 + c) + c) * np.cos(y / (2.5 + c)) for c in range(3)]
    return np.dstack(waves).astype(np.uint8)


def drawn(pixels: Bytes, layers: tuple[Layer, ...], scale: int) -> Bytes:
    height, width = pixels.shape[:2]
    return enlarge_surroundings(pixels, clean_upscale(pixels, (width * scale, height * scale)), layers)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_colours_of_the_picture_stay(layers: tuple[Layer, ...], scale: int) -> None:
    pixels = textured(30, 41)
    result = drawn(pixels, layers, scale)
    assert result.shape == (30 * scale, 41 * scale, 3)
    assert np.abs(result.astype(int) - clean_upscale(pixels, (41 * scale, 30 * scale))).mean() > 2
    back = cv2.resize(result, (41, 30), interpolation=cv2.INTER_AREA)[2:-2, 2:-2]
    assert np.abs(back.astype(int) - pixels[2:-2, 2:-2]).mean() < 2.0


def test_the_scales_of_one_picture_agree(layers: tuple[Layer, ...]) -> None:
    pixels = textured(30, 41)
    large = drawn(pixels, layers, 4)
    for scale in (2, 3):
        shrunk = cv2.resize(large, (41 * scale, 30 * scale), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(shrunk - drawn(pixels, layers, scale)).mean() < 1.5
        assert np.abs(shrunk - clean_upscale(pixels, (41 * scale, 30 * scale))).mean() > 2.5
    assert drawn(pixels, layers, 1) is pixels


def test_where_there_is_no_texture_nothing_is_drawn(layers: tuple[Layer, ...]) -> None:
    pixels = textured(40, 80)
    pixels[:, :40] = np.linspace(100, 130, 40, dtype=np.uint8)[None, :, None]
    plain = clean_upscale(pixels, (320, 160))
    result = enlarge_surroundings(pixels, plain, layers)
    np.testing.assert_array_equal(result[:, : 4 * 32], plain[:, : 4 * 32])
    assert np.abs(result[:, 4 * 48 :].astype(int) - plain[:, 4 * 48 :]).mean() > 3
    weight = texture_weight(pixels)
    assert (weight[:, :32] == 0).all()
    assert (weight[:, 48:] > 0.5).mean() > 0.8
    assert np.abs(np.diff(weight, axis=1)).max() < 0.5


def test_strips_and_bands_are_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = read_network(*residual_network().write(tmp_path))
    pixels = textured(150, 24)
    whole = drawn(pixels, layers, 4)
    monkeypatch.setattr(enlarge, "STRIP", 20)
    np.testing.assert_array_equal(drawn(pixels, layers, 4), whole)
    monkeypatch.setattr(enlarge, "BAND_BYTES", 1)
    monkeypatch.setattr(enlarge, "FADE", 16)
    told: list[float] = []
    banded = enlarge_surroundings(pixels, clean_upscale(pixels, (96, 600)), layers, told.append)
    assert told == sorted(told)
    assert sum(share == pytest.approx(1 / 3) for share in told) > 0
    # A row fades from one band into the next, and is rounded once more there.
    assert np.abs(banded.astype(int) - whole).max() <= 2


def test_sixteen_bits_are_those_before_rounding(layers: tuple[Layer, ...]) -> None:
    pixels, size = textured(30, 41), (164, 120)
    deep = enlarge_surroundings(pixels, deep_upscale(pixels, size), layers)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - drawn(pixels, layers, 4)).max() < 1.01
    assert len(np.unique(deep % 257)) > 200


def test_plain_needs_no_weights_and_is_left_as_it_is(tmp_path: Path) -> None:
    pixels = textured(20, 20)
    plain = clean_upscale(pixels, (80, 80))
    assert draw_surroundings(pixels, plain, "plain", tmp_path / "nowhere") is plain


def test_missing_and_damaged_weights_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="run `refgc setup --surroundings`"):
        load_network("best", tmp_path)
    write_weights(tmp_path)
    file = next(tmp_path.glob("*x4plus*.bin"))
    file.write_bytes(file.read_bytes()[:-10])
    assert "run `refgc setup --surroundings`" in refusal(lambda: load_network("best", tmp_path))
    assert load_network("fast", tmp_path) is load_network("fast", tmp_path)


def test_an_opencv_that_runs_no_networks_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(tmp_path)
    check_weights("fast", tmp_path)
    monkeypatch.delattr(cv2, "dnn")
    with pytest.raises(EngineError, match="install opencv-python-headless"):
        check_weights("fast", tmp_path)
    check_weights("plain", tmp_path)


def test_the_object_is_mixed_in_by_its_alpha() -> None:
    surroundings, refined = np.full((60, 80, 3), 40, np.uint8), np.full((60, 80, 3), 200, np.uint8)
    area = np.zeros((60, 80), np.float32)
    area[20:40, 30:50] = 1
    alpha = object_alpha(area, 6.0)
    mixed = mix_with_object(surroundings, refined, alpha)
    assert (mixed[20:40, 30:50] == 200).all()
    assert (mixed[:8] == 40).all()
    assert (mixed[:, :18] == 40).all()
    assert np.abs(np.diff(mixed.astype(int), axis=0)).max() < 80
    assert ((mixed > 60) & (mixed < 180)).any()
    half = mix_with_object(surroundings, refined, np.full((3, 4), 0.5, np.float32))
    assert (half == 120).all()
