"""The names of keras.applications: only the import line of a program changes."""

import inspect

import keras
import numpy as np
import pytest
from conftest import python, refused

import reszoo
from reszoo import applications
from reszoo.weights import download

V1, V2 = ("ResNet50", "ResNet101", "ResNet152"), ("ResNet50V2", "ResNet101V2", "ResNet152V2")
SMALL = {"weights": None, "input_shape": (64, 48, 3)}


def randomised(model):
    """Random running statistics, too: fresh ones hide a wrong epsilon."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = [random.uniform(0.5, 1.5, w.shape) if i in (0, 3) else w for i, w in enumerate(weights)]
            weights[1] = random.normal(0, 0.1, weights[1].shape)
        elif len(weights) == 2:
            weights[1] = random.normal(0, 0.1, weights[1].shape)
        layer.set_weights(weights)
    return model


@pytest.mark.parametrize("name", [*V1, *V2])
def test_the_signature_is_that_of_keras(name):
    assert inspect.signature(getattr(applications, name)).parameters.keys() == (
        inspect.signature(getattr(keras.applications, name)).parameters.keys()
    )
    for theirs in inspect.signature(getattr(keras.applications, name)).parameters.values():
        ours = inspect.signature(getattr(applications, name)).parameters[theirs.name]
        assert (ours.default, ours.kind) == (theirs.default, theirs.kind)


@pytest.mark.parametrize("module", ["resnet", "resnet50", "resnet_v2", ""], ids=lambda value: value or "applications")
def test_every_name_of_the_modules_is_there(module):
    def public(package):
        package = getattr(package, module) if module else package
        return {
            name
            for name in dir(package)
            if name.startswith("ResNet") or name in ("preprocess_input", "decode_predictions")
        }

    assert public(keras.applications) == public(applications)


def test_outputs_are_those_of_keras_with_the_same_weights(tmp_path):
    theirs = randomised(keras.applications.ResNet50(**SMALL, classifier_activation=None))
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    keras.backend.clear_session()
    ours = applications.ResNet50(
        weights=tmp_path / "theirs.weights.h5", input_shape=(64, 48, 3), classifier_activation=None
    )
    x = np.random.default_rng(1).normal(0, 60, (2, 64, 48, 3)).astype("float32")
    expected, outputs = (keras.ops.convert_to_numpy(model(x, training=False)) for model in (theirs, ours))
    np.testing.assert_allclose(outputs, expected, atol=2e-4 * float(np.abs(expected).max()))
    assert ours.name == theirs.name == "resnet50" and ours.count_params() == theirs.count_params()
    assert reszoo.spec_of(ours).block.stride_at == 1


CALLS = [
    {"include_top": False, "weights": None},
    {"include_top": False, "weights": None, "pooling": "max", "input_shape": (64, 64, 1)},
    {"weights": None, "classes": 7, "classifier_activation": None, "name": "mine"},
    {"weights": None, "input_shape": (64, 64, 3), "pooling": "avg"},
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "ResNet152", "ResNet50V2"])
@pytest.mark.parametrize("arguments", CALLS, ids=str)
def test_shapes_and_counts_are_those_of_keras(name, arguments):
    ours, theirs = (getattr(package, name)(**arguments) for package in (applications, keras.applications))
    assert (ours.input_shape, ours.output_shape, ours.count_params(), ours.name) == (
        theirs.input_shape,
        theirs.output_shape,
        theirs.count_params(),
        theirs.name,
    )


@pytest.mark.parametrize("module", ["resnet", "resnet50", "resnet_v2"])
def test_preprocessing_and_names_are_those_of_keras(module):
    ours, theirs = getattr(applications, module), getattr(keras.applications, module)
    x = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(ours.preprocess_input(x.copy()), theirs.preprocess_input(x.copy()))
    scores = np.zeros((1, 1000), "float32")
    scores[0, [207, 208]] = 0.25, 0.75
    [[first, second]] = ours.decode_predictions(scores, top=2)
    assert first == ("n02099712", "Labrador_retriever", 0.75) and second[0] == "n02099601"
    assert len(ours.decode_predictions(scores)[0]) == 5
    with refused(["decode_predictions", "(1, 10)", "(images, 1000)"]):
        ours.decode_predictions(scores[:, :10])


def test_bad_arguments_are_refused_before_anything_is_built():
    with refused(["ResNet50.classes", "got 7", "1000"]):
        applications.ResNet50(classes=7)
    for arguments, texts in (
        ({"weights": "nofile.h5"}, ["nofile.h5"]),
        ({"weights": None, "pooling": "median"}, ["pooling", "median"]),
        ({"weights": None, "input_shape": (16, 16, 3)}, ["input_shape", "32"]),
    ):
        with refused(texts):
            applications.ResNet50(**arguments)


def test_without_internet_the_error_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RESZOO_HOME", str(tmp_path))
    monkeypatch.setenv("RESZOO_OFFLINE", "1")
    file = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    with refused(["resnet50_v1.keras_in1k", "offline", f"put {file} into {tmp_path}"]):
        applications.ResNet50()

    def get_file(*arguments, **keywords):
        raise Exception("URL fetch failure on https://x/y.h5: None -- no route")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    builder = inspect.getmodule(keras.applications.ResNet50V2)
    monkeypatch.setattr(inspect.getmodule(inspect.unwrap(builder.resnet.ResNet)).file_utils, "get_file", get_file)
    with refused(["ResNet50V2.weights", "no connection", "no route", str(tmp_path / "models")]):
        applications.ResNet50V2()


def test_a_file_that_keras_has_downloaded_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("RESZOO_HOME", raising=False)
    monkeypatch.setenv("RESZOO_OFFLINE", "1")
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "a.h5"
    path.write_bytes(b"weights")
    entry = reszoo.record("resnet50_v1.keras_in1k").files[0]
    good = entry.model_copy(update={"url": "https://x/a.h5", "md5": download.digest(path, "md5")})
    assert download.fetch("name", [good]) == path
    with refused(["offline"]):
        download.fetch("name", [good.model_copy(update={"md5": "0" * 32})])


HINTS = [
    ("ResNet50", "did you mean 'resnet50'", "reszoo.applications.ResNet50"),
    ("ResNet152V2", "", "reszoo.applications.ResNet152V2"),
    ("preprocess_input", "", "reszoo.preprocessing(model)"),
]


@pytest.mark.parametrize(("name", "near", "elsewhere"), HINTS)
def test_names_of_keras_at_the_top_are_answered(name, near, elsewhere):
    with pytest.raises(AttributeError) as caught:
        getattr(reszoo, name)
    assert near in str(caught.value) and elsewhere in str(caught.value)


def test_the_import_line_loads_no_keras():
    code = (
        "import sys; from reszoo.applications import ResNet50; from reszoo.applications.resnet_v2 import ResNet50V2\n"
    )
    assert python(code + "print('keras' in sys.modules)").strip() == "False"
