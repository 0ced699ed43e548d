"""What users of Keras do with a network, by their reports: each of these broke some model zoo once.

Named are repository and issue.
"""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from narrow import batch, narrow, outputs, randomise

import reszoo
from reszoo.errors import ReszooError

TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own")
TRUNK = {"include_top": False, "pooling": "avg"}


@pytest.fixture(autouse=True)
def _fresh():
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)


@pytest.fixture
def model():
    made = narrow("resnet18")
    randomise(made)
    return made


@pytest.mark.parametrize("name", ["resnet18", "se_resnet50", "preact_resnet50", "tabular_resnet"])
def test_clones(name):
    """keras:21120, tensorflow:40617, 50791."""
    model = narrow(name)
    randomise(model)
    x, got = batch(model), keras.Input(model.input_shape[1:], name="mine")

    def slower(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = 0.5
        return layer.__class__.from_config(config)

    clones = {
        "plain": keras.models.clone_model(model),
        "another input": keras.models.clone_model(model, input_tensors=got),
        "another momentum": keras.models.clone_model(model, clone_function=slower),
    }
    for clone in clones.values():
        clone.set_weights(model.get_weights())
        np.testing.assert_allclose(outputs(clone, x), outputs(model, x), atol=1e-5)
        assert reszoo.spec_of(clone).stages == reszoo.spec_of(model).stages
    momenta = {layer.momentum for layer in clones["another momentum"].layers if hasattr(layer, "momentum")}
    assert momenta == {0.5}


def test_a_regularizer_set_afterwards(model):
    for layer in model.layers:
        if hasattr(layer, "kernel_regularizer"):
            layer.kernel_regularizer = keras.regularizers.L2(1e-3)
    again = keras.models.model_from_json(model.to_json())
    assert len(again.losses) == sum(hasattr(layer, "kernel_regularizer") for layer in model.layers)


@pytest.mark.parametrize(
    "how", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_a_compiled_model_is_copied(model, how):
    """keras:1466."""
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = batch(model), np.arange(4)
    model.fit(x, y, verbose=0)
    other = how(model)
    np.testing.assert_allclose(outputs(other, x), outputs(model, x), atol=1e-5)
    assert np.isfinite(other.fit(x, y, verbose=0).history["loss"]).all()


def test_time_distributed():
    """keras-contrib:192, keras:6001."""
    trunk = narrow("resnet18", **TRUNK)
    randomise(trunk)
    frames = keras.Input((3, 32, 32, 3))
    features = keras.layers.TimeDistributed(trunk)(frames)
    model = keras.Model(frames, [features, keras.layers.Dense(2)(keras.layers.LSTM(4)(features))])
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32, 3)).astype("float32")
    found = keras.ops.convert_to_numpy(model(x, training=False)[0])
    np.testing.assert_allclose(found.reshape(6, -1), outputs(trunk, x.reshape(6, 32, 32, 3)), atol=1e-5)


def test_siamese_and_two_heads(tmp_path):
    trunk = narrow("resnet18", **TRUNK, name="trunk")
    randomise(trunk)
    a, b = keras.Input((32, 32, 3), name="a"), keras.Input((32, 32, 3), name="b")
    siamese = keras.Model([a, b], keras.layers.Subtract()([trunk(a), trunk(b)]))
    x = batch(trunk)
    assert np.abs(keras.ops.convert_to_numpy(siamese([x, x], training=False))).max() == 0
    features = trunk(a)
    heads = {"kind": keras.layers.Dense(3, name="kind")(features), "age": keras.layers.Dense(1, name="age")(features)}
    both = keras.Model({"a": a}, heads)
    both.compile("sgd", {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "age": "mse"})
    both.fit({"a": x}, {"kind": np.array([0, 1, 2, 0]), "age": np.ones((4, 1))}, verbose=0)
    both.save(tmp_path / "both.keras")
    assert {*keras.models.load_model(tmp_path / "both.keras")({"a": x})} == {"kind", "age"}


def test_nested_in_a_sequential_and_saved_twice(tmp_path, model):
    """tensorflow:63853, keras:20084."""
    whole = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), model])
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    expected = outputs(whole, x)
    for _ in range(2):
        whole.save(tmp_path / "whole.keras")
        whole = keras.models.load_model(tmp_path / "whole.keras")
        np.testing.assert_allclose(outputs(whole, x), expected, atol=1e-5)


def test_frozen_statistics_stand_still_and_flags_survive(tmp_path, model):
    model.trainable = False
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    head = keras.Sequential([model, keras.layers.Dense(2)])
    head.compile("sgd", "mse")
    head.fit(batch(model), np.ones((4, 2)), verbose=0)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    model.trainable = True
    model.get_layer("stem_norm").trainable = False
    model.save(tmp_path / "flags.keras")
    loaded = keras.models.load_model(tmp_path / "flags.keras")
    assert [layer.trainable for layer in loaded.layers] == [layer.trainable for layer in model.layers]


def test_input_tensors():
    named = keras.Input((32, 32, 3), name="photo")
    assert narrow("resnet18", input_tensor=named).input is named
    assert narrow("resnet18", input_tensor=keras.Input(batch_shape=(4, 32, 32, 3))).output_shape == (4, 7)
    octets = keras.Input((32, 32, 3), dtype="uint8")
    x = np.full((2, 32, 32, 3), 7, "uint8")
    layers = keras.layers.Rescaling(1 / 255)(keras.layers.RandomFlip()(octets))
    assert np.isfinite(outputs(narrow("resnet18", input_tensor=layers), x)).all()
    sources = [keras.Input((32, 32, 2)), keras.Input((32, 32, 1))]
    model = narrow("resnet18", input_tensor=keras.layers.Concatenate()(sources))
    assert [each.shape for each in model.inputs] == [source.shape for source in sources]


SHAPES = [
    ((32, 32, 3), True),
    ((33, 47, 3), True),
    ([32, 32, 3], True),
    ((None, None, 3), True),
    ((None, 40, 1), True),
    ((32, 32, 13), True),
    ((np.int64(32), 32, 3), True),
    (np.array([32, 32, 3]), True),
    ((4, 4, 3), True),
    ((3, 3, 3), False),
    ((0, 32, 3), False),
    ((-32, 32, 3), False),
    ((32, 32), False),
    ((32,), False),
    ((), False),
    ((1, 32, 32, 3), False),
    ((32, 32, None), False),
    ((32, 32, 0), False),
    ((32.0, 32, 3), False),
    (("32", 32, 3), False),
    ((32, True, 3), False),
    (32, False),
    ("32x32", False),
]


@pytest.mark.parametrize(("shape", "fine"), SHAPES, ids=str)
def test_input_shapes_are_built_or_refused_by_the_fields_name(shape, fine):
    # Strides of 1 in the stem and 2 twice: 4 pixels are the least.
    thin = {"stem": {"width": 4}, "widths": [4, 4, 4], "depths": [1, 1, 1], "input_shape": shape}
    if fine:
        assert narrow("resnet20_cifar", **thin).output_shape == (None, 7)
    else:
        with pytest.raises(ReszooError, match=r"resnet20_cifar\.input_shape"):
            narrow("resnet20_cifar", **thin)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True, "10", [3], np.float64(3)])
def test_classes_that_are_no_number_of_classes_are_refused(classes):
    with pytest.raises(ReszooError, match=r"resnet18\.head\.classes"):
        narrow("resnet18", classes=classes)
    assert narrow("resnet18", classes=np.uint8(3)).output_shape == (None, 3)


@TENSORFLOW
def test_lite_converter(model):
    """keras-core:746, tensorflow:62989."""
    import tensorflow as tf

    x = batch(model, 1)
    np.testing.assert_allclose(
        lite(tf.lite.TFLiteConverter.from_keras_model(model).convert(), x), outputs(model, x), atol=1e-4
    )


@TENSORFLOW
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20_cifar", "se_resnet50"])
def test_full_int8(name):
    """tensorflow:50725, 45082: zero padding and squeeze-and-excitation."""
    import tensorflow as tf

    model = narrow(name)
    randomise(model)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in batch(model, 16))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    x = batch(model, 1)
    assert np.abs(lite(converter.convert(), x) - outputs(model, x)).max() < 0.2


def lite(content, x):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@TENSORFLOW
def test_second_derivatives_through_training_mode(model):
    import tensorflow as tf

    x = tf.constant(batch(model))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(model(x, training=True)[:, 0])
        gradient = inner.gradient(loss, x)
        size = tf.reduce_sum(gradient**2)
    second = outer.gradient(size, [x, model.get_layer("stem_norm").gamma.value])
    assert all(np.isfinite(value.numpy()).all() and np.abs(value.numpy()).max() > 0 for value in second)
    with tf.GradientTape() as tape:
        tape.watch(x)
        made = model(x, training=False)
    assert tape.batch_jacobian(made, x).shape == (4, 7, 32, 32, 3)


@TENSORFLOW
def test_every_way_to_call_gives_the_same_numbers(model):
    import tensorflow as tf

    x = batch(model)
    expected = outputs(model, x)
    ways = {
        "predict": model.predict(x, verbose=0),
        "predict_on_batch": model.predict_on_batch(x),
        "function": tf.function(model)(x, training=False),
        "compiled": tf.function(model, jit_compile=True)(x, training=False),
    }
    for found in ways.values():
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)


@TENSORFLOW
def test_the_gradient_at_the_last_map_of_a_network_built_on_layers():
    """keras-io:1999: Grad-CAM."""
    import tensorflow as tf

    got = keras.Input((32, 32, 3))
    model = narrow("resnet18", input_tensor=keras.layers.Rescaling(1 / 255)(got))
    maps = keras.Model(model.input, [model.get_layer("stage2_block1_act").output, model.output])
    with tf.GradientTape() as tape:
        last, predictions = maps(batch(model))
        tape.watch(last)
        chosen = tf.reduce_max(maps.layers[-1](maps.get_layer("head_pool")(last)), axis=1)
    gradient = tape.gradient(chosen, last)
    assert predictions.shape == (4, 7) and np.abs(gradient.numpy()).max() > 0
