"""From a manifest to a trained, judged and saved model file."""

import glob
import logging
import os
import platform
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import keras
import pandas as pd

from bcnet.classifier import Classifier
from bcnet.config import CLASS_NAMES, SPLITS, Config
from bcnet.data.manifest import Manifest
from bcnet.data.split import assert_disjoint, split_by_patient
from bcnet.evaluate.metrics import THRESHOLD_RULE, choose_threshold, evaluate
from bcnet.models import MODELS
from bcnet.train import choose_precision
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.samples import (
    Pictures,
    choose_image_size,
    decode_table,
    describe_samples,
    score_rows,
    take_split,
)

logger = logging.getLogger("bcnet")

# Pixels a side where the pictures do not share a size: what each network was made for.
DEFAULT_SIDES = {"cnn": 128, "vgg16": 224}
# What their poolings, three and five, leave a pixel of.
SMALLEST_SIDES = {"cnn": 8, "vgg16": 32}

# The small network likes a high rate; VGG16 does not start at all with one, but for a new head.
LEARNING_RATES = {"cnn": 2e-3, "vgg16": 1e-4, "vgg16 head": 1e-3}

# Eight hexadecimal digits in the name of a file, as `glob` looks for them.
DIGITS = "[0-9a-f]" * 8


def train(
    manifest: Manifest,
    output: str | os.PathLike,
    config: Config | None = None,
    *,
    split: str | os.PathLike | None = None,
    resume: bool = False,
    log_folder: str | os.PathLike | None = None,
    progress: bool = False,
) -> Classifier:
    """Train a network on some patients, choose on others, judge once on the rest, and save it.

    Args:
        manifest: the pictures; a split they bring is kept.
        output: model file to write, ending in `.keras`.
        config: see `Config`.
        split: CSV that says which picture stands where, instead.
        resume: go on from a run that was cut off; without one, start anew.
        log_folder: where to log for TensorBoard, which must be installed.
        progress: show bars.

    Returns:
        The classifier, saved in `output`; its card holds validation and test metrics.

    Raises:
        ValueError: when the pictures cannot be divided or a part lacks a class, naming it.
        TrainingDiverged: when the loss is no longer finite; no file is changed.
    """
    _require_file(output)
    config = settle_config(manifest, config or Config())
    table = divide(manifest.table, config, split)
    pictures = decode_table(table, config.image_size, progress=progress)
    require_both_classes(pictures)
    state = _choose_state_file(output, pictures, resume)
    started = time.monotonic()
    network, history = fit_network(
        pictures,
        config,
        state=state,
        label=f"training {config.model}",
        log_folder=log_folder,
        progress=progress,
    )
    classifier = make_classifier(network, pictures, manifest)
    classifier.card["training"] = {
        "config": asdict(config),
        "precision": choose_precision(config.precision),
        "seconds": round(time.monotonic() - started, 1),
        "best_epoch": history.best_epoch + 1,
        "history": history.epochs,
    }
    classifier.save(output)
    for leftover in (*_find_states(output), *_find_partials(output)):
        leftover.unlink()
    return classifier


def _require_file(output):
    if Path(output).suffix != ".keras":
        raise ValueError(f"`output` must end in .keras. Received: output={str(output)!r}")
    if Path(output).is_dir():
        raise ValueError(f"`output` must be a file. Received the folder {output}")


def settle_config(manifest: Manifest, config: Config) -> Config:
    """Fill in what the configuration leaves open: image size, modality and learning rate.

    Raises:
        ValueError: for an unknown model, or weights for a network that has none.
    """
    if config.model not in MODELS:
        raise ValueError(
            f"`model` must be one of {', '.join(MODELS)}. Received: model={config.model}"
        )
    if config.weights is not None and config.model == "cnn":
        raise ValueError(
            "`weights` is for vgg16; the cnn starts from random weights. "
            f"Received: weights={config.weights}"
        )
    modality = manifest.info.modality if config.modality == "auto" else config.modality
    image_size = config.image_size or choose_image_size(
        manifest.table, DEFAULT_SIDES[config.model], smallest=SMALLEST_SIDES[config.model]
    )
    part = " head" if config.weights is not None else ""
    return replace(
        config,
        modality=modality,
        image_size=tuple(image_size),
        learning_rate=config.learning_rate or LEARNING_RATES[config.model + part],
    )


def divide(
    table: pd.DataFrame, config: Config, split: str | os.PathLike | None = None
) -> pd.DataFrame:
    """Give each picture its part: by the CSV, by the data's own split, or by patient.

    A split that has no validation part gets one from its training patients.

    Returns:
        The rows that stand in a part, with the column `split` filled; patients are disjoint.

    Raises:
        ValueError: when a patient stands in two parts, or there are too few patients.
    """
    if split is not None:
        table = take_split(table, split)
    if table["split"].notna().any():
        table = table[table["split"].notna()].reset_index(drop=True)
        assert_disjoint(table)  # first: what is carved from a divided patient would hide him
        table = _add_validation(table, config)
    else:
        table = split_by_patient(
            table, validation=config.validation, test=config.test, seed=config.seed
        )
    assert_disjoint(table)
    return table


def _add_validation(table, config):
    if (table["split"] == "validation").any():
        return table
    is_train = table["split"] == "train"
    if not is_train.any():
        raise ValueError("the split has no training pictures; `train` needs a part named train")
    carved = split_by_patient(
        table[is_train], validation=config.validation, test=0.0, seed=config.seed
    )
    share = f"{config.validation:.0%}"
    logger.info("no validation part given: %s of the training patients are used", share)
    return table.assign(split=table["split"].where(~is_train, carved["split"]))


def require_both_classes(pictures: Pictures) -> None:
    """Raise `ValueError` unless training and validation each hold both classes."""
    for part in ("train", "validation"):
        found = set(pictures.labels[pictures.rows_in(part)])
        if len(found) < len(CLASS_NAMES):
            names = [CLASS_NAMES[label] for label in sorted(found)] or ["no pictures"]
            raise ValueError(
                f"the {part} part must hold benign and malignant pictures. Found: {names[0]} only"
            )


def make_classifier(network: keras.Model, pictures: Pictures, manifest: Manifest) -> Classifier:
    """Give a trained network its card: threshold from validation patients, then judged once.

    Returns:
        A `Classifier` whose card lacks only how it was trained.
    """
    card = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "class_names": list(CLASS_NAMES),
        "image_size": list(network.input_shape[1:3]),
        "resize": "stretched",
        "data": asdict(manifest.info),
        "samples": {},
        "calibration": {"method": "none"},
        "metrics": {},
        "versions": _list_versions(),
    }
    classifier = Classifier(network, card)
    scores = {
        part: score_rows(classifier, pictures.images, pictures.rows_in(part))
        for part in ("validation", "test")
        if len(pictures.rows_in(part))
    }
    truth = pictures.labels[pictures.rows_in("validation")]
    card["threshold"] = {
        "value": choose_threshold(truth, scores["validation"]),
        "rule": THRESHOLD_RULE,
        "data": f"{manifest.info.name}, validation",
    }
    for part in SPLITS:
        rows = pictures.rows_in(part)
        card["samples"][part] = describe_samples(pictures.table.iloc[rows])
        if part in scores:
            card["metrics"][part] = evaluate(
                pictures.labels[rows],
                scores[part],
                patients=pictures.patients(rows),
                threshold=classifier.threshold,
            )
    return classifier


def _list_versions():
    packages = ("bcnet", "tensorflow", "keras", "numpy", "pillow", "opencv-python-headless")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _choose_state_file(output, pictures, resume):
    """Name the state after the pictures, so that a run never goes on with other ones."""
    names = pictures.table["hash"] + pictures.table["split"].astype(str)
    run = sha256(" ".join(sorted(names)).encode()).hexdigest()[:8]
    state = Path(output).with_name(f".{Path(output).stem}-{run}.state")
    found = _find_states(output)
    if not resume:
        for file in found:
            file.unlink()
    elif not any(file.name.startswith(state.name) for file in found):
        logger.info("nothing to resume for these pictures: starting anew")
    return state


def _find_states(output):
    return _find_beside(output, f".{{stem}}-{DIGITS}.state*")


def _find_partials(output):
    """Find what a kill in the midst of writing the model or a state has left."""
    return _find_beside(
        output, f".{{stem}}-{DIGITS}.partial.keras", f"..{{stem}}-{DIGITS}-{DIGITS}.partial.state*"
    )


def _find_beside(output, *patterns):
    output = Path(output)
    stem = glob.escape(output.stem)
    return [file for pattern in patterns for file in output.parent.glob(pattern.format(stem=stem))]
