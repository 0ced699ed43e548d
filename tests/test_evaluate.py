"""Evaluation and prediction, from a `.keras` file alone."""

import csv
import json

import numpy as np
import pytest
from conftest import refused
from PIL import Image
from test_training import tiny_run
from typer.testing import CliRunner

import reszoo
from reszoo.cli import app
from reszoo.training.evaluate import BINS, _calibration


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder / "run", tiny_run(folder / "run")


def test_the_test_part_is_the_one_that_training_held_out(run):
    folder, done = run
    found = reszoo.evaluate(folder / "model.keras", "digits")
    assert found.accuracy == pytest.approx(done.test_accuracy, abs=1e-6)
    assert "the test part of digits: 359 examples" in found.protocol
    assert found.confusion.sum() == 359 and np.trace(found.confusion) == round(found.accuracy * 359)
    recognised = sum(row.recall * row.examples for row in found.classes)
    assert recognised == pytest.approx(found.accuracy * 359)
    assert found.accuracy == reszoo.evaluate(folder / "model.keras", "digits", batch=7).accuracy
    assert reszoo.evaluate(folder / "model.keras", "digits", part="all").confusion.sum() == 1797 - 359
    held = reszoo.evaluate(folder / "model.keras", "digits", part="validation").accuracy
    assert held == pytest.approx(done.history[-1]["val_accuracy"], abs=1e-6)


def test_calibration_error():
    sure = np.eye(4)[[0, 1, 2, 3]]
    assert _calibration(sure, np.array([True] * 4)) == 0
    assert _calibration(sure, np.array([True, True, False, False])) == 0.5
    mixed = np.array([[0.9, 0.1]] * 2 + [[0.6, 0.4]] * 2)
    # Bins of 0.9 and of 0.6: |0.9 - 0.5| and |0.6 - 1|, half of the examples in each.
    assert _calibration(mixed, np.array([True, False, True, True])) == pytest.approx(0.4)
    assert BINS == 15


def test_classes_are_matched_by_name(run, tmp_path):
    """A folder without some of the classes numbers the others differently."""
    folder, _ = run
    digits = reszoo.open_data("digits", seed=3).test
    for name in ("7", "3"):
        (tmp_path / name).mkdir()
        for number in np.flatnonzero(digits.labels == int(name))[:6]:
            Image.fromarray((digits.x[number, :, :, 0] * 15).astype("uint8")).save(tmp_path / name / f"{number}.png")
    with refused(["examples of shape (8, 8, 3)", "(8, 8, 1)"]):
        reszoo.evaluate(folder / "model.keras", tmp_path)
    (tmp_path / "twelve").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "twelve" / "1.png")
    with refused(["class 'twelve'"]):
        reszoo.evaluate(folder / "model.keras", tmp_path)


WRONG = [
    (lambda folder: reszoo.evaluate(folder / "run.json", "digits"), ["run.json"]),
    (lambda folder: reszoo.evaluate(folder / "other.keras", "digits"), ["other.keras", "no facts about its data"]),
    (
        lambda folder: reszoo.evaluate(folder / "model.keras", "digits", part="tset"),
        ["evaluate.part", "test, validation"],
    ),
    (lambda folder: reszoo.predict(folder / "model.keras", folder / "logs"), ["no image"]),
]


@pytest.mark.parametrize(("call", "said"), WRONG)
def test_what_cannot_be_evaluated(run, call, said):
    with refused(said):
        call(run[0])


def test_the_commands(run, tmp_path, monkeypatch):
    folder, done = run
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["evaluate", str(folder / "model.keras"), "--data", "digits", "--output", "out"])
    assert shown.exit_code == 0 and f"accuracy {done.test_accuracy:.2%}" in shown.output
    assert (tmp_path / "out" / "confusion.png").stat().st_size > 1000
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["accuracy"] == pytest.approx(done.test_accuracy, abs=1e-6) and len(told["classes"]) == 10
    data = reszoo.open_data("digits", seed=3)
    np.savez(tmp_path / "new.npz", x=data.test.x)
    shown = CliRunner().invoke(app, ["predict", str(folder / "model.keras"), "new.npz", "--output", "table.csv"])
    assert shown.exit_code == 0, shown.output
    with open("table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    right = np.mean([row["class"] == str(label) for row, label in zip(rows, data.test.labels, strict=True)])
    assert right == pytest.approx(done.test_accuracy, abs=1e-6)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
