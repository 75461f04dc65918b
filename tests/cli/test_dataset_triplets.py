"""`refgc dataset triplets`: its options, what it says, and with which sentence it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from refgc.cli.dataset_triplets import triplets
from refgc.dataset.manifest import TRIPLETS, Triplet, read_rows
from refgc.errors import EngineError, InputError
from tests.support.dataset_pairs import PRODUCTS, make_pairs


def run(*words: str | Path) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(triplets)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_makes_triplets_and_says_how_many(tmp_path):
    make_pairs(tmp_path, PRODUCTS[:2])
    done = run(tmp_path, "--simulated", "--seeds", "2", "--workers", "1")
    assert done.exit_code == 0, done.exception
    assert "4 triplets made (simulated), 0 there before" in done.stdout
    assert len(list(read_rows(tmp_path / TRIPLETS, Triplet))) == 4
    again = run(tmp_path, "--simulated", "--seeds", "2", "--quiet")
    assert (again.exit_code, again.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        (["--simulated", "--server", "http://localhost"], InputError, "More than one generator is given"),
        (["--server", "http://localhost"], InputError, "The generator has no name; add --generator-name"),
        (["--simulated", "--generator-name", "mine"], InputError, "--generator-name is for"),
        (["--simulated", "--seeds", "0"], InputError, "The setting triplets.seeds cannot be used"),
        (["--simulated", "--least-overlap", "2"], InputError, "The setting triplets.least_overlap cannot be used"),
        (["--simulated", "--workers", "0"], InputError, "The setting triplets.workers cannot be used"),
        (["--generator-command", "none-of-that {output}", "--generator-name", "a"], EngineError, "is not found"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(tmp_path, words, kind, sentence):
    make_pairs(tmp_path, PRODUCTS[:1])
    done = run(tmp_path, *words)
    assert isinstance(done.exception, kind)
    assert sentence in str(done.exception)


def test_the_files_table_is_used_and_flags_go_before_it(tmp_path):
    make_pairs(tmp_path, PRODUCTS[:1], filtered_by="a model")
    file = tmp_path / "run.toml"
    file.write_text(
        '[pairs]\nside = 512\n[triplets]\nserver = "http://127.0.0.1:9/"\ngenerator_name = "theirs"\nseeds = 2\n'
        "unreviewed = true\nworkers = 1\n"
    )
    assert "'http://127.0.0.1:9/' is not reached" in str(run(tmp_path, "--settings", file).exception)
    accepted = run(tmp_path, "--settings", file, "--accepted-only")
    assert "None of the 1 pairs is accepted" in str(accepted.exception)
    done = run(tmp_path, "--settings", file, "--simulated", "--seeds", "1")
    assert "1 triplets made (simulated)" in done.stdout
    file.write_text("[triplets]\nsimulated = true\nunreviewed = true\nseeds = 2\n")
    done = run(tmp_path, "--settings", file, "--workers", "1")
    assert "1 triplets made (simulated), 1 there before" in done.stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[triplets]\nseed = 1\n", "The settings have no 'triplets.seed'; perhaps seeds is meant."),
        ("[triplets]\nmagic = 1\n", "have no 'triplets.magic'; there are simulated, generator_command, "),
        ("seeds = 1\n", "have no 'seeds'; put each setting into one of the tables [pairs] and [triplets]"),
        ("[triplets]\nseeds = 'two'\n", "The setting triplets.seeds cannot be used"),
        ("[triplets]\nsimulated = true\nserver = 'http://there'\n", "More than one generator is given"),
        ("[triplets\n", "is no TOML"),
    ],
)
def test_a_bad_file_is_said_in_one_sentence(tmp_path, content, sentence):
    make_pairs(tmp_path, PRODUCTS[:1])
    (tmp_path / "run.toml").write_text(content)
    done = run(tmp_path, "--settings", tmp_path / "run.toml")
    assert isinstance(done.exception, InputError)
    assert sentence in str(done.exception)


def test_unreviewed_pairs_are_taken_only_when_asked(tmp_path):
    make_pairs(tmp_path, PRODUCTS[:1], filtered_by="a model")
    refused = run(tmp_path, "--simulated")
    assert "None of the 1 pairs is accepted" in str(refused.exception)
    assert run(tmp_path, "--simulated", "--unreviewed", "--workers", "1").exit_code == 0


def test_the_command_imports_nothing_heavy():
    heavy = ("torch", "ray", "cv2", "numpy", "openai", "httpx", "transformers")
    script = f"import sys, refgc.cli.dataset_triplets; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
