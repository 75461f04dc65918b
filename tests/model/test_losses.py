"""The terms of the objective on inputs made so that their values are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refgc.model.attention import AlignmentMaps
from refgc.model.losses import (
    attention_alignment_loss,
    flow_matching_loss,
    flow_matching_target,
    frequency_split,
    high_frequency_loss,
    low_frequency_distances,
    low_frequency_loss,
    mask_at,
    min_max_normalised,
    noised_latents,
    predicted_clean_latents,
    sigma_weights,
    squared_high_frequency_loss,
    squared_low_frequency_loss,
)
from tests.support.latents import random_latents, rectangle


def test_noise_is_mixed_in_by_each_samples_sigma() -> None:
    clean, noise = torch.full((3, 2, 2, 2), 4.0), torch.full((3, 2, 2, 2), -2.0)
    noisy = noised_latents(clean, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert noisy[:, 0, 0, 0].tolist() == [4.0, 2.5, -2.0]
    assert (noisy == noisy[:, :1, :1, :1]).all()


def test_sigma_keeps_its_precision_beside_half_precision_latents() -> None:
    ones = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    assert noised_latents(ones, 0 * ones, torch.tensor([0.9995])).item() == pytest.approx(0.0005, rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(sigma=st.floats(0, 1), seed=st.integers(0, 1000))
def test_the_true_velocity_leads_back_to_the_clean_latents(sigma: float, seed: int) -> None:
    clean, noise = random_latents(2, 3, 4, 5, seed=seed), random_latents(2, 3, 4, 5, seed=seed + 1)
    sigmas = torch.full((2,), sigma, dtype=torch.float64)
    velocity = flow_matching_target(clean, noise)
    noisy = noised_latents(clean, noise, sigmas)
    torch.testing.assert_close(predicted_clean_latents(noisy, velocity, sigmas), clean)
    torch.testing.assert_close(noisy + (1 - sigma) * velocity, noise)


def test_flow_matching_is_the_mean_square_of_the_velocitys_error() -> None:
    clean, noise = random_latents(2, 3, 4, 5), random_latents(2, 3, 4, 5, seed=1)
    assert flow_matching_loss(noise - clean, clean, noise).item() == 0
    assert flow_matching_loss(noise - clean + 3, clean, noise).item() == pytest.approx(9)
    assert flow_matching_loss(clean.bfloat16(), clean.bfloat16(), noise.bfloat16()).dtype == torch.float32


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 20), width=st.integers(1, 20), sigma=st.floats(0.1, 5), constant=st.floats(-10, 10))
def test_a_constant_is_all_low_to_its_very_edge(height: int, width: int, sigma: float, constant: float) -> None:
    low, high = frequency_split(torch.full((1, 2, height, width), constant, dtype=torch.float64), sigma)
    torch.testing.assert_close(low, torch.full_like(low, constant))
    torch.testing.assert_close(high, torch.zeros_like(high), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(sigma=st.floats(0.1, 5), seed=st.integers(0, 1000))
def test_low_and_high_add_up(sigma: float, seed: int) -> None:
    latents = random_latents(2, 3, 7, 6, seed=seed)
    low, high = frequency_split(latents, sigma)
    assert torch.equal(high, latents - low)
    torch.testing.assert_close(low + high, latents, rtol=0, atol=1e-14)


def test_the_split_is_a_gaussian_in_both_directions() -> None:
    impulse = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    impulse[0, 0, 20, 20] = 1
    low, _ = frequency_split(impulse, 2.0)
    distances = torch.arange(-20, 21, dtype=torch.float64)
    density = torch.exp(-(distances**2) / (2 * 2.0**2)) / (2.0 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(low[0, 0], torch.outer(density, density), rtol=0, atol=1e-5)


def test_waves_are_damped_by_the_gaussians_frequency_response() -> None:
    rows = torch.arange(64, dtype=torch.float64)
    middle = slice(16, 48)
    for period in (4, 8, 32):
        wave = torch.cos(2 * math.pi * rows / period)[None, None, :, None].expand(1, 1, 64, 8)
        low, _ = frequency_split(wave, 1.5)
        kept = math.exp(-((2 * math.pi * 1.5 / period) ** 2) / 2)
        torch.testing.assert_close(low[:, :, middle], kept * wave[:, :, middle], rtol=0, atol=2e-4)


def test_channels_and_samples_do_not_mix() -> None:
    latents = random_latents(2, 3, 6, 6)
    low, _ = frequency_split(latents, 1.0)
    alone, _ = frequency_split(latents[1:, 2:], 1.0)
    torch.testing.assert_close(low[1:, 2:], alone)


def test_an_object_counts_in_flow_matching_as_much_as_its_surroundings() -> None:
    """An object on an eighth of the picture counts eightfold there; all else as before."""
    clean, noise = random_latents(1, 3, 8, 8), random_latents(1, 3, 8, 8, seed=1)
    mask = rectangle(64, 64, slice(0, 32), slice(0, 16))
    inside = mask_at(mask, (8, 8)).double()
    wrong_inside, wrong_outside = noise - clean + 2 * inside, noise - clean + 2 * (1 - inside)
    assert flow_matching_loss(wrong_inside, clean, noise, mask).item() == pytest.approx(4)
    assert flow_matching_loss(wrong_outside, clean, noise, mask).item() == pytest.approx(4 * 7 / 8)
    assert flow_matching_loss(wrong_inside, clean, noise).item() == pytest.approx(4 / 8)
    nothing = flow_matching_loss(wrong_outside, clean, noise, 0 * mask)
    assert nothing.item() == pytest.approx(flow_matching_loss(wrong_outside, clean, noise).item())


EVERYWHERE = torch.ones(1, 1, 16, 16)


def test_low_frequencies_see_a_shift_and_no_checkerboard() -> None:
    truth = random_latents(1, 2, 16, 16)
    checkerboard = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert low_frequency_loss(truth - 0.5, truth, EVERYWHERE).item() == pytest.approx(0.5)
    assert squared_low_frequency_loss(truth - 0.5, truth, EVERYWHERE).item() == pytest.approx(0.25)
    assert low_frequency_loss(truth + checkerboard, truth, EVERYWHERE).item() < 0.1
    difference = frequency_split(truth.flip(2))[0] - frequency_split(truth)[0]
    found = low_frequency_loss(truth.flip(2), truth, EVERYWHERE)
    assert found.item() == pytest.approx(difference.abs().mean().item())
    squared = squared_low_frequency_loss(truth.flip(2), truth, EVERYWHERE)
    assert squared.item() == pytest.approx(difference.square().mean().item())


def test_low_frequencies_are_compared_on_the_object_alone() -> None:
    truth, predicted = random_latents(2, 2, 16, 16), random_latents(2, 2, 16, 16, seed=1).requires_grad_()
    mask = rectangle(128, 128, slice(0, 64), slice(0, 36), batch=2)
    distances = low_frequency_distances(predicted, truth, mask)
    difference = frequency_split(predicted - truth)[0].abs().mean(dim=1)[:, :8]
    # The fifth column is half inside.
    expected = (difference[:, :, :4].sum(dim=(1, 2)) + 0.5 * difference[:, :, 4].sum(dim=1)) / (8 * 4.5)
    torch.testing.assert_close(distances, expected)
    (gradient,) = torch.autograd.grad(distances.sum(), predicted)
    assert gradient[:, :, :8, :4].abs().min() > 0
    assert gradient[:, :, :, 14:].abs().max() == 0


def test_without_an_object_there_is_no_low_frequency_loss() -> None:
    predicted = random_latents(2, 2, 8, 8).requires_grad_()
    mask = rectangle(8, 8, slice(2, 6), slice(2, 6), batch=2)
    mask[1] = 0
    low_frequency_loss(predicted, torch.zeros_like(predicted), mask).backward()
    assert predicted.grad is not None
    assert predicted.grad[0].abs().max() > 0
    assert predicted.grad[1].abs().max() == 0


def test_high_frequencies_compare_statistics_wherever_the_object_is() -> None:
    """The same texture elsewhere, in a picture of another size and with other surroundings, is no loss."""
    texture = random_latents(1, 3, 12, 10)
    predicted, reference = torch.zeros(1, 3, 40, 40).double(), torch.zeros(1, 3, 48, 36).double()
    predicted[:, :, 4:16, 20:30] = texture
    reference[:, :, 30:42, 8:18] = texture
    predicted_mask = rectangle(40, 40, slice(4, 16), slice(20, 30))
    reference_mask = rectangle(48, 36, slice(30, 42), slice(8, 18))
    # Far from both objects, beyond the Gaussian's reach.
    predicted[:, :, 32:, :10] = 7
    loss = high_frequency_loss(predicted, reference, predicted_mask, reference_mask)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    weaker = high_frequency_loss(0.5 * predicted, reference, predicted_mask, reference_mask)
    _, high = frequency_split(reference)
    inside = high[:, :, 30:42, 8:18].flatten(2)
    deviation = inside.std(dim=2, correction=0)
    expected = (0.5 * inside.mean(dim=2)).abs() + 0.5 * deviation
    assert weaker.item() == pytest.approx(expected.mean().item(), rel=1e-4)
    squared = squared_high_frequency_loss(0.5 * predicted, reference, predicted_mask, reference_mask)
    expected = (0.5 * inside.mean(dim=2)).square() + (0.5 * deviation).square()
    assert squared.item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_high_frequencies_count_less_the_noisier_a_sample_is() -> None:
    sigma = torch.tensor([0.0, 0.5, 0.9, 1.0])
    torch.testing.assert_close(sigma_weights(sigma, 2.0), torch.tensor([1.0, 0.25, 0.01, 0.0]))
    assert sigma_weights(sigma, 0.0).tolist() == [1.0] * 4


def test_high_frequencies_outside_of_the_object_get_no_gradient_from_afar() -> None:
    predicted = random_latents(1, 2, 40, 40).requires_grad_()
    mask = rectangle(40, 40, slice(0, 8), slice(0, 8))
    high_frequency_loss(predicted, random_latents(1, 2, 40, 40, seed=1) * 3, mask, mask).backward()
    assert predicted.grad is not None
    assert predicted.grad[:, :, :8, :8].abs().min() > 0
    assert predicted.grad[:, :, 17:, :].abs().max() == 0


def test_masks_of_pixels_and_of_latents_mean_the_same() -> None:
    predicted, reference = random_latents(2, 2, 8, 8), random_latents(2, 2, 8, 8, seed=1)
    latents_mask = rectangle(8, 8, slice(2, 6), slice(1, 5), batch=2)
    pixels_mask = latents_mask.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    of_latents = high_frequency_loss(predicted, reference, latents_mask, latents_mask)
    of_pixels = high_frequency_loss(predicted, reference, pixels_mask, pixels_mask)
    torch.testing.assert_close(of_pixels, of_latents)


def test_a_mask_is_averaged_over_areas() -> None:
    mask = rectangle(16, 16, slice(0, 8), slice(0, 4))
    assert mask_at(mask, (2, 2))[0, 0].tolist() == [[0.5, 0], [0, 0]]
    assert mask_at(mask, (16, 16)).equal(mask)


@pytest.mark.parametrize("empty", ["predicted", "reference", "both"])
def test_without_an_object_there_is_no_high_frequency_loss(empty: str) -> None:
    predicted = random_latents(1, 2, 8, 8).requires_grad_()
    reference = random_latents(1, 2, 8, 8, seed=1)
    nothing, something = torch.zeros(1, 1, 8, 8), rectangle(8, 8, slice(2, 6), slice(2, 6))
    loss = high_frequency_loss(
        predicted,
        reference,
        something if empty == "reference" else nothing,
        something if empty == "predicted" else nothing,
    )
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert predicted.grad.abs().max() == 0


def test_a_sample_without_an_object_leaves_the_others_their_loss() -> None:
    predicted, reference = random_latents(2, 2, 8, 8), random_latents(2, 2, 8, 8, seed=1)
    mask = rectangle(8, 8, slice(2, 6), slice(2, 6), batch=2)
    alone = high_frequency_loss(predicted[:1], reference[:1], mask[:1], mask[:1])
    mask[1] = 0
    torch.testing.assert_close(high_frequency_loss(predicted, reference, mask, mask), alone / 2)


def test_flat_latents_have_a_finite_gradient() -> None:
    flat = torch.ones(1, 2, 8, 8, requires_grad=True)
    mask = torch.ones(1, 1, 8, 8)
    high_frequency_loss(flat, random_latents(1, 2, 8, 8), mask, mask).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_the_stretch_to_one_forgets_scale_and_shift(factor: float, shift: float, seed: int) -> None:
    values = random_latents(3, 11, seed=seed)
    stretched = min_max_normalised(values)
    assert stretched.amin(dim=1).tolist() == [0, 0, 0]
    assert stretched.amax(dim=1).tolist() == [1, 1, 1]
    torch.testing.assert_close(min_max_normalised(values * factor + shift), stretched, rtol=0, atol=1e-6)


OBJECT = rectangle(8, 8, slice(0, 4), slice(0, 8))
ON_OBJECT = torch.tensor([[1.0] * 8 + [0.0] * 8])


def test_alignment_is_perfect_when_each_picture_keeps_to_its_place() -> None:
    maps = AlignmentMaps(reference=0.3 + 0.01 * ON_OBJECT, generated=5 - 2 * ON_OBJECT)
    assert attention_alignment_loss([maps], OBJECT, (8, 8)).item() == pytest.approx(0, abs=1e-10)
    swapped = AlignmentMaps(reference=maps.generated, generated=maps.reference)
    assert attention_alignment_loss([swapped], OBJECT, (8, 8)).item() == pytest.approx(2, rel=1e-4)


def test_alignment_averages_squares_over_places_samples_and_modules() -> None:
    half_wrong = AlignmentMaps(
        # Outside of the object, eight tokens: four at 0.5 of the stretched range, four at 0.
        reference=torch.tensor([[2.0] * 8 + [1.0] * 4 + [0.0] * 4]),
        generated=1 - ON_OBJECT,
    )
    right = AlignmentMaps(reference=ON_OBJECT, generated=1 - ON_OBJECT)
    assert attention_alignment_loss([half_wrong], OBJECT, (8, 8)).item() == pytest.approx(0.125)
    assert attention_alignment_loss([half_wrong, right], OBJECT, (8, 8)).item() == pytest.approx(0.0625)
    both = AlignmentMaps(
        torch.cat([half_wrong.reference, right.reference]), torch.cat([half_wrong.generated, right.generated])
    )
    loss = attention_alignment_loss([both], OBJECT.expand(2, -1, -1, -1), (8, 8))
    assert loss.item() == pytest.approx(0.0625)


def test_a_token_on_the_edge_counts_by_its_share() -> None:
    """Of four tokens in a row the second is a quarter inside; for the HRRI's map three quarters of it are wrong."""
    mask = rectangle(16, 64, slice(0, 16), slice(0, 20))
    maps = AlignmentMaps(reference=torch.tensor([[1.0, 1, 0, 0]]), generated=torch.tensor([[0.0, 0, 1, 1]]))
    assert attention_alignment_loss([maps], mask, (2, 8)).item() == pytest.approx(0.75 / 2.75)


@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_a_mask_of_nothing_or_everything_drops_its_half(filled: float) -> None:
    reference = random_latents(1, 16).requires_grad_()
    generated = random_latents(1, 16, seed=1).requires_grad_()
    mask = torch.full((1, 1, 8, 8), filled)
    loss = attention_alignment_loss([AlignmentMaps(reference, generated)], mask, (8, 8))
    loss.backward()
    left = generated if filled else reference
    dropped = reference if filled else generated
    assert loss.item() == pytest.approx(min_max_normalised(left).square().mean().item())
    assert dropped.grad is not None
    assert left.grad is not None
    assert dropped.grad.abs().max() == 0
    assert left.grad.abs().max() > 0


def test_even_attention_has_no_loss_and_a_finite_gradient() -> None:
    even = torch.full((1, 16), 0.01, requires_grad=True)
    loss = attention_alignment_loss([AlignmentMaps(even, even)], OBJECT, (8, 8))
    loss.backward()
    assert loss.item() == 0
    assert even.grad is not None
    assert even.grad.isfinite().all()


def test_no_maps_no_alignment_loss() -> None:
    assert attention_alignment_loss([], OBJECT, (8, 8)).item() == 0


def test_gradients_of_the_maps_are_those_of_finite_differences() -> None:
    reference, generated = random_latents(2, 16).requires_grad_(), random_latents(2, 16, seed=1).requires_grad_()
    mask = rectangle(64, 64, slice(0, 40), slice(8, 48), batch=2).double()
    assert torch.autograd.gradcheck(
        lambda *maps: attention_alignment_loss([AlignmentMaps(*maps)], mask, (8, 8)), (reference, generated)
    )
