"""XFeat (Potje et al., CVPR 2024): learned keypoints and descriptors, computed with NumPy.

The network is small: convolutions as matrix products take less than a second for a picture of a megapixel on two cores.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from refgc.imaging.arrays import Bytes, Floats, Size, size_of

# As published: the network's cells, the least score of a keypoint, and the window of non-maximum suppression.
CELL = 8
LEAST_SCORE = 0.05
SUPPRESSION = 5
# Both sides are resized to multiples of this, the network's coarsest step.
STEP = 32
BATCH_NORM_EPSILON = 1e-5
# Bytes of one strip of unfolded neighbourhoods, so that they stay in the processor's cache.
STRIP_BYTES = 8_000_000

Weights = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class LearnedFeatures:
    """Keypoints with descriptors, the surest first.

    Attributes:
        points: (n, 2), (x, y) in pixels.
        scores: (n,), above 0.
        descriptors: (n, 64), of unit length.
        size: (width, height) of the picture.
    """

    points: Floats
    scores: Floats
    descriptors: Floats
    size: Size


def find_learned_features(pixels: Bytes, weights: Weights, limit: int, mask: Bytes | None = None) -> LearnedFeatures:
    """Keypoints and descriptors of a picture.

    Args:
        pixels: uint8 RGB (height, width, 3). As in training, the network sees the mean of the channels, not their luma.
        weights: of XFeat, by the names of the published file.
        limit: the largest number of keypoints.
        mask: uint8 (height, width), 0 where no features are wanted; None takes them everywhere.
    """
    width, height = (max(STEP, side // STEP * STEP) for side in size_of(pixels))
    grey = pixels.mean(axis=2, dtype=np.float32)
    picture = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
    dense, logits, reliability = _network(picture[None], weights)
    dense /= np.linalg.norm(dense, axis=0, keepdims=True) + 1e-12
    corners = _keypoint_map(logits)
    largest = cv2.dilate(corners, np.ones((SUPPRESSION, SUPPRESSION), np.uint8))
    chosen = (corners == largest) & (corners > LEAST_SCORE)
    if mask is not None:
        chosen &= cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = np.nonzero(chosen)
    points = np.stack([columns, rows], axis=1).astype(np.float32)
    scores = corners[rows, columns] * _sampled(reliability, points, (width, height), bicubic=False)[:, 0]
    order = np.argsort(-scores, kind="stable")[:limit]
    order = order[scores[order] > 0]
    points = points[order]
    descriptors = _sampled(dense, points, (width, height), bicubic=True)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True) + 1e-12
    factor = np.array(size_of(pixels), np.float32) / np.array([width, height], np.float32)
    return LearnedFeatures(
        # Pixel centres are at whole numbers in both sizes.
        ((points + np.float32(0.5)) * factor - np.float32(0.5)).astype(np.float32),
        scores[order].astype(np.float32),
        descriptors,
        size_of(pixels),
    )


def _network(picture: Floats, weights: Weights) -> tuple[Floats, Floats, Floats]:
    """Descriptors (64, rows, columns), keypoint logits (65, rows, columns) and reliability (1, rows, columns) of cells.

    `picture` is (1, height, width); rows and columns are an eighth of its sides.
    """
    picture = (picture - picture.mean()) / np.sqrt(picture.var() + BATCH_NORM_EPSILON)

    def block(x: Floats, name: str, strides: tuple[int, ...]) -> Floats:
        for number, stride in enumerate(strides):
            x = _convolved(x, *_folded(weights, f"{name}.{number}"), stride)
        return x

    height, width = picture.shape[1:]
    quarter = picture.reshape(1, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
    skipped = _convolved(quarter, weights["skip1.1.weight"], weights["skip1.1.bias"], rectified=False)
    x = block(picture, "block1", (1, 2, 1, 2))
    x = block(x + skipped, "block2", (1, 1))
    fine = block(x, "block3", (2, 1, 1))
    middle = block(fine, "block4", (2, 1, 1))
    coarse = block(middle, "block5", (2, 1, 1, 1))
    x = fine + _enlarged(middle, size_of(fine[0])) + _enlarged(coarse, size_of(fine[0]))
    x = block(x, "block_fusion", (1, 1))
    dense = _convolved(x, weights["block_fusion.2.weight"], weights["block_fusion.2.bias"], rectified=False)
    x = block(dense, "heatmap_head", (1, 1))
    x = _convolved(x, weights["heatmap_head.2.weight"], weights["heatmap_head.2.bias"], rectified=False)
    reliability = np.asarray(1.0 / (1.0 + np.exp(-x)), np.float32)
    # Each cell's pixels as channels.
    cells = picture.reshape(height // CELL, CELL, width // CELL, CELL).transpose(1, 3, 0, 2)
    x = np.ascontiguousarray(cells.reshape(CELL * CELL, height // CELL, width // CELL))
    x = block(x, "keypoint_head", (1, 1, 1))
    logits = _convolved(x, weights["keypoint_head.3.weight"], weights["keypoint_head.3.bias"], rectified=False)
    return dense, logits, reliability


def _folded(weights: Weights, name: str) -> tuple[Floats, Floats]:
    """Kernel and bias of a layer, its batch normalisation folded in."""
    kernel = weights[f"{name}.layer.0.weight"]
    deviation = np.sqrt(weights[f"{name}.layer.1.running_var"] + BATCH_NORM_EPSILON)
    return kernel / deviation[:, None, None, None], -weights[f"{name}.layer.1.running_mean"] / deviation


def _convolved(x: Floats, kernel: Floats, bias: Floats, stride: int = 1, *, rectified: bool = True) -> Floats:
    """A convolution with zero padding that keeps the size (of 1x1 or 3x3), and a ReLU.

    Args:
        x: (channels, height, width).
        kernel: (outputs, channels, side, side).
        bias: (outputs,).
        stride: steps between outputs.
        rectified: whether the ReLU follows.
    """
    outputs, channels, side, _ = kernel.shape
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    result = np.empty((outputs, height, width), np.float32)
    matrix = np.ascontiguousarray(kernel.reshape(outputs, -1), np.float32)
    padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    rows_at_once = max(1, STRIP_BYTES // (4 * channels * side * side * width))
    for top in range(0, height, rows_at_once):
        rows = min(rows_at_once, height - top)
        unfolded = np.empty((channels, side, side, rows, width), np.float32)
        for dy in range(side):
            first = top * stride + dy
            for dx in range(side):
                unfolded[:, dy, dx] = padded[
                    :, first : first + (rows - 1) * stride + 1 : stride, dx : dx + (width - 1) * stride + 1 : stride
                ]
        product = matrix @ unfolded.reshape(channels * side * side, rows * width) + bias[:, None]
        if rectified:
            np.maximum(product, 0.0, out=product)
        result[:, top : top + rows] = product.reshape(outputs, rows, width)
    return result


def _enlarged(x: Floats, size: Size) -> Floats:
    return np.stack([cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in x])


def _keypoint_map(logits: Floats) -> Floats:
    """The probability of a keypoint at each pixel; the last of the 65 channels stands for none in the cell."""
    shifted = np.exp(logits - logits.max(axis=0, keepdims=True))
    share = (shifted / shifted.sum(axis=0, keepdims=True))[:-1]
    _, rows, columns = share.shape
    pixels = share.reshape(CELL, CELL, rows, columns).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(pixels.reshape(rows * CELL, columns * CELL))


def _sampled(field: Floats, points: Floats, frame: Size, *, bicubic: bool) -> Floats:
    """A field (channels, rows, columns) at points (n, 2) of a frame, zero beyond its border: (n, channels).

    Points are mapped as in training, by the ratio of the field's side to the frame's side minus one.
    """
    channels, rows, columns = field.shape
    scale = np.array([columns / (frame[0] - 1), rows / (frame[1] - 1)], np.float32)
    position = points * scale - np.float32(0.5)
    base = np.floor(position).astype(np.int64)
    fraction = position - base
    taps = range(-1, 3) if bicubic else range(2)
    weigh = _cubic if bicubic else _linear
    total = np.zeros((len(points), channels), np.float32)
    for dy in taps:
        for dx in taps:
            x, y = base[:, 0] + dx, base[:, 1] + dy
            known = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            weight = weigh(fraction[:, 0] - dx) * weigh(fraction[:, 1] - dy) * known
            total += weight[:, None] * field[:, y.clip(0, rows - 1), x.clip(0, columns - 1)].T
    return total


def _linear(distance: Floats) -> Floats:
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(distance)), np.float32)


def _cubic(distance: Floats, a: float = -0.75) -> Floats:
    """The cubic convolution kernel of Keys (1981)."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0.0)), np.float32)
