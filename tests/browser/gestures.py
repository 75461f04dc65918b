"""What fingers do."""

from __future__ import annotations

from playwright.sync_api import Page


def swipe(page: Page, start: tuple[float, float], step: tuple[float, float]) -> None:
    """A finger put down at `start`, moved eight times by `step` and lifted."""
    finger = page.context.new_cdp_session(page)
    x, y = start
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for _ in range(8):
        x, y = x + step[0], y + step[1]
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
