"""A small study of drawn pictures, made as a person makes it, and people who answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from refgc.study.definition import RIGHT, Study
from refgc.study.prepare import prepare_study
from refgc.study.store import AnswerStore, Trial

METHODS = ("ours", "lanczos", "rival", "other")
QUESTIONS = ("refinement", "detail", "overall")


def draw_inputs(root: Path, *, items: int = 7, side: int = 64, methods: tuple[str, ...] = METHODS) -> dict[str, Path]:
    """Pairs in `root/items`, and a folder of results for each method, whose PNGs say who made them."""
    random = np.random.default_rng(5)
    for number in range(items):
        name = f"scene-{number}"
        truth = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        folder = root / "items" / name
        folder.mkdir(parents=True)
        PILImage.fromarray(random.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)).save(folder / "hrri.png")
        small = PILImage.fromarray(truth).resize((side // 4, side // 4), PILImage.Resampling.BICUBIC)
        small.save(folder / "lrgi.png")
        for place, method in enumerate(methods):
            # The later, the blurrier, and so the smaller as a file.
            result = PILImage.fromarray(truth).resize((side >> place, side >> place)).resize((side, side))
            note = PngInfo()
            note.add_text("refgc", f"made by {method}")
            (root / method).mkdir(exist_ok=True)
            result.save(root / method / f"{name}.png", pnginfo=note)
    return {method: root / method for method in methods}


def make_study(
    root: Path, *, items: int = 7, side: int = 64, methods: tuple[str, ...] = METHODS, **options: object
) -> Study:
    """A study in `root/study`."""
    folders = draw_inputs(root, items=items, side=side, methods=methods)
    return prepare_study(root / "study", root / "items", folders, **options)  # type: ignore[arg-type]


def favour(name: str) -> Callable[[Trial], str | None]:
    """Somebody who always takes one method, and the right choice of a check."""
    return lambda trial: RIGHT if trial.showing.kind == "check" else name


def answer_all(store: AnswerStore, taste: Callable[[Trial], str | None], *, most: int = 10_000) -> str:
    """Somebody begins and answers question by question, at most so many showings; returns the code."""
    standing = store.begin()
    for _ in range(most):
        if not standing.trials:
            break
        trial = standing.trials[0]
        choices = {question: taste(trial) for question in QUESTIONS}
        order = trial.showing.order
        places = {name: 0 if choice is None else order.index(choice) + 1 for name, choice in choices.items()}
        standing = store.record(standing.code, trial.token, places, 12.34)
    return standing.code
