"""What `check_dataset` finds, and that it finds nothing where nothing is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refgc.dataset.check import SHOWN, check_dataset
from refgc.dataset.corrections import CORRECTIONS
from refgc.dataset.manifest import PAIRS, TRIPLETS, VERDICTS, Pair, Triplet, append_row, read_rows, write_rows
from refgc.dataset.store import store_mask
from refgc.dataset.verdicts import REVIEW
from refgc.errors import InputError
from refgc.imaging.image import Mask
from tests.support.tiny_dataset import add_pair, add_triplet, add_verdict, decide, make_dataset, mend_mask


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "set")


def pairs_of(root: Path) -> list[Pair]:
    return list(read_rows(root / PAIRS, Pair))


def change_pair(root: Path, number: int, **changes: object) -> None:
    rows = pairs_of(root)
    rows[number] = rows[number].model_copy(update=changes)
    write_rows(root / PAIRS, rows)


def test_a_sound_dataset_is_summed_up(dataset):
    add_pair(dataset, "extra", "dog", seeds=(9000, 9001), category="animal", licence=None, split="test")
    add_triplet(dataset, "extra.t", "extra", seed=9002, simulated=False)
    decide(dataset, "extra", True)
    decide(dataset, "p0.0", False)
    decide(dataset, "t0.0", True)
    # One person is not enough.
    add_verdict(dataset, "p0.1", "ann", True)
    summary = check_dataset(dataset)
    assert summary.sound
    assert summary.faults == []
    assert (summary.pairs, summary.triplets, summary.objects, summary.rejections) == (9, 9, 5, 0)
    # Two pictures a pair, one a triplet, and one mask that all views share.
    assert summary.files == 9 * 3 + 1
    assert summary.categories == {"food": 8, "animal": 1}
    assert summary.sources == {"drawings": 9}
    assert summary.licences == {"CC BY 4.0": 8, "unknown": 1}
    assert summary.splits == {"unsplit": 8, "test": 1}
    assert summary.pair_verdicts == {"unreviewed": 7, "accepted": 1, "rejected": 1}
    assert summary.triplet_verdicts == {"unreviewed": 8, "accepted": 1}
    assert summary.generators == {"simulator": 8, "DipRefGC": 1}
    assert summary.simulated_share == pytest.approx(8 / 9)
    assert summary.orphans == 0


def remove_file(root: Path) -> None:
    (root / pairs_of(root)[0].hrri.picture.path).unlink()


def cut_file(root: Path) -> None:
    path = root / pairs_of(root)[0].hrgt.picture.path
    path.write_bytes(path.read_bytes()[:-1])


def name_another_size(root: Path) -> None:
    view = pairs_of(root)[0].hrri
    larger = {"width": view.picture.width + 1}
    files = {name: getattr(view, name).model_copy(update=larger) for name in ("picture", "mask")}
    change_pair(root, 0, hrri=view.model_copy(update=files))


def name_a_text(root: Path) -> None:
    (root / "note.txt").write_text("no picture")
    view = pairs_of(root)[0].hrri
    digest = hashlib.sha256(b"no picture").hexdigest()
    picture = view.picture.model_copy(update={"path": "note.txt", "sha256": digest})
    change_pair(root, 0, hrri=view.model_copy(update={"picture": picture}))


def repeat_a_pair(root: Path) -> None:
    append_row(root / PAIRS, pairs_of(root)[0])


def repeat_a_triplet(root: Path) -> None:
    append_row(root / TRIPLETS, next(read_rows(root / TRIPLETS, Triplet)))


def name_a_triplet_like_a_pair(root: Path) -> None:
    add_triplet(root, "p1.0", "p0.0", seed=5)


def give_a_picture_to_another_object(root: Path) -> None:
    add_pair(root, "thief", "other", seeds=(0, 77))


def name_no_pair(root: Path) -> None:
    add_triplet(root, "lost", "nowhere", seed=6)


def empty_a_mask(root: Path) -> None:
    view = pairs_of(root)[2].hrgt
    empty = store_mask(root, Mask(np.zeros((64, 64), np.float32)))
    change_pair(root, 2, hrgt=view.model_copy(update={"mask": empty}))


def shrink_a_mask(root: Path) -> None:
    view = pairs_of(root)[2].hrgt
    small = store_mask(root, Mask(np.ones((32, 32), np.float32)))
    change_pair(root, 2, hrgt=view.model_copy(update={"mask": small}))


def divide_an_object(root: Path) -> None:
    change_pair(root, 0, split="train")
    change_pair(root, 1, split="test")


def write_nonsense(root: Path) -> None:
    with (root / PAIRS).open("a") as file:
        file.write('nonsense\n{"id": "x"}\n')


def write_a_bad_verdict(root: Path) -> None:
    (root / VERDICTS).write_text('{"row": "p0.0"}\n')


def write_a_bad_correction(root: Path) -> None:
    (root / CORRECTIONS).write_text('{"row": "p0.0", "view": "lrgi"}\n')


def write_a_bad_review(root: Path) -> None:
    (root / REVIEW).write_text('{"raters_per_row": 0}\n')


def mend_and_remove(root: Path) -> None:
    (root / mend_mask(root, "p1.0", "hrgt", 20).mask.path).unlink()


def mend_and_cut(root: Path) -> None:
    path = root / mend_mask(root, "p1.0", "hrgt", 20).mask.path
    path.write_bytes(path.read_bytes()[:-1])


def mend_by_nothing(root: Path) -> None:
    mend_mask(root, "p1.0", "hrri", 0)


def mend_at_another_size(root: Path) -> None:
    mend_mask(root, "p1.0", "hrri", 20, side=32)


def mend_what_is_not_there(root: Path) -> None:
    mend_mask(root, "nowhere", "hrri", 20)


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "file removed": (remove_file, "missing file", "p0.0"),
    "file cut": (cut_file, "damaged file", "p0.0"),
    "another size": (name_another_size, "damaged file", "65x64"),
    "a text": (name_a_text, "damaged file", "note.txt"),
    "pair twice": (repeat_a_pair, "duplicate id", "p0.0"),
    "triplet twice": (repeat_a_triplet, "duplicate id", "t0.0"),
    "triplet named as a pair": (name_a_triplet_like_a_pair, "duplicate id", "p1.0"),
    "picture of two objects": (give_a_picture_to_another_object, "duplicate picture", "'o0' and to 'other'"),
    "pair unknown": (name_no_pair, "unknown pair", "nowhere"),
    "mask empty": (empty_a_mask, "bad mask", "marks nothing"),
    "mask of another size": (shrink_a_mask, "bad mask", "HRGT of 'p1.0'"),
    "object divided": (divide_an_object, "leak", "'o0' stands in test and in train"),
    "pairs unreadable": (write_nonsense, "unreadable row", "Line 9"),
    "verdict unreadable": (write_a_bad_verdict, "unreadable row", "Line 1"),
    "correction unreadable": (write_a_bad_correction, "unreadable row", "corrections.jsonl"),
    "review unreadable": (write_a_bad_review, "unreadable row", "review.json"),
    "mended mask removed": (mend_and_remove, "missing file", "p1.0"),
    "mended mask cut": (mend_and_cut, "damaged file", "p1.0"),
    "mended mask empty": (mend_by_nothing, "bad mask", "marks nothing"),
    "mended mask of another size": (mend_at_another_size, "bad mask", "HRRI of 'p1.0'"),
    "mended mask of no pair": (mend_what_is_not_there, "unknown pair", "nowhere"),
}


@pytest.mark.parametrize(("spoil", "kind", "part"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_once_with_its_row(dataset, spoil, kind, part):
    spoil(dataset)
    summary = check_dataset(dataset)
    assert not summary.sound
    assert [faults.kind for faults in summary.faults] == [kind]
    (faults,) = (faults for faults in summary.faults if faults.kind == kind)
    assert part in faults.first[0]
    assert faults.count == len(faults.first)


def test_the_same_picture_in_two_splits_leaks(dataset):
    change_pair(dataset, 0, split="train")
    change_pair(dataset, 1, split="train")
    add_pair(dataset, "thief", "other", seeds=(0, 77), split="test")
    kinds = {faults.kind: faults.first for faults in check_dataset(dataset).faults}
    assert set(kinds) == {"leak", "duplicate picture"}
    assert "stands in test and in train" in kinds["leak"][0]
    assert "'o0' and 'other'" in kinds["leak"][0]


def test_the_same_generated_picture_in_two_splits_leaks(dataset):
    write_rows(dataset / PAIRS, (pair.model_copy(update={"split": "train"}) for pair in pairs_of(dataset)))
    add_pair(dataset, "new", "other", seeds=(76, 77), split="test")
    add_triplet(dataset, "new.t", "new", seed=2)
    assert "leak" in {faults.kind for faults in check_dataset(dataset).faults}


def test_a_picture_that_one_object_uses_twice_is_no_fault(dataset):
    add_pair(dataset, "again", "o0", seeds=(0, 77))
    assert check_dataset(dataset).sound


def test_files_that_no_row_names_are_told_and_no_fault(dataset):
    (dataset / "files" / "zz").mkdir()
    (dataset / "files" / "zz" / "left.png").touch()
    summary = check_dataset(dataset)
    assert summary.sound
    assert (summary.orphans, summary.first_orphans) == (1, ["files/zz/left.png"])


def test_mended_masks_are_files_of_the_dataset(dataset):
    # The first one too, which the second takes the place of.
    for width in (20, 40):
        mend_mask(dataset, "p0.0", "hrri", width)
    summary = check_dataset(dataset)
    assert summary.sound
    assert (summary.mended, summary.orphans) == (2, 0)
    assert summary.files == 8 * 3 + 1 + 2


def test_how_many_people_a_row_needs_is_that_of_the_review(dataset):
    (dataset / REVIEW).write_text('{"raters_per_row": 1}')
    add_verdict(dataset, "p0.0", "ann", True)
    assert check_dataset(dataset).pair_verdicts == {"unreviewed": 7, "accepted": 1}


def test_many_faults_of_a_kind_are_counted_and_the_first_shown(dataset):
    for number in range(SHOWN + 5):
        add_triplet(dataset, f"lost{number}", "nowhere", seed=6)
    (faults,) = check_dataset(dataset).faults
    assert (faults.count, len(faults.first)) == (SHOWN + 5, SHOWN)


def test_a_quick_check_sees_what_is_missing_and_not_what_is_damaged(dataset):
    cut_file(dataset)
    assert check_dataset(dataset, quick=True).sound
    remove_file(dataset)
    assert [faults.kind for faults in check_dataset(dataset, quick=True).faults] == ["missing file"]


@pytest.mark.parametrize("name", [PAIRS, TRIPLETS])
def test_a_file_that_was_cut_off_is_a_fault(dataset, name):
    # The row is lost, and all others are whole.
    whole = (dataset / name).read_bytes()
    (dataset / name).write_bytes(whole + whole[:100])
    summary = check_dataset(dataset)
    assert (summary.pairs, summary.triplets) == (8, 8)
    (faults,) = summary.faults
    assert (faults.kind, faults.count) == ("unreadable row", 1)
    assert f"{name}' is cut off; repeat the command" in faults.first[0]


def test_a_verdict_that_is_being_written_is_not_yet_given(dataset):
    add_verdict(dataset, "p0.0", "ann", True)
    whole = (dataset / VERDICTS).read_bytes()
    (dataset / VERDICTS).write_bytes(whole + whole[:40])
    assert check_dataset(dataset).sound


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="no dataset"):
            check_dataset(folder)
