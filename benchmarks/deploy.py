"""Files for other runtimes: how far they differ, what 8 bits cost, and how fast they are beside Keras' predict.

python benchmarks/deploy.py families                    every kind of network in every format: largest differences
python benchmarks/deploy.py accuracy --data FOLDER      a trained CIFAR ResNet-20: right of 1,000, float and int8
python benchmarks/deploy.py speed [--networks NAMES]    milliseconds and ratios to predict, in turns

FOLDER holds weights/cifar10_resnet20_option_a.th (github.com/akamaster/pytorch_resnet_cifar10) and
data/cifar10_test_first1000_lossless.npz, data/cifar10_train_lossless4000.npz (arrays x, y). A difference is a fraction
of the largest logit. Runtimes that are not installed are left out.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import keras
import numpy as np
from machine import describe
from narrow import narrow, randomise

import reszoo
from reszoo.data.sources import Scaling
from reszoo.deployment.formats import FORMATS, timed_formats

FAMILIES = {
    "resnet18": {},
    "resnet50": {},
    "plain34": {},
    "resnet50d": {},
    "preact_resnet18": {},
    "preact_resnet50": {"block": {"shortcut": "pool_project"}},
    "resnet20_cifar": {},
    "wide_resnet16_4_cifar": {},
    "se_resnet50": {"norm": {"kind": "group", "groups": 4}},
    "resnext50_32x4d": {},
    "residual_mlp18": {},
    "tabular_resnet": {},
}
SCALING = Scaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def attempt(model, name, **settings):
    """A deployment and its text: the difference, or the reason why it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            artifact = reszoo.deploy(model, name, Path(folder) / "net", **settings)
        except reszoo.ReszooError as error:
            return None, f"refused: {error}"[:150]
        return artifact, f"{artifact.difference:.1e} ({time.perf_counter() - start:.0f} s)"


def families(formats):
    print("network".ljust(24), *(name.rjust(18) for name in formats))
    for entry, changes in FAMILIES.items():
        try:
            model = narrow(entry, **changes)
        except reszoo.ReszooError as error:
            print(entry, error)
            continue
        randomise(model)
        print(entry.ljust(24), *(attempt(model, name)[1].rjust(18) for name in formats), flush=True)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = narrow("resnet18")
    keras.config.set_dtype_policy("float32")
    print("mixed_bfloat16".ljust(24), *(attempt(model, name)[1].rjust(18) for name in formats), flush=True)


def accuracy(formats, folder):
    file = folder / "weights" / "cifar10_resnet20_option_a.th"
    settings = {"classifier_activation": "softmax", "input_shape": (32, 32, 3)}
    model = reszoo.from_checkpoint(file, **settings).model
    data = np.load(folder / "data" / "cifar10_test_first1000_lossless.npz")
    train = np.load(folder / "data" / "cifar10_train_lossless4000.npz")
    source = reszoo.open_data((train["x"], train["y"]), test=(data["x"], data["y"]))
    print("format".ljust(24), "right of 1,000", "same class", "difference", "MB", sep="  ")
    for name in formats:
        for quantize in (None, *FORMATS[name].quantize):
            artifact, text = attempt(model, name, quantize=quantize, data=source, preprocessing=SCALING)
            if artifact is not None:
                right, same = round(1000 * artifact.accuracy), round(1000 * artifact.agreement)
                text = f"{right:14}  {same:10}  {artifact.difference:10.1e}  {artifact.size / 1e6:.2f}"
            print(f"{name} {quantize or 'float32'}".ljust(24), text, sep="  ", flush=True)


def speed(formats, networks, batches, seconds):
    random = np.random.default_rng(0)
    for name in networks:
        model = randomised(name)
        x = random.normal(size=(48, *model.input_shape[1:])).astype("float32")
        kinds = [each for each in formats if each != "torch_export"]
        kinds += ["openvino:default"] if "openvino" in kinds else []
        kinds += [f"{each}:int8" for each in formats if "int8" in FORMATS[each].quantize]
        data = (x, np.asarray(model.predict(x, verbose=0)).argmax(axis=1))
        result = reszoo.bench(model, formats=("predict", "function", *kinds), batch=batches, data=data, seconds=seconds)
        print(f"{result.network}, {result.machine}")
        for row in result.rows():
            print(" ", row[0].ljust(20), f"batch {row[1]}: {row[2]:>8} ms, least {row[3]:>8}, {row[4]:>7} of predict")


def randomised(name):
    model = reszoo.create(name)
    randomise(model)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["families", "accuracy", "speed"])
    parser.add_argument("--formats", nargs="+", default=[*FORMATS])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--networks", nargs="+", default=["resnet20_cifar", "resnet50"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow", "onnxruntime", "ai-edge-litert", "openvino", "nncf")
    formats = [name for name in arguments.formats if name in timed_formats("all")]
    if arguments.part == "families":
        families(formats)
    elif arguments.part == "accuracy":
        accuracy(formats, arguments.data or parser.error("--data"))
    else:
        speed(formats, arguments.networks, arguments.batches, arguments.seconds)


if __name__ == "__main__":
    main()
