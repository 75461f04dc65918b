"""Serves the page, on 127.0.0.1:7860 unless GRADIO_SERVER_NAME or GRADIO_SERVER_PORT say otherwise; as `refgc page`."""

import sys

from refgc.cli.main import main

if __name__ == "__main__":
    main(["page", *sys.argv[1:]])
