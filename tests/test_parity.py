"""Numerical parity with other libraries' networks: their random weights, their inputs, their logits."""

import re

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import reszoo

VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def timm(name):
    """Our name of a layer -> timm's `resnet*` with a deep stem."""
    if match := re.fullmatch(r"stem_unit(\d)_(conv|norm)", name):
        place = 3 * (int(match[1]) - 1) + (match[2] == "norm")
        return "bn1" if place == 7 else f"conv1.{place}"
    if match := re.fullmatch(r"stage(\d)_block(\d)_(?:unit(\d)|shortcut)_(conv|norm)", name):
        stage, block, unit, kind = match.groups()
        own = f"{'conv' if kind == 'conv' else 'bn'}{unit}" if unit else f"downsample.{1 if kind == 'conv' else 2}"
        return f"layer{stage}.{int(block) - 1}.{own}"
    return {"predictions": "fc"}[name]


def timm_v2(name):
    """Our name of a layer -> timm's `resnetv2_*`."""
    if match := re.fullmatch(r"stage(\d)_block(\d)_(?:unit(\d)|shortcut)_(conv|norm)", name):
        stage, block, unit, kind = match.groups()
        return f"stages.{int(stage) - 1}.blocks.{int(block) - 1}.{kind + unit if unit else 'downsample.conv'}"
    return {"stem_conv": "stem.conv", "final_norm": "norm", "predictions": "head.fc"}[name]


def hugging_face(name):
    """Our name of a layer -> transformers' ResNetForImageClassification."""
    words = {"conv": "convolution", "norm": "normalization"}
    if match := re.fullmatch(r"stem_(conv|norm)", name):
        return f"resnet.embedder.embedder.{words[match[1]]}"
    if match := re.fullmatch(r"stage(\d)_block(\d)_(?:unit(\d)|shortcut)_(conv|norm)", name):
        stage, block, unit, kind = match.groups()
        own = f"layer.{int(unit) - 1}" if unit else "shortcut"
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{int(block) - 1}.{own}.{words[kind]}"
    return {"predictions": "classifier.1"}[name]


TINY = {"depths": [1, 2, 1, 1], "classes": 7, "classifier_activation": None, "input_shape": (64, 64, 3)}
CASES = [
    ("resnet50d", {"widths": [32, 64, 96, 128], "stem": {"width": 16}}, timm, "timm_resnet_d_tiny"),
    ("preact_resnet50", {"widths": [32, 64, 96, 128], "stem": {"width": 16}}, timm_v2, "timm_resnetv2_tiny"),
]


@pytest.mark.parametrize(("name", "changes", "theirs", "file"), CASES, ids=lambda value: str(value)[:20])
def test_logits_are_those_of_timm(shared, name, changes, theirs, file):
    weights = load_file(shared / "weights" / f"{file}.safetensors")
    check(reszoo.create(name, **TINY, **changes), theirs, weights, shared / "weights" / f"{file}.reference.npz")


@pytest.mark.parametrize(("name", "kind"), [("resnet18", "basic"), ("resnet50", "bottleneck")])
def test_logits_are_those_of_hugging_face(shared, name, kind):
    import json

    folder = shared / "weights" / f"hf_resnet_{kind}_tiny"
    config = json.loads((folder / "config.json").read_text())
    (reference,) = folder.glob("*.npz")
    model = reszoo.create(
        name,
        depths=config["depths"],
        widths=config["hidden_sizes"],
        stem={"width": config["embedding_size"]},
        classes=7,
        classifier_activation=None,
        input_shape=np.load(reference)["x"].shape[1:],
    )
    check(model, hugging_face, load_file(folder / "model.safetensors"), reference)


def check(model, theirs, weights, reference):
    used = set()
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{theirs(layer.name)}.{VARIABLES[variable.name]}"
            value = weights[name]
            if variable.name == "kernel":
                # OIHW to HWIO; a classifier may be stored as a 1x1 convolution.
                value = value.transpose(2, 3, 1, 0) if len(variable.shape) == 4 else value.reshape(value.shape[:2]).T
            variable.assign(value)
            used.add(name)
    assert {name for name in weights if "num_batches_tracked" not in name} == used
    expected = np.load(reference)
    logits = keras.ops.convert_to_numpy(model(expected["x"], training=False))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4, rtol=1e-4)
