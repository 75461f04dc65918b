"""What a diffusion model has to offer so that the pipeline, FreqMoLE and the reference cache can use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from refgc.flux.prompts import PromptEmbeddings
from refgc.model.freqmole import FreqMoLEConfig
from refgc.model.reference_keys import READ
from refgc.model.tokens import Conditions

# The name under which a step cache keeps what belongs to the denoising loop.
LOOP = "denoise"
# A scale, or one for each sample (batch,); None is what the model was made for.
Guidance = float | Tensor | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many steps a model takes, and how it is guided.

    Attributes:
        steps: of the whole noise schedule.
        guidance: the guidance scale; 1 where the model is not guided.
        passes: forward passes of the transformer in each step.
    """

    steps: int
    guidance: float
    passes: int = 1


class Backbone(Protocol):
    """One architecture; it holds no weights, so that one object serves every pipeline of that architecture.

    Latents are (batch, channels, height / 8, width / 8), normalised as the transformer works on them. `refgc.model.
    tokens.pack` makes tokens of them. Pictures are (batch, 3, height, width) in [-1, 1].

    Attributes:
        title: as people call the model, such as "FLUX.1-Kontext".
        network: class of the transformer, of diffusers.
        pipeline: class of diffusers' own pipeline.
        text_parts: the components of the pipeline that read a prompt.
    """

    title: str
    network: Any
    pipeline: Any
    text_parts: tuple[str, ...]

    def schedule(self, pipeline: Any) -> Schedule:
        """Steps and guidance that this model was made for; distilled ones take fewer."""
        ...

    def adapter_config(self, **options: Any) -> FreqMoLEConfig:
        """A config of FreqMoLE with this model's projections and base; `options` replace its other values."""
        ...

    def embed(self, pipeline: Any, prompt: str, device: torch.device) -> PromptEmbeddings:
        """The embeddings of a prompt, by the text encoders of a pipeline.

        Raises:
            InputError: the prompt is too long.
        """
        ...

    def check_embeddings(self, embeddings: PromptEmbeddings, guidance: float) -> None:
        """Refuses embeddings that lack what a run with this guidance needs.

        Raises:
            InputError: something is missing.
        """
        ...

    def encode(self, vae: Any, picture: Tensor) -> Tensor:
        """The latents of a picture."""
        ...

    def to_vae(self, vae: Any, latents: Tensor) -> Tensor:
        """Latents as the VAE decodes them, of the same shape."""
        ...

    def positions(
        self, size: tuple[int, int], picture: int, *, over: tuple[int, int] | None = None, device: torch.device
    ) -> Tensor:
        """Position ids of each token of a picture; arguments as of `refgc.model.tokens.position_ids`."""
        ...

    def conditions(self, hrri: Tensor, lrgi: Tensor, *, over: tuple[int, int]) -> Conditions:
        """The condition tokens of a pair; arguments as of `refgc.model.tokens.conditions`."""
        ...

    def set_timesteps(
        self, scheduler: Any, sigmas: list[float], *, steps: int, tokens: int, device: torch.device
    ) -> None:
        """Gives the scheduler its sigmas, shifted as for so many noise tokens and steps of the whole schedule."""
        ...

    def inputs(
        self,
        transformer: Any,
        tokens: Tensor,
        ids: Tensor,
        embeddings: PromptEmbeddings,
        sigma: Tensor,
        guidance: Guidance,
    ) -> dict[str, Any]:
        """The arguments of the transformer's forward by name, without those of its attention.

        Args:
            transformer: with or without FreqMoLE, or a wrapper of it.
            tokens: (batch, tokens, 4 * latent channels), of all pictures that are in the pass.
            ids: (tokens, axes), their positions.
            embeddings: of the prompt; its `negative` is left aside.
            sigma: (batch,), in [0, 1].
            guidance: where it is an input of the transformer.
        """
        ...

    def fill(self, transformer: Any, given: Conditions, embeddings: PromptEmbeddings, guidance: Guidance) -> Tensor:
        """Runs the condition tokens alone and keeps their keys and values, for `velocity` without conditions.

        Returns:
            What the transformer returns; see `refgc.model.velocity.predict_velocity`.

        Raises:
            EngineError: the attention was changed by something else, or the transformer is wrapped by DDP.
        """
        ...

    def velocity(
        self,
        transformer: Any,
        tokens: Tensor,
        ids: Tensor,
        given: Conditions | None,
        embeddings: PromptEmbeddings,
        sigma: Tensor,
        guidance: float,
    ) -> Tensor:
        """The velocity of the noise tokens, (batch, tokens, 4 * latent channels).

        Args:
            transformer: with or without FreqMoLE.
            tokens: (batch, tokens, 4 * latent channels), the noisy latents.
            ids: (tokens, axes), their positions.
            given: the condition tokens beside them; None where `fill` has kept their keys and values.
            embeddings: of the prompt.
            sigma: (batch,), in [0, 1], how noisy the latents are.
            guidance: the guidance scale; a model that is guided by a second pass runs it above 1.
        """
        ...

    def plain(self, pipeline: Any) -> Any:
        """The same components as a pipeline of diffusers' own class."""
        ...


def denoising_pass(
    backbone: Backbone,
    transformer: Any,
    tokens: Tensor,
    ids: Tensor,
    given: Conditions | None,
    embeddings: PromptEmbeddings,
    sigma: Tensor,
    guidance: float,
    *,
    context: str = LOOP,
) -> Tensor:
    """One pass over text, noise and, without the cache, both pictures; arguments and result as of `Backbone.velocity`.

    `context` is the name under which a step cache keeps what belongs to this pass.
    """
    hidden, hidden_ids = tokens, ids
    if given is not None:
        hidden, hidden_ids = torch.cat([tokens, given.tokens], dim=1), torch.cat([ids, given.ids])
    with transformer.cache_context(context):
        velocity: Tensor = transformer(
            **backbone.inputs(transformer, hidden, hidden_ids, embeddings, sigma, guidance),
            joint_attention_kwargs=dict(READ) if given is None else {},
            return_dict=False,
        )[0]
    return velocity[:, : tokens.shape[1]]
