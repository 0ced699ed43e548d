"""Checkpoints of other people's code: names of a library with layers in another place, other containers of tensors."""

import functools
import pickle
import re
import warnings

import keras
import numpy as np
import pytest
from conftest import refused
from keras import layers as L
from test_infer import logits, randomise, renamed, torch_net
from test_open_files import BODY, LOGITS, SD, Net, X, assert_outputs, loads_same, outputs, save

import reszoo
from reszoo.errors import ReszooError
from reszoo.weights.formats.read import read
from reszoo.weights.translate import translate

torch = pytest.importorskip("torch", reason="not installed: torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*the file does not tell")


def started(net):
    """A network whose norms have the statistics of a trained one."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.3, 1.3)
            module.weight.data.uniform_(0.5, 1.2)
    return net.eval()


# Tensors in other containers.

CONTAINERS = {
    "pairs": [*SD.items()],
    "expanded": {**SD, "bn1.bias": torch.zeros(1).expand(8)},
    "parameters": {name: nn.Parameter(one) if one.is_floating_point() else one for name, one in SD.items()},
    "transposed": {**SD, "fc.weight": SD["fc.weight"].t().contiguous().t()},
    "nested": {"layer": {"of": {"dicts": {"net": SD}}}},
}


@pytest.mark.parametrize("what", CONTAINERS)
@pytest.mark.parametrize("new", [True, False])
def test_tensors_in_other_containers(tmp_path, what, new):
    loads_same(save(tmp_path, CONTAINERS[what], _use_new_zipfile_serialization=new))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_pickles_of_tensors(tmp_path, protocol):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"net": SD, "epoch": 3}, protocol=protocol))
    assert_outputs(reszoo.from_checkpoint(path), LOGITS)
    data = path.read_bytes()
    for share in (0.3, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ReszooError):
            read(path)


def test_classes_by_the_names_of_dill(tmp_path):
    # `dill._dill._load_type` is called with the name of a type.
    arrays = {name: one.numpy() for name, one in SD.items()}
    data = pickle.dumps({"state_dict": arrays, "net": range}, protocol=2)
    for name in (b"c__builtin__\nxrange\n", b"cbuiltins\nrange\n"):
        data = data.replace(name, b"cdill._dill\n_load_type\nU\x05range\x85R")
    assert b"_load_type" in data
    (tmp_path / "net.pkl").write_bytes(data)
    loads_same(tmp_path / "net.pkl")


TYPES = {
    "float8": lambda one: one.to(torch.float8_e5m2),
    "sparse": lambda one: one.to_sparse(),
    "Complex": lambda one: one.to(torch.complex64),
}


@pytest.mark.parametrize("what", TYPES)
def test_kernels_of_other_types_are_named(tmp_path, what):
    content = {name: TYPES[what](one) if one.dim() == 4 else one for name, one in SD.items()}
    with refused(["9 weights of a type that is not read", "conv1.weight", what]):
        translate(read(save(tmp_path, content)))


# Names of a library, layers in another place.


class Before(nn.Module):
    """Norm and activation before the convolutions; projections read what the first ones give, or the input."""

    def __init__(self, inputs, width, stride, *, shared=True):
        super().__init__()
        self.shared = shared
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False))

    def forward(self, x):
        y = F.relu(self.bn1(x))
        x = self.shortcut(y if self.shared else x) if hasattr(self, "shortcut") else x
        return x + self.conv2(F.relu(self.bn2(self.conv1(y))))


class Wide(nn.Module):
    """A pre-activation network with the names of the CIFAR nets."""

    def __init__(self, *, final=True, shared=True, normed=False, block=Before):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        if normed:
            self.bn1 = nn.BatchNorm2d(8)
        for stage, (inputs, width) in enumerate(((8, 8), (8, 16), (16, 24)), 1):
            setattr(self, f"layer{stage}", nn.Sequential(block(inputs, width, 1 if stage == 1 else 2, shared=shared)))
        if final:
            self.bn = nn.BatchNorm2d(24)
        self.linear = nn.Linear(24, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x))) if hasattr(self, "bn1") else self.conv1(x)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear((F.relu(self.bn(x)) if hasattr(self, "bn") else x).mean((2, 3)))


def in_order(state):
    """The state dict with the layers of each block in the order of their use."""
    words = ["bn1", "conv1", "bn2", "conv2", "shortcut"]

    def key(item):
        number, name = item
        block = re.match(r"(layer\d)\.0\.(\w+)", name)
        stage = {"conv1": "a", "bn": "x", "linear": "y"}.get(name.partition(".")[0], "")
        return (block[1], words.index(block[2]), number) if block else (stage, 0, number)

    return {name: state[name] for _, name in sorted(enumerate(state), key=key)}


def test_norms_before_the_convolutions_under_the_names_of_others(tmp_path):
    net = started(Wide())
    path = save(tmp_path, {"net": in_order(net.state_dict())})
    with refused(["norms before the convolutions", "block={'order': 'pre'}", "settle"]):
        reszoo.from_checkpoint(path)
    assert_outputs(reszoo.from_checkpoint(path, block={"order": "pre"}), outputs(net))
    unshared = started(Wide(shared=False))
    path = save(tmp_path, {"net": in_order(unshared.state_dict())})
    loaded = reszoo.from_checkpoint(path, block={"order": "pre_unshared"})
    assert_outputs(loaded, outputs(unshared))
    assert reszoo.settle(path, X, outputs(unshared)).spec.block.order == "pre_unshared"
    loaded.model.save(tmp_path / "net.keras")
    assert_outputs(reszoo.from_checkpoint(tmp_path / "net.keras"), outputs(unshared))


@pytest.mark.parametrize("names", ["kuangliu's", "unknown"])
def test_no_norm_after_the_last_block(tmp_path, names):
    net, unshared = started(Wide(final=False)), started(Wide(final=False, shared=False))
    paths = []
    for number, each in enumerate((net, unshared)):
        state = each.state_dict()
        if names == "unknown":
            state = {name.replace("layer", "group"): one for name, one in state.items()}
        paths.append(save(tmp_path, state, f"{number}.pth"))
    with pytest.warns(UserWarning, match="what the projections read \\(pre_unshared_bare\\)"):
        loaded = reszoo.from_checkpoint(paths[0])
    assert reszoo.spec_of(loaded.model).block.order == "pre_bare"
    assert_outputs(loaded, outputs(net))
    assert reszoo.settle(paths[1], X, outputs(unshared)).spec.block.order == "pre_unshared_bare"


class Gated(Before):
    """The same with squeeze-and-excitation of layers of the block itself."""

    def __init__(self, inputs, width, stride, **settings):
        super().__init__(inputs, width, stride, **settings)
        self.fc1, self.fc2 = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        y = F.relu(self.bn1(x))
        x = self.shortcut(y) if hasattr(self, "shortcut") else x
        y = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return x + y * self.fc2(self.fc1(y.mean((2, 3), keepdim=True)).relu()).sigmoid()


@pytest.mark.parametrize("block", [Before, Gated], ids=["bare", "gated"])
def test_norms_in_the_stem_and_before_the_convolutions(tmp_path, block):
    net = started(Wide(final=False, normed=True, block=block))
    assert_outputs(reszoo.from_checkpoint(save(tmp_path, net.state_dict())), outputs(net))
    if block is Before:
        state = {name.replace("layer", "group"): one for name, one in net.state_dict().items()}
        path = save(tmp_path, state)
        with refused(["'pre_normed_bare'", "'pre_unshared_normed_bare'"]):
            reszoo.from_checkpoint(path)
        assert_outputs(reszoo.from_checkpoint(path, block={"order": "pre_normed_bare"}), outputs(net))


def test_no_norm_in_the_stem_of_blocks_that_end_with_norms(tmp_path):
    state = {name: one for name, one in Net().state_dict().items() if not name.startswith("bn1.")}
    with refused(["no norm in the stem", "whether an activation follows the additions", "'inner'"]):
        reszoo.from_checkpoint(save(tmp_path, state))


@pytest.mark.parametrize("kernel", [1, 3])
def test_another_name_of_the_stem_and_the_kernel_of_projections(tmp_path, kernel):
    net = Net()
    state = {re.sub("^(conv|bn)1", r"\1", name): one for name, one in net.state_dict().items()}
    if kernel == 1:
        loaded = reszoo.from_checkpoint(save(tmp_path, state))
        assert loaded.report.is_inferred
        assert_outputs(loaded, outputs(net))
        return
    state = {name: one.repeat(1, 1, 3, 3) if "downsample.0" in name else one for name, one in state.items()}
    with refused(["projections of 3x3"]):
        reszoo.from_checkpoint(save(tmp_path, state))


def test_children_of_a_network_in_a_sequence(tmp_path):
    net = Net()
    children = nn.Sequential(net.conv1, net.bn1, net.act, net.layer1, net.layer2, net.layer3)
    state = {f"backbone.{name}": one for name, one in children.state_dict().items()}
    loaded = reszoo.from_checkpoint(save(tmp_path, {"state_dict": state}))
    y = keras.ops.convert_to_numpy(loaded.model(np.ones((1, 16, 16, 3), "float32"), training=False))
    expected = children(torch.ones(1, 3, 16, 16)).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_three_convolutions_in_the_stem(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.Conv2d(4, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    net = Net()
    trunk = nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1), net.layer1, net.layer2, net.layer3)
    started(trunk)
    named = nn.ModuleDict({"stem": trunk[:9], **{f"stage{n}": trunk[9 + n] for n in (1, 2, 3)}})
    path = save(tmp_path, {f"backbone.{name}": one for name, one in named.state_dict().items()})
    loaded = reszoo.from_checkpoint(path)
    assert loaded.report.spec.stem.depth == 3
    expected = outputs(trunk)
    y = keras.ops.convert_to_numpy(loaded.model(X, training=False))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_networks_that_only_look_residual_are_refused(tmp_path):
    separable = nn.Sequential()
    for _ in range(3):
        separable.append(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
                nn.BatchNorm2d(8),
                nn.Conv2d(8, 8, 1, bias=False),
                nn.BatchNorm2d(8),
            )
        )
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), *separable, nn.Linear(8, 5))
    with refused(["a convolution of every channel by itself"]):
        reszoo.from_checkpoint(save(tmp_path, net.state_dict()))
    # A block is a module in one place and two of other kinds in the next one.
    pair = [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)]
    mixed = {
        "a": nn.Sequential(*pair),
        "b": nn.Sequential(*pair),
        "res": nn.Sequential(*pair, *pair),
        "c": nn.Sequential(*pair),
    }
    mixed = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), **mixed, "fc": nn.Linear(8, 5)})
    with refused(["net.pth", "by the order of its tensors"]):
        reszoo.from_checkpoint(save(tmp_path, mixed.state_dict()))


# Layers whose weights are few, or none.


def test_single_numbers_of_a_network_are_not_left_out(tmp_path):
    path = save(tmp_path, {**SD, "avgpool.p": torch.tensor([3.0])})
    with refused(["avgpool.p", "include_top=False"]):
        reszoo.from_checkpoint(path)


class Blurred(Net):
    """The convolutions of strided blocks do not stride."""

    def __init__(self):
        super().__init__()
        self.layer2[0].conv1.stride = (1, 1)


class Pooled(Net):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(1)

    def forward(self, x):
        return self.fc(self.pool(self.trunk(x)).flatten(1))


def test_whole_models_tell_pools_and_what_they_lack(tmp_path):
    with refused(["stage2_block1_shortcut_conv of stride 2 beside units of stride 1"]):
        reszoo.from_checkpoint(save(tmp_path, Blurred()))
    net = Pooled()
    assert_outputs(reszoo.from_checkpoint(save(tmp_path, net)), outputs(net))
    net = Net()
    net.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
    with pytest.warns(UserWarning, match="whether a pool follows the stem"):
        reszoo.from_checkpoint(save(tmp_path, net))


KINDS = {
    "selective kernels": "layer1.0.conv2.attn.weight",
    "squeeze and excitation of another form": "layer1.0.se.squeeze.weight",
    "ECA": "layer1.0.eca.conv1d.weight",
    "GCNet": "layer1.0.context_block.conv_mask.weight",
    "global context": "layer1.0.se.conv_attn.weight",
    "CBAM": "layer1.0.se.spatial.conv.weight",
    "blur pooling": "layer1.0.aa.filt",
    "attention pooling": "attnpool.k_proj.weight",
}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_the_zoo_has_not_are_named(tmp_path, kind):
    name = KINDS[kind]
    inside = {name: torch.ones(8, 8)} if name.startswith("layer") else {"conv2.weight": torch.ones(8, 8, 3, 3)}
    first = {key: one for key, one in BODY.items() if not key.startswith("layer")}
    with refused([kind]):
        reszoo.from_checkpoint(save(tmp_path, {**first, **inside, **BODY, name: torch.ones(8, 8)}))


# Keras models that scale their inputs.


@pytest.mark.parametrize("layer", ["Rescaling", "Normalization"])
def test_scaling_in_front_of_a_network_is_named(tmp_path, layer):
    scale = (
        L.Rescaling(1 / 127.5, offset=-1)
        if layer == "Rescaling"
        else L.Normalization(mean=[1.0] * 3, variance=[4.0] * 3)
    )
    image = keras.Input((16, 16, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(image)))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    y = L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(y))
    y = L.Dense(5)(L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([x, y]))))
    network = randomise(keras.Model(image, y))
    front = keras.Input((16, 16, 3))
    keras.Model(front, network(L.RandomFlip()(scale(front)))).save(tmp_path / "net.keras")
    with pytest.warns(UserWarning, match=f"normalizes images itself .{layer.lower()}"):
        loaded = reszoo.from_checkpoint(tmp_path / "net.keras")
    assert_outputs(loaded, keras.ops.convert_to_numpy(network(X, training=False)))


# Rows of the table of cases that need a network of their own.


def test_instance_norms_with_statistics_are_batch_norms(tmp_path):
    net = Net(norm=lambda width: nn.InstanceNorm2d(width, affine=True, track_running_stats=True))
    assert_outputs(reszoo.from_checkpoint(save(tmp_path, net.state_dict())), outputs(net))


def test_pooled_shortcuts_of_blocks_in_a_list(tmp_path):
    net = torch_net(shortcut="pool_pad")
    pairs = (("^conv1", "conv0"), ("^bn1", "bn0"), (r"^layer1\.0", "convs.0"), (r"^layer2\.(\d)", r"convs.1\1"))
    path = save(tmp_path, renamed(net, *pairs))
    with refused(["the shortcut", "pool_pad"]):
        reszoo.from_checkpoint(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = reszoo.from_checkpoint(path, shortcut="pool_pad")
    assert_outputs(loaded, logits(net))


def test_additions_without_an_activation_are_settled(tmp_path):
    class Bare(Net):
        def __init__(self):
            super().__init__()
            for stage in (self.layer1, self.layer2, self.layer3):
                stage[0].forward = functools.partial(self.block, stage[0])

        def block(self, block, x):
            y = block.bn2(block.conv2(self.act(block.bn1(block.conv1(x)))))
            return y + (block.downsample(x) if hasattr(block, "downsample") else x)

    net = Bare()
    path = save(tmp_path, {name.replace("layer", "group"): one for name, one in net.state_dict().items()})
    with pytest.warns(UserWarning, match="whether an activation follows the additions \\(post_bare\\)"):
        reszoo.from_checkpoint(path)
    assert_outputs(reszoo.from_checkpoint(path, check=(X, outputs(net))), outputs(net))


class Second(Before):
    """The stride is in the second convolution (meliketoy/wide-resnet.pytorch)."""

    def __init__(self, inputs, width, stride, **settings):
        super().__init__(inputs, width, stride, **settings)
        self.conv1.stride, self.conv2.stride = (1, 1), (stride, stride)


def test_the_unit_with_the_stride_is_asked_for(tmp_path):
    net = started(Wide(block=Second))
    path = save(tmp_path, in_order(net.state_dict()))
    with pytest.warns(UserWarning, match="unit with the stride \\(2\\)"):
        reszoo.from_checkpoint(path, block={"order": "pre"})
    assert_outputs(reszoo.from_checkpoint(path, check=(X, outputs(net))), outputs(net))


@pytest.mark.parametrize(
    ("reads", "words"),
    [
        ((6, 2, 6, 2), "layer2.0.conv2.weight has 4 groups, where other blocks have 3"),
        ((6, 2, 9, 2), "reads 9 channels"),
    ],
    ids=["groups of one width (RegNet)", "maps that grow (DPN)"],
)
def test_blocks_of_other_forms_are_named(tmp_path, reads, words):
    state = {"conv1.weight": torch.ones(6, 3, 3, 3)}
    for number, (inputs, width) in enumerate(zip(reads, (6, 6, 8, 8), strict=True)):
        state[f"layer{number // 2 + 1}.0.conv{number % 2 + 1}.weight"] = torch.ones(width, inputs, 3, 3)
    with refused([words]):
        reszoo.from_checkpoint(save(tmp_path, state | {"linear.weight": torch.ones(5, 8)}))


def test_auxiliary_heads_are_called_so(tmp_path):
    net = Net()
    state = {**net.state_dict(), "aux.weight": torch.ones(5, 16), "aux.bias": torch.ones(5)}
    loaded = reszoo.from_checkpoint(save(tmp_path, state))
    assert_outputs(loaded, outputs(net))
    assert "auxiliary heads, which only training uses: aux.weight, aux.bias" in " ".join(loaded.report.notes)


UNKNOWN = {name.replace("layer", "group"): one for name, one in BODY.items()}


def test_a_head_with_norms_behind_a_network_of_unknown_names(tmp_path):
    norm = nn.BatchNorm1d(24).state_dict()
    head = {f"head.0.{name}": one for name, one in norm.items()} | {"head.1.weight": torch.ones(5, 24)}
    path = save(tmp_path, {**UNKNOWN, **head})
    with refused(["other layers behind the last block", "head.0.weight"]):
        reszoo.from_checkpoint(path)
    assert_outputs(reszoo.from_checkpoint(path, include_top=False), outputs(Net().trunk))
    # Known names stay known.
    path = save(tmp_path, {**BODY, **head})
    assert not reszoo.from_checkpoint(path, include_top=False).report.is_inferred


def test_a_module_of_unknown_names_beside_other_convolutions(tmp_path):
    backbone = {f"model.backbone.bottom_up.{name}": one for name, one in UNKNOWN.items()}
    others = {
        "model.backbone.lateral.weight": torch.ones(8, 24, 1, 1),
        "model.proposals.weight": torch.ones(8, 8, 3, 3),
    }
    loaded = reszoo.from_checkpoint(save(tmp_path, {**others, **backbone}))
    assert_outputs(loaded, outputs(Net().trunk))
    assert "no part of the network: model.backbone, model.proposals" in " ".join(loaded.report.notes)
    # The blocks alone are no network.
    apart = {name if name.startswith("group") else f"stem.{name}": one for name, one in UNKNOWN.items()}
    inside = {f"blocks.{name}" if name.startswith("group") else name: one for name, one in apart.items()}
    with refused(["no known order"]):
        reszoo.from_checkpoint(save(tmp_path, {**inside, "neck.weight": torch.ones(8, 24, 3, 3)}))


def test_statistics_behind_all_parameters(tmp_path):
    net = Net()
    state = {name.replace("layer", "group"): one for name, one in net.state_dict().items()}
    buffers = {name: one for name, one in state.items() if name.endswith(("running_mean", "running_var", "tracked"))}
    parameters = {name: one for name, one in state.items() if name not in buffers}
    loaded = reszoo.from_checkpoint(save(tmp_path, parameters | buffers))
    assert loaded.report.is_inferred
    assert_outputs(loaded, outputs(net))
