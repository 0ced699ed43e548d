"""From one file format to another, and a check that the result computes the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.weights import infer
from reszoo.weights.dialects import COUNTER, Dialect, dialects, written
from reszoo.weights.load import from_checkpoint
from reszoo.weights.match import differences, shown
from reszoo.weights.sources import open_weights
from reszoo.weights.write import write_arrays, write_torch
from reszoo.writing import renamed_when_whole

FORMATS = (".keras", ".weights.h5", ".safetensors", ".pth")
DIFFERENCE = {None: 1e-4, "float16": 1e-2}
"""By how much outputs may differ, relative to the greatest, by the type in which numbers are written."""


class Converted(NamedTuple):
    """What a conversion made."""

    path: Path
    spec: NetSpec
    dialect: str
    """Whose names and layout the file has."""
    difference: float
    """Greatest difference between the outputs of both files on random input, relative to the greatest output."""


def convert(
    source: str | Path,
    target: str | Path,
    /,
    *,
    to: str | None = None,
    dtype: Literal["float16"] | None = None,
    names: Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
    **changes: Any,
) -> Converted:
    """Writes a checkpoint in another format, and returns what was made after both have computed the same.

    Args:
        source: any file or folder that `load_weights` reads.
        target: `.keras`, `.weights.h5`, `.safetensors` or `.pth`.
        to: names and layout of a `.safetensors` or `.pth`: a dialect such as `torchvision`, `resnetv2`,
            `hugging_face` or `reszoo`. By default our own for `.safetensors`, and for `.pth` the first of PyTorch's
            that has a name for everything.
        dtype: `float16` writes half of the bytes, to `.safetensors` and `.pth`; by default numbers stay as they are.
        names: see `load_weights`.
        key: see `load_weights`.
        changes: what you know better than the file, as in `from_checkpoint`.

    Raises:
        ReszooError: the target's format or dialect cannot hold the network, or would compute something else. No file
            is left then.
    """
    target = Path(target).expanduser()
    if not target.name.endswith(FORMATS):
        raise ReszooError(str(target), given=f"format {target.suffix!r}", allowed=", ".join(FORMATS))
    halved = target.name.endswith((".safetensors", ".pth"))
    if dtype not in DIFFERENCE or (dtype and not halved):
        allowed = "float16 for .safetensors and .pth, or nothing"
        raise ReszooError(f"convert to {target.name}: dtype", given=repr(dtype), allowed=allowed)
    first = from_checkpoint(source, names=names, key=key, **changes)
    spec = first.report.spec
    with renamed_when_whole(target) as temporary:
        if target.name.endswith((".keras", ".weights.h5")):
            told = dialects()["reszoo"]
            # Whatever else this process has built: the same file is written.
            first.model.layers[0].name = "input"
            (first.model.save if target.suffix == ".keras" else first.model.save_weights)(temporary)
        else:
            found = open_weights(source, names=names, key=key).found
            told = _dialect(spec, to or ("reszoo" if target.suffix == ".safetensors" else None), target)
            arrays = {name: named.tensor.read() for name, named in found.tensors.items()}
            metadata = {"reszoo_spec": spec.model_dump_json()} if told is dialects()["reszoo"] else None
            arrays = _in_layout(spec, arrays, told)
            if dtype:
                arrays = {name: array.astype(dtype) for name, array in arrays.items()}
            if target.suffix == ".pth":
                write_torch(arrays, temporary)
            else:
                write_arrays(arrays, temporary, metadata)
        difference = _compare(first.model, spec, temporary, target, told)
        if not difference < DIFFERENCE[dtype]:
            given = f"a file that computes something else: outputs differ by {difference:.2g}"
            raise ReszooError(str(target), given=given, allowed=str(DIFFERENCE[dtype]), mend="report this as a bug")
    return Converted(target, spec, told.title, difference)


def _dialect(spec: NetSpec, to: str | None, target: Path) -> Dialect:
    if to is not None and to not in dialects():
        raise UnknownNameError("to", given=to, known=dialects())
    # A word stands for its variants too: `torchvision` for the one with the deep stem.
    words = [name for name in dialects() if to is None or name == to or name.startswith(f"{to}_")]
    tried = [dialects()[name] for name in words if to or dialects()[name].layout == "torch"]
    unnamed = {dialect.title: _unnamed(spec, dialect) for dialect in tried if not dialect.refuse}
    fitting = [dialect for dialect in tried if unnamed.get(dialect.title) == [] and _same_blocks(spec, dialect)]
    if fitting:
        # Where no shortcut has weights, the library that says which kind it means comes first.
        return max(fitting, key=lambda dialect: dialect.shortcut == spec.block.shortcut)
    lacking = ", ".join(next(iter(unnamed.values()), [])[:3]) or "blocks of that kind"
    given = f"{spec.name}, which {to or 'no library of PyTorch'} has no names for ({lacking})"
    raise ReszooError(str(target), given=given, mend="to='reszoo' writes our own names")


def _unnamed(spec: NetSpec, dialect: Dialect) -> list[str]:
    return [op.name for op in plan(spec).ops if op.weights and dialect.theirs(op.name) is None]


def _same_blocks(spec: NetSpec, dialect: Dialect) -> bool:
    if dialect.order not in (None, spec.block.order):
        return False
    kind = "project" if spec.block.shortcut == "project_all" else spec.block.shortcut
    return not _projects(spec) or dialect.shortcut in (None, kind)


def _projects(spec: NetSpec) -> bool:
    return any("_shortcut_" in op.name and op.weights for op in plan(spec).ops)


def _in_layout(spec: NetSpec, arrays: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The arrays in plan order, under the dialect's names and in its layout."""
    import numpy as np

    made: dict[str, Any] = {}
    for op in plan(spec).ops:
        for variable in infer.variables(op):
            name, array = written(op.name, variable, dialect), arrays[f"{op.name}/{variable}"]
            if dialect.layout == "torch" and variable == "kernel":
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            made[str(name)] = array
        if dialect.layout == "torch" and op.statistics:
            made[re.sub(r"\w+$", COUNTER, str(written(op.name, "gamma", dialect)))] = np.zeros((), "int64")
    return made


def _compare(model: Any, spec: NetSpec, file: Path, target: Path, dialect: Dialect) -> float:
    import numpy as np

    from reszoo.arch.build import build

    if target.name.endswith(".weights.h5"):
        # Such a file does not tell its network, and is read into one that is known.
        again = build(spec)
        again.load_weights(file)
        spec_again = spec
    else:
        # Where no shortcut has weights, a file does not tell a plain net from option A.
        known: dict[str, Any] = {} if _projects(spec) else {"block": {"shortcut": spec.block.shortcut}}
        again, report = from_checkpoint(file, **known)
        spec_again = report.spec
    apart = differences(spec, spec_again)
    if apart:
        told = ", ".join(f"{name}={value!r}" for name, value in shown(apart).items())
        given = f"{spec.name}, which {dialect.title} would compute with {told}"
        raise ReszooError(str(target), given=given, allowed="a network that the format's library computes the same")
    side = max(64, 2 * spec.stride)
    size = tuple(given or side for given in spec.input_shape)
    x = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    same = spec.head.activation == spec_again.head.activation
    one, other = (
        _outputs(network, x, probabilities=not same and it.head.activation == "linear")
        for network, it in ((model, spec), (again, spec_again))
    )
    return float(abs(one - other).max() / max(abs(one).max(), 1e-30))


def _outputs(model: Any, x: Any, *, probabilities: bool) -> Any:
    import keras

    x = x.transpose(0, 3, 1, 2) if x.ndim == 4 and keras.config.image_data_format() == "channels_first" else x
    outputs = model(x, training=False)
    return keras.ops.convert_to_numpy(keras.ops.softmax(outputs) if probabilities else outputs)
