"""What a calibrated model says before it becomes a probability: the logit, and what it is made of.

Belongs here: taking a fitted `CalibratedClassifierCV` apart. With `ensemble=False` and
`method="sigmoid"` its logit is a straight line of its pipeline's own score, so what explains the
score explains the logit. Does not: files, tables of answers, explanations.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline


class Calibrated(NamedTuple):
    """A fitted pipeline, and the line that turns its score into a logit.

    Attributes:
        pipeline: gives the score: its `decision_function`, or the probability of malignant that
            it would give uncalibrated where it has none.
        slope: of the logit by the score.
        intercept: the logit where the score is 0.
    """

    pipeline: Pipeline
    slope: float
    intercept: float

    def compute_scores(self, table: pd.DataFrame) -> np.ndarray:
        """Score rows, uncalibrated: float64 `(n,)`."""
        if hasattr(self.pipeline, "decision_function"):
            return self.pipeline.decision_function(table)
        return self.pipeline.predict_proba(table)[:, 1]

    def compute_logits(self, table: pd.DataFrame) -> np.ndarray:
        """Give the calibrated logit of malignant for each row.

        Args:
            table: `(n, 30)`, the measurements as columns; NaN where missing.

        Returns:
            float64 `(n,)`; `1 / (1 + exp(-logit))` is what `predict_proba` gives.
        """
        return self.slope * self.compute_scores(table) + self.intercept


def take_apart(estimator: CalibratedClassifierCV) -> Calibrated:
    """Take a fitted calibrated model apart.

    Args:
        estimator: `CalibratedClassifierCV(pipeline, method="sigmoid", ensemble=False)`, fitted to
            labels 0 and 1.

    Returns:
        Its pipeline and its line.

    Raises:
        ValueError: for a model of another kind.
    """
    fitted = getattr(estimator, "calibrated_classifiers_", ())
    lines = [line for each in fitted for line in each.calibrators]
    if len(lines) != 1 or not (hasattr(lines[0], "a_") and hasattr(lines[0], "b_")):
        raise ValueError(
            "the model must be one pipeline, calibrated by one sigmoid. "
            f"Received: {type(estimator).__name__} with {len(lines)} calibrators"
        )
    # Platt's sigmoid is 1 / (1 + exp(a·score + b)), the signs the other way round.
    return Calibrated(fitted[0].estimator, -float(lines[0].a_), -float(lines[0].b_))
