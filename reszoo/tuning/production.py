"""Export of a trial: its network, recipe, weights and card, as they are or after longer training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml

from reszoo.arch.ops import size
from reszoo.data.dataset import Data
from reszoo.data.examples import Concatenation
from reszoo.data.sources import open_data
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.files import atomic_write, write_file
from reszoo.training.metadata import warn_of
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import CARD, FINAL, SETTINGS, usable
from reszoo.training.trained import Trained
from reszoo.tuning.leaderboard import Leaderboard
from reszoo.tuning.results import Trial
from reszoo.weights.formats.archives import is_zip

NETWORK, RECIPE = "network.yaml", "recipe.yaml"
"""Files of the network and of the recipe, as entries that other commands read as `file.yaml:name`."""
FILES = (NETWORK, RECIPE, FINAL, CARD)
Part = Literal["all", "train"]
SEEN = "the validation examples are part of training: validation figures say nothing about new examples"


def network_yaml(trial: Trial, name: str) -> str:
    """Returns a trial's network as an entry of a zoo file."""
    fields = trial.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    return _entry(name, fields)


def recipe_yaml(trial: Trial, name: str) -> str:
    """Returns a trial's recipe as an entry of a recipe file."""
    assert trial.recipe is not None
    return _entry(name, trial.recipe.model_dump(mode="json", exclude_defaults=True, exclude={"name"}))


def _entry(name: str, fields: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump({name: fields}, sort_keys=False, default_flow_style=None, width=110))


def entry_name(trial: Trial, board: Leaderboard) -> str:
    """Returns the name of a trial's network and recipe in files."""
    return f"{board.space}_{trial.number}"


def export(trial: Trial, output: Path, board: Leaderboard, settings: Mapping[str, Any], *, overwrite: bool) -> Path:
    """Returns the path of `model.keras` after writing a trial's network, recipe, best weights and card into a folder.

    Args:
        trial: of the study.
        output: the folder; a new or an empty one, unless `overwrite`.
        board: of the study.
        settings: of the study.
        overwrite: whether the files of an earlier call are replaced.

    Raises:
        ReszooError: the weights are missing or damaged, or the folder cannot be used.
    """
    weights = trial.weights
    if not weights.is_file() or not is_zip(weights):
        got = f"damaged weights ({weights})" if weights.is_file() else f"no weights ({weights})"
        hint = f"train the network again: --refit --trial {trial.number}, or study.refit(...)"
        expected = "a trial on a front, or one of the three best, whose weights are kept"
        raise ReszooError(f"trial {trial.number}", got=got, expected=expected, hint=hint)
    with usable(output):
        _check_new(output, overwrite=overwrite)
        with atomic_write(output / FINAL) as temporary:
            shutil.copyfile(weights, temporary)
        _write_entries(trial, output, board)
        write_file(output / CARD, _card(trial, board, settings))
    return output / FINAL


def refit(trial: Trial, data: Data, output: Path, board: Leaderboard, *, part: Part, **options: Any) -> Trained:
    """Returns a run that trains a trial's network by its recipe, with network, recipe and card in its folder.

    Args:
        trial: of the study.
        data: as in the search.
        output: the run folder; the same call resumes an interrupted run.
        board: of the study.
        part: `all` trains on the training and the validation examples, `train` on those of training as in the search.
        options: further arguments of `reszoo.train`, such as `epochs`.

    Raises:
        ReszooError: unknown part, a folder with other files or another run.
    """
    if part not in ("all", "train"):
        raise UnknownNameError("refit.part", got=part, known=["all", "train"])
    source = with_validation(data) if part == "all" else data
    trained = trial.train(source, output=output, **options)
    with usable(output):
        _write_entries(trial, output, board)
        before = (output / CARD).read_text(encoding="utf-8")
        title = "## The search"
        if title not in before:
            write_file(output / CARD, f"{before.rstrip()}\n\n{title}\n\n{_origin(trial, board)}\n{_use(trial, board)}")
    return trained


def with_validation(data: Data) -> Data:
    """Returns data whose training part contains the validation examples, too."""
    train = Concatenation([data.train, data.validation])
    return replace(data, train=train, notes=(*data.notes, SEEN))


def open_again(record: Mapping[str, Any], settings: Mapping[str, Any], data: Any, options: Mapping[str, Any]) -> Data:
    """Returns the data of a study, or others for its networks.

    Args:
        record: how the data of the study were opened.
        settings: of the study.
        data: another source, or the same one, where the record does not name it; or a `Data`.
        options: arguments of `open_data`.

    Raises:
        ReszooError: nothing says where the data are; or they do not fit the networks.
    """
    about, own = settings["data"], data is None
    if not isinstance(data, Data):
        arguments = {**record, **{name: value for name, value in options.items() if value is not None}}
        source = arguments.pop("data", None) if data is None else data
        arguments.pop("data", None)
        if source is None:
            hint = "pass them: data=, --data"
            raise ReszooError(
                "refit", got="a study on data in memory", expected="data that can be opened again", hint=hint
            )
        if len(about["shape"]) == 3 and "size" not in arguments and isinstance(source, (str, Path)):
            arguments |= {"size": about["shape"][0]} if Path(source).expanduser().is_dir() else {}
        data = open_data(source, seed=settings["seed"], **arguments)
    for field, now in (("shape", list(data.shape)), ("classes", list(data.classes))):
        if now != list(about[field]):
            expected = f"{about[field]}, as in the study"
            raise ReszooError(f"refit: {data.name}: {field}", got=now, expected=expected)
    counts = [(len(data.train), len(data.validation)), (about["train"], about["validation"])]
    if own and counts[0] != counts[1]:
        sizes = ", and ".join(f"{train:,} and {validation:,}" for train, validation in counts)
        warn_of([f"training and validation examples: {sizes} in the search"], data.name)
    return data


def _check_new(path: Path, *, overwrite: bool) -> None:
    """Creates a folder; files of other kinds, and those of a run, are never replaced."""
    path.mkdir(parents=True, exist_ok=True)
    files = sorted(file.name for file in path.iterdir())
    if SETTINGS in files or not {*files} <= {*FILES}:
        raise ReszooError(str(path), got=f"a folder with other files ({', '.join(files[:3])})", expected="a new folder")
    if files and not overwrite:
        hint = "--overwrite (overwrite=True) replaces them"
        raise ReszooError(str(path), got="the files of an earlier call", expected="a new or empty folder", hint=hint)


def _write_entries(trial: Trial, folder: Path, board: Leaderboard) -> None:
    name = entry_name(trial, board)
    write_file(folder / NETWORK, network_yaml(trial, name))
    write_file(folder / RECIPE, recipe_yaml(trial, name))


def _card(trial: Trial, board: Leaderboard, settings: Mapping[str, Any]) -> str:
    data, costs, recipe = settings["data"], trial.costs, trial.recipe
    assert isinstance(recipe, Recipe)
    start = "random weights" if trial.start is None else trial.start
    test = getattr(trial, "test", None)
    return "\n".join(
        [
            f"# {entry_name(trial, board)} on {data['name']}",
            "",
            f"{costs['params']:,.0f} parameters, {costs['macs']:,.0f} multiply-accumulates at "
            f"{size(trial.spec.input_shape)}, {costs['depth']:.0f} weighted layers. "
            f"Classes: {', '.join(map(str, data['classes']))}.",
            "",
            f"Trained on {data['train']:,} examples by the recipe in `{RECIPE}`, {trial.epochs} of {recipe.epochs} "
            f"epochs, batch {recipe.batch}, seed {trial.seed}, from {start}. The weights are those of the best epoch.",
            "",
            _origin(trial, board),
            *([f"Test {board.measure}, measured once: {test:.4f}.\n"] if test is not None else []),
            _use(trial, board),
        ]
    )


def _origin(trial: Trial, board: Leaderboard) -> str:
    """What the search knows of the network."""
    edges = board.interval(trial)
    spread = "" if edges is None else f", 95 % interval {edges[0]:.4f} to {edges[1]:.4f}"
    count = f"Trial {trial.number} of the space `{board.space}`; {len(board.trials)} trials were trained to their end."
    return f"{count} In the search: {trial.score:.4f}{spread} ({board.note}).\n"


def _use(trial: Trial, board: Leaderboard) -> str:
    name = entry_name(trial, board)
    return "\n".join(
        [
            "```bash",
            f"reszoo predict {FINAL} IMAGES" if len(trial.spec.input_shape) == 3 else f"reszoo predict {FINAL} TABLE",
            f"reszoo deploy {FINAL} --to onnx",
            f"reszoo train --model {NETWORK}:{name} --recipe {RECIPE}:{name} --data DATA --output RUN",
            "```",
            "",
        ]
    )
