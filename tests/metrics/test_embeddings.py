"""CLIP-I and DINO: the figures of networks of random weights, by hand, and networks that cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file

from refgc.errors import EngineError
from refgc.imaging.image import Image, Mask
from refgc.metrics.embeddings import ClipI, object_on_white
from refgc.metrics.networks import fetch_network, find_network, revision_of
from refgc.metrics.registry import Backbones, select
from refgc.metrics.sample import Sample
from tests.support.fake_hub import COMMIT, FakeHub
from tests.support.models import hub  # noqa: F401
from tests.support.tiny_vision import MEAN, STD, save_tiny_clip, save_tiny_dino


def picture(seed: int, width: int = 96, height: int = 64) -> Image:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (8, 12, 3), np.uint8)
    return Image(np.asarray(PILImage.fromarray(small).resize((width, height), PILImage.Resampling.BICUBIC)))


def box(image: Image, left: int, top: int, right: int, bottom: int) -> Mask:
    values = np.zeros(image.pixels.shape[:2], np.float32)
    values[top:bottom, left:right] = 1
    return Mask(values)


def normalised(squeezed: PILImage.Image) -> torch.Tensor:
    values = (np.asarray(squeezed) / 255 - MEAN) / STD
    return torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)[None]


def middle_square(image: Image, shorter: int, side: int) -> PILImage.Image:
    """Resized to a shorter side, and the middle square of it."""
    width, height = image.size
    scale = shorter / min(width, height)
    resized = PILImage.fromarray(image.pixels).resize(
        (int(width * scale), int(height * scale)), PILImage.Resampling.BICUBIC
    )
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    return resized.crop((left, top, left + side, top + side))


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double())[0])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("vision") / "clip")


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_dino(tmp_path_factory.mktemp("vision") / "dino", "vit")


def test_clip_i_is_the_cosine_of_the_image_embeddings_of_the_whole_clip(clip: Path) -> None:
    result, reference = picture(1), picture(2, 64, 80)
    network = transformers.CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        embeddings = [
            network(pixel_values=normalised(middle_square(one, 32, 32)), input_ids=torch.tensor([[0, 1]])).image_embeds
            for one in (result, reference)
        ]
    expected = cosine(*embeddings)
    assert abs(expected) < 0.999
    assert ClipI(str(clip), clip)(Sample(result, reference=reference)) == {"clip_i": pytest.approx(expected, abs=1e-5)}


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov3_vit"])
def test_dino_is_the_cosine_of_the_class_tokens(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_dino(tmp_path / "dino", kind)
    result, reference = picture(1), picture(2, 64, 80)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    tokens = []
    for one in (result, reference):
        squeezed = PILImage.fromarray(one.pixels).resize((32, 32), PILImage.Resampling.BICUBIC)
        inputs = normalised(middle_square(one, 40, 32) if kind == "dinov2" else squeezed)
        with torch.no_grad():
            tokens.append(network(inputs).last_hidden_state[:, 0])
    metric = select(["dino"], backbones=Backbones(dino=str(folder))).metrics[0]
    assert metric(Sample(result, reference=reference)) == {"dino": pytest.approx(cosine(*tokens), abs=1e-5)}


def test_one_object_in_two_scenes_is_the_same_object_inside(clip: Path) -> None:
    thing = picture(3, 30, 24)
    result, reference = Image(picture(1).pixels.copy()), Image(picture(2, 64, 80).pixels.copy())
    pixels, reference_pixels = np.array(result.pixels), np.array(reference.pixels)
    pixels[10:34, 50:80] = thing.pixels
    reference_pixels[40:64, 5:35] = thing.pixels
    sample = Sample(
        Image(pixels),
        truth_mask=box(result, 50, 10, 80, 34),
        reference=Image(reference_pixels),
        reference_mask=box(reference, 5, 40, 35, 64),
    )
    figures = ClipI(str(clip), clip)(sample)
    assert figures["clip_i_inside"] == pytest.approx(1, abs=1e-6)
    assert figures["clip_i"] < 0.9999


@pytest.mark.parametrize("empty", ["truth", "reference"])
def test_where_a_mask_marks_nothing_there_is_no_object_to_compare(clip: Path, empty: str) -> None:
    result, reference = picture(1), picture(2)
    marked, nothing = box(result, 20, 10, 60, 40), Mask(np.zeros((64, 96), np.float32))
    masks = (nothing, marked) if empty == "truth" else (marked, nothing)
    sample = Sample(result, truth_mask=masks[0], reference=reference, reference_mask=masks[1])
    assert set(ClipI(str(clip), clip)(sample)) == {"clip_i"}


def test_the_object_alone_stands_in_the_middle_of_a_white_square() -> None:
    image = picture(4)
    mask = box(image, 20, 10, 60, 40)
    alone = np.asarray(object_on_white(image, mask))
    assert alone.shape == (40, 40, 3)
    assert np.array_equal(alone[5:35], image.pixels[10:40, 20:60])
    assert (alone[:5] == 255).all()
    assert (alone[35:] == 255).all()
    nothing = Mask(np.zeros((64, 96), np.float32))
    assert np.array_equal(np.asarray(object_on_white(image, nothing)), image.pixels)


def test_without_a_reference_there_is_no_figure(clip: Path) -> None:
    assert ClipI(str(clip), clip)(Sample(picture(1), truth=picture(2))) == {}


def test_a_network_that_lacks_a_tensor_is_refused_and_never_filled_with_random_values(
    clip: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EngineError, match=r"^The network of CLIP-I lacks visual_projection.weight in 'clip'; fetch"):
        ClipI(str(folder), folder)(Sample(picture(1), reference=picture(2)))


def test_a_damaged_network_is_refused_in_one_sentence(clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(
        EngineError, match=r"^The network of CLIP-I cannot be read from 'clip'; fetch its files again.$"
    ):
        ClipI(str(folder), folder)(Sample(picture(1), reference=picture(2)))


def test_a_network_of_another_kind_is_refused(dino: Path) -> None:
    with pytest.raises(EngineError, match=r"The network of CLIP-I is .*, of the architecture 'vit'; name one of clip"):
        select(["clip_i"], backbones=Backbones(clip=str(dino)))


def test_what_a_protocol_names_changes_with_the_weights(clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "other" / "clip"))
    assert revision_of("clip", folder) == revision_of("clip", clip)
    tensors = load_file(folder / "model.safetensors")
    tensors["visual_projection.weight"] += 1e-3
    changed = Path(shutil.copytree(folder, tmp_path / "changed" / "clip"))
    save_file(tensors, changed / "model.safetensors", {"format": "pt"})
    assert revision_of("clip", changed) != revision_of("clip", clip)
    protocol = select(["clip_i"], backbones=Backbones(clip=str(clip))).metrics[0].protocol
    assert revision_of("clip", clip) in protocol
    assert str(clip.parent) not in protocol


def test_a_network_is_downloaded_once_and_named_by_its_commit(
    hub: FakeHub,  # noqa: F811
    dino: Path,
) -> None:
    files = {file.name: file.read_bytes() for file in dino.iterdir()}
    hub.repositories["someone/dino"] = {**files, "pytorch_model.bin": b"the same a second time"}
    sentence = "DINO needs someone/dino, which is not on this machine: `refgc setup --metrics --dino someone/dino`"
    backbones = Backbones(dino="someone/dino")
    assert select(["dino"], backbones=backbones).missing == (f"{sentence} downloads it.",)
    folder = fetch_network("someone/dino", "The network of DINO")
    assert {file.name for file in folder.iterdir()} == set(files)
    hub.refusal = (500, "")
    assert fetch_network("someone/dino", "The network of DINO") == folder
    (metric,) = select(["dino"], backbones=backbones).metrics
    assert f"someone/dino at revision {COMMIT[:12]}" in metric.protocol
    assert metric(Sample(picture(1), reference=picture(1))) == {"dino": pytest.approx(1, abs=1e-6)}


def test_a_repository_of_older_files_is_read_too(
    hub: FakeHub,  # noqa: F811
    clip: Path,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub.repositories["someone/clip"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    downloaded = fetch_network("someone/clip", "The network of CLIP-I")
    sample = Sample(picture(1), reference=picture(2))
    expected = ClipI(str(clip), clip)(sample)
    assert ClipI("someone/clip", downloaded)(sample) == pytest.approx(expected, abs=1e-6)


def test_a_pickle_that_holds_more_than_tensors_is_not_run(clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    (folder / "model.safetensors").unlink()
    torch.save({"visual_projection.weight": Opener(tmp_path / "opened")}, folder / "pytorch_model.bin")
    with pytest.raises(EngineError, match="cannot be read from 'clip'"):
        ClipI(str(folder), folder)(Sample(picture(1), reference=picture(2)))
    assert not (tmp_path / "opened").exists()


class Opener:
    """What a hostile pickle would do."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.file), "w")


def test_a_repository_without_weights_is_refused(hub: FakeHub, clip: Path) -> None:  # noqa: F811
    hub.repositories["someone/clip"] = {"config.json": (clip / "config.json").read_bytes()}
    assert find_network("someone/clip") is None
    with pytest.raises(EngineError, match=r"^The network of CLIP-I is 'someone/clip', which lacks config.json"):
        fetch_network("someone/clip", "The network of CLIP-I")
