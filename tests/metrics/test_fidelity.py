"""PSNR and SSIM: equal to scikit-image, to the formulas written out, and over the parts of the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refgc.errors import InputError
from refgc.imaging.image import Image, Mask
from refgc.metrics.fidelity import BORDER, Psnr, Ssim, ssim_map
from refgc.metrics.registry import score
from refgc.metrics.sample import Sample

BOTH = (Psnr(), Ssim())


def pair(seed: int = 0, width: int = 90, height: int = 70) -> tuple[Image, Image]:
    """A soft picture, and the same with noise."""
    random = np.random.default_rng(seed)
    truth = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 2)
    noisy = np.clip(truth.astype(int) + random.integers(-20, 21, truth.shape), 0, 255).astype(np.uint8)
    return Image(noisy), Image(truth)


def mask(truth: Image) -> Mask:
    values = np.zeros(truth.pixels.shape[:2], np.float32)
    values[20:45, 30:60] = 1
    values[45, 30:60] = 0.5
    values[46, 30:60] = 0.49
    return Mask(values)


def map_by_hand(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """SSIM around each pixel as Wang et al. write it, by OpenCV's filter."""
    window = cv2.getGaussianKernel(11, 1.5)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.sepFilter2D(values, cv2.CV_64F, window, window, borderType=cv2.BORDER_REFLECT))

    x, y = result.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    maps = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return np.asarray(maps.mean(axis=2))


@pytest.mark.parametrize("seed", range(3))
def test_whole_pictures_have_the_figures_of_scikit_image(seed: int) -> None:
    result, truth = pair(seed)
    figures = score(BOTH, Sample(result, truth))
    ssim = structural_similarity(
        truth.pixels,
        result.pixels,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    psnr = peak_signal_noise_ratio(truth.pixels, result.pixels, data_range=255)
    assert figures == {"psnr": pytest.approx(psnr, abs=1e-9), "ssim": pytest.approx(ssim, abs=1e-9)}


def test_the_map_is_that_of_the_paper() -> None:
    result, truth = pair()
    by_hand = map_by_hand(result.pixels, truth.pixels)
    assert np.abs(ssim_map(result.pixels, truth.pixels) - by_hand).max() < 1e-9


def test_parts_are_means_over_their_pixels() -> None:
    result, truth = pair()
    given = mask(truth)
    figures = score(BOTH, Sample(result, truth, given))
    inside = given.values >= 0.5
    errors = ((result.pixels.astype(float) - truth.pixels) ** 2).mean(axis=2)
    similarity = map_by_hand(result.pixels, truth.pixels)
    inner = np.zeros_like(inside)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    assert figures["psnr_inside"] == pytest.approx(10 * np.log10(255**2 / errors[inside].mean()), abs=1e-9)
    assert figures["psnr_outside"] == pytest.approx(10 * np.log10(255**2 / errors[~inside].mean()), abs=1e-9)
    assert figures["ssim_inside"] == pytest.approx(similarity[inside].mean(), abs=1e-9)
    assert figures["ssim_outside"] == pytest.approx(similarity[~inside & inner].mean(), abs=1e-9)


def test_equal_pictures_have_the_best_figures() -> None:
    _, truth = pair()
    figures = score(BOTH, Sample(truth, truth, mask(truth)))
    assert {name: figure for name, figure in figures.items() if name.startswith("psnr")} == {
        "psnr": 100,
        "psnr_inside": 100,
        "psnr_outside": 100,
    }
    assert figures["ssim"] == figures["ssim_inside"] == figures["ssim_outside"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("value", "absent"), [(0.0, "inside"), (1.0, "outside")])
def test_a_region_without_pixels_has_no_figure(value: float, absent: str) -> None:
    result, truth = pair()
    figures = score(BOTH, Sample(result, truth, Mask(np.full(truth.pixels.shape[:2], value, np.float32))))
    assert f"psnr_{absent}" not in figures
    assert f"ssim_{absent}" not in figures
    assert len(figures) == 4


def test_an_object_in_the_border_alone_has_no_ssim() -> None:
    result, truth = pair()
    values = np.zeros(truth.pixels.shape[:2], np.float32)
    values[:BORDER] = 1
    assert "ssim_inside" not in score(BOTH, Sample(result, truth, Mask(values)))


def test_without_a_truth_there_is_no_figure() -> None:
    result, reference = pair()
    assert score(BOTH, Sample(result, reference=reference)) == {}


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    small = Image(np.zeros((10, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"^The result is 40x10 pixels, and SSIM needs 11 on each side"):
        Ssim()(Sample(small, small))


def test_pictures_and_masks_of_other_sizes_are_refused() -> None:
    result, truth = pair()
    other = pair(width=80)[0]
    with pytest.raises(
        InputError, match=r"^The truth is 80x70 pixels and the result 90x70; compare what has one size.$"
    ):
        Sample(result, other)
    with pytest.raises(InputError, match=r"^The mask of the truth is 80x70 pixels and the result 90x70;"):
        Sample(result, truth, mask(other))
    with pytest.raises(InputError, match=r"^The mask of the reference is 90x70 pixels and the reference 80x70;"):
        Sample(result, reference=other, reference_mask=mask(truth))
