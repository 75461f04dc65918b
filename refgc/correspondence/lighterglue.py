"""LighterGlue: LightGlue (Lindenberger et al., ICCV 2023) at the size trained for XFeat, computed with NumPy.

Layers of self-attention within each picture and of cross-attention between both refine the descriptors; then every pair
of keypoints gets a probability. All layers and all keypoints are computed; nothing is pruned.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from refgc.correspondence.xfeat import LearnedFeatures
from refgc.imaging.arrays import Floats, Size

LAYERS = 6
# As published: a match has at least this probability.
LEAST_PROBABILITY = 0.1
LAYER_NORM_EPSILON = 1e-5

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
    states, turns = [], []
    for features in (first, second):
        states.append(_linear(features.descriptors, weights, "matcher.input_proj"))
        turns.append(_rotation(features.points, features.size, weights["matcher.posenc.Wr.weight"]))
    for layer in range(LAYERS):
        name = f"matcher.transformers.{layer}"
        states = [
            _self_attended(state, turn, weights, f"{name}.self_attn") for state, turn in zip(states, turns, strict=True)
        ]
        states = _cross_attended(states[0], states[1], weights, f"{name}.cross_attn")
    return _assigned(states[0], states[1], weights, f"matcher.log_assignment.{LAYERS - 1}")


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


def _self_attended(x: Floats, turn: tuple[Floats, Floats], weights: Weights, name: str) -> Floats:
    projected = _linear(x, weights, f"{name}.Wqkv").reshape(len(x), -1, 3)
    query, key = _rotated(projected[..., 0], turn), _rotated(projected[..., 1], turn)
    attention = _softmax((query @ key.T) * np.float32(query.shape[1] ** -0.5))
    message = _linear(attention @ projected[..., 2], weights, f"{name}.out_proj")
    return x + _feed_forward(np.concatenate([x, message], axis=1), weights, name)


def _cross_attended(first: Floats, second: Floats, weights: Weights, name: str) -> list[Floats]:
    keys = [_linear(x, weights, f"{name}.to_qk") for x in (first, second)]
    values = [_linear(x, weights, f"{name}.to_v") for x in (first, second)]
    similarity = (keys[0] @ keys[1].T) * np.float32(keys[0].shape[1] ** -0.5)
    messages = (_softmax(similarity.T.copy()) @ values[0], _softmax(similarity) @ values[1])
    return [
        x + _feed_forward(np.concatenate([x, _linear(message, weights, f"{name}.to_out")], axis=1), weights, name)
        for x, message in ((first, messages[1]), (second, messages[0]))
    ]


def _feed_forward(x: Floats, weights: Weights, name: str) -> Floats:
    x = _linear(x, weights, f"{name}.ffn.0")
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + np.float32(LAYER_NORM_EPSILON))
    x = x * weights[f"{name}.ffn.1.weight"] + weights[f"{name}.ffn.1.bias"]
    x = np.asarray(0.5 * x * (1.0 + erf(x * np.float32(0.5**0.5))), np.float32)
    return _linear(x, weights, f"{name}.ffn.3")


def _assigned(
    first: Floats, second: Floats, weights: Weights, name: str
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    projected = [_linear(x, weights, f"{name}.final_proj") * np.float32(x.shape[1] ** -0.25) for x in (first, second)]
    matchable = [expit(_linear(x, weights, f"{name}.matchability")[:, 0]) for x in (first, second)]
    similarity = projected[0] @ projected[1].T
    probability = _softmax(similarity.T.copy()).T * _softmax(similarity)
    probability *= matchable[0][:, None]
    probability *= matchable[1]
    best = probability.argmax(axis=1)
    rows = np.arange(len(first))
    keep = (probability.argmax(axis=0)[best] == rows) & (probability[rows, best] > LEAST_PROBABILITY)
    return rows[keep], best[keep], np.asarray(probability[rows, best][keep], np.float32)


def _linear(x: Floats, weights: Weights, name: str) -> Floats:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], np.float32)


def _softmax(x: Floats) -> Floats:
    """Over the last axis, in place."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x
