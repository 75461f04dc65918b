"""The manifest of the cached gallery, `assets/gallery/manifest.json`: its cards and the files they come from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from refgc.diptych.comparison import Comparison
from refgc.engine import Report
from refgc.simulator.artifacts import ArtifactRecord

GALLERY_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "gallery"
MANIFEST = "manifest.json"

Artifact = Literal["identity_distortion", "detail_inconsistency", "texture_loss", "quality_degradation"]


class GalleryCard(BaseModel):
    """One cached refinement."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="its folder in assets/gallery")
    example: str = Field(description="the folder in examples/ whose pictures it was made from")
    artifact: Artifact | None = Field(
        description="the one artifact of its generated picture; null for the example's own, which has all four"
    )
    simulation: ArtifactRecord | None = Field(description="how that one was drawn; null for the example's own")
    sources: dict[str, str] = Field(description="SHA-256 of each file of the example that it was made from")
    report: Report = Field(description="of the refinement, made with the default options and no masks")
    closeness: Comparison = Field(description="enlarged and refined picture against the truth")
    pictures: dict[str, str] = Field(description="SHA-256 of each picture shown, by its path in assets/gallery")


class GalleryManifest(BaseModel):
    """The cards in the order in which they are shown."""

    model_config = ConfigDict(frozen=True)

    cards: tuple[GalleryCard, ...]


def read_manifest(folder: Path = GALLERY_FOLDER) -> GalleryManifest:
    """The manifest of the gallery in `folder`."""
    return GalleryManifest.model_validate_json((folder / MANIFEST).read_bytes())


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
