"""What residual connections do, measured on any functional Keras model; the names are listed in `__init__.pyi`."""

import lazy_loader

from reszoo.errors import no_attribute

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """A public name, imported now; an unknown one is an error that offers the nearest."""
    if name in __all__:
        return _import(name)
    raise no_attribute(__name__, name, __all__)
