"""README and documentation: short, without dead links, and with code that runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
import yaml
from PIL import Image as PILImage

import refgc
from refgc.cli.main import app
from refgc.correspondence.report import MIRRORED, UNPLACED, WARNINGS
from refgc.dataset.manifest import Pair, Triplet
from refgc.engine import DRAWING, Report
from refgc.imaging.decode import PICTURE_SUFFIXES, READABLE
from refgc.page.words import MOSTLY_REFINED
from refgc.settings import Settings, variable_of
from tests.test_house import FLOORS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "examples" / "README.md"])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LONGEST_README = 115
# Warnings about one of several references; the page names those of the first two.
NUMBERED = {f"{code}_{number}" for code in (MIRRORED, UNPLACED) for number in (3, 4)}
LARGEST_PICTURE = 400_000


def body_of(document: Path) -> str:
    """Its text without the front matter."""
    text = document.read_text(encoding="utf-8")
    return text.split("\n---\n", 1)[1] if text.startswith("---\n") else text


def prose_of(document: Path) -> str:
    """Its text without code."""
    return FENCE.sub("", body_of(document))


def blocks_of(document: Path, language: str) -> list[str]:
    """Its pieces of code in one language, without the indentation that they have as a whole."""
    return [
        "\n".join(line.removeprefix(indent) for line in code.splitlines()) + "\n"
        for indent, tongue, code in FENCE.findall(body_of(document))
        if tongue == language
    ]


def blocks(language: str) -> list[Any]:
    """All pieces of code in one language, each as a test's parameter named after its document."""
    return [
        pytest.param(code, id=f"{document.relative_to(ROOT)}-{number}")
        for document in DOCUMENTS
        for number, code in enumerate(blocks_of(document, language), 1)
    ]


def anchors_of(document: Path) -> set[str]:
    """What its headings are called in addresses."""
    headings = re.findall(r"^#+ (.+)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(body_of(README).strip().splitlines()) <= LONGEST_README


def test_the_readme_begins_with_pictures_and_tells_early_that_there_are_no_weights() -> None:
    text = body_of(README)
    shown = [ROOT / target for target in re.findall(r"!\[[^\]]+\]\((\S+)\)", text)]
    assert len(shown) == 2
    assert text.strip().splitlines()[2].startswith("![")
    for picture in shown:
        assert picture.stat().st_size < LARGEST_PICTURE
        with PILImage.open(picture) as opened:
            opened.verify()
    early = "\n".join(text.strip().splitlines()[:30])
    assert "weights do not exist" in early


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    dead = []
    for link in LINK.findall(prose_of(document)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = document if not path else document.parent / path
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(prose_of(README))}
    assert set((ROOT / "docs").glob("*.md")) <= linked


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_rows_of_a_table_have_as_many_cells_as_its_head(document: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", prose_of(document), re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_gains_of_our_examples_are_those_that_were_measured() -> None:
    text = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Our own examples\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    measured = json.loads((ROOT / "benchmarks" / "chain.json").read_text(encoding="utf-8"))["examples"]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert rows == [
        f"| {' | '.join([one['example'].replace('_', ' '), *gains(one['with masks']), *gains(one['without masks'])])} |"
        for one in measured
    ]


def gains(runs: dict[str, Any]) -> tuple[str, str, str]:
    """Cells of the table: PSNR of each seed, their mean, and the mean SSIM."""
    each = ", ".join(f"{gain:+.2f}" for gain in runs["psnr_gain_inside"])
    return each, f"{runs['mean_psnr_gain_inside']:+.2f} dB", f"{runs['mean_ssim_gain_inside']:+.3f}"


@pytest.mark.parametrize("code", blocks("python"))
def test_python_code_names_what_exists(code: str) -> None:
    """It compiles, and what it imports from this project is there."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "refgc":
            assert {alias.name for alias in node.names} <= names_in(str(node.module)), node.module


def names_in(module: str) -> set[str]:
    """What can be imported from a module of the package; it is read and not imported, since some need torch."""
    if module == "refgc":
        return set(refgc.__all__)
    parts = module.split(".")
    file = ROOT.joinpath(*parts).with_suffix(".py")
    file = file if file.is_file() else ROOT.joinpath(*parts, "__init__.py")
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                names.add(node.name)
            case ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def words_of_code() -> list[Any]:
    """Everything between backticks in the documents of what is now, with its document."""
    return [
        pytest.param(re.findall(r"`([^`\n]+)`", prose_of(document)), id=str(document.relative_to(ROOT)))
        for document in DOCUMENTS
        if document.name != "CHANGELOG.md"
    ]


@pytest.mark.parametrize("words", words_of_code())
def test_modules_files_and_variables_that_are_named_exist(words: list[str]) -> None:
    for word in words:
        if re.fullmatch(r"refgc(\.\w+)+", word) and word != "refgc.refine":
            module, _, name = word.rpartition(".")
            assert is_module(word) or (is_module(module) and name in names_in(module)), word
        elif re.fullmatch(r"(?:refgc|tests|examples|docs|assets|benchmarks)/[\w./-]*", word):
            assert (ROOT / word).exists(), word
        elif variable := re.fullmatch(r"(REFGC_\w+)(?:=.*)?", word):
            assert variable[1] in map(variable_of, Settings.model_fields), word
        elif started := re.fullmatch(r".*python -m (benchmarks\.[a-z_]+)", word):
            assert is_module(started[1]), word


def is_module(name: str) -> bool:
    """Whether this repository has a module or package of that name."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file() or name == "refgc"


@pytest.mark.parametrize(
    ("subcommand", "document"),
    [("refine", "command"), ("watch", "command"), ("preview", "preview"), ("page", "hosting")],
)
def test_every_option_is_documented(subcommand: str, document: str) -> None:
    text = (ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app).commands[subcommand]  # type: ignore[attr-defined]
    inputs = {"--reference", "--generated", "--scene", "--output", "--object-name", "--help"}
    options = {switch for one in command.params for switch in one.opts if switch.startswith("--")}
    assert {option for option in options - inputs if not re.search(rf"`{option}\b", text)} == set()


def test_every_option_of_the_dataset_is_documented() -> None:
    text = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app).commands["dataset"]  # type: ignore[attr-defined]
    usual = {"--output", "--debug", "--quiet", "--help"}
    for name, command in group.commands.items():
        options = {switch for one in command.params for switch in one.opts if switch.startswith("--")} - usual
        assert name in text
        assert {option for option in options if not re.search(rf"{option}\b", text)} == set(), name


def test_every_field_of_the_manifest_is_documented() -> None:
    told = set(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")))
    for kind in (Pair, Triplet):
        schema = kind.model_json_schema()
        fields = {*schema["properties"], *(name for part in schema["$defs"].values() for name in part["properties"])}
        assert fields <= told


@pytest.mark.parametrize("code", blocks("sh"))
def test_commands_name_what_exists(code: str) -> None:
    """Subcommands and options of `refgc`, and targets of `make`."""
    command = typer.main.get_command(app)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        if "refgc" in words[:2] and words[0] not in ("docker", "hf"):
            name, *rest = words[words.index("refgc") + 1 :]
            subcommand = command.commands[name]  # type: ignore[attr-defined]
            if hasattr(subcommand, "commands"):
                name, *rest = rest
                subcommand = subcommand.commands[name]
            known = {switch for parameter in subcommand.params for switch in parameter.opts} | {"--help"}
            assert {word for word in rest if word.startswith("--")} <= known, line


def test_every_field_and_stage_of_a_report_is_documented(pair_files: tuple[Path, Path]) -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    schema = Report.model_json_schema()
    fields = {*schema["properties"], *(name for part in schema["$defs"].values() for name in part["properties"])}
    result = refgc.refine(*pair_files, scale=1, engine="correspondence")
    assert result.report.placed
    told = set(re.findall(r"`([^`\n]+)`", text))
    assert fields | set(result.report.seconds) | {DRAWING} | set(WARNINGS) - NUMBERED <= told
    assert f"less than {MOSTLY_REFINED:.0%}".replace("%", " %") in text


def run_in(folder: Path, code: str) -> None:
    """Runs a piece of code in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, "snippet", "exec"), {})


@pytest.fixture
def own_pictures(pair_files: tuple[Path, Path], tmp_path: Path) -> Path:
    """A folder with the pictures that the documents call by name."""
    reference, generated = pair_files
    PILImage.open(reference).save(tmp_path / "photo.jpg", quality=95)
    PILImage.open(generated).save(tmp_path / "scene.png")
    return tmp_path


def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = blocks_of(README, "python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run_in(tmp_path, code)
    (written,) = tmp_path.glob("*.png")
    assert written.name not in " ".join(blocks_of(README, "sh")), "one sample would replace another's picture"
    with PILImage.open(written) as refined:
        assert refined.size == (512, 512)


def test_the_code_of_the_library_page_runs(own_pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = blocks_of(ROOT / "docs" / "python.md", "python")
    run_in(own_pictures, first)
    assert (own_pictures / "refined.png").is_file()
    assert (own_pictures / "upscaled.png").is_file()
    capsys.readouterr()
    run_in(own_pictures, second)
    assert "diffusion" in capsys.readouterr().out


def test_the_workflow_and_the_hooks_call_what_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert commands == ["make test", "make test-all"]
    assert {command.split()[1] for command in commands} <= targets
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\S+)$", script, re.MULTILINE) == ["test", "test-all"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    asked = {Path(hook["entry"].split()[0]).name for hook in hooks}
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert asked == {"ruff", "mypy"}
    assert all(re.search(rf"^{name}==", constraints, re.MULTILINE) for name in asked)


def test_the_changelog_has_the_version_and_a_place_for_what_comes() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert refgc.__version__ in headings


def test_the_drawing_of_the_floors_has_every_room_in_its_order() -> None:
    (drawing,) = (
        code for _, tongue, code in FENCE.findall(body_of(ROOT / "CONTRIBUTING.md")) if not tongue and "imaging" in code
    )
    drawn = [set(line[:57].split()) for line in drawing.splitlines()]
    unseen = {"__init__", "__main__"}
    assert drawn == [set(floor) - unseen for floor in reversed(FLOORS)]


def test_readable_pictures_are_named_as_the_program_names_them():
    assert f"Pictures may be {READABLE}," in (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    words = re.findall("[a-z]+", READABLE.lower())
    assert {word for word in words if word != "or"} <= {suffix[1:] for suffix in PICTURE_SUFFIXES}
