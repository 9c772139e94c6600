"""The web page: a picture or thirty numbers in, an explained answer out.

Each page has a module, its templates have its name; what a network says and what is remembered
come from the floors below. Research and teaching only; not a diagnostic device, and every page
says so. The application is imported when first asked for: `bcnet users` needs no TensorFlow.
"""

from importlib import import_module

_HOMES = {"create_app": "application", "serve": "serving", "Settings": "settings"}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return __all__
