"""Shared by all commands: the application, the console, and reading and printing of settings."""

from __future__ import annotations

from typing import Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from reszoo.errors import ReszooError

app = typer.Typer(
    name="reszoo",
    help="Residual networks and their plain twins for Keras.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, emoji=False)


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
    target = Console(stderr=True, highlight=False, emoji=False) if aside else console
    target.print(text, style=style or None, markup=False, soft_wrap=True)


def as_yaml(data: Any) -> str:
    """Returns data as YAML."""
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110))


def changes_of(settings: list[str]) -> dict[str, Any]:
    """Returns settings of the form `field=value` as a dict; values are parsed as YAML.

    Raises:
        ReszooError: a setting has no `=`.
    """
    changes = {}
    for item in settings:
        field, equals, value = item.partition("=")
        if not equals:
            raise ReszooError("--set", got=item, expected="field=value")
        changes[field] = yaml.safe_load(value)
    return changes


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns settings with dotted names as nested ones: `optimizer.momentum: 0.9` as `optimizer: {momentum: 0.9}`."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        fields = result
        for parent in parents:
            fields = fields.setdefault(parent, {})
        fields[name] = value
    return result
