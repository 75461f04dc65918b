"""FLUX.2 [klein] 4B, the distilled and the base model: another architecture, with a text encoder made for chats."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor

from refgc.errors import InputError
from refgc.flux.prompts import LONGEST_PROMPT, PromptEmbeddings, check_count
from refgc.hub import FLUX_KLEIN
from refgc.model import reference_cache as caching
from refgc.model.backbones.base import LOOP, Guidance, Schedule, denoising_pass
from refgc.model.freqmole import FreqMoLEConfig
from refgc.model.reference_keys import DROPPED_TEXT_TOKENS
from refgc.model.tokens import Conditions, conditions, pack, position_ids, unpack

# The first axis of the position is 0 for the noise, and grows by this from one condition picture to the next.
PICTURE_STEP = 10
# What a step cache keeps of the second pass of a guided model.
UNGUIDED = "unguided"
DISTILLED = Schedule(4, 1.0)
BASE = Schedule(50, 4.0, passes=2)

DOUBLE_STREAM_PROJECTIONS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.linear_in",
    "ff.linear_out",
    "ff_context.linear_in",
    "ff_context.linear_out",
)
# One projection gives query, key, value and what the feed-forward layer takes in.
SINGLE_STREAM_PROJECTIONS = ("attn.to_qkv_mlp_proj", "attn.to_out")


class Klein:
    """See `refgc.model.backbones.base.Backbone`.

    The distilled model takes 4 steps and is not guided. The base model takes 50 steps of two passes, with the prompt
    and with an empty one, and goes by their difference.
    """

    title = "FLUX.2 [klein]"
    network: Any = Flux2Transformer2DModel
    pipeline: Any = Flux2KleinPipeline
    text_parts: tuple[str, ...] = ("text_encoder", "tokenizer")

    def schedule(self, pipeline: Any) -> Schedule:
        """By what the pipeline says of itself."""
        return DISTILLED if pipeline.config.is_distilled else BASE

    def adapter_config(self, **options: Any) -> FreqMoLEConfig:
        """Every projection of every block."""
        own = {
            "double_stream_targets": DOUBLE_STREAM_PROJECTIONS,
            "single_stream_targets": SINGLE_STREAM_PROJECTIONS,
            "base": FLUX_KLEIN,
            "guidance": None,
        }
        return FreqMoLEConfig(**(own | options))

    def embed(self, pipeline: Any, prompt: str, device: torch.device) -> PromptEmbeddings:
        """Hidden states of three layers of Qwen3 side by side; those of an empty prompt for a guided model as well."""
        chat = [{"role": "user", "content": prompt}]
        text = pipeline.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        check_count(len(pipeline.tokenizer(text, truncation=False, verbose=False).input_ids))

        def embedded(words: str) -> Tensor:
            tokens: Tensor = pipeline.encode_prompt(words, device=device, max_sequence_length=LONGEST_PROMPT)[0]
            return tokens

        return PromptEmbeddings(embedded(prompt), negative=None if pipeline.config.is_distilled else embedded(""))

    def check_embeddings(self, embeddings: PromptEmbeddings, guidance: float) -> None:
        """A guided run needs those of the empty prompt."""
        if guidance > 1 and embeddings.negative is None:
            raise InputError(
                "The base model is guided by a second prompt: give negative_prompt_embeds as well, those of an empty "
                "one, or a guidance_scale of 1."
            )

    def encode(self, vae: Any, picture: Tensor) -> Tensor:
        """The mode of the VAE's distribution, normalised by the statistics that its batch norm has of each token."""
        latents: Tensor = vae.encode(picture).latent_dist.mode()
        mean, deviation = _statistics(vae, latents)
        return unpack((pack(latents) - mean) / deviation, latents.shape[2], latents.shape[3])

    def to_vae(self, vae: Any, latents: Tensor) -> Tensor:
        """The inverse of the normalisation."""
        mean, deviation = _statistics(vae, latents)
        return unpack(pack(latents) * deviation + mean, latents.shape[2], latents.shape[3])

    def positions(
        self, size: tuple[int, int], picture: int, *, over: tuple[int, int] | None = None, device: torch.device
    ) -> Tensor:
        """(tokens, 4): picture in steps of `PICTURE_STEP`, row, column, and 0, which counts words."""
        ids = position_ids(size, picture * PICTURE_STEP, over=over, device=device)
        return torch.nn.functional.pad(ids, (0, 1))

    def conditions(self, hrri: Tensor, lrgi: Tensor, *, over: tuple[int, int]) -> Conditions:
        """HRRI before LRGI, as the two pictures that an instruction speaks of."""
        return conditions(hrri, lrgi, over=over, positions=self.positions)

    def set_timesteps(
        self, scheduler: Any, sigmas: list[float], *, steps: int, tokens: int, device: torch.device
    ) -> None:
        """The shift depends on the number of tokens and on the steps of the whole schedule."""
        scheduler.set_timesteps(sigmas=sigmas, mu=compute_empirical_mu(tokens, steps), device=device)

    def inputs(
        self,
        transformer: Any,
        tokens: Tensor,
        ids: Tensor,
        embeddings: PromptEmbeddings,
        sigma: Tensor,
        guidance: Guidance,
    ) -> dict[str, Any]:
        """Without guidance, which is no input of this transformer."""
        return {
            "hidden_states": tokens,
            "encoder_hidden_states": embeddings.tokens,
            "timestep": sigma,
            "img_ids": ids,
            "txt_ids": _text_positions(embeddings.tokens.shape[1], ids),
        }

    def fill(self, transformer: Any, given: Conditions, embeddings: PromptEmbeddings, guidance: Guidance) -> Tensor:
        """One pass at timestep 0, which serves both passes of a guided step: no prompt reaches it."""
        batch = len(given.tokens)
        words = given.tokens.new_zeros(batch, DROPPED_TEXT_TOKENS, embeddings.tokens.shape[2])
        start = given.tokens.new_zeros(batch)
        with caching.filling(transformer):
            filled: Tensor = transformer(
                **self.inputs(transformer, given.tokens, given.ids, PromptEmbeddings(words), start, guidance),
                joint_attention_kwargs=dict(caching.WRITE),
                return_dict=False,
            )[0]
        return filled

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
        """One pass, or two above a guidance of 1 where embeddings of the empty prompt are given."""

        def passed(context: str, words: Tensor) -> Tensor:
            of_words = PromptEmbeddings(words)
            return denoising_pass(self, transformer, tokens, ids, given, of_words, sigma, guidance, context=context)

        velocity = passed(LOOP, embeddings.tokens)
        if guidance <= 1 or embeddings.negative is None:
            return velocity
        unguided = passed(UNGUIDED, embeddings.negative)
        return unguided + guidance * (velocity - unguided)

    def plain(self, pipeline: Any) -> Flux2KleinPipeline:
        """As any tool loads it."""
        return Flux2KleinPipeline(**pipeline.components, is_distilled=pipeline.config.is_distilled)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of a token."""
    deviation = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
    return vae.bn.running_mean.to(like.device, like.dtype), deviation.to(like.device, like.dtype)


def _text_positions(count: int, like: Tensor) -> Tensor:
    """(words, 4): 0, 0, 0 and the number of the word."""
    return torch.nn.functional.pad(torch.arange(count, device=like.device, dtype=like.dtype)[:, None], (3, 0))
