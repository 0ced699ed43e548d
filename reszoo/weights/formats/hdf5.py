"""The subset of HDF5 that weights files use: groups, string attributes and contiguous arrays.

Supported are groups of both styles, hard links, string attributes and contiguous numeric datasets. The rest of HDF5
is refused or ignored, since a hostile file could exploit it: external and soft links, virtual datasets, compressed
chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import IO, Literal, NamedTuple

from reszoo.weights.formats.hdf5_blocks import Blocks, Hdf5Error, uint

_NOWHERE = (1 << 64) - 1
_DATASPACE, _LINKS, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT, _ATTRIBUTE = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xC
_SYMBOLS, _ATTRIBUTES = 0x11, 0x15


class Array(NamedTuple):
    """Location of an array's numbers in the file."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy's name, or `bfloat16`."""
    order: Literal["<", ">"]
    """Byte order, as in NumPy."""
    offset: int


def root(stream: IO[bytes], start: int, size: int) -> Node:
    """Returns the root group of an HDF5 file embedded in a stream.

    Raises:
        Hdf5Error: the file is invalid. Damaged files may also raise IndexError or UnicodeDecodeError here; callers
            convert all of them to BrokenFileError.
    """
    blocks = Blocks(stream, start, size)
    return Node(blocks, blocks.root)


class Node:
    """A group or a dataset."""

    def __init__(self, blocks: Blocks, address: int):
        self._blocks = blocks
        self.address = address

    @cached_property
    def _messages(self) -> list[tuple[int, bytes]]:
        return [*self._blocks.messages(self.address)]

    def _first(self, kind: int) -> bytes | None:
        return next((content for message, content in self._messages if message == kind), None)

    def _dense(self, kind: int, order: int) -> Iterator[bytes]:
        """Yields the entries of an index; HDF5 uses one where a group has many links or attributes."""
        if (index := self._first(kind)) is not None:
            at = 2 + (order if index[1] & 1 else 0)
            if uint(index, at) != _NOWHERE:
                yield from self._blocks.dense(uint(index, at), uint(index, at + 8))

    @cached_property
    def members(self) -> dict[str, int]:
        """Name -> address of a group's hard links."""
        if (table := self._first(_SYMBOLS)) is not None:
            return dict(self._blocks.symbols(uint(table, 0), uint(table, 8)))
        links = [content for kind, content in self._messages if kind == _LINK]
        return dict(link for content in (*links, *self._dense(_LINKS, 8)) if (link := _link(content)))

    def find(self, path: str) -> Node | None:
        """Returns the group or dataset at a path, or None."""
        node = self
        for step in path.split("/"):
            if step not in node.members:
                return None
            node = Node(self._blocks, node.members[step])
        return node

    @cached_property
    def _attributes(self) -> dict[str, tuple[bytes, bytes, bytes]]:
        inline = [content for kind, content in self._messages if kind == _ATTRIBUTE]
        return dict(map(_attribute, (*inline, *self._dense(_ATTRIBUTES, 2))))

    def texts(self, name: str) -> list[str] | None:
        """Returns the strings of an attribute, or None if it does not exist."""
        if name not in self._attributes:
            return None
        datatype, dataspace, data = self._attributes[name]
        shape, size = _shape(dataspace), uint(datatype, 4, 4)
        number = math.prod(shape)
        kind, more = datatype[0] & 15, datatype[1] & 15
        is_text = kind == 3 or (kind == 9 and more == 1)
        if number and (not is_text or not size or number * size > len(data)):
            raise Hdf5Error(f"an attribute {name!r} that is not text")
        pieces = [data[at : at + size] for at in range(0, number * size, size)] if number else []
        texts = pieces if kind == 3 else map(self._blocks.text, pieces)
        return [text.rstrip(b"\0").decode() for text in texts]

    def array(self) -> Array | None:
        """Returns the location of a dataset's numbers, or None for a group."""
        datatype, dataspace, layout = (self._first(kind) for kind in (_DATATYPE, _DATASPACE, _LAYOUT))
        if datatype is None or dataspace is None or layout is None:
            return None
        if layout[0] not in (3, 4) or layout[1] != 1 or self._first(_EXTERNAL) is not None:
            raise Hdf5Error("chunked, compressed, virtual or external; Keras writes contiguous arrays")
        return Array(_shape(dataspace), *_number(datatype), offset=uint(layout, 2))


def _link(content: bytes) -> tuple[str, int] | None:
    """Returns name and address of a hard link, or None for a soft or external link."""
    flags, at = content[1], 2
    kind = content[at] if flags & 8 else 0
    at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    end = at + width + uint(content, at, width)
    return None if kind else (content[at + width : end].decode(), uint(content, end))


def _attribute(content: bytes) -> tuple[str, tuple[bytes, bytes, bytes]]:
    """Returns an attribute's name and its datatype, dataspace and value, all as bytes."""
    # Version 1 pads to eight bytes. A datatype stored elsewhere (shared) is never text.
    at, unit = (9, 1) if content[0] == 3 else (8, 8 if content[0] == 1 else 1)
    parts = []
    for size in (uint(content, 2, 2), uint(content, 4, 2), uint(content, 6, 2)):
        parts.append(content[at : at + size])
        at += -(-size // unit) * unit
    name, datatype, dataspace = parts
    return name.partition(b"\0")[0].decode(), (datatype, dataspace, content[at:])


def _shape(dataspace: bytes) -> tuple[int, ...]:
    version, rank = dataspace[0], dataspace[1]
    if version not in (1, 2) or rank > 32 or (version == 2 and dataspace[3] == 2):
        raise Hdf5Error("an array without a shape")
    first = 8 if version == 1 else 4
    return tuple(uint(dataspace, first + 8 * axis) for axis in range(rank))


_FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}
"""(bit offset, precision, exponent location and size, mantissa location and size, exponent bias) -> name."""


def _number(datatype: bytes) -> tuple[str, Literal["<", ">"]]:
    """Returns name and byte order of a numeric datatype."""
    kind, bits, size = datatype[0] & 15, datatype[1], uint(datatype, 4, 4)
    order: Literal["<", ">"] = ">" if bits & 1 else "<"
    if kind == 0 and size in (1, 2, 4, 8) and (uint(datatype, 8, 2), uint(datatype, 10, 2)) == (0, 8 * size):
        return f"{'int' if bits & 8 else 'uint'}{8 * size}", order
    if kind == 1 and not bits & 0x40:
        layout = [uint(datatype, 8, 2), uint(datatype, 10, 2), *datatype[12:16], uint(datatype, 16, 4)]
        if (name := _FLOATS.get(tuple(layout))) and 8 * size == layout[1]:
            return name, order
    # Keras writes bfloat16 as an opaque type of two bytes, and h5py writes bool as an enumeration.
    if kind == 5 and size == 2:
        return "bfloat16", "<"
    if kind == 8 and size == 1:
        return "bool", "<"
    raise Hdf5Error(f"of a non-numeric type (class {kind}, {size} bytes)")
