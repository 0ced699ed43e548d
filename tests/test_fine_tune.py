"""Fine-tuning: freezing, unfreezing, a new classifier, layer decay."""

import warnings

import keras
import numpy as np
import pytest
from conftest import python, refused
from test_weights import logits, small, values

import reszoo

needs_multi = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return reszoo.create(small("resnet18", input_shape=(32, 32, 3)))


def fit(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(2, 3, (16, 32, 32, 3)).astype("float32")
    before = {variable.path: variable.numpy().copy() for variable in model.weights}
    model.fit(x, np.arange(16) % 3, batch_size=8, verbose=0)
    return {variable.path for variable in model.weights if (variable.numpy() != before[variable.path]).any()}


FREEZES = [
    ({}, ("stem", "stage1", "stage2"), ["predictions"]),
    ({"until": "stem"}, ("stem",), ["predictions", "stage1", "stage2"]),
    ({"until": "stage1"}, ("stem", "stage1"), ["predictions", "stage2"]),
]


@pytest.mark.parametrize(("arguments", "frozen", "learning"), FREEZES, ids=str)
def test_frozen_parts_keep_weights_and_statistics(model, arguments, frozen, learning):
    result = reszoo.freeze(model, **arguments)
    assert result.parts == frozen
    assert result.trainable == sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert sorted({path.split("_")[0].split("/")[0] for path in fit(model)}) == learning


def test_norms_of_frozen_parts_can_stay_trainable(model):
    reszoo.freeze(model, until="stage2", norm="train")
    changed = fit(model)
    assert any(path == "stem_norm/moving_mean" for path in changed)
    assert not any("conv/" in path for path in changed) and any(path.startswith("predictions") for path in changed)


def test_freeze_replaces_an_earlier_freeze(model):
    first = reszoo.freeze(model, until="stem").trainable
    reszoo.freeze(model)
    assert reszoo.freeze(model, until="stem").trainable == first


def test_freeze_names_the_available_parts(model):
    with refused(["freeze.until", "stage3", "stem", "stage2"]):
        reszoo.freeze(model, until="stage3")
    with refused(["freeze.norm", "thaw"]):
        reszoo.freeze(model, norm="thaw")
    with refused(["no stem and stages"]):
        reszoo.freeze(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


def test_freeze_warns_of_small_batches(model):
    with pytest.warns(UserWarning, match="batches of 4"):
        reszoo.freeze(model, until="stem", batch=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reszoo.freeze(model, until="stem", batch=8)
        reszoo.freeze(model, until="stage2", batch=4)


UNFREEZING = """
import keras, numpy as np, reszoo
from reszoo.arch.recover import layers_of
spec = reszoo.spec("resnet18", depths=[1, 1], width_multiplier=0.25, input_shape=(16, 16, 3), classes=3)
x, y = np.random.default_rng(0).normal(2, 3, (16, 16, 16, 3)).astype("float32"), np.arange(16) % 3

class Watch(keras.callbacks.Callback):
    before = None
    def on_epoch_end(self, epoch, logs=None):
        now = {w.path: keras.ops.convert_to_numpy(w).copy() for w in self.model.weights}
        if self.before:
            print(epoch, *sorted({p.split("_")[0].split("/")[0] for p in now if (now[p] != self.before[p]).any()}),
                  int(self.model.optimizer.iterations))
        self.before = now

keras.utils.set_random_seed(0)
model = reszoo.create(spec)
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
watch = Watch()
watch.set_model(model)
watch.on_epoch_end(-1)
model.fit(x, y, batch_size=8, epochs=4, verbose=0,
          callbacks=[reszoo.Unfreeze({0: "stage2", 1: "stem", 3: "none"}), watch])
momenta = [v for v in model.optimizer.variables if "momentum" in v.path]
sizes = [float(abs(keras.ops.convert_to_numpy(m)).max()) for m in momenta]
print(len(momenta) == len(model.trainable_variables), min(sizes) > 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_unfreeze_part_by_part(backend):
    if backend != "tensorflow":
        pytest.importorskip(backend)
    lines = python(UNFREEZING, backend=backend).split("\n")
    assert lines[:5] == [
        "0 predictions 2",
        "1 predictions stage1 stage2 4",
        "2 predictions stage1 stage2 6",
        "3 predictions stage1 stage2 stem 8",
        "True True",
    ]


def test_unfreeze_preserves_momentum(model):
    """The optimizer's state for the classifier survives the unfreezing of further parts."""
    x, y = np.random.default_rng(0).normal(2, 3, (8, 32, 32, 3)).astype("float32"), np.arange(8) % 3
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    snapshots = []

    def note(epoch, logs):
        snapshots.append({v.path: v.numpy().copy() for v in model.optimizer.variables if "predictions" in v.path})

    watch = keras.callbacks.LambdaCallback(on_epoch_begin=note, on_epoch_end=note)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[reszoo.Unfreeze({0: "stage2", 1: "none"}), watch])
    _, before, after, _ = snapshots
    assert len(before) == 2 and all((after[path] == before[path]).all() for path in before)
    assert all(abs(value).max() > 0 for value in before.values())


def test_invalid_unfreeze_is_refused(model):
    with refused(["Unfreeze", "epochs [1]", "epoch 0"]):
        reszoo.Unfreeze({1: "stem"})
    model.compile("sgd", "sparse_categorical_crossentropy")
    with refused(["Unfreeze", "stage7", "stage2"]):
        model.fit(np.zeros((4, 32, 32, 3)), np.zeros(4), callbacks=[reszoo.Unfreeze({0: "stem", 3: "stage7"})])


def test_replace_head_keeps_the_trunk(model):
    reszoo.freeze(model, until="stage1")
    result = reszoo.replace_head(model, classes=7, activation=None, dropout=0.3)
    assert result.output_shape == (None, 7) and reszoo.spec_of(result).head.dropout == 0.3
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    trunks = [keras.Model(net.input, net.get_layer("head_pool").output) for net in (model, result)]
    np.testing.assert_array_equal(*(logits(trunk, x) for trunk in trunks))
    assert not result.get_layer("stem_conv").trainable and result.get_layer("stage2_block1_unit1_conv").trainable
    bare = reszoo.create(small("resnet18"), include_top=False)
    assert reszoo.replace_head(bare, classes=4).output_shape == (None, 4)


@needs_multi
def test_layer_decay_scales_steps_by_depth(model):
    optimizer = reszoo.layer_decay(model, keras.optimizers.SGD, 0.1, decay=0.5)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    before = [variable.numpy().copy() for variable in model.trainable_variables]
    optimizer.apply([np.ones(variable.shape, "float32") for variable in model.trainable_variables])
    steps = {}
    for variable, old in zip(model.trainable_variables, before, strict=True):
        part = "_".join(variable.path.split("/")[0].split("_")[: 2 if "block" in variable.path else 1])
        steps.setdefault(part, set()).add(round(float((old - variable.numpy()).mean()), 5))
    blocks = {"stage1_block1": {0.0125}, "stage2_block1": {0.025}, "stage2_block2": {0.05}}
    assert steps == {"stem": {0.00625}, **blocks, "predictions": {0.1}}


def test_invalid_decay_is_refused(model):
    with refused(["layer_decay.decay", "1.5"]):
        reszoo.layer_decay(model, keras.optimizers.SGD, 0.1, decay=1.5)


def test_reestimate_norm_computes_the_statistics_of_the_data():
    model = reszoo.create(small("resnet18", stem={"kernel": 3, "width": 8, "stride": 1, "pool": "none"}))
    x = np.random.default_rng(0).normal(2, 3, (40, 16, 16, 3)).astype("float32")
    weights = [variable.numpy().copy() for variable in model.trainable_variables]
    reszoo.freeze(model)
    assert reszoo.reestimate_norm(model, [(x[i : i + 10], None) for i in range(0, 40, 10)]) == 4
    stem = logits(keras.Model(model.input, model.get_layer("stem_conv").output), x)
    np.testing.assert_allclose(model.get_layer("stem_norm").moving_mean.numpy(), stem.mean((0, 1, 2)), atol=1e-4)
    assert model.get_layer("stem_norm").momentum == 0.9 and not model.get_layer("stem_norm").trainable
    assert all((a == b.numpy()).all() for a, b in zip(weights, unfrozen_variables(model), strict=True))
    with refused(["no batches"]):
        reszoo.reestimate_norm(model, [])
    with refused(["without batch normalization"]):
        reszoo.reestimate_norm(reszoo.create(small("resnet18", norm="group")), [x])


def unfrozen_variables(model):
    """The trainable variables without any frozen layer."""
    model.trainable = True
    for layer in model.layers:
        layer.trainable = True
    return model.trainable_variables


def test_freeze_does_not_change_values(model):
    before = values(model)
    reszoo.freeze(model)
    assert all((a == b).all() for a, b in zip(before, values(model), strict=True))
