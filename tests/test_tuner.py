"""Budgets are checked before building; keras-tuner's tuners search our spaces."""

import gc
import itertools

import keras
import keras_tuner
import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.training.train import fitting_spec
from reszoo.tuning import hypermodel
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.hypermodel import with_rows

TINY = reszoo.Space(
    name="tiny",
    network="resnet20_cifar",
    changes={"input_shape": (8, 8, 1), "classes": 3},
    size={"depth": 1, "widths": (2, 4, 6, 8)},
    net={"shortcut": ("project", "none"), "drop_path": {"values": (0.0, 0.1), "when": {"shortcut": ("project",)}}},
    recipe={"learning_rate.peak": (0.01, 0.1)},
)


def half_of(space):
    """A budget that fits half of the random points."""
    params = sorted(space.cost(point).params for point in itertools.islice(space.sample(seed=5), 1000))
    return {"params": params[500]}


def test_random_points_are_within_budget_and_reproducible():
    feasible = Feasible(TINY, Budget(**half_of(TINY)))
    assert feasible.fraction() == pytest.approx(0.5, abs=0.05)
    points = [feasible.draw(seed=seed) for seed in range(50)]
    assert all(TINY.cost(point).params <= feasible.budget.params for point in points)
    assert points == [feasible.draw(seed=seed) for seed in range(50)]
    assert len({tuple(point.items()) for point in points}) > 20


def test_redraw_keeps_feasible_points_and_replaces_others_deterministically():
    feasible = Feasible(TINY, Budget(**half_of(TINY)))
    for point in itertools.islice(TINY.sample(seed=1), 100):
        other = feasible.redraw(point)
        assert feasible.has(other)
        assert other == feasible.redraw(point) == feasible.redraw(other)
        assert (other == point) == feasible.has(point)
        assert other["learning_rate.peak"] == point["learning_rate.peak"], "axes without cost keep their values"


@pytest.mark.parametrize("name", ["digits_small", "stages_cifar", "compound_cifar"])
def test_least_cost_is_a_lower_bound(name):
    space = reszoo.space(name)
    least = Feasible(space, Budget(params=1)).least()
    assert all(space.cost(point).params >= least.params for point in itertools.islice(space.sample(seed=3), 3000))


def test_budget_without_networks_names_the_least_cost():
    least = Feasible(TINY, Budget(params=1)).least().params
    with refused(["budget on tiny", "params of at most 10", f"at least {least:,} params, the least cost"]):
        Feasible(TINY, Budget(params=10)).check_any()
    with refused(["budget on tiny", "params", "macs"]):
        reszoo.HyperResNet(TINY, budget={"params": 10, "macs": 10})
    with refused(["budget", "did you mean 'params'"]):
        reszoo.HyperResNet(TINY, budget={"param": 10})


def test_latency_is_measured_only_within_the_other_limits():
    specs = []

    def measure(spec):
        specs.append(spec)
        return spec.stages[0].width / 1000

    feasible = Feasible(TINY, Budget(latency=0.005, **half_of(TINY)), measure=measure)
    points = [feasible.draw(seed=seed) for seed in range(30)]
    assert all(point["stage1.width"] <= 5 for point in points)
    assert all(reszoo.cost(spec).params <= feasible.budget.params for spec in specs)
    with refused(["budget.latency"]):
        Feasible(TINY, Budget(latency=1.0))
    few = reszoo.space(TINY, size={"widths": {"values": [4]}}, recipe={"learning_rate.peak": {"values": [0.1]}})
    with refused(["budget on tiny", "at most 1e-09 s", "at least 0.004 s, the least that was measured"]):
        Feasible(few, Budget(latency=1e-9), measure=measure).draw(seed=0)


class SimulatedTraining(reszoo.HyperResNet):
    """Replaces training by one number, so that a full schedule runs in a test."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.fits = []

    def fit(self, hp, model, *arguments, callbacks=(), **options):
        self.fits.append((options.get("epochs", 1), model.count_params(), dict(hp.values)))
        score = 1 / model.count_params()
        for callback in callbacks:
            callback.set_model(model)
            callback.on_epoch_end(0, {"val_accuracy": score})
        return {"val_accuracy": score}


def tuner_of(kind, hypermodel, folder, **settings):
    return kind(hypermodel, objective="val_accuracy", directory=folder, project_name="t", seed=1, **settings)


@pytest.fixture(autouse=True)
def quick_collections():
    """keras-tuner collects garbage twice a trial, among all that earlier tests have left."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def specs(monkeypatch):
    """The networks that are built; what stands for them is one small layer, because building them takes minutes."""
    built = []

    def create(spec, *, weights):
        built.append(spec)
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    monkeypatch.setattr(hypermodel, "create", create)
    monkeypatch.setattr(hypermodel, "compile_for", lambda model, recipe, **settings: model.compile())
    return built


def test_hyperband_keeps_its_full_schedule(tmp_path, specs):
    """facts: 70 trials for max_epochs=27, 9 of them at the last rung; rejecting at training time left 6 or none."""
    simulated = SimulatedTraining(TINY, budget=half_of(TINY))
    tuner = tuner_of(keras_tuner.Hyperband, simulated, tmp_path, max_epochs=27)
    tuner.search(verbose=0)
    trials = tuner.oracle.trials.values()
    assert len(trials) == len(simulated.fits) == 70
    assert {trial.status for trial in trials} == {"COMPLETED"}
    assert sum(epochs == 27 for epochs, _, _ in simulated.fits) == 9
    assert all(reszoo.cost(spec).params <= simulated.feasible.budget.params for spec in specs)
    for trial in trials:
        point = TINY.ask(trial.hyperparameters)
        assert TINY.spec(point) in specs, "the hyperparameters of the trial are those that were built"


@pytest.mark.parametrize("kind", ["RandomSearch", "BayesianOptimization"])
def test_tuners_never_build_a_network_over_budget(tmp_path, kind):
    simulated = SimulatedTraining(TINY, budget=half_of(TINY))
    tuner = tuner_of(getattr(keras_tuner, kind), simulated, tmp_path, max_trials=8)
    tuner.search(verbose=0)
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED"] * 8
    for trial in tuner.oracle.trials.values():
        built = tuner.hypermodel.build(trial.hyperparameters)
        assert built.count_params() in {params for _, params, _ in simulated.fits}
        assert reszoo.cost(reszoo.spec_of(built)).params <= simulated.feasible.budget.params


def test_tuner_trains_and_returns_its_best_model(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(48, 8, 8, 1)).astype("float32"), random.integers(0, 3, 48)
    tuner = tuner_of(keras_tuner.RandomSearch, reszoo.HyperResNet(TINY, "fast"), tmp_path, max_trials=2)
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    best, trial = tuner.get_best_models()[0], tuner.oracle.get_best_trials()[0]
    accuracy = (best.predict(x, verbose=0).argmax(axis=1) == y).mean()
    assert accuracy == pytest.approx(trial.score)


def _forms():
    random = np.random.default_rng(0)
    y = np.arange(24) % 3
    x = random.normal(size=(24, 8, 8, 1)).astype("float32")
    return x, y


class Batches(keras.utils.PyDataset):
    """Two batches of class numbers."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        x, y = _forms()
        return x[12 * index : 12 * index + 12], y[12 * index : 12 * index + 12, None]


FORMS = {
    "numbers": lambda x, y: (x, y),
    "column": lambda x, y: (x, y[:, None]),
    "floats": lambda x, y: (x, y.astype("float32")),
    "list": lambda x, y: (x, y.tolist()),
    "words": lambda x, y: (x, np.array(["ant", "bee", "cat"])[y]),
    "booleans": lambda x, y: (x, y > 0),
    "from 1": lambda x, y: (x, y + 1),
    "one-hot": lambda x, y: (x, np.eye(3)[y]),
    "stream of numbers": lambda x, y: (dataset(x, y), None),
    "stream of columns": lambda x, y: (dataset(x, y[:, None].astype("uint8")), None),
    "stream of rows": lambda x, y: (dataset(x, np.eye(3)[y]), None),
    "PyDataset": lambda x, y: (Batches(), None),
}


def dataset(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


@pytest.mark.parametrize("form", FORMS)
def test_tuners_take_labels_of_every_form(form):
    """Training and validation have the same one-hot rows, whatever the form; a part may lack a class."""
    x, y = _forms()
    source, labels = FORMS[form](x, y)
    held = FORMS[form](x[1:2], y[1:2]) if labels is not None else (source, None)
    inputs, rows, validation = with_rows(source, labels, held if labels is not None else source, 3)
    if rows is None:
        batches = [inputs[index] for index in range(len(inputs))] if form == "PyDataset" else [*inputs]
        rows = np.concatenate([np.asarray(batch[1]) for batch in batches])
        assert validation is not None
    else:
        assert np.asarray(validation[1]).tolist() == [np.asarray(rows).tolist()[1]]
    expected = np.eye(3)[(y > 0).astype(int) if form == "booleans" else y]
    np.testing.assert_array_equal(np.asarray(rows), expected)


def test_class_numbers_of_a_part_without_the_first_class_stay():
    x, y = _forms()
    _, rows, (_, held) = with_rows(x[y > 0], y[y > 0], (x, np.eye(3)[y]), 3)
    assert rows.argmax(axis=1).tolist() == y[y > 0].tolist() and held.argmax(axis=1).tolist() == y.tolist()


REFUSED = {
    "five classes": (lambda x, y: (x, np.arange(24) % 5), ["5 classes", "at most 3", "space.fitted(classes=5)"]),
    "rows of four": (lambda x, y: (x, np.eye(4)[y]), ["shape (24, 4)", "(n, 3)"]),
    "fractions": (lambda x, y: (x, y + 0.5), ["0.5"]),
    "stream of words": (lambda x, y: (dataset(x, np.array(["a", "b", "c"])[y]), None), ["words", "StringLookup"]),
    "single examples": (lambda x, y: (dataset(x, y).unbatch(), None), ["single examples", ".batch(32)"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_fit_no_network_end_the_tuner_at_once(case):
    source, words = REFUSED[case]
    with pytest.raises(keras_tuner.errors.FatalError) as caught:
        with_rows(*source(*_forms()), None, 3)
    assert isinstance(caught.value, reszoo.ReszooError)
    for text in words:
        assert text in str(caught.value)


def test_loss_decides_the_head_in_search_and_tuners_as_in_train():
    data = reszoo.open_data((_forms()[0], _forms()[1]))
    for loss, activation in (("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"), ("focal", "softmax")):
        recipe = reszoo.recipe("fast", loss=loss)
        trained = fitting_spec("resnet20_cifar", data, recipe, {"depths": 1})
        (point,) = itertools.islice(TINY.sample(seed=0), 1)
        assert TINY.candidate(point, recipe).spec.head.activation == trained.head.activation == activation
    space = reszoo.space(TINY, recipe={"loss": {"values": ["cross_entropy", "binary_cross_entropy"]}})
    heads = {
        point["loss"]: space.candidate(point).spec.head.activation for point in itertools.islice(space.sample(), 50)
    }
    assert heads == {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
    hypermodel = reszoo.HyperResNet(TINY, reszoo.recipe("fast", loss="binary_cross_entropy"))
    assert hypermodel.build(keras_tuner.HyperParameters()).layers[-1].activation.__name__ == "sigmoid"
