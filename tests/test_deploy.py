"""Deployment: files give the network's outputs in their own runtimes; others are refused and not written."""

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import needs, python, refused

import reszoo
from reszoo.data.sources import Scaling
from reszoo.deployment import check, examples
from reszoo.deployment.formats import FORMATS, format_for
from reszoo.deployment.network import Network
from reszoo.deployment.prepare import prepare
from reszoo.deployment.signature import random_inputs

TINY = {"depths": 1, "width_multiplier": 0.5, "classes": 7, "input_shape": (16, 16, 3)}
SMALL = {"depths": 1, "widths": [8, 16, 16, 24], "stem": {"width": 8}, "classes": 7, "input_shape": (32, 32, 3)}
NEEDS = {name: needs(*entry.libraries("int8")) for name, entry in FORMATS.items()}
PIXELS = Scaling(255.0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def moved(model, seed=0):
    """A model whose norms and biases are far from their initial values, so that every path counts."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("beta", "bias", "moving_mean")):
            weight.assign(random.normal(size=weight.shape) * 0.3)
    return model


@pytest.fixture(scope="module")
def tiny():
    return moved(reszoo.resnet20_cifar(**TINY))


@pytest.fixture(scope="module")
def images():
    """Images of three classes by brightness, as bytes."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    return (random.integers(0, 80, (120, 16, 16, 3)) + labels[:, None, None, None] * 80).astype("uint8"), labels


class TestSettings:
    """Errors that come before Keras does any work: a string that names no network is never opened."""

    @pytest.mark.parametrize(
        ("settings", "texts"),
        [
            ({"format": "onxn"}, ["deploy.format", "did you mean 'onnx'"]),
            ({"format": "saved_model", "quantize": "int8"}, ["saved_model", "'int8'", "litert"]),
            ({"format": "saved_model", "batch": 0}, ["deploy.batch", "at least 1"]),
            ({"format": "saved_model", "batch": True}, ["deploy.batch"]),
            ({"format": "saved_model", "examples": 0}, ["deploy.examples"]),
            ({"format": "saved_model", "max_loss": 1.5}, ["deploy.max_loss", "below 1"]),
            ({"format": "saved_model", "path": "there"}, ["there, which exists", "overwrite=True"]),
            ({"format": "saved_model", "path": "there", "overwrite": True}, ["no SavedModel", "not overwritten"]),
            ({"format": "saved_model", "path": "file", "overwrite": True}, ["which is no saved_model"]),
            ({"format": "saved_model"}, ["absent.keras", "no such file"]),
        ],
        ids=str,
    )
    def test_are_refused(self, settings, texts, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "precious").touch()
        (tmp_path / "file").touch()
        with refused(texts):
            reszoo.deploy("absent.keras", **{"path": "new", **settings})
        assert (tmp_path / "there" / "precious").is_file()

    def test_a_missing_runtime_gives_the_pip_line(self, monkeypatch):
        monkeypatch.setattr("reszoo.deployment.formats.find_spec", lambda name: None)
        with refused(["not installed: ai_edge_litert", "pip install ai-edge-litert", "reszoo[litert]"]):
            format_for("litert")

    def test_a_blocked_import_is_a_missing_runtime(self, monkeypatch):
        def block(name):
            raise ImportError(name)

        monkeypatch.setattr("reszoo.deployment.formats.find_spec", block)
        with refused(["not installed: onnx", "pip install onnx"]):
            format_for("onnx")

    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with refused(["file, which is a file", "a folder"]):
            reszoo.deploy("absent.keras", "saved_model", tmp_path / "file" / "deep" / "net")

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which root cannot make files")
    def test_a_folder_that_cannot_be_written(self):
        with refused(["deploy.path", "/proc/self"]):
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
            reszoo.deploy(model, "saved_model", "/proc/self/folder/net")

    @pytest.mark.parametrize("name", ["two\nlines", " ", "\udcff"], ids=ascii)
    def test_labels_that_a_file_cannot_hold(self, name):
        from reszoo.deployment.network import open_network

        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        with refused(["deploy.labels", "printable"]):
            open_network(model, True, ["fine", name])

    @NEEDS["onnx"]
    def test_8_bits_need_data(self, tmp_path):
        with refused(["deploy.data", "calibration"]):
            reszoo.deploy("absent.keras", "onnx", tmp_path / "net", quantize="int8")

    @NEEDS["onnx"]
    def test_another_suffix(self, tmp_path):
        with refused(["model.tflite", ".onnx"]):
            reszoo.deploy("absent.keras", "onnx", tmp_path / "model.tflite")

    def test_a_damaged_file_is_refused_without_tensorflow(self, tmp_path):
        (tmp_path / "a.keras").write_bytes(b"PK not an archive")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").touch()
        code = "import sys, reszoo\nfor name in ('a.keras', 'run'):\n try: reszoo.deploy(name, 'saved_model', 'x')\n"
        code += " except reszoo.ReszooError as error: print(error)\nprint('tensorflow' in sys.modules)"
        output = python(code, folder=tmp_path)
        assert "zip archive" in output and "an unfinished run" in output and output.endswith("False\n")


class TestComparison:
    """Of outputs alone, without files."""

    @staticmethod
    def compare(before, after, **settings):
        defaults = {"activations": {"y": "linear"}, "labels": None, "exact": True}
        return check.compare({"y": np.array(before)}, {"y": np.array(after)}, **{**defaults, **settings})

    def test_probabilities_are_compared_as_logits(self):
        # The probabilities differ by 1e-6, the logits by 0.7: a fault that the first number hides.
        before, after = [[1 - 1e-6, 1e-6]], [[1 - 2e-6, 2e-6]]
        assert self.compare(before, after).difference < 2e-6
        assert self.compare(before, after, activations={"y": "softmax"}).difference > 0.01

    @pytest.mark.parametrize("number", [np.nan, np.inf], ids=str)
    def test_outputs_that_are_not_finite_are_refused(self, number):
        comparison = self.compare([[1.0, 2.0]], [[1.0, number]])
        assert "NaN" in check.fault(comparison, None, 0.01) and "NaN" in check.fault(comparison, "int8", 0.5)

    def test_the_limit_follows_the_precision(self):
        comparison = self.compare([[1.0, 2.0]], [[1.0, 2.002]])
        assert check.fault(comparison, None, 0.01) and not check.fault(comparison, "float16", 0.01)

    def test_int8_may_lose_as_much_accuracy_as_asked(self):
        before, labels = np.eye(2)[np.arange(100) % 2], np.arange(100) % 2
        after = before.copy()
        after[:2] = after[:2, ::-1]
        comparison = self.compare(before, after, labels=labels)
        assert comparison.accuracy == 0.98 and comparison.accuracy_before == 1.0 and comparison.agreement == 0.98
        assert "0.9800" in check.fault(comparison, "int8", 0.01) and not check.fault(comparison, "int8", 0.02)

    def test_int8_of_other_classes_is_refused_without_labels(self):
        before = np.eye(2)[np.arange(100) % 2]
        comparison = self.compare(before, np.concatenate([before[:10, ::-1], before[10:]]))
        assert comparison.accuracy is None and "90.0%" in check.fault(comparison, "int8", 0.01)

    def test_int8_of_other_numbers_is_refused_without_classes(self):
        before = np.eye(2)[np.arange(10) % 2]
        comparison = self.compare(before, before[:, ::-1], classes=False)
        assert comparison.agreement is None and "100.0%" in check.fault(comparison, "int8", 0.5)
        assert not check.fault(self.compare(before, before + 0.01, classes=False), "int8", 0.01)

    def test_every_output_has_its_own_scale(self):
        before = {"large": np.full((2, 1), 1e6), "small": np.ones((2, 1))}
        after = before | {"small": np.zeros((2, 1))}
        activations = dict.fromkeys(before, "linear")
        comparison = check.compare(before, after, activations=activations, labels=None, exact=True)
        assert comparison.difference == 1.0

    def test_several_labels_agree_one_by_one(self):
        before = np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.7]])
        after = np.array([[0.9, 0.4, 0.1], [0.2, 0.9, 0.7]])
        settings = {"activations": {"y": "sigmoid"}, "exact": False}
        assert self.compare(before, after, **settings).agreement == pytest.approx(5 / 6)

    def test_a_network_that_answers_nan_is_refused(self):
        comparison = self.compare([[1.0, np.nan]], [[1.0, 2.0]])
        assert check.fault(comparison, None, 0.01) and check.fault(comparison._replace(agreement=None), "int8", 0.01)

    def test_integers_do_not_wrap_around(self):
        assert self.compare(np.array([[1]], "uint8"), np.array([[2]], "uint8")).difference == 1.0

    def test_other_outputs_are_refused(self):
        with refused(["(1, 2)", "(1, 3)"]):
            self.compare(np.zeros((1, 3)), np.zeros((1, 2)))

    def test_outputs_that_do_not_depend_on_the_example_are_noticed(self):
        assert not self.compare(np.ones((4, 3)), np.ones((4, 3))).varied
        assert self.compare(np.eye(3), np.eye(3)).varied

    def test_a_fixed_batch_is_filled_up(self):
        sizes = []
        outputs = check.run(lambda x: sizes.append(len(x)) or {"y": 2 * x}, np.arange(5.0)[:, None], 2)
        assert sizes == [2, 2, 2] and outputs["y"].ravel().tolist() == [0, 2, 4, 6, 8]


@pytest.fixture(scope="module")
def prepared():
    """A model of bytes in, without a network of any size."""
    inputs = keras.Input((4, 4, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(pooled))
    return prepare(Network(model, PIXELS, False, ("a", "b", "c")), inside=True, size=None, quantize=None)


class TestExamples:
    """For the check and the calibration."""

    def chosen(self, prepared, data, calibration=None, **settings):
        settings = {"inside": True, "quantize": None, "limit": 1000} | settings
        return examples.check_set(prepared.network, prepared.exported, data, calibration, **settings)

    @staticmethod
    def arrays(count, low=0, high=255, dtype="uint8"):
        random = np.random.default_rng(count)
        return random.uniform(low, high, (count, 4, 4, 3)).astype(dtype), np.arange(count) % 3

    def test_preprocessing_is_in_the_model(self, prepared):
        x, _ = self.arrays(8)
        expected = prepared.network.model(PIXELS(x))
        assert prepared.exported.inputs[0].dtype == "uint8" and [*prepared.exported.output] == ["probabilities"]
        np.testing.assert_allclose(prepared.exported(x)["probabilities"], expected, atol=1e-6)

    def test_all_examples_of_plain_data_are_used(self, prepared):
        chosen = self.chosen(prepared, self.arrays(50))
        assert chosen.x.shape == (50, 4, 4, 3) and chosen.x.dtype == "uint8" and len(chosen.labels) == 50

    def test_int8_checks_on_held_out_examples(self, prepared):
        data = reszoo.open_data(self.arrays(300))
        chosen = self.chosen(prepared, data, quantize="int8")
        train = {row.tobytes() for row in data.train.x}
        assert len(chosen.x) == len(data.validation) and len(chosen.calibration) == 256
        assert all(row.tobytes() in train for row in chosen.calibration)
        assert not any(row.tobytes() in train for row in chosen.x)

    @pytest.mark.parametrize(
        ("arrays", "texts"),
        [
            ({"high": 1, "dtype": "float32"}, ["values from", "0 to 255", "scales them itself"]),
            ({"low": -2, "high": 2, "dtype": "float32"}, ["0 to 255"]),
            ({"high": 4000, "dtype": "float32"}, ["0 to 255"]),
        ],
        ids=str,
    )
    def test_another_range_is_refused(self, prepared, arrays, texts):
        with refused(texts):
            self.chosen(prepared, self.arrays(60, **arrays))

    def test_another_size_is_refused(self, prepared):
        with refused(["examples of shape (8, 8, 3)", "(4, 4, 3)"]):
            self.chosen(prepared, (np.zeros((40, 8, 8, 3), "uint8"), np.arange(40) % 3))

    @pytest.mark.parametrize(
        ("calibration", "texts"),
        [
            ({"count": 20}, ["deploy.calibration", "at least 32"]),
            ({"count": 80, "high": 20}, ["standard deviation", "same range"]),
            ({"count": 80, "low": 9, "high": 9.5}, ["one value"]),
        ],
        ids=str,
    )
    def test_a_calibration_that_cannot_be_right_is_refused(self, prepared, calibration, texts):
        with refused(texts):
            self.chosen(prepared, self.arrays(200), self.arrays(**calibration), quantize="int8")

    def test_labels_are_matched_by_name(self, prepared):
        data = reszoo.open_data(self.arrays(40))
        named = SimpleNamespace(**vars(data) | {"classes": ("c", "b", "a")})
        labels, notes = examples._labels(named, np.array([0, 2]), prepared.network, prepared.exported)
        assert labels.tolist() == [2, 0] and not notes
        other = SimpleNamespace(**vars(data) | {"classes": ("c", "d", "a")})
        labels, notes = examples._labels(other, np.array([0]), prepared.network, prepared.exported)
        assert labels is None and "no class 'd'" in notes[0]


class TestPrepare:
    def prepared(self, model, **settings):
        settings = {"inside": False, "size": None, "quantize": None} | settings
        return prepare(Network(model, None, False, ()), **settings)

    def test_mixed_precision_becomes_float32(self):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = moved(reszoo.resnet20_cifar(**TINY))
        finally:
            keras.config.set_dtype_policy("float32")
        prepared = self.prepared(model)
        assert {layer.compute_dtype for layer in prepared.network.model.layers} == {"float32"}
        assert any("mixed" in note for note in prepared.notes)
        for ours, theirs in zip(prepared.network.model.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_the_network_is_unchanged(self, tiny):
        before = [len(layer._inbound_nodes) for layer in tiny.layers]
        self.prepared(tiny)
        assert [len(layer._inbound_nodes) for layer in tiny.layers] == before
        assert reszoo.spec_of(tiny)

    def test_preprocessing_is_not_added_twice(self):
        from reszoo.deployment.network import open_network

        model = reszoo.resnet20_cifar(weights="fashion_mnist", input_shape=(28, 28, 1))
        network = open_network(model, True, True)
        assert network.scaling is not None and len(network.classes) == 10
        outer = open_network(reszoo.preprocessing(model, inside=True), True, True)
        assert outer.scaling is None and len(outer.classes) == 10

    @pytest.mark.parametrize("quantize", [None, "float16"], ids=str)
    def test_weights_that_do_not_fit_are_refused(self, quantize):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.layers[0].kernel.assign(np.full((3, 2), np.nan if quantize is None else 1e5))
        with refused(["kernel", "finite weights" if quantize is None else "65504"]):
            self.prepared(model, quantize=quantize)

    def test_other_models_are_refused(self):
        two = [keras.Input((3,)), keras.Input((3,))]
        with refused(["2 inputs", "one"]):
            self.prepared(keras.Model(two, keras.layers.Add()(two)), size=3)
        with refused(["strings", "numbers"]):
            self.prepared(keras.Sequential([keras.Input((3,), dtype="string"), keras.layers.Identity()]))
        first = keras.Sequential([keras.Input((3, 8, 8)), keras.layers.Conv2D(2, 3, data_format="channels_first")])
        with refused(["channels_first", "the weights are the same"]):
            self.prepared(first)
        with refused(["deploy.size", "(16, 16, 3)"]):
            self.prepared(moved(reszoo.resnet20_cifar(**TINY)), size=24)


class TestNetworksOfOthers:
    @pytest.mark.parametrize(
        ("settings", "layers", "low", "high"),
        [
            ({"dtype": "uint8"}, [keras.layers.Rescaling(1 / 255)], 0, 255),
            ({}, [keras.layers.Rescaling(1 / 255)], 0, 255),
            ({}, [], -9, 9),
            ({"dtype": "bool"}, [], 0, 1),
        ],
        ids=str,
    )
    def test_random_examples_are_as_the_network_takes_them(self, settings, layers, low, high):
        model = keras.Sequential([keras.Input((None, None, 3), **settings), *layers, keras.layers.Identity()])
        x = random_inputs(model, 5)
        assert x.shape == (5, 64, 80, 3) and x.dtype == settings.get("dtype", "float32")
        assert low <= x.min() < x.max() <= high and x.max() > 0.9 * (high if high != 9 else 3)

    def test_random_words_are_in_the_embedding(self):
        model = keras.Sequential([keras.Input((9,)), keras.layers.Embedding(11, 2)])
        assert {*random_inputs(model, 50).ravel()} == {*range(11)}

    def test_names_that_converters_refuse_are_replaced_in_a_copy(self):
        inputs = keras.Input((4,), name="my rows")
        outputs = keras.layers.Dense(2, name="größe 1")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(2, name="gr__e 1")(outputs), name="my net")
        prepared = prepare(Network(model, None, False, ()), inside=False, size=None, quantize=None)
        copies = [prepared.exported.name, *(layer.name for layer in prepared.network.model.layers)]
        assert all(name.isascii() and " " not in name for name in copies) and len({*copies}) == len(copies)
        assert [layer.name for layer in model.layers] == ["my rows", "größe 1", "gr__e 1"]
        x = np.ones((2, 4), "float32")
        np.testing.assert_array_equal(prepared.exported(x)["logits"], model(x))

    def test_several_inputs(self, tmp_path):
        a, b = keras.Input((4,), name="z"), keras.Input((3,), name="a", dtype="int32")
        x = keras.layers.Concatenate()([a, keras.ops.cast(b, "float32")])
        model = keras.Model({"first": a, "second": b}, [keras.layers.Dense(2)(x), keras.layers.Dense(1)(a)])
        artifact = reszoo.deploy(model, "saved_model", tmp_path / "served")
        assert artifact.difference < 1e-5 and artifact.examples == 33
        assert {*artifact.input.split(", float")} and "int32 (batch, 3)" in artifact.input
        with refused(["deploy.data", "2 inputs"]):
            reszoo.deploy(model, "saved_model", tmp_path / "other", data=(np.zeros((40, 4)), np.arange(40) % 2))

    def test_a_network_that_draws_at_inference_is_refused(self, tmp_path):
        class Noise(keras.layers.Layer):
            def __init__(self, **settings):
                super().__init__(**settings)
                self.seed = keras.random.SeedGenerator(1)

            def call(self, x):
                return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), Noise()])
        with refused(["change from call to call"]):
            reszoo.deploy(model, "saved_model", tmp_path / "served")

    @NEEDS["onnx"]
    @pytest.mark.slow
    def test_operations_that_tf2onnx_leaves(self, tmp_path):
        layers = keras.layers
        settings = {"crop_to_aspect_ratio": True, "antialias": True}
        images = keras.Input((None, None, 3))
        x = layers.Resizing(8, 8, **settings)(images, training=False)
        outputs = layers.Dense(3, activation="gelu")(layers.Flatten()(x))
        artifact = reszoo.deploy(keras.Model(images, outputs), "onnx", tmp_path / "net.onnx")
        assert artifact.difference < 1e-5 and artifact.input == "float32 (batch, height, width, 3)"


class TestFoldNorms:
    @pytest.mark.parametrize(
        ("name", "settings", "kept"),
        [
            ("resnet20_cifar", TINY, 0),
            ("preact_resnet18", SMALL, 5),
            ("resnext50_32x4d", SMALL | {"widths": [64, 64, 64, 64]}, 0),
            ("resnet18d", SMALL, 0),
            ("residual_mlp18", {"depths": 1, "input_shape": (5,), "classes": 3}, None),
        ],
        ids=str,
    )
    def test_has_the_outputs_of_the_network(self, name, settings, kept, caplog):
        model = moved(reszoo.create(name, **settings))
        before = model.get_weights()
        folded = reszoo.fold_norms(model)
        norms = [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert kept is None or len(norms) == kept
        assert not norms or f"{len(norms)} stay" in caplog.text
        x = np.random.default_rng(1).normal(size=(4, *model.input_shape[1:])).astype("float32")
        want, got = (np.asarray(each(x, training=False)) for each in (model, folded))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
        for ours, theirs in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_only_where_the_norm_alone_reads_a_linear_layer(self):
        layers = keras.layers
        x = inputs = keras.Input((8, 8, 3))
        x = layers.BatchNormalization(name="first")(layers.Conv2D(4, 3, activation="relu")(x))
        shared = layers.Conv2D(4, 3, padding="same")(x)
        x = layers.Add()([layers.BatchNormalization(name="second")(shared), shared])
        x = layers.BatchNormalization(name="third", scale=False)(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
        x = layers.BatchNormalization(name="fourth", center=False)(layers.Dense(5, use_bias=False)(x))
        model = moved(keras.Model(inputs, x))
        folded = reszoo.fold_norms(model)
        norms = [layer.name for layer in folded.layers if isinstance(layer, layers.BatchNormalization)]
        assert norms == ["first", "second"]

    def test_the_network_still_knows_its_classes(self):
        model = reszoo.resnet20_cifar(weights="fashion_mnist", input_shape=(28, 28, 1))
        folded = reszoo.fold_norms(model)
        assert reszoo.origin(folded).labels == reszoo.origin(model).labels is not None

    def test_sub_models_and_sequentials(self):
        inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()])
        inputs = keras.Input((8, 8, 3))
        folded = reszoo.fold_norms(moved(keras.Model(inputs, inner(inputs))))
        assert not any("BatchNorm" in type(layer).__name__ for layer in folded.layers[-1].layers)

    def test_models_without_such_norms_are_refused(self):
        inputs = keras.Input((4,))
        with refused(["no batch norm"]):
            reszoo.fold_norms(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
        with refused(["1 norms, none after"]):
            reszoo.fold_norms(keras.Model(inputs, keras.layers.BatchNormalization()(inputs)))


class TestFiles:
    """Opened in their own runtimes, from what is in the file alone."""

    def test_saved_model(self, tmp_path):
        tiny = reszoo.tabular_resnet(depths=1, input_shape=(8,), classes=3)
        artifact = reszoo.deploy(tiny, "saved_model", tmp_path / "served")
        assert artifact.size > 1000 and not artifact.real and artifact.agreement == 1.0 and artifact.difference < 1e-4
        assert any("random" in note for note in artifact.notes)
        assert [path.name for path in tmp_path.iterdir()] == ["served"]
        with refused(["served, which exists", "overwrite=True"]):
            reszoo.deploy(tiny, "saved_model", tmp_path / "served")
        assert json.loads(artifact.to_json())["format"] == "saved_model" and "random" in artifact._repr_html_()

    @NEEDS["onnx"]
    @pytest.mark.slow
    def test_a_run_becomes_onnx(self, images, tmp_path, monkeypatch):
        """From training to a file that takes bytes, names its classes, and is opened without TensorFlow."""
        monkeypatch.chdir(tmp_path)
        x, y = images
        for part, rows in (("train", slice(0, 90)), ("val", slice(90, 120))):
            for name in ("dark", "gray", "light"):
                (tmp_path / "photos" / part / name).mkdir(parents=True)
            from PIL import Image

            for index in range(120)[rows]:
                folder = tmp_path / "photos" / part / ("dark", "gray", "light")[y[index]]
                Image.fromarray(x[index]).save(folder / f"{index}.png")
        settings = {"recipe": "cifar_he2015", "changes": {"depths": 1, "width_multiplier": 0.5}, "epochs": 2}
        data = reszoo.open_data("photos", size=16)
        reszoo.train("resnet20_cifar", data, output=tmp_path / "run", verbose=0, **settings)
        command = ["deploy", "run", "--to", "onnx", "--data", "photos", "--output", "net.onnx"]
        from typer.testing import CliRunner

        from reszoo.cli.screen import app

        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0 and "Saved to net.onnx" in result.output and "30 real" in result.output
        code = """
import sys; sys.modules["tensorflow"] = sys.modules["keras"] = None
import numpy, onnxruntime
session = onnxruntime.InferenceSession("net.onnx")
(tensor,) = session.get_inputs()
print(tensor.type, tensor.shape, session.get_modelmeta().custom_metadata_map["labels"].split())
for count in (1, 3):
    outputs = session.run(["probabilities"], {tensor.name: numpy.zeros((count, 16, 16, 3), "uint8")})
    print(outputs[0].shape, outputs[0].sum().round(3))
"""
        lines = python(code, folder=tmp_path).splitlines()
        assert lines[0] == "tensor(uint8) ['batch', 16, 16, 3] ['dark', 'gray', 'light']"
        assert lines[1:] == ["(1, 3) 1.0", "(3, 3) 3.0"]

    @NEEDS["onnx"]
    @pytest.mark.slow
    @pytest.mark.parametrize("quantize", [None, "float16"], ids=str)
    def test_grouped_convolutions_in_onnx(self, quantize, tmp_path):
        model = moved(reszoo.resnext50_32x4d(**SMALL | {"widths": [64, 64, 64, 64], "classifier_activation": None}))
        artifact = reszoo.deploy(model, "onnx", tmp_path / "net", quantize=quantize, batch=2)
        assert artifact.difference < (1e-4 if quantize is None else 2e-2) and artifact.outputs == ("logits",)
        assert artifact.input == "float32 (2, 32, 32, 3)"
        import onnx

        kinds = {node.op_type for node in onnx.load(artifact.path).graph.node}
        assert "Conv" in kinds and "StatefulPartitionedCall" not in kinds

    @NEEDS["onnx"]
    @pytest.mark.slow
    @pytest.mark.parametrize("groups", [1, 2], ids=str)
    def test_constants_of_layers_in_onnx(self, groups, tmp_path):
        layers = keras.layers
        x = inputs = keras.Input((8, 8, 4))
        x = layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 9.0, 16.0])(x)
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, groups=groups)(x))
        artifact = reszoo.deploy(keras.Model(inputs, x), "onnx", tmp_path / "net.onnx")
        assert artifact.difference < 1e-4

    @NEEDS["openvino"]
    @pytest.mark.slow
    def test_group_norm_in_openvino(self, tmp_path):
        settings = {"norm": {"kind": "group", "groups": 4}, "block": {"attention": "se"}}
        artifact = reszoo.deploy(moved(reszoo.resnet18(**SMALL, **settings)), "openvino", tmp_path / "net.xml")
        assert artifact.difference < 1e-4 and any("default precision" in note for note in artifact.notes)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.xml"]

    @NEEDS["litert"]
    @pytest.mark.slow
    def test_names_of_features_in_litert(self, tiny, tmp_path):
        artifact = reszoo.deploy(reszoo.features(tiny), "litert", tmp_path / "net.tflite", batch=1)
        assert artifact.outputs == ("stage1", "stage2", "stage3") and artifact.difference < 1e-4
        with zipfile.ZipFile(artifact.path) as archive:
            assert json.loads(archive.read("reszoo.json"))["outputs"] == ["stage1", "stage2", "stage3"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "backend", [pytest.param("jax", marks=needs("jax")), pytest.param("torch", marks=needs("torch"))]
    )
    def test_another_backend(self, backend, tmp_path):
        code = """
import reszoo
model = reszoo.resnet20_cifar(depths=1, width_multiplier=0.5)
print(reszoo.deploy(model, "saved_model", "served").difference < 1e-4, len(reszoo.fold_norms(model).layers))
"""
        assert python(code, backend=backend, folder=tmp_path).splitlines()[-1].startswith("True ")

    def test_a_file_that_answers_wrongly_is_not_written(self, tiny, tmp_path, monkeypatch):
        """As a converter does that reports success and writes something else."""
        from reszoo.deployment import saved_models

        def program(path):
            return lambda x: {"probabilities": np.full((len(x), 7), np.nan)}

        monkeypatch.setattr(saved_models, "export", lambda model, path, order: path.mkdir() or ())
        monkeypatch.setattr(saved_models, "open_program", program)
        with refused(["saved_model: resnet20_cifar", "NaN or infinity", "nothing was written"]):
            reszoo.deploy(tiny, "saved_model", tmp_path / "served")
        monkeypatch.setattr(saved_models, "open_program", lambda path: lambda x: {"probabilities": np.eye(7)[:1]})
        with refused(["expected", "(33, 7)"]):
            reszoo.deploy(tiny, "saved_model", tmp_path / "served")
        assert [*tmp_path.iterdir()] == []

    def test_a_converter_that_fails_is_named(self, tiny, tmp_path, monkeypatch):
        from reszoo.deployment import saved_models

        def export(model, path, order):
            raise RuntimeError("no such operation: Frobnicate")

        monkeypatch.setattr(saved_models, "export", export)
        with refused(["saved_model", "Frobnicate"]):
            reszoo.deploy(tiny, "saved_model", tmp_path / "served")


@pytest.mark.slow
@pytest.mark.parametrize("format", [pytest.param(name, marks=NEEDS[name]) for name in ("onnx", "litert", "openvino")])
def test_trained_network_in_8_bits(format, shared, tmp_path):
    file = shared / "weights" / "cifar10_resnet20_option_a.th"
    settings = {"classifier_activation": "softmax", "input_shape": (32, 32, 3)}
    model = reszoo.from_checkpoint(file, **settings).model
    data = shared / "data" / "cifar10_test_first1000_lossless.npz"
    calibration = shared / "data" / "cifar10_train_lossless4000.npz"
    scaling = Scaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    artifact = reszoo.deploy(
        model, format, tmp_path / "net", quantize="int8", data=data, calibration=calibration, preprocessing=scaling
    )
    assert artifact.examples >= 100 and artifact.real
    assert artifact.accuracy >= artifact.accuracy_before - 0.01 and artifact.agreement > 0.95
    assert artifact.size < 600_000


def test_noise_of_rounding_names_the_layer(prepared):
    from reszoo.deployment.rounding import layer_noise

    layers = keras.layers
    inputs = keras.Input((8,))
    x = layers.Dense(4, name="even")(inputs)
    model = keras.Model(inputs, layers.Dense(4, name="spiky")(x))
    model.get_layer("spiky").kernel.assign(np.r_[[[1e3] * 4], np.ones((3, 4)) * 1e-3])
    noise = layer_noise(model, np.random.default_rng(0).normal(size=(32, 8)).astype("float32"))
    assert noise[0].weights < 200 and {row.name for row in noise} == {"even", "spiky"}
    assert min(noise, key=lambda row: row.activations).name in ("even", "spiky")


class TestBench:
    def test_rows(self):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        result = reszoo.bench(model, formats="predict,train", batch=(1, 2), seconds=0.01)
        assert [(row.format, row.batch) for row in result.timings] == [
            *(("predict", 1), ("train", 1), ("predict", 2), ("train", 2))
        ]
        assert all(0 < row.least <= row.milliseconds for row in result.timings)
        assert [row[4] for row in result.rows() if row[0] == "predict"] == ["1", "1"]
        assert len(json.loads(result.to_json())["timings"]) == 4

    @NEEDS["openvino"]
    @pytest.mark.slow
    def test_threads(self):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        result = reszoo.bench(model, formats="predict,openvino", threads=(1, 2), seconds=0.01)
        rows = [(row.format, row.threads) for row in result.timings]
        assert rows == [("predict", None), ("openvino", 1), ("openvino", 2)]
        assert [row[-1] for row in result.rows()] == ["-", "1", "2"]

    @pytest.mark.parametrize(
        ("settings", "texts"),
        [
            ({"formats": "onxx"}, ["bench.formats", "onnx"]),
            ({"batch": 0}, ["bench.batch"]),
            ({"threads": 0}, ["bench.threads"]),
            ({"batch": ()}, ["batch"]),
        ],
        ids=str,
    )
    def test_invalid_settings_are_refused(self, settings, texts):
        with refused(texts):
            reszoo.bench("absent.keras", **settings)


@needs("onnxruntime", "onnx", "tf2onnx")
@pytest.mark.slow
def test_served_over_http(tmp_path):
    """The example deploys a network, serves it on 127.0.0.1 and asks it over HTTP."""
    file = str(Path(__file__).parents[1] / "examples" / "serve.py")
    code = f"import runpy; runpy.run_path({file!r}, run_name='__main__')"
    answer = json.loads(python(code, folder=tmp_path).splitlines()[-1])
    assert len(answer) == 2 and abs(sum(answer[0].values()) - 1) < 1e-3 and "cat" in answer[0]
