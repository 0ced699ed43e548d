"""The builders where people use keras.applications': several networks in a model, data formats, dtypes, arguments."""

from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import needs, python, refused, shown
from narrow import batch, narrow, outputs, randomise

import reszoo
from reszoo.errors import ReszooError

TRUNK = {"include_top": False, "pooling": "avg"}


@pytest.fixture(autouse=True)
def _fresh():
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


def joined(a, b):
    return keras.Model([a.input, b.input], keras.layers.Concatenate()([a.output, b.output]))


def assert_joined(model, a, b):
    x, y = batch(a), batch(b) + 1
    both = keras.ops.convert_to_numpy(model([x, y], training=False))
    np.testing.assert_allclose(both, np.concatenate([outputs(a, x), outputs(b, y)], axis=1), atol=1e-5)


def test_two_networks_whose_layers_were_renamed_fit_in_one_model():
    a, b = narrow("resnet18", **TRUNK), narrow("resnet18", **TRUNK)
    assert [a.layers[0].name, b.layers[0].name] == ["input", "input_1"]
    # As people do: all but the input.
    for layer in b.layers[1:]:
        layer.name = "right_" + layer.name
    assert_joined(joined(a, b), a, b)
    assert reszoo.spec_of(b) == reszoo.spec_of(a)


PAIRS = [("resnet18", "tabular_resnet"), ("resnet18", "resnet18"), ("preact_resnet50", "plain20_cifar")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_prefix_lets_two_networks_stand_in_one_model(tmp_path, first, second):
    a, b = narrow(first, **TRUNK), narrow(second, **TRUNK, prefix="right_")
    randomise(a)
    randomise(b, seed=1)
    assert all(layer.name.startswith("right_") for layer in b.layers) and b.layers[0].name == "right_input"
    assert reszoo.spec_of(b) == reszoo.spec_of(narrow(second, **TRUNK))
    model = joined(a, b)
    assert_joined(model, a, b)
    model.save(tmp_path / "both.keras")
    assert_joined(keras.models.load_model(tmp_path / "both.keras"), a, b)
    optimizer = keras.optimizers.SGD(0.01)
    model.compile(optimizer, "mse")
    assert np.isfinite(model.train_on_batch([batch(a), batch(b)], np.zeros((4, model.output_shape[1]))))


def test_a_prefix_is_no_obstacle_to_weights_freezing_and_surgery(tmp_path):
    plain = narrow("resnet18", depths=2)
    randomise(plain)
    x = batch(plain)
    expected = outputs(plain, x)
    plain.save(tmp_path / "plain.keras")
    named = narrow("resnet18", depths=2, prefix="left_", weights=tmp_path / "plain.keras")
    np.testing.assert_allclose(outputs(named, x), expected, atol=1e-5)
    for file in ("named.keras", "named.weights.h5"):
        named.save(tmp_path / file) if file.endswith(".keras") else named.save_weights(tmp_path / file)
        other = narrow("resnet18", depths=2)
        assert not reszoo.load_weights(other, tmp_path / file).missing
        np.testing.assert_allclose(outputs(other, x), expected, atol=1e-5)
        assert reszoo.from_checkpoint(tmp_path / file).model.count_params() == plain.count_params()
    assert reszoo.spec_of(keras.models.load_model(tmp_path / "named.keras")) == reszoo.spec_of(plain)
    assert [*reszoo.features(named).output] == ["stage1", "stage2"]
    assert reszoo.freeze(named, until="stage1") == reszoo.freeze(plain, until="stage1")
    assert [layer.trainable for layer in named.layers] == [layer.trainable for layer in plain.layers]
    changed = (
        reszoo.replace_head(named, classes=3),
        reszoo.drop_blocks(named, ["stage1_block2"]),
        reszoo.deepen(named, stage=1, blocks=1),
        reszoo.to_plain(named),
    )
    for model in changed:
        assert (
            model.get_layer("left_stem_conv").get_weights()[0].sum()
            == plain.get_layer("stem_conv").get_weights()[0].sum()
        )
    np.testing.assert_allclose(outputs(changed[2], x), expected, atol=1e-5)


@pytest.mark.slow
def test_a_prefix_in_a_network_of_sub_models(tmp_path):
    model = narrow("preact_resnet1001_cifar", depths=90, widths=[4, 4], prefix="deep_")
    assert all(layer.name.startswith("deep_") for layer in model.layers)
    assert reszoo.spec_of(model).stages[0].depth == 90
    model.save(tmp_path / "deep.keras")
    assert reszoo.load_weights(narrow("preact_resnet1001_cifar", depths=90, widths=[4, 4]), tmp_path / "deep.keras")


def test_the_input_of_the_first_network_is_called_input():
    first, second = narrow("resnet18"), narrow("tabular_resnet")
    assert first.get_layer("input").output is first.input
    assert (first.input.name, second.input.name) == ("input", "input_1")
    x = batch(first)
    np.testing.assert_array_equal(outputs(first, {"input": x}), outputs(first, x))


def test_what_takes_a_networks_place_has_its_inputs_name(tmp_path):
    narrow("resnet18")
    second = narrow("resnet18", depths=2)
    photo = narrow("resnet18", depths=2, input_tensor=keras.Input((32, 32, 3), name="photo"))
    for model, name in ((second, "input_1"), (photo, "photo")):
        made = (
            reszoo.replace_head(model, classes=3),
            reszoo.to_plain(model),
            reszoo.drop_blocks(model, ["stage1_block2"]),
        )
        assert [each.layers[0].name for each in made] == [each.input.name for each in made] == [name] * 3
    for number in range(2):
        reszoo.convert(second_file(second, tmp_path), tmp_path / f"{number}.keras")
        assert keras.models.load_model(tmp_path / f"{number}.keras").layers[0].name == "input"


def second_file(model, folder):
    model.save(folder / "second.keras")
    return folder / "second.keras"


def test_nested_networks_with_names(tmp_path):
    a, b = narrow("resnet18", **TRUNK, name="left"), narrow("resnet18", **TRUNK, name="right")
    i, j = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    model = keras.Model([i, j], keras.layers.Concatenate()([a(i), b(j)]))
    model.save(tmp_path / "nested.keras")
    for one in (model, keras.models.load_model(tmp_path / "nested.keras")):
        assert_joined(one, a, b)
    with pytest.raises(ValueError, match="used 2 times"):
        c = narrow("resnet18", **TRUNK, name="left")
        keras.Model([i, j], keras.layers.Concatenate()([a(i), c(j)]))


FORMATS = ["resnet18", "resnet50d", "preact_resnet50", "resnet20_cifar", "se_resnet50", "resnext50_32x4d"]


@pytest.mark.parametrize("name", FORMATS)
def test_channels_first_builds_everywhere_and_runs_where_it_can(tmp_path, name):
    last = narrow(name, input_shape=(32, 40, 3))
    randomise(last)
    x = batch(last)
    expected = outputs(last, x)
    keras.config.set_image_data_format("channels_first")
    first = narrow(name, input_shape=(3, 32, 40))
    assert first.input_shape == (None, 3, 32, 40) and first.output_shape == (None, 7)
    assert first.count_params() == last.count_params()
    assert [weight.shape for weight in first.weights] == [weight.shape for weight in last.weights]
    assert reszoo.spec_of(first) == reszoo.spec_of(last)
    first.summary(print_fn=lambda line, **_: None)
    first.set_weights(last.get_weights())
    first.save(tmp_path / "first.keras")
    keras.config.set_image_data_format("channels_last")
    loaded = keras.models.load_model(tmp_path / "first.keras")
    assert loaded.input_shape == (None, 3, 32, 40)
    for model in (first, loaded):
        try:
            found = outputs(model, x.transpose(0, 3, 1, 2))
        except Exception as error:
            # TensorFlow on a CPU without oneDNN's kernels.
            assert "only supports the NHWC tensor format on the CPU" in str(error)
        else:
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_channels_first_arguments():
    keras.config.set_image_data_format("channels_first")
    for channels in (1, 3, 4):
        assert narrow("resnet18", input_shape=(channels, 32, 40)).input_shape == (None, channels, 32, 40)
    trunk = {"include_top": False, "input_shape": None}
    assert narrow("resnet18", **trunk).output_shape == (None, 64, None, None)
    for pooling in ("avg", "max"):
        assert narrow("resnet18", **trunk, pooling=pooling).output_shape == (None, 64)
    got = keras.Input((3, 48, 40))
    model = narrow("resnet18", input_tensor=got, input_shape=None)
    assert model.input is got and reszoo.spec_of(model).input_shape == (48, 40, 3)
    assert narrow("residual_mlp18").input_shape == (None, 20)
    with refused(["resnet20_cifar: image_data_format", "channels_first", "channels_last"]):
        reszoo.train("resnet20_cifar", "digits", output="never", epochs=1)
    for shape, said in (
        ((64, 64, 3), ["(64, 64, 3)", "(channels, height, width)", "channels_first"]),
        ((3, 8, 8), ["(3, 8, 8)"]),
    ):
        with refused(["resnet18.input_shape", "at least 32", *said]):
            reszoo.resnet18(input_shape=shape)


POLICIES = {"mixed_bfloat16": 0.05, "mixed_float16": 0.02, "bfloat16": 0.05, "float16": 0.02, "float64": 1e-5}
KINDS = [
    ("resnet18", {}),
    ("resnet50d", {}),
    ("preact_resnet50", {"norm": "group"}),
    ("se_resnet50", {"drop_path": 0.1, "dropout": 0.1}),
    ("tabular_resnet", {}),
    ("plain_mlp18", {"init": "glorot", "norm": "none"}),
]


def assert_a_policy_works(folder, name, changes, policy):
    single = narrow(name, **changes)
    randomise(single)
    x = batch(single)
    expected = outputs(single, x)
    keras.config.set_dtype_policy(policy)
    model = narrow(name, **changes)
    model.set_weights(single.get_weights())
    np.testing.assert_allclose(model.predict(x, verbose=0).astype("float32"), expected, atol=POLICIES[policy])
    assert reszoo.spec_of(model) == reszoo.spec_of(single)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    model.fit(x, np.arange(4), verbose=0)
    assert all(np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(w, "float32"))).all() for w in model.weights)
    model.save(folder / "net.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(folder / "net.keras")
    np.testing.assert_allclose(outputs(loaded, x), outputs(model, x), atol=POLICIES[policy])


PURE = ("bfloat16", "float16")


@pytest.mark.parametrize(
    ("name", "changes", "policy"),
    [
        pytest.param(*kind, policy, marks=[] if kind is KINDS[0] or policy in PURE else pytest.mark.slow)
        for kind in KINDS
        for policy in POLICIES
    ],
    ids=str,
)
def test_every_dtype_policy_works(tmp_path, name, changes, policy):
    assert_a_policy_works(tmp_path, name, changes, policy)


OTHER_BACKENDS = [pytest.param("jax", marks=needs("jax")), pytest.param("torch", marks=needs("torch"))]


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_pure_dtype_policies_work_on_the_other_backends(tmp_path, backend):
    code = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from test_applications import KINDS, PURE, assert_a_policy_works
for name, changes in (KINDS[0], KINDS[4]):
    for policy in PURE:
        assert_a_policy_works(pathlib.Path("."), name, changes, policy)
print("done")
"""
    assert python(code.format(tests=str(Path(__file__).parent)), backend=backend, folder=tmp_path).strip() == "done"


@pytest.mark.parametrize("init", ["orthogonal", "looks_linear"])
def test_orthogonal_weights_in_half_precision_are_refused_where_no_backend_draws_them(init):
    keras.config.set_dtype_policy("bfloat16")
    with refused(["resnet18.init", f"{init} for weights in bfloat16", "he, glorot", "mixed_bfloat16"]):
        narrow("resnet18", init=init)
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert narrow("resnet18", init=init).output.dtype == "float32"


@pytest.mark.parametrize("name", ["resnet18", "preact_resnet50", "residual_mlp18"])
def test_pooling_is_not_used_under_a_classifier(name):
    reference = narrow(name)
    randomise(reference)
    x = batch(reference)
    for pooling in ("avg", "max", None):
        model = narrow(name, pooling=pooling)
        model.set_weights(reference.get_weights())
        np.testing.assert_array_equal(outputs(model, x), outputs(reference, x))
        assert reszoo.spec_of(model) == reszoo.spec_of(reference)
    with refused([f"{name}.head.pooling", "got 'median'", "avg, max"]):
        narrow(name, pooling="median")


def test_another_pooling_under_a_classifier_is_the_heads():
    for changes in ({"head": {"pooling": "max"}}, {"head": {"pooling": "max"}, "pooling": "avg"}):
        model = narrow("resnet18", **changes)
        assert isinstance(model.get_layer("head_pool"), keras.layers.GlobalMaxPooling2D)
        assert reszoo.spec_of(model).head.pooling == "max"
    assert reszoo.spec("resnet18", pooling="max").head.pooling == "max"
    trunk = narrow("resnet18", include_top=False, pooling="max")
    assert isinstance(trunk.layers[-1], keras.layers.GlobalMaxPooling2D)


def test_booleans():
    assert narrow("resnet18", include_top=np.False_).output_shape == (None, 4, 4, 64)
    for value in ("no", "", None, 2, 0.5, [True]):
        with refused(["resnet18.include_top", "True, False"]):
            reszoo.resnet18(include_top=value)
        with refused(["resnet18.features", "True, False"]):
            reszoo.resnet18(features=value)
        with refused(["from_checkpoint.include_top", "True, False"]):
            reszoo.from_checkpoint("nothing.keras", include_top=value)


ACTIVATIONS = [
    ("softmax", "softmax"),
    ("sigmoid", "sigmoid"),
    ("linear", "linear"),
    (None, "linear"),
    (keras.activations.softmax, "softmax"),
    (keras.activations.sigmoid, "sigmoid"),
    (keras.activations.linear, "linear"),
    (keras.ops.softmax, "softmax"),
]


@pytest.mark.parametrize(("got", "expected"), ACTIVATIONS, ids=shown)
def test_activations_of_keras_stand_for_their_names(got, expected):
    model = narrow("tabular_resnet", classifier_activation=got)
    assert model.layers[-1].activation is getattr(keras.activations, expected)
    assert reszoo.spec_of(model).head.activation == expected
    assert reszoo.spec("resnet18", head={"activation": got or "linear"}).head.activation == expected
    assert reszoo.replace_head(model, classes=3, activation=got).layers[-1].activation is model.layers[-1].activation


STRIDES = {"resnet50": [1, 1, 2, 2], "resnet18": [1, 2, 1, 2], "preact_resnet50": [1, 2, 2, 1]}
DILATIONS = {"resnet50": [1, 2, 2, 2], "resnet18": [1, 1, 2, 4], "preact_resnet50": [1, 2, 2, 4]}


def staged(name, strides, dilations):
    stages = zip(strides, dilations, strict=True)
    return [{"depth": 1, "width": 64, "stride": stride, "dilation": dilation} for stride, dilation in stages]


@pytest.mark.parametrize("name", STRIDES)
def test_a_stride_beside_a_dilation_is_refused_when_it_is_read(tmp_path, name):
    """torchvision's replace_stride_with_dilation=[True, False, False], by hand, and others."""
    stages = staged(name, STRIDES[name], DILATIONS[name])
    number = next(i for i in range(1, 4) if STRIDES[name][i] > 1 and DILATIONS[name][i - 1] > 1)
    said = [f"{name}.stages.{number}.stride", "got 2", f"1 in stage {number + 1}", "dilation 2", "output_stride="]
    for make in (reszoo.create, reszoo.spec):
        with refused(said):
            make(name, stages=stages)


def test_strides_and_dilations_that_go_together_are_built():
    # Where the stride stands at a 1x1 convolution no window is dilated; and dilation may come after the last stride.
    assert narrow("resnet50_v1", stages=staged("", [1, 1, 2, 2], [1, 2, 2, 2]), widths=64).output_shape == (
        None,
        7,
    )
    assert narrow("resnet50", stages=staged("", [1, 2, 2, 1], [1, 1, 2, 4]), widths=64).output_shape == (None, 7)
    for stride in (8, 16, 32):
        assert narrow("resnet50", depths=[1, 1, 1, 1], widths=[64] * 4, output_stride=stride).output_shape == (None, 7)


BAD = [
    ({"classifier_activation": "relu"}, ["head.activation", "got 'relu'", "softmax, sigmoid, linear"]),
    (
        {"classifier_activation": keras.activations.relu},
        ["head.activation", "got 'relu'", "softmax, sigmoid, linear"],
    ),
    ({"classifier_activation": abs}, ["head.activation", "built-in function abs", "softmax, sigmoid, linear"]),
    ({"name": "a b"}, ["resnet18.name", "got 'a b'", "letters and digits"]),
    ({"name": "a/b"}, ["resnet18.name", "got 'a/b'", "letters and digits"]),
    ({"name": ""}, ["resnet18.name", "got ''", "letters and digits"]),
    ({"classes": 0}, ["head.classes", "got 0", "at least 1", "include_top=False, pooling='avg'"]),
    ({"classes": np.int64(-1)}, ["head.classes", "got -1", "include_top=False, pooling='avg'"]),
    ({"classes": 2.0}, ["head.classes", "got 2.0", "whole number"]),
    ({"classes": True}, ["head.classes", "got True", "whole number"]),
    ({"classes": "10"}, ["head.classes", "got '10'", "whole number"]),
    ({"prefix": "a b"}, ["resnet18.prefix", "got 'a b'", "letters and digits"]),
    ({"prefix": "left."}, ["resnet18.prefix", "got 'left.'"]),
    ({"prefix": 3}, ["resnet18.prefix", "got 3"]),
    ({"input_shape": (3, 224, 224)}, ["input_shape", "at least 32", "(224, 224, 3)", "channels_first"]),
    ({"input_shape": (1, 64, 80)}, ["input_shape", "at least 32", "(64, 80, 1)", "channels_first"]),
    ({"input_shape": (3, None, None)}, ["input_shape", "(height, width, channels)", "channels_first"]),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda value: str(value)[:40])
def test_what_is_refused_says_what_is_allowed(arguments, said):
    with refused(said):
        reszoo.resnet18(**arguments)


def test_no_word_on_channels_first_where_the_size_is_what_is_wrong():
    with pytest.raises(ReszooError) as caught:
        reszoo.resnet18(input_shape=(3, 3, 3))
    assert "channels_first" not in str(caught.value)
