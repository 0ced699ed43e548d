"""The origin of a model's weights: report, record, preprocessing and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.types import KerasModel
from reszoo.weights.catalogue import Preprocessing, Record
from reszoo.weights.formats.checkpoint import Checkpoint
from reszoo.weights.report import Report


class Origin:
    """The origin of a model's weights.

    Attributes:
        report: the report of loading the weights.
        record: the record of published weights, or None.
        preprocessing: the preprocessing of images, or None if it is unknown.
        labels: the name of a table of labels, the labels, or None if they are unknown.
    """

    def __init__(self, report: Report, record: Record | None, checkpoint: Checkpoint):
        self.report = report
        self.record = record
        self.preprocessing = record.preprocessing if record else _preprocessing(checkpoint)
        self.labels: str | list[str] | None = record.labels if record else _labels(checkpoint.config)

    def __repr__(self) -> str:
        return f"Origin({self.record or self.report!r})"


_ORIGINS: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()


def remember(model: KerasModel, origin: Origin) -> None:
    """Stores the origin of a model's weights for the lifetime of the model."""
    _ORIGINS[model] = origin


def origin(model: KerasModel) -> Origin | None:
    """Returns the origin of a model's weights, or None if reszoo did not load weights into this object.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(weights="fashion_mnist", input_shape=(28, 28, 1))
        >>> reszoo.origin(model).record.name
        'resnet20_cifar.fashion_mnist'
    """
    return _ORIGINS.get(model)


def _preprocessing(checkpoint: Checkpoint) -> Preprocessing | None:
    """Returns the preprocessing in the configuration of timm or Hugging Face beside a checkpoint, or None."""
    timm = checkpoint.config.get("pretrained_cfg")
    try:
        if isinstance(timm, Mapping):
            return _timm(timm)
        beside = checkpoint.path.parent / "preprocessor_config.json"
        if checkpoint.config and beside.is_file():
            return _hugging_face(json.loads(beside.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, RecursionError):
        # An unsupported configuration: the preprocessing is unknown, and `reszoo.preprocessing` raises.
        return None
    return None


def _timm(config: Mapping[str, Any]) -> Preprocessing:
    crop = int(config.get("test_input_size", config["input_size"])[-1])
    share = float(config.get("test_crop_pct") or config["crop_pct"])
    fields = {name: config[name] for name in ("interpolation", "mean", "std")}
    return Preprocessing.model_validate({"resize": int(crop / share), "crop": crop, **fields})


def _hugging_face(config: Mapping[str, Any]) -> Preprocessing:
    size = config["size"]
    edge = int(size if isinstance(size, int) else size.get("shortest_edge") or size["height"])
    # ConvNextImageProcessor: below 384 the image is resized to edge / crop_pct, then cropped to the edge.
    resize = int(edge / float(config.get("crop_pct") or 1)) if edge < 384 else edge
    mean, std = config["image_mean"], config["image_std"]
    interpolation = {2: "bilinear", 3: "bicubic"}[config.get("resample", 3)]
    return Preprocessing.model_validate(
        {"resize": resize, "crop": edge, "interpolation": interpolation, "mean": mean, "std": std}
    )


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    names = config.get("id2label") or config.get("label_names")
    if isinstance(names, Mapping):
        numbered = {int(number): str(name) for number, name in names.items() if str(number).isdecimal()}
        complete = sorted(numbered) == [*range(len(numbered))]
        names = [numbered[number] for number in sorted(numbered)] if complete else None
    return [str(name) for name in names] if isinstance(names, list) else None
