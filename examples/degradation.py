"""Is a deeper network worse in training? Narrow convolutional networks of 14 and 32 layers on handwritten digits.

One seed and one learning rate, to be quick: `reszoo compare resnet56_cifar --data digits` uses three and two, and
gives the gap with its interval.
"""

from pathlib import Path

import reszoo
from reszoo.report.lines import Panel, save_profiles

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
panels = []
for family in FAMILIES:
    gap = next(gap for gap in comparison.gaps if gap.family == family)
    print(f"{family:20} training loss, {gap.deep} layers minus {gap.shallow}: {gap.gap:+.3f} nats")
    losses = {f"{depth} layers": comparison.of(family, depth)[0].losses for depth in (gap.shallow, gap.deep)}
    curves = {label: (range(1, len(y) + 1), y) for label, y in losses.items()}
    panels.append(Panel(family, "step", "training loss (nats)", curves, "log"))
save_profiles(panels, Path("degradation.png"), title="Deeper plain networks are worse in training")
print(f"\n{comparison.budget.steps} steps each. Saved to degradation.png")
