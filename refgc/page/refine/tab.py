"""The Refine tab: two pictures in, the comparison, the report and the PNG out."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from refgc.imaging.image import Image, to_pil
from refgc.page.examples import Example
from refgc.page.marking.mask import Marking, ObjectSegmenter
from refgc.page.pictures import LONGEST_SIDE, STAGE_CAPTIONS, ShownResult, refined_name, write_picture
from refgc.page.refine.code import code_for
from refgc.page.refine.examples import ExampleResults, build_example_gallery, find_results, submission_of
from refgc.page.refine.inputs import (
    RefineInputs,
    Submission,
    attach_link_button,
    build_inputs,
    build_pads,
    surroundings_times,
)
from refgc.page.refine.result import (
    FIRST_FORMAT,
    NOTHING_NEW,
    OF_OTHER_PICTURES,
    Entry,
    History,
    HistoryView,
    ResultView,
    build_result,
)
from refgc.page.refine.visits import Cancellations, KeptResults
from refgc.page.service.limits import address_of
from refgc.page.service.queue import Finished, Seen, Working, rough_time
from refgc.page.service.runs import RefineJob, Service
from refgc.page.service.storage import new_folder
from refgc.page.words import (
    ENGINE_QUEUE,
    ENLARGED,
    PARTLY_REFINED,
    REFINED,
    SCROLL_TO_RESULT,
    capitalised,
    outcome_of,
    problem_line,
    progress_line,
    sentence_for,
    status_line,
)
from refgc.request import Surroundings

# What the status says of each outcome; more stands under the picture.
DONE = {
    REFINED: "Done. Drag the handle to compare.",
    PARTLY_REFINED: "Done, but only a part of the object could be refined; under the picture is what helps.",
    ENLARGED: "Done, but the picture was only enlarged; under it is why.",
}
CACHE_HIT = " This very result had been made before, so it is here at once."
LINKED = "The settings of this link are filled in; press Refine to see what they make."
NO_SUCH_SETTING = "This link names a setting that cannot be chosen here; it stays as it is at first."
CANCELLED = "Cancelled. You see what was there before."
PLAIN_KEPT = "Cancelled. You see the result with plain surroundings."
PLAIN_FIRST = "Your result is here, with plain surroundings. Better ones are drawn and take their place in {time}."
SCROLL_WHEN_DONE = "() => document.querySelector('#status .done') && window.refgcShowResult()"
DELETED = "That result has been deleted, as everything here is after some hours; refine it again."
SWAPPED = "The two pictures have changed places."
# A problem is taken off when its cause may be gone, and with other pictures what was said of the last result as well.
FORGIVE = "(status) => status.includes('status problem') ? '' : status"
FORGET = "(status) => /status (problem|fine done|fine cancelled)/.test(status) ? '' : status"
# The browser keeps the token by which its results are found again, where it may: in some frames it keeps nothing.
READ_TOKEN = "() => { try { return localStorage.getItem('refgc-results') ?? ''; } catch { return ''; } }"
KEEP_TOKEN = "(token) => { try { localStorage.setItem('refgc-results', token); } catch {} }"
# Writing a large picture keeps a core busy for seconds.
FORMAT_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "format"}


@dataclass(frozen=True, slots=True, eq=False)
class RefineTab:
    """The tab's components, and what happens when a visitor uses them.

    From the click to the result: `submit` reads the inputs into one `Submission`; that starts `refine`, which runs it
    in the service and shows the result.

    Attributes:
        service: runs the engines.
        inputs: everything that is filled in.
        button: submits the inputs.
        cancel_button: ends the run; visible while there is one.
        status: one line on how things stand.
        result: the views of one result.
        history_view: the visit's results.
        submission: the `Submission` that runs, or ran last; a change of it starts a run.
        history: the `History` of the visit.
        examples: to be clicked.
        example_gallery: their thumbnails; None where there are none.
        swap_button: lets the two pictures change places.
        own: the visitor's own two pictures with their marks while an example is in their place; else None.
        own_button: puts them back.
        token: the browser's, see `KeptResults`.
        kept: the results of all visits.
        cancellations: of all visits.
    """

    service: Service
    inputs: RefineInputs
    button: gr.Button
    cancel_button: gr.Button
    status: gr.HTML
    result: ResultView
    history_view: HistoryView
    submission: gr.State
    history: gr.State
    examples: ExampleResults
    example_gallery: gr.Gallery | None
    swap_button: gr.Button
    own: gr.State
    own_button: gr.Button
    token: gr.Textbox
    kept: KeptResults
    cancellations: Cancellations = field(default_factory=Cancellations)

    @property
    def outputs(self) -> list[Any]:
        """The components that a run changes."""
        return [
            self.status,
            self.button,
            self.cancel_button,
            *self.result.outputs,
            *self.history_view,
            self.history,
        ]

    @property
    def checking(self) -> dict[str, Any]:
        """What `check` takes and changes."""
        return {"inputs": {*self.inputs.files, self.history, self.result.earlier}, "outputs": [self.result.earlier]}

    def submit(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Read the inputs once and start a run."""
        try:
            # Shown until the run itself says more, so that something happens at once.
            status = progress_line("Sending the pictures", 0.0)
            return {self.submission: self.inputs.read(values), self.status: status, **self.running()}
        except Exception as error:
            return {self.status: problem_line(sentence_for(error)), **self.result.mark(NOTHING_NEW)}

    def refine(self, submission: Submission, history: History, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Run a submission, and show how it goes on and what comes of it."""
        yield {self.status: progress_line("Reading the pictures", 0.0), **self.running()}
        # What is there to go back to: that of before, and the plain result once it is there.
        kept = history
        visit = request.session_hash or ""
        try:
            with closing(self._run(submission, history, visit, address_of(request))) as updates:
                for update in updates:
                    if self.cancellations.covers(visit, submission.submitted_at):
                        yield self.cancelled(kept)
                        return
                    kept = update.get(self.history, kept)
                    yield update
        except Exception as error:
            yield {
                self.status: problem_line(sentence_for(error)),
                **self.resting(),
                **self._left(kept, made_nothing=kept is history),
            }

    def cancel(self, history: History, request: gr.Request) -> dict[Any, Any]:
        """End the visit's runs."""
        self.cancellations.cancel(request.session_hash or "")
        return {**self.cancelled(history), **self.resting()}

    def swap(self, values: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
        """Let the two pictures change places."""
        try:
            return {self.status: status_line(SWAPPED), **self.inputs.swap(values, request.session_hash or "")}
        except Exception as error:
            return {self.status: problem_line(sentence_for(error))}

    def pick(self, event: gr.SelectData, history: History, request: gr.Request) -> dict[Any, Any]:
        """Show an earlier result again, and what was submitted for it."""
        number = int(event.index)
        # The server forgets the history of a page that was left open for long.
        entry = history.entries[number] if number < len(history.entries) else None
        if entry is None or not entry.is_there:
            later = history.without_deleted()
            return {self.status: problem_line(DELETED), self.history: later, **self.history_view.show(later)}
        return {
            self.history: history.showing(entry),
            self.history_view.gallery: gr.update(selected_index=None),
            self.status: "",
            **self._restored(entry, request),
            **self.result.show(entry),
        }

    def make(self, file_format: str, history: History) -> Iterator[dict[Any, Any]]:
        """Make the result's file in another format, which takes a moment; `offer` puts it on the page."""
        entry, view = history.current, self.result
        yield {view.download: gr.update(label=f"Making the {file_format} …", interactive=False)}
        try:
            if entry is not None and entry.is_there:
                view.keep(entry, file_format)
        except Exception as error:
            yield {self.status: problem_line(sentence_for(error)), view.file_format: FIRST_FORMAT}

    def offer(self, file_format: str, history: History) -> dict[Any, Any]:
        """Offer the result on the page in the chosen format; by now both may be others than when it was made."""
        entry = history.current
        if entry is None or not entry.is_there:
            gone = gr.update(label=f"Download {file_format}", interactive=False)
            return {self.status: problem_line(DELETED), self.result.download: gone}
        try:
            return self.result.keep(entry, file_format)
        except Exception as error:
            return {self.status: problem_line(sentence_for(error)), **self.result.keep(entry, FIRST_FORMAT)}

    def choose(self, event: gr.SelectData, values: dict[Any, Any]) -> dict[Any, Any]:
        """Fill in the example that was clicked, and show its result; the visitor's own pictures can be put back."""
        own = self.inputs.own(values) or values[self.own]
        return {
            self.example_gallery: gr.update(selected_index=None),
            self.own: own,
            self.own_button: gr.update(visible=own is not None),
            **self._fill(self.examples.examples[int(event.index)], values[self.history]),
        }

    def put_back(self, own: tuple[Marking | None, Marking | None], request: gr.Request) -> dict[Any, Any]:
        """Put the visitor's own pictures back in the place of an example's."""
        try:
            inputs = self.inputs.put(*own, request.session_hash or "")
            return {self.status: "", self.own: None, self.own_button: gr.update(visible=False), **inputs}
        except Exception as error:
            return {self.status: problem_line(sentence_for(error))}

    def open_page(self, token: object, request: gr.Request) -> dict[Any, Any]:
        """Fill in the example and the options that the address names.

        Without an example, what this browser has seen last is shown, or the first result with the pictures left empty.
        """
        token, history = self.kept.open(request.session_hash or "", token)
        updates = {self.token: token, self.history: history, **self.history_view.show(history)}
        updates[self.inputs.surroundings_times] = surroundings_times(self._drawing_seconds)
        options, all_possible = self.inputs.linked(request.query_params)
        if not all_possible:
            gr.Info(NO_SUCH_SETTING)
        said = {self.status: status_line(LINKED)} if options else {}
        return updates | self._first_view(request, history) | options | said

    def _first_view(self, request: gr.Request, history: History) -> dict[Any, Any]:
        named = self.examples.named(request.query_params.get("example", ""))
        if named is not None:
            return self._fill(named, history)
        if history.current is not None:
            return {**self._restored(history.current, request), **self.result.show(history.current)}
        if not self.examples.examples:
            return {}
        first = self.examples.examples[0]
        entry = self.examples.entry(first)
        if entry is None:
            return {self.submission: submission_of(first), **self.running()}
        return {self.history: history.showing(entry), **self.result.show(entry)}

    def running(self) -> dict[Any, Any]:
        """The updates for the time of a run."""
        return {self.button: gr.update(interactive=False), self.cancel_button: gr.update(visible=True)}

    def resting(self) -> dict[Any, Any]:
        """The updates for the time without a run."""
        return {self.button: gr.update(interactive=True), self.cancel_button: gr.update(visible=False)}

    def cancelled(self, history: History) -> dict[Any, Any]:
        """The updates that put the result before the cancelled run back, or leave its plain one."""
        entry = history.current
        is_plain = entry is not None and entry.is_plain_first
        sentence = PLAIN_KEPT if is_plain else CANCELLED
        left = self._left(history, made_nothing=not is_plain)
        return {self.status: status_line(sentence, cancelled=True), **left}

    def _left(self, history: History, *, made_nothing: bool) -> dict[Any, Any]:
        """The updates that put back what a run has left, marked as earlier where it made nothing."""
        return {**self.result.show(history.current), **self.result.mark(NOTHING_NEW if made_nothing else "")}

    def check(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Mark the result on the page where it is not of the pictures that are chosen."""
        return self.result.mark("" if self._is_of_chosen(values) else OF_OTHER_PICTURES)

    def check_again(self, values: dict[Any, Any]) -> Any:
        """The same after a run, in which pictures may have changed; a mark that the run itself has left stays."""
        return gr.skip() if values[self.result.earlier] else self.check(values)

    def _is_of_chosen(self, values: dict[Any, Any]) -> bool:
        entry = values[self.history].current
        return entry is None or self.inputs.hold(entry.submission, values)

    def show(self, entry: Entry, history: History, visit: str) -> dict[Any, Any]:
        """The updates that put a result on the page, as the newest of the history."""
        later = history.without_deleted().with_entry(entry)
        self.kept.keep(visit, later)
        return {self.history: later, **self.history_view.show(later), **self.result.show(entry)}

    def _restored(self, entry: Entry, request: gr.Request) -> dict[Any, Any]:
        """The updates that fill in what was submitted for a result, as far as the files are still there."""
        try:
            return self.inputs.restore(entry.submission, request.session_hash or "")
        except Exception as error:
            return {self.status: problem_line(sentence_for(error))}

    def _fill(self, example: Example, history: History) -> dict[Any, Any]:
        updates = self.inputs.fill(Marking(example.reference), Marking(example.generated))
        entry = self.examples.entry(example)
        updates[self.status] = status_line(example.meta.description, done=entry is not None)
        if entry is None:
            earlier = self.result.mark(OF_OTHER_PICTURES)
            return {**updates, self.submission: submission_of(example), **earlier, **self.running()}
        # Made by us, so it is not among the visitor's results.
        return {**updates, self.history: history.showing(entry), **self.result.show(entry), **self.resting()}

    def _run(
        self, submission: Submission, history: History, visit: str, address: str
    ) -> Generator[dict[Any, Any], None, None]:
        submission = self.inputs.complete(submission, visit)
        job = submission.job(self.service.engine_for(submission.engine))
        folder = new_folder("stages")
        enlarged: Path | None = None
        size = (1, 1)
        coming, done = "", 0.0
        with closing(self.service.refine(job, visit, address)) as events:
            for event in events:
                match event:
                    case Working(stage, fraction):
                        done = fraction
                        yield {self.status: progress_line(coming or capitalised(stage), done, arrived=bool(coming))}
                    case Seen(_, ShownResult() as plain):
                        coming = self._coming(job, plain)
                        entry = self._entry(submission, plain)
                        status = progress_line(coming, done, arrived=True)
                        yield {self.status: status, **self.show(entry, history, visit)}
                    case Seen(stage, Image() as picture):
                        newest = _write_stage(picture, folder)
                        if enlarged is None:
                            enlarged, size = newest, picture.size
                        title = STAGE_CAPTIONS.get(stage, capitalised(stage))
                        yield self.result.show_stage(enlarged, newest, size, title)
                    case Finished(result, cache_hit):
                        yield self._finished(submission, result, cache_hit, history, visit)

    def _finished(
        self, submission: Submission, result: ShownResult, cache_hit: bool, history: History, visit: str
    ) -> dict[Any, Any]:
        sentence = DONE[outcome_of(result.report)] + (CACHE_HIT if cache_hit else "")
        entry = self._entry(submission, result)
        return {self.status: status_line(sentence, done=True), **self.resting(), **self.show(entry, history, visit)}

    def _entry(self, submission: Submission, result: ShownResult) -> Entry:
        name = refined_name(submission.generated.source)
        return Entry(submission, result, code_for(submission, result.report.engine, name, new_folder("masks")))

    def _coming(self, job: RefineJob, plain: ShownResult) -> str:
        """What is said while the plain result is there and better surroundings are made."""
        width, height = plain.report.output_size
        seconds = self.service.drawing_seconds(job.engine, job.surroundings, width * height / 1e6)
        return PLAIN_FIRST.format(time=rough_time(seconds))

    def _drawing_seconds(self, surroundings: Surroundings, megapixels: float) -> float:
        return self.service.drawing_seconds(self.service.engine_for("auto"), surroundings, megapixels)


def build_refine_tab(
    demo: gr.Blocks, examples: list[Example], service: Service, segmenter: ObjectSegmenter, *, state_seconds: float
) -> RefineTab:
    """Add the tab's components and events to the page being built.

    Args:
        demo: the page.
        examples: to be offered under the inputs.
        service: runs the engines.
        segmenter: makes masks of marks.
        state_seconds: how long a visit's submission and history are remembered.
    """
    with gr.Row():
        with gr.Column(scale=5, min_width=400):
            *pads, swap = build_pads(segmenter)
            own_button = gr.Button("Put my own pictures back", size="sm", visible=False, elem_id="own")
            with gr.Row(elem_classes="buttons"):
                button = gr.Button("Refine", variant="primary", size="lg", scale=3, min_width=120, elem_id="refine")
                cancel = gr.Button("Cancel", size="lg", scale=1, min_width=100, visible=False, elem_id="cancel")
            status = gr.HTML("", elem_id="status", elem_classes="status-line")
            inputs = build_inputs(*pads, chooses_engine=service.chooses_engine)
            attach_link_button(inputs, examples)
            gallery = build_example_gallery(examples) if examples else None
        with gr.Column(scale=7, min_width=440, elem_id="result"):
            result, history_view = build_result()
    tab = RefineTab(
        service,
        inputs,
        button,
        cancel,
        status,
        result,
        history_view,
        submission=gr.State(None, time_to_live=state_seconds),
        history=gr.State(History(), time_to_live=state_seconds),
        examples=ExampleResults(examples, find_results(examples)),
        example_gallery=gallery,
        swap_button=swap,
        own=gr.State(None, time_to_live=state_seconds),
        own_button=own_button,
        token=gr.Textbox(visible=False),
        kept=KeptResults(service.state.visits),
    )
    run = _attach_run(tab)
    _attach_inputs(tab)
    _attach_examples(demo, tab, run)
    return tab


def _attach_run(tab: RefineTab) -> Any:
    """Let the buttons and the history call the tab's methods; returns the run, for other events to end."""
    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.button.click(
        tab.submit,
        inputs=tab.inputs.inputs,
        outputs=[tab.submission, tab.status, tab.button, tab.cancel_button, tab.result.earlier],
        concurrency_limit=None,
        **settings,
    )
    run = tab.submission.change(
        tab.refine,
        inputs=[tab.submission, tab.history],
        outputs=tab.outputs,
        api_visibility="private",
        trigger_mode="multiple",
        show_progress="hidden",
        **ENGINE_QUEUE,
    )
    run.then(None, js=SCROLL_WHEN_DONE, api_visibility="private")
    run.then(tab.check_again, concurrency_limit=None, **tab.checking, **settings)
    # Past the queue, so that the answer is there at once. The run ends with the same answer, after all its others.
    tab.cancel_button.click(tab.cancel, inputs=tab.history, outputs=tab.outputs, queue=False, **settings)
    picking = tab.history_view.gallery.select(
        tab.pick,
        inputs=tab.history,
        outputs=[*tab.inputs.outputs, *tab.outputs],
        concurrency_limit=None,
        **settings,
    )
    picking.then(None, js=SCROLL_TO_RESULT, api_visibility="private")
    offered: dict[str, Any] = {
        "inputs": [tab.result.file_format, tab.history],
        "outputs": [tab.status, tab.result.download, tab.result.file_format],
        **FORMAT_QUEUE,
        **settings,
    }
    # In two steps, since a run may end while the file is made: the second one reads anew what is on the page.
    tab.result.file_format.input(tab.make, **offered).then(tab.offer, **offered)
    return run


def _attach_inputs(tab: RefineTab) -> None:
    """Let the two pictures change places, and keep up with changes.

    Another picture or option may have mended a problem, which is taken off; a result of other pictures is marked.
    """
    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    inputs = tab.inputs
    swapping = tab.swap_button.click(
        tab.swap, inputs=inputs.inputs, outputs=[*inputs.outputs, tab.status], concurrency_limit=None, **settings
    )
    putting_back = tab.own_button.click(
        tab.put_back,
        inputs=tab.own,
        outputs=[*inputs.outputs, tab.status, tab.own, tab.own_button],
        concurrency_limit=None,
        **settings,
    )
    changed = [event for file in inputs.files for event in (file.upload, file.clear)]
    gr.on(changed, tab.check, trigger_mode="always_last", concurrency_limit=None, **tab.checking, **settings)
    for event in (swapping, putting_back):
        event.then(tab.check, concurrency_limit=None, **tab.checking, **settings)
    gr.on(changed, None, inputs=tab.status, outputs=tab.status, js=FORGET, **settings)
    mended = [option.input for option in (inputs.scale, inputs.strength, inputs.seed, inputs.engine)]
    gr.on(mended, None, inputs=tab.status, outputs=tab.status, js=FORGIVE, **settings)


def _attach_examples(demo: gr.Blocks, tab: RefineTab, run: Any) -> None:
    """A click shows an example's result, and the page opens with one, so that a visitor sees what is promised."""
    gallery = tab.example_gallery
    outputs = [*tab.inputs.outputs, *tab.outputs, tab.submission]
    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    opening = demo.load(
        tab.open_page,
        inputs=tab.token,
        outputs=[*outputs, tab.token, tab.inputs.surroundings_times],
        js=READ_TOKEN,
        concurrency_limit=None,
        **settings,
    )
    opening.then(None, inputs=tab.token, js=KEEP_TOKEN, api_visibility="private")
    if gallery is None:
        return
    # Past the queue: ending the run closes the stream of answers from there, and this one's could be lost with it.
    choosing = gallery.select(
        tab.choose,
        inputs=tab.inputs.inputs | {tab.history, tab.own},
        outputs=[gallery, *outputs, tab.own, tab.own_button],
        cancels=[run],
        queue=False,
        **settings,
    )
    choosing.then(None, js=SCROLL_TO_RESULT, api_visibility="private")


def _write_stage(picture: Image, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_picture(to_pil(picture), folder / f"{uuid4().hex}.webp", LONGEST_SIDE)
