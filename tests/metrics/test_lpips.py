"""LPIPS: convolutions written out, figures of the package lpips, and layers that are not those that were published."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image, Mask
from refgc.metrics import lpips
from refgc.metrics.lpips import NETWORKS, SCALE, SHIFT, Lpips, fetch_convolutions
from refgc.metrics.registry import Backbones, select
from refgc.metrics.sample import Sample
from refgc.wheels import LPIPS_LAYERS, are_kept, fetch_weights, weights_folder

SHAPES = {
    "alex": {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
    "vgg": {0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3)}
    | {14: (256, 256, 3), 17: (512, 256, 3), 19: (512, 512, 3), 21: (512, 512, 3)}
    | dict.fromkeys((24, 26, 28), (512, 512, 3)),
}
# Of `convolutions` and `pictures`, by the package lpips 0.1.4 with torchvision 0.28.0: the distance, and the mean of the
# spatial map over rows 20 to 49 and columns 10 to 39.
KNOWN = {"alex": (0.0087589612, 0.0079446221), "vgg": (0.0133280279, 0.0132839810)}


def random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def convolutions(net: str) -> dict[str, torch.Tensor]:
    """As torchvision names them, with random values."""
    tensors = {}
    for place, (outputs, inputs, side) in SHAPES[net].items():
        weight = random((outputs, inputs, side, side), place) * (2 / (inputs * side * side)) ** 0.5
        tensors[f"features.{place}.weight"] = torch.tensor(weight, dtype=torch.float32)
        tensors[f"features.{place}.bias"] = torch.tensor(random((outputs,), 1000 + place) * 0.1, dtype=torch.float32)
    return tensors


def pictures() -> tuple[Image, Image]:
    generator = np.random.Generator(np.random.PCG64(5))
    truth = generator.integers(0, 256, (72, 80, 3), dtype=np.uint8)
    result = np.clip(truth.astype(int) + generator.integers(-40, 41, truth.shape), 0, 255).astype(np.uint8)
    return Image(result), Image(truth)


def mask() -> Mask:
    values = np.zeros((72, 80), np.float32)
    values[20:50, 10:40] = 1
    return Mask(values)


def keep(tensors: dict[str, torch.Tensor], net: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Writes convolutions as the file that is published for a network, under a name with its digest."""
    torch.save(tensors, folder / "draft")
    digest = hashlib.sha256((folder / "draft").read_bytes()).hexdigest()
    file = (folder / "draft").rename(folder / f"{net}-{digest[:8]}.pth")
    patch.setitem(NETWORKS, net, replace(NETWORKS[net], file=file.name))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the linear layers of LPIPS."""
    if are_kept(LPIPS_LAYERS, weights_folder()):
        return weights_folder()
    folder = tmp_path_factory.mktemp("lpips")
    try:
        fetch_weights(LPIPS_LAYERS, folder)
    except EngineError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture
def folder(tmp_path: Path, published: Path) -> Path:
    for name in LPIPS_LAYERS.members:
        (tmp_path / name).write_bytes((published / name).read_bytes())
    return tmp_path


def linear_layers(folder: Path) -> list[np.ndarray]:
    tensors = torch.load(folder / "lpips-alex.pth", weights_only=True)
    return [tensors[f"lin{number}.model.1.weight"].numpy().ravel() for number in range(5)]


def by_hand(result: np.ndarray, truth: np.ndarray, tensors: dict[str, torch.Tensor], linear: list[np.ndarray]) -> float:
    """LPIPS with AlexNet, in NumPy and float64."""
    total = 0.0
    streams = [((one / 127.5 - 1 - SHIFT) / SCALE).transpose(2, 0, 1) for one in (result, truth)]
    for number, (place, stride, padding) in enumerate(((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))):
        weight = tensors[f"features.{place}.weight"].numpy().astype(np.float64)
        bias = tensors[f"features.{place}.bias"].numpy().astype(np.float64)
        for index, x in enumerate(streams):
            if number in (1, 2):
                x = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
            x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
            windows = sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
            streams[index] = np.maximum(np.tensordot(weight, windows, ([1, 2, 3], [0, 3, 4])) + bias[:, None, None], 0)
        one, other = (x / (np.sqrt((x**2).sum(axis=0)) + 1e-10) for x in streams)
        total += float((((one - other) ** 2) * linear[number][:, None, None]).sum(axis=0).mean())
    return total


def test_the_distance_is_that_of_convolutions_written_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(convolutions("alex"), "alex", folder, monkeypatch)
    result, truth = pictures()
    expected = by_hand(result.pixels, truth.pixels, convolutions("alex"), linear_layers(folder))
    assert Lpips("alex", folder)(Sample(result, truth)) == {"lpips": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_figures_are_those_of_the_package(net: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(convolutions(net), net, folder, monkeypatch)
    result, truth = pictures()
    figures = Lpips(net, folder)(Sample(result, truth, mask()))
    whole, inside = KNOWN[net]
    assert figures["lpips"] == pytest.approx(whole, rel=1e-5)
    assert figures["lpips_inside"] == pytest.approx(inside, rel=1e-5)
    assert figures["lpips_outside"] > 0
    equal = Lpips(net, folder)(Sample(truth, truth, mask()))
    assert equal == {"lpips": 0, "lpips_inside": 0, "lpips_outside": 0}


def test_linear_layers_that_are_not_the_published_ones_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(convolutions("alex"), "alex", folder, monkeypatch)
    tensors = torch.load(folder / "lpips-alex.pth", weights_only=True)
    for name in tensors:
        tensors[name] = torch.rand_like(tensors[name])
    torch.save(tensors, folder / "lpips-alex.pth")
    with pytest.raises(EngineError, match=r"^lpips-alex.pth is not the file of weights that was published for LPIPS;"):
        Lpips("alex", folder)(Sample(*pictures()))


@pytest.mark.parametrize("fault", ["renamed", "negative"])
def test_layers_are_checked_though_the_file_is_taken_for_the_published_one(
    fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing layer is never left as it was initialised."""
    keep(convolutions("alex"), "alex", folder, monkeypatch)
    tensors = torch.load(folder / "lpips-alex.pth", weights_only=True)
    layer = tensors.pop("lin2.model.1.weight")
    tensors["lin2.weight" if fault == "renamed" else "lin2.model.1.weight"] = layer if fault == "renamed" else -layer
    torch.save(tensors, folder / "lpips-alex.pth")
    monkeypatch.setattr(lpips, "damaged_files", lambda *_: [])
    with pytest.raises(EngineError, match=r"^lpips-alex.pth is not the file"):
        Lpips("alex", folder)(Sample(*pictures()))


@pytest.mark.parametrize("fault", ["cut", "without a layer"])
def test_damaged_convolutions_are_refused(fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = convolutions("alex")
    if fault == "without a layer":
        del tensors["features.8.bias"]
    keep(tensors, "alex", folder, monkeypatch)
    file = folder / NETWORKS["alex"].file
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EngineError, match=rf"^{file.name} is not the file of weights that was published for LPIPS;"):
        Lpips("alex", folder)(Sample(*pictures()))


def test_convolutions_are_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    keep({"features.0.bias": torch.zeros(3)}, "alex", source, monkeypatch)
    monkeypatch.setattr(lpips, "ADDRESS", f"{source.as_uri()}/")
    name = NETWORKS["alex"].file
    fetch_convolutions("alex", target)
    assert (target / name).read_bytes() == (source / name).read_bytes()
    (source / name).write_bytes(b"something else")
    fetch_convolutions("alex", target)
    (target / name).unlink()
    with pytest.raises(EngineError, match=rf"{name} cannot be downloaded .*; go online and try again, or put the file"):
        fetch_convolutions("alex", target)
    assert list(target.iterdir()) == []


def test_what_is_missing_is_said_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    assert select(["lpips"]).missing == (
        "LPIPS needs alexnet-owt-7be5be79.pth and lpips-alex.pth: `refgc setup --metrics` downloads what is missing.",
    )
    (sentence,) = select(["lpips"], backbones=Backbones(lpips_net="vgg")).missing
    assert "`refgc setup --metrics --lpips-net vgg`" in sentence
    with pytest.raises(InputError, match=r"^LPIPS has no network 'resnet'; choose from alex, vgg.$"):
        select(["lpips"], backbones=Backbones(lpips_net="resnet"))


def test_the_protocol_names_net_and_version(tmp_path: Path) -> None:
    protocol = Lpips("alex", tmp_path).protocol
    assert "LPIPS 0.1, net alex (alexnet-owt-7be5be79.pth)" in protocol
    assert "lpips==0.1.4" in protocol


def test_a_picture_too_small_for_the_network_is_refused(tmp_path: Path) -> None:
    small = Image(np.zeros((20, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"^The result is 40x20 pixels, and LPIPS needs 32 on each side;"):
        Lpips("alex", tmp_path)(Sample(small, small))
