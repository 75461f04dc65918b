"""The pictures of the benchmark: each simulated artifact alone, at three strengths, on pairs that are held out.

Three sources, of the held-out part of `split.toml` alone: the rendered examples and the photos of DreamBooth, whose
truths have 1024 pixels a side and whose generated pictures 256, as in the paper; and the frames of the turntables,
which have 384 and 96. Strengths and numbers were chosen by hand.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.split import Split, read_split
from benchmarks.turntable_pairs import frame_number, lay_out
from benchmarks.turntables import LIGHTS, VIDEOS
from refgc.dataset.frames import read_frames
from refgc.dataset.manifest import Source, StoredFile
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import find_objects
from refgc.dataset.store import store_image, store_mask
from refgc.dataset.testset import Case, freeze
from refgc.imaging.image import Image, Mask, open_image, open_mask
from refgc.simulator.artifacts import Strengths, simulate, smaller

SourceName: TypeAlias = Literal["examples", "turntables", "dreambooth"]
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LEVELS = ("weak", "medium", "strong")
# The strength of each artifact by level, the others being 0.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "identity_distortion": (0.06, 0.12, 0.24),
    "detail_inconsistency": (0.15, 0.35, 0.7),
    "texture_loss": (0.3, 0.6, 0.9),
    "quality_degradation": (0.3, 0.6, 0.9),
}
SOURCES: dict[SourceName, str] = {
    "examples": "rendered examples, 256 to 1024 pixels",
    "turntables": "frames of rendered turntables, 96 to 384 pixels",
    "dreambooth": "photos of DreamBooth, 256 to 1024 pixels",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """An artifact at a level."""

    artifact: str
    level: int

    @property
    def strength(self) -> float:
        """From 0 to 1."""
        return STRENGTHS[self.artifact][self.level]

    @property
    def strengths(self) -> Strengths:
        """Of all artifacts."""
        return Strengths(**{**dict.fromkeys(Strengths.model_fields, 0.0), self.artifact: self.strength})


CONDITIONS = tuple(Condition(artifact, level) for level in range(len(LEVELS)) for artifact in STRENGTHS)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture of an object, with the object's mask where there is one."""

    name: str
    image: Image
    mask: Mask | None


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Two pictures of one object: the reference, and the truth, whose mask is known."""

    source: SourceName
    object_id: str
    reference: Shot
    truth: Shot


def wanted(conditions: Sequence[Condition], source: SourceName, number: int) -> list[Condition]:
    """The conditions of an object: of the large pictures every second one, the other half for the next object.

    The drawing of the surroundings of a large picture takes half a minute of a core; so all of it ends in half an hour.
    """
    if source == "turntables":
        return list(conditions)
    places = {artifact: place for place, artifact in enumerate(STRENGTHS)}
    return [one for one in conditions if (places[one.artifact] + one.level + number) % 2 == 0]


def make_cases(into: Path, dreambooth: Path | None, limit: int | None = None) -> dict[str, dict[str, Any]]:
    """Write the frozen set, unless it is there already.

    Args:
        into: folder of the set.
        dreambooth: folder of the photos; None leaves them out.
        limit: at most so many cases of each object; None takes all.

    Returns:
        By the case's id what is simulated in it.
    """
    plan, cases = dict[str, dict[str, Any]](), list[Case]()
    for case, told in _cases(into, dreambooth, limit):
        cases.append(case)
        plan[case.id] = told
    freeze(into, "test", cases)
    return plan


def _cases(into: Path, dreambooth: Path | None, limit: int | None) -> Iterator[tuple[Case, dict[str, Any]]]:
    split = read_split("held out")
    for source, objects in _sources(split, dreambooth).items():
        for number, name in enumerate(objects):
            views = list(_views_of(source, name, dreambooth))
            for place, condition in enumerate(wanted(CONDITIONS, source, number)[:limit]):
                one = views[place % len(views)]
                told = {
                    "source": source,
                    "object": name,
                    "reference": one.reference.name,
                    "truth": one.truth.name,
                    "artifact": condition.artifact,
                    "level": LEVELS[condition.level],
                    "strength": condition.strength,
                }
                yield _case(into, one, condition), told


def _sources(split: Split, dreambooth: Path | None) -> dict[SourceName, tuple[str, ...]]:
    found: dict[SourceName, tuple[str, ...]] = {"examples": split.products, "turntables": split.products}
    return found if dreambooth is None else {**found, "dreambooth": split.subjects}


def _views_of(source: SourceName, name: str, dreambooth: Path | None) -> Iterator[Views]:
    match source:
        case "examples":
            reference, truth = (_shot(EXAMPLES / name / f"{kind}.jpg") for kind in ("hrri", "hrgt"))
            yield Views(source, name, reference, truth)
        case "turntables":
            yield from _turns(name)
        case "dreambooth":
            assert dreambooth is not None, "the source is left out without it"
            shots = [_shot(path) for path in sorted((dreambooth / name).glob("*.jpg"))]
            for truth in shots:
                if truth.mask is not None:
                    yield from (
                        Views(source, name, reference, truth) for reference in shots if reference.name != truth.name
                    )


def _shot(path: Path) -> Shot:
    image = open_image(path, name=path.name)
    mask = path.with_name(f"{path.stem}_mask.png")
    return Shot(path.stem, image, open_mask(mask, size=image.size, name=mask.name) if mask.is_file() else None)


def _turns(product: str) -> Iterator[Views]:
    """Neighbouring frames of the product's turntables, 30 degrees apart, from the one light and the other in turn."""
    settings = PairSettings(no_vlm=True)
    with tempfile.TemporaryDirectory() as name:
        lay_out(VIDEOS, [f"{product}_{light}" for light in LIGHTS], "given", Path(name))
        videos = {
            Path(item.label).stem: read_frames(item, settings).kept for item in find_objects(Path(name), settings)
        }
    turns = [
        [Shot(f"{light}-{frame_number(one.seconds):02d}", one.image, one.mask) for one in videos[f"{product}_{light}"]]
        for light in LIGHTS
    ]
    for pairs in zip(*(pairwise(turn) for turn in turns), strict=False):
        for reference, truth in pairs:
            yield Views("turntables", product, reference, truth)


def _case(into: Path, views: Views, condition: Condition) -> Case:
    truth, mask = views.truth.image, views.truth.mask
    assert mask is not None, "a truth has one"
    name = f"{views.source}-{views.object_id}-{views.reference.name}-{views.truth.name}"
    named = f"{name}-{condition.artifact}-{LEVELS[condition.level]}"
    made = simulate(
        truth,
        mask,
        size=smaller(truth.size),
        strengths=condition.strengths,
        seed=zlib.crc32(named.encode()),
        # Of the generators' faults this one lies on the whole picture.
        quality_everywhere=condition.artifact == "quality_degradation",
    )
    stored: dict[str, StoredFile | None] = {
        "hrri": store_image(into, views.reference.image),
        "hrri_mask": None if views.reference.mask is None else store_mask(into, views.reference.mask),
        "lrgi": store_image(into, made.image),
        "hrgt": store_image(into, truth),
        "hrgt_mask": store_mask(into, mask),
    }
    values: dict[str, Any] = stored
    return Case(
        id=named,
        object_id=views.object_id,
        object_name=views.object_id.replace("_", " "),
        generator="simulator",
        task="simulated",
        simulated=True,
        source=Source(
            kind="photos" if views.source == "dreambooth" else "render",
            name="DreamBooth" if views.source == "dreambooth" else "RefGC-SR2",
            licence=None if views.source == "dreambooth" else "CC0-1.0",
        ),
        **values,
    )
