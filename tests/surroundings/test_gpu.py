"""The networks through torch: the same picture as through OpenCV, and used only where a GPU is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from refgc import machine
from refgc.surroundings import gpu
from refgc.surroundings.gpu import compiled_by_torch, find_compiler
from refgc.surroundings.ncnn import read_network
from refgc.surroundings.network import run_network
from tests.support.ncnn_files import NetworkFiles, compact_network, residual_network
from tests.support.pictures import assert_close, noise


@pytest.mark.parametrize("make", [compact_network, residual_network])
def test_torch_draws_what_opencv_draws(tmp_path: Path, make: Callable[[], NetworkFiles]) -> None:
    layers, pixels = read_network(*make().write(tmp_path)), noise(37, 52)
    expected = run_network(layers, pixels)
    assert expected.std() > 10
    compiler = partial(compiled_by_torch, device="cpu")
    assert_close(run_network(layers, pixels, compiler=compiler), expected, 1)
    assert_close(run_network(layers, pixels, tile_bytes=40_000, compiler=compiler), expected, 1)


def test_where_the_memory_is_full_the_processor_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, pixels = read_network(*compact_network().write(tmp_path)), noise(20, 30)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(gpu, "_result", full)
    drawn = run_network(layers, pixels, compiler=partial(compiled_by_torch, device="cpu"))
    assert drawn.tobytes() == run_network(layers, pixels).tobytes()


def test_torch_is_used_only_where_a_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFGC_DEVICE", raising=False)
    monkeypatch.setattr(gpu, "missing_cuda", str)
    monkeypatch.setattr(gpu, "find_gpus", list)
    assert find_compiler() is None
    monkeypatch.setattr(gpu, "find_gpus", lambda: [machine.Gpu(name="a GPU", memory_gib=8, driver="1")])
    assert find_compiler() is not None
    monkeypatch.setattr(gpu, "missing_cuda", lambda: "This torch was built without CUDA.")
    assert find_compiler() is None
    monkeypatch.setattr(gpu, "missing_cuda", str)
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert find_compiler() is None
    monkeypatch.delenv("SPACES_ZERO_GPU")
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    assert find_compiler() is None
