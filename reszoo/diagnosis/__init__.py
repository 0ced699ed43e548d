"""Measurements of residual and other networks, for any functional Keras model; `__init__.pyi` lists the names."""

import lazy_loader

from reszoo.errors import no_attribute

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Returns a public name, imported on first use; the error for an unknown one suggests the nearest."""
    if name in __all__:
        return _import(name)
    raise no_attribute(__name__, name, __all__)
