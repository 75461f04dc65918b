"""RefGC Load Adapter: the names and shapes that ComfyUI's LoRA loader understands, and sentences where they differ.

How ComfyUI names FLUX's weights is written down here as a table. With COMFYUI_DIR, and COMFYUI_PYTHON where ComfyUI has
an environment of its own, the last test asks the real ComfyUI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from integrations.comfyui.adapter import LoadAdapter, Target, check_fits
from refgc import EngineError, InputError, adapter_as_lora
from refgc.model import weights
from refgc.model.freqmole import FreqMoLEConfig, inject
from tests.support.tiny_freqmole import teach
from tests.support.tiny_models import tiny_transformer

WIDTH = 32
# By a layer's name in diffusers: the weight in ComfyUI, and the first row and the number of rows that are the layer's,
# in widths; no rows for a weight that is the layer's alone.
DOUBLE: dict[str, tuple[str, tuple[int, int] | None]] = {
    "attn.to_q": ("img_attn.qkv", (0, 1)),
    "attn.to_k": ("img_attn.qkv", (1, 1)),
    "attn.to_v": ("img_attn.qkv", (2, 1)),
    "attn.add_q_proj": ("txt_attn.qkv", (0, 1)),
    "attn.add_k_proj": ("txt_attn.qkv", (1, 1)),
    "attn.add_v_proj": ("txt_attn.qkv", (2, 1)),
    "attn.to_out.0": ("img_attn.proj", None),
    "attn.to_add_out": ("txt_attn.proj", None),
    "ff.net.0.proj": ("img_mlp.0", None),
    "ff.net.2": ("img_mlp.2", None),
    "ff_context.net.0.proj": ("txt_mlp.0", None),
    "ff_context.net.2": ("txt_mlp.2", None),
}
SINGLE: dict[str, tuple[str, tuple[int, int] | None]] = {
    "attn.to_q": ("linear1", (0, 1)),
    "attn.to_k": ("linear1", (1, 1)),
    "attn.to_v": ("linear1", (2, 1)),
    "proj_mlp": ("linear1", (3, 4)),
    "proj_out": ("linear2", None),
}
ROWS = {"qkv": 3, "linear1": 7, "img_mlp.0": 4, "txt_mlp.0": 4}
COLUMNS = {"linear2": 5, "img_mlp.2": 4, "txt_mlp.2": 4}


def comfyui_flux(double: int, single: int) -> tuple[dict[str, Target], dict[str, tuple[int, ...]]]:
    """What ComfyUI's loader understands of a FLUX.1 of so many blocks, and the shapes of its weights."""
    targets: dict[str, Target] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for blocks, theirs, count, table in (
        ("transformer_blocks", "double_blocks", double, DOUBLE),
        ("single_transformer_blocks", "single_blocks", single, SINGLE),
    ):
        for number in range(count):
            for layer, (weight, rows) in table.items():
                key = f"diffusion_model.{theirs}.{number}.{weight}.weight"
                part = None if rows is None else (0, WIDTH * rows[0], WIDTH * rows[1])
                targets[f"transformer.{blocks}.{number}.{layer}"] = key if part is None else (key, part)
                height = next((many for ending, many in ROWS.items() if weight.endswith(ending)), 1)
                shapes[key] = (WIDTH * height, WIDTH * COLUMNS.get(weight, 1))
    return targets, shapes


@pytest.fixture(scope="module")
def transformer() -> FluxTransformer2DModel:
    """A tiny FLUX.1 of two double-stream and three single-stream blocks."""
    return tiny_transformer()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a FreqMoLE that has learnt something."""
    folder = tmp_path_factory.mktemp("adapter")
    weights.save(teach(inject(tiny_transformer(), FreqMoLEConfig(rank=3, lora_alpha=6.0))), folder)
    return folder / "freqmole.safetensors"


@pytest.fixture
def lora(adapter: Path) -> dict[str, Tensor]:
    """The adapter as a plain LoRA."""
    return adapter_as_lora(adapter)


def refusal(lora: dict[str, Tensor], double: int = 2, single: int = 3) -> str:
    """The sentence with which an adapter is refused."""
    with pytest.raises(InputError) as failure:
        check_fits(lora, *comfyui_flux(double, single), "mine.safetensors")
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_every_layer_of_an_adapter_is_one_that_comfyui_knows(lora: dict[str, Tensor]) -> None:
    targets, shapes = comfyui_flux(2, 3)
    check_fits(lora, targets, shapes, "mine.safetensors")
    assert {name.partition(".lora_")[0] for name in lora} == targets.keys()


def test_an_adapter_of_other_blocks_or_another_architecture_is_refused(lora: dict[str, Tensor]) -> None:
    assert "only " in refusal(lora, double=1)
    assert "which has no 'transformer.transformer_blocks.1." in refusal(lora, double=1)
    renamed = {name.replace("transformer.", "lora_unet_"): tensor for name, tensor in lora.items()}
    assert "no weight matches this model" in refusal(renamed)


def test_an_adapter_of_another_width_is_refused(lora: dict[str, Tensor]) -> None:
    key = "transformer.single_transformer_blocks.0.proj_mlp.lora_B.weight"
    assert f"{key} is (100, 6), and the layer takes 32 values and gives 128" in refusal(
        lora | {key: torch.ones(100, 6)}
    )
    key = "transformer.transformer_blocks.0.ff.net.2.lora_A.weight"
    assert "takes 128 values and gives 32" in refusal(lora | {key: torch.ones(6, 64)})


def test_an_adapter_that_was_never_trained_is_refused(lora: dict[str, Tensor]) -> None:
    assert "never trained" in refusal({name: tensor * (".lora_A." in name) for name, tensor in lora.items()})


def test_outside_of_comfyui_the_node_says_so() -> None:
    with pytest.raises(EngineError, match="works in ComfyUI only"):
        LoadAdapter().run(None, "refgc/freqmole.safetensors", 1.0)
    assert LoadAdapter.INPUT_TYPES()["required"]["adapter"][0] == []


# Builds a tiny FLUX.1 by ComfyUI's own classes, runs the node on it, and prints how far every weight moved from where
# the LoRA's product says, and how many weights there are.
IN_COMFYUI = """
import json, sys
from pathlib import Path
comfyui, adapter, root = sys.argv[1:4]
sys.argv = ["main.py", "--cpu"]
sys.path[:0] = [comfyui]
import comfy.options
comfy.options.enable_args_parsing()
import torch, folder_paths, comfy.sd, comfy.lora, comfy.model_patcher, comfy.supported_models
sys.path.append(root)
from integrations.comfyui.adapter import LoadAdapter
from refgc import adapter_as_lora
folder_paths.add_model_folder_path("loras", str(Path(adapter).parent))
config = comfy.supported_models.Flux(dict(
    image_model="flux", in_channels=16, out_channels=16, patch_size=2, vec_in_dim=24, context_in_dim=32, hidden_size=32,
    mlp_ratio=4.0, num_heads=2, depth=2, depth_single_blocks=3, axes_dim=[4, 6, 6], theta=10000, qkv_bias=True,
    guidance_embed=True))
config.set_inference_dtype(torch.float32, None)
model = config.get_model({}, "")
torch.manual_seed(0)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(std=0.1)
patcher = comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
(changed,) = LoadAdapter().run(patcher, Path(adapter).name, 0.5)
changed.patch_model()
after = {name: tensor.clone() for name, tensor in model.state_dict().items()}
targets = comfy.lora.model_lora_keys_unet(model, {})
lora = adapter_as_lora(adapter)
layers = sorted({name.partition(".lora_")[0] for name in lora})
print(json.dumps({"targets": {layer: targets[layer] for layer in layers},
                  "shapes": {key: list(tensor.shape) for key, tensor in before.items()}}))
for layer in layers:
    target = targets[layer]
    key, (_, start, count) = (target, (0, 0, None)) if isinstance(target, str) else target
    rows = slice(start, None if count is None else start + count)
    before[key][rows] += 0.5 * lora[f"{layer}.lora_B.weight"] @ lora[f"{layer}.lora_A.weight"]
print(max(float((after[key] - before[key]).abs().max()) for key in before))
"""


@pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no copy of ComfyUI")
def test_the_real_comfyui_has_these_names_and_adds_the_product_of_the_factors(adapter: Path, tmp_path: Path) -> None:
    script = tmp_path / "in_comfyui.py"
    script.write_text(IN_COMFYUI)
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [python, script, os.environ["COMFYUI_DIR"], adapter, root],
        cwd=os.environ["COMFYUI_DIR"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    names, difference = ended.stdout.splitlines()[-2:]
    targets, shapes = comfyui_flux(2, 3)
    theirs = json.loads(names)
    assert {
        layer: target if isinstance(target, str) else (target[0], tuple(target[1]))
        for layer, target in theirs["targets"].items()
    } == targets
    assert {key: tuple(theirs["shapes"][key]) for key in shapes} == shapes
    assert float(difference) < 1e-5
