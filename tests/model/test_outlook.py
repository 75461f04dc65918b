"""What a viewer is shown while the model denoises: where it is heading, while the result stays what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from refgc.flux.speed import SpeedOptions
from refgc.imaging.image import Image, Mask
from refgc.model import outlook, weights
from refgc.model.engine import DiffusionEngine
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.loading import Sources
from refgc.model.outlook import LARGEST_SIDE, decode_reduced, predictions
from refgc.model.pipeline import RefGCSR2Pipeline, Settings
from refgc.request import RefineRequest
from tests.support.synthetic import SyntheticPair
from tests.support.tiny_freqmole import teach
from tests.support.tiny_models import tiny_transformer, tiny_vae

SIX_STEPS = Settings(height=64, width=64, num_inference_steps=6)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    weights.save(teach(inject(tiny_transformer(), FreqMoLEConfig(rank=2, reference_cache=True))), folder)
    return folder


@pytest.fixture(params=["experts", "stock"])
def engine(tiny_base: Path, adapter: Path, request: pytest.FixtureRequest) -> DiffusionEngine:
    named = str(adapter) if request.param == "experts" else None
    settings = SIX_STEPS if named else replace(SIX_STEPS, noise=1.0)
    return DiffusionEngine(Sources(str(tiny_base), named), SpeedOptions(), device="cpu", settings=settings)


@pytest.fixture(scope="module")
def asked(synthetic_pair: SyntheticPair) -> RefineRequest:
    reference, generated = Image(synthetic_pair.reference), Image(synthetic_pair.generated)
    return RefineRequest(
        reference,
        generated,
        scale=4,
        reference_mask=middle_of(reference),
        generated_mask=middle_of(generated),
        seed=3,
    )


def middle_of(image: Image) -> Mask:
    width, height = image.size
    values = np.zeros((height, width), np.float32)
    values[height // 3 : -height // 3, width // 3 : -width // 3] = 1.0
    return Mask(values)


def seen(engine: DiffusionEngine, asked: RefineRequest) -> tuple[np.ndarray, list[tuple[str, Image]]]:
    pictures: list[tuple[str, Image]] = []
    result = engine.refine(asked, viewer=lambda stage, picture: pictures.append((stage, picture)))
    return result.image.pixels, pictures


def test_every_other_step_is_shown_and_the_result_is_the_same(engine: DiffusionEngine, asked: RefineRequest) -> None:
    unseen = engine.refine(asked).image.pixels
    result, pictures = seen(engine, asked)
    assert np.array_equal(result, unseen)
    assert [stage for stage, _ in pictures] == ["upscaled", "denoising", "denoising", "denoising"]
    width, height = asked.generated.size
    scale = max(scale for scale in (1, 2, 4) if scale * max(width, height) <= LARGEST_SIDE)
    assert {picture.size for stage, picture in pictures if stage == "denoising"} == {(width * scale, height * scale)}


def test_only_the_window_changes_from_picture_to_picture(
    engine: DiffusionEngine, asked: RefineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "LARGEST_SIDE", 1)
    _, pictures = seen(engine, asked)
    first, *_, last = (picture.pixels.astype(int) for stage, picture in pictures if stage == "denoising")
    assert first.shape[:2] == asked.generated.pixels.shape[:2]
    changed = np.abs(last - first).max(axis=2) > 0
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert 0 < len(rows) < 0.8 * first.shape[0]
    assert 0 < len(columns) < 0.8 * first.shape[1]


def test_a_viewer_may_stop_it(engine: DiffusionEngine, asked: RefineRequest) -> None:
    def stop(stage: str, picture: Image) -> None:
        if stage == "denoising":
            raise KeyError("enough seen")

    with pytest.raises(KeyError, match="enough seen"):
        engine.refine(asked, viewer=stop)
    assert engine.refine(asked).report.placed


def test_nothing_listens_when_nobody_looks_on(
    engine: DiffusionEngine, asked: RefineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("made for nobody")

    monkeypatch.setattr("refgc.model.pipeline.predictions", forbidden)
    monkeypatch.setattr("refgc.model.pipeline.Outlook", forbidden)
    assert engine.refine(asked).report.placed
    assert engine._room.resident is not None
    assert not engine._room.resident.pipeline.transformer._forward_hooks


def test_the_prediction_is_where_the_velocity_leads(tiny_base: Path, asked: RefineRequest) -> None:
    """At the schedule's last step sigma comes to 0, so that what it predicts is what it draws."""
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base)
    pipeline.set_progress_bar_config(disable=True)
    predicted: list[torch.Tensor] = []
    with predictions(pipeline.transformer, 16) as newest:
        (latents,) = pipeline(
            asked.reference.pixels,
            asked.generated.pixels,
            height=64,
            width=64,
            num_inference_steps=3,
            reference_mask=asked.reference_mask.values if asked.reference_mask else None,
            generated_mask=asked.generated_mask.values if asked.generated_mask else None,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            return_dict=False,
        )
        predicted.extend(newest)
    assert isinstance(latents, torch.Tensor)
    assert torch.allclose(predicted[0], latents, atol=1e-4)


def test_latents_are_decoded_at_half_the_size() -> None:
    vae = tiny_vae()
    picture = decode_reduced(vae, torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0)))
    assert picture.shape == (32, 48, 3)
    assert picture.dtype == np.uint8
    assert decode_reduced(vae, torch.full((1, 4, 8, 12), torch.nan)).shape == (32, 48, 3)
