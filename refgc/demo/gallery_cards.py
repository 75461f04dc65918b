"""The gallery's cards as HTML: a reference beside a slider that reveals what refining did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# Takes the place of the folder's address, which only the browser knows.
PLACE = "folder:"


@dataclass(frozen=True, slots=True)
class Card:
    """What one card shows.

    Attributes:
        title: what the object is called.
        kind: what the filter knows it by.
        tag: a few words on where its generated picture comes from.
        words: sentences under the title, as HTML.
        pictures: file names without ending of reference, picture before and picture after; each also exists with
            `-small`, for the card.
        labels: what stands on the two sides of the slider.
        details: (name, value) shown beside the large pictures.
        sizes: (width, height) in pixels of the small pictures' frame and of the large ones', for the layout.
        link: (address, words) of what else can be done with it; None where there is nothing.
    """

    title: str
    kind: str
    tag: str
    words: str
    pictures: tuple[str, str, str]
    labels: tuple[str, str]
    details: Sequence[tuple[str, str]]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    link: tuple[str, str] | None = None


def render_cards(cards: Sequence[Card]) -> str:
    """A list of cards; pictures come when they scroll into view, the large ones when a card is opened."""
    return f'<ul class="cards">{"".join(_render(card) for card in cards)}</ul>'


def _render(card: Card) -> str:
    title = escape(card.title)
    reference, before, after = card.pictures
    first, second = (escape(label) for label in card.labels)
    (width, height), (large_width, large_height) = card.sizes
    picture = f'{title}, {{}}" width="{width}" height="{height}" loading="lazy" decoding="async" draggable="false"'
    details = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in card.details)
    link = f'<a class="card-link" href="{escape(card.link[0])}">{escape(card.link[1])}</a>' if card.link else ""
    return (
        f'<li class="card" data-kind="{escape(card.kind)}"><article>'
        f'<div class="card-words"><h3>{title}</h3><p class="card-tag">{escape(card.tag)}</p>{card.words}</div>'
        f'<figure class="card-reference"><img {_sources(reference)} alt="{picture.format("reference photo")}>'
        "<figcaption>Reference</figcaption></figure>"
        f'<div class="reveal" style="--large-ratio:{large_width / large_height:.4f}">'
        f'<img {_sources(after)} alt="{picture.format(second.lower())}>'
        f'<img class="reveal-before" {_sources(before)} alt="{picture.format(first.lower())}>'
        f'<span class="reveal-label">{first}</span><span class="reveal-label">{second}</span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{title}: divider between '
        f'{first.lower()} and {second.lower()}"><i></i></div>'
        f'<dl class="card-details">{details}</dl>'
        f'<p class="card-actions"><button type="button" class="card-open" aria-label="{title}: look closely">'
        f'Look closely</button>{link}<a class="card-file" href="{PLACE}{escape(after)}.webp" target="_blank" '
        'rel="noopener">Result alone, in full size</a></p>'
        "</article></li>"
    )


def _sources(name: str) -> str:
    name = escape(name)
    return f'src="{PLACE}{name}-small.webp" data-large="{PLACE}{name}.webp"'
