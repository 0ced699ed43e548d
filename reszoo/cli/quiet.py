"""Importing Keras without TensorFlow's log lines, which look like errors on every machine without a GPU."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I "  # information, of today's versions and of earlier ones
    rb"|To enable the following instructions: .* rebuild TensorFlow"
    # A machine without NVIDIA's driver, or without a GPU.
    rb"|[EW].*(failed call to cuInit: .*(\(303\)|CUDA_ERROR_NO_DEVICE))"
    rb"|.*(Unable to register cu(FFT|DNN|BLAS) factory|computation placer already registered|TF-TRT Warning)"
)
"""Beginnings of lines that say nothing to a user."""
_END = b"\0end\0"


def quiet_imports() -> None:
    """Makes the first import of Keras or TensorFlow hold back what is written to the error stream.

    Afterwards everything but known noise is written, and all of it if the import fails, even if the process dies. A
    `TF_CPP_MIN_LOG_LEVEL` of 0 or 1 asks for the log and gets it.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") > "1" and hasattr(os, "fork"):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self._names, self._holding = {"keras", "tensorflow"}, False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec that the other finders return, with a loader that is quiet."""
        if name not in self._names:
            return None
        self._names.remove(name)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None and not self._holding:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                self._holding = True
                try:
                    with held_back():
                        execute(module)
                        _look_for_devices()
                finally:
                    self._holding = False

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _look_for_devices() -> None:
    """TensorFlow reports that it has no GPU when devices are first looked for, which changes nothing else."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and hasattr(tensorflow, "config"):
        tensorflow.config.list_physical_devices()


@contextmanager
def held_back() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, also by native code, and writes it afterwards without noise."""
    try:
        saved = os.dup(2)
    except OSError:
        # There is no error stream.
        yield
        return
    sys.stderr.flush()
    read, write = os.pipe()
    # Another process keeps the lines: this one may die in native code.
    reader = os.fork()
    if reader == 0:
        os.close(write)
        _pass_on(read)
    os.close(read)
    os.dup2(write, 2)
    os.close(write)
    try:
        yield
        sys.stderr.flush()
        os.write(2, _END)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.waitpid(reader, 0)


def _pass_on(read: int) -> None:
    """Reads to the end mark and writes all but noise; without a mark, writes everything. Ends the process."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        text = b""
        while not text.endswith(_END) and (part := os.read(read, 1 << 16)):
            text += part
        if text.endswith(_END):
            lines = text.removesuffix(_END).splitlines(keepends=True)
            text = b"".join(line for line in lines if not NOISE.match(line))
        while text:
            text = text[os.write(2, text) :]
    finally:
        os._exit(0)
