"""Nodes of an ONNX model between features and the maps that they multiply, as in squeeze-and-excitation."""

from __future__ import annotations

from reszoo.weights.formats.checkpoint import constant
from reszoo.weights.formats.onnx_builder import Builder, Node, UnreadableGraphError


def unsqueezed(builder: Builder, node: Node) -> None:
    """Gives features the shape of a map of one pixel, in one step or two."""
    source = node.inputs[0]
    before, axes_before = builder.unsqueezed.get(source, (source, 0))
    axes = builder.numbers(node, 1, "axes")
    count = axes_before + len(axes)
    if not {*axes} <= {2, 3, -1, -2} or count > 2:
        raise UnreadableGraphError(f"an Unsqueeze of the axes {axes}")
    if count < 2:
        builder.unsqueezed[node.outputs[0]] = before, count
    else:
        builder.pixel(node._replace(inputs=(before,)))


def expanded(builder: Builder, node: Node) -> None:
    """Passes a gate by: the product that reads it repeats it over the map anyway."""
    if not builder.is_factor(node.outputs[0]):
        raise UnreadableGraphError(f"an Expand that no product reads ({node.name or node.outputs[0]})")
    builder.same(node)


def sizes(builder: Builder, node: Node) -> None:
    """Notes a shape, or the number of examples if it is the first size alone."""
    if (node.attributes.get("start", 0), node.attributes.get("end")) == (0, 1):
        builder.arrays[node.outputs[0]] = constant((1,), 0, "int64")
    else:
        builder.sizes.add(node.outputs[0])


def one_size(builder: Builder, node: Node) -> None:
    """Notes the number of examples or of channels, which a Reshape to them keeps: it has zeros for them."""
    places = builder.numbers(node, 1, "")
    if node.inputs[0] not in builder.sizes or len(places) != 1 or places[0] not in (0, 1):
        raise UnreadableGraphError(f"the operation Gather ({node.name or node.outputs[0]})")
    builder.arrays[node.outputs[0]] = constant(builder.shape(node.inputs[1]), 0, "int64")
