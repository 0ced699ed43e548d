"""Files with gates of channels: squeeze-and-excitation of any reduction, and ECA, beside the code they come from."""

import functools
import json
import math

import keras
import pytest
from conftest import refused
from keras import layers as L
from test_infer import randomise
from test_open_files import Net, X, assert_outputs, outputs, save

import reszoo

torch = pytest.importorskip("torch", reason="not installed: torch")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*the file does not tell")


class Squeeze(nn.Module):
    """Hu 2018: two convolutions of single pixels."""

    def __init__(self, width, reduction, multiple):
        super().__init__()
        between = max(multiple, int(width / reduction + multiple / 2) // multiple * multiple)
        self.fc1, self.fc2 = nn.Conv2d(width, between, 1), nn.Conv2d(between, width, 1)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class LinearSqueeze(nn.Module):
    """The same of linear layers, without biases."""

    def __init__(self, width, reduction=2):
        super().__init__()
        layers = [nn.Linear(width, width // reduction, bias=False), nn.ReLU()]
        self.fc = nn.Sequential(*layers, nn.Linear(width // reduction, width, bias=False), nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class AlongChannels(nn.Module):
    """Wang 2020: a convolution along the channels."""

    def __init__(self, width, kernel=None):
        super().__init__()
        grown = int(abs(math.log2(width) + 1) / 2)
        kernel = kernel or max(3, grown if grown % 2 else grown + 1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None])[:, 0, :, None, None].sigmoid()


class Gated(nn.Module):
    """A block whose branch ends with a gate."""

    def __init__(self, block, name, gate):
        super().__init__()
        for each, module in block.named_children():
            setattr(self, each, module)
        setattr(self, name, gate)
        self.gate = name

    def forward(self, x):
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        y = getattr(self, self.gate)(y)
        return self.act(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def gated(gate, name="se"):
    net = Net()
    for stage, width in (("layer1", 8), ("layer2", 16), ("layer3", 24)):
        block = getattr(net, stage)
        block[0] = Gated(block[0], name, gate(width))
    return net.eval()


NETS = {
    "a reduction": (lambda: gated(lambda width: Squeeze(width, 4, 1)), {"reduction": 4, "multiple": 1}),
    "a multiple": (lambda: gated(lambda width: Squeeze(width, 2, 8)), {"reduction": 2, "multiple": 8}),
    "linear layers without bias": (lambda: gated(LinearSqueeze), {"reduction": 2, "multiple": 1}),
    "along the channels": (lambda: gated(AlongChannels), {"attention": "eca"}),
    "along the channels, by another name": (lambda: gated(AlongChannels, "eca"), {"attention": "eca"}),
    "along other channels in each stage": (
        lambda: gated(lambda width: AlongChannels(width, {8: 3, 16: 5, 24: 7}[width]), "eca"),
        {"attention": "eca"},
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_gates_of_a_file_give_the_same_outputs(tmp_path, name):
    build, fields = NETS[name]
    net = build()
    loaded = reszoo.from_checkpoint(save(tmp_path, net.state_dict()))
    block = reszoo.spec_of(loaded.model).block
    assert {field: getattr(block, field) for field in fields} == fields
    assert_outputs(loaded, outputs(net))
    assert any("no biases" in note for note in loaded.report.notes) == ("without bias" in name)


@pytest.mark.parametrize("name", NETS)
def test_gates_stay_in_saved_and_converted_files(tmp_path, name):
    net = NETS[name][0]()
    loaded = reszoo.from_checkpoint(save(tmp_path, net.state_dict()))
    loaded.model.save(tmp_path / "net.keras")
    assert_outputs(reszoo.from_checkpoint(tmp_path / "net.keras"), outputs(net))
    reszoo.convert(tmp_path / "net.keras", tmp_path / "net.safetensors")
    assert_outputs(reszoo.from_checkpoint(tmp_path / "net.safetensors"), outputs(net))
    reszoo.convert(tmp_path / "net.keras", tmp_path / "again.pth")
    assert_outputs(reszoo.from_checkpoint(tmp_path / "again.pth"), outputs(net))


def keras_gate(y, width, *, kind, bias):
    gate = L.GlobalAveragePooling2D(keepdims=kind == "convolutions")(y)
    if kind == "along the channels":
        gate = L.Conv1D(1, 5, padding="same", use_bias=False)(L.Reshape((-1, 1))(gate))
        return L.Multiply()([y, L.Reshape((1, 1, width))(L.Activation("sigmoid")(gate))])
    gate = L.Reshape((1, 1, width))(gate) if kind == "reshape first" else gate
    weighted = functools.partial(L.Conv2D, kernel_size=1) if kind == "convolutions" else L.Dense
    gate = weighted(width // 2, activation="relu", use_bias=bias)(gate)
    gate = weighted(width, activation="sigmoid", use_bias=bias)(gate)
    gate = L.Reshape((1, 1, width))(gate) if kind == "reshape last" else gate
    return L.Multiply()([gate, y] if kind == "reshape last" else [y, gate])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["convolutions", "reshape first", "reshape last", "along the channels"])
def test_gates_of_a_keras_graph(tmp_path, kind, bias):
    image = keras.Input((16, 16, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(image)))
    for width, stride in ((8, 1), (16, 2)):
        y = L.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        y = L.Conv2D(width, 3, padding="same", use_bias=False)(L.ReLU()(L.BatchNormalization()(y)))
        y = keras_gate(L.BatchNormalization()(y), width, kind=kind, bias=bias)
        if stride > 1:
            x = L.BatchNormalization()(L.Conv2D(width, 1, strides=stride, use_bias=False)(x))
        x = L.ReLU()(L.Add()([x, y]))
    network = randomise(keras.Model(image, L.Dense(5)(L.GlobalAveragePooling2D()(x))))
    network.save(tmp_path / "net.keras")
    loaded = reszoo.from_checkpoint(tmp_path / "net.keras")
    spec = loaded.report.spec
    width = [stage.reach for stage in spec.stages] if kind == "along the channels" else spec.block.reduction
    assert width == ([5, 5] if kind == "along the channels" else 2)
    assert_outputs(loaded, keras.ops.convert_to_numpy(network(X, training=False)))


@pytest.mark.parametrize(
    ("architecture", "words"), [("resnetblur50", "pad by reflection"), ("resnetaa50", "averages 2x2 pixels")]
)
def test_what_the_zoo_lacks_for_an_architecture_is_named(tmp_path, architecture, words):
    from safetensors.torch import save_file

    save_file(Net().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture}))
    with refused([architecture, words]):
        reszoo.from_checkpoint(tmp_path)
