"""What each measurement contributes to an answer: SHAP values at the calibrated logit.

Belongs here: contributions of the thirty measurements, whatever the pipeline makes of them on the
way. A ratio or a difference inside the model is shared out among the measurements that it is made
of: those are what was measured, and what a reader can check. Does not: which measurements matter
over many patients (`importance`), what would turn an answer (`what_if`), drawing (`bcnet.plots`).

The reference is one made-up patient with the training patients' median of everything, so a missing
value that the model takes for the median contributes nothing.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from bcnet.data.measurements import FEATURES
from bcnet.measurements.logits import Calibrated

# Forests whose probability is a mean over leaves, which `shap` takes apart exactly. It rounds what
# boosted trees ask to float32: their contributions were seen to miss the logit by 0.9.
TREES = (DecisionTreeClassifier, RandomForestClassifier, ExtraTreesClassifier)

# Each pair of walks costs 62 answers. Against 200 pairs, the largest error of a contribution was
# 0.02 on a scale where the largest was 2.
PAIRS = 64


class Contributions(NamedTuple):
    """Why some patients were answered as they were, in units of the logit.

    Attributes:
        table: float64 DataFrame `(n, 30)`: above 0 speaks for malignant.
        base: the logit of the reference; `base + table.sum(axis=1)` is `logit`.
        logit: float64 `(n,)`, calibrated, of malignant.
        method: "linear" or "tree", which are exact, or "exchange", which is drawn.
        background: what the contributions are relative to, in words.
    """

    table: pd.DataFrame
    base: float
    logit: np.ndarray
    method: str
    background: str = "the median patient of the training data"


def explain_rows(
    calibrated: Calibrated, rows: pd.DataFrame, reference: pd.DataFrame, *, seed: int = 0
) -> Contributions:
    """Share the distance between each patient's logit and the reference's among the measurements.

    Models that are a plane of the measurements, each transformed for itself, are read off their
    coefficients; forests of them are taken apart by `shap.TreeExplainer` (Lundberg et al. 2020,
    doi:10.1038/s42256-019-0138-9); of others, measurements are exchanged one after the other, in
    orders that are drawn (Štrumbelj and Kononenko 2014, doi:10.1007/s10115-013-0679-x).

    Args:
        calibrated: the model, taken apart.
        rows: `(n, 30)`, the measurements as columns; NaN where missing.
        reference: `(1, 30)`, alike.
        seed: of the drawn orders.

    Returns:
        The `Contributions`.
    """
    model, before = calibrated.pipeline[-1], calibrated.pipeline[:-1]
    sources = _find_sources(before)
    is_plane = len(getattr(model, "coef_", ())) == 1
    if sources is not None and (is_plane or isinstance(model, TREES)):
        seen, seen_reference = before.transform(rows), before.transform(reference)
        explain = _explain_plane if is_plane else _explain_trees
        values = np.zeros((len(rows), len(FEATURES)))
        values[:, sources] = calibrated.slope * explain(model, seen, seen_reference)
        method = "linear" if is_plane else "tree"
    else:
        values = _explain_by_exchange(calibrated.compute_logits, rows, reference, seed)
        method = "exchange"
    table = pd.DataFrame(values, columns=list(FEATURES), index=rows.index)
    base = float(calibrated.compute_logits(reference)[0])
    return Contributions(table, base, calibrated.compute_logits(rows), method)


def _find_sources(before):
    """Find of which measurement each column is that the model sees; None where one is of several.

    A logarithm is of one measurement, and nothing behind it in a pipeline of ours mixes columns.
    """
    if not len(before):
        return None
    names = [name.removeprefix("log ") for name in before.get_feature_names_out(list(FEATURES))]
    if not set(names) <= set(FEATURES):
        return None
    return [FEATURES.index(name) for name in names]


def _explain_plane(model, seen, reference):
    return model.coef_[0] * (seen - reference)


def _explain_trees(model, seen, reference):
    import shap  # seconds to import, and only forests need it

    explainer = shap.TreeExplainer(model, data=reference, feature_perturbation="interventional")
    return explainer.shap_values(seen, check_additivity=False)[..., 1]  # of malignant


def _explain_by_exchange(score, rows, reference, seed):
    """Turn the reference into the patient, measurement by measurement, there and back again.

    An order and its reverse cancel what two measurements do together, so that pairs need no luck.
    """
    rng = np.random.default_rng(seed)
    orders = np.array([rng.permutation(len(FEATURES)) for _ in range(PAIRS)])
    orders = np.concatenate([orders, orders[:, ::-1]])
    places = np.argsort(orders, axis=1)
    is_exchanged = places[:, None, :] < np.arange(len(FEATURES) + 1)[:, None]
    start = reference.to_numpy()
    return np.array([
        _walk(score, np.where(is_exchanged, row, start), orders) for row in rows.to_numpy()
    ])  # fmt: skip


def _walk(score, states, orders):
    """Average each measurement's step over the walks; `states` is `(walks, 31, 30)`."""
    rows = pd.DataFrame(states.reshape(-1, states.shape[2]), columns=list(FEATURES))
    steps = np.diff(score(rows).reshape(states.shape[:2]), axis=1)
    values = np.empty_like(steps)
    np.put_along_axis(values, orders, steps, axis=1)
    return values.mean(axis=0)
