"""The cache: latents of the very pictures of inference, and every fault one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from refgc.engine import no_progress
from refgc.errors import InputError
from refgc.imaging.arrays import bicubic, shrink
from refgc.imaging.image import Image, Mask
from refgc.model.inputs import prepare_inputs
from refgc.model.locate import crop, locate
from refgc.model.pipeline import RefGCSR2Pipeline
from refgc.model.settings import DenoisingSettings
from refgc.request import make_request
from refgc.training import cache
from refgc.training.cache import open_cache
from refgc.training.cache_files import read_latents, read_prompt
from refgc.training.samples import Pictures, cut, load_pictures, read_samples
from refgc.training.settings import DataSettings, RefinerRun, WorkerSettings
from tests.support.command import run_inside
from tests.support.tiny_dataset import disc, drawn
from tests.support.training_run import fill_here, tiny_run, training_dataset, write_run


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("compact", [False, True])
def test_the_crops_are_those_of_inference(cached: RefinerRun, triplets: Path, whole: bool, compact: bool) -> None:
    data = cached.data.model_copy(update={"whole": whole, "compact_generated": compact})
    for sample in read_samples(data, "train"):
        pictures = load_pictures(triplets, sample)
        given = prepare_inputs(
            pictures.request,
            DenoisingSettings(whole=whole, compact_generated=compact, enlargement="bicubic", width=64, height=64),
            no_progress,
        )
        crops = cut(pictures, data)
        assert np.array_equal(crops.reference, given.reference)
        assert np.array_equal(crops.generated, given.generated)
        assert crops.truth.shape == (64, 64, 3)
        assert crops.truth_mask.shape == (64, 64)
        assert 0.05 < crops.truth_mask.mean() < 0.95


@pytest.mark.parametrize("place", [(40, 60), (300, 200), (430, 290)])
def test_the_truth_lies_over_the_generated_picture(place: tuple[int, int]) -> None:
    """Of an LRGI that is the HRGT made smaller: windows, enlargement and mask agree, at the border as well."""
    noise = np.random.default_rng(0).normal(size=(384, 512, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 12)
    truth = Image(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))
    values = np.zeros((384, 512), np.float32)
    cv2.circle(values, place, 40, 1.0, -1)
    lrgi = bicubic(np.asarray(truth.pixels), (128, 96))
    small = Mask(np.clip(shrink(values, (128, 96)), 0, 1))
    request = make_request(drawn(3), Image(lrgi), reference_mask=disc(), generated_mask=small)
    crops = cut(Pictures(request, truth, Mask(values)), DataSettings(working_size=(128, 128)))
    windows = locate(request, working_size=(128, 128))
    assert windows.generated_window != (0, 0, 128, 96), "a part of the picture"
    differences = np.abs(crops.truth.astype(np.float32) - crops.generated)
    assert differences.mean() < 1.5
    shifted = np.abs(crops.truth[:, 4:].astype(np.float32) - crops.generated[:, :-4])
    assert differences.mean() < shifted.mean() / 2
    mask = crop(np.repeat((255 * small.values).astype(np.uint8)[..., None], 3, 2), windows.generated_window, (128, 128))
    assert np.abs(mask[..., 0] / 255 - crops.truth_mask).mean() < 0.03


@torch.no_grad()
def test_the_latents_are_those_of_the_pipeline(cached: RefinerRun, triplets: Path, tiny_base: Path) -> None:
    found = open_cache(cached)
    assert [one.id for one in found.training] == [f"t{number}" for number in range(5)]
    ((sample, _),) = found.validation
    assert sample.id == "t5"
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base)
    first = read_samples(cached.data, "train")[0]
    crops = cut(load_pictures(triplets, first), cached.data)
    tensors = read_latents(found.training[0])
    for name, picture in (
        ("ground_truth", crops.truth),
        ("reference", crops.reference),
        ("generated", crops.generated),
    ):
        expected = pipeline._encode(picture)[0].to(torch.bfloat16)
        assert torch.equal(tensors[name], expected)
    mask = tensors["ground_truth_mask"]
    assert mask.shape == (1, *tensors["ground_truth"].shape[1:])
    assert mask.float().mean().item() == pytest.approx(float(crops.truth_mask.mean()), abs=1e-3)
    words = read_prompt(found.training[0].prompt)
    embeddings = pipeline.backbone.embed(pipeline, pipeline.prompt_for("o0 cup"), torch.device("cpu"))
    assert torch.equal(words.tokens, embeddings.tokens.to(torch.bfloat16))
    assert words.pooled is not None


def test_missing_and_stale_files_are_one_sentence(cached: RefinerRun, tmp_path: Path) -> None:
    empty = cached.model_copy(update={"data": cached.data.model_copy(update={"cache": str(tmp_path)})})
    with pytest.raises(InputError, match=r"has none of the 13 files .*; `refgc train cache` makes them"):
        open_cache(empty)
    for change in ({"whole": True}, {"prompt": "draw the {object}"}, {"working_size": (64, 80)}):
        stale = cached.model_copy(update={"data": cached.data.model_copy(update=change)})
        with pytest.raises(InputError, match="missing, stale or damaged"):
            open_cache(stale)


def test_another_vae_makes_the_latents_stale_and_not_the_prompts(
    cached: RefinerRun, tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    vae = AutoencoderKL.from_pretrained(base, subfolder="vae")
    with torch.no_grad():
        vae.encoder.conv_in.weight.add_(0.01)
    vae.save_pretrained(base / "vae")
    other = cached.model_copy(update={"model": cached.model.model_copy(update={"base": str(base)})})
    with pytest.raises(InputError, match="6 of 13 files"):
        open_cache(other)


@pytest.fixture
def own(tiny_base: Path, tmp_path: Path) -> RefinerRun:
    """A run of its own whose cache may be damaged."""
    settings = tiny_run(tmp_path, tiny_base, training_dataset(tmp_path / "dataset", training=2, validation=0))
    fill_here(settings)
    return settings


def test_a_damaged_file_is_found_and_made_again(own: RefinerRun) -> None:
    good = open_cache(own)
    file = good.training[0].file
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(InputError, match=f"1 of 5 files .* {file.name} among them"):
        open_cache(own)
    fill_here(own)
    assert file.read_bytes() == content, "the same file again"

    flipped = bytearray(content)
    flipped[-10] ^= 0xFF
    file.write_bytes(flipped)
    open_cache(own)  # the header is whole
    with pytest.raises(InputError, match="was damaged and is deleted; run `refgc train cache` again"):
        read_latents(good.training[0])
    fill_here(own)
    assert file.read_bytes() == content


def test_a_dataset_without_validation_is_told_where_something_would_be_drawn(own: RefinerRun, tmp_path: Path) -> None:
    def said(every: int) -> str:
        content = own.model_dump(mode="json", exclude_none=True)
        content["validation"]["every"] = every
        return run_inside("train", "cache", write_run(tmp_path / "run.toml", content), REFGC_DEVICE="cpu").stdout

    assert "0 files made, 5 there before.\nThe dataset has nothing in the split `validation`" in said(4)
    assert "split" not in said(0)


@pytest.mark.slow
def test_one_bad_picture_stops_no_other_and_is_named(own: RefinerRun, tmp_path: Path) -> None:
    """By the runner and its processes; a picture is never silently replaced by another."""
    shutil.rmtree(own.data.cache)
    sample = read_samples(own.data, "train")[0]
    picture = Path(own.data.dataset) / sample.hrri.path
    kept = picture.read_bytes()
    picture.unlink()
    with pytest.raises(InputError, match=r"The triplet 't0' cannot be used: .* cannot be read .* mend the dataset"):
        cache.fill_cache(own)
    with pytest.raises(InputError, match="1 of 5 files"):
        open_cache(own)
    picture.write_bytes(kept)
    count = cache.fill_cache(own)
    assert (count.made, count.earlier) == (1, 4)
    assert len(open_cache(own).training) == 2


@pytest.mark.slow
def test_ray_makes_the_same_files(own: RefinerRun) -> None:
    ray = pytest.importorskip("ray")
    folder = Path(own.data.cache)
    local = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.safetensors")}
    shutil.rmtree(folder)
    by_ray = own.model_copy(update={"workers": WorkerSettings(runner="ray", workers=1, gpus_per_worker=0)})
    assert cache.fill_cache(by_ray).made == len(local) == 5
    assert not ray.is_initialized()
    assert {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.safetensors")} == local
