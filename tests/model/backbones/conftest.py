"""A request that the tests of every backbone share."""

from __future__ import annotations

import numpy as np
import pytest

from refgc.request import RefineRequest, make_request


@pytest.fixture(scope="module")
def request_() -> RefineRequest:
    random = np.random.default_rng(0)
    mask = np.zeros((48, 64), np.uint8)
    mask[12:36, 16:48] = 255
    pictures = [random.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
    return make_request(*pictures, scale=2, object_name="mug", reference_mask=mask, generated_mask=mask)
