"""Prompts: what is put in order, and what is refused in one sentence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from refgc.errors import InputError
from refgc.imaging.image import Image, Mask
from refgc.masks import Prompt
from refgc.masks.prompt import require_same_picture

SIZE = (200, 100)


def mask(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = SIZE) -> Mask:
    values = np.zeros((size[1], size[0]), np.float32)
    values[top:bottom, left:right] = 1
    return Mask(values)


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ((10, 20, 50, 60), (10, 20, 50, 60)),
        ((50, 60, 10, 20), (10, 20, 50, 60)),
        ((50, 20, 10, 60), (10, 20, 50, 60)),
        ((10.7, 20.2, 49.1, 59.9), (10, 20, 50, 60)),
        ((-30, -5, 400, 300), (0, 0, 200, 100)),
    ],
)
def test_a_box_is_put_in_order(corners, box):
    assert Prompt(SIZE, box=corners).box == box


def test_a_click_is_the_pixel_it_lies_in():
    between_pixels: Any = [(10.9, 99.99)], [[0, 0]]
    prompt = Prompt(SIZE, positive=between_pixels[0], negative=between_pixels[1])
    assert prompt.positive == ((10, 99),)
    assert prompt.negative == ((0, 0),)


def test_blank_words_are_none():
    assert Prompt(SIZE, text="  \n ").text is None
    assert Prompt(SIZE, text=" red \n cup ").text == "red cup"


@pytest.mark.parametrize(
    ("marks", "marked", "empty"),
    [
        ({}, False, True),
        ({"text": "cup"}, False, False),
        ({"negative": [(1, 1)]}, True, False),
        ({"box": (1, 1, 20, 20)}, True, False),
        ({"scribble": mask(1, 1, 20, 20)}, True, False),
        ({"alpha": mask(1, 1, 20, 20), "text": "cup"}, True, False),
    ],
)
def test_what_was_marked_is_told(marks, marked, empty):
    prompt = Prompt(SIZE, **marks)
    assert (prompt.is_marked, prompt.is_empty) == (marked, empty)


def test_a_prompt_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Prompt(SIZE).box = (0, 0, 10, 10)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("marks", "part"),
    [
        ({"box": (10, 10, 12, 60)}, "Less than 4 pixels"),
        ({"box": (210, 10, 260, 60)}, "Less than 4 pixels"),
        ({"box": (10, 10, 60)}, "four numbers"),
        ({"box": (10, 10, 60, float("nan"))}, "four numbers"),
        ({"positive": [(200, 10)]}, "(200, 10) lies outside of the picture of 200x100"),
        ({"negative": [(-1, 10)]}, "outside of the picture"),
        ({"positive": [(float("inf"), 10)]}, "two numbers"),
        ({"positive": [(1, 2, 3)]}, "two numbers"),
        ({"positive": [(5, 5)], "negative": [(5.4, 5.6)]}, "as object and as background"),
        ({"positive": [(5, 5)], "box": (20, 20, 60, 60)}, "outside of the box"),
        ({"positive": [(60, 30)], "box": (20, 20, 60, 60)}, "outside of the box"),
        ({"scribble": mask(5, 5, 10, 10), "box": (20, 20, 60, 60)}, "The scribble lies outside of the box"),
        ({"scribble": mask(5, 5, 10, 10, (100, 100))}, "100x100"),
        ({"scribble": mask(0, 0, 0, 0)}, "marks nothing"),
        ({"scribble": mask(0, 0, 200, 100)}, "whole picture"),
        ({"alpha": mask(0, 0, 0, 0)}, "rough mask marks nothing"),
        ({"alpha": mask(0, 0, 200, 100)}, "whole picture"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(marks, part):
    with pytest.raises(InputError) as refused:
        Prompt(SIZE, **marks)
    sentence = str(refused.value)
    assert part in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_marks_of_another_picture_are_refused():
    image = Image(np.zeros((100, 201, 3), np.uint8))
    with pytest.raises(InputError, match="201x100 pixels, the one that was marked 200x100"):
        require_same_picture(image, Prompt(SIZE))
