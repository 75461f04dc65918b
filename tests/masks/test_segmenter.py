"""Which segmenter is chosen, and what is said where SAM cannot run."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refgc.errors import EngineError
from refgc.masks import choose_segmenter, weights


def obstacle_of(named: Path | str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(weights.VARIABLE, str(named))
    sentence = weights.obstacle()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_without_weights_none_are_used():
    assert weights.source() is None
    assert choose_segmenter().name == "grabcut"
    assert choose_segmenter("grabcut").name == "grabcut"


def test_sam_without_weights_says_how_to_name_them():
    with pytest.raises(EngineError, match="REFGC_SAM is not set; set it to a folder"):
        choose_segmenter("sam")


def test_another_name_is_refused():
    unknown: Any = "watershed"
    with pytest.raises(EngineError, match="no segmenter called 'watershed'; use auto, grabcut or sam"):
        choose_segmenter(unknown)


def test_a_folder_without_weights_is_told(tmp_path, monkeypatch):
    assert "there is no config.json in it" in obstacle_of(tmp_path, monkeypatch)
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    assert "there is no *.safetensors in it" in obstacle_of(tmp_path, monkeypatch)


def test_weights_that_were_not_downloaded_are_told_and_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    sentence = obstacle_of("nobody/no-such-sam", monkeypatch)
    assert "not on this machine; `hf download nobody/no-such-sam` fetches them" in sentence
    assert not list(tmp_path.iterdir())


def test_a_damaged_description_is_told(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text("[")
    assert "holds a model of no known kind" in obstacle_of(tmp_path, monkeypatch)


def test_until_weights_are_there_masks_are_found_without_and_the_log_says_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert choose_segmenter().name == "grabcut"
    assert "there is no config.json in it" in caplog.text
    assert "Until then masks are found without weights." in caplog.text
    with pytest.raises(EngineError, match=r"there is no config\.json"):
        choose_segmenter("sam")


def test_masks_without_weights_need_no_torch():
    program = """
import sys
import numpy as np
from refgc.imaging.image import Image
from refgc.masks import Prompt, choose_segmenter
pixels = np.full((90, 120, 3), 200, np.uint8)
pixels[25:65, 40:90] = (30, 60, 120)
assert choose_segmenter().segment(Image(pixels), Prompt((120, 90))).values[45, 60] == 1
loaded = {"torch", "transformers", "diffusers"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)
