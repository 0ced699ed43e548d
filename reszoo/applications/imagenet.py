"""What the modules share: the form of a builder, and predictions as names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from reszoo.errors import ReszooError
from reszoo.types import KerasModel, Tensor
from reszoo.weights.labels import words

CLASSES = 1000


class Application(Protocol):
    """Builds a network; the arguments are those of `keras.applications`, in its order."""

    def __call__(
        self,
        include_top: bool = True,
        weights: str | Path | None = "imagenet",
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: str | None = "softmax",
        name: str = "",
    ) -> KerasModel:
        """Returns the Keras model."""


def application(title: str, source: str, build: Callable[..., KerasModel]) -> Application:
    """Returns a builder with the signature of `keras.applications`.

    Args:
        title: its name in `keras.applications`, whose lower case is the default name of the model.
        source: what is built, for its docstring.
        build: takes all the arguments by name.
    """

    def builder(
        include_top: bool = True,
        weights: str | Path | None = "imagenet",
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: str | None = "softmax",
        name: str = title.lower(),
    ) -> KerasModel:
        if weights == "imagenet" and include_top and classes != CLASSES:
            hint = "include_top=False and a classifier of your own; or the function of the zoo, which adds a new one"
            raise ReszooError(f"{title}.classes", got=classes, expected=f"{CLASSES} with weights='imagenet'", hint=hint)
        return build(
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )

    builder.__name__ = builder.__qualname__ = title
    builder.__doc__ = f"""Returns {title} as a Keras model, as `keras.applications` does: {source}.

    Args:
        include_top: whether the model ends with the classifier.
        weights: `imagenet` (a download, unless it is in a cache), a file, or None for random ones.
        input_tensor: a Keras tensor to build on.
        input_shape: shape of one image; without a classifier height and width may be None.
        pooling: `avg`, `max` or None for a feature map, if there is no classifier.
        classes: width of the classifier.
        classifier_activation: `softmax`, or None for logits.
        name: of the model.

    Raises:
        ReszooError: invalid arguments, or weights that are neither in a cache nor can be downloaded.
    """
    return builder


def decode_predictions(preds: Tensor, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Returns the most probable classes of every image as (WordNet ID, name, score), most probable first; offline.

    Example:
        >>> import numpy as np
        >>> from reszoo.applications.resnet import decode_predictions
        >>> decode_predictions(np.eye(1000)[[285]], top=1)
        [[('n02124075', 'Egyptian_cat', 1.0)]]

    Args:
        preds: `(images, 1000)`.
        top: number of classes per image.

    Raises:
        ReszooError: the predictions have another shape.
    """
    import numpy as np

    scores: Any = np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != CLASSES:
        raise ReszooError("decode_predictions", got=f"shape {scores.shape}", expected=f"(images, {CLASSES})")
    ids, names = words("imagenet_wnids"), words("imagenet")
    assert ids is not None and names is not None
    return [[(ids[at], names[at], row[at].item()) for at in row.argsort()[::-1][:top]] for row in scores]
