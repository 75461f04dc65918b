"""What the Refine button, Cancel and the history do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any
from uuid import uuid4

import gradio as gr

from refgc.imaging.image import Image, to_pil
from refgc.page.marking.pad import MARKING_QUEUE
from refgc.page.refine.code import code_for
from refgc.page.refine.inputs import Asked, Inputs, read_asked
from refgc.page.refine.pictures import LONGEST_SIDE, STAGE_CAPTIONS, ShownResult, write_picture
from refgc.page.refine.result import Entry, History, HistoryView, ResultView
from refgc.page.service.queue import Finished, Seen, Working
from refgc.page.service.runs import Service
from refgc.page.service.storage import new_folder
from refgc.page.words import (
    ENGINE_QUEUE,
    SCROLL_TO_RESULT,
    capitalised,
    problem_line,
    progress_line,
    sentence_for,
    status_line,
)

DONE = "Done. Drag the handles to compare."
ONLY_ENLARGED = "Done, but only enlarged; the report below the picture says why."
MADE_BEFORE = " This very result had been made before, so it is here at once."
CANCELLED = "Cancelled. Nothing of it is kept."
SCROLL_WHEN_DONE = "() => document.querySelector('#status .done') && window.refgcShowResult()"
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


def connect_refining(desk: Desk, service: Service) -> Any:
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
            with closing(_refined(desk, service, asked, history, visit)) as steps:
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


def _refined(
    desk: Desk, service: Service, asked: Asked, history: History, session: str
) -> Generator[dict[Any, Any], None, None]:
    """The updates from reading the pictures to the result."""
    folder = new_folder("on-the-way")
    enlarged: Path | None = None
    with closing(service.refine(asked.job(service.engine_for(asked.engine)), session)) as notes:
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


# ==== cancellations
# A run ends soon after it is cancelled, long before this many other visits have cancelled something.
MOST_VISITS = 10_000


class Cancellations:
    """When each visit last cancelled.

    A run asks this, and ends its own answers. Gradio's own way, to end the event from outside, lets what is already
    on its way to the browser come after the answer to Cancel, and take its place.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._at: OrderedDict[str, float] = OrderedDict()

    def cancel(self, visit: str) -> None:
        """Everything that this visit has asked for until now is cancelled."""
        with self._lock:
            self._at[visit] = monotonic()
            self._at.move_to_end(visit)
            if len(self._at) > MOST_VISITS:
                self._at.popitem(last=False)

    def meant(self, visit: str, asked_at: float) -> bool:
        """Whether a visit cancelled since the time `asked_at`, in seconds of `time.monotonic`."""
        with self._lock:
            return self._at.get(visit, asked_at) > asked_at


CANCELLATIONS = Cancellations()
