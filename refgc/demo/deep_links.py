"""Links that open the page at a certain place: `?tab=preview`, `?example=camera`.

The example is shown where all examples are, see `refgc.demo.example_gallery`; Gradio itself reads `?__theme=dark`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gradio as gr

TAB, EXAMPLE = "tab", "example"
NO_SUCH_TAB = "This link names a tab that is not here; you see the first one."
NO_SUCH_EXAMPLE = "This link names an example that is not here; you see the first one."


def connect_deep_links(demo: gr.Blocks, tabs: gr.Tabs, names: Collection[str], examples: Collection[str]) -> None:
    """Opens the tab that the address names, and says when the address names what is not there.

    Args:
        demo: the page being built.
        tabs: all of its tabs.
        names: their ids.
        examples: the examples' names.
    """

    def follow(request: gr.Request) -> Any:
        tab, example = (request.query_params.get(name, "") for name in (TAB, EXAMPLE))
        # What a link says is never repeated: it is not ours.
        if tab and tab not in names:
            gr.Info(NO_SUCH_TAB)
        if example and example not in examples:
            gr.Info(NO_SUCH_EXAMPLE)
        return gr.Tabs(selected=tab) if tab in names else gr.skip()

    demo.load(follow, outputs=tabs, api_visibility="private", show_progress="hidden", concurrency_limit=None)
