"""Networks of files without known names: by Keras graph, by order and shapes, by outputs; and what is refused."""

import re
import warnings

import keras
import numpy as np
import pytest
from conftest import refused
from keras import layers as L

import reszoo
from reszoo.errors import ReszooError
from reszoo.weights.formats.write import write_safetensors

X = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")


@pytest.fixture(autouse=True)
def _fresh():
    keras.utils.set_random_seed(1)
    yield
    keras.backend.clear_session()


def outputs(model, x=X):
    return keras.ops.convert_to_numpy(model(x, training=False))


def agree(model, expected, x=X):
    np.testing.assert_allclose(outputs(model, x), expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


# Keras files, read through their graph.


def unit(x, width, kernel=3, stride=1, act="relu", padding="same", **settings):
    x = L.Conv2D(width, kernel, stride, padding=padding, use_bias=settings.pop("bias", True))(x)
    x = L.BatchNormalization(**settings)(x)
    return L.Activation(act)(x) if act else x


def keras_io(*, pool=False, norm=False, act="relu", final="softmax", order=None, **settings):
    """keras.io's ResNet v1, MLPerf Tiny's ResNet-8 (with pool), and relatives."""
    image = keras.Input((16, 16, 3))
    x = unit(image, 8, act=act, **settings)
    for stage, width in enumerate((8, 12)):
        y = unit(unit(x, width, stride=1 + stage, act=act, **settings), width, act=None, **settings)
        if stage:
            x = L.Conv2D(width, 1, 2, padding="same", use_bias=settings.get("bias", True))(x)
            x = L.BatchNormalization(**{key: settings[key] for key in settings if key != "bias"})(x) if norm else x
        x = L.Activation(act)(L.Add()([y, x] if order == "swapped" else [x, y]))
    x = L.Flatten()(L.AveragePooling2D(8)(x)) if pool else L.GlobalAveragePooling2D()(x)
    if final == "layer":
        return keras.Model(image, L.Softmax()(L.Dense(5)(x)))
    return keras.Model(image, L.Dense(5, activation=final)(x) if final else x)


def keras_io_v2():
    image = keras.Input((16, 16, 3))

    def before(x, width, kernel=3, stride=1, bare=False):
        x = x if bare else L.Activation("relu")(L.BatchNormalization()(x))
        return L.Conv2D(width, kernel, stride, padding="same")(x)

    x, width = unit(image, 8), 8
    for stage in range(2):
        wide, stride = width * (4 if stage == 0 else 2), 1 + stage
        y = before(before(before(x, width, 1, stride, stage == 0), width), wide, 1)
        x = L.Add()([L.Conv2D(wide, 1, stride, padding="same")(x), y])
        x = L.Add()([x, before(before(before(x, width, 1), width), wide, 1)])
        width = wide
    x = L.GlobalAveragePooling2D()(L.Activation("relu")(L.BatchNormalization()(x)))
    return keras.Model(image, L.Dense(5, activation="softmax")(x))


def padded():
    """Explicit zero padding on both sides, a stem with a pool, bottlenecks, a leaky activation."""
    image = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 7, 2, use_bias=False)(L.ZeroPadding2D(3)(image))
    x = L.LeakyReLU(0.2)(L.GroupNormalization(4)(x))
    x = L.MaxPooling2D(3, 2, padding="same")(x)
    return image, x


def randomise(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0, np.prod(weight.shape[:-1]) ** -0.5, weight.shape))
        else:
            positive = weight.name in ("gamma", "moving_variance")
            weight.assign(rng.uniform(0.3, 1.2, weight.shape) if positive else rng.normal(0, 0.1, weight.shape))
    return model


def nested():
    inner = keras_io(bias=False, norm=True, final=None)
    image = keras.Input((16, 16, 3))
    return keras.Model(image, L.Dense(5, activation="softmax")(L.Dropout(0.2)(inner(image))))


def in_sequence():
    return keras.Sequential([keras.Input((16, 16, 3)), L.RandomFlip(), keras_io(final=None), L.Dense(4)])


GRAPHS = {
    "keras.io v1": keras_io,
    "keras.io v2": keras_io_v2,
    "MLPerf Tiny": lambda: keras_io(pool=True),
    "other settings": lambda: keras_io(norm=True, bias=False, epsilon=1e-4, final="layer", order="swapped"),
    "leaky": lambda: keras_io(act="leaky_relu"),
    "without scale": lambda: keras_io(norm=True, scale=False, center=False),
    "nested": nested,
    "in a sequence": in_sequence,
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("end", [".keras", pytest.param(".h5", marks=pytest.mark.slow)])
def test_keras_file_is_read_through_its_graph(tmp_path, name, end):
    model = randomise(GRAPHS[name]())
    model.save(tmp_path / f"net{end}")
    loaded, report = reszoo.from_checkpoint(tmp_path / f"net{end}")
    agree(loaded, outputs(model))
    assert report.is_inferred and "stem_conv" in str(report)
    assert [note for note in report.notes if "no gamma" not in note] == []


def test_trunk_of_a_keras_file_is_loaded(tmp_path):
    model = randomise(nested())
    model.save(tmp_path / "net.keras")
    trunk, _ = reszoo.from_checkpoint(tmp_path / "net.keras", include_top=False)
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    agree(trunk, outputs(keras.Model(inner.input, inner.layers[-2].output)))


def test_names_by_hand_do_not_overrule_the_graph(tmp_path):
    model = randomise(keras_io())
    model.save(tmp_path / "net.keras")
    stem = next(layer.name for layer in model.layers if isinstance(layer, L.Conv2D))
    loaded, _ = reszoo.from_checkpoint(tmp_path / "net.keras", names={"stem_conv": stem})
    agree(loaded, outputs(model))


def test_head_of_a_keras_file_is_kept_or_left_out(tmp_path):
    trunk = keras_io(final=None)
    x = L.Dense(5, activation="softmax")(L.Dropout(0.3)(L.Dense(7, activation="relu")(trunk.output)))
    model = randomise(keras.Model(trunk.input, x))
    model.save(tmp_path / "kept.keras")
    agree(reszoo.from_checkpoint(tmp_path / "kept.keras").model, outputs(model))
    model = keras.Model(trunk.input, L.Dense(5)(L.Dense(7, activation="tanh")(trunk.output)))
    with refused(["activation 'tanh'"]):
        model.save(tmp_path / "other.keras")
        reszoo.from_checkpoint(tmp_path / "other.keras")


def changed(**settings):
    """A network with one layer that no spec describes."""
    image = keras.Input((16, 16, 3))
    x = unit(image, 8)
    y = settings.get("unit", lambda x: unit(unit(x, 8), 8, act=None))(x)
    x = settings.get("merge", lambda x, y: L.Add()([x, y]))(x, y)
    x = settings.get("pool", L.GlobalAveragePooling2D())(L.Activation("relu")(x))
    return keras.Model(image, L.Dense(5)(x))


REFUSED_GRAPHS = {
    "padding": (
        lambda: changed(unit=lambda x: unit(unit(L.ZeroPadding2D(2)(x), 8, 5, padding="valid"), 8, 5, act=None)),
        None,
    ),
    "valid": (
        lambda: changed(
            unit=lambda x: L.ZeroPadding2D(2)(unit(unit(x, 8, padding="valid"), 8, 3, padding="valid", act=None))
        ),
        ["pads neither"],
    ),
    "activation": (lambda: changed(unit=lambda x: unit(unit(x, 8, act="elu"), 8, act=None)), ["'elu'"]),
    "layer": (lambda: changed(unit=lambda x: L.LayerNormalization()(unit(x, 8))), ["LayerNormalization"]),
    "merge": (lambda: changed(merge=lambda x, y: L.Concatenate()([x, y])), ["Concatenate"]),
    "epsilon": (lambda: changed(unit=lambda x: unit(unit(x, 8, epsilon=1e-5), 8, act=None)), ["epsilon 1e-05"]),
    "extra": (lambda: changed(pool=lambda x: L.GlobalAveragePooling2D()(L.Conv2D(8, 1)(x))), ["conv"]),
    "pool": (lambda: changed(pool=lambda x: L.Flatten()(L.AveragePooling2D(8)(x))), ["single pixels"]),
    "wide": (lambda: changed(unit=lambda x: unit(L.Conv2D(8, (1, 3), padding="same")(x), 8, act=None)), ["1x3"]),
}


@pytest.mark.parametrize("name", REFUSED_GRAPHS)
def test_layer_that_no_spec_describes_is_named(tmp_path, name):
    build, texts = REFUSED_GRAPHS[name]
    model = randomise(build())
    model.save(tmp_path / "net.keras")
    if texts is None:
        agree(reszoo.from_checkpoint(tmp_path / "net.keras").model, outputs(model))
        return
    with refused(texts):
        reszoo.from_checkpoint(tmp_path / "net.keras")


def test_keras_weights_without_a_graph_are_refused(tmp_path):
    keras_io().save_weights(tmp_path / "net.weights.h5")
    with refused(["neither the graph nor the order", "model.save"]):
        reszoo.from_checkpoint(tmp_path / "net.weights.h5")


CONFIGS = [
    {"class_name": "Functional", "config": {"layers": [{}]}},
    {
        "class_name": "Functional",
        "config": {"layers": [], "input_layers": [["a", 0, 0]], "output_layers": [["b", 0, 0]]},
    },
    {"class_name": "Sequential", "config": [{"class_name": "Conv2D", "config": {"name": "a", "filters": "x"}}]},
    {"class_name": "Sequential", "config": {"layers": []}},
    {
        "class_name": "Functional",
        "config": {
            "layers": [{"class_name": "Add", "config": {"name": "a"}, "inbound_nodes": 3}],
            "input_layers": [["a", 0, 0]],
            "output_layers": [["a", 0, 0]],
        },
    },
]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_damaged_configuration_is_refused(number):
    from reszoo.weights.graph import read_graph

    with pytest.raises(ReszooError):
        read_graph(CONFIGS[number], name="net", where="file.keras")


def test_layers_of_keras_1_are_understood():
    from reszoo.weights.keras_layers import description

    old = {"nb_filter": 8, "nb_row": 3, "nb_col": 3, "subsample": [2, 2], "border_mode": "same", "bias": True}
    kind, settings = description("Convolution2D", {"name": "a", "activation": "relu", **old})
    assert (kind, settings["width"], settings["stride"], settings["padding"]) == ("conv", 8, 2, "same")
    assert description("Merge", {"mode": "sum"}) == ("add", {})
    assert description("Merge", {"mode": "concat"})[0] is None


# PyTorch files of unknown names, and what no file tells.

TORCH = pytest.mark.skipif(not __import__("importlib.util").util.find_spec("torch"), reason="needs PyTorch")


def torch_net(**settings):
    import torch
    import torch.nn.functional as F
    from torch import nn

    norm = settings.get("norm", nn.BatchNorm2d)
    act = settings.get("act", F.relu)
    shortcut, strides = settings.get("shortcut", "project"), settings.get("strides", (1, 2))
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            mode = settings.get("padding_mode", "zeros")
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False, padding_mode=mode)
            self.bn1 = norm(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), norm(width)
            self.more = width - inputs
            if shortcut == "project" and (self.more or stride > 1):
                self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), norm(width))

        def forward(self, x):
            y = self.bn2(self.conv2(act(self.bn1(self.conv1(x)))))
            if hasattr(self, "downsample"):
                x = self.downsample(x)
            elif shortcut == "none":
                x = 0 * y
            elif self.more:
                x = F.avg_pool2d(x, 2) if shortcut == "pool_pad" else x[:, :, ::2, ::2]
                before = 0 if shortcut == "pad_behind" else self.more // 2
                x = F.pad(x, (0, 0, 0, 0, before, self.more - before))
            return act(y + x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, settings.get("stem", 1), 1, bias=False), norm(8)
            self.layer1 = nn.Sequential(Block(8, 8, strides[0]))
            self.layer2 = nn.Sequential(Block(8, 12, strides[1]), Block(12, 12, 1))
            self.fc = nn.Linear(12, 5)

        def forward(self, x):
            x = self.layer2(self.layer1(act(self.bn1(self.conv1(x)))))
            return self.fc(x.mean((2, 3)))

    net = Net()
    for module in net.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.2, 1.3)
    return net.eval()


def logits(net, x=X):
    import torch

    with torch.inference_mode():
        return net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def saved(state, path):
    import torch

    torch.save(state, path)
    return path


def renamed(net, *pairs):
    state = net.state_dict()
    for old, new in pairs:
        state = {re.sub(old, new, name): tensor for name, tensor in state.items()}
    return state


STEM = (("^conv1", "stem.0"), ("^bn1", "stem.1"))
CELL = ((r"\.conv1", ".cell.0"), (r"\.bn1", ".cell.1"), (r"\.conv2", ".cell.3"), (r"\.bn2", ".cell.4"))
RENAMED = {
    "one run": (*STEM, (r"^layer1\.0", "blocks.0"), (r"^layer2\.(\d)", r"blocks.1\1"), ("downsample", "shortcut")),
    "cells": (*STEM, ("^layer", "group"), *CELL, ("downsample", "match"), ("^fc", "l")),
    "words": (("^conv1", "start"), ("^bn1", "start_norm"), ("conv(.)", r"layer_\1"), ("bn(.)", r"batch_norm_\1")),
}


@TORCH
@pytest.mark.parametrize("name", RENAMED)
def test_unknown_names_are_read_by_order_and_shapes(tmp_path, name):
    net = torch_net()
    path = saved(renamed(net, *RENAMED[name]), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match="does not tell"):
        model, report = reszoo.from_checkpoint(path)
    agree(model, logits(net))
    assert report.is_inferred and "names unknown; inferred" in str(report)
    assert any(re.match(r"stage2_block1_shortcut_conv +\S+ \(1x1x8x12\)", row) for row in report.table)


def blocks(state, *order):
    """A state dict with the tensors of every block in another order of layers."""
    layers = {name.rpartition(".")[0]: {} for name in state}
    for name, tensor in state.items():
        layers[name.rpartition(".")[0]][name] = tensor
    ranks = {word: number for number, word in enumerate(order)}

    def key(layer):
        block = re.match(r"(layer\d\.\d)\.(.*)", layer)
        return (block[1], ranks[block[2]]) if block else ("" if layer in ("conv1", "bn1") else "z", 0)

    return {name: tensor for layer in sorted(layers, key=key) for name, tensor in layers[layer].items()}


@TORCH
@pytest.mark.parametrize(
    "order",
    [
        ("downsample.0", "downsample.1", "conv1", "bn1", "conv2", "bn2"),
        ("conv1", "conv2", "downsample.0", "bn1", "bn2", "downsample.1"),
        ("conv1", "conv2", "bn1", "bn2", "downsample.0", "downsample.1"),
    ],
    ids="-".join,
)
def test_order_of_layers_within_a_block_may_differ(tmp_path, order):
    net = torch_net()
    state = blocks(net.state_dict(), *order)
    state = {re.sub("^layer", "group", name): tensor for name, tensor in state.items()}
    path = saved(state, tmp_path / "net.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree(reszoo.from_checkpoint(path).model, logits(net))


@TORCH
def test_unknown_names_that_tell_too_little_are_refused(tmp_path):
    zeros = torch_net(shortcut="pad")
    path = saved(renamed(zeros, ("^layer", "group")), tmp_path / "net.pth")
    with refused(["shortcut", "pad_behind", "pool_pad", "none", "settle"]):
        reszoo.from_checkpoint(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree(reszoo.from_checkpoint(path, shortcut="pad").model, logits(zeros))
    state = renamed(torch_net(), ("^layer", "group"))
    refusals = {
        "sorted by name": dict(sorted(state.items())),
        "belongs to no layer": {re.sub("conv(.).weight", r"conv\1.other", name): state[name] for name in state},
        "AdderNet": {re.sub("conv(.).weight", r"conv\1.adder", name): state[name] for name in state},
        "other layers: group1.0.bn3.weight": {**state, "group1.0.bn3.weight": state["group1.0.bn1.weight"]},
        "projections of 3x3": {
            name: tensor.repeat(1, 1, 3, 3) if "downsample.0" in name else tensor for name, tensor in state.items()
        },
    }
    for text, tensors in refusals.items():
        with refused([text]):
            reszoo.from_checkpoint(saved(tensors, tmp_path / "other.pth"))
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    write_safetensors(arrays, tmp_path / "net.safetensors")
    with refused(["sorted by name"]):
        reszoo.from_checkpoint(tmp_path / "net.safetensors")


@TORCH
def test_last_convolution_that_widens_is_refused(tmp_path):
    import torch

    state, width = {}, 8
    for number, (name, out) in enumerate((("stem", 8), ("a.0", 8), ("a.3", 8), ("b.0", 8), ("b.3", 16))):
        state[f"{name}.weight"] = torch.ones(out, 3 if not number else width, 3, 3)
        norm = "n" if name == "stem" else f"{name[0]}.{int(name[2]) + 1}"
        state |= {f"{norm}.{key}": torch.ones(out) for key in ("weight", "bias", "running_mean", "running_var")}
        width = out
    state |= {"fc.weight": torch.ones(5, 16), "fc.bias": torch.ones(5)}
    with refused(["widens in its last convolution"]):
        reszoo.from_checkpoint(saved(state, tmp_path / "net.pth"), shortcut="pad")


# Norms without statistics.


@TORCH
def test_norms_without_statistics_are_refused_unless_the_groups_are_told(tmp_path):
    from torch import nn

    net = torch_net(norm=lambda width: nn.GroupNorm(4, width))
    path = saved(net.state_dict(), tmp_path / "net.pth")
    with refused(["without running statistics", "norm={'groups': n}", "norm={'groups': 24} for an instance norm"]):
        reszoo.from_checkpoint(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree(reszoo.from_checkpoint(path, norm={"groups": 4}).model, logits(net))
        agree(reszoo.from_checkpoint(path, check=(X, logits(net))).model, logits(net))
        instance = torch_net(norm=lambda width: nn.InstanceNorm2d(width, affine=True))
        path = saved(instance.state_dict(), tmp_path / "instance.pth")
        agree(reszoo.from_checkpoint(path, norm={"groups": 24}).model, logits(instance))
    size = {"depths": [1, 2], "widths": [8, 12], "stem": {"width": 8}, "input_shape": (16, 16, 3), "classes": 5}
    with pytest.warns(UserWarning, match="normalises in 32 groups"):
        reszoo.resnet20_cifar(shortcut="project", norm="group", classifier_activation=None, weights=path, **size)
    bare = torch_net(norm=lambda width: nn.InstanceNorm2d(width))
    with refused(["norms without weights leave no trace"]):
        reszoo.from_checkpoint(saved(bare.state_dict(), tmp_path / "bare.pth"))


@TORCH
def test_norms_without_scale_are_read(tmp_path):
    from torch import nn

    net = torch_net(norm=lambda width: nn.BatchNorm2d(width, affine=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, report = reszoo.from_checkpoint(saved(net.state_dict(), tmp_path / "net.pth"))
    agree(model, logits(net))
    assert any("scale" in note for note in report.notes)


# What a file cannot tell, settled by outputs.


def test_a_stride_before_or_behind_a_unit_of_1x1_is_no_question(tmp_path):
    from reszoo.weights.origin import open_weights
    from reszoo.weights.questions import questions

    model = reszoo.create("resnet50", depths=1, width_multiplier=0.0625, input_shape=(64, 64, 3), classes=5)
    reszoo.convert(model, tmp_path / "net.pth", to="torchvision")
    translated = open_weights(tmp_path / "net.pth").translated
    for at, others in ((2, [1]), (1, [2]), (3, [1])):
        spec = reszoo.spec_of(model).replace(block={"stride_at": at})
        asked = {each.field: each.alternatives for each in questions(translated, spec)}
        assert asked["block.stride_at"] == tuple({"block": {"stride_at": other}} for other in others)


def activation(name, **settings):
    import torch.nn.functional as F

    return lambda x: getattr(F, name)(x, **settings)


UNTOLD = {
    "as assumed": (dict, {}),
    "zeros behind": (lambda: {"shortcut": "pad_behind"}, {"shortcut": "pad_behind"}),
    "averaged": (lambda: {"shortcut": "pool_pad"}, {"shortcut": "pool_pad"}),
    "plain": (lambda: {"shortcut": "none"}, {"shortcut": "none"}),
    "leaky": (
        lambda: {"act": activation("leaky_relu", negative_slope=0.1)},
        {"activation": {"kind": "leaky_relu", "slope": 0.1}},
    ),
    "gelu": (lambda: {"act": activation("gelu")}, {"activation": "gelu"}),
    "stem": (lambda: {"stem": 2}, {"stem": {"stride": 2, "pool": "none"}}),
    "strides": (lambda: {"strides": (1, 1)}, {"strides": [1, 1]}),
}


@TORCH
@pytest.mark.slow
@pytest.mark.parametrize("name", UNTOLD)
def test_outputs_settle_what_the_file_does_not_tell(tmp_path, name):
    settings, answers = UNTOLD[name]
    net = torch_net(**settings())
    path = saved(net.state_dict(), tmp_path / "net.pth")
    settled = reszoo.settle(path, X, logits(net))
    assert settled.answers == answers and settled.difference < 1e-5 and not settled.ties
    assert len(repr(settled)) < 200
    agree(reszoo.create(settled.spec, classifier_activation=None, weights=path), logits(net))


@TORCH
@pytest.mark.slow
def test_two_answers_at_once_and_changed_inputs_are_settled(tmp_path):
    from torch import nn

    net = torch_net(norm=lambda width: nn.BatchNorm2d(width, eps=1e-3), act=activation("silu"))
    path = saved(net.state_dict(), tmp_path / "net.pth")
    assert reszoo.settle(path, X, logits(net)).answers == {"activation": "silu", "norm": {"epsilon": 1e-3}}
    net = torch_net()
    path = saved(net.state_dict(), tmp_path / "net.pth")
    assert reszoo.settle(path, X[..., ::-1], logits(net)).inputs == "channels reversed"


@TORCH
@pytest.mark.slow
def test_the_nearest_network_is_not_taken(tmp_path):
    net = torch_net(padding_mode="reflect")
    path = saved(net.state_dict(), tmp_path / "net.pth")
    with refused(["none of", "networks gives"]):
        reszoo.from_checkpoint(path, check=(X, logits(net)))
    with refused(["outputs", "shape"]):
        reszoo.settle(path, X, logits(net)[:, :3])
    with refused(["inputs", "channels last"]):
        reszoo.settle(path, X.transpose(0, 3, 1, 2), logits(net))


@TORCH
def test_examples_that_decide_nothing_say_so(tmp_path):
    net = torch_net()
    path = saved(net.state_dict(), tmp_path / "net.pth")
    gray = np.zeros((2, 16, 16, 3), "float32")
    with pytest.warns(UserWarning, match="several networks give these outputs"):
        assert reszoo.settle(path, gray, logits(net, gray)).ties


@TORCH
@pytest.mark.slow
def test_check_of_load_weights_refuses_other_outputs_and_keeps_the_model(tmp_path):
    net = torch_net(strides=(1, 1))
    path = saved(net.state_dict(), tmp_path / "net.pth")
    model, _ = reszoo.from_checkpoint(path, check=(X, logits(net)))
    agree(model, logits(net))
    report = reszoo.load_weights(model, path, check=(X, logits(net)))
    assert not report.missing
    assert any(
        "settled by the outputs" in note for note in reszoo.from_checkpoint(path, check=(X, logits(net))).report.notes
    )
    before = model.get_weights()
    with refused(["outputs that differ", "settle"]):
        reszoo.load_weights(model, path, check=(X, logits(net) + 0.1))
    assert all((one == other).all() for one, other in zip(before, model.get_weights(), strict=True))


@TORCH
def test_common_alternatives_are_warned_of_and_listed(tmp_path):
    net = torch_net(shortcut="pad_behind")
    path = saved(net.state_dict(), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match="shortcut .pad_behind"):
        report = reszoo.from_checkpoint(path).report
    assert any(
        "(pad or pad_behind or pool_pad or pool_pad_behind or none); assuming pad" in one for one in report.notes
    )
    assert any("leaky_relu 0.1" in note and "strides" in note for note in report.notes)


@TORCH
def test_projection_of_the_first_stage_tells_its_stride(tmp_path):
    net = torch_net(strides=(2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = reszoo.from_checkpoint(saved(net.state_dict(), tmp_path / "net.pth"))
    agree(model, logits(net))


def test_kernels_in_the_order_of_theano_are_named(tmp_path):
    from reszoo.weights.graph import read_graph

    config = {"name": "a", "nb_filter": 8, "nb_row": 3, "nb_col": 3, "dim_ordering": "th"}
    layers = [{"class_name": "Convolution2D", "config": config}]
    with refused(["Theano"]):
        read_graph({"class_name": "Sequential", "config": layers}, name="net", where="net.h5")
    shapes = {"stem_conv/kernel": (8, 3, 7, 7), "stage1_block1_unit1_conv/kernel": (8, 8, 3, 3)}
    write_safetensors({name: np.zeros(shape, "float32") for name, shape in shapes.items()}, tmp_path / "a.safetensors")
    with refused(["Theano"]):
        reszoo.from_checkpoint(tmp_path / "a.safetensors")
