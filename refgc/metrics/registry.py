"""Every metric by its name: which can be used here, and what the others lack."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from refgc.errors import EngineError, InputError, quoted
from refgc.machine import is_importable
from refgc.metrics.metric import Metric
from refgc.metrics.sample import Sample
from refgc.wheels import LPIPS_LAYERS, fetch_weights, weights_folder

# What pip calls the packages of some modules.
PACKAGES = {"skimage": "scikit-image", "flip_evaluator": "flip-evaluator", "huggingface_hub": "huggingface-hub"}
NETWORK_MODULES = ("torch", "transformers", "huggingface_hub")
LPIPS_NETS = ("alex", "vgg")
INSTALL = "pip install '.[evaluation]' in the project's folder"


@dataclass(frozen=True, slots=True)
class Backbones:
    """Which networks the metrics that need one look at pictures with.

    Attributes:
        clip: a CLIP of transformers: a folder, or the name of a Hub repository.
        dino: a DINO, DINOv2 or DINOv3 of transformers, as above.
        lpips_net: the network of LPIPS: "alex" or "vgg".
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


def select(names: Sequence[str] | None = None, *, backbones: Backbones | None = None) -> Selection:
    """The metrics of these names of which packages and weights are on this machine; nothing is downloaded.

    Args:
        names: of `NAMES`; None for all.
        backbones: the networks; None for the usual ones.

    Raises:
        InputError: no metric has this name, or LPIPS has no network of this name.
        EngineError: the files of a network are of another architecture than its metric is for.
    """
    wanted = list(dict.fromkeys(NAMES if names is None else names))
    for name in wanted:
        if name not in _MAKERS:
            raise InputError(f"There is no metric {quoted(name)}; choose from {', '.join(NAMES)}.")
    made = [_MAKERS[name](backbones or Backbones()) for name in wanted]
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


def fetch_networks(backbones: Backbones | None = None) -> Iterator[str]:
    """Downloads what LPIPS, CLIP-I and DINO look at pictures with, and gives what is there, one after the other.

    What is on this machine already is not downloaded again.

    Raises:
        EngineError: something cannot be downloaded, or packages are missing; the sentence says what to do.
    """
    chosen = backbones or Backbones()
    if lacking := _absent("The metrics with networks need", *NETWORK_MODULES):
        raise EngineError(lacking)
    from refgc.metrics.lpips import fetch_convolutions
    from refgc.metrics.networks import fetch_network

    folder = weights_folder()
    fetch_weights(LPIPS_LAYERS, folder)
    fetch_convolutions(_known_net(chosen.lpips_net), folder)
    yield f"LPIPS ({chosen.lpips_net}) is in {folder}"
    for label, source in (("CLIP-I", chosen.clip), ("DINO", chosen.dino)):
        yield f"{label} ({source}) is in {fetch_network(source, f'The network of {label}')}"


def _psnr(_: Backbones) -> Metric | str:
    if lacking := _absent("PSNR needs", "skimage"):
        return lacking
    from refgc.metrics.fidelity import Psnr

    return Psnr()


def _ssim(_: Backbones) -> Metric | str:
    if lacking := _absent("SSIM needs", "skimage"):
        return lacking
    from refgc.metrics.fidelity import Ssim

    return Ssim()


def _lpips(backbones: Backbones) -> Metric | str:
    net = _known_net(backbones.lpips_net)
    if lacking := _absent("LPIPS needs", "torch"):
        return lacking
    from refgc.metrics.lpips import Lpips, missing_files

    folder = weights_folder()
    if missing := missing_files(net, folder):
        option = "" if net == Backbones().lpips_net else f" --lpips-net {net}"
        return f"LPIPS needs {' and '.join(missing)}: `refgc setup --metrics{option}` downloads what is missing."
    return Lpips(net, folder)


def _clip_i(backbones: Backbones) -> Metric | str:
    if lacking := _absent("CLIP-I needs", *NETWORK_MODULES):
        return lacking
    from refgc.metrics.embeddings import ClipI
    from refgc.metrics.networks import find_network

    folder = find_network(backbones.clip)
    return _no_network("CLIP-I", backbones.clip, "clip") if folder is None else ClipI(backbones.clip, folder)


def _dino(backbones: Backbones) -> Metric | str:
    if lacking := _absent("DINO needs", *NETWORK_MODULES):
        return lacking
    from refgc.metrics.embeddings import Dino
    from refgc.metrics.networks import find_network

    folder = find_network(backbones.dino)
    return _no_network("DINO", backbones.dino, "dino") if folder is None else Dino(backbones.dino, folder)


def _flip(_: Backbones) -> Metric | str:
    if lacking := _absent("FLIP needs", "flip_evaluator"):
        return lacking
    from refgc.metrics.flip import Flip

    return Flip()


def _inliers(_: Backbones) -> Metric | str:
    from refgc.correspondence.learned import are_there

    if not are_there():
        return "Inliers needs the weights of learned matching: `refgc setup` downloads them."
    from refgc.metrics.inliers import Inliers

    return Inliers()


def _legibility(_: Backbones) -> Metric | str:
    if lacking := _absent("Legibility needs", "rapidocr", "onnxruntime", "rapidfuzz"):
        return lacking
    from refgc.metrics.legibility import Legibility

    return Legibility()


# Each gives the metric, or the sentence that says what it lacks.
_MAKERS: dict[str, Callable[[Backbones], Metric | str]] = {
    "psnr": _psnr,
    "ssim": _ssim,
    "lpips": _lpips,
    "clip_i": _clip_i,
    "dino": _dino,
    "flip": _flip,
    "inliers": _inliers,
    "legibility": _legibility,
}
NAMES = tuple(_MAKERS)


def _known_net(net: str) -> str:
    if net not in LPIPS_NETS:
        raise InputError(f"LPIPS has no network {quoted(net)}; choose from {', '.join(LPIPS_NETS)}.")
    return net


def _no_network(label: str, source: str, option: str) -> str:
    """The sentence about a network that is not on this machine."""
    how = "" if source == getattr(Backbones(), option) else f" --{option} {shlex.quote(source)}"
    return f"{label} needs {source}, which is not on this machine: `refgc setup --metrics{how}` downloads it."


def _absent(needs: str, *modules: str) -> str:
    """One sentence about the packages that something lacks; empty where it lacks none."""
    absent = [PACKAGES.get(module, module) for module in modules if not is_importable(module)]
    return f"{needs} {', '.join(absent)}: {INSTALL}." if absent else ""
