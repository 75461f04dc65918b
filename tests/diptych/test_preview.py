"""The preview on a pair drawn from scratch: what it makes of it, what it says about it, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from refgc.diptych import sources
from refgc.diptych.conditions import build
from refgc.diptych.preview import (
    STRENGTHS,
    PreviewRequest,
    PreviewResult,
    choose_generator,
    make_preview_request,
    parse_artifacts,
    preview,
)
from refgc.diptych.preview_request import LONGEST_TRUTH
from refgc.errors import EngineError
from refgc.imaging.arrays import bicubic
from refgc.imaging.image import Image, Mask
from refgc.simulator.artifacts import simulate
from tests.support.pictures import noise, quadrants, refusal
from tests.support.synthetic import SyntheticPair, make_synthetic_pair

if TYPE_CHECKING:
    from refgc.diptych.generator import DiptychGenerator

NOTHING = dict.fromkeys(type(STRENGTHS).model_fields, 0.0)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    """Smaller than what other tests use: a preview costs as much as its pictures are large."""
    return make_synthetic_pair(reference_side=256, generated_side=64)


def card_mask(pair: SyntheticPair) -> np.ndarray:
    """The card in `pair.reference`, which it fills; a rim is left out, since a mask of everything tells nothing."""
    mask = np.full(pair.reference.shape[:2], 255, np.uint8)
    mask[:4], mask[-4:], mask[:, :4], mask[:, -4:] = 0, 0, 0, 0
    return mask


def scene_mask(pair: SyntheticPair) -> np.ndarray:
    return np.asarray(cv2.resize(pair.mask, pair.truth.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def request_for(pair: SyntheticPair, **options: Any) -> PreviewRequest:
    masks: dict[str, Any] = {"reference_mask": card_mask(pair), "scene_mask": scene_mask(pair)}
    return make_preview_request(pair.reference, pair.truth, **{**masks, **options})


@pytest.fixture(scope="module")
def made(pair: SyntheticPair) -> tuple[PreviewRequest, PreviewResult]:
    request = request_for(pair, object_name="card", caption="a colourful card", seed=5)
    return request, preview(request, generator="simulated")


# What is made


def test_the_conditions_are_those_of_the_scene(made):
    request, result = made
    assert result.truth.pixels is request.scene.pixels
    assert result.mask.values is request.scene_mask.values
    expected = build(
        request.reference, request.reference_mask, request.scene, request.scene_mask, panel=result.report.panel_size
    )
    for name in ("picture", "mask", "edges"):
        np.testing.assert_array_equal(getattr(result.conditions, name), getattr(expected, name))
    width = result.report.panel_size[0]
    assert not result.conditions.mask[:, :width].any()
    assert not result.conditions.edges[:, :width].any()
    assert result.conditions.edges[:, width:].any()


def test_the_generated_picture_is_the_simulators_on_the_scene(made):
    request, result = made
    expected = simulate(
        request.scene, request.scene_mask, size=(64, 64), strengths=request.strengths, seed=request.seed
    )
    np.testing.assert_array_equal(result.generated.pixels, expected.image.pixels)
    assert result.report.artifacts == expected.record
    assert result.report.artifacts.strengths == STRENGTHS


def test_nothing_changes_beside_the_object(made):
    request, result = made
    shrunk = cv2.resize(request.scene.pixels, (64, 64), interpolation=cv2.INTER_AREA)
    beside = cv2.resize(request.scene_mask.values, (64, 64), interpolation=cv2.INTER_AREA) == 0
    assert beside.mean() > 0.4
    np.testing.assert_array_equal(result.generated.pixels[beside], shrunk[beside])
    assert (result.generated.pixels[~beside] != shrunk[~beside]).any(axis=-1).mean() > 0.8


def test_the_diptych_is_the_left_panel_beside_what_was_drawn(made):
    _, result = made
    width, height = result.report.panel_size
    assert result.diptych.size == (2 * width, height)
    np.testing.assert_array_equal(result.diptych.pixels[:, :width], result.conditions.picture[:, :width])
    right = cv2.resize(result.diptych.pixels[:, width:], result.generated.size, interpolation=cv2.INTER_AREA)
    difference = np.abs(right.astype(int) - result.generated.pixels)
    assert np.median(difference) <= 1
    assert difference.mean() < 2


def test_stages_are_pictures_in_the_order_they_were_made(made):
    _, result = made
    assert list(result.stages) == [
        "object in the reference",
        "object in the scene",
        "condition picture",
        "condition mask",
        "condition edges",
        "diptych",
        "generated",
    ]
    assert all(isinstance(stage, Image) for stage in result.stages.values())
    np.testing.assert_array_equal(result.stages["condition edges"].pixels[..., 1], result.conditions.edges)


def test_same_request_same_bytes_and_another_seed_other_artifacts(made, pair):
    request, result = made
    again = preview(request_for(pair, object_name="card", seed=5), generator="simulated")
    other = preview(replace(request, seed=6), generator="simulated")
    for one, same, different in (
        (result.generated, again.generated, other.generated),
        (result.diptych, again.diptych, other.diptych),
    ):
        np.testing.assert_array_equal(one.pixels, same.pixels)
        assert (one.pixels != different.pixels).any()
    np.testing.assert_array_equal(result.conditions.picture, other.conditions.picture)


def test_without_artifacts_only_the_size_is_lost(pair):
    request = request_for(pair, artifacts=NOTHING)
    result = preview(request, generator="simulated")
    shrunk = cv2.resize(pair.truth, (64, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(result.generated.pixels, shrunk)
    assert result.report.simulated
    assert "without any artifact" in result.report.message
    assert result.report.upscaled is not None
    spoilt = preview(request_for(pair), generator="simulated").report.upscaled
    assert spoilt is not None
    assert result.report.upscaled.psnr_inside > spoilt.psnr_inside + 1


def test_another_factor(pair):
    result = preview(request_for(pair, factor=2), generator="simulated")
    assert result.generated.size == (128, 128)
    assert result.report.generated_size == result.generated.size
    assert result.truth.size == (256, 256)


def test_a_scene_without_the_object_gets_it_put_into_it(pair):
    scene = cv2.GaussianBlur(noise(400, 600), (0, 0), 20)
    cv2.rectangle(scene, (200, 100), (400, 300), (90, 20, 30), -1)
    place = np.zeros((400, 600), np.uint8)
    place[100:300, 200:400] = 255
    request = make_preview_request(pair.reference, scene, reference_mask=card_mask(pair), scene_mask=place)
    result = preview(request, generator="simulated")
    assert result.report.truth == "composed"
    assert "put into the scene" in result.report.message
    changed = (result.truth.pixels != request.scene.pixels).any(axis=2)
    assert changed[110:290, 210:390].mean() > 0.9
    assert not changed[:80].any()
    assert not changed[:, :180].any()
    # What is cut out and led to is the object as it was put there.
    width = result.report.panel_size[0]
    assert result.conditions.edges[:, width:].any()
    assert result.report.upscaled is not None


# What is said


def test_the_report_says_what_happened(made):
    request, result = made
    report = result.report
    assert report.simulated
    assert report.generator == "simulated"
    assert report.message.startswith("The generated picture is simulated: ")
    for kind in ("identity distortion", "detail inconsistency", "texture loss", "quality degradation"):
        assert kind in report.message
    assert report.obstacle == ""
    assert report.truth == "scene"
    assert (report.object_name, report.caption, report.seed, report.factor) == ("card", "a colourful card", 5, 4)
    assert "same card" in report.prompt
    assert "On the left, a colourful card." in report.prompt
    assert (report.reference_size, report.scene_size) == ((256, 256), (256, 256))
    assert (report.truth_size, report.generated_size) == ((256, 256), (64, 64))
    assert report.model is None
    assert {"refgc", "opencv", "numpy"} <= set(report.versions)
    assert "torch" not in report.versions
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert report.reference_mask.source == report.scene_mask.source == "given"
    assert report.reference_mask.confidence is None
    assert report.scene_mask.coverage == pytest.approx((request.scene_mask.values >= 0.5).mean())
    assert type(report).model_validate_json(report.model_dump_json()) == report
    assert set(json.loads(report.model_dump_json())) == set(type(report).model_json_schema()["properties"])


def test_progress_names_every_stage_and_only_grows(pair):
    told: list[tuple[str, float]] = []
    result = preview(
        request_for(pair),
        generator="simulated",
        progress=lambda stage, fraction: told.append((stage, fraction)),
    )
    assert [stage for stage, _ in told] == [*result.report.seconds, "done"]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


@pytest.fixture
def unset(monkeypatch):
    """No ControlNets and no device are named."""
    for variable in ("REFGC_DEVICE", sources.INPAINTING_CONTROLNET, sources.CANNY_CONTROLNET):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def test_auto_says_what_stands_in_the_way(pair, unset):
    report = preview(request_for(pair)).report
    assert report.simulated
    assert report.obstacle == sources.obstacle() != ""
    assert "because no diptych generator can run here" in report.message


def never() -> DiptychGenerator:
    pytest.fail("it was opened")


def test_auto_never_takes_a_processor(unset):
    unset.setenv("REFGC_DEVICE", "cpu")
    generator, obstacle = choose_generator("auto", find_obstacle=lambda: "", open_generator=never)
    assert generator is None
    assert "REFGC_DEVICE is cpu" in obstacle


def test_auto_falls_back_openly_where_there_is_too_little_memory(unset):
    class Crowded:
        def prepare(self, _progress: object) -> None:
            raise EngineError("The memory of the GPU is not enough.")

    def open_crowded() -> Any:
        return Crowded()

    generator, obstacle = choose_generator("auto", find_obstacle=lambda: "", open_generator=open_crowded)
    assert (generator, obstacle) == (None, "The memory of the GPU is not enough.")


def test_auto_takes_a_generator_that_could_be_loaded(unset):
    class Loaded:
        def prepare(self, _progress: object) -> None:
            self.is_prepared = True

    loaded: Any = Loaded()
    assert choose_generator("auto", find_obstacle=lambda: "", open_generator=lambda: loaded) == (loaded, "")
    assert loaded.is_prepared


def test_a_generator_that_was_asked_for_and_cannot_run_is_no_simulation(pair, unset):
    with pytest.raises(EngineError):
        preview(request_for(pair), generator="diffusion")


def test_there_are_three_generators(pair):
    with pytest.raises(EngineError, match="auto, simulated or diffusion"):
        preview(request_for(pair), generator="best")  # type: ignore[arg-type]


def test_the_diffusion_generator_draws_from_the_same_conditions(made, tiny_parts):
    from refgc.diptych.generator import DiptychGenerator
    from refgc.diptych.settings import DrawingSettings

    parts = sources.Sources(str(tiny_parts / "inpainting"), str(tiny_parts / "canny"), base=str(tiny_parts / "base"))
    generator = DiptychGenerator(parts, device="cpu", settings=DrawingSettings(num_inference_steps=1))
    request, simulated = made
    told: list[float] = []
    result = preview(request, generator=generator, progress=lambda stage, fraction: told.append(fraction))
    assert told == sorted(told)
    assert not result.report.simulated
    assert result.report.artifacts is None
    assert result.report.model is not None
    assert result.report.model.canny_controlnet == parts.canny_controlnet
    assert result.report.model.placement
    assert "torch" in result.report.versions
    assert "simulated" not in result.report.message
    assert result.report.upscaled is not None
    np.testing.assert_array_equal(result.conditions.picture, simulated.conditions.picture)
    drawn = generator.generate(result.conditions, "card", "a colourful card", 5)
    np.testing.assert_array_equal(result.diptych.pixels, drawn.diptych)
    shrunk = bicubic(drawn.generated, (64, 64))
    np.testing.assert_array_equal(result.generated.pixels, shrunk)


# What is taken and what is refused


def test_a_request_cannot_be_changed(made):
    request, _ = made
    with pytest.raises(FrozenInstanceError):
        request.seed = 1
    with pytest.raises(ValueError, match="read-only"):
        request.scene.pixels[0, 0, 0] = 1


def test_rows_and_columns_beyond_a_multiple_are_cut(pair):
    scene, mask = pair.truth[:255, :253], scene_mask(pair)[:255, :253]
    request = request_for(pair, scene_mask=mask)
    cut = make_preview_request(pair.reference, scene, reference_mask=card_mask(pair), scene_mask=mask)
    assert request.scene.size == (256, 256)
    assert (cut.scene.size, cut.scene_size) == ((252, 252), (253, 255))
    np.testing.assert_array_equal(cut.scene.pixels, scene[:252, :252])
    assert cut.scene_mask is not None
    np.testing.assert_array_equal(np.rint(cut.scene_mask.values * 255), mask[:252, :252])


def test_a_large_scene_is_taken_smaller():
    scene, mask = quadrants(3000, 1501), np.zeros((1501, 3000), np.uint8)
    mask[:750, :1500] = 255
    request = make_preview_request(quadrants(), scene, scene_mask=mask)
    assert request.scene.size == (LONGEST_TRUTH, 1024)
    assert request.scene_size == (3000, 1501)
    assert request.scene_mask is not None
    assert request.scene_mask.size == request.scene.size
    red = (request.scene.pixels == request.scene.pixels[0, 0]).all(axis=2)
    assert (red == (request.scene_mask.values > 0.5)).mean() > 0.999


@pytest.mark.parametrize(("size", "factor"), [((63, 200), 4), ((400, 31), 2), ((4000, 80), 4)])
def test_scenes_too_small_for_a_smaller_picture(size, factor):
    sentence = refusal(lambda: make_preview_request(quadrants(), quadrants(*size), factor=factor))
    assert f"{size[0]}x{size[1]}" in sentence
    assert f"at least {16 * factor} pixels" in sentence


def test_masks_of_another_size_and_soft_ones(pair):
    request = request_for(pair, scene_mask=pair.mask)
    assert request.scene_mask is not None
    assert request.scene_mask.size == (256, 256)
    soft = cv2.GaussianBlur(scene_mask(pair), (0, 0), 8)
    softened = request_for(pair, scene_mask=soft).scene_mask
    assert softened is not None
    np.testing.assert_allclose(softened.values, soft / 255, atol=1e-6)


@pytest.mark.parametrize("name", ["reference_mask", "scene_mask"])
def test_masks_that_tell_nothing(pair, name):
    called = name.replace("_", " ")
    for level, part in ((0, "marks nothing"), (255, "marks the whole picture")):
        mask = np.full((256, 256), level, np.uint8)
        sentence = refusal(partial(request_for, pair, **{name: mask}))
        assert called in sentence
        assert part in sentence
    assert "same size" in refusal(partial(request_for, pair, **{name: np.full((256, 150), 255, np.uint8)}))


def test_transparency_is_the_references_mask(pair):
    cut_out = np.dstack([pair.reference, card_mask(pair)])
    mask = scene_mask(pair)
    request = make_preview_request(cut_out, pair.truth, scene_mask=mask)
    assert preview(request, generator="simulated").report.reference_mask.source == "transparency"
    given = np.zeros((256, 256), np.uint8)
    given[50:200, 50:200] = 255
    both = make_preview_request(cut_out, pair.truth, reference_mask=given, scene_mask=mask)
    assert both.reference_mask is not both.reference.alpha
    assert both.reference_mask is not None
    np.testing.assert_array_equal(both.reference_mask.values * 255, given)


def test_transparency_that_tells_nothing_is_no_mask(pair):
    veiled = np.dstack([pair.reference, np.full((256, 256), 200, np.uint8)])
    assert make_preview_request(veiled, pair.truth).reference_mask is None


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"factor": 3}, "factor is 3"),
        ({"seed": -1}, "seed is -1"),
        ({"object_name": " "}, "object name is empty"),
        ({"caption": "two\nlines"}, "one line"),
        ({"caption": "x" * 1001}, "1001 characters"),
        ({"artifacts": {"texture_loss": 1.5}}, "texture_loss"),
        ({"artifacts": {"texture": 0.5}}, "texture"),
        ({"artifacts": {"texture_loss": float("nan")}}, "texture_loss"),
    ],
)
def test_options_that_cannot_be_used(pair, options, part):
    assert part in refusal(partial(request_for, pair, **options))


def test_a_blank_caption_is_none(pair):
    assert request_for(pair, caption="  ").caption is None


def test_strengths_not_named_keep_their_default(pair):
    strengths = request_for(pair, artifacts={"texture_loss": 0.9}).strengths
    assert strengths == STRENGTHS.model_copy(update={"texture_loss": 0.9})


def test_artifacts_as_the_command_takes_them():
    assert parse_artifacts(["texture-loss=0.3", "identity_distortion=1", "texture-loss=0"]) == {
        "texture_loss": 0.0,
        "identity_distortion": 1.0,
    }
    assert parse_artifacts([]) == {}


@pytest.mark.parametrize(
    ("setting", "part"), [("blur=0.5", "'blur'"), ("texture-loss", "NAME=STRENGTH"), ("texture-loss=much", "'much'")]
)
def test_artifacts_that_cannot_be_read(setting, part):
    assert part in refusal(lambda: parse_artifacts([setting]))


def test_a_mask_is_of_its_picture(made):
    _, result = made
    assert isinstance(result.mask, Mask)
    assert result.mask.size == result.truth.size
    assert result.reference_mask.size == result.report.reference_size
