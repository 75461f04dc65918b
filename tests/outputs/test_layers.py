"""Results as layers: read back with other programs' eyes, and put together by the rules of each format."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from psd_tools import PSDImage
from psd_tools.psd import PSD

from refgc import refine
from refgc.engine import RefineResult
from refgc.errors import InputError
from refgc.imaging.encode import FileOptions
from refgc.imaging.image import Image, Mask
from refgc.imaging.profiles import ProfileName, from_srgb, icc_profile
from refgc.outputs import layer_files
from refgc.outputs.layer_files import check_layers, layers_bytes
from refgc.outputs.layers import layers_of
from refgc.outputs.result import Destination, check_destination, write_result
from tests.support.command import run_inside
from tests.support.pictures import noise
from tests.support.reports import make_report
from tests.support.synthetic import SyntheticPair

SIDE = 48
Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A layer as a reader sees it: RGB and alpha in [0, 1] on the whole picture, and whether it is drawn atop."""

    name: str
    colour: Pixels
    alpha: Pixels
    atop: bool


def composed(layers: list[Drawn]) -> tuple[Pixels, Pixels]:
    """Porter and Duff's "over", and "atop" where a layer says so, from below; colours not multiplied by the alpha."""
    colour, alpha = layers[0].colour, layers[0].alpha
    for layer in layers[1:]:
        own = layer.alpha[..., None]
        if layer.atop:
            colour = layer.colour * own + colour * (1 - own)
            continue
        total = layer.alpha + alpha * (1 - layer.alpha)
        mixed = layer.colour * own + colour * (alpha * (1 - layer.alpha))[..., None]
        colour, alpha = np.where(total[..., None] > 0, mixed / np.maximum(total, 1e-9)[..., None], 0), total
    return colour, alpha


def on_canvas(name: str, pixels: Pixels, left: int, top: int, size: tuple[int, int], atop: bool) -> Drawn:
    """A layer of RGBA on a picture of `size`, invisible elsewhere."""
    canvas = np.zeros((size[1], size[0], 4))
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return Drawn(name, canvas[..., :3], canvas[..., 3], atop)


def png(content: bytes) -> tuple[Pixels, int]:
    """A PNG by OpenCV: RGBA in [0, 1], and the bits of each channel."""
    levels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    top = np.iinfo(levels.dtype).max
    if levels.shape[2] == 3:
        levels = np.dstack([levels, np.full(levels.shape[:2], top, levels.dtype)])
    return levels[..., [2, 1, 0, 3]] / top, 8 * levels.dtype.itemsize


def read_ora(content: bytes) -> tuple[list[Drawn], Pixels, int]:
    """The layers of an OpenRaster file from below, its merged picture, and the bits of each channel."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.read("mimetype") == b"image/openraster"
        image = ET.fromstring(archive.read("stack.xml"))
        size = int(image.attrib["w"]), int(image.attrib["h"])
        layers, depths = [], set()
        for layer in reversed(image.findall("stack/layer")):
            assert (layer.attrib["opacity"], layer.attrib["visibility"]) == ("1.0", "visible")
            pixels, bits = png(archive.read(layer.attrib["src"]))
            depths.add(bits)
            atop = {"svg:src-over": False, "svg:src-atop": True}[layer.attrib["composite-op"]]
            layers.append(
                on_canvas(layer.attrib["name"], pixels, int(layer.attrib["x"]), int(layer.attrib["y"]), size, atop)
            )
        merged, bits = png(archive.read("mergedimage.png"))
        assert depths == {bits}
        files = {f"data/layer{number}.png" for number in range(len(layers))}
        assert {*files, "mergedimage.png", "Thumbnails/thumbnail.png", "mimetype", "stack.xml"} == set(
            archive.namelist()
        )
        return layers, merged, bits


def read_psd(content: bytes) -> tuple[list[Drawn], Pixels, int]:
    """The same of a Photoshop document, by psd-tools."""
    document = PSDImage.open(io.BytesIO(content))
    layers = []
    for layer in document:
        pixels = np.asarray(layer.numpy(), np.float64)
        if layer.mask is not None:
            assert layer.mask.bbox == layer.bbox
            pixels[..., 3] *= np.asarray(layer.numpy("mask"))[..., 0]
        layers.append(on_canvas(layer.name, pixels, layer.left, layer.top, document.size, layer.clipping))
    # As it is stored: asked for an array, psd-tools takes the white away that the format has the merged picture on.
    record = PSD.read(io.BytesIO(content))
    kind = np.dtype(">u2" if document.depth == 16 else "u1")
    planes = [np.frombuffer(bytes(plane), kind) for plane in record.image_data.get_data(record.header)]
    merged = np.dstack([plane.reshape(document.height, document.width) / np.iinfo(kind).max for plane in planes])
    if len(planes) == 3:
        merged = np.dstack([merged, np.ones(merged.shape[:2])])
    return layers, merged, document.depth


READERS: dict[str, Callable[[bytes], tuple[list[Drawn], Pixels, int]]] = {".ora": read_ora, ".psd": read_psd}


def drawn_result(*, bits: int = 8, transparent: bool = False, surroundings: bool = False) -> RefineResult:
    """An object of noise on noise, with a soft edge and a pixel that came out as it was.

    In a transparent picture part of it lies where the transparency is soft.
    """
    kind = np.uint16 if bits == 16 else np.uint8
    before, after = noise(SIDE, SIDE, dtype=kind), noise(SIDE, SIDE, dtype=kind)[::-1]
    drawn = noise(SIDE, SIDE, dtype=kind)[:, ::-1]
    share = np.zeros((SIDE, SIDE, 1))
    share[10:30, 14:40] = 1
    share[30:34, 14:40] = 0.5
    below = drawn if surroundings else before
    after[20, 20] = below[20, 20]
    mixed = np.rint(below + share * (after.astype(np.float64) - below)).astype(kind)
    alpha = None
    if transparent:
        alpha = Mask(np.clip(np.linspace(-0.3, 1.5, SIDE, dtype=np.float32), 0, 1) * np.ones((SIDE, 1), np.float32))
        assert np.unique(alpha.values[20]).size > 20
    stages = {"upscaled": before} | ({"surroundings": drawn} if surroundings else {})

    def image(levels: NDArray[np.uint8] | NDArray[np.uint16], mask: Mask | None = None) -> Image:
        if levels.dtype == np.uint8:
            return Image(levels.astype(np.uint8), mask)
        return Image(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8), mask, levels.astype(np.uint16))

    told = make_report(placed=True)
    return RefineResult(image(mixed, alpha), told, {name: image(levels) for name, levels in stages.items()})


@pytest.mark.parametrize("suffix", [".ora", ".psd"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "transparent"])
@pytest.mark.parametrize("surroundings", [False, True], ids=["plain", "drawn"])
@pytest.mark.parametrize("profile", ["srgb", "display-p3"])
def test_the_layers_put_together_are_the_result_exactly(
    suffix: str, bits: int, transparent: bool, surroundings: bool, profile: ProfileName
) -> None:
    result = drawn_result(bits=bits, transparent=transparent, surroundings=surroundings)
    content = layers_bytes(result, f"x{suffix}", FileOptions(profile, None, bits))
    layers, merged, depth = READERS[suffix](content)
    assert [layer.name for layer in layers] == ["Enlarged", *["Surroundings"] * surroundings, "Refined object"]
    assert depth == bits
    top = 65535 if bits == 16 else 255
    picture = layers_of(result, bits)
    expected = from_srgb(picture.merged, profile)
    alpha = np.ones((SIDE, SIDE)) if picture.alpha is None else picture.alpha
    visible = alpha > 0
    colour, seen = composed(layers)
    assert np.abs(seen - alpha).max() <= 0.5 / top
    assert np.array_equal(np.rint(colour * top)[visible], expected[visible])
    assert np.abs(merged[..., 3] - alpha).max() <= 0.5 / top
    shown = expected if suffix == ".ora" else from_srgb(picture.flat, profile)
    assert np.array_equal(np.rint(merged[..., :3] * top)[visible], shown[visible])
    # Without the upper layers it is the enlarged picture.
    assert not np.array_equal(np.rint(layers[0].colour * top)[visible], expected[visible])


@pytest.mark.parametrize("suffix", [".ora", ".psd"])
def test_the_object_lies_on_the_enlarged_picture_no_larger_than_it_is(suffix: str) -> None:
    layers, _, _ = READERS[suffix](layers_bytes(drawn_result(), f"x{suffix}", FileOptions()))
    rows, columns = np.nonzero(layers[1].alpha)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 33, 14, 39)
    assert set(np.unique(layers[1].alpha)) == {0.0, 1.0}
    assert layers[1].alpha[10:34, 14:40].all(), "pixels that came out as they were make no holes"
    assert np.array_equal(np.rint(layers[0].colour * 255), noise(SIDE, SIDE))


@pytest.mark.parametrize("suffix", [".ora", ".psd"])
def test_the_same_result_gives_the_same_bytes(suffix: str) -> None:
    first, second = (layers_bytes(drawn_result(), f"x{suffix}", FileOptions()) for _ in range(2))
    assert first == second


def test_a_mask_of_photoshop_can_be_painted_on_and_the_profile_is_there() -> None:
    document = PSDImage.open(io.BytesIO(layers_bytes(drawn_result(), "x.psd", FileOptions("display-p3", None, 8))))
    enlarged, refined = document
    assert (enlarged.mask, refined.has_mask(), refined.clipping) == (None, True, False)
    assert np.asarray(refined.numpy())[..., 3].min() == 1, (
        "the layer is opaque under its mask, so that more can be painted in"
    )
    assert document.image_resources.get_data(1039) == icc_profile("display-p3")
    with PILImage.open(io.BytesIO(layers_bytes(drawn_result(), "x.psd", FileOptions()))) as flat:
        assert np.array_equal(np.asarray(flat), drawn_result().image.pixels)
        assert flat.info["icc_profile"] == icc_profile("srgb")


@pytest.mark.parametrize("transparent", [False, True])
def test_openraster_has_profiles_a_thumbnail_and_the_colours_under_its_mask(transparent: bool) -> None:
    content = layers_bytes(drawn_result(transparent=transparent), "x.ora", FileOptions("display-p3", None, 8))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name, profile in (
            ("data/layer0.png", "display-p3"), ("data/layer1.png", "display-p3"), ("mergedimage.png", "display-p3"),
            ("Thumbnails/thumbnail.png", "srgb"),
        ):  # fmt: skip
            with PILImage.open(io.BytesIO(archive.read(name))) as picture:
                assert picture.info["icc_profile"] == icc_profile(profile)
                assert max(picture.size) <= 256
        layer, _ = png(archive.read("data/layer1.png"))
        assert layer[..., :3].min(axis=2).max() > 0


def test_a_large_picture_has_a_small_thumbnail() -> None:
    wide = Image(noise(300, 900))
    result = RefineResult(wide, make_report(placed=False), {"upscaled": wide})
    with zipfile.ZipFile(io.BytesIO(layers_bytes(result, "x.ora", FileOptions()))) as archive:
        assert archive.namelist().count("data/layer1.png") == 0, "nothing was refined"
        with PILImage.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png"))) as thumbnail:
            assert thumbnail.size == (256, 85)


def test_where_nothing_was_placed_only_the_surroundings_differ() -> None:
    drawn = drawn_result()
    result = RefineResult(drawn.image, make_report(placed=False), drawn.stages)
    layers, _, _ = read_ora(layers_bytes(result, "x.ora", FileOptions()))
    assert [layer.name for layer in layers] == ["Enlarged", "Surroundings"]


def test_what_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"end it in .ora or .psd"):
        check_layers("x.tif")
    check_layers("x.psd", (30_000, 16))
    with pytest.raises(InputError, match="30000 pixels"):
        check_layers("x.psd", (30_001, 16))
    check_layers("x.ora", (30_001, 16))
    monkeypatch.setattr(layer_files, "is_importable", lambda name: False)
    with pytest.raises(InputError, match=r"pip install '.\[layers\]'"):
        check_layers("x.PSD")
    check_layers("x.ora")


def test_layers_are_written_with_the_picture_or_not_at_all(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "a.png", layers=tmp_path / "a.ora")
    assert not destination.is_finished()
    write_result(drawn_result(), destination)
    assert destination.is_finished()
    long = Image(noise(16, 16_400))
    result = RefineResult(long, make_report(placed=False), {"upscaled": long})
    with pytest.raises(InputError, match="WebP's limit"):
        write_result(result, Destination(tmp_path / "b.webp", layers=tmp_path / "b.ora"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ora", "a.png"]


def test_layers_over_an_input_or_over_the_report_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.ora").touch()
    for layers, more, part in (
        ("photo.ora", {}, "overwrite the input"),
        ("new.ora", {"report": tmp_path / "new.ora"}, "Report and layers are both"),
        ("none/new.ora", {}, "does not exist"),
        ("new.tiff", {}, "no suffix"),
    ):
        destination = Destination(tmp_path / "a.png", layers=tmp_path / layers, **more)
        with pytest.raises(InputError, match=part):
            check_destination(destination, [tmp_path / "photo.ora"], make_folders=False)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_refined_pair_as_layers(synthetic_pair: SyntheticPair, bits: int) -> None:
    result = refine(synthetic_pair.reference, synthetic_pair.generated, scale=2, bits=bits, engine="correspondence")
    assert result.report.placed
    picture = layers_of(result, bits)
    enlarged, refined = picture.layers
    assert refined.mask is not None
    covered = refined.mask.sum() / np.prod(picture.size)
    assert result.report.coverage <= covered < result.report.coverage * 1.2, "in 16 bits as well as in 8"
    height, width = refined.mask.shape
    part = slice(refined.top, refined.top + height), slice(refined.left, refined.left + width)
    put = enlarged.levels.copy()
    put[part][refined.mask] = refined.levels[refined.mask]
    assert np.array_equal(put, picture.merged)
    assert enlarged.levels.dtype == (np.uint16 if bits == 16 else np.uint8)


def test_the_command_writes_layers_of_one_pair_and_of_many(pair_files: tuple[Path, Path], tmp_path: Path) -> None:
    reference, generated = pair_files
    one = run_inside(
        "refine", "--reference", reference, "--generated", generated, "--scale", "1",
        "--output", tmp_path / "out.jpg", "--layers", tmp_path / "out.psd",
    )  # fmt: skip
    assert (one.returncode, one.stderr) == (0, "")
    assert [layer.name for layer in PSDImage.open(tmp_path / "out.psd")] == ["Enlarged", "Refined object"]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("reference,generated,output\nreference.png,generated.png,sub/v1.2.png\n")
    many: list[str | Path] = [
        "refine", "--pairs", pairs, "--scale", "1", "--output", tmp_path / "out", "--layers", tmp_path / "layers",
    ]  # fmt: skip
    assert run_inside(*many).returncode == 0
    assert run_inside(*many, "--layers-format", "psd").stdout.startswith(str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "layers" / "sub").iterdir()) == ["v1.2.ora", "v1.2.psd"]
    assert "1 finished before" in run_inside(*many).stdout
    refused = run_inside(*many[:1], "--reference", reference, "--generated", generated, "--output", "x.png",
                         "--layers-format", "psd")  # fmt: skip
    assert refused.returncode == 2
    assert "--pairs" in refused.stderr
