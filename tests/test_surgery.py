"""Surgery on trained networks: what is put in computes nothing at first, what is taken out is gone."""

import keras
import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.data.sources import open_data

SMALL = {"input_shape": (8, 8, 1), "classes": 10, "width_multiplier": 0.5}
# Blocks that start as the identity anyway would hide that the new ones are made so.
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
    """A network after some steps of training: its batch norms have statistics, no weight is at its start."""
    keras.utils.set_random_seed(0)
    network, changes = NETWORKS[name]
    model = reszoo.create(network, **changes, classifier_activation=None)
    x, y = batch(model, digits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=1.0), loss, run_eagerly=True)
    model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    return model, x, y, loss


@pytest.mark.parametrize("name", NETWORKS)
def test_a_deepened_network_computes_the_same_and_goes_on_learning(name, digits):
    model, x, y, loss = trained(name, digits)
    before = model.get_weights()
    spec = reszoo.spec_of(model)
    stage = len(spec.stages)
    made = reszoo.deepen(model, stage=stage, blocks=2)
    assert reszoo.spec_of(made).stages[-1].depth == spec.stages[-1].depth + 2
    logits, deeper = (keras.ops.convert_to_numpy(one(x)) for one in (model, made))
    assert np.abs(logits - deeper).max() == 0.0
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    made.compile(keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=1.0), loss, run_eagerly=True)
    first, *_, last = made.fit(x, y, batch_size=32, epochs=3, verbose=0).history["loss"]
    assert last < first
    # The new blocks learn too.
    new = f"stage{stage}_block{spec.stages[-1].depth + 2}_"
    kernels = [layer for layer in made.layers if layer.name.startswith(new) and layer.weights]
    assert any(np.abs(weight).max() > 0 for weight in kernels[-1].get_weights()[:1])
    assert np.abs(logits - keras.ops.convert_to_numpy(made(x))).max() > 0


def test_blocks_are_dropped_and_the_others_keep_their_weights(digits):
    keras.utils.set_random_seed(0)
    model = reszoo.create("resnet20_cifar", **SMALL)
    made = reszoo.drop_blocks(model, ["stage1_block1", "stage3_block2"])
    assert [stage.depth for stage in reszoo.spec_of(made).stages] == [2, 3, 2]
    for ours, theirs in {"stage1_block1": "stage1_block2", "stage3_block2": "stage3_block3"}.items():
        for unit in ("unit1_conv", "unit2_norm"):
            pair = made.get_layer(f"{ours}_{unit}"), model.get_layer(f"{theirs}_{unit}")
            assert all((a == b).all() for a, b in zip(*(layer.get_weights() for layer in pair), strict=True))
    # What is left computes what the network computes without those blocks.
    from reszoo.diagnosis.anatomy import take_apart
    from reszoo.diagnosis.measures.lesion import lesion

    x, _ = batch(model, digits, 8)
    network = take_apart(model)
    gone = [block for block in network.blocks if block.name in ("stage1_block1", "stage3_block2")]
    output = network.graph.output
    expected = network.graph.read(x, outputs=[output], change=dict(map(lesion, gone)))[output]
    np.testing.assert_allclose(made(x), expected, rtol=1e-5, atol=1e-6)


def test_dropping_added_blocks_gives_the_network_back():
    model = reszoo.create("preact_resnet110_cifar", depths=2, **SMALL)
    made = reszoo.drop_blocks(reszoo.deepen(model, stage=2, blocks=2), ["stage2_block3", "stage2_block4"])
    assert reszoo.spec_of(made) == reszoo.spec_of(model)
    assert all((a == b).all() for a, b in zip(made.get_weights(), model.get_weights(), strict=True))


def test_the_plain_twin_has_the_weights():
    model = reszoo.create("resnet20_cifar", **SMALL)
    made = reszoo.to_plain(model)
    assert reszoo.spec_of(made) == reszoo.spec_of(model).plain()
    assert all((a == b).all() for a, b in zip(made.get_weights(), model.get_weights(), strict=True))


BAD = [
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


@pytest.mark.parametrize(("operate", "said"), BAD, ids=[" ".join(said[:1]) for _, said in BAD])
def test_impossible_surgery_is_refused(small, operate, said):
    with refused(said):
        operate(small)


def test_blocks_that_do_nothing_are_pruned(digits):
    model, *_ = trained("post-activation", digits)
    idle = reszoo.deepen(model, stage=2, blocks=2)
    found = reszoo.prune_depth(idle, digits, keep_accuracy=1.0, epochs=1, examples=64)
    assert {"stage2_block3", "stage2_block4"} <= {*found.dropped}
    assert found.macs[1] < found.macs[0] and found.params[1] < found.params[0] and 0 < found.macs_saved < 1
    assert reszoo.spec_of(found.model).stages[1].depth <= 2
    kept = reszoo.prune_depth(idle, digits, keep_accuracy=0.0, epochs=0, examples=64)
    assert kept.accuracy_after >= kept.accuracy
