"""Files that users have: what stands beside the weights, prefixes, several networks, other heads, whole models."""

import argparse
import datetime
import enum
import functools
import json
import pickle
import random
import re
import warnings
import zipfile
from collections import Counter, OrderedDict, deque
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import refused
from test_weights import FORMS, in_dialect, small, write_legacy_h5

import reszoo
from reszoo.errors import ReszooError
from reszoo.weights.dialects import dialects
from reszoo.weights.formats.read import read
from reszoo.weights.formats.write import write_torch
from reszoo.weights.select import is_averaged
from reszoo.weights.summary import details, summary
from reszoo.weights.translate import translate
from reszoo.weights.translated import likely_kind

torch = pytest.importorskip("torch", reason="not installed: torch")
from torch import nn  # noqa: E402

X = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")


class Block(nn.Module):
    def __init__(self, inputs, width, stride, norm, act):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.act = act
        if inputs != width or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), norm(width))

    def forward(self, x):
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Net(nn.Module):
    """Three stages of one block with torchvision's names."""

    def __init__(self, *, seed=0, norm=nn.BatchNorm2d, act=None, strides=(1, 2, 2), stem_stride=1, classes=5):
        super().__init__()
        torch.manual_seed(seed)
        self.act = act or nn.ReLU()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, stem_stride, 1, bias=False), norm(8)
        for number, (inputs, width) in enumerate(((8, 8), (8, 16), (16, 24))):
            block = Block(inputs, width, strides[number], norm, self.act)
            setattr(self, f"layer{number + 1}", nn.Sequential(block))
        self.fc = nn.Linear(24, classes)
        for module in self.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.2, 1.3)
        self.eval()

    def trunk(self, x):
        return self.layer3(self.layer2(self.layer1(self.act(self.bn1(self.conv1(x))))))

    def forward(self, x):
        return self.fc(self.trunk(x).mean((2, 3)))


def outputs(function):
    with torch.inference_mode():
        y = function(torch.from_numpy(X.transpose(0, 3, 1, 2).copy())).numpy()
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


NET, RAW = Net(), Net(seed=1)
SD, OLD = NET.state_dict(), RAW.state_dict()
BODY, OLD_BODY = ({name: one for name, one in sd.items() if not name.startswith("fc.")} for sd in (SD, OLD))
LOGITS, FEATURES = outputs(NET), outputs(NET.trunk)


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def save(folder, content, name="net.pth", **how):
    torch.save(content, folder / name, **how)
    return folder / name


def assert_outputs(loaded, expected):
    y = keras.ops.convert_to_numpy(loaded.model(X, training=False))
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def loads_same(path, **how):
    """Checks that a file gives the tensors of NET, without a model."""
    translated = translate(read(path), **how)
    for layer, source in (("stem_conv", "conv1"), ("stage3_block1_unit2_conv", "layer3.0.conv2")):
        kernel = translated.tensors[f"{layer}/kernel"].tensor.read()
        np.testing.assert_array_equal(kernel, SD[f"{source}.weight"].numpy().transpose(2, 3, 1, 0))
    return translated


# Things beside the weights.


class Settings(dict):
    pass


class Listed(list):
    pass


class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, [2]


class OwnState:
    def __getstate__(self):
        return (1, 2, 3)

    def __setstate__(self, state):
        raise RuntimeError("executed")


class WithNew:
    def __reduce_ex__(self, protocol):
        return copyreg_new, (WithNew, (), {"a": 1}), {"b": 2}, iter([1, 2]), iter([("c", 3)])


def copyreg_new(cls, args, kwargs):
    return cls.__new__(cls)


class NewArguments:
    def __new__(cls, *, a):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}


class Phase(enum.Enum):
    FIRST = 1


BESIDE = {
    "counter": Counter({30: 1, 60: 1}),
    "optimizer": torch.optim.SGD(NET.parameters(), 0.1),
    "class": torch.optim.SGD,
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "date": datetime.datetime(2024, 1, 1),
    "version": torch.__version__,
    "loss": nn.CrossEntropyLoss(),
    "settings": Settings(lr=0.1),
    "list": Listed([1, 2]),
    "enum": Phase.FIRST,
    "namespace": argparse.Namespace(lr=0.1),
    "slots": Slots(),
    "own state": OwnState(),
    "all ways of filling": WithNew(),
    "new with names": NewArguments(a=1),
    "function": torch.nn.functional.relu,
    "numpy": {"n": np.float64(3), "rng": np.random.get_state(), "a": np.ones(3)},
    "random": random.getstate(),
    "path": Path("a"),
    "sets": [{1, 2}, frozenset([3]), deque([4]), re.compile("a"), 3 + 4j, range(3), bytearray(b"x"), slice(1)],
    "complex tensor": torch.ones(2, dtype=torch.complex64),
    "sparse tensor": torch.ones(2, 2).to_sparse(),
    "ordered": OrderedDict(a=1),
    "module": nn.Linear(2, 2),
}


@pytest.mark.parametrize("what", BESIDE)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_beside_the_weights_are_left_aside(tmp_path, what, protocol):
    for new in (True, False):
        content = {"state_dict": SD, "extra": BESIDE[what], "epoch": 3}
        path = save(tmp_path, content, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
        loads_same(path)


def test_outputs_with_objects_beside(tmp_path):
    path = save(tmp_path, {"state_dict": SD, "extra": BESIDE, "sched": Counter([1])})
    with refused(["no tensors"]):
        read(save(tmp_path, {"a": torch.ones(2, dtype=torch.complex64)}, "b.pth", _use_new_zipfile_serialization=False))
    assert_outputs(reszoo.from_checkpoint(path), LOGITS)
    assert read(path).aside["sched"] == "collections.Counter"


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [exec, eval, __import__("os").system, __import__("subprocess").run])
def test_functions_that_run_commands_are_refused_and_not_executed(tmp_path, function):
    mark = tmp_path / "executed"
    code = f"touch {mark}" if function.__module__ in ("posix", "nt", "subprocess") else f"open({str(mark)!r}, 'w')"
    path = save(tmp_path, {"state_dict": SD, "extra": Evil(function, code)})
    with refused(["net.pth", "runs commands", "nothing of it was executed"]):
        read(path)
    assert not mark.exists()


def test_unknown_functions_are_not_called(tmp_path):
    mark = tmp_path / "executed"
    loads_same(save(tmp_path, {"state_dict": SD, "extra": Evil(Path.touch, mark)}))
    assert not mark.exists()


def test_a_state_dict_in_an_unknown_class(tmp_path):
    loads_same(save(tmp_path, Settings(state_dict=Settings(SD), epoch=1)))


# Prefixes and several networks.

PREFIXES = ["backbone.", "model.backbone.", "net.resnet.", "model._orig_mod.", "backbone.body.", "a.b.c.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("key", ["", "state_dict"])
def test_prefixes_of_any_depth(tmp_path, prefix, key):
    content = under(prefix, SD)
    translated = loads_same(save(tmp_path, {key: content} if key else content))
    assert translated.prefix == (f"{key}." if key else "") + prefix
    assert any(repr(translated.prefix[:-1]) in note for note in translated.checkpoint.notes)


def test_a_detection_model_gives_its_trunk(tmp_path):
    beside = {"backbone.fpn.inner.weight": torch.ones(8, 24, 1, 1), "rpn.head.conv.weight": torch.ones(8, 8, 3, 3)}
    path = save(tmp_path, {"model": {**under("backbone.body.", BODY), **beside}})
    loaded = reszoo.from_checkpoint(path, include_top=False)
    assert_outputs(loaded, FEATURES)
    assert any("backbone.fpn" in note and "rpn" in note for note in loaded.report.notes)


def test_two_networks_without_a_default_are_refused(tmp_path):
    path = save(tmp_path, {**under("left.", OLD), **under("right.", SD)})
    with refused(["2 networks", "'left'", "'right'", "prefix="]):
        translate(read(path))
    for how in ({"prefix": "right."}, {"prefix": "right"}, {"key": "right"}):
        loads_same(path, **how)
    with refused(["'middle.'", "'left.'", "'right.'"]):
        translate(read(path), prefix="middle.")
    with refused(["'middle'", "'left.'", "'right.'"]):
        translate(read(path), key="middle")


AVERAGED = [
    *(("model", "model_ema"), ("net", "ema_net"), ("state_dict", "ema_state_dict"), ("model", "model_ema_state")),
    *(("model", "ema_model"), ("state_dict", "swa_state_dict"), ("model", "averaged_model"), ("net", "netEMA")),
    *(("weights", "polyak"), ("online_model", "ema_model"), ("anything", "shadow_weights")),
]


@pytest.mark.parametrize(("raw", "averaged"), AVERAGED)
@pytest.mark.parametrize("nested", [False, True])
def test_averaged_weights_are_not_passed_over(tmp_path, raw, averaged, nested):
    content = {raw: OLD, averaged: SD, "acc": torch.tensor(0.9)}
    if nested:
        content = {"state_dict": {**under(f"{raw}.", OLD), **under(f"{averaged}.", SD)}}
    translated = loads_same(save(tmp_path, content))
    assert [other.rpartition(".")[2] for other in translated.others] == [raw]
    assert any(repr(translated.others[0]) in note for note in translated.checkpoint.notes)


@pytest.mark.parametrize("word", ["schema", "cinema", "average_pool_net2d", "demand", "swap"])
def test_other_words_are_no_averages(word):
    assert is_averaged(word) == word.startswith("average_")


SEVERAL = {
    "student and teacher": (
        {"student": under("module.backbone.", OLD_BODY), "teacher": under("backbone.", BODY)},
        "teacher",
    ),
    "two encoders": (
        {"state_dict": {**under("module.encoder_q.", BODY), **under("module.encoder_k.", OLD_BODY)}},
        "state_dict.module.encoder_q",
    ),
    "generator": ({**under("first.", OLD), **under("second.", SD)}, "second"),
}


@pytest.mark.parametrize("what", SEVERAL)
def test_a_key_reaches_dicts_and_modules(tmp_path, what):
    content, key = SEVERAL[what]
    path = save(tmp_path, {**content, "loss": {"center": torch.ones(1, 8)}})
    with refused(["2 networks", repr(translate(read(path), key=key).prefix[:-1])]):
        translate(read(path))
    loads_same(path, key=key)


def test_a_network_at_any_depth(tmp_path):
    content = {"classy_state_dict": {"base_model": {"model": {"trunk": under("_feature_blocks.", BODY)}}}}
    loads_same(save(tmp_path, content))


def test_a_network_at_the_top_level_beside_another(tmp_path):
    translated = loads_same(save(tmp_path, {**SD, **under("teacher.", OLD)}))
    assert translated.others == ("teacher",)
    assert not translated.unknown and len(translated.tensors) == 47
    averaged = translate(read(save(tmp_path, {**OLD, **under("ema.", SD)})))
    assert averaged.prefix == "ema." and averaged.others == ("",)


def test_a_preferred_key_names_the_others(tmp_path):
    translated = loads_same(save(tmp_path, {"best": OLD, "state_dict": SD}))
    assert translated.others == ("best",)


# Other heads.


def head(*layers):
    torch.manual_seed(3)
    return nn.Sequential(*layers).eval()


HEADS = {
    "fc.1": (head(nn.Dropout(0.2), nn.Linear(24, 4)), "fc."),
    "fc.1, fc.4": (head(nn.Dropout(0.2), nn.Linear(24, 6), nn.ReLU(), nn.Dropout(0.1), nn.Linear(6, 4)), "fc."),
    "head.fc": (head(OrderedDict(fc=nn.Linear(24, 4))), "head."),
    "projector": (head(nn.Linear(24, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)), "projector."),
    "two linear layers in a row": (head(nn.Linear(24, 6), nn.Linear(6, 3)), "classifier."),
}


@pytest.mark.parametrize("what", HEADS)
def test_linear_heads_are_kept(tmp_path, what):
    layers, prefix = HEADS[what]
    path = save(tmp_path, {"state_dict": {**under("net.", BODY), **under(f"net.{prefix}", layers.state_dict())}})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = reszoo.from_checkpoint(path)
    assert any("assuming ReLU" in str(one.message) for one in caught) == (len(layers) > 2)
    assert_outputs(loaded, layers(torch.from_numpy(FEATURES.mean((1, 2)))).detach().numpy())


def test_a_head_beside_the_backbone(tmp_path):
    fc = {"head.fc.weight": SD["fc.weight"], "head.fc.bias": SD["fc.bias"], "criterion.weight": torch.ones(5)}
    assert_outputs(reszoo.from_checkpoint(save(tmp_path, {"state_dict": {**under("backbone.", BODY), **fc}})), LOGITS)


FOREIGN = {
    "flattened": {"linear1.weight": torch.ones(5, 24 * 16), "linear1.bias": torch.ones(5)},
    "prototypes": {"prototypes.weight": torch.ones(7, 128)},
    "segmentation": {"classifier.0.weight": torch.ones(8, 24, 3, 3), "classifier.4.weight": torch.ones(21, 8, 1, 1)},
    "norm": {
        "fc_norm.weight": torch.ones(24),
        "fc_norm.bias": torch.ones(24),
        "fc.weight": SD["fc.weight"],
        "fc.bias": SD["fc.bias"],
    },
    "several": {
        "alpha.0.weight": torch.ones(1, 24),
        "beta.0.weight": torch.ones(1, 48),
        "pred.weight": torch.ones(7, 24),
    },
}


@pytest.mark.parametrize("what", FOREIGN)
def test_other_heads_are_left_out_of_the_trunk(tmp_path, what):
    path = save(tmp_path, {**BODY, **FOREIGN[what]})
    model = reszoo.from_checkpoint(path, include_top=False).model
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X)), FEATURES, atol=1e-5)
    with refused(["net.pth", "include_top=False"]):
        reszoo.from_checkpoint(path)
    for strict in (True, "trunk"):
        reszoo.load_weights(model, path, strict=strict)


def test_losses_and_metrics_are_named_and_left_aside(tmp_path):
    more = {"criterion.weight": torch.ones(5), "train_acc.tp": torch.zeros(5), "layer1.0.total_ops": torch.zeros(1)}
    loaded = reszoo.from_checkpoint(save(tmp_path, {**SD, **more}))
    assert_outputs(loaded, LOGITS)
    assert any("criterion.weight" in note and "train_acc.tp" in note for note in loaded.report.notes)


INSIDE = {
    "learned activation": ({"layer1.0.alpha1.alpha": torch.ones(1)}, "layer1.0.alpha1.alpha"),
    "Res2Net": ({"layer1.0.convs.0.weight": torch.ones(4, 4, 3, 3)}, "Res2Net"),
    "adapter": ({"layer1.adapter.weight": torch.ones(8, 8, 1, 1)}, "layer1.adapter"),
}


@pytest.mark.parametrize("what", INSIDE)
def test_layers_inside_of_blocks_are_no_head(tmp_path, what):
    more, name = INSIDE[what]
    path = save(tmp_path, {**SD, **more})
    for how in ({}, {"include_top": False}):
        with refused(["inside of the blocks", name]):
            reszoo.from_checkpoint(path, **how)


def test_layers_between_the_stages_are_no_head(tmp_path):
    first = {name: one for name, one in BODY.items() if not name.startswith("layer")}
    path = save(tmp_path, {**first, "ca.fc1.weight": torch.ones(2, 8, 1, 1), **BODY})
    with refused(["ca.fc1.weight", "CBAM"]):
        reszoo.from_checkpoint(path, include_top=False)


def test_strict_false_warns_where_the_outputs_are_not_the_files(tmp_path):
    model = reszoo.from_checkpoint(save(tmp_path, SD)).model
    path = save(tmp_path, {**SD, "layer1.0.alpha1.alpha": torch.ones(1)})
    with pytest.warns(UserWarning, match="inside of the blocks"):
        reszoo.load_weights(model, path, strict=False)
    path = save(tmp_path, {name: one for name, one in SD.items() if ".conv" not in name and "downsample.0" not in name})
    with refused(["net.pth", "another network"]):
        reszoo.load_weights(model, path)


def test_a_normalizer_before_the_network_is_warned_of(tmp_path):
    path = save(tmp_path, {"0.mean": torch.zeros(3), "0.std": torch.ones(3), **under("1.", SD)})
    with pytest.warns(UserWarning, match="normalizes images itself"):
        assert_outputs(reszoo.from_checkpoint(path), LOGITS)


# Names by hand.

ENTRY = {("pre.conv" + name[5:] if name.startswith("conv1.") else name): one for name, one in SD.items()}
BY_HAND = {
    "head": ({**BODY, "fc.1.weight": SD["fc.weight"], "fc.1.bias": SD["fc.bias"]}, {"predictions": "fc.1"}),
    "stem": (ENTRY, {"stem_conv": "pre.conv"}),
    "literal unit": (SD, {"stage{stage}_block{block}_unit1_conv": "layer{stage}.{block-1}.conv1"}),
}


@pytest.mark.parametrize("what", BY_HAND)
def test_names_by_hand_add_to_a_dialect(tmp_path, what):
    content, names = BY_HAND[what]
    translated = translate(read(save(tmp_path, {"state_dict": under("module.", content)})), names)
    assert not translated.unknown and "predictions/kernel" in translated.tensors


def test_names_by_hand_that_are_not_in_the_file(tmp_path):
    with refused(["'stem_conv'", "'con1'", "did you mean 'conv1'"]):
        translate(read(save(tmp_path, SD)), {"stem_conv": "con1"})
    with refused(["'stage1_blok1'"]):
        translate(read(save(tmp_path, SD)), {"stage1_blok1": "conv1"})


# Whole models.

MODELS = {
    "usual": {},
    "epsilon": {"norm": functools.partial(nn.BatchNorm2d, eps=1e-2)},
    "strides": {"stem_stride": 2, "strides": (1, 1, 2)},
    "group norm": {"norm": functools.partial(nn.GroupNorm, 4)},
    "silu": {"act": nn.SiLU()},
    "leaky": {"act": nn.LeakyReLU(0.2)},
    "leaky function": {"act": torch.nn.functional.leaky_relu},
}


@pytest.mark.parametrize("what", MODELS)
def test_whole_models_tell_their_settings(tmp_path, what):
    net = Net(**MODELS[what])
    path = save(tmp_path, {"model": nn.DataParallel(net), "epoch": 3})
    assert_outputs(reszoo.from_checkpoint(path), outputs(net))
    legacy = translate(read(save(tmp_path, net, _use_new_zipfile_serialization=False)))
    assert legacy.checkpoint.attributes["conv1"]["stride"] == net.conv1.stride
    assert "test_open_files.Net" in legacy.checkpoint.attributes[""]["class"]


@pytest.mark.parametrize("how", ["trace", "script", "fx"])
def test_scripted_and_traced_models(tmp_path, how):
    net = Net(
        norm=functools.partial(nn.BatchNorm2d, eps=1e-2) if how != "trace" else functools.partial(nn.GroupNorm, 4)
    )
    path = tmp_path / "net.pt"
    if how == "fx":
        torch.save(torch.fx.symbolic_trace(net), path)
    elif how == "trace":
        torch.jit.trace(net, torch.zeros(1, 3, 16, 16)).save(str(path))
    else:
        torch.jit.script(nn.Sequential(net.conv1, net.bn1)).save(str(path))
        assert read(path).attributes["1"]["eps"] == 1e-2 and read(path).attributes["0"]["stride"] == (1, 1)
        return
    assert_outputs(reszoo.from_checkpoint(path), outputs(net))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    torch.export.save(torch.export.export(NET, (torch.zeros(1, 3, 16, 16),)), path)
    return path


def test_programs_of_torch_export(exported):
    loads_same(exported)
    assert_outputs(reszoo.from_checkpoint(exported), LOGITS)


LISTS = {
    "another size": ({"sizes": [{"as_int": 1 << 40}]}, "storage of"),
    "another place": ({"storage_offset": {"as_int": 1 << 20}}, "storage of"),
    "no number": ({"sizes": [{"as_name": "s0"}]}, "invalid list of weights"),
    "negative": ({"sizes": [{"as_int": -1}], "strides": [{"as_int": 1}]}, "invalid list of weights"),
}


@pytest.mark.parametrize("what", LISTS)
def test_damaged_lists_of_weights_are_refused(exported, tmp_path, what):
    changes, expected = LISTS[what]
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(tmp_path / "net.pt2", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("_weights_config.json"):
                listed = json.loads(content)
                listed["config"]["bn1.bias"]["tensor_meta"] |= changes
                content = json.dumps(listed)
            target.writestr(name, content)
    with refused(["net.pt2", expected]):
        read(tmp_path / "net.pt2")


class Reflecting(Net):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False, padding_mode="reflect")


UNSUPPORTED = {
    "reflection": (Reflecting(), "padding by reflect"),
    "tanh": (Net(act=nn.Tanh()), "Tanh"),
    "instance norm": (Net(norm=functools.partial(nn.InstanceNorm2d, affine=True)), "instance norm"),
    "no statistics": (Net(norm=functools.partial(nn.BatchNorm2d, track_running_stats=False)), "running statistics"),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_whole_models_of_other_networks_are_refused_by_name(tmp_path, what):
    net, name = UNSUPPORTED[what]
    with refused(["net.pth", name]):
        reszoo.from_checkpoint(save(tmp_path, net))


@pytest.mark.filterwarnings("ignore")
def test_quantized_networks_are_named(tmp_path):
    net = torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, dtype=torch.qint8)
    for content in (net, net.state_dict()):
        with refused(["a quantized network", "fc"]):
            read(save(tmp_path, content))
    integers = {name: (one * 50).to(torch.int8) if one.dim() == 4 else one for name, one in SD.items()}
    with refused(["a quantized network", "int8", "conv1.weight"]):
        translate(read(save(tmp_path, integers)))


# Other containers.


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_numpy(tmp_path, protocol):
    arrays = {name: one.numpy() for name, one in SD.items()}
    arrays["conv1.weight"] = np.asfortranarray(arrays["conv1.weight"])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": arrays, "note": "x"}, protocol=protocol))
    np.savez(tmp_path / "a.npz", **arrays)
    for path in (tmp_path / "a.pkl", tmp_path / "a.npz", save(tmp_path, arrays, pickle_protocol=protocol)):
        loads_same(path)


def test_arrays_of_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], dtype=object))
    with refused(["a.npy", "objects"]):
        read(tmp_path / "a.npy")


def test_weights_of_flax(tmp_path):
    def packed(value):
        if isinstance(value, dict):
            items = b"".join(packed(key) + packed(item) for key, item in value.items())
            return b"\xde" + len(value).to_bytes(2, "big") + items
        if isinstance(value, str):
            return b"\xd9" + bytes([len(value)]) + value.encode()
        shape = bytes([0x90 + value.ndim]) + b"".join(b"\xcd" + size.to_bytes(2, "big") for size in value.shape)
        data = b"\xc6" + value.nbytes.to_bytes(4, "big") + np.ascontiguousarray(value).tobytes()
        inner = b"\x93" + shape + packed(value.dtype.name) + data
        return b"\xc9" + len(inner).to_bytes(4, "big") + b"\x01" + inner

    kernel = np.arange(54, dtype="float32").reshape(3, 3, 3, 2)
    (tmp_path / "a.msgpack").write_bytes(packed({"params": {"conv": {"kernel": kernel, "bias": np.ones(2, "int64")}}}))
    tensors = read(tmp_path / "a.msgpack").tensors
    np.testing.assert_array_equal(tensors["params/conv/kernel"].read(), kernel)
    assert tensors["params/conv/bias"].dtype == "int64"


def saved_model(folder):
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")


def orbax(folder):
    (folder / "_CHECKPOINT_METADATA").write_text("{}")


@pytest.mark.parametrize(("make", "name"), [(saved_model, "SavedModel"), (orbax, "Orbax")])
def test_folders_of_other_libraries_are_named(tmp_path, make, name):
    make(tmp_path)
    with refused([name]):
        read(tmp_path)


# Messages.


def test_weights_in_parts_are_put_together(tmp_path):
    net = Net()
    pytest.importorskip("torch.nn.utils.prune").l1_unstructured(net.layer1[0].conv1, "weight", 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(net.layer2[0].conv1)
    torch.nn.utils.parametrizations.weight_norm(net.layer3[0].conv1)
    with torch.no_grad():
        net.layer2[0].conv1.weight_g *= 1.5
    path = save(tmp_path, net.state_dict())
    assert_outputs(reszoo.from_checkpoint(path), outputs(net))
    torch.nn.utils.parametrizations.spectral_norm(net.layer3[0].conv2)
    with refused(["parts that are not supported", "layer3.0.conv2"]):
        translate(read(save(tmp_path, net.state_dict())))


def test_kernels_of_other_dimensions_are_named(tmp_path):
    volumes = {name: one.unsqueeze(2) if one.dim() == 4 else one for name, one in SD.items()}
    with refused(["3-D convolutions", "conv1.weight"]):
        translate(read(save(tmp_path, volumes)))


def test_parts_of_files(tmp_path):
    part = {name: one for name, one in SD.items() if not name.startswith(("layer3", "fc"))}
    with refused(["part 1 of 2", "index"]):
        translate(read(save(tmp_path, part, "pytorch_model-00001-of-00002.bin")))
    path = save(tmp_path, part)
    with refused(["2 stages and no classifier", "include_top=False"]):
        reszoo.from_checkpoint(path)
    assert len(reszoo.from_checkpoint(path, include_top=False).report.spec.stages) == 2


def test_shapes_in_messages_are_those_of_the_file(tmp_path):
    wrong = {**SD, "layer2.0.conv2.weight": torch.ones(16, 15, 3, 3)}
    with refused(["(16, 15, 3, 3)", "(16, 16, 3, 3)"]):
        reszoo.from_checkpoint(save(tmp_path, wrong))


def test_pruned_blocks_are_named(tmp_path):
    deeper = {name.replace("layer2.0", "layer2.1"): one for name, one in SD.items() if "layer2.0.bn" in name}
    deeper = {name: one[:11] if "bn1" in name and one.dim() else one for name, one in deeper.items()}
    deeper |= {"layer2.1.conv1.weight": torch.ones(11, 16, 3, 3), "layer2.1.conv2.weight": torch.ones(16, 11, 3, 3)}
    with refused(["pruned", "11 of 16 channels", "layer2.1"]):
        reszoo.from_checkpoint(save(tmp_path, {**SD, **deeper}))


def test_stems_whose_widths_grow(tmp_path):
    net, act = Net(), nn.ReLU()
    first = [nn.Conv2d(3, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), act]
    second = [nn.Conv2d(3, 5, 3, 1, 1, bias=False), nn.BatchNorm2d(5), act]
    net.conv1 = nn.Sequential(*first, *second, nn.Conv2d(5, 8, 3, 1, 1, bias=False)).eval()
    net.bn1 = nn.Sequential(net.bn1, act, nn.MaxPool2d(3, 2, 1), nn.Identity())
    names = {name.replace("bn1.0.", "bn1.") if name.startswith("bn1.") else name: name for name in net.state_dict()}
    state = {name: net.state_dict()[theirs] for name, theirs in names.items()}
    with pytest.warns(UserWarning, match="the file does not tell"):
        loaded = reszoo.from_checkpoint(save(tmp_path, state))
    assert_outputs(loaded, outputs(net))
    stem = reszoo.spec_of(loaded.model).stem
    assert (stem.width, stem.depth, stem.first_widths) == (8, 3, (3, 5))


def test_a_classifier_without_bias(tmp_path):
    net = Net()
    net.fc = nn.Linear(24, 5, bias=False)
    assert_outputs(reszoo.from_checkpoint(save(tmp_path, net.state_dict())), outputs(net))


def test_negative_variances_are_warned_of(tmp_path):
    path = save(tmp_path, {**SD, "bn1.running_var": -torch.ones(8)})
    with pytest.warns(UserWarning, match="negative variances"):
        reszoo.from_checkpoint(path)


KINDS = {
    "LoRA": {"base.layer1.0.conv1.lora_A.weight": torch.ones(4, 16)},
    "a vision transformer": {"cls_token": torch.ones(1, 1, 8), "blocks.0.attn.qkv.weight": torch.ones(24, 8)},
    "a ConvNeXt": {"stages.0.0.dwconv.weight": torch.ones(8, 1, 7, 7), "stages.0.0.pwconv1.weight": torch.ones(8, 8)},
    "a DenseNet": {"features.denseblock1.denselayer1.conv1.weight": torch.ones(8, 8, 1, 1)},
    "BiT": {"bit.embedder.convolution.weight": torch.ones(8, 3, 7, 7)},
    "pretrainedmodels": {
        "layer0.conv1.weight": torch.ones(8, 3, 7, 7),
        "layer1.0.se_module.fc1.weight": torch.ones(2, 8, 1, 1),
    },
    "NFNet": {"stem.conv1.gain": torch.ones(8, 1, 1, 1)},
    "depthwise convolutions": {"blocks.0.0.conv_dw.weight": torch.ones(8, 1, 3, 3)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_networks_are_named(tmp_path, kind):
    path = save(tmp_path, KINDS[kind])
    with refused([kind]):
        translate(read(path))
    assert kind in summary(path)


def test_layers_of_timm_that_many_kinds_have_are_no_kind():
    # A convolution with its norm in one module, as in CSPNet, DarkNet, TResNet and others.
    assert not likely_kind(["stages.0.blocks.0.conv2.conv.weight", "stages.0.blocks.0.conv2.bn.weight"])


def test_depthwise_convolutions_are_named_in_any_order(tmp_path):
    sides = (3, 3, 5, 3, 5, 3, 5)
    kernels = {f"features.{i}.0.weight": torch.ones(8, i % 2 or 8, side, side) for i, side in enumerate(sides)}
    with refused(["every channel by itself (features.1.0)"]):
        reszoo.from_checkpoint(save(tmp_path, kernels))


def test_no_supported_library_is_taken_for_another_kind():
    for name, spec in FORMS.items():
        assert not likely_kind(in_dialect(spec, dialects()[name]))


@pytest.mark.parametrize("how", ["attribute", "axes"])
def test_theano_is_named(tmp_path, how):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        if how == "attribute":
            file.attrs["backend"] = b"theano"
        group = file.create_group("conv1")
        shape = (64, 3, 7, 7) if how == "axes" else (7, 7, 3, 64)
        group.create_dataset("conv1_W", data=np.zeros(shape, "float32"))
        group.attrs["weight_names"] = [b"conv1_W"]
    with refused(["a.h5", "Theano"]):
        read(tmp_path / "a.h5")


def test_two_backbones_in_a_keras_file(tmp_path):
    arrays = in_dialect(small("resnet50_v1"), dialects()["keras_applications"])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"left", b"right"]
        for model in ("left", "right"):
            group = file.create_group(model)
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in arrays]
            for name, array in arrays.items():
                group.create_dataset(f"{name}:0", data=array)
    with refused(["2 networks", "'left'", "'right'"]):
        translate(read(tmp_path / "a.h5"))
    assert len(translate(read(tmp_path / "a.h5"), key="right").tensors) == len(arrays)


# What `reszoo info` prints.


def test_a_description_lists_networks_layers_and_what_is_left_aside(tmp_path):
    content = {"model": OLD, "ema": {"module": SD}, "optimizer": {"state": {}, "param_groups": []}, "s": Counter([1])}
    path = save(tmp_path, content)
    text, data = summary(path), details(path)
    for part in (
        "'model'",
        "'ema.module'",
        "optimizer",
        "collections.Counter",
        "layer2.0.conv1.weight",
        "(8, 3, 3, 3)",
    ):
        assert part in text
    assert json.loads(json.dumps(data)) == data
    assert data["networks"] == ["model", "ema.module"] and data["read_from"] == "ema.module"
    assert details(path, key="model")["read_from"] == "model"
    assert data["network"]["spec"]["head"]["classes"] == 5
    path = save(tmp_path, {**under("left.", OLD), **under("right.", SD)})
    assert details(path)["network"] is None and "2 networks" in summary(path)


def test_the_command_prints_json(tmp_path):
    from typer.testing import CliRunner

    from reszoo.cli.screen import app

    write_torch({name: one.numpy() for name, one in under("left.", SD).items()}, tmp_path / "a.pth")
    result = CliRunner().invoke(app, ["info", str(tmp_path / "a.pth"), "--json", "--prefix", "left."])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["read_from"] == "left"


def test_loading_into_a_model_takes_a_prefix(tmp_path):
    model = reszoo.from_checkpoint(save(tmp_path, OLD)).model
    path = save(tmp_path, {**under("left.", OLD), **under("right.", SD)})
    reszoo.load_weights(model, path, prefix="right.")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X)), LOGITS, atol=1e-5)
    with pytest.raises(ReszooError):
        reszoo.load_weights(model, path)


def test_legacy_files_of_keras_keep_working(tmp_path):
    arrays = in_dialect(small("resnet50_v1"), dialects()["keras_applications"])
    write_legacy_h5(arrays, tmp_path / "a.h5")
    assert len(translate(read(tmp_path / "a.h5")).tensors) == len(arrays)
