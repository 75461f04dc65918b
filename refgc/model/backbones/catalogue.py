"""The published bases of the diffusion engine: licence, size, gate; and which of them is taken. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from refgc import hub
from refgc.flux.sizes import GIB, ModelSize, resident_bytes, streamed_bytes
from refgc.flux.speed import Quantization

AUTO = "auto"
BITS: Mapping[Quantization, str] = {"none": "16 bits", "fp8": "8 bits", "nf4": "4 bits"}


@dataclass(frozen=True, slots=True)
class Base:
    """One published base.

    Attributes:
        word: what `REFGC_BASE` may say for it.
        source: its repository on the Hub.
        title: as people call it.
        licence: in a few words.
        gated: whether an account has to agree to its terms first.
        gigabytes: to download, in units of 10^9 bytes.
        size: of its parts.
        steps: how it draws a picture, in a few words.
    """

    word: str
    source: str
    title: str
    licence: str
    gated: bool
    gigabytes: int
    size: ModelSize
    steps: str


_KLEIN_SIZE = ModelSize(3_875_544_576, 4_022_468_096, 84_046_115, width=3072, blocks=25)

KONTEXT = Base(
    "kontext",
    hub.FLUX_KONTEXT,
    "FLUX.1-Kontext [dev]",
    "FLUX.1 [dev], for non-commercial use",
    True,
    34,
    ModelSize(11_901_408_320, 4_885_371_136, 83_819_683, width=3072, blocks=57),
    "28 steps",
)
KLEIN = Base("klein", hub.FLUX_KLEIN, "FLUX.2 [klein] 4B", "Apache-2.0", False, 16, _KLEIN_SIZE, "4 steps, not guided")
KLEIN_BASE = Base(
    "klein-base",
    hub.FLUX_KLEIN_BASE,
    "FLUX.2 [klein] base 4B",
    "Apache-2.0",
    False,
    16,
    _KLEIN_SIZE,
    "50 steps of two passes",
)
# In the order in which one is taken that is on this machine, where no adapter says otherwise: a stock model that was
# made for several pictures before one that was made for one.
BASES = (KLEIN, KLEIN_BASE, KONTEXT)


def chosen_source(named: str | None, adapter: str | None) -> str:
    """The base that is meant, a folder or a Hub repository; nothing is downloaded.

    Args:
        named: what `REFGC_BASE` says: a folder, a repository, the word of a base, "auto", or nothing, which is "auto".
        adapter: what `REFGC_ADAPTER` says.

    Returns:
        With "auto": the base that the adapter was trained on, which is the paper's where the adapter is not on this
        machine yet; without an adapter the first of `BASES` on this machine, and where there is none the first.
    """
    if named is not None and named.lower() != AUTO:
        return {base.word: base.source for base in BASES}.get(named.lower(), named)
    if adapter is not None:
        return _base_of(adapter) or hub.FLUX_KONTEXT
    return next((base.source for base in BASES if is_here(base.source)), BASES[0].source)


def known(source: str) -> Base | None:
    """The published base of that name; None for a folder or somebody else's repository."""
    return next((base for base in BASES if base.source == source), None)


def is_here(source: str) -> bool:
    """Whether all files of a base are on this machine."""
    return find_spec("huggingface_hub") is not None and hub.on_disk(source, hub.PIPELINE_FILES) is not None


def what_fits(size: ModelSize, gpu_gib: float | None) -> str:
    """How a base fits a GPU, in a few words.

    Args:
        size: of the base.
        gpu_gib: the GPU's memory; None where there is no GPU, or where its driver does not tell.
    """
    needed = {bits: resident_bytes(size, kind) / GIB for kind, bits in BITS.items()}
    streamed, waiting = (bytes_ / GIB for bytes_ in streamed_bytes(size))
    if gpu_gib is None:
        ways = ", ".join(f"{gib:.0f} GiB in {bits}" for bits, gib in needed.items())
        return f"takes {ways}; streamed {streamed:.0f} GiB"
    for bits, gib in needed.items():
        if gib <= gpu_gib:
            return f"fits in {bits}, about {gib:.0f} of {gpu_gib:.0f} GiB"
    if streamed <= gpu_gib:
        return f"fits streamed from main memory ({waiting:.0f} GiB of it), about {streamed:.0f} of {gpu_gib:.0f} GiB"
    return f"does not fit: takes {streamed:.0f} GiB at least, of {gpu_gib:.0f}"


def _base_of(adapter: str) -> str | None:
    """What an adapter on this machine says it was trained on; None where it is not here or does not say."""
    if find_spec("huggingface_hub") is None:
        return None
    folder = hub.on_disk(adapter, hub.ADAPTER_FILES)
    try:
        config = json.loads((folder / hub.ADAPTER_FILES[0]).read_bytes()) if folder else {}
    except (OSError, ValueError):
        return None  # what is wrong with it is told when it is loaded
    base = config.get("base") if isinstance(config, dict) else None
    return base if isinstance(base, str) and base else None
