"""Frames of videos and photos: what is kept, and with which sentence the rest is left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from refgc.dataset.frames import Frames, read_frames, sharpness
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import find_objects
from refgc.imaging.arrays import Bytes, blur
from tests.dataset.support import scene, texture, write_photo, write_video

SETTINGS = PairSettings(frame_seconds=0.4, duplicate_bits=0)


def moving(count: int, seed: int = 1) -> list[Bytes]:
    """Frames of a card that slides over a background, none like another."""
    face, length = texture(seed, 96), 96
    behind = scene(texture(seed + 1), background=seed, side=256)[0]
    frames = []
    for number in range(count):
        frame = behind.copy()
        left = 4 + number * 5
        frame[80 : 80 + length, left : left + length] = face
        frames.append(frame)
    return frames


def read(folder: Path, settings: PairSettings = SETTINGS) -> Frames:
    (item,) = find_objects(folder, settings)
    return read_frames(item, settings)


def test_a_video_gives_the_sharpest_frame_of_each_stretch(tmp_path: Path) -> None:
    frames = moving(12)
    # All but the second of each stretch of four are out of focus.
    soft = [np.asarray(cv2.GaussianBlur(frame, (0, 0), 4), np.uint8) for frame in frames]
    write_video(tmp_path / "card.mp4", [frames[n] if n % 4 == 1 else soft[n] for n in range(12)])
    found = read(tmp_path)
    assert [frame.seconds for frame in found.kept] == [0.1, 0.5, 0.9]
    for frame, number in zip(found.kept, (1, 5, 9), strict=True):
        assert frame.label == "card.mp4"
        difference = np.abs(frame.image.pixels.astype(int) - frames[number]).mean()
        assert difference < 6, "it is another frame"


def test_the_longest_shot_is_taken(tmp_path: Path) -> None:
    bright = [np.asarray(255 - frame, np.uint8) for frame in moving(4, seed=5)]
    write_video(tmp_path / "cut.mp4", [*bright, *moving(12)])
    assert min(frame.seconds or 0.0 for frame in read(tmp_path).kept) >= 0.4


def test_masks_and_poses_of_a_video_belong_to_its_frames(tmp_path: Path) -> None:
    frames = moving(8)
    masks = []
    for number in range(8):
        mask = np.zeros(frames[0].shape[:2], np.uint8)
        mask[80:176, 4 + number * 5 : 100 + number * 5] = 255
        masks.append(mask)
    write_video(tmp_path / "card.mp4", frames)
    write_video(tmp_path / "card_mask.mkv", masks, codec="ffv1")
    lines = [
        f'{{"seconds": {number / 10}, "pose": [[1, 0, 0, {number}], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}}\n'
        for number in range(8)
    ]
    (tmp_path / "card_poses.jsonl").write_text("".join(lines))
    kept = read(tmp_path).kept
    assert len(kept) == 2
    for frame in kept:
        number = round((frame.seconds or 0.0) * 10)
        assert frame.mask is not None
        assert np.array_equal(frame.mask.values > 0.5, masks[number] > 0)
        assert frame.pose is not None
        assert frame.pose[0][3] == number


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("noise.mkv", bytes(np.random.default_rng(0).integers(0, 256, 4096, np.uint8))),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list.avi", b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
    ],
)
def test_what_is_no_video_is_rejected_with_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = read(tmp_path)
    assert not found.kept
    (rejection,) = found.rejected
    assert (rejection.step, rejection.what) == ("decode", name)
    assert "is no video that can be read" in rejection.reason


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_video_that_was_cut_off_is_rejected(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"card.{suffix}"
    write_video(path, moving(30))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    found = read(tmp_path)
    assert not found.kept
    assert [rejection.step for rejection in found.rejected] == ["decode"]


def test_a_mask_video_that_is_too_short_rejects_its_video(tmp_path: Path) -> None:
    write_video(tmp_path / "card.mp4", moving(12))
    write_video(tmp_path / "card_mask.mkv", [np.zeros((256, 256), np.uint8)] * 2, codec="ffv1")
    found = read(tmp_path)
    assert not found.kept
    assert "shorter" in found.rejected[0].reason


def test_photos_are_left_out_for_a_reason_each(tmp_path: Path) -> None:
    sharp = scene(texture(3))[0]
    soft = np.asarray(np.rint(blur(sharp.astype(np.float32), 8.0)), np.uint8)
    other = scene(texture(4), background=9)[0]
    photos = {"0": sharp, "1": sharp, "2": soft, "3": sharp // 40, "4": 255 - other // 60, "5": other}
    for name, pixels in photos.items():
        write_photo(tmp_path / "card" / f"{name}.png", pixels.astype(np.uint8))
    (tmp_path / "card" / "6.png").write_bytes(b"no picture")
    found = read(tmp_path, PairSettings())
    assert [frame.label for frame in found.kept] == ["card/0.png", "card/5.png"]
    reasons = {rejection.what: rejection.reason for rejection in found.rejected}
    words = {"1": "the same", "2": "blurred", "3": "dark", "4": "bright", "6": "picture"}
    for name, word in words.items():
        assert word in reasons[f"card/{name}.png"]
    assert len(reasons) == len(words)


def test_sharpness_falls_with_blur_and_not_with_contrast() -> None:
    grey = texture(2)[..., 1]
    levels = [np.asarray(blur(grey.astype(np.float32), sigma), np.uint8) for sigma in (0.8, 1.6, 3.2)]
    measured = [sharpness(level) for level in (grey, *levels)]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] - measured[-1] > 0.2
    faint = np.asarray(100 + grey.astype(np.float32) / 4, np.uint8)
    assert sharpness(faint) == pytest.approx(measured[0], abs=0.05)
    assert sharpness(np.full((32, 32), 7, np.uint8)) == 0.0


def test_sharpness_looks_inside_alone() -> None:
    grey = texture(2)[..., 1].copy()
    where = np.zeros(grey.shape, bool)
    where[:, :128] = True
    grey[:, 128:] = cv2.GaussianBlur(grey, (0, 0), 5)[:, 128:]
    assert sharpness(grey, where) > sharpness(grey, ~where) + 0.2
