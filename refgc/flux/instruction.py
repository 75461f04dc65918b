"""The instruction that the model is given about an object. Imports no torch."""

from __future__ import annotations

# The paper's instruction. A template, since an adapter may be trained with another.
OBJECT = "{object}"
INSTRUCTION = f"use the {OBJECT} in IMG1 as a reference to refine, replace, enhance the {OBJECT} in IMG2"


def prompt_for(object_name: str, template: str = INSTRUCTION) -> str:
    """The instruction about an object in a few words.

    Args:
        object_name: the object.
        template: has `OBJECT` in it wherever the object's name belongs; by default the paper's.
    """
    return template.replace(OBJECT, object_name)
