"""A network of a checkpoint with our names, and the tensors of the file that none of its layers has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reszoo.arch.spec import NetSpec
from reszoo.config import valid_name
from reszoo.weights.dialects import Dialect
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor, common_parts, constant


class Foreign(NamedTuple):
    """Names of the tensors between the network's own that no layer of it has, by their place."""

    within: tuple[str, ...]
    """Inside of blocks or between them: without them the network computes something else."""
    head: tuple[str, ...]
    """Behind the last block: another head."""
    beside: tuple[str, ...]
    """Of a loss, a metric or a queue, or too small to matter: no part of the network."""


NOTHING = Foreign((), (), ())


class Linear(NamedTuple):
    """A linear layer of a head."""

    name: str
    """Its name in the file."""
    kernel: Tensor
    """In Keras layout."""
    bias: Tensor | None
    activation: bool
    """Whether a ReLU follows."""


class NamedTensor(NamedTuple):
    """A tensor in Keras layout, with its original name."""

    tensor: Tensor
    source: str
    """The name in the file."""


@dataclass(frozen=True, eq=False)
class Translated:
    """A checkpoint with our names and in Keras layout."""

    checkpoint: Checkpoint
    dialect: Dialect
    tensors: dict[str, NamedTensor]
    """`layer/variable` -> tensor."""
    unknown: tuple[str, ...]
    """Names in the file that are not in the dialect."""
    ignored: tuple[str, ...]
    """Names in the file of tensors that are not weights."""
    layers: frozenset[str]
    """Keras files with our names: all layers."""
    prefix: str = ""
    """The common prefix of all names in the file."""
    outside: tuple[str, ...] = ()
    """Full names of the other tensors in the file, which do not have the prefix."""
    others: tuple[str, ...] = ()
    """Labels of the other networks in the file, as for `key=`."""
    foreign: Foreign = NOTHING
    """The unknown names by their place in the network."""
    head: tuple[Linear, ...] = ()
    """The layers of a head in place of the classifier, if it has several."""
    spec: NetSpec | None = None
    """The network, if the file contains its graph."""
    is_inferred: bool = False
    """Whether the layers were recognised without their names."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Translated({self.checkpoint.path.name!r}, {self.dialect.title}, {len(self.tensors)} tensors)"


def network_name(path: Path) -> str:
    """Returns a name for the network in a file: that of the file."""
    return valid_name(path.name.partition(".")[0])


def in_keras_layout(tensors: Mapping[str, NamedTensor]) -> dict[str, NamedTensor]:
    """Returns tensors in PyTorch's layout, by our names, in that of Keras."""
    result = {}
    for target, (tensor, source) in tensors.items():
        if target == "predictions/kernel" and tensor.shape[2:] == (1, 1):
            # A classifier may be stored as a 1x1 convolution.
            tensor = tensor.reshaped(tensor.shape[:2])
        axes = KERAS_AXES.get(len(tensor.shape))
        tensor = tensor.permuted(axes) if axes else tensor
        if target.endswith("_conv/kernel") and len(tensor.shape) == 2:
            # Layers that read single pixels, as those of squeeze-and-excitation, may be linear ones.
            tensor = tensor.reshaped((1, 1, *tensor.shape))
        result[target] = NamedTensor(tensor, source)
    return result


def in_torch_layout(tensor: Tensor) -> Tensor:
    """Returns a kernel in Keras' layout in that of PyTorch, and any other tensor as it is."""
    axes = TORCH_AXES.get(len(tensor.shape))
    return tensor.permuted(axes) if axes else tensor


TORCH_AXES = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}
"""Number of axes of a kernel in Keras' layout -> the order of these axes in PyTorch."""
KERAS_AXES = {count: tuple(map(axes.index, range(count))) for count, axes in TORCH_AXES.items()}
"""The inverse: number of axes of a kernel in PyTorch's layout -> the order of these axes in Keras."""


def with_constants(translated: Translated) -> Translated:
    """Returns a checkpoint whose norms have scales of one and shifts of zero, if the file has none for any of them."""
    translated = _with_squeeze_bias(translated)
    tensors = translated.tensors
    norms = {name.rpartition("/")[0]: named.tensor.shape for name, named in tensors.items() if name.endswith("_mean")}
    added: dict[str, NamedTensor] = {}
    for variable, value in (("gamma", 1.0), ("beta", 0.0)):
        if norms and not any(f"{layer}/{variable}" in tensors for layer in norms):
            added |= {f"{layer}/{variable}": NamedTensor(constant(shape, value), "") for layer, shape in norms.items()}
    if not added:
        return translated
    variables = " and ".join(sorted({name.rpartition("/")[2] for name in added}, reverse=True))
    note = f"the norms of the file have no {variables}: scales are one, shifts are zero"
    return replace(translated, tensors={**tensors, **added}, notes=(*translated.notes, note))


def _with_squeeze_bias(translated: Translated) -> Translated:
    """Returns a checkpoint whose squeeze-and-excitation has biases of zero, if the file has none of them."""
    tensors = translated.tensors
    layers = [name.rpartition("/")[0] for name in tensors if re.search(r"_se_(reduce|expand)_conv/kernel$", name)]
    if not layers or any(f"{layer}/bias" in tensors for layer in layers):
        return translated
    shapes = {layer: tensors[f"{layer}/kernel"].tensor.shape[-1:] for layer in layers}
    added = {f"{layer}/bias": NamedTensor(constant(shape, 0.0), "") for layer, shape in shapes.items()}
    note = "the layers of squeeze-and-excitation in the file have no biases: they are zero"
    return replace(translated, tensors={**tensors, **added}, notes=(*translated.notes, note))


_TRAINING = re.compile(
    r"(^|[._])(loss|losses|criterion|criterions?|metrics?|acc|accuracy|auroc|f1|precision|recall|confmat|confusion|map"
    r"|queue|queue_ptr|center|centers|ema_counter|decay|num_updates|step|steps|epoch|temperature|logit_scale|class_weights?)([._\d]|$)"
)

_AUXILIARY = re.compile(r"(^|[._])aux(iliary)?\d*([._]|$)")

_NORMALIZER = re.compile(r"(^|[._])(pixel_|image_|input_)?(mean|std)$")


def foreign(checkpoint: Checkpoint, unknown: Iterable[str], tensors: Mapping[str, NamedTensor]) -> Foreign:
    """Returns the unknown names of a network by their place.

    Args:
        checkpoint: the tensors of the network alone.
        unknown: names that no layer has.
        tensors: `layer/variable` -> tensor of the network.
    """
    parts: dict[str, list[str]] = {"within": [], "head": [], "beside": []}
    inner = tuple(_blocks(tensors))
    order = {name: number for number, name in enumerate(checkpoint.tensors)}
    last = max((order.get(named.source, 0) for layer, named in tensors.items() if layer.startswith("stage")), default=0)
    # In a file that is sorted by name, as .safetensors are, the order tells nothing.
    is_sorted = [*order] == sorted(order) or "/" in next(iter(order), "")
    for name in unknown:
        tensor = checkpoint.tensors[name]
        if inner and name.startswith(inner):
            parts["within"].append(name)
        elif is_beside(name, tensor):
            parts["beside"].append(name)
        elif "." in name and not is_sorted and order[name] < last:
            parts["within"].append(name)
        else:
            parts["head"].append(name)
    return Foreign(*(tuple(names) for names in parts.values()))


def is_beside(name: str, tensor: Tensor) -> bool:
    """Returns whether a tensor belongs to a loss, a metric or an auxiliary head, counts something, or is empty."""
    counts = tensor.size <= 1 and not tensor.dtype.startswith(("float", "bfloat"))
    is_of_training = bool(_TRAINING.search(name.lower())) or is_auxiliary(name)
    return is_of_training or counts or not tensor.size or is_normalizer(name, tensor)


def is_auxiliary(name: str) -> bool:
    """Returns whether a tensor belongs to an auxiliary head, which only training uses.

    Example:
        >>> is_auxiliary("aux_classifier.0.weight"), is_auxiliary("module.aux2.fc.bias"), is_auxiliary("auxin.weight")
        (True, True, False)
    """
    return bool(_AUXILIARY.search(name.lower()))


def is_normalizer(name: str, tensor: Tensor) -> bool:
    """Returns whether a tensor is the mean or deviation by which images are normalized before the network."""
    return bool(_NORMALIZER.search(name)) and tensor.size <= 4


def _blocks(tensors: Mapping[str, NamedTensor]) -> set[str]:
    """Returns the prefixes of the names in each block, and of those in each stage."""
    groups: dict[str, list[list[str]]] = {}
    for layer, named in tensors.items():
        if match := re.match(r"(stage\d+)_(block\d+)", layer):
            parts = re.split(r"(?<=[./])", named.source)[:-1]
            groups.setdefault(match[1], []).append(parts)
            groups.setdefault(match[0], []).append(parts)
    prefixes = {group: "".join(common_parts(paths)) for group, paths in groups.items()}
    # A stage of one block has the prefix of the block; that of the stage ends before its number.
    stages = {group: re.sub(r"(?<=\.)\d+\.$", "", prefix) for group, prefix in prefixes.items() if "_" not in group}
    prefixes |= stages
    shared = Counter(prefixes[group] for group in prefixes if "_" not in group)
    return {prefix for prefix in prefixes.values() if prefix and shared[prefix] <= 1}


def grouped(names: Iterable[str]) -> str:
    """Returns names in words: their first two parts, and how many tensors each holds."""
    counts = Counter(".".join(re.split(r"[./]", name)[:2]) for name in names)
    words = [f"{name} ({count} tensors)" if count > 1 else name for name, count in counts.items()]
    return ", ".join(words[:6]) + (f", ... ({len(words)})" if len(words) > 6 else "")


_KINDS: tuple[tuple[str, str], ...] = (
    ("LoRA adapters: the base network is elsewhere", r"lora_(A|B|up|down|embedding)|hada_w1|lokr_w"),
    ("an AdderNet, whose kernels are not convolved with the image", r"adder"),
    ("a transformer with relative positions (Swin, BEiT, MaxViT or the like)", r"relative_position_bias|rel_pos"),
    ("CLIP", r"(^|\.)(visual|text_model|vision_model)\..*(attn|self_attn)|token_embedding\.weight"),
    ("a language model", r"(^|\.)(wte|wpe|word_embeddings|embed_tokens|lm_head|tok_embeddings)\."),
    ("a ConvNeXt", r"(^|\.)(dwconv|pwconv1)\.|layer_scale(_parameter)?$|blocks\.\d+\.gamma$"),
    ("a vision transformer", r"(^|\.)(cls_token|class_token|patch_embed)|^((model|module|backbone)\.)?pos_embed"),
    (
        "a network with self-attention (a transformer or the like)",
        r"attn\.qkv|self_attention|(self_attn|attention|attn)\.(q|k|v|qkv|query|in_proj|out_proj|q_proj)",
    ),
    ("Big Transfer (BiT), whose kernels are standardized", r"(^|\.)bit\."),
    ("a RegNet", r"trunk_output\.|(^|\.)s\d\.b\d+\.conv|(^|\.)regnet\."),
    (
        "a network with depthwise convolutions (EfficientNet, MobileNet or the like)",
        r"(_depthwise_conv|conv_dw|conv_pwl|_project_conv|inverted_residual)|features\.\d+\.conv\.\d+\.\d+\.weight",
    ),
    ("a DenseNet", r"denseblock\d|denselayer\d|(^|\.)dense\d\.\d+\.(bn|conv)\d"),
    ("an Inception network", r"[Mm]ixed_\d\w|inception\d\w|branch\d+x\d+"),
    ("a ShuffleNet", r"stage\d\.\d+\.branch[12]\."),
    ("an HRNet", r"stage\d\.\d+\.(branches|fuse_layers)\."),
    ("a network of deep layer aggregation (DLA)", r"(^|\.)(left|right)_(node|tree)\.|(tree\d|level\d)\.root\."),
    ("a SqueezeNet", r"\.expand[13]x[13]\."),
    ("a Res2Net", r"\.(convs|bns)\.\d"),
    ("a ResNeSt", r"conv2\.(fc1|bn0)|radix"),
    ("a network with selective kernels (SKNet)", r"conv2\.(attn|paths|conv\.\d)|(^|[._])sk(conv|unit)?\d?\."),
    ("CLIP, or another network with attention pooling", r"attnpool\."),
    (
        "a network with attention modules (CBAM)",
        r"(^|[._])(cbam|ca|sa|(channel|spatial)_attention|spatial)\d*\.",
    ),
    ("a network with attention modules (ECA)", r"[._]eca\.|[._]se\.conv\.weight"),
    ("a network with global context modules (GCNet)", r"context_block\.|channel_add|[._]gc\.|[._]se\.conv_attn\."),
    ("a SENet of pretrainedmodels, whose first pool pads at the end only", r"(?s)^layer0\.conv1\..*\.se_module\."),
    (
        "a network with squeeze and excitation of another form",
        r"[._]se(_?(module|layer|block|unit))?\d?\.(?!fc\.[02]\.)|[._]excitation\.",
    ),
    ("a network with blur pooling, which pads by reflection, for which Keras has no layer", r"[._]filt$|[._]blur"),
    ("a network without norms, whose kernels are standardized (NFNet)", r"conv\w*\.gain$"),
    ("a network with norms of another kind (EvoNorm, FRN)", r"(norm|bn)\d*\.(v|tau)$"),
    ("an MLP mixer", r"(linear|mlp)_tokens\."),
    ("a YOLO network", r"(^|\.)model\.\d+\.(cv\d|m\.\d|conv)\."),
    ("a diffusion network", r"time_embed|time_embedding"),
    ("a U-Net", r"(^|\.)(down|up)\d*\.(\d+\.)?(maxpool_conv|double_conv|conv\.double)|inc\.double_conv"),
    ("a recurrent network", r"weight_(ih|hh)_l\d"),
    ("a quantized network", r"weight_fake_quant|_packed_params|zero_point"),
)


def likely_kind(names: Iterable[str]) -> str:
    """Returns the kind of network that has tensors with such names, or an empty string.

    Example:
        >>> likely_kind(["blocks.0.attn.qkv.weight", "cls_token"])
        'a vision transformer'
    """
    text = "\n".join(name[:200] for _, name in zip(range(5000), names, strict=False))
    return next((kind for kind, pattern in _KINDS if re.search(pattern, text, re.MULTILINE)), "")
