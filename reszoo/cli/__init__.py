"""The command `reszoo`: it parses, calls and prints, and has no logic of its own."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from reszoo.cli import diagnosis, evidence, networks, search, training, weights  # noqa: F401  (each adds its commands)
from reszoo.cli.screen import app, escaped
from reszoo.errors import ReszooError


def main() -> None:
    """Runs the command; bad input ends it with one line and exit code 2."""
    # TensorFlow reads these when it is first imported. oneDNN's kernels are its default on some CPUs only; on the
    # others they make training these networks 1.3 to 1.7 times faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what was finished is kept")
        sys.exit(130)
    except ReszooError as error:
        Console(stderr=True, highlight=False).print(f"[red]error[/red] {escaped(str(error))}", soft_wrap=True)
        sys.exit(2)
