"""Names that shells complete: networks, recipes, spaces, data sets and published weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from reszoo.arch import zoo

Completion = Callable[[str], list[str]]
IN_A_FILE = re.compile(r".*\.ya?ml(:[^:/\\]+)?")
"""`file.yaml:name`; other names with a colon are paths, of Windows or with a time in them."""


def is_network(text: str) -> bool:
    """Returns whether a text names a network to build, in the zoo or in a YAML file, not weights or a file of them."""
    is_path = re.search(r"[./\\:]", text) or (text and Path(text).exists())
    return IN_A_FILE.fullmatch(text) is not None or not is_path


def networks(incomplete: str) -> list[str]:
    """Returns the networks of the zoo that begin with a text."""
    return _beginning(incomplete, zoo.builtin().names)


def recipes(incomplete: str) -> list[str]:
    """Returns the recipes that begin with a text."""
    from reszoo.training.recipes import list_recipes

    return _beginning(incomplete, list_recipes())


def spaces(incomplete: str) -> list[str]:
    """Returns the search spaces that begin with a text."""
    from reszoo.tuning.space import list_spaces

    return _beginning(incomplete, list_spaces())


def data_sets(incomplete: str) -> list[str]:
    """Returns the named data sets that begin with a text."""
    from reszoo.data.sources import DATA_SETS

    return _beginning(incomplete, DATA_SETS)


def weights(incomplete: str) -> list[str]:
    """Returns the published weights that begin with a text."""
    from reszoo.weights.catalogue import list_weights

    return _beginning(incomplete, list_weights())


def networks_and_weights(incomplete: str) -> list[str]:
    """Returns the networks and the published weights that begin with a text."""
    return [*networks(incomplete), *weights(incomplete)]


def words(*known: str) -> Completion:
    """Returns a completion of a few words."""
    return lambda incomplete: _beginning(incomplete, known)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
