"""The viewer: a picture before and after under a divider, with zoom and pan, and the reference beside it, as HTML.

`viewer_html` writes the markup; assets/viewer.js brings it to life and assets/viewer.css lays it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

Box = tuple[int, int, int, int]
Size = tuple[int, int]

ASSETS = Path(__file__).resolve().parent / "assets"
SCRIPT, STYLE = ASSETS / "viewer.js", ASSETS / "viewer.css"
BEFORE, AFTER = "Before", "After"
HINT = "Click the picture, or hold Ctrl, to zoom with the wheel"
# Placeholder of the folder's address, which only the browser knows. It begins the value of an attribute.
PLACE = "folder:"


@dataclass(frozen=True, slots=True)
class ViewedPicture:
    """The addresses of one picture.

    Attributes:
        light: shown at first.
        full: with every pixel, loaded on zoom; None where `light` has them all.
    """

    light: str
    full: str | None = None


@dataclass(frozen=True, slots=True)
class ViewedReference:
    """The reference beside a comparison.

    Attributes:
        picture: its address.
        size: (width, height) in pixels.
        placement: homography from pixels of the comparison's full pictures to its own, three rows of three; None where
            it is not known.
    """

    picture: ViewedPicture
    size: Size
    placement: tuple[float, ...] | None = None


def viewer_html(
    before: ViewedPicture,
    after: ViewedPicture,
    size: Size,
    *,
    title: str,
    box: Box | None = None,
    reference: ViewedReference | None = None,
) -> str:
    """The markup of one viewer.

    Args:
        before: the picture left of the divider.
        after: the one right of it.
        size: (width, height) in pixels of the full pictures.
        title: what both show, as plain text.
        box: (left, top, right, bottom), the object in pixels of the full pictures; None leaves its button out.
        reference: shown beside them when the visitor asks for it; None leaves its button out.
    """
    name = escape(title)
    buttons = [
        _button("wider", "−", "Zoom out"),
        _button("closer", "+", "Zoom in"),
        _button("fit", "Fit", "Fit the whole picture", pressed=True),
        _button("pixels", "1:1", "One pixel of the picture for each of the screen"),
        _button("object", "Object", "Show the object alone", pressed=False) if box else "",
        _button("reference", "Reference", "Show the reference photo beside it", pressed=False) if reference else "",
        _button("screen", "Full screen", "Full screen", pressed=False),
    ]
    return (
        f'<refgc-viewer role="group" aria-label="{name}: {BEFORE} and {AFTER}" style="--ratio:{size[0] / size[1]:.4f}"'
        f"{_numbers('size', size)}{_numbers('box', box)}"
        f"{_numbers('reference-size', reference.size if reference else None)}"
        f"{_numbers('placement', reference.placement if reference else None)}>"
        '<div class="viewer-panes"><div class="viewer-pane viewer-comparison"><div class="viewer-canvas">'
        f"{_picture('viewer-before', before, f'{name}, {BEFORE}')}{_picture('viewer-after', after, f'{name}, {AFTER}')}"
        f'</div><span class="viewer-label left">{BEFORE}</span><span class="viewer-label right">{AFTER}</span>'
        '<div class="viewer-divider" role="slider" tabindex="0" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="50" aria-label="{name}: divider between {BEFORE} and {AFTER}"><i></i></div>'
        f'<span class="viewer-hint" aria-hidden="true">{HINT}</span></div>{_reference(name, reference)}</div>'
        f'<div class="viewer-bar">{"".join(buttons)}</div></refgc-viewer>'
    )


def _reference(name: str, reference: ViewedReference | None) -> str:
    if reference is None:
        return ""
    return (
        '<div class="viewer-pane viewer-reference" hidden><div class="viewer-canvas">'
        f"{_picture('viewer-photo', reference.picture, f'{name}, reference photo')}</div>"
        '<span class="viewer-label left">Reference</span></div>'
    )


def _picture(kind: str, picture: ViewedPicture, alt: str) -> str:
    full = f' data-full="{escape(picture.full)}"' if picture.full else ""
    return f'<img class="{kind}" src="{escape(picture.light)}"{full} alt="{alt}" draggable="false" decoding="async">'


def _button(action: str, text: str, title: str, *, pressed: bool | None = None) -> str:
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" data-do="{action}" title="{title}" aria-label="{title}"{state}>{text}</button>'


def _numbers(name: str, values: tuple[float, ...] | None) -> str:
    return f' data-{name}="{" ".join(map(str, values))}"' if values else ""
