"""One forward of training as one module, which DDP, FSDP2 and accelerate can wrap."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from refgc.errors import EngineError
from refgc.model import reference_cache as caching
from refgc.model.attention import QUERIES_AT_ONCE, AlignmentMaps, AttentionRecorder, TokenCounts
from refgc.model.backbones.architectures import backbone_of
from refgc.model.freqmole import FreqMoLE
from refgc.model.losses import noised_latents
from refgc.model.objective import ObjectiveSettings, ObjectiveTerms, objective
from refgc.model.tokens import NOISE, PATCH, pack, unpack
from refgc.model.velocity import predict_velocity


class TrainingBatch(NamedTuple):
    """What one step is computed from; a named tuple, because DDP and FSDP2 look for tensors in tuples.

    Latents are (batch, channels, height, width), as the transformer knows them; masks (batch, 1, height, width) in
    [0, 1], at the size of the pixels or of the latents.

    Attributes:
        ground_truth: latents of the HRGT.
        reference: latents of the HRRI, of any size.
        generated: latents of the enlarged LRGI, of the ground truth's size or, compact, of less.
        noise: standard normal, of the ground truth's shape.
        sigma: (batch,), in [0, 1].
        prompt_embeds: (batch, text tokens, text width), of T5, or of FLUX.2's text encoder.
        pooled_prompt_embeds: (batch, pooled width), of CLIP; None for FLUX.2, which has none.
        ground_truth_mask: the object in the HRGT.
        reference_mask: the object in the HRRI.
    """

    ground_truth: Tensor
    reference: Tensor
    generated: Tensor
    noise: Tensor
    sigma: Tensor
    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor | None
    ground_truth_mask: Tensor
    reference_mask: Tensor


class TrainingStep(nn.Module):
    """Fills the reference cache where it is used, reads it, records the attention and computes the objective.

    Wrap this module and not the transformer: with the reference cache the transformer runs twice a step, and a wrapper
    has to see both passes as one. For FSDP2 call `fully_shard` on each block of the transformer and then on this
    module. Gradient checkpointing is turned on at the transformer.

    Attributes:
        transformer: the one that holds the experts.
        settings: of the objective.
    """

    def __init__(
        self,
        freqmole: FreqMoLE,
        settings: ObjectiveSettings | None = None,
        *,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> None:
        """Takes from the experts' config what they are trained with: guidance and reference cache.

        Args:
            freqmole: not fused, in a transformer of any of `refgc.model.backbones`.
            settings: None stands for `ObjectiveSettings()`.
            queries_at_once: as for `refgc.model.attention.AttentionRecorder`.

        Raises:
            EngineError: the experts are fused, the transformer is of another architecture, or its attention was
                changed by something else.
        """
        super().__init__()
        if freqmole.is_fused:
            raise EngineError("The experts are folded into the transformer's weights; call unfuse() to train them.")
        self.transformer = freqmole.transformer
        self.settings = settings or ObjectiveSettings()
        self._backbone = backbone_of(freqmole.transformer)
        self._reference_cache = freqmole.config.reference_cache
        self._guidance = freqmole.config.guidance
        self._queries_at_once = queries_at_once
        # Before any wrapper: it does not see what is exchanged later.
        caching.install(self.transformer)

    def forward(self, batch: TrainingBatch) -> ObjectiveTerms:
        """The objective of a batch; `total` is what to call `backward` on."""
        size = (batch.ground_truth.shape[2], batch.ground_truth.shape[3])
        given = self._backbone.conditions(batch.reference, batch.generated, over=size)
        recorder = self._recorder(batch) if self.settings.attention_alignment else None
        velocity = predict_velocity(
            self.transformer,
            pack(noised_latents(batch.ground_truth, batch.noise, batch.sigma)),
            self._backbone.positions(size, NOISE, device=batch.ground_truth.device),
            given.tokens,
            given.ids,
            batch.prompt_embeds,
            batch.pooled_prompt_embeds,
            batch.sigma,
            None if self._guidance is None else torch.full_like(batch.sigma, self._guidance),
            reference_cache=self._reference_cache,
            attention_recorder=recorder,
        )
        maps: list[AlignmentMaps] = [] if recorder is None else list(recorder.maps.values())
        return objective(
            unpack(velocity, *size),
            batch.ground_truth,
            batch.noise,
            batch.sigma,
            reference=batch.reference,
            ground_truth_mask=batch.ground_truth_mask,
            reference_mask=batch.reference_mask,
            attention_maps=maps,
            settings=self.settings,
        )

    def clear(self) -> None:
        """Frees the reference cache; call it after the backward pass, in which gradient checkpointing reads it."""
        caching.clear(self.transformer)

    def _recorder(self, batch: TrainingBatch) -> AttentionRecorder:
        noise, reference, generated = (
            latents.shape[2] * latents.shape[3] // PATCH**2
            for latents in (batch.ground_truth, batch.reference, batch.generated)
        )
        return AttentionRecorder(
            self.transformer,
            TokenCounts(batch.prompt_embeds.shape[1], noise, reference, generated),
            view="noise" if self._reference_cache else "conditions",
            queries_at_once=self._queries_at_once,
        )
