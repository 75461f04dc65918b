"""Stage 1 with a multimodal model: a real server is asked by the workers, fails, goes and comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refgc.correspondence.learned import are_there
from refgc.dataset import language_model
from refgc.dataset import pairs as stage
from refgc.dataset.language_model import FoundModel, LanguageModel, find_language_model
from refgc.dataset.manifest import PAIRS, REJECTIONS, Pair, Rejection, Score, read_rows
from refgc.dataset.pairs import ANSWERS, PROGRESS, RUN, PairsWork, run_pairs
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import find_objects
from refgc.errors import EngineError, InputError
from tests.dataset.support import write_object
from tests.support.command import ENVIRONMENT
from tests.support.model_server import Server, good_answer, kind_of, pictures_of

pytest.importorskip("openai")
pytestmark = pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")

# Of three frames, three pairs can be made.
SETTINGS = PairSettings(side=256, pairs_per_object=1, workers=1)
TURNS = (0.0, 8.0, 16.0)
QUESTIONS = ["Description", *["FrameScores"] * 3, "PairScores"]


def quiet(line: str) -> None:
    """Says nothing."""


def asking(server: Server, **changes: Any) -> PairSettings:
    return SETTINGS.model_copy(update={"server": server.address, **changes})


def manifest(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in (PAIRS, REJECTIONS)}


def rejections(output: Path) -> dict[str, str]:
    """Reasons of what the model left out, by what it was."""
    rows = read_rows(output / REJECTIONS, Rejection)
    return {row.what: row.reason for row in rows if row.step == "model"}


def done(server: Server, source: Path, output: Path, **changes: Any) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of a source's one object, and what the model left out, made in this process with nothing cached."""
    shutil.rmtree(output / ANSWERS, ignore_errors=True)
    (item,) = find_objects(source, SETTINGS)
    model = find_language_model(output / ANSWERS, server=server.address).open()
    outcome = PairsWork(output, SETTINGS.model_copy(update=changes), model)(item)
    return list(outcome.pairs), {row.what: row.reason for row in outcome.rejections if row.step == "model"}


def asked(*servers: Server) -> Counter[tuple[str, str]]:
    """How often each question was answered."""
    return Counter((kind_of(question), pictures_of(question)) for one in servers for question in one.questions)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    """Two servers, at addresses of their own, that find everything good."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    both = [Server(), Server()]
    for one in both:
        one.answer = good_answer
    yield both
    for one in both:
        one.close()


@pytest.fixture
def server(servers: list[Server]) -> Server:
    return servers[0]


@pytest.fixture(scope="module")
def poster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of one object."""
    folder = tmp_path_factory.mktemp("one")
    write_object(folder / "poster", TURNS, seed=2)
    return folder


@pytest.fixture(scope="module")
def two_posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of two objects."""
    folder = tmp_path_factory.mktemp("two")
    write_object(folder / "map", TURNS, seed=1)
    write_object(folder / "poster", TURNS, seed=2)
    return folder


def test_a_server_names_captions_and_scores(server: Server, poster: Path, tmp_path: Path) -> None:
    run_pairs(poster, tmp_path / "set", asking(server), tell=quiet)
    (row,) = read_rows(tmp_path / "set" / PAIRS, Pair)
    assert (row.object_name, row.category, row.caption) == (
        "bright poster",
        "furniture_interior",
        "A poster with shapes.",
    )
    assert row.filtered_by == "tiny-vl"
    for view in (row.hrri, row.hrgt):
        assert [score.value for score in view.scores if score.maker == "tiny-vl"] == [5, 4, 5]
    assert Score(name="same object", value=5, maker="tiny-vl") in row.scores
    assert [kind_of(question) for question in server.questions] == QUESTIONS, "one pair is wanted, and one is asked of"
    assert "bright poster" in server.questions[-1]["messages"][0]["content"][-1]["text"]
    assert not rejections(tmp_path / "set")


def test_what_gets_few_points_or_no_answer_is_left_out(server: Server, poster: Path, tmp_path: Path) -> None:
    (best,), _ = done(server, poster, tmp_path)
    frames = [pictures_of(question) for question in server.questions[1:4]]
    pair = pictures_of(server.questions[4])

    def less(**points: int) -> dict[str, str]:
        """The answers of a model that gives a frame and a pair fewer points."""
        few = {"quality": 4, "structure": 5, "reason": "It is hidden."} | points
        return {frames[0]: json.dumps({"object": 5} | few), pair: json.dumps({"same_object": 5} | few)}

    def run(answers: dict[str, str], **changes: Any) -> tuple[list[Pair], dict[str, str]]:
        server.answer = lambda question: answers.get(pictures_of(question), good_answer(question))
        return done(server, poster, tmp_path, **changes)

    (row,), left_out = run({frames[0]: less(structure=2)[frames[0]]})
    assert left_out == {"poster/00.png": "The model gives structure 2 of 5 points: It is hidden."}
    assert {row.hrri.frame, row.hrgt.frame} == {"poster/01.png", "poster/02.png"}

    (row,), left_out = run({pair: less(quality=1)[pair]})
    name = f"{best.hrri.frame} with {best.hrgt.frame}"
    assert left_out == {name: "The model gives quality 1 of 5 points: It is hidden."}
    assert row.id != best.id, "the next best takes its place"

    (row,), left_out = run(less(quality=4), least_points=4)
    assert (row.id, left_out) == (best.id, {})
    (row,), left_out = run({pair: less(quality=1)[pair]}, least_points=1)
    assert (row.id, left_out) == (best.id, {})

    (row,), left_out = run({pair: "No."})
    assert row.id != best.id
    assert "gave no usable answer" in left_out[name]

    rows, left_out = run({frames[1]: "Sorry?"})
    assert len(rows) == 1
    assert "gave no usable answer" in left_out["poster/01.png"]


def test_one_frame_makes_no_pair_and_is_not_asked_about(server: Server, tmp_path: Path) -> None:
    write_object(tmp_path / "cards" / "poster", TURNS[:1], seed=2)
    assert done(server, tmp_path / "cards", tmp_path) == ([], {})
    assert not server.questions


@pytest.mark.parametrize(
    ("said", "reason"), [('"keep": false', "It is sharp."), ("I cannot help with that.", "gave no usable answer")]
)
def test_an_object_is_left_out_and_the_next_one_is_done(
    server: Server, two_posters: Path, tmp_path: Path, said: str, reason: str
) -> None:
    first: list[str] = []

    def answer(question: dict[str, Any]) -> str:
        first.append(pictures_of(question))
        text = good_answer(question)
        if first[0] != pictures_of(question):
            return text
        return text.replace('"keep": true', said) if said.startswith('"') else said

    server.answer = answer
    summary = run_pairs(two_posters, tmp_path / "set", asking(server), tell=quiet)
    assert (summary.pairs, summary.reasons["model"]) == (1, 1)
    ((what, why),) = rejections(tmp_path / "set").items()
    assert what == "map"
    assert reason in why


def test_a_server_that_goes_ends_the_run_and_nothing_is_asked_twice(
    servers: list[Server], two_posters: Path, tmp_path: Path
) -> None:
    first, second = servers
    run_pairs(two_posters, tmp_path / "calm", asking(first), tell=quiet)
    calm = asked(first)
    first.questions.clear()
    # In the middle of the second object.
    first.goes_after = len(QUESTIONS) + 2
    with pytest.raises(EngineError, match="does not answer"):
        run_pairs(two_posters, tmp_path / "set", asking(first), tell=quiet)
    assert len((tmp_path / "set" / PROGRESS).read_bytes().splitlines()) == 1
    assert not (tmp_path / "set" / PAIRS).exists()
    summary = run_pairs(two_posters, tmp_path / "set", asking(second), tell=quiet)
    assert summary.skipped == 1
    assert asked(first, second) == calm
    assert set(calm.values()) == {1}
    assert manifest(tmp_path / "set") == manifest(tmp_path / "calm")


COMMAND = """
import sys
from pathlib import Path
from refgc.dataset.pairs import run_pairs
from tests.dataset.test_pairs_model import SETTINGS
if __name__ == "__main__":
    run_pairs(Path(sys.argv[1]), Path(sys.argv[2]), SETTINGS.model_copy(update={"server": sys.argv[3]}))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_the_same_bytes(servers: list[Server], two_posters: Path, tmp_path: Path) -> None:
    first, second = servers
    run_pairs(two_posters, tmp_path / "calm", asking(second), tell=quiet)
    calm = asked(second)
    second.questions.clear()
    (tmp_path / "run.py").write_text(COMMAND)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(tmp_path / "run.py"), str(two_posters), str(tmp_path / "set"), first.address]
    with subprocess.Popen(
        command, env={**ENVIRONMENT, "PYTHONPATH": str(root)}, cwd=root, stdout=subprocess.DEVNULL
    ) as process:

        def answer(question: dict[str, Any]) -> str:
            if len(first.questions) == len(QUESTIONS) + 3:
                os.kill(process.pid, signal.SIGKILL)
            return good_answer(question)

        first.answer = answer
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "set" / PAIRS).exists()
    run_pairs(two_posters, tmp_path / "set", asking(second), tell=quiet)
    assert manifest(tmp_path / "set") == manifest(tmp_path / "calm")
    # The answer that was under way may be lost.
    assert sum((asked(first, second) - calm).values()) <= 1
    assert not calm - asked(first, second)


def test_another_model_is_another_run(servers: list[Server], poster: Path, tmp_path: Path) -> None:
    run_pairs(poster, tmp_path / "set", asking(servers[0]), tell=quiet)
    assert servers[0].address not in (tmp_path / "set" / RUN).read_text()
    assert run_pairs(poster, tmp_path / "set", asking(servers[1], model="tiny-vl"), tell=quiet).skipped == 1
    with pytest.raises(InputError, match="begun with other model;"):
        run_pairs(poster, tmp_path / "set", SETTINGS.model_copy(update={"no_vlm": True}), tell=quiet)


@pytest.mark.parametrize(
    ("choice", "kind", "sentence"),
    [
        ({}, InputError, "not chosen who filters and captions: give --server or --model .* or --no-vlm"),
        ({"no_vlm": True, "model": "a"}, InputError, "Both a multimodal model and none are chosen: give --server"),
        ({"server": "http://127.0.0.1:9/v1"}, EngineError, "does not answer"),
        ({"server": "localhost"}, InputError, "is no web address"),
        ({"model": "Qwen/Qwen3-VL-0B"}, EngineError, "is not on this machine"),
    ],
)
def test_a_model_that_cannot_be_asked_leaves_no_folder(
    poster: Path, tmp_path: Path, choice: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        run_pairs(poster, tmp_path / "set", SETTINGS.model_copy(update=choice), tell=quiet)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("changes", "device", "gpus", "wanted"),
    [
        ({"no_vlm": True}, None, 2, 0),
        ({"server": "http://there"}, None, 2, 0),
        ({"server": "http://there", "model": "a"}, None, 2, 0),
        ({"model": "a"}, None, 2, 1),
        ({"model": "a"}, None, 0, 0),
        ({"model": "a"}, "cpu", 2, 0),
        ({"model": "a", "gpus_per_worker": 2}, None, 2, 2),
        ({"no_vlm": True, "masks": "sam3"}, None, 2, 1),
    ],
)
def test_a_worker_that_holds_a_model_gets_a_gpu(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], device: str | None, gpus: int, wanted: int
) -> None:
    monkeypatch.setattr("refgc.machine.find_gpus", lambda: [object()] * gpus)
    monkeypatch.setenv("REFGC_DEVICE", device or "")
    assert stage._gpus_per_worker(SETTINGS.model_copy(update=changes)) == wanted


class Broken:
    """A model that fails as libraries do."""

    name = "broken"

    def complete(self, *_: object) -> str:
        raise RuntimeError("device-side assert")


def test_a_model_that_breaks_ends_the_run(poster: Path, tmp_path: Path) -> None:
    (item,) = find_objects(poster, SETTINGS)
    work = PairsWork(tmp_path, SETTINGS, LanguageModel(Broken(), tmp_path / ANSWERS))
    with pytest.raises(EngineError, match="device-side assert"):
        work(item)


class InBrief(FoundModel):
    """A model whose answers are cut short, wherever it is opened."""

    def open(self) -> LanguageModel:
        language_model.MAX_TOKENS = 12
        return FoundModel.open(self)


def test_a_model_of_this_machine_is_opened_in_the_worker(
    poster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.support.tiny_qwen import save_qwen

    def find(cache: Path, **choice: Any) -> InBrief:
        found = find_language_model(cache, **choice)
        return InBrief(found.name, found.place, found.cache, found.max_pixels)

    monkeypatch.setattr(stage, "find_language_model", find)
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    folder = save_qwen(tmp_path / "tiny-qwen")
    settings = SETTINGS.model_copy(update={"model": str(folder), "max_pixels": 4096})
    run_pairs(poster, tmp_path / "set", settings, tell=quiet)
    # Its weights are random, and what it says is no JSON.
    assert "The model 'tiny-qwen' gave no usable answer" in rejections(tmp_path / "set")["poster"]
    assert json.loads((tmp_path / "set" / RUN).read_text())["model"] == "tiny-qwen"
