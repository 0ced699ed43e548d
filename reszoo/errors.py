"""The errors reszoo raises: each says where, what was given, what is allowed and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReszooError(ValueError):
    """Bad input, named before any work starts: `where: given ...; allowed ...; mend ...`."""

    def __init__(self, where: str, *, given: object, allowed: str = "", mend: str = ""):
        self.where, self.given, self.allowed, self.mend = where, given, allowed, mend
        parts = (f"given {given}", allowed and f"allowed {allowed}", mend)
        super().__init__(f"{where}: " + "; ".join(part for part in parts if part))


class UnknownNameError(ReszooError):
    """A model, field or argument that does not exist; the nearest existing names are offered."""

    def __init__(self, where: str, *, given: object, known: Iterable[str], allowed: str = ""):
        known = sorted(known)
        super().__init__(where, given=repr(given), allowed=allowed or ", ".join(known), mend=nearest(given, known))


def nearest(word: object, known: Iterable[str]) -> str:
    """`did you mean 'a' or 'b'?`, or nothing when no known word is close."""
    close = difflib.get_close_matches(str(word).lower(), list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""
