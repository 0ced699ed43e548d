"""Studies: killed, joined, damaged or changed; within budget, nothing trained twice."""

import concurrent.futures
import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import keras
import numpy as np
import optuna
import pretend
import pytest
import yaml
from conftest import refused, shown
from pretend import DATA, SETTINGS, SPACE, SimulatedSearch, SimulatedWorker, results, search
from typer.testing import CliRunner

import reszoo
import reszoo.cli
from reszoo.cli.screen import app
from reszoo.training.defaults import fitted
from reszoo.tuning import accelerators
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.halving import Halving
from reszoo.tuning.job import Job, Outcome
from reszoo.tuning.proposals import PROCESS, derive_seed, process_identity
from reszoo.tuning.records import TrialEnd, TrialFailed
from reszoo.tuning.results import Trial, front, fronts, numbers_to_keep
from reszoo.tuning.storage import fail_and_requeue, quiet as quietly, requeue_orphans
from reszoo.tuning.worker_main import damaged_file, resident_memory, start_record
from reszoo.tuning.worker_process import Latencies, Worker, check_callbacks


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(SimulatedWorker, "at", {})
    monkeypatch.setattr(SimulatedWorker, "log", None)


def process(folder, trials, *deadly, storage="-"):
    command = [sys.executable, pretend.__file__, str(folder), str(trials), storage, *deadly]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(child):
    output, errors = child.communicate(timeout=120)
    return child.returncode, output, errors


# Results of a study.


def test_study_stays_within_budget(tmp_path):
    study = search(tmp_path / "s")
    trials = study.trials
    assert [trial.number for trial in trials] == [*range(8)]
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert {"complete", "pruned"} == {trial.state for trial in trials}, "halving ends some trials, not all"
    assert 0.1 < study.fraction < 0.9
    for trial in trials:
        cost = reszoo.cost(trial.spec)
        assert (trial.costs["params"], trial.costs["macs"]) == (cost.params, cost.macs)
        assert cost.params <= 2500
        assert trial.score == max(row["val_accuracy"] for row in trial.history)
    assert len({json.dumps(trial.point) for trial in trials}) == 8
    opened = reszoo.open_study(tmp_path / "s")
    assert opened.rows() == study.rows()
    assert len(opened.engine.trials) == 8, "no trial is wasted on networks over budget"


# state, score, cost of each trial; numbers on the front
FRONTS = [
    (
        [("complete", 0.5, 1), ("complete", 0.5, 2), ("complete", 0.7, 2), ("complete", 0.6, 3), ("complete", 0.9, 4)],
        [0, 2, 4],
    ),
    # Nobody knows what a pruned trial would have reached; one that its time budget ended has what the budget allows.
    ([("pruned", 0.9, 10), ("complete", 0.8, 20)], [1]),
    ([("pruned", 0.9, 10), ("pruned", 0.8, 20)], []),
    ([("timed_out", 0.7, 10), ("complete", 0.8, 20)], [0, 1]),
    ([("failed", 0.9, 1), ("diverged", 0.9, 1), ("running", 0.9, 1), ("damaged", 0.9, 1), ("complete", 0.1, 5)], [4]),
    ([("complete", None, 1)], []),
    ([("complete", 0.0, 1), ("complete", 0.0, 1)], [0]),
    ([], []),
]


@pytest.mark.parametrize(("trials", "expected"), FRONTS)
def test_one_rule_for_every_front(trials, expected):
    rows = [
        Trial(number, state, {}, None, score, dict.fromkeys(("params", "macs"), cost), (), Path())
        for number, (state, score, cost) in enumerate(trials)
    ]
    assert [trial.number for trial in front(rows, "macs")] == expected
    assert {cost: [trial.number for trial in optimal] for cost, optimal in fronts(rows).items()} == (
        {"params": expected, "macs": expected}
        if any(score is not None and state in ("complete", "timed_out") for state, score, _ in trials)
        else {}
    )
    assert {*expected} <= numbers_to_keep(rows)


def test_short_repr_and_notebook_tables(tmp_path):
    study = search(tmp_path / "s", trials=3)
    objects = (study, study.trials[0], study.best(), study.space, study.page(), study.setup.feasible.budget)
    for result in objects:
        assert len(repr(result).replace(str(tmp_path), "")) < 160 and "\n" not in repr(result)
        assert result._repr_html_().startswith("<table>")
    assert f"best score={study.best().score:.4f}" in repr(study) and "resnet20_cifar" in repr(study.space)
    assert repr(study.setup.feasible.budget) == "Budget(params=2500)"
    assert all(f"{trial.score:.4f}" in study._repr_html_() for trial in study.trials if trial.is_ended)


ENDINGS = [
    (TrialEnd("complete", (0.5, 3)), (0.5, 3)),
    (TrialEnd("pruned"), optuna.TrialPruned),
    (TrialEnd("failed"), TrialFailed),
    (TrialEnd("surplus"), TrialFailed),
    (TrialEnd("interrupted"), TrialFailed),
    (TrialEnd("exhausted"), TrialFailed),
]


@pytest.mark.parametrize(("end", "expected"), ENDINGS, ids=str)
def test_endings_for_optuna(end, expected):
    if end.ending == "complete":
        assert end.for_optuna() == expected
    else:
        with pytest.raises(expected):
            end.for_optuna()


def test_page_and_study_have_the_same_fronts(tmp_path):
    study = search(tmp_path / "s")
    page = study.write(tmp_path / "page").read_text()
    both = {trial.number for cost in ("params", "macs") for trial in study.pareto(cost)}
    marked = re.findall(r'<tr class="marked">.*?data-value="(\d+)"', page, re.DOTALL)
    assert {int(number) for number in marked} == both
    assert "finished trials that no other one beats" in page and "complete one" not in page


def test_optuna_is_silenced_only_during_our_calls(tmp_path, caplog, recwarn):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    before = [*warnings.filters]
    seen = []
    study = SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", **SETTINGS)
    study.search(trials=4, jobs=2, watch=lambda study: seen.append(optuna.logging.get_verbosity()))
    assert {*seen} == {optuna.logging.ERROR} and len(reszoo.open_study(tmp_path / "s").trials) == 4
    assert optuna.logging.get_verbosity() == optuna.logging.INFO and warnings.filters == before
    assert not caplog.records and not [*recwarn]
    optuna.create_study()
    assert "A new study created" in caplog.text
    with pytest.raises(KeyError), quietly:
        raise KeyError
    assert optuna.logging.get_verbosity() == optuna.logging.INFO and warnings.filters == before


def test_silencing_optuna_from_several_threads(tmp_path):
    """The first to enter leaves first: the other must not restore the silenced settings."""
    before = (optuna.logging.get_verbosity(), [*warnings.filters])
    first, second = threading.Event(), threading.Event()

    def call(enters, leaves):
        with quietly:
            enters.set()
            leaves.wait()

    ends = [threading.Event(), threading.Event()]
    threads = [threading.Thread(target=call, args=pair) for pair in zip((first, second), ends, strict=True)]
    for thread, entered in zip(threads, (first, second), strict=True):
        thread.start()
        entered.wait()
    for thread, end in zip(threads, ends, strict=True):
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
        end.set()
        thread.join()
    assert (optuna.logging.get_verbosity(), warnings.filters) == before


DAMAGE = [
    ("state-000002/model.weights.h5", lambda content: content[:0], "state-000002"),
    ("state-000002/model.weights.h5", lambda content: content[: len(content) // 2], "state-000002"),
    ("state-000002/model.weights.h5", lambda content: content[:-1], "state-000002"),
    ("state-000002/model.weights.h5", lambda content: bytes(len(content)), "state-000002"),
    ("state-000002/model.weights.h5", lambda content: b"<html>" + content, "state-000002"),
    ("state-000002/model.weights.h5", None, "state-000002"),
    ("state-000002/history.json", lambda content: content[:-1], "state-000002"),
    ("run.json", lambda content: content[:-1], "run.json"),
    ("run.json", None, "run.json"),
    ("best.keras", None, "best.keras"),
    ("history.jsonl", None, None),
]


@pytest.mark.parametrize(("file", "change", "words"), DAMAGE, ids=shown)
def test_damaged_run_files_are_detected_without_libhdf5(tmp_path, monkeypatch, file, change, words):
    import h5py
    import keras

    state = tmp_path / "run" / "state-000002"
    state.mkdir(parents=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 4)), verbose=0)
    model.save_weights(state / "model.weights.h5")
    for path in (
        state / "history.json",
        tmp_path / "run/run.json",
        tmp_path / "run/best.keras",
        tmp_path / "run/history.jsonl",
    ):
        path.write_text("{}")
    monkeypatch.setattr(h5py, "File", None)
    monkeypatch.setattr(h5py.h5f, "open", None)
    assert damaged_file(tmp_path / "run") is None
    path = tmp_path / "run" / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    assert damaged_file(tmp_path / "run") == (words and f"run/{words}")


def test_pareto_front_and_best_trial(tmp_path):
    study = search(tmp_path / "s")
    front = study.pareto("params")
    complete = [trial for trial in study.trials if trial.state == "complete"]
    assert 1 < len(complete) < 8
    for trial in complete:
        beaten = [f for f in front if f.costs["params"] <= trial.costs["params"] and f.score >= trial.score]
        assert beaten, "no trial dominates the front"
    scores, params = [t.score for t in front], [t.costs["params"] for t in front]
    assert scores == sorted(scores) and params == sorted(params)
    limit = sorted(trial.costs["params"] for trial in complete)[-2]
    within = [trial for trial in complete if trial.costs["params"] <= limit]
    assert study.best(max_params=limit).score == max(trial.score for trial in within)
    assert study.best().score == max(trial.score for trial in complete)
    assert study.get_best_hyperparameters(2)[0] == study.best().point
    with refused(["best", "max_params", "did you mean 'max_macs'"]):
        study.best(max_mac=3)
    with refused(["no finished trial within"]):
        study.best(max_params=1)
    with refused(["pareto", "did you mean 'macs'"]):
        study.pareto("mac")
    with refused(["latency", "without it"]):
        study.pareto("latency")


def test_weights_of_fronts_and_best_trials_are_kept(tmp_path):
    study = search(tmp_path / "s")
    keep = {trial.number for cost in ("params", "macs", "activations", "depth") for trial in study.pareto(cost)}
    complete = [trial for trial in study.trials if trial.state == "complete"]
    keep |= {trial.number for trial in sorted(complete, key=lambda trial: -trial.score)[:3]}
    assert {trial.number for trial in study.trials if trial.weights.exists()} == keep
    assert len(keep) < 8
    deleted = next(trial for trial in study.trials if trial.number not in keep)
    assert deleted.history
    with refused([f"trial {deleted.number}", "not kept"]):
        deleted.model()


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random", "nsga2", "grid"])
def test_same_seed_gives_same_trials_without_duplicates(tmp_path, sampler):
    space = (
        SPACE
        if sampler != "grid"
        else reszoo.space(
            SPACE, recipe={"learning_rate.peak": {"values": [0.1], "low": None, "high": None, "scale": "linear"}}
        )
    )
    one = search(tmp_path / "one", sampler=sampler, space=space, trials=12)
    two = search(tmp_path / "two", sampler=sampler, space=space, trials=12)
    assert results(one) == results(two)
    assert len({json.dumps(trial.point) for trial in one.trials}) == 12
    if sampler != "grid":
        other = search(tmp_path / "other", sampler=sampler, space=space, trials=12, seed=1)
        assert results(other) != results(one)


def test_derived_seeds_are_distinct():
    assert len({derive_seed(seed, "trial", place) for seed in range(20) for place in range(20)}) == 400


def test_search_ends_when_a_small_space_is_exhausted(tmp_path):
    """Thirty trials of a space with four networks."""
    space = reszoo.Space(name="few", network="resnet20_cifar", size={"depth": (1, 2), "width": (0.25, 0.5)})
    study = search(tmp_path / "s", space=space, trials=30, budget={})
    assert len(study.trials) == 4


@pytest.mark.slow
def test_several_objectives(tmp_path):
    study = search(tmp_path / "s", objective=["accuracy", "params"], sampler="nsga2", trials=24)
    assert {trial.state for trial in study.trials} == {"complete"}
    assert {trial.number for trial in study.pareto("params")} <= {trial.number for trial in study.engine.best_trials}


def test_successive_halving():
    """A run continues while fewer than half of all runs so far were better at the same epoch."""
    study = optuna.create_study(direction="maximize", pruner=Halving(epochs=18))
    ended_at = partial(last_epoch, study)
    # The first three are trained to their end; then the best two of four and five, the best three of six and seven.
    assert [ended_at(value) for value in (0.5, 0.4, 0.6, 0.3, 0.7, 0.65, 0.55)] == [18, 18, 18, 2, 18, 18, 2]
    # Four of eight may continue, and still four after half of their epochs: ended runs count as worse.
    assert ended_at(0.55) == 18
    assert ended_at(0.62, 0.62, 0.62, 0.62, 0.2) == 9
    assert {epochs: Halving(epochs=epochs).rungs for epochs in (1, 4, 6, 18, 90)} == {
        1: {1},
        4: {2},
        6: {3},
        18: {2, 4, 9},
        90: {11, 22, 45},
    }


def last_epoch(study, *values):
    """The epoch after which a run ends; its values, of which the last one is repeated."""
    trial = study.ask()
    for epoch in range(1, 19):
        trial.report(value := values[min(epoch, len(values)) - 1], epoch)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch
    study.tell(trial, value)
    return epoch


@pytest.mark.parametrize(("ends", "last"), [((0.5, 0.6, 0.7), 2), ((0.7, 0.6, 0.5), 18), ((0.5, 0.5, 0.5), 18)])
def test_nothing_is_pruned_where_early_epochs_do_not_tell_who_wins(ends, last):
    """Three runs that reach 0.1, 0.2 and 0.3 in nine epochs, and end in the same order, the opposite one, or alike."""
    study = optuna.create_study(direction="maximize", pruner=Halving(epochs=18))
    for early, end in zip((0.1, 0.2, 0.3), ends, strict=True):
        assert last_epoch(study, *[early] * 9, end) == 18
    assert last_epoch(study, 0.05) == last


# Situations beside a study.


def test_a_measure_that_is_missing_fails_the_trial_with_a_sentence(tmp_path):
    """A callback may remove it from the logs; three such trials stop the search, which is intact."""
    with refused(["no val_auc, an objective of the study", "3 trials in a row"]):
        search(tmp_path / "s", objective="auc", trials=4)
    study = reszoo.open_study(tmp_path / "s")
    assert {trial.state for trial in study.trials} == {"failed"} and study.rows()[0]["curve"]


def test_studies_of_other_programs_are_left_alone(tmp_path):
    """One of the same name in the database, and a trial of the user's own in ours."""
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    theirs = optuna.create_study(storage=url, study_name="reszoo")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    for call in (lambda: search(tmp_path / "s", storage=url), lambda: reszoo.open_study(tmp_path, storage=url)):
        with refused(["'reszoo'", "not of reszoo.search", "name="]):
            call()
    assert len(search(tmp_path / "s", storage=url, name="mine", trials=2).trials) == 2
    study = search(tmp_path / "own", trials=2)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.engine.ask()
    trial.suggest_float("x", 0, 1)
    study.engine.tell(trial, 0.5)
    assert [trial.number for trial in search(tmp_path / "own", trials=4).trials] == [0, 1, 2, 3]


def test_processes_of_another_machine_of_the_same_name_are_not_dead(tmp_path):
    """Containers often have one name and the same process ids: only signs of life tell of the other one."""
    study = search(tmp_path / "s", trials=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial, dead, young = study.engine.ask(), study.engine.ask(), study.engine.ask()
    host, _, _, here = process_identity()
    trial.set_user_attr(PROCESS, [host, 2**22, 7, f"another boot than {here}"])
    dead.set_user_attr(PROCESS, [host, 2**22, 7, here])
    requeue_orphans(study.engine)
    # The third one has begun just now: its thread has not recorded its process yet.
    states = [study.engine.trials[each.number].state.name for each in (trial, dead, young)]
    assert states == ["RUNNING", "FAIL", "RUNNING"]


@pytest.mark.parametrize("point", [None, 3, "abc", [("shortcut", "none")]], ids=str)
def test_points_that_are_no_mapping_are_refused(tmp_path, point):
    with refused(["point", "by name"]):
        SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", **SETTINGS).enqueue(point)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": 3}, ["budget", "limits by name"]),
        ({"objective": 3}, ["objective", "list of names"]),
        ({"objective": []}, ["objective", "a measure"]),
        ({"pruning": False}, ["pruning", "False", "none"]),
        ({"storage": "nope"}, ["storage", "nope", "a database"]),
        ({"callbacks": 3}, ["callbacks", "a list"]),
        ({"callbacks": [1]}, ["callbacks", "1", "a Keras callback"]),
        ({"retries": -1}, ["retries", "at least 0"]),
        ({"heartbeat": 0}, ["heartbeat", "at least 1"]),
        ({"stall": -1}, ["stall", "above 0"]),
        ({"heartbeat": 5, "grace": 5}, ["grace", "at least 6"]),
    ],
    ids=str,
)
def test_settings_of_another_kind_are_refused(tmp_path, settings, words):
    with refused(words):
        SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", **SETTINGS | settings)


def test_numbers_of_numpy_are_taken(tmp_path):
    study = search(tmp_path / "s", trials=np.int64(1), seed=np.int64(3), folds=np.int32(2))
    assert (study.settings["seed"], study.settings["folds"], len(study.trials)) == (3, 2, 1)


def test_default_recipe_follows_the_number_of_examples_as_in_train(tmp_path):
    data = (np.zeros((60, 8, 8, 1), "uint8"), np.arange(60) % 4)
    kept = {name: value for name, value in SETTINGS.items() if name != "epochs"}
    study = SimulatedSearch(SPACE, data, folder=tmp_path / "s", **kept)
    expected, line = fitted("fast_symbols", study.settings["data"]["train"], {})
    assert study.setup.recipe == expected and study.setup.note == line
    assert SimulatedSearch(SPACE, data, folder=tmp_path / "n", recipe="fast_symbols", **kept).setup.note == ""
    # A study of an earlier version keeps the recipe that it began with.
    before = study.settings | {"recipe": reszoo.recipe("fast_symbols").model_dump(mode="json")}
    study.engine.set_user_attr("plan", before)
    assert SimulatedSearch(SPACE, data, folder=tmp_path / "s", **kept).setup.recipe == reszoo.recipe("fast_symbols")


def test_rare_networks_within_budget_are_reached_from_random_ones():
    """None of 2,000 draws is within budget; a draw used to try 200,000 and give up."""
    widths = {"low": 8, "high": 512, "step": 8}
    space = reszoo.Space(name="rare", network="resnet20_cifar", size={"depths": (*range(1, 60),), "widths": widths})
    rare = Feasible(space, Budget(params=9e3))
    assert rare.fraction() == 0
    points = [rare.draw(seed=seed) for seed in range(4)]
    assert all(map(rare.has, points)) and points[0] == rare.draw(seed=0)
    assert len({tuple(point.values()) for point in points}) > 1


# When things go wrong.


@pytest.mark.slow
@pytest.mark.parametrize("deadly", [["0003:2"], ["0000:1", "0003:2", "0007:2"]], ids=str)
def test_killed_study_resumes_with_identical_results(tmp_path, deadly):
    whole = results(search(tmp_path / "whole"))
    codes = [finish(process(tmp_path / "s", 8, *deadly))[0] for _ in deadly]
    assert codes == [-9] * len(deadly)
    code, output, errors = finish(process(tmp_path / "s", 8, *deadly))
    assert code == 0, errors[-2000:]
    assert [tuple(row) for row in json.loads(output)] == whole
    epochs = (tmp_path / "s.log").read_text().split("\n")[:-1]
    assert len(epochs) == len(set(epochs)), "no epoch is trained twice"


def test_more_trials_extend_a_study(tmp_path):
    search(tmp_path / "s", trials=3)
    assert results(search(tmp_path / "s", trials=8)) == results(search(tmp_path / "whole", trials=8))


def test_second_process_joins_and_resumes_trials_of_a_killed_one(tmp_path):
    folder = tmp_path / "s"
    search(folder, trials=1)
    both = [process(folder, 12, "0004:2"), process(folder, 12, "0004:2")]
    codes = [finish(child)[0] for child in both]
    assert sorted(codes) in ([-9, 0], [0, 0])
    assert -9 in codes, "one process was killed in trial 4"
    study = reszoo.open_study(folder)
    assert [trial.number for trial in study.trials] == [*range(12)]
    assert {trial.state for trial in study.trials} <= {"complete", "pruned"}
    epochs = (tmp_path / "s.log").read_text().split("\n")[:-1]
    assert len(epochs) == len(set(epochs)), "no epoch is trained twice"
    assert len({json.dumps(trial.point) for trial in study.trials}) == 12


CHANGED = [
    ({"seed": 1}, ["seed", "got 1", "0, as in the study"]),
    ({"budget": {"params": 3000}}, ["budget.params", "3000"]),
    ({"objective": ["accuracy", "macs"]}, ["objective"]),
    ({"space": reszoo.space(SPACE, net={"shortcut": ("project", "pad")})}, ["space.net.shortcut"]),
    ({"data": (DATA[0] + 1, DATA[1])}, ["data."]),
    ({"epochs": 10}, ["recipe.epochs", "got 10"]),
    ({"sampler": "random"}, ["sampler", "random"]),
]


@pytest.mark.parametrize(("change", "words"), CHANGED, ids=lambda value: str(value)[:30])
def test_other_settings_are_refused_by_field(tmp_path, change, words):
    search(tmp_path / "s", trials=2)
    with refused(["study reszoo", *words, "another folder"]):
        search(tmp_path / "s", trials=3, **change)


class Locked(keras.callbacks.Callback):
    """A callback that cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


WRONG = [
    ({"sampler": "tpee"}, ["sampler", "did you mean 'tpe'"]),
    ({"pruning": "halve"}, ["pruning", "did you mean 'halving'"]),
    ({"objective": "rmse"}, ["objective", "'rmse' for classification", "accuracy"]),
    ({"objective": "macs"}, ["objective", "a measure"]),
    ({"objective": ["accuracy", "mac"]}, ["objective", "did you mean 'macs'"]),
    ({"objective": ["accuracy", "macs"], "pruning": "halving"}, ["pruning", "several objectives"]),
    ({"pruning": "asha"}, ["pruning", "did you mean 'halving'"]),
    ({"sampler": "hyperband"}, ["sampler", "pruning='halving'"]),
    ({"max_trials": 5}, ["max_trials", "did you mean 'trials'"]),
    ({"kfold": 5}, ["kfold", "did you mean 'folds'"]),
    ({"budget": {"flops": 1e6}}, ["flops", "did you mean 'macs'"]),
    ({"folds": 1}, ["folds", "at least 2"]),
    ({"seed": -1}, ["seed"]),
    ({"seed": "a"}, ["seed", "'a'"]),
    ({"validation": DATA, "data": reszoo.open_data(DATA)}, ["search.validation", "open_data(..., validation=)"]),
    ({"class_weight": {7: 2.0}}, ["class_weights", "'7'"]),
    ({"callbacks": (threading.Lock(),)}, ["callbacks", "lock", "a Keras callback"]),
    ({"callbacks": (Locked(),)}, ["callbacks", "Locked, which cannot be sent", "on_train_begin"]),
    ({"trials": "5"}, ["trials", "'5'"]),
    ({"trials": 0}, ["trials", "at least 1"]),
    ({"budget": {"params": 3}}, ["budget on simulated", "the least cost in the space"]),
    ({"storage": "postgresql+psycopg://nobody@127.0.0.1:1/none"}, ["storage", "nobody@127.0.0.1"]),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_bad_input_is_refused_before_training(tmp_path, change, words):
    with refused(words):
        search(tmp_path / "s", **change)
    assert not (tmp_path / "s" / "trials").exists()


@pytest.mark.parametrize("change", [lambda file: file.write_bytes(file.read_bytes()[:20]), Path.unlink])
def test_lost_weights_cost_no_result_and_are_trained_again(tmp_path, change):
    study = search(tmp_path / "s")
    best, page = study.best(), study.page()
    change(best.weights)
    again = search(tmp_path / "s", trials=9)
    states = {trial.number: trial.state for trial in again.trials}
    assert [number for number, state in states.items() if state == "damaged"] == [best.number]
    assert len(states) == 9 and best.number in {trial.number for trial in again.pareto()}
    note = again.trials[best.number].note
    assert str(best.weights) in note and f"study.retrain({best.number})" in note
    with refused([f"trial {best.number}", "missing or truncated", f"study.retrain({best.number})"]):
        again.trials[best.number].model()
    restored = again.retrain(best)
    assert (restored.state, restored.score, restored.history) == ("complete", best.score, best.history)
    assert again.check() == {} and restored.weights.read_bytes() and len(page.pictures)
    opened = reszoo.open_study(tmp_path / "s")
    with refused(["retrain", "data in memory", "data=..."]):
        opened.retrain(best.number)
    with refused(["trial", "got 99"]):
        again.retrain(99)


def test_lost_weights_of_recorded_data_are_trained_again_by_one_call(tmp_path, monkeypatch):
    np.savez(tmp_path / "data.npz", x=DATA[0], y=DATA[1])
    best = search(tmp_path / "s", trials=2, data=tmp_path / "data.npz").best()
    best.weights.unlink()
    opened = reszoo.open_study(tmp_path / "s")
    monkeypatch.setattr(opened, "_worker", SimulatedWorker)
    assert opened.trials[best.number].state == "damaged"
    assert opened.retrain(best.number).history == best.history and best.weights.exists()


def test_machines_without_a_common_disk_agree(tmp_path):
    """One database, a folder for each machine: the same table, best and fronts; weights are where they were trained."""
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    machines = [SimulatedSearch(SPACE, DATA, folder=tmp_path / each, storage=storage, **SETTINGS) for each in "ab"]
    for trials, machine in zip((4, 8), machines, strict=True):
        machine.search(trials=trials)
    one, two = (reszoo.open_study(tmp_path / each, storage=storage) for each in "ab")
    assert one.rows() == two.rows() and {trial.state for trial in one.trials} == {"complete", "pruned"}
    assert one.best().number == two.best().number
    for cost in ("params", "macs"):
        assert [trial.number for trial in one.pareto(cost)] == [trial.number for trial in two.pareto(cost)]
    elsewhere = [trial for trial in one.pareto() if not (trial.folder / "best.keras").exists()]
    assert elsewhere and all(trial.weights.parent.is_relative_to(tmp_path / "b") for trial in elsewhere)
    # The other machine's disk cannot be reached.
    (tmp_path / "b").rename(tmp_path / "away")
    far = replace(elsewhere[0], host="other")
    with refused(["weights on other", str(tmp_path / "b"), f"study.retrain({far.number})"]):
        far.model()
    assert far.is_ended and far.state == "complete"
    again = machines[0].retrain(far)
    assert again.weights.exists() and again.weights.is_relative_to(tmp_path / "a")


def test_known_points_come_first_and_once(tmp_path):
    known = {"shortcut": "none", "learning_rate.peak": 0.123}
    known |= {f"stage{number}.{name}": value for number in (1, 2, 3) for name, value in (("depth", 1), ("width", 4))}
    preset = {**known, "shortcut": "project"}
    study = SimulatedSearch(reszoo.space(SPACE, presets=(preset,)), DATA, folder=tmp_path / "s", **SETTINGS)
    study.enqueue(known).enqueue(known)
    study.engine.enqueue_trial(known | {"learning_rate.peak": 0.2})
    study.search(trials=5)
    rates = [(trial.point["shortcut"], trial.point["learning_rate.peak"]) for trial in study.trials]
    assert rates[:3] == [("project", 0.123), ("none", 0.123), ("none", 0.2)] and len(rates) == 5
    study.enqueue(known).enqueue(known | {"learning_rate.peak": 0.3})
    assert len(study.search(trials=5).engine.trials) == 6, "it waits for more trials"
    assert study.search(trials=6).trials[5].point["learning_rate.peak"] == 0.3
    for point, words in (
        (known | {"stage1.width": 5}, ["point.stage1.width", "got 5", "2, 4, 6, 8"]),
        (known | {"shortcutt": 5}, ["point", "did you mean 'shortcut'"]),
        ({"shortcut": "none"}, ["point.stage1.depth", "got nothing"]),
        (known | {f"stage{number}.width": 8 for number in (1, 2, 3)}, ["point", "params", "at most 2,500"]),
    ):
        with refused(words):
            study.enqueue(point)
    study.engine.enqueue_trial(known | {"stage1.width": 5})
    with refused(["point.stage1.width", "got 5"]):
        study.search(trials=7)
    assert len(study.search(trials=7).trials) == 7


def test_space_of_one_network_is_tried_once(tmp_path):
    space = reszoo.Space(name="one", network="resnet20_cifar", size={"depth": (1,)})
    study = search(tmp_path / "s", space=space, trials=2, budget={})
    assert [trial.state for trial in study.trials] == ["complete"] and study.best().number == 0


def test_error_in_watch_costs_nothing(tmp_path):
    once = [1]

    def watch(study):
        if once and any(trial.number == 3 for trial in study.trials):
            once.clear()
            raise RuntimeError("my plot")

    study = SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", **SETTINGS)
    with pytest.warns(UserWarning, match="watch raised RuntimeError: my plot"):
        study.search(trials=8, watch=watch)
    assert not once and results(study) == results(search(tmp_path / "whole"))


def test_error_of_the_study_leaves_the_trial_to_be_resumed(tmp_path):
    def full(job):
        raise OSError(28, "No space left on device")

    SimulatedWorker.at[("0003", 2)] = full
    with refused([str(tmp_path / "s"), "No space left", "then rerun"]):
        search(tmp_path / "s")
    SimulatedWorker.at.clear()
    assert results(search(tmp_path / "s")) == results(search(tmp_path / "whole"))


def test_database_that_another_process_holds_is_one_sentence(tmp_path, monkeypatch):
    """Locked before a search, while a study is read, and in the middle of a trial; afterwards nothing is lost."""
    monkeypatch.setattr("reszoo.tuning.storage.LOCK_SECONDS", 0.2)
    file, words = tmp_path / "s" / "study.db", [str(tmp_path / "s"), "database is locked", "wait for the lock"]
    study, holder = search(tmp_path / "s", trials=3), sqlite3.connect(file, isolation_level=None)
    for kind, call in (
        ("IMMEDIATE", lambda: search(tmp_path / "s", trials=4)),
        ("EXCLUSIVE", lambda: reszoo.open_study(tmp_path / "s")),
        ("EXCLUSIVE", lambda: study.best()),
    ):
        holder.execute(f"BEGIN {kind}")
        with refused(words):
            call()
        holder.execute("ROLLBACK")
    holder.close()
    holders = []

    def hold(job):
        if not holders:
            holders.append(sqlite3.connect(file, isolation_level=None, check_same_thread=False))
            holders[0].execute("BEGIN IMMEDIATE")

    SimulatedWorker.at[("0003", 2)] = hold
    with refused(words):
        search(tmp_path / "s", trials=4)
    holders[0].close()
    assert results(search(tmp_path / "s", trials=4)) == results(search(tmp_path / "whole", trials=4))


def test_a_missed_sign_of_life_ends_nothing(tmp_path, monkeypatch):
    study = search(tmp_path / "s", trials=1)
    error = optuna.exceptions.StorageInternalError("database is locked")
    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", Mock(side_effect=error))
    study.storage.record_heartbeat(0)


def test_study_on_a_disk_that_cannot_be_written_names_the_remedy(tmp_path):
    study = search(tmp_path / "s", trials=2)
    (tmp_path / "file").write_text("")
    with refused([str(tmp_path / "file"), "free disk space"]):
        study.write(tmp_path / "file" / "page")
    (tmp_path / "s" / "trials").rename(tmp_path / "away")
    (tmp_path / "s" / "trials").write_text("")
    with refused([str(tmp_path / "s"), "free disk space"]):
        study.retrain(0)


def test_trial_that_another_process_took_is_dropped(tmp_path):
    """A process that was suspended: its trial was declared dead, and another one resumes it."""
    study = SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", **SETTINGS)

    def suspended(job):
        if not taken:
            (running,) = study.engine.get_trials(False, (optuna.trial.TrialState.RUNNING,))
            taken.append(running.number)
            fail_and_requeue(study.engine, running)

    taken = []
    SimulatedWorker.at[("0002", 2)] = suspended
    with pytest.warns(UserWarning, match="taken by another process"):
        study.search(trials=8)
    assert taken and results(study) == results(search(tmp_path / "whole"))


def test_validation_loss_that_is_no_number_has_diverged(tmp_path):
    def broken(job):
        rows = [{"epoch": epoch, "val_accuracy": 0.99, "val_loss": float("nan")} for epoch in (1, 2, 3, 4)]
        return Outcome("complete", rows)

    SimulatedWorker.at[("0002", 1)] = broken
    study = search(tmp_path / "s")
    lost = study.trials[2]
    assert (lost.state, lost.score) == ("diverged", None) and "val_loss nan after epoch 1" in lost.note
    assert f"learning_rate.peak {lost.recipe.learning_rate.peak:g}" in lost.note
    assert study.best().number != 2


def test_lost_database_is_not_replaced_by_a_new_study(tmp_path):
    search(tmp_path / "s", trials=2)
    for change in (Path.unlink, lambda file: file.write_bytes(b"")):
        change(tmp_path / "s" / "study.db")
        with refused([str(tmp_path / "s"), "2 runs", "restore study.db"]):
            search(tmp_path / "s", trials=2)


@pytest.mark.parametrize("name", ["quest?ion", "per%20cent", "a{b}", "ümlaut #1&", "100%", "a: [b] c"])
def test_every_folder_name(tmp_path, name):
    study = search(tmp_path / name, trials=2)
    assert {path.name for path in tmp_path.iterdir()} == {name} and (tmp_path / name / "study.db").exists()
    assert reszoo.open_study(tmp_path / name).rows() == study.rows()


def test_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with refused([str(tmp_path / "file" / "s"), "an unusable folder", "open_study"]):
        search(tmp_path / "file" / "s")


def test_budget_of_seconds_gives_a_value(tmp_path):
    with pytest.warns(UserWarning, match="pruning is off"):
        study = search(tmp_path / "s", objective=["accuracy", "macs"], budget={"seconds": 1e-6}, trials=3)
    assert {(trial.state, trial.epochs) for trial in study.trials} == {("timed_out", 1)}
    assert {trial.state.name for trial in study.engine.trials} == {"COMPLETE"} and study.pareto()


def test_objective_whose_smaller_values_are_better(tmp_path):
    def loss(job):
        losses = [2 - value for value in pretend.curve(job)]
        rows = [{"epoch": 1 + n, "val_accuracy": 0.5, "val_loss": value} for n, value in enumerate(losses)]
        job.folder.mkdir(parents=True)
        return Outcome("complete", rows)

    SimulatedWorker.at[("*", 1)] = loss
    study = search(tmp_path / "s", objective="val_loss")
    assert study.best().score == min(row["val_loss"] for trial in study.trials for row in trial.history)
    assert study.engine.direction.name == "MINIMIZE" and study.setup.recipe.monitor == "loss"
    front = study.pareto("params")
    assert [trial.score for trial in front] == sorted((trial.score for trial in front), reverse=True)


def test_folds_score_by_their_median(tmp_path):
    def fold(job):
        number = int(job.folder.name.removeprefix("fold"))
        job.folder.mkdir(parents=True)
        (job.folder / "best.keras").write_text(job.folder.name)
        scores = {1: 0.5, 2: 0.9, 3: 0.6}
        return Outcome("complete", [{"epoch": 1, "val_accuracy": scores[number]}])

    for number in (1, 2, 3):
        SimulatedWorker.at[(f"fold{number}", 1)] = fold
    study = SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", folds=3, **SETTINGS).search(trials=1)
    (trial,) = study.trials
    assert trial.score == 0.6 and trial.weights.read_text() == "fold3"
    held = [source.open().validation for source in study.setup.sources]
    assert sum(map(len, held)) == len(DATA[1]) and min(map(len, held)) > 0


def test_memory_that_a_neighbor_took_is_not_the_networks_fault(tmp_path):
    """A network out of memory beside another worker is tried again alone; alone, it is infeasible at once."""
    together, tries = threading.Barrier(2, timeout=30), []

    def full(job):
        tries.append(job.folder.name)
        if len(tries) <= 2:
            together.wait()
        if job.folder.name == "0001" and len(tries) <= 2:
            return Outcome("infeasible", note="MemoryError: 9 GiB")
        if job.folder.name == "0000":
            assert len(tries) <= 2 and not time.sleep(0.2)
        return None

    SimulatedWorker.at |= {("0000", 1): full, ("0001", 1): full}
    study = search(tmp_path / "s", trials=2, jobs=2)
    assert sorted(tries) == ["0000", "0001", "0001"]
    assert {trial.state for trial in study.trials} <= {"complete", "pruned"}


def test_extension_takes_over_finished_trials(tmp_path):
    before = search(tmp_path / "a", trials=6, budget={})
    assert (sum(trial.is_ended for trial in before.trials), len(before.trials)) == (4, 6)
    grown = reszoo.space(SPACE, size={"widths": (2, 4, 6, 8, 10)})
    after = search(tmp_path / "b", trials=8, budget={}, space=grown, extends=tmp_path / "a")
    assert results(after)[:6] == results(before) and len(after.trials) == 8
    assert before.best().weights.read_bytes() == after.trials[before.best().number].weights.read_bytes()
    over = sum(trial.costs["params"] > 2500 for trial in before.trials)
    with pytest.warns(UserWarning, match=f"{6 - over} of 6 trials are taken over; left out: {over} over budget"):
        within = search(tmp_path / "c", trials=6, budget={"params": 2500}, extends=tmp_path / "a")
    assert all(trial.costs["params"] <= 2500 for trial in within.trials) and len(within.trials) == 6
    longer = {"extends": tmp_path / "a", **SETTINGS, "epochs": 6, "budget": {}}
    with pytest.warns(
        UserWarning, match="3 of 6 trials .* left out: 2 not trained to their end, 1 whose weights are not here"
    ):
        more = SimulatedSearch(SPACE, DATA, folder=tmp_path / "d", **longer)
    more.search(trials=4)
    best = sorted((trial for trial in before.trials if trial.is_ended), key=lambda trial: -trial.score)[:3]
    assert [trial.point for trial in more.trials[: len(best)]] == [trial.point for trial in best]
    # They are found wherever the study is, and without the other one.
    kept = [trial.weights.read_bytes() for trial in best]
    (tmp_path / "d").rename(tmp_path / "e")
    shutil.rmtree(tmp_path / "a")
    again = SimulatedSearch(SPACE, DATA, folder=tmp_path / "e", **longer).search(trials=5)
    assert [Path(trial.start).read_bytes() for trial in again.trials[: len(best)]] == kept
    assert {Path(trial.start).parent for trial in again.trials[: len(best)]} == {tmp_path / "e" / "start"}


def test_what_does_not_fit_a_study_is_not_taken_over(tmp_path):
    search(tmp_path / "a", trials=2)
    for change, words in (
        ({"data": (DATA[0], np.maximum(DATA[1], 1) - 1)}, ["extends", "data.classes"]),
        ({"loss": "binary_cross_entropy"}, ["extends", "recipe.loss"]),
        ({"epochs": 3}, ["extends", "recipe.epochs", "4 or more"]),
    ):
        with refused(words):
            search(tmp_path / "e", extends=tmp_path / "a", **change)
    assert not (tmp_path / "e").exists()
    wider = reszoo.space(SPACE, size={"depths": (4, 5), "widths": (20, 24)})
    with refused(["no trial that can be taken over (2 outside the space)"]):
        search(tmp_path / "f", extends=tmp_path / "a", space=wider, budget={})


def test_weights_in_the_folder_of_a_study_are_recorded_by_their_place(tmp_path):
    job = Job(tmp_path / "s" / "trials" / "0003", None, None, None, 0)
    start = str(tmp_path / "s" / "start" / "0001.keras")
    assert start_record(replace(job, weights=start)) == {"weights": "../../start/0001.keras"}
    folds = replace(job, folder=job.folder / "fold1", weights=start)
    assert start_record(folds) == {"weights": "../../../start/0001.keras"}
    for other in (None, "resnet50.a1_in1k", str(tmp_path / "b" / "trials" / "0001" / "best.keras")):
        assert start_record(replace(job, weights=other)) == {}


RATE = "learning_rate.peak"
FIXED = reszoo.Space(name="fixed", network="resnet20_cifar", size={"depth": (1, 2), "width": (0.25, 0.5)})
FIXED_SETTINGS = {"budget": {}, "epochs": 4, "pruning": "none"}


@pytest.fixture(scope="module")
def four_trials(tmp_path_factory):
    """A study of all four networks of a space."""
    folder = tmp_path_factory.mktemp("four") / "s"
    study = SimulatedSearch(FIXED, DATA, folder=folder, learning_rate={"peak": 0.1}, **FIXED_SETTINGS)
    return study.search(trials=4)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        # An axis more: a trial has the value that its network or its recipe has.
        ({"recipe": {RATE: {"low": 0.01, "high": 1.0, "scale": "log"}}}, 4),
        ({"recipe": {RATE: (0.3, 0.4)}}, 0),
        ({"net": {"shortcut": ("pad", "none")}}, 4),
        # A value fewer, an axis fewer.
        ({"size": {"depth": (1,), "width": (0.25, 0.5)}}, 2),
        ({"size": {"depth": (1, 2), "width": 0.25}}, 2),
        # The same points of another network, and of one whose widths are rounded otherwise.
        ({"changes": {"shortcut": "none"}}, 0),
        ({"grain": 8}, 2),
    ],
)
def test_extension_takes_over_what_is_the_same_network_and_recipe(tmp_path, four_trials, fields, count):
    settings = {**FIXED_SETTINGS, "extends": four_trials.folder, "folder": tmp_path / "s"}
    settings |= {} if RATE in fields.get("recipe", {}) else {"learning_rate": {"peak": 0.1}}
    grown = reszoo.Space(**{**FIXED.model_dump(), **fields})
    if not count:
        with refused(["extends", "no trial that can be taken over"]):
            SimulatedSearch(grown, DATA, **settings)
        return
    after = SimulatedSearch(grown, DATA, **settings).trials
    assert len(after) == count
    before = {trial.spec.replace(name="x"): (trial.score, trial.recipe) for trial in four_trials.trials}
    assert all(before[trial.spec.replace(name="x")] == (trial.score, trial.recipe) for trial in after)


def test_invalid_database_is_named(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.db").write_text("this is no database" * 100)
    with refused(["storage", "study.db"]):
        search(tmp_path / "s")


def test_diverged_trial_ranks_last_and_is_never_complete(tmp_path):
    SimulatedWorker.at[("0002", 2)] = lambda job: Outcome("diverged", note="NotFiniteError: step 7")
    study = search(tmp_path / "s")
    lost = study.trials[2]
    assert (lost.state, lost.score) == ("diverged", None) and "step 7" in lost.note
    assert 2 not in [trial.number for trial in study.pareto("params")]
    assert study.engine.trials[2].state.name == "PRUNED"
    assert len(study.trials) == 8


def test_out_of_memory_is_infeasible_and_search_continues(tmp_path):
    SimulatedWorker.at[("0001", 1)] = lambda job: Outcome("infeasible", note="MemoryError: 9 GiB")
    study = search(tmp_path / "s")
    assert study.trials[1].state == "infeasible"
    assert "9 GiB" in study.trials[1].note and re.search(r"on CPU \(\d+.\d GiB\)", study.trials[1].note)
    assert sum(trial.state in ("complete", "pruned") for trial in study.trials) == 7


def test_dead_worker_costs_one_attempt(tmp_path):
    died = []

    def die(job):
        died.append(job.folder.name)
        return Outcome("crashed", note="killed by SIGKILL") if len(died) == 1 else None

    SimulatedWorker.at[("0001", 2)] = die
    assert results(search(tmp_path / "s")) == results(search(tmp_path / "whole"))
    SimulatedWorker.at[("0001", 2)] = lambda job: Outcome("crashed", note="killed by SIGKILL")
    study = search(tmp_path / "often")
    assert study.trials[1].state == "failed" and "SIGKILL" in study.trials[1].note
    assert len(study.trials) == 8


def test_three_equal_failures_stop_the_search_which_resumes_once_fixed(tmp_path):
    folders = []

    def fail(job):
        folders.append(job.folder.name)
        return Outcome("failed", note="Traceback (most recent call last):\n  in mine.py\nValueError: my mistake")

    SimulatedWorker.at[("*", 1)] = fail
    with refused(["3 trials in a row with the same error", "in mine.py", "ValueError: my mistake", "fix it and rerun"]):
        search(tmp_path / "s")
    assert len(folders) == 3
    SimulatedWorker.at.clear()
    study = search(tmp_path / "s")
    assert len(study.trials) == 8 and {trial.state for trial in study.trials} <= {"complete", "pruned"}


def test_different_failures_do_not_stop_the_search(tmp_path):
    SimulatedWorker.at[("*", 1)] = lambda job: (
        Outcome("failed", note=f"ValueError: {job.folder.name}") if int(job.folder.name) < 4 else None
    )
    study = search(tmp_path / "s")
    assert [trial.state for trial in study.trials[:4]] == ["failed"] * 4
    assert len(study.trials) == 8


def test_search_resumes_after_ctrl_c(tmp_path, monkeypatch):
    """The call ends after the trial under way, of which the database then says that it waits to be resumed."""
    jobs, early, closed, stopped = [], [], threading.Event(), threading.Event()
    monkeypatch.setattr(SimulatedWorker, "close", lambda worker: closed.set())
    monkeypatch.setattr(SimulatedWorker, "stop", lambda worker: stopped.set())

    def interrupt(job):
        if not jobs:
            jobs.append(job)
            os.kill(os.getpid(), signal.SIGINT)
            closed.wait(30)
            # Workers are stopped once all trials have ended.
            early.append(stopped.wait(0.3))

    SimulatedWorker.at[("0003", 2)] = interrupt
    # Ctrl-C is ignored where the tests run in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "s")
    finally:
        signal.signal(signal.SIGINT, before)
    assert early == [False]
    assert [trial.state for trial in reszoo.open_study(tmp_path / "s").trials][3:] == ["waiting"]
    assert results(search(tmp_path / "s")) == results(search(tmp_path / "whole"))


@pytest.mark.slow
def test_parent_memory_stays_constant(tmp_path):
    """Fifty trials; memory that the first study loads does not count."""
    search(tmp_path / "first", trials=2)
    before = resident_memory()
    search(tmp_path / "s", trials=50, pruning="none")
    assert resident_memory() - before < 20 * 2**20


def test_search_resumes_after_its_time_limit(tmp_path):
    study = pretend.SimulatedSearch(SPACE, DATA, folder=tmp_path / "s", **pretend.SETTINGS)
    study.search(trials=8, seconds=0)
    assert study.trials == []
    assert results(study.search(trials=8)) == results(search(tmp_path / "whole"))


# Several machines.


@pytest.fixture(scope="module")
def postgresql():
    """A server on 127.0.0.1 that stops after the tests."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install reszoo[postgresql]")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        pytest.skip("PostgreSQL's pg_ctl is not under /usr/lib/postgresql: Debian's package postgresql is missing")
    import socket

    # The server refuses to run as root, and pytest's folders are root's alone.
    temporary = tempfile.TemporaryDirectory(prefix="reszoo-pg-")
    folder = Path(temporary.name)
    who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if who:
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base, tools = folder / "base", programs[-1].parent
    subprocess.run(
        [*who, tools / "initdb", "-D", base, "-U", "me", "-A", "trust"], check=True, capture_output=True, cwd=folder
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    command = [*who, tools / "pg_ctl", "-D", base, "-w", "-l", folder / "log", "-o", options]
    subprocess.run([*command, "start"], check=True, capture_output=True, cwd=folder)
    yield f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
    subprocess.run(
        [*who, tools / "pg_ctl", "-D", base, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder
    )
    temporary.cleanup()


def test_postgresql_with_one_of_three_processes_killed(tmp_path, postgresql):
    folder = tmp_path / "s"
    three = [process(folder, 10, "0003:2", storage=postgresql) for _ in range(3)]
    endings = [finish(child) for child in three]
    assert sorted(one[0] for one in endings) == [-9, 0, 0], endings
    study = reszoo.open_study(folder, storage=postgresql)
    assert [trial.number for trial in study.trials] == [*range(10)]
    assert {trial.state for trial in study.trials} <= {"complete", "pruned"}
    epochs = (tmp_path / "s.log").read_text().split("\n")[:-1]
    assert len(epochs) == len(set(epochs))


def test_postgresql_machines_with_folders_of_their_own_of_which_one_is_suspended(tmp_path, postgresql):
    """A closed lid, longer than the grace: both end with 0 and agree about every result."""
    import psycopg

    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE machines")
    storage = postgresql.rpartition("/")[0] + "/machines"
    search(tmp_path / "a", trials=1, storage=storage)
    two = [process(tmp_path / each, 8, "0003:2:stop", storage=storage) for each in "ab"]
    try:
        ended = concurrent.futures.ThreadPoolExecutor(2)
        futures = [ended.submit(finish, child) for child in two]
        first = next(concurrent.futures.as_completed(futures, timeout=100))
        for child in two:
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
        outcomes = [future.result(timeout=100) for future in futures]
    finally:
        for child in two:
            child.kill()
    assert [outcome[0] for outcome in outcomes] == [0, 0] and first.result()[0] == 0, outcomes
    assert sum("taken by another process" in errors for _, _, errors in outcomes) == 1
    one, other = (reszoo.open_study(tmp_path / each, storage=storage) for each in "ab")
    assert one.rows() == other.rows() and [trial.number for trial in one.trials] == [*range(8)]
    assert {trial.state for trial in one.trials} <= {"complete", "pruned"}
    assert one.best().number == other.best().number
    assert [trial.number for trial in one.pareto()] == [trial.number for trial in other.pareto()]
    assert all(trial.weights.exists() for trial in one.pareto()), "the other folder can be reached"


# Workers.

HANGING = """
import pickle, sys, time
from reszoo.tuning.job import Outcome, Progress
receive = lambda: pickle.loads(pickle.load(sys.stdin.buffer))
def send(message):
    pickle.dump(message, sys.stdout.buffer)
    sys.stdout.buffer.flush()
receive()
job = receive()
for epoch in range(1, job.recipe.epochs):
    send(Progress([{"epoch": epoch, "val_accuracy": 0.5}] * epoch))
    receive()
time.sleep(100)
"""


@pytest.mark.parametrize("limit", [{"stall": 0.5}, {"seconds": 0.2}], ids=str)
def test_worker_that_hangs_is_ended(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Worker, "program", (sys.executable, "-c", HANGING))
    spec, recipe = reszoo.spec("resnet20_cifar"), reszoo.recipe("fast", epochs=3)
    worker, start = Worker(), time.monotonic()
    worker._longest = 0.01
    with pytest.warns(UserWarning, match="a worker that hangs is ended"):
        outcome = worker.do(Job(tmp_path / "run", spec, recipe, None, 0, **limit))
    assert outcome.state == "crashed" and "no message for" in outcome.note and worker.pid is None
    assert time.monotonic() - start < 60


def test_workers_have_a_gpu_each_and_take_memory_as_they_need_it(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa, NVIDIA A, 80 MiB'\necho '1, GPU-bb, NVIDIA B, 40 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    accelerators._installed.cache_clear()
    try:
        assert [each["CUDA_VISIBLE_DEVICES"] for each in accelerators.environments(3)] == ["0", "1", "0"]
        assert accelerators.description({"CUDA_VISIBLE_DEVICES": "1"}) == "NVIDIA B (40 MiB)"
        with pytest.warns(UserWarning, match="3 jobs share 2 GPUs"):
            search(tmp_path / "s", trials=3, jobs=3)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
        assert accelerators.environments(2) == [{"CUDA_VISIBLE_DEVICES": "GPU-b"}] * 2
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert accelerators.environments(1) == [{}] and "CPU" in accelerators.description({})
    finally:
        accelerators._installed.cache_clear()
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    variables = Worker({"CUDA_VISIBLE_DEVICES": "1"})._variables()
    assert variables["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" and variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert variables["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true", "what the user has set stays"


OF_A_SCRIPT = """
import keras, pickle, sys
from reszoo.tuning.worker_process import check_callbacks, dumps

class Hello(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        return "hello"

check_callbacks((Hello(), keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)))
sys.stdout.buffer.write(dumps(Hello()))
"""


def test_classes_of_a_script_are_sent_by_value():
    content = subprocess.run([sys.executable, "-c", OF_A_SCRIPT], check=True, capture_output=True).stdout
    assert pickle.loads(content).on_epoch_end(1) == "hello"


def test_callbacks_that_set_the_rate_are_refused():
    import keras

    with refused(["callbacks", "ReduceLROnPlateau", "plateau={'patience': 2}"]):
        check_callbacks((keras.callbacks.ReduceLROnPlateau(),))


# The command.


def test_search_command_prints_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr("reszoo.tuning.search.Search.worker", SimulatedWorker)
    np.savez(tmp_path / "data.npz", x=DATA[0], y=DATA[1])
    settings = ["--data", tmp_path / "data.npz", "--space", "digits_small", "--output", tmp_path / "s", "--epochs", 4]
    command = ["search", *map(str, settings), "--budget", "params=5e4"]
    result = CliRunner().invoke(app, [*command, "--trials", "4"])
    assert result.exit_code == 0, result.output
    assert "of random points in the space are networks within the budget" in result.output
    study = reszoo.open_study(tmp_path / "s")
    for trial in study.pareto("macs"):
        assert f"{trial.score:.2%}" in result.output
    pasted = yaml.safe_load(result.output.partition("for a zoo file:")[2].partition("Its weights")[0])
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(pasted))
    best = reszoo.spec(f"{tmp_path / 'zoo.yaml'}:digits_small_best")
    assert best.replace(name="x") == study.best().spec.replace(name="x")
    refused_ = CliRunner().invoke(app, [*command, "--trials", "5", "--seed", "1"])
    assert refused_.exit_code != 0 and "seed" in str(refused_.exception)


# Real training.

REAL = reszoo.Space(
    name="real",
    network="resnet20_cifar",
    size={"depth": 1, "width": (0.125, 0.25)},
    net={"shortcut": ("pad", "none")},
    recipe={"learning_rate.peak": {"low": 0.05, "high": 0.2, "scale": "log"}},
)


@pytest.mark.slow
def test_killed_worker_resumes_and_best_model_reaches_its_score(tmp_path):
    import deadly

    settings = {"epochs": 2, "batch": 128, "pruning": "none", "trials": 2}
    whole = reszoo.search(REAL, "digits", folder=tmp_path / "whole", **settings)
    killed = (deadly.KilledOnce(tmp_path / "marker"),)
    study = reszoo.search(REAL, "digits", folder=tmp_path / "s", callbacks=killed, **settings)
    assert (tmp_path / "marker").exists()
    assert results(study) == results(whole)
    assert [trial.history for trial in study.trials] == [trial.history for trial in whole.trials]
    best, data = study.best(), reszoo.open_data("digits")
    x, y = data.scaling(data.validation.take(range(len(data.validation)))), data.validation.labels
    assert (best.model().predict(x, verbose=0).argmax(axis=1) == y).mean() == pytest.approx(best.score)
    assert reszoo.cost(reszoo.spec_of(best.model())).params == best.costs["params"]


@pytest.mark.slow
def test_latency_is_measured_once_per_network(tmp_path):
    measure = Latencies(tmp_path / "latency.json", Worker())
    spec = reszoo.spec("resnet20_cifar", depths=1, width_multiplier=0.25)
    seconds = measure(spec)
    measure.stop()
    assert 1e-5 < seconds < 1
    # The name does not matter; a simulated worker could not time a network.
    assert Latencies(tmp_path / "latency.json", SimulatedWorker())(spec.replace(name="other")) == seconds


@pytest.mark.slow
def test_worker_errors_reach_the_study(tmp_path):
    import deadly

    settings = {"epochs": 1, "batch": 128, "trials": 1}
    study = reszoo.search(REAL, "digits", folder=tmp_path / "m", callbacks=(deadly.OutOfMemory(),), **settings)
    assert [trial.state for trial in study.trials] == ["infeasible"]
    assert study.trials[0].note.startswith("MemoryError: 9 GiB; on ")
    with refused(["3 trials in a row with the same error", "deadly.py", "TypeError: a mistake of mine"]):
        reszoo.search(REAL, "digits", folder=tmp_path / "t", callbacks=(deadly.Mistaken(),), **settings | {"trials": 3})
    trials = reszoo.open_study(tmp_path / "t").trials
    assert {trial.state for trial in trials} == {"failed"} and "a mistake of mine" in trials[0].note
    study = reszoo.search(REAL, "digits", folder=tmp_path / "u", callbacks=(deadly.Unreadable(),), **settings)
    assert [trial.state for trial in study.trials] == ["failed"] and "no number" in study.trials[0].note


@pytest.mark.slow
def test_truncated_state_moves_the_run_away_and_restarts_the_trial(tmp_path):
    from reszoo.tuning.worker_main import set_aside_if_damaged

    study = reszoo.search(REAL, "digits", folder=tmp_path / "s", trials=1, epochs=1, batch=128)
    folder = study.trials[0].folder
    assert set_aside_if_damaged(folder) == "" and folder.exists()
    (folder / "run.json").write_text('{"spec": ')
    assert "0000/run.json was damaged" in set_aside_if_damaged(folder)
    assert not folder.exists() and (folder.parent / "0000.damaged-1").exists()
