"""Engines and common state for several pages, served by Ray Serve, and the client by which a page asks for them."""
