"""What the engine is for: on the project's own examples and on real generated pictures, nearer to the truth."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from refgc.engine import RefineResult
from refgc.imaging.image import open_image, open_mask
from refgc.refinement import refine
from tests.conftest import REPOSITORY
from tests.support.correspondence_pairs import Pixels, changed, psnr

EXAMPLES = REPOSITORY / "examples"
TEXTURED = sorted(folder.parent.name for folder in EXAMPLES.glob("*/lrgi.png") if folder.parent.name != "vase")


@cache
def refined(name: str) -> RefineResult:
    return refine(EXAMPLES / name / "hrri.jpg", EXAMPLES / name / "lrgi.png")


def picture(path: Path) -> Pixels:
    return open_image(path, name=path.name).pixels


def gain_over_lanczos(name: str, weight: np.ndarray | None = None) -> float:
    """PSNR in dB that the result has over the generated picture enlarged by Lanczos."""
    truth = picture(EXAMPLES / name / "hrgt.jpg")
    lanczos = cv2.resize(picture(EXAMPLES / name / "lrgi.png"), (1024, 1024), interpolation=cv2.INTER_LANCZOS4)
    return psnr(refined(name).image.pixels, truth, weight) - psnr(np.asarray(lanczos, np.uint8), truth, weight)


@pytest.mark.parametrize("name", ["paperback", "record_sleeve"])
def test_an_example_gains_inside_its_object(name):
    mask = open_mask(EXAMPLES / name / "hrgt_mask.png", size=(1024, 1024), name="mask").values.astype(np.float64)
    assert gain_over_lanczos(name, mask) >= 1.0


@pytest.mark.parametrize("name", TEXTURED)
def test_no_textured_example_is_worse_than_lanczos(name):
    assert refined(name).image.size == (1024, 1024)
    assert gain_over_lanczos(name) >= -0.1


def test_there_are_textured_examples():
    assert {"paperback", "record_sleeve"} <= set(TEXTURED)


def test_a_textureless_vase_is_left_as_it_is():
    result = refined("vase")
    assert result.report.placed or not changed(result).any()
    assert gain_over_lanczos("vase") >= -0.05


@pytest.mark.parametrize("name", ["camera", "gemini"])
def test_a_real_generated_picture_is_refined(shared_data, name):
    reference, generated = (next((shared_data / name).glob(f"{kind}.*")) for kind in ("hrri", "lrgi"))
    result = refine(reference, generated)
    assert result.report.placed
    assert result.report.confidence > 0.5
    assert changed(result).any()
    assert median_change(result, generated) <= 2


def test_a_textureless_rabbit_is_left_as_it_is(shared_data):
    generated = shared_data / "rabbit" / "lrgi.png"
    result = refine(shared_data / "rabbit" / "hrri.png", generated)
    assert median_change(result, generated) <= 2


def median_change(result: RefineResult, generated: Path) -> float:
    """Grey levels by which the result, shrunk back, differs from the generated picture at the median pixel."""
    before = picture(generated)
    size = (before.shape[1], before.shape[0])
    back = cv2.resize(result.image.pixels, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    return float(np.median(np.sqrt(((back - before) ** 2).mean(axis=2))))
