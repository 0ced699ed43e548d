"""reszoo: residual networks and their plain twins for Keras 3.

`from reszoo import resnet50`. The public names are listed in `__init__.pyi` and imported at first use: `import reszoo`
itself loads neither Keras nor NumPy.
"""

import lazy_loader

from reszoo._version import __version__  # noqa: F401

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Imports a public name; the error for an unknown one suggests the nearest names."""
    if name in __all__:
        return _import(name)
    from reszoo.errors import no_attribute

    raise no_attribute(__name__, name, __all__)
