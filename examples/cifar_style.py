"""CIFAR-style training: ResNet-20 and its plain twin by one recipe; `python cifar_style.py cifar10 164` for He 2015.

By default on scikit-learn's digits for a few epochs, which takes seconds. Interrupt it and start it again: it goes on.
"""

import sys
from pathlib import Path

import reszoo

source = sys.argv[1] if len(sys.argv) > 1 else "digits"
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 2

# A recipe is data: this one is section 4.2 of the paper, its steps at the same shares of a run of any length.
recipe = reszoo.recipe("cifar_he2015", epochs=epochs)
if source == "digits":
    # Digits mean something else in the mirror, and 1,300 of them want smaller batches.
    recipe = reszoo.recipe(recipe, batch=32, augmentation={"flip": False, "shift": 1})
print(recipe.ref, recipe.learning_rate, sep="\n")

for name in ("resnet20_cifar", "plain20_cifar"):
    done = reszoo.train(name, source, recipe=recipe, output=Path("runs") / f"{name}_{source}", seed=1, verbose=2)
    found = reszoo.evaluate(done.folder / "model.keras", source)
    print(f"{name}: {found.accuracy:.2%} right, calibration error {found.calibration_error:.3f} ({found.protocol})")
    print((done.folder / "README.md").read_text().splitlines()[4])
