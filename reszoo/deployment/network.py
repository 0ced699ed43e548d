"""The network to deploy, with what is known about its inputs and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.arch.recover import layers_of, stock_model
from reszoo.data.columns import Columns
from reszoo.data.sources import Scaling
from reszoo.errors import ReszooError
from reszoo.training.metadata import Metadata, metadata_from, read_metadata
from reszoo.training.network import load_keras
from reszoo.training.run_folder import BEST, FINAL, SETTINGS
from reszoo.types import KerasModel
from reszoo.weights.catalogue import Preprocessing, find
from reszoo.weights.formats.archives import checked_zip


class Network(NamedTuple):
    """A Keras model, and how examples become its inputs."""

    model: KerasModel
    scaling: Scaling | None
    """From examples to inputs; None if it is unknown."""
    reverse: bool
    """Whether the weights take blue first."""
    classes: tuple[str, ...]
    """Empty if they are unknown."""
    notes: tuple[str, ...] = ()
    seed: int = 0
    """Of the split in training, so that examples held out then are held out again."""
    task: str = "classification"
    columns: Columns | None = None
    """The encoding of a table."""

    def inputs(self, examples: Any) -> Any:
        """Returns examples as inputs of the model: scaled if the scaling is known, as rows for a dense network."""
        import numpy as np

        x = np.asarray(examples, "float32")
        if self.scaling is not None:
            x = self.scaling(x)[..., :: -1 if self.reverse else 1]
        return x


def file_of(model: str | Path) -> Path | None:
    """Returns the `.keras` file that a path means: itself, or that of a run folder; None for other weights.

    Only the archive's directory is read: a damaged file is refused before TensorFlow is imported.

    Raises:
        ReszooError: there is no such file, an unfinished run, or no published weights of this name.
        BrokenFileError: the file is damaged.
    """
    path = Path(model).expanduser()
    if path.is_dir() and (path / SETTINGS).is_file():
        if not (path / FINAL).is_file():
            hint = f"resume the run, or deploy {path / BEST}" if (path / BEST).is_file() else "resume the run"
            raise ReszooError(str(path), got="an unfinished run", expected=f"a run with {FINAL}", hint=hint)
        path = path / FINAL
    if path.suffix != ".keras":
        if not path.exists() and "://" not in str(model):
            find(str(model), None)
        return None
    if not path.is_file():
        raise ReszooError(str(path), got="no such file", expected="a .keras file, a run folder, published weights")
    checked_zip(path).close()
    return path


def open_network(
    model: KerasModel | str | Path, preprocessing: bool | Scaling | Preprocessing, labels: bool | Sequence[str]
) -> Network:
    """Returns the network to deploy.

    Args:
        model: see `deploy`.
        preprocessing: see `deploy`.
        labels: see `deploy`.

    Raises:
        ReszooError: no network is there, or the number of labels is not that of its classes.
    """
    network = _from_file(model) if isinstance(model, (str, Path)) else _from_model(model)
    if network.scaling is not None and _has_preprocessing(network.model):
        note = "the model has layers of preprocessing: no other is added"
        network = network._replace(scaling=None, reverse=False, notes=(*network.notes, note))
    if isinstance(preprocessing, Preprocessing):
        scaling = Scaling(preprocessing.scale, preprocessing.mean, preprocessing.std)
        network = network._replace(scaling=scaling, reverse=preprocessing.channels == "bgr")
    elif isinstance(preprocessing, Scaling):
        network = network._replace(scaling=preprocessing, reverse=False)
    if not isinstance(labels, bool):
        network = network._replace(classes=tuple(map(str, labels)))
        if odd := [name for name in network.classes if not name.strip() or not name.isprintable()]:
            got = f"{odd[0]!r}"
            raise ReszooError("deploy.labels", got=got, expected="printable names: the file holds one on each line")
    shape = getattr(network.model, "output_shape", None)
    count = shape[-1] if isinstance(shape, tuple) and len(shape) == 2 else None
    if network.classes and len(network.classes) != count and not (len(network.classes) == 2 and count == 1):
        if labels is True:
            # The weights' classes are not those of this output, such as with a replaced head.
            note = f"no class names: {len(network.classes)} are known of {count or 'no'} classes"
            return network._replace(classes=(), notes=(*network.notes, note))
        expected = f"{count}, as outputs" if count else "a network with one output of classes"
        raise ReszooError("deploy.labels", got=f"{len(network.classes)} names", expected=expected)
    return network


def _has_preprocessing(model: KerasModel) -> bool:
    """Whether a model scales or resizes its inputs itself; the facts of a network inside it are not about them."""
    return any(type(layer).__name__ in ("Rescaling", "Normalization", "Resizing") for layer in layers_of(model))


def _from_model(model: Any) -> Network:
    from reszoo.weights.labels import words
    from reszoo.weights.origin import origin

    if not hasattr(model, "layers") or not hasattr(model, "inputs"):
        expected = "a functional or built Sequential model, a .keras file, a run folder, or published weights"
        raise ReszooError("deploy", got=repr(model)[:80], expected=expected)
    model, source = stock_model(model), origin(model)
    if source is not None and "scaling" in source.facts:
        return _from_metadata(model, metadata_from(source.facts, where=model.name))
    if source is None or source.preprocessing is None:
        return Network(model, None, False, tuple((source and words(source.labels)) or ()))
    of = source.preprocessing
    scaling = Scaling(of.scale, of.mean, of.std)
    return Network(model, scaling, of.channels == "bgr", tuple(words(source.labels) or ()), _resize_note(of))


def _from_file(model: str | Path) -> Network:
    from reszoo.weights.load import from_checkpoint

    path = file_of(model)
    if path is None:
        loaded = from_checkpoint(model, classifier_activation="softmax").model
        network = _from_model(loaded)
        if network.scaling is None or loaded.input_shape[1] is not None:
            return network
        from reszoo.weights.origin import origin

        side = origin(loaded).preprocessing.crop  # type: ignore[union-attr]
        shape = (side, side, len(network.scaling.mean))
        return _from_model(from_checkpoint(model, classifier_activation="softmax", input_shape=shape).model)
    loaded = load_keras(path)
    network = _from_model(loaded)
    if network.scaling is not None:
        return network
    try:
        return _from_metadata(loaded, read_metadata(path))
    except ReszooError:
        return network


def _from_metadata(model: KerasModel, metadata: Metadata) -> Network:
    return Network(
        model,
        metadata.scaling,
        False,
        metadata.classes,
        seed=metadata.seed,
        task=metadata.task,
        columns=metadata.columns,
    )


def _resize_note(of: Preprocessing) -> tuple[str, ...]:
    side = f"resize the shorter side to {of.resize} ({of.interpolation}), then crop the central {of.crop} pixels"
    return (f"images come in the size of the network: {side}",) if of.resize != of.crop else ()
