"""A description of a checkpoint in words."""

from __future__ import annotations

from pathlib import Path

from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.formats.read import read
from reszoo.weights.sources import published_record
from reszoo.weights.translate import translate


def summary(path: str | Path, *, key: str | None = None, prefix: str | None = None) -> str:
    """Returns a description of a checkpoint: format, library, network, size. Only names and shapes are read.

    Raises:
        ReszooError: the file cannot be read.
    """
    checkpoint = read(path)
    numbers = sum(tensor.size for tensor in checkpoint.tensors.values())
    lines = [
        f"{checkpoint.path}: {checkpoint.container}",
        f"  {len(checkpoint.tensors)} tensors, {numbers:,} numbers ({checkpoint.dtypes})",
        *(f"  {note}" for note in checkpoint.notes),
    ]
    try:
        translated = translate(checkpoint, key=key, prefix=prefix)
        specs = infer.specs(translated)
    except ReszooError as error:
        return "\n".join([*lines, f"  not a network of the zoo: {error}"])
    spec = specs[0]
    record = published_record(path)
    name = infer.zoo_name(spec)
    body = "-".join(str(unit.kernel) for unit in spec.block.body)
    shortcuts = " or ".join(dict.fromkeys(one.block.shortcut for one in specs))
    lines += [
        f"  names of {translated.dialect.title}",
        f"  {name or 'not a named network of the zoo'}: depths {[stage.depth for stage in spec.stages]}, "
        f"widths {[stage.width for stage in spec.stages]}, kernels {body} ({spec.block.order}), "
        f"shortcut {shortcuts}, stride in unit {spec.block.stride_at}",
        f"  stem {spec.stem.kernel}x{spec.stem.kernel}, {spec.stem.depth} deep, {spec.stem.width} wide; "
        f"{spec.input_shape[-1]} channels in; {spec.head.classes or 'no'} classes",
        f"  {cost(plan(spec.replace(input_shape=_with_size(spec.input_shape)))).params:,} parameters; "
        f"epsilon {spec.norm.epsilon:g}{' (assumed)' if 'epsilon' in infer.assumed_fields(translated) else ''}",
    ]
    if translated.unknown:
        lines.append(f"  {len(translated.unknown)} tensors with other names: {', '.join(translated.unknown[:3])}")
    if record:
        lines.append(f"  published as {record.name} ({record.licence}), hash verified")
    return "\n".join(lines)


def _with_size(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(size or 224 for size in shape)
