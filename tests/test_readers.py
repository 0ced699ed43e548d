"""Readers of checkpoint files: the same numbers as the foreign library's, and a clear error for every invalid file."""

import io
import json
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import onnx_bytes
import pytest
from conftest import needs, refused, shown

from reszoo.errors import ReszooError
from reszoo.weights.formats.checkpoint import REDOWNLOAD, BrokenFileError
from reszoo.weights.formats.read import read
from reszoo.weights.select import by_dicts, chosen, restricted

# PyTorch files written by hand: its library may be absent.

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle of the magic number with which a legacy file begins."""


class Name(str):
    """`module.name`, as a pickle refers to it."""


class Call(tuple):
    """A name and its arguments."""


class PersistentId(tuple):
    """A persistent id."""


def pickled(value):
    """A value as opcodes of protocol 2."""
    match value:
        case bytes():
            return value
        case Name():
            return b"c%s\n%s\n" % tuple(part.encode() for part in value.rsplit(".", 1))
        case Call((name, *arguments)):
            return pickled(Name(name)) + pickled(tuple(arguments)) + b"R"
        case PersistentId():
            return pickled(tuple(value)) + b"Q"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case dict():
            return b"}(" + b"".join(pickled(key) + pickled(item) for key, item in value.items()) + b"u"
    return b"(" + b"".join(map(pickled, value)) + (b"l" if isinstance(value, list) else b"t")


def tensor(kind, shape, stride, *, elements, key="0", offset=0, view=()):
    storage = PersistentId(("storage", Name(f"torch.{kind}Storage"), key, "cpu", elements, *view))
    return Call(
        ("torch._utils._rebuild_tensor_v2", storage, offset, shape, stride, False, Call(("collections.OrderedDict",)))
    )


def row(key="0"):
    """A tensor of three numbers."""
    return tensor("Float", (3,), (1,), elements=3, key=key)


ROW = np.arange(3, dtype="<f4").tobytes()


def zipped(path, content, storages, order=None, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + pickled(content) + b".")
        if order:
            archive.writestr("a/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"a/data/{key}", data)
    return path


def legacy(path, content, storages):
    """`storages` maps a key to the number of elements and the bytes."""
    parts = [1001, {"little_endian": True}, content, [*storages]]
    data = b"".join(struct.pack("<q", number) + numbers for number, numbers in storages.values())
    path.write_bytes(MAGIC + b"".join(b"\x80\x02" + pickled(part) + b"." for part in parts) + data)
    return path


def arrays(checkpoint):
    return {name: tensor.read() for name, tensor in checkpoint.tensors.items()}


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert (arrays[name].shape, arrays[name].dtype.name) == (array.shape, array.dtype.name), name
        native = arrays[name].astype(array.dtype.newbyteorder("="), order="C")
        assert native.tobytes() == array.astype(array.dtype.newbyteorder("="), order="C").tobytes(), name


KINDS = {
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": ml_dtypes.bfloat16, "Long": "int64"},
    **{"Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool"},
}


@pytest.mark.parametrize("container", ["little", "big", "default", "legacy"])
def test_types_and_views_of_pytorch_files(tmp_path, container):
    content, storages, expected = {}, {}, {}
    for key, (kind, dtype) in enumerate(KINDS.items()):
        array = np.arange(1, 13).astype(dtype)
        swapped = array.view(f"u{array.itemsize}").astype(f">u{array.itemsize}") if container == "big" else array
        storages[str(key)] = (12, swapped.tobytes())
        content[f"{kind}.whole"] = tensor(kind, (3, 4), (4, 1), elements=12, key=str(key))
        content[f"{kind}.turned"] = tensor(kind, (4, 2), (1, 4), elements=12, key=str(key), offset=4)
        content[f"{kind}.one"] = tensor(kind, (), (), elements=12, key=str(key), offset=11)
        content[f"{kind}.none"] = tensor(kind, (0, 4), (4, 1), elements=12, key=str(key))
        grid = array.reshape(3, 4)
        expected |= {f"{kind}.whole": grid, f"{kind}.turned": grid[1:].T, f"{kind}.one": grid[2, 3]}
        expected[f"{kind}.none"] = grid[:0]
    if container == "legacy":
        # A storage that is a view of another: key, start and length of the view.
        content["piece"] = tensor("Float", (3,), (1,), elements=12, view=(("v", 5, 4),), offset=1)
        expected["piece"] = np.arange(7, 10, dtype="float32")
        path = legacy(tmp_path / "a.pth", content, storages)
    else:
        order = None if container == "default" else container
        path = zipped(tmp_path / "a.pth", content, {key: data for key, (_, data) in storages.items()}, order)
    assert_same(arrays(read(path)), expected)


def parameter(value):
    return Call(("torch._utils._rebuild_parameter", value, True, Call(("collections.OrderedDict",))))


FLAT = {"w": row()}
OTHER = {"v": row()}


def grid():
    """A kernel of three numbers."""
    return tensor("Float", (1, 3), (3, 1), elements=3)


KERNEL, OTHER_KERNEL = {"w": grid()}, {"v": grid()}
WRAPPED = [
    (KERNEL, None, "", "w", ""),
    ({"w": parameter(grid())}, None, "", "w", ""),
    ({"state_dict": KERNEL, "best": row(), "epoch": 3}, None, "state_dict", "w", "''"),
    ({"model": KERNEL, "model_ema": OTHER_KERNEL, "optimizer": {"state": KERNEL}}, None, "model_ema", "v", "'model'"),
    ({"state_dict": KERNEL, "model_ema": {"module": OTHER_KERNEL}}, None, "model_ema.module", "v", "'state_dict'"),
    ({"model": KERNEL, "model_ema": OTHER_KERNEL}, "model", "model", "w", "'model_ema'"),
    ({"best": {"state_dict": KERNEL}, "args": Call(("argparse.Namespace",))}, None, "best.state_dict", "w", ""),
    ({"only": KERNEL}, None, "only", "w", ""),
    (Call(("collections.OrderedDict", [["w", grid()]])), None, "", "w", ""),
]


@pytest.mark.parametrize(("content", "key", "where", "name", "note"), WRAPPED)
def test_wrapped_networks_are_unwrapped(tmp_path, content, key, where, name, note):
    checkpoint = read(zipped(tmp_path / "a.pth", content, {"0": ROW}))
    part = restricted(checkpoint, key=key, prefix=None)
    located = by_dicts(part)
    network = chosen(part, located)
    full = f"{where}.{name}" if where else name
    assert full in checkpoint.tensors and network.label in (where, full.rpartition(".")[0])
    others = {repr(one.label) for one in by_dicts(checkpoint) if one is not network}
    assert not note or note in others | {"''"}


PREFIXES = [
    (["module.a", "module.b"], ["a", "b"]),
    (["_orig_mod.module.a", "_orig_mod.module.b"], ["a", "b"]),
    (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
    (["module.a", "a"], ["module.a", "a"]),
    (["module.a", "b"], ["module.a", "b"]),
]


@pytest.mark.parametrize(("names", "bare"), PREFIXES)
def test_prefixes_of_wrapping_modules_are_removed(tmp_path, names, bare):
    window = tensor("Float", (1, 3), (3, 1), elements=3)
    checkpoint = read(zipped(tmp_path / "a.pth", dict.fromkeys(names, window) | {"n_averaged": row()}, {"0": ROW}))
    network = chosen(checkpoint, by_dicts(checkpoint))
    assert [name.removeprefix(network.prefix) for name in checkpoint.tensors if name in names] == bare


@needs("torch")
@pytest.mark.parametrize("new", [True, False])
def test_same_as_pytorch(tmp_path, new):
    import torch

    base = torch.arange(60, dtype=torch.float32)
    state = {"view": base[10:30].view(4, 5), "turned": base[30:].view(5, 6).t(), "steps": base[::7]}
    state["parameter"] = torch.nn.Parameter(torch.randn(3, 2))
    state |= {str(dtype): torch.ones(3).to(dtype) for dtype in (torch.half, torch.bfloat16, torch.int8, torch.bool)}
    state |= {"one": torch.tensor(5), "none": torch.zeros(2, 0, 3)}
    torch.save({"state_dict": state}, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    _same_as_torch(tmp_path / "a.pth")


@needs("torch")
@pytest.mark.parametrize("name", ["cifar10_resnet20_option_a.th", "torchvision_resnet18_random_fp16.pth"])
def test_published_files_give_the_same_as_pytorch(shared, name):
    _same_as_torch(shared / "weights" / name)


def _same_as_torch(path):
    import torch

    state = torch.load(path, weights_only=True, map_location="cpu")
    checkpoint, expected = read(path).tensors, state.get("state_dict", state)
    start = "state_dict." if "state_dict" in state else ""
    assert [*checkpoint] == [f"{start}{name}" for name in expected]
    for ours, theirs in zip(checkpoint.values(), expected.values(), strict=True):
        theirs = theirs.detach()
        assert (ours.shape, f"torch.{ours.dtype}") == (tuple(theirs.shape), str(theirs.dtype))
        bits = theirs.contiguous().flatten().view(torch.uint8).numpy() if theirs.numel() else np.zeros(0)
        assert ours.read().tobytes() == bits.tobytes()


def some(*names):
    rng = np.random.default_rng(0)
    dtypes = ["float32", "float64", "float16", ml_dtypes.bfloat16, "int64", "int32", "int16", "int8", "uint8", "bool"]
    return {
        f"{name}.{np.dtype(dtype).name}": rng.normal(0, 9, (2, 3)).astype(dtype) for name in names for dtype in dtypes
    }


def test_a_program_of_an_earlier_torch_export_is_named(tmp_path):
    inner = zipped(tmp_path / "inner.pth", {"w": parameter(row())}, {"0": ROW}).read_bytes()
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("serialized_constants.pt", "serialized_example_inputs.pt", "serialized_state_dict.pt"):
            archive.writestr(name, inner)
    with refused(["a program of torch.export", "unpack it and load 'serialized_state_dict.pt'"]):
        read(tmp_path / "net.pt2")


def test_safetensors_shards_and_folders(tmp_path):
    from safetensors.numpy import save_file

    parts = {"model-1.safetensors": some("module.a"), "model-2.safetensors": some("module.b")}
    for name, part in parts.items():
        save_file(part, tmp_path / name, {"format": "np"})
    index = {tensor: name for name, part in parts.items() for tensor in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (tmp_path / "config.json").write_text('{"depths": [1]}')
    expected = {name: array for part in parts.values() for name, array in part.items()}
    checkpoint = read(tmp_path)
    assert_same(arrays(checkpoint), expected)
    assert checkpoint.config["depths"] == [1]
    single = read(tmp_path / "model-1.safetensors")
    assert_same(arrays(single), {name: expected[name] for name in single.tensors})
    assert single.config == {"format": "np"} and len(single.tensors) == 10


def test_pytorch_shards(tmp_path):
    zipped(tmp_path / "one.bin", {"a": row()}, {"0": ROW})
    legacy(tmp_path / "two.bin", {"b": row()}, {"0": (3, ROW)})
    index = {"weight_map": {"a": "one.bin", "b": "two.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert_same(arrays(read(tmp_path)), dict.fromkeys("ab", np.arange(3, dtype="float32")))


@pytest.mark.parametrize("name", ["hf_resnet_basic_tiny", "timm_resnet_d_tiny.safetensors"])
def test_published_files_give_the_same_as_safetensors(shared, name):
    from safetensors.numpy import load_file

    path = shared / "weights" / name
    checkpoint = read(path)
    assert_same(arrays(checkpoint), load_file(path / "model.safetensors" if path.is_dir() else path))
    assert bool(checkpoint.config.get("model_type")) == path.is_dir()


LAYERS = {"c1": ["c1/kernel:0", "c1/bias:0"], "sub": ["c2/kernel", "inner/bn/moving_mean:0"], "flat": []}


def keras_legacy(path, libver="earliest", chunked=False, whole=False):
    expected = {}
    with h5py.File(path, "w", libver=libver) as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = '{"class_name": "Functional"}'
        for number, names in enumerate(([*LAYERS][:2], [*LAYERS][2:]) if chunked else ([*LAYERS],)):
            root.attrs["layer_names" + (str(number) if chunked else "")] = names
        for layer, weights in LAYERS.items():
            group = root.create_group(layer)
            # Keras writes the names as bytes of one length or as texts.
            group.attrs["weight_names" + ("0" if chunked else "")] = np.array(weights, "S") if weights else weights
            for weight in weights:
                array = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
                group[weight] = array
                expected["/".join([layer, *weight.split(":")[0].split("/")][-2:])] = array
    return expected


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_legacy_keras_files(tmp_path, libver, chunked, whole):
    expected = keras_legacy(tmp_path / "a.h5", libver, chunked, whole)
    checkpoint = read(tmp_path / "a.h5")
    assert_same(arrays(checkpoint), expected)
    assert checkpoint.layers == {*LAYERS} and checkpoint.container == "Keras legacy HDF5"
    assert checkpoint.config == ({"class_name": "Functional"} if whole else {})


@pytest.mark.parametrize("many", [1, 12, 2000])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_numbered_keras_files(tmp_path, libver, many):
    expected = {}
    with h5py.File(tmp_path / "a.weights.h5", "w", libver=libver, track_order=many == 12) as file:
        for layer in range(many):
            group = file.create_group(f"layers/conv2d_{layer}/vars")
            group.attrs["name"] = f"first_{layer}"
            dtype = ["<f4", ">f8", "<f2", ml_dtypes.bfloat16, ">i8", "u1", "bool"][layer % 7]
            for number, name in enumerate(("kernel", "bias")):
                expected[f"first_{layer}/{name}"] = group[str(number)] = np.arange(number * layer).astype(dtype)
        file["optimizer/vars/0"] = file["layers/relu/vars/seed"] = 1.0
    checkpoint = read(tmp_path / "a.weights.h5")
    seed = checkpoint.tensors["relu/seed"].read()
    assert_same(arrays(checkpoint), expected | {"relu/seed": seed})
    assert seed == 1 and checkpoint.layers == {f"first_{layer}" for layer in range(many)}


def test_same_as_keras(tmp_path):
    import keras

    inner = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(2, 3, name="c2")], name="inner")
    layers = [keras.layers.Conv2D(2, 1, name="c1"), inner, keras.layers.BatchNormalization(name="n1")]
    model = keras.Sequential([keras.Input((4, 4, 2)), *layers, keras.layers.Flatten(name="flat")])
    expected = {"/".join(weight.path.split("/")[-2:]): weight.numpy() for weight in model.weights}
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    model.save_weights(tmp_path / "a.weights.h5")
    for name in ("a.keras", "a.h5", "a.weights.h5"):
        checkpoint = read(tmp_path / name)
        assert_same(arrays(checkpoint), expected)
        assert {"c1", "n1", "flat", "inner"} <= checkpoint.layers
        assert bool(checkpoint.config) == (name != "a.weights.h5")


def test_tensors_are_read_lazily(tmp_path):
    writers = {
        "a.pth": lambda path: zipped(path, FLAT, {"0": ROW}),
        "b.pth": lambda path: legacy(path, FLAT, {"0": (3, ROW)}),
    }
    writers["c.h5"] = keras_legacy
    for name, write in writers.items():
        path = tmp_path / name
        write(path)
        tensors = read(path).tensors
        path.write_bytes(path.read_bytes()[:60])
        first = next(iter(tensors))
        with refused([name, repr(first), "cannot be read", "download or save"]):
            tensors[first].read()


# Invalid files and the text of their errors.

PICKLES = [
    (b"cos\nsystem\nX\x05\x00\x00\x00echo \x85R", ["'os.system'", "nothing of it was executed", "state_dict()"]),
    (b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R", ["'builtins.eval'"]),
    (b"c__torch__.Net\nNet\n)\x81", ["no tensors"]),
    (b"cfoo\nBar\n)\x81", ["no tensors", "foo.Bar"]),
    (b"\x8c\x05posix\x8c\x06system\x93", ["'posix.system'"]),
    (b"(S'echo'\nios\nsystem\n", ["'os.system'"]),
    (b"(cos\nsystem\nS'echo'\no", ["'os.system'"]),
    (b"csubprocess\nPopen\nX\x04\x00\x00\x00echo\x85}\x92", ["'subprocess.Popen'"]),
    (b"}\x82\x01", ["opcode EXT1"]),
    (b"K\x01K\x02\x85R", ["not on the allowlist"]),
    (b"(" + b"N" * 100 + b"tq\0cbuiltins\nset\nh\0R", ["unsupported arguments"]),
    (b"]" * 100_000, ["no tensors"]),
    (b"}N" + b"q\0h\0\x86" * 60 + b"Ns", ["no tensors"]),
    (b"}r\xff\xff\xff\x7f", ["no tensors"]),
    (b"Np%d\n" % (1 << 80), ["memo"]),
    (b"X\xff\xff\xff\xff", ["claims more than"]),
    (b"\x8e" + b"\xff" * 7 + b"\x7f", ["claims more than"]),
    (b"N" * (1 << 22), ["opcodes"]),
    (b"e", ["damaged pickle", "IndexError"]),
    (b"X\x01\x00\x00\x00\xff", ["damaged pickle", "UnicodeDecodeError"]),
    (pickled({"w": Call(("torch._utils._rebuild_tensor_v2", 1, 0, (1,), (1,)))}), ["not a view"]),
    (pickled({"w": tensor("Float", (1 << 40,), (0,), elements=3)}), [f"{4 << 40:,} bytes in a file"]),
    (pickled({"w": tensor("Float", (3,), (2,), elements=3)}), ["'w'", "(3,)", "3 elements"]),
    (pickled({"w": tensor("Float", (3,), (1,), elements=3, offset=-1)}), ["not non-negative integers"]),
    (pickled({"w": tensor("Float", (3,), (-1,), elements=3, offset=2)}), ["not non-negative integers"]),
    (pickled({"w": tensor("Float", (0, 1 << 40, 1 << 40), (1, 1, 1), elements=3)}), ["'w'"]),
    (pickled({"w": tensor("Float", (1,) * 33, (1,) * 33, elements=3)}), ["33 axes"]),
    (pickled({"w": tensor("Float", (3,), (1,), elements=1 << 40)}), ["'w'", "1,099,511,627,776", "12 bytes"]),
    (pickled({"w": tensor("Float", (3,), (1,), elements=1 << 2000)}), ["unsupported kind of storage"]),
    (pickled({"w": tensor("Double", (3,), (1,), elements=3)}), ["'w'", "float64", "12 bytes"]),
    (pickled({"w": tensor("Float", (3,), (1,), elements=3, key="1")}), ["'w'", "'1'", "not in the file"]),
    (pickled({"\x1b[2J": row()}), ["'\\x1b[2J'", "printable"]),
    (pickled({"module." * 1000: row()}), ["no tensors"]),
    (pickled({"module." * 140: {"a" * 100: row()}}), ["printable"]),
    (pickled({"w": Call(("torch._utils._rebuild_qtensor", 1))}), ["a quantized network", "'w'"]),
    (pickled({"state": {}, "param_groups": []}), ["an optimizer, no weights"]),
]


@pytest.mark.parametrize(("code", "expected"), PICKLES, ids=shown)
def test_refused_pickles(tmp_path, code, expected):
    path = zipped(tmp_path / "a.pth", code, {"0": ROW})
    with refused(["a.pth", *expected]):
        read(path)


def test_a_tensor_listed_too_often_is_refused(tmp_path):
    with refused(["a.pth", "40,000 tensors"]):
        read(zipped(tmp_path / "a.pth", b"(" + pickled(row()) + b"q\x01" + b"h\x01" * 39_999 + b"l", {"0": ROW}))
    (tmp_path / "a.msgpack").write_bytes(
        b"\x81\xa3abc\xdd" + struct.pack(">I", 40_000) + packed((0,), np.empty(0, "f4")) * 40_000
    )
    with refused(["a.msgpack", "32,769 tensors"]):
        read(tmp_path / "a.msgpack")


def test_a_storage_referenced_a_hundred_times_is_refused(tmp_path):
    window = tensor("Float", (10_000,), (1,), elements=10_000)
    with refused(["a.pth", "4,000,000 bytes"]):
        read(zipped(tmp_path / "a.pth", {f"w{number}": window for number in range(100)}, {"0": bytes(40_000)}))


def test_nothing_in_a_file_is_imported_or_executed(tmp_path):
    touch = f"touch {tmp_path}/ran".encode()
    code = b"cantigravity\nfly\n0cos\nsystem\nX" + struct.pack("<I", len(touch)) + touch + b"\x85R"
    for path in (zipped(tmp_path / "a.pth", code, {}), legacy(tmp_path / "b.pth", code, {})):
        with refused(["'os.system'"]):
            read(path)
    assert "antigravity" not in sys.modules and not (tmp_path / "ran").exists()


def test_a_list_of_pairs_is_used_for_one_dict(tmp_path):
    # If the list could be reused, a million calls with a list of a million pairs would never end.
    again = b"ccollections\nOrderedDict\nh\0R"
    path = zipped(tmp_path / "a.pth", {"a": pickled(([["w", row()]],)) + b"q\x000" + again, "b": again}, {"0": ROW})
    assert read(path).keys == ("a",)


LEGACY = [
    ([1], ["without a list of its storages"]),
    ([[[]]], ["without a list of its storages"]),
    (["0", "1"], ["'1'", "ends within"]),
]


@pytest.mark.parametrize(("keys", "expected"), LEGACY)
def test_refused_legacy_files(tmp_path, keys, expected):
    path = legacy(tmp_path / "a.pth", FLAT, {"0": (3, ROW)})
    path.write_bytes(path.read_bytes().replace(pickled(["0"]), pickled(keys)))
    with refused(["a.pth", *expected]):
        read(path)


def member(name, data=b"x", **fields):
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


ZIPS = [
    ([member("b/data.pkl")], ["2 members data.pkl"]),
    ([member("a/data.pkl")], ["two members 'a/data.pkl'"]),
    ([member("../../x")], ["'../../x'", "points outside"]),
    ([member("/etc/x")], ["'/etc/x'", "points outside"]),
    ([member("C:/x")], ["'C:/x'", "points outside"]),
    ([member("a/link", external_attr=0o120777 << 16)], ["'a/link'", "a link"]),
    ([member("a/bomb", bytes(10**7), compress_type=zipfile.ZIP_DEFLATED)], ["'a/bomb'", "10,000,000 bytes"]),
    ([member("a/packed", compress_type=zipfile.ZIP_BZIP2)], ["'a/packed'", "neither stored nor deflated"]),
    ([member("a/byteorder", b"middle")], ["b'middle'", "little, big"]),
    ([member("a/byteorder", b"little" * 9)], ["'a/byteorder' of 54 bytes"]),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("members", "expected"), ZIPS, ids=lambda value: str(value[0])[:40])
def test_refused_zip_archives(tmp_path, members, expected):
    path = zipped(tmp_path / "a.pth", FLAT, {"0": ROW})
    with zipfile.ZipFile(path, "a") as archive:
        for info, data in members:
            archive.writestr(info, data)
    with refused(["a.pth", *expected]):
        read(path)


DIRECTORY = [
    (24, b"\xff\xff\xff\x7f", ["'a/data/0'", "2,147,483,647 bytes"]),
    (42, bytes(4), ["'a/data/0'", "overlaps"]),
    (8, b"\x01\x00", ["encrypted", "'a/data/0'"]),
    (16, bytes(4), ["'w'", "a damaged member 'a/data/0'"]),
]


@pytest.mark.parametrize(("at", "data", "expected"), DIRECTORY, ids=["size", "offset", "encrypted", "checksum"])
def test_a_forged_zip_directory_is_refused(tmp_path, at, data, expected):
    path = zipped(tmp_path / "a.pth", FLAT, {"0": ROW})
    content = bytearray(path.read_bytes())
    start = content.rfind(b"PK\1\2") + at
    content[start : start + len(data)] = data
    path.write_bytes(content)
    with refused(["a.pth", *expected]):
        arrays(read(path))


def headed(header, body=b"", size=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if size is None else size) + header + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FILES = [
    ("a.safetensors", headed({"w": entry()}), ["truncated safetensors"]),
    ("a.safetensors", headed({"w": entry(shape=(10**12,), offsets=(0, 4 * 10**12))}), ["truncated safetensors"]),
    ("a.safetensors", headed({"w": entry(), "v": entry()}, bytes(4)), ["damaged", "invalid offset"]),
    ("a.safetensors", headed({"w": entry("F8_E4M3", (4,))}, bytes(4)), ["'w'", "F8_E4M3", "BF16"]),
    ("a.safetensors", headed(b'{"a":' + b"[" * 100_000), ["damaged"]),
    ("a.safetensors", headed(b"{}", size=1 << 60), ["header too large"]),
    ("a.index.json", b'{"weight_map": {"w": "../../etc/passwd"}}', ["'../../etc/passwd'", "same folder"]),
    ("a.index.json", b'{"weight_map": {"w": "/etc/passwd"}}', ["'/etc/passwd'", "same folder"]),
    ("a.index.json", b'{"weight_map": {"w": "a.index.json"}}', ["'a.index.json'", "same folder"]),
    ("a.index.json", b'{"weight_map": {"w": "a\\u0000"}}', ["same folder"]),
    ("a.index.json", b'{"weight_map": {"w": ".."}}', ["missing shard '..'"]),
    ("a.index.json", b'{"weight_map": {"w": "b"}}', ["missing shard 'b'", "put it into"]),
    ("a.index.json", b'{"weight_map": {"w": 3}}', ["invalid index of shards", "weight_map"]),
    ("a.index.json", b"[" * 100_000, ["not JSON"]),
    ("a.index.json", b"[]", ["not a JSON object"]),
    ("a.index.json", b'{"weight_map": {"w": "good.pth", "v": "good.pth"}}', ["'v'", "'good.pth'"]),
    ("config.json", b"[" * 100_000, ["config.json", "not JSON"]),
    ("config.json", b"3", ["config.json", "not a JSON object"]),
    ("a.pth", b"", ["an empty file", "safetensors"]),
    ("a.pth", b"<!DOCTYPE html><html>", ["a web page", "download failed"]),
    ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", ["Git LFS pointer"]),
    ("a.pth", b"\x80\x04}.", ["no tensors"]),
    ("a.npz", b"PK\x05\x06" + bytes(18), ["a zip archive without a checkpoint"]),
    ("a.npy", b"\x93NUMPY\x01\x00\xff\xff{", ["damaged header"]),
    ("a.msgpack", b"\x81\xa6params\xdf\xff\xff\xff\xff", ["truncated msgpack"]),
    ("a.pth", b'{"message": "Not Found"}', ["JSON text"]),
    ("a.pth", b"\x1f\x8b\x08\0" + bytes(60), ["packed by gzip"]),
    ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(60), ["a TFLite model"]),
    ("a.onnx", b"\x08\x07\x12\x07pytorch" + bytes(60), ["a damaged or truncated ONNX model"]),
    ("a.index", bytes(200), ["damaged or truncated index of a TensorFlow checkpoint"]),
    ("a.data-00000-of-00001", bytes(200), ["a part of a TensorFlow checkpoint", "a.index"]),
    ("a.pth", b"PK\x03\x04", ["truncated zip"]),
    ("a.h5", b"\x89HDF\r\n\x1a\n", ["damaged HDF5", "truncated"]),
]


@pytest.mark.parametrize(("name", "content", "expected"), FILES, ids=shown)
def test_refused_files(tmp_path, name, content, expected):
    zipped(tmp_path / "good.pth", FLAT, {"0": ROW})
    (tmp_path / name).write_bytes(content)
    path = tmp_path / name
    if name == "config.json":
        (tmp_path / "model.safetensors").write_bytes(headed({"w": entry()}, bytes(4)))
        path = tmp_path
    with refused([name, *expected]):
        read(path)


HINTS = [
    ("README.md", b"# reszoo\n\nResidual networks", ""),
    ("a.safetensors", headed({"w": entry("F8_E4M3", (4,))}, bytes(4)), ""),
    ("a.index.json", b'{"weight_map": {"w": "../a"}}', ""),
    ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ("a.pth", b"\x80\x04}.", ""),
    ("a.pth.gz", b"\x1f\x8b\x08\0" + bytes(60), "unpack it"),
    ("a.pth", b"<!DOCTYPE html><html>", REDOWNLOAD),
    ("a.pth", b"", REDOWNLOAD),
    ("a.pth", b"PK\x03\x04", REDOWNLOAD),
    ("a.h5", b"\x89HDF\r\n\x1a\n", REDOWNLOAD),
    ("a.safetensors", headed({"w": entry()}), REDOWNLOAD),
]


@pytest.mark.parametrize(("name", "content", "hint"), HINTS, ids=shown)
def test_the_hint_fits_the_error(tmp_path, name, content, hint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BrokenFileError) as caught:
        read(tmp_path / name)
    assert hint in caught.value.hint and (REDOWNLOAD in str(caught.value)) == (hint == REDOWNLOAD)


def virtual(group):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (3,))
    group.create_virtual_dataset("kernel", layout)


HDF5 = [
    (lambda group: group.__setitem__("kernel", h5py.ExternalLink("other.h5", "/secret")), ["not in the file"]),
    (lambda group: group.__setitem__("kernel", h5py.SoftLink("/a")), ["not in the file"]),
    (lambda group: group.create_dataset("kernel", (3,), "f4", external=[("other.h5", 2048, 12)]), ["external"]),
    (virtual, ["virtual"]),
    (lambda group: group.create_dataset("kernel", (10**12,), "f4"), ["1,000,000,000,000 numbers"]),
    (lambda group: group.create_dataset("kernel", (10**12,), "f4", chunks=(1000,)), ["chunked"]),
    (lambda group: group.create_dataset("kernel", data=np.ones(99), compression="gzip"), ["compressed"]),
    (lambda group: group.create_dataset("kernel", data=group.ref, dtype=h5py.ref_dtype), ["non-numeric"]),
    (lambda group: group.create_dataset("kernel", data="text"), ["non-numeric"]),
    (lambda group: group.create_dataset("kernel", data=h5py.Empty("f4")), ["without a shape"]),
    (lambda group: group.create_group("kernel"), ["not in the file"]),
    (lambda group: None, ["not in the file"]),
    (lambda group: group.parent.attrs.__setitem__("weight_names", [1, 2]), ["'weight_names'", "not text"]),
    (lambda group: group.parent.attrs.__setitem__("weight_names", group.ref), ["not text"]),
    (lambda group: group.parent.attrs.__setitem__("weight_names", np.array([b"\xff"])), ["UnicodeDecodeError"]),
    (lambda group: group.file.attrs.__setitem__("layer_names", []), ["without Keras weights"]),
    (lambda group: group.file.attrs.__setitem__("model_config", "[" * 50_000), ["model_config", "JSON"]),
]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(("make", "expected"), HDF5, ids=shown)
def test_refused_hdf5_files(tmp_path, make, expected, libver):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3, "f4")
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.attrs["layer_names"] = ["a"]
        group = file.create_group("a/a")
        file["a"].attrs["weight_names"] = ["a/kernel"]
        if "model_config" in expected:
            group["kernel"] = np.ones(3)
        make(group)
    with refused(["a.h5", *expected]):
        read(tmp_path / "a.h5")


def test_hdf5_groups_that_contain_themselves(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(20):
            file[f"up{number}"] = file.require_group("a/vars").parent
            file["a"][f"down{number}"] = file["/"]
        file["a/vars/0"] = np.ones(3, "f4")
    assert len(read(tmp_path / "a.h5").tensors) == 1
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["a"].attrs["weight_names"] = ["/".join(["down0", "a"] * 10_000)] * 3
        file.attrs["layer_names"] = ["a"]
    with refused(["a.h5"]):
        read(tmp_path / "a.h5")


def test_a_long_text_referenced_a_thousand_times_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = ["x" * 900_000] + ["y"] * 1000
    content = bytearray((tmp_path / "a.h5").read_bytes())
    start = content.find(struct.pack("<I", 900_000))
    content[start : start + 16 * 1001] = content[start : start + 16] * 1001
    (tmp_path / "a.h5").write_bytes(content)
    with refused(["a.h5", "more text"]):
        read(tmp_path / "a.h5")


def layer(kind, name, *calls, **config):
    nodes = [[[source, number, 0, {}]] for source, number in calls]
    return {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}


def functional(name, layers, last):
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [[*last, 0]]}
    inner = [layer("InputLayer", "x", batch_shape=[None, 8, 8, 3]), *layers]
    return {"class_name": "Functional", "config": {"name": name, "layers": inner, **ends}, "inbound_nodes": []}


def nested():
    """A model that calls a model twice, which calls a model twice, and so on, to a dropout."""
    model = functional("m0", [layer("Dropout", "d", ("x", 0))], ("d", 0))
    for depth in range(1, 25):
        model["inbound_nodes"] = [[["x", 0, 0, {}]], [[f"m{depth - 1}", 0, 0, {}]]]
        model = functional(f"m{depth}", [model], (f"m{depth - 1}", 1))
    return model


def backwards():
    """A chain whose layers stand after those that read them."""
    chain = [layer("Dropout", f"d{i}", (f"d{i - 1}" if i else "x", 0)) for i in range(3000)]
    return functional("m", chain[::-1], ("d2999", 0))


@pytest.mark.parametrize("config", [nested, backwards])
def test_configurations_that_would_be_read_forever(config):
    from reszoo.weights.keras_graph import steps_of

    with refused(["a.keras", "more than 200,000 layers and calls"]):
        steps_of(config(), "a.keras")


def test_json_of_a_million_values_is_refused(tmp_path):
    (tmp_path / "a.index.json").write_text('{"weight_map":[' + "[]," * (1 << 20) + "[]]}")
    with refused(["a.index.json", "2,097,155 brackets and commas"]):
        read(tmp_path / "a.index.json")


def test_compressed_or_damaged_keras_archives(tmp_path):
    keras_legacy(tmp_path / "a.h5")
    path = archived(tmp_path / "a.keras", (tmp_path / "a.h5").read_bytes())
    assert_same(arrays(read(path)), keras_legacy(tmp_path / "a.h5"))
    path.write_bytes(path.read_bytes().replace(b"weight_names", b"weight_games"))
    with refused(["a.keras", "damaged member 'model.weights.h5'"]):
        read(path)
    archived(path, (tmp_path / "a.h5").read_bytes(), zipfile.ZIP_DEFLATED)
    with refused(["a.keras", "compressed member 'model.weights.h5'", "without compression"]):
        read(path)


def archived(path, weights, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", weights)
    return path


# Hundreds of damaged files, read in a subprocess: a crash, a hang or excessive memory ends only that process.

EXTREMES = [0, 1, 0x7F, 0x80, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]


def damaged(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        at, other, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64, 512))
        size = min(size, len(data) - max(at, other))
        width = rng.choice((1, 2, 4, 8))
        match rng.randrange(8):
            case 0:
                del data[max(at, 8) :]
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + size] = rng.randbytes(size)
            case 3:
                data[at : at + size] = rng.choice((b"\0", b"\xff")) * size
            case 4:
                data[at:at] = data[other : other + size]
            case 5:
                data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
            case 6:
                data[at : at + width] = (rng.choice(EXTREMES) % (1 << 8 * width)).to_bytes(width, "little")
            case 7 if len(data) > size + 8:
                del data[at : at + size]
    return bytes(data)


def damaged_within(data, rng):
    """Returns a zip archive with one damaged member that has a valid checksum."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    damageable = (".pkl", ".h5", ".json", ".npy")
    member_name = rng.choice([name for name in source.namelist() if name.endswith(damageable)])
    with zipfile.ZipFile(target, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in source.namelist():
            content = source.read(name)
            archive.writestr(name, damaged(content, rng) if name == member_name else content)
    return target.getvalue()


def fuzz(seed, times):
    """Reads randomly damaged versions of a file and prints how many could be opened."""
    import faulthandler
    import resource

    faulthandler.enable()
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30),) * 2)
    data, path, opened = seed.read_bytes(), seed.with_name("damaged_" + seed.name), 0
    for number in range(times):
        print(seed.name, number, flush=True)
        rng = random.Random(number)
        path.write_bytes((damaged_within if data[:2] == b"PK" and number % 3 else damaged)(data, rng))
        faulthandler.dump_traceback_later(20, exit=True)
        try:
            arrays(read(path))
            opened += 1
        except ReszooError as error:
            assert path.name in str(error) or "index.json" in path.name
            assert len(str(error)) < 1500 and "\n" not in str(error)
        faulthandler.cancel_dump_traceback_later()
    print("opened", opened, "of", times)


SEEDS = [
    *("a.pth", "b.pth", "c.safetensors", "d.h5", "e.weights.h5", "f.weights.h5", "g.keras", "h.index.json"),
    *("i.pth", "j.npz", "k.msgpack", "l.pkl", "m.npy", "n.onnx", "o.pkl", "p.pt2"),
]


def exported(path):
    """An archive of torch.export with two weights."""
    meta = {"dtype": 7, "sizes": [{"as_int": 3}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}
    listed = {
        name: {"path_name": f"weight_{number}", "use_pickle": False, "tensor_meta": meta}
        for number, name in enumerate(("conv.weight", "conv.bias"))
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/data/weights/model_weights_config.json", json.dumps({"config": listed}))
        for number in range(2):
            archive.writestr(f"net/data/weights/weight_{number}", ROW)


def whole(value):
    """A module of an unknown class whose only parameter is `value`, filled by BUILD."""
    state = {"_parameters": {"w": value}, "_buffers": {}, "_modules": {}, "stride": [2, 2], "eps": 1}
    return b"cfoo\nBar\n)\x81" + pickled(state) + b"b"


def packed(shape, array):
    """An array as Flax writes it in msgpack."""
    data = array.tobytes()
    inner = b"\x93" + bytes([0x90 + len(shape), *shape]) + b"\xa7float32" + b"\xc4" + bytes([len(data)]) + data
    return b"\xc7" + bytes([len(inner)]) + b"\x01" + inner


def array_pickle():
    """A pickle of arrays, in the protocol of Python 3.4."""
    import pickle

    return pickle.dumps({"conv": {"w": np.ones((2, 3), "f4"), "b": np.arange(3.0)}, "n": np.float64(1)}, protocol=4)


def tensor_pickle(path):
    """A pickle of a tensor by Python's own pickle: its storage is a legacy file in it."""
    stored = PersistentId(("storage", Name("torch.FloatStorage"), "0", "cpu", 3))
    data = legacy(path, stored, {"0": (3, ROW)}).read_bytes()
    storage = Call(("torch.storage._load_from_bytes", b"B" + struct.pack("<I", len(data)) + data))
    view = Call(("torch._utils._rebuild_tensor_v2", storage, 0, (3,), (1,), False, {}))
    return b"\x80\x03" + pickled({"w": view}) + b"."


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and measures memory as Linux does")
@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    from safetensors.numpy import save_file

    content = {"state_dict": {"module.w": parameter(row()), "module.v": row("1")}, "model_ema": FLAT, "epoch": 3}
    zipped(tmp_path / "a.pth", content, {"0": ROW, "1": ROW}, "little")
    legacy(tmp_path / "b.pth", content, {"0": (3, ROW), "1": (3, ROW)})
    save_file(some("a"), tmp_path / "c.safetensors")
    keras_legacy(tmp_path / "d.h5", whole=True)
    for file, libver in (("e.weights.h5", "earliest"), ("f.weights.h5", "latest")):
        with h5py.File(tmp_path / file, "w", libver=libver) as opened:
            for layer in range(12):
                group = opened.create_group(f"layers/conv2d_{layer}/vars")
                group.attrs["name"], group["0"] = f"c{layer}", np.ones((2, 3), "f4")
    archived(tmp_path / "g.keras", (tmp_path / "e.weights.h5").read_bytes())
    (tmp_path / "h.index.json").write_text(json.dumps({"weight_map": {"state_dict.module.w": "a.pth"}}))
    zipped(tmp_path / "i.pth", {"model": whole(row()), "extra": Call(("foo.Bar", 1))}, {"0": ROW})
    np.savez(tmp_path / "j.npz", a=np.ones((2, 3), "f4"), b=np.ones(3))
    (tmp_path / "k.msgpack").write_bytes(b"\x81\xa1p\x82\xa1k" + packed((3,), np.ones(3, "f4")) + b"\xa1n\x01")
    (tmp_path / "l.pkl").write_bytes(array_pickle())
    np.save(tmp_path / "m.npy", np.ones((2, 3), "f4"))
    (tmp_path / "o.pkl").write_bytes(tensor_pickle(tmp_path / "storage.pth"))
    exported(tmp_path / "p.pt2")
    conv = onnx_bytes.node("Conv", ("x", "w"), "c", kernel_shape=[1, 1])
    nodes = [conv, onnx_bytes.node("BatchNormalization", ("c", *"abcd"), "logits", epsilon=1e-3)]
    stored = [("w", np.ones((3, 3, 1, 1), "f4")), *((name, np.ones(3, "f4")) for name in "abcd")]
    (tmp_path / "n.onnx").write_bytes(onnx_bytes.model(nodes, stored))
    code = f"from pathlib import Path; from test_readers import fuzz; fuzz(Path({str(tmp_path / name)!r}), 300)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=100
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, (last, done.stderr[-2000:])
    assert 0 < int(last[0].split()[1]) < 300
