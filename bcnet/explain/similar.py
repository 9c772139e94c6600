"""Similar cases: the known pictures that a network takes for most alike to a new one.

What belongs here turns features into a table a reader understands. The known pictures and their
file belong to `cases`.
"""

from numbers import Integral

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.explain.cases import CaseIndex, require_finite


def similar_cases(features: np.ndarray, index: CaseIndex, k: int = 5) -> pd.DataFrame:
    """Find the known pictures that the network takes for most alike to a new one.

    Two pictures are alike if the same features stand out in both, whatever their strength: the
    distance is the cosine distance. On held-out patients of breast tissue, 80 of 100 neighbours
    found by it share the label of the new picture (60 of 100 would by chance), as many as by
    Euclidean distance or a little more; among training patients, whose own pictures were left
    out, it was better by 0.7 of 100 [0.2, 1.2].

    Args:
        features: float `(d,)` of one picture, or `(n, d)` of several.
        index: The known pictures, with features from the same network.
        k: How many to find, at least 1; of an index with fewer, all.

    Returns:
        The nearest first, with the columns `path`, `label` (its class's name), `patient_id` (None
        where unknown) and `distance`: 0 = the same features, 1 = no feature in common (beyond 1,
        up to 2, where features can be negative). For several pictures a first column `query`
        counts them from 0.

    Raises:
        ValueError: If `features` are not finite or of another width than the index's, or `k` is
            below 1.

    Example:
        >>> names = np.array(["a.png", "b.png"])
        >>> index = CaseIndex(np.eye(2), np.array([0, 1]), np.array(["7", ""]), names, "0123")
        >>> similar_cases(np.array([0.0, 3.0]), index, k=1)
            path      label patient_id  distance
        0  b.png  malignant       None       0.0
    """
    features = np.asarray(features, np.float32)
    _check_query(features, index, k)
    count = min(k, len(index.vectors))
    found = [index.find_nearest(vector, count) for vector in np.atleast_2d(features)]
    distances, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    patients = pd.Series(index.patients[rows], dtype=object)
    table = pd.DataFrame(
        {
            "path": index.paths[rows].astype(object),
            "label": np.array(CLASS_NAMES, object)[index.labels[rows]],
            "patient_id": patients.where(patients != "", None),
            "distance": distances,
        }
    )
    if features.ndim == 2:
        table.insert(0, "query", np.repeat(np.arange(len(features)), count))
    return table


def _check_query(features, index, k):
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"`k` must be a whole number of at least 1. Received: k={k}")
    width = index.vectors.shape[1]
    if features.ndim not in (1, 2) or features.shape[-1] != width or not features.size:
        raise ValueError(
            f"`features` must be ({width},) or (n, {width}), as those of the index. "
            f"Received: {features.shape}"
        )
    require_finite(features, "features")
