"""The preview tab's parts that need no browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import PIL.Image
import pytest

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.diptych.comparison import Comparison, Fidelity
from refgc.diptych.preview import STRENGTHS, make_preview_request, preview
from refgc.engine import RefineResult
from refgc.errors import InputError
from refgc.imaging.image import open_mask
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.marking.mask import Click, Marking, ObjectSegmenter
from refgc.page.pictures import ShownPreview, write_refinement, write_shown
from refgc.page.preview.tab import FORGOTTEN, NAMES, PreviewTab, build_preview_tab, find_preview_examples
from refgc.page.preview.view import DRAWN, SIMULATED, figures, introduction, missing_marks
from refgc.page.refine.tab import build_refine_tab
from refgc.page.service.queue import Finished, Working
from refgc.page.service.runs import Service
from refgc.request import make_request
from tests.support.pictures import overlap
from tests.support.reports import make_report

# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(object_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ShownPreview:
    request = make_preview_request(
        object_folder / "reference.png",
        object_folder / "scene.png",
        reference_mask=object_folder / "reference_mask.png",
        scene_mask=object_folder / "scene_mask.png",
        seed=3,
    )
    result = preview(request, generator="simulated")
    return write_shown(result, request, object_folder / "reference.png", tmp_path_factory.mktemp("preview") / "new")


@pytest.fixture(scope="module")
def refined(made: ShownPreview) -> RefineResult:
    request = make_request(
        made.reference,
        made.generated,
        reference_mask=made.masks[0],
        generated_mask=made.masks[1],
        seed=made.report.seed,
    )
    return CorrespondenceEngine().refine(request)


def test_preview_is_shown_as_it_was_made(made: ShownPreview) -> None:
    assert [PIL.Image.open(picture).size for picture, _ in made.conditions] == [(1024, 512)] * 3
    captions = [caption for _, caption in made.story]
    assert captions[0].startswith("Reference")
    assert captions[1] == "Generated picture, simulated: 128 × 128"
    assert captions[2].startswith("Truth")
    with PIL.Image.open(made.generated) as picture:
        assert picture.size == (128, 128)
        assert json.loads(picture.info["refgc-simulated"])["simulated"] is True
    assert all(file.is_file() for file in made.files)


def test_masks_that_are_sent_fit_their_pictures(made: ShownPreview, object_folder: Path) -> None:
    reference_mask, generated_mask = made.masks
    assert open_mask(reference_mask, size=(640, 640), name="reference mask").values.mean() == pytest.approx(0.64)
    small = open_mask(generated_mask, size=(128, 128), name="generated mask").values
    assert overlap(small, object_folder / "scene_mask.png") > 0.97


def test_refinement_is_shown_beside_the_truth(made: ShownPreview, refined: RefineResult) -> None:
    shown = write_refinement(made, refined)
    assert [caption.split(":")[0] for _, caption in shown.story][2:] == ["Refined", "Truth"]
    assert [PIL.Image.open(picture).size for picture in shown.whole] == [refined.image.size] * 2
    left, top, right, bottom = shown.box
    assert 0 < right - left < 512
    assert 0 < bottom - top < 512
    assert shown.comparison is not None
    assert shown.comparison.psnr_gain_inside > 1
    with PIL.Image.open(shown.download) as picture:
        assert np.array_equal(np.asarray(picture), refined.image.pixels)


def closeness(psnr: float, ssim: float) -> Fidelity:
    return Fidelity(psnr=psnr, ssim=ssim, psnr_inside=psnr - 5, ssim_inside=ssim - 0.2)


def test_figures_are_in_the_right_columns() -> None:
    comparison = Comparison(upscaled=closeness(24.5, 0.81), refined=closeness(27.25, 0.9))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", figures(comparison, make_report()))
    assert cells[:3] == ["19.50 dB", "22.25 dB", "+2.75 dB"]
    assert cells[6:9] == ["24.50 dB", "27.25 dB", "+2.75 dB"]
    assert cells[9:] == ["0.810", "0.900", "+0.090"]


def test_without_a_truth_there_are_no_figures() -> None:
    text = figures(None, make_report(message="<b>Only</b> enlarged.", placed=False, object_box=None))
    assert "<table" not in text
    assert 'class="report enlarged"' in text
    assert "<b>Only" not in text


def test_introduction_says_whether_pictures_are_simulated() -> None:
    assert SIMULATED in introduction("There is no GPU.")
    assert DRAWN not in introduction("There is no GPU.")
    assert "imulated" not in introduction("")


def test_what_is_missing_is_named() -> None:
    bare = Marking(Path("picture.jpg"))
    marked = Marking(Path("picture.jpg"), mask=Path("mask.png"))
    assert "two pictures" in missing_marks(None, None)
    assert "reference photo" in missing_marks(None, marked)
    assert "scene" in missing_marks(marked, None)
    assert "in the reference photo" in missing_marks(bare, marked)
    assert "in the scene" in missing_marks(marked, bare)
    assert missing_marks(marked, marked) == ""


# --- examples -------------------------------------------------------------------------------------------------------


def test_examples_are_there_with_their_masks(segmenter: ObjectSegmenter) -> None:
    examples = find_preview_examples(find_examples(EXAMPLES_FOLDER))
    assert len(examples) == len(NAMES)
    for example in examples:
        for marking in (example.reference, example.scene):
            assert segmenter.segment(marking, "picture").mask_source == "file"
        assert example.meta.object_name != "object"


def test_without_examples_there_are_none(tmp_path: Path) -> None:
    assert find_preview_examples(find_examples(tmp_path)) == []


# --- what a visitor does --------------------------------------------------------------------------------------------


@pytest.fixture
def tab(service: Service, segmenter: ObjectSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreviewTab:
    """The tab of a page without examples, whose files go to `tmp_path`."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with gr.Blocks() as demo:
        refine_tab = build_refine_tab(demo, [], service, segmenter, state_seconds=60)
        return build_preview_tab([], gr.Tabs(), refine_tab, service, segmenter, state_seconds=60)


def values(tab: PreviewTab, reference: Marking | None, scene: Marking | None, **options: object) -> dict[Any, Any]:
    """The values of the components, as Gradio gives them to a handler."""
    inputs = {component: getattr(component, "value", None) for component in tab.inputs}
    for pad, marking in ((tab.reference, reference), (tab.scene, scene)):
        if marking is not None:
            marks = [mark.model_dump(mode="json") for mark in marking.marks]
            inputs[pad.file] = str(marking.source)
            inputs[pad.surface] = {"source": str(marking.source), "mask_file": None, "marks": marks}
            inputs[pad.marking] = marking if marking.mask else None
    return inputs | {getattr(tab.options, name): value for name, value in options.items()}


def test_a_preview_is_read_with_marks_whose_mask_is_still_to_be_made(tab: PreviewTab, object_folder: Path) -> None:
    reference = Marking(object_folder / "reference.png", mask=object_folder / "reference_mask.png")
    scene = Marking(object_folder / "scene.png", marks=(Click(kind="object", points=(0.5, 0.5)),))
    job = tab.read(values(tab, reference, scene, object_name="tin", seed=None), "visitor")
    assert (job.reference, job.reference_mask) == (reference.source, reference.mask)
    assert (job.scene, job.object_name, job.seed) == (scene.source, "tin", 0)
    assert dict(job.artifacts) == STRENGTHS.model_dump()
    assert job.scene_mask is not None
    with PIL.Image.open(job.scene_mask) as mask:
        assert overlap(np.asarray(mask) / 255, object_folder / "scene_mask.png") > 0.9


def test_a_missing_picture_is_named(tab: PreviewTab, object_folder: Path) -> None:
    reference = Marking(object_folder / "reference.png", mask=object_folder / "reference_mask.png")
    with pytest.raises(InputError, match="Add the scene first"):
        tab.read(values(tab, reference, None), "visitor")


def test_a_preview_that_is_no_longer_there_cannot_be_sent_and_that_is_said(
    tab: PreviewTab, made: ShownPreview, tmp_path: Path
) -> None:
    gone = replace(made, folder=tmp_path / "deleted")
    for shown in (None, gone):
        updates = tab.send(shown)
        assert set(updates) == {tab.status}
        assert FORGOTTEN in updates[tab.status]
    updates = tab.send(made)
    assert updates[tab.refine_tab.inputs.generated.file] == str(made.generated)
    assert updates[tab.refine_tab.inputs.generated.marking].mask_file == made.masks[1]


def test_choosing_another_example_ends_the_run_before(
    segmenter: ObjectSegmenter, service: Service, tmp_path: Path, made: ShownPreview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    examples = find_examples(EXAMPLES_FOLDER)
    with gr.Blocks() as demo, gr.Tabs() as tabs, gr.Tab("Preview"):
        refine_tab = build_refine_tab(demo, [], service, segmenter, state_seconds=60)
        tab = build_preview_tab(examples, tabs, refine_tab, service, segmenter, state_seconds=60)
    visit, ended = gr.Request(session_hash="visit"), []
    second = gr.SelectData(None, {"index": 1, "value": None})

    def goes_on(*_: object) -> Iterator[object]:
        try:
            yield Working("drawing", 0.5)
            yield Working("drawing", 0.6)
            yield Finished(made)
        finally:
            ended.append(True)

    monkeypatch.setattr(service, "preview", goes_on)
    monkeypatch.setattr(service, "refine_preview", goes_on)
    example = tab.examples[0]
    given = values(tab, example.reference, example.scene)
    running = iter(tab.generate(given, visit))
    assert "Drawing" in str([next(running), next(running)])
    tab.choose(second, visit)
    assert list(running) == []
    assert ended == [True]
    # Another visit's choice ends nothing.
    running = iter(tab.generate(given, visit))
    next(running)
    tab.choose(second, gr.Request(session_hash="another"))
    *_, last = running
    unrefined = last[tab.unrefined]
    assert unrefined.shown is made
    refining = iter(tab.refine(unrefined, visit))
    next(refining)
    tab.choose(second, visit)
    assert list(refining) == []
    # What the earlier run left is not refined, and the button stays the newer run's.
    assert tab.button not in next(iter(tab.refine(unrefined, visit)))
