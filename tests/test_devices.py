"""Several devices and machines: a run has the same losses as on one device."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import needs, python, refused, shown

import reszoo
from reszoo.data.arrays import Arrays
from reszoo.data.ranges import Scaling
from reszoo.training.batches import Batches
from reszoo.training.devices import ONE, Devices, open_devices
from reszoo.training.recipes import Augmentation

TWO = ("first", "second")


def batches(count, *, devices=ONE, seed=1, batch=8, **augmentation):
    x = np.arange(count * 48, dtype="float32").reshape(count, 4, 4, 3) % 251
    examples, scaling = Arrays(x, np.arange(count) % 2), Scaling(255.0, (0.0,), (1.0,))
    return Batches(
        examples, scaling, 2, batch=batch, seed=seed, augmentation=Augmentation(**augmentation), devices=devices
    )


# Shares of a batch.

AUGMENTED = [{}, {"shift": 1, "flip": True}, {"mixup": 0.2, "cutmix": 1.0}, {"erase": 0.5, "flip": True}]


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("augmentation", AUGMENTED, ids=str)
def test_shares_of_all_machines_form_the_batch(augmentation, seed):
    parts = [batches(24, seed=seed, devices=Devices(TWO, machine, 2), **augmentation) for machine in (0, 1)]
    whole = batches(24, seed=seed, **augmentation)
    assert [len(part) for part in parts] == [len(whole)] * 2 == [3, 3]
    for index in range(3):
        shares = zip(*(part[index][:2] for part in parts), strict=True)
        for arrays, expected in zip(shares, whole[index], strict=True):
            assert len(arrays[0]) == len(arrays[1])
            np.testing.assert_array_equal(np.concatenate(arrays), expected)


def test_training_drops_rows_that_devices_cannot_share():
    devices, whole = Devices(("a", "b", "c", "d")), batches(31, batch=16)
    shared = batches(31, batch=16, devices=devices)
    assert [len(shared[number][0]) for number in range(len(shared))] == [16, 12]
    np.testing.assert_array_equal(shared[1][0], whole[1][0][:12])
    assert len(batches(35, batch=16, devices=devices)) == 2, "an empty batch"


@pytest.mark.parametrize("count", [29, 31, 32])
def test_validation_counts_every_example_once(count):
    x, labels, weights = zip(*batches(count, seed=None, devices=Devices(("a", "b", "c", "d"))), strict=True)
    assert [len(rows) for rows in x] == [8, 8, 8, 8]
    x, labels, weights = map(np.concatenate, (x, labels, weights))
    assert np.count_nonzero(weights) == count and weights.mean() == pytest.approx(1)
    np.testing.assert_array_equal(x[:count], np.concatenate([rows for rows, _ in batches(count, seed=None)]))
    assert (weights * labels[:, 1]).mean() == pytest.approx((np.arange(count) % 2).mean())


# Invalid settings.

ADDRESSES = ("127.0.0.1:9001", "127.0.0.1:9002")
INVALID = [
    (lambda: open_devices("two"), ["devices", "'two'", "one, all"]),
    (lambda: Devices(("a",) * 3).check(batch=32, examples=99), ["got 32", "a multiple of 3", "batch=30 or 33"]),
    (lambda: Devices(("a",) * 3).check(batch=2, examples=99), ["got 2", "a multiple of 3", "batch=3,"]),
    (lambda: Devices(("a",) * 8).check(batch=8, examples=7), ["7 training examples", "each of 8 devices"]),
]


@pytest.mark.parametrize(("call", "message"), INVALID, ids=shown)
def test_invalid_devices_are_refused(call, message):
    with refused(message):
        call()


BACKENDS = {
    "tensorflow": [({"machines": ADDRESSES, "machine": 0}, ["2 on the tensorflow", "KERAS_BACKEND=jax", "20585"])],
    "torch": [
        ({"devices": "all"}, ["all on the torch backend", "tensorflow, jax"]),
        ({"machines": ADDRESSES, "machine": 0}, ["2 on the torch", "KERAS_BACKEND=jax"]),
    ],
    "jax": [
        ({"machines": ADDRESSES}, ["machine: got none", "0 to 1"]),
        ({"machines": ADDRESSES, "machine": 2}, ["machine: got 2", "0 to 1"]),
        ({"machines": ADDRESSES[:1], "machine": 0}, ["got one address", "at least two"]),
        ({"machines": ("here", *ADDRESSES), "machine": 0}, ["got 'here'", "host:port"]),
        ({"machine": 1}, ["got no address", "at least two"]),
    ],
}


@pytest.mark.parametrize("backend", [pytest.param(name, marks=needs(name)) for name in BACKENDS])
def test_unsupported_backends_are_refused(backend, tmp_path):
    settings = [settings for settings, _ in BACKENDS[backend]]
    code = f"""
import reszoo
for settings in {settings!r}:
    try:
        reszoo.train("resnet20_cifar", "digits", output="run", **settings)
    except reszoo.ReszooError as error:
        print(error)
"""
    lines = python(code, backend=backend, folder=tmp_path).splitlines()
    for line, (_, message) in zip(lines, BACKENDS[backend], strict=True):
        assert all(words in line for words in message), line
    assert not (tmp_path / "run").exists()


# Runs.

RUN = """
import json, os, signal, sys
settings = json.loads(sys.argv[1])
import keras, reszoo
from dataclasses import replace
from reszoo.data.arrays import Arrays
from reszoo.training.devices import open_devices
from reszoo.training.run import run
if keras.backend.backend() == "tensorflow" and settings["devices"] == "all":
    import tensorflow as tf
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)

class Kill(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.steps = 0
    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        if self.steps == settings["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)

devices = open_devices(settings["devices"], machines=settings["machines"], machine=settings["machine"])
assert devices.count == settings["count"], devices
data = reszoo.open_data("digits", seed=3)
few = {part: Arrays(getattr(data, part).x[:size], getattr(data, part).labels[:size])
       for part, size in {"train": 128, "validation": 31}.items()}
small = {"depths": 1, "width_multiplier": 0.25}
spec = reszoo.spec("resnet20_cifar", input_shape=data.shape, classes=10, **small)
recipe = reszoo.recipe("fast_symbols", epochs=2, batch=32, ema=0.9)
done = run(spec, replace(data, **few, test=None), recipe, settings["folder"], seed=3, verbose=0, devices=devices,
           callbacks=(Kill(),))
print(json.dumps(done.history))
"""
LIMIT = 900
"""Seconds that a process may take on a busy machine; an idle one needs less than a minute."""
TOLERANCE = 2e-4
"""Of losses over two epochs, relative: the same sums in another order."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A compilation cache of JAX, shared by the processes."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


@contextmanager
def started(folder, environment, **settings):
    """A run in a separate process, which ends with the test."""
    settings = {"devices": "one", "machines": [], "machine": None, "count": 1, "kill": 0} | settings
    command = [sys.executable, "-c", RUN, json.dumps({"folder": str(folder), **settings})]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def history(process):
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(compiled, tmp_path_factory):
    """The history of one device, by backend."""
    histories = {}

    def measured(backend):
        if backend not in histories:
            with started(tmp_path_factory.mktemp(backend), {**compiled, "KERAS_BACKEND": backend}) as process:
                histories[backend] = history(process)
        return histories[backend]

    return measured


def same(actual, expected):
    assert len(actual) == len(expected) == 2
    for row, other in zip(actual, expected, strict=True):
        assert row.keys() == other.keys()
        assert row == pytest.approx(other, rel=TOLERANCE)
    assert expected[0]["loss"] != pytest.approx(expected[1]["loss"], rel=10 * TOLERANCE), "the run does not learn"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=needs("jax"))])
def test_two_devices_match_one(backend, alone, compiled, tmp_path):
    halves = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with started(tmp_path / "run", {**compiled, **halves}, devices="all", count=2) as process:
        same(history(process), alone(backend))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"] == 2
    assert reszoo.from_checkpoint(tmp_path / "run" / "model.keras")[0].output_shape == (None, 10)


@pytest.fixture
def addresses():
    """Free ports of this machine, for two processes."""
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in (one, other)]


@contextmanager
def pair(folder, environment, machines, *, kill=(0, 0)):
    """The first machine writes to `folder/run`; the second one must not create its folder."""
    environment = {**environment, "KERAS_BACKEND": "jax"}
    settings = {"machines": machines, "count": 2}
    with (
        started(folder / "run", environment, machine=0, kill=kill[0], **settings) as first,
        started(folder / "other", environment, machine=1, kill=kill[1], **settings) as second,
    ):
        yield first, second


@pytest.mark.slow
@needs("jax")
def test_two_machines_match_one_also_when_resumed(alone, compiled, addresses, tmp_path):
    with pair(tmp_path / "whole", compiled, addresses) as machines:
        whole, other = map(history, machines)
    assert whole == other
    same(whole, alone("jax"))
    # The first machine stops in the second epoch: the second one ends by itself, with a hint.
    with pair(tmp_path / "killed", compiled, addresses, kill=(6, 0)) as (first, second):
        assert first.wait(timeout=LIMIT) == -signal.SIGKILL
        err = second.communicate(timeout=LIMIT)[1]
        assert second.returncode not in (0, None)
        assert "rerun on all machines to resume" in err, err[-3000:]
    assert len((tmp_path / "killed" / "run" / "history.jsonl").read_text().splitlines()) == 1
    with pair(tmp_path / "killed", compiled, addresses) as machines:
        again, other = map(history, machines)
    assert again == other == whole
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["run"]


@pytest.mark.slow
@needs("jax")
def test_machines_with_different_settings_refuse(addresses, tmp_path):
    command = [sys.executable, "-m", "reszoo", "train", "--model", "resnet20_cifar", "--data", "digits"]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "CUDA_VISIBLE_DEVICES": "-1"}
    environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = ",".join(addresses)
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, "env": environment}
    running = []
    try:
        for machine, epochs in enumerate((2, 3)):
            options = ["--output", f"run{machine}", "--machine", str(machine), "--epochs", str(epochs)]
            running.append(subprocess.Popen([*command, *options], **settings))
        messages = [process.communicate(timeout=LIMIT)[1] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [2, 2]
    for text, where in zip(messages, ("machine 1: got an error there", "error"), strict=True):
        assert where in text and "another run (recipe.epochs: 3)" in text, text[-3000:]
