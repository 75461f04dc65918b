"""Each architecture without an adapter draws what the pipeline of diffusers draws from the same weights and inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinKVPipeline, Flux2KleinPipeline, FluxKontextPipeline
from PIL import Image as PILImage
from torch import Tensor

from refgc.engine import no_progress
from refgc.flux.instruction import prompt_for
from refgc.model.backbones.klein import Klein
from refgc.model.inputs import Inputs, prepare_inputs
from refgc.model.pipeline import RefGCSR2KleinPipeline, RefGCSR2Pipeline
from refgc.model.settings import DenoisingSettings
from refgc.model.tokens import HRRI, LRGI, NOISE, conditions, pack, position_ids
from refgc.request import RefineRequest

SIZE: dict[str, Any] = {"height": 64, "width": 96}
AS_DRAWN: dict[str, Any] = {"together": False, "checks_drift": False}


@pytest.fixture(scope="module")
def inputs(request_: RefineRequest) -> Inputs:
    return prepare_inputs(request_, DenoisingSettings(**SIZE), no_progress)


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(seed: int = 3) -> Tensor:
    """As our pipelines draw it: one value for each latent, before they are packed."""
    return torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed))


def ours(pipeline: Any, request: RefineRequest, **options: Any) -> np.ndarray:
    settings = DenoisingSettings(**SIZE, **AS_DRAWN, generator=torch.Generator().manual_seed(3), **options)
    drawn: np.ndarray = quiet(pipeline).refine(request, settings).stages["redrawn"]
    return drawn.astype(int)


def pictures_of(inputs: Inputs) -> list[PILImage.Image]:
    return [PILImage.fromarray(picture) for picture in (inputs.reference, inputs.generated)]


def levels(drawn: Tensor) -> np.ndarray:
    return np.asarray((drawn[0].movedim(0, 2) * 255).round()).astype(int)


@pytest.mark.parametrize(("distilled", "steps"), [(True, None), (False, 3)])
def test_klein_draws_what_the_stock_pipeline_draws(
    tiny_klein: Path, tiny_klein_base: Path, request_: RefineRequest, inputs: Inputs, distilled: bool, steps: int | None
) -> None:
    folder = tiny_klein if distilled else tiny_klein_base
    stock = quiet(Flux2KleinPipeline.from_pretrained(folder))
    packed = pack(noise()).mT.reshape(1, 16, 4, 6)
    passes: list[int] = []
    stock.transformer.register_forward_pre_hook(lambda *_: passes.append(1))
    drawn = stock(
        pictures_of(inputs),
        prompt_for("mug"),
        latents=packed,
        num_inference_steps=steps or 4,
        guidance_scale=1.0 if distilled else 4.0,
        output_type="pt",
        **SIZE,
    ).images
    pipeline = RefGCSR2KleinPipeline.from_pretrained(folder)
    own_passes: list[int] = []
    pipeline.transformer.register_forward_pre_hook(lambda *_: own_passes.append(1))
    redrawn = ours(pipeline, request_, num_inference_steps=steps)
    assert np.abs(redrawn - levels(drawn)).max() <= 1
    assert redrawn.std() > 5
    assert len(own_passes) == len(passes) == (4 if distilled else 6)


def test_the_reference_cache_of_klein_is_that_of_diffusers(
    tiny_klein: Path, request_: RefineRequest, inputs: Inputs
) -> None:
    parts = Flux2KleinPipeline.from_pretrained(tiny_klein).components
    stock = quiet(Flux2KleinKVPipeline(**parts, is_distilled=True))
    drawn = stock(
        pictures_of(inputs),
        prompt_for("mug"),
        latents=pack(noise()).mT.reshape(1, 16, 4, 6),
        num_inference_steps=4,
        output_type="pt",
        **SIZE,
    ).images
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein)
    cached = ours(pipeline, request_, reference_cache=True)
    assert np.abs(cached - levels(drawn)).max() <= 1
    assert np.abs(cached - ours(pipeline, request_)).max() > 1, "without it the pictures attend to the noise as well"
    assert all(getattr(one, "key", None) is None for one in pipeline.transformer.attn_processors.values())


def test_a_model_that_is_not_distilled_is_asked_twice_a_step_unless_guidance_is_off(
    tiny_klein_base: Path, request_: RefineRequest
) -> None:
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein_base)
    asked: list[Tensor] = []
    pipeline.transformer.register_forward_pre_hook(
        lambda _module, _arguments, options: asked.append(options["encoder_hidden_states"]), with_kwargs=True
    )
    guided = ours(pipeline, request_, num_inference_steps=2)
    assert len(asked) == 4
    assert not torch.equal(asked[0], asked[1]), "the second pass is asked with an empty prompt"
    asked.clear()
    plain = ours(pipeline, request_, num_inference_steps=2, guidance_scale=1.0)
    assert len(asked) == 2
    assert np.abs(guided - plain).max() > 1
    assert pipeline.backbone.schedule(pipeline).steps == 50


def test_a_distilled_model_leaves_a_guidance_scale_aside(tiny_klein: Path, request_: RefineRequest) -> None:
    pipeline = RefGCSR2KleinPipeline.from_pretrained(tiny_klein)
    assert np.array_equal(ours(pipeline, request_, guidance_scale=4.0), ours(pipeline, request_))


class OneLoop(FluxKontextPipeline):  # type: ignore[misc] # diffusers declares no types
    """The stock loop with our tokens: it lays out one picture by itself, and we have two."""

    tokens: tuple[Tensor, Tensor, Tensor, Tensor]

    def prepare_latents(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.tokens


def test_kontext_draws_what_the_stock_loop_draws(tiny_base: Path, request_: RefineRequest, inputs: Inputs) -> None:
    stock = quiet(OneLoop.from_pretrained(tiny_base))

    def encoded(picture: np.ndarray) -> Tensor:
        unit = torch.from_numpy(picture).movedim(2, 0)[None].float() / 127.5 - 1
        latents: Tensor = stock._encode_vae_image(unit, None)
        return latents

    with torch.no_grad():
        given = conditions(encoded(inputs.reference), encoded(inputs.generated), over=(8, 12))
    stock.tokens = (pack(noise()), given.tokens, position_ids((8, 12), NOISE, device=torch.device("cpu")), given.ids)
    drawn = stock(prompt=prompt_for("mug"), output_type="pt", max_area=64 * 96, guidance_scale=2.5, **SIZE).images
    redrawn = ours(RefGCSR2Pipeline.from_pretrained(tiny_base), request_)
    assert np.abs(redrawn - levels(drawn)).max() <= 1
    assert redrawn.std() > 5


def test_klein_gives_each_token_the_position_that_diffusers_gives_it() -> None:
    noise_ids = Klein().positions((6, 8), NOISE, device=torch.device("cpu"))
    assert torch.equal(noise_ids, Flux2KleinPipeline._prepare_latent_ids(torch.zeros(1, 16, 3, 4))[0].float())
    given = Klein().conditions(torch.zeros(1, 4, 6, 8), torch.zeros(1, 4, 4, 6), over=(4, 6))
    stock = Flux2KleinPipeline._prepare_image_ids([torch.zeros(1, 16, 3, 4), torch.zeros(1, 16, 2, 3)])[0]
    assert torch.equal(given.ids, stock.float())
    compact = Klein().conditions(torch.zeros(1, 4, 6, 8), torch.zeros(1, 4, 4, 4), over=(8, 8))
    assert compact.ids[12].tolist() == [10 * LRGI, 0.5, 0.5, 0]
    assert compact.ids[0].tolist() == [10 * HRRI, 0, 0, 0]


def test_kleins_latents_are_normalised_by_its_batch_norm(tiny_klein: Path) -> None:
    pipeline = Flux2KleinPipeline.from_pretrained(tiny_klein)
    picture = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = Klein().encode(pipeline.vae, picture)
        stock = pipeline._pack_latents(pipeline._encode_vae_image(picture, None))
        back = Klein().to_vae(pipeline.vae, latents)
        mode = pipeline.vae.encode(picture).latent_dist.mode()
    assert torch.allclose(pack(latents), stock, atol=1e-6)
    assert torch.allclose(back, mode, atol=1e-5)
    assert not torch.allclose(latents, mode, atol=0.1)
