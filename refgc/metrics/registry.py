"""Every metric by its name: which can be used here, and what the others lack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from refgc.errors import InputError, quoted
from refgc.machine import is_importable
from refgc.metrics.metric import Metric
from refgc.metrics.sample import Sample

INSTALL = "pip install '.[evaluation]' in the project's folder"


@dataclass(frozen=True, slots=True)
class Backbones:
    """Which networks the metrics that need one look at pictures with.

    Attributes:
        clip: a CLIP of transformers: a folder, or the name of a Hub repository.
        dino: a DINO, DINOv2 or DINOv3 of transformers, as above.
        lpips_net: the network of LPIPS: "alex", "vgg" or "squeeze".
    """

    clip: str = "openai/clip-vit-base-patch32"
    dino: str = "facebook/dino-vits16"
    lpips_net: str = "alex"


@dataclass(frozen=True, slots=True)
class Selection:
    """The metrics of an evaluation.

    Attributes:
        metrics: those that can be used here, in the order of `NAMES`, or of the names that were given.
        missing: one sentence for each of the others: what it lacks, and the command that gets it.
    """

    metrics: tuple[Metric, ...]
    missing: tuple[str, ...]


def _psnr(_: Backbones) -> Metric | str:
    if lacking := _absent("PSNR", "skimage"):
        return lacking
    from refgc.metrics.fidelity import Psnr

    return Psnr()


def _ssim(_: Backbones) -> Metric | str:
    if lacking := _absent("SSIM", "skimage"):
        return lacking
    from refgc.metrics.fidelity import Ssim

    return Ssim()


# Each gives the metric, or the sentence that says what it lacks.
MAKERS: dict[str, Callable[[Backbones], Metric | str]] = {"psnr": _psnr, "ssim": _ssim}
NAMES = tuple(MAKERS)


def select(names: Sequence[str] | None = None, *, backbones: Backbones | None = None) -> Selection:
    """The metrics of these names of which packages and weights are on this machine; nothing is downloaded.

    Args:
        names: of `NAMES`; None for all.
        backbones: the networks; None for the usual ones.

    Raises:
        InputError: no metric has this name, or no network of this name can be used.
    """
    wanted = list(dict.fromkeys(NAMES if names is None else names))
    for name in wanted:
        if name not in MAKERS:
            raise InputError(f"There is no metric {quoted(name)}; choose from {', '.join(NAMES)}.")
    made = [MAKERS[name](backbones or Backbones()) for name in wanted]
    return Selection(
        metrics=tuple(metric for metric in made if not isinstance(metric, str)),
        missing=tuple(sentence for sentence in made if isinstance(sentence, str)),
    )


def score(metrics: Iterable[Metric], sample: Sample) -> dict[str, float]:
    """The figures of a sample by all metrics that it has enough for, such as {"psnr": 31.2, "psnr_inside": 28.9}.

    Raises:
        InputError: the pictures cannot be measured.
        EngineError: weights that a metric needs cannot be used.
    """
    return {name: figure for metric in metrics for name, figure in metric(sample).items()}


def _absent(label: str, *modules: str) -> str:
    """One sentence about the packages that a metric lacks; empty where it lacks none."""
    absent = [module for module in modules if not is_importable(module)]
    return f"{label} needs {', '.join(absent)}: {INSTALL}." if absent else ""
