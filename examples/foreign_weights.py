"""A Keras network saved for PyTorch, rebuilt from that file alone, and loaded with a new classifier; no downloads."""

import tempfile
from pathlib import Path

import numpy as np

import reszoo

folder = Path(tempfile.mkdtemp())
spec = reszoo.spec("resnet18d", depths=[1, 1, 1, 1], width_multiplier=0.25, classes=10, input_shape=(64, 64, 3))
trained = reszoo.create(spec)
trained.save(folder / "mine.keras")

# To timm's names and layout, without PyTorch; convert() verifies that both files give the same outputs.
converted = reszoo.convert(folder / "mine.keras", folder / "mine.pth")
print(f"{converted.path.name}: {converted.dialect}, outputs differ by {converted.difference:.1e}")

# Blocks, depths, widths, stem, classes and shortcuts are inferred from the names and shapes in the file.
model, report = reszoo.from_checkpoint(folder / "mine.pth")
print(report)
images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
print("logits:", np.round(np.asarray(model(images))[0, :3], 3))

# Into a network with other classes: the trunk is loaded, the classifier starts from random weights.
other = reszoo.create(spec.replace(classes=3), weights=folder / "mine.pth", classes=3)
print(other.output_shape, "new:", reszoo.origin(other).report.new)

# Into a different network: an error, and the model keeps its weights.
try:
    reszoo.load_weights(reszoo.create(spec.plain()), folder / "mine.pth")
except reszoo.ReszooError as error:
    print(str(error).splitlines()[0])

# The preprocessing that published weights need, as a model of stock Keras layers.
layers = reszoo.preprocessing("resnet50.tv2_in1k")
photo = np.random.default_rng(0).integers(0, 256, (1, 300, 400, 3), "uint8")
print(reszoo.list_weights("resnet50")[:3], layers(photo).shape)
