"""The endpoints of the review: what they take, what they refuse, and what they write down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from refgc.dataset.corrections import CORRECTIONS, corrected, read_corrections
from refgc.dataset.manifest import PAIRS, VERDICTS, Pair, Verdict, read_rows
from refgc.dataset.store import load_mask
from refgc.dataset.verdicts import VerdictLog
from refgc.review.routes import PREFIX, REASONS, ReviewRoutes
from refgc.review.rows import ReviewedRows
from refgc.webui.endpoints import LOOPBACK, Gate
from tests.support.review_dataset import make_dataset

FEW = ("camera", "mug")
ACCEPTED = {"row": "camera-pair", "rater": "a", "accepted": True, "seconds": 1.5}
REJECTED = {**ACCEPTED, "accepted": False, "reasons": ["blurred"]}
CLICK = {"kind": "object", "x": 0.5, "y": 0.5}
MENDED = {"row": "camera-pair", "view": "hrgt", "rater": "a", "clicks": [CLICK]}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("few") / "dataset", FEW)


@pytest.fixture
def dataset(few: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(few, tmp_path / "dataset"))


@pytest.fixture
def client(dataset: Path) -> Iterator[TestClient]:
    rows = ReviewedRows(dataset)
    with VerdictLog(dataset, rows.made_of) as log:
        # As a route of Gradio's that takes what anybody sends.
        other = Route("/gradio_api/upload", lambda _: Response(), methods=["POST"])
        routes = [*ReviewRoutes(rows, log).routes(), other]
        app = Starlette(routes=routes, middleware=[Middleware(Gate, prefix=PREFIX, hosts=LOOPBACK)])
        yield TestClient(app, base_url="http://127.0.0.1:7860")


def said(dataset: Path) -> list[Verdict]:
    return list(read_rows(dataset / VERDICTS, Verdict))


def test_rows_come_with_their_pictures_and_outlines(client: TestClient) -> None:
    answer = client.post("/review/rows", json={"rater": "a", "most": 3}).json()
    assert [card["id"] for card in answer["rows"]] == ["camera-pair", "mug-pair", "camera-triplet"]
    assert answer["counts"]["left"] == 4
    pair, _, triplet = answer["rows"]
    assert [picture["name"] for picture in pair["pictures"]] == ["hrri", "hrgt"]
    assert [picture["name"] for picture in triplet["pictures"]] == ["hrri", "hrgt", "lrgi"]
    for picture in triplet["pictures"]:
        got = client.get(picture["source"])
        assert got.headers["content-type"] == "image/png"
        assert "immutable" in got.headers["cache-control"]
        assert PIL.Image.open(BytesIO(got.content)).size == (picture["width"], picture["height"])
        outline = client.get(picture["outline"]).json()
        left, top, right, bottom = outline["box"]
        assert 0 <= left < right <= 256
        assert 0 <= top < bottom <= 256
        assert outline["path"].startswith("M")


def test_an_outline_is_that_of_the_mask(client: TestClient, dataset: Path) -> None:
    pair = next(read_rows(dataset / PAIRS, Pair))
    mask = load_mask(dataset, pair.hrri.mask).values >= 0.5
    outline = client.get("/review/outlines/camera-pair/hrri").json()
    rows, columns = np.nonzero(mask)
    assert outline["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert outline["size"] == [256, 256]


def test_a_verdict_is_written_down_and_shown_to_whoever_gave_it(client: TestClient, dataset: Path) -> None:
    answer = client.post("/review/verdicts", json={**REJECTED, "reasons": ["mask wrong", "blurred"]})
    assert answer.json()["counts"]["yours"] == 1
    (verdict,) = said(dataset)
    assert (verdict.row, verdict.rater, verdict.accepted, verdict.seconds) == ("camera-pair", "a", False, 1.5)
    assert verdict.reasons == ("blurred", "mask wrong")
    assert client.get("/review/rows/camera-pair?rater=a").json()["said"]["reasons"] == ["blurred", "mask wrong"]
    assert client.get("/review/rows/camera-pair?rater=b").json()["said"] is None
    assert client.get("/review/history?rater=a").json() == {"rows": ["camera-pair"]}
    assert client.get("/review/progress?rater=b").json()["agreement"] is None


def test_rows_are_free_when_somebody_leaves(client: TestClient) -> None:
    for rater in "ab":
        client.post("/review/rows", json={"rater": rater, "most": 9})
    assert client.post("/review/rows", json={"rater": "c", "most": 9}).json()["rows"] == []
    client.post("/review/leave", json={"rater": "a"})
    assert len(client.post("/review/rows", json={"rater": "c", "most": 9}).json()["rows"]) == 4


def test_a_mask_is_shown_first_and_kept_when_asked(client: TestClient, dataset: Path) -> None:
    before = next(read_rows(dataset / PAIRS, Pair))
    manifest = (dataset / PAIRS).read_bytes()
    shown = client.post("/review/masks", json={**MENDED, "anew": True}).json()
    assert shown["card"] is None
    assert not (dataset / CORRECTIONS).exists()
    kept = client.post("/review/masks", json={**MENDED, "anew": True, "keep": True}).json()
    assert kept["outline"] == shown["outline"]
    assert client.get(kept["card"]["pictures"][1]["outline"]).json() == kept["outline"]
    assert kept["card"]["pictures"][1]["mask_maker"] == "person"

    # Whoever reads the manifest with its corrections has the mended mask, and the manifest is as it was.
    assert (dataset / PAIRS).read_bytes() == manifest
    after = corrected(before, read_corrections(dataset))
    assert after.hrri == before.hrri
    assert after.hrgt.mask_maker == "person"
    values = load_mask(dataset, after.hrgt.mask).values
    assert after.hrgt.object_share == pytest.approx(np.mean(values >= 0.5))
    assert after.hrgt.mask != before.hrgt.mask
    # The next server shows it as well, also of the triplet that was made of the pair.
    triplet = ReviewedRows(dataset).card("camera-triplet")
    assert triplet["pictures"][1]["outline"].partition("?")[2] == after.hrgt.mask.sha256[:16]


def test_a_mask_can_be_made_without_the_old_one(client: TestClient, dataset: Path) -> None:
    pair = next(read_rows(dataset / PAIRS, Pair))
    (dataset / pair.hrgt.mask.path).unlink()
    assert "cannot be read" in client.post("/review/masks", json=MENDED).json()["error"]
    assert client.post("/review/masks", json={**MENDED, "anew": True}).status_code == 200


def test_a_mask_of_a_triplet_is_its_pairs(client: TestClient, dataset: Path) -> None:
    client.post("/review/masks", json={**MENDED, "row": "mug-triplet", "keep": True}).raise_for_status()
    assert list(read_corrections(dataset)) == [("mug-pair", "hrgt")]


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("rows", {"rater": " ", "most": 1}, "rater: A name or number"),
        ("rows", {"rater": "a", "most": 1000}, "most"),
        ("rows", {"rater": "a", "most": 1, "other": 1}, "other"),
        ("rows", {"rater": "a", "most": 1, "holding": ["../x"]}, "holding.0"),
        ("verdicts", {**ACCEPTED, "row": "nobody-pair"}, "no row 'nobody-pair'"),
        ("verdicts", {**ACCEPTED, "reasons": ["blurred"]}, "needs a reason"),
        ("verdicts", {**REJECTED, "reasons": []}, "needs a reason"),
        ("verdicts", {**REJECTED, "reasons": ["ugly"]}, "reasons.0"),
        ("verdicts", {**ACCEPTED, "seconds": -1}, "seconds"),
        ("masks", {**MENDED, "clicks": []}, "Nothing is marked"),
        ("masks", {**MENDED, "clicks": [{**CLICK, "x": 1}]}, "clicks.0.x"),
        ("masks", {**MENDED, "clicks": [CLICK, {**CLICK, "kind": "background"}]}, "object and as background"),
        ("masks", {**MENDED, "view": "lrgi"}, "view"),
        ("masks", {**MENDED, "row": "nobody-pair"}, "no row"),
    ],
)
def test_what_cannot_be_is_refused_by_one_sentence(
    client: TestClient, dataset: Path, path: str, body: dict[str, object], part: str
) -> None:
    answer = client.post(f"/review/{path}", json=body)
    assert answer.status_code == 422
    assert part in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert said(dataset) == []


@pytest.mark.parametrize(
    "path", ["pictures/camera-pair/lrgi", "pictures/camera-pair/other", "pictures/no/hrri", "outlines/camera-pair/lrgi"]
)
def test_what_is_not_there_is_told(client: TestClient, path: str) -> None:
    assert client.get(f"/review/{path}").status_code == 422


def test_a_damaged_file_is_told_and_not_sent(client: TestClient, dataset: Path) -> None:
    pair = next(read_rows(dataset / PAIRS, Pair))
    (dataset / pair.hrri.picture.path).write_bytes(b"other")
    (dataset / pair.hrgt.mask.path).unlink()
    assert "is damaged" in client.get("/review/pictures/camera-pair/hrri").json()["error"]
    assert "cannot be read" in client.get("/review/outlines/camera-pair/hrgt").json()["error"]


def test_a_full_disk_is_told_and_nothing_has_changed(client: TestClient, dataset: Path) -> None:
    (dataset / VERDICTS).mkdir()
    answer = client.post("/review/verdicts", json=ACCEPTED)
    assert answer.status_code == 500
    assert "cannot be used" in answer.json()["error"]
    assert client.get("/review/progress?rater=a").json()["counts"]["yours"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example:7860"}, 400),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_other_sites_are_kept_out(client: TestClient, dataset: Path, headers: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answer = client.post("/review/verdicts", content=json.dumps(ACCEPTED), headers=sent)
    assert answer.status_code == status
    assert len(said(dataset)) == (status == 200)


def test_nothing_but_the_review_takes_what_is_sent(client: TestClient) -> None:
    assert client.post("/gradio_api/upload", json={}).status_code == 404
    assert client.post("/review/verdicts", json={**ACCEPTED, "rater": "a" * 70_000}).status_code == 413


def test_there_is_a_key_for_each_reason() -> None:
    assert len(REASONS) <= 9
