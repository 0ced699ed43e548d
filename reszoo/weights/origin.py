"""Where a model's weights come from: the report of loading them, and what record or configuration says of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.weights.catalogue import Preprocessing, Record
from reszoo.weights.formats.checkpoint import Checkpoint
from reszoo.weights.report import Report


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
