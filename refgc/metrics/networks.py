"""Networks of transformers that look at one picture: finding their files, naming their revision, loading them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refgc import hub
from refgc.errors import EngineError
from refgc.settings import settings
from refgc.weight_files import WeightFileError, network_files, quiet_transformers

if TYPE_CHECKING:
    import torch

CONFIGS = ("config.json", "preprocessor_config.json")
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
# Older repositories, such as those of the first CLIP and DINO, may have nothing else. It is read by torch's reader that
# admits tensors alone.
PICKLE = "pytorch_model.bin"
# Characters of a commit or a digest that a table shows.
SHOWN = 12


def find_network(source: str) -> Path | None:
    """The folder with a network's files; None where they are not all on this machine. Nothing is downloaded.

    Args:
        source: a folder, or the name of a Hub repository.
    """
    folder = hub.on_disk(source, CONFIGS)
    return folder if folder is not None and _weight_files(folder) else None


def fetch_network(source: str, what: str) -> Path:
    """The folder with a network's files; they are downloaded where they are not on this machine.

    Args:
        source: a folder, or the name of a Hub repository.
        what: the subject of an error sentence, such as "The network of CLIP-I".

    Raises:
        EngineError: they cannot be downloaded or are incomplete; the sentence says what to do.
    """
    found = find_network(source)
    if found is None and not Path(source).expanduser().is_dir():
        hub.download(source, what, (*CONFIGS, *SAFETENSORS))
        found = find_network(source)
        if found is None:
            hub.download(source, what, (*CONFIGS, PICKLE), pickles=True)
            found = find_network(source)
    if found is None:
        raise EngineError(
            f"{what} is {source!r}, which lacks {', '.join(CONFIGS)} or weights; name a network of transformers."
        )
    return found


@cache
def revision_of(source: str, folder: Path) -> str:
    """What a protocol calls a network: its name with the Hub's commit, or with a digest of the weights in a folder."""
    if folder.parent.name == "snapshots":
        return f"{source} at revision {folder.name[:SHOWN]}"
    digest = hashlib.sha256()
    for file in _weight_files(folder):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return f"{folder.name} with weights {digest.hexdigest()[:SHOWN]}"


def kind_of(folder: Path) -> str:
    """The architecture that a network's config names, such as "clip"; empty where it cannot be read."""
    try:
        config = json.loads((folder / CONFIGS[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def load_network(made_of: Any, folder: Path, what: str, unused: tuple[str, ...] = ()) -> Any:
    """A network in evaluation mode, in float32, on the device of the metrics.

    Args:
        made_of: its class, or an automatic one, of transformers.
        folder: of its files.
        what: the subject of an error sentence.
        unused: beginnings of the names of tensors that may be missing, since nothing depends on them.

    Raises:
        EngineError: the files cannot be read, or do not hold all of its tensors. transformers would fill those with
            random values.
    """
    import torch

    try:
        with quiet_transformers():
            network, report = made_of.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, weights_only=True, dtype=torch.float32
            )
    except Exception as error:
        # transformers raises what its readers raise, from OSError to errors of their own.
        raise EngineError(f"{what} cannot be read from {folder.name!r}; fetch its files again.") from error
    faulty = [name for name in report["missing_keys"] if not name.startswith(unused)]
    faulty += [name for name, *_ in report["mismatched_keys"]]
    if faulty:
        raise EngineError(f"{what} lacks {min(faulty)} in {folder.name!r}; fetch its files again.")
    return network.to(device()).eval()


def device() -> torch.device:
    """Where the metrics compute: REFGC_DEVICE, or else the first GPU, or else the processor."""
    import torch

    return torch.device(settings().device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _weight_files(folder: Path) -> list[Path]:
    """The files of a network's weights; empty where one of them is missing."""
    try:
        files = network_files(folder, "model")[0]
    except (WeightFileError, OSError):
        files = [folder / PICKLE]
    return files if all(file.is_file() for file in files) else []
