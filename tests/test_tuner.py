"""Budgets before building, and keras-tuner on both sides: its tuners over our spaces, its questions to Optuna."""

import itertools

import keras_tuner
import numpy as np
import pytest
from conftest import refused

import reszoo
from reszoo.tuning.budget import Budget, Feasible

TINY = reszoo.Space(
    name="tiny",
    network="resnet20_cifar",
    changes={"input_shape": (8, 8, 1), "classes": 3},
    size={"depth": 1, "widths": (2, 4, 6, 8)},
    net={"shortcut": ("project", "none"), "drop_path": {"values": (0.0, 0.1), "when": {"shortcut": ("project",)}}},
    recipe={"learning_rate.peak": (0.01, 0.1)},
)


def half_of(space):
    """A budget that half of the draws fit."""
    params = sorted(space.cost(point).params for point in itertools.islice(space.sample(seed=5), 1000))
    return {"params": params[500]}


def test_draws_are_within_budget_and_follow_the_seed():
    feasible = Feasible(TINY, Budget(**half_of(TINY)))
    assert feasible.fraction() == pytest.approx(0.5, abs=0.05)
    points = [feasible.draw(seed=seed) for seed in range(50)]
    assert all(TINY.cost(point).params <= feasible.budget.params for point in points)
    assert points == [feasible.draw(seed=seed) for seed in range(50)]
    assert len({tuple(point.items()) for point in points}) > 20


def test_a_point_within_budget_stays_and_another_is_drawn_again_always_the_same():
    feasible = Feasible(TINY, Budget(**half_of(TINY)))
    for point in itertools.islice(TINY.sample(seed=1), 100):
        made = feasible.redraw(point)
        assert feasible.has(made)
        assert made == feasible.redraw(point) == feasible.redraw(made)
        assert (made == point) == feasible.has(point)
        assert made["learning_rate.peak"] == point["learning_rate.peak"], "what costs nothing stays"


@pytest.mark.parametrize("name", ["digits_small", "stages_cifar", "compound_cifar"])
def test_the_least_cost_is_the_least(name):
    space = reszoo.space(name)
    least = Feasible(space, Budget(params=1)).least()
    assert all(space.cost(point).params >= least.params for point in itertools.islice(space.sample(seed=3), 3000))


def test_an_empty_budget_is_said_with_the_least_cost():
    least = Feasible(TINY, Budget(params=1)).least().params
    with refused(["budget on tiny", "params of at most 10", f"at least {least:,} params, the least cost"]):
        Feasible(TINY, Budget(params=10)).fraction()
    with refused(["budget on tiny", "params", "macs"]):
        reszoo.HyperResNet(TINY, budget={"params": 10, "macs": 10})
    with refused(["budget", "did you mean 'params'"]):
        reszoo.HyperResNet(TINY, budget={"param": 10})


def test_a_measured_limit_is_asked_only_of_what_fits_the_rest():
    asked = []

    def measure(spec):
        asked.append(spec)
        return spec.stages[0].width / 1000

    feasible = Feasible(TINY, Budget(latency=0.005, **half_of(TINY)), measure=measure)
    points = [feasible.draw(seed=seed) for seed in range(30)]
    assert all(point["stage1.width"] <= 5 for point in points)
    assert all(reszoo.cost(spec).params <= feasible.budget.params for spec in asked)
    with refused(["budget.latency"]):
        Feasible(TINY, Budget(latency=1.0))


class Counted(reszoo.HyperResNet):
    """Its training is one number, so that a whole schedule runs in a test."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.fits = []

    def fit(self, hp, model, *arguments, callbacks=(), **named):
        self.fits.append((named.get("epochs", 1), model.count_params(), dict(hp.values)))
        score = 1 / model.count_params()
        for callback in callbacks:
            callback.set_model(model)
            callback.on_epoch_end(0, {"val_accuracy": score})
        return {"val_accuracy": score}


def tuner_of(kind, hypermodel, folder, **settings):
    return kind(hypermodel, objective="val_accuracy", directory=folder, project_name="t", seed=1, **settings)


@pytest.mark.slow
def test_hyperband_keeps_its_whole_schedule(tmp_path):
    """facts: 70 trials for max_epochs=27, 9 of them at the last rung; rejecting at training time left 6 or none."""
    hypermodel = Counted(TINY, budget=half_of(TINY))
    tuner = tuner_of(keras_tuner.Hyperband, hypermodel, tmp_path, max_epochs=27)
    tuner.search(verbose=0)
    trials = tuner.oracle.trials.values()
    assert len(trials) == len(hypermodel.fits) == 70
    assert {trial.status for trial in trials} == {"COMPLETED"}
    assert sum(epochs == 27 for epochs, _, _ in hypermodel.fits) == 9
    for trial in trials:
        point = {name: trial.hyperparameters.values[name] for name in TINY.axes if name in trial.hyperparameters.values}
        assert TINY.cost(point).params <= hypermodel.feasible.budget.params, "the trial's own values are those built"


@pytest.mark.parametrize("kind", ["RandomSearch", "BayesianOptimization"])
def test_no_tuner_is_handed_a_network_over_budget(tmp_path, kind):
    hypermodel = Counted(TINY, budget=half_of(TINY))
    tuner = tuner_of(getattr(keras_tuner, kind), hypermodel, tmp_path, max_trials=8)
    tuner.search(verbose=0)
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED"] * 8
    for trial in tuner.oracle.trials.values():
        built = tuner.hypermodel.build(trial.hyperparameters)
        assert built.count_params() in {params for _, params, _ in hypermodel.fits}
        assert reszoo.cost(reszoo.spec_of(built)).params <= hypermodel.feasible.budget.params


def test_a_tuner_trains_and_gives_back_its_best_model(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(48, 8, 8, 1)).astype("float32"), random.integers(0, 3, 48)
    tuner = tuner_of(keras_tuner.RandomSearch, reszoo.HyperResNet(TINY, "fast"), tmp_path, max_trials=2)
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    best, trial = tuner.get_best_models()[0], tuner.oracle.get_best_trials()[0]
    accuracy = (best.predict(x, verbose=0).argmax(axis=1) == y).mean()
    assert accuracy == pytest.approx(trial.score)
