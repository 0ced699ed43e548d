"""Converts checkpoints between file formats, and verifies that the result computes the same."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.files import atomic_write
from reszoo.notebook import html_table
from reszoo.types import Array, KerasModel
from reszoo.weights.dialects import COUNTER, Dialect, dialects, variable_name
from reszoo.weights.formats.write import write_safetensors, write_torch
from reszoo.weights.load import from_checkpoint
from reszoo.weights.origin import open_weights
from reszoo.weights.report import as_arguments, differences
from reszoo.weights.translate import LayerNames
from reszoo.weights.translated import TORCH_AXES

FORMATS = (".keras", ".weights.h5", ".safetensors", ".pth")
_RUNTIMES = (".onnx", ".tflite", ".xml", ".pt2")
"""Suffixes of `reszoo deploy`."""
TOLERANCE = {None: 1e-4, "float16": 1e-2}
"""Type of the written numbers -> largest accepted difference of outputs, relative to the largest output."""


class Converted(NamedTuple):
    """The result of a conversion."""

    path: Path
    spec: NetSpec
    dialect: str
    """The library whose names and layout the file uses."""
    difference: float
    """Largest difference between the outputs of both files on random input, relative to the largest output."""

    def __repr__(self) -> str:
        return f"Converted({self.path.name!r}, {self.spec.name}, {self.dialect}, difference={self.difference:.1e})"

    def _repr_html_(self) -> str:
        rows = [
            ("path", self.path),
            ("network", self.spec.name),
            ("dialect", self.dialect),
            ("difference of outputs", f"{self.difference:.1e}"),
        ]
        return html_table((), rows, title="Converted")


def convert(
    source: str | Path | KerasModel,
    target: str | Path,
    /,
    *,
    to: str | None = None,
    dtype: Literal["float16"] | None = None,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
    **changes: Any,
) -> Converted:
    """Returns the result of writing a checkpoint or model in another format, after both computed the same outputs.

    Example:
        >>> import reszoo, tempfile
        >>> source = reszoo.record("resnet20_cifar.fashion_mnist").packaged
        >>> reszoo.convert(source, tempfile.mkdtemp() + "/weights.pth").difference < 1e-4
        True

    Args:
        source: any file or folder that `load_weights` reads, or a Keras model of this package.
        target: `.keras`, `.weights.h5`, `.safetensors` or `.pth`.
        to: names and layout of a `.safetensors` or `.pth`: a dialect such as `torchvision`, `resnetv2`,
            `hugging_face` or `reszoo`. The default is `reszoo` for `.safetensors`, and for `.pth` the first PyTorch
            dialect that has a name for every layer.
        dtype: `float16` halves the size of a `.safetensors` or `.pth`; by default types do not change.
        names: see `load_weights`.
        key: see `load_weights`.
        prefix: see `load_weights`.
        changes: overrides what is inferred from the file, as in `from_checkpoint`.

    Raises:
        ReszooError: the target's format or dialect cannot represent the network, or would compute something else.
            No file is written then.
    """
    if not isinstance(source, (str, Path)):
        with tempfile.TemporaryDirectory() as folder:
            source.save(Path(folder, "model.keras"))
            return convert(Path(folder, "model.keras"), target, to=to, dtype=dtype, names=names, **changes)
    target = Path(target).expanduser()
    if not target.name.endswith(FORMATS):
        hint = "reszoo deploy writes files for other runtimes" if target.suffix in _RUNTIMES else ""
        raise ReszooError(str(target), got=f"format {target.suffix!r}", expected=", ".join(FORMATS), hint=hint)
    has_dtype = target.name.endswith((".safetensors", ".pth"))
    if dtype not in TOLERANCE or (dtype and not has_dtype):
        expected = "float16 for .safetensors and .pth, or None"
        raise ReszooError(f"convert to {target.name}: dtype", got=repr(dtype), expected=expected)
    loaded = from_checkpoint(source, names=names, key=key, prefix=prefix, **changes)
    spec = loaded.report.spec
    with atomic_write(target) as temporary:
        if target.name.endswith((".keras", ".weights.h5")):
            dialect = dialects()["reszoo"]
            # The same file is written whatever else this process has built.
            loaded.model.layers[0].name = "input"
            save = loaded.model.save if target.suffix == ".keras" else loaded.model.save_weights
            save(temporary)
        else:
            translated = open_weights(source, names=names, key=key, prefix=prefix).translated
            dialect = _choose_dialect(spec, to or ("reszoo" if target.suffix == ".safetensors" else None), target)
            arrays = {name: named.tensor.read() for name, named in translated.tensors.items()}
            metadata = {"reszoo_spec": spec.model_dump_json()} if dialect is dialects()["reszoo"] else None
            arrays = _in_layout(spec, arrays, dialect)
            if dtype:
                arrays = {name: array.astype(dtype) for name, array in arrays.items()}
            if target.suffix == ".pth":
                write_torch(arrays, temporary)
            else:
                write_safetensors(arrays, temporary, metadata)
        difference = _compare(loaded.model, spec, temporary, target, dialect)
        if not difference < TOLERANCE[dtype]:
            got = f"a file that computes something else: outputs differ by {difference:.2g}"
            raise ReszooError(str(target), got=got, expected=str(TOLERANCE[dtype]), hint="report this as a bug")
    return Converted(target, spec, dialect.title, difference)


def _choose_dialect(spec: NetSpec, to: str | None, target: Path) -> Dialect:
    if to is not None and to not in dialects():
        raise UnknownNameError("to", got=to, known=dialects())
    # A name includes its variants: `torchvision` also means the one with the deep stem.
    matches = [name for name in dialects() if to is None or name == to or name.startswith(f"{to}_")]
    candidates = [dialects()[name] for name in matches if to or dialects()[name].layout == "torch"]
    unnamed = {dialect.title: _unnamed(spec, dialect) for dialect in candidates if not dialect.refuse}
    fitting = [dialect for dialect in candidates if unnamed.get(dialect.title) == [] and _same_blocks(spec, dialect)]
    if fitting:
        # If no shortcut has weights, prefer the library whose code implies this kind of shortcut.
        return max(fitting, key=lambda dialect: dialect.shortcut == spec.block.shortcut)
    lacking = ", ".join(next(iter(unnamed.values()), [])[:3]) or "blocks of that kind"
    library = to or "any PyTorch library"
    got = f"{spec.name}, which has no names in {library} ({lacking})"
    raise ReszooError(str(target), got=got, hint="to='reszoo' writes the names of reszoo")


def _unnamed(spec: NetSpec, dialect: Dialect) -> list[str]:
    return [op.name for op in plan(spec).ops if op.weights and dialect.theirs(op.name) is None]


def _same_blocks(spec: NetSpec, dialect: Dialect) -> bool:
    if dialect.order not in (None, spec.block.order):
        return False
    kind = "project" if spec.block.shortcut == "project_all" else spec.block.shortcut
    return not _projects(spec) or dialect.shortcut in (None, kind)


def _projects(spec: NetSpec) -> bool:
    return any("_shortcut_" in op.name and op.weights for op in plan(spec).ops)


def _in_layout(spec: NetSpec, arrays: Mapping[str, Array], dialect: Dialect) -> dict[str, Array]:
    """Returns the arrays in plan order, with the dialect's names and layout."""
    import numpy as np

    result: dict[str, Array] = {}
    for op in plan(spec).ops:
        for variable in (*op.weights, *op.statistics):
            name, array = variable_name(op.name, variable, dialect), arrays[f"{op.name}/{variable}"]
            if dialect.layout == "torch" and variable == "kernel":
                array = array.transpose(TORCH_AXES[array.ndim])
            result[str(name)] = array
        if dialect.layout == "torch" and op.statistics:
            result[re.sub(r"\w+$", COUNTER, str(variable_name(op.name, "gamma", dialect)))] = np.zeros((), "int64")
    return result


def _compare(model: KerasModel, spec: NetSpec, file: Path, target: Path, dialect: Dialect) -> float:
    """Returns the largest difference of the outputs of a model and of a file, relative to the largest output."""
    import numpy as np

    from reszoo.arch.build import build

    if target.name.endswith(".weights.h5"):
        # This format does not contain the network: build it, and load the file into it.
        copy = build(spec)
        copy.load_weights(file)
        copy_spec = spec
    else:
        # If no shortcut has weights, a plain network and option A have the same tensors.
        changes: dict[str, Any] = {} if _projects(spec) else {"block": {"shortcut": spec.block.shortcut}}
        if spec.norm.kind != "batch":
            changes["norm"] = {"kind": spec.norm.kind, "groups": spec.norm.groups}
        with warnings.catch_warnings():
            # What the copy does not tell is compared here.
            warnings.simplefilter("ignore", UserWarning)
            copy, report = from_checkpoint(file, **changes)
        copy_spec = report.spec
    mismatch = differences(spec, copy_spec)
    if mismatch:
        arguments = ", ".join(f"{name}={value!r}" for name, value in as_arguments(mismatch).items())
        got = f"{spec.name}, which {dialect.title} would compute with {arguments}"
        raise ReszooError(str(target), got=got, expected="a network that the target's library computes identically")
    side = max(64, 2 * spec.stride)
    size = tuple(length or side for length in spec.input_shape)
    x = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    same_activation = spec.head.activation == copy_spec.head.activation
    outputs, copy_outputs = (
        _outputs(network, x, probabilities=not same_activation and its_spec.head.activation == "linear")
        for network, its_spec in ((model, spec), (copy, copy_spec))
    )
    return float(abs(outputs - copy_outputs).max() / max(abs(outputs).max(), 1e-30))


def _outputs(model: KerasModel, x: Array, *, probabilities: bool) -> Array:
    import keras

    x = x.transpose(0, 3, 1, 2) if x.ndim == 4 and keras.config.image_data_format() == "channels_first" else x
    outputs = model(x, training=False)
    return keras.ops.convert_to_numpy(keras.ops.softmax(outputs) if probabilities else outputs)
