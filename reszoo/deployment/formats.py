"""The table of formats: what a file is called, which libraries it needs, and the module that writes and opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from reszoo.errors import ReszooError, UnknownNameError
from reszoo.types import Array, KerasModel

Inputs = Array | dict[str, Array]
"""A batch of examples; for a network with several inputs, arrays by name."""
Program = Callable[[Inputs], dict[str, Array]]
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

    def open_program(self, path: Path, **settings: Any) -> Program:
        """Returns the file opened by its runtime alone; `threads` is a setting of those in `THREADED`."""


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
    """Libraries that write and run the file, beside the backend."""
    quantize: tuple[str, ...]
    needs_int8: tuple[str, ...] = ()

    def libraries(self, quantize: str | None = None) -> tuple[str, ...]:
        """Returns the modules that write and run the file."""
        return (*self.needs, *(self.needs_int8 if quantize == "int8" else ()), self.backend)

    @property
    def writer(self) -> Writer:
        """The module that writes and opens the format."""
        return cast(Writer, import_module(f"reszoo.deployment.{self.module}"))


_BOTH = ("float16", "int8")
FORMATS = {
    entry.name: entry
    for entry in (
        Format("saved_model", "", "tensorflow", "saved_models", "", (), ()),
        Format("onnx", ".onnx", "tensorflow", "onnx_files", "onnx", ("onnx", "tf2onnx", "onnxruntime"), _BOTH),
        Format("litert", ".tflite", "tensorflow", "litert_files", "litert", ("ai_edge_litert",), _BOTH),
        Format("openvino", ".xml", "tensorflow", "openvino_files", "openvino", ("openvino",), _BOTH, ("nncf",)),
        Format("torch_export", ".pt2", "torch", "torch_programs", "torch", (), ()),
    )
}

THREADED = ("onnx", "litert", "openvino")
"""Formats whose runtime takes a number of threads for each file; others have one for the process."""
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
    missing = [module for module in entry.libraries(quantize) if not _installed(module)]
    if missing:
        packages = " ".join(module.replace("_", "-") for module in missing)
        hint = f"pip install {packages}" + (f", or pip install 'reszoo[{entry.extra}]'" if entry.extra else "")
        raise ReszooError(f"deploy: {name}", got=f"not installed: {', '.join(missing)}", hint=hint)
    return entry


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        # An import that is blocked.
        return False


def versions(entry: Format, quantize: str | None) -> dict[str, str]:
    """Returns the versions of the libraries that write and run a format."""
    from importlib.metadata import PackageNotFoundError, version

    from reszoo._version import __version__

    numbers = {"reszoo": __version__}
    for name in ("keras", *entry.libraries(quantize)):
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
