"""TensorFlow's checkpoints and SavedModels: the names of objects, of graphs, of slim, and no names at all."""

import random

import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.errors import ReszooError
from reszoo.weights.formats.read import read

X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
SMALL = {"depths": 1, "width_multiplier": 0.125, "input_shape": (32, 32, 3), "classes": 5}


@pytest.fixture(scope="module")
def model():
    network, values = reszoo.create("resnet18", **SMALL, classifier_activation=None), np.random.default_rng(1)
    for weight in network.weights:
        low = 0.5 if weight.path.endswith(("gamma", "variance")) else -0.5
        weight.assign(values.uniform(low, low + 1, weight.shape).astype("float32"))
    return network


@pytest.fixture(autouse=True)
def tensorflow():
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs TensorFlow as the backend")


def same(model, path):
    expected = model.predict(X, verbose=0)
    result = reszoo.from_checkpoint(path, input_shape=(32, 32, 3), classifier_activation=None).model.predict(
        X, verbose=0
    )
    np.testing.assert_allclose(result, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("path", ["ckpt.index", "ckpt", "."])
def test_a_checkpoint_of_objects(model, tmp_path, path):
    import tensorflow as tf

    optimizer = tf.keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(tmp_path / "ckpt"))
    same(model, tmp_path / path)


def test_a_saved_model(model, tmp_path):
    model.export(str(tmp_path / "saved"), verbose=False)
    same(model, tmp_path / "saved")


def graph_names(model):
    """The names that TensorFlow's official networks had in graphs: numbered by kind."""
    convs = [layer for layer in model.layers if layer.name.endswith("_conv")]
    # In the order of that code: a projection before the branch.
    convs.sort(key=lambda layer: (not layer.name.startswith("stem"), layer.name[:13], "shortcut" not in layer.name))
    names = {"predictions": "resnet_model/dense"}
    for number, conv in enumerate(convs):
        ending = f"_{number}" if number else ""
        names[conv.name] = f"resnet_model/conv2d{ending}"
        names[conv.name.replace("_conv", "_norm")] = f"resnet_model/batch_normalization{ending}"
    return names


def test_a_checkpoint_of_a_graph(model, tmp_path):
    import tensorflow as tf

    names = graph_names(model)
    values = {}
    for layer in model.layers:
        for weight in layer.weights:
            values[f"{names[layer.name]}/{weight.path.rpartition('/')[2]}"] = weight.numpy()
    slots = {f"{name}/Momentum": value for name, value in values.items()} | {"global_step": np.array(3, "int64")}
    both = values | slots
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt-3"),
        tensor_names=[*both],
        shape_and_slices=[""] * len(both),
        tensors=[*both.values()],
    )
    same(model, tmp_path / "model.ckpt-3.index")


def test_a_missing_file_is_named(model, tmp_path):
    import tensorflow as tf

    tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    (tmp_path / "ckpt.data-00000-of-00001").rename(tmp_path / "elsewhere")
    with refused(["ckpt.index", "'ckpt.data-00000-of-00001'", "put it into"]):
        reszoo.from_checkpoint(tmp_path / "ckpt")


def test_blocks_that_overlap_are_refused(tmp_path):
    def block(*pairs):
        entries = b"".join(bytes([0, len(key), len(value)]) + key + value for key, value in pairs)
        return entries + bytes(4) + b"\1\0\0\0" + bytes(5)

    header = block((b"", b"\x08\x01"))
    index = block(*((key, bytes([0, len(header) - 5])) for key in (b"a", b"b")))
    footer = bytes([0, 0, len(header), len(index) - 5]).ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")
    (tmp_path / "ckpt.index").write_bytes(header + index + footer)
    with refused(["ckpt.index", "blocks that overlap"]):
        read(tmp_path / "ckpt.index")


def test_damaged_indices_are_read_or_refused(model, tmp_path):
    import tensorflow as tf
    from test_readers import damaged

    tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    index, opened = tmp_path / "ckpt.index", 0
    data = index.read_bytes()
    for seed in range(300):
        index.write_bytes(damaged(data, random.Random(seed)))
        try:
            [tensor.read() for tensor in read(index).tensors.values()]
            opened += 1
        except ReszooError as error:
            assert "ckpt.index" in str(error) and len(str(error)) < 1500
    assert opened < 300


def slim_names(version, depths=(2, 1, 1, 1)):
    """Names and shapes of slim's bottleneck networks."""
    root, norm = f"resnet_v{version}_50", ("gamma", "beta", "moving_mean", "moving_variance")
    shapes = {
        f"{root}/conv1/weights": (7, 7, 3, 8),
        f"{root}/logits/weights": (1, 1, 128, 5),
        f"{root}/logits/biases": (5,),
    }
    width = 8

    def layer(name, shape, *, normed):
        shapes[f"{name}/weights"] = shape
        shapes.update(
            {f"{name}/BatchNorm/{word}": shape[-1:] for word in norm} if normed else {f"{name}/biases": shape[-1:]}
        )

    for block, depth in enumerate(depths, 1):
        inner, out = 2 * 2**block, 8 * 2**block
        for unit in range(1, depth + 1):
            place = f"{root}/block{block}/unit_{unit}/bottleneck_v{version}"
            if unit == 1:
                layer(f"{place}/shortcut", (1, 1, width, out), normed=version == 1)
            shapes.update({f"{place}/preact/{word}": (width,) for word in norm} if version == 2 else {})
            layer(f"{place}/conv1", (1, 1, width, inner), normed=True)
            layer(f"{place}/conv2", (3, 3, inner, inner), normed=True)
            layer(f"{place}/conv3", (1, 1, inner, out), normed=version == 1)
            width = out
    last = {f"{root}/postnorm/{word}": (width,) for word in norm} if version == 2 else {}
    first = (
        {f"{root}/conv1/BatchNorm/{word}": (8,) for word in norm} if version == 1 else {f"{root}/conv1/biases": (8,)}
    )
    return shapes | first | last


@pytest.mark.parametrize("version", [1, 2])
def test_networks_of_slim_are_named(tmp_path, version):
    import tensorflow as tf

    values = {name: np.ones(shape, "float32") for name, shape in slim_names(version).items()}
    values |= {f"{name}/Momentum": value for name, value in values.items()} | {"global_step": np.array(3, "int64")}
    names, arrays = [*values], [*values.values()]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=arrays
    )
    with refused([f"TensorFlow slim's resnet_v{version}_*", "stride in their last block"]):
        reszoo.from_checkpoint(tmp_path / "model.ckpt.index")
