"""From a study to files for use: the best network, its refit, the leaderboard."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pretend
import pytest
from conftest import needs, refused
from pretend import DATA, SPACE, search
from scipy.stats import binomtest
from typer.testing import CliRunner

import reszoo
from reszoo.cli.screen import app
from reszoo.data.arrays import Arrays
from reszoo.data.dataset import digests
from reszoo.data.examples import Concatenation
from reszoo.report.trials import interval
from reszoo.training.recipes import Metric
from reszoo.tuning.page import importances
from reszoo.tuning.production import SEEN, with_validation


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a study of eight trials."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    search(folder)
    # A copy of it must not find the weights where they were trained.
    return folder.rename(folder.with_name("moved"))


@pytest.fixture
def study(tmp_path, whole):
    """A copy of that study, in `tmp_path / "s"`."""
    shutil.copytree(whole, tmp_path / "s")
    return reszoo.open_study(tmp_path / "s")


def command(*words):
    return CliRunner().invoke(app, ["search", *map(str, words)])


def test_best_writes_network_recipe_weights_and_card(tmp_path, study):
    result = command("best", tmp_path / "s", "--output", tmp_path / "best")
    assert result.exit_code == 0, result.output
    best, folder = study.best(), tmp_path / "best"
    assert {file.name for file in folder.iterdir()} == {"network.yaml", "recipe.yaml", "model.keras", "README.md"}
    assert (folder / "model.keras").read_bytes() == best.weights.read_bytes()
    name = f"simulated_{best.number}"
    assert reszoo.spec(f"{folder / 'network.yaml'}:{name}").replace(name="x") == best.spec.replace(name="x")
    recipe = reszoo.recipe(f"{folder / 'recipe.yaml'}:{name}")
    assert recipe.model_copy(update={"name": best.recipe.name}) == best.recipe
    assert recipe.learning_rate.peak == best.point["learning_rate.peak"] and recipe.epochs == 4
    card = (folder / "README.md").read_text()
    assert f"{best.score:.4f}, 95 % interval" in card and "optimistic" in card and f"network.yaml:{name}" in card
    assert card.strip() in result.output


def test_another_trial_and_an_earlier_export(tmp_path, study):
    number = next(trial.number for trial in study.pareto("macs") if trial.number != study.best().number)
    study.export(tmp_path / "best")
    with refused([str(tmp_path / "best"), "earlier call", "new or empty folder", "overwrite"]):
        study.export(tmp_path / "best", trial=number)
    file = study.export(tmp_path / "best", trial=number, overwrite=True)
    assert file.read_bytes() == study.trials[number].weights.read_bytes()
    assert f"simulated_{number}" in (tmp_path / "best" / "network.yaml").read_text()


def damaged(study):
    file = study.best().weights
    file.write_bytes(file.read_bytes()[:20])


WRONG_EXPORTS = [
    (lambda study: study.best().weights.unlink(), {}, ["no weights", "--refit", "study.refit"]),
    (damaged, {}, ["damaged weights", "--refit"]),
    (lambda study: None, {"trial": 99}, ["trial", "got 99", "0 to 7"]),
    (lambda study: None, {"trial": -1}, ["trial", "got -1", "0 to 7"]),
]


@pytest.mark.parametrize(("change", "settings", "words"), WRONG_EXPORTS, ids=["no weights", "damaged", "99", "-1"])
def test_what_cannot_be_exported_names_the_way(tmp_path, study, change, settings, words):
    number = study.best().number
    change(study)
    with refused(words):
        study.export(tmp_path / "best", **({"trial": number} | settings))
    assert not (tmp_path / "best").exists()


def test_unusable_output_folder(tmp_path, study):
    (tmp_path / "file").write_text("")
    with refused([str(tmp_path / "file"), "unusable folder"]):
        study.export(tmp_path / "file" / "best")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with refused(["other files (run.json)"]):
        study.export(run, overwrite=True)


def test_options_of_refit_without_it_are_refused(tmp_path, study):
    for option in (("--epochs", 3), ("--part", "train"), ("--data", "x")):
        result = command("best", tmp_path / "s", "--output", tmp_path / "best", *option)
        assert result.exit_code and f"{option[0]} without --refit" in str(result.exception)
    result = command("best", tmp_path / "s", "--output", tmp_path / "best", "--refit")
    assert "a study on data in memory" in str(result.exception) and "--data" in str(result.exception)
    with refused(["refit.part", "did you mean 'train'"]):
        study.refit(tmp_path / "best", part="trian", data=DATA)
    with refused(["refit", "shape", "[8, 8, 1], as in the study"]):
        study.refit(tmp_path / "best", data=(DATA[0][:, :4], DATA[1]))


def test_leaderboard_with_intervals(tmp_path, study):
    board = study.leaderboard()
    assert board.trials[0].number == study.best().number
    assert {trial.state for trial in board.trials} == {"complete"} and len(board.trials) < len(study.trials)
    assert board.looks == sum(trial.epochs for trial in study.trials) and board.examples == 4
    result = command("show", tmp_path / "s")
    assert result.exit_code == 0 and "optimistic" in result.output
    assert f"the largest of {board.looks} evaluations" in result.output and f"{study.best().score:.4f}" in result.output
    content = json.loads(command("show", tmp_path / "s", "--json").output)
    assert content["trials"][0]["number"] == study.best().number and content["looks"] == board.looks
    low, high = content["trials"][0]["interval"]
    assert low < study.best().score < high
    assert "optimistic" in board._repr_html_() and len(repr(board)) < 160


def test_the_best_of_errors_is_the_smallest(study):
    board = study.leaderboard()
    errors = tuple(replace(trial, measure=Metric("val_rmse", -1)) for trial in board.trials)
    assert "the smallest of" in replace(board, trials=errors, measure="rmse").note and "the largest of" in board.note


def test_leaderboard_of_a_study_without_finished_trials(tmp_path):
    space = reszoo.space(SPACE)
    study = pretend.SimulatedSearch(space, DATA, folder=tmp_path / "s", **pretend.SETTINGS)
    assert study.leaderboard().rows() == []
    assert "no trial was trained to its end" in command("show", tmp_path / "s").output
    assert json.loads(command("show", tmp_path / "s", "--json").output)["trials"] == []
    with refused(["no finished trial"]):
        study.export(tmp_path / "best")


@pytest.mark.parametrize(("right", "examples"), [(0, 5), (5, 5), (37, 40), (1262, 1297), (1, 2)])
def test_interval_of_a_share(right, examples):
    expected = binomtest(right, examples).proportion_ci(0.95, method="wilson")
    assert interval(right / examples, examples) == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert interval(0.5, 0) == (0, 1)


def test_concatenation_takes_in_order():
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 255, (7, 6, 6, 1)).astype("uint8"), np.arange(7)
    whole = Arrays(x, labels)
    parts = Concatenation([Arrays(x[:3], labels[:3]), Arrays(x[:0], labels[:0]), Arrays(x[3:], labels[3:])])
    assert len(parts) == 7 and [*parts.labels] == [*range(7)] and "3 + 4" in repr(parts)
    indices, boxes = [6, 0, 3, 2, 6], rng.uniform((0, 0, 0.6, 0.6), (0.4, 0.4, 1, 1), (5, 4))
    np.testing.assert_array_equal(parts.take(indices), whole.take(indices))
    np.testing.assert_allclose(parts.take(indices, boxes), whole.take(indices, boxes))
    assert parts.take([]).shape == (0, 6, 6, 1)


def test_all_examples_of_a_folder_keep_its_range(tmp_path):
    from PIL import Image

    from reszoo.training.metadata import metadata_of

    for number in range(8):
        path = tmp_path / ("train", "val")[number % 2] / "ab"[number // 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (30 * number, 9, 9)).save(path)
    data = reszoo.open_data(tmp_path, size=8)
    both = with_validation(data)
    assert len(both.train) == 8 and len(data.train) == len(data.validation) == 4
    assert metadata_of(both).white == metadata_of(data).white == 255
    assert digests(both) == digests(with_validation(data)) and both.counts()["a"] == (4, 2)
    assert both.train.take([7, 0], [(0, 0, 0.5, 0.5)] * 2).shape == (2, 8, 8, 3)


def test_all_examples_of_a_refit():
    data = reszoo.open_data(DATA)
    both = with_validation(data)
    assert len(both.train) == len(DATA[0]) and len(both.validation) == len(data.validation)
    assert SEEN in both.notes


def test_refit_is_a_run_with_the_origin_of_its_network(tmp_path, study):
    run = study.refit(tmp_path / "run", data=DATA, epochs=1, verbose=0)
    card = (run.folder / "README.md").read_text()
    assert SEEN in run.remarks and f"{SEEN[1:]}." in card and card.count("## The search") == 1
    assert {"network.yaml", "recipe.yaml", "run.json", "model.keras"} <= {file.name for file in run.folder.iterdir()}
    settings = json.loads((run.folder / "run.json").read_text())
    assert settings["data"]["train"] == len(DATA[0]) and settings["seed"] == study.best().seed
    again = study.refit(tmp_path / "run", data=DATA, epochs=1, verbose=0)
    assert again.network is None and (run.folder / "README.md").read_text() == card
    with refused(["recipe.batch"]):
        study.refit(tmp_path / "run", data=DATA, epochs=1, batch=4, verbose=0)


@pytest.mark.slow
@needs("onnxruntime")
def test_from_search_to_another_runtime(tmp_path):
    """Real training on a table: the written file alone is enough for evaluation and deployment."""
    colors, kinds = ("red", "blue", "blue"), "aaaabbb"
    rows = ["width,color,kind", *(f"{n % 7}.5,{colors[n % 3]},{kinds[n % 7]}" for n in range(80))]
    table, space, best = tmp_path / "table.csv", tmp_path / "space.yaml", tmp_path / "best" / "model.keras"
    table.write_text("\n".join(rows))
    space.write_text("rows: {network: residual_mlp18, size: {depth: [1], width: [0.125, 0.25]}}")
    settings = ("--data", table, "--space", f"{space}:rows", "--trials", 1, "--epochs", 2, "--output", tmp_path / "s")
    for words in (settings, ("best", tmp_path / "s", "--output", best.parent)):
        done = command(*words)
        assert done.exit_code == 0, done.output
    study = reszoo.open_study(tmp_path / "s")
    trial = study.best()
    assert reszoo.evaluate(best, table).accuracy == pytest.approx(trial.score)
    assert reszoo.deploy(best, "onnx", tmp_path / "model.onnx", data=table).agreement == 1
    run = study.refit(tmp_path / "refit", epochs=3, verbose=0)
    assert len(run.history) == 3 and SEEN in run.remarks
    held_out = study.refit(tmp_path / "held", part="train", verbose=0)
    assert [row["val_accuracy"] for row in held_out.history] == [row["val_accuracy"] for row in trial.history]
    name = f"rows_{trial.number}"
    files = {"model": f"{best.parent}/network.yaml:{name}", "recipe": f"{best.parent}/recipe.yaml:{name}"}
    pasted = reszoo.train(files["model"], table, output=tmp_path / "p", recipe=files["recipe"], verbose=0)
    assert len(pasted.history) == 2


def test_page_of_a_study_has_what_a_decision_needs(tmp_path):
    study = search(tmp_path / "s", trials=14)
    file = study.write()
    page, best = file.read_text(), study.best()
    looks = sum(trial.epochs for trial in study.trials)
    assert "95 % interval" in page and f"largest of {looks} evaluations" in page and "optimistic" in page
    assert f"reszoo search best {tmp_path / 's'} --output best" in page and str(best.weights) in page
    assert f"peak: {best.recipe.learning_rate.peak}" in page
    for fact in (
        "Validation examples",
        "Draws within the budget",
        "params 2500",
        "optuna",
        "fANOVA",
        "validation error",
    ):
        assert fact in page, fact
    assert "ended early" in page and (tmp_path / "s" / "best_so_far.png").exists()
    rows = list(csv.DictReader((tmp_path / "s" / "trials.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in rows] == [trial.number for trial in study.trials]
    assert float(rows[best.number]["score"]) == best.score and rows[0]["learning_rate.peak"]


def test_page_of_few_trials_draws_no_effects(tmp_path):
    page = search(tmp_path / "s", trials=4).page()
    (effects,) = [section.parts for section in page.sections if section.title.startswith("Effects")]
    assert [*effects] == ["Too few trials (4) to tell what matters; about 10 are needed."]


def test_importance_knows_trials_that_ended_early(tmp_path):
    study = search(tmp_path / "s", trials=14)
    shares = importances(study.trials, study.space, epoch=2)
    assert sum(shares.values()) == pytest.approx(1) and set(shares) <= set(study.space.axes)
    assert max(shares, key=shares.get).endswith("width"), "the simulated score grows with the width"
    assert importances(study.trials[:9], study.space, epoch=2) == {}
    fixed = [replace(trial, point={**trial.point, "shortcut": "none"}) for trial in study.trials]
    assert "shortcut" not in importances(fixed, study.space, epoch=2)
    assert importances(study.trials, study.space, epoch=9) == importances(study.trials, study.space, epoch=0) == {}


def test_logs_for_tensorboard(tmp_path, study):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = command("report", tmp_path / "s", "--logs", tmp_path / "logs")
    assert result.exit_code == 0, result.output
    assert len([*(tmp_path / "logs").iterdir()]) == len(study.trials)
    events = EventAccumulator(str(tmp_path / "logs" / "0000"))
    events.Reload()
    curve = [row["val_accuracy"] for row in study.trials[0].history]
    assert [event.value for event in events.Scalars("val_accuracy")] == pytest.approx(curve)
    assert events.summary_metadata["_hparams_/session_start_info"]
    with refused([str(tmp_path / "logs"), "folder with files"]):
        study.write_logs(tmp_path / "logs")
