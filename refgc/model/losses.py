"""The terms of the objective that RefGC-SR2 is trained with; `refgc.model.objective` adds them up.

Everything is a pure function of latents (batch, channels, height, width), as the transformer knows them: shifted and
scaled by the VAE's constants; `refgc.model.tokens.unpack` makes them of tokens. Masks are (batch, 1, height, width) in
[0, 1], 1 on the object, at the size of the pixels or of the latents. Losses are means over the batch, computed and
returned in single precision, or in the inputs' own if that is higher.

The paper fixes which quantities are compared, where and by which norm. The width of its Gaussian is not known to us;
here it is two latents. Beside the paper's L1 distances of the frequency terms there are squares, under names of their
own.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

from refgc.model.attention import AlignmentMaps
from refgc.model.objective_settings import GAUSSIAN_SIGMA, Distance
from refgc.model.tokens import PATCH

# The Gaussian is cut off at this many standard deviations, where its weight is below 4e-4 of the peak.
GAUSSIAN_REACH = 4.0
# Keeps the derivative of the square root finite where all values are equal. Latents have a variance of about 1.
LEAST_VARIANCE = 1e-6


def noised_latents(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """The straight path of rectified flow (Liu et al., 2022), z_t = (1 - sigma) z + sigma noise.

    Args:
        clean: z, (batch, ...).
        noise: of the same shape, standard normal.
        sigma: (batch,), in [0, 1]; 0 is clean, 1 is noise.

    Returns:
        z_t, in the highest precision among the three.
    """
    sigma = _for_each_sample(sigma, clean.ndim)
    return (1 - sigma) * clean + sigma * noise


def flow_matching_target(clean: Tensor, noise: Tensor) -> Tensor:
    """The velocity along that path, v = noise - z, the same at every sigma."""
    return noise - clean


def flow_matching_loss(velocity: Tensor, clean: Tensor, noise: Tensor, object_mask: Tensor | None = None) -> Tensor:
    """L_FM: the mean square of the predicted velocity's error (Lipman et al., 2022, "Flow Matching").

    Args:
        velocity: the prediction, of any shape; with a mask (batch, channels, height, width).
        clean: z, of the same shape.
        noise: the noise that was mixed with it.
        object_mask: where given, the object's latents count by total area / object area and all others by 1, as in
            ImageCritic, so that a small object counts as much as its surroundings. A sample without an object is not
            weighted.
    """
    errors = (precise(velocity) - flow_matching_target(precise(clean), precise(noise))).square()
    if object_mask is None:
        return errors.mean()
    inside = mask_at(object_mask, _size(errors)).to(errors)
    share = inside.mean(dim=(2, 3), keepdim=True)
    ratio = torch.where(share > 0, 1 / share.clamp_min(torch.finfo(errors.dtype).tiny), 1)
    return (errors * (1 + inside * (ratio - 1))).mean()


def predicted_clean_latents(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The clean latents that the predicted velocity leads to in one step, z0 = z_t - sigma v.

    The velocity's error is multiplied by sigma, so that near sigma = 1 the result is blurred.

    Args:
        noisy: z_t, (batch, ...).
        velocity: of the same shape.
        sigma: (batch,), in [0, 1].
    """
    return noisy - _for_each_sample(sigma, noisy.ndim) * velocity


def frequency_split(latents: Tensor, gaussian_sigma: float = GAUSSIAN_SIGMA) -> tuple[Tensor, Tensor]:
    """The two frequency bands LF(z) = G * z and HF(z) = z - LF(z), each channel on its own.

    The border is padded by replication, so that a constant has no high frequencies at the border either.

    Args:
        latents: (batch, channels, height, width), of any size from 1 x 1.
        gaussian_sigma: standard deviation of the Gaussian, in latents; the paper's is not known to us.

    Returns:
        The low and the high frequencies, each of the shape of `latents`; the second is the difference to the first.
    """
    latents = precise(latents)
    reach = math.ceil(GAUSSIAN_REACH * gaussian_sigma)
    distances = torch.arange(-reach, reach + 1, device=latents.device, dtype=latents.dtype)
    kernel = torch.softmax(-0.5 * (distances / gaussian_sigma) ** 2, dim=0)
    single_channels = latents.flatten(0, 1)[:, None]
    padded = functional.pad(single_channels, (reach, reach, reach, reach), mode="replicate")
    along_rows = functional.conv2d(padded, kernel[None, None, None, :])
    low = functional.conv2d(along_rows, kernel[None, None, :, None]).view_as(latents)
    return low, latents - low


def low_frequency_distances(
    predicted: Tensor,
    ground_truth: Tensor,
    object_mask: Tensor,
    *,
    distance: Distance = "l1",
    gaussian_sigma: float = GAUSSIAN_SIGMA,
) -> Tensor:
    """The mean distance of LF(z0) and LF(z_HRGT) on the object.

    The pictures are split as a whole, so that the split has no border at the object's edge. A latent on the edge counts
    by the share of it that is inside. Without an object the distance is 0 and has no gradient.

    Args:
        predicted: z0, (batch, channels, height, width).
        ground_truth: z_HRGT, of the same shape.
        object_mask: the object in the ground truth.
        distance: absolute values or squares.
        gaussian_sigma: as for `frequency_split`.

    Returns:
        Of each sample, (batch,).
    """
    # The split is linear: one of the difference is the difference of two.
    low, _ = frequency_split(precise(predicted) - precise(ground_truth), gaussian_sigma)
    inside = mask_at(object_mask, _size(low)).to(low)
    return _weighted_mean(_distance(low, distance).mean(dim=1).flatten(1), inside.flatten(1))


def low_frequency_loss(
    predicted: Tensor, ground_truth: Tensor, object_mask: Tensor, *, gaussian_sigma: float = GAUSSIAN_SIGMA
) -> Tensor:
    """L_LF: the mean of `low_frequency_distances` by absolute values."""
    return low_frequency_distances(predicted, ground_truth, object_mask, gaussian_sigma=gaussian_sigma).mean()


def squared_low_frequency_loss(
    predicted: Tensor, ground_truth: Tensor, object_mask: Tensor, *, gaussian_sigma: float = GAUSSIAN_SIGMA
) -> Tensor:
    """The same by squares; not the paper's."""
    return low_frequency_distances(
        predicted, ground_truth, object_mask, distance="square", gaussian_sigma=gaussian_sigma
    ).mean()


def high_frequency_distances(
    predicted: Tensor,
    reference: Tensor,
    predicted_mask: Tensor,
    reference_mask: Tensor,
    *,
    distance: Distance = "l1",
    gaussian_sigma: float = GAUSSIAN_SIGMA,
) -> Tensor:
    """How far mean and standard deviation of HF(z0) on the object are from those of HF(z_HRRI) on it.

    The two pictures show the object from different sides, hence statistics of each channel instead of differences from
    place to place. The distances of the means and of the standard deviations are added and averaged over the channels.
    Without an object in one of the masks the distance is 0 and has no gradient.

    Args:
        predicted: z0, (batch, channels, height, width).
        reference: z_HRRI, (batch, channels, any height, any width).
        predicted_mask: the object in the ground truth, which is where it is to be in z0.
        reference_mask: the object in the HRRI.
        distance: absolute values or squares.
        gaussian_sigma: as for `frequency_split`.

    Returns:
        Of each sample, (batch,).
    """
    _, predicted_high = frequency_split(predicted, gaussian_sigma)
    _, reference_high = frequency_split(reference, gaussian_sigma)
    predicted_weights = mask_at(predicted_mask, _size(predicted)).to(predicted_high)
    reference_weights = mask_at(reference_mask, _size(reference)).to(reference_high)
    predicted_mean, predicted_deviation = _masked_statistics(predicted_high, predicted_weights)
    reference_mean, reference_deviation = _masked_statistics(reference_high, reference_weights)
    distances = _distance(predicted_mean - reference_mean, distance) + _distance(
        predicted_deviation - reference_deviation, distance
    )
    both_show_it = predicted_weights.flatten(1).any(dim=1) & reference_weights.flatten(1).any(dim=1)
    return distances.mean(dim=1) * both_show_it


def high_frequency_loss(
    predicted: Tensor,
    reference: Tensor,
    predicted_mask: Tensor,
    reference_mask: Tensor,
    *,
    gaussian_sigma: float = GAUSSIAN_SIGMA,
) -> Tensor:
    """L_HF: the mean of `high_frequency_distances` by absolute values, all samples alike."""
    return high_frequency_distances(
        predicted, reference, predicted_mask, reference_mask, gaussian_sigma=gaussian_sigma
    ).mean()


def squared_high_frequency_loss(
    predicted: Tensor,
    reference: Tensor,
    predicted_mask: Tensor,
    reference_mask: Tensor,
    *,
    gaussian_sigma: float = GAUSSIAN_SIGMA,
) -> Tensor:
    """The same by squares; not the paper's."""
    return high_frequency_distances(
        predicted, reference, predicted_mask, reference_mask, distance="square", gaussian_sigma=gaussian_sigma
    ).mean()


def sigma_weights(sigma: Tensor, power: float) -> Tensor:
    """What each sample's L_HF counts for, (1 - sigma) ** power.

    Near sigma = 1 a perfect prediction has no high frequencies, because it is the mean over all pictures that are still
    possible. L_HF would pull against L_FM there.

    Args:
        sigma: (batch,), in [0, 1].
        power: at least 0; 0 weighs all alike.
    """
    return (1 - sigma) ** power


def attention_alignment_loss(
    maps: Collection[AlignmentMaps], object_mask: Tensor, latent_size: tuple[int, int]
) -> Tensor:
    """L_aal (ImageCritic, CVPR 2026): the HRRI belongs to the object and the LRGI to everything else.

    Each map of each sample is stretched to [0, 1] by its least and largest value. That of the HRRI should be 0 outside
    of the object, that of the LRGI 0 inside: the weighted mean squares there are added, and averaged over modules and
    samples. ImageCritic's published code weighs a token by 1 or 0; here one on the object's edge counts by the share of
    it that lies inside. A sample with nothing inside, or nothing outside, adds nothing for that half.

    Args:
        maps: of each attention module, as `refgc.model.attention.AttentionRecorder` keeps them; may be none.
        object_mask: the object in the ground truth.
        latent_size: height and width of the noise's latents, even numbers.
    """
    inside = mask_at(object_mask, (latent_size[0] // PATCH, latent_size[1] // PATCH)).flatten(1)
    halves = [
        _weighted_mean(min_max_normalised(values).square(), weights.to(values))
        for one in maps
        for values, weights in ((one.reference, 1 - inside), (one.generated, inside))
    ]
    return 2 * torch.stack(halves).mean() if halves else inside.new_zeros(())


def min_max_normalised(values: Tensor) -> Tensor:
    """Each sample's values stretched to [0, 1] by its least and its largest; all 0 where they are alike.

    Args:
        values: (batch, any number).
    """
    least, largest = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    return (values - least) / (largest - least).clamp_min(torch.finfo(values.dtype).tiny)


def mask_at(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask at another size, each value the mean over the area that it stands for.

    Args:
        mask: (batch, 1, height, width), in [0, 1].
        size: height and width wanted.
    """
    return functional.interpolate(precise(mask), size=size, mode="area")


def _distance(differences: Tensor, distance: Distance) -> Tensor:
    return differences.abs() if distance == "l1" else differences.square()


def _masked_statistics(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of each channel, (batch, channels); finite where all weights are 0."""
    share = weights / weights.sum(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    mean = (share * values).sum(dim=(2, 3), keepdim=True)
    variance = (share * (values - mean).square()).sum(dim=(2, 3))
    return mean.flatten(1), (variance + LEAST_VARIANCE).sqrt()


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Of each sample, (batch,); 0 where all weights are 0."""
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(torch.finfo(weights.dtype).tiny)


def _for_each_sample(sigma: Tensor, dimensions: int) -> Tensor:
    return sigma.view(-1, *[1] * (dimensions - 1))


def precise(tensor: Tensor) -> Tensor:
    """The tensor in single precision, or in its own if that is higher."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _size(latents: Tensor) -> tuple[int, int]:
    return latents.shape[2], latents.shape[3]
