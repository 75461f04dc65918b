"""Gates read from an adapter's file, without torch, against what FreqMoLE says itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from refgc.errors import EngineError, InputError
from refgc.evaluation.figures.alpha import make_alpha, read_gates
from refgc.model import weights
from refgc.model.freqmole import FreqMoLE, FreqMoLEConfig, inject
from tests.support.tiny_freqmole import teach
from tests.support.tiny_models import tiny_transformer


def saved(folder: Path, dtype: torch.dtype = torch.float32, blocks: tuple[int, int] = (2, 3)) -> FreqMoLE:
    """Experts that have learnt something, saved in a folder."""
    freqmole = teach(inject(tiny_transformer(0, *blocks), FreqMoLEConfig(rank=2), dtype=dtype))
    weights.save(freqmole, folder)
    return freqmole


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FreqMoLE's weights; not to be written to."""
    folder = tmp_path_factory.mktemp("adapter") / "learnt"
    saved(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_alphas_are_those_of_the_experts(tmp_path: Path, dtype: torch.dtype) -> None:
    # Eleven blocks, so that number 10 does not come before number 2.
    freqmole = saved(tmp_path / "adapter", dtype, (11, 2))
    expected = {block: torch.sigmoid(logit.double()).item() for block, logit in logits(freqmole).items()}
    gates = read_gates(str(tmp_path / "adapter"))
    assert list(gates.blocks) == list(expected)
    assert gates.alphas == pytest.approx(tuple(expected.values()), rel=1e-12)


def logits(freqmole: FreqMoLE) -> dict[str, torch.Tensor]:
    ending = ".frequency_gate.logit"
    return {
        name.removesuffix(ending): parameter.detach()
        for name, parameter in freqmole.named_parameters()
        if name.endswith(ending)
    }


def test_the_start_of_training_is_that_of_new_experts(adapter: Path) -> None:
    fresh = inject(tiny_transformer(), FreqMoLEConfig(rank=2))
    assert read_gates(str(adapter)).initial == pytest.approx(tuple(fresh.alphas().values()), abs=1e-6)


def test_a_figure_needs_no_torch_and_is_the_same_twice(adapter: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from refgc.evaluation.figures.alpha import make_alpha\n"
        "make_alpha([sys.argv[1]], [Path(sys.argv[2])]); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(adapter), str(tmp_path / "one.svg")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
    make_alpha([str(adapter)], [tmp_path / "two.svg"])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    (data,) = json.loads((tmp_path / "one.json").read_bytes())["adapters"]
    assert data["alpha"] == list(read_gates(str(adapter)).alphas)
    assert data["label"] == "learnt"


def test_labels_may_be_given(adapter: Path, tmp_path: Path) -> None:
    data = make_alpha([f"a={adapter}", f"b $x={adapter}"], [tmp_path / "alpha.png"])
    assert [one["label"] for one in json.loads(data.read_bytes())["adapters"]] == ["a", "b $x"]


def test_what_has_no_gates_or_is_damaged_is_told(adapter: Path, tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    weights.export_lora(inject(tiny_transformer(), FreqMoLEConfig(rank=2)), lora)
    cut = Path(shutil.copytree(adapter, tmp_path / "cut"))
    content = (cut / "freqmole.safetensors").read_bytes()
    (cut / "freqmole.safetensors").write_bytes(content[:-8])
    other = tmp_path / "other"
    saved(other, blocks=(1, 1))
    (tmp_path / "empty").mkdir()
    for given, part in (
        ([lora], "is a LoRA, which has no gates"),
        ([cut], "is damaged or cut off"),
        ([tmp_path / "empty"], "has no freqmole.safetensors"),
        ([adapter, other], "have gates on other blocks"),
    ):
        with pytest.raises(InputError) as told:
            make_alpha([str(one) for one in given], [tmp_path / "alpha.png"])
        assert part in str(told.value)
        assert str(told.value).endswith(".")


def test_a_name_that_is_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineError, match="'nobody/nothing' is no folder on this machine"):
        read_gates("nobody/nothing")
