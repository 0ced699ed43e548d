"""Time to import, list, cost and build, beside keras.applications' builders in the same run.

python benchmarks/build.py [--rounds 5]
"""

import argparse
import os
import subprocess
import sys
import time
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from machine import describe, interleave


def fresh(*command):
    """Returns the seconds of a command in a new process, the start of the interpreter included."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def show(title, values, unit="ms"):
    scale = {"ms": 1e3, "s": 1}[unit]
    print(f"  {title:44} {scale * median(values):9.2f} {unit} ({scale * min(values):.2f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    describe("reszoo", "keras", "tensorflow")
    print("\nmedian (minimum)")

    python = (sys.executable, "-c")
    contestants = {
        "python": lambda: fresh(*python, "pass"),
        "import reszoo": lambda: fresh(*python, "import reszoo"),
        "reszoo list": lambda: fresh(sys.executable, "-m", "reszoo", "list"),
        "reszoo info resnet50": lambda: fresh(sys.executable, "-m", "reszoo", "info", "resnet50"),
    }
    for name, values in interleave(contestants, rounds=rounds).items():
        show(f"{name} (whole process)", values)

    import reszoo
    from reszoo.arch import plan

    def uncached_cost(name):
        plan.plan.cache_clear()  # plans of recent specs are cached
        return reszoo.cost(name)

    networks = ("resnet50", "resnet152", "resnet1202_cifar")
    contestants = {name: lambda name=name: uncached_cost(name) for name in networks}
    interleave(contestants, rounds=2)
    for name, values in interleave(contestants, rounds=20 * rounds).items():
        show(f"cost of {name}, without cache", values)

    import keras

    def fresh_build(build):
        keras.backend.clear_session()
        return build()

    contestants = {
        "build resnet50_v1": lambda: fresh_build(reszoo.resnet50_v1),
        "build keras.applications.ResNet50": lambda: fresh_build(lambda: keras.applications.ResNet50(weights=None)),
        "build resnet152_v1": lambda: fresh_build(reszoo.resnet152_v1),
        "build keras.applications.ResNet152": lambda: fresh_build(lambda: keras.applications.ResNet152(weights=None)),
    }
    interleave(dict(list(contestants.items())[:2]), rounds=1)
    seconds = interleave(contestants, rounds=rounds)
    for name, values in seconds.items():
        show(name, values, "s")
    for depth in (50, 152):
        ours, theirs = (
            median(seconds[name]) for name in (f"build resnet{depth}_v1", f"build keras.applications.ResNet{depth}")
        )
        print(f"  ratio reszoo / keras.applications, {depth} layers    {ours / theirs:9.2f}")
    show(
        "build resnet1202_cifar",
        interleave({"1202": lambda: fresh_build(reszoo.resnet1202_cifar)}, rounds=1)["1202"],
        "s",
    )


if __name__ == "__main__":
    main()
