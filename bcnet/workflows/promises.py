"""What a model does not answer, and what it promises of the rest: band and gate for its card.

Belongs here: bringing held-out patients to `bcnet.evaluate.abstention` and `.gate`, at the end of
a training or later, and what the card says of them. Does not: the arithmetic, or the status of a
picture (`Classifier.predict`).
"""

import logging
import os
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from bcnet.classifier import Classifier
from bcnet.data.manifest import Manifest
from bcnet.data.pipeline import stream_samples
from bcnet.evaluate.abstention import TooFewCases, choose_band
from bcnet.evaluate.gate import (
    FEWEST_HELD_OUT,
    FLAGGED,
    describe_colours,
    draw_fitted,
    fit_gate,
    write_gate,
)
from bcnet.explain.graph import compile_answers
from bcnet.workflows.ancestry import CALIBRATED, find_parts
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import Pictures, list_patients, list_samples, require_readable

logger = logging.getLogger("bcnet")

# Pictures the network was not fitted to, and that are not kept for its one test.
HELD_OUT = ("validation", CALIBRATED)


class _Views(NamedTuple):
    """What is measured of pictures, row by row."""

    probability: np.ndarray
    features: np.ndarray
    colours: np.ndarray

    def take(self, rows):
        return _Views(*(values[rows] for values in self))


def promise(
    classifier: Classifier,
    manifest: Manifest,
    output: str | os.PathLike,
    *,
    miss_rate: float | None = None,
    progress: bool = False,
) -> Classifier:
    """Choose what a trained model refers and flags, and write it with that into a new file.

    The gate is fitted to pictures that the card knows as training ones, its limits and the band
    come from those of the patients held out then (or calibrated on since). Others are left out:
    test patients stay untouched.

    Args:
        classifier: the model; stays as it is.
        manifest: the data it was trained on.
        output: model file to write, ending in `.keras`.
        miss_rate: as for `bcnet.evaluate.abstention.choose_band`.
        progress: show a bar.

    Returns:
        The new classifier, saved in `output`; the entries `abstention` and `gate` of its card say
        what is promised, by how many of which pictures.

    Raises:
        TooFewCases: when the patients do not allow this `miss_rate`; the message says which.
        ValueError: when the card knows no held-out picture of the data.
    """
    new = Classifier(classifier.model, deepcopy(classifier.card))
    table, views = _stream_views(new, manifest.table, progress)
    parts = find_parts(new.card, table)
    train, held_out = (parts == "train").to_numpy(), parts.isin(HELD_OUT).to_numpy()
    if not held_out.any():
        raise ValueError(
            f"the card knows none of the {len(table)} pictures as held out from training "
            f"({' or '.join(HELD_OUT)}), and only of those can it promise something"
        )
    chosen = table[held_out]
    data = f"{manifest.info.name}, {' and '.join(sorted(parts[held_out].unique()))}"
    new.card["abstention"] = describe_band(
        chosen["label"],
        views.probability[held_out],
        threshold=new.threshold,
        patients=list_patients(chosen),
        data=data,
        miss_rate=miss_rate,
    )
    new.card["gate"] = _describe_gate(views.take(train), views.take(held_out), chosen, data)
    new.save(output)
    return new


def promise_trained(classifier: Classifier, pictures: Pictures, data: str) -> None:
    """Give a model that was just trained its band and its gate, in place.

    Args:
        classifier: with calibration and threshold.
        pictures: decoded, with the parts "train" and "validation".
        data: name of the data set.
    """
    train, held_out = pictures.rows_in("train"), pictures.rows_in("validation")
    train = train[draw_fitted(len(train))]
    views = _view_rows(classifier, pictures.images, held_out)
    data = f"{data}, validation"
    classifier.card["abstention"] = describe_band(
        pictures.labels[held_out],
        views.probability,
        threshold=classifier.threshold,
        patients=pictures.patients(held_out),
        data=data,
    )
    fitted = _view_rows(classifier, pictures.images, train)
    table = pictures.table.iloc[held_out]
    classifier.card["gate"] = _describe_gate(fitted, views, table, data)


def describe_band(
    y_true: np.ndarray,
    y_prob: np.ndarray,
    *,
    threshold: float,
    patients: np.ndarray | None,
    data: str,
    miss_rate: float | None = None,
) -> dict:
    """Describe for the card which probabilities are referred, or why none are.

    Args:
        y_true: `(n,)` labels of held-out pictures.
        y_prob: `(n,)` their probabilities of malignant.
        threshold: from which a picture is called malignant.
        patients: `(n,)` their keys, or None.
        data: their name, e.g. "idc, validation".
        miss_rate: what to promise; by default what so many patients allow.

    Returns:
        What `choose_band` gives, and `data`; or `reason` and `data`.

    Raises:
        TooFewCases: when `miss_rate` is given and not allowed.
    """
    try:
        band = choose_band(
            y_true, y_prob, threshold=threshold, patients=patients, miss_rate=miss_rate
        )
    except TooFewCases as error:
        if miss_rate is not None:
            raise
        logger.warning("no picture is referred: %s", error)
        band = {"reason": str(error)}
    return band | {"data": data}


def tell_promise(card: dict) -> str:
    """Tell in one line each what a card promises of its answers, and whom it flags.

    Example:
        >>> tell_promise({"abstention": {"reason": "too few"}, "gate": {"reason": "too few"}})
        'no picture is referred: too few\\nno picture is flagged: too few'
    """
    return f"{_tell_band(card['abstention'])}\n{_tell_gate(card['gate'])}"


def _tell_band(band):
    if "low" not in band:
        return f"no picture is referred: {band['reason']}"
    return (
        f"of the malignant {band['unit']}s that are answered, at most {band['miss_rate']:.1%} are "
        f"called benign ({band['confidence']:.0%} confidence); from {band['low']:.3g} to "
        f"{band['high']:.3g} they are referred, {band['answered']:.0%} are answered "
        f"({band['n']:,} {band['unit']}s: {band['data']})"
    )


def _tell_gate(gate):
    if "features" not in gate:
        return f"no picture is flagged: {gate['reason']}"
    return (
        f"flagged as unlike training data: {gate['flagged']:.0%} of {gate['n_images']:,} pictures "
        f"({gate['data']})"
    )


def _describe_gate(train, held_out, table, data):
    """Describe the gate for the card, or why there is none; `table` is of the held-out pictures."""
    if len(train.features) < 2 or len(held_out.features) < FEWEST_HELD_OUT:
        reason = (
            f"a gate needs 2 training and {FEWEST_HELD_OUT} held-out pictures; there are "
            f"{len(train.features)} and {len(held_out.features)}"
        )
        logger.warning("no picture is flagged as unlike training data: %s", reason)
        return {"reason": reason, "data": data}
    gate = fit_gate(train.features, train.colours, held_out.features, held_out.colours)
    patients = list_patients(table)
    counts = {
        "n_images": len(table),
        "n_patients": None if patients is None else len(set(patients)),
    }
    return {**write_gate(gate), "flagged": FLAGGED, **counts, "data": data}


def _view_rows(classifier, images, rows):
    size = classifier.batch_size
    chunks = (images[rows[start : start + size]] for start in range(0, len(rows), size))
    return _view(classifier, chunks)


def _stream_views(classifier, table, progress):
    """Measure the readable pictures of a table, which comes back with the column `hash`."""
    words = []

    def read():
        samples, size = list_samples(table), classifier.image_size
        with make_bar(len(table), "looking", shown=progress) as bar:
            for batch in stream_samples(samples, size, batch_size=classifier.batch_size):
                words.append([batch.hashes, batch.reasons])
                yield batch.images
                bar.update(len(batch.images))

    views = _view(classifier, read())
    hashes, reasons = np.concatenate(words, axis=1)
    require_readable(table, reasons)
    is_read = reasons == ""
    return table.assign(hash=hashes)[is_read].reset_index(drop=True), views.take(is_read)


def _view(classifier, batches):
    compute = compile_answers(classifier.model)
    parts = []
    for images in batches:
        predictions, features = compute(images)
        parts.append(_Views(predictions.numpy()[:, 0], features.numpy(), describe_colours(images)))
    return _Views(*map(np.concatenate, zip(*parts, strict=True)))
