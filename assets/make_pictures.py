"""Makes the pictures of the README, and of links to the page, anew, in about a minute.

usage: .venv/bin/python assets/make_pictures.py

`before-after.jpg` shows one of our own examples: the reference, the generated picture and what the correspondence
engine makes of both, with the default options. `link-preview.jpg`, in the page's assets, shows the same to readers of
links to the page. `page.jpg` is the running page in Chromium, after a visitor has pressed
"Refine" on the same example. Both need what `make test` installs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from playwright.sync_api import sync_playwright

from refgc import refine
from refgc.imaging.image import open_image, open_mask, to_pil

ASSETS = Path(__file__).resolve().parent
ROOT = ASSETS.parent
EXAMPLE = "paperback"
# What is shown of the scene: the object with this share of its longer side around it.
MARGIN = 0.04
PANEL, GAP, CAPTION = 560, 12, 44
CAPTIONS = ("Reference photo (HRRI)", "Generated picture (LRGI)", "Refined, 4x as large")
INK, PAPER = "#1f2328", "#ffffff"
LINK_PREVIEW = ROOT / "refgc" / "page" / "assets" / "link-preview.jpg"
# Of the size that readers of links ask for, in the page's dark colours; the title stands above the three pictures.
CARD, CARD_INK, CARD_FAINT, CARD_PAPER = (1200, 630), "#f4f4f5", "#a1a1aa", "#0e1213"
CARD_PANEL, CARD_GAP, CARD_MARGIN, CARD_TITLE = 376, 12, 24, "RefGC-SR"
CARD_SENTENCE = "The real object’s detail, back in the generated picture"
QUALITY = 88
# Wide enough for the page's two columns; as tall as the page with its result.
WINDOW = (1280, 1180)
SYSTEM_CHROMIUM = Path("/usr/bin/chromium")
START_SECONDS = 120


def panels(folder: Path, side: int) -> list[PIL.Image.Image]:
    """Reference, generated picture and result, each cut to the object.

    The generated picture is enlarged without smoothing, so that its own pixels are seen.

    Args:
        folder: an example's.
        side: of each panel, in pixels.
    """
    result = refine(folder / "hrri.jpg", folder / "lrgi.png", engine="correspondence")
    refined = to_pil(result.image)
    generated = to_pil(open_image(folder / "lrgi.png", name="generated"))
    reference = to_pil(open_image(folder / "hrri.jpg", name="reference"))
    in_reference = window_around(folder / "hrri_mask.png", reference.size)
    in_scene = window_around(folder / "hrgt_mask.png", refined.size)
    return [
        picture.resize((side, side), PIL.Image.Resampling.LANCZOS, box=box)
        for picture, box in (
            (reference, in_reference),
            (generated.resize(refined.size, PIL.Image.Resampling.NEAREST), in_scene),
            (refined, in_scene),
        )
    ]


def draw_before_after(folder: Path) -> PIL.Image.Image:
    """The three panels side by side."""
    sheet = PIL.Image.new("RGB", (3 * PANEL + 2 * GAP, PANEL + CAPTION), PAPER)
    pen, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(24)
    for number, (picture, caption) in enumerate(zip(panels(folder, PANEL), CAPTIONS, strict=True)):
        left = number * (PANEL + GAP)
        sheet.paste(picture, (left, CAPTION))
        pen.text((left + PANEL / 2, CAPTION / 2), caption, INK, font, anchor="mm")
    return sheet


def draw_link_preview(folder: Path) -> PIL.Image.Image:
    """Title, sentence and the three panels, as a card for links to the page."""
    card = PIL.Image.new("RGB", CARD, CARD_PAPER)
    pen = PIL.ImageDraw.Draw(card)
    large, small = PIL.ImageFont.load_default(76), PIL.ImageFont.load_default(46)
    pen.text((CARD_MARGIN, 100), CARD_TITLE, CARD_INK, large, anchor="ls")
    # Pillow's font has no raised figure.
    pen.text((CARD_MARGIN + large.getlength(CARD_TITLE) + 4, 76), "2", CARD_INK, small, anchor="ls")
    pen.text((CARD_MARGIN, 146), CARD_SENTENCE, CARD_INK, PIL.ImageFont.load_default(36), anchor="lm")
    top, font = CARD[1] - CARD_PANEL - CARD_MARGIN, PIL.ImageFont.load_default(22)
    for number, (picture, caption) in enumerate(zip(panels(folder, CARD_PANEL), CAPTIONS, strict=True)):
        left = CARD_MARGIN + number * (CARD_PANEL + CARD_GAP)
        card.paste(picture, (left, top))
        pen.text((left, top - 20), caption, CARD_FAINT, font, anchor="lm")
    return card


def window_around(mask: Path, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square around the object, inside a picture of this size."""
    box = PIL.Image.fromarray(open_mask(mask, size=size, name="mask").values > 0).getbbox()
    assert box is not None, "open_mask lets no empty mask in"
    left, top, right, bottom = box
    side = min(round((1 + 2 * MARGIN) * max(right - left, bottom - top)), *size)
    x = min(max(0, (left + right - side) // 2), size[0] - side)
    y = min(max(0, (top + bottom - side) // 2), size[1] - side)
    return x, y, x + side, y + side


@contextmanager
def running_page() -> Iterator[str]:
    """The address of the page, started anew on a free port, with an empty folder for its files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": str(Path(folder, "uploads")),
        }
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], env={**os.environ, **own}, stdout=subprocess.DEVNULL
        )
        try:
            wait_until_up(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def wait_until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when the page answers.

    Raises:
        SystemExit: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise SystemExit("The page did not start.")


def photograph_page(target: Path) -> None:
    """Opens the page at the example, refines it and saves what the window shows."""
    chromium = SYSTEM_CHROMIUM if SYSTEM_CHROMIUM.exists() else None
    with running_page() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=["--no-sandbox", "--disable-gpu"], executable_path=chromium)
        page = browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]}, color_scheme="light")
        page.goto(f"{address}/?example={EXAMPLE}&__theme=light")
        page.locator("#comparison .viewer-after").wait_for(timeout=60_000)
        page.locator("#refine").click()
        # Offered for a result of this visit only, not for the one that the page shows at first.
        page.locator("#download").wait_for(timeout=120_000)
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        page.screenshot(path=target, type="jpeg", quality=QUALITY)
        browser.close()


def main() -> None:
    """Writes the pictures and says how large they are."""
    draw_before_after(ROOT / "examples" / EXAMPLE).save(
        ASSETS / "before-after.jpg", quality=QUALITY, subsampling=0, optimize=True
    )
    draw_link_preview(ROOT / "examples" / EXAMPLE).save(LINK_PREVIEW, quality=QUALITY, subsampling=0, optimize=True)
    photograph_page(ASSETS / "page.jpg")
    for made in (ASSETS / "before-after.jpg", LINK_PREVIEW, ASSETS / "page.jpg"):
        print(f"{made.name}: {made.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
