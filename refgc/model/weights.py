"""FreqMoLE's weights: saved in a folder or on the Hugging Face Hub, and exported as one plain LoRA for other tools."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from refgc.errors import EngineError, InputError
from refgc.hub import ADAPTER_FILES, LORA_FILE, in_one_sentence
from refgc.imaging.files import make_folder, write_whole
from refgc.model.fingerprint import fingerprint
from refgc.model.freqmole import EXPERTS, GATE, FreqMoLE, FreqMoLEConfig, inject, joined, weight_shapes
from refgc.model.lora_files import TRANSFORMER, check_lora, refuse_lora
from refgc.model.model_card import model_card
from refgc.model.sharding import is_first_process, is_sharded, whole
from refgc.weight_files import (
    ADAPTER_DTYPES,
    TensorEntry,
    WeightFileError,
    only_pickles,
    own_file,
    read_config,
    read_header,
)

CONFIG_FILE, WEIGHTS_FILE = ADAPTER_FILES
CARD_FILE = "README.md"
# What a projection's four factors are called, in the order in which `joined` takes them.
EXPERT_SUFFIXES = tuple(f"{expert}_{factor}" for expert in EXPERTS for factor in "AB")


def save(freqmole: FreqMoLE, folder: str | os.PathLike[str]) -> None:
    """Write experts, gates, config and a model card into a folder, each file whole or not at all.

    Args:
        freqmole: fused or not. Where FSDP2 has sharded it, all processes have to call this, and the first one writes.
        folder: made where it does not exist. Files of an earlier save are replaced, but for the model card, which may
            have been edited since.

    Raises:
        InputError: the folder cannot be made or written.
    """
    made = _made(folder)
    _save(freqmole, made, name=made.resolve().name)


def load(
    transformer: Any, source: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32, **hub: Any
) -> FreqMoLE:
    """Put saved experts and gates into a transformer.

    Args:
        transformer: a FluxTransformer2DModel without FreqMoLE; unchanged where this raises.
        source: a folder that `save` wrote, or else a Hub repository as for `from_pretrained`.
        dtype: of experts and gates in memory.
        hub: how to get it from a repository, as for `from_pretrained`: revision, token, cache_dir, local_files_only.

    Raises:
        InputError: there is no such folder or repository, the Hub refuses it, a file is missing, damaged or a link out
            of the folder, it is a LoRA, or the weights belong to another config or another base.
        EngineError: as for `refgc.model.freqmole.inject`.
    """
    folder = Path(source).expanduser()
    refuse_lora(str(source))
    if folder.is_dir():
        return _load(transformer, folder, str(source), dtype)
    if folder.is_file():
        raise InputError(f"{str(source)!r} is a file; give the folder that holds {WEIGHTS_FILE} and {CONFIG_FILE}.")
    return from_pretrained(transformer, str(source), dtype=dtype, **hub)


def from_pretrained(
    transformer: Any,
    repository: str,
    *,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> FreqMoLE:
    """Put the experts and gates of a Hub repository into a transformer; downloaded once, then from the cache.

    Args:
        transformer: a FluxTransformer2DModel without FreqMoLE; unchanged where this raises.
        repository: its name, such as "user/adapter".
        dtype: of experts and gates in memory.
        revision: branch, tag or commit; None takes main.
        token: for private and gated repositories; None takes HF_TOKEN, or the login that is stored.
        cache_dir: where downloads are kept; None takes the Hub's own cache.
        local_files_only: never download.

    Raises:
        InputError, EngineError: as for `load`.
    """
    with in_one_sentence(repository, "The adapter", InputError):
        folder = snapshot_download(
            repository,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else str(cache_dir),
            local_files_only=local_files_only,
            allow_patterns=list(ADAPTER_FILES),
        )
    return _load(transformer, Path(folder), repository, dtype)


def push_to_hub(
    freqmole: FreqMoLE,
    repository: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = "FreqMoLE experts and gates",
) -> str:
    """Upload experts, gates and config in one commit, with a model card where the repository has none.

    Args:
        freqmole: fused or not.
        repository: its name, such as "user/adapter"; made where it does not exist.
        private: whether a new repository is private; None takes the account's default.
        token: with the right to write; None takes HF_TOKEN, or the login that is stored.
        revision: branch to commit to; None takes main.
        create_pr: propose the commit instead of making it.
        message: of the commit.

    Returns:
        The commit's address.

    Raises:
        InputError: the Hub does not take it.
        EngineError: the experts are sharded.
    """
    if is_sharded(freqmole.parameters()):
        raise EngineError(
            "The experts are shared out among processes: write them with refgc.model.weights.save, and push what one "
            "process loads from there."
        )
    with in_one_sentence(repository, "The adapter", InputError), TemporaryDirectory() as folder:
        hub = HfApi(token=token)
        full_name = hub.create_repo(repository, private=private, exist_ok=True).repo_id
        _save(freqmole, Path(folder), name=full_name)
        has_card = hub.file_exists(full_name, CARD_FILE, revision=revision)
        commit = hub.upload_folder(
            repo_id=full_name,
            folder_path=folder,
            revision=revision,
            create_pr=create_pr,
            commit_message=message,
            ignore_patterns=[CARD_FILE] if has_card else None,
        )
    return str(commit.commit_url)


@torch.no_grad()
def export_lora(freqmole: FreqMoLE, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> Path:
    """Write the experts as one plain LoRA of rank 2 * config.rank, with the same effect on the transformer.

    `load_lora_weights(folder)` of the base's pipeline loads it, as do other tools that read diffusers' LoRAs of FLUX.
    A = [A_LF; A_HF] and B = scaling * [alpha * B_LF, (1 - alpha) * B_HF]. There are no alpha entries; tools then take a
    scale of 1. Gates and config cannot be recovered from it.

    Args:
        freqmole: fused or not, or sharded, as for `save`.
        folder: made where it does not exist.
        dtype: of the file; None keeps the experts'.

    Returns:
        The file.

    Raises:
        InputError: the folder cannot be made or written.
    """
    file = _made(folder) / LORA_FILE
    tensors = _as_lora(
        (name, down.to(dtype or down.dtype), up.to(dtype or up.dtype)) for name, down, up in freqmole.factors()
    )
    if _writes(freqmole):
        write_whole(file, to_bytes(tensors, metadata={"format": "pt"}))
    return file


@torch.no_grad()
def adapter_as_lora(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of an adapter as one plain LoRA, read without the base that it was trained on.

    Args:
        file: FreqMoLE's weights, with their config beside them, as `save` writes both; or a LoRA, as `export_lora` or
            another tool writes it, whose tensors are given back as they are.

    Returns:
        Tensors on the CPU by name. Of FreqMoLE they are what `export_lora` writes:
        "transformer.<layer>.lora_A.weight" (2 rank, in) and "transformer.<layer>.lora_B.weight" (out, 2 rank), where
        the layers have their names in diffusers.

    Raises:
        InputError: there is no such file, it is damaged, incomplete, neither FreqMoLE's weights nor a LoRA, or the
            config is missing or another one's.
    """
    path = Path(file).expanduser()
    try:
        entries = read_header(path).tensors
    except FileNotFoundError as error:
        raise InputError(f"There is no adapter {str(path)!r}; name the safetensors file with its weights.") from error
    except (WeightFileError, OSError) as error:
        raise InputError(
            f"The adapter {str(path)!r} is no safetensors file or is damaged ({error}); download or copy it again."
        ) from error
    suffix = f".{EXPERT_SUFFIXES[0]}"
    layers = [name.removesuffix(suffix) for name in entries if name.endswith(suffix)]
    if not layers:
        check_lora(path, str(path))
        return _read_tensors(path, str(path))
    config = _read_config(own_file(path.parent, CONFIG_FILE, f"The adapter {str(path)!r}"), str(path))
    needed = [f"{layer}.{end}" for layer in layers for end in EXPERT_SUFFIXES] + [_gate_of(layer) for layer in layers]
    missing = [name for name in needed if name not in entries]
    if missing:
        raise InputError(f"The adapter {str(path)!r} lacks {missing[0]}: it is incomplete; download or copy it again.")
    rank = entries[f"{layers[0]}{suffix}"].shape[0]
    if rank != config.rank:
        raise InputError(_other_rank(str(path), rank, config))
    tensors = _read_tensors(path, str(path))
    return _as_lora(
        (
            layer,
            *joined(
                torch.sigmoid(tensors[_gate_of(layer)]),
                *(tensors[f"{layer}.{end}"] for end in EXPERT_SUFFIXES),
                scaling=config.scaling,
            ),
        )
        for layer in layers
    )


def _gate_of(layer: str) -> str:
    """The name of the gate of a projection's block, such as "transformer_blocks.0.frequency_gate.logit"."""
    return ".".join((*layer.split(".")[:2], GATE, "logit"))


def _as_lora(factors: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, Tensor]:
    """Layers with their A and B in the names of diffusers' LoRAs."""
    tensors: dict[str, Tensor] = {}
    for name, down, up in factors:
        tensors[f"{TRANSFORMER}{name}.lora_A.weight"] = down.contiguous()
        tensors[f"{TRANSFORMER}{name}.lora_B.weight"] = up.contiguous()
    return tensors


def _made(folder: str | os.PathLike[str]) -> Path:
    made = Path(folder).expanduser()
    make_folder(made)
    return made


def _save(freqmole: FreqMoLE, folder: Path, *, name: str) -> None:
    tensors = {key: whole(parameter).contiguous() for key, parameter in freqmole.named_parameters()}
    if not _writes(freqmole):
        return
    write_whole(folder / WEIGHTS_FILE, to_bytes(tensors, metadata={"format": "pt"}))
    write_whole(folder / CONFIG_FILE, freqmole.config.model_dump_json(indent=2).encode() + b"\n")
    if not (folder / CARD_FILE).exists():
        write_whole(folder / CARD_FILE, str(model_card(freqmole.config, name)).encode())


def _writes(freqmole: FreqMoLE) -> bool:
    """Whether this process writes: of several that hold the same sharded experts the first."""
    return not is_sharded(freqmole.parameters()) or is_first_process()


def _load(transformer: Any, folder: Path, source: str, dtype: torch.dtype) -> FreqMoLE:
    label = f"The adapter {source!r}"
    config = _read_config(own_file(folder, CONFIG_FILE, label), source)
    file = own_file(folder, WEIGHTS_FILE, label)
    entries = _read_entries(file, source)
    try:
        shapes = weight_shapes(transformer, config)
    except InputError as error:
        target = str(error).partition(";")[0].removeprefix("The ")
        raise InputError(
            f"{label} does not fit this base: the {target}. It was trained on {config.base}; load it into that, or "
            f"correct its {CONFIG_FILE}."
        ) from error
    _check(entries, shapes, config, source)
    if None not in (known := {config.base_fingerprint, fingerprint(transformer)}) and len(known) > 1:
        raise InputError(
            f"{label} was trained on {config.base}, and this base has the same shapes but other weights; load the "
            "adapter into the base it was trained on."
        )
    tensors = _read_tensors(file, source)
    # A generator of its own: loading must not move the global random state, by which a run would not be repeatable.
    freqmole = inject(transformer, config, dtype=dtype, generator=torch.Generator())
    with torch.no_grad():
        for name, parameter in freqmole.named_parameters():
            parameter.copy_(tensors[name])
    return freqmole


def _read_config(file: Path, source: str) -> FreqMoLEConfig:
    try:
        return FreqMoLEConfig.model_validate_json(read_config(file))
    except FileNotFoundError as error:
        raise InputError(f"The adapter {source!r} has no {CONFIG_FILE}; give what `save` wrote, all of it.") from error
    except OSError as error:
        raise InputError(f"{CONFIG_FILE} of the adapter {source!r} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"{CONFIG_FILE} of the adapter {source!r} is no FreqMoLE config ({place}: {first['msg']}); correct it or "
            "save the adapter again."
        ) from error
    except WeightFileError as error:
        raise InputError(
            f"{CONFIG_FILE} of the adapter {source!r} is no FreqMoLE config ({error}); save the adapter again."
        ) from error


def _read_entries(file: Path, source: str) -> Mapping[str, TensorEntry]:
    """What the file's header says about its tensors."""
    try:
        return read_header(file).tensors
    except FileNotFoundError as error:
        pickles = only_pickles(file.parent)
        raise InputError(
            f"The adapter {source!r} has no {WEIGHTS_FILE}; give what `save` wrote, all of it."
            if not pickles
            else f"In the adapter {source!r} {pickles}; save the adapter again with `refgc.model.weights.save`."
        ) from error
    except (WeightFileError, OSError) as error:
        raise InputError(_damaged(source, error)) from error


def _read_tensors(file: Path, source: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(_damaged(source, error)) from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"The adapter {source!r} is spoilt: {name} holds values that are no finite numbers.")
    return tensors


def _damaged(source: str, reason: Exception) -> str:
    return f"{WEIGHTS_FILE} of the adapter {source!r} is damaged or cut off ({reason}); download or copy it again."


def _other_rank(source: str, rank: int, config: FreqMoLEConfig) -> str:
    return (
        f"The adapter {source!r} has rank {rank} where its {CONFIG_FILE} says {config.rank}; give weights and config "
        "of the same adapter."
    )


def _check(
    entries: Mapping[str, TensorEntry], shapes: Mapping[str, tuple[int, ...]], config: FreqMoLEConfig, source: str
) -> None:
    """Compares what the header says with what experts of this config need in this base."""
    missing = [name for name in shapes if name not in entries]
    unexpected = [name for name in entries if name not in shapes]
    if missing or unexpected:
        lacks = f"lacks {len(missing)} of {len(shapes)} weights, {missing[0]} among them" if missing else ""
        extra = f"has {len(unexpected)} that do not belong, {unexpected[0]} among them" if unexpected else ""
        raise InputError(
            f"The adapter {source!r} {' and '.join(filter(None, (lacks, extra)))}: it is incomplete, its {CONFIG_FILE} "
            f"names other targets, or the base has other blocks than the one it was trained on, {config.base}."
        )
    for name, shape in shapes.items():
        found = entries[name].shape
        ranks = found[1:] if name.endswith("_B") else found[:1]
        if len(found) == len(shape) == 2 and ranks != (config.rank,):
            raise InputError(_other_rank(source, ranks[0], config))
        if found != shape:
            raise InputError(
                f"The adapter {source!r} belongs to another base: {name} is {found} where this one needs {shape}; it "
                f"was trained on {config.base}."
            )
        if entries[name].dtype not in ADAPTER_DTYPES:
            raise InputError(
                f"The adapter {source!r} stores {name} as {entries[name].dtype}, which experts are not read from; save "
                f"it as one of {', '.join(ADAPTER_DTYPES)}."
            )
