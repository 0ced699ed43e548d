"""The zoo: named networks read from YAML files, built-in ones and the user's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from reszoo.arch.cost import Cost, cost as _cost
from reszoo.arch.ops import Plan
from reszoo.arch.plan import plan as _plan
from reszoo.arch.spec import Count, NetSpec, replace
from reszoo.config import FrozenModel, check, configs, lineage, read_yaml
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.notebook import html_table


class Expect(FrozenModel):
    """Counts of an entry according to a second source."""

    params: Count
    """Trainable parameters."""
    macs: Count
    """Multiply-accumulates, including one per bias add."""


class Source(FrozenModel):
    """Fields of an entry that are not part of its spec."""

    base: str | None = None
    """Entry that this one modifies; None for a complete spec."""
    ref: str = ""
    """Paper with section or table, and the source of `expect`."""
    expect: Expect | None = None
    """Counts according to the second source."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of a zoo."""

    name: str
    family: str
    """Name of its file without the ending: imagenet, cifar, dense, or a user's."""
    source: Source
    spec: NetSpec

    def __repr__(self) -> str:
        return f"Entry({self.family}, {self.spec!r})"

    def _repr_html_(self) -> str:
        rows = [("family", self.family), ("base", self.source.base or "-"), ("reference", self.source.ref or "-")]
        if self.source.expect:
            rows += [("parameters", f"{self.source.expect.params:,}"), ("MACs", f"{self.source.expect.macs:,}")]
        return html_table((), rows, title=self.name) + self.spec._repr_html_()


class Zoo:
    """Networks from YAML files; other names are looked up in `parent`.

    Args:
        files: YAML files of networks.
        parent: a zoo for names that the files do not define.

    Raises:
        ReszooError: a file cannot be read, or two files define the same name.
    """

    def __init__(self, files: Iterable[Path], parent: Zoo | None = None):
        self._parent = parent
        self._definitions: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._entries: dict[str, Entry] = {}
        for file in files:
            for name, fields in read_yaml(file).items():
                if name in self._definitions:
                    raise ReszooError(
                        f"{file.name}: {name}",
                        got=f"a second definition, after {self._definitions[name][0].name}",
                        expected="unique names",
                    )
                self._definitions[name] = (file, fields)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries, in file order, without those of `parent`."""
        return tuple(self._definitions)

    def entry(self, name: str) -> Entry:
        """Returns an entry by name.

        Raises:
            UnknownNameError: there is no such entry; the nearest names are offered.
            ReszooError: the entry is invalid; the message names file, entry and field.
        """
        if name in self._entries:
            return self._entries[name]
        if name in self._definitions:
            for each in lineage(name, self._local_base, where=self._where(name)):
                if each not in self._entries:
                    self._entries[each] = self._build_entry(each)
            return self._entries[name]
        inherited = self._parent.names if self._parent else ()
        if self._parent and name in inherited:
            return self._parent.entry(name)
        known = (*self.names, *inherited)
        expected = ", ".join(known[:4]) + ", ... (`reszoo list` shows all)"
        raise UnknownNameError("unknown model", got=name, known=known, expected=expected)

    def _where(self, name: str) -> str:
        return f"{self._definitions[name][0].name}: {name}"

    def _source(self, name: str) -> Source:
        fields, where = self._definitions[name][1], self._where(name)
        if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
            raise ReszooError(where, got=repr(fields), expected="fields and their values")
        return check(Source, {key: fields[key] for key in Source.model_fields if key in fields}, where=where)

    def _local_base(self, name: str) -> str | None:
        """The base of an entry if the same files define it."""
        base = self._source(name).base
        # A user's entry may be based on the built-in entry of the same name.
        return base if base in self._definitions and not (base == name and self._parent) else None

    def _build_entry(self, name: str) -> Entry:
        """An entry whose base is already built, or belongs to the parent."""
        source, where = self._source(name), self._where(name)
        fields = {key: value for key, value in self._definitions[name][1].items() if key not in Source.model_fields}
        changes = fields | {"name": name}
        if source.base is None:
            spec = check(NetSpec, changes, where=where)
        else:
            base = self._entries.get(source.base) or (self._parent or self).entry(source.base)
            spec = replace(base.spec, changes, where=where)
        return Entry(name, self._definitions[name][0].stem, source, spec)


@cache
def builtin() -> Zoo:
    """Returns the zoo of the package."""
    return Zoo(sorted((configs() / "models").glob("*.yaml")))


def load(path: str | Path) -> Zoo:
    """Returns the zoo of a user's YAML file; its entries may be based on built-in ones.

    Raises:
        ReszooError: the file cannot be read, or is not a mapping of names to networks.
    """
    path = Path(path).expanduser().absolute()
    return _load(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=32)
def _load(path: Path, _modified: int) -> Zoo:
    return Zoo([path], parent=builtin())


def entry(name: str) -> Entry:
    """Returns an entry by `name`, or by `file.yaml:name` from a user's file.

    Raises:
        UnknownNameError: there is no such entry; the nearest names are offered.
        ReszooError: the file or the entry is invalid.
    """
    if name.lower().endswith((".yaml", ".yml")):
        names = ", ".join(load(name).names) or "there is none in the file"
        raise ReszooError("model", got=f"{name}, a file", expected=f"{name}:NAME, with the name of a network: {names}")
    file, _, network = name.rpartition(":")
    return load(file).entry(network) if file else builtin().entry(network)


def spec(model: str | NetSpec, /, **changes: object) -> NetSpec:
    """Returns the spec of a network with changes applied.

    Example:
        >>> import reszoo
        >>> reszoo.spec("resnet50", depths=[2, 2, 2, 2]).plain()
        NetSpec('plain_of_resnet50': 224x224x3, post, none, depths 2-2-2-2, widths 256-512-1024-2048)

    Args:
        model: a name (`reszoo.list_models()`), `file.yaml:name`, or a spec.
        **changes: as for `NetSpec.replace`.

    Raises:
        UnknownNameError: there is no such network or field; the nearest names are offered.
        ReszooError: the file, the entry or a change is invalid.
    """
    if not isinstance(model, (str, NetSpec)):
        raise ReszooError("model", got=repr(model), expected="the name of a network, file.yaml:name, or a spec")
    base = model if isinstance(model, NetSpec) else entry(model).spec
    return replace(base, changes, where=base.name) if changes else base


def plan(model: str | NetSpec, /, **changes: object) -> Plan:
    """Returns the plan of a network: its operations in execution order.

    Example:
        >>> import reszoo
        >>> reszoo.plan("resnet18")
        Plan(resnet18: 8 blocks, 68 operations, 224x224x3 -> 1000)

    Args:
        model: a name (`reszoo.list_models()`), `file.yaml:name`, or a spec.
        **changes: as for `NetSpec.replace`.

    Raises:
        ReszooError: as for `reszoo.spec`.
    """
    return _plan(spec(model, **changes))


def cost(model: str | NetSpec, /, **changes: object) -> Cost:
    """Returns the cost of a network without building it.

    Example:
        >>> import reszoo
        >>> reszoo.cost("resnet50").params
        25557032

    Args:
        model: a name (`reszoo.list_models()`), `file.yaml:name`, or a spec.
        **changes: as for `NetSpec.replace`.

    Raises:
        ReszooError: as for `reszoo.spec`, or height or width of the input is None.
    """
    return _cost(plan(model, **changes))


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    max_params: float | None = None,
    max_macs: float | None = None,
    zoo: str | Path | None = None,
) -> list[str]:
    """Returns the names in a zoo that match a shell pattern and cost at most the limits; see `reszoo.list_models`."""
    source = load(zoo) if zoo else builtin()
    entries = [source.entry(name) for name in source.names]
    families = {item.family for item in entries}
    if family is not None and family not in families:
        raise UnknownNameError("unknown family", got=family, known=families)
    limits: Mapping[str, float | None] = {"params": max_params, "macs": max_macs}
    return [
        item.name
        for item in entries
        if fnmatch(item.name, pattern)
        and family in (None, item.family)
        and all(limit is None or getattr(cost(item.spec), field) <= limit for field, limit in limits.items())
    ]
