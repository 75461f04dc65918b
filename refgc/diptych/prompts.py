"""The prompt that a diptych is drawn from."""


def diptych_prompt(object_name: str, caption: str | None = None) -> str:
    """The paper's prompt.

    Args:
        object_name: the object in a few words.
        caption: what the left panel shows, the object in a longer phrase; None or blank takes a plain one, as "Diptych
            Prompting" (Shin et al., CVPR 2025) has it.
    """
    shown = (caption or "").strip().rstrip(".") or f"a photo of a {object_name}"
    return (
        f"A diptych with two side-by-side images of the same {object_name}. On the left, {shown}. On the right, "
        f"replicate the same {object_name} naturally into the background scene"
    )
