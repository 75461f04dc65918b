"""The gallery's cards as HTML: a reference beside a slider that reveals what refining did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from refgc.page.examples import Example
from refgc.page.gallery.manifest import GalleryCard, GalleryManifest
from refgc.page.gallery.paper import LARGE_SIDE, PROJECT_PAGE, SMALL_SIDE, Outcome, PaperSet
from refgc.page.words import closer
from refgc.webui.viewer import AFTER, BEFORE, PLACE, Box, ViewedPicture, ViewedReference, viewer_html


@dataclass(frozen=True, slots=True)
class Card:
    """The content of one card.

    Attributes:
        title: what the object is called.
        kinds: by which the filter finds it.
        tag: a few words on where its generated picture comes from.
        words: sentences under the title, as HTML.
        pictures: file names without ending of reference, picture before and picture after; each also exists with
            `-small`, for the card.
        details: (name, value) shown beside the large pictures.
        sizes: (width, height) in pixels of the small pictures' frame and of the large ones', for the layout.
        reference_size: (width, height) in pixels of the large reference.
        box: (left, top, right, bottom), the object in pixels of the large pictures; None where it is not known.
        placement: from these to the reference, see `ViewedReference`.
        link: (address, words) of a link to the Refine tab; None for none.
    """

    title: str
    kinds: tuple[str, ...]
    tag: str
    words: str
    pictures: tuple[str, str, str]
    details: Sequence[tuple[str, str]]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    reference_size: tuple[int, int]
    box: Box | None = None
    placement: tuple[float, ...] | None = None
    link: tuple[str, str] | None = None


def render_cards(cards: Sequence[Card]) -> str:
    """A list of cards. Small pictures load when they scroll into view, large ones when a card is opened."""
    return f'<ul class="cards">{"".join(_render(card) for card in cards)}</ul>'


def _render(card: Card) -> str:
    title = escape(card.title)
    reference, before, after = card.pictures
    width, height = card.sizes[0]
    picture = f'{title}, {{}}" width="{width}" height="{height}" loading="lazy" decoding="async" draggable="false"'
    details = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in card.details)
    link = f'<a class="card-link" href="{escape(card.link[0])}">{escape(card.link[1])}</a>' if card.link else ""
    return (
        f'<li class="card" data-kind="{" ".join(card.kinds)}"><article>'
        f'<div class="card-words"><h3>{title}</h3><p class="card-tag">{escape(card.tag)}</p>{card.words}</div>'
        f'<figure class="card-reference"><img {_sources(reference)} alt="{picture.format("reference photo")}>'
        "<figcaption>Reference</figcaption></figure>"
        f'<div class="reveal">'
        f'<img {_sources(after)} alt="{picture.format(AFTER.lower())}>'
        f'<img class="reveal-before" {_sources(before)} alt="{picture.format(BEFORE.lower())}>'
        f'<span class="reveal-label">{BEFORE}</span><span class="reveal-label">{AFTER}</span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{title}: divider between '
        f'{BEFORE.lower()} and {AFTER.lower()}"><i></i></div>'
        f'<template class="card-viewer">{_viewer(card)}</template>'
        f'<dl class="card-details">{details}</dl>'
        f'<p class="card-actions"><button type="button" class="card-open" aria-label="{title}: look closely">'
        f'Look closely</button>{link}<a class="card-file" href="{PLACE}{escape(after)}.webp" target="_blank" '
        'rel="noopener">Result alone, in full size</a></p>'
        "</article></li>"
    )


def _viewer(card: Card) -> str:
    """The large pictures; nothing of them is loaded before the card is opened."""
    reference, before, after = (ViewedPicture(f"{PLACE}{name}.webp") for name in card.pictures)
    return viewer_html(
        before,
        after,
        card.sizes[1],
        title=card.title,
        box=card.box,
        reference=ViewedReference(reference, card.reference_size, card.placement),
    )


def _sources(name: str) -> str:
    return f'src="{PLACE}{escape(name)}-small.webp"'


EXAMPLES, ALL_FOUR = "examples", "all_four"
# The gallery opens with the examples that come so much nearer to the truth inside the object, in dB; the others are
# behind the filter, which says why they are hard.
GOOD_GAIN = 0.3
# The same frame for every card's small pictures and for its large ones, in pixels.
SIZES = ((512, 512), (1024, 1024))
# Name and description of each choice of the filter, in their order.
KINDS: dict[str, tuple[str, str]] = {
    EXAMPLES: (
        "Examples",
        "Each generated picture has all four kinds of faults at once. Choose a kind to see it alone.",
    ),
    ALL_FOUR: (
        "All, hard ones too",
        (
            "The plain vase is the hard case: there is next to nothing on it to recognise, so hardly anything is "
            "refined."
        ),
    ),
    "identity_distortion": (
        "Identity distortion",
        (
            "The object’s shape bends and its parts move. Lettering and texture come back, but the correspondence "
            "engine leaves the shape as it was generated."
        ),
    ),
    "detail_inconsistency": ("Detail inconsistency", "Lettering and pattern are bent and mixed up, beyond reading."),
    "texture_loss": ("Texture loss", "Fine texture and small print turn into flat paint; large edges stay."),
    "quality_degradation": (
        "Quality degradation",
        "Blur, faded colours, noise and compression over the whole picture, not the object alone.",
    ),
}
INTRODUCTION = (
    "Our own products and scenes; the generated pictures are <b>simulated</b>. The results were made once, by the "
    "correspondence engine. The truth is known, so each card says how much closer to it the object comes than by "
    "enlarging alone."
)


def render_ours(examples: Sequence[Example], manifest: GalleryManifest) -> str:
    """The filter and the cards.

    Args:
        examples: give titles and descriptions; cards of other examples are left out.
        manifest: of the cached gallery.
    """
    named = {example.name: example for example in examples}
    cards = [_card(card, named[card.example]) for card in manifest.cards if card.example in named]
    choices = "".join(
        f'<label><input type="radio" name="gallery-filter" value="{kind}"{" checked" if kind == EXAMPLES else ""}>'
        f"<span>{escape(name)} <small>({_count(cards, kind)})</small></span></label>"
        for kind, (name, _) in KINDS.items()
    )
    said = "".join(f'<p class="hint kind" data-kind="{kind}">{escape(words)}</p>' for kind, (_, words) in KINDS.items())
    return (
        f'<section class="gallery"><h2>Our examples</h2><p class="hint">{INTRODUCTION}</p>'
        f'<fieldset class="filter"><legend>Show by artifact</legend>{choices}</fieldset>'
        f'<div role="status">{said}</div>{render_cards(cards)}</section>'
    )


def _count(cards: list[Card], kind: str) -> int:
    return sum(kind in card.kinds for card in cards)


def _card(card: GalleryCard, example: Example) -> Card:
    gain = card.closeness.psnr_gain_inside
    kinds: tuple[str, ...] = (card.artifact or ALL_FOUR,)
    if card.artifact is None and gain >= GOOD_GAIN:
        kinds = (EXAMPLES, *kinds)
    found = closer(gain, " inside the object")
    return Card(
        title=example.meta.title,
        kinds=kinds,
        tag=_tag(card),
        words=f"<p>{found if card.report.placed else 'Not found in the picture, so only enlarged'}</p>",
        pictures=(f"{card.example}/reference", f"{card.name}/before", f"{card.name}/after"),
        details=_details(card, example),
        sizes=SIZES,
        reference_size=card.report.reference_size,
        box=card.report.object_box,
        placement=card.report.placement,
        link=(f"?example={card.example}", "Try it in Refine" if card.artifact is None else "This object in Refine"),
    )


def _tag(card: GalleryCard) -> str:
    if card.artifact is None or card.simulation is None:
        return "Simulated: all four artifacts"
    strength = getattr(card.simulation.strengths, card.artifact)
    return f"Simulated: {KINDS[card.artifact][0].lower()}, strength {strength:g} of 1"


def _details(card: GalleryCard, example: Example) -> list[tuple[str, str]]:
    upscaled, refined = card.closeness.upscaled, card.closeness.refined
    width, height = card.report.output_size
    return [
        ("About this example", example.meta.description),
        ("Report", card.report.message),
        ("PSNR inside the object", f"{upscaled.psnr_inside:.2f} dB enlarged, {refined.psnr_inside:.2f} dB refined"),
        ("SSIM inside the object", f"{upscaled.ssim_inside:.3f} enlarged, {refined.ssim_inside:.3f} refined"),
        ("Matching points", f"{card.report.matches:,}"),
        ("Size", f"{width} × {height} pixels, {card.report.scale} times the generated picture"),
        *([("Seed of the simulation", str(card.simulation.seed))] if card.simulation else []),
    ]


CREDIT = (
    f'The authors’ own pictures and results, from the <a href="{PROJECT_PAGE}">project page of RefGC-SR²</a> by CMLab, '
    'Chung-Ang University: <a href="https://creativecommons.org/licenses/by-sa/4.0/">CC BY-SA 4.0</a>, converted to '
    "WebP here. They show what the paper’s model does, not the engine of this page. More of them are under “All”."
)


def render_paper(outcome: Outcome) -> str:
    """The cards of the downloaded sets, and one line on the missing ones."""
    problem = f'<p class="hint" role="status">{escape(outcome.problem)}</p>' if outcome.problem else ""
    cards = render_cards(_cards(outcome.sets)) if outcome.sets else ""
    return f'<div class="paper">{problem}{cards}</div>'


def _cards(sets: Sequence[PaperSet]) -> list[Card]:
    return [
        Card(
            title=wanted.title,
            kinds=(EXAMPLES, ALL_FOUR) if wanted.is_real else (ALL_FOUR,),
            tag=wanted.origin,
            words="",
            pictures=(Path(wanted.files[0]).stem, Path(wanted.files[1]).stem, Path(wanted.files[2]).stem),
            details=[("Source", "CMLab, Chung-Ang University, project page of RefGC-SR², CC BY-SA 4.0")],
            sizes=((SMALL_SIDE, SMALL_SIDE), (LARGE_SIDE, LARGE_SIDE)),
            reference_size=(LARGE_SIDE, LARGE_SIDE),
        )
        for wanted in sets
    ]
