"""Intermediate pictures for a viewer: the predicted picture, while the result stays the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refgc.flux.speed import SpeedOptions
from refgc.imaging.image import Image, Mask
from refgc.model import loading, weights
from refgc.model.backbones.base import Backbone
from refgc.model.backbones.klein import Klein
from refgc.model.backbones.kontext import Kontext
from refgc.model.engine import DiffusionEngine
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.loading import Sources
from refgc.model.locate import locate
from refgc.model.prediction_preview import MAX_SIDE, PredictionPreview, decode_reduced
from refgc.model.settings import DenoisingSettings
from refgc.request import RefineRequest
from tests.support.synthetic import SyntheticPair
from tests.support.tiny_freqmole import teach
from tests.support.tiny_klein import tiny_klein_vae
from tests.support.tiny_models import tiny_transformer, tiny_vae

SIX_STEPS = DenoisingSettings(height=64, width=64, num_inference_steps=6, together=False, checks_drift=False)


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
    scale = max(scale for scale in (1, 2, 4) if scale * max(width, height) <= MAX_SIDE)
    assert {picture.size for stage, picture in pictures if stage == "denoising"} == {(width * scale, height * scale)}


def test_a_preview_is_no_larger_than_asked_for(asked: RefineRequest) -> None:
    pictures: list[Image] = []
    width, height = asked.generated.size
    for max_side in (1, 2 * max(width, height)):
        preview = PredictionPreview(
            lambda _, picture: pictures.append(picture),
            asked,
            locate(asked, working_size=(64, 64)),
            Kontext(),
            max_side=max_side,
        )
        preview.show(0, torch.zeros(1, 16, 16), tiny_vae())
        preview.show(1, torch.zeros(1, 16, 16), tiny_vae())
    assert [picture.size for picture in pictures] == [(width, height), (2 * width, 2 * height)]


def test_only_the_window_changes_from_picture_to_picture(engine: DiffusionEngine, asked: RefineRequest) -> None:
    _, pictures = seen(engine, asked)
    first, *_, last = (picture.pixels.astype(int) for stage, picture in pictures if stage == "denoising")
    changed = np.abs(last - first).max(axis=2) > 0
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert 0 < len(rows) < 0.8 * first.shape[0]
    assert 0 < len(columns) < 0.8 * first.shape[1]


def test_a_viewer_may_stop_it(engine: DiffusionEngine, asked: RefineRequest) -> None:
    def stop(stage: str, _: object) -> None:
        if stage == "denoising":
            raise KeyError("enough seen")

    with pytest.raises(KeyError, match="enough seen"):
        engine.refine(asked, viewer=stop)
    assert engine.refine(asked).report.placed


@pytest.mark.parametrize("kind", ["tiny_base", "tiny_klein", "tiny_klein_base"])
def test_the_prediction_is_where_the_velocity_leads(
    kind: str, request: pytest.FixtureRequest, asked: RefineRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the schedule's last step sigma comes to 0, so that what it predicts is what it draws."""
    base = request.getfixturevalue(kind)
    pipeline = loading.pipeline_class(base).from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    predicted: list[torch.Tensor] = []
    monkeypatch.setattr(PredictionPreview, "show", lambda _self, _step, prediction, _vae: predicted.append(prediction))
    latents: list[torch.Tensor] = []

    def keep(pipeline: object, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        latents.append(tensors["latents"])
        return tensors

    settings = replace(SIX_STEPS, num_inference_steps=40, callback_on_step_end=keep)
    pipeline.refine(asked, settings, viewer=lambda stage, picture: None)
    assert len(predicted) == len(latents) - 1
    last = (predicted[-1] - latents[-1]).norm() / latents[-1].norm()
    first = (predicted[0] - latents[-1]).norm() / latents[-1].norm()
    assert last < 0.05
    assert last < first / 3


@pytest.mark.parametrize(("backbone", "vae"), [(Kontext(), tiny_vae()), (Klein(), tiny_klein_vae())])
def test_latents_are_decoded_at_half_the_size(backbone: Backbone, vae: Any) -> None:
    picture = decode_reduced(backbone, vae, torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0)))
    assert picture.shape == (32, 48, 3)
    assert picture.dtype == np.uint8
    assert decode_reduced(backbone, vae, torch.full((1, 4, 8, 12), torch.nan)).shape == (32, 48, 3)
