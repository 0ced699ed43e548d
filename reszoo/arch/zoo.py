"""The zoo: named networks read from YAML, ours and the user's alike."""

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


class Expect(FrozenModel):
    """What a second source counts for an entry."""

    params: Count
    """Trainable parameters."""
    macs: Count
    """Multiply-accumulates, one per bias add included."""


class Source(FrozenModel):
    """What an entry says beside its spec."""

    base: str | None = None
    """The entry it differs from; without one, the entry is a whole spec."""
    ref: str = ""
    """Paper, section or table; and the second source of `expect`."""
    expect: Expect | None = None
    """What the second source counts."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of a zoo."""

    name: str
    family: str
    """Stem of the file it stands in: imagenet, cifar, dense, or the user's."""
    source: Source
    spec: NetSpec


class Zoo:
    """Networks from YAML files; what they do not define is looked up in `parent`."""

    def __init__(self, files: Iterable[Path], parent: Zoo | None = None):
        self._parent = parent
        self._read: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._entries: dict[str, Entry] = {}
        for file in files:
            for name, fields in read_yaml(file).items():
                if name in self._read:
                    raise ReszooError(
                        f"{file.name}: {name}",
                        got=f"again after {self._read[name][0].name}",
                        expected="one entry of a name",
                    )
                self._read[name] = (file, fields)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the zoo's own entries, in the files' order."""
        return tuple(self._read)

    def entry(self, name: str) -> Entry:
        """Returns an entry by name.

        Raises:
            UnknownNameError: with the nearest names.
            ReszooError: the entry is impossible; the message names file, entry and field.
        """
        if name in self._entries:
            return self._entries[name]
        if name in self._read:
            for each in lineage(name, self._own_base, where=self._where(name)):
                if each not in self._entries:
                    self._entries[each] = self._made(each)
            return self._entries[name]
        if self._parent:
            return self._parent.entry(name)
        known = ", ".join(self.names[:4])
        raise UnknownNameError(
            "unknown model", got=name, known=self.names, expected=f"{known}, ... (`reszoo list` shows all)"
        )

    def _where(self, name: str) -> str:
        return f"{self._read[name][0].name}: {name}"

    def _source(self, name: str) -> Source:
        fields, where = self._read[name][1], self._where(name)
        if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
            raise ReszooError(where, got=repr(fields), expected="fields and their values")
        return check(Source, {key: fields[key] for key in Source.model_fields if key in fields}, where=where)

    def _own_base(self, name: str) -> str | None:
        """The base of an entry, where it stands in the same files."""
        base = self._source(name).base
        # A user's entry may stand on ours of the same name.
        return base if base in self._read and not (base == name and self._parent) else None

    def _made(self, name: str) -> Entry:
        """An entry whose base is made already, or the parent's."""
        source, where = self._source(name), self._where(name)
        fields = {key: value for key, value in self._read[name][1].items() if key not in Source.model_fields}
        changes = fields | {"name": name}
        if source.base is None:
            spec = check(NetSpec, changes, where=where)
        else:
            base = self._entries.get(source.base) or (self._parent or self).entry(source.base)
            spec = replace(base.spec, changes, where=where)
        return Entry(name, self._read[name][0].stem, source, spec)


@cache
def builtin() -> Zoo:
    """Returns the package's own zoo."""
    return Zoo(sorted((configs() / "models").glob("*.yaml")))


def load(path: str | Path) -> Zoo:
    """Returns the zoo of a user's YAML file; its entries may be based on ours.

    Raises:
        ReszooError: the file cannot be read or is not a mapping of names to networks.
    """
    path = Path(path).expanduser().absolute()
    return _load(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=32)
def _load(path: Path, _changed: int) -> Zoo:
    return Zoo([path], parent=builtin())


def entry(name: str) -> Entry:
    """Returns an entry by `name`, or by `file.yaml:name` from a user's file.

    Raises:
        UnknownNameError: with the nearest names.
        ReszooError: the file or the entry is impossible.
    """
    file, _, own = name.rpartition(":")
    return load(file).entry(own) if file else builtin().entry(own)


def spec(model: str | NetSpec, /, **changes: Any) -> NetSpec:
    """Returns the spec of a network, by name (or given), with changes (see `NetSpec.replace`).

    `spec("resnet50", depths=[2, 2, 2, 2]).plain()`; `spec("my_nets.yaml:wide_thing")`
    """
    if not isinstance(model, (str, NetSpec)):
        raise ReszooError("model", got=repr(model), expected="the name of a network, file.yaml:name, or a spec")
    found = model if isinstance(model, NetSpec) else entry(model).spec
    return replace(found, changes, where=found.name) if changes else found


def plan(model: str | NetSpec, /, **changes: Any) -> Plan:
    """Returns the plan of a network, by name or spec: its operations in execution order."""
    return _plan(spec(model, **changes))


def cost(model: str | NetSpec, /, **changes: Any) -> Cost:
    """Returns the cost of a network, by name or spec, without building it.

    `cost("resnet50", input_shape=(160, 160, 3)).macs`

    Raises:
        ReszooError: an unknown name, an impossible change, or an open input size.
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
    """Returns the names of the zoo that match a shell pattern and stay under the given cost: `reszoo.list_models`."""
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
