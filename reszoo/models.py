"""The model builders, `resnet18` to `tabular_resnet`: one for every entry of the zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from reszoo.arch import zoo as networks
from reszoo.arch.recover import spec_of, stock_model
from reszoo.arch.runs import has_runs, warn_of_no_runs
from reszoo.arch.spec import Head, NetSpec, replace
from reszoo.config import NAME, boolean, check
from reszoo.errors import ReszooError, no_attribute
from reszoo.types import KerasModel, Tensor
from reszoo.weights.catalogue import records

NETWORK_DEFAULT = "own"
"""Sentinel: use the network's own activation."""


class Builder(Protocol):
    """Builds one network of the zoo; the arguments are those of `create`."""

    def __call__(
        self,
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | None = NETWORK_DEFAULT,
        name: str | None = None,
        *,
        features: bool = False,
        prefix: str = "",
        loops: bool = False,
        recompute: bool | int = False,
        **changes: object,
    ) -> KerasModel:
        """Returns the Keras model."""


def create(
    model: str | NetSpec,
    /,
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: Tensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = NETWORK_DEFAULT,
    name: str | None = None,
    *,
    features: bool = False,
    prefix: str = "",
    loops: bool = False,
    recompute: bool | int = False,
    **changes: object,
) -> KerasModel:
    """Returns a Keras model of stock layers, from the name or the spec of a network.

    The arguments up to `name` are those of `keras.applications`, in its order.

    Example:
        >>> import reszoo
        >>> model = reszoo.create("resnet50", depths=[1, 1, 1, 1], stem="cifar", input_shape=(32, 32, 3), classes=10)
        >>> model.output_shape
        (None, 10)

    Args:
        model: a name (`reszoo.list_models()`), `file.yaml:name`, or a spec.
        include_top: whether the model ends with the classifier; without it, input height and width may vary.
        weights: None for random initial weights (unlike in `keras.applications` this is the default: nothing is
            downloaded unless requested); `"imagenet"` or a tag of `reszoo.list_weights(name)`; a file or folder that
            `reszoo.load_weights` reads; `https://...`; `hf://org/repo[@revision]`. If `classes` is set and differs from
            the file, the classifier is new; for other input channels the first convolution is adapted.
        input_tensor: a Keras tensor to build on.
        input_shape: shape of one image, in the order of `keras.config.image_data_format()`; `(features,)` for a dense
            net.
        pooling: `avg`, `max` or None for a feature map, if there is no classifier. With a classifier it is ignored, as
            in `keras.applications`; use `head={"pooling": "max"}` to change the pooling before the classifier.
        classes: width of the classifier; by default that of the network.
        classifier_activation: `softmax`, `sigmoid` (or the Keras functions of these names), None for logits; by default
            that of the network.
        name: name of the model; by default that of the network.
        features: whether to return the feature maps of all stages instead, as a dict
            `{"stage1": ..., "stage2": ...}`.
        prefix: prefix of all layer names, including the input. Keras requires unique names in a model, so with two
            networks in one functional model one needs a prefix, such as `left_`.
        loops: whether equal blocks in a row run as a loop over stacked weights: the same numbers, but a network of
            1,000 layers starts to train in seconds (see the guide "A thousand layers"). `save` writes the stock model.
        recompute: with loops, whether only the input of every group of blocks is kept for the backward pass, which
            runs the blocks again: less memory, more time. True for groups of about the square root of the number of
            blocks, or the number of blocks in a group.
        **changes: as for `NetSpec.replace`.

    Raises:
        ReszooError: invalid arguments, unavailable weights, or weights of another network; raised before anything is
            built.
    """
    base = networks.spec(model)
    from reszoo.arch import build

    top = boolean(include_top, where=f"{base.name}.include_top")
    features = boolean(features, where=f"{base.name}.features")
    loops = boolean(loops, where=f"{base.name}.loops")
    unlooped = {"features": features, "prefix": bool(prefix), "input_tensor": input_tensor is not None}
    _check_loops(loops, recompute, base.name, **unlooped)
    _check_prefix(prefix, base.name)
    channels_first = build.channels_first() and not base.dense
    argument = tuple(input_shape) if isinstance(input_shape, list) else input_shape
    shape = build.shape_of(input_tensor) if input_tensor is not None else argument
    if input_tensor is not None and argument is not None and argument != shape:
        expected = f"{shape}, the shape of input_tensor, or None"
        raise ReszooError(f"{base.name}.input_shape", got=argument, expected=expected)
    settings: dict[str, Any] = {"name": name}
    if shape is not None:
        settings["input_shape"] = build.channels_last(shape) if channels_first and isinstance(shape, tuple) else shape
    elif not top and not base.dense:
        settings["input_shape"] = (None, None, base.input_shape[-1])
    if top and not features:
        settings["classes"] = classes
        if classifier_activation != NETWORK_DEFAULT:
            changes["classifier_activation"] = classifier_activation
        # With a classifier `pooling` is ignored, as in keras.applications, but an unknown word is still an error.
        check(Head, {} if pooling is None else {"pooling": pooling}, where=f"{base.name}.head")
    else:
        # Without a classifier its arguments are ignored, as in keras.applications.
        settings["pooling"] = pooling
        head = changes.get("head", {})
        head = head.model_dump() if isinstance(head, Head) else head
        changes["head"] = {**head, "classes": None, "pooling": "none"} if isinstance(head, Mapping) else head
    changes |= {field: value for field, value in settings.items() if value is not None}
    try:
        spec = replace(base, changes, where=base.name, also=_ARGUMENTS)
    except ReszooError as error:
        if channels_first and isinstance(shape, tuple) and error.where == f"{base.name}.input_shape":
            raise _in_order_of_channels_first(error, shape) from None
        raise
    if classes == 1 and top and not features and spec.head.activation == "softmax":
        hint = "classifier_activation='sigmoid' for two classes, None for a regression"
        got = "softmax of one class, which is always 1"
        raise ReszooError(f"{base.name}.classifier_activation", got=got, hint=hint)
    with_loops = None
    if loops:
        from reszoo.arch.loops import build_with_loops

        with_loops = partial(build_with_loops, recompute=recompute)
    if weights is None:
        network = with_loops(spec) if with_loops else build.build(spec, input_tensor=input_tensor, prefix=prefix)
    else:
        from reszoo.weights.load import pretrained

        strict: Literal["trunk", True] = "trunk" if classes is not None else True
        places: dict[str, Any] = {"input_tensor": input_tensor, "prefix": prefix, "builder": with_loops}
        network = pretrained(spec, weights, strict=strict, **places)
    return build.features(network) if features else network


def rolled(model: KerasModel | str | Path, /, *, recompute: bool | int = False) -> KerasModel:
    """Returns a network with its equal blocks as loops, with the same weights: it trains to the same numbers.

    What the model was compiled with, and the state of its optimizer, are kept. A file gives weights only;
    `rolled(keras.models.load_model(file))` continues its training. A network without equal blocks in a row is returned
    as it is, with a warning.

    Example:
        >>> import reszoo
        >>> model = reszoo.rolled(reszoo.resnet20_cifar(depths=3))
        >>> [run.name for run in model.runs]
        ['stem', 'stage1_from1', 'stage2_from1', 'stage2_from2', 'stage3_from1', 'stage3_from2', 'head']

    Args:
        model: a model that reszoo built, or a file that `from_checkpoint` reads.
        recompute: as in `create`.

    Raises:
        ReszooError: reszoo did not build the model, its layers were changed (synchronized norms are a change), or its
            optimizer would take other steps for stacked weights.
    """
    if isinstance(model, (str, Path)):
        from reszoo.weights.load import from_checkpoint

        return from_checkpoint(model, loops=True, recompute=recompute).model
    from reszoo.arch.loops import Looped

    model, spec = stock_model(model), spec_of(model)
    if has_runs(spec):
        return Looped.of(model, recompute)
    warn_of_no_runs(spec)
    return model


def unrolled(model: KerasModel, /) -> KerasModel:
    """Returns the stock model of a network with loops, with the same weights; any other model as it is.

    What the network was compiled with, and the state of its optimizer, are kept.

    Example:
        >>> import reszoo
        >>> stock = reszoo.unrolled(reszoo.resnet20_cifar(depths=3, loops=True))
        >>> tuple(stock.get_layer("stage2_block3_unit1_conv").kernel.shape)
        (3, 3, 32, 32)

    Args:
        model: a network with loops.
    """
    return stock_model(model)


def _check_loops(loops: bool, recompute: bool | int, where: str, **without: bool) -> None:
    if recompute and not loops:
        raise ReszooError(f"{where}.recompute", got=repr(recompute), expected="loops=True beside it")
    name = next((name for name, is_used in without.items() if is_used), None)
    if loops and name:
        hint = "build on the stock model: reszoo.unrolled(model)"
        raise ReszooError(f"{where}.loops", got=f"loops with {name}", expected="only one of them", hint=hint)


def _check_prefix(prefix: Any, where: str) -> None:
    # On PyTorch a layer's name is part of a parameter's name, which has no dots.
    if not isinstance(prefix, str) or (prefix and not re.match(NAME, prefix)) or "." in prefix:
        expected = "letters and digits of ASCII, _ and -, the first one a letter or a digit"
        raise ReszooError(f"{where}.prefix", got=repr(prefix), expected=expected)


def _in_order_of_channels_first(error: ReszooError, shape: Any) -> ReszooError:
    """The error about a shape, with the axes in channels_first order."""
    expected = str(error.expected).replace("(height, width, channels)", "(channels, height, width)")
    hint = "Keras is set to channels_first; keras.config.set_image_data_format('channels_last') changes that"
    return ReszooError(error.where, got=shape, expected=expected, hint=hint)


def list_models(
    pattern: str = "*",
    *,
    pretrained: bool = False,
    family: str | None = None,
    max_params: float | None = None,
    max_macs: float | None = None,
    zoo: str | Path | None = None,
) -> list[str]:
    """Returns the names of networks that match a shell pattern and cost at most the limits.

    Example:
        >>> import reszoo
        >>> reszoo.list_models("resnet*", family="cifar", max_params=5e5)
        ['resnet20_cifar', 'resnet32_cifar']

    Args:
        pattern: a shell pattern, such as `resnet*` or `*_cifar`.
        pretrained: whether to list only networks with published weights (`reszoo.list_weights`).
        family: `imagenet`, `cifar` or `dense`; None for all.
        max_params: limit on trainable parameters.
        max_macs: limit on multiply-accumulates at the default input size.
        zoo: a YAML file to list instead of the built-in networks.

    Raises:
        UnknownNameError: there is no such family.
        ReszooError: the YAML file or one of its networks is invalid.
    """
    names = networks.list_models(pattern, family=family, max_params=max_params, max_macs=max_macs, zoo=zoo)
    published = {record.model for record in records().values()} if pretrained else set()
    return [name for name in names if not pretrained or name in published]


_ARGUMENTS = tuple(name for name in create.__annotations__ if name not in ("model", "changes", "return"))


def __getattr__(name: str) -> Builder:
    """The builder of a zoo entry: `create` with the name filled in."""
    if name.startswith("_") or name not in networks.builtin().names:
        raise no_attribute(__name__, name, networks.builtin().names)
    builder = globals()[name] = _builder(networks.builtin().entry(name))
    return builder


def __dir__() -> list[str]:
    return [*globals(), *networks.builtin().names]


def _builder(entry: networks.Entry) -> Builder:
    import inspect

    def build(*arguments: Any, **keywords: Any) -> KerasModel:
        return create(entry.name, *arguments, **keywords)

    build.__name__ = build.__qualname__ = entry.name
    expect = entry.source.expect
    counts = f"{expect.params:,} parameters, {expect.macs:,} MACs. " if expect else ""
    title = f"Returns {entry.name} as a Keras model ({entry.source.ref})."
    build.__doc__ = f"{title}\n\n{counts}The arguments are those of `reszoo.create`."
    parameters = list(inspect.signature(create).parameters.values())[1:]
    build.__signature__ = inspect.signature(create).replace(parameters=parameters)  # type: ignore[attr-defined]
    return build
