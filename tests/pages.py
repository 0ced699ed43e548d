"""A page of every kind, from made-up results: what users look at, without any training."""

import json
from pathlib import Path

import numpy as np
from test_page import ROWS

import reszoo
from reszoo.arch import zoo
from reszoo.data.audit import Audit, Sizes
from reszoo.data.examples import Duplicates
from reszoo.data.image_folder import LeftOut
from reszoo.deployment.artifact import Artifact
from reszoo.deployment.bench import Bench, Timing
from reszoo.diagnosis.advice import Advice
from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.diagnose import Diagnosis
from reszoo.diagnosis.measures.census import Census
from reszoo.diagnosis.measures.gradient_profile import GradientProfile
from reszoo.diagnosis.measures.information import Information, Readout
from reszoo.diagnosis.measures.lesion import LesionStudy
from reszoo.diagnosis.measures.signal import SignalPropagation
from reszoo.diagnosis.units import Units
from reszoo.experiments import contestants as tables, findings
from reszoo.experiments.comparison import Comparison, Measured
from reszoo.experiments.degradation_gap import gap
from reszoo.experiments.evidence import Evidence
from reszoo.experiments.quickstart import QuickstartRun, Transferred
from reszoo.experiments.quickstart_page import quickstart_page
from reszoo.experiments.trainer import Run, rows
from reszoo.report.search import search_page
from reszoo.training.evaluate import Evaluation
from reszoo.training.evaluation_data import WrongExample
from reszoo.training.metrics import Bin, ClassMetrics
from reszoo.training.recipes import recipe
from reszoo.training.trained import Trained

NAN = float("nan")
LONG = "a class with a name that is far too long for an axis"


def profile(rate=0.4, *, weights=NAN, level="strained", blocks=8):
    rms = tuple(1e-3 * 10 ** (rate * (block - blocks)) for block in range(blocks + 1))
    names = tuple(f"block{number}" for number in range(1, blocks + 1))
    return GradientProfile(
        model="residual_mlp18",
        level=level,
        verdict=f"the gradient at the first block is {10 ** (-rate * blocks):.2g} times that at the last",
        control={"labels shuffled": 0.98, "zero-scaled residual blocks": 1.0},
        blocks=names,
        norms=rms,
        rms=rms,
        ratio=10 ** (-rate * blocks),
        gain=10**-rate,
        decades=rate * blocks,
        shape="exponential (R2 0.99)",
        by_part={"stage1": 1.0},
        weight_ratio=weights,
        loss=2.3,
    )


def diagnosis(_):
    common = {"model": "residual_mlp18", "level": "healthy"}
    names = tuple(f"block{number}" for number in range(1, 9))
    sizes = (1.0, 1.1, 1.3, 1.2, 1.4, 1.5, 1.4, 1.6, 1.7)
    signal = SignalPropagation(
        **common,
        verdict="the signal grows by 1.7 over 8 blocks",
        control={"growth for noise": NAN},
        blocks=names,
        squared_mean=sizes,
        variance=sizes,
        rms=sizes,
        growth=1.7,
        responses=sizes[1:],
        branch_ratio=(0.0, 0.4, 0.35, 0.3, NAN, 0.3, 0.25, 0.2),
    )
    lesion = LesionStudy(
        **common,
        verdict="97 % of the accuracy remain without one block",
        control={"largest class": 0.1, "labels shuffled": 0.12},
        blocks=names,
        accuracy=0.9,
        without=(0.5, 0.85, 0.88, 0.87, 0.9, 0.89, 0.9, 0.88),
        mean=0.83,
        worst="block1",
        idle=("block5",),
        without_many=(),
    )
    information = Information(
        **common,
        verdict="a linear probe reads the class at the last block as well as at the first",
        control={
            "r2, random": 0.918,
            "probe, random": 0.8,
            "probe, labels shuffled": 0.0859,
            "probe, greatest of 19 shuffles": 0.15,
        },
        places=(0, 2, 4, 8),
        readouts=tuple(Readout(0.9 - 0.1 * i, 0.7 + 0.05 * i, 12.0, 0.9, 0.3) for i in range(4)),
    )
    census = Census(
        **common,
        verdict="3 of 512 units are dead",
        control={"every number learns": 0.0},
        numbers=1000,
        without_gradient=3,
        silent={},
        padding=0,
        zero_inputs=0,
        units=tuple(Units(f"relu{i}", 64, i, 0, 0) for i in range(4)),
        frozen=(),
        frozen_numbers=0,
    )
    return Diagnosis(
        model="residual_mlp18",
        network="8 residual blocks of 2 dense layers, He initializer, batch norm",
        examples=512,
        results=(profile(), signal, census, information, lesion),
        skipped=(("early exit", "the network has no stage with one head"),),
        advice=(
            Advice("a norm after every layer", "the gradient at the first block is 0.0006 times that at the last"),
        ),
        seconds=3.2,
        causes=(
            Cause("learning_rate", "loss 9.1 after 20 steps", "the steps are too long", "model.compile(SGD(0.01))"),
        ),
    ).page()


def digits():
    return reszoo.open_data("digits")


def evidence(_):
    claims = tables.claims()
    claim = claims["gradient flow"]
    rates = dict(zip(claim.families, (0.0, 0.03, 0.0, -0.02, 0.1, 0.6, -0.03), strict=True))
    profiles = {}
    for depth in (10, 50):
        nets = tables.contestants(
            tables.network("dense", rows(digits()), depths=depth // 2), tables.families(claim.families)
        )
        profiles[depth] = {
            one: profile(rates[one.family], blocks=depth // 2, weights=NAN if one.kind == "residual" else 2.0)
            for one in nets
        }
    found = findings.gradient_flow(claim, profiles)
    runs, gaps = _gaps(claims["degradation"].families)
    kinds = {name: tables.families()[name].kind for name in claims["degradation"].families}
    return Evidence("digits", (found, findings.degradation(claims["degradation"], gaps, runs, kinds)), 200.0).page()


def _gaps(families):
    runs, gaps = [], []
    for index, family in enumerate(families):
        pairs = [
            [
                Run(
                    "net",
                    depth,
                    1000,
                    0.1,
                    seed,
                    tuple(2.3 * last ** (step / 20) for step in range(20)),
                    0.8,
                    1.0,
                    0.8,
                    0.7,
                )
                for seed in (0, 1)
            ]
            for depth, last in ((20, 0.1), (56, 0.05 + index / 4))
        ]
        gaps.append(gap(family, *pairs, chance=2.3))
        runs += [(family, run) for group in pairs for run in group]
    return runs, gaps


def comparison(_):
    table = tables.families()
    deep = tables.contestants(tables.network("image", digits(), depths=9), table)
    shallow = tables.contestants(tables.network("image", digits(), depths=3), table)
    runs, gaps = _gaps([one.family for one in deep])
    measured = tuple(Measured(one.family, one.kind, "initialisation", (profile(),), {}) for one in deep)
    budget = tables.budget("image")
    runs = [(family, run) for family, run in runs]
    return Comparison("resnet56", "digits", budget, deep, shallow, tuple(runs), tuple(gaps), measured, 60.0).page()


def evaluation(_):
    random = np.random.default_rng(0)
    confusion = np.diag(random.integers(30, 90, 10)) + random.integers(0, 4, (10, 10))
    names = [f"class {number}" for number in range(9)] + [LONG]
    images = random.integers(0, 255, (3, 16, 16, 3), "uint8")
    return Evaluation(
        task="classification",
        metrics={"accuracy": 0.91, "largest_class_share": 0.12, "calibration_error": 0.03, "auc": NAN},
        classes=tuple(ClassMetrics(name, 40, 0.9, NAN if name == LONG else 0.8) for name in names),
        confusion=confusion,
        protocol="the test part of digits: 359 examples, each once, no augmentation",
        reliability=(Bin(20, 0.4, 0.35), Bin(80, 0.7, 0.75), Bin(259, 0.98, 0.95)),
        wrong=tuple(WrongExample(f"photos/{i}.png", "class 1", LONG, 0.9, image) for i, image in enumerate(images)),
        notes=("no example was predicted as class 3",),
    ).page()


def trained(folder, epochs=12):
    spec = zoo.spec("resnet20_cifar", input_shape=(8, 8, 1))
    settings = {
        "spec": spec.model_dump(mode="json"),
        "recipe": recipe("fast_symbols", epochs=epochs).model_dump(mode="json"),
        "data": {"name": "digits", "task": "classification", "train": 1295, "validation": 143, "test": 359},
        "classes": [str(number) for number in range(10)],
        "seed": 0,
        "weights": None,
        "source": {"data": "digits"},
        "backend": "tensorflow",
        "versions": {"reszoo": "0.1.0", "keras": "3.15.1"},
    }
    (folder / "run.json").write_text(json.dumps(settings))
    history = [
        {
            "epoch": epoch,
            "accuracy": 1 - 0.7 / epoch,
            "loss": 2 / epoch,
            "val_accuracy": 1 - 0.8 / epoch,
            "val_loss": 2.2 / epoch,
            "penalty": 0.07,
            "learning_rate": 0.2 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    remarks = (
        "always predicting 1, the largest class, is right for 10.49% of the validation examples",
        "1,295 training images: pretrained weights are the first thing to try",
    )
    return Trained(folder, None, history, 0.9, remarks).page()


def one_epoch(folder):
    return trained(folder, epochs=1)


def audit(_):
    classes = [*(f"class {number}" for number in range(8)), LONG]
    return Audit(
        name="photos",
        task="classification",
        examples={"train": 900, "validation": 100},
        counts={name: (180 - 20 * index, 20 - 2 * index) for index, name in enumerate(classes)},
        sizes=Sizes((20, 30), (400, 300), (4000, 3000)),
        left_out=tuple(LeftOut(Path(f"photos/{i}/note with a long name.txt"), "not an image") for i in range(30)),
        duplicates=Duplicates(3, 1, 0, ("photos/1/a.png = photos/2/b.png",)),
        notes=("validation: a tenth of every class",),
    ).page()


def artifact(_):
    return Artifact(
        path=Path("model_int8.onnx"),
        format="onnx",
        quantize="int8",
        size=123_456,
        input="uint8 (batch, 32, 32, 3)",
        outputs=("probabilities",),
        examples=359,
        real=True,
        difference=0.0123,
        mean_difference=0.001,
        agreement=0.99,
        accuracy=0.9,
        accuracy_before=0.91,
        classes=("ants", "bees"),
        notes=("softmax stays in float",),
        versions={"onnx": "1.16"},
    ).page()


def bench(_):
    formats = ("predict", "function", "onnx", "onnx:int8")
    timings = [
        Timing(name, size, 10.0 * size / (index + 1), 9.0, 100.0, 0.5, 12.0)
        for size in (1, 8)
        for index, name in enumerate(formats)
    ]
    return Bench("resnet20_cifar", "2 processors, x86_64", tuple(timings), ("only large differences count",)).page()


def quickstart(_):
    losses = {"plain20": 0.6, "resnet20": 0.2, "plain44": 1.5, "resnet44": 0.1}
    runs = [
        QuickstartRun(
            name,
            int(name[-2:]),
            "plain" if name[0] == "p" else "residual",
            68_000,
            tuple(2.3 * (end / 2.3) ** (epoch / 9) for epoch in range(10)),
            0.9,
            0.85,
            0.8,
        )
        for name, end in losses.items()
    ]
    transfers = [
        Transferred(name, start, (0.5, 0.7, 0.9 if start == "pretrained" else 0.75))
        for name in ("resnet20_cifar", "plain20_cifar")
        for start in ("pretrained", "from scratch")
    ]
    command = "reszoo quickstart --depths 20 44 --seed 0"
    return quickstart_page(runs, transfers, digits(), command=command, seed=0, versions="reszoo 0.1.0")


def search(_):
    return search_page(rows=ROWS, fronts={"params": [0, 4], "macs": [0, 90]}, foot="versions")


PAGES = {
    page.__name__: page
    for page in (
        *(search, diagnosis, evidence, comparison, evaluation, trained, one_epoch),
        *(audit, artifact, bench, quickstart),
    )
}
