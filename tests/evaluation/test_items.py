"""What methods are compared on: datasets, frozen sets and pairs, read and opened once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.dataset.split import split_dataset
from refgc.dataset.testset import freeze_test_split, freeze_wild
from refgc.errors import InputError
from refgc.evaluation.items import Collection, fitted, open_pictures, read_items
from refgc.imaging.image import Image
from tests.evaluation.support import evaluated_set
from tests.support.tiny_dataset import drawn, make_dataset


def save(path: Path, seed: int, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(drawn(seed, side).pixels).save(path)


def ids(collection: Collection) -> list[str]:
    return [item.id for item in collection.items]


def test_a_dataset_gives_the_triplets_of_its_test_split(tmp_path):
    root = make_dataset(tmp_path / "set", objects=3)
    split_dataset(root, test=0, validation=0, fixed={"o1": "test"})
    found = read_items(root, unreviewed=True)
    assert (ids(found), found.kind, found.name) == (["t1.0", "t1.1"], "dataset, split test", "set")
    assert found.items[0].object_id == "o1"
    pictures = open_pictures(found.items[0])
    assert (pictures.lrgi.size, pictures.size, pictures.scale) == ((16, 16), (64, 64), 4)
    assert pictures.hrgt_mask is not None
    assert len(ids(read_items(root, unreviewed=True, split="all"))) == 6
    with pytest.raises(InputError, match="split validation that may be used, but of test, train"):
        read_items(root, unreviewed=True, split="validation")
    with pytest.raises(InputError, match="--unreviewed"):
        read_items(root)


def test_a_frozen_set_gives_the_same_items(tmp_path):
    root = evaluated_set(tmp_path / "set")
    freeze_test_split(root, tmp_path / "frozen", unreviewed=True)
    frozen = read_items(tmp_path / "frozen")
    assert frozen.sha256 == read_items(root, unreviewed=True).sha256
    assert frozen.with_truth == len(frozen.items) == 6


def test_a_customised_picture_has_no_truth_pixel_by_pixel(tmp_path):
    for task in ("compositing", "customisation"):
        for name, seed, side in (("hrri", 1, 64), ("lrgi", 2, 16), ("hrgt", 3, 64)):
            save(tmp_path / "pictures" / "DreamFuse" / task / "1" / f"{name}.png", seed, side)
    freeze_wild(tmp_path / "pictures", tmp_path / "out")
    assert read_items(tmp_path / "out").with_truth == 1
    (customised,) = read_items(tmp_path / "out", task="customisation").items
    assert customised.hrgt is None
    assert open_pictures(customised).size == (64, 64)


def test_pairs_in_the_wild_have_no_truth_and_bad_ones_are_kept_apart(tmp_path):
    save(tmp_path / "photo.png", 1)
    for number in (1, 2):
        save(tmp_path / f"scene {number}.png", number + 1, 16)
    rows = [
        {"reference": "photo.png", "generated": "scene 1.png", "object": "cup"},
        {"reference": "photo.png", "generated": "scene 2.png", "output": "../../else/we.png"},
        {"reference": "photo.png", "generated": "gone.png"},
        {"reference": "photo.png", "generated": "scene 1.png", "output": "two.png", "reference_2": "scene 2.png"},
        {"reference": "photo.png"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # A file of this name is a dataset's manifest only where it stands in a folder that is given.
    found = read_items(tmp_path / "pairs.jsonl")
    assert ids(found) == ["-..-else-we", "scene 1"]
    assert len({item.object_id for item in found.items}) == 1
    assert found.with_truth == 0
    assert [one.id for one in found.bad] == ["line 3", "line 4", "line 5"]
    assert "gone.png" in found.bad[0].reason
    assert "further references" in found.bad[1].reason
    with pytest.raises(InputError, match="how its pictures were generated"):
        read_items(tmp_path / "pairs.jsonl", task="compositing")


def test_in_a_folder_of_pairs_the_truth_lies_beside_the_reference(tmp_path):
    for name, truth, mask in (("cup", "hrgt.png", "hrgt_mask.png"), ("jug", "HRGT.PNG", None), ("pan", None, None)):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "hrri.png", 1)
        save(tmp_path / name / "lrgi.png", 2, 16)
        for file in (truth, mask):
            if file is not None:
                save(tmp_path / name / file, 3)
    save(tmp_path / "mug_reference.png", 4)
    save(tmp_path / "mug_generated.png", 5, 16)
    save(tmp_path / "mug_hrgt.png", 6)
    found = read_items(tmp_path)
    assert (found.kind, found.with_truth) == ("pairs with their truth", 3)
    assert {item.id: (item.hrgt is not None, item.hrgt_mask is not None) for item in found.items} == {
        "cup": (True, True),
        "jug": (True, False),
        "mug": (True, False),
        "pan": (False, False),
    }
    save(tmp_path / "pan" / "hrgt.png", 3)
    save(tmp_path / "pan" / "hrgt.webp", 3)
    assert "2 files called hrgt" in read_items(tmp_path).bad[0].reason


def test_a_long_id_is_cut_where_its_file_would_have_too_long_a_name(tmp_path):
    name = "景" * 80
    save(tmp_path / "photo.png", 1)
    save(tmp_path / f"{name}.png", 2, 16)
    row = {"reference": "photo.png", "generated": f"{name}.png"}
    (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
    (item,) = read_items(tmp_path / "list.jsonl").items
    assert item.id == "景" * 66


def test_nothing_to_run_on_is_told(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"reference": "a.png", "generated": "b.png"}\n')
    with pytest.raises(InputError, match="nothing that a method can be run on; the first: line 1"):
        read_items(tmp_path / "list.jsonl")
    with pytest.raises(InputError, match="cannot be found"):
        read_items(tmp_path / "gone")


def test_a_dataset_of_pairs_alone_is_told(tmp_path):
    root = make_dataset(tmp_path / "set")
    (root / "triplets.jsonl").unlink()
    with pytest.raises(InputError, match="refgc dataset triplets"):
        read_items(root, unreviewed=True, split="all")


def test_a_damaged_picture_is_seen(tmp_path):
    root = evaluated_set(tmp_path / "set")
    item = read_items(root, unreviewed=True).items[0]
    item.lrgi.path.write_bytes(item.lrgi.path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"The LRGI .* is damaged"):
        open_pictures(item)
    item.lrgi.path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        open_pictures(item)


@pytest.mark.parametrize(
    ("size", "part"),
    [((80, 80), "80x80 pixels, more than the HRGT's 64x64"), ((16, 20), "16x20 pixels and the HRGT 64x64")],
)
def test_an_lrgi_that_does_not_fit_its_truth_is_refused(tmp_path, size, part):
    (tmp_path / "cup").mkdir()
    for number, name in enumerate(("hrri", "lrgi", "hrgt")):
        save(tmp_path / "cup" / f"{name}.png", number)
    PILImage.fromarray(drawn(1).pixels).resize(size).save(tmp_path / "cup" / "lrgi.png")
    (item,) = read_items(tmp_path).items
    with pytest.raises(InputError, match=part):
        open_pictures(item)


def test_results_are_brought_to_the_truths_size_and_another_frame_is_refused():
    picture = drawn(1, 32)
    assert fitted(picture, (32, 32)) is picture
    assert fitted(Image(np.full((32, 32, 3), 77, np.uint8)), (64, 64)).pixels.tolist() == [[[77] * 3] * 64] * 64
    with pytest.raises(InputError, match="32x32 pixels and should be 64x32"):
        fitted(picture, (64, 32))
