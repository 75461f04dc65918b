"""The Refine tab's parts that need no browser: what was asked for, the code that makes it again, the history."""

from __future__ import annotations

import ast
import shlex
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgc.errors import InputError
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.gallery.manifest import GALLERY_FOLDER
from refgc.page.marking.marks import Click, Marking
from refgc.page.marking.mask import apply_marks
from refgc.page.refine import inputs as inputs_module
from refgc.page.refine.code import Code, code_for
from refgc.page.refine.examples import find_results, show_result
from refgc.page.refine.inputs import (
    GENERATED_ORIGINS,
    REFERENCE_ORIGINS,
    Asked,
    Picture,
    build_options,
    build_pictures,
    read_asked,
)
from refgc.page.pictures import ShownPictures
from refgc.page.refine.result import MOST_ENTRIES, Entry, History
from refgc.page.words import progress_line
from tests.page.test_app import make_report

ASKED = Asked(Picture(Path("/up/1/photo.jpg")), Picture(Path("/up/2/generated.png")), "generated.png")


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
    code = code_for(ASKED, "correspondence", "out.png", tmp_path)
    assert arguments_of(code) == {
        "reference": "photo.jpg",
        "generated": "generated.png",
        "engine": "correspondence",
    }
    assert words_of(code) == [
        *("refgc", "refine", "--reference", "photo.jpg", "--generated", "generated.png"),
        *("--output", "out.png", "--engine", "correspondence"),
    ]
    other = replace(ASKED, scale=2, seed=17, strength=0.35, object_name="red 'teapot'")
    code = code_for(other, "diffusion", "out.png", tmp_path)
    options = {"scale": 2, "seed": 17, "strength": 0.35, "object_name": "red 'teapot'", "engine": "diffusion"}
    assert arguments_of(code).items() >= options.items()
    words = words_of(code)
    assert words[words.index("--object") + 1] == "red 'teapot'"
    assert words[words.index("--strength") + 1] == "0.35"


# What the server keeps of a name: no control characters, no slash.
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20).filter(
    lambda name: "/" not in name and name not in {".", ".."}
)


@given(reference=names, generated=names)
def test_any_name_reaches_shell_and_python_as_it_is(reference: str, generated: str) -> None:
    asked = replace(ASKED, reference=Picture(Path("/a") / reference), generated=Picture(Path("/b") / generated))
    code = code_for(asked, "correspondence", "out.png", Path("nowhere"))
    arguments, words = arguments_of(code), words_of(code)
    assert arguments["reference"] == reference
    assert (arguments["generated"] == generated) == (generated != reference)
    for role in ("reference", "generated"):
        assert Path(words[words.index(f"--{role}") + 1]) == Path(str(arguments[role]))
        assert not words[words.index(f"--{role}") + 1].startswith("-")


def test_files_that_are_called_alike_are_told_apart(tmp_path: Path) -> None:
    asked = replace(ASKED, reference=Picture(Path("/up/1/image.png")), generated=Picture(Path("/up/2/image.png")))
    code = code_for(asked, "correspondence", "out.png", tmp_path)
    assert (arguments_of(code)["reference"], arguments_of(code)["generated"]) == ("image.png", "image-2.png")
    assert "Two files are called image.png: give one of them the name image-2.png." in code.hint


def test_masks_that_were_marked_come_along_and_those_given_do_not(tmp_path: Path) -> None:
    marked = tmp_path / "mask.png"
    marked.write_bytes(b"a mask")
    asked = replace(
        ASKED,
        reference=Picture(Path("/up/1/photo.jpg"), marked, is_marked=True),
        generated=Picture(Path("/up/2/generated.png"), Path("/up/3/my mask.png")),
    )
    code = code_for(asked, "correspondence", "out.png", tmp_path / "new")
    assert code.masks == (tmp_path / "new" / "reference-mask.png",)
    assert code.masks[0].read_bytes() == b"a mask"
    assert arguments_of(code)["reference_mask"] == "reference-mask.png"
    assert arguments_of(code)["generated_mask"] == "my mask.png"
    assert "--generated-mask 'my mask.png'" in code.command
    assert "masks below" in code.hint


def test_examples_are_called_by_their_place_in_the_project(tmp_path: Path) -> None:
    example = find_examples(EXAMPLES_FOLDER)[0]
    asked = replace(ASKED, reference=Picture(example.reference), generated=Picture(example.generated))
    code = code_for(asked, "correspondence", "out.png", tmp_path)
    assert arguments_of(code)["reference"] == f"examples/{example.name}/hrri.jpg"
    assert "project" in code.hint


def values(**changes: object) -> list[object]:
    given: dict[str, object] = {
        "reference": "/up/photo.jpg",
        "reference_marking": None,
        "reference_mask": None,
        "generated": "/up/generated.png",
        "generated_marking": None,
        "generated_mask": None,
        "scale": 4,
        "strength": 1.0,
        "seed": None,
        "engine": "auto",
        "object_name": "object",
    }
    return list((given | changes).values())


def test_marks_go_before_a_given_mask_and_only_with_their_own_picture() -> None:
    click = Click(kind="object", points=(0.5, 0.5))
    marking = Marking(Path("/up/photo.jpg"), Path("/up/given.png"), (click,), Path("/up/made.png"))
    asked = read_asked(*values(reference_marking=marking, reference_mask="/up/given.png"))  # type: ignore[arg-type]
    assert asked.reference == Picture(Path("/up/photo.jpg"), Path("/up/made.png"), is_marked=True)
    assert asked.generated == Picture(Path("/up/generated.png"))
    for changes in ({"reference": "/up/other.jpg"}, {"reference_marking": marking.without_any()}):
        given = values(**{"reference_marking": marking, "reference_mask": "/up/given.png", **changes})
        assert read_asked(*given).reference.mask == Path("/up/given.png")  # type: ignore[arg-type]


def test_missing_picture_is_named_when_asked_for() -> None:
    with pytest.raises(InputError, match="Add the generated picture first"):
        read_asked(*values(generated=None))  # type: ignore[arg-type]


def test_every_request_is_another_even_with_the_same_pictures() -> None:
    one, other = (read_asked(*values()) for _ in range(2))  # type: ignore[arg-type]
    assert one != other


def test_nothing_is_looked_for_in_a_picture_without_marks(tmp_path: Path) -> None:
    path = tmp_path / "cut out.png"
    cut_out = PIL.Image.new("RGBA", (64, 48), (200, 30, 30, 0))
    cut_out.paste((200, 30, 30, 255), (16, 12, 48, 36))
    cut_out.save(path)
    reference = apply_marks(Marking(path), "reference", unasked=REFERENCE_ORIGINS)
    assert reference.origin == "transparency"
    assert reference.mask is not None
    assert np.mean(reference.mask.values) == pytest.approx(0.25)
    generated = apply_marks(Marking(path), "generated picture", unasked=GENERATED_ORIGINS)
    assert (generated.origin, generated.mask) == ("nothing", None)


def entry(tmp_path: Path, number: int) -> Entry:
    pictures = tmp_path / f"{number}-before.webp", tmp_path / f"{number}-after.webp"
    for path in pictures:
        path.write_bytes(b"")
    shown = ShownPictures(whole=pictures, close_up=None, thumbnail=pictures[1], report=make_report())
    return Entry(f"picture {number}", shown, Code("", "", "", ()))


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


def test_caption_tells_results_apart(tmp_path: Path) -> None:
    one = entry(tmp_path, 1)
    assert one.caption == "picture 1: 4×, 1.2 s"
    report = make_report(placed=False, object_box=None)
    unplaced = replace(one, shown=replace(one.shown, report=report))
    assert unplaced.caption == "picture 1: 4×, 1.2 s, only enlarged"


def test_progress_names_the_stage_and_no_stage_becomes_markup() -> None:
    line = progress_line("Finding <the> object", 0.25)
    assert "Finding &lt;the&gt; object" in line
    assert 'value="0.250"' in line


@pytest.mark.parametrize("can_choose", [False, True])
def test_engine_and_object_name_are_asked_for_only_where_there_is_a_choice(
    monkeypatch: pytest.MonkeyPatch, can_choose: bool
) -> None:
    monkeypatch.setattr(inputs_module, "may_choose_diffusion", lambda: can_choose)
    with gr.Blocks():
        inputs = build_options(*build_pictures())
    assert (inputs.engine.visible, inputs.object_name.visible) == (can_choose, can_choose)
    assert inputs.engine.value == "auto"


def test_examples_are_shown_from_the_gallery_with_a_close_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    examples = find_examples(EXAMPLES_FOLDER)
    results = find_results(examples)
    assert set(results) == {example.name for example in examples}
    card = results[examples[0].name]
    shown = show_result(card)
    assert shown.whole[1].read_bytes() == (GALLERY_FOLDER / card.name / "after.webp").read_bytes()
    assert all(path.is_relative_to(tmp_path) for path in (*shown.whole, shown.thumbnail))
    assert shown.close_up is not None
    with PIL.Image.open(shown.close_up[0]) as before, PIL.Image.open(shown.close_up[1]) as after:
        assert before.size == after.size
        assert before.width < 1024


def test_gallery_of_other_pictures_is_not_shown(tmp_path: Path) -> None:
    example = find_examples(EXAMPLES_FOLDER)[0]
    other = tmp_path / "hrri.jpg"
    other.write_bytes(example.reference.read_bytes() + b" ")
    assert find_results([replace(example, reference=other)]) == {}
