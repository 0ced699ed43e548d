"""Public Keras programs that do not train, as facts: architecture, loss, optimizer, batch, epochs, true causes.

Eighteen questions of Stack Overflow, whose numbers are the names, from the benchmark of DeepLocalize
(Wardat-ISU/DeepLocalize). The true causes are those of DeepFD's sheet (ArabelaTso/DeepFD, Benchmark/Evaluation.xlsx).
The data have the shape and range of the original ones: Fashion-MNIST in place of MNIST, drawn numbers in place of files
that were never published. `python benchmarks/causes.py` diagnoses and repairs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import initializers, layers, optimizers

STARTS: dict[str, Callable[[], Any]] = {
    "glorot": initializers.GlorotUniform,
    "he": initializers.HeNormal,
    # `uniform` and `normal` of Keras 1.
    "uniform": lambda: initializers.RandomUniform(-0.05, 0.05),
    "normal": lambda: initializers.RandomNormal(stddev=0.05),
    "wide": lambda: initializers.RandomNormal(stddev=1.0),
}
"""Name of a start -> the initializer of a layer."""
MSE, ONE_HOT, BINARY = "mean_squared_error", "categorical_crossentropy", "binary_crossentropy"


@dataclass(frozen=True)
class Program:
    """A program and its true causes."""

    network: str
    """Layers in a row: a number of units, a dropout, `conv` and a number of channels, an activation, `pool`, `flatten`;
    after a number of units `:` and the name of a start."""
    loss: str
    optimizer: Callable[[], Any]
    data: Callable[[], tuple[Any, Any]]
    batch: int
    epochs: int
    causes: str
    """True causes, of which one has to be named."""
    neutral: str = ""
    """True as well, or debatable: they count neither for nor against."""
    disputed: bool = False

    def build(self) -> tuple[keras.Model, Any, Any]:
        """Returns the compiled model and its data, always the same."""
        keras.utils.set_random_seed(0)
        x, y = self.data()
        model = keras.Sequential([keras.Input(np.shape(x)[1:]), *map(_layer, self.network.split())])
        model.compile(self.optimizer(), self.loss, metrics=["accuracy"])
        return model, x, y


def _layer(word: str) -> Any:
    name, _, start = word.partition(":")
    start = STARTS[start or "glorot"]
    if name.isdigit():
        wide = start is STARTS["wide"]
        return layers.Dense(int(name), kernel_initializer=start(), bias_initializer=start() if wide else "zeros")
    if name.startswith("conv"):
        return layers.Conv2D(int(name[4:]), 3, kernel_initializer=start())
    if name.startswith("0."):
        return layers.Dropout(float(name))
    return {"pool": layers.MaxPooling2D, "flatten": layers.Flatten}.get(name, lambda: layers.Activation(name))()


def _sgd(rate: float, momentum: float = 0.0) -> Callable[[], Any]:
    return lambda: optimizers.SGD(rate, momentum=momentum, nesterov=bool(momentum))


def _adam() -> Any:
    return optimizers.Adam()


def _rmsprop() -> Any:
    return optimizers.RMSprop()


# The data.


def _stored(name: str, count: int) -> tuple[Any, Any]:
    with np.load(Path(os.environ["RESZOO_TEST_DATA"]) / "data" / name) as file:
        return file["x"][:count].astype("float32"), _rows(file["y"][:count].reshape(-1), 10)


def _fashion(count: int, scale: float = 255.0) -> Callable[[], tuple[Any, Any]]:
    def data() -> tuple[Any, Any]:
        x, y = _stored("fashion_mnist_train.npz", count)
        return x.reshape(-1, 784) / scale, y

    return data


def _cifar() -> tuple[Any, Any]:
    x, y = _stored("cifar10_train_lossless4000.npz", 256)
    return x.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)), y


def _rows(y: Any, classes: int) -> Any:
    return np.eye(classes, dtype="float32")[np.asarray(y).astype(int)]


def _column(y: Any) -> Any:
    return np.asarray(y, "float32").reshape(-1, 1)


def _clouds() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = np.concatenate([random.uniform(0.2, 0.4, (100, 2)), random.uniform(0.5, 0.7, (100, 2))]).astype("float32")
    order = random.permutation(200)
    return x[order], _rows(np.repeat([0, 1], 100)[order], 2)


def _exclusive_or() -> tuple[Any, Any]:
    x = np.array([[1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], "float32")
    return x, _column(x[:, 0] != x[:, 1])


def _ones_or_zeros() -> tuple[Any, Any]:
    y = np.random.default_rng(0).permutation(np.repeat([0, 1], 500))
    return np.repeat(_column(y), 128, 1), _column(y)


def _iris() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].astype("float32"), _rows(y[order], 3)


def _fourth_power() -> tuple[Any, Any]:
    x = np.arange(-100, 100, 0.5, dtype="float32").reshape(-1, 1)
    return x, x**4


def _photographs() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 96)
    x = random.random((96, 48, 48, 3)) * 0.7 + 0.1 * y.reshape(-1, 1, 1, 1)
    return x.astype("float32"), _column(y)


def _drawn(rows: int, scale: Any, y: Callable[[Any], Any], classes: int = 1) -> Callable[[], tuple[Any, Any]]:
    """Returns data of uniform features, from 0 to a scale each, and a function of them."""

    def data() -> tuple[Any, Any]:
        x = (np.random.default_rng(0).random((rows, len(scale))) * scale).astype("float32")
        return x, _column(y(x)) if classes == 1 else _rows(y(x), classes)

    return data


def _normal(rows: int, features: int, y: Callable[[Any], Any], scale: float = 1.0) -> Callable[[], tuple[Any, Any]]:
    def data() -> tuple[Any, Any]:
        x = (np.random.default_rng(0).normal(size=(rows, features)) * scale).astype("float32")
        return x, _column(y(x))

    return data


SCALES = [3, 700, 2, 80, 5, 5, 900, 500, 150, 4]
PROGRAMS = {
    "48385830": Program(
        *("30:wide 10:wide", MSE, _sgd(3.0), _fashion(1024), 10, 30),
        causes="hidden_activation output_activation loss learning_rate",
        neutral="initialization",
    ),
    "44164749": Program(
        *("5000 relu 0.1 600 relu 0.1 10 softmax", ONE_HOT, _sgd(0.01, 0.9), _fashion(2000), 2000, 5),
        causes="learning_rate epochs",
        neutral="output_activation loss batch_size layer_properties",
    ),
    "50306988": Program(
        *("2 sigmoid 2 softmax", ONE_HOT, _adam, _clouds, 32, 5),
        causes="learning_rate epochs",
        neutral="hidden_activation layer_properties",
    ),
    "48251943": Program(
        *("4 relu 1 relu", MSE, _sgd(0.01), _normal(100, 2, lambda x: x @ [1.0, -2.0]), 10, 50),
        causes="output_activation",
        neutral="dead_units learning_rate layer_properties",
    ),
    "55328966": Program(
        *("784 50 relu 10 sigmoid", ONE_HOT, _sgd(1e-4), _fashion(1024, 1.0), 32, 10),
        causes="output_activation optimizer input_scaling",
        neutral="learning_rate hidden_activation",
    ),
    "34311586": Program(
        "2:uniform sigmoid 3:uniform sigmoid 1:uniform softmax",
        *(MSE, _sgd(0.001, 0.9), _exclusive_or, 32, 20),
        causes="learning_rate output_activation hidden_activation initialization epochs batch_size",
        neutral="loss dead_units saturation layer_properties",
    ),
    "31880720": Program(
        *("50 relu relu 0.2 50 relu 0.2 1 softmax", BINARY, _rmsprop, _ones_or_zeros, 1, 3),
        causes="output_activation epochs",
        neutral="dead_units batch_size hidden_activation loss",
    ),
    "39525358": Program(
        "12:uniform relu 3:uniform relu 1:uniform sigmoid",
        *(BINARY, _adam, _drawn(600, [1000, 50, 5000], lambda x: x[:, 0] + 20 * x[:, 1] > 1000), 1, 150),
        causes="input_scaling learning_rate",
        neutral="output_activation hidden_activation batch_size initialization dead_units",
    ),
    "59278771": Program(
        *("4:normal relu 3:normal sigmoid", ONE_HOT, _adam, _iris, 5, 200),
        causes="output_activation hidden_activation optimizer input_scaling",
        neutral="learning_rate initialization loss layer_properties epochs",
    ),
    "52800582": Program(
        *("50 sigmoid 50 elu 1", MSE, _adam, _fourth_power, 400, 1000),
        causes="input_scaling",
        neutral="hidden_activation saturation learning_rate loss",
    ),
    "34673164": Program(
        "64:uniform tanh 0.5 64:uniform tanh 0.5 2:uniform softmax",
        *(MSE, _sgd(0.1, 0.9), _drawn(1000, [15] * 16, lambda x: x[:, 0] > x[:, 1], classes=2), 16, 20),
        causes="layers layer_properties loss",
        neutral="output_activation input_scaling learning_rate saturation hidden_activation regularization "
        "initialization",
    ),
    "50079585": Program(
        "conv32 relu pool conv32 relu pool conv64 relu pool flatten 64 relu 0.5 1 sigmoid",
        *(BINARY, _rmsprop, _photographs, 16, 10),
        causes="output_activation loss layer_properties learning_rate epochs",
        neutral="labels regularization",
    ),
    "45337371": Program(
        *("60 relu 50 relu 1 softmax", BINARY, _adam, _drawn(1000, [1] * 5, lambda x: x.sum(1) > 2.5), 1, 5),
        causes="output_activation",
        neutral="dead_units batch_size loss epochs",
    ),
    "44066044": Program(
        "12:normal relu 12:normal relu 1:normal relu",
        *(BINARY, _adam, _drawn(500, np.logspace(0, 4, 11), lambda x: x[:, 3] > x[:, 3].mean()), 5, 100),
        causes="input_scaling",
        neutral="output_activation loss dead_units learning_rate initialization",
    ),
    "45442843": Program(
        *(
            "1 sigmoid 1:normal softmax",
            "mean_absolute_error",
            _rmsprop,
            _normal(500, 1, lambda x: x > 0, 10),
            200,
            100,
        ),
        causes="loss optimizer output_activation epochs",
        neutral="input_scaling dead_units initialization hidden_activation layer_properties learning_rate batch_size",
    ),
    "48594888": Program(
        "conv64:he relu pool conv256:he relu pool flatten 512 relu 0.3 10 softmax",
        *(ONE_HOT, _adam, _cifar, 32, 5),
        causes="epochs batch_size",
        neutral="input_scaling learning_rate layer_properties layers",
        disputed=True,
    ),
    "31627380": Program(
        "512 relu 0.5 2 softmax",
        *(ONE_HOT, _adam, _drawn(800, SCALES, lambda x: (x[:, 0] > 1.5) ^ (x[:, 2] > 1), classes=2), 4, 10),
        causes="optimizer output_activation loss",
        neutral="input_scaling regularization learning_rate batch_size epochs layer_properties",
        disputed=True,
    ),
    "50481178": Program(
        "10 relu 20 relu 30 relu 40 relu 50 relu 1 sigmoid",
        *(BINARY, _adam, _normal(800, 4, lambda x: x.sum(1) > 0), 10, 50),
        causes="output_activation loss",
        neutral="learning_rate epochs batch_size layer_properties layers labels",
        disputed=True,
    ),
}
"""Number of the question -> the program."""
