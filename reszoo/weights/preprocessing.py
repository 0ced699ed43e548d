"""What images go through before a network sees them: it belongs to the weights, and is made of stock Keras layers."""

from __future__ import annotations

from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights.catalogue import Preprocessing, Record, record
from reszoo.weights.origin import origin


def preprocessing(of: Any, /, *, inside: bool = False, size: int | None = None) -> Any:
    """Returns what images go through before these weights see them, as a model of stock Keras layers.

    Resize the shorter side, crop the centre, scale, normalise, and where the weights ask for it turn RGB to BGR. Takes
    images of one size with values from 0 to 255, channels last: `(batch, height, width, 3)`, or 1 for grey. Warns when
    called with numbers that were clearly scaled or normalised already.

    Args:
        of: a model into which reszoo loaded published weights, a record of the catalogue or its name, or a
            `Preprocessing`.
        inside: for a model, return the model with the layers before it instead: it takes images as they are.
        size: side of the crop in pixels, by default the model's input size or else the record's; the resize keeps its
            proportion to it.

    Raises:
        ReszooError: nothing is known of how images for this model were treated.
    """
    found = _of(of)
    known_size = getattr(of, "input_shape", (None, None))[1] if hasattr(of, "layers") else None
    crop = size or known_size or found.crop
    resize = round(found.resize * crop / found.crop)
    if inside and not hasattr(of, "layers"):
        raise ReszooError("preprocessing: inside", got=type(of).__name__, expected="a model")
    from reszoo.weights.preprocessing_layers import preprocess

    if inside:
        return preprocess(found, resize, crop, of, name=f"{of.name}_with_preprocessing")
    return preprocess(found, resize, crop, name="preprocessing")


def _of(of: Any) -> Preprocessing:
    if isinstance(of, Preprocessing):
        return of
    if isinstance(of, (str, Record)):
        return (record(of) if isinstance(of, str) else of).preprocessing
    known = origin(of) if hasattr(of, "layers") else None
    if known is not None and known.preprocessing is not None:
        return known.preprocessing
    expected = "a model with published weights, a record's name (reszoo.list_weights()), or a reszoo.Preprocessing"
    got = f"{of.name}, of whose images nothing is known" if hasattr(of, "layers") else repr(of)
    raise ReszooError("preprocessing", got=got, expected=expected)
