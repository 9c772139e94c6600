"""bcnet: benign or malignant in breast pictures, with answers that can be believed.

The public names are imported when first used, so `import bcnet` loads no TensorFlow. Research and
teaching only; not a diagnostic device.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "CLASS_NAMES": "config",
    "Config": "config",
    "Classifier": "classifier",
    "ModelFileError": "cardfile",
    "MeasurementModel": "measurements.model",
    "UnreadableImageError": "readers",
    "read_image": "readers",
    "read_manifest": "data.manifest",
    "build_cnn": "models",
    "build_vgg16": "models",
    "grad_cam": "explain.heatmaps",
}

__all__ = [*sorted(_HOMES), "load", "workflows"]


def load(path):
    """Load a model file of either kind, or a shipped model by name.

    Args:
        path: a `.keras` file of pictures, a `.skops` file of measurements, or a name such as "idc".

    Returns:
        A `Classifier` or a `MeasurementModel`.
    """
    path = import_module("bcnet.cardfile").locate_model(path)
    kind = "MeasurementModel" if str(path).endswith(".skops") else "Classifier"
    return __getattr__(kind).load(path)


def __getattr__(name):
    if name == "workflows":
        return import_module("bcnet.workflows")
    if name not in _HOMES:
        raise AttributeError(f"module 'bcnet' has no attribute {name!r}")
    return getattr(import_module(f"bcnet.{_HOMES[name]}"), name)


def __dir__():
    return __all__
