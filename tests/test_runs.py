"""Run folders: which run and data they belong to, what is kept, tasks, recipe fields, and what is said of results."""

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import python, refused
from PIL import Image

import reszoo
from reszoo.data.arrays import Arrays
from reszoo.data.dataset import difference, digest, digests
from reszoo.data.sources import Data, Scaling
from reszoo.training.batches import Batches, mix
from reszoo.training.defaults import fitted
from reszoo.training.losses import Targets, loss, metrics
from reszoo.training.recipes import Augmentation, Plateau, best_of, metric_of, plateau_factor, stale_epochs
from reszoo.training.remarks import remarks
from reszoo.training.run import class_weights
from reszoo.training.run_folder import locked

NET = {"depths": 1, "widths": 8}
RANDOM = np.random.default_rng(0)
Y = np.arange(96) % 3
X = (RANDOM.normal(size=(96, 4)) + 3 * np.eye(4)[Y]).astype("float32")


def tiny(folder, data=(X, Y), **settings):
    return reszoo.train("residual_mlp18", data, output=folder, **{"changes": NET, "epochs": 2, "verbose": 0} | settings)


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Digests.


def test_digest_names_what_differs():
    def data(x=X, y=Y, **settings):
        return digests(reszoo.open_data((x, y), **settings))

    assert difference(data(), data()) == ""
    one = Y.copy()
    one[0] = 1
    assert difference(data(), data(X * 100 + 500)) == "values of x"
    assert difference(data(), data(X.astype("float64"))) == "values of x"
    assert difference(data(), data(y=2 - Y)) == difference(data(), data(y=one)) == "labels"
    assert difference(data(), data(seed=1)) == "split or order"
    held = np.arange(96) % 4 == 0
    folds = [data(X[~at], Y[~at], validation=(X[at], Y[at])) for at in (held, np.roll(held, 1))]
    assert difference(*folds) == "split or order"
    first = reszoo.open_data((X, Y))
    assert difference(digests(first), digests(replace(first, classes=("a", "b", "c")))) == "class names"


def test_digest_of_files_depends_on_their_content_and_not_on_their_place(tmp_path):
    from PIL import Image

    def folder(name, colors):
        for index, color in enumerate(colors):
            path = tmp_path / name / "ab"[index % 2] / f"{index}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (color, 0, 0)).save(path)
        return digests(reszoo.open_data(tmp_path / name, size=8))

    first = folder("first", range(20))
    assert folder("second", range(20)) == first
    # One picture is replaced by another one of its size.
    assert difference(first, folder("third", [99, *range(1, 20)])) == "values of x"
    (tmp_path / "first" / "a").rename(tmp_path / "first" / "c")
    (tmp_path / "first" / "b").rename(tmp_path / "first" / "a")
    (tmp_path / "first" / "c").rename(tmp_path / "first" / "b")
    assert digest(reszoo.open_data(tmp_path / "first", size=8)) != digest(reszoo.open_data(tmp_path / "second", size=8))


# Run folders.


def test_run_folder_belongs_to_its_data(tmp_path):
    folder = tmp_path / "run"
    done = tiny(folder)
    before = contents(folder)
    assert ".lock" in {path.name for path in before}
    for data, words in (((X + 1, Y), "values of x"), ((X, 2 - Y), "labels"), ((X[::-1], Y[::-1]), "split or order")):
        with refused(["other data", words, "a folder for each data set"]):
            tiny(folder, data)
    with refused(["another run", "recipe.learning_rate.peak: 0.5", "--weights", "--output"]):
        tiny(folder, learning_rate={"peak": 0.5})
    with refused(["epochs: 1", "at least 2"]):
        tiny(folder, epochs=1)
    # A finished run is returned; nothing is written, not even where the folder is read-only.
    again = tiny(folder)
    assert again.network is None and again.history == done.history and again.remarks == done.remarks
    np.testing.assert_array_equal(again.model.get_weights()[0], done.model.get_weights()[0])
    assert contents(folder) == before
    # Damage that a file manager does: the same data elsewhere under another name.
    assert json.loads((folder / "run.json").read_text())["digest"] == digests(reszoo.open_data((X, Y)))


@pytest.mark.slow
def test_finished_run_is_returned_without_keras(tmp_path):
    code = """
import sys, reszoo
x = [[float(i % 5), float(i % 3)] for i in range(40)], [i % 2 for i in range(40)]
run = reszoo.train("residual_mlp18", x, output="run", epochs=1, changes={"depths": 1, "widths": 8}, verbose=0)
print("keras" in sys.modules, "tensorflow" in sys.modules, len(run.history))
"""
    assert python(code, folder=tmp_path).split() == ["True", "True", "1"]
    assert python(code, folder=tmp_path).split() == ["False", "False", "1"]


def test_more_epochs_extend_a_run(tmp_path):
    folder = tmp_path / "run"
    first = tiny(folder)
    longer = tiny(folder, epochs=4)
    assert longer.history[:2] == first.history and [row["epoch"] for row in longer.history] == [1, 2, 3, 4]
    # The schedule is that of the new length: the last rate is lower than those before it.
    rates = [row["learning_rate"] for row in longer.history]
    assert rates[3] < rates[2] and rates[2] > rates[1]
    settings = json.loads((folder / "run.json").read_text())
    assert settings["recipe"]["epochs"] == 4 and "extended from 2 to 4" in settings["legs"][0]["note"]
    assert "extended from 2 to 4 epochs after epoch 2" in (folder / "README.md").read_text()
    resumed = reszoo.resume(folder, epochs=5, data=(X, Y), verbose=0)
    assert len(resumed.history) == 5
    with refused(["data in memory", "--data"]):
        reszoo.resume(folder, epochs=6)
    with refused(["no run in it"]):
        reszoo.resume(tmp_path, epochs=6)


HOLDING = """
import sys, time
from pathlib import Path
from reszoo.training.run_folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with refused(["in use by another process"]):
            tiny(tmp_path)
        other.kill()
    with locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_mistakes_are_refused_before_any_work(tmp_path):
    empty = reszoo.open_data((X, Y))
    for part, word in (("validation", "no validation example"), ("train", "no training example")):
        with refused([word, "validation="]):
            tiny(tmp_path / "run", replace(empty, **{part: Arrays(X[:0], Y[:0])}))
    with refused(["seed", "-1"]):
        tiny(tmp_path / "run", seed=-1)
    with refused(["rows of 4 numbers", "images", "tabular_resnet"]):
        reszoo.train("resnet18", (X, Y), output=tmp_path / "run")
    with refused(["images of shape (8, 8, 1)", "rows of numbers"]):
        reszoo.train("tabular_resnet", "digits", output=tmp_path / "run")
    with refused(["train.size", "an opened Data"]):
        tiny(tmp_path / "run", empty, size=3)
    with refused(["train.loss", "a function"]):
        tiny(tmp_path / "run", loss=lambda y, p: 0)
    with refused(["stage 1, 4, is narrower than the stem (stem.width), 16"]):
        reszoo.spec("resnet20_cifar", widths=[4, 8, 16])
    assert not (tmp_path / "run").exists()


def test_pixels_outside_the_range_of_rand_augment_are_refused(tmp_path):
    x = np.linspace(-1, 1, 40 * 8 * 8 * 3).reshape(40, 8, 8, 3).astype("float32")
    with refused(["pixels from -1", "rand_augment"]):
        reszoo.train("resnet20_cifar", (x, Y[:40]), output=tmp_path / "a", augmentation={"rand_augment": 0.5})


# Batches.


def test_batches_ignore_what_was_prepared_for_another_epoch():
    """PyDatasets are read from where a pass was left: Keras looks at the first batch before fit() on some backends."""
    data = reszoo.open_data((X, Y))
    batches = Batches(data.train, data.scaling, 3, batch=8, seed=1)
    batches[0]
    batches.epoch = 1
    for index in range(len(batches)):
        np.testing.assert_array_equal(batches[index][0], batches.batch(1, index)[0])
    assert (batches[0][0] != batches.batch(0, 0)[0]).any()


@pytest.mark.parametrize(("count", "sizes"), [(33, [16, 16]), (40, [16, 16, 8]), (7, [7]), (39, [16, 16])], ids=str)
def test_small_last_training_batch_is_left_out(count, sizes):
    examples = Arrays(X[:count], Y[:count])
    scaling = Scaling(1.0, (0.0,) * 4, (1.0,) * 4)
    train = Batches(examples, scaling, 3, batch=16, seed=0)
    assert [len(train.batch(0, index)[0]) for index in range(len(train))] == sizes
    validation = Batches(examples, scaling, 3, batch=16)
    assert sum(len(validation[index][0]) for index in range(len(validation))) == count


def test_rand_augment_sees_the_range_of_the_pixels():
    """Pretrained weights may expect 0..255 or others; the augmentation works on pixels as they are stored."""
    x = np.full((8, 8, 8, 3), 120, "uint8")
    settings = {"batch": 8, "seed": 0, "augmentation": Augmentation(erase=1.0)}
    caffe = Batches(Arrays(x, Y[:8]), Scaling(1.0, (0.0,) * 3, (1.0,) * 3), 3, white=255.0, **settings)
    assert caffe.batch(0, 0)[0].max() > 200


def test_mixing_keeps_labels_in_proportion():
    x = np.repeat(np.arange(16, dtype="float32"), 64).reshape(16, 8, 8, 1)
    for settings in ({"mixup": 0.5, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}):
        mixed, labels = mix(np.random.default_rng(1), x, np.eye(16, dtype="float32"), **settings)
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), labels @ np.arange(16), atol=1e-4)
        assert (labels.max(axis=1) < 1).any() and mixed.dtype == np.float32
    same = mix(np.random.default_rng(1), x, np.eye(16), mixup=0.0, cutmix=0.0)
    assert same[0] is x


# What was validated is kept.

KEPT = [
    (precision, ema, decay) for precision in ("float32", "mixed_float16") for ema in (0.0, 0.97) for decay in (1, 0.7)
]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "ema", "decay"), KEPT)
def test_best_network_is_the_one_validated_best(tmp_path, precision, ema, decay):
    x = X + np.random.default_rng(1).normal(size=X.shape).astype("float32")
    # Half of the examples validate: accuracies are fine enough to differ from epoch to epoch.
    data = reszoo.open_data((x, Y), folds=2, fold=0)
    done = tiny(tmp_path / "run", data, epochs=3, batch=8, precision=precision, ema=ema, layer_decay=float(decay))
    validated = [row["val_accuracy"] for row in done.history]
    for name, value in (("best", max(validated)), ("model", validated[-1])):
        accuracy = reszoo.evaluate(tmp_path / "run" / f"{name}.keras", data, part="validation").accuracy
        assert accuracy == pytest.approx(value, abs=1e-6)
    assert 0 < done.history[-1]["learning_rate"] < done.history[0]["learning_rate"]


def test_layer_decay_has_a_step_for_every_block():
    model = reszoo.create("residual_mlp18", input_shape=(4,), classes=3, depths=3, widths=8)
    optimizer = reszoo.layer_decay(model, keras.optimizers.AdamW, 1.0, decay=0.5, weight_decay=0.05)
    optimizer.build(model.trainable_variables)
    rates = {
        variable.path: float(optimizer._optimizer_map(variable).learning_rate) for variable in model.trainable_variables
    }
    assert {"_".join(path.split("_")[:2]): rate for path, rate in rates.items() if "block" in path} == {
        f"stage1_block{number}": 0.5 ** (4 - number) for number in (1, 2, 3)
    }
    assert optimizer.optimizers[0].weight_decay == 0.05
    with refused(["layer_decay and clip"]):
        from reszoo.training.optimizers import optimizer as for_recipe

        for_recipe(reszoo.recipe("fast", layer_decay=0.5, optimizer={"clip": 1.0}), 10, model)


# Tasks.


def data_of(task, labels, x=X):
    held = np.arange(len(x)) % 4 == 0
    parts = [Arrays(x[at], labels[at]) for at in (~held, held)]
    names = tuple(f"out{index}" for index in range(labels.shape[1]))
    return Data("rows", *parts, names, Scaling(1.0, (0.0,) * 4, (1.0,) * 4), task=task)


def test_regression_predicts_in_the_unit_of_the_labels(tmp_path):
    prices = (2e5 + 1e5 * X[:, :1] - 3e4 * X[:, 1:2]).astype("float32")
    data = data_of("regression", prices)
    done = tiny(tmp_path / "run", data, epochs=12, batch=8, learning_rate={"peak": 0.03}, patience=8)
    row, x = done.best, data.validation.x
    assert metric_of(row).name == "val_rmse" and row["val_r2"] > 0.8 and row["val_mae"] < row["val_rmse"]
    guess = keras.models.load_model(tmp_path / "run" / "best.keras").predict(x, verbose=0)
    root = float(np.sqrt(np.square(guess - data.validation.labels).mean()))
    assert root == pytest.approx(row["val_rmse"], rel=1e-3)
    assert (
        "always the median: MAE" in " ".join(done.remarks)
        and "validation RMSE" in (tmp_path / "run" / "README.md").read_text()
    )
    np.testing.assert_allclose(done.model.predict(x, verbose=0).mean(), data.validation.labels.mean(), rtol=0.3)
    with refused(["recipe.loss", "focal", "regression"]):
        tiny(tmp_path / "other", data, loss="focal")
    with refused(["class_weights", "one label"]):
        tiny(tmp_path / "other", data, class_weights="balanced")


@pytest.mark.slow
def test_several_labels(tmp_path):
    tags = np.stack([X[:, 0] > 1, X[:, 1] > 1, X[:, 0] + X[:, 1] > 2], axis=1).astype("uint8")
    data = data_of("multilabel", tags)
    done = tiny(tmp_path / "run", data, epochs=8, batch=8, learning_rate={"peak": 0.03}, metrics=["auc"])
    assert {"map", "val_map", "val_f1_macro", "val_auc", "val_accuracy"} <= set(done.best)
    assert metric_of(done.best).name == "val_map" and done.best["val_map"] > 0.7
    assert done.model.layers[-1].activation.__name__ == "sigmoid" or "sigmoid" in str(done.model.get_config())
    assert any("random scores" in line for line in done.remarks)


def test_targets_and_losses():
    rows = Targets("regression", 2, (1.0, 10.0), (2.0, 5.0))(np.array([[3.0, 0.0]]))
    assert rows.tolist() == [[1.0, -2.0]]
    focal = reszoo.recipe("fast", loss="focal", label_smoothing=0.0)
    right, wrong = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
    truth = np.array([[1.0, 0.0]])
    plain = keras.losses.CategoricalCrossentropy()
    for guess in (right, wrong):
        expected = float(plain(truth, guess)) * (1 - guess[0][0]) ** 2
        assert float(loss(focal)(truth, guess)) == pytest.approx(expected, rel=1e-4)
    names = [
        metric.name
        for metric in metrics(reszoo.recipe("fast", metrics=["top5", "f1_macro", "auc"]), Targets("classification", 9))
    ]
    assert names == ["accuracy", "top5", "f1_macro", "auc"]


# Recipe fields.

HISTORY = [{"val_accuracy": value} for value in (0.5, 0.6, 0.6, 0.6, 0.6, 0.7)]


def test_decisions_follow_from_the_history():
    assert best_of(HISTORY[:5]) is HISTORY[1] and best_of(HISTORY) is HISTORY[5]
    assert [stale_epochs(HISTORY[:count]) for count in range(7)] == [0, 0, 0, 1, 2, 3, 0]
    assert stale_epochs(HISTORY[:5], start=4) == 1
    factors = [plateau_factor(HISTORY[:count], Plateau(patience=1, factor=0.5)) for count in range(7)]
    assert factors == [1, 1, 1, 0.5, 0.25, 0.125, 0.125]
    falling = [{"val_rmse": value} for value in (3.0, 2.0, 2.0)]
    assert best_of(falling) is falling[1] and plateau_factor(falling, Plateau(patience=1)) == pytest.approx(0.1)


class Interrupted(Exception):
    pass


class InterruptAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Interrupted


@pytest.mark.slow
def test_early_stopping_plateau_and_accumulation_survive_an_interruption(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, 96)
    settings = {"epochs": 30, "batch": 8, "patience": 4, "plateau": {"patience": 2, "factor": 0.5}, "accumulate": 2}
    settings |= {"learning_rate": {"kind": "constant", "peak": 0.01, "warmup": 0.0}, "class_weights": "balanced"}
    settings |= {"optimizer": {"kind": "rmsprop"}, "metrics": ["f1_macro"]}
    whole = tiny(tmp_path / "whole", (X, noise), **settings)
    count = len(whole.history)
    assert stale_epochs(whole.history) == 4 and count < 30
    assert whole.history[-1]["learning_rate"] == pytest.approx(
        0.01 * plateau_factor(whole.history[:-1], Plateau(patience=2, factor=0.5))
    )
    assert "ended early" in (tmp_path / "whole" / "README.md").read_text() and "val_f1_macro" in whole.history[0]
    for epoch in (1, count - 1):
        with pytest.raises(Interrupted):
            tiny(tmp_path / "parts", (X, noise), callbacks=[InterruptAt(epoch)], **settings)
    parts = tiny(tmp_path / "parts", (X, noise), **settings)
    assert parts.history == whole.history
    assert tiny(tmp_path / "parts", (X, noise), **settings).network is None
    with refused(["plateau", "constant"]):
        reszoo.recipe("fast", plateau={"patience": 2})


def test_keras_objects_are_recorded_by_their_configuration(tmp_path):
    settings = {"loss": keras.losses.CategoricalCrossentropy(label_smoothing=0.2)}
    done = tiny(tmp_path / "run", optimizer=keras.optimizers.Nadam(0.004), validation=(X[:9], Y[:9]), **settings)
    assert type(done.model.optimizer).__name__ == "Nadam" and done.model.loss.label_smoothing == 0.2
    assert done.history[0]["learning_rate"] == pytest.approx(0.004)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["keras_optimizer"]["class_name"] == "Nadam" and record["data"]["validation"] == 9
    with refused(["another run", "keras_optimizer"]):
        tiny(tmp_path / "run", optimizer=keras.optimizers.Nadam(0.005), validation=(X[:9], Y[:9]), **settings)


def test_class_weights():
    data = reszoo.open_data((X[:80], np.repeat([0, 1], [60, 20])))
    assert class_weights(reszoo.recipe("fast", class_weights="balanced"), data).tolist() == pytest.approx([2 / 3, 2.0])
    for weights in ({"1": 3.0}, {1: 3}):
        assert class_weights(reszoo.recipe("fast", class_weights=weights), data).tolist() == [1, 3]
    with refused(["recipe fast.class_weights.1: got 0", "greater than 0"]):
        reszoo.recipe("fast", class_weights={1: 0})
    assert class_weights(reszoo.recipe("fast"), data) is None
    with refused(["class_weights", "'dog'", "0, 1"]):
        class_weights(reszoo.recipe("fast", class_weights={"dog": 3.0}), data)


# Defaults and remarks.

FITTED = [
    ("fast", 244, {}, 16, 0.025),
    ("fast", 60, {}, 8, 0.0125),
    ("fast", 50_000, {}, 128, 0.2),
    ("tabular", 150, {}, 16, 0.00025),
    ("fast", 244, {"batch": 64}, 64, 0.1),
    ("fast", 244, {"learning_rate": {"peak": 0.3}}, 16, 0.3),
    ("fast_symbols", 1293, {"batch": 64}, 64, 0.2),
]


@pytest.mark.parametrize(("name", "examples", "changes", "batch", "peak"), FITTED, ids=str)
def test_defaults_follow_the_number_of_examples(name, examples, changes, batch, peak):
    recipe, line = fitted(name, examples, changes)
    assert (recipe.batch, recipe.learning_rate.peak) == (batch, pytest.approx(peak))
    assert f"batch {batch}" in line and f"recipe {name}" in line
    steps = -(-examples // batch)
    usual = reszoo.recipe(name).epochs
    assert usual <= recipe.epochs and recipe.epochs * steps >= min(500, 5 * usual * steps)
    assert f"{recipe.epochs} epochs" in line
    assert fitted(name, examples, {"epochs": 3})[0].epochs == 3
    assert fitted(name, examples, changes, updates=0)[0].epochs == usual
    assert fitted(name, 10, changes)[0].epochs <= 5 * usual


def outputs_of(predicted, classes=3, confidence=0.9):
    return np.where(np.eye(classes)[predicted] > 0, confidence, (1 - confidence) / (classes - 1))


def test_remarks_say_what_a_result_is_worth():
    data = reszoo.open_data((X[:80], np.repeat([0, 1], [60, 20])))
    truth = data.validation.labels
    poor = remarks(data, [{"val_accuracy": 0.75}], outputs_of(np.zeros(len(truth), int), 2), pretrained=False)
    text = "; ".join(poor)
    assert (
        text.startswith("always predicting 0, the largest class, is right for 75.00%")
        and "no better than always naming the largest class" in text
    )
    assert "never predicted for a validation example: 1" in text and "only 8 validation examples" in text
    wrong = "; ".join(remarks(data, [{"val_accuracy": 0.0}], outputs_of(1 - truth, 2), pretrained=False))
    assert "above chance (0.693)" in wrong
    many = reszoo.open_data((np.tile(X, (10, 1)), np.tile(Y, 10)))
    truth = many.validation.labels
    good = remarks(many, [{"val_accuracy": 0.99}], outputs_of(truth), pretrained=False)
    assert good == [
        f"always predicting 0, the largest class, is right for {np.mean(truth == 0):.2%} of the validation examples"
    ]


def test_one_line_an_epoch_without_a_terminal(tmp_path, capsys):
    tiny(tmp_path / "run", verbose="auto", epochs=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("recipe tabular: batch 8, learning rate")
    assert [line.partition(":")[0] for line in lines[1:]] == [f"epoch {number} of 3" for number in (1, 2, 3)]


def test_callbacks_may_be_functions_of_the_data_which_a_finished_run_does_not_call(tmp_path):
    seen = []

    def callback(data):
        seen.append(len(data.train))
        return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))

    tiny(tmp_path / "run", callbacks=[callback])
    assert seen == [len(reszoo.open_data((X, Y)).train), 0, 1]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["callbacks"] == ["LambdaCallback"]
    assert tiny(tmp_path / "run", callbacks=[callback]).network is None and len(seen) == 3


def test_the_doctor_of_the_command_has_one_line_for_an_ill_run_and_none_for_a_sound_one(tmp_path, capsys):
    from reszoo.cli.training import _doctor

    sound = tiny(tmp_path / "sound", callbacks=[_doctor])
    assert "Doctor" not in capsys.readouterr().out
    plain = tiny(tmp_path / "plain")
    assert sound.history == plain.history
    for one, other in zip(sound.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # The rate grows until the loss does.
    rising = {"peak": 10.0, "warmup": 0.95, "warmup_factor": 1e-4}
    tiny(tmp_path / "ill", callbacks=[_doctor], epochs=6, learning_rate=rising)
    lines = [line for line in capsys.readouterr().out.splitlines() if "Doctor" in line]
    kinds = [line.split(": ")[1] for line in lines]
    assert "learning_rate" in kinds and len(kinds) == len({*kinds})


def test_rate_finder_leaves_the_model_unchanged():
    model = reszoo.create("residual_mlp18", input_shape=(4,), classes=3, **NET)
    before = [weight.copy() for weight in model.get_weights()]
    curve = reszoo.find_rate(model, (X, Y), steps=40)
    assert all((one == other).all() for one, other in zip(before, model.get_weights(), strict=True))
    assert len(curve.rates) == len(curve.losses) and 1e-6 < curve.suggestion < 1 and "suggested" in repr(curve)
    with refused(["find_rate", "growing rates"]):
        reszoo.find_rate(model, (X, Y), low=1.0, high=0.1)


@pytest.mark.skipif("folds" not in inspect.signature(reszoo.open_data).parameters, reason="open_data has no folds")
def test_cross_validation_has_a_folder_for_each_fold(tmp_path):
    result = reszoo.cross_validate("residual_mlp18", (X, Y), output=tmp_path, folds=3, changes=NET, epochs=1, verbose=0)
    assert [run.folder.name for run in result.runs] == ["fold1", "fold2", "fold3"]
    assert result.metric == "val_accuracy" and 0 <= result.mean <= 1 and result.spread >= 0


@pytest.mark.slow
def test_commands_continue_a_run_and_refuse_mistakes(tmp_path):
    rows = [f"{a:.3f},{b:.3f},{'xyz'[k]}" for (a, b), k in zip(X[:, :2], Y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,label", *rows]))

    def command(*arguments):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        line = [sys.executable, "-m", "reszoo", *arguments]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=environment)

    start = ("train", "--model", "residual_mlp18", "--data", "t.csv", "--net", "depths=1", "--output", "[v2]")
    first = command(*start, "--epochs", "1")
    assert first.returncode == 0, first.stderr[-2000:]
    assert "always predicting x" in first.stdout and "Saved to [v2]" in first.stdout and "epoch 1 of 1" in first.stdout
    (tmp_path / "moved").mkdir()
    longer = command("train", "--continue", "[v2]", "--epochs", "2")
    assert longer.returncode == 0 and "epoch 2 of 2" in longer.stdout, longer.stderr[-2000:]
    assert "already finished" in command("train", "--continue", "[v2]").stdout
    for wrong in (("--epochs", "0"), ("--seed", "-1")):
        done = command(*start, *wrong)
        assert done.returncode == 2 and "Traceback" not in done.stderr
    for wrong in (
        ("train", "--model", "resnet18"),
        ("train", "--continue", "[v2]", "--seed", "0", "--net", "depths=2"),
    ):
        done = command(*wrong)
        assert done.returncode == 2 and "error" in done.stderr and "Traceback" not in done.stderr


def test_balanced_accuracy_is_the_mean_recall_and_can_select_epochs():
    from reszoo.training.defaults import check_recipe
    from reszoo.training.losses import BalancedAccuracy
    from reszoo.training.recipes import best_of

    random = np.random.default_rng(0)
    labels, scores = np.array([0] * 8 + [1] * 3 + [3]), random.random((12, 4))
    metric = BalancedAccuracy(4)
    for part in (slice(0, 5), slice(5, 12)):
        metric.update_state(np.eye(4)[labels[part]], scores[part])
    recalls = [(scores[labels == index].argmax(axis=1) == index).mean() for index in (0, 1, 3)]
    assert float(metric.result()) == pytest.approx(np.mean(recalls))
    metric.reset_state()
    metric.update_state(np.eye(4)[labels], scores, sample_weight=(labels == 0).astype("float32"))
    assert float(metric.result()) == pytest.approx(recalls[0])
    rows = [{"val_accuracy": 0.9, "val_balanced_accuracy": 0.5}, {"val_accuracy": 0.8, "val_balanced_accuracy": 0.6}]
    assert best_of(rows) is rows[0] and best_of(rows, "balanced_accuracy") is rows[1]
    data = reszoo.open_data(([[0.0], [1.0]] * 10, [0, 1] * 10))
    with refused(["recipe.monitor", "'rmse' for classification", "balanced_accuracy"]):
        check_recipe(reszoo.recipe("tabular", monitor="rmse"), data)


def cut(path):
    path.write_bytes(path.read_bytes()[:50])


DAMAGES = {
    "settings that are a list": (lambda run: (run / "run.json").write_text("[1]"), ["damaged run.json"]),
    "half of the history": (lambda run: cut(run / "history.jsonl"), ["history.jsonl", "damaged history"]),
    "no state": (lambda run: shutil.rmtree(run / "state-000002"), ["a history without the state-"]),
    "half of the weights": (lambda run: cut(run / "state-000002" / "model.weights.h5"), ["damaged state"]),
    "half of the state": (lambda run: cut(run / "state-000002" / "history.json"), ["state-000002", "damaged"]),
    "no best network": (lambda run: (run / "best.keras").unlink(), ["best.keras", "no such file"]),
}


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("damage") / "run").folder


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folders_are_refused(name, two_epochs, tmp_path):
    shutil.copytree(two_epochs, tmp_path / "run")
    damage, message = DAMAGES[name]
    damage(tmp_path / "run")
    before = contents(tmp_path / "run")
    with refused(message):
        tiny(tmp_path / "run", epochs=3)
    after = contents(tmp_path / "run")
    assert {path: after[path] for path in before if path.name != "run.json"} == {
        path: digest for path, digest in before.items() if path.name != "run.json"
    }


def test_a_deleted_history_is_written_again(two_epochs, tmp_path):
    shutil.copytree(two_epochs, tmp_path / "run")
    (tmp_path / "run" / "history.jsonl").unlink()
    assert len(tiny(tmp_path / "run").history) == 2
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == (two_epochs / "history.jsonl").read_bytes()


# Memory.


class Resident(keras.callbacks.Callback):
    """The memory of this process after every epoch, in bytes."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def on_epoch_end(self, epoch, logs=None):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.sizes.append(pages * os.sysconf("SC_PAGE_SIZE"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read as on Linux")
def test_twenty_epochs_need_no_more_memory_than_ten(tmp_path):
    for number in range(36):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (96, 96, 3)).astype("uint8")).save(path)
    resident, network = Resident(), {"depths": 1, "width_multiplier": 0.25, "strides": [2, 2, 2]}
    settings = {"size": 96, "epochs": 20, "batch": 16, "verbose": 0, "changes": network}
    reszoo.train("resnet20_cifar", tmp_path / "photos", output=tmp_path / "run", callbacks=[resident], **settings)
    # As much as four epochs of pictures: kept in memory, they would be ten.
    assert len(resident.sizes) == 20 and resident.sizes[-1] - resident.sizes[9] < 4 * 36 * 96 * 96 * 3 * 4
