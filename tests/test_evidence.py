"""Residual networks beside plain twins: looped models, the comparison, the degradation gap, and the evidence."""

import json
from functools import cache

import keras
import numpy as np
import pytest
from conftest import needs, python, refused
from typer.testing import CliRunner

import reszoo
from reszoo.arch.build import build
from reszoo.arch.loops import Looped
from reszoo.cli import app
from reszoo.data.sources import open_data
from reszoo.experiments import contestants as tables, findings
from reszoo.experiments.compare import match_to_data, shallower, training_runs
from reszoo.experiments.degradation_gap import best, gap
from reszoo.experiments.trainer import Run, Trainer, _order, rows

DIGITS = open_data("digits")
ROWS = rows(DIGITS)


def dense(layers, **changes):
    return tables.network("dense", ROWS, depths=layers // 2, **changes)


def budget(**changes):
    return tables.budget("dense", **changes)


# Loops.

NETWORKS = [
    ("residual_mlp18", {"input_shape": (64,), "width_multiplier": 0.0625, "depths": 5}),
    ("resnet20_cifar", {"input_shape": (8, 8, 1), "width_multiplier": 0.25}),
    ("preact_resnet18", {"input_shape": (32, 32, 3), "width_multiplier": 0.125}),
    ("se_resnet50", {"input_shape": (32, 32, 3), "width_multiplier": 0.125, "depths": [1, 3, 1, 2]}),
]


@pytest.mark.parametrize(("name", "changes"), NETWORKS, ids=[name for name, _ in NETWORKS])
@pytest.mark.parametrize("training", [False, True])
def test_looped_model_matches_the_network(name, changes, training):
    spec = reszoo.spec(name, classes=10, **changes)
    model = build(spec)
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.uniform(0.5, 1.0, variable.shape) * np.sqrt(1 / np.prod(variable.shape[:-1])))
    looped = Looped(spec)
    looped.copy_from(model)
    x = random.normal(size=(8, *spec.input_shape)).astype("float32")
    np.testing.assert_allclose(looped(x, training=training), model(x, training=training), rtol=1e-4, atol=1e-6)
    # Moving statistics too: both models have updated them in training mode.
    again = build(spec)
    looped.copy_to(again)
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6, err_msg=ours.path)


def test_looped_model_initializes_like_the_layers():
    spec = reszoo.spec("residual_mlp18", width_multiplier=0.5, depths=20, init="looks_linear", norm="none")
    ours, other = build(spec), build(spec)
    for seed, model in ((1, ours), (2, other)):
        keras.utils.set_random_seed(seed)
        Looped(spec).copy_to(model)
    names = [layer.name for layer in ours.layers if "unit1_dense" in layer.name]
    kernels = [keras.ops.convert_to_numpy(ours.get_layer(name).kernel) for name in names]
    size = np.linalg.norm(keras.ops.convert_to_numpy(build(spec).get_layer(names[5]).kernel))
    assert [np.linalg.norm(kernel) for kernel in kernels] == pytest.approx([size] * 20, rel=1e-4)
    assert all(not np.array_equal(kernels[0], kernel) for kernel in kernels[1:])
    assert not np.array_equal(kernels[0], other.get_layer(names[0]).kernel)
    # Branches start at zero, biases too.
    assert not np.any(keras.ops.convert_to_numpy(ours.get_layer("stage1_block3_unit2_dense").kernel))


def test_trainer_copies_weights_to_an_ordinary_model():
    trainer = Trainer(dense(10), ROWS, budget(steps=20))
    run = trainer.run(rate=1e-3, seed=0)
    x, y = ROWS.arrays("train")
    accuracy = (keras.ops.convert_to_numpy(trainer.model()(x, training=False)).argmax(axis=1) == y).mean()
    assert accuracy == pytest.approx(run.moving_accuracy) and accuracy > 0.3
    assert reszoo.spec_of(trainer.model()).replace(name="x") == dense(10).replace(name="x", classifier_activation=None)


def test_runs_depend_on_the_seed_only():
    trainer = Trainer(dense(4), ROWS, budget(steps=5))
    first, other, again = (trainer.run(rate=1e-3, seed=seed) for seed in (0, 1, 0))
    assert first.losses == again.losses and first.losses[0] != other.losses[0]


LOOP = """
import keras, numpy as np, reszoo
from reszoo.arch.build import build
from reszoo.cli import app
from reszoo.arch.loops import Looped
spec = reszoo.spec("residual_mlp18", input_shape=(16,), width_multiplier=1 / 16, depths=3, classes=4)
model = build(spec)
for number, variable in enumerate(model.variables):
    shift = 0.5 if variable.name in ("gamma", "moving_variance") else 0.0
    variable.assign(np.cos(np.arange(np.prod(variable.shape)) + number).reshape(variable.shape) * 0.3 + shift)
looped = Looped(spec)
looped.copy_from(model)
x = np.sin(np.arange(8 * 16)).reshape(8, 16).astype("float32")
looped.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy())
print(*[looped.train_on_batch(x, np.arange(8) % 4) if not looped.reset_metrics() else 0 for _ in range(3)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_looped_model_trains_equally_on_all_backends(backend):
    if needs(backend).args[0]:
        pytest.skip(f"not installed: {backend}")
    losses = [np.array(python(LOOP, backend=name).split(), float) for name in ("tensorflow", backend)]
    assert losses[0][2] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


# Budget, gap, families.


def test_passes_show_every_example_once_in_full_batches():
    batches = [*_order(10, 4, 5, seed=0)]
    assert [len(batch) for batch in batches] == [4] * 5
    whole = np.concatenate(batches)
    assert sorted(whole[:10]) == sorted(whole[10:]) == [*range(10)] and [*whole[:10]] != [*whole[10:]]
    assert all((a == b).all() for a, b in zip(batches, _order(10, 4, 5, seed=0), strict=True))


def run(loss, *, depth=20, rate=0.1, seed=0):
    return Run("net", depth, 1, rate, seed, (9.0,) * 9 + (loss,), 0.5, 2 * loss, 0.5, None)


def test_gap_compares_medians_at_the_best_rates():
    shallow = [run(loss, seed=i) for i, loss in enumerate([0.1, 0.2, 0.4])]
    shallow += [run(0.3, rate=0.01, seed=i) for i in range(3)]
    deep = [run(loss, depth=56, rate=0.01, seed=i) for i, loss in enumerate([1.0, 1.5, 1.2])]
    deep += [run(float("nan"), depth=56, seed=i) for i in range(3)]
    result = gap("plain twin", shallow, deep, chance=2.3)
    assert (result.shallow, result.deep, result.shallow_rate, result.deep_rate) == (20, 56, 0.1, 0.01)
    assert result.gap == pytest.approx(1.2 - 0.2) and result.moving_gap == pytest.approx(2.4 - 0.4)
    assert result.low == pytest.approx(1.0 - 0.4) and result.high == pytest.approx(1.5 - 0.1) and result.degrades
    assert "[+0.600, +1.400] from 20 to 56 layers: deeper is worse in training" in result.description


def test_disagreeing_seeds_show_no_degradation():
    result = gap(
        "residual", [run(0.1), run(0.3, seed=1)], [run(0.2, depth=56), run(0.05, depth=56, seed=1)], chance=2.3
    )
    assert result.low < 0 < result.high and not result.degrades and "not shown" in result.description


def test_a_negligible_gap_is_called_so():
    result = gap("residual", [run(0.0004)], [run(0.0014, depth=56)], chance=2.3)
    assert result.degrades and "by less than 1% of the loss of guessing" in result.description


def test_non_finite_loss_is_the_worst():
    assert run(float("nan")).loss == float("inf")
    assert best([run(float("nan"), rate=1.0), run(2.0, rate=0.1)])[0].rate == 0.1
    assert gap("plain twin", [run(0.1)], [run(float("nan"), depth=56)], chance=2.3).gap == float("inf")


def test_gap_without_learning_is_meaningless():
    result = gap("plain, looks-linear", [run(2.2)], [run(2.3, depth=56)], chance=2.3)
    assert result.low > 0 and not result.degrades and "meaningless" in result.description


def test_twin_and_controls_differ_as_described():
    variants = {one.family: one for one in everyone(10)}
    assert [one.kind for one in variants.values()][:4] == ["residual", "plain", "control", "control"]
    assert variants["plain twin"].params == variants["residual"].params
    assert variants["plain twin"].params == variants["residual, full-scale branches"].params
    assert variants["plain twin"].spec == dense(10).plain().replace(name=dense(10).name)
    assert variants["plain, looks-linear"].spec.init == "looks_linear"
    # A control that equals the network itself is dropped.
    full = dense(10).replace(block={"start": "random"})
    assert len(tables.contestants(full, tables.families())) == 3


def test_claims_have_sources_and_caveats():
    assert [*tables.claims()] == ["gradient flow", "degradation", "information flow", "optimisation", "depth limit"]
    for name, claim in tables.claims().items():
        assert any(year in claim.published for year in ("2015", "2016", "2017", "2018")), name
        assert len(claim.caveat) > 80, name


REFUSED = [
    (lambda: reszoo.compare("plain20_cifar", DIGITS), ["plain20_cifar, a plain network", "a residual network"]),
    (lambda: reszoo.compare("resnet20_cifar", DIGITS, shallow=3), ["shallow", "9 blocks", "fewer than 9 blocks"]),
    (lambda: reszoo.compare("resnet20_cifar", DIGITS, rates=()), ["budget.rates"]),
    (lambda: reszoo.compare("resnet20_cifar", DIGITS, steps=0), ["budget.steps", "at least 1"]),
    (lambda: reszoo.compare("resnet20_cifar", DIGITS, widht=3), ["widht"]),
    (lambda: reszoo.compare("resnet20_cifar", DIGITS, against=["plain"]), ["unknown family", "plain twin"]),
    (lambda: reszoo.compare("resnet20_cifar", DIGITS, measure=["lesions"]), ["lesions", "lesion study"]),
    (lambda: reszoo.evidence(DIGITS, depths=(7, 10)), ["depths", "[7]", "even numbers of layers from 4 to 1,000"]),
    (lambda: reszoo.evidence(DIGITS, depths=(2000,)), ["depths", "[2000]"]),
    (lambda: reszoo.evidence(DIGITS, depths=()), ["depths", "none"]),
    (lambda: reszoo.evidence(DIGITS, claims=["degredation"]), ["degredation", "degradation"]),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_invalid_arguments_are_refused(call, message):
    with refused(message):
        call()


def test_evidence_command_prints_numbers_sources_and_caveats(tmp_path):
    flow = ["evidence", "--depths", "4,6", "--claim", "gradient flow", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, flow, catch_exceptions=False)
    for words in ("plain twin", "plain, looks-linear", "published: ", "caveat: ", "holds by construction"):
        assert words in done.stdout, words
    assert (tmp_path / "index.html").is_file() and (tmp_path / "gradient.png").is_file()


def test_commands_refuse_invalid_arguments():
    for arguments, message in (
        (["evidence", "--depths", "ten"], "comma-separated numbers"),
        (["compare", "plain20_cifar", "--data", "digits"], "a residual network"),
    ):
        with refused([message]):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


# Complete runs.


@pytest.mark.slow
def test_compare(tmp_path):
    measure = ["gradient profile", "early exit", "lesion study"]
    small = {"depths": 6, "shallow": 2, "width_multiplier": 1 / 16, "steps": 30}
    result = reszoo.compare("residual_mlp18", DIGITS, **small, seeds=(0, 1), rates=(1e-2, 1e-3), measure=measure)
    assert [one.depth for one in result.contestants] == [14] * 4 and [one.depth for one in result.shallow] == [6] * 4
    # Four families at two depths: two rates with the first seed, the better one with the second.
    assert len(result.runs) == 4 * 2 * (2 + 1) and len(result.gaps) == 4
    assert {(one.family, one.when) for one in result.measured} == {
        (one.family, when) for one in result.contestants for when in ("initialisation", "after training")
    }
    before = next(one for one in result.measured if one.kind == "residual")
    (profile,) = before.results
    assert profile.ratio == pytest.approx(1, abs=1e-3) and not before.left_out
    # Two trainings from one seed see the same examples: the first losses are those of one batch.
    first = {
        run.losses[0] for family, run in result.runs if family == "plain twin" and run.depth == 14 and run.seed == 0
    }
    assert len(first) == 1
    after = next(one for one in result.measured if one.kind == "residual" and one.when == "after training")
    assert [result.title for result in after.results] == ["gradient profile", "lesion study", "early exit"]
    page = result.write(tmp_path / "out")
    text = page.read_text()
    assert "looks-linear" in text and "degradation gap" in text and text.count("<svg") == 4
    saved = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert len(saved["runs"]) == 24 and saved["gaps"][0]["family"] == "residual"


def everyone(layers):
    return tables.contestants(dense(layers), tables.families([*tables.settings()["families"]]))


@cache
def accuracy(family, layers, seed=0):
    """Training accuracy after 150 steps."""
    (one,) = (one for one in everyone(layers) if one.family == family)
    rate, steps = (1e-3, 150) if layers < 500 else (3e-4, 100)
    return Trainer(one.spec, ROWS, budget(steps=steps)).run(rate=rate, seed=seed).batch_accuracy


@pytest.mark.slow
def test_at_100_layers_residual_networks_train_and_plain_ones_do_not():
    assert accuracy("residual", 100) > 0.98
    assert accuracy("plain, He, no norm", 100) < 0.6
    assert accuracy("plain twin", 100) < 0.6
    # The control: a plain network can train, so the set-up is not what stops the others.
    assert accuracy("plain, looks-linear", 100) > 0.9


@pytest.mark.slow
def test_deeper_is_worse_for_plain_convolutional_networks_only():
    deep = tables.network("image", DIGITS, depths=9)
    limits = tables.budget("image", steps=60, rates=(0.1,), seeds=(0,))
    gaps = {}
    for few, many in zip(*(tables.contestants(s, tables.families()) for s in (shallower(deep), deep)), strict=True):
        if few.family in ("plain twin", "residual"):
            runs = ([*training_runs(Trainer(one.spec, DIGITS, limits), limits)] for one in (few, many))
            gaps[few.family] = gap(few.family, *runs, chance=np.log(10))
    plain, residual = gaps["plain twin"], gaps["residual"]
    assert plain.gap > 0.5 and abs(residual.gap) < 0.3


DENSE_CLAIMS = ["gradient flow", "information flow", "optimisation", "depth limit"]


@pytest.mark.slow
def test_evidence(tmp_path):
    result = reszoo.evidence(DIGITS, depths=(4,), seeds=(0,), steps=10, claims=DENSE_CLAIMS)
    assert [finding.name for finding in result.findings] == DENSE_CLAIMS
    flow = result["gradient flow"]
    assert flow.of("residual") == pytest.approx(1, abs=1e-3)
    assert flow.of("plain, Keras' default") < flow.of("plain, He, no norm") < flow.of("plain twin")
    for finding in result.findings:
        assert {number.kind for number in finding.numbers} == {"plain", "residual", "control"}, finding.name
        assert all(len(row) == len(finding.columns) for row in finding.rows), finding.name
    text = result.write(tmp_path).read_text()
    assert text.count("Caveat: ") == text.count("Published: ") == 4 and text.count("<svg") == 4
    assert json.loads((tmp_path / "evidence.json").read_text())["data"] == "digits"
    assert len([*tmp_path.glob("*.png")]) == 4


def test_degradation_finding_has_the_interval_and_both_modes():
    runs = [("plain twin", run(0.1)), ("plain twin", run(1.5, depth=56)), ("residual", run(0.1))]
    runs.append(("residual", run(0.1, depth=56)))
    gaps = [gap(runs[i][0], [runs[i][1]], [runs[i + 1][1]], chance=2.3) for i in (0, 2)]
    kinds = {"plain twin": "plain", "residual": "residual"}
    finding = findings.degradation(tables.claims()["degradation"], gaps, runs, kinds)
    assert finding.of("plain twin") == pytest.approx(1.4) and finding.numbers[0].text == "+1.400 [+1.400, +1.400]"
    assert [row[:4] for row in finding.rows][:2] == [("plain twin", 20, 1, 0.1), ("plain twin", 56, 1, 0.1)]
    assert finding.rows[1][4:6] == (1.5, 3.0) and "one seed" in finding.charts[0].settings["caption"]


def test_dense_networks_read_images_as_rows():
    data, spec = match_to_data(reszoo.spec("residual_mlp18"), DIGITS)
    assert spec.input_shape == (64,) and data.shape == (64,) and len(data.test) == len(DIGITS.test)


def test_results_have_short_representations():
    settings = {"shallow": 1, "width_multiplier": 1 / 16, "steps": 2, "seeds": (0,), "measure": (), "against": ()}
    comparison = reszoo.compare("residual_mlp18", DIGITS, depths=2, **settings)
    evidence = reszoo.evidence(DIGITS, depths=(4,), claims=["gradient flow"])
    results = [comparison, comparison.gaps[0], comparison.runs[0][1], comparison.budget, comparison.contestants[0]]
    for result in (*results, evidence, evidence.findings[0], evidence.findings[0].claim):
        assert len(repr(result)) < 160, repr(result)
    assert "residual" in comparison._repr_html_() and "gradient flow" in evidence._repr_html_()
