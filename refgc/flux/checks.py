"""Checks of a base's files before they are read: safetensors only, and headers that fit the networks."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, ModelMixin

from refgc import weight_files
from refgc.errors import EngineError, InputError
from refgc.hub import INDEX, NETWORKS
from refgc.weight_files import WeightFileError


def safetensors_only(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a `from_pretrained`, with which it reads safetensors files and no pickle.

    Left alone, diffusers and transformers read a pickle where there is no safetensors file.

    Raises:
        InputError: the caller asks for pickles.
    """
    if options.get("use_safetensors", True) is not True:
        raise InputError("Weights are read from safetensors files alone; leave use_safetensors out.")
    return {**options, "use_safetensors": True}


def checked_folder(pipeline: type[DiffusionPipeline], base: str | Path, options: Mapping[str, Any]) -> str:
    """The folder of a base that was checked by `check_pipeline`; one of the Hub is downloaded.

    Args:
        pipeline: the class that will load it.
        base: a folder or a Hub repository.
        options: of its `from_pretrained`; parts that are given in them are not looked at.

    Raises:
        EngineError: the files are damaged, are pickles, or do not fit their configs.
        OSError: the base cannot be had.
    """
    folder = str(base) if Path(base).is_dir() else str(pipeline.download(str(base), **options))
    try:
        check_pipeline(Path(folder), given=options.keys(), variant=options.get("variant"))
    except ValueError as error:
        raise EngineError(
            f"The base {str(base)!r} cannot be loaded ({error}); fetch it again, or name another."
        ) from error
    return folder


def check_pipeline(folder: Path, *, given: Collection[str] = (), variant: str | None = None) -> None:
    """Compares the headers of a pipeline's networks with the networks that their configs describe.

    Args:
        folder: of the whole pipeline, with its model_index.json.
        given: parts that are not loaded from the folder.
        variant: of the files, such as "fp16".

    Raises:
        WeightFileError: a network is stored as pickles only, is damaged, or does not fit its config.
        OSError: a file cannot be read.
    """
    index = json.loads(weight_files.read_config(folder / INDEX))
    for part in NETWORKS:
        library, name = index.get(part) or (None, None)
        if library is None or part in given:
            continue
        network = getattr({"diffusers": diffusers, "transformers": transformers}.get(library), str(name), None)
        if network is None:
            raise WeightFileError(f"its {part} is a {name} of {library}, which is not read here")
        check_network(folder / part, network, variant=variant)


def check_network(folder: Path, network: Any, *, variant: str | None = None) -> None:
    """Compares the headers of a network's files with the network that its config describes; reads no tensor.

    Args:
        folder: of the network alone.
        network: its class, of diffusers or transformers.
        variant: of the files, such as "fp16".

    Raises:
        WeightFileError, OSError: as for `check_pipeline`.
    """
    if not issubclass(network, ModelMixin):
        weight_files.check_transformers_network(folder, network, folder.name, variant)
        return
    stored = weight_files.network_tensors(folder, "diffusion_pytorch_model", variant)
    with torch.device("meta"):
        empty = network.from_config(network.load_config(folder)).state_dict()
    expected = {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in empty.items()}
    for tensors in stored:
        weight_files.check_tensors(tensors, expected, folder.name)
