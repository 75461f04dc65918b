"""Frozen sets: what is in them, that they do not change, and that a changed one is seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.dataset.manifest import PAIRS, TRIPLETS, Pair, Triplet, read_rows, write_rows
from refgc.dataset.rows import read_entries
from refgc.dataset.split import split_dataset
from refgc.dataset.store import load_image, load_mask
from refgc.dataset.testset import freeze_test_split, freeze_wild, read_benchmark
from refgc.errors import InputError
from tests.support.tiny_dataset import add_triplet, disc, drawn, make_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = make_dataset(tmp_path / "set", objects=3)
    split_dataset(root, test=0, validation=0, fixed={"o1": "test"})
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two generators; the first case has everything, the others only what they must have."""
    folder = tmp_path / "pictures"
    full = folder / "DreamFuse" / "compositing" / "a cup"
    for name, seed in (("hrri", 1), ("lrgi", 2), ("hrgt", 3)):
        save(full / f"{name}.png", drawn(seed).pixels)
        save(full / f"{name}_mask.png", (disc().values * 255).astype(np.uint8))
    (full / "case.toml").write_text('object = "cup"\ncategory = "food"\nlicence = "CC0 1.0"\nsource = "us"\n')
    for generator, task, seed in (("DreamFuse", "customisation", 1), ("Gemini", "customisation", 9)):
        save(folder / generator / task / "1" / "hrri.png", drawn(seed).pixels)
        save(folder / generator / task / "1" / "lrgi.webp", drawn(seed + 20).pixels)
    return folder


def test_the_test_split_is_frozen_with_its_pictures(dataset, tmp_path):
    head = freeze_test_split(dataset, tmp_path / "out", unreviewed=True)
    assert (head.kind, head.cases, head.objects, head.with_truth) == ("test", 2, 1, 2)
    shutil.move(dataset, tmp_path / "elsewhere")
    again, cases = read_benchmark(tmp_path / "out")
    assert again == head
    entries = {entry.id: entry for entry in read_entries(tmp_path / "elsewhere", unreviewed=True)}
    assert [case.id for case in cases] == ["t1.0", "t1.1"]
    for case in cases:
        files = entries[case.id].files()
        for name in ("hrri", "hrgt", "lrgi"):
            kept = load_image(tmp_path / "out", getattr(case, name)).pixels
            np.testing.assert_array_equal(kept, load_image(tmp_path / "elsewhere", files[name]).pixels)
        assert case.hrri_mask == files["hrri_mask"]
        assert load_mask(tmp_path / "out", case.hrri_mask).values.max() == 1
        assert (case.generator, case.simulated, case.object_name) == ("simulator", True, "o1 cup")


def test_the_hash_is_that_of_the_list_whatever_the_order(dataset, tmp_path):
    one = freeze_test_split(dataset, tmp_path / "one", unreviewed=True)
    write_rows(dataset / TRIPLETS, list(read_rows(dataset / TRIPLETS, Triplet))[::-1])
    assert freeze_test_split(dataset, tmp_path / "two", unreviewed=True) == one
    add_triplet(dataset, "more", "p1.0", seed=99)
    assert freeze_test_split(dataset, tmp_path / "three", unreviewed=True).sha256 != one.sha256


def test_a_frozen_set_does_not_change(dataset, tmp_path):
    head = freeze_test_split(dataset, tmp_path / "out", unreviewed=True)
    assert freeze_test_split(dataset, tmp_path / "out", unreviewed=True) == head
    add_triplet(dataset, "more", "p1.0", seed=99)
    with pytest.raises(InputError, match=f"another benchmark, with the list {head.sha256}"):
        freeze_test_split(dataset, tmp_path / "out", unreviewed=True)
    assert read_benchmark(tmp_path / "out")[0] == head


def test_a_list_that_was_changed_is_seen(dataset, tmp_path):
    freeze_test_split(dataset, tmp_path / "out", unreviewed=True)
    path = tmp_path / "out" / "cases.jsonl"
    path.write_text(path.read_text().replace("o1 cup", "o2 cup"))
    with pytest.raises(InputError, match="was changed"):
        read_benchmark(tmp_path / "out")


@pytest.mark.parametrize("content", [None, "{}", "nonsense", '{"version": 2}'])
def test_a_head_that_is_none_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "benchmark.json").write_text(content)
    with pytest.raises(InputError, match="benchmark"):
        read_benchmark(tmp_path)


def test_a_set_that_was_not_finished_has_no_head(dataset, tmp_path):
    pair = next(pair for pair in read_rows(dataset / PAIRS, Pair) if pair.split == "test")
    damaged = dataset / pair.hrgt.picture.path
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:-1])
    with pytest.raises(InputError, match="is damaged"):
        freeze_test_split(dataset, tmp_path / "out", unreviewed=True)
    with pytest.raises(InputError, match="no benchmark"):
        read_benchmark(tmp_path / "out")
    damaged.write_bytes(sound)
    assert freeze_test_split(dataset, tmp_path / "out", unreviewed=True).cases == 2


def test_nothing_is_frozen_before_there_is_a_test_split(tmp_path):
    root = make_dataset(tmp_path / "set", objects=1)
    with pytest.raises(InputError, match="refgc dataset split"):
        freeze_test_split(root, tmp_path / "out", unreviewed=True)
    with pytest.raises(InputError, match="--unreviewed"):
        freeze_test_split(root, tmp_path / "out")


def test_a_test_split_that_leaks_is_not_frozen(dataset, tmp_path):
    pairs = list(read_rows(dataset / PAIRS, Pair))
    pairs[2] = pairs[2].model_copy(update={"split": "train"})
    write_rows(dataset / PAIRS, pairs)
    with pytest.raises(InputError, match="'o1' stands in the test split and outside"):
        freeze_test_split(dataset, tmp_path / "out", unreviewed=True)


def test_pictures_of_named_generators_are_frozen(pictures, tmp_path):
    head = freeze_wild(pictures, tmp_path / "out")
    assert (head.kind, head.cases, head.objects, head.with_truth) == ("wild", 3, 2, 1)
    found = {(case.generator, case.task): case for case in read_benchmark(tmp_path / "out")[1]}
    full = found["DreamFuse", "compositing"]
    assert (full.object_name, full.category, full.source.licence) == ("cup", "food", "CC0 1.0")
    np.testing.assert_array_equal(load_image(tmp_path / "out", full.lrgi).pixels, drawn(2).pixels)
    assert len(full.files()) == 6
    bare = found["Gemini", "customisation"]
    assert (bare.object_name, bare.hrgt, bare.hrri_mask, bare.simulated) == ("object", None, None, False)
    # Of the same reference, so of one object.
    assert found["DreamFuse", "customisation"].object_id == full.object_id != bare.object_id
    assert freeze_wild(pictures, tmp_path / "out") == head
    assert freeze_wild(pictures, tmp_path / "other") == head


def no_lrgi(folder: Path) -> None:
    (folder / "Gemini" / "customisation" / "1" / "lrgi.webp").unlink()


def two_references(folder: Path) -> None:
    shutil.copy(folder / "Gemini/customisation/1/hrri.png", folder / "Gemini/customisation/1/hrri.jpg")


def another_task(folder: Path) -> None:
    (folder / "Gemini" / "customisation").rename(folder / "Gemini" / "magic")


def bad_note(folder: Path) -> None:
    (folder / "DreamFuse" / "compositing" / "a cup" / "case.toml").write_text('category = "gadget"')


def broken_note(folder: Path) -> None:
    (folder / "DreamFuse" / "compositing" / "a cup" / "case.toml").write_text("object")


def empty_mask(folder: Path) -> None:
    save(folder / "DreamFuse" / "compositing" / "a cup" / "hrgt_mask.png", np.zeros((64, 64), np.uint8))


def no_picture(folder: Path) -> None:
    (folder / "DreamFuse" / "compositing" / "a cup" / "hrri.png").write_text("no picture")


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (no_lrgi, "no picture called lrgi"),
    (two_references, "2 files called hrri"),
    (another_task, "'magic'.*compositing or customisation"),
    (bad_note, "category"),
    (broken_note, "is no TOML"),
    (empty_mask, "hrgt mask marks nothing"),
    (no_picture, "hrri"),
    (nothing, "GENERATOR/TASK/CASE"),
]


@pytest.mark.parametrize(("spoil", "part"), SPOILT)
def test_pictures_that_cannot_be_used_are_told(pictures, tmp_path, spoil, part):
    spoil(pictures)
    with pytest.raises(InputError, match=part):
        freeze_wild(pictures, tmp_path / "out")
    assert not (tmp_path / "out" / "benchmark.json").exists()
