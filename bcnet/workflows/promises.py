"""What a model does not answer, and what it promises of the rest: band and gate for its card.

Belongs here: bringing held-out patients to `bcnet.evaluate.abstention` and `.gate`, at the end of
a training or later, and what the card says of them. Does not: the arithmetic, or the status of a
picture (`Classifier.predict`).
"""

import logging
import os
from copy import deepcopy

import numpy as np

from bcnet.classifier import Classifier
from bcnet.data.manifest import Manifest
from bcnet.evaluate.abstention import TooFewCases, choose_band, format_band
from bcnet.evaluate.gate import FEWEST_HELD_OUT, FLAGGED, fit_gate, write_gate
from bcnet.workflows.ancestry import CALIBRATED, find_parts
from bcnet.workflows.samples import Pictures, list_patients
from bcnet.workflows.views import Views, stream_views, view_part

logger = logging.getLogger("bcnet")

# Pictures the network was not fitted to, and that are not kept for its one test.
HELD_OUT = ("validation", CALIBRATED)

# A patient's pictures lie together: of limits set on five patients of IDC up to 8 % of the new
# patients' pictures fell outside, of those set on ten never more than 4.3 %.
FEW_PATIENTS = 10


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
    table, views = stream_views(new, manifest.table, progress=progress)
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


def promise_trained(classifier: Classifier, pictures: Pictures, train: Views, data: str) -> None:
    """Give a model that was just trained its band and its gate, in place.

    Args:
        classifier: with calibration and threshold.
        pictures: decoded, with the part "validation".
        train: what is seen of the training pictures.
        data: name of the data set.
    """
    rows, views = pictures.rows_in("validation"), view_part(classifier, pictures, "validation")
    data = f"{data}, validation"
    classifier.card["abstention"] = describe_band(
        pictures.labels[rows],
        views.probability,
        threshold=classifier.threshold,
        patients=pictures.patients(rows),
        data=data,
    )
    classifier.card["gate"] = _describe_gate(train, views, pictures.table.iloc[rows], data)


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
    return f"{format_band(card['abstention'])}\n{_tell_gate(card['gate'])}"


def _tell_gate(gate):
    if "features" not in gate:
        return f"no picture is flagged: {gate['reason']}"
    patients, note = gate["n_patients"], ""
    if patients is not None and patients < FEW_PATIENTS:
        note = f"; with {patients} patients more than 5 % of new patients' pictures may be"
    return (
        f"flagged as unlike training data: {gate['flagged']:.0%} of {gate['n_images']:,} pictures "
        f"({gate['data']}){note}"
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
