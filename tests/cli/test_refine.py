"""The `refgc` command as people run it: real processes on real files."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import refgc
from refgc.engine import Report
from tests.support.command import COMMAND, ENVIRONMENT, assert_one_sentence, run_refgc
from tests.support.synthetic import make_synthetic_pair

PairFiles = tuple[Path, Path]


def size_of(path: Path) -> tuple[int, int]:
    with PILImage.open(path) as picture:
        picture.load()
        return picture.size


def listing(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- good runs ------------------------------------------------------------------------------------------------------


def test_refine_writes_picture_report_and_stages(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    output, report_file, stages = tmp_path / "out.png", tmp_path / "report.json", tmp_path / "new" / "stages"

    done = run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", output,
        "--report", report_file, "--stages", stages, "--seed", "7", "--strength", "0.5",
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    report = Report.model_validate_json(report_file.read_text(), strict=True)
    assert done.stdout == f"{output} (512x512): {report.message}\n"
    assert size_of(output) == report.output_size == (512, 512)
    assert (report.engine, report.scale, report.seed, report.strength) == ("correspondence", 4, 7, 0.5)
    assert (report.generated_size, report.reference_size) == ((128, 128), (512, 512))
    names = sorted(path.name for path in stages.iterdir())
    assert names[0] == "stage-01-upscaled.png"
    assert [name.split("-")[1] for name in names] == [f"{number:02}" for number in range(1, len(names) + 1)]
    assert all(min(size_of(stages / name)) > 1 for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {
        "reference.png", "generated.png", "out.png", "report.json", "new",
    }  # fmt: skip


def test_the_printed_schema_describes_the_report_file(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    report_file = tmp_path / "report.json"
    run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png",
        "--scale", "1", "--report", report_file,
    )  # fmt: skip
    schema = json.loads(run_refgc("report-schema").stdout)
    written = json.loads(report_file.read_text())
    assert set(written) == set(schema["properties"])
    assert set(schema["required"]) <= set(written)
    assert written["engine"] in schema["properties"]["engine"]["enum"]


@pytest.mark.parametrize(("scale", "side"), [(1, 128), (2, 256)])
def test_scale(pair_files: PairFiles, tmp_path: Path, scale: int, side: int) -> None:
    reference, generated = pair_files
    output = tmp_path / "out.webp"
    run_refgc("refine", "--reference", reference, "--generated", generated, "--output", output, "--scale", str(scale))
    assert size_of(output) == (side, side)


def test_same_command_same_bytes_and_an_existing_output_is_replaced(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    output = tmp_path / "out.png"
    output.write_text("an earlier result")
    arguments: list[str | Path] = [
        "refine",
        "--reference",
        reference,
        "--generated",
        generated,
        "--output",
        output,
        "--scale",
        "2",
    ]
    assert run_refgc(*arguments).returncode == 0
    first = output.read_bytes()
    assert run_refgc(*arguments).returncode == 0
    assert output.read_bytes() == first
    with PILImage.open(output) as picture:
        assert picture.text["Software"] == f"RefGC-SR2 {refgc.__version__}"  # type: ignore[attr-defined]
        assert json.loads(picture.text["refgc-report"])["scale"] == 2  # type: ignore[attr-defined]


def test_masks_are_taken(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    mask = tmp_path / "mask.png"
    marked = np.zeros((128, 128), np.uint8)
    marked[30:98, 30:98] = 255
    PILImage.fromarray(marked).save(mask)
    output, report_file = tmp_path / "out.png", tmp_path / "report.json"
    done = run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--generated-mask", mask, "--output", output,
        "--report", report_file,
    )  # fmt: skip
    assert done.returncode == 0
    box = Report.model_validate_json(report_file.read_text()).object_box
    slack = 16  # soft edges may reach a few generated pixels beyond the mask
    assert box is not None
    assert min(box[:2]) >= 4 * 30 - slack
    assert max(box[2:]) <= 4 * 98 + slack


def test_stages_of_an_earlier_run_go_and_other_files_stay(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    stages = tmp_path / "stages"
    stages.mkdir()
    (stages / "stage-99-of-an-earlier-run.png").write_text("old")
    (stages / "notes.txt").write_text("mine")
    run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png",
        "--scale", "1", "--stages", stages,
    )  # fmt: skip
    names = {path.name for path in stages.iterdir()}
    assert "stage-99-of-an-earlier-run.png" not in names
    assert {"notes.txt", "stage-01-upscaled.png"} <= names


def test_quiet_prints_nothing(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    done = run_refgc(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png",
        "--scale", "1", "--quiet",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_file_names_that_are_no_text(pair_files: PairFiles, tmp_path: Path) -> None:
    reference = pair_files[0].rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    output = tmp_path / os.fsdecode(b"r\xe9sultat.png")
    done = run_refgc(
        "refine", "--reference", reference, "--generated", pair_files[1], "--output", output, "--scale", "1"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert output.is_file()


def test_version_and_help() -> None:
    assert run_refgc("--version").stdout == f"refgc {refgc.__version__}\n"
    shown = run_refgc("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("refine", "doctor", "report-schema"))


# --- bad input: status 2, one sentence, nothing touched -------------------------------------------------------------

Change = Callable[[Path, dict[str, str]], None]


def with_file(option: str, name: str, content: bytes) -> Change:
    def change(folder: Path, options: dict[str, str]) -> None:
        (folder / name).write_bytes(content)
        options[option] = str(folder / name)

    return change


def with_picture(option: str, size: tuple[int, int], colour: int = 255) -> Change:
    def change(folder: Path, options: dict[str, str]) -> None:
        PILImage.new("L", size, colour).save(folder / "given.png")
        options[option] = str(folder / "given.png")

    return change


def with_value(option: str, value: str) -> Change:
    def change(folder: Path, options: dict[str, str]) -> None:
        options[option] = value.replace("FOLDER", str(folder))

    return change


def without(option: str) -> Change:
    def change(folder: Path, options: dict[str, str]) -> None:
        del options[option]

    return change


def truncated_reference(folder: Path, options: dict[str, str]) -> None:
    content = Path(options["--reference"]).read_bytes()
    Path(options["--reference"]).write_bytes(content[: len(content) // 2])


def output_linked_to_the_generated(folder: Path, options: dict[str, str]) -> None:
    (folder / "link.png").symlink_to(options["--generated"])
    options["--output"] = str(folder / "link.png")


def reference_among_the_stages(folder: Path, options: dict[str, str]) -> None:
    (folder / "stages").mkdir()
    moved = Path(options["--reference"]).rename(folder / "stages" / "stage-01-reference.png")
    options["--reference"], options["--stages"] = str(moved), str(folder / "stages")


BAD_INPUT: dict[str, tuple[Change, str]] = {
    "reference missing": (with_value("--reference", "FOLDER/absent.png"), "absent.png"),
    "generated missing": (with_value("--generated", "FOLDER/absent.png"), "absent.png"),
    "reference a folder": (with_value("--reference", "FOLDER"), "is a folder"),
    "reference a web address": (with_value("--reference", "https://example.org/a.png"), "address"),
    "reference empty": (with_file("--reference", "empty.png", b""), "empty"),
    "reference text": (with_file("--reference", "text.png", b"this is no picture\n"), "text.png"),
    "reference truncated": (truncated_reference, "reference.png"),
    "reference 1x1": (with_picture("--reference", (1, 1)), "1x1"),
    "generated 1x1": (with_picture("--generated", (1, 1)), "1x1"),
    "mask of another shape": (with_picture("--reference-mask", (90, 30)), "reference mask"),
    "mask marks nothing": (with_picture("--generated-mask", (128, 128), 0), "marks nothing"),
    "mask missing": (with_value("--generated-mask", "FOLDER/absent.png"), "generated mask"),
    "scale 3": (with_value("--scale", "3"), "scale"),
    "scale no number": (with_value("--scale", "four"), "--scale"),
    "strength too high": (with_value("--strength", "1.5"), "strength"),
    "strength not a number": (with_value("--strength", "nan"), "strength"),
    "strength no number": (with_value("--strength", "much"), "--strength"),
    "seed negative": (with_value("--seed", "-1"), "seed"),
    "seed no whole number": (with_value("--seed", "1.5"), "--seed"),
    "engine unknown": (with_value("--engine", "magic"), "--engine"),
    "object name empty": (with_value("--object", " "), "object name"),
    "no reference": (without("--reference"), "--reference"),
    "no generated": (without("--generated"), "--generated"),
    "no output": (without("--output"), "--output"),
    "unknown option": (with_value("--refernce", "x.png"), "--refernce"),
    "pairs and reference": (with_value("--pairs", "FOLDER"), "--pairs"),
    "output without suffix": (with_value("--output", "FOLDER/out"), ".png"),
    "output of another kind": (with_value("--output", "FOLDER/out.txt"), ".png"),
    "output in no folder": (with_value("--output", "FOLDER/absent/out.png"), "does not exist"),
    "output a folder": (with_value("--output", "FOLDER/folder.png"), "is a folder"),
    "output under a file": (with_value("--output", "FOLDER/generated.png/out.png"), "inside a file"),
    "output name too long": (with_value("--output", f"FOLDER/{'x' * 300}.png"), "cannot be written"),
    "output is the reference": (with_value("--output", "FOLDER/reference.png"), "overwrite"),
    "output is the generated": (with_value("--output", "FOLDER/folder.png/../generated.png"), "overwrite"),
    "output links to the generated": (output_linked_to_the_generated, "overwrite"),
    "report is the output": (with_value("--report", "FOLDER/out.png"), "different names"),
    "report is the reference": (with_value("--report", "FOLDER/reference.png"), "overwrite"),
    "report in no folder": (with_value("--report", "FOLDER/absent/report.json"), "does not exist"),
    "report a folder": (with_value("--report", "FOLDER"), "is a folder"),
    "report a device": (with_value("--report", "/dev/null"), "regular file"),
    "stages a file": (with_value("--stages", "FOLDER/generated.png"), "inside a file"),
    "stages over the reference": (reference_among_the_stages, "overwrite"),
}


@pytest.mark.parametrize(("change", "part"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_ends_with_one_sentence_and_touches_nothing(
    pair_files: PairFiles, tmp_path: Path, change: Change, part: str
) -> None:
    (tmp_path / "out.png").write_text("an earlier result")
    (tmp_path / "folder.png").mkdir()
    options = {
        "--reference": str(pair_files[0]),
        "--generated": str(pair_files[1]),
        "--output": str(tmp_path / "out.png"),
    }
    change(tmp_path, options)
    before = listing(tmp_path)

    done = run_refgc("refine", *(word for option in options.items() for word in option))

    assert_one_sentence(done, 2, part)
    assert listing(tmp_path) == before
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "--help"),
        (["refin"], "refin"),
        (["doctor", "extra"], "extra"),
        (["refine", "--output"], "--output"),
        (["doctor", "--verbose"], "--verbose"),
    ],
)
def test_wrong_usage_ends_with_one_sentence(arguments: list[str], part: str) -> None:
    assert_one_sentence(run_refgc(*arguments), 2, part)


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may write everywhere")
def test_folder_that_may_not_be_written(pair_files: PairFiles, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = run_refgc(
        "refine", "--reference", pair_files[0], "--generated", pair_files[1], "--output", locked / "out.png"
    )
    assert_one_sentence(done, 2, "may not be written")


# --- failures that are not the input's ------------------------------------------------------------------------------


def test_an_engine_that_cannot_run_here_ends_with_status_1(pair_files: PairFiles, tmp_path: Path) -> None:
    engines = json.loads(run_refgc("doctor", "--json").stdout)["engines"]
    if all(engine["ready"] for engine in engines):
        pytest.skip("every engine can run on this machine")
    done = run_refgc(
        "refine", "--reference", pair_files[0], "--generated", pair_files[1], "--output", tmp_path / "out.png",
        "--engine", "diffusion",
    )  # fmt: skip
    assert_one_sentence(done, 1, "The engine diffusion needs")
    assert not (tmp_path / "out.png").exists()


def test_a_disk_that_takes_no_more_leaves_everything_as_it_was(pair_files: PairFiles, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    output.write_text("an earlier result")
    before = listing(tmp_path)
    command: list[str | Path] = [
        COMMAND, "refine", "--reference", pair_files[0],
        "--generated", pair_files[1], "--output", output, "--report", tmp_path / "report.json",
    ]  # fmt: skip
    # Room for the report but not for the picture.
    limit = 16_384
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert_one_sentence(done, 1, "out.png")
    assert listing(tmp_path) == before


def test_debug_shows_where_the_error_came_from(tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        "refine",
        "--reference",
        "absent.png",
        "--generated",
        "absent.png",
        "--output",
        tmp_path / "out.png",
    ]
    assert "Traceback" not in run_refgc(*arguments).stderr
    for done in (
        run_refgc(*arguments, "--debug"),
        run_refgc("--debug", *arguments),
        run_refgc(*arguments, REFGC_DEBUG="1"),
    ):
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert "InputError" in done.stderr


# --- at a terminal --------------------------------------------------------------------------------------------------


def test_a_terminal_sees_the_stages_and_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    pair = make_synthetic_pair(reference_side=1024, generated_side=512)
    reference, generated = tmp_path / "reference.png", tmp_path / "generated.png"
    PILImage.fromarray(pair.reference).save(reference)
    PILImage.fromarray(pair.generated).save(generated)
    before = listing(tmp_path)
    watching, terminal = pty.openpty()
    command = subprocess.Popen(
        [
            COMMAND, "refine", "--reference", reference,
            "--generated", generated, "--output", tmp_path / "out.png", "--stages", tmp_path / "stages",
        ],
        stdout=subprocess.PIPE, stderr=terminal, env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    while b"opening" not in seen:
        seen += os.read(watching, 4096)
    assert "━".encode() in seen
    command.send_signal(signal.SIGINT)
    out, _ = command.communicate(timeout=120)
    os.close(watching)
    assert command.returncode == 130
    assert out == b""
    assert listing(tmp_path) == before


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "refgc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"refgc {refgc.__version__}\n"
