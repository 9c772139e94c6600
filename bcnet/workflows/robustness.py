"""Judge a saved model on test pictures that get worse and worse."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bcnet import plots
from bcnet.classifier import Classifier, settle_precision
from bcnet.data.manifest import Manifest, hash_patient, patient_keys
from bcnet.evaluate.cases import PATIENTS_UNKNOWN
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.perturbations import choose_perturbations
from bcnet.evaluate.robustness import stress as judge
from bcnet.workflows.ancestry import count_seen, find_parts
from bcnet.workflows.evaluation import NOT_A_TEST, describe_data, select_part, settle_part
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import decode_table, list_patients, take_table


def stress(
    classifier: Classifier,
    manifest: Manifest,
    *,
    split: str | os.PathLike | None = None,
    limit: int | None = None,
    plots_folder: str | os.PathLike | None = None,
    allow_seen: bool = False,
    precision: str = "float32",
    progress: bool = False,
) -> dict:
    """Judge a model on its test pictures as they get bluer, darker, blurred, compressed …

    Which pictures are the test is settled as by `evaluate`. They are perturbed at the size that
    the network sees. Pictures of radiology have no stain to shift.

    Args:
        classifier: the model, at its own threshold.
        manifest: the pictures.
        split: CSV as `bcnet split` writes it.
        limit: judge at most so many pictures, of whole patients, for speed.
        plots_folder: where to write the figure.
        allow_seen: judge a test of which the model has seen some, as part "not a test".
        precision: of the network; float32 unless asked for.
        progress: show a bar.

    Returns:
        What `bcnet.evaluate.robustness.stress` gives, with `part`, `precision`, `data`, whether
        that is `simulated`, `model_data` and `image_size`; of part "not a test", also `seen`, the
        number of pictures that each step has touched.

    Raises:
        SeenInTraining: as `evaluate` does.
        ValueError: when the part has no readable pictures, or one class only.
    """
    table = take_table(manifest, split)
    if table["split"].notna().any():
        table = select_part(table, "test")
    pictures = decode_table(table, classifier.image_size, progress=progress)
    places = pictures.table.assign(place=np.arange(len(pictures.table)))
    table, part = settle_part(classifier.card, places, "test", allow_seen=allow_seen)
    table = table if limit is None else limit_patients(table, limit)
    perturbations = choose_perturbations(manifest.info.modality)
    runs = 1 + sum(len(each.amounts) for each in perturbations)
    with make_bar(runs * len(table), "stressing", shown=progress) as bar:
        result = judge(
            partial(classifier.predict_images, precision=precision),
            pictures.images[table["place"].to_numpy()],
            Bootstrap(table["label"], list_patients(table)),
            threshold=classifier.threshold,
            perturbations=perturbations,
            progress=bar.update,
        )
    result = {
        "part": part,
        "precision": settle_precision(precision),
        "data": manifest.info.name,
        "simulated": manifest.info.simulated,
        "model_data": classifier.card["data"]["name"],
        "image_size": list(classifier.image_size),
        **result,
    }
    if part == NOT_A_TEST:
        result["seen"] = count_seen(find_parts(classifier.card, table))
    if plots_folder is not None:
        note = describe_data(manifest, {**result, "patient_reason": PATIENTS_UNKNOWN})
        axes = plots.plot_stress(result, note=note)
        plots.save_figure(axes[0], Path(plots_folder) / "robustness.png")
    return result


def limit_patients(table: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Keep whole patients, in an order that says nothing of them, up to a number of pictures.

    Args:
        table: rows of a manifest.
        limit: most pictures to keep, at least 1.

    Returns:
        The rows kept, in their order.

    Raises:
        ValueError: for a limit below 1, or that the first patient exceeds.

    Example:
        `limit_patients(table, 500)` of patients with 8 pictures each has 496 rows.
    """
    hashes = patient_keys(table).map(hash_patient)
    sizes = hashes.value_counts().sort_index().cumsum()
    kept = sizes.index[sizes <= limit]
    if not len(kept):
        raise ValueError(
            f"`limit` must leave room for a patient's {sizes.iloc[0]} pictures. "
            f"Received: limit={limit}"
        )
    return table[hashes.isin(kept)].reset_index(drop=True)
