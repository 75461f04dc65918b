"""The look of the page: one theme of our own, light and dark, whole without internet."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

TEAL = colors.Color(
    name="refgc-teal",
    c50="#effaf8",
    c100="#d3f2ec",
    c200="#a7e4d9",
    c300="#72cfc1",
    c400="#41b3a5",
    c500="#27978b",
    c600="#1c7a71",
    c700="#19635d",
    c800="#184f4b",
    c900="#18413e",
    c950="#08211f",
)


def build_theme() -> gr.themes.Base:
    """Text and controls keep a contrast of at least 4.5 to 1 (WCAG AA) in both modes."""
    # LocalFont is served by Gradio itself; every other kind would be asked of an outside host. Its 600 weights hold
    # only a part of the Latin alphabet, so bold is 700.
    theme = gr.themes.Base(
        primary_hue=TEAL,
        secondary_hue=TEAL,
        neutral_hue=colors.zinc,
        text_size=sizes.text_md,
        radius_size=sizes.radius_lg,
        font=(fonts.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(fonts.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="#0e1213",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="#161c1d",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="#1d2526",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2c3738",
        block_background_fill="white",
        block_background_fill_dark="#161c1d",
        block_border_color="*neutral_200",
        block_border_color_dark="#2c3738",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="white",
        block_label_background_fill_dark="#161c1d",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_label_text_weight="700",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="700",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="*neutral_50",
        input_background_fill_dark="#1d2526",
        input_border_color="*neutral_300",
        input_border_color_dark="#3a4748",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_300",
        button_primary_background_fill_hover_dark="*primary_200",
        button_primary_text_color="white",
        button_primary_text_color_dark="*primary_950",
        button_large_text_weight="700",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*primary_50",
        button_secondary_background_fill_dark="#1d2526",
        button_secondary_background_fill_hover_dark="#263132",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#3a4748",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_border_width="1px",
        color_accent="*primary_600",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        loader_color="*primary_600",
        loader_color_dark="*primary_300",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_400",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_900",
        checkbox_label_border_color_selected="*primary_600",
        checkbox_label_border_color_selected_dark="*primary_400",
    )
