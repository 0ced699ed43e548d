"""The doctor on weights, subclasses and examples: the loss is that of Keras, and only faults are named."""

import keras
import numpy as np
import pytest
from conftest import refused
from keras import layers
from test_causes import BINARY, SPARSE, classified, data, dense, kinds, network, state, two_outputs

import reszoo
from reszoo.diagnosis.checks import rates
from reszoo.diagnosis.checks.examples import example_notes
from reszoo.diagnosis.doctor import swings
from reszoo.diagnosis.losses import losses_of
from reszoo.diagnosis.program import read_program
from reszoo.diagnosis.trial import Run, Trial


def program(model, x, y, **more):
    return read_program(model, x, y, **{"loss": None, "batch_size": None, "epochs": None, **more})


def weights(count=240, seed=1):
    return np.random.default_rng(seed).uniform(0, 3, count).astype("float32")


def weighted_outputs():
    model, x, y = two_outputs()
    model.compile("adam", {"class": SPARSE, "value": "mse"}, loss_weights={"class": 0.25, "value": 3.0})
    return model, x, y


def scaled(loss_weights):
    model, x, y = classified(16, dense(3, "softmax"))()
    model.compile("adam", SPARSE, loss_weights=loss_weights)
    return model, x, y


def summed(loss=None):
    model, x, y = classified(16, dense(3, "softmax"))()
    model.compile("adam", loss or keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    return model, x, y


class Adding(layers.Layer):
    """Adds the sum of its inputs' squares to the loss."""

    def call(self, x):
        self.add_loss(1e-3 * keras.ops.sum(x * x))
        return x


def masked():
    x = np.random.default_rng(0).integers(1, 20, (64, 7))
    x[:, 5:] = 0
    model = keras.Sequential([keras.Input((7,), dtype="int32"), layers.Embedding(20, 8, mask_zero=True)])
    model.add(layers.LSTM(8, return_sequences=True))
    model.add(dense(4, "softmax"))
    model.compile("adam", SPARSE)
    return model, x, x % 4


PENALTY = {"activity_regularizer": keras.regularizers.L2(0.05)}
# Name -> a program, and further arguments of diagnose and of evaluate.
LOSSES = {
    "sample weights": (classified(16, dense(3, "softmax")), lambda x, y: {"sample_weight": weights()}),
    "a weight for all outputs": (lambda: scaled(2.5), lambda x, y: {}),
    "weights of outputs": (weighted_outputs, lambda x, y: {}),
    "weights of outputs and of examples": (
        weighted_outputs,
        lambda x, y: {"sample_weight": {"class": weights(), "value": weights(seed=2)}},
    ),
    "a sum": (summed, lambda x, y: {}),
    "a mean of the weights": (
        lambda: summed(keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")),
        lambda x, y: {"sample_weight": weights()},
    ),
    "activity penalties": (classified(dense(16, "relu", **PENALTY), dense(3, "softmax", **PENALTY)), lambda x, y: {}),
    "an added loss": (classified(16, Adding(), dense(3, "softmax")), lambda x, y: {}),
    "masked steps": (masked, lambda x, y: {}),
    "weights of time steps": (masked, lambda x, y: {"sample_weight": np.repeat(weights(64)[:, None], 7, axis=1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_that_of_evaluate(name):
    make, more = LOSSES[name]
    model, x, y = make()
    settings = more(x, y)
    before = state(model)
    loss, constant = losses_of(program(model, x, y, **settings), np.arange(len(x)))
    assert state(model) == before and np.isfinite(constant)
    expected = model.evaluate(x, y, verbose=0, return_dict=True, **settings)["loss"]
    assert loss == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_class_weights_are_those_of_fit():
    model, x, y = classified(16, dense(3, "softmax"))()
    by_class = {0: 0.5, 2: 4.0}
    loss, _ = losses_of(program(model, x, y, class_weight=by_class), np.arange(len(x)))
    each = np.array([by_class.get(int(label), 1.0) for label in y])
    assert loss == pytest.approx(model.evaluate(x, y, sample_weight=each, verbose=0), abs=1e-5)


def test_a_loss_of_the_models_own_is_not_taken_for_the_compiled_one():
    class Own(keras.Model):
        def compute_loss(self, *args, **more):
            return 2 * super().compute_loss(*args, **more)

    model, x, y = classified(16, dense(3, "softmax"))()
    own = Own(model.inputs, model.outputs)
    own.compile("adam", SPARSE)
    with refused(["Own.compute_loss()"]):
        reszoo.diagnose(own, x, y)


def test_a_training_of_the_models_own_is_not_tried():
    class Own(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    model, x, y = classified(16, dense(3, "softmax"))()
    own = Own(model.inputs, model.outputs)
    own.compile("adam", SPARSE)
    diagnosis = reszoo.diagnose(own, x, y)
    assert diagnosis.loss == pytest.approx(own.evaluate(x, y, verbose=0), abs=1e-5)
    assert ("trial", "Own.train_step() is the model's own") in diagnosis.skipped


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"class_weight": {0: 1.0}, "sample_weight": weights()}, ["class_weight and sample_weight", "one of them"]),
        ({"class_weight": {"a": 1.0}}, ["a weight for 'a'", "class indices"]),
        ({"sample_weight": weights(3)}, ["(3,)", "240 examples"]),
        ({"sample_weight": -weights()}, ["below 0"]),
    ],
)
def test_weights_that_do_not_match_are_refused(settings, messages):
    model, x, y = classified(16, dense(3, "softmax"))()
    with refused(messages):
        reszoo.diagnose(model, x, y, **settings)


def rare(share=0.1):
    """Two classes, one of them rare."""
    x, _ = data()
    return network(8, dense(1, "sigmoid"), loss=BINARY), x, (x[:, :1] > np.quantile(x[:, 0], 1 - share)).astype(int)


def leaking(column):
    x, y = data()
    return network(8, dense(3, "softmax"), loss=SPARSE), np.concatenate([x[:, 1:], column(y)[:, None]], axis=1), y


def under_two_labels(copies):
    x, y = data()
    x[:copies] = x[-copies:]
    return network(8, dense(3, "softmax"), loss=SPARSE), x, y


def truth_table():
    x = np.tile(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32"), (50, 1))
    return network(8, dense(1, "sigmoid"), loss=BINARY, inputs=2), x, (x[:, :1] != x[:, 1:]).astype(int)


def large_sgd(mean):
    x, y = data()
    model = network(8, dense(3, "softmax"), loss=SPARSE, optimizer=keras.optimizers.SGD(0.01))
    return model, x, y, {"sample_weight": mean * weights()}


def idle_output(weight):
    model, x, y = two_outputs()
    model.compile("adam", {"class": SPARSE, "value": "mse"}, loss_weights={"class": weight, "value": 1.0})
    return model, x, y


# What is wrong, or sound -> a program, and its kinds.
READ = {
    "inverted weights": (lambda: (*rare(), {"class_weight": {0: 9.0, 1: 1.0}}), {"loss"}),
    "balanced weights": (lambda: (*rare(), {"class_weight": {0: 0.55, 1: 5.0}}), set()),
    "a class without weight": (lambda: (*rare(), {"class_weight": {0: 1.0, 1: 0.0}}), {"loss"}),
    "classes counted from 1": (lambda: (*rare(0.5), {"class_weight": {1: 1.0, 2: 1.0}}), {"loss"}),
    "large weights": (lambda: large_sgd(100.0), {"loss"}),
    "usual weights": (lambda: large_sgd(1.0), set()),
    "an output of weight 0": (lambda: idle_output(0.0), {"loss"}),
    "an output that drowns": (lambda: idle_output(1e-4), {"loss"}),
    "outputs of similar weight": (lambda: idle_output(0.3), set()),
    "equal inputs under two labels": (lambda: under_two_labels(100), {"labels"}),
    "a few of them": (lambda: under_two_labels(6), set()),
    "a truth table": (truth_table, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_weights_and_examples_are_read(name):
    make, expected = READ[name]
    model, x, y, *more = make()
    assert kinds(model, x, y, **(more[0] if more else {})) == expected


def notes(model, x, y):
    return [*example_notes(program(model, x, y))]


LEAKS = {
    "the label": (lambda y: y, True),
    "the label under other names": (lambda y: np.array([0.3, -2, 7])[y], True),
    "two of three classes": (lambda y: y > 0, False),
    "three values": (lambda y: np.roll(y, 1), False),
    "noise": (lambda y: np.random.default_rng(1).normal(size=len(y)), False),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_is_the_label_is_noted(name):
    column, noted = LEAKS[name]
    texts = notes(*leaking(lambda y: column(y).astype("float32")))
    assert len(texts) == noted and all("column 5 of the inputs is the true value" in text for text in texts)


def test_copies_are_noted_unless_the_inputs_have_few_values():
    assert "60 of 240 inputs are copies" in notes(*under_two_labels(60))[0]
    assert notes(*truth_table()) == notes(*classified(8, dense(3, "softmax"))()) == []
    model, x, _ = classified(8, dense(1), loss="mse")()
    assert "column 2 of the inputs is the true value" in notes(model, x, x[:, 2:3])[0]


# Subclasses.


class Block(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units, "relu")

    def call(self, x):
        return x + self.dense(x)


class Net(keras.Model):
    """A model with its own call()."""

    def __init__(self, last="softmax", units=3):
        super().__init__()
        self.first, self.norm = layers.Dense(16), layers.BatchNormalization()
        self.blocks = [Block(16) for _ in range(2)]
        self.drop, self.last = layers.Dropout(0.2), layers.Dense(units, last)

    def call(self, x, training=False):
        x = keras.ops.relu(self.norm(self.first(x), training=training))
        for block in self.blocks:
            x = block(x)
        if training:
            x = self.drop(x)
        return self.last(x)


class OwnVariable(Net):
    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return super().call(x * self.scale)


class Branching(Net):
    def call(self, x):
        return super().call(x if float(keras.ops.sum(x)) > 0 else -x)


def compiled(model, loss=SPARSE):
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


@pytest.mark.parametrize("trained", [False, True])
def test_the_call_of_a_subclass_is_traced(trained):
    x, y = data()
    model = compiled(Net())
    if trained:
        model.fit(x, y, epochs=1, verbose=0)
    diagnosis = reszoo.diagnose(model, x, y)
    assert diagnosis.causes == ()
    # Its blocks cannot be made anew with fresh weights, which a trial of a trained model needs.
    assert trained == (diagnosis.trial is None) == any(title == "trial" for title, _ in diagnosis.skipped)
    assert diagnosis.loss == pytest.approx(model.evaluate(x, y, verbose=0), abs=1e-5)


def test_a_wrong_output_of_a_subclass_is_named():
    x, y = data(classes=2)
    diagnosis = reszoo.diagnose(compiled(Net(units=1), BINARY), x, y, trial=False)
    assert [cause.kind for cause in diagnosis.causes] == ["output_activation"]


@pytest.mark.parametrize(
    ("model", "messages"),
    [(OwnVariable, ["variables of its own", "scale"]), (Branching, ["cannot be traced", "keras.ops"])],
)
def test_a_subclass_that_cannot_be_traced_is_refused(model, messages):
    x, y = data()
    with refused([model.__name__, "its own call()", *messages]):
        reszoo.diagnose(compiled(model()), x, y)


def test_the_callback_reads_a_subclass():
    x, y = data(classes=2)
    model, doctor = compiled(Net(units=1), BINARY), reszoo.Doctor(x, y, report=None)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[doctor])
    assert {cause.kind for _, cause in doctor.history} == {"output_activation"}


# A few examples alone.


def xor():
    x, _ = data(400)
    y = ((x[:, :1] > 0) ^ (x[:, 1:2] > 0)).astype(int)
    return x, y


def test_few_examples_that_cannot_be_fit_are_named():
    x, y = xor()
    model = network(
        layers.Dropout(0.75), 16, layers.Dropout(0.75), 16, layers.Dropout(0.75), dense(1, "sigmoid"), loss=BINARY
    )
    diagnosis = reszoo.diagnose(model, x, y)
    assert "regularization" in {cause.kind for cause in diagnosis.causes}


def trial(losses):
    calm = Run(0.01, tuple(1 - 0.02 * np.arange(40)), 0.3)
    return Trial(0.1, (calm, Run(0.1, tuple(losses), 0.75)), 1.0, 1.0, 40, 8, np.zeros((40, 8), int))


def test_rates_that_swing_are_named_with_their_step():
    steps = np.arange(40)
    causes = [*rates._swings(trial(1 + 0.6 * (steps % 2) - 0.005 * steps), "SGD")]
    assert [cause.kind for cause in causes] == ["learning_rate"] and "from step 2 on" in causes[0].seen
    assert not [*rates._swings(trial(1 - 0.02 * steps + 0.02 * (steps % 2)), "SGD")]


def test_epochs_that_swing_are_named_and_noise_is_not():
    calm, wild = [1.0, 0.9, 0.8, 0.75, 0.72, 0.71, 0.705], [1.0, 0.8, 1.3, 0.9, 1.4, 0.8, 1.2]
    assert [*swings(calm, [0.01] * 7)] == [] == [*swings(wild, [0.2] * 7)] == [*swings(wild[:5], [0.01] * 5)]
    (cause,) = swings(wild, [0.01] * 7)
    assert cause.kind == "learning_rate" and "in epoch 3" in cause.seen
    # After the loss has fallen a hundredfold its last digits may go up and down.
    assert [*swings([100.0, 1.0, 1.2, 1.0, 1.2, 1.0, 1.2], [0.01] * 7)] == []


def test_the_callback_sees_a_loss_that_swings():
    x, y = data()
    model = network(16, dense(3, "softmax"), loss=SPARSE, optimizer=keras.optimizers.SGD(8.0))
    doctor = reszoo.Doctor(report=None)
    model.fit(x, y, epochs=9, verbose=0, callbacks=[doctor])
    assert [cause.kind for _, cause in doctor.history] == ["learning_rate"]
    calm = reszoo.Doctor(report=None)
    network(16, dense(3, "softmax"), loss=SPARSE).fit(x, y, epochs=9, verbose=0, callbacks=[calm])
    assert calm.history == []
