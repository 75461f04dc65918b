"""The page's endpoints, called by Gradio's own client over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status

from refgc import refine
from refgc.diptych.preview_report import PreviewReport
from refgc.engine import EngineName, Progress, RefineResult, Report, Viewer
from refgc.imaging.profiles import icc_profile
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.service.gpu import refine_with
from refgc.page.service.runs import Service
from refgc.request import MAX_OBJECT_NAME, RefineRequest
from refgc.settings import Settings
from tests.page.service.test_guard import bomb
from tests.support.running import Served, served
from tests.support.synthetic import make_synthetic_pair

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")


# Objects of these names are refined in another way.
BROKEN, ENDLESS = "a broken object", "an endless object"


@pytest.fixture(scope="module")
def ended() -> Event:
    """Set when the work on an endless object has ended."""
    return Event()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, ended: Event) -> Iterator[Served]:
    def refined(engine: EngineName, request: RefineRequest, progress: Progress, viewer: Viewer) -> RefineResult:
        if request.object_name == BROKEN:
            raise RuntimeError("secret detail")
        if request.object_name == ENDLESS:
            try:
                while True:
                    time.sleep(0.05)
                    progress("matching", 0.5)
            finally:
                ended.set()
        return refine_with(engine, request, progress, viewer)

    service = Service(Settings(), refine_with=refined)
    with served(tmp_path_factory.mktemp("site") / "uploads", lambda: service) as running:
        yield running


@pytest.fixture(scope="module")
def client(site: Served, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(site.address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pair")
    drawn = make_synthetic_pair(reference_side=320, generated_side=96)
    PIL.Image.fromarray(drawn.reference).save(folder / "reference.png")
    PIL.Image.fromarray(drawn.generated).save(folder / "generated.png")
    return {name: handle_file(folder / f"{name}.png") for name in ("reference", "generated")}


# --- what a caller is told ------------------------------------------------------------------------------------------


def test_only_the_three_endpoints_are_offered(site: Served) -> None:
    for route in ("/gradio_api/info", "/gradio_api/info?all_endpoints=true"):
        offered = site.get(route).json()
        assert list(offered["named_endpoints"]) == ["/refine", "/preview", "/examples"]
        assert offered["unnamed_endpoints"] == {}


def test_every_parameter_and_result_has_a_type_and_a_description(client: Client) -> None:
    offered = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for endpoint in offered.values():
        assert len(endpoint["description"]) > 40
        for told in (*endpoint["parameters"], *endpoint["returns"]):
            assert told["python_type"]["type"] not in ("", "Any")
            assert len(told["python_type"]["description"]) > 10
            assert told["label"][0].isupper()
    parameters = {told["parameter_name"]: told for told in offered["/refine"]["parameters"]}
    needed = [name for name, told in parameters.items() if not told["parameter_has_default"]]
    assert needed == ["reference", "generated"]
    assert set(parameters) == {
        *("reference", "generated", "scale", "strength", "seed"),
        *("reference_mask", "generated_mask", "object_name", "engine", "surroundings", "profile", "bits"),
        "further_references",
    }
    assert list(parameters)[-1] == "further_references"

    assert parameters["reference"]["python_type"]["type"] == "filepath"
    assert parameters["engine"]["python_type"]["type"] == "Literal['auto', 'correspondence', 'diffusion']"


@pytest.mark.parametrize(("endpoint", "model"), [("/refine", Report), ("/preview", PreviewReport)])
def test_the_report_is_documented_field_by_field(endpoint: str, model: Any, site: Served) -> None:
    report = site.get("/gradio_api/info").json()["named_endpoints"][endpoint]["returns"][-1]["type"]
    assert list(report["properties"]) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert field.description is None or report["properties"][name]["description"] == field.description


# --- examples -------------------------------------------------------------------------------------------------------


def test_examples_can_be_fetched_and_given_back_by_their_addresses(client: Client, site: Served) -> None:
    listed = client.predict(api_name="/examples")
    assert [one["name"] for one in listed] == [one.name for one in find_examples(EXAMPLES_FOLDER)]
    mug = next(one for one in listed if one["name"] == "mug")
    assert mug["title"] == "Coffee mug"
    for name, file in {"reference": "hrri.jpg", "generated": "lrgi.png", "scene_mask": "hrgt_mask.png"}.items():
        assert mug[name].startswith(site.address)
        assert site.client.get(mug[name]).content == (EXAMPLES_FOLDER / "mug" / file).read_bytes()
    masks = {"reference_mask": handle_file(mug["reference_mask"]), "generated_mask": handle_file(mug["scene_mask"])}
    given = {"reference": handle_file(mug["reference"]), "generated": handle_file(mug["generated"])}
    picture, report = client.predict(**given, **masks, scale=2, object_name="mug", api_name="/refine")
    assert PIL.Image.open(picture).size == tuple(report["output_size"]) == (512, 512)
    assert report["placed"]


# --- refine ---------------------------------------------------------------------------------------------------------


def test_refining_gives_the_picture_and_the_report_of_the_library(client: Client, pair: dict[str, Any]) -> None:
    asked = {**pair, "scale": 2, "strength": 0.5, "seed": 7, "engine": "correspondence"}
    picture, told = client.predict(**asked, api_name="/refine")
    expected = refine(pair["reference"]["path"], pair["generated"]["path"], scale=2, strength=0.5, seed=7)
    with PIL.Image.open(picture) as opened:
        assert opened.format == "PNG"
        np.testing.assert_array_equal(np.asarray(opened), expected.image.pixels)
        assert told["message"] in "".join(map(str, opened.info.values()))
    report = Report.model_validate(told)
    assert report.model_copy(update={"seconds": {}}) == expected.report.model_copy(update={"seconds": {}})


def test_more_photos_of_the_object_are_taken(client: Client, pair: dict[str, Any], tmp_path: Path) -> None:
    other = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    PIL.Image.fromarray(other).resize((200, 200)).save(tmp_path / "other.png")
    photos = [handle_file(tmp_path / "other.png"), pair["reference"]]
    given = {"reference": photos[0], "generated": pair["generated"], "further_references": [photos[1]], "scale": 1}
    _, told = client.predict(**given, api_name="/refine")
    assert told["references_used"] == [2]
    assert told["warnings"] == ["unplaced_1"]


def test_a_transparent_picture_keeps_its_transparency_and_comes_in_the_profile_and_bits_asked_for(
    client: Client, pair: dict[str, Any], tmp_path: Path
) -> None:
    with PIL.Image.open(pair["generated"]["path"]) as picture:
        levels = np.dstack([np.asarray(picture.convert("RGB")), np.full(picture.size[::-1], 255, np.uint8)])
    levels[:, :10, 3] = 0
    PIL.Image.fromarray(levels).save(tmp_path / "cut-out.png")
    given = {**pair, "generated": handle_file(tmp_path / "cut-out.png"), "scale": 2, "strength": 0.5}
    picture, _ = client.predict(**given, profile="display-p3", bits=16, api_name="/refine")
    deep = cv2.imread(picture, cv2.IMREAD_UNCHANGED)
    assert (deep.dtype, deep.shape[2]) == (np.uint16, 4)
    assert (deep[:, :16, 3] == 0).all()
    assert (deep[:, 24:, 3] == 65_535).all()
    with PIL.Image.open(picture) as opened:
        assert opened.info["icc_profile"] == icc_profile("display-p3")


def test_the_stages_are_told_on_the_way(client: Client, pair: dict[str, Any]) -> None:
    job = client.submit(**pair, seed=11, api_name="/refine")
    picture, report = job.result(timeout=120)
    *before, last = job.outputs()
    assert last == (picture, report)
    assert before
    for nothing, progress in before:
        assert nothing is None
        assert set(progress) == {"stage", "fraction"}
    assert len({progress["stage"] for _, progress in before}) > 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"scale": 3}, "The scale is 3; choose 1, 2 or 4."),
        ({"scale": "large"}, "The scale is 'large'; give a whole number."),
        ({"strength": 1.5}, "The strength is 1.5; choose a number from 0 to 1."),
        ({"seed": -1}, "The seed is -1; choose a whole number from 0 to 9223372036854775807."),
        ({"object_name": "x" * 300}, f"shorten it to at most {MAX_OBJECT_NAME} characters."),
        ({"object_name": "a\nb"}, "The object name has a line break or another control character"),
        ({"profile": "adobe"}, "There is no profile called 'adobe'; use srgb or display-p3."),
        ({"bits": 12}, "The number of bits is 12; choose 8 or 16."),
        ({"engine": "magic"}, "There is no engine called 'magic'; use auto, correspondence or diffusion."),
        ({"surroundings": "lovely"}, "There is no kind of surroundings called 'lovely'; use plain, fast or best."),
        ({"further_references": [None]}, "There is no reference 2; upload the picture"),
        ({"further_references": ["/etc/passwd"]}, "The reference 2 cannot be used: a picture was not uploaded here;"),
        ({"further_references": "/etc/passwd"}, "The further references are no list; give a list"),
        ({"further_references": [None] * 4}, "There are 5 references; give one to 4 photos of the object."),
        ({"reference": None}, "There is no reference; upload the picture and give what the upload answers."),
        ({"generated": {"path": 5}}, "There is no generated picture; upload the picture"),
        ({"reference": "/etc/passwd"}, "The reference cannot be used: a picture was not uploaded here;"),
        (
            {"generated_mask": "https://example.com/mask.png"},
            "The generated mask cannot be used: a picture is",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(
    changed: dict[str, Any], sentence: str, client: Client, pair: dict[str, Any]
) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(**{**pair, **changed}, api_name="/refine")
    assert sentence in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_is_refused_before_anything_runs(client: Client, pair: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="this server fetches none; download it and upload the file"):
        client.predict(**{**pair, "reference": handle_file("https://example.com/a.png")}, api_name="/refine")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (bomb(20_000), "more than 64 megapixels"),
        (b"not a picture", "is not a picture that can be read"),
        (b"", "is empty"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not a picture that can be read"),
    ],
)
def test_a_file_that_is_no_usable_picture_is_told(
    content: bytes, sentence: str, client: Client, pair: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    begun = time.monotonic()
    for given in ({"reference": handle_file(file)}, {"further_references": [handle_file(file)]}):
        with pytest.raises(AppError, match=sentence):
            client.predict(**{**pair, **given}, api_name="/refine")
    assert time.monotonic() - begun < 30


def test_a_fault_of_ours_is_told_without_its_details(client: Client, pair: dict[str, Any]) -> None:
    with pytest.raises(AppError, match="Something went wrong on our side") as caught:
        client.predict(**pair, object_name=BROKEN, api_name="/refine")
    assert "secret" not in str(caught.value)


def test_cancelling_ends_the_work(client: Client, pair: dict[str, Any], ended: Event) -> None:
    ended.clear()
    job = client.submit(**pair, object_name=ENDLESS, api_name="/refine")
    wait_for(lambda: job.status().code == Status.ITERATING)
    job.cancel()
    assert ended.wait(60)


def test_a_client_that_goes_ends_the_work(site: Served, pair: dict[str, Any], ended: Event) -> None:
    ended.clear()
    event = site.post("/gradio_api/call/v2/refine", json={**files(site, pair), "object_name": ENDLESS}).json()
    with site.client.stream("GET", f"{site.address}/gradio_api/call/v2/refine/{event['event_id']}") as stream:
        assert next(stream.iter_lines()) == "event: generating"
    assert ended.wait(60)


def files(site: Served, pair: dict[str, Any]) -> dict[str, Any]:
    """The pair, uploaded, as plain HTTP names it."""
    return {name: {"path": site.upload(f"{name}.png", Path(file["path"]).read_bytes())} for name, file in pair.items()}


def wait_for(condition: Any, seconds: float = 60) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def test_a_call_by_plain_http(site: Served, pair: dict[str, Any]) -> None:
    event = site.post("/gradio_api/call/v2/refine", json={**files(site, pair), "scale": 1}).json()["event_id"]
    lines = site.get(f"/gradio_api/call/v2/refine/{event}").text.splitlines()
    last = lines.index("event: complete") + 1
    picture, report = json.loads(lines[last].removeprefix("data: "))
    assert report["output_size"] == [96, 96]
    assert site.client.get(picture["url"]).headers["content-type"] == "image/png"


# --- preview --------------------------------------------------------------------------------------------------------


def test_a_preview_goes_on_to_a_refinement(client: Client) -> None:
    folder = EXAMPLES_FOLDER / "paperback"
    *files, told = client.predict(
        handle_file(folder / "hrri.jpg"),
        handle_file(folder / "hrgt.jpg"),
        reference_mask=handle_file(folder / "hrri_mask.png"),
        scene_mask=handle_file(folder / "hrgt_mask.png"),
        object_name="book",
        texture_loss=0.9,
        api_name="/preview",
    )
    report = PreviewReport.model_validate(told)
    assert report.simulated
    assert report.artifacts is not None
    sizes = [PIL.Image.open(file).size for file in files]
    assert sizes == [report.generated_size, report.reference_size, report.truth_size, report.truth_size]
    generated, reference_mask, generated_mask, _ = (handle_file(file) for file in files)
    masks = {"reference_mask": reference_mask, "generated_mask": generated_mask}
    picture, refined = client.predict(handle_file(folder / "hrri.jpg"), generated, **masks, api_name="/refine")
    assert refined["placed"]
    assert PIL.Image.open(picture).size == report.truth_size


def test_a_preview_tells_what_cannot_be_used(client: Client, pair: dict[str, Any]) -> None:
    for changed, sentence in (({"factor": 3}, "The factor is 3"), ({"texture_loss": 2}, "texture")):
        with pytest.raises(AppError, match=sentence):
            client.predict(pair["reference"], pair["generated"], **changed, api_name="/preview")
