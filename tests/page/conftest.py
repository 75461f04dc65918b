"""What the page's tests share: a service, and a pair of pictures with the masks of their object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from refgc.page.marking.mask import ObjectSegmenter
from refgc.page.service.runs import Service
from refgc.settings import Settings
from tests.support.synthetic import make_synthetic_pair


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service without a cache, with the limits that are set at first."""
    service = Service(Settings())
    yield service
    service.decoder.close()


@pytest.fixture(scope="session")
def segmenter(service: Service) -> ObjectSegmenter:
    """A segmenter that opens files by the service's decoder."""
    return ObjectSegmenter(service)


@pytest.fixture(scope="session")
def object_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference and a scene that shows its object, with masks: reference.png, scene.png and their masks."""
    folder = tmp_path_factory.mktemp("objects")
    pair = make_synthetic_pair(reference_side=512, generated_side=128, has_table=False)
    reference = np.full((640, 640, 3), 90, np.uint8)
    reference[64:576, 64:576] = pair.reference
    mask = np.zeros((640, 640), np.uint8)
    mask[64:576, 64:576] = 255
    scene_mask = PIL.Image.fromarray(pair.mask).resize((512, 512))
    for name, picture in {
        "reference": PIL.Image.fromarray(reference),
        "reference_mask": PIL.Image.fromarray(mask),
        "scene": PIL.Image.fromarray(pair.truth),
        "scene_mask": scene_mask,
    }.items():
        picture.save(folder / f"{name}.png")
    return folder
