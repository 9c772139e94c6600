"""What a model is given of the measurements: as they are, as logarithms, or with what they imply.

Belongs here: arithmetic on the numbers of one patient, which learns nothing from other patients
and so cannot carry anything across a fold. Does not: imputing, scaling and selecting, which learn
and are scikit-learn's (`models`).
"""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from bcnet.data.quantities import FEATURES, QUANTITIES

ENGINEERINGS = ("plain", "log", "rich")
"""Ways of giving the measurements to a model, see `Engineer`."""

_NAMES = [quantity.name for quantity in QUANTITIES]

# A nucleus without a dent has a concavity of 0 and no logarithm; 0.01 is about a tenth of the usual
# value, so that the logarithm stays nearly one without running away at 0.
DENT_OFFSET = 0.01

# Above 0 in every nucleus, so that the error can be stated as a share of the mean.
SIZES = ("radius", "texture", "perimeter", "area")


class Engineer(TransformerMixin, BaseEstimator):
    """Take the thirty measurements from a table, and give what a model is to see of them.

    The columns are found by name, so neither their order nor further columns (a label, an id)
    matter. A missing value stays missing in everything made of it.

    - "plain": the thirty as they are.
    - "log": their logarithms. Sizes and errors are skewed, and a difference of logarithms is a
      ratio, so a linear model of them has every ratio within its reach.
    - "rich": the thirty, and what trees cannot say in one question: worst minus mean of each
      quantity, the errors of sizes as shares of their mean, and the roundness 4π·area/perimeter²
      (1 for a circle, less for a ragged outline).

    Args:
        kind: One of `ENGINEERINGS`.

    Example:
        >>> from bcnet.data.wisconsin import load_wisconsin
        >>> Engineer("log").fit_transform(load_wisconsin())[0, 0].round(4).item()  # ln 17.99
        2.8898
    """

    def __init__(self, kind="plain"):
        self.kind = kind

    def fit(self, rows, labels=None):
        """Check the arguments; there is nothing to learn.

        Args:
            rows: A DataFrame with the columns `FEATURES`.
            labels: Not used.

        Returns:
            The transformer.

        Raises:
            ValueError: `kind` is unknown, or a column is missing.
        """
        if self.kind not in ENGINEERINGS:
            allowed = ", ".join(ENGINEERINGS)
            raise ValueError(f"`kind` must be one of {allowed}. Received: kind={self.kind!r}")
        _take_features(rows)
        return self

    def transform(self, rows):
        """Give what the model is to see.

        Args:
            rows: A DataFrame with the columns `FEATURES`, `(n, …)`; NaN where missing.

        Returns:
            float64 `(n, 30)`, or `(n, 46)` for "rich"; named by `get_feature_names_out`.

        Raises:
            ValueError: A column is missing.
        """
        values = _take_features(rows)
        if self.kind == "log":
            return np.log(values + _OFFSETS)
        return np.hstack([values, _derive(values)]) if self.kind == "rich" else values

    def get_feature_names_out(self, input_features=None):
        """Name the columns of `transform`, as scikit-learn asks it.

        Args:
            input_features: Not used; the names are always those of `FEATURES`.

        Returns:
            Strings, `(n_columns,)`.

        Example:
            >>> Engineer("rich").get_feature_names_out()[[0, 30, 40, 44]].tolist()
            ['mean radius', 'worst − mean radius', 'relative radius error', 'mean roundness']
        """
        if self.kind == "log":
            return np.array([f"log {name}" for name in FEATURES], dtype=object)
        derived = [
            *(f"worst − mean {name}" for name in _NAMES),
            *(f"relative {name} error" for name in SIZES),
            "mean roundness",
            "worst roundness",
        ]
        return np.array([*FEATURES, *(derived if self.kind == "rich" else [])], dtype=object)


_OFFSETS = np.array([DENT_OFFSET * ("conca" in name) for name in FEATURES])


def _take_features(rows):
    missing = [name for name in FEATURES if name not in rows]
    if missing:
        raise ValueError(f"the table must have a column {missing[0]!r}. Received: {list(rows)}")
    return rows[list(FEATURES)].to_numpy(np.float64)


def _derive(values):
    """Derive from the measurements what `Engineer` adds to them, `(n, 16)`."""
    mean, error, worst = np.split(values, 3, axis=1)
    sizes = [_NAMES.index(name) for name in SIZES]
    perimeter, area = _NAMES.index("perimeter"), _NAMES.index("area")
    roundness = [4 * np.pi * part[:, area] / part[:, perimeter] ** 2 for part in (mean, worst)]
    return np.column_stack([worst - mean, error[:, sizes] / mean[:, sizes], *roundness])
