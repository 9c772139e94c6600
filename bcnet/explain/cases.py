"""The known pictures, by what a network sees of them, and the file that keeps them.

What belongs here holds features – what the last layer sees of a picture – with labels, patients
and paths, searches them, and writes them beside the model without a pixel. How features are
computed belongs to `graph`; which pictures are kept is decided elsewhere.
"""

import hashlib
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from sklearn.preprocessing import normalize

from bcnet.atomic import replace_file

# A million pictures of 2,048 features; what unpacks to more was made to fill a memory.
LARGEST_BYTES = 8 * 1024**3


@dataclass(frozen=True, eq=False)
class CaseIndex:
    """Features of known pictures, ready to be searched.

    It names patients and files: whoever may not see the data may not see it either.

    Attributes:
        vectors: float `(n, d)`, the features of each picture.
        labels: int `(n,)`, 0 = benign, 1 = malignant; both are there.
        patients: text `(n,)`, "" where the patient is unknown.
        paths: text `(n,)`, the place of each picture in its data.
        fingerprint: of the network that gave the features (see `fingerprint_weights`).

    Raises:
        ValueError: If an attribute is not as described.

    Example:
        >>> names = np.array(["a", "b"])
        >>> len(CaseIndex(np.eye(2), np.array([0, 1]), names, names, "0123").vectors)
        2
    """

    vectors: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    paths: np.ndarray
    fingerprint: str

    def __post_init__(self):
        if self.vectors.ndim != 2 or not self.vectors.size or self.vectors.dtype.kind != "f":
            raise ValueError(
                "`vectors` must be floats (n, d) of at least one picture. "
                f"Received: {self.vectors.dtype} {self.vectors.shape}"
            )
        require_finite(self.vectors, "vectors")
        for name, kinds in (("labels", "iu"), ("patients", "U"), ("paths", "U")):
            values = getattr(self, name)
            if values.shape != (len(self.vectors),) or values.dtype.kind not in kinds:
                raise ValueError(
                    f"`{name}` must be one {'number' if kinds == 'iu' else 'text'} for each of "
                    f"{len(self.vectors)} pictures. Received: {values.dtype} {values.shape}"
                )
        found = np.unique(self.labels).tolist()
        if found != [0, 1]:  # of one class, every neighbour would say the same of any picture
            raise ValueError(f"`labels` must hold both classes, 0 and 1. Received: {found[:5]}")

    def find_nearest(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the pictures whose features point most nearly the same way.

        Exact, by comparing with every picture: 4 ms for 100,000 of them with 128 features each.

        Args:
            vector: float32 `(d,)`, finite.
            k: how many to find, 1 to n.

        Returns:
            `(distances, rows)`: float32 `(k,)`, the cosine distance, nearest first, and int
            `(k,)`, the positions of the pictures found.

        Example:
            From `(0, 3)`, the features `(0, 1)` are at distance 0 and `(1, 0)` at 1.
        """
        direction = normalize(vector[None])[0]
        # In one thread. On a busy machine those of `@` wait for one another five times as long as
        # this takes, and those of scikit-learn's `NearestNeighbors` thirty times.
        cosines = np.einsum("nd,d->n", self._directions, direction)
        rows = np.argpartition(cosines, -k)[-k:]
        # 1 − cosine, from the squared chord, which is 0 for equal features and no rounding error.
        distances = np.square(self._directions[rows] - direction).sum(axis=1) / 2
        order = np.argsort(distances, kind="stable")
        return distances[order], rows[order]

    @cached_property
    def _directions(self):
        return normalize(self.vectors)


def require_finite(values: np.ndarray, name: str) -> None:
    """Raise `ValueError` if a value of the argument `name` is NaN or infinite."""
    count = int((~np.isfinite(values)).sum())
    if count:
        raise ValueError(f"`{name}` must be finite. Received: {count} that are not")


def fingerprint_weights(model) -> str:
    """Name a network by its weights: the same for a model file and its copy.

    The calibration is left out: it changes probabilities, and no feature.

    Args:
        model: A `keras.Model`.

    Returns:
        16 hexadecimal digits of SHA-256 over the shapes and values of all other weights.

    Example:
        >>> fingerprint_weights(build_cnn((64, 64))) == fingerprint_weights(build_cnn((64, 64)))
        False
    """
    digest = hashlib.sha256()
    for layer in model.layers:
        for weight in layer.get_weights() if layer.name != "calibration" else ():
            digest.update(str(weight.shape).encode())
            digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()[:16]


def check_fingerprint(index: CaseIndex, fingerprint: str) -> None:
    """Refuse an index whose features another network has given: its distances mean nothing.

    Args:
        index: The known pictures.
        fingerprint: Of the network that is to be asked.

    Raises:
        ValueError: If the fingerprints differ.

    Example:
        After further training, the index made before is refused.
    """
    if fingerprint != index.fingerprint:
        raise ValueError(
            "the index of cases belongs to other weights than this model's; `bcnet features` "
            f"makes a new one. Received: {index.fingerprint}, the model's are {fingerprint}"
        )


def locate_index(model_path: str | os.PathLike) -> Path:
    """Name the file of a model's cases, which lies beside the model.

    Example:
        >>> locate_index("models/mine.keras").name
        'mine.cases.npz'
    """
    return Path(model_path).with_suffix(".cases.npz")


def write_index(index: CaseIndex, path: str | os.PathLike) -> None:
    """Write an index in one step: numbers and text, no pixels and no pickles.

    Args:
        index: What to write.
        path: The `.npz` to write or replace; its folder is made when missing.

    Raises:
        OSError: If it cannot be written; an older file is then unharmed.
    """
    entries = {field.name: getattr(index, field.name) for field in fields(index)}
    with replace_file(path) as temporary:
        np.savez_compressed(temporary, **entries)


def read_index(path: str | os.PathLike) -> CaseIndex:
    """Read an index that `write_index` has written.

    Args:
        path: The `.npz`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, foreign, or holds pickled objects, which could run code.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no index of cases at {path}")
    try:
        with open(path, "rb") as file, NpzFile(file, allow_pickle=False) as archive:
            _check_size(archive)
            names = ("vectors", "labels", "patients", "paths")
            arrays = {name: archive[name] for name in names}
            return CaseIndex(**arrays, fingerprint=str(archive["fingerprint"]))
    except Exception as error:  # on damaged bytes NumPy raises many kinds: each means the same
        raise ValueError(
            f"{path} must be an index of cases, as `bcnet features` writes it. Received: {error}"
        ) from error


def _check_size(archive):
    size = sum(member.file_size for member in archive.zip.infolist())
    if size > LARGEST_BYTES:
        raise ValueError(f"an archive that would unpack to {size:,} bytes")
