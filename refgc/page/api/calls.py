"""The endpoint `/refine`.

What a docstring's `Args` say is what a caller reads of a parameter; Gradio takes one line of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from refgc.diptych.preview import STRENGTHS, GeneratorChoice
from refgc.page.api.caller import Caller, Json, given_choice, given_mask, given_path, progress_of, sent_file, told
from refgc.page.service.queue import Finished, Working
from refgc.page.service.runs import PreviewJob, RefineJob, Service
from refgc.refinement import EngineChoice


def refine_endpoint(service: Service) -> Callable[..., Iterator[Any]]:
    """The function of the endpoint `/refine`."""

    def refine(
        caller: gr.Request,
        reference: FileData,
        generated: FileData,
        scale: int = 4,
        strength: float = 1.0,
        seed: int = 0,
        reference_mask: FileData | None = None,
        generated_mask: FileData | None = None,
        object_name: str = "object",
        engine: EngineChoice = "auto",
    ) -> Iterator[tuple[Json | None, Json]]:
        """Brings the reference's true object back into a generated picture, at up to four times its size.

        Until the result is there, the picture is null and the report has the stage and the fraction done.

        Args:
            caller: who asks; Gradio gives it
            reference: the sharp photo of the real object
            generated: the generated picture with the object's wrong details
            scale: size of the result over that of the generated picture: 1, 2 or 4
            strength: how much of the reference to bring in, from 0, which only enlarges, to 1
            seed: a whole number from 0; the same seed and pictures give the same pixels
            reference_mask: the object in the reference, white on black, of its size; without one it is found
            generated_mask: the object in the generated picture, white on black, of its size; without one it is found
            object_name: the object in a few words
            engine: auto takes the best that the server can run, correspondence needs no GPU, diffusion does

        Returns:
            the refined picture as PNG, with the report in its metadata; tools get a smaller copy to look at
            what happened; for tools it has the address of the exact PNG under files
        """
        asking = Caller(caller)
        try:
            chosen = given_choice(engine, EngineChoice, "engine")
            job = RefineJob(
                given_path(reference, "reference"),
                given_path(generated, "generated picture"),
                reference_mask=given_mask(reference_mask, "reference mask"),
                generated_mask=given_mask(generated_mask, "generated mask"),
                scale=scale,
                strength=strength,
                seed=seed,
                object_name=object_name,
                engine=service.engine_for(chosen),
            )
            with closing(service.refine(job, asking.visit)) as notes:
                for note in notes:
                    if isinstance(note, Working):
                        yield None, progress_of(note)
                    elif isinstance(note, Finished):
                        report = note.made.report.model_dump(mode="json")
                        if asking.is_tool:
                            files = {"refined picture": asking.address_of(note.made.download)}
                            yield sent_file(note.made.whole[1]), {**report, "files": files}
                        else:
                            yield sent_file(note.made.download), report
        except Exception as error:
            raise told(error) from error

    return refine


# ==== api_preview
FILES = ("generated picture", "reference mask", "generated mask", "truth")


def preview_endpoint(service: Service) -> Callable[..., Iterator[Any]]:
    """The function of the endpoint `/preview`."""

    def preview(
        caller: gr.Request,
        reference: FileData,
        scene: FileData,
        reference_mask: FileData | None = None,
        scene_mask: FileData | None = None,
        object_name: str = "object",
        caption: str = "",
        seed: int = 0,
        factor: int = 4,
        identity_distortion: float = STRENGTHS.identity_distortion,
        detail_inconsistency: float = STRENGTHS.detail_inconsistency,
        texture_loss: float = STRENGTHS.texture_loss,
        quality_degradation: float = STRENGTHS.quality_degradation,
        generator: GeneratorChoice = "auto",
    ) -> Iterator[tuple[Json | None, Json | None, Json | None, Json | None, Json]]:
        """Makes a generated picture with wrong details whose truth is known, from a reference photo and a scene.

        Until it is there, the files are null and the report has the stage and the fraction done.

        Args:
            caller: who asks; Gradio gives it
            reference: the sharp photo of the object
            scene: a picture that shows the object, or has a place for it
            reference_mask: the object in the reference, white on black, of its size; without one it is found
            scene_mask: the object in the scene or the place for it, white on black, of its size; found without one
            object_name: the object in a few words
            caption: what the reference shows, in a longer phrase; may be empty
            seed: a whole number from 0; the same seed and pictures give the same pixels
            factor: size of the scene over that of the generated picture: 1, 2 or 4
            identity_distortion: how much the simulator distorts the object's shape, from 0 to 1
            detail_inconsistency: how much it changes details such as letters, from 0 to 1
            texture_loss: how much texture it takes away, from 0 to 1
            quality_degradation: how much it lowers the picture's quality, from 0 to 1
            generator: auto takes DipRefGC where the server can run it, simulated draws the faults onto the scene

        Returns:
            the generated picture as PNG
            the object in the reference; tools find this and the next two by their addresses only
            the object in the generated picture
            what the generated picture should show
            what happened; for tools it has the addresses of the files under files
        """
        asking = Caller(caller)
        try:
            chosen = given_choice(generator, GeneratorChoice, "generator")
            job = PreviewJob(
                given_path(reference, "reference"),
                given_path(scene, "scene"),
                reference_mask=given_mask(reference_mask, "reference mask"),
                scene_mask=given_mask(scene_mask, "scene mask"),
                object_name=object_name,
                caption=caption,
                seed=seed,
                factor=factor,
                artifacts={
                    "identity_distortion": identity_distortion,
                    "detail_inconsistency": detail_inconsistency,
                    "texture_loss": texture_loss,
                    "quality_degradation": quality_degradation,
                },
                generator=chosen,
            )
            with closing(service.preview(job, asking.visit)) as notes:
                for note in notes:
                    if isinstance(note, Working):
                        yield None, None, None, None, progress_of(note)
                    elif isinstance(note, Finished):
                        shown, report = note.made, note.made.report.model_dump(mode="json")
                        masks, truth = shown.masks, shown.folder / "truth.png"
                        if asking.is_tool:
                            addresses = map(asking.address_of, (shown.generated, *masks, truth))
                            files = dict(zip(FILES, addresses, strict=True))
                            yield sent_file(shown.generated), None, None, None, {**report, "files": files}
                        else:
                            sent = [sent_file(made) for made in (shown.generated, *masks, truth)]
                            yield sent[0], sent[1], sent[2], sent[3], report
        except Exception as error:
            raise told(error) from error

    return preview
