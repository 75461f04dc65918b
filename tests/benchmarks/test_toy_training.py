"""The training at toy scale: its pictures, its ways of teaching, and its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import toy_training
from benchmarks.toy_pictures import SIDE, SMALL, TASKS, Example, _cut, _cut_mask, _window, base_batch, owner, shrunk
from benchmarks.toy_training import (
    WAYS,
    config_of,
    latents_of,
    make_base,
    pictures_of,
    refined,
    scores_of,
    summary,
    taught,
)
from refgc.model.freqmole import inject
from tests.dataset.support import texture

PHOTOS = [texture(seed) for seed in range(3)]
MASK = np.zeros((SIDE, SIDE), np.float32)
MASK[16:48, 16:48] = 1


def examples(count: int = 4) -> list[Example]:
    pictures = [shrunk(texture(seed), SIDE) for seed in range(count)]
    return [
        Example(f"{number}", f"object {number % 2}", picture, MASK, picture, MASK, shrunk(picture, SMALL))
        for number, picture in enumerate(pictures)
    ]


def test_latents_are_the_pictures_but_for_fine_chroma() -> None:
    pictures = np.stack([one.hrgt for one in examples()])
    latents = latents_of(pictures)
    assert latents.shape == (4, 6, 32, 32)
    # A token has to pass through the transformer.
    assert 4 * latents.shape[1] < make_base().inner_dim
    luma = np.array([0.299, 0.587, 0.114])
    back = pictures_of(latents)
    assert np.abs((back.astype(float) - pictures) @ luma).mean() < 1.5
    assert np.abs(back.astype(int) - pictures).mean() < 12
    grey = pictures.mean(axis=3, keepdims=True).repeat(3, axis=3).astype(np.uint8)
    assert np.abs(pictures_of(latents_of(grey)).astype(int) - grey).max() <= 1


def test_the_base_learns_three_kinds_of_edit() -> None:
    targets, firsts, smalls, tasks = base_batch(PHOTOS, np.random.default_rng(0), 64)
    assert set(tasks.tolist()) == set(range(len(TASKS)))
    for target, first, small, task in zip(targets, firsts, smalls, tasks, strict=True):
        shown = np.abs(shrunk(target, SMALL).astype(int) - small).mean()
        if TASKS[task] == "copy":
            assert np.array_equal(target, first)
            assert shown > 5
        else:
            assert shown < 2
            assert not np.array_equal(target, first)
    again = base_batch(PHOTOS, np.random.default_rng(0), 64)
    assert np.array_equal(again[0], targets)


@pytest.mark.parametrize("name", WAYS)
def test_each_way_trains_on_a_base_that_stays_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_training, "STEPS", 3)
    monkeypatch.setattr(toy_training, "BATCH", 2)
    base, given = make_base(), examples(2)
    before = {key: value.clone() for key, value in base.state_dict().items()}
    assert sum(value.numel() for value in before.values()) <= 3_000_000
    drawn = refined(base, given)
    freqmole = taught(base, WAYS[name], 0, given)
    alphas = list(freqmole.alphas().values())
    assert (max(alphas) - min(alphas) > 0.5) == WAYS[name].gates
    assert not np.array_equal(refined(base.eval(), given), drawn)
    freqmole.remove()
    assert np.array_equal(refined(base, given), drawn)
    for key, value in base.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_all_ways_have_as_many_parameters() -> None:
    counts = set()
    for way in WAYS.values():
        base = make_base()
        experts = inject(base, config_of(way)).parameters()
        counts.add(sum(parameter.numel() for parameter in experts))
    assert len(counts) == 1


def test_the_table_has_gains_with_intervals() -> None:
    given = examples()
    truth = scores_of([one.hrgt for one in given], given)
    grey, black = (scores_of([np.full_like(one.hrgt, level) for one in given], given) for level in (128, 0))
    rows: list[dict[str, Any]] = [
        {"way": "enlargement", "seed": 0, "scores": black},
        {"way": "frozen base", "seed": 0, "scores": grey},
        *({"way": "FreqMoLE", "seed": seed, "scores": truth} for seed in (0, 1)),
    ]
    table = summary(rows, given)
    assert table["FreqMoLE"]["seeds"] == 2
    mean, low, high = table["FreqMoLE"]["psnr_inside: gain on the base, with its interval"]
    assert 60 < low <= mean <= high
    assert table["frozen base"]["psnr_inside: gain on the base, with its interval"] == [0.0, 0.0, 0.0]
    inside = "psnr_inside: gain on the enlargement, with its interval"
    assert table["FreqMoLE"][inside][0] > mean > 60
    assert table["enlargement"][inside] == [0.0, 0.0, 0.0]


def test_a_window_lies_close_around_the_object_in_picture_and_mask() -> None:
    mask = np.zeros((200, 300), np.float32)
    mask[40:90, 250:290] = 1
    corners = _window(mask)
    assert corners[1, 0] - corners[0, 0] == pytest.approx(1.15 * 50)
    assert corners[:2].mean(axis=0)[0] == pytest.approx(270)
    picture = np.repeat((255 * mask).astype(np.uint8)[..., None], 3, axis=2)
    cut, cut_mask = _cut(picture, corners), _cut_mask(mask, corners)
    assert np.abs(cut[..., 0] / 255 - cut_mask).max() < 0.02
    # The window reaches beyond the picture, where there is no object.
    assert cut_mask.mean() == pytest.approx(50 * 40 / 57.5**2, abs=0.02)


@pytest.mark.parametrize(
    ("frame", "name"), [("mug_room.mp4", "mug"), ("oats_box_studio.mp4", "oats_box"), ("clock/03.jpg", "clock")]
)
def test_whose_pictures_a_frame_is_of(frame: str, name: str) -> None:
    assert owner(frame) == name
