"""Which measurements a model leans on, over many patients: importance and dependence.

Belongs here: what is measured by changing one measurement of labelled patients. Does not: one
patient's contributions (`explain`).

Both take patients the model has not been fitted to; of its own it would lean on what it has learnt
by heart.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bcnet.data.measurements import FEATURES
from bcnet.evaluate.metrics import bound_mean

# Exchanges per measurement: the error from drawing is then small beside that of the patients.
EXCHANGES = 20

POINTS = 41
"""Values of a measurement at which dependence is traced."""


def measure_importance(
    compute_logits: Callable, table: pd.DataFrame, *, seed: int = 0, draws: int = 2000
) -> pd.DataFrame:
    """Measure how much worse the answers get when one measurement is another patient's.

    Permutation importance (Breiman 2001, doi:10.1023/A:1010933404324) of the log loss, which is a
    mean over patients, so that a bootstrap over them bounds it. Measurements that say the same
    share their importance: radius, perimeter and area each look dispensable beside the others.

    Args:
        compute_logits: as `MeasurementModel.compute_logits`.
        table: labelled, as `bcnet.data.measurements.read_measurements` gives it.
        seed: of the exchanges and the bootstrap.
        draws: of the bootstrap.

    Returns:
        Columns `measurement`, `importance` (mean increase of the log loss, nats per patient),
        `low`, `high` (95 %), the most important first.

    Raises:
        ValueError: for a table without labels.
    """
    if "label" not in table:
        raise ValueError("`table` must have labels to measure importance. Received none")
    rng, labels = np.random.default_rng(seed), table["label"].to_numpy()
    rows = table[list(FEATURES)]
    usual = _measure_loss(compute_logits(rows), labels)
    found = []
    for name in FEATURES:
        losses = [
            _measure_loss(
                compute_logits(rows.assign(**{name: rng.permutation(rows[name])})), labels
            )
            for _ in range(EXCHANGES)
        ]
        rise = np.mean(losses, axis=0) - usual
        estimate = bound_mean(rise, patients=table["patient_id"], draws=draws, seed=seed)
        found.append({"measurement": name, "importance": estimate.pop("value"), **estimate})
    found = pd.DataFrame(found)
    return found.sort_values("importance", ascending=False, ignore_index=True)


def trace_dependence(
    compute_logits: Callable, table: pd.DataFrame, name: str, *, points: int = POINTS
) -> pd.DataFrame:
    """Trace the mean probability as one measurement of all patients takes value after value.

    Partial dependence (Friedman 2001, doi:10.1214/aos/1013203451). The others stay as they are,
    so the ends are of patients who do not exist: a huge area with a small radius.

    Args:
        compute_logits: as `MeasurementModel.compute_logits`.
        table: patients, with the columns `FEATURES`.
        name: of the measurement.
        points: how many values, from the lowest to the highest there is.

    Returns:
        Columns `value` and `probability` (the mean, of malignant).

    Raises:
        ValueError: there is no such measurement.
    """
    if name not in FEATURES:
        raise ValueError(f"`name` must be one of the 30 measurements. Received: name={name!r}")
    rows = table[list(FEATURES)]
    values = np.linspace(rows[name].min(), rows[name].max(), points)
    means = [
        (1 / (1 + np.exp(-compute_logits(rows.assign(**{name: value}))))).mean() for value in values
    ]
    return pd.DataFrame({"value": values, "probability": means})


def _measure_loss(logits, labels):
    return np.logaddexp(0, logits) - labels * logits
