"""Builds the page and launches it, on 127.0.0.1:7860 unless GRADIO_SERVER_NAME or GRADIO_SERVER_PORT say otherwise."""

from refgc.demo.gpu import prepare_for_lending
from refgc.demo.page import build_demo, launch_settings

demo = build_demo()

if __name__ == "__main__":
    prepare_for_lending()
    demo.launch(**launch_settings())
