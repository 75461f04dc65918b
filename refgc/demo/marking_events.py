"""What clicks, boxes and uploads do to the two marked pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from refgc.demo.marked import apply_marks
from refgc.demo.marking import Marking, read_mark
from refgc.demo.marking_pad import MarkingPad
from refgc.demo.run import sentence_for

# Marking is quick, and must not wait behind a refinement.
MARKING_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "marking"}


def connect_marking(reference: MarkingPad, scene: MarkingPad) -> None:
    """Connects both; as long as nobody marked the scene, the reference's object is looked for in it."""
    connect_pad(scene, reference=reference.marking)

    def find_again(marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        if marking is None or marking.marks or marking.given:
            return {scene.marking: gr.skip()}
        try:
            return scene.show(apply_marks(marking, scene.name, marked_reference, unasked=scene.origins))
        except Exception as error:
            return scene.refuse(sentence_for(error))

    for event in connect_pad(reference):
        event.then(
            find_again,
            inputs=[scene.marking, reference.marking],
            outputs=scene.changing,
            api_visibility="private",
            show_progress="hidden",
            **MARKING_QUEUE,
        )


def connect_mask(pad: MarkingPad, mask: gr.File) -> None:
    """Connects one picture whose mask may also be given as a file; whatever was said last holds."""
    connect_pad(pad, mask=mask)

    def use(path: str | None, picture: str | None, marking: Marking | None) -> dict[Any, Any]:
        if picture is None:
            return {mask: gr.skip()}
        given = None if path is None else Path(path)
        marks = marking.marks if marking is not None and path is None else ()
        try:
            return pad.show(apply_marks(Marking(Path(picture), given, marks), pad.name, unasked=pad.origins))
        except Exception as error:
            return {mask: None, **pad.refuse(sentence_for(error))}

    gr.on(
        [mask.upload, mask.clear],
        use,
        inputs=[mask, pad.file, pad.marking],
        outputs=[mask, *pad.changing],
        api_visibility="private",
        show_progress="hidden",
        **MARKING_QUEUE,
    )


def connect_pad(pad: MarkingPad, *, reference: gr.State | None = None, mask: gr.File | None = None) -> list[Any]:
    """Connects one picture and returns its events.

    Args:
        pad: the picture.
        reference: how the object is marked in another picture of it.
        mask: where a mask that comes with the picture is given.
    """

    def read(path: str | None, marked_reference: Marking | None, given: str | None) -> dict[Any, Any]:
        if path is None:
            return pad.show(None)
        marking = Marking(Path(path), None if given is None else Path(given))
        try:
            return pad.show(apply_marks(marking, pad.name, marked_reference, unasked=pad.origins))
        except Exception as error:
            return pad.show(None, sentence_for(error))

    def change(
        marking: Marking | None, marked_reference: Marking | None, changed: Callable[[Marking], Marking]
    ) -> dict[Any, Any]:
        if marking is None:
            return pad.show(None)
        try:
            return pad.show(apply_marks(changed(marking), pad.name, marked_reference, unasked=pad.origins))
        except Exception as error:
            return pad.refuse(sentence_for(error))

    def mark(event: gr.SelectData, marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        return change(marking, marked_reference, lambda old: old.with_mark(read_mark(event.value, event.index)))

    def take_back(marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        return change(marking, marked_reference, Marking.without_last)

    def take_all_back(marking: Marking | None, marked_reference: Marking | None) -> dict[Any, Any]:
        return change(marking, marked_reference, Marking.without_any)

    other = gr.State(None) if reference is None else reference
    given = gr.State(None) if mask is None else mask
    settings: dict[str, Any] = {"outputs": pad.changing, "api_visibility": "private", **MARKING_QUEUE}
    reading = {"inputs": [pad.file, other, given], "show_progress": "minimal", "show_progress_on": pad.file, **settings}
    # Each click counts, also while the answer to the one before is under way; what it marks shows that it was taken.
    marking = {"inputs": [pad.marking, other], "show_progress": "hidden", "trigger_mode": "multiple", **settings}
    return [
        gr.on([pad.file.upload, pad.file.clear], read, **reading),
        pad.pad.select(mark, **marking),
        pad.undo.click(take_back, **marking),
        pad.clear.click(take_all_back, **marking),
    ]
