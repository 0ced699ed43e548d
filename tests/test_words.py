"""Words of the spec that foreign networks need: padding, activations, projections, shortcuts of zeros."""

import keras
import numpy as np
import pytest
from test_build import images, predict, randomise
from test_living import ALLOWED, share_without_gradient

import reszoo
from reszoo.arch.parts import ORDERS
from reszoo.arch.plan import plan
from reszoo.errors import ReszooError

ZEROS = ("pad", "pad_behind", "pool_pad", "pool_pad_behind")
SMALL = {"widths": [8, 16], "depths": [1, 2], "stem": {"width": 8}, "input_shape": (8, 8, 3), "classes": 4}


def small(**changes):
    block = {"shortcut": "project", **changes.pop("block", {})}
    return reszoo.spec("resnet20_cifar", **{**SMALL, "block": block, **changes})


NETWORKS = [
    *(small(block={"order": order, "shortcut": "project"}, padding="same") for order in ORDERS),
    *(small(block={"shortcut": shortcut, "start": "identity"}, bias=True) for shortcut in ZEROS),
    *(small(activation=kind) for kind in ("silu", "gelu")),
    small(activation={"kind": "leaky_relu", "slope": 0.2}, block={"order": "pre", "shortcut": "pad_behind"}),
    small(block={"projection": "bare", "order": "inner"}, bias=True),
    small(block={"projection": "bare", "shortcut": "project_all"}, norm="group", padding="same", bias=True),
    small(block={"order": "pre_raw", "shortcut": "pool_project"}, norm="none", activation="gelu"),
    small(block={"attention": "se", "reduction": 3, "multiple": 2}, widths=[8, 18]),
    small(
        block={"attention": "eca"}, stages=[{"depth": 1, "width": 8, "reach": 5}, {"depth": 2, "width": 16, "reach": 3}]
    ),
    small(block={"attention": "eca", "order": "pre_unshared", "shortcut": "pool_project"}, widths=[8, 128]),
    small(
        stem={"width": 8, "kernel": 7, "stride": 2, "pool": "max"},
        padding="same",
        activation="silu",
        input_shape=(32, 32, 3),
    ),
]


@pytest.mark.parametrize("number", range(len(NETWORKS)))
def test_network_of_new_words_is_recovered_and_learns(number):
    spec = NETWORKS[number]
    model = reszoo.create(spec)
    assert reszoo.spec_of(model) == spec.replace(norm={"groups": 16} if spec.norm.kind == "group" else {})
    cost = reszoo.cost(spec)
    assert (model.count_params(), model.output_shape[1:]) == (cost.params_all, cost.shape)
    assert share_without_gradient(spec, draws=4) <= ALLOWED


@pytest.mark.parametrize("size", [8, 9])
def test_padding_same_is_that_of_keras(size):
    model = reszoo.create(small(padding="same", input_shape=(size, size, 3)))
    randomise(model)
    x = images(2, size, size, 8)
    layer = model.get_layer("stage2_block1_unit1_conv")
    assert "stage2_block1_unit1_conv_pad" not in {each.name for each in model.layers}
    kernel = np.asarray(layer.kernel)
    total = 2 * ((size - 1) // 2) + 3 - size
    padded = np.pad(x, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_allclose(predict(layer, x), np.einsum("bhwcij,ijco->bhwo", windows, kernel), atol=1e-4)


@pytest.mark.parametrize(
    ("shortcut", "before", "pools"), [*zip(ZEROS, (4, 0, 4, 0), (False, False, True, True), strict=True)]
)
def test_zeros_are_where_the_shortcut_says(shortcut, before, pools):
    model = reszoo.create(small(block={"shortcut": shortcut}))
    source, padded = (model.get_layer(f"stage{name}").output for name in ("1_block1_act", "2_block1_shortcut_pad"))
    x, outputs = (
        keras.ops.convert_to_numpy(each) for each in keras.Model(model.input, [source, padded])(images(2, 8, 8, 3))
    )
    smaller = x.reshape(2, 4, 2, 4, 2, 8).mean((2, 4)) if pools else x[:, ::2, ::2]
    np.testing.assert_allclose(outputs, np.pad(smaller, ((0, 0),) * 3 + ((before, 8 - before),)), atol=1e-6)


def test_projection_of_raw_input_reads_what_the_addition_reads():
    ops = {op.name: op for op in plan(small(block={"order": "pre_raw"})).ops}
    assert ops["stage2_block1_shortcut_conv"].inputs == ("stage1_block1_add",)
    assert ops["stage1_block1_unit1_conv"].inputs == ("stem_act",)
    pre = {op.name: op for op in plan(small(block={"order": "pre"})).ops}
    assert pre["stage2_block1_shortcut_conv"].inputs == ("stage2_block1_unit1_act",)


@pytest.mark.parametrize("kind", ["silu", "gelu", "leaky_relu"])
def test_constant_channels_of_an_activation_are_constant(kind):
    from reszoo.arch.liveness import constants

    spec = small(activation=kind, bias=True)
    model = reszoo.create(spec)
    layer = model.get_layer("stage1_block1_unit1_norm")
    gamma, *rest = layer.get_weights()
    gamma[:3], rest[0][:3] = 0, (0, -1, 1)
    layer.set_weights([gamma, *rest])
    weights = {each.name: {w.name: np.asarray(w) for w in each.weights} for each in model.layers if each.weights}
    values = constants(plan(spec), weights)["stage1_block1_unit1_act"]
    outputs = predict(keras.Model(model.input, model.get_layer("stage1_block1_unit1_act").output), images(1, 8, 8, 3))
    assert values[0] == 0
    known = ~np.isnan(values)
    np.testing.assert_allclose(outputs[0, 4, 4][known], values[known], atol=1e-6)


WRONG = [
    ({"block": {"projection": "bare", "order": "pre"}}, "block.projection"),
    ({"block": {"projection": "bare", "shortcut": "pad"}}, "block.projection"),
    ({"block": {"reduction": 4}}, "block.reduction"),
    ({"block": {"attention": "eca", "multiple": 1}}, "block.multiple"),
    ({"stages": [{"depth": 1, "width": 8, "reach": 5}]}, "stages.0.reach"),
    ({"block": {"attention": "eca"}, "stages": [{"depth": 1, "width": 8, "reach": 4}]}, "stages.0.reach"),
    ({"activation": {"slope": 0.2}}, "activation.slope"),
    ({"activation": "swish"}, "activation"),
    ({"activation": "gelu", "init": "looks_linear"}, "init"),
    ({"block": {"shortcut": "pool_pad"}, "widths": [16, 8]}, "block.shortcut"),
    ({"padding": "end"}, "padding"),
]


@pytest.mark.parametrize(("changes", "where"), WRONG, ids=str)
def test_words_without_effect_are_refused(changes, where):
    with pytest.raises(ReszooError, match=where):
        small(**changes)


def test_network_whose_activation_changes_its_own_output_is_not_deepened():
    with pytest.raises(ReszooError, match="silu after the addition"):
        reszoo.deepen(reszoo.create(small(activation="silu")), stage=1)
