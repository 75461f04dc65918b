"""Each artifact does what it is called after, more the stronger it is, and nothing where it should not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from pydantic import ValidationError

from refgc.imaging.image import Image, Mask, open_image, open_mask, save_image
from refgc.simulator.artifacts import (
    ArtifactRecord,
    Strengths,
    checked_strengths,
    draw_artifacts,
    record_text,
    simulate,
    smaller,
)
from tests.conftest import REPOSITORY
from tests.support.pictures import noise, refusal
from tests.support.synthetic import draw_card

Pixels = np.ndarray
KINDS = tuple(Strengths.model_fields)
RISING = (0.2, 0.5, 1.0)
SIDE = 320


def strengths(**given: float) -> Strengths:
    """Those given, all others 0."""
    return Strengths(**{**dict.fromkeys(KINDS, 0.0), **given})


@cache
def scene() -> tuple[Pixels, np.ndarray]:
    """A printed card in front of noise, and where it is."""
    picture, mask = noise(SIDE, SIDE), np.zeros((SIDE, SIDE), np.float32)
    picture[40:280, 50:290] = draw_card(240, 3)
    mask[40:280, 50:290] = 1
    return picture, mask


@cache
def spoilt(seed: int = 0, **given: float) -> Pixels:
    return draw_artifacts(*scene(), strengths(**given), seed)


def on_card(pixels: Pixels) -> Pixels:
    return pixels[40:280, 50:290]


def grey(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float64)


def displacement(before: Pixels, after: Pixels) -> float:
    """Mean pixels by which what is seen has moved, by dense flow."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    moved = flow.calc(grey(before).astype(np.uint8), grey(after).astype(np.uint8), None)
    return float(np.hypot(moved[..., 0], moved[..., 1]).mean())


def detail(pixels: Pixels, sigma: float = 4) -> Pixels:
    """What is finer than a letter."""
    return np.asarray(grey(pixels) - cv2.GaussianBlur(grey(pixels), (0, 0), sigma))


def likeness(one: Pixels, other: Pixels) -> float:
    """Correlation coefficient."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def assert_rising(values: list[float], least_step: float) -> None:
    assert (np.diff(values) >= least_step).all(), values


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_identity_distortion_moves_what_is_seen(seed):
    before = on_card(scene()[0])
    moved = [displacement(before, on_card(spoilt(seed, identity_distortion=s))) for s in (0.0, *RISING)]
    assert moved[0] == 0
    assert_rising(moved, 0.4)


def test_identity_distortion_keeps_colours_and_sharpness():
    before, after = on_card(scene()[0]), on_card(spoilt(identity_distortion=1))
    assert np.abs(before.mean(axis=(0, 1)) - after.mean(axis=(0, 1))).max() < 10
    assert detail(after).std() > 0.75 * detail(before).std()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_detail_inconsistency_draws_other_detail_of_the_same_kind(seed):
    before = on_card(scene()[0])
    garbled = [on_card(spoilt(seed, detail_inconsistency=s)) for s in (0.0, *RISING)]
    assert_rising([1 - likeness(detail(before), detail(after)) for after in garbled], 0.05)
    for after in garbled[1:]:
        assert 0.7 < detail(after).std() / detail(before).std() < 1.4
        coarse = [cv2.GaussianBlur(pixels, (0, 0), 12) for pixels in (before, after)]
        assert likeness(*coarse) > 0.85


def test_detail_inconsistency_damages_lettering_and_spares_surfaces_and_lines():
    sheet = np.full((300, 400, 3), 225, np.uint8)
    sheet[:, 200:] = (90, 60, 40)
    cv2.putText(sheet, "LETTER", (22, 80), cv2.FONT_HERSHEY_DUPLEX, 1.3, (20, 20, 20), 3, cv2.LINE_AA)
    cv2.line(sheet, (20, 200), (180, 200), (20, 20, 20), 3)
    after = draw_artifacts(sheet, None, strengths(detail_inconsistency=1), 0)
    change = np.abs(after.astype(int) - sheet).max(axis=2)
    assert (change[50:86, 20:180] > 60).mean() > 0.1
    assert likeness(grey(sheet)[50:86, 20:180], grey(after)[50:86, 20:180]) < 0.75
    assert change[:, 230:].max() <= 2
    assert (change[195:206, 50:150] > 60).mean() < 0.02
    assert (change[:, 196:204] > 60).mean() < 0.05


def test_texture_loss_flattens_texture_and_keeps_edges():
    """Faint texture goes first, strong texture with strength, an edge of 100 levels stays."""
    coarse = cv2.GaussianBlur(np.random.default_rng(0).standard_normal((240, 200)), (0, 0), 1.2)
    contrasts = np.repeat([5.0, 13.0, 22.0], 80)[:, None]
    picture = contrasts * coarse / coarse.std() + np.where(np.arange(200) < 100, 80, 180)
    picture = np.dstack([np.clip(picture, 0, 255).astype(np.uint8)] * 3)
    flattened = [grey(draw_artifacts(picture, None, strengths(texture_loss=s), 0)) for s in (0.0, *RISING)]
    left = np.array([[band[20:60, 20:80].std() for band in np.split(after, 3)] for after in flattened])
    assert_rising(list(-left.mean(axis=1)), 0.8)
    assert left[1, 0] < 0.5 * left[0, 0]
    assert (left[-1] < 0.3 * left[0]).all()
    for after in flattened:
        assert after[:, 103:107].mean() - after[:, 93:97].mean() > 75


def test_quality_degradation_blurs_fades_and_distorts():
    before = on_card(scene()[0])
    degraded = [on_card(spoilt(quality_degradation=s)) for s in (0.0, *RISING)]
    assert_rising([float(np.abs(after.astype(int) - before).mean()) for after in degraded], 3.0)
    sharpness = [float(np.abs(cv2.Laplacian(grey(after), cv2.CV_64F)).mean()) for after in degraded]
    assert_rising([-value for value in sharpness[1:]], 1.0)
    assert sharpness[-1] < 0.5 * sharpness[0]
    colourfulness = [float(np.ptp(after, axis=2).mean()) for after in degraded]
    assert_rising([-value for value in colourfulness], 2.0)
    darkest = [float(np.quantile(grey(after), 0.02)) for after in degraded]
    assert_rising(darkest, 4.0)


def test_quality_degradation_shows_in_the_small_picture():
    """Noise and JPEG are as coarse as the generated picture's pixels, so that averaging does not take them away."""
    flat = Image(np.full((256, 256, 3), 128, np.uint8))
    noisy = simulate(flat, None, size=(64, 64), strengths=strengths(quality_degradation=1)).image.pixels
    assert grey(noisy).std() > 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_artifact_is_visible_in_the_small_picture(kind):
    picture, mask = scene()
    truth = cv2.resize(picture, (80, 80), interpolation=cv2.INTER_AREA)
    drawn = simulate(Image(picture), Mask(mask), size=(80, 80), strengths=strengths(**{kind: 1.0}), seed=4)
    change = np.abs(drawn.image.pixels.astype(int) - truth)[12:68, 14:70]
    assert change.mean() > 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 7])
def test_outside_of_the_mask_no_byte_changes(kind, seed):
    picture, mask = scene()
    after = spoilt(seed, **{kind: 1.0})
    np.testing.assert_array_equal(after[mask == 0], picture[mask == 0])
    assert (after[mask == 1] != picture[mask == 1]).mean() > 0.2


def test_strength_0_leaves_every_byte():
    picture, mask = scene()
    for everywhere in (False, True):
        for share in (mask, None):
            after = draw_artifacts(picture, share, strengths(), 5, quality_everywhere=everywhere)
            np.testing.assert_array_equal(after, picture)
            assert after is not picture


def test_a_soft_mask_blends():
    picture, mask = scene()
    half = draw_artifacts(picture, mask * np.float32(128 / 255), strengths(quality_degradation=1), 0).astype(int)
    full = spoilt(quality_degradation=1).astype(int)
    assert np.abs(half - (picture + full) / 2).max() <= 1.5


def test_no_background_is_drawn_into_the_object():
    picture = np.zeros((120, 120, 3), np.uint8)
    picture[...] = (0, 255, 0)
    picture[30:90, 30:90] = (200, 30, 30)
    mask = (picture[..., 0] == 200).astype(np.float32)
    after = draw_artifacts(picture, mask, strengths(identity_distortion=1, texture_loss=1), 0)
    np.testing.assert_array_equal(after, picture)


def test_quality_everywhere_degrades_the_background_too():
    picture, mask = scene()
    local = strengths(identity_distortion=0.5, quality_degradation=0.5)
    after = draw_artifacts(picture, mask, local, 0, quality_everywhere=True)
    assert (after != picture)[mask == 0].mean() > 0.5
    sharp = strengths(identity_distortion=0.5)
    np.testing.assert_array_equal(
        draw_artifacts(picture, mask, sharp, 0, quality_everywhere=True), draw_artifacts(picture, mask, sharp, 0)
    )


def test_artifacts_draw_numbers_of_their_own():
    """Another artifact before does not change what this one moves where."""
    alone = spoilt(identity_distortion=1).astype(int) - scene()[0]
    with_fade = spoilt(identity_distortion=1, texture_loss=0.01).astype(int) - scene()[0]
    assert np.abs(alone - with_fade).mean() < 2


def test_the_seed_decides():
    everything = strengths(**dict.fromkeys(KINDS, 0.6))
    picture, mask = scene()
    first, again, other = (draw_artifacts(picture, mask, everything, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (on_card(first) != on_card(other)).mean() > 0.5
    assert draw_artifacts(picture, mask, everything, 2**63 - 1).shape == picture.shape


DIGESTS = """
import hashlib, sys
import cv2, numpy as np
from refgc.simulator.artifacts import Strengths, simulate
from refgc.imaging.image import Image, Mask
from tests.support.synthetic import draw_card

cv2.setNumThreads(int(sys.argv[1]))
card = draw_card(301, 5)
mask = np.zeros(card.shape[:2], np.float32)
mask[20:280, 15:250] = 1
mask = cv2.blur(mask, (3, 3))
everything = Strengths(**dict.fromkeys(Strengths.model_fields, 0.7))
digest = lambda pixels: hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
print(digest(cv2.GaussianBlur(card.astype(np.float32) / 255, (0, 0), 2.0)))
for size in ((75, 75), (111, 140)):
    print(digest(simulate(Image(card), Mask(mask), size=size, strengths=everything, seed=3).image.pixels))
"""


def digests(threads: int, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS, str(threads)],
        env={**os.environ, **environment}, cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_another_processor_and_number_of_threads_gives_the_same_bytes():
    here = digests(4)
    plain = digests(
        1,
        OPENCV_CPU_DISABLE="AVX512-SKX,AVX512-ICL,AVX512-CNL,AVX512-CLX,AVX2,AVX,FMA3,FP16,SSE4.2,SSE4.1,SSSE3",
        NPY_DISABLE_CPU_FEATURES="AVX512_SKX AVX512_ICL AVX512_SPR X86_V4 X86_V3 AVX2 FMA3",
    )
    assert here[1:] == plain[1:]
    if here[0] == plain[0]:
        pytest.skip("this processor has one way to compute only, so that nothing was compared")


def test_the_example_stays_recognisable_at_the_default_strengths():
    folder = REPOSITORY / "examples" / "tea_tin"
    truth = open_image(folder / "hrgt.jpg", name="truth")
    mask = open_mask(folder / "hrgt_mask.png", size=truth.size, name="mask")
    drawn = simulate(truth, mask, size=smaller(truth.size)).image.pixels
    assert drawn.shape == (256, 256, 3)
    small = cv2.resize(truth.pixels, (256, 256), interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask.values, (256, 256), interpolation=cv2.INTER_AREA) > 0.99
    assert likeness(grey(small)[inside], grey(drawn)[inside]) > 0.9
    assert likeness(detail(small, 1)[inside], detail(drawn, 1)[inside]) < 0.9


@st.composite
def any_object(draw: st.DrawFn) -> tuple[Image, Mask | None]:
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    kind = draw(st.sampled_from(["none", "pixel", "corners", "stripe", "full", "faint", "empty"]))
    values = np.zeros((height, width), np.float32)
    if kind == "pixel":
        values[height // 2, width // 2] = 1
    elif kind == "corners":
        values[0, 0] = values[-1, -1] = 1
    elif kind == "stripe":
        values[:, width // 2 :] = 1
    elif kind == "full":
        values[:] = 1
    elif kind == "faint":
        values[: height // 2 + 1] = 0.3
    return Image(noise(height, width)), None if kind == "none" else Mask(values)


@settings(max_examples=60, deadline=None)
@given(any_object(), st.floats(1, 9), st.integers(0, 2**63 - 1), st.sampled_from([0.0, 0.4, 1.0]), st.booleans())
def test_any_size_and_mask_can_be_simulated(given, factor, seed, strength, everywhere):
    picture, mask = given
    size = smaller(picture.size, factor)
    everything = strengths(**dict.fromkeys(KINDS, strength))
    drawn = simulate(picture, mask, size=size, strengths=everything, seed=seed, quality_everywhere=everywhere)
    assert drawn.image.size == size
    assert drawn.full.size == picture.size
    if mask is not None and not everywhere:
        outside = mask.values == 0
        np.testing.assert_array_equal(drawn.full.pixels[outside], picture.pixels[outside])
    if strength == 0:
        np.testing.assert_array_equal(drawn.full.pixels, picture.pixels)


def test_down_sampling_averages():
    picture = noise(64, 96)
    drawn = simulate(Image(picture), None, size=(24, 16), strengths=strengths())
    means = picture.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(drawn.image.pixels - means).max() <= 0.5 + 1e-6
    assert smaller((1024, 768)) == (256, 192)
    assert smaller((1024, 768), 2.5) == (410, 307)
    assert smaller((3, 900)) == (1, 225)


@pytest.mark.parametrize("size", [(97, 64), (96, 65), (0, 4), (4, -1)])
def test_no_simulated_picture_is_larger_than_its_truth(size):
    sentence = refusal(lambda: simulate(Image(noise(64, 96)), None, size=size))
    assert f"{size[0]}x{size[1]}" in sentence
    assert "96x64" in sentence


def test_the_record_says_that_and_how_the_picture_is_simulated(tmp_path):
    picture, mask = scene()
    given = strengths(texture_loss=0.25, quality_degradation=0.5)
    drawn = simulate(Image(picture), Mask(mask), size=(80, 80), strengths=given, seed=11)
    assert drawn.record == ArtifactRecord(
        seed=11, strengths=given, localised=True, quality_everywhere=False, true_size=(SIDE, SIDE), size=(80, 80)
    )
    assert drawn.record.simulated is True
    assert drawn.record.kinds == ("texture loss", "quality degradation")
    save_image(drawn.image, tmp_path / "lrgi.png", text=record_text(drawn.record))
    with PILImage.open(tmp_path / "lrgi.png") as saved:
        assert "Simulated" in saved.info["Comment"]
        assert json.loads(saved.info["refgc-simulated"])["simulated"] is True
        assert ArtifactRecord.model_validate_json(saved.info["refgc-simulated"]) == drawn.record
    with pytest.raises(ValidationError):
        ArtifactRecord.model_validate({**drawn.record.model_dump(), "simulated": False})


@pytest.mark.parametrize(
    "values", [{"texture_loss": 1.01}, {"texture_loss": -0.1}, {"texture_loss": "much"}, {"texture_loss": float("nan")}]
)
def test_a_strength_out_of_range_is_refused_by_name(values):
    assert "'texture_loss'" in refusal(lambda: checked_strengths(values))


def test_strengths_are_taken_by_name():
    assert checked_strengths({"texture_loss": 0.3}) == Strengths(texture_loss=0.3)
    sentence = refusal(lambda: checked_strengths({"blur": 0.3}))
    assert "'blur'" in sentence
    assert all(kind in sentence for kind in KINDS)


def test_the_callers_picture_stays_as_it_is():
    picture, mask = scene()
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    draw_artifacts(picture, mask, strengths(**dict.fromkeys(KINDS, 1.0)), 0, quality_everywhere=True)
    assert hashlib.sha256(picture.tobytes()).hexdigest() == digest
