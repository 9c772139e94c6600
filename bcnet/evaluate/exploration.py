"""What measurements look like before any model: each alone, together, and who stands apart.

Belongs here: numbers of a table of measurements, for the exploration's page and figures. Does
not: whether a table is sound (`bcnet.data.measurement_checks`), models, drawing. Nothing found
here enters a model: it was found with every patient in sight.
"""

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from bcnet.config import CLASS_NAMES
from bcnet.data.quantities import FEATURES, MEASUREMENTS, QUANTITIES
from bcnet.evaluate.metrics import evaluate

SAME = 0.5
"""Any two measurements of a cluster have at least this rank correlation, up or down."""

FAR = 5.0
"""Robust standard deviations from the median beyond which a value stands apart."""

MAD_TO_DEVIATION = 1.4826  # of normal values


def summarise(table: pd.DataFrame) -> list[dict]:
    """Summarise each measurement by class.

    Args:
        table: as from `read_measurements`, labelled.

    Returns:
        For each of `FEATURES` a dict: `name`, `missing` (rows) and, for each class name, the
        quartiles `[25 %, 50 %, 75 %]`, None where nothing was measured.

    Example:
        >>> table = pd.DataFrame(1.0, index=range(2), columns=list(FEATURES)).assign(label=[0, 1])
        >>> summarise(table)[0]["malignant"]
        [1.0, 1.0, 1.0]
    """
    return [
        {
            "name": name,
            "missing": int(table[name].isna().sum()),
            **{
                class_name: _find_quartiles(table.loc[table["label"] == label, name])
                for label, class_name in enumerate(CLASS_NAMES)
            },
        }
        for name in FEATURES
    ]


def judge_alone(table: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> list[dict]:
    """Judge how well each measurement alone ranks malignant above benign patients, or below.

    The AUC is that of the direction seen in the same patients, hence never below 0.5; its
    interval, from a bootstrap over patients, reaches below where the direction is not sure.

    Args:
        table: as from `read_measurements`, with both classes.
        draws: of the bootstrap.
        seed: same seed, same intervals.

    Returns:
        The measurements, best first, each a dict: `name`, `n` (rows that have it), `higher` (the
        class with the larger values) and `auc`, `{"value", "low", "high"}`; those without two
        classes of values have None in `higher` and in `auc`, and come last.

    Example:
        >>> rows = {name: [1.0, 2.0, 3.0, 4.0] for name in FEATURES}
        >>> table = pd.DataFrame(rows).assign(label=[1, 1, 0, 0], patient_id=list("abcd"))
        >>> found = judge_alone(table)[0]
        >>> found["higher"], found["auc"]["value"]
        ('benign', 1.0)
    """
    found = [_judge_one(table, name, draws, seed) for name in FEATURES]
    return sorted(found, key=lambda each: -(each["auc"]["value"] or 0))


def cluster_measurements(table: pd.DataFrame) -> dict:
    """Group measurements that tell nearly the same: complete linkage of rank correlations.

    Args:
        table: as from `read_measurements`.

    Returns:
        A dict: `order` (names, alike ones beside each other), `correlation` (Spearman's ρ in that
        order, nested lists), `clusters` (in that order, each `name`, `members` and `lowest`, the
        smallest |ρ| within) and `left_out` (names without two different values).

    Example:
        >>> rows = {name: [1.0, 2.0, 3.0] for name in FEATURES}
        >>> len(cluster_measurements(pd.DataFrame(rows))["clusters"])
        1
    """
    names = [name for name in FEATURES if table[name].nunique() > 1]
    left_out = [name for name in FEATURES if name not in names]
    if len(names) < 2:
        return {"order": names, "correlation": [], "clusters": [], "left_out": left_out}
    correlation = table[names].corr(method="spearman").fillna(0).to_numpy()
    distances = squareform((1 - np.abs(correlation)).clip(0), checks=False)
    tree = optimal_leaf_ordering(linkage(distances, "complete"), distances)
    leaves, numbers = leaves_list(tree), fcluster(tree, 1 - SAME, "distance")
    groups = [leaves[numbers[leaves] == number] for number in dict.fromkeys(numbers[leaves])]
    return {
        "order": [names[leaf] for leaf in leaves],
        "correlation": correlation[np.ix_(leaves, leaves)].tolist(),
        "clusters": [_describe_cluster(names, correlation, group) for group in groups],
        "left_out": left_out,
    }


def find_outliers(table: pd.DataFrame) -> list[dict]:
    """Find values that stand apart from all patients' of both classes.

    The distance is from the median in robust standard deviations (median absolute deviations),
    taken apart for values above and below, as nearly all measurements are skewed.

    Args:
        table: as from `read_measurements`.

    Returns:
        The values beyond `FAR`, farthest first, each a dict: `row` (place in the table, from 0),
        `patient_id`, `name`, `value` and `distance` (negative below the median).

    Example:
        >>> rows = {name: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 99.0] for name in FEATURES}
        >>> table = pd.DataFrame(rows).assign(patient_id=list("abcdefg"))
        >>> find_outliers(table)[0]["patient_id"]
        'g'
    """
    values = table[list(FEATURES)].to_numpy(float)
    distances = np.column_stack([_measure_distances(column) for column in values.T])
    places = np.argwhere(np.abs(distances) > FAR)
    found = [
        {
            "row": int(row),
            "patient_id": str(table["patient_id"].iloc[row]),
            "name": FEATURES[at],
            "value": float(values[row, at]),
            "distance": float(distances[row, at]),
        }
        for row, at in places
    ]
    return sorted(found, key=lambda each: -abs(each["distance"]))


def project(table: pd.DataFrame) -> dict:
    """Project patients on the principal components of the standardised measurements.

    For looking only: missing values are taken for the median, columns without two different
    values left out, and all patients have a part in it.

    Args:
        table: as from `read_measurements`, at least two rows.

    Returns:
        A dict: `scores` (nested lists, `(n_rows, 2)`, signs such that the loadings sum to at least
        0), `explained` (share of the variance of each component, falling), `loadings` (for the
        first two, a dict by name, of unit length) and `left_out` (names).

    Raises:
        ValueError: fewer than two measurements vary.

    Example:
        >>> rows = {name: [1.0, 2.0, 3.0] for name in FEATURES}
        >>> round(project(pd.DataFrame(rows))["explained"][0], 6)  # all say the same
        1.0
    """
    names = [name for name in FEATURES if table[name].nunique() > 1]
    if len(names) < 2:
        raise ValueError(f"2 measurements must vary between patients. Received: {len(names)}")
    values = table[names].fillna(table[names].median())
    standard = ((values - values.mean()) / values.std(ddof=0)).to_numpy()
    left, sizes, loadings = np.linalg.svd(standard, full_matrices=False)
    signs = np.where(loadings[:2].sum(axis=1) < 0, -1, 1)
    return {
        "scores": (left[:, :2] * sizes[:2] * signs).tolist(),
        "explained": (sizes**2 / (sizes**2).sum()).tolist(),
        "loadings": [
            dict(zip(names, row.tolist(), strict=True)) for row in loadings[:2] * signs[:, None]
        ],
        "left_out": [name for name in FEATURES if name not in names],
    }


def _find_quartiles(values):
    return None if values.isna().all() else values.quantile([0.25, 0.5, 0.75]).tolist()


def _judge_one(table, name, draws, seed):
    rows = table[table[name].notna()]
    found = {"name": name, "n": len(rows), "higher": None}
    if rows["label"].nunique() < 2:
        return found | {"auc": {"value": None, "low": None, "high": None}}
    ranks = rows[name].rank(pct=True)  # of the AUC only the order matters, and it asks for 0–1
    patients = rows["patient_id"]
    result = evaluate(rows["label"], ranks, patients=patients, draws=draws, seed=seed)
    auc = result["image"]["auc"]
    if auc["value"] >= 0.5:
        return found | {"higher": CLASS_NAMES[1], "auc": auc}
    turned = {"value": "value", "low": "high", "high": "low"}
    auc = {end: None if auc[other] is None else 1 - auc[other] for end, other in turned.items()}
    return found | {"higher": CLASS_NAMES[0], "auc": auc}


def _describe_cluster(names, correlation, group):
    members = [names[at] for at in group]
    among = {MEASUREMENTS[name].quantity for name in members}
    quantities = [each.name for each in QUANTITIES if each.name in among]
    more = f" and {len(quantities) - 3} more" if len(quantities) > 3 else ""
    called = ", ".join(quantities[:3]) + more
    return {
        "name": members[0] if len(members) == 1 else called,
        "members": members,
        "lowest": float(np.abs(correlation[np.ix_(group, group)]).min()),
    }


def _measure_distances(values):
    differences = values - np.nanmedian(values) if not np.isnan(values).all() else values
    distances = np.zeros(len(values))
    for is_side in (differences > 0, differences < 0):
        if is_side.any():
            deviation = MAD_TO_DEVIATION * np.median(np.abs(differences[is_side]))
            distances[is_side] = differences[is_side] / deviation
    return distances
