"""The pipeline end to end on the tiny model: layout of the tokens, schedule, window, options, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig, FluxKontextPipeline
from PIL import Image as PILImage
from torch import Tensor

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import no_progress
from refgc.errors import EngineError, InputError
from refgc.imaging.arrays import bicubic
from refgc.imaging.upscale import clean_upscale
from refgc.model import weights
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.inputs import prepare_inputs
from refgc.model.locate import content_area
from refgc.model.pipeline import RefGCSR2Pipeline
from refgc.model.settings import DenoisingSettings
from refgc.model.tokens import HRRI, LRGI, NOISE, pack, unpack
from refgc.request import make_request
from tests.support.synthetic import SyntheticPair

# What is tested here is what the model draws, whatever it is.
AS_DRAWN: dict[str, Any] = {"together": False, "checks_drift": False}
SMALL: dict[str, Any] = {"height": 64, "width": 96, "num_inference_steps": 4, **AS_DRAWN}
NOISE_TOKENS = (64 // 16) * (96 // 16)


class Watched:
    """Notes what the transformer is given."""

    def __init__(self, pipeline: RefGCSR2Pipeline) -> None:
        self.calls: list[dict[str, Any]] = []
        self.handle = pipeline.transformer.register_forward_pre_hook(
            lambda _module, _arguments, options: self.calls.append(options), with_kwargs=True
        )

    def __enter__(self) -> list[dict[str, Any]]:
        return self.calls

    def __exit__(self, *_) -> None:
        self.handle.remove()


@pytest.fixture
def pipeline(tiny_base) -> RefGCSR2Pipeline:
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pair(synthetic_pair: SyntheticPair) -> tuple[np.ndarray, np.ndarray]:
    return synthetic_pair.reference, synthetic_pair.generated


@pytest.fixture(scope="module")
def masks(pair) -> dict[str, np.ndarray]:
    """The object marked in both pictures, so that it need not be looked for, which takes longer than the tiny model."""
    marked = {}
    for name, picture in zip(("reference_mask", "generated_mask"), pair, strict=True):
        height, width = picture.shape[:2]
        mask = marked[name] = np.zeros((height, width), np.uint8)
        mask[height // 4 : -height // 4, width // 4 : -width // 4] = 255
    return marked


@pytest.fixture(scope="module")
def request_(pair, masks):
    return make_request(*pair, scale=2, seed=5, **masks)


def trained_adapter(pipeline: RefGCSR2Pipeline, folder, **config) -> None:
    """Writes experts that do something, as training would leave them."""
    freqmole = inject(pipeline.transformer, FreqMoLEConfig(rank=2, **config))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in freqmole.parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    weights.save(freqmole, folder)


def latents_of(pipeline: RefGCSR2Pipeline, pixels: np.ndarray) -> Tensor:
    """A picture as the transformer is to be given it, encoded by the VAE alone."""
    vae = pipeline.vae
    unit = torch.from_numpy(pixels).movedim(2, 0)[None].float() / 127.5 - 1
    latents: Tensor = vae.encode(unit).latent_dist.mode()
    scaled: Tensor = (latents - vae.config.shift_factor) * float(vae.config.scaling_factor)
    return scaled


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_result_is_exactly_scale_times_the_generated_picture(pipeline, pair, masks, scale):
    image = pipeline(*pair, scale=scale, **masks, **SMALL).images[0]
    height, width = pair[1].shape[:2]
    assert isinstance(image, PILImage.Image)
    assert image.size == (scale * width, scale * height)


def test_the_transformer_sees_noise_then_the_reference_then_the_generated_picture(pipeline, request_):
    with Watched(pipeline) as calls:
        refined = pipeline.refine(request_, DenoisingSettings(**SMALL))
    assert len(calls) == 4
    pictures, counts = calls[0]["img_ids"][:, 0].unique_consecutive(return_counts=True)
    reference_size = refined.windows.reference_size
    assert pictures.tolist() == [NOISE, HRRI, LRGI]
    assert counts.tolist() == [NOISE_TOKENS, reference_size[0] * reference_size[1] // 256, NOISE_TOKENS]
    hidden = calls[0]["hidden_states"]
    reference = latents_of(pipeline, refined.stages["reference"])
    generated = latents_of(pipeline, refined.stages["start"])
    assert torch.equal(hidden[:, NOISE_TOKENS : NOISE_TOKENS + counts[1]], pack(reference))
    assert torch.allclose(hidden[:, -NOISE_TOKENS:], pack(generated), atol=0.1)
    assert calls[0]["guidance"].tolist() == [2.5]
    assert all(torch.equal(call["hidden_states"][:, NOISE_TOKENS:], hidden[:, NOISE_TOKENS:]) for call in calls)


def test_all_of_the_schedule_starts_from_noise_alone(pipeline, request_):
    with Watched(pipeline) as calls:
        pipeline.refine(request_, DenoisingSettings(**SMALL, generator=torch.Generator().manual_seed(3)))
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    assert torch.equal(calls[0]["hidden_states"][:, :NOISE_TOKENS], pack(noise))
    assert calls[0]["timestep"].item() == 1.0


def test_part_of_the_schedule_starts_from_the_correspondence_engines_result(pipeline, request_):
    settings = DenoisingSettings(**SMALL, init="correspondence", noise=0.5, generator=torch.Generator().manual_seed(3))
    with Watched(pipeline) as calls:
        refined = pipeline.refine(request_, settings)
    assert len(calls) == 2
    assert np.array_equal(refined.stages["correspondence"], CorrespondenceEngine().refine(request_).image.pixels)
    sigma = calls[0]["timestep"].item()
    assert 0.4 < sigma < 0.9
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    start = latents_of(pipeline, refined.stages["start"])
    expected = pack((1 - sigma) * start + sigma * noise)
    assert torch.allclose(calls[0]["hidden_states"][:, :NOISE_TOKENS], expected, atol=1e-5)


def test_the_reference_cache_computes_the_conditions_once(pipeline, request_):
    with Watched(pipeline) as calls:
        refined = pipeline.refine(request_, DenoisingSettings(**SMALL, reference_cache=True))
    condition_tokens = NOISE_TOKENS + refined.windows.reference_size[0] * refined.windows.reference_size[1] // 256
    assert [call["hidden_states"].shape[1] for call in calls] == [condition_tokens] + [NOISE_TOKENS] * 4
    assert calls[0]["timestep"].item() == 0
    kept = [block.attn.processor.key for block in pipeline.transformer.transformer_blocks]
    assert kept == [None] * len(kept)
    whole = pipeline.refine(request_, DenoisingSettings(**SMALL))
    assert not np.array_equal(whole.stages["redrawn"], refined.stages["redrawn"])


def test_a_compact_generated_picture_has_a_quarter_of_the_tokens(pipeline, request_):
    with Watched(pipeline) as calls:
        pipeline.refine(request_, DenoisingSettings(**SMALL, compact_generated=True))
    ids = calls[0]["img_ids"]
    compact = ids[ids[:, 0] == LRGI]
    assert len(compact) == NOISE_TOKENS // 4
    assert compact[0].tolist() == [LRGI, 0.5, 0.5]


@pytest.mark.parametrize("option", ["reference_cache", "compact_generated"])
def test_what_the_experts_were_trained_with_is_the_default(tiny_base, tmp_path, request_, pipeline, option):
    trained_adapter(pipeline, tmp_path / "adapter", **{option: True})
    loaded = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=tmp_path / "adapter")
    with Watched(loaded) as calls:
        loaded.refine(request_, DenoisingSettings(**SMALL))
    with Watched(loaded) as otherwise:
        loaded.refine(request_, DenoisingSettings(**(SMALL | {option: False})))
    assert calls[-1]["hidden_states"].shape[1] < otherwise[-1]["hidden_states"].shape[1]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(pipeline, pair, masks):
    def drawn(seed: int) -> Any:
        return pipeline.refine(make_request(*pair, seed=seed, **masks), DenoisingSettings(**SMALL)).picture.tobytes()

    first = drawn(1)
    assert drawn(2) != first
    assert drawn(1) == first


def test_without_a_generator_every_call_draws_anew_and_torchs_own_seed_counts(pipeline, pair, masks):
    def tokens() -> Tensor:
        latents: Tensor = pipeline(*pair, output_type="latent", **masks, **SMALL).images
        return latents

    torch.manual_seed(4)
    first, second = tokens(), tokens()
    torch.manual_seed(4)
    assert torch.equal(tokens(), first)
    assert not torch.equal(second, first)


def test_pictures_reach_the_vae_to_a_quarter_of_a_grey_level_in_bfloat16(pipeline):
    pipeline.to(torch.bfloat16)
    given: list[Tensor] = []
    handle = pipeline.vae.encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    levels = np.arange(256, dtype=np.uint8).repeat(48).reshape(64, 64, 3)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    pipeline(
        levels[::-1].copy(),
        levels,
        reference_mask=mask,
        generated_mask=mask,
        scale=1,
        whole=True,
        height=64,
        width=64,
        num_inference_steps=1,
        **AS_DRAWN,
    )
    handle.remove()
    got = (given[0][0].movedim(0, 2).double() + 1) * 127.5
    assert np.abs(got.numpy() - levels).max() <= 0.25


def test_precise_embeddings_go_into_a_transformer_of_half_precision(pipeline, request_):
    embeds, pooled, _ = pipeline.encode_prompt("sharpen it", None)
    pipeline.to(torch.bfloat16)
    settings = DenoisingSettings(**SMALL, prompt_embeds=embeds, pooled_prompt_embeds=pooled)
    with Watched(pipeline) as calls:
        precise = pipeline.refine(request_, settings)
    assert {calls[0][name].dtype for name in ("hidden_states", "encoder_hidden_states")} == {torch.bfloat16}
    halved = replace(settings, prompt_embeds=embeds.bfloat16(), pooled_prompt_embeds=pooled.bfloat16())
    assert np.array_equal(pipeline.refine(request_, halved).picture, precise.picture)


def test_text_encoders_may_be_more_precise_than_the_transformer(pipeline, request_):
    pipeline.transformer.to(torch.bfloat16)
    with Watched(pipeline) as calls:
        pipeline.refine(request_, DenoisingSettings(**SMALL))
    assert {calls[0][name].dtype for name in ("hidden_states", "encoder_hidden_states")} == {torch.bfloat16}


def test_strength_zero_is_the_clean_upscale(pipeline, pair, masks):
    request = make_request(*pair, scale=2, strength=0, **masks)
    refined = pipeline.refine(request, DenoisingSettings(**SMALL))
    height, width = pair[1].shape[:2]
    assert np.array_equal(refined.picture, clean_upscale(request.generated.pixels, (2 * width, 2 * height)))
    assert not refined.share.any()


def test_only_the_object_is_redrawn_unless_the_whole_frame_is_asked_for(pipeline, pair):
    mask = np.zeros(pair[1].shape[:2], np.uint8)
    mask[30:50, 30:50] = 255
    request = make_request(*pair, scale=2, generated_mask=mask)
    refined = pipeline.refine(request, DenoisingSettings(**SMALL))
    changed = (refined.picture != refined.stages["upscaled"]).any(axis=2)
    assert changed[70:90, 70:90].mean() > 0.9
    assert not changed[:10].any()
    whole = pipeline.refine(make_request(*pair, scale=2), DenoisingSettings(**SMALL, whole=True))
    assert (whole.picture != whole.stages["upscaled"]).any(axis=2)[:10].mean() > 0.5


def test_settings_that_are_not_given_are_those_of_the_training(tiny_base, tmp_path, pair, monkeypatch):
    trained = FreqMoLEConfig(rank=2, guidance=1.5, whole=True, prompt="sharpen the {object}", enlargement="bicubic")
    weights.save(inject(RefGCSR2Pipeline.from_pretrained(tiny_base).transformer, trained), tmp_path)
    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    prompts: list[str] = []
    encode_prompt = pipeline.encode_prompt

    def listen(prompt: str | None, *rest: Any, **more: Any) -> Any:
        prompts.extend(filter(None, [prompt]))
        return encode_prompt(prompt, *rest, **more)

    monkeypatch.setattr(pipeline, "encode_prompt", listen)
    request = make_request(*pair, scale=2, object_name="red teapot")
    with Watched(pipeline) as calls:
        refined = pipeline.refine(request, DenoisingSettings(**SMALL))
        pipeline.refine(request, DenoisingSettings(**SMALL, guidance_scale=4.0, prompt="do it"))
    assert calls[0]["guidance"].tolist() == [1.5]
    assert calls[-1]["guidance"].tolist() == [4.0]
    assert prompts == ["sharpen the red teapot", "do it"]
    height, width = pair[1].shape[:2]
    assert refined.windows.generated_window == (0, 0, width, height)


def test_the_stock_model_is_asked_as_the_paper_asks(pipeline, pair, masks):
    with Watched(pipeline) as calls:
        pipeline(*pair, scale=2, **masks, **SMALL)
    assert calls[0]["guidance"].tolist() == [2.5]
    assert pipeline.prompt_for("cup") == (
        "use the cup in IMG1 as a reference to refine, replace, enhance the cup in IMG2"
    )


@pytest.mark.parametrize("enlargement", ["bicubic", "clean"])
def test_the_generated_picture_is_enlarged_as_in_training(pair, masks, enlargement):
    request = make_request(*pair, scale=2, **masks)
    settings = DenoisingSettings(height=160, width=160, enlargement=enlargement)
    inputs = prepare_inputs(request, settings, no_progress)
    left, top, right, bottom = inputs.windows.generated_window
    area = content_area(inputs.windows.generated_window, inputs.windows.working_size)
    enlarge = {"bicubic": bicubic, "clean": clean_upscale}[enlargement]
    expected = enlarge(request.generated.pixels[top:bottom, left:right], area.size)
    assert np.array_equal(area.of(inputs.generated), expected)


def test_output_types(pipeline, pair, masks):
    def output(output_type: str):
        return pipeline(
            *pair, scale=2, generator=torch.Generator().manual_seed(1), output_type=output_type, **masks, **SMALL
        )

    height, width = (2 * side for side in pair[1].shape[:2])
    image = np.asarray(output("pil").images[0])
    floats = output("np").images
    assert floats.shape == (1, height, width, 3)
    assert np.array_equal((floats[0] * 255).round().astype(np.uint8), image)
    tensor = output("pt").images
    assert tensor.shape == (1, 3, height, width)
    assert torch.equal(tensor[0].movedim(0, 2), torch.from_numpy(floats[0]))
    tokens = output("latent").images
    assert unpack(tokens, 8, 12).shape == (1, 4, 8, 12)
    assert len(pipeline(*pair, return_dict=False, **masks, **SMALL)) == 1


def test_the_callback_sees_every_step_and_may_change_the_latents(pipeline, pair, masks):
    steps: list[int] = []

    def blank(pipeline, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    tokens = pipeline(*pair, callback_on_step_end=blank, output_type="latent", **masks, **SMALL).images
    assert steps == [0, 1, 2, 3]
    assert not tokens.any()


def test_progress_names_the_stages_and_never_goes_back(pipeline, request_):
    told: list[tuple[str, float]] = []
    pipeline.refine(
        request_,
        DenoisingSettings(**SMALL, init="correspondence"),
        lambda stage, fraction: told.append((stage, fraction)),
    )
    assert list(dict.fromkeys(stage for stage, _ in told)) == [
        "reading the prompt",
        "finding the object",
        "placing the reference",
        "encoding the pictures",
        "denoising",
        "decoding",
        "putting it back",
    ]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1


def test_the_prompt_is_the_papers_unless_one_is_given(pipeline, pair, masks):
    prompts: list[str] = []
    encode = pipeline.encode_prompt

    def noting(prompt, *arguments, **options):
        if prompt is not None:
            prompts.append(prompt)
        return encode(prompt, *arguments, **options)

    pipeline.encode_prompt = noting
    pipeline(*pair, object_name="red mug", **masks, **SMALL)
    pipeline(*pair, "Sharpen it.", **masks, **SMALL)
    assert prompts == [
        "use the red mug in IMG1 as a reference to refine, replace, enhance the red mug in IMG2",
        "Sharpen it.",
    ]


def test_given_embeddings_need_no_text_encoders(pipeline, request_):
    with torch.no_grad():
        embeds, pooled, _ = pipeline.encode_prompt("a mug", None)
    expected = pipeline.refine(request_, DenoisingSettings(prompt="a mug", **SMALL)).picture
    pipeline.text_encoder = pipeline.text_encoder_2 = None
    with pytest.raises(InputError, match="no text encoders"):
        pipeline.refine(request_, DenoisingSettings(prompt="a mug", **SMALL))
    refined = pipeline.refine(request_, DenoisingSettings(prompt_embeds=embeds, pooled_prompt_embeds=pooled, **SMALL))
    assert np.array_equal(refined.picture, expected)


def test_experts_change_the_result_and_fused_ones_change_it_alike(tiny_base, tmp_path, pipeline, request_):
    stock = pipeline.refine(request_, DenoisingSettings(**SMALL)).stages["redrawn"].astype(int)
    trained_adapter(pipeline, tmp_path / "adapter")
    loaded = RefGCSR2Pipeline.from_pretrained(tiny_base, adapter=tmp_path / "adapter")
    refined = loaded.refine(request_, DenoisingSettings(**SMALL)).stages["redrawn"].astype(int)
    assert np.abs(refined - stock).mean() > 1
    for holder in (loaded, RefGCSR2Pipeline(**loaded.components)):
        with pytest.raises(EngineError, match=r"fuse\(\)"):
            holder.save_pretrained(tmp_path / "refused")
    assert loaded.freqmole is not None
    loaded.freqmole.fuse()
    fused = loaded.refine(request_, DenoisingSettings(**SMALL)).stages["redrawn"].astype(int)
    assert np.abs(fused - refined).max() <= 1
    loaded.save_pretrained(tmp_path / "whole")
    reloaded = DiffusionPipeline.from_pretrained(tmp_path / "whole")
    assert type(reloaded) is FluxKontextPipeline
    for name, tensor in loaded.transformer.state_dict().items():
        assert torch.equal(reloaded.transformer.state_dict()[name], tensor)


@pytest.mark.parametrize("reference_cache", [False, True])
def test_a_cancelled_run_leaves_nothing_behind(pipeline, request_, reference_cache):
    # So high that all steps but the first reuse what the one before has left.
    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=100.0))
    settings = DenoisingSettings(**SMALL, reference_cache=reference_cache)
    expected = pipeline.refine(request_, settings).picture

    def cancel(stage: str, fraction: float) -> None:
        if stage == "denoising" and fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.refine(request_, settings, cancel)
    kept = [getattr(block.attn.processor, "key", None) for block in pipeline.transformer.transformer_blocks]
    assert kept == [None] * len(kept)
    assert np.array_equal(pipeline.refine(request_, settings).picture, expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"height": 60, "width": 64}, "multiples of 16"),
        ({"height": 64}, "both or neither"),
        ({"height": 0, "width": 0}, "multiples of 16"),
        ({"prompt_embeds": torch.zeros(1, 3, 32)}, "both prompt_embeds and pooled_prompt_embeds"),
        ({"prompt_embeds": torch.zeros(2, 3, 32), "pooled_prompt_embeds": torch.zeros(1, 24)}, r"\(1, tokens, 32\)"),
        ({"prompt_embeds": torch.zeros(1, 3, 31), "pooled_prompt_embeds": torch.zeros(1, 24)}, r"\(1, tokens, 32\)"),
        ({"prompt_embeds": torch.zeros(1, 3, 32), "pooled_prompt_embeds": torch.zeros(24)}, r"\(1, 24\)"),
        ({"num_inference_steps": 0}, "1 or more"),
        ({"num_inference_steps": 2.5}, "whole number"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"guidance_scale": -1.0}, "guidance scale is -1"),
        ({"init": "nothing"}, "generated or correspondence"),
        ({"noise": 0.0}, "above 0"),
        ({"noise": 1.5}, "at most 1"),
        ({"output_type": "jpeg"}, "pil, np, pt, latent"),
        ({"prompt": "long " * 300}, "512"),
        ({"scale": 3}, "choose 1, 2 or 4"),
    ],
)
def test_bad_options_end_with_one_sentence(pipeline, pair, options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        pipeline(*pair, **options)
    assert "\n" not in str(caught.value)


def test_weights_that_give_no_colours_are_an_error_and_no_picture(pipeline, request_):
    with torch.no_grad():
        pipeline.transformer.proj_out.weight.fill_(torch.nan)
    with pytest.raises(EngineError, match="finite"):
        pipeline.refine(request_, DenoisingSettings(**SMALL))
