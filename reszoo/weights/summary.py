"""What a checkpoint is, in words."""

from __future__ import annotations

from pathlib import Path

from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.formats.read import read
from reszoo.weights.sources import published
from reszoo.weights.translate import translate


def summary(path: str | Path, *, key: str | None = None) -> str:
    """Returns what a checkpoint holds: container, library, network, numbers. Nothing but names and shapes is read.

    Raises:
        ReszooError: the file cannot be read.
    """
    checkpoint = read(path, key=key)
    numbers = sum(tensor.size for tensor in checkpoint.tensors.values())
    lines = [
        f"{checkpoint.path}: {checkpoint.container}",
        f"  {len(checkpoint.tensors)} tensors, {numbers:,} numbers ({checkpoint.dtypes})",
        *(f"  {note}" for note in checkpoint.notes),
    ]
    try:
        found = translate(checkpoint)
        specs = infer.specs(found)
    except ReszooError as error:
        return "\n".join([*lines, f"  not a network of the zoo: {error}"])
    spec, record = specs[0], published(path)
    name = infer.named_like(spec)
    body = "-".join(str(unit.kernel) for unit in spec.block.body)
    kinds = " or ".join(dict.fromkeys(one.block.shortcut for one in specs))
    lines += [
        f"  names of {found.dialect.title}",
        f"  {name or 'a network without a name in the zoo'}: depths {[stage.depth for stage in spec.stages]}, "
        f"widths {[stage.width for stage in spec.stages]}, blocks of kernels {body} ({spec.block.order}), "
        f"shortcut {kinds}, stride on unit {spec.block.stride_at}",
        f"  stem {spec.stem.kernel}x{spec.stem.kernel}, {spec.stem.depth} deep, {spec.stem.width} wide; "
        f"{spec.input_shape[-1]} channels in; {spec.head.classes or 'no'} classes",
        f"  {cost(plan(spec.replace(input_shape=_closed(spec.input_shape)))).params:,} parameters; "
        f"epsilon {spec.norm.epsilon:g}{' (assumed)' if 'epsilon' in infer.assumed(found) else ''}",
    ]
    if found.unknown:
        lines.append(f"  {len(found.unknown)} tensors with other names: {', '.join(found.unknown[:3])}")
    if record:
        lines.append(f"  published as {record.name} ({record.licence}), hash checked")
    return "\n".join(lines)


def _closed(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(size or 224 for size in shape)
