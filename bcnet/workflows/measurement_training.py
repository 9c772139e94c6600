"""From a table of measurements to a judged, calibrated and saved model, and its card.

Belongs here: comparing, fitting the winner, and what the card says of both. Does not: how a model
is fitted or judged (`bcnet.measurements`), use of a finished one (`measurements`).
"""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.data.manifest import hash_patient, patient_keys
from bcnet.data.measurements import FEATURES, read_measurements
from bcnet.data.wisconsin import LICENCE, SOURCE
from bcnet.evaluate.abstention import TooFewCases, choose_band
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.thresholds import describe_rule
from bcnet.measurements.card import KIND
from bcnet.measurements.fitting import fit_measurements
from bcnet.measurements.logits import take_apart
from bcnet.measurements.model import MeasurementModel
from bcnet.measurements.nested import RULE, compare_models
from bcnet.measurements.ranges import describe_features
from bcnet.workflows.progress import make_bar

BUILT_IN = "wisconsin"
"""Name of the data that comes with scikit-learn, where no other is named."""

PACKAGES = ("bcnet", "numpy", "scipy", "pandas", "scikit-learn", "skops")

# A promise that 212 malignant patients allow with one miss, at which 2 to 6 % of the Wisconsin
# patients are referred; at the 5 % of pictures nobody would be, without a miss about a quarter.
MISS_RATE = 0.025

# Digits that a CSV keeps of a measurement whoever has written it: those of float32.
HASHED_AS = np.float32


def train_measurements(
    source,
    output: str | os.PathLike,
    *,
    names: Sequence[str] | None = None,
    quick: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> tuple[MeasurementModel, dict]:
    """Compare kinds of model on patients none of them has seen, and save the winner.

    The winner is fitted once more, to all patients; its threshold, calibration and band come from
    answers to patients left out. The answers of each fold are kept in a folder `.NAME.folds`
    beside the output, so that a run that was stopped goes on. Of nearest neighbours and support
    vector machines the file holds (scaled) rows of patients: treat it like the data.

    Args:
        source: labelled, as for `bcnet.data.measurements.read_measurements`; None for the
            Wisconsin data.
        output: model file to write, ending in `.skops`.
        names: of `bcnet.measurements.models.FAMILIES`; all by default.
        quick: a minute instead of half an hour: fewer folds, no search.
        seed: same seed, same model.
        progress: show bars.

    Returns:
        The model, saved in `output`, and what `bcnet.measurements.nested.compare_models` gives.

    Raises:
        ValueError: for data that cannot be read, or has no labels, an unknown name, another ending.
    """
    output = Path(output)
    if output.suffix != ".skops":
        raise ValueError(f"`output` must end in .skops. Received: output={str(output)!r}")
    table = read_measurements(source, labelled=True)
    describe_features(table)  # refuses a column without a value, before half an hour is spent
    settings = {"quick": quick, "seed": seed}
    cache = output.with_name(f".{output.stem}.folds")
    with make_bar(1, "comparing", shown=progress) as bar:
        result = compare_models(
            table, names=names, cache=cache, progress=_follow(bar), jobs=-1, **settings
        )
    name = result["winner"]
    with make_bar(3, f"fitting {name}", shown=progress) as bar:
        fitted = fit_measurements(
            table, name, **settings, **RULE, progress=lambda *step: bar.update()
        )
    card = make_card(fitted, table, result, describe_data(source))
    spent = sum(each["seconds"] for each in result["models"].values())  # also before a restart
    card["training"]["seconds"] = round(spent, 1)
    model = MeasurementModel(fitted.estimator, card)
    model.save(output)
    return model, result


def _follow(bar):
    """Move a bar to so many of so many."""

    def move(done, total):
        bar.total = total
        bar.update(done - bar.n)

    return move


def make_card(fitted, table: pd.DataFrame, result: dict, data: dict) -> dict:
    """Make the card of a fitted model, with the entries of a picture model's and `features`.

    The keys that count pictures there count rows here. `metrics` holds `nested`, of patients that
    nothing in a fold had seen, and `validation`, of the answers that chose the threshold.

    Args:
        fitted: of `bcnet.measurements.fitting.fit_measurements`, the winner of `result`.
        table: the patients it was fitted to.
        result: of `bcnet.measurements.nested.compare_models`.
        data: of `describe_data`.

    Returns:
        A dictionary that JSON can hold, without `references`: saving adds them.
    """
    left_out = f"{data['name']}, patients left out in turn"
    described = describe_rows(table, data["name"])
    chosen = evaluate(
        table["label"],
        fitted.out_of_fold,
        patients=table["patient_id"],
        threshold=fitted.threshold,
    )
    line = take_apart(fitted.estimator)
    return {
        "format": 1,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "class_names": list(CLASS_NAMES),
        "data": data,
        "features": describe_features(table),
        "samples": {"train": described},
        "calibration": {
            "method": "sigmoid",
            "slope": line.slope,
            "intercept": line.intercept,
            "data": left_out,
            "n_images": described["n_images"],
            "n_patients": described["n_patients"],
            "prevalence": float(table["label"].mean()),
        },
        "metrics": {"validation": chosen, "nested": describe_nested(result)},
        "threshold": {
            "value": fitted.threshold,
            "rule": f"{describe_rule(**RULE)} on patients left out in turn",
            "data": left_out,
            "reached": {name: chosen["image"][name] for name in ("sensitivity", "specificity")},
        },
        "abstention": describe_band(fitted, table) | {"data": left_out},
        "training": {
            "family": result["winner"],
            "choices": fitted.choices,
            "compared": list(result["models"]),
            "quick": result["quick"],
            "seed": result["seed"],
        },
        "versions": list_versions(),
    }


def describe_nested(result: dict) -> dict:
    """Describe for the card how the winner of a comparison did, and who was within noise of it.

    Args:
        result: of `bcnet.measurements.nested.compare_models`.

    Returns:
        `n_images` (rows), `n_patients`, `folds`, `repeats`, `majority_accuracy`, `metrics` (at
        0.5) and `locked` (at the thresholds of the folds), by name with intervals; and
        `within_noise`, the models whose AUC cannot be told from the winner's.
    """
    winner = result["models"][result["winner"]]
    rivals = {name: each for name, each in result["models"].items() if name != result["winner"]}
    return {
        "n_images": result["n_rows"],
        **{name: result[name] for name in ("n_patients", "folds", "repeats", "majority_accuracy")},
        **{name: winner[name] for name in ("metrics", "locked")},
        "within_noise": [
            name for name, each in rivals.items() if each["difference"]["auc"]["within_noise"]
        ],
    }


def describe_band(fitted, table: pd.DataFrame) -> dict:
    """Describe for the card which probabilities are referred, or why none are.

    The promise is `MISS_RATE`, or what `choose_band` makes where there are too few patients for it.

    Args:
        fitted: of `bcnet.measurements.fitting.fit_measurements`.
        table: the patients it was fitted to.

    Returns:
        What `bcnet.evaluate.abstention.choose_band` gives; or `reason`.
    """
    judged = {"patients": table["patient_id"], "threshold": fitted.threshold}
    for miss_rate in (MISS_RATE, None):
        try:
            return choose_band(table["label"], fitted.out_of_fold, **judged, miss_rate=miss_rate)
        except TooFewCases as error:
            reason = str(error)
    return {"reason": reason}


def describe_data(source) -> dict:
    """Describe where measurements come from, in the words of a card's `data`.

    Args:
        source: as for `read_measurements`; a CSV is named after its file.
    """
    is_file = isinstance(source, str | os.PathLike)
    known = {"source": SOURCE, "licence": LICENCE} if source is None else {}
    return {
        "name": BUILT_IN if source is None else Path(source).stem if is_file else "table",
        "source": "unknown",
        "licence": "unknown",
        "modality": "measurements of cell nuclei from a fine-needle aspirate",
        "negative": CLASS_NAMES[0],
        "simulated": False,
        **known,
    }


def describe_rows(table: pd.DataFrame, data: str) -> dict:
    """Describe rows for the card, as `samples.describe_samples` does pictures.

    Args:
        table: as `read_measurements` gives it, with labels.
        data: name of the data set.

    Returns:
        `n_images` (rows), `n_malignant`, `n_patients`, `pictures` (hashes of the rows) and
        `patients`, both sorted. Patients are hashed only where the data names them.
    """
    named = name_rows(table, data)
    patients = patient_keys(named[named["patient_id"].notna()]).map(hash_patient)
    return {
        "n_images": len(table),
        "n_malignant": int(table["label"].sum()),
        "n_patients": int(table["patient_id"].nunique()),
        "pictures": sorted(set(named["hash"])),
        "patients": sorted(set(patients)),
    }


def name_rows(table: pd.DataFrame, data: str) -> pd.DataFrame:
    """Name rows as `bcnet.workflows.ancestry.find_parts` asks for.

    Row numbers are not patients: number 1 of one hospital is nobody of another.

    Args:
        table: as `read_measurements` gives it.
        data: name of the data set.

    Returns:
        Columns `hash` (of the thirty numbers), `path`, `dataset` and `patient_id`, None where the
        source had no ids.
    """
    numbers = [str(number) for number in range(1, len(table) + 1)]
    values = np.ascontiguousarray(table[list(FEATURES)].to_numpy(HASHED_AS))
    return pd.DataFrame(
        {
            "hash": [sha256(row.tobytes()).hexdigest()[:16] for row in values],
            "path": numbers,
            "dataset": data,
            "patient_id": None if list(table["patient_id"]) == numbers else table["patient_id"],
        },
        index=table.index,
    )


def list_versions() -> dict:
    """List the versions of the software that the answers hang on, by name."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
