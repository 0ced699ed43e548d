"""Tables: the encoding of the columns is learned from the training rows and belongs to the network."""

import gzip
import json
import re

import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.data.cells import parse_cells
from reszoo.data.columns import Columns
from reszoo.data.table import open_table, read_rows

NAMES = ("height", "age", "color", "label")
ROWS = [
    (f"{1.5 + (i * 37 % 40) / 100:.2f}", str(20 + i * 7 % 40), "red" if i % 3 else "blue", "yn"[i % 2])
    for i in range(40)
]
"""Every height and every age occurs once."""


def write(path, *, names=NAMES, rows=ROWS, separator=",", encoding="utf-8", end="\n"):
    lines = [separator.join(line) for line in (names, *rows)]
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return path


def column(name, values, rows=ROWS):
    """The rows with other values in a column."""
    place = NAMES.index(name)
    return [(*row[:place], value, *row[place + 1 :]) for row, value in zip(rows, values, strict=True)]


def cell(name, value, index=3):
    """The rows with one other value, in row 5 of the file; it belongs to the training part."""
    place = NAMES.index(name)
    return column(name, [value if number == index else row[place] for number, row in enumerate(ROWS)])


def examples(data):
    """All rows that are not for testing, as a set: the split changes their order."""
    return {tuple(row) for part in (data.train, data.validation) for row in part.x.round(4).tolist()}


@pytest.fixture
def clean(tmp_path):
    return write(tmp_path / "clean.csv")


def test_numbers_stay_and_words_become_a_feature_each(clean):
    data = reszoo.open_data(clean)
    assert data.columns.features == ("height", "age", "color=blue", "color=red")
    assert data.classes == ("n", "y") and data.notes == () and data.task == "classification"
    expected = {(float(a), float(b), float(c == "blue"), float(c == "red")) for a, b, c, _ in ROWS}
    assert examples(data) == {tuple(np.float32(row).round(4).tolist()) for row in expected}
    np.testing.assert_allclose(data.arrays("train")[0].mean(axis=0), 0, atol=1e-6)


# Numbers, words and missing values.


@pytest.mark.parametrize("word", ["NA", "?", "null", "None", "nan", "", "N/A", "<NA>", "-"], ids=repr)
def test_a_missing_number_is_the_median_of_the_training_rows(tmp_path, word):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=cell("height", word)))
    assert data.columns.features[:3] == ("height", "height missing", "age") and data.shape == (5,)
    filled = data.train.x[data.train.x[:, 1] == 1]
    others = data.train.x[data.train.x[:, 1] == 0]
    assert len(filled) == 1 and filled[0, 0] == np.float32(np.median(others[:, 0].astype(float)))
    assert [note for note in data.notes if "column height: 1 missing value (row 5)" in note]


def test_a_number_missing_in_validation_only_is_filled_too(clean, tmp_path):
    held = write(tmp_path / "held.csv", rows=cell("age", "NA"))
    data = reszoo.open_data(clean, validation=held)
    assert data.shape == (4,) and data.validation.x[3, 1] == np.median(data.train.x[:, 1])
    assert any("validation part: column age: 1 missing value (row 5)" in note for note in data.notes)


NO_NUMBERS = ["1,234", "12kg", "1_000", "inf", "-Infinity", "0x10", "1e400", "1e39", "5%", "$5", "1 000", "many", "١٢"]


@pytest.mark.parametrize("word", NO_NUMBERS, ids=ascii)
def test_a_word_among_numbers_is_refused(tmp_path, word):
    with refused(["a.csv, row 5, column height", repr(word), "a finite number"]):
        reszoo.open_data(write(tmp_path / "a.csv", rows=cell("height", f'"{word}"')))


@pytest.mark.parametrize("word", ["+1.5", " 1.5 ", ".5", "5.", "1e3", "1E-3", "-0"], ids=repr)
def test_numbers_in_every_notation(tmp_path, word):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=cell("height", word)))
    assert data.shape == (4,) and data.notes == () and float(word) in data.train.x[:, 0].round(6)


@pytest.mark.parametrize("share", [0.8, 0.95])
def test_nine_tenths_decide_whether_a_column_is_one_of_numbers(tmp_path, share):
    values = [str(i % 4) if i < share * 40 else "many" for i in range(40)]
    file = write(tmp_path / "a.csv", rows=column("height", values))
    if share > 0.9:
        with refused(["column height", "'many'"]):
            reszoo.open_data(file, seed=1)
    else:
        data = reszoo.open_data(file)
        assert "height=many" in data.columns.features and "height=3" in data.columns.features
        assert any("values are numbers, 'many' is none" in note for note in data.notes)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"u{i:05d}" for i in range(40)], "another word in most rows"),
        ([f"2024-0{1 + i % 9}-1{i % 10}" for i in range(40)], "dates or times"),
        ([f"{1 + i % 28}/12/2024 10:{10 + i}" for i in range(40)], "dates or times"),
        (["12:30", "13:45"] * 20, "dates or times"),
        (["NA", ""] * 20, "no row has a value"),
        (["7"] * 40, "'7' in every training row"),
        (["red"] * 40, "'red' in every training row"),
        ([f"{i},500" for i in range(40)], "'0,500' is no number"),
        ([str(10**18 + i) for i in range(40)], "many become equal"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_columns_that_say_nothing_are_left_out(tmp_path, values, reason):
    quoted = [f'"{value}"' for value in values]
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("height", quoted)))
    assert data.columns.features == ("age", "color=blue", "color=red")
    assert [note for note in data.notes if "column height left out" in note and reason in note]
    assert reason in data.columns.unused["height"]


def test_a_table_without_a_usable_column_is_refused(tmp_path):
    with refused(["column a: '1' in every training row", "column b: 'x' in every"]):
        reszoo.open_data(
            write(tmp_path / "a.csv", names=("a", "b", "label"), rows=[("1", "x", "yn"[i % 2]) for i in range(9)])
        )


@pytest.mark.parametrize("values", [[str(1_700_000_000 + i) for i in range(40)], [f"{i}e-300" for i in range(40)]])
def test_numbers_that_float32_cannot_tell_apart_stay_apart(tmp_path, values):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("height", values)))
    assert len(np.unique(data.train.x[:, 0])) == len(data.train)
    assert any("float32" in note for note in data.notes)


def test_words_with_units_and_spellings_are_noted(tmp_path):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("height", [f"{i % 3}kg" for i in range(40)])))
    assert data.shape == (6,) and any("'0kg' is no number" in note for note in data.notes)
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("color", ["Red", "red", "blue", "blue"] * 10)))
    assert any("'Red' and 'red' differ in upper and lower case" in note for note in data.notes)
    typographic = ["\u2212" * (i % 2) + f"{i}.5" for i in range(40)]
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("height", typographic)))
    assert any("'\u22121.5' is no number" in note for note in data.notes)


def test_codes_among_numbers_are_noted(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("code,label\n" + "".join(f"{number:05d},{'ab'[number % 2]}\n" for number in [17, 10000] * 20))
    assert "'00017' begins with 0, as codes do" in " ".join(reszoo.open_data(file).notes)


def test_an_index_is_noted(tmp_path):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("height", [str(i + 7) for i in range(40)])))
    assert any("column height: numbers the rows" in note for note in data.notes)


# Targets.


@pytest.mark.parametrize("word", ["", "NA", "?", "nan", "null"], ids=repr)
def test_rows_without_a_label_are_left_out(tmp_path, word):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=cell("label", word)))
    assert len(data.train) + len(data.validation) == 39 and data.classes == ("n", "y")
    assert any("1 row without a value of label left out: row 5" in note for note in data.notes)


def test_a_frequent_class_may_be_named_none(tmp_path):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("label", ["None", "mild"] * 20)))
    assert data.classes == ("None", "mild") and any("'None' is read as a class" in note for note in data.notes)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["1", "1.0", "0", "0.0"], ("0", "1")),
        (["-1", "+1"], ("-1", "1")),
        (["10", "9"], ("9", "10")),
        (["01", "02"], ("01", "02")),
        (["1", "01", "2", "2"], ("1", "2")),
        (["True", "False"], ("False", "True")),
        (["b", "a", "10", "9"], ("10", "9", "a", "b")),
    ],
    ids=str,
)
def test_one_number_is_one_class(tmp_path, values, classes):
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=column("label", values * (40 // len(values)))))
    assert data.classes == classes
    assert sum(map(sum, data.counts().values())) == 40


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([f"{i}.25" for i in range(40)], ["numbers with fractions (0.25)", 'task="regression"']),
        ([str(i) for i in range(40)], ["40 different numbers", "40 rows", 'task="regression"']),
        ([f"u{i}" for i in range(40)], ["40 different words", "classes"]),
        (["y"] * 40, ["one class ('y')", "at least two"]),
        ([""] * 40, ["no row with a class"]),
    ],
    ids=lambda value: value[0],
)
def test_targets_that_are_no_classes_are_refused(tmp_path, values, message):
    with refused(["a.csv, target label", *message]):
        reszoo.open_data(write(tmp_path / "a.csv", rows=column("label", values)))


def test_numbers_as_targets(clean, tmp_path):
    data = reszoo.open_data(clean, target="height", task="regression")
    assert (data.task, data.classes, data.shape) == ("regression", ("height",), (5,))
    assert data.train.labels.shape == (36, 1) and data.train.labels.dtype == np.float32
    heights = {np.float32(row[0]) for row in ROWS}
    assert {*data.train.labels[:, 0], *data.validation.labels[:, 0]} == heights and "Data(" in repr(data)
    several = reszoo.open_data(clean, target=["height", "age"])
    assert (several.task, several.classes) == ("regression", ("height", "age")) and "task regression" in several.notes[
        0
    ]
    with refused(["row 2, column label", "'y'", "a number"]):
        reszoo.open_data(clean, task="regression")
    with refused(["target height", "1.5 in every row"]):
        same = write(tmp_path / "a.csv", rows=column("height", ["1.5"] * 40))
        reszoo.open_data(same, target="height", task="regression")
    unlabeled = reszoo.open_data(
        write(tmp_path / "a.csv", rows=cell("height", "NA")), target="height", task="regression"
    )
    assert len(unlabeled.train) + len(unlabeled.validation) == 39 and "row 5" in unlabeled.notes[0]


def test_several_classes_at_once(tmp_path):
    rows = [(a, str(i % 2), ("no", "yes", "TRUE")[i % 3], d) for i, (a, _, _, d) in enumerate(ROWS)]
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=rows), target=("age", "color"))
    assert (data.task, data.classes, data.shape) == ("multilabel", ("age", "color"), (3,))
    labels = np.concatenate([data.train.labels, data.validation.labels])
    assert labels.sum(axis=0).tolist() == [20, 26]
    assert [sum(pair) for pair in data.counts().values()] == [20, 26]
    with refused(["row 2, column height", "0 or 1"]):
        reszoo.open_data(tmp_path / "a.csv", target=("age", "height"), task="multilabel")
    with refused(["'age', 'label'", "one column of classes"]):
        reszoo.open_data(tmp_path / "a.csv", target=("age", "label"), task="classification")


def test_groups_are_a_column_or_an_array(clean):
    def first_group(labels, groups):
        assert len(labels) == len(groups)
        return np.flatnonzero(groups != groups[0]), np.flatnonzero(groups == groups[0])

    parts = open_table(clean, first_group, groups="color")
    assert parts.columns.features == ("height", "age") and len(parts.validation) == 14
    parts = open_table(clean, first_group, groups=np.arange(40) // 10)
    assert len(parts.columns.features) == 4 and len(parts.validation) == 10
    with refused(["groups", "'colour'", "did you mean 'color'"]):
        open_table(clean, first_group, groups="colour")
    with refused(["groups", "'label'", "another column than the target"]):
        open_table(clean, first_group, groups="label")
    with refused(["groups", "39 groups of 40 rows"]):
        open_table(clean, first_group, groups=np.arange(39))
    gaps = write(clean.with_name("gaps.csv"), rows=cell("color", ""))
    with refused(["gaps.csv, row 5, column color", "a group for every row"]):
        open_table(gaps, first_group, groups="color")


def test_features_of_a_network_for_another_target(tmp_path, clean):
    columns = reszoo.open_data(clean).columns.with_targets((), (), "classification")
    other = write(
        tmp_path / "other.csv",
        names=("height", "color", "age", "kind"),
        rows=[(a, c, b, "pqr"[i % 3]) for i, (a, b, c, _) in enumerate(ROWS)],
    )
    data = reszoo.open_data(other, columns=columns)
    assert data.classes == ("p", "q", "r") and data.columns.columns == columns.columns
    assert data.columns.features == ("height", "age", "color=blue", "color=red")
    with refused(["target", "'color'", "no feature"]):
        reszoo.open_data(other, columns=columns, target="color")


# Files.


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"], ids=repr)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_separators_and_ends_of_lines(tmp_path, clean, separator, end):
    data = reszoo.open_data(write(tmp_path / "a.csv", separator=separator, end=end))
    assert examples(data) == examples(reszoo.open_data(clean)) and data.notes == ()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    names = ("größe", *NAMES[1:])
    file = write(tmp_path / "a.csv", names=names, encoding=encoding)
    assert reszoo.open_data(file).columns.features[0] == "größe"
    assert reszoo.open_data(file, target="größe", task="regression").classes == ("größe",)


@pytest.mark.parametrize("name", ["a.tsv", "a.CSV", "a.csv.gz", "a.tsv.gz", "a.CSV.GZ"])
def test_suffixes(tmp_path, clean, name):
    content = write(tmp_path / "plain", separator="\t" if "tsv" in name else ",").read_bytes()
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    data = reszoo.open_data(str(file))
    assert data.name == "a" and examples(data) == examples(reszoo.open_data(clean))


def test_decimal_commas(tmp_path, clean):
    comma = column("height", [row[0].replace(".", ",") for row in ROWS])
    data = reszoo.open_data(write(tmp_path / "a.csv", rows=comma, separator=";"))
    assert examples(data) == examples(reszoo.open_data(clean)) and data.notes == (
        "numbers are read with a decimal comma",
    )
    both = column("age", [f"1.{100 + i}" for i in range(40)], comma)
    with refused(["row 2, column age", "'1.100'", "one decimal sign"]):
        reszoo.open_data(write(tmp_path / "a.csv", rows=both, separator=";"))


def test_what_spreadsheets_and_pandas_add_is_read(tmp_path, clean):
    expected = examples(reszoo.open_data(clean))
    text = clean.read_text()
    lines = text.splitlines()
    variants = {
        "trailing separators": "\n".join(f"{line}," for line in lines),
        "empty rows": text + ",,,\n,,,\n",
        "blank lines": text.replace("\n", "\n\n"),
        "sep=": "sep=;\n" + text.replace(",", ";"),
        "blanks": text.replace(",", " , "),
        "quotes": "\n".join(",".join(f'"{word}"' for word in line.split(",")) for line in lines),
        "index": "\n".join(f"{'' if number == 0 else number * 7 % 41},{line}" for number, line in enumerate(lines)),
        "index of pandas": "\n".join(f"{number or 'Unnamed: 0'},{line}" for number, line in enumerate(lines)),
        "commas in names": text.replace(",", ";").replace("height;age", "height, in m;age, in years"),
    }
    for name, content in variants.items():
        (tmp_path / "a.csv").write_text(content)
        assert examples(reszoo.open_data(tmp_path / "a.csv")) == expected, name


def test_cells_with_separators_quotes_and_line_breaks(tmp_path):
    quoted = {"red": '"re, ""d"""', "blue": '"blue\nsky"'}
    file = write(tmp_path / "a.csv", rows=column("color", [quoted[row[2]] for row in ROWS]))
    assert reszoo.open_data(file).columns.columns[2].words == ("blue\nsky", 're, "d"')


REFUSED_FILES = {
    "no file": (None, ["no such file"]),
    "empty": (b"", ["an empty file"]),
    "blank": (b"\n\n", ["an empty file"]),
    "names only": (b"a,b\n", ["2 names and no row"]),
    "one column": (b"label\na\nb\n", ["one column", "commas"]),
    "blanks between columns": (b"a b label\n1 2 y\n3 4 n\n", ["one column ('a b label')"]),
    "short row": (b"a,label\n1,y\n2\n", ["row 3", "1 column", "2 columns"]),
    "long row": (b"a,label\n1,y\n\n2,y,n\n", ["row 4", "3 columns", "2 columns"]),
    "open quote": (b'a,label\n"1,y\n2,n\n', ["row 2", "malformed", "quotation marks"]),
    "quote inside": (b'a,label\n1,y\n"2"2,n\n', ["row 3", "malformed"]),
    "names twice": (b"a,b,label\n1,2,y\na,b,label\n3,4,n\n", ["row 3", "the line of names again"]),
    "same name": (b"a,a,label\n1,2,y\n3,4,n\n", ["columns 1 and 2", "'a'"]),
    "a title above": (b"Sales of 2024\na,label\n1,y\n2,n\n", ["row 2", "2 columns", "is row 1 the line of names"]),
    "no name": (b"a,,label\n1,x,y\n3,x,n\n", ["column 2", "no name"]),
    "latin-1": ("größe,label\n1,y\n2,n\n".encode("latin-1"), ["not UTF-8: byte 2 is 0xf6", "UTF-8"]),
    "utf-16 without mark": ("a,label\n1,y\n2,n\n".encode("utf-16-le"), ["character 0", "UTF-16"]),
    "workbook": (b"PK\x03\x04\xff\xfe", ["workbook", ".csv"]),
    "half of a gzip file": (gzip.compress(b"a,label\n1,y\n" * 99)[:-9], ["cannot be read"]),
    "fraction as name": (b"0.5,7,y\n1.5,8,n\n2.5,9,y\n", ["row 1", "'0.5'", "names of the columns"]),
    "negative name": (b"-5,7,y\n1,8,n\n2,9,y\n", ["row 1", "'-5'"]),
    "class as name": (b"5,7,y\n1,8,n\n2,9,y\n", ["row 1", "'y'", "also a value"]),
    "numbers as names": (b"5,7,3\n1,8,0\n2,9,1\n", ["row 1", "'5'"]),
    "comma fraction as name": (b"0,5;7;x\n1,5;8;y\n2,5;9;x\n", ["row 1", "'0,5'"]),
}


@pytest.mark.parametrize("name", REFUSED_FILES)
def test_malformed_files_are_refused(tmp_path, name):
    content, message = REFUSED_FILES[name]
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with refused(["a.csv", *message]):
        reszoo.open_data(tmp_path / "a.csv")


def test_columns_may_be_numbered(tmp_path):
    rows = [(a, b, str(i % 3), str(i % 2)) for i, (a, b, _, _) in enumerate(ROWS)]
    assert reszoo.open_data(write(tmp_path / "a.csv", names="0123", rows=rows)).columns.targets == ("3",)
    assert reszoo.open_data(write(tmp_path / "a.csv", names="1234", rows=rows)).columns.targets == ("4",)


def test_unknown_targets_name_the_nearest(clean):
    with refused(["clean.csv: target", "'3'", "'height', 'age', 'color', 'label'"]):
        reszoo.open_data(clean, target=3)
    with refused(["task", "'ranking'", "classification, multilabel, regression"]):
        reszoo.open_data(clean, task="ranking")
    with refused(["clean.csv: target", "'Label'", "'height', 'age', 'color', 'label'", "did you mean 'label'"]):
        reszoo.open_data(clean, target="Label")


def test_wide_tables(tmp_path):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(30, 2000)).astype("float32")
    rows = [(*(f"{number:.6g}" for number in row), "yn"[i % 2]) for i, row in enumerate(numbers)]
    data = reszoo.open_data(write(tmp_path / "a.csv", names=(*(f"c{i}" for i in range(2000)), "label"), rows=rows))
    assert data.shape == (2000,)
    order = np.argsort(data.train.x[:, 0])
    kept = numbers[np.isin(numbers[:, 0].round(4), data.train.x[:, 0].round(4))]
    np.testing.assert_allclose(data.train.x[order], kept[np.argsort(kept[:, 0])], rtol=1e-4)


# Further tables: columns by name, words of training.


def test_further_tables_are_encoded_as_in_training(tmp_path, clean):
    """Another order, another separator, fewer words, a column more, a column that was left out."""
    ids = [(f"u{i}", *row) for i, row in enumerate(ROWS)]
    train = write(tmp_path / "train.csv", names=("id", *NAMES), rows=ids)
    blue = [(d, c, b.replace(".", ","), a.replace(".", ","), "x") for a, b, c, d in ROWS if c == "blue"]
    names = (*NAMES[::-1], "weight")
    test = write(tmp_path / "test.csv", names=names, rows=blue, separator=";")
    data = reszoo.open_data(train, test=test)
    assert data.columns.features == ("height", "age", "color=blue", "color=red")
    expected = [(float(a), float(b), 1, 0) for a, b, c, _ in ROWS if c == "blue"]
    np.testing.assert_allclose(data.test.x, expected, rtol=1e-6)
    assert [data.classes[label] for label in data.test.labels] == [row[3] for row in ROWS if row[2] == "blue"]
    notes = [note for note in data.notes if note.startswith("test part")]
    assert len(notes) == 2 and "decimal comma" in notes[0] and "column 'weight': not in the training table" in notes[1]


def test_a_further_table_is_noted_as_a_whole(tmp_path, clean):
    """Though it is split as the training table was."""
    file = write(tmp_path / "a.csv", rows=column("height", ["NA"] * 40))
    data = reszoo.open_data(file, columns=reszoo.open_data(clean).columns)
    assert len(data.validation) == 4 and len(data.notes) == 1
    assert "column height: 40 missing values" in data.notes[0]


def test_unknown_words_are_zero_in_every_feature(tmp_path, clean):
    green = write(tmp_path / "green.csv", rows=column("color", [row[2].replace("red", "green") for row in ROWS]))
    data = reszoo.open_data(clean, test=green)
    np.testing.assert_array_equal(data.test.x[:, 2:], [[row[2] == "blue", 0] for row in ROWS])
    reds = sum(row[2] == "red" for row in ROWS)
    assert any(f"{reds} rows with 'green' (rows 3, 4, 6, ...)" in note for note in data.notes)


def test_a_missing_word_is_a_word(tmp_path, clean):
    train = write(tmp_path / "a.csv", rows=column("color", ["red", "blue", "", "red"] * 10))
    other = write(tmp_path / "b.csv", rows=column("color", ["NA", "blue", "NA", "red"] * 10))
    data = reszoo.open_data(train, test=other)
    assert data.columns.features[2:] == ("color=", "color=blue", "color=red")
    np.testing.assert_array_equal(data.test.x[:4, 2:], [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    data = reszoo.open_data(clean, test=other)
    assert not data.test.x[0, 2:].any() and any("20 rows without a value" in note for note in data.notes)


def test_numbers_among_words_are_matched_by_value(tmp_path):
    train = write(tmp_path / "a.csv", rows=column("color", ["1", "2", "x", "y"] * 10))
    other = write(tmp_path / "b.csv", rows=column("color", ["1.0", "2", "x", "3"] * 10))
    data = reszoo.open_data(train, test=other)
    np.testing.assert_array_equal(data.test.x[:4, 2:].argmax(axis=1)[:3], [0, 1, 2])
    assert not data.test.x[3, 2:].any()


def test_true_and_false_in_any_case(tmp_path):
    train = write(
        tmp_path / "a.csv", rows=column("label", ["true", "false"] * 20, column("color", ["True", *["False"] * 3] * 10))
    )
    other = write(
        tmp_path / "b.csv", rows=column("label", ["TRUE", "FALSE"] * 20, column("color", ["TRUE", "false"] * 20))
    )
    data = reszoo.open_data(train, test=other)
    np.testing.assert_array_equal(data.test.x[:2, 2:], [[0, 1], [1, 0]])
    assert data.test.labels[:2].tolist() == [1, 0] and data.notes == ()


def test_dates_as_numbers_are_noted(tmp_path):
    data = reszoo.open_data(
        write(tmp_path / "a.csv", rows=column("height", [f"202401{1 + i % 28:02d}" for i in range(40)]))
    )
    assert "height" in data.columns.features and any("look like dates (20240101)" in note for note in data.notes)


def test_values_far_from_those_of_training_are_noted(tmp_path, clean):
    centimeters = write(tmp_path / "cm.csv", rows=column("height", [f"{100 * float(row[0]):.0f}" for row in ROWS]))
    notes = reszoo.open_data(clean, test=centimeters).notes
    assert any("column height: 40 of 40 values are outside" in note and "1.5 to 1.89" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"names": ("height", "age", "label"), "rows": [(*row[:2], row[3]) for row in ROWS]},
            ["column color", "no such"],
        ),
        ({"names": ("Height", *NAMES[1:])}, ["column height", "did you mean 'Height'"]),
        ({"names": NAMES[:3], "rows": [row[:3] for row in ROWS]}, ["column label", "no such column", "predict"]),
        ({"rows": cell("height", "tall")}, ["row 5, column height", "'tall'", "as in training"]),
        ({"rows": cell("label", "maybe")}, ["row 5, column label", "class 'maybe'", "'n', 'y'"]),
        ({"names": ROWS[0], "rows": ROWS[1:]}, ["no such column", "is its first line a row"]),
        ({"names": (*(name.title() for name in NAMES[:3]), "label")}, ["column height", "did you mean 'Height'"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_tables_that_do_not_fit_are_refused(tmp_path, clean, part, change, message):
    other = write(tmp_path / "other.csv", **change)
    with refused(["other.csv", *message]):
        reszoo.open_data(clean, **{part: other})


def test_the_encoding_is_that_of_the_training_rows_alone(tmp_path, clean):
    """What only the held-out rows contain changes neither features nor medians."""
    data = reszoo.open_data(clean, seed=5)
    held = {round(float(age)) for age in data.validation.x[:, 1]}
    rows = [(a, "NA" if int(b) in held else b, "green" if int(b) in held else c, d) for a, b, c, d in ROWS]
    changed = reszoo.open_data(write(tmp_path / "a.csv", rows=rows), seed=5)
    assert changed.columns == data.columns and changed.scaling == data.scaling
    np.testing.assert_array_equal(changed.train.x, data.train.x)
    assert (changed.validation.x[:, 1] == np.median(data.train.x[:, 1])).all()
    assert not changed.validation.x[:, 2:].any()
    notes = "\n".join(changed.notes)
    assert "validation part: column age: 4 missing values" in notes and "with 'green'" in notes


def test_an_encoding_survives_json(tmp_path):
    rows = [(a, "NA" if i % 5 == 0 else b, c, d) for i, (a, b, c, d) in enumerate(ROWS)]
    rows = [(f"{number}", *row) for number, row in enumerate(rows, 1_700_000_000)]
    columns = reszoo.open_data(write(tmp_path / "a.csv", names=("time", *NAMES), rows=rows)).columns
    assert columns.columns[0].center > 1e9 and columns.columns[2].indicator
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict(), allow_nan=False))) == columns
    assert "5 columns" not in repr(columns) and "4 columns as 6 features" in repr(columns)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"columns": [{"name": "a", "kind": "picture"}]},
        {"columns": [{"name": "a", "kind": "number", "median": 1e999}]},
    ],
    ids=["task", "kind", "median"],
)
def test_damaged_encodings_are_refused(clean, change):
    content = reszoo.open_data(clean).columns.to_dict() | change
    with pytest.raises(ValueError, match=re.compile("task|kind|column")):
        Columns.from_dict(content)


def test_rows_for_predictions_need_no_target(tmp_path, clean):
    data = reszoo.open_data(clean)
    for names, rows in ((NAMES, ROWS), (NAMES[:3], [row[:3] for row in ROWS])):
        rows = read_rows(write(tmp_path / "new.csv", names=names, rows=rows), data.columns)
        assert rows.names == tuple(str(number) for number in range(2, 42)) and rows.notes == ()
        np.testing.assert_allclose(rows.x[:, 0], [float(row[0]) for row in ROWS], rtol=1e-6)
    one = read_rows(write(tmp_path / "new.csv", rows=ROWS[:1]), data.columns)
    assert one.x.shape == (1, 4)
    with refused(["new.csv", "names no columns"]):
        read_rows(tmp_path / "new.csv", None)


def test_a_single_column_is_enough_for_predictions(tmp_path):
    data = reszoo.open_data(write(tmp_path / "a.csv", names=("age", "label"), rows=[(row[1], row[3]) for row in ROWS]))
    (tmp_path / "new.csv").write_text("age\n30\n\n50\n")
    rows = read_rows(tmp_path / "new.csv", data.columns)
    assert rows.x.tolist() == [[30], [50]] and rows.names == ("2", "4")


# Data frames.


class Series(list):
    """A column of a data frame, as pandas has it."""

    def __init__(self, values, name=None):
        super().__init__(values)
        self.name = name

    def tolist(self):
        return [*self]


class Frame:
    """A data frame with as much of pandas' interface as is needed."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = [*columns]

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, name):
        return Series(self._columns[name], name)

    def to_dict(self, orient="dict"):
        return self._columns


class NAType:
    """pandas' missing value, which is neither true nor false."""

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


def frame(**changes):
    numbers = {"height": [float(row[0]) for row in ROWS], "age": [np.int64(row[1]) for row in ROWS]}
    words = {"color": [row[2] for row in ROWS], "label": [row[3] for row in ROWS]}
    return Frame(numbers | words | changes)


def test_data_frames_are_read_as_files_are(clean):
    expected = examples(reszoo.open_data(clean))
    whole, target = frame(), frame()["label"]
    features = Frame({name: whole[name] for name in whole.columns[:3]})
    for source in (whole, (features, target), (features, [*target]), (features, np.array(target)), (whole, target)):
        data = reszoo.open_data(source)
        assert examples(data) == expected and data.classes == ("n", "y") and data.notes == ()
    other = reszoo.open_data(whole, test=(features, [*target]), validation=clean)
    assert other.test.labels.tolist() == other.validation.labels.tolist() and other.notes == ()


def test_a_frame_and_a_target_in_another_order_are_refused():
    whole, target = frame(), frame()["label"]
    features = Frame({name: whole[name] for name in whole.columns[:3]})
    for source, index in ((features, range(40)), (target, range(40)[::-1])):
        source.iloc, source.index = None, [*index]
    with refused(["row labels in another order", "target.loc"]):
        reszoo.open_data((features, target))
    target.index = [*range(100, 140)]
    assert len(reszoo.open_data((features, target)).train) == 36


@pytest.mark.parametrize(
    "value", [None, float("nan"), np.float32("nan"), NAType()], ids=["None", "nan", "float32", "NA"]
)
def test_missing_values_of_data_frames(value):
    heights = [value if i == 3 else float(row[0]) for i, row in enumerate(ROWS)]
    data = reszoo.open_data(frame(height=heights))
    assert data.shape == (5,) and any("column height: 1 missing value (row 3)" in note for note in data.notes)


def test_the_target_among_the_features_is_noted_or_refused():
    with refused(["'label'", "different values"]):
        reszoo.open_data((frame(), Series([row[3] == "y" for row in ROWS], "label")))
    data = reszoo.open_data((frame(), [row[3] for row in ROWS]))
    assert any("column label: the values of the target" in note for note in data.notes)
    with refused(["40 rows", "39 values of target"]):
        reszoo.open_data((frame(), [row[3] for row in ROWS][1:]))
    with refused(["the table", "no row"]):
        reszoo.open_data(Frame({"a": [], "label": []}))
    with refused(["the table, row 3, column height", "'inf'"]):
        reszoo.open_data(frame(height=[float("inf") if i == 3 else i / 7 for i in range(40)]))


def test_another_name_for_the_target_is_noted():
    codes = [{"y": "7", "n": "3"}.get(row[3], row[3]) for row in ROWS]
    notes = reszoo.open_data(frame(code=codes), target="label").notes
    assert [note for note in notes if "name for each value of the target" in note] == [
        "column code: another name for each value of the target; leave it out if it is not known before"
    ]
    some = ["0", *codes[1:]]
    assert not any("of the target" in note for note in reszoo.open_data(frame(code=some), target="label").notes)


def test_one_hot_columns_of_floats_are_no_quantities():
    targets = np.eye(3)[[0, 1, 2, 0] * 10]
    features = Frame({"height": [float(row[0]) for row in ROWS]})
    data = reszoo.open_data((features, targets))
    assert data.task == "multilabel" and any("exactly one 1" in note for note in data.notes)
    targets[0, 1] = 1
    assert not any("exactly one 1" in note for note in reszoo.open_data((features, targets)).notes)


def test_the_audit_names_the_target(clean):
    assert "classification of column label, 2 classes" in reszoo.open_data(clean).audit().text()
    audit = reszoo.open_data(clean, target=["height", "age"]).audit()
    assert "regression of column height, age, 2 outputs" in audit.text()
    assert audit.page().facts["target"] == "height, age"


ODD_NUMBERS = [
    (lambda i: f"1.{200 + i}" if i % 2 else str(i * 20), "'1.201' is read as 1.201; write thousands without a sign"),
    (lambda i: f"1.{200 + i}", ""),
    (lambda i: f"{i}.125" if i % 2 else str(i), ""),
    (lambda i: "-999" if i % 8 == 1 else str(i % 6), "'-999' in 5 rows is far from all other values"),
    (lambda i: str(90 + i), ""),
]


@pytest.mark.parametrize(("cell", "note"), ODD_NUMBERS)
def test_numbers_that_may_mean_something_else_are_noted(tmp_path, cell, note):
    rows = "\n".join(f"{cell(i)};{i % 5};{'ny'[i // 3 % 2]}" for i in range(40))
    (tmp_path / "odd.csv").write_text(f"height;width;label\n{rows}\n")
    found = [text for text in reszoo.open_data(tmp_path / "odd.csv").notes if "thousands" in text or "far" in text]
    assert len(found) == bool(note) and all(note in text for text in found)


def test_cells():
    cells = parse_cells(["1.5", " NA", "red ", "1e500", "2,5"])
    np.testing.assert_array_equal(cells.numbers, [1.5, *[np.nan] * 4])
    assert cells.missing.tolist() == [False, True, False, False, False] and cells.others.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(parse_cells(["1,5", "1.5"], decimal=",").numbers, [1.5, np.nan])
