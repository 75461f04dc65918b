"""What a visitor asked for: read and checked once, then remembered with its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from uuid import uuid4

from refgc.demo.engine_call import EngineChoice
from refgc.demo.examples import is_ours
from refgc.demo.marking import Marking
from refgc.demo.messages import missing_pictures
from refgc.demo.report_text import capitalised
from refgc.engines import RefineRequest
from refgc.errors import InputError
from refgc.refinement import make_request

DEFAULT_SCALE, DEFAULT_STRENGTH, DEFAULT_SEED, DEFAULT_OBJECT_NAME = 4, 1.0, 0, "object"


@dataclass(frozen=True, slots=True)
class Picture:
    """One of the two pictures.

    Attributes:
        source: its file.
        mask: the file of its object's mask; None lets the engine find it.
        is_marked: whether the mask was made on the page, so that the visitor has no file of it.
    """

    source: Path
    mask: Path | None = None
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One refinement, as a visitor asked for it.

    Attributes:
        title: what its result is called.
        number: tells it from an earlier one that is the same in everything else.
        at: when, in seconds of `time.monotonic`.
    """

    reference: Picture
    generated: Picture
    title: str
    scale: int = DEFAULT_SCALE
    strength: float = DEFAULT_STRENGTH
    seed: int = DEFAULT_SEED
    engine: EngineChoice = "auto"
    object_name: str = DEFAULT_OBJECT_NAME
    number: str = field(default_factory=lambda: uuid4().hex)
    at: float = field(default_factory=monotonic)

    def request(self) -> RefineRequest:
        """The same with the files opened and checked.

        Raises:
            InputError: a file or an option cannot be used.
        """
        return make_request(
            self.reference.source,
            self.generated.source,
            scale=self.scale,
            reference_mask=self.reference.mask,
            generated_mask=self.generated.mask,
            object_name=self.object_name,
            seed=self.seed,
            strength=self.strength,
        )


def read_asked(
    reference: str | None,
    reference_marking: Marking | None,
    reference_mask: str | None,
    generated: str | None,
    generated_marking: Marking | None,
    generated_mask: str | None,
    scale: int,
    strength: float,
    seed: int | None,
    engine: EngineChoice,
    object_name: str,
) -> Asked:
    """The values of `Inputs.given`, in its order.

    Raises:
        InputError: a picture is missing.
    """
    if reference is None or generated is None:
        raise InputError(missing_pictures(reference, generated))
    return Asked(
        _picture(reference, reference_marking, reference_mask),
        _picture(generated, generated_marking, generated_mask),
        _title(Path(generated)),
        scale,
        strength,
        DEFAULT_SEED if seed is None else seed,
        engine,
        object_name,
    )


def _picture(source: str, marking: Marking | None, given: str | None) -> Picture:
    if marking is not None and marking.marks and marking.source == Path(source):
        return Picture(marking.source, marking.mask, is_marked=True)
    return Picture(Path(source), None if given is None else Path(given))


def _title(generated: Path) -> str:
    """What a result is called: by its file; one of our examples, whose files are all called alike, by its folder."""
    return capitalised(generated.parent.name.replace("_", " ")) if is_ours(generated) else generated.name
