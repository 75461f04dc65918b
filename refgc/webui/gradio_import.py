"""The import of Gradio, without what it does for editors only."""

from __future__ import annotations

import inspect
import sys
from typing import Any


def import_gradio() -> None:
    """Imports Gradio in about half the time.

    At each start Gradio writes type stubs of its components for editors, for which it takes all their sources apart. It
    passes over a component whose source has no file. So none seems to have one for as long as the import lasts.
    Where Gradio is imported already, nothing is done. To be called before other threads run.
    """
    if "gradio" in sys.modules:
        return
    getfile = inspect.getfile

    def getfile_of_others(named: Any) -> str:
        if isinstance(named, type) and hasattr(named, "EVENTS"):
            raise OSError("The stubs of components are not wanted.")
        return getfile(named)

    inspect.getfile = getfile_of_others  # type: ignore[assignment]
    try:
        import gradio  # noqa: F401
    finally:
        inspect.getfile = getfile
