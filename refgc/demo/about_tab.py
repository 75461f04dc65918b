"""The About tab: the task, the method, the paper's figures, limits, how to cite, licences."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).resolve().parents[2] / "assets"
# Browsers give the clipboard to secure pages only; elsewhere the entry is marked, ready to be copied by hand.
COPY = """
const entry = element.querySelector(".cite pre");
const said = element.querySelector(".cite-said");
element.querySelector(".cite-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(entry.textContent);
    said.textContent = "Copied.";
  } catch {
    window.getSelection().selectAllChildren(entry);
    said.textContent = "Marked: copy it with Ctrl + C.";
  }
});
"""


def build_about_tab() -> None:
    """Text, tables and a drawing, all of it in the page."""
    gr.HTML(about_html(), js_on_load=COPY, apply_default_css=False, elem_id="about")


def about_html() -> str:
    """The tab's content, our drawing of the method inlined so that it takes the page's colours."""
    text, drawing = ((ASSETS / name).read_text(encoding="utf-8") for name in ("about.html", "method.svg"))
    return text.replace("{method}", drawing)
