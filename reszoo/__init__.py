"""reszoo: residual networks and their plain twins for Keras 3.

`from reszoo import resnet50`; the public names are listed in `__init__.pyi` and imported when they are first used:
`import reszoo` itself loads neither Keras nor NumPy.
"""

import lazy_loader

from reszoo._version import __version__  # noqa: F401

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
