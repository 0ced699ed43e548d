"""A search with a simulated training: tests everything around it in a fraction of a second."""

import hashlib
import json
import os
import signal
import sys
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np

import reszoo
from reszoo.tuning.job import Outcome, Progress
from reszoo.tuning.search import Search

SPACE = reszoo.Space(
    name="simulated",
    network="resnet20_cifar",
    size={"depths": (1, 2, 3), "widths": (2, 4, 6, 8)},
    net={"shortcut": ("project", "none")},
    recipe={"learning_rate.peak": {"low": 0.01, "high": 1.0, "scale": "log"}},
)
DATA = (np.zeros((40, 8, 8, 1), "uint8"), np.arange(40) % 4)
SETTINGS = {"budget": {"params": 2500}, "epochs": 4, "seed": 0, "heartbeat": 1, "grace": 3}


LUCK = 0.1
"""Largest contribution of the noise to a score."""


def curve(job):
    """Validation accuracy after every epoch: wider is better, with a little noise that depends on the seed."""
    digest = hashlib.sha256(
        f"{job.spec.model_dump_json(exclude_defaults=True)} {job.recipe.learning_rate.peak} {job.seed}".encode()
    ).digest()
    end = 0.5 + 0.3 * sum(stage.width for stage in job.spec.stages) / 24 + LUCK * digest[0] / 255
    return [end * (1 - 0.5**epoch) for epoch in range(1, job.recipe.epochs + 1)]


class SimulatedWorker:
    """Replaces a worker process; `at` maps (folder name, epoch) to a function that runs there."""

    at: ClassVar[dict] = {}
    log: Path | None = None

    def do(self, job, *, ask=lambda progress: "continue"):
        file = job.folder / "history.jsonl"
        history = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        values = curve(job)
        while len(history) < len(values):
            epoch = len(history) + 1
            event = self.at.get((job.folder.name, epoch)) or self.at.get(("*", epoch))
            if event is not None and (outcome := event(job)) is not None:
                return outcome
            if history and ask(Progress(history)) == "stop":
                return Outcome("pruned", history)
            history.append({"epoch": epoch, "val_accuracy": values[epoch - 1]})
            if self.log:
                with self.log.open("a") as stream:
                    stream.write(f"{job.folder.name} {epoch}\n")
            job.folder.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in history))
            with zipfile.ZipFile(job.folder / "best.keras", "w") as archive:
                archive.writestr("score", str(values[epoch - 1]))
        return Outcome("complete", history)

    def stop(self):
        pass

    close = stop


class SimulatedSearch(Search):
    worker = SimulatedWorker


def search(folder, *, trials=8, jobs=1, space=SPACE, data=DATA, **settings):
    return SimulatedSearch(space, data, folder=folder, **SETTINGS | settings).search(trials=trials, jobs=jobs)


def results(study):
    """What must be equal however often a study was killed."""
    return [
        (row["number"], row["state"], row["score"], row["params"], row["values"]["learning_rate.peak"])
        for row in study.rows()
    ]


def killed_once(marker, number=signal.SIGKILL):
    """Sends a signal to this process, the first time: by default it is killed."""

    def kill(job):
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), number)

    return kill


def main(folder, trials, storage, *deadly):
    """Searches in this process, which is killed once at each `trial:epoch`, and suspended at `trial:epoch:stop`."""
    folder = Path(folder)
    SimulatedWorker.log = folder.parent / f"{folder.name}.log"
    for place in deadly:
        number, epoch, *stop = place.split(":")
        marker = folder.parent / f"{number}-{epoch}"
        SimulatedWorker.at[(number, int(epoch))] = killed_once(marker, signal.SIGSTOP if stop else signal.SIGKILL)
    study = search(folder, trials=int(trials), storage=None if storage == "-" else storage)
    print(json.dumps(results(study)))


if __name__ == "__main__":
    main(*sys.argv[1:])
