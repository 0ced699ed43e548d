"""The trials of a study as logs of TensorBoard, for its plugins of scalars and of hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reszoo.errors import ReszooError
from reszoo.tuning.results import Trial


def write_logs(trials: Sequence[Trial], folder: Path) -> Path:
    """Returns a folder after writing one log per trial: values of the axes, costs, the metrics of every epoch.

    They come from the database, so that no trial needs to keep logs of its own.

    Args:
        trials: of a study; those without an epoch are left out.
        folder: a new or an empty one, for `tensorboard --logdir`.

    Raises:
        ReszooError: the folder has files, which TensorBoard would show, too.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ReszooError(str(folder), got="a folder with files", expected="a new or an empty folder")
        for trial in trials:
            if not trial.history:
                continue
            writer = EventFileWriter(str(folder / f"{trial.number:04d}"))
            settings = {**trial.point, "state": trial.state}
            writer.add_event(Event(summary=hparams_pb(settings, trial_id=f"{trial.number:04d}", start_time_secs=0)))
            costs = [Summary.Value(tag=f"cost/{name}", simple_value=cost) for name, cost in trial.costs.items()]
            writer.add_event(Event(summary=Summary(value=costs), step=0))
            for row in trial.history:
                values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "epoch"]
                writer.add_event(Event(summary=Summary(value=values), step=int(row["epoch"])))
            writer.close()
    except OSError as error:
        raise ReszooError(str(folder), got=f"an unusable folder ({error})") from None
    return folder
