"""The database of a study: an Optuna study in SQLite, PostgreSQL or MySQL, with the settings it was created with."""

from __future__ import annotations

import datetime
import json
import math
import socket
import threading
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe
from reszoo.tuning.proposals import OUTCOME, PROCESS, RETRY, is_proposal, process_identity

SETTINGS, DATABASE = "plan", "study.db"
"""The study attribute that holds its settings (version 0.1 called them so), and the name of its SQLite file."""
HEARTBEAT, GRACE = 10, 60
"""Seconds between signs of life, and until a trial without one is resumed by another process."""


class _Quiet:
    """Silences Optuna while a call of ours runs, and restores the user's own settings afterwards.

    Optuna's verbosity and Python's warning filters are shared by all threads: the first call to enter changes them,
    the last one to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._settings = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._calls += 1
            if self._calls == 1:
                self._settings.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
                optuna.logging.set_verbosity(optuna.logging.ERROR)
                self._settings.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._calls -= 1
            if not self._calls:
                self._settings.close()


quiet = _Quiet()
"""Used around every Optuna call that logs or emits ExperimentalWarning: heartbeats, samplers."""


def url_of(folder: Path) -> str:
    """Returns the URL of the SQLite file in a study's folder."""
    return f"sqlite:///{folder / DATABASE}"


def connect(url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> optuna.storages.RDBStorage:
    """Returns a storage whose running trials record heartbeats.

    Raises:
        ReszooError: the database cannot be reached or read.
    """
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

    # Several processes may write to one SQLite file: wait for its lock.
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}

    def storage() -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=heartbeat,
            grace_period=grace,
            heartbeat_stale_trial_callback=add_successor,
        )

    try:
        with quiet:
            try:
                return storage()
            except (IntegrityError, ProgrammingError):
                # Another process created the same tables at the same moment; now they exist.
                return storage()
    except (SQLAlchemyError, ArgumentError, ImportError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        hint = (
            "the run folders beside it are intact; restore a backup if there is one" if url.startswith("sqlite") else ""
        )
        raise ReszooError(
            "storage", got=f"{without_password(url)} ({message})", expected="a database", hint=hint
        ) from None


def without_password(url: str) -> str:
    """Returns a database URL with its password masked."""
    from sqlalchemy.engine import make_url

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ValueError:
        return url


def create_or_load(
    storage: optuna.storages.RDBStorage, name: str, directions: list[Any], settings: Mapping[str, Any]
) -> optuna.Study:
    """Returns the study of a name: a new one, or an existing one with the same settings.

    Raises:
        ReszooError: it was created with other settings; the message names the first field that differs.
    """
    with quiet:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        study.set_user_attr(SETTINGS, dict(settings))
        return study
    for path, old, new in _differences(_with_defaults(before), settings, ""):
        hint = "use the same settings to resume it (more trials or time is fine), or another folder"
        raise ReszooError(f"study {name}: {path}", got=repr(new), expected=f"{old!r}, as in the study", hint=hint)
    return study


def recorded_settings(storage: optuna.storages.RDBStorage, name: str) -> dict[str, Any]:
    """Returns the settings that the study of a name was created with; none where there is no such study."""
    try:
        return dict(storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(SETTINGS, {}))
    except KeyError:
        return {}


def _with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings, their recipe completed with the defaults of fields that later versions added."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(settings["recipe"]))
    except (KeyError, ValueError):
        # Not from this version or an earlier one: the settings are compared as they are.
        return dict(settings)
    return {**settings, "recipe": recipe.model_dump(mode="json")}


def _differences(before: Any, now: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys((*before, *now))
        paths = {key: f"{path}.{key}".removeprefix(".") for key in keys}
        return [pair for key in keys for pair in _differences(before.get(key), now.get(key), paths[key])]
    if path.startswith("data.scaling.") and isinstance(before, list) and isinstance(now, list):
        # Versions differ in the last digits of mean and deviation.
        same = len(before) == len(now) and all(map(_is_close, before, now))
    else:
        same = before == now
    return [] if same else [(path, before, now)]


def _is_close(before: float, now: float) -> bool:
    return math.isclose(before, now, rel_tol=1e-5, abs_tol=1e-8)


def add_successor(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a trial that resumes one whose process died."""
    if not is_proposal(trial) and RETRY not in trial.user_attrs:
        return
    attributes = {name: value for name, value in trial.user_attrs.items() if name not in (PROCESS, OUTCOME, "note")}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            intermediate_values=trial.intermediate_values,
            user_attrs={**attributes, RETRY: trial.user_attrs.get(RETRY, trial.number)},
        )
    )


def requeue_orphans(study: optuna.Study) -> None:
    """Queues the trials of dead processes on this machine again, without waiting for the grace period."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, pid, start = trial.user_attrs.get(PROCESS) or (None, None, None)
        age = datetime.datetime.now() - (trial.datetime_start or datetime.datetime.now())
        dead = host == socket.gethostname() and [host, pid, start] != process_identity(pid)
        # A process killed before it recorded its identity has sent no heartbeat either.
        if dead or (host is None and age.total_seconds() > GRACE):
            fail_and_requeue(study, trial)


def fail_and_requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Marks the trial of a dead process as failed, and queues one that resumes it."""
    try:
        changed = study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        changed = False
    if changed:
        add_successor(study, trial)
