"""The builders users import, `resnet18` to `tabular_resnet`: one for every entry of the zoo."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reszoo.arch import zoo as networks
from reszoo.arch.change import replace
from reszoo.arch.check import boolean, check
from reszoo.arch.spec import Head, NetSpec
from reszoo.errors import ReszooError, no_attribute
from reszoo.weights.catalogue import records

if TYPE_CHECKING:
    import keras

OWN = "own"
"""Stands for what the network itself has."""


def create(
    model: str | NetSpec,
    /,
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: Any = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = OWN,
    name: str | None = None,
    *,
    features: bool = False,
    prefix: str = "",
    **changes: Any,
) -> keras.Model:
    """Returns a Keras model of stock layers, by the name of a network (or from its spec).

    The arguments up to `name` are those of `keras.applications`, in its order. `changes` are those of
    `NetSpec.replace`: `create("resnet50", depths=[2, 2, 2, 2], stem="cifar")`; `create("my_nets.yaml:wide_thing")`.

    Args:
        model: a name (`reszoo.list_models()`), `file.yaml:name`, or a spec.
        include_top: whether the model ends with the classifier; without it, input height and width may vary.
        weights: None for random initial weights (this default differs from `keras.applications`: nothing is ever
            downloaded unasked); `"imagenet"` or a tag of `reszoo.list_weights(name)`; a file or folder that
            `reszoo.load_weights` reads; `https://...`; `hf://org/repo[@revision]`. With `classes` given the classifier
            is new where the file's has another width; with other channels the first convolution is adapted.
        input_tensor: a Keras tensor to build on.
        input_shape: of one image, in the order of `keras.config.image_data_format()`; `(features,)` for a dense net.
        pooling: `avg`, `max` or None for a feature map, where there is no classifier. Under one it is not used, as in
            `keras.applications`; a network with another pooling there is `head={"pooling": "max"}`.
        classes: width of the classifier; by default the network's own.
        classifier_activation: `softmax`, `sigmoid` (or Keras' functions of these names), None for logits; by default
            the network's own.
        name: of the model; by default the network's.
        features: return the feature maps of all stages instead, as a dict `{"stage1": ..., "stage2": ...}`.
        prefix: of the name of every layer, the input too: Keras wants every name once in a model, so that of two
            networks in one functional model one needs a prefix, such as `left_`.

    Raises:
        ReszooError: impossible arguments, weights that cannot be had, or weights of another network; raised before
            anything is built.
    """
    found = networks.spec(model)
    from reszoo.arch import build

    top = boolean(include_top, where=f"{found.name}.include_top")
    features = boolean(features, where=f"{found.name}.features")
    _check_prefix(prefix, found.name)
    channels_first = build.channels_first() and not found.dense
    given = tuple(input_shape) if isinstance(input_shape, Sequence) else input_shape
    shape = build.shape_of(input_tensor) if input_tensor is not None else given
    if input_tensor is not None and given is not None and given != shape:
        raise ReszooError(
            f"{found.name}.input_shape",
            given=given,
            allowed=f"{shape}, the shape of input_tensor, or None",
        )
    said: dict[str, Any] = {"name": name}
    if shape is not None:
        said["input_shape"] = build.channels_last(shape) if channels_first and isinstance(shape, tuple) else shape
    elif not top and not found.dense:
        said["input_shape"] = (None, None, found.input_shape[-1])
    if top and not features:
        said["classes"] = classes
        if classifier_activation != OWN:
            changes["classifier_activation"] = classifier_activation
        # What is said of pooling is not used under a classifier, as in keras.applications; but a wrong word is one.
        check(Head, {} if pooling is None else {"pooling": pooling}, where=f"{found.name}.head")
    else:
        # What is said of the classifier is not used without one, as in keras.applications.
        said["pooling"] = pooling
        changes["head"] = {**changes.get("head", {}), "classes": None, "pooling": "none"}
    changes |= {argument: value for argument, value in said.items() if value is not None}
    try:
        spec = replace(found, changes, where=found.name, also=_ARGUMENTS)
    except ReszooError as error:
        if channels_first and isinstance(shape, tuple) and error.where == f"{found.name}.input_shape":
            raise _in_order_of_channels_first(error, shape) from None
        raise
    if weights is None:
        network = build.build(spec, input_tensor=input_tensor, prefix=prefix)
    else:
        from reszoo.weights.load import pretrained

        strict: Literal["trunk", True] = "trunk" if classes is not None else True
        network = pretrained(spec, weights, strict=strict, input_tensor=input_tensor, prefix=prefix)
    return build.features(network) if features else network


def _check_prefix(prefix: Any, where: str) -> None:
    # On PyTorch a name of a layer is part of a parameter's, which has no dots.
    if not isinstance(prefix, str) or re.search(r"[/.\s]", prefix):
        raise ReszooError(f"{where}.prefix", given=repr(prefix), allowed="a text without blanks, dots and /")


def _in_order_of_channels_first(error: ReszooError, shape: Any) -> ReszooError:
    """What is wrong with a shape, in the order in which it was given."""
    allowed = str(error.allowed).replace("(height, width, channels)", "(channels, height, width)")
    mend = "Keras is set to channels_first; keras.config.set_image_data_format('channels_last') changes that"
    return ReszooError(error.where, given=shape, allowed=allowed, mend=mend)


def list_models(
    pattern: str = "*",
    *,
    pretrained: bool = False,
    family: str | None = None,
    max_params: float | None = None,
    max_macs: float | None = None,
    zoo: str | Path | None = None,
) -> list[str]:
    """Returns the names of networks that match a shell pattern, stay under the given cost, and have weights.

    Args:
        pattern: such as `resnet*` or `*_cifar`.
        pretrained: only those with published weights (`reszoo.list_weights`).
        family: `imagenet`, `cifar` or `dense`.
        max_params: trainable parameters.
        max_macs: multiply-accumulates at the network's own input size.
        zoo: a YAML file to list instead of ours.

    Raises:
        UnknownNameError: no such family.
    """
    names = networks.list_models(pattern, family=family, max_params=max_params, max_macs=max_macs, zoo=zoo)
    published = {record.model for record in records().values()} if pretrained else set()
    return [name for name in names if not pretrained or name in published]


_ARGUMENTS = tuple(create.__annotations__)


def __getattr__(name: str) -> Any:
    """The builder of a zoo entry: `create` with the name filled in."""
    if name.startswith("_") or name not in networks.builtin().names:
        raise no_attribute(__name__, name, networks.builtin().names)
    builder = globals()[name] = _builder(networks.builtin().entry(name))
    return builder


def __dir__() -> list[str]:
    return [*globals(), *networks.builtin().names]


def _builder(entry: networks.Entry) -> Any:
    import inspect

    def build(*arguments: Any, **named: Any) -> keras.Model:
        return create(entry.name, *arguments, **named)

    build.__name__ = build.__qualname__ = entry.name
    build.__doc__ = (
        f"Returns {entry.name} as a Keras model ({entry.source.ref}).\n\n"
        f"{entry.source.expect and f'{entry.source.expect.params:,} parameters, {entry.source.expect.macs:,} MACs. '}"
        "The arguments are those of `reszoo.create`."
    )
    parameters = list(inspect.signature(create).parameters.values())[1:]
    build.__signature__ = inspect.signature(create).replace(parameters=parameters)  # type: ignore[attr-defined]
    return build
