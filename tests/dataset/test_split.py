"""Splitting by object: who goes where, and that nobody moves or leaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgc.dataset.check import check_dataset
from refgc.dataset.lock import only_run
from refgc.dataset.manifest import PAIRS, Pair, read_rows
from refgc.dataset.split import read_fixed, split_dataset, split_of
from refgc.errors import InputError
from tests.conftest import REPOSITORY
from tests.support.tiny_dataset import add_pair, add_triplet, make_dataset


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("set"), objects=12)


@pytest.fixture
def dataset(template: Path, tmp_path: Path) -> Path:
    """Only its manifest: splitting opens no picture."""
    for name in ("pairs.jsonl", "triplets.jsonl"):
        (tmp_path / name).write_bytes((template / name).read_bytes())
    return tmp_path


def splits(root: Path) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for pair in read_rows(root / PAIRS, Pair):
        found.setdefault(pair.object_id, set()).add(pair.split)
    return found


def test_every_object_stands_in_one_split(dataset):
    result = split_dataset(dataset, test=0.3, validation=0.3, seed=1)
    found = splits(dataset)
    assert all(len(each) == 1 and None not in each for each in found.values())
    assert {"train", "test", "validation"} == set.union(*found.values())
    assert sum(result.objects.values()) == 12
    assert sum(result.pairs.values()) == 24
    assert result.pairs == {name: 2 * number for name, number in result.objects.items()}
    assert (result.moved, result.fixed) == (0, 0)


def test_nothing_but_the_split_changes(dataset):
    before = list(read_rows(dataset / PAIRS, Pair))
    split_dataset(dataset, test=0.3, seed=1)
    after = list(read_rows(dataset / PAIRS, Pair))
    assert [pair.model_copy(update={"split": None}) for pair in after] == before


def test_objects_that_come_later_move_no_other(dataset):
    split_dataset(dataset, test=0.3, validation=0.2, seed=5)
    before = splits(dataset)
    for number in range(20):
        add_pair(dataset, f"new{number}", f"new{number}", seeds=(50_000 + number, 60_000 + number))
    result = split_dataset(dataset, test=0.3, validation=0.2, seed=5)
    assert result.moved == 0
    assert {name: found for name, found in splits(dataset).items() if name in before} == before


def test_another_seed_moves_objects_and_says_how_many(dataset):
    split_dataset(dataset, test=0.5, seed=1)
    before = splits(dataset)
    result = split_dataset(dataset, test=0.5, seed=2)
    assert result.moved == sum(before[name] != now for name, now in splits(dataset).items()) > 0


def test_the_shares_are_kept_over_many_objects():
    found = [split_of(f"object-{number}", test=0.1, validation=0.05, seed=0) for number in range(20_000)]
    # Three standard deviations of such a draw are under 0.7 percent.
    assert found.count("test") / len(found) == pytest.approx(0.1, abs=0.007)
    assert found.count("validation") / len(found) == pytest.approx(0.05, abs=0.007)


@given(st.text(max_size=20), st.integers(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_share_keeps_those_that_were_in_the_test(name, seed, share, more):
    if split_of(name, test=share, validation=0, seed=seed) == "test":
        assert split_of(name, test=share + more, validation=0, seed=seed) == "test"


def test_shares_of_nothing_and_of_all(dataset):
    assert split_dataset(dataset, test=0, validation=0).objects == {"train": 12}
    assert split_dataset(dataset, test=1, validation=0).objects == {"test": 12}


def test_fixed_objects_stand_where_the_file_says(dataset, tmp_path):
    file = tmp_path / "fixed.toml"
    file.write_text(
        'test = ["o3"]\n[products]\nfit = ["o1", "unknown"]\nheld_out = ["o2"]\n[other]\nvalidation = ["o4"]\n'
    )
    result = split_dataset(dataset, test=0, validation=0, fixed=read_fixed(file))
    found = splits(dataset)
    assert (found["o1"], found["o2"], found["o3"], found["o4"]) == ({"train"}, {"test"}, {"test"}, {"validation"})
    assert result.fixed == 4
    assert result.objects == {"train": 9, "test": 2, "validation": 1}


def test_the_list_of_the_benchmarks_can_be_given():
    fixed = read_fixed(REPOSITORY / "benchmarks" / "split.toml")
    assert (fixed["camera"], fixed["mug"], fixed["clock"]) == ("train", "test", "test")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("not toml", "is no TOML"),
        ('exam = ["o1"]', "'exam'"),
        ('test = "o1"', "'test'"),
        ("test = [1]", "'test'"),
        ('test = ["o1"]\ntrain = ["o1"]', "'o1' into two splits"),
    ],
)
def test_a_bad_list_of_fixed_objects_is_told(tmp_path, text, part):
    (tmp_path / "fixed.toml").write_text(text)
    with pytest.raises(InputError, match=part):
        read_fixed(tmp_path / "fixed.toml")


def test_a_missing_list_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_fixed(tmp_path / "absent.toml")


def test_objects_that_share_a_picture_may_not_be_parted(dataset):
    add_pair(dataset, "thief", "other", seeds=(0, 77))
    before = (dataset / PAIRS).read_bytes()
    with pytest.raises(InputError, match=r"'o0' and 'other'.*--fixed"):
        split_dataset(dataset, test=0, validation=0, fixed={"other": "test"})
    assert (dataset / PAIRS).read_bytes() == before
    split_dataset(dataset, test=0, validation=0, fixed={"other": "test", "o0": "test"})
    assert splits(dataset)["other"] == {"test"}


def test_objects_that_share_a_generated_picture_may_not_be_parted(dataset):
    add_pair(dataset, "new", "other", seeds=(76, 77))
    add_triplet(dataset, "new.t", "new", seed=2)
    with pytest.raises(InputError, match="'o0' and 'other'"):
        split_dataset(dataset, test=0, validation=0, fixed={"other": "test"})


@pytest.mark.parametrize(("test", "validation"), [(-0.1, 0.1), (0.7, 0.4), (1.1, 0), (float("nan"), 0)])
def test_shares_that_cannot_be_are_told(dataset, test, validation):
    with pytest.raises(InputError, match="between 0 and 1"):
        split_dataset(dataset, test=test, validation=validation)


def test_a_split_dataset_has_no_leaks(tmp_path):
    root = make_dataset(tmp_path, objects=4)
    split_dataset(root, test=0.5, seed=3)
    assert check_dataset(root).sound


def test_a_pair_whose_line_is_cut_off_is_not_thrown_away(dataset):
    cut = (dataset / PAIRS).read_bytes()[:-100]
    (dataset / PAIRS).write_bytes(cut)
    with pytest.raises(InputError, match="is cut off; repeat the command"):
        split_dataset(dataset)
    assert (dataset / PAIRS).read_bytes() == cut


def test_a_dataset_that_a_run_writes_into_is_not_split(dataset):
    before = (dataset / PAIRS).read_bytes()
    with only_run(dataset), pytest.raises(InputError, match="Another run writes"):
        split_dataset(dataset)
    assert (dataset / PAIRS).read_bytes() == before
