"""Pairs with known truth, on which probabilities of the correspondence engine are fitted and checked.

Which products and subjects may be used for what says benchmarks/split.toml. The truth is a picture of an object; its
generated picture is the truth with simulated artifacts of random strengths, a random light and JPEG compression.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats
from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.simulator.artifacts import Strengths, simulate, smaller

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SPLIT = Path(__file__).with_name("split.toml")
Part = Literal["fit", "held_out"]
# The truth's longer side; its generated picture has a quarter of it.
TRUTH_SIDES = (512, 1024)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One pair with its truth.

    Attributes:
        name: says what it is.
        group: the product or subject.
        reference: the HRRI.
        generated: the simulated LRGI.
        truth: uint8 RGB, four times the size of `generated`.
        mask: (height, width) of the truth in [0, 1], the visible object, or None where it is not known.
    """

    name: str
    group: str
    reference: Image
    generated: Image
    truth: Bytes
    mask: Floats | None


def groups(part: Part, kind: Literal["products", "subjects"]) -> list[str]:
    """The names on one list of the split."""
    return list(tomllib.loads(SPLIT.read_text(encoding="utf-8"))[part][kind])


def product_cases(part: Part, seeds: range) -> Iterator[Case]:
    """Our own products: the studio photo as reference, the scene as truth."""
    for product in groups(part, "products"):
        folder = EXAMPLES / product
        reference = open_image(folder / "hrri.jpg", name="reference")
        truth = open_image(folder / "hrgt.jpg", name="truth")
        mask = open_mask(folder / "hrgt_mask.png", size=truth.size, name="mask")
        for seed in seeds:
            yield _case(f"{product}_{seed}", product, reference, truth, mask, seed)


def photo_cases(part: Part, dreambooth: Path, seeds: range) -> Iterator[Case]:
    """Photographs of one object from different sides: every ordered pair of a subject's photographs."""
    for subject in groups(part, "subjects"):
        paths = sorted((dreambooth / subject).glob("*.jpg"))
        for i, one in enumerate(paths):
            for j, other in enumerate(paths):
                if i == j:
                    continue
                truth = open_image(other, name="truth")
                drawn = other.with_name(f"{other.stem}_mask.png")
                mask = open_mask(drawn, size=truth.size, name="mask") if drawn.exists() else None
                reference = open_image(one, name="reference")
                for seed in seeds:
                    yield _case(f"{subject}_{i}_{j}_{seed}", subject, reference, truth, mask, 100 * i + 10 * j + seed)


def _case(name: str, group: str, reference: Image, truth: Image, mask: Mask | None, seed: int) -> Case:
    random = np.random.default_rng([seed, *name.encode()])
    side = int(random.choice(TRUTH_SIDES))
    factor = min(1.0, side / max(truth.size))
    size = tuple(max(16, round(length * factor) // 16 * 16) for length in truth.size)
    pixels = np.asarray(cv2.resize(truth.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    alpha = (
        None if mask is None else np.asarray(cv2.resize(mask.values, size, interpolation=cv2.INTER_AREA), np.float32)
    )
    strengths = Strengths(
        identity_distortion=float(random.uniform(0, 0.15)),
        detail_inconsistency=float(random.uniform(0, 0.4)),
        texture_loss=float(random.uniform(0, 0.9)),
        quality_degradation=float(random.uniform(0, 0.6)),
    )
    drawn = simulate(
        Image(pixels),
        None if alpha is None else Mask(alpha.copy()),
        size=smaller((size[0], size[1])),
        strengths=strengths,
        seed=seed,
        quality_everywhere=True,
    ).image.pixels
    # The light of the scene is the truth's as well: a generator does not know another.
    light = random.uniform(0.9, 1.1, 3) * random.choice([1.0, 1.0, 1.0, 0.5, 0.25])
    lit = [np.clip(np.rint(levels * light), 0, 255).astype(np.uint8) for levels in (drawn, pixels)]
    _, code = cv2.imencode(".jpg", lit[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(60, 96))])
    generated = np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)
    return Case(name, group, reference, Image(generated), lit[1], alpha)
