"""Detector features: a pyramid on a ResNet's stages finds bright squares. All but the backbone is plain Keras."""

import keras
import numpy as np
from keras import layers

import reszoo

keras.utils.set_random_seed(0)
SIDE, STRIDE = 64, 8

# Every stage's feature map, by name; with weights="imagenet" a pretrained backbone.
backbone = reszoo.resnet18(features=True, input_shape=(SIDE, SIDE, 3), widths=[16, 32, 64, 128], depths=1)
for name, map_ in backbone.output.items():
    print(f"{name}: {tuple(map_.shape[1:])}, one value per {SIDE // map_.shape[1]} pixels")

# A feature pyramid (Lin et al. 2017): deeper maps are upsampled and added to shallower ones of the same width.
merged = None
for name in ("stage4", "stage3", "stage2"):
    side = layers.Conv2D(32, 1, name=f"{name}_side")(backbone.output[name])
    merged = side if merged is None else layers.Add()([layers.UpSampling2D(2)(merged), side])
merged = layers.Conv2D(32, 3, padding="same", activation="relu")(merged)
heatmap = layers.Conv2D(1, 1, activation="sigmoid", name="heatmap")(merged)
detector = keras.Model(backbone.input, heatmap)


def scenes(count):
    """Returns noisy pictures with one bright square each, and the grid cell of its center."""
    random = np.random.default_rng(count)
    x = random.normal(0, 1, (count, SIDE, SIDE, 3)).astype("float32")
    cells = np.zeros((count, SIDE // STRIDE, SIDE // STRIDE, 1), "float32")
    for number, (row, column) in enumerate(random.integers(6, SIDE - 6, (count, 2))):
        x[number, row - 5 : row + 5, column - 5 : column + 5] += 2
        cells[number, row // STRIDE, column // STRIDE] = 1
    return x, cells


x, cells = scenes(600)
detector.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True))
detector.fit(x, cells, batch_size=32, epochs=4, verbose=2)
x, cells = scenes(200)
cell = detector.predict(x, verbose=0).reshape(200, -1).argmax(axis=1)
print(f"correct cell of 64: {(cell == cells.reshape(200, -1).argmax(axis=1)).mean():.0%} of new pictures")
