"""Runs the writer of a format, in a second Python if it needs another Keras backend than this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from reszoo.deployment.formats import FORMATS, Format, Order
from reszoo.errors import ReszooError
from reszoo.types import KerasModel


def export(entry: Format, model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    """Writes a file and returns notes about it.

    Args:
        entry: the format.
        model: the model to export.
        path: of the file.
        order: batch size, number type, calibration examples and texts.

    Raises:
        ReszooError: the converter failed.
    """
    import keras

    try:
        if keras.backend.backend() == entry.backend:
            with warnings.catch_warnings():
                # Of what converters use and NumPy will change.
                warnings.simplefilter("ignore", FutureWarning)
                return entry.writer.export(model, path, order)
        return _export_elsewhere(entry, model, path, order)
    except ReszooError:
        raise
    except Exception as error:
        # Converters raise exceptions of any kind.
        message = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise ReszooError(f"deploy: {entry.name}: {model.name}", got=f"a converter that failed ({message})") from error


def _export_elsewhere(entry: Format, model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    import numpy as np

    with TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model.keras")
        if order.calibration is not None:
            np.save(folder / "calibration.npy", order.calibration)
        texts = order._replace(calibration=None)._asdict() | {"format": entry.name, "path": str(path.absolute())}
        (folder / "order.json").write_text(json.dumps(texts), encoding="utf-8")
        environment = {**os.environ, "KERAS_BACKEND": entry.backend}
        command = [sys.executable, "-m", "reszoo.deployment.exporting", name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")
        return tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))


def _main(folder: Path) -> None:
    """The second Python: exports the model in a folder."""
    import keras
    import numpy as np

    texts = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    entry, path = FORMATS[texts.pop("format")], Path(texts.pop("path"))
    file = folder / "calibration.npy"
    order = Order(**texts | {"calibration": np.load(file) if file.is_file() else None})
    notes = entry.writer.export(keras.models.load_model(folder / "model.keras", compile=False), path, order)
    (folder / "notes.json").write_text(json.dumps(notes), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
