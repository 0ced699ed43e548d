"""Data-parallel runs over several devices and machines, with the means of Keras' backends.

Every device takes an equal part of every batch. Batch normalization uses the statistics of the whole batch on both
backends, so that the losses equal those of a single device up to rounding.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from reszoo.arch.recover import layers_of
from reszoo.errors import ReszooError
from reszoo.types import KerasModel

MESSAGE_BYTES = 2000
"""Size of an error message that is sent to the other machines."""


@dataclass(frozen=True)
class Devices:
    """The devices that share a run's batches (`open_devices`)."""

    names: tuple[str, ...] = ()
    """Names of the devices of all machines, machine by machine; empty leaves the choice of one to the backend."""
    machine: int = 0
    """Index of this machine."""
    machines: int = 1

    def __repr__(self) -> str:
        names = ", ".join(self.names)[:80] or "default"
        return f"Devices({self.count}: {names}; machine {self.machine} of {self.machines})"

    @property
    def count(self) -> int:
        """Number of devices on all machines."""
        return max(len(self.names), 1)

    def check(self, *, batch: int, examples: int) -> None:
        """Checks that the devices can share batches evenly.

        Raises:
            ReszooError: the batch is not a multiple of the number of devices, or there are fewer examples than devices.
        """
        if batch % self.count:
            near = sorted({batch - batch % self.count or self.count, batch + -batch % self.count})
            hint = f"--set batch={' or '.join(map(str, near))}, or fewer devices"
            expected = f"a multiple of {self.count}, the number of devices"
            raise ReszooError("recipe.batch", got=batch, expected=expected, hint=hint)
        if examples < self.count:
            expected = f"at least one for each of {self.count} devices"
            raise ReszooError("devices", got=f"{examples} training examples", expected=expected)

    def rows(self, count: int) -> slice:
        """Returns this machine's slice of a batch of `count` rows."""
        return slice(count * self.machine // self.machines, count * (self.machine + 1) // self.machines)

    def scope(self) -> AbstractContextManager[object]:
        """Returns the context in which a model is built and trained."""
        if self.count == 1:
            return nullcontext()
        if keras.backend.backend() == "jax":
            data_parallel = keras.distribution.DataParallel(devices=list(self.names), auto_shard_dataset=False)
            return data_parallel.scope()
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(list(self.names)).scope()

    def synchronize_norms(self, model: KerasModel) -> None:
        """Makes batch normalization use statistics of the whole batch: TensorFlow needs a flag, JAX does so anyway."""
        if self.count > 1 and keras.backend.backend() == "tensorflow":
            for layer in layers_of(model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    @contextmanager
    def folder(self, folder: Path, *, begin: Callable[[Path], None], patterns: Sequence[str]) -> Iterator[Path]:
        """Yields the folder that this machine writes to: `folder` on the first, a temporary one on the others.

        The machines need no shared disk: the first one sends what a run resumes from. All of them do the same work,
        writing included, so that none waits for another one's disk or computes what the others do not.

        Args:
            folder: the run folder.
            begin: checks a folder.
            patterns: of the files that the first machine sends to the others before their folders are checked.

        Raises:
            ReszooError: a folder was refused, on this machine or on another; or a machine stopped.
        """
        if self.machines == 1:
            begin(folder)
            yield folder
            return
        context = tempfile.TemporaryDirectory(prefix="reszoo-") if self.machine else nullcontext(str(folder))
        with context as name:
            path = Path(name)
            error = None if self.machine else _error_of(begin, path)
            archive = _broadcast(b"" if self.machine or error else _pack(path, patterns))
            if self.machine and archive:
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    tar.extractall(path, filter="data")
                error = _error_of(begin, path)
            self._raise_everywhere(error)
            with self._leave_on_error():
                yield path

    @contextmanager
    def _leave_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # At exit JAX waits for the other machines, and they wait for this one's results.
            atexit.register(_leave)
            if not isinstance(error, RuntimeError):
                raise
            got = f"a backend error ({_first_line(error)})"
            hint = "if a machine stopped, rerun on all machines to resume after the last finished epoch"
            raise ReszooError(f"machine {self.machine}", got=got, hint=hint) from error

    def _raise_everywhere(self, error: ReszooError | None) -> None:
        """Ends all machines if one of them has an error."""
        from jax.experimental import multihost_utils

        message = str(error or "").encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0")
        messages = multihost_utils.process_allgather(np.frombuffer(message, "uint8"))
        if error:
            raise error
        for index, row in enumerate(messages):
            if row.any():
                text = row.tobytes().rstrip(b"\0").decode(errors="ignore")
                raise ReszooError(f"machine {index}", got=f"an error there: {text}")


ONE = Devices()


def open_devices(
    count: Literal["one", "all"] = "one", /, *, machines: Sequence[str] = (), machine: int | None = None
) -> Devices:
    """Returns the devices that share a run's batches; with several machines, waits until all have connected.

    TensorFlow supports the devices of one machine (MirroredStrategy), JAX those of several machines
    (`keras.distribution`). JAX must not have computed anything before.

    Args:
        count: devices per machine: `one`, or `all` (its GPUs; without any, its CPUs).
        machines: `host:port` of every machine, the same list everywhere; the others connect to the first one, which
            alone writes the run folder.
        machine: index of this machine in the list, from 0.

    Raises:
        ReszooError: the backend does not support it, or the machines cannot connect.
    """
    backend = keras.backend.backend()
    if count not in ("one", "all"):
        raise ReszooError("devices", got=repr(count), expected="one, all")
    if count == "all" and backend not in ("tensorflow", "jax"):
        hint = "set KERAS_BACKEND to one of them"
        raise ReszooError("devices", got=f"all on the {backend} backend", expected="tensorflow, jax", hint=hint)
    if machines or machine is not None:
        _connect(backend, machines, machine)
        return _jax_devices(count, machines=len(machines), machine=machine or 0)
    if count == "one":
        return ONE
    if backend == "jax":
        return _jax_devices(count)
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Devices(tuple(device.name for device in devices))


def _connect(backend: str, machines: Sequence[str], machine: int | None) -> None:
    if backend != "jax":
        reason = " (on TensorFlow, fit() of Keras 3 does not support it: keras issue 20585)"
        hint = "set KERAS_BACKEND=jax" + (reason if backend == "tensorflow" else "")
        got = f"{len(machines)} on the {backend} backend"
        raise ReszooError("machines", got=got, expected="KERAS_BACKEND=jax for several machines", hint=hint)
    invalid = [
        address for address in machines if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdecimal()
    ]
    if len(machines) < 2 or invalid:
        got = repr(invalid[0]) if invalid else "one address" if machines else "no address"
        raise ReszooError("machines", got=got, expected="host:port of every machine, at least two")
    if machine is None or not 0 <= machine < len(machines):
        expected = f"the index of this machine, 0 to {len(machines) - 1}"
        raise ReszooError("machine", got="none" if machine is None else machine, expected=expected)
    # Without a seed the backend would draw one by computing on all machines, GPUs or not.
    keras.utils.set_random_seed(0)
    try:
        keras.distribution.initialize(",".join(machines), len(machines), machine)
    except RuntimeError as error:
        hint = f"start the same command on every machine, in a fresh Python; {machines[0]} must be reachable"
        got = f"machines that did not connect ({_first_line(error)})"
        raise ReszooError(f"machine {machine}", got=got, hint=hint) from None


def _jax_devices(count: str, *, machines: int = 1, machine: int = 0) -> Devices:
    import jax

    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    groups = [[device for device in devices if device.process_index == index] for index in range(machines)]
    if count == "one":
        groups = [group[:1] for group in groups]
    if len({len(group) for group in groups}) > 1:
        got = ", ".join(str(len(group)) for group in groups)
        raise ReszooError("machines", got=f"{got} devices", expected="the same number on every machine")
    names = tuple(f"{device.platform}:{device.id}" for group in groups for device in group)
    return Devices(names, machine, machines)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _error_of(begin: Callable[[Path], None], folder: Path) -> ReszooError | None:
    try:
        begin(folder)
    except ReszooError as error:
        return error
    return None


def _pack(folder: Path, patterns: Sequence[str]) -> bytes:
    """The files of a run folder that match the patterns, as a tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            archive.add(path, arcname=os.fspath(path.relative_to(folder)))
    return stream.getvalue()


def _broadcast(content: bytes) -> bytes:
    """The first machine's content, on all machines."""
    from jax.experimental import multihost_utils

    length = int(multihost_utils.broadcast_one_to_all(np.array(len(content), "int32")))
    buffer = np.frombuffer(content.ljust(length, b"\0"), "uint8")
    return bytes(multihost_utils.broadcast_one_to_all(buffer).tobytes())
