"""Probabilities and heatmaps for pictures without a truth."""

import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bcnet.atomic import replace_file, write_text
from bcnet.classifier import Classifier, list_inputs, read_input, settle_precision, tabulate
from bcnet.config import CLASS_NAMES
from bcnet.data.pipeline import try_read
from bcnet.explain.heatmaps import overlay
from bcnet.workflows.progress import make_bar

logger = logging.getLogger("bcnet")

# Digits of a probability in a CSV: what float32 holds.
PROBABILITY_FORMAT = "%.7g"


def predict(
    classifier: Classifier,
    inputs,
    *,
    output: str | os.PathLike | None = None,
    threshold: float | None = None,
    precision: str = "float32",
    progress: bool = False,
) -> pd.DataFrame:
    """Score pictures, and write the table as a CSV when asked.

    Args:
        classifier: the model.
        inputs: as for `Classifier.predict`.
        output: CSV to write, whole or not at all.
        threshold: overrides the card's.
        precision: as for `Classifier.predict`; recorded in the table where it is not float32.
        progress: show a bar.

    Returns:
        The table of `Classifier.predict`.
    """
    inputs = list_inputs(inputs)
    with make_bar(len(inputs.names), "scoring", shown=progress) as bar:
        table = classifier.predict(
            inputs, threshold=threshold, precision=precision, progress=bar.update
        )
    if settle_precision(precision) != "float32":
        table["precision"] = settle_precision(precision)
    if output is not None:
        write_text(output, to_csv(table))
    return table


def to_csv(table: pd.DataFrame) -> str:
    """Write a table of predictions as CSV, with as many digits as float32 holds."""
    return table.to_csv(index=False, float_format=PROBABILITY_FORMAT)


def explain(
    classifier: Classifier,
    inputs,
    output: str | os.PathLike,
    *,
    class_name: str = CLASS_NAMES[1],
    raw: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Write one overlay per picture: the tissue, and over it where the evidence lies.

    Args:
        classifier: the model.
        inputs: as for `Classifier.predict`.
        output: folder for the overlays (PNG), under the pictures' own names.
        class_name: the class whose evidence is shown.
        raw: also write each map as `.npy`, float32 `(h, w)`, 0–1.
        progress: show a bar.

    Returns:
        The table of `Classifier.predict` with the columns `overlay` (file name, None where the
        picture was not read) and `evidence` (False where the map is zero everywhere).
    """
    names, samples = list_inputs(inputs)
    files = _name_overlays(names)
    answers = []
    with make_bar(len(names), "explaining", shown=progress) as bar:
        for sample, file in zip(samples, files, strict=True):
            path = Path(output, file)
            answers.append(
                _explain_sample(classifier, sample, path, class_name=class_name, raw=raw)
            )
            bar.update()
    probability, reasons, evidence = np.array(answers, object).reshape(-1, 3).T
    table = tabulate(names, probability.astype(np.float32), reasons, threshold=classifier.threshold)
    table["overlay"] = np.where(reasons == "", files, None)
    table["evidence"] = evidence.astype(bool)
    blank = int(((table["status"] == "ok") & ~table["evidence"]).sum())
    if blank:
        logger.warning(
            "%s pictures show no evidence for %s: their maps are zero", blank, class_name
        )
    return table


def _explain_sample(classifier, sample, path, *, class_name, raw):
    """Write one picture's overlay; return its probability, why it was not read, and if it shows."""
    image, reason = try_read(sample, read_input)
    if image is None:
        return np.nan, reason, False
    probability, heatmap = classifier.explain_image(image, class_name=class_name)
    _write_png(path, overlay(image, heatmap))
    if raw:
        with replace_file(path.with_suffix(".npy")) as temporary:
            np.save(temporary, heatmap)
    return probability, "", bool(heatmap.any())


def _name_overlays(names):
    """Flatten the pictures' names; those of one name, from two folders, are numbered."""
    files, taken = [], set()
    for name in names:
        parts = [part for part in Path(name).parts if part not in (Path(name).anchor, "..", ".")]
        stem = file = "_".join(parts)
        number = 1
        while file in taken:
            number += 1
            file = f"{stem}-{number}"
        taken.add(file)
        files.append(f"{file}.png")
    return files


def _write_png(path, image):
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with replace_file(path) as temporary:  # `cv2.imwrite` would not say that the disk is full
        temporary.write_bytes(encoded)
