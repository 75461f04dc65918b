"""Bad lists and options: one sentence for each, and one bad line never stops a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bad_lists import CSV_LINES, BadCall, a_list, bad_calls, bad_lines, furnish, refine_list, with_lines
from tests.support.command import run_inside, run_refgc

CALLS = list(bad_calls())
TENTH = CALLS[3::10]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    furnish(tmp_path)
    return tmp_path


def test_there_are_enough_of_them() -> None:
    assert len(CALLS) >= 122
    assert len({call.name for call in CALLS}) == len(CALLS)


@pytest.mark.parametrize("call", TENTH, ids=[call.name.encode("unicode_escape").decode() for call in TENTH])
def test_a_bad_call_is_answered_by_one_sentence(folder: Path, call: BadCall) -> None:
    done = run_inside(*call.within(folder), **call.environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(".\n")
    assert "Traceback" not in done.stderr
    if call.is_line:
        assert done.stderr.startswith("line 3: " if "csv" in call.name else "line 2: ")
        assert done.stdout == "0 refined, 2 finished before, 1 without a result.\n"


@pytest.mark.parametrize(("name", "lines"), [("pairs.jsonl", bad_lines()), ("pairs.csv", CSV_LINES)])
def test_all_bad_lines_in_one_list_are_told_and_the_last_good_one_is_refined(
    folder: Path, name: str, lines: dict[str, bytes]
) -> None:
    a_list(name, with_lines(name, lines))(folder)
    (folder / "out" / "after.png").unlink()
    done = run_inside(*(word.replace("FOLDER", str(folder)) for word in refine_list(name)))
    assert done.returncode == 2
    told = done.stderr.splitlines()
    first = 3 if name.endswith(".csv") else 2
    assert [line.split(":")[0] for line in told] == [f"line {number}" for number in range(first, first + len(lines))]
    assert all(line.endswith(".") for line in told)
    assert done.stdout.endswith(f"1 refined, 1 finished before, {len(lines)} without a result.\n")
    assert (folder / "out" / "after.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "elsewhere").iterdir()) == []
    assert not (folder / "out.png").exists()


def test_an_output_may_leave_the_folder_where_that_is_allowed(folder: Path) -> None:
    content = b'{"reference": "reference.png", "generated": "generated.png", "output": "link/new.png"}'
    a_list("pairs.jsonl", content)(folder)
    arguments = [word.replace("FOLDER", str(folder)) for word in refine_list("pairs.jsonl")]
    refused = run_inside(*arguments)
    assert refused.returncode == 2
    assert "leads out of the output folder; give a name inside of it, or add --allow-outside." in refused.stderr
    assert list((folder / "elsewhere").iterdir()) == []
    assert run_inside(*arguments, "--allow-outside").returncode == 0
    assert (folder / "elsewhere" / "new.png").is_file()


@pytest.mark.parametrize("call", CALLS[7::110], ids=lambda call: call.name)
def test_the_process_answers_as_the_function_does(folder: Path, call: BadCall) -> None:
    done = run_refgc(*call.within(folder), **call.environment)
    within = run_inside(*call.within(folder), **call.environment)
    assert (done.returncode, done.stdout, done.stderr) == (within.returncode, within.stdout, within.stderr)
