"""The command `reszoo`: it parses arguments, calls the package and prints."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from reszoo.cli import (  # noqa: F401  (each adds its commands)
    data,
    deploy,
    diagnosis,
    evidence,
    networks,
    predict,
    rate,
    search,
    studies,
    training,
    weights,
)
from reszoo.cli.screen import app, escaped
from reszoo.errors import ReszooError


def main() -> None:
    """Runs the command; for invalid input it prints one line and exits with code 2."""
    # TensorFlow reads these when it is first imported. It uses oneDNN by default only on some CPUs; on the others
    # oneDNN makes training these networks 1.3 to 1.7 times faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; completed work is saved")
        sys.exit(130)
    except ReszooError as error:
        Console(stderr=True, highlight=False, emoji=False).print(
            f"[red]error[/red] {escaped(str(error))}", soft_wrap=True
        )
        sys.exit(2)
