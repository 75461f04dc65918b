"""Examples for the preview: our own pairs, whose truth is known and so are the masks."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image

from refgc.demo.examples import Example, ExampleMeta, with_inset
from refgc.demo.marking import Marking

# Print on a book that was laid down, on a flat sleeve, and on two sides of a box.
NAMES = ("paperback", "record_sleeve", "oats_box")


@dataclass(frozen=True, slots=True)
class PreviewExample:
    """An example's reference and scene, each with its mask."""

    meta: ExampleMeta
    reference: Marking
    scene: Marking

    def thumbnail(self) -> PIL.Image.Image:
        """The scene with the reference set into its corner."""
        return with_inset(self.scene.source, self.reference.source)


def find_preview_examples(examples: list[Example]) -> list[PreviewExample]:
    """Those of `examples` that `NAMES` names, in its order."""
    named = {example.name: example for example in examples}
    return [_with_masks(named[name]) for name in NAMES if name in named]


def _with_masks(example: Example) -> PreviewExample:
    folder = example.reference.parent
    return PreviewExample(
        example.meta,
        Marking(example.reference, given=folder / "hrri_mask.png"),
        Marking(folder / "hrgt.jpg", given=folder / "hrgt_mask.png"),
    )
