"""Exports: read back by the libraries they are for, written again byte by byte, and gone on with after a cut."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import webdataset
from huggingface_hub import DatasetCard
from PIL import Image as PILImage

from refgc.dataset.check import check_dataset
from refgc.dataset.exports.folder import export_folder
from refgc.dataset.exports.imagecritic import NOT_KNOWN, export_imagecritic, import_imagecritic
from refgc.dataset.exports.shards import ExportResult
from refgc.dataset.exports.webdataset import export_webdataset
from refgc.dataset.manifest import PAIRS, REJECTIONS, TRIPLETS, Pair, Rejection, Triplet, read_rows, write_rows
from refgc.dataset.rows import Entry, read_entries
from refgc.dataset.split import split_dataset
from refgc.dataset.store import load_image, load_mask
from refgc.errors import InputError
from refgc.flux.instruction import INSTRUCTION, OBJECT
from tests.support.tiny_dataset import add_pair, add_triplet, add_verdict, decide, make_dataset, mend_mask

Export = Callable[..., ExportResult]
SHARDED: list[Export] = [export_webdataset, export_folder]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = make_dataset(tmp_path / "set", objects=5)
    split_dataset(root, test=0, validation=0, fixed={"o0": "test"})
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` copies what it loads into a cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples_of(folder: Path, split: str) -> list[dict[str, Any]]:
    shards = sorted(str(path) for path in folder.glob(f"{split}-*.tar"))
    return list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))


def pixels_of(content: bytes) -> np.ndarray:
    with PILImage.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_webdataset_reads_what_was_exported(dataset, tmp_path):
    result = export_webdataset(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3)
    assert (result.rows, result.written, result.kept) == ({"test": 2, "train": 8}, 4, 0)
    samples = {split: samples_of(tmp_path / "out", split) for split in ("train", "test")}
    assert {split: len(found) for split, found in samples.items()} == {"train": 8, "test": 2}
    entries = {entry.id: entry for entry in read_entries(dataset, unreviewed=True)}
    for sample in samples["train"] + samples["test"]:
        told = json.loads(sample["json"])
        entry = entries.pop(told["id"])
        assert sample["__key__"] == entry.id.replace(".", "~")
        assert Pair.model_validate(told["pair"]) == entry.pair
        assert Triplet.model_validate(told["triplet"]) == entry.triplet
        for name, file in entry.files().items():
            np.testing.assert_array_equal(pixels_of(sample[f"{name}.png"]), load_image(dataset, file).pixels)
    assert entries == {}


def test_datasets_loads_what_was_exported(dataset, tmp_path):
    result = export_folder(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3)
    assert (result.rows, result.written) == ({"test": 2, "train": 8}, 4)
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 8, "test": 2}
    entries = {entry.id: entry for entry in read_entries(dataset, unreviewed=True)}
    for row in [*loaded["train"], *loaded["test"]]:
        entry = entries.pop(row["id"])
        assert (row["object_id"], row["category"], row["licence"]) == (entry.pair.object_id, "food", "CC BY 4.0")
        assert (row["generator"], row["simulated"], row["verdict"]) == ("simulator", True, "unreviewed")
        assert Pair.model_validate(json.loads(row["row"])["pair"]) == entry.pair
        assert row["lrgi_panel"] is None
        for name, file in entry.files().items():
            np.testing.assert_array_equal(np.asarray(row[name].convert("RGB")), load_image(dataset, file).pixels)
    assert entries == {}


def test_a_dataset_without_triplets_is_exported_as_pairs(tmp_path):
    add_pair(tmp_path / "set", "p", "cup", seeds=(1, 2))
    export_webdataset(tmp_path / "set", tmp_path / "tar", unreviewed=True)
    (sample,) = samples_of(tmp_path / "tar", "unsplit")
    assert "lrgi.png" not in sample
    export_folder(tmp_path / "set", tmp_path / "folder", unreviewed=True)
    (row,) = datasets.load_dataset(str(tmp_path / "folder"))["unsplit"]
    assert (row["lrgi"], row["generator"], row["simulated"]) == (None, None, None)
    with pytest.raises(InputError, match="refgc dataset triplets"):
        export_imagecritic(tmp_path / "set", tmp_path / "critic", unreviewed=True)


def test_the_longest_id_has_its_place_in_a_tar_file(tmp_path):
    name = 120 * "x"
    add_pair(tmp_path / "set", name, "cup", seeds=(1, 2))
    export_webdataset(tmp_path / "set", tmp_path / "tar", unreviewed=True)
    (sample,) = samples_of(tmp_path / "tar", "unsplit")
    assert sample["__key__"] == name


@pytest.mark.parametrize("export", SHARDED)
def test_the_same_dataset_gives_the_same_bytes(dataset, tmp_path, export):
    for name in ("one", "two"):
        export(dataset, tmp_path / name, unreviewed=True, rows_per_shard=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("export", SHARDED)
def test_an_export_that_was_cut_off_goes_on(dataset, tmp_path, export):
    """The disk shows a damaged picture in the midst of it, which stops it as a full disk or a signal would."""
    export(dataset, tmp_path / "whole", unreviewed=True, rows_per_shard=3)
    damaged = dataset / list(read_rows(dataset / PAIRS, Pair))[6].hrri.picture.path
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:-1])
    with pytest.raises(InputError, match="is damaged"):
        export(dataset, tmp_path / "cut", unreviewed=True, rows_per_shard=3)
    assert not list(tmp_path.glob("cut/**/.refgc-*"))
    damaged.write_bytes(sound)
    result = export(dataset, tmp_path / "cut", unreviewed=True, rows_per_shard=3)
    assert (result.written, result.kept) == (3, 1)
    names = {name for name in contents(tmp_path / "whole") if not name.endswith("shards.jsonl")}
    assert {name: contents(tmp_path / "cut")[name] for name in names} == {
        name: contents(tmp_path / "whole")[name] for name in names
    }


@pytest.mark.parametrize("export", SHARDED)
def test_only_shards_with_changed_rows_are_written_again(dataset, tmp_path, export):
    export(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3)
    assert export(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3).written == 0
    decide(dataset, "t4.1", True)
    result = export(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3)
    assert (result.written, result.kept) == (1, 3)


@pytest.mark.parametrize("export", SHARDED)
def test_shards_of_rows_that_are_gone_are_removed(dataset, tmp_path, export):
    export(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3)
    rows = [triplet for triplet in read_rows(dataset / TRIPLETS, Triplet) if not triplet.id.startswith("t4")]
    write_rows(dataset / TRIPLETS, rows)
    for path in tmp_path.glob("out/**/train-000001.*"):
        path.write_bytes(b"damaged")
    result = export(dataset, tmp_path / "out", unreviewed=True, rows_per_shard=3)
    assert (result.rows, result.written) == ({"test": 2, "train": 6}, 1)
    found = {path.name.partition(".")[0] for path in tmp_path.glob("out/**/*-0*")}
    assert found == {"test-000000", "train-000000", "train-000001"}


def test_what_people_rejected_or_dispute_is_left_out(dataset, tmp_path):
    for row, accepted in {"p1.0": True, "t1.1": True, "p2.0": False, "p4.0": True, "t4.0": False}.items():
        decide(dataset, row, accepted)
    # A dispute, and a row that one person alone has looked at.
    for row, rater, accepted in (("t3.0", "ann", True), ("t3.0", "bob", False), ("p0.0", "ann", True)):
        add_verdict(dataset, row, rater, accepted)
    decisions = {entry.id: entry.decision for entry in read_entries(dataset, unreviewed=False)}
    assert decisions == {"t1.0": "accepted", "t1.1": "accepted"}
    taken = {entry.id for entry in read_entries(dataset, unreviewed=True)}
    assert taken == {f"t{which}.{number}" for which in range(5) for number in range(2)} - {"t2.0", "t3.0", "t4.0"}
    assert export_webdataset(dataset, tmp_path / "out").rows == {"train": 2}


EXPORTS: list[Export] = [export_webdataset, export_folder, export_imagecritic]


def test_every_export_has_the_mended_masks(dataset, tmp_path):
    for export in EXPORTS:
        export(dataset, tmp_path / export.__name__, unreviewed=True)
    mended = mend_mask(dataset, "p0.0", "hrgt", 20)
    for export in EXPORTS:
        # Nothing but what holds the row is written again.
        assert export(dataset, tmp_path / export.__name__, unreviewed=True).written == 1
    wanted = (dataset / mended.mask.path).read_bytes()
    sample = next(one for one in samples_of(tmp_path / "export_webdataset", "test") if one["__key__"] == "t0~0")
    assert sample["hrgt_mask.png"] == wanted
    assert json.loads(sample["json"])["pair"]["hrgt"]["mask_maker"] == "person"
    assert (tmp_path / "export_imagecritic" / "open_dataset" / "t0.0" / "mask.png").read_bytes() == wanted
    rows = datasets.load_dataset(str(tmp_path / "export_folder"), split="test")
    (mask,) = (row["hrgt_mask"] for row in rows if row["id"] == "t0.0")
    assert (np.array(mask)[:, :20] == 255).all()
    assert (np.array(mask)[:, 20:] == 0).all()
    # Pairs alone, without triplets.
    (dataset / TRIPLETS).unlink()
    pair = next(entry.pair for entry in read_entries(dataset, unreviewed=True) if entry.id == "p0.0")
    assert pair.hrgt.mask == mended.mask


@pytest.mark.parametrize("export", EXPORTS)
def test_nothing_is_exported_of_a_dataset_that_nobody_reviewed(dataset, tmp_path, export):
    with pytest.raises(InputError, match=r"10 unreviewed\).*--unreviewed"):
        export(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export", EXPORTS)
def test_a_triplet_without_its_pair_is_told(dataset, tmp_path, export):
    add_triplet(dataset, "lost", "nowhere", seed=6)
    with pytest.raises(InputError, match="'nowhere'"):
        export(dataset, tmp_path / "out", unreviewed=True)


@pytest.mark.parametrize("export", EXPORTS)
def test_an_output_that_is_a_file_is_told(dataset, tmp_path, export):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        export(dataset, tmp_path / "out", unreviewed=True)


def test_the_card_counts_and_cannot_be_spoilt_by_names(dataset, tmp_path):
    pairs = list(read_rows(dataset / PAIRS, Pair))
    evil = pairs[2].source.model_copy(update={"name": "x | y\n\n# <script>", "licence": "CC BY-NC 4.0"})
    pairs[2] = pairs[2].model_copy(update={"source": evil})
    write_rows(dataset / PAIRS, pairs)
    export_folder(dataset, tmp_path / "out", unreviewed=True)
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "other"
    assert [one["split"] for one in card.data.configs[0]["data_files"]] == ["test", "train"]
    assert "**100.0% of the LRGIs are simulated**" in card.text
    assert "| CC BY 4.0 | 9 | 90.0% |" in card.text
    assert "\n# <script>" not in card.text
    assert "x \\| y \\# \\<script\\>" in card.text
    assert "10 rows on 5 objects" in card.text


def test_imagecritic_finds_its_files_where_it_looks(dataset, tmp_path):
    result = export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    assert (result.rows, result.written) == ({"test": 2, "train": 8}, 10)
    lines = {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}_metadata.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    }
    assert [len(found) for found in lines.values()] == [8, 2]
    entries = {entry.id: entry for entry in read_entries(dataset, unreviewed=True)}
    for line in lines["train"] + lines["test"]:
        entry = entries.pop(Path(line["target"]).parent.name)
        files = entry.files()
        for column, name in (("A_image", "hrri"), ("B_image", "lrgi"), ("target", "hrgt"), ("mask", "hrgt_mask")):
            content = (tmp_path / "out" / line[column]).read_bytes()
            np.testing.assert_array_equal(pixels_of(content), load_image(dataset, files[name]).pixels)
        assert (tmp_path / "out" / line["image_shape"]).read_text().split() == ["64", "64"]
        assert line["caption"] == INSTRUCTION.replace(OBJECT, entry.pair.object_name)
        assert (tmp_path / "out" / line["target"]).with_name("prompt.txt").read_text() == line["caption"]
    assert entries == {}


def test_an_imagecritic_export_goes_on_sample_by_sample(dataset, tmp_path):
    export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "open_dataset" / "t1.0" / "prompt.txt").unlink()
    (tmp_path / "out" / "open_dataset" / "t1.0" / "mask.png").unlink()
    shutil.rmtree(tmp_path / "out" / "open_dataset" / "t2.0")
    result = export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    assert (result.written, result.kept) == (2, 8)
    assert contents(tmp_path / "out") == before


def test_imagecritic_samples_come_back_as_rows(dataset, tmp_path):
    export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    again = tmp_path / "again"
    result = import_imagecritic(tmp_path / "out", again)
    assert (result.added, result.known, result.refused) == (10, 0, 0)
    assert check_dataset(again).sound
    originals = list(read_entries(dataset, unreviewed=True))
    for old, new in zip(originals, sorted_by_frame(read_entries(again, unreviewed=True)), strict=True):
        for name in ("hrri", "hrgt", "lrgi"):
            assert new.files()[name].sha256 == old.files()[name].sha256
        np.testing.assert_array_equal(
            load_mask(again, new.pair.hrgt.mask).values, load_mask(dataset, old.pair.hrgt.mask).values
        )
        assert new.pair.object_name == old.pair.object_name
        assert (new.pair.category, new.pair.source.licence, new.pair.hrri.mask_maker) == ("other", None, "none")
        assert load_mask(again, new.pair.hrri.mask).values.min() == 1
    assert "licence" in NOT_KNOWN
    before = contents(again)
    assert import_imagecritic(tmp_path / "out", again).known == 10
    assert contents(again) == before


def sorted_by_frame(entries: Any) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.pair.hrri.frame)


def test_an_import_goes_on_after_a_pair_without_its_triplet(dataset, tmp_path):
    export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    import_imagecritic(tmp_path / "out", tmp_path / "again")
    whole = (tmp_path / "again" / TRIPLETS).read_bytes()
    write_rows(tmp_path / "again" / TRIPLETS, list(read_rows(tmp_path / "again" / TRIPLETS, Triplet))[:-1])
    result = import_imagecritic(tmp_path / "out", tmp_path / "again")
    assert (result.added, result.known) == (1, 9)
    assert (tmp_path / "again" / TRIPLETS).read_bytes() == whole
    assert check_dataset(tmp_path / "again").sound


def test_samples_of_one_reference_are_of_one_object(dataset, tmp_path):
    export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    samples = tmp_path / "out" / "open_dataset"
    shutil.copy(samples / "t1.0" / "product.png", samples / "t2.0" / "product.png")
    import_imagecritic(samples, tmp_path / "again")
    assert len({pair.object_id for pair in read_rows(tmp_path / "again" / PAIRS, Pair)}) == 9


def test_bad_samples_are_told_once_and_stop_nothing(dataset, tmp_path):
    export_imagecritic(dataset, tmp_path / "out", unreviewed=True)
    samples = tmp_path / "out" / "Critic-10K"
    (tmp_path / "out" / "open_dataset").rename(samples)
    (samples / "t0.0" / "product.png").write_text("no picture")
    (samples / "t0.1" / "mask.png").unlink()
    PILImage.new("L", (64, 64)).save(samples / "t1.0" / "mask.png")
    (samples / "t1.1" / "prompt.txt").write_bytes(b"\xff\xfe\xff")
    (samples / "t2.0" / "prompt.txt").write_text("make it nice")
    (samples / "t2.1" / "prompt.txt").unlink()
    for _ in range(2):
        result = import_imagecritic(tmp_path / "out", tmp_path / "again")
        assert result.refused == 4
        rejections = list(read_rows(tmp_path / "again" / REJECTIONS, Rejection))
        assert [one.what for one in rejections] == ["t0.0", "t0.1", "t1.0", "t1.1"]
    names = [entry.pair.object_name for entry in sorted_by_frame(read_entries(tmp_path / "again", unreviewed=True))]
    assert names == ["object", "object", "o3 cup", "o3 cup", "o4 cup", "o4 cup"]


def test_a_folder_without_samples_is_told(tmp_path):
    with pytest.raises(InputError, match=r"has no samples.*product\.png"):
        import_imagecritic(tmp_path, tmp_path / "again")
    assert not (tmp_path / "again").exists()
