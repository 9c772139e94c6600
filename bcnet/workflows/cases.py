"""Features of pictures: in a table for anyone's own analysis, or as a model's index of cases."""

import logging
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from bcnet.atomic import replace_file, write_text
from bcnet.classifier import Classifier
from bcnet.config import SPLITS
from bcnet.data.manifest import Manifest, relative_names
from bcnet.explain.cases import CaseIndex, fingerprint_weights, locate_index, write_index
from bcnet.workflows.ancestry import find_parts
from bcnet.workflows.samples import Pictures
from bcnet.workflows.views import stream_views

logger = logging.getLogger("bcnet")

PARTS = (*SPLITS, "all")

# What stands before the features in every table of them.
NAME_COLUMNS = ["path", "label", "patient_id"]

# Nine digits give back every float32 exactly.
FEATURE_FORMAT = "%.9g"


def extract_features(
    classifier: Classifier,
    manifest: Manifest,
    output: str | os.PathLike | None = None,
    *,
    part: str = "all",
    progress: bool = False,
) -> pd.DataFrame:
    """Compute what the last layer of a network sees of each picture, and write it when asked.

    Args:
        classifier: the model.
        manifest: the pictures, streamed at constant memory; unreadable ones are named, counted
            and left out.
        output: file to write, whole or not at all. `.csv` holds the table; `.npy` an array with
            the fields path, label, patient_id and vector; `.npz` an index that
            `Classifier.similar_cases` searches (both classes must be there). All of them name
            patients and files: treat them like the data.
        part: "train", "validation" or "test": only the pictures that the model's card knows as
            such; or "all".
        progress: show a bar.

    Returns:
        One row per picture: `path` below its source, `label` (0 = benign, 1 = malignant),
        `patient_id` (None where unknown) and the features `f0`, `f1` …, float32. Of several data
        sets, path and patient begin with the data set's name.

    Raises:
        ValueError: for another ending or part, when the card knows no picture as `part`, or none
            can be read.
    """
    if part not in PARTS:
        raise ValueError(f"`part` must be one of {', '.join(PARTS)}. Received: part={part}")
    write = None if output is None else choose_writer(output)
    rows, vectors = _take_part(classifier, manifest.table, part, progress)
    table = _tabulate(rows, vectors)
    if write is not None:
        write(table, classifier, output)
    return table


def choose_writer(output: str | os.PathLike) -> Callable:
    """Choose by the ending what writes features, before an hour's work has to find out.

    Args:
        output: the file to write.

    Returns:
        A function of `(table, classifier, output)`.

    Raises:
        ValueError: for an ending other than .csv, .npy and .npz, or a folder.
    """
    writers = {".csv": _write_csv, ".npy": _write_array, ".npz": _write_index}
    ending = Path(output).suffix
    if ending not in writers or Path(output).is_dir():
        raise ValueError(
            f"`output` must be a file ending in {', '.join(writers)}. Received: output={output}"
        )
    return writers[ending]


def index_training(
    classifier: Classifier,
    pictures: Pictures,
    features: np.ndarray,
    model_path: str | os.PathLike,
) -> None:
    """Write the index of the training pictures beside the model, for `similar_cases`.

    Args:
        classifier: the model, as saved.
        pictures: decoded, with the part "train".
        features: float32 `(n, d)`, what the last layer sees of that part.
        model_path: the model file.

    Raises:
        OSError: when the index cannot be written.
    """
    table = _tabulate(pictures.table.iloc[pictures.rows_in("train")], features)
    output = locate_index(model_path)
    _write_index(table, classifier, output)
    logger.info(
        "%s names the patients and files of %s training pictures: treat it like the data",
        output,
        len(table),
    )


def _take_part(classifier, table, part, progress):
    """Give the rows of the readable pictures of one part, and their features."""
    read, views = stream_views(classifier, table, progress=progress)
    if part == "all":
        return read, views.features
    chosen = (find_parts(classifier.card, read) == part).to_numpy()
    if not chosen.any():
        raise ValueError(f"the model's card knows none of the {len(table)} pictures as {part}")
    return read[chosen], views.features[chosen]


def _tabulate(rows, vectors):
    names = rows[NAME_COLUMNS].assign(path=name_pictures(rows)).reset_index(drop=True)
    if rows["dataset"].nunique() > 1:  # two may have a patient 7
        for name in ("path", "patient_id"):
            full = rows["dataset"].to_numpy() + "/" + names[name]
            names[name] = full.astype(object).where(names[name].notna(), None)
    features = pd.DataFrame(vectors, columns=[f"f{i}" for i in range(vectors.shape[1])])
    return pd.concat([names, features], axis="columns")


def name_pictures(rows):
    """Name pictures by their place in their source, and never by a folder of this machine."""
    names = relative_names(rows)
    outside = names.map(os.path.isabs)  # as a CSV may give them
    if not outside.any():
        return names
    shared = os.path.commonpath([PurePosixPath(name).parent for name in names[outside]])
    return names.where(~outside, names.map(lambda name: name.removeprefix(shared).lstrip("/")))


def _write_csv(table, _, output):
    write_text(output, table.to_csv(index=False, float_format=FEATURE_FORMAT))


def _write_array(table, _, output):
    index = _to_arrays(table)
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in index.items()]
    records = np.empty(len(table), kinds)
    for name, values in index.items():
        records[name] = values
    with replace_file(output) as temporary:
        np.save(temporary, records)


def _write_index(table, classifier, output):
    path, labels, patients, vectors = _to_arrays(table).values()
    fingerprint = fingerprint_weights(classifier.model)
    write_index(CaseIndex(vectors, labels, patients, path, fingerprint), output)


def _to_arrays(table):
    """Give names and features as arrays that need no pickle; an unknown patient is ""."""
    return {
        "path": table["path"].to_numpy(str),
        "label": table["label"].to_numpy(np.int8),
        "patient_id": table["patient_id"].fillna("").to_numpy(str),
        "vector": table.drop(columns=NAME_COLUMNS).to_numpy(np.float32),
    }
