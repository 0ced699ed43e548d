"""Loads weights into models: completely, or not at all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.arch import zoo
from reszoo.arch.recover import layers_by_name, spec_of
from reszoo.arch.spec import NetSpec
from reszoo.config import boolean
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, Tensor as KerasTensor
from reszoo.weights import infer, messages, questions
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.head import with_head
from reszoo.weights.match import Match, Strict, match
from reszoo.weights.origin import Origin, open_weights, remember
from reszoo.weights.report import Report
from reszoo.weights.settle import Check, check_outputs, settled
from reszoo.weights.translate import LayerNames, Translated


class Loaded(NamedTuple):
    """A model built from a checkpoint, and the report of loading its weights."""

    model: KerasModel
    report: Report

    def __repr__(self) -> str:
        return f"Loaded(model {self.model.name!r} from {self.report.file!r})"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def load_weights(
    model: KerasModel,
    source: str | Path,
    /,
    *,
    strict: Strict = True,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
    check: Check | None = None,
) -> Report:
    """Returns the report of loading a checkpoint's weights into a model.

    Everything is matched, checked and read before the first weight is assigned: if this raises, the model is unchanged.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(input_shape=(28, 28, 1))
        >>> report = reszoo.load_weights(model, "resnet20_cifar.fashion_mnist")
        >>> report.missing
        ()

    Args:
        model: a model built by reszoo.
        source: a file or folder (see `reszoo.weights.formats.read.read`), `https://...`, `hf://org/repo[@revision]`, or
            published weights: `tv2_in1k`, `resnet50.tv2_in1k`.
        strict: True: variables and tensors must correspond one to one; `trunk`: the classifier may keep its initial
            values; False: tensors that fit are loaded, the rest is reported.
        names: our layer names -> those in the file, where they differ from those of a known library (see `translate`).
        key: which network to read from a file that holds several, as a path of any depth: `model_ema`,
            `state_dict.module.encoder_q`. The default are averaged weights, then `state_dict`, `model`, ...; the report
            names the others.
        prefix: the beginning of the network's names, such as `model.backbone.`; by default it is located by the
            tensors themselves.
        check: `(inputs, outputs)`: examples, channels last, and what the file's own code returns for them, logits or
            probabilities. Weights that give other outputs in this model are refused.

    Raises:
        ReszooError: the file is unreadable, its network differs from the model's, or its outputs do.
    """
    spec = spec_of(model)
    opened = open_weights(source, spec, names=names, key=key, prefix=prefix)
    matching = match(spec, opened.translated, strict=strict, verified=check is not None)
    if check is None:
        messages.warn_of_groups(opened.translated, spec)
    else:
        check_outputs(spec, matching.tensors, check, where=matching.report.file)
    place(model, matching)
    remember(model, Origin(matching.report, opened.record, opened.translated.checkpoint))
    return matching.report


def from_checkpoint(
    source: str | Path,
    /,
    *,
    include_top: bool = True,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
    check: Check | None = None,
    loops: bool = False,
    recompute: bool | int = False,
    **changes: object,
) -> Loaded:
    """Returns a model of the network in a checkpoint with its weights, and the report of loading them.

    Kind of blocks, depths, widths, stem, classes, groups and shortcuts are inferred from names and shapes; the rest
    follows the library that wrote the file (`reszoo.weights.infer.specs`). The output of the classifier is that
    library's: logits, or probabilities for Keras files. Height and width of the input are variable.

    Example:
        >>> import reszoo
        >>> model, report = reszoo.from_checkpoint("resnet20_cifar.fashion_mnist")
        >>> [stage.depth for stage in report.spec.stages]
        [3, 3, 3]

    Args:
        source: see `load_weights`; published weights by their full name.
        include_top: whether the model ends with the classifier.
        names: see `load_weights`.
        key: see `load_weights`.
        prefix: see `load_weights`.
        check: `(inputs, outputs)` as in `reszoo.settle`, which finds what the file does not tell.
        loops: as in `create`.
        recompute: as in `create`.
        changes: overrides what is inferred, as in `NetSpec.replace`: `input_shape=(224, 224, 3)`, `shortcut="none"`.
            With other `classes` the classifier is new; with other channels the first convolution is adapted.

    Raises:
        ReszooError: the file is unreadable; the zoo cannot describe its network; the file does not tell something that
            has no usual answer; or no network has the outputs of `check`.
    """
    top = boolean(include_top, where="from_checkpoint.include_top")
    opened = open_weights(source, names=names, key=key, prefix=prefix)
    if not top:
        changes["head"] = {"classes": None, "pooling": "none"}
    inferred, notes = infer.specs(opened.translated)[0], []
    if check is not None:
        answer = settled(opened.translated, *check, _without_head(changes), transforms=False)
        inferred, notes = answer.spec, [f"settled by the outputs of {len(check[0])} examples: {answer!r}"]
    if top and not {"classes", "head"} & {*changes}:
        _check_complete(inferred, opened.translated)
    spec = zoo.spec(inferred, **changes)
    strict: Strict = "trunk" if {"classes", "head"} & {*changes} else True
    still_open = () if check is not None else questions.still_open(opened.translated, spec, changes)
    messages.refuse(opened.translated, spec, still_open)
    notes += messages.notes(spec, still_open)
    matching = match(spec, opened.translated, strict=strict, inferred=True, notes=notes)
    messages.warn_of(opened.translated, spec, still_open)
    from reszoo.arch.build import build
    from reszoo.arch.loops import build_with_loops

    head = opened.translated.head if strict is True else ()
    if head and loops:
        got, hint = f"loops for a file with a head of {len(head)} layers", "loops=False, or classes=N for a new head"
        raise ReszooError(opened.translated.checkpoint.path.name, got=got, expected="one classifier", hint=hint)
    stock = spec.replace(head={"pooling": "avg"}) if head else spec
    model = build_with_loops(stock, recompute=recompute) if loops else build(stock)
    place(model, matching, fresh=True)
    if head:
        activation = spec.head.activation if opened.translated.spec is not None else "linear"
        model = with_head(model, head, activation=activation)
    remember(model, Origin(matching.report, opened.record, opened.translated.checkpoint))
    return Loaded(model, matching.report)


def _without_head(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name not in ("classes", "head")}


def _check_complete(spec: NetSpec, translated: Translated) -> None:
    """Checks that a network without a classifier has all its stages.

    Raises:
        ReszooError: it has fewer than any published network with such a stem.
    """
    usual = 4 if spec.stem.kernel > 3 else 3
    is_own = infer.contains_spec(translated) or translated.dialect.layout == "keras"
    if spec.head.classes is None and not translated.head and not is_own and len(spec.stages) < min(usual, 3):
        got = f"{len(spec.stages)} stages and no classifier: a part of a network"
        raise ReszooError(translated.checkpoint.path.name, got=got, hint="include_top=False loads it as it is")


def pretrained(
    spec: NetSpec,
    weights: str | Path,
    *,
    strict: Strict = True,
    input_tensor: KerasTensor = None,
    prefix: str = "",
    builder: Callable[[NetSpec], KerasModel] | None = None,
) -> KerasModel:
    """Returns a model with weights. Adapted and new variables are logged.

    Args:
        spec: the network.
        weights: see `create`.
        strict: see `load_weights`.
        input_tensor: see `create`.
        prefix: see `create`.
        builder: returns the model of a spec; by default the stock model.

    Raises:
        ReszooError: there are no such weights, or they belong to another network; no model is built then.
    """
    opened = open_weights(weights, spec)
    matching = match(spec, opened.translated, strict=strict)
    messages.warn_of_groups(opened.translated, spec)
    from reszoo.arch.build import build

    model = builder(spec) if builder else build(spec, input_tensor=input_tensor, prefix=prefix)
    place(model, matching, fresh=True)
    remember(model, Origin(matching.report, opened.record, opened.translated.checkpoint))
    if matching.report.adapted or matching.report.new:
        logging.getLogger("reszoo").warning(matching.report)
    return model


def place(model: KerasModel, matching: Match, *, fresh: bool = False) -> None:
    """Assigns matched tensors to the variables of a model.

    Args:
        model: a model of the spec that was matched.
        matching: the tensors.
        fresh: whether the model may be left incomplete on failure. Tensors are then read one at a time, so that only
            one of them is in memory.

    Raises:
        BrokenFileError: a tensor cannot be read; the model is unchanged unless it is fresh.
    """
    looped = hasattr(model, "looped_spec")
    variables = {f"{name}/{stack.name}": (stack, row) for name, _, stack, row in model.rows()} if looped else {}
    for name, layer in () if looped else layers_by_name(model).items():
        variables |= {f"{name}/{weight.name}": weight for weight in layer.weights}
    absent = [target for target in matching.tensors if target not in variables]
    if absent:
        raise ReszooError(model.name, got=f"no variable {absent[0]}", expected="an unmodified model built by reszoo")
    # Largest first: the memory of replaced values is free for the next ones.
    tensors = dict(sorted(matching.tensors.items(), key=lambda item: -item[1].size))
    if not fresh:
        arrays = {target: tensor.read() for target, tensor in tensors.items()}
        tensors = {target: Tensor(tensors[target].shape, "", partial(arrays.pop, target)) for target in tensors}
    not_finite, negative = [], []

    def arrays_of() -> Iterator[tuple[Any, Array]]:
        for target, tensor in tensors.items():
            array = tensor.read()
            if not _is_finite(array):
                not_finite.append(target)
            elif target.endswith("/moving_variance") and (array < 0).any():
                negative.append(target)
            yield variables[target], _without_bfloat16(array)

    if looped:
        model.assign((stack, row, array) for (stack, row), array in arrays_of())
    else:
        for variable, array in arrays_of():
            variable.assign(array)
    for targets, fault in ((not_finite, "contain NaN or infinity"), (negative, "contain negative variances")):
        if targets:
            names = ", ".join(targets[:3]) + (", ..." if len(targets) > 3 else "")
            warnings.warn(f"{matching.report.file}: {len(targets)} tensors {fault} ({names})", stacklevel=3)


def _is_finite(array: Array) -> bool:
    import numpy as np

    return array.dtype.kind in "iub" or bool(np.isfinite(array).all())


def _without_bfloat16(array: Array) -> Array:
    """Returns the array in a type that every backend accepts; bfloat16 is an extension of NumPy."""
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
