"""Judge a saved model on pictures, and say truthfully what kind of judgement it is."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bcnet import plots
from bcnet.classifier import Classifier, settle_precision
from bcnet.config import CLASS_NAMES, SPLITS
from bcnet.data.manifest import Manifest, read_sample
from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.elsewhere import judge_recalibration
from bcnet.evaluate.metrics import check_threshold
from bcnet.evaluate.metrics import evaluate as measure
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.prevalence import check_prevalence, project_prevalence
from bcnet.evaluate.subgroups import measure_subgroups
from bcnet.workflows.ancestry import SEEN, SeenInTraining, count_seen, find_parts, tell_seen
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import (
    list_patients,
    list_samples,
    require_readable,
    take_table,
)

logger = logging.getLogger("bcnet")

PARTS = (*SPLITS, "all")

NOT_A_TEST = "not a test"
"""The part of pictures that are judged though the model has seen some of them."""


def evaluate(
    classifier: Classifier,
    manifest: Manifest,
    *,
    split: str | os.PathLike | None = None,
    part: str = "test",
    threshold: float | None = None,
    prevalence: float | None = None,
    plots_folder: str | os.PathLike | None = None,
    by: Sequence[str] = (),
    allow_seen: bool = False,
    precision: str = "float32",
    progress: bool = False,
) -> dict:
    """Judge a model on one part of some data.

    Which picture stands in which part is told by `split`, else by the data's own split, else by
    the card, by hash. Where the card knows none of the data, all of it is judged as "external".

    Args:
        classifier: the model.
        manifest: the pictures.
        split: CSV as `bcnet split` writes it.
        part: "test", "validation", "train" or "all".
        threshold: overrides the card's, for comparison.
        prevalence: share of malignant cases where the model is to be used, to say what its
            answers would mean there.
        plots_folder: where to write the figures.
        by: columns of the manifest to make subgroups of, such as "laboratory".
        allow_seen: judge a "test" of which the model has seen some, as part "not a test".
        precision: of the network; float32 unless asked for.
        progress: show a bar.

    Returns:
        A dictionary that can be written as JSON: `n_images`, `n_patients`, `part`, `threshold`,
        `threshold_rule`, `majority_accuracy`, `precision`, `image`, `patient`, `patient_reason`,
        `confusion_matrix`, `model_data`, `data`, whether that is `simulated`, and `unreadable`, the
        number of pictures that were left out because they cannot be read; `calibration`, what
        `bcnet.evaluate.calibration.evaluate_calibration` gives; with `prevalence`, `projection`,
        what `bcnet.evaluate.prevalence.project_prevalence` gives; with `by`, `subgroups`, for each
        column what `bcnet.evaluate.subgroups.measure_subgroups` gives. Where the card knows none
        of the pictures, `elsewhere`: `home`, the card's own test metrics (None without), and
        `recalibration`, what `bcnet.evaluate.elsewhere.judge_recalibration` gives, or `reason`.
        Of part "not a test", `seen`, the number of pictures that each step has touched, and
        `unseen`, the metrics of the others (None without).

    Raises:
        SeenInTraining: when a picture or patient of a "test" has trained, tuned or calibrated the
            model, unless `allow_seen`.
        ValueError: when the part has no readable pictures, or there is no such column.
    """
    if part not in PARTS:
        raise ValueError(f"`part` must be one of {', '.join(PARTS)}. Received: part={part}")
    rule = classifier.card["threshold"]["rule"] if threshold is None else "given by the user"
    threshold = classifier.threshold if threshold is None else check_threshold(threshold)
    if prevalence is not None:
        check_prevalence(prevalence)
    _require_columns(manifest.table, by)
    table = take_table(manifest, split)
    if table["split"].notna().any() and part != "all":
        table = select_part(table, part)
    table, unreadable = score_table(classifier, table, precision, progress)
    table, part = settle_part(classifier.card, table, part, allow_seen=allow_seen)
    known = find_parts(classifier.card, table)
    judged = {
        "y_true": table["label"],
        "y_prob": table["probability"],
        "patients": list_patients(table),
    }
    result = {
        "part": part,
        "threshold_rule": rule,
        "precision": settle_precision(precision),
        "data": manifest.info.name,
        "simulated": manifest.info.simulated,
        "model_data": classifier.card["data"]["name"],
        "unreadable": unreadable,
        **measure(**judged, threshold=threshold),
        "calibration": evaluate_calibration(**judged),
    }
    if known.isna().all():
        result["elsewhere"] = _judge_elsewhere(classifier.card, judged)
    if part == NOT_A_TEST:
        unseen = table[~known.isin(SEEN)]
        result |= {"seen": count_seen(known), "unseen": _measure_unseen(unseen, threshold)}
    if prevalence is not None:
        result["projection"] = project_prevalence(
            **judged, prevalence=prevalence, threshold=threshold
        )
    if by:
        result["subgroups"] = _measure_subgroups(table, by, threshold)
    if plots_folder is not None:
        _draw(result, table, manifest, Path(plots_folder))
        _draw_training(classifier.card, Path(plots_folder))
    return result


def _judge_elsewhere(card, judged):
    """Set the card's own test beside an external validation, and say what could be repaired."""
    try:
        repaired = judge_recalibration(**judged)
    except ValueError as error:  # too few patients, or scores that are no better than chance
        repaired = {"reason": str(error)}
    return {"home": card["metrics"].get("test"), "recalibration": repaired}


def _measure_unseen(table, threshold):
    if table.empty:
        return None
    patients = list_patients(table)
    return measure(table["label"], table["probability"], patients=patients, threshold=threshold)


def _require_columns(table, columns):
    for column in columns:
        if column not in table:
            told = ", ".join(table.columns.drop(["path", "label"]))
            raise ValueError(
                f"`by` must be a column of the data. Received: by={column}; there are: {told}"
            )


def _measure_subgroups(table, columns, threshold):
    bootstrap = Bootstrap(table["label"], list_patients(table))
    return {
        column: measure_subgroups(
            table["probability"], table[column], bootstrap, threshold=threshold
        )
        for column in columns
    }


def select_part(table, part):
    """Select the pictures that the data's own split puts into a part.

    Raises:
        ValueError: when there are none; the message names the parts there are.
    """
    chosen = table[table["split"] == part].reset_index(drop=True)
    if chosen.empty:
        there = ", ".join(table["split"].dropna().unique())
        raise ValueError(f"the data has no pictures in the part {part!r}; it has: {there}")
    return chosen


def score_table(classifier, table, precision, progress):
    """Score the pictures of a table, and name them by their pixels.

    Returns:
        The rows that can be read, with the columns `probability` and `hash`, and how many cannot.

    Raises:
        ValueError: when not one picture can be read.
    """
    with make_bar(len(table), "scoring", shown=progress) as bar:
        scores = classifier.score_samples(
            list_samples(table), read=read_sample, precision=precision, progress=bar.update
        )
    table = table.assign(probability=scores.probability, hash=scores.hashes)
    require_readable(table, scores.reasons)
    read = scores.reasons == ""
    return table[read].reset_index(drop=True), int((~read).sum())


def settle_part(card, table, part, *, allow_seen=False):
    """Say what the pictures are to the model; refuse to call seen ones a test.

    Args:
        card: the model's.
        table: rows of a manifest with the column `hash`.
        part: that is to be judged: "test", "validation", "train" or "all".
        allow_seen: call a test of which the model has seen some `NOT_A_TEST`, and let it pass.

    Returns:
        The rows to judge, and their part; "external" where the card knows none of them.

    Raises:
        SeenInTraining: when one of a test has trained, tuned or calibrated the model.
        ValueError: when the card knows none of them as `part`.
    """
    known = find_parts(card, table)
    if part == "all":
        return table, "all"
    if table["split"].isna().all():
        if known.isna().all():
            return table, "external"
        return _select_known(table, known, part), part
    if part == "test":
        seen = count_seen(known)
        if seen and allow_seen:
            return table, NOT_A_TEST
        if seen:
            raise SeenInTraining(
                f"{tell_seen(seen, len(table))}. Judge other patients, or see both with "
                "--allow-seen"
            )
    return table, part


def _select_known(table, known, part):
    new = int(known.isna().sum())
    if new:
        logger.warning("%s pictures unknown to the model were left out (--part all has them)", new)
    chosen = table[known == part].reset_index(drop=True)
    if chosen.empty:
        there = ", ".join(known.dropna().unique())
        raise ValueError(f"the card knows these pictures, but none as {part!r}; only as: {there}")
    return chosen


def _draw(result, table, manifest, folder):
    """Write the figures of one judgement; the curves of the training need no pictures."""
    patients = list_patients(table)
    note = describe_data(manifest, result)
    y_true, y_prob = table["label"].to_numpy(), table["probability"].to_numpy()
    figures = {
        "confusion_matrix": plots.plot_confusion_matrix(
            np.array(result["confusion_matrix"]), note=note
        ),
        "scores": plots.plot_score_histogram(
            y_true, y_prob, threshold=result["threshold"], note=note
        ),
        "cases": plots.plot_cases(
            _PicturesOnDemand(table), y_true, y_prob, threshold=result["threshold"], note=note
        ),
    }
    if len(set(y_true)) == len(CLASS_NAMES):
        figures["roc"] = plots.plot_roc(y_true, y_prob, patients=patients, note=note)
        figures["precision_recall"] = plots.plot_precision_recall(
            y_true, y_prob, patients=patients, note=note
        )
        figures["reliability"] = plots.plot_reliability(
            y_true, y_prob, patients=patients, note=note
        )
        figures["decision_curve"] = plots.plot_decision_curve(
            y_true,
            y_prob,
            prevalence=result.get("projection", {}).get("prevalence"),
            patients=patients,
            note=note,
        )
    else:
        logger.warning("no curves are drawn: all pictures are %s", CLASS_NAMES[y_true[0]])
    for name, ax in figures.items():
        plots.save_figure(ax, folder / f"{name}.png")


def _draw_training(card, folder):
    training = card.get("training")
    if training:
        data = card["data"]
        note = f"{data['name']}{' · simulated pictures' if data['simulated'] else ''}"
        axes = plots.plot_history(training["history"], best_epoch=training["best_epoch"], note=note)
        plots.save_figure(axes[0], folder / "training.png")


class _PicturesOnDemand(Sequence):
    """The pictures of a table, each read when it is asked for: a grid shows few of many."""

    def __init__(self, table):
        self.samples = list_samples(table)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, position):
        return read_sample(*self.samples[position])


def describe_data(manifest: Manifest, result: dict) -> str:
    """Say on a figure what was judged: data set, part, and anything a reader must know."""
    words = [f"{manifest.info.name}, {result['part']}"]
    if manifest.info.simulated:
        words.append("simulated pictures")
    if not manifest.info.negative.startswith("benign"):
        words.append(f"negative = {manifest.info.negative}")
    if result["n_patients"] is None:
        words.append(result["patient_reason"])
    return " · ".join(words)
