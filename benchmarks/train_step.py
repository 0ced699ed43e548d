"""Time of a training step: reszoo, the same network with Keras' own norm, keras.applications, and PyTorch.

    python benchmarks/train_step.py [--nets resnet20_cifar:128 resnet50:8] [--dtypes float32 mixed_bfloat16]

All contestants take turns in one process on two threads. oneDNN's kernels are enabled for all TensorFlow contestants
(its default on some CPUs only). PyTorch, where installed, runs the same plan in channels_last. mixed_bfloat16 is
skipped where the CPU has no instructions for it, unless it is requested.
"""

import argparse
import os
from statistics import median

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from machine import describe, has_bfloat16, interleave

import reszoo
from reszoo.arch import build

tf.config.threading.set_intra_op_parallelism_threads(2)
tf.config.threading.set_inter_op_parallelism_threads(2)


def keras_step(model, x, y):
    """Returns the train function that fit() runs, on one batch."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((x, y)).cache().repeat().prefetch(2))
    return lambda: model.train_function(batches)


def with_stock_norm(net):
    """Returns the same network with Keras' own BatchNormalization instead of ours."""
    ours = build.batch_normalization
    build.batch_normalization = keras.layers.BatchNormalization
    try:
        return reszoo.create(net, classifier_activation=None)
    finally:
        build.batch_normalization = ours


def torch_step(net, x, y, dtype):
    """Returns a step of the same plan in PyTorch, channels_last, autocast for bfloat16."""
    import torch
    from torch import nn

    torch.set_num_threads(2)
    plan = reszoo.plan(net)
    layers = {
        "conv": lambda op: nn.Conv2d(
            op.source[-1], op.shape[-1], op.kernel, op.stride, (op.kernel - 1) // 2, groups=op.groups, bias=op.bias
        ),
        "norm": lambda op: nn.BatchNorm2d(op.shape[-1], eps=op.epsilon),
        "dense": lambda op: nn.Linear(op.source[-1], op.shape[-1]),
    }

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict({op.name: layers[op.kind](op) for op in plan.ops if op.kind in layers})

        def forward(self, x):
            tensors = {"input": x}
            for op in plan.ops:
                a = tensors[op.inputs[0]]
                if op.name in self.layers:
                    out = self.layers[op.name](a)
                elif op.kind == "act":
                    out = nn.functional.relu(a)
                elif op.kind == "add":
                    out = a + tensors[op.inputs[1]]
                elif op.kind == "global_pool":
                    out = a.mean((2, 3))
                elif op.kind == "pad":
                    extra = op.shape[-1] - op.source[-1]
                    out = nn.functional.pad(a, (0, 0, 0, 0, extra // 2, extra - extra // 2))
                elif op.kind == "pool":
                    out = (
                        nn.functional.max_pool2d(a, 3, 2, 1)
                        if op.word == "max"
                        else a[:, :, :: op.stride, :: op.stride]
                    )
                tensors[op.name] = out
            return out

    model = Network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    inputs, labels = torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(y)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != "float32"):
            logits = model(inputs)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def compare(net, batch, dtype, rounds):
    """Prints the medians of one network."""
    keras.config.set_dtype_policy(dtype)
    spec = reszoo.spec(net)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *spec.input_shape)).astype("float32")
    y = rng.integers(0, spec.head.classes, batch)
    contestants = {
        "reszoo": keras_step(reszoo.create(net, classifier_activation=None), x, y),
        "Keras' BatchNormalization": keras_step(with_stock_norm(net), x, y),
    }
    if net.startswith("resnet50"):
        applications = keras.applications.ResNet50(weights=None, classifier_activation=None)
        contestants["keras.applications.ResNet50"] = keras_step(applications, x, y)
    try:
        contestants["PyTorch channels_last"] = torch_step(net, x, y, dtype)
    except ImportError:
        print("PyTorch is not installed: skipped")
    interleave(contestants, rounds=2)  # tracing and warming up
    seconds = interleave(contestants, rounds=rounds)
    ours = median(seconds["reszoo"])
    print(f"\n{net}, batch {batch}, {dtype}: milliseconds per image, median of {rounds} (minimum); time over reszoo's")
    for name, values in seconds.items():
        ms = [1e3 * value / batch for value in (median(values), min(values))]
        print(f"  {name:30} {ms[0]:8.2f} ({ms[1]:.2f})  {median(values) / ours:.2f}x", flush=True)
    keras.backend.clear_session()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["resnet20_cifar:128", "resnet50:8"])
    parser.add_argument("--dtypes", nargs="+", default=None)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow", "torch")
    dtypes = arguments.dtypes or ["float32", "mixed_bfloat16"]
    if arguments.dtypes is None and not has_bfloat16():
        dtypes = ["float32"]
        print("mixed_bfloat16: skipped, this CPU has no instructions for it (--dtypes mixed_bfloat16 runs it anyway)")
    for dtype in dtypes:
        for net in arguments.nets:
            name, _, batch = net.partition(":")
            compare(name, int(batch or 8), dtype, arguments.rounds)


if __name__ == "__main__":
    main()
