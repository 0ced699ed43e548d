"""The graph in the configuration of a Keras model, of Keras 1, 2 or 3, as steps in the words of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reszoo.errors import ReszooError
from reszoo.weights.keras_layers import Config, UnusualSetting, activation_settings, description, pads_channels

Key = tuple[str, int]
"""A call of a layer: its name and the number of the call."""

IDENTITIES = (
    *("Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout", "ActivityRegularization"),
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
    *("RandomCrop", "Identity", "StopGradient"),
)
"""Classes of layers that change nothing in inference."""

NORMALIZERS = ("Rescaling", "Normalization")
"""Classes of layers that scale images; in front of the network they are left out and named."""

LIMIT = 200_000
"""Most visits of layers of a graph: two for each, more for nested models that are called several times."""


class Step(NamedTuple):
    """One operation of the graph."""

    kind: str
    """In the words of `Op.kind`; besides them `flatten`, `sequence` and `zero_pad`, and `input`."""
    name: str
    """Name of the layer, under which its weights are stored."""
    inputs: tuple[int, ...]
    """Numbers of the steps that it reads."""
    settings: dict[str, Any]


class UnsupportedLayerError(ReszooError):
    """A layer that no network of the zoo has."""


def steps_of(config: Config, where: str) -> tuple[Step, ...]:
    """Returns the operations of a Keras model in an order in which each follows its inputs.

    Layers that change nothing in inference are left out; an activation inside another layer becomes a step.

    Args:
        config: `{"class_name": "Functional", "config": {"layers": [...]}}`, as in `.keras` and HDF5 files.
        where: beginning of error messages.

    Raises:
        UnsupportedLayerError: no network of the zoo has one of the layers.
        ReszooError: the configuration is not that of a model with one input and one output.
    """
    reader = _Reader(where)
    try:
        output = reader.model(config, None)
    except ReszooError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        got = f"an invalid configuration of a Keras model ({type(error).__name__}: {error})"
        raise ReszooError(where, got=got) from None
    steps = _with_gates(_reachable(reader.steps, output))
    return _reachable([*steps], len(steps) - 1)


def _with_gates(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Returns the steps with the layers of gates in the form of the plan, which changes no shape between them.

    Those of squeeze-and-excitation are convolutions of 1x1 with a bias. A product names the widths of these, or the
    kernel of a convolution along the channels, and reads the map first.
    """
    result = [*steps]
    for number, step in enumerate(steps):
        if step.kind != "scale" or len(step.inputs) != 2:
            continue
        source, gate = sorted(step.inputs)
        layers, place = [], gate
        while steps[place].kind in _IN_GATES:
            layers += [place] if steps[place].kind in _WEIGHTED else []
            place = steps[place].inputs[0]
        kinds = [steps[each].kind == "channel_conv" for each in layers]
        if steps[place].kind != "global_pool" or steps[place].inputs != (source,) or kinds not in ([True], [False] * 2):
            continue
        for each in layers:
            inputs = tuple(place if steps[one].kind in _SHAPES else one for one in steps[each].inputs)
            result[each] = steps[each]._replace(inputs=inputs)
            if not any(kinds):
                settings = {**_SINGLE, **steps[each].settings, "bias": True}
                result[each] = result[each]._replace(kind="conv", settings=settings)
        widths = tuple(steps[each].settings.get("width") for each in layers)
        settings = {"reach": steps[layers[0]].settings["kernel"]} if any(kinds) else {"squeeze": widths}
        result[number] = step._replace(inputs=(source, gate), settings=settings)
    return tuple(result)


_SHAPES = ("flatten", "sequence")
_WEIGHTED = ("dense", "conv", "channel_conv")
_IN_GATES = ("act", *_SHAPES, *_WEIGHTED)
"""Kinds of steps between the pool and the product of a gate."""

_SINGLE = {"kernel": 1, "stride": 1, "padding": "valid", "dilation": 1, "groups": 1, "gate": True}
"""Settings of a dense layer in a gate, as those of a convolution; the first ones of a convolution are its own."""


def _reachable(steps: list[Step], output: int) -> tuple[Step, ...]:
    needed, waiting = {output}, [output]
    while waiting:
        for number in steps[waiting.pop()].inputs:
            if number not in needed:
                needed.add(number)
                waiting.append(number)
    kept = {number: place for place, number in enumerate(sorted(needed))}
    return tuple(steps[old]._replace(inputs=tuple(kept[each] for each in steps[old].inputs)) for old in kept)


class _Reader:
    """Collects the steps of a model and of the models inside it."""

    def __init__(self, where: str):
        self.where = where
        self.steps: list[Step] = []
        self._visits = 0

    def model(self, config: Config, source: int | None) -> int:
        """Adds the steps of a model that reads a step (None for the input of the file); returns its last one."""
        inner = config["config"]
        if isinstance(inner, list):
            # Sequential in Keras 1 and early Keras 2.
            inner = {"layers": inner}
        layers = inner["layers"]
        if config.get("class_name") == "Sequential" or "output_layers" not in inner:
            for layer in layers:
                source = self.layer(layer, [] if source is None else [source])
            if source is None:
                raise ValueError("no layers")
            return source
        return self._functional(layers, inner, source)

    def _functional(self, layers: list[Config], inner: Config, source: int | None) -> int:
        ends = [*references(inner["output_layers"])]
        starts = [*references(inner["input_layers"])]
        if len(ends) != 1 or len(starts) != 1:
            got = f"a model with {len(starts)} inputs and {len(ends)} outputs"
            raise ReszooError(self.where, got=got, expected="one of each")
        waiting = {(layer["config"]["name"], call): (layer, node) for layer in layers for call, node in _calls(layer)}
        # Keras counts the calls of a nested model from its own construction on: one that is called once has any number.
        single = {name: (name, call) for name, call in waiting if (name, call + 1) not in waiting and call == 0}
        ends = [key if key in waiting else single.get(key[0], key) for key in ends]
        done: dict[Key, int] = {}
        # Layers are usually listed after their inputs, so that one pass is enough.
        while ends[0] not in done:
            before = len(done)
            for key, (layer, node) in [*waiting.items()]:
                self._visit()
                inputs = [
                    each if each in waiting or each in done else single.get(each[0], each) for each in references(node)
                ]
                if key == starts[0] and source is not None:
                    done[key] = source
                elif all(each in done for each in inputs):
                    done[key] = self.layer(layer, [done[each] for each in inputs])
                else:
                    continue
                del waiting[key]
            if len(done) == before:
                raise ValueError(f"no layer {ends[0][0]!r} behind the input")
        return done[ends[0]]

    def _visit(self) -> None:
        """Counts the layers, those of a nested model at every call and those listed before their inputs again."""
        self._visits += 1
        if self._visits > LIMIT:
            raise ReszooError(self.where, got=f"a model of more than {LIMIT:,} layers and calls")

    def layer(self, layer: Config, inputs: list[int]) -> int:
        """Adds the steps of one layer; returns the last one."""
        self._visit()
        kind, config = layer["class_name"], layer["config"]
        if kind in ("Functional", "Model", "Sequential") or "layers" in config or isinstance(config, list):
            if len(inputs) > 1:
                raise ReszooError(self.where, got=f"a model {config['name']!r} of several inputs", expected="one")
            return self.model(layer, inputs[0] if inputs else None)
        name = str(config["name"])
        if not inputs and kind != "InputLayer":
            # A Sequential without an input layer: its first layer has the shape.
            inputs = [self._add("input", name, (), shape=config.get("batch_input_shape") or [None] * 4)]
        if kind == "InputLayer":
            if inputs:
                return inputs[0]
            return self._add("input", name, (), shape=config.get("batch_shape") or config["batch_input_shape"])
        if kind in IDENTITIES or (kind == "Reshape" and (_is_flat(config) or self._is_pixel(config, inputs[0]))):
            return inputs[0]
        if kind == "Reshape" and [*config["target_shape"]][1:] == [1] and self.steps[inputs[0]].kind == "global_pool":
            return self._add("sequence", name, tuple(inputs))
        if kind in NORMALIZERS and self.steps[inputs[0]].kind == "input":
            self.steps[inputs[0]].settings.setdefault("normalizers", []).append(name)
            return inputs[0]
        is_first = config.get("data_format") == "channels_first" and not pads_channels(kind, config)
        if is_first or config.get("dim_ordering") == "th":
            order = "channels first, as in Theano" if "dim_ordering" in config else "channels first"
            raise UnsupportedLayerError(self.where, got=f"layer {name!r} with {order}", expected="channels last")
        try:
            step, settings = description(kind, config)
        except UnusualSetting as unusual:
            got = f"layer {name!r} with {unusual}, which no network of the zoo has"
            raise UnsupportedLayerError(self.where, got=got) from None
        if step is None:
            if kind == "Activation":
                return self._activation(config.get("activation"), name, inputs[0])
            got = f"layer {name!r} of class {kind}{_detail(config)}, which no network of the zoo has"
            raise UnsupportedLayerError(self.where, got=got)
        activation = settings.pop("activation", None)
        number = self._add(step, name, tuple(inputs), **settings)
        return number if activation is None else self._activation(activation, name, number)

    def _is_pixel(self, config: Config, number: int) -> bool:
        """Whether a layer gives features the shape of a map of one pixel."""
        while self.steps[number].kind == "act":
            number = self.steps[number].inputs[0]
        is_single = [*(config.get("target_shape") or ())][:-1] == [1, 1]
        return is_single and self.steps[number].kind in ("global_pool", "dense", "channel_conv")

    def _activation(self, activation: Any, name: str, number: int) -> int:
        settings = activation_settings(activation)
        if settings is None:
            got = f"activation {_text(activation)!r} of layer {name!r}, which no network of the zoo has"
            raise UnsupportedLayerError(self.where, got=got)
        return number if settings["variant"] == "linear" else self._add("act", name, (number,), **settings)

    def _add(self, kind: str, name: str, inputs: tuple[int, ...], **settings: Any) -> int:
        if kind == "act" and settings["variant"] == "linear":
            return inputs[0]
        self.steps.append(Step(kind, name, inputs, settings))
        return len(self.steps) - 1


def _calls(layer: Config) -> Iterator[tuple[int, Any]]:
    nodes = layer.get("inbound_nodes") or [[]]
    return enumerate(nodes)


def references(node: Any) -> Iterator[Key]:
    """Yields the calls whose outputs a node refers to, in Keras 3 (keras_history) and before (lists)."""
    if isinstance(node, Mapping):
        history = node.get("config", {}).get("keras_history") if node.get("class_name") == "__keras_tensor__" else None
        if history:
            yield str(history[0]), int(history[1])
            return
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and all(type(each) is int for each in node[1:3]):
            yield node[0], node[1]
            yield from references(node[3:])
            return
        for value in node:
            yield from references(value)


def _is_flat(config: Config) -> bool:
    return list(config.get("target_shape") or ()) == [-1]


def _detail(config: Config) -> str:
    function = config.get("function")
    if config.get("max_value") is not None:
        return f" (at most {config['max_value']})"
    return f" ({function})" if isinstance(function, str) and len(function) < 40 else ""


def _text(activation: Any) -> str:
    return str(activation.get("class_name", "function") if isinstance(activation, Mapping) else activation)[:40]
