"""Equal blocks as loops: the numbers of the stock network, whatever trains it, and stock files."""

import copy
import warnings

import keras
import numpy as np
import pytest
from conftest import needs, python, refused

import reszoo
from reszoo.arch.build import build
from reszoo.arch.loops import Looped
from reszoo.arch.runs import has_runs

SMALL = {"input_shape": (8, 8, 3), "width_multiplier": 0.25, "classes": 4}
BACKEND = keras.backend.backend()
TOLERANCE = {"tensorflow": 0.0, "jax": 1e-6, "torch": 1e-5}[BACKEND]


def pair(name="preact_resnet110_cifar", **changes):
    """The stock model and the one with loops, both after the same seed."""
    spec = reszoo.spec(name, **{**SMALL, "depths": 3, **changes})
    models = []
    for kind in (build, Looped):
        keras.utils.set_random_seed(3)
        models.append(kind(spec))
    return models


def examples(model, count=8, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, *model.input_shape[1:])).astype("float32"), random.integers(0, 4, count)


def assert_equal(stock, looped, tolerance=TOLERANCE):
    other = reszoo.unrolled(looped)
    for ours, theirs in zip(other.variables, stock.variables, strict=True):
        a, b = (keras.ops.convert_to_numpy(each).astype("float64") for each in (ours, theirs))
        assert np.abs(a - b).max() <= tolerance, theirs.path
    return other


def train(model, optimizer, steps=2, **settings):
    x, y = examples(model)
    loss = keras.losses.SparseCategoricalCrossentropy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile(optimizer, loss, **settings)
    # With a step more than the momentum needs to matter.
    return [float(model.train_on_batch(x, y)) for _ in range(steps) if not model.reset_metrics()]


NETWORKS = [
    ("preact_resnet110_cifar", {"dropout": 0.2}),
    ("resnet20_cifar", {}),
    ("resnet50", {"depths": [1, 3, 1, 2], "input_shape": (32, 32, 3), "width_multiplier": 0.0625}),
    ("resnet50d", {"depths": [2, 1, 1, 3], "input_shape": (32, 32, 3), "width_multiplier": 0.0625}),
    ("se_resnet50", {"depths": [1, 3, 1, 2], "input_shape": (32, 32, 3), "width_multiplier": 0.125}),
    ("resnet20_cifar", {"norm": {"kind": "group", "groups": 2}}),
    ("resnet20_cifar", {"init": "orthogonal", "norm": {"kind": "none"}, "start": "scaled"}),
    ("resnet20_cifar", {"drop_path": 0.5}),
    ("residual_mlp18", {"input_shape": (16,), "width_multiplier": 0.0625}),
    ("residual_mlp18", {"input_shape": (16,), "width_multiplier": 0.0625, "init": "looks_linear"}),
]
IDS = [f"{name}-{'-'.join({*changes} - {*SMALL})}" for name, changes in NETWORKS]


@pytest.mark.parametrize(("name", "changes"), NETWORKS, ids=IDS)
def test_initial_values_and_order_are_those_of_the_stock_network(name, changes):
    stock, looped = pair(name, **changes)
    assert_equal(stock, looped, 0.0)
    ours = {id(stack) for stack in looped.trainable_variables}
    names = [f"{layer}/{stack.name}" for layer, _, stack, _ in looped.rows() if id(stack) in ours]
    assert names == ["/".join(variable.path.split("/")[-2:]) for variable in stock.trainable_variables]


@pytest.mark.parametrize(("name", "changes"), NETWORKS, ids=IDS)
def test_training_gives_the_numbers_of_the_stock_network(name, changes):
    stock, looped = pair(name, **changes)
    losses = [train(model, keras.optimizers.SGD(0.05, momentum=0.9)) for model in (stock, looped)]
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    assert_equal(stock, looped)
    x, _ = examples(stock)
    assert np.abs(stock.predict(x, verbose=0) - looped.predict(x, verbose=0)).max() <= max(TOLERANCE, 1e-7)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.5),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(0.1),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "lamb": lambda: keras.optimizers.Lamb(0.01),
    "muon": lambda: keras.optimizers.Muon(0.01),
    "schedulefreeadamw": lambda: keras.optimizers.ScheduleFreeAdamW(0.01),
    "lossscaleoptimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=0.05),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1),
    "clipvalue": lambda: keras.optimizers.SGD(0.1, clipvalue=0.01),
    "ema": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2, global_clipnorm=0.1),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.0, 9, warmup_target=0.1, warmup_steps=3)
    ),
}
REFUSED = {"adafactor", "lamb", "muon"}
"""Their steps depend on whole variables."""


def test_table_has_every_optimizer_of_keras():
    kinds = {
        name.lower()
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
    }
    assert kinds - {"optimizer", "multioptimizer"} <= {*OPTIMIZERS}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_equal_steps_or_is_refused(name):
    if not hasattr(keras.optimizers, "Muon") and name == "muon":
        pytest.skip("this Keras has no Muon")
    stock, looped = pair(depths=2)
    if name in REFUSED:
        with refused(["whole variables", "AdamW", "loops=False"]):
            train(looped, OPTIMIZERS[name]())
        return
    losses = [train(model, OPTIMIZERS[name](), steps=3) for model in (stock, looped)]
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    other = assert_equal(stock, looped)
    for ours, theirs in zip(other.optimizer.variables, stock.optimizer.variables, strict=True):
        a, b = (keras.ops.convert_to_numpy(each).astype("float64") for each in (ours, theirs))
        assert np.abs(a - b).max() <= TOLERANCE * max(1.0, np.abs(b).max()), theirs.path


class Normed(keras.optimizers.SGD):
    """An optimizer of the user that divides a gradient by its norm."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient / (keras.ops.norm(gradient) + 1e-6), variable, learning_rate)


class Closed(keras.optimizers.SGD):
    """An optimizer that cannot be made from its configuration."""

    def __init__(self, rate):
        super().__init__(rate)


def test_optimizers_of_the_user_are_tried():
    looped = pair(depths=2)[1]
    with refused(["Normed, whose steps depend on whole variables"]):
        looped.compile(Normed(0.1), "sparse_categorical_crossentropy")
    with refused(["Closed, which cannot be copied", "get_config()"]):
        looped.compile(Closed(0.1), "sparse_categorical_crossentropy")
    looped.compile("sgd", "sparse_categorical_crossentropy")
    looped.optimizer = Normed(0.1)
    with refused(["Normed"]):
        looped.train_on_batch(*examples(looped))


def test_moved_hooks_of_keras_are_reported(monkeypatch):
    looped = pair(depths=2)[1]
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    monkeypatch.delattr(keras.src.optimizers.base_optimizer.BaseOptimizer, "_clip_gradients")
    with refused(["_clip_gradients", "Keras " + keras.__version__, "loops=False"]):
        looped.compile(optimizer, "sparse_categorical_crossentropy")


def test_excluded_variables_are_not_decayed():
    models = pair(depths=2)
    for model in models:
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        train(model, optimizer)
    again = reszoo.rolled(assert_equal(*models))
    for model in (models[0], again):
        model.train_on_batch(*examples(model))
    assert_equal(models[0], again)


def test_decay_of_single_blocks_is_refused():
    stock = pair(depths=2)[0]
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[stock.get_layer("stage1_block2_unit1_conv").kernel])
    stock.compile(optimizer, "sparse_categorical_crossentropy")
    with refused(["weight decay in only some of equal blocks"]):
        reszoo.rolled(stock)


def test_penalties_are_added_in_the_order_of_the_stock_network():
    from reszoo.training.optimizers import add_l2_penalty

    models = pair(depths=3)
    for model in models:
        add_l2_penalty(model, reszoo.recipe("he2015_cifar"))
    losses = [train(model, keras.optimizers.SGD(0.1), steps=3) for model in models]
    assert losses[0] == losses[1] if TOLERANCE == 0 else losses[0] == pytest.approx(losses[1], abs=1e-5)
    plain = train(pair(depths=3)[1], keras.optimizers.SGD(0.1))
    assert losses[1][0] > plain[0] + 1e-3
    assert_equal(*models)
    assert sum(map(float, models[0].losses)) == pytest.approx(sum(map(float, models[1].losses)), rel=1e-5)
