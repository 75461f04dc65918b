"""The set for fitting: its parts share nothing, its cases fit together, and it says what it lacks."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.split import FILE, Part, read_split
from benchmarks.trust_set import EXAMPLES, SCALE, SIDES, WRONG, Case, Kind, Pair, cases, make_case, pairs
from tests.support.correspondence_pairs import psnr

# The committed examples alone are enough here, and the set says that the rest is missing.
pytestmark = pytest.mark.filterwarnings("ignore:There are no")
PARTS: tuple[Part, ...] = ("fit", "held out")


@pytest.fixture(scope="module")
def first() -> list[Case]:
    return list(islice(cases("fit", None, None, seed=3), 8))


def product_of(path: Path) -> str:
    return path.parent.name


def pair(kind: Kind, name: str = "pair", truth: str = "hrgt.jpg") -> Pair:
    folder = EXAMPLES / "tea_tin"
    return Pair(name, "tea_tin", kind, folder / "hrri.jpg", folder / truth, folder / "hrgt_mask.png")


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    """Two products' folders as the renderer writes them, with copies of the committed pictures."""
    pictures = {"view_1": ("view", "own"), "reference_1": ("reference", "own"), "letters_view": ("view", "letters")}
    pictures |= {"letters_reference": ("reference", "letters"), "other_reference": ("reference", "other")}
    for product in ("mug", "tea_tin"):
        folder = tmp_path / product
        folder.mkdir()
        for name, (role, print_) in pictures.items():
            shutil.copy(EXAMPLES / product / "hrgt.jpg", folder / f"{name}.png")
            shutil.copy(EXAMPLES / product / "hrgt_mask.png", folder / f"{name}_mask.png")
            (folder / f"{name}.json").write_text(json.dumps({"role": role, "print": print_}), encoding="utf-8")
    return tmp_path


def test_the_parts_of_the_split_share_nothing_and_cover_the_examples() -> None:
    fit, held_out = read_split("fit"), read_split("held out")
    assert not set(fit.products) & set(held_out.products)
    assert not set(fit.subjects) & set(held_out.subjects)
    assert {*fit.products, *held_out.products} == {file.parent.name for file in EXAMPLES.glob("*/hrri.jpg")}


def test_a_name_in_both_parts_is_refused(tmp_path: Path) -> None:
    changed = tmp_path / "split.toml"
    changed.write_text(FILE.read_text(encoding="utf-8").replace('fit = ["camera"', 'fit = ["mug"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"\[products\] names mug for both parts; keep each in one"):
        read_split("fit", changed)


@pytest.mark.parametrize("part", PARTS)
def test_no_picture_of_the_other_part_occurs(part: Part, renders: Path) -> None:
    used = {product_of(path) for made in pairs(part, renders, None) for path in (made.reference, made.truth)}
    assert used == set(read_split(part).products)


def test_the_generated_picture_is_small_and_shows_the_truth(first: list[Case]) -> None:
    for case in first:
        height, width = case.generated.shape[:2]
        assert SIDES[0] <= min(height, width)
        assert max(height, width) <= SIDES[1]
        assert case.truth.shape == (SCALE * height, SCALE * width, 3)
        assert case.truth_mask is not None
        assert case.truth_mask.shape == case.truth.shape[:2]
        assert case.truth_mask.dtype == np.float32
        small = np.asarray(cv2.resize(case.truth, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        turned = np.ascontiguousarray(small[::-1, ::-1])
        assert psnr(case.generated, small) > psnr(case.generated, turned) + 3


def test_the_mask_lies_on_the_object() -> None:
    """The mask as its own picture: cropping, scaling and light must leave the two on each other."""
    for index in range(6):
        case = make_case(pair("view", f"pair {index}", truth="hrgt_mask.png"), seed=1)
        assert case.truth_mask is not None
        assert np.corrcoef(case.truth_mask.ravel(), case.truth.mean(axis=2).ravel())[0, 1] > 0.9
        # The whole object is in the picture.
        rim = (case.truth_mask[0], case.truth_mask[-1], case.truth_mask[:, 0], case.truth_mask[:, -1])
        assert max(edge.mean() for edge in rim) < 0.5


def test_the_same_seed_gives_the_same_cases(first: list[Case]) -> None:
    again = list(islice(cases("fit", None, None, seed=3), 2))
    for one, other in zip(first, again, strict=False):
        assert one.name == other.name
        assert np.array_equal(one.generated, other.generated)
        assert np.array_equal(one.reference, other.reference)


def test_each_case_and_each_seed_has_artifacts_of_its_own() -> None:
    made = make_case(pair("view"), seed=3).generated[: SIDES[0], : SIDES[0]]
    for other in (make_case(pair("view"), seed=4), make_case(pair("view", "another pair"), seed=3)):
        assert not np.array_equal(made, other.generated[: SIDES[0], : SIDES[0]])


def test_names_are_unique(renders: Path) -> None:
    names = [made.name for made in pairs("fit", renders, None)]
    assert len(set(names)) == len(names)


def test_wrong_pairings_show_something_else(renders: Path) -> None:
    kinds = set()
    for made in pairs("held out", renders, None):
        kinds.add(made.kind)
        assert made.group == product_of(made.truth)
        assert (product_of(made.reference) != made.group) == (made.kind == "unrelated")
        if made.kind == "letters":
            assert made.reference.stem.startswith("letters") != made.truth.stem.startswith("letters")
        if made.kind == "print":
            assert made.reference.stem == "other_reference"
    assert kinds == {"view", "soft", *WRONG}


def test_altered_references() -> None:
    own = make_case(pair("view"), seed=0)
    assert np.array_equal(make_case(pair("mirrored"), seed=0).reference, own.reference[:, ::-1])
    recoloured = make_case(pair("recoloured"), seed=0).reference
    assert np.abs(recoloured.astype(float) - own.reference).mean() > 5
    lightness = [
        cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0].astype(float) for pixels in (recoloured, own.reference)
    ]
    assert np.abs(lightness[0] - lightness[1]).mean() < 3
    soft = make_case(pair("soft"), seed=0).reference
    enlarged = np.asarray(cv2.resize(soft, own.reference.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    assert cv2.Laplacian(enlarged, cv2.CV_64F).var() < 0.5 * cv2.Laplacian(own.reference, cv2.CV_64F).var()


def test_photos_are_paired_with_each_other(tmp_path: Path) -> None:
    for subject in read_split("fit").subjects:
        (tmp_path / subject).mkdir()
        for index, source in enumerate(("hrri", "hrgt", "hrgt")):
            shutil.copy(EXAMPLES / "vase" / f"{source}.jpg", tmp_path / subject / f"0{index}.jpg")
        shutil.copy(EXAMPLES / "vase" / "hrgt_mask.png", tmp_path / subject / "01_mask.png")
    photos = [made for made in pairs("fit", None, tmp_path) if made.kind == "photo"]
    assert len(photos) == 3 * 2 * len(read_split("fit").subjects)
    assert {made.truth.stem for made in photos if made.mask is not None} == {"01"}
    unmasked = make_case(next(made for made in photos if made.mask is None), seed=0)
    assert unmasked.truth_mask is None


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no renders"):
        pairs("fit", tmp_path, None)
    with pytest.warns(UserWarning, match="no photos of can, candle"):
        pairs("fit", None, tmp_path)
