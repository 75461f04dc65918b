"""The pose of an LRGI's object: how far its outline covers that of the HRGT's object."""

from __future__ import annotations

import numpy as np

from refgc.imaging.arrays import shrink
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import Prompt, Segmenter, morphology


def outline_overlap(picture: Image, truth_mask: Mask, object_name: str, segmenter: Segmenter) -> float:
    """Intersection over union of the object's outline in an LRGI and in the HRGT, in [0, 1].

    The object is searched near the HRGT's outline, not in the whole picture. Its overlap never falls far below 0.7, but
    it tells best: by a box or a click, some objects in the true pose are found no better than others in a wrong one.
    What it cannot see is another object of the same outline.

    Args:
        picture: the LRGI, of any size.
        truth_mask: the object in the HRGT, which shows the same scene.
        object_name: in a few words.
        segmenter: finds the object.

    Raises:
        InputError: the object is not found in the LRGI.
    """
    expected = Mask(np.clip(shrink(truth_mask.values, picture.size), 0.0, 1.0))
    words = object_name if segmenter.reads_text else None
    found = segmenter.segment(picture, Prompt(picture.size, alpha=expected, text=words))
    return float(morphology.overlap(found.values >= MARKED, expected.values >= MARKED))
