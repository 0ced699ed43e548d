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
from typing import Any, NamedTuple, cast

import keras
import numpy as np

from reszoo.arch import zoo
from reszoo.arch.build import build
from reszoo.data.sources import Data, DataSource
from reszoo.deployment.deploy import deploy
from reszoo.deployment.formats import DEFAULT_PRECISION, FORMATS, THREADED, Inputs, parts_of, timed_formats
from reszoo.deployment.network import file_of, open_network
from reszoo.deployment.signature import pack_inputs, random_inputs
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.report.page import Gallery, Page, Section, Table
from reszoo.report.panels import draw_bars
from reszoo.report.write import Presentable
from reszoo.types import KerasModel

BLOCK = 5
"""Timed calls in a row."""
ROUNDS = (2, 100)
"""Fewest blocks, and most timed calls."""


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
    threads: int | None = None
    """None for those of the process: Keras and TensorFlow cannot change them."""

    def __repr__(self) -> str:
        threads = f", {self.threads} threads" if self.threads else ""
        return f"Timing({self.format}, batch {self.batch}{threads}: {self.milliseconds:.3g} ms)"


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

    def rows(self) -> list[tuple[str, int, str, str, str, str, str, str, str]]:
        """Returns the rows: format, batch, median, least, ratio, examples per second, load time, memory, threads.

        The ratio is the median in units of the first format's at the same batch size.
        """
        first = {timing.batch: timing.milliseconds for timing in reversed(self.timings)}
        return [
            (
                *(timing.format, timing.batch, f"{timing.milliseconds:.3g}", f"{timing.least:.3g}"),
                *(f"{timing.milliseconds / first[timing.batch]:.3g}", f"{timing.examples_per_second:,.0f}"),
                *(f"{timing.load_seconds:.2f}", f"{timing.megabytes:.0f}", str(timing.threads or "-")),
            )
            for timing in self.timings
        ]

    def page(self) -> Page:
        """Returns the times as a page: bars for every batch size, and a table."""
        best = min(self.timings, key=lambda timing: timing.milliseconds / timing.batch)
        pictures = []
        for size in dict.fromkeys(timing.batch for timing in self.timings):
            rows = [timing for timing in self.timings if timing.batch == size]
            times = {
                one.format + (f", {one.threads} threads" if one.threads else ""): (one.milliseconds,) for one in rows
            }
            caption = f"Median time of a call with {size} example{'s' * (size != 1)}; less is better."
            labels = {"name": f"batch_{size}", "title": f"batch {size}", "caption": caption, "xlabel": "milliseconds"}
            pictures.append(draw_bars(times, parts=("median",), **labels))
        return Page(
            f"Times of {self.network}",
            f"Fastest for an example: {best.format} in batches of {best.batch}, {best.milliseconds:.3g} ms a call.",
            [Section("Times", [Gallery(pictures, "large"), Table(FIELDS, self.timings), *self.notes])],
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


FIELDS = ("format", "batch", "median (ms)", "least (ms)", "examples per second", "load (s)", "memory (MB)", "threads")
"""Headings of the fields of `Timing`, in their order."""
COLUMNS = ("format", "batch", "median (ms)", "least (ms)", "ratio", "per second", "load (s)", "MB", "threads")
"""Headings of `Bench.rows`."""


class _Contestant(NamedTuple):
    name: str
    threads: int | None
    run: Callable[[Inputs], Any]
    load_seconds: float
    megabytes: float


def bench(
    model: KerasModel | str | Path,
    /,
    *,
    formats: str | Sequence[str] = ("predict",),
    batch: int | Sequence[int] = 1,
    threads: int | Sequence[int] | None = None,
    data: Data | DataSource | None = None,
    seconds: float = 1.0,
) -> Bench:
    """Returns the time of a network in Keras and in other runtimes on this machine.

    All are loaded, then called in blocks in turns, so that a busy moment meets all of them. The first format's time is
    the unit of the ratios.

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
        threads: numbers of threads, for ONNX Runtime, OpenVINO and LiteRT; by default those that the runtime chooses.
        data: examples to calibrate int8.
        seconds: of timed calls for each format and batch size.

    Raises:
        ReszooError: an unknown format, invalid sizes, or a format that `deploy` refuses.
    """
    names = timed_formats(formats)
    sizes, counts = _numbers("batch", batch), _numbers("threads", threads) if threads is not None else (None,)
    network = _open(model)
    examples = random_inputs(network, max(sizes), sides=(224, 224, 224))
    timings = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        files = {parts: _file(*parts, network, Path(folder), data) for parts in dict.fromkeys(map(parts_of, names))}
        contestants = [
            _contestant(name, network, files[parts_of(name)], _first(examples, sizes[0]), count)
            for name in names
            for count in (counts if parts_of(name)[0] in THREADED else (None,))
        ]
        for size in sizes:
            for contestant, times in zip(
                contestants, _times(contestants, _first(examples, size), seconds), strict=True
            ):
                middle = median(times)
                numbers = (1e3 * middle, 1e3 * min(times), size / middle, contestant.load_seconds, contestant.megabytes)
                timings.append(Timing(contestant.name, size, *numbers, contestant.threads))
    notes = ("runtimes in one process disturb each other: only large differences count",) if len(names) > 1 else ()
    return Bench(network.name, _machine(), tuple(timings), notes)


def _open(model: KerasModel | str | Path) -> KerasModel:
    if isinstance(model, str) and model in zoo.builtin().names:
        return build(zoo.spec(model))
    if isinstance(model, (str, Path)):
        file_of(model)
    return open_network(model, False, False).model


def _first(examples: Inputs, count: int) -> Inputs:
    return cast(Inputs, keras.tree.map_structure(lambda part: part[:count], examples))


def _numbers(name: str, numbers: int | Sequence[int]) -> tuple[int, ...]:
    values = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    if not values or any(not isinstance(value, int) or value < 1 for value in values):
        raise ReszooError(f"bench.{name}", got=repr(numbers), expected="at least 1")
    return values


def _file(kind: str, quantize: str | None, model: KerasModel, folder: Path, data: Any) -> Path | None:
    if kind not in FORMATS:
        return None
    settings: dict[str, Any] = {"quantize": quantize, "data": data, "preprocessing": False}
    # The bench measures time: the accuracy of 8 bits on its data is not its question.
    settings |= {"examples": 64, "max_loss": 0.99}
    return deploy(model, kind, folder / f"{kind}_{quantize}", **settings).path  # type: ignore[arg-type]


def _contestant(name: str, model: KerasModel, file: Path | None, x: Inputs, threads: int | None) -> _Contestant:
    kind, _ = parts_of(name)
    settings: dict[str, Any] = {"threads": threads} if threads else {}
    settings |= {"precision": None} if name == DEFAULT_PRECISION else {}
    before, start = _resident(), perf_counter()
    run = FORMATS[kind].writer.open_program(file, **settings) if file else _in_keras(kind, model)
    run(x)
    return _Contestant(name, threads, run, perf_counter() - start, max(_resident() - before, 0.0))


def _in_keras(kind: str, model: KerasModel) -> Callable[[Inputs], Any]:
    if kind == "predict":
        return lambda x: model.predict(pack_inputs(model, x), batch_size=10**6, verbose=0)
    if kind == "train":
        learner = keras.models.clone_model(model)
        learner.compile(keras.optimizers.SGD(1e-3), "mse")

        def step(x: Inputs) -> Any:
            count = len(keras.tree.flatten(x)[0])
            targets = [np.zeros((count, *output.shape[1:]), "float32") for output in model.outputs]
            return learner.train_on_batch(pack_inputs(model, x), targets)

        return step
    return lambda x: model.predict_on_batch(pack_inputs(model, x))


def _times(contestants: Sequence[_Contestant], x: Inputs, seconds: float) -> list[list[float]]:
    """Seconds of single calls, taken in blocks: each contestant in a row as in use, in rounds there and back.

    The first call of a block is not timed: it may compile for this size, threads of the contestant before it still
    spin, and the weights are not in the processor's cache.
    """
    times: list[list[float]] = [[] for _ in contestants]
    pairs = [*zip(contestants, times, strict=True)]
    for number in range(ROUNDS[1] // BLOCK):
        for contestant, collected in pairs if number % 2 == 0 else reversed(pairs):
            if number < ROUNDS[0] or sum(collected) < seconds:
                contestant.run(x)
                for _ in range(BLOCK):
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
