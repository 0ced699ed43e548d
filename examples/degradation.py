"""Is a deeper network worse in training? Narrow convolutional networks of 14 and 32 layers on handwritten digits.

One seed and one learning rate, to be quick: `reszoo compare resnet56_cifar --data digits` uses three and two, and
gives the gap with its interval.
"""

from matplotlib import pyplot

import reszoo

comparison = reszoo.compare(
    "resnet20_cifar",
    "digits",
    width_multiplier=0.25,
    depths=5,
    shallow=2,
    against=("plain twin", "residual, full-scale branches"),
    steps=60,
    rates=(0.1,),
    seeds=(0,),
    measure=(),
)
FAMILIES = ("plain twin", "residual", "residual, full-scale branches")
figure, axes = pyplot.subplots(1, len(FAMILIES), figsize=(10, 3.5), sharey=True, layout="constrained")
for axis, family in zip(axes, FAMILIES, strict=True):
    gap = next(gap for gap in comparison.gaps if gap.family == family)
    print(f"{family:20} training loss, {gap.deep} layers minus {gap.shallow}: {gap.gap:+.3f} nats")
    for depth in (gap.shallow, gap.deep):
        run = comparison.of(family, depth)[0]
        axis.semilogy(run.losses, label=f"{depth} layers", linewidth=2 if depth == gap.deep else 1)
    axis.set(title=family, xlabel="step")
    axis.legend()
    axis.grid(alpha=0.3)
axes[0].set_ylabel("training loss (nats)")
figure.savefig("degradation.png", dpi=90)
print(f"\n{comparison.budget.steps} steps each. Saved to degradation.png")
