"""Figure 5 of tiny models against loops written by hand: blocks called one by one, and scipy's Gaussian."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from refgc.errors import InputError
from refgc.evaluation.figures import similarity
from refgc.evaluation.figures.blocks import BlockSettings, make_blocks, spread, working_size
from refgc.evaluation.figures.scenes import read_scenes
from refgc.evaluation.figures.similarity import Probe, SceneLatents, latent_similarities, noise_for
from refgc.imaging.image import open_image
from refgc.model import weights
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.loading import Folders
from tests.support.compared_scenes import make_scenes
from tests.support.latents import random_latents
from tests.support.tiny_klein import tiny_klein_transformer

SETTINGS = BlockSettings(side=64, scenes=4, block_scenes=2, timesteps=(888.0, 558.0))
# Rows and columns of the tokens of a picture of 64 x 64 pixels.
GRID = (4, 4)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_DEVICE", "cpu")


def bands(values: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Low and high frequencies of (channels, height, width)."""
    low = np.stack([gaussian_filter(one, sigma, mode="nearest", truncate=4.0) for one in values.astype(np.float64)])
    return low, values - low


def angle(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def packed(latents: torch.Tensor) -> torch.Tensor:
    """Tokens of 2 x 2 latents, row by row, each with the four places of a channel side by side."""
    batch, channels, height, width = latents.shape
    split = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def positions(picture: int, axes: int) -> torch.Tensor:
    ids = [[picture, row, column, 0][:axes] for row in range(GRID[0]) for column in range(GRID[1])]
    return torch.tensor(ids, dtype=torch.float32)


@torch.no_grad()
def kontext_features(pipeline: Any, tokens: torch.Tensor, timestep: float, words: Any) -> list[torch.Tensor]:
    """What each block of FLUX.1 makes of the tokens of pictures."""
    network = pipeline.transformer
    pictures, text = network.x_embedder(tokens), network.context_embedder(words.tokens)
    at = network.time_text_embed(torch.tensor([timestep]), torch.tensor([2500.0]), words.pooled)
    ids = torch.cat([torch.zeros(text.shape[1], 3), *(positions(picture, 3) for picture in (0, 1, 2))])
    rotary = network.pos_embed(ids)
    features = []
    for block in (*network.transformer_blocks, *network.single_transformer_blocks):
        text, pictures = block(hidden_states=pictures, encoder_hidden_states=text, temb=at, image_rotary_emb=rotary)
        features.append(pictures)
    return features


@torch.no_grad()
def klein_features(pipeline: Any, tokens: torch.Tensor, timestep: float, words: Any) -> list[torch.Tensor]:
    """What each block of FLUX.2 makes of the tokens of pictures."""
    network = pipeline.transformer
    pictures, text = network.x_embedder(tokens), network.context_embedder(words.tokens)
    at = network.time_guidance_embed(torch.tensor([timestep]), None)
    number = text.shape[1]
    of_words = torch.cat([torch.zeros(number, 3), torch.arange(number, dtype=torch.float32)[:, None]], dim=1)
    ids = torch.cat([of_words, *(positions(10 * picture, 4) for picture in (0, 1, 2))])
    rotary = network.pos_embed(ids)
    features = []
    for block in network.transformer_blocks:
        text, pictures = block(
            hidden_states=pictures,
            encoder_hidden_states=text,
            temb_mod_img=network.double_stream_modulation_img(at),
            temb_mod_txt=network.double_stream_modulation_txt(at),
            image_rotary_emb=rotary,
        )
        features.append(pictures)
    joint = torch.cat([text, pictures], dim=1)
    for block in network.single_transformer_blocks:
        joint = block(
            hidden_states=joint,
            encoder_hidden_states=None,
            temb_mod=network.single_stream_modulation(at),
            image_rotary_emb=rotary,
        )
        features.append(joint[:, number:])
    return features


@pytest.mark.parametrize("kind", ["kontext", "klein"])
def test_blocks_are_those_of_a_loop_by_hand(kind: str, tiny_base: Path, tiny_klein: Path, scenes: Path) -> None:
    probe = Probe.load(Folders(tiny_base if kind == "kontext" else tiny_klein, None), with_blocks=True)
    hrri, lrgi, hrgt = (
        open_image(scenes / "ant" / f"{name}.png", name=name).pixels for name in ("hrri", "lrgi", "hrgt")
    )
    latents = probe.encode(hrri, lrgi, hrgt, (64, 64))
    noise = noise_for("ant", 3, latents.hrgt)
    pipeline: Any = probe._pipeline
    words = probe._embed(pipeline.prompt_for("ant"))
    features_of = kontext_features if kind == "kontext" else klein_features
    for timestep in (888.0, 120.0):
        sigma = timestep / 1000
        noisy = (1 - sigma) * latents.hrgt + sigma * noise
        tokens = torch.cat([packed(one) for one in (noisy, latents.hrri, latents.lrgi)], dim=1)
        features = features_of(pipeline, tokens, timestep, words)
        # Tokens of the noise alone, on their grid.
        maps = [one[0, : GRID[0] * GRID[1]].T.reshape(-1, *GRID).numpy() for one in features]
        last = bands(maps[-1], 1.0)
        found = probe.block_similarities(latents, "ant", timestep, noise)
        assert len(found.low) == len(maps) == len(probe.blocks) == 5
        assert found.low == pytest.approx([angle(bands(one, 1.0)[0], last[0]) for one in maps], abs=1e-5)
        assert found.high == pytest.approx([angle(bands(one, 1.0)[1], last[1]) for one in maps], abs=1e-5)
        assert found.low[0] < 0.9999


def test_latents_are_those_of_a_loop_by_hand() -> None:
    hrri, lrgi, hrgt = (random_latents(1, 4, 8, 12, seed=seed) for seed in (1, 2, 3))
    latents = SceneLatents(hrri + hrgt, lrgi + 2 * hrgt, hrgt)
    found = latent_similarities(latents)
    own = {name: getattr(latents, name)[0].numpy() for name in ("hrri", "lrgi", "hrgt")}
    low = {name: bands(one, 2.0)[0] for name, one in own.items()}
    assert found.hrri == pytest.approx(angle(own["hrri"], own["hrgt"]), abs=1e-9)
    assert found.lrgi == pytest.approx(angle(own["lrgi"], own["hrgt"]), abs=1e-9)
    assert found.hrri_low == pytest.approx(angle(low["hrri"], low["hrgt"]), abs=1e-9)
    assert found.lrgi_low == pytest.approx(angle(low["lrgi"], low["hrgt"]), abs=1e-9)


def test_an_adapter_with_the_reference_cache_is_measured_in_its_second_pass(
    tiny_klein: Path, scenes: Path, tmp_path: Path
) -> None:
    """The pass that fills the cache has the condition tokens alone, whose number is another."""
    config = FreqMoLEConfig(**{**_klein_config().model_dump(exclude_unset=True), "reference_cache": True})
    weights.save(inject(tiny_klein_transformer(), config), tmp_path / "adapter")
    probe = Probe.load(Folders(tiny_klein, tmp_path / "adapter"), with_blocks=True)
    picture = open_image(scenes / "ant" / "hrgt.png", name="hrgt").pixels
    latents = probe.encode(picture, picture, picture, (64, 64))
    found = probe.block_similarities(latents, "ant", 500.0, noise_for("ant", 0, latents.hrgt))
    assert len(found.low) == 5
    assert found.low[-1] == found.high[-1] == pytest.approx(1.0)


def _klein_config() -> FreqMoLEConfig:
    from refgc.model.backbones.klein import Klein

    return Klein().adapter_config(rank=2)


def test_a_run_goes_on_where_it_was_and_draws_the_same(
    tiny_klein: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, folders = read_scenes(scenes).items, Folders(tiny_klein, None)
    outputs = [tmp_path / "figure.png"]
    data = json.loads(make_blocks(items, folders, outputs, SETTINGS).read_bytes())
    assert set(data["panels"]) == {"a", "b", "c"}
    assert list(data["panels"]["a"]["similarities"]) == ["888", "558"]
    points = data["panels"]["b"]["points"]
    assert [point["id"] for point in points] == ["ant", "bee", "cat", "dog"]
    nearer = sum(point["hrri"] > point["lrgi"] for point in points)
    assert data["panels"]["b"]["hrri_nearer"] == nearer
    assert data["panels"]["b"]["lrgi_nearer"] == 4 - nearer
    first = outputs[0].read_bytes()

    # Killed while it wrote its last row.
    journal = tmp_path / "figure.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4 + 2
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    measured = []
    own = Probe.block_similarities

    def counted(self: Probe, *arguments: Any) -> Any:
        measured.append(arguments[1])
        return own(self, *arguments)

    monkeypatch.setattr(similarity.Probe, "block_similarities", counted)
    make_blocks(items, folders, outputs, SETTINGS)
    # One scene at two timesteps.
    assert len(measured) == 2
    assert outputs[0].read_bytes() == first
    assert json.loads((tmp_path / "figure.json").read_bytes()) == data

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("everything is known already")

    monkeypatch.setattr(similarity.Probe, "load", refuse)
    make_blocks(items, folders, outputs, SETTINGS)
    with pytest.raises(AssertionError, match="known already"):
        make_blocks(items, folders, outputs, BlockSettings(side=64, scenes=4, block_scenes=2, seed=1))


def test_latents_need_the_vae_alone(tiny_base: Path, scenes: Path, tmp_path: Path) -> None:
    settings = BlockSettings(panels="bc", side=64, scenes=1)
    data = json.loads(
        make_blocks(read_scenes(scenes).items, Folders(tiny_base, None), [tmp_path / "f.svg"], settings).read_bytes()
    )
    assert set(data["panels"]) == {"b", "c"}
    assert Probe.load(Folders(tiny_base, None), with_blocks=False).blocks == ()


def test_scenes_are_taken_at_equal_distances_and_pictures_are_not_enlarged() -> None:
    assert spread(list(range(10)), 2) == [2, 7]
    assert spread(list(range(3)), 8) == [0, 1, 2]
    assert working_size((2000, 1000), 1024) == (1024, 512)
    assert working_size((100, 60), 1024) == (96, 48)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (BlockSettings(panels="abx"), "names no panels"),
        (BlockSettings(timesteps=(0.0,)), "timestep 0 is none"),
        (BlockSettings(timesteps=()), "0 timesteps"),
        (BlockSettings(side=8), "side of 8 pixels"),
    ],
)
def test_settings_out_of_range_are_told(settings: BlockSettings, part: str) -> None:
    with pytest.raises(InputError, match=part):
        settings.check()


def test_a_scene_without_a_truth_is_told(tiny_klein: Path, tmp_path: Path) -> None:
    wild = make_scenes(tmp_path / "wild", ("ant",), truth=False)
    with pytest.raises(InputError, match="The scene 'ant' has no HRGT"):
        make_blocks(read_scenes(wild).items, Folders(tiny_klein, None), [tmp_path / "f.png"], SETTINGS)
