"""What a run of DipRefGC's training takes of memory and time, counted as for the refiner: no weights are loaded."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from refgc import hub
from refgc.diptych import loras
from refgc.diptych.conditions import panel_size
from refgc.diptych.controlnets import ControlNet, ControlNets
from refgc.diptych.sources import CONTROLNET_FILES
from refgc.flux.prompts import LONGEST_PROMPT
from refgc.flux.reading import reading
from refgc.flux.sizes import QUANTIZED_BYTES
from refgc.training.estimate import (
    ATTENTION_BACKWARD,
    CONFIG,
    LINEAR_BACKWARD,
    TOKEN,
    USUAL_SIZE,
    Estimate,
    activation_bytes,
    bytes_per_trained,
    count_parameters,
    linear_operations,
)
from refgc.training.settings import GeneratorRun

# Pictures of each sample in the cache: the finished diptych, the one to complete, and the edges.
CACHED_PICTURES = 3


def estimate_generator(settings: GeneratorRun, *, gpus: int = 1) -> Estimate:
    """Count what a run takes. The LoRAs are put onto ControlNets without values, by the code that trains.

    Args:
        settings: of the run.
        gpus: how many would train.

    Raises:
        EngineError: a config of the base or of a ControlNet cannot be had.
        InputError: the three do not go together.
    """
    transformer, controlnets = _on_meta(settings)
    controlnet_parameters = count_parameters(controlnets)
    model, run = settings.model, settings.run
    loras.add(controlnets, rank=model.rank, alpha=model.lora_alpha, which=model.projections, seed=run.seed)
    trained = sum(parameter.numel() for _, parameter in loras.trained(controlnets))
    # Square, where nothing is said: the panels of others have about as many pixels.
    width, height = panel_size(USUAL_SIZE, settings.data.panel_size)
    image = 2 * (width // TOKEN) * (height // TOKEN)
    tokens = image + LONGEST_PROMPT
    config = transformer.config
    channels = config.num_attention_heads * config.attention_head_dim
    networks = (transformer, *controlnets.nets)
    blocks = sum(len(one.transformer_blocks) + len(one.single_transformer_blocks) for one in networks)
    again = 1 + model.gradient_checkpointing
    linear = sum(linear_operations(one, image) for one in networks)
    attention = 4.0 * tokens**2 * channels * blocks
    parameters = count_parameters(transformer)
    words = config.joint_attention_dim * LONGEST_PROMPT + config.pooled_projection_dim
    return Estimate(
        title="FLUX.1-dev with two ControlNets",
        base=parameters + controlnet_parameters,
        base_bytes=int(parameters * QUANTIZED_BYTES.get(model.quantization, 2.0)) + 2 * controlnet_parameters,
        trained=trained,
        trained_bytes=trained * bytes_per_trained(settings.optimisation),
        working_bytes=run.samples_at_once
        * activation_bytes(tokens * channels, blocks, gradient_checkpointing=model.gradient_checkpointing),
        tokens=tokens,
        half=linear * (again + LINEAR_BACKWARD) + attention * (again + ATTENTION_BACKWARD),
        single=0.0,
        cached_bytes=2 * (CACHED_PICTURES * config.in_channels * image + words),
        steps=run.steps,
        batch_size=run.batch_size,
        gpus=gpus,
    )


def _on_meta(settings: GeneratorRun) -> tuple[Any, ControlNets]:
    """The transformer and both ControlNets without weights."""
    model = settings.model
    base = hub.fetch(model.base, "model.base", (hub.INDEX, CONFIG))
    with reading(base), torch.device("meta"):
        config = FluxTransformer2DModel.load_config(base, subfolder="transformer")
        transformer: Any = FluxTransformer2DModel.from_config(config)
    nets = []
    for source, label in (
        (model.inpainting_controlnet, "inpainting_controlnet"),
        (model.canny_controlnet, "canny_controlnet"),
    ):
        folder = hub.fetch(source, label, CONTROLNET_FILES[:1])
        with reading(folder, label), torch.device("meta"):
            nets.append(ControlNet.from_config(ControlNet.load_config(folder)))
    with torch.device("meta"):
        return transformer, ControlNets(nets[0], nets[1], transformer)
