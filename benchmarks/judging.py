"""One run of a benchmark of accuracy: a contestant trained on some patients, judged on others.

Belongs here: the tutorial's way of training, who is judged by whom, time and memory. Does not:
which data and contestants there are, and the tables.
"""

import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import keras
import pandas as pd
from rounds import describe_machine
from training import TUTORIAL_BATCH, build_tutorial_network

from bcnet.config import Config
from bcnet.data.manifest import Manifest, patient_keys, read_manifest
from bcnet.data.simulate import simulate
from bcnet.data.split import sample_patients
from bcnet.evaluate.metrics import evaluate
from bcnet.workflows import divide, judge_folds, judge_held_out, settle_config
from bcnet.workflows.cross_validation import align
from bcnet.workflows.fitting import TrainingBar
from bcnet.workflows.samples import Pictures, decode_table, list_patients
from bcnet.workflows.starting import settle_policy

# The tutorials know no other.
TUTORIAL_THRESHOLD = 0.5

# As the notebook draws them.
DRAWN_PER_PATIENT = 4


def judge(settings: dict, scratch: str) -> dict:
    """Train and judge one contestant, and say what it cost.

    Args:
        settings: `data`, a path, or None for the built-in pictures; `images`, about how many to
            take, with whole patients, or None; `config`, fields of `Config`; `tutorial`,
            whether to train as the tutorials do instead, with the same image size, epochs,
            patience and seed; `folds`, where the data bring no split of their own.
        scratch: folder for the built-in pictures; drawn by the first who needs them.

    Returns:
        The dictionary of `evaluate.metrics.evaluate`, with `judged`, what the figures are of;
        `at_half`, the same dictionary for the probabilities as they are at a threshold of 0.5;
        `seconds` and `peak_bytes` of training and scoring; `precision` of the training; `machine`.
    """
    manifest = open_data(settings["data"], settings["images"], scratch)
    config = settle_config(manifest, Config(**settings["config"]))
    fit = fit_tutorial if settings["tutorial"] else None
    started = time.monotonic()
    table, judged = _judge(manifest, config, fit, settings["folds"])
    cost = {"seconds": round(time.monotonic() - started, 1), "peak_bytes": measure_peak()}
    if settings["tutorial"]:
        table["threshold"] = TUTORIAL_THRESHOLD
    aligned = align(table["probability"], table["threshold"])
    truth = {"y_true": table["label"], "patients": list_patients(table), "threshold": 0.5}
    return {
        "judged": judged,
        "machine": describe_machine(),
        **cost,
        "precision": "float32" if fit else settle_policy(config).removeprefix("mixed_"),
        **evaluate(y_prob=aligned, **truth),
        "at_half": evaluate(y_prob=table["probability"], **truth),
    }


def open_data(data: str | None, images: int | None, scratch: str) -> Manifest:
    """List the pictures of some data, or draw the built-in ones.

    Args:
        data: folder, CSV or `.npz`; None for the built-in pictures.
        images: about how many to take, with whole patients; None for all.
        scratch: folder for the built-in pictures.
    """
    if data is None:
        patients = images and -(-images // DRAWN_PER_PATIENT)
        data = simulate(
            Path(scratch, "simulated"), images_per_patient=DRAWN_PER_PATIENT, patients=patients
        )
    manifest = read_manifest(data)
    if images is None:
        return manifest
    return replace(manifest, table=sample_patients(manifest.table, images=images))


def _judge(manifest, config, fit, folds):
    shown = sys.stderr.isatty()
    if manifest.table["split"].isna().all():
        table = judge_folds(manifest, config, folds=folds, fit=fit, progress=shown)
        return table, f"{folds} folds"
    table, part = hold_out_official(manifest.table)
    pictures = decode_table(divide(table, config), config.image_size, progress=shown)
    return judge_held_out(pictures, config, fit=fit, progress=shown), f"official {part}"


def hold_out_official(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keep the part that others judge on from choosing epoch or threshold.

    Args:
        table: a manifest's table with a split of its own.

    Returns:
        The table, in which the last official part is "test", and the name of that part. Where it
        was "validation", none is left: `divide` carves one from the training patients.

    Example:
        Parts train and validation become train and test, and "validation" is the name.
    """
    part = "test" if (table["split"] == "test").any() else "validation"
    return table.assign(split=table["split"].replace(part, "test")), part


def fit_tutorial(
    pictures: Pictures, config: Config, *, label: str, progress: bool
) -> tuple[keras.Model, keras.callbacks.History]:
    """Train the tutorial's network as `fitting.fit_network` trains bcnet's.

    Adam at 1e-3, batches of 32, no class weights; the epoch of the lowest validation loss stays,
    which is more than many tutorials do.

    Args:
        pictures: with the parts "train" and "validation".
        config: image size, epochs, patience and seed are used.
        label: what the bar says.
        progress: show it.

    Returns:
        The network, and Keras's history.
    """
    keras.utils.set_random_seed(config.seed)
    network = build_tutorial_network(config.image_size)
    train, validation = (
        (pictures.images[rows], pictures.labels[rows])
        for rows in (pictures.rows_in("train"), pictures.rows_in("validation"))
    )
    stop = keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True)
    with closing(TrainingBar(label, shown=progress)) as bar:
        history = network.fit(
            *train,
            batch_size=TUTORIAL_BATCH,
            epochs=config.epochs,
            validation_data=validation,
            callbacks=[stop, bar],
            verbose=0,
        )
    return network, history


def measure_peak() -> int | None:
    """Measure the most memory that this process has held so far, in bytes; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def score_folds(settings: dict) -> dict:
    """Score every picture by cross-validation, to be compared with those of another run.

    Args:
        settings: `data`, a path; `patients`, about how many to take, or None; `config`, fields of
            `Config`; `folds`.

    Returns:
        Lists of an entry per picture, in the order of the data: `labels`, 0 or 1; `patients`,
        numbers from 0; `scores`, probabilities shifted to put each fold's threshold at 0.5.
        Besides, `seconds`.
    """
    manifest = read_manifest(settings["data"])
    if settings["patients"] is not None:
        share = settings["patients"] / patient_keys(manifest.table).nunique()
        images = round(share * len(manifest.table))
        manifest = replace(manifest, table=sample_patients(manifest.table, images=images))
    started = time.monotonic()
    config, shown = Config(**settings["config"]), sys.stderr.isatty()
    table = judge_folds(manifest, config, folds=settings["folds"], progress=shown)
    return {
        "labels": table["label"].tolist(),
        "patients": patient_keys(table).factorize()[0].tolist(),
        "scores": align(table["probability"], table["threshold"]).tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }
