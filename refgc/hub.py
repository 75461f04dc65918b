"""Weights on this machine and on the Hugging Face Hub; every failure to get them becomes one error sentence.

Nothing here imports torch, because `refgc doctor` and the choice of an engine use it.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from refgc.errors import EngineError, RefGCError
from refgc.weight_files import PICKLES, only_pickles

BASE = "REFGC_BASE"
ADAPTER = "REFGC_ADAPTER"
FLUX_KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
FLUX_KLEIN = "black-forest-labs/FLUX.2-klein-4B"
FLUX_KLEIN_BASE = "black-forest-labs/FLUX.2-klein-base-4B"

# Only folders: at their top level FLUX's repositories hold the transformer a second time, in another format.
PIPELINE_FILES = ("model_index.json", "*/*")
ADAPTER_FILES = ("config.json", "freqmole.safetensors")
# Where diffusers keeps a LoRA in a folder or repository.
LORA_FILE = "pytorch_lora_weights.safetensors"

INDEX = "model_index.json"
PIPELINES = ("FluxKontextPipeline", "RefGCSR2Pipeline", "Flux2KleinPipeline", "RefGCSR2KleinPipeline")
NETWORKS = ("transformer", "text_encoder", "text_encoder_2", "vae")
LOGIN = "set HF_TOKEN to one of https://huggingface.co/settings/tokens or run `hf auth login`"


def on_disk(source: str, files: Sequence[str]) -> Path | None:
    """The folder with a source's files; None where they are not all on this machine. Nothing is downloaded.

    Args:
        source: a folder, or the name of a Hub repository.
        files: `PIPELINE_FILES` or `ADAPTER_FILES`.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        cached = _cached(source, files)
        if cached is None:
            return None
        folder = cached
    return None if missing_from(folder, files) else folder


def find_lora(source: str) -> Path | None:
    """The file of a LoRA that is given in the place of FreqMoLE's weights; None where there is none on this machine.

    Args:
        source: the file, a folder that holds it and no FreqMoLE, or the name of a Hub repository.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path if path.suffix == ".safetensors" else None
    folder = path if path.is_dir() else _cached(source, (LORA_FILE,))
    if folder is None or (folder / ADAPTER_FILES[1]).is_file():
        return None
    if (folder / LORA_FILE).is_file():
        return folder / LORA_FILE
    # Other tools name the file after what was learnt.
    files = list(path.glob("*.safetensors")) if path.is_dir() else []
    return files[0] if len(files) == 1 else None


def fetch_adapter(source: str) -> Path:
    """The folder with FreqMoLE's weights, or the file of the LoRA that is given instead; downloaded where need be.

    Raises:
        EngineError: as for `fetch`.
    """
    lora = find_lora(source)
    if lora is not None:
        return lora
    try:
        return fetch(source, ADAPTER, ADAPTER_FILES)
    except EngineError:
        if Path(source).expanduser().is_dir():
            raise
        try:
            return fetch(source, ADAPTER, (LORA_FILE,)) / LORA_FILE
        except EngineError:
            pass
        raise


def fetch(source: str, variable: str, files: Sequence[str]) -> Path:
    """The folder with a source's files; they are downloaded where they are not on this machine.

    Args:
        source: a folder, or the name of a Hub repository.
        variable: the environment variable that names it.
        files: `PIPELINE_FILES` or `ADAPTER_FILES`.

    Raises:
        EngineError: they cannot be downloaded, are incomplete, or are pickles; the sentence says what to do.
    """
    here = on_disk(source, files)
    if here is not None:
        return here
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = download(source, variable, files)
    missing = missing_from(folder, files)
    if missing:
        pickles = only_pickles((folder / missing[0]).parent)
        if pickles:
            raise EngineError(f"{variable} is {source!r}, where {pickles}; name one that has safetensors files.")
        raise EngineError(
            f"{variable} is {source!r}, and there is no {missing[0]} in it; name a folder or repository that has it."
        )
    return folder


def check_pipeline(folder: Path, source: str) -> None:
    """Checks that a pipeline is of the architecture that the model is built on.

    Raises:
        EngineError: `folder` holds neither FLUX.1-Kontext nor FLUX.2 [klein].
    """
    name = index_of(folder).get("_class_name")
    if name not in PIPELINES:
        raise EngineError(
            f"{BASE} is {source!r}, which holds a {name}; name {FLUX_KONTEXT} or {FLUX_KLEIN}, or a finetuned one."
        )


def missing_from(folder: Path, files: Sequence[str]) -> list[str]:
    """Names of files that `folder` lacks and that its model cannot be read without; empty if it is complete."""
    if files != PIPELINE_FILES:
        return [name for name in files if not (folder / name).is_file()]
    if not index_of(folder):
        return [INDEX]
    missing: list[str] = []
    for part in (name for name, made_of in index_of(folder).items() if isinstance(made_of, list) and made_of[0]):
        if part in NETWORKS:
            missing.extend(f"{part}/{name}" for name in _missing_from_network(folder / part))
        elif not (folder / part).is_dir():
            missing.append(part)
    return missing


def _missing_from_network(folder: Path) -> list[str]:
    if not (folder / "config.json").is_file():
        return ["config.json"]
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # A damaged index counts as missing.
            return [index.name]
        return sorted(shard for shard in shards if not (folder / shard).is_file())
    return [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]


def index_of(folder: Path) -> dict[str, object]:
    """What the model_index.json of a pipeline's folder says; empty where it cannot be read."""
    try:
        index = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def _cached(repository: str, files: Sequence[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True, allow_patterns=list(files)))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def download(source: str, what: str, files: Sequence[str], *, pickles: bool = False) -> Path:
    """The folder into which some files of a Hub repository are downloaded; those that it lacks are passed over.

    Args:
        source: the name of the repository.
        what: the subject of the error sentence.
        files: patterns of their names.
        pickles: whether pickles are among what is wanted.

    Raises:
        EngineError: they cannot be downloaded; the sentence says what to do.
    """
    from huggingface_hub import snapshot_download

    with in_one_sentence(source, what):
        ignored = None if pickles else list(PICKLES)
        return Path(snapshot_download(source, allow_patterns=list(files), ignore_patterns=ignored))


@contextmanager
def in_one_sentence(source: str, what: str, kind: type[RefGCError] = EngineError) -> Iterator[None]:
    """Turns each failure of the Hub's client inside the block into an error that says what to do.

    Args:
        source: the name of the repository.
        what: the subject of the error sentence: the variable that names the repository, or "The adapter".
        kind: class of the error.

    Raises:
        RefGCError: one of class `kind`.
    """
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of its HTTP client
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def refusal(sentence: str) -> RefGCError:
        return kind(f"{what} is {source!r}, {sentence}.")

    try:
        yield
    except HFValidationError as error:
        raise refusal("which is no folder here and no name of a repository; name a folder, or user/model") from error
    except GatedRepoError as error:
        raise refusal(
            f"whose licence must be accepted first: open https://huggingface.co/{source} in a browser, log in, agree "
            f"to its terms, then {LOGIN} here with the same account"
        ) from error
    except RepositoryNotFoundError as error:
        raise refusal(
            "which is no folder here and no repository that the Hub shows you; check the name, and if it is private "
            f"or gated, {LOGIN}"
        ) from error
    except RevisionNotFoundError as error:
        raise refusal("which has no such revision; name a branch, tag or commit that it has") from error
    except LocalTokenNotFoundError as error:
        raise refusal(f"and no token of the Hub is stored here; {LOGIN}") from error
    except LocalEntryNotFoundError as error:
        raise refusal(_unreachable(source, error)) from error
    except HfHubHTTPError as error:
        raise refusal(_refused(error.response.status_code)) from error
    except (HTTPError, ConnectionError) as error:
        raise refusal(_unreachable(source, error)) from error
    except OSError as error:
        raise refusal(_not_written(error)) from error


def _refused(status: int) -> str:
    if status == 401:
        return f"and the Hub does not know your token; {LOGIN}"
    if status == 403:
        return f"and your token has no right to it; {LOGIN}, one that may read gated repositories or, to upload, write"
    return f"and the Hub answers with status {status}; try again later"


def _unreachable(source: str, error: Exception) -> str:
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError

    if HF_HUB_OFFLINE:
        return f"which is not on this machine, and HF_HUB_OFFLINE forbids to fetch it; unset that, or put {source} here"
    if isinstance(error.__cause__, HfHubHTTPError):
        return _refused(error.__cause__.response.status_code)
    return "which is not on this machine, and the Hub cannot be reached; go online and try again"


def _not_written(error: OSError) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"and the disk of {HF_HUB_CACHE} is full; free space, or set HF_HOME to a folder on another disk"
    return f"and its files cannot be written to {HF_HUB_CACHE} ({error.strerror}); set HF_HOME to another folder"
