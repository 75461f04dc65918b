"""The file of a run: what `init` prints, and what is refused in one sentence."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refgc.errors import InputError
from refgc.training.settings import KINDS, RefinerRun, initial_file, read_any_run, read_run, resuming_settings
from tests.support.command import assert_one_sentence, run_inside


def test_init_prints_every_default_with_its_meaning() -> None:
    printed = run_inside("train", "init", "refiner").stdout
    assert RefinerRun.model_validate(tomllib.loads(printed)) == RefinerRun()
    lines = printed.splitlines()
    values = [number for number, line in enumerate(lines) if " =" in line]
    assert len(values) > 50
    for number in values:
        assert re.match("# .{4,}", lines[number - 1]), lines[number]
    assert "# working_size =" in lines, "a setting without a value is shown as a comment"


def test_a_kind_that_is_not_known_is_one_sentence() -> None:
    assert_one_sentence(run_inside("train", "init", "painter"), 2, "choose refiner")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[run]\nstpes = 4", "perhaps steps is meant"),
        ("[optimization]", "perhaps optimisation is meant"),
        ("[run]\nsteps = 0", "run.steps cannot be used"),
        ("[run]\nbatch_size = 3\nsamples_at_once = 2", "multiple of samples_at_once"),
        ("run = 5", "it must be a table, `[run]` with settings below it"),
        ("[run]\nsteps = true", "run.steps cannot be used: it must be a whole number from 1 to 99999999."),
        ("[learning]\nlearning_rate = 1e30", "it must be a number above 0 and at most 10."),
        ("[data]\nworking_size = [100, 96]", "multiples of 16"),
        ("[data]\nworking_size = [512, 4112]", "multiples of 16 from 16 to 4096"),
        ("[data]\nworking_size = [512, true]", "multiples of 16 from 16 to 4096"),
        ("[data]\nworking_size = [512.0, 512]", "multiples of 16 from 16 to 4096"),
        ("[data]\nworking_size = 512", "multiples of 16 from 16 to 4096"),
        ("[data]\nwhole = 'yes'", "data.whole cannot be used"),
        ("[data]\nprompt = 'refine it'", "{object}"),
        ("[learning]\nlearning_rate = nan", "learning.learning_rate cannot be used"),
        ("[learning]\nweight_decay = inf", "learning.weight_decay cannot be used"),
        ("folder = ''", "folder cannot be used: it names no folder"),
        ('folder = "a\\u0000b"', "folder cannot be used: it names no folder"),
        ("[data]\ncache = ' '", "data.cache cannot be used: it names no folder"),
        ('kind = "generator"', "is of the kind 'generator'"),
        ("steps =", "is no TOML"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_run(file, RefinerRun)
    assert part in str(refused.value)


def numbers() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Kind, table, name and JSON schema of every setting that is a number."""
    for kind, made_of in KINDS.items():
        schema = made_of.model_json_schema()
        for table, shown in schema["properties"].items():
            properties = schema["$defs"][shown["$ref"].rpartition("/")[2]]["properties"] if "$ref" in shown else {}
            for name, field in properties.items():
                for one in field.get("anyOf", [field]):
                    if one.get("type") in ("integer", "number"):
                        yield kind, table, name, one


def outside(schema: dict[str, Any]) -> Iterator[str]:
    """What a number by this schema must not be, as TOML."""
    low = schema["minimum"] if "minimum" in schema else schema["exclusiveMinimum"]
    high = schema["maximum"] if "maximum" in schema else schema["exclusiveMaximum"]
    yield from ("true", "false", "'1'", "[1]", "nan", "inf", "-inf", "1e30", f"{10**30}", f"{-(10**30)}")
    if schema["type"] == "integer":
        yield from (str(low - 1), str(high + 1), f"{low}.5", f"{high}.0")
    else:
        yield from (repr(math.nextafter(float(low), -math.inf)), repr(math.nextafter(float(high), math.inf)))
        yield from (repr(float(schema[name])) for name in ("exclusiveMinimum", "exclusiveMaximum") if name in schema)


@pytest.mark.parametrize(
    ("kind", "table", "name", "schema"), [pytest.param(*one, id=".".join(one[:3])) for one in numbers()]
)
def test_every_number_has_bounds_and_what_is_outside_of_them_is_one_sentence(
    tmp_path: Path, kind: str, table: str, name: str, schema: dict[str, Any]
) -> None:
    file = tmp_path / "run.toml"

    def said(value: str) -> str:
        file.write_text(f"kind = '{kind}'\n[{table}]\n{name} = {value}\n")
        try:
            read_any_run(file)
        except InputError as error:
            return str(error)
        return ""

    a_number = "a whole number" if schema["type"] == "integer" else "a number"
    printed = initial_file(kind).partition(f"[{table}]\n")[2].splitlines()
    place = next(number for number, line in enumerate(printed) if line.startswith((f"{name} =", f"# {name} =")))
    shown = printed[place - 1].rpartition(" (")[2].removesuffix(")")
    sentence = f"The setting {table}.{name} cannot be used: it must be {a_number} {shown}."
    for value in outside(schema):
        assert said(value) == sentence, value
    # What one setting demands of another is another sentence.
    for bound in ("minimum", "maximum"):
        if bound in schema:
            assert "it must be a" not in said(str(schema[bound])), bound


@pytest.mark.parametrize("kind", ["['refiner']", "{ a = 1 }", "3", "'painter'"])
def test_a_kind_of_any_type_that_is_not_known_is_one_sentence(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"kind = {kind}")
    with pytest.raises(InputError, match=r"is of the kind .*choose refiner or generator"):
        read_any_run(file)


def test_only_what_changes_no_step_may_change_between_checkpoint_and_run() -> None:
    constant = resuming_settings(RefinerRun())
    assert "run.seed" in constant
    assert "run.steps" not in constant
    assert not any(name.startswith(("checkpoints", "validation", "tracking", "workers", "folder")) for name in constant)
    cosine = RefinerRun.model_validate({"optimisation": {"schedule": "cosine"}})
    assert "run.steps" in resuming_settings(cosine), "the cosine ends at the last step"
