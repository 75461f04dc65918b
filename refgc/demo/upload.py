"""One upload: a file of any kind that intake reads, and beside it the picture as intake sees it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from refgc.demo.messages import problem_line
from refgc.errors import InputError
from refgc.images import open_image, to_pil

# Browsers name no type for some of these, so they are told by their endings.
FILE_TYPES = ["image", ".heic", ".heif", ".avif", ".tif", ".tiff", ".webp", ".bmp", ".ppm"]
PREVIEW_SIDE = 768


def picture_upload(label: str, name: str, elem_id: str, *, height: int = 190) -> gr.File:
    """A drop zone that turns into a preview once it holds a picture.

    gr.File, not gr.Image: it hands over the file as it is (EXIF, ICC profile, 16 bits), takes HEIC and TIFF, which
    browsers neither show nor always recognise as pictures, and the preview is what the engine will work on.

    Args:
        label: what the visitor reads above the drop zone.
        name: what the picture is called in an error sentence, such as "reference".
        elem_id: identity of the drop zone in the page.
        height: of the preview in pixels.
    """
    with gr.Column(elem_classes="upload", min_width=140):
        preview = gr.Image(
            label=label,
            height=height,
            visible=False,
            interactive=False,
            buttons=["fullscreen"],
            format="webp",
            elem_id=f"{elem_id}-preview",
            alt_text=f"{label}, as it was read",
        )
        file = gr.File(label=label, file_types=list(FILE_TYPES), height=height, elem_id=elem_id)
        note = gr.HTML(visible=False, elem_id=f"{elem_id}-note")

    def show(path: str | None) -> dict[Any, Any]:
        if path is None:
            return {preview: gr.update(value=None, visible=False), note: gr.update(value="", visible=False)}
        try:
            picture = to_pil(open_image(path, name=name))
        except InputError as error:
            sentence = problem_line(str(error), title="Cannot be used")
            return {preview: gr.update(value=None, visible=False), note: gr.update(value=sentence, visible=True)}
        picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        return {preview: gr.update(value=picture, visible=True), note: gr.update(value="", visible=False)}

    file.change(
        show,
        inputs=file,
        outputs=[preview, note],
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=file,
        concurrency_limit=4,
        concurrency_id="preview",
    )
    return file
