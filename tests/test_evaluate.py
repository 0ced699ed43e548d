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
from reszoo.training.metrics import BINS, calibration_error, reliability


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder / "run", tiny_run(folder / "run")


def test_evaluate_uses_the_test_part_held_out_in_training(run):
    folder, done = run
    result = reszoo.evaluate(folder / "model.keras", "digits")
    assert result.accuracy == pytest.approx(done.test_accuracy, abs=1e-6)
    assert "the test part of digits: 359 examples" in result.protocol
    assert result.protocol.endswith("the network has not seen them in training")
    assert result.confusion.sum() == 359 and np.trace(result.confusion) == round(result.accuracy * 359)
    correct = sum(row.recall * row.examples for row in result.classes)
    assert correct == pytest.approx(result.accuracy * 359)
    assert result.accuracy == reszoo.evaluate(folder / "model.keras", "digits", batch=7).accuracy
    assert reszoo.evaluate(folder / "model.keras", "digits", part="all").confusion.sum() == 1797 - 359
    held = reszoo.evaluate(folder / "model.keras", "digits", part="validation").accuracy
    assert held == pytest.approx(done.history[-1]["val_accuracy"], abs=1e-6)


def test_calibration_error():
    def error(scores, correct):
        return calibration_error(reliability(scores, np.array(correct)))

    sure = np.eye(4)[[0, 1, 2, 3]]
    assert error(sure, [True] * 4) == 0
    assert error(sure, [True, True, False, False]) == 0.5
    mixed = np.array([[0.9, 0.1]] * 2 + [[0.6, 0.4]] * 2)
    # Bins of 0.9 and of 0.6: |0.9 - 0.5| and |0.6 - 1|, half of the examples in each.
    assert error(mixed, [True, False, True, True]) == pytest.approx(0.4)
    assert BINS == 15


def test_classes_are_matched_by_name(run, tmp_path):
    """A folder without some of the classes has other class indices."""
    folder, _ = run
    digits = reszoo.open_data("digits", seed=3).test
    for name in ("7", "3"):
        (tmp_path / name).mkdir()
        for number in np.flatnonzero(digits.labels == int(name))[:6]:
            Image.fromarray((digits.x[number, :, :, 0] * 15).astype("uint8")).save(tmp_path / name / f"{number}.png")
    result = reszoo.evaluate(folder / "model.keras", tmp_path)
    assert {row.name: row.examples for row in result.classes if row.examples} == {"3": 6, "7": 6}
    assert any("white is 255 here and was 16 in training" in note for note in result.notes)
    (tmp_path / "3" / "cut.png").write_bytes(b"\x89PNG")
    assert any("cut.png: not an image" in note for note in reszoo.evaluate(folder / "model.keras", tmp_path).notes)
    (tmp_path / "twelve").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "twelve" / "1.png")
    with refused(["class 'twelve'"]):
        reszoo.evaluate(folder / "model.keras", tmp_path)


INVALID = [
    (lambda folder: reszoo.evaluate(folder / "run.json", "digits"), ["run.json"]),
    (lambda folder: reszoo.evaluate(folder / "other.keras", "digits"), ["other.keras", "no such file"]),
    (
        lambda folder: reszoo.evaluate(folder / "model.keras", "digits", part="tset"),
        ["evaluate.part", "test, validation"],
    ),
    (lambda folder: reszoo.predict(folder / "model.keras", folder / "logs"), ["no image"]),
    (lambda folder: reszoo.predict(folder, folder / "logs"), ["a run folder", "best.keras", "model.keras"]),
    (
        lambda folder: reszoo.evaluate(folder / "model.keras", ([[0.0, 1.0]] * 20, [0, 1] * 10)),
        ["rows of numbers", "images, as in training"],
    ),
]


@pytest.mark.parametrize(("call", "message"), INVALID)
def test_invalid_evaluations_are_refused(run, call, message):
    with refused(message):
        call(run[0])


def test_evaluate_and_predict_commands(run, tmp_path, monkeypatch):
    folder, done = run
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["evaluate", str(folder / "model.keras"), "--data", "digits", "--output", "out"])
    assert shown.exit_code == 0 and f"accuracy {done.test_accuracy:.2%}" in shown.output
    assert (tmp_path / "out" / "confusion.png").stat().st_size > 1000
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert saved["accuracy"] == pytest.approx(done.test_accuracy, abs=1e-6) and len(saved["classes"]) == 10
    data = reszoo.open_data("digits", seed=3)
    np.savez(tmp_path / "new.npz", x=data.test.x)
    shown = CliRunner().invoke(app, ["predict", str(folder / "model.keras"), "new.npz", "--output", "table.csv"])
    assert shown.exit_code == 0, shown.output
    with open("table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    right = np.mean([row["class"] == str(label) for row, label in zip(rows, data.test.labels, strict=True)])
    assert right == pytest.approx(done.test_accuracy, abs=1e-6)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
