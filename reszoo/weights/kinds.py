"""Other kinds of networks, by the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KINDS: tuple[tuple[str, str], ...] = (
    ("LoRA adapters: the base network is elsewhere", r"lora_(A|B|up|down|embedding)|hada_w1|lokr_w"),
    ("an AdderNet, whose kernels are not convolved with the image", r"adder"),
    ("a Swin transformer", r"relative_position_bias_table"),
    ("CLIP", r"(^|\.)(visual|text_model|vision_model)\..*(attn|self_attn)|token_embedding\.weight"),
    ("a language model", r"(^|\.)(wte|wpe|word_embeddings|embed_tokens|lm_head|tok_embeddings)\."),
    ("a vision transformer", r"(^|\.)(cls_token|class_token|pos_embed|patch_embed)|attn\.qkv|self_attention"),
    ("a transformer", r"(self_attn|attention|attn)\.(q|k|v|qkv|query|in_proj|out_proj|q_proj)"),
    ("a ConvNeXt", r"(^|\.)(dwconv|pwconv1)\.|layer_scale"),
    ("a RegNet", r"trunk_output\.|(^|\.)s\d\.b\d+\.conv"),
    ("an EfficientNet or a MobileNet", r"(_depthwise_conv|conv_dw|conv_pwl|_project_conv|inverted_residual)"),
    ("a MobileNet", r"features\.\d+\.conv\.\d+\.\d+\.weight"),
    ("a DenseNet", r"denseblock\d|denselayer\d"),
    ("an Inception network", r"Mixed_\d\w|inception\d\w|branch\d+x\d+"),
    ("a Res2Net", r"\.(convs|bns)\.\d"),
    ("a ResNeSt", r"conv2\.(fc1|bn0|conv\.weight)|radix"),
    ("a network with selective kernels (SKNet)", r"conv2\.(attn|paths|conv\.\d)|(^|[._])sk(conv|unit)?\d?\."),
    ("CLIP, or another network with attention pooling", r"attnpool\."),
    ("a network with attention modules (CBAM)", r"(^|[._])(cbam|ca|sa|channel_attention|spatial_attention)\d*\."),
    ("a network with attention modules (ECA)", r"[._]eca\.|[._]se\.conv\.weight"),
    ("a network with global context modules (GCNet)", r"context_block\.|channel_add|[._]gc\."),
    ("a network with squeeze and excitation of another form", r"[._]se(_?(module|layer|block|unit))?\d?\."),
    ("a network with blur pooling", r"[._]filt$|[._]blur"),
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
