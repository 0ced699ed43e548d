"""The network of the zoo that is nearest to a file's, and how it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reszoo.weights.translated import Translated

Shapes = Mapping[str, tuple[int, ...]]
"""`layer/variable` -> shape, in Keras layout."""


def nearest(networks: Sequence[Shapes], translated: Translated, shapes: Shapes) -> str:
    """Returns a hint: variables of the nearest network (-) and tensors of the file (+) that differ, three of each."""
    in_file = {*shapes.items()}
    in_networks = [{*network.items()} for network in networks]
    closest = min(in_networks, key=lambda in_network: len(in_network ^ in_file), default=in_file)
    if pruned := _pruned(closest, in_file, translated):
        return pruned
    torch = translated.dialect.layout == "torch"
    lines = [f"\n  - {name} {as_in_file(shape, torch=torch)}" for name, shape in sorted(closest - in_file)[:3]]
    lines += [
        f"\n  + {translated.tensors[name].source} {as_in_file(shape, torch=torch)}"
        for name, shape in sorted(in_file - closest)[:3]
    ]
    return f"the nearest one differs:{''.join(lines)}" if lines else "all blocks must have the same kind of units"


def as_in_file(shape: tuple[int, ...], *, torch: bool) -> tuple[int, ...]:
    """Returns a shape in Keras layout as the file has it."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape)) if torch else None
    return tuple(shape[axis] for axis in axes) if axes else shape


def _pruned(nearest: set[Any], in_file: set[Any], translated: Translated) -> str:
    """Returns a hint if the same variables have fewer channels in some blocks, or an empty string."""
    ours, theirs = dict(nearest), dict(in_file)
    differing = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    is_narrower = all(
        len(ours[name]) == len(theirs[name])
        and all(one >= two for one, two in zip(ours[name], theirs[name], strict=True))
        for name in differing
    )
    narrower = [name for name in differing if name.endswith("_conv/kernel") and ours[name][-1] != theirs[name][-1]]
    if not narrower or ours.keys() != theirs.keys() or not is_narrower:
        return ""
    name = min(narrower)
    source, widths = translated.tensors[name].source, f"{theirs[name][-1]} of {ours[name][-1]}"
    return f"pruned: units of a block differ in width between blocks ({source} has {widths} channels)"
