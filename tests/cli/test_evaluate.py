"""`refgc evaluate`: what is printed and written, and calls that cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from refgc.cli.main import app
from tests.evaluation.support import evaluated_set
from tests.support.command import assert_one_sentence, run_inside

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated_set(tmp_path_factory.mktemp("evaluate") / "set")


def test_tables_are_printed_written_and_written_anew(dataset, tmp_path):
    out = tmp_path / "out"
    usual = ("--metrics", "psnr", "--unreviewed", "--workers", "1")
    done = run_inside("evaluate", dataset, "--methods", "lanczos,X*=bicubic", "--output", out, *usual)
    assert done.returncode == 0, done.stderr
    assert "| X\\* |" in done.stdout
    assert "6 entries of 3 objects, all with a truth: set (dataset, split test)" in done.stdout
    before = {path.name: path.read_bytes() for path in out.glob("table.*")}
    assert set(before) == {"table.md", "table.tex", "table.csv", "table.json"}
    assert before["table.md"].decode() in done.stdout
    again = run_inside("evaluate", "--tables-only", "--output", out, "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert {path.name: path.read_bytes() for path in out.glob("table.*")} == before
    paper = run_inside("evaluate", "--tables-only", "--output", out, "--paper", "2,3", "--against", "Lanczos")
    assert "0.8696" in paper.stdout
    assert "differs from Lanczos" in paper.stdout


def test_methods_of_a_file_come_after_those_of_the_command(dataset, tmp_path):
    (tmp_path / "list.toml").write_text(
        '[[methods]]\nlabel = "from the file"\nmethod = "bicubic"\ncomponents = ["L_f"]\n'
    )
    done = run_inside(
        "evaluate", dataset, "--methods", "lanczos", "--methods-file", tmp_path / "list.toml", "--metrics", "psnr",
        "--unreviewed", "--workers", "1", "--output", tmp_path / "out",
    )  # fmt: skip
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[0].startswith("| Method | L\\_f | PSNR")
    assert rows[2].startswith("| Lanczos |  |")
    assert rows[3].startswith("| from the file | ✓ |")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["SET", "--methods", "magic"], "no method 'magic'"),
        (["SET", "--methods", "lanczos", "--metrics", "beauty"], "no metric 'beauty'"),
        (["SET", "--methods", "lanczos,lanczos"], "too alike"),
        (["SET"], "--unreviewed"),
        (["SET", "--unreviewed", "--split", "train"], "no rows of the split train"),
        (["nowhere"], "cannot be found"),
        ([], "Give the folder or list"),
        (["--tables-only"], "no results"),
        (["SET", "--tables-only"], "leave DIR"),
        (["SET", "--unreviewed", "--paper", "7"], "table '7'"),
        (["SET", "--unreviewed", "--methods", "lanczos", "--against", "Ours"], "No method is called 'Ours'"),
        (["SET", "--unreviewed", "--methods", "lanczos", "--lpips-net", "big", "--metrics", "lpips"], "'big'"),
    ],
)
def test_calls_that_cannot_be_are_one_sentence(dataset, tmp_path, arguments, part):
    words = [dataset if word == "SET" else word for word in arguments]
    done = run_inside("evaluate", *words, "--output", tmp_path / "out", "--workers", "1")
    assert_one_sentence(done, 2, part)
    # What cannot be is found before anything is run.
    assert not (tmp_path / "out").exists()


def test_every_option_is_documented():
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    options = {switch for one in command.params for switch in one.opts if switch.startswith("--")}
    usual = {"--quiet", "--debug", "--help"}
    assert {option for option in options - usual if not re.search(rf"{option}\b", text)} == set()
