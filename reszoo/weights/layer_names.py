"""Names by hand: a map from our layers to those in a file, alone or on top of a dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from reszoo.config import check, read_yaml
from reszoo.errors import ReszooError, nearest
from reszoo.weights.dialects import Dialect, Template, dialects
from reszoo.weights.formats.checkpoint import Checkpoint

LayerNames: TypeAlias = Mapping[str, Any] | str | Path
"""Our layer names -> those in a file, as a mapping or the path of a YAML file."""


def candidates(checkpoint: Checkpoint, names: LayerNames | None) -> list[Dialect]:
    """Returns the dialects that a file may be in: with names by hand, these alone, or added to each known dialect.

    Raises:
        ReszooError: a name of a layer is not ours.
    """
    known = [*dialects().values()]
    if names is None:
        return known
    layout, rules = _rules(checkpoint, names)
    alone = check(Dialect, {"title": "custom names", "layout": layout, "names": rules}, where="names")

    def title(dialect: Dialect) -> str:
        return f"custom names and those of {dialect.title}"

    added = [
        check(
            Dialect,
            {**dialect.model_dump(), "title": title(dialect), "names": {**dialect.names, **rules}},
            where="names",
        )
        for dialect in known
        if dialect.layout == layout and not dialect.refuse
    ]
    return [alone, *added]


def _rules(checkpoint: Checkpoint, names: LayerNames) -> tuple[str, dict[str, Any]]:
    rules = read_yaml(Path(names)) if isinstance(names, (str, Path)) else dict(names)
    layout = rules.pop("layout", "keras" if "Keras" in checkpoint.container else "torch")
    layers = dialects()["reszoo"].names
    for ours in rules:
        # `stage{stage}_block{block}_unit1_conv` is a layer of ours with some numbers in place of fields.
        example = re.sub(r"\{\w+\}", "1", str(ours))
        if not any(ours == layer or Template(layer).read(example) is not None for layer in layers):
            raise ReszooError("names", got=repr(ours), expected=", ".join(layers))
    return layout, rules


def check_names(checkpoint: Checkpoint, names: LayerNames, prefix: str) -> None:
    """Checks that the file has every layer in a map by hand.

    Raises:
        ReszooError: it lacks one.
    """
    layout, rules = _rules(checkpoint, names)
    separator = "/" if layout == "keras" else "."
    layers = {*(name.removeprefix(prefix).rpartition(separator)[0] for name in checkpoint.tensors)}
    for ours, theirs in rules.items():
        if theirs is None or any(Template(theirs).read(layer) is not None for layer in layers):
            continue
        expected = ", ".join(sorted(layers)[:6]) + (", ..." if len(layers) > 6 else "")
        got = f"{theirs!r} for {ours!r}, which is not in {checkpoint.path.name}"
        raise ReszooError("names", got=got, expected=expected, hint=nearest(theirs, layers))
