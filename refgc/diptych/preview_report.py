"""The report of a preview: a sentence for people, and numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from refgc.diptych.comparison import Fidelity
from refgc.imaging.arrays import Size
from refgc.imaging.image import MARKED, Mask
from refgc.simulator.artifacts import ArtifactRecord


class MaskRecord(BaseModel):
    """Where a mask came from."""

    model_config = ConfigDict(frozen=True)

    source: Literal["given", "transparency", "found"] = Field(
        description="given by the caller, the transparency of the picture's file, or found by the segmenter"
    )
    confidence: float | None = Field(
        ge=0,
        le=1,
        description="how sure it is that a found mask is right: the share that the object's outlines in both pictures "
        "have in common when laid over each other, halved where nothing else says that they show one object; null for "
        "a mask that was not found",
    )
    coverage: float = Field(ge=0, le=1, description="share of the picture's pixels that are the object's")


class ModelRecord(BaseModel):
    """The sources of a diptych generator's weights."""

    model_config = ConfigDict(frozen=True)

    base: str = Field(description="the FLUX.1-dev used, a folder or a Hub repository")
    inpainting_controlnet: str = Field(description="a folder or a Hub repository")
    canny_controlnet: str = Field(description="a folder or a Hub repository")
    loras: str | None = Field(description="a folder or a Hub repository; null for the ControlNets as they are")
    placement: str = Field(description="one sentence on number format, place and memory")


class PreviewReport(BaseModel):
    """What happened in one preview; `PreviewReport.model_json_schema()` documents the JSON file."""

    model_config = ConfigDict(frozen=True)

    message: str = Field(description="one sentence for the person who asked")
    generator: Literal["simulated", "diffusion"]
    simulated: bool = Field(description="whether the generated picture is the simulator's and no model's")
    obstacle: str = Field(
        description="why the diffusion generator did not draw it; empty where it did, or was not asked"
    )
    truth: Literal["scene", "composed"] = Field(
        description="the scene itself, where it shows the reference's object, or the scene with the object put into it"
    )
    object_name: str
    caption: str | None
    prompt: str = Field(description="what the diptych is drawn from, in words")
    seed: int = Field(description="seed of everything random")
    factor: int = Field(description="size of the truth over that of the generated picture")
    reference_size: Size = Field(description="width and height of the reference in pixels")
    scene_size: Size = Field(description="width and height of the scene as it was given, in pixels")
    truth_size: Size = Field(description="width and height of the truth in pixels: factor times the generated picture")
    panel_size: Size = Field(description="width and height of each panel of the diptych in pixels")
    generated_size: Size = Field(description="width and height of the generated picture in pixels")
    reference_mask: MaskRecord
    scene_mask: MaskRecord
    artifacts: ArtifactRecord | None = Field(description="what was simulated; null when nothing was")
    upscaled: Fidelity | None = Field(
        description="how close the generated picture's plain enlargement is to the truth; null when a model drew into "
        "a composed scene, which is nobody's truth"
    )
    model: ModelRecord | None = Field(description="what the diffusion generator was made of; null when it did not run")
    seconds: dict[str, float] = Field(description="wall-clock seconds by stage")
    versions: dict[str, str] = Field(description="versions of refgc and of the libraries that made the pixels")


def coverage(mask: Mask) -> float:
    """Share of the picture's pixels that a mask marks by half or more."""
    return float((mask.values >= MARKED).mean())


def simulated_message(record: ArtifactRecord, truth: Literal["scene", "composed"], obstacle: str) -> str:
    """The sentence on a simulated picture."""
    why = " because no diptych generator can run here" if obstacle else ""
    onto = "the scene's own object" if truth == "scene" else "the reference's object, put into the scene"
    if not record.kinds:
        return f"The generated picture is simulated{why}: {onto}, without any artifact, made smaller."
    return f"The generated picture is simulated{why}: {_listed(record.kinds)} were drawn onto {onto}."


def drawn_message(object_name: str, truth: Literal["scene", "composed"]) -> str:
    """The sentence on a picture that a model drew."""
    pose = "that it has there" if truth == "scene" else "in which it was put there"
    return f"The diptych generator drew the {object_name} into the scene, in the pose {pose}."


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
