"""Sound and sick networks of many kinds, for the doctor: functions of a compiled model, its data and settings.

The sound ones learn their data; `SICK` names for each network the kinds of causes of which one has to be named, and
those that are debatable. `python benchmarks/causes.py sound sick` diagnoses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops, optimizers
from sklearn.datasets import load_digits

SPARSE, ONE_HOT, BINARY, MSE = (
    *("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"),
    "mean_squared_error",
)
Case = tuple[keras.Model, Any, Any, dict[str, Any]]
SOUND: dict[str, Callable[[], Case]] = {}
SICK: dict[str, tuple[Callable[[], Case], str, str]] = {}
"""Name -> network, true kinds, debatable kinds."""


def sound(make: Callable[[], Any]) -> Callable[[], Any]:
    """Registers a sound network."""
    SOUND[make.__name__] = lambda: _case(make)
    return make


def sick(causes: str, neutral: str = "") -> Callable[[Any], Any]:
    """Returns a decorator that registers a sick network with its causes."""

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        SICK[make.__name__] = (lambda: _case(make), causes, neutral)
        return make

    return register


def _case(make: Callable[[], Any]) -> Case:
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    model, x, y, *settings = make()
    return model, x, y, settings[0] if settings else {}


def stack(shape: tuple[int, ...], *parts: Any, loss: Any = SPARSE, optimizer: Any = None, dtype: Any = None) -> Any:
    """Returns a compiled Sequential; Adam at 0.003 by default."""
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *parts])
    return compiled(model, loss, optimizer)


def compiled(model: keras.Model, loss: Any, optimizer: Any = None, **more: Any) -> keras.Model:
    """Returns a model compiled with Adam at 0.003, or another optimizer."""
    model.compile(optimizer or optimizers.Adam(0.003), loss, **more)
    return model


def dense(units: int, activation: str | None = None, **more: Any) -> Any:
    return layers.Dense(units, activation, **more)


def conv(width: int, activation: str | None = "relu", strides: int = 1, **more: Any) -> Any:
    return layers.Conv2D(width, 3, strides, padding="same", activation=activation, **more)


def digits(count: int = 1797) -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:count]
    return (x[order] / 16).astype("float32"), y[order]


def images(count: int = 1797) -> tuple[Any, Any]:
    x, y = digits(count)
    return x.reshape(-1, 8, 8, 1), y


def normal(rows: int = 800, features: int = 8) -> Any:
    return np.random.default_rng(0).normal(size=(rows, features)).astype("float32")


def tokens(rows: int = 800, length: int = 24, words: int = 60, classes: int = 2) -> tuple[Any, Any]:
    """Sequences padded with 0; the class is the part of the vocabulary that most words come from."""
    random = np.random.default_rng(0)
    y = random.integers(0, classes, rows)
    part = words // classes
    own = random.integers(0, part, (rows, length)) + part * y[:, None]
    x = np.where(random.random((rows, length)) < 0.4, own, random.integers(0, words, (rows, length))) + 1
    lengths = random.integers(length // 2, length + 1, rows)
    return np.where(np.arange(length) < lengths[:, None], x, 0).astype("int32"), y


def waves(rows: int = 600, length: int = 30) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    phase, speed = random.uniform(0, 6, (rows, 1)), random.uniform(0.2, 0.6, (rows, 1))
    series = np.sin(phase + speed * np.arange(length + 1)) + 0.05 * random.normal(size=(rows, length + 1))
    return series[:, :-1, None].astype("float32"), series[:, -1:].astype("float32")


def rows_of(y: Any, classes: int) -> Any:
    return np.eye(classes, dtype="float32")[y]


def column(y: Any) -> Any:
    return np.asarray(y, "float32").reshape(-1, 1)


class Positions(layers.Layer):
    """Adds a learned vector for every position."""

    def build(self, shape):
        self.vectors = self.add_weight(shape=shape[1:], initializer="uniform")

    def call(self, x):
        return x + self.vectors


# Sound.


@sound
def text_lstm():
    x, y = tokens()
    parts = [layers.Embedding(61, 16, mask_zero=True), layers.Bidirectional(layers.LSTM(16)), dense(1, "sigmoid")]
    return stack((24,), *parts, loss=BINARY, dtype="int32"), x, column(y)


@sound
def text_convolution():
    x, y = tokens(classes=4)
    parts = [layers.Embedding(61, 16), layers.Conv1D(32, 3, activation="relu"), layers.GlobalMaxPooling1D()]
    return stack((24,), *parts, layers.Dropout(0.3), dense(4, "softmax"), dtype="int32"), x, y


@sound
def text_transformer():
    x, y = tokens(classes=3)
    given = keras.Input((24,), dtype="int32")
    z = Positions()(layers.Embedding(61, 32)(given))
    for _ in range(2):
        z = layers.LayerNormalization()(z + layers.MultiHeadAttention(2, 16)(z, z))
        z = layers.LayerNormalization()(z + dense(32)(dense(64, "relu")(z)))
    end = dense(3, "softmax")(layers.GlobalAveragePooling1D()(z))
    return compiled(keras.Model(given, end), SPARSE, optimizers.Adam(0.001)), x, y


@sound
def autoencoder():
    x, _ = digits()
    parts = [dense(32, "relu"), dense(12, "relu"), dense(32, "relu"), dense(64, "sigmoid")]
    return stack((64,), *parts, loss=MSE), x, x


@sound
def convolutional_autoencoder():
    x, _ = images()
    up = [layers.Conv2DTranspose(width, 3, 2, padding="same", activation="relu") for width in (8, 16)]
    parts = [conv(16, strides=2), conv(8, strides=2), *up, conv(1, "sigmoid")]
    return stack((8, 8, 1), *parts, loss=BINARY), x, x


@sound
def discriminator():
    x, _ = images(600)
    fake = np.random.default_rng(1).random(x.shape).astype("float32")
    order = np.random.default_rng(0).permutation(1200)
    leaky = [layers.LeakyReLU(negative_slope=0.2) for _ in range(2)]
    parts = [conv(16, None, 2), leaky[0], layers.Dropout(0.3), conv(32, None, 2), leaky[1], layers.Flatten(), dense(1)]
    loss, optimizer = keras.losses.BinaryCrossentropy(from_logits=True), optimizers.Adam(2e-4, beta_1=0.5)
    y = column(np.repeat([1, 0], 600))
    return stack((8, 8, 1), *parts, loss=loss, optimizer=optimizer), np.concatenate([x, fake])[order], y[order]


@sound
def siamese():
    x, y = digits()
    random = np.random.default_rng(0)
    left = random.integers(0, len(x), 1200)
    same = [random.choice(np.flatnonzero(y == y[i])) for i in left]
    right = np.where(random.random(1200) < 0.5, same, random.integers(0, len(x), 1200))
    encoder = keras.Sequential([keras.Input((64,)), dense(32, "relu"), dense(16)])
    a, b = keras.Input((64,)), keras.Input((64,))
    end = dense(1, "sigmoid")(ops.abs(encoder(a) - encoder(b)))
    return compiled(keras.Model([a, b], end), BINARY), [x[left], x[right]], column(y[left] == y[right])


@sound
def two_outputs():
    x = normal()
    given = keras.Input((8,))
    z = dense(32, "relu")(dense(32, "relu")(given))
    model = keras.Model(given, {"class": dense(3, "softmax", name="a")(z), "value": dense(1, name="b")(z)})
    model.compile(optimizers.Adam(0.003), {"class": SPARSE, "value": MSE}, loss_weights={"class": 1.0, "value": 0.5})
    return model, x, {"class": x[:, :3].argmax(1), "value": column(x[:, 3] * x[:, 4])}


@sound
def forecast():
    x, y = waves()
    parts = [layers.GRU(24, return_sequences=True), layers.GRU(24), dense(1)]
    return stack((30, 1), *parts, loss="huber"), x, y


@sound
def several_labels():
    x = normal()
    return stack((8,), dense(32, "relu"), dense(5, "sigmoid"), loss=BINARY), x, (x[:, :5] > 0.5).astype("float32")


@sound
def frozen_backbone():
    x, y = images()
    backbone = keras.Sequential([keras.Input((8, 8, 1)), conv(16), layers.MaxPooling2D(), conv(32), layers.Flatten()])
    head = dense(10, "softmax")
    teacher = compiled(keras.Sequential([keras.Input((8, 8, 1)), backbone, head]), SPARSE)
    teacher.fit(x[y < 5], y[y < 5], epochs=8, verbose=0)
    backbone.trainable = False
    model = keras.Sequential([keras.Input((8, 8, 1)), backbone, layers.Dropout(0.2), dense(5, "softmax")])
    return compiled(model, SPARSE), x[y > 4], y[y > 4] - 5


@sound
def rare_class():
    x = normal(1500)
    y = (x[:, 0] + x[:, 1] > 2.2).astype(int)
    weight = {0: 0.5 / (1 - y.mean()), 1: 0.5 / y.mean()}
    return stack((8,), dense(32, "relu"), dense(1, "sigmoid"), loss=BINARY), x, column(y), {"class_weight": weight}


@sound
def weighted_regression():
    x = normal()
    weight = np.random.default_rng(0).uniform(0.2, 2, len(x))
    y = column(np.sin(x[:, 0]) + 0.3 * x[:, 1] ** 2)
    return stack((8,), dense(32, "gelu"), dense(32, "gelu"), dense(1), loss="mae"), x, y, {"sample_weight": weight}


@sound
def counts():
    x = normal()
    y = np.random.default_rng(1).poisson(np.exp(0.6 * x[:, 0] + 0.5)).astype("float32")
    return stack((8,), dense(16, "relu"), dense(1, "exponential"), loss="poisson"), x, column(y)


@sound
def wide_and_deep():
    random = np.random.default_rng(0)
    shop, x = random.integers(0, 12, (900, 1)), normal(900, 5)
    given, numbers = keras.Input((1,), dtype="int32"), keras.Input((5,))
    z = layers.Concatenate()([layers.Flatten()(layers.Embedding(12, 4)(given)), numbers])
    model = keras.Model([given, numbers], dense(1)(dense(32, "relu")(dense(32, "relu")(z))))
    y = random.normal(size=12)[shop[:, 0]] + x[:, 0]
    return compiled(model, MSE), [shop.astype("int32"), x], column(y)


@sound
def separable_convolutions():
    x, y = images()
    parts = [conv(16, None, use_bias=False), layers.BatchNormalization(momentum=0.9), layers.ReLU(6.0)]
    for width in (32, 32):
        parts += [layers.DepthwiseConv2D(3, padding="same", use_bias=False), layers.BatchNormalization(momentum=0.9)]
        parts += [layers.ReLU(6.0), layers.Conv2D(width, 1, use_bias=False), layers.BatchNormalization(momentum=0.9)]
    return stack((8, 8, 1), *parts, layers.GlobalAveragePooling2D(), dense(10, "softmax")), x, y


@sound
def classes_of_pixels():
    x, _ = images(600)
    y = np.digitize(x[..., 0], [0.3, 0.7])
    return stack((8, 8, 1), conv(16), conv(16), layers.Conv2D(3, 1, activation="softmax")), x, y


@sound
def signs_with_hinge():
    x = normal()
    return stack((8,), dense(16, "relu"), dense(1, "tanh"), loss="hinge"), x, column(np.sign(x[:, 0] + x[:, 1]))


@sound
def self_normalizing():
    x, y = digits()
    start = {"kernel_initializer": "lecun_normal"}
    hidden = [dense(48, "selu", **start) for _ in range(4)]
    return stack((64,), *hidden, layers.AlphaDropout(0.05), dense(10, "softmax"), optimizer=optimizers.Adam(1e-3)), x, y


@sound
def schedule_with_warm_up():
    x, y = digits()
    rate = optimizers.schedules.CosineDecay(0.0, 400, warmup_target=0.1, warmup_steps=50)
    optimizer = optimizers.SGD(rate, momentum=0.9)
    return stack((64,), dense(64, "relu"), dense(64, "relu"), dense(10, "softmax"), optimizer=optimizer), x, y


@sound
def video():
    x, y = images(900)
    clips = np.stack([np.roll(x, shift, axis=2) for shift in range(3)], axis=1)
    each = keras.Sequential([keras.Input((8, 8, 1)), conv(8), layers.MaxPooling2D(), layers.Flatten()])
    return stack((3, 8, 8, 1), layers.TimeDistributed(each), layers.LSTM(32), dense(10, "softmax")), clips, y


@sound
def batches_of_tensorflow():
    import tensorflow as tf

    x, y = digits()
    return (
        stack((64,), dense(64, "relu"), dense(10, "softmax")),
        tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
        None,
    )


@sound
def pixels_scaled_inside():
    x, y = images()
    parts = [
        layers.Rescaling(1 / 255),
        conv(16),
        layers.MaxPooling2D(),
        conv(32),
        layers.Flatten(),
        dense(10, "softmax"),
    ]
    return stack((8, 8, 1), *parts), np.round(255 * x), y


# Sick.


@sick("output_activation", "loss dead_units")
def text_softmax_of_one():
    x, y = tokens()
    parts = [layers.Embedding(61, 16), layers.GlobalAveragePooling1D(), dense(16, "relu"), dense(1, "softmax")]
    return stack((24,), *parts, loss=BINARY, dtype="int32"), x, column(y)


@sick("output_activation", "loss")
def masks_softmax_of_one():
    x, _ = images(600)
    return (
        stack((8, 8, 1), conv(8), conv(8), layers.Conv2D(1, 1, activation="softmax"), loss=BINARY),
        x,
        (x > 0.5) * 1.0,
    )


@sick("learning_rate", "dead_units saturation")
def lstm_at_rate_one():
    x, y = digits()
    optimizer = optimizers.Adam(3.0)
    return stack((8, 8), layers.LSTM(32), dense(10, "softmax"), optimizer=optimizer), x.reshape(-1, 8, 8), y


@sick("learning_rate", "epochs optimizer")
def convolutions_at_a_tiny_rate():
    x, y = images()
    parts = [conv(16), conv(16), layers.Flatten(), dense(10, "softmax")]
    return stack((8, 8, 1), *parts, optimizer=optimizers.SGD(1e-7)), x, y


@sick("learning_rate", "epochs optimizer")
def rate_that_decays_at_once():
    x, y = digits()
    rate = optimizers.schedules.ExponentialDecay(0.01, 1, 0.1)
    return stack((64,), dense(64, "relu"), dense(10, "softmax"), optimizer=optimizers.Adam(rate)), x, y


@sick("learning_rate optimizer", "epochs")
def clipped_to_nothing():
    x, y = digits()
    optimizer = optimizers.SGD(0.01, clipnorm=1e-6)
    return stack((64,), dense(64, "relu"), dense(10, "softmax"), optimizer=optimizer), x, y


@sick("dead_units initialization", "depth")
def convolutions_below_zero():
    x, y = images()
    parts = [conv(16, bias_initializer=keras.initializers.Constant(-2.0)) for _ in range(3)]
    return stack((8, 8, 1), *parts, layers.Flatten(), dense(10, "softmax")), x, y


@sick("frozen")
def random_embedding_frozen():
    x, y = tokens()
    parts = [layers.Embedding(61, 4, trainable=False), layers.Flatten(), dense(8, "relu", trainable=False)]
    return stack((24,), *parts, dense(1, "sigmoid"), loss=BINARY, dtype="int32"), x, column(y)


@sick("norm_statistics", "epochs")
def slow_statistics():
    x, y = images()
    parts = [
        layer for _ in range(3) for layer in (conv(16, None), layers.BatchNormalization(momentum=0.999), layers.ReLU())
    ]
    model = stack((8, 8, 1), *parts, layers.GlobalAveragePooling2D(), dense(10, "softmax"))
    model.fit(5 * x + 3, y, batch_size=64, epochs=3, verbose=0)
    return model, 5 * x + 3, y


@sick("input_scaling", "learning_rate loss")
def prices():
    x = normal()
    return stack((8,), dense(32, "relu"), dense(1), loss=MSE), x, column(250000 + 80000 * x[:, 0])


@sick("input_scaling", "learning_rate dead_units saturation")
def timestamps():
    x = normal()
    x[:, 0] = 1.6e9 + 1e7 * x[:, 0]
    return stack((8,), dense(32, "relu"), dense(1, "sigmoid"), loss=BINARY), x, column(x[:, 1] > 0)


@sick("output_activation loss")
def labels_under_softmax():
    x = normal()
    y = (x[:, :5] > 0).astype("float32")
    return stack((8,), dense(32, "relu"), dense(5, "softmax"), loss=ONE_HOT), x, y


@sick("output_activation", "loss")
def discriminator_without_sigmoid():
    x, y = images()
    parts = [conv(16, "leaky_relu", 2), conv(16, "leaky_relu", 2), layers.Flatten(), dense(1)]
    return stack((8, 8, 1), *parts, loss=BINARY), x, column(y > 4)


@sick("output_activation", "input_scaling")
def autoencoder_of_standardized():
    x = normal(800, 16)
    return stack((16,), dense(12, "relu"), dense(16, "sigmoid"), loss=MSE), x, x


@sick("bad_values")
def forecast_with_nan():
    x, y = waves()
    y[5] = np.nan
    return stack((30, 1), layers.GRU(16), dense(1), loss=MSE), x, y


@sick("labels", "epochs")
def texts_with_other_labels():
    x, y = tokens()
    parts = [layers.Embedding(61, 16), layers.GlobalAveragePooling1D(), dense(16, "relu"), dense(1, "sigmoid")]
    return stack((24,), *parts, loss=BINARY, dtype="int32"), x, column(np.random.default_rng(1).permutation(y))


@sick("labels")
def classes_from_one():
    x, y = digits()
    return stack((64,), dense(64, "relu"), dense(10, "softmax")), x, y + 1


@sick("depth", "initialization hidden_activation layers")
def deep_tanh():
    x, y = digits()
    return stack((64,), *[dense(24, "tanh") for _ in range(50)], dense(10, "softmax")), x, y


@sick("initialization", "dead_units")
def zeros_everywhere():
    x, y = images()
    parts = [conv(16, kernel_initializer="zeros") for _ in range(2)]
    return stack((8, 8, 1), *parts, layers.Flatten(), dense(10, "softmax", kernel_initializer="zeros")), x, y


@sick("regularization")
def penalty_of_ten():
    x, y = images()
    parts = [conv(16, kernel_regularizer=keras.regularizers.L2(10.0)) for _ in range(3)]
    return stack((8, 8, 1), *parts, layers.Flatten(), dense(10, "softmax")), x, y


@sick("regularization")
def dropout_in_a_gru():
    x, y = digits()
    parts = [layers.GRU(32, dropout=0.95), layers.Dropout(0.9), dense(10, "softmax")]
    return stack((8, 8), *parts), x.reshape(-1, 8, 8), y


@sick("epochs", "batch_size learning_rate")
def two_steps():
    x, y = digits()
    settings = {"batch_size": 900, "epochs": 1}
    return stack((64,), dense(64, "relu"), dense(10, "softmax"), optimizer=optimizers.SGD(0.01)), x, y, settings


@sick("batch_size", "norm_statistics")
def norm_of_one():
    x, y = digits(600)
    parts = [dense(32), layers.BatchNormalization(), layers.ReLU(), dense(10, "softmax")]
    return stack((64,), *parts), x, y, {"batch_size": 1, "epochs": 3}


@sick("loss output_activation")
def logits_of_masks():
    x, _ = images(600)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return stack((8, 8, 1), conv(8), conv(1, "sigmoid"), loss=loss), x, (x > 0.5) * 1.0


@sick("loss", "output_activation")
def absolute_error_for_classes():
    x, y = digits()
    return stack((64,), dense(32, "relu"), dense(10, "softmax"), loss="mae"), x, rows_of(y, 10)


@sick("layer_properties", "labels output_activation")
def five_units_for_ten():
    x, y = digits()
    return stack((64,), dense(32, "relu"), dense(5, "softmax")), x, y


@sick("hidden_activation", "layers")
def linear_convolutions():
    x, y = images()
    return stack((8, 8, 1), conv(8, None), conv(8, None), layers.Flatten(), dense(10, "softmax")), x, y


@sick("layers", "hidden_activation layer_properties")
def exclusive_or_without_hidden():
    x = normal(600, 2)
    return (
        stack((2,), dense(1, "sigmoid"), loss=BINARY, optimizer=optimizers.Adam(0.05)),
        x,
        column(x[:, 0] * x[:, 1] > 0),
    )


@sick("loss")
def one_output_dwarfs():
    x = normal()
    given = keras.Input((8,))
    z = dense(32, "relu")(given)
    model = keras.Model(given, [dense(1, "sigmoid", name="a")(z), dense(1, name="b")(z)])
    model.compile(optimizers.Adam(0.003), [BINARY, MSE], loss_weights=[1.0, 500.0])
    return model, x, [column(x[:, 0] > 0), column(5 * x[:, 1])]


@sick("saturation", "input_scaling hidden_activation initialization")
def tanh_of_large():
    x, y = digits()
    start = keras.initializers.RandomNormal(stddev=1.5)
    hidden = [dense(48, "tanh", kernel_initializer=start) for _ in range(3)]
    return stack((64,), *hidden, dense(10, "softmax")), x, y


@sick("hidden_activation saturation depth")
def sigmoid_convolutions():
    x, y = images()
    return stack((8, 8, 1), *[conv(16, "sigmoid") for _ in range(6)], layers.Flatten(), dense(10, "softmax")), x, y


@sick("layer_properties dead_units", "depth initialization")
def narrow_middle():
    x, y = digits()
    return stack((64,), dense(64, "relu"), dense(1, "relu"), dense(64, "relu"), dense(10, "softmax")), x, y
