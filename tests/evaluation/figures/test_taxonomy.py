"""The tasks of one scene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refgc.errors import InputError
from refgc.evaluation.figures.scenes import load_scene, read_scenes
from refgc.evaluation.figures.taxonomy import make_tasks, tasks_of
from refgc.imaging.arrays import bicubic
from tests.support.compared_scenes import SIDE, SMALL, make_scenes


def test_each_task_is_given_what_it_knows(scenes: Path) -> None:
    pictures = load_scene(read_scenes(scenes).items[0])
    assert pictures.hrgt is not None
    sr, refsr, refgcr, ours = tasks_of("ant", pictures)
    small = bicubic(pictures.hrgt.pixels, (SMALL, SMALL))
    assert [len(task.given) for task in (sr, refsr, refgcr, ours)] == [1, 2, 2, 2]
    for photo in (sr.given[0], refsr.given[0]):
        assert np.array_equal(photo.pixels, small)
    for generated in (refgcr.given[0], ours.given[0]):
        assert np.array_equal(generated.pixels, pictures.lrgi.pixels)
    for reference in (refsr.given[1], ours.given[1]):
        assert np.array_equal(reference.pixels, pictures.hrri.pixels)
    for large in (sr, refsr, ours):
        assert np.array_equal(large.wanted.pixels, pictures.hrgt.pixels)
    # RefGCR does not enlarge.
    assert {one.size for one in (*refgcr.given, refgcr.wanted)} == {(SMALL, SMALL)}


def test_the_figure_is_the_same_twice(scenes: Path, tmp_path: Path) -> None:
    item = read_scenes(scenes).items[0]
    data = json.loads(make_tasks(item, [tmp_path / "one.svg"], dpi=50).read_bytes())
    make_tasks(item, [tmp_path / "two.svg"], dpi=50)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert [task["name"] for task in data["tasks"]] == ["SR", "RefSR", "RefGCR", "RefGC-SR²"]
    assert data["tasks"][3]["wanted"]["size"] == [SIDE, SIDE]


def test_a_scene_without_a_truth_is_told(tmp_path: Path) -> None:
    wild = make_scenes(tmp_path / "wild", ("ant",), truth=False)
    with pytest.raises(InputError, match="'ant' has no HRGT"):
        make_tasks(read_scenes(wild).items[0], [tmp_path / "t.png"])
