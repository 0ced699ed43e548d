"""The origin of weights: a name, file or address, opened as a checkpoint; and what a model remembers of it."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from reszoo.arch.facts import Facts, facts_in, read_facts, write_facts
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import KerasModel
from reszoo.weights import infer
from reszoo.weights.catalogue import WEIGHTS, File, Preprocessing, Record, find, records
from reszoo.weights.download import digest, fetch, file_at, home
from reszoo.weights.formats.checkpoint import Checkpoint
from reszoo.weights.formats.read import read
from reszoo.weights.formats.write import write_safetensors
from reszoo.weights.report import Report
from reszoo.weights.translate import LayerNames, Translated, translate


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
        facts: Mapping[str, object] | None = None,
    ):
        self.report = report
        self.record = record
        self.facts: Facts = _facts(record, checkpoint) if facts is None else dict(facts)
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


class SourceWeights(NamedTuple):
    """An opened checkpoint and the record of its publication, if there is one."""

    translated: Translated
    record: Record | None


def open_weights(
    weights: str | Path,
    spec: NetSpec | None = None,
    *,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
) -> SourceWeights:
    """Returns the opened checkpoint that `weights` refers to, with its record.

    Args:
        weights: a file or folder, `https://...`, `hf://org/repo[@revision]`, or the name of published weights
            (`resnet50.tv2_in1k`; with a spec also `tv2_in1k` and `imagenet`).
        spec: the network whose tags are looked up.
        names: our layer names -> those in the file (see `translate`).
        key: which network to read from a file that holds several (see `translate`).
        prefix: the beginning of the network's names (see `translate`).

    Raises:
        ReszooError: the weights do not exist, cannot be downloaded, or cannot be read.
    """
    where = f"{spec.name}.weights" if spec else "weights"
    # An empty text would be the current folder.
    if not isinstance(weights, (str, Path)) or weights == "":
        raise ReszooError(where, got=repr(weights), expected=WEIGHTS)
    text = str(weights)
    if isinstance(weights, Path) or Path(text).expanduser().exists():
        return SourceWeights(translate(read(weights), names, key=key, prefix=prefix), published_record(text))
    if re.match(r"https?://|hf://", text):
        return SourceWeights(
            _download(f"from_{hashlib.sha256(text.encode()).hexdigest()[:12]}", (file_at(text),)), None
        )
    if "://" in text:
        raise ReszooError(where, got=repr(text), expected="https://..., hf://org/repo[@revision]")
    record = find(text, spec)
    if record.non_commercial:
        message = f"{record.name}: the license {record.licence} forbids commercial use"
        warnings.warn(message, stacklevel=4)
    if record.packaged:
        return SourceWeights(translate(read(record.packaged)), record)
    return SourceWeights(_download(record.name, record.files), record)


def _download(name: str, files: tuple[File, ...]) -> Translated:
    """Returns a downloaded checkpoint from the cache, preferably the copy in our own layout, which loads faster."""
    keys = [key for file in files if (key := file.sha256 or file.md5)]
    copies = [home() / "converted" / f"{name}-{key}.safetensors" for key in keys]
    for copy in copies:
        if copy.is_file():
            try:
                return translate(read(copy))
            except ReszooError:
                # Discard a damaged copy; it is written again below.
                copy.unlink(missing_ok=True)
    path = fetch(name, files)
    translated = translate(read(path))
    if path.is_file():
        verified = next(
            (key for key in keys if digest(path, "md5" if len(key) == 32 else "sha256").startswith(key)), None
        )
        if verified:
            _write_copy(translated, home() / "converted" / f"{name}-{verified}.safetensors")
    return translated


def _write_copy(translated: Translated, copy: Path) -> None:
    if translated.is_inferred or translated.head:
        # Under our names the file would look like one whose network is known.
        return
    try:
        specs = infer.specs(translated)
        arrays = {name: named.tensor.read() for name, named in translated.tensors.items()}
        metadata = {"reszoo_spec": specs[0].model_dump_json()} if len(specs) == 1 else None
        write_safetensors(arrays, copy, metadata)
    except (OSError, ReszooError):
        # The copy only saves time: a full disk or an unsupported network is reported elsewhere.
        copy.unlink(missing_ok=True)


def published_record(source: str | Path) -> Record | None:
    """Returns the record of a local file with the name and hash of published weights, or None."""
    path = Path(source).expanduser()
    for record in records().values():
        for file in record.files:
            if path.is_file() and file.url.endswith(f"/{path.name}") and (file.sha256 or file.md5):
                kind = "sha256" if file.sha256 else "md5"
                if digest(path, kind).startswith(file.sha256 or file.md5 or "?"):
                    return record
    return None
