"""The command `reszoo`: it parses arguments, calls the package and prints."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from reszoo._version import __version__
from reszoo.cli import (  # noqa: F401  (each adds its commands)
    data,
    deploy,
    diagnosis,
    evidence,
    networks,
    predict,
    search,
    studies,
    training,
)
from reszoo.cli.mistakes import Mistake, explained, in_option_form
from reszoo.cli.quiet import quiet_imports
from reszoo.cli.screen import app, errors, escaped, interruption, say
from reszoo.errors import ReszooError

PANELS = {
    "Start here": ("quickstart", "list", "info", "data"),
    "Train and use": ("train", "lr", "evaluate", "predict", "convert", "deploy", "bench"),
    "Search": ("search",),
    "Understand": ("diagnose", "compare", "evidence"),
    "More": ("schema",),
}
"""Heading in `reszoo --help` -> its commands, in the order of use."""


def _print_version(value: bool) -> None:
    if value:
        print(f"reszoo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="print the version", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Residual networks and their plain twins for Keras."""


def command_line() -> Any:
    """Returns the command with its subcommands, in the order and under the headings of `PANELS`."""
    group: Any = typer.main.get_command(app)
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    order = [*(name for name in panels if name in group.commands), *group.commands]
    group.commands = {name: group.commands[name] for name in dict.fromkeys(order)}
    for name, command in group.commands.items():
        command.rich_help_panel = panels.get(name, "More")
    _hide_types_of_flags(group, typer.Context(group, **group.context_settings))
    return group


def _hide_types_of_flags(command: Any, context: Any) -> None:
    """A flag takes no value: `--json`, not `--json <bool>`."""
    for option in command.get_params(context):
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for each in getattr(command, "commands", {}).values():
        _hide_types_of_flags(each, typer.Context(each, parent=context))


def main() -> None:
    """Runs the command; for invalid input it prints one line and exits with code 2, after Ctrl-C with 130.

    A request to end (SIGTERM, of a job scheduler or `kill`) is answered as Ctrl-C is, with code 143; a closed terminal
    (SIGHUP) with 129.
    """
    # TensorFlow reads these when it is first imported. It uses oneDNN by default only on some CPUs; on the others
    # oneDNN makes training these networks 1.3 to 1.7 times faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    quiet_imports()
    for each in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, each, None)
        # Left alone where it is ignored, as by nohup.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)
    group = command_line()
    try:
        code = group(prog_name="reszoo", standalone_mode=False)
    except Mistake as mistake:
        code = _refuse(explained(mistake, sys.argv[1:]))
    except ReszooError as error:
        name = next((word for word in sys.argv[1:] if word in group.commands), None)
        code = _refuse(error if name is None else in_option_form(error, group.commands[name]))
    except OSError as error:
        if error.strerror is None:
            raise
        code = _refuse(ReszooError(str(error.filename or "reszoo"), got=error.strerror.lower()))
    if code == 130:
        # Typer turns Ctrl-C into this code.
        say(f"\ninterrupted: {interruption.get('kept', 'nothing was saved')}", aside=True)
        code = int(interruption.get("code", code))
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(number: int, frame: object) -> NoReturn:
    """Ends the command as Ctrl-C does."""
    interruption["code"] = str(128 + number)
    raise KeyboardInterrupt


def _refuse(error: ReszooError | str) -> int:
    """Prints a mistake of the user in one line; returns the exit code."""
    errors.print(f"[red]error[/red] {escaped(str(error))}", soft_wrap=True)
    return 2
