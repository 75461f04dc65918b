"""What metrics have worked out about pictures that come again: a reference is compared with every method's result."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from refgc.imaging.image import Image, Mask

Value = TypeVar("Value")
# Pictures whose value is kept. Chosen by hand: a reference and a truth of each of a few entries that are worked on.
KEPT = 16


class Memo(Generic[Value]):
    """A function of a picture and perhaps its mask, whose latest values are kept by content."""

    def __init__(self, function: Callable[[Image, Mask | None], Value]) -> None:
        self._function = function
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    def __call__(self, image: Image, mask: Mask | None = None) -> Value:
        """The function's value of a picture."""
        key = _digest(image, mask)
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = self._function(image, mask)
        while len(self._values) > KEPT:
            self._values.popitem(last=False)
        return value


def _digest(image: Image, mask: Mask | None) -> bytes:
    digest = hashlib.blake2b(repr(image.size).encode())
    digest.update(image.pixels.tobytes())
    if mask is not None:
        digest.update(mask.values.tobytes())
    return digest.digest()
