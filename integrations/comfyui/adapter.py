"""The node "RefGC Load Adapter"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

import refgc
from refgc import EngineError, InputError

from .host import host_module

# A layer's update is B times A. The endings of both names, as diffusers and kohya's scripts write them.
A_ENDINGS = (".lora_A.weight", ".lora_down.weight")
B_ENDINGS = (".lora_B.weight", ".lora_up.weight")
OTHER_ENDINGS = (".alpha", ".dora_scale")
# What ComfyUI names a layer's weight by: its key, or its key with the part of it that the layer is: dimension, first
# row, number of rows. FLUX in ComfyUI has query, key and value in one weight.
Target = str | tuple[str, tuple[int, int, int]]


class LoadAdapter:
    """Puts the paper's adapter (FreqMoLE), or a LoRA in its place, into a model that ComfyUI has loaded."""

    DESCRIPTION = __doc__
    CATEGORY = "RefGC"
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The model with the adapter.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The sockets and widgets of the node."""
        folders = host_module("folder_paths")
        files = [] if folders is None else folders.get_filename_list("loras")
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "FLUX.1-Kontext, or the base that the adapter was trained on."}),
                "adapter": (
                    [file for file in files if file.endswith(".safetensors")],
                    {
                        "tooltip": "A file in models/loras: pytorch_lora_weights.safetensors of a training run, or "
                        "freqmole.safetensors with its config.json beside it."
                    },
                ),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}),
            }
        }

    def run(self, model: Any, adapter: str, strength: float) -> tuple[Any]:
        """A copy of the model with the adapter's updates.

        Raises:
            InputError: the adapter cannot be read, was never trained, or does not fit the model.
            EngineError: outside of ComfyUI.
        """
        folders, lora_keys, sd = (host_module(name) for name in ("folder_paths", "comfy.lora", "comfy.sd"))
        if folders is None or lora_keys is None or sd is None:
            raise EngineError("RefGC Load Adapter works in ComfyUI only; run it in a workflow there.")
        file = folders.get_full_path("loras", adapter)
        if file is None:
            raise InputError(f"There is no {adapter!r} in ComfyUI's folder models/loras; put the adapter there.")
        lora = refgc.adapter_as_lora(file)
        shapes = {name: tuple(weight.shape) for name, weight in model.model.state_dict().items()}
        check_fits(lora, lora_keys.model_lora_keys_unet(model.model, {}), shapes, adapter)
        if strength == 0:
            return (model,)
        changed, _ = sd.load_lora_for_models(model, None, lora, strength, 0)
        return (changed,)


def check_fits(
    lora: Mapping[str, Tensor], targets: Mapping[str, Target], shapes: Mapping[str, tuple[int, ...]], name: str
) -> None:
    """Checks what ComfyUI's LoRA loader would pass over with a line in its log: every tensor has to change something.

    Args:
        lora: tensors by name.
        targets: by the names of layers that the loader understands, as `comfy.lora.model_lora_keys_unet` gives them.
        shapes: of the model's weights, by key.
        name: of the adapter, for the error sentence.

    Raises:
        InputError: a layer matches nothing, has another shape than the model's, or no update is other than zero.
    """
    layers = {tensor: _layer_of(tensor) for tensor in lora}
    strangers = [tensor for tensor, layer in layers.items() if layer not in targets]
    if strangers:
        matching = len(lora) - len(strangers)
        share = f"only {matching} of {len(lora)} weights match" if matching else "no weight matches"
        raise InputError(
            f"Of the adapter {name!r} {share} this model, which has no {strangers[0]!r}; load the model that the "
            "adapter was trained on, such as FLUX.1-Kontext."
        )
    for tensor, layer in layers.items():
        rows, columns = _shape_of(targets[layer], shapes)
        shape = lora[tensor].shape
        if (tensor.endswith(A_ENDINGS) and shape[1] != columns) or (tensor.endswith(B_ENDINGS) and shape[0] != rows):
            raise InputError(
                f"The adapter {name!r} belongs to another model: {tensor} is {tuple(shape)}, and the layer takes "
                f"{columns} values and gives {rows}; load the model that it was trained on."
            )
    if not any(lora[tensor].any() for tensor in lora if tensor.endswith(B_ENDINGS)):
        raise InputError(f"The adapter {name!r} changes nothing, because it was never trained; choose a trained one.")


def _layer_of(tensor: str) -> str:
    """The name of a tensor's layer, such as "transformer.transformer_blocks.0.attn.to_q"."""
    endings = (*A_ENDINGS, *B_ENDINGS, *OTHER_ENDINGS)
    return next((tensor.removesuffix(ending) for ending in endings if tensor.endswith(ending)), tensor)


def _shape_of(target: Target, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Rows and columns of a layer's weight."""
    if isinstance(target, str):
        return shapes[target][:2]
    key, (_, _, rows) = target
    return rows, shapes[key][1]
