"""Whatever the sizes, scales, masks and contents: the size is exact, nothing crashes, every number is finite."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refgc.errors import InputError
from refgc.refinement import refine
from tests.support.correspondence_pairs import Pixels, changed
from tests.support.synthetic import draw_card

CARDS = [draw_card(200, seed) for seed in range(3)]
CONTENTS = ("noise", "flat", "gradient", "textured", "product photo")
SCENES = (*CONTENTS, "the reference", "the reference turned", "the reference at the border")
MASKS = ("none", "one pixel", "full", "soft", "corner", "faint rim")
EXTREMES = ((16, 160), (160, 16), (16, 16))


def sizes(largest: int) -> st.SearchStrategy[tuple[int, int]]:
    side = st.integers(16, largest)
    return st.one_of(st.tuples(side, side), st.sampled_from(EXTREMES))


def fitted(picture: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def draw(content: str, size: tuple[int, int], random: np.random.Generator) -> Pixels:
    width, height = size
    card = CARDS[int(random.integers(len(CARDS)))]
    if content == "noise":
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if content == "gradient":
        return np.repeat(np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))[..., None], 3, 2).astype(
            np.uint8
        )
    if content == "textured":
        return fitted(card, size)
    picture = np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    if content == "product photo":
        left, top = width // 6, height // 6
        picture[top : height - top, left : width - left] = fitted(card, (width - 2 * left, height - 2 * top))
    return picture


def show(reference: Pixels, scene: str, size: tuple[int, int], random: np.random.Generator) -> Pixels:
    if scene in CONTENTS:
        return draw(scene, size, random)
    if scene == "the reference":
        return fitted(reference, size)
    height, width = reference.shape[:2]
    turn, zoom = (float(random.uniform(-180, 180)), float(random.uniform(0.4, 1.5))) if "turned" in scene else (0, 0.6)
    placing = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
    placing[:, 2] += np.array(size) / 2 - np.array([width, height]) / 2
    if "border" in scene:
        placing[:, 2] -= np.array(size) / 3
    seen = cv2.warpAffine(reference, placing, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(90, 120, 60))
    return np.asarray(seen, np.uint8)


def mark(kind: str, size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float32] | None:
    width, height = size
    mask = np.zeros((height, width), np.float32)
    if kind == "none":
        return None
    if kind == "one pixel":
        mask[random.integers(height), random.integers(width)] = 1
    elif kind == "full":
        mask[:] = 1
    elif kind == "soft":
        mask[:] = np.clip(cv2.GaussianBlur(random.uniform(-2, 3, mask.shape), (0, 0), 2), 0, 1)
        mask[0, 0] = 1
    elif kind == "corner":
        mask[: max(1, height // 2), : max(1, width // 2)] = 1
    else:
        mask[:] = 0.3
        mask[[0, -1], :] = 1
    return mask


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    reference_size=sizes(200),
    generated_size=sizes(120),
    content=st.sampled_from(CONTENTS),
    scene=st.sampled_from(SCENES),
    reference_mask=st.sampled_from(MASKS),
    generated_mask=st.sampled_from(MASKS),
    scale=st.sampled_from((1, 2, 4)),
    strength=st.sampled_from((0.0, 0.37, 1.0)),
    seed=st.integers(0, 2**32 - 1),
)
@example((200, 200), (96, 96), "textured", "the reference", "none", "none", 4, 1.0, 0)
@example((200, 200), (96, 96), "product photo", "the reference at the border", "none", "soft", 2, 1.0, 1)
@example((160, 16), (160, 16), "textured", "the reference", "none", "none", 4, 1.0, 2)
def test_any_pictures_and_masks_give_a_picture_of_the_exact_size(
    reference_size, generated_size, content, scene, reference_mask, generated_mask, scale, strength, seed
):
    random = np.random.default_rng(seed)
    reference = draw(content, reference_size, random)
    generated = show(reference, scene, generated_size, random)
    allowed = mark(generated_mask, generated_size, random)
    fractions: list[float] = []
    try:
        result = refine(
            reference,
            generated,
            scale=scale,
            strength=strength,
            reference_mask=mark(reference_mask, reference_size, random),
            generated_mask=allowed,
            progress=lambda _, fraction: fractions.append(fraction),
        )
    except InputError as error:
        if "are the same picture" not in str(error) or reference_size != generated_size:
            raise
        return
    width, height = generated_size
    assert result.image.pixels.shape == (height * scale, width * scale, 3)
    assert result.image.pixels.dtype == np.uint8
    assert all(earlier <= later for earlier, later in itertools.pairwise(fractions))
    report = result.report
    assert np.isfinite([report.confidence, report.coverage, *report.seconds.values()]).all()
    if report.object_box is None:
        assert not report.placed
        assert report.coverage == 0
    else:
        left, top, right, bottom = report.object_box
        assert 0 <= left < right <= width * scale
        assert 0 <= top < bottom <= height * scale
        assert report.matches >= 4
    if strength == 0:
        assert not changed(result).any()
    if allowed is not None:
        near = cv2.dilate((allowed > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
        assert not changed(result)[near.repeat(scale, axis=0).repeat(scale, axis=1) == 0].any()
