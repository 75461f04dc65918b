"""Pairs drawn from scratch, so that the picture a refinement should come close to is known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SyntheticPair:
    """A printed card seen from the front on a plain table (reference) and placed in a scene.

    `reference` is (R, R, 3) and `truth` (4G, 4G, 3), RGB uint8; `generated` is `truth` at a quarter of its size,
    blurred as a generator would; `mask` is (G, G) uint8, 255 on the card.
    """

    reference: NDArray[np.uint8]
    generated: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    mask: NDArray[np.uint8]


# A colour that the card has nowhere as a ground.
TABLE = (70, 110, 90)


def draw_card(side: int, seed: int) -> NDArray[np.uint8]:
    """Blobs of many sizes and lettering: plenty to match everywhere on it."""
    random = np.random.default_rng(seed)
    card = np.full((side, side, 3), 235, np.uint8)
    for _ in range(260):
        centre = [int(value) for value in random.integers(0, side, 2)]
        colour = [int(value) for value in random.integers(20, 240, 3)]
        cv2.circle(card, centre, int(random.integers(side // 160 + 1, side // 14)), colour, -1, cv2.LINE_AA)
    for row in range(1, 6):
        text = "".join(chr(65 + int(letter)) for letter in random.integers(0, 26, 9))
        place = (side // 12, row * side // 6)
        cv2.putText(
            card, text, place, cv2.FONT_HERSHEY_DUPLEX, side / 330, (15, 15, 15), max(1, side // 190), cv2.LINE_AA
        )
    return card


def make_synthetic_pair(
    seed: int = 0, *, reference_side: int = 384, generated_side: int = 96, has_table: bool = True
) -> SyntheticPair:
    """The same seed gives the same pictures; without the table, the card fills the reference."""
    margin = reference_side // 16 if has_table else 0
    card = draw_card(reference_side - 2 * margin, seed)
    reference = cv2.copyMakeBorder(card, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=TABLE)
    full = 4 * generated_side
    random = np.random.default_rng(seed + 1000)
    scene = cv2.resize(random.integers(90, 200, (9, 9, 3), dtype=np.uint8), (full, full), interpolation=cv2.INTER_CUBIC)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * len(card)
    placed = np.array([[0.22, 0.2], [0.8, 0.24], [0.77, 0.82], [0.2, 0.76]], np.float32) * full
    placing = cv2.getPerspectiveTransform(corners, placed)
    warped = cv2.warpPerspective(card, placing, (full, full), flags=cv2.INTER_AREA)
    mask = cv2.warpPerspective(np.full(card.shape[:2], 255, np.uint8), placing, (full, full))
    opacity = mask[..., None] / 255
    truth = np.round(warped * opacity + scene * (1 - opacity)).astype(np.uint8)
    size = (generated_side, generated_side)
    generated = cv2.resize(cv2.GaussianBlur(truth, (0, 0), 1.5), size, interpolation=cv2.INTER_AREA)
    small_mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return SyntheticPair(
        np.asarray(reference, np.uint8), generated.astype(np.uint8), truth, small_mask.astype(np.uint8)
    )
