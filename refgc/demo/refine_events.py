"""What the Refine button, Cancel and the history do."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from refgc.demo.asked import Asked, read_asked
from refgc.demo.cancellations import Cancellations
from refgc.demo.code_text import code_for
from refgc.demo.display import LONGEST_SIDE, STAGE_CAPTIONS, ShownResult, write_picture
from refgc.demo.history import Entry, History
from refgc.demo.history_view import HistoryView
from refgc.demo.inputs import Inputs
from refgc.demo.jobs import Finished, Seen, Working
from refgc.demo.marking_events import MARKING_QUEUE
from refgc.demo.messages import problem_line, progress_line, status_line
from refgc.demo.refining import refining
from refgc.demo.report_text import capitalised
from refgc.demo.result_view import ResultView
from refgc.demo.run import ENGINE_QUEUE, SCROLL_TO_RESULT, sentence_for
from refgc.demo.storage import new_folder
from refgc.images import Image, to_pil

DONE = "Done. Drag the handles to compare."
ONLY_ENLARGED = "Done, but only enlarged; the report below the picture says why."
MADE_BEFORE = " This very result had been made before, so it is here at once."
CANCELLED = "Cancelled. Nothing of it is kept."
SCROLL_WHEN_DONE = "() => document.querySelector('#status .done') && window.refgcShowResult()"
CANCELLATIONS = Cancellations()
DELETED = "That result has been deleted, as everything here is after some hours; refine it again."


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that takes part in a refinement on the page.

    Attributes:
        button: refines what the inputs hold.
        cancel: ends it; there while it runs.
        status: how things stand.
        asked: what is being refined, or was last; a change of it starts a refinement.
        history: the `History` of this visit.
    """

    inputs: Inputs
    button: gr.Button
    cancel: gr.Button
    status: gr.HTML
    view: ResultView
    past: HistoryView
    asked: gr.State
    history: gr.State

    @property
    def changing(self) -> list[Any]:
        """The components that a refinement changes."""
        return [self.status, self.button, self.cancel, *self.view.changing, *self.past, self.history]

    def running(self) -> dict[Any, Any]:
        """The updates for while something is being refined."""
        return {self.button: gr.update(interactive=False), self.cancel: gr.update(visible=True)}

    def resting(self) -> dict[Any, Any]:
        """The updates for while nothing is."""
        return {self.button: gr.update(interactive=True), self.cancel: gr.update(visible=False)}

    def cancelled(self, history: History) -> dict[Any, Any]:
        """The updates that put back what was shown before."""
        return {self.status: status_line(CANCELLED), **self.view.show(history.current)}

    def show(self, entry: Entry, history: History) -> dict[Any, Any]:
        """The updates that put a result on the page, as the newest of the history."""
        later = history.without_deleted().with_entry(entry)
        return {self.history: later, **self.past.show(later), **self.view.show(entry)}


def connect_refining(desk: Desk) -> Any:
    """Connects button, cancel and history; returns the refinement, for other events to cancel."""

    def ask(*given: Any) -> dict[Any, Any]:
        try:
            return {desk.asked: read_asked(*given), **desk.running()}
        except Exception as error:
            return {desk.status: problem_line(sentence_for(error)), desk.asked: gr.skip()}

    def refine(asked: Asked, history: History, request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield {desk.status: progress_line("Reading the pictures", 0.0), **desk.running()}
        visit = request.session_hash or ""
        try:
            with closing(_refined(desk, asked, history, visit)) as steps:
                for updates in steps:
                    if CANCELLATIONS.meant(visit, asked.at):
                        yield desk.cancelled(history)
                        return
                    yield updates
        except Exception as error:
            yield {
                desk.status: problem_line(sentence_for(error)),
                **desk.resting(),
                **desk.view.show(history.current),
            }

    def cancel(history: History, request: gr.Request) -> dict[Any, Any]:
        CANCELLATIONS.cancel(request.session_hash or "")
        return {**desk.cancelled(history), **desk.resting()}

    def pick(event: gr.SelectData, history: History) -> dict[Any, Any]:
        entry = history.entries[int(event.index)]
        if not entry.is_there:
            later = history.without_deleted()
            return {desk.status: problem_line(DELETED), desk.history: later, **desk.past.show(later)}
        return {
            desk.history: history.showing(entry),
            desk.past.gallery: gr.update(selected_index=None),
            **desk.view.show(entry),
        }

    # Behind the marks that were made before it, so that the last one counts too.
    desk.button.click(
        ask,
        inputs=desk.inputs.given,
        outputs=[desk.asked, desk.status, desk.button, desk.cancel],
        api_visibility="private",
        show_progress="hidden",
        **MARKING_QUEUE,
    )
    refinement = desk.asked.change(
        refine,
        inputs=[desk.asked, desk.history],
        outputs=desk.changing,
        api_visibility="private",
        trigger_mode="multiple",
        show_progress_on=[desk.status],
        **ENGINE_QUEUE,
    )
    refinement.then(None, js=SCROLL_WHEN_DONE, api_visibility="private")
    # Past the queue, so that the answer is there at once; the run ends with the same one, after all its others.
    desk.cancel.click(
        cancel,
        inputs=desk.history,
        outputs=desk.changing,
        api_visibility="private",
        show_progress="hidden",
        queue=False,
    )
    desk.past.gallery.select(
        pick,
        inputs=desk.history,
        outputs=desk.changing,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    ).then(None, js=SCROLL_TO_RESULT, api_visibility="private")
    return refinement


def _refined(desk: Desk, asked: Asked, history: History, session: str) -> Generator[dict[Any, Any], None, None]:
    """The updates from reading the pictures to the result."""
    folder = new_folder("on-the-way")
    enlarged: Path | None = None
    with closing(refining(asked.request(), session, engine=asked.engine)) as notes:
        for note in notes:
            match note:
                case Working(stage, fraction):
                    yield {desk.status: progress_line(capitalised(stage), fraction)}
                case Seen(stage, picture):
                    newest = _write(picture, folder)
                    enlarged = enlarged or newest
                    title = STAGE_CAPTIONS.get(stage, capitalised(stage))
                    yield desk.view.show_on_the_way(enlarged, newest, title)
                case Finished(shown, again):
                    yield _finished(desk, asked, shown, again, history)


def _finished(desk: Desk, asked: Asked, shown: ShownResult, again: bool, history: History) -> dict[Any, Any]:
    masks = new_folder("masks")
    entry = Entry(asked.title, shown, code_for(asked, shown.report.engine, shown.download.name, masks))
    sentence = (DONE if shown.report.placed else ONLY_ENLARGED) + (MADE_BEFORE if again else "")
    return {desk.status: status_line(sentence, done=True), **desk.resting(), **desk.show(entry, history)}


def _write(picture: Image, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_picture(to_pil(picture), folder / f"{uuid4().hex}.webp", LONGEST_SIDE)
