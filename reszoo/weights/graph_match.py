"""Whether the plan of a spec and the graph of a Keras model are the same operations, with the same settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reszoo.arch.ops import Op
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights.keras_graph import Step

Steps = Sequence[Step]


def assign(spec: NetSpec, steps: Steps) -> tuple[dict[str, str] | None, int]:
    """Returns the layer of every operation with weights if plan and graph are the same, and how many steps fit."""
    readers: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        for each in step.inputs:
            readers.setdefault(each, []).append(number)
    ops = _merged(plan(spec).ops, steps)
    fitting: dict[str, set[int]] = {"input": {0}}
    count = 1
    for op in ops:
        fitting[op.name] = {
            number
            for source in fitting[op.inputs[0]]
            for number in readers.get(source, ())
            if is_same(op, steps[number]) and _inputs(op, steps[number], fitting) is not None
        }
        count += bool(fitting[op.name])
        if not fitting[op.name]:
            return None, count
    # Backwards, every operation takes the step that its reader took.
    chosen = {ops[-1].name: len(steps) - 1} if len(steps) - 1 in fitting[ops[-1].name] else {}
    for op in reversed(ops):
        if op.name not in chosen:
            return None, count
        inputs = _inputs(op, steps[chosen[op.name]], fitting) or ()
        for name, number in zip(op.inputs, inputs, strict=True):
            if chosen.setdefault(name, number) != number:
                return None, count
    layers = {op.name: steps[chosen[op.name]].name for op in ops if op.weights}
    return layers, len({*chosen.values()})


def _merged(ops: tuple[Op, ...], steps: Steps) -> list[Op]:
    """Returns the operations in the form of the graph: flattening after a pool, and softmax after the classifier."""
    result: list[Op] = []
    for op in ops:
        if op.kind == "dense" and op.variant != "linear" and op.variant:
            result += [op._replace(variant="linear"), op._replace(kind="act", name=f"{op.name}_act", inputs=(op.name,))]
        else:
            result.append(op)
        flattens = op.name == "head_pool" and any(step.kind == "flatten" for step in steps)
        if flattens:
            # Later operations read the flattened features under the name of the pool.
            result[-1] = op._replace(name=f"{op.name}_map")
            result.append(op._replace(kind="pad", variant="flatten", inputs=(f"{op.name}_map",)))
    return result


def _inputs(op: Op, step: Step, fitting: Mapping[str, set[int]]) -> tuple[int, ...] | None:
    """Returns the step of every input of an operation, or None if they do not fit; additions commute."""
    if len(step.inputs) != len(op.inputs):
        return None
    for inputs in (step.inputs, step.inputs[::-1]):
        if all(number in fitting.get(name, ()) for name, number in zip(op.inputs, inputs, strict=True)):
            return inputs
    return None


def is_same(op: Op, step: Step) -> bool:
    """Returns whether a step computes what an operation computes."""
    theirs = step.settings
    if op.kind == "global_pool" and step.kind == "pool":
        return bool(theirs["variant"] == op.variant)
    if op.kind == "pad" and step.kind == "pad":
        zeros = (op.zeros_before, op.width - op.width_in - op.zeros_before)
        return op.variant != "flatten" and zeros == theirs["zeros"]
    if op.kind == "pad":
        return op.variant == "flatten" == step.kind
    if op.kind != step.kind:
        return False
    if op.kind == "channel_conv":
        return bool(op.kernel == theirs["kernel"])
    if op.kind in ("conv", "pool"):
        fields = ("width", "kernel", "stride", "dilation", "groups", "bias", *(("variant",) if op.kernel > 1 else ()))
        return all(getattr(op, field) == theirs[field] for field in fields if field in theirs) and _pads(op, theirs)
    if op.kind == "norm":
        return (op.variant, op.groups) == (theirs["variant"], theirs["groups"]) and abs(
            op.epsilon - theirs["epsilon"]
        ) <= 1e-3 * op.epsilon
    if op.kind == "dense":
        return (op.width, op.bias) == (theirs["width"], theirs["bias"])
    if op.kind == "act":
        return op.variant == theirs["variant"] and abs(op.slope - theirs.get("slope", 0.0)) < 1e-9
    return op.kind != "global_pool" or op.variant == theirs["variant"]


def _pads(op: Op, theirs: Mapping[str, Any]) -> bool:
    padding, reach = theirs["padding"], (op.kernel - 1) * op.dilation // 2
    if reach == 0 and op.kernel == 1:
        return padding in ("same", "valid", 0)
    if op.kind == "pool" and op.variant == "avg":
        return bool(padding == "same")
    if op.stride == 1:
        return padding in ("same", reach)
    if op.padding == "same":
        return bool(padding == "same")
    # Zeros before a max pool are neutral only where nothing is negative.
    is_neutral = op.kind == "conv" or op.input_sign == "nonnegative" or theirs.get("neutral", False)
    return bool(padding == reach) and is_neutral


def mismatch(spec: NetSpec, steps: Steps, where: str) -> ReszooError:
    """Returns the error that names the first operation of the nearest network that the graph lacks."""
    fitting: dict[str, set[int]] = {"input": {0}}
    for op in _merged(plan(spec).ops, steps):
        sources = {number for name in op.inputs for number in fitting[name]}
        readers = [step for step in steps if sources & {*step.inputs}]
        same = {
            number
            for number, step in enumerate(steps)
            if step in readers and is_same(op, step) and _inputs(op, step, fitting) is not None
        }
        if not same:
            got = ", ".join(f"layer {step.name!r} ({_words(step)})" for step in readers[:2]) or "nothing"
            return ReszooError(
                where, got=f"{got} after {op.inputs[0]}", expected=f"{op.summary} ({op.name})", hint=_HINT
            )
        fitting[op.name] = same
    return ReszooError(where, got="layers that no network of the zoo has", hint=_HINT)


_HINT = "the file's network is not one that a spec describes"


def _words(step: Step) -> str:
    settings = step.settings
    window = f"{settings['kernel']}x{settings['kernel']}/{settings['stride']} " if "kernel" in settings else ""
    padding = settings.get("padding", "")
    words = [step.kind, str(settings.get("variant", "")), window.strip(), f"padding {padding}" if window else ""]
    words += [f"epsilon {settings['epsilon']:g}"] if "epsilon" in settings else []
    words += ["bias"] if settings.get("bias") else []
    return " ".join(filter(None, words))


def windows(steps: Steps, where: str) -> Steps:
    """Returns the steps of a graph whose convolutions and pools have their padding and stride.

    Raises:
        ReszooError: zeros are padded for something else.
    """
    return _joined_pools(_without_padding(steps, where))


def _without_padding(steps: Steps, where: str) -> Steps:
    """Returns the steps with zero padding as a setting of the windows that read it."""
    result: list[Step] = []
    place: dict[int, int] = {}
    for number, step in enumerate(steps):
        sources = [steps[each] for each in step.inputs]
        if sources and sources[0].kind == "zero_pad" and step.kind in ("conv", "pool"):
            if step.settings["padding"] != "valid" or steps[sources[0].inputs[0]].kind == "zero_pad":
                raise ReszooError(where, got=f"layer {step.name!r}, which pads twice")
            settings = step.settings | {"padding": sources[0].settings["pixels"]}
            step = step._replace(inputs=sources[0].inputs, settings=settings)
        elif any(source.kind == "zero_pad" for source in sources):
            raise ReszooError(where, got=f"layer {sources[0].name!r}, which pads neither a convolution nor a pool")
        if step.kind != "zero_pad":
            place[number] = len(result)
            result.append(step._replace(inputs=tuple(place[each] for each in step.inputs)))
    return result


def _joined_pools(steps: Steps) -> Steps:
    """Returns the steps with a pool of stride one and a subsampling of it as one strided pool."""
    result: list[Step] = []
    place: dict[int, int] = {}
    for number, step in enumerate(steps):
        step = step._replace(inputs=tuple(place[each] for each in step.inputs))
        before = result[-1] if result else step
        is_subsampling = step.kind == "pool" and step.settings["kernel"] == 1 and step.inputs == (len(result) - 1,)
        if is_subsampling and before.kind == "pool" and before.settings["stride"] == 1:
            window = before.settings
            # Keras pads a pool of stride one by the same number of pixels on both sides, which are never the largest.
            neutral = {"padding": (window["kernel"] - 1) // 2, "neutral": True} if window["padding"] == "same" else {}
            result[-1] = before._replace(settings=window | neutral | {"stride": step.settings["stride"]})
        else:
            result.append(step)
        place[number] = len(result) - 1
    return result
