"""Time, throughput and memory of a network in Keras and in other runtimes, measured in turns."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import keras
import numpy as np

from reszoo.arch import zoo
from reszoo.arch.build import build
from reszoo.data.sources import Data, DataSource
from reszoo.deployment.deploy import deploy
from reszoo.deployment.formats import DEFAULT_PRECISION, FORMATS, parts_of, timed_formats
from reszoo.deployment.network import file_of, open_network
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.report.bars import draw_bars
from reszoo.report.page import Gallery, Page, Section, Table
from reszoo.report.write import Presentable
from reszoo.types import Array, KerasModel

ROUNDS = (3, 100)
"""Fewest and most timed calls."""


class Timing(NamedTuple):
    """Time of one way to run a network, at one batch size."""

    format: str
    batch: int
    milliseconds: float
    """Median of a call."""
    least: float
    """Shortest call in milliseconds."""
    examples_per_second: float
    load_seconds: float
    """Time to open the file, or to build the function, with its first call."""
    megabytes: float
    """Growth of the memory of this process by loading and the first call; 0 where the system does not say."""

    def __repr__(self) -> str:
        return f"Timing({self.format}, batch {self.batch}: {self.milliseconds:.3g} ms)"


@dataclass(frozen=True)
class Bench(Presentable):
    """Measured times of a network."""

    network: str
    machine: str
    timings: tuple[Timing, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        best = min(self.timings, key=lambda timing: timing.milliseconds / timing.batch)
        return f"Bench({self.network!r}: {len(self.timings)} timings, fastest {best!r})"

    def rows(self) -> list[tuple[str, int, str, str, str, str, str, str]]:
        """Returns the table's rows: format, batch, median, least, ratio, examples per second, load time, memory.

        The ratio is the median in units of the first format's at the same batch size.
        """
        first = {timing.batch: timing.milliseconds for timing in reversed(self.timings)}
        return [
            (
                *(timing.format, timing.batch, f"{timing.milliseconds:.3g}", f"{timing.least:.3g}"),
                *(f"{timing.milliseconds / first[timing.batch]:.3g}", f"{timing.examples_per_second:,.0f}"),
                *(f"{timing.load_seconds:.2f}", f"{timing.megabytes:.0f}"),
            )
            for timing in self.timings
        ]

    def page(self) -> Page:
        """Returns the times as a page: bars for every batch size, and a table."""
        best = min(self.timings, key=lambda timing: timing.milliseconds / timing.batch)
        pictures = []
        for size in dict.fromkeys(timing.batch for timing in self.timings):
            times = {one.format: (one.milliseconds,) for one in self.timings if one.batch == size}
            caption = f"Median time of a call with {size} example{'s' * (size != 1)}; less is better."
            labels = {"name": f"batch_{size}", "title": f"batch {size}", "caption": caption, "xlabel": "milliseconds"}
            pictures.append(draw_bars(times, parts=("median",), **labels))
        columns = ("format", "batch", "median (ms)", "least (ms)", "examples per second", "load (s)", "memory (MB)")
        return Page(
            f"Times of {self.network}",
            f"Fastest for an example: {best.format} in batches of {best.batch}, {best.milliseconds:.3g} ms a call.",
            [Section("Times", [Gallery(pictures, "large"), Table(columns, self.timings), *self.notes])],
            {"machine": self.machine},
            file="bench.html",
            numbers=json.loads(self.to_json()),
            numbers_file="bench.json",
        )

    def to_json(self) -> str:
        """Returns all numbers as JSON."""
        return json.dumps(asdict(self) | {"timings": [timing._asdict() for timing in self.timings]}, indent=2)

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self.rows(), title=f"{self.network}; {self.machine}", note="; ".join(self.notes))


COLUMNS = ("format", "batch", "ms", "least ms", "ratio", "per second", "load s", "MB")
"""Headings of `Bench.rows`."""


class _Contestant(NamedTuple):
    name: str
    run: Callable[[Array], Any]
    load_seconds: float
    megabytes: float


def bench(
    model: KerasModel | str | Path,
    /,
    *,
    formats: str | Sequence[str] = ("predict",),
    batch: int | Sequence[int] = 1,
    data: Data | DataSource | None = None,
    seconds: float = 1.0,
) -> Bench:
    """Returns the time of a network in Keras and in other runtimes on this machine.

    All are loaded, then called in turns, so that a busy moment meets all of them. The first format's time is the unit
    of the ratios.

    Example:
        >>> import reszoo
        >>> model = reszoo.residual_mlp18(depths=1, input_shape=(4,), classes=3)
        >>> [timing.batch for timing in reszoo.bench(model, batch=(1, 2), seconds=0.01).timings]
        [1, 2]

    Args:
        model: as for `deploy`, or the name of a network in the zoo, then with random weights.
        formats: `predict` (`model.predict`), `function` (a compiled function), `train` (a training step), a format of
            `deploy`, or one with its quantization, such as `onnx:int8`; `openvino:default` for OpenVINO in its default
            precision instead of float32. `all`: everything in float32 whose libraries
            are installed.
        batch: batch sizes.
        data: examples to calibrate int8.
        seconds: of timed calls for each format and batch size.

    Raises:
        ReszooError: an unknown format, invalid sizes, or a format that `deploy` refuses.
    """
    names = timed_formats(formats)
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ReszooError("bench.batch", got=repr(batch), expected="at least 1")
    network = _open(model)
    shape = tuple(side or 224 for side in network.inputs[0].shape[1:])
    x = np.random.default_rng(0).normal(size=(max(sizes), *shape)).astype(network.inputs[0].dtype)
    timings = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        contestants = [_contestant(name, network, x[: sizes[0]], Path(folder), data) for name in names]
        for size in sizes:
            for contestant, times in zip(contestants, _times(contestants, x[:size], seconds), strict=True):
                middle = median(times)
                numbers = (1e3 * middle, 1e3 * min(times), size / middle)
                timings.append(Timing(contestant.name, size, *numbers, contestant.load_seconds, contestant.megabytes))
    notes = ("runtimes in one process disturb each other: only large differences count",) if len(names) > 1 else ()
    return Bench(network.name, _machine(), tuple(timings), notes)


def _open(model: KerasModel | str | Path) -> KerasModel:
    if isinstance(model, str) and model in zoo.builtin().names:
        return build(zoo.spec(model))
    if isinstance(model, (str, Path)):
        file_of(model)
    return open_network(model, False, False).model


def _contestant(name: str, model: KerasModel, x: Array, folder: Path, data: Any) -> _Contestant:
    kind, quantize = parts_of(name)
    path = folder / name.replace(":", "_")
    if kind in FORMATS:
        settings: dict[str, Any] = {
            "quantize": quantize,
            "data": data,
            "preprocessing": False,
            "examples": 64,
            "max_loss": 0.99,
        }
        # The bench measures time: the accuracy of 8 bits on its data is not its question.
        path = deploy(model, kind, path, **settings).path  # type: ignore[arg-type]
    before, start = _resident(), perf_counter()
    run = _opened(name, kind, path) if kind in FORMATS else _in_keras(kind, model)
    run(x)
    return _Contestant(name, run, perf_counter() - start, max(_resident() - before, 0.0))


def _opened(name: str, kind: str, path: Path) -> Callable[[Array], Any]:
    from reszoo.deployment.openvino_files import open_program

    return open_program(path, precision=None) if name == DEFAULT_PRECISION else FORMATS[kind].writer.open_program(path)


def _in_keras(kind: str, model: KerasModel) -> Callable[[Array], Any]:
    if kind == "predict":
        return lambda x: model.predict(x, batch_size=len(x), verbose=0)
    if kind == "train":
        learner = keras.models.clone_model(model)
        learner.compile(keras.optimizers.SGD(1e-3), "mse")
        width = learner.output_shape[1:]
        return lambda x: learner.train_on_batch(x, np.zeros((len(x), *width), "float32"))
    return model.predict_on_batch


def _times(contestants: Sequence[_Contestant], x: Array, seconds: float) -> list[list[float]]:
    """Seconds of single calls, in turns; a call before them is not timed, since it may compile for this size."""
    for contestant in contestants:
        contestant.run(x)
    times: list[list[float]] = [[] for _ in contestants]
    for number in range(ROUNDS[1]):
        for contestant, collected in zip(contestants, times, strict=True):
            if number < ROUNDS[0] or sum(collected) < seconds:
                start = perf_counter()
                contestant.run(x)
                collected.append(perf_counter() - start)
    return times


def _resident() -> float:
    """Resident memory of this process in MB; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _machine() -> str:
    devices = f"{os.cpu_count()} processors, {platform.machine()}"
    return f"{devices}; keras {keras.version()} on {keras.backend.backend()}"
