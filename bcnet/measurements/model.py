"""A model of the measurements in use: the fitted estimator, its card, and the one way to ask it.

Belongs here: probabilities, labels, who is referred, why. Training and judging it do not; neither
does the file format (`file`).
"""

import logging
import os

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.calibration import CalibratedClassifierCV

from bcnet.cardfile import ModelFileError, locate_model, read_card
from bcnet.config import CLASS_NAMES
from bcnet.data.measurements import FEATURES, read_rows
from bcnet.evaluate.abstention import find_referred, read_band
from bcnet.evaluate.metrics import check_threshold
from bcnet.measurements.card import REFERENCE_COUNT, check_card, tell_versions
from bcnet.measurements.explain import Contributions, explain_rows
from bcnet.measurements.file import (
    ENDING,
    read_estimator,
    read_pickle,
    write_estimator,
    write_pickle,
)
from bcnet.measurements.logits import take_apart
from bcnet.measurements.ranges import find_outside, make_median_row
from bcnet.measurements.what_if import find_changes

logger = logging.getLogger("bcnet")

# float64 differs in the last digits between processors; another version or file in the first.
REFERENCE_TOLERANCE = 1e-6
REFERENCE_SEED = 20240229


class MeasurementModel:
    """One model file of measurements in use.

    Attributes:
        estimator: fitted `CalibratedClassifierCV` of one pipeline; its `predict_proba` takes a
            DataFrame with the columns `FEATURES`.
        card: a dictionary that can be written as JSON.
        path: the file it was loaded from or last saved in, None before.

    Example:
        `MeasurementModel.load("models/wisconsin.skops").predict("patients.csv")` gives a table
        with the columns row, probability, label and status.
    """

    def __init__(self, estimator: CalibratedClassifierCV, card: dict):
        self.estimator, self.card, self.path = estimator, card, None
        self._calibrated = take_apart(estimator)

    @classmethod
    def load(cls, path: str | os.PathLike):
        """Load a model file after checking it, and check that it still answers as when saved.

        A file saved under another minor version of scikit-learn is loaded with one line of
        warning, if its answers are the same to the last digits that matter.

        Args:
            path: a `.skops` file written by `save`, or the name of a model that comes with the
                project, such as "wisconsin".

        Raises:
            FileNotFoundError: when there is no such file.
            ModelFileError: when the file is damaged, foreign or changed, has no card, or answers
                its stored reference inputs differently.
        """
        path = locate_model(path)
        card = read_card(path, ENDING)
        check_card(path, card)
        try:
            estimator = read_estimator(path, fingerprint=card["references"].get("weights"))
        except ModelFileError as error:
            raise ModelFileError(path, error.reason + tell_versions(card)) from error
        return cls._settle(path, estimator, card)

    @classmethod
    def load_pickle(cls, path: str | os.PathLike, *, sha256: str | None = None):
        """Load a pickle written by `save_pickle`, if its SHA-256 is the one expected.

        WARNING: a pickle runs whatever code its maker put into it; see
        `bcnet.measurements.file.read_pickle`. Prefer the `.skops` file.

        Args:
            path: a `.pkl` file.
            sha256: as its maker gave it; by default that in `NAME.pkl.sha256` beside it.

        Raises:
            FileNotFoundError: when there is no such file.
            ModelFileError: as `load`, or for another hash.
        """
        content = read_pickle(path, sha256=sha256)
        if not isinstance(content, dict) or set(content) != {"estimator", "card"}:
            raise ModelFileError(path, "it is no pickle of a model of measurements")
        check_card(path, content["card"])
        return cls._settle(os.fspath(path), content["estimator"], content["card"])

    @classmethod
    def open(cls, path: str | os.PathLike):
        """Open a model file without asking whether it answers as when saved; `load` does that.

        For finding out what has changed; nothing else should be asked of it.

        Args:
            path: as for `load`.

        Raises:
            FileNotFoundError: when there is no such file.
            ModelFileError: when the file is damaged or foreign, or has no card.
        """
        path = locate_model(path)
        card = read_card(path, ENDING)
        check_card(path, card)
        return cls._put_together(path, read_estimator(path), card)

    @classmethod
    def _settle(cls, path, estimator, card):
        model = cls._put_together(path, estimator, card)
        model._check_references(path)
        return model

    @classmethod
    def _put_together(cls, path, estimator, card):
        try:
            model = cls(estimator, card)
        except ValueError as error:
            raise ModelFileError(path, str(error)) from error
        model.path = path
        return model

    def save(self, path: str | os.PathLike) -> None:
        """Write model and card as one file, in one step.

        The answers to reference inputs made from a seed, within the measured ranges (never a
        patient's row), go into the card, for `load` to compare.

        Args:
            path: must end in `.skops`.

        Raises:
            ValueError: for another ending.
        """
        self._write_references()
        write_estimator(path, self.estimator, self.card)
        self.path = os.fspath(path)

    def save_pickle(self, path: str | os.PathLike) -> str:
        """Write model and card as a pickle, and its SHA-256 beside it (see `load_pickle`).

        Args:
            path: must end in `.pkl`.

        Returns:
            The SHA-256, 64 hexadecimal digits.

        Raises:
            ValueError: for another ending.
        """
        self._write_references()
        return write_pickle(path, {"estimator": self.estimator, "card": self.card})

    @property
    def threshold(self) -> float:
        """Probability from which a patient is called malignant."""
        return self.card["threshold"]["value"]

    @property
    def band(self) -> tuple[float, float] | None:
        """Probabilities `(low, high)` between which a case is referred; None without a promise."""
        return read_band(self.card)

    def compute_logits(self, table: pd.DataFrame) -> np.ndarray:
        """Give the calibrated logit of malignant for each row, float64 `(n,)`.

        Args:
            table: with the columns `FEATURES`; NaN where missing.
        """
        return self._calibrated.compute_logits(table[list(FEATURES)])

    def predict(self, source, *, threshold: float | None = None) -> pd.DataFrame:
        """Give probability, label and status of every patient; the order is that of the source.

        Args:
            source: a DataFrame, a CSV, a dict of one patient or a list of dicts (see
                `bcnet.data.measurements.read_rows`).
            threshold: overrides the card's.

        Returns:
            One row per patient: `row` (its number, from 1), `probability` of malignant, `label`
            and `status`, the first of these that holds: "unreadable: reason" (probability and
            label are then missing); "outside the measured range: names", where a value lies more
            than a tenth of the range beyond those of all training patients; "refer", where the
            card has a band of probabilities too uncertain to answer; "ok". With another threshold
            the band reaches up to the higher of the two.

        Raises:
            ValueError: when a column is missing, not one row can be read, or `threshold` is no
                probability.
        """
        return self.predict_rows(*read_rows(source), threshold=threshold)

    def predict_rows(
        self,
        table: pd.DataFrame,
        reasons: list[str],
        *,
        threshold: float | None = None,
        first: int = 1,
    ) -> pd.DataFrame:
        """Answer rows that have been read, as `predict` does.

        Args:
            table: as `bcnet.data.measurements.read_rows` gives it.
            reasons: for each row "" or why it cannot be used.
            threshold: overrides the card's.
            first: the number of the first row.

        Returns:
            The table that `predict` describes.
        """
        threshold = self.threshold if threshold is None else check_threshold(threshold)
        reasons = np.asarray(reasons, dtype=object)
        is_read = reasons == ""
        probability = np.where(is_read, expit(self.compute_logits(table)), np.nan)
        labels = np.array(CLASS_NAMES, dtype=object)[(probability >= threshold).astype(int)]
        labels[~is_read] = None
        return pd.DataFrame(
            {
                "row": np.arange(first, first + len(table)),
                "probability": probability,
                "label": labels,
                "status": self._tell_status(table, probability, reasons, threshold),
            }
        )

    def _tell_status(self, table, probability, reasons, threshold):
        status = np.full(len(table), "ok", dtype=object)
        if self.band is not None:
            low, high = self.band
            status[find_referred(probability, low, max(high, threshold))] = "refer"
        outside = find_outside(table, self.card["features"])
        for row in np.flatnonzero(outside.any(axis=1)):
            names = (name for name, is_out in zip(FEATURES, outside[row], strict=True) if is_out)
            status[row] = f"outside the measured range: {', '.join(names)}"
        is_read = reasons == ""
        return np.where(is_read, status, "unreadable: " + reasons)

    def explain(self, source, *, seed: int = 0) -> Contributions:
        """Say what each measurement contributes to the calibrated logit of each patient.

        A contribution (SHAP value: Lundberg and Lee 2017, arXiv:1705.07874) says how far the
        measurement moves the answer away from that for the reference, a made-up patient with the
        training patients' median of everything. It explains the model, not the disease.

        Args:
            source: as for `predict`; rows that cannot be read are an error here.
            seed: of the method "exchange"; the others draw nothing.

        Returns:
            `bcnet.measurements.explain.Contributions`; `base` plus a row's contributions is its
            logit.

        Raises:
            ValueError: when a row cannot be read.
        """
        table = self._read_all(source)
        reference = make_median_row(self.card["features"])
        return explain_rows(self._calibrated, table[list(FEATURES)], reference, seed=seed)

    def what_if(self, source) -> pd.DataFrame:
        """Find the smallest changes of one patient's measurements that would turn the answer.

        Args:
            source: one patient, as for `predict`.

        Returns:
            The table of `bcnet.measurements.what_if.find_changes`; empty when nothing within the
            measured ranges turns it.

        Raises:
            ValueError: when it cannot be read, or is not one patient.
        """
        table = self._read_all(source)
        if len(table) != 1:
            raise ValueError(f"`source` must be one patient. Received: {len(table)}")

        row, features = table[list(FEATURES)], self.card["features"]
        return find_changes(self.compute_logits, row, features, cut=logit(self.threshold))

    def _read_all(self, source):
        table, reasons = read_rows(source)
        for number, reason in enumerate(reasons, 1):
            if reason:
                raise ValueError(f"row {number} cannot be explained: {reason}")
        return table

    def compare_references(self) -> tuple[np.ndarray, np.ndarray]:
        """Answer the reference inputs again.

        Returns:
            The logits as saved and as they are now, float64 `(n,)` each.
        """
        stored = self.card["references"]
        inputs = _make_references(self.card["features"], stored["seed"])
        return np.array(stored["logit"], float), self.compute_logits(inputs)

    def _write_references(self):
        logits = self.compute_logits(_make_references(self.card["features"], REFERENCE_SEED))
        self.card["references"] = {
            "seed": REFERENCE_SEED,
            "logit": [round(float(logit), 9) for logit in logits],
            "probability": [round(float(each), 9) for each in expit(logits)],
        }

    def _check_references(self, path):
        try:
            saved, now = self.compare_references()
            difference = np.abs(now - saved).max()
        except Exception as error:  # whatever a changed estimator raises when it is asked
            raise ModelFileError(
                path, f"it can no longer answer ({error}){tell_versions(self.card)}"
            ) from error
        told = tell_versions(self.card)
        if not difference <= REFERENCE_TOLERANCE:
            raise ModelFileError(
                path,
                f"it no longer answers as when it was saved (its reference outputs differ by "
                f"{difference:.3g}, {REFERENCE_TOLERANCE} is allowed): file or software has "
                f"changed{told}",
            )
        if told:
            logger.warning("%s answers as when it was saved%s", path, told)


def _make_references(features, seed):
    """Make patients who never were, within the measured ranges; the first lacks a few values."""
    rng = np.random.default_rng(seed)
    lowest, highest = (np.array([each[end] for each in features]) for end in ("lowest", "highest"))
    values = rng.uniform(lowest, highest, (REFERENCE_COUNT, len(features)))
    values[0, ::7] = np.nan
    return pd.DataFrame(values, columns=list(FEATURES))
