"""What the server answers, what it refuses, and that nothing in it says which method made what."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from refgc.study.definition import PICTURES, Question, Study
from refgc.study.page import build_app, markup
from refgc.study.routes import padded
from refgc.study.store import AnswerStore, read_records
from tests.study.test_prepare import chunks
from tests.support.coroutines import completed
from tests.support.study import METHODS, QUESTIONS, make_study

ALL_TWO = dict.fromkeys(QUESTIONS, 2)
ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    root = tmp_path_factory.mktemp("made")
    return root / "study", make_study(root)


@pytest.fixture
def store(tmp_path: Path, made: tuple[Path, Study]) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path, made[1]) as store:
        yield store


@pytest.fixture
def app(made: tuple[Path, Study], store: AnswerStore) -> Starlette:
    return build_app(*made, store, "127.0.0.1")


@pytest.fixture
def client(app: Starlette) -> TestClient:
    return TestClient(app, base_url=ADDRESS)


def begin(client: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/study/begin", json={"agreed": True}).json()
    return answer


def test_a_person_goes_from_consent_to_the_end(client: TestClient, tmp_path: Path, made: tuple[Path, Study]) -> None:
    assert client.post("/study/begin", json={"agreed": False}).json() == {"error": "Only who agrees can take part."}
    standing = begin(client)
    assert client.post("/study/resume", json={"code": standing["code"].lower()}).json() == standing
    for number in range(standing["total"]):
        assert (standing["done"], standing["trials"][0]["number"]) == (number, number + 1)
        sent = {"code": standing["code"], "token": standing["trials"][0]["token"], "answers": ALL_TWO, "seconds": 4.2}
        standing = client.post("/study/answers", json=sent).json()
    assert (standing["done"], standing["trials"]) == (8, [])
    (record,) = read_records(tmp_path, made[1])
    assert record.answered == 8
    assert client.post("/study/withdraw", json={"code": standing["code"]}).json() == {}
    assert "Nobody has this code" in client.post("/study/resume", json={"code": standing["code"]}).json()["error"]


def test_a_computer_that_slept_counts_as_an_hour(client: TestClient, tmp_path: Path, made: tuple[Path, Study]) -> None:
    standing = begin(client)
    sent = {"code": standing["code"], "token": standing["trials"][0]["token"], "answers": ALL_TWO, "seconds": 1e12}
    assert client.post("/study/answers", json=sent).json()["done"] == 1
    (record,) = read_records(tmp_path, made[1])
    assert record.showings[0].seconds == 3600


def test_nothing_that_is_sent_says_which_method_made_what(client: TestClient, made: tuple[Path, Study]) -> None:
    standing = begin(client)
    secrets = [*METHODS, "right", "degraded", "check", "repeat", "scene", "sqlite"]
    secrets += [path.stem for path in (made[0] / PICTURES).iterdir()]
    texts = [json.dumps(standing)]
    while standing["trials"]:
        (trial, *_), lengths = standing["trials"], set()
        assert set(trial) == {"token", "number", "size"}
        for place in ("1", "2", "3", "4", "reference", "generated"):
            got = client.get(f"/study/pictures/{trial['token']}/{place}")
            assert set(got.headers) == {"content-type", "content-length", "cache-control", "x-content-type-options"}
            texts.append(f"{got.url} {dict(got.headers)}")
            assert set(chunks(got.content)) <= {b"IHDR", b"IDAT", b"IEND", b"iCCP", b"sRGB", b"paDd"}
            assert not any(name.encode() in got.content for name in METHODS)
            if place.isdigit():
                lengths.add(len(got.content))
        assert len(lengths) == 1
        sent = {"code": standing["code"], "token": trial["token"], "answers": ALL_TWO, "seconds": 1}
        standing = client.post("/study/answers", json=sent).json()
        texts.append(json.dumps(standing))
    for path in ("/", "/study/assets/study.js", "/study/assets/requests.js", "/study/assets/study.css"):
        got = client.get(path)
        assert got.status_code == 200
        assert "set-cookie" not in got.headers
        assert not any(name in got.text for name in METHODS[1:3])
    assert not [secret for secret in secrets if any(secret in text for text in texts)]


def test_each_place_shows_the_method_that_the_store_says(
    client: TestClient, store: AnswerStore, made: tuple[Path, Study]
) -> None:
    token = begin(client)["trials"][0]["token"]
    showing = store.shown(token)
    item = made[1].shown()[showing.item]
    for place, name in enumerate(showing.order, 1):
        shown = PIL.Image.open(BytesIO(client.get(f"/study/pictures/{token}/{place}").content))
        with PIL.Image.open(made[0] / PICTURES / item.choices[name].file) as kept:
            assert np.array_equal(np.asarray(shown), np.asarray(kept))


def test_the_same_picture_has_another_address_for_everybody(client: TestClient) -> None:
    tokens = [trial["token"] for _ in range(5) for trial in begin(client)["trials"]]
    assert len(set(tokens)) == 10


def test_padding_is_a_chunk_that_fits(made: tuple[Path, Study]) -> None:
    png = next((made[0] / PICTURES).iterdir()).read_bytes()
    for more in (12, 13, 5000):
        longer = padded(png, len(png) + more)
        assert len(longer) == len(png) + more
        assert chunks(longer)[-2:] == [b"paDd", b"IEND"]
        with PIL.Image.open(BytesIO(longer)) as opened, PIL.Image.open(BytesIO(png)) as before:
            opened.load()
            assert np.array_equal(np.asarray(opened), np.asarray(before))
        start = longer.rindex(b"paDd")
        crc = int.from_bytes(longer[start + 4 + more - 12 :][:4], "big")
        assert crc == zlib.crc32(longer[start : start + 4 + more - 12])


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("begin", {}, 422, "agreed"),
        ("begin", {"agreed": True, "name": "Ada"}, 422, "name"),
        ("resume", {"code": "x" * 50}, 422, "code"),
        ("resume", {"code": "AAAAAAAAAA"}, 422, "Nobody has this code"),
        ("answers", {"code": "A", "token": "t", "answers": {"overall": -1}, "seconds": 1}, 422, "answers.overall"),
        ("answers", {"code": "A", "token": "t", "answers": {}, "seconds": float("1e999")}, 422, "seconds"),
        ("nothing", {}, 404, "There is nothing here"),
    ],
)
def test_what_cannot_be_is_refused_by_one_sentence(
    client: TestClient, path: str, body: dict[str, Any], status: int, part: str
) -> None:
    sent = json.dumps(body).replace("Infinity", "1e999")
    answer = client.post(f"/study/{path}", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert part in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_what_is_not_there_is_told(client: TestClient) -> None:
    token = begin(client)["trials"][0]["token"]
    for path in (
        f"{token}/0",
        f"{token}/5",
        f"{token}/²",
        f"{token}/01",
        f"{token}/{'9' * 5000}",
        f"{token}/ours",
        "other/1",
    ):
        answer = client.get(f"/study/pictures/{path}")
        assert answer.status_code == 422
        assert "There is no such picture" in answer.json()["error"]
    for path in ("/study.json", "/answers.sqlite", "/study/assets/study.html", "/study/assets/..%2Fpage.py", "/docs"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 400),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_other_sites_are_kept_out(client: TestClient, headers: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json", **headers}
    assert client.post("/study/begin", content='{"agreed": true}', headers=sent).status_code == status


def test_texts_of_a_study_are_shown_as_they_are(made: tuple[Path, Study]) -> None:
    hostile = made[1].model_copy(
        update={
            "title": "<script>alert(1)</script> {consent}",
            "consent": "One & {told}\n\n<b>two</b>",
            "questions": (Question(name="q", text='"><img src=x onerror=alert(1)> {choices}'),),
        }
    )
    page = markup(hostile)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; {consent}" in page
    assert "<p>One &amp; {told}</p><p>&lt;b&gt;two&lt;/b&gt;</p>" in page
    assert "<img" not in page
    assert "onerror=alert(1)&gt; {choices}" in page


def test_thirty_people_at_once_over_http(app: Starlette, tmp_path: Path, made: tuple[Path, Study]) -> None:
    async def person(number: int) -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            standing = (await client.post("/study/begin", json={"agreed": True})).json()
            while standing["trials"]:
                token = standing["trials"][0]["token"]
                assert (await client.get(f"/study/pictures/{token}/1")).status_code == 200
                sent = {
                    "code": standing["code"], "token": token, "answers": dict.fromkeys(QUESTIONS, number % 5),
                    "seconds": number,
                }  # fmt: skip
                answer = await client.post("/study/answers", json=sent)
                assert answer.status_code == 200
                standing = answer.json()

    async def everybody() -> None:
        await asyncio.gather(*map(person, range(30)))

    completed(everybody())
    records = read_records(tmp_path, made[1])
    assert len(records) == 30
    for record in records:
        (seconds,) = {shown.seconds for shown in record.showings}
        assert seconds is not None
        place = int(seconds) % 5
        for shown in record.showings:
            expected = shown.showing.order[place - 1] if place else None
            assert shown.answers == dict.fromkeys(QUESTIONS, expected)
    assert sorted(record.showings[0].seconds or 0 for record in records) == list(range(30))
