"""RefGC-SR2: bring the true object of a high-resolution reference back into a generated picture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refgc.diptych.preview import PreviewResult, make_preview_request, preview
    from refgc.engine import RefineResult, Report
    from refgc.errors import EngineError, InputError
    from refgc.model.weights import adapter_as_lora
    from refgc.refinement import refine
    from refgc.request import RefineRequest, make_request

__version__ = "0.1.0"

__all__ = [
    "EngineError",
    "InputError",
    "PreviewResult",
    "RefineRequest",
    "RefineResult",
    "Report",
    "__version__",
    "adapter_as_lora",
    "make_preview_request",
    "make_request",
    "preview",
    "refine",
]

# Loaded on first use, so that `import refgc` costs nothing.
_HOMES = {
    "EngineError": "refgc.errors",
    "InputError": "refgc.errors",
    "PreviewResult": "refgc.diptych.preview",
    "RefineRequest": "refgc.request",
    "RefineResult": "refgc.engine",
    "Report": "refgc.engine",
    "adapter_as_lora": "refgc.model.weights",
    "make_preview_request": "refgc.diptych.preview",
    "make_request": "refgc.request",
    "preview": "refgc.diptych.preview",
    "refine": "refgc.refinement",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
