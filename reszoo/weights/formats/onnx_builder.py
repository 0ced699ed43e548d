"""The layers of a Keras model, collected from the nodes of an ONNX model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from reszoo.weights.formats.checkpoint import Tensor, constant


class Node(NamedTuple):
    """One operation."""

    operation: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Graph(NamedTuple):
    """A model: its operations in order, and its arrays by name."""

    nodes: list[Node]
    arrays: dict[str, Tensor]
    inputs: list[tuple[str, tuple[int | None, ...]]]
    outputs: list[tuple[str, tuple[int | None, ...]]]


class UnreadableGraphError(Exception):
    """A node that no network of the zoo has."""


class Builder:
    """Collects layers; every value of the graph is the output of one of them, or an array."""

    def __init__(self, graph: Graph):
        self.layers: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self.arrays = dict(graph.arrays)
        self._graph = graph
        self._values: dict[str, str] = {}
        self._layers: dict[str, dict[str, Any]] = {}
        self._sides: dict[str, int | None] = {}
        self._times: Counter[str] = Counter()
        self._channels_last: set[str] = set()
        self.slices: dict[str, tuple[str, int, int]] = {}
        """Value -> what it is a slice of, along one side, with which step."""
        self.sizes: set[str] = set()
        """Values that are shapes of maps."""
        self.unsqueezed: dict[str, tuple[str, int]] = {}
        """Value -> features that it is, with how many more axes of one."""
        self._read_otherwise = {name for node in graph.nodes if node.operation != "Mul" for name in node.inputs}
        self._readers: dict[str, int] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._readers[name] = self._readers.get(name, 0) + 1

    def input(self, name: str, shape: tuple[int | None, ...]) -> None:
        if len(shape) != 4:
            raise UnreadableGraphError(f"an input of shape {shape}")
        # Images have few channels; a model converted from Keras may have them last and transpose.
        transposes = any(node.operation == "Transpose" and name in node.inputs for node in self._graph.nodes)
        last = shape if transposes else (shape[0], *shape[2:], shape[1])
        self._add_layer("InputLayer", "input", (), {"batch_shape": list(last)})
        self._values[name] = "input"
        self.place_channels(name, last=transposes)
        self._sides["input"] = last[1] if last[1] == last[2] else None

    def place_channels(self, value: str, *, last: bool) -> None:
        """Notes whether the channels of a map are its last axis, or the second one."""
        (self._channels_last.add if last else self._channels_last.discard)(value)

    def channel_axis(self, value: str) -> int:
        """Returns the axis of a map's channels in the file."""
        return 3 if value in self._channels_last else 1

    def side(self, value: str) -> int | None:
        """Returns the side of a square map, where known."""
        return self._sides.get(self.layer_of(value))

    def is_whole(self, value: str, stride: int) -> bool:
        """Returns whether the side of a map is known to be a multiple of a stride."""
        side = self.side(value)
        return side is not None and side % stride == 0

    def is_sigmoid_of(self, value: str, source: str) -> bool:
        """Returns whether a value is the sigmoid of another one."""
        layer = self._layers[self.layer_of(value)]
        return layer["config"].get("activation") == "sigmoid" and self._sources(layer) == [self.layer_of(source)]

    def is_factor(self, value: str) -> bool:
        """Returns whether only products read a value."""
        return value not in self._read_otherwise

    def pixel(self, node: Node, width: int = -1) -> None:
        """Gives features the shape of a map of one pixel."""
        self.layer("Reshape", node, target_shape=[1, 1, width])

    def layer_of(self, value: str) -> str:
        """Returns the layer whose output a value is."""
        if value in self.slices:
            raise UnreadableGraphError(f"the value {value[:80]!r}, a slice along one side of a map")
        if value not in self._values:
            raise UnreadableGraphError(f"the value {value[:80]!r}, which no node of the network computes")
        return self._values[value]

    def layer(self, kind: str, node: Node, name: str = "", sources: tuple[str, ...] = (), **config: Any) -> str:
        """Adds a layer and returns its name; the output of the node becomes its output."""
        unique = name = (name or node.name.strip("/") or node.outputs[0]).replace("/", ".")
        while unique in self._layers:
            self._times[name] += 1
            unique = f"{name}_{self._times[name] + 1}"
        sources = sources or (self.layer_of(node.inputs[0]),)
        self._add_layer(kind, unique, sources, config)
        self._sides[unique] = _side(self._sides.get(sources[0]), config)
        self._values[node.outputs[0]] = unique
        self.place_channels(node.outputs[0], last=node.operation != "Conv" and node.inputs[0] in self._channels_last)
        return unique

    def same(self, node: Node) -> None:
        """The node changes nothing."""
        self._values[node.outputs[0]] = self.layer_of(node.inputs[0])
        self.place_channels(node.outputs[0], last=node.inputs[0] in self._channels_last)

    def weight(self, layer: str, variable: str, array: str, axes: tuple[int, ...] | None = None) -> None:
        """Keeps an array as a weight of a layer."""
        tensor = self._array(array)
        self.tensors[f"{layer}/{variable}"] = tensor.permuted(axes) if axes else tensor

    def bias(self, node: Node) -> bool:
        """Makes an array that is added to a convolution or dense layer its bias; returns whether it is one."""
        added = [name for name in node.inputs if name in self.arrays]
        source = next((name for name in node.inputs if name not in self.arrays), "")
        if not added or not source:
            return False
        layer = self._layers[self.layer_of(source)]
        width = layer["config"].get("filters", layer["config"].get("units"))
        tensor = self.arrays[added[0]]
        axes, axis = (4, self.channel_axis(source)) if layer["class_name"] == "Conv2D" else (2, 1)
        # A vector is added along the last axis, whatever its length.
        along = (*(1 for _ in range(axes - len(tensor.shape))), *tensor.shape)
        is_bias = along == tuple(width if each == axis else 1 for each in range(axes))
        if width is None or layer["config"]["use_bias"] or not is_bias or self._readers[source] > 1:
            raise UnreadableGraphError(f"an array of shape {tensor.shape} added to {source!r}")
        self.place_channels(node.outputs[0], last=axis == 3)
        layer["config"]["use_bias"] = True
        self.tensors[f"{layer['config']['name']}/bias"] = tensor.reshaped((width,))
        self._values[node.outputs[0]] = layer["config"]["name"]
        return True

    def unfold_norms(self) -> None:
        """Gives every convolution with a bias and no norm behind it a norm that only adds it, if the model has norms.

        Exporters fold norms into the convolutions before them, which leaves those of pre-activation behind an addition.
        """
        norms = [layer for layer in self.layers if layer["class_name"] == "BatchNormalization"]
        normed = {source for layer in norms for source in self._sources(layer)}
        readers: dict[str, list[dict[str, Any]]] = {}
        for layer in self.layers:
            for source in {*self._sources(layer)}:
                readers.setdefault(source, []).append(layer)
        pooled: set[str] = set()
        for layer in [*self.layers] if norms else []:
            config = layer["config"]
            name = config["name"]
            if layer["class_name"].startswith("Global") or pooled.issuperset(self._sources(layer) or [""]):
                # The convolutions of a gate have a bias and no norm.
                pooled.add(name)
            if layer["class_name"] != "Conv2D" or not config["use_bias"] or name in normed | pooled:
                continue
            config["use_bias"] = False
            norm = f"{name}_norm"
            for reader in readers.get(name, ()):
                reader["inbound_nodes"] = [
                    [[norm if source == name else source, *rest] for source, *rest in node]
                    for node in reader["inbound_nodes"]
                ]
            bias = self.tensors.pop(f"{name}/bias")
            epsilon = norms[0]["config"]["epsilon"]
            self._add_layer("BatchNormalization", norm, (name,), norms[0]["config"] | {"name": norm})
            values = (("gamma", (1 + epsilon) ** 0.5), ("moving_mean", 0.0), ("moving_variance", 1.0))
            self.tensors |= {f"{norm}/{variable}": constant(bias.shape, value) for variable, value in values}
            self.tensors[f"{norm}/beta"] = bias

    @staticmethod
    def _sources(layer: Mapping[str, Any]) -> list[str]:
        return [source for node in layer["inbound_nodes"] for source, *_ in node]

    def numbers(self, node: Node, place: int, name: str) -> list[int]:
        """Returns the whole numbers that are an attribute of a node, or one of its inputs in later versions."""
        value = node.attributes.get(name)
        if value is None and len(node.inputs) > place and node.inputs[place]:
            value = self._array(node.inputs[place]).read().reshape(-1).tolist()
        return [int(each) for each in value or []]

    def scalar(self, node: Node, place: int, name: str) -> float:
        """Returns a number that is an attribute of a node, or one of its inputs in later versions; zero without it."""
        value = node.attributes.get(name)
        if value is None and len(node.inputs) > place and node.inputs[place]:
            value = self._array(node.inputs[place]).read().reshape(-1)[0]
        return float(value or 0)

    def zeros(self, array: str, axis: int) -> int:
        """Returns the length of an array of zeros along an axis of maps; zero if it has other numbers."""
        tensor = self._array(array)
        return tensor.shape[axis] if len(tensor.shape) == 4 and not tensor.read().any() else 0

    def shape(self, array: str) -> tuple[int, ...]:
        return self._array(array).shape

    def _array(self, name: str) -> Tensor:
        if name not in self.arrays:
            raise UnreadableGraphError(f"weights {name[:80]!r} that are computed")
        return self.arrays[name]

    def _add_layer(self, kind: str, name: str, sources: tuple[str, ...], config: Mapping[str, Any]) -> None:
        nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
        self._layers[name] = {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}
        self.layers.append(self._layers[name])


def _side(side: int | None, config: Mapping[str, Any]) -> int | None:
    """Returns the side of a square map after a layer."""
    if side is None or "padding" not in config or config.get("data_format") == "channels_first":
        # Zeros in place of further channels leave the sides as they are.
        return side
    if "strides" not in config:
        return int(side + 2 * config["padding"])
    stride, window = config["strides"][0], (config.get("kernel_size") or config["pool_size"])[0]
    reach = (window - 1) * config.get("dilation_rate", [1])[0]
    return int(-(-side // stride) if config["padding"] == "same" else (side - reach - 1) // stride + 1)
