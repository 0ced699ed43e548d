"""What a network knows of its inputs and classes, ranges of pixels, predictions and measures of every task."""

import csv
import dataclasses
import io
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import python, refused
from PIL import Image
from rich.console import Console
from sklearn import metrics as sklearn_metrics
from typer.testing import CliRunner

import reszoo
from reszoo.arch.facts import facts_in, read_facts
from reszoo.cli import app, screen
from reszoo.cli.screen import escaped, say
from reszoo.data.dataset import digest, range_of
from reszoo.data.ranges import Range, scaling_for_range, value_range
from reszoo.data.sources import Data, Scaling
from reszoo.files import strict_json
from reszoo.report.evaluation import evaluation_page
from reszoo.report.tables import table
from reszoo.report.write import write
from reszoo.training.evaluate import dash
from reszoo.training.evaluation_data import class_indices, select
from reszoo.training.metadata import (
    DataWarning,
    Metadata,
    metadata_from,
    read_file,
    read_metadata,
    scaling_for,
    scaling_of_weights,
)
from reszoo.training.metrics import average_precision, class_metrics, regression
from reszoo.training.network import open_network, probabilities
from reszoo.training.predict import Predictions, as_csv, as_json, write_predictions
from reszoo.training.train import scaled_for
from reszoo.weights.origin import preprocessing_in

COLORS = reszoo.Preprocessing(resize=8, crop=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
CLASSES = ["ant", "bee", "cat"]
SMALL = {"depths": 1, "width_multiplier": 0.25, "input_shape": (8, 8, 3), "classes": 3}
pytestmark = pytest.mark.filterwarnings("ignore::reszoo.training.metadata.DataWarning")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("uint8")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of random weights in a file, and the model."""
    keras.utils.set_random_seed(0)
    model = reszoo.resnet20_cifar(**SMALL)
    return reszoo.save(model, tmp_path_factory.mktemp("net") / "a.keras", classes=CLASSES, preprocessing=COLORS), model


# What a network knows.


def copies(file, model):
    """Ways to get another network from one, with the names of its classes afterwards."""
    wrapped = keras.Model(entry := keras.Input((8, 8, 3)), model(entry))
    yield "clone_model", keras.models.clone_model(model), CLASSES
    yield "load_model", keras.saving.load_model(file), CLASSES
    yield "replace_head", reszoo.replace_head(model, classes=5), None
    yield "deepen", reszoo.deepen(model, stage=1), CLASSES
    yield "to_plain", reszoo.to_plain(model), CLASSES
    yield "wrapped", wrapped, CLASSES
    yield "Sequential", keras.Sequential([keras.Input((8, 8, 3)), model]), CLASSES
    yield "own head", keras.Model(model.input, keras.layers.Dense(3)(model.get_layer("head_pool").output)), None
    reszoo.freeze(model)
    yield "freeze", model, CLASSES


def test_facts_survive_whatever_makes_another_network(network, tmp_path):
    for name, copy, classes in copies(*network):
        origin = reszoo.origin(copy)
        assert (origin.preprocessing, origin.labels) == (COLORS, classes), name
        if name in ("replace_head", "wrapped", "own head"):
            copy.save(tmp_path / "copy.keras")
            facts, _ = read_file(tmp_path / "copy.keras")
            assert preprocessing_in(facts) == COLORS and facts.get("classes") == classes, name
    layers = reszoo.preprocessing(keras.saving.load_model(network[0]))
    np.testing.assert_allclose(np.asarray(layers(IMAGES)), (IMAGES / 255 - COLORS.mean) / COLORS.std, atol=1e-5)


def test_replace_head_keeps_dtype_policy_and_preprocessing_layers():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = reszoo.resnet20_cifar(**SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    for result in (reszoo.replace_head(half, classes=5), reszoo.deepen(half, stage=1)):
        assert result.get_layer("stem_conv").compute_dtype == "bfloat16"
    model = reszoo.resnet20_cifar(**SMALL | {"input_shape": (28, 28, 1), "width_multiplier": 0.5})
    reszoo.save(model, "/dev/null.keras") if False else None
    gray = reszoo.Preprocessing(resize=32, crop=28, mean=(0.3,), std=(0.4,), channels="gray")
    inside = keras.models.clone_model(model)
    inside = with_preprocessing(inside, gray)
    replaced = reszoo.replace_head(inside, classes=5)
    assert replaced.input_shape == (None, None, None, 1) and replaced.output_shape == (None, 5)
    assert [layer.name for layer in replaced.layers[:-1]] == [layer.name for layer in inside.layers[:-1]]
    x = np.random.default_rng(0).integers(0, 256, (2, 40, 44, 1)).astype("float32")
    trunks = [keras.Model(m.input, m.get_layer("normalize").output) for m in (inside, replaced)]
    np.testing.assert_array_equal(*(np.asarray(trunk(x)) for trunk in trunks))
    with refused(["preprocessing", "'rescale' scales images already"]):
        reszoo.preprocessing(replaced)
    headed = keras.Sequential([keras.Input((28, 28, 1)), model, keras.layers.Dense(2)])
    with refused(["replace_head", "layers after the network", "get_layer('resnet20_cifar')"]):
        reszoo.replace_head(headed, classes=5)


def with_preprocessing(model, settings):
    from reszoo.arch.facts import write_facts

    write_facts(model, {"preprocessing": settings.model_dump(mode="json")})
    return reszoo.preprocessing(model, inside=True)


def test_softmax_of_one_class_is_refused(network):
    with refused(["classifier_activation", "always 1", "sigmoid"]):
        reszoo.resnet20_cifar(classes=1)
    with refused(["replace_head.activation", "always 1", "sigmoid"]):
        reszoo.replace_head(network[1], classes=1)
    assert reszoo.resnet20_cifar(**SMALL | {"classes": 1}, classifier_activation="sigmoid").output_shape == (None, 1)


def test_reestimate_norm_takes_an_array(network):
    model = keras.models.clone_model(network[1])
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
    assert reszoo.reestimate_norm(model, x, batch=16) == 3
    with refused(["reestimate_norm", "(2, 9, 8, 3)", "(None, 8, 8, 3)"]):
        reszoo.reestimate_norm(model, x[:2, :1].repeat(9, axis=1))
    with refused(["reestimate_norm", "(8, 8, 3)"]):
        reszoo.reestimate_norm(model, list(x))


def test_save_names_what_is_missing(network, tmp_path):
    bare = reszoo.resnet20_cifar(**SMALL)
    for settings, texts in (
        ({}, ["save.classes", "no names of classes", "3 different names"]),
        ({"classes": ["a", "b"]}, ["save.classes", "2 names"]),
        ({"classes": ["a", "a", "b"]}, ["save.classes"]),
        ({"classes": CLASSES}, ["save.preprocessing", "unknown preprocessing", "inside, none"]),
        ({"classes": CLASSES, "preprocessing": "resnet50.tv3"}, ["unknown weights"]),
        ({"classes": CLASSES, "task": "ranking"}, ["save.task", "multilabel"]),
    ):
        with refused(texts):
            reszoo.save(bare, tmp_path / "a.keras", **settings)
    with refused(["save", ".keras"]):
        reszoo.save(bare, tmp_path / "a.h5", classes=CLASSES)
    assert not [*tmp_path.iterdir()]
    bare.save(tmp_path / "plain.keras")
    for call in (reszoo.evaluate, reszoo.predict):
        with refused(["plain.keras", "no metadata about its data", "reszoo.save(model, path, classes="]):
            call(tmp_path / "plain.keras", tmp_path if call is reszoo.predict else (IMAGES, [0, 1, 2] * 2))


@pytest.mark.slow
def test_a_saved_file_opens_without_reszoo(network, tmp_path):
    file, model = network
    np.save(tmp_path / "x.npy", IMAGES.astype("float32"))
    np.save(tmp_path / "y.npy", np.asarray(model(IMAGES.astype("float32"))))
    code = (
        "import keras, numpy as np\n"
        f"actual = keras.saving.load_model({str(file)!r})(np.load('x.npy'))\n"
        "print(abs(np.asarray(actual) - np.load('y.npy')).max())"
    )
    assert float(python(code, without_reszoo=True, folder=tmp_path)) < 1e-5


def test_weights_bring_their_own_scaling(network, tmp_path):
    """A run that starts from the weights of another run scales its images as that one did."""
    file, model = network
    dark = reszoo.open_data((IMAGES.repeat(4, axis=0) // 4, np.arange(24) % 3))
    scaling = scaled_for(file, reszoo.spec_of(model), dark).scaling
    assert scaling == Scaling(255.0, COLORS.mean, COLORS.std) and scaling != dark.scaling
    floats = reszoo.open_data(((IMAGES.repeat(4, axis=0) / 255).astype("float32"), np.arange(24) % 3))
    assert scaled_for(file, reszoo.spec_of(model), floats).scaling == Scaling(1.0, COLORS.mean, COLORS.std)
    rows = reszoo.open_data((np.arange(40.0).reshape(20, 2), np.arange(20) % 2))
    facts = {"scaling": {"scale": 1.0, "mean": [3.0, 4.0], "std": [1.0, 2.0]}}
    assert scaling_of_weights(facts, rows) == Scaling(1.0, (3.0, 4.0), (1.0, 2.0))
    assert scaling_of_weights({}, rows) == rows.scaling


def test_a_configuration_beside_weights_says_how_to_scale(shared, tmp_path):
    folder = shutil.copytree(shared / "weights" / "hf_resnet_basic_tiny", tmp_path / "hf")
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    settings = {"size": {"shortest_edge": 32}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    model = reszoo.from_checkpoint(folder).model
    data = reszoo.open_data((IMAGES.repeat(4, axis=0), np.arange(24) % 3))
    scaling = scaled_for(folder, reszoo.spec_of(model), data).scaling
    assert scaling == Scaling(255.0, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert reszoo.origin(model).preprocessing.mean == scaling.mean


BEFORE = [
    ({"scale": 255.0, "mean": [0.5], "std": [0.2]}, 255.0),
    ({"scale": 16.0, "mean": [0.5], "std": [0.2]}, 16.0),
    ({"scale": 1.0, "mean": [0.5], "std": [0.2]}, 1.0),
    ({"scale": 1.0, "mean": [-0.1], "std": [1.0]}, None),
    ({"scale": 1.0, "mean": [103.0], "std": [1.0]}, 255.0),
]


@pytest.mark.parametrize(("scaling", "white"), BEFORE)
def test_files_of_the_version_before_have_a_range(scaling, white):
    facts = {"classes": ["a", "b"], "scaling": scaling, "data": "digits", "seed": 3}
    assert metadata_from(facts, where="a.keras").white == white


# Ranges.

RANGES = [
    (255.0, (0, 255, 255.0), 1.0),
    (255.0, (0, 1, 1.0), 1 / 255),
    (255.0, (0, 65535, 65535.0), 257.0),
    (255.0, (-1, 1, None), None),
    (255.0, (0, 4000, None), None),
    (1.0, (0, 255, 255.0), 255.0),
    (1.0, (-0.1, 1, None), None),
    (16.0, (0, 16, 255.0), 1.0),
    (16.0, (0, 1, 1.0), 1 / 16),
    (16.0, (0, 200, 255.0), 255 / 16),
    (None, (-1, 1, None), 1.0),
    (None, (0, 1, 1.0), 1.0),
    (None, (0, 255, 255.0), None),
]


@pytest.mark.parametrize(("white", "values", "factor"), RANGES, ids=str)
def test_one_rule_for_ranges(white, values, factor):
    scaling = Scaling(white or 1.0, (0.4,), (0.3,))
    if factor is None:
        with refused(["a.keras on photos", f"values from {values[0]}"]):
            scaling_for_range(scaling, white, Range(*values), where="a.keras on photos")
        return
    converted = scaling_for_range(scaling, white, Range(*values), where="a.keras on photos")
    assert converted.scaling.scale == pytest.approx(scaling.scale * factor)
    assert bool(converted.note) == (factor != 1.0)


ARRAYS = {
    "uint8": IMAGES,
    "floats to 255": IMAGES.astype("float32"),
    "floats to 1": (IMAGES / 255).astype("float32"),
    "uint16": IMAGES.astype("uint16") * 257,
    "int64": IMAGES.astype("int64"),
}


def test_the_same_pixels_give_the_same_predictions(network):
    file, model = network
    expected = reszoo.predict(file, IMAGES).values
    scaled = ((IMAGES / 255 - COLORS.mean) / COLORS.std).astype("float32")
    np.testing.assert_allclose(expected, np.asarray(model(scaled)), atol=1e-5)
    for name, x in ARRAYS.items():
        np.testing.assert_allclose(reszoo.predict(model, x).values, expected, atol=1e-5, err_msg=name)
    labels = np.arange(6) % 3
    results = [reszoo.evaluate(model, (x.repeat(2, axis=0), labels.repeat(2)), part="all") for x in ARRAYS.values()]
    assert len({round(each.metrics["auc"], 6) for each in results}) == 1
    assert any("converted" in note for note in results[2].notes)
    with pytest.warns(DataWarning, match="white is 1 here and was 255 in training; converted"):
        reszoo.predict(model, ARRAYS["floats to 1"])
    for call in (reszoo.predict, lambda net, x: reszoo.evaluate(net, (x, labels))):
        with refused(["values from -1 to 1", "normalized already"]):
            call(model, (IMAGES / 127.5 - 1).astype("float32"))
    with refused(["resnet50.tv_in1k", "normalized already"]):
        data = reszoo.open_data(((IMAGES / 127.5 - 1).astype("float32"), labels))
        scaling_for(reszoo.record("resnet50.tv_in1k"), data)


def test_ranges_of_sources():
    assert [value_range(x).white for x in ARRAYS.values()] == [255, 255, 1, 65535, 255]
    assert value_range(np.array([-1, 300])).white is None
    rows = reszoo.open_data((np.arange(40.0).reshape(20, 2), np.arange(20) % 2))
    assert range_of(rows).white is None


# Labels and parts.

NUMBERS = tuple(sorted(map(str, range(12))))
MATCHES = [
    (NUMBERS, tuple(map(str, range(12))), [NUMBERS.index(str(i)) for i in range(12)]),
    (NUMBERS, ("0", "1", "2", "3"), [0, 1, 4, 5]),
    (("ant", "bee"), ("0", "1"), [0, 1]),
    (("ant", "bee"), ("bee", "ant"), [1, 0]),
    (("1", "2"), ("1.0", "2.0"), [0, 1]),
    (("10", "20"), ("0", "1"), None),
    (("ant", "bee"), ("0", "1", "2"), None),
    (("ant", "bee"), ("ant", "cat"), None),
]


@pytest.mark.parametrize(("training", "source", "indices"), MATCHES, ids=lambda value: str(value)[:30])
def test_a_number_is_a_name(training, source, indices):
    metadata = Metadata(training, Scaling(1.0, (0.0,), (1.0,)), "", 0)
    if indices is None:
        with refused(["evaluate: photos", "class"]):
            class_indices(source, range(len(source)), metadata, where="photos")
    else:
        assert class_indices(source, range(len(source)), metadata, where="photos").tolist() == indices


def test_a_class_without_examples_may_be_unknown():
    metadata = Metadata(("ant", "bee"), Scaling(1.0, (0.0,), (1.0,)), "", 0)
    assert class_indices(("ant", "none"), [0], metadata, where="photos").tolist() == [0, -1]


def test_protocol_says_whether_the_network_has_seen_the_examples():
    data = reszoo.open_data((np.arange(80.0).reshape(40, 2), np.arange(40) % 2))
    metadata = Metadata(("0", "1"), data.scaling, "arrays", 0)
    same = dataclasses.replace(metadata, digest=digest(data))
    assert "unknown" in select(data, None, metadata).protocol and len(select(data, None, metadata).examples) == 40
    chosen = select(data, None, same)
    assert len(chosen.examples) == 4 and "held out in training" in chosen.protocol
    assert "was trained on most of them" in select(data, "all", same).protocol
    assert "trained on them" in select(data, "train", same).protocol
    assert "other data than in training" in select(data, None, dataclasses.replace(same, digest="x")).protocol
    with refused(["evaluate.part", "'test'", "validation, train, all"]):
        select(data, "test", same)
    everything = select(data, "all", same).examples
    np.testing.assert_array_equal(everything.take([0, 39]), np.stack([data.train.x[0], data.validation.x[-1]]))


# Measures.


def test_measures_agree_with_scikit_learn():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, (60, 3)).astype("uint8")
    labels[:, 2] = 0
    scores = random.integers(0, 9, (60, 3)) / 9
    predicted = (scores >= 0.5).astype("uint8")
    rows = class_metrics(CLASSES, labels, predicted, scores)
    for index in range(2):
        row, truth, guess = rows[index], labels[:, index], predicted[:, index]
        assert row.recall == pytest.approx(sklearn_metrics.recall_score(truth, guess))
        assert row.precision == pytest.approx(sklearn_metrics.precision_score(truth, guess))
        assert row.f1 == pytest.approx(sklearn_metrics.f1_score(truth, guess))
        assert row.auc == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores[:, index]))
        expected = sklearn_metrics.average_precision_score(truth, scores[:, index])
        assert row.average_precision == pytest.approx(expected)
    assert np.isnan([rows[2].recall, rows[2].f1, rows[2].auc, rows[2].average_precision]).all()
    assert rows[2].precision == 0 and np.isnan(average_precision(labels[:, 2] > 0, scores[:, 2]))
    truth, outputs = random.normal(size=(30, 2)), random.normal(size=(30, 2))
    measures = regression(truth, outputs)
    assert measures["r2"] == pytest.approx(sklearn_metrics.r2_score(truth, outputs))
    assert measures["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(truth, outputs))
    assert measures["rmse"] == pytest.approx(sklearn_metrics.mean_squared_error(truth, outputs) ** 0.5)
    assert regression(truth, np.zeros((30, 2)) + truth.mean(axis=0))["r2"] == pytest.approx(0)


def rows_of(labels, task, classes):
    from reszoo.data.arrays import Arrays

    x = np.random.default_rng(0).normal(size=(len(labels), 4)).astype("float32")
    examples = Arrays(x, labels)
    return Data("rows", examples, Arrays(x[:0], labels[:0]), classes, Scaling(1.0, (0.0,), (1.0,)), task=task)


def dense(outputs, activation=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs, activation=activation)])


def test_regression_and_several_classes_are_measured(tmp_path):
    random = np.random.default_rng(2)
    file = reszoo.save(dense(2), tmp_path / "r.keras", classes=["width", "height"], task="regression")
    data = rows_of(random.normal(size=(20, 2)).astype("float32"), "regression", ("width", "height"))
    result = reszoo.evaluate(file, data, part="all")
    outputs = keras.saving.load_model(file).predict(data.train.x, verbose=0)
    assert result.metrics["mae"] == pytest.approx(abs(outputs - data.train.labels).mean(), rel=1e-5)
    assert result.confusion is None and not result.classes and len(result.wrong) == 20
    with refused(["Evaluation.accuracy", "a regression", "r2"]):
        print(result.accuracy)
    assert as_csv(reszoo.predict(file, data.train.x)).startswith("example,width,height\n0,")
    tags = (random.random((20, 3)) > 0.6).astype("uint8")
    file = reszoo.save(dense(3, "sigmoid"), tmp_path / "m.keras", classes=CLASSES, task="multilabel")
    swapped = rows_of(tags, "multilabel", ("bee", "ant", "cat"))
    result = reszoo.evaluate(file, swapped, part="all")
    scores = keras.saving.load_model(file).predict(swapped.train.x, verbose=0)
    expected = sklearn_metrics.f1_score(tags[:, [1, 0, 2]], scores >= 0.5, average="micro")
    assert result.metrics["f1_micro"] == pytest.approx(expected)
    predictions = reszoo.predict(file, swapped.train.x)
    assert predictions[0].label == ", ".join(
        name for name, value in zip(CLASSES, scores[0], strict=True) if value >= 0.5
    )
    for source in ((swapped.train.x, np.arange(20) % 3), rows_of(np.arange(20) % 3, "classification", tuple(CLASSES))):
        with refused(["rows of 0 and 1" if isinstance(source, tuple) else "data for classification"]):
            reszoo.evaluate(file, source)


def test_outputs_become_probabilities():
    metadata = Metadata(("ant", "bee"), Scaling(1.0, (0.0,), (1.0,)), "", 0)
    np.testing.assert_allclose(probabilities(np.array([[0.2], [0.9]]), metadata, name="a"), [[0.8, 0.2], [0.1, 0.9]])
    logits = probabilities(np.array([[2.0, -1.0]]), metadata, name="a")
    np.testing.assert_allclose(logits, [[1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))]])
    with refused(["a", "3 outputs and 2 class names"]):
        probabilities(np.zeros((1, 3)), metadata, name="a")


def test_a_class_that_is_never_predicted_has_a_dash_and_a_note(tmp_path):
    model = dense(2, "softmax")
    model.layers[-1].set_weights([np.zeros((4, 2)), np.array([5.0, 0.0])])
    file = reszoo.save(model, tmp_path / "a.keras", classes=["ants", "bees"])
    data = rows_of(np.array([0] * 7 + [1] * 9), "classification", ("ants", "bees"))
    result = reszoo.evaluate(file, data, part="all")
    assert result.notes == (
        "no example was predicted as bees",
        "no better than always naming the largest class: 43.75% beside 56.25%, and two standard errors of 16 examples "
        "are 24.80%",
    )
    assert dash(result.classes[1].precision) == "\N{EN DASH}" and result.accuracy == 7 / 16
    page = write(evaluation_page(result, title="<b>bees</b>"), tmp_path / "page")
    text = (tmp_path / "page" / "evaluation.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["classes"][1]["precision"] is None
    assert "&lt;b&gt;bees" in page.read_text() and "Most wrong" in page.read_text()
    assert {file.name for file in (tmp_path / "page").iterdir()} >= {"confusion.png", "reliability.png"}


# Predictions.


def photo(path, color=(200, 30, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 40), color).save(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "new [v2]"
    for name in ("a.png", "b.jpg", "deep/c.webp", ".thumbnails/a.png", "__MACOSX/b.png", ".hidden.png"):
        photo(folder / name)
    whole = (folder / "b.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "notes.txt").write_text("red")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "loop").symlink_to(folder)
    Image.new("RGB", (9, 9)).save(folder / "button.gif")
    return folder


def test_one_bad_file_ends_nothing(network, photos):
    predictions = reszoo.predict(network[0], photos, batch=2)
    assert [name.removeprefix(f"{photos}/") for name in predictions.examples] == ["a.png", "b.jpg", "deep/c.webp"]
    reasons = {each.example.removeprefix(f"{photos}/"): each.reason for each in predictions.left_out}
    assert {*reasons} == {"button.gif", "cut.jpg", "gone.png", "loop", "notes.txt", "page.jpg"}
    assert reasons["gone.png"] == "a link that leads nowhere" and reasons["notes.txt"] == "not an image"
    assert "GIF" in reasons["button.gif"] and predictions.summary == "3 of 9 predicted"
    (photos / "list.txt").write_text("a.png\n\ndeep/c.webp\nmissing.png\n")
    listed = reszoo.predict(network[0], photos / "list.txt")
    assert len(listed) == 2 and listed.left_out[0].reason == "no such file"
    both = reszoo.predict(network[0], [photos / "b.jpg", photos / "deep"])
    assert len(both) == 2 and both[0].label == predictions[1].label
    with refused(["no image", "cut.jpg"]):
        reszoo.predict(network[0], photos / "cut.jpg")


def test_the_folder_one_is_in_is_a_source(network, photos, monkeypatch):
    file = network[0].resolve()
    monkeypatch.chdir(photos)
    assert len(reszoo.predict(file, ".")) == 3
    with refused(["no such file or folder"]):
        reszoo.predict(file, "")


def test_predict_command(network, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    shown = run.invoke(
        app, ["predict", str(network[0]), str(photos), "--top", "2", "--probabilities", "--output", "[v2].csv"]
    )
    assert shown.exit_code == 0, shown.output
    assert f"left out {photos}/cut.jpg" in shown.output and "3 of 9 predicted; saved to [v2].csv" in shown.output
    rows = [*csv.DictReader(io.StringIO((tmp_path / "[v2].csv").read_text()))]
    columns = [
        "example",
        "class",
        "probability",
        "class 2",
        "probability 2",
        *(f"probability of {name}" for name in CLASSES),
    ]
    assert [*rows[0]] == columns and len(rows) == 3
    assert float(rows[0]["probability"]) == max(float(rows[0][f"probability of {name}"]) for name in CLASSES)
    printed = run.invoke(app, ["predict", str(network[0]), str(photos / "a.png"), "--output", "-", "--flip"])
    assert printed.stdout.startswith("example,class,probability\n") and "1 of 1 predicted" in printed.stderr
    refusal = run.invoke(app, ["predict", str(network[0]), str(photos), "--output", "a.xls"])
    assert ".csv, .json, .npz" in str(refusal.exception)
    refusal = run.invoke(app, ["predict", str(network[0]), str(photos), "--size", "9"])
    assert "got 9; expected 8" in str(refusal.exception)


PREDICTIONS = Predictions("classification", ("ant", "bee"), ("a", "b"), np.array([[0.25, 0.75], [0.5, 0.5]]), top=2)


def test_predictions_as_files(tmp_path):
    assert [each.label for each in PREDICTIONS] == ["bee", "ant"] and PREDICTIONS[-1].probability == 0.5
    assert PREDICTIONS[0].top == (("bee", 0.75), ("ant", 0.25)) and [*PREDICTIONS[:1]] == [PREDICTIONS[0]]
    content = json.loads(as_json(PREDICTIONS, every=True))
    assert content["predictions"][0]["probabilities"] == {"ant": 0.25, "bee": 0.75}
    with np.load(write_predictions(PREDICTIONS, tmp_path / "p.npz")) as arrays:
        assert arrays["probabilities"].shape == (2, 2) and arrays["labels"].tolist() == ["bee", "ant"]
    assert "a,bee,0.750000,ant,0.250000\n" in write_predictions(PREDICTIONS, tmp_path / "p.csv").read_text()


def test_flip_averages_mirror_images(network):
    model = network[1]
    plain, mirrored = (reszoo.predict(model, x).values for x in (IMAGES, IMAGES[:, :, ::-1]))
    np.testing.assert_allclose(reszoo.predict(model, IMAGES, flip=True).values, (plain + mirrored) / 2, atol=1e-6)


def test_single_images_and_other_channels(network):
    model = network[1]
    assert len(reszoo.predict(model, IMAGES[0])) == 1
    gray = IMAGES[..., :1]
    expected = reszoo.predict(model, gray.repeat(3, axis=-1)).values
    converted = reszoo.predict(model, gray)
    np.testing.assert_allclose(converted.values, expected, atol=1e-6)
    assert converted.notes == ("images of 1 channels were converted to 3",)
    with refused(["(6, 3, 8, 8)", "transpose"]):
        reszoo.predict(model, IMAGES.transpose(0, 3, 1, 2))
    for source in (IMAGES.astype(str), [[1, 2], [3]], {"a": 1}, IMAGES[:0]):
        with refused(["predict"]):
            reszoo.predict(model, source)


MISSING = """
import sys, reszoo
from reszoo.cli import app
from typer.testing import CliRunner
for arguments in (["predict", FILE, "nowhere"], ["predict", "nowhere.keras", "."], ["predict", "nowhere.pth", "."],
                  ["evaluate", "nowhere.keras", "--data", "digits"], ["evaluate", FILE, "--data", "no/where"],
                  ["diagnose", "nowhere.keras", "--data", "digits"], ["diagnose", FILE, "--data", "no/where"]):
    print(CliRunner().invoke(app, arguments).exception)
print("tensorflow" in sys.modules or "jax" in sys.modules)
"""


def test_rows_of_another_width_are_refused(tmp_path):
    rows = np.random.default_rng(0).random((20, 3)), [0, 1] * 10
    model = reszoo.create("residual_mlp18", depths=1, widths=8, input_shape=(3,), classes=2)
    file = reszoo.save(model, tmp_path / "rows.keras", classes=["0", "1"], preprocessing=reszoo.open_data(rows))
    assert len(reszoo.predict(file, rows[0])) == 20
    for call in (lambda x: reszoo.predict(file, x), lambda x: reszoo.evaluate(file, (x, rows[1]))):
        with refused(["examples of shape (2,)", "(3,)"]):
            call(rows[0][:, :2])


def test_a_missing_file_is_named_before_keras_is_imported(network):
    *lines, imported = python(f"FILE = {str(network[0])!r}\n{MISSING}").splitlines()
    assert imported == "False" and len(lines) == 7
    names = ["nowhere", "nowhere.keras", "nowhere.pth", "nowhere.keras", "no/where", "nowhere.keras", "no/where"]
    for line, name in zip(lines, names, strict=True):
        assert name in line and "no such" in line, line


# Texts.


@pytest.mark.parametrize("text", ["runs/[v2]", "[/x]", "a\\[bold]", "[red]ant[/red]", ":cat:", "\\"], ids=str)
def test_names_are_printed_as_they_are(monkeypatch, text):
    stream = io.StringIO()
    monkeypatch.setattr(screen, "console", Console(file=stream, highlight=False, emoji=False, width=200))
    say(f"Saved to {text}")
    screen.console.print(table(text, (text, "n"), [(text, 3)]))
    screen.console.print(f"[bold]{escaped(text)} end[/bold]")
    shown = stream.getvalue()
    assert shown.startswith(f"Saved to {text}\n") and shown.count(text) >= 5 and f"{text} end" in shown


def test_json_is_strict():
    data = {"a": [float("nan"), float("inf"), 1], "b": np.array([1.5, np.nan]), 3: np.float32(2), "c": np.int64(4)}
    assert json.loads(strict_json(data), parse_constant=pytest.fail) == {
        "a": [None, None, 1],
        "b": [1.5, None],
        "3": 2.0,
        "c": 4,
    }


def test_a_model_object_and_its_file_know_the_same(network):
    file, model = network
    opened = [open_network(file), open_network(model), open_network(keras.saving.load_model(file))]
    assert len({repr(each.metadata) for each in opened}) == 1 and opened[0].side == 8
    assert read_metadata(file).classes == tuple(CLASSES) and read_facts(model)["classes"] == CLASSES
    assert facts_in({}) == {}
