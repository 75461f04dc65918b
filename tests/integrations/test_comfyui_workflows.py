"""The example workflows, compared with the nodes' definitions, and the pack's files."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

import refgc
from benchmarks.comfyui_workflows import to_prompt
from integrations.comfyui import NODE_CLASS_MAPPINGS

PACK = Path(__file__).resolve().parents[2] / "integrations" / "comfyui"
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))
EXAMPLE = PACK.parents[1] / "examples" / "paperback"

# ComfyUI's own nodes in the workflows: inputs with their types, and types of the outputs, as ComfyUI 0.3.64 tells them.
FILE: Any = ([], {})
SEED: Any = ("INT", {"control_after_generate": True})
THEIRS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "CheckpointLoaderSimple": ({"ckpt_name": FILE}, ["MODEL", "CLIP", "VAE"]),
    "UNETLoader": ({"unet_name": FILE, "weight_dtype": (["default"],)}, ["MODEL"]),
    "DualCLIPLoader": (
        {"clip_name1": FILE, "clip_name2": FILE, "type": (["flux"],), "device": (["default"],)},
        ["CLIP"],
    ),
    "VAELoader": ({"vae_name": FILE}, ["VAE"]),
    "CLIPTextEncode": ({"text": ("STRING",), "clip": ("CLIP",)}, ["CONDITIONING"]),
    "EmptyLatentImage": ({"width": ("INT",), "height": ("INT",), "batch_size": ("INT",)}, ["LATENT"]),
    "EmptySD3LatentImage": ({"width": ("INT",), "height": ("INT",), "batch_size": ("INT",)}, ["LATENT"]),
    "KSampler": (
        {
            "model": ("MODEL",),
            "seed": SEED,
            "steps": ("INT",),
            "cfg": ("FLOAT",),
            "sampler_name": (["euler"],),
            "scheduler": (["normal", "simple"],),
            "positive": ("CONDITIONING",),
            "negative": ("CONDITIONING",),
            "latent_image": ("LATENT",),
            "denoise": ("FLOAT",),
        },
        ["LATENT"],
    ),
    "VAEDecode": ({"samples": ("LATENT",), "vae": ("VAE",)}, ["IMAGE"]),
    "VAEEncode": ({"pixels": ("IMAGE",), "vae": ("VAE",)}, ["LATENT"]),
    "LoadImage": ({"image": ([], {"image_upload": True})}, ["IMAGE", "MASK"]),
    "ImageScale": (
        {
            "image": ("IMAGE",),
            "upscale_method": (["lanczos"],),
            "width": ("INT",),
            "height": ("INT",),
            "crop": (["disabled"],),
        },
        ["IMAGE"],
    ),
    "ReferenceLatent": ({"conditioning": ("CONDITIONING",), "latent": ("LATENT",)}, ["CONDITIONING"]),
    "FluxKontextMultiReferenceLatentMethod": (
        {"conditioning": ("CONDITIONING",), "reference_latents_method": (["offset", "index", "uxo/uno"],)},
        ["CONDITIONING"],
    ),
    "FluxGuidance": ({"conditioning": ("CONDITIONING",), "guidance": ("FLOAT",)}, ["CONDITIONING"]),
    "ConditioningZeroOut": ({"conditioning": ("CONDITIONING",)}, ["CONDITIONING"]),
    "SaveImage": ({"images": ("IMAGE",), "filename_prefix": ("STRING",)}, []),
    "PreviewImage": ({"images": ("IMAGE",)}, []),
    "MaskToImage": ({"mask": ("MASK",)}, ["IMAGE"]),
    "PreviewAny": ({"source": ("*",)}, []),
}


def definitions() -> dict[str, Any]:
    """Of all nodes, in the form of ComfyUI's `/object_info`."""
    ours = {
        name: {"input": node.INPUT_TYPES(), "output": list(node.RETURN_TYPES)}
        for name, node in NODE_CLASS_MAPPINGS.items()
    }
    theirs = {name: {"input": {"required": inputs}, "output": outputs} for name, (inputs, outputs) in THEIRS.items()}
    return {**theirs, **ours}


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the workflows."""
    content: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return content


def test_the_workflows_fit_the_nodes(workflow: dict[str, Any]) -> None:
    prompt = to_prompt(workflow, definitions())
    ours = [node for node in prompt.values() if node["class_type"].startswith("RefGC")]
    assert len(ours) == 1
    for name, value in ours[0]["inputs"].items():
        spec = {**definitions()[ours[0]["class_type"]]["input"]["required"]}.get(name)
        assert isinstance(value, list) or spec is not None


def test_numbers_of_nodes_and_links_are_used_once_and_both_ends_know_their_link(workflow: dict[str, Any]) -> None:
    numbers = [node["id"] for node in workflow["nodes"]]
    assert len(set(numbers)) == len(numbers)
    assert workflow["last_node_id"] == max(numbers)
    ends = {link[0]: link for link in workflow["links"]}
    assert len(ends) == len(workflow["links"])
    assert workflow["last_link_id"] == max(ends)
    given = {
        (number, node["id"], place)
        for node in workflow["nodes"]
        for place, output in enumerate(node["outputs"])
        for number in output["links"]
    }
    assert given == {(number, link[1], link[2]) for number, link in ends.items()}


def test_nothing_of_a_workflow_lies_over_another_node(workflow: dict[str, Any]) -> None:
    boxes = [(*node["pos"], *node["size"], node["id"]) for node in workflow["nodes"]]
    overlapping = [
        (one[4], other[4])
        for place, one in enumerate(boxes)
        for other in boxes[:place]
        if one[0] < other[0] + other[2] and other[0] < one[0] + one[2]
        # The title is a strip of 30 above a node.
        if one[1] - 30 < other[1] + other[3] and other[1] - 30 < one[1] + one[3]
    ]
    assert overlapping == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda nodes: nodes["RefGCRefine"]["widgets_values"].pop(), "has no value"),
        (lambda nodes: nodes["RefGCRefine"]["widgets_values"].append(1), "too many"),
        (lambda nodes: nodes["RefGCRefine"]["widgets_values"].__setitem__(0, "3x"), "no choice"),
        (lambda nodes: nodes["RefGCRefine"]["widgets_values"].__setitem__(1, 1.5), "out of range"),
        (lambda nodes: nodes["RefGCRefine"]["inputs"][0].update(link=None), "is not connected"),
        (lambda nodes: nodes["RefGCRefine"].update(type="RefGCRefined"), "there is no node"),
        (lambda nodes: nodes["RefGCRefine"]["inputs"][0].update(name="photo"), "there is no input"),
    ],
)
def test_a_workflow_that_does_not_fit_is_seen(spoil: Any, complaint: str) -> None:
    workflow = json.loads((PACK / "example_workflows" / "refine.json").read_text(encoding="utf-8"))
    spoilt = copy.deepcopy(workflow)
    spoil({node["type"]: node for node in spoilt["nodes"]})
    with pytest.raises(ValueError, match=complaint):
        to_prompt(spoilt, definitions())


def test_every_workflow_has_its_picture_and_the_pictures_that_it_loads(workflow: dict[str, Any]) -> None:
    folder = PACK / "example_workflows"
    for file in WORKFLOWS:
        with PILImage.open(file.with_suffix(".jpg")) as picture:
            assert max(picture.size) <= 1600
        assert file.with_suffix(".jpg").stat().st_size < 300_000
    for node in workflow["nodes"]:
        if node["type"] == "LoadImage":
            assert (folder / node["widgets_values"][0]).is_file()
    assert (folder / "refgc_reference.jpg").read_bytes() == (EXAMPLE / "hrri.jpg").read_bytes()
    assert (folder / "refgc_generated.png").read_bytes() == (EXAMPLE / "lrgi.png").read_bytes()


def test_the_pack_asks_for_this_version_of_the_package_and_not_for_torch() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        line
        for line in (PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line[:1] not in ("", "#")
    ]
    assert project["version"] == refgc.__version__
    assert project["dependencies"] == requirements == [f"refgc-sr2>={refgc.__version__}"]
    own = tomllib.loads((PACK.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert not [name for name in own if name.startswith(("torch", "diffusers", "transformers"))]
    assert (PACK / "LICENSE").read_bytes() == (PACK.parents[1] / "LICENSE").read_bytes()
