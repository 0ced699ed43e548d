"""Pretrained weights of other libraries: detected, matched, loaded completely or refused, with the same outputs."""

import json
import re

import h5py
import keras
import numpy as np
import pytest
from conftest import needs, python, refused

import reszoo
from reszoo.arch import zoo
from reszoo.arch.plan import plan
from reszoo.weights import infer
from reszoo.weights.catalogue import records
from reszoo.weights.dialects import Dialect, dialects, variable_name
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.formats.read import read
from reszoo.weights.formats.write import write_safetensors, write_torch
from reszoo.weights.load import place
from reszoo.weights.match import match
from reszoo.weights.translate import translate

SMALL = {"depths": [1, 2], "widths": [16, 32], "classes": 3, "stem": {"width": 8}, "input_shape": (None, None, 3)}
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


def small(name="resnet50", **changes):
    return reszoo.spec(name).replace(**{**SMALL, **changes})


def random_arrays(spec, seed=0):
    """Returns weights and statistics with which every layer affects the output."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape in plan(spec).variables.items():
        if name.endswith(("gamma", "variance")):
            arrays[name] = random.uniform(0.5, 1.5, shape).astype("float32")
        else:
            arrays[name] = random.normal(0, 0.2, shape).astype("float32")
    return arrays


def in_dialect(spec, dialect, seed=0):
    arrays = {}
    for name, array in random_arrays(spec, seed).items():
        if dialect.layout == "torch" and name.endswith("kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        arrays[variable_name(*name.split("/"), dialect)] = array
    return arrays


def write_legacy_h5(arrays, path, without_weights=()):
    """Writes weights as Keras 2 did: groups of layers, names in attributes, variables with `:0`."""
    with h5py.File(path, "w") as file:
        layers = {}
        for name, array in arrays.items():
            layers.setdefault(name.split("/")[0], {})[f"{name}:0"] = array
        layers |= {layer: {} for layer in without_weights}
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, variables in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in variables]
            for name, array in variables.items():
                group.create_dataset(name, data=array)


def checkpoint(folder, spec, dialect="torchvision", seed=0):
    path = folder / "weights.pth"
    write_torch(in_dialect(spec, dialects()[dialect], seed), path)
    return path


def values(model):
    return [variable.numpy().copy() for variable in model.weights]


def logits(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


# Weights, inputs and logits of other libraries.

FILES = {
    "torchvision_resnet18_random_fp16.pth": ("resnet18", [2, 2, 2, 2], [64, 128, 256, 512], "project"),
    "hf_resnet_basic_tiny": (None, [2, 1, 2, 1], [8, 16, 24, 32], "project"),
    "hf_resnet_bottleneck_tiny": (None, [2, 1, 2, 1], [16, 32, 48, 64], "project"),
    "timm_resnet_d_tiny.safetensors": (None, [1, 2, 1, 1], [32, 64, 96, 128], "pool_project"),
    "timm_resnetv2_tiny.safetensors": (None, [1, 2, 1, 1], [32, 64, 96, 128], "project"),
    "cifar10_resnet20_option_a.th": ("resnet20_cifar", [3, 3, 3], [16, 32, 64], "pad"),
}


@pytest.mark.parametrize("name", FILES)
def test_network_and_logits_from_a_checkpoint_alone(shared, name):
    path = shared / "weights" / name
    model, report = reszoo.from_checkpoint(path)
    zoo_name, depths, widths, shortcut = FILES[name]
    assert infer.zoo_name(report.spec) == zoo_name
    assert [stage.depth for stage in report.spec.stages] == depths
    assert [stage.width for stage in report.spec.stages] == widths
    assert report.spec.block.shortcut == shortcut
    assert not report.missing and not report.new
    assert "strides are not stored in the file" in str(report)
    assert all("num_batches_tracked" in ignored for ignored in report.ignored)
    reference = path / "model.reference.npz" if path.is_dir() else path.with_name(f"{path.stem}.reference.npz")
    expected = np.load(reference)
    x = expected["x"]
    if x.dtype == np.uint8:
        x = ((x / 255 - IMAGENET[0]) / IMAGENET[1]).astype("float32")
    np.testing.assert_allclose(logits(model, x), expected["logits"], atol=1e-4, rtol=1e-4)


def test_the_cifar_network_has_the_accuracy_of_its_library(shared):
    model = reszoo.resnet20_cifar(weights=shared / "weights" / "cifar10_resnet20_option_a.th")
    images = np.load(shared / "data" / "cifar10_test_first1000_lossless.npz")
    x = ((images["x"] / 255 - IMAGENET[0]) / IMAGENET[1]).astype("float32")
    assert (model.predict(x, verbose=0).argmax(axis=1) == images["y"].ravel()).sum() == 915


@pytest.fixture(scope="module")
def keras_resnet50(tmp_path_factory):
    """keras.applications.ResNet50 with random weights and statistics, in all formats of Keras."""
    folder = tmp_path_factory.mktemp("keras")
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=7)
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.0, variable.shape))
        elif variable.name != "kernel":
            variable.assign(random.normal(0, 0.1, variable.shape))
    model.save(folder / "whole.h5")
    model.save(folder / "whole.keras")
    model.save_weights(folder / "only.weights.h5")
    x = random.normal(size=(2, 64, 64, 3)).astype("float32")
    return folder, x, logits(model, x)


@pytest.mark.parametrize("file", ["whole.h5", "whole.keras", "only.weights.h5"])
def test_resnet50_of_keras_applications(keras_resnet50, file):
    folder, x, expected = keras_resnet50
    model, report = reszoo.from_checkpoint(folder / file)
    assert infer.zoo_name(report.spec) == "resnet50_v1"
    assert expected.std() > 1e-3
    np.testing.assert_allclose(logits(model, x), expected, atol=1e-5)
    named = reszoo.resnet50_v1(weights=folder / file, classes=7)
    assert all((a == b).all() for a, b in zip(values(named), values(model), strict=True))


# Laws over the dialects.

FORMS = {
    "reszoo": small(),
    "torchvision": small(),
    "torchvision_deep": small(stem={"kernel": 3, "depth": 3}),
    "torchvision_pool": small(shortcut="pool_project"),
    "torchvision_d": small("resnet50d"),
    "torchvision_linear_gates": small(block={"attention": "se"}),
    "cifar_option_a": small("resnet20_cifar"),
    "cifar_option_b": small("resnet20_cifar", shortcut="project"),
    "resnetv2": small("preact_resnet50"),
    "resnetv2_d": small("preact_resnet50", shortcut="pool_project", stem={"kernel": 3, "depth": 3}),
    "hugging_face": small("resnet18"),
    "keras_applications": small("resnet50_v1"),
    "keras_2015": small("resnet50_v1", norm={"epsilon": 1e-3}),
    "keras_hub": small(shortcut="pool_project"),
    "keras_hub_vd": small("resnet50d"),
    "keras_hub_v2": small("preact_resnet50", shortcut="pool_project"),
}


def test_every_dialect_is_tested():
    assert set(FORMS) == {name for name, dialect in dialects().items() if not dialect.refuse}


@pytest.mark.parametrize("name", FORMS)
def test_a_network_in_a_dialect_is_detected_and_read_back(tmp_path, name):
    spec, dialect = FORMS[name], dialects()[name]
    arrays = in_dialect(spec, dialect)
    path = tmp_path / ("weights.safetensors" if dialect.layout == "torch" else "weights.h5")
    if dialect.layout == "torch":
        write_safetensors(arrays, path)
    else:
        write_legacy_h5(arrays, path, without_weights=dialect.layers)
    translated = translate(read(path))
    assert translated.dialect.title == dialect.title and not translated.unknown
    theirs = infer.specs(translated)[0]
    not_inferred = {"name": spec.name, "head": spec.head, "input_shape": spec.input_shape}
    training_only = {"block": {"start": spec.block.start}, "norm": {"momentum": spec.norm.momentum}}
    assert theirs.replace(**not_inferred, **training_only) == spec
    for target, array in random_arrays(spec).items():
        np.testing.assert_array_equal(translated.tensors[target].tensor.read(), array)


@pytest.mark.parametrize("name", [name for name in zoo.builtin().names if "1202" not in name and "1001" not in name])
def test_every_network_is_inferred_from_its_own_shapes(tmp_path, name):
    """Only shapes are needed: no model is built and no array is created."""
    spec = reszoo.spec(name)
    shapes = plan(spec).variables
    tensors = {target: Tensor(shape, "float32", lambda: None) for target, shape in shapes.items()}
    from reszoo.weights.formats.checkpoint import Checkpoint

    specs = infer.specs(translate(Checkpoint(tmp_path / "file", "synthetic", tensors)))
    assert any(plan(one).variables == shapes for one in specs)
    assert [stage.depth for stage in specs[0].stages] == [stage.depth for stage in spec.stages]
    assert any(one.block.order == spec.block.order for one in specs)


# Matching.


def test_all_weights_are_loaded_and_reported(tmp_path):
    spec = small()
    model = reszoo.create(spec)
    report = reszoo.load_weights(model, checkpoint(tmp_path, spec))
    expected = random_arrays(spec)
    assert set(report.copied) == set(expected)
    for layer in model.layers:
        for variable in layer.weights:
            np.testing.assert_array_equal(variable.numpy(), expected[f"{layer.name}/{variable.name}"])
    assert f"{len(expected)} copied" in str(report)
    assert f"{len(expected)} copied" in repr(report) and len(repr(report)) < 160
    assert "weights.pth" in report._repr_html_()


MISMATCHES = [
    ({"name": "resnet50_v1"}, ["block={'stride_at': 2}", "epsilon", "bias=False"]),
    ({"block": {"stride_at": 1}}, ["block={'stride_at': 2}"]),
    ({"norm": {"epsilon": 1e-3}}, ["norm={'epsilon': 1e-05}"]),
    ({"norm": "group"}, ["norm={'kind': 'batch'"]),
    ({"name": "preact_resnet50"}, ["'order': 'post'", "- stage1_block1_unit3_norm/gamma"]),
    ({"shortcut": "none"}, ["'shortcut': 'project'", "+ layer1.0.downsample.0.weight"]),
    ({"shortcut": "pool_project"}, ["'shortcut': 'project'"]),
    ({"depths": [2, 2]}, ["depths=[1, 2]"]),
    ({"widths": [16, 64]}, ["widths=[16, 32]"]),
    ({"bias": True}, ["bias=False"]),
    ({"block": {"attention": "se"}}, ["'attention': 'none'"]),
    ({"stem": {"kernel": 3, "width": 8}}, ["stem={'kernel': 7}"]),
    ({"classes": 4}, ["3 classes in the file, 4 in the model", "strict='trunk'"]),
]


@pytest.mark.parametrize(("changes", "expected"), MISMATCHES, ids=lambda value: str(value)[:40])
def test_a_mismatch_is_refused_and_the_model_is_unchanged(tmp_path, changes, expected):
    changes = dict(changes)
    model = reszoo.create(small(changes.pop("name", "resnet50"), **changes))
    before = values(model)
    with refused(["weights.pth", *expected]):
        reszoo.load_weights(model, checkpoint(tmp_path, small()))
    assert all((a == b).all() for a, b in zip(before, values(model), strict=True))


def test_a_diff_shows_ten_names_per_side_and_counts(tmp_path):
    with pytest.raises(reszoo.ReszooError) as caught:
        reszoo.load_weights(reszoo.create(small(depths=[3, 3])), checkpoint(tmp_path, small()))
    text = str(caught.value)
    assert len(re.findall(r"\n  - stage", text)) == 10
    assert re.search(r"- \.\.\. and \d+ more", text)


def test_strides_dilation_and_dropout_may_differ(tmp_path):
    path = checkpoint(tmp_path, small())
    reszoo.load_weights(reszoo.create(small(output_stride=4, dropout=0.2)), path)
    reszoo.load_weights(reszoo.create(small(stem={"width": 8, "stride": 1, "pool": "none"})), path)


def test_a_read_error_leaves_the_model_unchanged(tmp_path):
    spec = small()
    model = reszoo.create(spec)
    before = values(model)
    matching = match(spec, translate(read(checkpoint(tmp_path, spec))))

    def broken():
        raise OSError("the disk is gone")

    last = [*matching.tensors][-1]
    matching.tensors[last] = Tensor(matching.tensors[last].shape, "float32", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        place(model, matching)
    assert all((a == b).all() for a, b in zip(before, values(model), strict=True))


def test_trunk_of_a_network_with_other_classes(tmp_path):
    path = checkpoint(tmp_path, small())
    model = reszoo.create(small(classes=5))
    head = model.get_layer("predictions").kernel.numpy()
    report = reszoo.load_weights(model, path, strict="trunk")
    assert report.new == ("predictions/kernel", "predictions/bias")
    assert "3 classes in the file, 5 in the model" in str(report)
    assert (model.get_layer("predictions").kernel.numpy() == head).all()
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").kernel.numpy(), random_arrays(small())["stem_conv/kernel"]
    )


def test_classes_argument_means_a_new_classifier(tmp_path, caplog):
    spec = small()
    changes = {key: SMALL[key] for key in ("depths", "widths", "stem")}
    model = reszoo.resnet50(weights=checkpoint(tmp_path, spec), classes=9, **changes)
    assert model.output_shape == (None, 9)
    assert "3 classes in the file, 9 in the model" in caplog.text
    with refused(["3 classes in the file, 1000 in the model"]):
        reszoo.resnet50(weights=checkpoint(tmp_path, spec), **changes)


def test_weights_of_an_absent_classifier_are_ignored(tmp_path):
    model = reszoo.create(small(), include_top=False, weights=checkpoint(tmp_path, small()))
    assert set(reszoo.origin(model).report.ignored) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_is_adapted_to_other_channels(tmp_path, channels):
    model = reszoo.create(small(input_shape=(None, None, channels)))
    report = reszoo.load_weights(model, checkpoint(tmp_path, small()))
    assert report.adapted == ("stem_conv/kernel",)
    kernel, adapted = random_arrays(small())["stem_conv/kernel"], model.get_layer("stem_conv").kernel.numpy()
    if channels == 1:
        np.testing.assert_allclose(adapted[:, :, 0], kernel.sum(axis=2), atol=1e-6)
    for channel in range(channels if channels > 1 else 0):
        np.testing.assert_allclose(adapted[:, :, channel], kernel[:, :, channel % 3] * 3 / channels, rtol=1e-6)


def test_not_strict_loads_what_fits(tmp_path):
    model = reszoo.create(small(depths=[2, 2]))
    report = reszoo.load_weights(model, checkpoint(tmp_path, small()), strict=False)
    assert "stage1_block2_unit1_conv/kernel" in report.missing
    assert "stage2_block2_unit1_conv/kernel" in report.copied
    assert "depths=[1, 2]" in str(report)


def test_plain_and_option_a_have_the_same_tensors(tmp_path):
    spec = small("plain20_cifar")
    report = reszoo.load_weights(reszoo.create(spec), checkpoint(tmp_path, spec))
    assert "the shortcut is not stored in the file" in str(report)
    write_torch(in_dialect(spec, dialects()["cifar_option_a"]), tmp_path / "option_a.pth")
    with pytest.warns(UserWarning, match="have shortcuts without weights"):
        reszoo.load_weights(reszoo.create(spec), tmp_path / "option_a.pth")
    model, report = reszoo.from_checkpoint(tmp_path / "option_a.pth")
    assert reszoo.spec_of(model).block.shortcut == "pad" and "; assuming pad" in str(report)
    assert "(pad or pad_behind or pool_pad or pool_pad_behind or none)" in str(report)
    with pytest.warns(UserWarning, match="have shortcuts"):
        model, _ = reszoo.from_checkpoint(tmp_path / "option_a.pth", shortcut="none")
    assert reszoo.spec_of(model).block.shortcut == "none"


def test_assumed_fields_are_noted_and_may_differ(tmp_path):
    spec = small(norm={"kind": "group", "groups": 4, "epsilon": 1e-3})
    model = reszoo.create(spec)
    model.save_weights(tmp_path / "only.weights.h5")
    assert "not stored in the file" in str(reszoo.load_weights(reszoo.create(spec), tmp_path / "only.weights.h5"))
    with refused(["norms without running statistics", "norm={'groups': n}"]):
        reszoo.from_checkpoint(tmp_path / "only.weights.h5")
    notes = reszoo.from_checkpoint(tmp_path / "only.weights.h5", norm={"groups": 4}).report.notes
    assert any("assuming epsilon=1e-05, groups=4" in note for note in notes)
    write_torch(in_dialect(spec, dialects()["torchvision"]), tmp_path / "group.pth")
    again = small(norm={"kind": "group", "groups": 4})
    with pytest.warns(UserWarning, match="normalises in 4 groups"):
        assert "groups=4" in str(reszoo.load_weights(reszoo.create(again), tmp_path / "group.pth"))


def test_include_top_false(tmp_path):
    loaded = reszoo.from_checkpoint(checkpoint(tmp_path, small()), include_top=False)
    assert len(repr(loaded)) < 160 and loaded._repr_html_() == loaded.report._repr_html_()
    model, report = loaded
    assert model.output_shape == (None, None, None, 32) and len(report.ignored) == 2


def test_nan_causes_a_warning(tmp_path):
    spec = small()
    arrays = in_dialect(spec, dialects()["torchvision"])
    arrays["layer1.0.bn2.bias"][3] = np.nan
    write_torch(arrays, tmp_path / "weights.pth")
    with pytest.warns(UserWarning, match="stage1_block1_unit2_norm/beta"):
        reszoo.load_weights(reszoo.create(spec), tmp_path / "weights.pth")


CUSTOM_NAMES = {
    "stem_conv": "entry.c",
    "stem_norm": "entry.n",
    "stage{stage}_block{block}_unit{unit}_conv": "s{stage-1}b{block-1}.c{unit}",
    "stage{stage}_block{block}_unit{unit}_norm": "s{stage-1}b{block-1}.n{unit}",
    "stage{stage}_block{block}_shortcut_conv": "s{stage-1}b{block-1}.proj",
    "stage{stage}_block{block}_shortcut_norm": "s{stage-1}b{block-1}.projnorm",
    "predictions": "top",
}


@pytest.mark.parametrize("kind", ["dict", "yaml"])
def test_custom_names(tmp_path, kind):
    spec, names = small(), CUSTOM_NAMES
    dialect = Dialect(title="custom", names=names)
    write_torch(in_dialect(spec, dialect), tmp_path / "weights.pth")
    assert reszoo.load_weights(reszoo.create(spec), tmp_path / "weights.pth").is_inferred
    write_safetensors(in_dialect(spec, dialect), tmp_path / "sorted.safetensors")
    with refused(["no known library", "sorted by name", "names="]):
        reszoo.load_weights(reszoo.create(spec), tmp_path / "sorted.safetensors")
    if kind == "yaml":
        (tmp_path / "names.yaml").write_text(json.dumps(names))
        names = tmp_path / "names.yaml"
    report = reszoo.load_weights(reszoo.create(spec), tmp_path / "weights.pth", names=names)
    assert len(report.copied) == len(plan(spec).variables)
    with refused(["names", "stem_konv"]):
        reszoo.load_weights(reszoo.create(spec), tmp_path / "weights.pth", names={"stem_konv": "entry.c"})


# Files that look supported and contain another network.


def test_unsupported_networks_are_refused(tmp_path):
    spec = small("preact_resnet50", bias=True)
    for name, expected in (("keras_applications_v2", "last block"), ("qubvel", "normalises its input")):
        arrays = {key: value for key, value in in_dialect(spec, dialects()[name]).items() if key}
        write_legacy_h5({key: value for key, value in arrays.items() if "None" not in key}, tmp_path / "weights.h5")
        with refused([dialects()[name].title, expected]):
            reszoo.from_checkpoint(tmp_path / "weights.h5")


def test_norms_without_statistics_mean_standardized_kernels_in_bit(tmp_path):
    spec = small("preact_resnet50", norm="group")
    write_safetensors(in_dialect(spec, dialects()["resnetv2"]), tmp_path / "bit.safetensors")
    with refused(["standardized kernels"]):
        reszoo.from_checkpoint(tmp_path / "bit.safetensors")
    write_safetensors(in_dialect(small(norm="group"), dialects()["torchvision"]), tmp_path / "group.safetensors")
    loaded = reszoo.from_checkpoint(tmp_path / "group.safetensors", norm={"groups": 32})
    assert loaded.report.spec.norm.kind == "group"


CONFIGS = [
    ({"architecture": "resnet50"}, None),
    ({"architecture": "resnetblur50"}, ["resnetblur50", "pad by reflection"]),
    ({"architecture": "ecaresnet50t"}, ["ecaresnet50t"]),
    ({"architectures": ["RegNetModel"]}, ["RegNetModel"]),
    ({"architecture": "resnet50", "model_args": {"num_classes": 3}}, None),
    ({"architecture": "resnet50", "model_args": {"act_layer": "silu"}}, ["model_args", "act_layer"]),
]


@pytest.mark.parametrize(("config", "expected"), CONFIGS)
def test_unsupported_configurations_are_refused(tmp_path, config, expected):
    write_safetensors(in_dialect(small(), dialects()["torchvision"]), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    if expected is None:
        assert reszoo.from_checkpoint(tmp_path).report.copied
    else:
        with refused(expected):
            reszoo.from_checkpoint(tmp_path)


def test_the_stride_in_a_hugging_face_configuration(tmp_path):
    write_safetensors(in_dialect(small(), dialects()["hugging_face"]), tmp_path / "model.safetensors")
    config = {"downsample_in_bottleneck": True, "downsample_in_first_stage": True, "hidden_act": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = reszoo.from_checkpoint(tmp_path).report.spec
    assert spec.block.stride_at == 1 and spec.stages[0].stride == 2
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "gelu"}))
    with refused(["hidden_act", "gelu"]):
        reszoo.from_checkpoint(tmp_path)


# Files written by reszoo.

SPECS = {
    "pre": small("preact_resnet50"),
    "plain": small("plain18"),
    "option A": small("resnet20_cifar"),
    "D with SE": small("resnet50d", block={"attention": "se"}),
    "dilated": small(output_stride=4),
    "version 1": small("resnet50_v1"),
    "group": small(norm="group"),
    "dense": reszoo.spec("residual_mlp18").replace(depths=2, widths=8, input_shape=(5,), stem={"width": 8}),
    "tabular": reszoo.spec("tabular_resnet").replace(depths=2, widths=8, input_shape=(5,), stem={"width": 8}),
}


@pytest.mark.parametrize("name", SPECS)
def test_files_of_reszoo_contain_their_spec(tmp_path, name):
    model = reszoo.create(SPECS[name])
    model.save(tmp_path / "whole.keras")
    again, _ = reszoo.from_checkpoint(tmp_path / "whole.keras")
    assert reszoo.spec_of(again) == reszoo.spec_of(model)
    model.save_weights(tmp_path / "only.weights.h5")
    fresh = reszoo.create(SPECS[name])
    assert not reszoo.load_weights(fresh, tmp_path / "only.weights.h5").missing
    for loaded in (again, fresh):
        assert all((a == b).all() for a, b in zip(values(loaded), values(model), strict=True))


def test_files_of_reszoo_are_refused_with_another_stride(tmp_path):
    reszoo.create(small()).save_weights(tmp_path / "only.weights.h5")
    with refused(["stride_at"]):
        reszoo.load_weights(reszoo.create(small(block={"stride_at": 1})), tmp_path / "only.weights.h5")
    reszoo.create(small("resnet20_cifar")).save_weights(tmp_path / "only.weights.h5")
    with refused(["'shortcut': 'pad'"]):
        reszoo.load_weights(reszoo.create(small("plain20_cifar")), tmp_path / "only.weights.h5")


# The catalog.


@pytest.mark.parametrize("name", records())
def test_every_record_is_complete_and_fits_its_network(name):
    record = records()[name]
    assert reszoo.spec(record.model, classes=record.classes, **record.changes)
    assert record.dialect in dialects()
    assert record.files and all(re.match(r"https://|hf://|shipped/", file.url) for file in record.files)
    for file in record.files:
        digits = re.search(r"-([0-9a-f]{8})\.(pth|pt|th)$", file.url)
        assert digits is None or file.sha256 == digits[1]
        assert file.url.startswith("hf://") or re.fullmatch(r"[0-9a-f]{8,64}", file.sha256 or file.md5)
    assert record.preprocessing.crop <= record.preprocessing.resize
    assert name in repr(record) and len(repr(record)) < 160 and record.licence in record._repr_html_()
    assert all(accuracy.protocol and 50 < accuracy.top1 < 100 for accuracy in record.accuracy)


def test_the_catalog_has_the_well_known_weights():
    names = set(records())
    for depth in (50, 101, 152):
        assert {f"resnet{depth}.{tag}_in1k" for tag in ("tv", "tv2", "a1", "a2", "a3", "a1h", "gluon")} <= names
        assert f"resnet{depth}_v1.keras_in1k" in names
    assert {f"resnet{depth}.microsoft_in1k" for depth in (18, 26, 34, 50, 101, 152)} <= names
    assert reszoo.list_weights("resnet50")[0] == "resnet50.tv2_in1k"
    assert set(reszoo.list_weights("resnet18")) < set(reszoo.list_weights())
    assert "resnet50" in reszoo.list_models(pretrained=True) and "plain50" not in reszoo.list_models(pretrained=True)


WRONG = [
    ("tv3_in1k", ["resnet50.weights", "tv3_in1k", "did you mean", "tv_in1k"]),
    ("keras_in1k", ["other networks have it", "resnet50_v1.keras_in1k"]),
    ("missing.pth", ["no such file"]),
    ("ftp://host/file.pth", ["ftp://", "https://"]),
    (3, ["got 3", "reszoo.list_weights()"]),
    ("", ["got ''", "reszoo.list_weights()"]),
]


@pytest.mark.parametrize(("weights", "expected"), WRONG, ids=str)
def test_unknown_weights_are_refused(weights, expected):
    with refused(expected):
        reszoo.resnet50(weights=weights)


def test_dialects_are_the_same_in_both_directions():
    for name, spec in FORMS.items():
        for op in plan(spec).ops:
            if op.weights:
                theirs = dialects()[name].theirs(op.name)
                assert dialects()[name].ours(theirs) == op.name


@needs("jax")
@pytest.mark.slow
def test_weights_on_another_backend(shared):
    file = shared / "weights" / "timm_resnetv2_tiny"
    code = (
        "import keras, numpy as np, reszoo\n"
        f"model, report = reszoo.from_checkpoint('{file}.safetensors')\n"
        f"expected = np.load('{file}.reference.npz')\n"
        "outputs = keras.ops.convert_to_numpy(model(expected['x'], training=False))\n"
        "print(keras.backend.backend(), abs(outputs - expected['logits']).max() < 1e-4)"
    )
    assert python(code, backend="jax").split()[-2:] == ["jax", "True"]
