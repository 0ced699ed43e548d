"""ONNX files: graph and weights, as PyTorch exports them with and without norms, and what no network of the zoo has."""

import functools
import re

import numpy as np
import onnx_bytes as onnx
import pytest
from conftest import needs, refused

import reszoo
from reszoo.weights.formats.read import read

SMALL = {
    "depths": 1,
    "width_multiplier": 0.125,
    "input_shape": (32, 32, 3),
    "classes": 5,
    "classifier_activation": None,
}
X = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype("float32")


def network(name="resnet18", **changes):
    """A network with random weights and statistics."""
    model, random = reszoo.create(name, **SMALL | changes), np.random.default_rng(1)
    for weight in model.weights:
        low = 0.5 if weight.path.endswith(("gamma", "variance")) else -0.5
        weight.assign(random.uniform(low, low + 1, weight.shape).astype("float32"))
    return model


class Export:
    """The graph that PyTorch writes for a network of basic blocks."""

    def __init__(self, model, fold="none"):
        self.model, self.fold = model, fold
        self.nodes, self.arrays = [], []

    def add(self, operation, inputs, name, **attributes):
        self.nodes.append(onnx.node(operation, inputs, name, **attributes))
        return name

    def keep(self, name, value):
        kind = "int64" if np.asarray(value).dtype.kind == "i" else "float32"
        self.arrays.append((name, np.array(value, kind, order="C")))
        return name

    def conv(self, x, layer, norm=None, stride=1):
        """A convolution, and its norm behind it or folded into it."""
        kernel = np.asarray(self.model.get_layer(layer).kernel).transpose(3, 2, 0, 1)
        pads = [kernel.shape[-1] // 2] * 4
        sizes = {
            "kernel_shape": kernel.shape[2:],
            "strides": [stride] * 2,
            "pads": pads,
            "dilations": [1, 1],
            "group": 1,
        }
        inputs = [x]
        if norm and self.fold != "none":
            scale, shift = self.affine(norm)
            inputs += [self.keep(f"onnx::Conv_{layer}", kernel * scale[:, None, None, None])]
            return self.add("Conv", [*inputs, self.keep(f"onnx::Bias_{layer}", shift)], layer, **sizes)
        x = self.add("Conv", [*inputs, self.keep(f"{layer}.weight", kernel)], layer, **sizes)
        return self.norm(x, norm) if norm else x

    def affine(self, norm):
        gamma, beta, mean, variance = (np.array(each) for each in self.model.get_layer(norm).weights)
        scale = gamma / np.sqrt(variance + self.model.get_layer(norm).epsilon)
        return scale, beta - mean * scale

    def norm(self, x, layer):
        names = ("weight", "bias", "running_mean", "running_var")
        weights = zip(names, self.model.get_layer(layer).weights, strict=True)
        inputs = [self.keep(f"{layer}.{name}", np.array(weight)) for name, weight in weights]
        return self.add("BatchNormalization", [x, *inputs], layer, epsilon=1e-5, momentum=0.9)

    def bytes(self, **settings):
        return onnx.model(self.nodes, self.arrays, **settings)

    def head(self, x):
        x = self.add("GlobalAveragePool", [x], "pool")
        x = self.add("Flatten", [x], "flat", axis=1)
        dense = self.model.get_layer("predictions")
        weights = [self.keep("fc.weight", np.array(dense.kernel).T), self.keep("fc.bias", np.array(dense.bias))]
        self.add("Gemm", [x, *weights], "logits", alpha=1.0, beta=1.0, transB=1)
        return self


def post(model, fold="none", pool=None, gate=lambda export, x, block: x):
    export = Export(model, fold)
    x = export.add("Relu", [export.conv("x", "stem_conv", "stem_norm", 2)], "stem_act")
    x = export.add("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=0)
    for stage in range(1, 5):
        block, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        y = export.conv(x, f"{block}_unit1_conv", f"{block}_unit1_norm", stride)
        y = export.add("Relu", [y], f"{block}_unit1_act")
        y = gate(export, export.conv(y, f"{block}_unit2_conv", f"{block}_unit2_norm"), block)
        if stage > 1 and pool is not None:
            x = export.add("AveragePool", [x], f"{block}_pool", kernel_shape=[2, 2], strides=[2, 2], **pool)
        if stage > 1:
            x = export.conv(x, f"{block}_shortcut_conv", f"{block}_shortcut_norm", stride if pool is None else 1)
        x = export.add("Relu", [export.add("Add", [y, x], f"{block}_add")], f"{block}_act")
    return export.head(x)


def pre(model, fold="none"):
    """Pre-activation: a norm behind an addition has no convolution to be folded into."""
    export = Export(model, fold)
    x = export.conv("x", "stem_conv", None, 2)
    x = export.add("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage in range(1, 5):
        block, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        lead = export.add("Relu", [export.norm(x, f"{block}_unit1_norm")], f"{block}_unit1_act")
        y = export.conv(lead, f"{block}_unit1_conv", f"{block}_unit2_norm", stride)
        y = export.conv(export.add("Relu", [y], f"{block}_unit2_act"), f"{block}_unit2_conv")
        x = export.conv(lead, f"{block}_shortcut_conv", None, stride) if stage > 1 else x
        x = export.add("Add", [y, x], f"{block}_add")
    return export.head(export.add("Relu", [export.norm(x, "final_norm")], "final_act"))


CASES = {
    (name, fold): build for name, build in (("resnet18", post), ("preact_resnet18", pre)) for fold in ("none", "all")
}


@pytest.mark.parametrize(("name", "fold"), CASES)
def test_a_network_is_read_through_its_graph(tmp_path, name, fold):
    model = network(name)
    (tmp_path / "net.onnx").write_bytes(CASES[name, fold](model, fold).bytes())
    loaded = reszoo.from_checkpoint(tmp_path / "net.onnx")
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(loaded.model.predict(X, verbose=0), expected, atol=1e-5 * abs(expected).max())
    block = reszoo.spec_of(loaded.model).block
    assert (block.order, block.shortcut) == (reszoo.spec(name).block.order, "project")
    norm = reszoo.spec_of(loaded.model).norm
    assert norm.kind == ("none" if (name, fold) == ("resnet18", "all") else "batch")


@needs("onnxruntime")
def test_these_files_are_onnx(tmp_path):
    import onnxruntime

    model = network()
    (tmp_path / "net.onnx").write_bytes(post(model, "all").bytes())
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    (logits,) = session.run(None, {"x": X.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(logits, model.predict(X, verbose=0), rtol=1e-3, atol=1e-4 * abs(logits).max())


def test_arrays_beside_the_file(tmp_path):
    model = network()
    export = post(model)
    kernel = export.arrays[0][1]
    entry = [onnx.message((1, key), (2, text)) for key, text in (("location", "net.data"), ("offset", "16"))]
    beside = onnx.array(export.arrays[0][0], kernel, *((13, each) for each in entry), (14, 1))
    export.arrays[0] = beside
    (tmp_path / "net.onnx").write_bytes(export.bytes())
    with refused(["'net.data'", "not beside it"]):
        reszoo.from_checkpoint(tmp_path / "net.onnx")
    (tmp_path / "net.data").write_bytes(bytes(16) + kernel.tobytes())
    np.testing.assert_array_equal(
        np.array(reszoo.from_checkpoint(tmp_path / "net.onnx").model.get_layer("stem_conv").kernel),
        kernel.transpose(2, 3, 1, 0),
    )
    # Only the file beside it is large.
    wide = onnx.array("w", np.zeros((64, 3, 40, 40), "f4"), *((13, each) for each in entry), (14, 1))
    (tmp_path / "wide.onnx").write_bytes(onnx.model([onnx.node("Conv", ("x", "w"), "logits")], [wide]))
    (tmp_path / "net.data").write_bytes(bytes(16 + 4 * 64 * 3 * 1600))
    assert [each.shape for each in read(tmp_path / "wide.onnx").tensors.values()] == [(40, 40, 3, 64)]
    export.arrays[0] = beside.replace(b"net.data", b"../t.dat")
    (tmp_path / "net.onnx").write_bytes(export.bytes())
    with refused(["'../t.dat'", "same folder"]):
        reszoo.from_checkpoint(tmp_path / "net.onnx")


def relu_as(export, *nodes):
    """The bytes of a file whose activations are other nodes, the second of which reads its input too."""
    result = []
    for each in export.nodes:
        if onnx.message((4, "Relu")) not in each:
            result.append(each)
            continue
        number = len(result)
        x, y = (re.search(rb"[\x0a\x12].(\w+)" if not at else rb"\x12.(\w+)", each)[1].decode() for at in (0, 1))
        for place, (operation, attributes) in enumerate(nodes):
            last = place == len(nodes) - 1
            inputs = (x,) if not place else (x, f"inner{number}")
            result.append(onnx.node(operation, inputs, y if last else f"inner{number}", **attributes))
    export.nodes = result
    return export.bytes()


def test_silu_is_x_times_its_sigmoid(tmp_path):
    model = network(activation={"kind": "silu"})
    (tmp_path / "net.onnx").write_bytes(relu_as(post(model), ("Sigmoid", {}), ("Mul", {})))
    loaded, expected = reszoo.from_checkpoint(tmp_path / "net.onnx").model, model.predict(X, verbose=0)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("pool", [{"ceil_mode": 1}, {}], ids=["ceil", "even"])
def test_average_pools_in_front_of_projections(tmp_path, pool):
    model = network(block={"shortcut": "pool_project"})
    size = (None, 3, None, None) if pool else (None, 3, 32, 32)
    (tmp_path / "net.onnx").write_bytes(post(model, pool=pool).bytes(shape=size))
    loaded, expected = reszoo.from_checkpoint(tmp_path / "net.onnx").model, model.predict(X, verbose=0)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_numbers_of_two_bytes_in_a_list(tmp_path, name):
    import ml_dtypes

    model = network()
    export = post(model)
    kernel = export.arrays[0][1].astype(name if name == "float16" else ml_dtypes.bfloat16)
    numbers = b"".join(onnx.varint(int(each)) for each in kernel.view("uint16").reshape(-1))
    kind = 10 if name == "float16" else 16
    axes = ((1, axis) for axis in kernel.shape)
    export.arrays[0] = onnx.message(*axes, (2, kind), (8, export.arrays[0][0]), (5, numbers))
    (tmp_path / "net.onnx").write_bytes(export.bytes())
    stored = np.array(reszoo.from_checkpoint(tmp_path / "net.onnx").model.get_layer("stem_conv").kernel)
    np.testing.assert_array_equal(stored, kernel.astype("float32").transpose(2, 3, 1, 0))
    export.arrays[0] = export.arrays[0].replace(numbers, numbers[:-3] + b"\x81\x81\x01")
    (tmp_path / "net.onnx").write_bytes(export.bytes())
    with refused(["net.onnx", "stem_conv/kernel", "cannot be read"]):
        reszoo.from_checkpoint(tmp_path / "net.onnx")


def changed(operation, shape=(None, 3, 32, 32), **attributes):
    """The bytes of a file whose first node of a kind has other attributes."""
    export = post(network())
    place = next(i for i, each in enumerate(export.nodes) if onnx.message((4, operation)) in each)
    export.nodes[place] += onnx.message(*((5, onnx.attribute(*pair)) for pair in attributes.items()))
    return export.bytes(shape=shape)


def with_operation(operation):
    export = post(network())
    export.nodes = [each.replace(onnx.message((4, "Relu")), onnx.message((4, operation))) for each in export.nodes]
    return export.bytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda: with_operation("HardSwish"), ["the operation HardSwish (/stem_act)"]),
        (lambda: changed("Conv", pads=[0, 1, 1, 1]), ["padding [0, 1, 1, 1] of Conv"]),
        (lambda: changed("Conv", (None, 3, 33, 33), kernel_shape=[7, 7], pads=[2, 2, 3, 3]), ["padding [2, 2, 3, 3]"]),
        (lambda: changed("Conv", (None, 3, None, None), pads=[2, 2, 3, 3]), ["padding [2, 2, 3, 3]"]),
        (lambda: changed("BatchNormalization", training_mode=1), ["norms in training"]),
        (lambda: relu_as(post(network()), ("Gelu", {"approximate": "tanh"})), ["an approximate Gelu"]),
        (lambda: relu_as(post(network()), ("Softmax", {}), ("Mul", {})), ["(scale) after stem_norm"]),
        (lambda: onnx.model([onnx.node("Relu", ("x",), "logits")], []), ["no tensors"]),
        (lambda: onnx.model([onnx.node("Relu", ("x",), "y")] * 32769, []), ["more than 32,768 nodes"]),
        (
            lambda: onnx.model([], [onnx.message((1, 0), (2, 1), (8, f"w{i}")) for i in range(32769)]),
            ["32,769 tensors"],
        ),
        (lambda: changed("MaxPool", ceil_mode=1), ["ceil_mode"]),
        (lambda: changed("Gemm", alpha=0.5), ["a Gemm with factors"]),
        (lambda: post(network()).bytes(shape=(None, 3, 8)), ["input of shape (None, 3, 8)"]),
        (lambda: post(network()).bytes(output="nothing"), ["the value 'nothing'"]),
        (lambda: post(network()).bytes()[:-60], ["damaged or truncated"]),
        (lambda: onnx.message((1, 8), (2, "tests")), ["0 graphs"]),
    ],
    ids=[
        *(
            "operation",
            "padding",
            "odd",
            "unknown size",
            "training",
            "approximate",
            "product",
            "nothing",
            "nodes",
            "arrays",
        ),
        *("ceil_mode", "factor", "input", "output", "truncated", "empty"),
    ],
)
def test_refused_files(tmp_path, content, expected):
    (tmp_path / "net.onnx").write_bytes(content())
    with refused(["net.onnx", *expected]):
        reszoo.from_checkpoint(tmp_path / "net.onnx")


def zeros_before(export, x, block, width, *, at_once, behind):
    """Option A: every second pixel, and channels of zeros."""
    slices = [(0, 1)] if at_once else [(0,), (1,)]
    for number, axes in enumerate(slices):
        values = {"starts": [0] * len(axes), "ends": [2**31 - 1] * len(axes), "axes": [2 + axis for axis in axes]}
        values["steps"] = [2] * len(axes)
        names = [f"{block}_{word}{number}" for word in values]
        export.arrays += [(name, np.array(each, "int64")) for name, each in zip(names, values.values(), strict=True)]
        x = export.add("Slice", [x, *names], f"{block}_slice{number}")
    before, after = (0, width) if behind else (width // 2, width - width // 2)
    if not at_once:
        return export.add("Pad", [x, computed_pads(export, block, before, after)], f"{block}_zeros", mode="constant")
    export.arrays.append((f"{block}_pads", np.array([0, before, 0, 0, 0, after, 0, 0], "int64")))
    return export.add("Pad", [x, f"{block}_pads"], f"{block}_zeros", mode="constant")


def computed_pads(export, block, before, after):
    """What PyTorch writes for the sizes of a padding: they are turned round by nodes."""
    constants = {"pads": [0, 0, 0, 0, before, after], "two": [2], "pairs": [-1, 2], "last": [-1], "first": [0]}
    constants |= {"end": [-(2**63) + 1]}
    names = {word: f"{block}_{word}" for word in constants}
    export.arrays += [(names[word], np.array(numbers, "int64")) for word, numbers in constants.items()]
    rest = export.add("ConstantOfShape", [names["two"]], f"{block}_rest")
    every = export.add("Concat", [names["pads"], rest], f"{block}_every", axis=0)
    pairs = export.add("Reshape", [every, names["pairs"]], f"{block}_rows")
    turned = [pairs, names["last"], names["end"], names["first"], names["last"]]
    turned = export.add("Slice", turned, f"{block}_turned")
    turned = export.add("Transpose", [turned], f"{block}_columns", perm=[1, 0])
    flat = export.add("Reshape", [turned, names["last"]], f"{block}_flat")
    return export.add("Cast", [flat], f"{block}_whole", to=7)


def option_a(model, *, at_once, behind):
    export = Export(model)
    x = export.add("Relu", [export.conv("x", "stem_conv", "stem_norm")], "stem_act")
    for stage, width in ((1, 8), (2, 16), (3, 32)):
        block, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        y = export.conv(x, f"{block}_unit1_conv", f"{block}_unit1_norm", stride)
        y = export.add("Relu", [y], f"{block}_unit1_act")
        y = export.conv(y, f"{block}_unit2_conv", f"{block}_unit2_norm")
        x = zeros_before(export, x, block, width // 2, at_once=at_once, behind=behind) if stage > 1 else x
        x = export.add("Relu", [export.add("Add", [y, x], f"{block}_add")], f"{block}_act")
    return export.head(x)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("shortcut", ["pad", "pad_behind"])
def test_shortcuts_of_zeros(tmp_path, at_once, shortcut):
    model = network("resnet20_cifar", width_multiplier=0.5, block={"shortcut": shortcut})
    export = option_a(model, at_once=at_once, behind=shortcut == "pad_behind")
    (tmp_path / "net.onnx").write_bytes(export.bytes())
    loaded = reszoo.from_checkpoint(tmp_path / "net.onnx")
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(loaded.model.predict(X, verbose=0), expected, atol=1e-5 * abs(expected).max())
    assert loaded.report.spec.block.shortcut == shortcut


def with_vector(shape):
    """A file in which an array of eight numbers is added to a map of eight channels and eight pixels."""
    export = Export(network("resnet20_cifar", width_multiplier=0.5))
    x = export.add("Conv", ["x", export.keep("w", np.ones((8, 3, 3, 3)))], "conv", kernel_shape=[3, 3], pads=[1] * 4)
    x = export.add("Add", [x, export.keep("b", np.ones(shape))], "biased")
    export.add("Relu", [x], "logits")
    return export.bytes(shape=(None, 3, 8, 8))


@pytest.mark.parametrize(
    ("shape", "texts"), [((8,), ["shape (8,)", "'conv'"]), ((8, 1), ["(8, 1)"]), ((1, 8, 1, 1), ["without an Add"])]
)
def test_an_array_is_a_bias_by_its_axes(tmp_path, shape, texts):
    (tmp_path / "net.onnx").write_bytes(with_vector(shape))
    with refused(texts):
        reszoo.from_checkpoint(tmp_path / "net.onnx")


def gate(export, x, block):
    """Squeeze-and-excitation of two convolutions with biases."""
    y = export.add("GlobalAveragePool", [x], f"{block}_se_pool")
    for word, activation in (("reduce", "Relu"), ("expand", "Sigmoid")):
        layer = export.model.get_layer(f"{block}_se_{word}_conv")
        kernel = np.asarray(layer.kernel).transpose(3, 2, 0, 1)
        weights = [export.keep(f"{block}_{word}_w", kernel), export.keep(f"{block}_{word}_b", np.array(layer.bias))]
        y = export.add("Conv", [y, *weights], f"{block}_{word}", kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1])
        y = export.add(activation, [y], f"{block}_{word}_act")
    return export.add("Mul", [x, y], f"{block}_scale")


def linear_gate(export, x, block, *, ends):
    """Squeeze-and-excitation of two linear layers, whose number of examples is computed or not."""
    y = export.add("GlobalAveragePool", [x], f"{block}_se_pool")
    if ends == "computed":
        export.add("Shape", [x], f"{block}_shape")
        places = [export.keep(f"{block}_{each}", np.array(each)) for each in (0, 1)]
        sizes = [export.add("Gather", [f"{block}_shape", each], f"{block}_size_{each}") for each in places]
        sizes = [
            export.add("Unsqueeze", [each, export.keep(f"{each}_axis", np.array([0]))], f"{each}_1") for each in sizes
        ]
        one = export.keep(f"{block}_one", np.array([1]))
        flat = export.add("Concat", sizes, f"{block}_flat_shape", axis=0)
        pixel = export.add("Concat", [*sizes, one, one], f"{block}_pixel_shape", axis=0)
    else:
        flat = export.keep(
            f"{block}_flat_shape", np.array([-1, export.model.get_layer(f"{block}_se_pool").output.shape[-1]])
        )
    y = export.add("Reshape", [y, flat], f"{block}_flat")
    for word, activation in (("reduce", "Relu"), ("expand", "Sigmoid")):
        layer = export.model.get_layer(f"{block}_se_{word}_conv")
        kernel = export.keep(f"{block}_{word}_w", np.asarray(layer.kernel)[0, 0].T.copy())
        bias = export.keep(f"{block}_{word}_b", np.array(layer.bias))
        y = export.add("Gemm", [y, kernel, bias], f"{block}_{word}", transB=1)
        y = export.add(activation, [y], f"{block}_{word}_act")
    if ends == "computed":
        y = export.add("Reshape", [y, pixel], f"{block}_pixel")
        y = export.add("Expand", [y, f"{block}_shape"], f"{block}_expanded")
    else:
        for axis in (2, 3):
            axes = export.keep(f"{block}_axes_{axis}", np.array([axis]))
            y = export.add("Unsqueeze", [y, axes], f"{block}_unsqueezed_{axis}")
    return export.add("Mul", [x, y], f"{block}_scale")


GATES = {
    "convolutions": gate,
    "linear layers": functools.partial(linear_gate, ends="known"),
    "linear layers and computed shapes": functools.partial(linear_gate, ends="computed"),
}


@pytest.mark.parametrize("layers", GATES)
def test_squeeze_and_excitation(tmp_path, layers):
    model = network(block={"attention": "se", "reduction": 4, "multiple": 1})
    (tmp_path / "net.onnx").write_bytes(post(model, gate=GATES[layers]).bytes())
    loaded = reszoo.from_checkpoint(tmp_path / "net.onnx")
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(loaded.model.predict(X, verbose=0), expected, atol=1e-5 * abs(expected).max())
    assert loaded.report.spec.block.reduction == 4
