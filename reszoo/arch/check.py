"""pydantic's complaints in the package's words: file, entry and field; given, allowed, mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reszoo.errors import ReszooError, UnknownNameError, nearest

Checked = TypeVar("Checked", bound=BaseModel)


def check(kind: type[Checked], data: Mapping[str, Any], *, where: str) -> Checked:
    """Returns the checked data as a `kind`.

    Raises:
        ReszooError: naming the first field that is wrong, what was given, what is allowed, and the nearest word.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(error, kind, where) from None


def boolean(value: Any, *, where: str) -> bool:
    """Returns a boolean, NumPy's or 0 or 1 too, as Python's.

    Raises:
        ReszooError: it is none.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, int) or plain not in (0, 1):
        raise ReszooError(where, given=repr(value), allowed="True, False")
    return bool(plain)


PATTERNS = {r"^[^/\s]+$": "a name without blanks and /, of one letter at least"}
"""Pattern of a field -> what it allows, in words."""

HINTS: dict[tuple[int | str, ...], str] = {
    ("head", "classes"): "a network without a classifier is include_top=False, pooling='avg'"
}
"""Field -> what to do where its number is too small."""


def _explain(error: ValidationError, kind: type[BaseModel], where: str) -> ReszooError:
    # A misspelt field is also a missing one: the misspelling is the better news.
    problem = min(error.errors(), key=lambda problem: problem["type"] == "missing")
    path, given, name = ".".join([where, *map(str, problem["loc"])]), problem["input"], problem["type"]
    context = problem.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ReszooError):
        return ReszooError(f"{path}.{cause.where}", given=cause.given, allowed=cause.allowed, mend=cause.mend)
    if name == "extra_forbidden":
        known = _fields_at(problem["loc"][:-1], kind)
        return UnknownNameError(f"{path}: unknown field", given=problem["loc"][-1], known=known)
    if name == "missing":
        return ReszooError(path, given="nothing", allowed="a value; every field without a default is written")
    allowed, mend = problem["msg"].removeprefix("Input should be ").replace("greater than or equal to", "at least"), ""
    if name == "literal_error":
        words = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        allowed, mend = ", ".join(words), nearest(given, words)
    elif name == "string_pattern_mismatch":
        allowed = PATTERNS[context["pattern"]]
    elif name == "greater_than_equal":
        mend = HINTS.get(problem["loc"][-2:], "")
    elif name == "float_type" and isinstance(given, str) and _is_number(given):
        # YAML 1.1 reads 1e-5 as text: a float needs a dot there.
        mantissa, _, exponent = given.lower().partition("e")
        mend = f"YAML reads {given} as text: write {mantissa}.0e{exponent}"
    return ReszooError(path, given=repr(given), allowed=allowed, mend=mend)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields_at(path: tuple[int | str, ...], kind: type[BaseModel]) -> list[str]:
    """The names of the fields that may stand at `path`."""
    schema = kind.model_json_schema()
    here = schema
    for step in path:
        here = here["items"] if isinstance(step, int) else here["properties"][step]
        here = schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
    return list(here.get("properties", ()))
