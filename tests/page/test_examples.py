"""The examples of the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

from refgc.page.examples import EXAMPLES_FOLDER, ORDER, THUMBNAIL_SIDE, find_examples, thumbnail


@pytest.fixture
def examples_folder(tmp_path: Path) -> Path:
    meta = {"title": "Tin", "description": "A tin.", "simulated": True, "licence": "CC0-1.0"}
    for name in ("tin", "vase", "box", "paperback"):
        folder = tmp_path / name
        folder.mkdir()
        PIL.Image.new("RGB", (500, 400), "navy").save(folder / "hrri.jpg")
        PIL.Image.new("RGB", (128, 160), "olive").save(folder / "lrgi.png")
        (folder / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "make").mkdir()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_examples_are_found_and_the_best_known_come_first(examples_folder: Path) -> None:
    examples = find_examples(examples_folder)
    assert [example.name for example in examples] == ["paperback", "vase", "box", "tin"]
    assert examples[0].reference.name == "hrri.jpg"
    assert examples[0].generated.name == "lrgi.png"
    assert examples[0].meta.title == "Tin"
    assert find_examples(examples_folder / "nowhere") == []


def test_every_example_of_ours_has_its_place() -> None:
    assert [example.name for example in find_examples(EXAMPLES_FOLDER)] == list(ORDER)


def test_thumbnail_shows_both_pictures(examples_folder: Path) -> None:
    picture = thumbnail(find_examples(examples_folder)[0])
    assert picture.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert np.allclose(np.asarray(picture)[300, 20], (128, 128, 0), atol=3)
    assert np.allclose(np.asarray(picture)[60, 250], (0, 0, 128), atol=3)


def test_unfinished_description_of_an_example_is_noticed(examples_folder: Path) -> None:
    (examples_folder / "tin" / "meta.json").write_text('{"title": "Tin"}')
    with pytest.raises(ValidationError):
        find_examples(examples_folder)
