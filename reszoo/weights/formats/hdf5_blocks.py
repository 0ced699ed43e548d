"""The low-level blocks of an HDF5 file, read without libhdf5: a damaged file can crash that library or make it hang.

Offsets and constants are those of the HDF5 file format specification, version 3.0. Every read counts against a budget
per file. The budget ends lists that refer to themselves and texts that are referenced over and over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_LIMIT = 1 << 27
"""Budget in bytes for one file's structure, without the arrays; it ends structures that refer to themselves."""
_READ = 128
"""Fixed cost of one read, in bytes."""
_LONGEST = 1 << 24
"""The longest block, in bytes."""
_NAME = 1000
"""The longest name of a member, in bytes."""

_CONTINUATION = 0x10
"""The message type that points to further messages."""


class Hdf5Error(ValueError):
    """A damaged file, or one that uses features that weights files do not use."""


def uint(data: bytes, at: int, size: int = 8) -> int:
    """Returns the little-endian unsigned integer of `size` bytes at an offset.

    Raises:
        Hdf5Error: it extends past the end of the data.
    """
    if at + size > len(data):
        raise Hdf5Error("a truncated entry")
    return int.from_bytes(data[at : at + size], "little")


class Blocks:
    """Reads blocks of an HDF5 file embedded in a stream."""

    def __init__(self, stream: IO[bytes], start: int, size: int):
        self._stream = stream
        self._start = start
        self.size = size
        self._budget = _LIMIT
        self._heaps: dict[int, dict[int, bytes]] = {}
        head = self.read(0, 48)
        old = head[8] < 2
        self._expect(head, SIGNATURE, "not an HDF5 file")
        if head[8] > 3 or (head[13:15] if old else head[9:11]) != b"\x08\x08":
            raise Hdf5Error("an unsupported version or address size")
        # Version 1 has one more field.
        more = 4 * head[8] if old else 0
        base, end = (24 + more, 40 + more) if old else (12, 28)
        if uint(self.read(base, 8), 0) != 0 or uint(self.read(end, 8), 0) > size:
            raise Hdf5Error(f"truncated to {size:,} bytes")
        self.root = uint(self.read(64 + more if old else 36, 8), 0)

    def read(self, address: int, size: int) -> bytes:
        """Returns bytes of the file.

        Raises:
            Hdf5Error: they lie outside the file, or the budget is spent.
        """
        self._budget -= size + _READ
        if size > _LONGEST or self._budget < 0:
            raise Hdf5Error("more entries than a file of weights can need")
        if address + size > self.size:
            raise Hdf5Error(f"truncated: an entry at byte {address:,} of {self.size:,}")
        self._stream.seek(self._start + address)
        data = self._stream.read(size)
        if len(data) < size:
            raise Hdf5Error("truncated")
        return data

    def text(self, reference: bytes) -> bytes:
        """Returns the text that a reference into a global heap points to."""
        length, heap, index = uint(reference, 0, 4), uint(reference, 4), uint(reference, 12, 4)
        if not length:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap(heap))
        text = self._heaps[heap][index][:length]
        self._budget -= length + _READ
        if len(text) < length or self._budget < 0:
            raise Hdf5Error("more text than a file of weights can need")
        return text

    def _heap(self, address: int) -> Iterator[tuple[int, bytes]]:
        head = self.read(address, 16)
        self._expect(head, b"GCOL", "an invalid heap")
        data, at = self.read(address, uint(head, 8)), 16
        while at + 16 <= len(data):
            index, size = uint(data, at, 2), uint(data, at + 8)
            if not index:
                return
            yield index, data[at + 16 : at + 16 + size]
            at += 16 + -(-size // 8) * 8

    def messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yields type and content of the messages in an object's header."""
        head = self.read(address, 16)
        if new := head.startswith(b"OHDR"):
            flags = head[5]
            at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width, title = 1 << (flags & 3), 6 if flags & 4 else 4
            blocks = [(address + at + width, uint(self.read(address + at, width), 0, width))]
        else:
            self._expect(head, b"\1", "an object without a header")
            title, blocks = 8, [(address + 16, uint(head, 8, 4))]
        for number, (start, size) in enumerate(blocks):
            data, at = self.read(start, size), 0
            if new and number:
                self._expect(data, b"OCHK", "an invalid continuation of a header")
                data, at = data[:-4], 4
            while at + title <= len(data):
                kind, length, flags = (
                    (data[at], uint(data, at + 1, 2), data[at + 3])
                    if new
                    else (uint(data, at, 2), uint(data, at + 2, 2), data[at + 4])
                )
                content = data[at + title : at + title + length]
                at += title + length
                if kind == _CONTINUATION:
                    blocks.append((uint(content, 0), uint(content, 8)))
                # Shared messages are stored elsewhere; Keras writes none.
                elif not flags & 2:
                    yield kind, content

    def symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Yields name and address of the hard links of an old-style group."""
        names = uint(self.read(heap, 32), 24)
        name_bytes = self.read(names, uint(self.read(heap, 32), 8))
        waiting = [tree]
        while waiting:
            address = waiting.pop()
            head = self.read(address, 8)
            number = uint(head, 6, 2)
            if head.startswith(b"TREE"):
                entries = self.read(address + 24, 16 * number + 8)
                waiting += [uint(entries, 16 * entry + 8) for entry in reversed(range(number))]
                continue
            self._expect(head, b"SNOD", "a group without a list of its members")
            entries = self.read(address + 8, 40 * number)
            for entry in range(0, 40 * number, 40):
                at = uint(entries, entry)
                name, end, _ = name_bytes[at : at + _NAME].partition(b"\0")
                if not end:
                    raise Hdf5Error("an unterminated name")
                # Type 2: soft links.
                if uint(entries, entry + 16, 4) != 2:
                    yield name.decode(), uint(entries, entry + 8)

    def dense(self, heap: int, tree: int) -> Iterator[bytes]:
        """Yields the messages that a new-style object stores in a fractal heap, where it has many of them."""
        table = self.read(heap, 146)
        self._expect(table, b"FRHP", "an invalid heap")
        wide = -(-uint(table, 128, 2) // 8)
        for identifier in self._records(tree):
            if identifier[0] & 0x30:
                raise Hdf5Error("an unsupported kind of heap entry")
            offset, length = uint(identifier, 1, wide), int.from_bytes(identifier[1 + wide :], "little")
            yield self.read(self._block(table, offset), length)

    def _block(self, table: bytes, offset: int) -> int:
        """Returns the address of an offset in a fractal heap, whose blocks double in size from row to row."""
        width, least, largest = uint(table, 110, 2), uint(table, 112), uint(table, 120)
        address, rows = uint(table, 132), uint(table, 140, 2)
        wide = -(-uint(table, 128, 2) // 8)
        while rows:
            row = (offset // (width * least)).bit_length()
            size = least << max(row - 1, 0)
            inside = offset - (width * size if row else 0)
            entry = row * width + inside // size
            address, offset = uint(self.read(address + 13 + wide + 8 * entry, 8), 0), inside % size
            rows = 0 if size <= largest else (size // (width * least)).bit_length()
        return address + offset

    def _records(self, tree: int) -> Iterator[bytes]:
        """Yields heap identifiers from the records of links (after a hash) and of attributes (before other fields)."""
        head = self.read(tree, 38)
        self._expect(head, b"BTHD", "an invalid index")
        size, depth = uint(head, 10, 2), uint(head, 12, 2)
        first, last = {5: (4, 11), 8: (0, 8)}[head[5]]
        most = (uint(head, 6, 4) - 10) // size
        narrow, totals, total = _width(most), [0], most
        for _ in range(min(depth, 8)):
            pointer = 8 + narrow + totals[-1]
            inner = (uint(head, 6, 4) - 10 - pointer) // (size + pointer)
            total = (inner + 1) * total + inner
            totals.append(_width(total))
        waiting = [(uint(head, 16), uint(head, 24, 2), depth)]
        while waiting:
            address, number, level = waiting.pop()
            records = self.read(address + 6, size * number)
            yield from (records[at + first : at + last] for at in range(0, size * number, size))
            if level:
                pointer = 8 + narrow + totals[level - 1]
                inner_nodes = self.read(address + 6 + size * number, pointer * (number + 1))
                for at in range(0, len(inner_nodes), pointer):
                    waiting.append((uint(inner_nodes, at), uint(inner_nodes, at + 8, narrow), level - 1))

    @staticmethod
    def _expect(data: bytes, start: bytes, wrong: str) -> None:
        if not data.startswith(start):
            raise Hdf5Error(wrong)


def _width(number: int) -> int:
    return -(-number.bit_length() // 8)
