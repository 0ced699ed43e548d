from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from reszoo.arch.spec import NetSpec
from reszoo.types import KerasModel, Tensor

def create(
    model: str | NetSpec,
    /,
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: Tensor | None = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "own",
    name: str | None = None,
    *,
    features: bool = False,
    prefix: str = "",
    loops: bool = False,
    recompute: bool | int = False,
    **changes: Any,
) -> KerasModel: ...
def rolled(model: KerasModel | str | Path, /, *, recompute: bool | int = False) -> KerasModel: ...
def unrolled(model: KerasModel, /) -> KerasModel: ...
def list_models(
    pattern: str = "*",
    *,
    pretrained: bool = False,
    family: str | None = None,
    max_params: float | None = None,
    max_macs: float | None = None,
    zoo: str | Path | None = None,
) -> list[str]: ...

class Builder(Protocol):
    """Builds one network of the zoo; the arguments are those of `reszoo.create`."""
    def __call__(
        self,
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: Tensor | None = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | None = "own",
        name: str | None = None,
        *,
        features: bool = False,
        prefix: str = "",
        loops: bool = False,
        recompute: bool | int = False,
        **changes: Any,
    ) -> KerasModel: ...

def __getattr__(name: str) -> Builder: ...
