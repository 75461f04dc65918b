"""`refgc dataset pairs` as a command of its own: what it prints, and with which sentence it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from refgc.cli.dataset_pairs import pairs
from refgc.correspondence.learned import are_there
from refgc.dataset.manifest import PAIRS, Pair, read_rows
from refgc.errors import EngineError, InputError
from tests.dataset.support import write_object, write_photo

app = typer.Typer()
app.command()(pairs)


def run(*words: object) -> tuple[str, BaseException | None]:
    """What the command prints, and the error that it ends with."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.output, result.exception


@pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")
def test_pairs_are_made_by_the_file_and_the_flags(tmp_path: Path) -> None:
    write_object(tmp_path / "cards" / "poster", (0.0, 12.0), seed=2)
    settings = tmp_path / "run.toml"
    settings.write_text('[pairs]\nside = 256\nlicence = "CC0"\n')
    words = [tmp_path / "cards", "--output", tmp_path / "my set", "--no-vlm", "--settings", settings]
    printed, error = run(*words, "--licence", "CC BY 4.0")
    assert error is None
    assert "1 objects to do" in printed
    assert "1 pairs of 1 objects" in printed
    # To be copied into a shell as it stands.
    assert f"refgc dataset review '{tmp_path / 'my set'}'" in printed
    (row,) = read_rows(tmp_path / "my set" / PAIRS, Pair)
    assert (row.source.licence, row.hrri.picture.width, row.filtered_by) == ("CC BY 4.0", 256, None)
    printed, error = run(*words, "--licence", "CC BY 4.0", "--quiet")
    assert (printed, error) == ("", None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere", "--output", "set", "--no-vlm"), "is no folder"),
        ((".", "--output", "set", "--no-vlm", "--workers", "0"), "pairs.workers"),
        ((".", "--output", "set", "--no-vlm", "--settings", "none.toml"), "cannot be read"),
        ((".", "--output", "set", "--no-vlm", "--pairs-per-object", "0"), "pairs_per_object"),
    ],
)
def test_bad_calls_end_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _, error = run(*words)
    assert isinstance(error, InputError)
    assert sentence in str(error)
    assert not (tmp_path / "set").exists()


@pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")
@pytest.mark.parametrize(
    ("table", "words", "kind", "sentence"),
    [
        ("", (), InputError, "give --server or --model to filter and caption by a multimodal model, or --no-vlm"),
        ("", ("--no-vlm", "--model", "none/there"), InputError, "Both a multimodal model and none are chosen"),
        ("", ("--no-vlm", "--masks", "sam3"), EngineError, "REFGC_SAM is not set"),
        ("", ("--model", "none/there"), EngineError, "'none/there' is not on this machine"),
        (
            "no_vlm = true",
            ("--server", "http://127.0.0.1:9/v1"),
            EngineError,
            "'http://127.0.0.1:9/v1' does not answer",
        ),
        (
            'server = "http://127.0.0.1:9/v1"',
            ("--model", "mine"),
            EngineError,
            "'http://127.0.0.1:9/v1' does not answer",
        ),
    ],
)
def test_models_that_cannot_be_used_end_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    words: tuple[str, ...],
    kind: type[Exception],
    sentence: str,
) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("REFGC_SAM", raising=False)
    write_photo(tmp_path / "cards" / "one" / "0.png")
    settings = tmp_path / "run.toml"
    settings.write_text(f"[pairs]\n{table}\n")
    _, error = run(tmp_path / "cards", "--output", tmp_path / "set", "--settings", settings, *words)
    assert isinstance(error, kind)
    assert sentence in str(error)
    assert not (tmp_path / "set").exists()


@pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")
def test_the_flag_no_vlm_goes_before_the_server_of_the_file(tmp_path: Path) -> None:
    write_photo(tmp_path / "cards" / "one" / "0.png")
    settings = tmp_path / "run.toml"
    settings.write_text('[pairs]\nserver = "http://127.0.0.1:9/v1"\nmodel = "mine"\nworkers = 1\n')
    printed, error = run(tmp_path / "cards", "--output", tmp_path / "set", "--settings", settings, "--no-vlm")
    assert error is None
    assert "0 pairs of 1 objects" in printed
