"""Weights that are stored in parts, such as a kernel and its mask: put together again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor


def restored(checkpoint: Checkpoint) -> Checkpoint:
    """Returns a checkpoint with the products of masks (pruning) and of norms and directions (weight normalization)."""
    tensors = dict(checkpoint.tensors)
    rebuilt: dict[str, tuple[str, Tensor]] = {}
    for name in checkpoint.tensors:
        for ending, (others, product) in _PARTS.items():
            if name.endswith(ending):
                stem = name.removesuffix(ending)
                parts = [tensors.get(stem + other) for other in others]
                if all(part is not None and _fits(tensors[name], part) for part in parts):
                    rebuilt[name] = (stem + _WHOLE, product(*[tensors[name], *filter(None, parts)]))
    replaced = {name.removesuffix(ending) for name in rebuilt for ending in _PARTS if name.endswith(ending)}
    parts_left = {stem + other for stem in replaced for others, _ in _PARTS.values() for other in others}
    if not rebuilt:
        return checkpoint
    result = {}
    for name, tensor in tensors.items():
        if name in rebuilt:
            result[rebuilt[name][0]] = rebuilt[name][1]
        elif name not in parts_left:
            result[name] = tensor
    note = f"{len(rebuilt)} weights are stored in parts and were put together ({next(iter(rebuilt))}, ...)"
    return replace(checkpoint, tensors=result, notes=(*checkpoint.notes, note))


def _fits(whole: Tensor, part: Tensor) -> bool:
    """Returns whether a part is a mask of the weight, or one norm for each of its output channels."""
    return part.shape in (whole.shape, whole.shape[:1] + (1,) * (len(whole.shape) - 1))


_WHOLE = ".weight"


def _masked(kernel: Tensor, mask: Tensor) -> Tensor:
    return replace(kernel, read=lambda: kernel.read() * mask.read().astype(kernel.read().dtype))


def _normalized(direction: Tensor, norm: Tensor) -> Tensor:
    def read() -> Any:
        import numpy as np

        array = direction.read().astype("float32")
        flat = np.sqrt((array.reshape(len(array), -1) ** 2).sum(axis=1)).reshape((-1,) + (1,) * (array.ndim - 1))
        return (array * (norm.read().astype("float32") / flat)).astype(direction.dtype)

    return replace(direction, read=read)


_PARTS: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    ".weight_orig": ((".weight_mask",), _masked),
    ".weight_v": ((".weight_g",), _normalized),
    ".parametrizations.weight.original1": ((".parametrizations.weight.original0",), _normalized),
}
"""Ending of the stored weight -> endings of its other parts, and the function that puts them together."""

_UNSUPPORTED = re.compile(r"(.+)\.(weight_orig|weight_[uvg]|parametrizations\..+|weight_mask)")


def check_parts(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Checks that no weight of a network is stored in parts of another kind.

    Raises:
        ReszooError: one is.
    """
    left = [name for name in names if _UNSUPPORTED.fullmatch(name)]
    if left:
        got = f"weights in parts that are not supported ({', '.join(left[:3])}, ...)"
        hint = "remove the parametrization before saving (torch.nn.utils.parametrize.remove_parametrizations)"
        raise ReszooError(str(checkpoint.path), got=got, hint=hint)
