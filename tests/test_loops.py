"""Equal blocks as loops: the numbers of the stock network, whatever trains it, and stock files."""

import copy
import signal
import subprocess
import sys
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
DENSE = {"input_shape": (16,), "width_multiplier": 0.0625, "depths": 3, "classes": 4}
BACKEND = keras.backend.backend()
TOLERANCE = {"tensorflow": 0.0, "jax": 1e-6, "torch": 1e-5}[BACKEND]


def pair(name="residual_mlp18", **changes):
    """The stock model and the one with loops, both after the same seed."""
    spec = reszoo.spec(name, **{**(DENSE if "mlp" in name else {**SMALL, "depths": 3}), **changes})
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
    return [float(model.train_on_batch(x, y)) for _ in range(steps) if not model.reset_metrics()]


NETWORKS = [
    ("preact_resnet110_cifar", {"block": {"dropout": 0.2}}),
    ("resnet50d", {"depths": [2, 1, 1, 3], "input_shape": (32, 32, 3), "width_multiplier": 0.0625}),
    ("se_resnet50", {"depths": [1, 3, 1, 2], "input_shape": (32, 32, 3), "width_multiplier": 0.125}),
    ("resnet20_cifar", {"norm": {"kind": "group", "groups": 2}}),
    ("resnet20_cifar", {"init": "orthogonal", "norm": {"kind": "none"}, "block": {"start": "scaled"}}),
    ("resnet20_cifar", {"drop_path": 0.5}),
    ("residual_mlp18", {}),
    ("residual_mlp18", {"init": "looks_linear"}),
]
IDS = [f"{name}-{'-'.join(key for key in changes if key not in SMALL)}" for name, changes in NETWORKS]


@pytest.mark.parametrize(("name", "changes"), NETWORKS, ids=IDS)
def test_initial_values_and_order_are_those_of_the_stock_network(name, changes):
    stock, looped = pair(name, **changes)
    assert_equal(stock, looped, 0.0)
    ours = {id(stack) for stack in looped.trainable_variables}
    names = [f"{layer}/{stack.name}" for layer, _, stack, _ in looped.rows() if id(stack) in ours]
    assert names == ["/".join(variable.path.split("/")[-2:]) for variable in stock.trainable_variables]


QUICK = ({"block": {"dropout": 0.2}}, {"drop_path": 0.5}, {})


@pytest.mark.parametrize(
    ("name", "changes"),
    [pytest.param(*row, marks=() if row[1] in QUICK else pytest.mark.slow) for row in NETWORKS],
    ids=IDS,
)
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


QUICK = {"sgd", "adam", "global_clipnorm", *REFUSED}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in OPTIMIZERS]
)
def test_every_optimizer_takes_equal_steps_or_is_refused(name):
    if not hasattr(keras.optimizers, "Muon") and name == "muon":
        pytest.skip("this Keras has no Muon")
    stock, looped = pair()
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
    looped = pair()[1]
    with refused(["Normed, whose steps depend on whole variables"]):
        looped.compile(Normed(0.1), "sparse_categorical_crossentropy")
    with refused(["Closed, which cannot be copied", "get_config()"]):
        looped.compile(Closed(0.1), "sparse_categorical_crossentropy")
    looped.compile("sgd", "sparse_categorical_crossentropy")
    looped.optimizer = Normed(0.1)
    with refused(["Normed"]):
        looped.train_on_batch(*examples(looped))


@pytest.mark.parametrize("inside", ["model", "run"])
def test_optimizers_of_a_model_around_loops_are_checked(inside):
    stock, looped = pair()
    models = []
    for model, layer in ((stock, "stage1_block3_add"), (looped, "stage1_from1")):
        # A network inside another one, or its features under a new head.
        outputs = model(model.input) if inside == "model" else model.get_layer(layer).output
        keras.utils.set_random_seed(1)
        models.append(keras.Model(model.input, keras.layers.Dense(4, "softmax")(outputs)))
    x, y = examples(stock)
    for optimizer, message in {
        keras.optimizers.Lamb(0.1): "whole variables",
        keras.optimizers.SGD(0.1, clipnorm=0.1): "clipnorm, which would clip a stack",
    }.items():
        models[1].compile(optimizer, "sparse_categorical_crossentropy")
        # Keras adds the arguments of the call to errors inside a model.
        with pytest.raises((reszoo.ReszooError, RuntimeError), match=message):
            models[1].train_on_batch(x, y)
    for model in models:
        train(model, keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1))
    outputs = [keras.ops.convert_to_numpy(model(x)) for model in models]
    assert np.abs(outputs[0] - outputs[1]).max() <= max(TOLERANCE, 1e-6)


def test_moved_hooks_of_keras_are_reported(monkeypatch):
    looped = pair()[1]
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    monkeypatch.delattr(keras.src.optimizers.base_optimizer.BaseOptimizer, "_clip_gradients")
    with refused(["_clip_gradients", "Keras " + keras.__version__, "loops=False"]):
        looped.compile(optimizer, "sparse_categorical_crossentropy")


def test_excluded_variables_are_not_decayed():
    models = pair()
    for model in models:
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        train(model, optimizer)
    again = reszoo.rolled(assert_equal(*models))
    for model in (models[0], again):
        model.train_on_batch(*examples(model))
    assert_equal(models[0], again)


def test_decay_of_single_blocks_is_refused():
    stock = pair()[0]
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[stock.get_layer("stage1_block2_unit1_dense").kernel])
    stock.compile(optimizer, "sparse_categorical_crossentropy")
    with refused(["weight decay in only some of equal blocks"]):
        reszoo.rolled(stock)


def test_penalties_are_added_in_the_order_of_the_stock_network():
    from reszoo.training.optimizers import add_l2_penalty

    models = pair()
    for model in models:
        add_l2_penalty(model, reszoo.recipe("cifar_he2015"))
    losses = [train(model, keras.optimizers.SGD(0.1), steps=3) for model in models]
    assert losses[0] == losses[1] if TOLERANCE == 0 else losses[0] == pytest.approx(losses[1], abs=1e-5)
    plain = train(pair()[1], keras.optimizers.SGD(0.1))
    assert losses[1][0] > plain[0] + 1e-3
    assert_equal(*models)
    assert sum(map(float, models[0].losses)) == pytest.approx(sum(map(float, models[1].losses)), rel=1e-5)


@pytest.mark.parametrize("recompute", [True, 1, 4])
def test_recomputation_changes_no_number(recompute):
    spec = reszoo.spec("residual_mlp18", **{**DENSE, "depths": 6}, block={"dropout": 0.2})
    models = []
    for each in (False, recompute):
        keras.utils.set_random_seed(3)
        models.append(Looped(spec, recompute=each))
    losses = [train(model, keras.optimizers.SGD(0.05, momentum=0.9)) for model in models]
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    assert_equal(reszoo.unrolled(models[0]), models[1])


def test_groups_have_the_square_root_of_the_blocks():
    model = reszoo.create("resnet20_cifar", **SMALL, depths=10, loops=True, recompute=True)
    assert [run.recompute for run in model.runs] == [1, 4, 1, 3, 1, 3, 1]
    for wrong in (-1, 0.5, "yes"):
        with refused(["recompute", repr(wrong), "blocks in a group"]):
            reszoo.create("resnet20_cifar", loops=True, recompute=wrong)
    with refused(["recompute", "loops=True"]):
        reszoo.create("resnet20_cifar", recompute=True)


def test_create_draws_what_the_stock_network_draws():
    models = []
    for loops in (False, True):
        keras.utils.set_random_seed(5)
        models.append(reszoo.create("resnet20_cifar", **SMALL, depths=3, loops=loops))
        # What is drawn next is the same, too.
        models.append(keras.random.SeedGenerator().state)
    assert_equal(models[0], models[2], 0.0)
    assert np.array_equal(models[1], models[3])
    # Changing the form draws nothing.
    states = []
    for change in (lambda: None, lambda: reszoo.unrolled(models[2]), lambda: reszoo.rolled(models[0])):
        keras.utils.set_random_seed(5)
        change()
        states.append(keras.ops.convert_to_numpy(keras.random.SeedGenerator().state))
    assert np.array_equal(states[0], states[1]) and np.array_equal(states[0], states[2])


@pytest.mark.parametrize("argument", [{"features": True}, {"prefix": "left_"}, {"input_tensor": "any"}])
def test_arguments_that_exclude_loops(argument):
    name = next(iter(argument))
    if name == "input_tensor":
        argument = {name: keras.Input((32, 32, 3))}
    with refused([f"loops with {name}", "reszoo.unrolled"]):
        reszoo.create("resnet20_cifar", loops=True, **argument)


def test_network_without_equal_blocks_is_the_stock_network():
    assert not has_runs(reszoo.spec("resnet20_cifar", depths=1))
    with pytest.warns(UserWarning, match="without equal blocks in a row; it is built without loops"):
        model = reszoo.create("resnet20_cifar", depths=1, loops=True)
    assert not isinstance(model, Looped)
    with pytest.warns(UserWarning, match="without loops"):
        assert reszoo.rolled(model) is model
    assert reszoo.unrolled(model) is model


def test_summary_prints_a_run_once():
    lines = []
    reszoo.create("resnet20_cifar", depths=12, loops=True).summary(print_fn=lines.append)
    (line,) = [line for line in "\n".join(lines).splitlines() if "stage2_block2" in line]
    assert line.split() == ["stage2_block2", "to", "block12", "x", "11", "(None,", "16,", "16,", "32)", "204,160"]


def test_paths_name_stage_and_operation():
    model = pair("resnet20_cifar")[1]
    paths = {variable.path for variable in model.variables}
    assert {"stem/conv/kernel", "stage1_from1/unit1_conv/kernel", "stage2_from2/unit2_norm/gamma"} <= paths
    assert "head/predictions/bias" in paths and len(paths) == len(model.variables)


FILE = """
import keras, numpy as np
model = keras.models.load_model("a.keras")
x = np.random.default_rng(0).normal(size=(8, 16)).astype("float32")
print(*model.predict(x, verbose=0).ravel()[:12], *[model.train_on_batch(x, np.arange(8) % 4) for _ in range(2)])
"""


@pytest.mark.parametrize("backend", [BACKEND, pytest.param("jax", marks=[needs("jax"), pytest.mark.slow])])
def test_files_are_stock_files(tmp_path, backend):
    stock, looped = pair()
    for model in (stock, looped):
        train(model, keras.optimizers.Adam(0.01))
    looped.save(tmp_path / "a.keras")
    x = np.random.default_rng(0).normal(size=(8, 16)).astype("float32")
    y = np.arange(8) % 4
    *outputs, first, second = map(float, python(FILE, backend=backend, without_reszoo=True, folder=tmp_path).split())
    assert outputs == pytest.approx(list(stock.predict(x, verbose=0).ravel()[:12]), abs=1e-5)
    again = reszoo.rolled(keras.models.load_model(tmp_path / "a.keras"))
    assert reszoo.spec_of(again) == reszoo.spec_of(stock) == reszoo.spec_of(looped)
    for model in (stock, looped, again):
        model.reset_metrics()
        assert [float(model.train_on_batch(x, y)) for _ in range(2)] == pytest.approx([first, second], abs=2e-4)
    assert_equal(stock, again, 1e-5)


def test_weights_files_are_those_of_the_stock_network(tmp_path):
    stock, looped = pair()
    for model in (stock, looped):
        train(model, keras.optimizers.SGD(0.05, momentum=0.9))
    looped.save_weights(tmp_path / "looped.weights.h5")
    stock.save_weights(tmp_path / "stock.weights.h5")
    fresh, other = pair()
    for model, file in ((fresh, "looped"), (other, "stock")):
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        model.load_weights(tmp_path / f"{file}.weights.h5")
    for model in (stock, looped, fresh, other):
        model.train_on_batch(*examples(model))
    assert_equal(stock, looped)
    assert_equal(stock, other)
    assert_equal(fresh, looped)
    with refused(["weights that do not fit", "depths 5"]):
        reszoo.create("residual_mlp18", **{**DENSE, "depths": 5}, loops=True).load_weights(
            tmp_path / "looped.weights.h5"
        )


def test_callbacks_of_keras_read_their_own_files(tmp_path):
    looped = pair()[1]
    looped.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = examples(looped, 32)
    files = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "a.weights.h5", save_weights_only=True),
        keras.callbacks.EarlyStopping(restore_best_weights=True),
    ]
    looped.fit(x, y, validation_data=(x, y), epochs=2, callbacks=files, verbose=0)
    best = keras.models.load_model(tmp_path / "best.keras")
    assert best.evaluate(x, y, verbose=0)[0] == pytest.approx(looped.evaluate(x, y, verbose=0)[0], abs=1e-4)
    looped.load_weights(tmp_path / "a.weights.h5")


def test_copies_and_configurations():
    import pickle

    looped = pair()[1]
    train(looped, "adam")
    models = [looped, copy.deepcopy(looped), pickle.loads(pickle.dumps(looped))]
    losses = [float(model.train_on_batch(*examples(model))) for model in models if not model.reset_metrics()]
    assert losses[1:] == pytest.approx([losses[0]] * 2, abs=1e-5)
    assert all(isinstance(model, Looped) for model in models)
    with refused(["no configuration", "reszoo.unrolled(model)"]):
        keras.models.clone_model(looped)
    with refused(["a network with loops", "reszoo.unrolled(model)"]):
        looped.quantize("int8")
    larger = keras.Sequential([keras.Input((16,)), looped])
    with refused(["reszoo.unrolled(model)"]):
        larger.get_config()


def test_checkpoints_of_other_libraries_load_without_the_stock_model(tmp_path):
    stock, looped = pair("resnet20_cifar")
    train(stock, "sgd")
    stock.save(tmp_path / "a.keras")
    for variable in looped.trainable_variables:
        variable.assign(keras.ops.zeros(variable.shape))
    report = reszoo.load_weights(looped, tmp_path / "a.keras")
    assert not report.missing
    assert_equal(stock, looped)
    assert_equal(stock, reszoo.rolled(tmp_path / "a.keras"))
    assert_equal(stock, reszoo.create("resnet20_cifar", **SMALL, depths=3, weights=tmp_path / "a.keras", loops=True))
    with refused(["depths"]):
        reszoo.load_weights(reszoo.create("resnet20_cifar", **SMALL, depths=4, loops=True), tmp_path / "a.keras")


@pytest.mark.parametrize("norm", ["frozen", "train"])
def test_frozen_parts_stay_as_they_are(norm):
    stock, looped = pair()
    assert reszoo.freeze(stock, until="stage1", norm=norm) == reszoo.freeze(looped, until="stage1", norm=norm)
    for model in (stock, looped):
        train(model, keras.optimizers.SGD(0.05, momentum=0.9))
    other = assert_equal(stock, looped)
    flags = [[layer.trainable for layer in model.layers if layer.weights] for model in (stock, other)]
    assert flags[0] == flags[1]
    assert reszoo.freeze(looped, until="none").trainable == reszoo.freeze(stock, until="none").trainable


def test_runs_are_split_where_blocks_are_frozen():
    stock = pair(depths=4)[0]
    for layer in stock.layers:
        layer.trainable = not layer.name.startswith(("stage1_block1", "stage1_block2"))
    looped = reszoo.rolled(stock)
    assert [run.name for run in looped.runs][:3] == ["stem", "stage1_from1", "stage1_from3"]
    for model in (stock, looped):
        train(model, keras.optimizers.SGD(0.05))
    assert_equal(stock, looped)
    assert reszoo.freeze(looped, until="none") == reszoo.freeze(stock, until="none")


def test_rates_by_stage():
    looped = pair()[1]
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    optimizer = reszoo.layer_decay(looped, keras.optimizers.SGD, 0.1, decay=0.5)
    before = {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in looped.variables}
    looped.compile(optimizer, "sparse_categorical_crossentropy")
    x, y = examples(looped)
    looped.train_on_batch(x, y)
    plain = pair()[1]
    train(plain, keras.optimizers.SGD(0.1), steps=1)
    for variable, other in zip(looped.trainable_variables, plain.trainable_variables, strict=True):
        part = variable.path.split("/")[0].split("_")[0]
        factor = 0.5 ** (2 - ["stem", "stage1", "head"].index(part))
        moved, full = (keras.ops.convert_to_numpy(each) - before[variable.path] for each in (variable, other))
        np.testing.assert_allclose(moved, full * factor, atol=1e-6, err_msg=variable.path)
    with pytest.warns(UserWarning, match="learning rates by part"):
        assert not reszoo.unrolled(looped).compiled


def test_functions_for_stock_models_take_networks_with_loops(tmp_path):
    stock, looped = pair()
    x, y = examples(stock, 32)
    for function in (
        lambda model: reszoo.deepen(model, stage=1, blocks=2),
        lambda model: reszoo.drop_blocks(model, ["stage1_block2"]),
        reszoo.to_plain,
        lambda model: reszoo.replace_head(model, classes=3),
    ):
        keras.utils.set_random_seed(1)
        ours = function(stock)
        keras.utils.set_random_seed(1)
        other = function(looped)
        assert reszoo.spec_of(ours) == reszoo.spec_of(other)
        assert np.array_equal(ours.predict(x, verbose=0), other.predict(x, verbose=0))
    for model in (stock, looped):
        with refused(["no removable dead channels"]):
            reszoo.remove_dead_channels(model)
    maps = [reszoo.features(model)(x[:2])["stage1"] for model in (stock, looped)]
    assert np.array_equal(*map(keras.ops.convert_to_numpy, maps))
    assert reszoo.diagnose(looped, x, y, trial=False).network == reszoo.diagnose(stock, x, y, trial=False).network
    file = reszoo.save(looped, tmp_path / "a.keras", classes=["a", "b", "c", "d"], preprocessing="none")
    assert reszoo.predict(file, x).classes == reszoo.predict(looped, x).classes == ("a", "b", "c", "d")
    assert reszoo.reestimate_norm(looped, [x]) == 1


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
def test_mirrored_replicas():
    code = """
import keras, numpy as np, tensorflow as tf, reszoo
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
x, y = random.normal(size=(16, 16)).astype("float32"), random.integers(0, 4, 16)
values = []
for loops in (False, True):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        keras.utils.set_random_seed(1)
        spec = reszoo.spec("residual_mlp18", input_shape=(16,), width_multiplier=1 / 16, depths=3, classes=4)
        model = reszoo.create(spec, loops=loops)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    if loops:
        model = reszoo.unrolled(model)
    values.append([*history["loss"], *np.concatenate([np.ravel(each) for each in model.get_weights()])])
print(np.array_equal(*values))
"""
    assert python(code).split()[-1] == "True"


WEIGHTS = np.linspace(0.1, 2, 8).astype("float32")
CLIPPED = {"global_clipnorm": 0.05}
RANDOM = {"drop_path": 0.5, "block": {"dropout": 0.2}}
# Dtype policy, changes of the spec, arguments of the optimizer, of compile and of fit.
WAYS = {
    "float16": ("mixed_float16", {}, {}, {}, {}),
    "float16 clipped": ("mixed_float16", {}, CLIPPED, {"auto_scale_loss": True}, {}),
    "bfloat16": ("mixed_bfloat16", RANDOM, {}, {}, {}),
    "only bfloat16": ("bfloat16", RANDOM, CLIPPED, {}, {}),
    "float64": ("float64", RANDOM, {}, {}, {}),
    "float64 clipped": ("float64", {}, CLIPPED, {}, {}),
    "scaled loss": ("float32", {}, {"loss_scale_factor": 64.0}, {}, {}),
    "XLA": ("float32", RANDOM, {}, {"jit_compile": True}, {}),
    "eager": ("float32", RANDOM, CLIPPED, {"run_eagerly": True}, {}),
    "steps at once": ("float32", {}, {}, {"steps_per_execution": 2}, {}),
    "sample weights": ("float32", {}, {}, {}, {"sample_weight": WEIGHTS}),
    "class weights": ("float32", {}, {}, {}, {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5, 3: 0.1}}),
}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="precisions and compilers of TensorFlow on the CPU")
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[] if way in ("float16", "float64") else pytest.mark.slow) for way in WAYS]
)
def test_ways_of_training_give_the_numbers_of_the_stock_network(way):
    policy, changes, optimizer, settings, arguments = WAYS[way]
    keras.config.set_dtype_policy(policy)
    try:
        stock, looped = pair(**changes)
    finally:
        keras.config.set_dtype_policy("float32")
    losses = []
    for model in (stock, looped):
        model.compile(keras.optimizers.SGD(0.05, 0.9, **optimizer), "sparse_categorical_crossentropy", **settings)
        fitted = model.fit(*examples(model), batch_size=4, epochs=2, shuffle=False, verbose=0, **arguments)
        losses.append(fitted.history["loss"])
    # Compilers arrange formulas differently inside a loop: in the last bit, under XLA and in a graph of float64.
    tolerance = 1e-14 if policy == "float64" else 1e-6 if "jit_compile" in settings else 0.0
    other = assert_equal(stock, looped, tolerance)
    assert losses[0] == pytest.approx(losses[1], rel=0, abs=tolerance)
    assert [layer.dtype_policy for layer in other.layers] == [layer.dtype_policy for layer in stock.layers]


def test_synchronized_norms_are_refused():
    stock = pair("resnet20_cifar")[0]
    for layer in stock.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    with refused(["synchronized changed", "without loops"]):
        reszoo.rolled(stock)


CHANGED = {
    "activation": lambda layers: setattr(layers["stage1_block2_unit1_dense"], "activation", keras.activations.tanh),
    "constraint": lambda layers: setattr(
        layers["stage1_block2_unit1_dense"].kernel, "constraint", keras.constraints.MaxNorm(0.1)
    ),
    "activity_regularizer": lambda layers: setattr(
        layers["stage1_block2_unit1_dense"], "activity_regularizer", keras.regularizers.L2(0.1)
    ),
    "epsilon": lambda layers: setattr(layers["stage1_block3_unit1_norm"], "epsilon", 0.5),
    "rate": lambda layers: setattr(layers["stage1_block2_drop_path"], "rate", 0.9),
}


@pytest.mark.parametrize("setting", CHANGED)
def test_changed_layers_are_refused(setting):
    stock = build(reszoo.spec("residual_mlp18", **DENSE, drop_path=0.5))
    reszoo.rolled(stock)
    CHANGED[setting]({layer.name: layer for layer in stock.layers})
    with pytest.raises(reszoo.ReszooError, match=f"{setting} changed|not a network of reszoo"):
        reszoo.rolled(stock)


# Runs.


class Stop(keras.callbacks.Callback):
    """Ends a run in its second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if len(list(self.folder.glob("state-*"))) == 1 and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [{}, {"ema": 0.9, "accumulate": 2, "optimizer": {"clip": 0.1}}], ids=["plain", "all"]
)
def test_runs_with_loops_resume_and_are_those_of_the_stock_network(tmp_path, monkeypatch, recipe):
    random = np.random.default_rng(0)
    y = np.arange(96) % 3
    x = (random.normal(size=(96, 4)) + 3 * np.eye(4)[y]).astype("float32")
    results = {}
    # Interrupted runs go on with loops, whether they began with loops or not.
    for name, loops in {"stock": [False], "looped": [True], "both": [True, True], "changed": [False, True]}.items():
        for number, each in enumerate(loops, 1):
            monkeypatch.setattr("reszoo.training.run.loops_pay", lambda *_, each=each: each)
            stop = Stop()
            stop.folder = tmp_path / name
            arguments = {"output": tmp_path / name, "epochs": 2, "batch": 16, "verbose": 0, **recipe}
            changes = {"depths": 3, "widths": 16, "block": {"dropout": 0.1}}
            callbacks = [stop] if number < len(loops) else []
            try:
                done = reszoo.train("residual_mlp18", (x, y), changes=changes, callbacks=callbacks, **arguments)
            except KeyboardInterrupt:
                assert callbacks
        results[name] = done
    assert len(results["both"].history) == 2
    for name in ("looped", "both", "changed"):
        assert results[name].history == results["stock"].history, name
        model = results[name].model
        assert not isinstance(model, Looped)
        for ours, theirs in zip(model.weights, results["stock"].model.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=f"{name}: {theirs.path}")
        for file in ("best.keras", "model.keras"):
            kept, other = (keras.models.load_model(tmp_path / each / file) for each in (name, "stock"))
            assert np.array_equal(kept.predict(x, verbose=0), other.predict(x, verbose=0))


KILLED = """
import os, signal, sys
import keras, numpy as np, reszoo, reszoo.training.run
from reszoo.arch.loops import Looped

reszoo.training.run.loops_pay = lambda *_: True
folder, last = sys.argv[1], sys.argv[2] == "last"


class Kill(keras.callbacks.Callback):
    reads_layers = False

    def on_epoch_begin(self, epoch, logs=None):
        assert isinstance(self.model, Looped)
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1 and batch == 2 and not last:
            os.kill(os.getpid(), signal.SIGKILL)


random = np.random.default_rng(0)
y = np.arange(96) % 3
x = (random.normal(size=(96, 4)) + 3 * np.eye(4)[y]).astype("float32")
changes = {"depths": 3, "widths": 16, "block": {"dropout": 0.1}}
done = reszoo.train(
    "residual_mlp18", (x, y), changes=changes, callbacks=[Kill()], output=folder, epochs=3, batch=16, verbose=0
)
np.savez(folder + ".npz", *done.model.get_weights())
"""


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="loops pay on TensorFlow")
def test_a_killed_process_with_loops_resumes_to_equal_weights(tmp_path):
    def run(folder, when):
        command = [sys.executable, "-c", KILLED, str(tmp_path / folder), when]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == (0 if when == "last" else -signal.SIGKILL), done.stderr[-3000:]

    run("killed", "first")
    for folder in ("killed", "whole"):
        run(folder, "last")
    with np.load(tmp_path / "killed.npz") as ours, np.load(tmp_path / "whole.npz") as theirs:
        assert ours.files == theirs.files and all(np.array_equal(ours[each], theirs[each]) for each in ours.files)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="loops pay on TensorFlow")
@pytest.mark.parametrize(
    ("name", "recipe", "pays"),
    [
        ("resnet110_cifar", {}, True),
        ("preact_resnet1001_cifar", {"optimizer": {"clip": 1.0}}, True),
        ("resnet56_cifar", {}, False),
        ("residual_mlp100", {}, False),
        ("resnet110_cifar", {"layer_decay": 0.9, "optimizer": {"kind": "adamw", "decay": "decoupled"}}, False),
        ("resnet110_cifar", {"optimizer": {"kind": "lamb", "decay": "decoupled"}}, False),
        ("resnet110_cifar", {"optimizer": keras.optimizers.Adafactor(0.1)}, False),
    ],
    ids=["resnet110", "clipped", "resnet56", "dense", "layer_decay", "lamb", "adafactor"],
)
def test_runs_use_loops_where_they_pay(name, recipe, pays):
    from reszoo.training.devices import ONE
    from reszoo.training.optimizers import loops_pay
    from reszoo.training.train import _with_objects

    settings = reszoo.recipe("cifar_he2015", **_with_objects(recipe))
    spec = reszoo.spec(name)
    assert loops_pay(spec, settings, ONE, (keras.callbacks.TerminateOnNaN(),)) is pays
    # A callback of the user may read layers.
    assert not loops_pay(spec, settings, ONE, (Stop(),))
