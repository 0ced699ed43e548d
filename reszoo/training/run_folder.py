"""A run folder: its files and its lock, and which run it holds: settings, compared before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from reszoo.arch.spec import NetSpec
from reszoo.data.dataset import difference, digests
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.files import strict_json, write_file
from reszoo.training.recipes import Recipe, stale_epochs

STATE = "state"
HISTORY = "history.jsonl"
BEST = "best.keras"
FINAL = "model.keras"
SETTINGS = "run.json"
CARD = "README.md"
LOCK = ".lock"


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Holds the lock of an existing folder, if one is named; the operating system ends it with the process.

    Raises:
        ReszooError: another process holds it.
    """
    if folder is None:
        yield
        return
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        hint = "wait until that run ends, or choose another folder"
        raise ReszooError(str(folder), got="a run folder in use by another process", hint=hint) from None
    except (OSError, NotImplementedError):
        # A read-only folder is refused when it is written to; file systems without locks have none.
        pass
    try:
        yield
    finally:
        lock.release()


def saved_epochs(folder: Path) -> int:
    """Returns the number of epochs of a run whose state is on disk."""
    return max((int(path.name.rpartition("-")[2]) for path in folder.glob(f"{STATE}-*")), default=0)


MAY_DIFFER = ("versions", "devices", "data", "classes", "digest", "source", "callbacks", "legs", "results")
"""Recorded settings that may differ when a run resumes; data, classes and digest are compared on their own."""

Settings = dict[str, Any]


def settings_of(
    spec: NetSpec,
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    weights: str | Path | None,
    digest: Mapping[str, str] | None = None,
) -> Settings:
    """Returns what a run depends on, but for backend and versions: the content of `run.json`.

    Args:
        spec: the network.
        data: to train on.
        recipe: how to train.
        seed: of the run.
        weights: to start from.
        digest: of the data, if it is known; files are then not read again.
    """
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    sizes = {name: len(part) for name, part in parts.items() if part is not None}
    return {
        "spec": spec.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "data": {"name": data.name, "task": getattr(data, "task", "classification"), **sizes},
        "digest": dict(digest) if digest is not None else digests(data),
        "classes": list(data.classes),
        "seed": seed,
        "weights": None if weights is None else str(weights),
    }


def read_settings(folder: Path) -> Settings:
    """Returns the content of `run.json`; empty without one.

    Raises:
        ReszooError: the file cannot be read.
    """
    try:
        content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ReszooError(str(folder), got=f"an unusable folder ({error})") from None
    if not isinstance(content, dict):
        raise ReszooError(str(folder), got=f"a damaged {SETTINGS} ({type(content).__name__})", expected="a JSON object")
    return with_defaults(content, spec=NetSpec, recipe=Recipe)


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes `run.json`."""
    write_file(folder / SETTINGS, strict_json(settings, indent=2))


def read_history(folder: Path) -> list[dict[str, float]]:
    """Returns the metrics of every epoch of a run; empty without any.

    Raises:
        ReszooError: the file is damaged.
    """
    try:
        lines = (folder / HISTORY).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        hint = "delete the file: the next resume writes it again from the state of the run"
        raise ReszooError(str(folder / HISTORY), got=f"a damaged history ({error})", hint=hint) from None


@contextmanager
def usable(folder: Path, *, hint: str = "") -> Iterator[None]:
    """Turns errors of the disk into one about a folder.

    Raises:
        ReszooError: the folder cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ReszooError(str(folder), got=f"an unusable folder ({error})", hint=hint) from None


def prepare(folder: Path) -> Path:
    """Returns a run folder, which exists then; a folder with other files is refused.

    Raises:
        ReszooError: the folder cannot be used.
    """
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS).exists() and any(path.name != LOCK for path in folder.iterdir()):
            expected = "an empty folder, or that of a run"
            raise ReszooError(str(folder), got="a folder with other files", expected=expected)
    return folder


def begin(folder: Path, settings: Settings, *, extends: bool = True) -> None:
    """Writes `run.json` into a folder, or checks the one there; another number of epochs is recorded.

    Args:
        folder: of the run.
        settings: of the call.
        extends: whether the call may change the number of epochs; machines that take part in a run may not.

    Raises:
        ReszooError: the folder cannot be used, or holds another run or a run on other data.
    """
    with usable(folder):
        before = read_settings(prepare(folder))
        if not before:
            write_settings(folder, settings)
            return
        check_same(folder, before, settings, extends=extends)
        if before["recipe"]["epochs"] != settings["recipe"]["epochs"]:
            write_settings(folder, _with_leg(before, settings, saved_epochs(folder)))
        elif "digest" not in before:
            write_settings(folder, {**before, "digest": settings["digest"]})


def check_same(folder: Path, before: Settings, settings: Settings, *, extends: bool = True) -> None:
    """Checks that the settings are those of the run in a folder, but for the number of epochs.

    Raises:
        ReszooError: they are not, or there are fewer epochs than the run has finished.
    """
    data = difference(before["digest"], settings["digest"]) if "digest" in before else ""
    if data and data != "split or order":
        _refuse_data(folder, data)
    names = [name for name in settings if name not in MAY_DIFFER] + ([] if "digest" in before else ["data", "classes"])
    pairs = [pair for name in names for pair in differences(before.get(name), settings[name], name)]
    same_run = ("data.task", "data.test", *(["recipe.epochs"] if extends else []))
    changes = [pair for pair in pairs if pair[0] not in same_run]
    if changes:
        got = ", ".join(f"{path}: {value!r}" for path, _, value in changes)
        start = f"--weights {folder / FINAL} --output OTHER" if (folder / FINAL).exists() else "--output OTHER"
        hint = f"choose another folder, or the same settings; to start from its weights: {start}"
        raise ReszooError(str(folder), got=f"another run ({got})", hint=hint)
    if data:
        _refuse_data(folder, data)
    done = saved_epochs(folder)
    if settings["recipe"]["epochs"] < done:
        got = f"epochs: {settings['recipe']['epochs']}"
        hint = "more epochs continue the run; for fewer choose another folder"
        raise ReszooError(str(folder), got=got, expected=f"at least {done}, which are finished", hint=hint)


def is_stopped(history: Sequence[dict[str, float]], recipe: Mapping[str, Any], settings: Settings) -> bool:
    """Returns whether a run has ended early: no better validation for `patience` epochs."""
    start = settings["legs"][-1]["start"] if settings.get("legs") else 0
    patience: int = recipe.get("patience", 0)
    return bool(patience) and stale_epochs(history, start=start, monitor=recipe.get("monitor", "auto")) >= patience


def _with_leg(before: Settings, settings: Settings, done: int) -> Settings:
    """The settings of a run with another number of epochs from now on."""
    old, new = before["recipe"]["epochs"], settings["recipe"]["epochs"]
    verb = "extended" if new > old else "shortened"
    leg = {"start": done, "epochs": new, "note": f"{verb} from {old} to {new} epochs after epoch {done}"}
    kept = {name: value for name, value in before.items() if name != "results"}
    return {**kept, "recipe": settings["recipe"], "digest": settings["digest"], "legs": [*before.get("legs", []), leg]}


def _refuse_data(folder: Path, aspect: str) -> None:
    expected = "the data with which the run in this folder began"
    hint = "a folder for each data set, and for each fold"
    raise ReszooError(str(folder), got=f"other data: {aspect}", expected=expected, hint=hint)


def with_defaults(settings: Settings, /, **kinds: type[BaseModel]) -> Settings:
    """Returns recorded settings, completed with the defaults of fields that later versions added.

    Args:
        settings: as an earlier version may have written them.
        kinds: name of an entry -> its model, such as `recipe=Recipe`.
    """
    try:
        records = {name: kind.model_validate_json(json.dumps(settings[name])) for name, kind in kinds.items()}
    except (KeyError, ValueError):
        # Not from this version or an earlier one: the settings are compared as they are.
        return dict(settings)
    return settings | {name: record.model_dump(mode="json") for name, record in records.items()}


def differences(before: Any, now: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Returns dotted names, earlier and present values of the fields that differ.

    Example:
        >>> differences({"seed": 0, "recipe": {"epochs": 3}}, {"seed": 0, "recipe": {"epochs": 4}})
        [('recipe.epochs', 3, 4)]
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = {key: f"{path}.{key}".removeprefix(".") for key in (*before, *now)}
        return [pair for key, name in names.items() for pair in differences(before.get(key), now.get(key), name)]
    return [] if before == now else [(path, before, now)]
