"""What single layers in the configuration of a Keras model compute, of Keras 1, 2 or 3, in the words of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]


class UnusualSetting(Exception):
    """A setting of a layer that no network of the zoo has."""


def activation_settings(activation: Any) -> dict[str, Any] | None:
    """Returns kind and slope of an activation in a layer's configuration, or None if the zoo has no such."""
    if activation is None:
        return {"variant": "linear"}
    if isinstance(activation, Mapping):
        kind, config = activation.get("class_name"), activation.get("config")
        if kind == "function" or isinstance(config, str):
            return activation_settings(config)
        step, settings = description(str(kind), config if isinstance(config, Mapping) else {})
        return settings if step == "act" else None
    names = {"relu", "silu", "gelu", "softmax", "sigmoid", "linear"}
    name = {"swish": "silu"}.get(str(activation), str(activation))
    if name == "leaky_relu":
        return {"variant": "leaky_relu", "slope": 0.2}
    return {"variant": name} if name in names else None


def _square(value: Any) -> int:
    """Returns the side of a window.

    Raises:
        UnusualSetting: it is not a square.
    """
    sides = [*value] if isinstance(value, (list, tuple)) else [value]
    if len({*sides}) != 1:
        raise UnusualSetting(f"a window of {'x'.join(map(str, sides))}")
    return int(sides[0])


def _conv(config: Config) -> dict[str, Any]:
    old = "nb_filter" in config
    kernel = _square([config["nb_row"], config["nb_col"]] if old else config["kernel_size"])
    return {
        "width": int(config["nb_filter" if old else "filters"]),
        "kernel": kernel,
        "stride": _square(config["subsample" if old else "strides"]),
        "padding": str(config["border_mode" if old else "padding"]),
        "dilation": _square(config.get("dilation_rate", 1)),
        "groups": int(config.get("groups", 1)),
        "bias": bool(config["bias" if old else "use_bias"]),
        "activation": config.get("activation"),
    }


def _channel_conv(config: Config) -> dict[str, Any] | None:
    """Settings of a convolution along the channels (ECA); None for one along anything else."""
    usual = {"strides": 1, "dilation_rate": 1, "groups": 1, "filters": 1}
    is_plain = all(_square(config.get(name, 1)) == value for name, value in usual.items())
    if not is_plain or config.get("padding") != "same" or config.get("use_bias", True):
        return None
    return {"kernel": _square(config["kernel_size"]), "activation": config.get("activation")}


def _norm(config: Config) -> dict[str, Any]:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) else axis
    if axis not in (-1, 3):
        raise UnusualSetting(f"a norm over axis {axis}")
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    settings = {"variant": "batch", "groups": 1, "epsilon": float(config["epsilon"]), "scale": scale, "center": center}
    if "groups" in config:
        return settings | {"variant": "group", "groups": int(config["groups"])}
    return settings | {"momentum": float(config.get("momentum", 0.99))}


def _pool(config: Config, variant: str) -> dict[str, Any]:
    kernel = _square(config["pool_size"])
    padding = str(config.get("padding", config.get("border_mode", "valid")))
    return {
        "variant": variant,
        "kernel": kernel,
        "stride": _square(config.get("strides") or kernel),
        "padding": padding,
    }


def _zero_pad(config: Config) -> dict[str, Any]:
    padding = config["padding"]
    if pads_channels("ZeroPadding2D", config):
        return {"zeros": tuple(map(int, padding[1]))}
    sides = {*_flat(padding if isinstance(padding, (list, tuple)) else [padding])}
    if len(sides) != 1:
        raise UnusualSetting(f"zero padding of {padding}")
    return {"pixels": int(sides.pop())}


def pads_channels(kind: str, config: Config) -> bool:
    """Returns whether a layer pads the last axis of a map: in `channels_first` that is one of the two padded axes."""
    is_first = kind == "ZeroPadding2D" and config.get("data_format") == "channels_first"
    padding = config.get("padding")
    return is_first and isinstance(padding, (list, tuple)) and [*padding[:1]] in ([[0, 0]], [(0, 0)])


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, (list, tuple)) else [value]


def _leak(config: Config) -> dict[str, Any]:
    return {"variant": "leaky_relu", "slope": float(config.get("negative_slope", config.get("alpha", 0.3)))}


def _relu(config: Config) -> dict[str, Any]:
    slope = float(config.get("negative_slope") or 0.0)
    if config.get("max_value") is not None or config.get("threshold"):
        return {"variant": "clipped"}
    return {"variant": "leaky_relu", "slope": slope} if slope else {"variant": "relu"}


def _global(config: Config, variant: str) -> dict[str, Any]:
    return {"variant": variant, "keepdims": bool(config.get("keepdims", False))}


def _dense(config: Config) -> dict[str, Any]:
    width = int(config["units"] if "units" in config else config["output_dim"])
    return {"width": width, "bias": bool(config.get("use_bias", True)), "activation": config.get("activation")}


_LAYERS: dict[str, tuple[str, Any]] = {
    "Conv2D": ("conv", _conv),
    "Convolution2D": ("conv", _conv),
    "Conv1D": ("channel_conv", _channel_conv),
    "Dense": ("dense", _dense),
    "BatchNormalization": ("norm", _norm),
    "GroupNormalization": ("norm", _norm),
    "ReLU": ("act", _relu),
    "LeakyReLU": ("act", _leak),
    "Relu": ("act", lambda config: {"variant": "relu"}),
    "Silu": ("act", lambda config: {"variant": "silu"}),
    "Softmax": ("act", lambda config: {"variant": "softmax"}),
    "Activation": ("act", lambda config: activation_settings(config["activation"])),
    "MaxPooling2D": ("pool", lambda config: _pool(config, "max")),
    "AveragePooling2D": ("pool", lambda config: _pool(config, "avg")),
    "GlobalAveragePooling2D": ("global_pool", lambda config: _global(config, "avg")),
    "GlobalMaxPooling2D": ("global_pool", lambda config: _global(config, "max")),
    "ZeroPadding2D": ("zero_pad", _zero_pad),
    "Flatten": ("flatten", lambda config: {}),
    "Add": ("add", lambda config: {}),
    "Multiply": ("scale", lambda config: {}),
    "Merge": ("add", lambda config: {} if config.get("mode") == "sum" else None),
    "TFOpLambda": ("add", lambda config: {} if config.get("function") in ("__operators__.add", "math.add") else None),
}
"""Class of a layer -> kind of step, and its settings from its configuration; None if the zoo has no such."""


def description(kind: str, config: Config) -> tuple[str | None, dict[str, Any]]:
    """Returns the kind of step of a layer, None if the zoo has no such, and its settings.

    Raises:
        UnusualSetting: the zoo has such layers, but with other settings.
    """
    if kind not in _LAYERS:
        return None, {}
    step, settings = _LAYERS[kind]
    described = settings(config)
    if described is None or described.get("variant") == "clipped":
        return None, {}
    return "pad" if "zeros" in described else step, described
