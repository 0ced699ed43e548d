"""Diagnosis: blocks of any model, the measurements, their results, and that they leave the model unchanged."""

import json

import keras
import numpy as np
import pytest
from conftest import needs, python, refused, shown

import reszoo
from reszoo import diagnosis
from reszoo.data.sources import open_data
from reszoo.diagnosis import blocks


@pytest.fixture(scope="module")
def digits():
    """600 digits as rows of 64 numbers, and their classes."""
    data = open_data("digits")
    numbers = np.arange(600)
    return data.scaling(data.train.take(numbers)).reshape(600, -1), data.train.labels[:600]


PLAIN, FREE = {"shortcut": "none", "norm": "none"}, {"norm": "none"}


def dense(layers, *, seed=0, **changes):
    """A dense network of width 64 for digits, two layers in a block."""
    keras.utils.set_random_seed(seed)
    size = {"input_shape": (64,), "width_multiplier": 0.25, "depths": layers // 2}
    return reszoo.create("residual_mlp18", **size, **changes)


def shallow(dropout=0.0):
    return dense(8, block={"start": "random", "dropout": dropout})


# Graphs and blocks.

NETWORKS = ["resnet18", "resnet50d", "resnet20_cifar", "se_resnet50", "residual_mlp18", "tabular_resnet"]


@pytest.mark.parametrize("name", [*NETWORKS, "preact_resnet18", "wide_resnet16_4_cifar"])
def test_blocks_from_additions_match_the_plan(name):
    small = {"width_multiplier": 0.25} if "mlp" not in name and "tabular" not in name else {}
    network = diagnosis.take_apart(reszoo.create(name, **small))
    assert "by the plan" in network.description
    graph = network.graph
    residual = blocks._staged(graph, list(blocks._residual_blocks(graph, blocks._Dominators(graph))))
    assert [block.part for block in residual] == [block.part for block in network.blocks]
    # In a pre-activation block with a projection, branch and shortcut both begin after the activation.
    fields = ("output", "merge", "branch", "shortcut", *(() if "pre" in name or "wide" in name else ("input",)))
    for one, other in zip(residual, network.blocks, strict=True):
        assert all(getattr(one, field) == getattr(other, field) for field in fields), one.name


def test_sub_models_of_a_very_deep_network_are_opened():
    network = diagnosis.take_apart(reszoo.create("resnet110_cifar", depths=40, width_multiplier=0.25))
    assert len(network.blocks) == 120 and not any(hasattr(step.layer, "layers") for step in network.graph.steps)


def test_keras_applications_resnet50():
    network = diagnosis.take_apart(keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3)))
    assert [len(indices) for indices in network.parts.values()] == [3, 4, 6, 3]
    assert network.blocks[0].name == "conv2_block1_add" and network.graph.activation == "softmax"


def nested():
    """A user's model: a Sequential stem, a sub-model of residual blocks called twice, operations of keras.ops."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12,), name="features")
    stem = keras.Sequential([keras.layers.Dense(16), keras.layers.LayerNormalization()], name="stem")
    x = here = keras.Input((16,))
    for number in range(2):
        branch = keras.layers.Dense(16, activation="relu", name=f"wide{number}")(x)
        branch = keras.layers.Dropout(0.5)(branch)
        x = x + 0.5 * keras.layers.Dense(16, name=f"narrow{number}")(branch)
    body = keras.Model(here, keras.ops.relu(x), name="body")
    x = body(body(stem(inputs)))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x), name="custom")


def test_a_model_of_nested_sub_models():
    model = nested()
    network = diagnosis.take_apart(model)
    assert len(network.blocks) == 4 and network.residual and "additions" in network.description
    x = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    values = network.graph.read(x, outputs=[network.graph.output, network.graph.logits])
    np.testing.assert_array_equal(values[network.graph.output], model(x))
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(values[network.graph.logits]))
    np.testing.assert_allclose(probabilities, values[network.graph.output], rtol=1e-5)


def test_a_plain_chain_has_one_block_per_inner_layer():
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for _ in range(4):
        model.add(keras.layers.Conv2D(4, 3, padding="same"))
        model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.ReLU())
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(3))
    network = diagnosis.take_apart(model)
    assert len(network.blocks) == 3 and not network.residual
    layers = {slot: type(step.layer).__name__ for step in network.graph.steps for slot in step.outputs}
    assert [layers[slot] for slot in network.trunk[:3]] == ["ReLU"] * 3


class Subclassed(keras.Model):
    """A model with its own call()."""

    def call(self, x):
        return x


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)])


REFUSED = [
    (lambda: Subclassed(), ["cannot be analyzed", "Subclassed, a model with its own call()", "keras.Model(inputs,"]),
    (lambda: keras.Sequential([keras.layers.Dense(2)]), ["without an input shape", "call it once"]),
    (two_outputs, ["2 outputs", "one output"]),
    (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), ["1 layers without a block", "additions"]),
    (lambda: "resnet50", ["'resnet50'", "a Keras model"]),
]


@pytest.mark.parametrize(("model", "messages"), REFUSED, ids=shown)
def test_models_without_a_usable_graph_are_refused(model, messages):
    with refused(messages):
        diagnosis.take_apart(model())


def test_data_that_do_not_fit_are_refused(digits):
    x, y = digits
    with refused(["x of shape (600, 10)", "(64,)"]):
        diagnosis.gradient_profile(shallow(), x[:, :10], y)
    with refused(["classes 0 to 19", "0 to 9"]):
        diagnosis.gradient_profile(shallow(), x[:20], np.arange(20))
    with refused(["values that are not classes", "loss="]):
        diagnosis.gradient_profile(shallow(), x, y + 0.5)


# Every measurement.

MEASUREMENTS = {
    "gradient_profile": {},
    "signal_propagation": {},
    "correlation": {},
    "information": {},
    "shattering": {"pairs": 2, "points": 40},
    "lesion_study": {"draws": 2},
    "early_exit": {},
    "path_length": {"draws": 2},
    "predictiveness": {},
    "loss_slice": {"points": 3},
}
UNLABELLED = ("signal_propagation", "shattering")


def measure(name, model, x, y, **changes):
    arguments = (x,) if name in UNLABELLED else (x, y)
    return getattr(diagnosis, name)(model, *arguments, **{**MEASUREMENTS[name], **changes})


def state(model):
    """Returns everything that a measurement could change."""
    variables = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    nodes = [(len(layer._inbound_nodes), layer.trainable) for layer in model._flatten_layers()]
    return variables, nodes, model.compiled, id(model.optimizer), np.random.get_state()[1].tobytes()


@pytest.fixture(scope="module")
def trained(digits):
    model = shallow(dropout=0.3)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    model.fit(*digits, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurement_result_and_unchanged_model(name, trained, digits, tmp_path):
    x, y, model = digits[0][:80], digits[1][:80], trained
    before = state(model)
    result = measure(name, model, x, y)
    assert state(model) == before
    assert result.to_dict() == measure(name, model, x, y).to_dict()
    assert result.control and result.verdict and result.thresholds and result.model == model.name
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["measurement"] == result.title
    assert (
        repr(result).startswith(f"{type(result).__name__}({model.name}: {result.level}; ") and len(repr(result)) < 161
    )
    assert "thresholds" in result._repr_html_() and result.title in result._repr_html_()
    result.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_variables_written_outside_the_scope_are_restored(digits):
    class Counts(keras.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

        def call(self, x):
            # Not through Keras' assign, which the scope would catch.
            self.calls._value.assign_add(1.0)
            return x

    inputs = keras.Input((64,))
    x = Counts()(inputs)
    for _ in range(4):
        x = keras.layers.Dense(8)(x)
    model = keras.Model(inputs, x)
    before = float(model.variables[0])
    diagnosis.signal_propagation(model, digits[0][:8])
    assert float(model.variables[0]) == before


BACKENDS = """
import json, keras, numpy as np, reszoo
from reszoo import diagnosis
random = np.random.default_rng(0)
x, y = random.normal(size=(48, 16)).astype("float32"), np.arange(48) % 4
model = reszoo.create("residual_mlp18", input_shape=(16,), width_multiplier=1/16, depths=4, classes=4,
                      block={"start": "random", "dropout": 0.2})
for weight in model.weights:
    value = random.normal(0.1, 0.4, weight.shape)
    weight.assign(value**2 if weight.name == "moving_variance" else value)
rows = {}
for name, settings in json.loads(SETTINGS).items():
    arguments = (x,) if name in ("signal_propagation", "shattering") else (x, y)
    rows[name] = getattr(diagnosis, name)(model, *arguments, **settings).to_dict()
print("rows" + json.dumps(rows))
"""


def numbers(value):
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) or value in ("nan", "inf") else []


def measured(backend):
    output = python(f"SETTINGS = '''{json.dumps(MEASUREMENTS)}'''" + BACKENDS, backend=backend)
    return json.loads(output[output.index("rows{") + 4 :])


@pytest.fixture(scope="module")
def on_tensorflow():
    return measured("tensorflow")


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", [pytest.param("jax", marks=needs("jax")), pytest.param("torch", marks=needs("torch"))]
)
def test_backends_agree(backend, on_tensorflow):
    rows = measured(backend)
    for name in MEASUREMENTS:
        np.testing.assert_allclose(
            numbers(rows[name]), numbers(on_tensorflow[name]), rtol=1e-3, atol=1e-5, err_msg=name
        )


# Known values: dense networks of width 64 at initialisation, fixed seeds (Yang 2019; Zhang 2019; De 2020).

RATIOS = [
    ("plain, glorot", {**PLAIN, "init": "glorot"}, 0.0, 1e-6, "broken"),
    ("plain, looks-linear", {**PLAIN, "init": "looks_linear"}, 0.5, 2.0, "healthy"),
    ("residual, zero-scaled", FREE, 0.999, 1.001, "healthy"),
    ("residual, batch norm", {"block": {"start": "random"}}, 10.0, 100.0, "healthy"),
    ("residual, scaled", {**FREE, "block": {"start": "scaled"}}, 2.0, 3.5, "healthy"),
    ("residual, neither", {**FREE, "block": {"start": "random"}}, 1e10, 1e14, "broken"),
]


@pytest.mark.parametrize(
    ("changes", "low", "high", "level"), [row[1:] for row in RATIOS], ids=[row[0] for row in RATIOS]
)
def test_gradient_ratio_at_100_layers(changes, low, high, level, digits):
    profile = diagnosis.gradient_profile(dense(100, **changes), digits[0][:256], digits[1][:256])
    assert low <= profile.ratio <= high and profile.level == level
    # Shuffled labels hardly change it, and weight gradients do not show it.
    assert abs(np.log10(profile.control["labels shuffled"] / profile.ratio)) < 0.5
    if level == "broken":
        assert abs(np.log10(profile.weight_ratio)) < 1.5


def test_information_at_100_layers(digits):
    plain = diagnosis.information(dense(100, **PLAIN), *digits, places=2)
    scaled = diagnosis.information(dense(100, **FREE, block={"start": "scaled"}), *digits, places=2)
    assert plain.readouts[-1].r2 < 0.2 and plain.level == "broken"
    assert scaled.readouts[-1].r2 > 0.7 and scaled.level == "healthy"
    assert abs(plain.control["probe, labels shuffled"] - 0.1) < 0.08 and plain.control["r2, random"] > 0.99


def test_branches_with_batch_norm_shrink_with_depth(digits):
    signal = diagnosis.signal_propagation(dense(100, block={"start": "random"}), digits[0][:256])
    ratio = np.array(signal.branch_ratio)
    np.testing.assert_allclose(ratio[4:], 1 / np.sqrt(np.arange(5, 51)), rtol=0.35)
    assert max(diagnosis.signal_propagation(dense(20, **FREE), digits[0][:64]).branch_ratio) == 0.0


@pytest.mark.slow
def test_residual_networks_tolerate_the_removal_of_a_block_and_plain_ones_do_not(digits):
    studies = {}
    for kind, changes in {"plain": {"shortcut": "none"}, "residual": {"block": {"start": "random"}}}.items():
        model = dense(20, **changes)
        model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", jit_compile=False)
        model.fit(*digits, epochs=30, batch_size=128, verbose=0)
        reszoo.reestimate_norm(model, [digits[0]])
        studies[kind] = diagnosis.lesion_study(model, *digits)
        assert studies[kind].accuracy > 0.9, kind
    assert studies["plain"].mean < 0.3 and studies["plain"].level == "unknown" and "chain" in studies["plain"].verdict
    assert studies["residual"].mean > 0.9 and studies["residual"].level == "healthy"


# Diagnosis.


def test_diagnosis_of_healthy_and_broken_networks(digits):
    broken = reszoo.diagnose(dense(60, **FREE, block={"start": "random"}), *digits)
    assert not broken.healthy and "zero" in broken.advice[0].what and "explodes" in broken.advice[0].because
    healthy = reszoo.diagnose(dense(20), *digits)
    assert healthy.healthy and not healthy.advice and "BatchNormalization" in healthy.network
    assert json.loads(json.dumps(healthy.to_dict(), allow_nan=False))["examples"] == 512
    # Short in a console, a table in a notebook; a census prints none of its arrays.
    start = "Diagnosis(residual_mlp18: depth; gradient profile broken, "
    assert len(repr(broken)) < 200 and repr(broken).startswith(start)
    html = broken._repr_html_()
    assert html.count("<table>") == 3 and broken.advice[0].what.split(":")[0] in html and "census" in html
    census = healthy["census"]
    assert census.silent and "array" not in repr(census) and len(repr(census)) < 161
    assert (
        repr(diagnosis.take_apart(dense(20)))
        == "Anatomy(residual_mlp18: 10 blocks by the plan of residual_mlp18; 63 steps)"
    )


def test_diagnosis_of_a_custom_model():
    x = np.random.default_rng(0).normal(size=(64, 12)).astype("float32")
    whole = reszoo.diagnose(nested(), x, np.arange(64) % 3)
    titles = ["gradient profile", "signal propagation", "correlation", "census", "information", "lesion study"]
    assert [result.title for result in whole.results] == titles
    few = reszoo.diagnose(nested(), x[:20], np.arange(20) % 3)
    assert few.skipped == (("information", "20 examples: needs at least 40, half of them held out"),)


def test_diagnose_command(tmp_path, trained, capsys):
    from reszoo.cli.screen import app

    trained.save(tmp_path / "model.keras")
    arguments = ["diagnose", str(tmp_path / "model.keras"), "--data", "digits", "--output", str(tmp_path / "out")]
    app(arguments, standalone_mode=False)
    assert "gradient profile" in capsys.readouterr().out
    saved = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    page = (tmp_path / "out" / "index.html").read_text()
    assert saved["model"] == trained.name and len(saved["results"]) == 6
    assert page.count("<svg") == len([*(tmp_path / "out").glob("*.png")]) >= 6 and "nan" not in page
    for result in saved["results"]:
        assert result["measurement"].capitalize() in page and result["thresholds"][:40] in page
    (tmp_path / "broken.keras").write_bytes(b"PK")
    with refused(["broken.keras", "damaged"]):
        app(["diagnose", str(tmp_path / "broken.keras"), "--data", "digits"], standalone_mode=False)


def test_gradient_flow_callback_does_not_change_training(digits, tmp_path):
    x, y = digits

    def train(*callbacks):
        model = dense(8)
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
        model.fit(x[:128], y[:128], batch_size=32, epochs=1, shuffle=False, verbose=0, callbacks=callbacks)
        return model.get_weights()

    flow = reszoo.GradientFlow(x[:16], y[:16], folder=tmp_path, every=2)
    for ours, theirs in zip(train(flow), train(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [step for step, _ in flow.history] == [0, 2, 4]
    assert all(len(rms) == 5 and np.isfinite(rms).all() for _, rms in flow.history)
    assert [*(tmp_path / "gradient_flow").glob("events*")]
    with refused(["GradientFlow.every", "0", "at least 1"]):
        reszoo.GradientFlow(x, y, every=0)
