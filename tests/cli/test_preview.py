"""`refgc preview` on real files: what it writes, whole or not at all, and with which sentence it ends."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

import refgc
from refgc.diptych.preview_report import PreviewReport
from refgc.outputs.preview import PICTURES, REPORT
from refgc.simulator.artifacts import ArtifactRecord
from tests.cli.test_light_imports import HEAVY
from tests.support.command import COMMAND, ENVIRONMENT, assert_one_sentence, run_inside, run_refgc
from tests.support.pictures import names_in
from tests.support.synthetic import make_synthetic_pair

FILES = sorted((*PICTURES, REPORT))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By option: a reference, a scene that shows the same, and masks of both."""
    folder = tmp_path_factory.mktemp("pictures")
    pair = make_synthetic_pair(reference_side=256, generated_side=64)
    card = np.zeros((256, 256), np.uint8)
    card[3:-3, 3:-3] = 255
    arrays = {
        "--reference": pair.reference,
        "--scene": pair.truth,
        "--reference-mask": card,
        "--scene-mask": cv2.resize(pair.mask, (256, 256), interpolation=cv2.INTER_LINEAR),
    }
    paths = {option: folder / f"{option.strip('-')}.png" for option in arrays}
    for option, array in arrays.items():
        PILImage.fromarray(array).save(paths[option])
    return paths


def words(options: dict[str, Path], *more: str | Path) -> list[str]:
    return ["preview", *(str(word) for option in options.items() for word in option), *map(str, more)]


def content_of(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def text_of(path: Path) -> dict[str, str]:
    with PILImage.open(path) as picture:
        return dict(picture.text)  # type: ignore[attr-defined]


def size_of(path: Path) -> tuple[int, int]:
    with PILImage.open(path) as picture:
        picture.load()
        return picture.size


@pytest.fixture(scope="module")
def written(pictures: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command wrote, once, importing nothing heavy."""
    home = tmp_path_factory.mktemp("written")
    for name in HEAVY:
        (home / "tell-tales" / name).mkdir(parents=True)
        (home / "tell-tales" / name / "__init__.py").write_text("raise SystemExit('heavy')\n")
    folder = home / "new" / "preview"
    done = run_refgc(
        *words(pictures, "--output", folder, "--object-name", "card", "--seed", "4", "--artifact", "texture-loss=0.9"),
        PYTHONPATH=str(home / "tell-tales"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = PreviewReport.model_validate_json((folder / REPORT).read_text())
    assert done.stdout == f"{folder / 'lrgi.png'} (64x64): {report.message}\n"
    return folder


def test_it_writes_the_whole_folder(written: Path) -> None:
    assert names_in(written) == FILES
    assert names_in(written.parent) == ["preview"]
    report = PreviewReport.model_validate_json((written / REPORT).read_text(), strict=True)
    assert report.simulated
    assert (report.object_name, report.seed) == ("card", 4)
    assert report.artifacts is not None
    assert report.artifacts.strengths.texture_loss == 0.9
    wide, high = report.panel_size
    for name in ("condition_picture.png", "condition_mask.png", "condition_edges.png", "diptych.png"):
        assert size_of(written / name) == (2 * wide, high)
    assert size_of(written / "lrgi.png") == report.generated_size == (64, 64)
    assert size_of(written / "truth.png") == size_of(written / "scene_mask.png") == report.truth_size == (256, 256)
    assert size_of(written / "reference_mask.png") == (256, 256)


def test_what_is_simulated_says_so_in_its_file(written: Path) -> None:
    for name in ("lrgi.png", "diptych.png"):
        text = text_of(written / name)
        assert text["Software"] == f"RefGC-SR2 {refgc.__version__}"
        assert "imulated" in text["Comment"]
        assert ArtifactRecord.model_validate_json(text["refgc-simulated"]).seed == 4
        assert json.loads(text["refgc-report"])["simulated"] is True
        assert "seconds" not in json.loads(text["refgc-report"])
    assert "refgc-simulated" not in text_of(written / "truth.png")


def test_masks_are_kept_as_they_were_given(written: Path, pictures: dict[str, Path]) -> None:
    for name in ("scene", "reference"):
        with PILImage.open(written / f"{name}_mask.png") as kept, PILImage.open(pictures[f"--{name}-mask"]) as given:
            np.testing.assert_array_equal(np.asarray(kept)[..., 0], np.asarray(given))


def test_same_command_same_bytes(written: Path, pictures: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "again"
    options = ["--object", "card", "--seed", "4", "--artifact", "texture_loss=0.9", "--quiet"]
    done = run_inside(*words(pictures, "--output", folder, *options))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert content_of(folder, PICTURES) == content_of(written, PICTURES)


def test_the_generated_picture_can_be_refined(written: Path, pictures: dict[str, Path], tmp_path: Path) -> None:
    done = run_inside(
        "refine", "--reference", pictures["--reference"], "--generated", written / "lrgi.png",
        "--reference-mask", written / "reference_mask.png", "--generated-mask", written / "scene_mask.png",
        "--output", tmp_path / "refined.png", "--engine", "correspondence",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert size_of(tmp_path / "refined.png") == size_of(written / "truth.png")


def test_an_earlier_preview_stays_unless_it_may_be_replaced(pictures: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "lrgi.png").write_text("an earlier preview")
    (tmp_path / "notes.txt").write_text("a person's own")
    assert_one_sentence(run_inside(*words(pictures, "--output", tmp_path)), 2, "--overwrite")
    assert names_in(tmp_path) == ["lrgi.png", "notes.txt"]
    report = tmp_path / "told.json"
    done = run_inside(*words(pictures, "--output", tmp_path, "--overwrite", "--report", report))
    assert done.returncode == 0
    assert names_in(tmp_path) == sorted((*PICTURES, "notes.txt", "told.json"))
    assert size_of(tmp_path / "lrgi.png") == (64, 64)
    assert (tmp_path / "notes.txt").read_text() == "a person's own"
    PreviewReport.model_validate_json(report.read_text())


Change = Callable[[dict[str, Path], Path], list[str | Path]]

BAD_INPUT: dict[str, tuple[Change, str]] = {
    "scene missing": (lambda options, folder: ["--scene", folder / "absent.png"], "absent.png"),
    "scene too small": (lambda options, folder: ["--scene", folder / "tiny.png"], "scene is 40x40"),
    "reference text": (lambda options, folder: ["--reference", folder / "text.png"], "text.png"),
    "mask empty": (lambda options, folder: ["--scene-mask", folder / "black.png"], "scene mask marks nothing"),
    "mask full": (lambda options, folder: ["--reference-mask", folder / "white.png"], "marks the whole picture"),
    "mask of another shape": (lambda options, folder: ["--scene-mask", folder / "wide.png"], "same size"),
    "artifact unknown": (lambda options, folder: ["--artifact", "blur=0.5"], "identity-distortion"),
    "artifact too strong": (lambda options, folder: ["--artifact", "texture-loss=2"], "texture_loss"),
    "artifact without strength": (lambda options, folder: ["--artifact", "texture-loss"], "NAME=STRENGTH"),
    "factor 3": (lambda options, folder: ["--factor", "3"], "factor is 3"),
    "generator unknown": (lambda options, folder: ["--generator", "magic"], "--generator"),
    "output a file": (lambda options, folder: ["--output", folder / "text.png"], "inside a file"),
    "output over an input": (lambda options, folder: ["--output", folder / "own", "--overwrite"], "overwrite"),
    "report in no folder": (lambda options, folder: ["--report", folder / "no" / "r.json", "--factor", "3"], "factor"),
    "report a folder": (lambda options, folder: ["--report", folder], "is a folder"),
}


@pytest.mark.parametrize(("change", "part"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_ends_with_one_sentence_and_touches_nothing(
    pictures: dict[str, Path], tmp_path: Path, change: Change, part: str
) -> None:
    for name, size, level in (
        ("black", (256, 256), 0), ("white", (256, 256), 255), ("wide", (90, 30), 255), ("tiny", (40, 40), 90),
    ):  # fmt: skip
        PILImage.new("L", size, level).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("this is no picture\n")
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / "scene_mask.png"
    own.write_bytes(pictures["--scene-mask"].read_bytes())
    before = sorted(tmp_path.rglob("*"))
    arguments = words({**pictures, "--scene-mask": own}, "--output", tmp_path / "out", *change(pictures, tmp_path))
    assert_one_sentence(run_inside(*arguments), 2, part)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_takes_no_more_leaves_nothing(pictures: dict[str, Path], tmp_path: Path) -> None:
    # Room for the masks but not for the diptych.
    limit = 65_536
    done = subprocess.run(
        [COMMAND, *words(pictures, "--output", tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert_one_sentence(done, 1, ".png")
    assert names_in(tmp_path) == []


def test_a_generator_that_cannot_run_here_ends_with_status_1(pictures: dict[str, Path], tmp_path: Path) -> None:
    done = run_inside(*words(pictures, "--output", tmp_path / "out", "--generator", "diffusion"))
    # On a machine with a GPU it is the weights that are missing.
    assert_one_sentence(done, 1, ";")
    assert names_in(tmp_path) == []
