"""Fine-tuning on a folder of class folders, deepest layers first: `python fine_tune_a_folder.py photos/ imagenet`.

Without arguments it draws a folder of shapes and trains a small network from random weights.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

import reszoo


def draw(folder, images=40):
    """Draws circles, squares and triangles of random size, position and color; returns the folder."""
    random = np.random.default_rng(0)
    for shape in ("circle", "square", "triangle"):
        (folder / shape).mkdir(parents=True)
        for number in range(images):
            image = Image.new("RGB", (64, 64), tuple(random.integers(0, 100, 3).tolist()))
            radius, ink = int(random.integers(10, 24)), tuple(random.integers(120, 256, 3).tolist())
            x, y = random.integers(radius, 64 - radius, 2).tolist()
            sides = {"circle": 60, "square": 4, "triangle": 3}[shape]
            ImageDraw.Draw(image).regular_polygon((x, y, radius), sides, fill=ink)
            image.save(folder / shape / f"{number}.png")
    return folder


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else draw(Path(tempfile.mkdtemp()) / "shapes")
weights = sys.argv[2] if len(sys.argv) > 2 else None
size = 224 if weights else 64
small = {} if weights else {"widths": [16, 32, 64, 128], "depths": 1}

# Unreadable files are reported and skipped; a tenth of every class is held out for validation.
data = reszoo.open_data(folder, size=size)
print(data.counts(), *data.notes, sep="\n")

# The trunk of published weights under a new classifier, or random weights.
model = reszoo.resnet18(weights=weights, classes=len(data.classes), input_shape=data.shape, **small)
model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])

# Random weights train at once; a pretrained trunk is unfrozen from its deepest stage.
callbacks = [reszoo.Unfreeze({0: "stage4", 2: "stage2", 4: "none"})] if weights else []
x, y = data.arrays("train")
model.fit(x, y, batch_size=16, epochs=6, validation_data=data.arrays("validation"), callbacks=callbacks, verbose=2)

# Or all of it in one call, in a run folder that can be resumed; recipes are data.
settings = {"recipe": "fine_tune_small", "epochs": 2, "frozen": "stage2" if weights else "none"}
run = reszoo.train(
    "resnet18", data, output=folder.parent / "run", weights=weights, changes=small, verbose=2, **settings
)
print(run.best)
for row in reszoo.predict(run.folder / "model.keras", folder / data.classes[0])[:3]:
    print(Path(row.example).name, row.label, f"{row.probability:.2f}")
