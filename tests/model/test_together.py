"""Where the redrawn window lands, what happens when it drifted, and the engines together; with a model that is led."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.imaging.arrays import Bytes
from refgc.imaging.upscale import clean_upscale
from refgc.model.paste import SURE, put_back
from refgc.model.pipeline import Refined
from refgc.model.settings import DenoisingSettings
from refgc.model.tokens import pack, unpack
from refgc.request import RefineRequest, make_request
from tests.support.stub_model import PIXELS, Target, leading_pipeline, words
from tests.support.synthetic import SyntheticPair

WORKING = (256, 256)


def on_picture(change: Any) -> Target:
    """A change of pictures (1, 3, height, width) as one of tokens."""

    def of_tokens(tokens: Tensor) -> Tensor:
        latents = unpack(tokens, WORKING[1] // PIXELS, WORKING[0] // PIXELS)
        changed = change(functional.pixel_shuffle(latents, PIXELS))
        return pack(functional.pixel_unshuffle(changed, PIXELS))

    return of_tokens


def refined(request: RefineRequest, kind: str = "kontext", target: Target | None = None, **options: Any) -> Refined:
    pipeline = leading_pipeline(kind) if target is None else leading_pipeline(kind, target)
    settings = DenoisingSettings(
        **{"width": WORKING[0], "height": WORKING[1], "num_inference_steps": 4, **words(), **options}
    )
    result: Refined = pipeline.refine(request, settings)
    return result


def psnr(one: Bytes, other: Bytes) -> float:
    error = float(((one.astype(float) - other) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


def scene(seed: int = 0, size: tuple[int, int] = (120, 90)) -> Bytes:
    """A smooth picture with some structure."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("kind", ["kontext", "klein"])
@pytest.mark.parametrize(
    "box", [(40, 30, 80, 60), (0, 0, 30, 30), (85, 10, 120, 80), (20, 50, 100, 90), (50, 2, 62, 85)]
)
def test_a_model_that_leads_to_the_generated_picture_changes_nothing(kind: str, box: tuple[int, int, int, int]) -> None:
    generated = scene()
    mask = np.zeros(generated.shape[:2], np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    request = make_request(scene(1), generated, scale=4, generated_mask=mask, reference_mask=mask)
    result = refined(request, kind, together=False)
    assert result.drift is not None
    assert result.drift.verdict == "kept"
    upscaled = clean_upscale(generated, (480, 360))
    left, top, right, bottom = (4 * side for side in result.windows.generated_window)
    outside = np.ones(upscaled.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert np.array_equal(result.picture[outside], upscaled[outside])
    assert psnr(result.picture[~outside], upscaled[~outside]) > 45
    assert result.share[~outside].max() > 0.99


@pytest.fixture(scope="module")
def card(synthetic_pair: SyntheticPair) -> RefineRequest:
    return make_request(synthetic_pair.reference, synthetic_pair.generated, scale=4)


def shifted(across: int) -> Any:
    return lambda picture: torch.roll(picture, across, dims=3)


def turned(degrees: float) -> Any:
    def turn(picture: Tensor) -> Tensor:
        angle = torch.tensor(degrees).deg2rad()
        cosine, sine = angle.cos(), angle.sin()
        motion = torch.stack([torch.stack([cosine, -sine, cosine * 0]), torch.stack([sine, cosine, cosine * 0])])[None]
        grid = functional.affine_grid(motion, list(picture.shape), align_corners=False)
        return functional.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)

    return turn


def test_a_shift_is_undone(card: RefineRequest) -> None:
    plain = refined(card, together=False, init="generated")
    moved = refined(card, target=on_picture(shifted(8)), together=False, init="generated")
    left_alone = refined(card, target=on_picture(shifted(8)), together=False, checks_drift=False)
    assert moved.drift is not None
    assert moved.drift.verdict == "shifted"
    assert abs(moved.drift.shift[0] * WORKING[0] - 8) < 1
    assert psnr(moved.picture, plain.picture) > psnr(left_alone.picture, plain.picture) + 6


@pytest.mark.parametrize("init", ["generated", "correspondence"])
def test_another_pose_is_refused_and_nothing_of_it_is_shown(card: RefineRequest, init: str) -> None:
    result = refined(card, target=on_picture(turned(15)), together=False, init=init)
    assert result.drift is not None
    assert result.drift.is_refused
    assert not result.share.any()
    expected = result.stages["upscaled" if init == "generated" else "correspondence"]
    assert np.array_equal(result.picture, expected)
    assert (result.trust is None) == (init == "generated")
    shown = refined(card, target=on_picture(turned(15)), together=False, init=init, checks_drift=False)
    assert shown.share.max() > 0.9


def test_where_the_correspondence_engine_is_sure_its_pixels_stay(card: RefineRequest) -> None:
    """The model blurs everything, and gives it another tint."""

    def blurred(picture: Tensor) -> Tensor:
        tint = torch.tensor([0.1, 0.0, -0.1]).reshape(1, 3, 1, 1)
        return functional.avg_pool2d(picture, 5, stride=1, padding=2, count_include_pad=False) + tint

    placed = CorrespondenceEngine().refine(card)
    assert placed.trust is not None
    together = refined(card, target=on_picture(blurred))
    apart = refined(card, target=on_picture(blurred), together=False)
    sure = placed.trust > SURE[1]
    assert sure.mean() > 0.1
    assert np.array_equal(together.picture[sure], placed.image.pixels[sure])
    assert not np.array_equal(apart.picture[sure], placed.image.pixels[sure])
    redrawn = together.share > 0.9
    assert redrawn.mean() > 0.01, "what is not sure is the model's"
    assert together.trust is not None
    assert not (together.share[sure] > 0).any()


def test_the_seam_to_sure_pixels_has_one_colour() -> None:
    """A model that tints everything is corrected by the pixels that stay, not only beside the object."""
    generated = np.full((64, 64, 3), 120, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[8:56, 8:56] = 255
    request = make_request(generated // 2, generated, scale=2, generated_mask=mask, reference_mask=mask)
    windows = refined(request, together=False).windows
    base = np.full((128, 128, 3), 120, np.uint8)
    # The model's tint differs between the object, where half of the pixels stay, and its surroundings.
    drawn = np.full((WORKING[1], WORKING[0], 3), 120, np.uint8)
    drawn[32:224, 32:224] = (150, 120, 100)
    trust = np.zeros((128, 128), np.float32)
    trust[20:108, 20:64] = 1.0
    with_trust, share = put_back(base, drawn, windows, 2, 1.0, trust=trust)
    without, _ = put_back(base, drawn, windows, 2, 1.0)
    assert np.array_equal(with_trust[trust == 1], base[trust == 1])
    beside = (slice(40, 88), slice(66, 74))
    assert share[beside].min() > 0.9
    assert np.abs(with_trust[beside].astype(int) - 120).max() <= 4
    assert np.abs(without[beside].astype(int) - 120).max() > 15


def test_together_is_on_without_an_adapter_and_off_with_one(card: RefineRequest) -> None:
    assert "correspondence" in refined(card).stages
    pipeline = leading_pipeline("klein")
    pipeline.freqmole = type("Experts", (), {"config": pipeline.backbone.adapter_config()})()
    settings = DenoisingSettings(width=WORKING[0], height=WORKING[1], num_inference_steps=2, **words())
    result = pipeline.refine(card, settings)
    assert "correspondence" not in result.stages
    assert (result.drift, result.trust) == (None, None)
