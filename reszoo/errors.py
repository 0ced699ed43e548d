"""The errors that reszoo raises; each says where it happened, what was got, what is expected, and a hint.

ValueError
  ReszooError             bad input
    UnknownNameError      a name that does not exist
    BrokenFileError       a damaged or unsupported weights file (reszoo.weights.formats.checkpoint)
      PickleRefusedError  a pickle that asks for more than tensors (reszoo.weights.formats.pickles)
    NotFiniteError        a loss that became NaN or infinite (reszoo.training.run)
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from importlib.util import find_spec


class ReszooError(ValueError):
    """Bad input, named before any work starts: `where: got ...; expected ...; hint`."""

    def __init__(self, where: str, *, got: object, expected: str = "", hint: str = ""):
        self.where, self.got, self.expected, self.hint = where, got, expected, hint
        parts = (f"got {got}", expected and f"expected {expected}", hint)
        super().__init__(f"{where}: " + "; ".join(part for part in parts if part))

    # The names of these attributes before 0.2.
    given = property(lambda self: self.got)
    allowed = property(lambda self: self.expected)
    mend = property(lambda self: self.hint)


class UnknownNameError(ReszooError):
    """A model, field or argument that does not exist; the nearest existing names are offered."""

    def __init__(self, where: str, *, got: object, known: Iterable[str], expected: str = ""):
        known = sorted(known)
        super().__init__(where, got=repr(got), expected=expected or ", ".join(known), hint=nearest(got, known))


def nearest(word: object, known: Iterable[str]) -> str:
    """`did you mean 'a' or 'b'?`, or nothing when no known word is close."""
    names, asked = list(known), _squeezed(str(word))
    # What begins with it comes first, case and underscores aside: resnet56_cifar for ResNet_56.
    longer = sorted((name for name in names if len(asked) > 2 and _squeezed(name).startswith(asked)), key=len)
    close = difflib.get_close_matches(str(word).lower(), names, n=3, cutoff=0.5)
    found = [*dict.fromkeys([*longer[:2], *close])][:3]
    return f"did you mean {' or '.join(map(repr, found))}?" if found else ""


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "")


def no_attribute(package: str, name: str, known: Iterable[str]) -> Exception:
    """Returns the error of a package's `__getattr__` for a name that it does not have, with the nearest ones.

    That is an AttributeError; but `from package import name` would swallow it, and say no more than that there is no
    such name: to the import statement, which asks for submodules too, it is an ImportError.
    """
    hint = "" if name.startswith("_") else nearest(name, known)
    hint = f"; {hint}" if hint else ""
    asks = sys._getframe(2).f_code.co_name
    if asks == "_handle_fromlist" and not name.startswith("_") and find_spec(f"{package}.{name}") is None:
        return ImportError(f"cannot import name {name!r} from {package!r}{hint}", name=package)
    # Without an object Python does not look for the nearest names itself, and print them once more.
    return AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name, obj=None)
