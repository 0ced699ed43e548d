"""Studies: killed, joined, damaged or changed; within budget, nothing trained twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

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
from reszoo.tuning.job import Outcome
from reszoo.tuning.latency import Latencies
from reszoo.tuning.proposals import Halving, derive_seed
from reszoo.tuning.results import Trial, front, fronts, numbers_to_keep
from reszoo.tuning.storage import quiet as quietly
from reszoo.tuning.trial_end import TrialEnd, TrialFailed
from reszoo.tuning.worker_main import damaged_file, resident_memory
from reszoo.tuning.worker_process import Worker


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
    # A pruned trial counts like a complete one: its stored weights reach its score.
    ([("pruned", 0.9, 10), ("complete", 0.8, 20)], [0]),
    ([("pruned", 0.7, 10), ("complete", 0.8, 20)], [0, 1]),
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
        if any(score is not None and state in ("complete", "pruned") for state, score, _ in trials)
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
    assert all(f"{trial.score:.4f}" in study._repr_html_() for trial in study.trials)


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
    for trial in study.trials:
        beaten = [f for f in front if f.costs["params"] <= trial.costs["params"] and f.score >= trial.score]
        assert beaten, "no trial dominates the front"
    scores, params = [t.score for t in front], [t.costs["params"] for t in front]
    assert scores == sorted(scores) and params == sorted(params)
    limit = sorted(trial.costs["params"] for trial in study.trials)[5]
    within = [trial for trial in study.trials if trial.costs["params"] <= limit]
    assert study.best(max_params=limit).score == max(trial.score for trial in within)
    assert study.best().score == max(trial.score for trial in study.trials)
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
    keep |= {trial.number for trial in sorted(study.trials, key=lambda trial: -trial.score)[:3]}
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

    def ended_at(*values):
        trial = study.ask()
        for epoch in range(1, 19):
            trial.report(value := values[min(epoch, len(values)) - 1], epoch)
            if trial.should_prune():
                break
        study.tell(trial, value)
        return epoch

    # The best of one, two and three so far, the best two of four and five, the best three of six.
    assert [ended_at(value) for value in (0.5, 0.4, 0.6, 0.3, 0.7, 0.65, 0.55)] == [18, 2, 18, 2, 18, 18, 2]
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


WRONG = [
    ({"sampler": "tpee"}, ["sampler", "did you mean 'tpe'"]),
    ({"pruning": "halve"}, ["pruning", "did you mean 'halving'"]),
    ({"objective": "loss"}, ["objective", "accuracy"]),
    ({"objective": ["accuracy", "mac"]}, ["objective", "did you mean 'macs'"]),
    ({"trials": 0}, ["trials", "at least 1"]),
    ({"budget": {"params": 3}}, ["budget on simulated", "the least cost in the space"]),
    ({"storage": "postgresql+psycopg://nobody@127.0.0.1:1/none"}, ["storage", "nobody@127.0.0.1"]),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=str)
def test_bad_input_is_refused_before_training(tmp_path, change, words):
    with refused(words):
        search(tmp_path / "s", **change)
    assert not (tmp_path / "s" / "trials").exists()


def test_truncated_weights_exclude_only_their_trial(tmp_path):
    study = search(tmp_path / "s")
    best = study.best()
    best.weights.write_bytes(best.weights.read_bytes()[:20])
    again = search(tmp_path / "s", trials=9)
    states = {trial.number: trial.state for trial in again.trials}
    assert [number for number, state in states.items() if state == "damaged"] == [best.number]
    assert str(best.weights) in again.trials[best.number].note
    assert again.best().number != best.number and len(states) == 9


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
    assert study.trials[1].state == "infeasible" and "9 GiB" in study.trials[1].note
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


def test_search_resumes_after_ctrl_c(tmp_path):
    jobs = []

    def interrupt(job):
        if not jobs:
            jobs.append(job)
            os.kill(os.getpid(), signal.SIGINT)

    SimulatedWorker.at[("0003", 2)] = interrupt
    # Ctrl-C is ignored where the tests run in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "s")
    finally:
        signal.signal(signal.SIGINT, before)
    assert results(search(tmp_path / "s")) == results(search(tmp_path / "whole"))


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


# The command.


def test_search_command_prints_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr("reszoo.tuning.search.Search.worker", SimulatedWorker)
    np.savez(tmp_path / "data.npz", x=DATA[0], y=DATA[1])
    settings = ["--data", tmp_path / "data.npz", "--space", "digits_small", "--output", tmp_path / "s", "--epochs", 4]
    command = ["search", *map(str, settings), "--budget", "params=5e4"]
    result = CliRunner().invoke(app, [*command, "--trials", "4"])
    assert result.exit_code == 0, result.output
    assert "of its random draws are networks within the budget" in result.output
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
    assert [(trial.state, trial.note) for trial in study.trials] == [("infeasible", "MemoryError: 9 GiB")]
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
