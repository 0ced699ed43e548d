"""Weights of examples: every door reads them, they stay with their examples, and the loss follows them."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.data.dataset import digests
from reszoo.training.batches import Batches
from reszoo.training.recipes import Augmentation

COUNT = 40
WEIGHTS = (np.arange(COUNT) % 7 + 1).astype("float32")
ROWS = np.stack([WEIGHTS, np.arange(COUNT) * 0.5], axis=1).astype("float32")
KIND = np.arange(COUNT) % 2
QUICK = {"epochs": 2, "batch": 8, "verbose": 0, "changes": {"depths": 1, "widths": 8}}


class Stream(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        rows = slice(10 * number, 10 * number + 10)
        return ROWS[rows], KIND[rows], WEIGHTS[rows]


def table(folder):
    lines = [f"{a},{b},{w},{'no' if k else 'yes'}\n" for (a, b), w, k in zip(ROWS, WEIGHTS, KIND, strict=True)]
    file = folder / "rows.csv"
    file.write_text("first,second,importance,kind\n" + "".join(lines), encoding="utf-8")
    return file


DOORS = {
    "a third array": lambda folder: ((ROWS, KIND, WEIGHTS), {}),
    "a column of weights": lambda folder: ((ROWS, KIND, WEIGHTS[:, None]), {}),
    "a dict": lambda folder: ({"x": ROWS, "y": KIND, "sample_weight": WEIGHTS}, {}),
    "a stream": lambda folder: (Stream(), {}),
    "parts": lambda folder: (((ROWS, KIND, WEIGHTS), (ROWS[:9], KIND[:9])), {}),
    "an argument": lambda folder: ((ROWS, KIND), {"sample_weight": WEIGHTS}),
    "a column": lambda folder: (table(folder), {"sample_weight": "importance"}),
    "beside a table": lambda folder: (table(folder), {"sample_weight": list(WEIGHTS)}),
}


@pytest.mark.parametrize("name", DOORS)
def test_every_door_reads_weights_and_they_stay_with_their_examples(name, tmp_path):
    source, settings = DOORS[name](tmp_path)
    data = reszoo.open_data(source, **settings)
    for part in (data.train, data.validation):
        assert len(part.weights) == len(part) and np.array_equal(part.weights, part.x[:, 0])
    assert data.shape == ((3,) if name == "beside a table" else (2,))
    assert any("sample weights from 1 to 7" in note for note in data.notes)


def test_weights_of_a_table_are_numbers_in_its_notation(tmp_path):
    (tmp_path / "a.csv").write_text("a;w;k\n" + "".join(f"{i},5;{i % 3},25;{'xy'[i % 2]}\n" for i in range(20)))
    data = reszoo.open_data(tmp_path / "a.csv", sample_weight="w")
    assert {*data.train.weights.tolist()} == {0.25, 1.25, 2.25} and data.columns.unused["w"] == "sample_weight"


def test_a_saved_file_and_folds_keep_weights(tmp_path):
    np.savez(
        tmp_path / "a.npz", x=ROWS, y=KIND, weights=WEIGHTS, x_test=ROWS[:5], y_test=KIND[:5], weights_test=WEIGHTS[:5]
    )
    data = reszoo.open_data(tmp_path / "a.npz", folds=3, fold=1)
    assert all(np.array_equal(part.weights, part.x[:, 0]) for part in data.parts().values()) and len(data.test) == 5


REFUSED = {
    "twice": (((ROWS, KIND, WEIGHTS), {"sample_weight": WEIGHTS}), ["beside those of the source"]),
    "a name for arrays": (((ROWS, KIND), {"sample_weight": "w"}), ["'w'", "a number for every example"]),
    "all 0": (((ROWS, KIND, 0 * WEIGHTS), {}), ["not all 0"]),
    "NaN": (((ROWS, KIND, np.full(COUNT, np.nan)), {}), ["finite"]),
    "words": (((ROWS, KIND, ["a"] * COUNT), {}), ["one number for each of 40"]),
    "images of a folder": (("folder", {"sample_weight": WEIGHTS}), ["a folder", "class_weights"]),
    "no such column": (("table", {"sample_weight": "importanc"}), ["did you mean 'importance'"]),
    "a column of words": (("table", {"sample_weight": "word"}), ["a weight: a number in every row", "row"]),
    "the target": (("table", {"sample_weight": "kind"}), ["another column than the target"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_cannot_be_used_are_refused(name, tmp_path):
    (source, settings), messages = REFUSED[name]
    if isinstance(source, str) and source == "folder":
        for kind in "ab":
            (tmp_path / kind).mkdir()
        source = tmp_path
    elif isinstance(source, str):
        source = table(tmp_path)
        lines = source.read_text(encoding="utf-8").splitlines()
        source.write_text("\n".join([f"word,{lines[0]}", *(f"w,{line}" for line in lines[1:])]), encoding="utf-8")
    with refused(messages):
        reszoo.open_data(source, **settings)


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_part_whose_weights_are_all_zero_cannot_be_trained_on(part):
    whole = reszoo.open_data((ROWS, KIND, WEIGHTS), validation=(ROWS, KIND, WEIGHTS))
    empty = replace(whole.validation, weights=np.zeros(len(whole.validation), "float32"))
    with refused([f"{part} examples whose weights are all 0"]):
        replace(whole, **{"train" if part == "training" else part: empty}).check_trainable()
    whole.check_trainable()


def test_weights_are_part_of_the_identity():
    plain, same, other = (
        reszoo.open_data(each) for each in ((ROWS, KIND), (ROWS, KIND, WEIGHTS), (ROWS, KIND, 2 * WEIGHTS))
    )
    assert "weights" not in digests(plain) and digests(same) == digests(reszoo.open_data((ROWS, KIND, WEIGHTS)))
    names = [
        {name for name in digests(same) if digests(same)[name] != digests(each).get(name)} for each in (plain, other)
    ]
    assert names == [{"weights"}, {"weights"}]


@pytest.mark.parametrize(
    "call",
    [lambda data: reszoo.compare("resnet20_cifar", data), reszoo.evidence, lambda data: reszoo.prune_depth(None, data)],
)
def test_other_tasks_and_weights_are_refused_where_they_have_no_meaning(call):
    images = np.zeros((COUNT, 8, 8, 1), "uint8") + KIND[:, None, None, None].astype("uint8")
    for source, message in (
        (reszoo.open_data((images, ROWS), task="regression"), "data for regression"),
        (reszoo.open_data((images, np.eye(2)[KIND]), task="multilabel"), "data for multilabel"),
        ((images, KIND, WEIGHTS), "sample weights"),
    ):
        with refused([message]):
            call(source)


def test_arrays_are_copied_only_where_they_fit(monkeypatch):
    whole = reszoo.open_data({"train": (ROWS, KIND), "validation": (ROWS[:9], KIND[:9])})
    assert np.shares_memory(whole.train.x, ROWS)
    monkeypatch.setattr("reszoo.data.memory.free_memory", lambda: 100)
    with refused(["x of 320 bytes", "100 bytes are free", "'validation'"]):
        reszoo.open_data((ROWS, KIND))
    assert len(reszoo.open_data({"train": (ROWS, KIND), "validation": (ROWS[:9], KIND[:9])}).train) == COUNT


def test_mixed_examples_have_mixed_weights():
    data = reszoo.open_data((ROWS, KIND, WEIGHTS))
    batches = Batches(data.train, data.scaling, 2, batch=16, seed=0, augmentation=Augmentation(mixup=1.0))
    x, labels, weights = batches.batch(0, 0)
    raw = x[:, 0] * data.scaling.std[0] + data.scaling.mean[0]
    assert weights.dtype == np.float32 and np.allclose(weights, raw, atol=1e-4) and np.allclose(labels.sum(axis=1), 1)
    weighted = Batches(data.train, data.scaling, 2, batch=16, seed=0, class_weights=np.array([1.0, 3.0], "float32"))
    _, labels, both = weighted.batch(0, 0)
    _, _, alone = Batches(data.train, data.scaling, 2, batch=16, seed=0).batch(0, 0)
    assert np.allclose(both, alone * (labels @ [1.0, 3.0]))
    assert np.array_equal(Batches(data.train, data.scaling, 2, batch=16).batch(0, 0)[2], data.train.weights[:16])


def test_a_run_follows_weights_and_keeps_them_apart(tmp_path):
    ignored = np.where(np.arange(COUNT) < 20, 0.0, WEIGHTS)
    swapped = np.where(ignored == 0, 1 - KIND, KIND)
    held = {"validation": (ROWS, KIND, WEIGHTS)}
    runs = [
        reszoo.train("residual_mlp18", {"train": (ROWS, labels, ignored), **held}, output=tmp_path / name, **QUICK)
        for name, labels in (("a", KIND), ("b", swapped))
    ]
    # Labels of weight 0 do not count.
    for one, other in zip(*(run.model.get_weights() for run in runs), strict=True):
        assert np.array_equal(one, other)
    with refused(["other data: sample weights"]):
        reszoo.train("residual_mlp18", {"train": (ROWS, KIND, WEIGHTS), **held}, output=tmp_path / "a", **QUICK)
    again = reszoo.train("residual_mlp18", {"train": (ROWS, KIND, ignored), **held}, output=tmp_path / "a", **QUICK)
    assert again.network is None
    result = reszoo.evaluate(tmp_path / "a" / "model.keras", (ROWS, KIND, ignored), part="all")
    right = reszoo.predict(tmp_path / "a" / "model.keras", ROWS)
    hits = np.array([row.label == str(kind) for row, kind in zip(right, KIND, strict=True)])
    assert result.metrics["weighted_accuracy"] == pytest.approx(np.average(hits, weights=ignored))
    assert result.accuracy == pytest.approx(hits.mean())
