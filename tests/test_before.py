"""Models, run folders and studies that version 0.1 wrote still open and resume."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import reszoo

BEFORE = Path(__file__).parent / "before"


def unpack(name: str, folder: Path) -> Path:
    """Extracts an archive and returns the folder in it."""
    with tarfile.open(BEFORE / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def test_model_opens_with_its_spec():
    import keras

    model = keras.models.load_model(BEFORE / "resnet.keras", compile=False)
    spec = reszoo.spec("resnet20_cifar", depths=1, width_multiplier=0.25)
    assert reszoo.spec_of(model) == spec
    again = reszoo.from_checkpoint(BEFORE / "resnet.keras").model
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)


def test_run_resumes_after_its_last_epoch(tmp_path):
    folder = unpack("run", tmp_path)
    before = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert len(before) == 2
    evaluation = reszoo.evaluate(folder / "best.keras", "digits")
    assert evaluation.accuracy > 0.5 and len(repr(evaluation)) < 160 and "precision" in evaluation._repr_html_()
    changes = {"depths": 1, "width_multiplier": 0.25}
    trained = reszoo.train("resnet20_cifar", "digits", output=folder, changes=changes, epochs=3, seed=0, verbose=0)
    assert trained.history[:2] == before and len(trained.history) == 3
    assert trained.history[-1]["val_accuracy"] > 0.5


@pytest.mark.slow
def test_study_opens_and_resumes(tmp_path):
    folder = unpack("study", tmp_path)
    study = reszoo.open_study(folder)
    assert [(trial.state, trial.epochs) for trial in study.trials] == [("complete", 2), ("pruned", 1), ("running", 1)]
    assert study.best().model().count_params() > 0
    space = reszoo.Space(
        name="small",
        network="resnet20_cifar",
        size={"depths": (1,), "width": (0.125, 0.25)},
        net={"shortcut": ("pad", "none")},
        recipe={"learning_rate.peak": {"low": 0.02, "high": 0.5, "scale": "log"}},
    )
    first = study.trials[2].history
    settings = {"budget": {"params": 20000}, "epochs": 2, "seed": 0}
    study = reszoo.search(space, "digits", folder=folder, trials=3, **settings)
    assert [trial.state for trial in study.trials] == ["complete", "pruned", "complete"]
    assert study.trials[2].history[:1] == first and study.trials[2].epochs == 2
