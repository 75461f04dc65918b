"""The language model: behind a real server that speaks OpenAI's protocol, and a tiny Qwen3-VL through transformers."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.dataset.language_model import (
    Description,
    FrameScores,
    LanguageModel,
    PairScores,
    ServerModel,
    TransformersModel,
    UnusableAnswerError,
    find_language_model,
    open_language_model,
)
from refgc.dataset.manifest import Score
from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image
from tests.support.model_server import Server, says

pytest.importorskip("openai")

MUG = Description(
    object_name="mug", category="kitchen_cookware", caption="A blue mug with a crest.", keep=True, reason="It is sharp."
)
FRAME = FrameScores(object=5, quality=4, structure=3, reason="It is small.")


def picture(seed: int = 0, width: int = 64, height: int = 48) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    one = Server()
    yield one
    one.close()


def test_a_server_describes_frames_and_is_asked_once(server, tmp_path):
    server.replies = [says(MUG.model_dump_json())]
    model = open_language_model(server.address, tmp_path)
    assert model.name == "tiny-vl"
    frames = [picture(1), picture(2)]
    assert model.describe(frames) == MUG
    (question,) = server.questions
    assert question["model"] == "tiny-vl"
    assert question["temperature"] == 0
    schema = question["response_format"]["json_schema"]
    assert schema["strict"]
    assert schema["schema"] == Description.model_json_schema()
    assert not schema["schema"]["additionalProperties"]
    first, second, words = question["messages"][0]["content"]
    assert "kitchen_cookware" in words["text"]
    for part, frame in ((first, frames[0]), (second, frames[1])):
        head, _, content = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        shown = np.asarray(PILImage.open(io.BytesIO(base64.b64decode(content)))).astype(int)
        assert np.abs(shown - frame.pixels).mean() < 25, "noise suffers from JPEG, but it is the same noise"
    again = open_language_model(server.address, tmp_path)
    assert again.describe(frames) == MUG
    assert len(server.questions) == 1, "the answer is in the cache"
    again.describe(frames[::-1])
    again.describe([picture(1), picture(3)])
    open_language_model(server.address, tmp_path, model="other-vl").describe(frames)
    assert len(server.questions) == 4, "other pictures, another order and another model are other questions"


def test_a_damaged_cache_is_asked_anew(server, tmp_path):
    server.replies = [says(FRAME.model_dump_json())]
    model = open_language_model(server.address, tmp_path)
    model.score_frame(picture(), "mug")
    (file,) = (path for path in tmp_path.rglob("*.json"))
    file.write_bytes(file.read_bytes()[:20])
    assert model.score_frame(picture(), "mug") == FRAME
    assert len(server.questions) == 2


def test_scores_become_rows_scores(server, tmp_path):
    server.replies = [says(PairScores(same_object=5, quality=2, structure=4, reason="Blurred.").model_dump_json())]
    model = open_language_model(server.address, tmp_path)
    answer = model.score_pair(picture(1), picture(2), "mug")
    assert model.scores_of(answer) == (
        Score(name="same object", value=5, maker="tiny-vl"),
        Score(name="quality", value=2, maker="tiny-vl"),
        Score(name="structure", value=4, maker="tiny-vl"),
    )


def test_large_pictures_are_made_smaller(server, tmp_path):
    server.replies = [says(FRAME.model_dump_json())]
    open_language_model(server.address, tmp_path, max_pixels=10_000).score_frame(picture(0, 400, 100), "mug")
    content = server.questions[0]["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    assert PILImage.open(io.BytesIO(base64.b64decode(content))).size == (200, 50)
    with pytest.raises(InputError, match="max_pixels is 3"):
        open_language_model(server.address, tmp_path, max_pixels=3)


@pytest.mark.parametrize(
    "nonsense",
    [
        "I cannot help with that.",
        "",
        None,
        '{"object": 9, "quality": 4, "structure": 3, "reason": "Nine of five."}',
        FRAME.model_dump_json()[:30],
        '{"object": 5, "quality": 4, "structure": 3, "reason": "Good.", "more": 1}',
    ],
)
def test_nonsense_is_asked_once_more_and_then_rejected(server, tmp_path, nonsense):
    server.replies = [says(nonsense)]
    with pytest.raises(UnusableAnswerError, match="'tiny-vl' gave no usable answer"):
        open_language_model(server.address, tmp_path).score_frame(picture(), "mug")
    assert len(server.questions) == 2
    assert "could not be used" in server.questions[1]["messages"][0]["content"][1]["text"]
    assert not list(tmp_path.rglob("*.json")), "nonsense is not kept"


def test_a_second_answer_and_words_around_it_count(server, tmp_path):
    server.replies = [says("Sorry?"), says(f"Sure:\n```json\n{FRAME.model_dump_json()}\n```")]
    assert open_language_model(server.address, tmp_path).score_frame(picture(), "mug") == FRAME


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"choices": [{"message": null}]}'])
def test_a_completion_without_words_is_nonsense(server, tmp_path, body):
    server.replies = [lambda: (200, body)]
    with pytest.raises(UnusableAnswerError, match="no usable answer"):
        open_language_model(server.address, tmp_path).score_frame(picture(), "mug")


@pytest.mark.parametrize(
    "body", [b"<html>It works!</html>", b"{}", b"[]", b"null", b'{"error": "busy"}', b'{"choices": null}']
)
def test_a_server_that_gives_no_completions_ends_the_run(server, tmp_path, body):
    # Such as a proxy whose page comes back in place of the model's answer: every object would be left out for good.
    server.replies = [lambda: (200, body)]
    with pytest.raises(EngineError, match="is no OpenAI-compatible server"):
        open_language_model(server.address, tmp_path).score_frame(picture(), "mug")


@pytest.mark.parametrize(
    ("status", "kind", "asked"),
    [(400, UnusableAnswerError, 1), (401, EngineError, 1), (404, EngineError, 1), (500, EngineError, 3)],
)
def test_errors_of_the_server(server, tmp_path, status, kind, asked):
    server.replies = [lambda: (status, b'{"error": {"message": "it is over. go home", "type": "x"}}')]
    with pytest.raises(kind, match="it is over"):
        open_language_model(server.address, tmp_path).score_frame(picture(), "mug")
    assert len(server.questions) == asked


def test_a_slow_server_ends_the_run(server, tmp_path):
    def slow() -> tuple[int, bytes]:
        time.sleep(2)
        return 200, b"{}"

    server.replies = [slow]
    model = LanguageModel(ServerModel(server.address, seconds=0.2), tmp_path)
    with pytest.raises(EngineError, match="does not answer"):
        model.score_frame(picture(), "mug")


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match=r"'http://127.0.0.1:9/v1' does not answer"):
        open_language_model("http://127.0.0.1:9/v1", tmp_path)


def test_a_model_is_found_before_it_is_asked(server, tmp_path, qwen, monkeypatch):
    first = find_language_model(tmp_path, server=server.address)
    assert first == find_language_model(tmp_path, server=server.address, model="tiny-vl")
    assert (first.name, first.open().name, server.questions) == ("tiny-vl", "tiny-vl", [])
    with pytest.raises(EngineError, match="has no model 'other-vl'; it has tiny-vl"):
        find_language_model(tmp_path, server=server.address, model="other-vl")
    monkeypatch.chdir(qwen.parent)
    here = find_language_model(tmp_path, model=qwen.name)
    assert (here.name, here.place) == (qwen.name, str(qwen))
    with pytest.raises(EngineError, match="not on this machine"):
        find_language_model(tmp_path, model="Qwen/Qwen3-VL-0B")


@pytest.mark.parametrize("address", ["localhost:8000", "http://", "http://[::1", "http://a\x00b/v1"])
def test_what_is_no_address_is_refused(tmp_path, address):
    with pytest.raises(InputError, match="is no web address"):
        find_language_model(tmp_path, server=address)


def test_a_model_that_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(EngineError, match="not on this machine; `hf download Qwen/Qwen3-VL-0B` fetches it"):
        open_language_model("Qwen/Qwen3-VL-0B", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(EngineError, match=r"model.bin is a pickle"):
        open_language_model(str(tmp_path), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(EngineError, match="cannot be loaded"):
        open_language_model(str(tmp_path), tmp_path).score_frame(picture(), "mug")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A folder with a Qwen3-VL, tiny and of random weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.support.tiny_qwen import save_qwen

    torch.set_num_threads(1)
    return save_qwen(tmp_path_factory.mktemp("qwen"))


def test_transformers_sees_pictures_and_words(qwen, monkeypatch):
    monkeypatch.setattr("refgc.dataset.language_model.MAX_TOKENS", 12)
    model = TransformersModel(str(qwen), device="cpu")
    assert model.name == qwen.name
    answers = {
        words: model.complete(words, frames, {})
        for words, frames in (("one", [picture(1)]), ("two", [picture(1), picture(2, 96, 64)]))
    }
    assert all(answers.values())
    assert model.complete("one", [picture(1)], {}) == answers["one"], "the same each time"
    others = {model.complete("one", [picture(seed)], {}) for seed in range(2, 6)}
    assert others != {answers["one"]}, "it sees the picture"


def test_what_a_model_that_knows_nothing_says_is_rejected(qwen, tmp_path, monkeypatch):
    monkeypatch.setattr("refgc.dataset.language_model.MAX_TOKENS", 12)
    with pytest.raises(UnusableAnswerError, match="gave no usable answer"):
        LanguageModel(TransformersModel(str(qwen), device="cpu"), tmp_path).describe([picture()])
