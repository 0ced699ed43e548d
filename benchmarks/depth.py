"""Training deep networks as loops over equal blocks: processor time of building, of the first and later steps; memory.

    python benchmarks/depth.py [--networks preact_resnet1001_cifar] [--recompute 0 11] [--batch 32]

Each line is a process of its own: one network, with the activations of all blocks kept (recompute 0), or with those of
segments of some blocks computed again. `preact_resnet1001_cifar:1111` has 1,111 blocks in every stage, 10,001 layers.
Times are seconds of CPU, so that other work on the machine matters little; memory is the peak of the whole process,
after building and after the steps.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def peak():
    """Returns the greatest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(network, recompute, batch, steps):
    """Returns the figures of one network."""
    import keras
    import numpy as np

    import reszoo

    name, _, depth = network.partition(":")
    start = time.process_time()
    spec = reszoo.spec(name, **({"depths": int(depth)} if depth else {}))
    model = reszoo.create(spec, loops=True, recompute=recompute)
    figures = {"build": time.process_time() - start, "built": peak(), "layers": reszoo.cost(spec).depth}
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(batch, *spec.input_shape)).astype("float32"), random.integers(0, 10, batch)
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        model.train_on_batch(x, y)
        seconds.append(time.process_time() - start)
    return figures | {"first": seconds[0], "step": min(seconds[1:], default=float("nan")), "peak": peak()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["preact_resnet164_cifar", "preact_resnet1001_cifar"])
    parser.add_argument("--recompute", nargs="+", type=int, default=[0, 11], help="blocks per segment")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.one:
        print(json.dumps(measure(settings.networks[0], settings.recompute[0], settings.batch, settings.steps)))
        return
    from machine import describe

    describe("reszoo", "keras", os.environ.get("KERAS_BACKEND", "tensorflow"))
    print(f"batch {settings.batch}; seconds of CPU, GiB")
    print(f"{'layers':>7} {'recompute':>9} {'build':>7} {'first':>7} {'step':>7} {'built':>7} {'peak':>7}", flush=True)
    for network in settings.networks:
        for recompute in settings.recompute:
            choice = ["--networks", network, "--recompute", str(recompute)]
            choice += ["--batch", str(settings.batch), "--steps", str(settings.steps), "--one"]
            done = subprocess.run([sys.executable, __file__, *choice], check=True, stdout=subprocess.PIPE, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            times = " ".join(f"{figures[name]:7.2f}" for name in ("build", "first", "step", "built", "peak"))
            print(f"{figures['layers']:7,} {recompute:9} {times}", flush=True)


if __name__ == "__main__":
    main()
