"""Our own part of the gallery as HTML: the cached cards, and the filter by artifact."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from refgc.demo.examples import Example
from refgc.demo.gallery_cards import Card, render_cards
from refgc.demo.gallery_manifest import GalleryCard, GalleryManifest

EVERYTHING, ALL_FOUR = "everything", "all_four"
# The same frame for every card's small pictures and for its large ones, in pixels.
SIZES = ((512, 512), (1024, 1024))
LABELS = ("Generated", "Refined")
# What is said of each choice of the filter, in the order of the choices.
KINDS: dict[str, tuple[str, str]] = {
    EVERYTHING: (
        "Everything",
        "First with all four artifacts, then with one alone.",
    ),
    ALL_FOUR: (
        "All four at once",
        (
            "Our examples as they are: every artifact in each of them, always as strong. The plain vase is the hard "
            "case: there is nothing on it to recognise, so it is only enlarged."
        ),
    ),
    "identity_distortion": (
        "Identity distortion",
        (
            "The object’s shape bends and its parts move. Lettering and texture come back, but the correspondence "
            "engine leaves the shape as it was generated, which PSNR punishes."
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
    "correspondence engine. The figures tell how much closer to the truth the object comes than by enlarging alone."
)


def render_ours(examples: Sequence[Example], manifest: GalleryManifest) -> str:
    """The filter and the cards.

    Args:
        examples: whose titles and descriptions the cards bear; cards of others are left out.
        manifest: of the cached gallery.
    """
    named = {example.name: example for example in examples}
    cards = [_card(card, named[card.example]) for card in manifest.cards if card.example in named]
    choices = "".join(
        f'<label><input type="radio" name="gallery-filter" value="{kind}"{" checked" if kind == EVERYTHING else ""}>'
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
    return sum(kind in (EVERYTHING, card.kind) for card in cards)


def _card(card: GalleryCard, example: Example) -> Card:
    psnr, ssim = card.closeness.psnr_gain_inside, card.closeness.ssim_gain_inside
    words = f"<p><b>{_signed(psnr, 2)} dB</b>, SSIM&nbsp;<b>{_signed(ssim, 2)}</b></p>"
    if not card.report.placed:
        words = "<p>Not placed: only enlarged</p>"
    return Card(
        title=example.meta.title,
        kind=card.artifact or ALL_FOUR,
        tag=_tag(card),
        words=words,
        pictures=(f"{card.example}/reference", f"{card.name}/before", f"{card.name}/after"),
        labels=LABELS if card.report.placed else (LABELS[0], "Only enlarged"),
        details=_details(card, example),
        sizes=SIZES,
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


def _signed(value: float, digits: int) -> str:
    """With a true minus sign; what rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"±{0:.{digits}f}"
