"""The folder of a study: pictures that say nothing of their origin, checks, and inputs that are refused."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.errors import InputError
from refgc.study.definition import PICTURES, RIGHT, STUDY, read_study, write_study
from refgc.study.prepare import degraded, prepare_study
from tests.support.review_dataset import make_dataset
from tests.support.study import METHODS, draw_inputs, make_study


def chunks(png: bytes) -> list[bytes]:
    """Kinds of the chunks of a PNG."""
    found, place = [], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append(png[place + 4 : place + 8])
        place += length + 12
    return found


def test_pictures_have_neutral_names_and_no_metadata(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    source = (tmp_path / "ours" / "scene-0.png").read_bytes()
    assert b"tEXt" in chunks(source)
    files = list((tmp_path / "study" / PICTURES).iterdir())
    assert files
    for file in files:
        assert re.fullmatch(r"[0-9a-f]{32}\.png", file.name)
        content = file.read_bytes()
        assert set(chunks(content)) <= {b"IHDR", b"IDAT", b"IEND", b"iCCP", b"sRGB"}
        assert not any(name.encode() in content for name in METHODS)
    item = study.items[0]
    for method in METHODS:
        with PILImage.open(tmp_path / method / f"{item.id}.png") as made:
            expected = np.asarray(made.convert("RGB"))
        with PILImage.open(tmp_path / "study" / PICTURES / item.choices[method].file) as shown:
            assert np.array_equal(np.asarray(shown), expected)
    assert read_study(tmp_path / "study") == study


def test_checks_have_one_evident_choice_and_are_not_asked_otherwise(tmp_path: Path) -> None:
    study = make_study(tmp_path, checks=3)
    assert (len(study.items), len(study.checks)) == (4, 3)
    for check in study.checks:
        assert len(check.choices) == len(METHODS)
        pixels = {}
        for name, picture in check.choices.items():
            with PILImage.open(tmp_path / "study" / PICTURES / picture.file) as opened:
                pixels[name] = np.asarray(opened).astype(float)
        right = pixels.pop(RIGHT)
        assert all(np.abs(other - right).mean() > 15 for other in pixels.values())
        assert check.id.startswith("check:")


def test_a_degraded_copy_has_lost_its_detail() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8).repeat(4), (256, 32))[..., None].repeat(3, 2)
    for number in range(8):
        copy = degraded(stripes, number).astype(float)
        assert copy.shape == stripes.shape
        # Of stripes of 4 pixels nothing is left but noise.
        assert np.corrcoef(copy.ravel(), stripes.ravel())[0, 1] < 0.3


def test_the_truth_is_the_right_choice_where_it_is_known(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "dataset", ("camera", "mug"), side=256)
    for method in ("a", "b"):
        (tmp_path / method).mkdir()
        for product in ("camera", "mug"):
            grey = PILImage.new("RGB", (256, 256), "grey" if method == "a" else "white")
            grey.save(tmp_path / method / f"{product}-triplet.png")
    folders = {"a": tmp_path / "a", "b": tmp_path / "b"}
    study = prepare_study(tmp_path / "study", root, folders, checks=1, split="all", unreviewed=True)
    with PILImage.open(tmp_path / "study" / PICTURES / study.checks[0].choices[RIGHT].file) as opened:
        assert np.asarray(opened).std() > 10


def test_what_cannot_be_a_study_is_refused(tmp_path: Path) -> None:
    folders = draw_inputs(tmp_path, items=4)

    def refused(**options: object) -> str:
        given = {"folder": tmp_path / "study", "source": tmp_path / "items", "methods": folders, **options}
        with pytest.raises(InputError) as caught:
            prepare_study(**given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "2 to 9 methods; 1 are given" in refused(methods={"ours": folders["ours"]})
    assert "4 items, of which 4 become checks" in refused(checks=4)
    assert "give at most so many" in refused(items_per_rater=3)
    assert "does not exist" in refused(methods={**folders, "gone": tmp_path / "gone"})
    for name in ("no difference", "x" * 61, "two\nlines", ""):
        assert "A method cannot be called" in refused(methods={name: folders["ours"], "rival": folders["rival"]})
    assert "The title has 0 characters" in refused(title="")
    assert "The title has 201 characters" in refused(title="x" * 201)
    assert not (tmp_path / "study").exists()
    (folders["rival"] / "scene-2.png").write_bytes(b"no picture")
    assert "scene-2: " in refused(checks=0)
    (folders["rival"] / "scene-2.png").unlink()
    assert "has no result called scene-2" in refused(checks=0)
    PILImage.new("RGB", (64, 32)).save(folders["rival"] / "scene-2.png")
    assert "another aspect ratio" in refused(checks=0)
    assert not (tmp_path / "study" / STUDY).exists()


def test_an_item_may_be_called_as_a_check_is(tmp_path: Path) -> None:
    folders = draw_inputs(tmp_path, items=3)
    for place in (tmp_path / "items" / "scene-0", *(folder / "scene-0.png" for folder in folders.values())):
        place.rename(place.with_name(f"check-1{place.suffix}"))
    ids = {
        item.id
        for seed in range(4)
        for item in prepare_study(tmp_path / f"study-{seed}", tmp_path / "items", folders, seed=seed, checks=1).items
    }
    assert "check-1" in ids


def test_a_study_is_not_made_over_another_and_its_file_is_checked(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    with pytest.raises(InputError, match="has a study already"):
        prepare_study(tmp_path / "study", tmp_path / "items", {name: tmp_path / name for name in METHODS})
    place = tmp_path / "study" / STUDY
    told = json.loads(place.read_text())
    changes: list[tuple[dict[str, object], str]] = [
        ({"methods": ["ours", "ours", "rival", "other"]}, "two methods have one name"),
        ({"items_per_rater": 99}, "more than there are items"),
        ({"methods": ["ours", "lanczos", "rival"]}, "not exactly one result of each method"),
        ({"surprise": 1}, "surprise"),
    ]
    for change, part in changes:
        place.write_text(json.dumps({**told, **change}))
        with pytest.raises(InputError, match=part):
            read_study(tmp_path / "study")
    with pytest.raises(InputError, match="is no study; make one with"):
        read_study(tmp_path)
    # Texts may be mended while it runs, and what was asked may not.
    assert study.model_copy(update={"title": "Other", "consent": "Other"}).digest == study.digest
    assert study.model_copy(update={"seed": 1}).digest != study.digest
    write_study(tmp_path / "study", study)
    assert read_study(tmp_path / "study") == study
