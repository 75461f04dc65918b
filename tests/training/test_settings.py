"""The file of a run: what `init` prints, and what is refused in one sentence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from refgc.errors import InputError
from refgc.training.settings import RefinerRun, read_any_run, read_run, resuming_settings
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
        ("[data]\nworking_size = [100, 96]", "multiples of 16"),
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
