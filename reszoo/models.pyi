from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras

from reszoo.arch.spec import NetSpec

def create(
    model: str | NetSpec,
    /,
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: Any = None,
    input_shape: Sequence[int | None] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "own",
    name: str | None = None,
    *,
    features: bool = False,
    prefix: str = "",
    **changes: Any,
) -> keras.Model: ...

class Builder(Protocol):
    """Builds one network of the zoo; the arguments are those of `reszoo.create`."""
    def __call__(
        self,
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | None = "own",
        name: str | None = None,
        *,
        features: bool = False,
        prefix: str = "",
        **changes: Any,
    ) -> keras.Model: ...

def __getattr__(name: str) -> Builder: ...
