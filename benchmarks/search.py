"""What a search costs: training compute until it is as good as the best of 20 random trials of full length.

    python benchmarks/search.py fashion_mnist_train.npz [--seeds 15] [--table search_table.jsonl]

Every network of one space of residual and plain nets (140) is trained once on a subset of Fashion-MNIST at 14x14, for
real, and its validation accuracy after every epoch noted in a table; a run that is killed goes on where it was. Then
the searches look up what they would have trained, so that many seeds cost minutes: keras_tuner's RandomSearch (20
trials) and Hyperband, by its own oracles, and `reszoo.search`. Compute is epochs times MACs, in the order of training,
until the accuracy is reached that is RandomSearch's best. Last, keras_tuner's own HyperResNet trains for as long as 20
random trials took. Before it all: feasible networks a second in every space that comes with the package, under a budget
that leaves out half of those that exist.
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
"""Trials of `reszoo.search`; most are ended early."""
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


def opened(file):
    with np.load(file) as read:
        x, y = read["x"], read["y"]
    held = (x[IMAGES : IMAGES + HELD], y[IMAGES : IMAGES + HELD])
    return reszoo.open_data((x[:IMAGES], y[:IMAGES]), size=SIDE, validation=held)


# The table.


def key(point):
    return json.dumps(point, sort_keys=True)


def one_thread():
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)


def trained(file, point):
    """Trains one network: its MACs, its validation accuracy after every epoch, and the seconds."""
    import keras
    import keras_tuner

    data, start = opened(file), time.perf_counter()
    space = SPACE.fitted(input_shape=data.shape, classes=len(data.classes))
    keras.utils.set_random_seed(0)
    hp = keras_tuner.HyperParameters()
    made = reszoo.HyperResNet(space, RECIPE, steps=-(-IMAGES // BATCH) * EPOCHS)
    space.ask(hp)
    hp.values.update(point)
    model = made.build(hp)
    x, y = data.arrays("train")
    held = data.arrays("validation")
    curve = made.fit(hp, model, x, y, epochs=EPOCHS, batch_size=BATCH, validation_data=held, verbose=0).history
    told = {"point": point, "macs": space.cost(point).macs, "curve": curve["val_accuracy"]}
    keras.backend.clear_session()
    return told | {"seconds": time.perf_counter() - start}


def table_of(file, path, jobs):
    """Trains what the table does not have yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    known = {key(row["point"]): row for row in map(json.loads, lines)}
    left = [point for point in SPACE.points() if key(point) not in known]
    context = multiprocessing.get_context("spawn")
    with path.open("a") as stream, ProcessPoolExecutor(jobs, mp_context=context, initializer=one_thread) as pool:
        for done in as_completed([pool.submit(trained, file, point) for point in left]):
            row = done.result()
            known[key(row["point"])] = row
            stream.write(json.dumps(row) + "\n")
            stream.flush()
    return known


# What a search would have trained: pairs of MACs and validation accuracies, epoch by epoch.


def by_oracle(oracle, seed, table):
    """The trials of one of keras-tuner's oracles."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    SPACE.ask(hp)
    made, found = oracle(hp, keras_tuner.Objective("val_accuracy", "max"), seed), []
    # The oracle prints a table of every trial.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        made._set_project_dir(folder, "search")
        while (trial := made.create_trial("tuner0")).status == "RUNNING":
            values = trial.hyperparameters.values
            row = table[key({name: values[name] for name in SPACE.axes})]
            first, last = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", EPOCHS)
            found.append((row["macs"], row["curve"][first:last]))
            made.update_trial(trial.trial_id, {"val_accuracy": max(row["curve"][:last])})
            trial.status = "COMPLETED"
            made.end_trial(trial)
    return found


def random_search(hp, objective, seed):
    import keras_tuner

    return keras_tuner.oracles.RandomSearchOracle(objective, TRIALS, hyperparameters=hp, seed=seed)


def hyperband(hp, objective, seed):
    import keras_tuner

    return keras_tuner.oracles.HyperbandOracle(objective, max_epochs=EPOCHS, factor=3, hyperparameters=hp, seed=seed)


def ours(seed, table, source):
    """The trials of `reszoo.search`, its workers looking up what they would have trained."""

    class Lookup:
        def do(self, job, *, ask=lambda told: "on"):
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
    """Epochs times MACs until the goal is reached (by default: never), and whether it was."""
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


class Over(BaseException):
    """The time is over; keras-tuner catches every Exception."""


def its_own(seconds, source):
    """What keras_tuner's HyperResNet finds in some seconds, on the same images at the least size it can shrink."""
    import keras
    import keras_tuner

    found, ends = [], time.monotonic() + seconds

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if time.monotonic() > ends:
                raise Over

        def on_epoch_end(self, epoch, logs=None):
            found.append(logs["val_accuracy"])

    def shown(part):
        x, y = source.arrays(part)
        x = keras.ops.convert_to_numpy(keras.ops.image.resize(np.repeat(x, 3, axis=-1), (32, 32)))
        return x, keras.utils.to_categorical(y, len(source.classes))

    x, y = shown("train")
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Over):
        made = keras_tuner.applications.HyperResNet(input_shape=x.shape[1:], classes=len(source.classes))
        search = keras_tuner.RandomSearch(made, objective="val_accuracy", max_trials=TRIALS, seed=0, directory=folder)
        settings = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": shown("validation"), "verbose": 0}
        search.search(x, y, callbacks=[Watch()], **settings)
    return found


def feasible():
    """Networks within budget a second, on one core, where the budget leaves out half of those that exist."""
    print("\nfeasible networks a second of one core; share of draws that exist; of those, within the budget")
    for name in reszoo.list_spaces():
        space = reszoo.space(name)
        known = [cost for point in islice(space.sample(seed=1), 2000) if (cost := space.cost(point))]
        budget = Budget(macs=statistics.median(cost.macs for cost in known))
        found, start, drawn = Feasible(space, budget), time.process_time(), 20_000
        fit = sum(found.has(point) for point in islice(space.sample(seed=2), drawn))
        rate, exist = fit / (time.process_time() - start), len(known) / 2000
        print(f"  {name:20}{rate:8,.0f} a second   {exist:4.0%}   {fit / drawn / exist:4.0%}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="Fashion-MNIST's training images: a .npz with x and y")
    parser.add_argument("--seeds", type=int, default=15, help="0 counts feasible networks only")
    parser.add_argument("--table", type=Path, default=Path("search_table.jsonl"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    describe("reszoo", "keras", "tensorflow", "keras-tuner", "optuna")
    feasible()
    if not asked.seeds:
        return
    table, source = table_of(asked.file, asked.table, asked.jobs), opened(asked.file)
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
    for seed in range(1, asked.seeds + 1):
        found = {name: search(seed) for name, search in contestants.items()}
        goal = best(found["keras_tuner.RandomSearch"])
        for name, trials in found.items():
            until, reached = spent(trials, goal)
            epochs = sum(len(curve) for _, curve in trials)
            rows[name].append((best(trials), epochs, spent(trials)[0], until if reached else float("inf")))
    print(
        f"\nmedians of {asked.seeds} seeds; compute in 1e9 MACs an image; the goal is RandomSearch's best of {TRIALS}"
    )
    print("                            best  epochs  compute  until goal  goal reached")
    for name, told in rows.items():
        score, epochs, whole, until = map(statistics.median, zip(*told, strict=True))
        often = sum(row[3] < float("inf") for row in told) / len(told)
        print(f"  {name:25}{score:6.2%}{epochs:8.0f}{whole / 1e9:9.3f}{until / 1e9:12.3f}{often:14.0%}")
    print("\ncompute of reszoo.search until the goal, over (median of the seeds; share of seeds where less)")
    mine = [row[3] for row in rows["reszoo.search"]]
    for name, column, what in (
        ("keras_tuner.RandomSearch", 2, "all 20 trials"),
        ("keras_tuner.RandomSearch", 3, "until its best"),
        ("keras_tuner.Hyperband", 2, "one whole pass"),
        ("keras_tuner.Hyperband", 3, "until the goal"),
    ):
        theirs = [row[column] for row in rows[name]]
        pairs = list(zip(mine, theirs, strict=True))
        shares = [a / b if b < float("inf") else 0.0 for a, b in pairs if a < float("inf") or b < float("inf")]
        less = sum(a < b for a, b in pairs) / len(pairs)
        print(f"  {name}, {what:20}{statistics.median(shares):6.2f}   {less:4.0%}")
    seconds = TRIALS * statistics.mean(row["seconds"] for row in table.values())
    curve = its_own(seconds, source)
    told = f"{len(curve)} epochs, best {max(curve, default=0):.2%}"
    print(f"\nkeras_tuner.HyperResNet in the {seconds:.0f} s of 20 random trials: {told}")


if __name__ == "__main__":
    main()
