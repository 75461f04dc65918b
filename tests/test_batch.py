"""Batches: reading lists and folders, refusing what would overwrite, going on, and going on again."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from refgc.batch import Defaults, Folders, check_defaults, check_outputs, run_batch
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import Progress, RefineResult, Report, Viewer, no_progress
from refgc.errors import EngineError, InputError
from refgc.imaging.encode import FileOptions
from refgc.pairs import Entry, Pair, read_pairs
from refgc.request import RefineRequest
from tests.support.command import assert_one_sentence, run_inside
from tests.support.synthetic import make_synthetic_pair


def write_list(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def the_pair(entry: Entry) -> Pair:
    assert isinstance(entry.pair, Pair), entry
    return entry.pair


def the_problem(entry: Entry) -> str:
    assert isinstance(entry.pair, InputError), entry
    return str(entry.pair)


# --- lists ----------------------------------------------------------------------------------------------------------


def test_csv_columns_defaults_and_relative_paths(tmp_path: Path) -> None:
    absolute = tmp_path / "elsewhere" / "photo.jpg"
    source = write_list(
        tmp_path,
        "pairs.csv",
        "reference,generated,output,reference_mask,generated_mask,scale,object,seed,strength,surroundings",
        "a/photo.jpg,a/scene.png,,,,,,,,",
        f'{absolute}, b/scene.png ,"sub/one, two.webp",m1.png,m2.png,2,"red, round teapot",7,0.25,fast',
        "",
    )
    plain, full = (the_pair(entry) for entry in read_pairs(source))
    assert plain == Pair(reference=tmp_path / "a/photo.jpg", generated=tmp_path / "a/scene.png")
    assert plain.output_name == Path("scene.png")
    assert full.reference == absolute
    assert full.inputs == [absolute, tmp_path / "b/scene.png", tmp_path / "m1.png", tmp_path / "m2.png"]
    assert full.output_name == Path("sub/one, two.webp")
    assert (full.scale, full.object, full.seed, full.strength) == (2, "red, round teapot", 7, 0.25)
    assert (plain.surroundings, full.surroundings) == (None, "fast")


def test_jsonl_is_read_as_csv_is(tmp_path: Path) -> None:
    rows = [
        {"reference": "r.png", "generated": "g.png", "scale": 2, "strength": 0.5, "seed": 3, "object": "cup"},
        {"generated": "h.png", "reference": "r.png", "output": "x.png", "generated_mask": None},
    ]
    jsonl = write_list(tmp_path, "pairs.jsonl", json.dumps(rows[0]), "", json.dumps(rows[1]))
    csv = write_list(
        tmp_path,
        "pairs.csv",
        "reference,generated,output,scale,strength,seed,object",
        "r.png,g.png,,2,0.5,3,cup",
        "r.png,h.png,x.png,,,,",
    )
    assert [entry.pair for entry in read_pairs(jsonl)] == [entry.pair for entry in read_pairs(csv)]


def test_further_references_have_columns_of_their_own(tmp_path: Path) -> None:
    source = write_list(
        tmp_path,
        "pairs.csv",
        "reference,generated,reference_2,reference_mask_2,reference_4,reference_mask",
        "front.jpg,scene.png,back.jpg,back.png,side.jpg,front.png",
        "front.jpg,scene.png,,back.png,,",
    )
    first, second = read_pairs(source)
    expected = [("front.jpg", "front.png"), ("back.jpg", "back.png"), ("side.jpg", None)]
    assert the_pair(first).references == [
        (tmp_path / photo, None if mask is None else tmp_path / mask) for photo, mask in expected
    ]
    assert len(the_pair(first).inputs) == 6
    assert the_problem(second) == "The reference_mask_2 is 'back.png'; it should have its reference_2 beside it."


def test_further_references_of_a_folder(tmp_path: Path) -> None:
    touch(*(tmp_path / "mug" / name for name in ("hrri.jpg", "lrgi.png", "hrri_2.jpg", "hrri_mask_2.png")))
    touch(*(tmp_path / f"can_{name}.png" for name in ("reference", "generated", "reference_3")))
    touch(*(tmp_path / f"cup_{name}.png" for name in ("reference", "generated", "reference_mask_2")))
    mug, can, cup = read_pairs(tmp_path)
    assert [photo.name for photo, _ in the_pair(mug).references] == ["hrri.jpg", "hrri_2.jpg"]
    assert the_pair(mug).references[1][1] == tmp_path / "mug" / "hrri_mask_2.png"
    assert [photo.name for photo, _ in the_pair(can).references] == ["can_reference.png", "can_reference_3.png"]
    assert the_problem(cup) == "There is a reference_mask_2 without its reference_2; add the picture."


def test_a_list_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    source = tmp_path / "pairs.csv"
    source.write_bytes("reference,generated\r\nä.png,ö.png\r\n".encode("utf-8-sig"))
    assert the_pair(read_pairs(source)[0]).generated == tmp_path / "ö.png"


def test_a_bad_line_is_an_entry_that_says_what_is_wrong(tmp_path: Path) -> None:
    csv = write_list(
        tmp_path,
        "pairs.csv",
        "reference,generated,scale",
        "a.png,,",
        "a.png,b.png,four",
        "a.png,b.png,2,9",
        "a.png,b.png",
    )
    entries = read_pairs(csv)
    assert [entry.label for entry in entries] == ["line 2", "line 3", "line 4", "line 5"]
    assert the_problem(entries[0]) == "The generated is missing; give its path."
    assert the_problem(entries[1]) == "The scale is 'four'; it should be a valid integer."
    assert "4 cells" in the_problem(entries[2])
    assert the_pair(entries[3]).scale is None
    jsonl = write_list(
        tmp_path,
        "pairs.jsonl",
        "{",
        '{"reference": 3, "generated": "b.png"}',
        '{"reference": "a.png", "generated": "b.png", "scale": true}',
        '{"reference": "a.png", "generated": "b.png", "colour": 1}',
        '{"reference": "a.png", "generated": "b.png", "seed": ' + "9" * 5000 + "}",
    )
    assert [the_problem(entry) for entry in read_pairs(jsonl)] == [
        "It is not valid JSON (Expecting property name enclosed in double quotes, character 2); correct the line.",
        "The reference is 3; it should be a path.",
        "The scale is True; it should be a number.",
        f"It has the unknown key 'colour'; the keys are {', '.join(Pair.model_fields)}.",
        "It holds a number of too many digits; shorten it.",
    ]


def test_a_line_is_measured_in_characters(tmp_path: Path) -> None:
    lines = [
        '{"reference": "a.png", "generated": "b.png", "object": "' + "語" * count + '"}' for count in (19_900, 20_000)
    ]
    long_enough, too_long = read_pairs(write_list(tmp_path, "pairs.jsonl", *lines))
    assert the_pair(long_enough).object == "語" * 19_900
    assert the_problem(too_long) == f"It has {len(lines[1])} characters, and 20000 are the limit; shorten it."


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("pairs.csv", b"reference,generated,colour\na,b,c\n", "'colour'"),
        ("pairs.csv", b"reference;generated\na;b\n", "unknown column"),
        ("pairs.csv", b"reference\na\n", "'generated'"),
        ("pairs.csv", b"reference,generated,reference\na,b,c\n", "twice"),
        ("pairs.csv", b"reference,generated\n", "no pairs"),
        ("pairs.csv", b"", "'generated'"),
        ("pairs.csv", b"\xff\xfer\0,\0", "UTF-8"),
        ("pairs.csv", b"r\xe9f,generated\na,b\n", "UTF-8"),
        ("pairs.jsonl", b"\n\n", "no pairs"),
        ("pairs.txt", b"a b\n", ".csv"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_as_a_whole(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pairs(tmp_path / name)
    assert part in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be found"):
        read_pairs(tmp_path / "absent.csv")


# --- folders --------------------------------------------------------------------------------------------------------


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_subfolder_for_each_pair(tmp_path: Path) -> None:
    touch(
        tmp_path / "camera" / "hrri.png",
        tmp_path / "camera" / "lrgi.webp",
        tmp_path / "camera" / "paper.png",
        tmp_path / "doll" / "Reference.JPG",
        tmp_path / "doll" / "generated.png",
        tmp_path / "doll" / "reference_mask.png",
        tmp_path / "doll" / "generated_mask.png",
        tmp_path / "doll" / "generated.txt",
        tmp_path / ".hidden" / "hrri.png",
        tmp_path / "results" / "camera.png",
    )
    camera, doll = read_pairs(tmp_path)
    assert the_pair(camera) == Pair(
        reference=tmp_path / "camera" / "hrri.png", generated=tmp_path / "camera" / "lrgi.webp"
    )
    assert the_pair(camera).output_name == Path("camera.png")
    assert the_pair(doll).reference_mask == tmp_path / "doll" / "reference_mask.png"
    assert the_pair(doll).generated_mask == tmp_path / "doll" / "generated_mask.png"
    assert the_pair(doll).reference == tmp_path / "doll" / "Reference.JPG"


def test_flat_files(tmp_path: Path) -> None:
    touch(
        tmp_path / "blue_jar_hrri.png",
        tmp_path / "blue_jar_lrgi.png",
        tmp_path / "blue_jar_hrri_mask.png",
        tmp_path / "cup_reference.jpg",
        tmp_path / "cup_generated.jpg",
        tmp_path / "other.png",
    )
    jar, cup = read_pairs(tmp_path)
    assert (jar.label, cup.label) == ("blue_jar", "cup")
    assert the_pair(jar).reference_mask == tmp_path / "blue_jar_hrri_mask.png"
    assert the_pair(jar).output_name == Path("blue_jar.png")
    assert the_pair(cup).generated == tmp_path / "cup_generated.jpg"
    assert the_pair(cup).output_name == Path("cup.png")


def test_an_incomplete_or_doubled_pair_is_an_entry_that_says_so(tmp_path: Path) -> None:
    touch(
        tmp_path / "half" / "hrri.png",
        tmp_path / "twice" / "hrri.png",
        tmp_path / "twice" / "reference.png",
        tmp_path / "twice" / "lrgi.png",
    )
    half, twice = read_pairs(tmp_path)
    assert "generated.*" in the_problem(half)
    assert "hrri.png and reference.png" in the_problem(twice)


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "holiday.png")
    with pytest.raises(InputError, match="holds no pairs"):
        read_pairs(tmp_path)


# --- where the results go -------------------------------------------------------------------------------------------


def entries_of(*pairs: Pair) -> list[Entry]:
    return [Entry(f"line {number}", pair) for number, pair in enumerate(pairs, start=2)]


def test_reports_and_stages_are_laid_out_as_the_pictures_are(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "out", tmp_path / "reports", tmp_path / "stages")
    inside = folders.destination(Pair(reference=Path("r"), generated=Path("g"), output=Path("sub/v1.2.jpg")))
    assert inside.image == tmp_path / "out" / "sub" / "v1.2.jpg"
    assert inside.report == tmp_path / "reports" / "sub" / "v1.2.json"
    assert inside.stages == tmp_path / "stages" / "sub" / "v1.2"
    outside = folders.destination(Pair(reference=Path("r"), generated=Path("g"), output=Path("/else/where.png")))
    assert outside.image == Path("/else/where.png")
    assert outside.report == tmp_path / "reports" / "where.json"


@pytest.mark.parametrize(
    ("first", "second", "folders"),
    [
        ("a.png", "sub/../a.png", Folders(Path("out"))),
        ("a.png", "a.webp", Folders(Path("out"), reports=Path("out"))),
        ("a.png", "a.webp", Folders(Path("out"), stages=Path("stages"))),
    ],
)
def test_two_pairs_that_go_to_one_place_are_refused(first: str, second: str, folders: Folders) -> None:
    pairs = [Pair(reference=Path("r"), generated=Path("g"), output=Path(name)) for name in (first, second)]
    with pytest.raises(InputError, match="line 2 and line 3"):
        check_outputs(entries_of(*pairs), folders)


def test_a_result_over_the_input_of_another_pair_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "b.png")
    first = Pair(reference=tmp_path / "r.png", generated=tmp_path / "a.jpg", output=Path("b.png"))
    second = Pair(reference=tmp_path / "r.png", generated=tmp_path / "b.png", output=Path("c.png"))
    with pytest.raises(InputError, match="overwrite"):
        check_outputs(entries_of(first, second), Folders(tmp_path))
    check_outputs(entries_of(first, second), Folders(tmp_path / "results"))


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with one reference and three generated pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pair = make_synthetic_pair(reference_side=256, generated_side=64)
    PILImage.fromarray(pair.reference).save(folder / "card.png")
    for name in ("one", "two", "three"):
        PILImage.fromarray(pair.generated).save(folder / f"{name}.png")
    return folder


def test_a_batch_goes_past_bad_pairs_lists_them_and_is_resumed(pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_text("no picture")
    source = write_list(
        pictures,
        "pairs.csv",
        "reference,generated,output,scale",
        "card.png,one.png,,",
        "card.png,absent.png,,",
        "card.png,two.png,two/refined.jpg,2",
        "card.png,broken.png,,",
        "card.png,three.png,,three",
    )
    output, reports, stages = tmp_path / "out", tmp_path / "reports", tmp_path / "stages"
    arguments: list[str | Path] = [
        "refine", "--pairs", source, "--output", output, "--report", reports, "--stages", stages, "--scale", "1",
    ]  # fmt: skip

    first = run_inside(*arguments)

    assert first.returncode == 2
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.*")) == ["one.png", "two/refined.jpg"]
    assert [line.split(":")[0] for line in first.stderr.splitlines()] == ["line 3", "line 5", "line 6"]
    assert all(part in first.stderr for part in ("absent.png", "broken.png", "'three'"))
    assert first.stdout.splitlines()[-1] == "2 refined, 0 finished before, 3 without a result."
    assert Report.model_validate_json((reports / "one.json").read_text()).scale == 1
    assert Report.model_validate_json((reports / "two" / "refined.json").read_text()).scale == 2
    with PILImage.open(output / "two" / "refined.jpg") as picture:
        assert picture.size == (128, 128)
    assert (stages / "one" / "stage-01-upscaled.png").is_file()

    # What is there stays untouched; what a person took away or mended is made.
    os.utime(output / "one.png", (1, 1))
    (output / "two" / "refined.jpg").unlink()
    (pictures / "broken.png").write_bytes((pictures / "one.png").read_bytes())
    second = run_inside(*arguments)
    assert second.returncode == 2
    assert (output / "one.png").stat().st_mtime == 1
    assert (output / "two" / "refined.jpg").is_file()
    assert (output / "broken.png").is_file()
    assert second.stdout.splitlines()[-1] == "2 refined, 1 finished before, 2 without a result."

    third = run_inside(*arguments, "--overwrite")
    assert (output / "one.png").stat().st_mtime > 1
    assert third.stdout.splitlines()[-1] == "3 refined, 0 finished before, 2 without a result."


@pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_several_workers_write_the_same_bytes_as_one(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    (pictures / "broken.png").write_text("no picture")
    lines = (f"card.png,{name}.png" for name in ("one", "broken", "two", "three"))
    write_list(pictures, "pairs.csv", "reference,generated", *lines)
    monkeypatch.chdir(tmp_path)
    arguments = ["refine", "--pairs", "pictures/pairs.csv", "--scale", "1", "--report", "reports"]
    one = run_inside(*arguments, "--output", "alone")
    several = run_inside(*arguments, "--output", "together", "--runner", runner, "--workers", "2", "--overwrite")
    assert (one.returncode, several.returncode) == (2, 2)
    assert one.stderr == several.stderr
    assert [line.split(":")[0] for line in several.stderr.splitlines()] == ["line 3"]
    assert several.stdout.splitlines()[-1] == "3 refined, 0 finished before, 1 without a result."
    assert sorted(several.stdout.replace("together", "alone").splitlines()) == sorted(one.stdout.splitlines())
    written = {path.name: path.read_bytes() for path in Path("together").iterdir()}
    assert written == {path.name: path.read_bytes() for path in Path("alone").iterdir()}
    assert sorted(written) == ["one.png", "three.png", "two.png"]


class EndsAtTwo(CorrespondenceEngine):
    """An engine whose process ends at one of the pictures."""

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        if request.object_name == "two":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().refine(request, progress, viewer)


def test_a_worker_that_ends_at_one_pair_costs_that_pair_alone(pictures: Path, tmp_path: Path) -> None:
    pairs = [
        Pair(reference=pictures / "card.png", generated=pictures / f"{name}.png", object=name, scale=1)
        for name in ("one", "two", "three")
    ]
    outcome = run_batch(
        entries_of(*pairs), Folders(tmp_path / "out"), Defaults(), EndsAtTwo,
        overwrite=False, begin=lambda number, label: no_progress, finished=lambda line: None, workers=2,
    )  # fmt: skip
    assert outcome.done == 2
    assert [label for label, _ in outcome.bad] == [entries_of(*pairs)[1].label]
    assert "SIGKILL" in outcome.bad[0][1]


def test_each_pair_may_have_a_profile_a_quality_and_bits_of_its_own(pictures: Path, tmp_path: Path) -> None:
    source = write_list(
        pictures,
        "pairs.csv",
        "reference,generated,output,profile,quality,bits",
        "card.png,one.png,plain.png,,,",
        "card.png,one.png,deep.png,display-p3,,16",
        "card.png,one.png,low.jpg,,20,",
        "card.png,one.png,high.jpg,,,",
        "card.png,one.png,wrong.png,,20,",
        "card.png,one.png,wrong.webp,,,16",
        "card.png,one.png,strange.png,adobe,,",
    )
    output = tmp_path / "out"
    done = run_inside("refine", "--pairs", source, "--output", output, "--scale", "1", "--strength", "0")
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["line 6", "line 7", "line 8"]
    assert all(part in done.stderr for part in ("has no quality", "end it in .png for 16", "'srgb' or 'display-p3'"))
    assert sorted(path.name for path in output.iterdir()) == ["deep.png", "high.jpg", "low.jpg", "plain.png"]
    assert (output / "low.jpg").stat().st_size < (output / "high.jpg").stat().st_size / 2
    for name, profile, depth in (("plain.png", "srgb", 8), ("deep.png", "display-p3", 16)):
        content = (output / name).read_bytes()
        assert content[24] == depth  # in the header of a PNG
        with PILImage.open(output / name) as picture:
            assert profile.replace("-", " ") in ImageCms.getProfileDescription(opened_profile(picture)).lower()


def opened_profile(picture: PILImage.Image) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))


def test_a_folder_of_pairs(pictures: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (pictures / f"{name}.png").rename(pictures / f"{name}_generated.png")
        (pictures / f"{name}_reference.png").write_bytes((pictures / "card.png").read_bytes())
    done = run_inside("refine", "--pairs", pictures, "--output", tmp_path / "out", "--scale", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]


def test_a_report_asked_for_later_is_made_later(pictures: Path, tmp_path: Path) -> None:
    source = write_list(pictures, "pairs.csv", "reference,generated", "card.png,one.png")
    arguments: list[str | Path] = ["refine", "--pairs", source, "--output", tmp_path / "out", "--scale", "1"]
    assert run_inside(*arguments).returncode == 0
    assert run_inside(*arguments, "--report", tmp_path / "reports", "--quiet").stdout == ""
    assert (tmp_path / "reports" / "one.json").is_file()


def test_an_engine_that_cannot_run_ends_the_batch_instead_of_failing_at_every_pair(
    pictures: Path, tmp_path: Path
) -> None:
    source = write_list(pictures, "pairs.csv", "reference,generated", "card.png,one.png", "card.png,two.png")
    done = run_inside(
        "refine", "--pairs", source, "--output", tmp_path / "out", "--engine", "diffusion",
        REFGC_DEVICE="cpu", REFGC_BASE=str(tmp_path),
    )  # fmt: skip
    assert_one_sentence(done, 1, "there is no model_index.json in it")


@pytest.mark.parametrize(
    ("lines", "output", "part"),
    [
        (["card.png,one.png,same.png", "card.png,two.png,same.png"], "out", "line 2 and line 3"),
        (["card.png,one.png,two.png", "card.png,two.png,x.png"], "pictures", "overwrite"),
        (["card.png,one.png,"], "pictures/card.png", "inside a file"),
    ],
)
def test_a_batch_that_would_overwrite_is_refused_before_it_begins(
    pictures: Path, tmp_path: Path, lines: list[str], output: str, part: str
) -> None:
    source = write_list(pictures, "pairs.csv", "reference,generated,output", *lines)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = run_inside("refine", "--pairs", source, "--output", tmp_path / output)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert part in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        (["--scale", "3"], 2, "The scale is 3; choose 1, 2 or 4."),
        (["--strength", "2"], 2, "strength"),
        (["--seed", "-1"], 2, "seed"),
        (["--object", " "], 2, "object name"),
        (["--quality", "90"], 2, "has no quality"),
        (["--surroundings", "best"], 1, "run `refgc setup --surroundings`"),
    ],
)
def test_a_wrong_option_of_the_command_is_told_once_before_any_pair_begins(
    pictures: Path, tmp_path: Path, options: list[str], status: int, part: str
) -> None:
    source = write_list(
        pictures, "pairs.csv", "reference,generated", *(f"card.png,{name}.png" for name in ("one", "two", "three"))
    )
    done = run_inside(
        "refine", "--pairs", source, "--output", tmp_path / "out", *options, REFGC_WEIGHTS=str(tmp_path / "nowhere")
    )
    assert_one_sentence(done, status, part)
    assert not (tmp_path / "out").exists()


def test_options_that_one_pair_can_use_are_not_refused_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path / "nowhere"))
    first = Pair(reference=Path("r"), generated=Path("g"), output=Path("a.png"))
    folders, low, fast = Folders(tmp_path), Defaults(file=FileOptions(quality=20)), Defaults(surroundings="fast")
    with pytest.raises(InputError, match="has no quality"):
        check_defaults(entries_of(first), folders, low)
    for other in ({"output": Path("b.jpg")}, {"output": Path("b.png"), "quality": 90}, {"output": Path("b.txt")}):
        check_defaults(entries_of(first, first.model_copy(update=other)), folders, low)
    check_defaults([Entry("line 2", InputError("It is none."))], folders, low)
    with pytest.raises(EngineError, match="weights of Real-ESRGAN"):
        check_defaults(entries_of(first), folders, fast)
    check_defaults(entries_of(first.model_copy(update={"surroundings": "plain"})), folders, fast)


def test_a_disk_that_is_full_before_a_pair_begins_ends_the_batch(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    pairs = [Pair(reference=pictures / "card.png", generated=pictures / f"{name}.png") for name in ("one", "two")]
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(InputError, match="No space left on device"):
        run_batch(
            entries_of(*pairs), Folders(tmp_path), Defaults(), CorrespondenceEngine,
            overwrite=False, begin=lambda number, label: no_progress, finished=lambda line: None,
        )  # fmt: skip
