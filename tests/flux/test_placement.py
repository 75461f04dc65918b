"""Placement: the figures that are promised, what is kept first, and what is refused with which figures."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from hypothesis import given
from hypothesis import strategies as st

from refgc.errors import EngineError, InputError
from refgc.flux.placement import Machine, examine, place
from refgc.flux.sizes import GIB, ModelSize
from refgc.flux.speed import Quantization
from refgc.machine import NO_GPU

# T5-XXL's encoder and CLIP-L's, as their authors give them; the others are counted below.
TEXT_ENCODERS = 4_762_310_656 + 123_060_480


@pytest.fixture(scope="module")
def kontext() -> ModelSize:
    """FLUX.1-Kontext at full size, counted without memory for it."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    return ModelSize(transformer.num_parameters(), TEXT_ENCODERS, vae.num_parameters(), width=3072, blocks=19 + 38)


def gpu(free: float, *, main: float = 64, float8: bool = True, torchao: bool = True, bfloat16: bool = True) -> Machine:
    return Machine(
        "cuda:0", "a GPU", int(free * GIB), int((free + 0.5) * GIB), int(main * GIB), bfloat16, float8, torchao
    )


def test_the_model_has_twelve_billion_weights(kontext: ModelSize) -> None:
    assert kontext.transformer == pytest.approx(11.9e9, rel=0.01)
    assert kontext.vae == pytest.approx(84e6, rel=0.01)


@pytest.mark.parametrize("cached", [False, True])
def test_16_bits_are_resident_within_40_gb(kontext: ModelSize, cached: bool) -> None:
    placed = place(gpu(39), replace(kontext, reference_cache=cached))
    assert (placed.quantization, placed.offload, placed.dtype) == ("none", "none", torch.bfloat16)
    assert placed.text_device == torch.device("cuda:0")
    assert "GiB of 39.0 GiB free" in placed.reason


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("float8", "chosen"), [(True, "fp8"), (False, "int8")])
def test_8_bits_are_resident_within_24_gb(kontext: ModelSize, cached: bool, float8: bool, chosen: str) -> None:
    placed = place(gpu(22.5, float8=float8), replace(kontext, reference_cache=cached))
    assert (placed.quantization, placed.offload) == (chosen, "none")
    assert placed.fuses_before_quantizing


def test_4_bits_are_resident_within_12_gb(kontext: ModelSize) -> None:
    placed = place(gpu(11.3), kontext)
    assert (placed.quantization, placed.offload) == ("nf4", "none")
    assert placed.text_device == torch.device("cpu")


def test_below_that_or_without_torchao_blocks_are_streamed(kontext: ModelSize) -> None:
    assert place(gpu(7), kontext).offload == "group"
    placed = place(gpu(22.5, torchao=False), kontext)
    assert (placed.quantization, placed.offload) == ("none", "group")
    assert "pip install '.[quantization]'" in placed.reason


def test_less_can_be_asked_for_than_would_fit(kontext: ModelSize) -> None:
    """As after memory ran out in spite of the figures; each is smaller than the one before, until there is none."""
    tried = [place(gpu(39), kontext)]
    for _ in range(3):
        tried.append(place(gpu(39), kontext, below=tried[-1].needed))
    assert [placed.weights for placed in tried] == [
        "weights in bfloat16",
        "weights of 8 bits (fp8)",
        "weights of 4 bits (nf4)",
        "weights in bfloat16, streamed from main memory",
    ]
    with pytest.raises(EngineError):
        place(gpu(39), kontext, below=tried[-1].needed)
    with pytest.raises(EngineError):
        place(gpu(39), kontext, "int8", below=place(gpu(39), kontext, "int8").needed)


def test_what_main_memory_cannot_hold_is_not_kept_there(kontext: ModelSize) -> None:
    roomy, tight = place(gpu(22.5, main=64), kontext), place(gpu(22.5, main=8), kontext)
    assert (roomy.fuses_before_quantizing, roomy.keeps_text_encoders) == (True, True)
    assert (tight.fuses_before_quantizing, tight.keeps_text_encoders) == (False, False)


def test_what_does_not_fit_is_refused_with_both_figures(kontext: ModelSize) -> None:
    with pytest.raises(EngineError) as failure:
        place(gpu(7.25, main=16), kontext)
    said = str(failure.value)
    assert "7.2 GiB of 7.8 GiB free" in said
    assert "weights of 4 bits" in said
    assert "of main memory; a GPU has" in said
    assert "16.0 GiB: free some" in said


def test_a_gpu_without_bfloat16_is_refused(kontext: ModelSize) -> None:
    with pytest.raises(EngineError, match="computes in bfloat16"):
        place(gpu(39, bfloat16=False), kontext)


@pytest.mark.parametrize(
    ("quantization", "machine", "said"),
    [
        ("int8", gpu(39, torchao=False), "need the library torchao: pip install"),
        ("fp8", gpu(39, float8=False), "take quantization=int8"),
        ("int8", gpu(11), "weights of 8 bits"),
    ],
)
def test_a_forced_quantisation_is_had_or_refused(
    kontext: ModelSize, quantization: Quantization, machine: Machine, said: str
) -> None:
    with pytest.raises(EngineError, match=said):
        place(machine, kontext, quantization)
    assert place(gpu(39), kontext, quantization).quantization == quantization


def test_16_bits_can_be_insisted_on(kontext: ModelSize) -> None:
    assert place(gpu(22.5), kontext, "none").offload == "group"


@given(
    free=st.floats(0, 100),
    main=st.floats(0, 100),
    float8=st.booleans(),
    torchao=st.booleans(),
    cached=st.booleans(),
)
def test_more_memory_never_gives_less(free: float, main: float, float8: bool, torchao: bool, cached: bool) -> None:
    model = ModelSize(11_901_408_320, TEXT_ENCODERS, 83_819_683, 3072, 57, cached)

    def rank(machine: Machine) -> int:
        try:
            placed = place(machine, model)
        except EngineError:
            return 0
        assert placed.quantization == "none" or machine.torchao
        assert placed.quantization != "fp8" or machine.float8
        bits = {"nf4": 2, "int8": 3, "fp8": 3, "none": 4}[placed.quantization]
        return 1 if placed.offload == "group" else bits

    machine = gpu(free, main=main, float8=float8, torchao=torchao)
    assert rank(machine) <= rank(replace(machine, free=machine.free + GIB))
    assert rank(machine) <= rank(replace(machine, main_memory=machine.main_memory + GIB))


def cpu(main: float, torchao: bool = True) -> Machine:
    return Machine("cpu", "the CPU", int(main * GIB), int(main * GIB), int(main * GIB), True, False, torchao)


def test_a_cpu_takes_32_bits_or_16_where_memory_is_short(kontext: ModelSize) -> None:
    assert place(cpu(128), kontext).dtype == torch.float32
    assert place(cpu(48), kontext).dtype == torch.bfloat16
    assert "takes hours at full size" in place(cpu(48), kontext).reason
    with pytest.raises(EngineError, match=r"of main memory on the CPU, and 16\.0 GiB are free"):
        place(cpu(16), kontext)


def test_a_cpu_quantises_only_when_asked_to(kontext: ModelSize) -> None:
    assert place(cpu(48), kontext, "int8").quantization == "int8"
    with pytest.raises(EngineError, match="torchao"):
        place(cpu(48, torchao=False), kontext, "int8")


def test_the_cpu_is_examined() -> None:
    found = examine("cpu")
    assert (found.device, found.bfloat16) == ("cpu", True)
    assert 0 < found.main_memory <= found.total == psutil.virtual_memory().total


def test_a_device_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_DEVICE", "tpu")
    with pytest.raises(InputError, match="REFGC_DEVICE is 'tpu'; set it to cuda"):
        examine()
    with pytest.raises(EngineError, match="REFGC_DEVICE is 'abacus'; set it to cuda"):
        examine("abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFGC_DEVICE", raising=False)
    with pytest.raises(EngineError) as failure:
        examine()
    assert str(failure.value) == NO_GPU
