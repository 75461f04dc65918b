"""Several references of one object: what each gives, what none may spoil, and what is reported of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from refgc.correspondence.align import align_object
from refgc.correspondence.blend_weights import object_weights
from refgc.correspondence.exposure import expose
from refgc.correspondence.find import Search, search
from refgc.correspondence.fuse import Layer
from refgc.correspondence.references import View, fuse_views, worth_blending
from refgc.engine import RefineResult
from refgc.imaging.image import Image
from refgc.refinement import refine
from refgc.request import RefineRequest
from tests.support.correspondence_pairs import (
    PAIR,
    PRODUCT_PHOTO,
    Pixels,
    changed,
    enlarged,
    on_plain_ground,
    psnr,
    refined,
    two_cards,
    upscaled,
)
from tests.support.synthetic import draw_card

OTHER_PHOTO = draw_card(300, 77)
# Two cards side by side in one picture, and a photo of each.
BOTH, GENERATED, LEFT, LEFT_IN_GENERATED = two_cards()
PHOTOS = tuple(on_plain_ground(BOTH[30:210, left : left + 180], 30) for left in (20, 260))


@cache
def with_photos(*numbers: int) -> RefineResult:
    """The two cards, refined with these of their photos."""
    return refine([PHOTOS[number] for number in numbers], GENERATED, engine="correspondence")


def gain(result: RefineResult, left: bool) -> float:
    """In dB, inside the left or the right card."""
    inside = enlarged(LEFT_IN_GENERATED if left else LEFT_IN_GENERATED[:, ::-1], 4).astype(np.float64)
    truth = np.asarray(BOTH, np.uint8)
    return psnr(result.image.pixels, truth, inside) - psnr(upscaled(result), truth, inside)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_part_comes_from_the_photo_that_shows_it(order: tuple[int, int]) -> None:
    both = with_photos(*order)
    for number, left in ((0, True), (1, False)):
        alone = gain(with_photos(number), left)
        assert alone > 2.0
        assert gain(both, left) > alone - 0.02
        assert abs(gain(with_photos(number), not left)) < 0.1
    assert both.report.references_used == (1, 2)
    assert sorted(one.references for one in both.report.objects) == [(1,), (2,)]
    assert both.report.warnings == ()


def test_a_single_reference_in_a_list_gives_the_same_bytes() -> None:
    listed = refine([PRODUCT_PHOTO], PAIR.generated)
    assert listed.image.pixels.tobytes() == refined().image.pixels.tobytes()
    assert listed.report.references_used == refined().report.references_used == (1,)
    assert listed.report.warnings == ()


def test_the_same_photo_twice_changes_nothing() -> None:
    twice = refine([PRODUCT_PHOTO, PRODUCT_PHOTO], PAIR.generated)
    assert twice.image.pixels.tobytes() == refined().image.pixels.tobytes()
    assert len(twice.report.objects) == 1
    assert twice.report.matches == 2 * refined().report.matches


@pytest.mark.parametrize("number", [1, 2])
def test_a_reference_that_is_not_found_is_named_and_spoils_nothing(number: int) -> None:
    photos = [PRODUCT_PHOTO, PRODUCT_PHOTO]
    photos[number - 1] = OTHER_PHOTO
    result = refine(photos, PAIR.generated)
    assert result.image.pixels.tobytes() == refined().image.pixels.tobytes()
    assert result.report.warnings == (f"unplaced_{number}",)
    assert f"Nothing was taken from reference {number}" in result.report.message
    assert result.report.references_used == (3 - number,)
    shown = result.stages["object in the reference"]
    assert shown.size == (PRODUCT_PHOTO.shape[1], PRODUCT_PHOTO.shape[0])


def test_a_mirrored_photo_beside_a_right_one_is_named() -> None:
    result = refine([np.ascontiguousarray(PRODUCT_PHOTO[:, ::-1]), PRODUCT_PHOTO], PAIR.generated)
    assert result.image.pixels.tobytes() == refined().image.pixels.tobytes()
    assert result.report.warnings == ("mirrored_1",)
    assert "mirrored in reference 1" in result.report.message


def test_where_none_is_found_the_result_is_a_plain_enlargement() -> None:
    result = refine([OTHER_PHOTO, draw_card(300, 78)], PAIR.generated)
    assert not result.report.placed
    assert not changed(result).any()
    assert result.report.warnings == ("unplaced_1", "unplaced_2")
    assert result.report.references_used == ()
    assert result.report.message.startswith("None of the references")


def test_a_sharper_photo_takes_the_place_of_a_blurred_one() -> None:
    blurred = np.asarray(cv2.GaussianBlur(PRODUCT_PHOTO, (0, 0), 10.0), np.uint8)
    result = refine([blurred, PRODUCT_PHOTO], PAIR.generated)
    assert result.image.pixels.tobytes() == refined().image.pixels.tobytes()
    assert result.report.references_used == (2,)
    assert result.report.warnings == ("unplaced_1",)


def test_a_hidden_part_comes_from_another_photo() -> None:
    """Of each photo one half is plain, as where something stood before the object."""
    photos = [half_hidden(left) for left in (True, False)]
    both = refine(photos, PAIR.generated)
    inside = enlarged(PAIR.mask == 255, 4).astype(np.float64)
    alone = [psnr(refine(photo, PAIR.generated).image.pixels, PAIR.truth, inside) for photo in photos]
    assert psnr(both.image.pixels, PAIR.truth, inside) > max(alone) + 1.0
    assert both.report.references_used == (1, 2)
    assert both.report.warnings == ()


def half_hidden(left: bool) -> Pixels:
    """The product photo with one half of its object cut away."""
    photo = PRODUCT_PHOTO.copy()
    middle = photo.shape[1] // 2
    photo[:, :middle] = 255 if left else photo[:, :middle]
    photo[:, middle:] = photo[:, middle:] if left else 255
    return photo


def test_copies_are_told_where_one_photo_is_seen_twice() -> None:
    result = refine([OTHER_PHOTO, PRODUCT_PHOTO], np.hstack([PAIR.generated] * 2))
    assert [one.references for one in result.report.objects] == [(2,), (2,)]
    assert result.report.warnings == ("copies", "unplaced_1")


def test_the_mask_of_a_reference_is_its_own() -> None:
    """The right card of a photo that shows both is told by the mask of the second reference."""
    right = np.asarray(~LEFT & (BOTH < 255).any(axis=2), np.uint8) * 255
    result = refine([OTHER_PHOTO, BOTH], GENERATED, reference_mask=[None, right])
    assert result.report.references_used == (2,)
    assert gain(result, left=False) > 2.0
    assert abs(gain(result, left=True)) < 0.1


def test_progress_of_several_references_only_grows() -> None:
    told: list[tuple[str, float]] = []
    refine([OTHER_PHOTO, PRODUCT_PHOTO], PAIR.generated, progress=lambda stage, share: told.append((stage, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert [stage for stage, _ in told].count("finding the object") == 2


# --- which reference is taken at one place --------------------------------------------------------------------------


@cache
def view() -> View:
    """The one reference of `PAIR`, aligned."""
    request = RefineRequest(Image(PRODUCT_PHOTO), Image(PAIR.generated), scale=1)
    pair = expose(request.reference, request.generated)
    (found,) = search(request, pair).findings
    assert found.object_mask is not None
    seen = found.region.of(pair.generated)
    alignment = align_object(seen, pair.reference, found.maps[0], found.region, found.object_mask)
    weights = object_weights(seen, pair.reference, alignment, found.object_mask, None, found.log_false_alarms)
    return View(1, request, pair, Search((found,)), [[Layer(alignment, weights)]])


def half_trusted(number: int, left: bool, log_false_alarms: float, confidence: float = 0.9) -> View:
    """The same reference as another one that is placed so surely, and trusted in one half only."""
    weights = view().layers[0][0].weights
    trust = np.zeros_like(weights.trust)
    middle = trust.shape[1] // 2
    trust[:, slice(middle) if left else slice(middle, None)] = 0.8
    layer = replace(view().layers[0][0], weights=replace(weights, trust=trust, probability=confidence))
    found = replace(view().found.findings[0], log_false_alarms=log_false_alarms)
    return replace(view(), number=number, found=Search((found,)), layers=[[layer]])


def numbers_used(*views: View) -> list[int]:
    picture = PAIR.generated.copy()
    _, sources = fuse_views(worth_blending(list(views)), picture, np.full_like(picture, 255))
    return [int(number) for number in np.unique(sources) if number]


def test_a_sure_reference_adds_what_the_first_one_does_not_give() -> None:
    assert numbers_used(half_trusted(1, True, -200), half_trusted(2, False, -100)) == [1, 2]


def test_an_unsure_one_adds_nothing_where_a_surer_one_is() -> None:
    assert numbers_used(half_trusted(1, True, -200), half_trusted(2, False, -40)) == [1]
    assert numbers_used(half_trusted(1, True, -30), half_trusted(2, False, -40)) == [2]


def test_one_that_fits_worse_adds_nothing_however_surely_it_is_placed() -> None:
    assert numbers_used(half_trusted(1, True, -100), half_trusted(2, False, -500, confidence=0.8)) == [1]


def test_one_that_gives_nothing_makes_way_for_another() -> None:
    nothing = half_trusted(1, True, -500)
    weights = replace(nothing.layers[0][0].weights, trust=np.zeros_like(nothing.layers[0][0].weights.trust))
    nothing = replace(nothing, layers=[[replace(nothing.layers[0][0], weights=weights)]])
    assert numbers_used(nothing, half_trusted(2, False, -40)) == [2]
