"""Builds the page and launches it, on 127.0.0.1:7860 unless GRADIO_SERVER_NAME or GRADIO_SERVER_PORT say otherwise."""

import sys

from refgc.errors import InputError
from refgc.page.app import build_demo, launch_settings
from refgc.page.service.gpu import prepare_for_lending
from refgc.page.service.runs import Service

try:
    service = Service.from_environment()
    demo, settings = build_demo(service), launch_settings(service)
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    prepare_for_lending()
    demo.launch(**settings)
