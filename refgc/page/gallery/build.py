"""Makes the cached gallery again: `python -m refgc.page.gallery.build`, some two minutes on one core.

Each example is refined by the correspondence engine with the default options, as a visitor would do it. So are
generated pictures with a single artifact, drawn onto the example's truth at a known strength. What is shown of each,
and the manifest, goes to `assets/gallery`; what was there is replaced.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import PIL.Image

from refgc.diptych.comparison import compare
from refgc.imaging.image import MARKED, Image, Mask, open_image, open_mask, to_pil
from refgc.page.examples import EXAMPLES_FOLDER, Example, find_examples
from refgc.page.gallery.manifest import (
    GALLERY_FOLDER,
    MANIFEST,
    Artifact,
    GalleryCard,
    GalleryManifest,
    content_hash,
)
from refgc.page.gallery.paper import LARGE_QUALITY, SMALL_QUALITY, SMALL_SIDE
from refgc.refinement import refine
from refgc.simulator.artifacts import SimulatedPicture, Strengths, simulate, smaller
from refgc.webui.viewer import Box

# How strong each artifact is where it stands alone: clearly seen, and still the same object.
STRENGTHS: dict[Artifact, float] = {
    "identity_distortion": 0.12,
    "detail_inconsistency": 0.35,
    "texture_loss": 0.9,
    "quality_degradation": 0.6,
}
# On which examples: different in shape and print, so that easy and hard cases of each are seen.
SHOWN_ON: dict[Artifact, tuple[str, ...]] = {
    "identity_distortion": ("mug", "shoe_box", "tea_tin"),
    "detail_inconsistency": ("paperback", "sauce_bottle", "oats_box"),
    "texture_loss": ("camera", "cushion", "record_sleeve"),
    "quality_degradation": ("oats_box", "paperback", "mug"),
}
SEED = 0
# Room around the object on a card, as a share of its longer side.
MARGIN = 0.1
BEFORE, AFTER, REFERENCE = "before", "after", "reference"


def draw_artifact(truth: Image, mask: Mask, artifact: Artifact) -> SimulatedPicture:
    """The generated picture with that one artifact, a quarter of the truth's size.

    Args:
        truth: the example's HRGT.
        mask: the object in it.
        artifact: at its strength in `STRENGTHS`; the others are 0. Quality is degraded in the whole picture.
    """
    strengths = Strengths(**{**dict.fromkeys(Strengths.model_fields, 0.0), artifact: STRENGTHS[artifact]})
    return simulate(truth, mask, size=smaller(truth.size), strengths=strengths, seed=SEED, quality_everywhere=True)


def build(folder: Path, examples: list[Example]) -> GalleryManifest:
    """Fills `folder`, which is emptied of earlier cards, and returns the manifest that was written there."""
    for earlier in folder.glob("*/"):
        shutil.rmtree(earlier)
    cards = [_card(folder, example, None) for example in examples]
    named = {example.name: example for example in examples}
    for artifact, names in SHOWN_ON.items():
        cards += [_card(folder, named[name], artifact) for name in names]
    manifest = GalleryManifest(cards=tuple(cards))
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def _card(folder: Path, example: Example, artifact: Artifact | None) -> GalleryCard:
    source = example.reference.parent
    truth = open_image(source / "hrgt.jpg", name="truth")
    mask = open_mask(source / "hrgt_mask.png", size=truth.size, name="mask of the truth")
    simulated = draw_artifact(truth, mask, artifact) if artifact else None
    generated = simulated.image.pixels if simulated else example.generated
    result = refine(example.reference, generated, engine="correspondence")
    upscaled = result.stages["upscaled"]

    name = f"{example.name}-{artifact.replace('_', '-')}" if artifact else example.name
    window = _square_around(_box_of(mask), truth.size)
    shown = [
        *_write_both(to_pil(upscaled), folder / name, BEFORE, window),
        *_write_both(to_pil(result.image), folder / name, AFTER, window),
    ]
    if artifact is None:
        whole = to_pil(open_image(example.reference, name="reference"))
        shown += _write_both(whole, folder / name, REFERENCE, (0, 0, *whole.size))
    used = [example.reference, source / "hrgt.jpg", source / "hrgt_mask.png"]
    used += [] if artifact else [example.generated]
    return GalleryCard(
        name=name,
        example=example.name,
        artifact=artifact,
        simulation=simulated.record if simulated else None,
        sources={path.name: content_hash(path) for path in used},
        report=result.report,
        closeness=compare(truth, upscaled, result.image, mask),
        pictures={path.relative_to(folder).as_posix(): content_hash(path) for path in shown},
    )


def _box_of(mask: Mask) -> Box:
    """Left, top, right, bottom of what is marked."""
    box = PIL.Image.fromarray(mask.values >= MARKED).getbbox()
    assert box is not None, "open_mask lets no empty mask in"
    return box


def _square_around(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    side = min(round((1 + 2 * MARGIN) * max(right - left, bottom - top)), *size)
    x, y = (
        min(max(0, (low + high - side) // 2), whole - side)
        for low, high, whole in ((left, right, size[0]), (top, bottom, size[1]))
    )
    return x, y, x + side, y + side


def _write_both(picture: PIL.Image.Image, folder: Path, name: str, window: Box) -> list[Path]:
    """Write the whole picture, which is loaded when a card is opened, and a small one of the window, for the card."""
    folder.mkdir(exist_ok=True)
    small = picture.crop(window)
    small.thumbnail((SMALL_SIDE, SMALL_SIDE), PIL.Image.Resampling.LANCZOS)
    paths = [folder / f"{name}.webp", folder / f"{name}-small.webp"]
    picture.save(paths[0], "WEBP", quality=LARGE_QUALITY, method=6)
    small.save(paths[1], "WEBP", quality=SMALL_QUALITY, method=6)
    return paths


def main() -> None:
    """Makes the gallery and says how large it is."""
    manifest = build(GALLERY_FOLDER, find_examples(EXAMPLES_FOLDER))
    size = sum(path.stat().st_size for path in GALLERY_FOLDER.glob("*/*"))
    for card in manifest.cards:
        gains = card.closeness
        print(f"{card.name}: {gains.psnr_gain_inside:+.2f} dB, SSIM {gains.ssim_gain_inside:+.3f} inside the object")
    print(f"{len(manifest.cards)} cards, {size / 1e6:.1f} MB of pictures in {GALLERY_FOLDER}")


if __name__ == "__main__":
    main()
