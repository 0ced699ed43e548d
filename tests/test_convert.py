"""Conversion between formats and back: identical bits and the same network, or no file."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import needs, refused
from test_weights import FORMS, in_dialect, random_arrays, small

import reszoo
from reszoo.weights.dialects import dialects
from reszoo.weights.formats.read import read
from reszoo.weights.formats.write import write_safetensors, write_torch
from reszoo.weights.translate import translate


def arrays_of(path):
    return {name: tensor.read() for name, tensor in read(path).tensors.items()}


TORCH = [name for name in FORMS if dialects()[name].layout == "torch"]


@pytest.mark.parametrize("name", TORCH)
def test_round_trip_through_keras_is_bit_exact(tmp_path, name):
    arrays = in_dialect(FORMS[name], dialects()[name])
    write_torch(arrays, tmp_path / "source.pth")
    reszoo.convert(tmp_path / "source.pth", tmp_path / "keras.keras")
    result = reszoo.convert(tmp_path / "keras.keras", tmp_path / "back.pth", to=name)
    assert result.difference < 1e-6 and result.dialect == dialects()[name].title
    assert len(repr(result)) < 160 and "back.pth" in result._repr_html_()
    back = arrays_of(tmp_path / "back.pth")
    counters = {key for key in back if key.endswith("num_batches_tracked")}
    assert set(back) - counters == set(arrays)
    assert len(counters) == sum(key.endswith("running_mean") for key in arrays)
    assert all(back[key].tobytes() == arrays[key].tobytes() for key in arrays)


def test_float16_halves_the_size(tmp_path):
    model = reszoo.create("resnet20_cifar", depths=1, input_shape=(16, 16, 1))
    model.save(tmp_path / "whole.keras")
    half = reszoo.convert(tmp_path / "whole.keras", tmp_path / "half.safetensors", dtype="float16")
    whole = reszoo.convert(tmp_path / "whole.keras", tmp_path / "whole.safetensors")
    assert {array.dtype.name for array in arrays_of(half.path).values()} == {"float16"}
    assert 0 < half.difference < 1e-2 and whole.difference < 1e-6
    assert half.path.stat().st_size < 0.6 * whole.path.stat().st_size
    for target in ("half.keras", "half.safetensors"):
        with refused(["dtype", "float16 for .safetensors and .pth"]):
            reszoo.convert(
                tmp_path / "whole.keras", tmp_path / target, dtype="float16" if "keras" in target else "int8"
            )


def test_a_model_is_converted_as_its_file_is(tmp_path):
    model = reszoo.create("resnet20_cifar", depths=1, input_shape=(16, 16, 1))
    model.save(tmp_path / "model.keras")
    reszoo.convert(tmp_path / "model.keras", tmp_path / "file.pth")
    reszoo.convert(model, tmp_path / "model.pth")
    ours, theirs = arrays_of(tmp_path / "model.pth"), arrays_of(tmp_path / "file.pth")
    assert list(ours) == list(theirs) and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


@needs("torch")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_pytorch_reads_our_files_and_we_read_its(tmp_path, dtype):
    import torch

    random = {name: torch.randn(3, 2, 3, 3).to(getattr(torch, dtype)) for name in ("a.weight", "b")}
    random |= {"number": torch.tensor(7), "empty": torch.zeros(0, 4), "turned": torch.randn(4, 3).t()}
    torch.save(random, tmp_path / "source.pth")
    write_torch(arrays_of(tmp_path / "source.pth"), tmp_path / "copy.pth")
    copy = torch.load(tmp_path / "copy.pth", weights_only=True)
    assert [*copy] == [*random]
    for name, tensor in random.items():
        assert copy[name].dtype == tensor.dtype and torch.equal(copy[name], tensor), name


@needs("torch")
def test_round_trip_of_a_torchvision_file(tmp_path, shared):
    import torch

    source = shared / "weights" / "torchvision_resnet18_random_fp16.pth"
    reszoo.convert(source, tmp_path / "whole.keras")
    reszoo.convert(tmp_path / "whole.keras", tmp_path / "back.pth")
    expected, back = (torch.load(path, weights_only=True) for path in (source, tmp_path / "back.pth"))
    assert [*expected] == [*back]
    assert all(torch.equal(back[name], expected[name].to(back[name].dtype)) for name in expected)


CHAIN = [".safetensors", ".keras", ".weights.h5", ".pth"]


@pytest.mark.parametrize("name", ["torchvision", "torchvision_d", "resnetv2", "cifar_option_a"])
def test_every_format_from_every_format(tmp_path, name):
    spec = FORMS[name]
    write_torch(in_dialect(spec, dialects()[name]), tmp_path / "start.pth")
    before = tmp_path / "start.pth"
    for suffix in CHAIN:
        if before.name.endswith(".weights.h5"):
            # This format does not store epsilon; the default is assumed.
            assert "(assumed)" in describe(before)
        after = tmp_path / f"next{suffix}"
        reszoo.convert(before, after)
        before = after
    for target, array in random_arrays(spec).items():
        np.testing.assert_array_equal(translate(read(before)).tensors[target].tensor.read(), array)


def describe(path):
    from reszoo.weights.summary import summary

    return summary(path)


TABULAR = small("tabular_resnet", input_shape=(5,), depths=[2], widths=[8])

REFUSED = [
    ("resnet50_v1", "out.pth", None, ["stride_at", "epsilon"]),
    ("resnet50", "out.pth", "resnetv2", ["resnetv2", "no names"]),
    ("resnet50", "out.doc", None, ["format '.doc'", ".safetensors"]),
    ("resnet50", "out.pth", "torchvison", ["did you mean 'torchvision'"]),
    ("tabular_resnet", "out.pth", None, ["no names", "to='reszoo'"]),
]


@pytest.mark.parametrize(("name", "target", "to", "expected"), REFUSED, ids=lambda value: str(value)[:20])
def test_no_file_is_written_for_an_unsupported_network(tmp_path, name, target, to, expected):
    spec = TABULAR if name == "tabular_resnet" else small(name)
    reszoo.create(spec).save(tmp_path / "whole.keras")
    with refused(expected):
        reszoo.convert(tmp_path / "whole.keras", tmp_path / target, to=to)
    assert [file.name for file in tmp_path.iterdir()] == ["whole.keras"]


def test_reszoo_names_support_every_network(tmp_path):
    spec = TABULAR
    reszoo.create(spec).save(tmp_path / "whole.keras")
    reszoo.convert(tmp_path / "whole.keras", tmp_path / "out.safetensors")
    assert reszoo.from_checkpoint(tmp_path / "out.safetensors").report.spec == spec


def test_round_trip_of_a_plain_network(tmp_path):
    spec = small("plain18")
    reszoo.create(spec).save(tmp_path / "whole.keras")
    assert reszoo.convert(tmp_path / "whole.keras", tmp_path / "out.pth").difference == 0
    report = reszoo.load_weights(reszoo.create(spec), tmp_path / "out.pth")
    assert "the shortcut is not stored in the file" in str(report)


def test_convert_and_info_commands(tmp_path):
    spec = small()
    write_safetensors(in_dialect(spec, dialects()["hugging_face"]), tmp_path / "model.safetensors")

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "reszoo", *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    done = command("convert", "model.safetensors", "out.pth", "--to", "torchvision")
    assert done.returncode == 0 and "torchvision" in done.stdout, done.stderr
    done = command("info", "out.pth")
    assert "PyTorch zip" in done.stdout and "depths [1, 2], widths [16, 32]" in done.stdout
    done = command("convert", "out.pth", "out.onnx")
    assert done.returncode == 2 and "format '.onnx'" in done.stderr and "Traceback" not in done.stderr
    done = command("info", "gone.pth")
    assert done.returncode == 2 and "Traceback" not in done.stderr
