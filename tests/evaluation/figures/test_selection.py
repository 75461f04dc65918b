"""Scenes by id and by rank, methods by label and folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.evaluation.figures.selection import Choice, Selection, select


def ids(selection: Selection) -> list[str]:
    return [one.item.id for one in selection.scenes]


def test_all_scenes_and_methods_are_taken_where_nothing_is_said(scenes: Path, compared: Path) -> None:
    selection = select(scenes, Choice(evaluation=compared))
    assert ids(selection) == ["ant", "bee", "cat", "dog"]
    assert [column.label for column in selection.columns] == ["soft", "sharp"]
    assert all(one.item.hrgt is not None and one.item.hrgt_mask is not None for one in selection.scenes)


def test_ids_keep_their_order(scenes: Path, compared: Path) -> None:
    assert ids(select(scenes, Choice(evaluation=compared, ids="dog, ant"))) == ["dog", "ant"]


# PSNR of "sharp": bee 24, dog 23.5, ant 22, cat 30. Its gain over "soft": bee -1, ant 2, dog 2.5, cat 12.
# LPIPS of "sharp", lower is better: ant 0.1, cat 0.2, dog 0.3, bee 0.4.
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, ["cat", "dog", "ant"]),
        ({"over": "soft"}, ["cat", "ant", "bee"]),
        ({"metric": "lpips"}, ["ant", "dog", "bee"]),
        ({"of": "soft"}, ["bee", "ant", "cat"]),
    ],
)
def test_ranks_are_those_of_the_score(
    scenes: Path, compared: Path, choice: dict[str, str], expected: list[str]
) -> None:
    selection = select(scenes, Choice(evaluation=compared, pick="best,median,worst", **choice))  # type: ignore[arg-type]
    assert ids(selection) == expected


def test_the_reason_says_score_and_value(scenes: Path, compared: Path) -> None:
    plain = select(scenes, Choice(evaluation=compared, pick="best"))
    gain = select(scenes, Choice(evaluation=compared, pick="worst", over="soft"))
    assert plain.scenes[0].reason == "best PSNR: 30.00 dB"
    assert gain.scenes[0].reason == "worst PSNR: -1.00 dB over soft"


def test_a_rank_named_twice_gives_the_next_scene(scenes: Path, compared: Path) -> None:
    assert ids(select(scenes, Choice(evaluation=compared, pick="best,best,worst"))) == ["cat", "bee", "ant"]


def test_ids_come_before_what_is_picked_and_no_scene_twice(scenes: Path, compared: Path) -> None:
    assert ids(select(scenes, Choice(evaluation=compared, ids="cat", pick="best"))) == ["cat", "bee"]


def test_a_scene_without_a_result_of_every_method_is_not_picked(scenes: Path, compared: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(compared, tmp_path / "copy"))
    (copy / "pictures" / "soft" / "cat.png").unlink()
    assert ids(select(scenes, Choice(evaluation=copy, pick="best"))) == ["bee"]


def test_a_folder_of_results_stands_beside_those_of_the_comparison(scenes: Path, compared: Path) -> None:
    more = f"more={compared / 'pictures' / 'sharp'}"
    selection = select(scenes, Choice(methods=(more, "soft"), evaluation=compared, pick="best"))
    assert [column.label for column in selection.columns] == ["more", "soft"]
    # The last method that was measured decides.
    assert ids(selection) == ["bee"]


@pytest.mark.parametrize(
    ("choice", "part"),
    [
        ({"ids": "elk"}, "no scene 'elk'; there are 'ant', 'bee', 'cat', 'dog'"),
        ({"pick": "good"}, "'good' is no rank"),
        ({"pick": ""}, "is no rank"),
        ({"pick": "best", "metric": "dino"}, "no metric 'dino'; it has psnr, lpips"),
        ({"pick": "best", "of": "other"}, "no method 'other'; it has 'soft', 'sharp'"),
        ({"pick": "best", "over": "other"}, "no method 'other'"),
        ({"pick": "best,best,best,best,best"}, "4 scenes have results"),
        ({"methods": ("none",)}, "'none' names no method; the comparison has 'soft', 'sharp'"),
        ({"methods": ("a=/nowhere",)}, "has no folder '/nowhere'"),
        ({"methods": ("soft", "soft")}, "Two columns are called 'soft'"),
    ],
)
def test_what_is_not_there_is_told(scenes: Path, compared: Path, choice: dict[str, str], part: str) -> None:
    with pytest.raises(InputError) as told:
        select(scenes, Choice(evaluation=compared, **choice))  # type: ignore[arg-type]
    assert part in str(told.value)


def test_a_column_cannot_be_called_as_an_input(scenes: Path, compared: Path) -> None:
    with pytest.raises(InputError, match="Two columns are called 'HRGT'"):
        select(scenes, Choice(methods=(f"HRGT={compared}",)))


def test_picking_needs_a_comparison(scenes: Path, compared: Path) -> None:
    with pytest.raises(InputError, match="--evaluation"):
        select(scenes, Choice(methods=(f"a={compared}",), pick="best"))
    with pytest.raises(InputError, match="There is no method to show"):
        select(scenes, Choice())
