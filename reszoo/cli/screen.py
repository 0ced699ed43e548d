"""Shared by all commands: the application, the console, and reading and printing of settings."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from math import isfinite
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from reszoo.errors import ReszooError
from reszoo.files import strict_json

app = typer.Typer(
    name="reszoo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Other programs read what is no terminal: its lines are not broken.
_is_terminal = sys.stdout is not None and sys.stdout.isatty()
console = Console(highlight=False, emoji=False, width=None if _is_terminal or os.environ.get("COLUMNS") else 1000)
errors = Console(stderr=True, highlight=False, emoji=False)
_results = [sys.stdout]
"""The output stream, while messages are diverted from it."""


def to_stderr(context: typer.Context, value: bool) -> bool:
    """Callback of `--json`: until the command ends, the output holds its result alone."""
    if value:
        _results.append(sys.stdout)
        context.call_on_close(_results.pop)
        context.with_resource(redirect_stdout(sys.stderr))
    return value


def print_json(data: Any) -> None:
    """Prints a result as JSON, where the messages are not."""
    print(strict_json(data, indent=2), file=_results[-1], flush=True)


def escaped(text: str) -> str:
    """Returns text with rich markup escaped, for a string that has markup of its own."""
    return escape(text)


def say(text: str, *, style: str = "", aside: bool = False) -> None:
    """Prints text as it is: brackets in names are no markup, and lines are not broken.

    Args:
        text: what to print.
        style: of the whole text, such as `dim`.
        aside: whether it goes to the error stream, because the output holds data.
    """
    (errors if aside else console).print(text, style=style or None, markup=False, soft_wrap=True)


interruption: dict[str, str] = {}
"""What an interrupt of the running command keeps, under `kept`; its exit code, under `code`, if not that of Ctrl-C."""


def keep(text: str) -> None:
    """Sets what is printed if the command is interrupted from now on: what is saved, and how to resume."""
    interruption["kept"] = text


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar, or a line for each stage where there is no terminal; yields its callback (stage, done, total)."""
    if not console.is_terminal:
        yield lambda stage, done, total: say(f"{stage} ({done} of {total} done)")
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


def check_folder(path: Path | None, option: str = "--output") -> None:
    """Checks before work starts that a folder is there and writable, or can be made.

    Raises:
        ReszooError: the path, or a folder that it would be in, is a file or cannot be written.
    """
    if path is None:
        return
    folder = path.expanduser()
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise ReszooError(f"{option} {path}", got=f"a file, {nearest}", expected="a folder, which may be new")
    try:
        # Permissions alone do not tell: file systems may be read-only or full.
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        got = f"{nearest}, which cannot be written ({error.strerror})"
        raise ReszooError(f"{option} {path}", got=got, expected="a writable folder") from None


def check_file(path: Path, ending: str) -> None:
    """Checks before work starts that a file can be written.

    Raises:
        ReszooError: the name ends otherwise, a folder has it, or its folder cannot be written.
    """
    if path.expanduser().is_dir() or path.suffix.lower() != ending:
        got = "a folder" if path.expanduser().is_dir() else str(path)
        raise ReszooError("--output", got=got, expected=f"a file that ends with {ending}")
    check_folder(path.parent)


def numbers(option: str, text: str) -> list[float]:
    """Returns the numbers in a comma-separated list.

    Raises:
        ReszooError: the text is no such list.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(isfinite(value) for value in values):
        raise ReszooError(option, got=text or "nothing", expected="comma-separated numbers")
    return values


def whole_numbers(option: str, text: str) -> list[int]:
    """Returns the whole numbers in a comma-separated list.

    Raises:
        ReszooError: the text is no such list.
    """
    values = numbers(option, text)
    if any(value != int(value) for value in values):
        raise ReszooError(option, got=text, expected="comma-separated whole numbers")
    return [*map(int, values)]


def as_yaml(data: Any) -> str:
    """Returns data as YAML."""
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True))


def changes_of(settings: list[str], option: str = "--net") -> dict[str, Any]:
    """Returns settings of the form `field=value` as a dict; values are parsed as YAML.

    Raises:
        ReszooError: a setting has no `=`, or a value is no YAML.
    """
    changes = {}
    for item in settings:
        field, equals, value = item.partition("=")
        if not equals or not field:
            raise ReszooError(option, got=item, expected=f"field=value, such as {EXAMPLES[option]}")
        try:
            changes[field] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ReszooError(option, got=item, expected="a value in YAML, such as [2,2,2,2]") from None
    return changes


EXAMPLES = {"--net": "stem=cifar", "--set": "optimizer.momentum=0.95", "--budget": "macs=2e6"}
"""Option -> a setting."""


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns settings with dotted names as nested ones: `optimizer.momentum: 0.9` as `optimizer: {momentum: 0.9}`.

    Raises:
        ReszooError: a name stands for a value and for a group of values.
    """
    result: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        fields = result
        for parent in parents:
            fields = fields.setdefault(parent, {})
            if not isinstance(fields, dict):
                raise ReszooError("--set", got=f"{path} beside {parent}", expected="one of them")
        fields[name] = value
    return result
