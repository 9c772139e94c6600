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

from bcnet.cardfile import locate_model
from bcnet.classifier import Classifier
from bcnet.config import CLASS_NAMES, SPLITS, Config
from bcnet.data.manifest import Manifest
from bcnet.data.split import assert_disjoint, split_by_patient
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.thresholds import check_rule, require_showable
from bcnet.models import BACKBONES
from bcnet.train import choose_pace
from bcnet.workflows.ancestry import ANCESTORS, describe_parent, require_unseen
from bcnet.workflows.calibration import (
    calibrate_trained,
    choose_within_reach,
    cut_at_logit,
    describe_threshold,
)
from bcnet.workflows.cases import index_training
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.promises import promise_trained
from bcnet.workflows.samples import (
    Pictures,
    choose_image_size,
    decode_table,
    describe_samples,
    score_rows,
    take_split,
)
from bcnet.workflows.starting import check_start, choose_rate, is_pretrained, settle_policy
from bcnet.workflows.views import view_part

logger = logging.getLogger("bcnet")

# Pixels a side where the pictures do not share a size: what each network was made for.
DEFAULT_SIDE, DEFAULT_BACKBONE_SIDE = 128, 224
# What their poolings, three and five, leave a pixel of.
SMALLEST_SIDE, SMALLEST_BACKBONE_SIDE = 8, 32

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
    cases: bool = True,
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
        cases: also write `NAME.cases.npz` beside the model, by which `similar_cases` finds
            training pictures. It names patients and files: treat it like the data.
        progress: show bars.

    Returns:
        The classifier, saved in `output`; its card holds validation and test metrics.

    Raises:
        ValueError: when the pictures cannot be divided or a part lacks a class, naming it.
        SeenInTraining: when the model to start from has seen test patients.
        TrainingDiverged: when the loss is no longer finite; no file is changed.
    """
    _require_file(output)
    config = settle_config(manifest, config or Config())
    table = divide(manifest.table, config, split)
    pictures = decode_table(table, config.image_size, progress=progress)
    require_both_classes(pictures)
    _require_showable(pictures, config)
    if config.initial_weights is not None:
        require_unseen(config.initial_weights, pictures.table.iloc[pictures.rows_in("test")])
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
    classifier = make_classifier(network, pictures, manifest, config)
    seen = view_part(classifier, pictures, "train", progress=progress)
    promise_trained(classifier, pictures, seen, manifest.info.name)
    if config.initial_weights is not None:
        classifier.card["samples"][ANCESTORS] = describe_parent(config.initial_weights)
    classifier.card["training"] = {
        "config": asdict(config),
        "precision": settle_policy(config),
        "seconds": round(time.monotonic() - started, 1),
        "best_epoch": history.best_epoch + 1,
        "history": history.epochs,
    }
    classifier.save(output)
    for leftover in (*_find_states(output), *_find_partials(output)):
        leftover.unlink()
    if cases:
        index_training(classifier, pictures, seen.features, output)
    return classifier


def _require_file(output):
    if Path(output).suffix != ".keras":
        raise ValueError(f"`output` must end in .keras. Received: output={str(output)!r}")
    if Path(output).is_dir():
        raise ValueError(f"`output` must be a file. Received the folder {output}")


def settle_config(manifest: Manifest, config: Config) -> Config:
    """Fill in what the configuration leaves open, and refuse what does not go together.

    Image size, modality, learning rate, epochs, batch size and patience may be open. What
    training starts from is built once.

    Raises:
        ConnectionError: when ImageNet weights cannot be downloaded.
        FileNotFoundError: for weights that are not there.
        ValueError: for an option that would change nothing, pictures too small for the network,
            or weights of another one.
    """
    _check_together(config)
    initial_weights = config.initial_weights and locate_model(config.initial_weights)
    settled = replace(
        config,
        initial_weights=initial_weights,
        modality=manifest.info.modality if config.modality == "auto" else config.modality,
        image_size=_settle_image_size(manifest, config),
        learning_rate=config.learning_rate or choose_rate(config),
        **choose_pace(config, len(manifest.table))._asdict(),
    )
    check_start(settled)
    return settled


def _check_together(config):
    check_rule(config.threshold_rule, config.target)
    if config.weights is not None and config.model not in BACKBONES:
        raise ValueError(
            f"`weights` is for {', '.join(BACKBONES)}; the cnn starts from random weights, or from "
            f"a model of ours by `initial_weights`. Received: weights={config.weights}"
        )
    if config.alpha != 1 and config.model != "mobilenet":
        raise ValueError(f"`alpha` is for mobilenet. Received: alpha={config.alpha:g}")
    if config.end is not None and config.model not in BACKBONES:
        raise ValueError(f"`end` is for {', '.join(BACKBONES)}. Received: end={config.end}")
    for name in ("fine_tune_from", "fine_tune_rate"):
        if getattr(config, name) is not None and not is_pretrained(config):
            raise ValueError(
                f"`{name}` is for backbones with pretrained weights. "
                f"Received: {name}={getattr(config, name)}"
            )
    if config.progressive and config.epochs == 1:
        raise ValueError("`epochs` must be at least 2 with `progressive`. Received: epochs=1")


def _settle_image_size(manifest, config):
    """The size asked for, if the network can see it, else one that suits both."""
    is_backbone = config.model in BACKBONES
    smallest = SMALLEST_BACKBONE_SIDE if is_backbone else SMALLEST_SIDE
    smallest *= 2 if config.progressive else 1
    if config.image_size is None:
        default_side = DEFAULT_BACKBONE_SIDE if is_backbone else DEFAULT_SIDE
        return choose_image_size(manifest.table, default_side, smallest=smallest)
    if min(config.image_size) < smallest:
        why = " trained at half the size first" if config.progressive else ""
        raise ValueError(
            f"`image_size` must be at least {smallest} pixels a side for {config.model}{why}. "
            f"Received: image_size={config.image_size}"
        )
    return tuple(config.image_size)


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


def _require_showable(pictures, config):
    """Refuse a target that the validation patients cannot show, before the hours of training."""
    rows = pictures.rows_in("validation")
    require_showable(
        pictures.labels[rows],
        rule=config.threshold_rule,
        target=config.target,
        patients=pictures.patients(rows),
    )


def make_classifier(
    network: keras.Model, pictures: Pictures, manifest: Manifest, config: Config
) -> Classifier:
    """Give a trained network its card: calibrated and given a threshold on validation patients.

    Then it is judged, once.

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
        "metrics": {},
        "versions": list_versions(),
    }
    classifier = Classifier(network, card)
    rows, data = pictures.rows_in("validation"), f"{manifest.info.name}, validation"
    logits = score_rows(cut_at_logit(classifier), pictures.images, rows)
    calibrate_trained(classifier, logits, pictures.table.iloc[rows], config, data)
    scores = {
        part: score_rows(classifier, pictures.images, pictures.rows_in(part))
        for part in ("validation", "test")
        if len(pictures.rows_in(part))
    }
    judged = pictures.labels[rows], scores["validation"]
    value, rule = choose_within_reach(*judged, config)
    card["threshold"] = describe_threshold(value, rule, *judged, pictures.patients(rows), data)
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


def list_versions() -> dict:
    """List the versions of the software that a model's answers hang on, by name, for its card."""
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
    """Find what a kill in the midst of writing the model, its cases or a state has left."""
    return _find_beside(
        output,
        f".{{stem}}-{DIGITS}.partial.keras",
        f".{{stem}}.cases-{DIGITS}.partial.npz",
        f"..{{stem}}-{DIGITS}-{DIGITS}.partial.state*",
    )


def _find_beside(output, *patterns):
    output = Path(output)
    stem = glob.escape(output.stem)
    return [file for pattern in patterns for file in output.parent.glob(pattern.format(stem=stem))]
