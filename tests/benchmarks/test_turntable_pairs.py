"""What the turntables' truth says of pairs, and a rendered turntable as a source of the dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.split import all_products
from benchmarks.turntable_pairs import SETTINGS, Turntable, read_turntables
from benchmarks.turntables import FRAMES, LIGHTS, VIDEOS
from refgc.correspondence.learned import find_networks
from refgc.dataset.frames import read_frames
from refgc.dataset.object_masks import mask_frames
from refgc.dataset.sources import find_objects
from refgc.dataset.views import find_pairs, find_views
from refgc.imaging.image import MARKED
from refgc.machine import BLAS_THREADS
from refgc.masks import morphology


def card(elevation: float) -> Turntable:
    """A card with a front and a back, each of which is seen up to 75 degrees from the side."""
    turns = tuple(30.0 * number for number in range(12))
    shows_front = [min(turn, 360 - turn) < 80 for turn in turns]
    seen = tuple(tuple(float(one == other) for other in shows_front) for one in shows_front)
    return Turntable("card_studio", elevation, turns, seen)


def test_pairs_agree_where_the_same_side_has_turned_a_little() -> None:
    level, from_above = card(0.0), card(60.0)
    assert level.product == "card"
    assert level.degrees(0, 2) == pytest.approx(60)
    assert level.degrees(11, 1) == pytest.approx(60)
    # From above a turn changes the view less.
    assert from_above.degrees(0, 6) == pytest.approx(60)
    assert level.agrees(0, 1)
    assert not level.agrees(0, 0)
    assert not level.agrees(0, 3)
    assert not level.agrees(2, 3)
    assert level.wanted() == SETTINGS.pairs_per_object


def test_the_packed_turntables_are_whole() -> None:
    turntables = read_turntables(VIDEOS)
    assert set(turntables) == {f"{product}_{light}" for product in all_products() for light in LIGHTS}
    for turntable in turntables.values():
        assert len(turntable.turns) == len(turntable.seen) == FRAMES
        assert [row[number] for number, row in enumerate(turntable.seen)] == [1.0] * FRAMES
        assert (VIDEOS / f"{turntable.name}.mp4").is_file()
    sizes = [file.stat().st_size for file in VIDEOS.rglob("*") if file.is_file()]
    assert sum(sizes) < 15_000_000
    assert json.loads((VIDEOS / "truth" / "poses.json").read_bytes()).keys() == turntables.keys()


def test_a_rendered_turntable_gives_masks_and_a_pair_of_one_side(tmp_path: Path) -> None:
    networks = find_networks()
    if networks is None:
        pytest.skip("the weights of learned matching are not on this machine; run `refgc setup`")
    for name, place in (("bare", None), ("given", "tin_mask.mkv")):
        (tmp_path / name).mkdir()
        shutil.copyfile(VIDEOS / "tea_tin_studio.mp4", tmp_path / name / "tin.mp4")
        if place:
            shutil.copyfile(VIDEOS / "truth" / "tea_tin_studio_mask.mkv", tmp_path / name / place)
    ((bare,), (given,)) = (find_objects(tmp_path / name, SETTINGS) for name in ("bare", "given"))
    with BLAS_THREADS.one():
        true = read_frames(given, SETTINGS).kept
        assert len(true) == FRAMES
        # The front, the front turned by 30 degrees, and the back.
        chosen = [true[number] for number in (0, 1, 6)]
        (found,), rejected = mask_frames(read_frames(bare, SETTINGS).kept[:1], "tin", SETTINGS, networks)
        assert not rejected
        assert true[0].mask is not None
        assert morphology.overlap(found.mask.values >= MARKED, true[0].mask.values >= MARKED) > 0.95
        masked, rejected = mask_frames(chosen, "tin", SETTINGS, networks)
        assert [item.maker for item in masked] == ["source"] * 3, rejected
        (pair,), _ = find_pairs(find_views(masked, SETTINGS, networks)[0], SETTINGS, networks)
    assert {pair.hrri.masked.frame.seconds, pair.hrgt.masked.frame.seconds} == {0.0, 0.5}
