"""The origin of a model's weights: report, record, preprocessing and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.arch.facts import Facts, facts_in, read_facts, write_facts
from reszoo.types import KerasModel
from reszoo.weights.catalogue import Preprocessing, Record, records
from reszoo.weights.formats.checkpoint import Checkpoint
from reszoo.weights.report import Report


class Origin:
    """The origin of a model's weights, and what they know of their inputs and classes.

    Attributes:
        report: the report of loading the weights, or None if another program or process loaded them.
        record: the record of published weights, or None.
        preprocessing: the preprocessing of images, or None if it is unknown.
        labels: the name of a table of labels, the labels, or None if they are unknown.
    """

    def __init__(
        self,
        report: Report | None,
        record: Record | None,
        checkpoint: Checkpoint | None,
        facts: Mapping[str, Any] | None = None,
    ):
        self.report = report
        self.record = record
        self.facts = _facts(record, checkpoint) if facts is None else dict(facts)
        if report is not None and any(name.startswith("predictions/") for name in report.new):
            # The names of the classes belong to the classifier, which is new.
            self.facts.pop("classes", None)
        self.preprocessing = preprocessing_in(self.facts)
        self.labels: str | list[str] | None = self.facts.get("classes")

    def __repr__(self) -> str:
        return f"Origin({self.record or self.report or sorted(self.facts)!r})"


_ORIGINS: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()


def remember(model: KerasModel, origin: Origin) -> None:
    """Stores the origin of a model's weights: the facts in the model, the report for the lifetime of the object."""
    _ORIGINS[model] = origin
    write_facts(model, origin.facts)


def origin(model: KerasModel) -> Origin | None:
    """Returns the origin of a model's weights, or None if it is unknown.

    It is known for a model into which reszoo loaded weights, for one that was made from it (`replace_head`, surgery, a
    copy, a file), and for a larger model with such a network inside.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(weights="fashion_mnist", input_shape=(28, 28, 1))
        >>> reszoo.origin(reszoo.replace_head(model, classes=5)).record.name
        'resnet20_cifar.fashion_mnist'
    """
    if model in _ORIGINS:
        return _ORIGINS[model]
    facts = read_facts(model)
    return Origin(None, records().get(facts.get("record", "")), None, facts) if facts else None


def preprocessing_in(facts: Mapping[str, Any]) -> Preprocessing | None:
    """Returns the preprocessing in the facts of a network, or None."""
    try:
        return Preprocessing.model_validate(facts.get("preprocessing") or _of_earlier_run(facts["scaling"]))
    except (KeyError, TypeError, ValueError):
        return None


def _of_earlier_run(scaling: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessing of a run of the version before, which stored a scaling alone; pixels from 0 to 255 had 255."""
    if scaling["scale"] != 255:
        raise ValueError("unknown range of pixels")
    channels = {1: "gray", 3: "rgb"}[len(scaling["mean"])]
    return {"resize": 224, "crop": 224, "channels": channels, "mean": scaling["mean"], "std": scaling["std"]}


def _facts(record: Record | None, checkpoint: Checkpoint | None) -> Facts:
    """The facts about published weights, or about a checkpoint: those in a Keras file, else in the files beside it."""
    if record is not None:
        settings = record.preprocessing.model_dump(mode="json")
        return {"record": record.name, "preprocessing": settings, "classes": record.labels}
    if checkpoint is None:
        return {}
    if facts := file_facts(checkpoint):
        return facts
    preprocessing, labels = _preprocessing(checkpoint), _labels(checkpoint.config)
    facts = {} if preprocessing is None else {"preprocessing": preprocessing.model_dump(mode="json")}
    return facts if labels is None else {**facts, "classes": labels}


def file_facts(checkpoint: Checkpoint) -> Facts:
    """Returns the facts in a Keras file: its own member, written by reszoo, else the configuration of its layers."""
    return dict(checkpoint.facts) or facts_in(checkpoint.config)


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
