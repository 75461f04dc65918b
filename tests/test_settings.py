"""The environment variables: read in one place, checked, and documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import refgc
from refgc.errors import InputError, quoted
from refgc.settings import Settings, allowed, setting, settings, variable_of

PACKAGE = Path(refgc.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)


def test_the_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().max_waiting == 16
    monkeypatch.setenv("REFGC_MAX_WAITING", "3")
    monkeypatch.setenv("REFGC_KEEP_HOURS", " 0.5 ")
    monkeypatch.setenv("REFGC_BASE", " someone/kontext ")
    monkeypatch.setenv("REFGC_MCP", " Yes ")
    given = settings()
    assert (given.max_waiting, given.keep_hours, given.base, given.mcp) == (3, 0.5, "someone/kontext", True)
    assert setting("REFGC_BASE") == "someone/kontext"
    monkeypatch.delenv("REFGC_BASE")
    assert settings().base is None


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_is_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for field in Settings.model_fields:
        monkeypatch.setenv(variable_of(field), blank)
    assert settings().model_dump() == {name: info.default for name, info in Settings.model_fields.items()}


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("REFGC_MAX_WAITING", "many", "a whole number from 0 to 1000"),
        ("REFGC_MAX_WAITING", "-1", "a whole number from 0 to 1000"),
        ("REFGC_MAX_WAITING", "1.5", "a whole number from 0 to 1000"),
        ("REFGC_VISIT_JOBS", "0", "a whole number from 1 to 1000000"),
        ("REFGC_VISIT_JOBS", "9" * 5000, "a whole number from 1 to 1000000"),
        ("REFGC_RUN_SECONDS", "0", "a number above 0, at most 1000000"),
        ("REFGC_KEEP_HOURS", "inf", "a number above 0, at most 100000"),
        ("REFGC_KEEP_HOURS", "1e18", "a number above 0, at most 100000"),
        ("REFGC_CACHE_MEGABYTES", "nan", "a number from 0 to 1000000000"),
        ("REFGC_MCP", "please", "1 or 0"),
        ("REFGC_DEBUG", "2", "1 or 0"),
        ("REFGC_DEVICE", "tpu", "cuda, cuda:1 (the second GPU) or cpu"),
        ("REFGC_DEVICE", "cuda:one", "cuda, cuda:1 (the second GPU) or cpu"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as failure:
        settings()
    assert str(failure.value) == f"{variable} is {quoted(value)}; set it to {wanted}."


def test_every_variable_is_documented_with_its_default_and_limits() -> None:
    rows = re.findall(r"^\| `REFGC_.*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(map(row, Settings.model_fields))


def row(field: str) -> str:
    """A field's line in the tables of docs/settings.md."""
    info = Settings.model_fields[field]
    default = "" if info.default in (None, "") else int(info.default)
    return f"| `{variable_of(field)}` | {default} | {allowed(field)} | {info.description} |"


def test_nobody_else_reads_the_variables() -> None:
    assert [fault for file in PACKAGE.rglob("*.py") if file.name != "settings.py" for fault in faults_of(file)] == []


@pytest.mark.parametrize(
    "line",
    [
        'os.environ.get("REFGC_BASE")',
        "os.environ.get(BASE)",
        'os.environ["REFGC_BASE"]',
        "os.getenv(name)",
        '"REFGC_FOO"',
    ],
)
def test_a_read_or_an_unknown_name_is_seen(tmp_path: Path, line: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(f"import os\nvalue = {line}\n")
    assert len(list(faults_of(file))) == 1


def faults_of(file: Path) -> Iterator[str]:
    """Reads of the environment for REFGC_ variables or by a name that is not written there; unknown variables."""
    reads = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if (key := read_key(node)) is not None:
            reads.add(key)
            if not isinstance(key, ast.Constant) or str(key.value).startswith("REFGC_"):
                yield f"{file}:{key.lineno} reads {ast.unparse(key)}"
        elif isinstance(node, ast.Constant) and node not in reads and is_unknown(node.value):
            yield f"{file}:{node.lineno} names {node.value!r}"


def is_unknown(value: object) -> bool:
    """Whether a constant has the form of a variable's name and is none."""
    known = map(variable_of, Settings.model_fields)
    return isinstance(value, str) and re.fullmatch("REFGC_[A-Z_]+", value) is not None and value not in known


def read_key(node: ast.AST) -> ast.expr | None:
    """What a node reads from the environment; None for anything else."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "os.environ":
        return node.slice
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv") and node.args:
        return node.args[0]
    return None
