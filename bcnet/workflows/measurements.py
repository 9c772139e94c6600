"""A finished model of the measurements in use: judge it, ask it, have it explain.

Belongs here: files in, files and results out. Does not: making one (`measurement_training`), or
arithmetic (`bcnet.measurements`, `bcnet.evaluate`). Nothing here imports TensorFlow.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import pandas as pd
from scipy.special import expit

from bcnet import plots
from bcnet.atomic import replace_file, write_text
from bcnet.data.measurements import FEATURES, read_measurements, read_rows, stream_rows
from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.elsewhere import judge_recalibration
from bcnet.evaluate.metrics import METRICS, check_threshold, evaluate, format_estimate
from bcnet.measurements.model import MeasurementModel
from bcnet.workflows.ancestry import SEEN, SeenInTraining, count_seen, find_parts, tell_seen
from bcnet.workflows.measurement_training import describe_data, name_rows

NOT_A_TEST = "not a test"

# What a status begins with, for counting.
STATUSES = ("ok", "refer", "outside", "unreadable")


def evaluate_measurements(
    model: MeasurementModel,
    source,
    *,
    threshold: float | None = None,
    allow_seen: bool = False,
) -> dict:
    """Judge a model on patients it has not seen.

    Args:
        model: the model.
        source: labelled, as for `bcnet.data.measurements.read_measurements`.
        threshold: overrides the card's, for comparison.
        allow_seen: judge rows of which the model has seen some, as part "not a test".

    Returns:
        A dictionary of the shape that `bcnet.workflows.evaluate` gives for pictures, its
        `n_images` counting rows, and `n_rows`, the same number. The part is "external", with
        `elsewhere`: `home`, the card's nested figures, and `recalibration`; or "not a test", with
        `seen`, the rows that each step has touched, and `unseen`, the metrics of the others.

    Raises:
        SeenInTraining: when a row or patient has trained the model, unless `allow_seen`.
        ValueError: when the data cannot be read or has no labels.
    """
    rule = model.card["threshold"]["rule"] if threshold is None else "given by the user"
    threshold = model.threshold if threshold is None else check_threshold(threshold)
    table, data = read_measurements(source, labelled=True), describe_data(source)
    known = find_parts(model.card, name_rows(table, data["name"]))
    seen = count_seen(known)
    if seen and not allow_seen:
        told = tell_seen(seen, len(table), unit="rows")
        raise SeenInTraining(f"{told}. Judge other patients, or see both with --allow-seen")
    judged = {
        "y_true": table["label"].to_numpy(),
        "y_prob": expit(model.compute_logits(table)),
        "patients": table["patient_id"].to_numpy(),
    }
    result = {
        "part": NOT_A_TEST if seen else "external",
        "threshold_rule": rule,
        "precision": "float64",
        "data": data["name"],
        "model_data": model.card["data"]["name"],
        "unreadable": 0,
        "n_rows": len(table),
        **evaluate(**judged, threshold=threshold),
        "calibration": evaluate_calibration(**judged),
    }
    if seen:
        result |= {"seen": seen, "unseen": _judge_unseen(judged, known, threshold)}
    else:
        result["elsewhere"] = _judge_elsewhere(model.card, judged)
    return result


def _judge_unseen(judged, known, threshold):
    is_unseen = ~known.isin(SEEN).to_numpy()
    if not is_unseen.any():
        return None
    return evaluate(**{name: each[is_unseen] for name, each in judged.items()}, threshold=threshold)


def _judge_elsewhere(card, judged):
    try:
        repaired = judge_recalibration(**judged)
    except ValueError as error:  # too few patients, or scores that are no better than chance
        repaired = {"reason": str(error)}
    return {"home": card["metrics"].get("nested"), "recalibration": repaired}


def format_evaluation(result: dict) -> str:
    """Format what `evaluate_measurements` gives as a table for the terminal.

    Args:
        result: of `evaluate_measurements`.

    Returns:
        Several lines without a final newline: by patient where every patient has one label.
    """
    unit = "patient" if result["patient"] else "image"
    home = result.get("elsewhere", {}).get("home")
    unseen = result.get("unseen")
    columns = {"": result}
    columns |= {"without the seen": unseen} if unseen else {}
    lines = [f"{result['n_rows']:,} rows of {result['n_patients']:,} patients"]
    heads = ["", "here", *(["without the seen"] if unseen else [])]
    rows = [[*heads, *(["nested, at home"] if home else [])]]
    for name in METRICS:
        told = [format_estimate((each[unit] or each["image"])[name]) for each in columns.values()]
        at_home = _find_at_home(home, name) if home else None
        rows.append([name.replace("_", " "), *told, *([at_home] if home else [])])
        if name == "accuracy":
            rows.append(["  majority class", f"{result['majority_accuracy']:.3f}"])
    table = ["  ".join(f"{cell:<21}" for cell in row).rstrip() for row in rows]
    note = f"malignant = positive, from {result['threshold']:.3g} on; 95 % intervals over patients"
    return "\n".join([*lines, *table, note])


def _find_at_home(home, name):
    estimate = home["locked"].get(name) or home["metrics"].get(name)
    return format_estimate(estimate) if estimate else ""


def predict_measurements(
    model: MeasurementModel,
    path: str | os.PathLike,
    output: str | os.PathLike | TextIO,
    *,
    threshold: float | None = None,
) -> dict[str, int]:
    """Answer a CSV of any length at constant memory.

    Args:
        model: the model.
        path: a CSV, as for `bcnet.data.measurements.stream_rows`.
        output: CSV to write, whole or not at all; or an open text file. Its columns are those of
            `MeasurementModel.predict`.
        threshold: overrides the card's.

    Returns:
        How many rows have each status, by its first word: "ok", "refer", "outside", "unreadable".

    Raises:
        ValueError: when the file is no CSV of measurements, or not one row can be read; nothing is
            written to a path then.
    """
    threshold = model.threshold if threshold is None else check_threshold(threshold)
    if not isinstance(output, str | os.PathLike):
        return _write_answers(model, path, output, threshold)
    if Path(output).exists() and Path(output).samefile(path):
        raise ValueError(f"`output` must not be the file that is read. Received: output={output}")
    with (
        replace_file(output) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        return _write_answers(model, path, file, threshold)


def _write_answers(model, path, file, threshold):
    writer = csv.writer(file, lineterminator="\n")
    counts, done, first_reason = Counter(dict.fromkeys(STATUSES, 0)), 0, ""
    for table, reasons in _read_ahead(stream_rows(path)):
        answers = model.predict_rows(table, reasons, threshold=threshold, first=done + 1)
        if not done:
            writer.writerow(answers.columns)
        writer.writerows(_write_cells(answers))
        counts.update(_count_statuses(answers["status"]))
        done += len(table)
        first_reason = first_reason or next(filter(None, reasons), "")
    if counts["unreadable"] == done:
        raise ValueError(f"{path}: not one of {done:,} rows can be read; the first: {first_reason}")
    return dict(counts)


def _read_ahead(chunks: Iterable) -> Iterator:
    """Read the next chunk while this one is answered; pandas reads beside Python, not instead."""
    chunks = iter(chunks)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, chunks, None)
        while (chunk := following.result()) is not None:
            following = reader.submit(next, chunks, None)
            yield chunk


def _write_cells(answers):
    said = (f"{each:.7g}" if each == each else "" for each in answers["probability"].tolist())
    others = (answers[name].fillna("").tolist() for name in ("label", "status"))
    return zip(answers["row"].tolist(), said, *others, strict=True)


def _count_statuses(status):
    counts = status.value_counts()
    kinds = counts.index.str.extract(r"^(\w+)", expand=False)
    return counts.groupby(kinds).sum().to_dict()


class PatientReport(NamedTuple):
    """Why one patient was answered as he was.

    Attributes:
        answer: `row`, `probability`, `label` and `status`.
        contributions: `measurement`, `value`, `unit`, `reference`, `contribution`, the largest
            first; above 0 speaks for malignant.
        base: logit of the reference; the contributions bring it to that of the patient.
        changes: of `MeasurementModel.what_if`.
        method: how the contributions were found.
    """

    answer: dict
    contributions: pd.DataFrame
    base: float
    changes: pd.DataFrame
    method: str


def explain_measurements(
    model: MeasurementModel, source, output: str | os.PathLike, *, row: int, seed: int = 0
) -> PatientReport:
    """Write why one patient was answered so, and what would have turned the answer.

    Args:
        model: the model.
        source: as for `MeasurementModel.predict`.
        output: folder for `waterfall.png`, `contributions.csv` and `what_if.csv`.
        row: which patient, counted from 1 as in the column `row` of the predictions.
        seed: as for `MeasurementModel.explain`.

    Returns:
        The `PatientReport`, as written.

    Raises:
        ValueError: when there is no such row, or it cannot be read.
    """
    table, reasons = read_rows(source)
    if not 1 <= row <= len(table):
        raise ValueError(f"`row` must be between 1 and {len(table):,}. Received: row={row}")
    if reasons[row - 1]:
        raise ValueError(f"row {row} cannot be read: {reasons[row - 1]}")
    patient = table.iloc[[row - 1]]
    report = explain_patient(model, patient, seed=seed)
    report.answer["row"] = row
    folder = Path(output)
    figure = plots.plot_waterfall(
        report.contributions,
        base=report.base,
        threshold=model.threshold,
        note=f"row {row}, {report.answer['status']} · model of {model.card['data']['name']}",
    )
    plots.save_figure(figure, folder / "waterfall.png")
    for name in ("contributions", "what_if"):
        found = report.changes if name == "what_if" else report.contributions
        write_text(folder / f"{name}.csv", found.to_csv(index=False, float_format="%.7g"))
    return report


def explain_patient(
    model: MeasurementModel, patient: pd.DataFrame, *, seed: int = 0
) -> PatientReport:
    """Put together why one patient was answered so.

    Args:
        model: the model.
        patient: one row, with the columns `FEATURES`.
        seed: as for `MeasurementModel.explain`.

    Returns:
        The `PatientReport`.
    """
    contributions = model.explain(patient, seed=seed)
    features = model.card["features"]
    table = pd.DataFrame(
        {
            "measurement": list(FEATURES),
            "value": patient[list(FEATURES)].to_numpy()[0],
            "unit": [each["unit"] for each in features],
            "reference": [each["median"] for each in features],
            "contribution": contributions.table.to_numpy()[0],
        }
    )
    order = np.argsort(-table["contribution"].abs(), kind="stable")
    return PatientReport(
        answer=model.predict(patient).iloc[0].to_dict(),
        contributions=table.iloc[order].reset_index(drop=True),
        base=contributions.base,
        changes=model.what_if(patient),
        method=contributions.method,
    )


def format_report(report: PatientReport, *, shown: int = 5) -> str:
    """Format a report of `explain_measurements` in a few lines for the terminal.

    Args:
        report: of `explain_measurements`.
        shown: how many contributions are told.

    Returns:
        Several lines without a final newline.
    """
    answer = report.answer
    lines = [
        f"row {answer['row']}: probability of malignant {answer['probability']:.3g}, "
        f"{answer['label']} ({answer['status']})"
    ]
    for each in report.contributions[:shown].itertuples():
        value = "missing" if np.isnan(each.value) else f"{each.value:.4g} {each.unit}".strip()
        lines.append(f"  {each.contribution:+.2f}  {each.measurement} = {value}")
    if report.changes.empty:
        return "\n".join([*lines, "no change within the measured ranges would turn the answer"])
    smallest = report.changes[report.changes["change"] == 1]
    told = " and ".join(
        f"{each['measurement']} from {each['from']:.4g} to {each['to']:.4g} {each['unit']}".strip()
        for each in smallest.to_dict("records")
    )
    size, label = smallest.iloc[0][["size", "label"]]
    return "\n".join([*lines, f"{label} with {told} ({size:.1f} standard deviations)"])
