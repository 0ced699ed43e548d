"""The database of a study: an Optuna study in SQLite, PostgreSQL or MySQL, with the settings it was created with."""

from __future__ import annotations

import datetime
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from reszoo.data.dataset import ASPECTS
from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import differences, with_defaults
from reszoo.tuning.proposals import OUTCOME, PROCESS, RETRY, is_proposal, process_identity
from reszoo.tuning.space import Space

SETTINGS, DATABASE = "plan", "study.db"
"""The study attribute that holds its settings (version 0.1 called them so), and the name of its SQLite file."""
HEARTBEAT, GRACE = 10, 60
"""Seconds between signs of life, and until a trial without one is resumed by another process."""
LOCK_SECONDS = 60
"""How long an SQLite file may be locked by another process."""
REMEDY = "free disk space, restore the connection or wait for the lock, then rerun: the study resumes"
"""For a database or a disk that cannot be used."""


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


class _Storage(optuna.storages.RDBStorage):
    """A storage of which a missed sign of life ends nothing: the next one may be written."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(optuna.exceptions.StorageInternalError):
            super().record_heartbeat(trial_id)


def connect(database: str | Path, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> optuna.storages.RDBStorage:
    """Returns a storage whose running trials record heartbeats.

    Args:
        database: an SQLAlchemy URL, or the path of an SQLite file.
        heartbeat: seconds between signs of life.
        grace: seconds until a trial without one is resumed by another process.

    Raises:
        ReszooError: the database cannot be reached or read.
    """
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

    url = database if isinstance(database, str) else f"sqlite:///{DATABASE}"
    # Several processes may write to one SQLite file: wait for its lock.
    options: dict[str, Any] = (
        {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    if isinstance(database, Path):
        # The path itself, not a URL: that would need `?`, `%` and braces quoted, and Optuna formats it.
        options = {"creator": lambda: sqlite3.connect(database, timeout=LOCK_SECONDS, check_same_thread=False)}

    def storage() -> _Storage:
        return _Storage(
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
        broken = "malformed" in message or "not a database" in message
        hint = "the run folders beside it are intact; restore a backup if there is one" if broken else REMEDY
        address = without_password(database) if isinstance(database, str) else str(database)
        raise ReszooError("storage", got=f"{address} ({message})", expected="a database", hint=hint) from None


def database_errors() -> tuple[type[Exception], ...]:
    """Returns the errors of a database that is full, locked or out of reach."""
    from sqlalchemy.exc import SQLAlchemyError

    return (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError)


@contextmanager
def use_of(folder: Path) -> Iterator[None]:
    """Turns errors of a study's disk or database into one that says how to continue.

    Raises:
        ReszooError: in place of such an error, or of one that it has caused.
    """
    try:
        yield
    except ReszooError:
        raise
    except Exception as error:
        causes = [cause for cause in _causes(error) if isinstance(cause, database_errors())]
        if not causes:
            raise
        got = f"a file or a database that cannot be used ({str(causes[-1]).splitlines()[0]})"
        raise ReszooError(str(folder), got=got, hint=REMEDY) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, the one it was raised for, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def without_password(url: str) -> str:
    """Returns a database URL with its password masked."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url


def create_or_load(
    storage: optuna.storages.RDBStorage,
    name: str,
    directions: list[Any],
    settings: Mapping[str, Any],
    *,
    folder: Path,
) -> optuna.Study:
    """Returns the study of a name: a new one, or an existing one with the same settings.

    Raises:
        ReszooError: it was created with other settings; the message names the first field that differs. Or the folder
            holds runs of a study that is not in the database, or the study of that name is not ours.
    """
    with quiet:
        runs = [path for path in folder.glob("trials/*") if path.is_dir() and path.name.isdigit()]
        if runs and name not in optuna.study.get_all_study_names(storage):
            hint = f"restore {DATABASE}, or use its database, or another folder"
            got = f"{len(runs)} runs in trials/ of a study that is not in the database"
            raise ReszooError(str(folder), got=got, expected=f"the study {name!r}, or no runs", hint=hint)
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        if study.trials or [each.name.lower() for each in study.directions] != directions:
            raise foreign_study_error(name)
        study.set_user_attr(SETTINGS, dict(settings))
        return study
    check_same(before, settings, where=f"study {name}")
    if "digest" not in before:
        study.set_user_attr(SETTINGS, dict(settings))
    return study


def foreign_study_error(name: str) -> ReszooError:
    """Returns the error for a study in the database that another program has begun."""
    hint = "give the search another name: name=..."
    return ReszooError("storage", got=f"a study {name!r} that is not of reszoo.search", hint=hint)


def space_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the recorded space; earlier versions did not round widths, which is a grain of 1."""
    return {"grain": 1, **settings["space"]}


def recorded_settings(storage: optuna.storages.RDBStorage, name: str) -> dict[str, Any]:
    """Returns the settings that the study of a name was created with; none where there is no such study."""
    try:
        return dict(storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(SETTINGS, {}))
    except KeyError:
        return {}


def has_trials(database: str | Path, name: str) -> bool:
    """Returns whether there is a study of a name, and a trial in it.

    Raises:
        ReszooError: the database cannot be reached or read.
    """
    if isinstance(database, Path) and not database.exists():
        return False
    storage = connect(database)
    try:
        return bool(storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False))
    except KeyError:
        return False


def check_same(before: Mapping[str, Any], settings: Mapping[str, Any], *, where: str) -> None:
    """Checks that the settings of a study are those of a call.

    Raises:
        ReszooError: they differ; the message names the first field.
    """
    hint = "use the same settings to resume it (more trials or time is fine), or another folder with extends=FOLDER"
    before = {**before, "space": space_in(before)}
    if len(before.get("objective", ())) > 1:
        # Earlier versions recorded the default, which ends nothing where there are several objectives.
        before["pruning"] = settings["pruning"]
    recorded = with_defaults(before, recipe=Recipe, space=Space)
    recorded.get("space", {}).pop("ref", None)
    digest, names = recorded.get("digest"), [name for name in settings if name not in ("data", "digest")]
    if digest is None:
        # A digest of earlier versions is another one: the rest of their description is compared.
        fields = [field for field in ("name", "shape", "classes", "train", "validation") if field in recorded["data"]]
        recorded["data"] = {field: recorded["data"][field] for field in fields}
        settings = {**settings, "data": {field: settings["data"].get(field) for field in fields}}
        names.append("data")
        changes = recorded["space"].get("changes", {})
        changes.setdefault("classifier_activation", settings["space"]["changes"]["classifier_activation"])
    aspects = [each for each in ASPECTS if digest is not None and digest.get(each) != settings["digest"][each]]
    for aspect in aspects[:1]:
        expected = "the data with which the study began"
        raise ReszooError(f"{where}: data.{aspect}", got=f"other {ASPECTS[aspect]}", expected=expected, hint=hint)
    for path, old, new in (pair for name in names for pair in differences(recorded.get(name), settings[name], name)):
        raise ReszooError(f"{where}: {path}", got=repr(new), expected=f"{old!r}, as in the study", hint=hint)


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
        process = trial.user_attrs.get(PROCESS)
        age = datetime.datetime.now() - (trial.datetime_start or datetime.datetime.now())
        if process is None:
            # Another thread may be about to record it. One killed before it did has sent no heartbeat either.
            dead = age.total_seconds() > GRACE
        else:
            # A process of another machine, or of one of an earlier version, is dead when its signs of life stop.
            now = process_identity(process[1])
            dead = process != now and [*process][::3] == now[::3]
        if dead:
            fail_and_requeue(study, trial)


def fail_and_requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Marks the trial of a dead process as failed, and queues one that resumes it."""
    try:
        changed = study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        changed = False
    if changed:
        add_successor(study, trial)
