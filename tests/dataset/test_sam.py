"""SAM 3 in miniature behind the dataset's masks: every part real, of random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from refgc.correspondence.learned import are_there
from refgc.dataset.manifest import PAIRS, REJECTIONS, Pair, Rejection, read_rows
from refgc.dataset.object_masks import FoundSam, find_masker
from refgc.dataset.pairs import RUN, run_pairs
from refgc.dataset.settings import PairSettings
from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image, Mask
from refgc.masks import weights

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from refgc.dataset.sam import SamPictures, SamVideo, Seen, agreed, of_one_object
from refgc.masks.sam import SamSegmenter
from tests.dataset.support import scene, texture, write_object, write_video
from tests.support.tiny_sam import save_detector, save_sam2, save_sam3

FRAMES = 4


@pytest.fixture(autouse=True)
def no_weights_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (weights.VARIABLE, "REFGC_DEVICE"):
        monkeypatch.delenv(name, raising=False)


def frames(count: int = FRAMES) -> list[Image]:
    """A disc that moves over large spots."""
    spots = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC
    )
    return [
        Image(np.asarray(cv2.circle(spots.copy(), (30 + 10 * number, 48), 20, (250, 30, 30), -1), np.uint8))
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAM 3 that knows nothing, and takes what it is least unsure of."""
    torch.set_num_threads(1)
    return save_sam3(
        tmp_path_factory.mktemp("sam3"),
        tracks=True,
        low_res_mask_size=32,
        score_threshold_detection=0.0,
        new_det_thresh=0.0,
        det_nms_thresh=0.01,
        hotstart_delay=2,
        hotstart_unmatch_thresh=2,
        hotstart_dup_thresh=2,
        max_num_objects=1,
    )


def check(masks: Sequence[Mask | None], pictures: Sequence[Image]) -> None:
    assert len(masks) == len(pictures)
    for mask, picture in zip(masks, pictures, strict=True):
        if mask is not None:
            assert mask.size == picture.size
            assert mask.values.dtype == np.float32
            assert 0 <= mask.values.min() < 0.5 <= mask.values.max() <= 1


def bytes_of(masks: Sequence[Mask | None]) -> list[bytes | None]:
    return [None if mask is None else mask.values.tobytes() for mask in masks]


def test_each_picture_by_itself(sam3):
    """Networks that know nothing find as many objects as the score allows."""
    segmenter = SamSegmenter(str(sam3), device="cpu", least_score=0.0)
    counts = [len(segmenter.instances(frame, "red disc")) for frame in frames()]
    assert max(counts) >= 1
    found = SamPictures(str(sam3), device="cpu", least_score=0.0).masks_of(frames(), "red disc")
    check(found, frames())
    assert [mask is not None for mask in found] == [count == 1 for count in counts]
    assert SamPictures(str(sam3), device="cpu", least_score=1.0).masks_of(frames(), "red disc") == [None] * FRAMES


def test_a_video_is_followed(sam3):
    masker = SamVideo(str(sam3), device="cpu")
    masks = masker.masks_of(frames(), "red disc")
    check(masks, frames())
    assert any(mask is not None for mask in masks)
    assert bytes_of(masks) == bytes_of(masker.masks_of(frames(), "red disc")), "the same each time"


def test_a_long_video_is_cut_into_clips(sam3):
    whole = SamVideo(str(sam3), device="cpu", longest_clip=2)
    one_by_one = [*whole.masks_of(frames()[:2], "red disc"), *whole.masks_of(frames()[2:], "red disc")]
    assert bytes_of(whole.masks_of(frames(), "red disc")) == bytes_of(one_by_one)


def test_words_too_long_and_weights_that_read_none(sam3, tmp_path):
    for masker in (SamPictures(str(sam3), device="cpu"), SamVideo(str(sam3), device="cpu")):
        with pytest.raises(InputError, match="a few words"):
            masker.masks_of(frames(1), "disc" * 20)
    sam2 = save_sam2(tmp_path)
    for kind in (SamPictures, SamVideo):
        with pytest.raises(EngineError, match="finds no object by its name; name a SAM 3"):
            kind(str(sam2), device="cpu")
    with pytest.raises(InputError, match="longest clip is 0 frames"):
        SamVideo(str(sam3), device="cpu", longest_clip=0)


def disc(x: int) -> Any:
    """Logits of a disc at a column."""
    inside = cv2.circle(np.zeros((32, 32), np.float32), (x, 16), 6, 1, -1)
    return torch.from_numpy(inside * 20 - 10)


def test_exactly_one_object_counts():
    first, second = disc(8), disc(20)
    seen = of_one_object([{0: first}, {0: first, 1: second}, {}, {1: second}, {0: second}])
    assert [one.ambiguous for one in seen] == [False, True, False, True, False]
    assert [one.logits is not None for one in seen] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("forward", "backward", "column"),
    [
        (Seen(logits=disc(8)), Seen(logits=disc(8)), 8),
        (Seen(logits=disc(8)), Seen(logits=disc(20)), None),
        (Seen(logits=disc(8)), Seen(), 8),
        (Seen(), Seen(logits=disc(20)), 20),
        (Seen(), Seen(), None),
        (Seen(logits=disc(8)), Seen(ambiguous=True), None),
        (Seen(ambiguous=True), Seen(), None),
    ],
)
def test_both_directions_must_not_disagree(forward, backward, column):
    logits = agreed(forward, backward, frames(1)[0])
    if logits is None:
        assert column is None
    else:
        assert torch.equal(logits, disc(column))


def test_sam_is_found_before_it_is_asked(sam3, tmp_path, monkeypatch):
    with pytest.raises(EngineError, match="REFGC_SAM is not set"):
        find_masker("sam3")
    monkeypatch.chdir(sam3.parent)
    monkeypatch.setenv(weights.VARIABLE, sam3.name)
    for maker in ("sam3", "sam3-video"):
        assert find_masker(maker) == FoundSam(sam3.name, maker, str(sam3))
        assert find_masker(maker).open().maker == maker
    monkeypatch.setenv(weights.VARIABLE, str(save_detector(tmp_path / "detector")))
    assert find_masker("sam3").name == "detector"
    with pytest.raises(EngineError, match="finds no object by its name"):
        find_masker("sam3-video")
    monkeypatch.setenv(weights.VARIABLE, str(save_sam2(tmp_path / "sam2")))
    with pytest.raises(EngineError, match="finds no object by its name"):
        find_masker("sam3")


SETTINGS = PairSettings(side=256, no_vlm=True, workers=1, longest_video=1.5)


@pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")
@pytest.mark.parametrize("maker", ["sam3", "sam3-video"])
def test_workers_make_masks_by_sam(sam3, tmp_path, monkeypatch, maker):
    pytest.importorskip("av")
    face = texture(2)
    pictures = [scene(face, turn=0.8 * number) for number in range(15)]
    write_video(tmp_path / "cards" / "poster.mp4", [picture for picture, _ in pictures])
    write_video(tmp_path / "cards" / "poster_mask.mkv", [mask for _, mask in pictures], codec="ffv1")
    monkeypatch.setenv(weights.VARIABLE, str(sam3))
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    run_pairs(tmp_path / "cards", tmp_path / "set", SETTINGS.model_copy(update={"masks": maker}), tell=lambda _: None)
    # Networks that know nothing find nothing, or anything; the source's own masks would have given pairs.
    makers = {view.mask_maker for row in read_rows(tmp_path / "set" / PAIRS, Pair) for view in (row.hrri, row.hrgt)}
    assert makers <= {maker}
    reasons = [row.reason for row in read_rows(tmp_path / "set" / REJECTIONS, Rejection) if row.step == "masks"]
    assert len(reasons) >= 2
    assert "Not exactly one poster was found in it." in reasons
    assert sam3.name in (tmp_path / "set" / RUN).read_text()
    assert str(sam3) not in (tmp_path / "set" / RUN).read_text()


@pytest.mark.skipif(not are_there(), reason="the weights of learned matching are not on this machine")
def test_masks_that_cannot_be_made_leave_no_folder(sam3, tmp_path, monkeypatch):
    write_object(tmp_path / "cards" / "poster", (0.0, 8.0), seed=2)
    with pytest.raises(EngineError, match="REFGC_SAM is not set"):
        run_pairs(tmp_path / "cards", tmp_path / "set", SETTINGS.model_copy(update={"masks": "sam3"}))
    monkeypatch.setenv(weights.VARIABLE, str(sam3))
    with pytest.raises(InputError, match="follow the object along a video, and the source has photos; take sam3"):
        run_pairs(tmp_path / "cards", tmp_path / "set", SETTINGS.model_copy(update={"masks": "sam3-video"}))
    assert not (tmp_path / "set").exists()
