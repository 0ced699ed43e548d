"""TensorFlow's checkpoints (`.index` and `.data-...`) and the variables of SavedModels, read without TensorFlow.

The index is a table of LevelDB whose values are messages; the other files hold the numbers. Sources: TensorFlow's
`tensor_bundle.proto` and `trackable_object_graph.proto`, LevelDB's `doc/table_format.md`.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor, stored_array
from reszoo.weights.formats.numpy_files import is_shape
from reszoo.weights.formats.protobuf import DamagedMessageError, Span, fields, integers, text, varint

CONTAINER = "TensorFlow checkpoint"
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER, _TRAILER = 48, 5
_LARGEST = 1 << 27
"""Most bytes of an index, and of the description of the objects in it."""
_TYPES = {
    **{1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64", 10: "bool"},
    **{14: "bfloat16", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64"},
}
_TEXT = 7
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_BESIDE = re.compile(
    r".*(\.OPTIMIZER_SLOT|_CHECKPOINTABLE_OBJECT_GRAPH|(^|/)(save_counter|global_step|keras_api)(/|$)"
    r"|(^|/)_?optimizer/(?!_trainable_variables/)"
    r"|/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1|ExponentialMovingAverage|m|v)$).*"
)
"""Names of optimizers' slots, counters and metrics."""


def shards_of(index: Path) -> list[Path]:
    """Returns the files with the numbers of a checkpoint."""
    return sorted(index.parent.glob(f"{glob.escape(index.name.removesuffix('.index'))}.data-*-of-*"))


class _Entry(NamedTuple):
    """Where a tensor is."""

    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_tensorflow(index: Path) -> Checkpoint:
    """Returns the variables of a checkpoint by the names of their layers, in Keras layout.

    Raises:
        BrokenFileError: the index or a file of numbers is missing, damaged or malicious.
    """
    if index.stat().st_size > _LARGEST:
        raise BrokenFileError(index, f"an index of {index.stat().st_size:,} bytes", expected=f"up to {_LARGEST:,}")
    data = memoryview(index.read_bytes())
    try:
        entries, shards = _entries(data)
        names = _names(index, entries, shards)
        tensors = {
            names.get(key, key.removesuffix(_VALUE)): _tensor(index, key, entry, shards)
            for key, entry in entries.items()
            if entry.type != _TEXT and not _BESIDE.fullmatch(key)
        }
    except (DamagedMessageError, IndexError) as error:
        raise BrokenFileError(index, f"a damaged or truncated index of a TensorFlow checkpoint ({error})") from None
    if not tensors:
        raise BrokenFileError(index, "a TensorFlow checkpoint without variables", expected="a network's weights")
    return Checkpoint(index, CONTAINER, tensors)


def _entries(data: memoryview) -> tuple[dict[str, _Entry], int]:
    """Returns where each tensor is, and the number of files with numbers."""
    if len(data) < _FOOTER or bytes(data[-8:]) != _MAGIC:
        raise DamagedMessageError("no table")
    _, at = _handle(data, len(data) - _FOOTER, len(data))
    index, _ = _handle(data, at, len(data))
    entries: dict[str, _Entry] = {}
    shards = 1
    end = 0
    for _, place in _block(data, index):
        block, _ = _handle(data, place.start, place.end)
        # A block that is listed again and again would be read as often.
        if block.start < end:
            raise DamagedMessageError("blocks that overlap")
        end = block.end
        for key, value in _block(data, block):
            if not key:
                shards = next((each.value for each in fields(data, value) if each.number == 1), 1)
            else:
                entries[_name(key)] = _entry(data, value)
    return entries, shards


def _handle(data: memoryview, at: int, end: int) -> tuple[Span, int]:
    start, at = varint(data, at, end)
    size, at = varint(data, at, end)
    if start + size + _TRAILER > len(data):
        raise DamagedMessageError("a block beyond the end of the file")
    return Span(start, start + size), at


def _block(data: memoryview, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Yields the keys of a block, and where their values are."""
    if data[span.end]:
        raise DamagedMessageError("a compressed block")
    count = int.from_bytes(data[span.end - 4 : span.end], "little")
    end = span.end - 4 - 4 * count
    key, at = b"", span.start
    if end < at:
        raise DamagedMessageError("a block of another size")
    while at < end:
        shared, at = varint(data, at, end)
        rest, at = varint(data, at, end)
        size, at = varint(data, at, end)
        if shared > len(key) or rest + size > end - at or shared + rest > 1000:
            raise DamagedMessageError("a key or value beyond its block")
        key = key[:shared] + bytes(data[at : at + rest])
        at += rest
        yield key, Span(at, at + size)
        at += size


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise DamagedMessageError("a name that is not UTF-8") from None


def _entry(data: memoryview, span: Span) -> _Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: list[int] = []
    for part in fields(data, span):
        if part.number in numbers:
            numbers[part.number] = part.value
        elif part.number == 2 and part.span:
            for axis in (each.span for each in fields(data, part.span) if each.number == 2 and each.span):
                # An axis of size 0 has no field.
                sizes = [each for each in fields(data, axis) if each.number == 1]
                shape.append(integers(data, sizes[0])[0] if sizes else 0)
        elif part.number == 7:
            raise DamagedMessageError("a variable in slices")
    return _Entry(numbers[1], tuple(shape), numbers[3], numbers[4], numbers[5])


def _shard(index: Path, number: int, shards: int) -> Path:
    file = index.with_name(f"{index.name.removesuffix('.index')}.data-{number:05}-of-{shards:05}")
    if not 0 <= number < shards or not file.is_file():
        raise BrokenFileError(index, f"no file {file.name!r}", hint=f"put it into {index.parent}")
    return file


def _tensor(index: Path, key: str, entry: _Entry, shards: int) -> Tensor:
    dtype = _TYPES.get(entry.type)
    if dtype is None or not is_shape(entry.shape) or math.prod(entry.shape) * ITEM_SIZES[dtype] != entry.size:
        raise DamagedMessageError(f"variable {key[:80]!r} of type {entry.type} and shape {str(entry.shape)[:60]}")
    file = _shard(index, entry.shard, shards)
    if entry.offset + entry.size > file.stat().st_size:
        raise BrokenFileError(index, f"a truncated file {file.name!r}")
    return Tensor(entry.shape, dtype, stored_array(file, entry.shape, dtype, entry.offset))


def _names(index: Path, entries: dict[str, _Entry], shards: int) -> dict[str, str]:
    """Returns the names that variables have in Keras, by their keys; checkpoints of objects list them."""
    entry = entries.get(_OBJECTS)
    if entry is None or entry.type != _TEXT or entry.size > _LARGEST:
        return {}
    with _shard(index, entry.shard, shards).open("rb") as stream:
        stream.seek(entry.offset)
        data = memoryview(stream.read(entry.size))
    # One text: its length, a checksum of four bytes, its bytes.
    size, at = varint(data, 0, len(data))
    at += 4
    if at + size > len(data):
        raise DamagedMessageError("a truncated description of objects")
    names: dict[str, str] = {}
    for node in (each.span for each in fields(data, Span(at, at + size)) if each.number == 1 and each.span):
        for attribute in (each.span for each in fields(data, node) if each.number == 2 and each.span):
            texts = {each.number: text(data, each) for each in fields(data, attribute) if each.number in (2, 3)}
            if texts.get(2) and texts.get(3):
                names[texts[3]] = texts[2]
    # Names that two variables share, as in Keras 3, say nothing.
    return names if len({*names.values()}) == len(names) else {}
