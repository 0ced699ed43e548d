"""The cost of a search: training compute until it matches the best of 20 random trials of full length.

    python benchmarks/search.py fashion_mnist_train.npz [--seeds 15] [--table search_table.jsonl]

Every network of one space of residual and plain nets (140) is trained once on a subset of Fashion-MNIST at 14x14, for
real, and its validation accuracy after every epoch stored in a table; an interrupted run resumes. Then the searches
look up the networks in the table instead of training them, so that many seeds cost minutes: keras_tuner's RandomSearch
(20 trials) and Hyperband, by its own oracles, and `reszoo.search`. Compute is epochs times MACs, in the order of
training, until the best accuracy of RandomSearch is reached. Last, keras_tuner's own HyperResNet trains for as long as
20 random trials took. The first table shows feasible networks per second in every space of the package, under a budget
that excludes half of the valid networks.

benchmarks/search_table.jsonl holds the 140 networks as trained on JAX: `--table benchmarks/search_table.jsonl` replays
the searches on them. Another name trains them anew.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from machine import describe

import reszoo
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.job import Outcome, Progress
from reszoo.tuning.search import Search

TRIALS, EPOCHS, BATCH, SIDE, IMAGES, HELD = 20, 18, 64, 14, 800, 1000
OURS = 40
"""Trials of `reszoo.search`; most are pruned."""
RATE = "learning_rate.peak"
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SPACE = reszoo.Space(
    name="benchmark",
    network="resnet20_cifar",
    size={"depth": (1, 2), "width": (0.25, 0.5, 0.75, 1.0, 1.5)},
    net={"shortcut": ("pad", "none")},
    recipe={RATE: RATES},
)
RECIPE = reszoo.recipe("fast", batch=BATCH, epochs=EPOCHS, augmentation={"shift": 0, "flip": False})


def load(file):
    with np.load(file) as arrays:
        x, y = arrays["x"], arrays["y"]
    validation = (x[IMAGES : IMAGES + HELD], y[IMAGES : IMAGES + HELD])
    return reszoo.open_data((x[:IMAGES], y[:IMAGES]), size=SIDE, validation=validation)


# The table.


def key(point):
    return json.dumps(point, sort_keys=True)


def one_thread():
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)


def train(file, point):
    """Trains one network; returns its MACs, its validation accuracy after every epoch, and the seconds."""
    import keras
    import keras_tuner

    data, start = load(file), time.perf_counter()
    space = SPACE.fitted(input_shape=data.shape, classes=len(data.classes))
    keras.utils.set_random_seed(0)
    hp = keras_tuner.HyperParameters()
    hypermodel = reszoo.HyperResNet(space, RECIPE, steps=-(-IMAGES // BATCH) * EPOCHS)
    space.ask(hp)
    hp.values.update(point)
    model = hypermodel.build(hp)
    x, y = data.arrays("train")
    validation = data.arrays("validation")
    curve = hypermodel.fit(
        hp, model, x, y, epochs=EPOCHS, batch_size=BATCH, validation_data=validation, verbose=0
    ).history
    row = {"point": point, "macs": space.cost(point).macs, "curve": curve["val_accuracy"]}
    keras.backend.clear_session()
    return row | {"seconds": time.perf_counter() - start}


def table_of(file, path, jobs):
    """Returns the table; networks that it lacks are trained and added to the file."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = {key(row["point"]): row for row in map(json.loads, lines)}
    missing = [point for point in SPACE.points() if key(point) not in rows]
    context = multiprocessing.get_context("spawn")
    with path.open("a") as stream, ProcessPoolExecutor(jobs, mp_context=context, initializer=one_thread) as pool:
        for future in as_completed([pool.submit(train, file, point) for point in missing]):
            row = future.result()
            rows[key(row["point"])] = row
            stream.write(json.dumps(row) + "\n")
            stream.flush()
    return rows


# The trials of a search: pairs of MACs and validation accuracies, epoch by epoch.


def by_oracle(make, seed, table):
    """Returns the trials of one of keras-tuner's oracles."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    SPACE.ask(hp)
    oracle = make(hp, keras_tuner.Objective("val_accuracy", "max"), seed)
    trials = []
    # The oracle prints a table of every trial.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        oracle._set_project_dir(folder, "search")
        while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
            values = trial.hyperparameters.values
            row = table[key({name: values[name] for name in SPACE.axes})]
            first, last = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", EPOCHS)
            trials.append((row["macs"], row["curve"][first:last]))
            oracle.update_trial(trial.trial_id, {"val_accuracy": max(row["curve"][:last])})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
    return trials


def random_search(hp, objective, seed):
    import keras_tuner

    return keras_tuner.oracles.RandomSearchOracle(objective, TRIALS, hyperparameters=hp, seed=seed)


def hyperband(hp, objective, seed):
    import keras_tuner

    return keras_tuner.oracles.HyperbandOracle(objective, max_epochs=EPOCHS, factor=3, hyperparameters=hp, seed=seed)


def ours(seed, table, source):
    """Returns the trials of `reszoo.search`, whose workers look up the results in the table."""

    class Lookup:
        def do(self, job, *, ask=lambda progress: "continue"):
            point = {
                "shortcut": job.spec.block.shortcut,
                "depth": job.spec.stages[0].depth,
                "width": job.spec.stages[0].width / 16,
                RATE: job.recipe.learning_rate.peak,
            }
            history, curve = [], table[key(point)]["curve"]
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "best.keras").touch()
            for accuracy in curve:
                if history and ask(Progress(history)) == "stop":
                    return Outcome("pruned", history)
                history.append({"val_accuracy": accuracy})
            return Outcome("complete", history)

        def stop(self):
            pass

        close = stop

    class Replayed(Search):
        worker = Lookup

        def check(self):
            return {}

    with tempfile.TemporaryDirectory() as folder:
        study = Replayed(SPACE, source, folder=folder, recipe=RECIPE, seed=seed).search(trials=OURS)
        return [(trial.costs["macs"], [row["val_accuracy"] for row in trial.history]) for trial in study.trials]


def spent(trials, goal=2.0):
    """Returns epochs times MACs until the goal is reached (by default: never), and whether it was."""
    total = 0.0
    for macs, curve in trials:
        for accuracy in curve:
            total += macs
            if accuracy >= goal:
                return total, True
    return total, False


def best(trials):
    return max((max(curve) for _, curve in trials if curve), default=0.0)


# keras-tuner's own network.


class TimeLimit(BaseException):
    """The time limit is reached. A BaseException, because keras-tuner catches every Exception."""


def keras_tuner_network(seconds, source):
    """Returns the accuracies of keras_tuner's HyperResNet in a time limit, on the same images at its smallest size."""
    import keras
    import keras_tuner

    accuracies = []
    deadline = time.monotonic() + seconds

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if time.monotonic() > deadline:
                raise TimeLimit

        def on_epoch_end(self, epoch, logs=None):
            accuracies.append(logs["val_accuracy"])

    def arrays(part):
        x, y = source.arrays(part)
        x = keras.ops.convert_to_numpy(keras.ops.image.resize(np.repeat(x, 3, axis=-1), (32, 32)))
        return x, keras.utils.to_categorical(y, len(source.classes))

    x, y = arrays("train")
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(TimeLimit):
        hypermodel = keras_tuner.applications.HyperResNet(input_shape=x.shape[1:], classes=len(source.classes))
        search = keras_tuner.RandomSearch(
            hypermodel, objective="val_accuracy", max_trials=TRIALS, seed=0, directory=folder
        )
        settings = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": arrays("validation"), "verbose": 0}
        search.search(x, y, callbacks=[Watch()], **settings)
    return accuracies


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
    parser.add_argument("file", help="Fashion-MNIST's training images: a .npz with x and y")
    parser.add_argument("--seeds", type=int, default=15, help="0 counts feasible networks only")
    parser.add_argument("--table", type=Path, default=Path("search_table.jsonl"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow", "keras-tuner", "optuna")
    feasible()
    if not arguments.seeds:
        return
    table, source = table_of(arguments.file, arguments.table, arguments.jobs), load(arguments.file)
    scores = sorted(max(row["curve"]) for row in table.values())
    print(
        f"\n{IMAGES} images for training, {HELD:,} for validation, full length {EPOCHS} epochs; {len(table)} networks,"
    )
    print(f"accuracy {scores[0]:.1%} to {scores[-1]:.1%}, median {statistics.median(scores):.1%}")
    contestants = {
        "keras_tuner.RandomSearch": lambda seed: by_oracle(random_search, seed, table),
        "keras_tuner.Hyperband": lambda seed: by_oracle(hyperband, seed, table),
        "reszoo.search": lambda seed: ours(seed, table, source),
    }
    rows = {name: [] for name in contestants}
    for seed in range(1, arguments.seeds + 1):
        results = {name: search(seed) for name, search in contestants.items()}
        goal = best(results["keras_tuner.RandomSearch"])
        for name, trials in results.items():
            until, reached = spent(trials, goal)
            epochs = sum(len(curve) for _, curve in trials)
            rows[name].append((best(trials), epochs, spent(trials)[0], until if reached else float("inf")))
    print(
        f"\nmedians of {arguments.seeds} seeds; compute in 1e9 MACs per image; "
        f"the goal is RandomSearch's best of {TRIALS}"
    )
    print("                            best  epochs  compute  until goal  goal reached")
    for name, results in rows.items():
        score, epochs, total, until = map(statistics.median, zip(*results, strict=True))
        share = sum(row[3] < float("inf") for row in results) / len(results)
        print(f"  {name:25}{score:6.2%}{epochs:8.0f}{total / 1e9:9.3f}{until / 1e9:12.3f}{share:14.0%}")
    print("\ncompute of reszoo.search until the goal, relative to (median of the seeds; share of seeds with less)")
    mine = [row[3] for row in rows["reszoo.search"]]
    for name, column, what in (
        ("keras_tuner.RandomSearch", 2, "all 20 trials"),
        ("keras_tuner.RandomSearch", 3, "until its best"),
        ("keras_tuner.Hyperband", 2, "one full pass"),
        ("keras_tuner.Hyperband", 3, "until the goal"),
    ):
        theirs = [row[column] for row in rows[name]]
        pairs = list(zip(mine, theirs, strict=True))
        shares = [a / b if b < float("inf") else 0.0 for a, b in pairs if a < float("inf") or b < float("inf")]
        less = sum(a < b for a, b in pairs) / len(pairs)
        print(f"  {name}, {what:20}{statistics.median(shares):6.2f}   {less:4.0%}")
    seconds = TRIALS * statistics.mean(row["seconds"] for row in table.values())
    curve = keras_tuner_network(seconds, source)
    result = f"{len(curve)} epochs, best {max(curve, default=0):.2%}"
    print(f"\nkeras_tuner.HyperResNet in the {seconds:.0f} s of 20 random trials: {result}")


if __name__ == "__main__":
    main()
