"""Which base is taken, and the sizes that `refgc doctor` tells of each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel, FluxTransformer2DModel

from refgc import hub
from refgc.flux.placement import Machine, place
from refgc.flux.sizes import GIB, resident_bytes
from refgc.model.backbones.catalogue import AUTO, BASES, KLEIN, KLEIN_BASE, KONTEXT, chosen_source, known, what_fits
from refgc.model.loading import Sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_into(cache: Path, repository: str, folder: Path) -> None:
    """Lays a folder into the Hub's cache as a download does."""
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)


def test_what_is_named_is_taken_by_its_word_or_as_it_stands() -> None:
    assert [chosen_source(base.word, None) for base in BASES] == [base.source for base in BASES]
    assert [chosen_source(base.word.title(), None) for base in BASES] == [base.source for base in BASES]
    assert chosen_source("kontext", "someone/adapter") == hub.FLUX_KONTEXT
    assert chosen_source("someone/finetuned", None) == "someone/finetuned"
    assert (known(hub.FLUX_KLEIN_BASE), known("someone/finetuned")) == (KLEIN_BASE, None)


@pytest.mark.parametrize("named", [None, AUTO, "Auto"])
def test_auto_takes_what_is_on_this_machine(
    cache: Path, tiny_base: Path, tiny_klein: Path, tiny_klein_base: Path, named: str | None
) -> None:
    assert chosen_source(named, None) == hub.FLUX_KLEIN, "the one that needs no account is fetched"
    put_into(cache, hub.FLUX_KONTEXT, tiny_base)
    assert chosen_source(named, None) == hub.FLUX_KONTEXT
    put_into(cache, hub.FLUX_KLEIN_BASE, tiny_klein_base)
    assert chosen_source(named, None) == hub.FLUX_KLEIN_BASE
    put_into(cache, hub.FLUX_KLEIN, tiny_klein)
    assert chosen_source(named, None) == hub.FLUX_KLEIN
    next((cache / "models--black-forest-labs--FLUX.2-klein-4B").rglob("transformer/config.json")).unlink()
    assert chosen_source(named, None) == hub.FLUX_KLEIN_BASE, "an incomplete one does not count"


def test_an_adapter_takes_the_base_it_was_trained_on(cache: Path, tiny_klein: Path, tmp_path: Path) -> None:
    put_into(cache, hub.FLUX_KLEIN, tiny_klein)
    assert chosen_source(None, "someone/adapter") == hub.FLUX_KONTEXT, "the paper's, while it is not here"
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "freqmole.safetensors").touch()
    for config, base in (
        ({"base": hub.FLUX_KLEIN_BASE}, hub.FLUX_KLEIN_BASE),
        ({"base": hub.FLUX_KONTEXT}, hub.FLUX_KONTEXT),
        ({"base": 3}, hub.FLUX_KONTEXT),
        ([], hub.FLUX_KONTEXT),
    ):
        (folder / "config.json").write_text(json.dumps(config))
        assert chosen_source(AUTO, str(folder)) == base
    (folder / "config.json").write_text("{")
    assert chosen_source(AUTO, str(folder)) == hub.FLUX_KONTEXT


def test_sources_come_from_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFGC_ADAPTER", raising=False)
    for value, base in (("", hub.FLUX_KLEIN), ("auto", hub.FLUX_KLEIN), ("kontext", hub.FLUX_KONTEXT)):
        monkeypatch.setenv("REFGC_BASE", value)
        assert Sources.from_environment() == Sources(base, None)


def test_the_sizes_are_those_of_the_networks() -> None:
    with torch.device("meta"):
        kontext = FluxTransformer2DModel(guidance_embeds=True)
        klein = Flux2Transformer2DModel(
            num_layers=5,
            num_single_layers=20,
            num_attention_heads=24,
            joint_attention_dim=7680,
            guidance_embeds=False,
        )
        vae = AutoencoderKLFlux2()
    for base, network in ((KONTEXT, kontext), (KLEIN, klein)):
        assert base.size.transformer == network.num_parameters()
        assert base.size.blocks == len(network.transformer_blocks) + len(network.single_transformer_blocks)
        assert base.size.width == network.inner_dim
        parameters = base.size.transformer + base.size.text_encoders + base.size.vae
        assert base.gigabytes == round(2 * parameters / 1e9)
    assert KLEIN.size.vae == vae.num_parameters()


@pytest.mark.parametrize(
    ("base", "gib", "told"),
    [
        (KLEIN, 16, "fits in 16 bits, about 11 of 16 GiB"),
        (KLEIN, 10, "fits in 8 bits"),
        (KLEIN, 7, "fits in 4 bits"),
        (KONTEXT, 80, "fits in 16 bits"),
        (KONTEXT, 16, "fits in 8 bits"),
        (KONTEXT, 8, "fits streamed from main memory"),
        (KONTEXT, 4, "does not fit: takes"),
        (KLEIN, None, "takes 11 GiB in 16 bits"),
    ],
)
def test_what_fits_a_gpu_is_what_the_placement_takes(base, gib: int | None, told: str) -> None:
    assert what_fits(base.size, gib).startswith(told)
    if gib is None or "main memory" in told or "not fit" in told:
        return
    machine = Machine("cuda:0", "a GPU", gib * GIB, gib * GIB, 64 * GIB, True, True, True)
    quantization = {"16 bits": "none", "8 bits": "fp8", "4 bits": "nf4"}[" ".join(told.split(",")[0].split()[2:4])]
    placement = place(machine, base.size)
    assert (placement.quantization, placement.offload) == (quantization, "none")
    assert placement.needed == resident_bytes(base.size, placement.quantization)


def test_no_torch_is_imported() -> None:
    code = "import sys, refgc.model.backbones.catalogue; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
