"""How much of a figure is luck, when one part of the patients judges and the rest trains.

Belongs here: many such hold-outs of one model. Does not: the judgement that uses every patient
(`nested`).
"""

import numpy as np
from threadpoolctl import threadpool_limits

from bcnet.data.quantities import FEATURES
from bcnet.measurements.fitting import check_table, divide_patients
from bcnet.measurements.models import build_pipeline

# One patient in five judges, as is usual.
PARTS = 5


def try_luck(table, name="logistic", *, holdouts=500, seed=0, progress=None):
    """Judge one model on many hold-outs, any of which somebody might have published.

    The model is the same each time, and so is the procedure; only the fifth of the patients that
    judges is drawn anew. What the accuracies differ by is luck.

    Args:
        table: What `bcnet.data.measurements.read_measurements` gives, with labels.
        name: One of `bcnet.measurements.models.FAMILIES`, as a quick run takes it.
        holdouts: How many, at least 1.
        seed: Of the first hold-out; the next one has the next.
        progress: Called with how many are done, and of how many; or None.

    Returns:
        A dict that JSON can hold: `name`; `seed`; `n_test`, rows of the smallest hold-out;
        `accuracy` of each hold-out at the model's own threshold, in the order drawn.

    Raises:
        ValueError: A column is missing, a class has too few patients, or an argument is out of
            range.

    Example:
        >>> from bcnet.data.wisconsin import load_wisconsin
        >>> try_luck(load_wisconsin(), holdouts=2)["n_test"]  # 569 / 5 = 113.8
        114
    """
    if holdouts < 1:
        raise ValueError(f"`holdouts` must be at least 1. Received: holdouts={holdouts}")
    check_table(table)
    pipeline, tell = build_pipeline(name, seed=seed), progress or (lambda done, total: None)
    accuracies, sizes = [], []
    for i in range(holdouts):
        train, test = divide_patients(table, folds=PARTS, seed=seed + i)[0]
        accuracies.append(_hold_out(pipeline, table, train, test))
        sizes.append(len(test))
        tell(i + 1, holdouts)
    return {"name": name, "seed": seed, "n_test": min(sizes), "accuracy": accuracies}


def find_share(luck, level=0.99):
    """Find the share of hold-outs whose accuracy is at least a level.

    Args:
        luck: What `try_luck` returned.
        level: 0–1.

    Returns:
        The share as a float.

    Example:
        >>> find_share({"accuracy": [0.95, 0.99, 1.0, 0.98]})
        0.5
    """
    return float(np.mean(np.asarray(luck["accuracy"]) >= level))


def _hold_out(pipeline, table, train, test):
    rows, labels = table[list(FEATURES)], table["label"].to_numpy()
    with threadpool_limits(1):  # the rows are few: threads cost more than they save
        pipeline.fit(rows.iloc[train], labels[train])
        return float(np.mean(pipeline.predict(rows.iloc[test]) == labels[test]))
