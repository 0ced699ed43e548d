"""Mistakes in arguments as errors of the package: `where: got ...; expected ...; hint`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer

from reszoo.arch.shorthands import SHORTHANDS
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError, nearest
from reszoo.training.recipes import Recipe

Mistake: Any = typer.BadParameter.__mro__[1]
"""The class of all mistakes in arguments, of Typer's own parser or of the one it used before."""
HINTS = {
    "--set": "--set changes a recipe, which this command does not have; --net changes the network",
    "--net": "this command builds no network of your own",
}
"""Option -> what it means in the commands that have it."""


def explained(mistake: Any, arguments: Sequence[str]) -> ReszooError | str:
    """Returns a mistake as an error of the package.

    Args:
        mistake: a `Mistake`.
        arguments: of the command line.
    """
    context = mistake.ctx
    command = arguments[0] if arguments and arguments[0].isalpha() else ""
    where = context.command_path if context is not None else f"reszoo {command}".strip()
    param: Any = getattr(mistake, "param", None)
    kind = type(mistake).__name__
    if kind == "NoArgsIsHelpError":
        return "no command; reszoo --help lists them"
    if kind == "NoSuchOption":
        option = mistake.option_name
        known = [name for each in context.command.get_params(context) for name in (*each.opts, *each.secondary_opts)]
        hint = HINTS.get(option) or _setting(option, known) or nearest(option, known) or f"{where} --help shows all"
        return ReszooError(where, got=f"no option {option}", hint=hint)
    if kind == "MissingParameter" and param is not None:
        return ReszooError(where, got=f"no {_name(param)}", expected=param.help or "", hint=f"{where} --help")
    message = str(mistake.message).rstrip(".")
    if kind == "BadOptionUsage":
        *_, text = message.partition(" requires ")
        got, expected = ("too few values", text) if text else ("a value", "none: it is a flag")
        return ReszooError(f"{where} {mistake.option_name}", got=got, expected=expected, hint=f"{where} --help")
    if param is not None:
        value = _value(param, arguments)
        # The texts of Typer's parser, and of the one it used before.
        expected = message.removeprefix("Input should be ").removeprefix(f"{value} is not in ")
        expected = expected.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
        return ReszooError(f"{where} {_name(param)}", got=value or "an invalid value", expected=expected)
    if message.startswith("No such command") and context is not None:
        word = message.split("'")[1] if "'" in message else ""
        known = context.command.commands
        return ReszooError(where, got=f"no command {word!r}", expected=", ".join(known), hint=nearest(word, known))
    message = message.removeprefix("Got ")
    return ReszooError(where, got=message[:1].lower() + message[1:], hint=f"{where} --help")


FIELDS = {
    "batch_size": "batch",
    **dict.fromkeys(("lr", "learning_rate"), "learning_rate.peak"),
    **{name: f"optimizer.{name}" for name in ("momentum", "weight_decay")},
}
"""Names that other programs have for fields of the recipe, and names of fields in a group."""


def _setting(option: str, known: Sequence[str]) -> str:
    """How a command sets what an option names, where that is a field of the recipe or of the network."""
    name = option.lstrip("-").replace("-", "_")
    if "--set" in known and (name in FIELDS or name in Recipe.model_fields):
        return f"did you mean '--set {FIELDS.get(name, name)}=...'?"
    if "--net" in known and name in {*NetSpec.model_fields, *SHORTHANDS}:
        return f"did you mean '--net {name}=...'?"
    return ""


def in_option_form(error: ReszooError, command: Any) -> ReszooError:
    """Returns an error whose cures are options: `--net stem=cifar` for `stem='cifar'`, `--size 224` for `size=224`.

    Args:
        error: of the package, which also serves Python.
        command: that raised it; a cure that is none of its options stays as it is.
    """
    options = {name: each for each in command.params for name in each.opts}

    def form(match: re.Match[str]) -> str:
        name, value = match[1], match[2].strip("'\"")
        option = f"--{name.replace('_', '-')}"
        if option in options:
            is_flag = getattr(options[option], "is_flag", False)
            return option if is_flag and value == "True" else f"{option} {value}"
        first = name.partition(".")[0]
        if "--net" in options and first in {*NetSpec.model_fields, *SHORTHANDS}:
            return f"--net {name}={value}"
        if "--set" in options and first in Recipe.model_fields:
            return f"--set {name}={value}"
        return match[0]

    expected, hint = (_CURE.sub(form, text) for text in (error.expected, error.hint))
    return ReszooError(error.where, got=error.got, expected=expected, hint=hint)


_CURE = re.compile(
    r"(?<![\w.\-])(?<!--net )(?<!--set )([a-z_]+(?:\.[a-z_]+)*)=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|[\w+\-]+)"
)
"""A setting as in Python: name and value."""


def _name(param: Any) -> str:
    """An option by its long name, an argument in capitals."""
    if param.param_type_name == "argument":
        return str(param.name).upper()
    return str(max(param.opts, key=len))


def _value(param: Any, arguments: Sequence[str]) -> str:
    """The last value of an option on the command line."""
    values = [""]
    for word, following in zip(arguments, (*arguments[1:], ""), strict=True):
        name, equals, value = word.partition("=")
        if name in param.opts:
            values.append(value if equals else following)
        elif len(word) > 2 and word[:2] in param.opts:
            values.append(word[2:])
    return values[-1]
