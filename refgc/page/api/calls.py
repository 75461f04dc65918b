"""The endpoints `/refine`, `/preview` and `/examples`: what their callers give, and what they are sent.

What a docstring's `Args` say is what a caller reads of a parameter; Gradio takes one line of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, TypeVar, cast, get_args
from urllib.parse import quote
from uuid import uuid4

import fastapi
import gradio as gr
from gradio.data_classes import FileData
from gradio.route_utils import get_root_url

from refgc.diptych.preview import STRENGTHS, GeneratorChoice
from refgc.errors import InputError
from refgc.imaging.profiles import ProfileName
from refgc.page.api.tools import tool_caller
from refgc.page.examples import Example
from refgc.page.service.limits import address_of
from refgc.page.service.payload import FILE_ROUTE, NotGivenError, local_file
from refgc.page.service.queue import Finished, Working
from refgc.page.service.runs import PreviewJob, RefineJob, Service
from refgc.page.words import sentence_for
from refgc.refinement import EngineChoice
from refgc.request import Surroundings, check_reference_count

Json: TypeAlias = dict[str, Any]
Choice = TypeVar("Choice", bound=str)


class Caller:
    """One call's sender.

    Attributes:
        is_tool: whether it came as a call of an MCP tool.
        visit: by which limits are kept: the session, or who called the tool.
        address: the client's, by which limits are kept too.
    """

    def __init__(self, request: gr.Request) -> None:
        tool = tool_caller(request.headers)
        self.is_tool = tool is not None
        self.visit = tool.visit if tool else str(request.session_hash or uuid4().hex)
        self.address = tool.address if tool else address_of(request)
        asked = cast(fastapi.Request, request.request)
        self._root = get_root_url(request=asked, route_path=asked.url.path, root_path=asked.app.root_path)

    def link_to(self, file: Path) -> str:
        """Where the caller can fetch `file`."""
        return f"{self._root}{FILE_ROUTE}{quote(str(file))}"


def given_path(given: Any, name: str) -> Path:
    """The file that a caller gave, uploaded here before or shown by this server.

    Args:
        given: as Gradio passes it on: file data, or a path or address of ours.
        name: what it is called in an error sentence, such as "reference".

    Raises:
        InputError: nothing was given, or something that is not the caller's to give.
    """
    named = given.get("path") if isinstance(given, dict) else given
    if not isinstance(named, str) or not named:
        raise InputError(f"There is no {name}; upload the picture and give what the upload answers.")
    try:
        return local_file(named)
    except NotGivenError as error:
        raise InputError(f"The {name} cannot be used: {str(error)[0].lower()}{str(error)[1:]}") from error


def given_mask(given: Any, name: str) -> Path | None:
    """The same for a file that may be left out."""
    return None if given is None else given_path(given, name)


def given_references(given: Any) -> tuple[Path, ...]:
    """The files of more photos of the object, of which there may be none.

    Raises:
        InputError: they are no list or too many, or one of them is not the caller's to give.
    """
    if given is None:
        return ()
    if not isinstance(given, list):
        raise InputError("The further references are no list; give a list of uploaded pictures, or leave it out.")
    check_reference_count(1 + len(given))
    return tuple(given_path(one, f"reference {number}") for number, one in enumerate(given, start=2))


def given_choice(given: Choice, choices: Any, name: str) -> Choice:
    """One of several words; what a script sends may be any.

    Args:
        given: the word.
        choices: the literal type that lists them.
        name: what is chosen, in an error sentence.

    Raises:
        InputError: it is none of them.
    """
    words = get_args(choices)
    if given not in words:
        raise InputError(f"There is no {name} called {given!r}; use {', '.join(words[:-1])} or {words[-1]}.")
    return given


def sent_file(path: Path) -> Json:
    """A file as Gradio sends it; it adds the address."""
    return FileData(path=str(path), orig_name=path.name).model_dump()


def progress_of(note: Working) -> Json:
    """What stands in the report's place until there is one."""
    return {"stage": note.stage, "fraction": round(note.fraction, 3)}


def told(error: Exception) -> gr.Error:
    """The error that tells the caller one sentence, and nothing else."""
    return gr.Error(sentence_for(error), print_exception=False)


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
        surroundings: Surroundings = "plain",
        profile: ProfileName = "srgb",
        bits: int = 8,
        further_references: list[FileData] | None = None,
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
            surroundings: how what lies around the object is enlarged: plain, or drawn by a network, fast or best
            profile: the PNG's colour space, srgb or display-p3
            bits: of each of its channels, 8 or 16
            further_references: up to three more photos of the same object, such as its back; a mask is for the first

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
                surroundings=given_choice(surroundings, Surroundings, "kind of surroundings"),
                seed=seed,
                object_name=object_name,
                engine=service.engine_for(chosen),
                profile=given_choice(profile, ProfileName, "profile"),
                bits=bits,
                further_references=given_references(further_references),
            )
            with closing(service.refine(job, asking.visit, asking.address)) as notes:
                for note in notes:
                    if isinstance(note, Working):
                        yield None, progress_of(note)
                    elif isinstance(note, Finished):
                        report = note.made.report.model_dump(mode="json")
                        if asking.is_tool:
                            files = {"refined picture": asking.link_to(note.made.download)}
                            yield sent_file(note.made.whole[1]), {**report, "files": files}
                        else:
                            yield sent_file(note.made.download), report
        except Exception as error:
            raise told(error) from error

    return refine


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
            with closing(service.preview(job, asking.visit, asking.address)) as notes:
                for note in notes:
                    if isinstance(note, Working):
                        yield None, None, None, None, progress_of(note)
                    elif isinstance(note, Finished):
                        shown, report = note.made, note.made.report.model_dump(mode="json")
                        masks, truth = shown.masks, shown.folder / "truth.png"
                        if asking.is_tool:
                            addresses = map(asking.link_to, (shown.generated, *masks, truth))
                            files = dict(zip(FILES, addresses, strict=True))
                            yield sent_file(shown.generated), None, None, None, {**report, "files": files}
                        else:
                            sent = [sent_file(made) for made in (shown.generated, *masks, truth)]
                            yield sent[0], sent[1], sent[2], sent[3], report
        except Exception as error:
            raise told(error) from error

    return preview


class ExampleAddresses(TypedDict):
    """One of the page's own pairs; everything from `reference` on is the address of a picture."""

    name: str
    title: str
    description: str
    object_name: str
    reference: str
    reference_mask: str
    generated: str
    scene: str
    scene_mask: str


def examples_endpoint(shown: Sequence[Example]) -> Callable[[gr.Request], list[ExampleAddresses]]:
    """The function that lists them."""

    def examples(caller: gr.Request) -> list[ExampleAddresses]:
        """Lists our own examples: pairs of a reference photo and a generated picture, to try the others with.

        Returns:
            for each its name, title, description, the object's name, and the addresses of its pictures
        """
        return [_addresses(example, Caller(caller)) for example in shown]

    return examples


def _addresses(example: Example, caller: Caller) -> ExampleAddresses:
    folder = example.reference.parent
    return {
        "name": example.name,
        "title": example.meta.title,
        "description": example.meta.description,
        "object_name": example.meta.object_name,
        "reference": caller.link_to(example.reference),
        "reference_mask": caller.link_to(folder / "hrri_mask.png"),
        "generated": caller.link_to(example.generated),
        "scene": caller.link_to(folder / "hrgt.jpg"),
        "scene_mask": caller.link_to(folder / "hrgt_mask.png"),
    }
