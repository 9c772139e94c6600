"""Probabilities for pictures without a truth."""

import os

import pandas as pd

from bcnet.atomic import write_text
from bcnet.classifier import Classifier, settle_precision
from bcnet.inputs import list_inputs
from bcnet.workflows.progress import make_bar

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
