"""One forward of DipRefGC's training as one module, which DDP, FSDP2 and accelerate can wrap."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from refgc.diptych.controlnets import ControlNets, Given, mask_tokens
from refgc.diptych.settings import TRAINED_SCALE
from refgc.model.losses import flow_matching_loss, noised_latents, precise
from refgc.model.objective import bin_means, of_each, sums_by_sigma
from refgc.model.tokens import NOISE, pack, position_ids, unpack


class DiptychBatch(NamedTuple):
    """What one step is computed from; a named tuple, because DDP and FSDP2 look for tensors in tuples.

    Latents are (batch, channels, height, 2 * width), both panels side by side, as the transformer knows them.

    Attributes:
        ground_truth: latents of the finished diptych, see `refgc.diptych.conditions.finished`.
        condition: latents of `Diptych.picture`, for inpainting.
        edges: latents of `Diptych.edges`, for Canny.
        known: (batch, 1, height, 2 * width), from `refgc.diptych.controlnets.known_latents`.
        object_mask: (batch, 1, height, width) in [0, 1], the object in the right panel.
        noise: standard normal, of the ground truth's shape.
        sigma: (batch,), in [0, 1].
        prompt_embeds: (batch, text tokens, text width), of T5.
        pooled_prompt_embeds: (batch, pooled width), of CLIP.
    """

    ground_truth: Tensor
    condition: Tensor
    edges: Tensor
    known: Tensor
    object_mask: Tensor
    noise: Tensor
    sigma: Tensor
    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor


class DiptychTerms(NamedTuple):
    """The objective; a named tuple, because DDP and FSDP2 look for tensors in tuples.

    Attributes:
        total: what to minimise, without dimensions.
        flow_matching_by_sigma: (bins, 2), for each bin of sigma the sum of the loss and the number of samples; without
            gradient.
    """

    total: Tensor
    flow_matching_by_sigma: Tensor

    def numbers(self) -> dict[str, float]:
        """Both by name, for a log; of the bins those that hold samples."""
        return {"total": self.total.item()} | bin_means(self.flow_matching_by_sigma, "flow_matching")


class DiptychStep(nn.Module):
    """Runs both ControlNets and the transformer on noisy diptychs, and compares the right panels.

    Wrap this module and not its parts: the ControlNets learn through the transformer. For FSDP2 call `fully_shard` on
    each block of all three and then on this module. Gradient checkpointing is turned on at the three networks.

    Attributes:
        transformer: FLUX.1-dev's, frozen.
        controlnets: with LoRAs from `refgc.diptych.loras.add`.
    """

    def __init__(
        self, transformer: FluxTransformer2DModel, controlnets: ControlNets, *, guidance: float, object_weighted: bool
    ) -> None:
        """Freezes the transformer.

        Args:
            transformer: see the class.
            controlnets: see the class.
            guidance: the scale of the distilled guidance.
            object_weighted: whether the object's latents count by panel area / object area.
        """
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.controlnets = controlnets
        self._guidance = guidance
        self._object_weighted = object_weighted

    def forward(self, batch: DiptychBatch) -> DiptychTerms:
        """The objective of a batch; `total` is what to call `backward` on.

        The left panel is noised and denoised like the right one, as at inference, and does not count.
        """
        half = batch.ground_truth.shape[3] // 2
        velocity, clean, noise = (
            precise(one)[..., half:] for one in (self._velocity(batch), batch.ground_truth, batch.noise)
        )
        mask = batch.object_mask if self._object_weighted else None
        losses = of_each(
            lambda one: flow_matching_loss(velocity[one], clean[one], noise[one], None if mask is None else mask[one]),
            batch.sigma,
        )
        counted = torch.ones_like(losses, dtype=torch.bool)
        return DiptychTerms(losses.mean(), sums_by_sigma(losses.detach(), counted, batch.sigma))

    def _velocity(self, batch: DiptychBatch) -> Tensor:
        """The predicted velocity, as latents of the whole diptych."""
        height, width = batch.ground_truth.shape[2:]
        dtype, device = self.transformer.dtype, batch.ground_truth.device
        noisy = pack(noised_latents(batch.ground_truth, batch.noise, batch.sigma)).to(dtype)
        ids = position_ids((height, width), NOISE, device=device)
        guidance = torch.full_like(batch.sigma, self._guidance)
        common: dict[str, Any] = {
            "hidden_states": noisy,
            "timestep": batch.sigma,
            "pooled_projections": batch.pooled_prompt_embeds.to(dtype),
            "encoder_hidden_states": batch.prompt_embeds.to(dtype),
            "txt_ids": ids.new_zeros(batch.prompt_embeds.shape[1], ids.shape[1]),
            "img_ids": ids,
            "return_dict": False,
        }
        controlnets = self.controlnets
        controlnets.given = Given(mask_tokens(batch.known, controlnets.inpainting).to(dtype), guidance)
        modes = [-1 if mode is None else mode for mode in controlnets.modes]
        doubles, singles = controlnets(
            controlnet_cond=[pack(batch.condition).to(dtype), pack(batch.edges).to(dtype)],
            controlnet_mode=[torch.full((len(noisy),), mode, device=device) for mode in modes],
            conditioning_scale=[TRAINED_SCALE] * len(modes),
            **common,
        )
        (velocity,) = self.transformer(
            controlnet_block_samples=doubles,
            controlnet_single_block_samples=singles,
            guidance=guidance if self.transformer.config.guidance_embeds else None,
            **common,
        )
        return unpack(velocity, height, width)
