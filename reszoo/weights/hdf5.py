"""As much of HDF5 as a weights file needs, read without libhdf5, which a damaged file can crash or keep for ever.

Read are groups of both styles, hard links, attributes that are texts, and arrays of numbers in one piece. What else
HDF5 can do a hostile file could use: links into other files, arrays made of other files' arrays, chunks that unpack
to anything. None of it is followed. See the HDF5 file format specification, version 3.0, for the numbers in here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import IO, Literal, NamedTuple

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_NOWHERE = (1 << 64) - 1
_LIMIT = 1 << 28
"""Bytes that are read of one file's structure, the arrays not counted; it ends whatever refers to itself."""
_READ = 128
"""What a read costs, however short."""
_LONGEST = 1 << 24
"""The longest piece."""

_DATASPACE, _LINKS, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT, _ATTRIBUTE = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xC
_CONTINUATION, _SYMBOLS, _ATTRIBUTES = 0x10, 0x11, 0x15


class Hdf5Error(ValueError):
    """A file that is damaged, or uses what no weights file does."""


class Array(NamedTuple):
    """Where an array's numbers lie."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy's name, or `bfloat16`."""
    order: Literal["<", ">"]
    """`<` or `>`."""
    offset: int


def _uint(data: bytes, at: int, size: int = 8) -> int:
    if at + size > len(data):
        raise Hdf5Error("an entry that is cut short")
    return int.from_bytes(data[at : at + size], "little")


class File:
    """An HDF5 file that is part of a stream."""

    def __init__(self, stream: IO[bytes], start: int, size: int):
        self._stream, self._start, self.size = stream, start, size
        self._left = _LIMIT
        self._heaps: dict[int, dict[int, bytes]] = {}
        head = self.read(0, 48)
        old = head[8] < 2
        self._expect(head, SIGNATURE, "no HDF5 file")
        if head[8] > 3 or (head[13:15] if old else head[9:11]) != b"\x08\x08":
            raise Hdf5Error("an unusual version or size of addresses")
        # The second version has one number more.
        more = 4 * head[8] if old else 0
        base, end = (24 + more, 40 + more) if old else (12, 28)
        if _uint(self.read(base, 8), 0) != 0 or _uint(self.read(end, 8), 0) > size:
            raise Hdf5Error(f"truncated to {size:,} bytes")
        self.root = self.node(_uint(self.read(64 + more if old else 36, 8), 0))

    def read(self, address: int, size: int) -> bytes:
        """Returns bytes of the file; there are no others, and not too many of them."""
        self._left -= size + _READ
        if size > _LONGEST or self._left < 0:
            raise Hdf5Error("more entries than a file of weights can need")
        if address + size > self.size:
            raise Hdf5Error(f"truncated: an entry at byte {address:,} of {self.size:,}")
        self._stream.seek(self._start + address)
        data = self._stream.read(size)
        if len(data) < size:
            raise Hdf5Error("truncated")
        return data

    def node(self, address: int) -> Node:
        """Returns the group or dataset at an address."""
        return Node(self, address)

    def text(self, reference: bytes) -> bytes:
        """Returns what a reference into a heap of texts of any length stands for."""
        length, heap, index = _uint(reference, 0, 4), _uint(reference, 4), _uint(reference, 12, 4)
        if not length:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap(heap))
        text = self._heaps[heap][index][:length]
        self._left -= len(text) + _READ
        if self._left < 0:
            raise Hdf5Error("more text than a file of weights can need")
        return text

    def _heap(self, address: int) -> Iterator[tuple[int, bytes]]:
        head = self.read(address, 16)
        self._expect(head, b"GCOL", "a heap that is none")
        data, at = self.read(address, _uint(head, 8)), 16
        while at + 16 <= len(data):
            index, size = _uint(data, at, 2), _uint(data, at + 8)
            if not index:
                return
            yield index, data[at + 16 : at + 16 + size]
            at += 16 + -(-size // 8) * 8

    def messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yields kind and content of what an object's header says."""
        head = self.read(address, 16)
        if new := head.startswith(b"OHDR"):
            flags = head[5]
            at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width, title = 1 << (flags & 3), 6 if flags & 4 else 4
            blocks = [(address + at + width, _uint(self.read(address + at, width), 0, width))]
        else:
            self._expect(head, b"\1", "an object without a header")
            title, blocks = 8, [(address + 16, _uint(head, 8, 4))]
        for number, (place, size) in enumerate(blocks):
            data, at = self.read(place, size), 0
            if new and number:
                self._expect(data, b"OCHK", "a header that does not go on")
                data, at = data[:-4], 4
            while at + title <= len(data):
                kind, length, flags = (
                    (data[at], _uint(data, at + 1, 2), data[at + 3])
                    if new
                    else (_uint(data, at, 2), _uint(data, at + 2, 2), data[at + 4])
                )
                content = data[at + title : at + title + length]
                at += title + length
                if kind == _CONTINUATION:
                    blocks.append((_uint(content, 0), _uint(content, 8)))
                # A shared message lies elsewhere; Keras shares none.
                elif not flags & 2:
                    yield kind, content

    def symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Yields the hard links of a group of the old style."""
        names = _uint(self.read(heap, 32), 24)
        held = self.read(names, _uint(self.read(heap, 32), 8))
        waiting = [tree]
        while waiting:
            address = waiting.pop()
            head = self.read(address, 8)
            number = _uint(head, 6, 2)
            if head.startswith(b"TREE"):
                entries = self.read(address + 24, 16 * number + 8)
                waiting += [_uint(entries, 16 * entry + 8) for entry in reversed(range(number))]
                continue
            self._expect(head, b"SNOD", "a group without a list of its members")
            entries = self.read(address + 8, 40 * number)
            for entry in range(0, 40 * number, 40):
                name = held[_uint(entries, entry) :].partition(b"\0")[0]
                # Of kind 2 are links by name.
                if _uint(entries, entry + 16, 4) != 2:
                    yield name.decode(), _uint(entries, entry + 8)

    def dense(self, heap: int, tree: int) -> Iterator[bytes]:
        """Yields the messages of a group of the new style that has many of them."""
        table = self.read(heap, 146)
        self._expect(table, b"FRHP", "a heap that is none")
        wide = -(-_uint(table, 128, 2) // 8)
        for identifier in self._records(tree):
            if identifier[0] & 0x30:
                raise Hdf5Error("a name of an unusual length")
            offset, length = _uint(identifier, 1, wide), int.from_bytes(identifier[1 + wide :], "little")
            yield self.read(self._block(table, offset), length)

    def _block(self, table: bytes, offset: int) -> int:
        """The address of an offset in a heap, whose blocks get larger from row to row."""
        width, least, largest = _uint(table, 110, 2), _uint(table, 112), _uint(table, 120)
        address, rows = _uint(table, 132), _uint(table, 140, 2)
        wide = -(-_uint(table, 128, 2) // 8)
        while rows:
            row = (offset // (width * least)).bit_length()
            size = least << max(row - 1, 0)
            inside = offset - (width * size if row else 0)
            entry = row * width + inside // size
            address, offset = _uint(self.read(address + 13 + wide + 8 * entry, 8), 0), inside % size
            rows = 0 if size <= largest else (size // (width * least)).bit_length()
        return address + offset

    def _records(self, tree: int) -> Iterator[bytes]:
        """The heap's identifiers, of links (with a hash before them) and of attributes (with more behind)."""
        head = self.read(tree, 38)
        self._expect(head, b"BTHD", "an index that is none")
        size, depth = _uint(head, 10, 2), _uint(head, 12, 2)
        first, last = {5: (4, 11), 8: (0, 8)}[head[5]]
        most = (_uint(head, 6, 4) - 10) // size
        narrow, totals, total = _width(most), [0], most
        for _ in range(min(depth, 8)):
            pointer = 8 + narrow + totals[-1]
            inner = (_uint(head, 6, 4) - 10 - pointer) // (size + pointer)
            total = (inner + 1) * total + inner
            totals.append(_width(total))
        waiting = [(_uint(head, 16), _uint(head, 24, 2), depth)]
        while waiting:
            address, number, level = waiting.pop()
            records = self.read(address + 6, size * number)
            yield from (records[at + first : at + last] for at in range(0, size * number, size))
            if level:
                pointer = 8 + narrow + totals[level - 1]
                inner_nodes = self.read(address + 6 + size * number, pointer * (number + 1))
                for at in range(0, len(inner_nodes), pointer):
                    waiting.append((_uint(inner_nodes, at), _uint(inner_nodes, at + 8, narrow), level - 1))

    @staticmethod
    def _expect(data: bytes, start: bytes, wrong: str) -> None:
        if not data.startswith(start):
            raise Hdf5Error(wrong)


def _width(number: int) -> int:
    return -(-number.bit_length() // 8)


class Node:
    """A group or a dataset."""

    def __init__(self, file: File, address: int):
        self._file, self.address = file, address

    @cached_property
    def _messages(self) -> list[tuple[int, bytes]]:
        return [*self._file.messages(self.address)]

    def _first(self, kind: int) -> bytes | None:
        return next((content for found, content in self._messages if found == kind), None)

    def _dense(self, kind: int, order: int) -> Iterator[bytes]:
        """What an index holds, where there is so much of a kind that there is an index."""
        if (index := self._first(kind)) is not None:
            at = 2 + (order if index[1] & 1 else 0)
            if _uint(index, at) != _NOWHERE:
                yield from self._file.dense(_uint(index, at), _uint(index, at + 8))

    @cached_property
    def members(self) -> dict[str, int]:
        """Names and addresses of a group's hard links."""
        if (table := self._first(_SYMBOLS)) is not None:
            return dict(self._file.symbols(_uint(table, 0), _uint(table, 8)))
        links = [content for kind, content in self._messages if kind == _LINK]
        return dict(link for content in (*links, *self._dense(_LINKS, 8)) if (link := _link(content)))

    def find(self, path: str) -> Node | None:
        """Returns what lies at a path, if anything does."""
        node = self
        for step in path.split("/"):
            if step not in node.members:
                return None
            node = self._file.node(node.members[step])
        return node

    @cached_property
    def _attributes(self) -> dict[str, tuple[bytes, bytes, bytes]]:
        own = [content for kind, content in self._messages if kind == _ATTRIBUTE]
        return dict(map(_attribute, (*own, *self._dense(_ATTRIBUTES, 2))))

    def texts(self, name: str) -> list[str] | None:
        """Returns the texts of an attribute, if there is one."""
        if name not in self._attributes:
            return None
        datatype, dataspace, data = self._attributes[name]
        shape, size = _shape(dataspace), _uint(datatype, 4, 4)
        number = math.prod(shape)
        kind, more = datatype[0] & 15, datatype[1] & 15
        if number and (not (kind == 3 or (kind == 9 and more == 1)) or not size or number * size > len(data)):
            raise Hdf5Error(f"an attribute {name!r} that holds no text")
        pieces = [data[at : at + size] for at in range(0, number * size, size)] if number else []
        found = pieces if kind == 3 else map(self._file.text, pieces)
        return [text.rstrip(b"\0").decode() for text in found]

    def array(self) -> Array | None:
        """Returns where a dataset's numbers lie, or nothing for a group."""
        datatype, dataspace, layout = (self._first(kind) for kind in (_DATATYPE, _DATASPACE, _LAYOUT))
        if datatype is None or dataspace is None or layout is None:
            return None
        if layout[0] not in (3, 4) or layout[1] != 1 or self._first(_EXTERNAL) is not None:
            raise Hdf5Error("chunked, compressed, virtual or external; Keras writes arrays in one piece")
        return Array(_shape(dataspace), *_number(datatype), offset=_uint(layout, 2))


def _link(content: bytes) -> tuple[str, int] | None:
    """Name and address of a hard link; links by name and into other files are left out."""
    flags, at = content[1], 2
    kind = content[at] if flags & 8 else 0
    at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    end = at + width + _uint(content, at, width)
    return None if kind else (content[at + width : end].decode(), _uint(content, end))


def _attribute(content: bytes) -> tuple[str, tuple[bytes, bytes, bytes]]:
    """An attribute's name and its type, shape and value."""
    # The first version fills up to eight bytes; a type that lies elsewhere leaves no text to read.
    at, unit = (9, 1) if content[0] == 3 else (8, 8 if content[0] == 1 else 1)
    parts = []
    for size in (_uint(content, 2, 2), _uint(content, 4, 2), _uint(content, 6, 2)):
        parts.append(content[at : at + size])
        at += -(-size // unit) * unit
    name, datatype, dataspace = parts
    return name.partition(b"\0")[0].decode(), (datatype, dataspace, content[at:])


def _shape(dataspace: bytes) -> tuple[int, ...]:
    version, rank = dataspace[0], dataspace[1]
    if version not in (1, 2) or rank > 32 or (version == 2 and dataspace[3] == 2):
        raise Hdf5Error("an array without a shape")
    first = 8 if version == 1 else 4
    return tuple(_uint(dataspace, first + 8 * axis) for axis in range(rank))


_FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}
"""Offset, bits, place and bits of the exponent and of the mantissa, bias -> name."""


def _number(datatype: bytes) -> tuple[str, Literal["<", ">"]]:
    """Name and byte order of a type of numbers."""
    kind, bits, size = datatype[0] & 15, datatype[1], _uint(datatype, 4, 4)
    order: Literal["<", ">"] = ">" if bits & 1 else "<"
    if kind == 0 and size in (1, 2, 4, 8) and (_uint(datatype, 8, 2), _uint(datatype, 10, 2)) == (0, 8 * size):
        return f"{'int' if bits & 8 else 'uint'}{8 * size}", order
    if kind == 1 and not bits & 0x40:
        told = [_uint(datatype, 8, 2), _uint(datatype, 10, 2), *datatype[12:16], _uint(datatype, 16, 4)]
        if (name := _FLOATS.get(tuple(told))) and 8 * size == told[1]:
            return name, order
    # Keras writes bfloat16 as two bytes without a meaning, and h5py a bool as one of two named numbers.
    if kind == 5 and size == 2:
        return "bfloat16", "<"
    if kind == 8 and size == 1:
        return "bool", "<"
    raise Hdf5Error(f"of a type (class {kind}, {size} bytes) that holds no numbers")
