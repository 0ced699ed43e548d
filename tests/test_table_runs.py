"""Networks for tables: train, evaluate and predict by the `.keras` file alone."""

import csv

import numpy as np
import pytest
from conftest import refused
from test_tables import Frame
from typer.testing import CliRunner

import reszoo
from reszoo.cli import app
from reszoo.data.table import read_rows
from reszoo.training.metadata import read_metadata, write_metadata

NAMES = ("id", "size", "color", "age", "label")


def table(path, rows, names=NAMES, separator=","):
    path.write_text("\n".join(separator.join(line) for line in (names, *rows)) + "\n")
    return path


def rows(count, seed):
    """The label follows from size, or from the color where the size is missing."""
    random, result = np.random.default_rng(seed), []
    for index in range(count):
        large, missing = random.random() < 0.5, random.random() < 0.2
        size = "NA" if missing else f"{random.uniform(1, 2) if large else random.uniform(-2, -1):.3f}"
        color = "red" if large else str(random.choice(["blue", "green"]))
        result.append((f"u{index}", size, color, str(random.integers(20, 60)), "yes" if large else "no"))
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    table(folder / "train.csv", rows(160, 0))
    settings = {"output": folder / "run", "changes": {"depths": 1}, "batch": 16, "verbose": 0}
    trained = reszoo.train("residual_mlp18", folder / "train.csv", epochs=1, **settings)
    return folder, trained


def test_the_file_of_a_network_holds_its_columns(run):
    folder, _ = run
    columns = read_metadata(folder / "run" / "model.keras").columns
    assert columns == reszoo.open_data(folder / "train.csv").columns
    assert columns.features == ("size", "size missing", "color=blue", "color=green", "color=red", "age")
    assert columns.targets == ("label",) and columns.classes == ("no", "yes") and [*columns.unused] == ["id"]


def test_evaluate_encodes_a_table_as_in_training(run, tmp_path):
    """Other order and separator, a word and a value that training did not have, no id."""
    folder, trained = run
    new = rows(60, 1)
    changed = [(d, e, "violet" if i == 0 else c, b) for i, (a, b, c, d, e) in enumerate(new)]
    file = table(tmp_path / "new.csv", changed, names=("age", "label", "color", "size"), separator=";")
    result = reszoo.evaluate(folder / "run" / "model.keras", file)
    assert result.confusion.sum() == 60 and any("column color: 1 row with 'violet'" in note for note in result.notes)
    data = reszoo.open_data(folder / "train.csv", test=file)
    x, labels = data.arrays("test")
    assert result.accuracy == pytest.approx((trained.model.predict(x, verbose=0).argmax(axis=1) == labels).mean())
    same = reszoo.evaluate(folder / "run" / "model.keras", folder / "train.csv", part="validation")
    assert same.accuracy == pytest.approx(trained.history[-1]["val_accuracy"], abs=1e-6)
    assert reszoo.evaluate(folder / "run" / "model.keras", data, part="validation").accuracy == same.accuracy
    with refused(["new", "an encoding of its own", "open_data(..., columns="]):
        reszoo.evaluate(folder / "run" / "model.keras", reszoo.open_data(file, target="label"))


def test_predict_takes_a_row_for_every_row(run, tmp_path):
    folder, trained = run
    new = rows(30, 2)
    names = ("color", "age", "size")
    file = table(tmp_path / "new.csv", [(row[2], row[3], row[1]) for row in new], names=names)
    frame = Frame({name: [row[NAMES.index(name)] for row in new] for name in names})
    data = reszoo.open_data(folder / "train.csv")
    outputs = trained.model.predict(data.scaling(read_rows(file, data.columns).x), verbose=0)
    predictions = reszoo.predict(folder / "run" / "model.keras", file)
    from_frame = reszoo.predict(folder / "run" / "model.keras", frame)
    assert [row.example for row in predictions] == [str(number) for number in range(2, 32)]
    assert [row.example for row in from_frame] == [str(number) for number in range(30)]
    assert [row[1:] for row in predictions] == [row[1:] for row in from_frame]
    assert [row.label for row in predictions] == [data.classes[index] for index in outputs.argmax(axis=1)]
    assert any("replaced by the median" in note for note in predictions.notes)
    with refused(["new.csv, column label", "no such column", "predict"]):
        reszoo.evaluate(folder / "run" / "model.keras", file)
    with refused(["few.csv, column size", "no such column"]):
        reszoo.predict(folder / "run" / "model.keras", table(tmp_path / "few.csv", [("red", "30")], names=names[:2]))
    with refused(["none.csv", "no such file"]):
        reszoo.predict(folder / "run" / "model.keras", tmp_path / "none.csv")


def test_commands_for_tables(run, tmp_path, monkeypatch):
    folder, _ = run
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "new.csv", rows(20, 3))
    shown = CliRunner().invoke(app, ["predict", str(folder / "run" / "model.keras"), "new.csv"])
    assert shown.exit_code == 0, shown.output
    with open("predictions.csv", newline="", encoding="utf-8") as stream:
        predictions = [row["class"] for row in csv.DictReader(stream)]
    shown = CliRunner().invoke(app, ["evaluate", str(folder / "run" / "model.keras"), "--data", "new.csv"])
    right = np.mean([label == row[4] for label, row in zip(predictions, rows(20, 3), strict=True)])
    assert shown.exit_code == 0 and f"accuracy {right:.2%}" in shown.output


def test_numbers_are_evaluated_and_predicted_by_the_columns_of_training(tmp_path):
    """A linear network with known weights."""
    import keras

    cells = [(f"{index}", "ab"[index % 2], f"{2 * index + index % 2}") for index in range(40)]
    data = reszoo.open_data(
        table(tmp_path / "train.csv", cells, ("x", "kind", "goal")), target="goal", task="regression"
    )
    x, goal = data.arrays("train")
    model = keras.Sequential([keras.Input(data.shape), keras.layers.Dense(1)])
    solution = np.linalg.lstsq(np.c_[x, np.ones(len(x))], goal, rcond=None)[0]
    model.layers[0].set_weights([solution[:-1], solution[-1]])
    model.save(tmp_path / "model.keras")
    write_metadata(tmp_path / "model.keras", data)
    new = table(tmp_path / "new.csv", [(row[1], row[2], row[0]) for row in cells[:9]], ("kind", "goal", "x"))
    assert reszoo.evaluate(tmp_path / "model.keras", new).metrics["r2"] == pytest.approx(1, abs=1e-4)
    predictions = reszoo.predict(tmp_path / "model.keras", new)
    np.testing.assert_allclose(predictions.values[:, 0], [2 * index + index % 2 for index in range(9)], atol=0.05)


@pytest.mark.slow
def test_a_network_learns_from_numbers_words_and_missing_values(tmp_path):
    train, test = table(tmp_path / "train.csv", rows(160, 0)), table(tmp_path / "test.csv", rows(100, 1))
    settings = {"output": tmp_path / "run", "changes": {"depths": 1}, "batch": 16, "verbose": 0}
    assert reszoo.train("residual_mlp18", train, epochs=8, test=test, **settings).test_accuracy > 0.95


@pytest.mark.slow
def test_weights_bring_their_columns(run, tmp_path):
    """Another table: columns in another order, another target."""
    folder, _ = run
    new = [(row[3], row[2], row[1], "pqr"[index % 3]) for index, row in enumerate(rows(60, 4))]
    file = table(tmp_path / "new.csv", new, names=("age", "color", "size", "kind"))
    weights = folder / "run" / "model.keras"
    settings = {"weights": weights, "changes": {"depths": 1}, "epochs": 1, "recipe": "tabular", "verbose": 0}
    reszoo.train("residual_mlp18", file, output=tmp_path / "run", **settings)
    columns = read_metadata(tmp_path / "run" / "model.keras").columns
    assert columns.columns == read_metadata(weights).columns.columns and columns.classes == ("p", "q", "r")


@pytest.mark.slow
def test_regression_beside_ridge_regression(tmp_path):
    """Diabetes (Efron et al. 2004), with missing values: R2 of a residual MLP and of ridge regression."""
    import keras
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import RidgeCV

    x, y = load_diabetes(return_X_y=True, scaled=False)
    names = (*load_diabetes().feature_names, "progression")
    cells = [[f"{value:g}" for value in (*row, goal)] for row, goal in zip(x, y, strict=True)]
    for index in range(0, len(cells), 9):
        cells[index][2] = "NA"
    file = table(tmp_path / "diabetes.csv", [tuple(row) for row in cells[:330]], names=names)
    test = table(tmp_path / "test.csv", [tuple(row) for row in cells[330:]], names=names)
    data = reszoo.open_data(file, target="progression", task="regression", test=test)
    assert data.shape == (11,) and data.columns.features[2:4] == ("bmi", "bmi missing")
    (train_x, train_y), (test_x, test_y) = data.arrays("train"), data.arrays("test")
    ridge = RidgeCV(np.logspace(-2, 3, 11)).fit(train_x, train_y[:, 0]).score(test_x, test_y[:, 0])
    mean, std = train_y.mean(), train_y.std()
    keras.utils.set_random_seed(0)
    settings = {"input_shape": data.shape, "classes": 1, "classifier_activation": "linear"}
    model = reszoo.residual_mlp18(depths=1, width_multiplier=0.125, **settings)
    model.compile(keras.optimizers.AdamW(3e-3, weight_decay=1e-2), "mse")
    model.fit(train_x, (train_y - mean) / std, epochs=8, batch_size=32, verbose=0)
    errors = model.predict(test_x, verbose=0) * std + mean - test_y
    r2 = 1 - (errors**2).mean() / test_y.var()
    assert 0.4 < ridge < 0.6 and r2 > ridge - 0.1
