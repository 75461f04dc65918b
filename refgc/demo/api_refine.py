"""The endpoint `/refine`.

What a docstring's `Args` say is what a caller reads of a parameter; Gradio takes one line of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import gradio as gr
from gradio.data_classes import FileData

from refgc.demo.api_caller import Caller, Json, given_choice, given_mask, given_path, progress_of, sent_file, told
from refgc.demo.engine_call import EngineChoice
from refgc.demo.jobs import Finished, Working
from refgc.demo.refining import refining
from refgc.refinement import make_request


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
        request = make_request(
            given_path(reference, "reference"),
            given_path(generated, "generated picture"),
            scale=scale,
            reference_mask=given_mask(reference_mask, "reference mask"),
            generated_mask=given_mask(generated_mask, "generated mask"),
            object_name=object_name,
            seed=seed,
            strength=strength,
        )
        with closing(refining(request, asking.visit, engine=chosen)) as notes:
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
