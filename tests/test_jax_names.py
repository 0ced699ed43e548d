"""Weights of JAX libraries: two collections, kernels channels last, other words for the variables of a norm."""

import pickle

import numpy as np
import pytest
from conftest import refused
from test_weights import FORMS, in_dialect, random_arrays

import reszoo
from reszoo.weights.dialects import dialects
from reszoo.weights.formats.write import write_torch

X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
FLAX = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias", "moving_mean": "mean"}
HAIKU = {"kernel": "w", "bias": "b", "gamma": "scale", "beta": "offset"}


def outputs(path):
    return reszoo.from_checkpoint(path, input_shape=(32, 32, 3)).model.predict(X, verbose=0)


def flax(layer, variable):
    collection = "batch_stats" if variable.startswith("moving") else "params"
    return f"{collection}/{layer}/{FLAX.get(variable, 'var')}"


def test_hugging_faces_flax_networks(tmp_path):
    spec = FORMS["hugging_face"]
    write_torch(in_dialect(spec, dialects()["hugging_face"]), tmp_path / "torch.pth")
    arrays = {}
    for name, array in random_arrays(spec).items():
        layer, _, variable = name.partition("/")
        theirs = dialects()["hugging_face"].theirs(layer)
        path = theirs if layer == "predictions" else f"resnet.{theirs}"
        arrays[flax(path.replace(".", "/"), variable)] = array
    # The statistics are a collection of their own, behind all parameters.
    arrays = dict(sorted(arrays.items(), key=lambda item: item[0].startswith("batch_stats")))
    np.savez(tmp_path / "flax.npz", **arrays)
    np.testing.assert_allclose(outputs(tmp_path / "flax.npz"), outputs(tmp_path / "torch.pth"), rtol=1e-5)


def named(spec, layer):
    """The name of a layer in Flax's example of ImageNet, where blocks are numbered through."""
    if layer.startswith("stem"):
        return {"stem_conv": "conv_init", "stem_norm": "bn_init"}[layer]
    if layer == "predictions":
        return "Dense_0"
    stage, block, *rest = layer.split("_")
    number = sum(each.depth for each in spec.stages[: int(stage[5:]) - 1]) + int(block[5:]) - 1
    kind = {"conv": "Conv", "norm": "BatchNorm"}[rest[1]]
    inner = {"conv": "conv_proj", "norm": "norm_proj"}[rest[1]] if rest[0] == "shortcut" else ""
    return f"ResNetBlock_{number}/{inner or f'{kind}_{int(rest[0][4:]) - 1}'}"


def test_flaxs_own_example(tmp_path):
    spec = FORMS["hugging_face"]
    arrays = {
        flax(named(spec, name.partition("/")[0]), name.partition("/")[2]): array
        for name, array in random_arrays(spec).items()
    }
    arrays = dict(sorted(arrays.items(), key=lambda item: item[0].startswith("batch_stats")))
    np.savez(tmp_path / "flax.npz", **arrays)
    write_torch(in_dialect(spec, dialects()["torchvision"]), tmp_path / "torch.pth")
    np.testing.assert_allclose(outputs(tmp_path / "flax.npz"), outputs(tmp_path / "torch.pth"), rtol=1e-5)


def haiku(layer):
    if layer.startswith("stem"):
        return {"stem_conv": "initial_conv", "stem_norm": "initial_batchnorm"}[layer]
    if layer == "predictions":
        return "logits"
    stage, block, part, kind = layer.split("_")
    word = {"conv": "conv", "norm": "batchnorm"}[kind]
    inner = f"shortcut_{word}" if part == "shortcut" else f"{word}_{int(part[4:]) - 1}"
    return f"block_group_{int(stage[5:]) - 1}/~/block_{int(block[5:]) - 1}/~/{inner}"


def test_haikus_networks(tmp_path):
    spec = FORMS["hugging_face"]
    params, state = {}, {}
    for name, array in random_arrays(spec).items():
        layer, _, variable = name.partition("/")
        path = f"res_net18/~/{haiku(layer)}"
        if variable in HAIKU:
            wide = array.reshape(1, 1, 1, -1) if layer.endswith("norm") else array
            params.setdefault(path, {})[HAIKU[variable]] = wide
        else:
            word = variable.replace("moving_", "").replace("variance", "var")
            state[f"{path}/~/{word}_ema"] = {
                "average": array.reshape(1, 1, 1, -1),
                "hidden": array.reshape(1, 1, 1, -1),
                "counter": np.array(7),
            }
    (tmp_path / "haiku.pkl").write_bytes(pickle.dumps((params, state)))
    write_torch(in_dialect(spec, dialects()["torchvision"]), tmp_path / "torch.pth")
    np.testing.assert_allclose(outputs(tmp_path / "haiku.pkl"), outputs(tmp_path / "torch.pth"), rtol=1e-5)


@pytest.mark.parametrize("block", [1, 10])
def test_big_transfer_is_named(tmp_path, block):
    names = [f"resnet/block1/unit{block:02}/{unit}/standardized_conv2d/kernel" for unit in "abc"]
    names += ["resnet/root_block/standardized_conv2d/kernel", "resnet/head/conv2d/kernel"]
    np.savez(tmp_path / "BiT-M-R50x1.npz", **{name: np.ones((1, 1, 4, 4), "float32") for name in names})
    with refused(["BiT-M-R50x1.npz", "Big Transfer", "pads the map"]):
        reszoo.from_checkpoint(tmp_path / "BiT-M-R50x1.npz")
