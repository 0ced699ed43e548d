"""The errors that reszoo raises. Each message names the place, the value, the expected values, and a hint.

ValueError
  ReszooError             bad input
    UnknownNameError      a name that does not exist
    BrokenFileError       a damaged or unsupported weights file (reszoo.weights.formats.checkpoint)
      PickleRefusedError  a pickle that asks for more than tensors (reszoo.weights.formats.pickles)
    NotFiniteError        a loss that became NaN or infinite
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from importlib.util import find_spec


class ReszooError(ValueError):
    """Invalid input, reported before any work starts: `where: got ...; expected ...; hint`.

    Example:
        >>> import reszoo
        >>> try:
        ...     reszoo.create("resnet50", classes=0)
        ... except reszoo.ReszooError as error:
        ...     print(error.where, error.got)
        resnet50.head.classes 0

    Args:
        where: the argument, field or file.
        got: the invalid value.
        expected: the allowed values.
        hint: how to fix it.
    """

    def __init__(self, where: str, *, got: object, expected: str = "", hint: str = ""):
        self.where, self.got, self.expected, self.hint = where, got, expected, hint
        parts = (f"got {got}", expected and f"expected {expected}", hint)
        super().__init__(f"{where}: " + "; ".join(part for part in parts if part))

    # Earlier names of these attributes, kept for one release.
    given = property(lambda self: self.got)
    allowed = property(lambda self: self.expected)
    mend = property(lambda self: self.hint)


class UnknownNameError(ReszooError):
    """The name of a model, field or argument that does not exist; the message suggests the nearest names.

    Args:
        where: the argument, field or file.
        got: the unknown name.
        known: the existing names.
        expected: description of the allowed names; by default all of them.
    """

    def __init__(self, where: str, *, got: object, known: Iterable[str], expected: str = ""):
        known = sorted(known)
        super().__init__(where, got=repr(got), expected=expected or ", ".join(known), hint=nearest(got, known))


class NotFiniteError(ReszooError):
    """The loss or the weights became NaN or infinite."""


def nearest(word: object, known: Iterable[str]) -> str:
    """Returns a hint with the known names closest to a word, or an empty string.

    Example:
        >>> nearest("resnet51", ["resnet50", "plain34"])
        "did you mean 'resnet50'?"
    """
    names = list(known)
    query = _normalize(str(word))
    # Names that begin with the word come first, ignoring case and underscores: resnet56_cifar for ResNet_56.
    longer = sorted((name for name in names if len(query) > 2 and _normalize(name).startswith(query)), key=len)
    close = difflib.get_close_matches(str(word).lower(), names, n=3, cutoff=0.5)
    suggestions = [*dict.fromkeys([*longer[:2], *close])][:3]
    return f"did you mean {' or '.join(map(repr, suggestions))}?" if suggestions else ""


def _normalize(name: str) -> str:
    return name.lower().replace("_", "")


def no_attribute(package: str, name: str, known: Iterable[str], elsewhere: str = "") -> Exception:
    """Returns the error of a package's `__getattr__` for an unknown name, with the nearest names.

    It is an AttributeError. For `from package import name` it is an ImportError, since the import statement would
    replace an AttributeError by its own message without suggestions.

    Args:
        package: that was asked.
        name: unknown name.
        known: names of the package.
        elsewhere: what has this name in another place.
    """
    hints = ["" if name.startswith("_") else nearest(name, known), elsewhere]
    hint = "".join(f"; {each}" for each in hints if each)
    caller = sys._getframe(2).f_code.co_name
    if caller == "_handle_fromlist" and not name.startswith("_") and find_spec(f"{package}.{name}") is None:
        return ImportError(f"cannot import name {name!r} from {package!r}{hint}", name=package)
    # With obj=None Python does not print suggestions of its own.
    return AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name, obj=None)
