"""A folder of drawn scenes, and a comparison of two methods on them as `refgc evaluate` leaves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refgc.evaluation.results import Comparison, Head, MethodNote, MetricNote, Result, write_results
from refgc.imaging.arrays import Bytes, bicubic
from refgc.imaging.image import Image, Mask, mask_image, save_image

SIDE, SMALL = 128, 32
SCENES = ("ant", "bee", "cat", "dog")
METHODS = ("soft", "sharp")
# By scene and method: PSNR, and a figure that is better where it is lower.
SCORES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "ant": {"soft": {"psnr": 20.0, "lpips": 0.5}, "sharp": {"psnr": 22.0, "lpips": 0.1}},
    "bee": {"soft": {"psnr": 25.0, "lpips": 0.4}, "sharp": {"psnr": 24.0, "lpips": 0.4}},
    "cat": {"soft": {"psnr": 18.0, "lpips": 0.3}, "sharp": {"psnr": 30.0, "lpips": 0.2}},
    "dog": {"soft": {"psnr": 21.0, "lpips": 0.2}, "sharp": {"psnr": 23.5, "lpips": 0.3}},
}


def drawn(seed: int, side: int = SIDE) -> Bytes:
    """Grey with a speckled square, the object, whose lower right quarter has the strongest speckles."""
    random = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 128, np.uint8)
    quarter = side // 4
    for rows, columns, strength in ((1, 1, 10), (1, 2, 10), (2, 1, 10), (2, 2, 100)):
        noise = random.integers(-strength, strength + 1, (quarter, quarter, 3))
        part = picture[rows * quarter : (rows + 1) * quarter, columns * quarter : (columns + 1) * quarter]
        part[:] = np.clip(part.astype(int) + noise, 0, 255)
    return picture


def object_mask(side: int = SIDE) -> Mask:
    values = np.zeros((side, side), np.float32)
    values[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
    return Mask(values)


def make_scenes(folder: Path, names: Sequence[str] = SCENES, *, truth: bool = True) -> Path:
    """A folder for each scene, with HRRI, LRGI and, where wanted, HRGT and its mask."""
    for number, name in enumerate(names):
        place = folder / name
        place.mkdir(parents=True)
        picture = drawn(number)
        save_image(Image(np.ascontiguousarray(np.roll(picture, 5, axis=1))), place / "hrri.png")
        save_image(Image(bicubic(picture, (SMALL, SMALL))), place / "lrgi.png")
        if truth:
            save_image(Image(picture), place / "hrgt.png")
            save_image(mask_image(object_mask()), place / "hrgt_mask.png")
    return folder


def make_comparison(folder: Path, names: Sequence[str] = SCENES, methods: Sequence[str] = METHODS) -> Path:
    """Pictures of each method, each scene darker by another amount, and their results."""
    for level, method in enumerate(methods, 1):
        (folder / "pictures" / method).mkdir(parents=True)
        for number, name in enumerate(names):
            picture = Image((drawn(number) // level).astype(np.uint8))
            save_image(picture, folder / "pictures" / method / f"{name}.png")
    notes = tuple(
        MethodNote(label=one, method=one, folder=one, finetuned=False, components=(), oracle=False) for one in methods
    )
    metrics = tuple(
        MetricNote(
            name=name, label=label, unit=unit, digits=digits, higher_is_better=higher, regions=("whole",), protocol="-"
        )
        for name, label, unit, digits, higher in (("psnr", "PSNR", "dB", 2, True), ("lpips", "LPIPS", "", 3, False))
    )
    head = Head(
        kind="drawn", name="drawn", sha256="", items=len(names), objects=len(names), with_truth=len(names), bad=(),
        methods=notes, metrics=metrics, missing=(),
    )  # fmt: skip
    results = tuple(
        Result(id=name, object_id=name, method=method, status="done", scores=dict(SCORES[name].get(method, {})))
        for name in names
        for method in methods
    )
    write_results(folder, Comparison(head, results))
    return folder
