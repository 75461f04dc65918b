"""The whole page: header, tabs, footer, and the settings that it is launched with."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from html import escape
from pathlib import Path
from time import time
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from refgc.doctor import base_title
from refgc.page.about import about_html
from refgc.page.api.endpoints import build_api
from refgc.page.api.tools import set_up_tools, tool_middleware
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.gallery.paper import PaperPictures
from refgc.page.gallery.tab import build_gallery_tab
from refgc.page.marking.mask import ObjectSegmenter
from refgc.page.preview.tab import REFINE_TAB, build_preview_tab
from refgc.page.refine.tab import build_refine_tab
from refgc.page.refine.visits import sweep_histories
from refgc.page.service.guard import NOT_FITTING, guards
from refgc.page.service.limits import HOUR
from refgc.page.service.logs import describe, logger
from refgc.page.service.payload import UPLOAD_BYTES
from refgc.page.service.runs import Service
from refgc.page.service.server import (
    MAX_SESSIONS,
    app_settings,
    deletion_schedule,
    documentation_routes,
    max_threads,
    server_middleware,
)
from refgc.page.words import what_runs
from refgc.webui import viewer
from refgc.webui.index_page import IndexPage, LinkPreview
from refgc.webui.theme import build_theme

ASSETS = Path(__file__).resolve().parent / "assets"
SCRIPTS = ("page", "uploads", "marking", "link", "gallery")
TITLE = "RefGC-SR²"
PROMISE = (
    "Image generators blur your object’s lettering, texture and shape. Give us its sharp photo and the generated "
    "picture: you get the scene back, up to four times as large, with the real detail in place."
)
PREVIEW = LinkPreview(
    f"{TITLE}: true objects in generated pictures",
    PROMISE,
    ASSETS / "link-preview.jpg",
    "A reference photo of a paperback, a generated picture of it with garbled letters, and the refined picture, whose "
    "letters are the reference’s",
)
# The last of each kind that Gradio puts together for the first view.
FIRST_VIEW = ("#refine", "#options", "#examples .thumbnail-item", "#comparison > *", ".closing")
PAPER = "https://arxiv.org/abs/2606.15158"
PROJECT_PAGE = "https://cmlab-korea.github.io/RefGC-SR2/"
# Events that Gradio holds at a time, light ones too. Runs that wait for an engine are limited in `service.queue`.
MOST_EVENTS = 256


class Page(gr.Blocks):
    """Gradio's page, which prints no traceback of an event that a script made up.

    Gradio prints one for everything that a component cannot make sense of, and what was sent stands in it.
    """

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """What Gradio does for an event.

        Raises:
            gr.Error: it failed; the error tells one sentence, and the log has one line.
        """
        try:
            return await super().process_api(*args, **options)
        except gr.Error:
            raise
        except Exception as error:
            logger.error("event failed", **describe(error))
            raise gr.Error(NOT_FITTING, print_exception=False) from error


def build_demo(service: Service) -> gr.Blocks:
    """Build the page. A visitor's browser loads nothing from other hosts.

    Args:
        service: runs the engines for the visitors.
    """
    demo = Page(title=PREVIEW.title, analytics_enabled=False, delete_cache=deletion_schedule(service))
    segmenter = ObjectSegmenter(service)
    # States name files, so they are kept as long as these.
    _, state_seconds = deletion_schedule(service)
    with demo:
        gr.HTML(_header(service), apply_default_css=False)
        examples = find_examples(EXAMPLES_FOLDER)
        # The server may hand these files out from where they are, and a request may name them.
        gr.set_static_paths([example.reference.parent for example in examples])
        # Before the tabs, whose events would take the names of the endpoints.
        build_api(demo, examples, service)
        # Four short names fit on any screen. Gradio measures them before the page is laid out, and would hide some.
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab("Refine", id=REFINE_TAB, elem_id="refine-tab"):
                refine_tab = build_refine_tab(demo, examples, service, segmenter, state_seconds=state_seconds)
            with gr.Tab("DipRefGC preview", id="preview"):
                build_preview_tab(examples, tabs, refine_tab, service, segmenter, state_seconds=state_seconds)
            with gr.Tab("Gallery", id="gallery"):
                decode = partial(service.decoder.image, name="picture")
                build_gallery_tab(examples, PaperPictures(Path(get_upload_folder()) / "paper-pictures", decode))
            with gr.Tab("About", id="about", elem_id="about-tab"):
                build_about_tab()
        names = [str(tab.id) for tab in tabs.children if isinstance(tab, gr.Tab)]
        attach_deep_links(demo, tabs, names, [example.name for example in examples])
        gr.HTML(_footer())
    demo.queue(max_size=MOST_EVENTS, api_open=False)
    return demo


def launch_settings(service: Service) -> dict[str, Any]:
    """The arguments of `launch` for the page. Host and port are left to Gradio's environment variables.

    Args:
        service: the same that the page was built with.

    Raises:
        InputError: a setting in the environment cannot be used.
    """
    scripts = (*(ASSETS / f"{name}.js" for name in SCRIPTS), viewer.SCRIPT)
    script = "".join(path.read_text(encoding="utf-8") for path in scripts)
    tools = set_up_tools()
    *proxies, compression = server_middleware(service)
    visits = service.state.visits
    own = app_settings(service, [] if visits is None else [partial(sweep_visits, service, visits)])
    # What the guard refuses is not worth compressing.
    guarded = [*guards(service.settings, service.check_room, tools=tools), *tool_middleware(tools=tools)]
    return {
        "theme": build_theme(),
        "css_paths": [*(ASSETS / name for name in ("page.css", "gallery.css", "about.css")), viewer.STYLE],
        "head": f"<script>{script}</script>",
        "favicon_path": ASSETS / "logo.svg",
        "footer_links": ["api"],
        "max_file_size": UPLOAD_BYTES,
        "app_kwargs": {
            **own,
            "routes": [*own["routes"], *documentation_routes(tools=tools), PREVIEW.route()],
            "middleware": [*proxies, *guarded, compression, Middleware(IndexPage, preview=PREVIEW, parts=FIRST_VIEW)],
        },
        "max_threads": max_threads(service),
        "state_session_capacity": MAX_SESSIONS,
        "mcp_server": tools,
        "share": False,
        "ssr_mode": False,
    }


def sweep_visits(service: Service, folder: Path) -> None:
    """Deletes the results of visits that are too old from the folder of all pages."""
    sweep_histories(folder, time() - service.settings.keep_hours * HOUR)


def _header(service: Service) -> str:
    logo = (ASSETS / "logo.svg").read_text(encoding="utf-8")
    runs = what_runs(service.engine_for("auto"), service.settings.adapter, base_title())
    links = {"Paper": PAPER, "Project page": PROJECT_PAGE, "Code": service.settings.repository}
    badges = [_badge(name, address) for name, address in links.items() if address]
    badges += [_badge("Cite", "?tab=about#cite", opens="cite"), _badge("API", "?view=api", opens="api")]
    return (
        f'<header class="masthead">{logo}<div><h1>{TITLE}</h1><p>{PROMISE}</p><p class="runs">{escape(runs)}</p>'
        f'<nav class="badges" aria-label="Paper and code">{"".join(badges)}</nav></div></header>'
    )


def _badge(name: str, address: str, opens: str = "") -> str:
    """A link of the header; what it opens on this page itself, assets/page.js opens without loading it anew."""
    how = f'data-opens="{opens}"' if opens else 'target="_blank" rel="noopener"'
    return f'<a class="badge" href="{escape(address)}" {how}>{name}</a>'


def _footer() -> str:
    return (
        '<p class="hint closing">Uploads stay on this server and are deleted after a few hours. The examples are our '
        'own, and their generated pictures are simulated. <a href="?view=api" data-opens="api">Use this page from '
        "scripts</a></p>"
    )


TAB, EXAMPLE = "tab", "example"
NO_SUCH_TAB = "This link names a tab that is not here; you see the first one."
NO_SUCH_EXAMPLE = "This link names an example that is not here; you see the first one."


def attach_deep_links(demo: gr.Blocks, tabs: gr.Tabs, names: Collection[str], examples: Collection[str]) -> None:
    """Open the tab that the address names, and tell the visitor when there is no such tab or example.

    Args:
        demo: the page being built.
        tabs: all of its tabs.
        names: their ids.
        examples: the examples' names.
    """

    def follow(request: gr.Request) -> Any:
        tab, example = (request.query_params.get(name, "") for name in (TAB, EXAMPLE))
        # The text of a link is never shown on the page, since anybody may have written it.
        if tab and tab not in names:
            gr.Info(NO_SUCH_TAB)
        if example and example not in examples:
            gr.Info(NO_SUCH_EXAMPLE)
        return gr.Tabs(selected=tab) if tab in names else gr.skip()

    demo.load(follow, outputs=tabs, api_visibility="private", show_progress="hidden", concurrency_limit=None)


# Defined in assets/link.js.
COPY = """
const entry = element.querySelector(".cite pre");
const said = element.querySelector(".cite-said");
element.querySelector(".cite-copy").addEventListener("click", () =>
  window.refgcCopyText(entry.textContent, said, "Copied.", () => {
    said.textContent = "Marked: copy it with Ctrl + C.";
    return entry;
  })
);
"""


def build_about_tab() -> None:
    """Add the tab: text, tables and a drawing, without any outside file."""
    gr.HTML(about_html(), js_on_load=COPY, apply_default_css=False, elem_id="about")
