"""Preprocessing of pretrained weights: the same numbers as other libraries, in layers that plain Keras opens."""

import hashlib
import json
import socket

import keras
import numpy as np
import pytest
from conftest import python, refused
from PIL import Image
from test_weights import checkpoint, small, values

import reszoo
from reszoo.weights.catalogue import records
from reszoo.weights.labels import words
from reszoo.weights.origin import Origin, remember

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def photo(height, width, seed=0):
    """Returns a smooth image like a photograph, with values from 0 to 255."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), "uint8")
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def torchvision_transform(image, record):
    """Resizes the shorter side, crops the center, scales and normalizes with PIL, as torchvision does."""
    settings = record.preprocessing
    height, width = image.shape[:2]
    scale = settings.resize / min(height, width)
    size = (settings.resize, int(height * scale)) if width < height else (int(width * scale), settings.resize)
    resized = Image.fromarray(image).resize(size, Image.Resampling[settings.interpolation.upper()])
    x, y = (round((side - settings.crop) / 2) for side in resized.size)
    cropped = np.asarray(resized.crop((x, y, x + settings.crop, y + settings.crop)), "float64")
    return (cropped / 255 - np.array(settings.mean)) / np.array(settings.std)


@pytest.mark.parametrize("name", ["resnet50.tv_in1k", "resnet50.tv2_in1k", "resnet50.a1_in1k"])
@pytest.mark.parametrize("size", [(300, 400), (480, 320)], ids=str)
def test_images_match_torchvision(name, size):
    record, image = reszoo.record(name), photo(*size)
    actual = np.asarray(reszoo.preprocessing(name)(image[None]))[0]
    expected = torchvision_transform(image, record)
    assert actual.shape == expected.shape
    # PIL rounds to whole pixel values, and cropping before or after resizing rounds to other whole pixels.
    assert abs(actual - expected).mean() < 0.05
    assert abs(actual - expected).max() < 0.25


def test_without_resizing_the_values_are_exact():
    record = reszoo.record("resnet20_cifar.akamaster_c10")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    np.testing.assert_allclose(
        np.asarray(reszoo.preprocessing(record)(images)), (images / 255 - MEAN) / STD, rtol=1e-5, atol=1e-6
    )


def test_weights_of_keras_take_bgr():
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    actual = np.asarray(reszoo.preprocessing("resnet50_v1.keras_in1k", size=224)(images))
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode="caffe")
    without_crop = reszoo.preprocessing(
        reszoo.record("resnet50_v1.keras_in1k").preprocessing.model_copy(update={"resize": 224})
    )
    np.testing.assert_allclose(np.asarray(without_crop(images)), expected, atol=1e-3)
    assert actual.shape == expected.shape


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet50_v1.keras_in1k"])
def test_layers_open_in_plain_keras(tmp_path, name):
    layers = reszoo.preprocessing(name)
    image = photo(300, 260)[None].astype("float32")
    expected = np.asarray(layers(image))
    layers.save(tmp_path / "layers.keras")
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "expected.npy", expected)
    code = (
        "import keras, numpy as np\n"
        "actual = keras.models.load_model('layers.keras')(np.load('image.npy'))\n"
        "kind = type(keras.models.load_model('layers.keras')).__name__\n"
        "print(kind, abs(np.asarray(actual) - np.load('expected.npy')).max())"
    )
    name, difference = python(code, without_reszoo=True, folder=tmp_path).split()
    assert name == "Functional" and float(difference) < 1e-5


def model_with_weights(tmp_path, **changes):
    spec = small("resnet18", **changes)
    model = reszoo.create(spec, weights=checkpoint(tmp_path, spec))
    return model


def test_a_model_has_the_preprocessing_of_its_weights(tmp_path):
    model = model_with_weights(tmp_path)
    with refused(["resnet18, whose preprocessing is unknown", "a record's name"]):
        reszoo.preprocessing(model)
    source = reszoo.origin(model)
    remember(model, Origin(source.report, reszoo.record("resnet18.tv_in1k"), None))
    images = photo(300, 300)[None]
    inside = reszoo.preprocessing(model, inside=True)
    outside = model(reszoo.preprocessing(model)(images))
    inside.save(tmp_path / "inside.keras")
    for network in (inside, keras.models.load_model(tmp_path / "inside.keras")):
        before = values(network)
        np.testing.assert_allclose(np.asarray(network(images)), np.asarray(outside), atol=1e-5)
        # Keras' Resizing assumes training by default, and the network's running statistics would change.
        assert all((a == b).all() for a, b in zip(before, values(network), strict=True))
    assert np.asarray(reszoo.preprocessing(model)(images)).shape == (1, 224, 224, 3)


def test_the_crop_fits_the_input_size_of_the_model(tmp_path):
    model = model_with_weights(tmp_path, input_shape=(96, 96, 3))
    remember(model, Origin(reszoo.origin(model).report, reszoo.record("resnet18.tv_in1k"), None))
    layers = reszoo.preprocessing(model)
    assert np.asarray(layers(photo(300, 300)[None])).shape == (1, 96, 96, 3)
    assert layers.get_layer("resize").height == round(256 * 96 / 224)


RANGES = [
    (lambda x: x, None),
    (lambda x: x.astype("float32"), None),
    (lambda x: x / 255.0, "scaled to 0..1"),
    (lambda x: (x / 255.0 - MEAN) / STD, "normalized already"),
    (lambda x: x / 127.5 - 1, "normalized already"),
    (lambda x: x * 257.0, "more than 8 bits"),
    (lambda x: np.zeros_like(x, "float32"), None),
]


@pytest.mark.parametrize(("change", "expected"), RANGES)
def test_values_in_the_wrong_range_cause_a_warning(recwarn, change, expected):
    layers = reszoo.preprocessing("resnet20_cifar.akamaster_c10")
    layers(change(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")))
    warned = [warning for warning in recwarn if "preprocessing" in str(warning.message)]
    assert [expected in str(warning.message) for warning in warned] == ([True] if expected else [])
    assert {warning.filename for warning in warned} <= {__file__}


def test_every_record_has_preprocessing_layers():
    kinds = {record.preprocessing: name for name, record in records().items()}
    for settings, name in kinds.items():
        assert reszoo.preprocessing(name).get_layer("resize").height == settings.resize
    with refused(["unknown weights", "did you mean"]):
        reszoo.preprocessing("resnet50.tv3_in1k")
    with refused(["preprocessing", "got 3"]):
        reszoo.preprocessing(3)


def test_decoded_predictions():
    logits = np.full((2, 10), -3.0)
    logits[0, 3], logits[1, [9, 1]] = 5.0, (4.0, 3.0)
    ((first, *_), second) = reszoo.decode_predictions(logits, top=2, labels="cifar10")
    assert first.label == "cat" and first.probability > 0.99
    assert [prediction.label for prediction in second] == ["truck", "automobile"]
    assert second[0].probability == pytest.approx(np.exp(4) / (np.exp(4) + np.exp(3) + 8 * np.exp(-3)))
    probabilities = reszoo.decode_predictions(np.eye(3), labels=["a", "b", "c"], top=1)
    assert [row[0] for row in probabilities] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    assert len(reszoo.decode_predictions(np.eye(100), labels="cifar100")) == 100
    with refused(["(2, 10)", "3 labels"]):
        reszoo.decode_predictions(logits, labels=["a", "b", "c"])
    with refused(["labels", "got 'cifar11'", "cifar100"]):
        reszoo.decode_predictions(logits, labels="cifar11")


def test_imagenet_labels_are_those_of_keras(monkeypatch):
    """The hash is that of imagenet_class_index.json in keras.applications.imagenet_utils; nothing is downloaded."""
    monkeypatch.setattr(keras.utils, "get_file", None)
    monkeypatch.setattr(socket, "socket", None)
    names, wnids = words("imagenet"), words("imagenet_wnids")
    index = {str(number): [*pair] for number, pair in enumerate(zip(wnids, names, strict=True))}
    assert hashlib.md5(json.dumps(index).encode()).hexdigest() == "c2c37ea517e94d9795004a39431a14cb"
    ((first, second),) = reszoo.decode_predictions(np.eye(1000)[281:282], top=2)
    assert first == ("tabby", 1.0) and second == ("tench", 0.0)
    assert reszoo.decode_predictions(np.eye(1000)[:1], top=1, labels="imagenet_wnids")[0][0].label == "n01440764"


INVALID_PREDICTIONS = [
    ([[1, 2]], "shape (1, 2) and 1000 labels"),
    ([1.0] * 1000, "shape (1000,)"),
    (np.zeros((1, 1, 1000)), "shape (1, 1, 1000)"),
    ([[1], [1, 2]], "not numbers"),
    ("abc", "not numbers"),
    (None, "shape ()"),
]


@pytest.mark.parametrize(("predictions", "expected"), INVALID_PREDICTIONS, ids=lambda value: str(value)[:20])
def test_predictions_are_checked_before_labels(monkeypatch, predictions, expected):
    if "labels" not in expected:
        monkeypatch.setattr("reszoo.weights.labels.words", None)
    with refused(["decode_predictions", expected, "(images, classes)"]):
        reszoo.decode_predictions(predictions)
