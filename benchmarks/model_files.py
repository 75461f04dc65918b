"""Measures what damaged and malicious model files cost before they are refused.

usage: python -m benchmarks.model_files [--json FILE] [--gigabytes N]

Each kind of model file, in miniature, is spoilt in several ways, and loaded as the product loads it. "sparse": one
tensor claims N gigabytes (6 by default) that were never written to the disk. "large": one tensor has 0.5 GB, which are
on the disk. "pickle": the weights are there as a pickle alone. "shape": one tensor has another shape than its network
needs. "link" (adapters only): the file is a link out of its folder. Memory is the largest resident memory of the
process while it loads, over what it has before; milliseconds are the time until the refusal. The figures go into the
file's key "models"; its other keys stay as they are.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from refgc.diptych.pipeline import DipRefGCPipeline
from refgc.errors import RefGCError
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image
from refgc.machine import silence_libraries
from refgc.masks import Prompt
from refgc.masks.sam import SamSegmenter
from refgc.model import weights
from refgc.model.freqmole import FreqMoLEConfig, inject
from refgc.model.pipeline import RefGCSR2Pipeline
from tests.support.safetensors_files import GIGABYTE, make_sparse, turn_into_pickle
from tests.support.tiny_diptych import save_controlnet, save_flux_dev, save_lora, tiny_canny, tiny_inpainting
from tests.support.tiny_models import save_tiny_base, tiny_transformer
from tests.support.tiny_sam import save_sam2

RESULTS = Path(__file__).with_name("security.json")
ADAPTERS = ("FreqMoLE adapter", "LoRA")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def make_models(folder: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """For each kind the file with its weights, and what loads the model from a copy of `folder`."""
    weights.save(inject(tiny_transformer(), FreqMoLEConfig(rank=2)), folder / "adapter")
    save_tiny_base(folder / "base")
    save_flux_dev(folder / "dev")
    save_controlnet(tiny_inpainting(), folder / "inpainting")
    save_controlnet(tiny_canny(), folder / "canny")
    save_lora(tiny_canny(), folder / "loras" / "canny")
    save_sam2(folder / "sam")

    def load_base(place: Path) -> object:
        return RefGCSR2Pipeline.from_pretrained(place / "base")

    def load_diptych(place: Path) -> object:
        parts = (place / name for name in ("dev", "inpainting", "canny"))
        return DipRefGCPipeline.from_pretrained(*parts, loras=place / "loras")

    network, transformers_network = "diffusion_pytorch_model.safetensors", "model.safetensors"
    return {
        "FreqMoLE adapter": (
            Path("adapter", "freqmole.safetensors"),
            lambda place: weights.load(tiny_transformer(), place / "adapter"),
        ),
        "LoRA": (Path("loras", "canny", "pytorch_lora_weights.safetensors"), load_diptych),
        "transformer": (Path("base", "transformer", network), load_base),
        "VAE": (Path("base", "vae", network), load_base),
        "CLIP": (Path("base", "text_encoder", transformers_network), load_base),
        "T5": (Path("base", "text_encoder_2", transformers_network), load_base),
        "ControlNet": (Path("inpainting", network), load_diptych),
        "SAM": (Path("sam", transformers_network), load_sam),
    }


def load_sam(place: Path) -> object:
    """Segments a picture, for which the network is loaded."""
    import numpy as np

    picture = Image(np.full((32, 32, 3), 128, np.uint8))
    return SamSegmenter(str(place / "sam"), device="cpu").segment(picture, Prompt((32, 32), box=(4, 4, 20, 20)))


def first_matrix(file: Path) -> str:
    """The name of the first tensor of a file that has two dimensions."""
    return next(name for name, tensor in load_file(file).items() if tensor.ndim == 2)


def reshape(file: Path) -> None:
    """Gives one tensor another shape than its network needs."""
    tensors = load_file(file)
    name = first_matrix(file)
    save_file({**tensors, name: tensors[name].T.contiguous().repeat(2, 1)}, file, metadata={"format": "pt"})


def link_out(file: Path) -> None:
    """Replaces a file by a link to a place outside of its folder."""
    elsewhere = file.rename(file.parents[2] / "elsewhere.safetensors")
    file.symlink_to(elsewhere)


def resident(key: str) -> float:
    """Resident memory in MB: "VmRSS" now, "VmHWM" at most since it was cleared."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1000


def refusal(load: Callable[[], object]) -> dict[str, Any]:
    """What it costs until a load is refused.

    Raises:
        SystemExit: it was not refused.
    """
    before = 0.0
    if CLEAR.is_file():
        CLEAR.write_text("5")
        before = resident("VmRSS")
    started = time.perf_counter()
    try:
        load()
    except RefGCError as error:
        sentence = str(error)
    else:
        raise SystemExit("A spoilt file was loaded.")
    took = 1000 * (time.perf_counter() - started)
    memory = round(resident("VmHWM") - before, 1) if CLEAR.is_file() else None
    return {"milliseconds": round(took, 1), "memory, MB": memory, "sentence": sentence}


def measure(gigabytes: int) -> dict[str, Any]:
    """The costs of each kind of file, spoilt in each way."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        models = make_models(Path(temporary, "models"))
        for kind, (file, load) in models.items():
            load(Path(temporary, "models"))  # so that nothing is imported for the first time while it is measured
            ways: dict[str, Callable[[Path], object]] = {
                "sparse": lambda path: make_sparse(path, first_matrix(path), gigabytes * GIGABYTE),
                "large": lambda path: make_sparse(path, first_matrix(path), GIGABYTE // 2, written=True),
                "pickle": turn_into_pickle,
                "shape": reshape,
            }
            if kind in ADAPTERS:
                ways["link"] = link_out
            for way, spoil in ways.items():
                place = Path(temporary, "spoilt")
                shutil.copytree(Path(temporary, "models"), place)
                spoil(place / file)
                cost = refusal(partial(load, place))
                cost["sentence"] = cost["sentence"].replace(temporary, "")
                found.setdefault(kind, {})[way] = cost
                print(f"{kind}, {way}: {cost['milliseconds']} ms, {cost['memory, MB']} MB. {cost['sentence']}")
                shutil.rmtree(place)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file whose key models is replaced")
    parser.add_argument("--gigabytes", type=int, default=6, help="what a sparse tensor claims")
    options = parser.parse_args()
    silence_libraries()
    costs = measure(options.gigabytes)
    refusals = [cost for ways in costs.values() for cost in ways.values()]
    summary = {
        "system": platform.machine(),
        "gigabytes claimed": options.gigabytes,
        "files refused": len(refusals),
        "slowest refusal, ms": max(cost["milliseconds"] for cost in refusals),
        "largest memory, MB": max(cost["memory, MB"] or 0.0 for cost in refusals),
        "costs": costs,
    }
    kept = json.loads(options.json.read_text()) if options.json.is_file() else {}
    write_whole(options.json, (json.dumps({**kept, "models": summary}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
