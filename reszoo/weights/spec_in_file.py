"""The spec that a file of our own contains: in its metadata, or in the configuration of its Keras model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reszoo.arch.layer_fields import LayerDescription
from reszoo.arch.recover import spec_of_layers
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights.translated import Translated


def spec_in_file(translated: Translated) -> NetSpec:
    """Returns the spec in the metadata of a file, or that of the Keras model in its configuration."""
    config = translated.checkpoint.config
    if isinstance(config.get("reszoo_spec"), str):
        try:
            return NetSpec.model_validate_json(config["reszoo_spec"])
        except ValueError as error:
            raise ReszooError(str(translated.checkpoint.path), got=f"an invalid spec ({error})") from None
    try:
        layers = dict(_layers(config, translated))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        got = f"an invalid configuration of a Keras model ({type(error).__name__}: {error})"
        raise ReszooError(str(translated.checkpoint.path), got=got) from None
    return spec_of_layers(str(config["config"].get("name", "network")), layers)


def _layers(config: Mapping[str, Any], translated: Translated) -> Iterator[tuple[str, LayerDescription]]:
    layers = config["config"]["layers"]
    # A legacy file has no `build_config`: only its input layer has the shape that the first layer needs.
    inputs = [layer["config"].get("batch_shape") for layer in layers if layer["class_name"] == "InputLayer"]
    for layer in layers:
        if "layers" in layer["config"]:
            yield from _layers(layer, translated)
        else:
            name = layer["config"]["name"].removeprefix(translated.prefix)
            shapes = [named.tensor.shape for key, named in translated.tensors.items() if key.startswith(f"{name}/")]
            shape = (layer.get("build_config") or {}).get("input_shape") or next(iter(inputs), None) or [None]
            shape = shape[0] if isinstance(shape[0], list) else shape
            yield name, LayerDescription(layer["class_name"], layer["config"], shapes, tuple(shape[1:]))
