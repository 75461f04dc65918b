"""The nodes of the ComfyUI pack, driven with tensors as ComfyUI passes them, and without ComfyUI."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor

from integrations.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from integrations.comfyui.comparison import before_and_after
from integrations.comfyui.preview import Preview
from integrations.comfyui.refine import Refine, refined_mask
from integrations.comfyui.tensors import image_of, mask_of, masks_of, pictures_of
from refgc import EngineError, InputError, RefineResult, Report, make_request, refine
from refgc.engine import make_report
from refgc.imaging.image import Image
from tests.support.synthetic import SyntheticPair

ROOT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, Any] = {
    "scale": "2x",
    "strength": 1.0,
    "surroundings": "plain",
    "engine": "correspondence",
    "object_name": "mug",
    "seed": 0,
}
PREVIEW: dict[str, Any] = {
    "object_name": "mug",
    "generator": "simulated",
    "factor": "4x",
    "identity_distortion": -1.0,
    "detail_inconsistency": -1.0,
    "texture_loss": 0.5,
    "quality_degradation": -1.0,
    "seed": 0,
}


def image(*arrays: np.ndarray[Any, Any]) -> Tensor:
    """Pictures of uint8 as ComfyUI's IMAGE."""
    return torch.from_numpy(np.stack(arrays).astype(np.float32) / 255)


@pytest.fixture(scope="module")
def pair(synthetic_pair: SyntheticPair) -> tuple[Tensor, Tensor]:
    """Reference and generated picture."""
    return image(synthetic_pair.reference), image(synthetic_pair.generated)


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """ComfyUI's modules as far as the pack calls them; the list notes what they are told.

    The real ones are tried by `benchmarks.comfyui`.
    """
    told: list[Any] = []

    class ProgressBar:
        def __init__(self, total: int) -> None:
            told.append(("total", total))

        def update_absolute(self, value: int) -> None:
            told.append(("value", value))

    class PromptServer:
        instance = types.SimpleNamespace(send_progress_text=lambda text, node: told.append((node, text)))

    modules: dict[str, dict[str, Any]] = {
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy.model_management": {
            "throw_exception_if_processing_interrupted": lambda: None,
            "unload_all_models": lambda: told.append("unloaded"),
            "soft_empty_cache": lambda: None,
        },
        "server": {"PromptServer": PromptServer},
        "folder_paths": {"get_temp_directory": lambda: str(tmp_path / "temp")},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return told


def refusal(**inputs: Any) -> str:
    """The sentence with which RefGC Refine ends."""
    with pytest.raises((InputError, EngineError)) as failure:
        Refine().run(**OPTIONS | inputs)
    sentence = str(failure.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_one_picture_becomes_what_the_library_makes_of_it(
    pair: tuple[Tensor, Tensor], synthetic_pair: SyntheticPair
) -> None:
    own = refine(synthetic_pair.reference, synthetic_pair.generated, scale=2, engine="correspondence")
    answer = Refine().run(*pair, **OPTIONS)
    picture, mask, (report,) = answer["result"]
    assert picture.dtype == mask.dtype == torch.float32
    assert picture.shape == (1, *own.image.pixels.shape)
    assert mask.shape == picture.shape[:3]
    assert (np.rint(picture[0].numpy() * 255) == own.image.pixels).all()
    assert own.trust is not None
    assert np.allclose(mask[0].numpy(), own.trust)
    assert Report.model_validate_json(report).placed
    assert answer["ui"] == {"images": []}, "outside of ComfyUI there is no place for them"


def test_each_of_a_batch_is_refined_and_several_references_are_photos_of_one_object(
    pair: tuple[Tensor, Tensor], comfyui: list[Any]
) -> None:
    reference, generated = pair
    smaller = torch.nn.functional.interpolate(reference.permute(0, 3, 1, 2), scale_factor=0.8).permute(0, 2, 3, 1)
    answer = Refine().run(
        reference, torch.cat([generated, generated.flip(2)]), **OPTIONS, reference_2=smaller, node="7"
    )
    pictures, masks, reports = answer["result"]
    assert len(pictures) == len(masks) == len(reports) == len(answer["ui"]["images"]) == 2
    assert all(len(json.loads(report)["references_used"]) <= 2 for report in reports)
    assert comfyui[0] == ("total", 200)
    values = [told[1] for told in comfyui if told[0] == "value"]
    assert values == sorted(values)
    assert values[-1] == 200
    assert any(told[0] == "7" and str(told[1]).startswith("2 of 2: ") for told in comfyui)


def test_the_comparison_is_written_where_comfyui_keeps_its_temporary_pictures(
    pair: tuple[Tensor, Tensor], comfyui: list[Any], tmp_path: Path
) -> None:
    (item,) = Refine().run(*pair, **OPTIONS, node="1")["ui"]["images"]
    with PILImage.open(tmp_path / "temp" / item["filename"]) as picture:
        assert picture.width > 1.5 * picture.height or picture.height > 200
    assert item["type"] == "temp"
    assert comfyui[-1][1].endswith(".")


def test_the_transparency_of_the_generated_picture_is_kept(pair: tuple[Tensor, Tensor]) -> None:
    reference, generated = pair
    alpha = torch.ones_like(generated[..., :1])
    alpha[:, :20] = 0
    picture, _, _ = Refine().run(reference, torch.cat([generated, alpha], dim=3), **OPTIONS)["result"]
    assert picture.shape[3] == 4
    assert picture[0, :30, :, 3].max() < 0.01
    assert picture[0, 60:, :, 3].min() > 0.99


def test_masks_may_have_two_or_three_dimensions_and_say_where_the_object_is(
    pair: tuple[Tensor, Tensor], synthetic_pair: SyntheticPair
) -> None:
    reference, generated = pair
    nowhere = torch.zeros(generated.shape[1:3])
    nowhere[:12, :12] = 1
    elsewhere = Refine().run(reference, generated, **OPTIONS, generated_mask=nowhere)["result"][1]
    found = Refine().run(reference, generated, **OPTIONS, generated_mask=torch.ones_like(nowhere)[None])["result"][1]
    assert found.sum() > 10 * elsewhere.sum()


def test_the_mask_that_load_image_gives_for_an_opaque_picture_counts_as_none(pair: tuple[Tensor, Tensor]) -> None:
    empty = torch.zeros(1, 64, 64)
    _, mask, _ = Refine().run(*pair, **OPTIONS, reference_mask=empty, generated_mask=empty)["result"]
    assert mask.any()
    assert "marks nothing" in refusal(reference=pair[0], generated=pair[1], generated_mask=torch.zeros(1, 128, 128))


def test_values_a_little_or_far_outside_the_range_are_clipped_and_others_refused(pair: tuple[Tensor, Tensor]) -> None:
    reference, generated = pair
    (clipped,) = pictures_of(generated * 3 - 1, "picture")
    assert clipped.min() == 0
    assert clipped.max() == 1
    broken = generated.clone()
    broken[0, 5, 5] = torch.nan
    assert "not finite" in refusal(reference=reference, generated=broken)


def test_inputs_that_cannot_be_used_end_in_one_sentence(pair: tuple[Tensor, Tensor]) -> None:
    reference, generated = pair
    assert "are the same picture" in refusal(reference=generated, generated=generated)
    assert "5 references" in refusal(reference=reference.repeat(5, 1, 1, 1), generated=generated)
    assert "connect an IMAGE" in refusal(reference=torch.zeros(1, 16, 64, 64), generated=generated)
    assert "empty batch" in refusal(reference=reference, generated=generated[:0])
    two = torch.ones(2, *reference.shape[1:3])
    assert "2 reference masks for 1 picture" in refusal(reference=reference, generated=generated, reference_mask=two)
    assert "2 generated masks for 1 pictures" in refusal(
        reference=reference, generated=generated, generated_mask=torch.ones(2, *generated.shape[1:3])
    )
    assert "connect a MASK" in refusal(reference=reference, generated=generated, generated_mask=torch.ones(1, 2, 3, 4))
    assert "object name is empty" in refusal(reference=reference, generated=generated, object_name=" ")


def test_an_error_in_a_batch_names_the_picture(pair: tuple[Tensor, Tensor]) -> None:
    _, generated = pair
    other = generated.flip(1)
    sentence = refusal(reference=generated, generated=torch.cat([other, generated]))
    assert sentence.startswith("Picture 2 of the batch of 2: The reference and the generated picture are the same")


class StoppedError(Exception):
    """ComfyUI's own exception for a run that somebody stops."""


def test_a_run_that_is_stopped_ends_by_comfyuis_own_exception(
    pair: tuple[Tensor, Tensor], comfyui: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        if ("7", "finding the object") in comfyui or any(told[0] == "7" for told in comfyui if told != "unloaded"):
            raise StoppedError

    monkeypatch.setattr(sys.modules["comfy.model_management"], "throw_exception_if_processing_interrupted", stop)
    with pytest.raises(StoppedError):
        Refine().run(*pair, **OPTIONS, node="7")
    assert sum(told[0] == "7" for told in comfyui) == 1


def test_a_stopped_queue_never_begins(pair: tuple[Tensor, Tensor], comfyui: list[Any]) -> None:
    def stop() -> None:
        raise StoppedError

    vars(sys.modules["comfy.model_management"])["throw_exception_if_processing_interrupted"] = stop
    with pytest.raises(StoppedError):
        Preview().run(pair[0], pair[0], **PREVIEW)
    assert comfyui == []


def test_the_diffusion_engine_gets_the_gpu_before_it_loads(
    pair: tuple[Tensor, Tensor], comfyui: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **options: Any) -> RefineResult:
        assert comfyui.count("unloaded") == (options["engine"] == "diffusion")
        raise EngineError("There is no GPU.")

    monkeypatch.setattr("refgc.refine", refuse)
    for engine in ("correspondence", "auto", "diffusion"):
        assert refusal(reference=pair[0], generated=pair[1], engine=engine) == "There is no GPU."


def test_the_mask_of_an_engine_that_tells_no_pixels_is_what_it_changed_within_the_objects_box(
    synthetic_pair: SyntheticPair,
) -> None:
    request = make_request(synthetic_pair.reference, synthetic_pair.generated, scale=1)
    before = np.asarray(synthetic_pair.generated)
    after = before.copy()
    after[10:20, 30:50] ^= 255
    taken = np.zeros(before.shape[:2], bool)
    taken[12:40, 30:60] = True
    report = make_report("diffusion", request, "Drawn.", taken=taken, seconds={}, libraries=())
    mask = refined_mask(RefineResult(Image(after), report, {"upscaled": Image(before.copy())}))
    assert mask[12:20, 30:50].all()
    assert mask.sum() == 8 * 20


def test_the_preview_gives_a_generated_picture_and_its_truth_for_each_scene(pair: tuple[Tensor, Tensor]) -> None:
    reference, _ = pair
    mask = torch.zeros(reference.shape[1:3])
    mask[30:-30, 30:-30] = 1
    scene = reference.roll(5, 2) * 0.8
    answer = Preview().run(
        reference, torch.cat([scene, scene]), **PREVIEW, reference_mask=mask, scene_mask=mask[None], node="3"
    )
    results = dict(zip(Preview.RETURN_NAMES, answer["result"], strict=True))
    kinds = dict(zip(Preview.RETURN_NAMES, Preview.RETURN_TYPES, strict=True))
    for name, result in results.items():
        assert len(result) == 2, name
        assert kinds[name] == "STRING" or result.ndim == {"IMAGE": 4, "MASK": 3}[kinds[name]], name
        assert kinds[name] == "STRING" or 0 <= result.min() <= result.max() <= 1, name
    assert results["truth"].shape[1] == 4 * results["generated"].shape[1]
    report = json.loads(results["report"][0])
    assert report["simulated"]
    assert report["artifacts"]["strengths"]["texture_loss"] == 0.5
    assert report["artifacts"]["strengths"]["identity_distortion"] > 0


def test_a_preview_takes_one_reference(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(InputError, match="2 references; a preview takes one"):
        Preview().run(pair[0].repeat(2, 1, 1, 1), pair[0], **PREVIEW)


def test_transparency_is_given_to_all_of_a_batch_or_to_none() -> None:
    opaque, transparent = np.full((4, 5, 3), 10, np.uint8), np.zeros((4, 5, 4), np.uint8)
    both = image_of([opaque, transparent])
    assert both.shape == (2, 4, 5, 4)
    assert both[0, ..., 3].min() == 1
    assert both[1, ..., 3].max() == 0
    assert image_of([opaque]).shape == (1, 4, 5, 3)
    assert mask_of([np.full((4, 5), 255, np.uint8)]).max() == 1


def test_masks_with_a_dimension_of_one_too_many_are_understood() -> None:
    mask = torch.rand(2, 8, 9)
    for form in (mask, mask[:, None], mask[..., None]):
        assert all(torch.equal(torch.from_numpy(a), b) for a, b in zip(masks_of(form, "mask"), mask, strict=True))
    assert masks_of(None, "mask") == []


def test_the_comparison_shows_the_object_before_and_after() -> None:
    before, after = np.zeros((400, 300, 3), np.uint8), np.full((400, 300, 3), 200, np.uint8)
    whole = np.asarray(before_and_after(before, after, None))
    assert whole.shape == (400, 608, 3)
    assert (whole[200, :300] == 0).all()
    assert (whole[200, 308:] == 200).all()
    part = before_and_after(before, after, (100, 100, 200, 200))
    assert part.size == (2 * 112 + 8, 112)


def test_the_definitions_have_what_comfyui_asks_for() -> None:
    assert NODE_CLASS_MAPPINGS.keys() == NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node(), node.FUNCTION))
        assert len(node.RETURN_TYPES) == len(node.OUTPUT_TOOLTIPS)
        assert len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES)) == len(node.RETURN_TYPES)
        inputs = node.INPUT_TYPES()
        taken = node.run.__code__.co_varnames[1 : node.run.__code__.co_argcount]
        assert {name for group in inputs.values() for name in group} == set(taken)
        json.dumps(inputs)


def test_importing_the_pack_loads_no_diffusion_library() -> None:
    code = (
        "import sys, integrations.comfyui; print([m for m in ('diffusers','transformers','cv2') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
