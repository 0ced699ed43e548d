"""Shared by all tests: shared files, skips for missing packages, expected errors, fresh processes."""

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has one core: threads of several would only wait for one another.
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data and checkpoints."""
    folder = os.environ.get("RESZOO_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RESZOO_TEST_DATA does not name a folder of shared files")
    return Path(folder)


def pytest_collection_finish(session):
    """Leaves out of garbage collections what stays anyway: Keras and keras-tuner run one for every network."""
    gc.collect()
    gc.freeze()


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skips a test if a module is not installed; the reason names it."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def shown(value) -> str | None:
    """A parameter in the id of a test; functions have no address in it, so that all processes collect the same ids."""
    return None if callable(value) else str(value)[:40]


@contextlib.contextmanager
def refused(texts):
    """Expects an error of the package whose message contains all of `texts`: place, value, expected values, hint."""
    from reszoo.errors import ReszooError

    with pytest.raises(ReszooError) as caught:
        yield
    for text in texts:
        assert text in str(caught.value)


def python(code: str, *, backend: str = "tensorflow", without_reszoo: bool = False, folder: Path | None = None) -> str:
    """Runs code in a fresh Python and returns what it prints."""
    if without_reszoo:
        code = "import sys; sys.modules['reszoo'] = None\n" + code
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
