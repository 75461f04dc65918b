"""The correspondence engine as a whole: sizes, determinism, strength, what it leaves alone and what it reports."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import RefineResult
from refgc.errors import EngineError
from refgc.imaging.image import Image
from refgc.imaging.transparency import without_white
from refgc.refinement import refine
from refgc.request import RefineRequest, make_request
from tests.support.correspondence_pairs import (
    PAIR,
    PRODUCT_PHOTO,
    beside,
    changed,
    enlarged,
    psnr,
    refined,
    unrelated,
    upscaled,
    watched,
)
from tests.support.ncnn_files import write_weights
from tests.support.pictures import assert_close
from tests.support.synthetic import draw_card


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_result_is_exactly_scale_times_the_generated_picture(scale):
    result = refined(scale)
    assert result.image.size == (80 * scale, 80 * scale)
    assert result.image.pixels.dtype == np.uint8
    assert result.report.placed


def test_the_result_comes_near_the_truth_inside_the_object():
    result = refined()
    inside = enlarged(PAIR.mask == 255, 4).astype(np.float64)
    assert psnr(result.image.pixels, PAIR.truth, inside) > psnr(upscaled(result), PAIR.truth, inside) + 5.0


def test_the_same_request_gives_the_same_bytes_whatever_ran_before_in_any_thread_watched_or_not():
    result = watched().result
    assert result is not refined()
    assert result.image.pixels.tobytes() == refined().image.pixels.tobytes()
    assert {name: stage.pixels.tobytes() for name, stage in result.stages.items()} == {
        name: stage.pixels.tobytes() for name, stage in refined().stages.items()
    }
    assert result.report.model_dump(exclude={"seconds"}) == refined().report.model_dump(exclude={"seconds"})


def test_the_number_of_threads_does_not_change_the_bytes():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = refine(PRODUCT_PHOTO, PAIR.generated)
    finally:
        cv2.setNumThreads(threads)
    assert alone.image.pixels.tobytes() == refined().image.pixels.tobytes()


def test_strength_zero_is_the_clean_upscale():
    assert not changed(refined(strength=0.0)).any()
    assert changed(refined()).any()


def test_more_strength_comes_steadily_nearer_to_the_full_result():
    full = refined().image.pixels.astype(int)
    distances = [
        np.abs(refined(strength=strength).image.pixels.astype(int) - full).mean()
        for strength in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(distances))
    assert distances[2] == pytest.approx(distances[0] / 2, rel=0.1)


def test_the_background_is_the_upscale():
    result = refined()
    far = enlarged(beside(PAIR.mask > 0, 4), 4)
    assert far.mean() > 0.3
    assert not changed(result)[far].any()


def test_an_unrelated_reference_is_not_placed():
    result, _ = unrelated()
    assert not result.report.placed
    assert not changed(result).any()
    assert list(result.stages) == ["upscaled"]
    assert (result.report.confidence, result.report.coverage, result.report.matches) == (0, 0, 0)
    assert result.report.object_box is None
    assert "plain enlargement" in result.report.message


def test_the_report_describes_the_result():
    result = refined()
    summary = result.report
    assert summary.engine == "correspondence"
    assert summary.matches >= 8
    assert 0.9 < summary.confidence <= 1
    assert (summary.reference_size, summary.generated_size, summary.output_size) == ((400, 400), (80, 80), (320, 320))
    assert (summary.scale, summary.strength, summary.seed) == (4, 1.0, 0)
    card = enlarged(PAIR.mask > 127, 4)
    assert summary.coverage == pytest.approx(card.mean(), rel=0.1)
    assert summary.object_box is not None
    left, top, right, bottom = summary.object_box
    rows, columns = np.flatnonzero(card.any(axis=1)), np.flatnonzero(card.any(axis=0))
    expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.abs(np.array([left, top, right, bottom]) - expected).max() <= 8
    assert summary.coverage <= (right - left) * (bottom - top) / 320**2
    assert list(summary.seconds) == ["upscaling", "finding the object", "aligning", "fusing"]
    assert all(seconds >= 0 for seconds in summary.seconds.values())
    assert {"refgc", "opencv", "numpy"} <= summary.versions.keys()


def test_the_stages_are_pictures_that_explain_the_result():
    stages = refined().stages
    assert list(stages) == [
        "upscaled",
        "matches",
        "aligned reference",
        "confidence",
        "object in the reference",
        "object in the picture",
    ]
    for name in ("upscaled", "aligned reference", "confidence", "object in the picture"):
        assert stages[name].size == (320, 320)
    assert stages["object in the reference"].size == (400, 400)
    card = enlarged(PAIR.mask > 127, 4)
    confidence = stages["confidence"].pixels[..., 0] / 255
    assert confidence[card].mean() > 0.8
    assert confidence[~card].mean() < 0.1


@pytest.mark.parametrize("placed", [True, False])
def test_progress_advances_from_nothing_to_all(placed):
    result, heard = (watched().result, watched().progress) if placed else unrelated()
    assert result.report.placed == placed
    fractions = [fraction for _, fraction in heard]
    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert [stage for stage, _ in heard if stage in result.report.seconds] == list(result.report.seconds)
    if placed:
        assert heard[-1] == ("done", 1.0)


@pytest.mark.parametrize("shift", [(-32, 0), (34, 30)])
def test_an_object_cut_by_the_border_is_refined_up_to_it(shift):
    moving = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    size = (80, 80)
    generated = cv2.warpAffine(PAIR.generated, moving, size, borderMode=cv2.BORDER_REPLICATE)
    card = enlarged(cv2.warpAffine(PAIR.mask, moving, size) > 127, 4)
    result = refine(PRODUCT_PHOTO, np.asarray(generated, np.uint8))
    assert result.report.placed
    assert changed(result)[card].mean() > 0.6
    edge = (slice(None), 0) if shift[0] < 0 else (slice(None), -1)
    assert changed(result)[edge][card[edge]].mean() > 0.6


def test_a_scene_seen_again_is_refined_all_over():
    scene = draw_card(256, 4)
    generated = cv2.resize(cv2.GaussianBlur(scene, (0, 0), 1.5), (64, 64), interpolation=cv2.INTER_AREA)
    result = refine(scene, np.asarray(generated, np.uint8))
    assert result.report.placed
    assert result.report.coverage > 0.8
    assert psnr(result.image.pixels, scene) > psnr(upscaled(result), scene) + 5.0


def test_a_reference_almost_equal_to_the_generated_picture_changes_next_to_nothing():
    card = draw_card(120, 5)
    reference = card.copy()
    reference[0, 0] = 255 - reference[0, 0]
    # `refine` refuses the same picture twice.
    result = CorrespondenceEngine().refine(RefineRequest(Image(reference), Image(card), scale=1))
    assert result.report.placed
    assert np.abs(result.image.pixels.astype(int) - card).mean() < 2.0


@pytest.mark.parametrize("level", [0, 128, 255])
def test_pictures_of_one_colour_stay_as_they_are(level):
    result = refine(np.full((90, 70, 3), level, np.uint8), np.full((30, 40, 3), level, np.uint8), scale=2)
    assert not result.report.placed
    assert (result.image.pixels == level).all()
    assert result.image.size == (80, 60)


def test_a_reference_with_nothing_finer_to_give_is_not_placed():
    blurred = np.asarray(cv2.GaussianBlur(PRODUCT_PHOTO, (0, 0), 10.0), np.uint8)
    result = refine(blurred, PAIR.generated)
    assert not result.report.placed
    assert (result.report.object_box, result.report.coverage, result.report.confidence) == (None, 0, 0)
    assert result.report.warnings == ("blurred",)
    assert "less sharp" in result.report.message
    assert (result.image.pixels == upscaled(result)).all()


def test_strength_nothing_reports_and_changes_nothing():
    result = refined(strength=0.0)
    assert not result.report.placed
    assert (result.report.object_box, result.report.coverage) == (None, 0)
    assert "strength 0" in result.report.message
    assert list(result.stages) == ["upscaled"]
    assert (result.image.pixels == upscaled(result)).all()


@pytest.mark.parametrize("scale", [2, 4])
def test_the_placement_tells_where_a_spot_of_the_object_is_in_the_photo(scale):
    placement = refined(scale).report.placement
    assert placement is not None
    homography = np.reshape(placement, (3, 3))
    seen = cv2.boxPoints(cv2.minAreaRect(cv2.findNonZero((PAIR.mask == 255).astype(np.uint8))))
    in_output = (seen + 0.5) * scale - 0.5
    found = cv2.perspectiveTransform(in_output.reshape(-1, 1, 2).astype(np.float64), homography).reshape(-1, 2)
    # The card begins 40 pixels inside of the photo, and is 320 pixels long.
    assert np.sort(found, axis=0) == pytest.approx(
        np.sort([[40, 40], [40, 360], [360, 40], [360, 360]], axis=0), abs=25
    )
    assert found.mean(axis=0) == pytest.approx([199.5, 199.5], abs=8)


def test_where_nothing_is_placed_there_is_no_placement():
    assert refine(PRODUCT_PHOTO, PAIR.generated, scale=1, strength=0.0).report.placement is None


def test_a_viewer_is_given_pictures_on_the_way():
    assert watched().shown == [("upscaled", (320, 320)), ("aligned reference", (160, 160))]


@pytest.mark.parametrize("stop_at", ["upscaled", "aligned reference"])
def test_what_a_viewer_raises_ends_the_refinement(stop_at):
    def stop(stage: str, _: object) -> None:
        if stage == stop_at:
            raise InterruptedError(stage)

    with pytest.raises(InterruptedError, match=stop_at):
        CorrespondenceEngine().refine(make_request(PRODUCT_PHOTO, PAIR.generated), viewer=stop)


# --- drawn surroundings ---------------------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of tiny networks that add faint detail everywhere."""
    monkeypatch.setenv("REFGC_WEIGHTS", str(write_weights(tmp_path)))


def in_front_of_waves():
    """The generated picture of `PAIR` with a texture around the object."""
    y, x = np.mgrid[: PAIR.mask.shape[0], : PAIR.mask.shape[1]]
    waves = 60 * np.sin(x / 2.0) * np.cos(y / 2.5) * (PAIR.mask == 0)
    return np.clip(PAIR.generated + waves[..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("method", "scale"), [("fast", 2), ("best", 4)])
@pytest.mark.usefixtures("network")
def test_surroundings_are_drawn_around_the_object_and_never_on_it(method, scale):
    generated = in_front_of_waves()
    drawn = refine(PRODUCT_PHOTO, generated, scale=scale, surroundings=method)
    plain = refine(PRODUCT_PHOTO, generated, scale=scale)
    difference = np.abs(drawn.image.pixels.astype(int) - plain.image.pixels).max(axis=2)
    inside = enlarged(PAIR.mask == 255, scale)
    outside = beside(inside, 8 * scale)
    assert difference[inside].mean() < 0.2 * difference[outside].mean()
    assert (difference[outside] > 3).mean() > 0.3
    np.testing.assert_array_equal(drawn.image.pixels[outside], drawn.stages["surroundings"].pixels[outside])
    np.testing.assert_array_equal(upscaled(drawn), upscaled(plain))
    assert (drawn.report.surroundings, plain.report.surroundings) == (method, "plain")
    assert drawn.report.placed


@pytest.mark.parametrize("reference", [PRODUCT_PHOTO, draw_card(300, 77)], ids=["placed", "not placed"])
@pytest.mark.usefixtures("network")
def test_a_viewer_sees_the_plain_result_before_surroundings_are_drawn(reference):
    told: list[str] = []
    seen: list[RefineResult] = []

    def look(stage: str, picture: Image | RefineResult) -> None:
        if isinstance(picture, RefineResult):
            assert stage == "drawing the surroundings"
            assert stage not in told
            seen.append(picture)

    request = make_request(reference, in_front_of_waves(), scale=2, surroundings="fast")
    result = CorrespondenceEngine().refine(request, lambda stage, _: told.append(stage), look)
    (early,) = seen
    plain = CorrespondenceEngine().refine(replace(request, surroundings="plain"), viewer=look)
    assert len(seen) == 1
    np.testing.assert_array_equal(early.image.pixels, plain.image.pixels)
    assert (early.report.surroundings, result.report.surroundings) == ("plain", "fast")
    assert early.report.placed == result.report.placed == (reference is PRODUCT_PHOTO)
    assert list(early.stages) == list(plain.stages)
    assert "drawing the surroundings" not in early.report.seconds
    assert "drawing the surroundings" in result.report.seconds
    assert (result.image.pixels != plain.image.pixels).any()


@pytest.mark.usefixtures("network")
def test_where_nothing_is_placed_the_whole_picture_is_drawn():
    absent = refine(draw_card(300, 77), PAIR.generated, surroundings="fast")
    unwanted = refine(PRODUCT_PHOTO, PAIR.generated, surroundings="fast", strength=0.0)
    assert not absent.report.placed
    assert not unwanted.report.placed
    assert changed(absent).any()
    np.testing.assert_array_equal(absent.image.pixels, unwanted.image.pixels)


@pytest.mark.usefixtures("network")
def test_they_are_drawn_round_every_copy_in_sixteen_bits_and_with_the_pictures_transparency():
    generated = np.hstack([in_front_of_waves()] * 2)
    mask = np.hstack([PAIR.mask] * 2)
    alpha = np.full(mask.shape, 255, np.uint8)
    alpha[:12] = np.linspace(0, 255, 12, dtype=np.uint8)[:, None]
    transparent = np.dstack([generated, alpha])
    drawn = refine(PRODUCT_PHOTO, transparent, scale=2, bits=16, surroundings="fast")
    plain = refine(PRODUCT_PHOTO, transparent, scale=2, bits=16)
    assert len(drawn.report.objects) == len(plain.report.objects) == 2
    assert drawn.image.deep is not None
    assert plain.image.deep is not None
    difference = np.abs(drawn.image.deep.astype(int) - plain.image.deep).max(axis=2) / 257
    inside, outside = enlarged(mask == 255, 2), beside(enlarged(mask == 255, 2), 16)
    for copy in (np.s_[:, :160], np.s_[:, 160:]):
        assert difference[copy][inside[copy]].mean() < 0.2 * difference[copy][outside[copy]].mean()
    assert len(np.unique(drawn.image.deep[outside] % 257)) > 200
    around = drawn.stages["surroundings"].deep
    assert around is not None
    assert (around[outside] == drawn.image.deep[outside]).mean() > 0.99
    assert drawn.image.alpha is not None
    assert plain.image.alpha is not None
    np.testing.assert_array_equal(drawn.image.alpha.values, plain.image.alpha.values)
    seen = drawn.image.alpha.values
    assert (difference[seen == 0] == 0).all()
    own, own_of_plain = (without_white(image.pixels, seen).astype(int) for image in (drawn.image, plain.image))
    edge = (seen > 0.05) & (seen < 0.6)
    assert abs((own - own_of_plain)[edge].mean()) < 1.5


@pytest.mark.usefixtures("network")
def test_progress_of_drawing_only_grows():
    told = []
    refine(
        PRODUCT_PHOTO,
        PAIR.generated,
        surroundings="fast",
        progress=lambda stage, fraction: told.append((stage, fraction)),
    )
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert "drawing the surroundings" in dict(told)
    assert fractions[-1] == 1.0


def test_surroundings_without_weights_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("REFGC_WEIGHTS", str(tmp_path))
    told = []
    with pytest.raises(EngineError, match="run `refgc setup --surroundings`"):
        refine(PRODUCT_PHOTO, PAIR.generated, surroundings="best", progress=lambda *step: told.append(step))
    assert not told


# --- transparency and bits ------------------------------------------------------------------------------------------


def cut_out() -> np.ndarray:
    """The pair's generated picture as RGBA: the object with a soft edge and a hole, black where nothing is seen."""
    alpha = cv2.erode(PAIR.mask, np.ones((5, 5), np.uint8))
    alpha = cv2.GaussianBlur(cv2.circle(alpha, (40, 40), 8, 0.0, -1), (0, 0), 1.5)
    colours = np.where(alpha[..., None] > 0, PAIR.generated, 0)
    return np.dstack([colours, alpha]).astype(np.uint8)


@functools.cache
def of_cut_out(bits: int = 8, strength: float = 1.0) -> RefineResult:
    return refine(PAIR.reference, cut_out(), engine="correspondence", bits=bits, strength=strength)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_transparent_picture_keeps_its_transparency(strength):
    result = of_cut_out(strength=strength)
    assert result.report.placed == (strength > 0)
    assert result.image.alpha is not None
    alpha, given = result.image.alpha.values, cut_out()[..., 3] / 255
    assert result.image.alpha.size == result.image.size == (320, 320)
    np.testing.assert_allclose(cv2.resize(alpha, (80, 80), interpolation=cv2.INTER_AREA), given, atol=0.06)
    surrounded = cv2.dilate(given, np.ones((3, 3))) == 0
    assert (alpha[enlarged(surrounded, 4).astype(bool)] == 0).all()
    assert all(stage.alpha is None for stage in result.stages.values())


def test_soft_edges_are_neither_darkened_nor_brightened():
    result, plain = of_cut_out().image, of_cut_out(strength=0.0).image
    assert result.alpha is not None
    alpha = result.alpha.values
    own, own_of_plain = (without_white(image.pixels, alpha).astype(int) for image in (result, plain))
    for low, high in ((0.05, 0.3), (0.3, 0.6)):
        edge = (alpha > low) & (alpha < high)
        assert abs((own - own_of_plain)[edge].mean()) < 2.5
    # On black and on white the plain enlargement shrinks to what the picture is there.
    given = cut_out().astype(float)
    edge = (given[..., 3] > 20) & (given[..., 3] < 235)
    large = np.dstack([own_of_plain, 255 * alpha])
    for ground in (0.0, 255.0):
        small, expected = (
            cv2.resize(
                rgba[..., :3] * (rgba[..., 3:] / 255) + ground * (1 - rgba[..., 3:] / 255),
                (80, 80),
                interpolation=cv2.INTER_AREA,
            )
            for rgba in (large, given)
        )
        assert abs((small - expected)[edge].mean()) < 2


def test_an_opaque_alpha_changes_nothing():
    opaque = np.dstack([PAIR.generated, np.full((80, 80), 255, np.uint8)])
    result = refine(PRODUCT_PHOTO, opaque, engine="correspondence")
    assert result.image.alpha is None
    assert result.image.pixels.tobytes() == refined().image.pixels.tobytes()


def test_sixteen_bits_are_those_before_rounding():
    deep = refine(PRODUCT_PHOTO, PAIR.generated, engine="correspondence", bits=16).image
    assert deep.deep is not None
    assert refined().image.deep is None
    assert_close(deep.pixels, refined().image.pixels, 1)
    assert np.abs(deep.deep / 257 - deep.pixels).max() <= 0.51
    # Widened levels would all be multiples of 257.
    assert len(np.unique(deep.deep % 257)) == 257


def test_sixteen_bits_and_transparency_go_together():
    image = of_cut_out(bits=16).image
    assert image.deep is not None
    assert image.alpha is not None
    assert_close(image.pixels, of_cut_out().image.pixels, 2)


def test_a_picture_of_the_same_size_in_sixteen_bits():
    image = refine(PRODUCT_PHOTO, PAIR.generated, engine="correspondence", bits=16, scale=1, strength=0.0).image
    assert image.deep is not None
    np.testing.assert_array_equal(image.deep, PAIR.generated.astype(np.uint16) * 257)
