"""The file of a measurements model: an ordinary `.skops` file with one more member, `card.json`.

Belongs here: writing it whole, looking at it before trusting it, reading it back; and the pickle,
for those who need one. Where the file lies and what its card says is read by `bcnet.cardfile`,
what is done with it by `model`.
"""

import hashlib
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import InconsistentVersionWarning

from bcnet.atomic import replace_file, write_text
from bcnet.cardfile import CARD_MEMBER, ModelFileError, add_card, first_line, open_archive
from bcnet.measurements.trees import find_tree_fault

ENDING = ".skops"

# What skops writes for models of ours, and our card.
ALLOWED_MEMBERS = re.compile(r"schema\.json|card\.json|\d+\.npy")
# A forest of a thousand trees has some 30 MB; beyond this, a file is not one of ours.
LARGEST_FILE = 256 * 1024**2

# Beyond the types that skops trusts by itself, those of which our models are made. None of them
# runs anything on loading.
TRUSTED = (
    "bcnet.measurements.features.Engineer",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


def write_estimator(path: str | os.PathLike, estimator: CalibratedClassifierCV, card: dict) -> None:
    """Write model and card in one step: the old file or the new one, never half of one.

    Args:
        path: must end in `.skops`.
        estimator: the fitted model.
        card: what `json.dumps` takes; NaN is refused. Its references get a fingerprint of what
            the model was written as.

    Raises:
        ValueError: for another ending.
        ModelFileError: for a model that could not be loaded again.
    """
    if Path(path).suffix != ENDING:
        raise ValueError(f"`path` must end in {ENDING}. Received: path={str(path)!r}")
    with replace_file(path) as temporary:
        skops.io.dump(estimator, temporary, compression=zipfile.ZIP_DEFLATED)
        check_estimator_file(temporary)
        card["references"]["weights"] = fingerprint_estimator(temporary)
        add_card(temporary, card)


def read_estimator(
    path: str | os.PathLike, *, fingerprint: str | None = None
) -> CalibratedClassifierCV:
    """Check a file and load its model: only types of a fixed list, and no code is run.

    Args:
        path: a `.skops` file, ours or anyone's.
        fingerprint: what `fingerprint_estimator` gave when it was written; None: not asked.

    Returns:
        What it holds; whether that is a model of ours, `MeasurementModel.load` asks.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when it is truncated, foreign, corrupt or made to do harm.
    """
    check_estimator_file(path)
    if fingerprint not in (None, fingerprint_estimator(path)):
        raise ModelFileError(path, "what it holds is not what it was saved with")
    try:
        with warnings.catch_warnings():
            # One for each part; `MeasurementModel.load` says it once, with the remedy.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            estimator = skops.io.load(path, trusted=list(TRUSTED))
    except Exception as error:  # whatever damaged content makes a type raise means the same
        raise ModelFileError(path, f"skops cannot load it: {first_line(error)}") from error
    if fault := find_tree_fault(estimator):
        raise ModelFileError(path, fault)
    return estimator


def check_estimator_file(path: str | os.PathLike) -> None:
    """Look at a file before skops does: members, sizes, what arrays claim to be, types.

    Args:
        path: a `.skops` file.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: naming the first thing that is wrong.
    """
    with open_archive(path, ENDING) as archive:
        _check_members(path, archive.infolist())
        if "schema.json" not in archive.namelist():
            raise ModelFileError(path, "not a skops model file: it has no schema.json")
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                _check_array(path, archive, member)
    try:
        foreign = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
    except Exception as error:  # whatever a damaged schema makes skops raise means the same
        raise ModelFileError(path, f"its schema is damaged: {first_line(error)}") from error
    if foreign:
        raise ModelFileError(path, f"it holds {foreign[0]}, which no model of ours does")


def fingerprint_estimator(path: str | os.PathLike) -> str:
    """Name what a `.skops` file holds beside the card: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    with open_archive(path, ENDING) as archive:
        for name in sorted(set(archive.namelist()) - {CARD_MEMBER}):
            digest.update(name.encode() + archive.read(name))
    return digest.hexdigest()[:16]


def write_pickle(path: str | os.PathLike, content) -> str:
    """Write a pickle, and its SHA-256 beside it in `NAME.pkl.sha256`.

    Args:
        path: must end in `.pkl`.
        content: anything that pickles.

    Returns:
        The SHA-256, 64 hexadecimal digits: give it to whoever is to load the file, on another way
        than the file.

    Raises:
        ValueError: for another ending.
    """
    if Path(path).suffix != ".pkl":
        raise ValueError(f"`path` must end in .pkl. Received: path={str(path)!r}")
    data = pickle.dumps(content)
    with replace_file(path) as temporary:
        temporary.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    write_text(f"{path}.sha256", f"{digest}  {Path(path).name}\n")  # as `sha256sum -c` reads it
    return digest


def read_pickle(path: str | os.PathLike, *, sha256: str | None = None):
    """Load a pickle whose SHA-256 is known.

    WARNING: a pickle runs whatever code its maker put into it. The hash says that the file is the
    one that was hashed, not that it is harmless: load only what you or someone you trust has
    written, and use the `.skops` file wherever you can.

    Args:
        path: a `.pkl` file.
        sha256: as its maker gave it; by default that in `NAME.pkl.sha256`, which guards against
            damage and mix-ups, but not against who can replace both files.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when the hash is another, or there is none; nothing has been run then.
    """
    beside = Path(f"{path}.sha256")
    if sha256 is None and not beside.is_file():
        raise ModelFileError(path, f"a pickle is loaded by its SHA-256 only, and {beside} is gone")
    expected = (beside.read_text(encoding="utf-8").split() or [""])[0] if sha256 is None else sha256
    data = Path(path).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected.strip().lower():
        raise ModelFileError(path, f"its SHA-256 is {found}, not {expected}: it was not loaded")
    return pickle.loads(data)


def _check_members(path, members):
    names = [member.filename for member in members]
    for name in names:
        if not ALLOWED_MEMBERS.fullmatch(name):
            raise ModelFileError(path, f"it holds {name!r}, which no model of ours does")
        if names.count(name) > 1:
            raise ModelFileError(path, f"it holds {name} twice")
    size = sum(member.file_size for member in members)
    if size > LARGEST_FILE:
        raise ModelFileError(path, f"it would unpack to {size:,} bytes")


def _check_array(path, archive, member):
    """Refuse an array that claims more than its bytes: NumPy would make room for the claim."""
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            shape, _, kind = read_header(file)
            stored = member.file_size - file.tell()
    except Exception as error:  # zip and NumPy raise many kinds on damaged bytes
        raise ModelFileError(path, f"{member.filename} is damaged: {first_line(error)}") from error
    claimed = int(np.prod(shape, dtype=object)) * kind.itemsize
    if kind.hasobject or claimed != stored:
        raise ModelFileError(path, f"{member.filename} is no array of {stored:,} bytes")
