"""Facts that travel with a network: what it knows of its inputs and classes, in an unused field of a stock layer.

A convolution or dense layer without a bias still has an initializer for one, which Keras stores with the layer and
never calls. The facts are the value of that initializer, as JSON. So they survive whatever keeps the configuration of a
layer (save and load, `clone_model`, `from_config`), and the file opens in plain Keras. A network in which every layer
has a bias keeps its facts for the lifetime of the object only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.arch.recover import layers_of
from reszoo.arch.spec import NetSpec
from reszoo.files import strict_json
from reszoo.types import KerasLayer, KerasModel

Facts = dict[str, Any]
"""Plain data, as in JSON."""
MARK = "reszoo facts: "
"""Beginning of the text that holds the facts."""

CLASSIFIER = "classifier"
"""The fact that names the last layer: under another one, such as a head of the user, the classes are others."""
OF_CLASSIFIER = ("classes", "task", CLASSIFIER)
"""Facts about the classifier; the others are about the inputs."""

_FACTS: WeakKeyDictionary[Any, Facts] = WeakKeyDictionary()
"""Facts of the networks without a layer that can hold them."""


def write_facts(model: KerasModel, facts: Mapping[str, Any], /) -> None:
    """Stores the facts of a network in the network, in place of earlier ones.

    Example:
        >>> import reszoo
        >>> from reszoo.arch.facts import read_facts, write_facts
        >>> model = reszoo.resnet20_cifar(depths=1)
        >>> write_facts(model, {"classes": ["ant", "bee"]})
        >>> read_facts(model)
        {'classes': ['ant', 'bee']}

    Args:
        model: any Keras model with layers.
        facts: plain data.
    """
    from keras import initializers

    facts = {**facts, CLASSIFIER: _last_name(model)}
    text = MARK + strict_json(facts)
    holder = next(_holders(model), None)
    if holder is None:
        _FACTS[model] = facts
    else:
        holder.bias_initializer = initializers.Constant(text)


def read_facts(model: KerasModel, /) -> Facts:
    """Returns the facts of a network, or of the one inside a larger model; empty if there are none."""
    if not hasattr(model, "layers"):
        return {}
    texts = (getattr(holder.bias_initializer, "value", None) for holder in _holders(model))
    stored = (_parsed(text) for text in texts if isinstance(text, str))
    kept = (_FACTS[each] for each in (model, *model.layers) if each in _FACTS)
    return _still_true(next((facts for facts in (*kept, *stored) if facts), {}), _last_name(model))


def facts_in(config: Any, /) -> Facts:
    """Returns the facts in the configuration of a model, as in the `config.json` of a file; empty without facts.

    Example:
        >>> from reszoo.arch.facts import facts_in
        >>> facts_in({"layers": [{"bias_initializer": {"config": {"value": 'reszoo facts: {"task": "regression"}'}}}]})
        {'task': 'regression'}
    """
    stack, facts = [config], Facts()
    while stack and not facts:
        node = stack.pop()
        if isinstance(node, Mapping):
            value = node.get("value")
            facts = _parsed(value) if isinstance(value, str) else {}
            stack.extend(reversed([*node.values()]))
        elif isinstance(node, (list, tuple)):
            stack.extend(reversed(node))
    return _still_true(facts, _last_name_in(config))


def successor(spec: NetSpec, model: KerasModel, /, *, without: Sequence[str] = ()) -> KerasModel:
    """Returns the network of a spec in the place of a model: with its names, dtype policy and facts, and new weights.

    Args:
        spec: the new network.
        model: the network that it replaces.
        without: names of facts that no longer hold.
    """
    from reszoo.arch.build import build, names_of

    with policy_of(model):
        network = build(spec, **names_of(model))
    if facts := read_facts(model):
        write_facts(network, {name: value for name, value in facts.items() if name not in without})
    return network


@contextmanager
def policy_of(model: KerasModel) -> Iterator[None]:
    """Sets Keras' dtype policy to that of a network."""
    import keras

    previous = keras.config.dtype_policy()
    policies = [layer.dtype_policy for layer in layers_of(model) if layer.name.endswith(("_conv", "_dense"))]
    keras.config.set_dtype_policy(policies[0] if policies else previous)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def holds_facts(model: KerasModel, /) -> bool:
    """Returns whether a model has a layer that can hold facts, so that a plain `model.save()` keeps them."""
    return next(_holders(model), None) is not None


def _holders(model: KerasModel) -> Iterator[KerasLayer]:
    """The layers whose initializer of the bias is never called."""
    for layer in layers_of(model) if hasattr(model, "layers") else ():
        if getattr(layer, "use_bias", None) is False and hasattr(layer, "bias_initializer"):
            yield layer


def _last_name(model: KerasModel) -> str:
    return [*layers_of(model)][-1].name if getattr(model, "layers", ()) else ""


def _last_name_in(config: Any) -> str:
    """Name of the last layer in the configuration of a model."""
    try:
        while layers := config["config"].get("layers"):
            config = layers[-1]
        return str(config["config"]["name"])
    except (AttributeError, KeyError, IndexError, TypeError):
        return ""


def _still_true(facts: Facts, last: str) -> Facts:
    """The facts without those about the classifier, if it is another layer now."""
    if facts.get(CLASSIFIER, last) == last:
        return {name: value for name, value in facts.items() if name != CLASSIFIER}
    return {name: value for name, value in facts.items() if name not in OF_CLASSIFIER}


def _parsed(text: str) -> Facts:
    if not text.startswith(MARK):
        return {}
    try:
        facts = json.loads(text.removeprefix(MARK))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
