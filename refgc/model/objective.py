"""The objective that RefGC-SR2 is trained with: L = L_FM + lambda_LF L_LF + lambda_HF L_HF + L_aal.

The values of the paper's lambdas are not known to us; here they are one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor

from refgc.model.attention import AlignmentMaps
from refgc.model.losses import (
    attention_alignment_loss,
    flow_matching_loss,
    high_frequency_distances,
    low_frequency_distances,
    noised_latents,
    precise,
    predicted_clean_latents,
    sigma_weights,
)
from refgc.model.objective_settings import ObjectiveSettings as ObjectiveSettings

# Sigma is logged in so many bins of equal width.
SIGMA_BINS = 4


class ObjectiveTerms(NamedTuple):
    """The objective and its terms, each a tensor without dimensions but for the last; the terms are not weighted.

    A named tuple, because DDP and FSDP2 look for tensors in tuples.

    Attributes:
        total: what to minimise.
        flow_matching: L_FM.
        low_frequency: L_LF.
        high_frequency: L_HF, each sample weighted by its sigma.
        attention_alignment: L_aal.
        high_frequency_by_sigma: (`SIGMA_BINS`, 2), for each bin of sigma the sum of L_HF without that weight, and the
            number of samples that show an object in both pictures; without gradient. Sums of it over steps and
            processes are what `bin_means` takes.
        others_by_sigma: (3, `SIGMA_BINS`, 2), the same of L_FM, L_LF and L_aal, and all samples count.
    """

    total: Tensor
    flow_matching: Tensor
    low_frequency: Tensor
    high_frequency: Tensor
    attention_alignment: Tensor
    high_frequency_by_sigma: Tensor
    others_by_sigma: Tensor

    def numbers(self) -> dict[str, float]:
        """All of them by name, for a log; of the bins those that hold samples."""
        scalars = self._asdict()
        high, others = scalars.pop("high_frequency_by_sigma"), scalars.pop("others_by_sigma")
        found = {name: term.item() for name, term in scalars.items()} | bin_means(high)
        for name, bins in zip(OTHER_TERMS, others, strict=True):
            found |= bin_means(bins, name)
        return found


# The terms of `ObjectiveTerms.others_by_sigma`, in its order.
OTHER_TERMS = ("flow_matching", "low_frequency", "attention_alignment")


def bin_means(sums: Tensor, term: str = "high_frequency") -> dict[str, float]:
    """Means of a term by the bin's range of sigma, such as "high_frequency_sigma_0.25_0.50"; empty bins are left out.

    Args:
        sums: (bins, 2), sum and number of samples; `ObjectiveTerms.high_frequency_by_sigma`, or a sum of several.
        term: its name.
    """
    width = 1 / len(sums)
    return {
        f"{term}_sigma_{number * width:.2f}_{(number + 1) * width:.2f}": total / count
        for number, (total, count) in enumerate(sums.tolist())
        if count
    }


def objective(
    velocity: Tensor,
    ground_truth: Tensor,
    noise: Tensor,
    sigma: Tensor,
    *,
    reference: Tensor,
    ground_truth_mask: Tensor,
    reference_mask: Tensor,
    attention_maps: Collection[AlignmentMaps],
    settings: ObjectiveSettings | None = None,
) -> ObjectiveTerms:
    """The whole objective for one batch.

    Args:
        velocity: the transformer's prediction for `noised_latents(ground_truth, noise, sigma)`, as latents.
        ground_truth: z_HRGT, (batch, channels, height, width).
        noise: of the same shape.
        sigma: (batch,), in [0, 1].
        reference: z_HRRI, (batch, channels, any height, any width).
        ground_truth_mask: the object in the HRGT.
        reference_mask: the object in the HRRI.
        attention_maps: of the forward that predicted `velocity`; none where the term is not wanted.
        settings: None stands for `ObjectiveSettings()`.
    """
    settings = settings or ObjectiveSettings()
    velocity, ground_truth, noise, sigma = (precise(one) for one in (velocity, ground_truth, noise, sigma))
    predicted = predicted_clean_latents(noised_latents(ground_truth, noise, sigma), velocity, sigma)
    flow_matching = flow_matching_loss(
        velocity, ground_truth, noise, ground_truth_mask if settings.object_weighted else None
    )
    how: dict[str, Any] = {"distance": settings.distance, "gaussian_sigma": settings.gaussian_sigma}
    lows = low_frequency_distances(predicted, ground_truth, ground_truth_mask, **how)
    low = lows.mean()
    distances = high_frequency_distances(predicted, reference, ground_truth_mask, reference_mask, **how)
    high = (distances * sigma_weights(sigma, settings.sigma_power)).mean()
    alignment = attention_alignment_loss(
        attention_maps, ground_truth_mask, (ground_truth.shape[2], ground_truth.shape[3])
    )
    total = (
        flow_matching
        + settings.low_frequency * low
        + settings.high_frequency * high
        + settings.attention_alignment * alignment
    )
    shown = ground_truth_mask.flatten(1).any(dim=1) & reference_mask.flatten(1).any(dim=1)
    with torch.no_grad():
        others = (
            of_each(
                lambda one: flow_matching_loss(
                    velocity[one],
                    ground_truth[one],
                    noise[one],
                    ground_truth_mask[one] if settings.object_weighted else None,
                ),
                sigma,
            ),
            lows,
            of_each(lambda one: _alignment_of(one, attention_maps, ground_truth_mask, ground_truth), sigma),
        )
        everyone = torch.ones_like(shown)
        others_by_sigma = torch.stack([sums_by_sigma(values.detach(), everyone, sigma) for values in others])
        high_by_sigma = sums_by_sigma(distances.detach(), shown, sigma)
    return ObjectiveTerms(total, flow_matching, low, high, alignment, high_by_sigma, others_by_sigma)


def of_each(term: Callable[[slice], Tensor], sigma: Tensor) -> Tensor:
    """A term that is a mean over the batch, of each sample alone; (batch,)."""
    return torch.stack([term(slice(number, number + 1)) for number in range(len(sigma))])


def _alignment_of(one: slice, maps: Collection[AlignmentMaps], mask: Tensor, ground_truth: Tensor) -> Tensor:
    cut = [AlignmentMaps(module.reference[one], module.generated[one]) for module in maps]
    return attention_alignment_loss(cut, mask[one], (ground_truth.shape[2], ground_truth.shape[3]))


def sums_by_sigma(values: Tensor, counted: Tensor, sigma: Tensor) -> Tensor:
    """Sum and number of the values of those samples that count, in each bin of sigma, (`SIGMA_BINS`, 2)."""
    bins = (sigma * SIGMA_BINS).long().clamp(0, SIGMA_BINS - 1)
    sums = values.new_zeros(SIGMA_BINS, 2)
    return sums.index_add(0, bins, torch.stack([values * counted, counted.to(values)], dim=1))
