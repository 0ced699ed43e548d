"""To Keras, pickle and `type()` networks consist of stock Keras layers: configs, copies, classes, files."""

import copy
import json
import pickle
import zipfile

import keras
import numpy as np
import pytest
from conftest import python
from narrow import batch, narrow, outputs

import reszoo
from reszoo.arch import zoo
from reszoo.arch.layers import LooksLinear, batch_normalization

WORDS = [
    ("resnet18", {}),
    ("resnet50d", {"drop_path": 0.2, "dropout": 0.1, "classifier_activation": None}),
    ("preact_resnet50", {"norm": "group"}),
    ("se_resnet50", {"block": {"dropout": 0.1}}),
    ("resnet20_cifar", {"init": "orthogonal"}),
    ("plain20_cifar", {"init": "looks_linear"}),
    ("plain_mlp18", {"init": "looks_linear", "norm": "none"}),
    ("tabular_resnet", {"block": {"start": "scaled"}}),
    ("resnet50", {"norm": "none", "bias": True, "init": "glorot", "include_top": False, "pooling": "max"}),
]


@pytest.fixture(autouse=True)
def _fresh():
    keras.utils.set_random_seed(1)
    yield
    keras.backend.clear_session()


def registered_names(config):
    """Every `registered_name` in a config that is not Keras' own for its Functional."""
    if isinstance(config, dict):
        if config.get("registered_name") and config["class_name"] != "Functional":
            yield config["registered_name"]
        for value in config.values():
            yield from registered_names(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from registered_names(value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *WORDS,
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in zoo.builtin().names),
        pytest.param("preact_resnet1001_cifar", {"depths": 90, "widths": [4, 4]}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_config_is_that_of_stock_keras_and_unchanged_by_copying(name, changes):
    model = narrow(name, **changes)
    config = model.get_config()
    # from_config empties its argument.
    again = type(model).from_config(model.get_config())
    assert again.get_config() == config
    assert [*registered_names(config)] == []
    assert keras.models.model_from_json(model.to_json()).to_json() == model.to_json()
    assert reszoo.spec_of(again) == reszoo.spec_of(model)
    kinds = {type(layer) for layer in model.layers if not isinstance(layer, keras.Model)}
    assert {getattr(keras.layers, kind.__name__) for kind in kinds} == kinds


@pytest.mark.parametrize(("name", "changes"), WORDS, ids=str)
def test_layers_classes_and_models_go_through_pickle_and_copy(name, changes):
    model = narrow(name, **changes)
    for layer in {type(layer): layer for layer in model.layers}.values():
        assert pickle.loads(pickle.dumps(type(layer))) is type(layer)
        other = pickle.loads(pickle.dumps(layer))
        assert type(other) is type(layer) and other.name == layer.name
        for value, expected in zip(other.get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)
    x = batch(model)
    model.compile("sgd", "mse")
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_allclose(outputs(other, x), outputs(model, x), atol=1e-5)
        assert other.compiled and type(other) is type(model)


def test_layer_classes_are_those_of_keras():
    model = narrow("resnet18")
    norm = model.get_layer("stem_norm")
    assert type(norm) is norm.__class__ is keras.layers.BatchNormalization
    assert {keras.layers.BatchNormalization: "norm"}[type(norm)] == "norm"
    layers = reszoo.preprocessing("resnet18.tv_in1k")
    assert type(layers) is type(model) and pickle.loads(pickle.dumps(type(layers))) is type(layers)
    image = np.full((1, 256, 256, 3), 100.0, "float32")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layers))(image), layers(image))


def test_looks_linear_initializer_is_orthogonal_to_keras_and_itself_to_pickle():
    ours, theirs = LooksLinear(gain=0.5, seed=3), keras.initializers.Orthogonal(gain=0.5, seed=3)
    assert keras.saving.serialize_keras_object(ours) == keras.saving.serialize_keras_object(theirs)
    assert isinstance(ours, keras.initializers.Orthogonal) and ours.__class__ is type(theirs)
    assert pickle.loads(pickle.dumps(type(ours))) is type(ours)
    unseeded = LooksLinear(paired_input=False)
    for one in (ours, unseeded):
        for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
            assert type(other) is LooksLinear
            np.testing.assert_array_equal(other((6, 8)), one((6, 8)))
            assert other.get_config() == one.get_config()


class Mine(keras.layers.BatchNormalization):
    """A user's own class of the same name, as in `custom_objects={"BatchNormalization": Mine}`."""


@pytest.mark.parametrize("how", ["argument", "scope"])
def test_registry_of_other_programs_is_not_used(tmp_path, how):
    model = narrow("resnet18")
    model.save(tmp_path / "net.keras")
    mine = {"BatchNormalization": Mine, "Orthogonal": Mine}
    if how == "argument":
        loaded = keras.models.load_model(tmp_path / "net.keras", custom_objects=mine)
    else:
        with keras.saving.custom_object_scope(mine):
            loaded = keras.models.load_model(tmp_path / "net.keras")
    assert not any(isinstance(layer, Mine) for layer in loaded.layers)
    x = batch(model)
    np.testing.assert_allclose(outputs(loaded, x), outputs(model, x), atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), [("resnet18", {}), ("plain20_cifar", {"init": "looks_linear"})], ids=str)
def test_files_of_earlier_versions_open(tmp_path, name, changes):
    """They hold the registered names of the fused norm and the initializer."""
    model = narrow(name, **changes)
    model.save(tmp_path / "now.keras")
    with zipfile.ZipFile(tmp_path / "now.keras") as now, zipfile.ZipFile(tmp_path / "before.keras", "w") as before:
        for member in now.namelist():
            content = now.read(member)
            if member == "config.json":
                config = json.loads(content)
                count = sum(_register(config))
                content = json.dumps(config)
            before.writestr(member, content)
    assert count > 4
    x = batch(model)
    for loaded in (
        keras.models.load_model(tmp_path / "before.keras"),
        reszoo.from_checkpoint(tmp_path / "before.keras").model,
    ):
        np.testing.assert_allclose(outputs(loaded, x), outputs(model, x), atol=1e-5)
        assert reszoo.spec_of(loaded) == reszoo.spec_of(model)


def _register(config):
    if isinstance(config, dict):
        if config.get("class_name") in ("BatchNormalization", "Orthogonal"):
            config["registered_name"] = config["class_name"]
            yield 1
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _register(value)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused operation is TensorFlow's")
@pytest.mark.parametrize(
    ("policy", "fused"),
    [
        ("float32", True),
        ("mixed_bfloat16", True),
        ("mixed_float16", True),
        ("bfloat16", False),
        ("float16", False),
        ("float64", False),
    ],
)
def test_norm_is_fused_where_the_operation_supports_it(policy, fused):
    import tensorflow as tf

    layer = batch_normalization(dtype=policy)
    layer.build((None, 4, 4, 8))
    spec = tf.TensorSpec((2, 4, 4, 8), layer.compute_dtype)
    for training in (True, False):
        graph = tf.function(lambda x, training=training: layer(x, training=training)).get_concrete_function(spec).graph
        kinds = {op.type for op in graph.get_operations()}
        assert ("FusedBatchNormV3" in kinds) is fused


def test_unpickling_needs_no_import_of_reszoo(tmp_path):
    model = narrow("resnet18")
    (tmp_path / "net.pickle").write_bytes(pickle.dumps(model))
    code = "import pickle; print(type(pickle.load(open('net.pickle', 'rb'))).__name__)"
    assert python(code, without_reszoo=True, folder=tmp_path).strip() == "Functional"
