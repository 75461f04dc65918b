"""The head of a page's HTML: what a link to it shows elsewhere, and its colours from the first moment on.

Gradio's own HTML presents every page as "Gradio" to whoever makes a preview of a link, with a picture from another
host. What such readers need stands first in the head here, and Gradio's tags are taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import PIL.Image
from gradio.route_utils import get_root_url
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PICTURE_PATH = "/link-preview.jpg"
# Stands in the tags for the address of the page, which each request knows. No text can hold it.
ROOT = "\0"
# Those who show links keep a picture for weeks themselves; a day is enough for browsers.
PICTURE_HEADERS = {"Cache-Control": "public, max-age=86400"}

# Behind these words stand the page's texts, in which nothing is to be changed.
END_OF_TAGS = b"<script"
# The one tag that has to stand before all others.
CHARSET = re.compile(rb'<meta charset="[^"]*"\s*/?>')
GRADIO_TAG = re.compile(rb'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>')

# Gradio colours the body for the system's choice only. It is seen where the page ends before the window does, while
# the page loads, and around it when a finger pulls it; the scrollbars follow the colour scheme.
COLOURS = """<style>
:root[data-theme="dark"] { color-scheme: dark; }
:root[data-theme="dark"] body { background: var(--bg-dark); color: var(--col-dark); }
:root[data-theme="light"] { color-scheme: light; }
:root[data-theme="light"] body { background: var(--bg); color: var(--col); }
</style><script>(() => {
  const asked = new URLSearchParams(location.search).get("__theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const chosen = asked === "dark" || asked === "light" ? asked : system.matches ? "dark" : "light";
    document.documentElement.dataset.theme = chosen;
  };
  follow();
  system.addEventListener("change", follow);
})()</script>"""

# Gradio puts a page together part by part, and each part pushes those away that are there already. So it is shown when
# all of the first view is there, in its own letters; or when nothing more has come for eight seconds. Until then
# Gradio's sign that it loads stands in the middle of the window.
WHOLE = """<style>
:root:not([data-whole]) .gradio-container { visibility: hidden; }
:root:not([data-whole]) .gradio-container > .main > [data-testid="status-tracker"] {
  position: fixed !important; inset: 0 !important; visibility: visible;
}
</style><script>(() => {
  const show = () => { document.documentElement.dataset.whole = ""; };
  let later;
  const watching = new MutationObserver(() => {
    clearTimeout(later);
    if (!PARTS.every((part) => document.querySelector(part))) {
      later = setTimeout(show, 8000);
      return;
    }
    watching.disconnect();
    requestAnimationFrame(() => document.fonts.ready.then(() => requestAnimationFrame(show)));
  });
  watching.observe(document, { childList: true, subtree: true });
})()</script>"""


@dataclass(frozen=True, slots=True)
class LinkPreview:
    """What a link to the page shows elsewhere.

    Attributes:
        title: of the page.
        sentence: what the page is for.
        picture: a file that is shown, a JPEG.
        described: the picture in words.
    """

    title: str
    sentence: str
    picture: Path
    described: str

    def route(self) -> Route:
        """Where the picture is fetched."""

        def picture(_: Request) -> FileResponse:
            return FileResponse(self.picture, media_type="image/jpeg", headers=PICTURE_HEADERS)

        return Route(PICTURE_PATH, picture, methods=["GET", "HEAD"])

    def tags(self, root: str) -> str:
        """The tags of the page's head.

        Without an address of their own, so that a link to a tab or an example stays that link.

        Args:
            root: where the page is, without a slash at the end; readers of these tags take whole addresses only.
        """
        with PIL.Image.open(self.picture) as opened:
            width, height = opened.size
        image = f"{root}{PICTURE_PATH}"
        said = {
            "og:type": "website",
            "og:title": self.title,
            "og:description": self.sentence,
            "og:image": image,
            "og:image:type": "image/jpeg",
            "og:image:width": str(width),
            "og:image:height": str(height),
            "og:image:alt": self.described,
        }
        named = {
            "description": self.sentence,
            "twitter:card": "summary_large_image",
            "twitter:title": self.title,
            "twitter:description": self.sentence,
            "twitter:image": image,
            "twitter:image:alt": self.described,
        }
        return "".join(
            f'<meta {kind}="{name}" content="{escape(content)}" />'
            for kind, tags in (("property", said), ("name", named))
            for name, content in tags.items()
        )


class IndexPage:
    """An ASGI middleware that writes the head of the page; of other answers nothing is changed."""

    def __init__(self, app: ASGIApp, *, preview: LinkPreview | None, parts: Sequence[str]) -> None:
        """A middleware for one page.

        Args:
            app: what it stands before.
            preview: what a link to the page shows elsewhere; None for nothing.
            parts: selectors of what has to be there before the page is shown.
        """
        self.app = app
        # The picture's size is read once, not for each visitor.
        self._tags = "" if preview is None else preview.tags(ROOT)
        self._look = f"{COLOURS}{WHOLE.replace('PARTS', json.dumps(list(parts)))}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def send_rewritten(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
            elif start is None or message["type"] != "http.response.body":
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    written = self._with_head(body, scope)
                    MutableHeaders(scope=start)["content-length"] = str(len(written))
                    await send(start)
                    await send({"type": "http.response.body", "body": written, "more_body": False})

        await self.app(scope, receive, send_rewritten)

    def _with_head(self, page: bytes, scope: Scope) -> bytes:
        root = get_root_url(Request(scope), "/", scope.get("root_path"))
        own = f"{self._tags.replace(ROOT, escape(root))}{self._look}".encode()
        end = page.find(END_OF_TAGS)
        head, rest = GRADIO_TAG.sub(b"", page[:end]), page[end:]
        place = CHARSET.search(head)
        if place is None:
            return page
        return b"".join((head[: place.end()], own, head[place.end() :], rest))


def _is_page(start: Message) -> bool:
    return start["status"] == 200 and Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")
