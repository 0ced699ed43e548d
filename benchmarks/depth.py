"""Deep networks as loops beside the stock networks: time to build and to start, seconds a step, peak memory.

    python benchmarks/depth.py                     # all but the slow parts: about 5 minutes on two cores
    python benchmarks/depth.py --parts start,limit # parts: zoo110, start, stock1001, recompute, limit, jax
    python benchmarks/depth.py --parts accelerator # on a machine with a GPU and JAX: at most 8 minutes

Every measurement is a process of its own, which prints CPU seconds of its `train_on_batch` calls; `fit()` runs the same
step. `stock1001` needs three minutes and 8 GiB, `limit` (10,001 layers) two minutes and 4.5 GiB: on request only.

`accelerator` needs neither TensorFlow nor a display: JAX with its GPU plugin, Keras, and this package, on the path or
installed. It trains `preact_resnet1001_cifar` and 10,001 layers with batches of 32 and 128 by `fit()`: with loops, with
recomputation, and unrolled. A form that takes longer than its share of the 8 minutes is ended, and the line says so.
`--minutes` changes that limit; `--small` runs the same code with small networks, to try it without an accelerator.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

DEEPEST = {"network": "preact_resnet1001_cifar", "depths": [1111] * 3}
ALWAYS = ("zoo110", "start", "recompute", "jax")


def measure(settings):
    """Builds and trains a network in this process and prints the figures as JSON."""
    import keras
    import numpy as np

    import reszoo

    name, batch, steps = settings["network"], settings["batch"], settings["steps"]
    changes = {"depths": settings["depths"]} if "depths" in settings else {}
    spec = reszoo.spec(name, **changes)
    keras.utils.set_random_seed(0)
    start = time.process_time(), time.perf_counter()
    loops = settings.get("loops", True)
    model = reszoo.create(spec, loops=loops, recompute=settings.get("recompute", False))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    built, memory = time.process_time() - start[0], _memory()
    random = np.random.default_rng(0)
    x, y = random.normal(size=(batch, *spec.input_shape)).astype("float32"), random.integers(0, 10, batch)
    cpu, losses = [], []
    for _ in range(steps):
        begin = time.process_time()
        model.reset_metrics()
        losses.append(float(model.fit(x, y, batch_size=batch, verbose=0).history["loss"][0]))
        cpu.append(time.process_time() - begin)
    wall = time.perf_counter() - start[1]
    first, steady = cpu[0], median(cpu[1:]) if cpu[1:] else None
    figures = {"build": built, "first": first, "step": steady, "wall": wall, "losses": losses}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(figures | {"peak": peak, "growth": peak - memory}))


def _memory():
    """Memory of this process in GiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**30


def run(title, *, network, batch=32, steps=4, backend="tensorflow", **settings):
    """Returns the figures of a measurement in a new process, and prints them."""
    settings |= {"network": network, "batch": batch, "steps": steps}
    command = [sys.executable, __file__, "--measure", json.dumps(settings)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    figures = json.loads(output.strip().splitlines()[-1])
    step = "-" if figures["step"] is None else f"{figures['step']:6.2f}"
    times = f"build {figures['build']:6.1f}  first {figures['first']:6.1f}  step {step}  wall {figures['wall']:6.1f} s"
    print(f"  {title:44} {times}  peak {figures['peak']:5.2f} GiB (+{figures['growth']:.2f})", flush=True)
    return figures


def ratio(title, value, target):
    """Prints a ratio beside the greatest value that was aimed at."""
    print(f"  {'-> ' + title:60} {value:6.2f} (at most {target:g})", flush=True)


def starting(figures):
    """CPU seconds of the first step over those of a later one."""
    return figures["first"] - figures["step"]


def zoo110():
    stock = run("resnet110_cifar, stock", network="resnet110_cifar", loops=False)
    looped = run("resnet110_cifar, loops", network="resnet110_cifar")
    ratio("first step", looped["first"] / stock["first"], 0.35)
    ratio("step", looped["step"] / stock["step"], 1)
    ratio("peak memory", looped["peak"] / stock["peak"], 1)
    ratio("losses differ", float(looped["losses"] != stock["losses"]), 0)


def start():
    small = run("preact_resnet164_cifar, loops", network="preact_resnet164_cifar")
    large = run("preact_resnet1001_cifar, loops", network="preact_resnet1001_cifar")
    ratio("first step less a step, 1,001 layers / 164", starting(large) / starting(small), 1.3)
    return large


def stock1001():
    looped = run("preact_resnet1001_cifar, loops", network="preact_resnet1001_cifar", batch=2, steps=3)
    stock = run("preact_resnet1001_cifar, stock", network="preact_resnet1001_cifar", loops=False, batch=2, steps=3)
    ratio("build", looped["build"] / stock["build"], 0.25)
    ratio("first step less a step", starting(looped) / starting(stock), 0.125)


def recompute():
    network = "preact_resnet1001_cifar"
    keeps, again = (
        run(f"{network}, recompute={each}", network=network, recompute=each, steps=3) for each in (False, True)
    )
    ratio("growth of memory", again["growth"] / keeps["growth"], 0.2)
    ratio("step", again["step"] / keeps["step"], 1.7)
    ratio("losses differ", float(again["losses"] != keeps["losses"]), 0)


def limit():
    figures = run("10,001 layers, recompute=True", **DEEPEST, recompute=True, steps=1)
    ratio("peak memory, GiB", figures["peak"], 4.5)
    ratio("minutes, build included", figures["wall"] / 60, 2.5)


def jax():
    stock, looped = (
        run(f"resnet56_cifar on JAX, loops={loops}", network="resnet56_cifar", loops=loops, backend="jax")
        for loops in (False, True)
    )
    ratio("step", looped["step"] / stock["step"], 1.5)
    small, large = (
        run(f"{name} on JAX, loops", network=name, backend="jax", batch=2)
        for name in ("preact_resnet164_cifar", "preact_resnet1001_cifar")
    )
    ratio("first step less a step, 1,001 layers / 164", starting(large) / starting(small), 1.5)


def measure_batches(settings):
    """Trains a network with one size of batch after the other in this process; prints a line of JSON after each."""
    import jax
    import keras
    import numpy as np

    import reszoo

    spec = reszoo.spec(settings["network"], **({"depths": settings["depths"]} if "depths" in settings else {}))
    start = time.perf_counter()
    model = reszoo.create(spec, loops=settings["loops"], recompute=settings["recompute"])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    build = time.perf_counter() - start
    random, steps = np.random.default_rng(0), settings["steps"]
    # Ascending, as the device reports only the most memory so far.
    for batch in settings["batches"]:
        x = random.normal(size=(batch * steps, *spec.input_shape)).astype("float32")
        y = random.integers(0, 10, len(x))
        seconds = []
        # The first step of every shape is compiled; so is that of several steps of one `fit()`, which is timed last.
        for count in (1, steps, steps):
            begin = time.perf_counter()
            loss = model.fit(x[: batch * count], y[: batch * count], batch_size=batch, verbose=0).history["loss"][0]
            seconds.append(time.perf_counter() - begin)
        memory = jax.local_devices()[0].memory_stats() or {}
        figures = {"batch": batch, "build": build, "compile": seconds[0] - seconds[2] / steps}
        figures |= {"rate": batch * steps / seconds[2], "peak": memory.get("peak_bytes_in_use", 0) / 2**30}
        print(json.dumps(figures | {"loss": float(loss)}), flush=True)


def accelerator(minutes=8.0, small=False):
    """Every form in a process with a time limit; what is left over goes to the unrolled networks, the deepest last."""
    end = time.perf_counter() + 60 * minutes
    networks = [("1,001 layers", {"network": DEEPEST["network"], "steps": 10}, 60)]
    networks += [("10,001 layers", {**DEEPEST, "steps": 3}, 90)]
    if small:
        networks = [(title, {**settings, "depths": [2, 2, 3]}, limit) for title, settings, limit in networks]
    forms = {"loops": (True, False), "loops, recompute=True": (True, True), "unrolled": (False, False)}
    print("                                       batch  build s  compile s  images/s  peak GiB", flush=True)
    for form, (loops, recompute) in forms.items():
        for title, settings, limit in networks:
            left = end - time.perf_counter()
            # The last form gets what is left; the deeper network after the other.
            limit = min(limit, left) if loops else left / (2 if title == networks[0][0] else 1)
            settings = {**settings, "loops": loops, "recompute": recompute, "batches": [2, 4] if small else [32, 128]}
            _print_batches(f"{title}, {form}", settings, limit)


def _print_batches(title, settings, limit):
    """Runs `measure_batches` in a new process with a time limit, and prints what it measured until then."""
    command = [sys.executable, __file__, "--measure", json.dumps(settings)]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            code = subprocess.run(command, stdout=output, stderr=errors, env=environment, timeout=limit).returncode
            ending = "" if code == 0 else f"ended with status {code}"
        except subprocess.TimeoutExpired:
            ending = f"not finished after {limit:.0f} s"
        output.seek(0)
        errors.seek(0)
        for line in output.read().splitlines():
            row = json.loads(line)
            times = f"{row['build']:9.1f}  {row['compile']:9.1f}  {row['rate']:8.1f}"
            print(f"  {title:36} {row['batch']:5} {times}  {row['peak']:8.2f}", flush=True)
        if ending:
            cause = [line for line in errors.read().splitlines() if "Error" in line or "RESOURCE_EXHAUSTED" in line]
            print(f"  {title:36} {ending} {cause[-1][:120] if cause else ''}", flush=True)


PARTS = {part.__name__: part for part in (zoo110, start, stock1001, recompute, limit, jax, accelerator)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(ALWAYS), help=f"of {', '.join(PARTS)}; by default %(default)s")
    parser.add_argument("--minutes", type=float, default=8, help="limit of `accelerator`; by default %(default)g")
    parser.add_argument("--small", action="store_true", help="small networks in `accelerator`")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        (measure_batches if "batches" in arguments.measure else measure)(arguments.measure)
        return
    from machine import describe

    describe("reszoo", "keras", "tensorflow", "jax")
    for name in arguments.parts.split(","):
        print(f"\n{name}", flush=True)
        PARTS[name](*((arguments.minutes, arguments.small) if name == "accelerator" else ()))


if __name__ == "__main__":
    main()
