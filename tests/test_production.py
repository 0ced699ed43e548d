"""From a study to files for use: the best network, its refit, the leaderboard."""

import pretend
import pytest
from pretend import SPACE, search

import reszoo


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(pretend.SimulatedWorker, "at", {})
    monkeypatch.setattr(pretend.SimulatedWorker, "log", None)


def test_study_from_before_widths_were_rounded_keeps_its_networks(tmp_path):
    space = reszoo.space(SPACE, size={"widths": {"values": (), "low": 2, "high": 8}})
    study = search(tmp_path / "s", trials=2, space=reszoo.space(space, grain=1), budget={"params": 9000})
    settings = study.settings | {
        "space": {key: value for key, value in study.settings["space"].items() if key != "grain"}
    }
    study.engine.set_user_attr("plan", settings)
    before = [trial.spec for trial in study.trials]
    assert any(stage.width % 2 for spec in before for stage in spec.stages)
    assert [trial.spec for trial in reszoo.open_study(tmp_path / "s").trials] == before
    resumed = search(tmp_path / "s", trials=4, space=space, budget={"params": 9000})
    assert [trial.spec for trial in resumed.trials[:2]] == before
    assert [reszoo.cost(trial.spec).params for trial in resumed.trials] == [t.costs["params"] for t in resumed.trials]
