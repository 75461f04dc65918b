"""Methods by their descriptions, what their results depend on, and what they make."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.errors import EngineError, InputError
from refgc.evaluation.items import Item, Pictures, open_pictures, read_items
from refgc.evaluation.method_list import NamedMethod, check_methods, parse_method, parse_methods, read_methods
from refgc.evaluation.methods import (
    Command,
    Correspondence,
    Diffusion,
    Enlargement,
    Oracle,
    ResultFolder,
    _file_digest,
)
from refgc.hub import ADAPTER_FILES
from refgc.refinement import refine
from tests.evaluation.support import copying, evaluated_set
from tests.support.tiny_dataset import drawn


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return read_items(evaluated_set(tmp_path / "set", objects=1), unreviewed=True).items[0]


@pytest.fixture
def pictures(item: Item) -> Pictures:
    return open_pictures(item)


@pytest.mark.parametrize(
    ("text", "label", "method", "finetuned"),
    [
        ("lanczos", "Lanczos", Enlargement("lanczos"), False),
        ("correspondence", "Correspondence", Correspondence(), False),
        ("correspondence:surroundings=best", "Correspondence, best surroundings", Correspondence("best"), False),
        ("Ours*=correspondence:masks=both", "Ours", Correspondence("plain", "both"), True),
        ("diffusion", "Diffusion, stock", Diffusion(), False),
        ("A=diffusion:lora=/x/y=1;base=klein", "A", Diffusion("klein", "/x/y=1"), False),
        ("folder:/no/where", "where", ResultFolder(Path("/no/where")), False),
        ("folder:/no/where=TSD-SR*", "TSD-SR", ResultFolder(Path("/no/where")), True),
        ("command:run.sh --a=1, {output}", "run.sh", Command("run.sh --a=1, {output}"), False),
        ("oracle", "Oracle (the truth itself)", Oracle(), False),
    ],
)
def test_descriptions(text, label, method, finetuned):
    (found,) = parse_methods(text)
    assert (found.label, found.method, found.finetuned) == (label, method, finetuned)


def test_a_list_has_commas_between():
    assert [one.label for one in parse_methods("bicubic, X=lanczos,")] == ["Bicubic", "X"]


def test_a_folder_with_an_equals_sign_in_its_name_stays_whole(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert parse_method(f"folder:{tmp_path}/a=b").label == "a=b"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("magic", "no method 'magic'"),
        ("lanczos:fast", "has no options"),
        ("folder", "no method"),
        ("correspondence:surroundings=lovely", "lovely"),
        ("correspondence:size=3", "'size=3' is no option"),
        ("correspondence:masks=mine", "'mine'; use found, reference, both"),
        ("diffusion:lora=", "is no option"),
        ("x" * 61 + "=lanczos", "at most 60"),
    ],
)
def test_descriptions_that_mean_nothing_are_told(text, part):
    with pytest.raises(InputError, match=part):
        parse_method(text)


def test_methods_of_a_file(tmp_path):
    file = tmp_path / "ablation.toml"
    file.write_text(
        '[[methods]]\nlabel = "baseline"\nmethod = "lanczos"\nfinetuned = true\n'
        '[[methods]]\nmethod = "bicubic"\ncomponents = ["L_f", "FreqMoLE"]\n'
    )
    first, second = read_methods(file)
    assert (first.label, first.finetuned, first.components) == ("baseline", True, ())
    assert (second.label, second.finetuned, second.components) == ("Bicubic", False, ("L_f", "FreqMoLE"))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("methods = 3", "'methods' should be a list"),
        ("[[method]]\nmethod = 'lanczos'", r"it has no \[\[methods\]\]"),
        ("[[methods]]\nlabel = 'x'", "method 1, 'method' is missing"),
        ("[[methods]]\nmethod = 'lanczos'\nfinetunde = true", "method 1, 'finetunde' is no key; write method, label"),
        ("[[methods]]\nmethod = 'lanczos'\n[extra]", "'extra' is no key; write methods"),
        ("[[methods]]\nmethod = 'lanczos'\ncomponents = 'L_f'", "'components' should be a list"),
        ("[[methods]]\nmethod = 'lanczos'\nfinetuned = 'si'", "methods.0.finetuned: Input should be a valid boolean"),
        ("[[methods]]\nmethod = 'lanczos'\nlabel = ' '", "label is empty"),
        ("[[methods]", "TOML"),
        ("[[methods]]\nmethod = 'lanczos'\nlabel = 'a=b'", "equals sign"),
        ("[[methods]]\nmethod = 'magic'", "magic"),
    ],
)
def test_files_of_methods_that_cannot_be_used_are_told(tmp_path, content, part):
    (tmp_path / "file.toml").write_text(content)
    with pytest.raises(InputError, match=part):
        read_methods(tmp_path / "file.toml")


def test_labels_differ(tmp_path):
    with pytest.raises(InputError, match="too alike"):
        check_methods(parse_methods("A b=lanczos,a-b=bicubic"))
    with pytest.raises(InputError, match="no method to compare"):
        check_methods([])
    one, other = check_methods(parse_methods("我们的=lanczos,他们的=bicubic"))
    assert one.folder != other.folder


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("folder:/no/where", InputError, "'/no/where' does not exist"),
        ("command:no-such-program {output}", EngineError, "'no-such-program' is not found"),
        ("command:sh {generated}", InputError, "no {output}"),
        ("command:sh {truth} {output}", InputError, "{truth}, which means nothing"),
        ("command:sh 'a {output}", InputError, "cannot be split"),
    ],
)
def test_methods_that_cannot_run_here_are_refused_at_once(text, kind, part):
    with pytest.raises(kind, match=part):
        check_methods([parse_method(text)])


def test_an_adapter_that_is_none_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    with pytest.raises(EngineError, match="is no adapter"):
        parse_method(f"diffusion:lora={tmp_path}").method.check()


@pytest.mark.parametrize("source", ["/no/where/adapter", "runs/none/adapter", "adapter"])
def test_an_adapter_that_is_nowhere_is_refused_before_others_are_run(monkeypatch, source):
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    with pytest.raises(EngineError, match=f"There is no adapter '{source}'"):
        parse_method(f"diffusion:lora={source}").method.check()
    with pytest.raises(EngineError, match="There is no base '/no/where'"):
        parse_method("diffusion:base=/no/where").method.check()
    for there in ("diffusion:lora=somebody/adapter", "diffusion:base=klein", "diffusion"):
        parse_method(there).method.check()


def make(method: NamedMethod, item: Item, pictures: Pictures) -> np.ndarray:
    return np.asarray(method.method.open()(item, pictures).image.pixels)


def test_enlargements_have_the_truths_size(item, pictures):
    small = pictures.lrgi.pixels
    lanczos = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LANCZOS4)
    np.testing.assert_array_equal(make(parse_method("lanczos"), item, pictures), lanczos)
    bicubic = PILImage.fromarray(small).resize((64, 64), PILImage.Resampling.BICUBIC)
    np.testing.assert_array_equal(make(parse_method("bicubic"), item, pictures), np.asarray(bicubic))


def test_the_engine_is_the_one_that_refine_runs(item, pictures):
    expected = refine(pictures.hrri.pixels, pictures.lrgi.pixels, engine="correspondence", object_name=item.object_name)
    made = parse_method("correspondence").method.open()(item, pictures)
    np.testing.assert_array_equal(made.image.pixels, expected.image.pixels)
    assert (made.placed, made.message) == (expected.report.placed, expected.report.message)


@pytest.mark.parametrize(
    ("masks", "reference", "generated"), [("found", False, False), ("reference", True, False), ("both", True, True)]
)
def test_the_engine_is_given_the_masks_that_are_asked_for(item, pictures, monkeypatch, masks, reference, generated):
    asked = []

    def refuse(self, request, *_args, **_options):
        asked.append(request)
        raise EngineError("That is enough.")

    monkeypatch.setattr(CorrespondenceEngine, "refine", refuse)
    shown = replace(pictures, hrri_mask=pictures.hrgt_mask, lrgi_mask=None)
    with pytest.raises(EngineError, match="enough"):
        make(parse_method(f"correspondence:masks={masks}"), item, shown)
    (request,) = asked
    assert (request.reference_mask is not None, request.generated_mask is not None) == (reference, generated)
    # That of the truth, at the size of the generated picture.
    if generated:
        assert request.generated_mask.size == pictures.lrgi.size


def test_the_oracle_is_the_truth(item, pictures):
    np.testing.assert_array_equal(make(parse_method("oracle"), item, pictures), pictures.hrgt.pixels)


def test_results_of_a_folder_are_found_by_id(item, pictures, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    method = parse_method(f"folder:{folder}")
    with pytest.raises(InputError, match=r"no result called t0\.0"):
        make(method, item, pictures)
    PILImage.fromarray(drawn(5).pixels).save(folder / f"{item.id}.png")
    before = method.method.identity(item)
    np.testing.assert_array_equal(make(method, item, pictures), drawn(5).pixels)
    PILImage.fromarray(drawn(6).pixels).save(folder / f"{item.id}.png")
    assert method.method.identity(item) != before
    PILImage.fromarray(drawn(5).pixels).save(folder / f"{item.id}.webp")
    with pytest.raises(InputError, match="2 results"):
        make(method, item, pictures)


def test_results_of_a_folder_may_end_in_capitals(item, pictures, tmp_path):
    PILImage.fromarray(drawn(5).pixels).save(tmp_path / f"{item.id}.PNG")
    method = parse_method(f"folder:{tmp_path}")
    np.testing.assert_array_equal(make(method, item, pictures), drawn(5).pixels)
    PILImage.fromarray(drawn(5).pixels).save(tmp_path / f"{item.id}.jpg")
    with pytest.raises(InputError, match="2 results"):
        make(method, item, pictures)


def test_a_command_gets_its_pictures_and_words_without_a_shell(pictures, tmp_path):
    item = Item("x", "o", "a cup; rm -rf $HOME", *(read_items(tmp_path / "set", unreviewed=True).items[0],) * 2)  # type: ignore[arg-type]
    script = tmp_path / "show.py"
    script.write_text(
        "import sys, shutil\nfrom PIL import Image\n"
        "sizes = [Image.open(path).size for path in sys.argv[1:5]]\n"
        "assert sizes == [(64, 64), (16, 16), (64, 64), (16, 16)], sizes\n"
        "assert sys.argv[5:8] == ['a cup; rm -rf $HOME', '4', '0'], sys.argv\n"
        "Image.open(sys.argv[2]).resize((64, 64), 0).save(sys.argv[8])\n"
    )
    places = "{reference} {generated} {reference_mask} {generated_mask} {object} {scale} {seed} {output}"
    method = parse_method(f"command:{sys.executable} {script} {places}")
    np.testing.assert_array_equal(make(method, item, pictures)[::4, ::4], pictures.lrgi.pixels)


@pytest.mark.parametrize(("side", "scale"), [(16, "4"), (32, "2"), (64, "1"), (48, "2")])
def test_a_command_is_told_the_scale(item, pictures, tmp_path, side, scale):
    script = tmp_path / "scale.py"
    script.write_text(
        "import sys; from PIL import Image\nImage.new('RGB', (64, 64), (int(sys.argv[1]), 0, 0)).save(sys.argv[2])\n"
    )
    shown = replace(pictures, lrgi=drawn(3, side), lrgi_mask=None)
    method = parse_method(f"command:{sys.executable} {script} {{scale}} {{output}}")
    assert make(method, item, shown)[0, 0, 0] == int(scale)


def test_a_command_may_have_words_that_no_file_can_be_called(item, pictures, tmp_path):
    text = f"from PIL import Image; import sys; Image.open(sys.argv[1]).resize((64, 64)).save(sys.argv[2]) {'#' * 300}"
    method = Command(f'"{sys.executable}" -c "{text}" {{generated}} {{output}}')
    assert method.identity(item)["files"] == [_file_digest(Path(sys.executable))]
    assert method.open()(item, pictures).image.size == (64, 64)


@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("import sys; sys.exit('no luck')", r"status 1 \(no luck\)"),
        ("pass", "without a picture"),
        ("import sys; open(sys.argv[1], 'w').write('no picture')", "result"),
        (
            "import sys; from PIL import Image; Image.new('RGB', (64, 32)).save(sys.argv[1])",
            "64x32 pixels and should be 64x64",
        ),
    ],
)
def test_a_command_that_fails_is_told(item, pictures, tmp_path, script, part):
    (tmp_path / "run.py").write_text(script)
    with pytest.raises(InputError, match=part):
        make(parse_method(f"command:{sys.executable} {tmp_path / 'run.py'} {{output}}"), item, pictures)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(item, pictures, tmp_path):
    # A shell starts at once, on a machine with much to do as well.
    script = tmp_path / "hang.sh"
    script.write_text('sleep 600 &\necho $! > "$1"\nwait\n')
    method = Command(f"sh {script} {tmp_path / 'pid'} {{output}}", seconds=3)
    with pytest.raises(InputError, match="took longer than 3 seconds"):
        method.open()(item, pictures)
    child = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"

    def ended() -> bool:
        # Though perhaps nobody has asked for its status yet.
        return not child.exists() or child.read_text().rpartition(")")[2].split()[0] in ("Z", "X")

    # The system ends it a moment after it was told to.
    for _ in range(600):
        if ended():
            break
        time.sleep(0.05)
    assert ended()


def test_a_diffusion_result_depends_on_the_files_of_its_adapter(item, tmp_path):
    for name in ADAPTER_FILES:
        (tmp_path / name).write_text("{}")
    method = parse_method(f"diffusion:lora={tmp_path}").method
    before = method.identity(item)
    assert before == parse_method(f"X=diffusion:lora={tmp_path}").method.identity(item)
    (tmp_path / ADAPTER_FILES[1]).write_text("trained longer")
    assert method.identity(item) != before


def test_what_a_result_depends_on(item, tmp_path):
    one, other = parse_method("correspondence"), parse_method("correspondence:surroundings=fast")
    assert one.method.identity(item) == parse_method("X=correspondence").method.identity(item)
    assert one.method.identity(item) != other.method.identity(item)
    command = parse_method(copying(tmp_path))
    before = command.method.identity(item)
    (tmp_path / "copy.py").write_text("pass")
    assert command.method.identity(item) != before
