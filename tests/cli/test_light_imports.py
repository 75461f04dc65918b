"""Nothing that the light engine or the help does may load torch and its kin, or make the help slow to come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import assert_one_sentence, run_refgc

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "ray")


@pytest.fixture
def tell_tales(tmp_path: Path) -> Path:
    """Packages named as the heavy ones that write their name into a file when somebody imports them."""
    folder = tmp_path / "tell-tales"
    for name in HEAVY:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"import pathlib\npathlib.Path({str(folder)!r}, 'imported-{name}').touch()\nraise ImportError({name!r})\n"
        )
    return folder


def imported(tell_tales: Path) -> list[str]:
    return [path.name for path in tell_tales.glob("imported-*")]


def test_the_tell_tales_tell(tell_tales: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import torch"], env={"PYTHONPATH": str(tell_tales)}, check=False, capture_output=True
    )
    assert imported(tell_tales) == ["imported-torch"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["refine", "--help"],
        ["--version"],
        ["doctor"],
        ["report-schema"],
        ["train", "init", "refiner"],
        ["train", "init", "generator"],
    ],
)
def test_commands_import_nothing_heavy(tell_tales: Path, arguments: list[str]) -> None:
    assert run_refgc(*arguments, PYTHONPATH=str(tell_tales)).returncode == 0
    assert imported(tell_tales) == []


@pytest.mark.parametrize("engine", ["correspondence", "auto"])
def test_refining_without_weights_imports_nothing_heavy(
    tell_tales: Path, pair_files: tuple[Path, Path], tmp_path: Path, engine: str
) -> None:
    reference, generated = pair_files
    done = run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png",
        "--engine", engine, PYTHONPATH=str(tell_tales),
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "out.png").is_file()
    assert imported(tell_tales) == []


def test_refusing_the_diffusion_engine_imports_nothing_heavy(
    tell_tales: Path, pair_files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tell_tales / "torch" / "version.py").write_text("cuda: Optional[str] = None\n")
    reference, generated = pair_files
    done = run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png",
        "--engine", "diffusion", PYTHONPATH=str(tell_tales),
    )  # fmt: skip
    assert_one_sentence(done, 1, "REFGC_DEVICE=cpu, where one picture takes hours")
    assert imported(tell_tales) == []


def test_a_mistake_in_the_speed_options_is_told_without_anything_heavy(
    tell_tales: Path, pair_files: tuple[Path, Path], tmp_path: Path
) -> None:
    reference, generated = pair_files
    done = run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png",
        "--speed", "faster", PYTHONPATH=str(tell_tales),
    )  # fmt: skip
    assert_one_sentence(done, 2, "'faster' is no speed option")
    assert imported(tell_tales) == []


@pytest.mark.parametrize("command", ["estimate", "cache", "refiner"])
def test_a_mistake_in_the_file_of_a_run_is_told_without_anything_heavy(
    tell_tales: Path, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[run]\nsteps = 0\n")
    assert_one_sentence(run_refgc("train", command, file, PYTHONPATH=str(tell_tales)), 2, "run.steps cannot be used")
    assert imported(tell_tales) == []


def test_the_help_loads_no_picture_library() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "refgc", "--help"], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in loaded
    assert loaded.isdisjoint({"numpy", "cv2", "PIL", "scipy", "skimage", "gradio", "pydantic_settings", *HEAVY})


def test_importing_the_package_loads_no_library() -> None:
    code = "import sys, refgc; refgc.InputError; print('numpy' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
