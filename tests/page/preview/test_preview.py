"""The preview tab's parts that need no browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.diptych.comparison import Comparison, Fidelity
from refgc.diptych.preview import make_preview_request, preview
from refgc.engine import RefineResult
from refgc.errors import InputError
from refgc.imaging.image import open_mask
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.marking.marks import Box, Click, Mark, Marking, prompt_of, read_mark
from refgc.page.marking.mask import LONGEST_SIDE, apply_marks
from refgc.page.pictures import ShownPreview, write_refinement, write_shown
from refgc.page.preview.tab import NAMES, find_preview_examples
from refgc.page.preview.view import DRAWN, SIMULATED, figures, introduction, missing_marks
from refgc.request import make_request
from tests.page.test_app import make_report
from tests.support.synthetic import make_synthetic_pair

SIZE = (200, 100)


def click(x: float, y: float, kind: str = "object") -> Mark:
    return read_mark(kind, [x, y])


def box(*points: float) -> Mark:
    return read_mark("box", list(points))


# --- marks ----------------------------------------------------------------------------------------------------------


def test_marks_become_pixels() -> None:
    marks = (click(0.5, 0.25), box(0.9, 0.8, 0.1, 0.2), click(0, 0, "background"))
    prompt = prompt_of(marks, SIZE)
    assert prompt.positive == ((100, 25),)
    assert prompt.negative == ((0, 0),)
    assert prompt.box == (20, 20, 180, 80)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_click_anywhere_lies_in_the_picture(x: float, y: float) -> None:
    ((column, row),) = prompt_of((click(x, y),), SIZE).positive
    assert 0 <= column < SIZE[0]
    assert 0 <= row < SIZE[1]


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("object", [0.5]),
        ("object", [0.1, 0.1, 0.9, 0.9]),
        ("box", [0.5, 0.5]),
        ("object", [0.5, 1.01]),
        ("background", [-0.1, 0.5]),
        ("object", [float("nan"), 0.5]),
        ("circle", [0.5, 0.5]),
        (None, None),
        ("object", "here"),
        (["object"], {"x": 1}),
    ],
)
def test_what_is_no_mark_is_refused(kind: object, points: object) -> None:
    with pytest.raises(InputError, match="neither a click nor a box"):
        read_mark(kind, points)


def test_a_new_box_takes_the_place_of_what_it_leaves_out() -> None:
    marking = Marking(Path("scene.jpg"))
    for mark in (click(0.2, 0.2), click(0.7, 0.7), click(0.1, 0.9, "background"), box(0, 0, 0.9, 0.9)):
        marking = marking.with_mark(mark)
    again = marking.with_mark(box(0.5, 0.5, 1, 1))
    assert [mark.points for mark in again.marks] == [(0.7, 0.7), (0.1, 0.9), (0.5, 0.5, 1, 1)]
    assert prompt_of(again.marks, SIZE).box == (100, 50, 200, 100)


def test_marks_are_taken_back_one_by_one_and_all_at_once() -> None:
    marking = Marking(Path("scene.jpg")).with_mark(click(0.2, 0.2)).with_mark(box(0, 0, 0.9, 0.9))
    assert [type(mark) for mark in marking.without_last().marks] == [Click]
    assert [type(mark) for mark in marking.marks] == [Click, Box]
    assert marking.without_any().marks == ()
    assert Marking(Path("scene.jpg")).without_last().marks == ()


# --- the mask that comes of them ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference and a scene that shows its object, with masks: reference.png, scene.png and their masks."""
    folder = tmp_path_factory.mktemp("pictures")
    pair = make_synthetic_pair()
    reference = np.full((640, 640, 3), 90, np.uint8)
    reference[64:576, 64:576] = pair.reference
    mask = np.zeros((640, 640), np.uint8)
    mask[64:576, 64:576] = 255
    scene_mask = PIL.Image.fromarray(pair.mask).resize((512, 512))
    for name, picture in {
        "reference": PIL.Image.fromarray(reference),
        "reference_mask": PIL.Image.fromarray(mask),
        "scene": PIL.Image.fromarray(pair.truth),
        "scene_mask": scene_mask,
    }.items():
        picture.save(folder / f"{name}.png")
    return folder


def overlap(mask: NDArray[np.float32], file: Path) -> float:
    """Shared area over the area of both."""
    with PIL.Image.open(file) as picture:
        truth = np.asarray(picture.resize((mask.shape[1], mask.shape[0]))) > 127
    return float(((mask > 0.5) & truth).sum() / ((mask > 0.5) | truth).sum())


@pytest.mark.parametrize("mark", [click(0.5, 0.5), box(0.1, 0.1, 0.9, 0.9)], ids=["click", "box"])
def test_one_mark_finds_the_object(folder: Path, mark: Mark) -> None:
    marked = apply_marks(Marking(folder / "scene.png").with_mark(mark), "scene")
    assert marked.origin == "marks"
    assert marked.mask is not None
    assert overlap(marked.mask.values, folder / "scene_mask.png") > 0.9


def test_without_marks_the_given_mask_counts(folder: Path) -> None:
    marking = Marking(folder / "scene.png", given=folder / "scene_mask.png")
    marked = apply_marks(marking, "scene")
    assert marked.origin == "given"
    assert marked.mask is not None
    assert overlap(marked.mask.values, folder / "scene_mask.png") == 1
    again = apply_marks(marking.with_mark(box(0.1, 0.1, 0.9, 0.9)), "scene")
    assert again.origin == "marks"


def test_transparency_marks_the_object(folder: Path, tmp_path: Path) -> None:
    with PIL.Image.open(folder / "reference.png") as picture, PIL.Image.open(folder / "reference_mask.png") as mask:
        picture.putalpha(mask)
        picture.save(tmp_path / "cut-out.png")
    marked = apply_marks(Marking(tmp_path / "cut-out.png"), "reference")
    assert marked.origin == "transparency"
    assert marked.mask is not None
    assert overlap(marked.mask.values, folder / "reference_mask.png") == 1


def test_an_object_that_stands_out_is_found_without_marks(folder: Path) -> None:
    marked = apply_marks(Marking(folder / "reference.png"), "reference")
    assert marked.origin == "found"
    assert marked.mask is not None
    assert overlap(marked.mask.values, folder / "reference_mask.png") > 0.9


def test_the_references_object_is_found_in_the_scene(folder: Path) -> None:
    reference = Marking(folder / "reference.png", mask=folder / "reference_mask.png")
    marked = apply_marks(Marking(folder / "scene.png"), "scene", reference)
    assert marked.origin == "found"
    assert marked.mask is not None
    assert overlap(marked.mask.values, folder / "scene_mask.png") > 0.9


def test_a_picture_in_which_nothing_stands_out_is_shown_without_a_mask(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (300, 200), "teal").save(tmp_path / "plain.png")
    marked = apply_marks(Marking(tmp_path / "plain.png"), "scene")
    assert (marked.mask, marked.origin) == (None, "nothing")
    picture, mask = marked.write(tmp_path / "shown")
    assert mask is None
    with PIL.Image.open(picture) as shown:
        assert shown.size == (300, 200)


def test_a_large_picture_is_marked_at_a_smaller_size(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 3000, 3), dtype=np.uint8)).save(
        tmp_path / "wide.png"
    )
    PIL.Image.new("L", (3000, 900)).save(tmp_path / "mask.png")
    with PIL.Image.open(tmp_path / "mask.png") as mask:
        mask.paste(255, (300, 300, 900, 600))
        mask.save(tmp_path / "mask.png")
    marked = apply_marks(Marking(tmp_path / "wide.png", given=tmp_path / "mask.png"), "scene")
    assert marked.picture.size == (LONGEST_SIDE, 307)
    small = marked.write(tmp_path / "shown")[1]
    request = make_preview_request(tmp_path / "wide.png", tmp_path / "wide.png", reference_mask=small, scene_mask=small)
    assert request.reference_mask is not None
    assert request.reference_mask.size == (3000, 900)
    assert request.reference_mask.values[400:500, 400:800].min() > 0.99


def test_a_mask_that_cannot_be_used_is_told(folder: Path, tmp_path: Path) -> None:
    PIL.Image.new("L", (512, 512), 255).save(tmp_path / "full.png")
    with pytest.raises(InputError, match="scene mask"):
        apply_marks(Marking(folder / "scene.png", given=tmp_path / "full.png"), "scene")


# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ShownPreview:
    request = make_preview_request(
        folder / "reference.png",
        folder / "scene.png",
        reference_mask=folder / "reference_mask.png",
        scene_mask=folder / "scene_mask.png",
        seed=3,
    )
    result = preview(request, generator="simulated")
    return write_shown(result, request, folder / "reference.png", tmp_path_factory.mktemp("preview") / "new")


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
    assert captions[1] == "Generated picture (LRGI), simulated: 128 × 128"
    assert captions[2].startswith("Truth")
    with PIL.Image.open(made.generated) as picture:
        assert picture.size == (128, 128)
        assert json.loads(picture.info["refgc-simulated"])["simulated"] is True
    assert all(file.is_file() for file in made.files)


def test_masks_that_are_sent_fit_their_pictures(made: ShownPreview, folder: Path) -> None:
    reference_mask, generated_mask = made.masks
    assert open_mask(reference_mask, size=(640, 640), name="reference mask").values.mean() == pytest.approx(0.64)
    small = open_mask(generated_mask, size=(128, 128), name="generated mask").values
    assert overlap(small, folder / "scene_mask.png") > 0.97


def test_refinement_is_shown_beside_the_truth(made: ShownPreview, refined: RefineResult) -> None:
    shown = write_refinement(made, refined)
    assert [caption.split(":")[0] for _, caption in shown.story][2:] == ["Refined", "Truth (HRGT)"]
    before, after = (PIL.Image.open(picture) for picture in shown.close_up)
    assert before.size == after.size < (512, 512)
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
    assert "unplaced" in text
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


def test_examples_are_there_with_their_masks() -> None:
    examples = find_preview_examples(find_examples(EXAMPLES_FOLDER))
    assert len(examples) == len(NAMES)
    for example in examples:
        for marking in (example.reference, example.scene):
            assert apply_marks(marking, "picture").origin == "given"
        assert example.meta.object_name != "object"


def test_without_examples_there_are_none(tmp_path: Path) -> None:
    assert find_preview_examples(find_examples(tmp_path)) == []
