"""The plan as a Keras model: agreement with the cost, parity with other libraries and backends, saved files."""

import re

import keras
import numpy as np
import pytest
from conftest import needs, python, refused

import reszoo
from reszoo.arch import zoo
from reszoo.arch.spec import Head
from reszoo.errors import ReszooError

FLAT = [name for name in zoo.builtin().names if len(reszoo.plan(name).blocks) < 100]


@pytest.fixture(autouse=True)
def _fresh():
    keras.utils.set_random_seed(1)
    yield
    keras.backend.clear_session()


def randomise(model, seed=0):
    """Draws weights and statistics that keep activations near one."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in model.weights:
        if len(weight.shape) > 1:
            values.append(rng.normal(0, np.prod(weight.shape[:-1]) ** -0.5, weight.shape))
        elif weight.name in ("gamma", "moving_variance"):
            values.append(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name == "seed_generator_state":
            values.append(keras.ops.convert_to_numpy(weight))
        else:
            values.append(rng.normal(0, 0.1, weight.shape))
    model.set_weights(values)


def predict(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAT)
def test_build_matches_cost_and_spec(name):
    model, cost = reszoo.create(name), reszoo.cost(name)
    assert model.count_params() == cost.params_all
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == cost.params
    assert reszoo.spec_of(model) == reszoo.spec(name)
    assert model.name == name
    stock = {type(layer).__module__.split(".")[0] for layer in model.layers}
    assert stock == {"keras"}


CHANGES = [
    ("resnet18", {"stem": "cifar", "input_shape": (16, 16, 1), "classes": 3, "width_multiplier": 0.25}),
    ("resnet50d", {"stem": {"first_widths": [24, 40]}, "width_multiplier": 0.125, "depths": 1}),
    ("resnet50", {"output_stride": 8, "width_multiplier": 0.125, "norm": "group"}),
    ("resnet50", {"drop_path": 0.2, "dropout": 0.3, "width_multiplier": 0.125, "depths": 2}),
    ("resnet20_cifar", {"norm": "group", "classifier_activation": None}),
    ("resnet20_cifar", {"shortcut": "C", "init": "orthogonal"}),
    ("resnet20_cifar", {"norm": "none", "bias": True, "init": "glorot", "head": {"pooling": "max"}}),
    ("plain20_cifar", {"init": "looks_linear"}),
    ("resnet50d", {"width_multiplier": 0.125, "include_top": False}),
    ("preact_resnet50", {"width_multiplier": 0.125, "include_top": False, "pooling": "max"}),
    ("preact_resnet50", {"width_multiplier": 0.125, "block": {"stride_at": 1, "dropout": 0.1}}),
    ("se_resnet50", {"width_multiplier": 0.125, "depths": [1, 2, 1], "widths": [32, 64, 96]}),
    ("residual_mlp18", {"depths": 3, "widths": [64], "stem": {"width": 32}, "input_shape": (20,), "norm": "none"}),
    ("residual_mlp18", {"norm": "none", "block": {"start": "scaled"}}),
    ("resnet20_cifar", {"init": "glorot", "block": {"start": "scaled"}}),
    ("preact_resnet18", {"width_multiplier": 0.125, "block": {"start": "scaled"}}),
    ("tabular_resnet", {"block": {"body": [{"kernel": 0, "ratio": 1.37}, {"kernel": 0}], "residual_dropout": 0.1}}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES, ids=lambda value: str(value)[:50])
def test_spec_of_changed_networks(name, changes):
    model = reszoo.create(name, **changes)
    spec = reszoo.spec_of(model)
    rebuilt = reszoo.create(spec)
    assert reszoo.spec_of(rebuilt) == spec
    assert [weight.shape for weight in rebuilt.weights] == [weight.shape for weight in model.weights]
    mine = {key: value for key, value in changes.items() if key not in ("include_top",)}
    if "include_top" not in changes:
        assert spec == reszoo.spec(name, **mine)


def test_spec_of_refuses_other_models():
    with pytest.raises(ReszooError, match="not a network of reszoo"):
        reszoo.spec_of(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    model = reszoo.create("resnet20_cifar", depths=1)
    model.get_layer("stem_conv").kernel_initializer = keras.initializers.Ones()
    with pytest.raises(ReszooError, match="without 'Ones'"):
        reszoo.spec_of(model)
    model = reszoo.create("resnet20_cifar", depths=1)
    changed = keras.Model(model.inputs, keras.layers.ReLU(name="head_extra")(model.outputs[0]))
    with pytest.raises(ReszooError, match="not a network of reszoo"):
        reszoo.spec_of(changed)


def applications_name(name):
    """Layer name of reszoo -> layer name of keras.applications."""
    if match := re.fullmatch(r"stage(\d+)_block(\d+)_(.*)", name):
        stage, block, rest = match.groups()
        return f"conv{int(stage) + 1}_block{block}_" + rest.replace("shortcut", "0").replace("unit", "").replace(
            "norm", "bn"
        )
    return name.replace("stem_", "conv1_").replace("norm", "bn")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [50, 152])
def test_v1_matches_keras_applications(depth):
    size = {"input_shape": (96, 96, 3)}
    theirs = getattr(keras.applications, f"ResNet{depth}")(weights=None, classifier_activation=None, classes=10, **size)
    ours = reszoo.create(f"resnet{depth}_v1", classifier_activation=None, classes=10, **size)
    randomise(theirs)
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(theirs.get_layer(applications_name(layer.name)).get_weights())
    x = images(2, 96, 96, 3)
    expected = predict(theirs, x)
    np.testing.assert_allclose(predict(ours, x), expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_arguments_match_keras_applications():
    from reszoo import resnet18

    small = {"input_shape": [32, 32, 3]}
    assert resnet18(True, None, None, (32, 32, 3), None, 7, "softmax", "mine").name == "mine"
    assert resnet18(include_top=False, depths=1).output_shape == (None, None, None, 512)
    assert resnet18(include_top=False, pooling="avg", depths=1).output_shape == (None, 512)
    assert resnet18(include_top=False, pooling="max", classes=5, depths=1).output_shape == (None, 512)
    assert resnet18(include_top=False, head=Head(classes=7, dropout=0.5), depths=1).output_shape == (
        None,
        None,
        None,
        512,
    )
    with pytest.raises(reszoo.ReszooError, match=r"resnet18.head: got 3"):
        resnet18(include_top=False, head=3)
    assert resnet18(**small, classes=np.int64(5), depths=1).output_shape == (None, 5)
    assert resnet18(**small, classifier_activation=None).layers[-1].activation is keras.activations.linear
    inputs = keras.Input((40, 48, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    model = resnet18(input_tensor=scaled, classes=4, depths=1)
    assert model.input is inputs and model.output_shape == (None, 4)
    assert reszoo.spec_of(model).input_shape == (40, 48, 3)
    assert resnet18.__name__ == "resnet18"


INVALID_ARGUMENTS = [
    ({"weights": "imagenot"}, ["resnet18.weights", "'imagenot'", "did you mean 'imagenet'"]),
    ({"classes": 0}, ["classes", "got 0", "at least 1"]),
    ({"weight": None}, ["unknown argument", "'weight'", "did you mean 'weights'"]),
    ({"input_shape": (16, 16, 3)}, ["input_shape", "at least 32"]),
    ({"weights": 3}, ["resnet18.weights", "got 3", "a file or folder"]),
    ({"input_shape": 224}, ["resnet18.input_shape", "got 224", "a list"]),
    ({"input_tensor": "here", "input_shape": (32, 32, 3)}, ["input_tensor", "a Keras tensor"]),
]


@pytest.mark.parametrize(("arguments", "texts"), INVALID_ARGUMENTS, ids=lambda value: str(value)[:40])
def test_invalid_argument_is_refused(arguments, texts):
    with refused(texts):
        reszoo.create("resnet18", **arguments)


def test_input_shape_must_match_input_tensor():
    with pytest.raises(ReszooError, match="the shape of input_tensor"):
        reszoo.create("resnet18", input_tensor=keras.Input((64, 64, 3)), input_shape=(32, 32, 3))


def test_features_are_the_stage_outputs():
    for name, widths in (("resnet18", [64, 128, 256, 512]), ("preact_resnet18", [64, 128, 256, 512])):
        model = reszoo.create(name, features=True, input_shape=(64, 64, 3))
        outputs = model(images(1, 64, 64, 3))
        assert list(outputs) == ["stage1", "stage2", "stage3", "stage4"]
        assert [tuple(value.shape[1:]) for value in outputs.values()] == [
            (16 >> i, 16 >> i, w) for i, w in enumerate(widths)
        ]
    whole = reszoo.create("preact_resnet18", input_shape=(64, 64, 3), depths=1)
    x = images(1, 64, 64, 3)
    last = keras.ops.convert_to_numpy(reszoo.features(whole)(x)["stage4"])
    pooled = keras.Model(whole.input, whole.get_layer("head_pool").output)
    np.testing.assert_allclose(last.mean(axis=(1, 2)), predict(pooled, x), atol=1e-5)


def test_logits_stay_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = reszoo.create("resnet20_cifar", depths=1)
        assert model.get_layer("stage1_block1_unit1_conv").compute_dtype == "bfloat16"
        assert model.get_layer("head_pool").compute_dtype == model.get_layer("predictions").compute_dtype == "float32"
        assert model(images(2, 32, 32, 3)).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_identity_start_makes_blocks_the_identity():
    """He et al. 2015, 3.1: with zero branches the deeper network has the outputs of the shallower one."""
    for name in ("resnet20_cifar", "preact_resnet110_cifar", "residual_mlp18"):
        depth = {"depths": 2} if name == "residual_mlp18" else {"depths": [1, 1, 1]}
        deeper = {"depths": 6} if name == "residual_mlp18" else {"depths": [3, 3, 3]}
        shallow, deep = reszoo.create(name, **depth), reszoo.create(name, **deeper)
        for layer in shallow.layers:
            if layer.weights:
                deep.get_layer(layer.name).set_weights(layer.get_weights())
        x = images(4, *shallow.input_shape[1:])
        np.testing.assert_array_equal(predict(shallow, x), predict(deep, x))


def test_pad_shortcut_adds_half_of_the_channels_before():
    # As in CIFAR checkpoints with option A, whose code pads x[:, ::2, ::2] on both sides.
    model = reszoo.create("resnet20_cifar", depths=1)
    probe = keras.Model(
        model.input, [model.get_layer(f"stage2_block1_{name}").output for name in ("shortcut_pool", "shortcut_pad")]
    )
    source = keras.Model(model.input, model.get_layer("stage1_block1_act").output)
    x = images(1, 32, 32, 3)
    pooled, padded = (keras.ops.convert_to_numpy(value) for value in probe(x))
    np.testing.assert_array_equal(pooled, predict(source, x)[:, ::2, ::2])
    np.testing.assert_array_equal(padded, np.pad(pooled, ((0, 0), (0, 0), (0, 0), (8, 8))))


def test_preactivation_stem_pool_ignores_the_border():
    # PyTorch pads a max pool with the lowest number; a zero would exceed negative neighbors.
    model = reszoo.create("preact_resnet18", input_shape=(32, 32, 3))
    probe = keras.Model(model.input, [model.get_layer(name).output for name in ("stem_conv", "stem_pool")])
    conv, pooled = (keras.ops.convert_to_numpy(value)[0] for value in probe(-np.abs(images(1, 32, 32, 3))))
    padded = np.pad(conv, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1)).max(axis=(-2, -1))
    np.testing.assert_array_equal(pooled, windows[::2, ::2])


def test_looks_linear_plain_network_starts_as_a_linear_map():
    """Balduzzi et al. 2017: f(x) - f(0) is linear in x, and its norm is preserved over 50 layers."""
    for changes in ({}, {"block": {"order": "post"}}):
        trunk = reszoo.create("plain_mlp50", norm="none", bias=False, init="looks_linear", include_top=False, **changes)
        a, b = images(5, 784, seed=1), images(5, 784, seed=2)
        fa, fb, fsum = (predict(trunk, x) for x in (a, b, a + b))
        signed = [value[:, :128] - value[:, 128:] for value in (fa, fb, fsum)]
        np.testing.assert_allclose(signed[0] + signed[1], signed[2], atol=1e-3)
        assert 0.1 < np.linalg.norm(signed[0]) / np.linalg.norm(a) < 10


BATCH_NORM_CASES = [
    ((8, 6, 5, 7), "float32"),
    ((64, 9), "float32"),
    ((8, 6, 5, 7), "mixed_bfloat16"),
    ((1, 1, 1, 4), "float32"),
]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused operation is TensorFlow's")
@pytest.mark.parametrize(("shape", "policy"), BATCH_NORM_CASES, ids=str)
@pytest.mark.parametrize("mode", ["training", "inference", "frozen"])
def test_fused_norm_matches_the_stock_layer(shape, policy, mode):
    import tensorflow as tf

    from reszoo.arch.layers import batch_normalization

    settings = {"momentum": 0.9, "epsilon": 1e-5, "dtype": policy}
    layers = keras.layers.BatchNormalization(**settings), batch_normalization(**settings)
    x, up = images(*shape) * 3 + 1, images(*shape, seed=1)
    results = []
    for layer in layers:
        layer.build(shape)
        randomise(layer)
        layer.trainable = mode != "frozen"
        inputs = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.function(layer)(inputs, training=mode != "inference")
            loss = tf.reduce_sum(tf.cast(outputs, "float32") * up)
        gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
        results.append([outputs, *gradients, layer.moving_mean, layer.moving_variance])
        assert outputs.dtype == layer.compute_dtype
    close = {"rtol": 2e-2, "atol": 2e-2} if "bfloat16" in policy else {"rtol": 1e-4, "atol": 1e-4}
    for stock, fused in zip(*results, strict=True):
        stock, fused = (keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")) for value in (stock, fused))
        np.testing.assert_allclose(fused, stock, **close)


BACKENDS = [
    "tensorflow",
    pytest.param("jax", marks=needs("jax")),
    pytest.param("torch", marks=needs("torch")),
]

LOAD = """
import glob, keras, numpy as np
for file in sorted(glob.glob("*.keras")):
    model = keras.models.load_model(file)
    x, expected = np.load("x.npy"), np.load(file.replace(".keras", ".npy"))
    error = abs(model.predict(x, verbose=0) - expected).max() / max(1.0, abs(expected).max())
    kinds = sorted({type(layer).__module__.split(".")[0] for layer in model.layers})
    print(keras.backend.backend(), file, error < 1e-4, kinds)
"""

SMALL = {
    "se_resnet50": {"depths": [1, 2], "widths": [32, 64], "drop_path": 0.1},
    "preact_resnet50": {"depths": [2, 1], "widths": [32, 64], "norm": "group"},
    "resnet50d": {"depths": [1, 2, 1], "widths": [32, 64, 96], "output_stride": 8},
    "resnext50_32x4d": {"depths": [1, 1], "widths": [64, 128]},
    "resnet20_cifar": {"depths": [1, 2, 1]},
}


@pytest.fixture(scope="module")
def small_models(tmp_path_factory):
    """A folder of small models of every kind, one input, and their outputs."""
    folder = tmp_path_factory.mktemp("models")
    x = images(2, 40, 48, 3)
    np.save(folder / "x.npy", x)
    for name, changes in SMALL.items():
        model = reszoo.create(name, input_shape=(40, 48, 3), classifier_activation=None, classes=10, **changes)
        randomise(model)
        model.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", predict(model, x))
        np.savez(folder / f"{name}.npz", **{f"{i:05d}": value for i, value in enumerate(model.get_weights())})
        loaded = keras.models.load_model(folder / f"{name}.keras")
        assert reszoo.spec_of(loaded) == reszoo.spec_of(model)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_files_open_without_reszoo_with_the_same_outputs(small_models, backend):
    output = python(LOAD, backend=backend, without_reszoo=True, folder=small_models)
    assert output.splitlines() == [f"{backend} {name}.keras True ['keras']" for name in sorted(SMALL)]


CHANNELS_FIRST = """
import keras, numpy as np
keras.config.set_image_data_format("channels_first")
import reszoo
x = np.load("x.npy").transpose(0, 3, 1, 2)
for name, changes in {small}.items():
    model = reszoo.create(name, input_shape=(3, 40, 48), classes=10, classifier_activation=None, **changes)
    assert reszoo.spec_of(model).input_shape == (40, 48, 3)
    model.set_weights([value for _, value in sorted(np.load(name + ".npz").items())])
    expected = np.load(name + ".npy")
    error = abs(model.predict(x, verbose=0) - expected).max() / max(1.0, abs(expected).max())
    print(name, error < 1e-4, reszoo.features(model).output["stage1"].shape[1] == reszoo.spec_of(model).stages[0].width)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_channels_first_gives_the_same_logits(small_models, backend):
    output = python(CHANNELS_FIRST.format(small=SMALL), backend=backend, folder=small_models)
    assert output.splitlines() == [f"{name} True True" for name in SMALL]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preact_resnet1001_cifar"])
def test_a_thousand_layers_build_fit_save_and_load(tmp_path, name):
    """In a fresh process with the default recursion limit; plain Keras opens the file."""
    output = python(
        f"""
import sys, keras, numpy as np, reszoo
limit = sys.getrecursionlimit()
model = reszoo.create("{name}", input_shape=(8, 8, 3))
assert model.count_params() == reszoo.cost("{name}").params_all
assert reszoo.spec_of(model) == reszoo.spec("{name}", input_shape=(8, 8, 3))
# Eager: tracing a graph of this depth takes minutes.
model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
before = model.get_layer("predictions").get_weights()[0]
model.fit(x, np.array([0, 1]), verbose=0)
assert abs(model.get_layer("predictions").get_weights()[0] - before).max() > 0
model.save("deep.keras")
np.save("x.npy", x)
np.save("deep.npy", keras.ops.convert_to_numpy(model(x, training=False)))
print(sorted(reszoo.features(model).output), sys.getrecursionlimit() == limit)
""",
        folder=tmp_path,
    )
    assert "['stage1', 'stage2', 'stage3'] True" in output
    output = python(LOAD, without_reszoo=True, folder=tmp_path)
    assert output.strip() == "tensorflow deep.keras True ['keras']"
