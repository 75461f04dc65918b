"""SAM 2 and SAM 3 in miniature behind the segmenter: every part real, of random weights."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from refgc.errors import EngineError, InputError
from refgc.imaging.image import Image, Mask
from refgc.masks import Prompt, choose_segmenter, weights

pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file

from refgc.masks.sam import SamSegmenter
from tests.support.safetensors_files import GIGABYTE, make_sparse, opened_files, turn_into_pickle

SIZE = (120, 90)
BOX = (20, 20, 90, 70)


def picture(seed: int = 0, side: int = 90) -> Image:
    """Large spots of many colours."""
    spots = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image(cv2.resize(spots, (side * 4 // 3, side), interpolation=cv2.INTER_CUBIC))


@cache
def segmenter_of(folder: Path, least_score: float = 0.5) -> SamSegmenter:
    return SamSegmenter(str(folder), device="cpu", least_score=least_score)


def found(folder: Path, image: Image | None = None, *, least_score: float = 0.5, **marks: Any) -> np.ndarray:
    image = image or picture()
    mask = segmenter_of(folder, least_score).segment(image, Prompt(image.size, **marks))
    assert mask.size == image.size
    assert mask.values.dtype == np.float32
    assert mask.values.min() >= 0
    assert mask.values.max() <= 1
    return mask.values


@pytest.mark.parametrize("weights_of", ["sam2", "sam3"])
@pytest.mark.parametrize("marks", [{"box": BOX}, {"positive": ((60, 45),)}], ids=["box", "click"])
def test_marks_give_the_same_mask_again(weights_of, marks, request):
    folder = request.getfixturevalue(weights_of)
    anew = SamSegmenter(str(folder), device="cpu").segment(picture(), Prompt(SIZE, **marks))
    assert np.array_equal(found(folder, **marks), anew.values)


@pytest.mark.parametrize("weights_of", ["sam2", "sam3"])
def test_every_mark_counts(weights_of, request):
    """The networks know nothing, but they see what was marked, where, and of which kind."""
    folder = request.getfixturevalue(weights_of)
    scribble = np.zeros((90, 120), np.float32)
    scribble[30:60, 80:100] = 1
    masks = [
        found(folder, **marks)
        for marks in (
            {"box": BOX},
            {"box": BOX, "negative": ((30, 30),)},
            {"box": BOX, "positive": ((30, 30),)},
            {"positive": ((60, 45),)},
            {"positive": ((10, 15),)},
            {"scribble": Mask(scribble)},
        )
    ]
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_a_second_picture_is_seen_anew(sam2):
    segmenter = SamSegmenter(str(sam2), device="cpu")
    first, second = picture(1), picture(2)
    prompt = Prompt(SIZE, box=BOX)
    masks = [segmenter.segment(image, prompt).values for image in (first, second, first)]
    assert np.array_equal(masks[0], masks[2])
    assert np.array_equal(masks[1], found(sam2, second, box=BOX))


# Networks that know nothing are sure of nothing.
ANY_SCORE = 0.0


@pytest.mark.parametrize("weights_of", ["sam3", "detector"])
def test_words_are_read(weights_of, request):
    folder = request.getfixturevalue(weights_of)
    assert segmenter_of(folder).reads_text
    assert found(folder, text="red cup", least_score=ANY_SCORE).max() >= 0.5
    cup, box = (found(folder, text=text, least_score=ANY_SCORE) for text in ("red cup", "old shoe box"))
    assert not np.array_equal(cup, box)


def test_what_words_found_must_be_where_the_marks_are(sam3):
    everywhere = tuple((x, y) for x in range(5, 120, 10) for y in range(5, 90, 10))
    with pytest.raises(InputError, match="SAM found no 'red cup' at the marks; name it otherwise"):
        found(sam3, text="red cup", negative=everywhere, least_score=ANY_SCORE)


def test_what_sam_is_not_sure_of_is_not_found(sam3):
    with pytest.raises(InputError, match="SAM found no 'red cup'; name it otherwise"):
        found(sam3, text="red cup", least_score=1.0)


def test_too_many_words_are_refused(sam3):
    with pytest.raises(InputError, match="a few words"):
        found(sam3, text="cup" * 20)


def test_words_are_refused_by_weights_that_do_not_read(sam2):
    assert not segmenter_of(sam2).reads_text
    with pytest.raises(InputError, match="read no words; mark the object by a box or a click"):
        found(sam2, text="cup")


def test_marks_are_refused_by_weights_that_only_read(detector):
    with pytest.raises(InputError, match="take words only; say what the object is"):
        found(detector, box=BOX)


def test_marks_of_another_picture_are_refused(sam2):
    with pytest.raises(InputError, match="mark this one"):
        segmenter_of(sam2).segment(picture(), Prompt((121, 90)))


def test_transparency_is_the_mask_where_nothing_is_marked(sam2):
    alpha = Mask(np.linspace(0, 1, 90 * 120, dtype=np.float32).reshape(90, 120))
    assert segmenter_of(sam2).segment(Image(picture().pixels, alpha), Prompt(SIZE)) is alpha


def test_without_marks_what_stands_out_is_outlined(sam2):
    """As a box around it and a click in its middle."""
    pixels = np.full((90, 120, 3), 200, np.uint8)
    pixels[25:65, 40:90] = (30, 60, 120)
    assert found(sam2, Image(pixels)).shape == (90, 120)
    assert np.array_equal(
        found(sam2, Image(pixels)),
        found(sam2, Image(pixels), alpha=choose_segmenter("grabcut").segment(Image(pixels), Prompt(SIZE))),
    )


def test_sam_is_chosen_where_its_weights_are(sam2, monkeypatch):
    monkeypatch.setenv(weights.VARIABLE, str(sam2))
    assert choose_segmenter().name == "sam"
    assert choose_segmenter("sam") is choose_segmenter("sam")
    assert choose_segmenter("grabcut").name == "grabcut"


def test_a_device_that_is_not_there_is_told(sam2):
    with pytest.raises(EngineError, match="set it to cuda"):
        SamSegmenter(str(sam2), device="abacus")


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def sentence_of(folder: Path) -> str:
    with pytest.raises(EngineError) as told:
        found(folder, box=BOX)
    sentence = str(told.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_damaged_weights_are_told_in_one_sentence(sam2, tmp_path):
    folder = copied(sam2, tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"nothing")
    assert "fetch them again" in sentence_of(folder)


def test_incomplete_weights_are_told_in_one_sentence(sam2, tmp_path):
    folder = copied(sam2, tmp_path / "incomplete")
    tensors = load_file(folder / "model.safetensors")
    save_file(dict(list(tensors.items())[5:]), folder / "model.safetensors", metadata={"format": "pt"})
    assert "is missing from the files of its tracker); fetch them again" in sentence_of(folder)


def test_a_pickle_is_refused_and_not_opened(sam2, tmp_path):
    folder = copied(sam2, tmp_path / "pickled")
    turn_into_pickle(folder / "model.safetensors")
    with opened_files() as opened:
        assert "pytorch_model.bin is a pickle, which can run any program when it is read" in sentence_of(folder)
    assert not [path for path in opened if path.endswith(".bin")]


def test_a_tensor_that_claims_gigabytes_is_refused_before_any_is_read(sam2, tmp_path):
    folder = copied(sam2, tmp_path / "sparse")
    file = folder / "model.safetensors"
    make_sparse(file, next(name for name, tensor in load_file(file).items() if tensor.ndim == 2), 6 * GIGABYTE)
    assert "is damaged or cut off" in sentence_of(folder)


def test_a_tensor_of_another_shape_is_refused_by_its_name(sam2, tmp_path):
    folder = copied(sam2, tmp_path / "reshaped")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    save_file({**tensors, name: tensors[name].T.contiguous()[:1]}, folder / "model.safetensors")
    assert f"{name} of its tracker is (1, " in sentence_of(folder)


def test_weights_of_something_else_are_told_in_one_sentence(sam2, tmp_path):
    folder = copied(sam2, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    assert "holds a clip and no SAM 2 or SAM 3" in sentence_of(folder)
