"""The cached gallery belongs to examples, simulator and engine as they are now; About tells true figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import numpy as np
import PIL.Image
import pytest

from refgc import __version__
from refgc.diptych.comparison import fidelity
from refgc.imaging.image import Image, open_image, open_mask
from refgc.page.about import about_html
from refgc.page.examples import EXAMPLES_FOLDER, find_examples
from refgc.page.gallery.build import SEED, SHOWN_ON, STRENGTHS, draw_artifact
from refgc.page.gallery.cards import ALL_FOUR, KINDS, Card, render_cards, render_ours
from refgc.page.gallery.cards import EXAMPLES as GOOD_EXAMPLES
from refgc.page.gallery.manifest import GALLERY_FOLDER, MANIFEST, Artifact, GalleryCard, content_hash, read_manifest
from refgc.page.words import closer
from refgc.refinement import refine
from refgc.webui.viewer import PLACE

EXAMPLES = find_examples(EXAMPLES_FOLDER)
CARDS = read_manifest().cards
MOST_BYTES = 6_000_000
# What WebP of the cached quality takes away, and no more.
LEAST_PSNR = 33.0


def truth_of(card: GalleryCard):
    folder = EXAMPLES_FOLDER / card.example
    truth = open_image(folder / "hrgt.jpg", name="truth")
    return truth, open_mask(folder / "hrgt_mask.png", size=truth.size, name="mask")


def cached(name: str) -> Image:
    with PIL.Image.open(GALLERY_FOLDER / f"{name}.webp") as picture:
        return Image(np.array(picture.convert("RGB")))


def test_every_example_has_a_card_and_every_artifact_some() -> None:
    whole = [card.example for card in CARDS if card.artifact is None]
    assert whole == [example.name for example in EXAMPLES]
    for artifact in get_args(Artifact):
        assert tuple(card.example for card in CARDS if card.artifact == artifact) == SHOWN_ON[artifact]
    assert len({card.name for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_card_was_made_from_the_example_as_it_is(card: GalleryCard) -> None:
    folder = EXAMPLES_FOLDER / card.example
    assert {"hrri.jpg", "hrgt.jpg", "hrgt_mask.png"} <= set(card.sources)
    assert ("lrgi.png" in card.sources) == (card.artifact is None)
    for name, digest in card.sources.items():
        assert content_hash(folder / name) == digest, f"{name} has changed: run python -m refgc.page.gallery.build"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_card_was_made_by_this_engine_with_default_options(card: GalleryCard) -> None:
    report = card.report
    assert (report.engine, report.versions["refgc"]) == ("correspondence", __version__)
    assert (report.scale, report.strength, report.seed) == (4, 1.0, 0)
    assert (report.generated_size, report.output_size) == ((256, 256), (1024, 1024))
    if card.artifact is None:
        assert card.simulation is None
    else:
        assert card.simulation is not None
        strengths = card.simulation.strengths.model_dump()
        assert strengths.pop(card.artifact) == STRENGTHS[card.artifact]
        assert set(strengths.values()) == {0.0}
        assert card.simulation.seed == SEED


def test_pictures_are_those_of_the_manifest_light_and_of_the_sizes_said() -> None:
    listed = {name: digest for card in CARDS for name, digest in card.pictures.items()}
    here = {path.relative_to(GALLERY_FOLDER).as_posix(): path for path in GALLERY_FOLDER.glob("*/*")}
    assert set(listed) == set(here)
    for name, path in here.items():
        assert content_hash(path) == listed[name]
        with PIL.Image.open(path) as picture:
            assert picture.format == "WEBP"
            assert picture.size == ((512, 512) if "-small" in name else (1024, 1024)) or "-small" in name
            assert picture.width == picture.height <= 1024
    small = sum(path.stat().st_size for name, path in here.items() if "-small" in name)
    assert sum(path.stat().st_size for path in here.values()) + (GALLERY_FOLDER / MANIFEST).stat().st_size < MOST_BYTES
    assert small < MOST_BYTES / 4


@pytest.mark.parametrize("name", ["cushion", "vase", "tea_tin-identity-distortion"])
def test_made_anew_it_is_the_same(name: str) -> None:
    card = next(card for card in CARDS if card.name == name)
    truth, mask = truth_of(card)
    folder = EXAMPLES_FOLDER / card.example
    generated = draw_artifact(truth, mask, card.artifact).image.pixels if card.artifact else folder / "lrgi.png"
    result = refine(folder / "hrri.jpg", generated, engine="correspondence")

    assert (result.report.placed, result.report.object_box) == (card.report.placed, card.report.object_box)
    assert result.report.matches == pytest.approx(card.report.matches, rel=0.02)
    for shown, made in ((cached(f"{name}/after"), result.image), (cached(f"{name}/before"), result.stages["upscaled"])):
        assert fidelity(made, shown, mask).psnr > LEAST_PSNR
    refined = fidelity(truth, result.image, mask)
    assert refined.psnr_inside == pytest.approx(card.closeness.refined.psnr_inside, abs=0.05)
    assert refined.ssim_inside == pytest.approx(card.closeness.refined.ssim_inside, abs=0.005)


def test_cards_alone_have_their_artifact_and_no_other() -> None:
    """The strength of each is seen in what it does to the truth; none is drawn where its strength is 0."""
    for artifact in get_args(Artifact):
        card = next(card for card in CARDS if card.artifact == artifact)
        truth, mask = truth_of(card)
        drawn = draw_artifact(truth, mask, artifact)
        assert drawn.record == card.simulation
        changed = np.abs(drawn.full.pixels.astype(int) - truth.pixels).max(axis=2) > 0
        assert changed[mask.values > 0].mean() > 0.2
        assert changed[mask.values == 0].any() == (artifact == "quality_degradation")


def test_page_shows_every_card_with_its_figures() -> None:
    page = render_ours(EXAMPLES, read_manifest())
    assert page.count('<li class="card"') == len(CARDS)
    for kind in KINDS:
        shown = sum(kind in kinds.split() for kinds in re.findall(r'<li class="card" data-kind="(.*?)"', page))
        name = KINDS[kind][0]
        assert f"{name} <small>({shown})</small>" in page
        assert shown > 0
    assert page.count("Simulated: all four artifacts") == len(EXAMPLES)
    assert page.count("strength 0.9 of 1") == len(SHOWN_ON["texture_loss"])
    for example in EXAMPLES:
        assert f'href="?example={example.name}"' in page
    vase = next(card for card in CARDS if card.name == "vase")
    assert (vase.report.object_coverage or 0) < 0.2
    assert page.count("Not found in the picture") == sum(not card.report.placed for card in CARDS)


def test_the_gallery_opens_with_what_works_and_hides_nothing() -> None:
    """What came hardly nearer to the truth is behind the filter only; each card tells its gain in words."""
    page = render_ours(EXAMPLES, read_manifest())
    cards = dict(zip((card.name for card in CARDS), page.split('<li class="card" ')[1:], strict=True))
    for card in CARDS:
        is_first = card.artifact is None and card.closeness.psnr_gain_inside >= 0.3
        assert (f'data-kind="{GOOD_EXAMPLES} ' in cards[card.name]) == is_first
    assert "closer to</b> the truth" in cards["paperback"]
    # 6.02 dB are half the error.
    assert closer(6.0206, " inside the object") == "<b>50% closer to</b> the truth inside the object"
    assert closer(-6.0206) == "<b>100% farther from</b> the truth"
    assert closer(0.01) == "As close to the truth as by enlarging alone"


def test_only_small_pictures_come_with_the_cards_and_none_before_it_is_seen() -> None:
    page = render_ours(EXAMPLES, read_manifest())
    # What stands in a template is loaded only once it is taken out of there.
    large = re.findall(r"<img [^>]*>", "".join(re.findall(r"<template.*?</template>", page)))
    pictures = re.findall(r"<img [^>]*>", re.sub(r"<template.*?</template>", "", page))
    assert len(pictures) == len(large) == 3 * len(CARDS)
    there = set(GALLERY_FOLDER.glob("*/*"))
    for picture in large:
        assert GALLERY_FOLDER / re.findall(r'src="folder:(.*?)"', picture)[0] in there
    for picture in pictures:
        (source,) = re.findall(r'src="folder:(.*?)"', picture)
        assert source.endswith("-small.webp")
        assert GALLERY_FOLDER / source in there
        assert 'loading="lazy"' in picture
        assert re.search(r'alt="[^"]+, [^"]+"', picture)


def test_what_is_not_ours_to_write_stays_text() -> None:
    card = Card(
        title='<img src=x onerror="alert(1)">',
        kinds=(ALL_FOUR,),
        tag='"><script>',
        words="",
        pictures=('a" b', "c", "d"),
        details=[("<dt>", 'x="folder:y')],
        sizes=((1, 1), (2, 2)),
        reference_size=(2, 2),
        link=('?a=b"c', "<a>"),
    )
    text = render_cards([card])
    assert "<script>" not in text
    assert "<img src=x" not in text
    assert f'x="{PLACE}' not in text, "no text is taken for the folder's address"
    assert render_cards([replace(card, link=None)]).count("card-link") == 0


class Tables(HTMLParser):
    """Captions, heads with their scopes, and cells of every table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[dict[str, list[str]]] = []
        self.scopes: list[str | None] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append({"caption": [], "th": [], "td": []})
        if tag == "th":
            self.scopes.append(dict(attrs).get("scope"))
        if tag in ("caption", "th", "td"):
            self.inside = tag
            self.tables[-1][tag].append("")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.tables[-1][self.inside][-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""


def test_tables_have_captions_scopes_and_the_papers_figures() -> None:
    parsed = Tables(about_html())
    assert [len(table["caption"]) for table in parsed.tables] == [1] * 7
    assert set(parsed.scopes) == {"col", "row", "colgroup"}
    _, study, benchmark, wild, own, by_artifact, _ = parsed.tables
    rows = {name: benchmark["td"][7 * number : 7 * number + 7] for number, name in enumerate(benchmark["th"][8:])}
    assert rows["RefGC-SR²"][2:] == ["0.8696", "0.7474", "17.5148", "0.6335", "0.2746"]
    assert rows["ImageCritic*"][2:] == ["0.8542", "0.7165", "17.2090", "0.6060", "0.3039"]
    assert rows["OmniPaint"][2:] == ["0.7831", "0.5720", "13.4472", "0.5486", "0.5166"]
    best = [max(column) for column in zip(*(row[2:6] for row in rows.values()), strict=True)]
    assert rows["RefGC-SR²"][2:6] == best
    assert wild["td"][-7:] == ["0.8476", "0.6626", "15.1028", "0.5063", "0.4170", "0.7280", "0.3771"]
    assert study["td"] == ["83%", "82%", "83%"]
    committed = json.loads((EXAMPLES_FOLDER.parent / "benchmarks" / "bench.json").read_bytes())["table"]
    inside = next(row for row in committed["rows"] if row["label"] == "Correspondence")["cells"]["psnr_inside"]["mean"]
    assert f"{inside:.2f}" in own["td"]
    assert len(by_artifact["td"]) == 4 * 3


def test_about_says_what_may_be_done_and_whose_the_figures_are() -> None:
    page = about_html()
    for words in ("Apache-2.0", "CC0 1.0", "CC BY-SA 4.0", "non-commercial", "@misc{", "All figures are the authors’"):
        assert words in page
    assert "{method}" not in page
    assert re.search(r'<svg [^>]*role="img" aria-labelledby="method-title method-text"', page)
    for identity in ("method-title", "method-text"):
        assert page.count(f'id="{identity}"') == 1
