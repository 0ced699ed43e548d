"""Loading a ResNet-50 `.pth`: seconds after imports, and peak memory as a multiple of the file, compared with PyTorch.

python benchmarks/load_weights.py [--rounds 5]

Every run is a new process with a new model; contestants take turns. Memory is the peak resident size during the load
minus the resident size before it, over the size of the file (Linux).
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from machine import describe

MEASURED = """
import json, pathlib, time
def resident(word):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(word))
{before}
pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak size
size, start = resident("VmRSS"), time.perf_counter()
{load}
print(json.dumps([time.perf_counter() - start, resident("VmHWM") - size]))
"""
RESZOO = (
    "import reszoo, reszoo.weights.load\nmodel = reszoo.resnet50()",
    "assert len(reszoo.load_weights(model, FILE).copied) == 267",
)
FROM_CHECKPOINT = ("import reszoo, reszoo.weights.load, reszoo.arch.build", "reszoo.from_checkpoint(FILE)")
PYTORCH = (
    """
import torch
model = torch.nn.Module()
for name, value in torch.load(FILE, weights_only=True).items():
    *path, last = name.split(".")
    here = model
    for step in path:
        if not hasattr(here, step):
            here.add_module(step, torch.nn.Module())
        here = getattr(here, step)
    here.register_buffer(last, torch.zeros_like(value))
""",
    "model.load_state_dict(torch.load(FILE, weights_only=True))",
)


def run(file, contestant):
    before, load = contestant
    code = f"FILE = {str(file)!r}\n" + MEASURED.format(before=before, load=load)
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(process.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    describe("reszoo", "keras", "tensorflow", "torch")
    contestants = {"reszoo.load_weights": RESZOO, "reszoo.from_checkpoint (builds, too)": FROM_CHECKPOINT}
    if importlib.util.find_spec("torch"):
        contestants["torch.load + load_state_dict"] = PYTORCH
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet50.pth"
        make = "import reszoo; reszoo.resnet50().save(FILE[0]); reszoo.convert(FILE[0], FILE[1])"
        names = (str(file.with_suffix(".keras")), str(file))
        subprocess.run([sys.executable, "-c", f"FILE = {names!r}\n{make}"], check=True, capture_output=True)
        size = file.stat().st_size
        print(f"\na file of {size / 1e6:.1f} MB, {rounds} rounds: median (minimum)")
        results = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, contestant in contestants.items():
                results[name].append(run(file, contestant))
    for name, measured in results.items():
        seconds, memory = zip(*measured, strict=True)
        factors = [value / size for value in memory]
        print(
            f"  {name:38} {median(seconds):6.2f} s ({min(seconds):.2f})   "
            f"{median(factors):5.2f} times the file ({min(factors):.2f})"
        )


if __name__ == "__main__":
    main()
