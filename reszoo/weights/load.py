"""Weights into models: all of a file's plan is carried out, or nothing is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.arch.recover import layers_by_name, spec_of
from reszoo.arch.spec import NetSpec
from reszoo.arch.zoo import spec as changed
from reszoo.config import boolean
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.match import Match, Strict, match
from reszoo.weights.origin import Origin, remember
from reszoo.weights.report import Report
from reszoo.weights.sources import open_weights


class Loaded(NamedTuple):
    """A model made from a checkpoint, and what went where."""

    model: Any
    report: Report


def load_weights(
    model: Any,
    source: str | Path,
    /,
    *,
    strict: Strict = True,
    names: Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
) -> Report:
    """Places a checkpoint's weights in a model and returns what went where.

    Everything is matched, judged and read before the first weight is placed: when this raises, the model is as it was.

    Args:
        model: a model that reszoo built.
        source: a file or folder (see `reszoo.weights.formats.read.read`), `https://...`, `hf://org/repo[@revision]`, or
            published weights: `tv2_in1k`, `resnet50.tv2_in1k`.
        strict: True: every variable gets its tensor and every tensor its place; `trunk`: the classifier may stay
            as initialised; False: what fits is placed, the rest is reported.
        names: a map of our names to theirs where no known library's names are in the file (see `translate`).
        key: of a PyTorch file that wraps several networks, the one to take.

    Raises:
        ReszooError: the file is unreadable, or holds another network than the model.
    """
    spec = spec_of(model)
    opened = open_weights(source, spec, names=names, key=key)
    matched = match(spec, opened.found, strict=strict)
    place(model, matched)
    remember(model, Origin(matched.report, opened.record, opened.found.checkpoint))
    return matched.report


def from_checkpoint(
    source: str | Path,
    /,
    *,
    include_top: bool = True,
    names: Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
    **changes: Any,
) -> Loaded:
    """Returns the network that a checkpoint holds as a model with its weights, and the report of it.

    Kind of blocks, depths, widths, stem, classes, groups and shortcuts are read off names and shapes; what these do not
    tell is as the library that wrote the file has it (`reszoo.weights.infer.specs`). The classifier puts out what that
    library's does: logits, or probabilities for Keras' files. Height and width of the input are open.

    Args:
        source: see `load_weights`; published weights by their whole name.
        include_top: whether the model ends with the classifier.
        names: see `load_weights`.
        key: see `load_weights`.
        changes: what you know better, as in `NetSpec.replace`: `input_shape=(224, 224, 3)`, `shortcut="none"`.
            With other `classes` the classifier is new; with other channels the first convolution is adapted.

    Raises:
        ReszooError: the file is unreadable, or no network of the zoo has such weights.
    """
    top = boolean(include_top, where="from_checkpoint.include_top")
    opened = open_weights(source, names=names, key=key)
    if not top:
        changes["head"] = {"classes": None, "pooling": "none"}
    spec = changed(infer.specs(opened.found)[0], **changes)
    strict: Strict = "trunk" if {"classes", "head"} & {*changes} else True
    matched = match(spec, opened.found, strict=strict, inferred=True)
    from reszoo.arch.build import build

    model = build(spec)
    place(model, matched, fresh=True)
    remember(model, Origin(matched.report, opened.record, opened.found.checkpoint))
    return Loaded(model, matched.report)


def pretrained(
    spec: NetSpec, weights: str | Path, *, strict: Strict = True, input_tensor: Any = None, prefix: str = ""
) -> Any:
    """Returns a network with weights; what is adapted or new is logged.

    Raises:
        ReszooError: there are no such weights, or they belong to another network; nothing is built then.
    """
    opened = open_weights(weights, spec)
    matched = match(spec, opened.found, strict=strict)
    from reszoo.arch.build import build

    model = build(spec, input_tensor=input_tensor, prefix=prefix)
    place(model, matched, fresh=True)
    remember(model, Origin(matched.report, opened.record, opened.found.checkpoint))
    if matched.report.adapted or matched.report.new:
        logging.getLogger("reszoo").warning(matched.report)
    return model


def place(model: Any, matched: Match, *, fresh: bool = False) -> None:
    """Carries a plan of placement out.

    Args:
        model: the model that the plan was made for.
        matched: the plan.
        fresh: the model is given up if this fails: then tensors are read one at a time, and memory holds one of them
            instead of all.

    Raises:
        BrokenFileError: a tensor cannot be read; unless it is fresh, the model is as it was.
    """
    layers = layers_by_name(model).items()
    variables = {f"{name}/{weight.name}": weight for name, layer in layers for weight in layer.weights}
    absent = [target for target in matched.tensors if target not in variables]
    if absent:
        raise ReszooError(model.name, got=f"no variable {absent[0]}", expected="a model that reszoo built, unchanged")
    # The largest first: what one replaces leaves room for the next.
    tensors = dict(sorted(matched.tensors.items(), key=lambda item: -item[1].size))
    if not fresh:
        held = {target: tensor.read() for target, tensor in tensors.items()}
        tensors = {target: Tensor(tensors[target].shape, "", partial(held.pop, target)) for target in tensors}
    not_finite = []
    for target, tensor in tensors.items():
        array = tensor.read()
        if not _finite(array):
            not_finite.append(target)
        variables[target].assign(_plain(array))
    if not_finite:
        named = ", ".join(not_finite[:3]) + (", ..." if len(not_finite) > 3 else "")
        message = f"{matched.report.file}: {len(not_finite)} tensors hold NaN or infinity ({named})"
        warnings.warn(message, stacklevel=3)


def _finite(array: Any) -> bool:
    import numpy as np

    return array.dtype.kind in "iub" or bool(np.isfinite(array).all())


def _plain(array: Any) -> Any:
    """In a type that every backend takes: bfloat16 is NumPy's only by an extension."""
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
