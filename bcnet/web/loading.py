"""The models that a server answers with, loaded once.

Belongs here: which files are meant, and under which name each is asked. Asking does not.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import bcnet
from bcnet.cardfile import ENDINGS, SHIPPED_FOLDER, list_shipped
from bcnet.classifier import Classifier
from bcnet.measurements.model import MeasurementModel


@dataclass(frozen=True)
class Models:
    """Loaded models by name, the stem of their file.

    Attributes:
        pictures: those that are asked about pictures.
        measurements: those that are asked about the thirty measurements.
        hashes: SHA-256 of each model's file, 64 hexadecimal digits.
    """

    pictures: dict[str, Classifier]
    measurements: dict[str, MeasurementModel]
    hashes: dict[str, str]


def load_models(places: Iterable[str] = ()) -> Models:
    """Load the models of a server.

    Args:
        places: model files, folders of them, or names of shipped models; without any, all that
            come with the project.

    Raises:
        FileNotFoundError: when there is no model at a place.
        ModelFileError: when a file cannot be used.
        ValueError: when two have the same name.

    Example:
        `load_models(["idc"]).pictures["idc"].predict("picture.png")`
    """
    places = list(places) or [str(SHIPPED_FOLDER / name) for name in _list_shipped_files()]
    models = Models({}, {}, {})
    for path in [path for place in places for path in _list_files(place)]:
        model, name = bcnet.load(path), Path(path).stem
        if name in models.hashes:
            raise ValueError(f"two models are named {name}: rename one of the files ({path})")
        kind = models.pictures if isinstance(model, Classifier) else models.measurements
        kind[name] = model
        models.hashes[name] = hashlib.sha256(Path(model.path).read_bytes()).hexdigest()
    return models


def _list_shipped_files():
    return [f"{name}{ending}" for ending in ENDINGS for name in list_shipped(ending)]


def _list_files(place):
    if not Path(place).is_dir():
        return [place]
    found = sorted(str(path) for path in Path(place).iterdir() if path.suffix in ENDINGS)
    if not found:
        raise FileNotFoundError(f"no model ({', '.join(ENDINGS)}) in the folder {place}")
    return found
