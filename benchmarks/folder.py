"""Training ResNet-18 at 224 pixels from a folder of JPEGs, compared with the same steps on images in memory.

python benchmarks/folder.py [FOLDER] [--steps 8] [--rounds 5]

FOLDER holds class folders; without it, JPEGs of noise of 500x375 pixels are written. Epochs of both take turns in one
process; the ratio is the folder's time over memory's. The first pass decodes every file; later ones read decoded images
from a cache in memory (up to 1 GiB), so both are shown.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from machine import describe
from PIL import Image

import reszoo
from reszoo.data.arrays import Arrays
from reszoo.training.batches import Batches
from reszoo.training.recipes import Augmentation

BATCH = 16


def write_noise(folder, images):
    """Writes JPEGs of noise in two class folders; returns the folder."""
    random = np.random.default_rng(0)
    for number in range(images):
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), "uint8")).resize((500, 375))
        coarse.save(path, quality=90)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow", "pillow")
    count = arguments.steps * BATCH
    with tempfile.TemporaryDirectory() as temporary:
        data = reszoo.open_data(arguments.folder or write_noise(Path(temporary), round(count / 0.85)), size=224)
        rows = np.random.default_rng(0).permutation(len(data.train))[:count]
        pictures = data.train.subset(rows)
        memory = Arrays(pictures.take(range(len(pictures))), pictures.labels)
        model = reszoo.resnet18(classes=len(data.classes), input_shape=data.shape)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "categorical_crossentropy")

        def steps(examples, epoch):
            augmentation = Augmentation(flip=True, crop=() if isinstance(examples, Arrays) else (0.08, 1.0))
            settings = {"batch": BATCH, "seed": 0, "augmentation": augmentation, "epoch": epoch}
            batches = Batches(examples, data.scaling, len(data.classes), **settings)
            start = time.perf_counter()
            model.fit(batches, verbose=0, shuffle=False)
            return time.perf_counter() - start

        steps(memory, 0)
        seconds = {
            "in memory, flips": [],
            "folder, first pass: decoded, random crops, flips": [],
            "folder, later passes": [],
        }
        for number in range(arguments.rounds):
            fresh = replace(pictures, _cache={})
            for name, examples in zip(seconds, (memory, fresh, fresh), strict=True):
                seconds[name].append(steps(examples, number) / count * 1e3)
    base = statistics.median(seconds["in memory, flips"])
    print(
        f"\nmilliseconds per image, {count} images, batch {BATCH}: "
        f"median of {arguments.rounds} (minimum); over memory's"
    )
    for name, values in seconds.items():
        center = statistics.median(values)
        print(f"  {name:50}{center:8.2f} ({min(values):.2f})  {center / base:.2f}x")


if __name__ == "__main__":
    main()
