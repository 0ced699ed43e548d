"""Causes: what is wrong with a program is named, sound programs stay calm, and the model is left as it was."""

import json
from dataclasses import replace
from itertools import cycle

import keras
import numpy as np
import pytest
from conftest import needs, python, refused
from keras import layers

import reszoo
from reszoo.diagnosis.causes import KINDS, Cause, ranked
from reszoo.diagnosis.checks.data import relation_causes
from reszoo.diagnosis.checks.one_batch import batch_rate_causes, one_batch
from reszoo.diagnosis.checks.shallow import shallow_causes
from reszoo.diagnosis.copies import copy_of
from reszoo.diagnosis.doctor import _losses_of_batches
from reszoo.diagnosis.examine import read_causes
from reszoo.diagnosis.examples import gather_examples, inputs_of
from reszoo.diagnosis.losses import losses_of
from reszoo.diagnosis.measures.signal import Correlation
from reszoo.diagnosis.program import read_program
from reszoo.diagnosis.trial import OneBatch, Run, Trainee, Trial, sweep
from reszoo.diagnosis.trial_causes import refuted

SPARSE, ONE_HOT, BINARY = "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"


def data(count=240, features=6, classes=3, seed=0):
    """Rows of normal numbers, and the class that the first numbers give."""
    x = np.random.default_rng(seed).normal(size=(count, features)).astype("float32")
    return x, x[:, :classes].argmax(axis=1)


def rows(y, classes=3):
    return np.eye(classes, dtype="float32")[y]


def network(*parts, loss, optimizer="adam", inputs=6):
    """A compiled Sequential; a number of units is a ReLU layer."""
    keras.utils.set_random_seed(0)
    # Layers that were made earlier may have the name of one that is made now.
    keras.backend.clear_session()
    stack = [layers.Dense(part, "relu") if isinstance(part, int) else _copy(part) for part in parts]
    model = keras.Sequential([keras.Input((inputs,)), *stack])
    model.compile(optimizer() if callable(optimizer) else optimizer, loss)
    return model


def _copy(layer):
    """The same layer under a name of its own."""
    config = {name: value for name, value in layer.get_config().items() if name != "name"}
    return type(layer).from_config(config)


def dense(units, activation=None, **more):
    return layers.Dense(units, activation, **more)


def kinds(model, x, y, **more):
    settings = {"loss": None, "batch_size": None, "epochs": None} | more
    return {cause.kind for cause in read_causes(read_program(model, x, y, **settings))}


def shifted_relu():
    x, _ = data()
    return network(8, dense(1, "relu"), loss="mse"), x, x[:, :1] - 3


def labels_at_once():
    x, _ = data()
    return network(8, dense(3, "softmax"), loss=ONE_HOT), x, (x[:, :3] > 0).astype("float32")


def classified(*parts, loss=SPARSE, one_hot=False, classes=3, scale=1.0, shift=0, **more):
    def make():
        x, y = data(classes=classes)
        return network(*parts, loss=loss, **more), x * scale, rows(y, classes) if one_hot else y + shift

    return make


def named():
    x, y = data()
    return network(8, dense(3, "softmax"), loss=SPARSE), x, np.array(["cat", "cow", "dog"])[y]


def signs():
    return np.sign(data()[0][:, :1])


def labelled(*activations, loss=BINARY):
    x, _ = data()
    return lambda: (network(8, dense(3, *activations), loss=loss), x, (x[:, :3] > 0).astype("float32"))


def tagger(*end):
    """Two classes for each of five positions."""

    def make():
        x = np.random.default_rng(0).normal(size=(64, 5, 3)).astype("float32")
        last = [dense(2), *map(_copy, end)] if end else [layers.TimeDistributed(dense(2, "softmax"))]
        model = keras.Sequential([keras.Input((5, 3)), dense(8, "relu"), *last])
        model.compile("adam", SPARSE)
        return model, x, (x[:, :, 0] > 0).astype("int32")

    return make


def frozen():
    x, y = data()
    model = network(layers.Dense(64, "relu", trainable=False), dense(3, "softmax"), loss=SPARSE)
    return model, x, y


def nan():
    x, y = data()
    x[3, 2] = np.nan
    return network(8, dense(3, "softmax"), loss=SPARSE), x, y


def large_values():
    x, _ = data()
    return network(8, dense(1), loss="mae"), x, 4e4 * x[:, :1]


def one_class():
    return network(8, dense(3, "softmax"), loss=SPARSE), data()[0], np.ones(240, int)


def wide(deviation):
    return layers.Dense(40, "relu", kernel_initializer=keras.initializers.RandomNormal(stddev=deviation))


def fading(steps):
    return keras.optimizers.schedules.ExponentialDecay(0.01, steps, 0.1)


SAME = {"kernel_initializer": keras.initializers.Constant(0.1)}
# What is wrong -> a program with it, and its kinds.
READ = {
    "one unit of softmax": (classified(8, dense(1, "softmax"), loss=BINARY, classes=2), {"output_activation"}),
    "sigmoid, then softmax": (classified(dense(3, "sigmoid"), layers.Softmax(), loss=SPARSE), {"output_activation"}),
    "tanh for classes": (classified(8, dense(3, "tanh")), {"output_activation"}),
    "sigmoid for exclusive classes": (
        classified(8, dense(3), layers.Activation("sigmoid"), loss=ONE_HOT, one_hot=True),
        {"output_activation"},
    ),
    "no activation": (classified(8, dense(1), loss=BINARY, classes=2), {"output_activation"}),
    "targets below a relu": (shifted_relu, {"output_activation"}),
    "several labels under a softmax": (labels_at_once, {"output_activation"}),
    "logits expected": (
        classified(8, dense(3, "softmax"), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        {"loss"},
    ),
    "several labels, softmax and squared error": (labelled("softmax", loss="mse"), {"output_activation"}),
    "values for a binary loss": (
        lambda: (network(8, dense(1), loss=BINARY), data()[0], 3 * data()[0][:, :1]),
        {"loss"},
    ),
    "years for a binary loss": (
        lambda: (network(8, dense(1), loss=BINARY), data()[0], np.round(9 * data()[0][:, :1]) + 2000),
        {"loss"},
    ),
    "values below 0 for poisson": (
        lambda: (network(8, dense(1), loss="poisson"), data()[0], data()[0][:, :1]),
        {"loss"},
    ),
    "squared error for classes": (classified(8, dense(3, "softmax"), loss="mse", one_hot=True), {"loss"}),
    "binary loss for one of many": (classified(8, dense(3, "softmax"), loss=BINARY, one_hot=True), {"loss"}),
    "classes from 1": (classified(8, dense(3, "softmax"), shift=1), {"labels"}),
    "too few outputs": (classified(8, dense(2, "softmax")), {"layer_properties"}),
    "one unit for three classes": (
        classified(8, dense(1, "sigmoid"), loss=BINARY),
        {"output_activation", "layer_properties"},
    ),
    "one class": (one_class, {"labels"}),
    "large inputs": (classified(8, dense(3, "softmax"), scale=300.0), {"input_scaling"}),
    "tiny inputs": (classified(8, dense(3, "softmax"), scale=1e-4), {"input_scaling"}),
    "large targets": (large_values, {"input_scaling"}),
    "NaN": (nan, {"bad_values"}),
    "wide weights": (classified(wide(5.0), dense(3, "softmax")), {"initialization"}),
    "tiny weights": (classified(wide(1e-4), dense(3, "softmax")), {"initialization"}),
    "equal weights": (classified(dense(8, "relu", **SAME), dense(3, "softmax", **SAME)), {"initialization"}),
    "linear layers": (classified(dense(16), dense(16), dense(3, "softmax")), {"hidden_activation"}),
    "a stack of sigmoid": (
        classified(dense(9, "sigmoid"), dense(9), layers.Activation("sigmoid"), dense(3, "softmax")),
        {"hidden_activation"},
    ),
    "random frozen layer": (frozen, {"frozen"}),
    "text as labels": (named, {"labels"}),
    "class numbers for rows": (classified(8, dense(3, "softmax"), loss=ONE_HOT), {"labels"}),
    "classes of -1 and 1": (lambda: (network(8, dense(1, "sigmoid"), loss=BINARY), data()[0], signs()), {"labels"}),
    "more units than columns": (classified(8, dense(4, "softmax"), loss=ONE_HOT, one_hot=True), {"layer_properties"}),
    "one unit for two columns": (
        lambda: (network(8, dense(1), loss="mse"), data()[0], data()[0][:, :2]),
        {"layer_properties"},
    ),
    "whole numbers out of reach": (
        lambda: (network(8, dense(1, "sigmoid"), loss="mse"), data()[0], np.round(9 * data()[0][:, :1])),
        {"output_activation"},
    ),
    "softmax over positions": (tagger(layers.Softmax(axis=1)), {"output_activation"}),
    "several labels, softmax and binary": (labelled("softmax"), {"output_activation"}),
    "dropout": (classified(30, layers.Dropout(0.97), dense(3, "softmax")), {"regularization"}),
    "a schedule that fades away": (
        classified(16, dense(3, "softmax"), optimizer=lambda: keras.optimizers.Adam(fading(1))),
        {"learning_rate"},
    ),
    "weight penalty": (
        classified(dense(30, "relu", kernel_regularizer=keras.regularizers.L2(50.0)), dense(3, "softmax")),
        {"regularization"},
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_named_and_nothing_else(name):
    make, expected = READ[name]
    assert kinds(*make()) == expected


def text():
    x = np.random.default_rng(0).integers(0, 50, (100, 9))
    model = keras.Sequential([keras.Input((9,), dtype="int32"), layers.Embedding(50, 8), layers.LSTM(8)])
    model.add(dense(1, "sigmoid"))
    model.compile("adam", BINARY)
    return model, x, (x[:, 0] > 25).astype("float32")


def masks():
    x = np.random.default_rng(0).random((32, 8, 8, 1)).astype("float32")
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, padding="same", activation="relu")])
    model.add(layers.Conv2D(1, 1, activation="sigmoid"))
    model.compile("adam", BINARY)
    return model, x, (x > 0.5).astype("float32")


def gated():
    """A squeeze-and-excitation gate: its sigmoid multiplies and is no layer of a stack."""
    x, y = data()
    given = keras.Input((6,))
    z = layers.Dense(16, "relu")(given)
    for _ in range(3):
        z = layers.Multiply()([z, layers.Dense(16, "sigmoid")(z)])
    model = keras.Model(given, layers.Dense(3, "softmax")(z))
    model.compile("adam", SPARSE)
    return model, x, y


def pretrained():
    """A frozen layer whose weights are not its initial ones."""
    model, x, y = frozen()
    model.layers[0].kernel.assign(model.layers[0].kernel * 1.7 + 0.05)
    return model, x, y


def constant_pixels():
    x, y = data(features=40)
    x[:, :20] = 0
    return network(8, dense(3, "softmax"), loss=SPARSE, inputs=40), x, y


def padded():
    """One-hot rows for positions, the last of which are padding: rows of zeros."""
    model, x, y = tagger(layers.Softmax())()
    model.compile("adam", ONE_HOT)
    return model, x, rows(y, 2) * (np.arange(5) < 3)[:, None]


def two_outputs():
    x, y = data()
    given = keras.Input((6,))
    z = layers.Dense(8, "relu")(given)
    model = keras.Model(given, {"class": layers.Dense(3, "softmax")(z), "value": layers.Dense(1)(z)})
    model.compile("adam", {"class": SPARSE, "value": "mse"})
    return model, x, {"class": y, "value": x[:, :1]}


def words():
    """Rows of 4,000 numbers, of which four are not zero."""
    x, y = np.zeros((240, 4000), "float32"), np.arange(240) % 3
    x[np.arange(240)[:, None], np.random.default_rng(0).integers(0, 1300, (240, 4)) + 1300 * y[:, None]] = 0.3
    return network(8, dense(3, "softmax"), loss=SPARSE, inputs=4000), x, y


def one_channel():
    """Where there is one input and it is positive, every second unit is dead by chance."""
    x = np.random.default_rng(0).random((64, 6, 6, 1)).astype("float32")
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(8, 1, activation="relu"), layers.Flatten()])
    model.add(dense(3, "softmax"))
    model.compile("adam", SPARSE)
    signs = np.array([-1, -1, -1, -1, -1, 1, 1, 1], "float32")
    model.layers[0].kernel.assign(np.abs(model.layers[0].kernel.numpy()) * signs)
    return model, x, np.arange(64) % 3


CALM = {
    "classes": classified(16, dense(3, "softmax")),
    "logits": classified(16, dense(3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    "one layer": classified(dense(3, "softmax")),
    "a schedule": classified(16, dense(3, "softmax"), optimizer=lambda: keras.optimizers.Adam(fading(100))),
    "scaled inside": classified(layers.Rescaling(1 / 300), 16, dense(3, "softmax"), scale=300.0),
    "norm first": classified(dense(16), layers.BatchNormalization(), layers.ReLU(), dense(3, "softmax"), scale=300.0),
    "one hidden sigmoid": classified(dense(16, "sigmoid"), dense(3, "softmax")),
    "two tanh": classified(dense(16, "tanh"), dense(16, "tanh"), dense(3, "softmax")),
    "several labels": labelled("sigmoid"),
    "a class for each position": tagger(),
    "regression": lambda: (network(8, dense(1), loss="mse"), data()[0], 5 * data()[0][:, :1]),
    "text": text,
    "masks": masks,
    "gates": gated,
    "pretrained layer": pretrained,
    "constant pixels": constant_pixels,
    "bag of words": words,
    "padded positions": padded,
    "two outputs": two_outputs,
}  # fmt: skip


@pytest.mark.parametrize("name", CALM)
def test_sound_programs_have_no_cause_and_the_loss_of_evaluate(name):
    model, x, y = CALM[name]()
    assert kinds(model, x, y) == set()
    program = read_program(model, x, y, loss=None, batch_size=None, epochs=None)
    loss, constant = losses_of(program, np.arange(len(x)))
    expected = model.evaluate(x, y, verbose=0, batch_size=len(x), return_dict=True)["loss"]
    assert loss == pytest.approx(expected, abs=1e-5) and np.isfinite(constant)


@pytest.mark.parametrize("name", ["one unit of softmax", "logits expected", "sigmoid, then softmax", "weight penalty"])
def test_the_loss_of_a_wrong_program_is_that_of_evaluate_too(name):
    model, x, y = READ[name][0]()
    program = read_program(model, x, y, loss=None, batch_size=None, epochs=None)
    assert losses_of(program, np.arange(len(x)))[0] == pytest.approx(
        model.evaluate(x, y, verbose=0, batch_size=len(x)), abs=1e-5, rel=1e-5
    )


def test_a_wrong_output_among_several_is_named():
    model, x, y = two_outputs()
    model.compile("adam", {"class": "mse", "value": "mse"})
    causes = [*read_causes(read_program(model, x, y | {"class": rows(y["class"])}, loss=None, batch_size=1, epochs=1))]
    assert {cause.kind for cause in causes} == {"loss"} and "class" in causes[0].seen


def test_labels_of_other_examples_are_unrelated():
    x, y = data(600)

    def suspected(y, *hidden):
        model = network(*hidden, dense(3, "softmax"), loss=SPARSE)
        program = read_program(model, x, y, loss=None, batch_size=1, epochs=1)
        return [cause.kind for cause in relation_causes(program, seed=0)]

    assert suspected(y, 8) == suspected(y) == [] and suspected(np.random.default_rng(1).permutation(y)) == ["labels"]
    # Exclusive or: no linear relation, but a relation.
    either = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    assert suspected(either, 8) == [] and suspected(either) == ["layers"]


# Measured.


def state(model):
    variables = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    nodes = [(len(layer._inbound_nodes), layer.trainable) for layer in model._flatten_layers()]
    return variables, nodes, id(model.optimizer), id(model.loss), np.random.get_state()[1].tobytes()


def dying():
    return classified(dense(20, "relu", bias_initializer=keras.initializers.Constant(-50.0)), 20, dense(3, "softmax"))()


def flat():
    wide = {"kernel_initializer": keras.initializers.RandomNormal(stddev=6.0)}
    return classified(*(dense(20, "tanh", **wide) for _ in range(3)), dense(3, "softmax"))()


def deep():
    return classified(*([12] * 40), dense(3, "softmax"))()


def fast():
    return classified(16, dense(3, "softmax"), optimizer=keras.optimizers.SGD(500.0))()


def slow():
    return classified(16, dense(3, "softmax"), optimizer=keras.optimizers.Adam(1e-7))()


def killing():
    """At this rate the first step kills every unit: the loss is then that of a constant, and less than before."""
    keras.utils.set_random_seed(0)
    x = np.arange(0, 5, 0.1, dtype="float32").reshape(-1, 1)
    small = keras.initializers.RandomUniform(-0.05, 0.05)
    hidden = dense(30, "relu", kernel_initializer=small)
    model = network(50, hidden, dense(1), loss="mse", optimizer=lambda: keras.optimizers.SGD(0.1), inputs=1)
    return model, x, 5 * x**2


def stale():
    x, y = data()
    norms = [part for _ in range(2) for part in (dense(16), layers.BatchNormalization(momentum=0.999), layers.ReLU())]
    model = network(*norms, dense(3, "softmax"), loss=SPARSE, optimizer=keras.optimizers.Adam(0.05))
    model.fit(5 * x + 7, y, epochs=3, verbose=0)
    return model, 5 * x + 7, y


MEASURED = {
    "dead": (dying, {"dead_units"}, {}),
    "flat": (flat, {"saturation", "initialization"}, {}),
    "deep": (deep, {"depth"}, {}),
    "rate too high": (fast, {"learning_rate"}, {"trial": True}),
    "rate that kills": (killing, {"learning_rate"}, {"trial": True}),
    "rate too low": (slow, {"learning_rate"}, {"trial": True}),
    "rate too low, and no multiple of it learns": (
        classified(16, dense(3, "softmax"), optimizer=lambda: keras.optimizers.SGD(1e-7)),
        {"learning_rate"},
        {"trial": True},
    ),
    "steps clipped to nothing": (
        classified(16, dense(3, "softmax"), optimizer=lambda: keras.optimizers.SGD(0.01, clipnorm=1e-7)),
        {"optimizer"},
        {"trial": True},
    ),
    "few steps": (classified(16, dense(3, "softmax")), {"epochs"}, {"trial": True, "batch_size": 240, "epochs": 3}),
    "stale statistics": (stale, {"norm_statistics"}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_is_named_and_the_model_is_unchanged(name):
    make, expected, settings = MEASURED[name]
    model, x, y = make()
    before = state(model)
    diagnosis = reszoo.diagnose(model, x, y, **{"trial": False, **settings})
    assert state(model) == before
    assert expected <= {cause.kind for cause in diagnosis.causes} and len(diagnosis.causes) <= 3
    assert not diagnosis.healthy and "nan a block" not in str(diagnosis.to_dict())


def test_a_sound_program_stays_calm_with_a_trial():
    model, x, y = classified(16, 16, dense(3, "softmax"), optimizer=keras.optimizers.Adam(0.01))()
    before = state(model)
    diagnosis = reszoo.diagnose(model, x, y)
    assert state(model) == before and diagnosis.causes == () and diagnosis.healthy
    assert diagnosis.trial.own.end < diagnosis.trial.constant
    plain = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert plain["causes"] == [] and plain["loss"] == pytest.approx(model.evaluate(x, y, verbose=0), abs=1e-5)


def test_a_rate_at_which_a_few_examples_are_not_fit_is_too_high():
    model, x, y = classified(16, dense(3, "softmax"), optimizer=lambda: keras.optimizers.SGD(300.0))()
    program = read_program(model, x, y, loss=None, batch_size=None, epochs=None)
    trainee = Trainee(program, copy_of(model, weights=True), rate=300.0, loss=SPARSE, seed=0)
    trial = sweep(trainee)
    assert [
        *batch_rate_causes(program, OneBatch(tuple(range(16)), 0.1, 60, 0.9), replace(trial, rate=0.1), trainee)
    ] == []
    (cause,) = batch_rate_causes(program, OneBatch(tuple(range(16)), 0.1, 60, 0.9), trial, trainee)
    assert cause.kind == "learning_rate" and cause.evidence["gain"] < 0.15 and "SGD(0.1)" in cause.remedy


def test_a_few_examples_are_tried_at_the_own_rate_where_the_trial_has_no_better_one():
    model, x, y = classified(32, dense(3, "softmax"), optimizer=lambda: keras.optimizers.Adam(0.03))()
    program = read_program(model, x, y, loss=None, batch_size=None, epochs=None)
    trainee = Trainee(program, copy_of(model, weights=True), rate=0.03, loss=SPARSE, seed=0)
    start, constant = trainee.scores()
    runs = (Run(1e-7, (start,), constant), Run(0.03, (start,), 2 * constant))
    run = one_batch(program, Trial(0.03, runs, start, constant, 40, 32, trainee.rows(40)), trainee)
    assert run.rate == 0.03 and run.gain >= 0.5


@pytest.mark.slow
def test_fewer_layers_show_that_depth_is_at_fault():
    def shallow(depth):
        model, x, y = classified(*[12] * depth, dense(3, "softmax"))()
        program = read_program(model, x, y, loss=None, batch_size=None, epochs=None)
        trainee = Trainee(program, copy_of(model, weights=True), rate=0.01, loss=SPARSE, seed=0)
        run = Run(0.01, (1.1,), 1.1)
        trial = Trial(0.01, (run,), 1.1, trainee.scores()[1], 40, 32, trainee.rows(40))
        return [*shallow_causes(program, trial, trainee, loss=SPARSE, seed=0)]

    (cause,) = shallow(40)
    assert cause.kind == "depth" and cause.evidence["gain"] < cause.evidence["gain with a quarter of the layers"] / 3
    assert shallow(6) == []


def test_a_pair_of_identities_needs_no_relation_to_either():
    random = np.random.default_rng(0)
    ids = random.integers(0, 30, (400, 2))
    left, right = random.normal(size=(2, 30, 4))
    y = ((left[ids[:, 0]] * right[ids[:, 1]]).sum(axis=1) > 0).astype(int)

    def suspected(inputs):
        given = keras.Input((inputs.shape[1],), dtype="int32")
        end = layers.Dense(1, "sigmoid")(layers.Flatten()(layers.Embedding(30, 4)(given)))
        model = keras.Model(given, end)
        model.compile("adam", BINARY)
        program = read_program(model, inputs, y, loss=None, batch_size=None, epochs=None)
        return [cause.kind for cause in relation_causes(program, seed=0)]

    assert suspected(ids) == [] and suspected(random.integers(0, 30, (400, 9))) == ["labels"]


def test_what_the_trial_refutes_is_not_called_broken():
    lost = Correlation(
        model="m", level="broken", verdict="alike", control={}, cosines=(), distinct=(), tokens=(), same_class=(),
        depth_scale=0.0, noise=(),
    )  # fmt: skip
    assert refuted(lost).level == "unknown" and "trial" in refuted(lost).verdict
    fine = replace(lost, level="healthy")
    assert refuted(fine) is fine


def test_units_that_are_dead_by_chance_are_no_cause():
    diagnosis = reszoo.diagnose(*one_channel(), trial=False)
    assert diagnosis["census"].dead == 5 and diagnosis.causes == () and diagnosis.healthy


def test_a_program_that_cannot_be_examined_is_refused():
    model, x, _ = classified(8, dense(3, "softmax"))()
    with refused(["the same number of both"]):
        reszoo.diagnose(model, x, np.zeros(7))
    with refused(["diagnose", "cannot be computed"]):
        reszoo.diagnose(model, x, x, loss=lambda y, outputs: y @ outputs, trial=False)


# Repair.

REPAIRED = {
    "one unit of softmax": classified(8, dense(1, "softmax"), loss=BINARY, classes=2),
    "large values": large_values,
    "steps clipped to nothing": MEASURED["steps clipped to nothing"][0],
    "linear layers, squared error": classified(dense(8), dense(3), loss="mse", one_hot=True, scale=100.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPAIRED)
def test_a_repaired_program_takes_the_same_data_and_learns(name):
    model, x, y = REPAIRED[name]()
    before = state(model)
    repair = reszoo.diagnose(model, x, y, repair=True).repair
    assert state(model) == before
    assert repair.learns and repair.after[-1] < 0.7 and repair.changes
    loss = repair.model.evaluate(x, y, verbose=0)
    history = repair.model.fit(x, y, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss) and history[-1] < 10 * loss + 1


# The callback.


def test_the_callback_reports_once_and_leaves_training_as_it_is():
    def train(*callbacks):
        model, x, y = fast()
        model.fit(x, y, epochs=3, verbose=0, shuffle=False, callbacks=[*callbacks])
        return model.get_weights()

    lines = []
    x, y = data()
    doctor = reszoo.Doctor(100 * x, y, report=lines.append)
    for ours, theirs in zip(train(doctor), train(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    named = [cause.kind for _, cause in doctor.history]
    assert named[0] == "input_scaling" and len(lines) == len(named) == len({*named})
    assert lines[0].startswith("Doctor, step 0: input_scaling: ")
    with refused(["one of x and y"]):
        reszoo.Doctor(x)


def test_the_callback_sees_a_loss_that_is_nan():
    x, _ = data()
    y = x[:, :1].copy()
    y[0] = np.nan
    model = network(8, dense(1), loss="mse")
    doctor = reszoo.Doctor(report=None)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[doctor])
    assert "NaN" in doctor.history[0][1].seen and "1 cause" in repr(doctor)


def test_the_callback_takes_batches_in_any_order():
    # The means of an epoch after 1, 2 and 4 batches; the loss of the last two was 4 on average.
    assert _losses_of_batches({2: 2.0, 1: 1.0, 4: 3.0}) == [1.0, 3.0, 4.0]


class Poison(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.layers[-1].bias.assign([np.nan])


def test_the_callback_sees_weights_that_are_nan_behind_a_finite_loss():
    x, _ = data()
    model = network(8, dense(1), loss="mse")
    doctor = reszoo.Doctor(report=None)
    model.fit(x, x[:, :1], epochs=1, batch_size=len(x), verbose=0, callbacks=[Poison(), doctor])
    assert "1 variables hold NaN" in doctor.history[0][1].seen


# Ranking, backends.


def test_at_most_five_kinds_are_named_certain_ones_first():
    causes = [Cause(kind, kind, "", "", certain=kind == "epochs") for kind in [*KINDS, "loss"]]
    best = ranked(causes)
    assert len(best) == 5 and best[0].kind == "epochs" and len({cause.kind for cause in best}) == 5


# Name -> layers, optimizer, settings, and the causes; run in a process of another backend.
ON_BACKENDS = """
import keras, numpy as np, reszoo
from keras import layers, optimizers
from reszoo.diagnosis.checks import one_batch, rates
# What is named may not depend on how busy the machine is.
one_batch.SECONDS = rates.SECONDS = 30.0
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(240, 6)).astype("float32")
y = (x[:, :1] > 0).astype("float32")
either = (x[:, :1] * x[:, 1:2] > 0).astype("float32")
twice = np.concatenate([x[:60]] * 4)

def dense(units, activation="relu", **more):
    return layers.Dense(units, activation, **more)

end = lambda: dense(1, "sigmoid")
below = {"bias_initializer": keras.initializers.Constant(-50.0)}
fading = optimizers.schedules.ExponentialDecay(0.01, 1, 0.1)
adam, slow, clipped = optimizers.Adam(0.01), optimizers.Adam(1e-7), optimizers.SGD(0.01, clipnorm=1e-7)
half = {"class_weight": {0: 0.0, 1: 1.0}}
cases = {
    "sound": ([dense(8), end()], adam, x, y, {}),
    "softmax of one": ([dense(8), dense(1, "softmax")], adam, x, y, {}),
    "slow": ([dense(8), end()], slow, x, y, {}),
    "dead": ([dense(8, **below), end()], adam, x, y, {}),
    "clipped": ([dense(8), end()], clipped, x, y, {}),
    "fading": ([dense(8), end()], optimizers.Adam(fading), x, y, {}),
    "linear": ([end()], adam, x, either, {}),
    "twice": ([dense(8), end()], adam, twice, either, {}),
    "weights": ([dense(8), end()], adam, x, y, half),
}
for name, (parts, optimizer, inputs, labels, settings) in cases.items():
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile(optimizer, "binary_crossentropy")
    state = lambda: [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    before = state()
    diagnosis = reszoo.diagnose(model, inputs, labels, **settings)
    assert before == state(), name
    if not settings:
        assert abs(diagnosis.loss - model.evaluate(inputs, labels, verbose=0, batch_size=240)) < 1e-5, name
    print(name, *(cause.kind for cause in diagnosis.causes), sep=", ")
"""
NAMED = """sound
softmax of one, output_activation
slow, learning_rate
dead, dead_units
clipped, optimizer
fading, learning_rate
linear, layers
twice, labels
weights, loss"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["tensorflow", *(pytest.param(name, marks=needs(name)) for name in ("jax", "torch"))]
)
def test_causes_are_the_same_on_all_backends(backend):
    assert python(ON_BACKENDS, backend=backend).strip() == NAMED


def batches(kind):
    """Pairs of inputs and true values in the forms that `fit` takes, and the settings of a diagnosis."""
    x, y = data()
    pairs = [(x[start : start + 40], y[start : start + 40]) for start in range(0, len(x), 40)]
    if kind == "generator":
        return iter(pairs)
    if kind == "endless":
        return cycle(pairs)

    class Pairs(keras.utils.PyDataset):
        def __len__(self):
            return len(pairs)

        def __getitem__(self, number):
            return pairs[number]

    return Pairs()


@pytest.mark.parametrize(("kind", "count"), [("generator", 240), ("endless", 2080), ("PyDataset", 240)])
def test_batches_are_taken_in_place_of_arrays(kind, count):
    examples = gather_examples(batches(kind), None)
    assert len(examples.x) == len(examples.y) == count and examples.batch_size == 40
    assert examples.whole is (kind != "endless")
    diagnosis = reszoo.diagnose(network(8, dense(3, "softmax"), loss=ONE_HOT), batches(kind), trial=False)
    assert [cause.kind for cause in diagnosis.causes] == ["labels"]
    assert "takes one-hot rows" in diagnosis.causes[0].why


def test_inputs_are_read_as_keras_reads_them():
    first, second = keras.Input((3,), name="second"), keras.Input((2, 1), name="first")
    model = keras.Model([first, second], layers.Flatten()(second))
    a, b = np.zeros((4, 3)), np.ones((4, 2))
    x = inputs_of(model, {"first": b, "second": a, "unused": a})
    assert [part.shape for part in x] == [(4, 3), (4, 2, 1)]
    assert inputs_of(network(4, loss="mse"), [[1.0] * 6] * 3).shape == (3, 6)


def test_a_sequential_without_an_input_shape_is_built():
    x, y = data()
    model = keras.Sequential([dense(8, "relu"), dense(1, "softmax")])
    model.compile("adam", BINARY)
    assert kinds(model, x, y == 0) == {"output_activation"}


class Scaled(layers.Layer):
    """A layer that cannot be made anew from its configuration."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return self.factor * x


def test_layers_without_a_configuration_and_functions_as_losses_are_tried():
    x, y = data()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), Scaled(1.0), dense(16, "relu"), dense(3, "softmax")])
    model.compile(keras.optimizers.Adam(0.01), lambda y, p: keras.losses.sparse_categorical_crossentropy(y, p))
    before = model.get_weights()
    assert reszoo.diagnose(model, x, y).trial is not None
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model = network(16, dense(3, "softmax"), loss=SPARSE)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)), SPARSE)
    assert reszoo.diagnose(model, x, y).trial.rate == pytest.approx(0.01)


def test_a_copy_has_the_statistics_of_an_adapted_layer():
    x, _ = data()
    scale = layers.Normalization()
    scale.adapt(100 * x + 500)
    model = network(8, dense(3, "softmax"), loss=SPARSE)
    model = keras.Sequential([keras.Input((6,)), scale, *model.layers])
    for weights in (True, False):
        copy = copy_of(model, weights=weights)
        assert np.allclose(copy.layers[0](100 * x + 500), scale(100 * x + 500), atol=1e-5)


def test_a_truth_table_needs_a_hidden_layer():
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    model = network(dense(1, "sigmoid"), loss=BINARY, optimizer=keras.optimizers.SGD(0.1), inputs=2)
    assert "layers" in {cause.kind for cause in reszoo.diagnose(model, x, x[:, :1] != x[:, 1:]).causes}
