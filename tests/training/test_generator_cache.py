"""The generator's cache holds the very conditions of inference; its quality check; every fault is one sentence."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from refgc.dataset.corrections import read_pairs
from refgc.dataset.lrgi import DiptychMaker
from refgc.dataset.triplets import load_pictures
from refgc.diptych.conditions import Diptych, finished, right_panel
from refgc.diptych.pipeline import DipRefGCPipeline, Drawn
from refgc.errors import InputError
from refgc.imaging.image import Mask
from refgc.masks import choose_segmenter
from refgc.training.cache_files import read_latents, read_prompt
from refgc.training.generator import run_generator
from refgc.training.generator_cache import conditions_of, open_cache
from refgc.training.generator_validation import quality
from refgc.training.settings import GeneratorRun, RefinerRun, initial_file, read_any_run
from tests.support.command import assert_one_sentence, run_inside
from tests.support.generator_run import (  # noqa: F401
    changed,
    fill_here,
    generator_cached,
    generator_content,
    generator_parts,
    generator_run,
)
from tests.support.training_run import training_dataset, write_run


class Noticing:
    """Stands where the generator would draw, and keeps what it is given."""

    given: Diptych

    def generate(self, diptych: Diptych, *_: object) -> Drawn:
        self.given = diptych
        raise InputError("enough")


def test_the_conditions_are_those_of_inference(triplets: Path) -> None:
    """Of the code that draws the dataset's LRGIs, for an HRGT whose panel fits it."""
    pair = next(iter(read_pairs(triplets)))
    pictures = load_pictures(triplets, pair)
    noticing = Noticing()
    with pytest.raises(InputError, match="enough"):
        DiptychMaker(noticing).draw(pair, pictures, 0)  # type: ignore[arg-type]
    own = conditions_of(pictures, None)
    assert own.panels == noticing.given.panels
    assert own.panels.size == (512, 512)
    for name in ("picture", "mask", "edges"):
        assert np.array_equal(getattr(own, name), getattr(noticing.given, name))


@torch.no_grad()
def test_the_latents_are_those_of_the_pipeline(
    generator_cached: GeneratorRun,  # noqa: F811
    generator_parts: Path,  # noqa: F811
    triplets: Path,
) -> None:
    found = open_cache(generator_cached)
    assert [one.id for one in found.training] == [f"p{number}" for number in range(5)]
    pipeline = DipRefGCPipeline.from_pretrained(
        generator_parts / "base", generator_parts / "inpainting", generator_parts / "canny"
    )
    pair = next(iter(read_pairs(triplets)))
    pictures = load_pictures(triplets, pair)
    diptych = conditions_of(pictures, generator_cached.data.panel_size)
    truth = finished(diptych, pictures.hrgt)
    outside = np.broadcast_to((diptych.mask == 0)[..., None], truth.shape)
    assert np.array_equal(truth[outside], diptych.picture[outside])
    target = diptych.panels.scene_target
    small = cv2.resize(pictures.hrgt.pixels, target.size, interpolation=cv2.INTER_AREA)
    assert np.array_equal(right_panel(truth, diptych.panels), small), "the HRGT, its object in it"
    tensors = read_latents(found.training[0])
    edges = diptych.edges[..., None].repeat(3, axis=2)
    for name, picture in (("ground_truth", truth), ("condition", diptych.picture), ("edges", edges)):
        unit = torch.from_numpy(picture.copy()).movedim(2, 0)[None] / 127.5 - 1
        mode = pipeline.vae.encode(unit).latent_dist.mode()
        expected = (mode - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor
        assert torch.equal(tensors[name], expected[0].to(torch.bfloat16)), name
    height, width = tensors["ground_truth"].shape[1:]
    assert tensors["known"].shape == (1, height, width)
    assert tensors["known"][..., : width // 2].all(), "the left panel is known"
    assert not tensors["known"].all()
    share = tensors["object_mask"].float().mean().item()
    assert share == pytest.approx(diptych.mask[:, diptych.panels.size[0] :].mean() / 255, abs=1e-3)
    words = read_prompt(found.training[0].prompt)
    text = "A diptych with two side-by-side images of the same o0 cup. On the left, a photo of a o0 cup. On the right, "
    tokens, pooled, _ = pipeline.encode_prompt(
        text + "replicate the same o0 cup naturally into the background scene", None
    )
    assert torch.equal(words.tokens, tokens.to(torch.bfloat16))
    assert words.pooled is not None
    assert torch.equal(words.pooled, pooled.to(torch.bfloat16))


def test_panels_of_several_sizes_do_not_share_a_pass(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    other = changed(generator_cached, tmp_path, data={"panel_size": (48, 64), "cache": str(tmp_path / "cache")})
    fill_here(other)
    shapes = [{one.shapes for one in open_cache(run).training} for run in (generator_cached, other)]
    assert shapes == [{((6, 16),)}, {((8, 12),)}]


def test_missing_and_stale_files_are_one_sentence(generator_cached: GeneratorRun, tmp_path: Path) -> None:  # noqa: F811
    empty = changed(generator_cached, tmp_path, data={"cache": str(tmp_path)})
    with pytest.raises(InputError, match=r"has none of the 13 files .*; `refgc train cache` makes them"):
        run_generator(empty)
    with pytest.raises(InputError, match="6 of 13 files"):
        open_cache(changed(generator_cached, tmp_path, data={"panel_size": (64, 64)}))


@pytest.fixture
def own(generator_parts: Path, tmp_path: Path) -> GeneratorRun:  # noqa: F811
    """A run of its own whose cache and dataset may be damaged."""
    dataset = training_dataset(tmp_path / "dataset", training=2, validation=0)
    settings = generator_run(tmp_path, generator_parts, dataset, validation={"every": 0})
    fill_here(settings)
    return settings


def test_a_damaged_file_is_one_sentence(own: GeneratorRun) -> None:
    file = open_cache(own).training[0].file
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(InputError, match=f"1 of 5 files .* {file.name} among them; run `refgc train cache` again"):
        run_generator(own)
    flipped = bytearray(content)
    flipped[-10] ^= 0xFF
    file.write_bytes(flipped)
    with pytest.raises(InputError, match="was damaged and is deleted; run `refgc train cache` again"):
        run_generator(own)
    fill_here(own)
    assert file.read_bytes() == content, "the same file again"


@pytest.mark.parametrize("view", ["hrri", "hrgt"])
def test_a_missing_picture_is_one_sentence(own: GeneratorRun, view: str) -> None:
    shutil.rmtree(own.data.cache)
    pair = next(iter(read_pairs(Path(own.data.dataset))))
    (Path(own.data.dataset) / getattr(pair, view).picture.path).unlink()
    with pytest.raises(InputError, match=r"The pair 'p0' cannot be used: .* cannot be read .* bring the file back"):
        fill_here(own)


@pytest.mark.slow
def test_the_command_makes_the_cache_and_goes_on(own: GeneratorRun, generator_parts: Path, tmp_path: Path) -> None:  # noqa: F811
    """By the runner and its processes; one bad picture stops no other."""
    shutil.rmtree(own.data.cache)
    file = write_run(tmp_path / "run.toml", generator_content(tmp_path, generator_parts, Path(own.data.dataset)))
    pair = next(iter(read_pairs(Path(own.data.dataset))))
    picture = Path(own.data.dataset) / pair.hrri.picture.path
    kept = picture.read_bytes()
    picture.unlink()
    assert_one_sentence(run_inside("train", "cache", file, REFGC_DEVICE="cpu"), 2, "mend the dataset, then run")
    picture.write_bytes(kept)
    done = run_inside("train", "cache", file, REFGC_DEVICE="cpu")
    assert "1 files made, 4 there before" in done.stderr + done.stdout


def test_the_file_of_a_run(tmp_path: Path) -> None:
    printed = initial_file("generator")
    assert GeneratorRun.model_validate(tomllib.loads(printed)) == GeneratorRun()
    assert "\n# panel_size =" in printed
    for text, kind in ((printed, GeneratorRun), (initial_file("refiner"), RefinerRun)):
        file = tmp_path / "run.toml"
        file.write_text(text)
        assert type(read_any_run(file)) is kind


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('kind = "generator"\n[data]\npanel_size = [500, 512]', "multiples of 16"),
        ('kind = "generator"\n[data]\ndrop_reference = 0.1', "drop_prompt"),
        ('kind = "painter"', "choose refiner or generator"),
        ('kind = "generator"\n[model]\nprojections = "some"', "model.projections cannot be used"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_any_run(file)
    assert part in str(refused.value)
    assert_one_sentence(run_inside("train", "cache", file), 2, part)


def scene(blurred: float = 0.0, shift: int = 0) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], Mask]:
    """A textured disc on a plain ground."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96]
    inside = np.hypot(rows - 48, columns - 48 - shift) < 26
    picture = np.full((96, 96, 3), 210, np.uint8)
    texture = random.integers(20, 120, (96, 96, 3), dtype=np.uint8)
    picture[inside] = texture[inside]
    if blurred:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blurred), np.uint8)
    return picture, Mask((np.hypot(rows - 48, columns - 48) < 26).astype(np.float32))


def measured(make: Callable[[], tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], Mask]]) -> dict[str, float]:
    truth, mask = scene()
    return quality(make()[0], truth, mask, "ball", choose_segmenter("grabcut"))


def test_the_quality_check_tells_artifacts_and_poses() -> None:
    same, soft, moved = measured(scene), measured(lambda: scene(1.5)), measured(lambda: scene(shift=12))
    assert same["psnr"] == 100
    assert same["ssim"] == pytest.approx(1)
    assert same["high_frequencies"] == pytest.approx(1)
    assert same["outline_overlap"] > 0.95
    assert soft["high_frequencies"] < 0.5
    assert soft["psnr"] < 30
    assert soft["ssim"] < 0.9
    assert moved["outline_overlap"] < same["outline_overlap"] - 0.1
    # Noise is an artifact as well, and adds what a blur takes away.
    truth, mask = scene(1.5)
    noisy = np.random.default_rng(1).integers(0, 255, truth.shape, dtype=np.uint8)
    assert quality(noisy, truth, mask, "ball", choose_segmenter("grabcut"))["high_frequencies"] > 1


def test_an_object_smaller_than_a_pixel_has_no_figures() -> None:
    mask = np.zeros((96, 96), np.float32)
    mask[40, 40] = 1
    small, _ = scene()
    found = quality(small[::8, ::8].copy(), small[::8, ::8].copy(), Mask(mask), "dot", choose_segmenter("grabcut"))
    assert set(found) == {"outline_overlap"}
