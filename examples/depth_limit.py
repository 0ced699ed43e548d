"""How deep does a network train? Dense networks of 10 and 100 layers on handwritten digits, 150 steps each.

The limit depends on initialisation, norm, learning rate and budget, which are all printed. Shortcuts are not the only
cure: the looks-linear control is a plain network.
"""

from matplotlib import pyplot

import reszoo

found = reszoo.compare(
    "residual_mlp18",
    "digits",
    width_multiplier=0.25,
    depths=50,
    shallow=5,
    against=("plain twin", "plain, looks-linear"),
    seeds=(0,),
    measure=(),
)
figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
places = range(len(found.contestants))
for offset, some in ((-0.2, found.shallow), (0.2, found.contestants)):
    accuracies = [found.of(one.family, one.depth)[0].batch_accuracy for one in some]
    layers = some[0].depth - 2
    axis.bar([place + offset for place in places], accuracies, width=0.38, label=f"{layers} layers in blocks")
    for one, accuracy in zip(some, accuracies, strict=True):
        print(f"{layers:3} layers, {one.family:30} training accuracy {accuracy:.1%}")
axis.axhline(0.1, color="black", linestyle=":", label="chance")
axis.set_xticks([*places], [one.family.replace(", ", ",\n") for one in found.contestants])
axis.set(ylabel="training accuracy", title=found.budget.description)
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure.savefig("depth_limit.png", dpi=90)
print("\nWritten: depth_limit.png")
