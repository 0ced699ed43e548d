"""Every weight learns: tested for the zoo and all combinations of settings; the census; removal of dead channels."""

import os
from itertools import product

import keras
import numpy as np
import pytest
from conftest import needs, python, refused

import reszoo
from reszoo.arch.liveness import constants
from reszoo.diagnosis import census
from reszoo.errors import ReszooError

ALLOWED = 0.001
"""Share of trainable numbers that may be without gradient for every draw of the initial weights. In these narrow
networks one draw alone leaves up to 6 % behind rectifiers that are off for all examples; in squeeze-and-excitation,
whose units read a mean over the whole map, half of the units: by chance, other ones in every draw."""


def examples(shape, classes=4, count=48):
    random = np.random.default_rng(0)
    return random.normal(size=(count, *shape)).astype("float32"), random.integers(0, classes, count)


def share_without_gradient(spec, draws=6):
    """The share of numbers without gradient for all initial weights: caused by the structure, not by chance."""
    x, y = examples(spec.input_shape, spec.head.classes)
    silent = None
    for seed in range(draws):
        keras.utils.set_random_seed(seed)
        model = reszoo.create(spec)
        found = census(model, x, y)
        assert found.padding == 0 and found.zero_inputs == 0
        masks = found.silent
        silent = masks if silent is None else {path: silent[path] & masks[path] for path in silent}
        if sum(map(np.sum, silent.values())) <= ALLOWED * found.numbers:
            break
    return sum(map(np.sum, silent.values())) / found.numbers


def old_start(model):
    """The start of earlier versions: all branches at zero, including those of blocks with padded channels."""
    for layer in model.layers:
        if layer.name.endswith("unit2_norm"):
            layer.gamma.assign(layer.gamma * 0)
    return model


def small(name):
    """Returns one narrow block per stage, at most two groups, at the smallest input whose last map is 2x2."""
    spec = reszoo.spec(name, depths=1, classes=4)
    if spec.dense:
        return spec.replace(input_shape=(16,))
    body = [unit.model_dump() | {"groups": min(unit.groups, 2)} for unit in spec.block.body]
    side = 2 * spec.stride
    narrow = 8 / spec.stem.width
    return spec.replace(input_shape=(side, side, 3), block={"body": body}, width_multiplier=narrow)


DISTINCT = {small(name).replace(name="network"): name for name in reszoo.list_models()}
"""The entries that differ when every stage has one block."""


@pytest.mark.parametrize("name", sorted(DISTINCT.values()))
def test_every_number_of_a_zoo_entry_learns(name):
    assert share_without_gradient(small(name)) <= ALLOWED


WORDS = {
    "start": ("identity", "scaled", "random"),
    "shortcut": ("none", "pad", "project", "project_all", "pool_project"),
    "order": ("post", "pre", "inner", "norm_first"),
    "norm": ("batch", "group", "none"),
    "attention": ("none", "se"),
    "bias": (False, True),
}


def combinations():
    for start, shortcut, order, norm, attention, bias in product(*WORDS.values()):
        block = {"start": start, "shortcut": shortcut, "order": order, "attention": attention}
        yield {"block": block, "norm": norm, "bias": bias}


def spec_or_none(changes):
    size = {"stem": {"width": 8}, "stages": [{"depth": 1, "width": 8}, {"depth": 2, "width": 16, "stride": 2}]}
    try:
        return reszoo.spec("resnet20_cifar", input_shape=(8, 8, 2), classes=4, **size, **changes)
    except ReszooError:
        return None


def checked(specs):
    shares = {spec: share_without_gradient(spec, draws=8) for spec in specs}
    assert {spec: share for spec, share in shares.items() if share > ALLOWED} == {}
    return len(shares)


def test_every_number_learns_with_padded_channels():
    specs = [spec_or_none(changes) for changes in combinations() if changes["block"]["shortcut"] == "pad"]
    assert checked(spec for spec in specs if spec and spec.block.attention == "none" and not spec.bias) == 36


@pytest.mark.slow
@pytest.mark.parametrize("order", WORDS["order"])
@pytest.mark.parametrize("shortcut", WORDS["shortcut"])
def test_every_number_learns_under_combinations_of_words(order, shortcut):
    """Every ninth of the 624 combinations, others for other orders and shortcuts; all with RESZOO_TEST_EVERY=1."""
    step = int(os.environ.get("RESZOO_TEST_EVERY", "9"))
    place = WORDS["order"].index(order) + WORDS["shortcut"].index(shortcut)
    both = [each for each in combinations() if (each["block"]["order"], each["block"]["shortcut"]) == (order, shortcut)]
    specs = [spec for spec in map(spec_or_none, both) if spec]
    assert len(specs) == (12 if shortcut == "none" else 36)
    part = specs[place % step :: step]
    assert checked(part) == len(part) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20_cifar", "plain20_cifar", "wide_resnet16_4_cifar", "preact_resnet110_cifar"])
def test_sgd_moves_every_number(name):
    """After 20 steps of SGD no number is unchanged; fails with the start of earlier versions."""
    keras.utils.set_random_seed(0)
    model = reszoo.create(name, input_shape=(8, 8, 3), classes=4, depths=1)
    x, y = examples((8, 8, 3), count=64)

    def unmoved(model):
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
        before = model.get_weights()
        model.fit(x, y, batch_size=64, epochs=20, verbose=0)
        pairs = zip(before, model.get_weights(), model.weights, strict=True)
        same = [np.mean(old == new) * old.size for old, new, variable in pairs if variable.trainable]
        return sum(same) / model.count_params()

    assert unmoved(model) < 0.01
    if name == "resnet20_cifar":
        assert unmoved(old_start(reszoo.create(name, input_shape=(8, 8, 3), classes=4, depths=1))) > 0.5


# The census.


def test_census_counts_dead_padded_channels():
    model = old_start(reszoo.resnet20_cifar(input_shape=(8, 8, 3), classes=4, depths=1))
    before = model.get_weights()
    found = census(model, *examples((8, 8, 3)))
    assert found.level == "broken" and 0.5 < found.share < 0.6 and found.dead == 16 + 48
    assert {units.layer: units.dead for units in found.units if units.dead} == {
        "stage2_block1_act": 16,
        "stage3_block1_act": 48,
    }
    assert "55.8%" in found.verdict and "stage3_block1_act" in found.verdict
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    ill = reszoo.diagnose(model, *examples((8, 8, 3)))
    assert ill["census"].level == "broken" and not ill.healthy
    assert any("remove_dead_channels" in advice.what for advice in ill.advice)


def layers(*dense, inputs=6):
    return keras.Sequential([keras.Input((inputs,)), *(keras.layers.Dense(**each) for each in dense)])


OUT = {"units": 4, "activation": "softmax"}
ILL = [
    ({"units": 8, "activation": "relu", "bias_initializer": keras.initializers.Constant(-99)}, "dead", 8),
    ({"units": 8, "activation": "relu", "kernel_initializer": "ones"}, "duplicated", 7),
    ({"units": 8, "activation": "tanh", "bias_initializer": keras.initializers.Constant(99)}, "saturated", 8),
]


@pytest.mark.parametrize(("layer", "kind", "count"), ILL, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("apart", [False, True], ids=["in the layer", "separate layer"])
def test_units_that_do_not_learn_are_counted(layer, kind, count, apart):
    first = layer | {"activation": None} if apart else layer
    after = [keras.layers.Activation(layer["activation"])] if apart else []
    # Equal units stay equal only if the following layer has equal weights for them.
    out = OUT | {"kernel_initializer": "ones" if kind == "duplicated" else "glorot_uniform"}
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(**first), *after, keras.layers.Dense(**out)])
    (units,) = census(model, *examples((6,))).units
    counts = {name: getattr(units, name) for name in ("dead", "saturated", "duplicated")}
    assert counts == {"dead": 0, "saturated": 0, "duplicated": 0} | {kind: count} and units.count == 8


def test_weights_that_read_only_zeros_are_counted_separately_and_frozen_layers_are_named():
    x, y = examples((6,))
    x[:, :2] = 0
    model = layers({"units": 8, "activation": "relu", "name": "first"}, OUT)
    found = census(model, x, y)
    assert found.zero_inputs == found.without_gradient == 16 and found.share == 0 and found.level == "healthy"
    model.get_layer("first").trainable = False
    found = census(model, x, y)
    assert (found.frozen, found.frozen_numbers, found.numbers) == (("first",), 56, 36)
    tiny = reszoo.resnet18(input_shape=(32, 32, 3), depths=1, width_multiplier=0.125, classes=4)
    # At 32 pixels the last map is 1x1: eight of nine taps of its kernels see padding.
    assert census(tiny, *examples((32, 32, 3))).padding > 30_000


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param(name, marks=needs(name)) for name in ("jax", "torch")])
def test_census_is_the_same_on_other_backends(backend):
    code = """
import keras, numpy as np, reszoo
keras.utils.set_random_seed(0)
model = reszoo.resnet20_cifar(input_shape=(8, 8, 3), classes=4, depths=1)
for layer in model.layers:
    if layer.name.endswith("unit2_norm"):
        layer.gamma.assign(layer.gamma * 0)
random = np.random.default_rng(0)
found = reszoo.diagnosis.census(model, random.normal(size=(48, 8, 8, 3)).astype("float32"), random.integers(0, 4, 48))
print(found.dead, 0.5 < found.share < 0.6, found.level)
"""
    assert python(code, backend=backend).strip() == "64 True broken"


# Removal of dead channels.


def filled(model, seed=0):
    """Random weights and statistics."""
    random = np.random.default_rng(seed)
    for variable in (variable for layer in model.layers for variable in layer.weights):
        values = {
            "moving_variance": random.uniform(0.5, 2, variable.shape),
            "gamma": random.uniform(0.5, 1.5, variable.shape),
            "kernel": random.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:-1])),
        }
        variable.assign(values.get(variable.name, random.normal(size=variable.shape) * 0.1))
    return model


def silenced(model, random, share=1 / 3):
    """Sets a third of the channels of every layer in the blocks to zero, at random positions."""
    for layer in model.layers:
        if (
            layer.name.startswith("stage")
            and "shortcut" not in layer.name
            and "se_" not in layer.name
            and layer.weights
        ):
            gone = random.permutation(layer.weights[0].shape[-1])[: int(layer.weights[0].shape[-1] * share)]
            for variable in layer.trainable_variables:
                value = keras.ops.convert_to_numpy(variable).copy()
                value[..., gone] = 0
                variable.assign(value)
    return model


NARROWED = [
    ("resnet20_cifar", {"depths": 2}),
    ("plain20_cifar", {"depths": 2}),
    ("resnet18", {"width_multiplier": 0.25, "stem": "cifar"}),
    ("resnet50", {"width_multiplier": 0.25, "stem": "cifar", "depths": 2}),
    ("resnet50d", {"width_multiplier": 0.25, "depths": 1}),
    ("preact_resnet110_cifar", {"depths": 2}),
    ("preact_resnet164_cifar", {"depths": 1}),
    ("residual_mlp18", {"depths": 2}),
    ("se_resnet50", {"depths": 1, "width_multiplier": 0.25}),
    ("resnet20_cifar", {"depths": 2, "norm": "none", "bias": True}),
    ("resnet20_cifar", {"depths": 2, "shortcut": "project_all"}),
]


@pytest.mark.parametrize(("name", "changes"), NARROWED)
def test_narrower_network_has_the_same_outputs(name, changes):
    size = {} if reszoo.spec(name).dense else {"input_shape": (32, 32, 3)}
    random = np.random.default_rng(0)
    model = silenced(filled(reszoo.create(name, **size, classes=4, **changes)), random)
    before = model.get_weights()
    narrow = reszoo.remove_dead_channels(model)
    wide, less = (reszoo.cost(reszoo.spec_of(each)) for each in (model, narrow))
    assert less.params < 0.85 * wide.params and less.macs < wide.macs and narrow.count_params() == less.params_all
    x = random.normal(size=(8, *reszoo.spec_of(model).input_shape)).astype("float32")
    np.testing.assert_allclose(narrow.predict(x, verbose=0), model.predict(x, verbose=0), rtol=2e-5, atol=2e-6)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def test_network_with_two_thirds_dead_channels_has_identical_outputs_without_them():
    """As earlier shipped weights: gamma and beta are zero in the padded channels, 16 of 32 and 48 of 64."""
    model = filled(reszoo.resnet20_cifar(input_shape=(28, 28, 1), classes=10))
    for layer in model.layers:
        if layer.name.startswith(("stage2", "stage3")) and layer.name.endswith("unit2_norm"):
            padded = np.r_[0 : layer.gamma.shape[0] // 2 - 8, layer.gamma.shape[0] // 2 + 8 : layer.gamma.shape[0]]
            for variable in (layer.gamma, layer.beta):
                value = keras.ops.convert_to_numpy(variable).copy()
                value[padded] = 0
                variable.assign(value)
    narrow = reszoo.remove_dead_channels(model)
    less, wide = reszoo.cost(reszoo.spec_of(narrow)), reszoo.cost(reszoo.spec_of(model))
    assert wide.params - less.params == 171_360 and round(less.macs / wide.macs, 2) == 0.62
    x = np.random.default_rng(1).normal(size=(100, 28, 28, 1)).astype("float32")
    assert np.array_equal(narrow.predict(x, verbose=0), model.predict(x, verbose=0))


def test_network_without_dead_channels_is_refused():
    with refused(["no removable dead channels"]):
        reszoo.remove_dead_channels(filled(reszoo.resnet20_cifar(depths=1, classes=4)))
    with refused(["not a network of reszoo"]):
        reszoo.remove_dead_channels(layers(OUT))


def test_constants_match_the_outputs_of_the_network():
    model = silenced(filled(reszoo.resnet20_cifar(input_shape=(8, 8, 3), depths=2)), np.random.default_rng(0))
    network = reszoo.plan(reszoo.spec_of(model))
    weights = {
        op.name: {v.name: keras.ops.convert_to_numpy(v) for v in model.get_layer(op.name).weights}
        for op in network.ops
        if op.weights
    }
    found = constants(network, weights)
    x = examples((8, 8, 3))[0]
    outputs = keras.Model(model.input, {op.name: model.get_layer(op.name).output for op in network.ops})(x)
    count = 0
    for name, tensor in outputs.items():
        flat = keras.ops.convert_to_numpy(tensor).reshape(-1, tensor.shape[-1])
        known = ~np.isnan(found[name])
        assert (flat[:, known] == found[name][known].astype("float32")).all(), name
        count += known.sum()
    assert count > 200


def test_files_with_the_start_of_earlier_versions_open():
    model = reszoo.resnet20_cifar(input_shape=(8, 8, 3), depths=2)
    config = model.get_config()
    for layer in config["layers"]:
        if layer["name"].endswith("unit2_norm"):
            layer["config"]["gamma_initializer"] = {"module": "keras.initializers", "class_name": "Zeros", "config": {}}
    before = keras.Model.from_config(config)
    assert reszoo.spec_of(before) == reszoo.spec_of(model) and reszoo.spec_of(model).block.start == "identity"
    assert reszoo.deepen(before, stage=2).output_shape == (None, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "none", "init": "orthogonal", "block": {"start": "scaled"}},
        {"depths": 1},
        {"block": {"order": "pre"}, "norm": "none", "depths": 1, "stem": {"width": 8}},
    ],
)
def test_spec_of_recovers_the_start(changes):
    spec = reszoo.spec("resnet20_cifar", **changes)
    assert reszoo.spec_of(reszoo.create(spec)) == spec
    wide = reszoo.spec("resnet50", depths=1, stem="cifar", input_shape=(16, 16, 3))  # every block changes the shape
    assert wide.block.start == "identity" and reszoo.spec_of(reszoo.create(wide)) == wide
