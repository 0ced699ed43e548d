"""The weights in the package: complete, small, and as accurate as their record says."""

import hashlib

import numpy as np
import pytest

import reszoo
from reszoo.weights.catalogue import records

SHIPPED = [record for record in records().values() if record.packaged]


def test_a_residual_network_and_its_plain_twin_are_shipped():
    assert [record.name for record in SHIPPED] == ["resnet20_cifar.fashion_mnist", "plain20_cifar.fashion_mnist"]


@pytest.mark.parametrize("record", SHIPPED, ids=lambda record: record.name)
def test_shipped_files_are_complete_and_small(record):
    content = record.packaged.read_bytes()
    assert hashlib.sha256(content).hexdigest() == record.files[0].sha256
    assert len(content) <= 600_000 and len(content) / 1e6 == pytest.approx(record.files[0].megabytes, abs=0.001)
    assert record.packaged.with_name("README.md").read_text().count(f"{record.accuracy[0].top1:.2f} %") >= 1
    model = reszoo.create(record.model, weights=record.tag, input_shape=(28, 28, 1))
    assert {float(np.isfinite(weight).all()) for weight in model.get_weights()} == {1.0}
    assert reszoo.preprocessing(model)(np.zeros((1, 28, 28, 1), "uint8")).shape == (1, 28, 28, 1)
    assert reszoo.decode_predictions(np.eye(10)[:1], labels=model)[0][0].label == "t-shirt"
    scales = [layer for layer in model.layers if hasattr(layer, "gamma")]
    dead = [np.logical_and(np.asarray(layer.gamma) == 0, np.asarray(layer.beta) == 0).sum() for layer in scales]
    assert len(scales) == 19 and sum(dead) == 0
    for_color = reszoo.create(record.model, weights=record.tag, input_shape=(32, 32, 3), classes=3)
    assert for_color.output_shape == (None, 3)


@pytest.mark.slow
@pytest.mark.parametrize("record", SHIPPED, ids=lambda record: record.name)
def test_shipped_weights_have_the_accuracy_in_their_record(record, shared):
    evaluation = reszoo.evaluate(record.name, shared / "data" / "fashion_mnist_test.npz")
    assert 100 * evaluation.accuracy == pytest.approx(record.accuracy[0].top1, abs=0.03)
    assert [row.name for row in evaluation.classes][:2] == ["t-shirt", "trouser"]
