"""What images go through before a network sees them: it belongs to the weights, and is made of stock Keras layers."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.errors import ReszooError
from reszoo.weights.catalogue import Preprocessing, Record, record
from reszoo.weights.report import Report
from reszoo.weights.tensors import Checkpoint


class Origin:
    """Where a model's weights come from: the report of loading them, their record, preprocessing and labels."""

    def __init__(self, report: Report, record: Record | None, checkpoint: Checkpoint):
        self.report, self.record = report, record
        self.preprocessing = record.preprocessing if record else _told(checkpoint)
        self.labels: str | list[str] | None = record.labels if record else _labels(checkpoint.config)


_ORIGINS: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()


def remember(model: Any, origin: Origin) -> None:
    """Notes where a model's weights come from, as long as the model lives."""
    _ORIGINS[model] = origin


def origin(model: Any) -> Origin | None:
    """Returns where a model's weights come from, or nothing where reszoo loaded none into this very object."""
    return _ORIGINS.get(model)


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
        raise ReszooError("preprocessing: inside", given=type(of).__name__, allowed="a model")
    from reszoo.weights.layers import preprocess

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
    allowed = "a model with published weights, a record's name (reszoo.list_weights()), or a reszoo.Preprocessing"
    given = f"{of.name}, of whose images nothing is known" if hasattr(of, "layers") else repr(of)
    raise ReszooError("preprocessing", given=given, allowed=allowed)


def warn_of_range(images: Any) -> None:
    """Warns when numbers that should be pixel values from 0 to 255 clearly are not."""
    import numpy as np

    values = np.asarray(images)
    if values.dtype.kind != "f" or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low < -1.0 or (low < 0 and high <= 16):
        told = "normalised already"
    elif 0 < high <= 1.5:
        told = "scaled to 0..1 already"
    elif high > 300:
        told = "more than 8 bits a channel"
    else:
        return
    message = f"preprocessing: images from {low:.3g} to {high:.3g}; expected 0 to 255 ({told}?)"
    warnings.warn(message, stacklevel=_stacklevel())


def _stacklevel() -> int:
    """The `stacklevel`, seen from the caller, of the first frame that is neither Keras' nor reszoo's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("keras", "reszoo"):
        frame, level = frame.f_back, level + 1
    return level


def _told(checkpoint: Checkpoint) -> Preprocessing | None:
    """What the configuration beside a checkpoint says: timm's, or the preprocessor's of Hugging Face."""
    timm = checkpoint.config.get("pretrained_cfg")
    try:
        if isinstance(timm, Mapping):
            return _timm(timm)
        beside = checkpoint.path.parent / "preprocessor_config.json"
        if checkpoint.config and beside.is_file():
            return _hugging_face(json.loads(beside.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, RecursionError):
        # A configuration in other words: nothing is known then, and asking for it says so.
        return None
    return None


def _timm(config: Mapping[str, Any]) -> Preprocessing:
    crop = int(config.get("test_input_size", config["input_size"])[-1])
    share = float(config.get("test_crop_pct") or config["crop_pct"])
    told = {name: config[name] for name in ("interpolation", "mean", "std")}
    return Preprocessing.model_validate({"resize": int(crop / share), "crop": crop, **told})


def _hugging_face(config: Mapping[str, Any]) -> Preprocessing:
    size = config["size"]
    edge = int(size if isinstance(size, int) else size.get("shortest_edge") or size["height"])
    # ConvNextImageProcessor: below 384 the image is resized to edge / crop_pct, then cropped to the edge.
    resize = int(edge / float(config.get("crop_pct") or 1)) if edge < 384 else edge
    mean, std = config["image_mean"], config["image_std"]
    word = {2: "bilinear", 3: "bicubic"}[config.get("resample", 3)]
    return Preprocessing.model_validate(
        {"resize": resize, "crop": edge, "interpolation": word, "mean": mean, "std": std}
    )


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    names = config.get("id2label") or config.get("label_names")
    if isinstance(names, Mapping):
        numbered = {int(number): str(name) for number, name in names.items() if str(number).isdecimal()}
        names = (
            [numbered[number] for number in sorted(numbered)]
            if [*sorted(numbered)] == [*range(len(numbered))]
            else None
        )
    return [str(name) for name in names] if isinstance(names, list) else None
