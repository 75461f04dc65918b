"""The weight-free segmenter on pictures whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refgc.errors import InputError
from refgc.imaging.image import Image, Mask
from refgc.masks import Prompt
from refgc.masks.grabcut import GrabCutSegmenter
from tests.support.synthetic import draw_card

SEGMENTER = GrabCutSegmenter()
SIZE = (400, 300)


def ground(seed: int = 0) -> np.ndarray:
    """A table in front of a wall, each with its own grain."""
    random = np.random.default_rng(seed)
    picture = np.empty((SIZE[1], SIZE[0], 3), np.float64)
    picture[:170], picture[170:] = (170, 175, 185), (120, 85, 60)
    picture += random.normal(0, 4, picture.shape[:2])[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def with_card(left: int = 130, top: int = 80, side: int = 140) -> tuple[Image, np.ndarray]:
    """A printed card on that ground, and where it is."""
    picture = ground()
    picture[top : top + side, left : left + side] = draw_card(side, 3)
    truth = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    truth[top : top + side, left : left + side] = True
    return Image(picture), truth


def overlap(mask: Mask, truth: np.ndarray) -> float:
    found = mask.values >= 0.5
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


def painted(*points: tuple[int, int], width: int = 8) -> Mask:
    values = np.zeros((SIZE[1], SIZE[0]), np.float32)
    cv2.polylines(values, [np.array(points, np.int32)], False, 1.0, width)
    return Mask(values)


@pytest.mark.parametrize(
    "marks",
    [
        {"box": (130, 80, 270, 220)},
        {"box": (120, 72, 282, 232)},
        {"positive": [(200, 150)]},
        {"positive": [(140, 90)]},
        {"positive": [(255, 200)], "negative": [(40, 40), (380, 280)]},
        {"scribble": painted((150, 100), (250, 200))},
        {"box": (120, 72, 282, 232), "positive": [(200, 150)], "scribble": painted((150, 100), (250, 200))},
        {},
        {"negative": [(20, 20)]},
    ],
    ids=["box", "wide box", "click", "click near a corner", "clicks", "scribble", "all", "nothing", "not there"],
)
def test_a_card_on_a_table_is_found(marks):
    image, truth = with_card()
    assert overlap(SEGMENTER.segment(image, Prompt(SIZE, **marks)), truth) > 0.97


def test_a_rough_mask_is_put_right():
    image, truth = with_card()
    rough = cv2.ellipse(np.zeros(truth.shape, np.float32), (200, 150), (76, 76), 0, 0, 360, 1.0, cv2.FILLED)
    assert overlap(Mask(rough), truth) < 0.9
    assert overlap(SEGMENTER.segment(image, Prompt(SIZE, alpha=Mask(rough))), truth) > 0.95


def test_of_two_things_the_one_clicked_is_meant():
    image, _ = with_card(60, 80, 100)
    pixels = image.pixels.copy()
    circle = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(circle, (310, 150), 50, 1, cv2.FILLED)
    pixels[circle > 0] = (20, 120, 60)
    image = Image(pixels)
    assert overlap(SEGMENTER.segment(image, Prompt(SIZE, positive=((310, 150),))), circle > 0) > 0.97
    card = SEGMENTER.segment(image, Prompt(SIZE, positive=((110, 130),)))
    assert card.values[130, 110] == 1
    assert card.values[150, 310] == 0


def touching() -> tuple[Image, np.ndarray, np.ndarray]:
    """A green box and a ball of a lighter green that touch."""
    pixels = ground()
    box, ball = (np.zeros(pixels.shape[:2], np.uint8) for _ in range(2))
    cv2.rectangle(box, (110, 90), (209, 209), 1, cv2.FILLED)
    cv2.circle(ball, (249, 160), 40, 1, cv2.FILLED)
    ball &= 1 - box
    pixels[box > 0], pixels[ball > 0] = (30, 110, 60), (45, 125, 75)
    return Image(pixels), box > 0, ball > 0


def test_a_click_on_what_is_not_the_object_takes_it_away():
    image, box, ball = touching()
    both = SEGMENTER.segment(image, Prompt(SIZE, positive=((160, 150),)))
    assert both.values[ball].mean() > 0.9, "the case is none: the ball was never taken for a part"
    without = SEGMENTER.segment(image, Prompt(SIZE, positive=((160, 150),), negative=((255, 160),)))
    assert without.values[ball].mean() < 0.1
    assert overlap(without, box) > 0.95


def test_a_second_click_adds_what_was_missed():
    image, box, _ = touching()
    prompt = Prompt(SIZE, positive=((160, 150), (255, 160)), negative=((300, 250),))
    both = SEGMENTER.segment(image, prompt)
    assert both.values[160, 255] == 1
    assert both.values[box].mean() > 0.95


def ring(inner: int) -> tuple[Image, np.ndarray]:
    pixels = ground()
    truth = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(truth, (200, 150), 90, 1, cv2.FILLED)
    cv2.circle(truth, (200, 150), inner, 0, cv2.FILLED)
    pixels[truth > 0] = (40, 60, 140)
    return Image(pixels), truth > 0


def test_a_handle_keeps_its_opening():
    image, truth = ring(50)
    assert overlap(SEGMENTER.segment(image, Prompt(SIZE, box=(110, 60, 291, 241))), truth) > 0.95


def test_a_spot_of_the_grounds_colour_is_no_opening():
    image, truth = ring(8)
    found = SEGMENTER.segment(image, Prompt(SIZE, box=(110, 60, 291, 241)))
    assert found.values[150, 200] == 1
    assert overlap(found, truth) > 0.95


def test_the_edge_is_as_soft_as_the_pictures():
    large = cv2.resize(ground(), None, fx=4, fy=4)
    share = np.zeros((1200, 1600), np.float32)
    cv2.circle(share, (800, 600), 300, 1.0, cv2.FILLED, cv2.LINE_AA)
    share = cv2.GaussianBlur(share, (0, 0), 2)
    pixels = (large * (1 - share[..., None]) + np.array((20, 140, 90)) * share[..., None]).round().astype(np.uint8)
    found = SEGMENTER.segment(Image(pixels), Prompt((1600, 1200), positive=((800, 600),))).values
    edge = (share > 0.02) & (share < 0.98)
    assert np.abs(found - share)[edge].mean() < 0.2
    assert np.abs(found - share)[~edge].mean() < 0.002
    assert np.mean((found > 0.05) & (found < 0.95)) > 0.3 * np.mean((share > 0.05) & (share < 0.95))


def test_the_same_marks_give_the_same_mask():
    image, _ = with_card()
    prompt = Prompt(SIZE, positive=((200, 150),))
    first = SEGMENTER.segment(image, prompt).values
    cv2.setRNGSeed(77)
    np.random.seed(77)  # noqa: NPY002
    assert np.array_equal(first, SEGMENTER.segment(image, prompt).values)


def test_transparency_is_the_mask_where_nothing_is_marked():
    image, truth = with_card()
    alpha = Mask(cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 2))
    assert SEGMENTER.segment(Image(image.pixels, alpha), Prompt(SIZE)) is alpha


def test_what_is_transparent_is_no_object():
    image, truth = with_card()
    alpha = Mask((truth & (np.arange(400) < 200)).astype(np.float32))
    pixels = np.where(alpha.values[..., None] > 0, image.pixels, np.uint8(255))
    found = SEGMENTER.segment(Image(pixels, alpha), Prompt(SIZE, positive=((170, 150),)))
    assert found.values[alpha.values == 0].max() == 0
    assert overlap(found, alpha.values > 0) > 0.95


def test_words_are_refused():
    with pytest.raises(InputError, match="cannot read"):
        SEGMENTER.segment(with_card()[0], Prompt(SIZE, text="card"))
    assert not SEGMENTER.reads_text


def test_marks_of_another_picture_are_refused():
    with pytest.raises(InputError, match="mark this one"):
        SEGMENTER.segment(with_card()[0], Prompt((401, 300)))


def test_a_picture_of_nothing_has_no_object():
    with pytest.raises(InputError, match="No object stands out"):
        SEGMENTER.segment(Image(np.full((300, 400, 3), 90, np.uint8)), Prompt(SIZE))


SIDES = st.sampled_from([16, 17, 40, 130, 300])
SHARES = st.floats(0, 0.999)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=SIDES,
    height=SIDES,
    seed=st.integers(0, 99),
    flat=st.booleans(),
    clicks=st.lists(st.tuples(SHARES, SHARES, st.booleans()), max_size=3, unique_by=lambda click: click[:2]),
    box=st.none() | st.tuples(SHARES, SHARES, SHARES, SHARES),
)
def test_any_marks_in_any_picture_give_a_mask_or_a_sentence(width, height, seed, flat, clicks, box):
    random = np.random.default_rng(seed)
    pixels = (
        np.full((height, width, 3), seed, np.uint8) if flat else random.integers(0, 256, (height, width, 3), np.uint8)
    )
    points = [((x * width, y * height), on) for x, y, on in clicks]
    refusal = ""
    mask = None
    try:
        prompt = Prompt(
            (width, height),
            box=None if box is None else (box[0] * width, box[1] * height, box[2] * width, box[3] * height),
            positive=tuple(point for point, on in points if on),
            negative=tuple(point for point, on in points if not on),
        )
        mask = SEGMENTER.segment(Image(pixels), prompt)
    except InputError as error:
        refusal = str(error)
    if mask is None:
        assert refusal.endswith(".")
        return
    assert mask.size == (width, height)
    assert mask.values.dtype == np.float32
    assert mask.values.min() >= 0
    assert 0.5 <= mask.values.max() <= 1
