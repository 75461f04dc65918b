"""Metrics by name: which there are, what is said of those that lack something, and that nothing is filled in."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refgc.errors import InputError
from refgc.imaging.image import Image, Mask
from refgc.metrics import registry
from refgc.metrics.metric import figure_name
from refgc.metrics.registry import NAMES, Backbones, score, select
from refgc.metrics.sample import Sample
from tests.support.tiny_vision import save_tiny_clip, save_tiny_dino

WEIGHT_FREE = ["psnr", "ssim", "flip", "legibility"]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=rf"^There is no metric 'psrn'; choose from {', '.join(NAMES)}.$"):
        select(["psnr", "psrn"])


def test_metrics_come_in_the_order_of_the_names_each_once() -> None:
    assert [metric.name for metric in select(["flip", "psnr", "flip"]).metrics] == ["flip", "psnr"]


def test_every_metric_is_there_or_one_sentence_says_why_not() -> None:
    selection = select(None)
    assert len(selection.metrics) + len(selection.missing) == len(NAMES)
    assert [metric.name for metric in selection.metrics] == [
        name for name in NAMES if name in {metric.name for metric in selection.metrics}
    ]
    for sentence in selection.missing:
        assert sentence.count("\n") == 0
        assert "`refgc setup" in sentence or "pip install" in sentence


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_importable", lambda module: module not in ("flip_evaluator", "torch"))
    selection = select(["flip", "lpips", "psnr"])
    assert [metric.name for metric in selection.metrics] == ["psnr"]
    assert selection.missing == (
        "FLIP needs flip-evaluator: pip install '.[evaluation]' in the project's folder.",
        "LPIPS needs torch: pip install '.[evaluation]' in the project's folder.",
    )


def test_networks_by_name(tmp_path: Path) -> None:
    backbones = Backbones(
        clip=str(save_tiny_clip(tmp_path / "clip")), dino=str(save_tiny_dino(tmp_path / "dino", "dinov3_vit"))
    )
    selection = select(["clip_i", "dino"], backbones=backbones)
    assert [metric.label for metric in selection.metrics] == ["CLIP-I", "DINO"]
    assert selection.missing == ()


def test_figures_are_of_the_regions_that_are_told_and_never_nan() -> None:
    random = np.random.default_rng(0)
    truth = Image(random.integers(0, 256, (64, 64, 3), np.uint8))
    result = Image(random.integers(0, 256, (64, 64, 3), np.uint8))
    values = np.zeros((64, 64), np.float32)
    values[16:48, 16:48] = 1
    metrics = select(WEIGHT_FREE).metrics
    figures = score(metrics, Sample(result, truth, Mask(values), truth, Mask(values)))
    allowed = {figure_name(metric.name, region) for metric in metrics for region in metric.regions}
    assert set(figures) <= allowed
    assert {"psnr", "psnr_inside", "psnr_outside", "ssim", "flip_inside"} <= set(figures)
    assert all(math.isfinite(figure) for figure in figures.values())


def test_in_the_wild_only_metrics_that_need_no_truth_have_figures() -> None:
    picture = Image(np.full((64, 64, 3), 128, np.uint8))
    metrics = select(WEIGHT_FREE).metrics
    assert score(metrics, Sample(picture, reference=picture)) == {}
    assert {metric.name for metric in metrics if "truth" not in metric.needs} == {"legibility"}


def test_selecting_metrics_imports_no_heavy_library() -> None:
    code = (
        "import sys; from refgc.metrics.registry import select; select(['psnr', 'ssim', 'flip', 'legibility', 'lpips']);"
        "print([m for m in ('torch', 'transformers', 'skimage', 'onnxruntime', 'rapidocr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
