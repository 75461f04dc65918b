"""The parts of the page that show a result and the history of a visit."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.utils import get_upload_folder

from refgc.errors import InputError
from refgc.page.pictures import (
    DOWNLOAD_FORMATS,
    ShownPictures,
    ShownResult,
    address_in_uploads,
    named_download,
    refined_name,
)
from refgc.page.refine.code import Code, CodeView, build_code_view
from refgc.page.refine.inputs import Submission
from refgc.page.words import HEADLINES, REFINED, outcome_of, report_summary
from refgc.webui.components import html_with_files, thumbnail_gallery
from refgc.webui.viewer import Size, ViewedPicture, viewer_html

NO_RESULT = '<p class="no-result">The comparison comes here: before on the left, after on the right.</p>'
NO_FILE = "This result has no file to keep yet; press Refine first."
FIRST_FORMAT = next(iter(DOWNLOAD_FORMATS))
OF_OTHER_PICTURES = "This result is not of the pictures chosen now. Press Refine to get theirs."
NOTHING_NEW = "This is an earlier result. Nothing new has been made."
FROM_THE_GALLERY = "Shown from the gallery. For every step and the file, choose the example and press <b>Refine</b>."


@dataclass(frozen=True, slots=True)
class ResultView:
    """Every component that a result changes."""

    caption: gr.HTML
    earlier: gr.HTML
    comparison: gr.HTML
    summary: gr.HTML
    keeping: gr.Row
    download: gr.DownloadButton
    file_format: gr.Radio
    no_download: gr.HTML
    details: gr.Row
    steps: gr.Column
    stages: gr.Gallery
    report: gr.JSON
    code: CodeView

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` and `show_stage` change."""
        result = [self.caption, self.earlier, self.comparison, self.summary]
        kept = [self.keeping, self.download, self.file_format, self.no_download]
        return [*result, *kept, self.details, self.steps, self.stages, self.report, *self.code]

    def show(self, entry: Entry | None) -> dict[Any, Any]:
        """The updates that put a result on the page; None takes off what is there."""
        if entry is None:
            nothing = {self.caption: "<h2>Result</h2>", self.comparison: NO_RESULT}
            return {**nothing, **self.mark(""), **self._without_text()}
        shown = entry.shown
        updates = {
            self.caption: f"<h2>{escape(entry.title)}</h2>",
            **self.mark(""),
            self.comparison: shown.viewer(entry.title),
            self.summary: report_summary(shown.report),
            self.details: gr.update(visible=True),
            self.report: gr.update(value=shown.report.model_dump(mode="json")),
            **self.code.show(entry.code),
        }
        if isinstance(shown, ShownResult):
            return updates | {
                self.keeping: gr.update(visible=True),
                **self.keep(entry, FIRST_FORMAT),
                self.no_download: gr.update(visible=False),
                self.steps: gr.update(visible=True),
                self.stages: gr.update(value=list(shown.stages), selected_index=None),
            }
        return updates | {
            self.keeping: gr.update(visible=False),
            self.no_download: gr.update(visible=True),
            self.steps: gr.update(visible=False),
        }

    def mark(self, sentence: str) -> dict[Any, Any]:
        """The updates that mark what is on the page as an earlier result, or with "" as the present one.

        The style sheet takes the colour off the verdict of an earlier result, and hides the mark where none is shown.
        """
        return {self.earlier: f'<p class="earlier">{escape(sentence)}</p>' if sentence else ""}

    def keep(self, entry: Entry, file_format: str) -> dict[Any, Any]:
        """The updates that offer a result's file in one of `DOWNLOAD_FORMATS`; it is made where it is missing.

        Raises:
            InputError: the result is too large for the format, or was made by no engine here.
        """
        file = entry.file(DOWNLOAD_FORMATS[file_format])
        return {
            self.download: gr.update(value=file, label=f"Download {file_format}", interactive=True),
            self.file_format: file_format,
        }

    def show_stage(self, enlarged: Path, newest: Path, size: Size, title: str) -> dict[Any, Any]:
        """The updates that show an intermediate picture, beside the picture that is only enlarged; both of `size`."""
        before, after = (ViewedPicture(address_in_uploads(path)) for path in (enlarged, newest))
        return {
            self.caption: f'<h2 class="in-the-making">{escape(title)}</h2>',
            **self.mark(""),
            self.comparison: viewer_html(before, after, size, title=title),
            **self._without_text(),
        }

    def _without_text(self) -> dict[Any, Any]:
        return {self.summary: "", **dict.fromkeys((self.keeping, self.no_download, self.details), _hidden())}


def build_result() -> tuple[ResultView, HistoryView]:
    """Adds it, with the history, to the page being built."""
    caption = gr.HTML("<h2>Result</h2>", elem_id="caption")
    earlier = gr.HTML("", elem_id="earlier")
    comparison = html_with_files(NO_RESULT, Path(get_upload_folder()), "comparison")
    summary = gr.HTML("", elem_id="summary")
    with gr.Row(visible=False, elem_classes="keeping") as keeping:
        download = gr.DownloadButton(f"Download {FIRST_FORMAT}", variant="primary", min_width=160, elem_id="download")
        file_format = gr.Radio(
            list(DOWNLOAD_FORMATS), value=FIRST_FORMAT, label="File format", min_width=220, elem_id="file-format"
        )
    no_download = gr.HTML(_hint(FROM_THE_GALLERY), visible=False, elem_id="no-download")
    past = build_history()
    with gr.Column(visible=False, elem_id="details") as details:
        code = build_code_view()
        with gr.Accordion("Full report (JSON)", open=False, elem_id="json"):
            report = gr.JSON(label="Report", show_label=False)
        with gr.Column(elem_id="steps") as steps:
            gr.HTML("<h2>How it was made, step by step</h2>")
            stages = gr.Gallery(
                label="Stage pictures",
                show_label=False,
                columns=3,
                height="auto",
                object_fit="contain",
                interactive=False,
                buttons=["fullscreen"],
                elem_id="stages",
                elem_classes="pictures",
            )
    view = ResultView(
        caption,
        earlier,
        comparison,
        summary,
        keeping,
        download,
        file_format,
        no_download,
        details,
        steps,
        stages,
        report,
        code,
    )
    return view, past


def _hint(sentence: str) -> str:
    return f'<p class="hint">{sentence}</p>'


def _hidden() -> Any:
    return gr.update(visible=False)


MOST_ENTRIES = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """One result, what was submitted for it, and the code that makes it without the page."""

    submission: Submission
    shown: ShownResult | ShownPictures
    code: Code

    @property
    def title(self) -> str:
        """What the result is called."""
        return self.submission.title

    @property
    def caption(self) -> str:
        """The text under its thumbnail."""
        report = self.shown.report
        caption = f"{self.title}: {report.scale}×, {sum(report.seconds.values()):.1f} s"
        outcome = outcome_of(report)
        return caption if outcome == REFINED else f"{caption}, {HEADLINES[outcome].lower()}"

    def file(self, suffix: str) -> Path:
        """The file to keep, of that suffix; see `named_download`."""
        if not isinstance(self.shown, ShownResult):
            raise InputError(NO_FILE)
        return named_download(self.shown, refined_name(self.submission.generated.source, suffix))

    @property
    def is_plain_first(self) -> bool:
        """Whether better surroundings were asked for than it has."""
        return self.shown.report.surroundings != self.submission.surroundings

    @property
    def is_there(self) -> bool:
        """Whether its files are still there; they are deleted after some hours."""
        return all(path.is_file() for path in (*self.shown.whole, self.shown.thumbnail, *self.code.masks))


@dataclass(frozen=True, slots=True)
class History:
    """The results of a visit. Of pictures it holds the paths only.

    Attributes:
        entries: the results that were submitted in this visit, the newest first.
        current: the result on the page; None while there is none.
    """

    entries: tuple[Entry, ...] = ()
    current: Entry | None = None

    def showing(self, entry: Entry) -> History:
        """The same with another result on the page."""
        return History(self.entries, entry)

    def with_entry(self, entry: Entry) -> History:
        """One more result, which is shown; the same files once more take the place of the earlier ones."""
        others = tuple(earlier for earlier in self.entries if earlier.shown.whole != entry.shown.whole)
        return History((entry, *others)[:MOST_ENTRIES], entry)

    def without_deleted(self) -> History:
        """The same without the results whose files have been deleted."""
        current = self.current if self.current is not None and self.current.is_there else None
        return History(tuple(entry for entry in self.entries if entry.is_there), current)


class HistoryView(NamedTuple):
    """The components that show the history."""

    everything: gr.Column
    gallery: gr.Gallery

    def show(self, history: History) -> dict[Any, Any]:
        """The updates that show the thumbnails; an empty history is hidden."""
        thumbnails = [(str(entry.shown.thumbnail), entry.caption) for entry in history.entries]
        return {
            self.everything: gr.update(visible=bool(thumbnails)),
            self.gallery: gr.update(value=thumbnails, selected_index=None),
        }


def build_history() -> HistoryView:
    """Adds it to the page being built, hidden."""
    with gr.Column(visible=False, elem_id="history") as everything:
        gr.HTML("<h2>Your results</h2>")
        gallery = thumbnail_gallery([], label="Your results", columns=6, elem_id="results")
    return HistoryView(everything, gallery)
