"""The average of the best networks of a study."""

import keras
import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.tuning.ensemble import average
from reszoo.tuning.results import Trial

KINDS = np.array([0, 1, 2, 0, 1, 2])
ROWS, LABELS = np.eye(6)[[*range(6)] * 10], [*KINDS] * 10


@pytest.fixture(scope="module")
def data():
    return reszoo.open_data((ROWS, LABELS), validation=(ROWS, LABELS))


def trial(folder, number, data, wrong=()):
    """A trial whose network is right about all rows but some, about which it is unsure."""
    logits = 4 * np.eye(3)[KINDS]
    for row in wrong:
        logits[row] = np.eye(3)[(KINDS[row] + 1) % 3] / 2
    # The network takes scaled rows.
    mean, std = np.array(data.scaling.mean), np.array(data.scaling.std)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")], name="net")
    model.layers[0].set_weights([logits * std[:, None], mean @ logits])
    folder = folder / f"{number:04d}"
    folder.mkdir(parents=True)
    reszoo.save(model, folder / "best.keras", classes=data.classes, preprocessing=data)
    return Trial(number, "complete", {}, None, 1 - len(wrong) / 6, {"params": 21.0, "macs": 18.0}, (), folder)


def test_networks_with_other_errors_are_better_together(tmp_path, data):
    result = average([trial(tmp_path, 4, data, [0]), trial(tmp_path, 2, data, [1, 2])], data)
    assert (result.accuracy, result.single) == (1.0, pytest.approx(5 / 6)) and result.helps
    # Of 60 examples 10 are won: two standard errors of their share are 0.096.
    assert result.interval == (pytest.approx(1 / 6 - 0.096, abs=0.02), pytest.approx(1 / 6 + 0.096, abs=0.02))
    assert "trials 4, 2: accuracy 1.0000, trial 4 alone 0.8333 (+0.1667" in str(result) and ": better)" in str(result)
    assert result.costs == {"params": 42, "macs": 36} and result.to_dict()["trials"] == [4, 2]
    file = result.save(tmp_path / "ensemble.keras")
    members = [keras.models.load_model(each.weights) for each in result.trials]
    x = data.scaling(ROWS)
    mean = np.mean([np.asarray(each(x)) for each in members], axis=0)
    np.testing.assert_allclose(np.asarray(keras.models.load_model(file)(x)), mean, atol=1e-6)
    assert reszoo.evaluate(file, (ROWS, LABELS)).accuracy == 1 and reszoo.predict(file, ROWS).classes == ("0", "1", "2")


def test_the_same_network_twice_is_no_better(tmp_path, data):
    result = average([trial(tmp_path, number, data, [0]) for number in (0, 1)], data)
    assert result.interval == (0, 0) and not result.helps and "not better beyond chance" in str(result)


def test_networks_that_cannot_be_averaged(tmp_path, data):
    first, second = (trial(tmp_path, number, data) for number in (0, 1))
    with refused(["ensemble", "1 trained networks", "at least two"]):
        average([first], data)
    with refused(["ensemble", "regression"]):
        average([first, second], reszoo.open_data((ROWS, ROWS[:, 0]), task="regression"))
    other = reszoo.open_data((ROWS * 2, LABELS))
    with refused(["ensemble", "scale their inputs otherwise"]):
        average([first, trial(tmp_path, 2, other)], data)
    second.weights.unlink()
    with refused(["trial 1", "train it again"]):
        average([first, second], data)
