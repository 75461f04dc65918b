"""`refgc dataset` on a small dataset: status, what is printed, and what is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refgc.dataset.manifest import PAIRS, Pair, read_rows
from tests.support.command import assert_one_sentence, run_inside, run_refgc
from tests.support.fake_hub import running_hub
from tests.support.tiny_dataset import add_pair, add_triplet, decide, make_dataset


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("template") / "set", objects=3)


@pytest.fixture
def dataset(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "set")


def test_the_help_of_the_group_loads_no_picture_library() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "refgc", "dataset", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"pairs", "review", "triplets", "check"} <= set(done.stdout.split())
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    heavy = {
        "numpy",
        "PIL",
        "cv2",
        "torch",
        "datasets",
        "webdataset",
        "pyarrow",
        "huggingface_hub",
        "av",
        "ray",
        "gradio",
    }
    assert "typer" in loaded
    assert loaded.isdisjoint(heavy)


def test_a_sound_dataset_has_status_0(dataset):
    done = run_refgc("dataset", "check", dataset)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "pairs 6, triplets 6, objects 3, files 19"
    assert "simulated: 100.0% of the triplets" in lines
    assert lines[-1] == "sound"


def test_faults_have_a_line_each_and_status_1(dataset):
    first = next(read_rows(dataset / PAIRS, Pair))
    (dataset / first.hrri.picture.path).unlink()
    for number in range(22):
        add_triplet(dataset, f"lost{number}", "nowhere", seed=6)
    done = run_inside("dataset", "check", dataset)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert sum(line.startswith("unknown pair: ") for line in lines) == 21
    assert "unknown pair: 2 more" in lines
    assert sum(line.startswith("missing file: ") for line in lines) == 1
    assert lines[-1] == "not sound: 23 faults"


def test_the_check_as_json(dataset):
    done = run_inside("dataset", "check", dataset, "--json", "--quick")
    told = json.loads(done.stdout)
    assert (done.returncode, told["sound"], told["pairs"], told["faults"]) == (0, True, 6, [])
    (dataset / "triplets.jsonl").write_text("nonsense\n")
    done = run_inside("dataset", "check", dataset, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["sound"], told["faults"][0]["kind"]) == (1, False, "unreadable row")


def test_names_from_a_manifest_send_nothing_to_the_terminal(dataset):
    text = (dataset / PAIRS).read_text()
    (dataset / PAIRS).write_text(text.replace('"name":"drawings"', '"name":"\\u001b[2Jdrawings"'))
    done = run_inside("dataset", "check", dataset)
    assert "\x1b" not in done.stdout
    assert "\\x1b[2Jdrawings 6" in done.stdout


def test_the_way_from_split_to_a_frozen_test(dataset, tmp_path):
    fixed = tmp_path / "fixed.toml"
    fixed.write_text('held_out = ["o2", "unknown"]\n')
    done = run_inside("dataset", "split", dataset, "--test", "0", "--validation", "0", "--fixed", fixed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "test: 1 objects, 2 pairs",
        "train: 2 objects, 4 pairs",
        f"fixed: 1 of the 2 objects that {str(fixed)!r} names are in the dataset",
    ]
    done = run_inside("dataset", "split", dataset, "--test", "0", "--validation", "0")
    assert "moved: 1 objects stood in another split before" in done.stdout
    run_inside("dataset", "split", dataset, "--test", "0", "--validation", "0", "--fixed", fixed, "--quiet")
    done = run_inside("dataset", "benchmark", dataset, "--output", tmp_path / "out", "--unreviewed")
    head = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'out'}: 2 cases on 1 objects, 2 with their truth",
        f"list: {head['sha256']}",
    ]


@pytest.mark.parametrize(
    ("form", "name"), [("webdataset", "unsplit-000000.tar"), ("folder", "data"), ("imagecritic", "open_dataset")]
)
def test_exports(dataset, tmp_path, form, name):
    done = run_inside("dataset", "export", dataset, "--to", form, "--output", tmp_path / "out", "--unreviewed")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'out'}: unsplit 6 rows; ")
    assert (tmp_path / "out" / name).exists()


@pytest.mark.parametrize("words", [("export", "--to", "folder"), ("export", "--to", "webdataset"), ("benchmark",)])
def test_nothing_is_written_among_the_files_of_the_dataset(dataset, words):
    before = sorted(dataset.rglob("*"))
    done = run_inside("dataset", *words, dataset, "--output", dataset / "files" / "..", "--unreviewed")
    assert_one_sentence(done, 2, "the folder of the dataset itself")
    assert sorted(dataset.rglob("*")) == before


def test_accepted_rows_alone_are_the_default(dataset, tmp_path):
    done = run_inside("dataset", "export", dataset, "--to", "webdataset", "--output", tmp_path / "out")
    assert_one_sentence(done, 2, "--unreviewed")
    decide(dataset, "p0.0", True)
    done = run_inside("dataset", "export", dataset, "--to", "webdataset", "--output", tmp_path / "out")
    assert done.stdout == f"{tmp_path / 'out'}: unsplit 1 rows; 1 files written, 0 kept\n"


def test_an_import_says_what_is_not_known(dataset, tmp_path):
    run_inside("dataset", "export", dataset, "--to", "imagecritic", "--output", tmp_path / "out", "--unreviewed")
    done = run_inside("dataset", "import", tmp_path / "out", "--from", "imagecritic", "--output", tmp_path / "again")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == f"{tmp_path / 'again'}: 6 samples added, 0 known, 0 refused"
    assert second.startswith("Not known of them: the mask of the HRRI")
    assert run_inside("dataset", "check", tmp_path / "again").returncode == 0


def test_a_dry_run_writes_the_card_alone(dataset):
    done = run_inside("dataset", "push", dataset, "someone/triplets", "--dry-run", "--unreviewed")
    assert (done.returncode, done.stderr) == (0, "")
    card = dataset / "hub" / "README.md"
    assert done.stdout == f"{card}\n"
    assert [path.name for path in card.parent.iterdir()] == ["README.md"]
    assert 'load_dataset("someone/triplets")' in card.read_text()
    assert "license: cc-by-4.0" in card.read_text()


def test_a_push_uploads_card_and_shards(dataset, tmp_path):
    with running_hub() as hub:
        done = run_refgc(
            "dataset", "push", dataset, "someone/triplets", "--private", "--unreviewed", "--staging", tmp_path / "hub",
            HF_ENDPOINT=hub.url, HF_TOKEN="hf_test", HF_HOME=str(tmp_path / "home"), HF_HUB_DISABLE_XET="1",
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith(f"{hub.url}/someone/triplets/commit/")
    files = hub.repositories["someone/triplets"]
    assert set(files) == {"README.md", "data/unsplit-000000.parquet"}
    assert files["data/unsplit-000000.parquet"] == (tmp_path / "hub" / "data" / "unsplit-000000.parquet").read_bytes()
    assert hub.visibility == "private"


def test_a_push_without_licence_is_refused(dataset):
    add_pair(dataset, "extra", "dog", seeds=(9000, 9001), licence=None)
    add_triplet(dataset, "extra.t", "extra", seed=9002)
    words = ("dataset", "push", dataset, "someone/triplets", "--dry-run", "--unreviewed")
    assert_one_sentence(run_inside(*words), 2, "1 rows have no licence (from 'drawings')")
    assert not (dataset / "hub").exists()
    assert run_inside(*words, "--allow-unknown-licence").returncode == 0
    assert "| unknown | 1 | 14.3% |" in (dataset / "hub" / "README.md").read_text()


def test_a_push_of_an_unsound_dataset_is_refused(dataset):
    add_triplet(dataset, "lost", "nowhere", seed=6)
    done = run_inside("dataset", "push", dataset, "someone/triplets", "--dry-run", "--unreviewed")
    assert_one_sentence(done, 2, "`refgc dataset check` says why")


def test_a_hub_that_refuses_is_told_in_a_sentence(dataset, tmp_path):
    with running_hub() as hub:
        hub.refusal = (401, "")
        done = run_refgc(
            "dataset", "push", dataset, "someone/triplets", "--unreviewed",
            HF_ENDPOINT=hub.url, HF_TOKEN="hf_test", HF_HOME=str(tmp_path / "home"), HF_HUB_DISABLE_XET="1",
        )  # fmt: skip
    assert_one_sentence(done, 2, "token")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["check", "nowhere"], "no dataset in 'nowhere'"),
        (["split", "nowhere"], "no dataset in 'nowhere'"),
        (["split", "SET", "--test", "2"], "between 0 and 1"),
        (["split", "SET", "--fixed", "nowhere"], "'nowhere' cannot be read"),
        (["export", "SET", "--to", "magic", "--output", "out"], "--to"),
        (["export", "SET", "--to", "folder"], "--output"),
        (["export", "SET", "--to", "imagecritic", "--output", "out", "--rows-per-shard", "5"], "no shards"),
        (["export", "SET", "--to", "webdataset", "--output", "out", "--rows-per-shard", "0"], "--rows-per-shard"),
        (["import", "SET", "--from", "imagecritic", "--output", "out"], "no samples"),
        (["benchmark", "SET", "--output", "out", "--unreviewed"], "refgc dataset split"),
        (["benchmark", "nowhere", "--output", "out", "--wild"], "GENERATOR/TASK/CASE"),
        (["push", "nowhere", "someone/triplets"], "no dataset in 'nowhere'"),
        (["push", "SET", "a b c", "--unreviewed"], "'a b c'"),
        ([], "Missing command"),
        (["magic"], "magic"),
    ],
)
def test_bad_calls_end_with_one_sentence(template, tmp_path, monkeypatch, arguments, part):
    monkeypatch.chdir(tmp_path)
    words = [str(template) if word == "SET" else word for word in arguments]
    before = sorted(template.rglob("*"))
    assert_one_sentence(run_inside("dataset", *words), 2, part)
    if "push" not in arguments:
        assert sorted(template.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
