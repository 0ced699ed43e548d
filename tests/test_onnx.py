"""ONNX files: graph and weights, as PyTorch exports them with and without norms, and what no network of the zoo has."""

import numpy as np
import onnx_bytes as onnx
import pytest
from conftest import needs, refused

import reszoo

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
        self.arrays.append((name, np.ascontiguousarray(value, "float32")))
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


def post(model, fold="none"):
    export = Export(model, fold)
    x = export.add("Relu", [export.conv("x", "stem_conv", "stem_norm", 2)], "stem_act")
    x = export.add("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=0)
    for stage in range(1, 5):
        block, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        y = export.conv(x, f"{block}_unit1_conv", f"{block}_unit1_norm", stride)
        y = export.add("Relu", [y], f"{block}_unit1_act")
        y = export.conv(y, f"{block}_unit2_conv", f"{block}_unit2_norm")
        if stage > 1:
            x = export.conv(x, f"{block}_shortcut_conv", f"{block}_shortcut_norm", stride)
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
    export.arrays[0] = beside.replace(b"net.data", b"../t.dat")
    (tmp_path / "net.onnx").write_bytes(export.bytes())
    with refused(["'../t.dat'", "same folder"]):
        reszoo.from_checkpoint(tmp_path / "net.onnx")


def changed(operation, **attributes):
    """The bytes of a file whose first node of a kind has other attributes."""
    export = post(network())
    place = next(i for i, each in enumerate(export.nodes) if onnx.message((4, operation)) in each)
    export.nodes[place] += onnx.message(*((5, onnx.attribute(*pair)) for pair in attributes.items()))
    return export.bytes()


def with_operation(operation):
    export = post(network())
    export.nodes = [each.replace(onnx.message((4, "Relu")), onnx.message((4, operation))) for each in export.nodes]
    return export.bytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda: with_operation("HardSwish"), ["the operation HardSwish (/stem_act)"]),
        (lambda: changed("Conv", pads=[0, 1, 1, 1]), ["padding [0, 1, 1, 1] of Conv"]),
        (lambda: changed("MaxPool", ceil_mode=1), ["ceil_mode"]),
        (lambda: changed("Gemm", alpha=0.5), ["a Gemm with factors"]),
        (lambda: post(network()).bytes(shape=(None, 3, 8)), ["input of shape (None, 3, 8)"]),
        (lambda: post(network()).bytes(output="nothing"), ["the value 'nothing'"]),
        (lambda: post(network()).bytes()[:-60], ["damaged or truncated"]),
        (lambda: onnx.message((1, 8), (2, "tests")), ["0 graphs"]),
    ],
    ids=["operation", "padding", "ceil_mode", "factor", "input", "output", "truncated", "empty"],
)
def test_refused_files(tmp_path, content, expected):
    (tmp_path / "net.onnx").write_bytes(content())
    with refused(["net.onnx", *expected]):
        reszoo.from_checkpoint(tmp_path / "net.onnx")
