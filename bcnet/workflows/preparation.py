"""Before any training: draw, audit and divide the pictures. None of it needs TensorFlow."""

import json
import logging
import os
from pathlib import Path

import pandas as pd

from bcnet.atomic import write_text
from bcnet.data.audit import audit as audit_table
from bcnet.data.manifest import Manifest
from bcnet.data.naming import read_class
from bcnet.data.simulate import simulate as draw
from bcnet.data.split import fold_by_patient, split_by_patient, write_split
from bcnet.data.wisconsin import load_wisconsin
from bcnet.workflows.progress import make_bar

logger = logging.getLogger("bcnet")

# Where the built-in set lies below dataset/.
SIMULATED = "simulated"


def simulate(
    output: str | os.PathLike,
    *,
    images_per_patient: int = 4,
    image_size: int = 128,
    seed: int = 0,
    patients: int | None = None,
    progress: bool = False,
):
    """Draw the built-in data set (see `data.simulate.simulate`).

    Returns:
        The folder.
    """
    total = images_per_patient * (len(load_wisconsin()) if patients is None else patients)
    with make_bar(total, "drawing", shown=progress) as bar:
        return draw(
            output,
            images_per_patient=images_per_patient,
            image_size=image_size,
            seed=seed,
            patients=patients,
            progress=bar.update,
        )


def audit(
    manifest: Manifest, *, json_path: str | os.PathLike | None = None, progress: bool = False
) -> dict:
    """Look for what would make a result untrue, before training.

    Args:
        manifest: the pictures.
        json_path: where to write the report.
        progress: show a bar.

    Returns:
        The report of `data.audit.audit`: `verdict` ("pass" or "fail"), `n_images`, `findings`.
    """
    with make_bar(len(manifest.table), "auditing", shown=progress) as bar:
        report = audit_table(manifest.table, skipped=manifest.skipped, progress=bar.update)
    if json_path is not None:
        write_text(json_path, json.dumps(report, indent=1) + "\n")
    return report


def split(
    manifest: Manifest,
    output: str | os.PathLike,
    *,
    validation: float = 0.15,
    test: float = 0.2,
    folds: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide pictures by patient and write the split as a CSV.

    Args:
        manifest: the pictures; a split of their own is replaced, with a warning.
        output: the CSV.
        validation: share of the patients.
        test: share of the patients.
        folds: number of folds instead of three parts.
        seed: same seed, same split.

    Returns:
        The table with `split` or `fold` filled.
    """
    table = manifest.table
    if table["split"].notna().any():
        logger.warning("the data brings a split of its own, which this one replaces")
    if folds is None:
        table = split_by_patient(table, validation=validation, test=test, seed=seed)
    else:
        table = fold_by_patient(table.assign(split=None), folds=folds, seed=seed)
    write_split(table, output)
    return table


def find_data(
    data: str | os.PathLike | None = None, *, folder: str | os.PathLike = "dataset"
) -> Path:
    """Find the pictures to work on: the given ones, else the user's own, else the built-in set.

    Args:
        data: used as it is when given.
        folder: taken when it holds class folders; else the built-in set is drawn into its
            subfolder `simulated`, once.

    Returns:
        A folder, CSV or npz for `read_manifest`.
    """
    if data is not None:
        return Path(data)
    folder = Path(folder)
    below = (path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.is_dir())
    own = (path for path in below if path.relative_to(folder).parts[0] != SIMULATED)
    if any(read_class([path.name]) is not None for path in own):
        return folder
    return simulate(folder / SIMULATED)
