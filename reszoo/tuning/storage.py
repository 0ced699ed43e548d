"""Where a study is kept: an Optuna study in SQLite, PostgreSQL or MySQL, with what it was begun with."""

from __future__ import annotations

import datetime
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
from reszoo.tuning.proposals import OUTCOME, PROCESS, RETRY, counts, process

SETTINGS, DATABASE = "plan", "study.db"
"""The attribute of a study that keeps what it was begun with, as version 0.1 called it; and its file."""
HEARTBEAT, GRACE = 10, 60
"""Seconds between signs of life, and until a trial without one is given to another process."""


class _Quiet:
    """Silences Optuna while a call of ours runs, and leaves the user's own settings as they were.

    Its verbosity and Python's warnings are one for all threads: the first call that enters changes them, the last one
    that leaves puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._calls, self._settings = threading.Lock(), 0, ExitStack()

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
"""Around every call of Optuna that writes logs or warns of what is experimental: heartbeats, samplers."""


def url_of(folder: Path) -> str:
    """Returns the address of the SQLite file in a study's folder."""
    return f"sqlite:///{folder / DATABASE}"


def connect(url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> optuna.storages.RDBStorage:
    """Returns a storage whose trials give signs of life.

    Raises:
        ReszooError: it cannot be reached, or read.
    """
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

    # Several processes may write to one SQLite file: each waits for its turn.
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}

    def storage() -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=heartbeat,
            grace_period=grace,
            heartbeat_stale_trial_callback=stand_in,
        )

    try:
        with quiet:
            try:
                return storage()
            except (IntegrityError, ProgrammingError):
                # Another process made the same tables in the same moment; by now they are there.
                return storage()
    except (SQLAlchemyError, ArgumentError, ImportError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        hint = "the runs beside it are whole; if a backup is at hand, put it back" if url.startswith("sqlite") else ""
        raise ReszooError("storage", got=f"{hidden(url)} ({told})", expected="a database", hint=hint) from None


def hidden(url: str) -> str:
    """Returns an address without its password."""
    from sqlalchemy.engine import make_url

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ValueError:
        return url


def begin(
    storage: optuna.storages.RDBStorage, name: str, directions: list[Any], settings: Mapping[str, Any]
) -> optuna.Study:
    """Returns the study of a name: a new one, or one begun with the same settings.

    Raises:
        ReszooError: it was begun with other settings; the message names the first field that differs.
    """
    with quiet:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        study.set_user_attr(SETTINGS, dict(settings))
        return study
    for path, old, new in _apart(before, settings, ""):
        hint = "the same settings go on with it (more trials or time is fine); others need another folder"
        raise ReszooError(f"study {name}: {path}", got=repr(new), expected=f"{old!r}, as it was begun", hint=hint)
    return study


def _apart(before: Any, now: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys((*before, *now))
        return [
            found for key in keys for found in _apart(before.get(key), now.get(key), f"{path}.{key}".removeprefix("."))
        ]
    return [] if before == now else [(path, before, now)]


def stand_in(study: optuna.Study, trial: FrozenTrial) -> None:
    """Puts a trial into the queue that goes on where one whose process died stopped."""
    if not counts(trial) and RETRY not in trial.user_attrs:
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


def take_up(study: optuna.Study) -> None:
    """Gives the trials of this machine's dead processes to whoever comes next, without waiting for the grace."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, pid, began = trial.user_attrs.get(PROCESS) or (None, None, None)
        age = datetime.datetime.now() - (trial.datetime_start or datetime.datetime.now())
        gone = host == socket.gethostname() and [host, pid, began] != process(pid)
        # Killed before it could say where it runs, it gives no sign of life either.
        if gone or (host is None and age.total_seconds() > GRACE):
            fail(study, trial)


def fail(study: optuna.Study, trial: FrozenTrial) -> None:
    """Ends a trial of a dead process, and puts one into the queue that goes on with it."""
    try:
        changed = study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        changed = False
    if changed:
        stand_in(study, trial)
