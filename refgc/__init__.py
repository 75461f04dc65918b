"""RefGC-SR2: bring the true object of a high-resolution reference back into a generated picture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refgc.engine import RefineResult, Report
    from refgc.errors import EngineError, InputError
    from refgc.refinement import refine
    from refgc.request import RefineRequest, make_request

__version__ = "0.1.0"

__all__ = [
    "EngineError",
    "InputError",
    "RefineRequest",
    "RefineResult",
    "Report",
    "__version__",
    "make_request",
    "refine",
]

# Loaded on first use, so that `import refgc` costs nothing.
_HOMES = {
    "EngineError": "refgc.errors",
    "InputError": "refgc.errors",
    "RefineRequest": "refgc.request",
    "RefineResult": "refgc.engine",
    "Report": "refgc.engine",
    "make_request": "refgc.request",
    "refine": "refgc.refinement",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
