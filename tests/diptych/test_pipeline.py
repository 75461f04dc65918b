"""The diptych pipeline end to end on tiny models: what its ControlNets see, how they add up, LoRA, and refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetModel, FluxControlNetPipeline, FluxMultiControlNetModel
from diffusers.image_processor import VaeImageProcessor
from peft import LoraConfig, get_peft_model
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file

from refgc.diptych import loras
from refgc.diptych.conditions import right_panel
from refgc.diptych.controlnets import ControlNets, Given
from refgc.diptych.pipeline import DipRefGCPipeline
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.settings import DrawingSettings
from refgc.errors import EngineError, InputError, RefGCError
from refgc.flux.prompts import PromptEmbeddings
from refgc.model.tokens import pack
from tests.support.safetensors_files import GIGABYTE, make_sparse, opened_files, turn_into_pickle
from tests.support.tiny_diptych import (
    PANEL,
    TARGETS,
    add_lora,
    change_config,
    save_controlnet,
    save_lora,
    tiny_canny,
    tiny_controlnet,
    tiny_diptych,
    tiny_inpainting,
    watched,
)
from tests.support.tiny_models import LATENT_CHANNELS, POOLED_WIDTH, TEXT_WIDTH, tiny_transformer

STEPS = 2
TOKENS = 2 * PANEL[0] * PANEL[1] // 256
CHANNELS = 4 * LATENT_CHANNELS
# Of fewer tokens than a prompt has, which makes all the difference in time.
WORDS = PromptEmbeddings(
    torch.linspace(-1, 1, 4 * TEXT_WIDTH).reshape(1, 4, -1), torch.linspace(-1, 1, POOLED_WIDTH)[None]
)
LORA_FILE = "pytorch_lora_weights.safetensors"


@cache
def shared_parts(base: Path) -> dict[str, Any]:
    """The base's networks, which no test may change, and no text encoders: tests that draw give `WORDS`."""
    pipeline = FluxControlNetPipeline.from_pretrained(base, controlnet=None, text_encoder=None, text_encoder_2=None)
    unused = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    return {"transformer": pipeline.transformer, "vae": pipeline.vae, **unused}


def load_pipeline(parts, inpainting=None, canny=None, *, whole: bool = False, **options: Any) -> DipRefGCPipeline:
    """A pipeline with ControlNets of its own; `whole` reads all other parts from the files as well."""
    pipeline = DipRefGCPipeline.from_pretrained(
        parts / "base",
        inpainting or parts / "inpainting",
        canny or parts / "canny",
        **({} if whole else shared_parts(parts / "base")),
        **options,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: DipRefGCPipeline, diptych=None, seed: int = 1, **settings: Any) -> np.ndarray:
    settings = {"num_inference_steps": STEPS, "controlnet_conditioning_scale": 1.0, **settings}
    generator = torch.Generator().manual_seed(seed)
    return pipeline.draw(diptych or tiny_diptych(), WORDS, DrawingSettings(generator=generator, **settings)).diptych


@pytest.fixture(scope="module")
def pipeline(tiny_parts) -> DipRefGCPipeline:
    """Not to be changed."""
    return load_pipeline(tiny_parts, whole=True)


@pytest.mark.parametrize("scene", [PANEL, (100, 100)])
def test_the_result_is_the_scenes_part_of_the_right_panel(pipeline, scene):
    diptych = tiny_diptych(scene=scene)
    drawn = pipeline.draw(diptych, WORDS, DrawingSettings(num_inference_steps=1))
    assert drawn.diptych.shape == (PANEL[1], 2 * PANEL[0], 3)
    assert drawn.generated.shape[1::-1] == diptych.panels.scene_target.size
    assert np.array_equal(drawn.generated, right_panel(drawn.diptych, diptych.panels))
    assert drawn.generated.std() > 5


def test_output_types(pipeline):
    def output(output_type: str):
        generator = torch.Generator().manual_seed(1)
        return pipeline(tiny_diptych(), num_inference_steps=1, generator=generator, output_type=output_type)

    width, height = PANEL
    image = output("pil").images[0]
    assert isinstance(image, PILImage.Image)
    assert np.array_equal(np.asarray(image), output("pil").drawn.generated)
    floats = output("np").images
    assert floats.shape == (1, height, width, 3)
    assert np.array_equal((floats[0] * 255).round(), np.asarray(image))
    tensor = output("pt").images
    assert tensor.shape == (1, 3, height, width)
    assert np.allclose(tensor[0].movedim(0, 2).numpy(), floats[0])
    assert output("latent").images.shape == (1, TOKENS, CHANNELS)
    generator = torch.Generator().manual_seed(1)
    (images,) = pipeline(tiny_diptych(), num_inference_steps=1, generator=generator, return_dict=False)
    assert np.array_equal(np.asarray(images[0]), np.asarray(image))


def test_the_inpainting_controlnet_sees_the_picture_and_the_mask_and_the_canny_one_the_edges(pipeline):
    diptych = tiny_diptych()
    with watched(pipeline.controlnet.inpainting) as inpainting, watched(pipeline.controlnet.canny) as canny:
        draw(pipeline, diptych, seed=5)
    assert len(inpainting) == len(canny) == STEPS
    assert inpainting[0]["controlnet_cond"].shape == (1, TOKENS, CHANNELS + 4)
    assert canny[0]["controlnet_cond"].shape == (1, TOKENS, CHANNELS)

    generator = torch.Generator().manual_seed(5)

    def tokens(pixels: np.ndarray) -> torch.Tensor:
        unit = VaeImageProcessor().preprocess(PILImage.fromarray(pixels))
        latents = pipeline.vae.encode(unit).latent_dist.sample(generator)
        return pack((latents - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor)

    picture, edges = tokens(diptych.picture), tokens(np.stack([diptych.edges] * 3, axis=2))
    assert torch.allclose(inpainting[0]["controlnet_cond"][..., :CHANNELS], picture, atol=1e-4)
    assert torch.allclose(canny[0]["controlnet_cond"], edges, atol=1e-4)
    noise = torch.randn(1, LATENT_CHANNELS, PANEL[1] // 8, 2 * PANEL[0] // 8, generator=generator)
    assert torch.equal(canny[0]["hidden_states"], pack(noise))


def test_the_mask_is_one_where_the_picture_is_known_and_zero_where_it_is_drawn(pipeline):
    diptych = tiny_diptych()
    with watched(pipeline.controlnet.inpainting) as calls:
        draw(pipeline, diptych)
    mask = calls[0]["controlnet_cond"][0, :, CHANNELS:]
    columns = 2 * PANEL[0] // 16
    for token in range(TOKENS):
        row, column = divmod(token, columns)
        pixels = [diptych.mask[16 * row + y, 16 * column + x] for y in (0, 8) for x in (0, 8)]
        assert mask[token].tolist() == [float(pixel < 128) for pixel in pixels]
    assert mask.reshape(-1, columns, 4)[:, : columns // 2].all()
    assert not mask.all()


def test_an_inpainting_controlnet_without_mask_channels_is_given_the_picture_alone(tiny_parts, tmp_path):
    folder = save_controlnet(tiny_inpainting(extra_condition_channels=0), tmp_path / "plain")
    plain = load_pipeline(tiny_parts, inpainting=folder)
    with watched(plain.controlnet.inpainting) as calls:
        draw(plain)
    assert calls[0]["controlnet_cond"].shape == (1, TOKENS, CHANNELS)


@pytest.mark.parametrize(
    ("change", "scales"),
    [("picture", (1.0, 0.0)), ("mask", (1.0, 0.0)), ("edges", (0.0, 1.0))],
)
def test_each_condition_reaches_the_picture_through_its_own_controlnet(pipeline, change, scales):
    diptych = tiny_diptych()
    condition = getattr(diptych, change).copy()
    condition[8:40, -48:-8] = 255 - condition[8:40, -48:-8]
    changed = replace(diptych, **{change: condition})
    both, alone, other = (1.0, 1.0), scales, scales[::-1]
    for leading in (both, alone):
        first = draw(pipeline, diptych, controlnet_conditioning_scale=leading)
        second = draw(pipeline, changed, controlnet_conditioning_scale=leading)
        assert not np.array_equal(first, second)
    first = draw(pipeline, diptych, controlnet_conditioning_scale=other)
    second = draw(pipeline, changed, controlnet_conditioning_scale=other)
    assert np.array_equal(first, second)


def without_chance(pipeline: FluxControlNetPipeline) -> None:
    """Lets the VAE give the mean of its latents, so that who drew first from the generator makes no difference."""
    out = pipeline.vae.encoder.conv_out
    with torch.no_grad():
        out.weight[LATENT_CHANNELS:] = 0
        out.bias[LATENT_CHANNELS:] = -30


def drawn_by_diffusers(parts, controlnet, images: list[np.ndarray], noise: torch.Tensor, **options: Any) -> np.ndarray:
    """What diffusers' own pipeline draws with these ControlNets."""
    stock = FluxControlNetPipeline.from_pretrained(parts / "base", controlnet=controlnet)
    stock.set_progress_bar_config(disable=True)
    without_chance(stock)
    pictures = [PILImage.fromarray(image) for image in images]
    drawn = stock(
        prompt_embeds=WORDS.tokens,
        pooled_prompt_embeds=WORDS.pooled,
        control_image=pictures if len(pictures) > 1 else pictures[0],
        height=PANEL[1],
        width=2 * PANEL[0],
        num_inference_steps=STEPS,
        guidance_scale=3.5,
        latents=noise,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    return np.asarray(drawn.images[0])


def test_scale_zero_equals_leaving_the_controlnet_out(tiny_parts):
    own = load_pipeline(tiny_parts, whole=True)
    without_chance(own)
    diptych = tiny_diptych()
    with watched(own.controlnet.inpainting) as inpainting, watched(own.controlnet.canny) as canny:
        result = draw(own, diptych, controlnet_conditioning_scale=(0.0, 0.8))
    assert not inpainting
    alone = FluxControlNetModel.from_pretrained(tiny_parts / "canny")
    edges = np.stack([diptych.edges] * 3, axis=2)
    expected = drawn_by_diffusers(
        tiny_parts, alone, [edges], canny[0]["hidden_states"], controlnet_conditioning_scale=0.8
    )
    assert np.abs(result.astype(int) - expected).max() <= 1
    neither = draw(own, diptych, controlnet_conditioning_scale=0.0)
    assert np.abs(neither.astype(int) - expected).max() > 5


def test_two_controlnets_of_as_many_blocks_do_as_in_diffusers(tiny_parts, tmp_path):
    folder = save_controlnet(tiny_controlnet(4, 1, 2), tmp_path / "plain")
    own = load_pipeline(tiny_parts, inpainting=folder, whole=True)
    without_chance(own)
    diptych = tiny_diptych()
    options: dict[str, Any] = {
        "controlnet_conditioning_scale": [0.9, 0.5],
        "control_guidance_start": [0.0, 0.5],
        "control_guidance_end": [1.0, 1.0],
    }
    with watched(own.transformer) as calls:
        pairs: dict[str, Any] = {name: tuple(pair) for name, pair in options.items()}
        result = draw(own, diptych, **pairs)
    stock = FluxMultiControlNetModel(
        [FluxControlNetModel.from_pretrained(part) for part in (folder, tiny_parts / "canny")]
    )
    images = [diptych.picture, np.stack([diptych.edges] * 3, axis=2)]
    expected = drawn_by_diffusers(tiny_parts, stock, images, calls[0]["hidden_states"], **options)
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("inpainting_blocks", "canny_blocks"), [((2, 0), (1, 2)), ((3, 1), (2, 3)), ((5, 4), (1, 0)), ((1, 0), (2, 0))]
)
def test_controlnets_with_other_numbers_of_blocks_add_up_at_each_block(inpainting_blocks, canny_blocks):
    transformer = tiny_transformer(double_blocks=5, single_blocks=4)
    nets = tiny_controlnet(1, *inpainting_blocks, guidance_embeds=False), tiny_controlnet(2, *canny_blocks)
    both = ControlNets(*nets, transformer)
    both.given = Given(torch.zeros(1, 6, 0), torch.tensor([3.5]))
    random = torch.Generator().manual_seed(0)
    conditions = [torch.randn(1, 6, CHANNELS, generator=random) for _ in nets]
    given = {
        "hidden_states": torch.randn(1, 6, CHANNELS, generator=random),
        "encoder_hidden_states": torch.randn(1, 3, 32, generator=random),
        "pooled_projections": torch.randn(1, 24, generator=random),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(6, 3),
        "txt_ids": torch.zeros(3, 3),
        "return_dict": False,
    }
    with torch.no_grad():
        sums = both(
            controlnet_cond=conditions, controlnet_mode=[torch.tensor([-1])] * 2, conditioning_scale=[0.5, 2.0], **given
        )
        parts = [
            net(
                controlnet_cond=condition,
                conditioning_scale=scale,
                guidance=torch.tensor([3.5]) if net.config.guidance_embeds else None,
                **given,
            )
            for net, condition, scale in zip(nets, conditions, (0.5, 2.0), strict=True)
        ]
    for kind, blocks in enumerate((5, 4)):
        own = [part[kind] for part in parts if part[kind]]
        if not own:
            assert sums[kind] is None
            continue
        assert len(sums[kind]) == blocks
        for block, at_block in enumerate(sums[kind]):
            expected = sum(samples[block // ceil(blocks / len(samples))] for samples in own)
            assert torch.allclose(at_block, expected, atol=1e-5)


def test_a_controlnet_leads_from_its_start_to_its_end(pipeline):
    with watched(pipeline.controlnet.inpainting) as inpainting, watched(pipeline.controlnet.canny) as canny:
        draw(pipeline, num_inference_steps=4, control_guidance_start=(0.0, 0.25), control_guidance_end=(0.5, 1.0))
    assert (len(inpainting), len(canny)) == (2, 3)
    assert [call["timestep"].item() for call in inpainting] > [call["timestep"].item() for call in canny[-2:]]


def test_a_union_controlnet_is_told_that_it_sees_edges(tiny_parts, tmp_path):
    union = load_pipeline(tiny_parts, canny=save_controlnet(tiny_canny(num_mode=7), tmp_path / "union"))
    with watched(union.controlnet.canny) as calls:
        draw(union)
    assert calls[0]["controlnet_mode"].tolist() == [[0]]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(pipeline):
    first = draw(pipeline, seed=1).tobytes()
    assert draw(pipeline, seed=2).tobytes() != first
    assert draw(pipeline, seed=1).tobytes() == first


def test_the_guidance_scale_reaches_transformer_and_controlnets(pipeline):
    with watched(pipeline.transformer) as transformer, watched(pipeline.controlnet.canny) as canny:
        first = draw(pipeline, guidance_scale=2.0)
    assert transformer[0]["guidance"].tolist() == canny[0]["guidance"].tolist() == [2.0]
    assert not np.array_equal(first, draw(pipeline, guidance_scale=6.0))


def test_the_prompt_is_the_papers_unless_one_is_given(pipeline, monkeypatch):
    prompts: list[str] = []
    encode = pipeline.encode_prompt

    def noting(prompt, *arguments, **options):
        if prompt is not None:
            prompts.append(prompt)
        return encode(prompt, *arguments, **options)

    monkeypatch.setattr(pipeline, "encode_prompt", noting)
    pipeline(tiny_diptych(), object_name="mug", caption="a red mug with {braces}.", num_inference_steps=1)
    pipeline(tiny_diptych(), "Draw it.", num_inference_steps=1)
    papers = (
        "A diptych with two side-by-side images of the same mug. On the left, a red mug with {braces}. On the right, "
        "replicate the same mug naturally into the background scene"
    )
    assert prompts == [papers, "Draw it."]


@pytest.mark.parametrize("caption", [None, "", "  "])
def test_without_a_caption_the_left_panel_shows_a_photo_of_the_object(caption):
    assert "On the left, a photo of a mug. On the right" in diptych_prompt("mug", caption)


def test_given_embeddings_need_no_text_encoders(tiny_parts):
    own = load_pipeline(tiny_parts, whole=True)
    prompt = diptych_prompt("mug", "a red mug")

    def drawn(words) -> bytes:
        settings = DrawingSettings(num_inference_steps=1, generator=torch.Generator().manual_seed(1))
        return own.draw(tiny_diptych(), words, settings).diptych.tobytes()

    expected = drawn(prompt)
    assert drawn("another") != expected
    with torch.no_grad():
        tokens, pooled, _ = own.encode_prompt(prompt, None)
    own.text_encoder = own.text_encoder_2 = None
    assert drawn(PromptEmbeddings(tokens, pooled)) == expected


def test_progress_names_the_stages_and_never_goes_back(pipeline):
    told: list[tuple[str, float]] = []
    pipeline.draw(
        tiny_diptych(), "a mug", DrawingSettings(num_inference_steps=3), lambda stage, part: told.append((stage, part))
    )
    stages = ["reading the prompt", "encoding the conditions", "denoising", "decoding"]
    assert list(dict.fromkeys(stage for stage, _ in told)) == stages
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1


def test_a_callback_is_called_after_each_step_and_may_change_the_latents(pipeline):
    steps: list[int] = []

    def blank(_pipeline, step: int, _timestep, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    tokens = pipeline(tiny_diptych(), callback_on_step_end=blank, num_inference_steps=3, output_type="latent").images
    assert steps == [0, 1, 2]
    assert not tokens.any()


def test_a_cancelled_run_leaves_nothing_behind(pipeline):
    expected = draw(pipeline)

    def cancel(stage: str, fraction: float) -> None:
        if stage == "denoising":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.draw(tiny_diptych(3), WORDS, DrawingSettings(num_inference_steps=3), cancel)
    assert pipeline.controlnet.given is None
    assert np.array_equal(draw(pipeline), expected)


def test_weights_that_give_no_colours_are_an_error_and_no_picture(tiny_parts):
    spoilt = load_pipeline(tiny_parts)
    with torch.no_grad():
        spoilt.controlnet.canny.controlnet_blocks[0].weight.fill_(torch.nan)
    with pytest.raises(EngineError, match="finite"):
        draw(spoilt)


@pytest.mark.parametrize("tuned", ["inpainting", "canny"])
def test_a_lora_changes_the_controlnet_it_belongs_to_and_only_that(tiny_parts, tmp_path, pipeline, tuned):
    net = {"inpainting": tiny_inpainting, "canny": tiny_canny}[tuned]()
    save_lora(net, tmp_path)
    with_lora = load_pipeline(tiny_parts, whole=True, loras={tuned: tmp_path / LORA_FILE})
    assert with_lora.trained == {tuned}
    alone = (1.0, 0.0) if tuned == "inpainting" else (0.0, 1.0)
    changed = draw(with_lora, controlnet_conditioning_scale=alone)
    assert not np.array_equal(changed, draw(pipeline, controlnet_conditioning_scale=alone))
    other = alone[::-1]
    unchanged = draw(with_lora, controlnet_conditioning_scale=other)
    assert np.array_equal(unchanged, draw(pipeline, controlnet_conditioning_scale=other))
    stock = FluxControlNetPipeline.from_pretrained(tiny_parts / "base", controlnet=net)
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        expected = getattr(stock, part).state_dict()
        for name, tensor in getattr(with_lora, part).state_dict().items():
            assert torch.equal(tensor, expected[name])


def test_a_lora_is_added_to_the_weights_at_its_own_strength(tiny_parts, tmp_path):
    save_lora(tiny_canny(), tmp_path, rank=2, alpha=6)
    net = load_pipeline(tiny_parts, loras={"canny": tmp_path}).controlnet.canny
    factors = load_file(tmp_path / LORA_FILE)
    path = "single_transformer_blocks.1.attn.to_k"
    weight = load_file(tiny_parts / "canny" / "diffusion_pytorch_model.safetensors")[f"{path}.weight"]
    expected = weight + 6 / 2 * factors[f"{path}.lora_B.weight"] @ factors[f"{path}.lora_A.weight"]
    layer = net.get_submodule(path)
    given = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(layer(given), given @ expected.T + layer.base_layer.bias, atol=1e-5)
        loras.fuse(net)
    assert not loras.has_lora(net)
    assert torch.allclose(net.get_submodule(path).weight, expected, atol=1e-5)


def test_a_folder_with_a_lora_for_each_is_loaded_and_may_have_been_saved_by_peft(tiny_parts, tmp_path):
    save_lora(tiny_inpainting(), tmp_path / "inpainting")
    net = tiny_canny()
    config = LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS, init_lora_weights=False)
    torch.manual_seed(5)
    get_peft_model(net, config).save_pretrained(tmp_path / "canny")
    loaded = load_pipeline(tiny_parts, loras=tmp_path)
    assert loaded.trained == {"inpainting", "canny"}
    own = loaded.controlnet.canny
    assert loras.has_lora(loaded.controlnet.inpainting)
    layer, expected = (part.get_submodule("transformer_blocks.0.attn.to_q") for part in (own, net))
    given = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(layer(given), expected(given), atol=1e-6)
        assert not torch.allclose(layer(given), layer.base_layer(given), atol=1e-2)


@pytest.mark.parametrize("prefix", ["controlnet.", "transformer.", "base_model.model."])
def test_a_lora_may_be_saved_with_the_models_name_before_each_key(tiny_parts, tmp_path, prefix):
    save_lora(tiny_canny(), tmp_path)
    tensors = load_file(tmp_path / LORA_FILE)
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "named.safetensors")
    plain, named = (
        load_pipeline(tiny_parts, loras={"canny": tmp_path / name}) for name in (LORA_FILE, "named.safetensors")
    )
    assert np.array_equal(draw(plain), draw(named))


def test_fused_loras_draw_what_they_drew_before(tiny_parts, tmp_path):
    save_lora(tiny_inpainting(), tmp_path / "inpainting")
    save_lora(tiny_canny(), tmp_path / "canny")
    loaded = load_pipeline(tiny_parts, loras=tmp_path)
    beside = draw(loaded, controlnet_conditioning_scale=None)
    for net in loaded.controlnet.nets:
        loras.fuse(net)
    fused = draw(loaded, controlnet_conditioning_scale=None)
    assert np.abs(fused.astype(int) - beside).max() <= 1


def test_controlnets_with_lora_lead_at_full_strength_and_published_ones_as_their_cards_advise(tiny_parts, tmp_path):
    save_lora(tiny_canny(), tmp_path)
    loaded = load_pipeline(tiny_parts, loras={"canny": tmp_path})
    with watched(loaded.controlnet) as calls:
        draw(loaded, controlnet_conditioning_scale=None)
    assert calls[0]["conditioning_scale"] == [0.95, 1.0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"controlnet_conditioning_scale": -0.1}, "The scale of the inpainting ControlNet is -0.1; .* from 0 to 2"),
        ({"controlnet_conditioning_scale": (1.0, 2.5)}, "The scale of the canny ControlNet is 2.5"),
        ({"controlnet_conditioning_scale": float("nan")}, "is nan"),
        ({"controlnet_conditioning_scale": (1.0, 1.0, 1.0)}, "3 values"),
        ({"control_guidance_start": 1.5}, "start of the inpainting ControlNet is 1.5; .* from 0 to 1"),
        ({"control_guidance_end": (1.0, -1.0)}, "end of the canny ControlNet is -1"),
        ({"control_guidance_start": 0.5, "control_guidance_end": 0.5}, "from 0.5 to 0.5"),
        ({"num_inference_steps": 0}, "1 or more"),
        ({"prompt": "long " * 300}, "512"),
        ({"output_type": "jpeg"}, "pil, np, pt, latent"),
    ],
)
def test_bad_options_end_with_one_sentence(pipeline, options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        pipeline(tiny_diptych(), **options)
    assert "\n" not in str(caught.value)


def test_panels_that_are_no_multiples_of_16_are_refused(pipeline):
    diptych = tiny_diptych()
    small = replace(diptych, **{name: getattr(diptych, name)[:40] for name in ("picture", "mask", "edges")})
    with pytest.raises(InputError, match=r"64x40 pixels; .* multiples of 16"):
        draw(pipeline, small)


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("inpainting", {"extra_condition_channels": 8}, "8 channels for the mask; take one with 4"),
        ("canny", {"extra_condition_channels": 4}, "are the two swapped"),
        ("canny", {"in_channels": 64}, "its in_channels is 64, that of the transformer 16"),
        ("inpainting", {"joint_attention_dim": 48}, "joint_attention_dim is 48"),
        ("canny", {"num_attention_heads": 4}, "num_attention_heads is 4"),
        ("canny", {"conditioning_embedding_channels": 3}, "takes a picture"),
        ("inpainting", {"num_mode": 7}, "several kinds"),
    ],
)
def test_controlnets_that_do_not_go_with_the_base_are_refused(tiny_parts, tmp_path, name, config, sentence):
    make = {"inpainting": tiny_inpainting, "canny": tiny_canny}[name]
    folder = save_controlnet(make(**config), tmp_path / "other")
    with pytest.raises(InputError, match=sentence) as caught:
        load_pipeline(tiny_parts, *((folder, None) if name == "inpainting" else (None, folder)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"extra_condition_channels": 0},
            r"cannot be loaded \(controlnet_x_embedder.weight of its inpainting is \(32, 20\)",
        ),
        ({"num_layers": 3}, "is missing from the files of its inpainting"),
        ({"num_layers": 1}, "the files of its inpainting hold .*, which it does not have"),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused(tiny_parts, tmp_path, change, sentence):
    folder = tmp_path / "inpainting"
    shutil.copytree(tiny_parts / "inpainting", folder)
    change_config(folder, **change)
    with pytest.raises(RefGCError, match=f"inpainting_controlnet .*{sentence}") as caught:
        load_pipeline(tiny_parts, inpainting=folder)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_controlnets_are_refused(tiny_parts, tmp_path):
    folder = tmp_path / "canny"
    shutil.copytree(tiny_parts / "canny", folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(EngineError, match=r"canny_controlnet .* cannot be loaded") as caught:
        load_pipeline(tiny_parts, canny=folder)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(EngineError, match=r"canny_controlnet is .* there is no diffusion_pytorch_model.safetensors"):
        load_pipeline(tiny_parts, canny=folder)
    with pytest.raises(EngineError, match=r"canny_controlnet is .* no folder here and no name of a repository"):
        load_pipeline(tiny_parts, canny=tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["inpainting", "canny", "base/transformer", "base/vae"])
def test_networks_that_are_pickles_or_claim_gigabytes_are_refused(tiny_parts, tmp_path, part):
    parts = shutil.copytree(tiny_parts, tmp_path / "parts")
    (file,) = (parts / part).glob("*.safetensors")
    content = file.read_bytes()
    make_sparse(file, next(name for name, tensor in load_file(file).items() if tensor.ndim == 2), 6 * GIGABYTE)
    with pytest.raises(EngineError, match=r"cannot be loaded \(.*is damaged or cut off"):
        load_pipeline(parts, whole=True)
    file.write_bytes(content)
    turn_into_pickle(file)
    with opened_files() as opened, pytest.raises(EngineError, match=r"\.bin is a pickle, which can run any program"):
        load_pipeline(parts, whole=True)
    assert not [path for path in opened if path.endswith(".bin")]


def cut_off(folder):
    file = folder / LORA_FILE
    file.write_bytes(file.read_bytes()[:-100])


def edited(change):
    def edit(folder):
        tensors = load_file(folder / LORA_FILE)
        change(tensors)
        save_file(tensors, folder / LORA_FILE)

    return edit


def linked_out(folder):
    (folder / LORA_FILE).rename(folder.parent / LORA_FILE)
    (folder / LORA_FILE).symlink_to(folder.parent / LORA_FILE)


KEY = "transformer_blocks.0.attn.to_q.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut_off, "damaged or cut off"),
        (lambda folder: (folder / LORA_FILE).unlink(), "there is no "),
        (edited(lambda tensors: tensors.pop(KEY)), "incomplete: .*to_q has only one"),
        (edited(lambda tensors: tensors[KEY].fill_(torch.nan)), "spoilt"),
        (
            edited(lambda tensors: tensors.update({KEY: torch.zeros(2, 48)})),
            r"factor A .* is \(2, 48\) where .*\(2, 32\)",
        ),
        (edited(lambda tensors: tensors.update({"blocks.9.lora_A.weight": torch.zeros(2, 2)})), "holds blocks.9"),
        (edited(lambda tensors: tensors.clear()), "empty"),
        (edited(lambda tensors: tensors.update({KEY: tensors[KEY].int()})), "stores .* as I32"),
        (lambda folder: turn_into_pickle(folder / LORA_FILE), "is a pickle, which can run any program"),
        (lambda folder: make_sparse(folder / LORA_FILE, KEY, 6 * GIGABYTE), "damaged or cut off"),
        (linked_out, "has a link to a place outside of its folder, pytorch_lora_weights.safetensors"),
    ],
)
def test_bad_loras_end_with_one_sentence_and_change_nothing(tiny_parts, tmp_path, damage, sentence):
    folder = save_lora(tiny_canny(), tmp_path / "lora")
    damage(folder)
    with pytest.raises(InputError, match=sentence) as caught:
        load_pipeline(tiny_parts, loras={"canny": folder})
    assert "\n" not in str(caught.value)


def test_a_linked_folder_of_a_lora_is_not_followed(tiny_parts, tmp_path):
    save_lora(tiny_canny(), tmp_path / "elsewhere")
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "canny").symlink_to("../elsewhere")
    with pytest.raises(InputError, match="loras has a link to a place outside of its folder, canny/pytorch_lora"):
        load_pipeline(tiny_parts, loras=tmp_path / "loras")


def test_a_lora_of_the_other_controlnet_is_refused(tiny_parts, tmp_path):
    save_lora(tiny_inpainting(), tmp_path)
    with pytest.raises(InputError, match=r"holds transformer_blocks\.1.* none of the canny ControlNet's"):
        load_pipeline(tiny_parts, loras={"canny": tmp_path})


def test_places_without_loras_are_refused(tiny_parts, tmp_path):
    for source, sentence in [
        (tmp_path, "no folder inpainting or canny"),
        (tmp_path / "nowhere", "no folder here"),
        ({"depth": tmp_path}, "'depth'; the two are inpainting and canny"),
    ]:
        with pytest.raises(RefGCError, match=f"loras .*{sentence}") as caught:
            load_pipeline(tiny_parts, loras=source)
        assert "\n" not in str(caught.value)


def test_its_controlnets_are_saved_each_alone(tiny_parts, tmp_path, pipeline):
    with pytest.raises(EngineError, match="save_pretrained"):
        pipeline.save_pretrained(tmp_path / "whole")
    pipeline.controlnet.inpainting.save_pretrained(tmp_path / "inpainting")
    assert np.array_equal(draw(load_pipeline(tiny_parts, inpainting=tmp_path / "inpainting")), draw(pipeline))


def test_a_controlnet_may_be_given_as_a_model(tiny_parts, pipeline):
    inpainting = tiny_inpainting()
    own = load_pipeline(tiny_parts, inpainting=inpainting)
    assert own.controlnet.inpainting is inpainting
    assert np.array_equal(draw(own), draw(pipeline))
    add_lora(inpainting)
    assert not np.array_equal(draw(own), draw(pipeline))
