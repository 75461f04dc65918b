"""What a source is taken to hold, and with which sentence a bad one ends."""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest

from refgc.dataset.settings import PairSettings, TripletSettings, read_pair_settings, read_triplet_settings
from refgc.dataset.sources import Video, find_objects, needed_bytes, object_id
from refgc.errors import InputError
from tests.dataset.support import write_photo

SETTINGS = PairSettings()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two objects in DreamBooth's layout."""
    for name in ("shoe/00.jpg", "shoe/01.jpg", "red mug/00.jpg", "red mug/01.jpg"):
        write_photo(tmp_path / name)
    write_photo(tmp_path / "shoe" / "00_mask.png")
    return tmp_path


def test_folders_of_photos_are_objects_and_masks_are_no_photos(photos: Path) -> None:
    mug, shoe = find_objects(photos, SETTINGS)
    assert (mug.name, shoe.name) == ("red mug", "shoe")
    assert isinstance(shoe.material, tuple)
    assert [photo.label for photo in shoe.material] == ["shoe/00.jpg", "shoe/01.jpg"]
    assert [photo.mask is None for photo in shoe.material] == [False, True]
    assert shoe.source.kind == "photos"
    assert shoe.category == "other"


def test_captions_of_another_encoding_are_told(photos: Path) -> None:
    (photos / "captions.csv").write_bytes("name,object\nshoe,Schühchen\n".encode("latin-1"))
    with pytest.raises(InputError, match="are not in UTF-8; save them in it"):
        find_objects(photos, SETTINGS)


def test_a_name_of_another_encoding_can_stand_in_rows(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/old archive \xe9"))
    try:
        for name in ("00.jpg", "01.jpg"):
            place = folder / os.fsdecode(b"caf\xe9") / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    (item,) = find_objects(folder, SETTINGS)
    assert isinstance(item.material, tuple)
    assert [photo.label for photo in item.material] == [r"caf\xe9/00.jpg", r"caf\xe9/01.jpg"]
    assert all(photo.path.is_file() for photo in item.material)
    assert (item.label, item.source.name) == (r"caf\xe9", r"old archive \xe9")


def test_a_link_back_into_the_source_is_no_second_object(
    photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("00.jpg", "01.jpg"):
        write_photo(elsewhere / name)
    (photos / "a link").symlink_to("shoe")
    (photos / "loop").symlink_to(".")
    (photos / "cup").symlink_to(elsewhere)
    assert sorted(item.label for item in find_objects(photos, SETTINGS)) == ["cup", "red mug", "shoe"]


def test_a_captions_file_names_objects_and_licences(photos: Path) -> None:
    (photos / "captions.csv").write_text(
        "name,object,category,caption,licence\nshoe,sneaker,clothing_accessory,A white sneaker.,CC BY 4.0\n"
    )
    mug, shoe = find_objects(photos, SETTINGS)
    assert (shoe.name, shoe.category, shoe.caption) == ("sneaker", "clothing_accessory", "A white sneaker.")
    assert shoe.source.licence == "CC BY 4.0"
    assert (mug.name, mug.caption, mug.source.licence) == ("red mug", None, None)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("captions.csv", "name,category\nshoe,spaceship\n", "Row 1 of the captions"),
        ("captions.csv", "name,colour\nshoe,red\n", "colour"),
        ("captions.csv", "name\nboat\n", "no such object"),
        ("captions.csv", "name\nshoe\nshoe\n", "twice"),
        ("captions.jsonl", '{"name": 3}\n', "Row 1 of the captions"),
        ("captions.jsonl", "no json\n", "not JSON"),
    ],
)
def test_bad_captions_end_in_a_sentence(photos: Path, name: str, content: str, sentence: str) -> None:
    (photos / name).write_text(content)
    with pytest.raises(InputError, match=sentence):
        find_objects(photos, SETTINGS)


def test_a_video_takes_its_mask_and_poses_from_beside_it(tmp_path: Path) -> None:
    for name in ("mug.mp4", "mug_mask.mkv", "other_mask.mp4"):
        (tmp_path / name).write_bytes(b"")
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
    (tmp_path / "mug_poses.jsonl").write_text(f'{{"seconds": 0.5, "pose": {pose}}}\n{{"seconds": 0, "pose": {pose}}}\n')
    mug, other = find_objects(tmp_path, SETTINGS)
    assert isinstance(mug.material, Video)
    assert mug.material.mask == tmp_path / "mug_mask.mkv"
    assert [seconds for seconds, _ in mug.material.poses] == [0.0, 0.5]
    assert mug.source.kind == "video"
    # Without its video it is a video itself.
    assert other.label == "other_mask.mp4"


def test_poses_that_are_none_end_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mug.mp4").write_bytes(b"")
    (tmp_path / "mug_poses.jsonl").write_text('{"seconds": 0, "pose": [[1, 2], [3, 4]]}\n')
    with pytest.raises(InputError, match="four rows"):
        find_objects(tmp_path, SETTINGS)


def test_photos_without_a_folder_of_their_object_are_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "00.jpg")
    with pytest.raises(InputError, match="folder of its own"):
        find_objects(tmp_path, SETTINGS)


@pytest.mark.parametrize("name", ["nothing", "missing"])
def test_a_source_without_anything_of_use_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=name):
        find_objects(tmp_path / name, SETTINGS)


def test_ids_differ_where_names_differ_only_in_what_ids_leave_out() -> None:
    ids = {object_id(label) for label in ("a b", "a_b", "ä", "ö", "../x", "A b")}
    assert len(ids) == 6
    assert all(len(value) <= 120 for value in (*ids, object_id("x" * 500)))


def test_the_disk_need_grows_with_objects_and_size(photos: Path) -> None:
    objects = find_objects(photos, SETTINGS)
    small = PairSettings(side=512)
    assert needed_bytes(objects, SETTINGS) == pytest.approx(4 * needed_bytes(objects, small), rel=1e-6)
    assert needed_bytes(objects[:1], SETTINGS) * 2 == needed_bytes(objects, SETTINGS)


def make_uco3d(folder: Path, *, video: str = "food/apple/1-2-3/rgb_video.mp4") -> None:
    """One sequence in the layout of facebookresearch/uco3d."""
    (folder / "food/apple/1-2-3").mkdir(parents=True)
    (folder / "food/apple/1-2-3/rgb_video.mp4").write_bytes(b"")
    (folder / "food/apple/1-2-3/mask_video.mkv").write_bytes(b"")
    with sqlite3.connect(folder / "metadata.sqlite") as connection:
        connection.execute(
            "CREATE TABLE sequence_annots (sequence_name TEXT PRIMARY KEY, category TEXT, super_category TEXT, "
            "_video_path TEXT, _mask_video_path TEXT, sequence_caption TEXT, sequence_short_caption TEXT)"
        )
        connection.execute(
            "CREATE TABLE frame_annots (sequence_name TEXT, frame_number INTEGER, frame_timestamp REAL, "
            "_viewpoint_R BLOB, _viewpoint_T BLOB)"
        )
        mask = "food/apple/1-2-3/mask_video.mkv"
        connection.execute(
            "INSERT INTO sequence_annots VALUES (?, ?, ?, ?, ?, ?, ?)",
            ("1-2-3", "granny_smith", "Fruit", video, mask, "A green apple on a table.", "An apple."),
        )
        connection.execute(
            "INSERT INTO sequence_annots VALUES ('9-9-9', 'pear', 'Fruit', 'food/pear/rgb_video.mp4', NULL, NULL, NULL)"
        )
        turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        connection.execute(
            "INSERT INTO frame_annots VALUES ('1-2-3', 0, 0.25, ?, ?)",
            (struct.pack("<9f", *turn.ravel()), struct.pack("<3f", 1.0, 2.0, 3.0)),
        )
    connection.close()


def test_uco3d_gives_its_masks_captions_and_poses(tmp_path: Path) -> None:
    make_uco3d(tmp_path)
    # The database names the whole collection; what was not fetched is no object.
    (apple,) = find_objects(tmp_path, SETTINGS)
    assert (apple.name, apple.category, apple.caption) == ("granny smith", "food", "A green apple on a table.")
    assert apple.source.kind == "uco3d"
    assert apple.source.licence == "CC BY 4.0"
    assert isinstance(apple.material, Video)
    assert apple.material.mask == tmp_path / "food/apple/1-2-3/mask_video.mkv"
    ((seconds, pose),) = apple.material.poses
    assert seconds == 0.25
    # camera = object @ R + T, so the object point (0, 0, 0) is at T in the camera.
    assert np.allclose(np.array(pose) @ [1.0, 2.0, 3.0, 1.0], [0.0, 0.0, 0.0, 1.0])
    point = np.array([0.3, -0.2, 0.9])
    camera = point @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + [1.0, 2.0, 3.0]
    assert np.allclose(np.array(pose) @ [*camera, 1.0], [*point, 1.0])


def test_a_database_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"")
    make_uco3d(tmp_path / "set", video="../secret.mp4")
    with pytest.raises(InputError, match="holds no videos"):
        find_objects(tmp_path / "set", SETTINGS)


@pytest.mark.parametrize("content", [b"", b"no database at all"])
def test_a_wrong_database_ends_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata.sqlite").write_bytes(content)
    with pytest.raises(InputError, match="no metadata of uCO3D"):
        find_objects(tmp_path, SETTINGS)


def test_settings_come_from_the_file_and_flags_go_before_them(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[pairs]\nside = 512\nlicence = "CC0"\n[triplets]\nseeds = 3\n')
    settings = read_pair_settings(file, {"licence": "CC BY 4.0", "collection": None})
    assert (settings.side, settings.licence, settings.collection) == (512, "CC BY 4.0", None)
    assert read_pair_settings(None, {}) == PairSettings()
    assert read_triplet_settings(file, {"workers": 2}) == TripletSettings(seeds=3, workers=2)
    assert read_triplet_settings(file, {"seeds": 1}) == TripletSettings()


@pytest.mark.parametrize(
    ("flag", "kept"),
    [
        ({}, {"generator_command": "draw {output}", "generator_name": "theirs"}),
        ({"simulated": True}, {"simulated": True}),
        ({"server": "http://there"}, {"server": "http://there"}),
        ({"generator_command": "paint"}, {"generator_command": "paint"}),
        ({"generator_name": "ours"}, {"generator_command": "draw {output}", "generator_name": "ours"}),
    ],
)
def test_a_generator_of_the_command_line_takes_the_place_of_the_files(
    tmp_path: Path, flag: dict[str, object], kept: dict[str, object]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[triplets]\ngenerator_command = "draw {output}"\ngenerator_name = "theirs"\n')
    assert read_triplet_settings(file, flag) == TripletSettings.model_validate(kept)


@pytest.mark.parametrize(
    ("flag", "kept"),
    [({"no_vlm": True}, {"no_vlm": True}), ({"model": "b"}, {"server": "http://there", "model": "b"})],
)
def test_a_choice_of_the_command_line_takes_the_place_of_the_files(
    tmp_path: Path, flag: dict[str, object], kept: dict[str, object]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[pairs]\nserver = "http://there"\nmodel = "a"\n')
    assert read_pair_settings(file, flag) == PairSettings.model_validate(kept)
    file.write_text("[pairs]\nno_vlm = true\n")
    assert read_pair_settings(file, {"server": "http://there"}) == PairSettings(server="http://there")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[pairs]\nsize = 512\n", "have no 'pairs.size'"),
        ("[pears]\n", "have no 'pears'"),
        ("[pairs]\nside = -1\n", "pairs.side"),
        ("pairs = 3\n", "pairs"),
        ("[triplets]\nseed = 3\n", "have no 'triplets.seed'"),
        ("[triplets]\nseeds = 0\n", "triplets.seeds"),
        ("[pairs\n", "no TOML"),
    ],
)
def test_bad_settings_end_in_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "run.toml").write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_pair_settings(tmp_path / "run.toml", {})
    with pytest.raises(InputError, match=sentence):
        read_triplet_settings(tmp_path / "run.toml", {})


def test_missing_settings_end_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_pair_settings(tmp_path / "none.toml", {})
