"""A network run in segments and tiles: what it computes, and that tiles leave no seam."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from refgc.request import Surroundings
from refgc.surroundings.ncnn import read_network
from refgc.surroundings.network import kept_bytes, run_network, segments_of, tiles_of
from refgc.surroundings.weights import STEMS, are_weights_here, load_network
from tests.support.ncnn_files import NetworkFiles, compact_network, expected_picture, residual_network
from tests.support.pictures import assert_close, noise

NETWORKS = pytest.mark.parametrize("make", [compact_network, residual_network])
Make = Callable[[], NetworkFiles]


@NETWORKS
def test_the_result_is_what_the_layers_say(tmp_path: Path, make: Make) -> None:
    pixels = noise(13, 18)
    result = run_network(read_network(*make().write(tmp_path)), pixels)
    expected = expected_picture(make(), pixels)
    assert expected.std() > 10
    assert_close(result, expected, 1)


@NETWORKS
def test_tiles_give_what_the_whole_picture_gives(tmp_path: Path, make: Make) -> None:
    layers, pixels = read_network(*make().write(tmp_path)), noise(37, 52)
    whole = run_network(layers, pixels)
    tiled = run_network(layers, pixels, tile_bytes=40_000)
    assert len(list(tiles_of(37, 52, min(segment.tile_pixels for segment in segments_of(layers, 40_000))))) > 3
    assert_close(tiled, whole, 1)


@NETWORKS
def test_a_picture_of_one_row_and_tiles_of_one_pixel(tmp_path: Path, make: Make) -> None:
    layers, pixels = read_network(*make().write(tmp_path)), noise(1, 5)
    assert_close(run_network(layers, pixels, tile_bytes=4), run_network(layers, pixels), 1)


def test_the_number_of_threads_does_not_change_the_bytes(tmp_path: Path) -> None:
    layers, pixels = read_network(*residual_network().write(tmp_path)), noise(40, 60)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = run_network(layers, pixels)
    finally:
        cv2.setNumThreads(threads)
    assert alone.tobytes() == run_network(layers, pixels).tobytes()


def test_it_is_cut_after_the_residual_blocks(tmp_path: Path) -> None:
    compact = segments_of(read_network(*compact_network().write(tmp_path)))
    residual = segments_of(read_network(*residual_network().write(tmp_path)))
    assert [segment.radius for segment in compact] == [2]
    assert [segment.radius for segment in residual] == [3, 2, 1]
    assert [[layer.output for layer in segment.outputs] for segment in residual] == [
        ["head", "p3"],
        ["joined"],
        ["output"],
    ]
    assert kept_bytes(read_network(*residual_network().write(tmp_path))) == 4 * 4 * 3


def test_progress_grows_to_the_end(tmp_path: Path) -> None:
    told: list[float] = []
    run_network(read_network(*residual_network().write(tmp_path)), noise(30, 30), told.append, tile_bytes=20_000)
    assert all(earlier < later for earlier, later in itertools.pairwise(told))
    assert len(told) > 3
    assert told[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("height", "width", "pixels"), [(10, 10, 1000), (37, 52, 100), (3, 400, 64), (400, 3, 64)])
def test_tiles_cover_every_pixel_once(height: int, width: int, pixels: int) -> None:
    covered = np.zeros((height, width), int)
    for rows, columns in tiles_of(height, width, pixels):
        covered[rows, columns] += 1
        assert (rows.stop - rows.start) * (columns.stop - columns.start) <= pixels
    assert (covered == 1).all()


@pytest.mark.parametrize("method", list(STEMS))
def test_the_published_networks_enlarge_and_tile_without_seams(method: Surroundings) -> None:
    if not are_weights_here(method):
        pytest.skip("the weights of Real-ESRGAN are not on this machine; run `refgc setup --surroundings`")
    layers = load_network(method)
    y, x = np.mgrid[:20, :24]
    pixels = np.dstack([128 + 90 * np.sin(x / (7.0 + c)) * np.cos(y / 8.0) for c in range(3)]).astype(np.uint8)
    whole = run_network(layers, pixels)
    assert_close(run_network(layers, pixels, tile_bytes=120_000), whole, 1)
    back = cv2.resize(whole, (24, 20), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - pixels).mean() < 6
