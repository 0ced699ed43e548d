"""Tables in `.csv` and `.tsv` files, and in data frames, as rows of cells."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.data.cells import NUMBER, Cells, Table, counted, parse_cells, row_numbers
from reszoo.data.labels import plain
from reszoo.errors import ReszooError

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SEPARATORS = "\t;|,"
"""The first one that fits is taken: the others are rarer than the comma in names and cells."""
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"}
BYTE_ORDER_MARKS |= {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Longer marks come first: that of UTF-32 begins like that of UTF-16."""
UNNAMED = re.compile(r"|unnamed: \d+", re.IGNORECASE)
"""No name; also the name that pandas writes for it."""


def is_table_file(source: object) -> bool:
    """Returns whether a source is the path of a table, by its suffix."""
    return isinstance(source, (str, Path)) and str(source).lower().endswith(SUFFIXES)


def is_frame(source: object) -> bool:
    """Returns whether a source is a data frame of pandas, Polars or PyArrow, or behaves like one."""
    return hasattr(source, "columns") and any(hasattr(source, name) for name in ("to_dict", "iloc", "to_pydict"))


def is_table(source: object) -> bool:
    """Returns whether a source is a table: a `.csv` or `.tsv` file, a data frame, or a frame and its target."""
    if isinstance(source, tuple) and len(source) == 2:
        return is_frame(source[0])
    return is_frame(source) or (is_table_file(source) and not Path(str(source)).expanduser().is_dir())


def file_table(path: Path) -> Table:
    """Returns the rows of a `.csv` or `.tsv` file, compressed by gzip or not.

    The separator (comma, semicolon, tab, vertical bar) follows from the first line; a comma as decimal sign is read in
    files with semicolons. Blank lines are skipped.

    Raises:
        ReszooError: no file, another encoding than UTF-8, a malformed row, a column without a name or with that of
            another; the message names the row.
    """
    text = _text(path)
    separator, text, skipped = _separator(text)
    records = _records(path, text, separator, skipped)
    if not records:
        raise ReszooError(str(path), got="an empty file", expected="a line of names and rows")
    header, notes = records.pop(0), []
    names = [plain(name) for name in header.cells]
    if not records:
        got = f"{counted(len(names), 'name')} and no row"
        raise ReszooError(str(path), got=got, expected="a line of names and rows")
    _refuse_irregular(path, names, header, records)
    blank = [record.line for record in records if not "".join(record.cells).strip()]
    if blank:
        notes.append(f"{counted(len(blank), 'row')} without any value left out: {row_numbers(blank)}")
        records = [record for record in records if "".join(record.cells).strip()]
    written = {position: [record.cells[position] for record in records] for position in range(len(names))}
    decimal = _decimal(path, names, written, records) if separator == ";" else "."
    if decimal == ",":
        notes.append("numbers are read with a decimal comma")
    columns = [(name, parse_cells(written[position], decimal=decimal)) for position, name in enumerate(names)]
    named, unnamed = _without_index(str(path), columns)
    name = path.name[: -len(next(suffix for suffix in SUFFIXES[::-1] if path.name.lower().endswith(suffix)))]
    import numpy as np

    rows = np.array([record.line for record in records], int)
    return Table(name, named, rows, path=str(path), decimal=decimal, notes=(*notes, *unnamed))


def frame_table(frame: Any) -> Table:
    """Returns the rows of a data frame.

    Raises:
        ReszooError: no row, or a column without a name or with that of another.
    """
    import numpy as np

    names = list(getattr(frame, "column_names", None) or frame.columns)
    _refuse_repeated("the table", [plain(str(name)) for name in names])
    by_name = frame if hasattr(frame, "__getitem__") else frame.to_dict("list")
    columns = [(plain(str(name)), series_cells(by_name[name])) for name in names]
    rows = len(columns[0][1].words) if columns else 0
    if not rows:
        raise ReszooError("the table", got="no row", expected="at least one")
    named, notes = _without_index("the table", columns)
    return Table("table", named, np.arange(rows), path="the table", notes=notes)


def series_cells(series: Any) -> Cells:
    """Returns the cells of a column of a data frame, of an array or of a list."""
    method = next((name for name in ("to_pylist", "to_list", "tolist") if hasattr(series, name)), "")
    return parse_cells(map(_word, getattr(series, method)() if method else series))


def _word(value: Any) -> str:
    """A value of a data frame as it would be written in a file."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, str):
        return value
    if type(value).__name__ in ("float", "float16", "float32", "float64"):
        return repr(float(value)) if value == value else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _text(path: Path) -> str:
    """The text of a file, without a byte order mark."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        got = "no such file" if isinstance(error, FileNotFoundError) else f"a file that cannot be read ({error})"
        raise ReszooError(str(path), got=got, expected="a .csv or .tsv file, or one compressed by gzip") from None
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), None)
    try:
        text = content.decode(encoding or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        got = f"text that is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}"
        if content.startswith(b"PK"):
            got = "a workbook or a zip archive"
        raise ReszooError(str(path), got=got, expected="UTF-8", hint="save it as .csv in UTF-8") from None
    if "\0" in text:
        got = f"character 0 at position {text.index(chr(0))}: a binary file, or UTF-16 without a byte order mark"
        raise ReszooError(str(path), got=got, expected="UTF-8", hint="save it as .csv in UTF-8")
    return text


def _separator(text: str) -> tuple[str, str, int]:
    """The separator, the text from the line of names on, and the number of lines before it."""
    lines = text.splitlines(keepends=True)
    skipped = next((index for index, line in enumerate(lines) if line.strip()), 0)
    stated = re.fullmatch(r"sep=(.)\s*", lines[skipped], re.IGNORECASE) if lines else None
    if stated:
        # The first line of files for Excel.
        skipped += 1
    start = "".join(lines[skipped:])
    if stated and stated[1] in SEPARATORS:
        return stated[1], start, skipped
    names = next(iter(re.sub(r'"[^"]*"', "", start[:100_000]).splitlines()), "")
    candidates = [separator for separator in SEPARATORS if separator in names]
    # A name may hold a comma in a file with semicolons: the separator divides all of the first rows alike.
    return max(candidates, key=lambda separator: _regularity(start, separator), default=","), start, skipped


def _regularity(text: str, separator: str) -> tuple[bool, int]:
    """Whether the first rows have as many columns as there are names, and the number of names."""
    try:
        counts = [len(cells) for cells in islice(_reader(text, separator), 20) if cells]
    except csv.Error:
        return False, 0
    return len({*counts}) == 1, counts[0]


class _Record(NamedTuple):
    """A row of a file."""

    line: int
    """Its first line, from 1."""
    cells: list[str]


def _reader(text: str, separator: str) -> Any:
    # Strict: a quotation mark that is never closed would otherwise swallow the rest of the file.
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)


def _records(path: Path, text: str, separator: str, skipped: int) -> list[_Record]:
    """The rows of a file that are not blank lines; the first one holds the names."""

    def read() -> Iterator[_Record]:
        reader, line = _reader(text, separator), skipped + 1
        try:
            for cells in reader:
                if cells and (len(cells) > 1 or cells[0].strip()):
                    yield _Record(line, cells)
                line = skipped + reader.line_num + 1
        except csv.Error as error:
            hint = "" if "limit" in str(error) else "quote a cell as a whole, and double the quotation marks in it"
            raise ReszooError(f"{path}, row {line}", got=f"a malformed row ({error})", hint=hint) from None

    return list(read())


def _refuse_irregular(path: Path, names: list[str], header: _Record, records: list[_Record]) -> None:
    """Takes empty cells off the ends of names and rows; refuses rows of another length and repeated names."""
    while names and not names[-1] and not any(cell.strip() for r in records for cell in r.cells[len(names) - 1 :]):
        names.pop()
    for record in records:
        while len(record.cells) > len(names) and not record.cells[-1].strip():
            record.cells.pop()
        if len(record.cells) != len(names):
            got, expected = counted(len(record.cells), "column"), counted(len(names), "column")
            alike = len({len(each.cells) for each in records}) == 1
            hint = f"is row {header.line} the line of names? it begins with {names[0][:40]!r}" if alike else ""
            raise ReszooError(
                f"{path}, row {record.line}", got=got, expected=f"{expected}, as there are names", hint=hint
            )
        if len(names) > 1 and record.cells[0].strip() == names[0] and [*map(str.strip, record.cells)] == names:
            got = f"the line of names again, as in row {header.line}"
            raise ReszooError(f"{path}, row {record.line}", got=got, hint="remove one of them")
    _refuse_repeated(str(path), names)


def _refuse_repeated(place: str, names: Sequence[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position] and name:
            got = f"columns {names.index(name) + 1} and {position + 1} are both named {name!r}"
            hint = "is its first line a row?" if NUMBER.fullmatch(name) else ""
            raise ReszooError(place, got=got, expected="another name for every column", hint=hint)


def _without_index(place: str, columns: Iterable[tuple[str, Cells]]) -> tuple[Mapping[str, Cells], tuple[str, ...]]:
    """Columns by name, and notes; an unnamed column that counts the rows, as pandas writes it, is left out."""
    import numpy as np

    named, notes = {}, []
    for position, (name, cells) in enumerate(columns, 1):
        if not UNNAMED.fullmatch(name):
            named[name] = cells
        elif not cells.values or (
            not np.isnan(cells.numbers).any()
            and len(np.unique(cells.numbers)) == len(cells.numbers)
            and (cells.numbers % 1 == 0).all()
        ):
            content = "numbers the rows" if cells.values else "is empty"
            notes.append(f"column {position} has no name and {content}: left out")
        else:
            raise ReszooError(f"{place}, column {position}", got="no name", expected="a name for every column")
    return named, tuple(notes)


def _decimal(path: Path, names: Sequence[str], written: Mapping[int, list[str]], records: Sequence[_Record]) -> str:
    """The decimal sign of a file with semicolons: a comma where a column is one of numbers with it."""
    commas = [column for column in written if _has_numbers(written[column], ",")]
    if not commas:
        return "."
    for column in (column for column in written if _has_numbers(written[column], ".")):
        row = next(
            index for index, word in enumerate(written[column]) if "." in word and NUMBER.fullmatch(word.strip())
        )
        comma = next(word.strip() for word in written[commas[0]] if "," in word)
        where = f"{path}, row {records[row].line}, column {names[column]}"
        got = f"{written[column][row].strip()!r}, and {comma!r} in column {names[commas[0]]}"
        raise ReszooError(where, got=got, expected="one decimal sign, without signs for thousands")
    return ","


def _has_numbers(words: Iterable[str], decimal: str) -> bool:
    """Whether a column is one of numbers, some of them with this decimal sign."""
    cells = parse_cells(words, decimal=decimal)
    if not cells.are_numbers:
        return False
    return any(decimal in word for word in cells.words[~cells.missing])
