"""One run over several devices and machines, on what the engines have for it.

Every device takes an equal part of every batch. Batch normalisation sees the whole batch, on either engine, so that a
run's losses are those of one device (but for rounding), whatever it is spread over.
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
from typing import Any, Literal

import keras
import numpy as np

from reszoo.arch.recover import layers_of
from reszoo.errors import ReszooError

MESSAGE = 2000
"""Bytes of an error that the other machines are told."""


@dataclass(frozen=True)
class Devices:
    """What a run is spread over (`open_devices`)."""

    names: tuple[str, ...] = ()
    """Of the devices of all machines, machine by machine; none for the engine's own choice of one."""
    machine: int = 0
    """This one's number."""
    machines: int = 1

    @property
    def count(self) -> int:
        """Devices of all machines together."""
        return max(len(self.names), 1)

    def check(self, *, batch: int, examples: int) -> None:
        """Refuses batches that the devices cannot share evenly.

        Raises:
            ReszooError: the batch, or the number of examples, does not go with so many devices.
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
        """Returns this machine's part of a batch of so many rows."""
        return slice(count * self.machine // self.machines, count * (self.machine + 1) // self.machines)

    def scope(self) -> AbstractContextManager[Any]:
        """Returns the context in which a model is made and trained."""
        if self.count == 1:
            return nullcontext()
        if keras.backend.backend() == "jax":
            data_parallel = keras.distribution.DataParallel(devices=list(self.names), auto_shard_dataset=False)
            return data_parallel.scope()
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(list(self.names)).scope()

    def join_norms(self, model: Any) -> None:
        """Lets batch normalisation see whole batches: on JAX it does, on TensorFlow only if it is told to."""
        if self.count > 1 and keras.backend.backend() == "tensorflow":
            for layer in layers_of(model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    @contextmanager
    def folder(self, folder: Path, *, begin: Callable[[Path], None], carried: Sequence[str]) -> Iterator[Path]:
        """Gives the folder that this machine writes to: the first one `folder`, the others one that is thrown away.

        The machines need no shared disk: what a run goes on from is sent by the first. All do the same, writing
        included, so that none of them waits for another one's disk, and none computes what the others do not.

        Args:
            folder: the run's.
            begin: checks a folder.
            carried: patterns of what the first machine sends to the others' folders before they are checked.

        Raises:
            ReszooError: a folder was refused, on this machine or on another; or a machine is gone.
        """
        if self.machines == 1:
            begin(folder)
            yield folder
            return
        held = tempfile.TemporaryDirectory(prefix="reszoo-") if self.machine else nullcontext(str(folder))
        with held as path:
            own = Path(path)
            refused = None if self.machine else _refusal(begin, own)
            packed = _from_first(b"" if self.machine or refused else _packed(own, carried))
            if self.machine and packed:
                with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                    archive.extractall(own, filter="data")
                refused = _refusal(begin, own)
            self._agree(refused)
            try:
                yield own
            except BaseException as error:
                # At exit JAX waits for the other machines, and they wait for this one's numbers.
                atexit.register(_leave)
                if not isinstance(error, RuntimeError):
                    raise
                got = f"an error of the engine ({_first_line(error)})"
                hint = "if a machine is gone, start the same on all again: it goes on after the last finished epoch"
                raise ReszooError(f"machine {self.machine}", got=got, hint=hint) from error

    def _agree(self, refused: ReszooError | None) -> None:
        """Ends all machines where one of them is refused something."""
        from jax.experimental import multihost_utils

        said = str(refused or "").encode()[:MESSAGE].ljust(MESSAGE, b"\0")
        every = multihost_utils.process_allgather(np.frombuffer(said, "uint8"))
        if refused:
            raise refused
        for number, row in enumerate(every):
            if row.any():
                text = row.tobytes().rstrip(b"\0").decode(errors="ignore")
                raise ReszooError(f"machine {number}", got=f"what it refuses: {text}")


ONE = Devices()


def open_devices(
    word: Literal["one", "all"] = "one", /, *, machines: Sequence[str] = (), machine: int | None = None
) -> Devices:
    """Returns the devices that a run is spread over; with several machines, when all of them have come.

    TensorFlow spreads over one machine's devices (MirroredStrategy), JAX over several machines' as well
    (`keras.distribution`); it must not have computed anything before.

    Args:
        word: which devices of every machine: one, or all it has (its GPUs; without any, its CPUs).
        machines: `host:port` of every machine, the same list everywhere; the first is the one that the others connect
            to, and the only one that writes the run folder.
        machine: this machine's place in the list, from 0.

    Raises:
        ReszooError: the backend cannot do that, or the machines do not find each other.
    """
    backend = keras.backend.backend()
    if word not in ("one", "all"):
        raise ReszooError("devices", got=repr(word), expected="one, all")
    if word == "all" and backend not in ("tensorflow", "jax"):
        hint = "set KERAS_BACKEND to one of them"
        raise ReszooError("devices", got=f"all on the {backend} backend", expected="tensorflow, jax", hint=hint)
    if machines or machine is not None:
        _join(backend, machines, machine)
        return _of_jax(word, machines=len(machines), machine=machine or 0)
    if word == "one":
        return ONE
    if backend == "jax":
        return _of_jax(word)
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Devices(tuple(device.name for device in found))


def _join(backend: str, machines: Sequence[str], machine: int | None) -> None:
    if backend != "jax":
        why = "on TensorFlow fit() cannot do it in Keras 3: keras issue 20585" if backend == "tensorflow" else ""
        hint = "set KERAS_BACKEND=jax" + (f" ({why})" if why else "")
        raise ReszooError(
            "machines", got=f"{len(machines)} on the {backend} backend", expected="several on jax", hint=hint
        )
    wrong = [place for place in machines if not place.rpartition(":")[0] or not place.rpartition(":")[2].isdecimal()]
    if len(machines) < 2 or wrong:
        got = repr(wrong[0]) if wrong else f"{len(machines)} of them"
        raise ReszooError("machines", got=got, expected="host:port of every machine, at least two")
    if machine is None or not 0 <= machine < len(machines):
        expected = f"this one's place in the list, 0 to {len(machines) - 1}"
        raise ReszooError("machine", got="none" if machine is None else machine, expected=expected)
    # Without a seed the engine would draw one by computing on all machines, GPUs or not.
    keras.utils.set_random_seed(0)
    try:
        keras.distribution.initialize(",".join(machines), len(machines), machine)
    except RuntimeError as error:
        hint = f"start the same command on every machine, in a fresh Python; {machines[0]} must be within reach"
        got = f"machines that did not come together ({_first_line(error)})"
        raise ReszooError(f"machine {machine}", got=got, hint=hint) from None


def _of_jax(word: str, *, machines: int = 1, machine: int = 0) -> Devices:
    import jax

    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    own = [[device for device in found if device.process_index == number] for number in range(machines)]
    if word == "one":
        own = [devices[:1] for devices in own]
    if len({len(devices) for devices in own}) > 1:
        got = ", ".join(str(len(devices)) for devices in own)
        raise ReszooError("machines", got=f"{got} devices", expected="as many on every machine")
    names = tuple(f"{device.platform}:{device.id}" for devices in own for device in devices)
    return Devices(names, machine, machines)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _refusal(begin: Callable[[Path], None], folder: Path) -> ReszooError | None:
    try:
        begin(folder)
    except ReszooError as error:
        return error
    return None


def _packed(folder: Path, patterns: Sequence[str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            archive.add(path, arcname=os.fspath(path.relative_to(folder)))
    return stream.getvalue()


def _from_first(content: bytes) -> bytes:
    """What the first machine gives, on all of them."""
    from jax.experimental import multihost_utils

    length = int(multihost_utils.broadcast_one_to_all(np.array(len(content), "int32")))
    held = np.frombuffer(content.ljust(length, b"\0"), "uint8")
    return bytes(multihost_utils.broadcast_one_to_all(held).tobytes())
