"""The colours of the page."""

from __future__ import annotations

import pytest

from refgc.webui.theme import build_theme


def channel(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4


def luminance(colour: str) -> float:
    named = {"white": "#ffffff"}.get(colour, colour).lstrip("#")
    red, green, blue = (channel(int(named[place : place + 2], 16)) for place in (0, 2, 4))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", ["", "_dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("body_text_color", "body_background_fill"),
        ("body_text_color_subdued", "body_background_fill"),
        ("body_text_color_subdued", "block_background_fill"),
        ("body_text_color_subdued", "background_fill_secondary"),
        ("block_label_text_color", "block_label_background_fill"),
        ("block_info_text_color", "block_background_fill"),
        ("button_primary_text_color", "button_primary_background_fill"),
        ("button_primary_text_color", "button_primary_background_fill_hover"),
        ("button_secondary_text_color", "button_secondary_background_fill"),
        ("link_text_color", "body_background_fill"),
    ],
)
def test_text_has_enough_contrast(text: str, ground: str, mode: str) -> None:
    theme = build_theme()
    lighter, darker = sorted(
        (luminance(theme._get_computed_value(text + mode)), luminance(theme._get_computed_value(ground + mode))),
        reverse=True,
    )
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
