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

    raise no_attribute(__name__, name, __all__, _ELSEWHERE.get(name, ""))


_APPLICATIONS = ("ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2")
_ELSEWHERE = {name: f"as in keras.applications: reszoo.applications.{name}" for name in _APPLICATIONS} | {
    "preprocess_input": "as in keras.applications: reszoo.applications.resnet.preprocess_input; for any weights: "
    "reszoo.preprocessing(model)",
    "load_model": "keras.models.load_model opens every saved network",
    "load_data": "reszoo.open_data reads folders, tables, arrays and named data sets",
    "resnet": "as in keras.applications: reszoo.applications.resnet",
    "resnet_v2": "as in keras.applications: reszoo.applications.resnet_v2",
    "fit": "reszoo.train(model, data, output=folder), or model.fit of Keras",
    "export": "reszoo.deploy(model, format, path)",
}
"""Names that users of other libraries look for -> what has them here."""
