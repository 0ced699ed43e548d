"""Saving a model of one's own with what it knows of its classes and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reszoo.arch.facts import Facts, read_facts, write_facts
from reszoo.data.labels import TASKS, Task
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.files import atomic_write
from reszoo.training.metadata import Metadata, facts_of, metadata_of, write_metadata
from reszoo.training.network import AS_THEY_ARE
from reszoo.types import KerasModel
from reszoo.weights.catalogue import Preprocessing, Record, record
from reszoo.weights.labels import words
from reszoo.weights.preprocessing import scaling_layer


def save(
    model: KerasModel,
    path: str | Path,
    /,
    *,
    classes: Sequence[str] | str | None = None,
    preprocessing: Preprocessing | Record | Data | str | None = None,
    task: Task | None = None,
) -> Path:
    """Returns the path of a `.keras` file after saving a model with its classes and the preprocessing of its inputs.

    `reszoo.evaluate` and `reszoo.predict` then need the file alone; plain Keras opens it as any other. The model itself
    knows the same afterwards.

    Example:
        >>> import keras, reszoo, tempfile
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
        >>> file = reszoo.save(model, tempfile.mkdtemp() + "/a.keras", classes=["ant", "bee"], preprocessing="none")
        >>> reszoo.predict(file, [[1.0, 2.0, 3.0, 4.0]]).classes
        ('ant', 'bee')

    Args:
        model: any Keras model with one input and one output, such as one trained by `fit()`.
        path: of the file, ending with `.keras`.
        classes: names of the classes in the order of the outputs, or a table of names (`imagenet`, `cifar10`, ...); two
            for one sigmoid output; for a regression the names of the outputs. By default those that the model knows.
        preprocessing: how images from 0 to 255 become inputs: a `Preprocessing`; a record of published weights or its
            name; the `Data` that the model was trained on; `inside`: the model scales images from 0 to 255 itself;
            `none`: inputs are taken as they are. By default what the model knows, or its own layers.
        task: `classification`, `multilabel` (several classes at once) or `regression`; by default what the model knows,
            else a classification.

    Raises:
        ReszooError: the number of classes is not that of the outputs, or classes or preprocessing are unknown.
    """
    path = Path(path).expanduser()
    if not hasattr(model, "layers") or path.suffix != ".keras":
        got = str(path) if hasattr(model, "layers") else type(model).__name__
        raise ReszooError("save", got=got, expected="a Keras model, and a file that ends with .keras")
    known = read_facts(model)
    task = known.get("task", TASKS[0]) if task is None else task
    if task not in TASKS:
        raise ReszooError("save.task", got=repr(task), expected=", ".join(TASKS))
    labels = classes if classes is not None else known.get("classes")
    if labels is None and isinstance(preprocessing, Data):
        labels = preprocessing.classes
    names = () if labels is None and task == "regression" else _names(labels, model, task)
    facts = _facts(model, names, preprocessing, task)
    write_facts(model, facts)
    with atomic_write(path) as temporary:
        model.save(temporary)
        write_metadata(temporary, facts)
    return path


def _names(labels: Sequence[str] | str | None, model: KerasModel, task: str) -> tuple[str, ...]:
    names = tuple(words(labels) or ())
    outputs = model.output_shape[-1] if isinstance(model.output_shape, tuple) else None
    pair = outputs == 1 and len(names) == 2 and task == "classification"
    if outputs is None or not (len(names) == outputs or pair) or len({*names}) < len(names):
        expected = f"{outputs} different names, one for every output" + (", or two" if outputs == 1 else "")
        got = f"{len(names)} names" if names else "no names of classes"
        raise ReszooError("save.classes", got=got, expected=expected, hint="classes=[...]")
    return names


def _facts(model: KerasModel, names: tuple[str, ...], preprocessing: object, task: str) -> Facts:
    """What the file says."""
    known = read_facts(model)
    about_classes = {"classes": list(names), "task": task}
    if isinstance(preprocessing, Data):
        return {**facts_of(metadata_of(preprocessing)), **about_classes}
    images = isinstance(model.input_shape, tuple) and len(model.input_shape) == 4
    if preprocessing == "inside" or (preprocessing is None and scaling_layer(model)):
        return facts_of(Metadata(names, AS_THEY_ARE, "", 0, task, 255.0))
    if preprocessing is None and ("scaling" in known or "preprocessing" in known):
        # Trained further on unknown data: the digest of the first ones says nothing.
        return {**known, **about_classes, "digest": ""}
    if preprocessing == "none" or (preprocessing is None and not images):
        return facts_of(Metadata(names, AS_THEY_ARE, "", 0, task, None))
    if isinstance(preprocessing, str):
        preprocessing = record(preprocessing)
    settings = preprocessing.preprocessing if isinstance(preprocessing, Record) else preprocessing
    if not isinstance(settings, Preprocessing) or settings.channels == "bgr":
        got = "unknown preprocessing" if settings is None else repr(settings)
        expected = "a reszoo.Preprocessing for rgb or gray images, a name in reszoo.list_weights(), the training's Data"
        raise ReszooError("save.preprocessing", got=got, expected=f"{expected}, inside, none")
    return {**about_classes, "preprocessing": settings.model_dump(mode="json")}
