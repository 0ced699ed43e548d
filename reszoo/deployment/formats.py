"""The table of formats: what a file is called, which libraries it needs, and the module that writes and opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from reszoo.errors import ReszooError, UnknownNameError
from reszoo.types import Array, KerasModel

Program = Callable[[Array], dict[str, Array]]
"""A file opened in its own runtime: a batch of inputs -> outputs by name."""


class Order(NamedTuple):
    """What the writer of a format needs to know beside the model."""

    batch: int | None
    """Fixed batch size; None for any."""
    quantize: str | None
    calibration: Array | None
    """Examples for int8, as the model takes them."""
    labels: str
    """Class names, one per line; empty if they are unknown."""
    description: str
    """JSON about the network and its input."""


class Writer(Protocol):
    """The module of a format."""

    def export(self, model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
        """Writes the file and returns notes."""

    def open_program(self, path: Path) -> Program:
        """Returns the file opened by its runtime alone."""


class Format(NamedTuple):
    """One format."""

    name: str
    suffix: str
    """Of the file; a folder has none."""
    backend: str
    """The Keras backend whose converter is right for every family of networks."""
    module: str
    extra: str
    """Of `pip install 'reszoo[...]'`."""
    needs: tuple[str, ...]
    """Libraries that write and run the file."""
    quantize: tuple[str, ...]
    needs_int8: tuple[str, ...] = ()

    @property
    def writer(self) -> Writer:
        """The module that writes and opens the format."""
        return cast(Writer, import_module(f"reszoo.deployment.{self.module}"))


_BOTH = ("float16", "int8")
FORMATS = {
    entry.name: entry
    for entry in (
        Format("saved_model", "", "tensorflow", "saved_models", "", ("tensorflow",), ()),
        Format("onnx", ".onnx", "tensorflow", "onnx_files", "onnx", ("onnx", "tf2onnx", "onnxruntime"), _BOTH),
        Format("litert", ".tflite", "tensorflow", "litert_files", "litert", ("ai_edge_litert",), _BOTH),
        Format("openvino", ".xml", "tensorflow", "openvino_files", "openvino", ("openvino",), _BOTH, ("nncf",)),
        Format("torch_export", ".pt2", "torch", "torch_programs", "torch", ("torch",), ()),
    )
}

IN_KERAS = ("predict", "function", "train")
"""Ways to run a model in Keras: `model.predict`, a compiled function, and a training step."""
DEFAULT_PRECISION = "openvino:default"
"""OpenVINO as it runs without a hint: in bfloat16 on processors that have it."""


def format_for(name: str, quantize: str | None = None) -> Format:
    """Returns a format whose libraries are installed.

    Example:
        >>> from reszoo.deployment.formats import format_for
        >>> format_for("saved_model").backend
        'tensorflow'

    Args:
        name: of the format.
        quantize: `float16`, `int8` or None.

    Raises:
        UnknownNameError: there is no such format.
        ReszooError: the format has no such numbers, or a library is missing.
    """
    if name not in FORMATS:
        raise UnknownNameError("deploy.format", got=name, known=FORMATS)
    entry = FORMATS[name]
    if quantize is not None and quantize not in entry.quantize:
        known = ("None", *map(repr, entry.quantize))
        able = [f"{other.name}" for other in FORMATS.values() if quantize in other.quantize]
        hint = f"{quantize} is written for {', '.join(able)}" if able else ""
        raise ReszooError(f"deploy.quantize: {name}", got=repr(quantize), expected=" or ".join(known), hint=hint)
    needed = (*entry.needs, *(entry.needs_int8 if quantize == "int8" else ()))
    missing = [module for module in needed if find_spec(module) is None]
    if missing:
        packages = " ".join(module.replace("_", "-") for module in missing)
        hint = f"pip install {packages}" + (f", or pip install 'reszoo[{entry.extra}]'" if entry.extra else "")
        raise ReszooError(f"deploy: {name}", got=f"not installed: {', '.join(missing)}", hint=hint)
    return entry


def versions(entry: Format, quantize: str | None) -> dict[str, str]:
    """Returns the versions of the libraries that write and run a format."""
    from importlib.metadata import PackageNotFoundError, version

    from reszoo._version import __version__

    numbers = {"reszoo": __version__}
    for name in ("keras", "tensorflow", *entry.needs, *(entry.needs_int8 if quantize == "int8" else ())):
        try:
            numbers[name] = version(name.replace("_", "-"))
        except PackageNotFoundError:
            # TensorFlow also comes in distributions of other names, such as tensorflow-cpu.
            numbers[name] = str(getattr(import_module(name), "__version__", "unknown"))
    return numbers


def timed_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the ways to run a network that `reszoo.bench` compares.

    Raises:
        UnknownNameError: there is no such format.
        ReszooError: its libraries are not installed.
    """
    if formats == "all":
        installed = []
        for name in FORMATS:
            try:
                installed.append(format_for(name).name)
            except ReszooError:
                continue
        return ("predict", "function", *installed)
    names = tuple(part.strip() for part in formats.split(",")) if isinstance(formats, str) else tuple(formats)
    for name in names:
        kind, quantize = parts_of(name)
        if kind not in (*IN_KERAS, *FORMATS):
            raise UnknownNameError("bench.formats", got=name, known=(*IN_KERAS, *FORMATS, "all"))
        if kind in FORMATS:
            format_for(kind, quantize)
    return names


def parts_of(name: str) -> tuple[str, str | None]:
    """Returns the format of a name, and its quantization: `onnx:int8` is `onnx` and `int8`."""
    kind, _, quantize = name.partition(":")
    return kind, None if name == DEFAULT_PRECISION else quantize or None
