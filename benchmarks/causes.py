"""What the doctor says of networks whose faults are known, and whether its repair trains them.

    RESZOO_TEST_DATA=FOLDER python benchmarks/causes.py [programs|sick|sound|NAME ...]

`programs` are the public ones of `benchmarks/programs.py`: the true causes, those that are named, the loss after 200
steps of the program as it is and of the repaired one over that of the best constant prediction, and seconds; it is the
table of docs/pages/concepts/causes.md. `sick` and `sound` are the networks of `benchmarks/networks.py`: true and named
causes; false ones, and the doctor's loss beside that of `evaluate`. FOLDER holds `data/fashion_mnist_train.npz` and
`data/cifar10_train_lossless4000.npz` (arrays `x` and `y`).
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from machine import describe
from networks import SICK, SOUND
from programs import PROGRAMS

import reszoo

PUBLISHED = {"DeepFD": 27, "UMLAUT": 14, "AUTOTRAINER": 10, "DeepLocalize": 7}
"""Tool -> programs with a true cause, of the 52 of DeepFD's sheet."""


def listed(kinds):
    """Returns kinds of causes as words with commas; `none` without any."""
    return ", ".join(sorted(kinds)).replace("_", " ") or "none"


def kinds(diagnosis):
    return {cause.kind for cause in diagnosis.causes}


def heading(*columns):
    print(f"\n| {' | '.join(columns)} |\n|{'--|' * len(columns)}", flush=True)


def row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def programs(names):
    """Prints the table of the public programs."""
    heading("program", "true causes", "named", "loss as it is", "loss repaired", "seconds", "with repair")
    named = true = false = trained = 0
    for name in names:
        program = PROGRAMS[name]
        model, x, y = program.build()
        settings = {"batch_size": program.batch, "epochs": program.epochs}
        alone = reszoo.diagnose(model, x, y, **settings)
        start = time.perf_counter()
        repair = reszoo.diagnose(model, x, y, repair=True, **settings).repair
        seconds = time.perf_counter() - start
        causes, answer = {*program.causes.split()}, kinds(alone)
        named, true = named + bool(answer & causes), true + len(answer & causes)
        false += len(answer - causes - {*program.neutral.split()})
        trained += repair.learns
        losses = (f"{curve[-1]:.2g}" for curve in (repair.before, repair.after))
        text = f"{listed(causes)}{' (disputed)' * program.disputed}"
        row(name, text, listed(answer), *losses, f"{alone.seconds:.0f}", f"{seconds:.0f}")
    tools = ", ".join(f"{tool} {count}" for tool, count in PUBLISHED.items())
    print(f"\na true cause is named in {named} of {len(names)}; of the kinds named {true} are true, {false} false")
    print(f"{trained} train after repair (relative loss below 1); published, of 52: {tools}")


def sick(names):
    """Prints true and named causes."""
    heading("network", "true causes", "named", "missed or false", "seconds")
    for name in names:
        make, causes, neutral = SICK[name]
        model, x, y, settings = make()
        diagnosis = reszoo.diagnose(model, x, y, **settings)
        answer, causes = kinds(diagnosis), {*causes.split()}
        false = answer - causes - {*neutral.split()}
        wrong = "missed" if not answer & causes else listed(false) if false else ""
        row(name, listed(causes), listed(answer), wrong, f"{diagnosis.seconds:.0f}")


def sound(names):
    """Prints false causes and alarms, and the doctor's loss beside that of `evaluate`."""
    heading("network", "false causes", "not healthy", "loss", "of `evaluate`", "relative difference", "seconds")
    for name in names:
        model, x, y, settings = SOUND[name]()
        diagnosis = reszoo.diagnose(model, x, y, **settings)
        alarms = [one.title for one in diagnosis.results if one.level in ("strained", "broken")]
        row(name, listed(kinds(diagnosis)), listed(alarms), *losses(model, x, y, settings), f"{diagnosis.seconds:.0f}")


def losses(model, x, y, settings):
    """Returns the doctor's loss on all examples and that of `evaluate`, and their relative difference."""
    from reszoo.diagnosis.examples import gather_examples
    from reszoo.diagnosis.losses import losses_of
    from reszoo.diagnosis.program import read_program

    examples = gather_examples(x, y, settings.get("sample_weight"))
    settings = {"batch_size": None, "epochs": None, "class_weight": None, **settings}
    program = read_program(model, examples.x, examples.y, loss=None, **settings)
    # `evaluate` takes no class weights.
    weights = program.outputs[0].weights
    mine, _ = losses_of(program, program.finite_rows)
    theirs = model.evaluate(examples.x, examples.y, sample_weight=weights, verbose=0, return_dict=True)["loss"]
    return f"{mine:.6g}", f"{theirs:.6g}", f"{abs(mine - theirs) / max(abs(theirs), 1e-9):.0e}"


GROUPS = {"programs": (programs, PROGRAMS), "sick": (sick, SICK), "sound": (sound, SOUND)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="groups or single networks; everything by default")
    wanted = parser.parse_args().names or [*GROUPS]
    describe("reszoo", "keras", "tensorflow")
    for group, (show, cases) in GROUPS.items():
        if names := [*cases] if group in wanted else [name for name in cases if name in wanted]:
            show(names)


if __name__ == "__main__":
    main()
