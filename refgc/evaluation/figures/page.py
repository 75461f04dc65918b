"""One HTML page with sliders between the pictures of each scene: no network, no other file.

A content security policy lets the page run the one script and the one style that are written here, and load nothing.
Names of objects, methods and scenes, which may come from anybody, are text wherever they stand.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from refgc.engine import Progress, no_progress
from refgc.errors import InputError, one_line, quoted
from refgc.evaluation.figures.columns import HRGT, HRRI, LRGI, enlarged_lrgi, load_results
from refgc.evaluation.figures.scenes import load_scene, object_of
from refgc.evaluation.figures.selection import Chosen, Selection
from refgc.imaging.arrays import Floats
from refgc.imaging.encode import FileOptions
from refgc.imaging.files import write_whole
from refgc.imaging.image import MARKED, Image, encoded

ASSETS = Path(__file__).parent / "assets"
STYLE, SCRIPT = "comparison.css", "comparison.js"
SUFFIXES = (".html", ".htm")
TITLE = "Methods side by side"
# Of the WebP files in the page, where they are not lossless. Chosen by hand.
QUALITY = 90


def make_page(
    selection: Selection,
    output: Path,
    *,
    title: str = TITLE,
    quality: int | None = QUALITY,
    progress: Progress = no_progress,
) -> None:
    """Write the page; the same input gives the same bytes.

    Args:
        selection: the scenes and the methods.
        output: a file that ends in .html.
        title: of the page.
        quality: of the WebP pictures in it, 1 to 100; None for PNG, which loses nothing.
        progress: told of each scene.

    Raises:
        InputError: nothing was chosen, a picture is missing, damaged or of another aspect ratio, or the file cannot be
            written.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{quoted(str(output))} is no page's name; end it in {SUFFIXES[0]}.")
    if not selection.scenes:
        raise InputError("No scene was chosen; name some with --ids, or let --pick choose them.")
    write_whole(output, _parts(selection, one_line(title), quality, progress))


def _parts(selection: Selection, title: str, quality: int | None, progress: Progress) -> Iterator[bytes]:
    """The page, scene by scene, so that one scene's pictures at a time are in memory."""
    with_truth = all(one.item.hrgt is not None for one in selection.scenes)
    labels = [LRGI, *(column.label for column in selection.columns), *([HRGT] if with_truth else [])]
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT))
    yield _head(title, style, script, labels, len(selection.scenes)).encode()
    for number, one in enumerate(selection.scenes):
        progress(f"scene {one.item.id}", number / len(selection.scenes))
        yield _section(number, one, selection, labels, quality).encode()
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n".encode()


def _head(title: str, style: str, script: str, labels: Sequence[str], scenes: int) -> str:
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash_of(style)}'; "
        f"script-src '{_hash_of(script)}'; base-uri 'none'; form-action 'none'"
    )
    right = labels[-2] if labels[-1] == HRGT else labels[-1]
    told = "scene" if scenes == 1 else "scenes"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{scenes} {told}. Drag the line in a picture, or move the slider below it with the arrow keys.</p>
<noscript><p>The sliders need JavaScript.</p></noscript>
</header>
<div class="bar" role="group" aria-label="What is compared">
<label>Left {_menu("left", labels, LRGI)}</label>
<label>Right {_menu("right", labels, right)}</label>
<button type="button" id="swap">Swap</button>
<label><input type="checkbox" id="zoom"> Zoom to the object</label>
</div>
<main>
"""


def _menu(name: str, labels: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(label)}"{" selected" if label == chosen else ""}>{escape(one_line(label))}</option>'
        for label in labels
    )
    return f'<select id="{name}">{options}</select>'


def _section(number: int, one: Chosen, selection: Selection, labels: Sequence[str], quality: int | None) -> str:
    item = one.item
    pictures = load_scene(item)
    shown = {LRGI: enlarged_lrgi(pictures), **load_results(item, pictures, selection.columns)}
    if pictures.hrgt is not None and HRGT in labels:
        shown[HRGT] = pictures.hrgt
    name = one_line(item.id if item.object_name == "object" else f"{item.object_name} ({item.id})")
    mask = object_of(pictures)
    data = {
        "name": name,
        "size": list(pictures.size),
        "box": None if mask is None else _box(mask),
        "pictures": {label: _address(shown[label], quality) for label in labels},
        "reference": _address(pictures.hrri, quality),
    }
    width, height = pictures.hrri.size
    about = [one.reason, _scores(item.id, selection)]
    said = "".join(f"<p>{escape(one_line(text))}</p>\n" for text in about if text)
    return f"""<section class="scene" aria-labelledby="scene-{number}">
<h2 id="scene-{number}">{escape(name)}</h2>
{said}<div class="panes">
<figure class="comparison">
<div class="frame"><div class="layer under"><img alt=""></div><div class="layer over"><img alt=""></div>
<span class="line"></span><span class="tag left"></span><span class="tag right"></span></div>
<input class="divider" type="range" min="0" max="100" step="1" value="50" aria-label="Divider: {escape(name)}">
</figure>
<figure class="reference"><img alt="{HRRI}, the reference: {escape(name)}" width="{width}" height="{height}">
<figcaption>{HRRI}, the reference</figcaption></figure>
</div>
<script type="application/json">{_json(data)}</script>
</section>
"""


def _scores(identity: str, selection: Selection) -> str:
    """The score of each method, such as "PSNR: Lanczos 25.55 dB, ours 28.20 dB"."""
    if selection.score is None:
        return ""
    known: Mapping[str, Mapping[str, float]] = selection.scores.get(identity, {})
    said = [
        f"{column.label} {selection.score.text(known[column.label][selection.score.name])}"
        for column in selection.columns
        if selection.score.name in known.get(column.label, {})
    ]
    return f"{selection.score.label}: {', '.join(said)}" if said else ""


def _box(mask: Floats) -> list[float] | None:
    """Left, top, width and height of the object as shares of the picture; None where there is nothing."""
    marked = np.argwhere(mask >= MARKED)
    if not len(marked):
        return None
    (top, left), (bottom, right) = marked.min(axis=0), marked.max(axis=0) + 1
    height, width = mask.shape
    sides = (left / width, top / height, (right - left) / width, (bottom - top) / height)
    return [round(float(side), 4) for side in sides]


def _address(image: Image, quality: int | None) -> str:
    """The picture itself as a data: address."""
    kind = "png" if quality is None else "webp"
    content = encoded(image, f"picture.{kind}", options=FileOptions("srgb", quality, None))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _json(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: it has no character that ends one or opens a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash_of(content: str) -> str:
    """A script or style as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
