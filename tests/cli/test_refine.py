"""`refgc refine` on real files: one run in a process, looked at by many tests, and the others inside of this one."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

import refgc
from refgc.engine import Report
from refgc.imaging.profiles import icc_profile
from tests.support.command import COMMAND, ENVIRONMENT, assert_one_sentence, run_inside, run_refgc
from tests.support.pictures import names_in
from tests.support.synthetic import SyntheticPair

PairFiles = tuple[Path, Path]


def size_of(path: Path) -> tuple[int, int]:
    with PILImage.open(path) as picture:
        picture.load()
        return picture.size


def listing(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- good runs ------------------------------------------------------------------------------------------------------

# Whatever several tests look at is refined once, in a process.
OPTIONS = "--seed", "7", "--strength", "0.5", "--scale", "2"


@dataclass(frozen=True)
class Refined:
    """One run of the command.

    Attributes:
        folder: where the pair lies.
        place: where the picture, the report and the stages were written.
        done: how the command ended.
    """

    folder: Path
    place: Path
    done: subprocess.CompletedProcess[str]

    @property
    def inputs(self) -> list[str | Path]:
        return [
            "refine", "--reference", self.folder / "reference.png", "--generated", self.folder / "generated.png",
            *OPTIONS,
        ]  # fmt: skip

    @property
    def report(self) -> Report:
        return Report.model_validate_json((self.place / "report.json").read_text(), strict=True)


@pytest.fixture(scope="session")
def refined(synthetic_pair: SyntheticPair, tmp_path_factory: pytest.TempPathFactory) -> Refined:
    folder, place = tmp_path_factory.mktemp("pair"), tmp_path_factory.mktemp("refined")
    PILImage.fromarray(synthetic_pair.reference).save(folder / "reference.png")
    PILImage.fromarray(synthetic_pair.generated).save(folder / "generated.png")
    stages = place / "stages"
    stages.mkdir()
    (place / "out.png").write_text("an earlier result")
    (stages / "stage-99-of-an-earlier-run.png").write_text("old")
    (stages / "notes.txt").write_text("mine")
    run = Refined(folder, place, subprocess.CompletedProcess([], 0))
    done = run_refgc(*run.inputs, "--output", place / "out.png", "--report", place / "report.json", "--stages", stages)
    return replace(run, done=done)


def test_refine_writes_picture_and_report(refined: Refined) -> None:
    report = refined.report
    assert (refined.done.returncode, refined.done.stderr) == (0, "")
    assert refined.done.stdout == f"{refined.place / 'out.png'} (192x192): {report.message}\n"
    assert size_of(refined.place / "out.png") == report.output_size == (192, 192)
    assert (report.engine, report.scale, report.seed, report.strength) == ("correspondence", 2, 7, 0.5)
    assert (report.generated_size, report.reference_size) == ((96, 96), (384, 384))
    assert names_in(refined.place) == ["out.png", "report.json", "stages"]
    assert names_in(refined.folder) == ["generated.png", "reference.png"]


def test_stages_are_numbered_those_of_an_earlier_run_go_and_other_files_stay(refined: Refined) -> None:
    stages = refined.place / "stages"
    notes, *names = names_in(stages)
    assert (notes, names[0]) == ("notes.txt", "stage-01-upscaled.png")
    assert [name.split("-")[1] for name in names] == [f"{number:02}" for number in range(1, len(names) + 1)]
    assert all(min(size_of(stages / name)) > 1 for name in names)


def test_the_printed_schema_describes_the_report_file(refined: Refined) -> None:
    schema = json.loads(run_inside("report-schema").stdout)
    written = json.loads((refined.place / "report.json").read_text())
    assert set(written) == set(schema["properties"])
    assert set(schema["required"]) <= set(written)
    assert written["engine"] in schema["properties"]["engine"]["enum"]


def test_the_picture_tells_how_it_was_made(refined: Refined) -> None:
    with PILImage.open(refined.place / "out.png") as picture:
        assert picture.text["Software"] == f"RefGC-SR2 {refgc.__version__}"  # type: ignore[attr-defined]
        assert json.loads(picture.text["refgc-report"])["scale"] == 2  # type: ignore[attr-defined]


def test_same_command_same_bytes_and_quiet_prints_nothing(refined: Refined, tmp_path: Path) -> None:
    done = run_inside(*refined.inputs, "--output", tmp_path / "out.png", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out.png").read_bytes() == (refined.place / "out.png").read_bytes()


@pytest.mark.parametrize(("scale", "side"), [(1, 96), (4, 384)])
def test_scale(refined: Refined, tmp_path: Path, scale: int, side: int) -> None:
    output = tmp_path / "out.webp"
    assert run_inside(*refined.inputs, "--output", output, "--scale", str(scale)).returncode == 0
    assert size_of(output) == (side, side)


def test_masks_are_taken(refined: Refined, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    marked = np.zeros((96, 96), np.uint8)
    marked[22:74, 22:74] = 255
    PILImage.fromarray(marked).save(mask)
    report_file = tmp_path / "report.json"
    done = run_inside(
        *refined.inputs, "--generated-mask", mask, "--output", tmp_path / "out.png", "--report", report_file
    )
    assert done.returncode == 0
    box = Report.model_validate_json(report_file.read_text()).object_box
    slack = 8  # soft edges may reach a few generated pixels beyond the mask
    assert box is not None
    assert min(box[:2]) >= 2 * 22 - slack
    assert max(box[2:]) <= 2 * 74 + slack


def test_a_transparent_picture_stays_transparent_and_a_jpeg_says_that_it_cannot(
    refined: Refined, tmp_path: Path
) -> None:
    with PILImage.open(refined.folder / "generated.png") as picture:
        levels = np.dstack([np.asarray(picture), np.full((96, 96), 255, np.uint8)])
    levels[:, :30, 3] = 0
    PILImage.fromarray(levels).save(tmp_path / "cut-out.png")
    asked = [*refined.inputs, "--generated", tmp_path / "cut-out.png"]
    for name, mode in (("out.png", "RGBA"), ("out.webp", "RGBA"), ("out.jpg", "RGB")):
        done = run_inside(*asked, "--output", tmp_path / name)
        assert done.returncode == 0
        assert done.stdout.endswith("so the picture is on white; write .png or .webp to keep it.\n") == (mode == "RGB")
        with PILImage.open(tmp_path / name) as picture:
            assert (picture.mode, picture.size) == (mode, (192, 192))
            if mode == "RGBA":
                assert picture.getchannel("A").crop((0, 0, 56, 192)).getextrema() == (0, 0)
                assert picture.getchannel("A").crop((64, 0, 192, 192)).getextrema() == (255, 255)
            else:
                assert min(low for low, _ in picture.crop((0, 0, 48, 192)).getextrema()) > 240  # type: ignore[misc]


def test_profile_quality_and_bits(refined: Refined, tmp_path: Path) -> None:
    small, plain, deep = tmp_path / "small.jpg", tmp_path / "plain.jpg", tmp_path / "deep.png"
    assert run_inside(*refined.inputs, "--output", plain).returncode == 0
    assert run_inside(*refined.inputs, "--output", small, "--quality", "30").returncode == 0
    assert run_inside(*refined.inputs, "--output", deep, "--bits", "16", "--profile", "display-p3").returncode == 0
    assert small.stat().st_size < plain.stat().st_size / 2
    with PILImage.open(plain) as picture:
        assert picture.info["icc_profile"] == icc_profile("srgb")
    with PILImage.open(deep) as picture:
        assert picture.info["icc_profile"] == icc_profile("display-p3")
        assert json.loads(picture.text["refgc-report"])["scale"] == 2  # type: ignore[attr-defined]
    levels = cv2.imread(str(deep), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    assert len(np.unique(levels % 257)) == 257


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
    shown = run_inside("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("refine", "preview", "page", "doctor", "report-schema"))


@pytest.mark.parametrize("subcommand", [(), ("refine",), ("preview",), ("page",), ("setup",), ("doctor",)])
def test_the_help_shows_a_flag_without_a_value(subcommand: tuple[str, ...]) -> None:
    shown = run_inside(*subcommand, "--help").stdout
    assert "--help" in shown
    assert "bool" not in shown
    # What takes a value still says of what kind it is.
    assert ("<" in shown) == (subcommand[:1] in (("refine",), ("preview",), ("page",)))


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


def test_several_references(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    other = tmp_path / "other.png"
    PILImage.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(other)
    files: list[str | Path] = ["--reference", other, "--reference", reference, "--generated", generated]
    done = run_inside(
        "refine", *files, "--scale", "1", "--output", tmp_path / "out.png", "--report", tmp_path / "r.json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = Report.model_validate_json((tmp_path / "r.json").read_text(), strict=True)
    assert (report.references_used, report.warnings) == ((2,), ("unplaced_1",))
    assert "Nothing was taken from reference 1" in done.stdout


@pytest.mark.parametrize(
    ("references", "masks", "part"),
    [(5, 0, "There are 5 references; give one to 4"), (3, 2, "There are 2 reference masks for 3 references; give one")],
)
def test_too_many_references_or_too_few_masks(
    pair_files: PairFiles, tmp_path: Path, references: int, masks: int, part: str
) -> None:
    options: list[str | Path] = ["--reference", pair_files[0]] * references
    options += ["--reference-mask", pair_files[0]] * masks
    done = run_inside("refine", *options, "--generated", pair_files[1], "--output", tmp_path / "out.png")
    assert_one_sentence(done, 2, part)
    assert not (tmp_path / "out.png").exists()


def test_an_output_over_the_second_reference_is_refused(pair_files: PairFiles, tmp_path: Path) -> None:
    second = tmp_path / "second.png"
    second.write_bytes(pair_files[0].read_bytes())
    options: list[str | Path] = ["--reference", pair_files[0], "--reference", second, "--generated", pair_files[1]]
    done = run_inside("refine", *options, "--output", second)
    assert_one_sentence(done, 2, "overwrite")
    assert second.read_bytes() == pair_files[0].read_bytes()


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
    "mask marks nothing": (with_picture("--generated-mask", (96, 96), 0), "marks nothing"),
    "mask missing": (with_value("--generated-mask", "FOLDER/absent.png"), "generated mask"),
    "scale 3": (with_value("--scale", "3"), "scale"),
    "scale no number": (with_value("--scale", "four"), "--scale"),
    "strength too high": (with_value("--strength", "1.5"), "strength"),
    "strength not a number": (with_value("--strength", "nan"), "strength"),
    "strength no number": (with_value("--strength", "much"), "--strength"),
    "surroundings unknown": (with_value("--surroundings", "lovely"), "--surroundings"),
    "seed negative": (with_value("--seed", "-1"), "seed"),
    "seed no whole number": (with_value("--seed", "1.5"), "--seed"),
    "quality of a PNG": (with_value("--quality", "90"), "has no quality"),
    "quality too high": (with_value("--quality", "101"), "from 1 to 100"),
    "quality no number": (with_value("--quality", "best"), "--quality"),
    "12 bits": (with_value("--bits", "12"), "8 or 16"),
    "profile unknown": (with_value("--profile", "adobe"), "--profile"),
    "engine unknown": (with_value("--engine", "magic"), "--engine"),
    "object name empty": (with_value("--object", " "), "object name"),
    "no reference": (without("--reference"), "--reference"),
    "no generated": (without("--generated"), "--generated"),
    "no output": (without("--output"), "--output"),
    "unknown option": (with_value("--refernce", "x.png"), "--refernce"),
    "pairs and reference": (with_value("--pairs", "FOLDER"), "--pairs"),
    "workers without pairs": (with_value("--workers", "2"), "--workers is for a list of pairs"),
    "runner without pairs": (with_value("--runner", "ray"), "--runner is for a list of pairs"),
    "output without suffix": (with_value("--output", "FOLDER/out"), ".png"),
    "output of another kind": (with_value("--output", "FOLDER/out.txt"), ".png"),
    "output in no folder": (with_value("--output", "FOLDER/absent/out.png"), "does not exist"),
    "output a folder": (with_value("--output", "FOLDER/folder.png"), "is a folder"),
    "output under a file": (with_value("--output", "FOLDER/generated.png/out.png"), "inside a file"),
    "output where no file can be made": (with_value("--output", "/proc/out.png"), "'/proc'"),
    "report where no file can be made": (with_value("--report", "/proc/report.json"), "'/proc'"),
    "stages where no folder can be made": (with_value("--stages", "/proc/stages"), "'/proc/stages'"),
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

    done = run_inside("refine", *(word for option in options.items() for word in option))

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
    assert_one_sentence(run_inside(*arguments), 2, part)


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may write everywhere")
def test_folder_that_may_not_be_written(pair_files: PairFiles, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = run_inside(
        "refine", "--reference", pair_files[0], "--generated", pair_files[1], "--output", locked / "out.png"
    )
    assert_one_sentence(done, 2, "may not be written")


# --- failures that are not the input's ------------------------------------------------------------------------------


def test_an_engine_that_cannot_run_here_ends_with_status_1(pair_files: PairFiles, tmp_path: Path) -> None:
    engines = json.loads(run_inside("doctor", "--json").stdout)["engines"]
    if all(engine["ready"] for engine in engines):
        pytest.skip("every engine can run on this machine")
    done = run_refgc(
        "refine", "--reference", pair_files[0], "--generated", pair_files[1], "--output", tmp_path / "out.png",
        "--engine", "diffusion",
    )  # fmt: skip
    assert_one_sentence(done, 1, "The engine diffusion needs")
    assert not (tmp_path / "out.png").exists()


def test_surroundings_without_their_weights_end_with_status_1(pair_files: PairFiles, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    arguments = ["--generated", str(pair_files[1]), "--output", str(output), "--surroundings", "best"]
    nowhere = str(tmp_path / "nowhere")
    done = run_inside("refine", "--reference", str(pair_files[0]), *arguments, REFGC_WEIGHTS=nowhere)
    assert_one_sentence(done, 1, "run `refgc setup --surroundings`")
    assert not output.exists()


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
    assert "Traceback" not in run_inside(*arguments).stderr
    for done in (
        run_inside(*arguments, "--debug"),
        run_inside("--debug", *arguments),
        run_inside(*arguments, REFGC_DEBUG="1"),
    ):
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert "InputError" in done.stderr


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "refgc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"refgc {refgc.__version__}\n"
