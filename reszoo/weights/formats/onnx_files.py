"""ONNX files: nodes and arrays, read without onnx. `onnx_graph` says what the nodes compute."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor, check_count, stored_array
from reszoo.weights.formats.numpy_files import is_shape
from reszoo.weights.formats.onnx_builder import Graph, Node, UnreadableGraphError
from reszoo.weights.formats.onnx_graph import keras_model
from reszoo.weights.formats.protobuf import DamagedMessageError, Field, Span, fields, integers, real, text

_TYPES = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"},
    **{10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"},
}
_LISTS = {4: "float32", 10: "float64", 7: "int64"}
"""Field of a tensor with its numbers as a list -> the type that is stored so."""
_NODES = 1 << 15
_SMALL = 64
"""Most elements of an array of whole numbers whose values the graph needs, such as a shape."""


def read_onnx(path: Path) -> Checkpoint:
    """Returns the weights of an ONNX model in Keras layout, and its graph as the configuration of a Keras model.

    Raises:
        BrokenFileError: the file is damaged or malicious, or no residual network has one of its nodes.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        data = memoryview(content)
        try:
            file = _File(path, data, {})
            graph = _model(file)
        except (DamagedMessageError, RecursionError) as error:
            raise BrokenFileError(path, f"a damaged or truncated ONNX model ({error})") from None
        finally:
            data.release()
    try:
        config, tensors = keras_model(graph)
    except UnreadableGraphError as error:
        raise BrokenFileError(path, f"an ONNX model with {error}", expected="a residual network of images") from None
    return Checkpoint(path, "ONNX", tensors, config=config, files=tuple(file.outside))


class _File(NamedTuple):
    path: Path
    data: memoryview
    outside: dict[Path, None]
    """The files beside it that hold arrays."""

    @property
    def whole(self) -> Span:
        return Span(0, len(self.data))


def _model(file: _File) -> Graph:
    spans = [each.span for each in fields(file.data, file.whole) if each.number == 7 and each.span]
    if len(spans) != 1:
        raise DamagedMessageError(f"{len(spans)} graphs")
    graph = Graph([], {}, [], [])
    for part in fields(file.data, spans[0]):
        if part.span is None:
            continue
        if part.number == 1:
            graph.nodes.append(_node(file, part.span))
            if len(graph.nodes) > _NODES:
                raise BrokenFileError(file.path, f"an ONNX model of more than {_NODES:,} nodes")
        elif part.number == 5:
            name, tensor = _tensor(file, part.span)
            graph.arrays[name] = tensor
            check_count(file.path, len(graph.arrays))
        elif part.number in (11, 12):
            (graph.inputs if part.number == 11 else graph.outputs).append(_value(file, part.span))
    return graph


def _node(file: _File, span: Span) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    attributes: dict[str, Any] = {}
    for part in fields(file.data, span):
        if part.number in texts:
            texts[part.number].append(text(file.data, part))
        elif part.number == 5 and part.span:
            attributes |= _attribute(file, part.span)
    operation, name = "".join(texts[4]), "".join(texts[3])
    return Node(operation, name, tuple(texts[1]), tuple(texts[2]), attributes)


def _attribute(file: _File, span: Span) -> dict[str, Any]:
    name: str = ""
    value: Any = None
    numbers: list[int] = []
    for part in fields(file.data, span):
        if part.number == 1:
            name = text(file.data, part)
        elif part.number == 2:
            value = real(part)
        elif part.number == 3:
            value = integers(file.data, part)[0]
        elif part.number == 4 and part.span and part.span.end - part.span.start <= 1000:
            value = text(file.data, part)
        elif part.number == 5 and part.span:
            value = _tensor(file, part.span)[1]
        elif part.number == 8:
            numbers += integers(file.data, part)
    return {name: numbers or value}


def _value(file: _File, span: Span) -> tuple[str, tuple[int | None, ...]]:
    """Returns the name of an input or output, and its shape; None for axes of any size."""
    name = ""
    shape: tuple[int | None, ...] = ()
    for part in fields(file.data, span):
        if part.number == 1:
            name = text(file.data, part)
        elif part.number == 2 and part.span:
            shape = tuple(_axis(file, axis) for axis in _inner(file, part.span, (1, 2, 1)))
    return name, shape


def _inner(file: _File, span: Span, path: tuple[int, ...]) -> list[Span]:
    """Returns the messages inside a message, by the numbers of the fields that lead to them."""
    spans = [span]
    for number in path:
        spans = [part.span for each in spans for part in fields(file.data, each) if part.number == number and part.span]
    return spans


def _axis(file: _File, span: Span) -> int | None:
    values = [part.value for part in fields(file.data, span) if part.number == 1]
    return values[0] if values and 0 < values[0] < 1 << 31 else None


@dataclass
class _Header:
    """What a tensor's message says of it."""

    name: str = ""
    shape: list[int] = field(default_factory=list)
    type: int = 0
    raw: Span | None = None
    halves: Span | None = None
    list: tuple[str, Span] | None = None
    outside: dict[str, str] = field(default_factory=dict)


def _tensor(file: _File, span: Span) -> tuple[str, Tensor]:
    header = _Header()
    for part in fields(file.data, span):
        _read_field(file, part, header)
    dtype = _TYPES.get(header.type)
    shape = tuple(header.shape)
    what = f"array {header.name[:80]!r}"
    if dtype is None or not is_shape(shape):
        raise DamagedMessageError(f"{what} of type {header.type} and shape {str(shape)[:60]}")
    size = math.prod(shape) * ITEM_SIZES[dtype]
    if header.outside:
        return header.name, Tensor(shape, dtype, _outside(file, header, shape, dtype, size))
    if header.halves and dtype in ("float16", "bfloat16"):
        return header.name, Tensor(shape, dtype, _halves(file.path, header.halves, shape, dtype))
    place = header.raw
    if header.list and header.list[0] == dtype:
        place = header.list[1]
        if dtype == "int64":
            values = integers(file.data, Field(7, 0, place))
            return header.name, Tensor(shape, dtype, _constant(values, shape, dtype, what))
    if place is None and size == 0:
        place = Span(0, 0)
    if place is None or place.end - place.start != size:
        raise DamagedMessageError(f"{what} of shape {str(shape)[:60]} without {size:,} bytes")
    if dtype == "int64" and math.prod(shape) <= _SMALL:
        values = [int.from_bytes(file.data[at : at + 8], "little", signed=True) for at in range(*place, 8)]
        return header.name, Tensor(shape, dtype, _constant(values, shape, dtype, what))
    return header.name, Tensor(shape, dtype, stored_array(file.path, shape, dtype, place.start))


def _read_field(file: _File, part: Field, header: _Header) -> None:
    if part.number == 1:
        header.shape += integers(file.data, part)
    elif part.number == 2:
        header.type = part.value
    elif part.number == 8:
        header.name = text(file.data, part)
    elif part.number == 9:
        header.raw = part.span
    elif part.number == 5:
        header.halves = part.span
    elif part.number in _LISTS and part.span:
        header.list = (_LISTS[part.number], part.span)
    elif part.number == 13 and part.span:
        entry = {each.number: text(file.data, each) for each in fields(file.data, part.span) if each.span}
        header.outside[entry.get(1, "")] = entry.get(2, "")


def _outside(model: _File, header: _Header, shape: tuple[int, ...], dtype: str, size: int) -> Callable[[], Any]:
    """Returns a reader of an array that is kept in a file beside the model."""
    path = model.path
    place = header.outside.get("location", "")
    offset, length = header.outside.get("offset", "0"), header.outside.get("length", str(size))
    if Path(place).name != place or not place.isprintable() or not place or place in (".", ".."):
        raise BrokenFileError(path, f"arrays in {place[:80]!r}", expected="a file in the same folder")
    if not (offset.isdecimal() and length.isdecimal() and int(length) == size):
        raise DamagedMessageError(f"array {header.name[:80]!r} of {length[:20]} bytes at {offset[:20]}")
    file = path.parent / place
    model.outside[file] = None
    if not file.is_file() or file.stat().st_size < int(offset) + size:
        raise BrokenFileError(path, f"arrays in {place!r}, which is not beside it or too short", hint="copy it there")
    return stored_array(file, shape, dtype, int(offset))


def _constant(values: list[int], shape: tuple[int, ...], dtype: str, what: str) -> Callable[[], Any]:
    if len(values) != math.prod(shape):
        raise DamagedMessageError(f"{what} of shape {str(shape)[:60]} with {len(values)} numbers")

    def read() -> Any:
        import numpy as np

        return np.array(values, dtype).reshape(shape)

    return read


def _halves(path: Path, span: Span, shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """Returns a reader of numbers of two bytes that are stored as a list of whole numbers of one to three bytes."""

    def read() -> Any:
        import ml_dtypes
        import numpy as np

        data = np.fromfile(path, np.uint8, count=span.end - span.start, offset=span.start)
        ends = np.flatnonzero(data < 128)
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        if len(ends) != math.prod(shape) or (ends - starts > 2).any():
            raise ValueError(f"{len(ends)} numbers")
        bits = np.zeros(len(ends), np.uint32)
        for place in range(3):
            at = np.minimum(starts + place, ends)
            bits |= np.where(starts + place <= ends, (data[at] & 127).astype(np.uint32) << 7 * place, 0)
        return bits.astype("<u2").view(ml_dtypes.bfloat16 if dtype == "bfloat16" else "<f2").reshape(shape)

    return read
