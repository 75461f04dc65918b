"""Marks as they come from a browser, the masks that they make, and what the pad of a picture answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

import gradio as gr
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgc.diptych.preview import make_preview_request
from refgc.errors import InputError
from refgc.page.marking.mask import (
    LONGEST_SIDE,
    MOST_MARKS,
    Box,
    Click,
    Mark,
    Marking,
    ObjectSegmenter,
    prompt_of,
    read_marks,
)
from refgc.page.marking.pad import MarkingPad, build_marking_pad
from refgc.page.service.limits import BusyError
from refgc.page.service.runs import Service
from refgc.settings import Settings
from tests.support.pictures import overlap

SIZE = (200, 100)


def click(x: float, y: float, kind: Literal["object", "background"] = "object") -> Mark:
    return Click(kind=kind, points=(x, y))


def box(*points: float) -> Mark:
    return Box(kind="box", points=points)


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
        read_marks([{"kind": kind, "points": points}])


def test_what_is_no_list_of_marks_is_refused() -> None:
    mark = {"kind": "object", "points": [0.5, 0.5]}
    for sent in (None, "marks", {"0": mark}, [mark] * (MOST_MARKS + 1)):
        with pytest.raises(InputError, match="neither a click nor a box"):
            read_marks(sent)
    corners = {"kind": "box", "points": [0.1, 0.1, 0.9, 0.9]}
    with pytest.raises(InputError, match="two boxes"):
        read_marks([corners, mark, corners])
    assert read_marks([mark, corners]) == (click(0.5, 0.5), box(0.1, 0.1, 0.9, 0.9))


# --- the mask that they make ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [click(0.5, 0.5), box(0.1, 0.1, 0.9, 0.9)], ids=["click", "box"])
def test_one_mark_finds_the_object(segmenter: ObjectSegmenter, object_folder: Path, mark: Mark) -> None:
    marked = segmenter.segment(Marking(object_folder / "scene.png", marks=(mark,)), "scene")
    assert marked.mask_source == "marks"
    assert marked.mask is not None
    assert overlap(marked.mask.values, object_folder / "scene_mask.png") > 0.9


def test_without_marks_the_given_mask_counts(segmenter: ObjectSegmenter, object_folder: Path) -> None:
    marking = Marking(object_folder / "scene.png", mask_file=object_folder / "scene_mask.png")
    marked = segmenter.segment(marking, "scene")
    assert marked.mask_source == "file"
    assert marked.mask is not None
    assert overlap(marked.mask.values, object_folder / "scene_mask.png") == 1
    again = segmenter.segment(replace(marking, marks=(box(0.1, 0.1, 0.9, 0.9),)), "scene")
    assert again.mask_source == "marks"


def test_transparency_marks_the_object(segmenter: ObjectSegmenter, object_folder: Path, tmp_path: Path) -> None:
    with (
        PIL.Image.open(object_folder / "reference.png") as picture,
        PIL.Image.open(object_folder / "reference_mask.png") as mask,
    ):
        picture.putalpha(mask)
        picture.save(tmp_path / "cut-out.png")
    marked = segmenter.segment(Marking(tmp_path / "cut-out.png"), "reference")
    assert marked.mask_source == "transparency"
    assert marked.mask is not None
    assert overlap(marked.mask.values, object_folder / "reference_mask.png") == 1


def test_an_object_that_stands_out_is_found_without_marks(segmenter: ObjectSegmenter, object_folder: Path) -> None:
    marked = segmenter.segment(Marking(object_folder / "reference.png"), "reference")
    assert marked.mask_source == "detection"
    assert marked.mask is not None
    assert overlap(marked.mask.values, object_folder / "reference_mask.png") > 0.9


def test_the_references_object_is_found_in_the_scene(segmenter: ObjectSegmenter, object_folder: Path) -> None:
    reference = Marking(object_folder / "reference.png", mask=object_folder / "reference_mask.png")
    marked = segmenter.segment(Marking(object_folder / "scene.png"), "scene", reference=reference)
    assert marked.mask_source == "detection"
    assert marked.mask is not None
    assert overlap(marked.mask.values, object_folder / "scene_mask.png") > 0.9


def test_a_picture_in_which_nothing_stands_out_is_shown_without_a_mask(
    segmenter: ObjectSegmenter, tmp_path: Path
) -> None:
    PIL.Image.new("RGB", (300, 200), "teal").save(tmp_path / "plain.png")
    marked = segmenter.segment(Marking(tmp_path / "plain.png"), "scene")
    assert (marked.mask, marked.mask_source) == (None, "none")
    picture, mask = marked.write(tmp_path / "shown")
    assert mask is None
    with PIL.Image.open(picture) as shown:
        assert shown.size == (300, 200)


def test_a_large_picture_is_marked_at_a_smaller_size(segmenter: ObjectSegmenter, tmp_path: Path) -> None:
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 3000, 3), dtype=np.uint8)).save(
        tmp_path / "wide.png"
    )
    PIL.Image.new("L", (3000, 900)).save(tmp_path / "mask.png")
    with PIL.Image.open(tmp_path / "mask.png") as mask:
        mask.paste(255, (300, 300, 900, 600))
        mask.save(tmp_path / "mask.png")
    marked = segmenter.segment(Marking(tmp_path / "wide.png", mask_file=tmp_path / "mask.png"), "scene")
    assert marked.image.size == (LONGEST_SIDE, 307)
    small = marked.write(tmp_path / "shown")[1]
    request = make_preview_request(tmp_path / "wide.png", tmp_path / "wide.png", reference_mask=small, scene_mask=small)
    assert request.reference_mask is not None
    assert request.reference_mask.size == (3000, 900)
    assert request.reference_mask.values[400:500, 400:800].min() > 0.99


def test_a_mask_that_cannot_be_used_is_told(segmenter: ObjectSegmenter, object_folder: Path, tmp_path: Path) -> None:
    PIL.Image.new("L", (512, 512), 255).save(tmp_path / "full.png")
    with pytest.raises(InputError, match="scene mask"):
        segmenter.segment(Marking(object_folder / "scene.png", mask_file=tmp_path / "full.png"), "scene")


# --- the pad of a picture -------------------------------------------------------------------------------------------

VISITOR = gr.Request(session_hash="visitor")


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where what the page writes for a visitor goes."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def build_pad(segmenter: ObjectSegmenter) -> MarkingPad:
    with gr.Blocks():
        return build_marking_pad(segmenter, "Scene", "scene", "scene", mask_file=gr.File())


def in_browser(source: Path, *marks: Mark, mask_file: Path | None = None) -> dict[str, Any]:
    """What the browser has of a picture."""
    sent = [mark.model_dump(mode="json") for mark in marks]
    return {"source": str(source), "mask_file": mask_file and str(mask_file), "marks": sent}


def values(
    pad: MarkingPad,
    source: Path | None,
    surface: Any = None,
    shown: Marking | None = None,
    mask_file: Path | None = None,
) -> dict[Any, Any]:
    """The values of the pad's components, as Gradio gives them to a handler."""
    return {
        pad.file: source and str(source),
        pad.surface: surface,
        pad.marking: shown,
        pad.mask_file: mask_file and str(mask_file),
    }


def sentence(updates: Mapping[Any, Any], pad: MarkingPad) -> str:
    """What the pad's note says."""
    note = updates[pad.note]
    return str(note["value"] if isinstance(note, dict) else note)


def test_marks_are_read_as_they_are_in_the_browser_now(segmenter: ObjectSegmenter) -> None:
    pad, source = build_pad(segmenter), Path("/up/scene.jpg")
    shown = Marking(source, None, (click(0.5, 0.5),), Path("/up/mask.png"))
    assert pad.read(values(pad, None)) is None
    assert pad.read(values(pad, source, in_browser(source, click(0.5, 0.5)), shown)) == shown
    newer = pad.read(values(pad, source, in_browser(source, click(0.5, 0.5), click(0.2, 0.2)), shown))
    assert newer == Marking(source, None, (click(0.5, 0.5), click(0.2, 0.2)))
    # After a long while the server has forgotten what is shown, and the browser has not.
    assert pad.read(values(pad, source, in_browser(source, click(0.5, 0.5)))) == Marking(source, None, shown.marks)


def test_marks_of_another_picture_or_older_than_the_mask_file_do_not_count(segmenter: ObjectSegmenter) -> None:
    pad, source, mask = build_pad(segmenter), Path("/up/scene.jpg"), Path("/up/mask.png")
    other = in_browser(Path("/up/other.jpg"), click(0.5, 0.5))
    assert pad.read(values(pad, source, other)) == Marking(source)
    older = in_browser(source, click(0.5, 0.5))
    assert pad.read(values(pad, source, older, mask_file=mask)) == Marking(source, mask)
    newer = in_browser(source, click(0.5, 0.5), mask_file=mask)
    assert pad.read(values(pad, source, newer, mask_file=mask)) == Marking(source, mask, (click(0.5, 0.5),))
    assert pad.read(values(pad, source, newer)) == Marking(source, None, (click(0.5, 0.5),))


@pytest.mark.usefixtures("uploads")
def test_an_answer_to_a_mark_leaves_the_marks_to_the_browser(segmenter: ObjectSegmenter, object_folder: Path) -> None:
    pad, source = build_pad(segmenter), object_folder / "scene.png"
    first = pad.follow(values(pad, source), VISITOR)
    assert first[pad.surface]["value"] == {"source": str(source), "mask_file": None, "marks": []}
    shown = first[pad.marking]
    marked = pad.follow(values(pad, source, in_browser(source, click(0.5, 0.5)), shown), VISITOR)
    assert "value" not in marked[pad.surface]
    assert marked[pad.surface]["drawing"]["marks"] == [click(0.5, 0.5).model_dump()]
    assert "is marked" in sentence(marked, pad)
    assert overlap(np.asarray(PIL.Image.open(marked[pad.marking].mask)) / 255, object_folder / "scene_mask.png") > 0.9
    assert pad.follow(values(pad, None, None, shown), VISITOR)[pad.marking] is None


@pytest.mark.usefixtures("uploads")
def test_refused_marks_and_mask_files_are_taken_back(
    segmenter: ObjectSegmenter, object_folder: Path, tmp_path: Path
) -> None:
    pad, source = build_pad(segmenter), object_folder / "scene.png"
    shown = pad.follow(values(pad, source), VISITOR)[pad.marking]
    both = in_browser(source, click(0.5, 0.5), click(0.5, 0.5, "background"))
    refused = pad.follow(values(pad, source, both, shown), VISITOR)
    assert "marked as object and as background" in sentence(refused, pad)
    refusal = refused[pad.surface]["refusal"]
    assert (len(refusal["refused"]), refusal["kept"]) == (2, [])
    assert pad.marking not in refused

    PIL.Image.new("L", (100, 400), 255).save(tmp_path / "bad.png")
    refused = pad.follow(values(pad, source, in_browser(source), shown, tmp_path / "bad.png"), VISITOR)
    assert refused[pad.mask_file] is None
    assert "same size" in sentence(refused, pad)


def test_what_is_no_picture_is_told_and_not_shown(segmenter: ObjectSegmenter, tmp_path: Path) -> None:
    pad, text = build_pad(segmenter), tmp_path / "notes.png"
    text.write_text("no picture")
    updates = pad.follow(values(pad, text), VISITOR)
    assert "not a picture that can be read" in sentence(updates, pad)
    assert updates[pad.marking] is None
    assert updates[pad.surface]["visible"] is False


class BusyService(Service):
    """Has no time for marks."""

    @contextmanager
    def marking(self, visit: str) -> Iterator[Event]:
        raise BusyError(f"Too many marks of {visit}.")
        yield Event()


def test_limits_of_marking_are_told() -> None:
    service = BusyService(Settings())
    pad = build_pad(ObjectSegmenter(service))
    assert "Too many marks of visitor." in sentence(pad.follow(values(pad, Path("/up/scene.jpg")), VISITOR), pad)
    service.decoder.close()
