"""Preprocessing belongs to the weights: the numbers of other libraries' code, in layers that plain Keras opens."""

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
    """A smooth picture, as photographs are: values from 0 to 255."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), "uint8")
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def as_torch_does(image, record):
    """Resize the shorter side, crop the centre, scale, normalise, with PIL as torchvision's transforms do."""
    told = record.preprocessing
    height, width = image.shape[:2]
    scale = told.resize / min(height, width)
    size = (told.resize, int(height * scale)) if width < height else (int(width * scale), told.resize)
    resized = Image.fromarray(image).resize(size, Image.Resampling[told.interpolation.upper()])
    left, top = (round((side - told.crop) / 2) for side in resized.size)
    cropped = np.asarray(resized.crop((left, top, left + told.crop, top + told.crop)), "float64")
    return (cropped / 255 - np.array(told.mean)) / np.array(told.std)


@pytest.mark.parametrize("name", ["resnet50.tv_in1k", "resnet50.tv2_in1k", "resnet50.a1_in1k"])
@pytest.mark.parametrize("size", [(300, 400), (480, 320)], ids=str)
def test_an_image_looks_as_in_its_own_library(name, size):
    record, image = reszoo.record(name), photo(*size)
    found = np.asarray(reszoo.preprocessing(name)(image[None]))[0]
    expected = as_torch_does(image, record)
    assert found.shape == expected.shape
    # PIL rounds to whole pixel values, and cropping before or after resizing rounds to other whole pixels.
    assert abs(found - expected).mean() < 0.05
    assert abs(found - expected).max() < 0.25


def test_without_resizing_it_is_exact():
    record = reszoo.record("resnet20_cifar.akamaster_c10")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    np.testing.assert_allclose(
        np.asarray(reszoo.preprocessing(record)(images)), (images / 255 - MEAN) / STD, rtol=1e-5, atol=1e-6
    )


def test_the_weights_of_keras_take_bgr():
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    found = np.asarray(reszoo.preprocessing("resnet50_v1.keras_in1k", size=224)(images))
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode="caffe")
    told = reszoo.preprocessing(
        reszoo.record("resnet50_v1.keras_in1k").preprocessing.model_copy(update={"resize": 224})
    )
    np.testing.assert_allclose(np.asarray(told(images)), expected, atol=1e-3)
    assert found.shape == expected.shape


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet50_v1.keras_in1k"])
def test_it_opens_in_plain_keras(tmp_path, name):
    layers = reszoo.preprocessing(name)
    image = photo(300, 260)[None].astype("float32")
    expected = np.asarray(layers(image))
    layers.save(tmp_path / "layers.keras")
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "expected.npy", expected)
    code = (
        "import keras, numpy as np\n"
        "found = keras.models.load_model('layers.keras')(np.load('image.npy'))\n"
        "kind = type(keras.models.load_model('layers.keras')).__name__\n"
        "print(kind, abs(np.asarray(found) - np.load('expected.npy')).max())"
    )
    name, difference = python(code, without_reszoo=True, folder=tmp_path).split()
    assert name == "Functional" and float(difference) < 1e-5


def loaded(tmp_path, **changes):
    spec = small("resnet18", **changes)
    model = reszoo.create(spec, weights=checkpoint(tmp_path, spec))
    return model


def test_a_model_knows_what_its_weights_want(tmp_path):
    model = loaded(tmp_path)
    with refused(["resnet18, of whose images nothing is known", "a record's name"]):
        reszoo.preprocessing(model)
    known = reszoo.origin(model)
    remember(model, Origin(known.report, reszoo.record("resnet18.tv_in1k"), None))
    images = photo(300, 300)[None]
    inside = reszoo.preprocessing(model, inside=True)
    outside = model(reszoo.preprocessing(model)(images))
    inside.save(tmp_path / "inside.keras")
    for network in (inside, keras.models.load_model(tmp_path / "inside.keras")):
        before = values(network)
        np.testing.assert_allclose(np.asarray(network(images)), np.asarray(outside), atol=1e-5)
        # Keras' Resizing takes a call for training unless told otherwise, and the network's statistics would move.
        assert all((a == b).all() for a, b in zip(before, values(network), strict=True))
    assert np.asarray(reszoo.preprocessing(model)(images)).shape == (1, 224, 224, 3)


def test_a_model_of_another_size_gets_its_own_crop(tmp_path):
    model = loaded(tmp_path, input_shape=(96, 96, 3))
    remember(model, Origin(reszoo.origin(model).report, reszoo.record("resnet18.tv_in1k"), None))
    layers = reszoo.preprocessing(model)
    assert np.asarray(layers(photo(300, 300)[None])).shape == (1, 96, 96, 3)
    assert layers.get_layer("resize").height == round(256 * 96 / 224)


RANGES = [
    (lambda x: x, None),
    (lambda x: x.astype("float32"), None),
    (lambda x: x / 255.0, "scaled to 0..1"),
    (lambda x: (x / 255.0 - MEAN) / STD, "normalised already"),
    (lambda x: x / 127.5 - 1, "normalised already"),
    (lambda x: x * 257.0, "more than 8 bits"),
    (lambda x: np.zeros_like(x, "float32"), None),
]


@pytest.mark.parametrize(("change", "said"), RANGES)
def test_numbers_in_the_wrong_range_are_warned_of(recwarn, change, said):
    layers = reszoo.preprocessing("resnet20_cifar.akamaster_c10")
    layers(change(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")))
    warned = [warning for warning in recwarn if "preprocessing" in str(warning.message)]
    assert [said in str(warning.message) for warning in warned] == ([True] if said else [])
    assert {warning.filename for warning in warned} <= {__file__}


def test_every_record_makes_layers():
    kinds = {record.preprocessing: name for name, record in records().items()}
    for told, name in kinds.items():
        assert reszoo.preprocessing(name).get_layer("resize").height == told.resize
    with refused(["unknown weights", "did you mean"]):
        reszoo.preprocessing("resnet50.tv3_in1k")
    with refused(["preprocessing", "got 3"]):
        reszoo.preprocessing(3)


def test_predictions_in_words():
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


def test_the_words_of_imagenet_are_those_of_keras(monkeypatch):
    """Its file imagenet_class_index.json has this hash in keras.applications.imagenet_utils; nothing is downloaded."""
    monkeypatch.setattr(keras.utils, "get_file", None)
    monkeypatch.setattr(socket, "socket", None)
    names, wnids = words("imagenet"), words("imagenet_wnids")
    index = {str(number): [*pair] for number, pair in enumerate(zip(wnids, names, strict=True))}
    assert hashlib.md5(json.dumps(index).encode()).hexdigest() == "c2c37ea517e94d9795004a39431a14cb"
    ((first, second),) = reszoo.decode_predictions(np.eye(1000)[281:282], top=2)
    assert first == ("tabby", 1.0) and second == ("tench", 0.0)
    assert reszoo.decode_predictions(np.eye(1000)[:1], top=1, labels="imagenet_wnids")[0][0].label == "n01440764"


NO_PREDICTIONS = [
    ([[1, 2]], "shape (1, 2) and 1000 labels"),
    ([1.0] * 1000, "shape (1000,)"),
    (np.zeros((1, 1, 1000)), "shape (1, 1, 1000)"),
    ([[1], [1, 2]], "no numbers"),
    ("abc", "no numbers"),
    (None, "shape ()"),
]


@pytest.mark.parametrize(("predictions", "said"), NO_PREDICTIONS, ids=lambda value: str(value)[:20])
def test_predictions_are_looked_at_before_labels(monkeypatch, predictions, said):
    if "labels" not in said:
        monkeypatch.setattr("reszoo.weights.labels.words", None)
    with refused(["decode_predictions", said, "(images, classes)"]):
        reszoo.decode_predictions(predictions)
