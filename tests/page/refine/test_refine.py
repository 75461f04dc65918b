"""The Refine tab's parts that need no browser: what was asked for, the code that makes it again, the history."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import gradio as gr
import numpy as np
import PIL.Image
import pytest
from gradio.utils import get_upload_folder
from hypothesis import given
from hypothesis import strategies as st

from refgc.engine import DRAWING, EngineName, Progress, RefineResult, Viewer
from refgc.errors import InputError
from refgc.imaging.image import open_image
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.gallery.manifest import GALLERY_FOLDER
from refgc.page.marking.mask import Click, Marking, ObjectSegmenter
from refgc.page.pictures import ShownPictures
from refgc.page.refine.code import Code, code_for
from refgc.page.refine.examples import find_results, show_result
from refgc.page.refine.inputs import (
    GENERATED_CAPTIONS,
    REFERENCE_CAPTIONS,
    RefineInputs,
    Submission,
    build_inputs,
    build_pads,
)
from refgc.page.refine.result import MOST_ENTRIES, NOTHING_NEW, OF_OTHER_PICTURES, Entry, History
from refgc.page.refine.tab import DELETED, PLAIN_KEPT, RefineTab, build_refine_tab
from refgc.page.service.runs import Service
from refgc.page.words import progress_line
from refgc.request import RefineRequest
from refgc.settings import Settings
from tests.support.ncnn_files import write_weights
from tests.support.pictures import overlap
from tests.support.reports import make_report, make_result

SUBMISSION = Submission(Marking(Path("/up/1/photo.jpg")), Marking(Path("/up/2/generated.png")), "generated.png")
CLICK = Click(kind="object", points=(0.5, 0.5))


def arguments_of(code: Code) -> dict[str, object]:
    """What the shown script calls `refine` with."""
    call = next(
        node
        for node in ast.walk(ast.parse(code.python))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refine"
    )
    return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}


def words_of(code: Code) -> list[str]:
    """The words of the shown command, as a shell sees them."""
    return shlex.split(code.command.replace("\\\n", ""))


def test_only_what_differs_from_the_defaults_is_written(tmp_path: Path) -> None:
    code = code_for(SUBMISSION, "correspondence", "out.png", tmp_path)
    assert arguments_of(code) == {
        "reference": "photo.jpg",
        "generated": "generated.png",
        "engine": "correspondence",
    }
    assert words_of(code) == [
        *("refgc", "refine", "--reference", "photo.jpg", "--generated", "generated.png"),
        *("--output", "out.png", "--engine", "correspondence"),
    ]
    other = replace(SUBMISSION, scale=2, seed=17, strength=0.35, surroundings="fast", object_name="red 'teapot'")
    code = code_for(other, "diffusion", "out.png", tmp_path)
    options = {"scale": 2, "seed": 17, "strength": 0.35, "object_name": "red 'teapot'", "engine": "diffusion"}
    options["surroundings"] = "fast"
    assert arguments_of(code).items() >= options.items()
    words = words_of(code)
    assert words[words.index("--object") + 1] == "red 'teapot'"
    assert words[words.index("--strength") + 1] == "0.35"
    assert words[words.index("--surroundings") + 1] == "fast"


# What the server keeps of a name: no control characters, no slash.
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20).filter(
    lambda name: "/" not in name and name not in {".", ".."}
)


@given(reference=names, generated=names)
def test_any_name_reaches_shell_and_python_as_it_is(reference: str, generated: str) -> None:
    submission = replace(
        SUBMISSION, reference=Marking(Path("/a") / reference), generated=Marking(Path("/b") / generated)
    )
    code = code_for(submission, "correspondence", "out.png", Path("nowhere"))
    arguments, words = arguments_of(code), words_of(code)
    assert arguments["reference"] == reference
    assert (arguments["generated"] == generated) == (generated != reference)
    for role in ("reference", "generated"):
        assert Path(words[words.index(f"--{role}") + 1]) == Path(str(arguments[role]))
        assert not words[words.index(f"--{role}") + 1].startswith("-")


def test_more_photos_of_the_object_are_in_the_code(tmp_path: Path) -> None:
    further = (Path("/up/3/back.jpg"), Path("/up/4/photo.jpg"))
    code = code_for(replace(SUBMISSION, further_references=further), "correspondence", "out.png", tmp_path)
    assert arguments_of(code)["reference"] == ["photo.jpg", "back.jpg", "photo-2.jpg"]
    words = words_of(code)
    assert [words[at + 1] for at, word in enumerate(words) if word == "--reference"] == arguments_of(code)["reference"]
    assert "Two files are called photo.jpg: give one of them the name photo-2.jpg." in code.hint


def test_files_that_are_called_alike_are_told_apart(tmp_path: Path) -> None:
    submission = replace(
        SUBMISSION, reference=Marking(Path("/up/1/image.png")), generated=Marking(Path("/up/2/image.png"))
    )
    code = code_for(submission, "correspondence", "out.png", tmp_path)
    assert (arguments_of(code)["reference"], arguments_of(code)["generated"]) == ("image.png", "image-2.png")
    assert "Two files are called image.png: give one of them the name image-2.png." in code.hint


def test_the_code_s_output_replaces_no_file_of_the_visitor(tmp_path: Path) -> None:
    submission = replace(SUBMISSION, reference=Marking(Path("/up/1/generated-refined.png")))
    words = words_of(code_for(submission, "correspondence", "generated-refined.png", tmp_path))
    assert words[words.index("--output") + 1] == "generated-refined-2.png"


def test_masks_that_were_marked_come_along_and_those_given_do_not(tmp_path: Path) -> None:
    marked = tmp_path / "mask.png"
    marked.write_bytes(b"a mask")
    submission = replace(
        SUBMISSION,
        reference=Marking(Path("/up/1/photo.jpg"), marks=(CLICK,), mask=marked),
        generated=Marking(Path("/up/2/generated.png"), Path("/up/3/my mask.png")),
    )
    code = code_for(submission, "correspondence", "out.png", tmp_path / "new")
    assert code.masks == (tmp_path / "new" / "reference-mask.png",)
    assert code.masks[0].read_bytes() == b"a mask"
    assert arguments_of(code)["reference_mask"] == "reference-mask.png"
    assert arguments_of(code)["generated_mask"] == "my mask.png"
    assert "--generated-mask 'my mask.png'" in code.command
    assert "masks below" in code.hint


def test_examples_are_called_by_their_place_in_the_project(tmp_path: Path) -> None:
    example = find_examples(EXAMPLES_FOLDER)[0]
    submission = replace(SUBMISSION, reference=Marking(example.reference), generated=Marking(example.generated))
    code = code_for(submission, "correspondence", "out.png", tmp_path)
    assert arguments_of(code)["reference"] == f"examples/{example.name}/hrri.jpg"
    assert "project" in code.hint


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where what the page writes for a visitor goes."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


@pytest.fixture
def tab(service: Service, segmenter: ObjectSegmenter, uploads: Path) -> RefineTab:
    """The tab of a page without examples."""
    with gr.Blocks() as demo:
        return build_refine_tab(demo, [], service, segmenter, state_seconds=60)


def values(inputs: RefineInputs, reference: Path | None, generated: Path | None, *marks: Click) -> dict[Any, Any]:
    """The values of the components, as Gradio gives them to a handler; `marks` are in the reference."""
    given = {component: getattr(component, "value", None) for component in inputs.inputs}
    for pad, path, drawn in ((inputs.reference, reference, marks), (inputs.generated, generated, ())):
        given[pad.file] = path and str(path)
        sent = [mark.model_dump(mode="json") for mark in drawn]
        given[pad.surface] = {"source": str(path), "mask_file": None, "marks": sent}
    return given


def test_inputs_are_read_into_one_submission(tab: RefineTab) -> None:
    inputs = tab.inputs
    given = values(inputs, Path("/up/photo.jpg"), Path("/up/generated.png"))
    given |= {inputs.scale: 2, inputs.strength: 0.5, inputs.seed: None, inputs.object_name: "tin"}
    given |= {inputs.engine: "diffusion", inputs.surroundings: "best", inputs.generated.mask_file: "/up/mask.png"}
    submission = inputs.read(given)
    job = submission.job("correspondence")
    assert (submission.title, submission.engine, job.engine) == ("generated.png", "diffusion", "correspondence")
    assert (job.reference, job.generated) == (Path("/up/photo.jpg"), Path("/up/generated.png"))
    assert (job.reference_mask, job.generated_mask) == (None, Path("/up/mask.png"))
    assert (job.scale, job.strength, job.seed, job.object_name) == (2, 0.5, 0, "tin")
    assert job.surroundings == "best"
    assert inputs.read(given) != submission, "the same once more is another submission"


def test_more_photos_of_the_object_are_read_and_not_too_many(tab: RefineTab) -> None:
    given = values(tab.inputs, Path("/up/photo.jpg"), Path("/up/generated.png"))
    assert tab.inputs.read(given).job("correspondence").further_references == ()
    given[tab.inputs.further_references] = ["/up/back.jpg", "/up/side.jpg"]
    job = tab.inputs.read(given).job("correspondence")
    assert job.further_references == (Path("/up/back.jpg"), Path("/up/side.jpg"))
    given[tab.inputs.further_references] = ["/up/back.jpg"] * 4
    updates = tab.submit(given)
    assert set(updates) == {tab.status, tab.result.earlier}
    assert "These are 4 more photos of the object; keep at most 3." in updates[tab.status]


def test_an_example_takes_the_place_of_more_photos(tab: RefineTab) -> None:
    example = find_examples(EXAMPLES_FOLDER)[0]
    updates = tab.inputs.fill(Marking(example.reference), Marking(example.generated))
    assert updates[tab.inputs.further_references] is None


def test_marks_go_before_a_mask_file() -> None:
    marked = Marking(Path("/up/photo.jpg"), Path("/up/file.png"), (CLICK,), Path("/up/made.png"))
    assert marked.chosen_mask == Path("/up/made.png")
    assert replace(marked, marks=()).chosen_mask == Path("/up/file.png")
    # A mask that nobody chose, of the picture's transparency, is left to the engine.
    assert Marking(Path("/up/photo.jpg"), mask=Path("/up/made.png")).chosen_mask is None


def test_the_page_names_the_formats_that_an_error_names(segmenter: ObjectSegmenter, tmp_path: Path) -> None:
    with gr.Blocks() as demo:
        build_pads(segmenter)
    words = " ".join(str(part.value) for part in demo.blocks.values() if isinstance(part, gr.HTML))
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        open_image(tmp_path / "text.png", name="reference")
    formats = str(refused.value).split("give it as ")[1].rstrip(".")
    assert formats.count(",") == 7
    assert f"{formats}, up to 100 MB each." in words


def test_missing_picture_is_named_when_it_is_submitted(tab: RefineTab) -> None:
    updates = tab.submit(values(tab.inputs, Path("/up/photo.jpg"), None))
    assert set(updates) == {tab.status, tab.result.earlier}
    assert "Add the generated picture first" in updates[tab.status]


def test_a_mark_that_no_mask_was_made_of_yet_counts(tab: RefineTab, object_folder: Path) -> None:
    """Refine comes with the marks of the browser, so that it need not wait for the answers to them."""
    given = values(tab.inputs, object_folder / "reference.png", object_folder / "scene.png", CLICK)
    submission = tab.submit(given)[tab.submission]
    assert submission.reference.mask is None
    job = tab.inputs.complete(submission, "visitor").job("correspondence")
    assert job.reference_mask is not None
    assert job.generated_mask is None
    with PIL.Image.open(job.reference_mask) as mask:
        assert overlap(np.asarray(mask) / 255, object_folder / "reference_mask.png") > 0.9


def test_nothing_is_detected_before_the_run(segmenter: ObjectSegmenter, tmp_path: Path) -> None:
    path = tmp_path / "cut out.png"
    cut_out = PIL.Image.new("RGBA", (64, 48), (200, 30, 30, 0))
    cut_out.paste((200, 30, 30, 255), (16, 12, 48, 36))
    cut_out.save(path)
    reference = segmenter.segment(Marking(path), "reference", automatic=REFERENCE_CAPTIONS.keys())
    assert reference.mask_source == "transparency"
    assert reference.mask is not None
    assert np.mean(reference.mask.values) == pytest.approx(0.25)
    generated = segmenter.segment(Marking(path), "generated picture", automatic=GENERATED_CAPTIONS.keys())
    assert (generated.mask_source, generated.mask) == ("none", None)


def entry(tmp_path: Path, number: int) -> Entry:
    pictures = tmp_path / f"{number}-before.webp", tmp_path / f"{number}-after.webp"
    for path in pictures:
        path.write_bytes(b"")
    shown = ShownPictures(whole=pictures, full=None, reference=pictures[0], thumbnail=pictures[1], report=make_report())
    example = find_examples(EXAMPLES_FOLDER)[0]
    marked = Marking(example.reference), Marking(example.generated)
    submission = Submission(*marked, f"picture {number}", scale=2, seed=number, further_references=(example.reference,))
    return Entry(submission, shown, Code("", "", "", "", "", ()))


def test_history_is_bounded_newest_first_and_without_doubles(tmp_path: Path) -> None:
    history = History()
    entries = [entry(tmp_path, number) for number in range(MOST_ENTRIES + 3)]
    for each in entries:
        history = history.with_entry(each)
    assert history.entries == tuple(reversed(entries))[:MOST_ENTRIES]
    again = history.with_entry(entries[-2])
    assert again.entries[:2] == (entries[-2], entries[-1])
    assert len(again.entries) == MOST_ENTRIES
    assert again.current == entries[-2]
    entries[-1].shown.whole[0].unlink()
    assert again.without_deleted().entries[:2] == (entries[-2], entries[-3])


def test_a_result_of_other_pictures_is_marked(tab: RefineTab, tmp_path: Path) -> None:
    shown = entry(tmp_path, 1)
    one = shown.submission
    photo, inputs, mark = str(one.reference.source), tab.inputs, tab.result.earlier
    same: dict[Any, Any] = {inputs.reference.file: photo, inputs.generated.file: str(one.generated.source)}
    same |= {inputs.further_references: [photo], tab.history: History().with_entry(shown)}
    assert tab.check(same)[mark] == ""
    changes: dict[Any, Any] = {inputs.reference.file: "/up/other.jpg", inputs.generated.file: None}
    for component, value in (changes | {inputs.further_references: None}).items():
        assert OF_OTHER_PICTURES in tab.check(same | {component: value})[mark]
        # A picture that is given while a run goes on is not in its result.
        assert OF_OTHER_PICTURES in tab.check_again(same | {component: value, mark: ""})[mark]
        # Where there is no result, nothing is marked.
        assert tab.check(same | {component: value, tab.history: History()})[mark] == ""
    # What a run that failed says of the result before it stays.
    assert mark not in tab.check_again(same | {mark: tab.result.mark(NOTHING_NEW)[mark]})


def test_what_a_failed_or_cancelled_run_leaves_is_marked(drawing) -> None:
    tab, engine, submission = drawing
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    before, request = History().with_entry(entry(folder, 1)), gr.Request(session_hash="visit")
    *_, failed = tab.refine(replace(submission, seed=-1), before, request)
    assert "The seed is -1" in failed[tab.status]
    for update in (failed, tab.cancel(before, request)):
        assert NOTHING_NEW in update[tab.result.earlier]
        assert update[tab.result.caption] == "<h2>picture 1</h2>"
    engine.go_on.set()
    *_, done = tab.refine(replace(submission, submitted_at=monotonic()), before, request)
    assert done[tab.result.earlier] == ""


def test_caption_tells_results_apart(tmp_path: Path) -> None:
    one = entry(tmp_path, 1)
    assert one.caption == "picture 1: 4×, 1.2 s"
    report = make_report(placed=False, object_box=None)
    unplaced = replace(one, shown=replace(one.shown, report=report))
    assert unplaced.caption == "picture 1: 4×, 1.2 s, only enlarged"
    partly = replace(one, shown=replace(one.shown, report=make_report(object_coverage=0.1)))
    assert partly.caption == "picture 1: 4×, 1.2 s, partly refined"


def test_progress_names_the_stage_and_no_stage_becomes_markup() -> None:
    line = progress_line("Finding <the> object", 0.25)
    assert "Finding &lt;the&gt; object" in line
    assert 'value="0.250"' in line


@pytest.mark.parametrize("chooses", [False, True])
def test_engine_and_object_name_are_there_only_where_there_is_a_choice(
    segmenter: ObjectSegmenter, chooses: bool
) -> None:
    with gr.Blocks():
        inputs = build_inputs(*build_pads(segmenter)[:2], chooses_engine=chooses)
    assert (inputs.engine.visible, inputs.object_name.visible) == (chooses, chooses)
    assert inputs.engine.value == "auto"


def test_a_link_sets_what_can_be_chosen_here(
    segmenter: ObjectSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    with gr.Blocks():
        inputs = build_inputs(*build_pads(segmenter)[:2], chooses_engine=False)
    assert inputs.linked({"scale": "2", "strength": "0.25", "seed": "9", "example": "camera"}) == (
        {inputs.scale: 2, inputs.strength: 0.25, inputs.seed: 9},
        True,
    )
    assert inputs.linked({}) == ({}, True)
    assert inputs.linked({"engine": "auto", "surroundings": "plain"})[1]
    for name, text in (
        *(("scale", text) for text in ("3", "", "2.0", "4 ", "None")),
        *(("strength", text) for text in ("1.01", "nan", "-0.5", "1e-1", "١", "inf")),
        *(("seed", text) for text in ("-1", "1.5", "9" * 17, "9007199254740992", "1_0")),
        ("engine", "diffusion"),
        ("surroundings", "best"),
    ):
        assert inputs.linked({name: text, "scale": "2"} if name != "scale" else {name: text})[1] is False, (name, text)
    assert inputs.linked({"engine": "diffusion", "scale": "2"})[0] == {inputs.scale: 2}

    write_weights(tmp_path)
    with gr.Blocks():
        inputs = build_inputs(*build_pads(segmenter)[:2], chooses_engine=True)
    link = {"engine": "diffusion", "surroundings": "best"}
    assert inputs.linked(link) == ({inputs.engine: "diffusion", inputs.surroundings: "best"}, True)


def test_surroundings_can_be_chosen_only_where_their_weights_are(
    segmenter: ObjectSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    with gr.Blocks():
        without = build_inputs(*build_pads(segmenter)[:2]).surroundings
    write_weights(tmp_path)
    with gr.Blocks():
        with_weights = build_inputs(*build_pads(segmenter)[:2]).surroundings
    assert (without.visible, with_weights.visible) == (False, True)
    assert [value for _, value in with_weights.choices] == ["plain", "fast", "best"]
    assert without.value == with_weights.value == "plain"


@dataclass
class BetterLater:
    """An engine that tells a plain result, and makes a better one when it is let go on."""

    go_on: Event = field(default_factory=Event)

    def __call__(self, _: EngineName, request: RefineRequest, progress: Progress, viewer: Viewer) -> RefineResult:
        viewer(DRAWING, make_result(make_report(surroundings="plain", output_size=(1024, 1024))))
        while not self.go_on.wait(0.05):
            progress(DRAWING, 0.9)
        return make_result(make_report(surroundings=request.surroundings))


@pytest.fixture
def drawing(
    tab: RefineTab, segmenter: ObjectSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RefineTab, BetterLater, Submission]]:
    """The tab with such an engine, and what is to be submitted."""
    monkeypatch.setenv("REFGC_WEIGHTS", str(write_weights(tmp_path / "weights")))
    engine, example = BetterLater(), find_examples(EXAMPLES_FOLDER)[0]
    service = Service(Settings.model_validate({"spare_megabytes": 0}), decoder=tab.service.decoder, refine_with=engine)
    submission = Submission(Marking(example.reference), Marking(example.generated), "mine", surroundings="best")
    with gr.Blocks() as demo:
        yield build_refine_tab(demo, [], service, segmenter, state_seconds=60), engine, submission
    engine.go_on.set()


def run_until_plain(tab: RefineTab, submission: Submission, before: History) -> tuple[Iterator[Any], dict[Any, Any]]:
    updates = iter(tab.refine(submission, before, gr.Request(session_hash="visit")))
    return updates, next(update for update in updates if tab.history in update)


def test_better_surroundings_take_the_place_of_the_plain_result(drawing, tmp_path: Path) -> None:
    tab, engine, submission = drawing
    before = History().with_entry(entry(tmp_path, 1))
    updates, plain = run_until_plain(tab, submission, before)
    assert "with plain surroundings" in plain[tab.status]
    # Of 1024 x 1024 pixels they take half a minute or so.
    assert re.search(r"take their place in about \d\d seconds", plain[tab.status])
    assert tab.button not in plain
    assert plain[tab.history].current.shown.report.surroundings == "plain"
    assert plain[tab.history].current.shown.download.is_file()
    later = next(updates)
    assert set(later) == {tab.status}
    assert later[tab.status].count("with plain surroundings") == 1
    engine.go_on.set()
    *_, last = updates
    assert "Done" in last[tab.status]
    assert last[tab.history].current.shown.report.surroundings == "best"
    # One result of the run, and the one of before.
    assert last[tab.history].entries == (last[tab.history].current, *before.entries)


def test_cancelling_keeps_the_plain_result(drawing, tmp_path: Path) -> None:
    tab, _, submission = drawing
    before = History().with_entry(entry(tmp_path, 1))
    updates, plain = run_until_plain(tab, submission, before)
    answer = tab.cancel(plain[tab.history], gr.Request(session_hash="visit"))
    assert PLAIN_KEPT in answer[tab.status]
    *_, last = updates
    for shown in (answer, last):
        assert PLAIN_KEPT in shown[tab.status]
        assert shown[tab.result.earlier] == ""
        assert shown[tab.result.comparison] == plain[tab.result.comparison]
    assert tab.history not in last


def test_format_that_was_chosen_while_a_run_ended_is_offered_of_the_new_result(drawing, tmp_path: Path) -> None:
    tab, engine, submission = drawing
    engine.go_on.set()
    request = gr.Request(session_hash="visit")
    *_, first = tab.refine(submission, History(), request)
    earlier = first[tab.history]
    making = iter(tab.make("WebP", earlier))
    assert "Making the WebP" in next(making)[tab.result.download]["label"]
    *_, second = tab.refine(replace(submission, seed=1), earlier, request)
    assert list(making) == []
    later = second[tab.history]
    assert later.current != earlier.current
    offered = tab.offer("WebP", later)[tab.result.download]["value"]
    assert offered.parent == later.current.shown.download.parent
    assert offered.suffix == ".webp"
    later.current.shown.whole[0].unlink()
    assert DELETED in tab.offer("WebP", later)[tab.status]


def test_times_of_better_surroundings_follow_the_machine(drawing) -> None:
    tab, _, _ = drawing
    rates = tab.service.queues["correspondence"].rates

    def said() -> str:
        return str(tab.open_page("", gr.Request(session_hash="visit", query_params={}))[tab.inputs.surroundings_times])

    assert "fast takes a few seconds more and best about 25 seconds" in said()
    rates.note("best", 1.05, 60.0)
    assert "best about 60 seconds" in said()


def test_a_result_that_is_gone_is_not_shown_and_that_is_said(tab: RefineTab) -> None:
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    there, gone = entry(folder, 1), entry(folder, 2)
    history = History().with_entry(there).with_entry(gone)
    gone.shown.whole[0].unlink()
    second = gr.SelectData(None, {"index": 1, "value": None})
    updates = tab.pick(second, history, gr.Request(session_hash="visit"))
    assert updates[tab.history].current == there
    # What was submitted for it is filled in again.
    assert updates[tab.inputs.reference.file] == str(there.submission.reference.source)
    assert (updates[tab.inputs.scale], updates[tab.inputs.seed]) == (2, 1)
    assert updates[tab.inputs.further_references] == [str(there.submission.reference.source)]
    first = gr.SelectData(None, {"index": 0, "value": None})
    # The server has deleted the files, or has forgotten the whole visit.
    for remembered in (history, History()):
        updates = tab.pick(first, remembered, gr.Request(session_hash="visit"))
        assert DELETED in updates[tab.status]
        assert gone not in updates[tab.history].entries


def test_examples_are_shown_from_the_gallery_with_their_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    examples = find_examples(EXAMPLES_FOLDER)
    results = find_results(examples)
    assert set(results) == {example.name for example in examples}
    card = results[examples[0].name]
    shown = show_result(card)
    assert shown.whole[1].read_bytes() == (GALLERY_FOLDER / card.name / "after.webp").read_bytes()
    assert all(path.is_relative_to(tmp_path) for path in (*shown.whole, shown.thumbnail))
    assert card.report.object_box is not None
    assert f'data-box="{" ".join(map(str, card.report.object_box))}"' in shown.viewer("Paperback")


def test_gallery_of_other_pictures_is_not_shown(tmp_path: Path) -> None:
    example = find_examples(EXAMPLES_FOLDER)[0]
    other = tmp_path / "hrri.jpg"
    other.write_bytes(example.reference.read_bytes() + b" ")
    assert find_results([replace(example, reference=other)]) == {}
