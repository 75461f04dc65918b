"""From triplets to the pictures that the model sees in training, cut by the code that cuts them at inference."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from refgc.dataset.manifest import Split, StoredFile
from refgc.dataset.rows import Entry, check_some_entries, read_entries
from refgc.dataset.store import load_image, load_mask
from refgc.errors import InputError, quoted
from refgc.imaging.arrays import Bytes, Floats, bicubic, shrink
from refgc.imaging.image import Image, Mask
from refgc.model.inputs import condition_pictures
from refgc.model.locate import Window, Windows, content_area, crop, locate
from refgc.request import RefineRequest, make_request
from refgc.training.settings import TAKES_UNREVIEWED, DataSettings


@dataclass(frozen=True, slots=True)
class Sample:
    """One triplet, by its files.

    Attributes:
        id: of the triplet.
        object_name: for the prompt.
        hrri: the reference.
        hrri_mask: the object in it.
        hrgt: the ground truth.
        hrgt_mask: the object in it.
        lrgi: the generated picture.
    """

    id: str
    object_name: str
    hrri: StoredFile
    hrri_mask: StoredFile
    hrgt: StoredFile
    hrgt_mask: StoredFile
    lrgi: StoredFile

    def files(self) -> dict[str, StoredFile]:
        """By their short names."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("id", "object_name")}


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The pictures of a sample, whole.

    Attributes:
        request: HRRI and LRGI with their masks, as a person would give them for refinement.
        truth: the HRGT.
        truth_mask: the object in it.
    """

    request: RefineRequest
    truth: Image
    truth_mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """What one sample looks like to the model; pictures are uint8 RGB (height, width, 3).

    Attributes:
        truth: the HRGT's window, at the working size.
        reference: the HRRI's window, of any size.
        generated: the LRGI's window, enlarged to the working size or, compact, to half of it.
        truth_mask: the object in `truth`, (height, width) in [0, 1].
        reference_mask: the object in `reference`, likewise.
    """

    truth: Bytes
    reference: Bytes
    generated: Bytes
    truth_mask: Floats
    reference_mask: Floats


def read_samples(settings: DataSettings, split: Split) -> list[Sample]:
    """The triplets of one split, in the order of the manifest.

    Raises:
        InputError: there is no dataset, a row cannot be read, it has no triplets, or none of this split.
    """
    root = Path(settings.dataset)
    check_some_entries(root, unreviewed=settings.unreviewed, choice=TAKES_UNREVIEWED)
    found = [
        _sample(entry, root) for entry in read_entries(root, unreviewed=settings.unreviewed) if entry.split == split
    ]
    if not found and split == "train":
        raise InputError(
            f"No triplet of the dataset in {quoted(str(root))} that may be used is for training; divide it with "
            "`refgc dataset split`."
        )
    return found


def _sample(entry: Entry, root: Path) -> Sample:
    if entry.triplet is None:
        raise InputError(
            f"The dataset in {quoted(str(root))} has pairs and no triplets; make them with `refgc dataset triplets`."
        )
    files = entry.files()
    return Sample(
        entry.id,
        entry.pair.object_name,
        files["hrri"],
        files["hrri_mask"],
        files["hrgt"],
        files["hrgt_mask"],
        files["lrgi"],
    )


def load_pictures(root: Path, sample: Sample) -> Pictures:
    """The pictures of a sample, each checked against its hash.

    The LRGI shows the HRGT's scene in the HRGT's pose, so that the HRGT's mask is the LRGI's as well.

    Raises:
        InputError: one is missing or damaged, or cannot be refined.
    """
    truth, lrgi = load_image(root, sample.hrgt), load_image(root, sample.lrgi)
    truth_mask = load_mask(root, sample.hrgt_mask)
    request = make_request(
        load_image(root, sample.hrri),
        lrgi,
        # Says how large a result is, and nothing of how the pictures are cut.
        scale=_scale(truth, lrgi),
        reference_mask=load_mask(root, sample.hrri_mask),
        generated_mask=Mask(np.clip(shrink(truth_mask.values, lrgi.size), 0.0, 1.0)),
        object_name=sample.object_name,
    )
    return Pictures(request, truth, truth_mask)


def cut(pictures: Pictures, settings: DataSettings) -> Crops:
    """The windows of a sample at the sizes that the model works at.

    Raises:
        InputError: as for `refgc.model.locate.locate`.
    """
    windows = locate(pictures.request, whole=settings.whole, working_size=settings.working_size)
    reference, generated = condition_pictures(
        pictures.request, windows, enlargement=settings.enlargement, compact=settings.compact_generated
    )
    truth_window = _in_truth(windows, pictures)
    reference_mask = pictures.request.reference_mask
    assert reference_mask is not None, "samples have masks"
    return Crops(
        truth=crop(pictures.truth.pixels, truth_window, windows.working_size),
        reference=reference,
        generated=generated,
        truth_mask=_mask(pictures.truth_mask, truth_window, windows.working_size),
        reference_mask=_mask(reference_mask, windows.reference_window, windows.reference_size),
    )


def _scale(truth: Image, lrgi: Image) -> int:
    """Output size over the LRGI's, of those that a request may have the nearest."""
    return min((1, 2, 4), key=lambda scale: abs(scale - truth.size[0] / lrgi.size[0]))


def _in_truth(windows: Windows, pictures: Pictures) -> Window:
    """The LRGI's window, in pixels of the HRGT, which shows the same scene."""
    across, down = (
        own / of_lrgi for own, of_lrgi in zip(pictures.truth.size, pictures.request.generated.size, strict=True)
    )
    left, top, right, bottom = windows.generated_window
    return round(left * across), round(top * down), round(right * across), round(bottom * down)


def _mask(mask: Mask, window: Window, size: tuple[int, int]) -> Floats:
    """The object in a crop; 0 in its padding, whose mirrored content is not put back into a picture."""
    levels = np.repeat(np.round(mask.values * 255).astype(np.uint8)[..., None], 3, axis=2)
    values = crop(levels, window, size, enlarge=bicubic)[..., 0] / np.float32(255)
    area = content_area(window, size)
    inside = np.zeros(values.shape, np.float32)
    area.of(inside)[:] = area.of(values)
    return inside
