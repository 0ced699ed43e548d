"""A trained network with what it knows of its data; everything about it is known before Keras is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reszoo.arch.facts import read_facts
from reszoo.data.sources import Scaling
from reszoo.errors import ReszooError
from reszoo.training.metadata import Metadata, metadata_from, read_file
from reszoo.training.run_folder import BEST, FINAL
from reszoo.types import Array, KerasModel
from reszoo.weights.catalogue import find
from reszoo.weights.origin import Origin
from reszoo.weights.preprocessing import scaling_layer

AS_THEY_ARE = Scaling(1.0, (0.0,), (1.0,))
"""The scaling for a network that scales its inputs itself."""


@dataclass(frozen=True)
class Network:
    """A trained network with what it knows of its data."""

    name: str
    metadata: Metadata
    shape: tuple[int | None, ...]
    """Of one input; None where any size fits."""
    load: Callable[[], KerasModel]

    @property
    def takes_images(self) -> bool:
        """Whether the inputs are images."""
        return len(self.shape) == 3

    @property
    def side(self) -> int | None:
        """Side of the images in pixels; for a network of any size, that of its training."""
        return (self.shape[0] or self.metadata.size) if self.takes_images else None

    def __repr__(self) -> str:
        return f"Network({self.name[-60:]!r}: inputs {self.shape}, {self.metadata!r})"


def open_network(file: str | Path | KerasModel, /) -> Network:
    """Returns a network: from a `.keras` file, published weights by name or file, or a Keras model.

    Raises:
        ReszooError: there is no such file or name, or its classes and inputs are unknown.
    """
    model: KerasModel = getattr(file, "model", file)
    if hasattr(model, "layers"):
        metadata = metadata_from(_with_scaling(read_facts(model), bool(scaling_layer(model))), where=str(model.name))
        return Network(str(model.name), metadata, _shape(model.name, model.input_shape), lambda: model)
    if not isinstance(file, (str, Path)):
        raise ReszooError(
            "network", got=type(file).__name__, expected="a .keras file, published weights, a Keras model"
        )
    path = Path(file).expanduser()
    if (path / FINAL).is_file():
        hint = f"{path / BEST}, of the best epoch, or {path / FINAL}, of the last one"
        raise ReszooError(str(path), got="a run folder", expected="a .keras file in it", hint=hint)
    return _keras_file(path) if path.suffix == ".keras" else _weights(file, path)


def check_size(network: Network, size: int | None) -> int | None:
    """Returns the side of the images to read, in pixels.

    Raises:
        ReszooError: the network takes another size only.
    """
    if size is None:
        return network.side
    fixed = network.shape[0] if network.takes_images else 0
    if size < 1 or (fixed is not None and size != fixed):
        expected = f"{fixed}, the size of its inputs" if fixed else "a network of images"
        raise ReszooError(f"{network.name}: size", got=size, expected=expected if size > 0 else "1 or more")
    return size


def _keras_file(path: Path) -> Network:
    facts, config = read_file(path)
    layers = config.get("config", {}).get("layers", ()) if isinstance(config.get("config"), Mapping) else ()
    scaled = any(layer.get("class_name") in ("Rescaling", "Normalization") for layer in layers)
    metadata = metadata_from(_with_scaling(facts, scaled), where=str(path))
    return Network(str(path), metadata, _shape(str(path), _input_shape(config)), lambda: load_keras(path))


def load_keras(path: Path) -> KerasModel:
    """Returns the model in a `.keras` file, not compiled.

    Raises:
        ReszooError: Keras cannot open the file.
    """
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReszooError(str(path), got=f"no Keras model ({message})", expected="a .keras file") from None


def _weights(file: str | Path, path: Path) -> Network:
    """Published weights by name, or a checkpoint with a configuration beside it."""
    if path.exists() or "://" in str(file):
        from reszoo.weights.origin import open_weights

        opened = open_weights(file)
        origin = Origin(None, opened.record, opened.translated.checkpoint)
    else:
        origin = Origin(None, find(str(file), None), None)
    metadata = metadata_from(origin.facts, where=str(file))
    settings = origin.preprocessing
    if settings is not None and settings.channels == "bgr":
        raise ReszooError(str(file), got="weights for bgr images", expected="weights for rgb or gray images")
    shape = (None, None, len(metadata.scaling.mean)) if settings is not None else (None,)
    return Network(str(file), metadata, shape, lambda: _load_weights(file))


def _load_weights(file: str | Path) -> KerasModel:
    from reszoo.weights.load import from_checkpoint

    return from_checkpoint(file, classifier_activation="softmax").model


def _with_scaling(facts: Mapping[str, Any], scaled: bool) -> dict[str, Any]:
    """The facts of a model whose own layer scales images from 0 to 255."""
    if not scaled or "scaling" in facts:
        return dict(facts)
    return {**facts, "scaling": asdict(AS_THEY_ARE), "white": 255.0}


def _input_shape(config: Mapping[str, Any]) -> Any:
    """The shape of the input in the configuration of a model."""
    inner = config.get("config")
    layers = inner.get("layers", ()) if isinstance(inner, Mapping) else ()
    for layer in layers:
        settings = layer.get("config", {})
        if shape := settings.get("batch_shape") or (_input_shape(layer) if "layers" in settings else None):
            return tuple(shape)
    return None


def _shape(name: str, shape: Any) -> tuple[int | None, ...]:
    if not isinstance(shape, tuple) or not all(side is None or isinstance(side, int) for side in shape):
        raise ReszooError(name, got="a model with several inputs", expected="one input")
    return shape[1:]


def fit_channels(network: Network, x: Array) -> Array:
    """Returns images with as many channels as the network takes: gray from rgb (ITU-R 601), or rgb from gray."""
    channels = network.shape[-1] if network.takes_images else None
    if x.ndim != 4 or channels == x.shape[-1]:
        return x
    if channels == 3 and x.shape[-1] == 1:
        return x.repeat(3, axis=-1)
    if channels == 1 and x.shape[-1] == 3:
        gray: Array = x.astype("float32") @ [0.299, 0.587, 0.114]
        return gray[..., None]
    return x


def outputs_of(
    model: KerasModel, network: Network, x: Array, scaling: Scaling, *, flip: bool = False, rows: int = 0
) -> Array:
    """Returns the outputs for a batch of examples as float32, `(examples, outputs)`.

    Args:
        model: the loaded network.
        network: what it knows.
        x: examples before scaling.
        scaling: for the range of their values.
        flip: whether to average the outputs for images and for their mirror images.
        rows: a smaller batch is filled up to this many examples: TensorFlow compiles a network again for another size.

    Raises:
        ReszooError: the examples have another shape, or the outputs are no finite numbers.
    """
    import numpy as np
    from keras import ops

    x = fit_channels(network, x)
    fits = x.ndim == len(network.shape) + 1 and all(
        side in (None, actual) for side, actual in zip(network.shape, x.shape[1:], strict=True)
    )
    if not fits:
        raise ReszooError(network.name, got=f"examples of shape {x.shape[1:]}", expected=f"{network.shape}")
    x, count = scaling(x), len(x)
    if count < rows:
        x = np.concatenate([x, np.repeat(x[-1:], rows - count, axis=0)])
    outputs = model.predict_on_batch(x)
    if isinstance(outputs, (list, tuple, dict)):
        raise ReszooError(network.name, got="a model with several outputs", expected="one output")
    result = np.asarray(ops.convert_to_numpy(outputs)).astype("float32")
    result = result.reshape(len(x), -1)[:count]
    if not np.isfinite(result).all():
        hint = "its weights are damaged, or the examples are"
        raise ReszooError(network.name, got="outputs with NaN or infinity", expected="finite numbers", hint=hint)
    if flip and network.takes_images:
        result = (result + outputs_of(model, network, x[:, :, ::-1], AS_THEY_ARE)[:count]) / 2
    return result


def probabilities(outputs: Array, metadata: Metadata, /, *, name: str) -> Array:
    """Returns outputs as probabilities, one column for each class; those of a regression as they are.

    One column of a network with two classes is the probability of the second. Logits go through a softmax, or through
    a sigmoid where the classes are independent.

    Raises:
        ReszooError: the number of outputs is not the number of classes.
    """
    import numpy as np

    count = len(metadata.classes)
    in_range = bool(((outputs >= 0) & (outputs <= 1)).all())
    if metadata.task == "regression":
        return outputs
    if metadata.task == "classification" and outputs.shape[1] == 1 and count == 2:
        second = outputs if in_range else 1 / (1 + np.exp(-outputs))
        return np.concatenate([1 - second, second], axis=1)
    if outputs.shape[1] != count:
        got = f"{outputs.shape[1]} outputs and {count} class names"
        raise ReszooError(name, got=got, expected="a name for every output")
    if in_range:
        # Sigmoids of a classification do not add up to 1; they are ranked as they are.
        return outputs
    if metadata.task == "multilabel":
        result: Array = 1 / (1 + np.exp(-outputs))
        return result
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    normalized: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalized
