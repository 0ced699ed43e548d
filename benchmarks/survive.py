"""A run that is killed with SIGKILL at random moments and resumed each time, compared with an uninterrupted run.

python benchmarks/survive.py [--kills 20] [--seed 0]

Both are `reszoo train` on scikit-learn's digits. Prints the last checkpoint on disk after every kill, and at the end
whether weights and history are equal.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from machine import describe

COMMAND = (
    *(sys.executable, "-m", "reszoo", "train", "--model", "resnet20_cifar", "--data", "digits", "--epochs", "250"),
    *("--seed", "3", "--net", "width_multiplier=0.5", "--net", "depths=1", "--set", "ema=0.9", "--output"),
)


def weights(file):
    import keras

    return keras.models.load_model(file).get_weights()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    describe("reszoo", "keras", "tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        start = time.perf_counter()
        subprocess.run([*COMMAND, str(whole)], check=True, capture_output=True)
        duration = time.perf_counter() - start
        print(f"\nuninterrupted: {duration:.1f} s")
        for number in range(1, arguments.kills + 1):
            running = subprocess.Popen([*COMMAND, str(killed)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            moment = moments.uniform(0.05, 0.1) * duration
            try:
                running.communicate(timeout=moment)
                outcome = "finished"
            except subprocess.TimeoutExpired:
                running.kill()
                running.communicate()
                outcome = "killed"
            states = sorted(path.name for path in killed.glob("state-*"))
            last = states[-1] if states else "no checkpoint yet"
            print(f"  {number:2}: {outcome} after {moment:4.1f} s; on disk {last}", flush=True)
        subprocess.run([*COMMAND, str(killed)], check=True, capture_output=True)
        history = [(path / "history.jsonl").read_bytes() for path in (whole, killed)]
        pairs = zip(weights(whole / "model.keras"), weights(killed / "model.keras"), strict=True)
        print(f"history equal: {history[0] == history[1]}; weights equal: {all((a == b).all() for a, b in pairs)}")


if __name__ == "__main__":
    main()
