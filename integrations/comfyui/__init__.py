"""RefGC's nodes for ComfyUI. ComfyUI imports this folder when it starts, and reads the two tables below."""

from __future__ import annotations

from typing import Any

from .adapter import LoadAdapter
from .preview import Preview
from .refine import Refine

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

# The first schema of nodes, which old and new ComfyUI read alike. The newer one (`comfy_api.latest`) is unknown to
# ComfyUI before 0.3.48, and gives these nodes nothing that they need.
NODE_CLASS_MAPPINGS: dict[str, type[Any]] = {
    "RefGCRefine": Refine,
    "RefGCDipRefGCPreview": Preview,
    "RefGCLoadAdapter": LoadAdapter,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "RefGCRefine": "RefGC Refine",
    "RefGCDipRefGCPreview": "RefGC DipRefGC Preview",
    "RefGCLoadAdapter": "RefGC Load Adapter",
}
