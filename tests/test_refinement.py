"""Requests are checked once, whole and in words; refine() runs the real engine on them."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageFilter

import refgc
from refgc.imaging.image import Image
from refgc.refinement import refine
from refgc.request import RefineRequest, make_request
from tests.support.pictures import encoded, noise, quadrants, refusal

REFERENCE = noise(80, 96)
GENERATED = quadrants()


def test_defaults():
    request = make_request(REFERENCE, GENERATED)
    assert isinstance(request, RefineRequest)
    np.testing.assert_array_equal(request.reference.pixels, REFERENCE)
    np.testing.assert_array_equal(request.generated.pixels, GENERATED)
    assert (request.scale, request.seed, request.strength, request.object_name) == (4, 0, 1.0, "object")
    assert request.reference_mask is None
    assert request.generated_mask is None


def test_every_kind_of_source_makes_the_same_request(tmp_path):
    path = tmp_path / "reference.png"
    path.write_bytes(encoded(PILImage.fromarray(REFERENCE), "PNG"))
    for source in (path, str(path), PILImage.fromarray(REFERENCE), REFERENCE):
        np.testing.assert_array_equal(make_request(source, GENERATED).reference.pixels, REFERENCE)


def test_further_references_come_with_their_masks():
    mask = np.zeros((80, 96), bool)
    mask[10:40, 20:50] = True
    transparent = np.dstack([REFERENCE, np.where(mask, 255, 0).astype(np.uint8)])
    request = make_request([REFERENCE, REFERENCE[::-1], transparent], GENERATED, reference_mask=[None, mask, None])
    assert request.reference_mask is None
    second, third = request.further_references
    np.testing.assert_array_equal(second.picture.pixels, REFERENCE[::-1])
    assert second.mask is not None
    assert third.mask is not None
    np.testing.assert_array_equal(second.mask.values, mask)
    np.testing.assert_array_equal(third.mask.values, mask)
    alone = request.by_reference()
    assert [one.further_references for one in alone] == [(), (), ()]
    assert [one.reference for one in alone] == [request.reference, second.picture, third.picture]
    assert [one.reference_mask for one in alone] == [None, second.mask, third.mask]


def test_one_mask_belongs_to_the_first_of_several_references():
    mask = np.ones((80, 96), bool)
    for given in (mask, [mask]):
        request = make_request((REFERENCE, REFERENCE), GENERATED, reference_mask=given)
        assert request.reference_mask is not None
        assert request.further_references[0].mask is None


@pytest.mark.parametrize(
    ("references", "masks", "sentence"),
    [
        ([], None, "There is no reference; give one to 4 photos of the object."),
        ([REFERENCE] * 5, None, "There are 5 references; give one to 4 photos of the object."),
        (
            [REFERENCE] * 3,
            [np.ones((80, 96))] * 2,
            "There are 2 reference masks for 3 references; give one, for the first reference, or one for each.",
        ),
        ([REFERENCE, "absent.png"], None, "reference 2"),
        ([REFERENCE, REFERENCE], [None, np.ones((80, 20))], "reference mask 2"),
    ],
)
def test_references_that_cannot_be_used_are_refused(references, masks, sentence):
    assert sentence in refusal(lambda: make_request(references, GENERATED, reference_mask=masks))


def test_masks_belong_to_their_pictures():
    reference_mask = np.zeros((80, 96), bool)
    reference_mask[10:40, 20:50] = True
    generated_mask = np.zeros((48, 64), np.float32)
    generated_mask[5:20, 6:30] = 0.75
    request = make_request(REFERENCE, GENERATED, reference_mask=reference_mask, generated_mask=generated_mask)
    assert request.reference_mask is not None
    assert request.generated_mask is not None
    np.testing.assert_array_equal(request.reference_mask.values, reference_mask)
    np.testing.assert_array_equal(request.generated_mask.values, generated_mask)

    swapped = refusal(
        lambda: make_request(REFERENCE, GENERATED, reference_mask=generated_mask, generated_mask=reference_mask)
    )
    assert swapped == ("The reference mask is 64x48 pixels and its picture 96x80; give a mask of the same size.")


def test_transparency_of_the_reference_is_its_mask_unless_one_is_given():
    alpha = np.zeros((80, 96, 1), np.uint8)
    alpha[20:60, 30:70] = 255
    cut_out = np.concatenate([REFERENCE, alpha], axis=2)
    request = make_request(cut_out, GENERATED)
    assert request.reference_mask is request.reference.alpha
    assert request.reference_mask is not None
    np.testing.assert_array_equal(request.reference_mask.values, alpha[..., 0] / 255)

    given = np.ones((80, 96), bool)
    request = make_request(cut_out, GENERATED, reference_mask=given)
    assert request.reference_mask is not None
    assert request.reference_mask.values.min() == 1


def test_each_picture_is_called_by_its_name(tmp_path):
    missing = tmp_path / "missing.png"
    mask = np.ones((10, 10))
    assert refusal(lambda: make_request(missing, GENERATED)).startswith("The reference ")
    assert refusal(lambda: make_request(REFERENCE, missing)).startswith("The generated picture ")
    assert refusal(lambda: make_request(REFERENCE, GENERATED, reference_mask=mask)).startswith("The reference mask ")
    assert refusal(lambda: make_request(REFERENCE, GENERATED, generated_mask=mask)).startswith("The generated mask ")


def test_the_same_picture_twice_is_told_whatever_its_files_are_called(tmp_path):
    for name, kind in (("photo.png", "PNG"), ("scene.tif", "TIFF")):
        (tmp_path / name).write_bytes(encoded(PILImage.fromarray(REFERENCE), kind))
    photo, scene = tmp_path / "photo.png", tmp_path / "scene.tif"
    sentence = (
        "and the generated picture are the same picture; as the reference, give a sharp photo of the real object."
    )
    assert refusal(lambda: make_request(photo, scene)) == f"The reference {sentence}"
    assert refusal(lambda: make_request([GENERATED, photo], scene)) == f"Reference 2 {sentence}"
    assert make_request(photo, GENERATED).scale == 4


def test_the_same_picture_in_another_format_is_told_and_a_softer_one_is_refined(synthetic_pair, tmp_path):
    photo = PILImage.fromarray(synthetic_pair.reference)
    (tmp_path / "photo.jpg").write_bytes(encoded(photo, "JPEG"))
    for other in (tmp_path / "photo.jpg", photo.convert("CMYK"), photo.quantize(256)):
        assert "are the same picture" in refusal(partial(make_request, photo, other))
    softer = photo.filter(ImageFilter.GaussianBlur(1.5))
    assert make_request(photo, softer).generated.size == photo.size


@pytest.mark.parametrize("scale", [1, 2, 4, np.int64(2)])
def test_scales(scale):
    request = make_request(REFERENCE, GENERATED, scale=scale)
    assert request.scale == scale
    assert type(request.scale) is int


@pytest.mark.parametrize("scale", [0, 3, 8, -1])
def test_other_scales(scale):
    sentence = refusal(lambda: make_request(REFERENCE, GENERATED, scale=scale))
    assert sentence == f"The scale is {scale}; choose 1, 2 or 4."


@pytest.mark.parametrize("scale", ["4", 2.0, 2.5, None, True])
def test_scales_that_are_no_whole_number(scale):
    sentence = refusal(lambda: make_request(REFERENCE, GENERATED, scale=scale))
    assert sentence == f"The scale is {scale!r}; give a whole number."


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, np.uint32(7)])
def test_seeds(seed):
    request = make_request(REFERENCE, GENERATED, seed=seed)
    assert request.seed == seed
    assert type(request.seed) is int


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_seeds_out_of_range(seed):
    sentence = refusal(lambda: make_request(REFERENCE, GENERATED, seed=seed))
    assert sentence == f"The seed is {seed}; choose a whole number from 0 to 9223372036854775807."


@pytest.mark.parametrize("seed", ["7", 1.0, None, False])
def test_seeds_that_are_no_whole_number(seed):
    assert "give a whole number" in refusal(lambda: make_request(REFERENCE, GENERATED, seed=seed))


@pytest.mark.parametrize("strength", [0, 1, 0.5, np.float32(0.25)])
def test_strengths(strength):
    request = make_request(REFERENCE, GENERATED, strength=strength)
    assert request.strength == strength
    assert type(request.strength) is float


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf"), "0.5", None, True, [0.5]])
def test_other_strengths(strength):
    sentence = refusal(lambda: make_request(REFERENCE, GENERATED, strength=strength))
    assert sentence.startswith("The strength is ")
    assert sentence.endswith("a number from 0 to 1.")


@pytest.mark.parametrize("name", ["teapot", "  red teapot ", "théière", "x" * 200, "🫖"])
def test_object_names(name):
    assert make_request(REFERENCE, GENERATED, object_name=name).object_name == name.strip()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("", "say in a few words what the object is"),
        ("   ", "say in a few words what the object is"),
        (None, "say in a few words what the object is"),
        (7, "say in a few words what the object is"),
        ("red\nteapot", "write it on one line"),
        ("red\x1bteapot", "write it on one line"),
        ("red\u2028teapot", "write it on one line"),
        ("x" * 201, "shorten it to at most 200 characters"),
    ],
)
def test_other_object_names(name, advice):
    assert advice in refusal(lambda: make_request(REFERENCE, GENERATED, object_name=name))


@pytest.mark.parametrize(
    ("size", "scale", "fitting"),
    [
        ((2001, 2000), 4, 2),
        ((4001, 4000), 4, 1),
        ((4001, 4000), 2, 1),
        ((8192, 100), 4, 2),
        ((16_384, 100), 4, 1),
        ((100, 16_384), 2, 1),
    ],
)
def test_a_result_too_large_names_the_scale_that_fits(size, scale, fitting):
    generated = np.broadcast_to(np.uint8(128), (size[1], size[0]))
    sentence = refusal(lambda: make_request(REFERENCE, generated, scale=scale))
    assert f"would be {scale * size[0]}x{scale * size[1]} pixels" in sentence
    assert sentence.endswith(f"; choose scale {fitting}.")
    assert make_request(REFERENCE, generated, scale=fitting).scale == fitting


def test_the_largest_result_is_allowed():
    generated = np.broadcast_to(np.uint8(128), (2000, 2000))
    assert make_request(REFERENCE, generated, scale=4).generated.size == (2000, 2000)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_refine_runs_the_engine(scale):
    seen: list[tuple[str, float]] = []
    result = refine(
        REFERENCE,
        GENERATED,
        scale=scale,
        engine="correspondence",
        seed=5,
        strength=0.5,
        progress=lambda stage, fraction: seen.append((stage, fraction)),
    )
    assert isinstance(result.image, Image)
    assert result.image.size == (64 * scale, 48 * scale)
    assert result.report.engine == "correspondence"
    assert (result.report.scale, result.report.seed, result.report.strength) == (scale, 5, 0.5)
    assert result.report.reference_size == (96, 80)
    assert result.report.generated_size == (64, 48)
    assert result.report.output_size == result.image.size
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert seen
    assert all(stage and 0 <= fraction <= 1 for stage, fraction in seen)


def test_an_engine_of_another_name_is_bad_input() -> None:
    sentence = refusal(lambda: refine(REFERENCE, GENERATED, engine="magic"))  # type: ignore[arg-type]
    assert sentence == "There is no engine called 'magic'; use auto, correspondence or diffusion."


def test_arrays_of_every_type_and_shape_that_the_documentation_names() -> None:
    shapes = [
        GENERATED[..., 0],
        GENERATED[..., :1],
        GENERATED,
        np.dstack([GENERATED, np.full((48, 64), 255, np.uint8)]),
    ]
    for levels in shapes:
        for array in (levels, levels.astype(np.uint16) * 257, levels / 255, levels.astype(np.float32) / 255):
            np.testing.assert_array_equal(make_request(REFERENCE, array).generated.pixels[..., 0], GENERATED[..., 0])


def test_bad_input_is_told_before_an_engine_is_sought():
    assert "choose 1, 2 or 4" in refusal(lambda: refine(REFERENCE, GENERATED, scale=3, engine="diffusion"))


def test_the_package_offers_what_it_promises():
    assert refgc.refine is refine
    assert refgc.make_request is make_request
    assert refgc.RefineRequest is RefineRequest
    assert set(refgc.__all__) <= set(dir(refgc))
    for name in refgc.__all__:
        assert getattr(refgc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        refgc.nonsense  # noqa: B018


def test_importing_the_package_loads_no_library():
    program = "import sys, refgc; print(sorted({'numpy', 'PIL', 'cv2', 'pydantic', 'torch'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
    intake = program.replace("import sys, refgc", "import sys, refgc.imaging.image")
    run = subprocess.run([sys.executable, "-c", intake], capture_output=True, text=True, check=True)
    assert run.stdout == "['PIL', 'numpy']\n"
