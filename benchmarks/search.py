"""The cost of a search: training compute until it is as good as the best of 20 random trials of full length.

    python benchmarks/search.py [--seeds 30] [--tables fashion photos digits columns]

benchmarks/search_tables holds small spaces of which every network was trained once, for real, its validation accuracy
noted after every epoch (search_train.py). Searches look up what they would have trained: RandomSearch, keras_tuner's
Hyperband (pass after pass, by its own oracle), Optuna's TPE with its own pruners, reszoo's proposals and
pruning, and the latter with one rule left out at a time. The goal of a seed is the best accuracy of its own 20 random
trials. Compute is epochs times MACs in the order of training, relative to that of these 20 trials; every search ends
when it has used as much.

`--seeds 0` shows feasible networks per second in every space of the package, under a budget that excludes half of the
valid networks.
"""

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import tempfile
import time
from itertools import count, islice
from pathlib import Path
from unittest import mock

# keras_tuner's oracles need no TensorFlow.
os.environ.setdefault("KERAS_BACKEND", "numpy")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from machine import describe
from scipy.stats import spearmanr

import reszoo
from reszoo.tuning import halving as pruning, improvement
from reszoo.tuning.axes import Answers
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.halving import Halving
from reszoo.tuning.proposals import Exhausted, Proposals

TABLES = Path(__file__).parent / "search_tables"
RANDOM, MOST = 20, 60
"""Trials of RandomSearch, and the most of any other search."""
RATE = "learning_rate.peak"


def _space(name, shape, classes, **changes):
    return reszoo.Space(name=name, **{"network": "resnet20_cifar", **changes}).fitted(
        input_shape=shape, classes=classes
    )


CIFAR = {"net": {"shortcut": ("pad", "none")}}
SPACES = {
    "fashion": _space(
        "fashion",
        (14, 14, 1),
        10,
        size={"depth": (1, 2), "width": (0.25, 0.5, 0.75, 1.0, 1.5)},
        recipe={RATE: (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)},
        **CIFAR,
    ),
    # The plain networks have one block a stage.
    "photos": _space(
        "photos",
        (8, 8, 3),
        10,
        changes={"depths": 1},
        size={"depth": {"values": (1, 2), "when": {"shortcut": ("pad",)}}, "width": (0.25, 0.5, 1.0)},
        recipe={RATE: (0.01, 0.03, 0.1, 0.3, 1.0)},
        **CIFAR,
    ),
    "digits": _space(
        "digits",
        (8, 8, 1),
        10,
        size={"depth": (1, 2), "width": (0.25, 0.5, 0.75)},
        recipe={RATE: (0.01, 0.03, 0.1, 0.3, 1.0)},
        **CIFAR,
    ),
    "columns": _space(
        "columns",
        (24,),
        7,
        network="tabular_resnet",
        kind="tabular",
        size={"depth": (1, 2, 4), "width": (8, 16, 32, 64)},
        recipe={RATE: (1e-4, 4e-4, 1.6e-3, 6.4e-3, 2.5e-2)},
    ),
}
PLAIN = {"augmentation": {"shift": 0, "flip": False}}
RECIPES = {
    "fashion": reszoo.recipe("fast", batch=64, epochs=18, **PLAIN),
    "photos": reszoo.recipe("fast", batch=32, epochs=12, **PLAIN),
    "digits": reszoo.recipe("fast", batch=32, epochs=6),
    "columns": reszoo.recipe("tabular", epochs=6),
}


class Table:
    """Every network of a small space: values of its axes, MACs, accuracy after each epoch, seconds if measured."""

    def __init__(self, name):
        head, *rows = map(json.loads, (TABLES / f"{name}.jsonl").read_text().splitlines())
        self.name, self.about, self.axes = name, head["about"], head["axes"]
        self.space, self.recipe = SPACES[name], RECIPES[name]
        # null: the axis does not apply.
        pairs = [zip(self.axes, row[0], strict=True) for row in rows]
        self.points = [{axis: value for axis, value in pair if value is not None} for pair in pairs]
        self.macs = [row[1] for row in rows]
        self.curves = [row[2] for row in rows]
        self.seconds = [row[3] for row in rows] if len(rows[0]) > 3 else None
        self.epochs = len(self.curves[0])
        self.places = {self.key(point): place for place, point in enumerate(self.points)}

    def key(self, point):
        return tuple(point.get(axis) for axis in self.axes)

    def place(self, source):
        """The network whose values come from a source, such as `keras_tuner.HyperParameters`."""
        return self.places[self.key(self.space.ask(source))]


# A search yields what it trains, in order: (network, first epoch, epoch after the last).


def by_oracle(table, make, seed):
    """keras_tuner's own oracle, as its tuners call it."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    table.space.ask(hp)
    oracle = make(keras_tuner.oracles, keras_tuner.Objective("val_accuracy", "max"), hp, seed)
    with tempfile.TemporaryDirectory() as folder:
        oracle._set_project_dir(folder, "search")
        while True:
            # The oracle prints a table of every trial.
            with contextlib.redirect_stdout(io.StringIO()):
                trial = oracle.create_trial("tuner0")
                if trial.status != "RUNNING":
                    return
                values = trial.hyperparameters.values
                network = table.place(trial.hyperparameters)
                first, last = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", table.epochs)
                oracle.update_trial(trial.trial_id, {"val_accuracy": max(table.curves[network][:last])})
                trial.status = "COMPLETED"
                oracle.end_trial(trial)
            yield network, first, last


def random_search(table, seed):
    """Draws as those of keras_tuner.RandomSearch: uniform, none twice."""
    order = np.random.default_rng(seed).permutation(len(table.points))
    yield from ((int(network), 0, table.epochs) for network in order[:RANDOM])


def hyperband(table, seed):
    def make(oracles, objective, hp, seed):
        return oracles.HyperbandOracle(objective, max_epochs=table.epochs, factor=3, hyperparameters=hp, seed=seed)

    for turn in count():
        yield from by_oracle(table, make, 1000 * turn + seed)


def cheapest_first(table, seed):
    """No learning at all: shows how much is mere order of cost."""
    order = np.random.default_rng(seed).permutation(len(table.points))
    yield from ((int(network), 0, table.epochs) for network in sorted(order, key=lambda network: table.macs[network]))


def cheapest_of_eight(table, seed):
    """The cheapest of eight random networks, again and again."""
    random, left = np.random.default_rng(seed), [*range(len(table.points))]
    while left:
        offers = random.permutation(left)[:8]
        network = int(min(offers, key=lambda network: table.macs[network]))
        left.remove(network)
        yield network, 0, table.epochs


def under_optuna(table, study):
    """What a study trains; a network that was trained before is looked up, and costs nothing."""
    trained = set()
    for _ in range(MOST):
        trial = study.ask()
        try:
            network = table.place(Answers(trial.suggest_categorical))
        except Exhausted:
            return
        best, pruned = 0.0, False
        for epoch, accuracy in enumerate(table.curves[network], start=1):
            best = max(best, accuracy)
            trial.report(best, epoch)
            if epoch < table.epochs and trial.should_prune():
                pruned = True
                break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, best)
        if network not in trained:
            yield network, 0, epoch
        trained.add(network)


def tpe(make):
    def search(table, seed):
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        # HyperbandPruner derives its brackets from the name, which would be random.
        study = optuna.create_study(
            direction="maximize", sampler=sampler, pruner=make(table.epochs), study_name=f"seed {seed}"
        )

        return under_optuna(table, study)

    return search


def ours(*, sampler="gp", halving=True, starts=False, **constants):
    """Returns reszoo's search with other constants of its proposals and its pruning.

    With `starts`, the cost of a network includes that of a start, in MACs: from a line through the table's seconds.
    """

    def search(table, seed):
        proposals = Proposals(Feasible(table.space, Budget()), table.recipe, sampler=sampler, seed=seed)
        pruner = Halving(epochs=table.epochs) if halving else optuna.pruners.NopPruner()
        study = optuna.create_study(direction="maximize", sampler=proposals, pruner=pruner)
        slope, start = np.polyfit(table.macs, table.seconds, 1) if starts and table.seconds else (1.0, 0.0)
        cost = improvement._cost

        with contextlib.ExitStack() as stack:
            for module in (improvement, pruning):
                values = {name: value for name, value in constants.items() if hasattr(module, name)}
                stack.enter_context(mock.patch.dict(vars(module), values))
            with_start = mock.patch.object(improvement, "_cost", lambda *of: cost(*of) + start / slope)
            stack.enter_context(with_start if starts else contextlib.nullcontext())
            yield from under_optuna(table, study)

    return search


def hyperband_pruner(epochs):
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


RIVALS = {
    "RandomSearch": random_search,
    "keras_tuner.Hyperband": hyperband,
    "cheapest first": cheapest_first,
    "cheapest of eight": cheapest_of_eight,
    "Optuna TPE": tpe(lambda epochs: optuna.pruners.NopPruner()),
    "Optuna TPE, HyperbandPruner": tpe(hyperband_pruner),
    "Optuna TPE, ASHA": tpe(lambda epochs: optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2)),
    "Optuna TPE, MedianPruner": tpe(lambda epochs: optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)),
}
OURS = "reszoo.search"
STARTS = "starts count as cost"
WITHOUT = {
    "no halving": ours(halving=False),
    "halving from the start": ours(LEAST_COMPLETE=0, AGREEMENT=0.0),
    "halving after three runs": ours(AGREEMENT=0.0),
    "no cheapest of eight": ours(OFFERS=1),
    "no division by cost": ours(COST_POWER=0.0),
    "TPE instead": ours(sampler="tpe"),
    "random instead": ours(sampler="random"),
    STARTS: ours(starts=True),
}


# Figures.


def until(table, trials, goal, most):
    """Compute, seconds, epochs and trials until a goal is reached, infinite where not within `most` compute."""
    # A run's start (building, compiling) takes about as long as the quickest run of the table.
    start = min(table.seconds) if table.seconds else 0.0
    compute = seconds = epochs = 0.0
    for number, (network, first, last) in enumerate(trials, start=1):
        seconds += start
        for epoch in range(first, last):
            compute += table.macs[network]
            epochs += 1
            if table.seconds:
                seconds += (table.seconds[network] - start) / table.epochs
            if compute > most:
                return (math.inf,) * 4
            if table.curves[network][epoch] >= goal:
                return compute, seconds, epochs, number
    return (math.inf,) * 4


def quartiles(values):
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] if ordered else math.nan for share in (0.25, 0.5, 0.75)]


def replay(table, seed, searches):
    """Returns search -> (compute and seconds until the goal, relative to those of 20 random trials, epochs, trials)."""
    base = [*random_search(table, seed)]
    goal = max(max(table.curves[network]) for network, _, _ in base)
    whole = sum(table.macs[network] * (last - first) for network, first, last in base)
    seconds = sum(table.seconds[network] for network, _, _ in base) if table.seconds else math.nan
    rows = {}
    for name, search in searches.items():
        compute, took, *counts = until(table, search(table, seed), goal, whole)
        rows[name] = (compute / whole, took / seconds, *counts)
    return rows


def order_told(table):
    """Returns how well the values of networks tell the order of their accuracies: rank correlations.

    Every network is predicted from all others by the Gaussian process of the search: of all networks, and of the better
    half, among which the goal lies.
    """
    best = np.array([max(curve) for curve in table.curves])
    scores = (best - best.mean()) / best.std()
    process = improvement.Process.fit(improvement.squares(table.space.axes, table.points, table.points), scores)
    inverse = np.linalg.inv(process._kernel(process.squares) + math.exp(process.logs[-1]) * np.eye(len(scores)))
    # Rasmussen & Williams 2006, eq. 5.12.
    predicted = scores - inverse @ scores / np.diag(inverse)
    better = best >= np.median(best)
    return [spearmanr(best[part], predicted[part])[0] for part in (slice(None), better)]


def show(table, rows):
    """Prints the figures of every search, and the pairs with reszoo's."""
    reached = sorted(max(curve) for curve in table.curves)
    accuracies = f"{reached[0]:.1%} to {reached[-1]:.1%}, median {statistics.median(reached):.1%}"
    print(f"\n{table.name}: {table.about}; {len(table.points)} networks, {table.epochs} epochs; accuracy {accuracies}")
    every, better = order_told(table)
    print(f"order told by the values of a network: rank correlation {every:.2f}, within the better half {better:.2f}")
    print(f"{'':30}compute until the goal   goal    medians until the goal   compute of reszoo.search / this one's")
    print(f"{'':30}  25%  median     75%  reached  epochs trials seconds    25%  median     75%   less in")
    mine = [row[0] for row in rows[OURS]]
    for name, results in rows.items():
        low, middle, high = quartiles(row[0] for row in results)
        share = sum(row[0] < math.inf for row in results) / len(results)
        seconds, epochs, trials = (quartiles(row[place] for row in results)[1] for place in (1, 2, 3))
        line = f"  {name:27}{low:6.3f}{middle:8.3f}{high:8.3f}{share:8.0%}{epochs:8.0f}{trials:7.0f}"
        line += f"{seconds:8.3f}" if table.seconds else f"{'-':>8}"
        # Seeds in which neither reached the goal tell nothing.
        pairs = [(a, b) for a, (b, *_) in zip(mine, results, strict=True) if min(a, b) < math.inf]
        ratios = [math.inf if b == 0 or a == math.inf else a / b for a, b in pairs]
        pair = "" if name == OURS else "".join(f"{ratio:8.2f}" for ratio in quartiles(ratios))
        less = "" if name == OURS else f"{sum(a < b for a, b in pairs):5} of {sum(a != b for a, b in pairs)}"
        print(f"{line} {pair}{less}", flush=True)


def feasible():
    """Prints networks within budget per second of one core; the budget excludes half of the valid networks."""
    print("\nfeasible networks per second of one core; share of valid draws; share of those within the budget")
    for name in reszoo.list_spaces():
        space = reszoo.space(name)
        costs = [cost for point in islice(space.sample(seed=1), 2000) if (cost := space.cost(point))]
        budget = Budget(macs=statistics.median(cost.macs for cost in costs))
        points, draws = Feasible(space, budget), 20_000
        start = time.process_time()
        fit = sum(points.has(point) for point in islice(space.sample(seed=2), draws))
        rate, valid = fit / (time.process_time() - start), len(costs) / 2000
        print(f"  {name:20}{rate:8,.0f} per second   {valid:4.0%}   {fit / draws / valid:4.0%}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30, help="0 counts feasible networks only")
    parser.add_argument("--tables", nargs="+", choices=[*SPACES], default=[*SPACES])
    parser.add_argument("--skip", default="-", help="leave out searches whose names contain this text")
    arguments = parser.parse_args()
    describe("reszoo", "keras-tuner", "optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not arguments.seeds:
        return feasible()
    searches = {**RIVALS, OURS: ours(), **{f"  {name}": search for name, search in WITHOUT.items()}}
    searches = {name: search for name, search in searches.items() if arguments.skip not in name}
    print(f"{arguments.seeds} seeds; the compute of 20 random trials is 1; inf: not within that compute")
    start = time.process_time()
    for table in map(Table, arguments.tables):
        # Without measured seconds, a start has no cost that is known.
        chosen = {name: search for name, search in searches.items() if table.seconds or name.strip() != STARTS}
        rows = {name: [] for name in chosen}
        for seed in range(1, arguments.seeds + 1):
            for name, row in replay(table, seed, chosen).items():
                rows[name].append(row)
        show(table, rows)
    print(f"\n{time.process_time() - start:.0f} seconds of one core")


if __name__ == "__main__":
    main()
