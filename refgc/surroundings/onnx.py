"""Layers written as a model in the format ONNX, which OpenCV's dnn module reads from memory.

ONNX is a protocol buffer (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). So little of it is needed that it is
written here directly, without another library. Numbers of fields and types are those of that file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from refgc.surroundings.ncnn import Layer

IR_VERSION, OPERATOR_SET = 8, 13
FLOAT_TYPE = 1
# Wire types of a protocol buffer.
VARINT, LENGTH, FIXED32 = 0, 2, 5
# Types of an attribute.
FLOAT_ATTRIBUTE, INT_ATTRIBUTE, TEXT_ATTRIBUTE, INTS_ATTRIBUTE = 1, 2, 3, 7


def model_bytes(layers: Iterable[Layer], inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
    """The model of some layers of a network, for pictures of any size.

    Args:
        layers: in an order in which each one's inputs are there; an input layer is passed over.
        inputs: channels of each result that comes from outside, by its name.
        outputs: channels of each result that is wanted, by its name.
    """
    nodes, tensors = [], []
    for layer in layers:
        added = _nodes(layer)
        nodes += added[0]
        tensors += added[1]
    graph = b"".join(
        [
            *(_field(1, node) for node in nodes),
            _field(2, "layers"),
            *(_field(5, tensor) for tensor in tensors),
            *(_field(11, _value(name, channels)) for name, channels in inputs.items()),
            *(_field(12, _value(name, channels)) for name, channels in outputs.items()),
        ]
    )
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, _field(1, "") + _field(2, OPERATOR_SET))


def _nodes(layer: Layer) -> tuple[list[bytes], list[bytes]]:
    """The nodes and the constant tensors of one layer."""
    source, output = list(layer.inputs), layer.output
    match layer.kind:
        case "input":
            return [], []
        case "convolution":
            constants = [f"{output}.weight", f"{output}.bias"]
            tensors = [_tensor(constants[0], layer.weight), _tensor(constants[1], layer.bias)]
            convolved = output if layer.slope is None else f"{output}.convolved"
            nodes = [_node("Conv", [*source, *constants], convolved, kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
            if layer.slope is not None:
                nodes.append(_node("LeakyRelu", [convolved], output, alpha=layer.slope))
            return nodes, tensors
        case "prelu":
            slopes = f"{output}.slopes"
            return [_node("PRelu", [*source, slopes], output)], [_tensor(slopes, layer.weight.reshape(-1, 1, 1))]
        case "shuffle":
            return [_node("DepthToSpace", source, output, blocksize=int(layer.factor), mode="CRD")], []
        case "nearest":
            factors = f"{output}.factors"
            options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node = _node("Resize", [*source, "", factors], output, **options)
            return [node], [_tensor(factors, np.array([1, 1, layer.factor, layer.factor], np.float32))]
        case "concatenation":
            return [_node("Concat", source, output, axis=1)], []
        case "sum":
            if layer.factor == 1.0:
                return [_node("Add", source, output)], []
            factor, scaled = f"{output}.factor", f"{output}.scaled"
            nodes = [_node("Mul", [source[0], factor], scaled), _node("Add", [scaled, source[1]], output)]
            return nodes, [_tensor(factor, np.array([layer.factor], np.float32))]


def _node(operator: str, inputs: list[str], output: str, **attributes: float | int | str | list[int]) -> bytes:
    return b"".join(
        [
            *(_field(1, name) for name in inputs),
            _field(2, output),
            _field(3, output),
            _field(4, operator),
            *(_field(5, _attribute(name, value)) for name, value in attributes.items()),
        ]
    )


def _attribute(name: str, value: float | int | str | list[int]) -> bytes:
    match value:
        case float():
            return _field(1, name) + _varint(2 << 3 | FIXED32) + struct.pack("<f", value) + _field(20, FLOAT_ATTRIBUTE)
        case int():
            return _field(1, name) + _field(3, value) + _field(20, INT_ATTRIBUTE)
        case str():
            return _field(1, name) + _field(4, value) + _field(20, TEXT_ATTRIBUTE)
        case list():
            return _field(1, name) + b"".join(_field(8, item) for item in value) + _field(20, INTS_ATTRIBUTE)


def _tensor(name: str, values: NDArray[np.floating]) -> bytes:
    content = np.ascontiguousarray(values, "<f4").tobytes()
    shape = b"".join(_field(1, side) for side in values.shape)
    return shape + _field(2, FLOAT_TYPE) + _field(8, name) + _field(9, content)


def _value(name: str, channels: int) -> bytes:
    """The type of an input or output: one picture of so many channels, whose height and width are open."""
    known = [_field(1, _field(1, side)) for side in (1, channels)]
    shape = b"".join([*known, *(_field(1, _field(2, f"{name}.{side}")) for side in ("height", "width"))])
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT_TYPE) + _field(2, shape)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A whole number from 0, 7 bits a byte, the lowest first."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)
