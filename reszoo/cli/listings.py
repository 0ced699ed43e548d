"""What has a name: networks, published weights, recipes, search spaces, data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.arch import zoo
from reszoo.arch.ops import size
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.report.tables import short


class Listing(NamedTuple):
    """Things of one kind, by name."""

    kind: str
    rows: list[dict[str, Any]]
    """Every one as plain data, `name` first."""

    def matching(self, pattern: str) -> Listing:
        """Returns those whose name, or whose network's, matches a shell pattern.

        Raises:
            UnknownNameError: there are none; the nearest names are offered.
        """
        rows = [row for row in self.rows if any(fnmatch(row[key], pattern) for key in ("name", "model") if key in row)]
        if not rows:
            known = [row["name"] for row in self.rows]
            expected = f"a name or a shell pattern of {self.kind}, such as '{known[0][:6]}*'"
            raise UnknownNameError("reszoo list", got=pattern, known=known, expected=expected)
        return Listing(self.kind, rows)

    def columns(self) -> tuple[str, ...]:
        """Returns the headings of a table."""
        return tuple(HEADINGS.get(name, name) for name in self.rows[0])

    def cells(self) -> list[tuple[str, ...]]:
        """Returns the rows of a table."""
        return [
            tuple("-" if value is None else TEXTS.get(name, str)(value) for name, value in row.items())
            for row in self.rows
        ]


BATCHES = (1, 8)
"""Of measured latency and throughput."""
HEADINGS = {
    **{"macs": "MACs", "top1": "top-1 %", "top5": "top-5 %", "latency_ms": "ms, batch 1"},
    **{"images_per_second": "per s, batch 8", "trained_per_second": "trained per s", "train_megabytes": "training MB"},
}
TEXTS: Mapping[str, Callable[[Any], str]] = {
    "params": short,
    "macs": short,
    "input": size,
    "top1": "{:.2f}".format,
    "top5": "{:.2f}".format,
    "latency_ms": "{:.3g}".format,
    "images_per_second": "{:.4g}".format,
    "trained_per_second": "{:.4g}".format,
    "train_megabytes": "{:.0f}".format,
}
"""Field -> its text in a table."""


def networks(file: Path | None, **limits: Any) -> Listing:
    """Returns the networks of a file, or of the package, within limits.

    Raises:
        ReszooError: there are none, or the file is invalid.
    """
    source = zoo.load(file) if file else zoo.builtin()
    rows = []
    for name in _within(file, **limits):
        entry = source.entry(name)
        cost = zoo.cost(entry.spec)
        counts = {"params": cost.params, "macs": cost.macs, "layers": cost.depth}
        rows.append({"name": name, "family": entry.family, **counts, "input": entry.spec.input_shape})
    return Listing("networks", rows)


def measured(listing: Listing, file: Path | None) -> Listing:
    """Returns networks with the time of a compiled function and of a training step on this machine, and its memory."""
    from reszoo.arch.build import build
    from reszoo.deployment.bench import bench

    source, (one, several) = zoo.load(file) if file else zoo.builtin(), BATCHES
    rows = []
    for row in listing.rows:
        model = build(source.entry(row["name"]).spec)
        timings = bench(model, formats=("function", "train"), batch=BATCHES, seconds=0.3).timings
        times = {(timing.format, timing.batch): timing for timing in timings}
        columns = {
            "latency_ms": times["function", one].milliseconds,
            "images_per_second": times["function", several].examples_per_second,
            "trained_per_second": times["train", several].examples_per_second,
            "train_megabytes": times["train", several].megabytes,
        }
        rows.append({**row, **columns})
    return Listing(listing.kind, rows)


def weights(file: Path | None, **limits: Any) -> Listing:
    """Returns the published weights of the networks within limits; a network's first ones are its default."""
    from reszoo.weights.catalogue import records

    models = {*_within(file, **limits)}
    rows = []
    for record in records().values():
        accuracy = record.accuracy[0] if record.accuracy else None
        scores = {"top1": accuracy and accuracy.top1, "top5": accuracy and accuracy.top5}
        row = {"name": record.name, "model": record.model, **scores, "pixels": record.preprocessing.crop}
        rows += [{**row, "license": record.licence}] if record.model in models else []
    return Listing("published weights", rows)


def recipes() -> Listing:
    """Returns the training recipes."""
    from reszoo.training.recipes import list_recipes, recipe

    entries = map(recipe, list_recipes())
    return Listing(
        "recipes",
        [
            {
                "name": entry.name,
                "epochs": entry.epochs,
                "batch": entry.batch,
                "optimizer": entry.optimizer.kind,
                "rate": entry.learning_rate.peak,
                "source": entry.ref,
            }
            for entry in entries
        ],
    )


def spaces() -> Listing:
    """Returns the search spaces."""
    from reszoo.tuning.space import list_spaces, space

    entries = map(space, list_spaces())
    return Listing(
        "search spaces",
        [{"name": entry.name, "network": entry.network, "kind": entry.kind, "source": entry.ref} for entry in entries],
    )


def data_sets() -> Listing:
    """Returns the data sets that have a name."""
    from reszoo.data.sources import DATA_SETS

    origins = {"digits": "scikit-learn, no download"}
    return Listing(
        "data sets", [{"name": name, "source": origins.get(name, "keras.datasets, a download")} for name in DATA_SETS]
    )


KINDS: Mapping[str, Callable[[], Listing]] = {"recipes": recipes, "spaces": spaces, "data": data_sets}


def _within(file: Path | None, **limits: Any) -> Iterable[str]:
    names = zoo.list_models(zoo=file, **limits)
    if not names:
        text = ", ".join(f"{name} {value:g}" for name, value in limits.items() if isinstance(value, float))
        raise ReszooError("reszoo list", got=f"no network within {text or 'these limits'}", expected="other limits")
    return names
