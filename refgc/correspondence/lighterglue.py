"""LighterGlue: LightGlue (Lindenberger et al., ICCV 2023) at the size trained for XFeat, computed with NumPy.

Layers of self-attention within each picture and of cross-attention between both refine the descriptors; then every pair
of keypoints gets a probability. All layers and all keypoints are computed; nothing is pruned.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import scipy  # imports a part of it at its first use: the start of the page need not wait for that
from numpy.typing import NDArray

from refgc.correspondence.xfeat import LearnedFeatures
from refgc.imaging.arrays import Floats, Size

LAYERS = 6
# As published: a match has at least this probability.
LEAST_PROBABILITY = 0.1
LAYER_NORM_EPSILON = 1e-5
# Queries whose attention is computed at a time.
QUERIES = 128
# Exponents below this are raised to it. Beside the largest, which is 0, e^-50 is far below the rounding of 32 bits, and
# smaller powers end in denormal numbers, with which processors calculate several times more slowly.
LEAST_EXPONENT = np.float32(-50.0)

Weights = Mapping[str, Floats]


def match_learned_features(
    first: LearnedFeatures, second: LearnedFeatures, weights: Weights
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Mutual best matches.

    Args:
        first: features of one picture.
        second: features of the other.
        weights: of LighterGlue, by the names of the published file.

    Returns:
        Indices into `first` (n,), into `second` (n,), and the probabilities (n,) in [0, 1] of the matches.
    """
    if len(first.points) == 0 or len(second.points) == 0:
        nothing = np.zeros(0, np.intp)
        return nothing, nothing, np.zeros(0, np.float32)
    states = [_linear(features.descriptors, weights, "matcher.input_proj") for features in (first, second)]
    turns = [_rotation(one.points, one.size, weights["matcher.posenc.Wr.weight"]) for one in (first, second)]
    # The two pictures are worked on side by side.
    with ThreadPoolExecutor(2) as threads:
        for layer in range(LAYERS):
            name = f"matcher.transformers.{layer}"
            attend = partial(_self_attended, weights=weights, name=f"{name}.self_attn")
            states = list(threads.map(attend, states, turns))
            attend = partial(_cross_attended, weights=weights, name=f"{name}.cross_attn")
            keys = [_linear(x, weights, f"{name}.cross_attn.to_qk") for x in states]
            states = list(threads.map(attend, states, states[::-1], keys, keys[::-1]))
        return _assigned(states[0], states[1], weights, f"matcher.log_assignment.{LAYERS - 1}", threads)


def _rotation(points: Floats, size: Size, frequencies: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine (n, dimension) of the rotary encoding of positions."""
    middle = np.array(size, np.float32) / 2
    angles = ((points - middle) / middle.max()) @ frequencies.T
    doubled = np.repeat(angles, 2, axis=1)
    return np.cos(doubled), np.sin(doubled)


def _rotated(x: Floats, turn: tuple[Floats, Floats]) -> Floats:
    pairs = x.reshape(len(x), -1, 2)
    other = np.stack([-pairs[..., 1], pairs[..., 0]], axis=2).reshape(x.shape)
    return x * turn[0] + other * turn[1]


def _self_attended(x: Floats, turn: tuple[Floats, Floats], *, weights: Weights, name: str) -> Floats:
    projected = _linear(x, weights, f"{name}.Wqkv").reshape(len(x), -1, 3)
    query, key = _rotated(projected[..., 0], turn), _rotated(projected[..., 1], turn)
    message = _linear(_attended(query, key, projected[..., 2]), weights, f"{name}.out_proj")
    return x + _feed_forward(np.concatenate([x, message], axis=1), weights, name)


def _cross_attended(x: Floats, other: Floats, query: Floats, key: Floats, *, weights: Weights, name: str) -> Floats:
    value = _linear(other, weights, f"{name}.to_v")
    message = _linear(_attended(query, key, value), weights, f"{name}.to_out")
    return x + _feed_forward(np.concatenate([x, message], axis=1), weights, name)


def _attended(query: Floats, key: Floats, value: Floats) -> Floats:
    """Scaled dot-product attention (queries, channels), some queries at a time so that they stay in the cache."""
    query = query * np.float32(query.shape[1] ** -0.5)
    key = np.ascontiguousarray(key.T)
    # A last column of ones sums the weights in the same product.
    value = np.concatenate([value, np.ones((len(value), 1), np.float32)], axis=1)
    result = np.empty((len(query), value.shape[1]), np.float32)
    for start in range(0, len(query), QUERIES):
        rows = slice(start, start + QUERIES)
        weight = query[rows] @ key
        weight -= weight.max(axis=1, keepdims=True)
        np.maximum(weight, LEAST_EXPONENT, out=weight)
        np.exp(weight, out=weight)
        np.matmul(weight, value, out=result[rows])
    return result[:, :-1] / result[:, -1:]


def _feed_forward(x: Floats, weights: Weights, name: str) -> Floats:
    x = _linear(x, weights, f"{name}.ffn.0")
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + np.float32(LAYER_NORM_EPSILON))
    x = x * weights[f"{name}.ffn.1.weight"] + weights[f"{name}.ffn.1.bias"]
    x = np.asarray(0.5 * x * (1.0 + scipy.special.erf(x * np.float32(0.5**0.5))), np.float32)
    return _linear(x, weights, f"{name}.ffn.3")


def _assigned(
    first: Floats, second: Floats, weights: Weights, name: str, threads: ThreadPoolExecutor
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    projected = [_linear(x, weights, f"{name}.final_proj") * np.float32(x.shape[1] ** -0.25) for x in (first, second)]
    matchable = [scipy.special.expit(_linear(x, weights, f"{name}.matchability")[:, 0]) for x in (first, second)]
    similarity = projected[0] @ projected[1].T
    totals: list[Floats] = list(threads.map(partial(_log_sum_exp, similarity), (1, 0)))
    # The log of the product of both softmaxes and of how matchable both keypoints are.
    score: Floats = np.asarray(2.0 * similarity, np.float32)
    score += (np.log(matchable[0]) - totals[0])[:, None]
    score += np.log(matchable[1]) - totals[1]
    best, best_back = threads.map(partial(_indices_of_largest, score), (1, 0))
    rows = np.arange(len(first))
    probability = np.exp(score[rows, best])
    keep = (best_back[best] == rows) & (probability > LEAST_PROBABILITY)
    return rows[keep], best[keep], np.asarray(probability[keep], np.float32)


def _linear(x: Floats, weights: Weights, name: str) -> Floats:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], np.float32)


def _log_sum_exp(x: Floats, axis: int) -> Floats:
    largest = x.max(axis=axis, keepdims=True)
    powers = np.exp(np.maximum(x - largest, LEAST_EXPONENT))
    return np.asarray(np.log(powers.sum(axis=axis)) + largest.squeeze(axis), np.float32)


def _indices_of_largest(x: Floats, axis: int) -> NDArray[np.intp]:
    return np.asarray(x.argmax(axis=axis), np.intp)
