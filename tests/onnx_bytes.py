"""Small ONNX files, written without onnx: messages of Protocol Buffers from lists of fields."""

import struct

import numpy as np


def varint(value):
    value &= (1 << 64) - 1
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def message(*fields):
    """The bytes of a message from pairs of number and value: bytes, text, a whole number, or a float."""
    data = b""
    for number, value in fields:
        if isinstance(value, float):
            data += varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            data += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            data += varint(number << 3 | 2) + varint(len(value)) + value
    return data


def attribute(name, value):
    if isinstance(value, (list, tuple)):
        return message((1, name), *((8, each) for each in value), (20, 7))
    number, kind = {float: (2, 1), int: (3, 2), str: (4, 3)}[type(value)]
    return message((1, name), (number, value), (20, kind))


def node(operation, inputs, output, **attributes):
    return message(
        *((1, name) for name in inputs),
        (2, output),
        (3, f"/{output}"),
        (4, operation),
        *((5, attribute(name, value)) for name, value in attributes.items()),
    )


def array(name, value, *extra):
    value = np.asarray(value)
    kind = {"float32": 1, "int64": 7}[value.dtype.name]
    raw = () if extra else ((9, value.tobytes()),)
    return message(*((1, axis) for axis in value.shape), (2, kind), (8, name), *raw, *extra)


def value(name, shape):
    axes = (message((1, axis)) if axis else message((2, "batch")) for axis in shape)
    return message((1, name), (2, message((1, message((1, 1), (2, message(*((1, axis) for axis in axes))))))))


def model(nodes, arrays, shape=(None, 3, 32, 32), output="logits"):
    """The bytes of a file of nodes and of arrays by name, or as messages."""
    stored = [each if isinstance(each, bytes) else array(*each) for each in arrays]
    graph = message(
        *((1, each) for each in nodes),
        (2, "graph"),
        *((5, each) for each in stored),
        (11, value("x", shape)),
        (12, value(output, (None, 5))),
    )
    return message((1, 8), (2, "tests"), (7, graph), (8, message((2, 17))))
