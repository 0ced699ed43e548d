"""Fine-tuning on a folder of class folders, from its deep end: `python fine_tune_a_folder.py photos/ imagenet`.

Without a folder of your own, and without pretrained weights, it draws one and takes the smallest steps there are.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

import reszoo


def draw(folder, images=40):
    """Circles, squares and triangles of random size, place and colour."""
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
size, small = (224, {}) if weights else (64, {"widths": [16, 32, 64, 128], "depths": 1})

# What cannot be read is named and left out; a tenth of every class is held out.
data = reszoo.open_data(folder, size=size)
print(data.counts(), *data.notes, sep="\n")

# The trunk of published weights under a new classifier, or random weights.
model = reszoo.resnet18(weights=weights, classes=len(data.classes), input_shape=data.shape, **small)
model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])

# From random weights everything learns at once; a pretrained trunk is woken from its deep end.
callbacks = [reszoo.Unfreeze({0: "stage4", 2: "stage2", 4: "none"})] if weights else []
x, y = data.arrays("train")
model.fit(x, y, batch_size=16, epochs=6, validation_data=data.arrays("validation"), callbacks=callbacks, verbose=2)

# Or all of it in one call, in a run folder that survives a kill; recipes are data.
how = {"recipe": "fine_tune_small", "epochs": 2, "frozen": "stage2" if weights else "none"}
done = reszoo.train("resnet18", data, output=folder.parent / "run", weights=weights, changes=small, verbose=2, **how)
print(done.best)
for row in reszoo.predict(done.folder / "model.keras", folder / data.classes[0])[:3]:
    print(Path(row.example).name, row.label, f"{row.probability:.2f}")
