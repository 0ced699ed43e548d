"""CIFAR-style training: ResNet-20 and its plain twin by one recipe; `python cifar_style.py cifar10 164` for He 2015.

By default on scikit-learn's digits for two epochs, which takes seconds. Interrupted, it resumes when started again.
"""

import sys
from pathlib import Path

import reszoo

source = sys.argv[1] if len(sys.argv) > 1 else "digits"
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 2

# A recipe is data: this one is section 4.2 of the paper, its steps scaled to the length of the run.
recipe = reszoo.recipe("cifar_he2015", epochs=epochs)
if source == "digits":
    # Mirrored digits are other characters, and 1,300 images need smaller batches.
    recipe = reszoo.recipe(recipe, batch=32, augmentation={"flip": False, "shift": 1})
print(recipe.ref, recipe.learning_rate, sep="\n")

for name in ("resnet20_cifar", "plain20_cifar"):
    run = reszoo.train(name, source, recipe=recipe, output=Path("runs") / f"{name}_{source}", seed=1, verbose=2)
    result = reszoo.evaluate(run.folder / "model.keras", source)
    print(
        f"{name}: accuracy {result.accuracy:.2%}, calibration error {result.calibration_error:.3f} ({result.protocol})"
    )
    print((run.folder / "README.md").read_text().splitlines()[4])
