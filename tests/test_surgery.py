"""Surgery on trained networks: added blocks start as the identity, dropped blocks are gone."""

import keras
import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.data.sources import open_data

SMALL = {"input_shape": (8, 8, 1), "classes": 10, "width_multiplier": 0.5}
# With start=identity all blocks would be the identity; the test must see that the new ones are.
RANDOM = {"block": {"start": "random"}}
NETWORKS = {
    "post-activation": ("resnet20_cifar", {"depths": 2, **SMALL, **RANDOM}),
    "pre-activation": ("preact_resnet110_cifar", {"depths": 2, **SMALL, **RANDOM}),
    "dense": ("residual_mlp18", {"input_shape": (64,), "width_multiplier": 0.25, "depths": 3, **RANDOM}),
    "no norm": (
        "residual_mlp18",
        {"input_shape": (64,), "width_multiplier": 0.25, "depths": 3, "norm": "none", **RANDOM},
    ),
    "squeeze-excite": (
        "se_resnet50",
        {**SMALL, "stem": "cifar", "width_multiplier": 0.125, "depths": [1, 1, 2, 1], **RANDOM},
    ),
}


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def batch(model, digits, count=128):
    x = digits.scaling(digits.train.take(np.arange(count)))
    return x.reshape(count, *model.input_shape[1:]), digits.train.labels[:count]


def trained(name, digits):
    """A network after some training steps: batch norms have statistics, and no weight has its initial value."""
    keras.utils.set_random_seed(0)
    network, changes = NETWORKS[name]
    model = reszoo.create(network, **changes, classifier_activation=None)
    x, y = batch(model, digits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=1.0), loss, run_eagerly=True)
    model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    return model, x, y, loss


@pytest.mark.parametrize("name", NETWORKS)
def test_deepened_network_has_the_same_outputs_and_learns(name, digits):
    model, x, y, loss = trained(name, digits)
    before = model.get_weights()
    spec = reszoo.spec_of(model)
    stage = len(spec.stages)
    deeper = reszoo.deepen(model, stage=stage, blocks=2)
    assert reszoo.spec_of(deeper).stages[-1].depth == spec.stages[-1].depth + 2
    logits, new_logits = (keras.ops.convert_to_numpy(each(x)) for each in (model, deeper))
    assert np.abs(logits - new_logits).max() == 0.0
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    deeper.compile(keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=1.0), loss, run_eagerly=True)
    first, *_, last = deeper.fit(x, y, batch_size=32, epochs=3, verbose=0).history["loss"]
    assert last < first
    # The new blocks learn too.
    new = f"stage{stage}_block{spec.stages[-1].depth + 2}_"
    kernels = [layer for layer in deeper.layers if layer.name.startswith(new) and layer.weights]
    assert any(np.abs(weight).max() > 0 for weight in kernels[-1].get_weights()[:1])
    assert np.abs(logits - keras.ops.convert_to_numpy(deeper(x))).max() > 0


def test_dropping_blocks_keeps_the_weights_of_the_others(digits):
    keras.utils.set_random_seed(0)
    model = reszoo.create("resnet20_cifar", **SMALL)
    network_after = reszoo.drop_blocks(model, ["stage1_block1", "stage3_block2"])
    assert [stage.depth for stage in reszoo.spec_of(network_after).stages] == [2, 3, 2]
    for ours, theirs in {"stage1_block1": "stage1_block2", "stage3_block2": "stage3_block3"}.items():
        for unit in ("unit1_conv", "unit2_norm"):
            pair = network_after.get_layer(f"{ours}_{unit}"), model.get_layer(f"{theirs}_{unit}")
            assert all((a == b).all() for a, b in zip(*(layer.get_weights() for layer in pair), strict=True))
    # The outputs are those of the network with these blocks disabled.
    from reszoo.diagnosis.anatomy import take_apart
    from reszoo.diagnosis.measures.lesion import lesion

    x, _ = batch(model, digits, 8)
    network = take_apart(model)
    gone = [block for block in network.blocks if block.name in ("stage1_block1", "stage3_block2")]
    output = network.graph.output
    expected = network.graph.read(x, outputs=[output], change=dict(map(lesion, gone)))[output]
    np.testing.assert_allclose(network_after(x), expected, rtol=1e-5, atol=1e-6)


def test_dropping_added_blocks_restores_the_network():
    model = reszoo.create("preact_resnet110_cifar", depths=2, **SMALL)
    network_after = reszoo.drop_blocks(reszoo.deepen(model, stage=2, blocks=2), ["stage2_block3", "stage2_block4"])
    assert reszoo.spec_of(network_after) == reszoo.spec_of(model)
    assert all((a == b).all() for a, b in zip(network_after.get_weights(), model.get_weights(), strict=True))


def test_plain_twin_has_the_same_weights():
    model = reszoo.create("resnet20_cifar", **SMALL)
    network_after = reszoo.to_plain(model)
    assert reszoo.spec_of(network_after) == reszoo.spec_of(model).plain()
    assert all((a == b).all() for a, b in zip(network_after.get_weights(), model.get_weights(), strict=True))


INVALID = [
    (lambda m: reszoo.deepen(m, stage=4), ["deepen.stage", "4", "1 to 3"]),
    (lambda m: reszoo.deepen(m, stage=1, blocks=0), ["deepen.blocks", "at least 1"]),
    (lambda m: reszoo.deepen(reszoo.to_plain(m), stage=1), ["plain network", "shortcuts"]),
    (lambda m: reszoo.drop_blocks(m, ["stage1_block9"]), ["stage1_block9", "did you mean"]),
    (lambda m: reszoo.drop_blocks(m, ["stage2_block1"]), ["stage2_block1", "keep the shape"]),
    (lambda m: reszoo.drop_blocks(m, ["stage1_block1", "stage1_block2"]), ["all blocks of stage1"]),
    (lambda m: reszoo.deepen(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), stage=1), ["not a network"]),
]


@pytest.fixture(scope="module")
def small():
    return reszoo.create("resnet20_cifar", depths=2, **SMALL)


@pytest.mark.parametrize(("operate", "texts"), INVALID, ids=[texts[0] for _, texts in INVALID])
def test_invalid_surgery_is_refused(small, operate, texts):
    with refused(texts):
        operate(small)


def test_idle_blocks_are_pruned(digits):
    model, *_ = trained("post-activation", digits)
    idle = reszoo.deepen(model, stage=2, blocks=2)
    found = reszoo.prune_depth(idle, digits, keep_accuracy=1.0, epochs=1, examples=64)
    assert {"stage2_block3", "stage2_block4"} <= {*found.dropped}
    assert found.macs[1] < found.macs[0] and found.params[1] < found.params[0] and 0 < found.macs_saved < 1
    assert reszoo.spec_of(found.model).stages[1].depth <= 2
    kept = reszoo.prune_depth(idle, digits, keep_accuracy=0.0, epochs=0, examples=64)
    assert kept.accuracy_after >= kept.accuracy
