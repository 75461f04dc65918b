"""One module an example: its artwork, its shape, its two views."""
