"""Pairs by geometry: which views of an object make a pair, and the crops that show it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from refgc.correspondence.learned import Networks, find_networks
from refgc.dataset.frames import Frame
from refgc.dataset.object_masks import MaskedFrame, mask_frames
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import Pose
from refgc.dataset.views import (
    LITTLE_SHIFT,
    View,
    ViewPair,
    crop,
    crop_region,
    degrees_between,
    find_pairs,
    find_views,
)
from refgc.imaging.arrays import Bytes
from refgc.imaging.image import Image, Mask
from refgc.imaging.region import Region
from refgc.machine import BLAS_THREADS
from tests.dataset.support import scene, texture

SETTINGS = PairSettings(side=384, enlargement=1.5)


@pytest.fixture(scope="module")
def networks() -> Iterator[Networks]:
    found = find_networks()
    if found is None:
        pytest.skip("the weights of learned matching are not on this machine; run `refgc setup`")
    with BLAS_THREADS.one():
        yield found


def frame_of(picture: Bytes, mask: Bytes | None, name: str, pose: Pose | None = None) -> Frame:
    values = None if mask is None else Mask((mask > 0).astype(np.float32))
    return Frame(name, None, Image(picture), values, pose, 0.5)


def views_of(
    face: Bytes, turns: dict[str, float], networks: Networks, settings: PairSettings = SETTINGS, **options: float
) -> list[View]:
    frames = [
        frame_of(*scene(face, turn=turn, background=number, **options), name)  # type: ignore[arg-type]
        for number, (name, turn) in enumerate(turns.items())
    ]
    masked, rejected = mask_frames(frames, "card", settings, networks)
    assert not rejected
    views, rejected = find_views(masked, settings, networks)
    assert not rejected
    return views


@pytest.fixture(scope="module")
def turned(networks: Networks) -> list[View]:
    """Four views of a card that has turned by seven degrees each time."""
    return views_of(texture(16), {str(number): 7.0 * number for number in range(4)}, networks)


def test_views_of_one_side_make_a_pair_and_the_back_does_not(turned: list[View], networks: Networks) -> None:
    views = [turned[0], turned[2], *views_of(texture(111), {"back": 6.0}, networks)]
    (pair,), rejected = find_pairs(views, SETTINGS, networks)
    assert {pair.hrri.name, pair.hrgt.name} == {"0", "2"}
    assert pair.change.overlap > 0.9
    assert pair.log_chance <= SETTINGS.log_chance
    assert ["do not match" in rejection.reason for rejection in rejected] == [True, True]


def test_the_same_view_again_is_no_pair_and_a_roll_is_no_change(networks: Networks) -> None:
    face = texture(12)
    picture, mask = scene(face, background=1)
    turn = cv2.getRotationMatrix2D((191.5, 191.5), 15.0, 0.9)
    rolled, rolled_mask = (cv2.warpAffine(array, turn, (384, 384), flags=cv2.INTER_CUBIC) for array in (picture, mask))
    frames = [frame_of(picture, mask, "a"), frame_of(rolled, np.where(rolled_mask > 127, 255, 0), "b")]
    views, _ = find_views(mask_frames(frames, "card", SETTINGS, networks)[0], SETTINGS, networks)
    pairs, rejected = find_pairs(views, SETTINGS, networks)
    assert not pairs
    assert "too much alike" in rejected[0].reason


def test_the_reference_is_the_view_with_more_detail(networks: Networks) -> None:
    face = texture(13)
    large, small = scene(face, size=0.75, background=1), scene(face, turn=12.0, size=0.45, background=2)
    frames = [frame_of(*small, "small"), frame_of(*large, "large")]
    views, _ = find_views(mask_frames(frames, "card", SETTINGS, networks)[0], SETTINGS, networks)
    (pair,), _ = find_pairs(views, SETTINGS, networks)
    assert (pair.hrri.name, pair.hrgt.name) == ("large", "small")
    assert pair.log_chance <= SETTINGS.log_chance


def test_other_objects_and_plain_ones_make_no_pairs(networks: Networks) -> None:
    plain = np.full((256, 256, 3), (170, 120, 90), np.uint8)
    faces = {"print": texture(14), "other print": texture(15), "plain": plain, "plain again": plain}
    frames = [
        frame_of(*scene(face, turn=6.0 * number, background=number), name)
        for number, (name, face) in enumerate(faces.items())
    ]
    settings = SETTINGS.model_copy(update={"least_sharpness": 0.0})
    views, _ = find_views(mask_frames(frames, "card", settings, networks)[0], settings, networks)
    assert len(views) == len(faces)
    pairs, rejected = find_pairs(views, settings, networks)
    assert not pairs
    assert len(rejected) == math.comb(len(faces), 2)


def test_the_number_of_pairs_is_bounded_and_spread(turned: list[View], networks: Networks) -> None:
    every, _ = find_pairs(turned, SETTINGS, networks)
    assert len(every) == 6
    few, rejected = find_pairs(turned, SETTINGS.model_copy(update={"pairs_per_object": 2}), networks)
    assert len(few) == 2
    assert any("pairs with other views already" in rejection.reason for rejection in rejected)
    shifts = sorted(pair.change.shift for pair in every)
    assert few[0].change.shift <= shifts[2]
    assert few[1].change.shift >= shifts[3]
    by_turn = {abs(int(pair.hrri.name) - int(pair.hrgt.name)): pair.change.shift for pair in every}
    # The larger the turn, the more the matches move.
    assert by_turn[1] < by_turn[2] < by_turn[3]
    # All larger changes share a view with each smaller one, and no pair is there twice.
    assert len({view.name for pair in few for view in (pair.hrri, pair.hrgt)}) == 3


def test_a_mask_that_has_lost_a_part_makes_no_pair(networks: Networks) -> None:
    face = texture(19)
    (picture, mask), (other, other_mask) = scene(face, background=1), scene(face, turn=10.0, background=2)
    for lost in (0, 110):
        cut = other_mask.copy()
        cut[: 77 + lost] = 0
        frames = [frame_of(picture, mask, "a"), frame_of(other, cut, "b")]
        masked, _ = mask_frames(frames, "card", SETTINGS, networks)
        # The source's own masks are not doubted.
        found = [masked[0], replace(masked[1], maker="grabcut")]
        pairs, rejected = find_pairs(find_views(found, SETTINGS, networks)[0], SETTINGS, networks)
        if lost:
            assert "outlines" in rejected[0].reason
        else:
            assert pairs[0].outline_overlap > 0.85


def test_what_stays_in_its_place_must_match_nearly_everywhere(networks: Networks) -> None:
    """The upper part looks the same from both sides, as that of a tin does; the lower one is that of another side."""
    face = texture(21)
    other = face.copy()
    other[205:] = texture(22)[205:]
    (same,), _ = find_pairs(views_of(face, {"a": 0.0, "b": 6.0}, networks), SETTINGS, networks)
    assert same.change.shift < LITTLE_SHIFT
    views = [*views_of(face, {"a": 0.0}, networks), *views_of(other, {"b": 6.0}, networks)]
    pairs, (rejection,) = find_pairs(views, SETTINGS, networks)
    assert not pairs
    assert "the same from all sides" in rejection.reason


def pose_of(degrees: float) -> Pose:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((cosine, 0.0, sine, 5 * sine), (0.0, 1.0, 0.0, 0.0), (-sine, 0.0, cosine, 5 * cosine), (0.0, 0.0, 0.0, 1.0))


def filmed(offsets: list[int], networks: Networks) -> list[View]:
    """Views of a video in which a print that repeats all round moves over an object, like a mug's that turns."""
    face = texture(16)
    frames = []
    for number, offset in enumerate(offsets):
        picture, mask = scene(np.roll(face, offset, axis=1), background=1)
        frames.append(replace(frame_of(picture, mask, f"{number}"), seconds=0.5 * number))
    views, rejected = find_views(mask_frames(frames, "mug", SETTINGS, networks)[0], SETTINGS, networks)
    assert not rejected
    return views


def names_of(pairs: list[ViewPair]) -> set[frozenset[str]]:
    return {frozenset((pair.hrri.masked.frame.label, pair.hrgt.masked.frame.label)) for pair in pairs}


def test_a_print_that_repeats_around_a_turning_object_makes_no_pair(networks: Networks) -> None:
    settings = SETTINGS.model_copy(update={"pairs_per_object": 50})
    # The print is as wide as the object, so that the last view looks like the first one turned by a little.
    offsets = [0, 40, 80, 120, 160, 200, 240, 276]
    views = filmed(offsets, networks)
    pairs, rejected = find_pairs(views, settings, networks)
    found = names_of(pairs)
    assert frozenset("01") in found
    assert frozenset("07") not in found
    assert any("the same from several sides" in rejection.reason for rejection in rejected)
    # Photos have no views between them that could tell.
    photos = [
        replace(view, masked=replace(view.masked, frame=replace(view.masked.frame, seconds=None)))
        for view in (views[0], views[7])
    ]
    assert names_of(find_pairs(photos, settings, networks)[0]) == {frozenset("07")}


def test_a_video_gives_no_pair_of_views_between_which_the_object_is_lost(networks: Networks) -> None:
    views = filmed([0, 20], networks)
    (between,) = views_of(texture(111), {"back": 6.0}, networks)
    between = replace(between, masked=replace(between.masked, frame=replace(between.masked.frame, seconds=0.25)))
    assert len(find_pairs(views, SETTINGS, networks)[0]) == 1
    pairs, rejected = find_pairs([views[0], between, views[1]], SETTINGS, networks)
    assert not pairs
    assert any("cannot be followed" in rejection.reason for rejection in rejected)


def test_poses_decide_where_the_source_has_them(networks: Networks) -> None:
    face = texture(17)
    turns = {"a": 0.0, "b": 2.0, "c": 15.0, "d": 90.0}
    frames = [
        frame_of(*scene(face, turn=min(turn, 20.0), background=number), name, pose_of(turn))
        for number, (name, turn) in enumerate(turns.items())
    ]
    views, _ = find_views(mask_frames(frames, "card", SETTINGS, networks)[0], SETTINGS, networks)
    assert degrees_between(views[0], views[2]) == pytest.approx(15.0, abs=1e-6)
    pairs, rejected = find_pairs(views, SETTINGS, networks)
    found = {frozenset((pair.hrri.name, pair.hrgt.name)): pair.change.degrees for pair in pairs}
    assert found == {frozenset("ac"): 15.0, frozenset("bc"): 13.0}
    reasons = [rejection.reason for rejection in rejected]
    assert "The views differ by 2 degrees." in reasons
    assert "The views differ by 90 degrees." in reasons


def masked(box: tuple[int, int, int, int], size: tuple[int, int]) -> MaskedFrame:
    values = np.zeros((size[1], size[0]), np.float32)
    left, top, right, bottom = box
    values[top:bottom, left:right] = 1.0
    frame = Frame("f", None, Image(np.zeros((*values.shape, 3), np.uint8)), None, None, 0.5)
    return MaskedFrame(frame, Mask(values), "source", 1.0, Region(*box))


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        # The object has 0.6 of the side, in the middle.
        ((500, 400, 1100, 1000), (2000, 1500), (300, 200, 1300, 1200)),
        # It is moved into the frame.
        ((0, 0, 600, 600), (2000, 1500), (0, 0, 1000, 1000)),
        # A small object is not enlarged beyond the limit.
        ((900, 700, 1100, 900), (2000, 1500), (658, 458, 1341, 1141)),
        # The frame is as high as the square may be.
        ((500, 100, 1300, 900), (2000, 1000), (400, 0, 1400, 1000)),
        # Too small an object, too small a frame, and an object that no square holds.
        ((900, 700, 1050, 850), (2000, 1500), None),
        ((100, 100, 500, 500), (600, 600), None),
        ((100, 100, 1900, 500), (2000, 1000), None),
    ],
)
def test_a_square_holds_the_whole_object_at_a_useful_size(
    box: tuple[int, int, int, int], size: tuple[int, int], expected: tuple[int, int, int, int] | None
) -> None:
    settings = PairSettings()
    frame = masked(box, size)
    region = crop_region(frame, settings.hrgt_object, settings)
    assert (None if region is None else (region.left, region.top, region.right, region.bottom)) == expected
    if region is not None:
        shown = crop(frame, settings.hrgt_object, settings)
        assert shown.image.size == shown.mask.size == (1024, 1024)
        assert shown.enlargement == pytest.approx(1024 / region.size[0], abs=1e-6)
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert shown.object_share == pytest.approx(area / region.size[0] ** 2, abs=0.01)


def test_masks_come_from_what_photos_in_different_places_share(networks: Networks) -> None:
    """The object is off the middle and no background is plain; nothing but the other photos tells where it is."""
    face = texture(18)
    frames, truths = [], []
    for number, shift in enumerate((-70, 70)):
        picture, mask = (
            np.roll(array, shift, axis=1) for array in scene(face, turn=5.0 * number, size=0.5, background=number)
        )
        noise = np.random.default_rng(number).normal(0, 12, (384, 384, 1))
        wall = np.clip(np.array([90, 110, 150]) - 40 * number + noise, 0, 255)
        picture = np.where(mask[..., None] > 0, picture, wall).astype(np.uint8)
        frames.append(frame_of(picture, None, str(number)))
        truths.append(mask > 0)
    settings = SETTINGS.model_copy(update={"least_mask_quality": 0.5})
    found, rejected = mask_frames(frames, "card", settings, networks)
    assert len(found) == 2, rejected
    for item in found:
        truth = truths[int(item.frame.name)]
        marked = item.mask.values > 0.5
        assert (marked & truth).sum() / (marked | truth).sum() > 0.85
        assert item.maker == "grabcut"


@pytest.mark.parametrize(
    ("boxes", "word"),
    [
        ([(0, 100, 200, 300)], "border"),
        ([(100, 100, 150, 150)], "small"),
        ([(20, 100, 170, 250), (200, 100, 350, 250)], "several parts"),
        ([], "not in it"),
    ],
)
def test_masks_that_do_not_show_one_whole_object_are_rejected(
    networks: Networks, boxes: list[tuple[int, int, int, int]], word: str
) -> None:
    mask = np.zeros((384, 384), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    found, rejected = mask_frames([frame_of(scene(texture(1))[0], mask, "f")], "card", SETTINGS, networks)
    assert not found
    assert word in rejected[0].reason


class SecondOnly:
    """A masker that finds one object in the second frame, and not one in the first."""

    maker = "sam3"

    def masks_of(self, frames, object_name):
        assert (object_name, len(frames)) == ("card", 2)
        return [None, Mask(np.pad(np.ones((200, 200), np.float32), 92))]


def test_a_model_must_find_exactly_one_object(networks: Networks) -> None:
    """It makes all masks, those of the source's frames too, and nothing measures them by two prompts."""
    frames = []
    for number in range(2):
        picture, mask = scene(texture(1), background=number)
        frames.append(frame_of(picture, mask, str(number)))
    by_model = SETTINGS.model_copy(update={"masks": "sam3"})
    (found,), (rejection,) = mask_frames(frames, "card", by_model, networks, SecondOnly())
    assert (found.frame.name, found.maker, found.quality) == ("1", "sam3", None)
    assert found.box == Region(92, 92, 292, 292)
    assert (rejection.what, rejection.reason) == ("0", "Not exactly one card was found in it.")


def test_the_settings_say_whose_masks_are_taken(networks: Networks) -> None:
    picture, mask = scene(texture(1))
    flat = np.where(mask[..., None] > 0, picture, np.uint8(240))
    frames = [frame_of(flat, mask, "masked"), frame_of(flat, None, "bare")]
    makers = {}
    for choice in ("auto", "source", "weight-free"):
        found, rejected = mask_frames(frames, "card", SETTINGS.model_copy(update={"masks": choice}), networks)
        makers[choice] = {one.frame.name: one.maker for one in found}
        assert [one.reason for one in rejected] == (["The source has no mask of it."] if choice == "source" else [])
    assert makers == {
        "auto": {"masked": "source", "bare": "grabcut"},
        "source": {"masked": "source"},
        "weight-free": {"masked": "grabcut", "bare": "grabcut"},
    }
