"""Messages of Protocol Buffers, read without a schema: numbers of fields, and where their values are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

FIELDS = 1 << 20
"""Most fields of one message."""


class DamagedMessageError(Exception):
    """Bytes that are no message."""


class Span(NamedTuple):
    """A part of a file."""

    start: int
    end: int


class Field(NamedTuple):
    """One field of a message."""

    number: int
    value: int
    """Of whole numbers; of fixed-size fields their bits."""
    span: Span | None
    """Of texts, bytes, packed lists and inner messages."""


def fields(data: memoryview, span: Span) -> Iterator[Field]:
    """Yields the fields of the message in a part of a file.

    Raises:
        DamagedMessageError: the bytes are no message.
    """
    at, end = span
    for _ in range(FIELDS):
        if at >= end:
            return
        key, at = varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at, end)
            yield Field(number, value, None)
        elif kind == 2:
            size, at = varint(data, at, end)
            if size > end - at:
                raise DamagedMessageError("a length beyond the end of its message")
            yield Field(number, 0, Span(at, at + size))
            at += size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if size > end - at:
                raise DamagedMessageError("a number beyond the end of its message")
            yield Field(number, int.from_bytes(data[at : at + size], "little"), None)
            at += size
        else:
            raise DamagedMessageError(f"a field of kind {kind}")
    raise DamagedMessageError(f"more than {FIELDS:,} fields")


def varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Returns an unsigned number of variable length, and the place after it.

    Raises:
        DamagedMessageError: it does not end.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise DamagedMessageError("a truncated number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise DamagedMessageError("a number of more than ten bytes")


def integers(data: memoryview, field: Field) -> list[int]:
    """Returns the signed whole numbers of a field: one, or a packed list."""
    values = []
    if field.span is None:
        values.append(field.value)
    else:
        at, end = field.span
        while at < end:
            if len(values) >= FIELDS:
                raise DamagedMessageError(f"more than {FIELDS:,} numbers")
            value, at = varint(data, at, end)
            values.append(value)
    return [value - (1 << 64) if value >= 1 << 63 else value for value in values]


def text(data: memoryview, field: Field) -> str:
    """Returns the text of a field.

    Raises:
        DamagedMessageError: it is not UTF-8, or longer than 1,000 bytes.
    """
    span = field.span or Span(0, 0)
    if span.end - span.start > 1000:
        raise DamagedMessageError("a name of more than 1,000 bytes")
    try:
        return bytes(data[span.start : span.end]).decode()
    except UnicodeDecodeError:
        raise DamagedMessageError("a name that is not UTF-8") from None


def real(field: Field) -> float:
    """Returns the float32 of a field of four bytes."""
    return float(struct.unpack("<f", field.value.to_bytes(8, "little")[:4])[0])
