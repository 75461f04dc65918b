"""`refgc figures` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import assert_one_sentence, run_inside
from tests.support.compared_scenes import make_comparison, make_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "scenes")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("compared") / "out")


def test_a_grid_is_drawn_and_its_files_are_named(scenes: Path, compared: Path, tmp_path: Path) -> None:
    output = tmp_path / "grid.png"
    done = run_inside(
        "figures", "grid", scenes, "--evaluation", compared, "--pick", "best", "--over", "soft", "--method", "sharp",
        "--windows", "1", "--width", "4", "--dpi", "72", "--output", output,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(output), str(tmp_path / "grid.json")]
    data = json.loads((tmp_path / "grid.json").read_bytes())
    assert data["columns"] == ["HRRI", "LRGI", "sharp", "HRGT"]
    assert [row["id"] for row in data["rows"]] == ["cat"]


def test_a_page_and_the_tasks_are_written(scenes: Path, compared: Path, tmp_path: Path) -> None:
    page, tasks = tmp_path / "page.html", tmp_path / "tasks.png"
    done = run_inside(
        "figures", "html", scenes, "--evaluation", compared, "--ids", "ant", "--title", "A & B", "-o", page
    )
    assert (done.returncode, done.stdout) == (0, f"{page}\n"), done.stderr
    assert "<title>A &amp; B</title>" in page.read_text(encoding="utf-8")
    done = run_inside("figures", "tasks", scenes, "--id", "bee", "--dpi", "50", "-o", tasks, "--quiet")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads((tmp_path / "tasks.json").read_bytes())["id"] == "bee"


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["grid", "SCENES", "--method", "a=/nowhere"], 2, "has no folder '/nowhere'"),
        (["grid", "SCENES", "--evaluation", "COMPARED", "--ids", "elk"], 2, "There is no scene 'elk'"),
        (["grid", "SCENES", "--evaluation", "SCENES"], 2, "There are no results in"),
        (["grid", "/nowhere", "--evaluation", "COMPARED"], 2, "'/nowhere'"),
        (["blocks", "SCENES", "--timesteps", "many"], 2, "'many' are no timesteps"),
        (["blocks", "SCENES", "--panels", "x"], 2, "names no panels"),
        (["alpha", "SCENES"], 2, "has no freqmole.safetensors"),
        (["tasks", "SCENES", "--id", "elk"], 2, "There is no scene 'elk'"),
    ],
)
def test_bad_input_is_one_sentence(
    scenes: Path, compared: Path, tmp_path: Path, arguments: list[str], status: int, part: str
) -> None:
    named = {"SCENES": str(scenes), "COMPARED": str(compared)}
    output = tmp_path / "figure.png"
    done = run_inside("figures", *(named.get(one, one) for one in arguments), "--output", output)
    assert_one_sentence(done, status, part)
    assert not output.exists()


def test_the_help_loads_no_library_that_draws() -> None:
    code = (
        "import sys; from refgc.cli.main import main\n"
        "try: main(['figures', 'grid', '--help'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "typer" in loaded
    assert loaded.isdisjoint({"numpy", "matplotlib", "cv2", "PIL", "torch"})
