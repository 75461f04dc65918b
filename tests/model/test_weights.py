"""FreqMoLE's weights in real folders, through a Hub that listens on this machine, and as a LoRA in a stock pipeline."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from huggingface_hub import ModelCard, constants
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refgc.errors import EngineError, InputError
from refgc.model import weights
from refgc.model.fingerprint import fingerprint
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from refgc.model.pipeline import RefGCSR2Pipeline
from tests.support.fake_hub import FakeHub
from tests.support.safetensors_files import GIGABYTE, make_sparse, opened_files, turn_into_pickle
from tests.support.tiny_freqmole import run, teach
from tests.support.tiny_models import tiny_transformer

CONFIG = FreqMoLEConfig(rank=3, lora_alpha=6.0, base="someone/tiny-kontext", reference_cache=True)
REPOSITORY = "someone/adapter"
BASE = tiny_transformer()


def taught(config: FreqMoLEConfig = CONFIG) -> FreqMoLE:
    return teach(inject(tiny_transformer(), config))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a saved adapter, to be spoilt."""
    folder = tmp_path / "adapter"
    weights.save(taught(), folder)
    return folder


def refusal(source: str | Path) -> str:
    """The sentence with which loading fails; the transformer must be as it was."""
    transformer = tiny_transformer()
    before = list(transformer.state_dict())
    with pytest.raises(InputError) as failure:
        weights.load(transformer, source)
    assert list(transformer.state_dict()) == before
    sentence = str(failure.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    original = taught()
    weights.save(original, tmp_path / "deep" / "adapter")
    loaded = weights.load(tiny_transformer(), tmp_path / "deep" / "adapter")
    assert loaded.config == original.config == CONFIG.model_copy(update={"base_fingerprint": fingerprint(BASE)})
    assert loaded.alphas() == original.alphas()
    assert torch.equal(run(loaded.transformer), run(original.transformer))


def test_the_files_have_readable_names(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "freqmole.safetensors"]
    tensors = load_file(saved / "freqmole.safetensors")
    assert tensors["transformer_blocks.0.frequency_gate.logit"].shape == (1,)
    assert tensors["transformer_blocks.1.attn.to_out.0.low_frequency_A"].shape == (3, 32)
    assert tensors["single_transformer_blocks.2.proj_out.high_frequency_B"].shape == (32, 3)
    assert len(tensors) == 5 + 4 * (12 * 2 + 5 * 3)
    assert json.loads((saved / "config.json").read_text())["rank"] == 3


@pytest.mark.parametrize("keep_base", [True, False])
def test_fused_experts_are_saved_as_if_they_were_not(saved: Path, tmp_path: Path, keep_base: bool) -> None:
    freqmole = weights.load(tiny_transformer(), saved)
    freqmole.fuse(keep_base=keep_base)
    weights.save(freqmole, tmp_path / "again")
    for file in ("freqmole.safetensors", "config.json"):
        assert (tmp_path / "again" / file).read_bytes() == (saved / file).read_bytes()


def test_experts_load_in_the_dtype_asked_for(saved: Path) -> None:
    freqmole = weights.load(tiny_transformer(), saved, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in freqmole.parameters()} == {torch.bfloat16}


def test_the_model_card_says_what_it_is_and_an_edited_one_stays(saved: Path) -> None:
    card = ModelCard.load(saved / "README.md")
    assert card.data.base_model == "someone/tiny-kontext"
    assert card.data.pipeline_tag == "image-to-image"
    assert card.data.license is None
    assert "someone/tiny-kontext" in card.text
    (saved / "README.md").write_text("# Mine")
    weights.save(taught(), saved)
    assert (saved / "README.md").read_text() == "# Mine"


def test_the_model_card_passes_on_the_licence_of_flux(tmp_path: Path) -> None:
    weights.save(taught(FreqMoLEConfig(rank=1)), tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "other"
    assert card.data.license_name == "flux-1-dev-non-commercial-license"


def test_a_base_in_a_folder_is_no_base_model_of_the_hub(tmp_path: Path) -> None:
    weights.save(taught(FreqMoLEConfig(rank=1, base="/models/kontext")), tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (weights.save, weights.export_lora):
        with pytest.raises(InputError, match="cannot be made"):
            write(taught(), tmp_path / "file" / "adapter")


def pipeline_output(pipeline: FluxKontextPipeline) -> Tensor:
    latents: Tensor = pipeline(
        image=torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64),
        prompt="refine",
        height=64,
        width=64,
        max_area=64 * 64,
        num_inference_steps=2,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
        _auto_resize=False,
    ).images
    return latents


def test_a_stock_pipeline_loads_the_exported_lora_with_the_same_output(tiny_base: Path, tmp_path: Path) -> None:
    pipeline = FluxKontextPipeline.from_pretrained(tiny_base)
    pipeline.set_progress_bar_config(disable=True)
    stock, stock_pipeline = run(pipeline.transformer), pipeline_output(pipeline)
    freqmole = teach(inject(pipeline.transformer, CONFIG))
    adapted, adapted_pipeline = run(pipeline.transformer), pipeline_output(pipeline)
    file = weights.export_lora(freqmole, tmp_path)
    targets = {name for name, _, _ in freqmole.factors()}
    freqmole.remove()

    pipeline.load_lora_weights(tmp_path)
    assert {name for name, module in pipeline.transformer.named_modules() if isinstance(module, LoraLinear)} == targets
    (config,) = pipeline.transformer.peft_config.values()
    assert config.r == config.lora_alpha == 2 * CONFIG.rank
    assert not config.rank_pattern
    assert not config.alpha_pattern
    torch.testing.assert_close(run(pipeline.transformer), adapted, atol=1e-6, rtol=0)
    torch.testing.assert_close(pipeline_output(pipeline), adapted_pipeline, atol=1e-5, rtol=0)
    assert (adapted - stock).abs().max() > 0.1
    assert (adapted_pipeline - stock_pipeline).abs().max() > 0.1

    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(str(file))
    torch.testing.assert_close(run(pipeline.transformer), adapted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "targets",
    [
        {"double_stream_targets": (), "single_stream_targets": ("proj_out",)},
        {"double_stream_targets": ("attn.to_q", "ff.net.2"), "single_stream_targets": ()},
        {"double_stream_targets": ("norm1.linear",), "single_stream_targets": ("norm.linear", "attn.to_q")},
    ],
)
def test_any_targets_are_exported_to_the_same_layers(targets: dict[str, Any], tiny_base: Path, tmp_path: Path) -> None:
    pipeline = FluxKontextPipeline.from_pretrained(tiny_base)
    freqmole = teach(inject(pipeline.transformer, FreqMoLEConfig(rank=2, lora_alpha=5.0, **targets)))
    adapted = run(pipeline.transformer)
    weights.export_lora(freqmole, tmp_path)
    freqmole.remove()
    pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(run(pipeline.transformer), adapted, atol=1e-6, rtol=0)


def test_a_lora_is_exported_of_fused_experts_and_in_another_dtype(tmp_path: Path) -> None:
    freqmole = taught()
    before = load_file(weights.export_lora(freqmole, tmp_path / "before"))
    freqmole.fuse(keep_base=False)
    after = load_file(weights.export_lora(freqmole, tmp_path / "after", dtype=torch.bfloat16))
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert all(torch.equal(tensor.to(torch.bfloat16), after[name]) for name, tensor in before.items())


def test_fused_experts_bear_a_stock_lora_but_do_not_come_out_beneath_it(tiny_base: Path, tmp_path: Path) -> None:
    pipeline = FluxKontextPipeline.from_pretrained(tiny_base)
    weights.export_lora(teach(inject(tiny_transformer(), CONFIG), seed=9), tmp_path)
    freqmole = teach(inject(pipeline.transformer, CONFIG))
    injected = run(pipeline.transformer)
    freqmole.fuse()
    fused = run(pipeline.transformer)
    pipeline.load_lora_weights(tmp_path)
    assert (run(pipeline.transformer) - fused).abs().max() > 0.1
    with pytest.raises(EngineError, match="unfuse it after they are gone"):
        freqmole.unfuse()
    pipeline.unload_lora_weights()
    freqmole.unfuse()
    assert torch.equal(run(pipeline.transformer), injected)


@pytest.mark.parametrize("lora_first", [True, False])
def test_experts_work_beside_a_stock_lora_in_either_order(tiny_base: Path, tmp_path: Path, lora_first: bool) -> None:
    """What both add to each weight adds up, and each goes without the other."""
    lora = teach(inject(tiny_transformer(), CONFIG), seed=9)
    weights.export_lora(lora, tmp_path)
    lora.fuse()

    def experts(transformer: FluxTransformer2DModel) -> FreqMoLE:
        return teach(inject(transformer, CONFIG, generator=torch.Generator().manual_seed(4)))

    both, alone = run(experts(lora.transformer).transformer), run(experts(tiny_transformer()).transformer)

    pipeline = RefGCSR2Pipeline.from_pretrained(tiny_base)
    if lora_first:
        pipeline.load_lora_weights(tmp_path)
    freqmole = pipeline.freqmole = experts(pipeline.transformer)
    if not lora_first:
        pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(run(pipeline.transformer), both, atol=1e-5, rtol=0)
    learnt = {name for name, parameter in pipeline.transformer.named_parameters() if parameter.requires_grad}
    assert learnt == {name for name, _ in freqmole.named_parameters()}
    assert freqmole.config.base_fingerprint == fingerprint(BASE)
    with pytest.raises(EngineError, match="before quantising the transformer or loading LoRAs into it"):
        freqmole.fuse()
    weights.save(freqmole, tmp_path / "adapter")

    pipeline.unload_lora_weights()
    torch.testing.assert_close(run(pipeline.transformer), alone, atol=1e-6, rtol=0)
    freqmole.fuse()
    torch.testing.assert_close(run(pipeline.transformer), alone, atol=1e-5, rtol=0)
    loaded = weights.load(tiny_transformer(), tmp_path / "adapter")
    assert torch.equal(run(loaded.transformer), alone)


def test_experts_of_another_base_are_refused(tmp_path: Path) -> None:
    other = tiny_transformer(double_blocks=1, single_blocks=1)
    narrow = nn.Linear(16, 32)
    other.transformer_blocks[0].attn.to_q = narrow
    weights.save(inject(other, CONFIG), tmp_path)
    with pytest.raises(InputError) as failure:
        weights.load(tiny_transformer(double_blocks=1, single_blocks=1), tmp_path)
    assert str(failure.value) == (
        f"The adapter '{tmp_path}' belongs to another base: transformer_blocks.0.attn.to_q.low_frequency_A is (3, 16) "
        "where this one needs (3, 32); it was trained on someone/tiny-kontext."
    )


def test_experts_of_another_base_of_the_same_shapes_are_refused(saved: Path) -> None:
    other = tiny_transformer(seed=1)
    before = run(other)
    with pytest.raises(InputError) as failure:
        weights.load(other, saved)
    assert str(failure.value) == (
        f"The adapter '{saved}' was trained on someone/tiny-kontext, and this base has the same shapes but other "
        "weights; load the adapter into the base it was trained on."
    )
    assert torch.equal(run(other), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_base_is_known_again_in_another_precision(saved: Path, dtype: torch.dtype) -> None:
    assert weights.load(tiny_transformer().to(dtype), saved).config.rank == CONFIG.rank


def test_an_adapter_without_a_fingerprint_is_loaded(saved: Path) -> None:
    (saved / "config.json").write_text(CONFIG.model_dump_json())
    assert weights.load(tiny_transformer(seed=1), saved).config.rank == CONFIG.rank


def test_loading_leaves_the_global_random_state_alone(saved: Path) -> None:
    transformer = tiny_transformer()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    weights.load(transformer, saved)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1)])
def test_a_gate_of_another_shape_is_refused(saved: Path, shape: tuple[int, ...]) -> None:
    tensors = load_file(saved / "freqmole.safetensors")
    tensors["transformer_blocks.0.frequency_gate.logit"] = torch.zeros(shape)
    save_file(tensors, saved / "freqmole.safetensors")
    assert f"transformer_blocks.0.frequency_gate.logit is {shape} where this one needs (1,)" in refusal(saved)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"double_blocks": 1}, "lacks 49 of 161 weights, transformer_blocks.1.frequency_gate.logit among them: it is"),
        ({"double_blocks": 3}, "has 49 that do not belong, "),
    ],
)
def test_experts_of_a_base_with_other_blocks_are_refused(tmp_path: Path, blocks: dict[str, int], said: str) -> None:
    weights.save(inject(tiny_transformer(**blocks), CONFIG), tmp_path)
    sentence = refusal(tmp_path)
    assert said in sentence
    assert sentence.endswith("the base has other blocks than the one it was trained on, someone/tiny-kontext.")


def test_another_rank_than_the_config_says_is_refused(saved: Path) -> None:
    config = CONFIG.model_copy(update={"rank": 4})
    (saved / "config.json").write_text(config.model_dump_json())
    assert "has rank 3 where its config.json says 4; give weights and config of the same adapter." in refusal(saved)


@pytest.mark.parametrize("name", ["transformer_blocks.0.attn.to_q.low_frequency_B", "single_transformer_blocks.1.x"])
def test_missing_and_unexpected_weights_are_named(saved: Path, name: str) -> None:
    tensors = load_file(saved / "freqmole.safetensors")
    if name in tensors:
        del tensors[name]
        said = f"lacks 1 of 161 weights, {name} among them"
    else:
        tensors[name] = torch.zeros(1)
        said = f"has 1 that do not belong, {name} among them"
    save_file(tensors, saved / "freqmole.safetensors")
    assert said in refusal(saved)


def test_values_that_are_no_numbers_are_refused(saved: Path) -> None:
    tensors = load_file(saved / "freqmole.safetensors")
    tensors["transformer_blocks.1.frequency_gate.logit"].fill_(torch.nan)
    save_file(tensors, saved / "freqmole.safetensors")
    assert "spoilt: transformer_blocks.1.frequency_gate.logit holds values" in refusal(saved)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:5], lambda _: b"{}" * 40])
def test_damaged_weights_are_refused(saved: Path, damage: Any) -> None:
    file = saved / "freqmole.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert re.search(r"is damaged or cut off \(.+\); download or copy it again\.$", refusal(saved))


def test_a_pickle_is_refused_and_not_opened(saved: Path) -> None:
    pickled = turn_into_pickle(saved / "freqmole.safetensors")
    with opened_files() as opened:
        assert f"{pickled.name} is a pickle, which can run any program when it is read" in refusal(saved)
    assert not [path for path in opened if path.endswith(".bin")]


def test_a_tensor_that_claims_gigabytes_is_refused_before_any_is_read(saved: Path) -> None:
    make_sparse(saved / "freqmole.safetensors", "transformer_blocks.0.attn.to_q.low_frequency_A", 6 * GIGABYTE)
    assert "is damaged or cut off (only " in refusal(saved)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn])
def test_experts_of_a_dtype_without_fractions_or_precision_are_refused(saved: Path, dtype: torch.dtype) -> None:
    tensors = load_file(saved / "freqmole.safetensors")
    name = "transformer_blocks.0.frequency_gate.logit"
    save_file({**tensors, name: tensors[name].to(dtype)}, saved / "freqmole.safetensors")
    assert f"stores {name} as " in refusal(saved)


@pytest.mark.parametrize("file", ["freqmole.safetensors", "config.json"])
def test_links_out_of_the_folder_are_not_followed(saved: Path, file: str) -> None:
    (saved / file).rename(saved.parent / "elsewhere")
    (saved / file).symlink_to("../elsewhere")
    assert f"has a link to a place outside of its folder, {file}; put the file itself there." in refusal(saved)
    (saved.parent / "elsewhere").rename(saved / "inside")
    (saved / file).unlink()
    (saved / file).symlink_to("inside")
    assert weights.load(tiny_transformer(), saved).config.rank == CONFIG.rank


def test_a_config_too_large_for_one_is_not_read(saved: Path) -> None:
    with (saved / "config.json").open("ab") as config:
        config.truncate(6 * GIGABYTE)
    assert "is no FreqMoLE config (it has more than" in refusal(saved)


@pytest.mark.parametrize("file", ["freqmole.safetensors", "config.json"])
def test_a_missing_file_is_named(saved: Path, file: str) -> None:
    (saved / file).unlink()
    assert f"has no {file}; give what `save` wrote" in refusal(saved)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "the whole: Invalid JSON"),
        (b"\xff", "the whole: Invalid JSON"),
        (b"[]", "the whole: Input should be an object"),
        (b'{"rank": "many"}', "rank: Input should be a valid integer"),
        (b'{"initial_alpha": {"early": 2}}', "initial_alpha.early: Input should be less than 1"),
        (b'{"_class_name": "FluxTransformer2DModel"}', "_class_name: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_config_is_refused(saved: Path, content: bytes, said: str) -> None:
    (saved / "config.json").write_bytes(content)
    sentence = refusal(saved)
    assert "config.json of the adapter" in sentence
    assert f"is no FreqMoLE config ({said}" in sentence


def test_a_target_that_the_base_has_not_is_refused(saved: Path) -> None:
    config = CONFIG.model_copy(update={"single_stream_targets": ("proj_in",)})
    (saved / "config.json").write_text(config.model_dump_json())
    sentence = refusal(saved)
    assert "does not fit this base: the target 'proj_in' matches no projection" in sentence
    assert "It was trained on someone/tiny-kontext; load it into that" in sentence


def test_a_file_in_place_of_a_folder_is_refused(saved: Path) -> None:
    assert "is a file; give the folder that holds" in refusal(saved / "freqmole.safetensors")


def test_what_is_pushed_comes_back_from_the_hub(hub: FakeHub) -> None:
    original = taught()
    address = weights.push_to_hub(original, REPOSITORY, private=True)
    assert address == f"{hub.url}/{REPOSITORY}/commit/main"
    assert hub.visibility == "private"
    assert sorted(hub.repositories[REPOSITORY]) == ["README.md", "config.json", "freqmole.safetensors"]
    assert f'adapter="{REPOSITORY}"' in hub.repositories[REPOSITORY]["README.md"].decode()

    hub.repositories[REPOSITORY]["other.safetensors"] = b"large"
    loaded = weights.load(tiny_transformer(), REPOSITORY)
    assert loaded.config == original.config
    assert torch.equal(run(loaded.transformer), run(original.transformer))
    cache = Path(constants.HF_HUB_CACHE)
    assert {path.name for path in cache.glob("*/snapshots/*/*")} == {"config.json", "freqmole.safetensors"}

    hub.refusal = (500, "")
    offline = weights.from_pretrained(tiny_transformer(), REPOSITORY, local_files_only=True)
    assert offline.alphas() == original.alphas()


def test_pushing_again_leaves_an_edited_card(hub: FakeHub) -> None:
    weights.push_to_hub(taught(), REPOSITORY)
    hub.repositories[REPOSITORY]["README.md"] = b"# Mine"
    weights.push_to_hub(taught(FreqMoLEConfig(rank=1)), REPOSITORY)
    assert hub.repositories[REPOSITORY]["README.md"] == b"# Mine"
    assert json.loads(hub.repositories[REPOSITORY]["config.json"])["rank"] == 1


def test_a_repository_that_is_no_adapter_is_refused(hub: FakeHub) -> None:
    hub.repositories[REPOSITORY] = {"README.md": b"# Nothing"}
    assert "has no config.json" in refusal(REPOSITORY)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "GatedRepo", f"open https://huggingface.co/{REPOSITORY} in a browser"),
        (401, "RepoNotFound", "no repository that the Hub shows you"),
        (404, "RevisionNotFound", "has no such revision"),
        (401, "", "the Hub does not know your token; set HF_TOKEN"),
        (403, "", "your token has no right to it; set HF_TOKEN"),
        (418, "", "the Hub answers with status 418; try again later"),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_sentence(hub: FakeHub, status: int, code: str, said: str) -> None:
    hub.refusal = (status, code)
    assert said in refusal(REPOSITORY)
    with pytest.raises(InputError) as failure:
        weights.push_to_hub(taught(), REPOSITORY)
    assert said in str(failure.value)


def test_a_hub_out_of_reach_is_told_in_a_sentence(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    assert "not on this machine, and the Hub cannot be reached" in refusal(REPOSITORY)
    with pytest.raises(InputError, match="the Hub cannot be reached"):
        weights.push_to_hub(taught(), REPOSITORY)


def test_being_offline_by_choice_is_told_in_a_sentence(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to fetch it; unset that" in refusal(REPOSITORY)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids"):
        weights.push_to_hub(taught(), REPOSITORY)


@pytest.mark.parametrize("source", ["./no/such/folder", "no such name", "~/nowhere/here", "a/b/c"])
def test_what_is_neither_folder_nor_repository_is_refused(source: str) -> None:
    assert "is no folder here and no name of a repository; name a folder, or user/model." in refusal(source)


def test_a_token_that_is_demanded_but_not_stored_is_asked_for(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="no token of the Hub is stored here; set HF_TOKEN"):
        weights.push_to_hub(taught(), REPOSITORY, token=True)


def test_an_adapter_is_read_as_a_lora_without_its_base(saved: Path, tmp_path: Path) -> None:
    exported = load_file(weights.export_lora(taught(), tmp_path / "lora"))
    read = weights.adapter_as_lora(saved / "freqmole.safetensors")
    assert read.keys() == exported.keys()
    assert all(torch.equal(read[name], exported[name]) for name in exported)


def test_a_plain_lora_is_given_back_as_it_is(tmp_path: Path) -> None:
    file = weights.export_lora(taught(), tmp_path / "lora")
    read = weights.adapter_as_lora(file)
    assert all(torch.equal(read[name], tensor) for name, tensor in load_file(file).items())


def refusal_as_lora(file: Path) -> str:
    """The sentence with which reading an adapter as a LoRA fails."""
    with pytest.raises(InputError) as failure:
        weights.adapter_as_lora(file)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_an_adapter_that_cannot_be_read_as_a_lora_is_refused_with_a_reason(saved: Path, tmp_path: Path) -> None:
    file = saved / "freqmole.safetensors"
    tensors = load_file(file)
    assert "There is no adapter" in refusal_as_lora(tmp_path / "nowhere.safetensors")
    save_file({"unet.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    assert "neither FreqMoLE's weights nor a LoRA" in refusal_as_lora(tmp_path / "other.safetensors")
    lacking = next(name for name in tensors if name.endswith("high_frequency_B"))
    save_file({name: tensor for name, tensor in tensors.items() if name != lacking}, file)
    assert lacking in refusal_as_lora(file)
    save_file(tensors, file)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "rank": 4}))
    assert "has rank 3 where its config.json says 4" in refusal_as_lora(file)
    (saved / "config.json").unlink()
    assert "has no config.json" in refusal_as_lora(file)
    file.write_bytes(file.read_bytes()[:200])
    assert "damaged" in refusal_as_lora(file)
