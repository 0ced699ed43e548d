"""How deep does a network train? Dense networks of 10 and 100 layers on handwritten digits, 150 steps each.

The limit depends on initialization, norm, learning rate and number of steps. Shortcuts are not the only cure: the
looks-linear control is a plain network.
"""

from matplotlib import pyplot

import reszoo

comparison = reszoo.compare(
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
positions = range(len(comparison.contestants))
for offset, contestants in ((-0.2, comparison.shallow), (0.2, comparison.contestants)):
    accuracies = [comparison.of(one.family, one.depth)[0].batch_accuracy for one in contestants]
    layers = contestants[0].depth - 2
    axis.bar([position + offset for position in positions], accuracies, width=0.38, label=f"{layers} layers in blocks")
    for one, accuracy in zip(contestants, accuracies, strict=True):
        print(f"{layers:3} layers, {one.family:30} training accuracy {accuracy:.1%}")
axis.axhline(0.1, color="black", linestyle=":", label="chance")
axis.set_xticks([*positions], [one.family.replace(", ", ",\n") for one in comparison.contestants])
axis.set(ylabel="training accuracy", title=f"after {comparison.budget.steps} steps")
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure.savefig("depth_limit.png", dpi=90)
print("\nSaved to depth_limit.png")
