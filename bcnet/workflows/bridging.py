"""What a network sees of what was measured: pictures and measurements of the same patients.

Belongs here: the comparison that the built-in pictures allow, because they are drawn from the
measurements. Does not: how either model is made (`training`, `measurements.fitting`).
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcnet.classifier import Classifier
from bcnet.config import Config
from bcnet.data.manifest import Manifest
from bcnet.data.quantities import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.evaluate.bootstrap import bound_draws, draw_weights
from bcnet.evaluate.cases import find_logits, find_probabilities
from bcnet.evaluate.comparison import compare, measure_alone
from bcnet.evaluate.metrics import format_estimate, label_patients, score_patients
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.scaling import fit_scaling
from bcnet.measurements.fitting import fit_measurements
from bcnet.workflows.cross_validation import align, judge_folds
from bcnet.workflows.views import stream_views

MODELS = ("picture", "measurements", "both")

# Penalties the ridge regression may choose from, on standardised features.
PENALTIES = np.logspace(-1, 4, 11)


def bridge(
    classifier: Classifier,
    manifest: Manifest,
    *,
    folds: int = 3,
    family: str = "logistic",
    progress: bool = False,
) -> dict:
    """Judge pictures, measurements and both together on the same held-out patients.

    The measurements' model is fitted to the patients that trained and tuned the network. Both are
    put together by a logistic regression of their two logits, fitted to those patients' scores by
    models that have not seen them; so the held-out patients choose nothing.

    Args:
        classifier: trained by `workflows.train` on `manifest`.
        manifest: the built-in pictures, with the column `split` that trained the classifier.
        folds: in which the network is trained again for the scores of patients it has not seen.
        family: of the measurements' model, one of `bcnet.measurements.models.FAMILIES`.
        progress: show bars.

    Returns:
        A dict that JSON can hold: `n_train` and `n_test` patients; `models`, for each of `MODELS`
        the measures of `evaluate.comparison.measure_alone` at 0.5; `differences`, for
        "picture → measurements" and "measurements → both" what `evaluate.comparison.compare`
        gives; `weights`, of the two logits in "both"; `recovered`, for each measurement the share
        of its variance between held-out patients (R²) that a ridge regression of the network's
        features explains, as `{"value", "low", "high"}`, best first.

    Raises:
        ValueError: when the pictures are not the built-in ones, or no test part is there.
    """
    measured = _take_measured(manifest)
    rows, views = stream_views(classifier, manifest.table, progress=progress)
    is_test = rows["split"].eq("test").to_numpy()
    if not is_test.any():
        raise ValueError("`manifest` must have a test part, which trained and tuned nothing")
    test = _merge(rows[is_test], views.probability[is_test])
    train = _judge_training(classifier, manifest, folds, progress)
    fitted = fit_measurements(measured.loc[train.index].reset_index(), family, seed=0)
    train["measurements"] = find_logits(fitted.out_of_fold)
    by_numbers = fitted.estimator.predict_proba(measured.loc[test.index, list(FEATURES)])[:, 1]
    test["measurements"] = find_logits(by_numbers)
    stack = LogisticRegression().fit(train[["picture", "measurements"]], train["label"])
    test["both"] = stack.decision_function(test[["picture", "measurements"]])
    features = pd.DataFrame(views.features).groupby(rows["patient_id"].to_numpy()).mean()
    return {
        "n_train": len(train),
        "n_test": len(test),
        **_compare(test),
        "weights": dict(zip(MODELS[:2], map(float, stack.coef_[0]), strict=True)),
        "recovered": _recover(features, measured, train.index, test.index),
    }


def _take_measured(manifest):
    """The measurements by patient, after checking that the pictures are of those patients."""
    measured = load_wisconsin().set_index("patient_id")
    patients = manifest.table["patient_id"]
    if not manifest.info.simulated or not patients.isin(measured.index).all():
        raise ValueError(
            "the bridge needs the built-in pictures, which are drawn from measurements. "
            f"Received: {manifest.info.name}"
        )
    return measured


def _judge_training(classifier, manifest, folds, progress):
    """Logits of the patients that trained the network, by networks that have not seen them."""
    config = Config(**classifier.card["training"]["config"])
    others = replace(manifest, table=manifest.table.drop(columns="fold", errors="ignore"))
    judged = judge_folds(others, config, folds=folds, progress=progress)
    y_prob = align(judged["probability"], judged["threshold"])
    try:
        scaling = fit_scaling(judged["label"], find_logits(y_prob))
    except ValueError:  # a network that learned nothing: its weight in the stack will say so
        return _merge(judged, y_prob)
    return _merge(judged, scaling.apply(find_logits(y_prob)))


def _merge(rows, y_prob):
    """One row per patient: his label, and the mean logit of his pictures."""
    patients = rows["patient_id"].to_numpy()
    names, scores = score_patients(y_prob, patients)
    labels = label_patients(rows["label"], patients)[1]
    return pd.DataFrame({"label": labels, "picture": find_logits(scores)}, index=names)


def _compare(test):
    bootstrap = Bootstrap(test["label"], test.index)
    scores = {name: find_probabilities(test[name].to_numpy()) for name in MODELS}
    pairs = (MODELS[:2], MODELS[1:])
    return {
        "models": {name: measure_alone(scores[name], bootstrap) for name in MODELS},
        "differences": {f"{a} → {b}": compare(scores[a], scores[b], bootstrap) for a, b in pairs},
    }


def _recover(features, measured, train, test):
    """Regress each measurement on what the network's last layer sees, and judge it on others."""
    names = list(FEATURES)
    regression = make_pipeline(StandardScaler(), RidgeCV(PENALTIES, alpha_per_target=True))
    regression.fit(features.loc[train], measured.loc[train, names])
    truth = measured.loc[test, names].to_numpy()
    residuals = (truth - regression.predict(features.loc[test])) ** 2
    found = {name: _bound_share(truth[:, i], residuals[:, i]) for i, name in enumerate(names)}
    return dict(sorted(found.items(), key=lambda item: -item[1]["value"]))


def _bound_share(truth, residuals, draws=2000, seed=0):
    """The share of variance explained, with its interval over patients."""

    def share(weights):
        total = weights.sum(axis=1)
        variance = weights @ truth**2 / total - (weights @ truth / total) ** 2
        return 1 - weights @ residuals / total / variance

    samples = [share(weights) for weights in draw_weights(np.arange(len(truth)), draws, seed)]
    whole = share(np.ones((1, len(truth))))[0]
    return {"value": float(whole), **bound_draws(np.concatenate(samples))}


def format_bridge(result: dict) -> str:
    """Format what `bridge` found as lines for the terminal.

    Args:
        result: what it returned.

    Returns:
        A text of several lines without a final newline.
    """
    lines = [f"{result['n_test']} held-out patients, {result['n_train']} others"]
    for name, each in result["models"].items():
        auc, accuracy = format_estimate(each["auc"]), format_estimate(each["accuracy"])
        lines.append(f"{name:13} AUC {auc}, accuracy {accuracy}")
    for name, found in result["differences"].items():
        told = format_estimate(found["measures"]["auc"]["difference"])
        lines.append(f"{name}: AUC {told}, p = {found['delong']['p']:.2g} (DeLong)")
    best = list(result["recovered"].items())[:5]
    told = ", ".join(f"{name} {share['value']:.2f}" for name, share in best)
    lines.append(f"best seen by the network (R²): {told}")
    return "\n".join(lines)
