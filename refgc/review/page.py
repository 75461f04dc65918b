"""The page: one HTML component, which assets/review.js brings to life, in the house's theme."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from refgc.dataset.verdicts import VerdictLog
from refgc.review.routes import PREFIX, REASONS, TRIPLET_REASONS, ReviewRoutes
from refgc.review.rows import ReviewedRows
from refgc.webui.endpoints import SCRIPT, Gate, hosts_for
from refgc.webui.index_page import IndexPage
from refgc.webui.theme import build_theme

ASSETS = Path(__file__).resolve().parent / "assets"
TITLE = "Dataset review"
# The last that Gradio puts together for the first view.
FIRST_VIEW = ("#review .review-foot",)


def build_page(rows: ReviewedRows) -> gr.Blocks:
    """Build the page. It has no events of Gradio's; a browser loads nothing from other hosts.

    Args:
        rows: what is reviewed.
    """
    page: gr.Blocks = gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True)
    with page:
        gr.HTML(
            _markup(rows),
            js_on_load="window.refgcReview.start(element.querySelector('#review'));",
            apply_default_css=False,
            elem_id="review-block",
        )
    return page


def launch_settings(rows: ReviewedRows, log: VerdictLog, host: str) -> dict[str, Any]:
    """The arguments of `launch` for the page, without the port.

    Args:
        rows: what is reviewed.
        log: what is said of them.
        host: the address to listen at; see `refgc.webui.endpoints.hosts_for`.
    """
    return {
        "server_name": host,
        "theme": build_theme(),
        "css_paths": [ASSETS / "review.css"],
        "head": "".join(
            f"<script>{script.read_text(encoding='utf-8')}</script>" for script in (SCRIPT, ASSETS / "review.js")
        ),
        "footer_links": [],
        "app_kwargs": {
            "routes": ReviewRoutes(rows, log).routes(),
            "middleware": [
                Middleware(Gate, prefix=PREFIX, hosts=hosts_for(host)),
                Middleware(IndexPage, preview=None, parts=FIRST_VIEW),
            ],
        },
        "share": False,
        "ssr_mode": False,
    }


def _markup(rows: ReviewedRows) -> str:
    told = {"dataset": rows.identity, "reasons": REASONS, "tripletReasons": TRIPLET_REASONS}
    buttons = "".join(
        f'<button type="button" data-reason="{escape(reason)}"><kbd>{number}</kbd> {escape(reason)}</button>'
        for number, reason in enumerate(REASONS, 1)
    )
    markup = (ASSETS / "review.html").read_text(encoding="utf-8")
    return (
        markup.replace("{told}", escape(json.dumps(told)))
        .replace("{reasons}", buttons)
        .replace("{folder}", escape(rows.root.resolve().name))
    )
